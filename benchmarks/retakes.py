"""The same head scanned again: turned, with other voxels, shading, noise or contrast.

Every function takes a scan and gives one whose affine says where its voxels now lie. A new grid is
filled by cubic splines from voxels of 2 mm, so it shows less detail than a new scan would.
"""

import zlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from scipy.ndimage import affine_transform, zoom
from scipy.spatial.transform import Rotation

from imaging.prepare import to_ras
from imaging.scan import Scan

Retake = Callable[[Scan, np.random.Generator], Scan]

TURN_DEG = 15.0  # largest rotation
SHADING = 0.3  # largest logarithm of the coil's sensitivity
NOISE = 0.05  # of the head's median brightness
WIDEST_SAMPLE_MM = 1.5  # thicker voxels are the mean of several samples


def regridded(
    scan: Scan, spacing_mm: Sequence[float], turn: Float[np.ndarray, "3 3"] | None = None
) -> Scan:
    """The same field of view, turned about its middle, in voxels of another size.

    Args:
        scan: Any orientation.
        spacing_mm: New voxel size along i, j, k; a thick voxel is the mean of what it covers.
        turn: Rotation of the new grid in world coordinates.
    """
    old_shape = np.array(scan.voxels.shape)
    spacing = np.array(spacing_mm, dtype=np.float64)
    shape = np.round(old_shape * scan.spacing_mm / spacing).astype(int)
    parts = np.maximum(np.round(spacing / WIDEST_SAMPLE_MM), 1).astype(int)
    directions = scan.affine[:3, :3] / scan.spacing_mm
    middle = scan.affine[:3, :3] @ ((old_shape - 1) / 2) + scan.affine[:3, 3]
    directions = directions if turn is None else turn @ directions
    fine = grid_around(middle, directions * (spacing / parts), shape * parts)
    step = np.linalg.inv(scan.affine) @ fine
    i, j, k = shape * parts
    voxels = affine_transform(scan.voxels, step[:3, :3], step[:3, 3], (i, j, k), order=3)
    cells = np.stack([shape, parts], axis=1).ravel()
    voxels = voxels.reshape(cells).mean(axis=(1, 3, 5)).clip(min=0.0)
    return Scan(voxels, grid_around(middle, directions * spacing, shape), scan.sequence)


def grid_around(
    middle: Float[np.ndarray, "3"], axes: Float[np.ndarray, "3 3"], shape: Sequence[int]
) -> Float[np.ndarray, "4 4"]:
    """Affine of a grid with these axes (one voxel long, in columns) and this middle, in mm."""
    affine = np.eye(4)
    affine[:3, :3] = axes
    affine[:3, 3] = middle - axes @ ((np.array(shape) - 1) / 2)
    return affine


def random_turn(
    rng: np.random.Generator, least_deg: float = 0.0, most_deg: float = TURN_DEG
) -> Float[np.ndarray, "3 3"]:
    """A rotation about an axis that points anywhere."""
    axis = rng.normal(size=3)
    angle = np.radians(rng.uniform(least_deg, most_deg))
    return np.asarray(Rotation.from_rotvec(angle * axis / np.linalg.norm(axis)).as_matrix())


def turned(scan: Scan, rng: np.random.Generator) -> Scan:
    """The head lies otherwise in the scanner, by up to 15 degrees."""
    return regridded(scan, scan.spacing_mm, random_turn(rng))


def shaded(scan: Scan, rng: np.random.Generator) -> Scan:
    """A smooth bias field over the head."""
    coil = zoom(rng.normal(size=(4, 4, 4)), np.array(scan.voxels.shape) / 4, order=3)
    coil *= SHADING / np.abs(coil).max()
    return Scan((scan.voxels * np.exp(coil)).astype(np.float32), scan.affine, scan.sequence)


def noisy(scan: Scan, rng: np.random.Generator) -> Scan:
    """Rician noise (Gudbjartsson and Patz, MRM 1995)."""
    deviation = NOISE * float(np.median(scan.voxels[scan.voxels > scan.voxels.mean()]))
    real, imaginary = rng.normal(0.0, deviation, (2, *scan.voxels.shape))
    voxels = np.hypot(scan.voxels + real, imaginary).astype(np.float32)
    return Scan(voxels, scan.affine, scan.sequence)


def recontrasted(scan: Scan, exponent: float) -> Scan:
    """Brightness to a power: below 1 tissues look more alike, above 1 less."""
    brightest = np.percentile(scan.voxels, 99.5)
    voxels = brightest * (scan.voxels / brightest) ** exponent
    return Scan(voxels.astype(np.float32), scan.affine, scan.sequence)


def all_together(scan: Scan, rng: np.random.Generator) -> Scan:
    """Turned, in axial slices of 3 mm with 1 mm within the slice, shaded and noisy."""
    sliced = regridded(to_ras(scan), (1.0, 1.0, 3.0), random_turn(rng))
    return noisy(shaded(sliced, rng), rng)


RETEST: Mapping[str, Retake] = {
    "turned by up to 15 degrees": turned,
    "voxels of 1 mm": lambda scan, _: regridded(scan, (1.0, 1.0, 1.0)),
    "voxels of 3 mm": lambda scan, _: regridded(scan, (3.0, 3.0, 3.0)),
    "axial slices of 3 mm": lambda scan, _: regridded(to_ras(scan), (2.0, 2.0, 3.0)),
    "bias field of 30 %": shaded,
    "noise of 5 %": noisy,
    "all together": all_together,
}
TRANSFER: Mapping[str, Retake] = {
    "voxels of 1 mm": RETEST["voxels of 1 mm"],
    "voxels of 3 mm": RETEST["voxels of 3 mm"],
    "axial slices of 3 mm": RETEST["axial slices of 3 mm"],
    "turned by 15 degrees": lambda scan, rng: regridded(
        scan, scan.spacing_mm, random_turn(rng, least_deg=TURN_DEG)
    ),
    "flatter contrast (gamma 0.7)": lambda scan, _: recontrasted(scan, 0.7),
    "steeper contrast (gamma 1.4)": lambda scan, _: recontrasted(scan, 1.4),
}


def draw(subject: str, change: str) -> np.random.Generator:
    """Chance that depends on the subject and the change alone, so that subsets agree."""
    return np.random.default_rng(zlib.crc32(f"{subject} {change}".encode()))


def file_stem(subject: str, change: str) -> str:
    """Name under which a retake's segmentation is kept."""
    words = "".join(c if c.isalnum() or c == "." else " " for c in change).split()
    return "-".join([subject, *words])


def carried(
    labels: UInt8[np.ndarray, "i j k"],
    affine: Float[np.ndarray, "4 4"],
    onto: Float[np.ndarray, "4 4"],
    shape: tuple[int, int, int],
) -> UInt8[np.ndarray, "i2 j2 k2"]:
    """A label map on another grid: each voxel takes the label with most of its neighbours' weight.

    Args:
        labels: Label map; beyond it there is background.
        affine: Its voxel index to world coordinates.
        onto: The other grid's.
        shape: The other grid's.
    """
    step = np.linalg.inv(affine) @ onto
    if labels.shape == shape and np.allclose(step, np.eye(4), atol=1e-3):
        return labels
    most = np.zeros(shape, dtype=np.float32)
    winner = np.zeros(shape, dtype=np.uint8)
    for value in np.unique(labels):
        here = (labels == value).astype(np.float32)
        outside = float(value == 0)
        share = affine_transform(
            here, step[:3, :3], step[:3, 3], shape, order=1, mode="grid-constant", cval=outside
        )
        winner = np.where(share > most, value, winner).astype(np.uint8)
        most = np.maximum(share, most)
    return winner
