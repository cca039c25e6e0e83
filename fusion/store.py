"""A site: one hospital's folder with its cases, models, reviews and audit trail.

site.toml             name, salt of the patient keys, text encoder, database URL
site.db               SQLite, unless site.toml names another database
diagnoses.toml        what the site diagnoses, where it is not the default
bundles/SHA256.json   the bytes that were imported, unchanged
tables/SHA256.csv     the same for tables, and SHA256.toml for what their columns mean
scans/SHA256.nii.gz   the same for NIfTI scans; of DICOM, the chosen series without its headers
cases/ID/             record.json, report.json, T1w.nii.gz, regions.*, tokens
model/                the diagnostic model in use (`fusion.checkpoint`)
engines/              networks as OpenVINO and ONNX Runtime run them, made from their weights
vectors.sqlite        vectors of what was encoded before, under secret keys
"""

import datetime as dt
import hashlib
import json
import logging
import secrets
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator, TypeAdapter
from safetensors import safe_open
from safetensors.numpy import save_file
from sqlalchemy import JSON, ForeignKey, String, create_engine, event, inspect, select, text
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from clinical.check import OLDEST_YEARS
from clinical.diagnoses import Scheme, load_scheme
from clinical.evidence import VERSION, AnalytePointer, ClinicalTokens, FactPointer, SentencePointer
from clinical.findings import VERDICTS, Finding, Verdict, dump, load
from clinical.record import PatientRecord
from clinical.units import table_version
from fusion.case import MODALITIES, Case, Labels, Modality, Tokens
from fusion.consistency import of_identity, weigh, weights
from fusion.identity import Disagreement
from imaging.encoder import RegionPointer, RegionTokens
from imaging.scan import Acquisition

log = logging.getLogger(__name__)

SCHEME = "diagnoses.toml"  # in the site's folder
NOT_THIS_PATIENT = "found to be another patient's scan and taken away"

RECORD = TypeAdapter(PatientRecord)
POINTERS: dict[Modality, TypeAdapter[Any]] = {
    "scan": TypeAdapter(tuple[RegionPointer, ...]),
    "notes": TypeAdapter(tuple[SentencePointer, ...]),
    "labs": TypeAdapter(tuple[AnalytePointer, ...]),
    "history": TypeAdapter(tuple[FactPointer, ...]),
}


class SiteError(ValueError):
    """A site's folder is missing, damaged or asked for what it does not hold."""


class BlockedError(SiteError):
    """Nobody has decided yet whether the case's scan is this patient's."""


# Earlier versions kept bare sentences.
Findings = Annotated[tuple[Finding, ...], BeforeValidator(load)]


@dataclass(frozen=True)
class ScanFacts:
    """What is known of a case's scan besides its voxels.

    Attributes:
        acquisition: Header facts that matter.
        disagreements: In which its header and the record contradict each other; the case is
            blocked until a person has decided and this is empty.
        findings: Of the import.
        checked: Findings of `imaging.check`.
    """

    acquisition: Acquisition = field(default_factory=Acquisition)
    disagreements: tuple[Disagreement, ...] = ()
    findings: Findings = ()
    checked: Findings = ()

    @property
    def said(self) -> list[Finding]:
        """All of it that is a finding, for the physician."""
        return [*map(of_identity, self.disagreements), *self.findings, *self.checked]


FACTS = TypeAdapter(ScanFacts)


@dataclass(frozen=True)
class ScanTime:
    """When a case's scan was made.

    Attributes:
        case_id: The case.
        day: Of the scan, else of the record; None where neither is known.
        age_years: Of the patient at the scan.
    """

    case_id: str
    day: dt.date | None
    age_years: float | None

    def is_before(self, other: "ScanTime") -> bool:
        """Whether this scan is certainly the earlier one, by its day, else by age."""
        if self.day and other.day:
            return self.day < other.day
        if self.age_years is None or other.age_years is None:
            return False
        return self.age_years < other.age_years


class _Table(DeclarativeBase):
    """Base of the tables."""


class CaseRow(_Table):
    """One case, as the worklist shows it."""

    __tablename__ = "cases"
    case_id: Mapped[str] = mapped_column(String(16), primary_key=True)
    patient_key: Mapped[str] = mapped_column(String(32), index=True)
    imported_at: Mapped[dt.datetime]
    bundle_sha256: Mapped[str | None] = mapped_column(String(64))
    scan_sha256: Mapped[str | None] = mapped_column(String(64))
    age_years: Mapped[float | None]
    sex: Mapped[str] = mapped_column(String(8))
    modalities: Mapped[list[str]] = mapped_column(JSON, default=list)
    findings: Mapped[list[Any]] = mapped_column(JSON, default=list)  # `found`
    diagnoses: Mapped[list[str] | None] = mapped_column(JSON)  # known labels, for training
    reviewed: Mapped[bool] = mapped_column(default=False)
    scan_facts: Mapped[dict[str, Any] | None] = mapped_column(JSON)  # `ScanFacts`

    @property
    def found(self) -> tuple[Finding, ...]:
        """What the checks of record and scan found."""
        return load(self.findings or [])

    @property
    def facts(self) -> ScanFacts:
        """What is known of its scan; nothing in a case of an earlier version."""
        return FACTS.validate_python(self.scan_facts or {})

    @property
    def is_blocked(self) -> bool:
        """Whether a person must first decide whose scan it is."""
        return bool(self.facts.disagreements)


class Review(_Table):
    """What a physician decided on a case; never changed, only followed by another."""

    __tablename__ = "reviews"
    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.case_id"), index=True)
    user: Mapped[str] = mapped_column(String(64))
    at: Mapped[dt.datetime]
    agrees: Mapped[bool]
    labels: Mapped[list[str]] = mapped_column(JSON)
    reason: Mapped[str]
    model_name: Mapped[str] = mapped_column(default="")


class IdentityDecision(_Table):
    """Whose scan a person found it to be; the latest on a scan counts."""

    __tablename__ = "identity_decisions"
    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.case_id"), index=True)
    scan_sha256: Mapped[str] = mapped_column(String(64))
    user: Mapped[str] = mapped_column(String(64))
    at: Mapped[dt.datetime]
    same: Mapped[bool]  # this patient's
    reason: Mapped[str]


class FindingDecision(_Table):
    """What a person found a contradiction to be; the latest on a finding counts."""

    __tablename__ = "finding_decisions"
    id: Mapped[int] = mapped_column(primary_key=True)
    case_id: Mapped[str] = mapped_column(ForeignKey("cases.case_id"), index=True)
    finding_key: Mapped[str] = mapped_column(String(16))
    user: Mapped[str] = mapped_column(String(64))
    at: Mapped[dt.datetime]
    verdict: Mapped[str] = mapped_column(String(12))  # which side is right, or `unfounded`
    reason: Mapped[str]


class AuditEntry(_Table):
    """Who did what to which case, and when."""

    __tablename__ = "audit"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[dt.datetime]
    user: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(32))
    case_id: Mapped[str | None] = mapped_column(String(16))


@dataclass(frozen=True)
class SiteConfig:
    """What ``site.toml`` holds."""

    name: str
    salt: str  # secret of the site; makes patient keys that nobody else can compute
    text_encoder: str = ""  # folder of a decoder; empty for the offline stand-in
    database: str = ""  # SQLAlchemy URL; empty for site.db in the folder


def now() -> dt.datetime:
    """The time in UTC, without its zone, as the database keeps it."""
    return dt.datetime.now(dt.UTC).replace(tzinfo=None, microsecond=0)


def sha256(raw: bytes) -> str:
    """SHA-256 of some bytes in hexadecimal."""
    return hashlib.sha256(raw).hexdigest()


class Site:
    """One hospital's folder, opened."""

    def __init__(self, folder: Path, config: SiteConfig) -> None:
        self.folder = folder
        self.config = config
        self._engine = _engine(make_url(config.database or f"sqlite:///{folder / 'site.db'}"))
        _Table.metadata.create_all(self._engine)
        _add_missing_columns(self._engine)

    @classmethod
    def open(cls, folder: Path) -> "Site":
        """Open a site that exists.

        Raises:
            SiteError: The folder is not a site.
        """
        settings = folder / "site.toml"
        if not settings.is_file():
            raise SiteError(f"{folder} is not a site: it has no site.toml; import something first")
        try:
            return cls(folder, SiteConfig(**tomllib.loads(settings.read_text())))
        except (tomllib.TOMLDecodeError, TypeError) as error:
            raise SiteError(f"{settings} cannot be read: {error}") from None

    @classmethod
    def create(cls, folder: Path, *, name: str = "", text_encoder: str = "") -> "Site":
        """Open a site, making it first where there is none; only its owner may read it."""
        if not (folder / "site.toml").exists():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
            config = SiteConfig(name or folder.resolve().name, secrets.token_hex(16), text_encoder)
            lines = [f"{key} = {json.dumps(value)}" for key, value in vars(config).items()]
            (folder / "site.toml").write_text("\n".join(lines) + "\n")
        return cls.open(folder)

    @property
    def name(self) -> str:
        """What the hospital calls itself."""
        return self.config.name

    @property
    def scheme(self) -> Scheme:
        """What the site diagnoses.

        Raises:
            clinical.diagnoses.SchemeError: Its file of diagnoses cannot be used.
        """
        own = self.folder / SCHEME
        return load_scheme(own if own.exists() else None)

    @property
    def model_folder(self) -> Path:
        """Where the diagnostic model in use lies."""
        return self.folder / "model"

    @property
    def engines_folder(self) -> Path:
        """Where what was exported to an engine is kept."""
        return self.folder / "engines"

    @property
    def text_encoder_folder(self) -> Path | None:
        """Folder of the site's text encoder; None for the stand-in."""
        return Path(self.config.text_encoder) if self.config.text_encoder else None

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A database transaction."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    # -- files ---------------------------------------------------------------------------

    def keep(self, kind: str, raw: bytes, suffix: str, digest: str = "") -> str:
        """Keep bytes under their SHA-256; the same bytes are kept once.

        Args:
            kind: ``bundles``, ``tables`` or ``scans``.
            raw: The bytes.
            suffix: Such as ``.json``.
            digest: SHA-256 of what they unpack to, where packing was ours and may change.

        Returns:
            The SHA-256.
        """
        digest = digest or sha256(raw)
        path = self.folder / kind / f"{digest}{suffix}"
        if not path.exists():
            _write(path, raw)
        return digest

    def original(self, kind: str, digest: str) -> Path:
        """Path of bytes that were kept."""
        found = sorted((self.folder / kind).glob(f"{digest}.*"))
        if not found:
            raise SiteError(f"{kind}/{digest[:12]}… is gone from the site; import it again")
        return found[0]

    def case_folder(self, case_id: str) -> Path:
        """Folder of what was derived for a case."""
        if not case_id.isalnum():
            raise SiteError("a case id has letters and digits only")
        return self.folder / "cases" / case_id

    def scan_path(self, case_id: str) -> Path | None:
        """The case's scan, cleaned of all header text."""
        path = self.case_folder(case_id) / "T1w.nii.gz"
        return path if path.exists() else None

    def region_map_path(self, case_id: str) -> Path | None:
        """The case's region map on the 2 mm grid."""
        path = self.case_folder(case_id) / "regions.nii.gz"
        return path if path.exists() else None

    # -- cases ---------------------------------------------------------------------------

    def patient_key(self, patient_id: str) -> str:
        """Opaque key of a patient, the same for all the patient's cases at this site."""
        return sha256(f"{self.config.salt}|{patient_id}".encode())[:32]

    def cases(self) -> list[CaseRow]:
        """All cases, newest first."""
        with self.session() as session:
            newest = select(CaseRow).order_by(CaseRow.imported_at.desc(), CaseRow.case_id)
            return list(session.scalars(newest))

    def find(self, case_id: str) -> CaseRow | None:
        """One case's row, if there is such a case."""
        with self.session() as session:
            return session.get(CaseRow, case_id)

    def row(self, case_id: str) -> CaseRow:
        """One case's row.

        Raises:
            SiteError: There is no such case.
        """
        row = self.find(case_id)
        if row is None:
            raise SiteError(f"this site has no case {case_id!r}")
        return row

    def add_case(self, row: CaseRow, record: PatientRecord, report: dict[str, object]) -> None:
        """Add a case, or say anew what is known of one."""
        folder = self.case_folder(row.case_id)
        _write(folder / "record.json", RECORD.dump_json(record))
        _write(folder / "report.json", json.dumps(report, indent=1).encode())
        with self.session() as session:
            session.merge(row)

    def record(self, case_id: str) -> PatientRecord:
        """What the record says."""
        return RECORD.validate_json((self.case_folder(case_id) / "record.json").read_bytes())

    def import_report(self, case_id: str) -> dict[str, object]:
        """What the import accepted, ignored and refused."""
        report = json.loads((self.case_folder(case_id) / "report.json").read_text())
        return dict(report)

    def findings(self, case_id: str) -> tuple[str, ...]:
        """What the checks of record and scan found, in English."""
        return tuple(map(str, self.row(case_id).found))

    def save_tokens(
        self,
        case_id: str,
        tokens: dict[Modality, Tokens],
        *,
        findings: Sequence[Finding | str],
        encoder: str,
        scan_findings: Sequence[Finding | str] = (),
    ) -> None:
        """Keep a case's evidence.

        Args:
            case_id: The case.
            tokens: Evidence by modality.
            findings: What the checks found in the record.
            encoder: SHA-256 of the text encoder that made it.
            scan_findings: What `imaging.check` found; what the import said of the scan is added.
        """
        self._write_tokens(case_id, tokens, encoder)
        with self.session() as session:
            row = session.get_one(CaseRow, case_id)
            facts = replace(row.facts, checked=load(scan_findings))
            row.modalities = [m for m in MODALITIES if m in tokens]
            row.findings = dump([*load(findings), *facts.said])
            row.scan_facts = dump_facts(facts)

    def _write_tokens(self, case_id: str, tokens: Mapping[Modality, Tokens], encoder: str) -> None:
        """Write the file of a case's evidence."""
        tensors = {
            f"{modality}.{part}": np.ascontiguousarray(getattr(t, part))
            for modality, t in tokens.items()
            for part in ("features", "kinds", "quality")
        }
        pointers = {
            m: POINTERS[m].dump_python(tuple(t.pointers), mode="json") for m, t in tokens.items()
        }
        path = self.case_folder(case_id) / "tokens.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        about = {"text_encoder": encoder, **_made_as()}
        save_file(tensors, partial, {"pointers": json.dumps(pointers), **about})
        partial.replace(path)

    def _read_tokens(self, case_id: str) -> dict[Modality, Tokens]:
        """Read the file of a case's evidence."""
        if self.tokens_encoder(case_id) is None:
            raise SiteError(f"case {case_id} has no evidence yet; run `consilium import` again")
        with safe_open(self.case_folder(case_id) / "tokens.safetensors", "np") as file:
            pointers = json.loads(file.metadata()["pointers"])
            return {m: _tokens(m, file, pointers[m]) for m in MODALITIES if m in pointers}

    def tokens_encoder(self, case_id: str) -> str | None:
        """SHA-256 of the text encoder that made the kept evidence.

        None where there is no evidence, or where it was made otherwise than now: by another
        version of the program, or with another table of analytes.
        """
        path = self.case_folder(case_id) / "tokens.safetensors"
        if not path.exists():
            return None
        with safe_open(path, "np") as file:
            about = file.metadata()
        return str(about["text_encoder"]) if about.items() >= _made_as().items() else None

    def case(self, case_id: str, scheme: Scheme | None = None) -> Case:
        """A case as evidence; with its known diagnoses where a scheme is given.

        This is the one way to a case's evidence, so nothing is diagnosed or learned from a
        case that is blocked, and what findings cast doubt on weighs less wherever it is used.

        Raises:
            SiteError: The case is unknown or has not been prepared.
            BlockedError: Nobody has decided yet whose scan it has.
        """
        row = self.row(case_id)
        unweighed = self.evidence(case_id)
        tokens = weigh(unweighed, weights(unweighed, row.found, self.verdicts(case_id)))
        labels = None
        if scheme is not None and row.diagnoses is not None:
            labels = labels_of(row.diagnoses, scheme)
        return Case(case_id, row.patient_key, tokens, labels)

    def evidence(self, case_id: str) -> dict[Modality, Tokens]:
        """A case's evidence as it was made, whatever findings say of it; for showing, not for use.

        Raises:
            SiteError: The case is unknown or has not been prepared.
            BlockedError: Nobody has decided yet whose scan it has.
        """
        _check_unblocked(self.row(case_id))
        return self._read_tokens(case_id)

    def training_cases(self, scheme: Scheme) -> list[Case]:
        """All prepared cases whose diagnoses are known, but for those that are blocked."""
        known = [row for row in self.cases() if row.diagnoses is not None and row.modalities]
        blocked = sum(row.is_blocked for row in known)
        if blocked:
            log.warning("%s: %d cases left out: whose scan they have is open", self.name, blocked)
        known = [row for row in known if not row.is_blocked]
        return [self.case(row.case_id, scheme) for row in sorted(known, key=lambda r: r.case_id)]

    # -- scans in time and whose they are ------------------------------------------------

    def scan_time(self, case_id: str) -> ScanTime:
        """When a case's scan was made, and how old the patient was."""
        record, acquired_on = self.record(case_id), self.row(case_id).facts.acquisition.acquired_on
        age = record.age_on(acquired_on) if acquired_on else None
        if age is None or not 0 <= age <= OLDEST_YEARS:  # a de-identified date may be shifted
            age = record.age_years
        return ScanTime(case_id, acquired_on or record.index_date, age)

    def prior_scan(self, case_id: str) -> ScanTime | None:
        """The patient's latest usable scan before this case's, if there is one."""
        key, time = self.row(case_id).patient_key, self.scan_time(case_id)
        with self.session() as session:
            rows = list(session.scalars(select(CaseRow).where(CaseRow.patient_key == key)))
        usable = [row for row in rows if "scan" in row.modalities and not row.is_blocked]
        times = [self.scan_time(row.case_id) for row in usable if row.case_id != case_id]
        earlier = [other for other in times if other.is_before(time)]
        return max(earlier, key=lambda t: (t.day or dt.date.min, t.age_years or 0.0), default=None)

    def identity_decisions(self, case_id: str) -> list[IdentityDecision]:
        """What persons decided about whose scans a case had, oldest first."""
        with self.session() as session:
            mine = select(IdentityDecision).where(IdentityDecision.case_id == case_id)
            return list(session.scalars(mine.order_by(IdentityDecision.id)))

    def decide_identity(self, case_id: str, *, same: bool, user: str, reason: str) -> None:
        """Store a person's decision whether a case's scan is this patient's.

        Args:
            case_id: A blocked case; one from which a scan was taken may take it back.
            same: It is; else it is taken away with all that was made of it, and the case goes
                on without it.
            user: Who decides.
            reason: Why.

        Raises:
            SiteError: There is no reason given or nothing to decide.
        """
        if not reason.strip() or not user.strip():
            raise SiteError("a decision on whose scan it is needs a user and a reason")
        row, decided = self.row(case_id), self.identity_decisions(case_id)
        taken = decided[-1].scan_sha256 if decided and not row.scan_sha256 else None
        digest = row.scan_sha256 or (taken if same else None)
        if digest is None or (same and not row.is_blocked and not taken):
            raise SiteError(f"case {case_id}: nothing to decide about its scan")
        if not same:
            self._drop_scan_files(row)  # first, so that a scan once refused is never in use
        said = "same" if same else "other"
        held = [of_identity(disagreement, said) for disagreement in row.facts.disagreements]
        kept = row.facts if same else ScanFacts()
        held = held or [Finding("header", f"scan {said}")]
        facts = replace(kept, disagreements=(), findings=(*kept.findings, *held))
        with self.session() as session:
            row = session.get_one(CaseRow, case_id)
            others = [finding for finding in row.found if finding not in row.facts.said]
            row.findings, row.scan_facts = dump([*others, *facts.said]), dump_facts(facts)
            if not same:
                row.scan_sha256 = None
                row.modalities = [m for m in row.modalities if m != "scan"]
            session.add(
                IdentityDecision(
                    case_id=case_id, scan_sha256=digest, user=user, at=now(), same=same,
                    reason=reason.strip(),
                )
            )  # fmt: skip
            action = "identity: same" if same else "identity: other"
            session.add(AuditEntry(at=now(), user=user, action=action, case_id=case_id))

    def _drop_scan_files(self, row: CaseRow) -> None:
        """Delete a case's scan and everything made of it."""
        assert row.scan_sha256 is not None
        folder = self.case_folder(row.case_id)
        encoder = self.tokens_encoder(row.case_id)
        if encoder is not None:
            tokens = self._read_tokens(row.case_id)
            tokens.pop("scan", None)
            self._write_tokens(row.case_id, tokens, encoder)
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in ("record.json", "report.json", "tokens.safetensors"):
                path.unlink()
        if sum(other.scan_sha256 == row.scan_sha256 for other in self.cases()) == 1:
            for path in (self.folder / "scans").glob(f"{row.scan_sha256}.*"):
                path.unlink()

    # -- contradictions ------------------------------------------------------------------

    def finding_decisions(self, case_id: str) -> list[FindingDecision]:
        """What persons decided about the findings of a case, oldest first."""
        with self.session() as session:
            mine = select(FindingDecision).where(FindingDecision.case_id == case_id)
            return list(session.scalars(mine.order_by(FindingDecision.id)))

    def verdicts(self, case_id: str) -> dict[str, Verdict]:
        """The decision that counts on each finding, by its key."""
        return {
            decision.finding_key: verdict
            for decision in self.finding_decisions(case_id)
            for verdict in VERDICTS
            if verdict == decision.verdict
        }

    def resolve(self, case_id: str, key: str, *, verdict: Verdict, user: str, reason: str) -> None:
        """Store a person's decision on a finding; the case's evidence weighs accordingly.

        Args:
            case_id: The case.
            key: Of one of its findings.
            verdict: Which side is right, or that there is no contradiction.
            user: Who decides.
            reason: Why.

        Raises:
            SiteError: There is no reason, no such finding or nothing to decide about it.
        """
        if not reason.strip() or not user.strip():
            raise SiteError("a decision on a finding needs a user and a reason")
        mine = [f for f in self.row(case_id).found if f.key == key and f.can_be_resolved]
        if not mine or verdict not in VERDICTS:
            raise SiteError(f"case {case_id}: no such finding to decide about")
        with self.session() as session:
            session.add(
                FindingDecision(
                    case_id=case_id, finding_key=key, user=user, at=now(), verdict=verdict,
                    reason=reason.strip(),
                )
            )  # fmt: skip
            action = f"finding: {verdict}"
            session.add(AuditEntry(at=now(), user=user, action=action, case_id=case_id))

    # -- reviews and audit ---------------------------------------------------------------

    def add_review(
        self,
        case_id: str,
        *,
        user: str,
        agrees: bool,
        labels: tuple[str, ...],
        reason: str,
        model_name: str = "",
    ) -> None:
        """Store a physician's decision.

        Raises:
            SiteError: An override has no reason, or the case is unknown.
            BlockedError: Nobody has decided yet whose scan it has.
        """
        if not agrees and not reason.strip():
            raise SiteError("an override needs a reason")
        with self.session() as session:
            row = session.get(CaseRow, case_id)
            if row is None:
                raise SiteError(f"this site has no case {case_id!r}")
            _check_unblocked(row)
            row.reviewed = True
            session.add(
                Review(
                    case_id=case_id,
                    user=user,
                    at=now(),
                    agrees=agrees,
                    labels=list(labels),
                    reason=reason.strip(),
                    model_name=model_name,
                )
            )
        self.audit(user, "agree" if agrees else "override", case_id)

    def reviews(self, case_id: str) -> list[Review]:
        """All decisions on a case, oldest first."""
        with self.session() as session:
            mine = select(Review).where(Review.case_id == case_id).order_by(Review.id)
            return list(session.scalars(mine))

    def audit(self, user: str, action: str, case_id: str | None = None) -> None:
        """Note who did what."""
        with self.session() as session:
            session.add(AuditEntry(at=now(), user=user, action=action, case_id=case_id))

    def audit_trail(self) -> list[AuditEntry]:
        """Everything that was noted, oldest first."""
        with self.session() as session:
            return list(session.scalars(select(AuditEntry).order_by(AuditEntry.id)))


def dump_facts(facts: ScanFacts) -> dict[str, Any]:
    """Facts of a scan as the database keeps them."""
    return dict(FACTS.dump_python(facts, mode="json"))


def _check_unblocked(row: CaseRow) -> None:
    """Refuse a case whose scan may be another patient's."""
    if row.is_blocked:
        differs = ", ".join(disagreement.fact for disagreement in row.facts.disagreements)
        raise BlockedError(
            f"case {row.case_id} is blocked: its scan's header and the record disagree "
            f"({differs}); decide whose scan it is on the page or with `consilium identity`"
        )


def _made_as() -> dict[str, str]:
    """What evidence depends on besides what was imported and the text encoder."""
    return {"version": str(VERSION), "analytes": table_version()}


def labels_of(keys: list[str], scheme: Scheme) -> Labels:
    """Diagnosis keys such as ``["DE", "AD"]`` as labels; causes not named are absent.

    Raises:
        SiteError: A key is not in the scheme.
    """
    syndromes = [label.key for label in scheme.syndromes]
    causes = [label.key for label in scheme.causes]
    unknown = sorted(set(keys) - {*syndromes, *causes})
    if unknown:
        raise SiteError(f"diagnoses {unknown} are not in the scheme {syndromes + causes}")
    syndrome = next((syndromes.index(key) for key in keys if key in syndromes), None)
    return Labels(syndrome, tuple(cause in keys for cause in causes))


def _tokens(modality: Modality, file: safe_open, pointers: list[dict[str, object]]) -> Tokens:
    """Read one modality's evidence back."""
    features, kinds, quality = (
        file.get_tensor(f"{modality}.{part}") for part in ("features", "kinds", "quality")
    )
    made = POINTERS[modality].validate_python(pointers)
    if modality == "scan":
        return RegionTokens(features, kinds, quality, made)
    return ClinicalTokens(features, kinds, quality, made)


def _engine(url: URL) -> Engine:
    """A database engine; SQLite with its foreign keys on and readers that do not block."""
    engine = create_engine(url)
    if url.get_backend_name() == "sqlite":

        @event.listens_for(engine, "connect")
        def _configure(connection, _) -> None:  # type: ignore[no-untyped-def]
            connection.execute("PRAGMA foreign_keys=ON")
            connection.execute("PRAGMA journal_mode=WAL")

    return engine


def _add_missing_columns(engine: Engine) -> None:
    """Bring the cases of an earlier version up to date: a new column is empty in old rows."""
    present = {column["name"] for column in inspect(engine).get_columns(CaseRow.__tablename__)}
    for column in CaseRow.__table__.columns:
        if column.name not in present:
            kind = column.type.compile(engine.dialect)
            with engine.begin() as connection:
                connection.execute(text(f"ALTER TABLE cases ADD COLUMN {column.name} {kind}"))


def _write(path: Path, raw: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(raw)
    partial.replace(path)
