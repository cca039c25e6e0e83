"""How good the diagnoses are, fused and with each modality alone, on the same cases."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from clinical.diagnoses import Scheme
from fusion.calibrate import Calibrator
from fusion.case import MODALITIES, UNKNOWN, Case, Modality, label_arrays
from fusion.network import Network, infer

log = logging.getLogger(__name__)

FEWEST = 5  # positives, and negatives, below which no AUROC is given
RESAMPLES = 1000  # of the bootstrap
BINS = 10  # of the calibration error


@dataclass(frozen=True)
class LabelScore:
    """One diagnosis.

    Attributes:
        key: Of the scheme.
        n: Cases where it is known.
        positives: Those who have it.
        auroc: None where fewer than `FEWEST` have it or have it not.
        low: Lower end of the 95 % bootstrap interval; None likewise.
        high: Upper end.
        brier: Mean squared error of the probability; None where n is 0.
        ece: Expected calibration error over `BINS` equal bins; None likewise.
    """

    key: str
    n: int
    positives: int
    auroc: float | None
    low: float | None
    high: float | None
    brier: float | None
    ece: float | None


@dataclass(frozen=True)
class Evaluation:
    """Scores of one way of looking at cases.

    Attributes:
        name: ``fused``, or ``scan only`` where all else was hidden from the fused network.
        n: Cases.
        labels: Scores of each diagnosis.
        balanced_accuracy: Of the likeliest syndrome; None where none is known.
        coverage: Share of cases whose prediction set holds the true syndrome.
        set_size: Syndromes in a prediction set, on average.
    """

    name: str
    n: int
    labels: tuple[LabelScore, ...]
    balanced_accuracy: float | None
    coverage: float | None
    set_size: float | None

    @property
    def mean_auroc(self) -> float | None:
        """Mean over the diagnoses that have one."""
        known = [score.auroc for score in self.labels if score.auroc is not None]
        return float(np.mean(known)) if known else None


@dataclass(frozen=True)
class Comparison:
    """One modality against all, on the cases that have it."""

    alone: Evaluation
    fused: Evaluation


def evaluate(
    network: Network,
    calibrator: Calibrator,
    cases: Sequence[Case],
    scheme: Scheme,
    *,
    only: Sequence[Modality] = (),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Evaluation:
    """Score a network on cases it has not seen.

    Args:
        network: To be scored.
        calibrator: Its calibration.
        cases: With labels.
        scheme: Names the diagnoses.
        only: Modalities to show, all else hidden; cases without any of them are left out. Empty
            for everything.
        resamples: Of the bootstrap, over cases.
        seed: Of the bootstrap.

    Raises:
        ValueError: No case is left.
    """
    shown = [case for case in cases if not only or set(only) & set(case.tokens)]
    if not shown:
        raise ValueError(f"no case of {len(cases)} has {' or '.join(only) or 'labels'}")
    seen = [case.only(*only) for case in shown] if only else shown
    logits, present = infer(network, seen)
    probability = calibrator.predict_proba(logits, present)
    syndrome, causes = label_arrays(shown)
    n = network.config.n_syndromes
    truth = np.concatenate([_one_hot(syndrome, n), causes], axis=1)
    rng = np.random.default_rng(seed)
    labels = tuple(
        score_label(label.key, truth[:, column], probability[:, column], rng, resamples)
        for column, label in enumerate(scheme.labels)
    )
    known = syndrome != UNKNOWN
    inside = calibrator.predict_set(probability, present)[known]
    return Evaluation(
        f"{' + '.join(only)} only" if only else "fused",
        len(shown),
        labels,
        _balanced(syndrome[known], probability[known, :n]),
        float(inside[np.arange(len(inside)), syndrome[known]].mean()) if known.any() else None,
        float(inside.sum(axis=1).mean()) if known.any() else None,
    )


def compare(
    network: Network,
    calibrator: Calibrator,
    cases: Sequence[Case],
    scheme: Scheme,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Comparison, ...]:
    """Each modality alone against all of them, on the cases that have it.

    "Alone" hides the other modalities from the one fused network, which training prepared for
    that; it is not a network trained on that modality only.
    """
    comparisons = []
    for modality in MODALITIES:
        having = [case for case in cases if modality in case.tokens]
        if having:
            pair = [
                evaluate(
                    network, calibrator, having, scheme, only=only, resamples=resamples, seed=seed
                )
                for only in ((modality,), ())
            ]
            comparisons.append(Comparison(*pair))
    return tuple(comparisons)


def score_label(
    key: str,
    truth: Float[np.ndarray, " case"],
    probability: Float[np.ndarray, " case"],
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> LabelScore:
    """Score one diagnosis; cases whose truth is `UNKNOWN` are left out."""
    known = truth != UNKNOWN
    truth, probability = truth[known] == 1, probability[known]
    n, positives = len(truth), int(truth.sum())
    if n == 0:
        return LabelScore(key, 0, 0, None, None, None, None, None)
    brier = float(np.mean((probability - truth) ** 2))
    ece = calibration_error(truth, probability)
    if min(positives, n - positives) < FEWEST:
        return LabelScore(key, n, positives, None, None, None, brier, ece)
    auroc = float(roc_auc_score(truth, probability))
    low, high = _interval(truth, probability, rng, resamples)
    return LabelScore(key, n, positives, auroc, low, high, brier, ece)


def calibration_error(truth: np.ndarray, probability: np.ndarray) -> float:
    """Expected calibration error: |stated - observed| over equal bins, weighted by their cases.

    Example:
        >>> calibration_error(np.array([True, False]), np.array([0.9, 0.9]))
        0.4
    """
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = [
        abs(truth[bins == b].mean() - probability[bins == b].mean()) * np.mean(bins == b)
        for b in np.unique(bins)
    ]
    return round(float(np.sum(gaps)), 12)


def _interval(
    truth: np.ndarray, probability: np.ndarray, rng: np.random.Generator, resamples: int
) -> tuple[float, float]:
    """95 % percentile bootstrap of the AUROC over cases; draws with one class are drawn again."""
    found: list[float] = []
    while len(found) < resamples:
        rows = rng.integers(len(truth), size=len(truth))
        if 0 < truth[rows].sum() < len(rows):
            found.append(_auroc(truth[rows], probability[rows]))
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def _auroc(truth: np.ndarray, probability: np.ndarray) -> float:
    """Mann-Whitney form of the AUROC, much faster than scikit-learn's for many resamples."""
    order = np.sort(probability)
    ranks = (
        np.searchsorted(order, probability, "left")
        + np.searchsorted(order, probability, "right")
        + 1
    ) / 2
    positives = int(truth.sum())
    below = ranks[truth].sum() - positives * (positives + 1) / 2
    return float(below / (positives * (len(truth) - positives)))


def _one_hot(syndrome: np.ndarray, n: int) -> np.ndarray:
    """A column a syndrome; `UNKNOWN` throughout where nobody knows it."""
    columns: np.ndarray = np.equal(syndrome[:, None], np.arange(n)).astype(np.float64)
    columns[syndrome == UNKNOWN] = UNKNOWN
    return columns


def _balanced(syndrome: np.ndarray, probability: np.ndarray) -> float | None:
    """Balanced accuracy of the likeliest syndrome."""
    if len(syndrome) == 0:
        return None
    return float(balanced_accuracy_score(syndrome, probability.argmax(axis=1)))


def markdown(evaluation: Evaluation) -> str:
    """A table of one evaluation, a row a diagnosis."""
    summary = (
        f"{evaluation.name}, {evaluation.n} cases, balanced accuracy of the syndrome "
        f"{_number(evaluation.balanced_accuracy)}, prediction sets hold it in "
        f"{_number(evaluation.coverage)} with {_number(evaluation.set_size)} syndromes each"
    )
    lines = [
        summary,
        "",
        "| diagnosis | cases | with it | AUROC (95 % CI) | Brier | ECE |",
        "|---|--:|--:|---|--:|--:|",
    ]
    for score in evaluation.labels:
        span = "too few" if score.auroc is None else _number(score.auroc)
        if score.low is not None:
            span += f" ({_number(score.low)}-{_number(score.high)})"
        numbers = f"{score.n} | {score.positives} | {span}"
        lines.append(f"| {score.key} | {numbers} | {_number(score.brier)} | {_number(score.ece)} |")
    return "\n".join(lines)


def comparison_markdown(comparisons: Sequence[Comparison]) -> str:
    """A table of each modality alone against all, a row a modality."""
    lines = [
        "| shown | cases | mean AUROC | fused, on these | balanced accuracy | fused, on these |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for pair in comparisons:
        numbers = [
            _number(value)
            for value in (
                pair.alone.mean_auroc,
                pair.fused.mean_auroc,
                pair.alone.balanced_accuracy,
                pair.fused.balanced_accuracy,
            )
        ]
        lines.append(f"| {pair.alone.name} | {pair.alone.n} | {' | '.join(numbers)} |")
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
