"""The FHIR data types that every reader needs: dates, codes, units, and what can be wrong."""

import datetime as dt
import re
from dataclasses import dataclass
from typing import Any

from clinical.record import Coding

Json = dict[str, Any]

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
_TERMINOLOGIES = (
    "http://snomed.info/sct",
    LOINC,
    "http://hl7.org/fhir/sid/icd-10",
    "http://hl7.org/fhir/sid/icd-10-cm",
    "http://www.nlm.nih.gov/research/umls/rxnorm",
    "http://www.whocc.no/atc",
)
_DATE = re.compile(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?")


class UnusedError(Exception):
    """A sound resource that says nothing this record keeps; the message says why."""


class UnreadableError(ValueError):
    """A resource that cannot be taken over.

    Attributes:
        path: The element, as in ``valueQuantity.value``.
        rule: What it breaks; never a value.
    """

    def __init__(self, path: str, rule: str) -> None:
        super().__init__(f"{path}: {rule}")
        self.path, self.rule = path, rule


@dataclass(frozen=True)
class Doubt:
    """What a reader left out of an entry that it otherwise took over, or why it took nothing.

    Attributes:
        path: The element.
        rule: What is wrong with it; never a value.
    """

    path: str
    rule: str


def first_date(text: str | int | None, path: str = "date") -> dt.date | None:
    """The day of a FHIR date, dateTime or instant; the first day of a month or year.

    A time zone moves nothing: the day is the one that the sender's calendar showed.

    Example:
        >>> first_date("1941-07"), first_date("2025-03-04T23:30:00-08:00")
        (datetime.date(1941, 7, 1), datetime.date(2025, 3, 4))

    Raises:
        UnreadableError: It is no date of the calendar.
    """
    if text is None:
        return None
    match = _DATE.match(str(text))
    try:
        year, month, day = (int(part or 1) for part in match.groups()) if match else (0, 0, 0)
        return dt.date(year, month, day)
    except ValueError:
        raise UnreadableError(path, "is not a date of the calendar") from None


def when(resource: Json, prefix: str) -> dt.date | None:
    """The date of a choice element: dateTime, instant, first event or start of a period."""
    for kind in ("DateTime", "Instant"):
        if f"{prefix}{kind}" in resource:
            return first_date(resource[f"{prefix}{kind}"], f"{prefix}{kind}")
    events: list[str] = resource.get(f"{prefix}Timing", {}).get("event", [])
    if events:
        return first_date(events[0], f"{prefix}Timing.event")
    return first_date(resource.get(f"{prefix}Period", {}).get("start"), f"{prefix}Period.start")


def coding(concept: Json | None, prefer: tuple[str, ...] = _TERMINOLOGIES) -> Coding:
    """One code of a CodeableConcept: of a preferred terminology, else the first, else text."""
    concept = concept or {}
    codings: list[Json] = concept.get("coding") or [{}]
    order = {system: rank for rank, system in enumerate(prefer)}
    best = min(codings, key=lambda entry: order.get(entry.get("system", ""), len(order)))
    display = best.get("display") or concept.get("text") or ""
    return Coding(best.get("system", ""), best.get("code", ""), display)


def is_named(code: Coding) -> bool:
    """Whether a code says anything, be it a name only."""
    return bool(code.code or code.display)


def concept_text(concept: Json | None) -> str | None:
    """A CodeableConcept in words."""
    return (concept.get("text") or coding(concept).display or None) if concept else None


def unit_of(quantity: Json) -> str:
    """The unit of a Quantity: its UCUM code where there is one, else as it is printed."""
    code, printed = quantity.get("code"), quantity.get("unit")
    if quantity.get("system") not in (None, UCUM):
        code, printed = printed, code
    return str(code or printed or "")
