"""The page shows both sides of a contradiction, lets a person decide, and shows what it weighs."""

import dataclasses
from types import SimpleNamespace

import pytest
from conftest import ATTACK, SENTENCE, TEXT

from clinical.findings import Finding, Source, dump
from fusion.store import CaseRow, Site
from ui.contradictions import card
from ui.page import Actions, Events
from ui.sources import evidence_list
from ui.texts import load_texts

REQUEST = SimpleNamespace(username="dr.lee")
NAMES = ["state", "contradictions", "contradicting", "finding_said", "evidence"]
START = TEXT.index(SENTENCE)
SCORE = Finding(
    "score", "score", (("analyte", "72106-8"),),
    (Source("note", "n1", START, START + len(SENTENCE)),),
    (Source("observation", "o2024"),), (0.5, 0.5),
)  # fmt: skip
ATROPHY = Finding(
    "atrophy", "atrophy missed", (("region", "left hippocampus"),),
    (Source("note", "n1", TEXT.index(ATTACK), START),), (Source("region", "left hippocampus"),),
    (0.5, 0.5),
)  # fmt: skip
ALONE = Finding("implausible", "age outside", (("high", "120"),), (Source("condition", "c1"),))


@pytest.fixture
def contradicted(site: Site) -> Site:
    """The first case has three contradictions."""
    with site.session() as session:
        session.get_one(CaseRow, "abc123").findings = dump([SCORE, ATROPHY, ALONE])
    return site


def events(site: Site, assistant, language: str = "en") -> Events:
    """The page in a language."""
    return Events(Actions(site, assistant, load_texts(language)), NAMES)


def press(page: Events, finding: Finding, verdict: str, reason: str = "asked") -> dict:
    """A click on one of a finding's buttons."""
    case, pick = page.actions.read("abc123"), SimpleNamespace(pick=f"{finding.key} {verdict}")
    return dict(zip(NAMES, page.resolve(case, reason, "", "all", pick, REQUEST), strict=True))


@pytest.mark.parametrize(
    ("language", "said"),
    [("en", ("A note gives another MMSE", "Left hippocampus", "9 Mar 2024")),
     ("zh", ("与同日编码结果不一致", "左侧海马", "2024年3月9日"))],
)  # fmt: skip
def test_both_sides_are_looked_up_in_the_readers_language(
    contradicted, assistant, language, said
) -> None:
    """The sentence of the note, the coded value, the region; what comes from outside is text."""
    shown = card(
        events(contradicted, assistant, language).actions.read("abc123"), load_texts(language)
    )
    assert all(words in shown for words in (*said, SENTENCE, "MMSE 21", "2.31 mL"))
    assert "<script" not in shown
    assert shown.count("data-pick") == 8  # three choices, and two where nothing is opposite


def test_the_evidence_shows_that_it_weighs_less(contradicted, assistant) -> None:
    """Where it stands in the ranking."""
    page = events(contradicted, assistant)
    case, texts = page.actions.read("abc123"), load_texts("en")
    assert evidence_list(case, assistant.scheme, texts).count("weight × 0.5") == 4


def test_a_decision_without_a_reason_changes_nothing(contradicted, assistant) -> None:
    """The page asks for it."""
    answer = press(events(contradicted, assistant), SCORE, "first", " ")
    assert "needs a reason" in answer["finding_said"]
    assert contradicted.finding_decisions("abc123") == []


def test_a_decision_is_signed_shown_and_takes_the_wrong_side_out(contradicted, assistant) -> None:
    """The case opens anew with its new weights."""
    answer = press(events(contradicted, assistant), SCORE, "first")
    assert [(d.user, d.verdict) for d in contradicted.finding_decisions("abc123")] == [
        ("dr.lee", "first")
    ]
    assert all(words in answer["contradicting"] for words in ("Decided (1)", "dr.lee", "asked"))
    assert "labs" in answer["state"].diagnosis.missing
    assert contradicted.audit_trail()[-2].action == "finding: first"


@pytest.mark.parametrize("pick", ["no such", "abc first", f"{SCORE.key} perhaps", ""])
def test_a_made_up_click_decides_nothing(contradicted, assistant, pick) -> None:
    """Whatever a browser sends."""
    page = events(contradicted, assistant)
    case = page.actions.read("abc123")
    page.resolve(case, "why", "", "all", SimpleNamespace(pick=pick), REQUEST)
    assert contradicted.finding_decisions("abc123") == []


def test_a_case_without_contradictions_has_no_card(site, assistant) -> None:
    """And a finding that nobody can decide stays a line in the banner."""
    shown = events(site, assistant).actions.show(events(site, assistant).actions.read("abc123"))
    assert not shown["contradictions"]["visible"]
    assert "MMSE fell by 6" in shown["banner"]


def test_a_source_that_is_gone_is_named_by_its_id(contradicted, assistant) -> None:
    """A record that was imported anew may lack it."""
    case = events(contradicted, assistant).actions.read("abc123")
    bare = dataclasses.replace(case.record, notes=(), observations=())
    shown = card(dataclasses.replace(case, record=bare, regions=()), load_texts("en"))
    assert all(key in shown for key in ("n1", "o2024"))
