"""A synthetic patient as a FHIR R4 bundle."""

import base64
import datetime as dt
import json
import uuid
from typing import Any

import numpy as np

from clinical.units import Analyte, analyte, reference_range
from sample_data import history
from sample_data.history import Fact, draw
from sample_data.hospitals import Hospital
from sample_data.measurements import DECIMALS, DIASTOLIC, SYSTOLIC, Measurement, measure
from sample_data.notes import SyntheticNote, write_notes
from sample_data.patients import Patient, case_rng

Json = dict[str, Any]

LOINC = "http://loinc.org"
UCUM = "http://unitsofmeasure.org"
EDUCATION = "82590-1"  # total years of schooling
_TERMS = "http://terminology.hl7.org/CodeSystem/"
_NAMESPACE = uuid.UUID("6f1d5f0e-3c7b-5d8e-9a55-0c5d3b0c4f21")


def bundle_bytes(patient: Patient, hospital: Hospital, seed: int, index: int) -> bytes:
    """The bundle of one patient; the same arguments give the same bytes."""
    resources = _resources(patient, hospital, seed, index)
    entries = []
    for number, resource in enumerate(resources):
        name = f"{patient.case_id}/{number}"
        resource["id"] = str(uuid.uuid5(_NAMESPACE, name))
        if number:
            resource[
                "subject" if resource["resourceType"] != "FamilyMemberHistory" else "patient"
            ] = {"reference": f"urn:uuid:{resources[0]['id']}"}
        entries.append({"fullUrl": f"urn:uuid:{resource['id']}", "resource": resource})
    bundle = {
        "resourceType": "Bundle",
        "id": str(uuid.uuid5(_NAMESPACE, patient.case_id)),
        "meta": {"tag": [{"system": _TERMS + "v3-ActReason", "code": "HTEST"}]},
        "type": "collection",
        "timestamp": f"{patient.visit}T12:00:00Z",
        "entry": entries,
    }
    return (json.dumps(bundle, ensure_ascii=False, indent=1) + "\n").encode()


def _resources(patient: Patient, hospital: Hospital, seed: int, index: int) -> list[Json]:
    """All resources, the Patient first; each part draws from a generator of its own."""
    rngs = {part: case_rng(seed, index, part) for part in ("person", "labs", "history", "notes")}
    facts = rngs["history"]
    measured = measure(patient, hospital, rngs["labs"])
    return [
        _person(patient, rngs["person"], chinese=hospital.chinese > 0.5),
        _education(patient),
        *_observations(measured, hospital),
        *(_condition(fact, patient, facts) for fact in draw(history.CONDITIONS, patient, facts)),
        *(_medication(fact, patient, facts) for fact in draw(history.MEDICATION, patient, facts)),
        *(_relative(fact, facts) for fact in draw(history.FAMILY, patient, facts)),
        *(_document(note) for note in write_notes(patient, hospital, rngs["notes"])),
    ]


def _person(patient: Patient, rng: np.random.Generator, *, chinese: bool) -> Json:
    family, given = history.draw_name(patient, rng, chinese=chinese)
    born = patient.visit - dt.timedelta(days=round(patient.age_years * 365.25))
    return {
        "resourceType": "Patient",
        "name": [{"family": family, "given": [given]}],
        "gender": patient.sex,
        "birthDate": born.isoformat(),
    }


def _education(patient: Patient) -> Json:
    code = {"system": LOINC, "code": EDUCATION, "display": "Years of education completed"}
    value = {"value": patient.education_years, "unit": "a", "system": UCUM, "code": "a"}
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [code]},
        "effectiveDateTime": patient.visit.isoformat(),
        "valueQuantity": value,
    }


def _observations(measured: list[Measurement], hospital: Hospital) -> list[Json]:
    """One Observation a value, both blood pressures of a day in one."""
    upper = {m.date: m for m in measured if m.loinc == SYSTOLIC}
    lower = {m.date: m for m in measured if m.loinc == DIASTOLIC}
    single = [m for m in measured if m.loinc not in (SYSTOLIC, DIASTOLIC)]
    pressures = [_pressure(upper[day], lower[day]) for day in sorted(upper)]
    return [_observation(m, hospital) for m in single] + pressures


def _observation(measured: Measurement, hospital: Hospital) -> Json:
    entry = _known(measured.loinc)
    unit = hospital.units.get(entry.loinc, entry.unit)
    category = "survey" if entry.unit == "{score}" else "laboratory"
    resource: Json = {
        "resourceType": "Observation",
        "status": "final",
        "category": [{"coding": [{"system": _TERMS + "observation-category", "code": category}]}],
        "code": _code(entry),
        "effectiveDateTime": measured.date.isoformat(),
        "valueQuantity": _quantity(measured.value, entry, unit),
    }
    usual = reference_range(entry)  # one for everybody, as many laboratories print
    limits = {"low": usual.low, "high": usual.high}
    reference = {k: _quantity(v, entry, unit) for k, v in limits.items() if v is not None}
    return {**resource, "referenceRange": [reference]} if category == "laboratory" else resource


def _quantity(value: float, entry: Analyte, unit: str) -> Json:
    """A canonical value in the unit the hospital uses, rounded as laboratories do."""
    number = (value - entry.offsets.get(unit, 0.0)) / entry.factors[unit]
    digits = DECIMALS.get(entry.loinc, 0) if unit == entry.unit else _digits(number)
    rounded = round(number, digits)
    return {
        "value": rounded if digits else int(rounded),
        "unit": unit,
        "system": UCUM,
        "code": unit,
    }


def _digits(number: float) -> int:
    return 0 if number >= 100 else 1 if number >= 20 else 2


def _pressure(upper: Measurement, lower: Measurement) -> Json:
    parts = [(m, _known(m.loinc)) for m in (upper, lower)]
    code = {"system": LOINC, "code": "85354-9", "display": "Blood pressure panel"}
    components = [
        {"code": _code(entry), "valueQuantity": _quantity(m.value, entry, entry.unit)}
        for m, entry in parts
    ]
    return {
        "resourceType": "Observation",
        "status": "final",
        "code": {"coding": [code]},
        "effectiveDateTime": upper.date.isoformat(),
        "component": components,
    }


def _condition(fact: Fact, patient: Patient, rng: np.random.Generator) -> Json:
    onset = patient.visit.year - int(rng.integers(1, 15))
    status = {"system": _TERMS + "condition-clinical", "code": "active"}
    return {
        "resourceType": "Condition",
        "clinicalStatus": {"coding": [status]},
        "code": _coded(history.SNOMED, fact),
        "onsetDateTime": str(onset),
    }


def _medication(fact: Fact, patient: Patient, rng: np.random.Generator) -> Json:
    start = patient.visit - dt.timedelta(days=int(rng.integers(10, 1500)))
    return {
        "resourceType": "MedicationRequest",
        "status": "active",
        "intent": "order",
        "medicationCodeableConcept": _coded(history.ATC, fact),
        "authoredOn": start.isoformat(),
    }


def _relative(fact: Fact, rng: np.random.Generator) -> Json:
    code, display = history.RELATIVES[rng.integers(len(history.RELATIVES))]
    relationship = {"system": _TERMS + "v3-RoleCode", "code": code, "display": display}
    age = {"value": int(rng.integers(50, 84)), "unit": "a", "system": UCUM, "code": "a"}
    return {
        "resourceType": "FamilyMemberHistory",
        "status": "completed",
        "relationship": {"coding": [relationship]},
        "condition": [{"code": _coded(history.SNOMED, fact), "onsetAge": age}],
    }


def _document(note: SyntheticNote) -> Json:
    coding = {"system": LOINC, "code": note.loinc, "display": note.display}
    data = base64.b64encode(note.text.encode()).decode()
    attachment = {"contentType": "text/plain; charset=utf-8", "data": data}
    return {
        "resourceType": "DocumentReference",
        "status": "current",
        "type": {"coding": [coding]},
        "date": f"{note.date}T10:00:00Z",
        "content": [{"attachment": attachment}],
    }


def _known(loinc: str) -> Analyte:
    entry = analyte(loinc)
    if entry is None:
        raise KeyError(f"LOINC {loinc} is not in clinical.units.ANALYTES; add it there")
    return entry


def _code(entry: Analyte) -> Json:
    return {"coding": [{"system": LOINC, "code": entry.loinc, "display": entry.name}]}


def _coded(system: str, fact: Fact) -> Json:
    coding = {"system": system, "code": fact.code, "display": fact.display}
    return {"coding": [coding], "text": fact.display}
