"""Is the record complete, plausible and consistent with itself?

A finding warns the physician, lowers the weight of what it casts doubt on, and refuses and
corrects nothing. Values against each other are in `clinical.courses`, notes against codes in
`clinical.contradictions`, the record against the scan in `fusion.consistency`.
"""

import datetime as dt
from collections.abc import Iterator

from clinical.addressed import addressed_findings
from clinical.contradictions import contradictions
from clinical.courses import course_findings, is_never_so_low, usual_in_another_unit
from clinical.findings import DOUBTFUL, IMPOSSIBLE, UNSURE, Finding, Source, SourceKind
from clinical.record import Observation, PatientRecord
from clinical.units import Analyte, analyte

OLDEST_YEARS = 120


def check(record: PatientRecord, today: dt.date | None = None) -> tuple[Finding, ...]:
    """Check one record.

    Args:
        record: The record.
        today: Day after which nothing can have happened; the clock's where None.

    Returns:
        The findings, what is missing first.
    """
    latest = today or dt.date.today()
    return (
        *_missing(record),
        *_unreadable(record),
        *_implausible(record, latest),
        *_dates(record, latest),
        *course_findings(record),
        *contradictions(record),
        *addressed_findings(record.notes),
    )


def _missing(record: PatientRecord) -> Iterator[Finding]:
    known = (analyte(entry.loinc) for entry in record.observations)
    parts = {
        "birth date": record.birth_date,
        "sex": record.sex != "unknown",
        "date of any observation or note": record.index_date,
        "note": record.notes,
        "laboratory value": record.observations,
        "cognitive score": any(entry and entry.cognitive for entry in known),
    }
    for part, present in parts.items():
        if not present:
            yield Finding("missing", "missing", (("part", part),))


def _unreadable(record: PatientRecord) -> Iterator[Finding]:
    """One finding an analyte that was measured and whose unit nobody knows."""
    found: dict[str, list[Source]] = {}
    for entry in record.observations:
        if entry.absent_reason:
            found.setdefault(entry.loinc, []).append(Source("observation", entry.id))
    for code, sources in found.items():
        yield Finding("unit", "unit unknown", (("analyte", code),), tuple(sources))


def _implausible(record: PatientRecord, latest: dt.date) -> Iterator[Finding]:
    """One finding an analyte, whether its unit explains it or nothing does."""
    for code in dict.fromkeys(entry.loinc for entry in record.observations):
        known = analyte(code)
        if known is None:
            continue
        found: dict[str, list[Observation]] = {}
        for entry in record.observations:
            if entry.loinc != code:
                continue
            factor, outside = usual_in_another_unit(entry, known), _is_outside(entry, known)
            if outside or (factor and is_never_so_low(entry, known)):
                found.setdefault(factor, []).append(entry)
        for factor, entries in found.items():
            yield _outside(known, factor, entries)
    age, day = record.age_years, record.index_date
    # A day in the future is a finding of its own and says nothing of the age.
    if age is not None and not 0 <= age <= OLDEST_YEARS and not (day and day > latest):
        values = (("high", str(OLDEST_YEARS)),)
        born = (Source("patient", "birth date"),)
        yield Finding("implausible", "age outside", values, born, doubts=(IMPOSSIBLE, 1.0))


def _is_outside(entry: Observation, known: Analyte) -> bool:
    """Whether no living patient and no test sheet can have this value."""
    low, high = known.plausible
    return entry.value is not None and not low <= entry.value <= high


def _outside(known: Analyte, factor: str, entries: list[Observation]) -> Finding:
    """A finding about values outside what is plausible."""
    low, high = known.plausible
    sources = tuple(Source("observation", entry.id) for entry in entries)
    values = (("analyte", known.loinc), ("unit", known.unit))
    if factor:
        said = (*values, ("factor", factor))
        return Finding("unit", "unit slip", said, sources, doubts=(IMPOSSIBLE, 1.0))
    limits = (*values, ("low", f"{low:g}"), ("high", f"{high:g}"))
    return Finding("implausible", "implausible", limits, sources, doubts=(IMPOSSIBLE, 1.0))


def _dates(record: PatientRecord, latest: dt.date) -> Iterator[Finding]:
    """Dates at which nothing can have happened."""
    dated: list[tuple[SourceKind, str, dt.date | None]] = [
        ("observation", entry.id, entry.date) for entry in record.observations
    ]
    dated += [("note", note.id, note.date) for note in record.notes]
    dated += [("condition", entry.id, entry.onset) for entry in record.conditions]
    dated += [("medication", entry.id, entry.start) for entry in record.medications]
    born = (Source("patient", "birth date"),)
    for kind, entry_id, date in dated:
        first, said = (Source(kind, entry_id),), (("entry", kind),)
        if date is not None and date > latest:
            yield Finding("date", "future", said, first, doubts=(DOUBTFUL, 1.0))
        if date is not None and record.birth_date is not None and date < record.birth_date:
            # Where most of the record lies before birth, it is the birth date that is wrong.
            yield Finding("date", "before birth", said, first, born, doubts=(DOUBTFUL, UNSURE))
