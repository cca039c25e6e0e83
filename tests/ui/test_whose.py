"""The page asks whose scan a blocked case has, and shows no assessment before it is told."""

from types import SimpleNamespace

import pytest

from fusion.identity import Disagreement
from fusion.store import CaseRow, ScanFacts, Site, dump_facts
from ui.page import OVERRIDE, Actions, Events
from ui.texts import load_texts
from ui.whose import whose_scan

REQUEST = SimpleNamespace(username="dr.lee")
NAMES = ["state", "whose", "whose_facts", "whose_said", "assessment", "viewer"]
FACTS = (
    Disagreement("identifier"),
    Disagreement("sex", "male", "female"),
    Disagreement("birth year", years_apart=12),
)


@pytest.fixture
def blocked(site: Site) -> Site:
    """The first case's scan says another patient."""
    with site.session() as session:
        row = session.get_one(CaseRow, "abc123")
        row.scan_sha256, row.scan_facts = "f" * 64, dump_facts(ScanFacts(disagreements=FACTS))
    return site


@pytest.fixture
def events(blocked, assistant) -> Events:
    """The page in English."""
    return Events(Actions(blocked, assistant, load_texts("en")), NAMES)


def test_a_blocked_case_shows_the_question_and_no_assessment(events) -> None:
    """Though the assistant would have an opinion."""
    shown = events.actions.show(events.actions.read("abc123"))

    assert shown["whose"]["visible"]
    assert "nobody has decided" in shown["assessment"]
    assert shown["state"].diagnosis is None


@pytest.mark.parametrize("language", ["en", "zh"])
def test_each_disagreement_is_told_in_the_readers_language(language) -> None:
    """Nothing of the header but the sex is shown."""
    texts = load_texts(language)
    shown = whose_scan(FACTS, texts)

    assert all(said in shown for said in (texts("sex.male"), texts("sex.female"), "12"))
    assert "whose." not in shown
    assert whose_scan((), texts) == ""


def test_a_decision_without_a_reason_changes_nothing(events, blocked) -> None:
    """The page asks for it."""
    case = events.actions.read("abc123")
    answer = dict(zip(NAMES, events.keep_scan(case, " ", "", "all", REQUEST), strict=True))

    assert "needs a reason" in answer["whose_said"]
    assert blocked.row("abc123").is_blocked


@pytest.mark.parametrize(("button", "same"), [("keep_scan", True), ("take_scan_away", False)])
def test_either_decision_opens_the_case_and_is_signed(events, blocked, button, same) -> None:
    """With the scan or without it."""
    case = events.actions.read("abc123")
    pressed = getattr(events, button)
    answer = dict(zip(NAMES, pressed(case, "asked", "", "all", REQUEST), strict=True))

    assert not answer["whose"]["visible"]
    assert answer["state"].diagnosis is not None
    assert answer["state"].has_scan == same
    assert [(d.user, d.same) for d in blocked.identity_decisions("abc123")] == [("dr.lee", same)]


def test_nobody_signs_a_blocked_case(events, blocked) -> None:
    """Not even with a diagnosis of one's own."""
    case = events.actions.read("abc123")
    _, said = events.actions.store(case, "dr.lee", OVERRIDE, "DE", [], "seen in clinic")

    assert "nobody has decided" in said
    assert blocked.reviews("abc123") == []
