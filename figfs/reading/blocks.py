"""Offsets in a file <-> blocks, the unit of reading and caching. Pure.

A file of ``file_size`` bytes is cut into blocks of ``block_size`` bytes, the last one shorter; block 0
starts at 0. An empty file has none. Ends are exclusive, as in Python's slices.
"""

from __future__ import annotations

from collections.abc import Sequence


def blocks_of(offset: int, size: int, *, block_size: int, file_size: int) -> range:
    """The indices of the blocks that hold ``size`` bytes from ``offset`` on, as far as the file goes.

    Empty for no bytes or past the end. ``ValueError`` for a negative offset or size.
    """
    if offset < 0 or size < 0:
        raise ValueError(f"no range of a file: offset {offset}, size {size}")
    end = min(offset + size, file_size)
    if end <= offset:
        return range(0)
    return range(offset // block_size, (end - 1) // block_size + 1)


def block_range(index: int, *, block_size: int, file_size: int) -> tuple[int, int]:
    """The bytes of block ``index``: (start, end). ``ValueError`` if the file has no such block."""
    start = index * block_size
    if not 0 <= start < file_size:
        raise ValueError(f"a file of {file_size} bytes has no block {index}")
    return start, min(start + block_size, file_size)


def cut(blocks: Sequence[bytes], offset: int, size: int, *, block_size: int) -> bytes:
    """``size`` bytes from ``offset`` on, out of ``blocks``: those of ``blocks_of``, in order.

    Short where the last block ends earlier, b"" without blocks.
    """
    if not blocks:
        return b""
    start = offset % block_size
    if len(blocks) == 1:
        return blocks[0][start : start + size]
    views = [memoryview(block) for block in blocks]  # so that the ends are not copied twice
    views[0] = views[0][start:]
    views[-1] = views[-1][: size - sum(map(len, views[:-1]))]
    return b"".join(views)
