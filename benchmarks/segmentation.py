"""Dice and volumes of the segmentation network on the held-out IXI subjects, against DLMUSE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float
from tqdm import tqdm

from benchmarks.retakes import TRANSFER, Retake, carried, draw, file_stem
from benchmarks.segmented import (
    Segmenter,
    all_subjects,
    arguments,
    held_out,
    read_t1,
    unseen_subjects,
)
from imaging.encoder import head_mm3
from imaging.labelled import dice_of, read_pair
from imaging.regions import REGIONS, Segmentation, region_volumes_mm3

LARGE_MM3 = 1000.0
TOTAL = "intracranial volume (all labels)"
FIRST = ("hippocampus", "amygdala", "lateral ventricle")  # what a memory clinic asks for


@dataclass(frozen=True)
class Agreement:
    """The network against the label maps; one row a subject.

    Attributes:
        dice: NaN where the label map lacks the region.
        ours: Volumes as the network measures them, mm3; the last column is everything.
        theirs: Volumes of the label map, mm3; the last column is everything.
    """

    dice: Float[np.ndarray, "subject region"]
    ours: Float[np.ndarray, "subject region+1"]
    theirs: Float[np.ndarray, "subject region+1"]

    @property
    def large(self) -> np.ndarray:
        """Which regions have 1 ml and more on average."""
        return np.asarray(self.theirs[:, :-1].mean(axis=0) >= LARGE_MM3)


def columns_of(name: str, side: str | None = None) -> list[int]:
    """Positions of a structure's regions; of one side if given."""
    if name == TOTAL:
        return [len(REGIONS)]
    return [n for n, r in enumerate(REGIONS) if r.name == name and side in (None, r.side)]


def compare(segmenter: Segmenter, ixi: Path, subjects: Sequence[str]) -> Agreement:
    """Segment every subject and hold it against its label map."""
    dice, ours, theirs = [], [], []
    for subject in tqdm(subjects, "segmenting"):
        found, truth = segmenter(subject, partial(read_t1, ixi, subject)), truth_of(ixi, subject)
        dice.append(dice_of(found.region_map, truth.region_map))
        ours.append(volumes_of(found))
        theirs.append(volumes_of(truth))
    return Agreement(np.array(dice), np.array(ours), np.array(theirs))


def truth_of(ixi: Path, subject: str) -> Segmentation:
    """A label map as if it were a segmentation."""
    scan, region_map = read_pair(ixi, subject)
    nothing = np.zeros((len(REGIONS), 0), dtype=np.float32)
    return Segmentation(region_map, scan.affine, nothing, np.ones(len(REGIONS), dtype=np.float32))


def volumes_of(segmentation: Segmentation) -> list[float]:
    """Volume of every region and, last, of all that has a label; mm3."""
    volumes = region_volumes_mm3(segmentation.region_map, segmentation.spacing_mm)
    return [*volumes.values(), head_mm3(segmentation)]


def correlation(
    ours: Float[np.ndarray, " subject"], theirs: Float[np.ndarray, " subject"]
) -> tuple[float, float, float]:
    """Pearson's r and the limits of its 95 % interval (Fisher's z)."""
    r = float(np.corrcoef(ours, theirs)[0, 1])
    half = 1.96 / np.sqrt(max(len(ours) - 3, 1))
    low, high = np.tanh(np.arctanh(min(r, 1 - 1e-9)) + np.array([-half, half]))
    return r, float(low), float(high)


def difference(
    ours: Float[np.ndarray, " subject"], theirs: Float[np.ndarray, " subject"]
) -> tuple[float, float]:
    """Mean difference and 1.96 standard deviations of it, in % of the mean of both."""
    percent = 200 * (ours - theirs) / np.maximum(ours + theirs, 1.0)
    return float(percent.mean()), float(1.96 * percent.std(ddof=1))


def transfer(
    segmenter: Segmenter, ixi: Path, subjects: Sequence[str], retake: tuple[str, Retake]
) -> tuple[Float[np.ndarray, "subject region"], Float[np.ndarray, "subject region"]]:
    """Dice when the scan is stored otherwise, and the best that its new grid allows.

    The map is carried back to the grid of the label map, which costs something where the grids
    lie at an angle: so much that the label map itself, carried there and back, loses as well.
    """
    change, retaken = retake
    reached, possible = [], []
    for subject in tqdm(subjects, change):
        found = segmenter(
            file_stem(subject, change),
            lambda s=subject: retaken(read_t1(ixi, s), draw(s, change)),
        )
        truth = truth_of(ixi, subject)
        here, there = (truth.affine, truth.region_map.shape), (found.affine, found.region_map.shape)
        back = carried(found.region_map, found.affine, *here)
        reached.append(dice_of(back, truth.region_map))
        ideal = carried(carried(truth.region_map, truth.affine, *there), found.affine, *here)
        possible.append(dice_of(ideal, truth.region_map))
    return np.array(reached), np.array(possible)


def print_targets(found: Agreement) -> None:
    """What was asked for, beside what was measured."""
    large = np.nanmean(found.dice[:, found.large])
    hippocampi = np.nanmean(found.dice[:, columns_of("hippocampus")])
    print("| on unseen heads | asked for | measured |\n|---|--:|--:|")
    print(f"| mean Dice of the {found.large.sum()} regions of 1 ml and more | 0.88 | {large:.3f} |")
    print(f"| mean Dice of the hippocampi | 0.84 | {hippocampi:.3f} |")
    asked = {
        "left hippocampus": (columns_of("hippocampus", "left"), 0.95),
        "right hippocampus": (columns_of("hippocampus", "right"), 0.95),
        "both hippocampi": (columns_of("hippocampus"), 0.95),
        "lateral ventricles": (columns_of("lateral ventricle"), 0.99),
        TOTAL: (columns_of(TOTAL), 0.99),
    }
    for words, (columns, least) in asked.items():
        r, low, high = correlation(found.ours[:, columns].sum(1), found.theirs[:, columns].sum(1))
        measured = f"{r:.3f} (95 % {low:.3f} to {high:.3f})"
        print(f"| Pearson r of volumes, {words} | {least} | {measured} |")


def print_structures(found: Agreement) -> None:
    """One line per structure: Dice of each side, volumes of both sides together."""
    print("| structure | DLMUSE, ml | mean Dice | worst | r | difference | limits of agreement |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name in dict.fromkeys((*FIRST, TOTAL, *(region.name for region in REGIONS))):
        columns = columns_of(name)
        ours, theirs = (v[:, columns].sum(axis=1) for v in (found.ours, found.theirs))
        mean, spread = difference(ours, theirs)
        limits = f"{mean - spread:+.0f} to {mean + spread:+.0f} %"
        dice = "| | " if name == TOTAL else two_dice(found.dice[:, columns])
        r = correlation(ours, theirs)[0]
        print(f"| {name} | {theirs.mean() / 1000:.1f} {dice}| {r:.3f} | {mean:+.1f} % | {limits} |")
    for words, kept in (("of 1 ml and more", found.large), ("", np.ones_like(found.large))):
        by_subject = np.nanmean(found.dice[:, kept], axis=1)
        title = f"**mean of the {kept.sum()} regions {words}**".replace(" **", "**")
        print(f"| {title} | | **{by_subject.mean():.3f}** | {by_subject.min():.3f} | | | |")


def two_dice(dice: Float[np.ndarray, "subject side"]) -> str:
    """Mean and worst value as two cells."""
    return f"| {np.nanmean(dice):.3f} | {np.nanmin(dice):.3f} "


def print_transfer(
    rows: Mapping[str, tuple[np.ndarray, np.ndarray]], large: np.ndarray, n: int
) -> None:
    """One line for each way of storing the scan."""
    print(f"| the same {n} heads | mean Dice, 1 ml and more | best possible | hippocampi | "
          "lateral ventricles |\n|---|--:|--:|--:|--:|")  # fmt: skip
    for words, (reached, possible) in rows.items():
        sides = [
            np.nanmean(reached[:, columns_of(s)]) for s in ("hippocampus", "lateral ventricle")
        ]
        print(
            f"| {words} | {np.nanmean(reached[:, large]):.3f} | "
            f"{np.nanmean(possible[:, large]):.3f} | {sides[0]:.3f} | {sides[1]:.3f} |"
        )


def main() -> None:
    """Print what was asked for, a line per structure, and the transfer."""
    parser = arguments(__doc__)
    parser.add_argument("--transfer", type=int, default=6, help="subjects to store otherwise")
    args, _ = parser.parse_known_args()
    subjects = unseen_subjects(args.ixi, args.subjects)
    segmenter = Segmenter(args.weights)
    found = compare(segmenter, args.ixi, subjects)
    n_held_out = len(held_out(all_subjects(args.ixi))[1])
    print(f"{len(subjects)} of the {n_held_out} IXI subjects held out from training (2 mm, one")
    print("scanner, healthy) against the label maps of DLMUSE, itself a network; a subject whose")
    print("label map has both hemispheres on one side is left out. Dice: overlap, 1 is perfect.\n")
    print_targets(found)
    print("\nVolumes of both sides together. Worst: the lowest value of any subject and side.")
    print(
        "Difference: network minus DLMUSE in % of their mean; nineteen in twenty heads lie within"
    )
    print("the limits of agreement. Below 1 ml a structure has few voxels of 8 mm3.\n")
    print_structures(found)
    few = subjects[: args.transfer]
    same = found.dice[: len(few)]
    rows = {"as stored": (same, np.where(np.isnan(same), np.nan, 1.0))}
    rows |= {c: transfer(segmenter, args.ixi, few, (c, r)) for c, r in TRANSFER.items()}
    print("\nThe same scan stored otherwise. Best possible: DLMUSE's own map carried to the new")
    print("grid and back.\n")
    print_transfer(rows, found.large, len(few))


if __name__ == "__main__":
    main()
