"""Values over time become analyte tokens, coded facts become history tokens.

`lab_tokens` and `history_tokens` read a record; the network's part, which makes one vector of an
analyte's course, is `clinical.temporal.LabEncoder`.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from clinical.evidence import AnalytePointer, ClinicalTokens, FactPointer
from clinical.notes import language
from clinical.record import (
    DAYS_PER_YEAR,
    LOCAL,
    Coding,
    Observation,
    PatientRecord,
    ReferenceRange,
    Sex,
)
from clinical.units import ANALYTES, Analyte, reference_range

VISITS = 6  # of one analyte; older ones are left out of the features, not of the pointer
CHANNELS = 3  # z, years before the index date, present
Z_LIMIT = 8.0
HALF_LIFE_YEARS = 2.0  # of a value's quality
UNDATED_YEARS = 2.0  # how old a value without a date is taken to be
LOINC = "http://loinc.org"

FACT_KINDS = (
    "age", "sex", "education", "condition", "medication", "family history",
    "finding", "measurement",
)  # fmt: skip
FACT_EXTRAS = 3  # behind the words: number, years before the index date, whether there is one
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

    def encode(self, texts: Sequence[str]) -> Float32[np.ndarray, "text dim"]:
        """One vector a text."""

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
    measured: dict[str, list[Observation]] = {}
    for seen in record.observations:
        if seen.value is not None:
            measured.setdefault(seen.loinc, []).append(seen)
    for kind, analyte in enumerate(ANALYTES):
        visits = measured.get(analyte.loinc)
        if not visits:
            continue
        visits.sort(key=lambda visit: (visit.date is not None, visit.date or dt.date.min, visit.id))
        rows.append(_course(visits, analyte, record))
        kinds.append(kind)
        dates = tuple(visit.date.isoformat() if visit.date else "" for visit in visits)
        pointers.append(AnalytePointer(analyte.loinc, tuple(visit.id for visit in visits), dates))
    if not rows:
        return None
    features = np.array(rows, dtype=np.float32)
    return ClinicalTokens(
        features=features,
        kinds=np.array(kinds, dtype=np.int64),
        quality=np.float32(0.5) ** (features[:, -1, 1] / np.float32(HALF_LIFE_YEARS)),
        pointers=tuple(pointers),
    )


def z_score(
    value: float,
    analyte: Analyte,
    reference: ReferenceRange | None = None,
    *,
    sex: Sex = "unknown",
    age_years: float | None = None,
) -> float:
    """How far a value is from the middle of its range, -2 and 2 being the limits.

    An open lower limit is taken as 0, an open upper one as twice the lower; with neither, the range
    is what is plausible. A score keeps its floor and ceiling apart: outside its range it goes
    evenly from 2 at the limit to `Z_LIMIT` at the end of the scale, so that severe stays
    distinguishable from moderate.

    Args:
        value: In the canonical unit.
        analyte: Its own range is used where `reference` has none that makes sense.
        reference: The sender's, in the same unit.
        sex: Whose range to take where the sender has none.
        age_years: At the time of the value.

    Returns:
        Within ±`Z_LIMIT`.

    Example:
        >>> from clinical.units import analyte
        >>> [round(z_score(mmse, analyte("72106-8")), 1) for mmse in (30.0, 24.0, 18.0, 0.0)]
        [2.0, -2.0, -3.5, -8.0]
    """
    low, high = _limits(analyte, reference, reference_range(analyte, sex, age_years))
    z = 4 * (value - (low + high) / 2) / (high - low)
    if analyte.is_scale and abs(z) > 2:
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
            for fact in (*stated, *_family(record), *_results(record))
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
    words = np.asarray(encoder.encode([fact.text for fact in facts]))
    trust = [encoder.trust(language(fact.pointer.display)) for fact in facts]
    return ClinicalTokens(
        features=np.concatenate([words, np.array(numbers)], axis=1, dtype=np.float32),
        kinds=np.array([FACT_KINDS.index(fact.kind) for fact in facts], dtype=np.int64),
        quality=np.array(trust, dtype=np.float32),
        pointers=tuple(fact.pointer for fact in facts),
    )


def _course(
    visits: Sequence[Observation], analyte: Analyte, record: PatientRecord
) -> list[list[float]]:
    """The features of one analyte: its latest visits, right-aligned."""
    rows = [
        [
            z_score(
                visit.value,
                analyte,
                visit.reference,
                sex=record.sex,
                age_years=_age_at(visit, record),
            ),
            UNDATED_YEARS if visit.date is None else _age(visit.date, record.index_date),
            1.0,
        ]
        for visit in visits[-VISITS:]
        if visit.value is not None
    ]
    return [[0.0] * CHANNELS] * (VISITS - len(rows)) + rows


def _age_at(visit: Observation, record: PatientRecord) -> float | None:
    """The patient's age when a value was measured, as well as it is known."""
    then = None if visit.date is None else record.age_on(visit.date)
    return record.age_years if then is None else then


def _limits(
    analyte: Analyte, sent: ReferenceRange | None, own: ReferenceRange
) -> tuple[float, float]:
    """The sender's range if it makes sense, else the table's, with open sides filled in."""
    if sent is not None:
        low, high = _filled(sent.low, sent.high, analyte)
        if low < high and (low, high) != analyte.plausible:
            return low, high
    return _filled(own.low, own.high, analyte)


def _filled(low: float | None, high: float | None, analyte: Analyte) -> tuple[float, float]:
    """Close the open sides of a range."""
    if (low is None and high is None) or analyte.is_scale:
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
    """Age, sex and education, each where it is known; a number is not among the words."""
    age, years = record.age_years, record.education_years
    if age is not None:
        display = f"age {age:.0f} years"
        pointer = FactPointer("patient", "", "age", display)
        yield _Fact("age", "Age", pointer, (age - 70) / 10)
    if record.sex != "unknown":
        yield _Fact("sex", f"Sex: {record.sex}", FactPointer("patient", "", "sex", record.sex))
    if years is not None:
        display = f"education {years:g} years"
        pointer = FactPointer("patient", "", "education", display)
        yield _Fact("education", "Education", pointer, (years - 12) / 4)


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


def _results(record: PatientRecord) -> Iterator[_Fact]:
    """Results in words, and numbers of the site's own, which no row of `ANALYTES` describes."""
    for result in record.observations:
        own = result.loinc.startswith(LOCAL)
        system = "" if own else LOINC
        if result.value is None and result.text:
            said = f"{result.name}: {result.text}"
            pointer = FactPointer(result.id, system, result.loinc, said)
            yield _Fact("finding", said, pointer, date=result.date)
        elif own and result.value is not None and result.reference is not None:
            said = f"{result.name}: {result.value:g} {result.unit}".strip()
            pointer = FactPointer(result.id, system, result.loinc, said)
            number = _own_number(result.value, result.reference)
            yield _Fact("measurement", result.name, pointer, number, result.date)


def _own_number(value: float, reference: ReferenceRange) -> float | None:
    """Where a site's own number is in its usual range: -1 and 1 at its ends, as age's and labs'."""
    if reference.low is None or reference.high is None or reference.low >= reference.high:
        return None
    middle, width = (reference.low + reference.high) / 2, reference.high - reference.low
    return max(-Z_LIMIT, min(Z_LIMIT, 4 * (value - middle) / width)) / 2


def _pointer(resource_id: str, coding: Coding) -> FactPointer:
    """Point to a coded resource; a code without a name stands for itself."""
    return FactPointer(resource_id, coding.system, coding.code, coding.display or coding.code)
