"""Evidence and where it comes from: the sentence in its note, the course of a value, the fact."""

import re
from collections.abc import Callable, Sequence

from clinical.analytes import LOCAL_CODE
from clinical.diagnoses import Scheme
from clinical.evidence import AnalytePointer, FactPointer, SentencePointer
from clinical.record import LOCAL, Note, Observation, PatientRecord, ReferenceRange
from clinical.rules_only import rule_sentences
from clinical.units import analyte, reference_range
from fusion.case import Pointer
from fusion.explain import Evidence
from imaging.encoder import RegionPointer
from imaging.norms import load_norms
from imaging.pictures import millilitres, whole
from imaging.regions import REGION_INDEX
from ui.charts import centile_scale, spark, trend
from ui.texts import Texts
from ui.views import OpenCase, day, esc, number
from ui.volumes import region_figure

SHOWN_EVIDENCE = 10  # the weaker pieces are folded away
MOST_EVIDENCE = 120
_EXCERPT = 150  # characters of a sentence in the ranking
_UNITS = (("10*3/uL", "10³/µL"), ("10*6/uL", "10⁶/µL"), ("m2", "m²"), ("[IU]", "IU"), ("Cel", "°C"))


def evidence_list(case: OpenCase, scheme: Scheme, texts: Texts) -> str:
    """Evidence for the selected diagnosis, the strongest first."""
    pieces = case.diagnosis.evidence.get(case.label, ()) if case.diagnosis else ()
    if not pieces:
        return f'<p class="quiet">{esc(texts("no_evidence"))}</p>'
    widest = max(abs(piece.effect) for piece in pieces) or 1.0
    rows = [
        _evidence_row(n, piece, case, widest, texts)
        for n, piece in enumerate(pieces[:MOST_EVIDENCE])
    ]
    rest = rows[SHOWN_EVIDENCE:]
    more = (
        f"<details><summary>{esc(texts('more_evidence', n=len(rest)))}</summary>"
        f"{''.join(rest)}</details>"
        if rest
        else ""
    )
    name = scheme.label(case.label).name(texts.language)
    return (
        f"<h3>{esc(texts('evidence_for', label=name))}</h3>"
        f'<p class="fine">{esc(texts("evidence_help"))}</p>'
        f'<div class="evidence">{"".join(rows[:SHOWN_EVIDENCE])}{more}</div>'
    )


def _evidence_row(n: int, piece: Evidence, case: OpenCase, widest: float, texts: Texts) -> str:
    """One line: what it is, how strong it is, whether it speaks for or against."""
    side = "for" if piece.effect >= 0 else "against"
    width = 50.0 * abs(piece.effect) / widest
    left = case.weights.get(piece.pointer, 1.0)
    doubted = f'<i class="doubted">{esc(texts("weight", n=f"{left:g}"))}</i>' if left < 1 else ""
    region = ""
    if isinstance(piece.pointer, RegionPointer):
        region = f' data-region="{REGION_INDEX.get(piece.pointer.region, -1) + 1}"'
    return (
        f'<button type="button" class="piece" data-pick="{n}"{region}>'
        f'<span class="tag {piece.modality}">{esc(texts(f"short.{piece.modality}"))}</span>'
        f'<span class="what">{describe(piece.pointer, case.record, texts)}</span>'
        f'<span class="effect {side}" title="{esc(texts(side))}">'
        f'<span class="axis"><i style="width:{width:.1f}%"></i></span>'
        f"<b>{100 * piece.effect:+.1f} {esc(texts('pp'))}</b></span>"
        f'<span class="part">{esc(texts("share"))} {100 * piece.share:.0f} %{doubted}</span>'
        "</button>"
    )


def describe(pointer: Pointer, record: PatientRecord, texts: Texts) -> str:
    """What a piece of evidence is, in one escaped line."""
    if isinstance(pointer, RegionPointer):
        return f"<b>{esc(texts.region(pointer.region))}</b> {_region_line(pointer, texts)}"
    if isinstance(pointer, SentencePointer):
        note = _note(record, pointer.note_id)
        said = " ".join(note.text[pointer.start : pointer.end].split()) if note else ""
        mark = f" {_rules_mark(texts)}" if pointer.by_rules else ""
        return esc(said if len(said) <= _EXCERPT else said[:_EXCERPT] + " …") + mark
    if isinstance(pointer, AnalytePointer):
        seen = _observations(record, pointer.loinc)
        name = texts.analyte(pointer.loinc, seen[-1].name if seen else pointer.loinc)
        return f"<b>{esc(name)}</b> {_latest(seen, record, texts)}"
    return _fact(pointer, record, texts)


def _fact(pointer: FactPointer, record: PatientRecord, texts: Texts) -> str:
    """A fact in one escaped line; a relative's disease says whose it is."""
    if pointer.resource_id == "patient":
        years = record.age_years if pointer.code == "age" else record.education_years
        own = {
            "sex": texts(f"sex.{record.sex}"),
            "age": texts("years", n=round(years or 0)),
            "education": texts("education", n=f"{years or 0:g}"),
        }
        return esc(own.get(pointer.code, pointer.display))
    name = esc(pointer.display or pointer.code)
    for relative in record.family_history:
        if relative.id == pointer.resource_id:
            return f"{esc(texts('family'))}, {esc(relative.relationship)}: {name}"
    return name


def _region_line(pointer: RegionPointer, texts: Texts) -> str:
    """Volume and centile."""
    known = pointer.centile is not None
    centile = "" if pointer.centile is None else texts("centile_short", n=whole(pointer.centile))
    return f"{millilitres(pointer.volume_mm3)}{', ' if known else ''}{esc(centile)}"


def source(piece: Evidence, case: OpenCase, texts: Texts) -> str:
    """Where a piece of evidence comes from."""
    pointer = piece.pointer
    if isinstance(pointer, RegionPointer):
        return _region_source(pointer, case, texts)
    if isinstance(pointer, SentencePointer):
        note = _note(case.record, pointer.note_id)
        shown = note_view(note, texts, (pointer.start, pointer.end)) if note else ""
        return shown + (_rules_reading(pointer, note, texts) if note and pointer.by_rules else "")
    if isinstance(pointer, AnalytePointer):
        return _course(pointer.loinc, case.record, texts)
    if _observations(case.record, pointer.code):  # a finding in words, a number without a code
        return _course(pointer.code, case.record, texts)
    return _fact_source(pointer, case.record, texts)


def _region_source(pointer: RegionPointer, case: OpenCase, texts: Texts) -> str:
    """Volume, centile, the course of healthy people and where the crosshair went."""
    drawn = case.reading and region_figure(pointer.region, case.reading, load_norms(), texts)
    if pointer.centile is None:
        norm = f'<p class="quiet">{esc(texts("centile_unknown"))}</p>'
    else:
        norm = (
            f"<p>{esc(texts('centile'))}: <b>{esc(whole(pointer.centile))}</b></p>"
            f'{centile_scale(pointer.centile)}<p class="fine">{esc(texts("centile_help"))}</p>'
        )
    return (
        f"<h3>{esc(texts.region(pointer.region))}</h3>"
        f"<p>{esc(texts('volume'))}: <b>{millilitres(pointer.volume_mm3)}</b></p>"
        f"{norm}{drawn or ''}"
        f'<p class="quiet">{esc(texts("region_shown"))}</p>'
    )


def _rules_mark(texts: Texts) -> str:
    """The mark of a sentence whose language the text encoder does not read."""
    help_ = esc(texts("by_rules_help"))
    return f'<span class="by-rules" title="{help_}">{esc(texts("by_rules"))}</span>'


def _rules_reading(pointer: SentencePointer, note: Note, texts: Texts) -> str:
    """What the rules made of a sentence, which is all that the assistant read of it."""
    read = dict(rule_sentences(note)).get((pointer.start, pointer.end), "")
    return (
        f'<p>{_rules_mark(texts)} <span lang="en">{esc(read)}</span></p>'
        f'<p class="fine">{esc(texts("by_rules_help"))}</p>'
    )


def note_view(note: Note, texts: Texts, marked: tuple[int, int] | None = None) -> str:
    """A whole note, one sentence of it marked."""
    start, end = marked or (0, 0)
    before, sentence, after = note.text[:start], note.text[start:end], note.text[end:]
    mark = f'<mark id="marked">{esc(sentence)}</mark>' if marked else ""
    return (
        f"<h3>{esc(note.kind.display or texts('note'))} <small>{day(note.date, texts)}</small></h3>"
        f'<div class="note" lang="{esc(note.language)}">{esc(before)}{mark}{esc(after)}</div>'
    )


def all_notes(record: PatientRecord, texts: Texts) -> str:
    """Every note, the newest first, folded but for the first."""
    ordered = sorted(record.notes, key=lambda note: str(note.date or ""), reverse=True)
    folded = "".join(
        f"<details{' open' if n == 0 else ''}><summary>{esc(note.kind.display or texts('note'))} "
        f"<small>{day(note.date, texts)}</small></summary>"
        f'<div class="note" lang="{esc(note.language)}">{esc(note.text)}</div></details>'
        for n, note in enumerate(ordered)
    )
    return folded or _nothing(texts)


def all_labs(record: PatientRecord, texts: Texts) -> str:
    """Every analyte and score: latest value, range, course."""
    codes = sorted({o.loinc for o in record.observations}, key=lambda c: _order(c, record))
    rows = "".join(_lab_row(_observations(record, code), record, texts) for code in codes)
    if not rows:
        return _nothing(texts)
    head = "".join(
        f"<th>{esc(texts(key))}</th>" for key in ("analyte", "latest", "reference", "date", "trend")
    )
    return f'<table class="labs"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'


def _order(loinc: str, record: PatientRecord) -> tuple[bool, str]:
    """Tests of cognition first, then by name."""
    known = analyte(loinc)
    return not (known and known.cognitive), _observations(record, loinc)[-1].name.lower()


def _lab_row(seen: Sequence[Observation], record: PatientRecord, texts: Texts) -> str:
    """One analyte of the table."""
    latest = seen[-1]
    values = [o.value for o in seen if o.value is not None]
    low_high = reference(seen, record)
    return (
        f"<tr><td>{esc(texts.analyte(latest.loinc, latest.name))}</td>"
        f"<td>{_value(latest)} {_flag(latest, low_high, texts)}</td>"
        f"<td>{_range(low_high, latest.unit, texts)}</td><td>{day(latest.date, texts)}</td>"
        f"<td>{spark(values, low_high)}</td></tr>"
    )


def _course(loinc: str, record: PatientRecord, texts: Texts) -> str:
    """The trend of an analyte against its range, and the numbers."""
    seen = _observations(record, loinc)
    if not seen:
        return _nothing(texts)
    low_high, latest = reference(seen, record), seen[-1]
    points = [(o.date, o.value) for o in seen if o.date is not None and o.value is not None]
    rows = "".join(
        f"<tr><td>{day(o.date, texts)}</td><td>{_value(o)} {_flag(o, low_high, texts)}</td></tr>"
        for o in reversed(seen)
    )
    return (
        f"<h3>{esc(texts.analyte(loinc, latest.name))} <small>{esc(_code(loinc))}</small></h3>"
        f"<p>{esc(texts('reference'))}: {_range(low_high, latest.unit, texts)}</p>"
        f"{trend(points, low_high, unit(latest.unit), texts)}"
        f"<table><thead><tr><th>{esc(texts('date'))}</th><th>{esc(texts('value'))}</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>"
    )


def _code(loinc: str) -> str:
    """A code with its terminology; our own says nothing to a physician."""
    return "" if loinc.startswith((LOCAL, LOCAL_CODE)) else f"LOINC {loinc}"


def _observations(record: PatientRecord, loinc: str) -> list[Observation]:
    """What the record says of an analyte, oldest first."""
    mine = [o for o in record.observations if o.loinc == loinc]
    return sorted(mine, key=lambda o: str(o.date or ""))


def reference(seen: Sequence[Observation], record: PatientRecord) -> ReferenceRange | None:
    """The sender's newest range; else that of people of this sex and age in `clinical.units`."""
    sent = [o.reference for o in seen if o.reference is not None]
    if sent:
        return sent[-1]
    known = analyte(seen[-1].loinc) if seen else None
    measured = seen[-1].date if seen else None
    age = (record.age_on(measured) if measured else None) or record.age_years
    return reference_range(known, record.sex, age) if known else None


def _latest(seen: Sequence[Observation], record: PatientRecord, texts: Texts) -> str:
    """Latest value, its range and date."""
    if not seen:
        return ""
    low_high, latest = reference(seen, record), seen[-1]
    return (
        f"{_value(latest)} {_flag(latest, low_high, texts)} "
        f'<span class="dim">({_range(low_high, latest.unit, texts)}) '
        f"{day(latest.date, texts)}</span>"
    )


def _value(seen: Observation) -> str:
    """A value with its unit, escaped."""
    if seen.value is None:
        return esc(seen.text or seen.absent_reason)
    side = esc(seen.comparator or "")  # "<0.1": the value is a limit of detection
    return f"{side}{number(seen.value)} {esc(unit(seen.unit))}".strip()


def _flag(seen: Observation, low_high: ReferenceRange | None, texts: Texts) -> str:
    """A word where a value is outside its range."""
    if seen.value is None or low_high is None:
        return ""
    if low_high.low is not None and seen.value < low_high.low:
        return f'<span class="flag">{esc(texts("low"))}</span>'
    if low_high.high is not None and seen.value > low_high.high:
        return f'<span class="flag">{esc(texts("high"))}</span>'
    return ""


def _range(low_high: ReferenceRange | None, ucum: str, texts: Texts) -> str:
    """A reference range in words."""
    low, high = (low_high.low, low_high.high) if low_high else (None, None)
    if low is None and high is None:
        return esc(texts("reference_open"))
    if low is None or high is None:
        bound = f"≥ {number(low)}" if low is not None else f"≤ {number(high or 0.0)}"
    else:
        bound = f"{number(low)}–{number(high)}"
    return f"{bound} {esc(unit(ucum))}".strip()


def unit(ucum: str) -> str:
    """A UCUM unit as clinicians write it; annotations such as ``{score}`` fall away.

    Example:
        >>> unit("10*3/uL"), unit("{score}"), unit("mL/min/{1.73_m2}")
        ('10³/µL', '', 'mL/min/1.73 m²')
    """
    plain = ucum.replace("{1.73_m2}", "1.73 m2")
    plain = re.sub(r"\{[^}]*\}", "", plain)
    for written, shown in _UNITS:
        plain = plain.replace(written, shown)
    return re.sub(r"\bu(?=[gmL])", "µ", plain)


def _fact_source(pointer: FactPointer, record: PatientRecord, texts: Texts) -> str:
    """What the resource says that states a fact."""
    rows: list[tuple[str, object]] = [
        ("name", pointer.display), ("code", pointer.code), ("resource", pointer.resource_id)
    ]  # fmt: skip
    for condition in record.conditions:
        if condition.id == pointer.resource_id:
            rows += [("status", condition.clinical_status), ("onset", condition.onset)]
    for drug in record.medications:
        if drug.id == pointer.resource_id:
            rows += [("status", drug.status), ("start", drug.start)]
    for relative in record.family_history:
        if relative.id == pointer.resource_id:
            rows += [("relative", relative.relationship), ("onset_age", relative.onset_age_years)]
    cells = "".join(
        f"<tr><th>{esc(texts(key))}</th><td>{esc(value)}</td></tr>" for key, value in rows if value
    )
    return f"<h3>{_fact(pointer, record, texts)}</h3><table><tbody>{cells}</tbody></table>"


def history(record: PatientRecord, texts: Texts) -> str:
    """Conditions, medication and family history."""
    return (
        _list("conditions", record.conditions, lambda c: (
            c.code.display or c.code.code, c.clinical_status, day(c.onset, texts) if c.onset else ""
        ), texts)
        + _list("medications", record.medications, lambda m: (
            m.code.display or m.code.code, m.status, day(m.start, texts) if m.start else ""
        ), texts)
        + _list("family", record.family_history, lambda f: (
            f.condition.display or f.condition.code, f.relationship,
            "" if f.onset_age_years is None else texts("years", n=number(f.onset_age_years)),
        ), texts)
    )  # fmt: skip


def _list(
    key: str, entries: Sequence[object], cells: Callable[..., tuple[str, ...]], texts: Texts
) -> str:
    """One table of the history."""
    rows = "".join(
        "<tr>" + "".join(f"<td>{esc(cell)}</td>" for cell in cells(entry)) + "</tr>"
        for entry in entries
    )
    body = f"<table><tbody>{rows}</tbody></table>" if rows else _nothing(texts)
    return f"<h3>{esc(texts(key))}</h3>{body}"


def _note(record: PatientRecord, note_id: str) -> Note | None:
    """A note by its id."""
    return next((note for note in record.notes if note.id == note_id), None)


def _nothing(texts: Texts) -> str:
    """A quiet line that there is nothing."""
    return f'<p class="quiet">{esc(texts("nothing"))}</p>'
