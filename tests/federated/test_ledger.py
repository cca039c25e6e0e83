"""The site's account: against two other accountants, over restarts, and at its end."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.serverapp import GaussianPrivacyEvent
from opacus.accountants import RDPAccountant

from federated.site.ledger import (
    LAST,
    LEDGER,
    PARTS,
    BudgetError,
    Ledger,
    accountant,
    describe,
)
from federated.site.policy import STATE, PolicyError, SitePolicy, write_policy

NOISY = SitePolicy(cases=100, noise_multiplier=4.0, epsilon=8.0, delta=1e-5)
WEIGHTS = np.arange(4, dtype=np.float32)


@pytest.mark.parametrize("noise", [0.5, 1.0, 2.0, 8.0])
@pytest.mark.parametrize("rounds", [1, 10, 300])
@pytest.mark.parametrize("rate", [0.01, 0.1, 1.0])
def test_flowers_account_agrees_with_that_of_opacus(noise: float, rounds: int, rate: float) -> None:
    """Two implementations by other people, over noise, rounds and sampling.

    Flower's leaves out small orders of which its series does not converge, and so may tell a
    larger epsilon, never a smaller one; on the orders that it used, the two agree.
    """
    ours, theirs = accountant(), RDPAccountant()
    ours.compose(GaussianPrivacyEvent(noise, int(rate * PARTS), PARTS), rounds)
    theirs.history.append((noise, rate, rounds))
    spent = ours.get_privacy_spent(1e-5)
    orders = [order for order in ours.state_dict()["orders"] if order >= spent.optimal_order]

    assert spent.epsilon == pytest.approx(theirs.get_epsilon(1e-5, alphas=orders), rel=0.01)
    assert spent.epsilon > 0.99 * theirs.get_epsilon(1e-5, alphas=ours.state_dict()["orders"])


@pytest.mark.parametrize("rounds", [1, 7])
def test_the_account_without_sampling_agrees_with_the_closed_form(rounds: int) -> None:
    """Rényi divergence of two Gaussians is order / (2 sigma^2); then the known conversion."""
    ours, noise, delta = accountant(), 3.0, 1e-6
    ours.compose(GaussianPrivacyEvent(noise, PARTS, PARTS), rounds)

    by_hand = min(
        rounds * a / (2 * noise**2) + math.log1p(-1 / a) - math.log(delta * a) / (a - 1)
        for a in np.linspace(1.01, 64, 10_000)
    )

    assert ours.get_epsilon(delta) == pytest.approx(by_hand, rel=0.01)


def test_a_site_is_charged_for_any_exchange_of_its_patients(tmp_path: Path) -> None:
    """Two clipped updates can be two clip norms apart, so the noise counts half."""
    ledger = Ledger(tmp_path)
    ledger.record("train", "first", NOISY, WEIGHTS)
    expected = accountant()
    expected.compose(GaussianPrivacyEvent(NOISY.noise_multiplier / 2, PARTS, PARTS))

    assert ledger.read().epsilon == pytest.approx(expected.get_epsilon(1e-5))


def test_the_account_survives_a_restart(tmp_path: Path) -> None:
    """Two rounds, another process, one more: as three at once."""
    for message in ("first", "second"):
        Ledger(tmp_path).record("train", message, NOISY, WEIGHTS)
    again = Ledger(tmp_path)
    again.record("train", "third", NOISY, WEIGHTS)
    expected = accountant()
    expected.compose(GaussianPrivacyEvent(2.0, PARTS, PARTS), 3)

    assert again.read().trained == 3
    assert again.read().epsilon == pytest.approx(expected.get_epsilon(1e-5))


def test_the_site_stops_at_its_budget(tmp_path: Path) -> None:
    """And what it has given never exceeds it."""
    ledger, policy = Ledger(tmp_path), replace(NOISY, epsilon=4.1)
    for given in range(3):
        ledger.record("train", f"message {given}", policy, WEIGHTS)

    with pytest.raises(BudgetError, match=r"spent epsilon 4.01 of 4.10 .* would overdraw"):
        ledger.record("train", "one more", policy, WEIGHTS)

    assert ledger.read().trained == 3


def test_a_budget_can_be_raised_by_the_site_alone(tmp_path: Path) -> None:
    """The policy is read anew each time; the account goes on."""
    ledger, small = Ledger(tmp_path), replace(NOISY, epsilon=0.5)
    with pytest.raises(BudgetError):
        ledger.check("train", small)

    ledger.check("train", NOISY)


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_rounds_end_even_without_noise(tmp_path: Path, kind: str) -> None:
    """Each reply tells something, also a loss."""
    ledger, policy = Ledger(tmp_path), SitePolicy(cases=100, rounds=2)
    for n in range(2):
        ledger.record(kind, f"{kind} {n}", policy, None)

    with pytest.raises(BudgetError, match="has answered 2 requests"):
        ledger.check(kind, policy)


def test_a_budget_cannot_be_kept_after_a_reply_without_noise(tmp_path: Path) -> None:
    """What left bare stays bare."""
    ledger = Ledger(tmp_path)
    ledger.record("train", "bare", replace(NOISY, noise_multiplier=0.0), WEIGHTS)

    with pytest.raises(BudgetError, match="1 replies left this site without noise"):
        ledger.check("train", NOISY)


def test_patient_level_training_is_charged_by_the_step(tmp_path: Path) -> None:
    """Each step of DP-SGD is a sampled Gaussian of its own."""
    ledger = Ledger(tmp_path)
    policy = SitePolicy(
        cases=100, patient_noise_multiplier=1.1, patient_sample_rate=0.1, patient_steps=50
    )
    ledger.record("train", "first", policy, WEIGHTS)
    theirs = RDPAccountant()
    theirs.history.append((1.1, 0.1, 50))

    assert ledger.read().epsilon == pytest.approx(theirs.get_epsilon(1e-5), rel=0.01)


def test_a_message_that_comes_again_gets_the_same_numbers(tmp_path: Path) -> None:
    """The last one; earlier ones are refused, and neither is charged."""
    ledger = Ledger(tmp_path)
    ledger.record("train", "first", NOISY, WEIGHTS)
    ledger.record("train", "second", NOISY, 2 * WEIGHTS)

    assert ledger.released("new") is None
    np.testing.assert_array_equal(ledger.released("second"), 2 * WEIGHTS)
    with pytest.raises(PolicyError, match="answers once"):
        ledger.released("first")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 2}', '{"version": 1, "x": 1}'])
def test_a_damaged_account_stops_the_site(tmp_path: Path, text: str) -> None:
    """An unknown past is not an empty one."""
    ledger = Ledger(tmp_path)
    (tmp_path / STATE / LEDGER).write_text(text)

    with pytest.raises(PolicyError, match="damaged"):
        ledger.check("train", NOISY)


def test_what_cannot_be_written_down_does_not_count_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: the error reaches the guard, and the account is whole."""
    ledger = Ledger(tmp_path)
    ledger.record("train", "first", NOISY, WEIGHTS)
    before = (tmp_path / STATE / LEDGER).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        ledger.record("train", "second", NOISY, WEIGHTS)

    assert (tmp_path / STATE / LEDGER).read_bytes() == before


def test_the_account_names_nothing_but_numbers_and_ids(tmp_path: Path) -> None:
    """It may be read by whoever administers the machine."""
    ledger = Ledger(tmp_path)
    ledger.record("train", "f" * 64, NOISY, WEIGHTS)

    found = json.loads((tmp_path / STATE / LEDGER).read_text())
    assert set(found) == {
        "version", "accountant", "trained", "evaluated", "scored", "unprotected", "ids", "epsilon",
        "delta",
    }  # fmt: skip
    assert sorted(path.name for path in (tmp_path / STATE).iterdir()) == sorted([LAST, LEDGER])


def test_doctor_hears_what_has_left(tmp_path: Path) -> None:
    """Nothing where no federation is; then counts, and the budget."""
    assert describe(tmp_path) == []
    write_policy(tmp_path, NOISY)
    Ledger(tmp_path).record("train", "first", NOISY, WEIGHTS)

    told = describe(tmp_path)

    assert told[0] == "1 trainings and 0 evaluations of 100 have left"
    assert told[-1].startswith("spent epsilon 2.")


def test_doctor_says_when_there_is_no_guarantee(tmp_path: Path) -> None:
    """And when the site is too small to take part."""
    write_policy(tmp_path, SitePolicy(cases=3))

    assert "no privacy guarantee" in describe(tmp_path)[-2]
    assert "under 10" in describe(tmp_path)[-1]
