"""The review page itself: Gradio blocks of one language, and what happens on a click."""

import logging
from dataclasses import dataclass, replace
from typing import Any, Protocol

import gradio as gr

from clinical.diagnoses import Scheme
from clinical.findings import VERDICTS
from fusion.assistant import Diagnosis
from fusion.case import Case
from fusion.store import BlockedError, Site
from imaging.norms import load_norms
from ui import contradictions, sources, views
from ui.reading import read_scan, read_weights
from ui.texts import Texts, load_texts
from ui.views import OpenCase, esc
from ui.volumes import volumes_card
from ui.whose import whose_scan

log = logging.getLogger(__name__)

AGREE, OVERRIDE = "agree", "override"
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
SEVERAL = 4  # requests of one event at a time; a diagnosis is a few hundred milliseconds

# One listener for all rows of a list: whatever carries data-pick can be chosen.
PICK = """
element.addEventListener('click', (event) => {
  const row = event.target.closest('[data-pick]');
  if (!row) return;
  window.consiliumPicked(row);
  trigger('select', {pick: row.dataset.pick});
});
"""


def _html(value: str = "", **settings: Any) -> gr.HTML:
    """A piece of the page in our own style alone; `value` must come from `ui.views`."""
    return gr.HTML(value, apply_default_css=False, **settings)


class Diagnoses(Protocol):
    """What the page needs of an assistant."""

    @property
    def scheme(self) -> Scheme:
        """What can be diagnosed."""

    def diagnose(self, case: Case) -> Diagnosis:
        """Fuse, calibrate and explain one case."""


@dataclass
class Widgets:
    """The components of the page that change, in the order of the page."""

    state: gr.State
    top: gr.HTML
    search: gr.Textbox
    status: gr.Radio
    worklist: gr.HTML
    notice: gr.HTML
    banner: gr.HTML
    contradictions: gr.Column
    contradicting: gr.HTML
    finding_reason: gr.Textbox
    finding_said: gr.HTML
    whose: gr.Column
    whose_facts: gr.HTML
    whose_reason: gr.Textbox
    whose_said: gr.HTML
    is_mine: gr.Button
    not_mine: gr.Button
    viewer: gr.HTML
    assessment: gr.HTML
    evidence: gr.HTML
    tabs: gr.Tabs
    source: gr.HTML
    volumes: gr.HTML
    notes: gr.HTML
    labs: gr.HTML
    history: gr.HTML
    verdict: gr.Radio
    syndrome: gr.Radio
    causes: gr.CheckboxGroup
    reason: gr.Textbox
    store: gr.Button
    said: gr.HTML
    reviews: gr.HTML
    body: gr.Column
    empty: gr.HTML


def build_page(site: Site, assistant: Diagnoses, language: str) -> gr.Blocks:
    """Build the page.

    Args:
        site: The hospital whose cases are reviewed.
        assistant: Who diagnoses them.
        language: ``en`` or ``zh``.
    """
    texts = load_texts(language)
    page: gr.Blocks
    with gr.Blocks(
        title=texts("title"), fill_width=True, analytics_enabled=False, delete_cache=(3600, 3600)
    ) as page:
        widgets = _layout(texts, assistant.scheme)
        _connect(page, widgets, Actions(site, assistant, texts))
    return page


def _layout(texts: Texts, scheme: Scheme) -> Widgets:
    """All components, empty."""
    w: dict[str, Any] = {"state": gr.State(None)}
    w["top"] = _html(elem_id="top")
    with gr.Row(elem_id="columns"):
        with gr.Column(elem_id="side", scale=0, min_width=268):
            w |= _side(texts)
        with gr.Column(elem_id="main", scale=1):
            w["notice"] = _html(elem_id="notice")
            w["empty"] = _html(f'<div class="empty">{esc(texts("pick_case"))}</div>')
            with gr.Column(visible=False, elem_id="body") as w["body"]:
                w |= _body(texts, scheme)
    return Widgets(**w)


def _side(texts: Texts) -> dict[str, Any]:
    """The worklist with its search."""
    choices = [(texts(f"filter.{status}"), status) for status in ("all", "open", "done")]
    return {
        "search": gr.Textbox(
            show_label=False, placeholder=texts("search"), elem_id="search", container=False
        ),
        "status": gr.Radio(
            choices, value="all", show_label=False, elem_id="status", container=False
        ),
        "worklist": _html(js_on_load=PICK, elem_id="worklist"),
    }


def _body(texts: Texts, scheme: Scheme) -> dict[str, Any]:
    """Everything about the open case."""
    w: dict[str, Any] = {"banner": _html(elem_id="banner")}
    w |= _whose(texts)
    w |= _contradictions(texts)
    with gr.Row(elem_id="upper"):
        with gr.Column(scale=6, min_width=420):
            w["viewer"] = _html(elem_id="scan")
        with gr.Column(scale=5, min_width=380, elem_classes="card"):
            w["assessment"] = _html(js_on_load=PICK, elem_id="assessment")
    with gr.Row(elem_id="lower"):
        with gr.Column(scale=6, min_width=420, elem_classes="card"):
            w["evidence"] = _html(js_on_load=PICK, elem_id="evidence")
        with gr.Column(scale=5, min_width=380, elem_classes="card"):
            w |= _tabs(texts)
    w["volumes"] = _html(elem_id="volumes")
    with gr.Column(elem_classes="card", elem_id="review"):
        w |= _review(texts, scheme)
    return w


def _whose(texts: Texts) -> dict[str, Any]:
    """Where a person decides whose scan a blocked case has."""
    w: dict[str, Any] = {}
    with gr.Column(visible=False, elem_classes="card", elem_id="whose") as w["whose"]:
        w["whose_facts"] = _html()
        w["whose_reason"] = gr.Textbox(
            label=texts("whose_reason"), lines=1, max_length=4000, elem_id="whose-reason"
        )
        with gr.Row():
            w["is_mine"] = gr.Button(texts("whose_same"), elem_id="is-mine")
            w["not_mine"] = gr.Button(texts("whose_other"), elem_id="not-mine")
        w["whose_said"] = _html()
    return w


def _contradictions(texts: Texts) -> dict[str, Any]:
    """Where a person decides which side of a contradiction is right."""
    w: dict[str, Any] = {}
    with gr.Column(visible=False, elem_classes="card", elem_id="contradictions") as column:
        w["contradicting"] = _html(js_on_load=PICK, elem_id="contradicting")
        w["finding_reason"] = gr.Textbox(
            label=texts("finding_reason"), lines=1, max_length=4000, elem_id="finding-reason"
        )
        w["finding_said"] = _html(elem_id="finding-said")
    return {"contradictions": column, **w}


def _tabs(texts: Texts) -> dict[str, Any]:
    """Where evidence comes from, and all of the record."""
    w: dict[str, Any] = {}
    with gr.Tabs(selected="source", elem_id="tabs") as w["tabs"]:
        for name in ("source", "notes", "labs", "history"):
            with gr.Tab(texts(f"{name}_tab"), id=name, render_children=True):
                w[name] = _html(elem_id=f"{name}-view", elem_classes="scrolls")
    return w


def _review(texts: Texts, scheme: Scheme) -> dict[str, Any]:
    """Agree or override."""
    w: dict[str, Any] = {}
    _html(f"<h3>{esc(texts('review'))}</h3>")
    with gr.Row():
        with gr.Column(scale=6, min_width=420):
            w["verdict"] = gr.Radio([], show_label=False, elem_id="verdict", container=False)
            w["syndrome"] = gr.Radio(
                [(label.name(texts.language), label.key) for label in scheme.syndromes],
                label=texts("your_syndrome"), visible=False, elem_id="syndrome",
            )  # fmt: skip
            w["causes"] = gr.CheckboxGroup(
                [(label.name(texts.language), label.key) for label in scheme.causes],
                label=texts("your_causes"), visible=False, elem_id="causes",
            )  # fmt: skip
            w["reason"] = gr.Textbox(
                label=texts("reason"), lines=2, max_length=4000, elem_id="reason"
            )
            w["store"] = gr.Button(texts("sign"), variant="primary", elem_id="store")
            w["said"] = _html(elem_id="said")
        with gr.Column(scale=5, min_width=380):
            w["reviews"] = _html(elem_id="reviews")
    return w


class Actions:
    """What the page does; every method answers one event with new contents."""

    def __init__(self, site: Site, assistant: Diagnoses, texts: Texts) -> None:
        self.site, self.assistant, self.texts = site, assistant, texts

    def worklist(self, search: str, status: str, case: OpenCase | None) -> str:
        """The cases that match."""
        rows = [r for r in self.site.cases() if views.matches(r, search, status, self.texts)]
        return views.worklist(rows, case.row.case_id if case else None, self.texts)

    def read(self, case_id: str) -> OpenCase:
        """Everything about a case, with a diagnosis where there can be one.

        Raises:
            fusion.store.SiteError: There is no such case.
        """
        row, record = self.site.row(case_id), self.site.record(case_id)
        found, problem = None, ""
        try:
            found = self.assistant.diagnose(self.site.case(case_id))
        except BlockedError:
            problem = self.texts("blocked")
        except ValueError as error:
            log.warning("case %s has no diagnosis: %s", case_id, error)
            problem = str(error)
        label = views.leading(found, self.assistant.scheme) if found else ""
        has_scan = self.site.scan_path(case_id) is not None
        doubted, regions = read_weights(self.site, case_id)
        return OpenCase(
            row, record, found, problem, tuple(self.site.reviews(case_id)), label, has_scan,
            read_scan(self.site, case_id), tuple(self.site.finding_decisions(case_id)), doubted,
            regions,
        )  # fmt: skip

    def show(self, case: OpenCase) -> dict[str, Any]:
        """Contents of every component for a case, by name."""
        texts, scheme, record = self.texts, self.assistant.scheme, case.record
        quiet = f'<p class="quiet">{esc(texts("pick_evidence"))}</p>'
        return {
            "state": case,
            "empty": gr.update(visible=False),
            "body": gr.update(visible=True),
            "notice": self.notice(case),
            "banner": views.banner(case, texts),
            "whose": gr.update(visible=case.row.is_blocked),
            "whose_facts": whose_scan(case.row.facts.disagreements, texts),
            "whose_reason": "",
            "whose_said": "",
            "contradictions": gr.update(visible=any(f.can_be_resolved for f in case.row.found)),
            "contradicting": contradictions.card(case, texts),
            "finding_reason": "",
            "finding_said": "",
            "viewer": views.viewer(case, texts),
            "assessment": views.assessment(case, scheme, texts),
            "evidence": sources.evidence_list(case, scheme, texts),
            "tabs": gr.update(selected="source"),
            "source": quiet,
            "volumes": volumes_card(case.row.case_id, case.reading, load_norms(), texts),
            "notes": sources.all_notes(record, texts),
            "labs": sources.all_labs(record, texts),
            "history": sources.history(record, texts),
            "reviews": views.reviews(case, scheme, texts),
            "said": "",
        } | self.empty_review(case)

    def empty_review(self, case: OpenCase) -> dict[str, Any]:
        """The review before anything is chosen; the override starts from the assistant's words."""
        texts, scheme = self.texts, self.assistant.scheme
        proposed = views.proposal(case.diagnosis, scheme) if case.diagnosis else ()
        can_agree = case.diagnosis is not None and case.diagnosis.abstains is None
        choices = [(texts("override" if can_agree else "own"), OVERRIDE)]
        if can_agree:
            named = views.label_names(proposed, scheme, texts)
            choices.insert(0, (texts("agree", labels=named), AGREE))
        syndromes = [s.key for s in scheme.syndromes if s.key in proposed]
        return {
            "verdict": gr.update(choices=choices, value=None),
            "syndrome": gr.update(value=next(iter(syndromes), None), visible=False),
            "causes": gr.update(
                value=[c.key for c in scheme.causes if c.key in proposed], visible=False
            ),
            "reason": gr.update(value=""),
        }

    def notice(self, case: OpenCase | None) -> str:
        """What this is and what the model was trained on."""
        trained_on = case.diagnosis.trained_on if case and case.diagnosis else ""
        return views.notice(trained_on, self.texts)

    def store(
        self, case: OpenCase, user: str, verdict: str | None, syndrome: str | None,
        causes: list[str], reason: str,
    ) -> tuple[OpenCase, str]:  # fmt: skip
        """Store a review.

        Returns:
            The case with it, and what to tell the physician; the same case where it was refused.
        """
        texts, scheme = self.texts, self.assistant.scheme
        refusal = _refusal(case, verdict, syndrome, reason)
        if refusal:
            return case, f'<p class="refused">{esc(texts(refusal))}</p>'
        agrees, found = verdict == AGREE, case.diagnosis
        chosen = [key for key in (syndrome, *causes) if key]
        labels = views.proposal(found, scheme) if agrees and found else tuple(chosen)
        self.site.add_review(
            case.row.case_id, user=user, agrees=agrees, labels=labels, reason=reason,
            model_name=found.model_name if found else "",
        )  # fmt: skip
        done = tuple(self.site.reviews(case.row.case_id))
        row = self.site.row(case.row.case_id)
        at = texts("utc", at=f"{done[-1].at:%Y-%m-%d %H:%M}")
        said = f'<p class="stored">{esc(texts("stored", user=user, at=at))}</p>'
        return replace(case, reviews=done, row=row), said


def _refusal(
    case: OpenCase | None, verdict: str | None, syndrome: str | None, reason: str
) -> str | None:
    """Why a review cannot be stored, as a key of the texts."""
    if case is None:
        return "need_case"
    if case.row.is_blocked:
        return "blocked"
    if verdict not in (AGREE, OVERRIDE):
        return "need_choice"
    if verdict == AGREE:
        may = case.diagnosis is not None and case.diagnosis.abstains is None
        return None if may else "need_choice"
    if not syndrome:
        return "need_syndrome"
    return None if reason.strip() else "need_reason"


class Events:
    """What each event of the page answers: new contents of `names`, the rest left as it is."""

    def __init__(self, actions: Actions, names: list[str]) -> None:
        self.actions, self.names = actions, names

    def answer(self, contents: dict[str, Any]) -> list[Any]:
        """Contents by name as the list that Gradio wants."""
        return [contents.get(name, gr.skip()) for name in self.names]

    def arrive(self, request: gr.Request) -> list[Any]:
        """Fill the page; open the case that its address names."""
        actions, case_id = self.actions, request.query_params.get("case", "")
        contents = {
            "top": views.header(actions.site.name, _user(request), actions.texts),
            "worklist": actions.worklist("", "all", None),
            "notice": actions.notice(None),
        }
        if any(row.case_id == case_id for row in actions.site.cases()):
            contents |= self._opened(case_id, "", "all", request)
        return self.answer(contents)

    def pick_case(
        self, search: str, status: str, event: gr.EventData, request: gr.Request
    ) -> list[Any]:
        """Open the chosen case."""
        return self.answer(self._opened(str(event.pick), search, status, request))

    def _opened(
        self, case_id: str, search: str, status: str, request: gr.Request
    ) -> dict[str, Any]:
        """Contents for a case; the audit trail notes who looked."""
        case = self.actions.read(case_id)
        self.actions.site.audit(_user(request), "open", case_id)
        listed = self.actions.worklist(search, status, case)
        return self.actions.show(case) | {"worklist": listed}

    def keep_scan(
        self, case: OpenCase | None, reason: str, search: str, status: str, request: gr.Request
    ) -> list[Any]:
        """The scan is this patient's: open the case anew, with its assessment."""
        return self._decide(case, reason, search, status, request, same=True)

    def take_scan_away(
        self, case: OpenCase | None, reason: str, search: str, status: str, request: gr.Request
    ) -> list[Any]:
        """The scan is another's: open the case anew, without it."""
        return self._decide(case, reason, search, status, request, same=False)

    def _decide(
        self, case: OpenCase | None, reason: str, search: str, status: str, request: gr.Request,
        *, same: bool,
    ) -> list[Any]:  # fmt: skip
        """Store whose scan it is."""
        if case is None:
            return self.answer({})
        actions, case_id = self.actions, case.row.case_id
        if not reason.strip():
            refused = f'<p class="refused">{esc(actions.texts("need_whose_reason"))}</p>'
            return self.answer({"whose_said": refused})
        if actions.site.row(case_id).is_blocked:  # else a colleague was faster
            actions.site.decide_identity(case_id, same=same, user=_user(request), reason=reason)
        return self.answer(self._opened(case_id, search, status, request))

    def resolve(
        self, case: OpenCase | None, reason: str, search: str, status: str,
        event: gr.EventData, request: gr.Request,
    ) -> list[Any]:  # fmt: skip
        """Store what a person says of a contradiction: open the case anew, with its new weights."""
        key, _, chosen = str(event.pick).partition(" ")
        verdict = next((known for known in VERDICTS if known == chosen), None)
        if case is None or verdict is None:
            return self.answer({})
        actions, case_id = self.actions, case.row.case_id
        if not reason.strip():
            refused = f'<p class="refused">{esc(actions.texts("need_whose_reason"))}</p>'
            return self.answer({"finding_said": refused})
        if key not in {finding.key for finding in actions.site.row(case_id).found}:
            return self.answer({})
        actions.site.resolve(case_id, key, verdict=verdict, user=_user(request), reason=reason)
        return self.answer(self._opened(case_id, search, status, request))

    def pick_label(self, case: OpenCase | None, event: gr.EventData) -> list[Any]:
        """Show the evidence of the chosen diagnosis."""
        scheme, texts, key = self.actions.assistant.scheme, self.actions.texts, str(event.pick)
        if case is None or key not in {label.key for label in scheme.labels}:
            return self.answer({})
        case = case.with_label(key)
        return self.answer(
            {
                "state": case,
                "assessment": views.assessment(case, scheme, texts),
                "evidence": sources.evidence_list(case, scheme, texts),
            }
        )

    def pick_piece(self, case: OpenCase | None, event: gr.EventData) -> list[Any]:
        """Show where the chosen evidence comes from."""
        pieces = case.diagnosis.evidence.get(case.label, ()) if case and case.diagnosis else ()
        n = int(event.pick) if str(event.pick).isdecimal() else len(pieces)
        if case is None or n >= len(pieces):
            return self.answer({})
        shown = sources.source(pieces[n], case, self.actions.texts)
        return self.answer({"tabs": gr.update(selected="source"), "source": shown})

    def store(
        self, case: OpenCase | None, verdict: str | None, syndrome: str | None, causes: list[str],
        reason: str, search: str, status: str, request: gr.Request,
    ) -> list[Any]:  # fmt: skip
        """Store the review and show it among the others."""
        if case is None:
            return self.answer({})
        actions = self.actions
        after, said = actions.store(case, _user(request), verdict, syndrome, causes, reason)
        if after is case:
            return self.answer({"said": said})
        return self.answer(
            {
                "state": after,
                "said": said,
                "reviews": views.reviews(after, actions.assistant.scheme, actions.texts),
                "worklist": actions.worklist(search, status, after),
            }
            | actions.empty_review(after)
        )


def _choose(verdict: str | None) -> tuple[Any, Any]:
    """Show the choice of diagnoses to who overrides."""
    shown = verdict == OVERRIDE
    return gr.update(visible=shown), gr.update(visible=shown)


def _connect(page: gr.Blocks, w: Widgets, actions: Actions) -> None:
    """Tie events to actions; every one private and with a stated limit."""
    names = [
        name for name in vars(w) if name not in ("search", "status", "store", "is_mine", "not_mine")
    ]
    everything = [getattr(w, name) for name in names]
    events, listed = Events(actions, names), [w.search, w.status, w.state]
    decision = [w.state, w.verdict, w.syndrome, w.causes, w.reason, w.search, w.status]
    whose = [w.state, w.whose_reason, w.search, w.status]
    finding = [w.state, w.finding_reason, w.search, w.status]
    for event, answer, inputs, outputs in (
        (page.load, events.arrive, None, everything),
        (w.search.input, actions.worklist, listed, w.worklist),
        (w.status.input, actions.worklist, listed, w.worklist),
        (w.worklist.select, events.pick_case, [w.search, w.status], everything),
        (w.assessment.select, events.pick_label, w.state, everything),
        (w.evidence.select, events.pick_piece, w.state, everything),
        (w.verdict.input, _choose, w.verdict, [w.syndrome, w.causes]),
        (w.store.click, events.store, decision, everything),
        (w.is_mine.click, events.keep_scan, whose, everything),
        (w.not_mine.click, events.take_scan_away, whose, everything),
        (w.contradicting.select, events.resolve, finding, everything),
    ):
        event(answer, inputs, outputs, concurrency_limit=SEVERAL, **PRIVATE)


def _user(request: gr.Request) -> str:
    """Who is logged in; the guard let nobody else through."""
    return str(request.username)
