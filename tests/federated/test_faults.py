"""What happens to a training when machines, lines and sites fail while it runs."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deployment import Federation, errors, finished, new_federation, tree, wait_for

from federated import runs
from federated.hub import online
from federated.ledger import Ledger
from federated.progress import last_round, read_progress
from federated.task import Plan

Hospital = Callable[..., Path]
BOTH = ("north", "south")

# Quick ones of each fault, without processes, are in test_rounds.py and test_gate.py.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def federation(
    tmp_path_factory: pytest.TempPathFactory, make_site: Hospital, plan: Plan
) -> Iterator[Federation]:
    """A hub and two sites that are there, and one that is registered and late."""
    root = tmp_path_factory.mktemp("faults")
    made = new_federation(root, plan)
    try:
        for n, name in enumerate((*BOTH, "late")):
            made.add_site(name, make_site(root / name, seed=n))
        for name in BOTH:
            made.start_site(name)
        wait_for(lambda: online(made.hub) >= set(BOTH), "the sites")
        yield made
    finally:
        made.stop()


def works(federation: Federation, name: str) -> bool:
    """Whether a site's app is at work."""
    found = tree(federation.processes[name].pid)
    return any(b"caged_app" in _command(pid) for pid in found)


def _command(pid: int) -> bytes:
    """What a process was started as."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def trained(federation: Federation, name: str) -> int:
    """Replies to training that have left a site."""
    return Ledger(federation.sites[name]).read().trained


def test_a_site_that_is_killed_in_mid_round_takes_part_in_it_after_all(
    federation: Federation,
) -> None:
    """It is asked again, and what it learns counts once."""
    run = runs.start_run(federation.hub, rounds=1)
    wait_for(lambda: works(federation, "south"), "the app of south")
    before = trained(federation, "south")

    federation.kill("south")
    federation.start_site("south")
    over = finished(federation.hub, run)

    assert over.outcome == "completed", errors(over)
    (report,) = read_progress(over.folder)
    assert report.sites == BOTH
    assert trained(federation, "south") == before + 1


def test_a_line_that_is_cut_for_a_while_costs_nothing_but_time(federation: Federation) -> None:
    """The front is frozen while the sites train: they try again until it answers."""
    run = runs.start_run(federation.hub, rounds=1)
    wait_for(lambda: works(federation, "north"), "the app of north")
    front = federation.processes["hub"].pid

    os.kill(front, signal.SIGSTOP)
    time.sleep(12.0)
    os.kill(front, signal.SIGCONT)
    over = finished(federation.hub, run)

    assert over.outcome == "completed", errors(over)
    assert read_progress(over.folder)[0].sites == BOTH


def test_a_site_that_comes_late_takes_part_from_the_next_round_on(federation: Federation) -> None:
    """Nobody waits for it."""
    run = runs.start_run(federation.hub, rounds=3)
    wait_for(lambda: works(federation, "north"), "the first round")

    federation.start_site("late")
    over = finished(federation.hub, run)
    federation.kill("late")

    reports = read_progress(over.folder)
    assert reports[0].sites == BOTH
    assert "late" in reports[-1].sites


def test_a_training_goes_on_after_the_hub_was_killed(federation: Federation) -> None:
    """From the last round that was kept; the sites find the hub again by themselves."""
    run = runs.start_run(federation.hub, rounds=3)
    wait_for(lambda: last_round(run.folder) >= 1, "the first round")
    port = federation.port

    federation.kill("hub")
    done = last_round(run.folder)
    federation.start_hub(port)
    wait_for(lambda: online(federation.hub) >= set(BOTH), "the sites")
    over = finished(federation.hub, runs.start_run(federation.hub, rounds=3, resume=True))

    assert over.outcome == "completed", errors(over)
    assert over.folder == run.folder
    assert done < 3
    assert [report.number for report in read_progress(over.folder)] == [1, 2, 3]
