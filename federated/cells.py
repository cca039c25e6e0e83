"""Scores of a site's cases as histograms, of which no cell that leaves is small.

A probability falls into one of `BINS` bins, equal in log odds. Cases with a diagnosis and cases
without it are counted apart. What leaves is put together from neighbouring bins until each cell
holds enough cases, and a diagnosis that too few have, or have not, stays at home altogether; with
it, where syndromes exclude each other, another one, so that its number is no difference of others.
Nothing here knows Flower, or needs more than NumPy.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64

BINS = 96
SPAN = 8.0  # log odds on both sides of even; what is surer falls into the last bin

Counts = Int64[np.ndarray, "diagnosis 2 bin"]
Sums = Float64[np.ndarray, "diagnosis 2 bin"]


@dataclass(frozen=True)
class Cell:
    """Neighbouring bins together.

    Attributes:
        diagnosis: Column of the scheme's labels.
        has: Whether these cases have it.
        stop: The bin after its last; its first is where the cell before it stops.
        cases: In it.
        stated: Their mean probability.
    """

    diagnosis: int
    has: bool
    stop: int
    cases: int
    stated: float


def bin_of(probability: Float[np.ndarray, "*case"]) -> Int64[np.ndarray, "*case"]:
    """Which bin a probability falls into.

    Example:
        >>> bin_of(np.array([0.0, 0.5, 1.0]))
        array([ 0, 48, 95])
    """
    inside = np.clip(probability, 1e-12, 1 - 1e-12)
    odds = np.log(inside / (1 - inside))
    found = np.floor((odds + SPAN) / (2 * SPAN) * BINS).astype(np.int64)
    return np.asarray(np.clip(found, 0, BINS - 1))


def histograms(
    probability: Float[np.ndarray, "case diagnosis"], truth: Float[np.ndarray, "case diagnosis"]
) -> tuple[Counts, Sums]:
    """Cases and the sum of their probabilities by diagnosis, truth and bin.

    Args:
        probability: Of each diagnosis.
        truth: 1 or 0; anything else counts nowhere.
    """
    n = probability.shape[1]
    counts, sums = np.zeros((n, 2, BINS), np.int64), np.zeros((n, 2, BINS))
    bins = bin_of(probability)
    for has in (0, 1):
        cases, columns = np.nonzero(truth == has)
        for column, inside, stated in zip(
            columns, bins[cases, columns], probability[cases, columns], strict=True
        ):
            counts[column, has, inside] += 1
            sums[column, has, inside] += stated
    return counts, sums


def releasable(counts: Counts, sums: Sums, n_syndromes: int, smallest: int) -> list[Cell]:
    """The cells that may leave.

    Args:
        counts: Of a site.
        sums: Of the probabilities.
        n_syndromes: Of the first diagnoses, which exclude each other.
        smallest: Cases in a cell.
    """
    hidden = small_diagnoses(counts.sum(axis=2), n_syndromes, smallest)
    found = []
    for diagnosis in sorted(set(range(len(counts))) - hidden):
        shared = _stops(counts[diagnosis], smallest)
        for has in (0, 1):
            mine = counts[diagnosis, has]
            start = 0
            for stop in _finer(mine, shared, smallest):
                cases = int(mine[start:stop].sum())
                stated = float(sums[diagnosis, has, start:stop].sum()) / cases
                found.append(Cell(diagnosis, bool(has), stop, cases, round(stated, 3)))
                start = stop
    return found


def small_diagnoses(
    totals: Int64[np.ndarray, "diagnosis 2"], n_syndromes: int, smallest: int
) -> set[int]:
    """Diagnoses of which nothing may leave.

    Args:
        totals: Cases without and with each.
        n_syndromes: Of the first, which exclude each other.
        smallest: Cases that both numbers must reach.

    Example:
        >>> totals = np.array([[20, 40], [45, 15], [57, 3], [50, 10]])
        >>> sorted(small_diagnoses(totals, 3, 10))
        [1, 2]
    """
    hidden = {n for n, row in enumerate(totals) if row.min() < smallest}
    syndromes = hidden & set(range(n_syndromes))
    rest = sorted(set(range(n_syndromes)) - syndromes, key=lambda n: int(totals[n, 1]))
    # The visible ones tell how many the hidden ones have together.
    while syndromes and rest and (len(syndromes) < 2 or totals[[*syndromes], 1].sum() < smallest):
        syndromes.add(rest.pop(0))
    return hidden | syndromes


def _stops(counts: Int64[np.ndarray, "2 bin"], smallest: int) -> list[int]:
    """Where to cut so that every cell has enough of both."""
    stops, start = [], 0
    for stop in range(1, BINS):
        here, left = counts[:, start:stop].sum(axis=1), counts[:, stop:].sum(axis=1)
        if min(here.min(), left.min()) >= smallest:
            stops.append(stop)
            start = stop
    return [*stops, BINS]


def _finer(counts: Int64[np.ndarray, " bin"], shared: Sequence[int], smallest: int) -> list[int]:
    """Further cuts for one of both; all shared ones stay, so that no difference of two is small."""
    stops, start = [], 0
    for end in shared:
        for stop in range(start + 1, end):
            here, left = int(counts[start:stop].sum()), int(counts[stop:end].sum())
            if min(here, left) >= smallest:
                stops.append(stop)
                start = stop
        stops.append(end)
        start = end
    return stops
