"""Is the scan good enough to rely on? What is wrong with it, and a grade from 0 to 1.

Four plain measures; noise, motion and artefacts are not looked for. The grade weighs the
scan's evidence in the fusion network and is not a probability of anything.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool

from imaging.regions import REGION_INDEX, REGIONS, Segmentation
from imaging.scan import Scan

Kind = Literal["sequence", "resolution", "coverage", "contrast", "segmentation"]

GOOD_SPACING_MM = 2.0  # the network's own grid
THICK_MM = 3.0  # a hippocampus is some 10 mm high
CUT = 0.02  # share of the largest section of the brain that may lie on the border
GOOD_CONTRAST = 1.5  # white minus grey matter, in standard deviations inside white matter
POOR_CONTRAST = 0.75
GOOD_CONFIDENCE = 0.8  # mean probability of the winning label
POOR_CONFIDENCE = 0.6
_OUTSIDE = ("brain stem", "cortical cerebrospinal fluid")  # may reach the border in a whole scan


@dataclass(frozen=True)
class ScanFinding:
    """One thing that is wrong: its kind and a sentence for the physician."""

    kind: Kind
    message: str


@dataclass(frozen=True)
class ScanCheck:
    """What a check found.

    Attributes:
        findings: Empty if nothing is wrong.
        quality: Grade from 0 (useless) to 1 (nothing wrong): the product of four shares.
    """

    findings: tuple[ScanFinding, ...]
    quality: float


def check(scan: Scan, prepared: Scan, segmentation: Segmentation) -> ScanCheck:
    """Judge a scan by its voxels' size and by what the network made of it.

    Args:
        scan: As it was read.
        prepared: The same after `imaging.prepare.prepare`.
        segmentation: What `imaging.segment.segment` made of that.
    """
    thickness = max(scan.spacing_mm)
    cut = cut_share(segmentation)
    contrast = tissue_contrast(prepared, segmentation)
    confidence = float(segmentation.confidence.mean())
    found: list[tuple[bool, Kind, str]] = [
        (
            scan.sequence != "T1w",
            "sequence",
            f"{scan.sequence} instead of T1w: regions are unreliable",
        ),
        (
            thickness > THICK_MM,
            "resolution",
            f"slices of {thickness:.1f} mm: small regions such as the hippocampus are blurred",
        ),
        (
            cut > CUT,
            "coverage",
            f"the brain is cut at the border of the scan ({cut:.0%} of a section)",
        ),
        (
            contrast < POOR_CONTRAST,
            "contrast",
            "white and grey matter are hard to tell apart; is it T1-weighted?",
        ),
        (
            confidence < POOR_CONFIDENCE,
            "segmentation",
            f"the segmentation is unsure (mean confidence {confidence:.2f})",
        ),
    ]
    shares = (
        GOOD_SPACING_MM / thickness,
        1.0 - cut,
        contrast / GOOD_CONTRAST,
        confidence / GOOD_CONFIDENCE,
    )
    findings = tuple(ScanFinding(kind, message) for wrong, kind, message in found if wrong)
    return ScanCheck(findings, float(np.prod(np.clip(shares, 0.0, 1.0))))


def cut_share(segmentation: Segmentation) -> float:
    """How much of the brain's largest section lies on a border of the field of view, 0..1.

    The worst of the six borders. A border that was padded with air is not recognised.
    """
    outside = [0, *(REGION_INDEX[name] + 1 for name in _OUTSIDE)]
    brain = ~np.isin(segmentation.region_map, outside)
    worst = 0.0
    for axis in range(3):
        areas = brain.sum(axis=tuple(a for a in range(3) if a != axis))
        worst = max(worst, float(max(areas[0], areas[-1]) / max(1, areas.max())))
    return worst


def tissue_contrast(prepared: Scan, segmentation: Segmentation) -> float:
    """White minus grey matter in standard deviations inside white matter.

    0.0 where one of them was not found; negative where grey is the brighter one.
    """
    white = prepared.voxels[_inside(segmentation, "cerebral white matter")]
    grey = prepared.voxels[_inside(segmentation, "cortex")]
    if white.size == 0 or grey.size == 0:
        return 0.0
    return float((white.mean() - grey.mean()) / max(float(white.std()), 1e-6))


def _inside(segmentation: Segmentation, ending: str) -> Bool[np.ndarray, "i j k"]:
    """Voxels of all regions whose name ends so."""
    values = [n for n, region in enumerate(REGIONS, start=1) if region.name.endswith(ending)]
    inside: Bool[np.ndarray, "i j k"] = np.isin(segmentation.region_map, values)
    return inside
