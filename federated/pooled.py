"""What the cells of several sites say together: AUROC with bounds, and calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.optimize import brentq

from federated.cells import BINS, SPAN, Cell
from fusion.evaluate import BINS as COARSE

BELL = 2.0  # deviation of log odds inside a wide cell
TILT = 50.0  # steepest distribution inside a cell


@dataclass(frozen=True)
class Pooled:
    """What all sites' cells say of one diagnosis.

    Attributes:
        sites: That told of it.
        cases: In their cells.
        positives: Of these, with the diagnosis.
        auroc: With cases spread over their cells as the cells' means have it.
        low: What the AUROC is at least, however they lie in their cells.
        high: What it is at most.
        ece: Expected calibration error; a cell counts where its mean lies.
    """

    sites: int
    cases: int
    positives: int
    auroc: float
    low: float
    high: float
    ece: float


def pool(told: Mapping[str, Sequence[Cell]], n_diagnoses: int) -> list[Pooled | None]:
    """What the cells of all sites say of each diagnosis; None where no site told of it.

    Args:
        told: Cells by site.
        n_diagnoses: Of the scheme.
    """
    return [_pooled({site: _of(cells, n) for site, cells in told.items()}) for n in
            range(n_diagnoses)]  # fmt: skip


@dataclass(frozen=True)
class _Span:
    """A cell with its first bin."""

    start: int
    cell: Cell


def _of(cells: Sequence[Cell], diagnosis: int) -> list[_Span]:
    """The cells of one diagnosis at one site."""
    found, before = [], {True: 0, False: 0}
    for cell in cells:
        if cell.diagnosis == diagnosis:
            found.append(_Span(before[cell.has], cell))
            before[cell.has] = cell.stop
    return found


def _pooled(told: Mapping[str, Sequence[_Span]]) -> Pooled | None:
    """One diagnosis over all sites."""
    spans = [span for cells in told.values() for span in cells]
    if not spans:
        return None
    spread, first, last = (np.zeros((2, BINS)) for _ in range(3))
    for span in spans:
        has, cases = int(span.cell.has), span.cell.cases
        inside = slice(span.start, span.cell.stop)
        spread[has, inside] += cases * _inside(span)
        first[has, span.start] += cases
        last[has, span.cell.stop - 1] += cases
    positives = sum(span.cell.cases for span in spans if span.cell.has)
    return Pooled(
        sum(bool(cells) for cells in told.values()),
        sum(span.cell.cases for span in spans),
        positives,
        _auroc(spread[1], spread[0], ties=0.5),
        _auroc(first[1], last[0], ties=0.0),
        _auroc(last[1], first[0], ties=1.0),
        _ece(spans),
    )


def _auroc(
    positive: Float64[np.ndarray, " bin"], negative: Float64[np.ndarray, " bin"], *, ties: float
) -> float:
    """Share of pairs in which the one with the diagnosis is in the higher bin."""
    below = np.concatenate([[0.0], negative.cumsum()[:-1]])
    won = float(positive @ (below + ties * negative))
    return won / float(positive.sum() * negative.sum())


def _inside(span: _Span) -> Float64[np.ndarray, " bin"]:
    """How the cases of a cell lie over its bins: a bell over log odds, tilted to their mean."""
    odds = ((np.arange(span.start, span.cell.stop) + 0.5) / BINS - 0.5) * 2 * SPAN
    middle = 1 / (1 + np.exp(-odds))

    def shares(tilt: float) -> Float64[np.ndarray, " bin"]:
        exponent = tilt * odds - (odds / BELL) ** 2 / 2
        weights = np.exp(exponent - exponent.max())
        return np.asarray(weights / weights.sum())

    def over(tilt: float) -> float:
        return float(shares(tilt) @ middle) - span.cell.stated

    if over(-TILT) >= 0:  # lower than the lowest bin's middle
        return shares(-TILT)
    return shares(float(brentq(over, -TILT, TILT)) if over(TILT) > 0 else TILT)


def _ece(spans: Sequence[_Span]) -> float:
    """Expected calibration error over `COARSE` bins of probability."""
    stated, true, cases = (np.zeros(COARSE) for _ in range(3))
    for span in spans:
        where = min(int(span.cell.stated * COARSE), COARSE - 1)
        stated[where] += span.cell.stated * span.cell.cases
        true[where] += span.cell.cases * span.cell.has
        cases[where] += span.cell.cases
    return float(np.abs(stated - true).sum() / cases.sum())
