"""Held-out subjects and their segmentations, which are made once and kept under ``runs``."""

import argparse
import hashlib
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import numpy as np

from imaging.engines import load_engine
from imaging.kept import network_digest
from imaging.labelled import held_out, usable
from imaging.prepare import prepare
from imaging.read import read_nifti
from imaging.regions import Segmentation
from imaging.scan import Scan
from imaging.segment import WEIGHTS, Engine, segment

IXI = Path(__file__).parents[2] / "shared" / "data" / "ixi_t1_2mm"
KEPT = Path(__file__).parents[1] / "runs" / "segmented"
SOURCES = (  # named and not imported, as what trains the network would bring torch
    "imaging.segment", "imaging.graphs", "imaging.looks", "imaging.network", "imaging.closeup",
    "imaging.prepare", "imaging.regions", "benchmarks.retakes",
)  # fmt: skip


def arguments(description: str | None) -> argparse.ArgumentParser:
    """What every benchmark of the segmentation network takes."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ixi", type=Path, default=IXI, help="folder with t1 and seg")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="folder of the network")
    parser.add_argument("--subjects", type=int, help="only the first so many, for a quick look")
    return parser


def all_subjects(ixi: Path) -> list[str]:
    """Every subject that has a scan, by sorted id."""
    return sorted(path.name.removesuffix(".nii.gz") for path in (ixi / "t1").iterdir())


def unseen_subjects(ixi: Path, n: int | None = None) -> list[str]:
    """Subjects held out from training whose label maps can be trusted; the first n of them."""
    return usable(ixi, held_out(all_subjects(ixi))[1])[:n]


def read_t1(ixi: Path, subject: str) -> Scan:
    """One subject's scan as it is stored."""
    return read_nifti(ixi / "t1" / f"{subject}.nii.gz")


class Segmenter:
    """Read, prepare and segment, once for each scan, network and state of the code.

    A change to the weights, or to a file that a segmentation depends on, starts another folder.

    Attributes:
        folder: Where segmentations are kept.
    """

    def __init__(self, weights: Path, kept: Path = KEPT) -> None:
        self.weights = weights
        self.folder = kept / digest_of(weights)

    @cached_property
    def engine(self) -> Engine:
        """The network, loaded when the first segmentation is missing."""
        return load_engine(self.weights)

    def __call__(self, name: str, scan: Callable[[], Scan]) -> Segmentation:
        """The segmentation kept under a name, or that of the scan which is then made.

        Args:
            name: Of this one scan, unique; part of a file's name.
            scan: Makes the scan as a reader would give it.
        """
        path = self.folder / f"{name}.npz"
        if not path.exists():
            found = segment(self.engine, prepare(scan()))
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(".partial.npz")
            np.savez_compressed(partial, **asdict(found))
            partial.replace(path)
        with np.load(path, allow_pickle=False) as kept:
            return Segmentation(**kept)


def digest_of(weights: Path) -> str:
    """Short name of the networks and of the code between a scan and its segmentation."""
    digest = hashlib.sha256(network_digest(weights).encode())
    for source in SOURCES:
        path = Path(__file__).parents[1] / f"{source.replace('.', '/')}.py"
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]
