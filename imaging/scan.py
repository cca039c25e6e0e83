"""The scan: voxels with their place in the patient's head, and what any reader holds it to."""

import math
from dataclasses import dataclass
from datetime import date

import numpy as np
from jaxtyping import Float

AXIS_VOXELS = (16, 1024)  # shortest and longest axis
LARGEST_VOLUME = 1 << 27  # voxels; 512 x 512 x 512
SPACING_MM = (0.2, 10.0)
FARTHEST_MM = 10_000.0  # of the first voxel from the origin
LEAST_DETERMINANT = 0.5  # of the axes' directions: 1 at right angles, 0 in one plane
DAYS_PER_YEAR = 365.25
AGAIN = "export the scan again"


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


def check_shape(shape: tuple[int, ...]) -> int:
    """How many voxels a volume of this shape has, where a head's scan can have it."""
    low, high = AXIS_VOXELS
    if not all(low <= n <= high for n in shape) or math.prod(shape) > LARGEST_VOLUME:
        raise ScanError(
            f"scan header: {shape} voxels; expected {low} to {high} along each axis and at "
            f"most {LARGEST_VOLUME} in all: choose the 3D series"
        )
    return math.prod(shape)


def check_affine(affine: Float[np.ndarray, "4 4"]) -> None:
    """Are the axes finite, of a head's size and not in one plane?"""
    if not np.isfinite(affine).all() or np.abs(affine[:3, 3]).max() > FARTHEST_MM:
        raise ScanError(f"scan header: the affine is not finite or far off; {AGAIN}")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    if not ((spacing >= SPACING_MM[0]) & (spacing <= SPACING_MM[1])).all():
        raise ScanError(
            f"scan header: voxels of {spacing.round(3).tolist()} mm; expected "
            f"{SPACING_MM[0]} to {SPACING_MM[1]}: {AGAIN}"
        )
    determinant = abs(np.linalg.det(affine[:3, :3] / spacing))
    if determinant < LEAST_DETERMINANT:
        raise ScanError(f"scan header: axes almost in one plane ({determinant:.2f}); {AGAIN}")


def check_values(voxels: Float[np.ndarray, "*axes"]) -> None:
    """Is there a picture at all?"""
    low, high = float(voxels.min()), float(voxels.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ScanError(f"scan voxels: some are not finite numbers; {AGAIN}")
    if low == high:
        raise ScanError(f"scan voxels: all have the same value; {AGAIN}")


@dataclass(frozen=True)
class Acquisition:
    """How a scan was taken: the header facts that matter; everything else is dropped.

    Attributes:
        field_strength_t: Magnetic field in tesla.
        manufacturer: One of a closed list of vendors, else ``other``.
        sequence: Closed words such as ``3D inversion-recovery gradient echo``, never free text.
        repetition_time_ms: Of the pulse sequence.
        echo_time_ms: Of the pulse sequence.
        inversion_time_ms: None where nothing is inverted.
        flip_angle_deg: Of the excitation.
        acquired_on: Day of the scan.
    """

    field_strength_t: float | None = None
    manufacturer: str | None = None
    sequence: str | None = None
    repetition_time_ms: float | None = None
    echo_time_ms: float | None = None
    inversion_time_ms: float | None = None
    flip_angle_deg: float | None = None
    acquired_on: date | None = None


@dataclass(frozen=True)
class Identity:
    """Whose scan a header says it is: held against the record, never stored or logged.

    Attributes:
        patient_id: As the hospital that made the scan numbers its patients.
        sex: ``female`` or ``male``.
        birth_year: Gregorian.
    """

    patient_id: str | None = None
    sex: str | None = None
    birth_year: int | None = None
