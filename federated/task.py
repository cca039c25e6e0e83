"""What one hospital does in a round, and what hub and sites agree on. Nothing here knows Flower.

What of the network travels, and how, is in `federated.packing`.
"""

import functools
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from clinical.diagnoses import Scheme, load_scheme
from federated.packing import PERSONAL, is_in
from federated.packing import FederationError as FederationError
from federated.packing import Layout as Layout
from federated.packing import Packed as Packed
from federated.packing import layout as layout
from federated.packing import local_state as local_state
from federated.packing import pack as pack
from federated.packing import restore as restore
from federated.packing import travelling as travelling
from federated.packing import unpack as unpack
from federated.patient_privacy import PatientPrivacy, fit_privately
from federated.wire import MAX_ROUNDS as MAX_ROUNDS
from fusion.calibrate import calibrate
from fusion.case import Case
from fusion.checkpoint import Checkpoint, ModelCard, save
from fusion.model import DiagnosticModel
from fusion.network import ModelConfig
from fusion.store import Site
from fusion.train import PARTS, TrainConfig, fit, mean_loss, split_by_patient

log = logging.getLogger(__name__)

LOCAL_EPOCHS = 13  # of a round, so that three rounds see each case as often as plain training
SPLIT_FROM = 20  # patients; a smaller site has none to spare, and trains on all


# -- what hub and sites agreed on ----------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """What hub and sites agreed on before the first round; no message changes it.

    Attributes:
        text_encoder: SHA-256 of the text encoder that read the notes at every site.
        model: Shape of the network.
        train: Training of one round; its `fractions` and `seed` fix every site's split.
        scheme: What is diagnosed.
        personal: Parts of the network that each hospital trains for itself, such as ``readout``,
            ``bias`` and ``alone``; they do not travel.
        privacy: Of each patient in training; None for ordinary training.
    """

    text_encoder: str
    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=LOCAL_EPOCHS))
    scheme: Scheme = field(default_factory=load_scheme)
    personal: tuple[str, ...] = ()
    privacy: PatientPrivacy | None = None

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that must be equal at hub and sites, the layout of the array included."""
        agreed = {
            "text_encoder": self.text_encoder,
            "model": asdict(self.model),
            "train": asdict(replace(self.train, device="")),
            "labels": [label.key for label in self.scheme.labels],
            "layout": layout(new_network(self)).sha256,
            "personal": self.personal,
            "privacy": asdict(self.privacy) if self.privacy else None,
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
        network = DiagnosticModel(plan.model)
    unknown = [part for part in plan.personal if not _has_part(network, part)]
    if unknown:
        raise FederationError(f"the network has no part {', '.join(unknown)} to leave to each site")
    setattr(network, PERSONAL, plan.personal)
    return network


def _has_part(network: nn.Module, part: str) -> bool:
    """Whether any parameter of a network belongs to a part."""
    return any(is_in(name, (part,)) for name, _ in network.named_parameters())


# -- what a site does ----------------------------------------------------------------------


@dataclass(frozen=True)
class SiteCases:
    """A hospital's cases, split by patient once and for all comparisons.

    A hospital of fewer than `SPLIT_FROM` patients trains on all; its other parts are empty.
    """

    train: Sequence[Case]
    valid: Sequence[Case]
    calibration: Sequence[Case]
    test: Sequence[Case]


def split(cases: Sequence[Case], config: TrainConfig) -> SiteCases:
    """Split one hospital's cases; the same however they are trained on: here, pooled or federated.

    Raises:
        fusion.train.SplitError: There are none, or the fractions are no shares.
    """
    if 0 < len({case.patient_key for case in cases}) < SPLIT_FROM:
        return SiteCases(tuple(cases), (), (), ())
    parts = split_by_patient(cases, config.fractions, config.seed)
    return SiteCases(**dict(zip(PARTS, parts, strict=True)))


@functools.lru_cache(maxsize=8)
def site_cases(folder: Path, plan: Plan) -> SiteCases:
    """Read a hospital's cases with known diagnoses, and split them.

    Raises:
        FederationError: Its notes were read by another text encoder than the plan's.
        fusion.store.SiteError: The folder is no site.
        fusion.train.SplitError: It has no case with a known diagnosis.
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


def train(
    network: DiagnosticModel,
    cases: SiteCases,
    plan: Plan,
    current_round: int,
    *,
    proximal: float = 0.0,
    generator: torch.Generator | None = None,
) -> Packed:
    """One round at one hospital: training as anywhere else, and the weights it led to.

    Args:
        network: With the weights of the hub; changed in place.
        cases: The hospital's.
        plan: What was agreed on.
        current_round: Counted from 1; each draws its own order of cases.
        proximal: How strongly FedProx holds the weights near those of the hub; not with
            patient-level privacy, whose noise would be pulled back as well.
        generator: Of the noise of patient-level privacy, in tests; None for a secret one.

    Raises:
        FederationError: Training diverged.
    """
    if plan.privacy:
        fit_privately(network, travelling(network), cases.train, plan.privacy, generator)
    else:
        config = replace(plan.train, seed=plan.train.seed + current_round - 1)
        with held(travelling(network), proximal):
            fit(network, cases.train, (), config)
    packed = pack(network)
    layout(network).check(packed, sender="this site")
    return packed


@contextmanager
def held(parameters: Mapping[str, nn.Parameter], strength: float) -> Iterator[None]:
    """FedProx: while training, pull parameters to where they are now.

    The gradient of half `strength` times the squared distance is added to each parameter's own.

    Args:
        parameters: Of a network.
        strength: FedProx's mu; 0 changes nothing.
    """

    def pull(parameter: nn.Parameter, start: Tensor) -> Any:
        return parameter.register_hook(
            lambda gradient: gradient + strength * (parameter.detach() - start)
        )

    pulled = parameters.values() if strength else ()
    hooks = [pull(parameter, parameter.detach().clone()) for parameter in pulled]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def personalise(network: DiagnosticModel, cases: SiteCases, plan: Plan) -> None:
    """Train a hospital's personal parts on its own cases, and leave alone what travels.

    Args:
        network: The federation's; changed in place.
        cases: The hospital's; those for validation stop it early.
        plan: What was agreed on; without personal parts, nothing happens.
    """
    shared = list(travelling(network).values())
    if not plan.personal:
        return
    for parameter in shared:
        parameter.requires_grad_(False)  # noqa: FBT003 - PyTorch's own
    try:
        fit(network, cases.train, cases.valid, replace(plan.train, epochs=TrainConfig.epochs))
    finally:
        for parameter in shared:
            parameter.requires_grad_(True)  # noqa: FBT003


def evaluate(network: DiagnosticModel, cases: SiteCases, plan: Plan) -> float:
    """Loss on the hospital's validation cases.

    Raises:
        FederationError: It has none, being too small to spare any.
    """
    if not cases.valid:
        raise FederationError("this site trains on all its cases, so it has none to evaluate on")
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
        cases: The hospital's; those for calibration are used, and where it is too small to have
            any, those it trained on, which makes the probabilities bolder than they should be.
        plan: What was agreed on.
        out: The folder to write.
        card: Where the model comes from.
    """
    personalise(network, cases, plan)
    if not cases.calibration:
        log.warning("%s: too few patients to calibrate on others than those of the training", out)
    calibrator = calibrate(network, cases.calibration or cases.train)
    save(out, Checkpoint(network, calibrator, plan.scheme, card))
