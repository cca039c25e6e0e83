"""Calibration: probabilities that mean what they say, sets that hold the truth."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit, log_softmax

from fusion.calibrate import SHARED, Calibrator, calibrate, pattern_of
from fusion.case import UNKNOWN, Case
from fusion.network import infer
from fusion.train import Trained

ALL = np.array([True, True, True, True])
SCAN = np.array([True, False, False, False])


def drawn(n: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Logits that are too large by a factor, and truth drawn from the honest probabilities."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(size=(n, 5)) * 1.5
    gumbel = rng.gumbel(size=(n, 3))
    syndrome = (honest[:, :3] + gumbel).argmax(axis=1)
    causes = (rng.random((n, 2)) < expit(honest[:, 3:])).astype(np.float64)
    return honest * sharpness, np.tile(ALL, (n, 1)), syndrome, causes


def nll(logits: np.ndarray, syndrome: np.ndarray) -> float:
    """Negative log likelihood of the true syndrome."""
    return float(-log_softmax(logits, axis=1)[np.arange(len(syndrome)), syndrome].mean())


def test_an_overconfident_network_is_cooled() -> None:
    """Logits four times too large: the temperature is found and the likelihood rises."""
    calibrator = Calibrator().fit(*drawn(2000, 4.0))
    assert calibrator.temperatures_[SHARED].syndrome == pytest.approx(4.0, rel=0.1)
    assert calibrator.temperatures_[SHARED].causes == pytest.approx([4.0, 4.0], rel=0.2)
    logits, present, syndrome, _ = drawn(2000, 4.0, seed=1)
    calm = np.log(calibrator.predict_proba(logits, present)[:, :3])
    assert nll(calm, syndrome) < nll(logits[:, :3], syndrome) - 0.2


def test_an_honest_network_is_left_alone() -> None:
    """Its temperature is one."""
    assert Calibrator().fit(*drawn(2000, 1.0)).temperatures_[SHARED].syndrome == pytest.approx(
        1.0, rel=0.1
    )


def test_calibration_never_changes_a_ranking() -> None:
    """Within a pattern, who is likelier stays likelier."""
    logits, present, *truth = drawn(300, 4.0)
    probability = Calibrator().fit(logits, present, *truth).predict_proba(logits, present)
    assert (probability[:, 3].argsort() == logits[:, 3].argsort()).all()
    assert (probability[:, :3].argmax(axis=1) == logits[:, :3].argmax(axis=1)).all()
    np.testing.assert_allclose(probability[:, :3].sum(axis=1), 1.0)


def test_each_pattern_has_its_own_temperature() -> None:
    """A network overconfident on scans alone is cooled on scans alone."""
    fused, alone = drawn(500, 1.0), drawn(500, 4.0, seed=1)
    joined = [np.concatenate(pair) for pair in zip(fused, alone, strict=True)]
    joined[1][500:] = SCAN
    found = Calibrator().fit(*joined).temperatures_
    assert found["scan"].syndrome > 2.5 * found[pattern_of(ALL)].syndrome


def test_a_pattern_with_few_cases_shares() -> None:
    """Ten cases cannot calibrate; the pattern takes the temperature of all together."""
    logits, present, *truth = drawn(300, 2.0)
    present[:10] = SCAN
    calibrator = Calibrator(min_cases=30).fit(logits, present, *truth)
    assert set(calibrator.temperatures_) == {SHARED, pattern_of(ALL)}
    assert calibrator.predict_proba(logits[:1], present[:1]).shape == (1, 5)


def test_unknown_truth_teaches_nothing() -> None:
    """Cases of unknown diagnosis change no temperature."""
    logits, present, syndrome, causes = drawn(300, 3.0)
    spoiled = np.concatenate([logits, 50 * np.ones((100, 5))])
    unknown = Calibrator().fit(
        spoiled,
        np.tile(ALL, (400, 1)),
        np.concatenate([syndrome, np.full(100, UNKNOWN)]),
        np.concatenate([causes, np.full((100, 2), float(UNKNOWN))]),
    )
    known = Calibrator().fit(logits, present, syndrome, causes)
    for name in ("syndrome", "causes", "threshold"):
        assert getattr(unknown.temperatures_[SHARED], name) == pytest.approx(
            getattr(known.temperatures_[SHARED], name)
        )


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_prediction_sets_hold_the_truth_as_often_as_stated(coverage: float) -> None:
    """On new cases of the same population."""
    calibrator = Calibrator(coverage=coverage).fit(*drawn(1000, 3.0))
    logits, present, syndrome, _ = drawn(4000, 3.0, seed=1)
    sets = calibrator.predict_set(calibrator.predict_proba(logits, present), present)
    assert sets[np.arange(4000), syndrome].mean() == pytest.approx(coverage, abs=0.03)
    assert sets.any(axis=1).all()


def test_too_few_cases_for_a_coverage_give_full_sets() -> None:
    """With five cases nothing can be excluded at 90 %."""
    logits, present, *truth = drawn(5, 1.0)
    calibrator = Calibrator().fit(logits, present, *truth)
    assert calibrator.predict_set(calibrator.predict_proba(logits, present), present).all()


def test_a_calibration_survives_its_file() -> None:
    """To JSON and back, every number the same."""
    calibrator = Calibrator(coverage=0.8).fit(*drawn(100, 2.0))
    again = Calibrator.from_json(calibrator.to_json())
    assert again.temperatures_ == calibrator.temperatures_
    assert again.coverage == 0.8


def test_an_unfitted_calibrator_says_so() -> None:
    """As scikit-learn's do."""
    with pytest.raises(ValueError, match="not fitted"):
        Calibrator().predict_proba(np.zeros((1, 5)), ALL[None])


def test_coverage_is_a_chance() -> None:
    """90 is not 0.9."""
    with pytest.raises(ValueError, match="between 0 and 1"):
        Calibrator(coverage=90.0)


def test_every_subset_of_modalities_is_calibrated(
    trained: Trained, planted: Callable[..., list[Case]]
) -> None:
    """Each case speaks for all 15; the network's likelihood on new cases does not fall."""
    calibrator = calibrate(trained.model, planted(60, seed=5))
    assert len(calibrator.temperatures_) == 1 + 15
    cases = planted(100, seed=6)
    logits, present = infer(trained.model, cases)
    truth = np.array([case.labels.causes[0] for case in cases])
    chance = calibrator.predict_proba(logits, present)[:, 3]
    brier = [np.mean((p - truth) ** 2) for p in (chance, expit(logits[:, 3]))]
    assert brier[0] < brier[1] + 0.01
