"""Pooled, each hospital alone and federated, tested on the same patients of each hospital.

    python -m benchmarks.federated --sites north river harbour --tests north2 river2 harbour2

Every hospital's cases are split by patient once; pooled training joins the hospitals' training
parts, a hospital alone uses its own, and the federation leaves them where they are. All begin
with the same network. The tests are a second synthetic cohort, of which nobody saw a case.
"""

import argparse
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from federated import task
from federated.simulate import simulate
from federated.task import Plan, SiteCases
from fusion.calibrate import calibrate
from fusion.case import Case
from fusion.evaluate import evaluate
from fusion.model import DiagnosticModel
from fusion.store import Site
from fusion.train import TrainConfig, fit

RUNS = Path(__file__).parents[1] / "runs"
HOSPITALS = ("north", "river", "harbour")
SITES = [RUNS / "sites" / name for name in HOSPITALS]
TESTS = [RUNS / "test_sites" / name for name in HOSPITALS]


def joined(cases: Sequence[SiteCases]) -> SiteCases:
    """The hospitals' parts put together, part by part."""
    parts = ("train", "valid", "calibration", "test")
    return SiteCases(*([c for site in cases for c in getattr(site, part)] for part in parts))


def trained(cases: SiteCases, plan: Plan) -> DiagnosticModel:
    """Ordinary training, with early stopping."""
    network = task.new_network(plan)
    usual = TrainConfig(fractions=plan.train.fractions, seed=plan.train.seed)
    fit(network, cases.train, cases.valid, usual)
    return network


def scores(
    network: DiagnosticModel, tests: Sequence[Sequence[Case]], plan: Plan, calibrated_on: SiteCases
) -> list[float]:
    """Mean AUROC on each hospital's test patients and on all; balanced accuracy on all.

    Calibration changes no AUROC of a cause and next to none of a syndrome.
    """
    calibrator = calibrate(network, calibrated_on.calibration)
    everyone = [case for cases in tests for case in cases]
    found = [
        evaluate(network, calibrator, cases, plan.scheme, resamples=2)
        for cases in (*tests, everyone)
    ]
    numbers = [*(evaluation.mean_auroc for evaluation in found), found[-1].balanced_accuracy]
    return [math.nan if number is None else number for number in numbers]


def compare(
    sites: Sequence[Path], tests: Sequence[Sequence[Case]], rounds: int, seed: int
) -> dict[str, list[float]]:
    """Scores of every way of training, on one split."""
    plan = task.plan_for(sites[0], seed)
    cases = [task.site_cases(site.resolve(), plan) for site in sites]
    everyone = joined(cases)
    found = {"pooled": scores(trained(everyone, plan), tests, plan, everyone)}
    for site, own in zip(sites, cases, strict=True):
        alone = trained(own, plan)
        found[f"{site.name} alone"] = scores(alone, tests, plan, own)
    with tempfile.TemporaryDirectory() as out:
        simulate(sites, Path(out), rounds=rounds, plan=plan)
        together = task.load_round(plan, Path(out), rounds)
    found[f"federated, {rounds} rounds"] = scores(together, tests, plan, everyone)
    return found


def table(sites: Sequence[Path], repeats: Sequence[dict[str, list[float]]]) -> str:
    """A row a way of training; mean and standard deviation over the splits."""
    columns = [*(f"{site.name}'s patients" for site in sites), "all", "balanced accuracy, all"]
    lines = [f"| trained on | {' | '.join(columns)} |", "|---" + "|--:" * len(columns) + "|"]
    for name in repeats[0]:
        numbers = np.array([found[name] for found in repeats])
        mean, deviation = np.nanmean(numbers, axis=0), np.nanstd(numbers, axis=0)
        cells = [f"{m:.3f} ± {d:.3f}" for m, d in zip(mean, deviation, strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sites", type=Path, nargs="+", default=SITES, metavar="SITE")
    parser.add_argument("--tests", type=Path, nargs="+", default=TESTS, metavar="SITE")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3, help="splits, each with its own seed")
    args, _ = parser.parse_known_args()
    plan = task.plan_for(args.sites[0])
    tests = [Site.open(folder).training_cases(plan.scheme) for folder in args.tests]
    repeats = [compare(args.sites, tests, args.rounds, seed) for seed in range(args.repeats)]
    counts = ", ".join(
        f"{site.name} {len(task.site_cases(site.resolve(), plan).train)} and {len(test)}"
        for site, test in zip(args.sites, tests, strict=True)
    )
    print(
        "Synthetic cases. Mean AUROC over the diagnoses with enough test patients, mean ± standard "
        f"deviation over {args.repeats} splits and seeds. Cases to train and test on:\n{counts}.\n"
    )
    print(table(args.sites, repeats))


if __name__ == "__main__":
    main()
