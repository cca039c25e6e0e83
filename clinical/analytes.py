"""What one row of the table of analytes says, and the words the table is written in.

The table itself is `clinical.analyte_table`; `clinical.units` looks things up in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

Number = float | int
Bounds = tuple[Number | None, Number | None]
Factors = Mapping[str, float]
ByAge = Mapping[int, Bounds]  # from this age on, in years

LOCAL_CODE = "X-"  # begins the code of what has no LOINC that we could verify
# Canonical units of what has a floor and a ceiling: a test sheet, a yes or no, a count of alleles.
SCALES = frozenset({"{score}", "{result}", "{alleles}"})


@dataclass(frozen=True)
class Range:
    """Normal values of some people, in the analyte's unit.

    Attributes:
        low: Lower limit; None where open.
        high: Upper limit; None where open.
        sex: Whom it is for; None for both.
        from_age: Years from which on it is valid, until the next range of the same sex begins.
    """

    low: float | None
    high: float | None
    sex: Literal["female", "male"] | None = None
    from_age: float = 0.0


@dataclass(frozen=True)
class Analyte:
    """One analyte or score in its canonical unit.

    Attributes:
        loinc: The LOINC code that stands for all its `synonyms`; begins with `LOCAL_CODE` where
            LOINC has none that we could verify.
        name: Short English name.
        unit: Canonical UCUM unit.
        ranges: Reference ranges of adults, the younger first; empty where there is none.
        plausible: Smallest and largest value a living patient or a test sheet can have.
        source: Where the ranges are from: a key of `clinical.range_sources.SOURCES`.
        cognitive: True for a test of cognition, which is close to the diagnosis itself.
        synonyms: Other LOINC codes of the same analyte: other specimen, method or property.
        factors: Value in a unit times its factor is the value in `unit`.
        offsets: Added after the factor, for the few units with another zero.
        answers: What a coded or written answer means as a number; see `clinical.answers`.
    """

    loinc: str
    name: str
    unit: str
    ranges: tuple[Range, ...]
    plausible: tuple[float, float]
    source: str
    cognitive: bool = False
    synonyms: tuple[str, ...] = ()
    factors: Factors = field(default_factory=dict)
    offsets: Factors = field(default_factory=dict)
    answers: Factors = field(default_factory=dict)

    @property
    def is_scale(self) -> bool:
        """Whether its values have a floor and a ceiling, as those of a test sheet."""
        return self.unit in SCALES


# Spellings of one canonical unit and its relatives; the first is canonical.
G_DL = {"g/dL": 1.0, "g/L": 0.1, "mg/dL": 0.001, "g%": 1.0}
MG_DL = {"mg/dL": 1.0, "g/L": 100.0, "mg/L": 0.1, "ug/mL": 0.1, "mg%": 1.0}
MG_L = {"mg/L": 1.0, "mg/dL": 10.0, "ug/mL": 1.0}
UG_DL = {"ug/dL": 1.0, "ug/L": 0.1, "ng/mL": 0.1, "mg/L": 100.0}
NG_ML = {"ng/mL": 1.0, "ug/L": 1.0, "ng/dL": 0.01, "ug/dL": 10.0}
PG_ML = {"pg/mL": 1.0, "ng/L": 1.0, "ng/mL": 1000.0, "ug/L": 1000.0, "ng/dL": 10.0}
UMOL_L = {"umol/L": 1.0, "nmol/mL": 1.0, "nmol/L": 0.001}
MMOL_L = {"mmol/L": 1.0, "meq/L": 1.0, "mEq/L": 1.0}
U_L = {"U/L": 1.0, "[IU]/L": 1.0, "IU/L": 1.0, "ukat/L": 60.0}
IU_ML = {"[IU]/mL": 1.0, "k[IU]/L": 1.0, "IU/mL": 1.0, "kIU/L": 1.0, "U/mL": 1.0}
PERCENT = {"%": 1.0, "L/L": 100.0, "1": 100.0}
COUNT = {"10*3/uL": 1.0, "10*9/L": 1.0, "10^3/uL": 1.0, "10^9/L": 1.0, "10E9/L": 1.0}
COUNT |= {"K/uL": 1.0, "/nL": 1.0, "G/L": 1.0, "/uL": 0.001, "10*3/mm3": 1.0, "10E3/uL": 1.0}
RED = {"10*6/uL": 1.0, "10*12/L": 1.0, "10^6/uL": 1.0, "10^12/L": 1.0, "10E12/L": 1.0}
RED |= {"10E6/uL": 1.0, "M/uL": 1.0, "/pL": 1.0, "T/L": 1.0}
TSH = {"m[IU]/L": 1.0, "u[IU]/mL": 1.0, "mIU/L": 1.0, "uIU/mL": 1.0, "mU/L": 1.0, "uU/mL": 1.0}
# These LOINC codes are by definition per 1.73 m2, also where the unit leaves that out.
EGFR = {"mL/min/{1.73_m2}": 1.0, "mL/min/1.73.m2": 1.0, "mL/min/{1.73m2}": 1.0, "mL/min": 1.0}
EGFR |= {"mL/min/1.73_m2": 1.0, "mL/min/1.73m2": 1.0, "mL/min/1.73 m2": 1.0, "mL/min/1.73m*2": 1.0}
PRESSURE = {"mm[Hg]": 1.0, "mmHg": 1.0, "mm Hg": 1.0, "kPa": 7.50062}
RATE = {"/min": 1.0, "{beats}/min": 1.0, "bpm": 1.0, "1/min": 1.0}
SECONDS = {"s": 1.0, "sec": 1.0, "min": 60.0, "ms": 0.001}
RATIO = {"1": 1.0, "": 1.0, "{ratio}": 1.0, "{Ratio}": 1.0, "ratio": 1.0}
WORDS = {"{words}": 1.0, "": 1.0, "1": 1.0, "{#}": 1.0, "{count}": 1.0, "words": 1.0}
VESSELS = {"{vessels}": 1.0, "": 1.0, "1": 1.0, "{#}": 1.0, "{count}": 1.0}
TITER = {"{titer}": 1.0, "": 1.0, "1": 1.0, "titer": 1.0}
SCORE = {"{score}": 1.0, "": 1.0, "1": 1.0, "score": 1.0, "(score)": 1.0, "points": 1.0}
SCORE |= {"{points}": 1.0, "{Points}": 1.0, "分": 1.0}
RESULT = {"{result}": 1.0, "": 1.0, "1": 1.0}
ALLELES = {"{alleles}": 1.0, "": 1.0, "1": 1.0}


def by_age(limits: ByAge, sex: Literal["female", "male"] | None = None) -> tuple[Range, ...]:
    """Ranges that change with age.

    Example:
        >>> by_age({0: (0, 15), 65: (0, 20)})[1]
        Range(low=0.0, high=20.0, sex=None, from_age=65.0)
    """
    return tuple(
        Range(_float(low), _float(high), sex, float(age))
        for age, (low, high) in sorted(limits.items())
    )


def _float(limit: Number | None) -> float | None:
    return None if limit is None else float(limit)


def by_sex(female: Bounds | ByAge, male: Bounds | ByAge) -> tuple[Range, ...]:
    """Ranges of women and men, each perhaps by age, too."""
    women = female if isinstance(female, Mapping) else {0: female}
    men = male if isinstance(male, Mapping) else {0: male}
    return by_age(women, "female") + by_age(men, "male")


def lab(
    loinc: str,
    name: str,
    reference: Bounds | tuple[Range, ...],
    plausible: tuple[Number, Number],
    units: Factors,
    source: str,
    synonyms: str = "",
    more: Factors | None = None,
    *,
    offsets: Factors | None = None,
    answers: Factors | None = None,
    cognitive: bool = False,
) -> Analyte:
    """A row of the table: `more` holds the conversions that depend on the substance."""
    return Analyte(
        loinc=loinc,
        name=name,
        unit=next(iter(units)),
        ranges=_ranges(reference),
        plausible=(float(plausible[0]), float(plausible[1])),
        source=source,
        cognitive=cognitive,
        synonyms=tuple(synonyms.split()),
        factors=MappingProxyType({**units, **(more or {})}),
        offsets=MappingProxyType({**(offsets or {})}),
        answers=MappingProxyType({**(answers or {})}),
    )


def score(
    loinc: str,
    name: str,
    reference: Bounds | tuple[Range, ...],
    plausible: tuple[Number, Number],
    source: str,
    synonyms: str = "",
    *,
    cognitive: bool = True,
) -> Analyte:
    """A row of the table for a test or questionnaire."""
    return lab(loinc, name, reference, plausible, SCORE, source, synonyms, cognitive=cognitive)


def finding(
    loinc: str,
    name: str,
    source: str,
    answers: Factors,
    synonyms: str = "",
    units: Factors = RESULT,
) -> Analyte:
    """A row of the table for a yes or no: 1 is yes, and normal is no."""
    top = 2 if units is ALLELES else 1
    return lab(loinc, name, (0, 0.5), (0, top), units, source, synonyms, answers=answers)


def _ranges(reference: Bounds | tuple[Range, ...]) -> tuple[Range, ...]:
    """One range for everybody, or the ranges as they are; none where both sides are open."""
    ranges = tuple(part for part in reference if isinstance(part, Range))
    limits = tuple(part for part in reference if not isinstance(part, Range))
    if ranges or limits == (None, None):
        return ranges
    low, high = limits
    return by_age({0: (low, high)})
