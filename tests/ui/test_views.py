"""What the physician reads is what the record says, and nothing in it can run."""

import dataclasses
import datetime as dt
import re

import pytest
from conftest import ATTACK, SENTENCE, FixedAssistant, record, tokens

from clinical.evidence import FactPointer
from clinical.record import ReferenceRange
from fusion.case import Case
from fusion.store import CaseRow
from ui import sources, views
from ui.charts import trend
from ui.page import AGREE, OVERRIDE, _refusal
from ui.texts import load_texts
from ui.views import OpenCase

EN, ZH = load_texts("en"), load_texts("zh")
SCHEME = FixedAssistant.scheme


@pytest.fixture
def case() -> OpenCase:
    """A case without history tokens, opened."""
    present = {m: t for m, t in tokens().items() if m != "history"}
    found = FixedAssistant().diagnose(Case("abc123", "k", present))
    row = CaseRow(
        case_id="abc123", age_years=73.8, sex="male", modalities=list(present), findings=[ATTACK],
        reviewed=False,
    )  # fmt: skip
    return OpenCase(row, record(name=ATTACK), found, label="DE", has_scan=True)


def everything(case: OpenCase, texts) -> str:
    """All markup that a case can lead to."""
    sourced = [sources.source(piece, case, texts) for piece in case.diagnosis.evidence["DE"]]
    return "".join([
        views.worklist([case.row], None, texts), views.banner(case, texts),
        views.assessment(case, SCHEME, texts), sources.evidence_list(case, SCHEME, texts),
        sources.all_notes(case.record, texts), sources.all_labs(case.record, texts),
        sources.history(case.record, texts), *sourced,
    ])  # fmt: skip


@pytest.mark.parametrize("texts", [EN, ZH], ids=["en", "zh"])
def test_a_hostile_note_name_or_finding_stays_text(case, texts):
    """Neither markup nor the marks of the page's template language survive from outside."""
    markup = everything(case, texts)
    assert "&lt;script&gt;" in markup
    assert not re.search(r"<script|<img|\$\{|\{\{", markup)


def test_the_sentence_is_marked_where_the_note_says_it(case):
    """The evidence's offsets, and no others, are highlighted."""
    piece = next(p for p in case.diagnosis.evidence["DE"] if p.modality == "notes")
    assert f'<mark id="marked">{views.esc(SENTENCE)}</mark>' in sources.source(piece, case, EN)


def test_the_banner_says_plainly_what_is_missing(case):
    """Absence is normal, but never silent."""
    assert "Missing: History." in views.banner(case, EN)
    assert "缺失：病史" in views.banner(case, ZH)


def test_a_falling_score_is_drawn_with_its_range_dates_and_numbers(case):
    """Three MMSE scores: 27, 25 and 21 points, of which the last is below 24-30."""
    piece = next(p for p in case.diagnosis.evidence["DE"] if p.modality == "labs")
    course = sources.source(piece, case, EN)
    assert course.count("<circle") == 3
    assert all(part in course for part in ("24–30", "9 Mar 2022", "9 Mar 2024", ">21<"))
    assert course.count('class="flag"') == 1


def test_a_value_without_a_sent_range_is_held_against_that_of_adults(case):
    """Vitamin B12 of 180 pg/mL is low; the laboratory sent no range."""
    row = re.search(r"<tr><td>Vitamin B12.*?</tr>", sources.all_labs(case.record, EN)).group()
    assert "low" in row
    assert "203–900 pg/mL" in row


def test_a_constant_value_can_be_drawn():
    """No division by a height or a time of zero."""
    today = dt.date(2024, 1, 1)
    drawn = trend([(today, 0.0), (today, 0.0)], ReferenceRange(None, None), "mg/dL", EN)
    assert "nan" not in drawn


def test_a_region_leads_to_its_label_in_the_map(case):
    """The viewer finds the left hippocampus by label 1."""
    assert 'data-region="1"' in sources.evidence_list(case, SCHEME, EN)


def test_agreeing_means_the_likeliest_syndrome_and_causes_above_one_half(case):
    """Dementia (0.74) with Alzheimer's disease (0.68), not vascular disease (0.22)."""
    assert views.proposal(case.diagnosis, SCHEME) == ("DE", "AD")


def test_normal_cognition_has_no_cause(case):
    """A cause above one half does not make a healthy person ill."""
    chances = {**case.diagnosis.probabilities, "NC": 0.9, "DE": 0.05, "MCI": 0.05}
    healthy = dataclasses.replace(case.diagnosis, probabilities=chances)
    assert views.proposal(healthy, SCHEME) == ("NC",)


def test_nobody_can_agree_with_an_assistant_that_abstains(case):
    """Only an own diagnosis remains."""
    silent = dataclasses.replace(case.diagnosis, abstains="abstains_uninformative")
    abstaining = dataclasses.replace(case, diagnosis=silent)
    assert _refusal(abstaining, AGREE, "DE", "") == "need_choice"
    assert _refusal(case, AGREE, "DE", "") is None
    assert "abstains" in views.assessment(abstaining, SCHEME, EN)


def test_an_override_needs_a_reason(case):
    """Blank is no reason."""
    assert _refusal(case, OVERRIDE, "MCI", "  ") == "need_reason"
    assert _refusal(case, OVERRIDE, "MCI", "by history") is None


def test_the_worklist_finds_cases_by_age_sex_id_and_status(case):
    """All words must fit."""
    assert views.matches(case.row, "73 male", "open", EN)
    assert views.matches(case.row, "abc", "all", EN)
    assert not views.matches(case.row, "73 female", "all", EN)
    assert not views.matches(case.row, "", "done", EN)


def test_a_probability_never_claims_certainty():
    """0 and 100 percent are not ours to say."""
    assert (views._percent(0.0), views._percent(100.0)) == ("&lt;1 %", "&gt;99 %")


def test_both_languages_say_everything():
    """The same keys, with the same values going in; only analyte names may fall back."""

    def holes(text: str) -> set[str]:
        return set(re.findall(r"\{(\w+)\}", text))

    words = {key for key in ZH.words if not key.startswith("loinc.")}
    assert words == set(EN.words)
    assert [key for key in words if holes(EN.words[key]) != holes(ZH.words[key])] == []


@pytest.mark.parametrize(("texts", "said"), [(EN, "Family history, mother"), (ZH, "家族史")])
def test_a_relatives_disease_is_never_shown_as_the_patients(texts, said) -> None:
    """The line of evidence says whose it is."""
    pointer = FactPointer("f1", "sct", "2", "Memory loss")
    assert sources.describe(pointer, record(), texts).startswith(said)


def test_facts_about_the_patient_are_in_the_readers_language() -> None:
    """Sex and schooling are words of the page, not of the code."""
    sex, schooling = (FactPointer("patient", "", code, "x") for code in ("sex", "education"))
    assert sources.describe(sex, record(), ZH) == "男"
    assert sources.describe(schooling, record(), EN) == "12 years of schooling"


@pytest.mark.parametrize(("texts", "said"), [(EN, "engine openvino"), (ZH, "推理引擎 openvino")])
def test_the_page_says_which_engine_ran(case, texts, said):
    """Beside the model and the reader of the notes."""
    assert said in views.assessment(case, SCHEME, texts)
