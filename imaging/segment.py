"""The network that names every voxel, and whose features describe every region."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
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

    Args:
        net: Trained network.
        prepared: What `imaging.prepare.prepare` returned.
    """
    i, j, k = prepared.voxels.shape
    volume = pad_to_multiple(torch.from_numpy(prepared.voxels)[None, None])
    volume = volume.contiguous(memory_format=torch.channels_last_3d)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fine, coarse = net.features(volume)
        rows = fine.movedim(1, -1).flatten(0, -2)
        # In slabs: the logits of all labels at once would take a gigabyte.
        winners = [_winner(net.head(part)) for part in torch.split(rows, 1 << 18)]
    labels = torch.cat([label for label, _ in winners])
    probability = torch.cat([p for _, p in winners])
    grid = labels.view(volume.shape[-3:])  # the same memory
    grid[i:], grid[:, j:], grid[:, :, k:] = 0, 0, 0  # nothing is named in the padding
    n = net.config.n_labels
    confidence = _pool(probability[:, None], labels, n)[1:, 0]
    described = torch.cat([_pool(rows.float(), labels, n), _pool_coarse(coarse, grid, n)], dim=1)[
        1:
    ]
    region_map = grid[:i, :j, :k].to(torch.uint8).numpy()
    return Segmentation(
        np.ascontiguousarray(region_map), prepared.affine, described.numpy(), confidence.numpy()
    )


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
