"""Notes that do not tell where they were written: gradient reversal between domains.

A domain is a hospital's way of writing, or text that is not clinical at all. A head reads the
domain from the mean of a case's sentences as the attention sees them; its gradient reaches the
network with its sign turned round, so that the layer over the sentences unlearns what gives the
domain away while it learns the diagnosis (Ganin and Lempitsky, ICML 2015).

Whoever trains must have the notes of all domains at once: this is nothing for a federation.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from fusion.case import MODALITIES, Case, collate
from fusion.model import DiagnosticModel

STEEPNESS = 10.0  # of the rise of the strength, as in the paper
NEARLY = 0.95  # of the highest strength; from there on the weights are those that were asked for
HIDDEN = 64  # units of the head that reads the domain
NOTES = MODALITIES.index("notes")


class _Reversal(torch.autograd.Function):
    """The identity, whose gradient is turned round and scaled."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float) -> Tensor:
        """What comes in goes out."""
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """What the head wants, the other way."""
        return -ctx.strength * gradients[0], None


def reversed_gradient(x: Float[Tensor, "*axes"], strength: float) -> Float[Tensor, "*axes"]:
    """The same numbers, with a gradient of the opposite sign.

    Example:
        >>> x = torch.ones(2, requires_grad=True)
        >>> reversed_gradient(x, 0.5).sum().backward()
        >>> x.grad
        tensor([-0.5000, -0.5000])
    """
    found: Tensor = _Reversal.apply(x, strength)  # type: ignore[no-untyped-call]
    return found


def strength_at(done: float, highest: float) -> float:
    """How hard the gradient is reversed once a share of all steps is done: from 0 to `highest`.

    Example:
        >>> [round(strength_at(done, 0.7), 2) for done in (0.0, 0.1, 0.5, 1.0)]
        [0.0, 0.32, 0.69, 0.7]
    """
    return highest * (2 / (1 + math.exp(-STEEPNESS * done)) - 1)


class Adversary(nn.Module):
    """Reads the domain of each case from its notes, and teaches the network to hide it."""

    def __init__(
        self,
        dim: int,
        domains: Mapping[str, int],
        highest: float,
        others: Sequence[Case] = (),
        seed: int = 0,
    ) -> None:
        """Make one.

        Args:
            dim: Width of a token inside the network.
            domains: Number of the domain by case id, counted from 0.
            highest: Strength of the reversal at the end of training.
            others: Cases without a diagnosis, of another domain, of which as many are read in
                every step as there are cases.
            seed: Of the head and of the draw among `others`.
        """
        super().__init__()
        self.domains, self.highest, self.others = dict(domains), highest, tuple(others)
        self._balance = _balance(self.domains, {case.case_id for case in others})
        self._drawn = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.head = nn.Sequential(
                nn.Linear(dim, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, len(self._balance))
            )

    def is_ready(self, done: float) -> bool:
        """Whether the reversal is as strong as was asked for, or nearly."""
        return strength_at(done, self.highest) >= NEARLY * self.highest

    def loss(self, model: DiagnosticModel, cases: Sequence[Case], done: float) -> Float[Tensor, ""]:
        """Cross entropy of the domain, each domain counting alike; 0 where nobody has notes.

        Args:
            model: Whose layer over the sentences is to hide it.
            cases: Of this step.
            done: Share of all steps that is done.
        """
        drawn = torch.randperm(len(self.others), generator=self._drawn)[: len(cases)].tolist()
        shown = [c for c in [*cases, *(self.others[n] for n in drawn)] if "notes" in c.tokens]
        if not shown:
            return model.bias.new_zeros(())
        self.to(model.bias.device)
        told = self.head(reversed_gradient(embedded(model, shown), strength_at(done, self.highest)))
        true = torch.tensor([self.domains[c.case_id] for c in shown], device=told.device)
        return nn.functional.cross_entropy(told, true, self._balance.to(told))


def embedded(model: DiagnosticModel, cases: Sequence[Case]) -> Float[Tensor, "case dim"]:
    """Mean of each case's sentences as the attention sees them; every case has some."""
    notes = model.tensors(collate([case.only("notes") for case in cases]))["notes"]
    here: Bool[Tensor, "case token 1"] = notes.present[..., None]
    features = torch.where(here, notes.features, 0.0)
    kinds = torch.where(notes.present, notes.kinds, 0)
    tokens, _ = model.encode_modality(NOTES, "notes", features, kinds)
    total: Tensor = torch.where(here, tokens, 0.0).sum(dim=1)
    return total / here.sum(dim=1).clamp(min=1)


def _balance(domains: Mapping[str, int], others: set[str]) -> Float[Tensor, " domain"]:
    """Weight of each domain in the loss, so that they count alike however often they are read."""
    counts = Counter(n for case_id, n in domains.items() if case_id not in others)
    total = sum(counts.values())
    counts.update(dict.fromkeys({domains[case_id] for case_id in others}, total))
    return torch.tensor([total / counts[n] for n in range(len(counts))])
