"""Files that must be whole, and files that must be private."""

import os
from pathlib import Path

PLAN = "plan.json"  # at the hub and in each site: what they agreed on


def write_whole(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file so that a crash or a full disk leaves the old one, never half a new one.

    Args:
        path: The file.
        content: All of it.
        private: Readable by its owner alone, from the first byte on.
    """
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def private_folder(path: Path) -> Path:
    """A folder that only its owner can enter; made where there is none."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path
