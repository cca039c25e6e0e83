"""What a scanner makes of a head: contrast, shading, noise and the file."""

import gzip

import nibabel as nib
import numpy as np
from jaxtyping import Float
from scipy import ndimage

from sample_data.hospitals import Scanner


def acquire(
    voxels: Float[np.ndarray, "i j k"], scanner: Scanner, rng: np.random.Generator
) -> Float[np.ndarray, "i j k"]:
    """Contrast, shading and Rician noise (Gudbjartsson and Patz, MRM 1995)."""
    shading = ndimage.zoom(rng.normal(0.0, scanner.bias, (3, 3, 3)), np.array(voxels.shape) / 3.0)
    signal = (np.clip(voxels, 0.0, 1.2) / 0.85) ** scanner.gamma * np.exp(shading)
    real, imaginary = rng.normal(0.0, scanner.noise, (2, *voxels.shape))
    magnitude: Float[np.ndarray, "i j k"] = np.hypot(signal + real, imaginary)
    return magnitude.astype(np.float32)


def store(
    voxels: Float[np.ndarray, "i j k"], affine: Float[np.ndarray, "4 4"], scanner: Scanner
) -> nib.Nifti1Image:
    """Whole numbers in the scanner's own axes."""
    kind = np.uint8 if scanner.scale <= 255 else np.int16
    limit = np.iinfo(kind).max
    whole = np.clip(np.round(voxels * scanner.scale), 0, limit).astype(kind)
    image = nib.Nifti1Image(whole, affine)
    turn = nib.orientations.ornt_transform(
        nib.io_orientation(affine), nib.orientations.axcodes2ornt(tuple(scanner.orientation))
    )
    return image.as_reoriented(turn)


def nifti_bytes(image: nib.Nifti1Image) -> bytes:
    """The compressed file; the same image gives the same bytes."""
    return gzip.compress(image.to_bytes(), compresslevel=6, mtime=0)
