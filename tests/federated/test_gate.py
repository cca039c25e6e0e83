"""The gate in one process, the app in its cage in another: what the cage holds, and what passes."""

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from deployment import wait_for
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.fab import Fab
from flwr.supercore.task_identity import TaskIdentity

from federated import keys, task
from federated.bundle import APP, app_bundle
from federated.files import PLAN, private_folder
from federated.plan_file import write_plan
from federated.site import gate
from federated.site.join import _nursery, policy_for
from federated.site.policy import STATE, read_policy, write_policy
from federated.site.received import read_received
from federated.task import Plan
from federated.wire import ARRAYS, CONFIG, FINGERPRINT, PACKED, ROUND

Hospital = Callable[..., Path]

# Tries to get out in every way it can think of, and tells by the weights which ones worked.
ESCAPE = """
import os, socket
from pathlib import Path
import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

def worked(what):
    try:
        return bool(what())
    except OSError:
        return False

@app.train()
def train(message, context):
    site = Path(context.node_config["site"])
    tries = [
        lambda: socket.create_connection(("127.0.0.1", context.node_config["port"]), 5),
        lambda: list((site / "federation").iterdir()),
        lambda: (site / "federation" / "ledger.json").write_text("{}"),
        lambda: (site / "federation.toml").write_text("epsilon = 1e9"),
        lambda: (site / "federation.toml").unlink() or True,
        lambda: (site / "plan.json").write_text("{}"),
        lambda: Path(context.node_config["program"]).write_text("import os"),
        lambda: (Path.home() / "notes").write_text("x"),
        lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        lambda: "CONSILIUM_SITE" in os.environ,
        lambda: (Path(os.environ["TMPDIR"]) / "scratch").write_text("x"),
    ]
    weights = message.content["arrays"]["packed"].numpy().copy()
    weights[:len(tries)] += [0.25 if worked(what) else 0.0 for what in tries]
    content = {"arrays": ArrayRecord({"packed": Array(weights)}),
               "metrics": MetricRecord({"num-examples": 30})}
    return Message(RecordDict(content), reply_to=message)
"""
HARMLESS = (7, 10)  # its own home and scratch folder, which are thrown away


@pytest.fixture
def site(hospital: Hospital, plan: Plan) -> Path:
    """A hospital that has joined."""
    folder = hospital("north")
    write_plan(plan, folder / PLAN)
    keys.make_site_key(private_folder(folder / STATE))
    write_policy(folder, policy_for(folder, "hub.example.org:9092", plan))
    return folder


@pytest.fixture(params=["started anew", "forked"])
def started(
    request: pytest.FixtureRequest, site: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """Both ways in which an app comes to life."""
    if request.param == "started anew":
        yield request.param
        return
    if sys.platform != "linux":
        pytest.skip("apps are forked on Linux only")
    with _nursery(site, site / "nursery.log") as door:
        wait_for(door.exists, "the nursery")
        monkeypatch.setenv(gate.NURSERY, str(door))
        monkeypatch.setattr(gate, "_heard", lambda *_: pytest.fail("it was started anew"))
        yield request.param


def asked(plan: Plan, kind: str = "train") -> Message:
    """A request of the hub."""
    TaskIdentity.run_id = TaskIdentity.task_id = 1
    TaskIdentity.node_id = 1
    told = ConfigRecord({FINGERPRINT: plan.fingerprint, ROUND: 1})
    packed = ArrayRecord({PACKED: Array(task.pack(task.new_network(plan)))})
    message = Message(RecordDict({ARRAYS: packed, CONFIG: told}), 7, kind, group_id="1")
    message.metadata.__dict__["_message_id"] = message.object_id
    return message


def node(site: Path, **more: str | int) -> Context:
    """The node of a site."""
    config = {"site": str(site), **more}
    return Context(run_id=1, node_id=7, node_config=config, state=RecordDict(), run_config={})


def other_app(folder: Path, code: str) -> Fab:
    """An app with a client of its own."""
    shutil.copytree(APP, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "consiliumapp" / "client.py").write_text(code)
    return app_bundle(folder)


def allow(site: Path, fab: Fab) -> None:
    """Let an app run at a site."""
    write_policy(site, replace(read_policy(site), allowed_apps=(fab.hash_str,)))


@pytest.mark.usefixtures("started")
def test_the_app_trains_in_its_cage_as_anywhere_else(site: Path, plan: Plan) -> None:
    """Gate, cage and guard change nothing of an update that is within the policy."""
    reply, _ = gate.answer(asked(plan), node(site), app_bundle(), site)

    cases = task.site_cases(site, plan)
    learnt = task.train(task.new_network(plan), cases, plan, current_round=1)
    assert not reply.has_error()
    np.testing.assert_allclose(reply.content[ARRAYS][PACKED].numpy(), learnt, rtol=0, atol=1e-5)
    assert dict(reply.content["metrics"]) == {"num-examples": 20}
    assert read_received(site).round == 0


@pytest.mark.usefixtures("started")
@pytest.mark.skipif(sys.platform != "linux", reason="namespaces are Linux's")
def test_nothing_leaves_the_cage_but_the_answer(
    site: Path, plan: Plan, tmp_path: Path, unused_port: int
) -> None:
    """No network, no key, no ledger, no policy, no program, no look at the gate."""
    fab = other_app(tmp_path / "escape", ESCAPE)
    allow(site, fab)
    before = {p: p.read_bytes() for p in (site / "federation.toml", site / PLAN)}
    program = tmp_path / "program.py"
    program.write_text("")

    context = node(site, port=unused_port, program=str(program))
    reply, _ = gate.answer(asked(plan), context, fab, site)

    assert not reply.has_error(), reply.error.reason
    moved = reply.content[ARRAYS][PACKED].numpy() - task.pack(task.new_network(plan))
    worked = set(np.flatnonzero(moved > 0.1).tolist())
    assert worked == set(HARMLESS)
    assert before == {p: p.read_bytes() for p in before}


@pytest.fixture
def unused_port():  # type: ignore[no-untyped-def]
    """A port of the loopback interface on which somebody listens."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_an_app_that_is_not_allowed_is_not_even_unpacked(
    site: Path, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code never runs."""
    monkeypatch.setattr(gate, "_caged", lambda *_: pytest.fail("the app was run"))

    reply, _ = gate.answer(asked(plan), node(site), other_app(tmp_path / "x", "import os"), site)

    assert reply.has_error()
    assert "does not allow" in str(reply.error.reason)


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import os; os._exit(3)", "did not answer"),
        ("raise ValueError('Mrs Miller')", "did not answer"),
        ("import os, sys; os.write(1, b'Mrs Miller')", "did not answer"),
    ],
    ids=["dies", "cannot be loaded", "talks"],
)
@pytest.mark.usefixtures("started")
def test_the_hub_learns_nothing_of_how_an_app_fails(
    site: Path, plan: Plan, tmp_path: Path, code: str, why: str
) -> None:
    """One sentence of ours, whatever it says itself."""
    fab = other_app(tmp_path / "fails", code)
    allow(site, fab)

    reply, _ = gate.answer(asked(plan), node(site), fab, site)

    assert reply.has_error()
    assert why in str(reply.error.reason) or "app failed" in str(reply.error.reason)
    assert "Miller" not in str(reply.error.reason)


@pytest.mark.skipif(sys.platform != "linux", reason="apps are forked on Linux only")
def test_an_app_that_does_not_end_is_ended_and_the_next_one_answers(
    site: Path, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its gate hangs up after its time; the process it was forked from goes on."""
    endless = other_app(tmp_path / "endless", "while True: pass")
    with _nursery(site, tmp_path / "log") as door:
        wait_for(door.exists, "the nursery")
        monkeypatch.setenv(gate.NURSERY, str(door))
        allow(site, endless)
        with monkeypatch.context() as hasty:
            hasty.setattr(gate, "WORK_S", 2.0)
            late, _ = gate.answer(asked(plan), node(site), endless, site)
        allow(site, app_bundle())
        reply, _ = gate.answer(asked(plan), node(site), app_bundle(), site)

    assert "did not answer" in str(late.error.reason)
    assert not reply.has_error()


def test_on_a_full_disk_nothing_leaves(
    site: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be written down is not released; the next round finds the ledger as it was."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("federated.site.ledger.os.fsync", full)
    request = asked(plan)
    monkeypatch.setattr(gate, "_caged", lambda *a: _trained(a[-2]))
    monkeypatch.setattr(gate, "keep", lambda *_: None)

    reply, _ = gate.answer(request, node(site), app_bundle(), site)
    monkeypatch.undo()

    assert reply.has_error()
    assert "(OSError)" in str(reply.error.reason)
    assert gate.Ledger(site).read().trained == 0


def _trained(request: Message) -> Message:
    """What a well-behaved app answers."""
    from federated.site.guard import trained
    from federated.site.policy import SitePolicy

    packed = request.content[ARRAYS][PACKED].numpy()
    return Message(trained(packed, SitePolicy(cases=20)), reply_to=request)
