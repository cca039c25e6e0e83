"""Courses of values and coded facts as tokens."""

import datetime as dt
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from clinical.lab_encoder import (
    FACT_KINDS,
    history_tokens,
    lab_tokens,
    z_score,
)
from clinical.record import (
    Coding,
    Condition,
    FamilyMember,
    Medication,
    Observation,
    PatientRecord,
    ReferenceRange,
)
from clinical.units import ANALYTE_INDEX, ANALYTES, analyte

MMSE, TSH, CDR, MISSING = "72106-8", "3016-3", "72088-8", "0000-0"
TODAY = dt.date(2026, 11, 23)
SNOMED = "http://snomed.info/sct"
ICD10 = "http://hl7.org/fhir/sid/icd-10"


class Letters:
    """A text encoder of three lines: it remembers what it was given to read."""

    dim = 2

    def __init__(self) -> None:
        self.read: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Length of the text and of its first word."""
        self.read += texts
        return np.array([[len(text), text.index(":")] for text in texts], np.float32)

    def trust(self, language: str) -> float:
        """English only."""
        return 1.0 if language == "en" else 0.2


def seen(loinc: str, value: float | None, years_ago: float | None = 0.0) -> Observation:
    """A value some years before today; None has no date."""
    date = None if years_ago is None else TODAY - dt.timedelta(days=round(years_ago * 365.25))
    number = None if value is None else float(value)
    return Observation(f"{loinc}/{years_ago}", loinc, "", number, "", date=date)


def course(loinc: str, *values: float) -> PatientRecord:
    """One value a year, the last one today."""
    ages = range(len(values) - 1, -1, -1)
    visits = [seen(loinc, value, float(age)) for value, age in zip(values, ages, strict=True)]
    return PatientRecord("p", "female", observations=tuple(visits))


def condition(
    display: str, code: str = "1", status: str = "active", system: str = SNOMED
) -> Condition:
    """A condition without an onset."""
    return Condition(f"c-{display}", Coding(system, code, display), status)


def phrases(record: PatientRecord, exclude: frozenset[str] = frozenset()) -> list[str]:
    """What the text encoder is given of a record without age and sex."""
    encoder = Letters()
    history_tokens(replace(record, sex="unknown"), encoder, exclude=exclude)
    return encoder.read


# ── z ────────────────────────────────────────────────────────────────────────────────────────────


def test_limits_of_the_range_lie_two_deviations_from_its_middle() -> None:
    """As 95 % of the healthy lie within a reference range."""
    tsh = analyte(TSH)
    assert tsh is not None
    seen = [z_score(v, tsh, age_years=50.0) for v in (0.4, 2.45, 4.5)]
    assert seen == pytest.approx([-2, 0, 2])


def test_without_a_senders_range_sex_and_age_decide() -> None:
    """A TSH of 5.9 is the limit at 75 and beyond it at 50; a hemoglobin of 12.5 is low in men."""
    tsh, hemoglobin = analyte(TSH), analyte("718-7")
    assert tsh is not None
    assert hemoglobin is not None
    assert z_score(5.9, tsh, age_years=75.0) == pytest.approx(2)
    assert z_score(5.9, tsh, age_years=50.0) > 2.5
    assert z_score(12.5, hemoglobin, sex="male") < -2 < z_score(12.5, hemoglobin, sex="female")


def test_the_senders_range_wins_if_it_makes_sense() -> None:
    """Another assay has other limits; a range upside down has none."""
    tsh = analyte(TSH)
    assert tsh is not None
    assert z_score(4.5, tsh, ReferenceRange(0.0, 9.0)) == pytest.approx(0)
    assert z_score(4.5, tsh, ReferenceRange(9.0, 0.0), age_years=50.0) == pytest.approx(2)
    assert z_score(4.5, tsh, ReferenceRange(None, None)) != 0


def test_a_scale_given_as_its_own_range_is_no_reference() -> None:
    """0 to 30 says what the MMSE can be, not what is healthy."""
    mmse = analyte(MMSE)
    assert mmse is not None
    assert z_score(18.0, mmse, ReferenceRange(0.0, 30.0)) == z_score(18.0, mmse)


@pytest.mark.parametrize("entry", ANALYTES, ids=lambda entry: entry.name)
def test_every_analyte_has_a_bounded_rising_z(entry: object) -> None:
    """From the least plausible value to the greatest, whichever sides of its range are open."""
    assert isinstance(entry, type(ANALYTES[0]))
    low, high = entry.plausible
    scores = [z_score(low + (high - low) * step / 50, entry) for step in range(51)]

    assert scores == sorted(scores)
    assert scores[0] < scores[-1]
    assert -8 <= scores[0] <= scores[-1] <= 8


def test_severe_dementia_stays_distinguishable_from_moderate() -> None:
    """A CDR of 1, 2 and 3 are all far out of range and yet not the same."""
    cdr = analyte(CDR)
    assert cdr is not None
    one, two, three = (z_score(value, cdr) for value in (1.0, 2.0, 3.0))
    assert 2 < one < two < three == 8


# ── labs ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_course_is_right_aligned_with_the_latest_last() -> None:
    """Three visits fill the last three places of six."""
    tokens = lab_tokens(course(MMSE, 30, 27, 24))

    assert tokens is not None
    assert tokens.kinds.tolist() == [ANALYTE_INDEX[MMSE]]
    assert tokens.features[0, :, 2].tolist() == [0, 0, 0, 1, 1, 1]
    assert tokens.features[0, 3:, 0].tolist() == pytest.approx([2, 0, -2])
    assert tokens.features[0, 3:, 1].tolist() == pytest.approx([2, 1, 0], abs=0.01)


def test_the_pointer_names_every_observation_oldest_first() -> None:
    """Also those that are too many for the features."""
    tokens = lab_tokens(course(MMSE, *range(20, 28)))

    assert tokens is not None
    dates = tokens.pointers[0].dates  # type: ignore[union-attr]
    assert len(dates) == 8
    assert list(dates) == sorted(dates)
    assert tokens.features[0, -1, 0] == pytest.approx(z_score(27.0, ANALYTES[ANALYTE_INDEX[MMSE]]))


def test_tokens_follow_the_table_and_not_the_file() -> None:
    """The same record in another order is the same evidence."""
    visits = (seen(MMSE, 22), seen(TSH, 2.0, 1), seen(MMSE, 25, 2))
    one = lab_tokens(PatientRecord("p", "male", observations=visits))
    other = lab_tokens(PatientRecord("p", "male", observations=visits[::-1]))

    assert one is not None
    assert other is not None
    np.testing.assert_array_equal(one.features, other.features)
    assert one.kinds.tolist() == sorted(one.kinds.tolist())


def test_the_age_of_a_value_chooses_its_range() -> None:
    """A neurofilament of 20 was high at 55 and is not at 72."""
    nfl = "101281-4"
    visits = (seen(nfl, 20.0, 17), seen(nfl, 20.0, 0))
    born = dt.date(TODAY.year - 72, 1, 1)
    tokens = lab_tokens(PatientRecord("p", "male", birth_date=born, observations=visits))

    assert tokens is not None
    earlier, now = tokens.features[0, -2:, 0].tolist()
    assert now < 2 < earlier


def test_the_order_of_the_visits_in_the_file_changes_nothing() -> None:
    """Only their dates count, on one day their ids."""
    visits = [seen(MMSE, value, age) for value, age in ((29, 5.0), (26, 2.5), (24, 2.4), (20, 0.0))]
    visits.append(replace(visits[1], id="second of the day", value=25.0))
    first = lab_tokens(PatientRecord("p", "male", observations=tuple(visits)))
    assert first is not None
    for seed in range(5):
        random.Random(seed).shuffle(visits)
        again = lab_tokens(PatientRecord("p", "male", observations=tuple(visits)))
        assert again is not None
        np.testing.assert_array_equal(again.features, first.features)
        assert again.pointers == first.pointers


def test_an_old_value_is_relied_upon_less() -> None:
    """Quality halves every two years."""
    visits = (seen(MMSE, 22, 0), seen(TSH, 2.0, 4))
    tokens = lab_tokens(PatientRecord("p", "male", observations=visits))

    assert tokens is not None
    assert dict(zip(tokens.kinds.tolist(), tokens.quality.tolist(), strict=True)) == {
        ANALYTE_INDEX[MMSE]: 1.0,
        ANALYTE_INDEX[TSH]: pytest.approx(0.25, abs=0.01),
    }


def test_an_undated_value_counts_but_less_and_never_as_the_latest() -> None:
    """Somebody measured it, nobody says when."""
    visits = (seen(MMSE, 22, 1), seen(MMSE, 30, None), seen(TSH, 2, None), seen(CDR, 1, 0))
    tokens = lab_tokens(PatientRecord("p", "male", observations=visits))

    assert tokens is not None
    quality = dict(zip(tokens.kinds.tolist(), tokens.quality.tolist(), strict=True))
    assert quality[ANALYTE_INDEX[TSH]] == 0.5
    mmse = tokens.pointers[tokens.kinds.tolist().index(ANALYTE_INDEX[MMSE])]
    assert mmse.dates[0] == ""  # type: ignore[union-attr]


def test_text_results_and_unknown_analytes_make_no_token() -> None:
    """'Hemolysed' is not a number, and what is not in the table has no range."""
    visits = (seen(TSH, None), seen(MISSING, 3.0))
    assert lab_tokens(PatientRecord("p", "male", observations=visits)) is None


# ── history ──────────────────────────────────────────────────────────────────────────────────────


def test_only_what_is_known_becomes_a_token() -> None:
    """No age without a birth date, no sex where it is unknown."""
    assert history_tokens(PatientRecord("p", "unknown"), Letters()) is None


def test_demographics_are_numbers_with_a_flag() -> None:
    """Age in decades from 70, education in fours from 12; sex is a word, and no number is."""
    record = replace(course(MMSE, 22), birth_date=dt.date(1946, 11, 23), education_years=16.0)
    encoder = LettersWithoutColon()
    tokens = history_tokens(record, encoder)

    assert tokens is not None
    assert [FACT_KINDS[kind] for kind in tokens.kinds] == ["age", "sex", "education"]
    assert encoder.read == ["Age", "Sex: female", "Education"]
    assert tokens.features[:, 2].tolist() == pytest.approx([1, 0, 1], abs=1e-3)
    assert tokens.features[:, 4].tolist() == [1, 0, 1]


class LettersWithoutColon(Letters):
    """For phrases of any form."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Nothing but zeros."""
        self.read += texts
        return np.zeros((len(texts), self.dim), np.float32)


def test_a_fact_says_its_sort_and_whether_it_is_past() -> None:
    """Resolved conditions stay, since a past brain injury matters today."""
    record = PatientRecord(
        "p",
        "unknown",
        conditions=(condition("Epilepsy"), condition("Brain injury", "2", "resolved")),
        medications=(Medication("m", Coding("", "3", "donepezil"), "active"),),
        family_history=(FamilyMember("f", "mother", Coding(SNOMED, "4", "Alzheimer's disease")),),
    )
    assert phrases(record) == [
        "Condition: Epilepsy",
        "Past condition: Brain injury",
        "Medication: donepezil",
        "Family history: mother, Alzheimer's disease",
    ]


def test_a_drug_that_was_never_taken_is_no_fact() -> None:
    """A draft or a mistake says nothing of the patient."""
    drugs = [
        Medication(status, Coding("", status, status), status)
        for status in ("draft", "entered-in-error", "not-taken", "cancelled", "stopped")
    ]
    record = PatientRecord("p", "unknown", medications=tuple(drugs))
    assert phrases(record) == ["Past medication: stopped"]


def test_the_diagnosis_to_be_predicted_is_not_among_the_evidence() -> None:
    """Nor what lies below it in ICD-10; a mother's dementia remains."""
    conditions = (
        condition("Dementia", "52448006"),
        condition("Alzheimer's disease, late onset", "G30.1", system=ICD10),
        condition("Gout", "M10.9", system=ICD10),
    )
    mother = FamilyMember("f", "mother", Coding(SNOMED, "52448006", "Dementia"))
    record = PatientRecord("p", "unknown", conditions=conditions, family_history=(mother,))

    assert phrases(record, frozenset({"52448006", "G30"})) == [
        "Condition: Gout",
        "Family history: mother, Dementia",
    ]


def test_what_began_after_the_case_is_not_known_yet() -> None:
    """A drug prescribed because of the diagnosis must not predict it."""
    tomorrow = TODAY + dt.timedelta(days=1)
    record = replace(
        course(MMSE, 22),
        conditions=(replace(condition("Gout"), onset=TODAY),),
        medications=(Medication("m", Coding("", "3", "donepezil"), "active", tomorrow),),
    )
    assert phrases(record) == ["Condition: Gout"]


def test_a_drug_prescribed_every_month_is_one_fact() -> None:
    """The latest entry counts: it was stopped."""
    drugs = [
        Medication(f"m{month}", Coding("", "3", "donepezil"), status, dt.date(2025, month, 1))
        for month, status in ((1, "active"), (3, "stopped"), (2, "active"))
    ]
    record = replace(course(MMSE, 22), medications=tuple(drugs), sex="unknown")
    tokens = history_tokens(record, Letters())

    assert tokens is not None
    assert [pointer.resource_id for pointer in tokens.pointers] == ["m3"]  # type: ignore[union-attr]
    years = (TODAY - dt.date(2025, 3, 1)).days / 365.25
    assert tokens.features[0, 3] == pytest.approx(years / 10)


def test_a_fact_in_an_unread_language_has_low_quality() -> None:
    """An English model sees only strange characters there."""
    record = PatientRecord("p", "unknown", conditions=(condition("高血压"), condition("Gout", "2")))
    tokens = history_tokens(record, Letters())

    assert tokens is not None
    assert tokens.quality.tolist() == pytest.approx([0.2, 1.0])
