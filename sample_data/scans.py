"""Simulated T1-weighted MRI: one template, another anatomy and another scanner for each patient.

Regions shrink or widen by a flow of prescribed divergence: each step is the gradient of a
potential whose Laplacian is minus the logarithm of each region's volume factor, solved by one
Fourier transform. Fluid around the brain takes up what the brain gives away, so that the skull
stays where it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped, UInt8
from nilearn.datasets import load_mni152_template
from scipy import ndimage
from torch import Tensor

from imaging.engines import load_engine
from imaging.prepare import SPACING_MM, normalize, resample
from imaging.regions import REGION_INDEX, REGIONS, region_volumes_mm3
from imaging.scan import Scan
from imaging.segment import WEIGHTS, segment
from sample_data.acquisition import acquire, store
from sample_data.hospitals import Scanner
from sample_data.patients import Lesion

MARGIN_MM = 20  # added around the template for skull and scalp
FLUID_MM, SKULL_MM, SCALP_MM = 4.0, 9.0, 15.0  # where each layer around the brain ends
FLUID, SKULL, SCALP = 0.22, 0.06, 0.75  # their intensities; white matter is 0.85
ANATOMY_MM = 2.5  # standard deviation of the random displacement at its control points
ANATOMY_STEP_MM = 32.0  # distance of its control points
STEPS = 4  # of the flow
GAIN = 1.25  # makes up for what interpolation takes from each step


@dataclass(frozen=True)
class Template:
    """The head that all patients are made from, in RAS+.

    Attributes:
        head: Intensities on a 1 mm grid, white matter about 0.85.
        affine: Voxel index to world coordinates of `head`, mm.
        labels: Region map on a 2 mm grid over the same field of view.
        fluid: Fluid between brain and skull, on the grid of `labels`.
    """

    head: Float[Tensor, "i j k"]
    affine: Float[np.ndarray, "4 4"]
    labels: UInt8[Tensor, "i2 j2 k2"]
    fluid: Float[Tensor, "i2 j2 k2"]


@dataclass(frozen=True)
class Simulated:
    """A scan, and the regions it was made with.

    Attributes:
        image: Ready to store.
        volumes_mm3: True volume of each region by key, before noise and voxels.
    """

    image: nib.Nifti1Image
    volumes_mm3: dict[str, float]


def load_template(weights: Path = WEIGHTS) -> Template:
    """Give the ICBM152 brain of nilearn a skull and a scalp, and name its regions.

    Args:
        weights: Folder of the segmentation network.
    """
    icbm = load_mni152_template(resolution=1)
    brain = np.asarray(icbm.dataobj, dtype=np.float32)
    box = ndimage.find_objects((brain > 0.1).astype(np.int8))[0]
    corner = np.array([part.start for part in box]) - MARGIN_MM
    affine = np.array(icbm.affine, dtype=np.float64)
    affine[:3, 3] += affine[:3, :3] @ corner
    brain = np.pad(brain[box], MARGIN_MM)
    coarse = resample(Scan(brain, affine), SPACING_MM)
    inside = ndimage.binary_fill_holes(coarse.voxels > 0.15)
    distance_mm = ndimage.distance_transform_edt(~inside) * SPACING_MM
    around = torch.from_numpy(((distance_mm > 0) & (distance_mm <= FLUID_MM)).astype(np.float32))
    head = _cover(torch.from_numpy(brain), torch.from_numpy(distance_mm.astype(np.float32)))
    coarse = resample(Scan(head.numpy(), affine), SPACING_MM)
    named = segment(load_engine(weights), Scan(normalize(coarse.voxels), coarse.affine))
    labels = torch.from_numpy(named.region_map)
    return Template(head, affine, labels, around * (labels == 0))


def _cover(
    brain: Float[Tensor, "i j k"], distance_mm: Float[Tensor, "i2 j2 k2"]
) -> Float[Tensor, "i j k"]:
    """Put fluid, skull and scalp around a brain; the distance is that to the brain."""
    fine = torch.nn.functional.interpolate(
        distance_mm[None, None], size=brain.shape, mode="trilinear"
    )[0, 0]
    edges = [torch.sigmoid((fine - edge) / 0.5) for edge in (FLUID_MM, SKULL_MM, SCALP_MM)]
    shell = FLUID + (SKULL - FLUID) * edges[0] + (SCALP - SKULL) * edges[1] - SCALP * edges[2]
    return torch.maximum(brain, shell)


def simulate(
    template: Template,
    log_factors: Mapping[str, float],
    lesions: Sequence[Lesion],
    scanner: Scanner,
    rng: np.random.Generator,
) -> Simulated:
    """Draw one patient's scan.

    Args:
        template: What `load_template` returned.
        log_factors: Logarithm of a region's volume against the template's, by region key.
        lesions: Dark spots in the tissue.
        scanner: The hospital's.
        rng: Source of the anatomy, the pose and the noise.
    """
    with torch.inference_mode():
        flow = _flow(template, log_factors)
        anatomy = _anatomy(template, rng)
        points, affine = _output_points(template, scanner, rng)
        source = _follow(_follow(points, anatomy), flow)
        voxels = _sample(template.head[None], source)[0]
        voxels = voxels * _lesion_shade(template, lesions, source)
        volumes = _true_volumes(template, anatomy, flow)
    return Simulated(store(acquire(voxels.numpy(), scanner, rng), affine, scanner), volumes)


# Points and displacements are "3 i j k" in units of the field of view, -1..1 along each axis.


def _flow(template: Template, log_factors: Mapping[str, float]) -> Float[Tensor, "3 i j k"]:
    """Displacement from the patient to the template that gives regions their volumes.

    Each of the `STEPS` steps measures the regions where the steps before have moved them, and
    takes its share of what is still missing.
    """
    wanted = torch.zeros(len(REGIONS) + 1)
    for key, value in log_factors.items():
        wanted[REGION_INDEX[key] + 1] = value
    i, j, k = template.labels.shape
    here, labels = _centres((i, j, k)), template.labels[None].float()
    before = _log_counts(template.labels.long())
    flow = torch.zeros(3, i, j, k)
    for left in range(STEPS, 0, -1):
        seen = _sample(labels, here + flow, mode="nearest")[0].long()
        room = _sample(template.fluid[None], here + flow)[0]
        missing = wanted - (_log_counts(seen) - before)
        missing[0] = 0.0
        growth = (GAIN / left * missing.clamp(-1.0, 1.0))[seen]
        taken_up = (growth.sum() / room.sum()).clamp(-1.0, 1.0)
        step = _gradient_field(room * taken_up - growth)
        flow = step + _sample(flow, here + step)
    return flow


def _log_counts(labels: Int64[Tensor, "i j k"]) -> Float[Tensor, " label"]:
    return torch.bincount(labels.flatten(), minlength=len(REGIONS) + 1).clamp(min=1).log()


def _gradient_field(divergence: Float[Tensor, "i j k"]) -> Float[Tensor, "3 i j k"]:
    """The curl-free field with that divergence."""
    spectrum = torch.fft.rfftn(divergence)
    i, j, k = divergence.shape
    turns = (torch.fft.fftfreq(i), torch.fft.fftfreq(j), torch.fft.rfftfreq(k))
    waves = torch.stack(torch.meshgrid(*turns, indexing="ij")) * 2.0 * torch.pi
    square = (waves**2).sum(dim=0)
    square[0, 0, 0] = 1.0
    voxels: Tensor = torch.fft.irfftn(-1j * waves * (spectrum / square), s=(i, j, k), dim=(1, 2, 3))
    return voxels * (2.0 / torch.tensor([i, j, k], dtype=torch.float32))[:, None, None, None]


def _anatomy(template: Template, rng: np.random.Generator) -> Float[Tensor, "3 i j k"]:
    """A smooth random displacement, which makes every head another one."""
    size_mm = np.array(template.head.shape)
    knots = np.maximum(np.ceil(size_mm / ANATOMY_STEP_MM).astype(int) + 1, 4)
    moves = rng.normal(0.0, ANATOMY_MM, (3, *knots)) * (2.0 / size_mm)[:, None, None, None]
    coarse = [n // 4 for n in template.labels.shape]
    rough = _resize(torch.from_numpy(moves.astype(np.float32)), coarse)
    padded = torch.nn.functional.pad(rough[None], (2,) * 6, mode="replicate")
    smooth = torch.nn.functional.avg_pool3d(padded, 5, stride=1)[0]  # trilinear has kinks
    return _resize(smooth, list(template.labels.shape))


def _resize(field: Float[Tensor, "3 x y z"], size: list[int]) -> Float[Tensor, "3 i j k"]:
    larger: Tensor = torch.nn.functional.interpolate(field[None], size=size, mode="trilinear")
    return larger[0]


def _output_points(
    template: Template, scanner: Scanner, rng: np.random.Generator
) -> tuple[Float[Tensor, "3 i j k"], Float[np.ndarray, "4 4"]]:
    """Where the scanner's voxels lie in the template, and their affine to world coordinates."""
    size_mm = np.array(template.head.shape, dtype=np.float64)
    spacing = np.array(scanner.spacing_mm)
    shape = np.floor(size_mm / spacing).astype(int)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -spacing * (shape - 1) / 2.0 + rng.normal(0.0, 4.0, 3)
    turn = _rotation(rng.normal(0.0, np.radians(3.0), 3))
    head_size = np.exp(rng.normal(0.0, 0.03))
    step = np.diag(2.0 / size_mm) @ turn @ np.diag(spacing) / head_size
    middle = (shape - 1) / 2.0
    index = torch.stack(torch.meshgrid(*(torch.arange(n) for n in shape), indexing="ij")).double()
    centred = index - torch.from_numpy(middle)[:, None, None, None]
    points = torch.einsum("ab,bijk->aijk", torch.from_numpy(step), centred)
    return points.float(), affine


def _rotation(angles: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """Rotation about the three axes in turn; radians."""
    turn = np.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [n for n in range(3) if n != axis]
        one = np.eye(3)
        one[a, a] = one[b, b] = np.cos(angle)
        one[a, b], one[b, a] = -np.sin(angle), np.sin(angle)
        turn = one @ turn
    return turn


def _centres(shape: tuple[int, int, int]) -> Float[Tensor, "3 i j k"]:
    """The centre of every voxel of a grid over the whole field of view."""
    axes = [(2.0 * torch.arange(n) + 1.0) / n - 1.0 for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def _sample(
    volume: Shaped[Tensor, "channel i j k"],
    points: Float[Tensor, "3 x y z"],
    mode: str = "bilinear",
) -> Shaped[Tensor, "channel x y z"]:
    """Values of a volume at points of its field of view."""
    grid = points.flip(0).movedim(0, -1)[None]
    sampled: Tensor = torch.nn.functional.grid_sample(
        volume[None], grid, mode=mode, padding_mode="border", align_corners=False
    )
    return sampled[0]


def _follow(
    points: Float[Tensor, "3 x y z"], flow: Float[Tensor, "3 i j k"]
) -> Float[Tensor, "3 x y z"]:
    """Move points along a displacement."""
    return points + _sample(flow, points)


def _lesion_shade(
    template: Template, lesions: Sequence[Lesion], source: Float[Tensor, "3 x y z"]
) -> Float[Tensor, "x y z"]:
    """1 in healthy tissue, less inside a lesion; lesions lie at template coordinates."""
    shade = torch.ones(source.shape[1:])
    half = torch.tensor(template.head.shape, dtype=torch.float32) / 2.0
    for lesion in lesions:
        centre = torch.tensor(lesion.centre_mm) - torch.from_numpy(template.affine[:3, 3]).float()
        away = source - (centre / half - 1.0)[:, None, None, None]
        distance = ((away * half[:, None, None, None]) ** 2).sum(dim=0).sqrt()
        shade *= 1.0 - lesion.depth * torch.sigmoid((lesion.radius_mm - distance) / 0.8)
    return shade


def _true_volumes(
    template: Template, anatomy: Float[Tensor, "3 i j k"], flow: Float[Tensor, "3 i j k"]
) -> dict[str, float]:
    """Volumes on the template's grid after both deformations, without head size."""
    i, j, k = template.labels.shape
    source = _follow(_follow(_centres((i, j, k)), anatomy), flow)
    warped = _sample(template.labels[None].float(), source, mode="nearest")[0].to(torch.uint8)
    spacing = np.array(template.head.shape) / np.array(template.labels.shape)
    return region_volumes_mm3(warped.numpy(), [float(s) for s in spacing])
