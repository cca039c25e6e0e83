"""The sample model on synthetic patients it never saw: AUROC per label, each modality alone, fused.

Also the deletion check: does taking away the top-ranked evidence lower a probability more than
taking away as many tokens at random?
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.__main__ import MORE
from clinical.diagnoses import load_scheme
from fusion.develop import evaluate_folder
from fusion.evaluate import Comparison, comparison_markdown, markdown
from fusion.explain import deletion_check
from fusion.store import Site

ROOT = Path(__file__).parents[1]
SITES = [ROOT / "runs" / "test_sites" / name for name in ("north", "river", "harbour")]


def main() -> None:
    """Print three tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, default=ROOT / "sample_data" / "model")
    parser.add_argument("--sites", type=Path, nargs="+", default=SITES)
    args, _ = parser.parse_known_args()
    scheme = load_scheme()
    cases = [case for folder in args.sites for case in Site.open(folder).training_cases(scheme)]
    developed = evaluate_folder(args.model, cases, unseen=True)
    card = developed.checkpoint.card
    print(f"Trained on {card.n_cases} {card.trained_on}; text encoder {card.text_encoder}.")
    print(f"Tested on {len(cases)} synthetic cases of a second cohort (seed 1).\n")
    print("One modality alone (the others hidden from the same network) and all of them:\n")
    print(comparison_markdown(developed.comparisons))
    best = max(developed.comparisons, key=lambda pair: pair.alone.mean_auroc or 0.0)
    alone, fused = best.alone.mean_auroc or 0.0, best.fused.mean_auroc or 0.0
    verb = "beats" if fused > alone else "does not beat"
    print(
        f"\nFusion {verb} the best single modality ({best.alone.name}): {fused:.3f}, {alone:.3f}."
    )
    falls = _falls(developed, cases)
    print(f"\nDeleting the three top-ranked tokens lowers the probability of a true label by "
          f"{falls[0]:.3f} on average,\ndeleting three at random by {falls[1]:.3f}.")  # fmt: skip
    print(f"\n{MORE}\n")
    print(markdown(developed.evaluation))
    print(
        "\nAUROC (95 % CI) of each diagnosis by each modality alone, on the cases that have it:\n"
    )
    print(by_modality(developed.comparisons))


def by_modality(comparisons: Sequence[Comparison]) -> str:
    """A row a diagnosis, a column a modality alone."""
    columns = [pair.alone for pair in comparisons]
    lines = [
        f"| diagnosis | {' | '.join(e.name for e in columns)} |",
        "|---" + "|---" * len(columns) + "|",
    ]
    for scores in zip(*(evaluation.labels for evaluation in columns), strict=True):
        cells = [
            "too few" if s.auroc is None else f"{s.auroc:.3f} ({s.low:.3f}-{s.high:.3f})"
            for s in scores
        ]
        lines.append(f"| {scores[0].key} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _falls(developed, cases) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """Mean fall of a true dementia's and a true AD's probability: top evidence, random tokens."""
    checkpoint = developed.checkpoint
    keys = [label.key for label in checkpoint.scheme.labels]
    falls = []
    for key in ("DE", "AD"):
        column = keys.index(key)
        true = [
            c
            for c in cases
            if c.labels and _has(c.labels, column, len(checkpoint.scheme.syndromes))
        ]
        falls.append(deletion_check(checkpoint.model, checkpoint.calibrator, true[:40], column))
    top, random = np.mean(falls, axis=0)
    return float(top), float(random)


def _has(labels, column: int, n_syndromes: int) -> bool:  # type: ignore[no-untyped-def]
    """Whether a case is labelled with a column of the scheme."""
    if column < n_syndromes:
        return bool(labels.syndrome == column)
    return bool(labels.causes[column - n_syndromes])


if __name__ == "__main__":
    main()
