"""The tables of the federation measure what they say, on hospitals whose answer is known."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import ConfigRecord
from sklearn.metrics import roc_auc_score

from benchmarks import federated_ages, federated_hearts
from benchmarks.federated import only_notes, some_patients, without_scans, worse
from benchmarks.federated_ages import AgeLine, Brains
from benchmarks.federated_scores import (
    ALONE,
    POOLED,
    Kept,
    Predictions,
    Scores,
    draws,
    mean_auroc,
    mean_of,
)
from benchmarks.federated_ways import HEADS, NAMES, PERSONAL, TUNED, Study, chosen, ways
from benchmarks.hospitals_in_process import FIRST, Hospital, Round, registered, rounds_of
from benchmarks.tables import FOLDER
from clinical.diagnoses import load_scheme
from clinical.evidence import ClinicalTokens, SentencePointer
from federated import task
from federated.hub.strategies import Rules, strategy
from federated.in_process import Node
from federated.packing import travelling
from federated.task import Plan
from federated.wire import FINGERPRINT
from fusion.case import Case
from fusion.network import ModelConfig
from fusion.store import Site
from fusion.train import TrainConfig
from tests.federated.conftest import ENCODER, WIDTH, write_site

# -- scores --------------------------------------------------------------------------------


def test_a_patient_drawn_twice_counts_twice() -> None:
    """As if the row stood there twice; the first draw is the patients as they are."""
    rng = np.random.default_rng(0)
    said, true = rng.normal(size=(40, 2)), (rng.random((40, 2)) < 0.4).astype(float)
    weights = draws(40, 1, resamples=3)

    found = mean_auroc(said, true, weights)

    for drawn, value in zip(weights, found, strict=True):
        rows = np.repeat(np.arange(40), drawn.astype(int))
        expected = [roc_auc_score(true[rows, n], said[rows, n]) for n in range(2)]
        assert value == pytest.approx(np.mean(expected))
    assert weights[0].tolist() == [1.0] * 40


def test_a_rare_diagnosis_has_no_auroc() -> None:
    """Four patients tell nothing; the mean is that of the others."""
    rng = np.random.default_rng(0)
    said = rng.normal(size=(40, 2))
    true = np.stack([np.arange(40) < 20, np.arange(40) < 4], axis=1).astype(float)

    both = mean_auroc(said, true, draws(40, 0, 5))

    np.testing.assert_array_equal(both, mean_auroc(said[:, :1], true[:, :1], draws(40, 0, 5)))


def test_the_same_patients_are_drawn_for_every_way() -> None:
    """Else a difference would be one of patients."""
    np.testing.assert_array_equal(draws(30, 2, 10), draws(30, 2, 10))
    assert (draws(30, 2, 10).sum(axis=1) == 30).all()


def scores(averaged: float) -> Scores:
    """Two hospitals: at the second, alone is better than a federation of a given mean."""

    def at(first: float, second: float) -> dict[str, np.ndarray]:
        values = {"north": np.full(50, first), "south": np.full(50, second)}
        values = {h: v + np.linspace(-0.01, 0.01, 50) for h, v in values.items()}
        return {
            h: np.stack([mean_of(v, draws(50, 0, 20)) + d for d in (-0.01, 0.01)])
            for h, v in values.items()
        }

    ways_ = {POOLED: at(0.9, 0.8), ALONE: at(0.7, 0.7)}
    for way in (*NAMES.values(), TUNED, PERSONAL):
        ways_[way] = at(0.8, averaged)
    return Scores("hearts", "accuracy", 1, 3, ways_, 1.0)


def test_where_a_federation_is_worse_than_a_hospital_alone_the_table_says_so() -> None:
    """By the name of the hospital; for errors, more is worse."""
    bad, good = scores(0.6), scores(0.75)

    assert worse([bad]).count("hearts: south") == 2
    assert worse([good]).count("nowhere") == 2
    assert worse([replace(good, sign=-1)]).count("hearts: north, south") == 2
    assert "north +0.100*; **not** south -0.100*" in bad.table()
    assert good.count_better("FedAvg") == "2 of 2"


def test_intervals_over_seeds_are_students() -> None:
    """Two seeds 0.02 apart: t(0.975, 1) times 0.01."""
    assert scores(0.75).over_seeds("FedAvg") == "± 0.127"


def test_a_finished_training_is_not_made_again(tmp_path: Path) -> None:
    """Other settings are another training."""
    kept, made = Kept(tmp_path), []

    def make() -> Predictions:
        made.append(1)
        return {"FedAvg": {"north": np.arange(3.0)}}

    first = kept.get("hearts-0", {"epochs": 3}, make)
    again = kept.get("hearts-0", {"epochs": 3}, make)
    kept.get("hearts-0", {"epochs": 4}, make)

    assert len(made) == 2
    np.testing.assert_array_equal(first["FedAvg"]["north"], again["FedAvg"]["north"])
    assert len(kept.seconds) == 3


# -- ways of training one network ----------------------------------------------------------


@pytest.fixture(scope="module")
def two_hospitals(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Two hospitals of 24 patients and a third of twelve."""
    model = ModelConfig(text_dim=WIDTH, dim=16, heads=2)
    train = TrainConfig(
        epochs=2, batch_size=8, learning_rate=1e-2, warmup_steps=2, fractions=(0.5, 0.15, 0.15, 0.2)
    )
    plan = Plan(ENCODER, model, train)
    folder, cases, tests = tmp_path_factory.mktemp("sites"), {}, {}
    for seed, (name, patients) in enumerate([("north", 24), ("south", 24), ("west", 12)]):
        site = write_site(folder / name, patients, seed=seed)
        mine = [
            replace(case, patient_key=f"{name} {case.patient_key}")  # nobody is in two hospitals
            for case in Site.open(site).training_cases(plan.scheme)
        ]
        cases[name] = task.split(mine, train)
        others = write_site(folder / f"{name}2", 10, seed=seed + 50)
        tests[name] = Site.open(others).training_cases(plan.scheme)
    return Study(cases, tests, plan, rounds=2)


def test_every_way_says_something_of_every_hospitals_tests(two_hospitals: Study) -> None:
    """And no two ways the same."""
    found: Predictions = {}
    for way in ways(two_hospitals).values():
        found |= way()

    assert {POOLED, ALONE, *NAMES.values(), TUNED, PERSONAL} <= set(found)
    for by in found.values():
        assert {h: len(rows) for h, rows in by.items()} == {"north": 10, "south": 10, "west": 10}
    told = [found[way]["north"].tobytes() for way in (POOLED, ALONE, PERSONAL, *NAMES.values())]
    assert len(set(told)) == len(told)


def test_other_patients_are_another_training(two_hospitals: Study) -> None:
    """What is kept is not taken for it."""
    fewer = {h: replace(c, train=c.train[1:]) for h, c in two_hospitals.cases.items()}

    assert replace(two_hospitals, cases=fewer).settings != two_hospitals.settings


def test_a_hospital_in_memory_keeps_its_heads(two_hospitals: Study) -> None:
    """They differ between hospitals and stay from round to round; nothing of them travels."""
    plan = replace(two_hospitals.plan, personal=HEADS)
    apps = [Hospital(c, plan, tells_loss=True) for c in two_hospitals.cases.values()]
    nodes = {FIRST + n: Node(app, {}) for n, app in enumerate(apps)}
    network = task.new_network(plan)
    hub = strategy("fedavg", Rules(task.layout(network), registered(two_hospitals.cases)))
    told = ConfigRecord({FINGERPRINT: plan.fingerprint})

    rounds = rounds_of(nodes, hub, task.pack(network), 2, told)

    first, second = (apps[0].kept[n]["readout"] for n in (1, 2))
    assert not torch.equal(first, second)
    assert not torch.equal(second, apps[1].kept[2]["readout"])
    assert not any(name.startswith(HEADS) for name in travelling(network))
    assert all(0 < r.loss < 20 for r in rounds)


def test_the_round_of_the_lowest_loss_is_taken() -> None:
    """One without a loss is taken only where none has one."""
    rounds = [Round(n, np.zeros(1), loss) for n, loss in enumerate([3.0, 1.0, np.inf], 1)]

    assert chosen(rounds).number == 2


# -- hospitals that differ -----------------------------------------------------------------


def case(patient: int) -> Case:
    """A patient with two notes of two sentences each, and a scan."""
    notes = tuple(SentencePointer(note, n, n + 1) for note in ("en", "zh") for n in range(2))
    features = np.arange(8, dtype=np.float32).reshape(4, 2)
    tokens = ClinicalTokens(features, np.zeros(4, np.int64), np.ones(4, np.float32), notes)
    return Case(f"case{patient}", f"patient{patient // 2}", {"notes": tokens, "scan": tokens})


def test_a_hospital_keeps_the_sentences_of_some_of_its_notes() -> None:
    """And all its other evidence; where no note is left, the case has none."""
    chinese, nothing = only_notes(case(0), {"zh"}), only_notes(case(0), set())

    np.testing.assert_array_equal(chinese.tokens["notes"].features, [[4, 5], [6, 7]])
    assert {p.note_id for p in chinese.tokens["notes"].pointers} == {"zh"}  # type: ignore[union-attr]
    assert set(chinese.tokens) == {"notes", "scan"}
    assert set(nothing.tokens) == {"scan"}


def test_a_hospital_without_a_scanner_has_no_scans() -> None:
    """A case that was nothing but a scan is not there."""
    left = without_scans([case(0), case(1).only("scan")])

    assert [set(c.tokens) for c in left] == [{"notes"}]


def test_a_small_hospital_has_all_cases_of_its_patients() -> None:
    """Patients are drawn, not cases."""
    drawn = some_patients([case(n) for n in range(20)], 3, seed=1)

    assert len(drawn) == 6
    assert len({c.patient_key for c in drawn}) == 3


# -- ages ----------------------------------------------------------------------------------


def clinics() -> dict[str, Brains]:
    """Three hospitals whose scanners scale differently; age is a line in two of five shares."""
    rng, found = np.random.default_rng(0), {}
    for n, (name, people) in enumerate([("a", 60), ("b", 40), ("c", 25)]):
        shares = rng.normal(0.5 + 0.05 * n, 0.1, (people, 5)).astype(np.float32)
        years = 60 + 100 * (shares[:, 0] - shares[:, 1]) + rng.normal(size=people)
        found[name] = Brains(shares, years.astype(np.float32))
    return found


def test_means_and_mean_squares_are_those_of_everybody() -> None:
    """Averaged by the numbers of people, through the messages of a federation."""
    brains = clinics()
    everybody = np.concatenate([b.shares for b in brains.values()])

    rounds, hospitals = federated_ages.federated(brains, {}, "fedavg", 1)
    network = hospitals[0].after(rounds[-1])

    np.testing.assert_allclose(network.mean.detach().numpy(), everybody.mean(axis=0), rtol=1e-4)
    expected = (everybody**2).mean(axis=0)
    np.testing.assert_allclose(network.square.detach().numpy(), expected, rtol=1e-4)


def test_a_hospitals_own_scale_and_intercept_stay_at_home() -> None:
    """A layer that normalises stays by its type, and its count of batches is kept with it."""
    rounds, hospitals = federated_ages.federated(clinics(), {}, "fedavg", 2, own=True)
    networks = [clinic.after(rounds[-1]) for clinic in hospitals]

    assert list(travelling(networks[0])) == ["line.weight"]
    assert networks[0].own is not None
    assert int(networks[0].own.num_batches_tracked) == 2 * federated_ages.STEPS
    np.testing.assert_allclose(
        networks[1].own.running_mean.numpy(), clinics()["b"].shares.mean(axis=0), rtol=1e-4
    )
    torch.testing.assert_close(networks[0].line.weight, networks[1].line.weight)
    assert not torch.equal(networks[0].line.bias, networks[1].line.bias)


@pytest.mark.parametrize("own", [False, True])
def test_together_hospitals_learn_the_line(own: bool) -> None:
    """Far better than guessing the mean, on people nobody saw."""
    learning = {h: b.some(np.arange(len(b.years)) > 9) for h, b in clinics().items()}
    rounds, hospitals = federated_ages.federated(learning, {}, "fedavg", 20, own=own)

    for clinic, unseen in zip(hospitals, clinics().values(), strict=True):
        asked = unseen.some(np.arange(len(unseen.years)) <= 9)
        guess = float(np.abs(asked.years - clinic.learning.years.mean()).mean())
        assert clinic.after(rounds[-1]).error(asked) < 0.5 * guess


def test_gradient_steps_lead_to_least_squares() -> None:
    """So the rounds of a federation have somewhere to go."""
    brains = clinics()["a"]
    network = AgeLine(5, own=False)
    network.measure(torch.from_numpy(brains.shares))

    network.learn(brains, 300)

    rows = np.column_stack([brains.shares, np.ones(60)])
    best = rows @ np.linalg.lstsq(rows, brains.years, rcond=None)[0]
    np.testing.assert_allclose(network.years(brains.shares), best, atol=0.3)


# -- hearts --------------------------------------------------------------------------------


@pytest.mark.skipif(not (FOLDER / "heart_uci").exists(), reason="needs ../shared/data/heart_uci")
def test_the_patients_of_the_published_comparison_are_known_again() -> None:
    """FLamby counts 303, 261, 46 and 130 of them; a third of each hospital tests."""
    hearts = federated_hearts.load()

    assert [int(h.complete.sum()) for h in hearts.values()] == [303, 261, 46, 130]
    assert [int(h.test.sum()) for h in hearts.values()] == [101, 98, 41, 67]
    study = federated_hearts.study(hearts, 0)
    seen = {c.case_id for parts in study.cases.values() for c in (*parts.train, *parts.valid)}
    assert not seen & {case.case_id for tests in study.tests.values() for case in tests}
    assert len(study.plan.scheme.labels) == len(
        load_scheme(federated_hearts.MAPPINGS / "heart_uci_diagnoses.toml").labels
    )
