"""Which capital words of an English text may be a name: their form, and what the lists know.

A pattern of `clinical.identifiers_en` finds a run of capital words where a name or a place may
stand; a `Pick` says which of them are one. Eponyms before a clinical noun ("Parkinson's disease")
are kept out of sight.
"""

import re
from collections.abc import Callable
from functools import cache

from clinical.identifiers import NAME, word_list

_LETTERS = [chr(code) for code in range(0x41, 0x250) if chr(code).isalpha()]
_UP = "[" + "".join(filter(str.isupper, _LETTERS)) + "]"
_LOW = "[" + "".join(filter(str.islower, _LETTERS)) + "]"
WORD = rf"(?:(?:Mc|Mac|O['’]|D['’]|De|La|Le|Di)?{_UP}{_LOW}++(?:[-'’]{_UP}{_LOW}++)*+)"
CAPITALS = rf"(?:{_UP}{{2,}}(?:[-'’]{_UP}{{2,}})*+\b(?![a-z]))"
_PARTICLE = r"(?:de|da|del|della|di|van|von|der|den|la|le|bin|al|el|du|dos|y)(?= [A-Za-z])"
INITIAL = r"(?:[A-Z]\.(?:[A-Z]\.)*|[A-Z]\b)"
TOKEN = rf"(?:{WORD}|{CAPITALS}|{INITIAL})"
NAME_WORDS = rf"{TOKEN}(?: (?:{TOKEN}|{_PARTICLE})){{0,4}}"
_CLINICAL = (
    r"disease|syndrome|dementia|bod(?:y|ies)|signs?|tests?|scales?|scores?|index|rating|stag(?:e|"
    r"ing)|"
    r"grade|areas?|aphasia|encephalopathy|psychosis|chorea|pals(?:y|ies)|atrophy|criteria|"
    r"complex|figure|memory|cognitive|naming|depression|anxiety|coma|maneuver|manoeuvre|"
    r"contracture|"
    r"phenomenon|ataxia|neuropathy|cyst|nucleus|reflex|response|positive|negative|absent|present|"
    r"plus|medication|symptoms?|features|type|variant|matter|card sorting|adult intelligence|"
    r"hallucinations|stroke|disorder|pathology|auditory|sleepiness|sleep|compound"
)

_COMPASS = frozenset(
    {"new", "old", "north", "south", "east", "west", "port", "lake", "fort", "st."}
)

Pick = Callable[[list[str]], tuple[int, int]]


def hide_eponyms(text: str) -> tuple[str, list[str]]:
    """Put marks in place of eponyms before a clinical noun.

    Returns:
        The text with a private-use character and a number for each, and what they stand for.

    Example:
        >>> hide_eponyms("Dr. Parkinson excluded Parkinson's disease.")[1]
        ["Parkinson's disease"]
    """
    hidden: list[str] = []

    def hide(match: re.Match[str]) -> str:
        hidden.append(match[0])
        return f"\ue000{len(hidden) - 1}\ue001"

    return _EPONYMS.sub(hide, text.replace("\ue000", "").replace("\ue001", "")), hidden


def show_eponyms(text: str, hidden: list[str]) -> str:
    """Undo `hide_eponyms`."""
    return re.sub(r"\ue000(\d+)\ue001", lambda match: hidden[int(match[1])], text)


def _eponyms() -> re.Pattern[str]:
    one = "|".join(sorted(word_list("eponyms_en"), key=len, reverse=True))
    joined = rf"(?:{one})(?:(?: and |[-–—/ ])(?:{one}))*+(?:['’]s?)?"
    return re.compile(rf"\b{joined}[ -](?:{_CLINICAL})\b", re.IGNORECASE)


_EPONYMS = _eponyms()


@cache
def _names() -> frozenset[str]:
    return word_list("given_en") | word_list("family_en") | word_list("either_en")


def _is_name_word(token: str) -> bool:
    """Whether a capital word may be part of a name where a name is announced."""
    plain = token.lower().strip(".")
    if token.isupper() and 1 < len(plain) <= 4 and "." not in token:
        return plain in _names() or plain in word_list("pinyin_en")
    return plain not in word_list("not_names_en")


def _continues(tokens: list[str], n: int) -> bool:
    """Whether word `n` is one of a name: some words are, after a given name (Eric English)."""
    before = tokens[n - 1].lower() if n else ""
    after_given = before in word_list("given_en") and tokens[n].lower() in _names()
    return after_given or _is_name_word(tokens[n])


def titled(tokens: list[str]) -> tuple[int, int]:
    """As `leading`, with family names that are words: Mr White, Dr. English."""
    if tokens[0].lower() in word_list("either_en"):
        return 0, 1 + leading(tokens[1:])[1]
    return leading(tokens)


def leading(tokens: list[str]) -> tuple[int, int]:
    """The words up to the first that is none of a name."""
    count = next((n for n in range(len(tokens)) if not _continues(tokens, n)), len(tokens))
    while count and (len(tokens[count - 1]) == 1 and tokens[count - 1] in "AI"):
        count -= 1  # "Mary A" is more often an article than an initial
    return 0, count


def leading_place(tokens: list[str]) -> tuple[int, int]:
    """As `leading`, with what towns begin with: New, North, Port."""
    start = next((n for n, t in enumerate(tokens) if t.lower() not in _COMPASS), len(tokens))
    return 0, start + leading(tokens[start:])[1]


def trailing(tokens: list[str]) -> tuple[int, int]:
    """The words after the last that is none of a name."""
    backwards = (n for n in range(len(tokens), 0, -1) if not _is_name_word(tokens[n - 1]))
    return next(backwards, 0), len(tokens)


def trailing_place(tokens: list[str]) -> tuple[int, int]:
    """As `trailing`, with what towns begin with."""
    begin = trailing(tokens)[0]
    while begin and begin < len(tokens) and tokens[begin - 1].lower() in _COMPASS:
        begin -= 1
    return begin, len(tokens)


def listed(tokens: list[str]) -> tuple[int, int]:
    """The first run of words of a name in which the lists know one alone, or two together."""
    begin = 0
    for end in range(len(tokens) + 1):
        if end == len(tokens) or not _continues(tokens, end):
            if _is_known(tokens[begin:end]):
                return begin, end
            begin = end + 1
    return 0, 0


def _is_known(run: list[str]) -> bool:
    words = [token.lower().strip(".") for token in run if len(token.strip(".")) > 1]
    sure = sum(w in word_list("given_en") or w in word_list("family_en") for w in words)
    either = sum(w in word_list("either_en") for w in words)
    pinyin = len(words) > 1 and any(w in word_list("pinyin_en") for w in words)
    return sure > 0 or either > 1 or pinyin


def picked(pick: Pick, mark: str) -> Callable[[re.Match[str]], str]:
    """Replace the words of group `name` that `pick` takes to be one."""

    def replaced(match: re.Match[str]) -> str:
        tokens = match["name"].split(" ")
        begin, end = pick(tokens)
        if begin == end:
            return match[0]
        before, after = match.start("name") - match.start(), match.end("name") - match.start()
        name = " ".join([*tokens[:begin], mark, *tokens[end:]])
        return f"{match[0][:before]}{name}{match[0][after:]}"

    return replaced


def both(tokens: list[str]) -> tuple[int, int]:
    """All words, where each may be one of a name."""
    eponyms = {word.lower() for word in word_list("eponyms_en")}
    fit = all(_is_name_word(token) and token.lower() not in eponyms for token in tokens)
    return (0, len(tokens)) if fit else (0, 0)


def month_name(match: re.Match[str]) -> str:
    """``April Johnson``: a month is a given name before a family name."""
    name = match["name"].lower()
    return NAME if name in _names() and name not in word_list("not_names_en") else match[0]


def reversed_name(match: re.Match[str]) -> str:
    """``Smith, John``: a family name, a comma and a given name."""
    family, given = match["name"].lower(), match["given"].lower()
    known = family in _names() and given in word_list("given_en") | word_list("either_en")
    both_words = {family, given} <= word_list("either_en")
    return NAME if known and not both_words else match[0]
