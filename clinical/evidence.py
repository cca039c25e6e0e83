"""Evidence of the record: tokens for the network, each with a pointer to its source."""

from dataclasses import dataclass

from jaxtyping import Float32, Int64
from torch import Tensor


@dataclass(frozen=True)
class SentencePointer:
    """A sentence: ``text[start:end]`` of the note with this id."""

    note_id: str
    start: int
    end: int


@dataclass(frozen=True)
class AnalytePointer:
    """An analyte or score and the observations that speak of it, oldest first."""

    loinc: str
    observation_ids: tuple[str, ...]
    dates: tuple[str, ...]  # ISO 8601; empty string where unknown


@dataclass(frozen=True)
class FactPointer:
    """A coded fact and the resource that states it."""

    resource_id: str
    system: str
    code: str
    display: str


@dataclass(frozen=True)
class ClinicalTokens:
    """Tokens of one clinical modality.

    Attributes:
        features: One entry a token; what follows the first axis depends on the modality.
        kinds: Row of the modality's table of kinds: analyte, sort of fact; 0 for sentences.
        quality: 0..1, how far the value can be relied upon (its age, its completeness).
        pointers: Where each token comes from.
    """

    features: Float32[Tensor, "token *feature"]
    kinds: Int64[Tensor, " token"]
    quality: Float32[Tensor, " token"]
    pointers: tuple[SentencePointer | AnalytePointer | FactPointer, ...]
