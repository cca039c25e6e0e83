"""Norms: whom they rest on, which curves were compared, how hospitals and our network differ."""

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.stats import norm as standard
from sklearn.linear_model import QuantileRegressor
from sklearn.preprocessing import SplineTransformer

from imaging.fit_norms import Brains, fit_norm, read_ixi
from imaging.norms import Norms, load_norms, volume_rows
from imaging.regions import REGION_INDEX, REGIONS

DATA = Path(__file__).parents[2] / "shared" / "data"
TAU = np.array([0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975])
SHOWN = ("left hippocampus", "right hippocampus", "left amygdala", "left lateral ventricle",
         "left inferior lateral ventricle", "left temporal cortex", "left occipital cortex",
         "left precuneus", "left basal forebrain", "left cerebral white matter",
         "third ventricle")  # fmt: skip
FEW = [REGION_INDEX[key] for key in SHOWN]
Fit = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def regression(train: np.ndarray, y: np.ndarray, test: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Least squares with one spread."""
    weights, *_ = np.linalg.lstsq(train, y, rcond=None)
    sd = np.std(y - train @ weights) * np.sqrt(len(y) / (len(y) - train.shape[1]))
    return (test @ weights)[:, None] + sd * standard.ppf(TAU)


def shipped(train: np.ndarray, y: np.ndarray, test: np.ndarray, where: np.ndarray) -> np.ndarray:
    """The same with hospitals told apart, and the spread widened by theirs."""
    fitted = fit_norm(y, train, where, 2, 0)
    return fitted.expected(test)[:, None] + fitted.total_sd * standard.ppf(TAU)


def by_sex(rows: np.ndarray) -> np.ndarray:
    """Another course of age for each sex."""
    return np.column_stack([rows, rows[:, 1:3] * rows[:, 3:4]])


def sexes_apart(
    train: np.ndarray, y: np.ndarray, test: np.ndarray, where: np.ndarray
) -> np.ndarray:
    """Least squares with a quadratic for each sex."""
    return regression(by_sex(train), y, by_sex(test), where)


def spline(train: np.ndarray, y: np.ndarray, test: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Least squares with a cubic B-spline of age instead of the quadratic."""
    curve = SplineTransformer(n_knots=4, knots="quantile", include_bias=False)
    curve.fit(train[:, 1:2])
    bent = [np.column_stack([r[:, [0, 3, 4]], curve.transform(r[:, 1:2])]) for r in (train, test)]
    return regression(bent[0], y, bent[1], where)


def lms(train: np.ndarray, y: np.ndarray, test: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Box-Cox Cole-Green: the spread follows age and the volume itself may be skewed."""
    n = train.shape[1]
    weights, *_ = np.linalg.lstsq(train, y, rcond=None)
    spread = train[:, :2]

    def loss(p: np.ndarray) -> tuple[float, np.ndarray]:
        left, log_sd = y - train @ p[:n], spread @ p[n : n + 2]
        power = p[-1] if abs(p[-1]) > 1e-5 else 1e-5
        grown = np.exp(power * left)
        u = (grown - 1.0) / power * np.exp(-log_sd)
        by_power = (left * grown - (grown - 1.0) / power) / power
        steep = u * np.exp(-log_sd)
        gradient = [train.T @ (power - steep * grown), spread.T @ (1.0 - u * u)]
        last = [steep @ by_power - left.sum()]
        return 0.5 * u @ u + log_sd.sum() - power * left.sum(), np.concatenate([*gradient, last])

    start = np.concatenate([weights, [np.log(np.std(y - train @ weights)), 0.0, 0.1]])
    p = minimize(loss, start, jac=True, method="BFGS").x
    away = np.exp(test[:, :2] @ p[n : n + 2])[:, None] * standard.ppf(TAU)
    return (test @ p[:n])[:, None] + np.log(np.maximum(1.0 + p[-1] * away, 1e-3)) / p[-1]


def quantiles(train: np.ndarray, y: np.ndarray, test: np.ndarray, _: np.ndarray) -> np.ndarray:
    """A quantile regression for each centile, sorted so that they do not cross."""
    fits = [QuantileRegressor(quantile=t, alpha=0.0, fit_intercept=False) for t in TAU]
    return np.sort(np.stack([f.fit(train, y).predict(test) for f in fits], axis=1), axis=1)


METHODS: dict[str, Fit] = {
    "quadratic of age, one spread (as before)": regression,
    "**the same, hospitals told apart and widening it (ships)**": shipped,
    "a quadratic for each sex": sexes_apart,
    "cubic B-spline of age": spline,
    "Box-Cox Cole-Green (LMS), spread by age": lms,
    "quantile regression, sorted": quantiles,
}


def rows_of(brains: Brains) -> np.ndarray:
    """The regression's rows."""
    head = np.log(brains.head_mm3 / np.exp(np.log(brains.head_mm3).mean()))
    return volume_rows(brains.age_years - brains.age_years.mean(), head, brains.sex)


def unseen(
    fit: Fit, brains: Brains, folds: np.ndarray, regions: list[int]
) -> tuple[float, np.ndarray]:
    """Pinball loss in standard deviations, and the share below each centile of people left out.

    Only people within the ages of the others are asked for.
    """
    rows, age, where = rows_of(brains), brains.age_years, np.array(brains.hospitals)
    losses, below = [], []
    for region in regions:
        found = brains.volumes_mm3[:, region] > 0
        y = np.log(np.where(found, brains.volumes_mm3[:, region], 1.0))
        sd = np.std((y - rows @ np.linalg.lstsq(rows[found], y[found], rcond=None)[0])[found])
        for fold in np.unique(folds):
            train = found & (folds != fold)
            inside = (age >= age[train].min()) & (age <= age[train].max())
            test = found & (folds == fold) & inside
            lines = fit(rows[train], y[train], rows[test], where[train])
            off = y[test][:, None] - lines
            losses.append(np.maximum(TAU * off, (TAU - 1.0) * off) / sd)
            below.append(off < 0)
    return float(np.concatenate(losses).mean()), np.concatenate(below).mean(axis=0)


def compare(brains: Brains) -> None:
    """Print the methods against each other."""
    rng = np.random.default_rng(0)
    splits = {
        "ten folds": rng.permutation(len(brains.ids)) % 10,
        "one hospital left out": np.unique(brains.hospitals, return_inverse=True)[1],
    }
    for words, folds in splits.items():
        print(f"\nPeople left out: {words}. Pinball loss in hundredths of a standard deviation;")
        print(f"below the 2.5th, 5th, 50th, 95th, 97.5th centile are so many %. {len(SHOWN)}")
        print("regions (those below).\n")
        print("| curves | pinball | 2.5 | 5 | 50 | 95 | 97.5 |\n|---|--:|--:|--:|--:|--:|--:|")
        for name, fit in METHODS.items():
            loss, below = unseen(fit, brains, folds, FEW)
            shares = " | ".join(f"{100 * below[n]:.1f}" for n in (0, 1, 4, 7, 8))
            print(f"| {name} | {100 * loss:.2f} | {shares} |")


def hospital_means(brains: Brains, region: int) -> list[float]:
    """How far each hospital lies from the curve, in standard deviations, from 40 years."""
    found = brains.volumes_mm3[:, region] > 0
    rows, y = rows_of(brains)[found], np.log(brains.volumes_mm3[found, region])
    left = y - rows @ np.linalg.lstsq(rows, y, rcond=None)[0]
    where, old = np.array(brains.hospitals)[found], brains.age_years[found] >= 40
    names = np.unique(brains.hospitals)
    return [float(left[(where == name) & old].mean() / left.std()) for name in names]


def print_people(brains: Brains, norms: Norms) -> None:
    """Print whom the norms rest on."""
    names, counts = np.unique(brains.hospitals, return_counts=True)
    shares = ", ".join(f"{name} {n}" for name, n in zip(names, counts, strict=True))
    print(f"{norms.n} healthy adults of IXI, each once ({shares}); everybody under 40 is of HH.")
    decades = sorted({d for people in norms.people.values() for d in people})
    print(f"\n| people aged | {' | '.join(f'{d}-{int(d) + 9}' for d in decades)} | norms reach |")
    print(f"|---|{'--:|' * len(decades)}---|")
    for sex, people in norms.people.items():
        low, high = norms.ages[sex]
        shares = " | ".join(str(people.get(d, 0)) for d in decades)
        print(f"| {sex} | {shares} | {low:.0f} to {high:.0f} |")


def print_regions(brains: Brains, norms: Norms) -> None:
    """Print hospitals, and the line from the tables to our network."""
    names = np.unique(brains.hospitals)
    spread = [norms.regions[r.key].hospital_sd / norms.regions[r.key].sd for r in REGIONS]
    print("\nHospitals: mean distance from the common curve in standard deviations (40 years and")
    print("older), and the spread between hospitals by that within them, which widens the norm:")
    print(f"median of the {len(REGIONS)} regions {np.median(spread):.2f}, ", end="")
    print(f"largest {max(spread):.2f} ({REGIONS[int(np.argmax(spread))].key}).")
    print(f"\nFrom the tables to our network: {norms.network}.")
    if norms.head_offset:
        print(f"Head size {100 * np.expm1(norms.head_offset):+.1f} %.")
    print(f"\n| region | sd, % | {' | '.join(names)} | between | offset, % | slope | scatter, % |")
    print(f"|---|{'--:|' * (5 + len(names))}")
    for key in SHOWN:
        norm, link = norms.regions[key], norms.regions[key].link
        means = " | ".join(f"{m:+.2f}" for m in hospital_means(brains, REGION_INDEX[key]))
        offset = 100 * np.expm1(link.our_mean - link.table_mean)
        line = (
            f"{offset:+.1f} | {link.slope:.2f} | {100 * link.spread:.1f}" if link.n else "- | - | -"
        )
        print(
            f"| {key} | {100 * norm.sd:.1f} | {means} | {norm.hospital_sd / norm.sd:.2f} | {line} |"
        )


def print_held_out(brains: Brains, norms: Norms, ixi: Path) -> None:
    """Print where our network puts healthy people it never saw."""
    from benchmarks.segmented import Segmenter, read_t1, unseen_subjects
    from imaging.encoder import head_mm3
    from imaging.regions import region_volumes_mm3
    from imaging.segment import WEIGHTS

    segmenter, rows = Segmenter(WEIGHTS), []
    people = {person: n for n, person in enumerate(brains.ids)}
    subjects = [s for s in unseen_subjects(ixi) if s in people]
    for subject in subjects:
        found = segmenter(subject, lambda s=subject: read_t1(ixi, s))
        volumes = region_volumes_mm3(found.region_map, found.spacing_mm)
        n = people[subject]
        who = (float(brains.age_years[n]), "male" if brains.sex[n] > 0 else "female")
        z = [norms.z(r.key, volumes[r.key], head_mm3(found), *who) for r in REGIONS]
        rows.append(np.array(z, dtype=float))
    z = np.array(rows)
    z = z[np.isfinite(z)]
    print(f"\n{len(subjects)} held-out scans measured by our network, deviation from the norm:")
    print(f"mean {z.mean():+.2f}, standard deviation {z.std():.2f} over all regions;")
    print(
        f"{100 * np.mean(np.abs(z) > 1.96):.1f} % beyond the 2.5th and 97.5th centile (5 expected)."
    )


def main() -> None:
    """Print everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    args, _ = parser.parse_known_args()
    warnings.filterwarnings("ignore", module="sklearn")  # solvers that say they are sure
    brains, norms = read_ixi(args.data / "ixi_volumes", args.data / "ixi_t1_2mm"), load_norms()
    print_people(brains, norms)
    compare(brains)
    print_regions(brains, norms)
    if norms.regions[SHOWN[0]].link.n:
        print_held_out(brains, norms, args.data / "ixi_t1_2mm")


if __name__ == "__main__":
    main()
