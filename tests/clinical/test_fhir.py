"""One bundle, one patient: every entry is accepted, ignored or refused, and the report says so."""

import datetime as dt
import tarfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from fhir_bundles import (
    PATIENT,
    Json,
    bundle,
    condition,
    document,
    observation,
    record_of,
    resource,
)
from pydantic import TypeAdapter

from clinical.check import check
from clinical.fhir import BundleError, ImportReport, read_bundle
from clinical.record import Coding

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


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
        (observation("2951-2", 140, "mmol/L", status="bananas"), "status"),
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


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (bundle().replace(b'"1941-07"', b"NaN"), "not JSON"),
        (b"[" * 2000 + b"]" * 2000, "not a FHIR Bundle"),
        (orjson.dumps(PATIENT), "not a FHIR Bundle"),
        (bundle(kind="history"), "not a bundle of a record"),
        (bundle(patient=condition()), "0 Patient resources"),
        (bundle(PATIENT | {"id": "p2"}), "2 Patient resources"),
        (orjson.dumps({"resourceType": "Bundle", "type": "batch", "entry": 1}), "not a list"),
    ],
)
def test_what_is_nobodys_record_is_refused(raw: bytes, message: str) -> None:
    """No JSON, no bundle, no patient or two: the whole file goes back."""
    with pytest.raises(BundleError, match=message):
        read_bundle(raw)


def version(value: float, **elements: Any) -> Json:
    """One version of the same sodium."""
    return observation("2951-2", value, "mmol/L", id="na", **elements)


@pytest.mark.parametrize(
    ("first", "second", "value"),
    [
        (version(140), version(140), 140),
        (version(140), version(141, status="corrected"), 141),
        (version(141, status="corrected"), version(140), 141),
        (
            version(141, meta={"lastUpdated": "2025-03-05T10:00:00+08:00"}),
            version(140, meta={"lastUpdated": "2025-03-05T01:00:00Z"}, status="amended"),
            141,
        ),
        (version(140, status="entered-in-error"), version(140), None),
    ],
)
def test_of_a_repeated_id_the_latest_version_counts(
    first: Json, second: Json, value: float | None
) -> None:
    """By time where both say it, else by status, else by position: a correction replaces."""
    record, report = read_bundle(bundle(first, second))
    assert [seen.value for seen in record.observations] == [value] * (value is not None)
    assert report.ignored["Observation (repeated id; the latest version counts)"] == 1


def test_a_replaced_document_is_no_evidence() -> None:
    """An addendum says which report it stands for."""
    link = [{"code": "replaces", "target": {"reference": "DocumentReference/old"}}]
    record, report = read_bundle(
        bundle(
            document("Old.") | {"id": "old"}, document("New.") | {"id": "new", "relatesTo": link}
        )
    )
    assert [note.text for note in record.notes] == ["New."]
    assert report.ignored == {"DocumentReference (replaced by a later document)": 1}


def test_what_is_broken_in_an_unused_element_costs_nothing() -> None:
    """A performer of the wrong type does not make the sodium wrong; the report mentions it."""
    sodium = observation("2951-2", 140, "mmol/L", performer=[{"reference": 7}])
    record, report = read_bundle(bundle(sodium))
    assert [seen.value for seen in record.observations] == [140]
    (remark,) = report.remarks
    assert (remark.entry, remark.path) == (1, "performer[0].reference")


def test_an_extension_of_a_primitive_value_is_legal() -> None:
    """R4 allows `_valueCode` in an extension; the models of R4B do not."""
    masked = {"url": "http://example.org/why", "_valueCode": {"id": "x"}}
    record_of(observation("2951-2", 140, "mmol/L", extension=[masked]))


def test_an_element_that_nobody_knows_refuses_the_entry() -> None:
    """A misspelt value is no value, and a misspelt negation no statement."""
    _, report = read_bundle(bundle(observation("2951-2", 140, "mmol/L", valueQuantiy={"value": 1})))
    assert report.refused[0].rule == "has an element that R4 does not know"


def test_a_broken_element_of_the_patient_costs_that_element() -> None:
    """Whose record it is, is still certain; how old the patient is, is not known."""
    record, report = read_bundle(bundle(patient=PATIENT | {"birthDate": "1941-02-30"}))
    assert (record.birth_date, record.sex) == (None, "female")
    assert [remark.path for remark in report.remarks] == ["birthDate"]


def test_the_day_is_the_one_of_the_senders_calendar() -> None:
    """Half past eleven at night in Vancouver is not yet tomorrow, whatever Greenwich says."""
    late = observation("2951-2", 140, "mmol/L", effectiveDateTime="2025-03-04T23:30:00-08:00")
    year = observation("2951-2", 141, "mmol/L", effectiveDateTime="2025")
    days = [seen.date for seen in record_of(late, year).observations]
    assert days == [dt.date(2025, 1, 1), dt.date(2025, 3, 4)]


def test_one_damaged_attachment_leaves_the_others() -> None:
    """A letter comes as text and as PDF, and one of them arrives broken."""
    letter = document("Memory loss.")
    cut = {"attachment": {"contentType": "application/pdf", "data": "JVBERi0="}}
    picture = {"attachment": {"contentType": "image/jpeg", "data": "AAAA"}}
    letter["content"] = [cut, picture, *letter["content"]]
    record, report = read_bundle(bundle(letter))
    assert [note.text for note in record.notes] == ["Memory loss."]
    assert [remark.path for remark in report.remarks] == ["attachment.data", "attachment"]


def test_a_document_that_lies_elsewhere_is_ignored_with_its_reason() -> None:
    """A link into another system is no text."""
    link = [{"attachment": {"contentType": "text/plain", "url": "https://a.org/Binary/1"}}]
    _, report = read_bundle(bundle(document("") | {"content": link}))
    why = "is of a kind that is not read, or lies elsewhere"
    assert report.ignored == {f"DocumentReference ({why})": 1}


def test_the_report_says_where_everything_is() -> None:
    """Also what was ignored, and after a round trip through the site's database."""
    _, report = read_bundle(
        bundle(resource("Encounter"), resource("Encounter"), condition(), resource("Encounter"), {})
    )
    kept = TypeAdapter(ImportReport)
    again = kept.validate_json(kept.dump_json(report))
    assert again == report
    assert report.total == 6
    assert report.ignored_at == {"Encounter": "1-2, 4"}
    assert str(report.refused[0]).startswith("entry 5: unknown type.resource is missing")


def test_a_report_of_an_older_version_still_loads() -> None:
    """It lies as JSON in the database of every site."""
    refusal = {"entry": 1, "resource_type": "Condition", "path": "code", "rule": "breaks missing"}
    old = {"accepted": {"Patient": 1}, "ignored": {}, "refused": [refusal]}
    assert TypeAdapter(ImportReport).validate_python(old).refused[0].source == ""


def test_a_page_says_that_another_follows() -> None:
    """A first page looks like a whole record and is none."""
    page = orjson.loads(bundle(kind="searchset"))
    page["link"] = [{"relation": "next", "url": "https://a.org/fhir?page=2"}]
    _, report = read_bundle(orjson.dumps(page))
    assert "another page follows" in report.remarks[0].rule


def test_the_same_bytes_give_an_equal_record() -> None:
    """Importing twice must change nothing."""
    raw = bundle(observation("2951-2", 140, "mmol/L"), condition(), document("Memory loss."))
    assert read_bundle(raw) == read_bundle(raw)


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
