"""The hub's side of the federation: Flower's ServerApp, and averaging that checks what it averages.

Flower's strategies believe every reply: one that is not finite spoils the average, a wrong shape
ends the run, and a site that claims a billion cases becomes the model.
"""

import json
import logging
import math
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low
from typing import cast

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from federated import task
from federated.client_app import ARRAYS, COUNT, FINGERPRINT, LOSS, METRICS, PACKED
from federated.task import FederationError, Plan

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubConfig:
    """How the hub runs."""

    rounds: int = 3
    min_sites: int = 2  # usable replies without which a round is not averaged
    count_cap: float = 3.0  # a site weighs at most this many times the (low) median site
    timeout_s: float = 3600.0  # of one round


def capped(counts: list[float], cap: float) -> list[float]:
    """Numbers of cases as weights, none above `cap` times their low median.

    A site that exaggerates its number gains a bounded share, and an honest large one loses
    little: its update counts for less, not for nothing.

    Example:
        >>> capped([100.0, 60.0, 1e9], 3.0)
        [100.0, 60.0, 300.0]
    """
    ceiling = cap * median_low(counts)
    return [min(float(count), ceiling) for count in counts]


def usable(reply: Message, layout: task.Layout) -> bool:
    """Whether a reply to training may be averaged; why not is logged."""
    sender = f"site {reply.metadata.src_node_id}"
    try:
        if reply.has_error():
            raise FederationError(f"{sender} failed: {reply.error.reason}")
        content = reply.content
        if set(content) != {ARRAYS, METRICS} or set(content[ARRAYS]) != {PACKED}:
            raise FederationError(f"{sender} sent other records than weights and a count")
        layout.check(content.array_records[ARRAYS][PACKED].numpy(), sender=sender)
        check_count(content.metric_records[METRICS].get(COUNT), sender=sender)
    except FederationError as error:
        log.warning("not averaged: %s", error)
        return False
    except Exception as error:  # bytes that are no array
        log.warning("not averaged: %s sent what cannot be read (%s)", sender, type(error).__name__)
        return False
    return True


def check_count(count: object, *, sender: str) -> None:
    """Refuse a number of cases that is none.

    Raises:
        FederationError: It is not a positive whole number.
    """
    whole = isinstance(count, int | float) and math.isfinite(count) and count == int(count)
    if not whole or isinstance(count, bool) or count < 1:  # type: ignore[operator]
        raise FederationError(f"{sender} sent a number of cases that is no positive whole number")


class CheckedFedAvg(FedAvg):
    """Federated averaging of the replies that pass `usable`, by capped numbers of cases."""

    def __init__(self, layout: task.Layout, config: HubConfig) -> None:
        super().__init__(
            min_train_nodes=config.min_sites,
            min_evaluate_nodes=config.min_sites,
            min_available_nodes=config.min_sites,
        )
        self.layout = layout
        self.config = config

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average the weights of one round.

        Raises:
            FederationError: Fewer sites than `HubConfig.min_sites` sent something usable.
        """
        good = [reply for reply in replies if usable(reply, self.layout)]
        if len(good) < self.config.min_sites:
            raise FederationError(
                f"round {server_round}: {len(good)} usable replies where {self.config.min_sites} "
                "are needed; the warnings above say what was wrong with the others"
            )
        records = [reply.content.metric_records[METRICS] for reply in good]
        counts = [float(cast(float, record[COUNT])) for record in records]
        for record, weight in zip(records, capped(counts, self.config.count_cap), strict=True):
            record[COUNT] = weight
        return super().aggregate_train(server_round, good)

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Average the losses of one round, of the sites that sent one."""
        good = [reply for reply in replies if _has_loss(reply)]
        if not good:
            return None
        metrics = super().aggregate_evaluate(server_round, good)
        if metrics is not None:
            log.info("round %d: loss %.4f, %d sites", server_round, metrics[LOSS], len(good))
        return metrics


def server_app(
    plan: Plan,
    out: Path,
    config: HubConfig | None = None,
    stopped: threading.Event | None = None,
) -> ServerApp:
    """The app of the hub.

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
        del context
        if stopped is not None:
            _stop_with(grid, stopped)
        first = task.new_network(plan)
        layout = task.layout(first)
        result = CheckedFedAvg(layout, config).start(
            grid=grid,
            initial_arrays=ArrayRecord({PACKED: Array(task.pack(first))}),
            num_rounds=config.rounds,
            timeout=config.timeout_s,
            train_config=ConfigRecord({FINGERPRINT: plan.fingerprint}),
            evaluate_config=ConfigRecord({FINGERPRINT: plan.fingerprint}),
            evaluate_fn=lambda n, arrays: _save(n, arrays, plan, out),
        )
        losses = {n: metrics[LOSS] for n, metrics in result.evaluate_metrics_clientapp.items()}
        (out / "rounds.json").write_text(json.dumps({"loss": losses}, indent=2) + "\n")

    return app


def _stop_with(grid: Grid, stopped: threading.Event) -> None:
    """Let the wait for replies end with the engine; Flower alone would wait until the timeout."""
    pull = grid.pull_messages

    def checked(message_ids: Iterable[str]) -> Iterable[Message]:
        if stopped.is_set():
            raise FederationError("the simulation engine stopped before the round was over")
        return pull(message_ids)

    grid.pull_messages = checked  # type: ignore[method-assign]


def read_rounds(out: Path) -> tuple[float, ...]:
    """Validation loss of each round, as the hub wrote it."""
    losses = json.loads((out / "rounds.json").read_text())["loss"]
    return tuple(losses[n] for n in sorted(losses, key=int))


def _save(server_round: int, arrays: ArrayRecord, plan: Plan, out: Path) -> None:
    """Keep the weights of a round; the hub has no cases to evaluate them on."""
    packed = arrays[PACKED].numpy()
    network = task.new_network(plan)
    task.unpack(packed, network, sender="the average")
    task.save_round(network, out, server_round)


def _has_loss(reply: Message) -> bool:
    """Whether a reply to evaluation holds a loss and a count that can be averaged."""
    if reply.has_error():
        log.warning(
            "site %s failed to evaluate: %s", reply.metadata.src_node_id, reply.error.reason
        )
        return False
    record = reply.content.metric_records.get(METRICS, MetricRecord())
    try:
        check_count(record.get(COUNT), sender="a site")
    except FederationError:
        return False
    loss = record.get(LOSS)
    return set(record) == {COUNT, LOSS} and isinstance(loss, float) and math.isfinite(loss)
