"""Train the network on cases whose diagnoses are known.

`fit` is the loop, whoever calls it: `train` with a validation set and early stopping, a
federation's site with neither, for a few epochs a round.
"""

import copy
import itertools
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy
from tqdm import tqdm

from fusion.adapt import Adversary
from fusion.case import UNKNOWN, Case, CaseBatch, collate
from fusion.model import DiagnosticModel
from fusion.network import ModelConfig

log = logging.getLogger(__name__)

PARTS = ("train", "valid", "calibration", "test")


class SplitError(ValueError):
    """Parts that share a patient, or too few patients for the parts asked for."""


class TrainError(ValueError):
    """Cases the network cannot be trained on."""


@dataclass(frozen=True)
class TrainConfig:
    """How the network is trained."""

    epochs: int = 50  # at most
    batch_size: int = 16  # cases
    learning_rate: float = 3e-4  # of AdamW, at its highest
    warmup_steps: int = 20  # over which it rises; then it falls along a cosine
    weight_decay: float = 0.02
    modality_dropout: float = 0.3  # chance of hiding a modality, so that none is relied upon
    clip: float = 1.0  # largest norm of a step's gradient
    patience: int = 8  # epochs without a better validation loss before stopping
    fractions: tuple[float, ...] = (0.65, 0.1, 0.1, 0.15)  # of patients, in the order of PARTS
    domain_weight: float = 0.0  # strength with which notes unlearn their domain; 0 is off
    seed: int = 0
    device: str = "cpu"


@dataclass
class History:
    """What happened, epoch by epoch.

    Attributes:
        train_loss: Mean over the epoch, with modalities hidden.
        valid_loss: With none hidden; empty without validation cases.
        best_epoch: Whose weights the network has now, counted from 0.
        interrupted: Stopped by the user.
    """

    train_loss: list[float] = field(default_factory=list)
    valid_loss: list[float] = field(default_factory=list)
    best_epoch: int = 0
    interrupted: bool = False


@dataclass(frozen=True)
class Trained:
    """A trained network and the cases that made it, by part."""

    model: DiagnosticModel
    history: History
    parts: Mapping[str, Sequence[Case]]


def split_by_patient(
    cases: Sequence[Case], fractions: Sequence[float], seed: int
) -> tuple[list[Case], ...]:
    """Share cases out, all cases of a patient to the same part.

    Args:
        cases: In any order; the split depends on their patients only.
        fractions: Share of patients each part gets; they sum to 1.
        seed: Of the shuffle.

    Raises:
        SplitError: The fractions are not shares, or a part would be empty.
    """
    if abs(sum(fractions) - 1.0) > 1e-6 or min(fractions) <= 0:
        raise SplitError(f"fractions must be positive and sum to 1, got {tuple(fractions)}")
    patients = sorted({case.patient_key for case in cases})
    order = torch.randperm(len(patients), generator=torch.Generator().manual_seed(seed)).tolist()
    bounds = [round(len(patients) * sum(fractions[:n])) for n in range(len(fractions) + 1)]
    part_of = {
        patients[patient]: part
        for part, (start, end) in enumerate(itertools.pairwise(bounds))
        for patient in order[start:end]
    }
    parts: tuple[list[Case], ...] = tuple([] for _ in fractions)
    for case in cases:
        parts[part_of[case.patient_key]].append(case)
    if not all(parts):
        raise SplitError(f"{len(patients)} patients are too few for {len(fractions)} parts")
    check_disjoint(parts)
    return parts


def check_disjoint(parts: Sequence[Sequence[Case]]) -> None:
    """Refuse parts that share a patient.

    Raises:
        SplitError: A patient is in two parts.
    """
    keys = [{case.patient_key for case in part} for part in parts]
    shared = {key for n, here in enumerate(keys) for there in keys[n + 1 :] for key in here & there}
    if shared:
        raise SplitError(
            f"{len(shared)} patients are in more than one part; split with split_by_patient"
        )


def loss_of(model: DiagnosticModel, batch: CaseBatch) -> Float[Tensor, ""]:
    """Cross entropy of the syndrome plus binary cross entropy of the causes, where known."""
    n = model.config.n_syndromes
    logits = model(batch).logits
    truth, causes = (
        torch.from_numpy(array).to(logits.device) for array in (batch.syndrome, batch.causes)
    )
    known = causes != UNKNOWN
    # A sum over what is known divided by its count, which is 0/1 and not 0/0 where nothing is.
    syndrome = cross_entropy(logits[:, :n], truth, ignore_index=UNKNOWN, reduction="sum")
    cause = binary_cross_entropy_with_logits(
        logits[:, n:], torch.where(known, causes, 0.0), weight=known.float(), reduction="sum"
    )
    n_known = (truth != UNKNOWN).sum().clamp(min=1)
    per_cause = known.sum().clamp(min=1) / max(1, known.shape[1])
    return syndrome / n_known + cause / per_cause


def hidden_at_random(
    present: Bool[np.ndarray, "batch modality"], chance: float, generator: torch.Generator
) -> Bool[np.ndarray, "batch modality"]:
    """Which modalities to keep: each is hidden by chance, and each case keeps at least one."""
    drawn = torch.rand(present.shape, generator=generator).numpy()
    kept: np.ndarray = drawn >= chance
    # The luckiest of those a case has stays, whatever the chance.
    luckiest = np.where(present, drawn, -1.0).argmax(axis=1)
    kept[np.arange(len(kept)), luckiest] = True
    return kept


def train(
    cases: Sequence[Case],
    config: TrainConfig,
    model_config: ModelConfig | None = None,
    domains: Mapping[str, int] | None = None,
) -> Trained:
    """Split by patient, make a network and fit it.

    Args:
        cases: Cases with labels.
        config: How to train.
        model_config: Shape of the network.
        domains: Number of the hospital by case id, for `TrainConfig.domain_weight`.

    Raises:
        SplitError: There are too few patients.
        TrainError: The cases cannot be learnt from.
    """
    parts = split_by_patient(cases, config.fractions, config.seed)
    torch.manual_seed(config.seed)
    model = DiagnosticModel(model_config or ModelConfig())
    adversary = None
    if config.domain_weight > 0:
        if len(set((domains or {}).values())) < 2:
            raise TrainError("domain_weight needs the notes of two hospitals at least")
        dim, seed = model.config.dim, config.seed
        adversary = Adversary(dim, domains or {}, config.domain_weight, seed=seed)
    history = fit(model, parts[0], parts[1], config, adversary)
    return Trained(model, history, dict(zip(PARTS, parts, strict=True)))


def fit(
    model: DiagnosticModel,
    train_cases: Sequence[Case],
    valid_cases: Sequence[Case],
    config: TrainConfig,
    adversary: Adversary | None = None,
) -> History:
    """Fit a network where it stands.

    Interrupted from the keyboard, it keeps the best weights so far and returns.

    Args:
        model: Changed in place; with validation cases it ends with its best epoch's weights,
            without with its last.
        train_cases: Cases with labels.
        valid_cases: For early stopping; empty for none.
        config: How to train.
        adversary: Reads the domain of the notes, which then unlearn it. The best epoch is one
            in which it was as strong as asked for.

    Raises:
        SplitError: A patient is in both.
        TrainError: No case has a label, or a case's labels are of another scheme.
    """
    check_disjoint((train_cases, valid_cases))
    _check_labels(model.config, [*train_cases, *valid_cases])
    generator = torch.Generator().manual_seed(config.seed)
    torch.manual_seed(config.seed)
    model.to(config.device)
    optimizer, schedule = _optimizer(model, len(train_cases), config, adversary)
    history, best = History(), copy.deepcopy(model.state_dict())
    first = _first_epoch(config, adversary)
    progress = tqdm(range(config.epochs), "training", unit="epoch", disable=None)
    try:
        for epoch in progress:
            history.train_loss.append(
                _epoch(model, train_cases, config, optimizer, schedule, generator, adversary)
            )
            if valid_cases:
                history.valid_loss.append(mean_loss(model, valid_cases, config))
            since = first if epoch >= first else 0
            if not valid_cases or history.valid_loss[-1] <= min(history.valid_loss[since:]):
                history.best_epoch, best = epoch, copy.deepcopy(model.state_dict())
            elif epoch - max(first, history.best_epoch) >= config.patience:
                break
            progress.set_postfix(loss=f"{(history.valid_loss or history.train_loss)[-1]:.3f}")
    except KeyboardInterrupt:
        history.interrupted = True
        log.warning("interrupted; keeping the weights of epoch %d", history.best_epoch)
    model.load_state_dict(best)
    model.eval()
    return history


def mean_loss(model: DiagnosticModel, cases: Sequence[Case], config: TrainConfig) -> float:
    """Loss over cases with nothing hidden."""
    model.eval()
    batches = [cases[n : n + config.batch_size] for n in range(0, len(cases), config.batch_size)]
    with torch.inference_mode():
        losses = [len(b) * loss_of(model, collate(b)).item() for b in batches]
    return sum(losses) / len(cases)


def _epoch(
    model: DiagnosticModel,
    cases: Sequence[Case],
    config: TrainConfig,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    generator: torch.Generator,
    adversary: Adversary | None = None,
) -> float:
    """Every case once, in random order and with modalities hidden; the mean loss."""
    model.train()
    total = 0.0
    order = torch.randperm(len(cases), generator=generator)
    for rows in torch.split(order, config.batch_size):
        shown = [cases[row] for row in rows.tolist()]
        batch = collate(shown)
        kept = hidden_at_random(batch.present, config.modality_dropout, generator)
        loss = loss_of(model, batch.keep(kept))
        done = schedule.last_epoch / _steps(len(cases), config)
        told = [adversary.loss(model, shown, done)] if adversary else []
        optimizer.zero_grad()
        torch.autograd.backward([loss, *told])
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        optimizer.step()
        schedule.step()
        total += len(rows) * loss.item()
    return total / len(cases)


def _optimizer(
    model: DiagnosticModel,
    n_cases: int,
    config: TrainConfig,
    adversary: Adversary | None = None,
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW and the course of its learning rate over all epochs."""
    learning = [*model.parameters(), *(adversary.parameters() if adversary else ())]
    optimizer = torch.optim.AdamW(learning, config.learning_rate, weight_decay=config.weight_decay)
    rate = partial(_rate, warmup=config.warmup_steps, steps=_steps(n_cases, config))
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rate)


def _steps(n_cases: int, config: TrainConfig) -> int:
    """How many there are in all epochs."""
    return config.epochs * math.ceil(n_cases / config.batch_size)


def _first_epoch(config: TrainConfig, adversary: Adversary | None) -> int:
    """The first whose weights are what was asked for."""
    if adversary is None:
        return 0
    done = ((epoch + 1) / config.epochs for epoch in range(config.epochs))
    return next(n for n, share in enumerate(done) if adversary.is_ready(share))


def _rate(step: int, warmup: int, steps: int) -> float:
    """Share of the highest learning rate: a linear rise, then a cosine to a twentieth."""
    if step < warmup:
        return (step + 1) / warmup
    done = min(1.0, (step - warmup) / max(1, steps - warmup))
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))


def _check_labels(config: ModelConfig, cases: Sequence[Case]) -> None:
    """Refuse cases the loss has nothing to say about."""
    if not any(case.labels for case in cases):
        raise TrainError(f"none of {len(cases)} cases has a known diagnosis; nothing to learn from")
    for case in cases:
        labels = case.labels
        if labels is None:
            continue
        if len(labels.causes) != config.n_causes or (labels.syndrome or 0) >= config.n_syndromes:
            raise TrainError(
                f"case {case.case_id} is labelled by another scheme than the network's "
                f"{config.n_syndromes} syndromes and {config.n_causes} causes"
            )
