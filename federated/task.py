"""What one hospital does in a round, and what of the network travels. Nothing here knows Flower.

The trainable parameters travel as one flat float32 array, because a message of many small
tensors takes far longer than one of the same size in one piece. What does not travel: buffers,
normalisation layers that keep statistics of their hospital (chosen by type, not by name), frozen
parameters, and the text encoder, which is no part of the network.
"""

import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from clinical.diagnoses import Scheme, load_scheme
from fusion.calibrate import calibrate
from fusion.case import Case
from fusion.checkpoint import Checkpoint, ModelCard, save
from fusion.model import DiagnosticModel, ModelConfig
from fusion.store import Site
from fusion.train import PARTS, TrainConfig, fit, mean_loss, split_by_patient

Packed = Float32[np.ndarray, " number"]

MAX_ROUNDS = 1000
LOCAL_EPOCHS = 13  # of a round, so that three rounds see each case as often as plain training


class FederationError(ValueError):
    """A site, a message or a round that cannot be used; says what to do, and nothing personal."""


# -- what travels --------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """How the flat array is cut into parameters.

    Attributes:
        names: Of the parameters, in order.
        shapes: Of each.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def size(self) -> int:
        """Numbers in the flat array."""
        return sum(int(np.prod(shape)) for shape in self.shapes)

    @property
    def sha256(self) -> str:
        """SHA-256 of names and shapes: equal where two sites mean the same network."""
        return hashlib.sha256(json.dumps([self.names, self.shapes]).encode()).hexdigest()

    def check(self, packed: np.ndarray, *, sender: str) -> None:
        """Refuse an array that is not this network's, or would spoil it.

        Args:
            packed: What arrived.
            sender: Who sent it, for the message.

        Raises:
            FederationError: Type, shape or a value is wrong.
        """
        if packed.dtype != np.float32 or packed.shape != (self.size,):
            raise FederationError(
                f"{sender} sent {packed.dtype} {packed.shape} where float32 ({self.size},) is "
                "expected; hub and sites must run the same version and configuration"
            )
        if not np.isfinite(packed).all():
            raise FederationError(
                f"{sender} sent weights that are not finite; its training diverged: "
                "lower the learning rate or look at its data"
            )


def travelling(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that leave the hospital, by name.

    Example:
        >>> list(travelling(nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2))))
        ['0.weight']
    """
    local = {
        id(parameter)
        for layer in network.modules()
        if isinstance(layer, _NormBase)
        for parameter in layer.parameters(recurse=False)
    }
    return {
        name: parameter
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and id(parameter) not in local
    }


def layout(network: nn.Module) -> Layout:
    """Names and shapes of what travels."""
    parameters = travelling(network)
    return Layout(tuple(parameters), tuple(tuple(p.shape) for p in parameters.values()))


def pack(network: nn.Module) -> Packed:
    """What travels, as one array; a copy, so that training on does not change it."""
    flat = [p.detach().float().flatten().cpu() for p in travelling(network).values()]
    return torch.cat(flat).numpy()


@torch.no_grad()
def unpack(packed: np.ndarray, network: nn.Module, *, sender: str) -> None:
    """Write a packed array into a network, and leave alone what does not travel.

    Raises:
        FederationError: The array is not this network's, or not finite; nothing was written.
    """
    layout(network).check(packed, sender=sender)
    flat, start = torch.from_numpy(packed.copy()), 0
    for parameter in travelling(network).values():
        parameter.copy_(flat[start : start + parameter.numel()].view_as(parameter))
        start += parameter.numel()


def local_state(network: nn.Module) -> dict[str, Tensor]:
    """What a hospital keeps between rounds: buffers and its own normalisation layers."""
    away = travelling(network)
    return {n: t.detach().clone() for n, t in network.state_dict().items() if n not in away}


def restore(network: nn.Module, kept: dict[str, Tensor]) -> None:
    """Put back what `local_state` kept."""
    network.load_state_dict(kept, strict=False)


# -- what hub and sites agreed on ----------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What hub and sites agreed on before the first round; no message changes it.

    Attributes:
        text_encoder: SHA-256 of the text encoder that read the notes at every site.
        model: Shape of the network.
        train: Training of one round; its `fractions` and `seed` fix every site's split.
        scheme: What is diagnosed.
    """

    text_encoder: str
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=LOCAL_EPOCHS))
    scheme: Scheme = field(default_factory=load_scheme)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that must be equal at hub and sites, the layout of the array included."""
        agreed = {
            "text_encoder": self.text_encoder,
            "model": asdict(self.model),
            "train": asdict(replace(self.train, device="")),
            "labels": [label.key for label in self.scheme.labels],
            "layout": layout(new_network(self)).sha256,
        }
        return hashlib.sha256(json.dumps(agreed, sort_keys=True).encode()).hexdigest()


def plan_for(folder: Path, seed: int = 0) -> Plan:
    """The standard plan, for the text encoder that read one site's notes.

    Args:
        folder: A site; the others must have been read by the same encoder.
        seed: Of the network's first weights, of splits and of training.

    Raises:
        FederationError: The site has no evidence, or of several encoders.
        fusion.store.SiteError: The folder is no site.
    """
    site, plan = Site.open(folder), Plan("", train=TrainConfig(epochs=LOCAL_EPOCHS, seed=seed))
    scheme, encoder = plan.scheme, _encoder(site)
    widths = {
        int(case.tokens["notes"].features.shape[-1])
        for case in site.training_cases(scheme)
        if "notes" in case.tokens
    }
    model = ModelConfig(
        n_syndromes=len(scheme.syndromes),
        n_causes=len(scheme.causes),
        text_dim=max(widths, default=ModelConfig.text_dim),
    )
    return replace(plan, text_encoder=encoder, model=model)


def new_network(plan: Plan) -> DiagnosticModel:
    """The network before the first round, the same for whoever follows the plan."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.train.seed)
        return DiagnosticModel(plan.model)


# -- what a site does ----------------------------------------------------------------------


@dataclass(frozen=True)
class SiteCases:
    """A hospital's cases, split by patient once and for all comparisons."""

    train: Sequence[Case]
    valid: Sequence[Case]
    calibration: Sequence[Case]
    test: Sequence[Case]


def split(cases: Sequence[Case], config: TrainConfig) -> SiteCases:
    """Split one hospital's cases; the same however they are trained on: here, pooled or federated.

    Raises:
        fusion.train.SplitError: There are too few patients.
    """
    parts = split_by_patient(cases, config.fractions, config.seed)
    return SiteCases(**dict(zip(PARTS, parts, strict=True)))


@functools.lru_cache(maxsize=8)
def site_cases(folder: Path, plan: Plan) -> SiteCases:
    """Read a hospital's cases with known diagnoses, and split them.

    Raises:
        FederationError: Its notes were read by another text encoder than the plan's.
        fusion.store.SiteError: The folder is no site.
        fusion.train.SplitError: There are too few patients.
    """
    site = Site.open(folder)
    if _encoder(site) != plan.text_encoder:
        raise FederationError(
            f"{folder.name}: evidence was made by another text encoder than the plan's; "
            "import the cases again with that one"
        )
    return split(site.training_cases(plan.scheme), plan.train)


def _encoder(site: Site) -> str:
    """SHA-256 of the text encoder that made a site's evidence."""
    found = {site.tokens_encoder(row.case_id) for row in site.cases()} - {None}
    if len(found) != 1:
        raise FederationError(
            f"{site.folder.name}: {len(found)} text encoders made its evidence where one is "
            "needed; import cases, or import them again with the same encoder"
        )
    return str(found.pop())


def train(network: DiagnosticModel, cases: SiteCases, plan: Plan, current_round: int) -> Packed:
    """One round at one hospital: training as anywhere else, and the weights it led to.

    Args:
        network: With the weights of the hub; changed in place.
        cases: The hospital's.
        plan: What was agreed on.
        current_round: Counted from 1; each draws its own order of cases.

    Raises:
        FederationError: Training diverged.
    """
    config = replace(plan.train, seed=plan.train.seed + current_round - 1)
    fit(network, cases.train, (), config)
    packed = pack(network)
    layout(network).check(packed, sender="this site")
    return packed


def evaluate(network: DiagnosticModel, cases: SiteCases, plan: Plan) -> float:
    """Loss on the hospital's validation cases."""
    return mean_loss(network, cases.valid, plan.train)


# -- files ---------------------------------------------------------------------------------


def round_path(out: Path, current_round: int) -> Path:
    """Where the weights of a round lie."""
    return out / f"round-{current_round}.safetensors"


def save_round(network: nn.Module, out: Path, current_round: int) -> None:
    """Write the weights of a round, whole or not at all."""
    path = round_path(out, current_round)
    partial = path.with_suffix(".partial")
    save_file({k: v.cpu().contiguous() for k, v in network.state_dict().items()}, partial)
    partial.replace(path)


def load_round(plan: Plan, out: Path, current_round: int) -> DiagnosticModel:
    """The network after a round."""
    network = new_network(plan)
    network.load_state_dict(load_file(round_path(out, current_round)))
    return network.eval()


def deliver(
    network: DiagnosticModel, cases: SiteCases, plan: Plan, out: Path, card: ModelCard
) -> None:
    """Write the network as a model folder for one hospital, calibrated on its own cases.

    Args:
        network: The federation's.
        cases: The hospital's; those for calibration are used.
        plan: What was agreed on.
        out: The folder to write.
        card: Where the model comes from.
    """
    calibrator = calibrate(network, cases.calibration)
    save(out, Checkpoint(network, calibrator, plan.scheme, card))
