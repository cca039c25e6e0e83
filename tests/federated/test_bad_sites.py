"""Six sites, of which one or two misbehave: rounds complete, the offender is named, little moves.

The same attacks as in `benchmarks.bad_sites`, on sites that learn a point instead of a diagnosis.
"""

from collections.abc import Sequence

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from benchmarks.bad_sites import ATTACKS, HONEST, Attack, bad_way
from federated.hub.strategies import Registered, Rules, strategy
from federated.in_process import InProcessGrid, Node
from federated.task import Layout
from federated.wire import ARRAYS, COUNT, LOSS, METRICS, PACKED

QUIET = ("1e9 cases", "1e9 cases, noise", "noise as long as the update")
SIZE, ROUNDS = 4000, 3
TARGET = np.random.default_rng(0).normal(size=SIZE)


def learner(seed: int) -> object:
    """A site that goes halfway to its own idea of the target."""
    own = TARGET + 0.3 * np.random.default_rng(seed).normal(size=SIZE)

    def app(message: Message, _: Context) -> Message:
        if message.metadata.message_type == "evaluate":
            told = MetricRecord({COUNT: 50, LOSS: 0.5})
            return Message(RecordDict({METRICS: told}), reply_to=message)
        before = message.content[ARRAYS][PACKED].numpy()
        weights = ArrayRecord({PACKED: Array((before + 0.5 * (own - before)).astype(np.float32))})
        count = MetricRecord({COUNT: 50})
        return Message(RecordDict({ARRAYS: weights, METRICS: count}), reply_to=message)

    return app


def grid(attack: Attack) -> InProcessGrid:
    """Six sites, the last of them bad."""
    nodes = {n: Node(learner(n), {}) for n in range(7, 13)}
    for n in range(13 - attack.sites, 13):
        nodes[n] = Node(learner(n), {}, way=bad_way(attack))
    return InProcessGrid(nodes)


def start() -> ArrayRecord:
    """The weights to begin with."""
    return ArrayRecord({PACKED: Array(np.zeros(SIZE, np.float32))})


def error(weights: np.ndarray) -> float:
    """Distance from the target, in its own length."""
    return float(np.linalg.norm(weights - TARGET) / np.linalg.norm(TARGET))


def federated(attack: Attack, rounds: int = ROUNDS) -> tuple[float, Sequence[str]]:
    """How far the average ends from the target, and who was named."""
    sites = {n: Registered(f"number {n}", 50) for n in range(7, 13)}
    hub = strategy("fedavg", Rules(Layout(("weight",), ((SIZE,),)), sites))
    told = ConfigRecord({})
    result = hub.start(grid(attack), start(), rounds, 1.0, told, told)
    assert result.arrays is not None
    said = [text for texts in hub.named.values() for text in texts]
    return error(result.arrays[PACKED].numpy()), said


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_bad_site_costs_little(attack: Attack) -> None:
    """The training goes on, and ends near where it would without the attack."""
    honest, _ = federated(HONEST)

    attacked, _ = federated(attack)

    assert attacked < honest + 0.25


@pytest.mark.parametrize(
    "attack", [a for a in ATTACKS if a.name not in QUIET], ids=lambda attack: attack.name
)
def test_the_offender_is_named_and_nobody_else(attack: Attack) -> None:
    """A number of cases changes nothing, and noise of usual length looks like an odd hospital."""
    _, said = federated(attack)

    bad = {f"site number {n}" for n in range(13 - attack.sites, 13)}
    named = {" ".join(text.split()[:3]) for text in said}
    assert named == bad


def test_honest_sites_are_not_named() -> None:
    """Not while they learn, and not at the end, when each pulls its own way."""
    assert federated(HONEST, rounds=12)[1] == []


@pytest.mark.parametrize(
    "attack",
    [a for a in ATTACKS if a.name in ("NaN", "sign flip, 10 times", "1e9 cases, noise")],
    ids=lambda attack: attack.name,
)
def test_flowers_own_average_shows_the_damage(attack: Attack) -> None:
    """So that the checks above have something to check."""
    result = FedAvg(fraction_evaluate=0.0).start(grid(attack), start(), ROUNDS, 1.0)

    weights = result.arrays[PACKED].numpy()
    assert not np.isfinite(weights).all() or error(weights) > federated(attack)[0] + 0.1
