"""Gradient inversion as for any network: made-up tokens whose gradient fits the exchanged one.

It needs no idea of the network's parts, but minutes where `benchmarks.attack_values` needs a
division.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from benchmarks.attack_values import (
    LABS,
    LIMIT,
    NUMBERS,
    SYNDROMES,
    Gradient,
    Known,
    Score,
    scored,
    truth_of,
)
from federated import task
from fusion.case import Case, Modality, collate
from fusion.model import DiagnosticModel, Tensors
from imaging.encoder import POOLED

STEPS, RATE = 150, 0.05


def matched(
    network: DiagnosticModel, found: Gradient, case: Case, known: Known, seed: int
) -> Score:
    """Change made-up tokens of one patient until the gradient's direction fits.

    The attacker is told how many tokens there are of which kind and quality, and begins with
    the mean patient.
    """
    batch = collate([case])
    real = network.eval().tensors(batch)
    torch.manual_seed(seed)
    made = {
        m: (t.features.clone() if t.features.shape[-1] else t.features) for m, t in real.items()
    }
    for modality, features in made.items():
        if features.shape[-1] == 0:
            continue
        start = torch.zeros_like(features) + 0.01 * torch.randn_like(features)
        if modality == "labs":
            start[..., 1:] = features[..., 1:]  # when, and whether at all
            start[..., -1, 0] = torch.tensor(known.value[:LABS])[real["labs"].kinds].float()
        if modality == "scan":
            start[..., POOLED + 1] = torch.tensor(known.value[LABS:])[real["scan"].kinds].float()
        made[modality] = start.requires_grad_(True)  # noqa: FBT003 - PyTorch's own
    free = [features for features in made.values() if features.requires_grad]
    optimizer = torch.optim.Adam(free, RATE)
    wanted = [torch.from_numpy(part) for part in found.values()]
    with sdpa_kernel(SDPBackend.MATH):  # the others have no second derivative
        for _ in range(STEPS):
            optimizer.zero_grad()
            distance(network, made, real, case, wanted).backward()
            optimizer.step()
            with torch.no_grad():  # visits without a past before them would have no logarithm
                made["labs"][..., 1:] = real["labs"].features[..., 1:]
    return _score_of(made, real, case, known)


def distance(
    network: DiagnosticModel,
    made: Mapping[Modality, Tensor],
    real: Mapping[Modality, Tensors],
    case: Case,
    wanted: Sequence[Tensor],
) -> Tensor:
    """One minus the cosine of two gradients."""
    tokens = {m: Tensors(made[m], t.kinds, t.quality, t.present) for m, t in real.items()}
    evidence = network.encode_tensors(tokens)
    logits = network.fuse_tensors(evidence, evidence.present).logits
    truth = torch.from_numpy(truth_of([case])).float()
    loss = cross_entropy(logits[:, :SYNDROMES], truth[:, :SYNDROMES])
    loss = loss + binary_cross_entropy_with_logits(
        logits[:, SYNDROMES:], truth[:, SYNDROMES:], reduction="sum"
    )
    parameters = list(task.travelling(network).values())
    got = torch.autograd.grad(loss, parameters, create_graph=True, materialize_grads=True)
    dot = sum(((a * b).sum() for a, b in zip(got, wanted, strict=True)), torch.zeros(()))
    mine = sum((a.square().sum() for a in got), torch.zeros(()))
    other = sum((b.square().sum() for b in wanted), torch.zeros(()))
    return 1 - dot / (mine * other).sqrt().clamp(min=1e-12)


def _score_of(
    made: Mapping[Modality, Tensor], real: Mapping[Modality, Tensors], case: Case, known: Known
) -> Score:
    """What the made-up tokens have of the true ones."""
    weight, value = np.zeros((1, NUMBERS)), np.tile(known.value, (1, 1))
    starts: dict[Modality, int] = {"labs": 0, "scan": LABS}
    for modality, start in starts.items():
        if not made[modality].shape[-1]:
            continue
        features = made[modality].detach()[0]
        told = features[:, -1, 0] if modality == "labs" else features[:, POOLED + 1]
        kinds = start + real[modality].kinds[0].numpy()
        value[0, kinds] = told.numpy()
        weight[0, kinds] = real[modality].quality[0].numpy()
    return scored(weight, np.clip(value, -LIMIT, LIMIT), [case], known, float("nan"))
