"""A federation in one process: what travels is what Flower can carry, and bytes are counted."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    MetricRecord,
    RecordDict,
)

from federated import task
from federated.hub.strategies import Registered, Rules, strategy
from federated.in_process import InProcessGrid, Node, travel
from federated.site.client_app import client_app
from federated.site.policy import SitePolicy
from federated.task import Plan
from federated.wire import ARRAYS, COUNT, FINGERPRINT, LOSS, METRICS, PACKED

Hospital = Callable[..., Path]
NAMES = ("north", "south", "west")


def first_arrays(plan: Plan) -> ArrayRecord:
    """The weights before the first round."""
    return ArrayRecord({PACKED: Array(task.pack(task.new_network(plan)))})


def guarded(plan: Plan, folder: Path, **settings: object) -> Node:
    """A site as in a real federation: its app, its policy, its ledger."""
    layout = task.layout(task.new_network(plan))
    policy = SitePolicy(
        plan=plan.fingerprint, layout=layout.sha256, numbers=layout.size, cases=24, **settings
    )
    return Node(client_app(plan), {"site": str(folder)}, policy=policy, ledger_folder=folder)


def test_three_hospitals_learn_together_in_seconds(hospital: Hospital, plan: Plan) -> None:
    """Two rounds, each site behind its guard; the loss falls, every byte is counted."""
    began = time.monotonic()
    nodes = {n: guarded(plan, hospital(name, seed=n)) for n, name in enumerate(NAMES, 7)}
    grid = InProcessGrid(nodes)
    rules = Rules(
        task.layout(task.new_network(plan)),
        {n: Registered(name, 24) for n, name in enumerate(NAMES, 7)},
        min_sites=3,
    )
    told = ConfigRecord({FINGERPRINT: plan.fingerprint})

    hub = strategy("fedavg", rules)
    result = hub.start(grid, first_arrays(plan), 2, 5.0, told, told)
    losses = [metrics[LOSS] for metrics in result.evaluate_metrics_clientapp.values()]

    assert time.monotonic() - began < 20
    assert losses[1] < losses[0]
    assert hub.named == {}
    packed_bytes = 4 * rules.layout.size
    trainings = [t for t in grid.traffic if t.up > packed_bytes]
    assert len(grid.traffic) == 12
    assert len(trainings) == 6
    assert all(t.up < packed_bytes + 2000 and t.down < packed_bytes + 2000 for t in trainings)


def test_without_a_guard_it_is_averaging_by_hand(hospital: Hospital, plan: Plan) -> None:
    """Serialization both ways changes nothing."""
    sites = [hospital(name, seed=n) for n, name in enumerate(NAMES)]
    grid = InProcessGrid(
        {n: Node(client_app(plan), {"site": str(site)}) for n, site in enumerate(sites)}
    )
    rules = Rules(task.layout(task.new_network(plan)), clip=False)
    told = ConfigRecord({FINGERPRINT: plan.fingerprint})
    trained = [
        task.train(task.new_network(plan), task.site_cases(site, plan), plan, current_round=1)
        for site in sites
    ]

    result = strategy("fedavg", rules).start(grid, first_arrays(plan), 1, 5.0, told, told)

    np.testing.assert_allclose(
        result.arrays[PACKED].numpy(), np.mean(trained, axis=0), rtol=0, atol=1e-6
    )


def test_a_message_arrives_as_it_was_sent() -> None:
    """Records, metadata and id, but as another object."""
    InProcessGrid({})
    content = RecordDict(
        {
            ARRAYS: ArrayRecord({PACKED: Array(np.arange(5, dtype=np.float32))}),
            METRICS: MetricRecord({COUNT: 3}),
        }
    )
    sent = Message(content, dst_node_id=7, message_type="train", group_id="2")

    arrived, size = travel(sent)

    assert arrived is not sent
    assert arrived.metadata == sent.metadata
    assert dict(arrived.content[METRICS]) == {COUNT: 3}
    np.testing.assert_array_equal(arrived.content[ARRAYS][PACKED].numpy(), np.arange(5))
    assert 20 < size < 2000


def test_what_flower_cannot_carry_fails_here_too() -> None:
    """A test that passed objects around would not notice."""
    InProcessGrid({})
    sent = Message(RecordDict(), dst_node_id=7, message_type="train")
    sent.content.__dict__["_data"] = {"a": object()}

    with pytest.raises((TypeError, AttributeError, KeyError, ValueError)):
        travel(sent)


@pytest.mark.parametrize(("sent", "heard"), [(0, 0), (1, 1), (2, 2)])
def test_replies_can_be_lost_or_doubled(sent: int, heard: int) -> None:
    """For tests of what happens then."""

    def app(message: Message, _: Context) -> Message:
        return Message(RecordDict(), reply_to=message)

    grid = InProcessGrid({7: Node(app, {}, way=lambda _, reply: [reply] * sent)})

    replies = grid.send_and_receive([Message(RecordDict(), 7, "train")])

    assert len(replies) == heard


def test_an_app_that_fails_answers_with_an_error() -> None:
    """As in a real node."""

    def app(message: Message, context: Context) -> Message:
        raise ZeroDivisionError("nothing")

    grid = InProcessGrid({7: Node(app, {})})

    (reply,) = grid.send_and_receive([Message(RecordDict(), 7, "train")])

    assert reply.error.reason == "ZeroDivisionError: nothing"


def test_twelve_patients_take_part_with_all_they_have(hospital: Hospital, plan: Plan) -> None:
    """Too few to spare any for validation: the site trains, and has no loss to tell."""
    nodes = {7: guarded(plan, hospital("north")), 8: guarded(plan, hospital("small", n_cases=12))}
    rules = Rules(
        task.layout(task.new_network(plan)),
        {7: Registered("north", 24), 8: Registered("small", 12)},
    )
    told = ConfigRecord({FINGERPRINT: plan.fingerprint})
    hub = strategy("fedavg", rules)

    result = hub.start(InProcessGrid(nodes), first_arrays(plan), 1, 5.0, told, told)

    assert hub.named == {}
    assert LOSS in result.evaluate_metrics_clientapp[1]
