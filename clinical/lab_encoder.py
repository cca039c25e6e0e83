"""Values over time become analyte tokens, coded facts become history tokens.

`lab_tokens` and `history_tokens` read a record; `LabEncoder` is the network's part that makes one
vector of an analyte's course.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from clinical.evidence import AnalytePointer, ClinicalTokens, FactPointer
from clinical.notes import language
from clinical.record import DAYS_PER_YEAR, Coding, Observation, PatientRecord, ReferenceRange
from clinical.units import ANALYTES, Analyte

VISITS = 6  # of one analyte; older ones are left out of the features, not of the pointer
Z_LIMIT = 8.0
HALF_LIFE_YEARS = 2.0  # of a value's quality
UNDATED_YEARS = 2.0  # how old a value without a date is taken to be
CHANNELS = 3  # z, years before the index date, present

FACT_KINDS = ("age", "sex", "education", "condition", "medication", "family history")
PAST_CONDITION = frozenset({"inactive", "remission", "resolved"})
# A drug in another state, such as draft or not-taken, was perhaps never swallowed.
MEDICATION_WORDS = {
    "active": "Medication",
    "in-progress": "Medication",
    "on-hold": "Medication",
    "completed": "Past medication",
    "stopped": "Past medication",
}


@runtime_checkable
class Encoder(Protocol):
    """What facts need of `clinical.text_encoder.TextEncoder`."""

    @property
    def dim(self) -> int:
        """Length of a vector."""

    def encode(self, texts: Sequence[str]) -> Tensor:
        """``text dim``, float32."""

    def trust(self, language: str) -> float:
        """0..1, how well the language is read."""


@dataclass(frozen=True)
class _Fact:
    """One coded fact: what the text encoder reads, the number beside it, and where it stands."""

    kind: str
    text: str
    pointer: FactPointer
    number: float | None = None
    date: dt.date | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """The same for entries of which one is enough."""
        own = self.text if self.kind == "family history" else self.pointer.code or self.text
        return self.kind, self.pointer.system, own


def lab_tokens(record: PatientRecord) -> ClinicalTokens | None:
    """Make one token of each analyte or score that has a number.

    Args:
        record: Values in their canonical units.

    Returns:
        Features ``token visit channel``, the latest visit last: z of the value (`z_score`), years
        before the index date, 1 where there is a visit. Kinds are rows of `ANALYTES`, in whose
        order the tokens are; quality halves every `HALF_LIFE_YEARS` of the latest value's age.
        Undated values come first. None where there is no number at all.
    """
    rows, kinds, pointers = [], [], []
    for kind, analyte in enumerate(ANALYTES):
        visits = [
            o for o in record.observations if o.loinc == analyte.loinc and o.value is not None
        ]
        if not visits:
            continue
        visits.sort(key=lambda visit: (visit.date is not None, visit.date or dt.date.min, visit.id))
        rows.append(_course(visits, analyte, record.index_date))
        kinds.append(kind)
        dates = tuple(visit.date.isoformat() if visit.date else "" for visit in visits)
        pointers.append(AnalytePointer(analyte.loinc, tuple(visit.id for visit in visits), dates))
    if not rows:
        return None
    features = torch.tensor(rows)
    return ClinicalTokens(
        features=features,
        kinds=torch.tensor(kinds),
        quality=0.5 ** (features[:, -1, 1] / HALF_LIFE_YEARS),
        pointers=tuple(pointers),
    )


def z_score(value: float, analyte: Analyte, reference: ReferenceRange | None = None) -> float:
    """How far a value is from the middle of its range, -2 and 2 being the limits.

    An open lower limit is taken as 0, an open upper one as twice the lower; with neither, the range
    is what is plausible. A score keeps its floor and ceiling apart: outside its range it goes
    evenly from 2 at the limit to `Z_LIMIT` at the end of the scale, so that severe stays
    distinguishable from moderate.

    Args:
        value: In the canonical unit.
        analyte: Its own range is used where `reference` has none that makes sense.
        reference: The sender's, in the same unit.

    Returns:
        Within ±`Z_LIMIT`.

    Example:
        >>> from clinical.units import analyte
        >>> [round(z_score(mmse, analyte("72106-8")), 1) for mmse in (30.0, 24.0, 18.0, 0.0)]
        [2.0, -2.0, -3.5, -8.0]
    """
    low, high = _limits(analyte, reference)
    z = 4 * (value - (low + high) / 2) / (high - low)
    if analyte.unit == "{score}" and abs(z) > 2:
        end, limit = (analyte.plausible[0], low) if z < 0 else (analyte.plausible[1], high)
        beyond = abs(value - limit) / max(abs(end - limit), 1e-6)
        z = (2 + (Z_LIMIT - 2) * beyond) * (-1 if z < 0 else 1)
    return max(-Z_LIMIT, min(Z_LIMIT, z))


def history_tokens(
    record: PatientRecord, encoder: Encoder, *, exclude: frozenset[str] = frozenset()
) -> ClinicalTokens | None:
    """Make one token of each coded fact known at the time of the case.

    What began after the index date is not known yet. Of several entries of one code the latest
    counts; a drug that was never taken does not.

    Args:
        record: Demographics, conditions, medications and family history.
        encoder: Reads the names.
        exclude: Codes of conditions and drugs that would give the answer away: those of the
            diagnoses to be predicted. An ICD-10 code excludes what is below it, too.

    Returns:
        Features ``token dim+3``: the vector of a phrase such as "Past condition: Epilepsy", then
        the number where there is one (age: decades from 70; education: years from 12, in fours),
        decades before the index date, and 1 where there is a number. Kinds are rows of
        `FACT_KINDS`; quality is low where the encoder does not read the language. None where
        nothing is known.
    """
    stated = (*_demographics(record), *_conditions(record), *_medications(record))
    facts = _latest(
        [
            fact
            for fact in (*stated, *_family(record))
            if _begun(fact, record.index_date) and not _gives_away(fact, exclude)
        ]
    )
    if not facts:
        return None
    numbers = [
        (
            fact.number or 0.0,
            _age(fact.date, record.index_date) / 10,
            float(fact.number is not None),
        )
        for fact in facts
    ]
    words = encoder.encode([fact.text for fact in facts])
    return ClinicalTokens(
        features=torch.cat([words, torch.tensor(numbers)], dim=1),
        kinds=torch.tensor([FACT_KINDS.index(fact.kind) for fact in facts]),
        quality=torch.tensor([encoder.trust(language(fact.pointer.display)) for fact in facts]),
        pointers=tuple(fact.pointer for fact in facts),
    )


class LabEncoder(nn.Module):
    """Temporal attention over the visits of an analyte.

    The latest visit asks, all visits answer, and what they answer depends on value and time
    together, so that a course counts and not only its last value.
    """

    def __init__(self, dim: int, n_kinds: int = len(ANALYTES), heads: int = 4) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim={dim} must be a multiple of heads={heads}")
        self.heads = heads
        self.kind = nn.Embedding(n_kinds, dim)
        self.visit = nn.Sequential(nn.Linear(CHANNELS, dim), nn.GELU(), nn.Linear(dim, dim))
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Sequential(
            nn.LayerNorm(dim), nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim)
        )

    def forward(
        self,
        features: Float[Tensor, "batch token visit channel"],
        kinds: Int64[Tensor, "batch token"],
    ) -> Float[Tensor, "batch token dim"]:
        """Encode analytes.

        Args:
            features: As `lab_tokens` makes them, visits right-aligned; zeros where padded.
            kinds: Rows of the table of analytes.

        Returns:
            A vector for each token, finite and the same for every padded one of a kind.
        """
        present = features[..., 2:]
        z, years = features[..., :1] * present, features[..., 1:2] * present
        seen = torch.cat([z / 2, years.clamp(min=0).log1p(), present], dim=-1)
        states = (self.visit(seen) + self.kind(kinds)[..., None, :]) * present
        latest = states[..., -1:, :]
        query = self.query(latest).unflatten(-1, (self.heads, -1))
        key, value = (
            (self.key_value(states) * present).unflatten(-1, (2, self.heads, -1)).unbind(-3)
        )
        scores = (query * key).sum(dim=-1) / key.shape[-1] ** 0.5  # batch token visit head
        # A large number, not infinity: a token without any visit must stay finite.
        weights = (scores - 1e4 * (1 - present)).softmax(dim=-2)
        answer = (weights[..., None] * value).sum(dim=-3).flatten(-2)
        token: Tensor = self.out(latest.squeeze(-2) + answer)
        return token


def _course(
    visits: Sequence[Observation], analyte: Analyte, index_date: dt.date | None
) -> list[list[float]]:
    """The features of one analyte: its latest visits, right-aligned."""
    rows = [
        [
            z_score(visit.value, analyte, visit.reference),
            UNDATED_YEARS if visit.date is None else _age(visit.date, index_date),
            1.0,
        ]
        for visit in visits[-VISITS:]
        if visit.value is not None
    ]
    return [[0.0] * CHANNELS] * (VISITS - len(rows)) + rows


def _limits(analyte: Analyte, reference: ReferenceRange | None) -> tuple[float, float]:
    """The sender's range if it makes sense, else the analyte's, with open sides filled in."""
    if reference is not None:
        low, high = _filled(reference.low, reference.high, analyte)
        if low < high and (low, high) != analyte.plausible:
            return low, high
    return _filled(analyte.low, analyte.high, analyte)


def _filled(low: float | None, high: float | None, analyte: Analyte) -> tuple[float, float]:
    """Close the open sides of a range."""
    if (low is None and high is None) or analyte.unit == "{score}":
        floor, ceiling = analyte.plausible
    else:
        floor, ceiling = 0.0, 2 * (low or 0.0)
    return floor if low is None else low, ceiling if high is None else high


def _age(date: dt.date | None, index_date: dt.date | None) -> float:
    """Years from a date to the index date; 0 where one of them is unknown."""
    if date is None or index_date is None:
        return 0.0
    return (index_date - date).days / DAYS_PER_YEAR


def _begun(fact: _Fact, index_date: dt.date | None) -> bool:
    """Whether the fact was there at the time of the case."""
    return fact.date is None or index_date is None or fact.date <= index_date


def _gives_away(fact: _Fact, exclude: frozenset[str]) -> bool:
    """Whether a condition or drug has one of these codes, or lies below it in ICD-10."""
    if fact.kind not in ("condition", "medication"):
        return False
    code = fact.pointer.code
    if "icd-10" not in fact.pointer.system.lower():
        return code in exclude
    undotted = {entry.replace(".", "") for entry in exclude}
    bare = code.replace(".", "")
    return any(bare[:length] in undotted for length in range(3, len(bare) + 1))


def _latest(facts: Sequence[_Fact]) -> list[_Fact]:
    """One entry of each key, the last to begin, in the order of first mention."""
    found: dict[tuple[str, str, str], _Fact] = {}
    for fact in facts:
        known = found.get(fact.key)
        if known is None or (fact.date or dt.date.min) >= (known.date or dt.date.min):
            found[fact.key] = fact
    return list(found.values())


def _demographics(record: PatientRecord) -> Iterator[_Fact]:
    """Age, sex and education, each where it is known."""
    age, years = record.age_years, record.education_years
    if age is not None:
        display = f"age {age:.0f} years"
        pointer = FactPointer("patient", "", "age", display)
        yield _Fact("age", display, pointer, (age - 70) / 10)
    if record.sex != "unknown":
        yield _Fact("sex", f"Sex: {record.sex}", FactPointer("patient", "", "sex", record.sex))
    if years is not None:
        display = f"education {years:g} years"
        pointer = FactPointer("patient", "", "education", display)
        yield _Fact("education", display, pointer, (years - 12) / 4)


def _conditions(record: PatientRecord) -> Iterator[_Fact]:
    """Conditions, past or present."""
    for condition in record.conditions:
        word = "Past condition" if condition.clinical_status in PAST_CONDITION else "Condition"
        pointer = _pointer(condition.id, condition.code)
        yield _Fact("condition", f"{word}: {pointer.display}", pointer, date=condition.onset)


def _medications(record: PatientRecord) -> Iterator[_Fact]:
    """Drugs that the patient takes or took."""
    for drug in record.medications:
        word = MEDICATION_WORDS.get(drug.status)
        pointer = _pointer(drug.id, drug.code)
        if word is not None:
            yield _Fact("medication", f"{word}: {pointer.display}", pointer, date=drug.start)


def _family(record: PatientRecord) -> Iterator[_Fact]:
    """What relatives have or had."""
    for member in record.family_history:
        pointer = _pointer(member.id, member.condition)
        text = f"Family history: {member.relationship}, {pointer.display}"
        yield _Fact("family history", text, pointer)


def _pointer(resource_id: str, coding: Coding) -> FactPointer:
    """Point to a coded resource; a code without a name stands for itself."""
    return FactPointer(resource_id, coding.system, coding.code, coding.display or coding.code)
