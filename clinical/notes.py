"""Notes as text: sentences, sections and chunks by character offset, in English and Chinese.

Offsets always point into the text given: ``text[start:end]`` is the sentence, without the white
space around it. Rules only, so that the same note gives the same offsets on every machine.
"""

import datetime as dt
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import unescape

from clinical.plain_characters import readable
from clinical.record import Note

Span = tuple[int, int]

CHUNK_CHARS = 512
CHUNK_OVERLAP = 0.2  # share of a chunk that the next one repeats

_HAN = re.compile(r"[\u3400-\u9fff]")
# Where a sentence may end; a full stop and a line break have to be looked at more closely.
# The look-behind and `++` keep a run of ten thousand dots linear.
# Data that somebody wrote into a note ends by its own marks, and shall not take the next sentence
# of the patient along.
_BREAK = re.compile(
    r"[。！？；]++[”’」』）\"']*+|(?<![.!?])[.!?]++[\"'”’)\]]*+(?=\s|$)|\n\s*+"
    r"|(?:\}|\|>|\[/INST\]|\[SEP\])(?=\s+[A-Z\u3400-\u9fff])"
)
_TITLES = {"dr", "mr", "mrs", "ms", "prof", "st", "vs", "fig", "e.g", "i.e", "cf", "approx", "ca"}
_LOOK_BACK = 40  # characters; no abbreviation is longer
_BLANKS = re.compile(r"[ \t\r]*")
_SPACE = re.compile(r"\s*")
_LAST_WORD = re.compile(r"\S+$")
_HEADING = re.compile(
    r"^[ \t]*(?:\#+[ \t]*(?P<hash>[^\n]+)|【(?P<box>[^】\n]{1,20})】[：:]?"
    r"|(?P<latin>[A-Z][A-Za-z/&,' -]{1,48}):(?=\s|$)|(?P<han>[\u3400-\u9fff]{2,10})[：:])",
    re.MULTILINE,
)
# Possessive, so that an unclosed tag or comment costs linear time, which html.parser does not.
_TAG = re.compile(r"<!--|-->|</?([A-Za-z][A-Za-z0-9]*+)[^<>]*+>|<[!?][^<>]*+>")
_SPACES = re.compile(r"\s+")
_BLOCKS = ("p", "div", "br", "li", "tr", "h1", "h2", "h3", "h4", "table", "ul", "ol", "section")
_BETWEEN = {**dict.fromkeys(_BLOCKS, "\n"), "td": " ", "th": " "}
_HIDDEN = ("script", "style", "head", "title")
_SOFT_BREAK = re.compile(r"[\s,，、;；]")


@dataclass(frozen=True)
class Section:
    """A part of a note under its heading; ``text[start:end]`` is the body."""

    title: str
    start: int
    end: int


def sentences(text: str) -> tuple[Span, ...]:
    """Cut a note into sentences.

    A full stop ends one unless it belongs to an abbreviation, an initial, a list number or goes on
    in lower case; a line break ends one unless the next line goes on in lower case; the closing
    mark of JSON or of a chat's turn ends one. A line that is only a heading is none. What is longer
    than a chunk is cut at white space or a comma.

    Args:
        text: The note.

    Returns:
        Start and end of each sentence, in order, without overlap.

    Example:
        >>> text = "Dr. Wu saw her. MMSE was 21.5 on average. 记忆力下降。否认头痛。"
        >>> [text[start:end] for start, end in sentences(text)]
        ['Dr. Wu saw her.', 'MMSE was 21.5 on average.', '记忆力下降。', '否认头痛。']
    """
    text = readable(text)  # as long as before; a hidden character must not hide a full stop
    ends = [match.end() for match in _BREAK.finditer(text) if _ends_sentence(text, match)]
    starts = [0, *ends]
    spans = (
        _strip(text, start, end) for start, end in zip(starts, [*ends, len(text)], strict=True)
    )
    return tuple(
        piece
        for start, end in spans
        if start < end and not _is_heading(text[start:end])
        for piece in _pieces(text, start, end)
    )


def chunks(text: str, size: int = CHUNK_CHARS, overlap: float = CHUNK_OVERLAP) -> tuple[Span, ...]:
    """Group the sentences of a note into overlapping chunks for the text encoder.

    Args:
        text: The note.
        size: Longest chunk in characters.
        overlap: Share of `size` that a chunk repeats of the one before, in whole sentences.

    Returns:
        Start and end of each chunk; both lie at sentence borders, every sentence is in one.

    Raises:
        ValueError: `overlap` is not in [0, 1).
    """
    if not 0 <= overlap < 1:
        raise ValueError(f"overlap={overlap} must be in [0, 1)")
    spans = sentences(text)
    found: list[Span] = []
    first = 0
    while first < len(spans):
        last = first
        while last + 1 < len(spans) and spans[last + 1][1] - spans[first][0] <= size:
            last += 1
        end = spans[last][1]
        found.append((spans[first][0], end))
        if last + 1 == len(spans):
            break
        first += 1
        while spans[first][0] < end - overlap * size and first <= last:
            first += 1
    return tuple(found)


def sections(text: str) -> tuple[Section, ...]:
    r"""Find the headed parts of a note: ``Assessment:``, ``# Plan``, ``现病史：``, ``【查体】``.

    Example:
        >>> [section.title for section in sections("History: falls.\n现病史：记忆力下降。")]
        ['History', '现病史']
    """
    found = list(_HEADING.finditer(text))
    ends = [match.start() for match in found] + [len(text)]
    return tuple(
        Section(next(filter(None, match.groups())).strip(), *_strip(text, match.end(), end))
        for match, end in zip(found, ends[1:], strict=True)
    )


def copied_forward(notes: Sequence[Note]) -> tuple[tuple[Span, ...], ...]:
    r"""Find what a note repeats word for word from an earlier one, or from itself.

    Physicians begin a note with a copy of the last. What was copied was seen when it was first
    written: the earliest note is its source, and the copy is no further evidence. Case and white
    space make no difference. An identical note is a copy as a whole. A sentence that one note has
    a hundred times counts once, too.

    Args:
        notes: In any order; the date says which is earlier, the order where dates are equal. A
            note without a date counts as the earliest.

    Returns:
        For each note the sentences, as `sentences` cuts them, that were written before.

    Example:
        >>> from clinical.record import Coding
        >>> texts = ("Forgets names.", "Forgets names.\nNow gets lost.")
        >>> kind = Coding("", "", "")
        >>> notes = [Note(f"n{n}", kind, text) for n, text in enumerate(texts)]
        >>> copied_forward(notes)
        ((), ((0, 14),))
    """
    order = sorted(range(len(notes)), key=lambda n: (notes[n].date or dt.date.min, n))
    known: set[str] = set()
    copied: dict[int, tuple[Span, ...]] = {}
    for n in order:
        text = notes[n].text
        again: list[Span] = []
        for span in sentences(text):
            said = " ".join(text[slice(*span)].lower().split())
            if said in known:
                again.append(span)
            known.add(said)
        copied[n] = tuple(again)
    return tuple(copied[n] for n in range(len(notes)))


def language(text: str) -> str:
    """``zh`` where a good share of the letters is Han, else ``en``.

    Example:
        >>> language("患者近半年记忆力下降，MMSE 21 分。")
        'zh'
    """
    letters = sum(character.isalpha() for character in text)
    return "zh" if letters and len(_HAN.findall(text)) / letters > 0.2 else "en"


def has_han(text: str) -> bool:
    """Whether there is a Chinese character in it."""
    return _HAN.search(text) is not None


def plain_text(html: str) -> str:
    r"""Take the text out of HTML, a line for each block.

    Example:
        >>> plain_text("<div><p>Memory loss</p><p>MMSE 21 &lt; 24</p></div>")
        'Memory loss\nMMSE 21 < 24'
    """
    parts: list[str] = []
    hidden = ""  # what ends the comment or the element that is left out
    at = 0
    for match in _TAG.finditer(html):
        mark, name = match.group(), (match.group(1) or "").lower()
        if hidden:
            closed = mark == hidden or (mark.startswith("</") and hidden == f"</{name}")
            hidden = "" if closed else hidden
        else:
            parts += [_SPACES.sub(" ", html[at : match.start()]), _BETWEEN.get(name, "")]
            opens = name in _HIDDEN and not (mark.startswith("</") or mark.endswith("/>"))
            hidden = "-->" if mark == "<!--" else f"</{name}" if opens else ""
        at = match.end()
    parts.append("" if hidden else _SPACES.sub(" ", html[at:]))
    lines = (" ".join(unescape(line).split()) for line in "".join(parts).split("\n"))
    return "\n".join(filter(None, lines))


def _ends_sentence(text: str, match: re.Match[str]) -> bool:
    """Whether this mark ends a sentence, by what stands before and after it."""
    mark, after_at = match.group(), _BLANKS.match(text, match.end())
    after = text[after_at.end() : after_at.end() + 1] if after_at else ""
    if mark.startswith("\n"):
        return mark.count("\n") > 1 or not ("a" <= after <= "z")
    if not mark.startswith("."):
        return True
    window = text[max(0, match.start() - _LOOK_BACK) : match.start()].rpartition("\n")[2]
    word = _LAST_WORD.search(window)
    before = word.group().lstrip("(\"'“‘").lower() if word else ""
    initial = len(before) == 1 and before.isalpha() and window[-1].isupper()
    numbered = window.strip().isdigit() or (before == "no" and after.isdigit())
    return not (before in _TITLES or initial or numbered or after.islower())


def _is_heading(sentence: str) -> bool:
    match = _HEADING.match(sentence)
    return bool(match and match.end() == len(sentence))


def _strip(text: str, start: int, end: int) -> Span:
    """Move both ends inwards past white space."""
    part = text[start:end]
    left = start + len(part) - len(part.lstrip())
    return left, max(left, start + len(part.rstrip()))


def _pieces(text: str, start: int, end: int) -> Iterator[Span]:
    """Cut what is longer than a chunk at the last white space or comma that fits."""
    while end - start > CHUNK_CHARS:
        marks = [m.end() for m in _SOFT_BREAK.finditer(text, start + 1, start + CHUNK_CHARS)]
        cut = marks[-1] if marks else start + CHUNK_CHARS
        yield _strip(text, start, cut)
        space = _SPACE.match(text, cut, end)
        start = space.end() if space else cut
    if start < end:
        yield start, end
