"""The scan in numbers and pictures: its grade, slices, volumes against age, and a table."""

from collections.abc import Sequence

from imaging.change import Change
from imaging.norms import Norms, asymmetry
from imaging.pictures import (
    CENTILES,
    COLOURS,
    LEGEND,
    VolumePlot,
    between,
    millilitres,
    volume_plot,
    volume_plots,
    whole,
)
from imaging.regions import REGIONS
from ui.charts import volume_chart
from ui.reading import ScanReading
from ui.texts import Texts
from ui.views import esc

RARE = (5.0, 95.0)  # centiles outside are marked
NAMES = tuple(dict.fromkeys(region.name for region in REGIONS))  # structures, sides apart


def volumes_card(case_id: str, reading: ScanReading | None, norms: Norms, texts: Texts) -> str:
    """Everything that was measured in a scan; nothing where there is no scan."""
    if reading is None:
        return ""
    earlier = [reading.prior] if reading.prior else []
    plots = volume_plots(reading.measured, earlier, norms)
    figures = "".join(_figure(plot, reading, texts) for plot in plots)
    return (
        f'<section class="card"><h3>{esc(texts("volumes"))}</h3>{_grade(reading, texts)}'
        f"{_overlay(case_id, reading, texts)}"
        f'{_norm_lines(reading, norms, texts)}<div class="plots">{figures}</div>'
        f'<p class="fine">{esc(texts("curves_help", centiles=", ".join(map(str, CENTILES))))}</p>'
        f"{_course_lines(reading, texts)}<details><summary>{esc(texts('all_volumes'))}</summary>"
        f"{_table(reading, norms, texts)}</details></section>"
    )


def region_figure(region: str, reading: ScanReading, norms: Norms, texts: Texts) -> str:
    """One region among healthy people; nothing where it was not found."""
    if region not in reading.measured.volumes_mm3:
        return ""
    earlier = [reading.prior] if reading.prior else []
    return _figure(volume_plot(region, reading.measured, earlier, norms), reading, texts)


def _grade(reading: ScanReading, texts: Texts) -> str:
    """The scan's grade and why it is not better."""
    if reading.grade is None:
        return ""
    said = texts("scan_quality", grade=f"{reading.grade:.2f}")
    reasons = "".join(f"<li>{esc(texts.finding(finding))}</li>" for finding in reading.findings)
    why = f"<ul>{reasons}</ul>" if reasons else f" {esc(texts('scan_faultless'))}"
    return f'<div class="grade"><b>{esc(said)}</b>{why}</div>'


def _overlay(case_id: str, reading: ScanReading, texts: Texts) -> str:
    """Slices through the hippocampi, drawn when the page asks for them."""
    address = esc(f"/scan/{case_id}/overlay.png")
    keys = "".join(
        f'<span><i style="background:{COLOURS[name]}"></i>'
        f"{esc(texts.words[f'region.{name}'])}</span>"
        for name in LEGEND
    )
    confidence = reading.mean_confidence
    sure = "" if confidence is None else texts("mean_confidence", n=f"{confidence:.2f}")
    return (
        f'<figure class="overlay"><a href="{address}" target="_blank" rel="noopener" '
        f'title="{esc(texts("overlay_enlarge"))}">'
        f'<img src="{address}" alt="{esc(texts("overlay_alt"))}" loading="lazy"></a>'
        f'<figcaption class="legend">{keys}<span>{esc(texts("viewer.convention"))}</span>'
        f"<span>{esc(sure)}</span><span>{esc(texts('research'))}</span></figcaption></figure>"
    )


def _norm_lines(reading: ScanReading, norms: Norms, texts: Texts) -> str:
    """Whose norms these are, and in words why they do not hold for this patient."""
    age, sex = reading.measured.age_years, reading.measured.sex or ""
    lines = []
    if norms.why_not(age, sex):
        lines.append(f'<p class="abstains">{esc(_why_not(reading, norms, texts))}</p>')
    elif norms.caution(age, sex):
        lines.append(f'<p class="abstains">{esc(texts("norm_few"))}</p>')
    if sex in norms.ages:
        youngest, oldest = norms.ages[sex]
        whose = texts(
            "norm_whose", n=norms.n, sex=texts(f"sex.{sex}"), low=f"{youngest:.0f}",
            high=f"{oldest:.0f}", head=millilitres(reading.measured.head_mm3),
        )  # fmt: skip
        lines.append(f'<p class="fine">{esc(whose)}</p>')
    return "".join(lines)


def _why_not(reading: ScanReading, norms: Norms, texts: Texts) -> str:
    """Why there are no centiles."""
    age, sex = reading.measured.age_years, reading.measured.sex or ""
    if age is None:
        return texts("norm_age_unknown")
    if sex not in norms.ages:
        return texts("norm_sex_unknown")
    youngest, oldest = norms.ages[sex]
    return texts("norm_age_outside", low=f"{youngest:.0f}", high=f"{oldest:.0f}", age=int(age))


def _figure(plot: VolumePlot, reading: ScanReading, texts: Texts) -> str:
    """One plot with its name and numbers above."""
    name, said = texts.region(plot.region), _said(plot, texts)
    age = reading.measured.age_years
    when = "" if age is None else ", " + texts("years", n=int(age))
    return (
        f'<figure class="plot"><figcaption><b>{esc(name)}</b> {esc(said)}</figcaption>'
        f"{volume_chart(plot, f'{name}: {said}{when}')}</figure>"
    )


def _said(plot: VolumePlot, texts: Texts) -> str:
    """Volume and centile."""
    volume = millilitres(plot.volume_mm3)
    if plot.centile is None:
        return volume
    centile = texts("centile_short", n=whole(plot.centile))
    return f"{volume}, {centile}{between(plot.interval, texts('to'))}"


def _table(reading: ScanReading, norms: Norms, texts: Texts) -> str:
    """All regions, a structure a line, its sides beside each other."""
    changes = ("change",) if reading.prior else ()
    heads = "".join(f'<th scope="col">{esc(texts(key))}</th>' for key in _HEADS + changes)
    sides = "".join(
        f'<th scope="colgroup" colspan="{len(_HEADS + changes)}">{esc(texts(key))}</th>'
        for key in ("left_or_middle", "right")
    )
    rows = "".join(_row(name, reading, norms, texts) for name in NAMES)
    help_ = texts("table_help", low=f"{RARE[0]:.0f}", high=f"{RARE[1]:.0f}")
    return (
        f'<div class="scrolls" tabindex="0" role="region" aria-label="{esc(texts("all_volumes"))}">'
        f'<table class="measures"><thead><tr><th rowspan="2" scope="col">{esc(texts("structure"))}'
        f'</th>{sides}<th rowspan="2" scope="col">{esc(texts("asymmetry"))}</th></tr>'
        f"<tr>{heads}{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        f'<p class="fine">{esc(help_)}</p>'
    )


_HEADS = ("volume", "centile_interval", "confidence")


def _row(name: str, reading: ScanReading, norms: Norms, texts: Texts) -> str:
    """One structure; one in the middle stands on the left side's place."""
    keys = [region.key for region in REGIONS if region.name == name]
    cells = "".join(_cells(key, reading, norms, texts) for key in keys)
    width = len(_HEADS) + bool(reading.prior)
    if len(keys) == 1:
        cells += f'<td colspan="{width + 1}"></td>'
    else:
        cells += f"<td>{_asymmetry(name, keys, reading, norms, texts)}</td>"
    title = texts.words[f"region.{name}"]
    return f'<tr><th scope="row">{esc(title[0].upper() + title[1:])}</th>{cells}</tr>'


def _cells(key: str, reading: ScanReading, norms: Norms, texts: Texts) -> str:
    """Volume, centile, confidence and change of one region."""
    measured = reading.measured
    volume = measured.volumes_mm3.get(key)
    if volume is None:
        width = len(_HEADS) + bool(reading.prior)
        return f'<td colspan="{width}" class="dim">{esc(texts("not_found"))}</td>'
    asked = (key, volume, measured.head_mm3, measured.age_years, measured.sex)
    sure = reading.confidence.get(key)
    cells = [
        esc(millilitres(volume)),
        _centile(norms.centile(*asked), norms.interval(*asked), texts),
        "" if sure is None else f"{sure:.2f}",
    ]
    if reading.prior:
        cells.append(_change(key, reading, texts))
    return "".join(f"<td>{cell}</td>" for cell in cells)


def _centile(centile: float | None, interval: tuple[float, float] | None, texts: Texts) -> str:
    """A centile with its interval, escaped; in a word where few healthy people have it."""
    if centile is None:
        return "–"
    low, high = RARE
    word = "low" if centile < low else "high" if centile > high else ""
    mark = f' <span class="flag">{esc(texts(word))}</span>' if word else ""
    return f"{esc(whole(centile) + between(interval, texts('to')))}{mark}"


def _asymmetry(
    name: str, keys: Sequence[str], reading: ScanReading, norms: Norms, texts: Texts
) -> str:
    """Which side is larger and by how much, escaped; in a word where that is unusual."""
    left, right = (reading.measured.volumes_mm3.get(key, 0.0) for key in keys)
    if min(left, right) <= 0:
        return ""
    share = 100.0 * asymmetry(left, right)
    side = texts("viewer.L" if share > 0 else "viewer.R")
    z = norms.asymmetry_z(name, left, right, reading.measured.age_years)
    unusual = z is not None and abs(z) > 1.96
    mark = f' <span class="flag">{esc(texts("unusual"))}</span>' if unusual else ""
    return f"{esc(side)} +{abs(share):.0f} %{mark}"


def _change(key: str, reading: ScanReading, texts: Texts) -> str:
    """Change of a region per year, escaped; in a word where it is more than chance."""
    changes = reading.course.changes if reading.course else ()
    change = next((change for change in changes if change.region == key), None)
    if change is None:
        return "–"
    mark = f' <span class="flag">{esc(texts("beyond_band"))}</span>' if change.beyond_band else ""
    return f"{esc(_rate(change))}{mark}"


def _rate(change: Change) -> str:
    """Percent a year with the test-retest band.

    Example:
        >>> _rate(Change("left hippocampus", -3.31, 2.1, -0.8))
        '−3.3 % ±2.1'
    """
    band = "" if change.band is None else f" ±{change.band:.1f}"
    return f"{change.per_year:+.1f} %{band}".replace("-", "−")


def _course_lines(reading: ScanReading, texts: Texts) -> str:
    """How long after the prior scan, and what the reader must know before believing a rate."""
    course = reading.course
    if course is None:
        return ""
    if course.why_not:
        return f'<p class="quiet">{esc(texts("no_rate", why=course.why_not))}</p>'
    since = texts("prior_scan", years=f"{course.years:.1f}")
    cautions = [f"{caution[0].upper()}{caution[1:]}." for caution in course.cautions]
    said = " ".join([since, texts("rate_help"), *cautions])
    return f'<p class="fine">{esc(said)}</p>'
