"""What the checks found against each other: both sides, what they weigh, and who decided what."""

from collections.abc import Sequence

from clinical.findings import Finding, Source, Verdict
from clinical.record import Note
from fusion.store import FindingDecision
from imaging.pictures import millilitres, whole
from ui.sources import unit
from ui.texts import Texts
from ui.views import OpenCase, day, esc, number

SHOWN_OPEN = 2  # contradictions before the rest is folded
SHOWN_SOURCES = 4  # entries of one side
AROUND = 70  # characters of a note before and after what is quoted


def card(case: OpenCase, texts: Texts) -> str:
    """Every finding that a person can decide about, the undecided ones first."""
    decided = {decision.finding_key: decision for decision in case.decisions}
    findings = [finding for finding in case.row.found if finding.can_be_resolved]
    if not findings:
        return ""
    open_ = [f for f in findings if f.key not in decided]
    done = [f for f in findings if f.key in decided]
    shown = "".join(_article(f, None, case, texts) for f in open_[:SHOWN_OPEN])
    more = [_article(f, None, case, texts) for f in open_[SHOWN_OPEN:]]
    past = [_article(f, decided[f.key], case, texts) for f in done]
    return (
        f"<h3>{esc(texts('contradictions', n=len(open_)))}</h3>"
        f'<p class="fine">{esc(texts("contradictions_help"))}</p>{shown}'
        f"{_folded(more, texts('more_contradictions', n=len(more)))}"
        f"{_folded(past, texts('decided', n=len(past)))}"
    )


def _folded(articles: Sequence[str], title: str) -> str:
    """Some articles behind a line; nothing where there are none."""
    if not articles:
        return ""
    return f"<details><summary>{esc(title)}</summary>{''.join(articles)}</details>"


def _article(
    finding: Finding, decision: FindingDecision | None, case: OpenCase, texts: Texts
) -> str:
    """One finding with both sides, its weight and what can be done."""
    verdict: Verdict | None = None
    if decision is not None:
        verdict = next((v for v in ("first", "second", "unfounded") if v == decision.verdict), None)
    left = finding.left(verdict)
    sides = _side("A", finding.first, left[0], case, texts)
    if finding.second:
        sides += _side("B", finding.second, left[1], case, texts)
    return (
        f'<article class="contradiction" data-key="{esc(finding.key)}">'
        f"<p><b>{esc(texts.finding(finding))}</b></p>"
        f'<div class="sides">{sides}</div>{_decision(finding, decision, texts)}'
        f'<p class="choices">{_buttons(finding, texts)}</p></article>'
    )


def _side(name: str, sources: Sequence[Source], left: float, case: OpenCase, texts: Texts) -> str:
    """One side: its entries as the record has them, and what they weigh now."""
    entries = "".join(
        f"<li>{look_up(source, case, texts)}</li>" for source in sources[:SHOWN_SOURCES]
    )
    rest = len(sources) - SHOWN_SOURCES
    more = f"<li>{esc(texts('more_entries', n=rest))}</li>" if rest > 0 else ""
    weight = texts("weight_none") if left == 0 else texts("weight", n=f"{left:g}")
    if left == 1.0:
        weight = texts("weight_full")
    return (
        f'<div class="side"><h4>{name} <small>{esc(weight)}</small></h4>'
        f"<ul>{entries}{more}</ul></div>"
    )


def _buttons(finding: Finding, texts: Texts) -> str:
    """What a person can say: which side is right, or that nothing contradicts."""
    words = {"first": "a_is_right", "second": "b_is_right", "unfounded": "no_contradiction"}
    if not finding.second:
        words = {"unfounded": "entry_right", "second": "entry_wrong"}
    return "".join(
        f'<button type="button" data-pick="{esc(finding.key)} {verdict}">{esc(texts(key))}</button>'
        for verdict, key in words.items()
    )


def _decision(finding: Finding, decision: FindingDecision | None, texts: Texts) -> str:
    """Who decided what, when and why."""
    if decision is None:
        return ""
    words = {"first": "a_is_right", "second": "b_is_right", "unfounded": "no_contradiction"}
    if not finding.second:
        words |= {"unfounded": "entry_right", "second": "entry_wrong"}
    at = texts("utc", at=f"{decision.at:%Y-%m-%d %H:%M}")
    return (
        f'<p class="verdict"><b>{esc(decision.user)}</b>: '
        f"{esc(texts(words.get(decision.verdict, decision.verdict)))} "
        f"<time>{esc(at)}</time> <q>{esc(decision.reason)}</q></p>"
    )


def look_up(source: Source, case: OpenCase, texts: Texts) -> str:
    """One entry as the record, the scan or its header has it; escaped."""
    if source.kind == "note":
        return _quoted(source, case.record.notes, texts)
    if source.kind == "region":
        return _region(source.id, case, texts)
    if source.kind == "header":
        return f"{esc(texts('header'))}: {day(case.row.facts.acquisition.acquired_on, texts)}"
    if source.kind == "patient":
        known = case.record
        own = esc(texts(f"sex.{known.sex}")) if source.id == "sex" else day(known.birth_date, texts)
        return f"{esc(texts('record'))}: {own}"
    return _coded(source, case, texts)


def _coded(source: Source, case: OpenCase, texts: Texts) -> str:
    """A value, a diagnosis or a drug."""
    for seen in case.record.observations:
        if seen.id == source.id:
            value = seen.text or "" if seen.value is None else number(seen.value)
            name = texts.analyte(seen.loinc, seen.name)
            said = " ".join(filter(None, (name, value, unit(seen.unit))))
            return f"{esc(said)}, {day(seen.date, texts)}"
    for condition in case.record.conditions:
        if condition.id == source.id:
            name = condition.code.display or condition.code.code
            return f"{esc(name)} ({esc(condition.clinical_status)}), {day(condition.onset, texts)}"
    for drug in case.record.medications:
        if drug.id == source.id:
            name = drug.code.display or drug.code.code
            return f"{esc(name)} ({esc(drug.status)}), {day(drug.start, texts)}"
    return esc(source.id)


def _quoted(source: Source, notes: Sequence[Note], texts: Texts) -> str:
    """What a note says, marked, with some words around it."""
    note = next((note for note in notes if note.id == source.id), None)
    if note is None:
        return esc(source.id)
    head = f"{esc(note.kind.display or texts('note'))}, {day(note.date, texts)}"
    if not source.end:
        return head
    before = note.text[max(0, source.start - AROUND) : source.start]
    after = note.text[source.end : source.end + AROUND]
    marked = esc(note.text[source.start : source.end])
    return (
        f'{head}<blockquote lang="{esc(note.language)}">… {esc(before)}<mark>{marked}</mark>'
        f"{esc(after)} …</blockquote>"
    )


def _region(key: str, case: OpenCase, texts: Texts) -> str:
    """Volume and centile of a region."""
    pointer = next((p for p in case.regions if p.region == key), None)
    if pointer is None:
        return esc(texts.region(key))
    centile = "" if pointer.centile is None else texts("centile_short", n=whole(pointer.centile))
    return f"{esc(texts.region(key))}: {millilitres(pointer.volume_mm3)}, {esc(centile)}"
