"""Is the record complete, plausible and consistent with itself?

A finding warns the physician and refuses nothing. Its message names codes and kinds, never a
value, a name, a birth date or the text of a note.
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from clinical.record import PatientRecord
from clinical.units import analyte

Kind = Literal["missing", "implausible", "date"]

OLDEST_YEARS = 120


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        kind: Sort of finding.
        message: One sentence for the physician.
        sources: Ids of the entries it is about; empty where something is missing.
    """

    kind: Kind
    message: str
    sources: tuple[str, ...] = ()


def check(record: PatientRecord, today: dt.date | None = None) -> tuple[Finding, ...]:
    """Check one record.

    Args:
        record: The record.
        today: Day after which nothing can have happened; the clock's where None.

    Returns:
        The findings, what is missing first.
    """
    latest = today or dt.date.today()
    return (*_missing(record), *_implausible(record), *_dates(record, latest))


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
            yield Finding("missing", f"The record has no {part}.")


def _implausible(record: PatientRecord) -> Iterator[Finding]:
    for entry in record.observations:
        known = analyte(entry.loinc)
        if known is None or entry.value is None:
            continue
        low, high = known.plausible
        if not low <= entry.value <= high:
            yield Finding(
                "implausible",
                f"{known.name} ({known.loinc}) lies outside {low:g} to {high:g} {known.unit}.",
                (entry.id,),
            )
    if record.age_years is not None and not 0 <= record.age_years <= OLDEST_YEARS:
        yield Finding("implausible", f"The age lies outside 0 to {OLDEST_YEARS} years.")


def _dates(record: PatientRecord, latest: dt.date) -> Iterator[Finding]:
    dated = [("observation", entry.id, entry.date) for entry in record.observations]
    dated += [("note", note.id, note.date) for note in record.notes]
    dated += [("condition", entry.id, entry.onset) for entry in record.conditions]
    dated += [("medication", entry.id, entry.start) for entry in record.medications]
    for kind, entry_id, date in dated:
        if date is not None and date > latest:
            yield Finding("date", f"A date of this {kind} lies in the future.", (entry_id,))
        if date is not None and record.birth_date is not None and date < record.birth_date:
            yield Finding("date", f"A date of this {kind} lies before birth.", (entry_id,))
