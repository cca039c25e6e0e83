"""Norms know what age, sex and head size do to a brain, and where they end."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imaging.norms import Norms, centile, fit_norms, load_norms, read_tables, write_norms
from imaging.regions import REGIONS

HEAD_MM3 = 1.4e6


@pytest.fixture(scope="module")
def norms() -> Norms:
    """What ships."""
    return load_norms()


def middle_mm3(norms: Norms, region: str, age_years: float, sex: str = "female") -> float:
    """The volume whose centile is 50."""
    low, high = 1.0, HEAD_MM3
    while high / low > 1.0001:
        middle = (low * high) ** 0.5
        z = norms.z(region, middle, HEAD_MM3, age_years, sex)
        low, high = (middle, high) if z is not None and z < 0 else (low, middle)
    return low


def test_half_of_healthy_people_have_less_than_the_middle(norms: Norms) -> None:
    """No deviation is the 50th centile; one standard deviation less the 16th."""
    volume = middle_mm3(norms, "left hippocampus", 65.0)
    sd = norms.regions["left hippocampus"].sd
    smaller = norms.centile("left hippocampus", volume * math.exp(-sd), HEAD_MM3, 65.0, "female")
    assert norms.centile("left hippocampus", volume, HEAD_MM3, 65.0, "female") == pytest.approx(
        50, abs=0.1
    )
    assert smaller == pytest.approx(15.87, abs=0.1)


def test_ventricles_widen_and_hippocampi_shrink_with_age(norms: Norms) -> None:
    """Between 50 and 80, as every atlas of ageing has it."""
    for side in ("left", "right"):
        ventricle = [middle_mm3(norms, f"{side} lateral ventricle", age) for age in (50.0, 80.0)]
        hippocampus = [middle_mm3(norms, f"{side} hippocampus", age) for age in (50.0, 80.0)]
        assert ventricle[1] > 1.5 * ventricle[0]
        assert 0.75 * hippocampus[0] < hippocampus[1] < 0.97 * hippocampus[0]


@pytest.mark.parametrize("age_years", [None, 8.0, 39.0, 90.0])
def test_an_age_without_norm_has_no_centile(norms: Norms, age_years: float | None) -> None:
    """Nothing is extrapolated."""
    assert norms.z("left hippocampus", 3500.0, HEAD_MM3, age_years, "female") is None
    assert centile("left hippocampus", 3500.0, HEAD_MM3, age_years, "female") is None


@pytest.mark.parametrize("sex", [None, "other", "unknown"])
def test_an_unknown_sex_has_no_centile(norms: Norms, sex: str | None) -> None:
    """Nor is a sex assumed."""
    assert norms.z("left hippocampus", 3500.0, HEAD_MM3, 60.0, sex) is None


def test_an_unmeasured_region_has_no_centile(norms: Norms) -> None:
    """Neither a region of nothing nor one that nobody knows."""
    assert norms.z("left hippocampus", 0.0, HEAD_MM3, 60.0, "female") is None
    assert norms.z("left antenna", 100.0, HEAD_MM3, 60.0, "female") is None


def test_norms_say_whose_brains_they_are(norms: Norms) -> None:
    """The licence asks for the name; the physician for number and ages."""
    assert "brain-development.org" in norms.source
    assert "CC BY-SA 3.0" in norms.source
    assert norms.n == 291
    assert set(norms.regions) == {region.key for region in REGIONS}


def test_norms_come_back_as_written(norms: Norms, tmp_path: Path) -> None:
    """To six digits."""
    write_norms(norms, tmp_path / "norms.json")
    assert load_norms(tmp_path / "norms.json") == norms


def test_centiles_are_uniform_in_healthy_people(data: Path) -> None:
    """A tenth of the people lie in each tenth, in those the regression has not seen."""
    brains = read_tables(data / "ixi_volumes")
    seen = np.arange(len(brains.ids)) % 3 > 0
    norms = fit_norms(
        replace(
            brains,
            ids=tuple(np.array(brains.ids)[seen]),
            age_years=brains.age_years[seen],
            sex=brains.sex[seen],
            head_mm3=brains.head_mm3[seen],
            volumes_mm3=brains.volumes_mm3[seen],
        )
    )
    centiles = [
        norms.centile(
            region.key,
            float(volume),
            float(brains.head_mm3[n]),
            float(brains.age_years[n]),
            sex_of(brains.sex[n]),
        )
        for n in np.flatnonzero(~seen)
        for region, volume in zip(REGIONS, brains.volumes_mm3[n], strict=True)
    ]
    shares, _ = np.histogram([c for c in centiles if c is not None], bins=10, range=(0, 100))
    np.testing.assert_allclose(shares / shares.sum(), 0.1, atol=0.035)


def sex_of(number: float) -> str:
    """The word for the regression's number."""
    return "male" if number > 0 else "female"
