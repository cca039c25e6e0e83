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
from jaxtyping import Float, Float64, Int, Integer, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from imaging.augment import AugmentConfig, augment
from imaging.engines import torch_engine
from imaging.prepare import normalize, to_ras
from imaging.regions import REGION_INDEX, REGIONS, from_muse
from imaging.scan import Scan
from imaging.segment import (
    WEIGHTS,
    WINDOW,
    RegionNet,
    channels_last,
    cut,
    into_blocks,
    rows,
    segment,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SegmentTrainConfig:
    """How the segmentation network is trained."""

    steps: int = 9000
    minutes: float | None = None  # stop after this long; the learning rate follows
    learning_rate: float = 2e-3  # peak, of AdamW
    warmup_steps: int = 100
    weight_decay: float = 1e-4
    loss_blocks: int = 16_000  # of 2 x 2 x 2 voxels drawn for the loss
    inside: float = 0.5  # of them inside the brain
    rare: float = 0.0  # a label's weight is its frequency to the power of minus this
    average_decay: float = 0.998  # of the moving average of the weights, which is what ships
    checkpoint_every: int = 250  # steps
    workers: int = 1  # processes that make windows
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
    """An endless stream of changed windows around the brain: ``1 i j k`` and ``i j k``."""

    def __init__(self, data: Path, subjects: list[str], seed: int) -> None:
        self.boxes = [self._box(*read_pair(data, s)) for s in tqdm(subjects, "reading")]
        self.seed = seed

    @staticmethod
    def _box(scan: Scan, region_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The head with room for a rotation; half precision, as there are many."""
        centre = brain_centre(region_map)
        i, j, k = (n + 24 for n in WINDOW)
        return cut(scan.voxels.astype(np.float16), centre, (i, j, k)), cut(
            region_map, centre, (i, j, k)
        )

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        torch.set_num_threads(1)
        while True:
            voxels, labels = self.boxes[rng.integers(len(self.boxes))]
            yield augment(voxels.astype(np.float32), labels, WINDOW, rng, AugmentConfig())


def brain_centre(region_map: UInt8[np.ndarray, "i j k"]) -> list[int]:
    """Mean voxel of all that has a label."""
    return [int(n) for n in np.argwhere(region_map > 0).mean(axis=0).round()]


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
    target: Int[Tensor, "block voxel"], config: SegmentTrainConfig
) -> Int[Tensor, " drawn"]:
    """Blocks for the loss: most inside the brain, the others anywhere."""
    within = target.amax(dim=1).nonzero()[:, 0]
    n_inside = round(config.loss_blocks * config.inside)
    anywhere = torch.randint(len(target), (config.loss_blocks - n_inside,), device=target.device)
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
    net = channels_last(RegionNet.load(start).train() if start else RegionNet()).to(device)
    average = {k: v.detach().clone() for k, v in net.state_dict().items()}
    optimizer = torch.optim.AdamW(
        net.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
    done, spent = _resume(out, net, average, optimizer)
    windows = Windows(data, usable(data, subjects), config.seed + done)
    weights = label_weights((labels for _, labels in windows.boxes), config.rare).to(device)
    loader = iter(
        torch.utils.data.DataLoader(
            windows, batch_size=1, num_workers=config.workers, prefetch_factor=6
        )
    )
    progress = tqdm(range(done, config.steps), "training", initial=done, total=config.steps)
    smooth, began = 0.0, time.monotonic() - spent
    for step in progress:
        share = _share_done(step, time.monotonic() - began, config)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(step, share, config)
        volume, target = (t.to(device, non_blocking=True) for t in next(loader))
        blocks = into_blocks(target[None]).flatten(2)[0].T
        drawn = drawn_blocks(blocks, config)
        with torch.autocast(device, dtype=torch.bfloat16):
            fine, _ = net.features(volume)
            logits = net.name(rows(fine)[drawn])
        loss = loss_of(logits.float().flatten(0, 1), blocks[drawn].flatten(), weights)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        decay = min(config.average_decay, (step + 1) / (step + 10))
        for name, value in net.state_dict().items():
            average[name].lerp_(value.detach(), 1 - decay)
        smooth = loss.item() if step == done else 0.98 * smooth + 0.02 * loss.item()
        progress.set_postfix(loss=f"{smooth:.3f}", refresh=False)
        last = share >= 1 or step + 1 == config.steps
        if (step + 1) % config.checkpoint_every == 0 or last:
            _checkpoint(out, net, average, optimizer, step + 1, time.monotonic() - began)
            log.info("step %d loss %.4f, %.0f s", step + 1, smooth, time.monotonic() - began)
        if last:
            break
    return RegionNet.load(out)


def _share_done(step: int, seconds: float, config: SegmentTrainConfig) -> float:
    """How much of the training is behind, by steps or by time, whichever ends first."""
    by_time = seconds / (60 * config.minutes) if config.minutes else 0.0
    return max(step / config.steps, by_time)


def _schedule(step: int, share: float, config: SegmentTrainConfig) -> float:
    """Share of the peak learning rate: a linear rise, then a cosine to zero."""
    rise = min(1.0, (step + 1) / config.warmup_steps)
    return rise * 0.5 * (1 + float(np.cos(np.pi * min(1.0, share))))


def _checkpoint(
    out: Path,
    net: RegionNet,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    step: int,
    seconds: float,
) -> None:
    """Write the averaged weights that ship and, beside them, what a resumed run needs."""
    shipped = RegionNet(net.config)
    shipped.load_state_dict(average)
    shipped.save(out)
    state = {f"net.{k}": v.contiguous() for k, v in net.state_dict().items()}
    for n, slots in optimizer.state_dict()["state"].items():
        state |= {f"adam.{n}.{k}": torch.as_tensor(v).contiguous() for k, v in slots.items()}
    state |= {f"average.{k}": v.contiguous() for k, v in average.items()}
    state |= {"step": torch.tensor(step), "seconds": torch.tensor(seconds)}
    partial = out / "checkpoint.partial"
    save_file(state, partial)
    partial.replace(out / "checkpoint.safetensors")


def _resume(
    out: Path, net: RegionNet, average: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Load a checkpoint if there is one; how many steps were done in how many seconds."""
    path = out / "checkpoint.safetensors"
    if not path.exists():
        return 0, 0.0
    state = load_file(path)
    net.load_state_dict({k[4:]: v for k, v in state.items() if k.startswith("net.")})
    average.update({k[8:]: v for k, v in state.items() if k.startswith("average.")})
    slots: dict[int, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.startswith("adam."):
            _, n, key = name.split(".")
            slots.setdefault(int(n), {})[key] = value
    whole = optimizer.state_dict()
    whole["state"] = slots
    optimizer.load_state_dict(whole)
    return int(state["step"]), float(state["seconds"])


def dice_of(
    found: UInt8[np.ndarray, "i j k"], truth: UInt8[np.ndarray, "i j k"]
) -> Float64[np.ndarray, " region"]:
    """Dice of every region of `REGIONS`; NaN for one that the truth does not have."""
    n = len(REGIONS) + 1
    both = np.bincount(truth[found == truth], minlength=n)[1:]
    ours, theirs = (np.bincount(m.ravel(), minlength=n)[1:] for m in (found, truth))
    return np.where(theirs > 0, 2 * both / np.maximum(ours + theirs, 1), np.nan)


def dice_by_region(net: RegionNet, data: Path, subjects: list[str]) -> dict[str, dict[str, float]]:
    """Dice against the label maps, mean and minimum over subjects, for each region."""
    engine = torch_engine(net)
    scores = []
    for subject in tqdm(subjects, "evaluating"):
        scan, truth = read_pair(data, subject)
        scores.append(dice_of(segment(engine, scan).region_map, truth))
    return {
        region.key: {"mean": float(np.nanmean(column)), "min": float(np.nanmin(column))}
        for region, column in zip(REGIONS, np.array(scores).T, strict=True)
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
    parser.add_argument("--minutes", type=float, help="stop after this long")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config = SegmentTrainConfig(steps=args.steps, minutes=args.minutes)
    net = train(args.data, args.out, config, args.device, args.start)
    _, test = held_out([p.name.removesuffix(".nii.gz") for p in (args.data / "t1").iterdir()])
    test = usable(args.data, test)
    dice = dice_by_region(net, args.data, test)
    table = {"config": asdict(config), "held_out": len(test), "dice": dice}
    (args.out / "segment_dice.json").write_text(json.dumps(table, indent=2) + "\n")
    log.info("mean Dice %.3f", np.mean([score["mean"] for score in dice.values()]))


if __name__ == "__main__":
    main()
