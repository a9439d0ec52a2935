"""The block: the unit of presence, checksum and alignment of what is fetched and kept. Pure.

A file is cut into blocks of ``BLOCK_SIZE`` bytes from offset 0 on, the last one shorter; an empty file has
none. Ends are exclusive, as in Python's slices.
"""

from __future__ import annotations

#: Small, so that a program that sniffs 16 KiB or reads 4 KiB at random fetches little more than that; not
#: smaller, since each block has a checksum to compute and to compare (32,768 of them a GiB).
BLOCK_SIZE = 32 << 10


def aligned(start: int, end: int, *, file_size: int) -> tuple[int, int]:
    """[start, end) widened to whole blocks, as far as the file goes.

    Empty, as (n, n), for no bytes or past the end. ``ValueError`` for a negative start.
    """
    if start < 0:
        raise ValueError(f"no offset in a file: {start}")
    end = min(end, file_size)
    if end <= start:
        return (start, start)
    return start // BLOCK_SIZE * BLOCK_SIZE, min(-(-end // BLOCK_SIZE) * BLOCK_SIZE, file_size)
