"""Names, places, numbers and dates leave a note; diseases, drugs and scores stay."""

import datetime as dt
import json
import logging
import time
from dataclasses import replace

import pytest

from benchmarks.deidentify_templates import KEPT
from clinical.deidentify import DeidentifyFilter, deidentify, deidentify_record
from clinical.fhir import read_bundle
from clinical.identifiers import is_chinese_id
from clinical.record import (
    Coding,
    Condition,
    FamilyMember,
    Medication,
    Note,
    Observation,
    PatientRecord,
    Personal,
)

CODE = Coding("http://snomed.info/sct", "26929004", "Alzheimer's disease")
ANN = PatientRecord(
    "pat-4711",
    "female",
    "Ann Mary Walker",
    dt.date(1941, 7, 3),
    identifiers=("AB-123456",),
    personal=Personal(
        names=("Ann Mary Walker", "Walker", "Ann", "Mary"),
        contacts=("Zoraida Quill",),
        addresses=("12 Long Row", "Reading"),
        telecoms=("555-612-5695", "ann@example.org"),
    ),
)
WANG = PatientRecord(
    "p2",
    "female",
    "王秀英",
    dt.date(1948, 3, 5),
    identifiers=("ZY0098121",),
    personal=Personal(addresses=("成都市武侯区人民南路12号", "成都市")),
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Walker, Ann was seen.", "[NAME] was seen."),
        ("A. Walker and ANN WALKER", "[NAME] and [NAME]"),
        ("ann walker slept.", "[NAME] slept."),
        ("Initials A.M.W.", "Initials [NAME]"),
        ("Uses a walker; Walker agreed.", "Uses a walker; [NAME] agreed."),
        ("Born 3 July 1941 (7/3/41).", "Born [DATE] ([DATE])."),
        ("No. AB 123456, AB123456", "No. [ID], [ID]"),
        ("At 12 Long Row, Reading.", "At [PLACE], [PLACE]."),
        ("reading is slow", "reading is slow"),
        ("Ring 555 612 5695.", "Ring [PHONE]."),
        ("Zoraida brought her.", "[NAME] brought her."),
    ],
)
def test_the_patients_own_identifiers_are_found_unannounced(text: str, expected: str) -> None:
    """The record knows them, in any order and spelling; words of the language stay."""
    assert deidentify(text, ANN) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("王秀英就诊。", "[NAME]就诊。"),
        ("王女士记忆力差，秀英自诉健忘。", "[NAME]女士记忆力差，[NAME]自诉健忘。"),
        ("王某，1948年3月5日出生。", "[NAME]，[DATE]出生。"),
        ("住成都市武侯区人民南路12号。", "住[PLACE]。"),
        ("住院号ZY0098121。", "住院号[ID]。"),
    ],
)
def test_the_same_in_chinese(text: str, expected: str) -> None:
    """Family name with a title, given name alone, towns with and without 市."""
    assert deidentify(text, WANG) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Seen by Dr. J. Smith on 03/05/2019.", "Seen by Dr. [NAME] on 2019."),
        ("Her daughter Mary reports falls.", "Her daughter [NAME] reports falls."),
        ("MRI of 5 March 2019 and 2018-12-01.", "MRI of 2019 and 2018."),
        ("This 93-year-old man, aged 93.", "This [AGE 90+]-year-old man, aged [AGE 90+]."),
        ("An 87-year-old man.", "An 87-year-old man."),
        ("Mail a.b@example.org, see https://x.org/p?id=1", "Mail [EMAIL], see [URL]"),
        ("MRN: 00123456, SSN 123-45-6789", "MRN: [ID], SSN [ID]"),
        (
            "Lives in Springfield, seen at St. Mary's Hospital.",
            "Lives in [PLACE], seen at [PLACE].",
        ),
        ("女儿王芳陪同，李医生接诊。", "女儿[NAME]陪同，[NAME]医生接诊。"),
        ("身份证号11010519491231002X，电话13812345678。", "身份证号[ID]，电话[PHONE]。"),
        ("家住成都市武侯区，2019年3月5日就诊于华西医院。", "家住[PLACE]，2019年就诊于[PLACE]。"),
        ("患者95岁，3月5日入院。", "患者[AGE 90+]岁，[DATE]入院。"),
    ],
)
def test_anybodys_identifiers_by_rules(text: str, expected: str) -> None:
    """What the record cannot know."""
    assert deidentify(text) == expected


@pytest.mark.parametrize("text", KEPT)
def test_eponyms_drugs_and_scores_survive(text: str) -> None:
    """A note without its diseases would be safe and useless."""
    assert deidentify(text) == text


def test_a_patient_called_parkinson_keeps_the_disease() -> None:
    """And loses the name."""
    patient = replace(ANN, name="James Parkinson", personal=Personal())
    text = "Mr Parkinson has Parkinson's disease; James Parkinson agreed."
    assert deidentify(text, patient) == "Mr [NAME] has Parkinson's disease; [NAME] agreed."


@pytest.mark.parametrize(
    "text", [*KEPT, "Dr. Ann Lee, 93 years, 2019-03-05, MRN: 123456, 王芳女士"]
)
def test_what_is_deidentified_stays_as_it_is(text: str) -> None:
    """Deterministic, and its own fixed point."""
    once = deidentify(text, ANN)
    assert deidentify(text, ANN) == once
    assert deidentify(once, ANN) == once


def test_the_check_digit_of_an_identity_card() -> None:
    """Numbers in groups are one only where the digit fits."""
    assert is_chinese_id("11010519491231002X")
    assert deidentify("110105 19491231 002X") == "[ID]"
    assert not is_chinese_id("11010519491231002１"[:17] + "1")


def test_a_bundle_brings_what_must_leave_its_notes() -> None:
    """Maiden names, contacts, addresses and phones are known to the record, and never printed."""
    patient = {
        "resourceType": "Patient",
        "id": "p1",
        "name": [
            {"family": "Vega", "given": ["Ana Sol"]},
            {"use": "maiden", "family": "Quill"},
        ],
        "telecom": [{"system": "phone", "value": "555-612-5695"}],
        "address": [{"line": ["12 Long Row"], "city": "Readington", "postalCode": "02108"}],
        "contact": [{"name": {"text": "Zoraida Ost"}, "address": {"city": "Elmhurst"}}],
    }
    bundle = {
        "resourceType": "Bundle",
        "type": "collection",
        "entry": [{"resource": patient}],
    }
    record, _ = read_bundle(json.dumps(bundle).encode())
    assert record.personal.contacts == ("Zoraida Ost",)
    text = "Ms Quill (Vega), Readington 02108; Zoraida of Elmhurst, 5556125695."
    assert deidentify(text, record) == (
        "Ms [NAME] ([NAME]), [PLACE] [PLACE]; [NAME] of [PLACE], [PHONE]."
    )
    assert "Quill" not in repr(record) + repr(record.personal)


def full_record() -> PatientRecord:
    """A record with an entry of every sort."""
    return replace(
        ANN,
        observations=(
            Observation("o-1", "72106-8", "MMSE", 21.0, "{score}", date=dt.date(2023, 11, 2)),
            Observation("o-2", "72106-8", "MMSE", 19.0, "{score}", date=dt.date(2024, 11, 3)),
        ),
        conditions=(Condition("c-1", CODE, "active", dt.date(2022, 5, 6)),),
        medications=(Medication("m-1", CODE, "active", dt.date(2023, 1, 1)),),
        family_history=(FamilyMember("f-1", "mother Zoraida Quill", CODE),),
        notes=(Note("n-1", CODE, "Mrs Walker of Reading: MMSE 19.", dt.date(2024, 11, 3)),),
    )


def test_a_record_loses_its_person_and_keeps_its_course() -> None:
    """Intervals, ages and values are the same; no true date, id or name is left."""
    record = full_record()
    copy = deidentify_record(record)

    everything = repr(copy) + copy.patient_id + copy.name + copy.notes[0].text + repr(copy.personal)
    for secret in ("Walker", "Ann", "4711", "AB-1", "Reading", "Quill", "o-1", "n-1", "11, 3"):
        assert secret not in everything
    assert copy.index_date == dt.date(2024, 7, 1)
    first, second = (entry.date for entry in copy.observations)
    assert first is not None
    assert second is not None
    assert (second - first).days == 367
    assert copy.age_years == pytest.approx(record.age_years)
    assert [entry.value for entry in copy.observations] == [21.0, 19.0]
    assert copy.identifiers == ()
    assert copy.personal == Personal()


def test_the_very_old_are_all_ninety() -> None:
    """Whether by birth date or by a stated age."""
    old = replace(full_record(), birth_date=dt.date(1925, 1, 1))
    age = deidentify_record(old).age_years
    assert age == pytest.approx(90, abs=0.01)
    stated = replace(ANN, birth_date=None, stated_age_years=97.0)
    assert deidentify_record(stated).age_years == 90


def test_a_logged_message_goes_through_the_rules(caplog: pytest.LogCaptureFixture) -> None:
    """Also what another library formats, and the text of an exception."""
    log = logging.getLogger("consilium.test_deidentify")
    guard = DeidentifyFilter()
    log.addFilter(guard)
    try:
        log.warning("seen by Dr. %s, tel. %s", "Miller", "555-612-5695")
        try:
            raise ValueError("MRN: 00123456")
        except ValueError:
            log.exception("failed")
    finally:
        log.removeFilter(guard)
    assert "seen by Dr. [NAME], tel. [PHONE]" in caplog.text
    assert "00123456" not in caplog.text
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "A",
        "Aa ",
        "1",
        "1 ",
        "1-",
        "Dr. ",
        "@",
        "王",
        "王芳",
        "市",
        "A, ",
        "a.",
        "(",
        "\n",
        "lives ",
    ],
)
def test_a_hostile_note_takes_linear_time(unit: str) -> None:
    """Pages of one mark must not stop an export."""
    text = unit * (20_000 // len(unit))
    begin = time.process_time()
    deidentify(text, ANN)
    assert time.process_time() - begin < 8
