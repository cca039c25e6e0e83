"""What a hub makes of replies: checked, clipped, weighed by registered cohorts, and named."""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from federated.hub.replies import capped
from federated.hub.strategies import (
    STRATEGIES,
    Checked,
    Registered,
    Rules,
    strategy,
    wait_for_sites,
)
from federated.in_process import InProcessGrid
from federated.task import FederationError, Layout
from federated.wire import ARRAYS, COUNT, LOSS, METRICS, PACKED

TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # who writes the messages

RULES = Rules(
    Layout(("weight",), ((4,),)),
    {n: Registered(name, cases) for n, (name, cases) in enumerate(
        [("north", 100), ("south", 100), ("west", 200)], 7
    )},
)  # fmt: skip
BEFORE = np.float32([1.0, 1.0, 1.0, 1.0])
STEP = np.float32([0.3, 0.1, -0.2, 0.1])


def arrays(weights: object = BEFORE) -> ArrayRecord:
    """Weights as they travel."""
    return ArrayRecord({PACKED: Array(np.asarray(weights))})


def reply(
    site: int, weights: object = BEFORE + STEP, count: object = 50, current: int = 1, **more: object
) -> Message:
    """A site's reply to training."""
    content = RecordDict({ARRAYS: arrays(weights), METRICS: MetricRecord({COUNT: count}), **more})
    asked = Message(RecordDict(), site, "train", group_id=str(current))
    return Message(content, reply_to=asked)


def after(hub: Checked, replies: Sequence[Message], current: int = 1) -> np.ndarray:
    """Weights after a round."""
    return hub.aggregate_train(current, arrays(), replies)[PACKED].numpy()


def test_sites_weigh_by_their_registered_cases() -> None:
    """Whatever they claim in a message."""
    hub = strategy("fedavg", replace(RULES, clip=False))

    averaged = after(
        hub, [reply(7, BEFORE, 10**9), reply(8, BEFORE, 1), reply(9, BEFORE + STEP, 1)]
    )

    np.testing.assert_allclose(averaged, BEFORE + STEP / 2, rtol=1e-6)


def test_where_nobody_is_registered_claims_are_capped() -> None:
    """As in a simulation."""
    assert capped([100.0, 60.0, 1e9], 3.0) == [100.0, 60.0, 300.0]
    hub = strategy("fedavg", replace(RULES, registered={}, clip=False))

    averaged = after(hub, [reply(7, BEFORE, 10), reply(8, BEFORE, 10), reply(9, count=10**9)])

    np.testing.assert_allclose(averaged, BEFORE + STEP * 30 / 50, rtol=1e-6)


@pytest.mark.parametrize(
    ("spoilt", "what"),
    [
        ({"weights": np.float32([1, np.nan, 1, 1])}, "not finite"),
        ({"weights": np.float32([1, 2, 3])}, r"float32 \(3,\)"),
        ({"weights": np.ones(4)}, "float64"),
        ({"count": 0}, "no positive whole number"),
        ({"count": -5}, "no positive whole number"),
        ({"count": 2.5}, "no positive whole number"),
        ({"count": float("nan")}, "no positive whole number"),
        ({"count": [3, 4]}, "no positive whole number"),
        ({"extra": MetricRecord({"age": 80})}, "other records"),
        ({"current": 2}, "another round"),
    ],
    ids=["nan", "shape", "type", "zero", "negative", "half", "nan count", "list", "more", "late"],
)
def test_a_spoilt_reply_is_left_out_and_its_site_named(
    spoilt: dict[str, object], what: str
) -> None:
    """The round goes on with the others."""
    hub = strategy("fedavg", RULES)

    averaged = after(hub, [reply(7), reply(8), reply(9, **spoilt)])

    np.testing.assert_allclose(averaged, BEFORE + STEP, rtol=1e-6)
    (said,) = hub.named[1]
    assert said.startswith("site west")
    assert re.search(what, said)


def test_bytes_that_are_no_array_are_left_out() -> None:
    """Nothing in a reply may end the run."""
    hub, bad = strategy("fedavg", RULES), reply(9)
    bad.content[ARRAYS][PACKED] = Array("float32", (4,), "numpy.ndarray", b"nothing")

    after(hub, [reply(7), reply(8), bad])

    assert hub.named[1] == ["site west sent what cannot be read (ValueError)"]


def test_a_lost_site_is_left_out_and_named() -> None:
    """Its reply is an error, with the words of its guard."""
    lost = Message(Error(6, "its budget is spent"), reply_to=reply(9))
    lost.metadata.__dict__["_src_node_id"] = 9
    hub = strategy("fedavg", RULES)

    after(hub, [reply(7), reply(8), lost])

    assert hub.named[1] == ["site west failed: its budget is spent"]


def test_a_site_is_heard_once_a_round() -> None:
    """The first reply counts."""
    hub = strategy("fedavg", replace(RULES, clip=False))

    averaged = after(hub, [reply(7), reply(8), reply(9), reply(9, BEFORE + 100 * STEP)])

    np.testing.assert_allclose(averaged, BEFORE + STEP, rtol=1e-6)
    assert hub.named[1] == ["site west answered twice; the first counts"]


def test_a_reply_of_an_earlier_round_is_known_again() -> None:
    """Even under the name of this round."""
    hub = strategy("fedavg", RULES)
    after(hub, [reply(n, BEFORE + n * STEP) for n in RULES.registered])

    after(
        hub, [reply(7, current=2), reply(8, current=2), reply(9, BEFORE + 9 * STEP, current=2)], 2
    )

    assert hub.named[2] == ["site west sent the reply of an earlier round again"]


def test_a_round_that_is_tried_again_takes_the_same_replies() -> None:
    """Training without noise leads to the same weights each time."""
    hub = strategy("fedavg", RULES)

    for _ in range(2):
        after(hub, [reply(7), reply(8), reply(9)])

    assert hub.named == {}


def test_a_site_that_is_not_registered_is_not_heard() -> None:
    """It has no name, and weighs nothing."""
    hub = strategy("fedavg", RULES)

    after(hub, [reply(7), reply(8), reply(66, BEFORE + 100 * STEP)])

    assert hub.named[1] == ["site 66 answered another round, or was not asked"]


def test_a_long_update_is_clipped_to_the_median_and_named() -> None:
    """A site gains no influence by shouting."""
    hub = strategy("fedavg", RULES)

    averaged = after(hub, [reply(7), reply(8), reply(9, BEFORE + 10 * STEP)])

    np.testing.assert_allclose(averaged, BEFORE + STEP, rtol=1e-5)
    assert hub.named[1] == ["site west sent 10.0 times the usual update"]


def test_an_update_against_all_others_is_named() -> None:
    """And left out where the rules say so, when the others go one way."""
    sites = {n: Registered(f"number{n}", 100) for n in range(7, 12)}
    rules = Rules(Layout(("weight",), ((400,),)), sites)
    before, step = np.ones(400, np.float32), np.linspace(-1, 1, 400, dtype=np.float32)
    replies = [reply(n, before + step) for n in range(7, 11)] + [reply(11, before - step)]

    for out, expected in ((False, 3 / 5), (True, 1.0)):
        hub = strategy("fedavg", replace(rules, leave_out_opposed=out))
        averaged = hub.aggregate_train(1, arrays(before), replies)[PACKED].numpy()

        np.testing.assert_allclose(averaged, before + step * expected, rtol=1e-4, atol=1e-5)
        assert hub.named[1] == ["site number11 works against the others (-1.00)"]


def test_two_who_collude_are_found_though_they_agree_best() -> None:
    """Four honest sites hardly agree in a late round, two turned round agree well."""
    rng, size = np.random.default_rng(0), 40_000
    sites = {n: Registered(f"number{n}", 100) for n in range(7, 13)}
    hub = strategy("fedavg", Rules(Layout(("weight",), ((size,),)), sites))
    before = np.zeros(size, np.float32)
    for current in (1, 1, 2, 3):  # the first round is tried again
        shared, theirs = rng.standard_normal(size), rng.standard_normal(size)
        updates = {n: 0.3 * shared + rng.standard_normal(size) for n in range(7, 11)}
        updates |= {n: theirs - 0.3 * shared + rng.standard_normal(size) for n in (11, 12)}
        replies = [reply(n, u.astype(np.float32), current=current) for n, u in updates.items()]
        hub.aggregate_train(current, arrays(before), replies)

    for told in hub.named.values():
        assert {text.split(" works")[0] for text in told} == {"site number11", "site number12"}
    assert set(hub.named) == {1, 2, 3}


def test_a_site_that_exaggerates_its_cases_is_named_and_gains_nothing() -> None:
    """It weighs what it registered with."""
    hub, honest = strategy("fedavg", RULES), strategy("fedavg", RULES)

    averaged = after(hub, [reply(7), reply(8), reply(9, BEFORE + 2 * STEP, count=10**9)])

    plain = after(honest, [reply(7), reply(8), reply(9, BEFORE + 2 * STEP)])
    np.testing.assert_array_equal(averaged, plain)
    assert len(hub.named[1]) == 1
    assert "site west claims more cases" in hub.named[1][0]


@pytest.mark.parametrize("name", ["trimmed", "median"])
def test_a_robust_mean_ignores_the_outermost(name: str) -> None:
    """Number by number, and without weights."""
    hub = strategy(name, replace(RULES, clip=False))

    averaged = after(hub, [reply(7), reply(8), reply(9, BEFORE + 100 * STEP)])

    np.testing.assert_allclose(averaged, BEFORE + STEP, rtol=1e-5)


@pytest.mark.parametrize("name", ["fedadam", "fedyogi"])
def test_adaptive_strategies_go_on_after_a_restart(name: str) -> None:
    """What they remember is kept, and put back, and makes a difference."""

    def second_round(*, restored: bool) -> np.ndarray:
        hub, again = strategy(name, RULES), strategy(name, RULES)
        for part in (hub, again):
            part.inner.current_arrays = {PACKED: BEFORE}
        after(hub, [reply(n) for n in RULES.registered])
        if restored:
            again.restore(hub.state())
        return after(again, [reply(n, BEFORE - STEP, current=2) for n in RULES.registered], 2)

    assert not np.allclose(second_round(restored=True), second_round(restored=False), atol=1e-4)
    assert strategy("fedavg", RULES).state() == {}


def test_too_few_usable_replies_end_the_round() -> None:
    """An average of one hospital is that hospital."""
    with pytest.raises(FederationError, match="round 1: 1 usable replies where 2"):
        after(strategy("fedavg", RULES), [reply(7), reply(8, count=0)])


def test_an_unknown_strategy_is_refused() -> None:
    """With those there are."""
    with pytest.raises(FederationError, match="fedavg, fedprox"):
        strategy("best", RULES)
    assert len(STRATEGIES) == 6


def test_nobody_is_waited_for_without_end() -> None:
    """A hub whose sites do not come says so."""
    with pytest.raises(FederationError, match="0 sites came"):
        wait_for_sites(InProcessGrid({}), 2, 0.0)


def test_losses_are_averaged_by_registered_cases(caplog: pytest.LogCaptureFixture) -> None:
    """Those that are losses, of those that were asked."""
    hub = strategy("fedavg", RULES)

    def told(site: int, loss: object, count: object = 5) -> Message:
        made = reply(site)
        made.content = RecordDict({METRICS: MetricRecord({COUNT: count, LOSS: loss})})
        return made

    with caplog.at_level(logging.WARNING):
        metrics = hub.aggregate_evaluate(
            1, [told(7, 1.0), told(9, 4.0), told(8, float("nan")), told(66, 100.0), told(7, 9.0)]
        )

    assert metrics is not None
    assert metrics[LOSS] == pytest.approx(3.0)
    assert "no usable loss of site south" in caplog.text
    assert hub.aggregate_evaluate(1, []) is None
