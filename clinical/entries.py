"""What one FHIR R4 resource says about the patient, in the words of `clinical.record`.

Each reader takes a resource that `clinical.fhir` has validated, as plain JSON, and returns what it
states. `UnusedError` says why a sound resource is of no use, `UnreadableError` what is wrong with
one; neither carries anything but element names, codes and units.
"""

import base64
import binascii
import datetime as dt
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from clinical.notes import language, plain_text
from clinical.record import (
    Coding,
    Condition,
    FamilyMember,
    Medication,
    Note,
    Observation,
    ReferenceRange,
)
from clinical.units import Analyte, UnitError, analyte, convert

Json = dict[str, Any]
Fact = Observation | Condition | Medication | FamilyMember | Note | float
Resolve = Callable[[str], Json | None]

LOINC = "http://loinc.org"
EDUCATION_LOINC = "82590-1"  # total years of schooling
_TERMINOLOGIES = (
    "http://snomed.info/sct",
    LOINC,
    "http://hl7.org/fhir/sid/icd-10",
    "http://hl7.org/fhir/sid/icd-10-cm",
    "http://www.nlm.nih.gov/research/umls/rxnorm",
    "http://www.whocc.no/atc",
)
_RETRACTED = {"entered-in-error", "cancelled", "not-taken", "not-done", "refuted", "superseded"}
_YEARS = {"a": 1.0, "mo": 1 / 12, "wk": 7 / 365.25, "d": 1 / 365.25}
_YEARS |= {"year": 1.0, "years": 1.0, "yr": 1.0, "1": 1.0, "{years}": 1.0, "": 1.0}
_CHARSETS = {"utf-8", "us-ascii", "iso-8859-1", "windows-1252", "gb18030", "gbk", "gb2312", "big5"}
_DATE = re.compile(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


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


def read_entry(resource: Json, entry_id: str, resolve: Resolve) -> tuple[Fact, ...]:
    """Read one resource of a type in `READERS`.

    Args:
        resource: Validated JSON.
        entry_id: Its id, or a stand-in where it has none.
        resolve: Finds the resource a reference points to, within the bundle.

    Returns:
        What it states: at least one fact; a bare number is the years of education.

    Raises:
        UnusedError: It is retracted, negated, empty, or about nothing the record keeps.
        UnreadableError: Its meaning is uncertain: an unknown unit, an unknown modifier.
    """
    kind = resource["resourceType"]
    if "modifierExtension" in resource:
        raise UnreadableError("modifierExtension", "changes the meaning and is not understood")
    if {resource.get("status"), resource.get("docStatus"), _verification(resource)} & _RETRACTED:
        raise UnusedError("retracted or negated")
    if resource.get("doNotPerform") or resource.get("focus"):
        raise UnusedError("not about a fact of this patient")
    facts = tuple(READERS[kind](resource, entry_id, resolve))
    if not facts:
        raise UnusedError(_EMPTY[kind])
    return facts


def first_date(text: str | int | None, path: str = "date") -> dt.date | None:
    """The day of a FHIR date or dateTime; the first day of a month or year.

    Example:
        >>> first_date("1941-07")
        datetime.date(1941, 7, 1)

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


def coding(concept: Json | None, prefer: tuple[str, ...] = _TERMINOLOGIES) -> Coding:
    """One code of a CodeableConcept: of a preferred terminology, else the first, else text."""
    concept = concept or {}
    codings: list[Json] = concept.get("coding") or [{}]
    order = {system: rank for rank, system in enumerate(prefer)}
    best = min(codings, key=lambda entry: order.get(entry.get("system", ""), len(order)))
    display = best.get("display") or concept.get("text") or ""
    return Coding(best.get("system", ""), best.get("code", ""), display)


def _observations(resource: Json, entry_id: str, _: Resolve) -> Iterator[Fact]:
    """Every value of an Observation and of its components that the table of analytes knows."""
    components: list[Json] = resource.get("component", [])
    rows = [(entry_id, resource)]
    rows += [(f"{entry_id}#{n}", component) for n, component in enumerate(components, start=1)]
    date = _when(resource, "effective") or first_date(resource.get("issued"), "issued")
    for row_id, row in rows:
        codes = [
            c.get("code", "") for c in row["code"].get("coding", []) if c.get("system") == LOINC
        ]
        if EDUCATION_LOINC in codes:
            yield from _education(row)
        known = next(filter(None, map(analyte, codes)), None)
        observation = known and _value(row, row_id, known, date)
        if observation:
            yield observation


def _value(row: Json, row_id: str, known: Analyte, date: dt.date | None) -> Observation | None:
    """The value of an Observation or component in its canonical unit; None where it has none."""
    quantity: Json = row.get("valueQuantity", {})
    number = quantity.get("value", row.get("valueInteger"))
    text = row.get("valueString") or _concept_text(row.get("valueCodeableConcept"))
    if number is None and text is None:
        return None
    value = None
    if number is not None:
        unit = _unit(quantity)
        value = _convert(known.loinc, number, unit, "valueQuantity.unit")
        text = quantity.get("comparator")  # "<": the value is the limit of detection
    reference = _reference(row, known, _unit(quantity))
    return Observation(row_id, known.loinc, known.name, value, known.unit, reference, date, text)


def _reference(row: Json, known: Analyte, unit: str) -> ReferenceRange:
    """The sender's normal range where there is exactly one for everybody, else the table's."""
    ranges = [
        entry
        for entry in row.get("referenceRange", [])
        if ("low" in entry or "high" in entry) and not {"appliesTo", "age"} & entry.keys()
        if coding(entry.get("type")).code in ("", "normal")
    ]
    if len(ranges) != 1:
        return ReferenceRange(known.low, known.high)
    low, high = (
        None
        if side is None
        else _convert(known.loinc, side["value"], _unit(side) or unit, "referenceRange")
        for side in (ranges[0].get("low"), ranges[0].get("high"))
    )
    return ReferenceRange(low, high)


def _convert(loinc: str, number: float | int | str, unit: str, path: str) -> float:
    try:
        value = convert(loinc, float(number), unit)
    except UnitError as error:
        raise UnreadableError(path, str(error)) from None
    if not math.isfinite(value):
        raise UnreadableError(path.removesuffix(".unit"), "is not a finite number")
    return value


def _unit(quantity: Json) -> str:
    """The coded unit where there is one, else the printed one."""
    return str(quantity.get("code") or quantity.get("unit") or "")


def _education(row: Json) -> Iterator[float]:
    quantity: Json = row.get("valueQuantity", {})
    number = quantity.get("value", row.get("valueInteger"))
    if number is not None and _unit(quantity) in _YEARS:
        years = float(number) * _YEARS[_unit(quantity)]
        yield from [years] if 0 <= years <= 40 else []


def _conditions(resource: Json, entry_id: str, _: Resolve) -> Iterator[Fact]:
    status = coding(resource.get("clinicalStatus")).code or "unknown"
    if _named(code := coding(resource.get("code"))):
        yield Condition(entry_id, code, status, _when(resource, "onset"))


def _medications(resource: Json, entry_id: str, resolve: Resolve) -> Iterator[Fact]:
    concept: Json | None = resource.get("medicationCodeableConcept")
    if concept is None:
        reference: Json = resource.get("medicationReference", {})
        target = _contained(resource, reference.get("reference", "")) or resolve(
            reference.get("reference", "")
        )
        concept = target.get("code") if target else {"text": reference.get("display")}
    code = coding(concept)
    if not _named(code):
        raise UnreadableError("medicationReference", "points to no Medication in the bundle")
    start = first_date(resource.get("authoredOn"), "authoredOn") or _when(resource, "effective")
    yield Medication(entry_id, code, resource.get("status", "unknown"), start)


def _family(resource: Json, entry_id: str, _: Resolve) -> Iterator[Fact]:
    relationship = coding(resource.get("relationship"))
    name = resource.get("relationship", {}).get("text") or relationship.display
    for n, condition in enumerate(resource.get("condition", []), start=1):
        age: Json = condition.get("onsetAge", {})
        factor = _YEARS.get(_unit(age))
        years = float(age["value"]) * factor if factor and "value" in age else None
        code = coding(condition.get("code"))
        yield FamilyMember(f"{entry_id}#{n}", name or relationship.code, code, years)


def _report_notes(resource: Json, entry_id: str, _: Resolve) -> Iterator[Fact]:
    """The report's own texts; its narrative only where it has no other."""
    texts = [_attachment(form) for form in resource.get("presentedForm", [])]
    texts.append(resource.get("conclusion"))
    if not any(texts):
        texts = [plain_text(resource.get("text", {}).get("div", ""))]
    date = _when(resource, "effective") or first_date(resource.get("issued"), "issued")
    yield from _notes(texts, entry_id, resource.get("code"), date)


def _document_notes(resource: Json, entry_id: str, _: Resolve) -> Iterator[Fact]:
    texts = [_attachment(content.get("attachment", {})) for content in resource["content"]]
    yield from _notes(texts, entry_id, resource.get("type"), first_date(resource.get("date")))


def _notes(
    texts: list[str | None], entry_id: str, kind: Json | None, date: dt.date | None
) -> Iterator[Note]:
    code = coding(kind, prefer=(LOINC,))
    for n, text in enumerate(texts, start=1):
        tidy = _CONTROL.sub("", (text or "").replace("\r\n", "\n").replace("\r", "\n")).strip()
        if tidy:
            yield Note(f"{entry_id}#{n}", code, tidy, date, language(tidy))


def _attachment(attachment: Json) -> str | None:
    """The text of an attachment; None where it is no text or lies elsewhere."""
    kind, _, parameters = str(attachment.get("contentType", "text/plain")).lower().partition(";")
    if kind.strip() not in ("text/plain", "text/html") or "data" not in attachment:
        return None
    charset = parameters.partition("charset=")[2].strip(' "') or "utf-8"
    if charset not in _CHARSETS:
        raise UnreadableError(
            "attachment.contentType", "names a character set that is not accepted"
        )
    try:
        data = base64.b64decode("".join(attachment["data"].split()), validate=True)
        text = data.decode(charset).removeprefix("\ufeff")
    except (binascii.Error, UnicodeDecodeError):
        raise UnreadableError("attachment.data", f"is not base64 of {charset} text") from None
    return plain_text(text) if kind.strip() == "text/html" else text


def _when(resource: Json, prefix: str) -> dt.date | None:
    """The date of a choice element: dateTime, instant, or the start of a period."""
    for kind in ("DateTime", "Instant"):
        if f"{prefix}{kind}" in resource:
            return first_date(resource[f"{prefix}{kind}"], f"{prefix}{kind}")
    return first_date(resource.get(f"{prefix}Period", {}).get("start"), f"{prefix}Period.start")


def _concept_text(concept: Json | None) -> str | None:
    return (concept.get("text") or coding(concept).display or None) if concept else None


def _contained(resource: Json, reference: str) -> Json | None:
    inside: list[Json] = resource.get("contained", []) if reference.startswith("#") else []
    return next((entry for entry in inside if entry.get("id") == reference[1:]), None)


def _verification(resource: Json) -> str:
    return coding(resource.get("verificationStatus")).code


def _named(code: Coding) -> bool:
    return bool(code.code or code.display)


READERS: Mapping[str, Callable[[Json, str, Resolve], Iterator[Fact]]] = {
    "Observation": _observations,
    "Condition": _conditions,
    "MedicationRequest": _medications,
    "MedicationStatement": _medications,
    "MedicationAdministration": _medications,
    "FamilyMemberHistory": _family,
    "DiagnosticReport": _report_notes,
    "DocumentReference": _document_notes,
}

_EMPTY = {
    "Observation": "no value with a code of the table",
    "Condition": "no code",
    "FamilyMemberHistory": "no condition",
    "DiagnosticReport": "no text",
    "DocumentReference": "no text inside",
}
