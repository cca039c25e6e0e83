"""Identifiers out of notes and records, for whatever leaves a site or is logged.

First what the record itself says of the person (names in any order, numbers, address, phone, birth
date), which no model of language can know; then rules for what anybody's identifiers look like, in
English and Chinese. A person is left as a mark such as ``[NAME]``, a date as its year.

Rules overlook some: `benchmarks/deidentify.py` counts how many. What leaves a hospital still needs
the hospital's consent.
"""

import datetime as dt
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import permutations

from clinical.identifiers import (
    DATE,
    ID,
    NAME,
    NUMERIC_RULES,
    OLDEST_KEPT_YEARS,
    PHONE,
    PLACE,
    Rule,
    apply_rules,
    word_list,
)
from clinical.identifiers_en import RULES_EN
from clinical.identifiers_zh import RULES_ZH
from clinical.name_words import hide_eponyms, show_eponyms
from clinical.record import DAYS_PER_YEAR, Note, PatientRecord

_HAN = re.compile(r"[\u3400-\u9fff]")
_BORDER = "\u200b"
_HAN_BESIDE_LATIN = re.compile(
    r"(?<=[\u3400-\u9fff])(?=[^\W\u3400-\u9fff])|(?<=[^\W\u3400-\u9fff])(?=[\u3400-\u9fff])"
)
_BEGIN, _END = r"(?<![^\W\u3400-\u9fff])", r"(?![^\W\u3400-\u9fff])"  # \b would join Han to Latin
_TITLES_ZH = (
    "(?:先生|女士|小姐|太太|老师|大爷|大妈|阿姨|叔叔|奶奶|爷爷|老人|老先生|老太太?|同志|教授|"
    "某某?|氏)"
)
_ADMINISTRATIVE = re.compile("(?:特别行政区|(?:壮族|回族|维吾尔)?自治区|[省市区县])$")
_MONTHS = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip
_SHORTEST = 3  # characters of an identifier, a place or a Latin name that is looked for


def deidentify(text: str, record: PatientRecord | None = None) -> str:
    """Replace identifiers by marks.

    Args:
        text: A note, a sentence or a message.
        record: Whose text it is, where that is known: then their own identifiers are found
            wherever they stand.

    Returns:
        The text with ``[NAME]``, ``[PLACE]``, ``[DATE]`` ...; a date keeps its year. The same
        input gives the same output, and the output gives itself.

    Example:
        >>> deidentify("Dr. Ann Lee saw Mr Vega on 2019-03-05: Parkinson's disease, MMSE 21/30.")
        "Dr. [NAME] saw Mr [NAME] on 2019: Parkinson's disease, MMSE 21/30."
        >>> deidentify("女儿王芳陪同，电话13812345678，李医生查房。")
        '女儿[NAME]陪同，电话[PHONE]，[NAME]医生查房。'
    """
    return _apply(text, _own_rules(record) if record else ())


def deidentify_record(record: PatientRecord) -> PatientRecord:
    """A copy of a record without what names or finds the patient.

    Every date moves by the same number of days, which takes the last one to the middle of its
    year: intervals and ages stay, no true date does. Ages over 89 become 90. Ids of resources,
    which a server could resolve, become numbers in the order of the record.

    Args:
        record: The record.

    Returns:
        The copy; its notes went through `deidentify`.
    """
    own = _own_rules(record)
    shift = _shift(record)
    numbers: dict[str, str] = {}

    def number(entry_id: str) -> str:
        return numbers.setdefault(entry_id, f"entry-{len(numbers) + 1}")

    def moved(day: dt.date | None) -> dt.date | None:
        return day + shift if day else None

    def clean_note(note: Note) -> Note:
        text = _apply(note.text, own)
        return replace(note, id=number(note.id), text=text, date=moved(note.date))

    return replace(
        record,
        patient_id="patient",
        name="",
        identifiers=(),
        personal=type(record.personal)(),
        birth_date=_kept_birth_date(record, shift),
        stated_age_years=_kept_age(record.stated_age_years),
        observations=tuple(
            replace(
                entry,
                id=number(entry.id),
                date=moved(entry.date),
                text=_apply(entry.text, own) if entry.text else entry.text,
            )
            for entry in record.observations
        ),
        conditions=tuple(
            replace(entry, id=number(entry.id), onset=moved(entry.onset))
            for entry in record.conditions
        ),
        medications=tuple(
            replace(entry, id=number(entry.id), start=moved(entry.start))
            for entry in record.medications
        ),
        family_history=tuple(
            replace(entry, id=number(entry.id), relationship=_apply(entry.relationship, own))
            for entry in record.family_history
        ),
        notes=tuple(clean_note(note) for note in record.notes),
    )


class DeidentifyFilter(logging.Filter):
    """Sends every message of a logger or handler through the rules.

    A guard behind the project's own habit of logging nothing personal: it catches what another
    library prints.

    Example:
        >>> handler = logging.StreamHandler()
        >>> handler.addFilter(DeidentifyFilter())
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the message by its de-identified form; never drops one."""
        record.msg, record.args = deidentify(record.getMessage()), ()
        if record.exc_info:
            trace = logging.Formatter().formatException(record.exc_info)
            record.exc_text, record.exc_info = deidentify(trace), None
        return True


def _apply(text: str, own: tuple[Rule, ...]) -> str:
    text, hidden = hide_eponyms(text)
    for rules in (own, NUMERIC_RULES):
        text = apply_rules(text, rules)
    # A border of a word, to the English rules, lies also between a Latin letter and a Han one.
    text = _HAN_BESIDE_LATIN.sub(_BORDER, text)
    text = apply_rules(text, RULES_EN).replace(_BORDER, "")
    return show_eponyms(apply_rules(text, RULES_ZH), hidden)


def _own_rules(record: PatientRecord) -> tuple[Rule, ...]:
    """Rules that find one patient's identifiers, the longest first."""
    personal = record.personal
    # A number first: it may be part of an address or a name of a login.
    rules = [
        *_literal([*record.identifiers, record.patient_id], ID),
        *_literal(personal.telecoms, PHONE),
        *_birth_date_rules(record.birth_date),
        *_places(personal.addresses),
    ]
    for name in dict.fromkeys((record.name, *personal.names, *personal.contacts)):
        rules += _chinese_name(name) if _HAN.search(name) else []
    latin = [n for n in (record.name, *personal.names, *personal.contacts) if not _HAN.search(n)]
    return (*rules, *_latin_names(latin))


def _literal(values: Iterable[str], mark: str) -> Iterator[Rule]:
    """A value however it is spaced or hyphenated."""
    for value in sorted(set(values), key=len, reverse=True):
        letters = re.findall(r"\w", value)
        if len(letters) >= _SHORTEST:
            body = r"[\s\-./()+]{0,2}".join(map(re.escape, letters))
            yield re.compile(rf"(?<![A-Za-z0-9]){body}(?![A-Za-z0-9])", re.IGNORECASE), mark


def _birth_date_rules(born: dt.date | None) -> Iterator[Rule]:
    """A birth date in every order and spelling, with the year."""
    if born is None:
        return
    y, m, d = f"(?:{born.year}|{born.year % 100:02d})", f"0?{born.month}", f"0?{born.day}"
    name = rf"{_MONTHS[born.month - 1]}[a-z]*\.?"
    day = rf"{d}(?:st|nd|rd|th)?"
    forms = (
        rf"{born.year}[-/. ]?(?:{born.month:02d}[-/. ]?{born.day:02d}|{m}[-/. ]{d})",
        rf"{d}[-/. ]{m}[-/. ]{y}",
        rf"{m}[-/. ]{d}[-/. ]{y}",
        rf"{day}(?: of)?[- ]{name},?[- ]{y}",
        rf"{name} {day},? {y}",
        rf"{y} ?年 ?{m} ?月(?: ?{d} ?[日号])?",
    )
    yield re.compile(rf"(?<!\d)(?:{'|'.join(forms)})(?!\d)", re.IGNORECASE), DATE


def _places(addresses: Iterable[str]) -> Iterator[Rule]:
    """Lines, towns and postal codes; a Chinese town with and without 市."""
    parts = {part.strip() for text in addresses for part in [text, *re.split(r"[,，\n]", text)]}
    parts |= {_ADMINISTRATIVE.sub("", part) for part in parts if _HAN.search(part)}
    for part in sorted(parts, key=len, reverse=True):
        han = bool(_HAN.search(part))
        if len(part) < (2 if han else _SHORTEST) or (part.isdigit() and len(part) < 5):
            continue
        body = r"[\s,，]{0,3}".join(map(re.escape, re.split(r"[\s,，]+", part)))
        if han:
            yield re.compile(body + "[省市区县]?"), PLACE
        else:  # a town may be a word: Reading
            flags = re.IGNORECASE if re.search(r"\d|\s", part) else 0
            yield (
                re.compile(rf"(?<![A-Za-z0-9])(?:{body}|{body.upper()})(?![A-Za-z0-9])", flags),
                PLACE,
            )


def _chinese_name(name: str) -> Iterator[Rule]:
    """A full name, its parts with a title, a given name of two characters."""
    plain = re.sub(r"\s", "", name)
    double = plain[:2] in word_list("family_zh")
    family, given = (plain[:2], plain[2:]) if double else (plain[:1], plain[1:])
    if len(plain) > 1:
        yield re.compile(r"\s{0,2}".join(map(re.escape, plain))), NAME
        yield (
            re.compile(re.escape(given[:1]) + "XX|" + re.escape(family) + r"[*＊某XxＸ]{1,2}"),
            NAME,
        )
    yield re.compile(rf"(?:[小老])?{re.escape(family)}(?={_TITLES_ZH})"), NAME
    if len(given) > 1:
        yield re.compile(re.escape(given)), NAME


def _latin_names(names: list[str]) -> Iterator[Rule]:
    """Names in any order, with initials, and their parts alone."""
    parts = [re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", name) for name in names]
    full = {tuple(p) for p in parts if 1 < len(p) <= 4}
    full |= {(name[0], name[-1]) for name in full}
    for name in sorted(full, key=lambda name: (-sum(map(len, name)), name)):
        yield from _whole_name(name)
    words = {word for p in parts for word in p if len(word) > 1}
    words |= {piece for word in words for piece in re.split("[-'’]", word) if len(piece) > 3}
    for word in sorted(words, key=lambda word: (-len(word), word)):
        yield from _name_word(word)


def _whole_name(name: tuple[str, ...]) -> Iterator[Rule]:
    between = r"(?:,? ?\b[A-Z]\.?,? |[\s,]{1,3}|-)"
    orders = [between.join(map(re.escape, order)) for order in permutations(name)]
    yield re.compile(rf"{_BEGIN}(?:{'|'.join(orders)}){_END}(?: [A-Z]\.)?", re.IGNORECASE), NAME
    first, last = name[0], name[-1]
    yield (
        re.compile(rf"{_BEGIN}{first[0]}\. ?(?:[A-Z]\. ?)?{re.escape(last)}{_END}", re.IGNORECASE),
        NAME,
    )
    yield re.compile(rf"{_BEGIN}{re.escape(last)},? {first[0]}{_END}\.?", re.IGNORECASE), NAME
    initials = [part[0].upper() for part in name]
    for letters in {tuple(initials), (initials[0], initials[-1])}:
        yield re.compile(r"(?<![\w.])" + r"\. ?".join(letters) + r"\.(?!\w)"), NAME
        if "".join(letters) not in word_list("abbreviations_en"):
            yield re.compile(rf"(?<![\w/.-]){''.join(letters)}(?![\w/-])"), NAME


def _name_word(word: str) -> Iterator[Rule]:
    """One part of a name; in lower case only where it is no word of the language."""
    lower = word.lower()
    is_word = (
        len(word) < _SHORTEST
        or lower in word_list("either_en") | word_list("not_names_en")
        or lower in _eponyms()
    )
    spelled = [word.upper(), word.capitalize(), word] if is_word else [word]
    pattern = "|".join(dict.fromkeys(map(re.escape, spelled)))
    yield re.compile(rf"{_BEGIN}(?:{pattern}){_END}", 0 if is_word else re.IGNORECASE), NAME


def _eponyms() -> frozenset[str]:
    return frozenset(word.lower() for word in word_list("eponyms_en"))


def _shift(record: PatientRecord) -> dt.timedelta:
    last = record.index_date
    return dt.date(last.year, 7, 1) - last if last else dt.timedelta()


def _kept_birth_date(record: PatientRecord, shift: dt.timedelta) -> dt.date | None:
    """The birth date moved like every other; of those over 89 that of a person of 90."""
    if record.birth_date is None or record.index_date is None:
        return dt.date(record.birth_date.year, 7, 1) if record.birth_date else None
    age = record.age_on(record.index_date) or 0.0
    if age < OLDEST_KEPT_YEARS + 1:
        return record.birth_date + shift
    return (
        record.index_date
        + shift
        - dt.timedelta(days=round(DAYS_PER_YEAR * (OLDEST_KEPT_YEARS + 1)))
    )


def _kept_age(age: float | None) -> float | None:
    return None if age is None else min(age, OLDEST_KEPT_YEARS + 1.0)
