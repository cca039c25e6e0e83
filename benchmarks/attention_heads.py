"""Do 24 heads and dynamic weights help? Heads 1, 8, 16, 24 by plain, hard and soft attention.

    python -m benchmarks.attention_heads --sites north river harbour --tests north2 river2 harbour2

trains each of the twelve networks several times on the cases of some sites and prints a table of
mean AUROC on the patients of others. All networks of a seed share one split, so the last column
compares pairwise: the difference from plain attention with as many heads.
"""

import argparse
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.federated import SITES, TESTS
from clinical.diagnoses import Scheme, load_scheme
from fusion.attention import Form
from fusion.calibrate import calibrate
from fusion.case import Case
from fusion.evaluate import evaluate
from fusion.network import ModelConfig
from fusion.store import Site
from fusion.train import TrainConfig, train

HEADS = (1, 8, 16, 24)
FORMS: tuple[Form, ...] = ("plain", "hard", "soft")


@dataclass(frozen=True)
class Run:
    """One trained network."""

    heads: int
    form: Form
    seed: int
    auroc: float  # mean over the diagnoses that have one
    balanced_accuracy: float
    seconds: float


def load_cases(folders: Sequence[Path], scheme: Scheme) -> list[Case]:
    """Labelled cases of some sites."""
    return [case for folder in folders for case in Site.open(folder).training_cases(scheme)]


def text_dim(cases: Sequence[Case]) -> int:
    """Width of the sentences of the first case that has notes."""
    for case in cases:
        if "notes" in case.tokens:
            return int(case.tokens["notes"].features.shape[-1])
    return ModelConfig.text_dim


def run(
    cases: Sequence[Case],
    tests: Sequence[Case],
    scheme: Scheme,
    config: ModelConfig,
    training: TrainConfig,
) -> Run:
    """Train and score one network."""
    began = time.monotonic()
    trained = train(cases, training, config)
    calibrator = calibrate(trained.model, trained.parts["calibration"])
    found = evaluate(trained.model, calibrator, tests, scheme, resamples=1)
    return Run(
        config.heads,
        config.form,
        training.seed,
        found.mean_auroc if found.mean_auroc is not None else float("nan"),
        found.balanced_accuracy if found.balanced_accuracy is not None else float("nan"),
        time.monotonic() - began,
    )


def table(runs: Sequence[Run]) -> str:
    """Mean and standard deviation over seeds, a row a network."""
    lines = [
        "| heads | form | mean AUROC (sd of seeds) | balanced accuracy | seconds | against plain |",
        "|--:|---|---|--:|--:|--:|",
    ]
    plain = {(r.heads, r.seed): r.auroc for r in runs if r.form == "plain"}
    for heads in HEADS:
        for form in FORMS:
            mine = [r for r in runs if (r.heads, r.form) == (heads, form)]
            if mine:
                aurocs = [r.auroc for r in mine]
                gains = [r.auroc - plain[heads, r.seed] for r in mine if (heads, r.seed) in plain]
                lines.append(
                    f"| {heads} | {form} | {np.mean(aurocs):.3f} ({np.std(aurocs):.3f}) "
                    f"| {np.mean([r.balanced_accuracy for r in mine]):.3f} "
                    f"| {np.mean([r.seconds for r in mine]):.0f} | {np.mean(gains):+.3f} |"
                )
    return "\n".join(lines)


def main() -> None:
    """Train all of them and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sites", type=Path, nargs="+", default=SITES, metavar="SITE")
    parser.add_argument("--tests", type=Path, nargs="+", default=TESTS, metavar="SITE")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=TrainConfig.epochs)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    args, _ = parser.parse_known_args()
    logging.basicConfig(level=logging.WARNING)
    scheme = load_scheme()
    cases, tests = (load_cases(folders, scheme) for folders in (args.sites, args.tests))
    base = ModelConfig(
        n_syndromes=len(scheme.syndromes), n_causes=len(scheme.causes), text_dim=text_dim(cases)
    )
    wanted = [(h, f, s) for s in range(args.seeds) for h in HEADS for f in FORMS]
    training = TrainConfig(epochs=args.epochs, device=args.device)
    runs = [
        run(cases, tests, scheme, replace(base, heads=h, form=f), replace(training, seed=s))
        for h, f, s in tqdm(wanted, "networks")
    ]
    print(f"{len(cases)} cases to train on, {len(tests)} others to test on; {args.seeds} seeds.\n")
    print(table(runs))


if __name__ == "__main__":
    main()
