"""Files that are made once are made again when they are not whole, and only then."""

from collections.abc import Callable
from pathlib import Path

import pytest

from imaging.whole_files import SUMS, is_whole, whole_files

Damage = Callable[[Path], object]


@pytest.fixture
def made() -> list[Path]:
    """Every folder that `make` was asked to fill."""
    return []


@pytest.fixture
def make(made: list[Path]) -> Callable[[Path], None]:
    """Writes two files, and remembers where."""

    def write(out: Path) -> None:
        made.append(out)
        (out / "one").write_bytes(b"first")
        (out / "two").write_bytes(b"second")

    return write


def test_what_is_whole_is_not_made_again(
    tmp_path: Path, make: Callable[[Path], None], made: list[Path]
) -> None:
    """The second call finds the files of the first; nothing else is left beside them."""
    folder = whole_files(tmp_path / "engines" / "a", make)
    assert whole_files(folder, make) == folder
    assert len(made) == 1
    assert (folder / "two").read_bytes() == b"second"
    assert [path.name for path in folder.parent.iterdir()] == ["a"]


DAMAGES: dict[str, Damage] = {
    "a byte is another": lambda folder: (folder / "one").write_bytes(b"fIrst"),
    "cut short": lambda folder: (folder / "two").write_bytes(b"sec"),
    "a file is gone": lambda folder: (folder / "one").unlink(),
    "no list": lambda folder: (folder / SUMS).unlink(),
    "half a list": lambda folder: (folder / SUMS).write_text('{"one": '),
    "a list of another kind": lambda folder: (folder / SUMS).write_text("[]"),
    "a file too many": lambda folder: (folder / "three").write_bytes(b""),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_is_damaged_is_made_again(
    tmp_path: Path, make: Callable[[Path], None], made: list[Path], damage: Damage
) -> None:
    """Whatever happened to the files, they are as they were made afterwards."""
    folder = whole_files(tmp_path / "a", make)
    damage(folder)
    assert not is_whole(folder)
    whole_files(folder, make)
    assert len(made) == 2
    assert {path.name for path in folder.iterdir()} == {"one", "two", SUMS}
    assert (folder / "one").read_bytes() == b"first"


def test_what_could_not_be_made_leaves_nothing(tmp_path: Path) -> None:
    """An export that fails half-way is not taken for one that was finished."""

    def fail(out: Path) -> None:
        (out / "one").write_bytes(b"first")
        raise MemoryError

    with pytest.raises(MemoryError):
        whole_files(tmp_path / "a", fail)
    assert list(tmp_path.iterdir()) == []


def test_the_quicker_of_two_processes_wins(
    tmp_path: Path, make: Callable[[Path], None], made: list[Path]
) -> None:
    """The files that another process finished meanwhile stay: it may be reading them."""

    def overtaken(out: Path) -> None:
        make(out)
        whole_files(tmp_path / "a", make)
        (tmp_path / "a" / "one").touch()

    whole_files(tmp_path / "a", overtaken)
    assert len(made) == 2
    assert is_whole(tmp_path / "a")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
