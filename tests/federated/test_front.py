"""The front: what it passes on, to whom, and the bytes it counts."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from federated import keys
from federated.children import free_port
from federated.hub.folder import Hub, create_hub, forget, register
from federated.hub.front import WHO, Bytes, front, read_traffic
from federated.task import Plan
from federated.wire import REFUSED

WEIGHTS = b"w" * 300_000


@pytest.fixture
def hub(tmp_path: Path, plan: Plan) -> Hub:
    """A hub with one registered site."""
    made = create_hub(tmp_path / "hub", "127.0.0.1", plan)
    (tmp_path / "north").mkdir()
    register(made, keys.make_site_key(tmp_path / "north"), "north", 100)
    return made


@asynccontextmanager
async def behind(hub: Hub) -> AsyncIterator[str]:
    """Something in the place of the SuperLink, which says what it was asked."""

    async def told(request: Request) -> Response:
        if request.headers.get("flwr-signature") == "bad":
            return Response("no", 401)
        await request.body()
        return Response(WEIGHTS, headers={"x-path": request.url.path})

    port = free_port()
    routes = [Route("/{path:path}", told, methods=["POST"])]
    server = uvicorn.Server(
        uvicorn.Config(
            Starlette(routes=routes), port=port, log_level="error", lifespan="off",
            ssl_certfile=str(hub.folder / keys.CERTIFICATE), ssl_keyfile=str(hub.folder / keys.KEY),
        )
    )  # fmt: skip
    server.capture_signals = lambda: asyncio.timeout(None)  # type: ignore[assignment]
    serving = asyncio.create_task(_serve(server))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield f"https://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving


async def _serve(server: uvicorn.Server) -> None:
    """Without its handling of signals."""
    await server._serve()


def ask(hub: Hub, *calls: tuple[str, dict[str, str], bytes]) -> list[httpx.Response]:
    """What the front answers to some calls."""

    async def main() -> list[httpx.Response]:
        trusted = ssl.create_default_context(cafile=str(hub.folder / keys.CA))
        async with (
            behind(hub) as superlink,
            front(hub, superlink, "127.0.0.1", 0) as port,
            httpx.AsyncClient(verify=trusted, timeout=30.0) as client,
        ):
            address = f"https://127.0.0.1:{port}"
            return [
                await client.post(address + path, headers=headers, content=body)
                for path, headers, body in calls
            ]

    return asyncio.run(main())


def test_a_registered_sites_call_is_passed_on_and_its_bytes_counted(hub: Hub) -> None:
    """Up and down, with TLS and headers, on the site's account."""
    who = {WHO: hub.sites[0].key}

    (answer,) = ask(hub, ("/v1/fleet/push-object", who, b"u" * 200_000))

    counted = read_traffic(hub.folder)["north"]
    assert (answer.status_code, answer.content) == (200, WEIGHTS)
    assert answer.headers["x-path"] == "/v1/fleet/push-object"
    assert 200_000 < counted.up < 210_000
    assert 300_000 < counted.down < 310_000


def test_sums_go_on_after_a_restart(hub: Hub) -> None:
    """A round's bytes are a difference of two sums."""
    (hub.folder / "traffic.json").write_text(json.dumps({"north": [1_000_000, 2_000_000]}))

    ask(hub, ("/v1/fleet/pull-messages", {WHO: hub.sites[0].key}, b""))

    counted = read_traffic(hub.folder)["north"]
    assert counted.up > 1_000_000
    assert counted.down > 2_300_000


@pytest.mark.parametrize(
    "path",
    ["/v1/control/start-run", "/v1/runtime/acquire-task", "/v1/fleet/register-node", "/docs", "/"],
)
def test_nothing_but_the_fleets_calls_is_there(hub: Hub, path: str) -> None:
    """Not even for a registered key."""
    (answer,) = ask(hub, (path, {WHO: hub.sites[0].key}, b""))

    assert answer.status_code == 404
    assert "x-path" not in answer.headers


def test_a_key_that_is_not_registered_gets_no_further(hub: Hub) -> None:
    """Nor one that was taken off the list while the hub runs."""
    key = hub.sites[0].key
    forget(hub, "north")

    answers = ask(
        hub,
        ("/v1/fleet/pull-messages", {WHO: key}, b""),
        ("/v1/fleet/pull-messages", {}, b""),
    )

    assert [answer.status_code for answer in answers] == [REFUSED, REFUSED]


def test_a_forged_signature_is_charged_to_nobody(hub: Hub) -> None:
    """The SuperLink refuses it; the site whose key it names must not be blamed for the bytes."""
    forged = {WHO: hub.sites[0].key, "flwr-signature": "bad"}

    (answer,) = ask(hub, ("/v1/fleet/push-object", forged, b"u" * 200_000))

    assert answer.status_code == 401
    assert read_traffic(hub.folder).get("north", Bytes()).up == 0


def test_a_request_without_an_end_is_refused(hub: Hub) -> None:
    """A site must not fill the hub's memory."""
    who = {WHO: hub.sites[0].key, "content-length": str(10**12)}

    async def main() -> bytes:
        trusted = ssl.create_default_context(cafile=str(hub.folder / keys.CA))
        async with behind(hub) as superlink, front(hub, superlink, "127.0.0.1", 0) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusted)
            lines = [f"{name}: {value}" for name, value in {**who, "host": "hub"}.items()]
            head = "\r\n".join(["POST /v1/fleet/push-object HTTP/1.1", *lines, "", ""])
            writer.write(head.encode())
            status = await reader.readline()
            writer.close()
            return status

    assert b"413" in asyncio.run(main())
