"""The hub's rounds: ask, wait, average, keep, report; and go on where something failed.

Flower's own loop begins at round 1 and waits for each reply until the round's time is over, even
from a site that was restarted and has forgotten the question.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from safetensors.numpy import load_file, save

from federated import task
from federated.files import write_whole
from federated.hub.strategies import Checked
from federated.progress import Patience, RoundReport, Traffic, append, last_round
from federated.task import FederationError, Plan
from federated.wire import FINGERPRINT, LOSS, PACKED

log = logging.getLogger(__name__)

LOOK_S = 0.5  # between looks at what has arrived


class PatientGrid(Grid):
    """Flower's grid, which asks a restarted site again and knows who answered.

    Args:
        grid: Flower's.
        patience: How long to wait.
    """

    def __init__(self, grid: Grid, patience: Patience) -> None:
        self.inner, self.patience = grid, patience
        self.answered: set[int] = set()  # since somebody last cleared it, to training

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> list[Message]:
        """One reply to each message, until all are there or the time is over."""
        replies = collect(self.inner, messages, self.patience, timeout)
        good = [reply.metadata for reply in replies if not reply.has_error()]
        self.answered |= {m.src_node_id for m in good if m.message_type == MessageType.TRAIN}
        return replies

    def set_run(self, run: Run) -> None:
        """As Flower's."""
        self.inner.set_run(run)

    @property
    def run(self) -> Run:
        """As Flower's."""
        return self.inner.run

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        """As Flower's."""
        return self.inner.create_message(*args, **kwargs)

    def get_node_ids(self) -> Iterable[int]:
        """As Flower's."""
        return self.inner.get_node_ids()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """As Flower's."""
        return self.inner.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """As Flower's."""
        return self.inner.pull_messages(message_ids)


@dataclass
class Training:
    """A training at the hub.

    Attributes:
        grid: Flower's way to the sites.
        strategy: How replies become an average.
        plan: What was agreed on.
        out: Folder of the training.
        names: Who is there of the sites that may take part, by node id; called before each try,
            so that a site may come late.
        patience: How long to wait.
        run_id: Of Flower's run.
        traffic: Bytes of each site so far.
    """

    grid: PatientGrid
    strategy: Checked
    plan: Plan
    out: Path
    names: Callable[[], Mapping[int, str]]
    patience: Patience = field(default_factory=Patience)
    run_id: int = 0
    traffic: Callable[[], Traffic] = dict

    def run(self, rounds: int) -> None:
        """Train up to a round, from the last one that was kept.

        Raises:
            FederationError: Too few sites came, or a round failed too often.
        """
        first = last_round(self.out) + 1
        if first == 1:
            task.save_round(task.new_network(self.plan), self.out, 0)
        self.strategy.restore(_read_state(self.out, first - 1))
        kept = task.load_round(self.plan, self.out, first - 1)
        arrays = ArrayRecord({PACKED: Array(task.pack(kept))})
        try:
            for number in range(first, rounds + 1):
                arrays = self._round(number, arrays)
        except (FederationError, OSError) as error:
            said = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) else error
            append(self.out, {"run_id": self.run_id, "error": str(said)})
            raise

    def _round(self, number: int, arrays: ArrayRecord) -> ArrayRecord:
        """One round, tried again where too few sites answered."""
        began, before = time.monotonic(), dict(self.traffic())
        for left in reversed(range(self.patience.tries)):
            names = self._await_sites()
            self.grid.answered.clear()
            try:
                averaged, loss = self._try(number, arrays)
                break
            except FederationError as error:
                if not left:
                    raise
                log.warning("round %d is tried again: %s", number, error)
        network = task.new_network(self.plan)
        task.unpack(averaged[PACKED].numpy(), network, sender="the average")
        _save_state(self.strategy, self.out, number)
        task.save_round(network, self.out, number)  # after that, the round is over
        names = {**names, **self.names()}
        told = RoundReport(
            self.run_id, number,
            tuple(sorted(names[site] for site in self.grid.answered if site in names)),
            tuple(self.strategy.named.get(number, ())), loss,
            round(time.monotonic() - began, 1), since(before, self.traffic()),
        )  # fmt: skip
        append(self.out, asdict(told))
        for line in told.lines():
            log.info(line)
        return averaged

    def _try(self, number: int, arrays: ArrayRecord) -> tuple[ArrayRecord, float | None]:
        """The weights after a round, and the loss."""
        self.strategy.named.pop(number, None)
        told = ConfigRecord({FINGERPRINT: self.plan.fingerprint})
        result = self.strategy.start(
            self.grid, arrays, num_rounds=number, first_round=number,
            timeout=self.patience.round_s, train_config=told, evaluate_config=told,
        )  # fmt: skip
        loss = result.evaluate_metrics_clientapp.get(number, MetricRecord()).get(LOSS)
        return result.arrays, loss if isinstance(loss, float) else None

    def _await_sites(self) -> Mapping[int, str]:
        """Wait until enough sites are there.

        Raises:
            FederationError: They did not come in `Patience.wait_s`.
        """
        until = time.monotonic() + self.patience.wait_s
        while len(here := self.names()) < self.patience.min_sites:
            if time.monotonic() > until:
                raise FederationError(
                    f"{len(here)} sites are there where {self.patience.min_sites} are needed; "
                    f"waited {self.patience.wait_s:.0f} s"
                )
            time.sleep(LOOK_S)
        return here


def since(before: Traffic, now: Traffic) -> Traffic:
    """What was counted between two looks.

    Example:
        >>> since({"north": (5, 1)}, {"north": (7, 1), "south": (3, 2)})
        {'north': (2, 0), 'south': (3, 2)}
    """
    zero = (0, 0)
    return {
        site: (up - before.get(site, zero)[0], down - before.get(site, zero)[1])
        for site, (up, down) in now.items()
    }


def collect(
    grid: Grid, messages: Iterable[Message], patience: Patience, timeout_s: float | None = None
) -> list[Message]:
    """Send messages and take one reply to each, until all are there or the time is over.

    A site that was restarted meanwhile has forgotten the question and is asked again; a reply to
    the first question is then no longer taken.
    """
    asked = list(messages)
    started = _activations(grid)
    waiting = dict(zip(grid.push_messages(asked), asked, strict=True))
    asks = dict.fromkeys((m.metadata.dst_node_id for m in asked), 1)
    replies: list[Message] = []
    until = time.monotonic() + (timeout_s or patience.round_s)
    while waiting:
        arrived = grid.pull_messages(list(waiting))
        replies += [r for r in arrived if waiting.pop(r.metadata.reply_to_message_id, None)]
        if not waiting or time.monotonic() > until:
            break
        now = _activations(grid)
        for asked_id, message in list(waiting.items()):
            site = message.metadata.dst_node_id
            if now.get(site, started.get(site)) != started.get(site) and asks[site] < patience.asks:
                log.warning("site %s was restarted; it is asked again", site)
                del waiting[asked_id]
                waiting[_ask_again(grid, message)] = message
                started[site], asks[site] = now[site], asks[site] + 1
        time.sleep(LOOK_S)
    return replies


def _ask_again(grid: Grid, message: Message) -> str:
    """Send the same question as a message of its own; its id."""
    about = message.metadata
    again = Message(message.content, about.dst_node_id, about.message_type, group_id=about.group_id)
    return next(iter(grid.push_messages([again])))


def _activations(grid: Grid) -> dict[int, str]:
    """When each site that is there was started; empty on a grid that does not know."""
    nodes = getattr(grid, "get_nodes", None)
    return {node.node_id: node.last_activated_at for node in nodes()} if nodes else {}


def _save_state(strategy: Checked, out: Path, number: int) -> None:
    """Keep what a strategy remembers between rounds: the moments of FedAdam and FedYogi."""
    if moments := strategy.state():
        write_whole(_state_path(out, number), save(moments))


def _read_state(out: Path, number: int) -> dict[str, np.ndarray]:
    """What the strategy remembered after a round; nothing where it remembers nothing."""
    path = _state_path(out, number)
    return load_file(path) if path.exists() else {}


def _state_path(out: Path, number: int) -> Path:
    """Where that lies."""
    return out / f"strategy-{number}.safetensors"
