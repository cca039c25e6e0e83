"""Train the segmentation network on scans with label maps.

    python -m imaging.train --data ../shared/data/ixi_t1_2mm --out imaging/weights

The data folder holds ``t1/ID.nii.gz`` and ``seg/ID.nii.gz`` (MUSE labels, same grid). Every
fifth subject by sorted id is held out. An interrupted run resumes from its checkpoint.
"""

import argparse
import json
import logging
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose
from monai.transforms.intensity.dictionary import (
    RandAdjustContrastd,
    RandBiasFieldd,
    RandGaussianNoised,
    RandGaussianSmoothd,
    RandScaleIntensityd,
)
from monai.transforms.spatial.dictionary import RandAffined, RandSimulateLowResolutiond
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from imaging.prepare import normalize, to_ras
from imaging.regions import REGION_INDEX, REGIONS, from_muse, mirrored_labels
from imaging.scan import Scan
from imaging.segment import WEIGHTS, WINDOW, RegionNet, cut, segment

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SegmentTrainConfig:
    """How the segmentation network is trained."""

    steps: int = 1800
    learning_rate: float = 2e-3  # peak, of AdamW
    warmup_steps: int = 50
    weight_decay: float = 1e-5
    loss_voxels: int = 140_000  # drawn for the loss, half of them inside the brain
    rare: float = 0.5  # a label's weight is its frequency to the power of minus this
    average_decay: float = 0.995  # of the moving average of the weights, which is what ships
    checkpoint_every: int = 100  # steps
    seed: int = 0


def held_out(ids: list[str]) -> tuple[list[str], list[str]]:
    """Split subjects into those to train on and every fifth, which is held out.

    Example:
        >>> held_out(["e", "d", "c", "b", "a"])
        (['b', 'c', 'd', 'e'], ['a'])
    """
    ordered = sorted(ids)
    return [s for n, s in enumerate(ordered) if n % 5], ordered[::5]


def has_both_sides(region_map: Integer[np.ndarray, "i j k"]) -> bool:
    """Whether left and right white matter are of like size in a label map.

    Of the 150 IXI label maps four put most of both hemispheres on one side.
    """
    left, right = (
        int((region_map == REGION_INDEX[f"{side} cerebral white matter"] + 1).sum())
        for side in ("left", "right")
    )
    return 0.8 * right < left < 1.25 * right


def usable(data: Path, subjects: list[str]) -> list[str]:
    """Subjects whose label map can be trusted about sides; the others are logged."""
    good = [s for s in subjects if has_both_sides(read_pair(data, s)[1])]
    for subject in sorted(set(subjects) - set(good)):
        log.warning("%s left out: its label map has both hemispheres on one side", subject)
    return good


def read_pair(data: Path, subject: str) -> tuple[Scan, np.ndarray]:
    """One subject's normalised scan and region map, both RAS+ on the same grid."""
    t1 = nib.nifti1.load(data / "t1" / f"{subject}.nii.gz")
    seg = nib.nifti1.load(data / "seg" / f"{subject}.nii.gz")
    scan = to_ras(Scan(np.asarray(t1.dataobj, dtype=np.float32), np.asarray(t1.affine)))
    labels = nib.as_closest_canonical(seg)
    region_map = from_muse(np.asarray(labels.dataobj).astype(np.int32))
    return Scan(normalize(scan.voxels), scan.affine), region_map


class Windows(torch.utils.data.IterableDataset[tuple[Tensor, Tensor]]):
    """An endless stream of augmented windows around the brain."""

    def __init__(self, data: Path, subjects: list[str], config: SegmentTrainConfig, start: int):
        self.pairs = [read_pair(data, subject) for subject in tqdm(subjects, "reading")]
        self.config = config
        self.start = start  # steps already done, so that a resumed run draws anew
        both, image = ["image", "labels"], ["image"]
        self.augment = Compose(
            [
                RandAffined(
                    both,
                    prob=1.0,
                    rotate_range=(0.3, 0.17, 0.17),
                    scale_range=(0.15, 0.15, 0.15),
                    shear_range=(0.08,) * 6,
                    translate_range=(8, 8, 8),
                    spatial_size=WINDOW,
                    mode=("bilinear", "nearest"),
                    padding_mode="zeros",
                ),
                RandGaussianSmoothd(
                    image, sigma_x=(0.3, 0.8), sigma_y=(0.3, 0.8), sigma_z=(0.3, 0.8), prob=0.2
                ),
                RandSimulateLowResolutiond(image, prob=0.15, zoom_range=(0.6, 1.0)),
                RandBiasFieldd(image, prob=0.4, coeff_range=(-0.25, 0.25)),
                RandAdjustContrastd(image, prob=0.5, gamma=(0.65, 1.5)),
                RandScaleIntensityd(image, factors=0.3, prob=0.5),
                RandGaussianNoised(image, prob=0.4, std=0.05),
            ]
        )
        self.mirror = torch.tensor(mirrored_labels())

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        seed = self.config.seed + self.start
        torch.set_num_threads(1)
        self.augment.set_random_state(seed=seed)
        rng = np.random.default_rng(seed)
        while True:
            scan, region_map = self.pairs[rng.integers(len(self.pairs))]
            yield self.window(scan.voxels, region_map, rng)

    def window(
        self, voxels: np.ndarray, region_map: np.ndarray, rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """One augmented window: volume ``1 i j k`` and labels ``i j k``."""
        if rng.random() < 0.3:  # as if the skull had been removed
            voxels = voxels * (region_map > 0)
        centre = np.argwhere(region_map > 0).mean(axis=0).round().astype(int)
        i, j, k = (n + 24 for n in WINDOW)  # room for the rotation
        image, labels = (cut(a, centre.tolist(), (i, j, k)) for a in (voxels, region_map))
        sample = {
            "image": MetaTensor(torch.from_numpy(image)[None]),
            "labels": MetaTensor(torch.from_numpy(labels)[None].float()),
        }
        sample = self.augment(sample)
        volume = sample["image"].as_tensor().float()
        target = sample["labels"].as_tensor()[0].round().long()
        if rng.random() < 0.5:
            volume, target = volume.flip(1), self.mirror[target.flip(0)]
        return volume.clamp(0.0, 2.0), target


def label_weights(
    region_maps: Iterable[Integer[np.ndarray, "i j k"]], rare: float
) -> Float[Tensor, " label"]:
    """Weight of each label in the loss: rare ones count for more, so that none is given up."""
    counts = np.ones(len(REGIONS) + 1)
    for region_map in region_maps:
        counts += np.bincount(region_map.ravel(), minlength=len(counts))
    weights = torch.from_numpy(counts**-rare).float()
    return weights / (weights * torch.from_numpy(counts / counts.sum())).sum()


def drawn_voxels(target: Int[Tensor, "i j k"], n: int) -> Int[Tensor, " drawn"]:
    """Voxels for the loss: half anywhere, half inside the brain."""
    inside = target.flatten().nonzero()[:, 0]
    anywhere = torch.randint(target.numel(), (n // 2,), device=target.device)
    chosen = torch.randint(len(inside), (n - n // 2,), device=target.device)
    return torch.cat([anywhere, inside[chosen]])


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


def train(
    data: Path,
    out: Path,
    config: SegmentTrainConfig,
    device: str = "cpu",
    start: Path | None = None,
) -> RegionNet:
    """Train, and leave the averaged weights and a checkpoint in a folder.

    Args:
        data: Folder with ``t1`` and ``seg``.
        out: Where weights go; a checkpoint found there is resumed.
        config: Settings.
        device: ``cpu`` or ``cuda``; bfloat16 on both.
        start: Folder of weights to start from; None for random ones.
    """
    torch.manual_seed(config.seed)
    subjects, _ = held_out([p.name.removesuffix(".nii.gz") for p in (data / "t1").iterdir()])
    net = RegionNet.load(start).train() if start else RegionNet()
    net = net.to(device)
    average = {k: v.detach().clone() for k, v in net.state_dict().items()}
    optimizer = torch.optim.AdamW(
        net.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
    done = _resume(out, net, average, optimizer)
    windows = Windows(data, usable(data, subjects), config, done)
    weights = label_weights((labels for _, labels in windows.pairs), config.rare).to(device)
    loader = iter(
        torch.utils.data.DataLoader(windows, batch_size=1, num_workers=1, prefetch_factor=4)
    )
    progress = tqdm(range(done, config.steps), "training", initial=done, total=config.steps)
    smooth, began = 0.0, time.monotonic()
    for step in progress:
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(step, config)
        volume, target = (t.to(device, non_blocking=True) for t in next(loader))
        target = target[0]
        with torch.autocast(device, dtype=torch.bfloat16):
            fine, _ = net.features(volume.contiguous(memory_format=torch.channels_last_3d))
            drawn = drawn_voxels(target, config.loss_voxels)
            logits = net.head(fine.movedim(1, -1).flatten(0, -2)[drawn])
        loss = loss_of(logits.float(), target.flatten()[drawn], weights)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        decay = min(config.average_decay, (step + 1) / (step + 10))
        for name, value in net.state_dict().items():
            average[name].lerp_(value.detach(), 1 - decay)
        smooth = loss.item() if step == done else 0.98 * smooth + 0.02 * loss.item()
        progress.set_postfix(loss=f"{smooth:.3f}")
        if (step + 1) % config.checkpoint_every == 0 or step + 1 == config.steps:
            _checkpoint(out, net, average, optimizer, step + 1)
            log.info("step %d loss %.4f, %.0f s", step + 1, smooth, time.monotonic() - began)
    return RegionNet.load(out)


def _schedule(step: int, config: SegmentTrainConfig) -> float:
    """Share of the peak learning rate: a linear rise, then a cosine to zero."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    share = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    return 0.5 * (1 + float(np.cos(np.pi * share)))


def _checkpoint(
    out: Path,
    net: RegionNet,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    step: int,
) -> None:
    """Write the averaged weights that ship and, beside them, what a resumed run needs."""
    shipped = RegionNet(net.config)
    shipped.load_state_dict(average)
    shipped.save(out)
    state = {f"net.{k}": v.contiguous() for k, v in net.state_dict().items()}
    for n, slots in optimizer.state_dict()["state"].items():
        state |= {f"adam.{n}.{k}": torch.as_tensor(v).contiguous() for k, v in slots.items()}
    state["step"] = torch.tensor(step)
    partial = out / "checkpoint.partial"
    save_file(state, partial)
    partial.replace(out / "checkpoint.safetensors")


def _resume(
    out: Path, net: RegionNet, average: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> int:
    """Load a checkpoint if there is one; how many steps were done."""
    path = out / "checkpoint.safetensors"
    if not path.exists():
        return 0
    state = load_file(path)
    net.load_state_dict({k[4:]: v for k, v in state.items() if k.startswith("net.")})
    average.update(load_file(out / "segment.safetensors"))
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.startswith("adam."):
            _, n, key = name.split(".")
            slots.setdefault(int(n), {})[key] = value
    whole = optimizer.state_dict()
    whole["state"] = slots
    optimizer.load_state_dict(whole)
    return int(state["step"])


def dice_by_region(net: RegionNet, data: Path, subjects: list[str]) -> dict[str, dict[str, float]]:
    """Dice against the label maps, mean and minimum over subjects, for each region."""
    scores: dict[str, list[float]] = {region.key: [] for region in REGIONS}
    for subject in tqdm(subjects, "evaluating"):
        scan, truth = read_pair(data, subject)
        found = segment(net, scan).region_map
        for value, region in enumerate(REGIONS, start=1):
            a, b = found == value, truth == value
            if b.any():
                scores[region.key].append(float(2 * (a & b).sum() / (a.sum() + b.sum())))
    return {
        key: {"mean": float(np.mean(s)), "min": float(np.min(s)), "n": len(s)}
        for key, s in scores.items()
        if s
    }


def main() -> None:
    """Train, then measure Dice on the held-out subjects into ``segment_dice.json``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--start", type=Path, help="folder of weights to start from")
    parser.add_argument("--steps", type=int, default=SegmentTrainConfig.steps)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config = SegmentTrainConfig(steps=args.steps)
    net = train(args.data, args.out, config, args.device, args.start)
    _, test = held_out([p.name.removesuffix(".nii.gz") for p in (args.data / "t1").iterdir()])
    test = usable(args.data, test)
    dice = dice_by_region(net, args.data, test)
    table = {"config": asdict(config), "held_out": len(test), "dice": dice}
    (args.out / "segment_dice.json").write_text(json.dumps(table, indent=2) + "\n")
    log.info("mean Dice %.3f", np.mean([score["mean"] for score in dice.values()]))


if __name__ == "__main__":
    main()
