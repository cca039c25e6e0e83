"""What a case looks like: pure functions from values to HTML, every word of it escaped.

Notes, names and codes come from outside and are hostile until escaped; `esc` is the only way
into the markup. It also disarms the template marks of the page's own framework.
"""

import datetime as dt
import html
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from clinical.diagnoses import Scheme
from clinical.findings import Finding
from clinical.record import PatientRecord
from fusion.assistant import Diagnosis
from fusion.case import MODALITIES, Pointer
from fusion.store import CaseRow, FindingDecision, Review
from imaging.encoder import RegionPointer
from ui.reading import ScanReading
from ui.texts import LANGUAGES, Texts

SHOWN_CASES = 200  # of a worklist; the search finds the others
_TEMPLATE_MARKS = str.maketrans({"{": "&#123;", "}": "&#125;", "$": "&#36;", "`": "&#96;"})


@dataclass(frozen=True)
class OpenCase:
    """Everything the page shows of one case.

    Attributes:
        row: Its line of the worklist.
        record: What the record says.
        diagnosis: What the assistant says; None where it cannot, see `problem`.
        problem: Why there is no diagnosis.
        reviews: Decisions on it, oldest first.
        label: Key of the diagnosis whose evidence is shown.
        has_scan: Whether there is a scan to look at.
        reading: What was measured in it; None where nothing was.
        decisions: What persons decided about its findings, oldest first.
        weights: What findings leave of the weight of a piece of evidence, where not all of it.
        regions: What the scan measured, whatever findings say of it.
    """

    row: CaseRow
    record: PatientRecord
    diagnosis: Diagnosis | None
    problem: str = ""
    reviews: tuple[Review, ...] = ()
    label: str = ""
    has_scan: bool = False
    reading: ScanReading | None = None
    decisions: tuple[FindingDecision, ...] = ()
    weights: Mapping[Pointer, float] = field(default_factory=dict)
    regions: tuple[RegionPointer, ...] = ()

    def with_label(self, label: str) -> "OpenCase":
        """The same case with another diagnosis selected."""
        return replace(self, label=label)


def esc(value: object) -> str:
    """Make any value safe inside an element or a quoted attribute.

    Example:
        >>> esc("<script>${x}</script>")
        '&lt;script&gt;&#36;&#123;x&#125;&lt;/script&gt;'
    """
    return html.escape(str(value), quote=True).translate(_TEMPLATE_MARKS)


def day(date: dt.date | None, texts: Texts) -> str:
    """A date as the reader's language writes it, escaped.

    Example:
        >>> from ui.texts import load_texts
        >>> day(dt.date(2024, 3, 9), load_texts("en")), day(dt.date(2024, 3, 9), load_texts("zh"))
        ('9 Mar 2024', '2024年3月9日')
    """
    if date is None:
        return esc(texts("date_unknown"))
    if texts.language == "zh":
        return f"{date.year}年{date.month}月{date.day}日"
    return f"{date.day} {date:%b %Y}"


def number(value: float) -> str:
    """A number to four digits, never in powers of ten.

    Example:
        >>> number(0.185), number(23.0), number(104663.2)
        ('0.185', '23', '104,663')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def worklist(rows: Sequence[CaseRow], selected: str | None, texts: Texts) -> str:
    """The cases as buttons."""
    shown = [_worklist_row(row, texts, is_selected=row.case_id == selected) for row in rows]
    if not shown:
        return _plain(texts("no_cases"))
    rest = len(shown) - SHOWN_CASES
    more = _plain(texts("more_cases", n=rest)) if rest > 0 else ""
    return f'<nav class="cases">{"".join(shown[:SHOWN_CASES])}</nav>{more}'


def matches(row: CaseRow, search: str, status: str, texts: Texts) -> bool:
    """Whether a case belongs in the worklist.

    Args:
        row: The case.
        search: Words that must all begin a word of its line; any case.
        status: ``all``, ``open`` or ``done``.
        texts: Language of the line.
    """
    if status != "all" and row.reviewed != (status == "done"):
        return False
    age = "" if row.age_years is None else str(int(row.age_years))
    words = f"{row.case_id} {age} {texts(f'sex.{row.sex}')} {row.sex}".lower().split()
    return all(any(w.startswith(part) for w in words) for part in search.lower().split())


def _worklist_row(row: CaseRow, texts: Texts, *, is_selected: bool) -> str:
    """One case."""
    status = "done" if row.reviewed else "open"
    chips = "".join(
        f'<span class="chip {"has" if m in row.modalities else "lacks"}" '
        f'title="{esc(texts(f"modality.{m}"))}: '
        f'{esc(texts("present" if m in row.modalities else "missing"))}">'
        f"{esc(texts(f'short.{m}'))}</span>"
        for m in MODALITIES
    )
    return (
        f'<button type="button" class="case-row" data-pick="{esc(row.case_id)}" '
        f'aria-current="{str(is_selected).lower()}">'
        f'<span class="who"><b>{esc(_age(row.age_years, texts))}, '
        f"{esc(texts(f'sex.{row.sex}'))}</b>"
        f'<i class="status {status}">{esc(texts(f"status.{status}"))}</i></span>'
        f'<span class="id">{esc(row.case_id)}</span><span class="chips">{chips}</span></button>'
    )


def _age(age_years: float | None, texts: Texts) -> str:
    """Completed years."""
    return texts("age_unknown") if age_years is None else texts("years", n=int(age_years))


def banner(case: OpenCase, texts: Texts) -> str:
    """Who the patient is, what is present and, plainly, what is missing."""
    record, present = case.record, set(case.row.modalities)
    schooling = texts("education_unknown")
    if record.education_years is not None:
        schooling = texts("education", n=number(record.education_years))
    facts = (
        esc(_age(record.age_years, texts)),
        esc(texts(f"sex.{record.sex}")),
        esc(schooling),
        esc(texts("record_of", date=day(record.index_date, texts))),
        f"{esc(texts('case'))} <code>{esc(case.row.case_id)}</code>",
    )
    missing = [texts(f"modality.{m}") for m in MODALITIES if m not in present]
    said = texts("missing_line", what=texts("and").join(missing)) if missing else ""
    chips = "".join(
        f'<span class="chip big {"has" if m in present else "lacks"}">'
        f"{esc(texts(f'modality.{m}'))}"
        f"{'' if m in present else ' · ' + esc(texts('missing'))}</span>"
        for m in MODALITIES
    )
    return (
        f'<section class="banner"><div><h2>{esc(record.name or texts("name_unknown"))}</h2>'
        f'<p class="facts">{"".join(f"<span>{fact}</span>" for fact in facts)}</p></div>'
        f'<div class="presence"><p class="chips">{chips}</p>'
        f"<p>{esc(said or texts('all_present'))}</p></div>"
        f"{_findings(case.row.found, texts)}</section>"
    )


def _findings(found: Sequence[Finding], texts: Texts) -> str:
    """What the checks found and nobody can decide, folded; the rest has a card of its own."""
    findings = [finding for finding in found if not finding.can_be_resolved]
    if not findings:
        return ""
    lines = "".join(f"<li>{esc(texts.finding(finding))}</li>" for finding in findings)
    return (
        f'<details class="findings"><summary>{esc(texts("findings", n=len(findings)))}</summary>'
        f"<ul>{lines}</ul></details>"
    )


def viewer(case: OpenCase, texts: Texts) -> str:
    """The frame of the three-plane viewer, or a line that there is no scan."""
    if not case.has_scan:
        return f'<div class="no-scan">{esc(texts("no_scan"))}</div>'
    address = f"/viewer/{texts.language}/{case.row.case_id}"
    return (
        f'<iframe id="viewer" title="{esc(texts("modality.scan"))}" src="{esc(address)}"></iframe>'
    )


def notice(trained_on: str, texts: Texts) -> str:
    """The line above every case: what this is and what it was trained on."""
    trained = texts("trained_on", what=trained_on.rstrip(".。")) if trained_on else ""
    return f'<p class="notice"><b>{esc(texts("research"))}</b> {esc(trained)}</p>'


def assessment(case: OpenCase, scheme: Scheme, texts: Texts) -> str:
    """Probabilities of syndromes and causes, the prediction set and the modality shares."""
    found = case.diagnosis
    if found is None:
        return f'<p class="abstains">{esc(texts("no_diagnosis", why=case.problem))}</p>'
    language = texts.language
    syndromes = "".join(_bar(case, s.key, s.name(language)) for s in scheme.syndromes)
    ranked = sorted(scheme.causes, key=lambda cause: -found.probabilities[cause.key])
    causes = "".join(_bar(case, c.key, c.name(language)) for c in ranked)
    return (
        f"{_abstention(found, texts)}<h3>{esc(texts('syndrome'))} "
        f"<small>{esc(texts('one_of'))}</small></h3>"
        f'<div class="bars">{syndromes}</div>'
        f'<p class="set">{esc(_set_line(found, scheme, texts))}</p>'
        f'<h3>{esc(texts("causes"))}</h3><div class="bars tight">{causes}</div>'
        f"<h3>{esc(texts('shares'))}</h3>{_shares(found, texts)}"
        f'<p class="fine">{esc(_who_spoke(found, texts))}</p>'
    )


def _who_spoke(found: Diagnosis, texts: Texts) -> str:
    """The model, the reader of the notes and the engine that ran them."""
    return texts("model", model=found.model_name, encoder=found.text_encoder, engine=found.engine)


def _bar(case: OpenCase, key: str, name: str) -> str:
    """One probability as a button that selects its evidence."""
    assert case.diagnosis is not None
    percent = 100.0 * case.diagnosis.probabilities[key]
    return (
        f'<button type="button" class="bar" data-pick="{esc(key)}" '
        f'aria-pressed="{str(key == case.label).lower()}" title="{esc(name)}">'
        f'<span class="name">{esc(brief(name))}</span><span class="track">'
        f'<span style="width:{percent:.1f}%"></span></span>'
        f'<span class="percent">{_percent(percent)}</span></button>'
    )


def brief(name: str) -> str:
    """A diagnosis's name without its explanation.

    Example:
        >>> brief("Normal (no disease)"), brief("朊病毒病（含克雅病）")
        ('Normal', '朊病毒病')
    """
    return re.split(r"[,，]| ?[(（]", name)[0]


def _percent(percent: float) -> str:
    """A percentage that never claims certainty.

    Example:
        >>> _percent(0.2), _percent(42.4), _percent(99.8)
        ('&lt;1 %', '42 %', '&gt;99 %')
    """
    if percent < 1:
        return "&lt;1 %"
    return "&gt;99 %" if percent > 99 else f"{percent:.0f} %"


def _abstention(found: Diagnosis, texts: Texts) -> str:
    """Why no diagnosis should be read from the numbers."""
    if found.abstains is None:
        return ""
    return f'<p class="abstains"><b>{esc(texts("abstains"))}</b> {esc(texts(found.abstains))}</p>'


def _set_line(found: Diagnosis, scheme: Scheme, texts: Texts) -> str:
    """The prediction set in words."""
    coverage = f"{100 * found.coverage:.0f}"
    if not found.prediction_set:
        return texts("set_empty", coverage=coverage)
    names = [scheme.label(key).name(texts.language) for key in found.prediction_set]
    return texts("set", coverage=coverage, labels=texts("or").join(names))


def _shares(found: Diagnosis, texts: Texts) -> str:
    """How attention was divided among the kinds of evidence."""
    given = [(m, 100.0 * found.shares.get(m, 0.0)) for m in MODALITIES]
    bar = "".join(f'<span class="{m}" style="width:{p:.1f}%"></span>' for m, p in given)
    legend = "".join(
        f'<span><i class="{m}"></i>{esc(texts(f"modality.{m}"))} '
        f"{esc(texts('missing')) if m in found.missing else f'{p:.0f} %'}</span>"
        for m, p in given
    )
    return f'<div class="shares">{bar}</div><p class="legend">{legend}</p>'


def reviews(case: OpenCase, scheme: Scheme, texts: Texts) -> str:
    """Earlier decisions, newest first."""
    if not case.reviews:
        return _plain(texts("no_reviews"))
    lines = "".join(_review(review, scheme, texts) for review in reversed(case.reviews))
    return f'<h3>{esc(texts("earlier"))}</h3><ul class="reviews">{lines}</ul>'


def _review(review: Review, scheme: Scheme, texts: Texts) -> str:
    """One decision."""
    verb = texts("agreed" if review.agrees else "overrode")
    reason = f"<q>{esc(review.reason)}</q>" if review.reason else ""
    return (
        f"<li><b>{esc(review.user)}</b> {esc(verb)}: "
        f"{esc(label_names(review.labels, scheme, texts))} "
        f"<time>{esc(texts('utc', at=f'{review.at:%Y-%m-%d %H:%M}'))}</time>{reason}</li>"
    )


def label_names(keys: Iterable[str], scheme: Scheme, texts: Texts) -> str:
    """Names of diagnoses in one line; a key that the scheme no longer has stands for itself."""
    names = {label.key: brief(label.name(texts.language)) for label in scheme.labels}
    return texts("and").join(names.get(key, key) for key in keys)


def proposal(found: Diagnosis, scheme: Scheme) -> tuple[str, ...]:
    """What agreeing means: the likeliest syndrome and the causes that are likelier than not.

    The first syndrome of a scheme is the normal one and has no cause.
    """
    chances = found.probabilities
    syndrome = max((label.key for label in scheme.syndromes), key=chances.__getitem__, default="")
    if scheme.syndromes and syndrome == scheme.syndromes[0].key:
        return (syndrome,)
    causes = tuple(label.key for label in scheme.causes if chances[label.key] >= 0.5)
    return (syndrome, *causes) if syndrome else causes


def _plain(text: str) -> str:
    """A quiet line."""
    return f'<p class="quiet">{esc(text)}</p>'


def leading(found: Diagnosis, scheme: Scheme) -> str:
    """Key of the diagnosis whose evidence is shown first: the likeliest syndrome."""
    keys = [label.key for label in scheme.syndromes or scheme.causes]
    return max(keys, key=found.probabilities.__getitem__)


def login_page(texts: Texts, problem: str = "") -> str:
    """The login form, without any script.

    Args:
        texts: Language of the page.
        problem: Key of what went wrong last time.
    """
    said = f'<p class="refused" role="alert">{esc(texts(problem))}</p>' if problem else ""
    other = "en" if texts.language == "zh" else "zh"
    return (
        f'<!doctype html><html lang="{texts.language}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{esc(texts('title'))}</title>"
        '<link rel="stylesheet" href="/static/page.css"></head><body class="login"><main>'
        f"<h1>Consilium</h1><p>{esc(texts('login_lead'))}</p>{said}"
        f'<form method="post" action="/login?lang={texts.language}">'
        f"<label>{esc(texts('user_name'))}"
        '<input name="user" autocomplete="username" required autofocus></label>'
        f'<label>{esc(texts("password"))}<input name="password" type="password" '
        'autocomplete="current-password" required></label>'
        f"<button>{esc(texts('log_in'))}</button></form>"
        f'<p class="fine">{esc(texts("research"))}</p>'
        f'<a href="/login?lang={other}">{esc(texts("other_language"))}</a></main></body></html>'
    )


def header(site_name: str, user: str, texts: Texts) -> str:
    """The bar at the top of the page: site, user, language, theme, way out."""
    other = next(language for language in LANGUAGES if language != texts.language)
    return (
        f'<header><b class="mark">Consilium</b><span class="site">{esc(site_name)}</span>'
        f'<span class="gap"></span><span class="user">{esc(user)}</span>'
        f'<a id="language" href="/{other}/" lang="{other}">{esc(texts("other_language"))}</a>'
        f'<button type="button" id="theme" title="{esc(texts("theme"))}">◐</button>'
        f'<form method="post" action="/logout"><button>{esc(texts("log_out"))}</button></form>'
        "</header>"
    )
