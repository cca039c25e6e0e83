"""Age read out of the region tokens by ridge regression: do they hold what a brain shows?

A check of the tokens, not a diagnosis. All read-outs see the same folds; the penalty is chosen
inside each training fold. The tokens are made without age, so that no centile tells it.
"""

import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32, Int
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from benchmarks.segmented import Segmenter, all_subjects, arguments, held_out, read_t1
from imaging.encoder import POOLED, head_mm3, region_tokens
from imaging.regions import REGIONS, Segmentation, region_volumes_mm3

FOLDS = 10
PENALTIES = np.logspace(-5, 4, 37)
RESAMPLES = 5000  # of subjects, for the intervals
INTRACRANIAL = "702"
MEAN, DLMUSE = "mean age of the others", "DLMUSE volumes by intracranial volume"
POOLED_ONLY, SHARES, BOTH = "our pooled features", "our volumes by head size", "both of ours"
Block = Float[np.ndarray, "subject feature"]


def ages_of(ixi: Path) -> dict[str, float]:
    """Age in years of the subjects who have one."""
    with (ixi / "participants.csv").open() as file:
        ages = {row["id"]: row["age_years"] for row in csv.DictReader(file)}
    return {subject: float(age) for subject, age in ages.items() if age}


def dlmuse_shares(ixi: Path, subjects: Sequence[str]) -> Float[np.ndarray, "subject roi"]:
    """Volumes of DLMUSE by intracranial volume."""
    with (ixi / "dlmuse_volumes_mm3.csv").open() as file:
        rows = {row.pop("MRID"): row for row in csv.DictReader(file)}
    head = np.array([float(rows[s].pop(INTRACRANIAL)) for s in subjects])
    volumes = np.array([[float(v) for v in rows[s].values()] for s in subjects])
    return np.asarray(volumes / head[:, None])


def pooled_of(segmentation: Segmentation) -> Float32[np.ndarray, " feature"]:
    """The pooled features of all region tokens in a row, zero for a region not found."""
    tokens = region_tokens(segmentation, None, None)
    table = np.zeros((len(REGIONS), POOLED), dtype=np.float32)
    table[tokens.kinds] = tokens.features[:, :POOLED]
    return table.ravel()


def shares_of(segmentation: Segmentation) -> Float[np.ndarray, " region"]:
    """Our volumes by head size."""
    volumes = region_volumes_mm3(segmentation.region_map, segmentation.spacing_mm)
    return np.array(list(volumes.values())) / head_mm3(segmentation)


def folds_of(ages: Float[np.ndarray, " subject"], seed: int) -> Int[np.ndarray, " subject"]:
    """Fold of every subject; each fold holds young and old alike."""
    n_strata = max(1, len(ages) // FOLDS)
    strata = np.digitize(ages, np.quantile(ages, np.linspace(0, 1, n_strata + 1)[1:-1]))
    splits = StratifiedKFold(min(FOLDS, len(ages)), shuffle=True, random_state=seed)
    fold = np.zeros(len(ages), dtype=np.int64)
    for n, (_, asked) in enumerate(splits.split(ages, strata)):
        fold[asked] = n
    return fold


def predicted(
    blocks: Sequence[Block],
    ages: Float[np.ndarray, " subject"],
    fold: Int[np.ndarray, " subject"],
) -> Float[np.ndarray, " subject"]:
    """Age of every subject by a ridge that has not seen their fold.

    Args:
        blocks: Features; each block weighs the same whatever its width. None at all predicts the
            mean age of the other folds.
        ages: Years.
        fold: Fold of every subject.
    """
    years = np.zeros(len(ages))
    for n in range(fold.max() + 1):
        seen, asked = fold != n, fold == n
        if not blocks:
            years[asked] = ages[seen].mean()
            continue
        scales = [StandardScaler().fit(block[seen]) for block in blocks]
        features = np.concatenate(
            [s.transform(b) / np.sqrt(b.shape[1]) for s, b in zip(scales, blocks, strict=True)],
            axis=1,
        )
        ridge = RidgeCV(PENALTIES).fit(features[seen], ages[seen])
        years[asked] = ridge.predict(features[asked])
    return years


def interval(values: Float[np.ndarray, " subject"], seed: int = 0) -> tuple[float, float, float]:
    """Mean and its 95 % interval over subjects drawn again and again."""
    drawn = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(values[drawn].mean(axis=1), [2.5, 97.5])
    return float(values.mean()), float(low), float(high)


def cell(values: Float[np.ndarray, " subject"], sign: str = "") -> str:
    """Mean and interval for a table."""
    return "{:{s}.1f} ({:{s}.1f} to {:{s}.1f})".format(*interval(values), s=sign)


def main() -> None:
    """Print a line for each read-out."""
    parser = arguments(__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the folds")
    args, _ = parser.parse_known_args()
    known = ages_of(args.ixi)
    subjects = sorted(known)[: args.subjects]
    ages = np.array([known[s] for s in subjects])
    unseen = np.isin(subjects, held_out(all_subjects(args.ixi))[1])
    segmenter = Segmenter(args.weights)
    found = [segmenter(s, partial(read_t1, args.ixi, s)) for s in tqdm(subjects, "segmenting")]
    pooled, shares = (np.array([of(s) for s in found]) for of in (pooled_of, shares_of))
    reference = dlmuse_shares(args.ixi, subjects)
    fold = folds_of(ages, args.seed)
    errors = {
        words: np.abs(predicted(blocks, ages, fold) - ages)
        for words, blocks in (
            (MEAN, []), (DLMUSE, [reference]), (POOLED_ONLY, [pooled]), (SHARES, [shares]),
            (BOTH, [pooled, shares]),
        )
    }  # fmt: skip
    print(
        f"Age of {len(ages)} healthy IXI adults, {ages.min():.0f} to {ages.max():.0f} years, from"
    )
    print(f"their T1w scan: {fold.max() + 1}-fold cross-validation, the same folds for all. Mean")
    print("absolute error in years with its 95 % interval over subjects; negative differences mean")
    print("better than the DLMUSE volumes on the same people. The segmentation network saw the")
    print(
        f"label maps, never the ages, of {np.sum(~unseen)} of them in training; {unseen.sum()} it"
    )
    print("never saw.\n")
    print("| ridge regression on | features | error | difference | the unseen alone |")
    print("|---|--:|--:|--:|--:|")
    widths = (0, reference.shape[1], pooled.shape[1], shares.shape[1],
              pooled.shape[1] + shares.shape[1])  # fmt: skip
    for (words, error), width in zip(errors.items(), widths, strict=True):
        beside = "" if words == DLMUSE else cell(error - errors[DLMUSE], "+")
        print(f"| {words} | {width} | {cell(error)} | {beside} | {cell(error[unseen])} |")


if __name__ == "__main__":
    main()
