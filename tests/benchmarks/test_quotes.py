"""What the README claims is what the benchmarks printed."""

import pytest

from benchmarks.__main__ import BLOCK, QUOTING, quote


@pytest.mark.parametrize("path", QUOTING, ids=lambda path: path.name)
def test_every_quoted_table_is_what_its_benchmark_printed(path) -> None:
    """A figure typed by hand, or left behind by an older run, fails here."""
    text = path.read_text()

    assert BLOCK.search(text)
    assert quote(text) == text
