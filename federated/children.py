"""Flower's own programs as child processes: found, quiet towards the outside, ended with us."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

POLL_S = "0.1"  # of Flower's SuperExec, how often it looks for work
STOP_S = 8.0  # a child that has not ended by then is killed
LOOK_S = 0.2  # between looks at whether a child still runs
_PR_SET_PDEATHSIG = 1


def environment(
    home: Path, more: Mapping[str, str] | None = None, first: Path | None = None
) -> dict[str, str]:
    """The environment of a Flower program.

    Args:
        home: Flower's own folder, so that hub, sites and users do not share one.
        more: Further variables.
        first: Folder whose programs are found before all others.
    """
    found = [str(first)] if first else []
    return {
        **os.environ,
        "PATH": os.pathsep.join([*found, str(Path(sys.executable).parent), os.environ["PATH"]]),
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": POLL_S,
        **(more or {}),
    }


def start(command: Sequence[str], env: Mapping[str, str], log: Path) -> "subprocess.Popen[bytes]":
    """Start a program in the background; what it says is appended to a log.

    It ends when this process ends, in whatever way: a hub that was killed must not leave a
    SuperLink behind that holds its database.
    """
    with log.open("ab") as file:
        return subprocess.Popen(  # noqa: S603 - programs of our own environment
            list(command), env=dict(env), stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            preexec_fn=end_with_parent,
        )  # fmt: skip


def wait(child: "subprocess.Popen[bytes]", ended: threading.Event) -> float:
    """Wait until a program ends, or until it shall: then it is ended. Seconds that it ran."""
    began = time.monotonic()
    while child.poll() is None and not ended.wait(LOOK_S):
        continue
    stop(child)
    return time.monotonic() - began


def stop(child: "subprocess.Popen[bytes]") -> None:
    """End a program, gently first."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
    child.wait()


def free_port() -> int:
    """A port of the loopback interface that nobody uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def end_with_parent() -> None:
    """Ask Linux to end this process with its parent; elsewhere Flower's own checks must do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
