"""Whose record it is: every way to name a patient, and what happens where two are named."""

import orjson
import pytest
from fhir_bundles import PATIENT, bundle, condition, resource

from clinical.fhir import BundleError, read_bundle


@pytest.mark.parametrize("kind", ["Condition", "Encounter"])
def test_an_entry_about_another_patient_refuses_the_bundle(kind: str) -> None:
    """Also where the entry itself would have been ignored: someone has mixed two records."""
    other = {"resourceType": kind, "subject": {"reference": "Patient/p2"}}
    with pytest.raises(BundleError, match=rf"entry 1 \({kind}\) is about another patient"):
        read_bundle(bundle(other))


@pytest.mark.parametrize(
    ("url", "reference", "same"),
    [
        ("", "Patient/p1", True),
        ("", "Patient/p1/_history/3", True),
        ("urn:uuid:7d9", "urn:uuid:7d9", True),
        ("urn:uuid:7d9", "https://a.org/fhir/Patient/p1", True),
        ("https://a.org/fhir/Patient/p1", "https://a.org/fhir/Patient/p1", True),
        ("https://a.org/fhir/Patient/p1", "https://b.org/fhir/Patient/p1", False),
        ("", "https://a.org/fhir/Patient/p2", False),
    ],
)
def test_subjects_are_compared_by_what_they_refer_to(url: str, reference: str, same: bool) -> None:
    """Relative, absolute and urn:uuid references may all mean the one Patient."""
    about = condition(subject={"reference": reference})
    entries = [{"fullUrl": url or None, "resource": PATIENT}, {"resource": about}]
    raw = orjson.dumps({"resourceType": "Bundle", "type": "collection", "entry": entries})
    if same:
        assert len(read_bundle(raw)[0].conditions) == 1
    else:
        with pytest.raises(BundleError, match="another patient"):
            read_bundle(raw)


def test_a_subject_that_leads_nowhere_costs_its_entry() -> None:
    """It may be anybody's, so it is nobody's evidence."""
    _, report = read_bundle(bundle(condition(subject={"reference": "urn:uuid:404"})))
    assert report.refused[0].path == "subject"


def test_a_contained_drug_and_a_contained_patient_are_followed() -> None:
    """Both may stand inside the resource; a patient is known by identifier only."""
    mrn = [{"system": "http://hospital.example/mrn", "value": "4711"}]
    inside = [
        {"resourceType": "Medication", "id": "m", "code": {"text": "donepezil"}},
        {"resourceType": "Patient", "id": "p", "identifier": mrn},
    ]
    request = resource(
        "MedicationRequest", status="active", intent="order", contained=inside,
        medicationReference={"reference": "#m"}, subject={"reference": "#p"},
    )  # fmt: skip
    raw = bundle(request, patient=PATIENT | {"identifier": mrn})
    assert read_bundle(raw)[0].medications[0].code.display == "donepezil"
    with pytest.raises(BundleError, match="another patient"):
        read_bundle(raw.replace(b"4711", b"4712", 1))


def test_a_conditional_reference_and_an_identifier_name_the_patient() -> None:
    """Transactions and messages name the patient without knowing the server's id."""
    mrn = {"system": "http://hospital.example/mrn", "value": "4711"}
    patient = PATIENT | {"identifier": [mrn]}
    by_search = condition(
        subject={"reference": "Patient?identifier=http://hospital.example/mrn|4711"}
    )
    by_identifier = condition(id="i", subject={"identifier": mrn})
    assert len(read_bundle(bundle(by_search, by_identifier, patient=patient))[0].conditions) == 2
    contradicting = condition(
        subject={"reference": "Patient/p1", "identifier": mrn | {"value": "1"}}
    )
    _, report = read_bundle(bundle(contradicting, patient=patient))
    assert report.refused[0].path == "subject"


def test_a_modifier_of_the_patient_refuses_the_bundle() -> None:
    """It can say that this is no patient at all, but a test of the system."""
    modifier = [{"url": "http://example.org/test-patient", "valueBoolean": True}]
    with pytest.raises(BundleError, match="changes the meaning"):
        read_bundle(bundle(patient=PATIENT | {"modifierExtension": modifier}))
