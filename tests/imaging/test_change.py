"""A change between two scans is told from the error of measuring twice, or not at all."""

import json
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from imaging.change import RETEST, Course, Visit, follow, load_retest, percent_per_year
from imaging.norms import load_norms
from imaging.scan import Acquisition

FIRST = Acquisition(1.5, "philips", "gradient echo", acquired_on=date(2023, 3, 1))
RETEST_SD = {"left hippocampus": 0.01}


def visit(volume_mm3: float, months: float, head_mm3: float = 1.4e6) -> Visit:
    """One region measured some months after the first scan."""
    day = date(2023, 3, 1) + timedelta(days=round(months * 365.25 / 12))
    return Visit({"left hippocampus": volume_mm3}, head_mm3, replace(FIRST, acquired_on=day))


def course(prior: Visit, now: Visit, retest: dict[str, float] = RETEST_SD) -> Course:
    """Between two visits of a woman of 70."""
    return follow(prior, now, load_norms(), retest, age_years=70.0, sex="female")


def test_a_region_that_shrinks_has_a_negative_rate() -> None:
    """Percent of the mean of both, so that the way back is as long as the way there."""
    (change,) = course(visit(3100.0, 0), visit(2900.0, 24)).changes
    assert change.per_year == pytest.approx(-3.333, abs=0.01)
    assert percent_per_year(2900.0, 3100.0, 2.0) == pytest.approx(-change.per_year, abs=0.01)


def test_only_a_change_beyond_the_band_counts() -> None:
    """Two measures of 1 % each differ by less than 2.77 % in 95 of 100 pairs."""
    (small,) = course(visit(3000.0, 0), visit(2920.0, 12)).changes
    (large,) = course(visit(3000.0, 0), visit(2910.0, 12)).changes
    assert small.band == pytest.approx(2.77, abs=0.01)
    assert (small.beyond_band, large.beyond_band) == (False, True)


def test_the_band_of_a_rate_narrows_with_time() -> None:
    """The error is made twice, however long the time between."""
    one, three = (course(visit(3000.0, 0), visit(2900.0, m)).changes[0] for m in (12, 36))
    assert one.band == pytest.approx(3.0 * three.band, rel=0.01)


def test_healthy_ageing_stands_beside_the_rate() -> None:
    """At 69, the middle of the two years before 70."""
    (change,) = course(visit(3100.0, 0), visit(2900.0, 24)).changes
    at_middle = load_norms().expected_change("left hippocampus", 69.0, "female")
    assert at_middle is not None
    assert at_middle < 0
    assert change.expected == pytest.approx(at_middle, abs=1e-3)


def test_without_a_retest_no_change_is_told_from_chance() -> None:
    """The rate is given, its meaning is not."""
    unknown = course(visit(3100.0, 0), visit(2900.0, 24), {})
    assert unknown.changes[0].band is None
    assert unknown.changes[0].beyond_band is None
    assert "no change can be told" in unknown.cautions[0]


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (visit(2900.0, 4), "4.0 months apart"),
        (visit(2900.0, -24), "the later one"),
        (visit(2900.0, 24, head_mm3=1.5e6), "head size differs by 7 %"),
        (replace(visit(2900.0, 24), acquisition=Acquisition()), "date of a scan is unknown"),
    ],
)
def test_scans_that_cannot_be_compared_say_why(now: Visit, reason: str) -> None:
    """Too soon, the wrong way round, another head, no date."""
    refused = course(visit(3100.0, 0), now)
    assert refused.changes == ()
    assert reason in refused.why_not


def test_a_changed_scanner_is_pointed_out() -> None:
    """It can change volumes more than a year does; 2.89 T is a 3 T magnet."""
    now = visit(2900.0, 24)
    other = replace(now, acquisition=replace(now.acquisition, field_strength_t=2.89))
    assert course(visit(3100.0, 0), now).cautions == ()
    assert "field strength" in course(visit(3100.0, 0), other).cautions[0]


def test_a_region_lost_in_one_scan_has_no_rate() -> None:
    """A failed segmentation is not atrophy."""
    assert course(visit(3100.0, 0), visit(0.0, 24)).changes == ()


def test_a_retest_table_is_read_or_refused(tmp_path: Path) -> None:
    """Absent is no band; broken is an error that says what to do."""
    path = tmp_path / RETEST.name
    assert load_retest(path) == {}
    path.write_text(json.dumps({"sd_ln": RETEST_SD}))
    assert load_retest(path) == RETEST_SD
    path.write_text(json.dumps({"sd_ln": {"left hippocampus": "wide"}}))
    with pytest.raises(ValueError, match=r"benchmarks.retest --write"):
        load_retest(path)
