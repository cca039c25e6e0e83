"""Notes in Chinese, read by rules and said in English."""

import time

import pytest

from clinical.notes import sentences
from clinical.record import Coding, Note
from clinical.rules_only import RULES_ONLY_QUALITY, rule_sentences
from clinical.symptoms_zh import SYMPTOMS


def read(text: str, language: str = "zh") -> str:
    """All that the rules say of a text."""
    note = Note("n1", Coding("", "", ""), text, language=language)
    return " ".join(english for _, english in rule_sentences(note))


@pytest.mark.parametrize(
    ("chinese", "english"),
    [
        ("否认幻觉。", "No hallucinations."),
        ("MMSE 21 分。", "MMSE score 21."),
        ("记忆力下降。", "Memory decline."),
        ("近一年步态不稳，反复跌倒。", "Unsteady gait. Falls."),
        ("否认幻觉、妄想及跌倒。", "No hallucinations. No delusions. No falls."),
        ("无尿失禁，但有便秘。", "No urinary incontinence. Constipation."),
        ("患者，女，72岁。", "The patient is 72 years old. The patient is a woman."),
        ("既往史：脑梗死病史。", "History of stroke."),
        ("未服用多奈哌齐，目前服用舍曲林。", "Does not take donepezil. Takes sertraline."),
        ("生活不能自理。", "Needs help with daily activities."),
        ("生活完全自理。", "Independent in daily activities."),
        ("可疑幻视。", "Possibly visual hallucinations."),
        ("TSH 8.2 mIU/L。", "TSH 8.2 m[IU]/L."),
    ],
)
def test_a_chinese_sentence_is_said_in_english(chinese: str, english: str) -> None:
    """Statements, symptoms, and what is said around them."""
    assert read(chinese) == english


@pytest.mark.parametrize(
    ("chinese", "english"),
    [
        ("记忆力未见明显下降。", "No memory complaints."),
        ("性格无改变。", "No change of personality."),
        ("情绪不稳定。", "Irritable and agitated."),
        ("言语不清楚。", "Speech is reduced and effortful."),
        ("神经系统查体未见明显异常。", "Neurological examination is normal."),
        ("无明显诱因出现言语减少。", "Speech is reduced and effortful."),
    ],
)
def test_a_denial_inside_the_mention_counts_and_a_word_like_one_does_not(
    chinese: str, english: str
) -> None:
    """Chinese puts its denial in the middle."""
    assert read(chinese) == english


def test_a_relatives_symptom_is_not_the_patients() -> None:
    """But that dementia runs in the family is a fact of the patient."""
    assert read("父亲有震颤。") == ""
    assert read("母亲患有痴呆。") == "Family history of dementia."


def test_where_no_rule_finds_anything_there_is_no_evidence() -> None:
    """Rather none than nonsense."""
    assert read("夏天喜欢种花。右眼曾行白内障手术。") == ""


def test_a_language_without_rules_gives_nothing() -> None:
    """The note's language decides, not what is in it."""
    assert read("记忆力下降。", language="en") == ""


def test_each_sentence_keeps_its_place_in_the_note() -> None:
    """So that the page can mark it."""
    text = "天气好。记忆力下降。\n查体：步态不稳。"
    note = Note("n1", Coding("", "", ""), text, language="zh")
    spans = [span for span, _ in rule_sentences(note)]
    assert [text[start:end] for start, end in spans] == ["记忆力下降。", "查体：步态不稳。"]
    assert set(spans) <= set(sentences(text))


def test_invisible_characters_hide_nothing_from_the_rules() -> None:
    """They are taken out before."""
    assert read("记\u200b忆\u2060力下\u202e降。") == "Memory decline."


def test_what_only_identifies_the_patient_is_not_said() -> None:
    """A birth date is no evidence."""
    assert read("出生日期：1950年3月4日。") == ""


def test_every_row_says_both_sides_and_finds_something() -> None:
    """No row is there twice, and none finds an empty text."""
    for symptom in SYMPTOMS:
        assert symptom.present != symptom.absent
        assert symptom.chinese.search("") is None
    assert len({symptom.present for symptom in SYMPTOMS}) == len(SYMPTOMS)


def test_a_hostile_note_costs_time_in_proportion_to_its_length() -> None:
    """Eight times the text takes no 24 times as long."""

    def seconds(text: str) -> float:
        began = time.process_time()
        read(text)
        return time.process_time() - began

    short, long = (seconds("否认幻觉，记忆不" * n) for n in (1000, 8000))
    assert long < 8 * short * 3 + 0.5


def test_rules_weigh_less_than_reading() -> None:
    """And more than what was not read at all."""
    assert 0.2 < RULES_ONLY_QUALITY < 1
