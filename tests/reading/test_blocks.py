"""Ranges are widened to whole blocks: all that was asked for, and less than a block more on each side."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from figfs.reading.blocks import BLOCK_SIZE, aligned

offsets = st.integers(0, 5 * BLOCK_SIZE)


@given(offsets, offsets, offsets)
def test_all_that_was_asked_for_and_no_block_more(file_size: int, start: int, length: int) -> None:
    """The result covers the range as far as the file goes, begins at a block, ends at one or with the file,
    and every block of it has bytes of the range.
    """
    low, high = aligned(start, start + length, file_size=file_size)
    end = min(start + length, file_size)
    if end <= start:
        assert (low, high) == (start, start)
        return
    assert low <= start < low + BLOCK_SIZE
    assert end <= high < end + BLOCK_SIZE
    assert low % BLOCK_SIZE == 0
    assert high % BLOCK_SIZE == 0 or high == file_size
    assert high <= file_size


@pytest.mark.parametrize(
    ("start", "end", "file_size", "expected"),
    [
        (0, 1, 1, (0, 1)),
        (0, 1, BLOCK_SIZE, (0, BLOCK_SIZE)),
        (BLOCK_SIZE - 1, BLOCK_SIZE + 1, 9 * BLOCK_SIZE, (0, 2 * BLOCK_SIZE)),
        (BLOCK_SIZE, 2 * BLOCK_SIZE, 9 * BLOCK_SIZE, (BLOCK_SIZE, 2 * BLOCK_SIZE)),
        (BLOCK_SIZE + 5, 10**12, BLOCK_SIZE + 7, (BLOCK_SIZE, BLOCK_SIZE + 7)),
        (7, 7, 100, (7, 7)),
        (7, 3, 100, (7, 7)),
        (100, 200, 100, (100, 100)),
        (0, 0, 0, (0, 0)),
    ],
)
def test_examples(start: int, end: int, file_size: int, expected: tuple[int, int]) -> None:
    """The borders: one byte, exact blocks, the short last block, nothing, past the end."""
    assert aligned(start, end, file_size=file_size) == expected


def test_a_negative_offset() -> None:
    """A caller's mistake is told, not guessed at."""
    with pytest.raises(ValueError, match="no offset"):
        aligned(-1, 5, file_size=10)
