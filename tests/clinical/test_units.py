"""One analyte, one unit, and no guess about another."""

import math
from typing import Any

import pytest

from clinical.units import ANALYTE_INDEX, ANALYTES, Analyte, UnitError, analyte, convert

CODES = [code for entry in ANALYTES for code in (entry.loinc, *entry.synonyms)]


def loinc_check_digit(code: str) -> int:
    """Mod 10 of LOINC: every second digit from the right is doubled."""
    total = 0
    for place, digit in enumerate(reversed(code.partition("-")[0])):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled // 10 + doubled % 10
    return -total % 10


@pytest.mark.parametrize("code", CODES)
def test_every_loinc_has_its_check_digit(code: str) -> None:
    """A mistyped code would silently be another analyte."""
    assert int(code.partition("-")[2]) == loinc_check_digit(code)


def test_no_code_means_two_analytes() -> None:
    """Otherwise the table's order would decide what was measured."""
    assert len(CODES) == len(set(CODES))
    assert [ANALYTES[row].loinc for row in ANALYTE_INDEX.values()] == list(ANALYTE_INDEX)


@pytest.mark.parametrize("entry", ANALYTES, ids=lambda entry: entry.name)
def test_the_canonical_unit_changes_nothing(entry: Analyte) -> None:
    """A value in its canonical unit passes as it is."""
    assert convert(entry.loinc, 7.25, entry.unit) == 7.25


@pytest.mark.parametrize("entry", ANALYTES, ids=lambda entry: entry.name)
def test_the_reference_range_is_plausible(entry: Analyte) -> None:
    """Normal values must not be reported as impossible."""
    lowest, highest = entry.plausible
    low = lowest if entry.low is None else entry.low
    high = highest if entry.high is None else entry.high
    assert lowest <= low < high <= highest


@pytest.mark.parametrize(
    ("loinc", "value", "unit", "expected"),
    [
        ("14749-6", 5.55, "mmol/L", 100.0),  # glucose
        ("14682-9", 88.4, "umol/L", 1.0),  # creatinine
        ("14685-2", 148.0, "pmol/L", 200.6),  # vitamin B12
        ("718-7", 145.0, "g/L", 14.5),  # hemoglobin
        ("59260-0", 9.0, "mmol/L", 14.5),  # hemoglobin
        ("59261-8", 48.0, "mmol/mol", 6.54),  # HbA1c: IFCC 48 is NGSP 6.5
        ("14647-2", 5.0, "mmol/L", 193.4),  # cholesterol
        ("22664-7", 5.0, "mmol/L", 14.0),  # urea as urea nitrogen
        ("14920-3", 12.87, "pmol/L", 1.0),  # free T4
        ("14732-2", 10.0, "nmol/L", 4.41),  # folate
        ("14631-6", 17.1, "umol/L", 1.0),  # bilirubin
        ("2000-8", 2.5, "mmol/L", 10.02),  # calcium
        ("8310-5", 98.6, "[degF]", 37.0),
    ],
)
def test_conversions_of_the_textbook(loinc: str, value: float, unit: str, expected: float) -> None:
    """The usual pairs of conventional and SI units."""
    assert convert(loinc, value, unit) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("unit", ["µg/L", "μg/l", "mcg/L", "ug/L", " ng/ml "])
def test_spellings_of_micro_and_litre_are_one_unit(unit: str) -> None:
    """Laboratories write micro in four ways and the litre in two."""
    assert convert("2276-4", 30, unit) == 30


@pytest.mark.parametrize("unit", ["10*3/uL", "10*9/L", "×10^9/l", "x10E3/uL", "K/uL"])
def test_spellings_of_a_cell_count_are_one_unit(unit: str) -> None:
    """Every analyser prints thousands per microlitre in its own way."""
    assert convert("6690-2", 6.5, unit) == 6.5


@pytest.fixture(scope="module")
def ucum() -> Any:
    """An independent UCUM library."""
    return pytest.importorskip("ucumvert").PintUcumRegistry()


def oracle(ucum: Any, entry: Analyte, unit: str) -> float | None:
    """What that library makes of 1 `unit` in the canonical unit."""
    try:
        return float(ucum.from_ucum(unit).to(ucum.from_ucum(entry.unit)).magnitude)
    except Exception:  # it does not know the unit, or the step needs the molar mass
        return None


def test_factors_agree_with_an_independent_ucum_library(ucum: Any) -> None:
    """Where no molar mass is needed, UCUM alone decides the factor."""
    ambiguous = {"K/uL", "G/L", "M/uL", "T/L", "1", "", "%"}  # kelvin, giga and tesla to UCUM
    compared = 0
    for entry in ANALYTES:
        for unit in entry.factors.keys() - ambiguous - entry.offsets.keys():
            expected = oracle(ucum, entry, unit)
            if expected is not None:
                assert math.isclose(entry.factors[unit], expected, rel_tol=1e-4), (entry.name, unit)
                compared += 1
    assert compared > 150


def test_an_unknown_unit_is_refused_with_code_and_unit() -> None:
    """A value in a unit that nobody foresaw must never pass as another."""
    with pytest.raises(UnitError, match=r"LOINC 2345-7 is in 'furlong'.*'mg/dL'"):
        convert("2345-7", 98.765, "furlong")


def test_a_laboratory_value_without_unit_is_refused_and_a_score_is_not() -> None:
    """An MMSE of 21 needs no unit; a glucose of 21 does."""
    assert convert("72106-8", 21, "") == 21
    with pytest.raises(UnitError):
        convert("2345-7", 21, "")


def test_the_error_does_not_quote_the_value() -> None:
    """Messages go to logs, and values belong to the patient."""
    with pytest.raises(UnitError) as caught:
        convert("2345-7", 98.765, "furlong")
    assert "98.765" not in str(caught.value)


def test_a_code_that_is_not_in_the_table_is_unknown() -> None:
    """Shoe size has no place in a dementia work-up."""
    assert analyte("0-0") is None
    with pytest.raises(UnitError, match=r"not in clinical\.units\.ANALYTES"):
        convert("0-0", 1, "cm")


def test_tests_of_cognition_are_marked() -> None:
    """They are close to the diagnosis, so an evaluation may leave them out."""
    cognitive = {entry.name for entry in ANALYTES if entry.cognitive}
    assert {"MMSE", "MoCA", "CDR global"} <= cognitive
    assert not cognitive & {"Glucose", "PHQ-9", "GDS-15"}
