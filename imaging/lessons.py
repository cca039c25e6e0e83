"""What is trained on what: the windows a network is shown and how it is scored on them."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, Integer
from torch import Tensor
from tqdm import tqdm

from imaging.augment import AugmentConfig, augment
from imaging.closeup import CLOSE_WINDOW, SIDES
from imaging.grid import cut
from imaging.labelled import middle_of, read_pair
from imaging.network import CloseNet, Network, RegionNet, into_blocks, rows
from imaging.regions import REGION_INDEX, REGIONS, mirrored_labels
from imaging.segment import WINDOW

MARGIN = 24  # voxels around a window, so that a turned head fills it
CLOSE_VOXELS = 30_000  # drawn from a batch of close windows for the loss
Box = tuple[np.ndarray, np.ndarray]  # voxels and labels


@runtime_checkable
class Lesson(Protocol):
    """What the training loop needs: a network, windows and a loss."""

    @property
    def net(self) -> Network:
        """To be trained."""

    @property
    def windows(self) -> "Windows":
        """What it is shown."""

    def loss(self, volume: Tensor, target: Tensor) -> Tensor:
        """Of a batch of windows."""


class Windows(torch.utils.data.IterableDataset[tuple[Tensor, Tensor]]):
    """An endless stream of changed windows: ``1 i j k`` and ``i j k``."""

    def __init__(
        self,
        boxes: list[Box],
        window: tuple[int, int, int],
        seed: int,
        config: AugmentConfig,
        *,
        one_side: bool = False,
    ) -> None:
        self.boxes, self.window, self.seed = boxes, window, seed
        self.config, self.one_side = config, one_side

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        torch.set_num_threads(1)
        while True:
            voxels, labels = self.boxes[rng.integers(len(self.boxes))]
            shown = augment(voxels.astype(np.float32), labels, self.window, rng, self.config)
            yield to_right(*shown) if self.one_side else shown


def to_right(
    volume: Float[Tensor, "1 i j k"], labels: Int64[Tensor, "i j k"]
) -> tuple[Float[Tensor, "1 i j k"], Int64[Tensor, "i j k"]]:
    """Mirror what shows a left hippocampus, so that it shows a right one."""
    left, right = (int((labels == REGION_INDEX[f"{s} hippocampus"] + 1).sum()) for s in SIDES)
    if right >= left:
        return volume, labels
    return volume.flip(1), torch.tensor(mirrored_labels())[labels.flip(0)]


def box_around(
    scan_voxels: np.ndarray, labels: np.ndarray, centre: list[int], window: tuple[int, int, int]
) -> Box:
    """A window with room for a rotation; half precision, as there are many."""
    i, j, k = (n + MARGIN for n in window)
    return cut(scan_voxels.astype(np.float16), centre, (i, j, k)), cut(labels, centre, (i, j, k))


@dataclass
class WholeBrain:
    """Name every voxel in a window around the brain.

    Attributes:
        net: To be trained.
        windows: Around the brain.
        blocks: So many of 2 x 2 x 2 voxels are drawn for the loss.
        inside: Share of them inside the brain.
        weights: Of each label in the loss.
    """

    net: RegionNet
    windows: Windows
    blocks: int
    inside: float
    weights: Float[Tensor, " label"]

    @classmethod
    def of(
        cls,
        data: Path,
        subjects: list[str],
        seed: int,
        start: Path | None,
        *,
        blocks: int,
        inside: float,
        rare: float,
    ) -> "WholeBrain":
        """The lesson from a folder of labelled scans.

        Args:
            data: Folder with ``t1`` and ``seg``.
            subjects: To train on.
            seed: Of the windows.
            start: Folder of weights to start from; None for random ones.
            blocks: Drawn for the loss.
            inside: Share of them inside the brain.
            rare: A label's weight is its frequency to the power of minus this.
        """
        pairs = (read_pair(data, s) for s in tqdm(subjects, "reading"))
        boxes = [box_around(t1.voxels, seg, middle_of(seg), WINDOW) for t1, seg in pairs]
        net = (RegionNet.load(start).train() if start else RegionNet()).channels_last()
        weights = label_weights((labels for _, labels in boxes), rare)
        windows = Windows(boxes, WINDOW, seed, AugmentConfig())
        return cls(net, windows, blocks, inside, weights)

    def loss(
        self, volume: Float[Tensor, "1 1 i j k"], target: Int64[Tensor, "1 i j k"]
    ) -> Float[Tensor, ""]:
        """Of blocks that are drawn, so that no tensor of full resolution is made."""
        blocks = into_blocks(target[None]).flatten(2)[0].T
        drawn = drawn_blocks(blocks, self.blocks, self.inside)
        with torch.autocast(volume.device.type, dtype=torch.bfloat16):
            fine, _ = self.net.features(volume)
            logits = self.net.name(rows(fine)[drawn])
        weights = self.weights.to(volume.device)
        return loss_of(logits.float().flatten(0, 1), blocks[drawn].flatten(), weights)


@dataclass
class CloseLook:
    """Name every voxel in a small window around one hippocampus.

    Attributes:
        net: To be trained.
        windows: Around the right hippocampus, or the left one mirrored.
    """

    net: CloseNet
    windows: Windows

    @classmethod
    def of(cls, data: Path, subjects: list[str], seed: int, start: Path | None) -> "CloseLook":
        """The lesson from a folder of labelled scans; see `WholeBrain.of`."""
        boxes = []
        for subject in tqdm(subjects, "reading"):
            scan, labels = read_pair(data, subject)
            middles = (middle_of(labels, [f"{side} hippocampus"]) for side in SIDES)
            boxes += [box_around(scan.voxels, labels, m, CLOSE_WINDOW) for m in middles if m]
        net = (CloseNet.load(start).train() if start else CloseNet()).channels_last()
        config = AugmentConfig(shift=3.0)
        return cls(net, Windows(boxes, CLOSE_WINDOW, seed, config, one_side=True))

    def loss(
        self, volume: Float[Tensor, "batch 1 i j k"], target: Int64[Tensor, "batch i j k"]
    ) -> Float[Tensor, ""]:
        """Of voxels that are drawn: fifty labels at all of them cost as much as the network."""
        with torch.autocast(volume.device.type, dtype=torch.bfloat16):
            logits = self.net(volume)
        drawn = torch.randint(target.numel(), (CLOSE_VOXELS,), device=volume.device)
        flat = logits.movedim(1, -1).flatten(0, -2)[drawn].float()
        weights = torch.ones(flat.shape[1], device=volume.device)
        return loss_of(flat, target.flatten()[drawn], weights)


def label_weights(
    region_maps: Iterable[Integer[np.ndarray, "i j k"]], rare: float
) -> Float[Tensor, " label"]:
    """Weight of each label in the loss: rare ones count for more, so that none is given up."""
    counts = np.ones(len(REGIONS) + 1)
    for region_map in region_maps:
        counts += np.bincount(region_map.ravel(), minlength=len(counts))
    weights = torch.from_numpy(counts**-rare).float()
    return weights / (weights * torch.from_numpy(counts / counts.sum())).sum()


def drawn_blocks(
    target: Int[Tensor, "block voxel"], n: int, inside: float
) -> Int[Tensor, " drawn"]:
    """Blocks for the loss: most inside the brain, the others anywhere."""
    within = target.amax(dim=1).nonzero()[:, 0]
    n_inside = round(n * inside)
    anywhere = torch.randint(len(target), (n - n_inside,), device=target.device)
    chosen = torch.randint(len(within), (n_inside,), device=target.device)
    return torch.cat([anywhere, within[chosen]])


def loss_of(
    logits: Float[Tensor, "voxel label"],
    target: Int[Tensor, " voxel"],
    weights: Float[Tensor, " label"],
) -> Float[Tensor, ""]:
    """Weighted cross entropy plus soft Dice over the labels that occur."""
    probability = logits.softmax(dim=1)
    truth = torch.nn.functional.one_hot(target, logits.shape[1]).float()
    occurs = truth.sum(0) > 0
    overlap = 2 * (probability * truth).sum(0) + 1
    dice = overlap / (probability.sum(0) + truth.sum(0) + 1)
    return torch.nn.functional.cross_entropy(logits, target, weights) + 1 - dice[occurs].mean()
