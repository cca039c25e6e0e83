"""Explanations: the evidence that is named is the evidence that counts."""

from collections.abc import Callable

import numpy as np
import pytest

from fusion.calibrate import Calibrator
from fusion.case import Case, collate
from fusion.explain import deleted, deletion_check, explain
from fusion.model import DiagnosticModel
from fusion.network import infer
from fusion.train import Trained

MakeCase = Callable[..., Case]


def test_an_effect_is_what_deleting_the_token_does(
    model: DiagnosticModel, calibrator: Calibrator, make_case: MakeCase
) -> None:
    """Checked by building the case without its third laboratory value."""
    case = make_case(1, ("labs", "notes"))
    left = [0, 1, 3]
    batch = collate([case])
    batch.modalities["labs"].present[0, 2] = False
    present = batch.present
    with_it = calibrator.predict_proba(model(collate([case])).logits.detach().numpy(), present)
    without = calibrator.predict_proba(model(batch).logits.detach().numpy(), present)
    for label, ranked in enumerate(explain(model, calibrator, case).evidence):
        effect = {(e.modality, e.index): e.effect for e in ranked}
        assert effect["labs", 2] == pytest.approx((with_it - without)[0, label], abs=1e-5)
        assert all(("labs", n) in effect for n in left)


def test_every_token_is_ranked_with_its_source(
    model: DiagnosticModel, calibrator: Calibrator, make_case: MakeCase
) -> None:
    """Each of the thirteen rankings names all twelve tokens, the strongest first."""
    case = make_case(1, ("scan", "notes", "history"))
    explanation = explain(model, calibrator, case)
    assert len(explanation.evidence) == 13
    for ranked in explanation.evidence:
        sources = {(e.modality, e.index) for e in ranked}
        assert len(sources) == len(ranked) == 12
        assert all(e.pointer == case.tokens[e.modality].pointers[e.index] for e in ranked)
        strength = [abs(e.effect) for e in ranked]
        assert strength == sorted(strength, reverse=True)
        assert sum(e.share for e in ranked) == pytest.approx(1.0, abs=1e-5)


def test_the_explained_probability_is_the_diagnosed_one(
    model: DiagnosticModel, calibrator: Calibrator, make_case: MakeCase
) -> None:
    """Explaining is not another way of diagnosing."""
    case = make_case(1, ("scan", "labs"))
    logits, present = infer(model, [case])
    explanation = explain(model, calibrator, case)
    expected = calibrator.predict_proba(logits, present)[0]
    np.testing.assert_allclose(explanation.probability, expected, atol=1e-5)
    assert explanation.shares["notes"] == explanation.shares["history"] == 0.0
    assert sum(explanation.shares.values()) == pytest.approx(1.0, abs=1e-5)
    assert int(expected[:3].argmax()) in explanation.prediction_set


def test_the_only_evidence_can_be_deleted(
    model: DiagnosticModel, calibrator: Calibrator, make_case: MakeCase
) -> None:
    """A case of one token still has finite effects."""
    evidence = explain(model, calibrator, make_case(1, ("labs",), n=1)).evidence
    assert all(np.isfinite(ranked[0].effect) for ranked in evidence)


def test_a_deletion_removes_what_it_names_and_nothing_else() -> None:
    """Two deletions, two rows."""
    rows = deleted(np.array([True, True, False, True]), [[0], [1, 3]])
    assert rows.tolist() == [[False, True, False, True], [True, False, False, False]]


def test_the_ranking_finds_the_planted_region(
    trained: Trained, calibrator: Calibrator, planted: Callable[..., list[Case]]
) -> None:
    """The syndrome was planted in the first region; it leads the ranking of the right one."""
    cases = planted(20, seed=7)
    first = [explain(trained.model, calibrator, c).evidence[c.labels.syndrome][0] for c in cases]
    assert sum((e.modality, e.index) == ("scan", 0) for e in first) >= 18


def test_deleting_the_top_evidence_costs_more_than_deleting_any(
    trained: Trained, calibrator: Calibrator, planted: Callable[..., list[Case]]
) -> None:
    """Over cases that have the syndrome, many times more."""
    cases = [case for case in planted(20, seed=7) if case.labels.syndrome == 1]
    top, by_chance = deletion_check(trained.model, calibrator, cases, label=1, k=2)
    assert top > 3 * by_chance
    assert top > 0.1
