"""Hub and sites as separate processes of this machine, for the tests of the deployment."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from federated.hub.folder import Hub, control, create_hub, register, running, tell_superlink
from federated.hub.runs import FINISHED, Run, list_runs
from federated.plan_file import PLAN, write_plan
from federated.site.join import prepare
from federated.site.policy import STATE
from federated.task import Plan

WAIT_S = 400.0  # of anything here; only a machine that does much else needs more than a few


@dataclass
class Federation:
    """A hub and sites in a folder, and the processes that run them."""

    folder: Path
    hub: Hub
    sites: dict[str, Path] = field(default_factory=dict)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def port(self) -> int:
        """On which sites reach the hub."""
        return int(running(self.hub)["front"])

    def start_hub(self, port: int = 0) -> None:
        """Start the hub and wait until it can be reached."""
        (self.hub.folder / "running.json").unlink(missing_ok=True)
        self._start("hub", "hub", "start", str(self.hub.folder), "--port", str(port))
        wait_for(lambda: (self.hub.folder / "running.json").exists(), "the hub")

    def add_site(self, name: str, site: Path, cases: int = 24, *, known: bool = True) -> None:
        """Prepare a site, and register it if it shall be known."""
        self.sites[name] = site
        ca = self.hub.folder / "hub-ca.crt"
        key = prepare(site, f"127.0.0.1:{self.port}", ca, self.hub.folder / PLAN)
        if known:
            register(self.hub, key, name, cases)
            with control(self.hub) as client:
                tell_superlink(self.hub, client)

    def start_site(self, name: str) -> None:
        """Let a site join."""
        self._start(name, "join", str(self.sites[name]))

    def said(self, name: str) -> str:
        """What a site's processes have logged."""
        log = self.sites[name] / STATE / "supernode.log"
        own = self.folder / f"{name}.log"
        return "".join(p.read_text(errors="replace") for p in (log, own) if p.exists())

    def kill(self, name: str) -> None:
        """End a process and all its children as a power cut would."""
        for pid in reversed(tree(self.processes.pop(name).pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def stop(self) -> None:
        """End everything."""
        pids = [pid for process in self.processes.values() for pid in tree(process.pid)]
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _start(self, name: str, *words: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", "ui.cli", *words], stdout=log, stderr=log,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )  # fmt: skip


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    try:
        tasks = Path(f"/proc/{pid}/task").iterdir()
        below = [int(c) for task in tasks for c in (task / "children").read_text().split()]
    except OSError:
        return [pid]
    return [pid, *(found for child in below for found in tree(child))]


def new_federation(folder: Path, plan: Plan) -> Federation:
    """A hub that runs, without sites."""
    write_plan(plan, folder / "agreed.json")
    federation = Federation(folder, create_hub(folder / "hub", "127.0.0.1", plan))
    federation.start_hub()
    return federation


def wait_for(is_so: Callable[[], object], what: str, seconds: float = WAIT_S) -> None:
    """Wait until something is so."""
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, f"waited {seconds:.0f} s for {what}"
        time.sleep(1.0)


def finished(hub: Hub, run: Run) -> Run:
    """A run once it is over."""
    found: list[Run] = []

    def is_over() -> bool:
        found[:] = [known for known in list_runs(hub) if known.run_id == run.run_id]
        return found[0].state == FINISHED

    wait_for(is_over, "the run")
    return found[0]


def errors(run: Run) -> list[str]:
    """What went wrong in a training, in its own words."""
    path = run.folder / "progress.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [told["error"] for told in map(json.loads, lines) if "error" in told]
