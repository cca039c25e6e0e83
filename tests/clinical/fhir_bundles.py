"""FHIR resources about one made-up patient, and bundles of them."""

import base64
from typing import Any

import orjson

from clinical.fhir import read_bundle
from clinical.record import PatientRecord

Json = dict[str, Any]

PATIENT: Json = {
    "resourceType": "Patient",
    "id": "p1",
    "gender": "female",
    "birthDate": "1941-07",
    "name": [{"use": "official", "family": "Li", "given": ["Mei"]}],
}


def resource(kind: str, **elements: Any) -> Json:
    """A resource about the patient."""
    holder = "patient" if kind == "FamilyMemberHistory" else "subject"
    return {"resourceType": kind, holder: {"reference": "Patient/p1"}, **elements}


def observation(loinc: str, value: float, unit: str, **elements: Any) -> Json:
    """A final Observation with a quantity."""
    code = {"coding": [{"system": "http://loinc.org", "code": loinc}]}
    quantity = {"value": value, "code": unit, "system": "http://unitsofmeasure.org"}
    final = {"status": "final", "effectiveDateTime": "2025-03-04T09:30:00+08:00"}
    return resource("Observation", **{"code": code, "valueQuantity": quantity, **final, **elements})


def condition(code: str = "26929004", **elements: Any) -> Json:
    """A Condition with a SNOMED CT code."""
    return resource(
        "Condition",
        **{"code": {"coding": [{"system": "http://snomed.info/sct", "code": code}]}, **elements},
    )


def document(text: str, content_type: str = "text/plain", charset: str = "utf-8") -> Json:
    """A DocumentReference with its text inside."""
    data = base64.b64encode(text.encode(charset)).decode()
    attachment = {"contentType": content_type, "data": data}
    return resource(
        "DocumentReference", status="current", date="2025-03-05T10:00:00Z",
        content=[{"attachment": attachment}],
    )  # fmt: skip


def bundle(*resources: Json, patient: Json = PATIENT, kind: str = "collection") -> bytes:
    """A bundle with the patient first."""
    entries = [{"resource": entry} for entry in (patient, *resources)]
    return orjson.dumps({"resourceType": "Bundle", "type": kind, "entry": entries})


def record_of(*resources: Json) -> PatientRecord:
    """The record of a bundle in which nothing may be refused."""
    record, report = read_bundle(bundle(*resources))
    assert not report.refused
    assert not report.remarks
    return record
