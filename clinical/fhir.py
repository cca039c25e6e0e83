"""A FHIR R4 bundle becomes a `PatientRecord`, entry by entry, with a report of every entry.

What is wrong with one entry costs that entry, and with an element of the Patient that element.
Only what makes it doubtful whose record this is costs the bundle: no Patient or several; a Patient
that cannot be parsed or has a modifier; an entry, used or not, whose subject names another patient
by reference or identifier. `BundleError` and `ImportReport` carry element names, codes, units and
positions, never a value.
"""

import datetime as dt
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import get_args

from clinical.bundle import (
    BUNDLE_TYPES,
    MAX_BYTES,
    BundleError,
    Entry,
    Whose,
    entries_of,
    identifiers_of,
)
from clinical.elements import Json, UnreadableError, UnusedError, first_date
from clinical.entries import READERS, Fact, Read, read_entry
from clinical.import_report import ImportReport, Ledger, Place, Refusal, Remark
from clinical.notes import language
from clinical.personal import read_personal
from clinical.r4 import MALFORMED, MAX_DEPTH, resource_type, sound, sound_patient
from clinical.record import (
    Condition,
    FamilyMember,
    Medication,
    Note,
    Observation,
    PatientRecord,
    Sex,
)
from clinical.units import analyte, reference_range

__all__ = [
    "BUNDLE_TYPES", "MAX_BYTES", "MAX_DEPTH", "BundleError", "ImportReport", "Refusal", "Remark",
    "read_bundle",
]  # fmt: skip

logger = logging.getLogger(__name__)

# Of several versions of one resource that do not say when they were made, the most final counts.
_FINALITY = ("registered", "preliminary", "partial", "final", "appended", "amended", "corrected",
             "cancelled", "entered-in-error")  # fmt: skip


def read_bundle(raw: bytes, places: Sequence[Place] = ()) -> tuple[PatientRecord, ImportReport]:
    """Read one patient's bundle.

    Args:
        raw: A FHIR R4 Bundle as JSON, of a type in `BUNDLE_TYPES`.
        places: File and line that each entry came from, for the report; empty where the
            bundle itself is the source.

    Returns:
        The record and what became of each entry. The same bytes give an equal record.

    Raises:
        BundleError: It is not JSON, not a Bundle, has no Patient or several, or an entry is
            about another patient.
    """
    entries, has_next = entries_of(raw)
    reading = _Reading(entries, Ledger(places))
    if has_next:
        reading.ledger.remark(-1, "Bundle", "link", "says that another page follows: fetch it too")
    reading.refuse_others()
    facts = [fact for entry in entries for fact in reading.facts(entry)]
    report = reading.ledger.report()
    logger.info("bundle read: %s", report.summary()[0])
    return _record(reading.patient_resource, reading.patient.id, facts), report


class _Reading:
    """The entries of one bundle with what they refer to; it books each of them once."""

    def __init__(self, entries: Iterable[Entry], ledger: Ledger) -> None:
        self.entries, self.ledger = list(entries), ledger
        self.current = _current(self.entries)
        self.by_name = {name: e for e in self.current.values() for name in e.names()}
        self.patient = self._the_patient()
        self.patient_resource = self._sound_patient()
        identifiers = frozenset(identifiers_of(self.patient_resource.get("identifier")))
        self.whose = Whose(self.patient.id, self.patient.url, identifiers)

    def _the_patient(self) -> Entry:
        """The one Patient.

        Raises:
            BundleError: There is none, or there are several.
        """
        patients = [entry for entry in self.current.values() if entry.kind == "Patient"]
        if len(patients) != 1:
            advice = "; `consilium import` makes a case of each" if patients else ""
            raise BundleError(
                f"{len(patients)} Patient resources; a record has exactly one{advice}"
            )
        return patients[0]

    def _sound_patient(self) -> Json:
        """The Patient without those of its elements that cannot be read.

        Raises:
            BundleError: It cannot be read at all.
        """
        entry = self.patient
        try:
            resource, doubts = sound_patient(entry.resource())
        except UnreadableError as error:
            what = ".".join(filter(None, ("Patient", error.path)))
            raise BundleError(f"entry {entry.index}: {what} {error.rule}") from None
        for doubt in doubts:
            self.ledger.remark(entry.index, "Patient", doubt.path, doubt.rule)
        return resource

    @cached_property
    def replaced(self) -> set[str]:
        """Documents that a later one of the bundle says it replaces."""
        return {
            old.local
            for entry in self.current.values()
            if entry.kind == "DocumentReference" and b'"replaces"' in bytes(entry.raw)
            for reference in _replaces(entry)
            if (old := self.by_name.get(reference)) is not None
        }

    @cached_property
    def about(self) -> dict[int, bool | None]:
        """For each entry, whether it is about the patient."""
        return {entry.index: self.whose.is_subject_of(entry) for entry in self.entries}

    def refuse_others(self) -> None:
        """Refuse the bundle where any entry, used or not, is about another patient."""
        for entry in self.entries:
            if self.about[entry.index] is False:
                raise BundleError(
                    f"entry {entry.index} ({resource_type(entry.kind)}) is about another patient "
                    f"than the bundle's Patient; send one bundle for each patient"
                )

    def facts(self, entry: Entry) -> tuple[Fact, ...]:
        """What an entry states; whatever becomes of it is booked."""
        kind = resource_type(entry.kind)
        try:
            read = self._read(entry)
        except UnusedError as reason:
            self.ledger.ignore(entry.index, kind, str(reason))
            return ()
        except UnreadableError as error:
            self.ledger.refuse(entry.index, kind, error.path, error.rule)
            return ()
        self.ledger.accept(kind)
        for doubt in read.doubts:
            self.ledger.remark(entry.index, kind, doubt.path, doubt.rule)
        return read.facts

    def _read(self, entry: Entry) -> Read:
        """What one entry states.

        Raises:
            UnusedError: We have no use for it.
            UnreadableError: It is broken, or it is uncertain whom or what it is about.
        """
        self._refuse_unused(entry)
        if entry is self.patient:
            return Read(())
        resource, doubt = sound(entry.resource())
        doubts = (doubt,) if doubt else ()
        if entry.kind == "Medication":
            return Read((), doubts)  # read where it is referred to
        if not self.about[entry.index]:
            raise UnreadableError("subject", "does not name the bundle's Patient")
        try:
            read = read_entry(resource, entry.id, self._resolve)
        except (UnusedError, UnreadableError):
            raise
        except MALFORMED as error:
            raise UnreadableError("", f"cannot be read ({type(error).__name__})") from None
        return Read(read.facts, doubts + read.doubts)

    def _refuse_unused(self, entry: Entry) -> None:
        """Stop where an entry need not even be parsed.

        Raises:
            UnusedError: We have no use for it.
            UnreadableError: There is nothing in it.
        """
        if not entry.kind:
            if entry.deletes:
                raise UnusedError("a deletion")
            raise UnreadableError("resource", "is missing or has no resourceType")
        if entry.kind not in {"Patient", "Medication", *READERS}:
            raise UnusedError
        if self.current[entry.local] is not entry:
            raise UnusedError("repeated id; the latest version counts")
        if entry.local in self.replaced:
            raise UnusedError("replaced by a later document")

    def _resolve(self, reference: str) -> Json | None:
        """The Medication that a reference points to; None where it is not here or broken."""
        entry = self.by_name.get(reference)
        if entry is None or entry.kind != "Medication":
            return None
        try:
            return sound(entry.resource())[0]
        except UnreadableError:
            return None


def _current(entries: Iterable[Entry]) -> dict[str, Entry]:
    """The version that counts of each resource: the one last updated, most final, last."""
    versions: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.kind:
            versions[entry.local].append(entry)
    return {
        name: same[0] if len(same) == 1 else max(same, key=_recency)
        for name, same in versions.items()
    }


def _recency(entry: Entry) -> tuple[dt.datetime, int, int]:
    """What decides between versions of one resource, the larger the better."""
    oldest = dt.datetime.min.replace(tzinfo=dt.UTC)
    try:
        resource = entry.resource()
        meta = resource.get("meta")
        updated = dt.datetime.fromisoformat(meta["lastUpdated"]) if isinstance(meta, dict) else None
    except MALFORMED:  # UnreadableError is a ValueError
        return oldest, -1, entry.index
    status = resource.get("status")
    finality = _FINALITY.index(status) if status in _FINALITY else 0
    known = updated if updated is not None and updated.tzinfo is not None else oldest
    return known, finality, entry.index


def _replaces(entry: Entry) -> Iterator[str]:
    """References to what a valid document replaces."""
    try:
        resource = entry.resource()
        if resource.get("status") == "current":
            for link in resource.get("relatesTo", []):
                if link["code"] == "replaces":
                    yield str(link["target"]["reference"])
    except MALFORMED:
        return  # refused when it is its turn


def _record(patient: Json, patient_id: str, facts: list[Fact]) -> PatientRecord:
    """The record; observations and notes by date, everything else in the bundle's order."""
    observations = [fact for fact in facts if isinstance(fact, Observation)]
    notes = [fact for fact in facts if isinstance(fact, Note)]
    sex: Sex = next((sex for sex in get_args(Sex) if sex == patient.get("gender")), "unknown")
    person = PatientRecord(
        patient_id=patient_id,
        sex=sex,
        name=_name(patient.get("name", [])),
        birth_date=first_date(patient.get("birthDate"), "birthDate"),
        education_years=max((fact for fact in facts if isinstance(fact, float)), default=None),
        identifiers=tuple(
            entry["value"] for entry in patient.get("identifier", []) if entry.get("value")
        ),
        personal=read_personal(patient),
    )
    return replace(
        person,
        observations=tuple(
            _ranged(seen, person)
            for seen in sorted(observations, key=lambda o: (o.date or dt.date.min, o.id))
        ),
        conditions=tuple(fact for fact in facts if isinstance(fact, Condition)),
        medications=tuple(fact for fact in facts if isinstance(fact, Medication)),
        family_history=tuple(fact for fact in facts if isinstance(fact, FamilyMember)),
        notes=tuple(sorted(notes, key=lambda note: (note.date or dt.date.min, note.id))),
    )


def _ranged(seen: Observation, person: PatientRecord) -> Observation:
    """An observation with the table's range for this person where the sender gave none."""
    known = analyte(seen.loinc)
    if seen.reference is not None or known is None:
        return seen
    age_years = person.age_on(seen.date) if seen.date else None
    return replace(seen, reference=reference_range(known, person.sex, age_years))


def _name(names: list[Json]) -> str:
    """The official name, else the usual one, else the first; a Chinese family name leads."""
    order = {"official": 0, "usual": 1}
    best = min(names, key=lambda name: order.get(name.get("use", ""), 2), default={})
    given, family = " ".join(best.get("given", [])), best.get("family", "")
    in_order = f"{family}{given}" if language(family) == "zh" else f"{given} {family}"
    return best.get("text") or in_order.strip()
