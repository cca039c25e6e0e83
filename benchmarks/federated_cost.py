"""What a federation costs by the number of its sites, and the same job under NVFlare.

    python -m benchmarks.federated_cost                 all anew
    python -m benchmarks.federated_cost --only ROW      one row; --rows lists them
    python -m benchmarks.federated_cost --resume        measure what is missing, then print

Every federation runs in a process of its own that is measured from outside (`benchmarks.measured`),
with one thread a process. Rows are kept in ``runs/federated_cost``.
"""

import argparse
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sqlalchemy import delete

from benchmarks.federated_cost_report import Row, report
from benchmarks.measured import measure, read_usage
from benchmarks.nvflare_job.environment import nvflare_python
from benchmarks.nvflare_job.job import job_plan
from federated import task
from fusion.store import CaseRow, Site

ROOT = Path(__file__).parents[1]
HOSPITALS = tuple(ROOT / "runs" / "sites" / name for name in ("north", "river", "harbour"))
WORK = ROOT / "runs" / "federated_cost"

ROUNDS = 3
SIZES = (3, 10, 30, 100)  # sites
DEPLOYED = (3, 6)  # sites with processes of their own, of which two cores bear few
SMALL_CASES, SMALL_EPOCHS = 24, 1  # of a small site, each with a patient of its own
TIMEOUT_S = 900.0  # of one federation
ALONE = {"OMP_NUM_THREADS": "1", "RAY_DEDUP_LOGS": "0"}

_OURS = "benchmarks.federated_cost_arms "
ROLES = {
    "in_process": {"hub": _OURS},
    "averaging": {"hub": _OURS},
    "simulation": {
        "engine": r"^\S*/(raylet|gcs_server)( |$)",
        "site": r"^ray::|default_worker\.py",
        "hub": _OURS,
    },
    "deployment": {"hub": r"ui\.cli hub start", "site": r"ui\.cli join"},
    "nvflare_simulator": {"site": r"simulator\.simulator_worker", "hub": r"nvflare_job\.start"},
    "nvflare_poc": {
        "hub": r"nvflare\.private\.fed\.app\.server|server/startup",
        "site": r"nvflare\.private\.fed\.app\.client|\w+/startup/start\.sh",
    },
}


@dataclass(frozen=True)
class Job:
    """A federation to be measured.

    Attributes:
        arm: How it runs: a name in `ROLES`.
        sites: How many; 0 for the three hospitals whole.
    """

    arm: str
    sites: int

    @property
    def name(self) -> str:
        """Of its row.

        Example:
            >>> Job("simulation", 30).name, Job("nvflare_poc", 0).name
            ('simulation-30', 'nvflare_poc-whole')
        """
        return f"{self.arm}-{self.sites or 'whole'}"

    @property
    def epochs(self) -> int:
        """Of a round at each site."""
        return SMALL_EPOCHS if self.sites else task.LOCAL_EPOCHS


JOBS = (
    *(Job(arm, n) for arm in ("in_process", "simulation", "averaging") for n in SIZES),
    *(Job("deployment", n) for n in DEPLOYED),
    *(Job(arm, 0) for arm in ROLES if arm != "averaging"),
)


# -- the sites -----------------------------------------------------------------------------


def copy_site(source: Path, target: Path, cases: Sequence[str]) -> None:
    """A site with the evidence of some of another's cases, and without their scans."""
    target.mkdir(mode=0o700, parents=True)
    shutil.copyfile(source / "site.toml", target / "site.toml")
    reading = sqlite3.connect(f"file:{source / 'site.db'}?mode=ro", uri=True)
    with closing(reading) as old, closing(sqlite3.connect(target / "site.db")) as new:
        old.backup(new)
    with Site.open(target).session() as session:
        session.execute(delete(CaseRow).where(CaseRow.case_id.not_in(cases)))
    for case in cases:
        (target / "cases" / case).mkdir(parents=True)
        for name in ("record.json", "report.json", "tokens.safetensors"):
            shutil.copyfile(source / "cases" / case / name, target / "cases" / case / name)


def make_sites(job: Job, folder: Path) -> list[Path]:
    """The sites of a job: the hospitals as they are, or their cases dealt out to small sites.

    Where there are more small sites than cases for them, several have the same cases.
    """
    known = {source: _labelled(source) for source in HOSPITALS}
    if not job.sites:
        dealt = [(source.name, source, cases) for source, cases in known.items()]
    else:
        parts = [
            (source, cases[start : start + SMALL_CASES])
            for source, cases in known.items()
            for start in range(0, len(cases) - SMALL_CASES + 1, SMALL_CASES)
        ]
        chosen = [parts[n % len(parts)] for n in range(job.sites)]
        dealt = [(f"site-{n:03}", source, cases) for n, (source, cases) in enumerate(chosen, 1)]
    for name, source, cases in dealt:
        copy_site(source, folder / name, cases)
    return [folder / name for name, _, _ in dealt]


def _labelled(source: Path) -> list[str]:
    """The cases of a hospital that can be trained on."""
    scheme = task.Plan("").scheme
    return [case.case_id for case in Site.open(source).training_cases(scheme)]


# -- measuring -----------------------------------------------------------------------------


def command(job: Job, sites: Sequence[Path], out: Path, nvflare: Path | None) -> list[str]:
    """What runs a job; nothing where it needs NVFlare and that is not to be had."""
    common = ["--out", str(out), "--rounds", str(ROUNDS), "--epochs", str(job.epochs)]
    if not job.arm.startswith("nvflare"):
        arm = [sys.executable, "-m", "benchmarks.federated_cost_arms", job.arm]
        return [*arm, "--sites", *map(str, sites), *common]
    if nvflare is None:
        return []
    kind = job.arm.removeprefix("nvflare_")
    names = [site.name for site in sites]
    start = [str(nvflare), "-m", "benchmarks.nvflare_job.start", kind]
    return [*start, "--sites", str(sites[0].parent), "--names", *names, *common]


def run(job: Job, work: Path) -> bool:
    """Run a job and keep what it cost; False where it cannot be run here.

    Raises:
        SystemExit: It failed.
    """
    folder = work / "rows" / job.name
    shutil.rmtree(folder, ignore_errors=True)
    out = folder / "out"
    out.mkdir(parents=True)
    sites = make_sites(job, folder / "sites")
    nvflare = nvflare_python(work / "nvflare") if job.arm.startswith("nvflare") else None
    if not (words := command(job, sites, out, nvflare)):
        shutil.rmtree(folder)
        return False
    env = dict(ALONE)
    if nvflare is not None:
        plan = job_plan(sites[0], job.epochs)
        np.save(out / "first.npy", task.pack(task.new_network(plan)))
        env |= {"HOME": str(folder / "home"), "NVFLARE_POC_WORKSPACE": str(folder / "poc")}
        env |= {"PATH": f"{nvflare.parent}:{os.environ['PATH']}"}
        (folder / "home").mkdir()
    usage = measure(words, ROLES[job.arm], folder, env=env, timeout_s=TIMEOUT_S)
    if usage.code != 0 or not (out / "about.json").exists():
        raise SystemExit(f"{job.name} failed; {folder / 'log.txt'} says why")
    if not job.sites:
        judge(job, sites, out)
    shutil.rmtree(folder / "sites")
    return True


def judge(job: Job, sites: Sequence[Path], out: Path) -> None:
    """Keep the last weights as one array, and their loss on the sites' validation cases."""
    plan = job_plan(sites[0], job.epochs)
    network = task.new_network(plan)
    if job.arm.startswith("nvflare"):
        task.unpack(np.load(out / "server.npy"), network, sender="NVFlare")
    else:
        network = task.load_round(plan, out, ROUNDS)
    cases = [task.site_cases(site.resolve(), plan) for site in sites]
    losses = [task.evaluate(network, one, plan) for one in cases]
    loss = float(np.average(losses, weights=[len(one.valid) for one in cases]))
    last = task.pack(network)
    np.save(out / "last.npy", last)
    moved = float(np.abs(last - task.pack(task.new_network(plan))).max())
    told = json.loads((out / "about.json").read_text())
    (out / "about.json").write_text(json.dumps({**told, "last_loss": loss, "moved": moved}))


def rounds(out: Path) -> tuple[list[float], list[float | None]]:
    """Seconds of each round, and the loss of the weights after it as far as somebody told it."""
    if (theirs := out / "rounds.jsonl").exists():  # NVFlare's: the loss before each round
        lines = [json.loads(line) for line in theirs.read_text().splitlines()]
        told = [*(line["loss"] for line in lines[1:]), None]
        return [line["ended"] - line["began"] for line in lines], told
    path = out / "progress.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line["seconds"] for line in lines], [line["loss"] for line in lines]


def read_row(job: Job, work: Path) -> Row | None:
    """A row that was measured; None where it was not."""
    folder = work / "rows" / job.name
    if not (folder / "out" / "about.json").exists():
        return None
    about = json.loads((folder / "out" / "about.json").read_text())
    seconds, losses = rounds(folder / "out")
    last = folder / "out" / "last.npy"
    weights = np.load(last) if last.exists() else None
    row = Row(job.arm, job.sites, read_usage(folder), seconds, losses, about)
    return replace(row, weights=weights)


def main() -> None:
    """Measure, then print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=[job.name for job in JOBS], metavar="ROW")
    parser.add_argument("--rows", action="store_true", help="list the rows")
    parser.add_argument("--resume", action="store_true", help="measure only what is missing")
    args, _ = parser.parse_known_args()
    if args.rows:
        print("\n".join(job.name for job in JOBS))
        return
    if not all((source / "site.toml").exists() for source in HOSPITALS):
        print("The synthetic hospitals are not in runs/sites: the benchmark was skipped.")
        return
    if args.only:
        run(next(job for job in JOBS if job.name == args.only), WORK)
        return
    for job in JOBS:
        if not args.resume or read_row(job, WORK) is None:
            run(job, WORK)
    print(report([row for job in JOBS if (row := read_row(job, WORK))]))


if __name__ == "__main__":
    main()
