"""What a note states that codes, numbers or the scan could contradict, with where it says so.

Rules, and narrow ones: a statement that is missed costs a check, one that is misread costs the
physician's trust. English and Chinese; negation, relatives and the past by `clinical.context`.
"""

import bisect
import datetime as dt
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from clinical import wording
from clinical.concepts import DIAGNOSES, DRUGS, FEMALE_ONLY, MALE_ONLY
from clinical.context import Context, context_of
from clinical.notes import sections, sentences
from clinical.record import Note
from clinical.units import UnitError, convert

StatementKind = Literal[
    "sex", "age", "birth date", "hand", "side", "score", "value", "drug", "diagnosis", "sex fact",
    "atrophy", "asymmetry", "normal size",
]  # fmt: skip


@dataclass(frozen=True)
class Statement:
    """One thing a note states; ``text[start:end]`` of the note says it.

    Attributes:
        kind: Sort of statement.
        name: What it is about: a sex, a key of `clinical.concepts`, a LOINC, a structure, a side.
        note_id: The note.
        start: Where it begins.
        end: Where it ends.
        number: Of a score, an age or a value in its canonical unit.
        date: A birth date, or the day that the text gives to a score; the note's own where None.
        side: ``left`` or ``right`` where one is named.
        negated: It says that this is not so.
        past: It speaks of another time than the note's.
    """

    kind: StatementKind
    name: str
    note_id: str
    start: int
    end: int
    number: float | None = None
    date: dt.date | None = None
    side: str = ""
    negated: bool = False
    past: bool = False


class _Text:
    """A note with its sentences cut once."""

    def __init__(self, note: Note) -> None:
        self.id, self.text, self.language = note.id, note.text, note.language
        self.spans = sentences(note.text)
        self._starts = [start for start, _ in self.spans]
        self._sections = sections(note.text)
        self._section_starts = [section.start for section in self._sections]

    def sentence(self, at: int) -> tuple[int, int]:
        """Start and end of the sentence around a place."""
        n = bisect.bisect_right(self._starts, at) - 1
        inside = n >= 0 and at < self.spans[n][1]
        return self.spans[n] if inside else (at, len(self.text))

    def context(self, start: int, end: int) -> Context:
        """What its sentence and its heading make of a place; the rest of the note is not read."""
        first, last = self.sentence(start)
        n = bisect.bisect_right(self._section_starts, start) - 1
        colon = "：" if self.language == "zh" else ":"
        head = f"{self._sections[n].title}{colon}\n" if n >= 0 else ""
        text, moved = head + self.text[first : max(last, end)], len(head) - first
        return context_of(text, start + moved, end + moved, self.language)


def statements(note: Note) -> tuple[Statement, ...]:
    """Everything a note states of the patient, in its order; relatives and doubts are left out.

    Example:
        >>> from clinical.record import Coding
        >>> note = Note("n1", Coding("", "", ""), "This 72-year-old woman denies diabetes.")
        >>> [(made.kind, made.name, made.negated) for made in statements(note)]
        [('sex', 'female', False), ('age', 'age', False), ('diagnosis', 'diabetes', True)]
    """
    text = _Text(note)
    found = [made for reader in _READERS for made in reader(text)]
    return tuple(sorted(found, key=lambda made: (made.start, made.kind, made.name)))


# -- who the patient is ----------------------------------------------------------------------


def _ages(note: _Text) -> Iterator[Statement]:
    """The age of the patient, not of a relative."""
    seen: set[int] = set()
    for pattern in wording.AGES:
        for match in pattern.finditer(note.text):
            before = note.text[max(note.sentence(match.start())[0], 0) : match.start()]
            if (
                match.start("n") in seen
                or wording.RELATIVE.search(before)
                or _is_other(note, match)
            ):
                continue
            seen.add(match.start("n"))
            yield _of(note, match, "age", "age", number=float(match["n"]))


def _sexes(note: _Text) -> Iterator[Statement]:
    """The patient's sex, in a word or by the pronouns of the whole note."""
    for sex, patterns in wording.SEXES.items():
        for pattern in patterns:
            for match in pattern.finditer(note.text):
                head = note.text[note.sentence(match.start())[0] : match.start()]
                if not (wording.RELATIVE.search(head) or _is_other(note, match)):
                    yield _of(note, match, "sex", sex)
    for sex, pattern in wording.SUBJECT.items():
        other = "male" if sex == "female" else "female"
        subjects = [m for m in pattern.finditer(note.text) if _is_patient(note, m.start())]
        if len(subjects) >= wording.ENOUGH_PRONOUNS and not wording.PRONOUN[other].search(
            note.text
        ):
            yield _of(note, subjects[0], "sex", sex)


def _is_patient(note: _Text, at: int) -> bool:
    """Whether a pronoun at the head of a sentence cannot mean a relative named just before."""
    start, _ = note.sentence(max(at - 2, 0))
    return wording.RELATIVE.search(note.text[start:at]) is None


def _births(note: _Text) -> Iterator[Statement]:
    for match in wording.BORN.finditer(note.text):
        date = read_date(match["date"] or match["zh"])
        before = note.text[note.sentence(match.start())[0] : match.start()]
        if date is not None and not wording.RELATIVE.search(before):
            yield _of(note, match, "birth date", "birth date", date=date)


def _hands(note: _Text) -> Iterator[Statement]:
    for side, pattern in wording.HAND.items():
        for match in pattern.finditer(note.text):
            if not _is_other(note, match):
                yield _of(note, match, "hand", side, side=side)


# -- diagnoses, drugs, sides -------------------------------------------------------------------


def _concepts(note: _Text) -> Iterator[Statement]:
    """Diagnoses and drugs that the note has or denies."""
    for kind, concepts in (("diagnosis", DIAGNOSES), ("drug", DRUGS)):
        for concept in concepts:
            for match in concept.pattern.finditer(note.text):
                start, end = note.sentence(match.start())
                context = note.context(*match.span())
                if (
                    context.family
                    or context.uncertain
                    or wording.ASKED.search(note.text, start, end)
                ):
                    continue
                stopped = kind == "drug" and bool(
                    wording.STOPPED.search(
                        note.text, max(start, match.start() - 12), min(end, match.end() + 12)
                    )
                )
                negated = context.negated or stopped
                past = context.historical and not negated  # "no history of" denies the present, too
                made: StatementKind = "diagnosis" if kind == "diagnosis" else "drug"
                yield _of(note, match, made, concept.key, negated=negated, past=past)


def _sex_facts(note: _Text) -> Iterator[Statement]:
    """What only one sex can have, said of the patient."""
    for concept in (MALE_ONLY, FEMALE_ONLY):
        for match in concept.pattern.finditer(note.text):
            start, end = note.sentence(match.start())
            context = note.context(*match.span())
            other = context.family or context.uncertain or context.negated
            if not (other or wording.RELATIVE.search(note.text, start, end)):
                yield _of(note, match, "sex fact", concept.key)


def _sides(note: _Text) -> Iterator[Statement]:
    """The side of a stroke."""
    for match in wording.SIDED_STROKE.finditer(note.text):
        side = _side(next(filter(None, match.groups())))
        if not _is_other(note, match):
            yield _of(note, match, "side", "stroke", side=side)


# -- numbers -------------------------------------------------------------------------------


def _scores(note: _Text) -> Iterator[Statement]:
    """Scores of the note's day, or of a day that the text gives."""
    found = [
        (loinc, m) for loinc, pattern in wording.SCORES.items() for m in pattern.finditer(note.text)
    ]
    found += [
        (wording.BY_TEST[(m["test"] or m["named"]).lower()], m)
        for m in wording.NUMBER_FIRST.finditer(note.text)
    ]
    for loinc, match in found:
        start, end = note.sentence(match.start())
        sentence = note.text[start:end]
        date = next(iter(dates(sentence)), None)
        context = note.context(*match.span())
        if context.family or (match.groupdict().get("of") or "30") not in ("30", "15"):
            continue
        number = float(match["n"] or match["second"])
        past = date is None and (
            wording.ANOTHER_DAY.search(sentence) is not None or context.historical
        )
        yield _of(note, match, "score", loinc, number=number, date=date, past=past)


def _values(note: _Text) -> Iterator[Statement]:
    """Laboratory values whose unit is known."""
    for loinc, pattern in wording.VALUES.items():
        for match in pattern.finditer(note.text):
            try:
                number = convert(loinc, float(match["n"]), match["unit"].rstrip("."))
            except UnitError:
                continue
            start, end = note.sentence(match.start())
            past = wording.ANOTHER_DAY.search(note.text, start, end) is not None
            yield _of(note, match, "value", loinc, number=number, past=past)


# -- the brain -----------------------------------------------------------------------------


def _brain(note: _Text) -> Iterator[Statement]:
    """Marked loss, normal size, and which side is smaller; nothing in between."""
    for start, end in _clauses(note):
        clause = note.text[start:end]
        for structure, pattern in wording.STRUCTURE.items():
            match = pattern.search(clause)
            if match is None or wording.EARLIER_SCAN.search(clause):
                continue
            made = _size(clause, structure)
            if made is not None and not _unsure(note, start + match.start(), start + match.end()):
                sides = {
                    _side(next(filter(None, m.groups()))) for m in wording.ONE_SIDE.finditer(clause)
                }
                side = (
                    next(iter(sides)) if len(sides) == 1 and not wording.LEAN.search(clause) else ""
                )
                yield Statement(made, structure, note.id, start, end, side=side)
            lean = wording.LEAN.search(clause)
            if lean and structure != "lateral ventricle":
                side = _side(next(filter(None, lean.groups())))
                yield Statement("asymmetry", structure, note.id, start, end, side=side)


def _size(clause: str, structure: str) -> StatementKind | None:
    """What a clause says of the size of a structure."""
    changed = wording.WIDE if structure == "lateral ventricle" else wording.SHRUNK
    if wording.NO_LOSS.search(clause) or (
        wording.NORMAL.search(clause) and not changed.search(clause)
    ):
        return "normal size"
    return "atrophy" if changed.search(clause) and wording.MARKED.search(clause) else None


def _unsure(note: _Text, start: int, end: int) -> bool:
    """Whether a place is doubted or speaks of a relative."""
    context = note.context(start, end)
    return context.family or context.uncertain


# -- dates and places in the text -------------------------------------------------------------


def dates(text: str) -> list[dt.date]:
    """Days that a text names in full.

    Example:
        >>> dates("on 3 March 2024 and 2024年5月6日")
        [datetime.date(2024, 5, 6), datetime.date(2024, 3, 3)]
    """
    found = []
    for pattern in wording.DATES:
        for match in pattern.finditer(text):
            parts = match.groupdict()
            month = (
                wording.MONTHS[parts["month"][:3].lower()]
                if parts.get("month")
                else int(parts["m"])
            )
            try:
                found.append(dt.date(int(parts["y"]), month, int(parts["d"])))
            except ValueError:
                continue
    return found


def read_date(text: str) -> dt.date | None:
    """The first day that a text names."""
    return next(iter(dates(text)), None)


def _clauses(note: _Text) -> Iterator[tuple[int, int]]:
    """Sentences, cut at semicolons and where another clause begins."""
    for start, end in note.spans:
        at = start
        for cut in wording.CLAUSE.finditer(note.text[start:end]):
            yield at, start + cut.start()
            at = start + cut.end()
        yield at, end


def _side(word: str) -> str:
    return {"左": "left", "右": "right"}.get(word, word.lower())


def _is_other(note: _Text, match: re.Match[str]) -> bool:
    """Whether a place speaks of a relative."""
    return note.context(*match.span()).family


def _of(
    note: _Text, match: re.Match[str], kind: StatementKind, name: str, *,
    number: float | None = None, date: dt.date | None = None, side: str = "",
    negated: bool = False, past: bool = False,
) -> Statement:  # fmt: skip
    """A statement where a match lies."""
    return Statement(
        kind, name, note.id, match.start(), match.end(), number, date, side, negated, past
    )


_READERS: tuple[Callable[[_Text], Iterator[Statement]], ...] = (
    _ages, _sexes, _births, _hands, _concepts, _sex_facts, _sides, _scores, _values, _brain,
)  # fmt: skip
