"""From a scan to the volume the network sees; the same in training and in use."""

import nibabel as nib
import numpy as np
from jaxtyping import Float, Float32
from scipy.ndimage import gaussian_filter1d

from imaging.scan import Scan, ScanError

SPACING_MM = 2.0  # isotropic grid of the network


def to_ras(scan: Scan) -> Scan:
    """Turn the axes so that i grows to the right, j to the front, k upwards (RAS+).

    An oblique scan keeps its angle, which stays in the affine.
    """
    canonical = nib.as_closest_canonical(nib.Nifti1Image(scan.voxels, scan.affine))
    voxels = np.ascontiguousarray(canonical.dataobj, dtype=np.float32)
    return Scan(voxels, np.asarray(canonical.affine, dtype=np.float64), scan.sequence)


def resample(scan: Scan, spacing_mm: float = SPACING_MM) -> Scan:
    """Resample to isotropic voxels over the same field of view, by trilinear interpolation.

    A Gaussian first removes what the coarser grid cannot show.
    """
    ratio = np.array(scan.spacing_mm) / spacing_mm
    if np.allclose(ratio, 1.0, atol=1e-3):
        return scan
    old = np.array(scan.voxels.shape)
    new = np.maximum(np.round(old * ratio), 1).astype(int)
    voxels = scan.voxels.astype(np.float32)
    blurred = bool((ratio < 0.8).any())
    for axis in np.argsort(ratio):  # the one that loses most first, which leaves the others less
        if blurred and ratio[axis] < 1:
            sigma = 0.5 * (1.0 / ratio[axis] - 1.0)
            voxels = gaussian_filter1d(voxels, sigma, axis, mode="nearest")
        voxels = _along(voxels, int(axis), int(new[axis]))
    # Corners of the field of view stay where they are, so voxel centres move by a fraction.
    step = old / new
    affine = scan.affine.copy()
    affine[:3, :3] = scan.affine[:3, :3] * step
    affine[:3, 3] = scan.affine[:3, 3] + scan.affine[:3, :3] @ ((step - 1.0) / 2.0)
    return Scan(voxels, affine, scan.sequence)


def _along(
    voxels: Float32[np.ndarray, "i j k"], axis: int, n: int
) -> Float32[np.ndarray, "i2 j2 k2"]:
    """Interpolate linearly along one axis, to `n` voxels over the same extent."""
    old = voxels.shape[axis]
    if n == old:
        return voxels
    at = np.clip((np.arange(n) + 0.5) * (old / n) - 0.5, 0, old - 1)
    before = at.astype(int)
    after = np.minimum(before + 1, old - 1)
    share = np.expand_dims((at - before).astype(np.float32), [a for a in range(3) if a != axis])
    first = voxels.take(before, axis)
    first += share * (voxels.take(after, axis) - first)
    return np.ascontiguousarray(first)


def normalize(voxels: Float[np.ndarray, "i j k"]) -> Float[np.ndarray, "i j k"]:
    """Scale intensities so that the head's median is 0.5 and clip them to 0..2.

    The head is what is brighter than the mean of the whole volume, which depends little
    on how much air the field of view holds.
    """
    head = voxels[voxels > voxels.mean()]
    if head.size == 0:
        raise ScanError("the scan holds one grey value only; export it again")
    return np.clip(voxels * (0.5 / float(np.median(head))), 0.0, 2.0).astype(np.float32)


def prepare(scan: Scan) -> Scan:
    """Reorient, resample to 2 mm and normalise.

    Returns:
        A scan in RAS+ order whose affine still leads to the same world coordinates.
    """
    coarse = resample(to_ras(scan))
    return Scan(normalize(coarse.voxels), coarse.affine, scan.sequence)
