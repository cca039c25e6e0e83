"""Text as a reader sees it: without invisible characters and letters that only look like Latin.

A zero-width space inside "Alzheimer", a Cyrillic letter in it, or a bidi override changes what a
tokenizer makes of a word, but not what a physician reads. The plain text has the same length as
the original, so that every offset still points to where it was.
"""

import re
import unicodedata

# Latin letters and what is drawn like them; only those that Unicode's own list of confusable
# characters has, and none that stands in medical text, such as the alpha of TNFα.
_TWINS = (
    "aаɑ cсϲ dԁ eе gɡց hһհ iіıӏ jј kᴋ nո oоοօ pр qԛ sѕ uս vѵν wԝ xх yу zᴢ "
    "AАΑ BВΒ CСϹ EЕΕ FϜ GԌ HНΗ IІΙӀ JЈ KКΚ MМΜ NΝ OОΟՕ PРΡ QԚ SЅՏ TТΤ UՍ VѴ WԜ XХΧ YУΥ ZΖ"
)
_LATIN = str.maketrans({twin: group[0] for group in _TWINS.split() for twin in group[1:]})
_WORD = re.compile(r"\w+")
_LATIN_LETTER = re.compile(r"[A-Za-z]")
# What takes no room: controls, soft hyphen, joiners, bidi marks, selectors, tags, fillers.
_UNSEEN = (
    "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f"
    "\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
    "\U000e0000-\U000e0fff"
)
_UNSEEN_ONE = re.compile(rf"[{_UNSEEN}]")
_ODD = re.compile(r"[^\t\n\r\x20-\x7e\u3001-\u303f\u4e00-\u9fff，：；！？（）]")
_FOREIGN = re.compile(r"[^\x00-\u024f\u2000-\u206f\u3000-\u303f\u3400-\u9fff]")
_SPACE = re.compile(r"[^\S\n\r\t ]")
_LINE_ENDS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


def readable(text: str) -> str:
    r"""Write a text in plain characters, one for each of its own.

    Characters that take no room move to the end of their word and become spaces; letters of other
    alphabets within a Latin word become the Latin ones they look like; wide and mathematical
    letters and digits become plain ones; every space is a space.

    Args:
        text: Of any source.

    Returns:
        A text of the same length. The end of a sentence lies where it did.

    Example:
        >>> readable("Alz\u200bheimer, \u0410lzheimer, ＭＭＳＥ ２１")
        'Alzheimer , Alzheimer, MMSE 21'
    """
    if not _ODD.search(text):
        return text
    plain = _SPACE.sub(lambda found: "\n" if found[0] in _LINE_ENDS else " ", text)
    plain = _without_unseen(plain)
    if not plain.isascii():
        plain = _FOREIGN.sub(_letter, plain)
        plain = _WORD.sub(_one_script, plain)
    return plain


def _without_unseen(text: str) -> str:
    """Move what takes no room to the end of its word, as spaces."""
    parts: list[str] = []
    at = 0
    for found in _UNSEEN_ONE.finditer(text):
        if found.start() < at:
            continue
        start, end = _around(text, found.start(), at)
        seen = _UNSEEN_ONE.sub("", text[start:end])
        parts += [text[at:start], seen, " " * (end - start - len(seen))]
        at = end
    return "".join([*parts, text[at:]])


def _around(text: str, place: int, first: int) -> tuple[int, int]:
    """Start and end of the word, with its unseen characters, around a place."""
    start, end = place, place + 1
    while start > first and text[start - 1].isalnum():
        start -= 1
    while end < len(text) and (text[end].isalnum() or _UNSEEN_ONE.match(text, end)):
        end += 1
    return start, end


def _letter(found: re.Match[str]) -> str:
    """The plain form of a letter or digit, where it is one character as well."""
    character = found[0]
    if unicodedata.category(character)[0] not in "LN":
        return character
    plain = unicodedata.normalize("NFKC", character)
    return plain if len(plain) == 1 and unicodedata.category(character) != "No" else character


def _one_script(found: re.Match[str]) -> str:
    """A word with Latin letters in it, all Latin; a word of another alphabet as it is."""
    word = found[0]
    return word.translate(_LATIN) if _LATIN_LETTER.search(word) else word
