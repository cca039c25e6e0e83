"""A sentence that only rules have read is marked as such, in both languages."""

from dataclasses import replace

import pytest
from conftest import record

from clinical.evidence import SentencePointer
from clinical.record import Coding, Note
from fusion.explain import Evidence
from fusion.store import CaseRow, now
from ui.sources import describe, source
from ui.texts import load_texts
from ui.views import OpenCase

TEXT = "天气好。否认幻觉。"
MARKS = {"en": "read by rules only", "zh": "仅按规则读取"}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_sentence_read_by_rules_says_so_and_what_they_read(language: str) -> None:
    """In the ranking the mark, at the source also the English that the assistant was given."""
    texts = load_texts(language)
    made = replace(record(), notes=(Note("n1", Coding("", "", ""), TEXT, language="zh"),))
    row = CaseRow(case_id="c1", patient_key="p1", imported_at=now(), sex="male")
    by_rules, read = (SentencePointer("n1", 4, 9, by_rules=rules) for rules in (True, False))
    case = OpenCase(row, made, None)

    assert MARKS[language] in describe(by_rules, made, texts)
    shown = source(Evidence("notes", 0, by_rules, 0.1, 0.1), case, texts)
    assert MARKS[language] in shown
    assert "No hallucinations." in shown
    assert MARKS[language] not in describe(read, made, texts)
    assert MARKS[language] not in source(Evidence("notes", 0, read, 0.1, 0.1), case, texts)
