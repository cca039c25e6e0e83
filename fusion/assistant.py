"""The assistant: a case in, a diagnosis with its evidence out."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clinical.diagnoses import Scheme
from fusion.case import MODALITIES, Case, CaseError, Modality
from fusion.checkpoint import Checkpoint, load
from fusion.engines import WEIGHTS, engine_named
from fusion.explain import Evidence, Explanation, explain
from fusion.store import sha256


@dataclass(frozen=True)
class Diagnosis:
    """What the assistant says of one case.

    Attributes:
        case_id: The case.
        probabilities: Calibrated, by label key; syndromes sum to one, causes are independent.
        prediction_set: Syndromes that together hold the truth as often as `coverage` says, on
            cases like those of calibration.
        coverage: Of the prediction set.
        shares: Attention each modality received; sums to one.
        evidence: For each label, evidence ranked by what deleting it changes.
        missing: Modalities the case does not have.
        abstains: Why no diagnosis should be read from this; a key of the page's texts, None
            where one may.
        model_name: Which model spoke: date of its training and beginning of its SHA-256.
        trained_on: What it was trained on, in words.
        text_encoder: Which text encoder read the notes.
        engine: What ran the network.
    """

    case_id: str
    probabilities: Mapping[str, float]
    prediction_set: tuple[str, ...]
    coverage: float
    shares: Mapping[Modality, float]
    evidence: Mapping[str, tuple[Evidence, ...]]
    missing: tuple[Modality, ...]
    abstains: str | None
    model_name: str
    trained_on: str
    text_encoder: str
    engine: str


class Assistant:
    """A trained model, ready to diagnose."""

    def __init__(self, checkpoint: Checkpoint, name: str, engine: str = "torch") -> None:
        self.checkpoint = checkpoint
        self.name = name
        self.engine = engine

    @classmethod
    def load(
        cls,
        folder: Path,
        text_encoder_sha256: str | None = None,
        *,
        engine: str = "auto",
        kept: Path | None = None,
    ) -> "Assistant":
        """Read a model folder.

        Args:
            folder: What `fusion.checkpoint.save` wrote.
            text_encoder_sha256: Of the text encoder in use, to be held against the model's.
            engine: What shall run the network, see `fusion.engines.load_network`.
            kept: Folder for what is exported to an engine, such as a site's.

        Raises:
            fusion.engines.EngineError: There is no such engine, or it is not installed.
            fusion.network.CheckpointError: The folder cannot be used.
        """
        chosen = engine_named(engine)
        checkpoint = load(folder, text_encoder_sha256, engine=chosen, kept=kept)
        fingerprint = sha256((folder / WEIGHTS).read_bytes())[:8]
        return cls(checkpoint, f"{checkpoint.card.date}-{fingerprint}", chosen)

    @property
    def scheme(self) -> Scheme:
        """What can be diagnosed."""
        return self.checkpoint.scheme

    def diagnose(self, case: Case) -> Diagnosis:
        """Fuse, calibrate and explain one case.

        Raises:
            fusion.case.CaseError: Its evidence was made by another text encoder.
        """
        self._check_width(case)
        card = self.checkpoint.card
        found = explain(self.checkpoint.model, self.checkpoint.calibrator, case)
        keys = [label.key for label in self.scheme.labels]
        return Diagnosis(
            case_id=case.case_id,
            probabilities=dict(zip(keys, found.probability, strict=True)),
            prediction_set=tuple(keys[n] for n in found.prediction_set),
            coverage=self.checkpoint.calibrator.coverage,
            shares=found.shares,
            evidence=dict(zip(keys, found.evidence, strict=True)),
            missing=tuple(m for m in MODALITIES if m not in case.tokens),
            abstains=self._abstention(case, found),
            model_name=self.name,
            trained_on=card.trained_on,
            text_encoder=card.text_encoder,
            engine=self.engine,
        )

    def _abstention(self, case: Case, found: Explanation) -> str | None:
        """Why this diagnosis should not be read, if it should not."""
        if set(case.tokens) == {"history"}:
            return "abstains_history_only"
        if len(found.prediction_set) == len(self.scheme.syndromes):
            return "abstains_uninformative"
        return None

    def _check_width(self, case: Case) -> None:
        """Refuse sentences of another width than the network's."""
        width = self.checkpoint.model.config.text_dim
        notes = case.tokens.get("notes")
        if notes is not None and notes.features.shape[-1] != width:
            raise CaseError(
                f"case {case.case_id} was encoded {notes.features.shape[-1]} wide, the model reads "
                f"{width}: it was trained with {self.checkpoint.card.text_encoder}"
            )
