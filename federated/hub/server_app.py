"""The hub's side of the federation: Flower's ServerApp around `federated.hub.rounds`."""

import logging
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import Context, Message
from flwr.serverapp import Grid, ServerApp

from federated import task
from federated.evaluation import evaluate_training
from federated.hub import strategies
from federated.hub.folder import TRAININGS, Hub, open_hub
from federated.hub.front import read_traffic
from federated.hub.rounds import PatientGrid, Training
from federated.hub.secure_sum import SecureFedAvg
from federated.hub.serve import HUB_FOLDER
from federated.hub.strategies import Checked, Registered, Rules
from federated.progress import Patience, Traffic, read_progress
from federated.task import FederationError, Plan


@dataclass(frozen=True)
class HubConfig:
    """How the hub runs."""

    rounds: int = 3  # 0 asks the sites for scores of the last one, and trains nothing
    strategy: str = "fedavg"
    secure: bool = False  # whether the hub sees only the sum of the updates
    patience: Patience = field(default_factory=Patience)


def hub_app() -> ServerApp:
    """The app of a real hub; its folder is told by the environment of its own SuperLink."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        """Run all rounds that are left."""
        logging.getLogger("federated").setLevel(logging.INFO)
        hub = open_hub(Path(os.environ[HUB_FOLDER]))
        told = context.run_config
        config = HubConfig(
            int(told["rounds"]), str(told["strategy"]), bool(told["secure"]),
            Patience(int(told["min-sites"]), tries=int(told["tries"])),
        )  # fmt: skip
        out = hub.folder / TRAININGS / str(told["folder"])
        registered: dict[int, Registered] = {}
        if not config.rounds:
            here = _present(grid, hub, registered)
            evaluate_training(
                PatientGrid(grid, config.patience), hub.plan, out, here, config.patience.round_s
            )
            return
        training = Training(
            PatientGrid(grid, config.patience),
            _strategy(hub.plan, config, registered), hub.plan, out,
            lambda: _present(grid, hub, registered), config.patience, context.run_id,
            lambda: _traffic(hub),
        )  # fmt: skip
        training.run(config.rounds)

    return app


def server_app(
    plan: Plan,
    out: Path,
    config: HubConfig | None = None,
    stopped: threading.Event | None = None,
) -> ServerApp:
    """The app of a hub without keys: in a simulation every site is known.

    Args:
        plan: What hub and sites agreed on.
        out: Folder that gets ``round-N.safetensors`` after each round.
        config: How the hub runs.
        stopped: Set where the engine around the hub has ended, so that the hub ends too.
    """
    config = config or HubConfig()
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        """Run all rounds."""
        if stopped is not None:
            _stop_with(grid, stopped)
        for old in (*out.glob("round-*.safetensors"), *out.glob("progress.jsonl")):
            old.unlink()  # a simulation begins anew
        training = Training(
            PatientGrid(grid, config.patience), _strategy(plan, config, {}), plan, out,
            lambda: {site: str(site) for site in grid.get_node_ids()},
            config.patience, context.run_id,
        )  # fmt: skip
        training.run(config.rounds)

    return app


def read_rounds(out: Path) -> tuple[float, ...]:
    """Validation loss of each round, of those that have one."""
    return tuple(report.loss for report in read_progress(out) if report.loss is not None)


def _strategy(plan: Plan, config: HubConfig, registered: Mapping[int, Registered]) -> Checked:
    """The strategy of a training; `registered` may change while it runs."""
    layout = task.layout(task.new_network(plan))
    rules = Rules(layout, registered, min_sites=config.patience.min_sites)
    return SecureFedAvg(rules) if config.secure else strategies.strategy(config.strategy, rules)


def _present(grid: Grid, hub: Hub, registered: dict[int, Registered]) -> Mapping[int, str]:
    """Names of the registered sites that are there; the strategy's weights are kept up to date."""
    members = {member.pem: member for member in hub.sites}
    # get_nodes is of Flower's real grid alone
    here = {
        node.node_id: members[node.public_key]
        for node in grid.get_nodes()
        if node.public_key in members
    }
    registered |= {site: Registered(m.name, m.cases) for site, m in here.items()}
    return {site: member.name for site, member in here.items()}


def _traffic(hub: Hub) -> Traffic:
    """Bytes of each site so far, as the front counted them."""
    return {name: (count.up, count.down) for name, count in read_traffic(hub.folder).items()}


def _stop_with(grid: Grid, stopped: threading.Event) -> None:
    """Let the wait for replies end with the engine; Flower alone would wait until the timeout."""
    pull = grid.pull_messages

    def checked(message_ids: Iterable[str]) -> Iterable[Message]:
        if stopped.is_set():
            raise FederationError("the simulation engine stopped before the round was over")
        return pull(message_ids)

    grid.pull_messages = checked  # type: ignore[method-assign]
