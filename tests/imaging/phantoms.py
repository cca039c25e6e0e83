"""Grids in the world of a patient's head, for phantoms."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

DIRECTIONS = {
    "R": (1, 0, 0), "A": (0, 1, 0), "S": (0, 0, 1),
    "L": (-1, 0, 0), "P": (0, -1, 0), "I": (0, 0, -1),
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
