"""Time and peak memory of each step for one real-format record with one real scan.

The record is a Synthea bundle, the scan an IXI subject held out from training: they are two
different people, which does not matter to a clock. Each step runs in a process of its own.
"""

import argparse
import json
import multiprocessing
import resource
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SHARED = Path(__file__).parents[2] / "shared" / "data"
MODEL = Path(__file__).parents[1] / "sample_data" / "model"


def _export(folder: Path) -> None:
    from clinical.text_encoder import load_text_encoder
    from fusion.assistant import Assistant
    from imaging.engines import load_engine

    kept = folder / "site" / "engines"
    load_engine(kept=kept)
    load_text_encoder(kept=kept)
    Assistant.load(MODEL, kept=kept)


def _register(folder: Path) -> None:
    from clinical.diagnoses import load_scheme
    from fusion.intake import Source, register
    from fusion.store import Site

    source = Source(folder / "bundle.json", folder / "T1w.nii.gz")
    register(Site.create(folder / "site"), source, load_scheme())


def _segment(folder: Path) -> None:
    from imaging.check import check
    from imaging.engines import load_engine
    from imaging.prepare import prepare
    from imaging.read import read_nifti
    from imaging.segment import segment

    scan = read_nifti(folder / "T1w.nii.gz")
    prepared = prepare(scan)
    engine = load_engine(kept=folder / "site" / "engines")
    check(scan, prepared, segment(engine, prepared))


def _encode(folder: Path) -> None:
    from clinical.diagnoses import load_scheme
    from clinical.lab_encoder import history_tokens, lab_tokens
    from clinical.text_encoder import load_text_encoder
    from fusion.store import Site

    site = Site.open(folder / "site")
    encoder = load_text_encoder(kept=site.engines_folder)
    record = site.record(site.cases()[0].case_id)
    encoder.note_tokens(record.notes)
    lab_tokens(record)
    history_tokens(record, encoder, exclude=load_scheme().codes)


def _prepare(folder: Path) -> None:
    from clinical.diagnoses import load_scheme
    from fusion.intake import Tools, prepare_case
    from fusion.store import Site

    site = Site.open(folder / "site")
    prepare_case(site, site.cases()[0].case_id, Tools.of(site), load_scheme())


def _diagnose(folder: Path) -> None:
    from fusion.assistant import Assistant
    from fusion.store import Site

    site = Site.open(folder / "site")
    assistant = Assistant.load(MODEL, kept=site.engines_folder)
    assistant.diagnose(site.case(site.cases()[0].case_id))


def _page(folder: Path) -> None:
    from fusion.assistant import Assistant
    from fusion.store import Site
    from ui.accounts import Accounts
    from ui.app import create_app

    site = Site.open(folder / "site")
    create_app(site, Assistant.load(MODEL, kept=site.engines_folder), Accounts())


STEPS: dict[str, Callable[[Path], None]] = {
    "export the networks to their engines, once for a site": _export,
    "import (read, account for every entry, keep)": _register,
    "read, prepare, segment and grade the scan": _segment,
    "encode notes, labs and history": _encode,
    "all evidence, as `consilium import` makes it": _prepare,
    "fuse, calibrate and explain": _diagnose,
    "build the review page, ready to serve": _page,
}


def _measured(name: str, folder: Path) -> None:
    """Run one step and leave its figures in a file."""
    began = time.perf_counter()
    STEPS[name](folder)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {"seconds": time.perf_counter() - began, "peak_mb": peak}
    (folder / "figures.json").write_text(json.dumps(figures))


def main() -> None:
    """Print one line per step."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--shared", type=Path, default=SHARED)
    args, _ = parser.parse_known_args()
    scan = sorted((args.shared / "ixi_t1_2mm" / "t1").iterdir())[0]
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with tarfile.open(args.shared / "fhir_synthea_r4.tar.xz") as archive:
            member = next(m for m in archive if m.isfile() and m.name.endswith(".json"))
            file = archive.extractfile(member)
            assert file is not None
            (folder / "bundle.json").write_bytes(file.read())
        (folder / "T1w.nii.gz").write_bytes(scan.read_bytes())
        size_mb = (folder / "bundle.json").stat().st_size / 1e6
        print(f"One Synthea bundle ({size_mb:.1f} MB) with one IXI scan, CPU with two cores; each")
        print("step in a fresh process, imports and loading of weights included.\n")
        print("| step | seconds | peak memory, MB |\n|---|---|---|")
        for step in STEPS:
            process = spawn.Process(target=_measured, args=(step, folder))
            process.start()
            process.join()
            if process.exitcode:
                raise SystemExit(f"step {step!r} failed")
            figures = json.loads((folder / "figures.json").read_text())
            print(f"| {step} | {figures['seconds']:.1f} | {figures['peak_mb']:.0f} |")


if __name__ == "__main__":
    main()
