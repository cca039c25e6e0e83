"""The hub sees the sum; the sites see to it that it is one."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict

from federated.hub.secure_sum import SecureFedAvg
from federated.hub.strategies import Registered, Rules, strategy
from federated.in_process import InProcessGrid, Node, Way
from federated.site.ledger import Ledger
from federated.site.policy import SitePolicy
from federated.site.secure import answer
from federated.task import FederationError, Layout
from federated.wire import ARRAYS, CLIPPING, COUNT, FINGERPRINT, METRICS, MODULUS, PACKED, STEPS

SIZE = 50
POLICY = SitePolicy(plan="a" * 64, numbers=SIZE, cases=100, clip_norm=100.0)
RULES = Rules(
    Layout(("weight",), ((SIZE,),)),
    {n: Registered(f"site{n}", 100 * (n - 6)) for n in (7, 8, 9, 10)},
)
TOLD = ConfigRecord({FINGERPRINT: "a" * 64})
SETUP = {
    "stage": "setup", "sample_num": 4, "share_num": 4, "threshold": 3, "max_weight": 500.0,
    "clipping_range": CLIPPING, "target_range": STEPS, "mod_range": MODULUS,
}  # fmt: skip


def first() -> ArrayRecord:
    """The weights before the round."""
    return ArrayRecord({PACKED: Array(np.linspace(-1, 1, SIZE, dtype=np.float32))})


def trainer(node: int, length: float = 1.0) -> Callable[[Message, Context], Message]:
    """An app whose training is a random step of its own, and that shows what it was given."""

    def app(message: Message, context: Context) -> Message:
        assert not context.state.config_records, "the app must not see the keys"
        before = message.content[ARRAYS][PACKED].numpy()
        step = np.random.default_rng(node).normal(size=SIZE).astype(np.float32) * length
        content = {
            ARRAYS: ArrayRecord({PACKED: Array(before + step)}),
            METRICS: MetricRecord({COUNT: 100}),
        }
        return Message(RecordDict(content), reply_to=message)

    return app


def sites(folder: Path, ways: dict[int, Way] | None = None, **policy: object) -> InProcessGrid:
    """Four sites behind their guards."""
    nodes = {}
    for n, known in RULES.registered.items():
        (folder / str(n)).mkdir(exist_ok=True)
        mine = replace(POLICY, **{"cases": known.cases, **policy})
        nodes[n] = Node(trainer(n), {}, mine, folder / str(n), (ways or {}).get(n, Node.way))
    return InProcessGrid(nodes)


def one_round(grid: InProcessGrid, hub: object) -> np.ndarray:
    """Weights after one round."""
    assert isinstance(hub, SecureFedAvg) or hasattr(hub, "train_round")
    return hub.train_round(grid, 1, first(), TOLD, 5.0)[PACKED].numpy()


def losing(stage: str) -> Way:
    """A site that is lost from one step on."""
    steps = iter(("setup", "share_keys", "collect_masked_vectors", "unmask"))
    gone: list[bool] = []

    def way(_: Message, reply: Message) -> tuple[Message, ...]:
        if next(steps, None) == stage:
            gone.append(True)
        return () if gone else (reply,)

    return way


def test_the_sum_is_that_of_plain_averaging(tmp_path: Path) -> None:
    """Masks come off, counts weigh, and rounding costs less than a thousandth."""
    (tmp_path / "plain").mkdir()
    plain = one_round(sites(tmp_path / "plain"), strategy("fedavg", replace(RULES, clip=False)))

    summed = one_round(sites(tmp_path), SecureFedAvg(RULES))

    np.testing.assert_allclose(summed, plain, rtol=0, atol=1e-3)


def test_no_message_holds_a_sites_weights(tmp_path: Path) -> None:
    """What a site sends in the step that carries weights is as good as random."""
    sent: list[np.ndarray] = []

    def listening(request: Message, reply: Message) -> tuple[Message, ...]:
        masked = reply.content.config_records["secaggplus_configs"].get("masked_params")
        if masked:
            sent.extend(np.load(io.BytesIO(part)) for part in masked)
        assert not any(record for record in reply.content.array_records.values())
        return (reply,)

    one_round(sites(tmp_path, {7: listening}), SecureFedAvg(RULES))

    numbers = next(part for part in sent if part.size == SIZE)
    true = np.linspace(-1, 1, SIZE) + np.random.default_rng(7).normal(size=SIZE)
    assert abs(np.corrcoef(numbers, true)[0, 1]) < 0.5
    assert numbers.max() > STEPS


@pytest.mark.parametrize("stage", ["setup", "share_keys", "collect_masked_vectors"])
def test_one_site_may_be_lost_on_the_way(tmp_path: Path, stage: str) -> None:
    """Its masks are put together from the others' shares; the average is that of the rest."""
    grid = sites(tmp_path, {8: losing(stage)})
    hub = SecureFedAvg(RULES)

    summed = one_round(grid, hub)

    steps = [np.random.default_rng(n).normal(size=SIZE) for n in (7, 9, 10)]
    expected = np.linspace(-1, 1, SIZE) + np.average(steps, axis=0, weights=[100, 300, 400])
    np.testing.assert_allclose(summed, expected, rtol=0, atol=1e-3)
    assert hub.named[1] == ["site site8 did not finish secure aggregation"]


def test_too_few_sites_leave_no_sum(tmp_path: Path) -> None:
    """Half of them could not protect the others."""
    ways = {n: losing("collect_masked_vectors") for n in (8, 9)}

    with pytest.raises(FederationError, match="secure aggregation ended"):
        one_round(sites(tmp_path, ways), SecureFedAvg(RULES))


def test_an_update_is_clipped_before_it_is_masked(tmp_path: Path) -> None:
    """Nobody could do it afterwards, and the app is not asked to."""
    before = np.linspace(-1, 1, SIZE)

    summed = one_round(sites(tmp_path, clip_norm=0.5), SecureFedAvg(RULES))

    assert np.linalg.norm(summed - before) <= 0.5 + 1e-3
    assert Ledger(tmp_path / "7").read().trained == 1


def test_a_site_may_insist_on_it_or_refuse(tmp_path: Path) -> None:
    """The policy says which; the others go on without it."""
    (tmp_path / "never").mkdir()
    (tmp_path / "required").mkdir()

    with pytest.raises(FederationError, match="ended with 0 sites"):
        one_round(sites(tmp_path / "never", secure_aggregation="never"), SecureFedAvg(RULES))
    plain = strategy("fedavg", RULES)
    with pytest.raises(FederationError, match="0 usable"):
        one_round(sites(tmp_path / "required", secure_aggregation="required"), plain)
    assert "only adds to a secure sum" in plain.named[1][0]


def step(folder: Path, told: dict[str, object], context: Context | None = None) -> Message:
    """One site's answer to one step."""
    InProcessGrid({})
    context = context or Context(
        run_id=1, node_id=7, node_config={}, state=RecordDict(), run_config={}
    )
    content = RecordDict({"secaggplus_configs": ConfigRecord(told)})
    message = Message(content, dst_node_id=7, message_type="train", group_id="1")
    return answer(message, context, POLICY, Ledger(folder), np.random.default_rng(0), trainer(7))


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"sample_num": 1}, "too few sites"),
        ({"threshold": 2}, "a half of them could unmask one"),
        ({"clipping_range": 1e-9}, "other steps"),
        ({"target_range": 2**30}, "other steps"),
        ({"max_weight": 1.0}, "largest weight"),
    ],
)
def test_a_set_up_that_would_not_protect_is_refused(
    tmp_path: Path, changed: dict[str, object], what: str
) -> None:
    """A hub cannot bargain the protection down."""
    assert not step(tmp_path, SETUP).has_error()
    assert what in step(tmp_path, {**SETUP, **changed}).error.reason


@pytest.mark.parametrize(
    ("active", "dead", "what"),
    [
        ([7, 8, 9], [9], "names a site twice"),
        ([7, 8, 8], [], "names a site twice"),
        ([8, 9], [7], "names a site twice"),
        ([7], [8, 9], "too few for a secure sum"),
    ],
)
def test_a_hub_cannot_ask_for_both_halves_of_a_mask(
    tmp_path: Path, active: list[int], dead: list[int], what: str
) -> None:
    """Flower's own site would give them, and its neighbour's weights with them."""
    told = {"stage": "unmask", "active_nids": active, "dead_nids": dead}

    assert what in step(tmp_path, told).error.reason


def test_steps_out_of_order_are_refused(tmp_path: Path) -> None:
    """In the guard's words; Flower's own might hold more."""
    told = {"stage": "unmask", "active_nids": [7, 8], "dead_nids": []}

    assert "secure aggregation failed here (ValueError)" in step(tmp_path, told).error.reason
