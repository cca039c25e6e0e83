"""What privacy costs: AUROC of a federation of three hospitals against epsilon.

    python -m benchmarks.federated_privacy --seeds 3

Site-level protection (`federated.site.guard`): each site's update is clipped and gets noise, and
epsilon is for whatever a site's patients are exchanged for, over all rounds. Patient-level
protection (`federated.patient_privacy`, DP-SGD): epsilon is for one patient, added or removed.
Both at delta 1e-5, by Flower's accountant. Noise multipliers are searched for with Opacus' and with
Flower's.
The hub averages with the checks of `federated.hub.strategies`.
"""

import argparse
import functools
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from flwr.serverapp import GaussianPrivacyEvent
from opacus.accountants.utils import get_noise_multiplier
from scipy.optimize import brentq
from scipy.stats import t as student

from benchmarks.hospitals_in_process import (
    FIRST,
    Hospital,
    auroc,
    federate,
    hospitals,
    machine,
    registered,
    small_plan,
    test_cases,
)
from federated import task
from federated.hub.strategies import Rules, strategy
from federated.in_process import Node
from federated.patient_privacy import PatientPrivacy
from federated.site.ledger import PARTS, Ledger, accountant
from federated.site.policy import SitePolicy
from federated.task import Plan
from fusion.case import Case

DELTA = 1e-5
KNOWN: dict[tuple[str, str], dict[str, np.ndarray]] = {}  # answers without noise, by plan and site
EPSILONS = (1.0, 4.0, 8.0, 16.0)
SITE_EPSILONS = (8.0, 1000.0, 1e6, 1e8)
CLIP = 1.0  # of a site's update; an honest one here is about three times as long
PATIENT = PatientPrivacy(0.0, clip_norm=1.0, sample_rate=0.2, steps=40, learning_rate=2e-3)


def site_noise(epsilon: float, rounds: int) -> float:
    """Noise in clip norms with which `rounds` replies of a site cost `epsilon`."""

    def over(log_noise: float) -> float:
        spent = accountant()
        spent.compose(GaussianPrivacyEvent(float(np.exp(log_noise)) / 2, PARTS, PARTS), rounds)
        return float(np.log(spent.get_epsilon(DELTA)) - np.log(epsilon))

    return float(np.exp(brentq(over, -12.0, 6.0, xtol=1e-3)))


def patient_noise(epsilon: float, rounds: int) -> float:
    """Noise of DP-SGD with which `rounds` rounds cost `epsilon`, by Opacus."""
    return float(
        get_noise_multiplier(
            target_epsilon=epsilon,
            target_delta=DELTA,
            sample_rate=PATIENT.sample_rate,
            steps=PATIENT.steps * rounds,
            accountant="rdp",
        )
    )


def run(
    plan: Plan, tests: Sequence[Case], rounds: int, seed: int, **policy: float
) -> tuple[float, float | None]:
    """AUROC of a federation behind guards of some policy, and what its sites have spent."""
    layout = task.layout(task.new_network(plan))
    cases = hospitals(plan)
    with tempfile.TemporaryDirectory() as folder:
        nodes, folders = {}, [Path(folder) / name for name in cases]
        for n, (mine, own) in enumerate(zip(folders, cases.values(), strict=True)):
            mine.mkdir()
            generator = torch.Generator().manual_seed(1000 * seed + n)
            agreed = SitePolicy(
                plan=plan.fingerprint, layout=layout.sha256, numbers=layout.size,
                cases=len(own.train), rounds=rounds, **policy,
            )  # fmt: skip
            known = {} if plan.privacy else KNOWN.setdefault((plan.fingerprint, mine.name), {})
            app = Hospital(own, plan, known, generator)
            nodes[FIRST + n] = Node(app, {}, agreed, mine, seed=seed)
        hub = strategy("fedavg", Rules(layout, registered(cases), min_sites=3))
        packed = federate(nodes, hub, plan, rounds)
        spent = Ledger(folders[0]).read().epsilon
    return auroc(packed, plan, tests), spent


def ways(
    plan: Plan, tests: Sequence[Case], rounds: int, seed: int
) -> dict[str, Callable[[], tuple[float, float | None]]]:
    """What is compared, each yet to be run."""
    found: dict[str, Callable[[], tuple[float, float | None]]] = {
        "before training": lambda: (auroc(task.pack(task.new_network(plan)), plan, tests), None),
        "no clipping, no noise": lambda: run(plan, tests, rounds, seed, clip_norm=1e6),
        f"site level: clipped to {CLIP:g}, no noise": lambda: run(
            plan, tests, rounds, seed, clip_norm=CLIP
        ),
    }
    at = functools.partial(run, tests=tests, rounds=rounds, seed=seed)
    for epsilon in SITE_EPSILONS:
        noise = site_noise(epsilon, rounds)
        found[f"site level: clipped to {CLIP:g}, noise {noise:.3g}"] = functools.partial(
            at, plan, clip_norm=CLIP, noise_multiplier=noise, epsilon=1.01 * epsilon
        )
    bare = replace(plan, privacy=PATIENT)
    found["patient level: clipped, no noise"] = functools.partial(at, bare, clip_norm=1e6)
    for epsilon in reversed(EPSILONS):
        noise = patient_noise(epsilon, rounds)
        found[f"patient level: clipped, noise {noise:.3g}"] = functools.partial(
            at,
            replace(plan, privacy=replace(PATIENT, noise_multiplier=noise)),
            clip_norm=1e6,
            epsilon=1.02 * epsilon,
            patient_noise_multiplier=noise,
            patient_sample_rate=PATIENT.sample_rate,
            patient_steps=PATIENT.steps,
        )
    return found


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % interval by Student's t, over seeds."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.3f}"
    half = float(student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5)
    return f"{mean:.3f} ({mean - half:.3f} to {mean + half:.3f})"


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6, help="of a round, without patient level")
    args, _ = parser.parse_known_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    began = time.perf_counter()
    scores: dict[str, list[float]] = {}
    spent: dict[str, float | None] = {}
    for seed in range(args.seeds):
        plan = small_plan(args.epochs, seed)
        tests = test_cases(plan)
        for name, way in ways(plan, tests, args.rounds, seed).items():
            found, spent[name] = way()
            scores.setdefault(name, []).append(found)
    numbers = task.layout(task.new_network(plan)).size
    print(
        f"Three synthetic hospitals, {args.rounds} rounds, {numbers:,} numbers travel; patient "
        f"level: {PATIENT.steps} steps a round, each patient in one of {1 / PATIENT.sample_rate:g} "
        f"steps.\nMean AUROC, 95 % interval over {args.seeds} seeds; epsilon at delta {DELTA:g} as "
        "the sites' ledgers have it; 0.5 is guessing.\n"
    )
    print("| protection | epsilon | AUROC | cost |\n|---|--:|--:|--:|")
    free = np.mean(scores["no clipping, no noise"])
    for name, values in scores.items():
        epsilon = spent[name]
        told = "none" if epsilon is None else f"{epsilon:.3g}"
        print(f"| {name} | {told} | {interval(values)} | {np.mean(values) - free:+.3f} |")
    print(f"\nTook {time.perf_counter() - began:.0f} s; {machine()}.")


if __name__ == "__main__":
    main()
