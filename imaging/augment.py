"""Make one labelled scan look like another person's, on another scanner.

The training subjects are healthy adults seen by one scanner. Their anatomy is bent as in atrophy
(wide ventricles, small hippocampi), their heads turned, and their pictures given other
contrasts, resolutions, bias fields and noise (Billot et al., Medical Image Analysis 2023).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import avg_pool3d, grid_sample, interpolate

from imaging.regions import REGION_INDEX, REGIONS, mirrored_labels

FIELD_STEP = 2  # voxels between the points at which a deformation is computed


@dataclass(frozen=True)
class AugmentConfig:
    """How far training scans are changed; lengths in voxels of the network's grid."""

    plain: float = 0.5  # chance of a mild change only
    rotation: float = 0.3  # radians, about each axis
    scale: float = 0.15
    shear: float = 0.05
    shift: float = 5.0
    bend: float = 1.5  # of a smooth random deformation
    widen: float = 2.2  # of a ventricle's wall, outwards
    shrink: float = 1.2  # of a hippocampus's surface, inwards; widened half as much at most
    tissue: float = 0.06  # standard deviation of a region's change in brightness
    gamma: float = 0.4  # of the logarithm of the exponent
    bias: float = 0.35  # of the logarithm of the coil's sensitivity
    noise: float = 0.05
    coarsest: float = 0.5  # smallest share of the resolution that is kept along an axis


def augment(
    image: Float32[np.ndarray, "i j k"],
    labels: UInt8[np.ndarray, "i j k"],
    window: tuple[int, int, int],
    rng: np.random.Generator,
    config: AugmentConfig | None = None,
) -> tuple[Float32[Tensor, "1 i2 j2 k2"], Int64[Tensor, "i2 j2 k2"]]:
    """Draw one changed window from around the middle of a labelled scan.

    Args:
        image: Normalised voxels, RAS+.
        labels: Region map of the same grid.
        window: Size of what is returned.
        rng: Where all chance comes from.
        config: How far to go.
    """
    config = config or AugmentConfig()
    mild = rng.random() < config.plain
    grid = _sampling_grid(labels, window, rng, config, 0.3 if mild else 1.0)
    volume = grid_sample(torch.from_numpy(image)[None, None], grid, align_corners=False)[0]
    source = torch.from_numpy(labels)[None, None].float()
    target = grid_sample(source, grid, mode="nearest", align_corners=False)[0, 0].long()
    volume = _repaint(volume, target, rng, config, mild=mild)
    if rng.random() < 0.5:
        volume, target = volume.flip(1), torch.tensor(mirrored_labels())[target.flip(0)]
    return volume.clamp(0.0, 2.0).contiguous(), target.contiguous()


def _sampling_grid(
    labels: UInt8[np.ndarray, "i j k"],
    window: tuple[int, int, int],
    rng: np.random.Generator,
    config: AugmentConfig,
    extent: float,
) -> Float[Tensor, "1 i2 j2 k2 3"]:
    """Where each voxel of the window comes from, as `grid_sample` wants it (k, j, i in -1..1)."""
    coarse = [n // FIELD_STEP for n in window]
    axes = [
        (torch.arange(n, dtype=torch.float32) + 0.5) * FIELD_STEP - w / 2
        for n, w in zip(coarse, window, strict=True)
    ]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)
    turn = torch.from_numpy(_random_affine(rng, config, extent)).float()
    shift = torch.from_numpy(rng.uniform(-1, 1, 3) * config.shift * extent).float()
    points = points @ turn.T + shift
    bend = rng.normal(0, config.bend * extent / 2, (1, 3, 4, 5, 4)).astype(np.float32)
    smooth = interpolate(torch.from_numpy(bend), size=coarse, mode="trilinear")[0]
    points = points + smooth.movedim(0, -1)
    half = torch.tensor(labels.shape, dtype=torch.float32) / 2
    field = atrophy_field(labels, rng, config)
    if field is not None:
        where = (points / half).flip(-1)[None]
        points = points + grid_sample(field[None], where, align_corners=False)[0].movedim(0, -1)
    fine = interpolate(points.movedim(-1, 0)[None], size=window, mode="trilinear")
    return (fine.movedim(1, -1) / half).flip(-1)


def _random_affine(
    rng: np.random.Generator, config: AugmentConfig, extent: float
) -> Float[np.ndarray, "3 3"]:
    """A rotation about all axes, scales and shears."""
    turn = np.eye(3)
    for axis, angle in enumerate(rng.uniform(-1, 1, 3) * config.rotation * extent):
        a, b = (n for n in range(3) if n != axis)
        one = np.eye(3)
        one[[a, b], [a, b]] = np.cos(angle)
        one[a, b], one[b, a] = -np.sin(angle), np.sin(angle)
        turn = one @ turn
    shear = rng.uniform(-1, 1, (3, 3)) * config.shear * extent
    np.fill_diagonal(shear, 1 + rng.uniform(-1, 1, 3) * config.scale * extent)
    return np.asarray(turn @ shear)


def atrophy_field(
    labels: UInt8[np.ndarray, "i j k"], rng: np.random.Generator, config: AugmentConfig
) -> Float32[Tensor, "3 i2 j2 k2"] | None:
    """A displacement, in voxels, that widens the ventricles and shrinks the hippocampi.

    Each is pushed along the gradient of its blurred mask; a window reads at the displaced point,
    so reading further inside widens. None where nothing changes, as half the time.
    """
    pushes = [
        (("lateral ventricle", "inferior lateral ventricle", "third ventricle"), 1.6,
         rng.uniform(-0.2, 1.0) * config.widen, None),
        *((("hippocampus", "amygdala"), 1.0, rng.uniform(-1.0, 0.5) * config.shrink, side)
          for side in ("left", "right")),
    ]  # fmt: skip
    if rng.random() < 0.5:
        return None
    field = np.zeros((3, *(n // FIELD_STEP for n in labels.shape)), dtype=np.float32)
    for names, sigma, push, side in pushes:
        values = [
            REGION_INDEX[r.key] + 1
            for r in REGIONS
            if r.name in names and (side is None or r.side == side)
        ]
        mask = _halved(np.isin(labels, values))
        if not mask.any():
            continue
        slope = np.stack(np.gradient(gaussian_filter(mask, sigma)))
        steepest = float(np.sqrt((slope**2).sum(axis=0)).max())
        field += push * slope / max(steepest, 1e-6)
    return torch.from_numpy(field)


def _halved(mask: np.ndarray) -> Float32[np.ndarray, "i2 j2 k2"]:
    """Mean over blocks of 2 x 2 x 2 voxels."""
    blocks = torch.from_numpy(mask.astype(np.float32))[None, None]
    return np.asarray(avg_pool3d(blocks, FIELD_STEP)[0, 0].numpy())


def _repaint(
    volume: Float32[Tensor, "1 i j k"],
    target: Int64[Tensor, "i j k"],
    rng: np.random.Generator,
    config: AugmentConfig,
    *,
    mild: bool,
) -> Float32[Tensor, "1 i j k"]:
    """The same anatomy as another scanner would show it."""
    torch_seed = torch.Generator().manual_seed(int(rng.integers(1 << 62)))

    def sometimes(chance: float) -> bool:
        return bool(rng.random() < (chance * 0.3 if mild else chance))

    if sometimes(0.4):
        volume = volume + _region_shifts(target, rng, config)
    if sometimes(0.25):  # as if the skull had been removed, or fat suppressed
        volume = volume * torch.where(target > 0, 1.0, float(rng.choice([0.0, 0.4, 1.4])))
    if sometimes(0.6):
        volume = volume.clamp(min=0.0) ** float(np.exp(rng.uniform(-1, 1) * config.gamma))
    if sometimes(0.5):
        coil = rng.normal(0, config.bias / 2, (1, 1, 3, 4, 3)).astype(np.float32)
        volume = (
            volume
            * interpolate(torch.from_numpy(coil), size=volume.shape[1:], mode="trilinear")[0].exp()
        )
    if sometimes(0.5):
        volume = _coarser(volume, rng, config.coarsest)
    if sometimes(0.6):
        noise = torch.randn(volume.shape, generator=torch_seed)
        volume = (volume + noise * rng.uniform(0, config.noise)).abs()  # Rician at low signal
    return volume * float(rng.uniform(0.75, 1.3))


def _region_shifts(
    target: Int64[Tensor, "i j k"], rng: np.random.Generator, config: AugmentConfig
) -> Float32[Tensor, "1 i j k"]:
    """Another brightness for each tissue and, a little, for each region, with soft borders."""
    tissues = {t: rng.normal(0, config.tissue) for t in ("grey", "white", "csf", "mixed")}
    table = [rng.normal(0, config.tissue / 3)]
    table += [tissues[r.tissue] + rng.normal(0, config.tissue / 4) for r in REGIONS]
    shifts = torch.tensor(table, dtype=torch.float32)[target][None, None]
    return avg_pool3d(shifts, 3, stride=1, padding=1)[0]


def _coarser(
    volume: Float32[Tensor, "1 i j k"], rng: np.random.Generator, coarsest: float
) -> Float32[Tensor, "1 i j k"]:
    """As if scanned with larger voxels: all axes alike, or thick slices along one."""
    share = np.full(3, rng.uniform(coarsest, 1.0))
    if rng.random() < 0.5:
        share = np.ones(3)
        share[rng.integers(3)] = rng.uniform(coarsest, 1.0)
    size = [max(8, round(n * s)) for n, s in zip(volume.shape[1:], share, strict=True)]
    small = interpolate(volume[None], size=size, mode="area")
    return interpolate(small, size=volume.shape[1:], mode="trilinear")[0]
