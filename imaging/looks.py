"""How an engine looks at a window: four times, slab by slab, whatever runs the networks' parts.

A window is looked at as it is, mirrored, so that left and right are measured alike (a mirrored head
has exactly the mirrored regions), and both again moved by one voxel, so that no border depends on
where the blocks happen to lie. The looks are seen one after another and named slab by slab, since
probabilities of all labels at all voxels would take gigabytes.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32

from imaging.closeup import CLOSE_WINDOW, CloseView, other_side
from imaging.grid import corner_of, cut
from imaging.regions import Side
from imaging.segment import Named

SHIFT = (1, 1, 1)  # voxels by which the second look is moved: the blocks then fall otherwise
SLAB = 8  # blocks along the first axis that are named at once
# Voxels by which the looks at a temporal lobe are moved.
CLOSE_SHIFTS = ((0, 0, 0), (1, -1, 1), (-1, 1, -1), (1, 1, -1))

PARTS = ("seeing", "naming", "finding", "closing")
Run = Callable[..., Sequence[np.ndarray]]  # arrays in, arrays out


@dataclass(frozen=True)
class Parts:
    """An engine: whatever runs the four graphs of `imaging.graphs`."""

    seeing: Run
    naming: Run
    finding: Run
    closing: Run

    def __call__(self, window: Float32[np.ndarray, "i j k"]) -> Named:
        """Name every voxel of one window."""
        plain, moved, coarse = self._look(window)
        mirrored, mirrored_moved, mirrored_coarse = self._look(window[::-1])
        slabs = [
            self.naming(*(part for look in looks for part in look))
            for looks in zip(
                _slabs(plain, moved), reversed(list(_slabs(mirrored, mirrored_moved))), strict=True
            )
        ]
        labels, probability = (np.concatenate(part) for part in zip(*slabs, strict=True))
        return Named(
            labels.astype(np.uint8),
            probability.astype(np.float32),
            (plain[0] + mirrored[0, :, ::-1]) / 2,
            (coarse[0] + mirrored_coarse[0, :, ::-1]) / 2,
        )

    def find(self, window: Float32[np.ndarray, "i j k"]) -> Bool[np.ndarray, "i j k"]:
        """Where there is brain, at one look."""
        fine, _ = self.seeing(np.ascontiguousarray(window)[None, None])
        return np.concatenate([self.finding(slab)[0] for slab, _ in _slabs(fine, fine)]) > 0

    def look_closely(
        self, window: Float32[np.ndarray, "i j k"], middle: Sequence[int], side: Side
    ) -> CloseView:
        """Name what lies around a voxel of one side, on the full grid."""
        mirrored = -1 if side == "left" else 1
        looks = []
        for shift in CLOSE_SHIFTS:
            moved = [m + mirrored * s if n == 0 else m + s
                     for n, (m, s) in enumerate(zip(middle, shift, strict=True))]  # fmt: skip
            looks.append(cut(window, moved, CLOSE_WINDOW)[::mirrored])
        labels, probability = (np.asarray(part) for part in self.closing(np.stack(looks)[:, None]))
        if side == "left":
            labels = other_side(labels)
        corner = corner_of(middle, CLOSE_WINDOW)
        return CloseView(corner, labels[::mirrored].astype(np.uint8), probability[::mirrored])

    def _look(self, window: Float32[np.ndarray, "i j k"]) -> tuple[np.ndarray, ...]:
        """Fine features of a window and of the same moved, and the former's coarse ones."""
        moved = np.roll(window, SHIFT, (0, 1, 2))
        # Copied, as an engine may write its next result where this one lies.
        fine, coarse = (
            np.array(part) for part in self.seeing(np.ascontiguousarray(window)[None, None])
        )
        return fine, np.array(self.seeing(moved[None, None])[0]), coarse


def _slabs(
    plain: Float32[np.ndarray, "1 fine i2 j2 k2"], moved: Float32[np.ndarray, "1 fine i2 j2 k2"]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Slabs of two looks, the moved one with a block more; its blocks go round."""
    around = np.concatenate([moved, moved[:, :, :1]], axis=2)
    for start in range(0, plain.shape[2], SLAB):
        yield (
            np.ascontiguousarray(plain[:, :, start : start + SLAB]),
            np.ascontiguousarray(around[:, :, start : start + SLAB + 1]),
        )
