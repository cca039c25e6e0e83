"""The network names a real head's regions, on the right side."""

from pathlib import Path

import numpy as np
import pytest

from imaging.check import check
from imaging.graphs import torch_engine
from imaging.labelled import dice_of, read_pair
from imaging.network import CloseNet, Networks, RegionNet, RegionNetConfig
from imaging.prepare import prepare
from imaging.regions import REGION_INDEX, REGIONS, Segmentation, region_volumes_mm3
from imaging.scan import Scan
from imaging.segment import Engine, segment


def centre_mm(segmentation: Segmentation, key: str) -> np.ndarray:
    """World coordinates of a region's middle."""
    voxels = np.argwhere(segmentation.region_map == REGION_INDEX[key] + 1)
    middle: np.ndarray = segmentation.affine[:3, :3] @ voxels.mean(0) + segmentation.affine[:3, 3]
    return middle


@pytest.mark.parametrize("name", ["hippocampus", "lateral ventricle", "thalamus", "cerebellum"])
def test_the_left_one_lies_to_the_left(real_segmentation: Segmentation, name: str) -> None:
    """At least a centimetre lies between the middles of a pair."""
    left, right = (centre_mm(real_segmentation, f"{side} {name}") for side in ("left", "right"))
    assert left[0] + 10 < right[0]


def test_a_head_stored_the_other_way_round_has_the_same_regions(
    engine: Engine, real_scan: Scan, real_segmentation: Segmentation
) -> None:
    """Flipping the order of storage, and the affine with it, moves nothing in the patient."""
    flip = np.diag([-1.0, 1, -1, 1])
    flip[[0, 2], 3] = np.array(real_scan.voxels.shape)[[0, 2]] - 1
    stored = Scan(real_scan.voxels[::-1, :, ::-1], real_scan.affine @ flip)
    again = segment(engine, prepare(stored))
    volumes = [
        region_volumes_mm3(s.region_map, (2.0, 2.0, 2.0)) for s in (real_segmentation, again)
    ]
    np.testing.assert_allclose(*[list(v.values()) for v in volumes], rtol=0.02, atol=50)
    for key in ("left hippocampus", "right hippocampus"):
        assert np.linalg.norm(centre_mm(again, key) - centre_mm(real_segmentation, key)) < 1.0


def test_a_mirrored_head_has_its_sides_exchanged(
    engine: Engine, real_scan: Scan, real_segmentation: Segmentation
) -> None:
    """Voxels flipped and the affine kept is another patient, whose left was the right."""
    prepared = prepare(real_scan)
    mirrored = Scan(np.ascontiguousarray(prepared.voxels[::-1]), prepared.affine)
    there = region_volumes_mm3(segment(engine, mirrored).region_map, (2.0, 2.0, 2.0))
    here = region_volumes_mm3(real_segmentation.region_map, (2.0, 2.0, 2.0))
    for name in ("temporal cortex", "cerebellum", "cerebral white matter"):
        assert there[f"left {name}"] == pytest.approx(here[f"right {name}"], rel=0.05)


def test_a_region_that_is_absent_has_no_features() -> None:
    """Rows of features and confidence are zero exactly where the map has no such region."""
    noise = np.random.default_rng(0).random((20, 33, 18)).astype(np.float32)
    small = torch_engine(Networks(RegionNet().eval(), CloseNet().eval()))
    found = segment(small, Scan(noise, np.diag([2.0, 2.0, 2.0, 1.0])))
    present = np.isin(np.arange(1, len(REGIONS) + 1), found.region_map)
    assert not present.all()
    np.testing.assert_array_equal((found.features != 0).any(axis=1), present)
    np.testing.assert_array_equal(found.confidence > 0, present)
    assert found.region_map.shape == noise.shape


def test_weights_come_back_as_saved(tmp_path: Path) -> None:
    """Saving and loading changes no number that half precision can hold."""
    net = RegionNet(RegionNetConfig(init_filters=8)).half().float()
    net.save(tmp_path)
    again = RegionNet.load(tmp_path)
    assert again.config == net.config
    for name, value in net.state_dict().items():
        assert (again.state_dict()[name] == value).all(), name


def test_a_whole_head_passes_the_check(real_scan: Scan, real_segmentation: Segmentation) -> None:
    """A research scan of a healthy adult has no finding and a good grade."""
    result = check(real_scan, prepare(real_scan), real_segmentation)
    assert result.findings == ()
    assert result.quality > 0.7


def test_the_network_agrees_with_the_atlas_on_unseen_heads(
    engine: Engine, data: Path, unseen: list[str]
) -> None:
    """Dice of a held-out subject is above 0.8 over all regions and for both hippocampi."""
    scan, truth = read_pair(data / "ixi_t1_2mm", unseen[0])
    dice = dice_of(segment(engine, scan).region_map, truth)
    assert np.nanmean(dice) > 0.8
    assert min(dice[:2]) > 0.8
