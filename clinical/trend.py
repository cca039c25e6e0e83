"""The course of one analyte in numbers: latest value, slope, gaps.

For the page and for plain statistics; the network's own view of a course is `clinical.lab_encoder`.
"""

import datetime as dt
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from clinical.record import DAYS_PER_YEAR, Observation


@dataclass(frozen=True)
class Course:
    """What the values of one analyte say over time.

    Attributes:
        latest: The newest value, in the analyte's unit; the mean of that day's.
        latest_date: Its day; None where no value has one.
        slope_per_year: Change in a year, by least squares; None with fewer than two days.
        slope_error: Standard error of the slope; None with fewer than three values, since two
            points always lie on a line.
        longest_gap_years: Longest time between two days with a value; 0 for a single day.
        span_years: From the first day to the last.
        number: Values, those without a date included.
    """

    latest: float
    latest_date: dt.date | None
    slope_per_year: float | None
    slope_error: float | None
    longest_gap_years: float
    span_years: float
    number: int


def course(observations: Iterable[Observation]) -> Course | None:
    """Sum up the values of one analyte.

    Args:
        observations: Of one analyte, in any order. Those without a number say nothing; those
            without a date only count.

    Returns:
        None where there is no number at all.

    Raises:
        ValueError: They are of several analytes.

    Example:
        >>> days = [dt.date(year, 6, 1) for year in (2020, 2022, 2024)]
        >>> visits = [
        ...     Observation("o", "72106-8", "MMSE", value, "{score}", date=day)
        ...     for day, value in zip(days, (28.0, 26.0, 24.0))
        ... ]
        >>> found = course(visits)
        >>> found.latest, round(found.slope_per_year, 2), round(found.longest_gap_years)
        (24.0, -1.0, 2)
    """
    measured = [visit for visit in observations if visit.value is not None]
    if len(codes := sorted({visit.loinc for visit in measured})) > 1:
        raise ValueError(f"a course is of one analyte, not of {', '.join(codes)}: sort them first")
    if not measured:
        return None
    dated = sorted(
        (v.date, v.value) for v in measured if v.date is not None and v.value is not None
    )
    if not dated:
        latest = statistics.fmean(v.value for v in measured if v.value is not None)
        return Course(latest, None, None, None, 0.0, 0.0, len(measured))
    last = dated[-1][0]
    years = [(day - last).days / DAYS_PER_YEAR for day, _ in dated]
    slope, error = _line(years, [value for _, value in dated])
    gaps = [later - earlier for earlier, later in pairwise(years)]
    latest = statistics.fmean(value for day, value in dated if day == last)
    return Course(latest, last, slope, error, max(gaps, default=0.0), -years[0], len(measured))


def _line(years: Sequence[float], values: Sequence[float]) -> tuple[float | None, float | None]:
    """Slope and its standard error, each where there is enough to tell it."""
    if years[0] == years[-1]:
        return None, None
    slope, level = statistics.linear_regression(years, values)
    if len(years) < 3:
        return slope, None
    left = sum((v - level - slope * t) ** 2 for t, v in zip(years, values, strict=True))
    middle = statistics.fmean(years)
    spread = sum((t - middle) ** 2 for t in years)
    return slope, math.sqrt(left / (len(years) - 2) / spread)
