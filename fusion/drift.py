"""What the cases were like that a model was trained on, and whether a site's are like them.

`profile` makes a summary that may travel in the model card: histograms over fixed edges, one case
a patient, in which no cell holds fewer than `SMALLEST` patients (neighbours are put together until
it does; a tail, or a yes or no, that fewer have is told as nobody), shares in whole per cent and
numbers of patients in tens, so that no cell can be told by taking one from another. `compare` holds
a site's cases against it, at the site.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from scipy.stats import chi2_contingency, false_discovery_control

from clinical.lab_encoder import FACT_EXTRAS, FACT_KINDS
from clinical.units import ANALYTES
from fusion.case import MODALITIES, Case
from imaging.encoder import POOLED
from imaging.regions import REGIONS

PROFILE = "profile"  # key of the model card's notes
SMALLEST = 10  # patients in a cell of what is published
ENOUGH = 20  # patients of a site that have a measure, for it to be compared
MOVED = 0.1  # population stability index from which a shift is worth a word
CHANCE = 0.05  # share of the measures called different that may be so by chance

LIKE, DIFFERS, UNSAID = "like the training sites", "differs", "cannot be said"

YES = (0.5,)
MEASURED = ", measured"  # end of the name of what says whether an analyte was
Z = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
COUNT = (0.5, 2.5, 5.5, 10.5, 20.5, 40.5, 80.5)
EDGES: dict[str, tuple[float, ...]] = {
    "age": (50.0, 55.0, 60.0, 65.0, 70.0, 75.0, 80.0, 85.0),
    "education": (8.5, 11.5, 12.5, 15.5, 17.5),
    "quality": (0.2, 0.4, 0.6, 0.7, 0.8, 0.9),
}


@dataclass(frozen=True)
class Drift:
    """One measure here and at the training sites.

    Attributes:
        measure: Its modality and name.
        patients: Who have it here.
        mean: Of them.
        trained_mean: Of the training's.
        psi: Population stability index; None where there is too little to compare.
        word: `LIKE`, `DIFFERS` or `UNSAID`.
    """

    measure: str
    patients: int
    mean: float
    trained_mean: float
    psi: float | None
    word: str

    @property
    def modality(self) -> str:
        """Of the measure."""
        return self.measure.partition(":")[0]


def profile(cases: Sequence[Case], smallest: int = SMALLEST) -> dict[str, Any]:
    """A summary of cases that names no patient and has no small cell.

    Args:
        cases: What a model is fitted to.
        smallest: Patients in a cell; measures that fewer than twice as many have are left out.
    """
    found = {
        name: _told(edges, values, smallest)
        for name, (edges, values) in _measures(cases).items()
        if len(values) >= 2 * smallest
    }
    rare = [n for n, told in found.items() if n.endswith(MEASURED) and told["mean"] == 0]
    return {
        "smallest_cell": smallest,
        "measures": {name: told for name, told in found.items() if name not in rare},
    }


def _told(edges: tuple[float, ...], values: Sequence[float], smallest: int) -> dict[str, Any]:
    """What the card says of one measure."""
    kept, counts = merged(edges, np.histogram(values, _outer(edges))[0], smallest)
    shares = [round(float(share), 2) for share in counts / counts.sum()]
    told = {"patients": len(values) // 10 * 10, "edges": list(kept), "shares": shares}
    if edges == YES:  # whose mean would tell how many
        return {**told, "mean": shares[-1]}
    return {
        **told, "mean": round(float(np.mean(values)), 2), "sd": round(float(np.std(values)), 2)
    }  # fmt: skip


def merged(
    edges: Sequence[float], counts: Int64[np.ndarray, " cell"], smallest: int
) -> tuple[tuple[float, ...], Int64[np.ndarray, " merged"]]:
    """Put neighbouring cells together until none is too small; a small tail is told as empty.

    Args:
        edges: Between the cells, one fewer than cells.
        counts: In each; together at least twice `smallest`.
        smallest: What a cell must hold, or nothing.

    Example:
        >>> merged((0.0, 1.0, 2.0, 3.0), np.array([12, 3, 9, 30, 4]), 10)
        ((0.0, 2.0, 3.0), array([12, 12, 30,  0]))
    """
    first = int(np.searchsorted(counts.cumsum(), smallest))  # the cells before it are a tail
    last = len(counts) - int(np.searchsorted(counts[::-1].cumsum(), smallest))
    if counts[first:last].sum() < smallest:
        first = 0
    if counts[first:last].sum() < smallest:
        last = len(counts)
    kept, cells, held = list(edges[first - 1 : first]), [0] * (first > 0), 0
    for n in range(first, last):
        held += int(counts[n])
        if n == last - 1 or (held >= smallest and counts[n + 1 : last].sum() >= smallest):
            cells.append(held)
            kept += edges[n : n + 1]
            held = 0
    return tuple(kept), np.array([*cells, *[0] * (last < len(counts))], dtype=np.int64)


def compare(told: Mapping[str, Any], cases: Sequence[Case]) -> tuple[Drift, ...]:
    """Hold a site's cases against what a model was trained on.

    A measure differs where its population stability index is at least `MOVED` and a chi-squared
    test says that it is no chance, over all measures together (Benjamini and Hochberg), or where
    an analyte is measured that the training did not know.

    Args:
        told: What `profile` made.
        cases: The site's, labelled or not.
    """
    here, found = _measures(cases), {}
    for name, trained in told["measures"].items():
        values = here.get(name, ((), []))[1]
        if len(values) >= ENOUGH and len(trained["shares"]) > 1:
            counts = np.histogram(values, _outer(trained["edges"]))[0]
            untold = told["smallest_cell"] / trained["patients"]
            found[name] = _moved(np.array(trained["shares"]), trained["patients"], counts, untold)
    chances = [chance for _, chance in found.values()]
    adjusted = false_discovery_control(chances) if chances else []
    words = {
        name: _word(psi, bool(chance < CHANCE))
        for (name, (psi, _)), chance in zip(found.items(), adjusted, strict=True)
    }
    known = [
        Drift(name, len(values), _mean(values), trained["mean"], psi, words.get(name, UNSAID))
        for name, trained in told["measures"].items()
        for values in (here.get(name, ((), []))[1],)
        for psi in (found[name][0] if name in found else None,)
    ]
    unknown = [
        Drift(name, len(values), _mean(values), 0.0, None, DIFFERS)
        for name, (_, values) in here.items()
        if name not in told["measures"] and name.endswith(MEASURED)
        if len(values) >= ENOUGH and _mean(values) >= MOVED
    ]
    return (*known, *unknown)


def _mean(values: Sequence[float]) -> float:
    """Mean; 0 of nothing."""
    return float(np.mean(values)) if len(values) else 0.0


def _word(psi: float, certain: bool) -> str:  # noqa: FBT001
    """What an index means, given whether it is no chance."""
    if psi < MOVED:
        return LIKE
    return DIFFERS if certain else UNSAID


def _moved(
    shares: Float64[np.ndarray, " cell"],
    patients: int,
    counts: Int64[np.ndarray, " cell"],
    untold: float,
) -> tuple[float, float]:
    """Population stability index, and the chance of such a difference where there is none.

    A cell told as empty is taken to hold what it holds here, up to the share `untold`.
    """
    here = (counts + 0.5) / (counts.sum() + 0.5 * len(counts))
    there = np.where(shares > 0, shares, np.minimum(here, untold))
    there = there / there.sum()
    psi = float(np.sum((here - there) * np.log(here / there)))
    return psi, float(chi2_contingency(np.stack([there * patients, counts])).pvalue)


def _outer(edges: Sequence[float]) -> list[float]:
    """Edges with an end on both sides."""
    return [-np.inf, *edges, np.inf]


def _measures(cases: Sequence[Case]) -> dict[str, tuple[tuple[float, ...], list[float]]]:
    """Edges and values of every measure, one case a patient."""
    found: dict[str, tuple[tuple[float, ...], list[float]]] = {}
    for case in {case.patient_key: case for case in cases}.values():
        for name, edges, value in (*_presence(case), *_labs(case), *_scan(case), *_history(case)):
            found.setdefault(name, (edges, []))[1].append(value)
    return found


Measured = Iterator[tuple[str, tuple[float, ...], float]]


def _presence(case: Case) -> Measured:
    """Which modalities there are, and how much of the notes is read by rules."""
    for modality in MODALITIES:
        yield f"{modality}: present", YES, float(modality in case.tokens)
    if notes := case.tokens.get("notes"):
        yield "notes: sentences", COUNT, float(len(notes.kinds))
        by_rules = [getattr(pointer, "by_rules", False) for pointer in notes.pointers]
        yield "notes: mostly read by rules", YES, float(np.mean(by_rules) > 0.5)


def _labs(case: Case) -> Measured:
    """What was measured, and the latest value against its reference range."""
    labs = case.tokens.get("labs")
    if labs is None:
        return
    latest = dict(zip(labs.kinds.tolist(), labs.features[:, -1, 0].tolist(), strict=True))
    yield "labs: analytes", COUNT, float(len(latest))
    for kind, analyte in enumerate(ANALYTES):
        yield f"labs: {analyte.name}{MEASURED}", YES, float(kind in latest)
        if kind in latest:
            yield f"labs: {analyte.name}, z", Z, latest[kind]


def _scan(case: Case) -> Measured:
    """Quality, and volumes against the norm."""
    scan = case.tokens.get("scan")
    if scan is None:
        return
    yield "scan: quality", EDGES["quality"], float(np.mean(scan.quality))
    for kind, row in zip(scan.kinds.tolist(), scan.features, strict=True):
        if row[POOLED + 3] > 0:  # there is a norm
            yield f"scan: {REGIONS[kind].key}, z", Z, float(row[POOLED + 1])


def _history(case: Case) -> Measured:
    """Age, sex, education, and how many conditions and drugs."""
    history = case.tokens.get("history")
    if history is None:
        return
    names = [FACT_KINDS[kind] for kind in history.kinds.tolist()]
    for name, row, pointer in zip(names, history.features, history.pointers, strict=True):
        number = float(row[-FACT_EXTRAS])
        if name == "age":
            yield "history: age, years", EDGES["age"], 70 + 10 * number
        elif name == "education":
            yield "history: education, years", EDGES["education"], 12 + 4 * number
        elif name == "sex":
            yield "history: female", YES, float(getattr(pointer, "display", "") == "female")
    for kind in ("condition", "medication"):
        yield f"history: {kind}s", COUNT, float(names.count(kind))
