"""The values of an Observation, each with its unit, its range and what stands in its way.

No number is guessed. A value in an unknown unit is kept as missing with its reason, a limit of
detection with its comparator, a range or a titre as text.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

from clinical.elements import (
    LOINC,
    Doubt,
    Json,
    UnreadableError,
    coding,
    concept_text,
    first_date,
    unit_of,
    when,
)
from clinical.record import Observation, ReferenceRange
from clinical.units import Analyte, UnitError, analyte, answer_value, convert

EDUCATION_LOINC = "82590-1"  # total years of schooling
YEARS = {"a": 1.0, "mo": 1 / 12, "wk": 7 / 365.25, "d": 1 / 365.25}
YEARS |= {"year": 1.0, "years": 1.0, "yr": 1.0, "1": 1.0, "{years}": 1.0, "": 1.0}
MOST_EDUCATION_YEARS = 40.0

_INTERPRETATION = "http://terminology.hl7.org/CodeSystem/v3-ObservationInterpretation"
# The words of FHIR's data-absent-reason; any other is not repeated.
_ABSENT = {
    "unknown", "asked-unknown", "temp-unknown", "not-asked", "asked-declined", "masked",
    "not-applicable", "unsupported", "as-text", "error", "not-a-number", "negative-infinity",
    "positive-infinity", "not-performed", "not-permitted",
}  # fmt: skip
_NO_VALUE = {
    "valueSampledData": "a series of samples is not read",
    "valueTime": "a time is no value",
    "valueDateTime": "a time is no value",
    "valuePeriod": "a period is no value",
}


def read_observation(resource: Json, entry_id: str) -> Iterator[Observation | float | Doubt]:
    """Every value of an Observation and of its components that the table of analytes knows.

    Args:
        resource: A validated Observation.
        entry_id: Its id; the n-th component's gets ``#n``.

    Yields:
        Observations, years of education as a bare number, and what was left out.

    Raises:
        UnreadableError: It contradicts itself or has no usable date.
    """
    date = when(resource, "effective") or first_date(resource.get("issued"), "issued")
    components: list[Json] = resource.get("component", [])
    rows = [(entry_id, "", resource)]
    rows += [(f"{entry_id}#{n + 1}", f"component[{n}].", c) for n, c in enumerate(components)]
    for row_id, path, row in rows:
        codes = [
            c.get("code", "") for c in row["code"].get("coding", []) if c.get("system") == LOINC
        ]
        if EDUCATION_LOINC in codes:
            yield from _education(row, path)
            continue
        known = _known(codes, path)
        if known is None:
            continue
        for fact in _row(row, row_id, path, known):
            yield fact if isinstance(fact, Doubt) else replace(fact, date=date)


def _known(codes: list[str], path: str) -> Analyte | None:
    """The one analyte that LOINC codes mean; None where the table has none."""
    found = {entry.loinc: entry for entry in map(analyte, codes) if entry}
    if len(found) > 1:
        raise UnreadableError(f"{path}code", "means several analytes of the table")
    return next(iter(found.values()), None)


def _row(row: Json, row_id: str, path: str, known: Analyte) -> Iterator[Observation | Doubt]:
    """What an Observation or one component states of an analyte."""
    valued = [key for key in row if key.startswith("value")]
    if "dataAbsentReason" in row:
        if valued:
            raise UnreadableError(f"{path}dataAbsentReason", "stands beside a value")
        reason = coding(row["dataAbsentReason"]).code
        why = reason if reason in _ABSENT else "no known reason"
        yield Doubt(f"{path}dataAbsentReason", f"value absent: {why}")
        return
    useless = next((_NO_VALUE[key] for key in valued if key in _NO_VALUE), None)
    if useless:
        yield Doubt(f"{path}value", useless)
        return
    number, unit, doubt = _number(row, known, path)
    text = _words(row) if number is None and not doubt else None
    if number is None and not doubt and not text:
        return
    reference, remark = _reference(row, known, unit, path)
    yield from filter(None, (doubt, remark))
    yield Observation(
        id=row_id,
        loinc=known.loinc,
        name=known.name,
        value=answer_value(known.loinc, *_answers(row)) if text else number,
        unit=known.unit,
        reference=reference,
        text=text,
        comparator=None if number is None else row.get("valueQuantity", {}).get("comparator"),
        interpretation=_interpretation(row),
        absent_reason="unknown unit" if doubt else "",
    )


def _number(row: Json, known: Analyte, path: str) -> tuple[float | None, str, Doubt | None]:
    """The number in the canonical unit, the unit as sent, and why there is none after all."""
    quantity: Json = row.get("valueQuantity", {})
    number, unit = quantity.get("value", row.get("valueInteger")), unit_of(quantity)
    if number is None:
        return None, unit, None
    where = f"{path}valueQuantity.unit"
    if _disagree(quantity, known):
        return None, unit, Doubt(where, f"{_called(known)}: its code and its text differ")
    value = _convert(known, number, unit, f"{path}valueQuantity.value")
    if value is None:
        what = f"the unit {_shown(unit)} is not in the table" if unit else "there is no unit"
        return None, unit, Doubt(where, f"{_called(known)}: {what}, so the value is missing")
    return value, unit, None


def _convert(known: Analyte, number: float | int, unit: str, path: str) -> float | None:
    """A number in the canonical unit; None where the unit is unknown."""
    try:
        value = convert(known.loinc, float(number), unit)
    except UnitError:
        return None
    if not math.isfinite(value):
        raise UnreadableError(path, "is not a finite number")
    return value


def _disagree(quantity: Json, known: Analyte) -> bool:
    """Whether code and text of a unit are both known and mean different units."""
    code, printed = quantity.get("code"), quantity.get("unit")
    if not code or not printed or code == printed:
        return False
    one, other = (_convert(known, 1.0, unit, "") for unit in (code, printed))
    return one is not None and other is not None and not math.isclose(one, other, rel_tol=1e-6)


def _words(row: Json) -> str | None:
    """What is said of a value in words, as a range or as a ratio; else the interpretation."""
    if "valueString" in row:
        return str(row["valueString"])
    if "valueBoolean" in row:
        return "yes" if row["valueBoolean"] else "no"
    if "valueRange" in row:
        low, high = (_as_text(row["valueRange"].get(side)) for side in ("low", "high"))
        return f"{low} to {high}".strip()
    if "valueRatio" in row:
        parts = (_as_text(row["valueRatio"].get(p)) for p in ("numerator", "denominator"))
        return ":".join(parts)
    coded = concept_text(row.get("valueCodeableConcept"))
    return coded or concept_text(next(iter(row.get("interpretation", [])), None))


def _answers(row: Json) -> Iterator[str]:
    """The codes and texts of a result without a number."""
    valued = any(key.startswith("value") for key in row)
    concepts: list[Json] = [row.get("valueCodeableConcept", {})]
    if not valued:
        concepts = row.get("interpretation", [])
    for concept in concepts:
        for entry in (*concept.get("coding", []), {"display": concept.get("text")}):
            yield from filter(None, (entry.get("code"), entry.get("display")))
    if not valued or "valueCodeableConcept" in row:
        return
    yield _words(row) or ""


def _as_text(quantity: Json | None) -> str:
    """A quantity as sent, such as ``<32`` or ``5 mg/dL``."""
    quantity = quantity or {}
    number = quantity.get("value")
    shown = "" if number is None else f"{quantity.get('comparator', '')}{number:g}"
    return f"{shown} {unit_of(quantity)}".strip()


def _interpretation(row: Json) -> str:
    return next(
        filter(None, (coding(c, (_INTERPRETATION,)).code for c in row.get("interpretation", []))),
        "",
    )


def _reference(
    row: Json, known: Analyte, unit: str, path: str
) -> tuple[ReferenceRange | None, Doubt | None]:
    """The sender's normal range where there is exactly one for everybody."""
    ranges = [
        entry
        for entry in row.get("referenceRange", [])
        if ("low" in entry or "high" in entry) and not {"appliesTo", "age"} & entry.keys()
        if coding(entry.get("type")).code in ("", "normal")
    ]
    if len(ranges) != 1:
        return None, None
    where = f"{path}referenceRange"
    sides = [ranges[0].get(side) or {} for side in ("low", "high")]
    low, high = (
        _convert(known, side["value"], unit_of(side) or unit, where) if "value" in side else None
        for side in sides
    )
    sent = [side for side in sides if "value" in side]
    if len(sent) != sum(limit is not None for limit in (low, high)):
        return None, Doubt(where, f"{_called(known)}: its unit is not in the table")
    if low is not None and high is not None and low > high:
        return None, Doubt(where, f"{_called(known)}: it ends before it begins")
    return (ReferenceRange(low, high), None) if sent else (None, None)


def _called(known: Analyte) -> str:
    return f"{known.name} ({known.loinc})"


def _shown(unit: str) -> str:
    """A unit to be quoted; not where it may be anything else, such as a name.

    Example:
        >>> _shown("mg/dL"), _shown("see Mr Smith")
        ("'mg/dL'", 'given')
    """
    letters = "".join(c if c.isalpha() else " " for c in unit).split()
    looks_like_one = len(unit) <= 20 and " " not in unit and all(len(w) <= 6 for w in letters)
    return repr(unit) if looks_like_one else "given"


def _education(row: Json, path: str) -> Iterator[float | Doubt]:
    """Years of schooling."""
    quantity: Json = row.get("valueQuantity", {})
    number, unit = quantity.get("value", row.get("valueInteger")), unit_of(quantity)
    if number is None:
        return
    years = float(number) * YEARS.get(unit, math.nan)
    if 0 <= years <= MOST_EDUCATION_YEARS:
        yield years
    else:
        what = "lies outside the possible" if unit in YEARS else "has an unknown unit"
        yield Doubt(f"{path}valueQuantity", f"years of education: {what}")
