"""The case: one patient at one time, as evidence tokens of up to four modalities."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from clinical.evidence import AnalytePointer, FactPointer, SentencePointer
from imaging.encoder import RegionPointer

Modality = Literal["scan", "notes", "labs", "history"]
MODALITIES: tuple[Modality, ...] = ("scan", "notes", "labs", "history")

Pointer = RegionPointer | SentencePointer | AnalytePointer | FactPointer


class CaseError(ValueError):
    """A case the network must not see; the message names the modality and what is wrong."""


class Tokens(Protocol):
    """What `imaging.encoder` and `clinical.evidence` both make."""

    @property
    def features(self) -> Tensor:
        """``token *feature``, float32, finite."""

    @property
    def kinds(self) -> Tensor:
        """``token``, int64: row of the modality's table of kinds."""

    @property
    def quality(self) -> Tensor:
        """``token``, float32, 0..1."""

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
            raise CaseError(f"case {self.case_id} has no evidence at all; import a record or a scan")
        for modality, tokens in self.tokens.items():
            lengths = {
                len(tokens.features), len(tokens.kinds), len(tokens.quality), len(tokens.pointers)
            }
            if len(lengths) != 1 or 0 in lengths:
                raise CaseError(f"case {self.case_id}: {modality} has {sorted(lengths)} tokens")
            if not bool(tokens.features.isfinite().all() & tokens.quality.isfinite().all()):
                raise CaseError(f"case {self.case_id}: {modality} holds a value that is not finite")


@dataclass(frozen=True)
class ModalityBatch:
    """The tokens of one modality for several cases, padded to the longest.

    Padding is zero in `features`, `kinds` and `quality` and False in `present`.
    """

    features: Float32[Tensor, "batch token *feature"]
    kinds: Int64[Tensor, "batch token"]
    quality: Float32[Tensor, "batch token"]
    present: Bool[Tensor, "batch token"]


@dataclass(frozen=True)
class CaseBatch:
    """Several cases as the network sees them.

    Every modality of `MODALITIES` is a key; where no case has it, it holds one absent token.
    """

    modalities: Mapping[Modality, ModalityBatch]
    syndrome: Int64[Tensor, " batch"] = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    causes: Float32[Tensor, "batch cause"] = field(default_factory=lambda: torch.empty(0, 0))

    def __len__(self) -> int:
        """How many cases."""
        return len(self.modalities["history"].present)

    @property
    def present(self) -> Bool[Tensor, "batch modality"]:
        """Which modalities each case has."""
        return torch.stack([self.modalities[m].present.any(dim=1) for m in MODALITIES], dim=1)
