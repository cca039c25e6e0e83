"""The accuracy benchmarks measure what they say, on heads whose answer is known."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import segmented
from benchmarks.brain_age import folds_of, predicted
from benchmarks.retakes import (
    RETEST,
    TRANSFER,
    carried,
    draw,
    file_stem,
    grid_around,
    random_turn,
    regridded,
)
from benchmarks.retest import scatter
from benchmarks.segmentation import correlation, difference
from imaging.regions import REGIONS, Segmentation
from imaging.scan import Scan

SHAPE = (40, 44, 36)
BALL_MM = np.array([-9.0, 6.0, 4.0])


def ball() -> Scan:
    """A soft ball on the left of a grid of 2 mm whose middle is the origin."""
    affine = grid_around(np.zeros(3), np.diag([2.0, 2.0, 2.0]), SHAPE)
    world = np.moveaxis(np.indices(SHAPE), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    distance = np.linalg.norm(world - BALL_MM, axis=-1)
    return Scan((100 / (1 + np.exp((distance - 14) / 2))).astype(np.float32), affine)


def middle_mm(scan: Scan) -> np.ndarray:
    """World coordinates of the middle of all brightness."""
    weights = np.where(scan.voxels > 20, scan.voxels, 0)
    voxel = np.array([np.average(n, weights=weights) for n in np.indices(weights.shape)])
    middle: np.ndarray = scan.affine[:3, :3] @ voxel + scan.affine[:3, 3]
    return middle


@pytest.mark.parametrize("change", {**RETEST, **TRANSFER})
def test_a_retake_moves_nothing_in_the_head(change: str) -> None:
    """A ball keeps its place and its brightness in all; only a bias field may shift either."""
    retake = {**RETEST, **TRANSFER}[change]
    scan, again = ball(), retake(ball(), draw("a subject", change))
    places = [middle_mm(s) for s in (scan, again)]
    is_shaded = "bias" in change or "together" in change
    assert np.linalg.norm(places[1] - places[0]) < (1.0 if is_shaded else 0.2)
    if "gamma" not in change:  # contrast moves brightness, not the head
        sums = [s.voxels.sum(where=s.voxels > 20) * np.prod(s.spacing_mm) for s in (scan, again)]
        assert sums[1] == pytest.approx(sums[0], rel=0.3 if is_shaded else 0.03)
    assert not np.array_equal(again.voxels, scan.voxels)


def test_a_label_map_survives_a_turn_there_and_back() -> None:
    """Carried to a grid at 15 degrees and back, nearly all voxels keep their label."""
    scan = ball()
    labels = (scan.voxels > 50).astype(np.uint8) * 7
    turned = regridded(scan, scan.spacing_mm, random_turn(np.random.default_rng(0), 15.0))
    there = carried(labels, scan.affine, turned.affine, SHAPE)
    back = carried(there, turned.affine, scan.affine, SHAPE)
    assert 0.001 < (there != labels).mean() < 0.2
    assert (
        2 * ((back == 7) & (labels == 7)).sum() / ((back == 7).sum() + (labels == 7).sum()) > 0.95
    )


def test_the_scatter_of_one_measurement_is_found_again() -> None:
    """Volumes that scatter by 3 % around each head's own have a deviation of 0.03."""
    rng = np.random.default_rng(0)
    heads = rng.uniform(2000, 5000, (1, 300, len(REGIONS) + 1))
    volumes = heads * np.exp(rng.normal(0, 0.03, (8, 300, len(REGIONS) + 1)))
    assert all(sd == pytest.approx(0.03, rel=0.1) for sd in scatter(volumes).values())


def test_agreement_of_volumes_that_are_a_tenth_larger() -> None:
    """A constant factor correlates perfectly and shows as the mean difference, without spread."""
    theirs = np.linspace(3000, 5000, 29)
    assert correlation(1.1 * theirs, theirs)[0] == pytest.approx(1.0)
    np.testing.assert_allclose(difference(1.1 * theirs, theirs), (200 * 0.1 / 2.1, 0), atol=1e-9)


def test_a_ridge_reads_age_where_there_is_age_and_only_there() -> None:
    """Features with age in them predict it; noise does no better than the mean age."""
    rng = np.random.default_rng(0)
    ages = rng.uniform(20, 80, 120)
    fold = folds_of(ages, seed=0)
    told = ages[:, None] @ rng.normal(size=(1, 200)) + rng.normal(0, 20, (120, 200))
    errors = [
        np.abs(predicted(blocks, ages, fold) - ages).mean()
        for blocks in ([told], [rng.normal(size=(120, 200))], [])
    ]
    assert errors[0] < 4 < 12 < errors[1]
    assert errors[1] == pytest.approx(errors[2], rel=0.25)
    assert np.ptp(np.bincount(fold)) <= 4
    assert np.ptp([ages[fold == n].mean() for n in range(10)]) < 10


def test_a_segmentation_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second call does not even make the scan; other weights start anew."""
    made = []
    nothing = np.zeros((len(REGIONS), 3), dtype=np.float32)
    seen = Segmentation(np.ones((4, 4, 4), np.uint8), np.eye(4), nothing, nothing[:, 0])
    monkeypatch.setattr(segmented, "load_engine", lambda folder: None)
    monkeypatch.setattr(segmented, "prepare", made.append)
    monkeypatch.setattr(segmented, "segment", lambda engine, scan: seen)
    for name in ("segment.safetensors", "segment.json"):
        (tmp_path / name).write_text("weights")
    first, second = (
        segmented.Segmenter(tmp_path, tmp_path / "kept")(file_stem("a", "noise of 5 %"), ball)
        for _ in range(2)
    )
    assert len(made) == 1
    np.testing.assert_array_equal(first.region_map, second.region_map)
    (tmp_path / "segment.safetensors").write_text("other weights")
    segmented.Segmenter(tmp_path, tmp_path / "kept")(file_stem("a", "noise of 5 %"), ball)
    assert len(made) == 2
