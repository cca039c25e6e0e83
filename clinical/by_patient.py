"""Resources of many patients, sorted into one bundle for each of them, in bounded memory.

They wait in a private database on disk that the operating system removes with the process.
A patient's bundle is canonical: the same resources give the same bytes, in whatever order they
came, so that importing them twice is one case.
"""

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import orjson

from clinical.bundle import Entry, entries_of, identifiers_of, subject_id
from clinical.elements import Json, UnreadableError
from clinical.entries import READERS
from clinical.import_report import ImportReport, Ledger, Place
from clinical.r4 import resource_type

_TABLES = """
CREATE TABLE resource (kind TEXT, id TEXT, patient TEXT, medication TEXT, file TEXT, line INT,
                       url TEXT, raw BLOB);
"""
_INDEXES = """
CREATE INDEX by_patient ON resource (patient);
CREATE INDEX by_medication ON resource (medication) WHERE medication IS NOT NULL;
CREATE INDEX by_name ON resource (kind, id);
"""
_ROW = "INSERT INTO resource VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_MINE = """
SELECT file, line, url, raw FROM resource
WHERE patient = :patient OR kind = 'Medication' AND id IN
    (SELECT medication FROM resource WHERE patient = :patient)
ORDER BY kind != 'Patient', kind, id, file, line
"""
_HAS_PATIENT = "patient IN (SELECT id FROM resource WHERE kind = 'Patient')"
_IS_TAKEN = "kind = 'Medication' AND id IN (SELECT medication FROM resource)"
_BATCH = 1000  # rows between two writes


@dataclass(frozen=True)
class PatientBundle:
    """One patient's resources.

    Attributes:
        raw: A canonical bundle of type collection.
        places: File and line that each of its entries came from.
    """

    raw: bytes = field(repr=False)
    places: tuple[Place, ...]


class PatientIndex:
    """Takes resources in any order and gives them back by patient."""

    def __init__(self) -> None:
        # A nameless database is a private temporary file, already unlinked.
        self._database = sqlite3.connect("", check_same_thread=False)
        self._database.executescript(_TABLES)
        self._waiting: list[tuple[Any, ...]] = []
        self._places: list[Place] = []
        self._ledger = Ledger(self._places)

    def add(
        self,
        resource: Json,
        place: Place,
        *,
        own_id: str = "",
        url: str = "",
        names: Mapping[str, str] | None = None,
    ) -> None:
        """Take one resource.

        Args:
            resource: Its JSON.
            place: File and line it came from.
            own_id: Its id where it does not say; its line where empty.
            url: Its fullUrl, where it came in a bundle.
            names: Ids by other references that mean them, such as a fullUrl.
        """
        kind, names = resource.get("resourceType"), names or {}
        if not isinstance(kind, str):
            self.refuse(place, "resource", "has no resourceType")
            return
        try:
            raw = orjson.dumps(resource, option=orjson.OPT_SORT_KEYS)
        except TypeError:  # orjson's own limit of nesting
            self.refuse(place, "", "is nested too deep", resource_type(kind))
            return
        own = own_id or str(resource.get("id") or f"line-{place[1]}")
        patient = own if kind == "Patient" else subject_id(resource, names)
        if patient is None and kind in READERS:
            self.refuse(place, "subject", "does not name a Patient", kind)
            return
        self._waiting.append((kind, own, patient, _medication(resource, names), *place, url, raw))
        if len(self._waiting) >= _BATCH:
            self._write()

    def refuse(self, place: Place, path: str, rule: str, kind: str = "unknown type") -> None:
        """Book something that could not be taken."""
        self._places.append(place)
        self._ledger.refuse(len(self._places) - 1, kind, path, rule)

    def ignore(self, place: Place, kind: str, reason: str) -> None:
        """Book something that is no part of anybody's record."""
        self._places.append(place)
        self._ledger.ignore(len(self._places) - 1, resource_type(kind), reason)

    def remark(self, what: str, path: str, rule: str) -> None:
        """Note something about the whole."""
        self._ledger.remark(-1, what, path, rule)

    def delete(self, kind: str, own: str) -> int:
        """Take out what a server says it has deleted; how many resources that were."""
        self._write()
        where = " WHERE kind = ? AND id = ?"
        places = self._database.execute(f"SELECT file, line FROM resource{where}", (kind, own))  # noqa: S608
        gone: list[Place] = places.fetchall()
        for place in gone:
            self.ignore(place, kind, "deleted on the server")
        self._database.execute(f"DELETE FROM resource{where}", (kind, own))  # noqa: S608
        return len(gone)

    def close(self) -> ImportReport:
        """Stop taking; what of all that came has found its patient, and what has not."""
        self._write()
        self._database.executescript(_INDEXES)
        taken = f"{_HAS_PATIENT} OR {_IS_TAKEN}"
        query = f"SELECT kind, file, line, patient FROM resource WHERE ({taken}) IS NOT TRUE"  # noqa: S608
        for kind, file, line, patient in self._database.execute(query):
            if patient is None:
                why = "no prescription names it" if kind == "Medication" else "of no patient"
                self.ignore((file, line), kind, why)
            else:
                self.refuse((file, line), "subject", "is a patient who is not here", kind)
        counts = f"SELECT kind, COUNT(*) FROM resource WHERE {taken} GROUP BY kind"  # noqa: S608
        for kind, count in self._database.execute(counts):
            self._ledger.accept(resource_type(kind), count)
        return self._ledger.report()

    def patients(self) -> list[str]:
        """The ids of all patients, in order."""
        query = "SELECT DISTINCT id FROM resource WHERE kind = 'Patient' ORDER BY id"
        return [row[0] for row in self._database.execute(query)]

    def bundle(self, patient: str) -> PatientBundle:
        """Everything about one patient, and the medication that their prescriptions name."""
        rows = self._database.execute(_MINE, {"patient": patient}).fetchall()
        entries = b",".join(_entry(url, raw) for _, _, url, raw in rows)
        raw = b'{"entry":[%b],"resourceType":"Bundle","type":"collection"}' % entries
        return PatientBundle(raw, tuple((file, line) for file, line, _, _ in rows))

    def _write(self) -> None:
        self._database.executemany(_ROW, self._waiting)
        self._waiting.clear()


def _entry(url: str, raw: bytes) -> bytes:
    """One entry of a canonical bundle."""
    full_url = b'"fullUrl":%b,' % orjson.dumps(url) if url else b""
    return b'{%b"resource":%b}' % (full_url, raw)


def _medication(resource: Json, names: Mapping[str, str]) -> str | None:
    """The id of the Medication that a prescription names."""
    reference = resource.get("medicationReference")
    target = reference.get("reference") if isinstance(reference, dict) else None
    if not isinstance(target, str):
        return None
    own = PurePosixPath(target.partition("/_history/")[0]).name if "Medication/" in target else None
    return names.get(target, own)


def split_bundle(raw: bytes) -> tuple[PatientIndex, ImportReport]:
    """Sort the entries of a bundle with several patients, such as a searchset, by patient.

    Args:
        raw: A FHIR R4 Bundle as JSON.

    Returns:
        The index to take one bundle for each patient from, and what of the entries is nobody's.

    Raises:
        BundleError: It is not JSON or no bundle of a record.
    """
    entries, has_next = entries_of(raw)
    index = PatientIndex()
    if has_next:
        index.remark("Bundle", "link", "says that another page follows: fetch it too")
    names = _names(entries)
    for entry in entries:
        try:
            if not entry.kind:
                raise UnreadableError("resource", "is missing or has no resourceType")
            resource = entry.resource()
        except UnreadableError as error:
            index.refuse(("", entry.index), error.path, error.rule, resource_type(entry.kind))
            continue
        place = ("", entry.index)
        index.add(resource, place, own_id=entry.id, url=entry.url, names=names)
    return index, index.close()


def count_patients(raw: bytes) -> int:
    """How many different patients a bundle has.

    Raises:
        BundleError: It is not JSON or no bundle of a record.
    """
    entries, _ = entries_of(raw)
    return len({entry.local for entry in entries if entry.kind == "Patient"})


def _names(entries: list[Entry]) -> dict[str, str]:
    """Ids of patients and drugs by fullUrl and by what a conditional reference says of them."""
    names: dict[str, str] = {}
    for entry in entries:
        if entry.kind in ("Patient", "Medication"):
            names |= dict.fromkeys(entry.names(), entry.id)
        if entry.kind != "Patient":
            continue
        try:
            pairs = identifiers_of(entry.resource().get("identifier"))
        except UnreadableError:
            continue
        names |= {f"Patient?identifier={system}|{value}": entry.id for system, value in pairs}
    return names
