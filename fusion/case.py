"""The case: one patient at one time, as evidence tokens of up to four modalities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int64

from clinical.evidence import AnalytePointer, FactPointer, SentencePointer
from imaging.encoder import RegionPointer

Modality = Literal["scan", "notes", "labs", "history"]
MODALITIES: tuple[Modality, ...] = ("scan", "notes", "labs", "history")
UNKNOWN = -1  # a label that nobody knows, in `CaseBatch.syndrome` and `CaseBatch.causes`

Pointer = RegionPointer | SentencePointer | AnalytePointer | FactPointer


class CaseError(ValueError):
    """A case the network must not see; the message names the modality and what is wrong."""


@runtime_checkable
class Tokens(Protocol):
    """What `imaging.encoder` and `clinical.evidence` both make."""

    @property
    def features(self) -> Float32[np.ndarray, "token *feature"]:
        """Finite numbers."""

    @property
    def kinds(self) -> Int64[np.ndarray, " token"]:
        """Row of the modality's table of kinds."""

    @property
    def quality(self) -> Float32[np.ndarray, " token"]:
        """0..1."""

    @property
    def pointers(self) -> Sequence[Pointer]:
        """Where each token comes from."""


@dataclass(frozen=True)
class Labels:
    """What the patient turned out to have.

    Attributes:
        syndrome: Index into the scheme's syndromes, None where unknown.
        causes: True, False or None (unknown) for each cause of the scheme.
    """

    syndrome: int | None
    causes: tuple[bool | None, ...]


@dataclass(frozen=True)
class Case:
    """One patient at one time.

    Attributes:
        case_id: Opaque; safe in a log.
        patient_key: Opaque, the same for all cases of a patient, so that splits keep them together.
        tokens: Evidence by modality; a modality that is missing is not a key.
        labels: Known diagnoses, for training.
    """

    case_id: str
    patient_key: str
    tokens: Mapping[Modality, Tokens]
    labels: Labels | None = None

    def __post_init__(self) -> None:
        """Check values once, so that the network need not.

        Raises:
            CaseError: Nothing is present, lengths disagree, or a value is not finite.
        """
        if not self.tokens:
            raise CaseError(
                f"case {self.case_id} has no evidence at all; import a record or a scan"
            )
        for modality, tokens in self.tokens.items():
            lengths = {
                len(tokens.features),
                len(tokens.kinds),
                len(tokens.quality),
                len(tokens.pointers),
            }
            if len(lengths) != 1 or 0 in lengths:
                raise CaseError(f"case {self.case_id}: {modality} has {sorted(lengths)} tokens")
            if not (np.isfinite(tokens.features).all() and np.isfinite(tokens.quality).all()):
                raise CaseError(f"case {self.case_id}: {modality} holds a value that is not finite")

    def only(self, *modalities: Modality) -> "Case":
        """The same case with these modalities and no other.

        Raises:
            CaseError: It has none of them.
        """
        return replace(self, tokens={m: self.tokens[m] for m in modalities if m in self.tokens})


@dataclass(frozen=True)
class ModalityBatch:
    """The tokens of one modality for several cases, padded to the longest.

    Padding is zero in `features`, `kinds` and `quality` and False in `present`. Where no case
    has the modality, there is one absent token whose features have no width.
    """

    features: Float32[np.ndarray, "batch token *feature"]
    kinds: Int64[np.ndarray, "batch token"]
    quality: Float32[np.ndarray, "batch token"]
    present: Bool[np.ndarray, "batch token"]


@dataclass(frozen=True)
class CaseBatch:
    """Several cases as the network sees them.

    Attributes:
        modalities: Every modality of `MODALITIES` is a key.
        syndrome: Index of the syndrome, `UNKNOWN` where nobody knows it.
        causes: 1 true, 0 false, `UNKNOWN`; no columns where no case has labels.
    """

    modalities: Mapping[Modality, ModalityBatch]
    syndrome: Int64[np.ndarray, " batch"] = field(default_factory=lambda: np.empty(0, np.int64))
    causes: Float32[np.ndarray, "batch cause"] = field(
        default_factory=lambda: np.empty((0, 0), np.float32)
    )

    def __len__(self) -> int:
        """How many cases."""
        return len(self.modalities["history"].present)

    @property
    def present(self) -> Bool[np.ndarray, "batch modality"]:
        """Which modalities each case has."""
        return np.stack([self.modalities[m].present.any(axis=1) for m in MODALITIES], axis=1)

    def keep(self, kept: Bool[np.ndarray, "batch modality"]) -> "CaseBatch":
        """The same cases with some modalities hidden.

        Args:
            kept: False hides a modality of a case, as if it had never been there.
        """
        shown = {
            m: replace(tokens, present=tokens.present & kept[:, [column]])
            for column, m in enumerate(MODALITIES)
            for tokens in (self.modalities[m],)
        }
        return replace(self, modalities=shown)


def collate(cases: Sequence[Case]) -> CaseBatch:
    """Pad several cases to one batch.

    Raises:
        CaseError: There are none, or their features or labels have different widths.
    """
    if not cases:
        raise CaseError("a batch needs a case; none was given")
    batches = {m: _pad([case.tokens.get(m) for case in cases], m) for m in MODALITIES}
    return CaseBatch(batches, *label_arrays(cases))


def label_arrays(
    cases: Sequence[Case],
) -> tuple[Int64[np.ndarray, " case"], Float32[np.ndarray, "case cause"]]:
    """Syndrome and causes of cases as `CaseBatch` holds them.

    Raises:
        CaseError: Their labels have different widths.
    """
    n_causes = {len(case.labels.causes) for case in cases if case.labels}
    if len(n_causes) > 1:
        raise CaseError(f"cases are labelled by schemes of {sorted(n_causes)} causes")
    nothing = Labels(None, (None,) * next(iter(n_causes), 0))
    labels = [case.labels or nothing for case in cases]
    syndrome = [UNKNOWN if known.syndrome is None else known.syndrome for known in labels]
    causes = [[UNKNOWN if c is None else int(c) for c in known.causes] for known in labels]
    return (
        np.array(syndrome, dtype=np.int64),
        np.array(causes, dtype=np.float32).reshape(len(cases), len(nothing.causes)),
    )


def _pad(tokens: Sequence[Tokens | None], modality: Modality) -> ModalityBatch:
    """One modality of several cases, padded with zeros: tokens behind, visits before the first.

    A token that cannot be relied upon at all is as absent as padding.
    """
    known = [t for t in tokens if t is not None]
    if len({t.features.ndim for t in known}) > 1 or len({t.features.shape[-1] for t in known}) > 1:
        raise CaseError(f"cases disagree about the width of {modality}; encode them the same way")
    shapes = [t.features.shape for t in known] or [(1, 0)]
    longest = [max(sizes) for sizes in zip(*shapes, strict=True)]
    batch = ModalityBatch(
        np.zeros((len(tokens), *longest), np.float32),
        np.zeros((len(tokens), longest[0]), np.int64),
        np.zeros((len(tokens), longest[0]), np.float32),
        np.zeros((len(tokens), longest[0]), np.bool_),
    )
    for row, t in enumerate(tokens):
        if t is not None:
            n = len(t.kinds)
            latest = tuple(slice(-size, None) for size in t.features.shape[1:])
            batch.features[row, :n][(slice(None), *latest)] = t.features
            batch.kinds[row, :n], batch.quality[row, :n] = t.kinds, t.quality
            batch.present[row, :n] = t.quality > 0
    return batch
