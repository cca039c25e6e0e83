"""Phantoms, and one real scan segmented once for all tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Float

from imaging.prepare import prepare
from imaging.read import read_nifti
from imaging.regions import Segmentation
from imaging.scan import Scan
from imaging.segment import RegionNet, segment
from imaging.train import held_out

DIRECTIONS = {
    "R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)
}  # fmt: skip


def affine_of(
    axes: str, shape: Sequence[int], spacing_mm: Sequence[float]
) -> Float[np.ndarray, "4 4"]:
    """The affine of a volume stored along these axes whose middle is the world's origin."""
    affine = np.eye(4)
    affine[:3, :3] = np.array([DIRECTIONS[a] for a in axes], dtype=float).T * np.array(spacing_mm)
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def world_of(shape: Sequence[int], affine: np.ndarray) -> Float[np.ndarray, "i j k 3"]:
    """World coordinates of every voxel."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return index @ affine[:3, :3].T + affine[:3, 3]


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real data beside the project."""
    folder = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the folder of real data, ../shared/data, is absent")
    return folder


@pytest.fixture(scope="session")
def unseen(data: Path) -> list[str]:
    """Subjects that the network never saw."""
    return held_out([p.name.removesuffix(".nii.gz") for p in (data / "ixi_t1_2mm/t1").iterdir()])[1]


@pytest.fixture(scope="session")
def net() -> RegionNet:
    """The network that ships."""
    return RegionNet.load()


@pytest.fixture(scope="session")
def real_scan(data: Path, unseen: list[str]) -> Scan:
    """A healthy adult's head, never seen in training."""
    return read_nifti(data / "ixi_t1_2mm" / "t1" / f"{unseen[1]}.nii.gz")


@pytest.fixture(scope="session")
def real_segmentation(net: RegionNet, real_scan: Scan) -> Segmentation:
    """The same head with its regions named."""
    return segment(net, prepare(real_scan))
