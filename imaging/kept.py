"""A segmentation kept in its case's folder, so that no scan is segmented twice by one network."""

import hashlib
from pathlib import Path

import nibabel as nib
import numpy as np
from pydantic import TypeAdapter
from safetensors import safe_open
from safetensors.numpy import save_file

from imaging.check import ScanCheck
from imaging.read import write_region_map
from imaging.regions import Segmentation
from imaging.segment import WEIGHTS

VERSION = 2  # to be raised whenever the code makes something else of a scan by the same weights
REGION_MAP, MEASURES = "regions.nii.gz", "regions.safetensors"
_CHECK = TypeAdapter(ScanCheck)


def network_digest(weights: Path = WEIGHTS) -> str:
    """Short name of the networks and of the way they are used: the same name, the same result."""
    digest = hashlib.sha256(str(VERSION).encode())
    for path in sorted(weights.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def write_segmentation(
    folder: Path, segmentation: Segmentation, grade: ScanCheck, origin: str
) -> None:
    """Keep what a network made of a scan, and what the check made of that.

    Args:
        folder: Of the case; ``regions.nii.gz`` in it is what the viewer shows.
        segmentation: To be kept.
        grade: What `imaging.check.check` said.
        origin: Of which scan and by which network (`network_digest`), in a word.
    """
    write_region_map(segmentation.region_map, segmentation.affine, folder / REGION_MAP)
    measures = {
        "features": segmentation.features,
        "confidence": segmentation.confidence,
        "affine": np.asarray(segmentation.affine, dtype=np.float64),
    }
    about = {"origin": origin, "check": _CHECK.dump_json(grade).decode()}
    partial = folder / f"{MEASURES}.partial"
    save_file(measures, partial, about)
    partial.replace(folder / MEASURES)


def read_segmentation(folder: Path, origin: str) -> tuple[Segmentation, ScanCheck] | None:
    """What `write_segmentation` kept; None where there is nothing, or of another origin."""
    path = folder / MEASURES
    if not (path.exists() and (folder / REGION_MAP).exists()):
        return None
    with safe_open(path, "np") as file:
        about = file.metadata()
        if about["origin"] != origin:
            return None
        features, confidence, affine = (
            file.get_tensor(name) for name in ("features", "confidence", "affine")
        )
    image = nib.nifti1.load(folder / REGION_MAP)
    region_map = np.asarray(image.dataobj, dtype=np.uint8)
    found = Segmentation(region_map, affine, features, confidence)
    return found, _CHECK.validate_json(about["check"])
