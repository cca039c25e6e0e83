"""From files to a case: keep the bytes, read the record and the scan, make the evidence.

Two steps, so that an interrupted import resumes: `register` keeps what came and is instant;
`prepare_case` segments and encodes whatever has no evidence yet.
"""

import csv
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from pydantic import TypeAdapter

from clinical import check as record_check
from clinical.diagnoses import Scheme
from clinical.fhir import ImportReport, read_bundle
from clinical.lab_encoder import history_tokens, lab_tokens
from clinical.record import PatientRecord
from clinical.text_encoder import TextEncoder, load_text_encoder
from fusion.case import Modality, Tokens
from fusion.store import CaseRow, Site, labels_of, now, sha256
from imaging import check as scan_check
from imaging.encoder import RegionTokens, region_tokens
from imaging.prepare import prepare, to_ras
from imaging.read import read_nifti, write_clean, write_region_map
from imaging.scan import ScanError
from imaging.segment import RegionNet, segment

log = logging.getLogger(__name__)

REPORT = TypeAdapter(ImportReport)


class IntakeError(ValueError):
    """A file or a list of files that cannot be imported; the message says what to do."""


@dataclass(frozen=True)
class Source:
    """Files of one case; at least one of them.

    Attributes:
        bundle: FHIR R4 bundle.
        scan: NIfTI, T1-weighted.
        diagnoses: Known label keys, for training; None where unknown.
    """

    bundle: Path | None = None
    scan: Path | None = None
    diagnoses: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Registered:
    """What became of one source."""

    case_id: str
    changed: bool  # False: everything was already here
    report: ImportReport | None = None


@dataclass
class Tools:
    """What preparing needs, loaded at first use: the segmentation network and the text encoder."""

    text_encoder_folder: Path | None = None
    seconds: dict[str, float] = field(default_factory=dict)  # spent per step

    @cached_property
    def net(self) -> RegionNet:
        """The segmentation network that ships."""
        return RegionNet.load()

    @cached_property
    def encoder(self) -> TextEncoder:
        """The site's text encoder."""
        return load_text_encoder(self.text_encoder_folder)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the time of a block to a step."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - began


def read_pairs(path: Path) -> list[Source]:
    """Read a CSV with columns ``bundle``, ``scan`` and, optionally, ``diagnoses``.

    Paths are relative to the CSV; empty cells are absent. Diagnoses are label keys separated
    by semicolons, such as ``DE;AD``.

    Raises:
        IntakeError: A column is missing, or a line names neither file.
    """
    sources = []
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if not {"bundle", "scan"} <= set(reader.fieldnames or ()):
            raise IntakeError(f"{path} needs the columns bundle and scan in its first line")
        for line in reader:
            bundle, scan = (path.parent / line[c] if line[c] else None for c in ("bundle", "scan"))
            if bundle is None and scan is None:
                raise IntakeError(f"{path} line {reader.line_num}: neither a bundle nor a scan")
            keys = line.get("diagnoses")
            sources.append(Source(bundle, scan, tuple(keys.split(";")) if keys else None))
    return sources


def register(site: Site, source: Source, scheme: Scheme) -> Registered:
    """Keep the files of one case and read its record.

    Raises:
        IntakeError: A file cannot be opened.
        clinical.fhir.BundleError: The bundle is no usable FHIR bundle; nothing is kept.
        imaging.scan.ScanError: There is no bundle, and the scan cannot be used.
        fusion.store.SiteError: A diagnosis is not in the scheme.
    """
    if source.diagnoses is not None:
        labels_of(list(source.diagnoses), scheme)
    bundle, scan = _bytes(source.bundle), _bytes(source.scan)
    case_id = sha256(bundle if bundle is not None else scan or b"")[:12]
    known = site.find(case_id)
    scan_sha256 = sha256(scan) if scan is not None else None
    if known and scan_sha256 in (None, known.scan_sha256):
        return Registered(case_id, changed=_relabel(site, known, source))
    if known and known.scan_sha256:
        raise IntakeError(
            f"case {case_id} already has another scan; a second scan is a case of its own: "
            "import it with the record of its day"
        )
    diagnoses = source.diagnoses or (known.diagnoses if known else None)
    if bundle is not None:
        record, report = read_bundle(bundle)
    else:
        assert source.scan is not None
        read_nifti(source.scan)  # there would be nothing else in the case
        record, report = PatientRecord(patient_id=case_id, sex="unknown"), ImportReport()
    row = CaseRow(
        case_id=case_id,
        patient_key=site.patient_key(record.patient_id),
        imported_at=now(),
        bundle_sha256=site.keep("bundles", bundle, ".json") if bundle is not None else None,
        scan_sha256=site.keep("scans", scan, _suffix(source.scan)) if scan is not None else None,
        age_years=record.age_years,
        sex=record.sex,
        diagnoses=list(diagnoses) if diagnoses is not None else None,
    )
    site.add_case(row, record, REPORT.dump_python(report, mode="json"))
    (site.case_folder(case_id) / "tokens.safetensors").unlink(missing_ok=True)
    site.audit("import", "import", case_id)
    return Registered(case_id, changed=True, report=report)


def _relabel(site: Site, known: CaseRow, source: Source) -> bool:
    """Take over known diagnoses that are new for a case; whether anything changed."""
    if source.diagnoses is None or list(source.diagnoses) == known.diagnoses:
        return False
    with site.session() as session:
        session.get_one(CaseRow, known.case_id).diagnoses = list(source.diagnoses)
    site.audit("import", "relabel", known.case_id)
    return True


def unprepared(site: Site, encoder_sha256: str) -> list[str]:
    """Cases whose evidence is missing or was made by another text encoder."""
    return [r.case_id for r in site.cases() if site.tokens_encoder(r.case_id) != encoder_sha256]


def prepare_case(site: Site, case_id: str, tools: Tools, scheme: Scheme) -> None:
    """Make a case's evidence and keep it.

    A scan that cannot be used becomes a finding and the case goes on without it.
    """
    row, record = site.row(case_id), site.record(case_id)
    findings = [finding.message for finding in record_check.check(record)]
    unread = sum(note.language not in tools.encoder.languages for note in record.notes)
    if unread:
        findings.append(
            f"{unread} of {len(record.notes)} notes are in a language that {tools.encoder.name} "
            "does not read; they weigh little."
        )
    tokens: dict[Modality, Tokens] = {}
    if row.scan_sha256:
        scan, said = _scan_evidence(site, row, record, tools)
        findings += said
        if scan is not None:
            tokens["scan"] = scan
    with tools.timed("encode"):
        made: Iterable[tuple[Modality, Tokens | None]] = (
            ("notes", tools.encoder.note_tokens(record.notes)),
            ("labs", lab_tokens(record)),
            ("history", history_tokens(record, tools.encoder, exclude=scheme.codes)),
        )
        tokens |= {modality: t for modality, t in made if t is not None}
    site.save_tokens(case_id, tokens, findings=findings, encoder=tools.encoder.sha256)


def _scan_evidence(
    site: Site, row: CaseRow, record: PatientRecord, tools: Tools
) -> tuple[RegionTokens | None, list[str]]:
    """Region tokens of a case's scan, and what its check found."""
    assert row.scan_sha256 is not None
    folder = site.case_folder(row.case_id)
    try:
        with tools.timed("prepare and segment"):
            scan = read_nifti(site.original("scans", row.scan_sha256))
            prepared = prepare(scan)
            segmentation = segment(tools.net, prepared)
            grade = scan_check.check(scan, prepared, segmentation)
        write_clean(to_ras(scan), folder / "T1w.nii.gz")
        write_region_map(segmentation.region_map, segmentation.affine, folder / "regions.nii.gz")
    except ScanError as error:
        log.warning("case %s: %s", row.case_id, error)
        return None, [f"The scan could not be used: {error}"]
    findings = [finding.message for finding in grade.findings]
    if grade.quality == 0.0:
        return None, findings
    tokens = region_tokens(segmentation, record.age_years, record.sex, quality=grade.quality)
    return tokens, findings


def _bytes(path: Path | None) -> bytes | None:
    """The bytes of a file, None for none."""
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise IntakeError(f"{path}: {error.strerror}") from None


def _suffix(path: Path | None) -> str:
    """``.nii.gz`` or ``.nii``, whatever else the file name says."""
    return ".nii.gz" if path is not None and path.name.endswith(".gz") else ".nii"
