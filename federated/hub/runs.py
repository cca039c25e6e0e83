"""Start, stop, resume and watch a training at a running hub."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import ListRunsRequest, StartRunRequest, StopRunRequest

from federated.bundle import APP, app_bundle
from federated.errors import FederationError
from federated.hub.folder import TRAININGS, Hub, control
from federated.progress import PROGRESS, Patience, RoundReport, last_round, read_progress
from federated.wire import MAX_ROUNDS

FINISHED = "finished"  # Flower's word for a run that is over, however it ended
LOOK_S = 1.0  # between looks at a run that is watched


@dataclass(frozen=True)
class Run:
    """A training as Flower runs it.

    Attributes:
        run_id: Flower's.
        state: pending, starting, running or finished.
        outcome: completed, failed or stopped, once it is finished.
        folder: Of the training at the hub.
        details: What Flower says of a failure.
    """

    run_id: int
    state: str
    outcome: str
    folder: Path
    details: str = ""


def start_run(
    hub: Hub,
    *,
    rounds: int,
    strategy: str = "fedavg",
    secure: bool = False,
    resume: bool = False,
    min_sites: int = 2,
    tries: int = Patience.tries,
    app: Path = APP,
) -> Run:
    """Start a training, or go on with the last one.

    Args:
        hub: A running one.
        rounds: Of the whole training, those done before included.
        strategy: Name in `federated.hub.strategies.STRATEGIES`.
        secure: Whether the hub sees only the sum of the updates.
        resume: Go on from the last round that was kept.
        min_sites: Without which a round is not averaged.
        tries: Of a round, before the training ends.
        app: Folder of the Flower app; sites refuse any but the one they allow.

    Raises:
        FederationError: The hub does not run, a training runs already, or there is nothing to do.
    """
    if not 1 <= rounds <= MAX_ROUNDS:
        raise FederationError(f"--rounds must be between 1 and {MAX_ROUNDS}, not {rounds}")
    _check_free(hub)
    folder = _folder(hub, rounds, resume=resume)
    return _start(hub, folder, rounds, strategy, min_sites, tries, app, secure=secure)


def start_evaluation(hub: Hub, app: Path = APP) -> Run:
    """Have the sites score the last training's last round; see `federated.evaluation`.

    Args:
        hub: A running one.
        app: Folder of the Flower app.

    Raises:
        FederationError: The hub does not run, a training runs, or there was none.
    """
    _check_free(hub)
    if not (done := hub.trainings):
        raise FederationError("there is no training to score; leave --evaluate out")
    return _start(hub, done[-1], 0, "fedavg", 1, 1, app, secure=False)


def _check_free(hub: Hub) -> None:
    """Refuse to start anything while something runs.

    Raises:
        FederationError: A training runs.
    """
    if any(run.state != FINISHED for run in list_runs(hub)):
        raise FederationError(
            f"a training runs already; `consilium federate {hub.folder} --watch` shows it, "
            "--stop ends it"
        )


def _start(
    hub: Hub, folder: Path, rounds: int, strategy: str, min_sites: int, tries: int, app: Path,
    *, secure: bool,
) -> Run:  # fmt: skip
    """Have Flower run the app."""
    config: dict[str, bool | float | int | str] = {
        "folder": folder.name, "rounds": rounds, "strategy": strategy,
        "secure": secure, "min-sites": min_sites, "tries": tries,
    }  # fmt: skip
    request = StartRunRequest(
        fab=fab_to_proto(app_bundle(app)), override_config=user_config_to_proto(config)
    )
    with control(hub) as client:
        answer = client.StartRun(request)
    return Run(answer.run_id, "pending", "", folder)


def _folder(hub: Hub, rounds: int, *, resume: bool) -> Path:
    """Folder of a new training, or of the last one that has rounds left to do."""
    done = hub.trainings
    if not resume:
        folder = hub.folder / TRAININGS / f"{len(done) + 1:03}"
        folder.mkdir(parents=True)
        return folder
    if not done:
        raise FederationError("there is no training to resume; leave --resume out")
    if last_round(done[-1]) >= rounds:
        raise FederationError(
            f"training {done[-1].name} has {last_round(done[-1])} rounds already; "
            "ask for more with --rounds, or leave --resume out to begin anew"
        )
    return done[-1]


def list_runs(hub: Hub) -> list[Run]:
    """All runs the SuperLink knows, the latest last."""
    with control(hub) as client:
        told = client.ListRuns(ListRunsRequest()).run_dict
    found = []
    for run_id in sorted(told, key=lambda n: told[n].pending_at):
        run = told[run_id]
        name = run.override_config["folder"].string
        status, folder = run.status, hub.folder / TRAININGS / name
        found.append(Run(run_id, status.status, status.sub_status, folder, status.details))
    return found


def latest_run(hub: Hub) -> Run:
    """The run that was started last.

    Raises:
        FederationError: There was none.
    """
    if not (found := list_runs(hub)):
        raise FederationError("no training was started at this hub; leave --watch out")
    return found[-1]


def stop_runs(hub: Hub) -> int:
    """Stop what runs; how many that were."""
    going = [run for run in list_runs(hub) if run.state != FINISHED]
    with control(hub) as client:
        for run in going:
            client.StopRun(StopRunRequest(run_id=run.run_id))
    return len(going)


def watch(hub: Hub, run: Run) -> Iterator[RoundReport]:
    """The rounds of a run as they end, until it is over.

    Raises:
        FederationError: It failed or was stopped.
    """
    seen = 0
    while True:
        (now,) = [known for known in list_runs(hub) if known.run_id == run.run_id]
        reports = [r for r in read_progress(now.folder) if r.run_id == run.run_id]
        yield from reports[seen:]
        seen = len(reports)
        if now.state == FINISHED:
            break
        time.sleep(LOOK_S)
    if now.outcome != "completed":
        raise FederationError(
            f"the training was {now.outcome} after round {last_round(now.folder)}: "
            f"{_why(now)}; --resume goes on from there"
        )


def _why(run: Run) -> str:
    """Why a run ended, in the words of its own last line if it left one."""
    try:
        last = json.loads((run.folder / PROGRESS).read_text().splitlines()[-1])
        if last.get("run_id") == run.run_id and "error" in last:
            return str(last["error"])
    except (OSError, ValueError, IndexError):
        pass
    return run.details or "superlink.log in the hub's folder says more"
