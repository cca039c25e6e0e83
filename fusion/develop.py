"""From cases with known diagnoses to a model folder: split, fit, calibrate, evaluate, write."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from clinical.diagnoses import Scheme
from fusion.calibrate import calibrate
from fusion.case import Case
from fusion.checkpoint import Checkpoint, ModelCard, load, save
from fusion.drift import PROFILE, profile
from fusion.evaluate import Comparison, Evaluation, compare, evaluate
from fusion.network import ModelConfig
from fusion.train import PARTS, TrainConfig, TrainError, split_by_patient, train


@dataclass(frozen=True)
class Developed:
    """A model and how well it does on patients it never saw."""

    checkpoint: Checkpoint
    evaluation: Evaluation
    comparisons: tuple[Comparison, ...]


def develop(
    cases: Sequence[Case],
    scheme: Scheme,
    out: Path,
    config: TrainConfig,
    *,
    trained_on: str,
    text_encoder: str,
    text_encoder_sha256: str,
    memory: bool = False,
) -> Developed:
    """Train, calibrate, evaluate and write a model folder.

    Args:
        cases: With labels.
        scheme: What they are labelled by.
        out: Folder of the model.
        config: How to train.
        trained_on: What the cases are, in words, for the model card.
        text_encoder: Name of the encoder that made their evidence.
        text_encoder_sha256: Of its weights.
        memory: Let sentences know what distant parts of long notes say.

    Raises:
        TrainError: There are no cases, or too little is known of them.
        fusion.train.SplitError: There are too few patients.
    """
    if not cases:
        raise TrainError("no case has both evidence and a known diagnosis; import with --pairs")
    shape = ModelConfig(
        n_syndromes=len(scheme.syndromes),
        n_causes=len(scheme.causes),
        text_dim=_text_dim(cases),
        memory=memory,
    )
    trained = train(cases, config, shape)
    calibrator = calibrate(trained.model, trained.parts["calibration"])
    card = ModelCard(
        trained_on=trained_on,
        n_cases=len(trained.parts["train"]),
        text_encoder=text_encoder,
        text_encoder_sha256=text_encoder_sha256,
        date=dt.datetime.now(dt.UTC).date().isoformat(),
        notes={
            "train_config": asdict(config),
            "best_epoch": trained.history.best_epoch,
            "cases_by_part": {part: len(trained.parts[part]) for part in PARTS},
            PROFILE: profile(trained.parts["train"]),
        },
    )
    checkpoint = Checkpoint(trained.model, calibrator, scheme, card)
    save(out, checkpoint)
    return _evaluated(checkpoint, trained.parts["test"])


def evaluate_folder(folder: Path, cases: Sequence[Case], *, unseen: bool = False) -> Developed:
    """Score a model folder.

    Args:
        folder: A model folder.
        cases: With labels.
        unseen: True when the model saw none of these patients: all are scored. Otherwise
            `cases` must be those it was developed on, and its test patients alone are scored.

    Raises:
        TrainError: No case has a known diagnosis, or the cases are others than it was
            developed on.
    """
    if not cases:
        raise TrainError("no case has both evidence and a known diagnosis; import with --pairs")
    checkpoint = load(folder)
    if unseen:
        return _evaluated(checkpoint, cases)
    kept, by_part = (checkpoint.card.notes[key] for key in ("train_config", "cases_by_part"))
    assert isinstance(kept, dict)
    assert isinstance(by_part, dict)
    if sum(by_part.values()) != len(cases):
        raise TrainError(
            f"{folder} was developed on {sum(by_part.values())} cases, these are {len(cases)}; its "
            "test patients can no longer be told apart: train again, or score with --unseen "
            "cases of which it saw none"
        )
    parts = split_by_patient(cases, kept["fractions"], kept["seed"])
    return _evaluated(checkpoint, parts[PARTS.index("test")])


def _evaluated(checkpoint: Checkpoint, cases: Sequence[Case]) -> Developed:
    """Scores of a checkpoint on cases."""
    how = (checkpoint.model, checkpoint.calibrator, cases, checkpoint.scheme)
    return Developed(checkpoint, evaluate(*how), compare(*how))


def _text_dim(cases: Sequence[Case]) -> int:
    """Width of the sentences of the cases."""
    widths = {int(c.tokens["notes"].features.shape[-1]) for c in cases if "notes" in c.tokens}
    if len(widths) > 1:
        raise TrainError(f"cases were encoded by text encoders of widths {sorted(widths)}")
    return widths.pop() if widths else ModelConfig.text_dim
