"""Is the scan good enough to rely on? What is wrong with it, and a grade from 0 to 1.

Nine measures are taken on the network's own grid, because what is lost or added below its
resolution neither helps nor harms it. Each has two limits: up to `Limit.fine` nothing is said and
nothing lost, from there its share of the grade falls in a straight line and the physician reads
why, and at `Limit.useless` the scan counts as absent. `benchmarks/quality.py` measures what the
limits catch. The grade weighs the scan's evidence in the fusion network and is no probability.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import binary_dilation, binary_erosion, uniform_filter

from imaging.regions import REGION_INDEX, REGIONS, Segmentation
from imaging.scan import Scan

Kind = Literal[
    "sequence", "resolution", "coverage", "contrast", "noise", "motion", "segmentation"
]  # fmt: skip


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
        quality: Grade from 0 (counts as absent) to 1 (nothing wrong): the product of the shares.
        measures: What was measured, by the names of `LIMITS`.
        shares: What each measure leaves of the grade, 0..1, by the same names.
    """

    findings: tuple[ScanFinding, ...]
    quality: float
    measures: Mapping[str, float] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Limit:
    """How much of a measure is tolerated.

    Attributes:
        kind: Of the finding.
        fine: From here on something is said.
        useless: From here on the scan counts as absent; never reached where beyond what there is.
        message: For the physician; ``{value}`` is the measure.
    """

    kind: Kind
    fine: float
    useless: float
    message: str

    def share(self, value: float) -> float:
        """What a value leaves of the grade, 0..1."""
        return float(np.clip((value - self.useless) / (self.fine - self.useless), 0.0, 1.0))


LIMITS: Mapping[str, Limit] = {
    # A hippocampus is some 10 mm high.
    "slice thickness (mm)": Limit(
        "resolution", 3.0, 8.0,
        "The voxels are up to {value:.1f} mm long, so small regions such as the hippocampus are "
        "blurred; prefer a series of 1 mm slices.",
    ),
    "cut section": Limit(
        "coverage", 0.07, 0.9,
        "The brain is cut at the edge of the scan ({value:.0%} of its largest section), so volumes "
        "and head size are too small; repeat it with a larger field of view.",
    ),
    "smallest lobe": Limit(
        "coverage", 0.5, -0.5,
        "A large part of the brain measures {value:.0%} of its usual size: check whether it was "
        "scanned ({names}).",
    ),
    "white-grey contrast": Limit(
        "contrast", 0.2, 0.05,
        "White matter is only {value:.0%} brighter than grey, so the cortex is hard to outline; "
        "use a T1-weighted series with inversion preparation.",
    ),
    "white-fluid contrast": Limit(
        "sequence", 0.2, 0.0,
        "Fluid in the ventricles is hardly darker than white matter, as in T2-weighted or FLAIR "
        "series; choose the T1-weighted one.",
    ),
    "noise": Limit(
        "noise", 0.05, 0.3,
        "Noise is {value:.0%} of the signal, so small volumes are unsure; repeat it with more "
        "averages or a better coil.",
    ),
    "sharpness": Limit(
        "motion", 0.075, 0.015,
        "Borders inside the brain are smeared, as when a patient moves or slices are thick; look "
        "at the scan and repeat it if the cortex is doubled or blurred.",
    ),
    "ghosts": Limit(
        "motion", 0.15, 0.3,
        "Ghosts of the head lie in the air around it, as when a patient moves; look at the scan "
        "and repeat it if they cross the brain.",
    ),
    "confidence": Limit(
        "segmentation", 0.75, 0.4,
        "The segmentation is unsure of itself (mean confidence {value:.2f}); check the overlay "
        "before using any volume.",
    ),
}  # fmt: skip
SLIGHT = 0.8  # share of the grade from which nothing need be done
UNSURE = 0.5  # confidence below which a region is named as unreliable
NAMED = 3  # regions named in a finding at most
# Share of the labelled head on each side, both sides alike: medians of 35 IXI adults.
USUAL_SHARE = {
    "frontal cortex": 0.065, "parietal cortex": 0.028, "temporal cortex": 0.040,
    "occipital cortex": 0.029, "cerebral white matter": 0.174, "cerebellum": 0.051,
    "brain stem": 0.0145,
}  # fmt: skip
_OUTSIDE = ("brain stem", "cortical cerebrospinal fluid")  # may reach the border in a whole scan


def check(scan: Scan, prepared: Scan, segmentation: Segmentation) -> ScanCheck:
    """Judge a scan by its voxels' size and by what the network made of it.

    Args:
        scan: As it was read.
        prepared: The same after `imaging.prepare.prepare`.
        segmentation: What `imaging.segment.segment` made of that.
    """
    small = _smallest(lobe_shares(segmentation))
    unsure = _smallest(_confidences(segmentation))
    voxels, tissue = _brain_box(prepared, segmentation)
    noise = noise_share(voxels, tissue)
    sharp = sharpness(voxels, tissue, noise)
    measures = {
        "slice thickness (mm)": max(scan.spacing_mm),
        "cut section": cut_share(prepared, segmentation),
        "smallest lobe": min(small.values()),
        "white-grey contrast": contrast(voxels, tissue, "grey"),
        "white-fluid contrast": contrast(voxels, tissue, "fluid"),
        "noise": noise,
        "sharpness": sharp,
        # Movement takes from the borders what it puts into the air: the ratio tells it best.
        "ghosts": ghost_share(prepared.voxels, white_level(voxels, tissue), noise)
        / max(sharp, LIMITS["sharpness"].useless),
        "confidence": float(np.mean(list(_confidences(segmentation).values()) or [0.0])),
    }
    shares = {name: LIMITS[name].share(value) for name, value in measures.items()}
    findings = [_finding(name, measures[name], shares[name], small) for name in LIMITS]
    if scan.sequence != "T1w":
        said = f"The series is called {scan.sequence}; choose the T1-weighted one."
        findings.append(ScanFinding("sequence", said))
    poor = [name for name, value in unsure.items() if value < UNSURE]
    if poor:
        said = f"Do not rely on {', '.join(poor)}: the segmentation is unsure there."
        findings.append(ScanFinding("segmentation", said))
    found = tuple(finding for finding in findings if finding is not None)
    return ScanCheck(found, float(np.prod(list(shares.values()))), measures, shares)


def _finding(
    name: str, value: float, share: float, small: Mapping[str, float]
) -> ScanFinding | None:
    """What a measure has to say; nothing where it is fine."""
    if share >= 1.0:
        return None
    limit = LIMITS[name]
    names = ", ".join(key for key, size in small.items() if size < limit.fine)
    absent = "" if share > 0.0 else "The scan cannot be used and counts as absent. "
    said = limit.message.format(value=value, names=names)
    what, _, advice = said.partition("; ")
    if advice and share >= SLIGHT:
        said = f"{what}, but only slightly."
    return ScanFinding(limit.kind, absent + said)


def _smallest(values: Mapping[str, float]) -> dict[str, float]:
    """The few smallest, smallest first."""
    return dict(sorted(values.items(), key=lambda item: item[1])[:NAMED])


def _confidences(segmentation: Segmentation) -> dict[str, float]:
    """Confidence in each region that was found."""
    found = np.unique(segmentation.region_map)
    return {REGIONS[n - 1].key: float(segmentation.confidence[n - 1]) for n in found if n > 0}


def lobe_shares(segmentation: Segmentation) -> dict[str, float]:
    """Size of every large part of the brain, 1.0 where it is usual for such a head."""
    counts = np.bincount(segmentation.region_map.ravel(), minlength=len(REGIONS) + 1)[1:]
    head = max(1, int(counts.sum()))
    return {
        region.key: float(counts[n]) / head / USUAL_SHARE[region.name]
        for n, region in enumerate(REGIONS)
        if region.name in USUAL_SHARE
    }


def cut_share(prepared: Scan, segmentation: Segmentation) -> float:
    """How much of the brain's largest section lies just beyond the field of view, 0..1.

    The worst of the six borders. The field of view ends where the voxels' values begin to
    differ, so that padding does not hide a cut; and as a whole brain may end there too (its
    skull removed), the section beyond the border is extrapolated from the last ones inside.
    """
    outside = [0, *(REGION_INDEX[name] + 1 for name in _OUTSIDE)]
    brain = ~_table(outside)[segmentation.region_map]
    worst = 0.0
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        areas = brain.sum(axis=others).astype(float)
        span = prepared.voxels.max(axis=others) - prepared.voxels.min(axis=others)
        seen = np.flatnonzero(span > 0.02 * span.max())
        for inward in (areas[seen], areas[seen][::-1]):
            worst = max(worst, _beyond(inward) / max(1.0, float(areas.max())))
    return worst


def _beyond(areas: Float[np.ndarray, " section"]) -> float:
    """Area of the section one step before the first, from the second and third.

    The first may be half padding.
    """
    if len(areas) < 3:
        return 0.0
    return max(0.0, float(areas[1] - 2.0 * (areas[2] - areas[1])))


@dataclass(frozen=True)
class Tissue:
    """Where white matter, grey matter and fluid lie in a box around the brain.

    Attributes:
        white: Two voxels and more inside cerebral white matter.
        grey: Cortex.
        fluid: Lateral ventricles, without their rim.
        border: White matter that touches cortex.
    """

    white: Bool[np.ndarray, "i j k"]
    grey: Bool[np.ndarray, "i j k"]
    fluid: Bool[np.ndarray, "i j k"]
    border: Bool[np.ndarray, "i j k"]


def _brain_box(
    prepared: Scan, segmentation: Segmentation
) -> tuple[Float[np.ndarray, "i j k"], Tissue]:
    """Voxels and tissues in the smallest box around all that has a label."""
    labelled = segmentation.region_map > 0
    box = []
    for axis in range(3):
        found = np.flatnonzero(labelled.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append(slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 1))
    region_map = segmentation.region_map[tuple(box)]
    white, grey = _inside(region_map, "cerebral white matter"), _inside(region_map, "cortex")
    return prepared.voxels[tuple(box)], Tissue(
        binary_erosion(white, iterations=2),
        grey,
        binary_erosion(_inside(region_map, "lateral ventricle")),
        white & binary_dilation(grey),
    )


def _inside(region_map: UInt8[np.ndarray, "i j k"], ending: str) -> Bool[np.ndarray, "i j k"]:
    """Voxels of all regions whose name ends so."""
    values = [n for n, region in enumerate(REGIONS, start=1) if region.name.endswith(ending)]
    inside: Bool[np.ndarray, "i j k"] = _table(values)[region_map]
    return inside


def _table(values: list[int]) -> Bool[np.ndarray, " label"]:
    """True at these labels."""
    table = np.zeros(256, dtype=bool)
    table[values] = True
    return table


def white_level(voxels: Float[np.ndarray, "i j k"], tissue: Tissue) -> float:
    """Median of white matter, at least a grain."""
    return max(1e-6, float(np.median(voxels[tissue.white]))) if tissue.white.any() else 1e-6


def contrast(
    voxels: Float[np.ndarray, "i j k"], tissue: Tissue, other: Literal["grey", "fluid"]
) -> float:
    """How much darker another tissue is than white matter, as a share of the latter.

    Negative where it is the brighter one. Ventricles that are too narrow to have an inside
    count as dark; without white or grey matter there is no contrast.
    """
    inside = tissue.grey if other == "grey" else tissue.fluid
    if not inside.any():
        return 0.0 if other == "grey" else 1.0
    return 1.0 - float(np.median(voxels[inside])) / white_level(voxels, tissue)


def noise_share(voxels: Float[np.ndarray, "i j k"], tissue: Tissue) -> float:
    """Standard deviation of the noise inside white matter, as a share of its signal.

    From pseudo-residuals, a voxel less the mean of its six neighbours (Gasser et al., Biometrika
    1986; Coupe et al., IEEE TMI 2008), by their median absolute deviation: neither a bias field
    nor a few vessels count, and air is not asked, which defacing and skull stripping blacken.
    """
    if not tissue.white.any():
        return 0.0
    residuals = np.sqrt(6 / 7) * _residuals(voxels)[tissue.white]
    return 1.4826 * float(np.median(np.abs(residuals))) / white_level(voxels, tissue)


def _residuals(voxels: Float[np.ndarray, "i j k"]) -> Float[np.ndarray, "i j k"]:
    """Each voxel less the mean of its six neighbours."""
    padded = np.pad(voxels, 1, mode="edge")
    inner = slice(1, -1)
    around = padded[2:, inner, inner] + padded[:-2, inner, inner]
    around += padded[inner, 2:, inner] + padded[inner, :-2, inner]
    around += padded[inner, inner, 2:] + padded[inner, inner, :-2]
    return np.asarray(voxels - around / 6)


def sharpness(voxels: Float[np.ndarray, "i j k"], tissue: Tissue, noise: float) -> float:
    """How abruptly white matter turns into cortex, as a share of the contrast between them.

    Root mean square of the pseudo-residuals along the border, less what noise adds. Movement,
    blur and thick slices lower it; the size of a head does not.
    """
    step = abs(contrast(voxels, tissue, "grey")) * white_level(voxels, tissue)
    if not tissue.border.any() or step <= 0.0:
        return 0.0
    energy = np.square(_residuals(voxels)[tissue.border]).mean()
    from_noise = 7 / 6 * (noise * white_level(voxels, tissue)) ** 2
    return float(np.sqrt(max(0.0, energy - from_noise)) / step)


def ghost_share(voxels: Float[np.ndarray, "i j k"], white: float, noise: float) -> float:
    """How unevenly the air around the head shines, as a share of white matter.

    Standard deviation over the air of its mean in cubes of 5 voxels, in which noise averages out
    and ghosts do not. Air is where that mean is dark, three voxels away from all that is
    brighter. Air that was blackened says nothing, hence 0.
    """
    smooth = uniform_filter(voxels, 5)
    air = binary_erosion(smooth < (0.1 + 1.5 * noise) * white, iterations=3, border_value=1)
    return float(smooth[air].std()) / white if air.any() else 0.0
