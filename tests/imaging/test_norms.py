"""Norms know what age, sex and head size do to a brain, how sure that is, and where they end."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float

from imaging.fit_norms import Brains, fit_norm, fit_norms, link_to_network, pool, read_ixi
from imaging.norms import NORMS, SEXES, Norms, asymmetry, load_norms, volume_rows, write_norms
from imaging.regions import REGION_INDEX, REGIONS

HEAD_MM3 = 1.4e6
HIPPOCAMPUS = "left hippocampus"
VENTRICLE = REGION_INDEX["left lateral ventricle"]


@pytest.fixture(scope="module")
def norms() -> Norms:
    """What ships."""
    return load_norms()


def simulated(n: int, seed: int = 0) -> Brains:
    """People whose left hippocampus shrinks by 4 % a decade and left ventricle grows by 30 %.

    Everybody under 40 is scanned at the second hospital, where hippocampi come out larger.
    """
    rng = np.random.default_rng(seed)
    age, sex = rng.uniform(20, 85, n), rng.choice([-0.5, 0.5], n)
    second = (age < 40) | (rng.random(n) < 0.3)
    head = rng.normal(0, 0.1, n)
    course = np.zeros(len(REGIONS))
    course[[REGION_INDEX[HIPPOCAMPUS], VENTRICLE]] = -0.04, 0.3
    logs = np.linspace(6, 11, len(REGIONS)) + (age[:, None] - 55) / 10 * course
    logs = logs + head[:, None] + 0.1 * sex[:, None]
    logs[:, REGION_INDEX[HIPPOCAMPUS]] += 0.15 * second
    volumes = np.exp(logs + rng.normal(0, 0.1, logs.shape))
    return Brains(
        tuple(f"P{seed}-{i}" for i in range(n)),
        tuple(np.where(second, "second", "first")),
        age,
        sex,
        volumes,
    )


def centiles(norms: Norms, brains: Brains) -> Float[np.ndarray, "person region"]:
    """Of everybody's regions; NaN outside the ages."""
    words = {number: sex for sex, number in SEXES.items()}
    people = zip(brains.volumes_mm3, brains.head_mm3, brains.age_years, brains.sex, strict=True)
    rows = [
        [
            norms.centile(region.key, float(mm3), float(head), float(age), words[float(sex)])
            for region, mm3 in zip(REGIONS, volumes, strict=True)
        ]
        for volumes, head, age, sex in people
    ]
    return np.array(rows, dtype=float)


def tenths(found: Float[np.ndarray, "person region"]) -> Float[np.ndarray, " 10"]:
    """Share of the centiles in each tenth."""
    counts, _ = np.histogram(found[np.isfinite(found)], bins=10, range=(0, 100))
    return np.asarray(counts / counts.sum())


def test_a_known_course_is_found_again() -> None:
    """Though only one hospital scanned the young, and measures otherwise."""
    norms = fit_norms(simulated(800), n_bootstrap=2)
    for key, percent in ((HIPPOCAMPUS, -0.4), ("left lateral ventricle", 3.0)):
        assert norms.expected_change(key, 55.0, "female") == pytest.approx(percent, abs=0.35)
    assert norms.regions[HIPPOCAMPUS].sd == pytest.approx(0.1, abs=0.01)
    assert norms.regions[HIPPOCAMPUS].hospital_sd == pytest.approx(0.15 / 2**0.5, abs=0.03)


def test_the_interval_holds_the_true_centile() -> None:
    """In about 95 of 100 groups of people drawn from the same population."""
    held = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        rows = volume_rows(
            rng.uniform(-30, 30, 150), rng.normal(0, 0.1, 150), rng.choice([-0.5, 0.5], 150)
        )
        values = rows @ np.array([8.0, -0.05, -0.01, 0.02, 0.7]) + rng.normal(0, 0.1, 150)
        norm = fit_norm(values, rows, np.full(150, "one"), 100, seed)
        patient, truth = np.array([[1.0, 2.0, 4.0, 0.5, 0.0]]), -1.5
        measured = 8.0 - 0.1 - 0.04 + 0.01 + truth * 0.1
        z = (measured - float(norm.expected(patient)[0])) / norm.total_sd
        held += abs(z - truth) < 1.96 * float(norm.error(patient, z)[0])
    assert 34 <= held <= 40


def test_centiles_are_uniform_in_people_not_seen(data: Path) -> None:
    """A tenth of the people lie in each tenth."""
    brains = read_ixi(data / "ixi_volumes", data / "ixi_t1_2mm")
    unseen = np.arange(len(brains.ids)) % 3 == 0
    norms = fit_norms(brains.some(~unseen), n_bootstrap=2)
    np.testing.assert_allclose(tenths(centiles(norms, brains.some(unseen))), 0.1, atol=0.03)


def test_nobody_counts_twice(data: Path) -> None:
    """291 people of one table, 146 of the other, 76 in both, one without two sides."""
    brains = read_ixi(data / "ixi_volumes", data / "ixi_t1_2mm")
    people = [person.split("-")[0] for person in brains.ids]
    assert len(set(people)) == len(people) == 291 + 146 - 76 - 1
    assert "IXI256" not in people


def test_a_coarser_table_is_brought_to_the_scale_of_the_first() -> None:
    """By those whom both measured; with the first's volumes for them."""
    everybody = simulated(400)
    first = everybody.some(np.arange(400) < 250)
    coarse = replace(everybody, volumes_mm3=everybody.volumes_mm3**0.9 * 1.3)
    pooled = pool(first, coarse.some(np.arange(400) >= 100))
    assert pooled.ids == everybody.ids
    np.testing.assert_allclose(pooled.volumes_mm3, everybody.volumes_mm3, rtol=1e-6)


def test_norms_follow_a_network_that_measures_otherwise() -> None:
    """Larger, with error, and everybody a little alike: a tenth still lies in each tenth."""
    rng = np.random.default_rng(1)
    brains = simulated(600)
    middle = np.log(brains.volumes_mm3).mean(axis=0)
    ours = middle + 0.3 + 0.8 * (np.log(brains.volumes_mm3) - middle)
    ours = np.exp(ours + rng.normal(0, 0.05, ours.shape))
    measured = dict(zip(brains.ids[:300], ours[:300], strict=True))
    norms = link_to_network(fit_norms(brains, n_bootstrap=2), brains, measured)
    seen_by_network = replace(brains, volumes_mm3=ours).some(np.arange(600) >= 300)
    assert norms.head_offset == pytest.approx(0.3, abs=0.1)
    np.testing.assert_allclose(tenths(centiles(norms, seen_by_network)), 0.1, atol=0.03)


def test_a_curve_and_a_centile_agree(norms: Norms) -> None:
    """The volume on the tenth centile's curve is at the tenth centile."""
    volumes, low, high = norms.curve(HIPPOCAMPUS, 10.0, HEAD_MM3, "male", np.array([30.0, 70.0]))
    for age, volume in zip((30.0, 70.0), volumes, strict=True):
        found = norms.centile(HIPPOCAMPUS, float(volume), HEAD_MM3, age, "male")
        assert found == pytest.approx(10.0, abs=1e-6)
    assert (low < volumes).all()
    assert (volumes < high).all()


@pytest.mark.parametrize("region", [HIPPOCAMPUS, "left lateral ventricle", "third ventricle"])
def test_more_volume_is_a_higher_centile(norms: Norms, region: str) -> None:
    """Also far outside what healthy people have."""
    z = [norms.z(region, mm3, HEAD_MM3, 70.0, "female") for mm3 in np.geomspace(10, 3e5, 50)]
    assert np.all(np.diff(np.array(z, dtype=float)) > 0)


def test_ventricles_widen_and_hippocampi_shrink_with_age(norms: Norms) -> None:
    """Between 50 and 79, as every atlas of ageing has it."""
    ages = np.array([50.0, 79.0])
    for side in ("left", "right"):
        for name, low, high in (("lateral ventricle", 1.5, 5.0), ("hippocampus", 0.75, 0.97)):
            then, now = norms.curve(f"{side} {name}", 50.0, HEAD_MM3, "female", ages)[0]
            assert low < now / then < high


def width(norms: Norms, age_years: float, sex: str = "male") -> float:
    """Of the interval of the tenth centile."""
    volume = norms.curve(HIPPOCAMPUS, 10.0, HEAD_MM3, sex, np.array([age_years]))[0]
    interval = norms.interval(HIPPOCAMPUS, float(volume[0]), HEAD_MM3, age_years, sex)
    assert interval is not None
    assert interval[0] < 10.0 < interval[1]
    return interval[1] - interval[0]


def test_a_centile_is_less_certain_at_the_edge_of_the_ages(norms: Norms) -> None:
    """And the page can say why."""
    assert width(norms, 79.0) > 1.4 * width(norms, 60.0)
    assert norms.caution(60.0, "male") is None
    assert "11 are men aged 70 to 79" in str(norms.caution(79.0, "male"))


@pytest.mark.parametrize(
    ("age_years", "sex", "reason"),
    [
        (None, "female", "age at the scan is unknown"),
        (8.0, "female", "from 21 to 82 years, the patient is 8"),
        (90.0, "male", "from 20 to 79 years, the patient is 90"),
        (60.0, None, "need the sex"),
        (60.0, "other", "need the sex"),
    ],
)
def test_without_a_norm_there_is_a_reason_instead(
    norms: Norms, age_years: float | None, sex: str | None, reason: str
) -> None:
    """Nothing is extrapolated, and no sex assumed."""
    asked = (HIPPOCAMPUS, 3500.0, HEAD_MM3, age_years, sex)
    assert norms.z(*asked) is norms.centile(*asked) is norms.interval(*asked) is None
    assert reason in str(norms.why_not(age_years, sex))
    assert norms.expected_change(HIPPOCAMPUS, age_years, sex) is None


def test_a_curve_ends_where_the_norms_end(norms: Norms) -> None:
    """No line is drawn through ages of nobody."""
    volumes, _, _ = norms.curve(HIPPOCAMPUS, 50.0, HEAD_MM3, "male", np.array([10.0, 50.0, 90.0]))
    assert np.isfinite(volumes).tolist() == [False, True, False]


def test_an_unmeasured_region_has_no_centile(norms: Norms) -> None:
    """Neither a region of nothing nor one that nobody knows."""
    assert norms.z(HIPPOCAMPUS, 0.0, HEAD_MM3, 60.0, "female") is None
    assert norms.z("left antenna", 100.0, HEAD_MM3, 60.0, "female") is None


def test_asymmetry_is_above_zero_where_the_left_is_larger(norms: Norms) -> None:
    """And so is its centile above the right-leaning one's."""
    assert asymmetry(3300.0, 2700.0) == pytest.approx(0.2)
    leans = [
        norms.asymmetry_centile("hippocampus", left, right, 60.0)
        for left, right in ((2700.0, 3300.0), (3000.0, 3000.0), (3300.0, 2700.0))
    ]
    assert np.all(np.diff(np.array(leans, dtype=float)) > 5)
    assert norms.asymmetry_centile("hippocampus", 0.0, 3000.0, 60.0) is None
    assert norms.asymmetry_centile("hippocampus", 3000.0, 3000.0, 95.0) is None


def test_norms_say_whose_brains_they_are(norms: Norms) -> None:
    """The licence asks for the name; the physician for number and ages."""
    assert "brain-development.org" in norms.source
    assert "CC BY-SA 3.0" in norms.source
    assert norms.n == 360
    assert set(norms.regions) == {region.key for region in REGIONS}
    assert set(norms.asymmetries) == {region.name for region in REGIONS if region.side == "left"}


def test_norms_come_back_as_written(norms: Norms, tmp_path: Path) -> None:
    """To six digits, in a small file."""
    write_norms(norms, tmp_path / "norms.json")
    assert load_norms(tmp_path / "norms.json") == norms
    assert NORMS.stat().st_size < 300_000
