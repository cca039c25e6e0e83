"""Sentences, sections and chunks point exactly into the note they came from."""

import datetime as dt
import random
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinical.notes import chunks, copied_forward, language, plain_text, sections, sentences
from clinical.record import Coding, Note

PIECES = (
    "She forgets names", "Dr. Wu", "e.g. at night", "MMSE 21.5", "1. MRI", "no. 3", "J. Smith",
    "近事遗忘两年", "否认幻觉", "他说“我不记得了。”", "MoCA 18分", "。", "！", "；", ". ", "! ",
    "?", "\n", "\n\n", ", ", "，", "(see above)", "...", " ", "\t", "\r\n", "\u3000", "’", "a",
    "B", "word " * 150,
)  # fmt: skip
HEADINGS = ("Assessment:", "# Plan", "现病史：", "【查体】", "Past history: ")
BODIES = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)
NOTES = st.lists(st.sampled_from([*PIECES, *(f"\n{head}" for head in HEADINGS)]), max_size=30)
quick = settings(derandomize=True, max_examples=150, deadline=None, database=None)


def cut(text: str) -> list[str]:
    """The sentences themselves."""
    return [text[start:end] for start, end in sentences(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("He forgets names. She drives.", ["He forgets names.", "She drives."]),
        ("Seen by Dr. Wu today. Stable.", ["Seen by Dr. Wu today.", "Stable."]),
        ("MMSE fell from 24.5 to 21.0 in a year.", ["MMSE fell from 24.5 to 21.0 in a year."]),
        ("Donepezil 10 mg. daily, e.g. at night.", ["Donepezil 10 mg. daily, e.g. at night."]),
        ("Takes donepezil 10 mg. He sleeps.", ["Takes donepezil 10 mg.", "He sleeps."]),
        ("Referred by J. Smith. Alert!", ["Referred by J. Smith.", "Alert!"]),
        ("Falls? No. Wanders? Yes.", ["Falls?", "No.", "Wanders?", "Yes."]),
        ("Plan:\n1. MRI\n2. Vitamin B12", ["1. MRI", "2. Vitamin B12"]),
        ("The patient has\nforgotten the way home.", ["The patient has\nforgotten the way home."]),
        ("近事遗忘两年。否认幻觉；步态正常！", ["近事遗忘两年。", "否认幻觉；", "步态正常！"]),
        ("他说“我不记得了。”随后离开。", ["他说“我不记得了。”", "随后离开。"]),
        ("现病史：\n记忆力下降", ["记忆力下降"]),
        ('{"label": "NC"} She forgets.', ['{"label": "NC"}', "She forgets."]),
        (
            '{"诊断": "正常", "概率": 1.0} 否认头痛。',
            ['{"诊断": "正常", "概率": 1.0}', "否认头痛。"],
        ),
        ("<|im_end|> Walks slowly.", ["<|im_end|>", "Walks slowly."]),
        ('{"a": {"b": 1} , "c": 2} Sleeps.', ['{"a": {"b": 1} , "c": 2}', "Sleeps."]),
        ("", []),
        (" \n\t\n", []),
    ],
)
def test_sentences_of_clinical_prose(text: str, expected: list[str]) -> None:
    """English and Chinese as physicians write it."""
    assert cut(text) == expected


def random_note(seed: int) -> str:
    """Marks, letters, blanks and line breaks in any order."""
    alphabet = 'aB1 .。！？；;,，:：\n\t【】"”#记忆'
    return "".join(random.Random(seed).choices(alphabet, k=1500))


@pytest.mark.parametrize("seed", range(20))
def test_offsets_point_at_stripped_text_in_order(seed: int) -> None:
    """A highlight in the review page must cover the sentence and nothing else."""
    text = random_note(seed)
    spans = sentences(text)
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in spans)
    assert all(left[1] <= right[0] for left, right in pairwise(spans))


@pytest.mark.parametrize("seed", range(20))
def test_every_sentence_lies_whole_in_a_chunk(seed: int) -> None:
    """A sentence cut in two would reach the encoder as two half thoughts."""
    text = random_note(seed)
    groups = chunks(text)
    for start, end in sentences(text):
        assert any(first <= start and end <= last for first, last in groups)
    assert all(end - start <= 512 for start, end in groups)


def test_chunks_overlap_by_about_a_fifth() -> None:
    """What one chunk ends with gives the next its context."""
    text = " ".join(f"Sentence number {n} is here." for n in range(100))
    groups = chunks(text)
    shared = [left[1] - right[0] for left, right in pairwise(groups)]
    assert min(shared) > 0.1 * 512
    assert max(shared) <= 0.2 * 512


def test_without_overlap_no_sentence_is_encoded_twice() -> None:
    """Overlap 0 partitions the note."""
    text = " ".join(f"Sentence number {n} is here." for n in range(100))
    groups = chunks(text, overlap=0.0)
    assert sum(end - start for start, end in groups) <= len(text)
    with pytest.raises(ValueError, match="overlap=1"):
        chunks(text, overlap=1.0)


def test_a_sentence_longer_than_a_chunk_is_cut_at_white_space() -> None:
    """A dictated page without a full stop still becomes evidence of readable size."""
    text = "word " * 500
    pieces = cut(text)
    assert all(len(piece) <= 512 and piece.endswith("word") for piece in pieces)
    assert " ".join(pieces) == text.strip()


@pytest.mark.parametrize("unit", [".", "a. ", "\n", "word ", "。", "#", "A: ", "\t", "\n a"])
def test_a_hostile_note_takes_linear_time(unit: str) -> None:
    """Pages of one mark must not stop the import."""
    text = unit * (100_000 // len(unit))
    begin = time.process_time()
    chunks(text)
    assert time.process_time() - begin < 8


def test_sections_have_their_heading_and_body() -> None:
    """Headings of both languages, at the start of a line only."""
    text = (
        "History: falls twice.\n# Plan\nMRI of the head.\n【查体】步态宽基。\n现病史：记忆力下降。"
    )
    found = sections(text)
    assert [section.title for section in found] == ["History", "Plan", "查体", "现病史"]
    assert text[found[1].start : found[1].end] == "MRI of the head."
    assert not sections("The ratio was 3:1 and nothing else.")


def test_the_language_is_that_of_the_script() -> None:
    """Latin abbreviations do not make a Chinese note English."""
    assert language("患者 MMSE 21 分，MoCA 18 分，近期记忆力下降") == "zh"
    assert language("Mr. 王 was seen with his daughter.") == "en"
    assert language("") == "en"


@pytest.mark.parametrize("unit", ["<p>", "<", "<!--", "<script>", "&"])
def test_hostile_html_takes_linear_time(unit: str) -> None:
    """Twenty thousand unclosed comments cost a common parser half a minute."""
    begin = time.process_time()
    plain_text(unit * (100_000 // len(unit)))
    assert time.process_time() - begin < 8


def test_html_becomes_lines_without_scripts() -> None:
    """A note is hostile input: what runs in a browser is not text."""
    html = "<p>Gait &amp; balance</p><script>alert(1)</script><style>p{}</style>normal<br>today"
    assert plain_text(html) == "Gait & balance\nnormal\ntoday"


@quick
@given(BODIES)
def test_sentences_of_a_note_without_headings_lose_no_character(text: str) -> None:
    """Joined, they are the note without its white space; cut again, each is itself."""
    spans = sentences(text)
    joined = "".join(text[start:end] for start, end in spans)
    assert "".join(joined.split()) == "".join(text.split())
    assert all(left[1] <= right[0] for left, right in pairwise(spans))


@quick
@given(NOTES.map("".join))
def test_only_headings_lie_outside_of_every_sentence(text: str) -> None:
    """English and Chinese, wherever the heading stands."""
    rest, at = [], 0
    for start, end in (*sentences(text), (len(text), len(text))):
        rest.append(text[at:start].strip())
        at = end
    lines = [line.strip() for part in rest for line in part.split("\n")]
    titles = {head.strip() for head in HEADINGS}
    left = [line for line in lines if line and line not in titles]
    assert all(sections(f"{line}") for line in left)


@quick
@given(NOTES.map("".join), st.sampled_from(["Seen today.\n\n", "今日复诊。\n\n"]))
def test_offsets_move_with_the_text(text: str, before: str) -> None:
    """What a sentence is does not depend on what another paragraph says."""
    body = text.strip()
    inside = sentences(before + body)
    moved = [(start + len(before), end + len(before)) for start, end in sentences(body)]
    assert [span for span in inside if span[0] >= len(before)] == moved


@quick
@given(NOTES.map("".join))
def test_a_section_holds_its_text_up_to_the_next_heading(text: str) -> None:
    """Sections follow each other and their bodies are stripped."""
    found = sections(text)
    assert all(text[part.start : part.end] == text[part.start : part.end].strip() for part in found)
    assert all(left.end <= right.start for left, right in pairwise(found))


def dated(text: str, year: int | None, note_id: str = "n") -> Note:
    """A note of the first of January."""
    return Note(note_id, Coding("", "", ""), text, dt.date(year, 1, 1) if year else None)


def copies(*notes: Note) -> list[list[str]]:
    """The copied sentences themselves."""
    spans = copied_forward(notes)
    return [
        [note.text[start:end] for start, end in of_note]
        for note, of_note in zip(notes, spans, strict=True)
    ]


def test_what_a_later_note_repeats_is_marked_whatever_the_order() -> None:
    """The date decides which was first; case and white space do not."""
    late = dated("FORGETS names.  Now gets lost. 否认幻觉。", 2025)
    early = dated("Forgets\nnames. 否认幻觉。", 2020)
    assert copies(late, early) == [["FORGETS names.", "否认幻觉。"], []]


def test_an_identical_note_is_a_copy_as_a_whole() -> None:
    """Exports repeat documents under new ids."""
    text = "Assessment:\nForgets names. Gait is normal."
    assert copies(dated(text, 2020, "a"), dated(text, 2020, "b")) == [
        [],
        ["Forgets names.", "Gait is normal."],
    ]


def test_a_sentence_said_twice_in_one_note_counts_once() -> None:
    """A hundred times the same is no hundred observations; without dates the order decides."""
    assert copies(dated("Lost. Lost.", None)) == [["Lost."]]
    assert copies(dated("Lost.", None), dated("Lost. Fell.", None)) == [[], ["Lost."]]
    assert copied_forward(()) == ()
