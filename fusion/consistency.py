"""Record against scan, and what findings do to the weight of evidence.

`scan_findings` holds what notes state of the brain against what was measured in it. `weigh` is the
one place where a finding lowers the weight of what it casts doubt on: a token's quality is
multiplied until a person has decided, and a token that was found wrong is taken out.
"""

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from clinical.contradictions import place
from clinical.evidence import AnalytePointer, FactPointer, SentencePointer
from clinical.findings import (
    DOUBTFUL,
    MESSAGES,
    UNSURE,
    WHOLE_NOTE,
    Finding,
    Source,
    Verdict,
    plain,
)
from clinical.record import DAYS_PER_YEAR, PatientRecord
from clinical.statements import Statement, statements
from fusion.case import Modality, Pointer, Tokens
from fusion.identity import Disagreement
from imaging.check import ScanFinding
from imaging.encoder import RegionPointer
from imaging.norms import load_norms
from imaging.scan import Acquisition

NOT_SMALL_CENTILE = 25.0  # no reader calls it marked atrophy
VERY_SMALL_CENTILE = 2.5  # no reader calls it normal
LEANS_Z = 1.3  # the side that is larger by measure, against the side that is stated
SURE = 0.6  # confidence of the segmentation from which a volume can contradict a reader
OLD_YEARS = 1.0  # a note this much older than the scan may have been right in its day


def scan_findings(
    record: PatientRecord,
    regions: Sequence[RegionPointer],
    acquisition: Acquisition,
    age_years: float | None = None,
    today: dt.date | None = None,
) -> tuple[Finding, ...]:
    """Hold the scan's measures and its header's day against the record.

    Args:
        record: What the record says.
        regions: What was measured; empty where there is no usable scan.
        acquisition: Facts of the scan's header.
        age_years: At the scan.
        today: Day after which nothing can have happened; the clock's where None.
    """
    sure = {p.region: p for p in regions if p.confidence is None or p.confidence >= SURE}
    day = acquisition.acquired_on
    found = list(_header_day(record, day, today or dt.date.today()))
    for note in record.notes:
        old = day and note.date and (day - note.date).days > OLD_YEARS * DAYS_PER_YEAR
        for made in statements(note):
            found += _against_volume(made, sure, is_old=bool(old))
            found += _against_side(made, sure, age_years)
    return tuple(found)


def _header_day(record: PatientRecord, day: dt.date | None, latest: dt.date) -> Iterator[Finding]:
    """The day of the scan in the future or before birth."""
    header = (Source("header", "acquired_on"),)
    if day is not None and day > latest:
        yield Finding("header", "scan future", (), header, (), (UNSURE, 1.0))
    if day is not None and record.birth_date is not None and day < record.birth_date:
        born = (Source("patient", "birth date"),)
        yield Finding("header", "scan before birth", (), header, born, (UNSURE, UNSURE))


def _against_volume(
    made: Statement, regions: Mapping[str, RegionPointer], *, is_old: bool
) -> Iterator[Finding]:
    """Marked atrophy that was not measured, and measured atrophy that was not seen."""
    if made.kind not in ("atrophy", "normal size"):
        return
    sides = [made.side] if made.side else ["left", "right"]
    pointers = [p for side in sides if (p := regions.get(f"{side} {made.name}")) is not None]
    grown = made.name == "lateral ventricle"
    known = [(_loss(p.centile, grown=grown), p) for p in pointers if p.centile is not None]
    if not known:
        return
    loss, worst = min(known, key=lambda pair: pair[0])
    word = "ventricle" if grown else "atrophy"
    if made.kind == "atrophy" and loss >= NOT_SMALL_CENTILE:
        yield _volume_finding(f"{word} absent", made, worst.region)
    if made.kind == "normal size" and loss <= VERY_SMALL_CENTILE and not is_old:
        yield _volume_finding(f"{word} missed", made, worst.region)


def _loss(centile: float, *, grown: bool) -> float:
    """A centile whose low values mean disease: ventricles grow where tissue is lost."""
    return 100.0 - centile if grown else centile


def _volume_finding(template: str, made: Statement, region: str) -> Finding:
    second = (Source("region", region),)
    return Finding(
        "atrophy", template, (("region", region),), (place(made),), second, (UNSURE, UNSURE)
    )


def _against_side(
    made: Statement, regions: Mapping[str, RegionPointer], age_years: float | None
) -> Iterator[Finding]:
    """A note that names one side as the smaller where it is clearly the other."""
    pair = [regions.get(f"{side} {made.name}") for side in ("left", "right")]
    if made.kind not in ("asymmetry", "atrophy") or not made.side or None in pair:
        return
    left, right = (pointer.volume_mm3 for pointer in pair if pointer)
    z = load_norms().asymmetry_z(made.name, left, right, age_years)
    leans = {"left": 1.0, "right": -1.0}[made.side]  # the stated side is the larger
    if z is not None and z * leans > LEANS_Z:
        second = tuple(Source("region", f"{side} {made.name}") for side in ("left", "right"))
        said = (("region", second[0].id if made.side == "left" else second[1].id),)
        yield Finding("side", "atrophy side", said, (place(made),), second, (DOUBTFUL, 1.0))


# -- findings of other makers ------------------------------------------------------------------


def of_scan(found: ScanFinding) -> Finding:
    """What `imaging.check` found, as all findings are kept."""
    template = f"scan {found.kind}"
    if template not in MESSAGES:
        return plain(found.message, "scan")
    return Finding("scan", template, (("text", found.message),))


def of_identity(found: Disagreement, decided: str = "") -> Finding:
    """In what a scan's header and the record disagree, and what a person said of it.

    Args:
        found: The disagreement.
        decided: ``same`` or ``other`` patient; empty where nobody has decided.
    """
    template = f"header {found.fact} {decided}".strip()
    values = (("sex", found.record), ("sex_2", found.header), ("years", str(found.years_apart)))
    return Finding("header", template, tuple(pair for pair in values if pair[1] not in ("", "0")))


# -- weights ---------------------------------------------------------------------------------


def weights(
    tokens: Mapping[Modality, Tokens],
    findings: Sequence[Finding],
    verdicts: Mapping[str, Verdict],
) -> dict[Modality, tuple[float, ...]]:
    """What findings leave of the quality of each token, 0..1.

    Args:
        tokens: Evidence by modality.
        findings: Of the case.
        verdicts: What persons decided, by a finding's key.
    """
    doubted = [
        (finding, source, factor)
        for finding in findings
        for side, factor in zip(
            (finding.first, finding.second), finding.left(verdicts.get(finding.key)), strict=True
        )
        for source in side
        if factor < 1.0
    ]
    return {
        modality: tuple(_weight(pointer, doubted) for pointer in t.pointers)
        for modality, t in tokens.items()
    }


def _weight(pointer: Pointer, doubted: Sequence[tuple[Finding, Source, float]]) -> float:
    """The product over the findings that doubt a token; one finding counts once."""
    left: dict[str, float] = {}
    for finding, source, factor in doubted:
        if _is_about(pointer, source, whole_note=finding.kind in WHOLE_NOTE):
            left[finding.key] = min(factor, left.get(finding.key, 1.0))
    product = 1.0
    for factor in left.values():
        product *= factor
    return product


def _is_about(pointer: Pointer, source: Source, *, whole_note: bool) -> bool:
    """Whether a token rests on an entry."""
    if isinstance(pointer, SentencePointer):
        same = source.kind == "note" and source.id == pointer.note_id
        inside = source.start < pointer.end and pointer.start < source.end
        return same and (whole_note or source.end == 0 or inside)
    if isinstance(pointer, AnalytePointer):
        return source.kind == "observation" and source.id in pointer.observation_ids
    if isinstance(pointer, FactPointer):
        if source.kind == "patient":
            about = {"sex": "sex", "birth date": "age"}.get(source.id)
            return pointer.resource_id == "patient" and pointer.code == about
        return source.kind in ("condition", "medication") and source.id == pointer.resource_id
    return source.kind == "header" or (source.kind == "region" and source.id == pointer.region)


def weigh(
    tokens: Mapping[Modality, Tokens], left: Mapping[Modality, Sequence[float]]
) -> dict[Modality, Tokens]:
    """Multiply quality by what `weights` left; a token with nothing left is taken out."""
    weighed: dict[Modality, Tokens] = {}
    for modality, t in tokens.items():
        factors = np.array(left[modality], dtype=np.float32)
        kept = np.flatnonzero(factors > 0)
        if len(kept):
            weighed[modality] = _only(t, kept, t.quality * factors)
    return weighed


def _only(tokens: Any, kept: np.ndarray, quality: np.ndarray) -> Tokens:
    """Some of a modality's tokens with other quality."""
    chosen: Tokens = replace(
        tokens,
        features=tokens.features[kept],
        kinds=tokens.kinds[kept],
        quality=quality[kept],
        pointers=tuple(tokens.pointers[n] for n in kept.tolist()),
    )
    return chosen
