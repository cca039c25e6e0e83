"""Scores over all sites: what is sent, what stays, and how near the sum comes to the truth."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from deployment import finished, new_federation, wait_for
from flwr.app import Message, MetricRecord, RecordDict
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from federated import task
from federated.cells import BINS, Cell, bin_of, histograms, releasable, small_diagnoses
from federated.errors import FederationError
from federated.evaluation import (
    EVALUATION,
    Evaluated,
    cells_of,
    evaluate_sites,
    evaluate_training,
    markdown,
    site_histograms,
)
from federated.hub.folder import online
from federated.hub.runs import start_evaluation, start_run
from federated.in_process import InProcessGrid, Node
from federated.pooled import pool
from federated.site.client_app import client_app
from federated.site.ledger import Ledger
from federated.site.policy import SitePolicy, read_policy, write_policy
from federated.task import Plan
from federated.wire import CELLS, COUNT, METRICS, STATED
from fusion.network import infer
from fusion.store import CaseRow, Site

Hospital = Callable[..., Path]
NAMES = {7: "north", 8: "south", 9: "west"}


def forecast(n: int, prevalence: float = 0.3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of one diagnosis, and the truth."""
    rng = np.random.default_rng(seed)
    truth = (rng.random((n, 1)) < prevalence).astype(float)
    odds = rng.normal(size=(n, 1)) + 1.5 * (truth - prevalence) + np.log(prevalence)
    return 1 / (1 + np.exp(-odds)), truth


def told(n: int, prevalence: float, seed: int, smallest: int = 10) -> list[Cell]:
    """What one site tells."""
    return releasable(*histograms(*forecast(n, prevalence, seed)), 0, smallest)


# -- what may leave ------------------------------------------------------------------------


@pytest.mark.parametrize("prevalence", [0.1, 0.3, 0.5, 0.9])
def test_no_cell_that_leaves_is_small(prevalence: float) -> None:
    """Nor the difference of two: cells of both truths are cut within cells that both fill."""
    cells = told(300, prevalence, 1)
    stops = {has: [cell.stop for cell in cells if cell.has is has] for has in (True, False)}
    shared = sorted(set(stops[True]) & set(stops[False]))

    assert cells
    assert min(cell.cases for cell in cells) >= 10
    assert sum(cell.cases for cell in cells) == 300
    assert shared[-1] == BINS


def test_of_a_rare_diagnosis_nothing_leaves() -> None:
    """Neither the three who have it nor the rest, of whom the three are the difference."""
    probability, truth = forecast(300)
    truth[:] = 0.0
    truth[:3] = 1.0

    assert releasable(*histograms(probability, truth), 0, 10) == []


def test_a_rare_syndrome_hides_another_one() -> None:
    """Otherwise it is everybody minus the two that are told."""
    totals = np.array([[20, 40], [45, 15], [57, 3], [30, 30]])

    assert small_diagnoses(totals, 3, 10) == {1, 2}
    assert small_diagnoses(totals, 0, 10) == {2}
    assert small_diagnoses(np.array([[58, 2], [57, 3], [5, 55]]), 3, 10) == {0, 1, 2}


def test_a_small_site_tells_nothing() -> None:
    """Eighteen cases cannot be cut into two cells of ten."""
    assert told(18, 0.5, 0) == []


# -- what the sum is worth -----------------------------------------------------------------


@pytest.mark.parametrize(("n", "prevalence"), [(120, 0.3), (300, 0.3), (300, 0.5), (800, 0.1)])
def test_the_pooled_auroc_is_within_a_hundredth_of_the_exact_one(n: int, prevalence: float) -> None:
    """Three sites, cells of ten and more; the bounds hold."""
    seeds = range(10, 13)
    (found,) = pool({str(s): told(n, prevalence, s) for s in seeds}, 1)
    both = [forecast(n, prevalence, s) for s in seeds]
    exact = roc_auc_score(
        np.concatenate([t[:, 0] for _, t in both]), np.concatenate([p[:, 0] for p, _ in both])
    )

    assert found.auroc == pytest.approx(exact, abs=0.01)
    assert found.low <= exact <= found.high
    assert (found.sites, found.cases) == (3, 3 * n)


def test_fine_cells_are_exact() -> None:
    """With a smallest cell of one, only cases in the same bin are tied."""
    probability, truth = forecast(400)
    (found,) = pool({"north": told(400, 0.3, 0, smallest=1)}, 1)

    exact = roc_auc_score(truth[:, 0], bin_of(probability)[:, 0])
    assert found.auroc == pytest.approx(exact, abs=2e-3)
    assert found.low <= exact <= found.high


def test_an_honest_forecaster_is_calibrated_over_sites_and_a_boaster_is_not() -> None:
    """The error of a model that doubles its odds shows."""
    rng = np.random.default_rng(0)
    stated = rng.random((4000, 1))
    truth = (rng.random((4000, 1)) < stated).astype(float)
    bold = stated**3 / (stated**3 + (1 - stated) ** 3)
    found = [
        pool({"a": releasable(*histograms(said, truth), 0, 10)}, 1)[0].ece
        for said in (stated, bold)
    ]

    assert found[0] < 0.03
    assert found[1] > 0.08


# -- through Flower's messages -------------------------------------------------------------


def guarded(plan: Plan, folder: Path, **settings: object) -> Node:
    """A site that may share its scores."""
    layout = task.layout(task.new_network(plan))
    policy = SitePolicy(
        plan=plan.fingerprint, layout=layout.sha256, numbers=layout.size, cases=200,
        **{"share_scores": True, **settings},
    )  # fmt: skip
    return Node(client_app(plan), {"site": str(folder)}, policy=policy, ledger_folder=folder)


def ask(nodes: dict[int, Node], plan: Plan) -> Evaluated:
    """Ask all sites about the network before training."""
    packed = task.pack(task.new_network(plan))
    names = {n: NAMES[n] for n in nodes}
    return evaluate_sites(InProcessGrid(nodes), packed, plan, names)


def test_three_sites_add_up_to_what_their_cases_together_say(
    hospital: Hospital, plan: Plan
) -> None:
    """Each behind its guard; the rare third syndrome, which nobody has, stays unsaid."""
    sites = [hospital(name, n_cases=180, seed=n) for n, name in NAMES.items()]
    nodes = {n: guarded(plan, site) for n, site in zip(NAMES, sites, strict=True)}

    found = ask(nodes, plan)

    labels = dict(zip((label.key for label in plan.scheme.labels), found.labels, strict=True))
    network, stated, true = task.new_network(plan), [], []
    for site in sites:
        cases = task.site_cases(site, plan)
        unseen = [*cases.valid, *cases.calibration, *cases.test]
        logits = infer(network, unseen)[0]
        stated.append(softmax(logits[:, :3], axis=1)[:, 2])
        true += [case.labels.syndrome == 2 for case in unseen]
    exact = roc_auc_score(true, np.concatenate(stated))
    assert found.sites == tuple(NAMES.values())
    assert labels["MCI"] is None
    assert labels["DE"] is not None
    assert labels["DE"].low <= exact <= labels["DE"].high
    assert labels["DE"].auroc == pytest.approx(exact, abs=0.02)
    assert labels["DE"].positives == sum(true)
    assert "| DE | 3 |" in markdown(found, plan.scheme)


def test_what_a_site_with_a_rare_label_sends(hospital: Hospital, plan: Plan) -> None:
    """Four of ninety have it: no number of the message speaks of it, and no cell is small."""
    folder = hospital("north", n_cases=240)
    rare = [label.key for label in plan.scheme.labels].index("PRD")
    with Site.open(folder).session() as session:
        for row in session.query(CaseRow).limit(9):
            row.diagnoses = [*row.diagnoses, "PRD"]
    node = guarded(plan, folder)
    sent: list[Message] = []
    node.way = lambda _, reply: (sent.append(reply), (reply,))[1]
    network = task.new_network(plan)
    here = site_histograms(network, task.site_cases(folder, plan))[0].sum(axis=2)

    ask({7: node}, plan)

    (reply,) = sent
    record = reply.content[METRICS]
    cells = np.reshape(record[CELLS], (-1, 4))
    assert 0 < here[rare, 1] < 10
    assert set(reply.content) == {METRICS}
    assert set(record) == {COUNT, CELLS, STATED}
    assert rare not in cells[:, 0]
    assert cells[:, 3].min() >= 10
    assert record[COUNT] == 200


def test_a_site_says_no_by_itself(hospital: Hospital, plan: Plan) -> None:
    """It was not asked for leave, promises privacy, is too small, or has told enough."""
    folder = hospital("north", n_cases=120)
    refusing = {
        "keeps its scores at home": {"share_scores": False},
        "at home": {"noise_multiplier": 1.0},
        "no cell": {"smallest_cell": 100},
        "fewer cases": {"smallest_cohort": 500},
    }
    for why, settings in refusing.items():
        found = ask({7: guarded(plan, folder, **settings)}, plan)
        assert why in found.silent["north"]
        assert set(found.labels) == {None}

    answers = [ask({7: guarded(plan, folder, score_answers=2)}, plan) for _ in range(3)]
    assert [bool(answer.sites) for answer in answers] == [True, True, False]
    assert "all that its policy allows" in answers[-1].silent["north"]
    assert Ledger(folder).read().scored == 2


@pytest.mark.parametrize(
    "spoil",
    [
        lambda counts, sums: (counts.astype(np.int32), sums),
        lambda counts, sums: (counts[:, :1], sums[:, :1]),
        lambda counts, sums: (counts - 1, sums),
        lambda counts, sums: (counts * 1000, sums),
        lambda counts, sums: (counts, sums + 1.0),
        lambda counts, sums: (counts, sums * np.nan),
    ],
)
def test_an_app_cannot_send_other_things_as_histograms(
    spoil: Callable[..., tuple[np.ndarray, np.ndarray]],
    hospital: Hospital,
    plan: Plan,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its numbers are looked at, and cut, outside of it."""
    whole = site_histograms
    monkeypatch.setattr(
        "federated.site.client_app.site_histograms", lambda *told: spoil(*whole(*told))
    )
    found = ask({7: guarded(plan, hospital("north", n_cases=120))}, plan)

    assert "histograms that are none" in found.silent["north"]


@pytest.mark.parametrize(
    ("numbers", "stated"),
    [
        ([], []),
        ([0, 1, BINS], [0.5]),
        ([0, 1, BINS, 12], [0.5]),  # without those who have it not
        ([0, 1, BINS, 12, 0, 0, BINS, -12], [0.5, 0.5]),
        ([0, 1, BINS, 12, 0, 0, BINS + 1, 12], [0.5, 0.5]),
        ([0, 1, BINS, 12, 99, 0, BINS, 12], [0.5, 0.5]),
        ([0, 1, BINS, 12, 0, 0, BINS, 12], [0.5, float("nan")]),
    ],
)
def test_the_hub_refuses_cells_that_are_none(numbers: list[int], stated: list[float]) -> None:
    """A bad site must not end the evaluation or bend it out of range."""
    InProcessGrid({})
    record = MetricRecord({COUNT: 200, CELLS: numbers, STATED: stated})
    reply = Message(RecordDict({METRICS: record}), dst_node_id=1, message_type="evaluate.scores")

    with pytest.raises(FederationError, match="cells that are none"):
        cells_of(reply, 13)


def test_a_site_that_trains_on_all_its_cases_has_none_to_score(
    hospital: Hospital, plan: Plan
) -> None:
    """Twelve patients: it says so."""
    cases = task.site_cases(hospital("small", n_cases=12), plan)

    with pytest.raises(FederationError, match="none to score"):
        site_histograms(task.new_network(plan), cases)


def test_the_last_round_of_a_training_is_scored_and_kept(
    hospital: Hospital, plan: Plan, tmp_path: Path
) -> None:
    """The hub's administrator finds the table beside the rounds."""
    nodes = {n: guarded(plan, hospital(name, n_cases=180, seed=n)) for n, name in NAMES.items()}
    out = tmp_path / "001"
    out.mkdir()
    with pytest.raises(FederationError, match="no round to score"):
        evaluate_training(InProcessGrid(nodes), plan, out, NAMES, 5.0)
    task.save_round(task.new_network(plan), out, 2)
    with pytest.raises(FederationError, match="no site is there"):
        evaluate_training(InProcessGrid(nodes), plan, out, {}, 5.0)

    found = evaluate_training(InProcessGrid(nodes), plan, out, NAMES, 5.0)

    kept = (out / EVALUATION).read_text()
    assert kept.startswith("After round 2. ")
    assert markdown(found, plan.scheme) in kept


@pytest.mark.slow
def test_a_real_hub_gets_cells_from_the_sites_that_allow_it(
    hospital: Hospital, plan: Plan, tmp_path: Path
) -> None:
    """Two sites in processes of their own, TLS and keys on; one of them says no."""
    federation = new_federation(tmp_path, plan)
    try:
        for n, name in enumerate(("north", "south")):
            site = hospital(f"site {name}", n_cases=180, seed=n)
            federation.add_site(name, site, cases=180)
            write_policy(site, replace(read_policy(site), share_scores=name == "north"))
            federation.start_site(name)
        wait_for(lambda: len(online(federation.hub)) == 2, "two sites")
        trained = finished(federation.hub, start_run(federation.hub, rounds=1))
        scored = finished(federation.hub, start_evaluation(federation.hub))
    finally:
        federation.stop()

    table = (federation.hub.trainings[-1] / EVALUATION).read_text()
    assert (trained.outcome, scored.outcome) == ("completed", "completed")
    assert "| DE | 1 |" in table
    assert "south is not in it: this site's policy keeps its scores at home" in table
