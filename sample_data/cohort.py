"""Make the synthetic cohort.

    python -m sample_data.cohort --out cohort --cases 360 --seed 0

writes for each hospital ``bundles/CASE.json``, ``scans/CASE.nii.gz`` and ``cases.csv`` with the
columns bundle, scan and diagnoses. The same seed and network give the same bytes.
"""

import argparse
import csv
import logging
import multiprocessing
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from imaging.segment import WEIGHTS
from sample_data.acquisition import nifti_bytes
from sample_data.anatomy import lesions, log_factors
from sample_data.bundles import bundle_bytes
from sample_data.hospitals import HOSPITALS, Hospital, hospital_of
from sample_data.patients import case_rng, draw_patient
from sample_data.scans import Template, load_template, simulate

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Made:
    """One line of ``cases.csv``."""

    hospital: str
    bundle: str
    scan: str
    diagnoses: tuple[str, ...]


def make_case(out: Path, template: Template | None, seed: int, index: int) -> Made:
    """Write one case.

    Args:
        out: Folder of the cohort.
        template: What `load_template` returned; None leaves the scan out.
        seed: Of the cohort.
        index: Of the case in the cohort, which settles its hospital.
    """
    hospital = hospital_of(index)
    patient = draw_patient(hospital, seed, index)
    bundle, scan = f"bundles/{patient.case_id}.json", f"scans/{patient.case_id}.nii.gz"
    _write(out / hospital.name / bundle, bundle_bytes(patient, hospital, seed, index))
    rng = case_rng(seed, index, "scan")
    if rng.random() >= hospital.scans or template is None:
        return Made(hospital.name, bundle, "", patient.diagnoses)
    shrunk, spots = log_factors(patient, rng), lesions(patient, rng)
    image = simulate(template, shrunk, spots, hospital.scanner, rng).image
    _write(out / hospital.name / scan, nifti_bytes(image))
    return Made(hospital.name, bundle, scan, patient.diagnoses)


def make_cohort(
    out: Path, cases: int, seed: int = 0, jobs: int = 2, template: Template | None = None
) -> list[Made]:
    """Write a cohort, in `jobs` processes.

    Args:
        out: Folder, made where it is missing.
        cases: How many, over all hospitals.
        seed: Same seed, same cohort.
        jobs: Processes; 1 stays in this one.
        template: None loads it.
    """
    template = template or load_template()
    work = [(out, seed, index) for index in range(cases)]
    if jobs == 1:
        made = [make_case(out, template, seed, index) for index in range(cases)]
    else:
        context = multiprocessing.get_context("spawn")
        with context.Pool(jobs, _start, (template,)) as pool:
            made = pool.map(_one, work, chunksize=4)
    for hospital in HOSPITALS:
        _write_table(out, hospital, made)
    return made


_template: Template | None = None  # of this worker process


def _start(template: Template) -> None:
    """Give a worker process the template and one thread."""
    global _template
    _template = template
    torch.set_num_threads(1)


def _one(work: tuple[Path, int, int]) -> Made:
    out, seed, index = work
    return make_case(out, _template, seed, index)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _write_table(out: Path, hospital: Hospital, made: Sequence[Made]) -> None:
    """List a hospital's cases, in the order of their ids, which says nothing."""
    (out / hospital.name).mkdir(parents=True, exist_ok=True)
    with (out / hospital.name / "cases.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["bundle", "scan", "diagnoses"])
        for case in sorted(made, key=lambda case: case.bundle):
            if case.hospital == hospital.name:
                writer.writerow([case.bundle, case.scan, ";".join(case.diagnoses)])


def main() -> None:
    """Make a cohort from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the cohort")
    parser.add_argument("--cases", type=int, default=360)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--network", type=Path, default=WEIGHTS, help="folder of the network")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    began = time.perf_counter()
    made = make_cohort(args.out, args.cases, args.seed, args.jobs, load_template(args.network))
    scans = sum(bool(case.scan) for case in made)
    log.info("%d cases, %d scans, %.0f s", len(made), scans, time.perf_counter() - began)


if __name__ == "__main__":
    main()
