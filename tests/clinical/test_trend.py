"""A course in numbers: latest value, slope, gaps."""

import datetime as dt
import random

import numpy as np
import pytest
from scipy.stats import linregress

from clinical.record import Observation
from clinical.trend import Course, course

FIRST = dt.date(2020, 1, 1)


def seen(value: float | None, days: int | None, loinc: str = "72106-8") -> Observation:
    """A value so many days after the first; None has no date."""
    day = None if days is None else FIRST + dt.timedelta(days=days)
    return Observation(f"{days}", loinc, "", value, "{score}", date=day)


def sums(*observations: Observation) -> Course:
    """A course that must be there."""
    found = course(observations)
    assert found is not None
    return found


def test_latest_span_and_longest_gap_are_in_years() -> None:
    """Two visits in the first months, then three years nothing."""
    found = sums(seen(29.0, 0), seen(28.0, 100), seen(24.0, 1200))
    assert found.latest == 24.0
    assert found.latest_date == FIRST + dt.timedelta(days=1200)
    assert (found.longest_gap_years, found.span_years) == pytest.approx(
        (1100 / 365.25, 1200 / 365.25)
    )
    assert found.number == 3


def test_slope_and_its_error_are_those_of_least_squares() -> None:
    """Against an independent implementation, over a noisy course."""
    rng = np.random.default_rng(0)
    days = sorted(rng.integers(0, 3000, 9).tolist())
    values = [float(28 - day / 400 + rng.normal()) for day in days]
    expected = linregress(np.array(days) / 365.25, values)
    found = sums(*map(seen, values, days))

    assert found.slope_per_year == pytest.approx(expected.slope)
    assert found.slope_error == pytest.approx(expected.stderr)


def test_two_visits_have_a_slope_but_no_error() -> None:
    """Two points always lie on a line, which does not make it certain."""
    found = sums(seen(28.0, 0), seen(26.0, 730))
    assert found.slope_per_year == pytest.approx(-1, abs=0.01)
    assert found.slope_error is None


def test_one_visit_has_neither() -> None:
    """Nor have two of one day, whose mean is the latest value."""
    assert sums(seen(24.0, 5)).slope_per_year is None
    found = sums(seen(24.0, 5), seen(26.0, 5))
    assert (found.latest, found.slope_per_year, found.span_years, found.number) == (25, None, 0, 2)


def test_the_order_of_the_observations_does_not_matter() -> None:
    """A file has any order."""
    visits = [seen(float(30 - n), 200 * n) for n in range(6)]
    expected = course(visits)
    random.Random(0).shuffle(visits)
    assert course(visits) == expected


def test_values_without_a_date_only_count() -> None:
    """Nobody knows where on the line they lie."""
    assert sums(seen(28.0, 0), seen(26.0, 730), seen(3.0, None)).number == 3
    undated = sums(seen(20.0, None), seen(22.0, None))
    assert (undated.latest, undated.latest_date, undated.slope_per_year) == (21.0, None, None)


def test_no_number_is_no_course_and_two_analytes_are_an_error() -> None:
    """A text says nothing of a slope, and no line goes through TSH and MMSE."""
    assert course([seen(None, 0)]) is None
    with pytest.raises(ValueError, match="one analyte, not of 3016-3, 72106-8"):
        course([seen(28.0, 0), seen(2.0, 9, "3016-3")])
