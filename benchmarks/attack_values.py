"""What one update tells of the patients behind it: values, which tests were made, sentences.

The attacker knows the network before the step, the code, what patients are like on average (from
others than those attacked), how strong noise is and, as is usual in the literature, the
diagnoses in the batch; of a single patient the gradient of the bias tells them.

* Values and which were measured: `fusion.model.Alone` has for each analyte and region one weight
  for presence and one for the number, so that their gradients are sums over patients of the same
  13 errors; a ridge regression takes the sums apart. For one patient it is a division.
* Sentences: the gradient of a linear layer is spanned by its inputs, so that a candidate sentence
  was among them if it lies in that span.

The general way is in `benchmarks.attack_matching`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from sklearn.metrics import roc_auc_score
from torch.nn.functional import layer_norm

from clinical.units import ANALYTES
from federated import task
from fusion.case import UNKNOWN, Case, collate, label_arrays
from fusion.model import ALONE_GAIN, DiagnosticModel
from fusion.train import loss_of
from imaging.encoder import POOLED
from imaging.regions import REGIONS

LABS = len(ANALYTES)
NUMBERS = LABS + len(REGIONS)
SYNDROMES = 3  # of the standard scheme
STATED_SD = 0.2  # of what a network before training states, around even
SLIP = 0.015  # of what it states of one patient, around what it states of all
LIMIT = 8.0  # of a z value
FAINT = 0.08  # weight below which a value counts as not measured
CANDIDATES = 4000  # sentences that were not in the notes
FOILS = 100  # of them, that are not said of these patients in other words, for a share to be told

Gradient = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Known:
    """What patients are like, from others than those attacked.

    Attributes:
        weight: Mean of presence times quality, of each analyte and region.
        product: Mean of that times the value.
        spread: Standard deviations of both.
        value: Mean value where measured: the guess that an attack must beat.
        sentences: Of other patients.
    """

    weight: Float[np.ndarray, " number"]
    product: Float[np.ndarray, " number"]
    spread: Float[np.ndarray, "2 number"]
    value: Float[np.ndarray, " number"]
    sentences: Float[np.ndarray, "sentence text"]


@dataclass(frozen=True)
class Score:
    """How much an attack found.

    Attributes:
        labs: Root mean squared error of laboratory values over that of guessing the mean.
        labs_r: Correlation of what differs from the mean.
        regions: As `labs`, of regional volumes.
        regions_r: As `labs_r`.
        measured: AUROC of which analytes a patient has.
        guessed: The same, from how common an analyte is.
        sentences: Share of the sentences found, at 1 % of others found wrongly.
    """

    labs: float
    labs_r: float
    regions: float
    regions_r: float
    measured: float
    guessed: float
    sentences: float


def numbers_of(
    cases: Sequence[Case],
) -> tuple[Float[np.ndarray, "case number"], Float[np.ndarray, "case number"]]:
    """Presence times quality, and value, of each analyte and region."""
    weight, value = np.zeros((len(cases), NUMBERS)), np.zeros((len(cases), NUMBERS))
    for row, case in enumerate(cases):
        if labs := case.tokens.get("labs"):
            weight[row, labs.kinds], value[row, labs.kinds] = labs.quality, labs.features[:, -1, 0]
        if scan := case.tokens.get("scan"):
            weight[row, LABS + scan.kinds] = scan.quality
            value[row, LABS + scan.kinds] = scan.features[:, POOLED + 1]
    return weight, value


def known_from(cases: Sequence[Case], seed: int) -> Known:
    """What an attacker knows of patients in general."""
    weight, value = numbers_of(cases)
    product, count = weight * value, (weight > 0).sum(axis=0)
    mean = np.where(count > 0, ((weight > 0) * value).sum(axis=0) / np.maximum(count, 1), 0.0)
    told = np.concatenate([c.tokens["notes"].features for c in cases if "notes" in c.tokens])
    chosen = np.random.default_rng(seed).permutation(len(told))[:CANDIDATES]
    spread = np.stack([weight.std(axis=0), product.std(axis=0)]) + 1e-3
    usual = weight.mean(axis=0)
    return Known(usual, usual * mean, spread, mean, told[chosen])


def gradient(network: DiagnosticModel, cases: Sequence[Case]) -> Gradient:
    """The gradient of one step, dropout off."""
    network.eval().zero_grad()
    loss_of(network, collate(cases)).backward()
    return {
        name: np.zeros(p.shape, np.float32) if p.grad is None else p.grad.numpy().copy()
        for name, p in task.travelling(network).items()
    }


def packed(found: Gradient) -> np.ndarray:
    """A gradient as one array."""
    return np.concatenate([part.ravel() for part in found.values()])


def unpacked(flat: np.ndarray, like: Gradient) -> Gradient:
    """One array as a gradient."""
    ends = np.cumsum([part.size for part in like.values()])[:-1]
    parts = zip(like.items(), np.split(flat, ends), strict=True)
    return {name: piece.reshape(part.shape) for (name, part), piece in parts}


def truth_of(cases: Sequence[Case]) -> Float[np.ndarray, "case diagnosis"]:
    """Known diagnoses, one-hot."""
    syndrome, causes = label_arrays(cases)
    assert UNKNOWN not in syndrome
    columns = syndrome[:, None] == np.arange(SYNDROMES)
    return np.concatenate([columns, causes == 1], axis=1, dtype=np.float64)


def taken_apart(
    found: Gradient,
    truth: Float[np.ndarray, "case diagnosis"],
    known: Known,
    noise: float,
    length: float | None,
    slip: float,
) -> tuple[Float[np.ndarray, "case number"], Float[np.ndarray, "case number"]]:
    """Weight and value of each analyte and region of each patient of a batch.

    Args:
        found: The exchanged gradient, whatever its length.
        truth: The diagnoses.
        known: Of patients in general.
        noise: Standard deviation of what was added to each number.
        length: Of this gradient, where that before clipping is 1; None to be found out.
        slip: How far what the network states of one patient is from what it states of all.
    """
    n, diagnoses = truth.shape
    rows = np.concatenate([found["alone.labs.weight"], found["alone.scan.weight"]]) / ALONE_GAIN
    errors, length = _errors(found["bias"], truth, noise, length)
    told = np.stack([rows[:, :diagnoses], 2 * rows[:, diagnoses:]]) / length
    mean = np.stack([known.weight, known.product])
    spread = known.spread[..., None, None] ** 2
    blur = (noise / ALONE_GAIN / length) ** 2 * np.array([1.0, 4.0])[:, None, None, None] + 1e-12
    loose = slip**2 / n * (mean**2 + known.spread**2) * (n > 1)
    seen = spread * (errors.T @ errors) + (blur + loose[..., None, None]) * np.eye(diagnoses)
    rest = told - mean[..., None] * errors.sum(axis=0)
    gains = known.spread[..., None, None] ** 2 * np.linalg.solve(seen, errors.T)
    both = mean[..., None] + np.einsum("hkdi,hkd->hki", gains, rest)
    weight, product = both[0].T, both[1].T
    sure = np.einsum("kdi,id->ik", gains[1], errors)  # share of the spread that is explained
    moved = (product - known.value * weight) / np.maximum(weight, FAINT)
    value = np.where(weight > FAINT, known.value + sure * moved, known.value)
    return weight.reshape(n, -1), np.clip(value, -LIMIT, LIMIT)


def _errors(
    bias: Float[np.ndarray, " diagnosis"],
    truth: Float[np.ndarray, "case diagnosis"],
    noise: float,
    length: float | None,
) -> tuple[Float[np.ndarray, "case diagnosis"], float]:
    """Stated minus true probability of each patient, and the length of the gradient.

    A network before training states about the same of everybody, and the bias' gradient tells
    what, unless there is noise on it.
    """
    if len(truth) == 1 and noise == 0:
        return bias[None].astype(np.float64), 1.0
    common = truth.mean(axis=0)
    stated = np.full(truth.shape[1], 0.5)
    stated[:SYNDROMES] = 1 / SYNDROMES
    if length is None:
        fitting = float(bias @ (stated - common) / ((stated - common) @ (stated - common)))
        length = max(fitting, 1e-6)
    told = np.clip(bias / length + common, 0.01, 0.99)
    trust = STATED_SD**2 / (STATED_SD**2 + (noise / length) ** 2)
    stated = trust * told + (1 - trust) * stated
    return (stated - truth) / len(truth), length


def spanned(
    found: Gradient, sentences: Float[np.ndarray, "sentence text"], noise: float, rank: int
) -> Float[np.ndarray, " sentence"]:
    """How much of each sentence lies in the span of what the layer of the notes was given.

    Args:
        found: The exchanged gradient.
        sentences: Candidates.
        noise: Standard deviation of what was added to each number.
        rank: Most directions to look at.
    """
    matrix = found["encoders.notes.project.weight"].astype(np.float64)
    _, sizes, rows = np.linalg.svd(matrix, full_matrices=False)
    floor = noise * (matrix.shape[0] ** 0.5 + matrix.shape[1] ** 0.5)  # of noise alone
    kept = rows[(sizes > max(floor, 1e-5 * sizes[0]))][:rank]
    wanted = layer_norm(torch.from_numpy(sentences), sentences.shape[1:]).numpy()
    inside = np.linalg.norm(wanted @ kept.T, axis=1) if len(kept) else np.zeros(len(wanted))
    return np.asarray(inside / np.linalg.norm(wanted, axis=1))


def score(
    found: Gradient,
    cases: Sequence[Case],
    known: Known,
    *,
    noise: float = 0.0,
    length: float | None = None,
    rank: int = 1000,
    slip: float = SLIP,
) -> Score:
    """Attack a gradient in every way that needs no search."""
    weight, value = taken_apart(found, truth_of(cases), known, noise, length, slip)
    inside = _sentences(found, cases, known, noise, rank)
    return scored(weight, value, cases, known, inside)


def scored(
    weight: Float[np.ndarray, "case number"],
    value: Float[np.ndarray, "case number"],
    cases: Sequence[Case],
    known: Known,
    sentences: float,
) -> Score:
    """Compare what was found with the truth."""
    real, true = numbers_of(cases)
    here = real > 0
    labs = _errors_of(value, true, here, known, slice(0, LABS))
    regions = _errors_of(value, true, here, known, slice(LABS, NUMBERS))
    which, common = here[:, :LABS].ravel(), np.tile(known.weight[:LABS], len(cases))
    return Score(
        *labs, *regions,
        float(roc_auc_score(which, weight[:, :LABS].ravel())),
        float(roc_auc_score(which, common)), sentences,
    )  # fmt: skip


def _errors_of(
    value: np.ndarray, true: np.ndarray, here: np.ndarray, known: Known, part: slice
) -> tuple[float, float]:
    """Error ratio and correlation over what was measured; NaN where nothing was."""
    shown = here[:, part]
    if not shown.any():
        return float("nan"), float("nan")
    guess = np.broadcast_to(known.value, true.shape)[:, part][shown]
    said, real = value[:, part][shown], true[:, part][shown]
    ratio = np.sqrt(np.mean((said - real) ** 2) / np.mean((guess - real) ** 2))
    moved = said - guess
    r = np.corrcoef(moved, real - guess)[0, 1] if moved.std() > 1e-9 else 0.0
    return float(ratio), float(r)


def _sentences(
    found: Gradient, cases: Sequence[Case], known: Known, noise: float, rank: int
) -> float:
    """Share of a batch's sentences that are found where 1 % of others are."""
    mine = np.concatenate([c.tokens["notes"].features for c in cases if "notes" in c.tokens])
    unit = mine / np.linalg.norm(mine, axis=1, keepdims=True)
    others = known.sentences / np.linalg.norm(known.sentences, axis=1, keepdims=True)
    foreign = known.sentences[(others @ unit.T).max(axis=1) < 0.99]  # the same words are no foil
    if len(foreign) < FOILS:
        return float("nan")
    limit = np.quantile(spanned(found, foreign, noise, rank), 0.99)
    return float((spanned(found, mine, noise, rank) > limit).mean())
