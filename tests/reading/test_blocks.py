"""Blocks tile the file, and what is cut out of them is what slicing the file gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from figfs.reading.blocks import block_range, blocks_of, cut

contents = st.binary(max_size=60)
block_sizes = st.integers(1, 20)


@given(contents, block_sizes, st.integers(0, 80), st.integers(0, 80))
def test_a_read_cut_out_of_blocks_is_a_slice(content: bytes, block_size: int, offset: int, size: int) -> None:
    """Any read, also past the end and of an empty file, equals the slice of the content."""
    wanted = blocks_of(offset, size, block_size=block_size, file_size=len(content))
    ranges = [block_range(index, block_size=block_size, file_size=len(content)) for index in wanted]
    blocks = [content[start:end] for start, end in ranges]
    assert cut(blocks, offset, size, block_size=block_size) == content[offset : offset + size]


@given(st.integers(0, 200), block_sizes)
def test_blocks_tile_the_file(file_size: int, block_size: int) -> None:
    """All blocks together are the file: no gap, no overlap, only the last is shorter."""
    wanted = blocks_of(0, file_size, block_size=block_size, file_size=file_size)
    position = 0
    for index in wanted:
        start, end = block_range(index, block_size=block_size, file_size=file_size)
        assert start == position
        assert end - start == block_size or index == wanted[-1]
        assert end > start
        position = end
    assert position == file_size


@given(st.integers(0, 200), block_sizes, st.integers(0, 250), st.integers(1, 100))
def test_no_block_more_than_needed(file_size: int, block_size: int, offset: int, size: int) -> None:
    """Each block of a read has bytes of it: nothing is fetched in vain."""
    for index in blocks_of(offset, size, block_size=block_size, file_size=file_size):
        start, end = block_range(index, block_size=block_size, file_size=file_size)
        assert start < offset + size
        assert end > offset


@pytest.mark.parametrize(("offset", "size"), [(-1, 5), (0, -1)])
def test_negative(offset: int, size: int) -> None:
    """A caller's mistake is told, not guessed at."""
    with pytest.raises(ValueError, match="no range"):
        blocks_of(offset, size, block_size=4, file_size=10)


@pytest.mark.parametrize(("index", "file_size"), [(0, 0), (3, 12), (-1, 12)])
def test_no_such_block(index: int, file_size: int) -> None:
    """An empty file has no block 0, and a full last block is the last."""
    with pytest.raises(ValueError, match=f"no block {index}"):
        block_range(index, block_size=4, file_size=file_size)
