"""The words around a mention say whose it is, when it was and how sure anybody is."""

import time

import pytest

from clinical.context import Context, context_of
from tests.clinical.context_phrases import (
    HARD_EN,
    HARD_ZH,
    HELD_EN,
    HELD_ZH,
    OPEN_EN,
    OPEN_ZH,
    UNSEEN_EN,
    UNSEEN_ZH,
    Row,
)


def read(row: Row, language: str) -> tuple[Context, Context]:
    """What the table says of a phrase and what the rules say."""
    marks, phrase = row
    start, end = phrase.index("["), phrase.index("]") - 1
    wanted = Context("N" in marks, "F" in marks, "H" in marks, "U" in marks)
    return wanted, context_of(phrase.replace("[", "").replace("]", ""), start, end, language)


def score(rows: tuple[Row, ...], language: str) -> tuple[float, list[str]]:
    """Share of phrases of which all four marks are right, and the others."""
    wrong = []
    for row in rows:
        wanted, found = read(row, language)
        if wanted != found:
            wrong.append(f"{row[1]}: wanted {row[0] or '-'}, found {found}")
    return 1 - len(wrong) / len(rows), wrong


@pytest.mark.parametrize(
    ("name", "rows", "language", "least"),
    [
        # The held rows were right at their first run and the hard ones, 69 % (en) and 73 % (zh)
        # at theirs, were learned from. The unseen ones have changed no rule: theirs is the figure.
        ("open", OPEN_EN, "en", 1.0),
        ("open", OPEN_ZH, "zh", 1.0),
        ("held back", HELD_EN, "en", 1.0),
        ("held back", HELD_ZH, "zh", 1.0),
        ("hard, then learned from", HARD_EN, "en", 1.0),
        ("hard, then learned from", HARD_ZH, "zh", 1.0),
        ("unseen", UNSEEN_EN, "en", 0.85),
        ("unseen", UNSEEN_ZH, "zh", 0.85),
    ],
)
def test_phrases_of_memory_clinics(
    name: str, rows: tuple[Row, ...], language: str, least: float
) -> None:
    """All four marks of a phrase must be right for it to count."""
    share, wrong = score(rows, language)
    assert share >= least, f"{name} {language}: {share:.1%} right\n" + "\n".join(wrong)


def context(text: str, mention: str, language: str = "en") -> Context:
    """Context of the first place of a mention."""
    start = text.index(mention)
    return context_of(text, start, start + len(mention), language)


def test_a_heading_speaks_for_the_lines_under_it() -> None:
    """Until the next heading, or until a paragraph ends it."""
    note = "Family history:\n- stroke\n- dementia\n\nShe has tremor.\nPast history: asthma."
    assert context(note, "dementia").family
    assert not context(note, "tremor").family
    assert context(note, "asthma").historical


def test_chinese_headings_may_follow_each_other_on_one_line() -> None:
    """As the notes of most Chinese hospitals have them."""
    note = "既往史：高血压。家族史：父亲脑梗死。查体：震颤。"
    assert context(note, "高血压", "zh").historical
    assert context(note, "脑梗死", "zh").family
    assert context(note, "震颤", "zh") == Context(*[False] * 4)


def test_a_cue_of_another_sentence_says_nothing() -> None:
    """Scope ends at the sentence."""
    assert context("No tremor. Rigidity is marked.", "Rigidity") == Context(*[False] * 4)
    assert context("否认头痛。幻觉明显。", "幻觉", "zh") == Context(*[False] * 4)


def test_a_sentence_alone_reads_as_it_does_inside_a_note() -> None:
    """The same rules whether a note or a sentence is given."""
    for _, phrase in (*OPEN_EN, *HELD_EN):
        plain = phrase.replace("[", "").replace("]", "")
        start, end = phrase.index("["), phrase.index("]") - 1
        head = "Seen today.\n\n"
        inside = context_of(f"{head}{plain}\n\nBye.", start + len(head), end + len(head))
        assert inside == context_of(plain, start, end), phrase


@pytest.mark.parametrize("unit", ["no ", "mother ", ",", "possible, ", "Family history:\n", "？"])
def test_a_hostile_note_takes_bounded_time(unit: str) -> None:
    """A mention costs what stands around it, however long the note is."""
    text = unit * (200_000 // len(unit))
    begin = time.process_time()
    for start in range(0, len(text), len(text) // 20):
        context_of(text, start, start + 3, "en")
        context_of(text, start, start + 3, "zh")
    assert time.process_time() - begin < 4


def test_a_mention_at_either_end_is_read() -> None:
    """An empty or bare mention has no context."""
    assert context_of("", 0, 0) == Context(*[False] * 4)
    assert context_of("dementia", 0, 8) == Context(*[False] * 4)
