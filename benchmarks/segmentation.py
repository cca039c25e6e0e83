"""Dice of the shipped segmentation network on the held-out IXI subjects."""

import argparse
from pathlib import Path

import numpy as np

from imaging.regions import REGIONS
from imaging.segment import RegionNet
from imaging.train import dice_by_region, held_out, usable

IXI = Path(__file__).parents[2] / "shared" / "data" / "ixi_t1_2mm"


def main() -> None:
    """Print one line per structure, left and right together."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--ixi", type=Path, default=IXI)
    args, _ = parser.parse_known_args()
    subjects = [path.name.removesuffix(".nii.gz") for path in (args.ixi / "t1").iterdir()]
    _, test = held_out(subjects)
    kept = usable(args.ixi, test)
    scores = dice_by_region(RegionNet.load(), args.ixi, kept)
    names = list(dict.fromkeys(region.name for region in REGIONS))
    print(f"Dice against DLMUSE on {len(kept)} of {len(test)} held-out IXI subjects (2 mm, one")
    print("scanner); those left out have label maps with both hemispheres on one side.\n")
    print("| structure | mean Dice | worst subject |\n|---|---|---|")
    for name in names:
        sides = [scores[r.key] for r in REGIONS if r.name == name and r.key in scores]
        mean, worst = np.mean([s["mean"] for s in sides]), min(s["min"] for s in sides)
        print(f"| {name} | {mean:.3f} | {worst:.3f} |")
    print(
        f"| **mean of all regions** | **{np.mean([s['mean'] for s in scores.values()]):.3f}** | |"
    )


if __name__ == "__main__":
    main()
