"""Time and memory of reading a large FHIR record, each way in fresh processes.

The largest Synthea bundle, its entries repeated under new ids to 5.7 MB and 58 MB, is read by
Consilium (record and report), by fhir.resources (the whole bundle as R4B models) and, where
`--healthchain` names the Python of an environment that has it, by HealthChain's `load_bundle`,
which cannot be installed beside Consilium. The 58 MB are read as a bulk export, too. Memory is
the peak above the process with its imports done; FHIR's models load at first use and count.

Usage: python -m benchmarks.import_speed [--runs N] [--slow-runs N] [--healthchain PYTHON]
"""

import argparse
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ARCHIVE = ROOT.parent / "shared" / "data" / "fhir_synthea_r4.tar.xz"
SIZES_MB = (5.7, 58.0)
SMALL, LARGE = SIZES_MB
# Aims: seconds, and MB over the baseline.
AIMS = {SMALL: (1.5, 120), LARGE: (10.0, 400)}
OURS, EXPORT, MODELS, CHAIN = (
    "Consilium", "Consilium, as NDJSON export", "fhir.resources", "HealthChain",
)  # fmt: skip
Run = dict[str, float]


def consilium() -> Callable[[Path], int]:
    """Record and report of a bundle."""
    from clinical.fhir import read_bundle

    return lambda path: read_bundle(path.read_bytes())[1].total


def export() -> Callable[[Path], int]:
    """Record and report of every patient of a bulk export."""
    from clinical.ndjson import read_export

    return lambda path: sum(p.read()[1].total for p in read_export(path).patients)


def models() -> Callable[[Path], int]:
    """The whole bundle as models."""
    import orjson
    from fhir.resources.R4B.bundle import Bundle

    return lambda path: len(Bundle.model_validate(orjson.loads(path.read_bytes())).entry)


def healthchain() -> Callable[[Path], int]:
    """HealthChain's way, as its documentation shows it."""
    from healthchain.fhir import load_bundle  # type: ignore[import-not-found]

    return lambda path: len(load_bundle(path, version="R4B").entry)


WAYS = {OURS: consilium, EXPORT: export, MODELS: models, CHAIN: healthchain}


def memory_mb(key: str) -> float:
    """A line of the process's status: VmRSS is now, VmHWM the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def child(way: str, path: Path) -> None:
    """Read once and print what it took."""
    read = WAYS[way]()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, began, cpu = memory_mb("VmRSS"), time.perf_counter(), time.process_time()
    entries = read(path)
    took, worked = time.perf_counter() - began, time.process_time() - cpu
    peak = memory_mb("VmHWM") - before
    print(json.dumps({"wall": took, "cpu": worked, "peak": peak, "entries": entries}))


def largest_bundle() -> dict[str, Any]:
    """The largest bundle of the archive."""
    with tarfile.open(ARCHIVE) as tar:
        member = max((m for m in tar if m.name.endswith(".json")), key=lambda m: m.size)
        file = tar.extractfile(member)
        assert file is not None
        bundle: dict[str, Any] = json.load(file)
        return bundle


def scaled(bundle: dict[str, Any], megabytes: float) -> Iterator[str]:
    """Its entries as JSON, again and again under new ids, until there are enough."""
    size, copy = 0, 0
    while size < megabytes * 1e6:
        for entry in bundle["entry"]:
            kind = entry["resource"]["resourceType"]
            if copy and kind == "Patient":
                continue
            text = json.dumps(entry)
            if kind != "Patient":
                own = entry["resource"]["id"]
                text = text.replace(own, f"{own}-{copy}")
            size += len(text)
            yield text
            if size >= megabytes * 1e6:
                return
        copy += 1


def write_files(folder: Path, bundle: dict[str, Any]) -> None:
    """The scaled bundles and the export."""
    for size in SIZES_MB:
        entries = list(scaled(bundle, size))
        text = ", ".join(entries)
        whole = f'{{"resourceType": "Bundle", "type": "collection", "entry": [{text}]}}'
        (folder / f"{size}.json").write_text(whole)
    patient = bundle["entry"][0]
    lines = (json.dumps(json.loads(entry)["resource"]) for entry in entries)
    relative = (
        line.replace(patient["fullUrl"], f"Patient/{patient['resource']['id']}") for line in lines
    )
    (folder / "export.ndjson").write_text("\n".join(relative))


def measured(python: str, way: str, path: Path, runs: int) -> list[Run]:
    """Several fresh processes."""
    command = [python, "-m", "benchmarks.import_speed", "--child", way, str(path)]
    done = (
        subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True) for _ in range(runs)
    )
    return [json.loads(process.stdout.splitlines()[-1]) for process in done]


def row(size: float, way: str, runs: list[Run], ours: list[Run]) -> str:
    """One line of the table: medians, the range of the time, ratios to ours."""

    def middle(key: str, of: list[Run] = runs) -> float:
        return statistics.median(run[key] for run in of)

    walls = [run["wall"] for run in runs]
    return (
        f"| {size:g} | {way} | {len(runs)} | {middle('entries'):.0f} | {middle('wall'):.2f} "
        f"({min(walls):.2f}-{max(walls):.2f}) | {middle('cpu'):.2f} | {middle('peak'):.0f} | "
        f"{middle('cpu') / middle('cpu', ours):.1f} | {middle('peak') / middle('peak', ours):.1f} |"
    )


def main() -> None:
    """Measure every way at both sizes and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--child", nargs=2, metavar=("WAY", "FILE"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--slow-runs", type=int, default=1, help="of others' ways at 58 MB")
    parser.add_argument("--healthchain", metavar="PYTHON")
    args = parser.parse_args()
    if args.child:
        child(args.child[0], Path(args.child[1]))
        return
    print("| MB | read by | processes | entries | seconds (range) | of CPU | peak MB | CPU ratio "
          "| peak ratio |")  # fmt: skip
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|")
    reached = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_files(folder, largest_bundle())
        for size in SIZES_MB:
            bundle = folder / f"{size}.json"
            ours = measured(sys.executable, OURS, bundle, args.runs)
            print(row(size, OURS, ours, ours), flush=True)
            reached.append(aim(size, ours))
            if size == LARGE:
                runs = measured(sys.executable, EXPORT, folder / "export.ndjson", args.runs)
                print(row(size, EXPORT, runs, ours), flush=True)
            others = {MODELS: sys.executable, CHAIN: args.healthchain}
            for way, python in others.items():
                count = args.slow_runs if size == LARGE else args.runs
                if python:
                    runs = measured(python, way, bundle, count)
                    print(row(size, way, runs, ours), flush=True)
    print("", *reached, sep="\n")
    print("\nMedians of fresh processes; on a machine that has other work to do, compare CPU.")


def aim(size: float, ours: list[Run]) -> str:
    """Whether what was aimed at was reached; by CPU time, too, which a busy machine shows less."""
    seconds, megabytes = AIMS[size]

    def verdict(key: str, limit: float) -> str:
        return "reached" if statistics.median(run[key] for run in ours) < limit else "missed"

    return (
        f"- {size:g} MB in under {seconds:g} s: {verdict('wall', seconds)} by the clock, "
        f"{verdict('cpu', seconds)} by CPU time; in under {megabytes} MB: "
        f"{verdict('peak', megabytes)}."
    )


if __name__ == "__main__":
    main()
