"""How well a model does on one hospital's own cases: calibration, thresholds, subgroups.

What `fusion.evaluate` does not say, because a hospital needs it before it switches anything on.
Where there are too few cases nothing is said, and the report says that.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import binomtest, rankdata
from sklearn.model_selection import GroupKFold

from clinical.diagnoses import Scheme
from fusion.calibrate import SHARED, Calibrator, pattern_of
from fusion.case import UNKNOWN, Case, label_arrays
from fusion.evaluate import BINS, FEWEST
from fusion.network import Network, infer

SPECIFICITY = 0.9
NEGATIVES = 20  # without a diagnosis, for a threshold to have that specificity
SMALLEST = 10  # cases of a subgroup, or of a bin, that is shown
FITTED = 30  # cases, for temperatures of the site's own
FOLDS = 5
RESAMPLES = 300
AGES = (65.0, 75.0, 85.0)


@dataclass(frozen=True)
class Answers:
    """What a model says of a site's cases whose diagnoses are known.

    Attributes:
        logits: Of the network.
        probability: Calibrated as the model is.
        truth: 1, 0 or `UNKNOWN`.
        present: Modalities.
        patients: Whose case it is.
        n_syndromes: Of the first columns, which exclude each other.
    """

    logits: Float[np.ndarray, "case diagnosis"]
    probability: Float[np.ndarray, "case diagnosis"]
    truth: Float[np.ndarray, "case diagnosis"]
    present: Bool[np.ndarray, "case modality"]
    patients: tuple[str, ...]
    n_syndromes: int


@dataclass(frozen=True)
class Threshold:
    """From which probability on a diagnosis is called, at this site.

    Attributes:
        key: Of the diagnosis.
        threshold: Call it above this.
        specificity: Share of those without it that are not called.
        sensitivity: Share of those with it that are called.
        low: Of its 95 % interval (Wilson).
        high: Of its interval.
    """

    key: str
    threshold: float
    specificity: float
    sensitivity: float
    low: float
    high: float


@dataclass(frozen=True)
class Bin:
    """Probabilities of all diagnoses together: what was said, and what was true."""

    start: float
    end: float
    n: int
    stated: float
    observed: float


@dataclass(frozen=True)
class Prevalence:
    """How many have a diagnosis, and how many the model expects."""

    key: str
    n: int
    observed: int
    expected: float


@dataclass(frozen=True)
class Subgroup:
    """Some of the cases.

    Attributes:
        kind: ``sex``, ``age`` or ``evidence``.
        name: Which.
        n: Cases.
        labels: Diagnoses whose AUROC is in the mean.
        auroc: Mean over these; None where there is none.
        low: Of its 95 % bootstrap interval.
        high: Of its interval.
        everybody: Mean AUROC of the same diagnoses over all cases.
        balanced_accuracy: Of the likeliest syndrome.
    """

    kind: str
    name: str
    n: int
    labels: int
    auroc: float | None
    low: float | None
    high: float | None
    everybody: float | None
    balanced_accuracy: float | None


@dataclass(frozen=True)
class Suggestion:
    """Temperatures fitted to the site's own cases, beside those of the model.

    Attributes:
        keys: ``syndrome``, then the causes.
        own: The model's, a mean over the site's cases.
        fitted: The site's.
        loss: Log loss of a case with the model's.
        fitted_loss: With the site's, by folds over patients, so that nobody tests on himself.
        gain_low: Lower end of the 95 % interval of what is gained.
        gain_high: Upper end.
    """

    keys: tuple[str, ...]
    own: tuple[float, ...]
    fitted: tuple[float, ...]
    loss: float
    fitted_loss: float
    gain_low: float
    gain_high: float

    @property
    def is_better(self) -> bool:
        """Whether the site's are better beyond chance."""
        return self.gain_low > 0


def answers_of(network: Network, calibrator: Calibrator, cases: Sequence[Case]) -> Answers:
    """Ask a model about cases with labels."""
    logits, present = infer(network, cases)
    syndrome, causes = label_arrays(cases)
    n = network.config.n_syndromes
    columns = np.where(syndrome[:, None] == UNKNOWN, UNKNOWN, syndrome[:, None] == np.arange(n))
    return Answers(
        logits,
        calibrator.predict_proba(logits, present),
        np.concatenate([columns, causes], axis=1, dtype=np.float64),
        present,
        tuple(case.patient_key for case in cases),
        n,
    )


def thresholds(answers: Answers, scheme: Scheme) -> tuple[Threshold, ...]:
    """Of each diagnosis that enough cases have and have not."""
    found = []
    for column, label in enumerate(scheme.labels):
        truth, stated = answers.truth[:, column], answers.probability[:, column]
        positive, negative = stated[truth == 1], np.sort(stated[truth == 0])
        if len(positive) < FEWEST or len(negative) < NEGATIVES:
            continue
        threshold = float(negative[int(np.ceil(SPECIFICITY * len(negative))) - 1])
        called = int((positive > threshold).sum())
        sure = binomtest(called, len(positive)).proportion_ci(method="wilson")
        found.append(
            Threshold(
                label.key, threshold, float((negative <= threshold).mean()),
                called / len(positive), float(sure.low), float(sure.high),
            )
        )  # fmt: skip
    return tuple(found)


def reliability(answers: Answers) -> tuple[Bin, ...]:
    """Bins of what was said of all diagnoses, but for small ones."""
    known = answers.truth != UNKNOWN
    stated, true = answers.probability[known], answers.truth[known] == 1
    rows = np.minimum((stated * BINS).astype(int), BINS - 1)
    return tuple(
        Bin(b / BINS, (b + 1) / BINS, int(here.sum()), float(stated[here].mean()),
            float(true[here].mean()))
        for b in range(BINS)
        for here in (rows == b,)
        if here.sum() >= SMALLEST
    )  # fmt: skip


def prevalence(answers: Answers, scheme: Scheme) -> tuple[Prevalence, ...]:
    """How many have each diagnosis, and how many were expected."""
    found = []
    for column, label in enumerate(scheme.labels):
        known = answers.truth[:, column] != UNKNOWN
        true, stated = answers.truth[known, column] == 1, answers.probability[known, column]
        found.append(Prevalence(label.key, int(known.sum()), int(true.sum()), float(stated.sum())))
    return tuple(found)


def subgroups(
    answers: Answers, sexes: Sequence[str], ages: Sequence[float | None], *, seed: int = 0
) -> tuple[tuple[Subgroup, ...], int]:
    """By sex, age and evidence, and how many groups are too small to be shown.

    Args:
        answers: What the model says.
        sexes: Of each case.
        ages: In years; None where unknown.
        seed: Of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    kinds: Mapping[str, Sequence[str]] = {
        "sex": sexes,
        "age": [age_band(age) for age in ages],
        "evidence": [pattern_of(row) for row in answers.present],
    }
    found, hidden = [], 0
    for kind, names in kinds.items():
        for name in sorted(set(names)):
            rows = np.array([other == name for other in names])
            if rows.sum() < SMALLEST:
                hidden += 1
            elif not rows.all():  # else it is everybody
                found.append(_subgroup(kind, name, answers, rows, rng))
    return tuple(found), hidden


def age_band(age_years: float | None) -> str:
    """Which of the bands of `AGES` an age is in.

    Example:
        >>> [age_band(age) for age in (64.9, 75.0, 90.0, None)]
        ['under 65', '75 to 84', '85 and over', 'unknown']
    """
    if age_years is None:
        return "unknown"
    band = int(np.searchsorted(AGES, age_years, side="right"))
    if band == 0:
        return f"under {AGES[0]:.0f}"
    if band == len(AGES):
        return f"{AGES[-1]:.0f} and over"
    return f"{AGES[band - 1]:.0f} to {AGES[band] - 1:.0f}"


def _subgroup(
    kind: str,
    name: str,
    answers: Answers,
    rows: Bool[np.ndarray, " case"],
    rng: np.random.Generator,
) -> Subgroup:
    """Scores of one group."""
    truth, stated = answers.truth[rows], answers.probability[rows]
    columns = [c for c in range(truth.shape[1]) if _enough(truth[:, c])]
    mean, everybody, low, high = None, None, None, None
    if columns:
        mean = mean_auroc(truth[:, columns], stated[:, columns])
        everybody = mean_auroc(answers.truth[:, columns], answers.probability[:, columns])
        drawn = [
            mean_auroc(truth[again][:, columns], stated[again][:, columns])
            for again in rng.integers(len(truth), size=(RESAMPLES, len(truth)))
        ]
        low, high = (float(x) for x in np.nanpercentile(drawn, [2.5, 97.5]))
    syndromes = truth[:, : answers.n_syndromes]
    known = (syndromes != UNKNOWN).all(axis=1) & (syndromes == 1).any(axis=1)
    accuracy = _balanced(syndromes[known], stated[known, : answers.n_syndromes])
    n = int(rows.sum())
    return Subgroup(kind, name, n, len(columns), mean, low, high, everybody, accuracy)


def _balanced(
    truth: Float[np.ndarray, "case syndrome"], stated: Float[np.ndarray, "case syndrome"]
) -> float | None:
    """Share of each syndrome's cases in which it is the likeliest, on average."""
    if not truth.size:
        return None
    true, said = truth.argmax(axis=1), stated.argmax(axis=1)
    return float(np.mean([(said[true == which] == which).mean() for which in np.unique(true)]))


def _enough(truth: Float[np.ndarray, " case"]) -> bool:
    """Whether an AUROC can be told."""
    return min(int((truth == 1).sum()), int((truth == 0).sum())) >= FEWEST


def mean_auroc(
    truth: Float[np.ndarray, "case diagnosis"], stated: Float[np.ndarray, "case diagnosis"]
) -> float:
    """Mean over diagnoses that somebody has and somebody has not; NaN where there is none."""
    found = []
    for true, said in zip(truth.T, stated.T, strict=True):
        known = true != UNKNOWN
        positive = true[known] == 1
        n = int(positive.sum())
        if 0 < n < len(positive):
            above = rankdata(said[known])[positive].sum() - n * (n + 1) / 2
            found.append(above / (n * (len(positive) - n)))
    return float(np.mean(found)) if found else float("nan")


def suggestion(answers: Answers, calibrator: Calibrator, scheme: Scheme) -> Suggestion | None:
    """Temperatures of the site's own; None where too few cases have a known syndrome."""
    syndrome = _syndrome(answers)
    patients = len(set(answers.patients))
    if (syndrome != UNKNOWN).sum() < FITTED or patients < FOLDS:
        return None
    everybody = np.arange(len(syndrome))
    fitted = _fit(answers, everybody).temperatures_[SHARED]
    own = [
        calibrator.temperatures_.get(pattern_of(row), calibrator.temperatures_[SHARED])
        for row in answers.present
    ]
    before = _losses(answers, everybody, calibrator)
    after = np.empty_like(before)
    for train, test in GroupKFold(FOLDS).split(everybody, groups=answers.patients):
        after[test] = _losses(answers, test, _fit(answers, train))
    gain = before - after
    half = 1.96 * float(np.std(gain, ddof=1)) / len(gain) ** 0.5
    return Suggestion(
        ("syndrome", *(label.key for label in scheme.causes)),
        tuple(float(x) for x in np.mean([[t.syndrome, *t.causes] for t in own], axis=0)),
        (fitted.syndrome, *fitted.causes),
        float(before.mean()), float(after.mean()),
        float(gain.mean()) - half, float(gain.mean()) + half,
    )  # fmt: skip


def _fit(answers: Answers, rows: Int[np.ndarray, " row"]) -> Calibrator:
    """One set of temperatures for some cases."""
    return Calibrator(answers.n_syndromes, min_cases=len(answers.patients) + 1).fit(
        answers.logits[rows],
        answers.present[rows],
        _syndrome(answers)[rows],
        answers.truth[rows, answers.n_syndromes :],
    )


def _losses(
    answers: Answers, rows: Int[np.ndarray, " row"], calibrator: Calibrator
) -> Float[np.ndarray, " row"]:
    """Log loss of each case: of its syndrome and of its causes, where known."""
    stated = calibrator.predict_proba(answers.logits[rows], answers.present[rows])
    stated = np.clip(stated, 1e-6, 1 - 1e-6)
    truth, n = answers.truth[rows], answers.n_syndromes
    chance = np.where(truth == 1, stated, 1 - stated)
    chance[:, :n] = np.where(truth[:, :n] == 1, stated[:, :n], 1.0)
    return np.asarray(-np.where(truth == UNKNOWN, 0.0, np.log(chance)).sum(axis=1))


def _syndrome(answers: Answers) -> Int[np.ndarray, " case"]:
    """Column of the true syndrome, `UNKNOWN` where nobody knows it."""
    columns = answers.truth[:, : answers.n_syndromes]
    known = (columns == 1).any(axis=1)
    return np.where(known, columns.argmax(axis=1) if columns.size else UNKNOWN, UNKNOWN)
