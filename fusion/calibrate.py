"""From logits to probabilities that mean what they say, and to sets with stated coverage.

Temperature scaling (Guo et al., ICML 2017): one temperature for the syndromes and one for each
cause, for each pattern of available modalities that has enough cases; the rest share one.
Split-conformal sets of syndromes (least ambiguous sets, Sadinle et al., JASA 2019).
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64, Int
from scipy.optimize import minimize_scalar
from scipy.special import expit, log_softmax, softmax

from fusion.case import MODALITIES, UNKNOWN, Case, Modality, label_arrays
from fusion.network import Network, infer

SHARED = "any"  # the pattern of those without enough cases
PRIOR_SD = 0.7  # of ln(temperature) around 0: a few cases cannot move it far
BOUNDS = (-3.0, 3.0)  # of ln(temperature)


@dataclass(frozen=True)
class Temperatures:
    """What divides the logits of one pattern.

    Attributes:
        syndrome: Of all syndromes together.
        causes: Of each cause.
        threshold: A syndrome is in the prediction set where 1 - probability does not exceed it.
        n: Cases it was learned from.
    """

    syndrome: float
    causes: tuple[float, ...]
    threshold: float
    n: int


def pattern_of(present: Sequence[bool] | Bool[np.ndarray, " modality"]) -> str:
    """Name of a pattern of available modalities.

    Example:
        >>> pattern_of([True, False, True, False])
        'scan+labs'
    """
    return "+".join(m for m, here in zip(MODALITIES, present, strict=True) if here)


class Calibrator:
    """Learns temperatures and thresholds, as scikit-learn's estimators learn.

    Args:
        n_syndromes: How many of the first logits exclude each other.
        coverage: Chance that a prediction set holds the true syndrome.
        min_cases: A pattern with fewer shares temperature and threshold with others.
    """

    def __init__(self, n_syndromes: int = 3, coverage: float = 0.9, min_cases: int = 30) -> None:
        if not 0.0 < coverage < 1.0:
            raise ValueError(f"coverage must be between 0 and 1, got {coverage}")
        self.n_syndromes = n_syndromes
        self.coverage = coverage
        self.min_cases = min_cases
        self.temperatures_: dict[str, Temperatures] = {}

    def fit(
        self,
        logits: Float[np.ndarray, "case diagnosis"],
        present: Bool[np.ndarray, "case modality"],
        syndrome: Int[np.ndarray, " case"],
        causes: Float[np.ndarray, "case cause"],
    ) -> "Calibrator":
        """Learn from cases the network was not trained on.

        Args:
            logits: What the network said.
            present: Modalities it saw.
            syndrome: True syndrome, `UNKNOWN` where nobody knows.
            causes: 1, 0 or `UNKNOWN`.
        """
        patterns = np.array([pattern_of(row) for row in present])
        self.temperatures_ = {SHARED: self._fit(logits, syndrome, causes)}
        for pattern in sorted(set(patterns)):
            mine = patterns == pattern
            if mine.sum() >= self.min_cases:
                self.temperatures_[str(pattern)] = self._fit(
                    logits[mine], syndrome[mine], causes[mine]
                )
        return self

    def predict_proba(
        self,
        logits: Float[np.ndarray, "case diagnosis"],
        present: Bool[np.ndarray, "case modality"],
    ) -> Float64[np.ndarray, "case diagnosis"]:
        """Probabilities: those of the syndromes sum to 1, those of causes are independent."""
        learned = [self._learned(row) for row in present]
        by_syndrome = np.array([[t.syndrome] for t in learned])
        by_cause = np.array([t.causes for t in learned])
        n = self.n_syndromes
        probability = np.empty(logits.shape, dtype=np.float64)
        probability[:, :n] = softmax(logits[:, :n] / by_syndrome, axis=1) if n else 0.0
        probability[:, n:] = expit(logits[:, n:] / by_cause)
        return probability

    def predict_set(
        self,
        probability: Float[np.ndarray, "case diagnosis"],
        present: Bool[np.ndarray, "case modality"],
    ) -> Bool[np.ndarray, "case syndrome"]:
        """Which syndromes are in the prediction set; the likeliest always is."""
        threshold = np.array([[self._learned(row).threshold] for row in present])
        syndromes = probability[:, : self.n_syndromes]
        likeliest = syndromes == syndromes.max(axis=1, keepdims=True)
        return np.asarray((1.0 - syndromes <= threshold) | likeliest)

    def to_json(self) -> dict[str, object]:
        """Everything as plain values."""
        return {
            "n_syndromes": self.n_syndromes,
            "coverage": self.coverage,
            "min_cases": self.min_cases,
            "temperatures": {key: asdict(t) for key, t in self.temperatures_.items()},
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, object]) -> "Calibrator":
        """What `to_json` made.

        Raises:
            ValueError: It did not make that.
        """
        settings = dict(raw)
        patterns = settings.pop("temperatures", None)
        if not isinstance(patterns, dict) or SHARED not in patterns:
            raise ValueError(f"the calibration has no temperatures for {SHARED!r}; calibrate again")
        made = cls(**settings)  # type: ignore[arg-type]
        for key, t in patterns.items():
            made.temperatures_[key] = Temperatures(**{**t, "causes": tuple(t["causes"])})
        return made

    def _learned(self, present: Bool[np.ndarray, " modality"]) -> Temperatures:
        """Of a pattern, or of all together."""
        if not self.temperatures_:
            raise ValueError("this Calibrator is not fitted yet; call fit first")
        return self.temperatures_.get(pattern_of(present), self.temperatures_[SHARED])

    def _fit(self, logits: np.ndarray, syndrome: np.ndarray, causes: np.ndarray) -> Temperatures:
        """Temperatures and threshold of one pattern."""
        known = syndrome != UNKNOWN
        groups, truth = logits[known, : self.n_syndromes], syndrome[known]
        temperature = _temperature(
            lambda t: -log_softmax(groups / t, axis=1)[np.arange(len(truth)), truth].sum(),
            len(truth),
        )
        chance = softmax(groups / temperature, axis=1)[np.arange(len(truth)), truth]
        return Temperatures(
            temperature,
            tuple(
                _cause_temperature(logits[:, self.n_syndromes + n], causes[:, n])
                for n in range(causes.shape[1])
            ),
            _threshold(1.0 - chance, self.coverage),
            len(logits),
        )


def _cause_temperature(logits: np.ndarray, truth: np.ndarray) -> float:
    """Temperature of one cause."""
    known = truth != UNKNOWN
    signed = np.where(truth == 1, logits, -logits)[known]
    return _temperature(lambda t: float(np.logaddexp(0.0, -signed / t).sum()), len(signed))


def _temperature(loss: Callable[[float], float], n: int) -> float:
    """The temperature of least loss, drawn towards 1 where there is little to learn from."""
    if n == 0:
        return 1.0
    found = minimize_scalar(
        lambda log_t: loss(math.exp(log_t)) + 0.5 * (log_t / PRIOR_SD) ** 2,
        bounds=BOUNDS,
        method="bounded",
    )
    return float(math.exp(found.x))


def _threshold(scores: np.ndarray, coverage: float) -> float:
    """The conformal quantile of scores; 1 (every syndrome is in the set) where they are too few."""
    rank = math.ceil((len(scores) + 1) * coverage)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else 1.0


def calibrate(
    network: Network,
    cases: Sequence[Case],
    *,
    coverage: float = 0.9,
    min_cases: int = 30,
) -> Calibrator:
    """Calibrate a network for every pattern of modalities.

    Each case speaks for every subset of what it has, the rest being hidden, so a rare pattern
    is learned from all cases that could have shown it.

    Args:
        network: To be calibrated.
        cases: With labels; not those it was trained or selected on.
        coverage: Of the prediction sets; holds where a pattern has a threshold of its own.
        min_cases: For a pattern to be calibrated by itself.
    """
    logits, present, rows = [], [], []
    for pattern in _patterns():
        having = [n for n, case in enumerate(cases) if set(pattern) <= set(case.tokens)]
        if having:
            seen = infer(network, [cases[n].only(*pattern) for n in having])
            logits.append(seen[0])
            present.append(seen[1])
            rows += having
    syndrome, causes = label_arrays(cases)
    return Calibrator(network.config.n_syndromes, coverage, min_cases).fit(
        np.concatenate(logits), np.concatenate(present), syndrome[rows], causes[rows]
    )


def _patterns() -> list[tuple[Modality, ...]]:
    """Every subset of the modalities but none."""
    sizes = range(1, len(MODALITIES) + 1)
    return [p for size in sizes for p in itertools.combinations(MODALITIES, size)]
