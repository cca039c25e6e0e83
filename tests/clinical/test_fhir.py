"""One bundle, one patient: every entry is accepted, ignored or refused, and nobody is quoted."""

import base64
import datetime as dt
import logging
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from clinical.check import check
from clinical.fhir import MAX_DEPTH, BundleError, read_bundle
from clinical.record import Coding, PatientRecord, ReferenceRange

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
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
    return record


def test_a_chinese_name_begins_with_the_family() -> None:
    """FHIR keeps its parts apart; 王桂英 is not 桂英 王."""
    patient = {**PATIENT, "name": [{"family": "王", "given": ["桂英"]}]}
    assert read_bundle(bundle(patient=patient))[0].name == "王桂英"


@pytest.mark.parametrize("kind", ["transaction", "collection", "searchset", "batch", "document"])
def test_the_patient_of_every_kind_of_bundle(kind: str) -> None:
    """Exports come in several wrappings; the patient is the same."""
    record, report = read_bundle(bundle(kind=kind))
    assert (record.patient_id, record.sex, record.name) == ("p1", "female", "Mei Li")
    assert record.birth_date == dt.date(1941, 7, 1)
    assert report.accepted == {"Patient": 1}


def test_a_value_is_converted_with_its_reference_range() -> None:
    """The sender's mmol/L and its range both become mg/dL."""
    limits = [{"low": {"value": 3.9, "unit": "mmol/L"}, "high": {"value": 5.5, "unit": "mmol/L"}}]
    (glucose,) = record_of(
        observation("14749-6", 10.0, "mmol/L", id="g", referenceRange=limits)
    ).observations
    assert (glucose.id, glucose.loinc, glucose.unit) == ("g", "2345-7", "mg/dL")
    assert glucose.value == pytest.approx(180.16)
    assert glucose.reference is not None
    assert glucose.reference.low == pytest.approx(70.26, abs=0.01)
    assert glucose.date == dt.date(2025, 3, 4)


def test_a_score_needs_no_unit_and_takes_the_range_of_the_table() -> None:
    """MMSE as valueInteger is as good as a quantity."""
    mmse = observation("72106-8", 0, "") | {"valueInteger": 21}
    del mmse["valueQuantity"]
    (score,) = record_of(mmse).observations
    assert (score.name, score.value) == ("MMSE", 21.0)
    assert score.reference == ReferenceRange(24.0, 30.0)


def test_components_of_blood_pressure_have_their_own_ids() -> None:
    """Systolic and diastolic values come in one Observation."""
    panel = observation("85354-9", 0, "", id="bp")
    del panel["valueQuantity"]
    panel["component"] = [
        {key: observation(code, value, "mm[Hg]")[key] for key in ("code", "valueQuantity")}
        for code, value in (("8480-6", 150), ("8462-4", 95))
    ]
    pressures = record_of(panel).observations
    assert [(p.id, p.loinc, p.value) for p in pressures] == [
        ("bp#1", "8480-6", 150.0), ("bp#2", "8462-4", 95.0),
    ]  # fmt: skip


def test_text_values_and_limits_of_detection_are_kept_as_such() -> None:
    """No number is made of words."""
    words = observation("44261-6", 0, "", id="a") | {"valueString": "not assessable"}
    del words["valueQuantity"]
    below = observation("3016-3", 0.01, "m[IU]/L", id="b")
    below["valueQuantity"]["comparator"] = "<"
    first, second = record_of(words, below).observations
    assert (first.value, first.text) == (None, "not assessable")
    assert (second.value, second.text) == (0.01, "<")


def test_years_of_education_belong_to_the_patient() -> None:
    """They are a fact about the person and no laboratory value."""
    record = record_of(observation("82590-1", 9, "a"))
    assert (record.education_years, record.observations) == (9.0, ())


def test_an_unknown_unit_costs_the_value_and_nothing_else() -> None:
    """A value is never guessed, and its neighbours stay."""
    record, report = read_bundle(
        bundle(observation("2345-7", 98.765, "stone"), observation("2951-2", 140, "mmol/L"))
    )
    assert [entry.name for entry in record.observations] == ["Sodium"]
    (refusal,) = report.refused
    assert (refusal.entry, refusal.path) == (1, "valueQuantity.unit")
    assert "2345-7 is in 'stone'" in refusal.rule


def test_retracted_entries_are_ignored_with_a_reason() -> None:
    """What the sender has withdrawn is no evidence."""
    refuted = {"coding": [{"code": "refuted"}]}
    _, report = read_bundle(
        bundle(
            observation("2951-2", 140, "mmol/L", status="entered-in-error"),
            condition(verificationStatus=refuted),
        )
    )
    assert report.ignored == {
        "Observation (retracted or negated)": 1, "Condition (retracted or negated)": 1,
    }  # fmt: skip


def test_a_modifier_that_nobody_understands_refuses_the_entry() -> None:
    """A modifier extension can turn a statement into its opposite."""
    extension = [{"url": "http://example.org/absent", "valueBoolean": True}]
    _, report = read_bundle(bundle(condition(modifierExtension=extension)))
    assert report.refused[0].path == "modifierExtension"


def test_conditions_and_medication_are_read_with_their_codes_and_dates() -> None:
    """A drug may be named through a Medication elsewhere in the bundle."""
    active = {"coding": [{"code": "active"}]}
    drug = {"coding": [{"code": "135447", "display": "donepezil"}]}
    request = {"status": "active", "intent": "order", "authoredOn": "2024-06-01"}
    record = record_of(
        condition(id="c", clinicalStatus=active, onsetDateTime="2022"),
        {"resourceType": "Medication", "id": "m", "code": drug},
        resource("MedicationRequest", medicationReference={"reference": "Medication/m"}, **request),
    )
    assert record.conditions[0].onset == dt.date(2022, 1, 1)
    assert record.conditions[0].clinical_status == "active"
    assert record.medications[0].code == Coding("", "135447", "donepezil")
    assert record.medications[0].start == dt.date(2024, 6, 1)


def test_each_condition_of_a_relative_is_a_fact() -> None:
    """A mother with dementia at 72 weighs more than a mother."""
    dementia = {"code": {"text": "dementia"}, "onsetAge": {"value": 72, "code": "a"}}
    mother = {"status": "completed", "relationship": {"text": "mother"}}
    record, report = read_bundle(
        bundle(
            resource("FamilyMemberHistory", id="f", condition=[dementia], **mother),
            resource("FamilyMemberHistory", **mother),
        )
    )
    (member,) = record.family_history
    assert (member.id, member.relationship, member.onset_age_years) == ("f#1", "mother", 72.0)
    assert report.ignored == {"FamilyMemberHistory (no condition)": 1}


def test_notes_are_decoded_and_their_language_told() -> None:
    """Base64, HTML and a Chinese character set all become plain text."""
    record = record_of(
        document("Memory loss.\r\nFalls."),
        document("<p>Gait &lt; normal</p>", "text/html"),
        document("近期记忆力下降两年", "text/plain; charset=GB18030", "gb18030"),
    )
    notes = {note.text: note.language for note in record.notes}
    assert notes == {
        "Memory loss.\nFalls.": "en", "Gait < normal": "en", "近期记忆力下降两年": "zh",
    }  # fmt: skip


def test_a_report_speaks_by_its_conclusion_and_else_by_its_narrative() -> None:
    """A generated narrative only repeats what the report says elsewhere."""
    narrative = {
        "status": "generated",
        "div": "<div xmlns='http://www.w3.org/1999/xhtml'>Div</div>",
    }
    common = {"status": "final", "code": {"text": "MRI"}, "text": narrative}
    record = record_of(
        resource("DiagnosticReport", id="a", conclusion="Hippocampal atrophy.", **common),
        resource("DiagnosticReport", id="b", **common),
    )
    assert [note.text for note in record.notes] == ["Hippocampal atrophy.", "Div"]


@pytest.mark.parametrize(
    ("broken", "path"),
    [
        (observation("2951-2", 140, "mmol/L", status=None), "status"),
        (observation("2951-2", 140, "mmol/L", effectiveDateTime="2025-02-31"), "effectiveDateTime"),
        (observation("2951-2", 140, "mmol/L", contained=[{"resourceType": "Nonsense"}]), ""),
        (observation("2951-2", 140, "mmol/L", subject={"display": "she"}), "subject"),
        (
            document("x") | {"content": [{"attachment": {"data": "?"}}]},
            "attachment.data",
        ),
        (document("\xff", charset="latin-1"), "attachment.data"),
        ({}, "resource"),
    ],
)
def test_one_bad_entry_leaves_the_others(broken: Json, path: str) -> None:
    """A hospital's export is never perfect."""
    record, report = read_bundle(bundle(broken, condition()))
    assert len(record.conditions) == 1
    assert [(refusal.entry, refusal.path) for refusal in report.refused] == [(1, path)]


def test_a_nesting_bomb_costs_its_entry() -> None:
    """A recursive parser would fall over what a loop can count."""
    extension: Json = {"url": "x", "valueString": "bottom"}
    for _ in range(MAX_DEPTH):
        extension = {"url": "x", "extension": [extension]}
    record, report = read_bundle(bundle(condition(extension=[extension]), condition(id="good")))
    assert [entry.id for entry in record.conditions] == ["good"]
    assert "nested deeper" in report.refused[0].rule


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not JSON at line 1"),
        (b"{", "not JSON"),
        (bundle().replace(b'"1941-07"', b"NaN"), "not JSON"),
        (b"[" * 2000 + b"]" * 2000, "not JSON"),
        (orjson.dumps(PATIENT), "not a FHIR Bundle"),
        (bundle(kind="history"), "not a bundle of a record"),
        (bundle(patient=condition()), "0 Patient resources"),
        (bundle(PATIENT | {"id": "p2"}), "2 Patient resources"),
        (bundle(patient=PATIENT | {"birthDate": "1941-02-30"}), "Patient.birthDate breaks"),
        (orjson.dumps({"resourceType": "Bundle", "type": "batch", "entry": 1}), "not a list"),
    ],
)
def test_what_is_nobodys_record_is_refused(raw: bytes, message: str) -> None:
    """No JSON, no bundle, no patient or two: the whole file goes back."""
    with pytest.raises(BundleError, match=message):
        read_bundle(raw)


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


def test_a_repeated_resource_is_evidence_once() -> None:
    """Pages of a searchset overlap."""
    record, report = read_bundle(bundle(condition(id="c"), condition(id="c")))
    assert len(record.conditions) == 1
    assert report.ignored == {"Condition (repeated id)": 1}


CANARY = "Zanzibar4711"


def planted(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every leaf in JSON."""
    pairs = node.items() if isinstance(node, dict) else enumerate(node)
    for key, child in pairs:
        if isinstance(child, dict | list):
            yield from planted(child, (*path, key))
        elif key not in ("code", "unit"):  # codes and units may be named
            yield (*path, key)


def test_no_message_quotes_what_was_planted_anywhere(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever element is broken, its content reaches neither report nor error nor log."""
    caplog.set_level(logging.DEBUG)
    family = resource("FamilyMemberHistory", status="completed", relationship={"text": "mother"})
    sound = orjson.loads(
        bundle(observation("2951-2", 140, "mmol/L"), condition(), document("x"), family)
    )
    refusals = 0
    for path in planted(sound["entry"]):
        for value in (CANARY, {CANARY: CANARY}, [CANARY]):
            broken = orjson.loads(orjson.dumps(sound))
            node = broken["entry"]
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = value
            try:
                _, report = read_bundle(orjson.dumps(broken))
                message = repr(report) + "".join(report.summary())
                refusals += len(report.refused)
            except BundleError as error:
                message = f"{error!r} {error.__cause__!r}"
                refusals += 1
            assert CANARY not in message, path
    assert refusals > 50
    assert CANARY not in caplog.text


def test_the_same_bytes_give_an_equal_record() -> None:
    """Importing twice must change nothing."""
    raw = bundle(observation("2951-2", 140, "mmol/L"), condition(), document("Memory loss."))
    assert read_bundle(raw) == read_bundle(raw)


def test_the_check_names_what_is_missing_and_implausible_without_values() -> None:
    """A sodium of 14 is a slip of the comma, and the physician should look."""
    record = record_of(observation("2951-2", 14.321, "mmol/L", id="na"))
    findings = check(record, today=dt.date(2025, 1, 1))
    assert [(f.kind, f.sources) for f in findings] == [
        ("missing", ()), ("missing", ()), ("implausible", ("na",)), ("date", ("na",)),
    ]  # fmt: skip
    assert not any("14.3" in f.message or "1941" in f.message for f in findings)


@pytest.fixture(scope="module")
def synthea() -> list[bytes]:
    """The first six Synthea bundles."""
    archive = DATA / "fhir_synthea_r4.tar.xz"
    if not archive.exists():
        pytest.skip("shared/data/fhir_synthea_r4.tar.xz is not here")
    with tarfile.open(archive) as tar:
        files = (tar.extractfile(member) for member in tar if member.name.endswith(".json"))
        return [file.read() for file, _ in zip(filter(None, files), range(6), strict=False)]


def test_public_bundles_import_without_a_refusal(synthea: list[bytes]) -> None:
    """Synthea's transactions: every entry accounted for, laboratory values in one unit."""
    for raw in synthea:
        record, report = read_bundle(raw)
        total = report.accepted.total() + report.ignored.total() + len(report.refused)
        assert total == len(orjson.loads(raw)["entry"])
        assert not report.refused
        assert len(record.observations) > 50
        assert record.conditions
        assert not [finding for finding in check(record) if finding.kind == "date"]
