"""A hospital's way into a federation: its key, its policy, and a SuperNode behind the gate.

In the site's folder:

federation.toml       the policy; its administrator reads and changes it
plan.json             the hub's plan
federation/           hub-ca.crt of the hub; site.key, site.pub; the ledger; what Flower says
"""

import json
import logging
import re
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cryptography import x509
from flwr.supercore.constant import TASK_TYPE_TO_COMMAND

from federated import children, keys, task
from federated.bundle import app_bundle
from federated.cards import card_of
from federated.files import private_folder, write_whole
from federated.patient_privacy import PatientPrivacy
from federated.plan_file import PLAN, read_plan
from federated.site.gate import NURSERY, SITE, network
from federated.site.policy import POLICY, STATE, SitePolicy, read_policy, write_policy
from federated.site.received import read_received
from federated.task import FederationError
from federated.wire import REFUSED
from fusion.store import Site

log = logging.getLogger(__name__)

LOG = "supernode.log"  # in the site's federation folder: what Flower says
AGAIN_S = (2.0, 60.0)  # before a SuperNode that ended is started again: at first, at most
STEADY_S = 300.0  # one that ran so long was well, and begins to count anew
_ADDRESS = re.compile(r"[A-Za-z0-9.\-]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}")


def prepare(site: Path, hub: str, ca: Path, plan: Path) -> Path:
    """Make a site's key pair and policy from what the hub's administrator sent.

    What is there already stays as it is, key and policy above all.

    Args:
        site: The site's folder.
        hub: HOST:PORT of the hub.
        ca: Certificate of the hub's authority.
        plan: The hub's plan.

    Returns:
        The public key, which the hub's administrator registers.

    Raises:
        FederationError: Certificate, plan or address cannot be used, or the plan is not for this
            site's evidence.
        fusion.store.SiteError: The folder is no site.
    """
    Site.open(site)
    if not _ADDRESS.fullmatch(hub):
        raise FederationError(f"--hub {hub!r} is not HOST:PORT")
    agreed = read_plan(plan)
    folder = private_folder(site / STATE)
    write_whole(folder / keys.CA, _authority(ca))
    if plan.resolve() != (site / PLAN).resolve():
        write_whole(site / PLAN, plan.read_bytes())
    if not (site / POLICY).exists():
        write_policy(site, policy_for(site, hub, agreed))
    return keys.make_site_key(folder)


def policy_for(site: Path, hub: str, plan: task.Plan) -> SitePolicy:
    """The policy to begin with: this plan, this version's app, the cases that the site has.

    Raises:
        FederationError: The site's evidence is not what the plan is for.
    """
    cases = task.site_cases(site.resolve(), plan)
    layout = task.layout(task.new_network(plan))
    private = plan.privacy or PatientPrivacy(0.0, sample_rate=1.0, steps=0)
    return replace(
        SitePolicy(),
        patient_noise_multiplier=private.noise_multiplier,
        patient_sample_rate=private.sample_rate,
        patient_steps=private.steps,
        hub=hub,
        plan=plan.fingerprint,
        layout=layout.sha256,
        numbers=layout.size,
        allowed_parameters=layout.names,
        allowed_apps=(app_bundle().hash_str,),
        cases=sum(len(part) for part in vars(cases).values()),
    )


def checked_policy(site: Path) -> SitePolicy:
    """The site's policy, held against its plan, its cases and its key before anything starts.

    Raises:
        FederationError: Something is missing.
        federated.site.policy.PolicyError: Policy and plan disagree.
    """
    policy, plan = read_policy(site), read_plan(site / PLAN)
    policy.check_plan(plan.fingerprint, task.layout(task.new_network(plan)))
    task.site_cases(site.resolve(), plan)
    for name in (policy.key_file, policy.ca_certificate):
        if not (site / name).is_file():
            raise FederationError(
                f"{site / name} is missing; run `consilium join {site} --hub HOST:PORT --ca FILE`"
            )
    return policy


def join(site: Path, log_file: Path | None = None, stop: threading.Event | None = None) -> None:
    """Take part until interrupted; a SuperNode that ends is started again.

    Args:
        site: The site's folder, prepared.
        log_file: What the SuperNode says; by default in the site's folder.
        stop: Ends the joining, for tests and other threads.

    Raises:
        FederationError: The site is not ready, or the hub does not know its key.
    """
    policy, stop = checked_policy(site), stop or threading.Event()
    log_file = log_file or site / STATE / LOG
    if threading.current_thread() is threading.main_thread():
        for sign in (signal.SIGINT, signal.SIGTERM):
            signal.signal(sign, lambda *_: stop.set())
    with _nursery(site, log_file) as door:
        _take_part(site, policy, door, log_file, stop)


@contextmanager
def _nursery(site: Path, log_file: Path) -> Iterator[Path]:
    """A process from which apps are forked while the block runs; its socket.

    The socket lies in a folder of its own: the path of one must be short.
    """
    with tempfile.TemporaryDirectory(prefix="consilium-site-") as folder:
        door = Path(folder) / "apps"
        command = [
            sys.executable, "-m", "federated.site.nursery", str(site.resolve()), str(door),
            network(site),
        ]  # fmt: skip
        child = children.start(command, children.environment(Path(folder)), log_file)
        try:
            yield door
        finally:
            children.stop(child)


def _take_part(
    site: Path, policy: SitePolicy, door: Path, log_file: Path, stop: threading.Event
) -> None:
    """Keep a SuperNode running."""
    home = private_folder(site / STATE / "flower")
    told = {SITE: str(site.resolve()), NURSERY: str(door)}
    env = children.environment(home, told, _programs(site))
    wait_s = AGAIN_S[0]
    while not stop.is_set():
        start = log_file.stat().st_size if log_file.exists() else 0
        child = children.start(_supernode(site, policy), env, log_file)
        ran_s = children.wait(child, stop)
        if stop.is_set():
            break
        if f"'{REFUSED} " in _said(log_file, start):
            raise FederationError(
                f"the hub does not know this site's key; its administrator registers "
                f"{site / STATE / keys.SITE_PUBLIC} with `consilium hub register`"
            )
        wait_s = AGAIN_S[0] if ran_s > STEADY_S else min(2 * wait_s, AGAIN_S[1])
        log.warning("the hub is not there; trying again in %.0f s (%s)", wait_s, log_file)
        stop.wait(wait_s)


def take_model(site: Path, out: Path) -> None:
    """Write what the federation has learnt so far as a model folder for this hospital.

    Raises:
        FederationError: Nothing has arrived yet, or what arrived is not of the plan.
    """
    plan, received = read_plan(site / PLAN), read_received(site)
    cases = task.site_cases(site.resolve(), plan)
    network = task.new_network(plan).eval()
    task.unpack(received.packed, network, sender="the hub")
    words = f"cases of several sites, federated in {received.round} rounds"
    card = card_of(plan, cases, words, len(cases.train))
    task.deliver(network, cases, plan, out, card)


def _supernode(site: Path, policy: SitePolicy) -> list[str]:
    """The command of the SuperNode."""
    return [
        sys.executable, "-m", "federated.site.supernode",
        "--superlink", policy.hub,
        "--root-certificates", str(site / policy.ca_certificate),
        "--auth-supernode-private-key", str(site / policy.key_file),
        "--host", "127.0.0.1", "--port", str(children.free_port()),
        "--node-config", f"site={_toml_text(str(site.resolve()))}",
    ]  # fmt: skip


def _programs(site: Path) -> Path:
    """A folder in which all that a hub could have started is our gate."""
    folder = private_folder(site / STATE / "programs")
    text = f"#!/bin/sh\nexec '{sys.executable}' -m federated.site.gate \"$@\"\n"
    for name in TASK_TYPE_TO_COMMAND.values():
        write_whole(folder / name, text.encode())
        (folder / name).chmod(stat.S_IRWXU)
    return folder


def _authority(path: Path) -> bytes:
    """The certificate of a hub's authority.

    Raises:
        FederationError: The file is none.
    """
    try:
        x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        raise FederationError(
            f"{path} is no certificate; the hub's administrator sends {keys.CA}"
        ) from None
    return path.read_bytes()


def _said(log_file: Path, start: int) -> str:
    """What was appended to a log."""
    with log_file.open("rb") as file:
        file.seek(start)
        return file.read().decode(errors="replace")


def _toml_text(text: str) -> str:
    """A text as TOML."""
    return json.dumps(text, ensure_ascii=False)
