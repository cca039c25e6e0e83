"""A FHIR R4 bundle becomes a `PatientRecord`, entry by entry, with a report of every entry.

What is wrong with one entry costs that entry; what makes it doubtful whose record this is costs
the bundle. `BundleError` and `ImportReport` carry element names, codes and units, never a value.
"""

import datetime as dt
import logging
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import get_args

import orjson
from fhir.resources.R4B import get_fhir_model_class
from fhir_core.fhirabstractmodel import FHIRAbstractModel
from pydantic import ValidationError

from clinical.entries import (
    READERS,
    Fact,
    Json,
    UnreadableError,
    UnusedError,
    first_date,
    read_entry,
)
from clinical.notes import language
from clinical.record import (
    Condition,
    FamilyMember,
    Medication,
    Note,
    Observation,
    PatientRecord,
    Sex,
)

# Before the first model is loaded, or its errors would quote the patient.
FHIRAbstractModel.set_global_model_config(hide_input_in_errors=True)

logger = logging.getLogger(__name__)

MAX_BYTES = 256 * 2**20
MAX_DEPTH = 32  # R4B recurses; no resource of the standard's examples is deeper than 16
BUNDLE_TYPES = ("transaction", "collection", "searchset", "batch", "document")

_PATIENT = re.compile(r"(?:^|/)Patient/([A-Za-z0-9.-]{1,64})$")
_VERSION = re.compile(r"/_history/[^/]*$")
# What R4B raises on a malformed resource, besides its own error.
_MALFORMED = (ValidationError, LookupError, TypeError, ValueError, AttributeError, RecursionError)


class BundleError(ValueError):
    """The bundle is refused as a whole: not JSON, not one patient's, or of an unknown kind."""


@dataclass(frozen=True)
class Refusal:
    """One entry that could not be taken over.

    Attributes:
        entry: Position in the bundle, from 0.
        resource_type: FHIR type of its resource.
        path: Element at fault, as in ``valueQuantity.value``.
        rule: What it breaks.
    """

    entry: int
    resource_type: str
    path: str
    rule: str


@dataclass(frozen=True)
class ImportReport:
    """What became of every entry: accepted, ignored or refused.

    Attributes:
        accepted: Entries by resource type.
        ignored: Entries we have no use for, by resource type and reason.
        refused: Entries that are broken or uncertain.
    """

    accepted: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    refused: tuple[Refusal, ...] = ()

    def summary(self) -> tuple[str, ...]:
        """Lines to print; no patient's value is in them."""
        totals = self.accepted.total(), self.ignored.total(), len(self.refused)
        head = "{} entries accepted, {} ignored, {} refused".format(*totals)
        accepted = [f"  accepted {n:5d}  {kind}" for kind, n in sorted(self.accepted.items())]
        ignored = [f"  ignored  {n:5d}  {kind}" for kind, n in sorted(self.ignored.items())]
        refused = [
            f"  refused  entry {r.entry}: {r.resource_type}.{r.path} {r.rule}" for r in self.refused
        ]
        return (head, *accepted, *ignored, *refused)


@dataclass(frozen=True)
class _Entry:
    """One entry of the bundle before anything is known about its resource."""

    index: int
    url: str
    resource: Json

    @property
    def kind(self) -> str:
        return str(self.resource.get("resourceType", ""))

    @property
    def id(self) -> str:
        """Its id; else the last part of its URL or its position."""
        return str(
            self.resource.get("id") or re.split("[:/]", self.url)[-1] or f"entry-{self.index}"
        )

    def names(self) -> set[str]:
        """Every reference that means this entry."""
        local = f"{self.kind}/{self.id}"
        return {local, self.url} - {""}


def read_bundle(raw: bytes) -> tuple[PatientRecord, ImportReport]:
    """Read one patient's bundle.

    Args:
        raw: A FHIR R4 Bundle as JSON, of a type in `BUNDLE_TYPES`.

    Returns:
        The record and what became of each entry. The same bytes give an equal record.

    Raises:
        BundleError: It is not JSON, not a Bundle, has no Patient or several, its Patient is
            invalid, or an entry is about another patient.
    """
    entries = _entries(_parse(raw))
    patient = _the_patient(entries)
    _check_subjects(entries, patient)
    resources = {name: entry.resource for entry in entries for name in entry.names()}
    report = ImportReport(Counter(Patient=1))
    facts: list[Fact] = []
    refused: list[Refusal] = []
    for entry in entries:
        if entry is patient:
            continue
        try:
            facts += _read(entry, patient, resources)
            report.accepted[entry.kind] += 1
        except UnusedError as reason:
            report.ignored[f"{_known_type(entry.kind)} ({reason})".removesuffix(" ()")] += 1
        except UnreadableError as error:
            refused.append(Refusal(entry.index, _known_type(entry.kind), error.path, error.rule))
    report = replace(report, refused=tuple(refused))
    logger.info("bundle read: %s", report.summary()[0])
    return _record(patient.resource, patient.id, facts), report


def _parse(raw: bytes) -> Json:
    if len(raw) > MAX_BYTES:
        raise BundleError(
            f"{len(raw)} bytes are more than the {MAX_BYTES} a bundle may have; split it"
        )
    try:
        bundle = orjson.loads(raw.removeprefix(b"\xef\xbb\xbf"))
    except orjson.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        raise BundleError(f"not JSON at {where}; export the bundle again") from None
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        raise BundleError("not a FHIR Bundle; put single resources into one of type collection")
    if bundle.get("type") not in BUNDLE_TYPES:
        raise BundleError(f"not a bundle of a record; its type must be one of {BUNDLE_TYPES}")
    return bundle


def _entries(bundle: Json) -> list[_Entry]:
    """All entries, with an empty resource where there is none to read."""
    items = bundle.get("entry", [])
    if not isinstance(items, list):
        raise BundleError("Bundle.entry is not a list; export the bundle again")
    entries: list[_Entry] = []
    for index, item in enumerate(items):
        item = item if isinstance(item, dict) else {}
        resource = item.get("resource")
        url = str(item.get("fullUrl") or "")
        entries.append(_Entry(index, url, resource if isinstance(resource, dict) else {}))
    return entries


def _the_patient(entries: list[_Entry]) -> _Entry:
    """The one Patient.

    Raises:
        BundleError: There is none, there are several, or it is invalid.
    """
    patients = [entry for entry in entries if entry.kind == "Patient"]
    if len(patients) != 1:
        raise BundleError(f"{len(patients)} Patient resources; a bundle must have exactly one")
    try:
        _validate(patients[0])
        first_date(patients[0].resource.get("birthDate"), "birthDate")
    except UnreadableError as error:
        raise BundleError(
            f"entry {patients[0].index}: Patient.{error.path} {error.rule}; correct the export"
        ) from None
    return patients[0]


def _check_subjects(entries: list[_Entry], patient: _Entry) -> None:
    """Refuse the bundle where any entry, used or not, is about another patient."""
    for entry in entries:
        if _is_about(entry, patient) is False:
            raise BundleError(
                f"entry {entry.index} ({_known_type(entry.kind)}) is about another patient than "
                f"the bundle's Patient; send one bundle for each patient"
            )


def _is_about(entry: _Entry, patient: _Entry) -> bool | None:
    """Whether an entry is about the patient; None where its subject cannot be resolved."""
    subject = entry.resource.get("subject") or entry.resource.get("patient")
    reference = subject.get("reference") if isinstance(subject, dict) else None
    if not isinstance(reference, str):
        return None
    reference = _VERSION.sub("", reference)
    match = _PATIENT.search(reference)
    if reference in patient.names() or not match:
        return reference in patient.names() or None
    both_absolute = "://" in reference and "://" in patient.url
    return not both_absolute and match.group(1) == patient.id


def _read(entry: _Entry, patient: _Entry, resources: dict[str, Json]) -> tuple[Fact, ...]:
    """What one entry states.

    Raises:
        UnusedError: We have no use for it.
        UnreadableError: It is broken, or it is uncertain whom or what it is about.
    """
    if not entry.kind:
        raise UnreadableError("resource", "is missing or has no resourceType")
    if entry.kind != "Medication" and entry.kind not in READERS:
        raise UnusedError
    if resources[f"{entry.kind}/{entry.id}"] is not entry.resource:
        raise UnusedError("repeated id")
    _validate(entry)
    if entry.kind == "Medication":
        return ()  # read where it is referred to
    if not _is_about(entry, patient):
        raise UnreadableError("subject", "does not name the bundle's Patient")
    try:
        return read_entry(entry.resource, entry.id, resources.get)
    except (UnusedError, UnreadableError):
        raise
    except _MALFORMED as error:
        raise UnreadableError("", f"cannot be read ({type(error).__name__})") from None


def _validate(entry: _Entry) -> None:
    """Hold a resource against the R4 model of its type."""
    if _is_deeper(entry.resource, MAX_DEPTH):
        raise UnreadableError("", f"is nested deeper than {MAX_DEPTH} levels")
    try:
        get_fhir_model_class(entry.kind).model_validate(entry.resource)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        raise UnreadableError(*_path_and_rule(first["loc"], first["type"])) from None
    except _MALFORMED:
        raise UnreadableError("", "cannot be parsed") from None


def _path_and_rule(location: tuple[int | str, ...], rule: str) -> tuple[str, str]:
    """Path and rule of a validation error, without the name of an unknown element."""
    unknown = rule == "extra_forbidden"
    parts = location[:-1] if unknown else location
    path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return path[1:], "has an element that R4 does not know" if unknown else f"breaks {rule}"


def _is_deeper(node: object, limit: int) -> bool:
    """Whether JSON is nested deeper than a limit; without recursion."""
    level = [node]
    for _ in range(limit):
        level = [child for parent in level for child in _children(parent)]
        if not level:
            return False
    return True


def _children(node: object) -> Iterator[object]:
    values = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return (value for value in values if isinstance(value, dict | list))


def _known_type(kind: str) -> str:
    """A resource type, or a word for one that FHIR does not know: it may hold anything."""
    try:
        get_fhir_model_class(kind)
    except (ValueError, LookupError):
        return "unknown type"
    return kind


def _record(patient: Json, patient_id: str, facts: list[Fact]) -> PatientRecord:
    """The record; observations and notes by date, everything else in the bundle's order."""
    observations = [fact for fact in facts if isinstance(fact, Observation)]
    notes = [fact for fact in facts if isinstance(fact, Note)]
    sex: Sex = next((sex for sex in get_args(Sex) if sex == patient.get("gender")), "unknown")
    return PatientRecord(
        patient_id=patient_id,
        sex=sex,
        name=_name(patient.get("name", [])),
        birth_date=first_date(patient.get("birthDate"), "birthDate"),
        education_years=max((fact for fact in facts if isinstance(fact, float)), default=None),
        observations=tuple(sorted(observations, key=lambda o: (o.date or dt.date.min, o.id))),
        conditions=tuple(fact for fact in facts if isinstance(fact, Condition)),
        medications=tuple(fact for fact in facts if isinstance(fact, Medication)),
        family_history=tuple(fact for fact in facts if isinstance(fact, FamilyMember)),
        notes=tuple(sorted(notes, key=lambda note: (note.date or dt.date.min, note.id))),
        identifiers=tuple(
            entry["value"] for entry in patient.get("identifier", []) if entry.get("value")
        ),
    )


def _name(names: list[Json]) -> str:
    """The official name, else the usual one, else the first; a Chinese family name leads."""
    order = {"official": 0, "usual": 1}
    best = min(names, key=lambda name: order.get(name.get("use", ""), 2), default={})
    given, family = " ".join(best.get("given", [])), best.get("family", "")
    in_order = f"{family}{given}" if language(family) == "zh" else f"{given} {family}"
    return best.get("text") or in_order.strip()
