"""LOINC and UCUM: the analytes and scores of a dementia work-up, in one unit each.

`ANALYTES` is a closed table. What is not in it is not guessed: an unknown LOINC has no use for
us, an unknown unit is an error. Reference ranges are those of common adult laboratories, for
orientation where the sender gives none; the sender's range always wins. Ranges of amyloid, tau,
NfL and GFAP depend on the assay and on age more than the others do.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

Number = float | int
Bounds = tuple[Number | None, Number | None]
Factors = Mapping[str, float]


class UnitError(ValueError):
    """A unit that the closed table cannot convert; the message has code and unit, no value."""


@dataclass(frozen=True)
class Analyte:
    """One analyte or score in its canonical unit.

    Attributes:
        loinc: The LOINC code that stands for all its `synonyms`.
        name: Short English name.
        unit: Canonical UCUM unit.
        low: Lower limit of the adult reference range in `unit`; None where open.
        high: Upper limit; None where open.
        plausible: Smallest and largest value a living patient or a test sheet can have.
        cognitive: True for a test of cognition, which is close to the diagnosis itself.
        synonyms: Other LOINC codes of the same analyte: other specimen, method or property.
        factors: Value in a unit times its factor is the value in `unit`.
        offsets: Added after the factor, for the few units with another zero.
    """

    loinc: str
    name: str
    unit: str
    low: float | None
    high: float | None
    plausible: tuple[float, float]
    cognitive: bool = False
    synonyms: tuple[str, ...] = ()
    factors: Factors = field(default_factory=dict)
    offsets: Factors = field(default_factory=dict)


# Spellings of one canonical unit and its relatives; the first is canonical.
_G_DL = {"g/dL": 1.0, "g/L": 0.1, "mg/dL": 0.001, "g%": 1.0}
_MG_DL = {"mg/dL": 1.0, "g/L": 100.0, "mg/L": 0.1, "ug/mL": 0.1, "mg%": 1.0}
_UG_DL = {"ug/dL": 1.0, "ug/L": 0.1, "ng/mL": 0.1, "mg/L": 100.0}
_NG_ML = {"ng/mL": 1.0, "ug/L": 1.0, "ng/dL": 0.01, "ug/dL": 10.0}
_PG_ML = {"pg/mL": 1.0, "ng/L": 1.0, "ng/mL": 1000.0, "ug/L": 1000.0, "ng/dL": 10.0}
_MMOL_L = {"mmol/L": 1.0, "meq/L": 1.0, "mEq/L": 1.0}
_U_L = {"U/L": 1.0, "[IU]/L": 1.0, "IU/L": 1.0, "ukat/L": 60.0}
_PERCENT = {"%": 1.0, "L/L": 100.0, "1": 100.0}
_COUNT = {"10*3/uL": 1.0, "10*9/L": 1.0, "10^3/uL": 1.0, "10^9/L": 1.0, "10E9/L": 1.0}
_COUNT |= {"K/uL": 1.0, "/nL": 1.0, "G/L": 1.0, "/uL": 0.001, "10*3/mm3": 1.0, "10E3/uL": 1.0}
_RED = {"10*6/uL": 1.0, "10*12/L": 1.0, "10^6/uL": 1.0, "10^12/L": 1.0, "10E12/L": 1.0}
_RED |= {"10E6/uL": 1.0, "M/uL": 1.0, "/pL": 1.0, "T/L": 1.0}
_TSH = {"m[IU]/L": 1.0, "u[IU]/mL": 1.0, "mIU/L": 1.0, "uIU/mL": 1.0, "mU/L": 1.0, "uU/mL": 1.0}
# These LOINC codes are by definition per 1.73 m2, also where the unit leaves that out.
_EGFR = {"mL/min/{1.73_m2}": 1.0, "mL/min/1.73.m2": 1.0, "mL/min/{1.73m2}": 1.0, "mL/min": 1.0}
_EGFR |= {"mL/min/1.73_m2": 1.0, "mL/min/1.73m2": 1.0, "mL/min/1.73 m2": 1.0, "mL/min/1.73m*2": 1.0}
_PRESSURE = {"mm[Hg]": 1.0, "mmHg": 1.0, "mm Hg": 1.0, "kPa": 7.50062}
_RATE = {"/min": 1.0, "{beats}/min": 1.0, "bpm": 1.0, "1/min": 1.0}
_SCORE = {"{score}": 1.0, "": 1.0, "1": 1.0, "score": 1.0, "(score)": 1.0, "points": 1.0}
_SCORE |= {"{points}": 1.0, "{Points}": 1.0, "分": 1.0}


def _lab(
    loinc: str,
    name: str,
    reference: Bounds,
    plausible: tuple[Number, Number],
    units: Factors,
    synonyms: str = "",
    more: Factors | None = None,
    *,
    offsets: Factors | None = None,
    cognitive: bool = False,
) -> Analyte:
    """A row of the table: `more` holds the conversions that depend on the substance."""
    low, high = (None if limit is None else float(limit) for limit in reference)
    return Analyte(
        loinc=loinc,
        name=name,
        unit=next(iter(units)),
        low=low,
        high=high,
        plausible=(float(plausible[0]), float(plausible[1])),
        cognitive=cognitive,
        synonyms=tuple(synonyms.split()),
        factors=MappingProxyType({**units, **(more or {})}),
        offsets=MappingProxyType({**(offsets or {})}),
    )


def _score(
    loinc: str,
    name: str,
    reference: Bounds,
    plausible: tuple[Number, Number],
    synonyms: str = "",
    *,
    cognitive: bool = True,
) -> Analyte:
    """A row of the table for a test or questionnaire."""
    return _lab(loinc, name, reference, plausible, _SCORE, synonyms, cognitive=cognitive)


# fmt: off
ANALYTES: tuple[Analyte, ...] = (
    # Blood count
    _lab("718-7", "Hemoglobin", (12, 17), (2, 25), _G_DL, "59260-0 20509-6", {"mmol/L": 1.6114}),
    _lab("4544-3", "Hematocrit", (36, 50), (5, 75), _PERCENT, "20570-8"),
    _lab("789-8", "Erythrocytes", (4.0, 5.9), (0.5, 10), _RED, "26453-1"),
    _lab("6690-2", "Leukocytes", (4, 11), (0.1, 500), _COUNT, "26464-8"),
    _lab("777-3", "Platelets", (150, 400), (1, 2500), _COUNT, "26515-7"),
    _lab("787-2", "MCV", (80, 100), (40, 160), {"fL": 1.0, "um3": 1.0}, "30428-7"),
    _lab("4537-7", "ESR", (0, 20), (0, 200), {"mm/h": 1.0, "mm/hr": 1.0}, "30341-2"),
    # Electrolytes, kidney, liver
    _lab("2951-2", "Sodium", (135, 145), (90, 200), _MMOL_L, "2947-0"),
    _lab("2823-3", "Potassium", (3.5, 5.1), (1, 12), _MMOL_L, "6298-4"),
    _lab("2075-0", "Chloride", (98, 107), (50, 160), _MMOL_L, "2069-3"),
    _lab("17861-6", "Calcium", (8.5, 10.5), (2, 25), _MG_DL, "49765-1 2000-8", {"mmol/L": 4.008}),
    _lab("19123-9", "Magnesium", (1.7, 2.4), (0.2, 15), _MG_DL, "", {"mmol/L": 2.4305}),
    _lab("2777-1", "Phosphate", (2.5, 4.5), (0.2, 20), _MG_DL, "", {"mmol/L": 3.0974}),
    _lab("2345-7", "Glucose", (70, 99), (10, 1500), _MG_DL, "2339-0 14749-6 15074-8 1558-6 14771-0",
         {"mmol/L": 18.016}),
    _lab("2160-0", "Creatinine", (0.5, 1.2), (0.1, 30), _MG_DL, "38483-4 14682-9",
         {"umol/L": 0.01131, "mmol/L": 11.31}),
    _lab("33914-3", "eGFR", (60, None), (1, 200), _EGFR,
         "62238-1 98979-8 77147-7 48642-3 48643-1 50044-7 69405-9"),
    _lab("3094-0", "Urea nitrogen", (7, 20), (1, 250), _MG_DL, "6299-2 22664-7 14937-7",
         {"mmol/L": 2.801}),
    _lab("3084-1", "Urate", (2.4, 7.2), (0.2, 30), _MG_DL, "14933-6", {"umol/L": 0.01681}),
    _lab("1742-6", "ALT", (7, 56), (1, 20000), _U_L, "1743-4"),
    _lab("1920-8", "AST", (8, 48), (1, 20000), _U_L, "30239-8"),
    _lab("6768-6", "Alkaline phosphatase", (40, 129), (5, 5000), _U_L),
    _lab("2324-2", "Gamma-GT", (5, 61), (1, 10000), _U_L),
    _lab("1975-2", "Bilirubin", (0.1, 1.2), (0, 60), _MG_DL, "14631-6", {"umol/L": 0.05848}),
    _lab("1751-7", "Albumin", (3.5, 5.0), (0.5, 8), _G_DL, "61151-7 61152-5"),
    _lab("2885-2", "Total protein", (6.0, 8.3), (2, 15), _G_DL),
    _lab("16362-6", "Ammonia", (11, 35), (1, 2000), {"umol/L": 1.0}, "", {"ug/dL": 0.5872}),
    # Thyroid, vitamins, metabolism, inflammation, toxins
    _lab("3016-3", "TSH", (0.4, 4.5), (0, 500), _TSH, "11579-0 11580-8"),
    _lab("3024-7", "Free T4", (0.8, 1.8), (0.05, 20), {"ng/dL": 1.0, "ng/L": 0.1, "pg/mL": 0.1},
         "14920-3", {"pmol/L": 0.07769}),
    _lab("3051-0", "Free T3", (2.0, 4.4), (0.1, 50), _PG_ML, "14928-6", {"pmol/L": 0.6510}),
    _lab("2132-9", "Vitamin B12", (200, 900), (20, 20000), _PG_ML, "14685-2", {"pmol/L": 1.3554}),
    _lab("2284-8", "Folate", (3, 20), (0.2, 200), _NG_ML, "14732-2", {"nmol/L": 0.4414}),
    _lab("1989-3", "25-OH vitamin D", (20, 80), (1, 400), _NG_ML, "62292-8", {"nmol/L": 0.4006}),
    _lab("2276-4", "Ferritin", (15, 300), (1, 50000), _NG_ML),
    _lab("13965-9", "Homocysteine", (5, 15), (0.5, 500), {"umol/L": 1.0}, "", {"mg/L": 7.397}),
    _lab("4548-4", "HbA1c", (4.0, 5.6), (2.5, 25), {"%": 1.0, "%{HbA1c}": 1.0}, "17856-6 59261-8",
         {"mmol/mol": 0.09148}, offsets={"mmol/mol": 2.152}),  # NGSP from IFCC
    _lab("2093-3", "Total cholesterol", (125, 200), (30, 1500), _MG_DL, "14647-2",
         {"mmol/L": 38.67}),
    _lab("18262-6", "LDL cholesterol", (0, 130), (0, 1000), _MG_DL,
         "13457-7 2089-1 22748-8 39469-2 69419-0", {"mmol/L": 38.67}),
    _lab("2085-9", "HDL cholesterol", (40, None), (2, 250), _MG_DL, "14646-4", {"mmol/L": 38.67}),
    _lab("2571-8", "Triglycerides", (10, 150), (10, 15000), _MG_DL, "14927-8", {"mmol/L": 88.57}),
    _lab("1988-5", "CRP", (0, 5), (0, 1000), {"mg/L": 1.0, "mg/dL": 10.0, "ug/mL": 1.0}, "30522-7"),
    _lab("33762-6", "NT-proBNP", (0, 450), (0, 100000), _PG_ML, "", {"pmol/L": 8.457}),
    _lab("5671-3", "Lead", (0, 5), (0, 300), _UG_DL, "", {"umol/L": 20.72}),
    _lab("5631-7", "Copper", (70, 140), (2, 500), _UG_DL, "", {"umol/L": 6.355}),
    _lab("2064-4", "Ceruloplasmin", (20, 50), (0.5, 150), _MG_DL),
    # Vital signs and build
    _lab("29463-7", "Body weight", (None, None), (20, 400),
         {"kg": 1.0, "g": 0.001, "[lb_av]": 0.45359237, "lb": 0.45359237}, "3141-9"),
    _lab("8302-2", "Body height", (None, None), (80, 250),
         {"cm": 1.0, "m": 100.0, "[in_i]": 2.54, "in": 2.54, "mm": 0.1}, "8306-3"),
    _lab("39156-5", "Body mass index", (18.5, 25), (8, 120), {"kg/m2": 1.0, "kg/m^2": 1.0}),
    _lab("8480-6", "Systolic blood pressure", (90, 140), (40, 300), _PRESSURE),
    _lab("8462-4", "Diastolic blood pressure", (60, 90), (10, 200), _PRESSURE),
    _lab("8867-4", "Heart rate", (50, 100), (15, 300), _RATE),
    _lab("8310-5", "Body temperature", (36.1, 37.8), (25, 45), {"Cel": 1.0, "°C": 1.0}, "8331-1",
         {"[degF]": 5 / 9, "°F": 5 / 9}, offsets={"[degF]": -160 / 9, "°F": -160 / 9}),
    _lab("59408-5", "Oxygen saturation", (94, 100), (30, 100), {"%": 1.0}, "2708-6"),
    # Cerebrospinal fluid and markers of neurodegeneration in blood
    _lab("33203-1", "CSF amyloid beta 42", (1026, None), (10, 5000), _PG_ML),
    _lab("30160-6", "CSF total tau", (0, 238), (0, 20000), _PG_ML),
    _lab("72260-3", "CSF p-tau181", (0, 21.7), (0, 1000), _PG_ML),
    _lab("2880-3", "CSF protein", (15, 45), (1, 5000), _MG_DL),
    _lab("2342-4", "CSF glucose", (45, 80), (1, 1000), _MG_DL, "", {"mmol/L": 18.016}),
    _lab("806-0", "CSF leukocytes", (0, 5), (0, 100000), {"/uL": 1.0, "/mm3": 1.0, "10*6/L": 1.0}),
    _lab("104663-0", "Plasma p-tau217", (0, 0.185), (0, 50), _PG_ML),
    _lab("103675-5", "Plasma p-tau181", (0, 0.95), (0, 100), _PG_ML),
    _lab("101281-4", "Neurofilament light", (0, 30), (0, 5000), _PG_ML),
    _lab("100435-7", "GFAP", (0, 200), (0, 20000), _PG_ML),
    # Scores
    _score("72106-8", "MMSE", (24, 30), (0, 30), "72107-6"),
    _score("72172-0", "MoCA", (26, 30), (0, 30), "72133-2"),
    _score("71492-3", "SLUMS", (27, 30), (0, 30)),
    _score("72233-0", "Mini-Cog", (3, 5), (0, 5)),
    _score("58151-2", "BIMS", (13, 15), (0, 15), "54614-3"),
    _score("72173-8", "BOMC", (0, 10), (0, 28)),
    _score("71722-3", "AD8", (0, 1), (0, 8)),
    # CDR 0 is normal and 0.5 is not; the limit between them gives the range a width.
    _score("72088-8", "CDR global", (0, 0.25), (0, 3)),
    _score("44261-6", "PHQ-9", (0, 4), (0, 27), cognitive=False),
    _score("55758-7", "PHQ-2", (0, 2), (0, 6), cognitive=False),
    _score("70274-6", "GAD-7", (0, 4), (0, 21), cognitive=False),
    _score("48545-8", "GDS-15", (0, 4), (0, 15), cognitive=False),
    _score("48544-1", "GDS-30", (0, 9), (0, 30), cognitive=False),
    _score("75626-2", "AUDIT-C", (0, 3), (0, 12), cognitive=False),
)
# fmt: on

ANALYTE_INDEX: dict[str, int] = {entry.loinc: row for row, entry in enumerate(ANALYTES)}

_BY_CODE = {code: entry for entry in ANALYTES for code in (entry.loinc, *entry.synonyms)}
_MICRO = re.compile("^mc(?=g)|[µμ]")
_TIMES = re.compile("^[xX×] ?(?=10)")
_SMALL_LITRE = re.compile(r"(?<![A-Za-z])([dmunpf]?)l\b")


def analyte(loinc: str) -> Analyte | None:
    """Find an analyte by its LOINC code or a synonym's; None where we have no use for it.

    Example:
        >>> analyte("2339-0").name
        'Glucose'
    """
    return _BY_CODE.get(loinc)


def convert(loinc: str, value: Number, unit: str) -> float:
    """Convert a value to the canonical unit of its analyte.

    Args:
        loinc: LOINC code of the analyte or a synonym.
        value: The number as sent.
        unit: The unit as sent: UCUM, or one of the usual other spellings.

    Returns:
        The value in `Analyte.unit`.

    Raises:
        UnitError: The analyte or the unit is not in the table.

    Example:
        >>> round(convert("2345-7", 5.5, "mmol/L"), 1)
        99.1
    """
    entry = analyte(loinc)
    if entry is None:
        raise UnitError(f"LOINC {loinc} is not in clinical.units.ANALYTES; add it there to use it")
    spelled = _tidy(unit)
    if spelled not in entry.factors:
        raise UnitError(
            f"LOINC {loinc} is in {unit[:20]!r}, which has no conversion to {entry.unit!r}; "
            f"correct the export or add the factor to clinical.units.ANALYTES"
        )
    return value * entry.factors[spelled] + entry.offsets.get(spelled, 0.0)


def _tidy(unit: str) -> str:
    """Spell micro as u and litre as L, as the table does, and drop a leading times sign."""
    plain = _MICRO.sub("u", _TIMES.sub("", unit.strip()))
    return _SMALL_LITRE.sub(r"\1L", plain)
