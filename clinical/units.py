"""LOINC and UCUM: one analyte, one unit, and what is normal for whom.

`ANALYTES` (in `clinical.analyte_table`) is a closed table. What is not in it is not guessed: an
unknown LOINC has no use for us, an unknown unit is an error, an unknown answer is only text.
"""

import functools
import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import fields

from clinical.analyte_table import ANALYTES
from clinical.analytes import Analyte, Number, Range
from clinical.answers import plain_answer, titer
from clinical.record import ReferenceRange, Sex

__all__ = [
    "ANALYTES",
    "ANALYTE_INDEX",
    "Analyte",
    "UnitError",
    "analyte",
    "answer_value",
    "convert",
    "reference_range",
    "table_version",
]

ANALYTE_INDEX: dict[str, int] = {entry.loinc: row for row, entry in enumerate(ANALYTES)}

_BY_CODE = {code: entry for entry in ANALYTES for code in (entry.loinc, *entry.synonyms)}
_MICRO = re.compile("^mc(?=g)|[µμ]")
_TIMES = re.compile("^[xX×] ?(?=10)")
_SMALL_LITRE = re.compile(r"(?<![A-Za-z])([dmunpf]?)l\b")


class UnitError(ValueError):
    """A unit that the closed table cannot convert; the message has code and unit, no value."""


def analyte(loinc: str) -> Analyte | None:
    """Find an analyte by its LOINC code or a synonym's; None where we have no use for it.

    Example:
        >>> analyte("2339-0").name
        'Glucose'
    """
    return _BY_CODE.get(loinc)


def convert(loinc: str, value: Number, unit: str) -> float:
    """Convert a value to the canonical unit of its analyte.

    Args:
        loinc: LOINC code of the analyte or a synonym.
        value: The number as sent.
        unit: The unit as sent: UCUM, or one of the usual other spellings.

    Returns:
        The value in `Analyte.unit`.

    Raises:
        UnitError: The analyte or the unit is not in the table.

    Example:
        >>> round(convert("2345-7", 5.5, "mmol/L"), 1)
        99.1
    """
    entry = analyte(loinc)
    if entry is None:
        raise UnitError(f"LOINC {loinc} is not in clinical.units.ANALYTES; add it there to use it")
    spelled = _tidy(unit)
    if spelled not in entry.factors:
        raise UnitError(
            f"LOINC {loinc} is in {unit[:20]!r}, which has no conversion to {entry.unit!r}; "
            f"correct the export or add the factor to clinical.analyte_table"
        )
    return value * entry.factors[spelled] + entry.offsets.get(spelled, 0.0)


def answer_value(loinc: str, *answers: str) -> float | None:
    """The number that a coded or written answer stands for, in `Analyte.unit`.

    Args:
        loinc: LOINC code of the analyte or a synonym.
        answers: The codes and texts of one result, in any order, such as those of a
            CodeableConcept.

    Returns:
        None where the analyte has no answers, none of these is known, or two contradict.

    Example:
        >>> answer_value("22587-0", "11214006", "Reactive"), answer_value("42315-2", "ε3/ε4")
        (1.0, 1.0)
        >>> answer_value("31147-2", "1:64"), answer_value("22587-0", "weakly reactive")
        (64.0, None)
    """
    entry = analyte(loinc)
    if entry is None or not entry.answers:
        return None
    found = {
        entry.answers[plain] for text in answers if (plain := plain_answer(text)) in entry.answers
    }
    if entry.unit == "{titer}":
        found |= {number for number in map(titer, answers) if number is not None}
    return found.pop() if len(found) == 1 else None


def reference_range(
    entry: Analyte, sex: Sex = "unknown", age_years: Number | None = None
) -> ReferenceRange:
    """What is normal for a person, in `Analyte.unit`.

    Where sex or age is not known, the range is as wide as that of anybody it could be, so that
    nothing is called abnormal for want of a birth date. A child's is that of the youngest adult.

    Args:
        entry: An analyte of the table.
        sex: Administrative gender.
        age_years: Age when it was measured.

    Example:
        >>> esr = analyte("4537-7")
        >>> [reference_range(esr, "female", age).high for age in (40, 80)]
        [27.5, 47.5]
    """
    sexes = (sex,) if sex in ("female", "male") else ("female", "male")
    fitting = [part for who in sexes for part in _valid(entry.ranges, who, age_years)]
    lows = [part.low for part in fitting if part.low is not None]
    highs = [part.high for part in fitting if part.high is not None]
    return ReferenceRange(
        min(lows) if fitting and len(lows) == len(fitting) else None,
        max(highs) if fitting and len(highs) == len(fitting) else None,
    )


@functools.cache
def table_version() -> str:
    """A short hash of the table, so that tokens made with another one can be told.

    Names do not count: what changes it is a row, its place, a unit, a factor, a range, an answer.
    """
    kept = [part.name for part in fields(Analyte) if part.name not in ("name", "source")]
    rows = [{name: _plain(getattr(entry, name)) for name in kept} for entry in ANALYTES]
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:12]


def _plain(value: object) -> object:
    """A field of an analyte as JSON writes it."""
    if isinstance(value, tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Range):
        return [value.low, value.high, value.sex, value.from_age]
    return value if isinstance(value, str | float | bool) else dict(value)  # type: ignore[call-overload]


def _valid(ranges: Iterable[Range], sex: str, age_years: Number | None) -> list[Range]:
    """The range of this sex at this age; all ages' where the age is unknown."""
    mine = [part for part in ranges if part.sex in (None, sex)]
    if age_years is None:
        return mine
    reached = [part for part in mine if part.from_age <= age_years]
    return reached[-1:] or mine[:1]


def _tidy(unit: str) -> str:
    """Spell micro as u and litre as L, as the table does, and drop a leading times sign."""
    plain = _MICRO.sub("u", _TIMES.sub("", unit.strip()))
    return _SMALL_LITRE.sub(r"\1L", plain)
