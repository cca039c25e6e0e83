"""Does gradient reversal make notes forget where they were written, and what does it cost?

Two questions, the same network and training for both:

* hospitals: the notes of the three synthetic hospitals, which differ in language, number of notes
  and patients (and so in diagnoses: what tells a diagnosis tells a little of the hospital too);
* general: clinical notes against English prose that is not clinical, the documentation strings of
  Python's standard library, read by the same encoder.

A fresh probe, a logistic regression on the mean of a case's sentences as the attention sees them,
is trained on the notes of the training cohort and reads the domain of the other cohort's patients:
balanced accuracy. Before: the same layer trained without reversal. AUROC is the mean over the
diagnoses on the other cohort. Nothing was tuned on the seeds reported.

Usage: python -m benchmarks domains [--seeds 5]
"""

import argparse
import ast
import json
import logging
import platform
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from benchmarks.federated import SITES, TESTS
from clinical.diagnoses import Scheme, load_scheme
from clinical.record import Coding, Note
from clinical.text_encoder import load_text_encoder
from fusion.adapt import Adversary, embedded
from fusion.calibrate import calibrate
from fusion.case import Case
from fusion.evaluate import evaluate
from fusion.model import DiagnosticModel
from fusion.network import ModelConfig
from fusion.store import Site
from fusion.train import TrainConfig, fit, split_by_patient

STRENGTHS = (0.0, 0.3, 0.7)
GENERAL_DOCUMENTS = 300  # to train on and to test on, half each
SENTENCES = 25  # of a document, as many as a case has
LETTERS = 40  # a line of prose has as many at least


def prose() -> Iterator[str]:
    """Paragraphs of the documentation strings of Python's standard library, in a fixed order."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                for paragraph in (ast.get_docstring(node) or "").split("\n\n"):
                    text = " ".join(paragraph.split())
                    if len(text) > LETTERS and text[0].isupper() and text.endswith("."):
                        yield text


def general_cases(seed: int = 0) -> list[Case]:
    """Documents of general English, read like notes."""
    paragraphs = list(dict.fromkeys(prose()))
    order = np.random.default_rng(seed).permutation(len(paragraphs))
    encoder, found, place = load_text_encoder(), [], 0
    for n in range(GENERAL_DOCUMENTS):
        lines: list[str] = []
        while sum(line.count(". ") + 1 for line in lines) < SENTENCES:
            lines.append(paragraphs[order[place % len(order)]])
            place += 1
        note = Note(f"g{n}", Coding("", "", ""), "\n".join(lines), language="en")
        tokens = encoder.note_tokens([note])
        assert tokens is not None
        found.append(Case(f"general{n}", f"general{n}", {"notes": tokens}))
    return found


def by_site(folders: Sequence[Path], scheme: Scheme) -> list[list[Case]]:
    """Labelled cases of each site."""
    return [Site.open(folder).training_cases(scheme) for folder in folders]


def probed(
    model: DiagnosticModel,
    seen: Sequence[Case],
    unseen: Sequence[Case],
    domains: Mapping[str, int],
) -> float:
    """Balanced accuracy with which a fresh probe reads the domain of patients it never saw."""
    with torch.inference_mode():
        x, y = (embedded(model.eval(), part).numpy() for part in (seen, unseen))
    wanted, true = ([domains[case.case_id] for case in part] for part in (seen, unseen))
    probe = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.1, max_iter=2000, class_weight="balanced")
    ).fit(x, wanted)
    return float(balanced_accuracy_score(true, probe.predict(y)))


def with_notes(cases: Sequence[Case]) -> list[Case]:
    """Those that can be probed."""
    return [case for case in cases if "notes" in case.tokens]


def run(
    cases: Sequence[Case],
    tests: Sequence[Case],
    scheme: Scheme,
    domains: Mapping[str, int],
    others: tuple[Sequence[Case], Sequence[Case]],
    config: TrainConfig,
) -> dict[str, float]:
    """Train one network, probe it and score it."""
    parts = split_by_patient(cases, config.fractions, config.seed)
    torch.manual_seed(config.seed)
    widths = {case.tokens["notes"].features.shape[1] for case in with_notes(cases)}
    model = DiagnosticModel(
        ModelConfig(
            n_syndromes=len(scheme.syndromes), n_causes=len(scheme.causes), text_dim=widths.pop()
        )
    )
    adversary = None
    if config.domain_weight:
        adversary = Adversary(
            model.config.dim, domains, config.domain_weight, others[0], config.seed
        )
    history = fit(model, parts[0], parts[1], config, adversary)
    found = evaluate(model, calibrate(model, parts[2]), tests, scheme, resamples=1)
    seen = [*with_notes(parts[0]), *others[0]]
    unseen = [*with_notes(tests), *others[1]]
    return {
        "auroc": float(found.mean_auroc or np.nan),
        "probe": probed(model, seen, unseen, domains),
        "epoch": float(history.best_epoch),
    }


def interval(values: Sequence[float]) -> str:
    """Mean and its 95 % interval over seeds."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.3f}"
    half = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return f"{mean:.3f} ({mean - half:.3f} to {mean + half:.3f})"


def table(found: Mapping[tuple[str, float, int], dict[str, float]], seeds: int) -> Iterator[str]:
    """A row a question and a strength; differences are of the same seed."""
    yield "| domains | lambda | probe, balanced accuracy | AUROC | AUROC against lambda 0 |"
    yield "|---|--:|--:|--:|--:|"
    for question, domains in (("hospitals", 3), ("general", 2)):
        for strength in STRENGTHS:
            mine = [found[question, strength, seed] for seed in range(seeds)]
            plain = [found[question, 0.0, seed] for seed in range(seeds)]
            gains = [a["auroc"] - b["auroc"] for a, b in zip(mine, plain, strict=True)]
            yield (
                f"| {question} (chance {1 / domains:.3f}) | {strength} "
                f"| {interval([m['probe'] for m in mine])} "
                f"| {interval([m['auroc'] for m in mine])} "
                f"| {interval(gains) if strength else ''} |"
            )


def main() -> None:
    """Train all networks, resuming where `--kept` has some, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sites", type=Path, nargs="+", default=SITES, metavar="SITE")
    parser.add_argument("--tests", type=Path, nargs="+", default=TESTS, metavar="SITE")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--kept", type=Path, help="file of finished networks, to resume")
    args, _ = parser.parse_known_args()
    logging.basicConfig(level=logging.WARNING)
    scheme = load_scheme()
    sites, tests = (by_site(folders, scheme) for folders in (args.sites, args.tests))
    general = general_cases()
    half = len(general) // 2
    cases, unseen = ([c for part in parts for c in part] for parts in (sites, tests))
    places = {c.case_id: n for parts in (sites, tests) for n, p in enumerate(parts) for c in p}
    clinical = dict.fromkeys(places, 0) | {case.case_id: 1 for case in general}
    questions: dict[str, Any] = {
        "hospitals": (places, ([], [])),
        "general": (clinical, (general[:half], general[half:])),
    }
    wanted = [(q, s, seed) for seed in range(args.seeds) for q in questions for s in STRENGTHS]
    kept = json.loads(args.kept.read_text()) if args.kept and args.kept.exists() else {}
    found = {}
    for question, strength, seed in tqdm(wanted, "networks", disable=None):
        name = f"{question} {strength} {seed}"
        if name not in kept:
            config = replace(TrainConfig(), seed=seed, domain_weight=strength)
            kept[name] = run(cases, unseen, scheme, *questions[question], config)
            if args.kept:
                args.kept.write_text(json.dumps(kept))
        found[question, strength, seed] = kept[name]
    print(f"{len(cases)} synthetic cases to train on, {len(unseen)} others to test on; "
          f"{args.seeds} seeds, 95 % intervals over them.\n")  # fmt: skip
    print("\n".join(table(found, args.seeds)))
    print(f"\ntorch {version('torch')}, scikit-learn {version('scikit-learn')}, "
          f"{platform.machine()}.")  # fmt: skip


if __name__ == "__main__":
    main()
