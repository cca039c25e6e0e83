"""Pooled, each hospital alone and federated, on the same test patients of each hospital.

    python -m benchmarks.federated --sites north river harbour

Every hospital's cases are split by patient once; pooled training joins the hospitals' training
parts, a hospital alone uses its own, and the federation leaves them where they are. All begin
with the same network. Without ``--sites`` the synthetic cohort is made and imported first, which
takes most of the time.
"""

import argparse
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from clinical.diagnoses import load_scheme
from federated import task
from federated.simulate import simulate
from federated.task import Plan, SiteCases
from fusion.calibrate import calibrate
from fusion.evaluate import evaluate
from fusion.intake import Tools, prepare_case, read_pairs, register
from fusion.model import DiagnosticModel
from fusion.store import Site
from fusion.train import TrainConfig, fit


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
    network: DiagnosticModel, cases: Sequence[SiteCases], plan: Plan, *, calibrated_on: SiteCases
) -> list[float]:
    """Mean AUROC on each hospital's test patients and on all; balanced accuracy on all.

    Calibration changes no AUROC of a cause and next to none of a syndrome.
    """
    calibrator = calibrate(network, calibrated_on.calibration)
    found = [
        evaluate(network, calibrator, part.test, plan.scheme, resamples=2)
        for part in (*cases, joined(cases))
    ]
    numbers = [*(evaluation.mean_auroc for evaluation in found), found[-1].balanced_accuracy]
    return [math.nan if number is None else number for number in numbers]


def compare(sites: Sequence[Path], rounds: int, seed: int) -> dict[str, list[float]]:
    """Scores of every way of training, on one split."""
    plan = task.plan_for(sites[0], seed)
    cases = [task.site_cases(site.resolve(), plan) for site in sites]
    everyone = joined(cases)
    found = {"pooled": scores(trained(everyone, plan), cases, plan, calibrated_on=everyone)}
    for site, own in zip(sites, cases, strict=True):
        alone = trained(own, plan)
        found[f"{site.name} alone"] = scores(alone, cases, plan, calibrated_on=own)
    with tempfile.TemporaryDirectory() as out:
        simulate(sites, Path(out), rounds=rounds, plan=plan)
        together = task.load_round(plan, Path(out), rounds)
    found[f"federated, {rounds} rounds"] = scores(together, cases, plan, calibrated_on=everyone)
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


def imported(out: Path, n_cases: int, seed: int) -> list[Path]:
    """The synthetic cohort as three sites."""
    from sample_data.cohort import make_cohort

    make_cohort(out / "cohort", n_cases, seed)
    tools, scheme, sites = Tools(), load_scheme(), []
    for pairs in sorted((out / "cohort").glob("*/cases.csv")):
        site = Site.create(out / "sites" / pairs.parent.name)
        for source in read_pairs(pairs):
            prepare_case(site, register(site, source, scheme).case_id, tools, scheme)
        sites.append(site.folder)
    return sites


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sites", type=Path, nargs="+", default=[], metavar="SITE")
    parser.add_argument("--cases", type=int, default=360, help="of the cohort, without --sites")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3, help="splits, each with its own seed")
    args, _ = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as made:
        sites = args.sites or imported(Path(made), args.cases, seed=0)
        began = time.perf_counter()
        repeats = [compare(sites, args.rounds, seed) for seed in range(args.repeats)]
        minutes = (time.perf_counter() - began) / 60
        plan = task.plan_for(sites[0])
        parts = [task.site_cases(site.resolve(), plan) for site in sites]
    counts = ", ".join(
        f"{site.name} {len(part.train)} to train and {len(part.test)} to test"
        for site, part in zip(sites, parts, strict=True)
    )
    print(
        f"Mean AUROC over the diagnoses with enough test patients, mean ± standard deviation over "
        f"{args.repeats} splits by patient. Cases: {counts}. {minutes:.0f} minutes.\n"
    )
    print(table(sites, repeats))


if __name__ == "__main__":
    main()
