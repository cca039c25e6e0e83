"""What notes state, held against codes, values and each other."""

import datetime as dt
import math
from collections.abc import Iterator, Sequence

from clinical.concepts import BY_KEY, FEMALE_ONLY, MALE_ONLY, is_coded
from clinical.findings import DOUBTFUL, UNSURE, Finding, Kind, Source
from clinical.record import Medication, Observation, PatientRecord
from clinical.statements import Statement, statements
from clinical.units import analyte

AGE_MARGIN_YEARS = 1.6  # a stated age counts birthdays; a birth date may be known to the year only
VALUE_MARGIN = 0.04  # of a laboratory value that a note rounds
ACTIVE = frozenset({"active", "recurrence", "relapse"})
NOT_SURE = frozenset({"provisional", "differential", "unconfirmed"})
TAKEN = frozenset({"active", "in-progress", "on-hold"})


class _Read:
    """A record with what its notes state."""

    def __init__(self, record: PatientRecord) -> None:
        self.record = record
        self.dates = {note.id: note.date for note in record.notes}
        self.stated = [made for note in record.notes for made in statements(note)]

    def of(self, *kinds: str) -> list[Statement]:
        """Statements of these kinds."""
        return [made for made in self.stated if made.kind in kinds]

    def date(self, made: Statement) -> dt.date | None:
        """The day a statement speaks of."""
        return made.date or self.dates[made.note_id]


def contradictions(record: PatientRecord) -> Iterator[Finding]:
    """Everything in which notes, codes and values contradict each other."""
    read = _Read(record)
    yield from _sex(read)
    yield from _age(read)
    yield from _hands(read)
    yield from _sides(read)
    yield from _scores(read)
    yield from _diagnoses(read)
    yield from _medication(read)


def place(made: Statement) -> Source:
    """Where a statement is made."""
    return Source("note", made.note_id, made.start, made.end)


# -- who the patient is ----------------------------------------------------------------------


def _sex(read: _Read) -> Iterator[Finding]:
    """A note about the other sex, and entries that only the other sex can have."""
    sex = read.record.sex
    if sex not in ("female", "male"):
        return
    said = (Source("patient", "sex"),)
    for note_id, made in _first_of_each_note(read.of("sex"), but=sex).items():
        if not any(m.name == sex and m.note_id == note_id for m in read.of("sex")):
            yield Finding("sex", "sex of note", (), (place(made),), said, (UNSURE, 1.0))
    for made in _first_of_each_note(read.of("sex fact"), but=sex).values():
        yield Finding("sex", "sex of entry", (), (place(made),), said, (UNSURE, 1.0))
    other = FEMALE_ONLY if sex == "male" else MALE_ONLY
    for entry in read.record.conditions:
        if is_coded(other, entry.code) and "family history" not in entry.code.display.lower():
            first = (Source("condition", entry.id),)
            yield Finding("sex", "sex of entry", (), first, said, (DOUBTFUL, 1.0))


def _first_of_each_note(made: Sequence[Statement], but: str) -> dict[str, Statement]:
    """The first statement of each note that does not name this."""
    found: dict[str, Statement] = {}
    for statement in made:
        if statement.name != but:
            found.setdefault(statement.note_id, statement)
    return found


def _age(read: _Read) -> Iterator[Finding]:
    """Stated ages and birth dates against the record's birth date."""
    born = (Source("patient", "birth date"),)
    for made in read.of("age"):
        day = read.dates[made.note_id]
        age = read.record.age_on(day) if day else None
        if age is None or made.number is None:
            continue
        if abs(age - made.number - 0.5) > AGE_MARGIN_YEARS:
            yield Finding("age", "age", (), (place(made),), born, (UNSURE, 1.0))
    for made in read.of("birth date"):
        known = read.record.birth_date
        if known is not None and made.date is not None and not _same_day(known, made.date):
            yield Finding("birth date", "birth date", (), (place(made),), born, (UNSURE, 1.0))


def _same_day(known: dt.date, stated: dt.date) -> bool:
    """Whether a stated birth date is the record's, which may be known to the year or month only."""
    if (known.month, known.day) == (1, 1):
        return known.year == stated.year
    return known == stated or (
        known.day == 1 and (known.year, known.month) == (stated.year, stated.month)
    )


def _hands(read: _Read) -> Iterator[Finding]:
    """Right-handed in one note and left-handed in another: the fewer are doubted more."""
    sides = {side: [m for m in read.of("hand") if m.name == side] for side in ("left", "right")}
    few, many = sorted(sides.values(), key=len)
    if few:
        doubts = (DOUBTFUL, 1.0) if len(many) > 2 * len(few) else (UNSURE, UNSURE)
        first, second = (tuple(map(place, side)) for side in (few, many))
        yield Finding("side", "handedness", (), first, second, doubts)


def _sides(read: _Read) -> Iterator[Finding]:
    """The side of a stroke in the notes and in the codes, where each names one only."""
    stroke = BY_KEY["stroke"]
    coded = {
        side: entry
        for entry in read.record.conditions
        for side in ("left", "right")
        if is_coded(stroke, entry.code) and side in entry.code.display.lower().split()
    }
    if len(coded) != 1:
        return
    ((side, entry),) = coded.items()
    stated = read.of("side")
    for made in stated:
        if made.side != side:
            second = (Source("condition", entry.id),)
            yield Finding("side", "side", (), (place(made),), second, (UNSURE, UNSURE))


# -- numbers -------------------------------------------------------------------------------


def _scores(read: _Read) -> Iterator[Finding]:
    """Scores and values in the text against the coded ones of the same day."""
    for made in read.of("score", "value"):
        known = analyte(made.name)
        if known is None or made.number is None:
            continue
        said = (("analyte", known.loinc),)
        if made.kind == "score" and not known.plausible[0] <= made.number <= known.plausible[1]:
            yield Finding("score", "score impossible", said, (place(made),), doubts=(DOUBTFUL, 1.0))
            continue
        same = [] if made.past else _coded(read, made)
        if same and not any(_agree(made, entry) for entry in same):
            second = tuple(Source("observation", entry.id) for entry in same)
            kind: Kind = "score" if made.kind == "score" else "value"
            # Where no patient can have the coded value, the note tells what it may have been.
            doubts = (UNSURE, UNSURE) if _can_be(same) else (1.0, UNSURE)
            yield Finding(kind, kind, said, (place(made),), second, doubts)


def _coded(read: _Read, made: Statement) -> list[Observation]:
    """Values of the same analyte and day."""
    day = read.date(made)
    same = [entry for entry in read.record.observations if entry.loinc == made.name]
    return [e for e in same if day is not None and e.date == day and e.value is not None]


def _can_be(entries: Sequence[Observation]) -> bool:
    """Whether a patient can have one of these values."""
    for entry in entries:
        low, high = known.plausible if (known := analyte(entry.loinc)) else (-math.inf, math.inf)
        if entry.value is not None and low <= entry.value <= high:
            return True
    return False


def _agree(made: Statement, entry: Observation) -> bool:
    """Whether text and code give the same number."""
    if made.number is None or entry.value is None:
        return True
    if made.kind == "score":
        return made.number == entry.value
    return abs(made.number - entry.value) <= VALUE_MARGIN * max(abs(entry.value), abs(made.number))


# -- diagnoses and drugs -----------------------------------------------------------------------


def _diagnoses(read: _Read) -> Iterator[Finding]:
    """A diagnosis that a note denies and a code has had before it."""
    coded = [
        entry
        for entry in read.record.conditions
        if entry.clinical_status in ACTIVE and entry.verification not in NOT_SURE
    ]
    for made in read.of("diagnosis"):
        if not made.negated or made.past:
            continue
        day = read.dates[made.note_id]
        for entry in coded:
            if is_coded(BY_KEY[made.name], entry.code) and _was_there(entry.onset, day):
                second = (Source("condition", entry.id),)
                yield Finding(
                    "diagnosis", "diagnosis", (), (place(made),), second, (UNSURE, UNSURE)
                )


def _medication(read: _Read) -> Iterator[Finding]:
    """A drug that a note denies and the record has as active, or whose disease a note denies."""
    active = [drug for drug in read.record.medications if drug.status in TAKEN]
    for made in read.of("drug"):
        if made.negated and not made.past:
            for drug in active:
                if is_coded(BY_KEY[made.name], drug.code) and _before(read, drug, made):
                    yield _drug_finding("medication", made, drug)
    for made in read.of("diagnosis"):
        if made.negated and not made.past:
            for drug in active:
                treats = [c for c in BY_KEY.values() if made.name in c.treats]
                if any(is_coded(c, drug.code) for c in treats) and _before(read, drug, made):
                    yield _drug_finding("indication", made, drug)


def _before(read: _Read, drug: Medication, made: Statement) -> bool:
    return _was_there(drug.start, read.dates[made.note_id])


def _was_there(begun: dt.date | None, day: dt.date | None) -> bool:
    """Whether something had begun before a note was written."""
    return begun is None or day is None or begun < day


def _drug_finding(template: str, made: Statement, drug: Medication) -> Finding:
    second = (Source("medication", drug.id),)
    return Finding("medication", template, (), (place(made),), second, (UNSURE, UNSURE))
