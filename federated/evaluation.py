"""How good a network is over all sites: pooled histograms, of which no site's small cell left home.

Each site scores its patients that no training of a round has seen (those for validation,
calibration and test), as histograms; its guard puts neighbouring bins together until no
cell is small (`federated.cells`), and the hub adds the cells of all sites up. Scores are the
network's own, before a site's calibration. The AUROC has bounds that hold however the cases lie in
their cells.

What this does not stop: a hub that asks again with other weights and compares the answers learns a
little more each time. So a site answers `score_answers` times and no more, only where its
policy says `share_scores`, and never where it promises differential privacy.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from scipy.special import expit, softmax

from clinical.diagnoses import Scheme
from federated.cells import BINS, Cell, Counts, Sums, histograms
from federated.errors import FederationError
from federated.files import write_whole
from federated.pooled import Pooled, pool
from federated.progress import last_round
from federated.task import Packed, Plan, SiteCases, load_round, pack
from federated.wire import (
    ARRAYS,
    CELLS,
    CONFIG,
    COUNT,
    FINGERPRINT,
    METRICS,
    PACKED,
    ROUND,
    SCORES,
    STATED,
)
from fusion.case import UNKNOWN, label_arrays
from fusion.model import DiagnosticModel
from fusion.network import infer

log = logging.getLogger(__name__)

EVALUATION = "evaluation.md"  # in a training's folder
COARSE = 0.5  # between the bounds of an AUROC: more says nothing


def site_histograms(network: DiagnosticModel, cases: SiteCases) -> tuple[Counts, Sums]:
    """Scores of the patients that training has not seen.

    Raises:
        FederationError: There are none, the site being too small to spare any.
    """
    unseen = [*cases.valid, *cases.calibration, *cases.test]
    if not unseen:
        raise FederationError("this site trains on all its cases, so it has none to score")
    logits, _ = infer(network, unseen)
    n = network.config.n_syndromes
    probability = np.concatenate([softmax(logits[:, :n], axis=1), expit(logits[:, n:])], axis=1)
    syndrome, causes = label_arrays(unseen)
    known = np.where(syndrome[:, None] == UNKNOWN, UNKNOWN, syndrome[:, None] == np.arange(n))
    truth = np.concatenate([known, causes], axis=1, dtype=np.float64)
    return histograms(probability.astype(np.float64), truth)


@dataclass(frozen=True)
class Evaluated:
    """What the sites told.

    Attributes:
        sites: Whose cells are in it.
        silent: Why each of the others is not.
        labels: By diagnosis; None where no site could tell of it.
    """

    sites: tuple[str, ...]
    silent: Mapping[str, str]
    labels: tuple[Pooled | None, ...]


def evaluate_sites(
    grid: Grid,
    packed: Packed,
    plan: Plan,
    names: Mapping[int, str],
    *,
    current_round: int = 1,
    timeout_s: float = 3600.0,
) -> Evaluated:
    """Ask sites for their cells, and add them up.

    Args:
        grid: Flower's way to the sites.
        packed: The weights to be scored.
        plan: What was agreed on.
        names: The sites to be asked, by node id.
        current_round: After which these weights are the average.
        timeout_s: For all replies.
    """
    told = ConfigRecord({FINGERPRINT: plan.fingerprint, ROUND: current_round})
    content = RecordDict({ARRAYS: ArrayRecord({PACKED: Array(packed)}), CONFIG: told})
    asked = [Message(content, site, SCORES, group_id=str(current_round)) for site in names]
    cells: dict[str, Sequence[Cell]] = {}
    silent = dict.fromkeys(names.values(), "did not answer")
    for reply in grid.send_and_receive(asked, timeout=timeout_s):
        name = names.get(reply.metadata.src_node_id)
        if name is None or name in cells:
            continue
        try:
            cells[name] = cells_of(reply, len(plan.scheme.labels))
            del silent[name]
        except FederationError as error:
            log.warning("%s: %s", name, error)
            silent[name] = str(error)
    labels = pool(cells, len(plan.scheme.labels))
    return Evaluated(tuple(cells), silent, tuple(labels))


def evaluate_training(
    grid: Grid, plan: Plan, out: Path, names: Mapping[int, str], timeout_s: float
) -> Evaluated:
    """Score the last round of a training at its sites, and keep the table in its folder.

    Args:
        grid: Flower's way to the sites.
        plan: What was agreed on.
        out: Folder of the training.
        names: The sites that are there, by node id.
        timeout_s: For all replies.

    Raises:
        FederationError: No round was kept yet, or no site is there.
    """
    last = last_round(out)
    if not last:
        raise FederationError(f"training {out.name} has no round to score yet")
    if not names:
        raise FederationError("no site is there to be asked")
    packed = pack(load_round(plan, out, last))
    found = evaluate_sites(grid, packed, plan, names, current_round=last, timeout_s=timeout_s)
    text = f"After round {last}. {markdown(found, plan.scheme)}\n"
    write_whole(out / EVALUATION, text.encode())
    return found


def cells_of(reply: Message, n_diagnoses: int) -> list[Cell]:
    """The cells of a site's reply.

    Raises:
        FederationError: The site refused, or answered with something else.
    """
    if reply.has_error():
        raise FederationError(reply.error.reason)
    record = reply.content.metric_records.get(METRICS, MetricRecord())
    if set(reply.content) != {METRICS} or set(record) != {COUNT, CELLS, STATED}:
        raise FederationError("it answered with other records than cells")
    numbers, stated = record[CELLS], record[STATED]
    assert isinstance(numbers, list)
    assert isinstance(stated, list)
    if not stated or len(numbers) != 4 * len(stated):
        raise FederationError("it answered with cells that are none")
    found = [
        Cell(int(d), bool(has), int(stop), int(cases), float(mean))
        for (d, has, stop, cases), mean in zip(np.reshape(numbers, (-1, 4)), stated, strict=True)
    ]
    _check(found, n_diagnoses)
    return found


def _check(cells: Sequence[Cell], n_diagnoses: int) -> None:
    """Refuse cells that cannot be a histogram's.

    Raises:
        FederationError: They cannot.
    """
    last: dict[tuple[int, bool], int] = {}
    for cell in cells:
        key = (cell.diagnosis, cell.has)
        rises = last.get(key, 0) < cell.stop <= BINS
        known = 0 <= cell.diagnosis < n_diagnoses and 0 <= cell.stated <= 1
        if not (rises and known and cell.cases > 0):
            raise FederationError("it answered with cells that are none")
        last[key] = cell.stop
    both = {diagnosis for diagnosis, _ in last}
    if len(last) != 2 * len(both) or set(last.values()) != {BINS}:
        raise FederationError("it answered with cells that are none")


def markdown(evaluated: Evaluated, scheme: Scheme) -> str:
    """A table, a row a diagnosis, and why sites are missing."""
    told = ", ".join(evaluated.sites) or "none"
    lines = [
        f"Sites that told of their patients whom training has not seen: {told}.",
        "",
        "| diagnosis | sites | cases | with it | AUROC (bounds) | ECE |",
        "|---|--:|--:|--:|---|--:|",
    ]
    for label, found in zip(scheme.labels, evaluated.labels, strict=True):
        if found is None:
            lines.append(f"| {label.key} | 0 | - | - | too few at each site | - |")
            continue
        score, ece = f"{found.auroc:.3f} ({found.low:.3f} to {found.high:.3f})", f"{found.ece:.3f}"
        if found.high - found.low > COARSE:
            score, ece = f"cells too coarse ({found.low:.3f} to {found.high:.3f})", "-"
        counts = f"{found.sites} | {found.cases} | {found.positives}"
        lines.append(f"| {label.key} | {counts} | {score} | {ece} |")
    lines += [f"\n{name} is not in it: {why}" for name, why in evaluated.silent.items()]
    return "\n".join(lines)
