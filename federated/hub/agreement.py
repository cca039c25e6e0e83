"""Which sites work against the others, told by the angles between their updates, round after round.

In one late round even honest updates of hundred thousands of numbers are nearly at right angles, so
the cosines are summed up as a control chart does (CUSUM; Page, Biometrika 1954): what agrees only
takes a suspicion back, and never earns a site any credit.
"""

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float64

AGREEING = 4  # sites at least; of three, honest ones of different patients may stand two to one

Changes = Float64[np.ndarray, "site number"]


def with_majority(changes: Changes, least: float) -> Float64[np.ndarray, " site"] | None:
    """The mean cosine of each site's update with those of the sites that agree with each other.

    Who agrees is told by the signs of the first eigenvector of all cosines, so that a few who
    collude do not pass for the majority because they agree perfectly among themselves.

    Args:
        changes: An update a row.
        least: Mean cosine from which on sites agree; at the optimum the honest ones balance each
            other, and agree with nobody.

    Returns:
        None where no more than half of the sites agree, or fewer than `AGREEING`.

    Example:
        >>> honest, turned = [[1.0, 0.0]] * 4, [[-1.0, 0.0]]
        >>> with_majority(np.array([*honest, *turned]), 0.1).tolist()
        [1.0, 1.0, 1.0, 1.0, -1.0]
    """
    norms = np.linalg.norm(changes, axis=1, keepdims=True)
    directions = changes / np.maximum(norms, 1e-30)  # who sends nothing new opposes nobody
    cosines = directions @ directions.T
    np.fill_diagonal(cosines, 0.0)
    agrees = np.linalg.eigh(cosines).eigenvectors[:, -1] > 0
    if 2 * agrees.sum() < len(agrees):
        agrees = ~agrees
    if 2 * agrees.sum() <= len(agrees) or agrees.sum() < AGREEING:
        return None
    found: np.ndarray = cosines[:, agrees].sum(axis=1) / (agrees.sum() - agrees)
    return found if found[agrees].mean() >= least else None


def drift(cosines: Iterable[float]) -> float:
    """How far a site has worked against the others by now, at most 0.

    Args:
        cosines: Of `with_majority`, a round each, in order.

    Example:
        >>> drift([0.6, -0.04, -0.05]), drift([-0.04, 0.06, -0.01])
        (-0.09, -0.01)
    """
    suspicion = 0.0
    for cosine in cosines:
        suspicion = min(0.0, suspicion + cosine)
    return suspicion
