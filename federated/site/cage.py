"""A process without a network that can change nothing but its own case files: Linux namespaces.

The app that a hub sends runs in here. It finds no network at all, not even the loopback
interface; the whole disk is read-only but for the site's database and a folder that is thrown
away; the site's key, ledger and policy cannot be read or changed. It needs no privileges, but a
kernel that lets users make namespaces; where one does not, the app runs without the cage, and the
log says so. The guard does not depend on it.
"""

import ctypes
import os
import sys
from collections.abc import Sequence
from pathlib import Path

_NEWNS, _NEWIPC, _NEWUSER, _NEWNET = 0x00020000, 0x08000000, 0x10000000, 0x40000000
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_MOUNT_SETATTR, _AT_FDCWD, _AT_RECURSIVE, _ATTR_RDONLY = 442, -100, 0x8000, 1
_PR_SET_NO_NEW_PRIVS, _PR_CAPBSET_DROP, _CAPABILITIES = 38, 24, 41
_CAPSET_VERSION = 0x20080522


class _Attributes(ctypes.Structure):
    """``struct mount_attr``."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user")]


def enter(
    writable: Sequence[Path], hidden: Path, fixed: Sequence[Path], *, network: bool = False
) -> None:
    """Lock this process in, before it has a second thread.

    Args:
        writable: Folders that stay writable.
        hidden: Folder that looks empty from now on.
        fixed: Files in writable folders that can be read and not written.
        network: Leave the network, for a site whose database is on another machine.

    Raises:
        OSError: The kernel does not allow it; nothing is promised then.
    """
    if sys.platform != "linux":
        raise OSError("namespaces need Linux")
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    _must(libc.unshare(_NEWUSER | _NEWNS | _NEWIPC | (0 if network else _NEWNET)))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    _mount(libc, None, "/", None, _MS_REC | _MS_PRIVATE)
    for path in (*writable, *fixed):
        _mount(libc, path, path, None, _MS_BIND)
    _set_readonly(libc, Path("/"), recursive=True)
    for path in writable:
        _set_readonly(libc, path, recursive=False, undo=True)
    if hidden.is_dir():
        _mount(libc, "none", hidden, "tmpfs", _MS_RDONLY)
    _drop_capabilities(libc)


def _mount(libc: ctypes.CDLL, what: object, where: object, kind: str | None, flags: int) -> None:
    """The system call of that name."""
    encoded = [None if text is None else os.fsencode(str(text)) for text in (what, where, kind)]
    _must(libc.mount(*encoded, ctypes.c_ulong(flags), None))


def _set_readonly(libc: ctypes.CDLL, path: Path, *, recursive: bool, undo: bool = False) -> None:
    """Make a mount read-only, with all below it, or undo that for one that was made here."""
    wanted = _Attributes(0, _ATTR_RDONLY) if undo else _Attributes(_ATTR_RDONLY)
    flags = _AT_RECURSIVE if recursive else 0
    _must(
        libc.syscall(
            ctypes.c_long(_MOUNT_SETATTR), _AT_FDCWD, os.fsencode(path), flags,
            ctypes.byref(wanted), ctypes.c_size_t(ctypes.sizeof(wanted)),
        )
    )  # fmt: skip


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Give up what the new namespace brought, so that its mounts cannot be undone."""
    for capability in range(_CAPABILITIES):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    _must(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    header = (ctypes.c_uint32 * 2)(_CAPSET_VERSION, 0)
    _must(libc.capset(header, (ctypes.c_uint32 * 6)()))


def _must(result: int) -> None:
    """Raise what a system call that failed left behind."""
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
