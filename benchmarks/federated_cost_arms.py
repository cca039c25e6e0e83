"""One federation of `benchmarks.federated_cost`, in a process that is measured from outside.

    python -m benchmarks.federated_cost_arms in_process --sites DIR ... --out DIR --rounds 3 ...

Each leaves ``progress.jsonl`` and the rounds' weights in its folder, and ``about.json``.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import torch
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict

from benchmarks.nvflare_job.job import job_plan
from federated import task
from federated.hub import runs
from federated.hub.folder import Hub, control, create_hub, online, register, running, tell_superlink
from federated.hub.rounds import PatientGrid, Training
from federated.hub.strategies import Rules, strategy
from federated.in_process import InProcessGrid, Node
from federated.plan_file import PLAN
from federated.progress import Patience
from federated.simulate import play
from federated.site.client_app import client_app
from federated.site.join import prepare
from federated.site.policy import read_policy, write_policy
from federated.task import Plan
from federated.wire import ARRAYS, COUNT, METRICS, PACKED

FIRST = 7  # node id of the first site
START_S = 300.0  # in which hub and sites must be there
END_S = 20.0  # in which they must be gone
WIDE = 1e6  # a clipping norm that no update reaches, so that all federations average the same

About = dict[str, object]


def in_process(sites: Sequence[Path], out: Path, plan: Plan, rounds: int) -> About:
    """All in this process, one site after another, each message through Flower's serialization."""
    app = client_app(plan, sites)
    grid = InProcessGrid({FIRST + n: Node(app, {"partition-id": n}) for n in range(len(sites))})
    patience = Patience(min_sites=len(sites), tries=1)
    layout = task.layout(task.new_network(plan))
    rules = Rules(layout, min_sites=len(sites))
    names = {site: str(site) for site in grid.nodes}
    out.mkdir(parents=True, exist_ok=True)
    training = Training(
        PatientGrid(grid, patience), strategy("fedavg", rules), plan, out, lambda: names, patience
    )
    training.run(rounds)
    up, down = sum(t.up for t in grid.traffic), sum(t.down for t in grid.traffic)
    return {"up": up, "down": down}


def simulation(sites: Sequence[Path], out: Path, plan: Plan, rounds: int) -> About:
    """Flower's simulation engine, as `consilium federate SITE...` uses it; two sites at a time."""
    play(sites, out, plan, rounds=rounds, workers=min(len(sites), len(os.sched_getaffinity(0))))
    return {}


def averaging(sites: Sequence[Path], out: Path, plan: Plan, rounds: int) -> About:
    """What only the hub does: check, clip and average one reply of each site."""
    del out, rounds
    before = task.pack(task.new_network(plan))
    rng = np.random.default_rng(0)

    def moved() -> np.ndarray:
        """Weights of a site's own."""
        return before + rng.normal(0.0, 1e-3, before.shape).astype(np.float32)

    replies = [reply(FIRST + n, moved()) for n in range(len(sites))]
    rules = Rules(task.layout(task.new_network(plan)), min_sites=len(sites))
    held, began = psutil.Process().memory_info().rss, time.perf_counter()
    strategy("fedavg", rules).aggregate_train(1, ArrayRecord({PACKED: Array(before)}), replies)
    return {"averaging_s": time.perf_counter() - began, "held_mb": held / 1e6}


def reply(site: int, weights: np.ndarray) -> Message:
    """A site's reply in the first round, as it comes to the hub."""
    InProcessGrid({})  # who writes messages here
    count = MetricRecord({COUNT: 10})
    content = RecordDict({ARRAYS: ArrayRecord({PACKED: Array(weights)}), METRICS: count})
    message = Message(content, dst_node_id=1, message_type="train", group_id="1")
    message.metadata.__dict__["_src_node_id"] = site
    return message


def deployment(sites: Sequence[Path], out: Path, plan: Plan, rounds: int) -> About:
    """A hub and its sites as processes: TLS, keys, gate and guard, as in `docs/federation.md`."""
    out.mkdir(parents=True, exist_ok=True)
    hub = create_hub(out / "hub", "127.0.0.1", plan)
    with _programs(out) as start:
        serving = start("hub", "hub", "start", str(hub.folder), "--port", "0")
        _await((hub.folder / "running.json").exists, "the hub")
        port = running(hub)["front"]
        for site in sites:
            _admit(hub, site, port, plan)
            start(site.name, "join", str(site))
        _await(lambda: len(online(hub)) == len(sites), "the sites")
        before, began = _cpu_s(serving), time.monotonic()
        run = runs.start_run(hub, rounds=rounds, min_sites=len(sites))
        reports = list(runs.watch(hub, run))
        about: About = {
            "port": port, "rounds_s": time.monotonic() - began,
            "hub_cpu_s": _cpu_s(serving) - before,
            "up": sum(up for r in reports for up, _ in r.traffic.values()),
            "down": sum(down for r in reports for _, down in r.traffic.values()),
        }  # fmt: skip
    for path in run.folder.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    return about


def _admit(hub: Hub, site: Path, port: int, plan: Plan) -> None:
    """Prepare a site as its administrator would, and register it."""
    key = prepare(site, f"127.0.0.1:{port}", hub.folder / "hub-ca.crt", hub.folder / PLAN)
    write_policy(site, replace(read_policy(site), clip_norm=WIDE))
    register(hub, key, site.name, len(task.site_cases(site, plan).train))
    with control(hub) as client:
        tell_superlink(hub, client)


@contextmanager
def _programs(out: Path) -> Iterator[Callable[..., psutil.Process]]:
    """Starts `consilium`, and ends what it started."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *words: str) -> psutil.Process:
        """Start one in the background."""
        with (out / f"{name}.log").open("ab") as log:
            command = [sys.executable, "-m", "ui.cli", *words]
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
        return psutil.Process(started[-1].pid)

    try:
        yield start
    finally:
        for program in reversed(started):
            program.terminate()
        for program in started:
            try:
                program.wait(END_S)
            except subprocess.TimeoutExpired:
                program.kill()


def _await(is_so: Callable[[], object], what: str) -> None:
    """Wait until something is so."""
    until = time.monotonic() + START_S
    while not is_so():
        if time.monotonic() > until:
            raise SystemExit(f"waited {START_S:.0f} s for {what}")
        time.sleep(0.5)


def _cpu_s(process: psutil.Process) -> float:
    """What a process and its children have used, those included that it has waited for."""
    every = [process, *process.children(recursive=True)]
    return float(sum(sum(one.cpu_times()[:4]) for one in every))


ARMS: Mapping[str, Callable[[Sequence[Path], Path, Plan, int], About]] = {
    "in_process": in_process,
    "simulation": simulation,
    "averaging": averaging,
    "deployment": deployment,
}


def main() -> None:
    """Run one, and say what only it knows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arm", choices=ARMS)
    parser.add_argument("--sites", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--epochs", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    sites = [site.resolve() for site in args.sites]
    about = ARMS[args.arm](sites, args.out, job_plan(sites[0], args.epochs), args.rounds)
    (args.out / "about.json").write_text(json.dumps(about))


if __name__ == "__main__":
    main()
