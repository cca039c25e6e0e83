"""Flower's simulation engine with tiny hospitals, and what its hub refuses."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from flwr.app import (
    Array,
    ArrayRecord,
    ConfigRecord,
    Context,
    Message,
    RecordDict,
)
from flwr.supercore.task_identity import TaskIdentity

import federated
from federated import task
from federated.simulate import Federated, simulate
from federated.site.client_app import client_app, site_of
from federated.task import FederationError, Plan
from federated.wire import CONFIG, FINGERPRINT, ROUND
from fusion import checkpoint
from fusion.train import fit

Hospital = Callable[..., Path]

TaskIdentity.run_id = TaskIdentity.task_id = TaskIdentity.node_id = 1  # who writes the messages


def from_hub(plan: Plan, kind: str, **config: object) -> Message:
    """A message as the hub writes it."""
    settings = {FINGERPRINT: plan.fingerprint, ROUND: 1, **config}
    packed = Array(task.pack(task.new_network(plan)))
    content = {"arrays": ArrayRecord({"packed": packed}), CONFIG: ConfigRecord(settings)}
    return Message(RecordDict(content), dst_node_id=7, message_type=kind)


def node(**config: object) -> Context:
    """A node with a configuration and no memory yet."""
    return Context(run_id=1, node_id=7, node_config=config, state=RecordDict(), run_config={})


@dataclass(frozen=True)
class Finished:
    """A federation of three hospitals that has run."""

    plan: Plan
    sites: list[Path]
    out: Path
    result: Federated


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, make_site: Hospital, plan: Plan) -> Finished:
    """Three hospitals, two rounds, through Flower and Ray."""
    root, names = tmp_path_factory.mktemp("federation"), ("north", "south", "west")
    sites = [make_site(root / name, seed=n) for n, name in enumerate(names)]
    out = root / "out"
    return Finished(plan, sites, out, simulate(sites, out, plan=plan, rounds=2))


def test_flower_reports_to_nobody() -> None:
    """Its telemetry is off before it can be imported."""
    assert federated.__name__
    assert os.environ["FLWR_TELEMETRY_ENABLED"] == "0"


def test_three_hospitals_learn_together(finished: Finished) -> None:
    """Each round's loss on the hospitals' validation cases is reported, and falls."""
    losses = finished.result.rounds

    assert len(losses) == 2
    assert losses[1] < losses[0]


def test_every_round_is_kept(finished: Finished) -> None:
    """Weights before the first round and after each."""
    kept = [task.pack(task.load_round(finished.plan, finished.out, n)) for n in range(3)]

    np.testing.assert_array_equal(kept[0], task.pack(task.new_network(finished.plan)))
    assert all(np.abs(a - b).max() > 1e-4 for a, b in pairwise(kept))


def test_a_round_is_the_mean_over_hospitals_by_their_cases(finished: Finished) -> None:
    """What came through Flower and Ray equals training here and clipping and averaging by hand."""
    plan = finished.plan
    cases = [task.site_cases(site, plan) for site in finished.sites]
    trained = [task.train(task.new_network(plan), c, plan, current_round=1) for c in cases]
    start = task.pack(task.new_network(plan))
    norms = [np.linalg.norm(weights - start) for weights in trained]
    clipped = [
        start + (weights - start) * min(1.0, np.median(norms) / norm)
        for weights, norm in zip(trained, norms, strict=True)
    ]
    by_hand = np.average(clipped, axis=0, weights=[len(c.train) for c in cases])

    averaged = task.pack(task.load_round(plan, finished.out, 1))

    np.testing.assert_allclose(averaged, by_hand, rtol=0, atol=1e-5)


def test_each_hospital_gets_a_model_it_can_use(finished: Finished) -> None:
    """The same network, calibrated on the hospital's own cases, with the encoder it needs."""
    made = [checkpoint.load(m, finished.plan.text_encoder) for m in finished.result.models]

    assert [m.name for m in finished.result.models] == ["1-north", "2-south", "3-west"]
    np.testing.assert_array_equal(task.pack(made[0].model), task.pack(made[2].model))
    assert made[0].calibrator.to_json() != made[1].calibrator.to_json()


def test_the_settings_of_ray_do_not_outlive_the_simulation(finished: Finished) -> None:
    """A token that stayed in the environment would reach every later child process."""
    assert finished.result
    assert not [name for name in os.environ if name.startswith("RAY_AUTH")]


def test_a_federation_of_one_is_plain_training(
    hospital: Hospital, plan: Plan, tmp_path: Path
) -> None:
    """One site, one round, through Flower: the weights of training without a federation."""
    site = hospital("north")
    plain = task.new_network(plan)
    fit(plain, task.site_cases(site, plan).train, (), plan.train)

    simulate([site], tmp_path / "out", plan=plan, rounds=1)

    federated_weights = task.pack(task.load_round(plan, tmp_path / "out", 1))
    np.testing.assert_allclose(federated_weights, task.pack(plain), rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_site_that_fails_ends_the_simulation(
    hospital: Hospital, plan: Plan, tmp_path: Path
) -> None:
    """An average that silently lacks a hospital would be read as one that has it."""
    diverging = replace(plan, train=replace(plan.train, learning_rate=1e30))

    with pytest.raises(FederationError, match="round 1: 0 usable replies where 1"):
        simulate([hospital("north")], tmp_path / "out", plan=diverging, rounds=1)


def test_a_reply_holds_packed_weights_and_a_count(hospital: Hospital, plan: Plan) -> None:
    """Nothing else leaves the hospital in training: no ids, no labels, no statistics."""
    site = hospital("north")

    reply = client_app(plan, [site])(from_hub(plan, "train"), node(**{"partition-id": 0}))

    assert set(reply.content) == {"arrays", "metrics"}
    assert set(reply.content["arrays"]) == {"packed"}
    assert reply.content["arrays"]["packed"].shape == (task.layout(task.new_network(plan)).size,)
    assert dict(reply.content["metrics"]) == {"num-examples": 12}


def test_a_reply_to_evaluation_holds_a_count_and_a_loss(hospital: Hospital, plan: Plan) -> None:
    """A real node names its site itself."""
    app, here = client_app(plan), node(site=str(hospital("north")))

    reply = app(from_hub(plan, "evaluate"), here)

    assert set(reply.content) == {"metrics"}
    assert set(reply.content["metrics"]) == {"num-examples", "loss"}


def test_a_hub_cannot_name_the_folder(hospital: Hospital, plan: Plan) -> None:
    """The site's folder comes from its own configuration, whatever a message says."""
    message = from_hub(plan, "train", site=str(hospital("north")))

    with pytest.raises(FederationError, match="this node has no site"):
        client_app(plan)(message, node())


def test_a_hub_with_another_plan_is_refused(hospital: Hospital, plan: Plan) -> None:
    """Weights of another network or for other labels must not be trained on here."""
    other = replace(plan, model=replace(plan.model, heads=4))

    with pytest.raises(FederationError, match="another plan"):
        client_app(plan)(from_hub(other, "train"), node(site=str(hospital("north"))))


@pytest.mark.parametrize("named", [0, -3, 10**9, "1", 1.5])
def test_a_round_that_is_no_round_is_refused(hospital: Hospital, plan: Plan, named: object) -> None:
    """It seeds the training."""
    message = from_hub(plan, "train", **{ROUND: named})

    with pytest.raises(FederationError, match="named a round"):
        client_app(plan)(message, node(site=str(hospital("north"))))


def test_the_hub_learns_of_an_unforeseen_error_only_its_type(plan: Plan, tmp_path: Path) -> None:
    """The text of an error may hold a path or worse."""
    app, here = client_app(plan), node(site=str(tmp_path / "Mrs Miller"))

    with pytest.raises(FederationError, match=r"\(SiteError\)") as refused:
        app(from_hub(plan, "train"), here)

    assert "Miller" not in str(refused.value)


def test_partitions_are_hospitals() -> None:
    """And a partition beyond the list is none."""
    sites = [Path("north"), Path("south")]

    assert site_of({"partition-id": 0}, sites) == sites[0]
    with pytest.raises(FederationError, match="no site"):
        site_of({"partition-id": 2}, sites)


@pytest.mark.parametrize(("names", "rounds"), [([], 3), (["a", "a"], 3), (["a"], 0)])
def test_a_federation_that_makes_no_sense_is_refused(
    tmp_path: Path, names: list[str], rounds: int
) -> None:
    """Said before Ray is started."""
    with pytest.raises(FederationError, match=r"each once|rounds must be"):
        simulate([tmp_path / name for name in names], tmp_path / "out", rounds=rounds)
