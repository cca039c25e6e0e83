"""One analyte, one unit, and no guess about another."""

import math
import subprocess
import sys
from typing import Any

import pytest

from clinical import units
from clinical.analytes import LOCAL_CODE
from clinical.range_sources import SOURCES
from clinical.record import ReferenceRange
from clinical.units import (
    ANALYTE_INDEX,
    ANALYTES,
    Analyte,
    UnitError,
    analyte,
    answer_value,
    convert,
    reference_range,
    table_version,
)

CODES = [code for entry in ANALYTES for code in (entry.loinc, *entry.synonyms)]
PUBLISHED = [code for code in CODES if not code.startswith(LOCAL_CODE)]


def known(loinc: str) -> Analyte:
    """A row that must be there."""
    entry = analyte(loinc)
    assert entry is not None
    return entry


def loinc_check_digit(code: str) -> int:
    """Mod 10 of LOINC: every second digit from the right is doubled."""
    total = 0
    for place, digit in enumerate(reversed(code.partition("-")[0])):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled // 10 + doubled % 10
    return -total % 10


@pytest.mark.parametrize("code", PUBLISHED)
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


def test_the_table_covers_a_work_up() -> None:
    """Eighty and more, of which most have a code that others know."""
    assert len(ANALYTES) >= 130
    assert sum(not entry.loinc.startswith(LOCAL_CODE) for entry in ANALYTES) >= 100
    assert len({entry.name for entry in ANALYTES}) == len(ANALYTES)


def test_a_heart_clinic_and_a_memory_study_find_their_columns() -> None:
    """Blood pressure and lipids they share; these are their own."""
    heart = ("8480-6", "2093-3", "89273-7", "X-ST-DEPRESSION", "X-CORONARY-VESSELS")
    memory = ("72106-8", "72088-8", "X-CDR-SB", "X-INTRACRANIAL-VOLUME", "X-BRAIN-FRACTION")
    assert all(analyte(code) for code in heart + memory)


@pytest.mark.parametrize("entry", ANALYTES, ids=lambda entry: entry.name)
def test_every_row_names_a_source(entry: Analyte) -> None:
    """A range without a source is an opinion; no range needs none."""
    assert entry.source in SOURCES
    assert bool(entry.ranges) or entry.source != "practice"


def test_every_source_is_used() -> None:
    """A citation that nothing cites is a leftover."""
    assert set(SOURCES) == {entry.source for entry in ANALYTES}


@pytest.mark.parametrize("entry", ANALYTES, ids=lambda entry: entry.name)
def test_the_reference_range_is_plausible(entry: Analyte) -> None:
    """Normal values must not be reported as impossible."""
    lowest, highest = entry.plausible
    for part in entry.ranges:
        low = lowest if part.low is None else part.low
        high = highest if part.high is None else part.high
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
        ("14959-1", 3.39, "mg/mmol", 30.0),  # urine albumin to creatinine
        ("14921-1", 100.0, "nmol/L", 7.77),  # total T4
        ("14798-3", 20.0, "umol/L", 111.7),  # iron
        ("2143-6", 500.0, "nmol/L", 18.1),  # cortisol
        ("1995-0", 4.81, "mg/dL", 1.2),  # ionized calcium
        ("X-ST-DEPRESSION", 0.15, "mV", 1.5),
        ("X-INTRACRANIAL-VOLUME", 1.5e6, "mm3", 1500.0),
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
    # Kelvin, giga and tesla to UCUM; a share without unit is a share of the whole.
    ambiguous = {"K/uL", "G/L", "M/uL", "T/L", "1", "", "%"}
    compared = 0
    for entry in ANALYTES:
        for unit in entry.factors.keys() - ambiguous - entry.offsets.keys():
            expected = oracle(ucum, entry, unit)
            if expected is not None:
                assert math.isclose(entry.factors[unit], expected, rel_tol=1e-4), (entry.name, unit)
                compared += 1
    assert compared > 250


# Grams in a mole of what the laboratory means by the analyte, from the tables of chemistry.
MOLAR_MASS = {
    "718-7": 16114.5, "785-6": 16114.5, "786-4": 16114.5,  # hemoglobin, one of its four chains
    "17861-6": 40.078, "1995-0": 40.078, "19123-9": 24.305, "2777-1": 30.974,
    "2345-7": 180.156, "2571-8": 885.7, "3094-0": 28.0134,  # urea's two nitrogens
    **dict.fromkeys(("2093-3", "18262-6", "2085-9", "43396-1"), 386.654),
    "2160-0": 113.12, "3084-1": 168.11, "1975-2": 584.66, "1968-7": 584.66, "16362-6": 17.031,
    "3024-7": 776.87, "3026-2": 776.87, "3051-0": 650.97, "2143-6": 362.46, "2731-8": 9425.0,
    "2132-9": 1355.4, "2284-8": 441.4, "2283-0": 441.4, "1989-3": 400.64, "2498-4": 55.845,
    "13965-9": 135.19, "33762-6": 8457.0, "30934-4": 3464.0, "5671-3": 207.2, "5685-3": 200.59,
    "5631-7": 63.546, "5643-2": 46.069, "2342-4": 180.156,
}  # fmt: skip
# HbA1c of two systems, ratios to creatinine, equivalents of ions with one charge.
BY_DEFINITION = {"%", "mmol/mol", "mg/mmol", "g/mol", "meq/L", "mEq/L"}


def moles(ucum: Any, unit: str) -> int:
    """The power of the mole in a unit; 0 where UCUM does not know it or means an enzyme."""
    try:
        dimensions = ucum.from_ucum(unit).dimensionality
    except Exception:  # one of the other spellings, which another test holds against UCUM's
        return 0
    return 0 if "[time]" in dimensions else int(dimensions.get("[substance]", 0))


def test_factors_between_moles_and_grams_are_molar_masses(ucum: Any) -> None:
    """What UCUM alone cannot decide, the substance decides; none is left unchecked."""
    compared = set()
    for entry in ANALYTES:
        for unit in entry.factors.keys() - BY_DEFINITION:
            power = moles(ucum, unit)
            if power == moles(ucum, entry.unit):
                continue
            mass = MOLAR_MASS[entry.loinc] * ucum.from_ucum("g") / ucum.from_ucum("mol")
            one = ucum.from_ucum(unit) * (mass if power else 1 / mass)
            expected = float(one.to(ucum.from_ucum(entry.unit)).magnitude)
            assert math.isclose(entry.factors[unit], expected, rel_tol=2e-3), (entry.name, unit)
            compared.add(entry.loinc)
    assert compared == MOLAR_MASS.keys()


SPELLINGS = {
    "IU/L": "[IU]/L", "IU/mL": "[IU]/mL", "kIU/L": "k[IU]/L", "mIU/L": "m[IU]/L", "lb": "[lb_av]",
    "uIU/mL": "u[IU]/mL", "mEq/L": "meq/L", "mm/hr": "mm/h", "mmHg": "mm[Hg]", "mm Hg": "mm[Hg]",
    "bpm": "/min", "10E9/L": "10*9/L", "10E12/L": "10*12/L", "10E3/uL": "10*3/uL", "in": "[in_i]",
    "10E6/uL": "10*6/uL", "kg/m^2": "kg/m2", "g%": "g/dL", "mg%": "mg/dL", "sec": "s",
    "°C": "Cel", "°F": "[degF]",
}  # fmt: skip


def test_other_spellings_mean_the_same_as_those_of_ucum() -> None:
    """What laboratories print instead of UCUM is its twin in every row that has both."""
    for entry in ANALYTES:
        for printed in entry.factors.keys() & SPELLINGS.keys():
            assert entry.factors[printed] == entry.factors[SPELLINGS[printed]], (
                entry.name,
                printed,
            )


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


# ── normal for whom ──────────────────────────────────────────────────────────────────────────────


def test_women_and_men_have_their_own_ranges() -> None:
    """A hemoglobin of 12.5 is low in a man only."""
    assert reference_range(known("718-7"), "female", 70) == ReferenceRange(11.7, 15.3)
    assert reference_range(known("718-7"), "male", 70) == ReferenceRange(13.4, 17.0)


@pytest.mark.parametrize(("age", "limit"), [(30, 10), (50, 10), (51, 15), (65, 20), (70, 35)])
def test_neurofilament_rises_with_age(age: int, limit: float) -> None:
    """The limits of Simren 2022, at and between their borders."""
    assert reference_range(known("101281-4"), "male", age).high == limit


def test_the_sedimentation_rate_follows_millers_rule() -> None:
    """Half the age in men, and of ten years more in women, at the middle of a decade."""
    assert reference_range(known("4537-7"), "male", 65).high == 65 / 2
    assert reference_range(known("4537-7"), "female", 65).high == (65 + 10) / 2


def test_who_is_not_known_gets_the_widest_range() -> None:
    """Nothing is abnormal for want of a birth date or a sex."""
    assert reference_range(known("718-7")) == ReferenceRange(11.7, 17.0)
    assert reference_range(known("3016-3")).high == 7.5
    assert reference_range(known("3084-1"), "other", 60) == ReferenceRange(2.6, 8.1)


def test_a_child_gets_the_range_of_the_youngest_adult() -> None:
    """The table is of adults and says so; it must not fail."""
    assert reference_range(known("4537-7"), "female", 10).high == 17.5


def test_an_open_side_stays_open() -> None:
    """More eGFR is not abnormal, and no weight is."""
    assert reference_range(known("33914-3"), "male", 80) == ReferenceRange(60.0, None)
    assert reference_range(known("29463-7"), "male", 80) == ReferenceRange(None, None)


# ── answers ──────────────────────────────────────────────────────────────────────────────────────

TREPONEMA, APOE, TITER, MMSE = "24110-9", "42315-2", "50690-7", "72106-8"


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("11214006", 1.0),  # SNOMED CT: reactive
        ("Reactive", 1.0),
        ("阳性", 1.0),
        ("LA9634-2", 0.0),  # LOINC answer: absent
        ("Non–Reactive", 0.0),
        ("阴性（-）", 0.0),
        ("weakly reactive", None),
        ("-", None),
        ("NR", None),  # non-reactive, or not reported
        ("see comment", None),
    ],
)
def test_a_qualitative_result_is_a_number_only_where_it_is_plain(
    answer: str, number: float | None
) -> None:
    """Codes and words in both languages; everything else stays text."""
    assert answer_value(TREPONEMA, answer) == number


@pytest.mark.parametrize(
    ("answer", "alleles"),
    [
        ("ε3/ε4", 1), ("E4/E4", 2), ("APOE e3/e3", 0), ("*2/*4", 1), ("3/4", 1), ("LA21360-5", 2),
        ("34", None), ("e4 carrier", None), ("e3/e5", None),
    ],
)  # fmt: skip
def test_a_genotype_is_its_number_of_e4_alleles(answer: str, alleles: int | None) -> None:
    """However the laboratory spells it."""
    assert answer_value(APOE, answer) == alleles


@pytest.mark.parametrize(
    ("answer", "number"), [("1:64", 64), ("1 : 8", 8), ("Non-reactive", 0), ("reactive", None)]
)
def test_a_titer_is_its_denominator(answer: str, number: float | None) -> None:
    """One in sixty-four; reactive alone does not say how much."""
    assert answer_value(TITER, answer) == number


def test_answers_that_contradict_each_other_are_no_number() -> None:
    """A code says positive, its text negative: nobody knows which was meant."""
    assert answer_value(TREPONEMA, "10828004", "Positive") == 1.0
    assert answer_value(TREPONEMA, "10828004", "negative") is None


def test_a_measured_analyte_has_no_answers() -> None:
    """Yes is no MMSE, and what is not in the table is nothing."""
    assert answer_value(MMSE, "yes") is None
    assert answer_value("0-0", "positive") is None


# ── version ──────────────────────────────────────────────────────────────────────────────────────


def test_the_version_changes_with_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens made with another order of rows belong to another model."""
    before = table_version()
    assert before == table_version()
    assert len(before) == 12
    monkeypatch.setattr(units, "ANALYTES", (ANALYTES[1], ANALYTES[0], *ANALYTES[2:]))
    table_version.cache_clear()
    assert table_version() != before
    table_version.cache_clear()


def test_the_version_is_the_same_in_another_process() -> None:
    """No address and no order of a set goes into it."""
    program = "from clinical.units import table_version; print(table_version())"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == table_version()
