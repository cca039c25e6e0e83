"""The networks that name voxels: MONAI's SegResNet, of the whole brain and of a closer look.

Their weights are kept as safetensors and JSON. Only what trains or converts them comes here: a scan
is segmented by what `imaging.engines` has kept, without torch.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from jaxtyping import Float, Shaped
from monai.networks.nets.segresnet import SegResNet
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from imaging.regions import REGIONS
from imaging.segment import BLOCK, WEIGHTS

N = TypeVar("N", bound="Network")


class Network(nn.Module):
    """A network that can be kept in a folder; abstract.

    Attributes:
        file_name: Of its files, without their ending.
        config_type: Dataclass of its shape.
        config: Its shape.
    """

    file_name: ClassVar[str]
    config_type: ClassVar[type]
    config: Any

    def save(self, folder: Path) -> None:
        """Write its weights, as float16, and its shape as JSON into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        weights = {k: v.half().contiguous() for k, v in self.state_dict().items()}
        save_file(weights, folder / f"{self.file_name}.safetensors")
        shape = json.dumps(asdict(self.config), indent=2)
        (folder / f"{self.file_name}.json").write_text(shape + "\n")

    @classmethod
    def load(cls: type[N], folder: Path = WEIGHTS) -> N:
        """Read what `save` wrote; ready to infer, in float32."""
        settings = json.loads((folder / f"{cls.file_name}.json").read_text())
        for field in fields(cls.config_type):
            if isinstance(settings.get(field.name), list):
                settings[field.name] = tuple(settings[field.name])
        net = cls(cls.config_type(**settings))
        net.load_state_dict(load_file(folder / f"{cls.file_name}.safetensors"))
        net.channels_last()
        return net.eval()

    def channels_last(self: N) -> N:
        """Store the weights so that convolutions run channel by channel, faster on CPUs."""
        for weight in self.parameters():
            if weight.ndim == 5:
                weight.data = weight.data.contiguous(memory_format=torch.channels_last_3d)
        return self


@dataclass(frozen=True)
class RegionNetConfig:
    """Shape of the network."""

    init_filters: int = 48  # channels of a block, doubled at each level
    blocks_down: tuple[int, ...] = (1, 2, 3)  # residual blocks per level
    blocks_up: tuple[int, ...] = (1, 1)
    voxel_features: int = 24  # of each voxel of a block, from which its label is read
    n_labels: int = len(REGIONS) + 1  # regions and background


class RegionNet(Network):
    """MONAI SegResNet (Myronenko 2018) whose encoder also serves the region tokens.

    The eight voxels of a block of 2 x 2 x 2 are the channels of its input, and a block's
    features name each of its voxels (sub-pixel convolution, Shi et al. 2016): on a CPU a
    convolution with few channels at full resolution costs most and learns least.
    """

    file_name = "segment"
    config_type = RegionNetConfig

    def __init__(self, config: RegionNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or RegionNetConfig()
        self.body = SegResNet(
            spatial_dims=3,
            init_filters=self.config.init_filters,
            in_channels=BLOCK**3,
            out_channels=self.config.n_labels,
            blocks_down=self.config.blocks_down,
            blocks_up=self.config.blocks_up,
            use_conv_final=False,
        )
        self.norm = nn.GroupNorm(8, self.config.init_filters)
        self.voxels = nn.Linear(self.config.init_filters, BLOCK**3 * self.config.voxel_features)
        self.head = nn.Linear(self.config.voxel_features, self.config.n_labels)

    def features(
        self, volume: Float[Tensor, "batch 1 i j k"]
    ) -> tuple[Float[Tensor, "batch fine i2 j2 k2"], Float[Tensor, "batch coarse i4 j4 k4"]]:
        """Features of the blocks, and of the level below at half their resolution."""
        deepest, levels = self.body.encode(into_blocks(volume))
        fine = self.body.decode(deepest, list(reversed(levels)))
        return torch.relu(self.norm(fine)), levels[1]

    def name(self, blocks: Float[Tensor, "block fine"]) -> Float[Tensor, "block voxel label"]:
        """Logits of every label at the eight voxels of some blocks."""
        voxels = torch.relu(self.voxels(blocks)).unflatten(1, (BLOCK**3, -1))
        logits: Tensor = self.head(voxels)
        return logits

    def forward(self, volume: Float[Tensor, "1 1 i j k"]) -> Float[Tensor, "1 label i j k"]:
        """Logits of every label at every voxel; axes must be multiples of 8."""
        fine, _ = self.features(volume)
        return in_place(self.name(rows(fine)), fine).movedim(-1, 0)[None]


def into_blocks(volume: Shaped[Tensor, "batch 1 i j k"]) -> Shaped[Tensor, "batch 8 i2 j2 k2"]:
    """Turn each block of 2 x 2 x 2 voxels into eight channels."""
    batch, _, i, j, k = volume.shape
    blocks = volume.view(batch, i // BLOCK, BLOCK, j // BLOCK, BLOCK, k // BLOCK, BLOCK)
    return blocks.permute(0, 2, 4, 6, 1, 3, 5).flatten(1, 3)


def rows(fine: Float[Tensor, "1 fine i2 j2 k2"]) -> Float[Tensor, "block fine"]:
    """A row per block."""
    return fine.movedim(1, -1).flatten(0, -2)


def in_place(
    blocks: Shaped[Tensor, "block voxel value"], fine: Float[Tensor, "1 fine i2 j2 k2"]
) -> Shaped[Tensor, "i j k value"]:
    """Values of the blocks' voxels at their places in the window."""
    i, j, k = fine.shape[2:]
    whole = blocks.view(i, j, k, BLOCK, BLOCK, BLOCK, -1).permute(0, 3, 1, 4, 2, 5, 6)
    return whole.reshape(BLOCK * i, BLOCK * j, BLOCK * k, -1)


@dataclass(frozen=True)
class CloseNetConfig:
    """Shape of the network."""

    init_filters: int = 16  # channels at the full grid, doubled at each level
    blocks_down: tuple[int, ...] = (1, 2, 2)  # residual blocks per level
    blocks_up: tuple[int, ...] = (1, 1)
    n_labels: int = len(REGIONS) + 1  # regions and background


class CloseNet(Network):
    """MONAI SegResNet (Myronenko 2018) at the full grid, for the right side.

    The left side is shown to it mirrored, and named with the labels of the other side.
    """

    file_name = "closeup"
    config_type = CloseNetConfig

    def __init__(self, config: CloseNetConfig | None = None) -> None:
        super().__init__()
        self.config = config or CloseNetConfig()
        self.body = SegResNet(
            spatial_dims=3,
            init_filters=self.config.init_filters,
            in_channels=1,
            out_channels=self.config.n_labels,
            blocks_down=self.config.blocks_down,
            blocks_up=self.config.blocks_up,
        )

    def forward(self, volume: Float[Tensor, "batch 1 i j k"]) -> Float[Tensor, "batch label i j k"]:
        """Logits of every label at every voxel; axes must be multiples of 4."""
        logits: Tensor = self.body(volume)
        return logits


@dataclass(frozen=True)
class Networks:
    """Both networks: of the whole brain and of the closer look."""

    whole: RegionNet
    close: CloseNet

    @classmethod
    def load(cls, folder: Path = WEIGHTS) -> "Networks":
        """The trained ones of a folder."""
        return cls(RegionNet.load(folder), CloseNet.load(folder))
