"""However a scan is stored, left stays left and every structure where it was."""

import numpy as np
import pytest
from phantoms import affine_of, world_of

from imaging.prepare import normalize, prepare, resample
from imaging.scan import Scan, ScanError

MARKER_MM = np.array([-24.0, 16.0, 12.0])  # left, front, up
SPACING_MM = (1.2, 1.0, 1.5)
SHAPE = (110, 124, 90)


def head(affine: np.ndarray, shape: tuple[int, int, int] = SHAPE) -> Scan:
    """A ball with one bright spot at `MARKER_MM`."""
    world = world_of(shape, affine)
    ball = (np.linalg.norm(world, axis=-1) < 50) * 100.0
    spot = 300 * np.exp(-((world - MARKER_MM) ** 2).sum(-1) / (2 * 4.0**2))
    return Scan((ball + spot).astype(np.float32), affine)


def marker_of(scan: Scan) -> np.ndarray:
    """World coordinates of the middle of what is brightest."""
    bright = scan.voxels > 0.8 * scan.voxels.max()
    return scan.affine[:3, :3] @ np.argwhere(bright).mean(0) + scan.affine[:3, 3]


def oblique(angle: float) -> np.ndarray:
    """A head scanned at an angle around its left-right and its long axis."""
    c, s = np.cos(angle), np.sin(angle)
    tilt = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.array(
        [[c, -s, 0], [s, c, 0], [0, 0, 1]]
    )
    affine = affine_of("LPS", SHAPE, SPACING_MM)
    affine[:3] = tilt @ affine[:3]
    return affine


@pytest.mark.parametrize("axes", ["RAS", "LAS", "LPS", "PSR", "ILA", "oblique"])
def test_a_structure_on_the_left_stays_on_the_left(axes: str) -> None:
    """A spot is found where it was put, in a grid whose first axis grows to the right."""
    affine = oblique(0.35) if axes == "oblique" else affine_of(axes, SHAPE, SPACING_MM)
    prepared = prepare(head(affine))
    assert np.linalg.norm(marker_of(prepared) - MARKER_MM) < 1.0
    assert (np.diag(prepared.affine)[:3] > 1.5).all()
    assert np.allclose(prepared.spacing_mm, 2.0, atol=0.05)


def test_the_order_of_storage_changes_no_voxel() -> None:
    """The same head stored in two ways is the same picture to the network."""
    cube = (96, 96, 96)
    first, second = (prepare(head(affine_of(a, cube, (1, 1, 1)), cube)) for a in ("RAS", "PSR"))
    np.testing.assert_allclose(first.voxels, second.voxels, atol=1e-5)
    np.testing.assert_allclose(first.affine, second.affine, atol=1e-9)


@pytest.mark.parametrize("spacing_mm", [(1, 1, 1), (0.5, 1.1, 3.0), (2.5, 4.0, 0.9)])
def test_a_gradient_keeps_its_world_coordinates(spacing_mm: tuple[float, float, float]) -> None:
    """Value and place of a linear ramp agree after resampling, to a hundredth of a millimetre."""
    affine = affine_of("RAS", (60, 55, 50), spacing_mm)
    for axis in range(3):
        ramp = world_of((60, 55, 50), affine)[..., axis].astype(np.float32)
        coarse = resample(Scan(ramp, affine))
        expected = world_of(coarse.voxels.shape, coarse.affine)[..., axis]
        inner = tuple(slice(n // 4, -(n // 4)) for n in coarse.voxels.shape)
        np.testing.assert_allclose(coarse.voxels[inner], expected[inner], atol=0.01)


def test_a_fine_checkerboard_becomes_grey_and_not_another_pattern() -> None:
    """What 2 mm cannot show is averaged, borders included."""
    board = (np.indices((64, 64, 64)).sum(0) // 2 % 2).astype(np.float32)
    coarse = resample(Scan(board, affine_of("RAS", board.shape, (0.5, 0.5, 0.5))))
    assert np.abs(coarse.voxels[2:-2, 2:-2, 2:-2] - 0.5).max() < 0.1
    flat = resample(Scan(np.ones((64, 64, 64), np.float32), np.diag([0.5, 0.5, 0.5, 1.0])))
    np.testing.assert_allclose(flat.voxels, 1.0, atol=1e-5)


def test_the_scanner_s_unit_does_not_matter() -> None:
    """Intensities ten times as large give the same volume; one grey value gives none."""
    scan = head(affine_of("RAS", (64, 64, 64), (2, 2, 2)), (64, 64, 64))
    np.testing.assert_allclose(normalize(scan.voxels * 10), normalize(scan.voxels), rtol=1e-5)
    with pytest.raises(ScanError, match="one grey value"):
        normalize(np.ones((16, 16, 16), np.float32))
