"""The cache of vectors: what was made once is found again, by its owner only."""

import logging
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from clinical import vectors
from clinical.vectors import Block, VectorCache

WRITER = """
import sys
from pathlib import Path
import numpy as np
from clinical.vectors import VectorCache
cache = VectorCache.open(Path(sys.argv[1]), "salt")
for n in range(200):
    key = cache.key(int(sys.argv[2]), n)
    assert not cache.get([key])
    cache.put({key: np.full((2, 8), n, dtype=np.float16)})
"""


def block(seed: int, rows: int = 3) -> Block:
    """Some vectors."""
    return np.random.default_rng(seed).normal(size=(rows, 16)).astype(np.float16)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where a site keeps its vectors."""
    return tmp_path / "vectors.sqlite"


def test_a_second_opening_finds_what_the_first_kept(path: Path) -> None:
    """The same numbers, to the bit."""
    first = VectorCache.open(path, "salt")
    first.put({first.key("a"): block(1), first.key("b"): block(2, rows=1)})
    first.close()
    second = VectorCache.open(path, "salt")
    found = second.get([second.key("a"), second.key("b"), second.key("c")])

    np.testing.assert_array_equal(found[second.key("a")], block(1))
    np.testing.assert_array_equal(found[second.key("b")], block(2, rows=1))
    assert len(found) == 2


def test_a_second_question_is_answered_from_memory(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fact that every patient has is read from the file once."""
    first = VectorCache.open(path, "salt")
    first.put({first.key("a"): block(1)})
    second = VectorCache.open(path, "salt")
    second.get([second.key("a")])
    monkeypatch.setattr(vectors, "_read", lambda *_: pytest.fail("was read again"))

    assert second.get([second.key("a")])


def test_only_its_owner_may_read_the_file(path: Path) -> None:
    """Vectors of sentences are as private as the sentences."""
    path.touch(0o644)
    cache = VectorCache.open(path, "salt")
    cache.put({cache.key("a"): block(1)})

    for file in path.parent.glob("vectors.sqlite*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_nothing_of_the_text_is_in_the_file(path: Path) -> None:
    """Neither a sentence nor a key that whoever guesses the sentence could compute."""
    text = "She forgets the names of her grandchildren."
    cache = VectorCache.open(path, "salt")
    cache.put({cache.key("encoder", text, [(0, 43)]): block(1)})
    key = sqlite3.connect(path).execute("SELECT key FROM vectors").fetchone()[0]
    raw = b"".join(file.read_bytes() for file in path.parent.glob("vectors.sqlite*"))

    assert key in raw
    assert text.encode() not in raw
    assert b"grandchildren" not in raw
    guess = VectorCache.open(path, "another salt")
    assert not guess.get([guess.key("encoder", text, [(0, 43)])])


def test_two_processes_write_at_once(path: Path) -> None:
    """An import and a review of the same site."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), str(n)], stderr=subprocess.PIPE, text=True
        )
        for n in range(2)
    ]
    said = [writer.communicate(timeout=120)[1] for writer in writers]

    assert [writer.returncode for writer in writers] == [0, 0], said
    assert said == ["", ""]
    cache = VectorCache.open(path, "salt")
    assert len(cache.get([cache.key(n, i) for n in range(2) for i in range(200)])) == 400


def test_the_oldest_make_room(path: Path) -> None:
    """The file stays within its size, whatever is imported."""
    cache = VectorCache.open(path, "salt", max_bytes=200_000)
    for n in range(300):
        cache.put({cache.key(n): block(n, rows=100)})  # 3,200 bytes each
    cache.close()
    again = VectorCache.open(path, "salt")
    found = [n for n in range(300) if again.get([again.key(n)])]

    assert path.stat().st_size < 300_000
    assert 20 < len(found) < 63
    assert found == list(range(found[0], 300))


def test_memory_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a file as well."""
    monkeypatch.setattr(vectors, "MEMORY_BYTES", 10 * block(0).nbytes)
    cache = VectorCache()
    for n in range(50):
        cache.put({cache.key(n): block(n)})

    assert [n for n in range(50) if cache.get([cache.key(n)])] == list(range(40, 50))


@pytest.mark.parametrize("sound_bytes", [0, 4096])
def test_a_damaged_file_is_put_aside_and_begun_again(
    path: Path, sound_bytes: int, caplog: pytest.LogCaptureFixture
) -> None:
    """What it held can be made anew; an import must not fail for it."""
    cache = VectorCache.open(path, "salt")
    cache.put({cache.key(n): block(n, rows=50) for n in range(200)})
    cache.close()
    raw = path.read_bytes()
    path.write_bytes(raw[:sound_bytes].ljust(len(raw), b"\x55"))
    with caplog.at_level(logging.WARNING):
        again = VectorCache.open(path, "salt")
        again.get([again.key(n) for n in range(200)])
        again.put({again.key("new"): block(7)})

    assert "damaged" in caplog.text
    assert len(list(path.parent.glob("vectors.sqlite.damaged-*"))) == 1
    third = VectorCache.open(path, "salt")
    assert third.get([third.key("new")])


def test_a_vector_that_a_bit_flipped_in_is_not_used(path: Path) -> None:
    """It would be evidence that no sentence gave."""
    cache = VectorCache.open(path, "salt")
    cache.put({cache.key("a"): block(1), cache.key("b"): block(2)})
    cache.close()
    raw = path.read_bytes()
    at = raw.index(block(1).tobytes())
    path.write_bytes(raw[: at + 4] + bytes([raw[at + 4] ^ 4]) + raw[at + 5 :])
    again = VectorCache.open(path, "salt")

    assert set(again.get([again.key("a"), again.key("b")])) == {again.key("b")}


def test_a_file_that_cannot_be_used_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The work goes on with what is in memory, and says so once."""
    with caplog.at_level(logging.WARNING):
        cache = VectorCache.open(tmp_path / "gone" / "vectors.sqlite", "salt")
        cache.put({cache.key("a"): block(1)})
        assert cache.get([cache.key("a")])
        assert not cache.get([cache.key("b")])

    assert caplog.text.count("is not used") == 1
