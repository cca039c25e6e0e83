"""Twelve kinds of error to put into the cases of `benchmarks.consistency_cases`.

Statements of notes know how they go wrong; here are the coded entries, the scan's header, and the
choice of what to spoil.
"""

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.consistency_cases import TODAY, Item, Made, Spoil, make
from clinical.courses import WITHIN_SUBJECT
from clinical.findings import Source
from clinical.units import analyte
from imaging.scan import Acquisition

KINDS = ("sex", "age", "side", "date", "header", "impossible value", "score", "unit",
         "neighbour", "medication", "diagnosis", "volume")  # fmt: skip
RATE = 0.083  # of the items of every kind
SMALLEST_DRAW = 5  # values of a day that are called a draw


def cohort_of(seed: int, cases: int) -> list[Made]:
    """A cohort without errors."""
    cohort = [make(seed, index) for index in range(cases)]
    for made in cohort:
        made.items += _coded_items(made)
    return cohort


def choose(cohort: list[Made], rng: np.random.Generator) -> list[tuple[Made, Item]]:
    """The same share of the items of every kind, never two of one owner."""
    chosen: list[tuple[Made, Item]] = []
    taken: set[tuple[int, object]] = set()
    for kind in KINDS:
        pool = [
            (n, item) for n, made in enumerate(cohort) for item in made.items if item.kind == kind
        ]
        wanted = round(RATE * len(pool))
        for k in rng.permutation(len(pool)):
            n, item = pool[k]
            owners = {(n, key) for key in _owners(item)}
            if wanted and not owners & taken:
                chosen.append((cohort[n], item))
                taken |= owners
                wanted -= 1
    return chosen


def _owners(item: Item) -> list[object]:
    if isinstance(item.owner, tuple):
        return list(item.owner)
    return [item.owner if isinstance(item.owner, str) else id(item.owner)]


def spoil(cohort: list[Made], rng: np.random.Generator) -> list[tuple[Made, Item]]:
    """Put the errors in."""
    chosen = choose(cohort, rng)
    for made, item in chosen:
        if item.kind == "neighbour":
            pool = [m for m in cohort if m.base.sex == made.base.sex and m is not made]
            keys = item.owner if isinstance(item.owner, tuple) else ()
            from_neighbour(made, keys, pool[rng.integers(len(pool))])
        else:
            item.spoil(rng)
    return chosen


# -- what is coded and what the header says ---------------------------------------------------


def _coded_items(made: Made) -> list[Item]:
    return [
        *_observation_items(made), *_draw_items(made), *_dated_items(made), *_header_items(made)
    ]  # fmt: skip


def _observation_items(made: Made) -> Iterator[Item]:
    """A score goes over its maximum; a laboratory value arrives in another unit; a day is wrong."""
    for n, o in enumerate(list(made.observations.values())):
        known = analyte(o.loinc)
        if known is None or o.value is None:
            continue
        place = {Source("observation", o.id)}
        factors = [f for f in known.factors.values() if 1.2 < max(f, 1 / f) < 1000]
        if n % 4 == 0:
            yield Item("date", _redate(made, o.id), lambda place=place: place, o.id)
        elif known.is_scale:
            yield Item("impossible value", _overflow(made, o.id), lambda place=place: place, o.id)
        elif factors:
            yield Item("unit", _rescale(made, o.id, factors), lambda place=place: place, o.id)


def _overflow(made: Made, key: str) -> Spoil:
    """A digit too many, or a percentage."""

    def spoil(rng: np.random.Generator) -> None:
        o = made.observations[key]
        value = o.value or 0.0
        known = analyte(o.loinc)
        assert known is not None
        wrong = (
            max(value * 10, known.plausible[1] + 1)
            if rng.random() < 0.5
            else 100 * value / known.plausible[1]
        )
        if wrong <= known.plausible[1]:
            wrong = known.plausible[1] + float(rng.integers(1, 10))
        made.observations[key] = replace(o, value=float(round(wrong)))

    return spoil


def _rescale(made: Made, key: str, factors: Sequence[float]) -> Spoil:
    """The number of one unit with the name of another."""

    def spoil(rng: np.random.Generator) -> None:
        o, factor = made.observations[key], float(rng.choice(factors))
        made.observations[key] = replace(o, value=(o.value or 0.0) / factor)

    return spoil


def _redate(made: Made, key: str) -> Spoil:
    """Another century or a year that is yet to come."""

    def spoil(rng: np.random.Generator) -> None:
        o = made.observations[key]
        made.observations[key] = replace(o, date=_wrong_day(o.date, rng))

    return spoil


def _wrong_day(day: dt.date | None, rng: np.random.Generator) -> dt.date:
    day = day or TODAY
    year = day.year - 100 if rng.random() < 0.5 else day.year + int(rng.choice([10, 20, 70]))
    return day.replace(year=year, day=min(day.day, 28))


def _draw_items(made: Made) -> Iterator[Item]:
    """All blood of one day; `spoil` is filled in by `spoil_cohort`, which knows the neighbours."""
    days = sorted(
        {o.date for o in made.observations.values() if o.loinc in WITHIN_SUBJECT and o.date}
    )
    for day in days:
        mine = [
            o.id for o in made.observations.values() if o.date == day and o.loinc in WITHIN_SUBJECT
        ]
        place = {Source("observation", key) for key in mine}
        if len(mine) >= SMALLEST_DRAW:
            yield Item("neighbour", lambda _: None, lambda place=place: place, tuple(mine))


def from_neighbour(made: Made, keys: Sequence[str], other: Made) -> None:
    """File another person's blood under this patient."""
    theirs = {o.loinc: o.value for o in other.observations.values() if "-" not in o.id[36:]}
    for key in keys:
        o = made.observations[key]
        if o.loinc in theirs:
            made.observations[key] = replace(o, value=theirs[o.loinc])
        else:
            del made.observations[key]


def _dated_items(made: Made) -> Iterator[Item]:
    """Onset of conditions and start of drugs."""
    for n, condition in enumerate(made.base.conditions):
        place = {Source("condition", condition.id)}

        def spoil(rng: np.random.Generator, n: int = n) -> None:
            c = made.base.conditions
            wrong = replace(c[n], onset=_wrong_day(c[n].onset, rng))
            made.base = replace(made.base, conditions=(*c[:n], wrong, *c[n + 1 :]))

        yield Item("date", spoil, lambda place=place: place, condition.id)
    for n, drug in enumerate(made.base.medications):
        place = {Source("medication", drug.id)}

        def spoil_drug(rng: np.random.Generator, n: int = n) -> None:
            m = made.base.medications
            wrong = replace(m[n], start=_wrong_day(m[n].start, rng))
            made.base = replace(made.base, medications=(*m[:n], wrong, *m[n + 1 :]))

        yield Item("date", spoil_drug, lambda place=place: place, drug.id)


def _header_items(made: Made) -> Iterator[Item]:
    """Sex, birth year and day of the scan."""

    def sex(_: np.random.Generator) -> None:
        other = "male" if made.identity.sex == "female" else "female"
        made.identity = replace(made.identity, sex=other)

    def year(rng: np.random.Generator) -> None:
        apart = int(rng.choice([-10, -1, 1, 9, 20]))
        made.identity = replace(
            made.identity, birth_year=(made.identity.birth_year or 1950) + apart
        )

    def day(rng: np.random.Generator) -> None:
        made.acquisition = Acquisition(acquired_on=_wrong_day(made.acquisition.acquired_on, rng))

    for name, spoil in (("sex", sex), ("birth year", year), ("acquired_on", day)):
        yield Item("header", spoil, lambda name=name: {Source("header", name)}, f"header {name}")
