"""Region tokens: what the segmentation network saw, as evidence with a name."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from imaging.norms import load_norms
from imaging.regions import REGIONS, Segmentation, region_volumes_mm3

POOLED = 144  # features of the segmentation network, pooled inside a region
MEASURED = 4  # log volume by head, z, confidence, whether there is a centile
FEATURES = POOLED + MEASURED
LARGEST_Z = 6.0  # beyond it a volume says "segmentation failed" rather than "more diseased"


@dataclass(frozen=True)
class RegionPointer:
    """A region of the scan.

    Attributes:
        region: Key of a region of `REGIONS`.
        volume_mm3: Cubic millimetres.
        centile: For age, sex and head size, 0..100; None if unknown.
        confidence: Mean probability of the label inside it, 0..1; None in evidence of old.
    """

    region: str
    volume_mm3: float
    centile: float | None
    confidence: float | None = None


@dataclass(frozen=True)
class RegionTokens:
    """Tokens of the scan, one a region that was found.

    Attributes:
        features: 144 pooled network features; the logarithm of volume by head size; deviation
            from the norm in standard deviations, 0 if unknown; confidence of the
            segmentation; 1.0 where the deviation is known.
        kinds: Row of the region in `imaging.regions.REGIONS`.
        quality: 0..1, the scan's grade times the confidence.
        pointers: Region, volume and centile.
    """

    features: Float32[np.ndarray, "token 148"]
    kinds: Int64[np.ndarray, " token"]
    quality: Float32[np.ndarray, " token"]
    pointers: tuple[RegionPointer, ...]


def head_mm3(segmentation: Segmentation) -> float:
    """Head size: everything inside the skull that has a label, in cubic mm."""
    voxel_mm3 = abs(float(np.linalg.det(segmentation.affine[:3, :3])))
    return float(np.count_nonzero(segmentation.region_map)) * voxel_mm3


def region_tokens(
    segmentation: Segmentation, age_years: float | None, sex: str | None, quality: float = 1.0
) -> RegionTokens:
    """Describe every region that was found.

    Args:
        segmentation: What `imaging.segment.segment` returned.
        age_years: Age at the scan; None where unknown.
        sex: ``female`` or ``male``; anything else counts as unknown.
        quality: Grade of the scan, 0..1, from `imaging.check`.

    Returns:
        One token a region, in the order of `REGIONS`; none at all where nothing was found.
    """
    norms, head = load_norms(), head_mm3(segmentation)
    volumes = region_volumes_mm3(segmentation.region_map, segmentation.spacing_mm)
    rows, kinds, pointers = [], [], []
    for kind, region in enumerate(REGIONS):
        volume = volumes[region.key]
        if volume <= 0:
            continue
        z = norms.z(region.key, volume, head, age_years, sex)
        confidence = float(segmentation.confidence[kind])
        bounded = 0.0 if z is None else float(np.clip(z, -LARGEST_Z, LARGEST_Z))
        measured = [np.log(volume / head), bounded, confidence, float(z is not None)]
        rows.append(np.concatenate([segmentation.features[kind], measured]))
        kinds.append(kind)
        centile = norms.centile(region.key, volume, head, age_years, sex)
        pointers.append(RegionPointer(region.key, volume, centile, confidence))
    features = np.array(rows, dtype=np.float32).reshape(-1, FEATURES)
    grades = features[:, POOLED + 2] * np.float32(quality)
    return RegionTokens(features, np.array(kinds, dtype=np.int64), grades, tuple(pointers))
