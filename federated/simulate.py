"""Several hospitals on one machine, in Flower's simulation engine: one hospital a client.

Each hospital's cases are read only by the worker that plays it; what passes between workers and
hub is exactly what would pass between hospitals.

Flower calls `run_simulation` deprecated in favour of ``flwr run``, which starts the same engine
behind a SuperLink on a port of this machine. That SuperLink's control interface asks for no
password, so whoever else is logged in here could run code on the hospitals' cases; and its
simulation settings do not say on which address Ray listens. So it is left alone, with Flower's
version pinned, until one of the two changes.
"""

import functools
import logging
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flwr.server.superlink.fleet.vce.backend.backend import BackendConfig
from flwr.simulation import run_simulation

from federated import task
from federated.cards import card_of
from federated.hub.server_app import HubConfig, read_rounds, server_app
from federated.progress import Patience
from federated.site.client_app import client_app
from federated.task import FederationError, Plan, SiteCases

OBJECT_STORE_BYTES = 200_000_000  # Ray's shared memory; a packed network is a few megabytes


@dataclass(frozen=True)
class Federated:
    """What a federation left.

    Attributes:
        rounds: For each round, the validation loss over all hospitals.
        models: For each hospital, a model folder with the last round's network, calibrated there.
    """

    rounds: tuple[float, ...]
    models: tuple[Path, ...]


def simulate(
    sites: Sequence[Path],
    out: Path,
    *,
    rounds: int = HubConfig.rounds,
    seed: int = 0,
    plan: Plan | None = None,
    workers: int = 1,
    trained_on: str = "",
) -> Federated:
    """Train one network on several hospitals without bringing their cases together.

    Args:
        sites: Folders of the hospitals.
        out: Folder for ``round-N.safetensors``, ``rounds.json`` and a model folder per hospital.
        rounds: Of federated averaging.
        seed: Of the standard plan.
        plan: Network and training; None for the standard ones.
        workers: Hospitals that train at the same time, each on one core.
        trained_on: What the cases are, in words, for the model card.

    Raises:
        FederationError: Sites cannot be federated, or a round failed.
        fusion.store.SiteError: A folder is no site.
        fusion.train.SplitError: A site has too few patients.
    """
    folders = [site.resolve() for site in sites]
    if not folders or len(set(folders)) != len(folders):
        raise FederationError("name the sites to federate, each once")
    if not 1 <= rounds <= task.MAX_ROUNDS:
        raise FederationError(f"rounds must be between 1 and {task.MAX_ROUNDS}, not {rounds}")
    plan = plan or task.plan_for(folders[0], seed)
    cases = [task.site_cases(folder, plan) for folder in folders]  # a mistake shows before Ray
    play(folders, out, plan, rounds=rounds, workers=workers)
    return Federated(read_rounds(out), _deliver(folders, cases, plan, out, rounds, trained_on))


def play(folders: Sequence[Path], out: Path, plan: Plan, *, rounds: int, workers: int) -> None:
    """Run the rounds in Flower's engine, and leave the weights of each in a folder.

    Args:
        folders: Of the hospitals, resolved.
        out: Folder for ``round-N.safetensors`` and ``progress.jsonl``.
        plan: Network and training.
        rounds: Of federated averaging.
        workers: Hospitals that train at the same time, each on one core.

    Raises:
        FederationError: A round failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    patience = Patience(min_sites=len(folders), tries=1, wait_s=60.0)
    config = HubConfig(rounds=rounds, patience=patience)
    stopped = threading.Event()
    try:
        with _private_ray(), _quiet_flower():
            run_simulation(
                server_app=server_app(plan, out, config, stopped),
                client_app=client_app(plan, folders),
                num_supernodes=len(folders),
                backend_config=_backend(workers),
            )
    finally:
        stopped.set()


def _deliver(
    folders: Sequence[Path],
    cases: Sequence[SiteCases],
    plan: Plan,
    out: Path,
    rounds: int,
    trained_on: str,
) -> tuple[Path, ...]:
    """Each hospital's model folder."""
    n_cases = sum(len(c.train) for c in cases)
    words = f"{trained_on or 'cases'} of {len(folders)} sites, federated in {rounds} rounds"
    network = task.load_round(plan, out, rounds)
    models = tuple(out / f"{n}-{folder.name}" for n, folder in enumerate(folders, 1))
    for mine, model in zip(cases, models, strict=True):
        card = card_of(plan, mine, words, n_cases)
        task.deliver(network, mine, plan, model, card)
    return models


def _backend(workers: int) -> BackendConfig:
    """Ray with as many workers as asked for, each on one core, heard on this machine only."""
    return {
        "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        "init_args": {
            "num_cpus": workers,
            "num_gpus": 0,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
            "log_to_driver": False,
            "_node_ip_address": "127.0.0.1",
        },
    }


@functools.cache
def _token() -> str:
    """What this process tells Ray; Ray reads it once and keeps it, so there is one a process."""
    return secrets.token_hex(32)


@contextmanager
def _private_ray() -> Iterator[None]:
    """Ray that reports to nobody and answers only who knows this process's token.

    It listens on every interface and obeys whoever connects unless it is told to ask for one.
    """
    ours = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": _token(),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    before = {name: os.environ.get(name) for name in (*ours, "PYTHONPATH")}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _quiet_flower() -> Iterator[None]:
    """Leave the telling to our own log: Flower's would print each reply, and a deprecation."""
    flower = logging.getLogger("flwr")
    before = flower.level
    flower.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        flower.setLevel(before)
