"""A table of patients becomes records by a `TableMapping`, with a report of every row and column.

A row that cannot be trusted costs that row, a cell that cannot be read costs that cell. Messages
name lines and columns, never a value; the names of columns are told only once the columns of
the mapping were found, since the first line of a table without a header is a patient.
"""

import csv
import datetime as dt
import io
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from types import MappingProxyType

from clinical.cells import Cells, RowError, RowRefusal, TableReport, Tally, plain
from clinical.mapping import AnalyteColumn, FactColumn, NumberColumn, TableMapping
from clinical.record import (
    LOCAL,
    Coding,
    Condition,
    Medication,
    Observation,
    PatientRecord,
    ReferenceRange,
    Sex,
)
from clinical.units import analyte

MAX_BYTES = 256 * 2**20
MOST_DAYS = 50_000  # between a person's first visit and another
# Where a table tells no calendar dates, times are counted from a day that nobody takes for real.
NO_DAY = dt.date(1900, 1, 1)
NO_DAY_REMARK = f"the table has no calendar dates; times are counted from {NO_DAY.isoformat()}"

_Entry = Observation | Condition | Medication


class TableError(ValueError):
    """A table that cannot be read at all; the message says what and where, and quotes no cell."""


@dataclass(frozen=True)
class TableCase:
    """One case of a table.

    Attributes:
        record: What the table says of the patient at that time.
        diagnoses: Known label keys, kept out of the record; None where unknown.
        lines: Of the table it was read from; the last is the case's own.
    """

    record: PatientRecord
    diagnoses: tuple[str, ...] | None
    lines: tuple[int, ...]


@dataclass(frozen=True)
class _Row:
    """One row, read."""

    line: int
    patient: str
    day: dt.date
    age: float | None
    sex: Sex | None
    education: float | None
    entries: tuple[_Entry, ...]
    diagnoses: tuple[str, ...] | None


def read_table(
    raw: bytes, mapping: TableMapping, name: str
) -> tuple[tuple[TableCase, ...], TableReport]:
    """Read a table.

    Args:
        raw: Bytes of a CSV or TSV file.
        mapping: What its columns mean.
        name: Its file's name; ``.tsv`` is separated by tabs.

    Returns:
        The cases, in the order of their last lines, and what became of each row and column. The
        same bytes and mapping give equal cases.

    Raises:
        TableError: The file is no table, or a column of the mapping is not in it.
    """
    lines = _lines(raw, mapping, name)
    columns = _columns(lines, mapping)
    tally, refused = Tally(), []
    persons: dict[str, list[_Row]] = defaultdict(list)
    for line, cells in lines:
        counted = Tally()  # of a row that is refused, no cell was used
        try:
            if len(cells) != len(columns):
                raise RowError("", f"has {len(cells)} cells, the table {len(columns)} columns")
            texts = dict(zip(columns, cells, strict=True))
            row = _row(Cells(line, texts, mapping, counted), PurePath(name).stem)
            _check_beside(row, persons[row.patient], mapping)
            persons[row.patient].append(row)
            tally.add(counted)
        except RowError as error:
            refused.append(RowRefusal(line, error.column, error.rule))
    cases = [case for rows in persons.values() for case in _cases(rows, mapping)]
    report = TableReport(
        accepted=sum(map(len, persons.values())),
        refused=tuple(refused),
        used=MappingProxyType(tally.used),
        missing=MappingProxyType(tally.missing),
        unusable=MappingProxyType(tally.unusable),
        first_lines=MappingProxyType(tally.first_lines),
        ignored=tuple(column for column in columns if column not in mapping.used),
        remarks=() if mapping.time.date else (NO_DAY_REMARK,),
    )
    return tuple(sorted(cases, key=lambda case: case.lines[-1])), report


def _lines(raw: bytes, mapping: TableMapping, name: str) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of every line that is not empty.

    Raises:
        TableError: It is too large, not text of the encoding, or its quotation marks do not close.
    """
    if len(raw) > MAX_BYTES:
        raise TableError(f"{len(raw)} bytes are more than {MAX_BYTES}; split the table")
    try:
        text = raw.decode(mapping.encoding)
    except (UnicodeDecodeError, LookupError):
        raise TableError(
            f"is not text in {mapping.encoding}; save it as UTF-8 or name its encoding in the "
            "mapping"
        ) from None
    delimiter = mapping.delimiter or ("\t" if name.lower().endswith(".tsv") else ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise TableError(f"line {reader.line_num} is no line of a table: {error}") from None


def _columns(lines: Iterator[tuple[int, list[str]]], mapping: TableMapping) -> tuple[str, ...]:
    """Names of the columns, from the mapping or the first line.

    Raises:
        TableError: One that the mapping reads is not there, or there are two of it.
    """
    first = mapping.columns or next(lines, (0, []))[1]
    columns = tuple(column.strip() for column in first)
    absent = [column for column in mapping.used if column not in columns]
    if absent:
        raise TableError(
            f"has no columns {absent}, which the mapping reads; correct the mapping, or list the "
            "columns in it where the first line of the table is already a patient"
        )
    twice = [column for column in mapping.used if columns.count(column) > 1]
    if twice:
        raise TableError(f"has the columns {twice} twice; rename or remove one")
    return columns


def _row(cells: Cells, table: str) -> _Row:
    """Read one row.

    Raises:
        RowError: It is uncertain whose it is or of which time.
    """
    mapping = cells.mapping
    day = _day(cells)
    patient = cells.text(mapping.patient)
    if mapping.patient and patient is None:
        raise RowError(mapping.patient, "names no patient")
    if patient is not None:
        cells.tally.used[mapping.patient] += 1
    sex = cells.meaning(mapping.sex.column, mapping.sex.values) if mapping.sex else None
    entries = tuple(
        entry for column in mapping.measured if (entry := _entry(column, cells, day)) is not None
    )
    return _Row(
        cells.line,
        f"{table}/{patient or cells.line}",
        day,
        cells.number(mapping.age),
        sex,
        cells.number(mapping.education),
        entries,
        _diagnoses(cells),
    )


def _day(cells: Cells) -> dt.date:
    """The day of a row; `NO_DAY` and what it is later than that, where there are no dates.

    Raises:
        RowError: Its time cannot be read.
    """
    time = cells.mapping.time
    if not time.column:
        return NO_DAY
    if time.date:
        day = _calendar_day(cells.text(time.date) or "", time.format)
        if day is None:
            raise RowError(time.date, "is not a date")
        cells.tally.used[time.date] += 1
        return day
    number = cells.number(time.column)
    if number is not None and time.visit:
        number = (number - 1) * (time.days_between_visits or 0.0)
    if number is None or not 0 <= number <= MOST_DAYS:
        raise RowError(time.column, "is not a time that a visit can have")
    return NO_DAY + dt.timedelta(days=round(number))


def _calendar_day(text: str, layout: str) -> dt.date | None:
    """A date as written in a cell."""
    try:
        if layout:
            return dt.datetime.strptime(text, layout).date()
        return dt.date.fromisoformat(text[:10])
    except ValueError:
        return None


def _entry(
    column: AnalyteColumn | NumberColumn | FactColumn, cells: Cells, day: dt.date
) -> _Entry | None:
    """What one cell states; None where it states nothing."""
    if isinstance(column, FactColumn):
        return _fact(column, cells, day)
    value = cells.number(column.column, column.missing)
    if value is None:
        return None
    if isinstance(column, NumberColumn):
        return _own_number(column, value, cells, day)
    known = analyte(column.loinc)
    assert known is not None  # `load_mapping` saw to it
    return Observation(
        column.column, known.loinc, known.name, column.canonical(value), known.unit,
        column.reference, day,
    )  # fmt: skip


def _own_number(
    column: NumberColumn, value: float, cells: Cells, day: dt.date
) -> Observation | None:
    """A number without a LOINC code, unless nobody can have it."""
    floor = -math.inf if column.minimum is None else column.minimum
    ceiling = math.inf if column.maximum is None else column.maximum
    if not floor <= value <= ceiling:
        cells.tally.used[column.column] -= 1
        cells.unusable(column.column, "lies beyond the mapping's minimum or maximum")
        return None
    return Observation(
        column.column, LOCAL + column.column, column.name, value, column.unit,
        ReferenceRange(column.low, column.high), day,
    )  # fmt: skip


def _fact(column: FactColumn, cells: Cells, day: dt.date) -> _Entry | None:
    """A category as a finding, a condition or a drug."""
    key = column.column
    text = cells.meaning(key, column.values, column.missing)
    if not text:
        return None
    if column.kind == "observation":
        return Observation(key, LOCAL + key, column.name, None, "", date=day, text=text)
    codes = {plain(value): code for value, code in column.codes.items()}
    code = codes.get(plain(cells.texts[key].strip()), "")
    coding = Coding(column.system if code else "", code or f"{LOCAL}{key}", text)
    if column.kind == "condition":
        return Condition(key, coding, "active", day)
    return Medication(key, coding, "active", day)


def _diagnoses(cells: Cells) -> tuple[str, ...] | None:
    """Known label keys; None where a column of them says nothing."""
    columns = cells.mapping.diagnosis
    known = [cells.meaning(column.column, column.values) for column in columns]
    if not known or None in known:
        return None
    return tuple(dict.fromkeys(key for keys in known for key in keys or ()))


def _check_beside(row: _Row, others: Sequence[_Row], mapping: TableMapping) -> None:
    """Hold a row against the other rows of its person.

    Raises:
        RowError: Both cannot be true.
    """
    if any(other.day == row.day for other in others):
        time = mapping.time.column
        rule = "is a second row of one person and time" if time else (
            "is a second row of one person; name the column of the time in the mapping"
        )  # fmt: skip
        raise RowError(time or mapping.patient, rule)
    sexes = {other.sex for other in others} - {None}
    if row.sex and sexes and row.sex not in sexes and mapping.sex:
        raise RowError(mapping.sex.column, "differs from another row of the same person")


def _cases(rows: Sequence[_Row], mapping: TableMapping) -> Iterator[TableCase]:
    """The cases of one person."""
    ordered = sorted(rows, key=lambda row: row.day)
    ends = range(1, len(ordered) + 1) if mapping.cases == "visit" else [len(ordered)]
    for end in ends:
        course = ordered[:end]
        lines = tuple(row.line for row in course)
        yield TableCase(_record(course), course[-1].diagnoses, lines)


def _record(course: Sequence[_Row]) -> PatientRecord:
    """What is known of a person after some visits, in their order."""
    last = course[-1]
    entries = [
        _numbered(entry, visit) for visit, row in enumerate(course, 1) for entry in row.entries
    ]
    return PatientRecord(
        patient_id=last.patient,
        sex=next((row.sex for row in reversed(course) if row.sex), "unknown"),
        education_years=next(
            (row.education for row in reversed(course) if row.education is not None), None
        ),
        observations=tuple(entry for entry in entries if isinstance(entry, Observation)),
        conditions=tuple(entry for entry in entries if isinstance(entry, Condition)),
        medications=tuple(entry for entry in entries if isinstance(entry, Medication)),
        stated_age_years=last.age,
    )


def _numbered(entry: _Entry, visit: int) -> _Entry:
    """An entry whose id tells column and visit, and no line: lines move when a table grows."""
    return replace(entry, id=f"{entry.id}.{visit}")
