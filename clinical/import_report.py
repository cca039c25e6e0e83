"""What became of every entry of an import: accepted, ignored or refused, why, how many, where.

A report carries element names, codes, units, positions and lines, never a patient's value.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

Place = tuple[str, int]  # file and line of an entry; the file is empty for a position in a bundle

MOST_PLACES = 12  # runs of entries that a summary line names; the report has them all


@dataclass(frozen=True)
class Remark:
    """Something about one entry.

    Attributes:
        entry: Position in the bundle, from 0; -1 for the bundle itself.
        resource_type: FHIR type of its resource.
        path: Element at fault, as in ``valueQuantity.value``.
        rule: What it breaks.
        source: File and line that it came from, where that was no bundle.
    """

    entry: int
    resource_type: str
    path: str
    rule: str
    source: str = ""

    def __str__(self) -> str:
        """One line: where, what, why."""
        where = self.source or (f"entry {self.entry}" if self.entry >= 0 else "all of it")
        return f"{where}: {'.'.join(filter(None, (self.resource_type, self.path)))} {self.rule}"


@dataclass(frozen=True)
class Refusal(Remark):
    """One entry that could not be taken over."""


@dataclass(frozen=True)
class ImportReport:
    """What became of every entry: accepted, ignored or refused.

    Attributes:
        accepted: Entries by resource type.
        ignored: Entries we have no use for, by resource type and reason.
        refused: Entries that are broken or uncertain.
        remarks: What was left out of entries that were accepted all the same.
        ignored_at: Where the ignored entries are, by the same keys as `ignored`.
    """

    accepted: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    refused: tuple[Refusal, ...] = ()
    remarks: tuple[Remark, ...] = ()
    ignored_at: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All entries."""
        return self.accepted.total() + self.ignored.total() + len(self.refused)

    def summary(self) -> tuple[str, ...]:
        """Lines to print; no patient's value is in them."""
        totals = self.accepted.total(), self.ignored.total(), len(self.refused)
        head = "{} entries accepted, {} ignored, {} refused".format(*totals)
        if self.remarks:
            head += f", {len(self.remarks)} remarks"
        accepted = [f"  accepted {n:5d}  {kind}" for kind, n in sorted(self.accepted.items())]
        ignored = [
            f"  ignored  {n:5d}  {kind}{_at(self.ignored_at.get(kind, ''))}"
            for kind, n in sorted(self.ignored.items())
        ]
        refused = [f"  refused  {refusal}" for refusal in self.refused]
        remarks = [f"  remark   {remark}" for remark in self.remarks]
        return (head, *accepted, *ignored, *refused, *remarks)


def _at(places: str) -> str:
    """Where ignored entries are, shortened to what a line can hold."""
    runs = places.split(", ")
    more = len(runs) - MOST_PLACES
    shown = ", ".join(runs[:MOST_PLACES]) + (f" and {more} more" if more > 0 else "")
    return f": {shown}" if places else ""


@dataclass
class Ledger:
    """An import report in the making: each entry is booked exactly once.

    Attributes:
        places: File and line of each entry; empty where its position says where it is.
    """

    places: Sequence[Place] = ()
    _accepted: Counter[str] = field(default_factory=Counter)
    _ignored: dict[str, list[int]] = field(default_factory=dict)
    _refused: list[Refusal] = field(default_factory=list)
    _remarks: list[Remark] = field(default_factory=list)

    def accept(self, kind: str, count: int = 1) -> None:
        """Book entries as taken over."""
        self._accepted[kind] += count

    def ignore(self, entry: int, kind: str, reason: str) -> None:
        """Book a sound entry that is of no use."""
        self._ignored.setdefault(f"{kind} ({reason})" if reason else kind, []).append(entry)

    def refuse(self, entry: int, kind: str, path: str, rule: str) -> None:
        """Book a broken or uncertain entry."""
        self._refused.append(Refusal(entry, kind, path, rule, self._source(entry)))

    def remark(self, entry: int, kind: str, path: str, rule: str) -> None:
        """Note what was left out of an entry; it is booked all the same."""
        self._remarks.append(Remark(entry, kind, path, rule, self._source(entry)))

    def report(self) -> ImportReport:
        """The report."""
        where = {key: ", ".join(self._where(at)) for key, at in self._ignored.items()}
        counts = Counter({key: len(at) for key, at in self._ignored.items()})
        return ImportReport(
            self._accepted, counts, tuple(self._refused), tuple(self._remarks), where
        )

    def _source(self, entry: int) -> str:
        """File and line of an entry, where it came from a file of lines."""
        file, line = self.places[entry] if 0 <= entry < len(self.places) else ("", entry)
        return f"{file} line {line}" if file else (f"entry {line}" if self.places else "")

    def _where(self, entries: Iterable[int]) -> Iterator[str]:
        """Entries in runs, such as ``3-7``; by file where they came from files."""
        places = sorted(self.places[n] if self.places else ("", n) for n in entries)
        for file, lines in groupby(places, key=lambda place: place[0]):
            prefix = f"{file} line " if file else ""
            yield from (prefix + run for run in runs(line for _, line in lines))


def runs(numbers: Iterable[int]) -> Iterator[str]:
    """Sorted numbers as runs.

    Example:
        >>> list(runs([1, 2, 3, 7, 9, 10]))
        ['1-3', '7', '9-10']
    """
    for _, group in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        run = [number for _, number in group]
        yield str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}"
