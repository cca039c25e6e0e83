"""From files and tables to a case: keep what came, read record and scan, make the evidence.

Two steps, so that an interrupted import resumes: `register` keeps what came and holds a scan's
header against the record; `prepare_case` segments and encodes whatever has no evidence yet.
"""

import csv
import datetime as dt
import gzip
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import get_args

from pydantic import TypeAdapter

from clinical import check as record_check
from clinical.cells import TableReport
from clinical.check import OLDEST_YEARS
from clinical.diagnoses import Scheme
from clinical.fhir import ImportReport, read_bundle
from clinical.findings import Finding
from clinical.import_report import Place
from clinical.lab_encoder import history_tokens, lab_tokens
from clinical.mapping import TableMapping
from clinical.ndjson import ExportedPatient
from clinical.record import DAYS_PER_YEAR, PatientRecord, Sex
from clinical.tables import TableCase, read_table
from clinical.text_encoder import TextEncoder, load_text_encoder
from clinical.vectors import FILE as VECTORS
from clinical.vectors import VectorCache
from fusion.case import Modality, Tokens
from fusion.consistency import of_identity, of_scan, scan_findings
from fusion.identity import compare
from fusion.store import (
    NOT_THIS_PATIENT,
    RECORD,
    CaseRow,
    ScanFacts,
    Site,
    dump_facts,
    labels_of,
    now,
    sha256,
)
from imaging.bids import read_bids
from imaging.check import ScanCheck
from imaging.check import check as check_scan
from imaging.dicom import read_dicom
from imaging.encoder import RegionTokens, region_tokens
from imaging.engines import load_engine
from imaging.kept import network_digest, read_segmentation, write_segmentation
from imaging.prepare import prepare, to_ras
from imaging.read import read_nifti, write_clean
from imaging.regions import Segmentation
from imaging.scan import Acquisition, Identity, ScanError
from imaging.segment import Engine, segment

log = logging.getLogger(__name__)

REPORT = TypeAdapter(ImportReport)

NOTHING_TO_COMPARE = Finding("header", "nothing to compare")


class IntakeError(ValueError):
    """A file or a list of files that cannot be imported; the message says what to do."""


@dataclass(frozen=True)
class Source:
    """What one case is made of: a bundle, a scan, both, or a record that a table told.

    Attributes:
        bundle: FHIR R4 bundle.
        exported: One patient of a bulk export or of a bundle with several, in place of `bundle`.
        scan: T1-weighted: a NIfTI file, or DICOM: a folder or one file of a series.
        diagnoses: Known label keys, for training; None where unknown.
        record: What is known of the patient, where there is no bundle.
        origin: Where `record` comes from, for the case's report: the kept table, its lines.
        acquisition: What is known of the scan, where its file does not say.
        name: What messages call it, where it is not what the user typed.
    """

    bundle: Path | None = None
    scan: Path | None = None
    diagnoses: tuple[str, ...] | None = None
    record: PatientRecord | None = None
    acquisition: Acquisition = field(default_factory=Acquisition)
    name: str = ""
    origin: Mapping[str, object] = field(default_factory=dict)
    exported: ExportedPatient | None = None

    @property
    def has_bundle(self) -> bool:
        """Whether there is a FHIR bundle, be it a file or a part of one."""
        return self.bundle is not None or self.exported is not None

    def __str__(self) -> str:
        """What a message calls it."""
        return self.name or str(self.bundle or self.scan)


@dataclass(frozen=True)
class Registered:
    """What became of one source."""

    case_id: str
    changed: bool  # False: everything was already here
    report: ImportReport | None = None
    remarks: tuple[str, ...] = ()  # what there is to say of its scan


@dataclass(frozen=True)
class _Incoming:
    """A scan that arrives, as the site will keep it; or why there is none."""

    digest: str = ""  # empty: no scan
    raw: bytes = b""
    suffix: str = ""
    acquisition: Acquisition = field(default_factory=Acquisition)
    identity: Identity | None = None  # None: of a format that names nobody
    remarks: tuple[str, ...] = ()
    problem: str = ""  # why there is no scan


@dataclass
class Tools:
    """What preparing needs, loaded at first use: the segmentation network and the text encoder.

    Attributes:
        text_encoder_folder: None for the stand-in.
        engine: What shall run both, or ``auto`` for the fastest that is installed.
        kept: Folder for what is exported to an engine; None to export it again each time.
        vectors: What was encoded before; None begins anew, in memory.
        seconds: Spent per step.
    """

    text_encoder_folder: Path | None = None
    engine: str = "auto"
    kept: Path | None = None
    vectors: VectorCache | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, site: Site, engine: str = "auto") -> "Tools":
        """Those of a site, whose folder keeps what is made once."""
        vectors = VectorCache.open(site.folder / VECTORS, site.config.salt)
        return cls(site.text_encoder_folder, engine, site.engines_folder, vectors)

    @cached_property
    def segmenter(self) -> Engine:
        """The segmentation network that ships, ready to run."""
        return load_engine(engine=self.engine, kept=self.kept)

    @cached_property
    def network(self) -> str:
        """Which segmentation network that is."""
        return network_digest()

    @cached_property
    def encoder(self) -> TextEncoder:
        """The site's text encoder."""
        return load_text_encoder(
            self.text_encoder_folder, engine=self.engine, kept=self.kept, vectors=self.vectors
        )

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


def bids_sources(folder: Path) -> tuple[list[Source], tuple[str, ...]]:
    """The sessions of a BIDS dataset as cases, and what to tell about the dataset.

    Raises:
        imaging.scan.ScanError: There is no subject in the folder.
    """
    dataset = read_bids(folder)
    sources = []
    for scan in dataset.scans:
        patient = f"bids/{dataset.name}/{scan.subject}"  # the same for all of its sessions
        record = PatientRecord(patient, _sex(scan.sex), stated_age_years=scan.age_years)
        sources.append(
            Source(scan=scan.path, record=record, acquisition=scan.acquisition, name=scan.name)
        )
    return sources, dataset.remarks


def table_sources(
    site: Site, table: Path, mapping: TableMapping, meaning: Path
) -> tuple[list[Source], TableReport]:
    """The rows of a table as cases; its bytes and those of its mapping are kept in the site.

    Args:
        site: Keeps them.
        table: CSV or TSV.
        mapping: What its columns mean.
        meaning: The file of the mapping.

    Raises:
        IntakeError: A file cannot be opened.
        clinical.tables.TableError: It is no table, or lacks a column of the mapping.
    """
    raw = _bytes(table) or b""
    cases, report = read_table(raw, mapping, table.name)
    kept = {
        "table_sha256": site.keep("tables", raw, table.suffix.lower()),
        "mapping_sha256": site.keep("tables", _bytes(meaning) or b"", ".toml"),
    }
    return [_row_source(table, case, kept) for case in cases], report


def _row_source(table: Path, case: TableCase, kept: Mapping[str, str]) -> Source:
    """One case of a table."""
    return Source(
        diagnoses=case.diagnoses,
        record=case.record,
        name=f"{table.name} line {case.lines[-1]}",
        origin={**kept, "lines": list(case.lines)},
    )


def register(site: Site, source: Source, scheme: Scheme) -> Registered:
    """Keep the files of one case and read its record.

    Raises:
        IntakeError: A file cannot be opened, or there is none and no record either.
        clinical.fhir.BundleError: The bundle is no usable FHIR bundle; nothing is kept.
        imaging.scan.ScanError: There is no bundle, and the scan cannot be used.
        fusion.store.SiteError: A diagnosis is not in the scheme.
    """
    if not source.has_bundle and source.scan is None and source.record is None:
        raise IntakeError("there is nothing to import: give a bundle, a scan or a table")
    if source.diagnoses is not None:
        labels_of(list(source.diagnoses), scheme)
    (bundle, places), scan = _bundle(source), _incoming(source)
    case_id = sha256(bundle)[:12] if bundle is not None else _unbundled_id(source, scan)
    known, decided = site.find(case_id), _decided(site, case_id, scan)
    if known and (scan.digest in ("", known.scan_sha256) or decided is False):
        refused = (f"the scan was {NOT_THIS_PATIENT}; it was not taken again",)
        remarks = refused if decided is False else ()
        return Registered(case_id, changed=_relabel(site, known, source), remarks=remarks)
    if known and known.scan_sha256:
        raise IntakeError(
            f"case {case_id} already has another scan; a second scan is a case of its own: "
            "import it with the record of its day"
        )
    diagnoses = source.diagnoses
    if diagnoses is None and known:
        diagnoses = tuple(known.diagnoses) if known.diagnoses is not None else None
    record, report = _record(site, source, (bundle, places), scan, case_id)
    facts = _facts(scan, record if bundle is not None else None, decided=decided)
    if scan.digest:
        site.keep("scans", scan.raw, scan.suffix, scan.digest)
    row = CaseRow(
        case_id=case_id,
        patient_key=site.patient_key(record.patient_id),
        imported_at=now(),
        bundle_sha256=site.keep("bundles", bundle, ".json") if bundle is not None else None,
        scan_sha256=scan.digest or None,
        age_years=record.age_years,
        sex=record.sex,
        diagnoses=list(diagnoses) if diagnoses is not None else None,
        scan_facts=dump_facts(facts),
    )
    (site.case_folder(case_id) / "tokens.safetensors").unlink(missing_ok=True)
    told = {**REPORT.dump_python(report, mode="json"), **source.origin}
    site.add_case(row, record, told)
    site.audit("import", "import", case_id)
    return Registered(case_id, changed=True, report=report, remarks=scan.remarks)


def _incoming(source: Source) -> _Incoming:
    """Read a source's scan as far as keeping it needs.

    Raises:
        imaging.scan.ScanError: It cannot be used, and there is no bundle to go on with.
    """
    if source.scan is None:
        return _Incoming()
    try:
        if _is_dicom(source.scan):
            return _from_dicom(source.scan)
        if source.bundle is None:
            read_nifti(source.scan)  # there would be nothing else in the case
    except ScanError as error:
        if source.bundle is None:
            raise
        return _Incoming(problem=str(error))
    raw = _bytes(source.scan) or b""
    return _Incoming(sha256(raw), raw, _suffix(source.scan), source.acquisition)


def _is_dicom(path: Path) -> bool:
    """Whether a path is a DICOM file by its mark, or a folder, which nothing else can be here."""
    if not path.is_file():
        return path.is_dir()
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _from_dicom(path: Path) -> _Incoming:
    """The T1w series of a DICOM folder, without its headers.

    Its name is the hash of the unpacked volume, so that the same study is the same case even
    if a later version packs it otherwise.
    """
    found = read_dicom(path)
    with tempfile.TemporaryDirectory() as scratch:
        plain = Path(scratch) / "T1w.nii"
        write_clean(found.scan, plain)
        raw = plain.read_bytes()
    return _Incoming(
        digest=sha256(raw),
        raw=gzip.compress(raw, 6, mtime=0),
        suffix=".nii.gz",
        acquisition=found.acquisition,
        identity=found.identity,
        remarks=(f"chosen: {found.chosen}", *found.refused),
    )


def _unbundled_id(source: Source, scan: _Incoming) -> str:
    """Id of a case without a bundle: of its scan and of what is known besides, or of a record."""
    record = source.record
    if record is None:
        return scan.digest[:12]
    if source.scan is None:
        return sha256(RECORD.dump_json(record))[:12]
    day = source.acquisition.acquired_on
    known = f"{record.patient_id}|{record.sex}|{record.stated_age_years}|{day}|{scan.digest}"
    return sha256(known.encode())[:12]


def _decided(site: Site, case_id: str, scan: _Incoming) -> bool | None:
    """Whether a person found this scan to be the patient's; None where nobody was asked."""
    mine = [d.same for d in site.identity_decisions(case_id) if d.scan_sha256 == scan.digest]
    return mine[-1] if mine else None


def _record(
    site: Site,
    source: Source,
    bundle: tuple[bytes | None, Sequence[Place]],
    scan: _Incoming,
    case_id: str,
) -> tuple[PatientRecord, ImportReport]:
    """What is known of the patient: the bundle, else what came with the scan."""
    raw, places = bundle
    if raw is not None:
        return read_bundle(raw, places)
    if source.record is not None and source.scan is None:
        return source.record, _told(source.record)
    record = source.record or PatientRecord(case_id, "unknown")
    if scan.identity is not None:
        record = _record_of_header(site, scan.identity, scan.acquisition.acquired_on, case_id)
    return record, ImportReport()


def _told(record: PatientRecord) -> ImportReport:
    """The report of a record that came from a table, by what its cells became."""
    kinds = {"Observation": record.observations, "Condition": record.conditions,
             "MedicationStatement": record.medications}  # fmt: skip
    counts = Counter(Patient=1) + Counter({kind: len(found) for kind, found in kinds.items()})
    return ImportReport(accepted=counts)


def _record_of_header(
    site: Site, identity: Identity, day: dt.date | None, case_id: str
) -> PatientRecord:
    """Sex and age at the scan, to half a year, which its norms need; of whom, an opaque key.

    Only a header with id, sex and birth year ties a scan to others of its patient: scans
    that were de-identified share an id such as ANON.
    """
    year, age = identity.birth_year, None
    if year is not None and day is not None and 0 < day.year - year <= OLDEST_YEARS:
        age = (day - dt.date(year, 7, 1)).days / DAYS_PER_YEAR
    named = (identity.patient_id, identity.sex, year)
    patient_id = site.patient_key("|".join(map(str, named))) if all(named) else case_id
    return PatientRecord(patient_id, _sex(identity.sex), stated_age_years=age)


def _sex(word: str | None) -> Sex:
    """A sex that a scan's source gives, in the record's words."""
    return next((sex for sex in get_args(Sex) if sex == word), "unknown")


def _facts(scan: _Incoming, record: PatientRecord | None, *, decided: bool | None) -> ScanFacts:
    """What is known of a scan besides its voxels, its header held against the record.

    Args:
        scan: The scan.
        record: What a bundle says of the patient; None where there is none.
        decided: What a person said of this very scan before.
    """
    if scan.identity is None or record is None:
        return ScanFacts(scan.acquisition, findings=_unusable(scan.problem))
    disagreements = compare(scan.identity, record)
    if disagreements is None:
        return ScanFacts(scan.acquisition, findings=(NOTHING_TO_COMPARE,))
    if decided:
        found = tuple(of_identity(disagreement, "same") for disagreement in disagreements)
        return ScanFacts(scan.acquisition, findings=found)
    return ScanFacts(scan.acquisition, disagreements)


def _unusable(problem: str) -> tuple[Finding, ...]:
    """A finding where a scan could not be used."""
    return (Finding("scan", "scan unusable", (("text", problem),)),) if problem else ()


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
    findings = [*record_check.check(record)]
    unread = sum(bool(tools.encoder.unread(note)) for note in record.notes)
    if unread:
        total = ("total", str(len(record.notes)))
        values = (("n", str(unread)), total, ("encoder", tools.encoder.name))
        findings.append(Finding("import", "rules only", values))
    tokens: dict[Modality, Tokens] = {}
    seen: Sequence[Finding] = ()
    if row.scan_sha256:
        scan, seen = _scan_evidence(site, row, record.sex, tools)
        if scan is not None:
            tokens["scan"] = scan
        regions = scan.pointers if scan is not None else ()
        age_years = site.scan_time(case_id).age_years
        findings += scan_findings(record, regions, row.facts.acquisition, age_years)
    with tools.timed("encode"):
        made: Iterable[tuple[Modality, Tokens | None]] = (
            ("notes", tools.encoder.note_tokens(record.notes)),
            ("labs", lab_tokens(record)),
            ("history", history_tokens(record, tools.encoder, exclude=scheme.codes)),
        )
        tokens |= {modality: t for modality, t in made if t is not None}
    site.save_tokens(
        case_id, tokens, findings=findings, encoder=tools.encoder.sha256, scan_findings=seen
    )


def _scan_evidence(
    site: Site, row: CaseRow, sex: Sex, tools: Tools
) -> tuple[RegionTokens | None, Sequence[Finding]]:
    """Region tokens of a case's scan, and what its check found."""
    assert row.scan_sha256 is not None
    try:
        segmentation, grade = _segmented(site, row, tools)
    except ScanError as error:
        log.warning("case %s: %s", row.case_id, error)
        return None, _unusable(str(error))
    findings = [of_scan(finding) for finding in grade.findings]
    if grade.quality == 0.0:
        return None, findings
    age_years = site.scan_time(row.case_id).age_years
    return region_tokens(segmentation, age_years, sex, quality=grade.quality), findings


def _segmented(site: Site, row: CaseRow, tools: Tools) -> tuple[Segmentation, ScanCheck]:
    """A case's scan, segmented and graded; once for each scan and network.

    Raises:
        imaging.scan.ScanError: It cannot be read.
    """
    folder = site.case_folder(row.case_id)
    origin = f"{row.scan_sha256} {tools.network}"
    kept = read_segmentation(folder, origin)
    if kept is not None:
        return kept
    with tools.timed("prepare and segment"):
        scan = read_nifti(site.original("scans", row.scan_sha256 or ""))
        prepared = prepare(scan)
        segmentation = segment(tools.segmenter, prepared)
        grade = check_scan(scan, prepared, segmentation)
    write_clean(to_ras(scan), folder / "T1w.nii.gz")
    write_segmentation(folder, segmentation, grade, origin)
    return segmentation, grade


def _bundle(source: Source) -> tuple[bytes | None, Sequence[Place]]:
    """The bytes of a source's bundle, and where its entries came from if not from a bundle."""
    if source.exported is None:
        return _bytes(source.bundle), ()
    bundle = source.exported.bundle()
    return bundle.raw, bundle.places


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
