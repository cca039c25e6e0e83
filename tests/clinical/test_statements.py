"""What a note states is read where it says so, and what it does not state is not."""

import datetime as dt

import pytest

from clinical.notes import language
from clinical.record import Coding, Note
from clinical.statements import Statement, dates, statements


def read(text: str, kind: str) -> list[Statement]:
    """Statements of a kind in a note of one text."""
    note = Note("n1", Coding("", "", ""), text, dt.date(2024, 3, 9), language(text))
    return [made for made in statements(note) if made.kind == kind]


@pytest.mark.parametrize(
    ("text", "age"),
    [
        ("This 72-year-old woman was seen.", 72), ("The patient is 81.", 81),
        ("A 66-year-old retired teacher.", 66), ("患者女，72岁，右利手。", 72),
        ("男性，65岁。", 65),
    ],
)  # fmt: skip
def test_the_patients_age_is_read(text: str, age: int) -> None:
    """In either language."""
    assert [made.number for made in read(text, "age")] == [age]


@pytest.mark.parametrize(
    "text",
    [
        "Her mother died at 84 years of age.", "Smoked for 30 years.", "A sister, 79 years old.",
        "Symptoms began 3 years ago.", "母亲84岁去世。", "The wife is a 70-year-old woman.",
    ],
)  # fmt: skip
def test_no_other_age_is_the_patients(text: str) -> None:
    """A relative's, a duration, an onset."""
    assert read(text, "age") == []


@pytest.mark.parametrize(
    ("text", "sexes"),
    [
        ("An elderly gentleman.", {"male"}), ("Mrs. Birch came alone.", {"female"}),
        ("She lives alone. She forgets names.", {"female"}), ("患者，男，70岁。", {"male"}),
        ("He lives alone. He forgets what her sister says.", set()),  # both sexes are spoken of
        ("She came with a neighbour.", set()),  # once may be a slip
        ("The daughter is a 40-year-old woman.", set()),
    ],
)  # fmt: skip
def test_the_patients_sex_is_read_from_words_and_from_many_pronouns(text, sexes) -> None:
    """But not from a relative's."""
    assert {made.name for made in read(text, "sex")} == sexes


@pytest.mark.parametrize(
    ("text", "number", "past"),
    [
        ("MMSE 21/30.", 21, False), ("MoCA score was 18 points.", 18, False),
        ("On the MMSE the score was 19.", 19, False), ("今日MMSE评分24分。", 24, False),
        ("2023年4月28日MMSE 24分。", 24, False), ("She scored 22 on the MMSE.", 22, False),
        ("Last year MMSE 25/30.", 25, True), ("MMSE was 24 in 2022.", 24, True),
    ],
)  # fmt: skip
def test_a_score_is_read_with_its_time(text: str, number: float, *, past: bool) -> None:
    """A former score says nothing of today."""
    assert [(made.number, made.past) for made in read(text, "score")] == [(number, past)]


def test_a_score_of_a_named_day_has_that_day() -> None:
    """So that it is held against the codes of that day."""
    (made,) = read("On 3 March 2023 the MMSE was 26/30.", "score")
    assert made.date == dt.date(2023, 3, 3)


@pytest.mark.parametrize("text", ["MMSE on 3/2024.", "MMSE 2024.", "GDS 5.", "MMSE not done."])
def test_what_only_looks_like_a_score_is_none(text: str) -> None:
    """A date, a year, another scale."""
    assert read(text, "score") == []


@pytest.mark.parametrize(
    "text",
    [
        "No diabetes.", "Denies diabetes.", "There is no history of diabetes.", "否认糖尿病。",
        "无糖尿病病史。",
    ],
)  # fmt: skip
def test_a_denied_diagnosis_is_denied(text: str) -> None:
    """In the usual words of both languages."""
    assert [(made.name, made.negated) for made in read(text, "diagnosis")] == [("diabetes", True)]


@pytest.mark.parametrize(
    "text",
    [
        "A brother has diabetes.", "No family history of diabetes.", "Rule out diabetes.",
        "Screening for diabetes is due.", "否认糖尿病家族史。", "Prediabetes is known.",
    ],
)  # fmt: skip
def test_no_diagnosis_is_denied_by_speaking_of_others_or_of_plans(text: str) -> None:
    """These deny nothing of the patient."""
    assert not [made for made in read(text, "diagnosis") if made.negated]


@pytest.mark.parametrize(
    ("text", "denied"),
    [
        ("Takes no cholinesterase inhibitor.", ["cholinesterase inhibitor"]),
        ("Donepezil was stopped.", ["donepezil"]),  # and nothing of its class
        ("未服用多奈哌齐。", ["donepezil"]), ("Consider donepezil.", []), ("Takes donepezil.", []),
    ],
)  # fmt: skip
def test_a_denied_drug_is_the_drug_that_is_named(text: str, denied: list[str]) -> None:
    """Stopping one is no denial of the others."""
    assert [made.name for made in read(text, "drug") if made.negated] == denied


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("MRI shows marked hippocampal atrophy.", ("atrophy", "hippocampus", "")),
        ("Marked atrophy of the left hippocampus.", ("atrophy", "hippocampus", "left")),
        ("No hippocampal atrophy.", ("normal size", "hippocampus", "")),
        ("The ventricles are of normal size.", ("normal size", "lateral ventricle", "")),
        ("双侧海马明显萎缩。", ("atrophy", "hippocampus", "")),
        ("海马未见明显萎缩。", ("normal size", "hippocampus", "")),
        ("The hippocampus is smaller on the left.", ("asymmetry", "hippocampus", "left")),
        ("海马萎缩以左侧为著。", ("asymmetry", "hippocampus", "left")),
    ],
)  # fmt: skip
def test_what_a_reader_saw_in_the_brain_is_read(text: str, found: tuple[str, str, str]) -> None:
    """Marked, normal, and which side."""
    made = [m for k in ("atrophy", "normal size", "asymmetry") for m in read(text, k)]
    assert [(m.kind, m.name, m.side) for m in made] == [found]


@pytest.mark.parametrize(
    "text",
    [
        "Mild hippocampal atrophy.", "Hippocampal atrophy more pronounced on the left.",
        "Possible marked hippocampal atrophy.", "The hippocampi were seen.",
    ],
)  # fmt: skip
def test_mild_or_doubtful_loss_is_no_statement_of_size(text: str) -> None:
    """Nothing measured can contradict it."""
    assert read(text, "atrophy") + read(text, "normal size") == []


def test_a_value_is_read_in_the_canonical_unit_or_not_at_all() -> None:
    """Glucose of 5.5 mmol/L is 99 mg/dL; without a unit it is nothing."""
    (made,) = read("Glucose 5.5 mmol/L, TSH 3.", "value")
    assert made.number == pytest.approx(99.1, abs=0.1)


@pytest.mark.parametrize(
    "text", ["DOB: 1950-05-04", "Born on 4 May 1950.", "出生日期：1950年5月4日"]
)
def test_a_birth_date_is_read(text: str) -> None:
    """As letters and forms write it."""
    assert [made.date for made in read(text, "birth date")] == [dt.date(1950, 5, 4)]


def test_days_in_every_way_of_writing_are_the_same_day() -> None:
    """And a day that does not exist is none."""
    text = "2024-03-09, 9 March 2024, March 9, 2024, 2024年3月9日, 2024-02-31"
    assert set(dates(text)) == {dt.date(2024, 3, 9)}


def test_offsets_point_at_the_words() -> None:
    """The page marks them."""
    text = "Seen today. MMSE 21/30. 否认糖尿病。"
    made = [*read(text, "score"), *read(text, "diagnosis")]
    assert [text[m.start : m.end] for m in made] == ["MMSE 21/30", "糖尿病"]
