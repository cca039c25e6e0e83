"""How much a region has changed since a prior scan, and whether that is more than chance.

A difference between two scans of one brain is change and error of measurement. The error is
known from scans measured repeatedly (``weights/retest.json``, which ``benchmarks/retest.py``
writes); a change within it may be nothing at all.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from imaging.norms import Norms
from imaging.scan import DAYS_PER_YEAR, Acquisition

RETEST = Path(__file__).parent / "weights" / "retest.json"
LEAST_MONTHS = 6.0  # between scans: a rate divides the error by the time
LARGEST_HEAD_CHANGE = 0.04  # of ln(head size); an adult's skull does not change
_BAND = 1.96 * math.sqrt(2.0)  # 95 % of the differences between two measures of the same


@dataclass(frozen=True)
class Visit:
    """What was measured in one scan.

    Attributes:
        volumes_mm3: By region key; 0 where the region was not found.
        head_mm3: Everything inside the skull.
        acquisition: When and how it was scanned.
    """

    volumes_mm3: Mapping[str, float]
    head_mm3: float
    acquisition: Acquisition


@dataclass(frozen=True)
class Change:
    """Change of one region, percent per year of the mean of both volumes; below 0 it shrank.

    Attributes:
        region: Its key.
        per_year: What was measured.
        band: Half the width of the test-retest band: 95 of 100 differences without any change
            lie within it on either side of 0. None where the error is unknown.
        expected: Of healthy people of that age and sex, from people of different ages
            (cross-sectional, nobody was followed). None where there is no norm.
    """

    region: str
    per_year: float
    band: float | None
    expected: float | None

    @property
    def beyond_band(self) -> bool | None:
        """Is the change more than measuring twice explains? None where that is unknown."""
        return None if self.band is None else abs(self.per_year) > self.band


@dataclass(frozen=True)
class Course:
    """What happened between two scans.

    Attributes:
        years: Between them; None where a date is unknown.
        changes: One for each region found in both; none where there is no rate.
        why_not: In words, why there is no rate.
        cautions: In words, what the reader must know before believing a rate.
    """

    years: float | None
    changes: tuple[Change, ...] = ()
    why_not: str | None = None
    cautions: tuple[str, ...] = ()


def load_retest(path: Path = RETEST) -> dict[str, float]:
    """Standard deviation of ln(volume) over repeated measures by region key.

    Returns:
        Nothing where the file is absent; then no change has a band.
    """
    if not path.exists():
        return {}
    spread = json.loads(path.read_text()).get("sd_ln")
    numbers = isinstance(spread, dict) and all(
        isinstance(sd, float | int) and math.isfinite(sd) and sd >= 0 for sd in spread.values()
    )
    if not numbers:
        raise ValueError(
            f'{path.name}: "sd_ln" is not a table of region and standard deviation; '
            "write it again with python -m benchmarks.retest --write"
        )
    return {region: float(sd) for region, sd in spread.items()}


def percent_per_year(before_mm3: float, now_mm3: float, years: float) -> float:
    """Symmetrised change: percent of the mean of both volumes, per year.

    Example:
        >>> percent_per_year(3100.0, 2900.0, 2.0)
        -3.3333333333333335
    """
    return 200.0 * (now_mm3 - before_mm3) / (now_mm3 + before_mm3) / years


def follow(
    prior: Visit,
    now: Visit,
    norms: Norms,
    retest: Mapping[str, float],
    *,
    age_years: float | None,
    sex: str | None,
) -> Course:
    """Compare a scan with a prior one.

    Args:
        prior: The earlier scan.
        now: The later one.
        norms: For the change that age alone explains.
        retest: As `load_retest` gives it.
        age_years: At the later scan.
        sex: ``female`` or ``male``.
    """
    years = years_between(prior.acquisition.acquired_on, now.acquisition.acquired_on)
    why_not = _why_no_rate(prior, now, years)
    if why_not or years is None:
        return Course(years, why_not=why_not)
    middle_age = None if age_years is None else age_years - years / 2.0
    changes = []
    for region, volume in now.volumes_mm3.items():
        before = prior.volumes_mm3.get(region, 0.0)
        if min(before, volume) <= 0:
            continue
        sd = retest.get(region)
        changes.append(
            Change(
                region,
                percent_per_year(before, volume, years),
                None if sd is None else 100.0 * _BAND * sd / years,
                norms.expected_change(region, middle_age, sex),
            )
        )
    return Course(years, tuple(changes), cautions=_cautions(prior, now, retest))


def years_between(before: date | None, now: date | None) -> float | None:
    """Years from one day to another; None where one is unknown."""
    return None if before is None or now is None else (now - before).days / DAYS_PER_YEAR


def _why_no_rate(prior: Visit, now: Visit, years: float | None) -> str | None:
    """In words, why two scans give no rate; None where they do."""
    if years is None:
        return "no rate: the date of a scan is unknown"
    if years < 0:
        return "no rate: the scan called prior is the later one"
    if years * 12.0 < LEAST_MONTHS:
        return (
            f"no rate: the scans are {years * 12.0:.1f} months apart; under {LEAST_MONTHS:.0f} "
            "the error of measuring twice outweighs a year's change"
        )
    if min(prior.head_mm3, now.head_mm3) <= 0:
        return "no rate: a scan has no head size"
    change = math.log(now.head_mm3 / prior.head_mm3)
    if abs(change) > LARGEST_HEAD_CHANGE:
        return (
            f"no rate: head size differs by {abs(100.0 * math.expm1(change)):.0f} %, which no "
            "adult's does; one scan is of another person, scaled otherwise or badly segmented"
        )
    return None


def _cautions(prior: Visit, now: Visit, retest: Mapping[str, float]) -> tuple[str, ...]:
    """What a rate does not allow for."""
    said = []
    if not retest:
        said.append("the error of measuring twice is unknown: no change can be told from chance")
    a, b = prior.acquisition, now.acquisition
    changed = [
        words
        for words, before, after in (
            ("field strength", _nominal(a.field_strength_t), _nominal(b.field_strength_t)),
            ("vendor", a.manufacturer, b.manufacturer),
            ("sequence", a.sequence, b.sequence),
        )
        if before is not None and after is not None and before != after
    ]
    if changed:
        said.append(f"the scans differ in {', '.join(changed)}: that alone can change volumes")
    return tuple(said)


def _nominal(tesla: float | None) -> float | None:
    """Field strength as the magnet is sold: headers say 2.89 of 3 T."""
    return None if tesla is None else round(2.0 * tesla) / 2.0
