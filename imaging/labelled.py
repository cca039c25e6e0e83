"""Scans with label maps: which are trained on, which are held out, and how a map is scored."""

import logging
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from jaxtyping import Float64, Integer, UInt8

from imaging.prepare import normalize, to_ras
from imaging.regions import REGION_INDEX, REGIONS, from_muse
from imaging.scan import Scan

log = logging.getLogger(__name__)


def held_out(ids: list[str]) -> tuple[list[str], list[str]]:
    """Split subjects into those to train on and every fifth, which is held out.

    Example:
        >>> held_out(["e", "d", "c", "b", "a"])
        (['b', 'c', 'd', 'e'], ['a'])
    """
    ordered = sorted(ids)
    return [s for n, s in enumerate(ordered) if n % 5], ordered[::5]


def has_both_sides(region_map: Integer[np.ndarray, "i j k"]) -> bool:
    """Whether left and right white matter are of like size in a label map.

    Of the 150 IXI label maps four put most of both hemispheres on one side.
    """
    left, right = (
        int((region_map == REGION_INDEX[f"{side} cerebral white matter"] + 1).sum())
        for side in ("left", "right")
    )
    return 0.8 * right < left < 1.25 * right


def usable(data: Path, subjects: list[str]) -> list[str]:
    """Subjects whose label map can be trusted about sides; the others are logged."""
    good = [s for s in subjects if has_both_sides(read_pair(data, s)[1])]
    for subject in sorted(set(subjects) - set(good)):
        log.warning("%s left out: its label map has both hemispheres on one side", subject)
    return good


def read_pair(data: Path, subject: str) -> tuple[Scan, np.ndarray]:
    """One subject's normalised scan and region map, both RAS+ on the same grid."""
    t1 = nib.nifti1.load(data / "t1" / f"{subject}.nii.gz")
    seg = nib.nifti1.load(data / "seg" / f"{subject}.nii.gz")
    scan = to_ras(Scan(np.asarray(t1.dataobj, dtype=np.float32), np.asarray(t1.affine)))
    labels = nib.as_closest_canonical(seg)
    region_map = from_muse(np.asarray(labels.dataobj).astype(np.int32))
    return Scan(normalize(scan.voxels), scan.affine), region_map


def middle_of(region_map: UInt8[np.ndarray, "i j k"], regions: Sequence[str] = ()) -> list[int]:
    """Mean voxel of some regions, or of all that has a label; empty where they are not there."""
    labels = [REGION_INDEX[key] + 1 for key in regions]
    inside = np.isin(region_map, labels) if labels else region_map > 0
    return [int(n) for n in np.argwhere(inside).mean(axis=0).round()] if inside.any() else []


def dice_of(
    found: UInt8[np.ndarray, "i j k"], truth: UInt8[np.ndarray, "i j k"]
) -> Float64[np.ndarray, " region"]:
    """Dice of every region of `REGIONS`; NaN for one that the truth does not have."""
    n = len(REGIONS) + 1
    both = np.bincount(truth[found == truth], minlength=n)[1:]
    ours, theirs = (np.bincount(m.ravel(), minlength=n)[1:] for m in (found, truth))
    return np.where(theirs > 0, 2 * both / np.maximum(ours + theirs, 1), np.nan)
