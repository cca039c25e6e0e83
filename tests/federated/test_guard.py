"""The site's last word: what no hub can ask for and no app can send."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Error,
    Message,
    MetricRecord,
    RecordDict,
)
from flwr.supercore.task_identity import TaskIdentity

from federated.site.guard import GuardError, answer, check_request, release
from federated.site.ledger import Ledger
from federated.site.policy import SitePolicy
from federated.wire import ARRAYS, CONFIG, COUNT, FINGERPRINT, LOSS, METRICS, PACKED, ROUND

TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # who writes the messages

POLICY = SitePolicy(plan="a" * 64, numbers=4, cases=118, clip_norm=2.0, rounds=3)
BEFORE = np.float32([1.0, 1.0, 1.0, 1.0])

Replying = Callable[[Message], RecordDict]


def request(
    kind: str = "train", weights: object = BEFORE, message_id: str = "m1", **config: object
) -> Message:
    """What a hub sends."""
    settings = {FINGERPRINT: "a" * 64, ROUND: 1, **config}
    content = {
        ARRAYS: ArrayRecord({PACKED: Array(np.asarray(weights))}),
        CONFIG: ConfigRecord(settings),
    }
    made = Message(RecordDict(content), dst_node_id=7, message_type=kind)
    made.metadata.__dict__["_message_id"] = message_id
    return made


def trained(weights: object = BEFORE, count: object = 80, **more: object) -> RecordDict:
    """What an app answers to training."""
    array = Array(np.asarray(weights))
    return RecordDict(
        {
            ARRAYS: ArrayRecord({PACKED: array}),
            METRICS: MetricRecord({COUNT: count}),
            **more,
        }
    )


def evaluated(loss: object = 0.123456789) -> RecordDict:
    """What an app answers to evaluation."""
    return RecordDict({METRICS: MetricRecord({COUNT: 80, LOSS: loss})})


@pytest.fixture
def ask(tmp_path: Path) -> Callable[..., Message]:
    """Have a site whose app answers something answer a request."""

    def ask(
        content: RecordDict, asked: Message | None = None, policy: SitePolicy = POLICY
    ) -> Message:
        def app(message: Message, _: Context) -> Message:
            return Message(content, reply_to=message)

        context = Context(run_id=1, node_id=7, node_config={}, state=RecordDict(), run_config={})
        generator = np.random.default_rng(0)
        return answer(asked or request(), context, policy, Ledger(tmp_path), generator, app)

    return ask


def weights_of(reply: Message) -> np.ndarray:
    """Weights that left."""
    return reply.content.array_records[ARRAYS][PACKED].numpy()


# -- what a hub may ask --------------------------------------------------------------------


def test_what_was_agreed_to_may_be_asked() -> None:
    """Training and evaluation."""
    check_request(request(), POLICY)
    check_request(request("evaluate"), POLICY)
    check_request(request(**{"proximal-mu": 0.01}), POLICY)


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        (request("query"), "something other than training"),
        (request("train.export"), "something other than training"),
        (request(**{FINGERPRINT: "b" * 64}), "another plan"),
        (request(epochs=1000), "settings that this site does not know"),
        (request(**{ROUND: 0}), "named a round"),
        (request(**{ROUND: True}), "named a round"),
        (request(**{"proximal-mu": -1.0}), "proximal-mu"),
        (request(**{"proximal-mu": float("nan")}), "proximal-mu"),
        (request(weights=np.ones(5, np.float32)), "float32 \\(5,\\)"),
        (request(weights=np.ones(2, np.float64)), "sent float64"),
        (request(weights=np.float32([1, 2, np.nan, 4])), "not finite"),
    ],
)
def test_anything_else_is_refused(asked: Message, what: str) -> None:
    """Whatever the app would make of it."""
    with pytest.raises(GuardError, match=what):
        check_request(asked, POLICY)


def test_a_record_more_is_refused() -> None:
    """A hub cannot slip settings past the app."""
    asked = request()
    asked.content["more"] = ConfigRecord({"clip": False})

    with pytest.raises(GuardError, match="other records"):
        check_request(asked, POLICY)


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_a_small_site_only_receives(kind: str) -> None:
    """Of three patients, an update or a loss tells too much."""
    with pytest.raises(GuardError, match="fewer cases"):
        check_request(request(kind), replace(POLICY, cases=9))


def test_a_site_that_agreed_to_no_plan_follows_none() -> None:
    """Not even an empty one."""
    with pytest.raises(GuardError, match="another plan"):
        check_request(request(**{FINGERPRINT: ""}), replace(POLICY, plan=""))


# -- what an app cannot send ---------------------------------------------------------------


def test_a_small_update_leaves_as_it_is(ask: Callable[..., Message]) -> None:
    """Within the norm nothing changes."""
    np.testing.assert_allclose(weights_of(ask(trained(BEFORE + np.float32(0.5)))), BEFORE + 0.5)


def test_an_app_without_protection_is_clipped_all_the_same(ask: Callable[..., Message]) -> None:
    """The direction of its update stays, its length is the policy's."""
    reply = ask(trained(BEFORE + np.float32([300.0, 0.0, 400.0, 0.0])))

    np.testing.assert_allclose(weights_of(reply) - BEFORE, [1.2, 0.0, 1.6, 0.0], rtol=1e-5)


def test_the_noise_has_the_size_that_the_policy_says(tmp_path: Path) -> None:
    """Standard deviation in clip norms, drawn anew for each reply."""
    policy = replace(POLICY, numbers=20_000, noise_multiplier=1.5, epsilon=100.0)
    before = np.zeros(20_000, np.float32)
    asked = [request(weights=before, message_id=name) for name in ("m1", "m2")]
    ledger, generator = Ledger(tmp_path), np.random.default_rng(0)

    first, second = (
        weights_of(release(m, Message(trained(before), reply_to=m), policy, ledger, generator))
        for m in asked
    )

    assert first.std() == pytest.approx(1.5 * 2.0, rel=0.02)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.05


def test_the_hub_gets_the_registered_number_of_cases(ask: Callable[..., Message]) -> None:
    """Rounded, whatever the app counted: a count is a statistic of patients."""
    assert dict(ask(trained(count=1_000_000)).content[METRICS]) == {COUNT: 120}
    assert dict(ask(evaluated(), request("evaluate", message_id="m2")).content[METRICS]) == {
        COUNT: 120,
        LOSS: 0.123457,
    }


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (trained(notes=ConfigRecord({"a": "b"})), "other records"),
        (trained(more=MetricRecord({"age": 80.0})), "other records"),
        (RecordDict({METRICS: MetricRecord({COUNT: 80})}), "other records"),
        (trained(np.ones((2, 2), np.float32)), "float32 \\(2, 2\\)"),
        (trained(np.ones(4, np.float16)), "bytes|float16"),
        (trained(np.ones(5000, np.float32)), "bytes where 16"),
        (trained(np.float32([1, np.inf, 1, 1])), "not finite"),
        (trained(count=4), "fewer cases"),
        (trained(count=[80, 81]), "fewer cases"),
    ],
)
def test_what_the_policy_does_not_name_stays(
    ask: Callable[..., Message], content: RecordDict, what: str
) -> None:
    """And the hub learns why in the guard's words."""
    reply = ask(content)

    assert reply.has_error()
    assert re.search(what, reply.error.reason)


def test_other_metrics_stay(ask: Callable[..., Message]) -> None:
    """A loss beside the weights would be one more statistic."""
    content = trained()
    content[METRICS]["loss"] = 0.5

    assert "other metrics" in ask(content).error.reason


def test_bytes_that_are_no_array_stay(ask: Callable[..., Message]) -> None:
    """They could be anything."""
    content = trained()
    content[ARRAYS][PACKED] = Array("float32", (4,), "numpy.ndarray", b"Mrs Miller, 1938")

    assert "no array" in ask(content).error.reason


@pytest.mark.parametrize("loss", [float("nan"), float("inf"), 1e9, 3, [0.5, 0.6]])
def test_a_loss_that_is_none_stays(ask: Callable[..., Message], loss: object) -> None:
    """A number of any size could carry a message."""
    assert "loss that is none" in ask(evaluated(loss), request("evaluate")).error.reason


def test_losses_stay_where_the_policy_says_so(ask: Callable[..., Message]) -> None:
    """And wherever weights get noise."""
    for policy in (replace(POLICY, share_loss=False), replace(POLICY, noise_multiplier=1.0)):
        assert "at home" in ask(evaluated(), request("evaluate"), policy).error.reason


def test_the_text_of_an_apps_error_stays(tmp_path: Path) -> None:
    """It is the app's, and may hold anything."""

    def app(message: Message, _: Context) -> Message:
        return Message(Error(1, "Mrs Miller has dementia"), reply_to=message)

    context = Context(run_id=1, node_id=7, node_config={}, state=RecordDict(), run_config={})
    generator = np.random.default_rng(0)
    reply = answer(request(), context, POLICY, Ledger(tmp_path), generator, app)

    assert reply.error.reason == "the app failed at this site; its own log says more"


def test_the_reply_is_addressed_by_the_guard(ask: Callable[..., Message]) -> None:
    """The app's own metadata could carry a text, too."""
    reply = ask(trained())

    assert reply.metadata.reply_to_message_id == "m1"
    assert (reply.metadata.src_node_id, reply.metadata.group_id) == (7, "")


# -- what it costs -------------------------------------------------------------------------


def test_a_hub_cannot_ask_more_often_than_the_policy_says(ask: Callable[..., Message]) -> None:
    """Three rounds, and then no more, under whatever name."""
    replies = [ask(trained(), request(message_id=f"m{n}")) for n in range(5)]

    assert [reply.has_error() for reply in replies] == [False] * 3 + [True] * 2
    assert "all that its policy allows" in replies[-1].error.reason


def test_a_message_that_comes_again_gets_the_same_noise(
    ask: Callable[..., Message], tmp_path: Path
) -> None:
    """Otherwise a hub would average it away, by sending one message a thousand times."""
    noisy = replace(POLICY, noise_multiplier=8.0)
    first, second = (ask(trained(), policy=noisy) for _ in range(2))

    np.testing.assert_array_equal(weights_of(first), weights_of(second))
    assert Ledger(tmp_path).read().trained == 1


def test_nothing_leaves_that_cannot_be_written_down(
    ask: Callable[..., Message], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk stops the site instead of the account."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        ask(trained())
