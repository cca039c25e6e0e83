"""What contradicts is found, with both sides; what does not is left alone."""

import dataclasses
import datetime as dt

import pytest

from clinical.check import check
from clinical.findings import Finding, Source, dump, load, plain
from clinical.notes import language
from clinical.record import Coding, Condition, Medication, Note, Observation, PatientRecord
from clinical.units import analyte

TODAY = dt.date(2025, 1, 1)
DAY = dt.date(2024, 3, 9)
SNOMED, ATC = "http://snomed.info/sct", "http://www.whocc.no/atc"
MMSE, GLUCOSE, SODIUM = "72106-8", "2345-7", "2951-2"


def value(loinc: str, number: float, date: dt.date = DAY, key: str = "") -> Observation:
    """One value in the canonical unit."""
    known = analyte(loinc)
    assert known is not None
    key = key or f"{loinc}/{date}"
    return Observation(key, loinc, known.name, float(number), known.unit, date=date)


def record(text: str = "", *values: Observation, sex: str = "female", **given) -> PatientRecord:
    """A woman of 73 with one note, some values and what else is given."""
    coding = Coding("http://loinc.org", "11506-3", "Progress note")
    notes = (Note("n1", coding, text, DAY, language(text)),) if text else ()
    return PatientRecord(
        "p1", sex, birth_date=dt.date(1950, 5, 4), observations=values, notes=notes, **given
    )


def found(made: PatientRecord) -> list[Finding]:
    """What is found but for what is missing."""
    return [finding for finding in check(made, TODAY) if finding.kind != "missing"]


def kinds(made: PatientRecord) -> list[str]:
    """Kinds of what is found."""
    return [finding.kind for finding in found(made)]


HYPERTENSION = Condition("c1", Coding(SNOMED, "38341003", "Hypertensive disorder"), "active")
DONEPEZIL = Medication("m1", Coding(ATC, "N06DA02", "donepezil"), "active", dt.date(2023, 1, 1))


def test_a_sound_record_has_no_finding() -> None:
    """A note with everything in it that the codes say as well."""
    text = (
        "This 73-year-old woman has hypertension and takes donepezil. MMSE 21/30. Her mother, a "
        "man of iron, had diabetes and died aged 90. No family history of stroke."
    )
    made = record(text, value(MMSE, 21), conditions=(HYPERTENSION,), medications=(DONEPEZIL,))
    assert found(made) == []


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("This 73-year-old man was seen.", "sex"), ("患者，男，73岁。", "sex"),
        ("This 37-year-old woman was seen.", "age"), ("患者女，63岁。", "age"),
        ("DOB: 1950-04-05.", "birth date"), ("Operated on for prostate cancer.", "sex"),
        ("MMSE 27/30.", "score"), ("MMSE评分27分。", "score"), ("MMSE 72/30.", "score"),
        ("Denies hypertension.", "diagnosis"), ("否认高血压。", "diagnosis"),
        ("Takes no cholinesterase inhibitor.", "medication"), ("多奈哌齐已停用。", "medication"),
        ("Glucose was 5.5 mmol/L.", "value"),
    ],
)  # fmt: skip
def test_a_note_that_contradicts_is_found_with_both_sides(text: str, kind: str) -> None:
    """And what it casts doubt on weighs less."""
    made = record(
        text, value(MMSE, 21), value(GLUCOSE, 130), conditions=(HYPERTENSION,),
        medications=(DONEPEZIL,),
    )  # fmt: skip
    (finding,) = found(made)
    assert finding.kind == kind
    assert finding.first[0].kind == "note"
    assert min(finding.doubts) < 1
    assert finding.second or "72" in text


@pytest.mark.parametrize(
    "text",
    [
        "This 74-year-old woman was seen.",  # two months before her birthday: a rounding
        "The MMSE was 27/30 last year.", "On 3 March 2023 the MMSE was 27/30.",
        "Her brother has no hypertension.", "Consider a cholinesterase inhibitor.",
        "Hypertension is treated.", "Her husband has prostate cancer.", "Glucose was 7.2 mmol/L.",
    ],
)  # fmt: skip
def test_what_does_not_contradict_is_left_alone(text: str) -> None:
    """False alarms cost trust."""
    made = record(
        text, value(MMSE, 21), value(GLUCOSE, 130), conditions=(HYPERTENSION,),
        medications=(DONEPEZIL,),
    )  # fmt: skip
    assert found(made) == []


def test_a_diagnosis_that_came_after_the_note_is_not_denied_by_it() -> None:
    """The note was right in its day; nor is a provisional one a contradiction."""
    later = dataclasses.replace(HYPERTENSION, onset=dt.date(2024, 6, 1))
    unsure = dataclasses.replace(HYPERTENSION, verification="provisional")
    assert found(record("Denies hypertension.", conditions=(later,))) == []
    assert found(record("Denies hypertension.", conditions=(unsure,))) == []


def test_a_drug_whose_disease_is_denied_is_found() -> None:
    """Nobody takes insulin without diabetes."""
    insulin = Medication("m2", Coding(ATC, "A10AB01", "insulin (human)"), "active")
    (finding,) = found(record("No diabetes.", medications=(insulin,)))
    assert finding.template == "indication"


def test_what_only_the_other_sex_can_have_is_found() -> None:
    """A neighbour's diagnosis; a family history in a code is none."""
    prostate = Condition("c1", Coding(SNOMED, "126906006", "Neoplasm of prostate"), "active")
    family = Condition("c2", Coding(SNOMED, "1", "Family history of prostate cancer"), "active")
    assert kinds(record(conditions=(prostate, family))) == ["sex"]
    assert kinds(record(sex="male", conditions=(prostate,))) == []


def test_two_hands_and_two_sides_are_found() -> None:
    """Handedness between notes; the side of a stroke between note and code."""
    stroke = Condition("c1", Coding(SNOMED, "1", "Cerebral infarction, left hemisphere"), "active")
    made = record("Right-handed. Old infarct in the right hemisphere.", conditions=(stroke,))
    other = dataclasses.replace(made.notes[0], id="n2", text="左利手。", language="zh")
    two = dataclasses.replace(made, notes=(*made.notes, other))
    assert [f.template for f in found(two)] == ["handedness", "side"]


def test_a_unit_slip_is_told_from_a_value_that_nobody_has() -> None:
    """5.5 mg/dL is a glucose in mmol/L; a sodium of 14 is nothing."""
    made = found(record("", value(GLUCOSE, 5.5), value(SODIUM, 14.3)))
    assert [(f.kind, [s.id.split("/")[0] for s in f.first]) for f in made] == [
        ("unit", [GLUCOSE]), ("implausible", [SODIUM]),
    ]  # fmt: skip
    assert "18" in made[0].message


def test_a_value_that_leaves_its_course_by_a_factor_between_units_is_found() -> None:
    """Folate in nmol/L among ng/mL, each of them plausible by itself; a rise is no slip."""
    days = [dt.date(2024, month, 1) for month in range(1, 6)]
    course = [
        value("2284-8", n, day) for n, day in zip((9.0, 9.5, 8.8, 9.2, 20.6), days, strict=True)
    ]
    assert [(f.kind, f.first[0].id) for f in found(record("", *course))] == [("unit", course[4].id)]
    risen = [*course[:4], dataclasses.replace(course[4], value=14.0)]
    assert found(record("", *risen)) == []


PANEL = {"718-7": 13.2, "787-2": 90.0, "777-3": 240.0, "2160-0": 0.8, "2951-2": 140.0,
         "2093-3": 200.0, "2085-9": 55.0, "3016-3": 1.8, "4548-4": 5.5, "6768-6": 70.0}  # fmt: skip
OTHER = {"718-7": 15.9, "787-2": 97.0, "777-3": 180.0, "2160-0": 1.2, "2951-2": 141.0,
         "2093-3": 150.0, "2085-9": 38.0, "3016-3": 3.9, "4548-4": 7.1, "6768-6": 98.0}  # fmt: skip


def blood(*people: dict[str, float]) -> list[Observation]:
    """A draw a quarter, each by a few per mille different."""
    return [
        value(loinc, number * (1 + 0.004 * n), dt.date(2023, 1 + 3 * n, 1))
        for n, panel in enumerate(people)
        for loinc, number in panel.items()
    ]


def test_a_neighbours_blood_is_found_and_the_patients_own_is_not() -> None:
    """Ten analytes that leave a steady course together are another person's."""
    (finding,) = found(record("", *blood(PANEL, PANEL, OTHER, PANEL)))
    assert finding.kind == "neighbour"
    assert {source.id.split("/")[1] for source in finding.first} == {"2023-07-01"}
    assert found(record("", *blood(PANEL, PANEL, PANEL, PANEL))) == []


def test_one_analyte_that_jumps_is_no_neighbour() -> None:
    """It is a disease, or a slip of its own; nor is a course that was never steady."""
    anaemic = {**PANEL, "718-7": 8.0}
    assert found(record("", *blood(PANEL, PANEL, anaemic))) == []
    assert "neighbour" not in kinds(record("", *blood(PANEL, OTHER, PANEL, OTHER)))


def test_two_scores_of_one_day_are_found_and_two_pressures_are_not() -> None:
    """A test is done once a day, pressure is not."""
    twice = [value(MMSE, 21, key="a"), value(MMSE, 27, key="b")]
    pressure = [value("8480-6", 120, key="c"), value("8480-6", 160, key="d")]
    (finding,) = found(record("", *twice, *pressure))
    assert (finding.kind, finding.first[0].id, finding.second[0].id) == ("duplicate", "a", "b")


def test_what_does_not_follow_from_its_neighbour_is_found() -> None:
    """An eGFR of 75 beside a creatinine of 3; one of 25 does follow."""
    assert kinds(record("", value("2160-0", 3.0), value("33914-3", 75))) == ["derived"]
    assert kinds(record("", value("2160-0", 2.0), value("33914-3", 26))) == []


def test_dates_that_cannot_be_are_found() -> None:
    """In the future and before birth, for every kind of entry."""
    late, early = dt.date(2034, 1, 1), dt.date(1924, 1, 1)
    made = record(
        "", value(SODIUM, 140, late),
        conditions=(dataclasses.replace(HYPERTENSION, onset=early),),
        medications=(dataclasses.replace(DONEPEZIL, start=late),),
    )  # fmt: skip
    assert [(f.template, f.first[0].kind) for f in found(made)] == [
        ("future", "observation"), ("before birth", "condition"), ("future", "medication"),
    ]  # fmt: skip


def test_no_message_has_a_patients_value_in_either_language() -> None:
    """Messages may be logged."""
    text = "This 37-year-old man: MMSE 27/30. Denies hypertension. DOB: 1941-04-05."
    made = record(
        text, value(MMSE, 21), value(SODIUM, 14.321), conditions=(HYPERTENSION,),
        medications=(DONEPEZIL,),
    )  # fmt: skip
    said = " ".join(f.say(lang) for f in check(made, TODAY) for lang in ("en", "zh"))
    assert len(found(made)) == 6
    assert not any(secret in said for secret in ("37", "27", "21 ", "14.3", "1941", "ypertens"))


def test_findings_survive_the_database_with_their_keys() -> None:
    """And a bare sentence of an earlier version is still read."""
    made = found(record("MMSE 27/30.", value(MMSE, 21)))
    assert load(dump(made)) == tuple(made)
    assert [f.key for f in load(dump(made))] == [f.key for f in made]
    assert [str(f) for f in load(["No scan."])] == ["No scan."]
    assert not plain("No scan.").can_be_resolved


def test_another_finding_has_another_key() -> None:
    """So that no decision is taken for another's."""
    first, second = (
        Finding("score", "score", (), (Source("note", "n1", at, at + 5),)) for at in (0, 10)
    )
    assert first.key != second.key
