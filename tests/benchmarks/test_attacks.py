"""The attacks find what is there, and nothing where there is nothing."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.attack_members import (
    Attacked,
    Outcome,
    attacked,
    attacks,
    by_likelihood,
    by_loss,
    losses,
    protected,
)
from benchmarks.attack_tables import EIGHT, NONE, ONE, ROUND, SUM, Found, brief, conclusions
from benchmarks.attack_values import (
    Known,
    Score,
    gradient,
    known_from,
    numbers_of,
    packed,
    score,
    spanned,
    unpacked,
)
from benchmarks.attacks import PROTECTIONS, epsilon_of, policy_of
from clinical.evidence import AnalytePointer, ClinicalTokens, SentencePointer
from federated.site.policy import SitePolicy
from fusion.case import Case, Labels
from fusion.model import DiagnosticModel
from fusion.network import ModelConfig
from imaging.encoder import FEATURES, RegionPointer, RegionTokens

TEXT = 64
CLIP = SitePolicy(clip_norm=1.0)


def patient(seed: int) -> Case:
    """A patient with twelve analytes, thirty regions and five sentences."""
    rng = np.random.default_rng(seed)
    kinds = np.sort(rng.permutation(40)[:12])
    labs = np.zeros((12, 6, 3), np.float32)
    labs[:, -1, 0], labs[:, -1, 2] = rng.normal(size=12), 1.0
    scan = rng.normal(size=(30, FEATURES)).astype(np.float32)
    notes = rng.normal(size=(5, TEXT)).astype(np.float32)
    tokens = {
        "labs": ClinicalTokens(
            labs, kinds, rng.uniform(0.5, 1.0, 12).astype(np.float32),
            (AnalytePointer("1-0", ("o",), ("",)),) * 12,
        ),
        "scan": RegionTokens(
            scan, np.arange(30), np.full(30, 0.8, np.float32), (RegionPointer("r", 1.0, None),) * 30
        ),
        "notes": ClinicalTokens(
            notes, np.zeros(5, np.int64), np.ones(5, np.float32), (SentencePointer("n", 0, 1),) * 5
        ),
    }  # fmt: skip
    causes = tuple(bool(rng.random() < 0.3) for _ in range(10))
    return Case(f"case{seed}", f"patient{seed}", tokens, Labels(int(rng.integers(3)), causes))


@pytest.fixture(scope="module")
def network() -> DiagnosticModel:
    """As it is before the first round."""
    torch.manual_seed(0)
    return DiagnosticModel(ModelConfig(text_dim=TEXT, dim=48, heads=4)).eval()


@pytest.fixture(scope="module")
def known() -> Known:
    """Other patients."""
    return known_from([patient(seed) for seed in range(100, 160)], seed=0)


Attack = Callable[..., Score]


@pytest.fixture
def attack(network: DiagnosticModel, known: Known) -> Attack:
    """Attack one step of some patients behind a guard of some policy."""

    def attack(n: int, policy: SitePolicy) -> Score:
        cases = [patient(seed) for seed in range(n)]
        step = gradient(network, cases)
        before = np.zeros(packed(step).size, np.float32)
        rng = np.random.default_rng(0)
        sent = protected(before, (before - packed(step)).astype(np.float32), policy, rng)
        length = min(1.0, policy.clip_norm / float(np.linalg.norm(packed(step))))
        noise = policy.noise_multiplier * policy.clip_norm
        return score(unpacked(before - sent, step), cases, known, noise=noise, length=length)

    return attack


# -- values --------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [SitePolicy(clip_norm=1e6), CLIP])
def test_of_one_patient_everything_is_read_off(attack: Attack, policy: SitePolicy) -> None:
    """Clipping makes the gradient shorter, and hides nothing."""
    found = attack(1, policy)

    assert found.labs < 1e-3
    assert found.regions < 1e-3
    assert found.measured == 1.0
    assert found.sentences == 1.0


def test_of_four_patients_most_is_taken_apart(attack: Attack) -> None:
    """The more there are, the less; but a sum is no protection by itself."""
    four, thirty = attack(4, SitePolicy(clip_norm=1e6)), attack(30, SitePolicy(clip_norm=1e6))

    assert four.labs < 0.3
    assert four.labs_r > 0.95
    assert four.labs < thirty.labs < 1.05


def test_enough_noise_leaves_the_guess(attack: Attack) -> None:
    """Neither values nor analytes nor sentences are told any more."""
    found = attack(1, replace(CLIP, noise_multiplier=1.0, epsilon=1e9))

    assert found.labs == pytest.approx(1.0, abs=0.1)
    assert found.regions == pytest.approx(1.0, abs=0.1)
    assert found.measured == pytest.approx(found.guessed, abs=0.1)
    assert found.sentences <= 0.4


def test_a_sentence_is_known_by_the_span_of_the_gradient(network: DiagnosticModel) -> None:
    """Those of the patient lie in it, those of others do not."""
    step = gradient(network, [patient(0)])
    mine, foreign = (patient(seed).tokens["notes"].features for seed in (0, 1))

    assert spanned(step, mine, 0.0, 1000).min() > 0.999
    assert spanned(step, foreign, 0.0, 1000).max() < 0.8


def test_a_gradient_unpacks_as_it_was_packed(network: DiagnosticModel) -> None:
    """Names, shapes and values."""
    step = gradient(network, [patient(0)])
    again = unpacked(packed(step), step)

    assert {n: part.shape for n, part in again.items()} == {n: p.shape for n, p in step.items()}
    np.testing.assert_array_equal(again["alone.labs.weight"], step["alone.labs.weight"])


def test_numbers_are_those_of_the_tokens() -> None:
    """The truth that attacks are held against."""
    weight, value = numbers_of([patient(3)])
    labs = patient(3).tokens["labs"]

    np.testing.assert_allclose(value[0, labs.kinds], labs.features[:, -1, 0])
    np.testing.assert_allclose(weight[0, labs.kinds], labs.quality)
    assert (weight > 0).sum() == 12 + 30


# -- members -------------------------------------------------------------------------------


def federations(effect: float, n: int = 6, cases: int = 400) -> list[Outcome]:
    """Federations in which a case's loss is its own, and lower by `effect` for members."""
    rng = np.random.default_rng(0)
    hard = rng.gamma(2.0, size=cases)
    found = []
    for _ in range(n):
        member = rng.permutation(cases) < cases // 2
        loss = hard * np.exp(rng.normal(0, 0.1, cases) - effect * member)
        found.append(Outcome(member, loss, loss, 0.8))
    return found


def test_the_likelihood_ratio_sees_what_the_loss_alone_hides() -> None:
    """How hard a case is differs more than what training on it changes."""
    found = attacks(federations(effect=0.3), "update")

    assert np.mean([a.auroc for a in found["loss"]]) < 0.7
    assert np.mean([a.auroc for a in found["likelihood"]]) > 0.95
    assert np.mean([a.found for a in found["likelihood"]]) > 0.5


def test_where_training_leaves_no_trace_nobody_is_found() -> None:
    """Guessing, whatever the attack."""
    found = attacks(federations(effect=0.0), "average")

    for attempts in found.values():
        assert np.mean([a.auroc for a in attempts]) == pytest.approx(0.5, abs=0.03)


def test_a_case_that_no_shadow_saw_can_be_judged() -> None:
    """By the usual difference."""
    member = np.array([True, True, False, False])
    loss = np.array([0.5, 0.5, 1.0, 1.0])
    seen = np.array([[False, True, False, True], [False, True, True, False]])
    shadows = np.where(seen, 0.5, 1.0)

    assert by_likelihood(member, loss, seen, shadows) == Attacked(1.0, 1.0)
    assert by_loss(member, loss) == attacked(member, -loss) == Attacked(1.0, 1.0)


def test_a_loss_is_that_of_the_training() -> None:
    """Cross entropy of the syndrome and of each cause, finite whatever the logits."""
    cases = [patient(0)]
    even = losses(np.zeros((1, 13), np.float32), cases)

    assert even[0] == pytest.approx(np.log(3) + 10 * np.log(2), rel=1e-5)
    assert np.isfinite(losses(np.full((1, 13), np.nan, np.float32), cases)).all()


# -- the report ----------------------------------------------------------------------------


def found(labs: float, effect: float) -> Found:
    """What would be computed, were every error `labs`."""
    one = Score(labs, 0.5, labs, 0.5, 1.0, 0.9, 0.5).__dict__
    scores = {f"{name} | {p}": [one, one] for name in (ONE, EIGHT, ROUND) for p in PROTECTIONS}
    outcomes = {p: federations(effect) for p in PROTECTIONS if p != SUM}
    return Found(PROTECTIONS, scores, outcomes, epsilon_of, 2)


def test_the_words_follow_from_the_numbers() -> None:
    """An attack that fails is said to fail."""
    strong, weak = conclusions(found(0.1, 0.3)), conclusions(found(1.0, 0.0))

    assert "single step works" in strong
    assert "shows in a site's update" in strong
    assert "single step fails" in weak
    assert "does not show" in weak
    assert NONE in weak.split("useful network")[1]
    assert brief(found(0.1, 0.3)).count("\n") == len(PROTECTIONS) + 1


def test_epsilon_is_the_accountants_and_only_where_there_is_noise() -> None:
    """More noise, less epsilon; more replies, more."""
    noisy = [p for p in PROTECTIONS if policy_of(p).noise_multiplier]
    spent = [epsilon_of(p, 1) for p in noisy]

    assert len(noisy) >= 2
    assert spent == sorted(spent, reverse=True)
    assert all(epsilon_of(p, 2) > s for p, s in zip(noisy, spent, strict=True))
    assert epsilon_of(NONE, 1) is epsilon_of("clipped to 1", 1) is None
