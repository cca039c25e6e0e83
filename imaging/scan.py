"""The scan: voxels with their place in the patient's head."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


class ScanError(ValueError):
    """A scan that cannot be used; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Scan:
    """One three-dimensional MRI series.

    Attributes:
        voxels: Intensities in arbitrary units, ``float32``.
        affine: Voxel index to RAS+ world coordinates in mm.
        sequence: ``T1w``; others are read but not segmented.
    """

    voxels: Float[np.ndarray, "i j k"]
    affine: Float[np.ndarray, "4 4"]
    sequence: str = "T1w"

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along i, j, k in mm."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)
