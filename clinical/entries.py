"""What one FHIR R4 resource says about the patient, in the words of `clinical.record`.

Each reader takes a resource that `clinical.fhir` has validated, as plain JSON, and returns what it
states. `UnusedError` says why a sound resource is of no use, `UnreadableError` what is wrong with
one; neither carries anything but element names, codes and units.
"""

import base64
import binascii
import datetime as dt
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from clinical.attachments import KINDS, AttachmentError, attachment_text
from clinical.elements import (
    LOINC,
    Doubt,
    Json,
    UnreadableError,
    UnusedError,
    coding,
    first_date,
    is_named,
    unit_of,
    when,
)
from clinical.notes import language, plain_text
from clinical.observations import YEARS, read_observation
from clinical.record import Condition, FamilyMember, Medication, Note, Observation

Fact = Observation | Condition | Medication | FamilyMember | Note | float
Resolve = Callable[[str], Json | None]

_RETRACTED = {"entered-in-error", "cancelled", "not-taken", "not-done", "refuted", "superseded"}
_VERIFICATION = "http://terminology.hl7.org/CodeSystem/condition-ver-status"
_VERIFIED = {"", "unconfirmed", "provisional", "differential", "confirmed"}
_CLINICAL = "http://terminology.hl7.org/CodeSystem/condition-clinical"
_STATUSES = {"active", "recurrence", "relapse", "inactive", "remission", "resolved"}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


@dataclass(frozen=True)
class Read:
    """What one resource states, and what of it had to be left out."""

    facts: tuple[Fact, ...]
    doubts: tuple[Doubt, ...] = ()


def read_entry(resource: Json, entry_id: str, resolve: Resolve) -> Read:
    """Read one resource of a type in `READERS`.

    Args:
        resource: Validated JSON.
        entry_id: Its id, or a stand-in where it has none.
        resolve: Finds the resource a reference points to, within the bundle.

    Returns:
        What it states: at least one fact; a bare number is the years of education.

    Raises:
        UnusedError: It is retracted, negated, empty, or about nothing the record keeps.
        UnreadableError: Its meaning is uncertain: an unknown status, an unknown modifier.
    """
    kind = resource["resourceType"]
    if _is_modified(resource):
        raise UnreadableError("modifierExtension", "changes the meaning and is not understood")
    if {resource.get("status"), resource.get("docStatus"), _verification(resource)} & _RETRACTED:
        raise UnusedError("retracted or negated")
    if resource.get("doNotPerform") or resource.get("focus"):
        raise UnusedError("not about a fact of this patient")
    found = tuple(READERS[kind](resource, entry_id, resolve))
    facts = tuple(fact for fact in found if not isinstance(fact, Doubt))
    doubts = tuple(fact for fact in found if isinstance(fact, Doubt))
    if not facts:
        raise UnusedError(doubts[0].rule if doubts else _EMPTY[kind])
    return Read(facts, doubts)


def _is_modified(resource: Json) -> bool:
    """Whether a modifier extension stands anywhere in a resource."""
    waiting: list[Any] = [resource]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict) and "modifierExtension" in node:
            return True
        children = node.values() if isinstance(node, dict) else node
        waiting += [child for child in children if isinstance(child, dict | list)]
    return False


def _observations(resource: Json, entry_id: str, _: Resolve) -> Iterator[Fact | Doubt]:
    yield from read_observation(resource, entry_id)


def _conditions(resource: Json, entry_id: str, _: Resolve) -> Iterator[Fact | Doubt]:
    verification = _verification(resource)
    if verification not in _VERIFIED:
        raise UnreadableError("verificationStatus", "has a code that R4 does not know")
    status = coding(resource.get("clinicalStatus"), (_CLINICAL,)).code or "unknown"
    if status not in _STATUSES | {"unknown"}:
        yield Doubt("clinicalStatus", "has a code that R4 does not know, so it is unknown")
        status = "unknown"
    if is_named(code := coding(resource.get("code"))):
        yield Condition(entry_id, code, status, when(resource, "onset"), verification)


def _medications(resource: Json, entry_id: str, resolve: Resolve) -> Iterator[Fact]:
    concept: Json | None = resource.get("medicationCodeableConcept")
    if concept is None:
        reference: Json = resource.get("medicationReference", {})
        target = _contained(resource, reference.get("reference", "")) or resolve(
            reference.get("reference", "")
        )
        concept = target.get("code") if target else {"text": reference.get("display")}
    code = coding(concept)
    if not is_named(code):
        raise UnreadableError("medicationReference", "points to no Medication in the bundle")
    start = first_date(resource.get("authoredOn"), "authoredOn") or when(resource, "effective")
    yield Medication(entry_id, code, resource.get("status", "unknown"), start)


def _family(resource: Json, entry_id: str, _: Resolve) -> Iterator[Fact]:
    relationship = coding(resource.get("relationship"))
    name = resource.get("relationship", {}).get("text") or relationship.display
    for n, condition in enumerate(resource.get("condition", []), start=1):
        age: Json = condition.get("onsetAge", {})
        factor = YEARS.get(unit_of(age))
        years = float(age["value"]) * factor if factor and "value" in age else None
        code = coding(condition.get("code"))
        yield FamilyMember(f"{entry_id}#{n}", name or relationship.code, code, years)


def _report_notes(resource: Json, entry_id: str, _: Resolve) -> Iterator[Fact | Doubt]:
    """The report's own texts; its narrative only where it has no other."""
    texts: list[str | Doubt | None]
    texts = [_attachment(form) for form in resource.get("presentedForm", [])]
    texts.append(resource.get("conclusion") or "")
    if not any(isinstance(text, str) and text for text in texts):
        texts += [plain_text(resource.get("text", {}).get("div", ""))]
    date = when(resource, "effective") or first_date(resource.get("issued"), "issued")
    yield from _notes(texts, entry_id, resource.get("code"), date)


def _document_notes(resource: Json, entry_id: str, _: Resolve) -> Iterator[Fact | Doubt]:
    texts = [_attachment(content.get("attachment", {})) for content in resource["content"]]
    yield from _notes(texts, entry_id, resource.get("type"), first_date(resource.get("date")))


def _notes(
    texts: list[str | Doubt | None], entry_id: str, kind: Json | None, date: dt.date | None
) -> Iterator[Note | Doubt]:
    code = coding(kind, prefer=(LOINC,))
    doubts = [text for text in texts if isinstance(text, Doubt)]
    if doubts and not any(isinstance(text, str) and text.strip() for text in texts):
        raise UnreadableError(doubts[0].path, doubts[0].rule)
    for n, text in enumerate(texts, start=1):
        if isinstance(text, Doubt):
            yield text
            continue
        if text is None:
            yield Doubt("attachment", "is of a kind that is not read, or lies elsewhere")
            continue
        tidy = _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()
        if tidy:
            yield Note(f"{entry_id}#{n}", code, tidy, date, language(tidy))


def _attachment(attachment: Json) -> str | Doubt | None:
    """The text of an attachment; a doubt where it has none, None where it lies elsewhere."""
    kind = str(attachment.get("contentType", "text/plain"))
    if kind.lower().partition(";")[0].strip() not in KINDS or "data" not in attachment:
        return None
    try:
        data = base64.b64decode("".join(attachment["data"].split()), validate=True)
        return attachment_text(data, kind)
    except binascii.Error:
        return Doubt("attachment.data", "is not base64; export it again")
    except AttachmentError as error:
        return Doubt("attachment.data", str(error))


def _contained(resource: Json, reference: str) -> Json | None:
    inside: list[Json] = resource.get("contained", []) if reference.startswith("#") else []
    return next((entry for entry in inside if entry.get("id") == reference[1:]), None)


def _verification(resource: Json) -> str:
    return coding(resource.get("verificationStatus"), (_VERIFICATION,)).code


READERS: Mapping[str, Callable[[Json, str, Resolve], Iterator[Fact | Doubt]]] = {
    "Observation": _observations,
    "Condition": _conditions,
    "MedicationRequest": _medications,
    "MedicationStatement": _medications,
    "MedicationAdministration": _medications,
    "FamilyMemberHistory": _family,
    "DiagnosticReport": _report_notes,
    "DocumentReference": _document_notes,
}

_EMPTY = {
    "Observation": "no value with a code of the table of analytes",
    "Condition": "no code",
    "FamilyMemberHistory": "no condition",
    "DiagnosticReport": "no text",
    "DocumentReference": "no text inside that is read",
}
