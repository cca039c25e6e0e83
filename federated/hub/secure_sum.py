"""The hub's side of secure aggregation; `federated.site.secure` says what it protects and what not.

Flower's SecAgg+ is a workflow of its older API; one round of it runs here inside an app of the
Message API, so that everything around it is the same as without.
"""

from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, RecordDict
from flwr.common import parameters_to_ndarrays
from flwr.compat.common.typing import FitIns, FitRes, Parameters
from flwr.server.client_proxy import ClientProxy
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.strategy import FedAvg as LegacyFedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from federated.hub.strategies import Checked, Rules, wait_for_sites
from federated.task import FederationError
from federated.wire import CLIPPING, MODULUS, PACKED, ROUND, STEPS

MAX_CASES = 1000.0  # weight of a site, where nobody is registered


class _Workflow(SecAggPlusWorkflow):
    """Flower's protocol, which a site may leave before its keys are shared.

    Flower alone would ask the others for shares of its key, which they never got, and so end.
    """

    def share_keys_stage(self, grid: Grid, context: LegacyContext, state: Any) -> bool:
        """As Flower's; whoever did not finish this step is no longer part of the sum."""
        enough = bool(super().share_keys_stage(grid, context, state))
        state.sampled_node_ids = set(state.active_node_ids)
        return enough


class _OneRound(LegacyFedAvg):
    """Flower's older strategy, for one round: whom to ask for what, and what came of it."""

    def __init__(self, instructions: list[tuple[ClientProxy, FitIns]]) -> None:
        super().__init__()
        self.instructions = instructions
        self.result: np.ndarray | None = None
        self.heard: list[int] = []

    def configure_fit(self, *_: Any, **__: Any) -> list[tuple[ClientProxy, FitIns]]:
        """Whom to ask for what."""
        return self.instructions

    def aggregate_fit(
        self, server_round: int, results: list[tuple[ClientProxy, FitRes]], failures: Any
    ) -> tuple[Parameters | None, dict[str, Any]]:
        """Keep the sum, which every result holds after unmasking."""
        del server_round, failures
        self.heard = [proxy.node_id for proxy, _ in results]
        self.result = parameters_to_ndarrays(results[0][1].parameters)[0]
        return None, {}


class SecureFedAvg(Checked):
    """Federated averaging of which the hub sees the sum alone, once it is there.

    Clipping to the median and looking at single updates, which `Checked` does otherwise, are not
    possible here; what is left is whether the average is finite and of the right shape.
    """

    def __init__(self, rules: Rules) -> None:
        super().__init__(FedAvg(), rules)

    def train_round(
        self, grid: Grid, current: int, arrays: ArrayRecord, config: ConfigRecord, timeout: float
    ) -> ArrayRecord:
        """Have the sites train, and unmask their average.

        Raises:
            FederationError: Too few sites came, or answered all four steps.
        """
        wait_for_sites(grid, max(2, self.rules.min_sites), timeout)
        known = self.rules.registered
        sites = [site for site in grid.get_node_ids() if not known or site in known]
        packed = arrays[PACKED]
        told = FitIns(
            Parameters([packed.data], packed.stype), cast(Any, {**config, ROUND: current})
        )
        run_id = grid.run.run_id
        once = _OneRound([(GridClientProxy(site, grid, run_id), told) for site in sites])
        _workflow(len(sites), self._largest(), timeout)(
            grid, _context(run_id, current, packed, once)
        )
        for lost in sorted(set(sites) - set(once.heard)):
            self._name(current, f"{self.rules.name(lost)} did not finish secure aggregation")
        if once.result is None or len(once.heard) < self.rules.min_sites:
            raise FederationError(
                f"round {current}: secure aggregation ended with {len(once.heard)} sites where "
                f"{self.rules.min_sites} are needed; see the log of each site"
            )
        average = once.result.astype(np.float32)
        self.rules.layout.check(average, sender="the secure sum")
        return ArrayRecord({PACKED: Array(average)})

    def _largest(self) -> float:
        """The largest weight of a site, which fixes how finely weights are counted."""
        cases = [site.cases for site in self.rules.registered.values()]
        return float(max(10, *(round(n, -1) + 10 for n in cases))) if cases else MAX_CASES


def _workflow(sites: int, largest: float, timeout_s: float) -> _Workflow:
    """The protocol in our arithmetic; more than half of the sites must finish it."""
    return _Workflow(
        num_shares=1.0,
        reconstruction_threshold=sites // 2 + 1,
        max_weight=largest,
        clipping_range=CLIPPING,
        quantization_range=STEPS,
        modulus_range=MODULUS,
        timeout=timeout_s,
    )


def _context(run_id: int, current: int, packed: Array, once: _OneRound) -> LegacyContext:
    """What Flower's older workflow wants to know of a round."""
    state = RecordDict({MAIN_CONFIGS_RECORD: ConfigRecord({WorkflowKey.CURRENT_ROUND: current})})
    state[MAIN_PARAMS_RECORD] = ArrayRecord({"0": packed})
    plain = Context(run_id=run_id, node_id=0, node_config={}, state=state, run_config={})
    return LegacyContext(plain, strategy=once)
