"""A closer look at the medial temporal lobes, where dementia shows first.

The whole brain is named from blocks of voxels (`imaging.segment`), which is quick and a little
coarse at borders. A hippocampus has some 500 voxels, most of them at its border, and a few per
cent of its volume matter. So a second, small network looks at the full grid around each
hippocampus, and what it says of the structures of `CLOSE` replaces what was said before.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8
from scipy.ndimage import center_of_mass

from imaging.grid import overlap
from imaging.regions import REGION_INDEX, REGIONS, Side, mirrored_labels

CLOSE = ("hippocampus", "amygdala", "parahippocampal gyrus", "inferior lateral ventricle")
CLOSE_WINDOW = (32, 48, 32)  # voxels around a hippocampus' middle: 64 x 96 x 64 mm
SIDES: tuple[Side, ...] = ("left", "right")
FEWEST = 50  # voxels of a hippocampus, or there is nothing to look at more closely


def close_label(side: Side, name: str) -> int:
    """Label of a structure on a side."""
    return REGION_INDEX[f"{side} {name}"] + 1


@dataclass(frozen=True)
class CloseView:
    """What is seen around one hippocampus.

    Attributes:
        corner: First voxel of the view in the window that it was cut from; may lie outside.
        labels: Winning label of every voxel, on the patient's own side.
        probability: Its probability, 0..1.
    """

    corner: tuple[int, int, int]
    labels: UInt8[np.ndarray, "i j k"]
    probability: Float32[np.ndarray, "i j k"]


def close_centres(labels: UInt8[np.ndarray, "i j k"]) -> dict[Side, list[int]]:
    """Mean voxel of each hippocampus that was found."""
    centres: dict[Side, list[int]] = {}
    for side in SIDES:
        inside = labels == close_label(side, "hippocampus")
        if np.count_nonzero(inside) >= FEWEST:
            centres[side] = [round(n) for n in center_of_mass(inside)]
    return centres


def merge(
    labels: UInt8[np.ndarray, "i j k"], probability: Float32[np.ndarray, "i j k"], view: CloseView
) -> None:
    """Let a closer view decide, in place, wherever it or what is there says a structure of `CLOSE`.

    Elsewhere nothing changes, so that no seam runs along the border of the view.
    """
    there, here = overlap(labels.shape, view.corner, view.labels.shape)
    table = np.zeros(len(REGIONS) + 1, dtype=bool)
    table[[close_label(side, name) for side in SIDES for name in CLOSE]] = True
    decides = table[labels[there]] | table[view.labels[here]]
    labels[there] = np.where(decides, view.labels[here], labels[there])
    probability[there] = np.where(decides, view.probability[here], probability[there])


def other_side(labels: UInt8[np.ndarray, "i j k"]) -> UInt8[np.ndarray, "i j k"]:
    """Each label's counterpart on the other side."""
    exchanged: UInt8[np.ndarray, "i j k"] = np.array(mirrored_labels(), dtype=np.uint8)[labels]
    return exchanged
