"""How soon a review can begin, what it holds in memory, and whether every engine says the same.

Each start is a fresh process that does what `consilium review` does up to the first diagnosis on
the page: import it, open the site, load the assistant, diagnose and explain one case. The files of
OpenVINO and ONNX Runtime are made beforehand, as `consilium import --model` does.
"""

import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil

from fusion.assistant import Assistant
from fusion.case import MODALITIES, Case
from fusion.engines import PACKAGES
from fusion.intake import Tools, prepare_case, read_pairs, register
from fusion.store import Site

SAMPLE = Path(__file__).parents[1] / "sample_data"
ENGINES = ("torch", "openvino", "onnx")
FRESH = 5  # processes of each engine, in turn
ROUNDS = 20  # diagnoses timed in each, after the first
HEAVY = ("torch", "monai", "transformers")
START = """
import json, resource, sys, time
began = time.perf_counter()
from pathlib import Path
import psutil
import ui.app, ui.commands
from fusion.assistant import Assistant
from fusion.store import Site

imported = time.perf_counter()
folder, engine, rounds, *heavy = sys.argv[1:]
site = Site.open(Path(folder))
assistant = Assistant.load(site.model_folder, engine=engine, kept=site.engines_folder)
loaded = time.perf_counter()
case = site.case(max(site.cases(), key=lambda row: (len(row.modalities), row.case_id)).case_id)
assistant.diagnose(case)
first = time.perf_counter()
rss = psutil.Process().memory_info().rss
for _ in range(int(rounds)):
    assistant.diagnose(case)
each = (time.perf_counter() - first) / int(rounds)
print(json.dumps({
    "imports": imported - began, "load": loaded - imported, "first": first - loaded,
    "start": first - began, "each": each, "rss": rss / 1e6,
    "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    "heavy": sorted(set(heavy) & sys.modules.keys()),
}))
"""


def sample_site(folder: Path) -> Site:
    """The bundled cases with the sample model."""
    site = Site.create(folder)
    shutil.copytree(SAMPLE / "model", site.model_folder)
    tools = Tools.of(site)
    for source in read_pairs(SAMPLE / "site_cases" / "cases.csv"):
        case_id = register(site, source, site.scheme).case_id
        prepare_case(site, case_id, tools, site.scheme)
    return site


def made(site: Site) -> dict[str, float]:
    """Seconds to make and keep an engine's files, torch being imported by then."""
    Assistant.load(site.model_folder, engine="torch")
    seconds = {}
    for engine in ENGINES[1:]:
        began = time.perf_counter()
        Assistant.load(site.model_folder, engine=engine, kept=site.engines_folder)
        seconds[engine] = time.perf_counter() - began
    return seconds


def starts(site: Site) -> dict[str, list[dict[str, float]]]:
    """What fresh processes measured, by engine; the engines take turns."""
    found: dict[str, list[dict[str, float]]] = {engine: [] for engine in ENGINES}
    for _, engine in itertools.product(range(FRESH), ENGINES):
        call = [sys.executable, "-c", START, str(site.folder), engine, str(ROUNDS), *HEAVY]
        done = subprocess.run(call, stdout=subprocess.PIPE, text=True, check=True)
        found[engine].append(json.loads(done.stdout))
    return found


def furthest(site: Site, engine: str) -> tuple[int, float, float, float]:
    """Views of cases, and largest difference from torch: probability, share and effect."""
    assistants = [
        Assistant.load(site.model_folder, engine=name, kept=site.engines_folder)
        for name in ("torch", engine)
    ]
    gaps = []
    for case in map(site.case, (row.case_id for row in site.cases())):
        for shown in _subsets(case):
            wanted, found = (_numbers(assistant, shown) for assistant in assistants)
            gaps.append([float(np.abs(a - b).max()) for a, b in zip(wanted, found, strict=True)])
    probability, share, effect = np.max(gaps, axis=0)
    return len(gaps), probability, share, effect


def _subsets(case: Case) -> list[Case]:
    """A case under every subset of what it has."""
    have = [m for m in MODALITIES if m in case.tokens]
    sizes = range(1, len(have) + 1)
    return [case.only(*s) for size in sizes for s in itertools.combinations(have, size)]


def _numbers(assistant: Assistant, case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities, shares of modalities and tokens, effects of tokens, in a fixed order."""
    found = assistant.diagnose(case)
    pieces = [
        piece
        for key in found.probabilities
        for piece in sorted(found.evidence[key], key=lambda e: (e.modality, e.index))
    ]
    shares = [*found.shares.values(), *(piece.share for piece in pieces)]
    effects = [piece.effect for piece in pieces]
    return np.array(list(found.probabilities.values())), np.array(shares), np.array(effects)


def middle(runs: Sequence[Mapping[str, float]], name: str) -> float:
    """The median of one figure."""
    return statistics.median(run[name] for run in runs)


def machine() -> str:
    """What it ran on."""
    memory = psutil.virtual_memory().total / 2**30
    packages = ", ".join(f"{p} {version(p)}" for p in PACKAGES.values())
    return (
        f"{platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB; "
        f"Python {platform.python_version()}, {packages}."
    )


def main() -> None:
    """Print one line an engine."""
    with tempfile.TemporaryDirectory() as name:
        site = sample_site(Path(name) / "site")
        exported = made(site)
        found = starts(site)
        tokens = max(
            sum(len(t.kinds) for t in site.case(row.case_id).tokens.values())
            for row in site.cases()
        )
        print(
            f"A fresh process from nothing to the first explained diagnosis of a bundled case, "
            f"then {ROUNDS} more; medians of {FRESH} processes. The largest case has {tokens} "
            f"tokens, each deleted once to explain it. {machine()}\n"
        )
        print("| engine | ready after, s | of torch's | imports | loading | first diagnosis, ms |"
              " each further, ms | of torch's | memory, MB | of torch's | imported |")  # fmt: skip
        print("|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|")
        for engine, runs in found.items():
            print(_line(engine, runs, found["torch"]))
        print("\n| engine | made once in, s | views | largest difference from torch: probability |"
              " attention share | effect |")  # fmt: skip
        print("|---|--:|--:|--:|--:|--:|")
        for engine in ENGINES[1:]:
            views, *gaps = furthest(site, engine)
            worst = " | ".join(f"{gap:.1e}" for gap in gaps)
            print(f"| {engine} | {exported[engine]:.1f} | {views} | {worst} |")


def _line(engine: str, runs: Sequence[dict[str, float]], torch: Sequence[dict[str, float]]) -> str:
    """One engine of the first table."""
    ratio = {n: middle(runs, n) / middle(torch, n) for n in ("start", "each", "rss")}
    heavy = ", ".join(runs[0]["heavy"]) or "none"  # type: ignore[arg-type]
    return (
        f"| {engine} | {middle(runs, 'start'):.1f} | {ratio['start']:.2f} | "
        f"{middle(runs, 'imports'):.1f} | {middle(runs, 'load'):.2f} | "
        f"{1000 * middle(runs, 'first'):.0f} | {1000 * middle(runs, 'each'):.0f} | "
        f"{ratio['each']:.2f} | {middle(runs, 'rss'):.0f} | {ratio['rss']:.2f} | {heavy} |"
    )


if __name__ == "__main__":
    main()
