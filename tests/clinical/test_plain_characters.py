"""Hostile characters, read as a person reads them."""

import pytest

from clinical.plain_characters import readable


@pytest.mark.parametrize(
    ("hostile", "plain"),
    [
        ("Alz\u200bhei\u200dmer's", "Alzheimer  's"),
        ("\u0410lzheim\u0435r", "Alzheimer"),
        ("\u202eAlzheimer\u202c disease", "Alzheimer   disease"),
        ("mem\U000e0061ory", "memory "),
        ("ＭＭＳＥ２１", "MMSE21"),
        ("𝐝𝐞𝐦𝐞𝐧𝐭𝐢𝐚", "dementia"),
        ("记\u200b忆力。", "记忆力 。"),
        ("no\xa0tremor", "no tremor"),
    ],
)
def test_a_hidden_or_lookalike_character_is_read_as_a_person_reads_it(
    hostile: str, plain: str
) -> None:
    """In as many characters as before."""
    assert readable(hostile) == plain
    assert len(plain) == len(hostile)


@pytest.mark.parametrize(
    "text",
    ["10³/µL, TNFα, Aβ42", "记忆力下降，MMSE 21 分。", "Деменция", "naïve café", "a\nb\tc"],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    """Units, Greek letters and other alphabets mean something."""
    assert readable(text) == text


def test_a_sentence_ends_where_it_did() -> None:
    """What is hidden moves within its word only."""
    text = "A\u200blzheimer. \u200bNo falls\u2060."
    assert readable(text).index(".") == text.index(".")
    assert readable(text).rindex(".") == text.rindex(".")


def test_a_text_is_as_long_as_before_whatever_it_holds() -> None:
    """Over all of Unicode that notes can have, and its tags."""
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x30000), *range(0xE0000, 0xE0FFF)]))
    assert len(readable(every)) == len(every)
