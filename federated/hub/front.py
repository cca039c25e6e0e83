"""What the sites reach of the hub: Flower's fleet calls over TLS, and nothing else.

The SuperLink serves its fleet, control and runtime interfaces on one port, and whoever reaches
the control interface may register keys and start runs. So it listens on the loopback interface,
and this front passes on a closed list of calls of registered keys. The SuperLink itself checks
their signatures.

In front of the front a relay counts the bytes of every connection as they are on the wire,
encrypted and with all headers; the front says whose they were.
"""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from federated import keys
from federated.errors import FederationError
from federated.files import write_whole
from federated.hub.folder import SITES, TRAFFIC, Hub, read_sites
from federated.wire import REFUSED

log = logging.getLogger(__name__)

# Of Flower's fleet interface all but register-node and unregister-node: keys are registered by
# the hub's administrator.
CALLS = (
    "activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "push-messages",
    "get-run", "get-fab", "push-object", "pull-object", "confirm-message-received",
)  # fmt: skip
WHO = "flwr-public-key"  # header in which a site names its key, and signs below
LARGEST_BYTES = 32_000_000  # of one request; a network of 20 MB travels as one object
ANSWER_S = 60.0  # the SuperLink answers at once; one that hangs must not hold a site
QUIET_S = 120.0  # a connection on which nothing moves is closed; a site speaks every 30 s
BLOCK = 1 << 16
_STAY = {"host", "connection", "transfer-encoding", "keep-alive", "upgrade", "te", "expect"}


@dataclass
class Bytes:
    """What went over the wire, seen from the site."""

    up: int = 0
    down: int = 0


@dataclass
class Meter:
    """Counts bytes per connection, and per site once the site is known.

    Attributes:
        path: Gets the sums of all sites as JSON.
        open: Bytes of each open connection that no site has been charged with yet, by the port
            under which the front sees the connection.
        sites: Sums since the hub was made, by name.
    """

    path: Path
    open: dict[int, Bytes] = field(default_factory=dict)
    owners: dict[int, str] = field(default_factory=dict)
    sites: dict[str, Bytes] = field(default_factory=dict)

    def charge(self, port: int, site: str) -> None:
        """Put what a connection has carried on a site's account, and what it will carry."""
        self.owners[port] = site
        self.settle(port)

    def settle(self, port: int) -> None:
        """Move a connection's bytes to its site, and keep the sums."""
        carried, site = self.open.get(port), self.owners.get(port)
        if carried is None or site is None:
            return
        account = self.sites.setdefault(site, Bytes())
        account.up, account.down = account.up + carried.up, account.down + carried.down
        carried.up = carried.down = 0
        with suppress(OSError):  # a full disk must not stop the sites' messages
            write_whole(self.path, json.dumps(traffic_json(self.sites)).encode())

    def close(self, port: int) -> None:
        """Settle a connection that has ended."""
        self.settle(port)
        self.open.pop(port, None)
        self.owners.pop(port, None)


def traffic_json(sites: Mapping[str, Bytes]) -> dict[str, list[int]]:
    """Bytes up and down by site, as the file holds them."""
    return {name: [count.up, count.down] for name, count in sites.items()}


def read_traffic(folder: Path) -> dict[str, Bytes]:
    """Bytes of each site since the hub was made; none where nothing has been counted."""
    try:
        told = json.loads((folder / TRAFFIC).read_text())
        return {name: Bytes(*counts) for name, counts in told.items()}
    except (OSError, ValueError):
        return {}


class Register:
    """The registered keys as the file has them now."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._seen, self._names = folder, 0.0, dict[str, str]()

    def name(self, key: str | None) -> str | None:
        """Who has a key; None where nobody has."""
        with suppress(FederationError, OSError):
            changed = (self._folder / SITES).stat().st_mtime
            if changed != self._seen:
                self._names = {site.key: site.name for site in read_sites(self._folder)}
                self._seen = changed
        return self._names.get(key or "")


def front_app(hub: Hub, superlink: str, meter: Meter) -> Starlette:
    """The front as an application.

    Args:
        hub: Whose registered sites may pass.
        superlink: URL of the SuperLink.
        meter: Is told whose bytes were whose.
    """
    register = Register(hub.folder)
    trusted = ssl.create_default_context(cafile=str(hub.folder / keys.CA))
    inside = httpx.AsyncClient(base_url=superlink, verify=trusted, timeout=ANSWER_S)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with inside:
            yield

    async def fleet(request: Request) -> Response:
        """Pass one call on, of a registered key."""
        site = register.name(request.headers.get(WHO))
        if site is None:
            log.warning("refused: a request of a key that is not registered")
            return Response("this key is not registered at the hub", REFUSED)
        if int(request.headers.get("content-length", LARGEST_BYTES + 1)) > LARGEST_BYTES:
            return Response("too large", 413)
        return await _pass_on(request, inside, meter, site)

    routes = [Route(f"/v1/fleet/{call}", fleet, methods=["POST"]) for call in CALLS]
    return Starlette(routes=routes, lifespan=lifespan)


async def _pass_on(
    request: Request, inside: httpx.AsyncClient, meter: Meter, site: str
) -> Response:
    """The SuperLink's answer, as it comes; 503 where it does not answer, so that sites retry."""
    headers = [(n, v) for n, v in request.headers.items() if n not in _STAY]
    ask = inside.build_request("POST", request.url.path, headers=headers, content=request.stream())
    try:
        answer = await inside.send(ask, stream=True)
    except (httpx.TransportError, ClientDisconnect):
        return Response("the hub's SuperLink does not answer", 503)
    port = request.client.port if request.client else 0

    async def body() -> AsyncIterator[bytes]:
        try:
            async for block in answer.aiter_raw():
                yield block
        finally:
            await answer.aclose()
            if answer.status_code == httpx.codes.OK:  # so the SuperLink found the signature good
                meter.charge(port, site)

    kept = {n: v for n, v in answer.headers.items() if n.lower() not in _STAY}
    return StreamingResponse(body(), answer.status_code, headers=kept)


# -- bytes on the wire ---------------------------------------------------------------------


async def relay(
    port: int, meter: Meter, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Carry one connection to the front, counting what passes."""
    try:
        inner, outer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        writer.close()
        return
    name = outer.get_extra_info("sockname")[1]
    count = meter.open.setdefault(name, Bytes())
    try:
        await asyncio.gather(
            _carry(reader, outer, lambda n: setattr(count, "up", count.up + n)),
            _carry(inner, writer, lambda n: setattr(count, "down", count.down + n)),
        )
    finally:
        meter.close(name)
        for end in (writer, outer):
            end.close()


async def _carry(
    source: asyncio.StreamReader, sink: asyncio.StreamWriter, counted: Callable[[int], None]
) -> None:
    """One direction of a connection, until it ends or nothing moves any more."""
    with suppress(OSError, asyncio.TimeoutError):
        while block := await asyncio.wait_for(source.read(BLOCK), QUIET_S):
            counted(len(block))
            sink.write(block)
            await sink.drain()
    sink.close()


@asynccontextmanager
async def front(hub: Hub, superlink: str, host: str, port: int) -> AsyncIterator[int]:
    """Serve the front while the block runs; gives the port on which sites reach it.

    Args:
        hub: Whose keys and sites.
        superlink: URL of the SuperLink.
        host: Address to listen on.
        port: Likewise; 0 takes a free one.
    """
    meter = Meter(hub.folder / TRAFFIC, sites=read_traffic(hub.folder))
    server = _QuietServer(
        uvicorn.Config(
            front_app(hub, superlink, meter), host="127.0.0.1", port=0, log_level="critical",
            ssl_certfile=str(hub.folder / keys.CERTIFICATE), ssl_keyfile=str(hub.folder / keys.KEY),
            server_header=False, access_log=False, timeout_graceful_shutdown=3, lifespan="on",
        )
    )  # fmt: skip
    serving = asyncio.create_task(server.serve())
    while not server.started:
        if serving.done():
            raise FederationError("the hub's front did not start; its log says why")
        await asyncio.sleep(0.05)
    inner = server.servers[0].sockets[0].getsockname()[1]
    try:
        outer = await asyncio.start_server(lambda r, w: relay(inner, meter, r, w), host, port)
    except OSError as error:
        server.should_exit = True
        await serving
        raise FederationError(
            f"port {port} of {host} cannot be had ({error.strerror}); choose another with --port"
        ) from None
    try:
        yield outer.sockets[0].getsockname()[1]
    finally:
        outer.close()
        server.should_exit = True
        await serving


class _QuietServer(uvicorn.Server):
    """Leaves the signals to the hub."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take none."""
        yield
