"""What an Observation is worth: one unit, a range, a limit, an answer, or a reason why not."""

import datetime as dt

import pytest
from fhir_bundles import Json, bundle, observation, record_of

from clinical.check import check
from clinical.fhir import read_bundle
from clinical.record import ReferenceRange


def valued(loinc: str, value: Json) -> Json:
    """An Observation with this value in place of a quantity."""
    made = observation(loinc, 0, "")
    del made["valueQuantity"]
    return made | value


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


def test_text_stays_text_and_a_limit_of_detection_says_so() -> None:
    """No number is made of words, and "<0.01" is not 0.01."""
    words = observation("44261-6", 0, "", id="a") | {"valueString": "not assessable"}
    del words["valueQuantity"]
    below = observation("3016-3", 0.01, "m[IU]/L", id="b")
    below["valueQuantity"]["comparator"] = "<"
    first, second = record_of(words, below).observations
    assert (first.value, first.text) == (None, "not assessable")
    assert (second.value, second.comparator, second.text) == (0.01, "<", None)


@pytest.mark.parametrize(
    ("loinc", "value", "number", "text"),
    [
        ("2345-7", {"valueRange": {"low": {"value": 4}, "high": {"value": 6, "unit": "mmol/L"}}},
         None, "4 to 6 mmol/L"),
        ("31147-2", {"valueRatio": {"numerator": {"value": 1}, "denominator": {"value": 32}}},
         32.0, "1:32"),
        ("22587-0", {"valueCodeableConcept": {"coding": [{"code": "11214006"}], "text": "Seen"}},
         1.0, "Seen"),
        ("22587-0", {"valueCodeableConcept": {"text": "weakly reactive"}}, None, "weakly reactive"),
        ("22587-0", {"valueBoolean": False}, 0.0, "no"),
        ("22587-0", {"interpretation": [{"coding": [{"code": "POS", "display": "Positive"}]}]},
         1.0, "Positive"),
    ],
)  # fmt: skip
def test_ranges_titers_and_answers(
    loinc: str, value: Json, number: float | None, text: str
) -> None:
    """What the closed table of answers knows is a number; the rest stays what was said."""
    (seen,) = record_of(valued(loinc, value)).observations
    assert (seen.value, seen.text) == (number, text)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"dataAbsentReason": {"coding": [{"code": "masked"}]}}, "value absent: masked"),
        ({"dataAbsentReason": {"text": "Mr Smith"}}, "value absent: no known reason"),
        ({"valueSampledData": {"origin": {"value": 0}, "period": 1, "dimensions": 1, "data": "1"}},
         "a series of samples is not read"),
        ({"valueTime": "10:00:00"}, "a time is no value"),
        ({}, "no value with a code of the table of analytes"),
    ],
)  # fmt: skip
def test_an_absent_value_is_never_zero(value: Json, reason: str) -> None:
    """Not done is not nought; the report says why there is nothing."""
    record, report = read_bundle(bundle(valued("2345-7", value)))
    assert not record.observations
    assert report.ignored == {f"Observation ({reason})": 1}


def test_a_value_that_is_said_to_be_absent_is_a_contradiction() -> None:
    """One of the two is wrong, and nobody knows which."""
    reason = {"coding": [{"code": "error"}]}
    _, report = read_bundle(bundle(observation("2345-7", 90, "mg/dL", dataAbsentReason=reason)))
    assert report.refused[0].path == "dataAbsentReason"


def test_the_senders_interpretation_is_kept() -> None:
    """A value that the laboratory calls high is worth a look where the range says otherwise."""
    high = [{"coding": [{"code": "H"}]}]
    (seen,) = record_of(observation("2345-7", 90, "mg/dL", interpretation=high)).observations
    assert seen.interpretation == "H"


def test_years_of_education_belong_to_the_patient() -> None:
    """They are a fact about the person and no laboratory value."""
    record = record_of(observation("82590-1", 9, "a"))
    assert (record.education_years, record.observations) == (9.0, ())


@pytest.mark.parametrize(
    ("quantity", "said"),
    [
        ({"value": 98.765, "unit": "stone"}, "the unit 'stone' is not in the table"),
        ({"value": 98.765, "unit": "as Mr Smith said"}, "the unit given is not in the table"),
        ({"value": 98.765}, "there is no unit"),
        ({"value": 98.765, "code": "mg/dL", "unit": "mmol/L"}, "its code and its text differ"),
    ],
)
def test_a_value_in_a_doubtful_unit_is_missing_and_said_so(quantity: Json, said: str) -> None:
    """A value is never guessed; that something was measured is kept, and its neighbours stay."""
    doubtful = valued("2345-7", {"valueQuantity": quantity})
    record, report = read_bundle(bundle(doubtful, observation("2951-2", 140, "mmol/L")))
    seen = {entry.name: (entry.value, entry.absent_reason) for entry in record.observations}
    assert seen == {"Glucose": (None, "unknown unit"), "Sodium": (140.0, "")}
    assert report.accepted["Observation"] == 2
    (remark,) = report.remarks
    assert (remark.entry, remark.path) == (1, "valueQuantity.unit")
    assert remark.rule.startswith(f"Glucose (2345-7): {said}")


def test_a_range_that_cannot_be_read_is_left_out() -> None:
    """Its value stays; the table's range stands in for it."""
    odd = [{"low": {"value": 1, "unit": "stone"}}]
    backwards = [{"low": {"value": 150, "unit": "mmol/L"}, "high": {"value": 9, "unit": "mmol/L"}}]
    usual = record_of(observation("2951-2", 140, "mmol/L")).observations[0].reference
    for ranges in (odd, backwards):
        raw = bundle(observation("2951-2", 140, "mmol/L", referenceRange=ranges))
        record, report = read_bundle(raw)
        assert record.observations[0].reference == usual
        assert report.remarks[0].path == "referenceRange"


def test_codes_of_two_analytes_refuse_the_entry() -> None:
    """Sodium and potassium at once is neither."""
    codes = [{"system": "http://loinc.org", "code": code} for code in ("2951-2", "2823-3")]
    _, report = read_bundle(bundle(observation("2951-2", 140, "mmol/L", code={"coding": codes})))
    assert report.refused[0].path == "code"


def test_a_value_in_an_unknown_unit_is_a_finding() -> None:
    """The physician sees that something was measured which nobody could read."""
    record, _ = read_bundle(bundle(observation("2345-7", 98.765, "stone", id="g")))
    (found,) = (finding for finding in check(record) if finding.kind == "unit")
    assert found.message.startswith("Glucose (2345-7) came in a unit that is not known")
    assert [source.id for source in found.sources] == ["g"]
