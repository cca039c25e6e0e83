"""Which evidence a diagnosis rests on, found by taking each token away.

The effect of a token is the fall of a diagnosis's probability when that token alone is deleted.
The tokens are encoded once; every deletion is a row of `present`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from fusion.calibrate import Calibrator
from fusion.case import MODALITIES, Case, Modality, Pointer, collate
from fusion.model import DiagnosticModel, Encoded

ROWS = 64  # deletions at a time


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


@torch.inference_mode()
def explain(model: DiagnosticModel, calibrator: Calibrator, case: Case) -> Explanation:
    """Diagnose one case and rank its evidence for every diagnosis.

    The temperatures are those of what the case has throughout, so that an effect is the
    evidence's and never that of another calibration.

    Args:
        model: The network; left in evaluation mode.
        calibrator: Its calibration.
        case: Any subset of modalities.
    """
    model.eval()
    batch = collate([case])
    encoded = model.encode(batch)
    whole = model.fuse(encoded, encoded.present, need_weights=True)
    assert whole.attention is not None
    assert whole.shares is not None
    columns = _columns(case, encoded)
    seen = deleted(encoded.present[0], [[column] for column in columns.values()])
    probability = _probabilities(model, calibrator, encoded, torch.cat([encoded.present, seen]))
    effects = probability[:1] - probability[1:]
    attention = whole.attention[0][:, list(columns.values())].numpy()
    modalities = dict(zip(MODALITIES, whole.shares[0].tolist(), strict=True))
    evidence = tuple(
        _ranked(case, list(columns), attention[label], effects[:, label])
        for label in range(effects.shape[1])
    )
    inside = calibrator.predict_set(probability[:1], batch.present.numpy())[0]
    chosen = tuple(int(n) for n in inside.nonzero()[0])
    return Explanation(tuple(map(float, probability[0])), modalities, evidence, chosen)


def deleted(
    present: Bool[Tensor, " token"], removed: Sequence[list[int]]
) -> Bool[Tensor, "row token"]:
    """One row a deletion: what is left when these tokens are gone."""
    rows = present.repeat(len(removed), 1)
    for row, tokens in enumerate(removed):
        rows[row, tokens] = False
    return rows


@torch.inference_mode()
def deletion_check(
    model: DiagnosticModel,
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
        model: The network.
        calibrator: Its calibration.
        cases: To average over.
        label: Position of the diagnosis.
        k: Tokens to delete together.
        draws: Random deletions of as many tokens, for each case.
        seed: Of those draws.

    Returns:
        Mean fall for the top k tokens, and for k tokens drawn at random.
    """
    generator = torch.Generator().manual_seed(seed)
    falls = []
    for case in cases:
        encoded = model.eval().encode(collate([case]))
        columns = _columns(case, encoded)
        top = explain(model, calibrator, case).evidence[label]
        best = sorted(top, key=lambda e: -e.effect)[:k]
        removed = [[columns[e.modality, e.index] for e in best]]
        for _ in range(draws):
            drawn = torch.randperm(len(columns), generator=generator)[: len(best)]
            removed.append([list(columns.values())[n] for n in drawn.tolist()])
        rows = torch.cat([encoded.present, deleted(encoded.present[0], removed)])
        probability = _probabilities(model, calibrator, encoded, rows)[:, label]
        falls.append((probability[0] - probability[1], probability[0] - probability[2:].mean()))
    top_fall, random_fall = np.mean(falls, axis=0)
    return float(top_fall), float(random_fall)


def _columns(case: Case, encoded: Encoded) -> dict[tuple[Modality, int], int]:
    """Where each token of a case stands along the axis ``token``."""
    names = [
        (m, n) for m in MODALITIES if m in case.tokens for n in range(len(case.tokens[m].kinds))
    ]
    return dict(zip(names, encoded.present[0].nonzero()[:, 0].tolist(), strict=True))


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
    model: DiagnosticModel,
    calibrator: Calibrator,
    encoded: Encoded,
    rows: Bool[Tensor, "row token"],
) -> Float64[np.ndarray, "row diagnosis"]:
    """Probabilities of one case seen under each row, calibrated as its first row is."""
    logits = torch.cat(
        [model.fuse(encoded, part).logits for part in torch.split(rows, ROWS)]
    ).numpy()
    here = torch.tensor(
        [[bool((rows[0] & (encoded.modality == n)).any()) for n in range(len(MODALITIES))]]
    )
    return calibrator.predict_proba(logits, here.expand(len(rows), -1).numpy())
