"""The average of `federated.hub.strategies` as NVFlare's server takes it."""

import json
import time
from pathlib import Path

import numpy as np
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.aggregators.model_aggregator import ModelAggregator

from benchmarks.nvflare_job.mean import clipped_mean

WEIGHTS = "numpy_key"  # NVFlare's own name of the only array


class Clipped(ModelAggregator):
    """Mean of the updates by the hospitals' cases, none longer than their median.

    Args:
        log: File that gets a line a round: when it began and ended, and the loss of the weights
            with which it began.
    """

    def __init__(self, log: str) -> None:
        super().__init__()
        self.log = log
        self._answers: list[FLModel] = []
        self._began = 0.0

    def reset_stats(self) -> None:
        """A round begins."""
        self._answers, self._began = [], time.time()

    def accept_model(self, model: FLModel) -> None:
        """Take what one hospital sent."""
        self._answers.append(model)

    def aggregate_model(self) -> FLModel:
        """Average what has come."""
        changes = [np.asarray(a.params[WEIGHTS], dtype=np.float64) for a in self._answers]
        told = [answer.metrics for answer in self._answers]
        mean = clipped_mean(changes, [one["cases"] for one in told])
        loss = np.average([one["loss"] for one in told], weights=[one["valid"] for one in told])
        line = {"began": self._began, "ended": time.time(), "loss": float(loss)}
        with Path(self.log).open("a", encoding="utf-8") as file:
            file.write(f"{json.dumps(line)}\n")
        return FLModel(params_type=ParamsType.DIFF, params={WEIGHTS: mean.astype(np.float32)})
