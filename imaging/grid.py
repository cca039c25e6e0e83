"""Boxes of voxels: cut out of a volume, and where they overlap it."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped

Slices = tuple[slice, ...]


def corner_of(centre: Sequence[int], size: Sequence[int]) -> tuple[int, int, int]:
    """First voxel of a box of `size` voxels around a voxel."""
    i, j, k = (c - n // 2 for c, n in zip(centre, size, strict=True))
    return i, j, k


def cut(
    volume: Shaped[np.ndarray, "i j k"], centre: Sequence[int], size: tuple[int, int, int]
) -> Shaped[np.ndarray, "i2 j2 k2"]:
    """A box of `size` voxels around a voxel; zero beyond the volume."""
    box = np.zeros(size, dtype=volume.dtype)
    there, here = overlap(volume.shape, corner_of(centre, size), size)
    box[here] = volume[there]
    return box


def overlap(
    shape: Sequence[int], corner: Sequence[int], size: Sequence[int]
) -> tuple[Slices, Slices]:
    """Where volume and box overlap: in the volume's voxels, and in the box's."""
    there, here = [], []
    for n, low, width in zip(shape, corner, size, strict=True):
        start, stop = max(low, 0), max(min(low + width, n), 0)
        there.append(slice(start, stop))
        here.append(slice(start - low, stop - low))
    return tuple(there), tuple(here)
