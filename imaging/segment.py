"""From a prepared scan to named regions: whatever engine runs the networks, NumPy does the rest."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8
from scipy.ndimage import center_of_mass, label

from imaging.closeup import CloseView, close_centres, merge
from imaging.grid import corner_of, cut, overlap
from imaging.regions import REGIONS, Side
from imaging.regions import Segmentation as Segmentation
from imaging.scan import Scan

WEIGHTS = Path(__file__).parent / "weights"  # what ships
WINDOW = (80, 112, 88)  # voxels the network sees around the brain's centre: 160 x 224 x 176 mm
BLOCK = 2  # voxels along each edge of the blocks that the network works on


@dataclass(frozen=True)
class Named:
    """What the network makes of one window.

    Attributes:
        labels: Winning label of every voxel.
        probability: Its probability, 0..1.
        fine: Features of the blocks of 2 x 2 x 2 voxels.
        coarse: Features of the blocks of 4 x 4 x 4 voxels.
    """

    labels: UInt8[np.ndarray, "i j k"]
    probability: Float32[np.ndarray, "i j k"]
    fine: Float32[np.ndarray, "fine i2 j2 k2"]
    coarse: Float32[np.ndarray, "coarse i4 j4 k4"]


@runtime_checkable
class Engine(Protocol):
    """Whatever runs the network on one window of `WINDOW` voxels; see `imaging.engines`."""

    def __call__(self, window: Float32[np.ndarray, "i j k"]) -> Named:
        """Name every voxel."""

    def find(self, window: Float32[np.ndarray, "i j k"]) -> Bool[np.ndarray, "i j k"]:
        """See where there is brain, quicker than by naming it."""

    def look_closely(
        self, window: Float32[np.ndarray, "i j k"], middle: Sequence[int], side: Side
    ) -> CloseView:
        """Name what lies around a voxel of one side, on the full grid."""


def segment(engine: Engine, prepared: Scan) -> Segmentation:
    """Name every voxel of a prepared scan and pool the features inside each region.

    The network sees a window around the brain, as in training: its group normalization takes
    statistics over all it sees, and a field of view full of neck or air would shift them. Windows
    that cover the head from top to bottom find the brain first.

    Args:
        engine: Trained network; `imaging.engines.load_engine` gives the fastest.
        prepared: What `imaging.prepare.prepare` returned.
    """
    centre = _brain_centre(engine, prepared.voxels)
    window = cut(prepared.voxels, centre, WINDOW)
    named = engine(window)
    labels = np.where(_one_piece(named.labels > 0), named.labels, 0).astype(np.uint8)
    for side, middle in close_centres(labels).items():
        merge(labels, named.probability, engine.look_closely(window, middle, side))
    inside = np.ones_like(prepared.voxels, dtype=np.uint8)
    labels *= cut(inside, centre, WINDOW)  # nothing beyond the scan
    n = len(REGIONS) + 1
    counts = np.maximum(np.bincount(labels.ravel(), minlength=n), 1)
    sums = np.bincount(labels.ravel(), weights=named.probability.ravel(), minlength=n)
    described = np.concatenate([_pool(named.fine, labels), _pool(named.coarse, labels)], axis=1)
    region_map = np.zeros(prepared.voxels.shape, dtype=np.uint8)
    there, here = overlap(region_map.shape, corner_of(centre, WINDOW), WINDOW)
    region_map[there] = labels[here]
    confidence = (sums / counts)[1:].astype(np.float32)
    return Segmentation(region_map, prepared.affine, described[1:], confidence)


def _brain_centre(engine: Engine, voxels: Float[np.ndarray, "i j k"]) -> list[int]:
    """Mean voxel of all that windows from the top of the volume to its bottom name."""
    middle = [round(m) for m in center_of_mass(voxels > voxels.mean())]
    height, window = voxels.shape[2], WINDOW[2]
    n_windows = max(1, math.ceil(height / window))
    found = np.zeros(voxels.shape, dtype=bool)
    for k in np.linspace(min(window, height) / 2, height - min(window, height) / 2, n_windows):
        centre = [middle[0], middle[1], round(float(k))]
        there, here = overlap(voxels.shape, corner_of(centre, WINDOW), WINDOW)
        found[there] |= engine.find(cut(voxels, centre, WINDOW))[here]
    if not found.any():
        return middle
    return [round(m) for m in center_of_mass(_one_piece(found))]


def _one_piece(mask: Bool[np.ndarray, "i j k"]) -> Bool[np.ndarray, "i j k"]:
    """The largest connected piece of a mask: what is named elsewhere is no brain."""
    pieces, n = label(mask)
    if n == 0:
        return mask
    largest: Bool[np.ndarray, "i j k"] = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    return largest


def _pool(
    features: Float32[np.ndarray, "channel i2 j2 k2"], labels: UInt8[np.ndarray, "i j k"]
) -> Float32[np.ndarray, "label channel"]:
    """Mean of the features under each label, each voxel taking those of its block."""
    step = labels.shape[2] // features.shape[3]
    i, j, k = (np.arange(n) // step for n in labels.shape)
    _, _, n_j, n_k = features.shape
    block = (i[:, None, None] * n_j + j[None, :, None]) * n_k + k
    n_labels, n_blocks = len(REGIONS) + 1, features[0].size
    pairs = labels.ravel().astype(np.int64) * n_blocks + block.ravel()
    joint = np.bincount(pairs, minlength=n_labels * n_blocks)
    shares = joint.reshape(n_labels, n_blocks).astype(np.float32)
    shares /= np.maximum(shares.sum(axis=1, keepdims=True), 1)
    pooled: Float32[np.ndarray, "label channel"] = shares @ features.reshape(len(features), -1).T
    return pooled
