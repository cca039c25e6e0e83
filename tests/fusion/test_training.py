"""Training: what it learns, what it never sees, how it stops."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import fusion.train
from fusion.case import MODALITIES, Case, Labels, collate
from fusion.model import DiagnosticModel
from fusion.network import infer
from fusion.train import (
    PARTS,
    SplitError,
    TrainConfig,
    Trained,
    TrainError,
    check_disjoint,
    fit,
    hidden_at_random,
    loss_of,
    split_by_patient,
)

MakeCase = Callable[..., Case]
SHORT = TrainConfig(epochs=2, batch_size=4)


def auroc(model: DiagnosticModel, cases: list[Case]) -> float:
    """Of the first cause."""
    truth = [bool(case.labels and case.labels.causes[0]) for case in cases]
    return float(roc_auc_score(truth, infer(model, cases)[0][:, 3]))


def test_a_disease_that_needs_two_modalities_is_learned(
    trained: Trained, planted: Callable[..., list[Case]]
) -> None:
    """Signs that differ between labs and notes: found together, invisible in either."""
    cases = planted(150, seed=9)
    assert auroc(trained.model, cases) > 0.95
    for alone in ("labs", "notes"):
        assert abs(auroc(trained.model, [case.only(alone) for case in cases]) - 0.5) < 0.15


def test_the_syndrome_is_learned_from_the_scan(
    trained: Trained, planted: Callable[..., list[Case]]
) -> None:
    """With the rest hidden it is still right."""
    cases = planted(100, seed=9)
    found = infer(trained.model, [case.only("scan") for case in cases])[0][:, :3].argmax(axis=1)
    assert np.mean([f == c.labels.syndrome for f, c in zip(found, cases, strict=True)]) > 0.95


def test_no_patient_is_in_two_parts(make_case: MakeCase) -> None:
    """Three visits of a patient stay together."""
    cases = [make_case(n, ("labs",), patient=f"p{n % 20}") for n in range(60)]
    parts = split_by_patient(cases, (0.5, 0.2, 0.3), seed=0)
    keys = [{case.patient_key for case in part} for part in parts]
    assert [len(k) for k in keys] == [10, 4, 6]
    assert len(set.union(*keys)) == 20
    assert sum(len(part) for part in parts) == 60


def test_a_split_depends_on_the_seed_and_not_on_the_order(make_case: MakeCase) -> None:
    """The same patients are held out whoever lists the cases."""
    cases = [make_case(n, ("labs",)) for n in range(20)]
    ids = [
        {case.case_id for case in split_by_patient(given, (0.5, 0.5), seed)[0]}
        for given, seed in ((cases, 0), (cases[::-1], 0), (cases, 1))
    ]
    assert ids[0] == ids[1] != ids[2]


def test_overlap_is_refused(make_case: MakeCase, model: DiagnosticModel) -> None:
    """A patient seen in training may not judge the network, however the parts were made."""
    first, again = make_case(1, patient="p"), make_case(2, patient="p")
    with pytest.raises(SplitError, match="1 patients are in more than one part"):
        check_disjoint([[first], [make_case(3)], [again]])
    with pytest.raises(SplitError, match="more than one part"):
        fit(model, [first], [again], SHORT)


@pytest.mark.parametrize("fractions", [(0.5, 0.4), (1.5, -0.5)])
def test_fractions_must_be_shares(make_case: MakeCase, fractions: tuple[float, ...]) -> None:
    """They are positive and sum to one."""
    with pytest.raises(SplitError, match="sum to 1"):
        split_by_patient([make_case(1)], fractions, 0)


def test_too_few_patients_are_refused(make_case: MakeCase) -> None:
    """One patient cannot be in two parts."""
    with pytest.raises(SplitError, match="too few"):
        split_by_patient([make_case(1)], (0.5, 0.5), 0)


def test_unknown_labels_teach_nothing(
    model: DiagnosticModel, make_case: MakeCase, labels: Callable[..., Labels]
) -> None:
    """A case of unknown diagnosis adds neither loss nor gradient."""
    unknown = make_case(2, labels=Labels(None, (None,) * 10))
    known = make_case(1, labels=labels(1, 0, 4))
    alone, both = (loss_of(model, collate(c)) for c in ([known], [known, unknown]))
    torch.testing.assert_close(both, alone)
    assert loss_of(model, collate([unknown])).item() == 0.0


def test_the_loss_is_the_textbook_one(
    model: DiagnosticModel, make_case: MakeCase, labels: Callable[..., Labels]
) -> None:
    """Cross entropy of the syndrome and the sum over causes of their binary cross entropies."""
    case = make_case(1, labels=labels(1, 0, 4))
    logits = model(collate([case])).logits[0].double()
    chance = torch.sigmoid(logits[3:])
    truth = torch.tensor(case.labels.causes)
    expected = -logits[:3].log_softmax(0)[1] - torch.where(truth, chance, 1 - chance).log().sum()
    torch.testing.assert_close(loss_of(model, collate([case])).double(), expected)


@pytest.mark.parametrize("chance", [0.0, 0.5, 1.0])
def test_hiding_never_hides_everything(chance: float) -> None:
    """Each case keeps at least one of the modalities it has."""
    present = np.array([[True, False, False, True], [False, True, False, False]] * 500)
    kept = hidden_at_random(present, chance, torch.Generator().manual_seed(0)) & present
    assert kept.any(axis=1).all()
    hidden = 1 - kept[::2].sum() / present[::2].sum()
    assert float(hidden) == pytest.approx({0.0: 0.0, 0.5: 0.375, 1.0: 0.5}[chance], abs=0.03)


def test_the_same_seed_gives_the_same_network(
    make_case: MakeCase, labels: Callable[..., Labels], model: DiagnosticModel
) -> None:
    """Training is repeatable, weight by weight."""
    cases = [make_case(n, labels=labels(n % 3, n % 10)) for n in range(8)]
    ends = []
    for _ in range(2):
        torch.manual_seed(0)
        made = DiagnosticModel(model.config)
        fit(made, cases, [], SHORT)
        ends.append(made.state_dict())
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=0)


def test_without_validation_every_epoch_is_run(
    make_case: MakeCase, labels: Callable[..., Labels], model: DiagnosticModel
) -> None:
    """A federation's round: no early stopping, the last weights stay."""
    cases = [make_case(n, labels=labels(n % 3, n % 10)) for n in range(8)]
    history = fit(model, cases, [], replace(SHORT, epochs=5, patience=0))
    assert len(history.train_loss) == 5
    assert history.valid_loss == []
    assert history.best_epoch == 4


def test_early_stopping_returns_to_the_best_epoch(
    make_case: MakeCase, labels: Callable[..., Labels], model: DiagnosticModel
) -> None:
    """The weights that are left score what the best epoch scored."""
    cases = [make_case(n, labels=labels(n % 3, n % 10)) for n in range(24)]
    config = replace(SHORT, epochs=30, patience=2, learning_rate=0.01)
    history = fit(model, cases[:16], cases[16:], config)
    best = fusion.train.mean_loss(model, cases[16:], config)
    assert best == pytest.approx(min(history.valid_loss), rel=1e-5)
    assert len(history.train_loss) == history.best_epoch + 1 + config.patience < 30


def test_an_interrupted_training_keeps_its_best_weights(
    make_case: MakeCase,
    labels: Callable[..., Labels],
    model: DiagnosticModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ctrl-C in the third epoch leaves the network of the second."""
    cases = [make_case(n, labels=labels(n % 3, n % 10)) for n in range(8)]
    epochs, weights, run = [], [], fusion.train._epoch

    def interrupt(*args: object) -> float:
        if len(epochs) == 2:
            weights.append({k: v.clone() for k, v in model.state_dict().items()})
            run(*args)
            raise KeyboardInterrupt
        epochs.append(run(*args))
        return epochs[-1]

    monkeypatch.setattr(fusion.train, "_epoch", interrupt)
    history = fit(model, cases, [], replace(SHORT, epochs=9))
    assert history.interrupted
    torch.testing.assert_close(model.state_dict(), weights[0], rtol=0, atol=0)


def test_cases_without_diagnoses_are_refused(model: DiagnosticModel, make_case: MakeCase) -> None:
    """There is nothing to learn from."""
    with pytest.raises(TrainError, match="known diagnosis"):
        fit(model, [make_case(1)], [], SHORT)


def test_labels_of_another_scheme_are_refused(model: DiagnosticModel, make_case: MakeCase) -> None:
    """Two causes are not ten."""
    with pytest.raises(TrainError, match="another scheme"):
        fit(model, [make_case(1, labels=Labels(0, (True, False)))], [], SHORT)


def test_the_parts_of_a_training_are_named(trained: Trained) -> None:
    """Test cases are known to whoever evaluates."""
    assert tuple(trained.parts) == PARTS
    assert len(trained.parts["test"]) == 40
    assert set(MODALITIES) == set(trained.parts["test"][0].tokens)
