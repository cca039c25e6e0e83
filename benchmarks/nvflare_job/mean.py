"""The average of `federated.hub.strategies` in a few lines, for NVFlare's server: NumPy only."""

from collections.abc import Sequence

import numpy as np


def clipped_mean(changes: Sequence[np.ndarray], cases: Sequence[float]) -> np.ndarray:
    """Mean of the sites' updates by their cases, none longer than the median of them.

    Args:
        changes: Of the weights, one array a site.
        cases: Of each site; no site has more than three times the median.

    Example:
        >>> one, other = np.array([3.0, 0.0]), np.array([0.0, 1.0])
        >>> clipped_mean([one, other], [1, 1]).tolist()
        [1.0, 0.5]
    """
    norms = [float(np.linalg.norm(change)) for change in changes]
    limit = float(np.median(norms))
    clipped = [c * min(1.0, limit / norm) for c, norm in zip(changes, norms, strict=True)]
    return np.asarray(np.average(clipped, axis=0, weights=cases))
