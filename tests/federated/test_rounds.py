"""The hub's rounds: what is waited for, tried again, kept and resumed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message, RecordDict

from federated import task
from federated.hub import strategies
from federated.hub.rounds import PatientGrid, Training, collect
from federated.hub.strategies import Rules
from federated.in_process import InProcessGrid, Node
from federated.progress import Patience, last_round, read_progress
from federated.site.client_app import client_app
from federated.task import FederationError, Plan

Hospital = Callable[..., Path]

QUICK = Patience(min_sites=2, round_s=1.0, wait_s=1.0, tries=3)


def training(grid: InProcessGrid, plan: Plan, out: Path, strategy: str = "fedavg") -> Training:
    """A training in this process."""
    out.mkdir(exist_ok=True)
    rules = Rules(task.layout(task.new_network(plan)), min_sites=QUICK.min_sites)
    names = {site: f"site-{site}" for site in grid.nodes}
    return Training(
        PatientGrid(grid, QUICK), strategies.strategy(strategy, rules), plan, out,
        lambda: names, QUICK,
    )  # fmt: skip


@pytest.fixture
def sites(hospital: Hospital) -> list[Path]:
    """Two hospitals."""
    return [hospital("north", seed=0), hospital("south", seed=1)]


def grid_of(sites: list[Path], plan: Plan) -> InProcessGrid:
    """A grid of well-behaved sites."""
    return InProcessGrid(
        {n: Node(client_app(plan), {"site": str(s)}) for n, s in enumerate(sites, 7)}
    )


@pytest.mark.parametrize("strategy", ["fedavg", "fedadam"])
def test_a_resumed_training_is_the_one_that_was_not_interrupted(
    sites: list[Path], plan: Plan, tmp_path: Path, strategy: str
) -> None:
    """Weights, and what the strategy remembers, go on where they were."""
    whole = training(grid_of(sites, plan), plan, tmp_path / "whole", strategy)
    whole.run(3)
    training(grid_of(sites, plan), plan, tmp_path / "parts", strategy).run(1)

    training(grid_of(sites, plan), plan, tmp_path / "parts", strategy).run(3)

    a, b = (task.pack(task.load_round(plan, tmp_path / n, 3)) for n in ("whole", "parts"))
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    assert [report.number for report in read_progress(tmp_path / "parts")] == [1, 2, 3]


def test_a_round_that_fails_is_tried_again_from_the_same_weights(
    sites: list[Path], plan: Plan, tmp_path: Path
) -> None:
    """What arrived of the first try is not counted in the second."""
    grid, calls = grid_of(sites, plan), []

    def lost_once(_: Message, reply: Message) -> tuple[Message, ...]:
        calls.append(reply)
        return () if len(calls) == 1 else (reply,)

    grid.nodes[8].way = lost_once
    spoilt = training(grid, plan, tmp_path / "spoilt")
    spoilt.run(1)
    training(grid_of(sites, plan), plan, tmp_path / "well").run(1)

    a, b = (task.pack(task.load_round(plan, tmp_path / n, 1)) for n in ("spoilt", "well"))
    np.testing.assert_array_equal(a, b)


def test_a_training_that_cannot_go_on_says_why_and_keeps_its_rounds(
    sites: list[Path], plan: Plan, tmp_path: Path
) -> None:
    """After a limited number of tries; the first round stays."""
    grid = grid_of(sites, plan)
    training(grid, plan, tmp_path).run(1)
    grid.nodes[8].way = lambda *_: ()

    with pytest.raises(FederationError, match="1 usable replies where 2"):
        training(grid, plan, tmp_path).run(2)

    assert last_round(tmp_path) == 1
    assert '"error"' in (tmp_path / "progress.jsonl").read_text()


def test_nobody_waits_for_ever_for_sites_to_come(
    sites: list[Path], plan: Plan, tmp_path: Path
) -> None:
    """`Patience.wait_s`, and then an end that can be resumed."""
    alone = training(grid_of(sites[:1], plan), plan, tmp_path)

    with pytest.raises(FederationError, match="1 sites are there where 2"):
        alone.run(1)


def test_a_round_on_a_full_disk_is_not_kept_by_half(
    sites: list[Path], plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The round before is the last; with space again, the training goes on."""
    run = training(grid_of(sites, plan), plan, tmp_path)
    run.run(1)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "round-2")

    with monkeypatch.context() as patch:
        patch.setattr("federated.hub.rounds.task.save_round", full)
        with pytest.raises(OSError, match="No space left"):
            training(grid_of(sites, plan), plan, tmp_path).run(2)
    assert last_round(tmp_path) == 1

    training(grid_of(sites, plan), plan, tmp_path).run(2)
    assert last_round(tmp_path) == 2


@dataclass
class Info:
    """What Flower tells of a node."""

    node_id: int
    last_activated_at: str


class Forgetful(InProcessGrid):
    """A grid whose only site is restarted while it works, and has forgotten the first question."""

    def __init__(self) -> None:
        super().__init__({})
        self.started = "at noon"
        self.asked: list[Message] = []

    def get_nodes(self) -> list[Info]:
        """The site."""
        return [Info(7, self.started)]

    def push_messages(self, messages: list[Message]) -> list[str]:
        """Questions."""
        self.asked += messages
        return [str(len(self.asked))]

    def pull_messages(self, ids: list[str]) -> list[Message]:
        """The site restarts at the first look, and answers what it was asked after that."""
        self.started = "later"
        if ids != ["2"]:
            return []
        reply = Message(RecordDict(), reply_to=self.asked[-1])
        reply.metadata.__dict__["_reply_to_message_id"] = "2"
        return [reply]


def test_a_site_that_was_restarted_is_asked_again() -> None:
    """Otherwise the round would wait for it until its time is over."""
    grid = Forgetful()

    replies = collect(grid, [Message(RecordDict(), 7, "train")], Patience(round_s=20.0))

    assert len(replies) == 1
    assert len(grid.asked) == 2
