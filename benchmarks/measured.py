"""What a program with all its processes costs: time, processor, memory, bytes on the wire.

The program runs in a network of its own, where only the loopback interface is, so that every
byte seen there is its own; it needs ``unshare`` and ``ip`` (Linux), and without them there is no
count of bytes. Processors are counted by the kernel, also of processes that are gone, or by looking
at the processes, whichever is more: the kernel forgets those that nobody waited for.
"""

import ctypes
import json
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

import psutil

SAMPLE_S = 0.3  # between looks at the processes
END_S = 10.0  # what still runs so long after the program ended is killed
_SUBREAPER, _ALL_PROTOCOLS, _OUTGOING, _TCP = 36, 3, 4, 6
_STATISTICS = (263, 6)  # of a packet socket: how many came, how many were lost
_BUFFER_BYTES = 1 << 26


@dataclass
class Part:
    """The processes of one role, such as the hub with its children.

    Attributes:
        cpu_s: Of all of them, as last seen: short of what each did after the last look at it.
        peak_mb: Resident memory of the largest group, a process with its children; pages that
            two of them share count twice.
        groups: How many there were.
    """

    cpu_s: float = 0.0
    peak_mb: float = 0.0
    groups: int = 0


@dataclass
class Usage:
    """What a program cost.

    Attributes:
        code: Its exit code.
        seconds: From start to end.
        cpu_s: Of all processes, those that are gone included.
        parts: By role.
        others_s: Of processors, what else the machine did meanwhile.
        wire_bytes: Over the loopback interface; None where it could not be counted.
        ports: Bytes to and from each port.
        lost: Packets that were not counted.
    """

    code: int
    seconds: float
    cpu_s: float
    parts: dict[str, Part]
    others_s: float = 0.0
    wire_bytes: int | None = None
    ports: dict[str, tuple[int, int]] = field(default_factory=dict)
    lost: int = 0


def measure(
    command: Sequence[str],
    roles: Mapping[str, str],
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    timeout_s: float = 900.0,
) -> Usage:
    """Run a program and say what it cost.

    Args:
        command: The program.
        roles: Name of a role, and the pattern of the command lines that begin it; children
            belong to their parents' role unless they begin one themselves.
        folder: Gets ``log.txt`` and ``usage.json``.
        env: Further variables.
        timeout_s: After which it is ended.
    """
    order = {"command": list(command), "roles": dict(roles), "timeout_s": timeout_s}
    (folder / "order.json").write_text(json.dumps(order))
    watcher = [*_own_network(), sys.executable, "-m", "benchmarks.measured", str(folder)]
    subprocess.run(watcher, env={**os.environ, **(env or {})}, check=True)
    return read_usage(folder)


def read_usage(folder: Path) -> Usage:
    """What `measure` left in a folder."""
    told = json.loads((folder / "usage.json").read_text())
    parts = {name: Part(**part) for name, part in told.pop("parts").items()}
    ports = {port: (to, back) for port, (to, back) in told.pop("ports").items()}
    return Usage(parts=parts, ports=ports, **told)


@cache
def _own_network() -> tuple[str, ...]:
    """The command that puts another into a network of its own; nothing where that is refused."""
    if not shutil.which("unshare") or not shutil.which("ip"):
        return ()
    for flags in ("-n", "-rn"):
        tried = subprocess.run(["unshare", flags, "ip", "link", "set", "lo", "up"], check=False)
        if tried.returncode == 0:
            return ("unshare", flags)
    return ()


# -- the watcher, in a process of its own --------------------------------------------------


class Wire(threading.Thread):
    """Counts what passes the loopback interface, by port.

    Attributes:
        to: Bytes to each port.
        back: Bytes from each port.
        total: Of all.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.to: Counter[int] = Counter()
        self.back: Counter[int] = Counter()
        self.total = 0
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        with suppress(OSError):  # a smaller buffer may lose packets, which is told
            self._socket.setsockopt(socket.SOL_SOCKET, 33, _BUFFER_BYTES)
        self._socket.bind(("lo", _ALL_PROTOCOLS))

    def run(self) -> None:
        """Look at the beginning of each packet."""
        head = bytearray(96)
        while True:
            size, where = self._socket.recvfrom_into(head, len(head), socket.MSG_TRUNC)
            if where[2] == _OUTGOING:  # each packet passes twice, out and in
                continue
            self.total += size
            version = head[0] >> 4
            start = 4 * (head[0] & 15) if version == 4 else 40
            if head[9 if version == 4 else 6] == _TCP:
                self.back[int.from_bytes(head[start : start + 2])] += size
                self.to[int.from_bytes(head[start + 2 : start + 4])] += size

    def lost(self) -> int:
        """Packets that were not looked at."""
        told = self._socket.getsockopt(*_STATISTICS, 8)
        return int.from_bytes(told[4:], sys.byteorder)


class Watch:
    """What the processes below this one have used so far.

    Args:
        roles: As for `measure`.
    """

    def __init__(self, roles: Mapping[str, str]) -> None:
        self._roles = {name: re.compile(pattern) for name, pattern in roles.items()}
        self._cpu: dict[tuple[str, int], dict[int, float]] = {}
        self._peak: dict[tuple[str, int], float] = {}

    def look(self) -> None:
        """Look at all of them once."""
        below = {process.pid: process for process in psutil.Process().children(recursive=True)}
        told = {pid: role for pid, process in below.items() if (role := self._role(process))}
        memory: Counter[tuple[str, int]] = Counter()
        for process in below.values():
            with suppress(psutil.Error), process.oneshot():
                if not process.cmdline():  # it is about to be gone
                    continue
                group = _group(process, below, told)
                self._cpu.setdefault(group, {})[process.pid] = sum(process.cpu_times()[:2])
                memory[group] += process.memory_info().rss
        for group, size in memory.items():
            self._peak[group] = max(self._peak.get(group, 0.0), size / 1e6)

    def parts(self) -> dict[str, Part]:
        """What was seen, by role."""
        found: dict[str, Part] = {}
        for (role, pid), seconds in self._cpu.items():
            part = found.setdefault(role, Part())
            part.cpu_s += sum(seconds.values())
            part.peak_mb = max(part.peak_mb, self._peak[role, pid])
            part.groups += 1
        return found

    def _role(self, process: psutil.Process) -> str | None:
        """The role that a process begins."""
        with suppress(psutil.Error):
            line = " ".join(process.cmdline())
            return next((name for name, p in self._roles.items() if p.search(line)), None)
        return None


def _group(
    process: psutil.Process, below: Mapping[int, psutil.Process], told: Mapping[int, str]
) -> tuple[str, int]:
    """Role of a process, and the uppermost process of that role above it."""
    role, first, pid = "", 0, process.pid
    while pid in below:
        if pid in told and told[pid] == (role or told[pid]):
            role, first = told[pid], pid
        pid = below[pid].ppid()
    return role or "rest", first


def main() -> None:
    """Run what the folder orders, and leave there what it cost."""
    folder = Path(sys.argv[1])
    order = json.loads((folder / "order.json").read_text())
    ctypes.CDLL(None).prctl(_SUBREAPER, 1)  # whoever loses its parent stays below this process
    wire = _listen()
    watch, began, busy = Watch(order["roles"]), time.monotonic(), _busy_s()
    with (folder / "log.txt").open("wb") as log:
        child = subprocess.Popen(order["command"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        code = _await(child.pid, watch, began + order["timeout_s"])
    seconds = time.monotonic() - began
    _end_all()
    used, parts = resource.getrusage(resource.RUSAGE_CHILDREN), watch.parts()
    seen = sum(part.cpu_s for part in parts.values())
    usage = Usage(code, seconds, max(seen, used.ru_utime + used.ru_stime), parts)
    own = resource.getrusage(resource.RUSAGE_SELF)
    usage.others_s = _busy_s() - busy - usage.cpu_s - own.ru_utime - own.ru_stime
    if wire:
        usage.wire_bytes, usage.lost = wire.total, wire.lost()
        used_ports = [port for port, size in wire.to.items() if size + wire.back[port] > 1e5]
        usage.ports = {str(port): (wire.to[port], wire.back[port]) for port in used_ports}
    (folder / "usage.json").write_text(json.dumps(asdict(usage), indent=1))


def _busy_s() -> float:
    """Seconds that the machine's processors have worked."""
    told = psutil.cpu_times()
    return float(sum(told[:8]) - told.idle - told.iowait)


def _listen() -> Wire | None:
    """Begin to count bytes, if this network is our own."""
    if socket.if_nameindex() != [(1, "lo")]:
        return None
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    wire = Wire()
    wire.start()
    return wire


def _await(pid: int, watch: Watch, until: float) -> int:
    """Look at the processes until one ends; its exit code, -1 where it had to be ended."""
    while time.monotonic() < until:
        watch.look()
        while (ended := _reap())[0]:
            if ended[0] == pid:
                return os.waitstatus_to_exitcode(ended[1])
        time.sleep(SAMPLE_S)
    return -1


def _reap() -> tuple[int, int]:
    """A child that ended and how; (0, 0) where none has."""
    with suppress(ChildProcessError):
        return os.waitpid(-1, os.WNOHANG)
    return 0, 0


def _end_all() -> None:
    """End whatever is left below this process."""
    until, sign = time.monotonic() + END_S, signal.SIGTERM
    while left := psutil.Process().children(recursive=True):
        for process in left:
            with suppress(psutil.Error):
                process.send_signal(sign)
        while _reap()[0]:
            continue
        if time.monotonic() > until:
            sign = signal.SIGKILL
        time.sleep(SAMPLE_S)


if __name__ == "__main__":
    main()
