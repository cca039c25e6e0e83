"""Small pictures of numbers as inline SVG; nothing from outside but numbers and units."""

import datetime as dt
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from clinical.record import ReferenceRange
from imaging.pictures import Curve, VolumePlot
from ui.texts import Texts
from ui.views import day, esc, number

WIDTH, HEIGHT = 560, 190
LEFT, RIGHT, TOP, BOTTOM = 58, 18, 16, 30  # margins, in the units of the picture

Bounds = tuple[float, float]


def trend(
    points: Sequence[tuple[dt.date, float]],
    reference: ReferenceRange | None,
    unit: str,
    texts: Texts,
) -> str:
    """Values over time above a band that is the reference range.

    Args:
        points: Dates and values, oldest first.
        reference: Range in the unit of the values.
        unit: As clinicians write it.
        texts: Language of the dates.

    Returns:
        An SVG; nothing where there are no points.
    """
    if not points:
        return ""
    bounds = _bounds([value for _, value in points], reference)
    places = [(_x(date, points), _y(value, bounds), value) for date, value in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in places)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>'
        f'<text x="{x:.1f}" y="{y - 9:.1f}" text-anchor="middle">{number(value)}</text>'
        for x, y, value in places
    )
    return (
        f'<svg class="trend" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{esc(texts("trend"))}">{_band(reference, bounds)}'
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" '
        f'y1="{HEIGHT - BOTTOM}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text x="4" y="{TOP - 3}">{esc(unit)}</text>'
        f'<polyline points="{line}"/>{dots}{_dates(points, texts)}</svg>'
    )


def _bounds(values: Sequence[float], reference: ReferenceRange | None) -> Bounds:
    """Smallest and largest number that the picture shows."""
    sides = [reference.low, reference.high] if reference else []
    seen = [*values, *(side for side in sides if side is not None)]
    low, high = min(seen), max(seen)
    room = (high - low) * 0.15 or abs(high) * 0.2 or 1.0
    return low - room, high + room


def _x(date: dt.date, points: Sequence[tuple[dt.date, float]]) -> float:
    """Where a date is; a single one in the middle."""
    first, last = points[0][0], points[-1][0]
    if first == last:
        return (LEFT + WIDTH - RIGHT) / 2
    inside = 24  # keeps the numbers of the first and last point off the edges
    span = WIDTH - LEFT - RIGHT - 2 * inside
    return LEFT + inside + span * (date - first).days / (last - first).days


def _y(value: float, bounds: Bounds) -> float:
    """Where a value is; up is more."""
    part = (value - bounds[0]) / (bounds[1] - bounds[0])
    return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)


def _band(reference: ReferenceRange | None, bounds: Bounds) -> str:
    """The reference range and its limits; an open side reaches the edge."""
    if reference is None or (reference.low is None and reference.high is None):
        return ""
    low = bounds[0] if reference.low is None else reference.low
    high = bounds[1] if reference.high is None else reference.high
    top, bottom = _y(high, bounds), _y(low, bounds)
    limits = "".join(
        f'<text x="{LEFT - 6}" y="{_y(side, bounds) + 4:.1f}" text-anchor="end">'
        f"{number(side)}</text>"
        for side in (reference.low, reference.high)
        if side is not None
    )
    return (
        f'<rect class="band" x="{LEFT}" width="{WIDTH - LEFT - RIGHT}" y="{top:.1f}" '
        f'height="{max(bottom - top, 1.0):.1f}"/>{limits}'
    )


def _dates(points: Sequence[tuple[dt.date, float]], texts: Texts) -> str:
    """The first and the last date under the axis."""
    ends = [points[0][0]] if points[0][0] == points[-1][0] else [points[0][0], points[-1][0]]
    return "".join(
        f'<text x="{_x(date, points):.1f}" y="{HEIGHT - 10}" text-anchor="middle">'
        f"{day(date, texts)}</text>"
        for date in ends
    )


def spark(values: Sequence[float], reference: ReferenceRange | None) -> str:
    """A course as small as a word; nothing for fewer than two values."""
    if len(values) < 2:
        return ""
    low, high = _bounds(values, reference)
    step = 84 / (len(values) - 1)
    line = " ".join(
        f"{3 + n * step:.1f},{21 - 18 * (value - low) / (high - low):.1f}"
        for n, value in enumerate(values)
    )
    return f'<svg class="spark" viewBox="0 0 90 24"><polyline points="{line}"/></svg>'


def centile_scale(centile: float) -> str:
    """Where a centile lies between 0 and 100, with the middle 90 shaded."""
    x = 10 + 5.0 * min(max(centile, 0.0), 100.0)
    marks = "".join(
        f'<text x="{10 + 5 * n}" y="44" text-anchor="middle">{n}</text>' for n in (5, 50, 95)
    )
    return (
        '<svg class="scale" viewBox="0 0 520 50" role="img"><rect x="10" y="16" width="500" '
        'height="8" rx="4"/><rect class="band" x="35" y="16" width="450" height="8"/>'
        f'<circle cx="{x:.1f}" cy="20" r="8"/>{marks}</svg>'
    )


# -- a volume among those of healthy people ----------------------------------------------

_WIDE, _HIGH = 320, 200  # of a volume's picture, with margins as above
_WEST, _EAST, _NORTH, _SOUTH = 40, 30, 12, 26


@dataclass(frozen=True)
class _Frame:
    """Which ages and millilitres a picture shows, and where."""

    ages: Bounds
    volumes: Bounds

    def x(self, age_years: float) -> float:
        """Where an age is."""
        part = (age_years - self.ages[0]) / (self.ages[1] - self.ages[0])
        return _WEST + part * (_WIDE - _WEST - _EAST)

    def y(self, millilitres: float) -> float:
        """Where a volume is; up is more."""
        part = (millilitres - self.volumes[0]) / (self.volumes[1] - self.volumes[0])
        return _HIGH - _SOUTH - part * (_HIGH - _NORTH - _SOUTH)

    def line(self, ages: Iterable[float], mm3: Iterable[float]) -> str:
        """A course as the points of a line."""
        pairs = zip(ages, mm3, strict=True)
        return " ".join(f"{self.x(a):.1f},{self.y(v / 1000):.1f}" for a, v in pairs)


def volume_chart(plot: VolumePlot, name: str) -> str:
    """A region's volume against age, with the centile curves of healthy people.

    Args:
        plot: Curves and points.
        name: What the picture shows, for who cannot see it.
    """
    frame = _frame(plot)
    curves = "".join(_curve(curve, plot, frame) for curve in plot.curves)
    return (
        f'<svg class="volume" viewBox="0 0 {_WIDE} {_HIGH}" role="img" '
        f'aria-label="{esc(name)}">{_ticks(frame)}{curves}{_scans(plot, frame)}</svg>'
    )


def _frame(plot: VolumePlot) -> _Frame:
    """Room for all curves and points."""
    ages = [float(plot.ages[0]), float(plot.ages[-1]), *(age for age, _ in plot.points)]
    seen = [plot.volume_mm3, *(mm3 for _, mm3 in plot.points)]
    for curve in (*plot.curves[:1], *plot.curves[-1:]):
        seen += [float(curve.low.min()), float(curve.high.max())]
    low, high = _bounds([mm3 / 1000 for mm3 in seen], None)
    return _Frame((min(ages) - 1.0, max(ages) + 1.0), (max(low, 0.0), high))


def _curve(curve: Curve, plot: VolumePlot, frame: _Frame) -> str:
    """One centile with its number at the end, the outer ones with their interval."""
    kind = "median" if curve.centile == 50 else "centile"
    band = ""
    if curve in (plot.curves[0], plot.curves[-1]):
        there = frame.line(plot.ages, curve.low)
        back = frame.line(plot.ages[::-1], curve.high[::-1])
        band = f'<polygon points="{there} {back}"/>'
    x, y = frame.x(plot.ages[-1]) + 4, frame.y(curve.mm3[-1] / 1000) + 4
    return (
        f'{band}<polyline class="{kind}" points="{frame.line(plot.ages, curve.mm3)}"/>'
        f'<text x="{x:.1f}" y="{y:.1f}">{curve.centile}</text>'
    )


def _scans(plot: VolumePlot, frame: _Frame) -> str:
    """The patient's scans joined by a line, this one the largest."""
    if not plot.points:
        return ""
    ages, volumes = zip(*plot.points, strict=True)
    dots = "".join(
        f'<circle class="{"now" if n == len(ages) else "earlier"}" cx="{frame.x(age):.1f}" '
        f'cy="{frame.y(mm3 / 1000):.1f}" r="{6 if n == len(ages) else 4}"/>'
        for n, (age, mm3) in enumerate(plot.points, start=1)
    )
    return f'<polyline class="scans" points="{frame.line(ages, volumes)}"/>{dots}'


def _ticks(frame: _Frame) -> str:
    """Axes with round numbers: years below, millilitres on the left."""
    floor = _HIGH - _SOUTH
    ages = "".join(
        f'<text x="{frame.x(age):.1f}" y="{_HIGH - 8}" text-anchor="middle">{age:g}</text>'
        for age in _round_numbers(*frame.ages, 5)
    )
    volumes = "".join(
        f'<line class="axis" x1="{_WEST}" x2="{_WIDE - _EAST}" y1="{frame.y(v):.1f}" '
        f'y2="{frame.y(v):.1f}"/>'
        f'<text x="{_WEST - 6}" y="{frame.y(v) + 4:.1f}" text-anchor="end">{number(v)}</text>'
        for v in _round_numbers(*frame.volumes, 4)
    )
    return (
        f'{volumes}{ages}<line class="axis" x1="{_WEST}" x2="{_WIDE - _EAST}" '
        f'y1="{floor}" y2="{floor}"/>'
    )


def _round_numbers(low: float, high: float, wanted: int) -> list[float]:
    """About so many round numbers between two ends.

    Example:
        >>> _round_numbers(38.0, 88.0, 5), _round_numbers(1.1, 2.3, 4)
        ([40.0, 50.0, 60.0, 70.0, 80.0], [1.5, 2.0])
    """
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = power * next(nice for nice in (1, 2, 5, 10) if nice * power >= raw * 0.999)
    first = math.ceil(low / step)
    return [round(n * step, 9) for n in range(first, math.floor(high / step) + 1)]
