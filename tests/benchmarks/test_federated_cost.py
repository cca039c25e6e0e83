"""What a federation costs is measured and worked out correctly."""

import sys
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord

from benchmarks import federated_cost
from benchmarks.federated_cost import JOBS, Job, copy_site, make_sites
from benchmarks.federated_cost_arms import reply
from benchmarks.federated_cost_report import Row, report
from benchmarks.measured import Part, Usage, measure
from benchmarks.nvflare_job.mean import clipped_mean
from clinical.evidence import ClinicalTokens, SentencePointer
from clinical.record import PatientRecord
from federated.hub.strategies import Registered, Rules, strategy
from federated.packing import Layout
from fusion.store import CaseRow, Site, now

PROGRAM = """
import socket, subprocess, sys, threading
listening = socket.create_server(("127.0.0.1", 0))
port = listening.getsockname()[1]
print(port, flush=True)
def take():
    caller, _ = listening.accept()
    while caller.recv(1 << 16):
        pass
thread = threading.Thread(target=take)
thread.start()
sending = socket.create_connection(("127.0.0.1", port))
sending.sendall(bytes(3_000_000))
sending.close()
thread.join()
work = "kept = bytearray(150_000_000)\\nsum(range(20_000_000))\\nimport time; time.sleep(1)"
subprocess.run([sys.executable, "-c", work, "--worker"])
"""


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Usage, str]:
    """What it costs to send three million bytes and have a child work; and the port."""
    folder = tmp_path_factory.mktemp("usage")
    usage = measure([sys.executable, "-c", PROGRAM], {"worker": "--worker$"}, folder)
    return usage, (folder / "log.txt").read_text().strip()


def test_a_child_is_told_apart(measured: tuple[Usage, str]) -> None:
    """Its memory and its seconds are its own."""
    usage, _ = measured
    worker, rest = usage.parts["worker"], usage.parts["rest"]

    assert usage.code == 0
    assert worker.groups == 1
    assert 150 < worker.peak_mb < 250
    assert rest.peak_mb < 100
    assert rest.cpu_s < worker.cpu_s <= usage.cpu_s


def test_bytes_are_counted_on_the_wire(measured: tuple[Usage, str]) -> None:
    """With headers, and on the side of the port that they went to."""
    usage, port = measured
    if usage.wire_bytes is None:
        pytest.skip("a network of its own is not allowed here: bytes cannot be counted")
    to, back = usage.ports[port]

    assert 3_000_000 < to < 3_100_000
    assert back < 100_000
    assert usage.wire_bytes >= to + back
    assert usage.lost == 0


def test_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    """With all its children."""
    hangs = "import subprocess, sys; subprocess.run(['sleep', '600'])"

    ended = measure([sys.executable, "-c", hangs], {}, tmp_path, timeout_s=1.0)

    assert ended.code == -1
    assert 1.0 <= ended.seconds < 10.0


def test_the_mean_under_nvflare_is_ours() -> None:
    """Clipped to the median norm, by registered cases."""
    rng = np.random.default_rng(0)
    before = rng.standard_normal(50, dtype=np.float32)
    counts = (94, 82, 58)
    sent = [before + rng.standard_normal(50, dtype=np.float32) * n for n in (1, 2, 5)]
    known = {n: Registered(f"s{n}", count) for n, count in enumerate(counts)}
    ours = strategy("fedavg", Rules(Layout(("w",), ((50,),)), known))

    averaged = ours.aggregate_train(
        1, ArrayRecord({"packed": Array(before)}), [reply(n, one) for n, one in enumerate(sent)]
    )

    theirs = before + clipped_mean([one - before for one in sent], counts)
    np.testing.assert_allclose(averaged["packed"].numpy(), theirs, rtol=0, atol=1e-5)


def test_a_small_site_has_only_its_own_cases(tmp_path: Path) -> None:
    """And nothing of the others' records, nor any scan."""
    source = write_site(tmp_path / "north", 5)
    kept = [row.case_id for row in source.cases()][:2]

    copy_site(source.folder, tmp_path / "small", kept)

    small = Site.open(tmp_path / "small")
    assert sorted(row.case_id for row in small.cases()) == sorted(kept)
    assert sorted(path.name for path in (tmp_path / "small" / "cases").iterdir()) == sorted(kept)
    assert len(small.training_cases(small.scheme)) == 2
    assert not list((tmp_path / "small").rglob("*.nii.gz"))


def write_site(folder: Path, n_cases: int) -> Site:
    """A site of cases with one sentence and a scan's file each."""
    site = Site.create(folder)
    for n in range(n_cases):
        row = CaseRow(
            case_id=f"case{n}", patient_key=f"patient{n}", imported_at=now(), sex="unknown",
            diagnoses=["NC"],
        )  # fmt: skip
        site.add_case(row, PatientRecord(f"p{n}", "unknown"), {})
        tokens = ClinicalTokens(
            np.ones((1, 4), np.float32), np.zeros(1, np.int64), np.ones(1, np.float32),
            (SentencePointer("note", 0, 1),),
        )  # fmt: skip
        site.save_tokens(row.case_id, {"notes": tokens}, findings=[], encoder="e" * 64)
        (site.case_folder(row.case_id) / "T1w.nii.gz").write_bytes(b"a scan")
    return site


def test_more_sites_than_cases_share_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two groups of cases make three sites, of which the last is like the first."""
    source = write_site(tmp_path / "north", 5)
    monkeypatch.setattr(federated_cost, "HOSPITALS", (source.folder,))
    monkeypatch.setattr(federated_cost, "SMALL_CASES", 2)

    sites = [Site.open(made) for made in make_sites(Job("in_process", 3), tmp_path / "made")]

    held = [sorted(row.case_id for row in site.cases()) for site in sites]
    assert held[0] == held[2]
    assert not set(held[0]) & set(held[1])


def row(arm: str, sites: int, seconds: float, **about: float | str) -> Row:
    """A federation of three rounds, the first of which takes longer."""
    used = Usage(0, 40.0, 20.0, {"hub": Part(1.0, 100.0 + 30 * sites, 1)}, 7.0, 9_000_000)
    weights = np.zeros(2) if not sites else None
    return Row(arm, sites, used, [99.0, seconds, seconds], [0.5, 0.4, 0.3], about, weights)


def test_a_thousand_sites_are_worked_out_from_what_was_measured() -> None:
    """A round of 1 s and 0.1 s a site, an average of 0.02 s and 30 MB a site, 4 MB up."""
    rows = [row("in_process", n, 1 + 0.1 * n, up=n * 12e6, down=n * 24e6) for n in (3, 10)]
    rows += [row("averaging", n, 0.0, averaging_s=0.02 * n) for n in (3, 10)]
    rows += [row("deployment", 3, 10.0, up=36e6, down=72e6, hub_cpu_s=9.0)]
    rows += [row("deployment", 6, 10.0, up=72e6, down=144e6, hub_cpu_s=10.5)]

    said = report(rows)

    assert "| 3 | our grid in one process | 1.3 | 2769 |" in said
    assert "1.0 s + 0.100 s a site" in said
    assert "1000 sites 101 s, 35.6 rounds an hour" in said
    assert "1000 sites 20 s and 30 GB" in said
    assert "1000 sites 4.0 GB in and 8.0 GB out: 32 s and 64 s" in said
    assert "2.5 s + 0.17 s a site, so 1000 sites 169 s" in said
    assert "42 CPU s beside the 120 CPU s of all rows" in said
    assert "NVFlare could not be installed here" in said


def test_both_are_compared_as_ratios() -> None:
    """And the table says how far their weights are apart."""
    rows = [
        row("in_process", 0, 10.0, last_loss=0.3, moved=0.02),
        row("simulation", 0, 10.0, last_loss=0.3),
        row("nvflare_simulator", 0, 20.0, last_loss=0.3, version="2.9.0"),
    ]

    said, pair = report(rows), "NVFlare's simulator / Flower's simulation engine"

    assert "under NVFlare 2.9.0" in said
    assert f"| {pair} | 1.00 | 1.17 | 1.00 | 1.00 | 1.00 |" in said
    assert "| NVFlare's simulator | 0.50000, 0.40000, 0.30000 | 0.0e+00 | 0 | 7 |" in said


def test_without_the_synthetic_hospitals_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, and nothing runs."""
    monkeypatch.setattr(federated_cost, "HOSPITALS", (tmp_path,))
    monkeypatch.setattr(sys, "argv", ["federated_cost"])

    federated_cost.main()

    assert "the benchmark was skipped" in capsys.readouterr().out


def test_every_number_of_sites_runs_both_ways() -> None:
    """3, 10, 30 and 100 sites in our grid and in Flower's engine; NVFlare has the hospitals."""
    assert {job.sites for job in JOBS if job.arm == "in_process"} == {3, 10, 30, 100, 0}
    assert {job.sites for job in JOBS if job.arm == "simulation"} == {3, 10, 30, 100, 0}
    assert {job.sites for job in JOBS if job.arm.startswith("nvflare")} == {0}
