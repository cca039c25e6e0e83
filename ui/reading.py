"""What a case's scan measured, and the earlier scan it can be held against."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from clinical.findings import Finding
from fusion.case import Pointer
from fusion.consistency import weights
from fusion.store import ScanTime, Site, SiteError
from imaging.change import Course, Visit, follow, load_retest
from imaging.encoder import RegionPointer, RegionTokens
from imaging.norms import load_norms
from imaging.pictures import CAPTION, Measured, draw_overlay
from imaging.read import read_nifti

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScanReading:
    """One scan's measures.

    Attributes:
        measured: Its volumes, and the patient's age at the scan and sex.
        confidence: Mean probability of the label inside each region, 0..1; a region of old
            evidence is not a key.
        grade: Of the scan, 0..1; None in old evidence.
        findings: Why the grade is not better.
        prior: The patient's scan before it, if there is one.
        course: What changed since; None where there is no such scan.
    """

    measured: Measured
    confidence: Mapping[str, float]
    grade: float | None
    findings: tuple[Finding, ...]
    prior: Measured | None = None
    course: Course | None = None

    @property
    def mean_confidence(self) -> float | None:
        """Over all regions."""
        return sum(self.confidence.values()) / len(self.confidence) if self.confidence else None


def read_scan(site: Site, case_id: str) -> ScanReading | None:
    """The measures of a case's scan; None where there is none that may be shown."""
    try:
        row, tokens = site.row(case_id), site.evidence(case_id).get("scan")
        if not isinstance(tokens, RegionTokens):
            return None
        time, before = site.scan_time(case_id), site.prior_scan(case_id)
        measured = Measured(_volumes(tokens), time.age_years, row.sex)
        prior = _measured(site, before, row.sex) if before else None
        course = None
        if before and prior:
            visits = _visit(site, before, prior), _visit(site, time, measured)
            course = follow(
                *visits, load_norms(), load_retest(), age_years=time.age_years, sex=row.sex
            )
    except SiteError as error:
        log.warning("case %s has no volumes to show: %s", case_id, error)
        return None
    confidence = {p.region: p.confidence for p in tokens.pointers if p.confidence is not None}
    grades = [
        float(quality) / confidence[pointer.region]
        for quality, pointer in zip(tokens.quality, tokens.pointers, strict=True)
        if confidence.get(pointer.region)
    ]
    return ScanReading(
        measured=measured,
        confidence=confidence,
        grade=min(max(grades), 1.0) if grades else None,
        findings=row.facts.checked,
        prior=prior,
        course=course,
    )


def read_weights(
    site: Site, case_id: str
) -> tuple[dict[Pointer, float], tuple[RegionPointer, ...]]:
    """What findings leave of the weight of evidence, where not all; and the scan's measures."""
    try:
        tokens = site.evidence(case_id)
    except SiteError:
        return {}, ()
    left = weights(tokens, site.row(case_id).found, site.verdicts(case_id))
    doubted = {
        pointer: factor
        for modality, t in tokens.items()
        for pointer, factor in zip(t.pointers, left[modality], strict=True)
        if factor < 1.0
    }
    regions = tokens["scan"].pointers if "scan" in tokens else ()
    return doubted, tuple(p for p in regions if isinstance(p, RegionPointer))


def overlay_picture(case_id: str, reading: ScanReading, scan: Path, regions: Path) -> bytes:
    """A PNG of the scan's slices through the hippocampi, which says how sure its borders are.

    Its names are left to the page, which speaks the reader's language.

    Raises:
        imaging.scan.ScanError: A file is damaged.
    """
    said = [f"Case {case_id}"]
    if reading.mean_confidence is not None:
        said.append(f"mean confidence {reading.mean_confidence:.2f}")
    if reading.grade is not None:
        said.append(f"scan quality {reading.grade:.2f}")
    found = read_nifti(regions)
    labels = found.voxels.astype(np.uint8)
    caption = ". ".join([", ".join(said), CAPTION])
    return draw_overlay(read_nifti(scan), labels, found.affine, caption, legend=())


def _measured(site: Site, time: ScanTime, sex: str) -> Measured | None:
    """What another scan of the same patient measured."""
    tokens = site.evidence(time.case_id).get("scan")
    if not isinstance(tokens, RegionTokens):
        return None
    return Measured(_volumes(tokens), time.age_years, sex)


def _volumes(tokens: RegionTokens) -> dict[str, float]:
    """Cubic mm by region key."""
    return {pointer.region: pointer.volume_mm3 for pointer in tokens.pointers}


def _visit(site: Site, time: ScanTime, measured: Measured) -> Visit:
    """A scan with its day, which is the record's where the scan does not say."""
    acquisition = replace(site.row(time.case_id).facts.acquisition, acquired_on=time.day)
    return Visit(measured.volumes_mm3, measured.head_mm3, acquisition)
