"""A segmentation comes back as it was kept, for the same network only."""

from pathlib import Path

import numpy as np

from imaging.check import ScanCheck, ScanFinding
from imaging.kept import network_digest, read_segmentation, write_segmentation
from imaging.regions import REGIONS, Segmentation


def drawn() -> Segmentation:
    """A small random one."""
    rng = np.random.default_rng(0)
    region_map = rng.integers(0, len(REGIONS) + 1, (8, 9, 7)).astype(np.uint8)
    features = rng.normal(size=(len(REGIONS), 5)).astype(np.float32)
    confidence = rng.random(len(REGIONS)).astype(np.float32)
    return Segmentation(region_map, np.diag([2.0, 2.0, 2.0, 1.0]), features, confidence)


def test_it_comes_back_whole(tmp_path: Path) -> None:
    """Map, features, confidence, grid and grade are equal, to the bit."""
    made = drawn()
    grade = ScanCheck((ScanFinding("noise", "Noise."),), 0.7, {"noise": 0.1}, {"noise": 0.7})
    write_segmentation(tmp_path, made, grade, "one")
    kept = read_segmentation(tmp_path, "one")
    assert kept is not None
    for name in ("region_map", "affine", "features", "confidence"):
        np.testing.assert_array_equal(getattr(kept[0], name), getattr(made, name))
    assert kept[1] == grade


def test_another_network_or_nothing_kept_means_segmenting_again(tmp_path: Path) -> None:
    """What another network made is not taken for this one's."""
    assert read_segmentation(tmp_path, "one") is None
    write_segmentation(tmp_path, drawn(), ScanCheck((), 1.0), "one")
    assert read_segmentation(tmp_path, "other") is None


def test_other_weights_have_another_name(tmp_path: Path) -> None:
    """A byte of the weights changes the network's name."""
    (tmp_path / "segment.safetensors").write_bytes(b"one")
    first = network_digest(tmp_path)
    (tmp_path / "segment.safetensors").write_bytes(b"two")
    assert network_digest(tmp_path) != first
