"""The grade of a scan, on a phantom head whose every fault is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float

from benchmarks.quality import judge, moved, rician
from imaging.check import LIMITS, ScanCheck, _finding, check
from imaging.labelled import has_both_sides, read_pair
from imaging.regions import REGION_INDEX, REGIONS, Segmentation
from imaging.scan import Scan

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
WHITE = 0.6
Voxels = Float[np.ndarray, "i j k"]


def head(size: float = 1.0, seed: int = 0) -> tuple[Voxels, np.ndarray]:
    """Ellipsoids of white matter, cortex, fluid, skull and scalp; voxels and region map."""
    shape = (72, 88, 72)
    axes = np.meshgrid(*(np.arange(n) - (n - 1) / 2 for n in shape), indexing="ij")
    i, j, k = (a / (r * size) for a, r in zip(axes, (28, 34, 28), strict=True))
    radius = np.sqrt(i**2 + j**2 + k**2)
    cortex = np.where(j > 0.1, "frontal cortex", "parietal cortex")
    cortex = np.where(k < -0.3, "temporal cortex", cortex)
    cortex = np.where(j < -0.6, "occipital cortex", cortex)
    name = np.where(radius < 0.8, "cerebral white matter", cortex)
    name = np.where(radius < 0.25, "lateral ventricle", name)
    name = np.where((k < -0.4) & (j < 0.1), "cerebellum", name)
    key = np.char.add(np.where(i < 0, "left ", "right "), name)
    key = np.where((k < -0.5) & (abs(j) < 0.2), "brain stem", key)
    region_map = np.zeros(shape, dtype=np.uint8)
    for one in np.unique(key):
        region_map[(key == one) & (radius < 1.0)] = REGION_INDEX[one] + 1
    voxels = np.select(
        [radius < 0.25, radius < 0.8, radius < 1.0, radius < 1.08, radius < 1.2],
        [0.15, WHITE, 0.4, 0.1, 0.8],
        0.0,
    )
    noise = np.random.default_rng(seed).normal(0, 0.006, shape)
    return np.abs(voxels + noise).astype(np.float32), region_map


def graded(
    voxels: Voxels, region_map: np.ndarray, confidence: float = 1.0, affine: np.ndarray = AFFINE
) -> ScanCheck:
    """The check of voxels that need no preparation."""
    scan = Scan(voxels.astype(np.float32), affine)
    known = np.full(len(REGIONS), confidence, dtype=np.float32)
    features = np.zeros((len(REGIONS), 1), dtype=np.float32)
    return check(scan, scan, Segmentation(region_map.astype(np.uint8), affine, features, known))


def kinds(result: ScanCheck) -> set[str]:
    """What was found."""
    return {finding.kind for finding in result.findings}


def test_a_good_scan_has_no_finding_and_the_full_grade() -> None:
    """Nothing is said, nothing lost, and every measure is there to be shown."""
    result = graded(*head())
    assert result.findings == ()
    assert result.quality == 1.0
    assert set(result.measures) == set(result.shares) == set(LIMITS)


@pytest.mark.parametrize("blackened", [False, True], ids=["air", "no air"])
def test_noise_is_measured_whatever_became_of_the_air(*, blackened: bool) -> None:
    """Noise of 8 % of white matter under a strong bias field is found to be 8 %."""
    voxels, region_map = head()
    ramp = np.exp(np.linspace(-0.4, 0.4, voxels.shape[1]))[None, :, None]
    noisy = voxels * ramp + np.random.default_rng(1).normal(0, 0.08 * WHITE, voxels.shape)
    result = graded(np.where(region_map > 0, noisy, 0.0) if blackened else noisy, region_map)
    assert result.measures["noise"] == pytest.approx(0.08, rel=0.1)
    assert "noise" in kinds(result)


def test_more_motion_leaves_more_ghosts() -> None:
    """From half a degree to eight; a still head has none."""
    voxels, region_map = head()
    turned = [moved(voxels, d, np.random.default_rng(3)) for d in (0.5, 2.0, 8.0)]
    results = [graded(v, region_map) for v in (voxels, *turned)]
    ghosts = [result.measures["ghosts"] for result in results]
    assert ghosts == sorted(ghosts)
    assert "motion" in kinds(results[-1])
    assert results[-1].measures["sharpness"] < results[0].measures["sharpness"]


def test_a_small_head_is_not_taken_for_a_moved_one() -> None:
    """Four fifths of the size changes neither sharpness nor ghosts by much."""
    large, small = graded(*head()), graded(*head(0.8))
    assert small.measures["sharpness"] == pytest.approx(large.measures["sharpness"], rel=0.1)
    assert small.measures["ghosts"] == pytest.approx(large.measures["ghosts"], abs=0.01)
    assert small.quality == 1.0


@pytest.mark.parametrize("padded", [True, False])
def test_a_cut_is_found_whether_or_not_it_was_padded(*, padded: bool) -> None:
    """The top of the brain is missing; the file ends there or goes on with zeros."""
    voxels, region_map = head()
    if padded:
        voxels[:, :, 50:], region_map[:, :, 50:] = 0.0, 0
    else:
        voxels, region_map = voxels[:, :, :50].copy(), region_map[:, :, :50].copy()
    result = graded(voxels, region_map)
    assert kinds(result) == {"coverage"}
    assert 0.0 < result.quality < 0.7


def test_a_brain_without_its_skull_is_not_cut() -> None:
    """All around it is zero, and it ends where it ends."""
    voxels, region_map = head()
    assert graded(np.where(region_map > 0, voxels, 0.0), region_map).findings == ()


def test_a_missing_cerebellum_is_named() -> None:
    """It was outside the field of view, or the network did not find it."""
    voxels, region_map = head()
    region_map[
        np.isin(region_map, [REGION_INDEX[f"{s} cerebellum"] + 1 for s in ("left", "right")])
    ] = 0
    result = graded(voxels, region_map)
    messages = [f.message for f in result.findings if f.kind == "coverage"]
    assert len(messages) == 1
    assert "left cerebellum" in messages[0]
    assert "right cerebellum" in messages[0]
    assert 0.0 < result.quality < 1.0


def test_a_scan_that_is_not_t1_weighted_counts_as_absent() -> None:
    """Grey matter and fluid brighter than white: quality is exactly 0 and says why."""
    voxels, region_map = head()
    result = graded(np.where(voxels > 0.1, 1.0 - voxels, voxels), region_map)
    assert result.quality == 0.0
    assert {"contrast", "sequence"} <= kinds(result)
    assert any("counts as absent" in f.message for f in result.findings)


def test_a_noisier_scan_is_kept_and_weighs_less() -> None:
    """The grade falls step by step with the noise and reaches 0 only when nothing is left."""
    voxels, region_map = head()
    grades = [
        graded(rician(voxels, s, np.random.default_rng(0)), region_map).quality
        for s in (0.0, 0.15, 0.25, 0.35)
    ]
    assert grades == sorted(set(grades), reverse=True)
    assert grades[-1] > 0.0


def test_thick_slices_are_found() -> None:
    """Slices of 6 mm halve the grade or worse."""
    result = graded(*head(), affine=AFFINE @ np.diag([1, 1, 3.0, 1]))
    assert "resolution" in kinds(result)
    assert result.quality < 0.5


def test_regions_the_network_is_unsure_of_are_named() -> None:
    """One unreliable region is named and costs little; an unsure network costs the grade."""
    voxels, region_map = head()
    sure = np.full(len(REGIONS), 0.95, dtype=np.float32)
    sure[REGION_INDEX["left cerebellum"]] = 0.3
    scan, features = Scan(voxels, AFFINE), np.zeros((len(REGIONS), 1), dtype=np.float32)
    one = check(scan, scan, Segmentation(region_map, AFFINE, features, sure))
    assert [f.message for f in one.findings if "left cerebellum" in f.message]
    assert one.quality == 1.0
    assert graded(voxels, region_map, confidence=0.5).quality < 0.5


def test_nothing_found_is_nothing_to_use() -> None:
    """A region map without a region is no evidence, and no crash."""
    voxels, region_map = head()
    assert graded(voxels, region_map * 0).quality == 0.0


def test_every_finding_says_what_to_do() -> None:
    """No message keeps a placeholder, and each is one sentence with an advice."""
    for name, limit in LIMITS.items():
        said = limit.message.format(value=limit.fine, names="left cerebellum")
        assert "{" not in said, name
        assert said.endswith("."), name
        assert any(word in said for word in ("repeat", "check", "choose", "prefer", "use")), name


def test_real_scans_pass_and_their_ruins_do_not() -> None:
    """Three healthy adults: no finding when clean, a lower grade when noisy or moved."""
    data = Path(__file__).resolve().parents[3] / "shared" / "data" / "ixi_t1_2mm"
    if not data.is_dir():
        pytest.skip("the folder of real data, ../shared/data, is absent")
    for path in sorted((data / "t1").iterdir())[:12:4]:
        scan, region_map = read_pair(data, path.name.removesuffix(".nii.gz"))
        assert has_both_sides(region_map)
        assert judge(scan, region_map, None).findings == ()
        rng = np.random.default_rng(0)
        for ruin in (rician(scan.voxels, 0.2, rng), moved(scan.voxels, 8.0, rng)):
            spoilt = judge(replace(scan, voxels=ruin), region_map, None)
            assert spoilt.findings
            assert 0.0 < spoilt.quality < 1.0


def test_a_slight_fault_is_named_without_asking_for_another_scan() -> None:
    """Nine tenths of the grade left: the fault alone; half of it: what to do as well."""
    slight, plain = (
        _finding("noise", value, LIMITS["noise"].share(value), {}) for value in (0.075, 0.2)
    )
    assert slight is not None
    assert plain is not None
    assert slight.message.endswith("but only slightly.")
    assert "repeat it" in plain.message
