"""Small pictures of numbers as inline SVG; nothing from outside but numbers and units."""

import datetime as dt
from collections.abc import Sequence

from clinical.record import ReferenceRange
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
