"""The cells of a table: what one says, what it cannot say, and the count of both.

No message quotes a cell; it names the line and the column.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from clinical.mapping import TableMapping

SHOWN_REFUSALS = 20

_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
T = TypeVar("T")


class RowError(ValueError):
    """One row that cannot be trusted: column and rule."""

    def __init__(self, column: str, rule: str) -> None:
        super().__init__(f"{column}: {rule}")
        self.column, self.rule = column, rule


@dataclass(frozen=True)
class RowRefusal:
    """One row that was not taken over: its line, the column at fault, the rule it breaks."""

    line: int
    column: str
    rule: str

    def __str__(self) -> str:
        """One line for a report."""
        where = f", column {self.column}" if self.column else ""
        return f"line {self.line}{where}: {self.rule}"


@dataclass(frozen=True)
class TableReport:
    """What became of every row and every column.

    Attributes:
        accepted: Rows.
        refused: Rows that cannot be trusted.
        used: Cells that something was read from, by column.
        missing: Cells that say nothing, by column.
        unusable: Cells that say something that cannot be read, by column and reason.
        first_lines: Where the first such cell stands.
        ignored: Columns that the mapping does not mention.
        remarks: What else there is to know.
    """

    accepted: int = 0
    refused: tuple[RowRefusal, ...] = ()
    used: Mapping[str, int] = field(default_factory=dict)
    missing: Mapping[str, int] = field(default_factory=dict)
    unusable: Mapping[tuple[str, str], int] = field(default_factory=dict)
    first_lines: Mapping[tuple[str, str], int] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def summary(self) -> tuple[str, ...]:
        """Lines to print; no patient's value is in them."""
        columns = list(dict.fromkeys((*self.used, *self.missing)))
        columns += [c for c, _ in self.unusable if c not in columns]
        more = len(self.refused) - SHOWN_REFUSALS
        return (
            f"{self.accepted} rows accepted, {len(self.refused)} refused",
            *(f"  refused  {refusal}" for refusal in self.refused[:SHOWN_REFUSALS]),
            *([f"  refused  {more} more"] if more > 0 else []),
            *(self._column(column) for column in columns),
            *([f"  ignored columns: {', '.join(self.ignored)}"] if self.ignored else []),
            *(f"  {remark}" for remark in self.remarks),
        )

    def _column(self, column: str) -> str:
        """One column in one line."""
        line = f"  column {column}: {self.used.get(column, 0)} used"
        if self.missing.get(column):
            line += f", {self.missing[column]} missing"
        for (name, rule), n in self.unusable.items():
            if name == column:
                line += f", {n} unusable ({rule}, first in line {self.first_lines[name, rule]})"
        return line


@dataclass
class Tally:
    """Counts cells while rows are read."""

    used: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    unusable: Counter[tuple[str, str]] = field(default_factory=Counter)
    first_lines: dict[tuple[str, str], int] = field(default_factory=dict)

    def add(self, row: "Tally") -> None:
        """Count the cells of a row that was accepted."""
        self.used += row.used
        self.missing += row.missing
        self.unusable += row.unusable
        for cell, line in row.first_lines.items():
            self.first_lines.setdefault(cell, line)


@dataclass(frozen=True)
class Cells:
    """The cells of one row, by column."""

    line: int
    texts: Mapping[str, str]
    mapping: TableMapping
    tally: Tally

    def text(self, column: str, missing: Sequence[str] = ()) -> str | None:
        """What a cell says; None where it says nothing, which is counted."""
        if not column:
            return None
        text = self.texts[column].strip()
        if plain(text) in {plain(word) for word in (*self.mapping.missing, *missing)}:
            self.tally.missing[column] += 1
            return None
        return text

    def number(self, column: str, missing: Sequence[str] = ()) -> float | None:
        """A cell as a number; None where there is none, which is counted."""
        text = self.text(column, missing)
        if text is None:
            return None
        spelled = text.replace(",", ".") if self.mapping.decimal == "," else text
        value = float(spelled) if _NUMBER.fullmatch(spelled) else math.inf
        if not math.isfinite(value):
            self.unusable(column, "is not a number")
            return None
        self.tally.used[column] += 1
        return value

    def meaning(
        self, column: str, values: Mapping[str, T], missing: Sequence[str] = ()
    ) -> T | None:
        """What a cell's value stands for; None where the mapping does not say, which is counted."""
        text = self.text(column, missing)
        if text is None:
            return None
        found = {plain(value): meaning for value, meaning in values.items()}
        if plain(text) not in found:
            self.unusable(column, "is not among the mapping's values")
            return None
        self.tally.used[column] += 1
        return found[plain(text)]

    def unusable(self, column: str, rule: str) -> None:
        """Count a cell that cannot be read."""
        self.tally.unusable[column, rule] += 1
        self.tally.first_lines.setdefault((column, rule), self.line)


def plain(text: str) -> str:
    """One spelling of each whole number, so that ``1.0`` is ``1``; other words stay.

    Example:
        >>> [plain(text) for text in ("1.0", "-9", "0.50", "F", "007")]
        ['1', '-9', '0.5', 'F', '7']
    """
    if not _NUMBER.fullmatch(text):
        return text
    value = float(text)
    return str(int(value)) if value.is_integer() else repr(value)
