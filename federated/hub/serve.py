"""A running hub: Flower's SuperLink on the loopback interface, and the front before it."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from federated import children, keys
from federated.errors import FederationError
from federated.files import private_folder, write_whole
from federated.hub.folder import RUNNING, Hub, control, is_running, running, tell_superlink
from federated.hub.front import front
from federated.hub.runs import stop_runs

log = logging.getLogger(__name__)

PORT = 9092  # on which sites reach a hub unless --port says otherwise
START_S = 60.0  # in which a SuperLink must answer
WATCH_S = 1.0  # between looks at whether it still runs
HUB_FOLDER = "CONSILIUM_HUB"  # tells the ServerApp, a child of the SuperLink, whose it is


def serve(
    hub: Hub, host: str = "127.0.0.1", port: int = PORT, ready: Callable[[int], None] | None = None
) -> None:
    """Run the hub until it is interrupted; a SuperLink that dies is started again.

    Args:
        hub: Which.
        host: Address to listen on; only the loopback interface unless it is said.
        port: Likewise; 0 takes a free one.
        ready: Called with the port once sites may come.

    Raises:
        FederationError: It runs already, or the SuperLink does not start.
    """
    _refuse_two(hub)
    keys.renew_certificate(hub.folder, hub.host)
    private_folder(hub.folder / "flower")
    inner = children.free_port()
    with _ended(_superlink(hub, inner)) as children_of_hub:
        try:
            asyncio.run(_serve(hub, host, port, inner, children_of_hub, ready))
        finally:
            (hub.folder / RUNNING).unlink(missing_ok=True)


async def _serve(
    hub: Hub,
    host: str,
    port: int,
    inner: int,
    superlink: list["subprocess.Popen[bytes]"],
    ready: Callable[[int], None] | None,
) -> None:
    """Front and SuperLink side by side, until a signal comes."""
    stop = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    await asyncio.to_thread(_await_superlink, hub, inner, superlink)
    async with front(hub, f"https://127.0.0.1:{inner}", host, port) as reached:
        told = {"superlink": inner, "front": reached, "process": os.getpid()}
        write_whole(hub.folder / RUNNING, json.dumps(told).encode(), private=True)
        _greet(hub)
        if ready:
            ready(reached)
        while not stop.is_set():
            if superlink[-1].poll() is not None:
                log.warning("the SuperLink ended; it is started again")
                superlink.append(_superlink(hub, inner))
                await asyncio.to_thread(_await_superlink, hub, inner, superlink)
                _greet(hub)
            try:
                await asyncio.wait_for(stop.wait(), WATCH_S)
            except TimeoutError:
                continue


def _greet(hub: Hub) -> None:
    """Tell a SuperLink that was just started which sites there are, and that old runs are over.

    Their ServerApp died with the SuperLink before it, which cannot know.
    """
    with control(hub) as client:
        tell_superlink(hub, client)
    stop_runs(hub)


def _superlink(hub: Hub, port: int) -> "subprocess.Popen[bytes]":
    """Start the SuperLink; only registered keys, nothing installed, its state in a file."""
    command = [
        "flower-superlink",
        "--host", "127.0.0.1", "--port", str(port),
        "--ssl-certfile", str(hub.folder / keys.CERTIFICATE),
        "--ssl-keyfile", str(hub.folder / keys.KEY),
        "--ssl-ca-certfile", str(hub.folder / keys.CA),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
        "--database", str(hub.folder / "state.db"),
    ]  # fmt: skip
    home = hub.folder / "flower"
    env = children.environment(home, {HUB_FOLDER: str(hub.folder.resolve())})
    return children.start(command, env, hub.folder / "superlink.log")


def _await_superlink(hub: Hub, port: int, superlink: list["subprocess.Popen[bytes]"]) -> None:
    """Wait until the SuperLink answers.

    Raises:
        FederationError: It does not, in `START_S`.
    """
    trusted = str(hub.folder / keys.CA)
    until = time.monotonic() + START_S
    with httpx.Client(verify=httpx.create_ssl_context(verify=trusted)) as client:
        while time.monotonic() < until and superlink[-1].poll() is None:
            try:
                client.get(f"https://127.0.0.1:{port}/health", timeout=2.0)
            except httpx.TransportError:
                time.sleep(0.1)
            else:
                return
    raise FederationError(
        f"Flower's SuperLink does not start; {hub.folder / 'superlink.log'} says why"
    )


@contextmanager
def _ended(first: "subprocess.Popen[bytes]") -> Iterator[list["subprocess.Popen[bytes]"]]:
    """A list of child processes, all of which have ended after the block."""
    started = [first]
    try:
        yield started
    finally:
        for child in started:
            children.stop(child)


def _refuse_two(hub: Hub) -> None:
    """Two SuperLinks on one database would each answer half of the sites.

    Raises:
        FederationError: The hub runs already.
    """
    if is_running(hub) and b"hub" in _command_of(running(hub)["process"]):
        raise FederationError(f"this hub runs already, as process {running(hub)['process']}")


def _command_of(process: int) -> bytes:
    """What a process was started as; after a crash its number may be another's."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return b""
