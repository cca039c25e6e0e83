"""Training that would come out nearly the same without any one patient: DP-SGD, patient by patient.

Each step draws patients by chance, clips the gradient of each patient (the mean over all its
cases), adds noise to their sum and takes a step. Opacus, the usual library, hooks into known layers
and cannot see the parameters that `fusion.model.DiagnosticModel` holds itself; `torch.func` needs
no hooks, and makes the gradients of all cases of a step at once.

What it promises: (epsilon, delta) by `federated.site.ledger` for adding or removing one patient,
however many cases of it a site has. How many patients a site has counts as known. Order, dropped
modalities and dropout are left out, which only regularise.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from fusion.case import MODALITIES, UNKNOWN, Case, collate
from fusion.model import DiagnosticModel, Tensors


@dataclass(frozen=True)
class PatientPrivacy:
    """How patients are protected in training; part of the plan, and named in the site's policy."""

    noise_multiplier: float  # standard deviation of the noise on the sum, in clip norms
    clip_norm: float = 1.0  # largest norm of one patient's gradient
    sample_rate: float = 0.15  # chance of a patient to be in a step
    steps: int = 20  # of a round
    learning_rate: float = 1e-3  # of Adam


def by_patient(cases: Sequence[Case]) -> list[list[Case]]:
    """The cases of each patient together, patients in order of their keys."""
    found: dict[str, list[Case]] = {}
    for case in cases:
        found.setdefault(case.patient_key, []).append(case)
    return [found[key] for key in sorted(found)]


def fit_privately(
    network: DiagnosticModel,
    parameters: Mapping[str, nn.Parameter],
    cases: Sequence[Case],
    how: PatientPrivacy,
    generator: torch.Generator | None = None,
) -> None:
    """Train some parameters of a network with DP-SGD.

    Args:
        network: Changed in place.
        parameters: Those that are trained, by name.
        cases: With labels.
        how: Noise, clipping and steps.
        generator: Of sampling and noise. None for one that nobody else knows: with a seed of the
            plan, the hub could draw the same noise and take it away.
    """
    generator = generator or torch.Generator().manual_seed(secrets.randbits(63))
    patients = by_patient(cases)
    optimizer = torch.optim.Adam(parameters.values(), how.learning_rate)
    network.eval()
    for _ in range(how.steps):
        drawn = torch.rand(len(patients), generator=generator) < how.sample_rate
        chosen = [patient for patient, is_in in zip(patients, drawn, strict=True) if is_in]
        total = clipped_sum(network, parameters, chosen, how.clip_norm)
        expected = how.sample_rate * len(patients)
        for name, parameter in parameters.items():
            summed = total[name]
            noise = torch.randn(summed.shape, generator=generator).to(summed.device)
            parameter.grad = (summed + noise * how.noise_multiplier * how.clip_norm) / expected
        optimizer.step()
    optimizer.zero_grad()


def clipped_sum(
    network: DiagnosticModel,
    parameters: Mapping[str, nn.Parameter],
    patients: Sequence[Sequence[Case]],
    clip_norm: float,
) -> dict[str, Tensor]:
    """The sum of the patients' gradients, none of them longer than `clip_norm`.

    Args:
        network: Whose loss it is, in evaluation mode.
        parameters: To which the gradients belong, by name.
        patients: The cases of each.
        clip_norm: Largest norm of one patient's gradient.
    """
    if not patients:
        return {name: torch.zeros_like(parameter) for name, parameter in parameters.items()}
    found = case_gradients(network, parameters, [case for cases in patients for case in cases])
    whose = torch.arange(len(patients)).repeat_interleave(torch.tensor([len(c) for c in patients]))
    share = torch.nn.functional.one_hot(whose, len(patients)).T.float()
    share = (share / share.sum(dim=1, keepdim=True)).to(network.bias.device)
    by_patient = {name: share @ gradient.flatten(1) for name, gradient in found.items()}
    norms = torch.stack([g.norm(dim=1) for g in by_patient.values()]).norm(dim=0)
    factor = (clip_norm / norms.clamp(min=1e-12)).clamp(max=1.0)
    return {n: (factor @ g).view_as(parameters[n]) for n, g in by_patient.items()}


def case_gradients(
    network: DiagnosticModel, parameters: Mapping[str, nn.Parameter], cases: Sequence[Case]
) -> dict[str, Tensor]:
    """The gradient of the loss of each case by itself, cases along the first axis."""
    batch = collate(cases)
    tensors = network.tensors(batch)
    parts = tuple(tuple(vars(tensors[m]).values()) for m in MODALITIES)
    labels = (torch.from_numpy(batch.syndrome), torch.from_numpy(batch.causes))
    shown = _FromTensors(network)

    def loss(values: Mapping[str, Tensor], one: Any, syndrome: Tensor, causes: Tensor) -> Tensor:
        named = {f"network.{name}": value for name, value in values.items()}
        logits = functional_call(shown, named, (one,))
        return loss_of_logits(logits, syndrome[None], causes[None], network.config.n_syndromes)

    values = {name: parameter.detach() for name, parameter in parameters.items()}
    with sdpa_kernel(SDPBackend.MATH):  # the others cannot be vectorised on a CPU
        made = vmap(grad(loss), in_dims=(None, 0, 0, 0))(
            values, parts, *(label.to(network.bias.device) for label in labels)
        )
    return dict(made)


class _FromTensors(nn.Module):
    """The network as a function of the tensors of one case."""

    def __init__(self, network: DiagnosticModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, parts: Any) -> Tensor:
        """Logits."""
        one = {
            m: Tensors(*(tensor[None] for tensor in tensors))
            for m, tensors in zip(MODALITIES, parts, strict=True)
        }
        evidence = self.network.encode_tensors(one)
        return self.network.fuse_tensors(evidence, evidence.present).logits


def loss_of_logits(logits: Tensor, syndrome: Tensor, causes: Tensor, n_syndromes: int) -> Tensor:
    """`fusion.train.loss_of`, from the logits of one case, without a branch on its values."""
    known = causes != UNKNOWN
    first = cross_entropy(logits[:, :n_syndromes], syndrome, ignore_index=UNKNOWN, reduction="sum")
    second = binary_cross_entropy_with_logits(
        logits[:, n_syndromes:],
        torch.where(known, causes, 0.0),
        weight=known.float(),
        reduction="sum",
    )
    return first + second / (known.sum().clamp(min=1) / max(1, known.shape[1]))
