"""The network in INT8: quantized after training (PTQ) and trained to bear it (QAT), against FP32.

Trained on the first synthetic cohort, scored on the second one. PTQ quantizes the FP32 network of
the same seed; QAT begins from the same seed and knows of the rounding in its last epochs. The time
is that of a batch of one case, the three networks in turn.

    python -m benchmarks quantized_network [--seeds N]
"""

import argparse
import copy
import platform
import statistics
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from clinical.diagnoses import Scheme, load_scheme
from fusion.calibrate import calibrate
from fusion.case import Case, collate
from fusion.evaluate import evaluate
from fusion.model import DiagnosticModel
from fusion.quantize import fit_int8, to_int8, write_int8
from fusion.store import Site
from fusion.train import TrainConfig, train
from fusion.weights import write_weights

ROOT = Path(__file__).parents[1]
HOSPITALS = ("north", "river", "harbour")
ROUNDS = 40  # one case each


def cases_of(folder: str, scheme: Scheme) -> list[Case]:
    """All cases of a cohort with labels."""
    sites = [Site.open(ROOT / "runs" / folder / name) for name in HOSPITALS]
    return [case for site in sites for case in site.training_cases(scheme)]


def networks(cases: Sequence[Case], seed: int) -> tuple[dict[str, DiagnosticModel], list[Case]]:
    """The three networks of a seed, and the cases that calibrate them."""
    config = TrainConfig(seed=seed)
    trained = train(cases, config)
    ptq = copy.deepcopy(trained.model)
    to_int8(ptq)
    torch.manual_seed(seed)
    qat = DiagnosticModel(trained.model.config)
    fit_int8(qat, trained.parts["train"], trained.parts["valid"], config)
    made = {"FP32": trained.model, "INT8, PTQ": ptq, "INT8, QAT": qat}
    return made, list(trained.parts["calibration"])


def aurocs(
    model: DiagnosticModel, known: Sequence[Case], unseen: Sequence[Case], scheme: Scheme
) -> np.ndarray:
    """Of each diagnosis that has one, on patients of the other cohort."""
    found = evaluate(model, calibrate(model, known), unseen, scheme, resamples=2)
    return np.array([np.nan if s.auroc is None else s.auroc for s in found.labels])


def kilobytes(name: str, model: DiagnosticModel) -> float:
    """Size of the file of weights."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.safetensors"
        (write_weights if name == "FP32" else write_int8)(path, model)
        return path.stat().st_size / 1024


def milliseconds(made: dict[str, DiagnosticModel], case: Case) -> dict[str, float]:
    """Of one case, the fastest of many rounds in turn."""
    batch = collate([case])
    taken: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(ROUNDS):
        for name, model in made.items():
            began = time.perf_counter()
            evidence = model.encode(batch)
            model.fuse(evidence, evidence.present)
            taken[name].append(1e3 * (time.perf_counter() - began))
    return {name: min(times) for name, times in taken.items()}


def main() -> None:
    """Train, quantize, score, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    args, _ = parser.parse_known_args()
    if not (ROOT / "runs" / "test_sites").exists():
        print("The synthetic cohorts are not here: the benchmark was skipped.")
        return
    scheme = load_scheme()
    cases, unseen = cases_of("sites", scheme), cases_of("test_sites", scheme)
    scores: dict[str, list[np.ndarray]] = {}
    for seed in range(args.seeds):
        made, known = networks(cases, seed)
        for name, model in made.items():
            scores.setdefault(name, []).append(aurocs(model, known, unseen, scheme))
    sizes = {name: kilobytes(name, model) for name, model in made.items()}
    times = milliseconds(made, unseen[0])
    print(
        f"{platform.machine()}, {torch.get_num_threads()} threads, torch {version('torch')}, "
        f"torchao {version('torchao')}. Trained on {len(cases)} synthetic cases, scored on "
        f"{len(unseen)} of another cohort; {args.seeds} seeds.\n"
    )
    print(
        "| network | mean AUROC | change by seed | largest loss of a diagnosis | kB | ms a case |"
    )
    print("|---|--:|---|--:|--:|--:|")
    for name, found in scores.items():
        change = [a - b for a, b in zip(found, scores["FP32"], strict=True)]
        by_seed = ", ".join(f"{np.nanmean(c):+.4f}" for c in change)
        worst = max(0.0, -float(np.nanmin(np.mean(change, axis=0))))
        mean = statistics.mean(float(np.nanmean(f)) for f in found)
        print(
            f"| {name} | {mean:.4f} | {by_seed} | {worst:.4f} | {sizes[name]:.0f} "
            f"| {times[name]:.2f} |"
        )
    fastest = min(times[name] for name in times if name != "FP32")
    verdict = "gains" if fastest < 0.9 * times["FP32"] else "gains nothing"
    print(
        f"\nINT8 {verdict} in time on a network this small "
        f"({times['FP32'] / fastest:.2f} times as fast as FP32)."
    )


if __name__ == "__main__":
    main()
