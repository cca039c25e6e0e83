"""Gradient reversal: the notes stop telling the hospital, and nothing else changes."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from clinical.evidence import ClinicalTokens, SentencePointer
from fusion.adapt import Adversary, embedded, reversed_gradient, strength_at
from fusion.case import Case, Labels, collate
from fusion.model import DiagnosticModel
from fusion.network import ModelConfig
from fusion.train import TrainConfig, TrainError, fit, train

SHAPE = ModelConfig(n_syndromes=2, n_causes=1, text_dim=16, dim=24, heads=4, dropout=0.0)
QUICK = TrainConfig(epochs=30, learning_rate=3e-3, batch_size=16, modality_dropout=0.0)


def hospital(n: int, domain: int, seed: int) -> list[Case]:
    """Patients whose sentences tell the diagnosis in one direction, the hospital in another."""
    rng = np.random.default_rng([seed, domain])
    found = []
    for i in range(n):
        ill = i % 2
        features = rng.normal(0, 0.5, (5, 16)).astype(np.float32)
        features[:, 0] += 2 * ill - 1
        features[:, 1] += 2 * domain - 1
        tokens = ClinicalTokens(
            features,
            np.zeros(5, np.int64),
            np.ones(5, np.float32),
            tuple(SentencePointer("n", k, k + 1) for k in range(5)),
        )
        name = f"{seed}d{domain}n{i}"
        found.append(Case(name, name, {"notes": tokens}, Labels(ill, (bool(ill),))))
    return found


def two(n: int, seed: int) -> tuple[list[Case], dict[str, int]]:
    """Cases of two hospitals and where each is from."""
    parts = [hospital(n, domain, seed) for domain in (0, 1)]
    return [*parts[0], *parts[1]], {c.case_id: d for d, part in enumerate(parts) for c in part}


def share_of_the_hospital(model: DiagnosticModel) -> float:
    """Share of the variance of new patients' notes that is between the two hospitals."""
    cases, domains = two(60, 8)
    with torch.inference_mode():
        x = embedded(model.eval(), cases).numpy()
    of = np.array([*domains.values()])
    between = x[of == 1].mean(axis=0) - x[of == 0].mean(axis=0)
    return float((between**2).sum() / 4 / x.var(axis=0).sum())


def accuracy(model: DiagnosticModel) -> float:
    """Of the diagnosis, on new patients."""
    cases, _ = two(60, 9)
    with torch.inference_mode():
        said = model.eval()(collate(cases)).logits[:, :2].argmax(1)
    return float(np.mean(said.numpy() == [case.labels.syndrome for case in cases if case.labels]))


def fitted(strength: float) -> DiagnosticModel:
    """A network, with or without an adversary."""
    cases, domains = two(80, 0)
    torch.manual_seed(0)
    model = DiagnosticModel(SHAPE)
    adversary = Adversary(SHAPE.dim, domains, strength) if strength else None
    fit(model, cases, [], QUICK, adversary)
    return model


def test_the_gradient_is_turned_round_and_scaled() -> None:
    """Forward nothing changes."""
    x = torch.randn(3, 2, requires_grad=True)
    y = reversed_gradient(x, 0.3)
    assert torch.equal(y, x)
    (y * torch.arange(6.0).view(3, 2)).sum().backward()
    torch.testing.assert_close(x.grad, -0.3 * torch.arange(6.0).view(3, 2))


def test_the_strength_rises_from_nothing_to_what_was_asked_for() -> None:
    """As in the paper: the head learns to read before the network learns to hide."""
    course = [strength_at(done / 20, 0.7) for done in range(21)]
    assert course[0] == 0.0
    assert all(later > earlier for earlier, later in pairwise(course))
    assert course[-1] == pytest.approx(0.7, abs=1e-3)


def test_the_notes_tell_less_of_the_hospital_and_as_much_of_the_diagnosis() -> None:
    """How much less a fresh probe reads on real networks, `benchmarks/domains.py` measures."""
    plain, hiding = fitted(0.0), fitted(0.7)
    assert share_of_the_hospital(plain) > 0.1
    assert share_of_the_hospital(hiding) < share_of_the_hospital(plain) / 2
    assert accuracy(hiding) > accuracy(plain) - 0.05


def test_text_that_is_not_clinical_is_another_domain() -> None:
    """It has no diagnosis, and only the adversary reads it."""
    cases = hospital(20, 0, 0)
    others = [replace(case, labels=None) for case in hospital(500, 1, 0)]
    domains = {c.case_id: 0 for c in cases} | {c.case_id: 1 for c in others}
    adversary = Adversary(SHAPE.dim, domains, 0.7, others)
    loss = adversary.loss(DiagnosticModel(SHAPE), cases[:8], 0.5)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(np.log(2), abs=0.3)
    assert adversary._balance.tolist() == [1.0, 1.0]  # as many of each in every step


def test_cases_without_notes_are_passed_over() -> None:
    """There is nothing to hide."""
    cases, domains = two(3, 0)
    bare = [replace(c, tokens={"history": c.tokens["notes"]}) for c in cases]
    assert Adversary(SHAPE.dim, domains, 0.7).loss(DiagnosticModel(SHAPE), bare, 0.5) == 0


def test_by_default_no_domain_is_unlearnt() -> None:
    """Off, the training is what it was."""
    cases, domains = two(30, 0)
    config = replace(QUICK, epochs=2)
    assert config.domain_weight == 0.0
    first = train(cases, config, SHAPE)
    again = train(cases, config, SHAPE, domains)
    assert first.history.train_loss == again.history.train_loss
    hiding = train(cases, replace(config, domain_weight=0.7), SHAPE, domains)
    assert hiding.history.train_loss != first.history.train_loss


def test_the_best_epoch_is_one_of_full_strength() -> None:
    """An early one would be a network that never unlearnt anything."""
    cases, domains = two(40, 0)
    config = replace(QUICK, epochs=12, patience=3, domain_weight=0.7)
    assert train(cases, config, SHAPE, domains).history.best_epoch >= 4


def test_one_hospital_has_nothing_to_unlearn() -> None:
    """One clear error."""
    cases, _ = two(30, 0)
    with pytest.raises(TrainError, match="two hospitals"):
        train(cases, replace(QUICK, domain_weight=0.7), SHAPE, {c.case_id: 0 for c in cases})
