"""A hub and three hospitals as separate processes of this machine, with TLS and keys."""

import shutil
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from deployment import Federation, errors, finished, new_federation, wait_for

from federated import task
from federated.bundle import APP
from federated.hub import runs
from federated.hub.folder import online
from federated.hub.front import read_traffic
from federated.hub.runs import Run
from federated.progress import read_progress
from federated.site.policy import read_policy
from federated.task import Plan

Hospital = Callable[..., Path]
NAMES = ("north", "south", "west")

pytestmark = pytest.mark.timeout(900)  # on a machine that does much else; else about a minute

CHEAT = """
import numpy as np
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict, Message
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def train(message, context):
    weights = message.content["arrays"]["packed"].numpy() + np.float32(1000.0)
    content = {"arrays": ArrayRecord({"packed": Array(weights)}),
               "metrics": MetricRecord({"num-examples": 10**9})}
    return Message(RecordDict(content), reply_to=message)
"""


@pytest.fixture(scope="module")
def federation(
    tmp_path_factory: pytest.TempPathFactory, make_site: Hospital, plan: Plan
) -> Iterator[Federation]:
    """A hub, three sites that are there, and one that nobody registered."""
    root = tmp_path_factory.mktemp("deployment")
    made = new_federation(root, plan)
    try:
        for n, name in enumerate(NAMES):
            made.add_site(name, make_site(root / name, seed=n))
            made.start_site(name)
        made.add_site("stranger", make_site(root / "stranger", seed=9), known=False)
        made.start_site("stranger")
        wait_for(lambda: online(made.hub) == set(NAMES), "the sites")
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def trained(federation: Federation) -> Run:
    """Two rounds."""
    run = runs.start_run(federation.hub, rounds=2, min_sites=3)
    over = finished(federation.hub, run)
    assert over.outcome == "completed", errors(over)
    return over


def test_three_hospitals_train_together(trained: Run) -> None:
    """Each round has all three, and a loss."""
    reports = read_progress(trained.folder)

    assert [report.sites for report in reports] == [NAMES, NAMES]
    assert all(report.loss is not None and not report.remarks for report in reports)


def test_a_round_is_the_mean_of_what_each_hospital_learnt(
    federation: Federation, trained: Run, plan: Plan
) -> None:
    """What came through keys, gate and cage equals training here and averaging by hand."""
    cases = [task.site_cases(federation.sites[name], plan) for name in NAMES]
    learnt = [task.train(task.new_network(plan), c, plan, current_round=1) for c in cases]
    start = task.pack(task.new_network(plan))
    norms = [np.linalg.norm(update - start) for update in learnt]

    averaged = task.pack(task.load_round(plan, trained.folder, 1))

    clipped = [
        start + (update - start) * min(1.0, np.median(norms) / norm)
        for update, norm in zip(learnt, norms, strict=True)
    ]
    np.testing.assert_allclose(averaged, np.mean(clipped, axis=0), rtol=0, atol=1e-5)


def test_bytes_are_counted_on_the_wire(federation: Federation, trained: Run, plan: Plan) -> None:
    """A round carries the weights down twice and up once, and little else."""
    numbers = 4 * task.layout(task.new_network(plan)).size
    report = read_progress(trained.folder)[1]

    assert set(report.traffic) == set(NAMES)
    spare = 60_000 + 1_500 * report.seconds  # a site asks every three seconds, and signs each time
    for up, down in report.traffic.values():
        assert numbers < up < numbers + spare
        assert numbers < down < 2 * numbers + spare
    assert read_traffic(federation.hub.folder)["north"].up > numbers


def test_a_key_that_nobody_registered_is_refused(federation: Federation) -> None:
    """It gets no further than the front, and its administrator is told what to do."""
    wait_for(lambda: federation.processes["stranger"].poll() is not None, "the refusal")

    assert "does not know this site's key" in federation.said("stranger")
    assert "stranger" not in online(federation.hub)


@pytest.mark.parametrize(
    "path",
    [
        "control/start-run", "control/register-node", "control/list-nodes", "runtime/acquire-task",
        "fleet/register-node", "fleet/../control/start-run", "fleet/%2e%2e/control/start-run",
    ],
)  # fmt: skip
def test_from_outside_nobody_can_start_a_run_or_register_a_key(
    federation: Federation, path: str
) -> None:
    """Flower's control interface asks for no password, so it must not be there."""
    with _outside(federation) as client:
        answer = client.post(f"https://127.0.0.1:{federation.port}/v1/{path}", content=b"")

    assert answer.status_code in (404, 405)


def test_a_request_without_a_registered_key_is_refused(federation: Federation) -> None:
    """Before the SuperLink hears of it."""
    with _outside(federation) as client:
        answer = client.post(
            f"https://127.0.0.1:{federation.port}/v1/fleet/pull-messages",
            headers={"flwr-public-key": "nobody"}, content=b"",
        )  # fmt: skip

    assert answer.status_code == 409


def test_a_hospital_gets_what_was_learnt(federation: Federation, trained: Run, plan: Plan) -> None:
    """The last average reached it, and becomes a model calibrated on its own cases."""
    from federated.site.join import take_model
    from fusion import checkpoint

    out = federation.folder / "model of north"

    take_model(federation.sites["north"], out)

    made = checkpoint.load(out, plan.text_encoder)
    model, card = made.model, made.card
    assert sum(card.notes["cases_by_part"].values()) == 24  # so that evaluate finds the unseen
    averaged = task.pack(task.load_round(plan, trained.folder, 2))
    np.testing.assert_array_equal(task.pack(model), averaged)


def test_the_hub_can_do_with_the_sum_alone(federation: Federation, plan: Plan) -> None:
    """Masked, over the same line: the average of what each learnt, clipped by its own policy."""
    over = finished(
        federation.hub, runs.start_run(federation.hub, rounds=1, secure=True, min_sites=3)
    )
    assert over.outcome == "completed", errors(over)
    cases = [task.site_cases(federation.sites[name], plan) for name in NAMES]
    learnt = [task.train(task.new_network(plan), c, plan, current_round=1) for c in cases]
    start, clip = (
        task.pack(task.new_network(plan)),
        read_policy(federation.sites["north"]).clip_norm,
    )

    averaged = task.pack(task.load_round(plan, over.folder, 1))

    norms = [float(np.linalg.norm(update - start)) for update in learnt]
    wanted = [
        start + (update - start) * min(1.0, clip / norm)
        for update, norm in zip(learnt, norms, strict=True)
    ]
    np.testing.assert_allclose(averaged, np.mean(wanted, axis=0), rtol=0, atol=1e-4)
    assert read_progress(over.folder)[0].sites == NAMES


def test_an_app_of_another_hash_is_refused_by_every_site(
    federation: Federation, trained: Run
) -> None:
    """Whatever the hub starts: nothing of it is even unpacked."""
    over = finished(federation.hub, _cheat(federation))

    assert over.outcome == "failed"
    assert "0 usable replies" in errors(over)[-1]
    assert "does not allow" in federation.said("north")
    assert not list((federation.sites["north"] / "federation/flower/apps").glob("*"))


def test_an_app_without_protection_cannot_send_more_than_the_policy_allows(
    federation: Federation, trained: Run, plan: Plan
) -> None:
    """It adds 1000 to every weight and claims a billion cases; the gate clips, outside of it."""
    from federated.bundle import app_bundle
    from federated.site.policy import write_policy

    allowed = app_bundle(_cheating_app(federation)).hash_str
    for name in NAMES:
        policy = read_policy(federation.sites[name])
        write_policy(federation.sites[name], _also(policy, allowed))

    over = finished(federation.hub, _cheat(federation))

    before = task.pack(task.new_network(plan))
    after = task.pack(task.load_round(plan, over.folder, 1))
    clip = read_policy(federation.sites["north"]).clip_norm
    assert 0.9 * clip < np.linalg.norm(after - before) <= clip * (1 + 1e-4)


def _also(policy, app):  # type: ignore[no-untyped-def]
    """A policy that allows one app more."""
    from dataclasses import replace

    return replace(policy, allowed_apps=(*policy.allowed_apps, app))


def _outside(federation: Federation) -> httpx.Client:
    """Somebody with the hub's certificate and nothing else."""
    trusted = ssl.create_default_context(cafile=str(federation.hub.folder / "hub-ca.crt"))
    return httpx.Client(verify=trusted, timeout=30.0)


def _cheating_app(federation: Federation) -> Path:
    """An app that has no protection at all."""
    app = federation.folder / "cheat"
    if not app.exists():
        shutil.copytree(APP, app)
        (app / "consiliumapp" / "client.py").write_text(CHEAT)
    return app


def _cheat(federation: Federation) -> Run:
    """A training of one round with it."""
    return runs.start_run(
        federation.hub, rounds=1, min_sites=3, tries=1, app=_cheating_app(federation)
    )
