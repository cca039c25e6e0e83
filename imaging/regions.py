"""The brain regions Consilium names, and how label maps of other atlases fall into them.

A region map is an integer volume: 0 is background, every other value is the position of
a region in `REGIONS` plus one. Left is the patient's left.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Integer, UInt8

Side = Literal["left", "right", "midline"]


@dataclass(frozen=True)
class Region:
    """One anatomical region.

    Attributes:
        name: Structure without its side, such as ``hippocampus``.
        side: The patient's side.
        tissue: What it is made of; ventricles are ``csf``.
        muse: Labels of the MUSE atlas (Doshi et al., NeuroImage 2016) that make it up.
    """

    name: str
    side: Side
    tissue: Literal["grey", "white", "csf", "mixed"]
    muse: tuple[int, ...]

    @property
    def key(self) -> str:
        """Name with side, unique: ``left hippocampus``, ``third ventricle``."""
        return self.name if self.side == "midline" else f"{self.side} {self.name}"


# fmt: off
_FRONTAL = (
    104, 112, 118, 120, 124, 136, 140, 142, 146, 150, 152, 162, 164, 178, 182, 186, 190, 192, 204,
)
# fmt: on
# Structures with two sides: MUSE labels on the right; those on the left follow by one
# except for the basal forebrain, where MUSE counts the other way.
_PAIRED: tuple[tuple[str, Literal["grey", "white", "csf", "mixed"], tuple[int, ...]], ...] = (
    ("hippocampus", "grey", (47,)),
    ("amygdala", "grey", (31,)),
    ("parahippocampal gyrus", "grey", (116, 170)),
    ("lateral ventricle", "csf", (51,)),
    ("inferior lateral ventricle", "csf", (49,)),
    ("caudate", "grey", (36,)),
    ("putamen", "grey", (57,)),
    ("pallidum", "grey", (55,)),
    ("accumbens", "grey", (23,)),
    ("thalamus", "grey", (59,)),
    ("ventral diencephalon", "mixed", (61,)),
    ("basal forebrain", "grey", (76,)),
    ("insula", "grey", (102, 172)),
    ("anterior cingulate", "grey", (100, 138)),
    ("posterior cingulate", "grey", (166,)),
    ("precuneus", "grey", (168,)),
    (
        "frontal cortex",
        "grey",
        _FRONTAL,
    ),
    ("parietal cortex", "grey", (106, 148, 174, 176, 194, 198)),
    ("temporal cortex", "grey", (122, 132, 154, 180, 184, 200, 202, 206)),
    ("occipital cortex", "grey", (108, 114, 128, 134, 144, 156, 160, 196)),
    ("cerebral white matter", "white", (81, 83, 85, 87, 89, 91, 93)),
    ("cerebellum", "mixed", (38, 40)),
)
_ACCUMBENS_STEP = {23: 7}  # right 23, left 30
_MIDLINE: tuple[tuple[str, Literal["grey", "white", "csf", "mixed"], tuple[int, ...]], ...] = (
    ("third ventricle", "csf", (4,)),
    ("fourth ventricle", "csf", (11,)),
    ("brain stem", "mixed", (35,)),
    ("cerebellar vermis", "grey", (71, 72, 73)),
    ("corpus callosum", "white", (95,)),
    ("cortical cerebrospinal fluid", "csf", (1,)),
)


def _left_label(right: int) -> int:
    """The MUSE label of the left structure whose right one is given."""
    return right - 1 if right == 76 else right + _ACCUMBENS_STEP.get(right, 1)


def _all_regions() -> tuple[Region, ...]:
    paired = [
        Region(name, side, tissue, right if side == "right" else tuple(map(_left_label, right)))
        for name, tissue, right in _PAIRED
        for side in ("left", "right")
    ]
    return (*paired, *(Region(name, "midline", tissue, muse) for name, tissue, muse in _MIDLINE))


REGIONS: tuple[Region, ...] = _all_regions()
REGION_INDEX: dict[str, int] = {region.key: i for i, region in enumerate(REGIONS)}


def from_muse(
    labels: Integer[np.ndarray, "i j k"],
) -> UInt8[np.ndarray, "i j k"]:
    """Group a MUSE or DLMUSE label map into Consilium's region map.

    Args:
        labels: MUSE labels; those without a region become background.

    Example:
        >>> from_muse(np.array([[[47, 48, 0]]]))
        array([[[2, 1, 0]]], dtype=uint8)
    """
    table = np.zeros(max(int(labels.max()), 255) + 1, dtype=np.uint8)
    for value, region in enumerate(REGIONS, start=1):
        table[list(region.muse)] = value
    grouped: UInt8[np.ndarray, "i j k"] = table[labels]
    return grouped


def mirrored_labels() -> list[int]:
    """For each label 0..len(REGIONS), the label of the same structure on the other side.

    Example:
        >>> mirrored_labels()[:3]
        [0, 2, 1]
    """
    other: dict[Side, Side] = {"left": "right", "right": "left", "midline": "midline"}
    position = {(region.name, region.side): i for i, region in enumerate(REGIONS, start=1)}
    return [0, *(position[region.name, other[region.side]] for region in REGIONS)]


def region_volumes_mm3(
    region_map: Integer[np.ndarray, "i j k"], spacing_mm: Sequence[float]
) -> dict[str, float]:
    """Volume of every region.

    Args:
        region_map: Region map; 0 is background.
        spacing_mm: Voxel size along i, j, k.

    Returns:
        Cubic millimetres by region key, 0.0 where the region is not in the map.
    """
    counts = np.bincount(region_map.ravel(), minlength=len(REGIONS) + 1)
    voxel_mm3 = float(np.prod(spacing_mm))
    return {region.key: float(n) * voxel_mm3 for region, n in zip(REGIONS, counts[1:], strict=True)}


@dataclass(frozen=True)
class Segmentation:
    """What the network saw in one prepared scan.

    Attributes:
        region_map: Region of each voxel, 0 is background; the prepared scan's grid.
        affine: Voxel index to RAS+ mm.
        features: One row per region of `REGIONS`, zero where the region was not found.
        confidence: Mean probability of the winning label inside each region, 0..1.
    """

    region_map: UInt8[np.ndarray, "i j k"]
    affine: Float[np.ndarray, "4 4"]
    features: Float32[np.ndarray, "region feature"]
    confidence: Float32[np.ndarray, " region"]

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along i, j, k in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)
