"""A site: one hospital's folder with its cases, models, reviews and audit trail.

site.toml             name, salt of the patient keys, text encoder, database URL
site.db               SQLite, unless site.toml names another database
bundles/SHA256.json   the bytes that were imported, unchanged
scans/SHA256.nii.gz   the same for scans
cases/ID/             record.json, report.json, T1w.nii.gz, regions.nii.gz, tokens
model/                the diagnostic model in use (`fusion.checkpoint`)
"""

import datetime as dt
import hashlib
import json
import secrets
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from safetensors import safe_open
from safetensors.torch import save_file
from sqlalchemy import JSON, ForeignKey, String, create_engine, event, select
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from clinical.diagnoses import Scheme
from clinical.evidence import AnalytePointer, ClinicalTokens, FactPointer, SentencePointer
from clinical.record import PatientRecord
from fusion.case import MODALITIES, Case, Labels, Modality, Tokens
from imaging.encoder import RegionPointer, RegionTokens

RECORD = TypeAdapter(PatientRecord)
POINTERS: dict[Modality, TypeAdapter[Any]] = {
    "scan": TypeAdapter(tuple[RegionPointer, ...]),
    "notes": TypeAdapter(tuple[SentencePointer, ...]),
    "labs": TypeAdapter(tuple[AnalytePointer, ...]),
    "history": TypeAdapter(tuple[FactPointer, ...]),
}


class SiteError(ValueError):
    """A site's folder is missing, damaged or asked for what it does not hold."""


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
    findings: Mapped[list[str]] = mapped_column(JSON, default=list)
    diagnoses: Mapped[list[str] | None] = mapped_column(JSON)  # known labels, for training
    reviewed: Mapped[bool] = mapped_column(default=False)


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
    def model_folder(self) -> Path:
        """Where the diagnostic model in use lies."""
        return self.folder / "model"

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A database transaction."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            yield session

    # -- files ---------------------------------------------------------------------------

    def keep(self, kind: str, raw: bytes, suffix: str) -> str:
        """Keep original bytes under their SHA-256; the same bytes are kept once.

        Args:
            kind: ``bundles`` or ``scans``.
            raw: The bytes.
            suffix: Such as ``.json``.

        Returns:
            The SHA-256.
        """
        digest = sha256(raw)
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
        """What the checks of record and scan found."""
        return tuple(self.row(case_id).findings)

    def save_tokens(
        self, case_id: str, tokens: dict[Modality, Tokens], *, findings: list[str], encoder: str
    ) -> None:
        """Keep a case's evidence.

        Args:
            case_id: The case.
            tokens: Evidence by modality.
            findings: What the checks found.
            encoder: SHA-256 of the text encoder that made it.
        """
        tensors = {
            f"{modality}.{part}": getattr(t, part).contiguous()
            for modality, t in tokens.items()
            for part in ("features", "kinds", "quality")
        }
        pointers = {
            m: POINTERS[m].dump_python(tuple(t.pointers), mode="json") for m, t in tokens.items()
        }
        path = self.case_folder(case_id) / "tokens.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        save_file(tensors, partial, {"pointers": json.dumps(pointers), "text_encoder": encoder})
        partial.replace(path)
        with self.session() as session:
            row = session.get_one(CaseRow, case_id)
            row.modalities = [m for m in MODALITIES if m in tokens]
            row.findings = findings

    def tokens_encoder(self, case_id: str) -> str | None:
        """SHA-256 of the text encoder that made the kept evidence; None where there is none."""
        path = self.case_folder(case_id) / "tokens.safetensors"
        if not path.exists():
            return None
        with safe_open(path, "pt") as file:
            return str(file.metadata()["text_encoder"])

    def case(self, case_id: str, scheme: Scheme | None = None) -> Case:
        """A case as evidence; with its known diagnoses where a scheme is given.

        Raises:
            SiteError: The case is unknown or has not been prepared.
        """
        row = self.row(case_id)
        path = self.case_folder(case_id) / "tokens.safetensors"
        if not path.exists():
            raise SiteError(f"case {case_id} has no evidence yet; run `consilium import` again")
        with safe_open(path, "pt") as file:
            pointers = json.loads(file.metadata()["pointers"])
            tokens = {m: _tokens(m, file, pointers[m]) for m in MODALITIES if m in pointers}
        labels = None
        if scheme is not None and row.diagnoses is not None:
            labels = labels_of(row.diagnoses, scheme)
        return Case(case_id, row.patient_key, tokens, labels)

    def training_cases(self, scheme: Scheme) -> list[Case]:
        """All prepared cases whose diagnoses are known."""
        known = [row for row in self.cases() if row.diagnoses and row.modalities]
        return [self.case(row.case_id, scheme) for row in sorted(known, key=lambda r: r.case_id)]

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
        """
        if not agrees and not reason.strip():
            raise SiteError("an override needs a reason")
        with self.session() as session:
            row = session.get(CaseRow, case_id)
            if row is None:
                raise SiteError(f"this site has no case {case_id!r}")
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


def _write(path: Path, raw: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(raw)
    partial.replace(path)
