"""What travels, what stays, and that a round is plain training."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from federated import task
from federated.task import FederationError, Plan
from fusion.case import Case
from fusion.train import fit

Hospital = Callable[..., Path]


def with_statistics() -> nn.Sequential:
    """A network with one layer that keeps statistics, one that does not, and one frozen."""
    network = nn.Sequential(
        nn.Linear(4, 4), nn.BatchNorm1d(4), nn.LayerNorm(4), nn.Linear(4, 2), nn.Linear(2, 2)
    )
    network[4].requires_grad_(requires_grad=False)
    return network


def ids(cases: object) -> list[str]:
    """Case ids, in order."""
    assert isinstance(cases, list)
    return [case.case_id for case in cases if isinstance(case, Case)]


def test_task_runs_without_flower() -> None:
    """Everything that is not federation must be usable, and testable, without its framework."""
    source = Path(task.__file__).read_text()

    assert "flwr" not in source


def test_statistics_of_a_hospital_stay_there() -> None:
    """Batch statistics describe patients and scanners of one hospital; so do their scales."""
    names = set(task.travelling(with_statistics()))

    assert names == {"0.weight", "0.bias", "2.weight", "2.bias", "3.weight", "3.bias"}


def test_the_whole_diagnostic_network_travels_and_the_text_encoder_does_not(plan: Plan) -> None:
    """The network has no frozen part and no statistics; the text encoder is not in it."""
    network = task.new_network(plan)

    assert set(task.travelling(network)) == set(network.state_dict())
    assert task.pack(network).nbytes == 4 * sum(p.numel() for p in network.parameters())


def test_unpacking_what_was_packed_gives_the_same_network() -> None:
    """One flat array must carry every parameter to its own place."""
    sent, received = with_statistics(), with_statistics()

    task.unpack(task.pack(sent), received, sender="the hub")

    for name, parameter in task.travelling(received).items():
        torch.testing.assert_close(parameter, task.travelling(sent)[name], rtol=0, atol=0)


def test_unpacking_leaves_alone_what_does_not_travel() -> None:
    """The hub's weights must not disturb local statistics or a frozen encoder."""
    network = with_statistics()
    network(torch.randn(16, 4))
    before = task.local_state(network)

    task.unpack(task.pack(with_statistics()), network, sender="the hub")

    assert {"1.running_mean", "1.weight", "4.weight"} <= set(before)
    for name, value in task.local_state(network).items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_a_hospital_gets_its_own_statistics_back() -> None:
    """They are kept between rounds, not relearned from nothing."""
    network, next_round = with_statistics(), with_statistics()
    network(torch.randn(16, 4) + 3.0)

    task.restore(next_round, task.local_state(network))

    torch.testing.assert_close(next_round[1].running_mean, network[1].running_mean)


def test_packed_weights_are_a_copy() -> None:
    """Training on must not change what was sent."""
    network = with_statistics()
    packed = task.pack(network)
    before = packed.copy()

    with torch.no_grad():
        network[0].weight.add_(1.0)

    np.testing.assert_array_equal(packed, before)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda p: p[:-1],
        lambda p: p[None],
        lambda p: p.astype(np.float64),
        lambda p: np.where(np.arange(p.size) == 3, np.nan, p),
        lambda p: np.where(np.arange(p.size) == 3, np.float32(np.inf), p),
    ],
    ids=["too short", "another shape", "another type", "not a number", "infinite"],
)
def test_weights_that_do_not_fit_change_nothing(
    spoil: Callable[[np.ndarray], np.ndarray],
) -> None:
    """A wrong array is refused whole: half a network is worse than an old one."""
    network = with_statistics()
    before = task.pack(network)

    with pytest.raises(FederationError, match="the hub sent"):
        task.unpack(spoil(before + 1.0), network, sender="the hub")

    np.testing.assert_array_equal(task.pack(network), before)


def test_networks_of_equal_size_are_told_apart(plan: Plan) -> None:
    """Other heads, labels, encoder or training: the same number of weights, another meaning."""
    others = [
        replace(plan, model=replace(plan.model, heads=4)),
        replace(plan, text_encoder="f" * 64),
        replace(plan, train=replace(plan.train, epochs=3)),
        replace(plan, scheme=replace(plan.scheme, causes=plan.scheme.causes[::-1])),
    ]

    prints = {other.fingerprint for other in (plan, *others)}

    assert task.new_network(others[0]).bias.shape == task.new_network(plan).bias.shape
    assert len(prints) == 5


def test_where_a_site_computes_is_its_own_affair(plan: Plan) -> None:
    """A hospital with a GPU and one without follow the same plan."""
    on_gpu = replace(plan, train=replace(plan.train, device="cuda"))

    assert on_gpu.fingerprint == plan.fingerprint


def test_all_sites_begin_with_the_same_network(plan: Plan) -> None:
    """And making it leaves the caller's random numbers alone."""
    state = torch.get_rng_state()

    first, second = task.pack(task.new_network(plan)), task.pack(task.new_network(plan))

    np.testing.assert_array_equal(first, second)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_hospitals_split_never_changes(hospital: Hospital, plan: Plan) -> None:
    """Pooled, alone and federated must be tested on the same patients, unseen in training."""
    folder = hospital("north")
    first = task.site_cases(folder, plan)
    task.site_cases.cache_clear()
    again = task.site_cases(folder, replace(plan, model=replace(plan.model, dim=32)))

    for part in ("train", "valid", "calibration", "test"):
        assert ids(getattr(first, part)) == ids(getattr(again, part))
    assert not set(ids(first.train)) & set(ids(first.test))


def test_a_small_hospital_trains_on_all_it_has(hospital: Hospital, plan: Plan) -> None:
    """Twelve patients are too few to spare any, and not too few to take part."""
    cases = task.site_cases(hospital("small", n_cases=12), plan)

    assert len(cases.train) == 12
    assert [*cases.valid, *cases.calibration, *cases.test] == []
    with pytest.raises(FederationError, match="none to evaluate on"):
        task.evaluate(task.new_network(plan), cases, plan)


def test_notes_read_by_another_encoder_are_refused(hospital: Hospital, plan: Plan) -> None:
    """Sentences of two encoders have the same shape and nothing else in common."""
    with pytest.raises(FederationError, match="another text encoder"):
        task.site_cases(hospital("other", encoder="f" * 64), plan)


def test_a_site_without_evidence_is_refused(hospital: Hospital) -> None:
    """Nothing to learn from, said before anything starts."""
    with pytest.raises(FederationError, match="0 text encoders"):
        task.plan_for(hospital("empty", n_cases=0))


def test_the_standard_plan_fits_the_sites_text_encoder(hospital: Hospital) -> None:
    """Another encoder has sentences of another width."""
    plan = task.plan_for(hospital("north"), seed=3)

    assert (plan.text_encoder[0], plan.model.text_dim, plan.train.seed) == ("e", 8, 3)


def test_a_first_round_is_plain_training(hospital: Hospital, plan: Plan) -> None:
    """With the same seed, a site's round and training without a federation are one and the same."""
    cases = task.site_cases(hospital("north"), plan)
    plain = task.new_network(plan)
    fit(plain, cases.train, (), plan.train)
    sited = task.new_network(plan)

    packed = task.train(sited, cases, plan, current_round=1)

    np.testing.assert_allclose(packed, task.pack(plain), rtol=0, atol=1e-6)
    assert np.abs(packed - task.pack(task.new_network(plan))).max() > 1e-3


def test_each_round_draws_its_own_order(hospital: Hospital, plan: Plan) -> None:
    """Otherwise every round would hide the same modalities of the same cases."""
    cases = task.site_cases(hospital("north"), plan)
    first = task.train(task.new_network(plan), cases, plan, current_round=1)

    second = task.train(task.new_network(plan), cases, plan, current_round=2)

    assert np.abs(first - second).max() > 1e-4


def test_training_that_diverges_is_not_sent(hospital: Hospital, plan: Plan) -> None:
    """A site stops its own nonsense before the hub has to."""
    network = task.new_network(plan)
    with torch.no_grad():
        network.bias.fill_(torch.nan)

    with pytest.raises(FederationError, match="not finite"):
        task.train(network, task.site_cases(hospital("north"), plan), plan, current_round=1)


def test_a_round_is_kept_and_read_back(tmp_path: Path, plan: Plan) -> None:
    """What the hub saved is what it averaged."""
    network = task.new_network(plan)
    with torch.no_grad():
        network.bias.fill_(0.5)

    task.save_round(network, tmp_path, 2)

    np.testing.assert_array_equal(task.pack(task.load_round(plan, tmp_path, 2)), task.pack(network))
    assert [path.name for path in tmp_path.iterdir()] == ["round-2.safetensors"]
