"""Folders of files that are made once, and trusted only while they are whole."""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

SUMS = "sha256.json"  # of every file beside it


def whole_files(folder: Path, make: Callable[[Path], None]) -> Path:
    """A folder of files, made where it is not there, or not as it was made.

    Args:
        folder: Where the files are kept; its name should say of what they were made.
        make: Writes them into an empty folder, which then takes the other's place at once, so
            that nobody meets half of it.

    Returns:
        `folder`.
    """
    if is_whole(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}.partial-", dir=folder.parent))
    try:
        make(partial)
        (partial / SUMS).write_text(json.dumps(_sums(partial), indent=2) + "\n")
        if not is_whole(folder):  # nobody else was quicker
            shutil.rmtree(folder, ignore_errors=True)
            _take_place(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def is_whole(folder: Path) -> bool:
    """Whether a folder holds exactly the files that were made, to the bit."""
    try:
        return bool(json.loads((folder / SUMS).read_text()) == _sums(folder))
    except (OSError, ValueError):
        return False


def _take_place(partial: Path, folder: Path) -> None:
    """Rename; where another process has just done so, its files serve as well."""
    try:
        partial.rename(folder)
    except OSError:
        if not is_whole(folder):
            raise


def _sums(folder: Path) -> dict[str, str]:
    """SHA-256 of each file but the list of them."""
    sums = {}
    for path in sorted(folder.iterdir()):
        if path.name != SUMS:
            with path.open("rb") as file:
                sums[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums
