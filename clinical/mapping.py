"""What the columns of a table mean: a TOML file that a site writes once for each of its tables.

A mapping names columns, codes, units and words, and holds nothing of any patient. What a column
without a LOINC code measures is described in words and by its usual range.
"""

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from clinical.record import ReferenceRange, Sex
from clinical.units import UnitError, analyte, convert

MISSING = ("", "n/a", "N/A")  # BIDS writes n/a
FactKind = Literal["observation", "condition", "medication"]


class MappingError(ValueError):
    """A mapping that cannot be used; the message names the file, the entry and what to do."""


@dataclass(frozen=True)
class _Strict:
    """Refuse a field that does not exist: it is a slip of the pen."""

    __pydantic_config__ = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class TimeColumn(_Strict):
    """When a row was written down; one of the first three.

    Attributes:
        date: Column of a calendar date.
        days: Column of days since the person's first visit.
        visit: Column of the visit's number, from 1.
        days_between_visits: How far visits lie apart, where only their number is known.
        format: Of `date`, as Python's strptime has it; ISO 8601 where empty.
    """

    date: str = ""
    days: str = ""
    visit: str = ""
    days_between_visits: float | None = None
    format: str = ""

    @property
    def column(self) -> str:
        """The column that tells the time."""
        return self.date or self.days or self.visit


@dataclass(frozen=True)
class SexColumn(_Strict):
    """The column of the sex and what its values mean."""

    column: str
    values: Mapping[str, Sex]


@dataclass(frozen=True)
class AnalyteColumn(_Strict):
    """A number that `clinical.units` knows.

    Attributes:
        column: Its column.
        loinc: Its code, or a synonym's.
        unit: The column's unit; the canonical one where None.
        low: Lower limit of the site's own reference range, in `unit`.
        high: Upper limit.
        missing: Cells that mean nothing here, besides those of the table.
    """

    column: str
    loinc: str
    unit: str | None = None
    low: float | None = None
    high: float | None = None
    missing: tuple[str, ...] = ()

    @property
    def reference(self) -> ReferenceRange | None:
        """The site's own range in the canonical unit."""
        if self.low is None and self.high is None:
            return None
        return ReferenceRange(*(None if v is None else self.canonical(v) for v in self.limits))

    @property
    def limits(self) -> tuple[float | None, float | None]:
        """Lower and upper limit as the file has them."""
        return self.low, self.high

    def canonical(self, value: float) -> float:
        """A value in the analyte's canonical unit.

        Raises:
            UnitError: The code or the unit is unknown.
        """
        known = analyte(self.loinc)
        unit = known.unit if self.unit is None and known is not None else self.unit
        return convert(self.loinc, value, unit or "")


@dataclass(frozen=True)
class NumberColumn(_Strict):
    """A number without a code.

    Attributes:
        column: Its column.
        name: What it is, in words that the text encoder reads.
        low: Lower end of its usual range; it is what gives the number a scale.
        high: Upper end.
        unit: For the physician's eyes.
        minimum: Below it a cell is unusable.
        maximum: Above it likewise.
        missing: Cells that mean nothing here, besides those of the table.
    """

    column: str
    name: str
    low: float
    high: float
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class FactColumn(_Strict):
    """A column of categories.

    Attributes:
        column: Its column.
        values: What each cell means, in words; empty where it says that there is nothing.
        name: What is told of, such as ``Chest pain``; conditions and drugs need none.
        kind: ``observation`` (name and finding), ``condition`` or ``medication``.
        system: FHIR URI of `codes`.
        codes: Code of a value, where it has one.
        missing: Cells that mean nothing here, besides those of the table.
    """

    column: str
    values: Mapping[str, str]
    name: str = ""
    kind: FactKind = "observation"
    system: str = ""
    codes: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class DiagnosisColumn(_Strict):
    """A column of known diagnoses: which keys of the scheme each value stands for."""

    column: str
    values: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class TableMapping(_Strict):
    """What a table's columns mean.

    Attributes:
        title: Of the table, for messages and reports.
        patient: Column that tells persons apart; without one every row is a person.
        columns: Names of the columns, for a table whose first line is already a patient.
        cases: ``visit``: a case for each row, with the person's course up to it; ``person``: one
            case with the whole course and the diagnoses of the last row.
        missing: Cells that mean nothing is known.
        delimiter: Between cells; empty for a tab in ``.tsv`` and a comma elsewhere.
        decimal: The decimal sign.
        encoding: Of the text.
        age: Column of the age in years.
        education: Column of the years of schooling.
        time: When a row was written down.
        sex: The column of the sex.
        analyte: Numbers with a LOINC code.
        number: Numbers without one.
        fact: Categories.
        diagnosis: Known diagnoses; they never enter the record.
    """

    title: str = ""
    patient: str = ""
    columns: tuple[str, ...] = ()
    cases: Literal["visit", "person"] = "visit"
    missing: tuple[str, ...] = MISSING
    delimiter: str = ""
    decimal: Literal[".", ","] = "."
    encoding: str = "utf-8-sig"
    age: str = ""
    education: str = ""
    time: TimeColumn = field(default_factory=TimeColumn)
    sex: SexColumn | None = None
    analyte: tuple[AnalyteColumn, ...] = ()
    number: tuple[NumberColumn, ...] = ()
    fact: tuple[FactColumn, ...] = ()
    diagnosis: tuple[DiagnosisColumn, ...] = ()

    @property
    def measured(self) -> tuple[AnalyteColumn | NumberColumn | FactColumn, ...]:
        """What becomes observations, conditions and drugs."""
        return (*self.analyte, *self.number, *self.fact)

    @property
    def used(self) -> tuple[str, ...]:
        """Every column that something is read from, once."""
        single = [self.patient, self.time.column, self.age, self.education]
        several = [self.sex] if self.sex else []
        columns = (entry.column for entry in (*several, *self.measured, *self.diagnosis))
        return tuple(dict.fromkeys(filter(None, (*single, *columns))))

    def without(self, *columns: str) -> "TableMapping":
        """The same mapping, leaving out some measured columns.

        Raises:
            MappingError: A column is not among them.
        """
        unknown = set(columns) - {entry.column for entry in self.measured}
        if unknown:
            raise MappingError(
                f"{sorted(unknown)} cannot be left out: no analyte, number or fact is read from it"
            )
        kept: dict[str, tuple[object, ...]] = {
            part: tuple(e for e in getattr(self, part) if e.column not in columns)
            for part in ("analyte", "number", "fact")
        }
        return replace(self, **kept)  # type: ignore[arg-type]


_MAPPING = TypeAdapter(TableMapping)


def load_mapping(path: Path) -> TableMapping:
    """Read a mapping.

    Args:
        path: TOML with the fields of `TableMapping`.

    Raises:
        MappingError: The file cannot be read, a field is unknown or wrong, a code or unit is not
            in `clinical.units`, or a column has two meanings.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MappingError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MappingError(f"{path} is not TOML: {error}") from None
    try:
        mapping = _MAPPING.validate_python(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise MappingError(f"{path}: {where}: {first['msg']}") from None
    for problem in _problems(mapping):
        raise MappingError(f"{path}: {problem}")
    return mapping


def _problems(mapping: TableMapping) -> Iterator[str]:
    """What is wrong with a mapping although each of its fields is well formed."""
    if not mapping.measured and not (mapping.sex or mapping.age or mapping.education):
        yield "nothing is read from the table; give [[analyte]], [[number]] or [[fact]] entries"
    told = Counter(entry.column for entry in mapping.measured)
    told.update(entry.column for entry in mapping.diagnosis)
    twice = sorted(column for column, n in told.items() if n > 1)
    if twice:
        yield f"{twice} have two meanings; a diagnosis that is also evidence gives itself away"
    yield from _time_problems(mapping)
    for entry in mapping.analyte:
        yield from _analyte_problems(entry)
    for number in mapping.number:
        if not number.low < number.high:
            yield f"number {number.column!r}: low must be below high"
    for fact in mapping.fact:
        if fact.kind == "observation" and not fact.name:
            yield f"fact {fact.column!r}: an observation needs a name, such as 'Chest pain'"
        if set(fact.codes) - set(fact.values):
            yield f"fact {fact.column!r}: codes name a value that values does not have"


def _time_problems(mapping: TableMapping) -> Iterator[str]:
    """What is wrong with the time of the rows."""
    time = mapping.time
    if len([column for column in (time.date, time.days, time.visit) if column]) > 1:
        yield "time: give one of date, days and visit"
    if bool(time.visit) != (time.days_between_visits is not None):
        yield "time: visit and days_between_visits go together; visits alone have no time"
    if mapping.cases == "person" and not mapping.patient:
        yield "cases = 'person' needs a patient column"


def _analyte_problems(entry: AnalyteColumn) -> Iterator[str]:
    """What is wrong with an analyte."""
    where = f"analyte {entry.column!r}"
    if analyte(entry.loinc) is None:
        yield (
            f"{where}: LOINC {entry.loinc} is not in clinical.units.ANALYTES; "
            "describe it under [[number]], with its usual range"
        )
        return
    try:
        entry.canonical(1.0)
    except UnitError as error:
        yield f"{where}: {error}"
    if entry.low is not None and entry.high is not None and not entry.low < entry.high:
        yield f"{where}: low must be below high"
