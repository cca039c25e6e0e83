"""Scores: what they are and when none is given."""

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from clinical.diagnoses import load_scheme
from fusion.calibrate import Calibrator
from fusion.case import UNKNOWN, Case
from fusion.evaluate import (
    _auroc,
    calibration_error,
    compare,
    comparison_markdown,
    evaluate,
    markdown,
    score_label,
)
from fusion.model import DiagnosticModel
from fusion.train import Trained


def test_the_interval_holds_the_truth_about_as_often_as_it_says() -> None:
    """Normal scores one deviation apart have an AUROC of 0.760; 95 % intervals should hold it."""
    rng = np.random.default_rng(0)
    held = []
    for _ in range(100):
        truth = (rng.random(80) < 0.5).astype(float)
        score = score_label("AD", truth, rng.normal(size=80) + truth, rng, resamples=200)
        assert score.low < score.auroc < score.high
        held.append(score.low <= 0.7602 <= score.high)
    assert 0.86 <= np.mean(held) <= 1.0


def test_the_fast_auroc_is_scikit_learns() -> None:
    """With ties, too."""
    rng = np.random.default_rng(0)
    truth, probability = rng.random(200) < 0.3, rng.integers(10, size=200) / 10
    assert _auroc(truth, probability) == pytest.approx(roc_auc_score(truth, probability))


@pytest.mark.parametrize("positives", [0, 4, 96, 100])
def test_too_few_patients_give_no_auroc(positives: int) -> None:
    """Four with the disease, or four without, prove nothing; the Brier score is still given."""
    truth = np.array([1.0] * positives + [0.0] * (100 - positives))
    score = score_label("PRD", truth, np.full(100, 0.5), np.random.default_rng(0))
    assert score.auroc is score.low is score.high is None
    assert score.brier == pytest.approx(0.25)
    assert score.positives == positives


def test_unknown_truth_is_not_scored() -> None:
    """A cause nobody looked for is neither found nor missed."""
    truth = np.array([1.0, 0.0, UNKNOWN] * 10)
    probability = np.array([1.0, 0.0, 0.5] * 10)
    score = score_label("AD", truth, probability, np.random.default_rng(0), resamples=20)
    assert (score.n, score.positives, score.brier, score.auroc) == (20, 10, 0.0, 1.0)


def test_an_honest_forecaster_has_no_calibration_error() -> None:
    """70 % of those told 70 % have it."""
    truth = np.array([True] * 7 + [False] * 3)
    assert calibration_error(truth, np.full(10, 0.7)) == pytest.approx(0.0)
    assert calibration_error(truth, np.full(10, 0.95)) == pytest.approx(0.25)


def test_a_modality_alone_is_compared_on_the_same_cases(
    trained: Trained, calibrator: Calibrator, planted: Callable[..., list[Case]]
) -> None:
    """Half have no scan: "scan only" and its fused counterpart are scored on the other half."""
    cases = planted(60, seed=8)
    cases = [*cases[:30], *(case.only("notes", "labs", "history") for case in cases[30:])]
    scan, notes, labs, _ = compare(trained.model, calibrator, cases, load_scheme(), resamples=20)
    assert (scan.alone.name, scan.alone.n, scan.fused.n) == ("scan only", 30, 30)
    assert (notes.alone.n, labs.fused.n) == (60, 60)
    assert scan.alone.labels[1].auroc > 0.95
    assert notes.fused.labels[3].auroc > notes.alone.labels[3].auroc + 0.2
    table = comparison_markdown((scan, notes, labs))
    assert table.count("\n") == 4
    assert "| scan only | 30 |" in table


def test_the_table_names_every_diagnosis(
    trained: Trained, calibrator: Calibrator, planted: Callable[..., list[Case]]
) -> None:
    """A row each; those nobody has are said to be too few."""
    scheme = load_scheme()
    found = evaluate(trained.model, calibrator, planted(60, seed=8), scheme, resamples=20)
    table = markdown(found)
    assert all(f"| {label.key} | 60 |" in table for label in scheme.labels)
    assert table.count("too few") == 10
    assert 0.0 <= found.coverage <= 1.0 <= found.set_size


def test_evaluating_nothing_is_an_error(
    model: DiagnosticModel, calibrator: Calibrator, planted: Callable[..., list[Case]]
) -> None:
    """No case has the modality asked for."""
    cases = [case.only("labs") for case in planted(3)]
    with pytest.raises(ValueError, match="scan"):
        evaluate(model, calibrator, cases, load_scheme(), only=("scan",))
