"""Which evidence a diagnosis rests on, found by taking each token away.

The effect of a token is the fall of a diagnosis's probability when that token alone is deleted.
The tokens are encoded once; every deletion is a row of `present`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float64

from fusion.calibrate import Calibrator
from fusion.case import MODALITIES, Case, Modality, Pointer, collate
from fusion.network import Encoded, Network

ROWS = 64  # deletions at a time
CELLS = ROWS * 1024  # rows times tokens at a time: of long notes fewer rows


@dataclass(frozen=True)
class Evidence:
    """One token and what it does to one diagnosis.

    Attributes:
        modality: Where it comes from.
        index: Its position among the case's tokens of that modality.
        pointer: Its source.
        share: Of the diagnosis's attention, 0..1.
        effect: Probability with it minus probability without it; positive speaks for the diagnosis.
    """

    modality: Modality
    index: int
    pointer: Pointer
    share: float
    effect: float


@dataclass(frozen=True)
class Explanation:
    """Why one case was diagnosed as it was.

    Attributes:
        probability: Calibrated, of each diagnosis of the scheme.
        shares: Attention by modality, 0 where absent; sums to 1.
        evidence: For each diagnosis all tokens, the strongest effect either way first.
        prediction_set: Positions of the syndromes in the conformal set.
    """

    probability: tuple[float, ...]
    shares: dict[Modality, float]
    evidence: tuple[tuple[Evidence, ...], ...]
    prediction_set: tuple[int, ...]


def explain(network: Network, calibrator: Calibrator, case: Case) -> Explanation:
    """Diagnose one case and rank its evidence for every diagnosis.

    The temperatures are those of what the case has throughout, so that an effect is the
    evidence's and never that of another calibration.

    Args:
        network: To be asked.
        calibrator: Its calibration.
        case: Any subset of modalities.
    """
    batch = collate([case])
    encoded = network.encode(batch)
    whole = network.fuse(encoded, encoded.present, need_weights=True)
    assert whole.attention is not None
    assert whole.shares is not None
    columns = _columns(case, encoded)
    seen = deleted(encoded.present[0], [[column] for column in columns.values()])
    rows = np.concatenate([encoded.present, seen])
    probability = _probabilities(network, calibrator, encoded, rows)
    effects = probability[:1] - probability[1:]
    attention = whole.attention[0][:, list(columns.values())]
    modalities = dict(zip(MODALITIES, whole.shares[0].tolist(), strict=True))
    evidence = tuple(
        _ranked(case, list(columns), attention[label], effects[:, label])
        for label in range(effects.shape[1])
    )
    inside = calibrator.predict_set(probability[:1], batch.present)[0]
    chosen = tuple(int(n) for n in inside.nonzero()[0])
    return Explanation(tuple(map(float, probability[0])), modalities, evidence, chosen)


def deleted(
    present: Bool[np.ndarray, " token"], removed: Sequence[list[int]]
) -> Bool[np.ndarray, "row token"]:
    """One row a deletion: what is left when these tokens are gone."""
    rows = np.tile(present, (len(removed), 1))
    for row, tokens in enumerate(removed):
        rows[row, tokens] = False
    return rows


def deletion_check(
    network: Network,
    calibrator: Calibrator,
    cases: Sequence[Case],
    label: int,
    *,
    k: int = 3,
    draws: int = 20,
    seed: int = 0,
) -> tuple[float, float]:
    """Is the ranking true? How far a probability falls without its top evidence, and at random.

    Args:
        network: To be asked.
        calibrator: Its calibration.
        cases: To average over.
        label: Position of the diagnosis.
        k: Tokens to delete together.
        draws: Random deletions of as many tokens, for each case.
        seed: Of those draws.

    Returns:
        Mean fall for the top k tokens, and for k tokens drawn at random.
    """
    rng = np.random.default_rng(seed)
    falls = []
    for case in cases:
        encoded = network.encode(collate([case]))
        columns = _columns(case, encoded)
        top = explain(network, calibrator, case).evidence[label]
        best = sorted(top, key=lambda e: -e.effect)[:k]
        by_chance = [rng.permutation([*columns.values()])[: len(best)] for _ in range(draws)]
        removed = [[columns[e.modality, e.index] for e in best], *(d.tolist() for d in by_chance)]
        rows = np.concatenate([encoded.present, deleted(encoded.present[0], removed)])
        probability = _probabilities(network, calibrator, encoded, rows)[:, label]
        falls.append((probability[0] - probability[1], probability[0] - probability[2:].mean()))
    top_fall, random_fall = np.mean(falls, axis=0)
    return float(top_fall), float(random_fall)


def _columns(case: Case, encoded: Encoded) -> dict[tuple[Modality, int], int]:
    """Where each token of a case stands along the axis ``token``."""
    names = [
        (m, n) for m in MODALITIES if m in case.tokens for n in range(len(case.tokens[m].kinds))
    ]
    return dict(zip(names, np.flatnonzero(encoded.present[0]).tolist(), strict=True))


def _ranked(
    case: Case,
    names: Sequence[tuple[Modality, int]],
    attention: Float[np.ndarray, " token"],
    effects: Float[np.ndarray, " token"],
) -> tuple[Evidence, ...]:
    """Tokens of a case, the strongest effect on one diagnosis first."""
    found = [
        Evidence(modality, n, case.tokens[modality].pointers[n], float(share), float(effect))
        for (modality, n), share, effect in zip(names, attention, effects, strict=True)
    ]
    return tuple(sorted(found, key=lambda e: -abs(e.effect)))


def _probabilities(
    network: Network,
    calibrator: Calibrator,
    encoded: Encoded,
    rows: Bool[np.ndarray, "row token"],
) -> Float64[np.ndarray, "row diagnosis"]:
    """Probabilities of one case seen under each row, calibrated as its first row is."""
    n = max(1, min(ROWS, CELLS // rows.shape[1]))
    parts = [rows[start : start + n] for start in range(0, len(rows), n)]
    logits = np.concatenate([network.fuse(encoded, part).logits for part in parts])
    here = [(rows[0] & (encoded.modality == n)).any() for n in range(len(MODALITIES))]
    return calibrator.predict_proba(logits, np.tile(here, (len(rows), 1)))
