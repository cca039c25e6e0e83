"""What has left a site, and what privacy it cost: kept in the site's folder, over every restart.

A reply is written down before it leaves. A message that comes twice is answered with the same
numbers, or refused, and costs nothing more.

The guarantee is for whatever the site's patients are exchanged for: two clipped updates differ by
at most twice the clip norm, so noise of ``noise_multiplier`` clip norms counts as a Gaussian
mechanism of half that multiplier. With patient-level training (DP-SGD) it is for one patient,
added or removed, under Poisson sampling. The noise is drawn in floating point, and what the time
of a reply says is not counted.
"""

import fcntl
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from flwr.serverapp import (
    GaussianPrivacyEvent,
    NeighboringRelation,
    PrivacyConfig,
    RdpAccountant,
    SamplingMethod,
)
from jaxtyping import Float32
from safetensors.numpy import load_file, save_file

from federated.site.policy import STATE, PolicyError, SitePolicy, read_policy

LEDGER, LAST = "ledger.json", "last-release.safetensors"
VERSION = 1
PARTS = 1_000_000  # in which a sampling rate is counted, since Flower counts in whole cases

Packed = Float32[np.ndarray, " number"]
Kind = Literal["train", "evaluate", "scores"]


class BudgetError(PolicyError):
    """The site has given what its policy allows."""


@dataclass(frozen=True)
class Entry:
    """What a ledger's file holds.

    Attributes:
        accountant: State of Flower's accountant, empty before the first noisy release.
        trained: Replies to training that left.
        evaluated: Replies to evaluation that left.
        scored: Histograms of scores that left.
        unprotected: Of those to training, how many left without noise.
        ids: Of the messages that were answered, newest last.
        epsilon: Spent, at `delta`; None where a reply left without noise.
        delta: For that.
    """

    accountant: dict[str, Any] = field(default_factory=dict)
    trained: int = 0
    evaluated: int = 0
    scored: int = 0
    unprotected: int = 0
    ids: tuple[str, ...] = ()
    epsilon: float | None = 0.0
    delta: float = 1e-5


def event_of(policy: SitePolicy) -> tuple[GaussianPrivacyEvent, int] | None:
    """What one reply to training costs: an event, and how many of them; None without noise."""
    if policy.noise_multiplier:
        return GaussianPrivacyEvent(policy.noise_multiplier / 2, PARTS, PARTS), 1
    if policy.patient_noise_multiplier and policy.patient_steps:
        share = math.ceil(policy.patient_sample_rate * PARTS)
        event = GaussianPrivacyEvent(policy.patient_noise_multiplier, share, PARTS)
        return event, policy.patient_steps
    return None


def accountant(state: dict[str, Any] | None = None) -> RdpAccountant:
    """Flower's accountant of this site's replies.

    Args:
        state: Its earlier state.

    Example:
        >>> spent = accountant()
        >>> spent.compose(GaussianPrivacyEvent(5.0, PARTS, PARTS), 3)
        >>> round(spent.get_epsilon(1e-5), 2)
        1.45
    """
    made = RdpAccountant(
        PrivacyConfig(
            target_delta=1e-5,  # the policy's own is given where epsilon is asked for
            population_size=PARTS,
            neighboring_relation=NeighboringRelation.ADD_OR_REMOVE_ONE,
            sampling_method=SamplingMethod.POISSON,
        )
    )
    if state:
        made.load_state_dict(state)
    return made


class Ledger:
    """The account of one site.

    Args:
        folder: The site's.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / STATE
        self.folder.mkdir(mode=0o700, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the ledger, so that two replies of a site cannot spend the same budget."""
        with (self.folder / "ledger.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self) -> Entry:
        """What has left.

        Raises:
            PolicyError: The file is damaged; nothing leaves until a person has looked at it.
        """
        path = self.folder / LEDGER
        try:
            found = json.loads(path.read_bytes())
            if found.pop("version") != VERSION:
                raise ValueError
            return Entry(**{**found, "ids": tuple(found["ids"])})
        except FileNotFoundError:
            return Entry()
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            raise PolicyError(
                f"{path} is damaged, so it is unknown what this site has given; nothing leaves "
                "until it is restored from a backup"
            ) from None

    def check(self, kind: Kind, policy: SitePolicy) -> None:
        """Refuse a reply that the policy no longer pays for, before any work is done for it.

        Raises:
            BudgetError: The rounds are used up, or the budget would be overdrawn.
        """
        entry = self.read()
        given = {"train": entry.trained, "evaluate": entry.evaluated, "scores": entry.scored}[kind]
        if given >= (policy.score_answers if kind == "scores" else policy.rounds):
            asked = "for scores" if kind == "scores" else f"to {kind}"
            raise BudgetError(
                f"this site has answered {given} requests {asked}, all that its policy allows"
            )
        if kind == "train" and policy.is_noisy:
            epsilon = _charged(entry, policy).epsilon
            if epsilon is None or epsilon > policy.epsilon:
                raise BudgetError(_overdrawn(entry, policy))

    def record(
        self, kind: Kind, message_id: str, policy: SitePolicy, packed: Packed | None
    ) -> None:
        """Write a reply down before it leaves; after a crash it counts as left.

        Args:
            kind: What it replies to.
            message_id: Of the request.
            policy: The site's.
            packed: What leaves, kept in case the same message comes again.

        Raises:
            BudgetError: The policy does not pay for it.
            OSError: It cannot be written, so the reply must not leave.
        """
        self.check(kind, policy)
        entry = self.read()
        if packed is not None:
            partial = self.folder / f"{LAST}.partial"
            save_file({"packed": packed}, partial, {"message_id": message_id})
            partial.replace(self.folder / LAST)
        self._write(
            replace(
                _charged(entry, policy) if kind == "train" else entry,
                trained=entry.trained + (kind == "train"),
                evaluated=entry.evaluated + (kind == "evaluate"),
                scored=entry.scored + (kind == "scores"),
                ids=(*entry.ids, message_id),
            )
        )

    def released(self, message_id: str) -> Packed | None:
        """What already left in reply to a message; None where it is new.

        Raises:
            PolicyError: It was answered, but long ago, or with something other than weights.
        """
        if message_id not in self.read().ids:
            return None
        path = self.folder / LAST
        if path.exists() and _message_id(path) == message_id:
            return np.asarray(load_file(path)["packed"])
        raise PolicyError("this message was answered before; a site answers once")

    def _write(self, entry: Entry) -> None:
        """Replace the file, and be sure that it is on the disk."""
        path = self.folder / LEDGER
        partial = path.with_suffix(".partial")
        with partial.open("w") as file:
            json.dump({"version": VERSION, **vars(entry)}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        where = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(where)
        finally:
            os.close(where)


def _charged(entry: Entry, policy: SitePolicy) -> Entry:
    """The account after one more reply to training."""
    event = event_of(policy)
    if event is None:
        return replace(entry, unprotected=entry.unprotected + 1, epsilon=None, delta=policy.delta)
    spent = accountant(entry.accountant)
    spent.compose(*event)
    return replace(
        entry,
        accountant=spent.state_dict(),
        epsilon=None if entry.unprotected else spent.get_epsilon(policy.delta),
        delta=policy.delta,
    )


def _overdrawn(entry: Entry, policy: SitePolicy) -> str:
    """Why the budget does not allow one more reply."""
    if entry.unprotected:
        return (
            f"{entry.unprotected} replies left this site without noise, so no budget can be kept; "
            f"a new one begins when its administrator puts {STATE}/{LEDGER} away"
        )
    return (
        f"this site has spent epsilon {entry.epsilon or 0.0:.2f} of {policy.epsilon:.2f} at delta "
        f"{policy.delta:g}, and one more reply would overdraw it"
    )


def _message_id(path: Path) -> str:
    """Whose reply was kept last."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return str(json.loads(file.read(size))["__metadata__"]["message_id"])


def describe(folder: Path) -> list[str]:
    """What a site's administrator should know about its federation; empty where there is none.

    Args:
        folder: The site's.

    Raises:
        PolicyError: Policy or ledger cannot be read.
    """
    if not (folder / STATE / LEDGER).exists() and not (folder / "federation.toml").exists():
        return []
    policy, entry = read_policy(folder), Ledger(folder).read()
    lines = [
        f"{entry.trained} trainings and {entry.evaluated} evaluations of {policy.rounds} have left",
        f"updates are clipped to {policy.clip_norm:g} and get noise of {policy.noise_multiplier:g}",
    ]
    if entry.scored:
        lines.append(f"{entry.scored} histograms of scores of {policy.score_answers} have left")
    if entry.unprotected:
        lines.append(f"{entry.unprotected} left without noise: no privacy guarantee for them")
    elif entry.epsilon:
        lines.append(
            f"spent epsilon {entry.epsilon:.2f} of {policy.epsilon:g} at delta {entry.delta:g}"
        )
    elif not policy.is_noisy:
        lines.append("no noise: no privacy guarantee beyond clipping")
    if policy.cases < policy.smallest_cohort:
        lines.append(f"{policy.cases} cases registered, under {policy.smallest_cohort}: none leave")
    return lines
