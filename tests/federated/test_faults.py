"""What happens to a training when machines, lines and sites fail while it runs."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from deployment import Federation, errors, finished, new_federation, tree, wait_for

from federated.hub import runs
from federated.hub.folder import online
from federated.progress import last_round, read_progress
from federated.site.ledger import Ledger
from federated.task import Plan

Hospital = Callable[..., Path]
BOTH = ("north", "south")
DISK_MB = 64  # of the hub and of one site

# Quick ones of each fault, without processes, are in test_rounds.py and test_gate.py.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def federation(
    tmp_path_factory: pytest.TempPathFactory, make_site: Hospital, plan: Plan
) -> Iterator[Federation]:
    """A hub and two sites that are there, and one that is registered and late."""
    root = tmp_path_factory.mktemp("faults")
    with small_disk(root / "hub"), small_disk(root / "south"):
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


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A folder that is a disk of its own, where this user may mount one; else an ordinary one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(folder)]
    is_mounted = not subprocess.run(mount, check=False, capture_output=True).returncode
    try:
        yield
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """A disk without a byte to spare."""
    if not folder.is_mount():
        pytest.skip("only root can mount a small disk, and only a small one is filled")
    filling = folder / "filling"
    try:
        with filling.open("wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
    except OSError:
        pass
    try:
        yield
    finally:
        filling.unlink()


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


@pytest.mark.parametrize("seconds", [12.0, 120.0])
def test_a_line_that_is_cut_for_a_while_costs_nothing_but_time(
    federation: Federation, seconds: float
) -> None:
    """The front is frozen while the sites train: they try again until it answers.

    After a minute Flower has given up both, so the round is tried again.
    """
    before = {name: trained(federation, name) for name in BOTH}
    run = runs.start_run(federation.hub, rounds=1)
    wait_for(lambda: works(federation, "north"), "the app of north")
    front = federation.processes["hub"].pid

    os.kill(front, signal.SIGSTOP)
    time.sleep(seconds)
    os.kill(front, signal.SIGCONT)
    over = finished(federation.hub, run)

    assert over.outcome == "completed", errors(over)
    (report,) = read_progress(over.folder)
    assert report.sites == BOTH
    for name in BOTH:
        assert trained(federation, name) - before[name] <= 2


def test_a_site_whose_disk_is_full_sends_nothing_and_is_back_when_there_is_room(
    federation: Federation,
) -> None:
    """What cannot be written into the ledger does not leave; the others go on."""
    before = trained(federation, "south")

    with full(federation.sites["south"]):
        run = runs.start_run(federation.hub, rounds=1, min_sites=1)
        alone = finished(federation.hub, run)
        gone = trained(federation, "south")
    again = finished(
        federation.hub, runs.start_run(federation.hub, rounds=2, min_sites=2, resume=True)
    )

    assert alone.outcome == again.outcome == "completed", errors(again)
    assert [report.sites for report in read_progress(again.folder)] == [("north",), BOTH]
    assert gone == before


def test_a_training_goes_on_after_the_hubs_disk_was_full(federation: Federation) -> None:
    """It ends with the last whole round, and can be resumed once there is room."""
    run = runs.start_run(federation.hub, rounds=3)
    wait_for(lambda: last_round(run.folder) >= 1, "the first round")

    with full(federation.hub.folder):
        over = finished(federation.hub, run)
    done = last_round(over.folder)
    wait_for(lambda: online(federation.hub) >= set(BOTH), "the sites")
    again = finished(federation.hub, runs.start_run(federation.hub, rounds=3, resume=True))

    assert over.outcome == "failed"
    assert 1 <= done < 3
    assert again.outcome == "completed", errors(again)
    assert [report.number for report in read_progress(again.folder)] == [1, 2, 3]


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
