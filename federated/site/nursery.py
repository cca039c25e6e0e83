"""Apps forked from a process that has PyTorch loaded, so that no message waits for it.

``python -m federated.site.nursery SITE DOOR NETWORK``, which `federated.site.join` starts. Each
connection to the socket DOOR gets an app's process of its own, caged like one that was started
anew: the process here runs nothing of what a hub sent, and ends the app when its gate hangs up.
Linux only; without it, each app is a program that is started anew.
"""

import importlib
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from federated import children
from federated.site import caged_app

LENGTH = 8  # bytes that say how long a request is
READY = (
    "federated.site.client_app",
    "federated.site.parcel",
    "flwr.cli.install",
    "flwr.clientapp.utils",
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Running:
    """An app at work.

    Attributes:
        line: To its gate.
        process: Its id.
        ended: Becomes readable when it ends.
    """

    line: socket.socket
    process: int
    ended: int

    @property
    def numbers(self) -> tuple[int, int]:
        """File descriptors of both."""
        return self.line.fileno(), self.ended

    def close(self) -> None:
        """End it, if it has not ended; its gate hears that there is no more."""
        os.kill(self.process, signal.SIGKILL)
        os.waitpid(self.process, 0)
        os.close(self.ended)
        self.line.close()


def serve(site: Path, door: Path, *, network: bool) -> None:
    """Answer gates until ended.

    Args:
        site: Folder of the site.
        door: Path of the socket; its folder must be the site's user's alone.
        network: Whether apps keep the network.
    """
    for name in READY:
        importlib.import_module(name)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(door))
        listener.listen()
        watch = select.poll()
        watch.register(listener, select.POLLIN)
        running: dict[int, _Running] = {}
        while True:
            for number, _ in watch.poll():
                if number == listener.fileno():
                    app = _begin(listener, running.values(), site, network=network)
                    running |= dict.fromkeys(app.numbers, app)
                    watch.register(app.line, select.POLLRDHUP)
                    watch.register(app.ended, select.POLLIN)
                elif over := running.get(number):
                    for each in over.numbers:
                        watch.unregister(each)
                        del running[each]
                    over.close()


def _begin(
    listener: socket.socket, others: Iterable[_Running], site: Path, *, network: bool
) -> _Running:
    """Fork an app for the gate that has just rung; what it does not need is closed in it."""
    line, _ = listener.accept()
    process = os.fork()
    if not process:
        listener.close()
        for number in {number for other in others for number in other.numbers}:
            os.close(number)
        _answer(line, site, network=network)
    return _Running(line, process, os.pidfd_open(process))


def _answer(line: socket.socket, site: Path, *, network: bool) -> None:
    """Lock this process in, run the app, tell what it said, and end."""
    try:
        children.end_with_parent()
        with line.makefile("rwb") as pipe:
            scratch = Path(os.fsdecode(pipe.readline().rstrip(b"\n")))
            raw = pipe.read(int.from_bytes(pipe.read(LENGTH), "big"))
            os.environ.update(caged_app.bare_environment(scratch))
            caged_app.lock_in(site, scratch, network=network)
            pipe.write(caged_app.run(raw))
    except BaseException:
        log.exception("an app's process failed")
    finally:
        os._exit(0)


def main() -> None:
    """Serve the site that is named."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    site, door, network = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "network"
    if sys.platform == "linux":
        serve(site, door, network=network)


if __name__ == "__main__":
    main()
