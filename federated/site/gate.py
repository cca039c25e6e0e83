"""The site's gate: stands where Flower's SuperNode expects its own ``flwr-clientapp``.

`consilium join` puts a folder in front of PATH in which every program that a SuperNode could start
for a hub is this one. It fetches the task, holds the app's SHA-256 and the message against the
site's policy, lets the app work in a cage that has neither the task's token nor a connection, and
sends only what `federated.site.guard` made of the answer. It imports no PyTorch: it must be there
before the SuperNode gives the task up.
"""

import argparse
import contextlib
import copy
import ctypes
import functools
import hashlib
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from flwr.app import Context, Error, Message
from flwr.common.args import add_args_flwr_app_common, try_obtain_flwr_app_token
from flwr.common.constant import ErrorCode, SubStatus
from flwr.supercore.app_utils import start_parent_process_monitor
from flwr.supercore.fab import Fab
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import RuntimeTokenHttpInterceptor, RuntimeVersionHttpInterceptor
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output
from sqlalchemy.engine import make_url

from federated.children import environment
from federated.site import guard, secure
from federated.site.caged_app import bare_environment
from federated.site.ledger import Ledger
from federated.site.nursery import LENGTH
from federated.site.parcel import Parcel
from federated.site.policy import PolicyError, SitePolicy, read_policy
from federated.site.received import keep

log = logging.getLogger(__name__)

SITE = "CONSILIUM_SITE"  # the site's folder, in the environment of the SuperNode
NURSERY = "CONSILIUM_NURSERY"  # likewise, the socket of `federated.site.nursery`
WORK_S = 3600.0  # an app that has not answered by then is ended; the hub waits no longer either
SPARE_BYTES = 4_000_000  # what an answer may be longer than the weights: context, buffers at home


class CageError(PolicyError):
    """The app did not answer, or not with a message."""


def main() -> int:
    """Do one task."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runtime-api-address", required=True)
    add_args_flwr_app_common(parser)
    args = parser.parse_args()
    if args.parent_pid is not None:
        start_parent_process_monitor(args.parent_pid)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    token = try_obtain_flwr_app_token(args)
    with _supernode(args.runtime_api_address, token) as client:
        _task(client, Path(os.environ[SITE]))
    return 0


@contextlib.contextmanager
def _supernode(address: str, token: str) -> Iterator[RuntimeHttpClient]:
    """The SuperNode, which must hear from us as long as we work."""
    client = RuntimeHttpClient.from_server_address(
        server_address=address,
        insecure=True,  # the loopback interface of this machine
        root_certificates=None,
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"),
            RuntimeTokenHttpInterceptor(token),
        ],
        retry_invoker=make_simple_http_retry_invoker(),
    )
    heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
    heartbeat.start()
    try:
        yield client
    finally:
        heartbeat.stop()
        client.close()


def _task(client: RuntimeHttpClient, site: Path) -> None:
    """Fetch a task, answer it, and give the node its memory back."""
    message, context, _, fab = pull_task_input(client)
    reply, after = answer(message, context, fab, site)
    push_message(client, reply, after)
    done = SubStatus.FAILED if reply.has_error() else SubStatus.COMPLETED
    push_task_output(client, after, done, (reply.error.reason or "") if reply.has_error() else "")


def answer(message: Message, context: Context, fab: Fab, site: Path) -> tuple[Message, Context]:
    """What may leave in reply to a message, and the node's memory after it.

    Args:
        message: From the hub.
        context: Of the node.
        fab: The app that the hub wants to run here.
        site: Folder of the site.
    """
    before = copy.deepcopy(context)
    try:
        policy = read_policy(site)
        policy.check_app(hashlib.sha256(fab.content).hexdigest())
        keep(message, policy, site)
        run = functools.partial(_caged, fab, site, policy)
        generator = np.random.default_rng()
        reply = secure.answer(message, context, policy, Ledger(site), generator, run)
    except PolicyError as error:
        reply = guard.refusal(message, error)
    except Exception as error:  # a full disk, say: the ledger could not be written
        log.exception("the round failed at this site")
        reason = f"the round failed at a site ({type(error).__name__}); its own log says more"
        reply = Message(Error(ErrorCode.UNKNOWN, reason), reply_to=message)
    return reply, before if reply.has_error() else context


def _caged(
    fab: Fab,
    site: Path,
    policy: SitePolicy,
    message: Message,
    context: Context,
) -> Message:
    """Let the app work in the cage; its memory replaces that of `context`.

    Raises:
        CageError: It did not answer in `WORK_S`, with too much, or with no message.
    """
    sent = Parcel(message, context, fab, TaskIdentity.task_id or 0)
    largest = 4 * policy.numbers + SPARE_BYTES
    with tempfile.TemporaryDirectory(prefix="consilium-app-") as scratch:
        raw = _worked(site, Path(scratch), sent.pack(), largest)
    if not raw or len(raw) > largest:
        raise CageError("the app did not answer, or with more than weights; this site's log has it")
    try:
        parcel = Parcel.unpack(raw)
    except Exception as error:
        raise CageError(f"the app answered with no message ({type(error).__name__})") from None
    context.state = parcel.context.state  # in place: secure aggregation puts its keys back there
    return parcel.message


def _worked(site: Path, scratch: Path, told: bytes, largest: int) -> bytes:
    """What an app says, in a process of the site's nursery, or one started anew without it."""
    with socket.socket(socket.AF_UNIX) as line:
        try:
            line.connect(os.environ.get(NURSERY, ""))
        except OSError:
            return _heard(_command(site, scratch), _bare(scratch), told, largest)
        limit = threading.Timer(WORK_S, line.shutdown, [socket.SHUT_RDWR])
        limit.start()
        try:
            with line.makefile("rwb") as pipe:
                pipe.write(b"%b\n%b" % (os.fsencode(scratch), len(told).to_bytes(LENGTH, "big")))
                pipe.write(told)
                pipe.flush()
                return pipe.read(largest + 1)
        except OSError:  # it died
            return b""
        finally:
            limit.cancel()


def _command(site: Path, scratch: Path) -> Sequence[str]:
    """How the cage is started."""
    return [
        sys.executable,
        "-m",
        "federated.site.caged_app",
        str(site),
        str(scratch),
        network(site),
    ]


def network(site: Path) -> str:
    """Whether apps must reach the site's database over a "network", or are "alone"."""
    database = tomllib.loads((site / "site.toml").read_text()).get("database") or "sqlite://"
    return "alone" if make_url(database).get_backend_name() == "sqlite" else "network"


def _bare(scratch: Path) -> dict[str, str]:
    """An environment in which nothing points to Flower's own processes or the site's policy."""
    env = environment(scratch, bare_environment(scratch))
    return {name: value for name, value in env.items() if name not in (SITE, NURSERY)}


def _heard(command: Sequence[str], env: dict[str, str], told: bytes, largest: int) -> bytes:
    """Start a program, tell it something, and read at most one byte more than `largest`."""
    with subprocess.Popen(  # noqa: S603 - our own Python
        list(command), env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        preexec_fn=_die_with_gate,
    ) as child:  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        limit = threading.Timer(WORK_S, child.kill)
        limit.start()
        threading.Thread(target=_tell, args=(child.stdin, told), daemon=True).start()
        try:
            return child.stdout.read(largest + 1)
        finally:
            limit.cancel()
            child.kill()


def _tell(pipe: IO[bytes], told: bytes) -> None:
    """Write into a pipe, which a child that dies closes."""
    with contextlib.suppress(OSError), pipe:
        pipe.write(told)


def _die_with_gate() -> None:
    """End the app with the gate."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
