"""Values held against each other: the patient's own course, units, and what follows from what.

Within-subject variation is that of the EFLM biological variation database (biologicalvariation.eu),
rounded; it is widened here for months between draws, for treatment and for another analyser.
"""

import datetime as dt
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations

from clinical.findings import DOUBTFUL, UNSURE, Finding, Source
from clinical.record import Observation, PatientRecord
from clinical.units import Analyte, analyte, reference_range

# Percent of the value, from week to week in one healthy person.
WITHIN_SUBJECT: Mapping[str, float] = {
    "718-7": 2.7, "4544-3": 2.8, "789-8": 2.6, "787-2": 0.9, "6690-2": 11.0, "777-3": 7.0,
    "2951-2": 0.5, "2823-3": 4.0, "2075-0": 1.1, "17861-6": 1.8, "2160-0": 4.5, "3094-0": 13.0,
    "3084-1": 8.3, "1742-6": 10.0, "1920-8": 9.6, "6768-6": 5.3, "2324-2": 9.0, "1975-2": 20.0,
    "1751-7": 2.6, "2885-2": 2.6, "3016-3": 17.7, "3024-7": 5.0, "2132-9": 11.0, "2284-8": 11.0,
    "4548-4": 1.6, "2345-7": 5.0, "2093-3": 5.3, "18262-6": 8.3, "2085-9": 5.8, "2571-8": 20.0,
    "13965-9": 9.0, "2276-4": 13.0,
}  # fmt: skip
PRESSURE_PERCENT = 8.0  # of blood pressure, within a person
_PRESSURES = frozenset({"8480-6", "8462-4"})
# What no patient has at less than a third of the usual, though it is measurable: lipids, pressure.
_NEVER_LOW = _PRESSURES | {"2093-3", "18262-6", "17861-6", "1751-7", "2885-2"}
WIDENED = 2.0  # of the variation: the patient is ill, treated, and months older
JUMP = 3.0  # widened deviations that no steady course has
COMPARED = 6  # analytes of a day with a steady course on others, or nothing is said
CALM_SHARE = 0.6  # of the analytes the patient had before that are steady, or nothing is said
STRANGE = 2.5  # mean square of their deviations, about 1 for the patient's own blood
FARTHEST = 6.0  # what one deviation counts for at most
FACTOR_FROM = 1.8  # smaller factors between units are too like a course
FACTOR_MARGIN = 0.15  # of the logarithm's distance from the factor, or so much of its own size
CLEAR = 1.5  # times the logarithm of a course's spread that a factor must be
CALM_PERCENT = 13.0  # variation of analytes that no illness moves by a factor between units


def course_findings(record: PatientRecord) -> Iterator[Finding]:
    """What the values of one record have against each other."""
    yield from _neighbours(record)
    yield from _unit_courses(record)
    yield from _duplicates(record)
    yield from _derived(record)


# -- units ---------------------------------------------------------------------------------


def usual_in_another_unit(entry: Observation, known: Analyte) -> str:
    """The factor between units with which an implausible value would be a usual one, or nothing.

    Example:
        >>> glucose = Observation("o", "2345-7", "Glucose", 5.5, "mg/dL")
        >>> usual_in_another_unit(glucose, analyte("2345-7"))
        '18'
    """
    if entry.value is None or known.is_scale:
        return ""
    low, high = _usual(known)
    fits = [
        (abs(math.log(other / math.sqrt(low * high))), factor)
        for other, factor in _in_other_units(entry.value, known)
        if low / 2 <= other <= 2 * high
    ]
    return f"{min(fits)[1]:.3g}" if fits else ""


def _usual(known: Analyte) -> tuple[float, float]:
    """Limits of what is usual, open sides filled in."""
    usual = reference_range(known)
    low, high = usual.low, usual.high
    if high is None:
        high = 3 * low if low else known.plausible[1]
    return low or high / 10, high


def _in_other_units(value: float, known: Analyte) -> list[tuple[float, float]]:
    """What a number means if its unit was mistaken for another, with the factor above 1."""
    meant = []
    for unit, factor in known.factors.items():
        offset = known.offsets.get(unit, 0.0)
        if abs(math.log(factor)) < math.log(1.2):
            continue
        size = max(factor, 1 / factor)
        meant += [(value * factor + offset, size), ((value - offset) / factor, size)]
    return [(other, size) for other, size in meant if other > 0]


def _unit_courses(record: PatientRecord) -> Iterator[Finding]:
    """A value away from a steady course by just a factor between two units."""
    for code, entries in _by_analyte(record).items():
        known = analyte(code)
        if known is None or not _can_be_steady(known) or len(entries) < 3:
            continue
        factors = {size for _, size in _in_other_units(1.0, known) if size >= FACTOR_FROM}
        for entry in entries:
            if not known.plausible[0] <= _value(entry) <= known.plausible[1]:
                continue
            others = [_value(o) for o in entries if o is not entry and o.date != entry.date]
            factor = _factor_from(_value(entry), others, factors, code)
            if factor:
                rest = [o for o in entries if o is not entry and o.date != entry.date]
                values = (("analyte", code), ("unit", known.unit), ("factor", f"{factor:.3g}"))
                yield Finding(
                    "unit", "unit course", values, _sources([entry]), _sources(rest),
                    (DOUBTFUL, 1.0),
                )  # fmt: skip


def _factor_from(value: float, others: Sequence[float], factors: set[float], code: str) -> float:
    """The factor by which a value leaves a steady course; 0 where by none."""
    if len(others) < 2 or min(*others, value) <= 0:
        return 0.0
    spread = math.log(max(others) / min(others))
    if spread > JUMP * WIDENED * WITHIN_SUBJECT.get(code, PRESSURE_PERCENT) / 100.0:
        return 0.0
    factors = {factor for factor in factors if math.log(factor) > CLEAR * spread}
    apart = abs(math.log(value / statistics.median(others)))
    off = {f: abs(apart - math.log(f)) for f in factors}
    near = [f for f in factors if off[f] <= FACTOR_MARGIN * max(1.0, math.log(f))]
    return min(near, key=off.__getitem__, default=0.0)


def _can_be_steady(known: Analyte) -> bool:
    """Whether a course of an analyte does not leave by a factor of itself."""
    return WITHIN_SUBJECT.get(known.loinc, 100.0) <= CALM_PERCENT or known.loinc in _PRESSURES


def is_never_so_low(entry: Observation, known: Analyte) -> bool:
    """Whether a value that the limits allow is still lower than any patient's."""
    low = _usual(known)[0] / 3
    return known.loinc in _NEVER_LOW and entry.value is not None and entry.value < low


# -- whose blood ---------------------------------------------------------------------------


def _neighbours(record: PatientRecord) -> Iterator[Finding]:
    """Days whose values differ from the patient's as those of another person do."""
    draws = _draws(record)
    for day, draw in draws.items():
        others = [other for date, other in draws.items() if date != day]
        had = [code for code in draw if sum(code in other for other in others) > 1]
        courses = {code: course for code in had if (course := _steady(code, others))}
        if len(courses) < max(COMPARED, CALM_SHARE * len(had)):
            continue
        apart = {code: _from_course(draw[code], course) for code, course in courses.items()}
        if _strangeness(apart.values()) > STRANGE:
            own = [entry for code in courses if apart[code] > 1 for entry in courses[code]]
            yield Finding(
                "neighbour", "neighbour", (), _sources(draw.values()), _sources(own),
                (DOUBTFUL, 1.0),
            )  # fmt: skip


def _strangeness(apart: Iterable[float]) -> float:
    """Mean square of deviations but for the largest, which one disease or slip may cause.

    Example:
        >>> _strangeness([1.0, 1.0, 40.0])
        1.0
    """
    known = sorted(min(deviation, FARTHEST) for deviation in apart)[:-1]
    return sum(deviation**2 for deviation in known) / max(len(known), 1)


def _draws(record: PatientRecord) -> dict[dt.date, dict[str, Observation]]:
    """The values of known variation, by day and analyte."""
    draws: dict[dt.date, dict[str, Observation]] = defaultdict(dict)
    for entry in record.observations:
        known = analyte(entry.loinc)
        if known is None or entry.date is None or entry.loinc not in WITHIN_SUBJECT:
            continue
        if 0 < _value(entry) <= known.plausible[1] and _value(entry) >= known.plausible[0]:
            draws[entry.date][entry.loinc] = entry
    return dict(draws)


def _steady(code: str, draws: Sequence[Mapping[str, Observation]]) -> list[Observation]:
    """An analyte's values on some days, if they agree with each other."""
    course = [draw[code] for draw in draws if code in draw]
    values = [_value(entry) for entry in course]
    return course if _apart(max(values), min(values), code) <= JUMP else []


def _from_course(entry: Observation, course: Sequence[Observation]) -> float:
    """Widened deviations of a value from the patient's median."""
    middle = statistics.median(_value(other) for other in course)
    return _apart(_value(entry), middle, entry.loinc)


def _apart(one: float, two: float, loinc: str) -> float:
    """Distance of two values in widened deviations."""
    return abs(math.log(one / two)) / (WIDENED * WITHIN_SUBJECT[loinc] / 100.0)


# -- one day ---------------------------------------------------------------------------------


def _duplicates(record: PatientRecord) -> Iterator[Finding]:
    """One analyte twice on one day, further apart than a day explains."""
    for code, entries in _by_analyte(record).items():
        known = analyte(code)
        for one, two in combinations([entry for entry in entries if entry.date], 2):
            if one.date == two.date and known and _differ(_value(one), _value(two), known):
                yield Finding(
                    "duplicate", "duplicate", (("analyte", code),), _sources([one]),
                    _sources([two]), (UNSURE, UNSURE),
                )  # fmt: skip


def _differ(one: float, two: float, known: Analyte) -> bool:
    """Whether two values of a day cannot both be the patient's."""
    if known.is_scale:
        return one != two
    if known.loinc not in WITHIN_SUBJECT or known.loinc == "2345-7" or min(one, two) <= 0:
        return False  # glucose and pressure change within hours
    return _apart(one, two, known.loinc) > 2 * JUMP


def _derived(record: PatientRecord) -> Iterator[Finding]:
    """What follows from another value of the day; one finding a pair of analytes."""
    days: dict[dt.date, dict[str, Observation]] = defaultdict(dict)
    for entry in record.observations:
        if entry.date and entry.value and not entry.comparator:
            days[entry.date][entry.loinc] = entry
    for code, (needed, disagrees) in _FOLLOWS.items():
        found = [
            (day[code], day[needed[0]])
            for date, day in sorted(days.items())
            if {code, *needed} <= day.keys()
            and disagrees(record, date, {k: _value(o) for k, o in day.items()})
        ]
        if found:
            values = (("analyte", code), ("analyte_2", needed[0]))
            first, second = (_sources(side) for side in zip(*found, strict=True))
            yield Finding("derived", "derived", values, first, second, (UNSURE, UNSURE))


def _egfr(record: PatientRecord, day: dt.date, values: Mapping[str, float]) -> bool:
    """CKD-EPI 2021 (Inker, NEJM 2021), with room for older formulas and their race term."""
    age = record.age_on(day)
    if age is None or age < 18 or record.sex not in ("female", "male"):
        return False
    k, power = (0.7, -0.241) if record.sex == "female" else (0.9, -0.302)
    ratio = values["2160-0"] / k
    expected = 142.0 * min(ratio, 1.0) ** power * max(ratio, 1.0) ** -1.2 * 0.9938**age
    apart = abs(math.log(values["33914-3"] / expected))
    return apart > math.log(1.6) and abs(values["33914-3"] - expected) > 20


def _build(record: PatientRecord, day: dt.date, values: Mapping[str, float]) -> bool:
    """Body mass index from weight and height."""
    del record, day
    expected = values["29463-7"] / (values["8302-2"] / 100.0) ** 2
    return abs(math.log(values["39156-5"] / expected)) > math.log(1.15)


def _red_cells(record: PatientRecord, day: dt.date, values: Mapping[str, float]) -> bool:
    """Haemoglobin in the red cells, g/dL, which hardly varies among people."""
    del record, day
    return not 22 <= 100.0 * values["718-7"] / values["4544-3"] <= 44


# What follows, from what, and whether it does not.
_Disagrees = Callable[[PatientRecord, dt.date, Mapping[str, float]], bool]
_FOLLOWS: Mapping[str, tuple[tuple[str, ...], _Disagrees]] = {
    "33914-3": (("2160-0",), _egfr),
    "39156-5": (("29463-7", "8302-2"), _build),
    "4544-3": (("718-7",), _red_cells),
}


def _by_analyte(record: PatientRecord) -> dict[str, list[Observation]]:
    """Exact values of each analyte, as the record orders them."""
    found: dict[str, list[Observation]] = defaultdict(list)
    for entry in record.observations:
        if entry.value is not None and not entry.comparator:
            found[entry.loinc].append(entry)
    return found


def _value(entry: Observation) -> float:
    return 0.0 if entry.value is None else entry.value


def _sources(entries: Iterable[Observation]) -> tuple[Source, ...]:
    return tuple(Source("observation", entry.id) for entry in entries)
