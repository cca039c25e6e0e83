"""The hub's folder: its keys, its plan, and the sites it knows by key, name and size of cohort.

hub.toml      name of the machine that the sites reach
plan.json     what hub and sites agreed on
sites.json    the registered sites
hub-ca.crt    the authority that the sites get; hub-ca.key, hub.crt, hub.key beside it
state.db      Flower's SuperLink
trainings/    rounds of each training, its progress and what travelled
"""

import base64
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
from flwr.proto.control_pb2 import ListNodesRequest, RegisterNodeRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.retry import RetryInvoker, make_simple_http_retry_invoker

from federated import keys
from federated.errors import FederationError
from federated.files import PLAN, private_folder, write_whole

if TYPE_CHECKING:  # PyTorch comes with it, which a hub that only passes messages on has no use for
    from federated.task import Plan

HUB, SITES, RUNNING, TRAFFIC = "hub.toml", "sites.json", "running.json", "traffic.json"
TRAININGS = "trainings"
TRIES = 5  # of a call of the SuperLink's control
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?")


@dataclass(frozen=True)
class Member:
    """A site that may take part.

    Attributes:
        name: By which reports name it.
        cases: Size of its cohort, as its administrator told the hub's; what it weighs.
        key: Its public key, base64 of PEM: how Flower names it in every request.
    """

    name: str
    cases: int
    key: str

    @property
    def pem(self) -> bytes:
        """Its public key as the SuperLink keeps it."""
        return base64.b64decode(self.key)


@dataclass(frozen=True)
class Hub:
    """A hub's folder.

    Attributes:
        folder: Where it is.
        host: Name or address by which the sites reach it.
    """

    folder: Path
    host: str

    @property
    def plan(self) -> "Plan":
        """What hub and sites agreed on."""
        from federated.plan_file import read_plan

        return read_plan(self.folder / PLAN)

    @property
    def sites(self) -> tuple[Member, ...]:
        """The registered sites, by name."""
        return read_sites(self.folder)

    @property
    def trainings(self) -> tuple[Path, ...]:
        """Folders of the trainings so far, the latest last."""
        return tuple(sorted((self.folder / TRAININGS).glob("[0-9][0-9][0-9]")))


def create_hub(folder: Path, host: str, plan: "Plan") -> Hub:
    """Make a hub's folder, its authority and its certificate.

    Raises:
        FederationError: There is a hub already, or the host is none.
    """
    if (folder / HUB).exists():
        raise FederationError(f"{folder} is a hub already; its keys were not touched")
    if not _HOST.fullmatch(host):
        raise FederationError(f"--host {host!r} is neither the name nor the address of a machine")
    from federated.plan_file import write_plan

    private_folder(folder)
    keys.make_authority(folder)
    keys.make_certificate(folder, host)
    write_plan(plan, folder / PLAN)
    write_whole(folder / SITES, b"[]\n")
    (folder / TRAININGS).mkdir(exist_ok=True)
    write_whole(folder / HUB, f"host = {json.dumps(host)}\n".encode())
    return Hub(folder, host)


def open_hub(folder: Path) -> Hub:
    """Read a hub's folder.

    Raises:
        FederationError: It is none.
    """
    try:
        told = tomllib.loads((folder / HUB).read_text(encoding="utf-8"))
        return Hub(folder, str(told["host"]))
    except OSError:
        raise FederationError(
            f"{folder} is not a hub: it has no {HUB}; make one with `consilium hub init {folder}`"
        ) from None
    except (ValueError, KeyError):
        raise FederationError(f"{folder / HUB} is damaged; it holds one line: host") from None


def read_sites(folder: Path) -> tuple[Member, ...]:
    """The registered sites of a hub's folder.

    Raises:
        FederationError: The list is missing or damaged.
    """
    path = folder / SITES
    try:
        return tuple(Member(**entry) for entry in json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):
        raise FederationError(f"{path} is damaged or missing; register the sites again") from None


def register(hub: Hub, public_key: Path, name: str, cases: int) -> Member:
    """Let a site take part, or change its number of cases or its key.

    Raises:
        FederationError: Name, number or key cannot be used, or the key is another site's.
    """
    if not _NAME.fullmatch(name):
        raise FederationError(f"--name {name!r} is no name of small letters, digits and hyphens")
    if not 1 <= cases <= 10**7:
        raise FederationError(f"--cases {cases} is no size of a cohort")
    site = Member(name, cases, keys.read_public_key(public_key))
    others = [other for other in hub.sites if other.name != name]
    if any(other.key == site.key for other in others):
        raise FederationError(f"{public_key} is registered already, under another name")
    _write_sites(hub, [*others, site])
    return site


def forget(hub: Hub, name: str) -> None:
    """Take a site off the list; the front refuses it from the next request on.

    Raises:
        FederationError: No site has that name.
    """
    left = [site for site in hub.sites if site.name != name]
    if len(left) == len(hub.sites):
        raise FederationError(f"no site is called {name!r}; `consilium hub status` lists them")
    _write_sites(hub, left)


def _write_sites(hub: Hub, sites: list[Member]) -> None:
    """Write the list, by name."""
    told = [asdict(site) for site in sorted(sites, key=lambda site: site.name)]
    write_whole(hub.folder / SITES, f"{json.dumps(told, indent=1)}\n".encode())


# -- the SuperLink behind it ---------------------------------------------------------------


@contextmanager
def control(hub: Hub) -> Iterator[ControlHttpClient]:
    """Flower's control of the running SuperLink, over the loopback interface.

    Raises:
        FederationError: The hub does not run.
    """
    client = ControlHttpClient.from_server_address(
        f"127.0.0.1:{running(hub)['superlink']}",
        insecure=False,
        root_certificates=(hub.folder / keys.CA).read_bytes(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr")],
        retry_invoker=_patient(),
    )
    try:
        yield client
    except httpx.HTTPError as error:
        raise FederationError(
            f"the hub's SuperLink does not answer as it should ({error}); "
            f"{hub.folder / 'superlink.log'} says more"
        ) from None
    finally:
        client.close()


def _patient() -> RetryInvoker:
    """Try a call a few times: a SuperLink that starts again, or is busy, answers soon."""
    invoker = make_simple_http_retry_invoker()
    invoker.max_tries = TRIES
    return invoker


def running(hub: Hub) -> Mapping[str, int]:
    """Ports and process of the running hub.

    Raises:
        FederationError: It does not run.
    """
    try:
        told: dict[str, int] = json.loads((hub.folder / RUNNING).read_text())
    except (OSError, ValueError):
        raise FederationError(
            f"the hub does not run; start it with `consilium hub start {hub.folder}`"
        ) from None
    return told


def tell_superlink(hub: Hub, client: ControlHttpClient) -> None:
    """Make the SuperLink know the registered sites.

    One that is forgotten stays known there, and is refused by the front: so it can be registered
    again, which Flower does not allow of a key that it has dropped.
    """
    known = {node.public_key for node in client.ListNodes(ListNodesRequest()).nodes_info}
    for site in hub.sites:
        if site.pem not in known:
            client.RegisterNode(RegisterNodeRequest(public_key=site.pem, name=site.name))


def is_running(hub: Hub) -> bool:
    """Whether the hub's process is alive."""
    try:
        os.kill(running(hub)["process"], 0)
    except (FederationError, ProcessLookupError, KeyError):
        return False
    except PermissionError:
        return True
    return True


def online(hub: Hub) -> set[str]:
    """Names of the registered sites that are there now."""
    with control(hub) as client:
        nodes = client.ListNodes(ListNodesRequest()).nodes_info
    there = {node.public_key for node in nodes if node.status == "online"}
    return {site.name for site in hub.sites if site.pem in there}
