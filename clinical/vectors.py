"""Vectors that were made once, in memory and in a site's file, under a secret key.

A key is made of everything that decides a vector: the encoder, its engine and the text. It is an
HMAC with the site's salt, so that nobody without the salt can find out from the file whether a
sentence stands in some record. The file holds keys and vectors; no text, no id of a patient.
"""

import hmac
import json
import logging
import os
import secrets
import sqlite3
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float16

logger = logging.getLogger(__name__)

Block = Float16[np.ndarray, "row dim"]
Result = TypeVar("Result")

FILE = "vectors.sqlite"  # in a site's folder
MEMORY_BYTES = 64 * 2**20  # of vectors held in memory
FILE_BYTES = 2 * 2**30  # of a site's file, before the oldest make room
EVICTED = 10  # one part in so many goes at a time
BUSY_SECONDS = 30.0  # waited for another process that writes
AT_ONCE = 500  # keys asked for in one query
_TABLE = """CREATE TABLE IF NOT EXISTS vectors (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, dim INTEGER NOT NULL,
    value BLOB NOT NULL, checksum INTEGER NOT NULL
)"""
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class VectorCache:
    """Blocks of vectors by key; the oldest make room for new ones."""

    def __init__(self) -> None:
        self._salt = secrets.token_bytes(32)
        self._file: _File | None = None
        self._held: dict[bytes, Block] = {}
        self._bytes = 0
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path, salt: str, *, max_bytes: int = FILE_BYTES) -> "VectorCache":
        """Open a site's vectors, or begin them.

        A file that is damaged is put aside and begun again: what it held can be made anew. One
        that cannot be used for another reason is left alone; the vectors are then only in memory.

        Args:
            path: Such as ``vectors.sqlite`` in the site's folder; only its owner may read it.
            salt: Secret of the site.
            max_bytes: Largest size of the file.
        """
        cache = cls()
        cache._salt = salt.encode()
        cache._file = _File(path, max_bytes)
        return cache

    def key(self, *parts: object) -> bytes:
        """The key of a block, from all that decides its values.

        Args:
            parts: What JSON can write.
        """
        return hmac.digest(self._salt, json.dumps(parts).encode(), "sha256")

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Block]:
        """The blocks that are known, of those asked for."""
        with self._lock:
            found = {key: self._held[key] for key in keys if key in self._held}
        if self._file is not None and len(found) < len(keys):
            kept = self._file.get([key for key in dict.fromkeys(keys) if key not in found])
            self._hold(kept)
            found |= kept
        return found

    def put(self, blocks: Mapping[bytes, Block]) -> None:
        """Keep blocks."""
        self._hold(blocks)
        if self._file is not None and blocks:
            self._file.put(blocks)

    def close(self) -> None:
        """Close the file, if there is one; the memory goes on."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _hold(self, blocks: Mapping[bytes, Block]) -> None:
        """Remember blocks in memory, within `MEMORY_BYTES`."""
        with self._lock:
            for key, block in blocks.items():
                if key not in self._held:
                    self._held[key] = block
                    self._bytes += block.nbytes
            while self._bytes > MEMORY_BYTES:
                self._bytes -= self._held.pop(next(iter(self._held))).nbytes


class _File:
    """The file. Whatever befalls it, the work goes on without it."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._inode = 0  # of the file that was opened
        self._complaint = ""  # the last one, which is made once
        self._try(lambda _: None, None)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Block]:
        """What is kept under these keys; what was altered by chance counts as not kept."""
        return self._try(lambda connection: dict(_read(connection, keys)), {})

    def put(self, blocks: Mapping[bytes, Block]) -> None:
        """Keep blocks, all or none."""
        self._try(lambda connection: _write(connection, blocks, self._max_bytes), None)

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _try(self, work: Callable[[sqlite3.Connection], Result], otherwise: Result) -> Result:
        """Work on the file; a damaged one is begun again, and the work is done there."""
        with self._lock:
            for _ in range(2):
                try:
                    if self._connection is None:
                        self._inode = _make(self._path)
                        self._connection = _connect(self._path)
                    return work(self._connection)
                except (sqlite3.DatabaseError, OSError) as error:
                    if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGED:
                        self._complain(str(error))
                        return otherwise
                    self._put_aside()
        return otherwise

    def _complain(self, why: str) -> None:
        """Say why the file is not used, once."""
        if why != self._complaint:
            logger.warning("%s is not used: %s", self._path, why)
        self._complaint = why

    def _put_aside(self) -> None:
        """Rename a damaged file, and drop what belongs to it."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if not self._path.exists() or self._path.stat().st_ino != self._inode:
            return  # another process has done so already
        aside = self._path.with_name(f"{self._path.name}.damaged-{time.time_ns()}")
        logger.warning("%s is damaged; it is renamed %s and begun again", self._path, aside.name)
        self._path.rename(aside)
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)


def _make(path: Path) -> int:
    """Make the file, if it is not there, readable by its owner only; which file it is."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        os.fchmod(handle, 0o600)
        return os.fstat(handle).st_ino
    finally:
        os.close(handle)


def _connect(path: Path) -> sqlite3.Connection:
    """Open the file for several processes at once."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False)
    try:
        if connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
            connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        with connection:
            connection.execute(_TABLE)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _read(connection: sqlite3.Connection, keys: Sequence[bytes]) -> Iterator[tuple[bytes, Block]]:
    for first in range(0, len(keys), AT_ONCE):
        some = keys[first : first + AT_ONCE]
        marks = ",".join("?" * len(some))
        query = f"SELECT key, dim, value, checksum FROM vectors WHERE key IN ({marks})"  # noqa: S608
        for key, dim, value, checksum in connection.execute(query, some):
            if zlib.crc32(value) == checksum:  # SQLite itself does not see a bit that flipped
                yield key, np.frombuffer(value, dtype=np.float16).reshape(-1, dim)


def _write(connection: sqlite3.Connection, blocks: Mapping[bytes, Block], max_bytes: int) -> None:
    rows = [
        (key, block.shape[1], value, zlib.crc32(value))
        for key, block in blocks.items()
        for value in [block.tobytes()]
    ]
    with connection:
        connection.executemany(
            "INSERT OR REPLACE INTO vectors (key, dim, value, checksum) VALUES (?, ?, ?, ?)", rows
        )
        while _size(connection) > max_bytes:
            count = connection.execute("SELECT count(*) FROM vectors").fetchone()[0]
            connection.execute(
                "DELETE FROM vectors WHERE id IN (SELECT id FROM vectors ORDER BY id LIMIT ?)",
                (-(-count // EVICTED),),
            )
            if not count:
                return


def _size(connection: sqlite3.Connection) -> int:
    """Bytes of the pages in use."""
    pages, free, size = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)
