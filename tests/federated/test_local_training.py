"""What a site does in its own way: held near the hub, personal parts, patients that do not show."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import ArrayRecord
from torch import nn

from federated import task
from federated.patient_privacy import (
    PatientPrivacy,
    by_patient,
    case_gradients,
    clipped_sum,
    fit_privately,
)
from federated.site.ledger import accountant, event_of
from federated.site.policy import SitePolicy
from federated.task import FederationError, Plan, SiteCases
from fusion.case import Case, collate
from fusion.train import loss_of

Hospital = Callable[..., Path]
PRIVACY = PatientPrivacy(0.0, clip_norm=0.5, sample_rate=0.5, steps=5, learning_rate=1e-2)


@pytest.fixture
def cases(hospital: Hospital, plan: Plan) -> SiteCases:
    """A hospital's cases."""
    return task.site_cases(hospital("north"), plan)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Euclidean."""
    return float(np.linalg.norm(one.astype(np.float64) - other))


# -- FedProx -------------------------------------------------------------------------------


def test_fedprox_holds_the_weights_near_the_hubs(cases: SiteCases, plan: Plan) -> None:
    """The stronger, the nearer; without strength it is ordinary training."""
    start = task.pack(task.new_network(plan))

    plain, weak, strong = (
        task.train(task.new_network(plan), cases, plan, 1, proximal=mu) for mu in (0.0, 1.0, 100.0)
    )

    assert distance(strong, start) < distance(weak, start) < distance(plain, start)
    np.testing.assert_array_equal(plain, task.train(task.new_network(plan), cases, plan, 1))


def test_the_pull_is_the_gradient_of_half_the_squared_distance() -> None:
    """And is gone when training is over."""
    network = nn.Linear(2, 1, bias=False)
    start = network.weight.detach().clone()

    with task.held({"weight": network.weight}, 3.0):
        with torch.no_grad():
            network.weight += 0.5
        network(torch.zeros(1, 2)).sum().backward()

    torch.testing.assert_close(network.weight.grad, 3.0 * (network.weight.detach() - start))
    network.zero_grad()
    network(torch.zeros(1, 2)).sum().backward()
    assert not network.weight.grad.any()


# -- what stays at home --------------------------------------------------------------------


def test_personal_parts_do_not_travel(plan: Plan) -> None:
    """They are kept at home, and hub and site agree on which they are."""
    personal = replace(plan, personal=("readout", "bias", "alone"))
    network = task.new_network(personal)

    names = set(task.travelling(network))
    assert names
    assert not [n for n in names if n.split(".")[0] in personal.personal]
    assert {"readout", "bias"} <= set(task.local_state(network))
    assert personal.fingerprint != plan.fingerprint


def test_a_part_that_does_not_exist_is_refused(plan: Plan) -> None:
    """A misspelt name would let everything travel."""
    with pytest.raises(FederationError, match="no part heads"):
        task.new_network(replace(plan, personal=("heads",)))


def test_a_hospital_fits_its_own_parts_and_no_other(cases: SiteCases, plan: Plan) -> None:
    """What it shares with the others stays as the federation left it."""
    personal = replace(plan, personal=("readout", "bias"))
    network = task.new_network(personal)
    shared, own = task.pack(network), network.readout.detach().clone()

    task.personalise(network, cases, personal)

    np.testing.assert_array_equal(task.pack(network), shared)
    assert not torch.equal(network.readout, own)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_statistics_without_an_axis_come_back_too() -> None:
    """A count of batches is a tensor of no dimension; it passes through Flower's records."""
    network, again = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    network(torch.randn(8, 3))

    kept = ArrayRecord(task.local_state(network)).to_torch_state_dict()
    task.restore(again, kept)

    assert again.num_batches_tracked.shape == ()
    assert int(again.num_batches_tracked) == 1
    torch.testing.assert_close(again.running_mean, network.running_mean)


# -- patients ------------------------------------------------------------------------------


def test_gradients_of_cases_are_those_of_the_loss(cases: SiteCases, plan: Plan) -> None:
    """One by one, as `fusion.train` would compute them."""
    network = task.new_network(plan).eval()
    parameters = task.travelling(network)
    some = list(cases.train)[:3]

    found = case_gradients(network, parameters, some)

    for n, case in enumerate(some):
        loss = loss_of(network, collate([case]))
        alone = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        for name, gradient in zip(parameters, alone, strict=True):
            wanted = torch.zeros_like(found[name][n]) if gradient is None else gradient
            torch.testing.assert_close(found[name][n], wanted, rtol=1e-4, atol=1e-5)


def norm(gradients: dict[str, torch.Tensor]) -> float:
    """Over all parameters."""
    return float(torch.stack([g.norm() for g in gradients.values()]).norm())


def test_one_patient_moves_a_step_by_the_clip_norm_at_most(cases: SiteCases, plan: Plan) -> None:
    """However many cases the patient has."""
    network = task.new_network(plan).eval()
    parameters = task.travelling(network)
    patients = by_patient(cases.train)
    often: list[Case] = [replace(patients[0][0], case_id=f"again{n}") for n in range(5)]

    without = clipped_sum(network, parameters, patients[1:], 0.5)
    once = clipped_sum(network, parameters, [patients[0], *patients[1:]], 0.5)
    five = clipped_sum(network, parameters, [often, *patients[1:]], 0.5)

    for more in (once, five):
        moved = norm({name: more[name] - without[name] for name in more})
        assert moved == pytest.approx(0.5, rel=1e-3)


def test_a_step_without_patients_is_noise(plan: Plan) -> None:
    """Sampling by chance may draw nobody."""
    network = task.new_network(plan).eval()
    parameters = task.travelling(network)

    assert norm(clipped_sum(network, parameters, [], 0.5)) == 0.0


def test_cases_of_a_patient_are_one_patient(cases: SiteCases) -> None:
    """The unit of protection is a person."""
    again = replace(cases.train[0], case_id="later")

    assert len(by_patient([*cases.train, again])) == len(by_patient(cases.train))


def test_training_learns_although_every_patient_is_clipped(cases: SiteCases, plan: Plan) -> None:
    """Without noise; with a lot of it, it does not."""
    losses = []
    for noise in (0.0, 300.0):
        private = replace(plan, privacy=replace(PRIVACY, noise_multiplier=noise, steps=20))
        network = task.new_network(private)
        generator = torch.Generator().manual_seed(0)
        task.train(network, cases, private, 1, generator=generator)
        losses.append(task.evaluate(network, cases, private))
    before = task.evaluate(task.new_network(plan), cases, plan)

    assert losses[0] < before < losses[1]


def test_the_noise_is_not_what_the_hub_could_draw_again(cases: SiteCases, plan: Plan) -> None:
    """The plan's seed is known to the hub, so it must not be that of the noise."""
    private = replace(plan, privacy=replace(PRIVACY, noise_multiplier=1.0, steps=1))

    first, second = (task.train(task.new_network(private), cases, private, 1) for _ in range(2))

    assert distance(first, second) > 1e-3


def test_only_what_travels_is_trained_privately(cases: SiteCases, plan: Plan) -> None:
    """The rest is the hospital's own."""
    personal = replace(plan, personal=("readout",))
    network = task.new_network(personal)
    before = network.readout.detach().clone()

    fit_privately(network, task.travelling(network), cases.train, PRIVACY)

    torch.testing.assert_close(network.readout.detach(), before)


def test_the_ledger_knows_the_steps_of_the_plan(plan: Plan) -> None:
    """Plan and policy name the same three numbers."""
    privacy = replace(PRIVACY, noise_multiplier=1.0)
    policy = SitePolicy(
        patient_noise_multiplier=privacy.noise_multiplier,
        patient_sample_rate=privacy.sample_rate,
        patient_steps=privacy.steps,
    )
    spent = accountant()
    spent.compose(*event_of(policy))

    assert 3.0 < spent.get_epsilon(1e-5) < 12.0
    assert replace(plan, privacy=privacy).fingerprint != plan.fingerprint
