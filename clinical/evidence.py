"""Evidence of the record: tokens for the network, each with a pointer to its source."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

VERSION = 2  # to be raised whenever other tokens are made of the same record


@dataclass(frozen=True)
class SentencePointer:
    """A sentence: ``text[start:end]`` of the note with this id.

    `by_rules`: the encoder does not read its language; its token is what `clinical.rules_only`
    found in it, said in English.
    """

    note_id: str
    start: int
    end: int
    by_rules: bool = False


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

    features: Float32[np.ndarray, "token *feature"]
    kinds: Int64[np.ndarray, " token"]
    quality: Float32[np.ndarray, " token"]
    pointers: tuple[SentencePointer | AnalytePointer | FactPointer, ...]
