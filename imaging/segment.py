"""The network that names every voxel, and whose features describe every region."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from monai.networks.nets.segresnet import SegResNet
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from imaging.prepare import pad_to_multiple
from imaging.regions import REGIONS
from imaging.regions import Segmentation as Segmentation
from imaging.scan import Scan

WEIGHTS = Path(__file__).parent / "weights"  # what ships
FINE = 16  # channels of the features at full resolution
COARSE = 64  # channels of the features at a quarter of it
WINDOW = (80, 104, 88)  # voxels the network sees around the brain's centre: 160 x 208 x 176 mm


@dataclass(frozen=True)
class RegionNetConfig:
    """Shape of the network."""

    init_filters: int = FINE  # channels at full resolution, doubled at each level
    blocks_down: tuple[int, ...] = (1, 2, 2, 2)  # residual blocks per level
    blocks_up: tuple[int, ...] = (1, 1, 1)
    n_labels: int = len(REGIONS) + 1  # regions and background


class RegionNet(nn.Module):
    """MONAI SegResNet (Myronenko 2018) whose encoder also serves the region tokens."""

    def __init__(self, config: RegionNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or RegionNetConfig()
        self.body = SegResNet(
            spatial_dims=3,
            init_filters=self.config.init_filters,
            in_channels=1,
            out_channels=self.config.n_labels,
            blocks_down=self.config.blocks_down,
            blocks_up=self.config.blocks_up,
            use_conv_final=False,
        )
        self.norm = nn.GroupNorm(8, self.config.init_filters)
        self.head = nn.Linear(self.config.init_filters, self.config.n_labels)

    def features(
        self, volume: Float[Tensor, "batch 1 i j k"]
    ) -> tuple[Float[Tensor, "batch fine i j k"], Float[Tensor, "batch coarse i4 j4 k4"]]:
        """Features at full resolution and at a quarter of it, from one pass."""
        deepest, levels = self.body.encode(volume)
        coarse = levels[2]
        fine = self.body.decode(deepest, list(reversed(levels)))
        return torch.relu(self.norm(fine)), coarse

    def forward(self, volume: Float[Tensor, "batch 1 i j k"]) -> Float[Tensor, "batch label i j k"]:
        """Logits of every label at every voxel; axes must be multiples of 16."""
        fine, _ = self.features(volume)
        logits: Tensor = self.head(fine.movedim(1, -1))
        return logits.movedim(-1, 1)

    def save(self, folder: Path) -> None:
        """Write ``segment.safetensors`` and ``segment.json`` into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {k: v.contiguous() for k, v in self.state_dict().items()}
        save_file(weights, folder / "segment.safetensors")
        (folder / "segment.json").write_text(json.dumps(asdict(self.config), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path = WEIGHTS) -> "RegionNet":
        """Read what `save` wrote; ready to infer."""
        settings = json.loads((folder / "segment.json").read_text())
        for name in ("blocks_down", "blocks_up"):
            settings[name] = tuple(settings[name])
        net = cls(RegionNetConfig(**settings))
        net.load_state_dict(load_file(folder / "segment.safetensors"))
        return net.eval()


@torch.inference_mode()
def segment(net: RegionNet, prepared: Scan) -> Segmentation:
    """Name every voxel of a prepared scan and pool the features inside each region.

    The network sees a window around the brain, as in training: its group normalization takes
    statistics over all it sees, and a field of view full of neck or air would shift them. A first
    pass over the whole volume finds the brain.

    Args:
        net: Trained network.
        prepared: What `imaging.prepare.prepare` returned.
    """
    n = net.config.n_labels
    centre = _brain_centre(net, prepared.voxels)
    labels, probability, rows, coarse = _name(net, cut(prepared.voxels, centre))
    inside = cut(np.ones_like(prepared.voxels, dtype=bool), centre)
    labels[torch.from_numpy(~inside).flatten()] = 0  # nothing is named beyond the scan
    grid = labels.view(WINDOW)
    confidence = _pool(probability[:, None], labels, n)[1:, 0]
    described = torch.cat([_pool(rows.float(), labels, n), _pool_coarse(coarse, grid, n)], dim=1)
    region_map = np.zeros(prepared.voxels.shape, dtype=np.uint8)
    there, here = _overlap(region_map.shape, centre, WINDOW)
    region_map[there] = grid.numpy()[here]
    return Segmentation(region_map, prepared.affine, described[1:].numpy(), confidence.numpy())


def cut(
    volume: Shaped[np.ndarray, "i j k"],
    centre: Sequence[int],
    size: tuple[int, int, int] = WINDOW,
) -> Shaped[np.ndarray, "i2 j2 k2"]:
    """A box of `size` voxels around a voxel; zero beyond the volume."""
    box = np.zeros(size, dtype=volume.dtype)
    there, here = _overlap(volume.shape, centre, size)
    box[here] = volume[there]
    return box


def _overlap(
    shape: Sequence[int], centre: Sequence[int], size: tuple[int, int, int]
) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Where volume and box overlap: in the volume's voxels, and in the box's."""
    there, here = [], []
    for n, c, w in zip(shape, centre, size, strict=True):
        low = c - w // 2
        start, stop = max(low, 0), max(min(low + w, n), 0)
        there.append(slice(start, stop))
        here.append(slice(start - low, stop - low))
    return tuple(there), tuple(here)


def _brain_centre(net: RegionNet, voxels: Float[np.ndarray, "i j k"]) -> list[int]:
    """Mean voxel of all that a first pass names; the middle where it names nothing."""
    i, j, k = voxels.shape
    whole = pad_to_multiple(torch.from_numpy(voxels))
    labels, _, _, _ = _name(net, whole.numpy())
    brain = labels.view(whole.shape)[:i, :j, :k].nonzero().float()
    middle = brain.mean(dim=0) if len(brain) else torch.tensor([i / 2, j / 2, k / 2])
    return [int(n) for n in middle.round()]


def _name(
    net: RegionNet, voxels: Float[np.ndarray, "i j k"]
) -> tuple[
    Int64[Tensor, " voxel"],
    Float[Tensor, " voxel"],
    Float[Tensor, "voxel fine"],
    Float[Tensor, "1 coarse i4 j4 k4"],
]:
    """Winning label and its probability of every voxel, and both kinds of features."""
    volume = torch.from_numpy(voxels)[None, None]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fine, coarse = net.features(volume.contiguous(memory_format=torch.channels_last_3d))
        rows = fine.movedim(1, -1).flatten(0, -2)
        # In slabs: the logits of all labels at once would take a gigabyte.
        winners = [_winner(net.head(part)) for part in torch.split(rows, 1 << 18)]
    labels, probability = (torch.cat(parts) for parts in zip(*winners, strict=True))
    return labels, probability, rows, coarse


def _winner(
    logits: Float[Tensor, "voxel label"],
) -> tuple[Int64[Tensor, " voxel"], Float[Tensor, " voxel"]]:
    """The winning label of each voxel and its probability."""
    probability, label = logits.float().softmax(dim=1).max(dim=1)
    return label, probability


def _pool(
    values: Float[Tensor, "voxel channel"], labels: Int64[Tensor, " voxel"], n_labels: int
) -> Float[Tensor, "label channel"]:
    """Mean of the values under each label, zero where a label has no voxel."""
    sums = torch.zeros(n_labels, values.shape[1]).index_add_(0, labels, values)
    counts = torch.bincount(labels, minlength=n_labels).clamp(min=1)
    return sums / counts[:, None]


def _pool_coarse(
    coarse: Float[Tensor, "1 channel i4 j4 k4"], labels: Int64[Tensor, "i j k"], n_labels: int
) -> Float[Tensor, "label channel"]:
    """Mean of coarse features under each label, each voxel taking those of its block."""
    step = labels.shape[-1] // coarse.shape[-1]
    i, j, k = (torch.arange(n) // step for n in labels.shape[-3:])
    block = (i[:, None, None] * coarse.shape[-2] + j[None, :, None]) * coarse.shape[-1] + k
    n_blocks = coarse[0, 0].numel()
    pairs = labels.flatten() * n_blocks + block.flatten()
    joint = torch.bincount(pairs, minlength=n_labels * n_blocks)
    shares = joint.view(n_labels, n_blocks).float()
    shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=1)
    return shares @ coarse[0].flatten(1).float().T
