"""Train the segmentation networks on scans with label maps.

    python -m imaging.train whole --data ../shared/data/ixi_t1_2mm --out imaging/weights
    python -m imaging.train closeup --data ../shared/data/ixi_t1_2mm --out imaging/weights

The data folder holds ``t1/ID.nii.gz`` and ``seg/ID.nii.gz`` (MUSE labels, same grid). Every
fifth subject by sorted id is held out. An interrupted run resumes from its checkpoint.
"""

import argparse
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from imaging.labelled import held_out, usable
from imaging.lessons import CloseLook, Lesson, WholeBrain
from imaging.network import Network
from imaging.segment import WEIGHTS

log = logging.getLogger(__name__)

Part = Literal["whole", "closeup"]
BATCH = {"whole": 1, "closeup": 2}  # windows a step


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


def lesson_of(
    part: Part, data: Path, seed: int, config: SegmentTrainConfig, start: Path | None
) -> Lesson:
    """What is to be learned: the whole brain or the close look."""
    subjects, _ = held_out([p.name.removesuffix(".nii.gz") for p in (data / "t1").iterdir()])
    subjects = usable(data, subjects)
    if part == "closeup":
        return CloseLook.of(data, subjects, seed, start)
    return WholeBrain.of(
        data,
        subjects,
        seed,
        start,
        blocks=config.loss_blocks,
        inside=config.inside,
        rare=config.rare,
    )


def train(
    data: Path,
    out: Path,
    config: SegmentTrainConfig,
    device: str = "cpu",
    start: Path | None = None,
    part: Part = "whole",
) -> Network:
    """Train, and leave the averaged weights and a checkpoint in a folder.

    Args:
        data: Folder with ``t1`` and ``seg``.
        out: Where weights go; a checkpoint found there is resumed.
        config: Settings.
        device: ``cpu`` or ``cuda``; bfloat16 on both.
        start: Folder of weights to start from; None for random ones.
        part: Which network.
    """
    torch.manual_seed(config.seed)
    lesson = lesson_of(part, data, config.seed, config, start)
    net = lesson.net.to(device)
    average = {k: v.detach().clone() for k, v in net.state_dict().items()}
    optimizer = torch.optim.AdamW(
        net.parameters(), config.learning_rate, weight_decay=config.weight_decay
    )
    done, spent = _resume(out, net, average, optimizer)
    lesson.windows.seed += done
    loader = iter(
        torch.utils.data.DataLoader(
            lesson.windows,
            batch_size=BATCH[part],
            num_workers=config.workers,
            prefetch_factor=6,
        )
    )
    progress = tqdm(range(done, config.steps), "training", initial=done, total=config.steps)
    smooth, began = 0.0, time.monotonic() - spent
    for step in progress:
        share = _share_done(step, time.monotonic() - began, config)
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _schedule(step, share, config)
        loss = lesson.loss(*(t.to(device, non_blocking=True) for t in next(loader)))
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
    return type(net).load(out)


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
    net: Network,
    average: dict[str, Tensor],
    optimizer: torch.optim.Optimizer,
    step: int,
    seconds: float,
) -> None:
    """Write the averaged weights that ship and, beside them, what a resumed run needs."""
    shipped = type(net)(net.config)
    shipped.load_state_dict(average)
    shipped.save(out)
    state = {f"net.{k}": v.contiguous() for k, v in net.state_dict().items()}
    for n, slots in optimizer.state_dict()["state"].items():
        state |= {f"adam.{n}.{k}": torch.as_tensor(v).contiguous() for k, v in slots.items()}
    state |= {f"average.{k}": v.contiguous() for k, v in average.items()}
    state |= {"step": torch.tensor(step), "seconds": torch.tensor(seconds)}
    partial = out / f"{net.file_name}.checkpoint.partial"
    save_file(state, partial)
    partial.replace(_checkpoint_path(out, net))


def _checkpoint_path(out: Path, net: Network) -> Path:
    """Where a training's checkpoint lies."""
    return out / f"{net.file_name}.checkpoint.safetensors"


def _resume(
    out: Path, net: Network, average: dict[str, Tensor], optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Load a checkpoint if there is one; how many steps were done in how many seconds."""
    path = _checkpoint_path(out, net)
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


def main() -> None:
    """Train one of the networks; ``python -m benchmarks segmentation`` then measures it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("part", choices=get_args(Part), help="which network")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    parser.add_argument("--start", type=Path, help="folder of weights to start from")
    parser.add_argument("--steps", type=int, default=SegmentTrainConfig.steps)
    parser.add_argument("--minutes", type=float, help="stop after this long")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config = SegmentTrainConfig(steps=args.steps, minutes=args.minutes)
    train(args.data, args.out, config, args.device, args.start, args.part)


if __name__ == "__main__":
    main()
