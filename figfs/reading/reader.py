"""One open stored file: reads answered from blocks, with a read-ahead of one block.

The handle pins its ``Source``: whatever becomes of the name, it reads one version to its end (semantics.md,
``open``). The issue on reading replaces the policy; ``openfiles.py`` needs ``read`` only.
"""

from __future__ import annotations

from figfs.reading.blockcache import BlockCache, Source
from figfs.reading.blocks import blocks_of, cut

# How far ahead of the last read one may start and still count as sequential. The kernel sends its
# read-ahead as requests of 128 KiB, some at once, and they arrive slightly out of order.
SLACK = 256 << 10


class Reader:
    """What one handle reads. Reads may run at the same time."""

    def __init__(self, source: Source, cache: BlockCache) -> None:
        self.source = source
        self._cache = cache
        self._last_end: int | None = None  #: where the last read ended; None before the first

    def __repr__(self) -> str:
        return f"<Reader {self.source!r} last_end={self._last_end}>"

    async def read(self, offset: int, size: int) -> bytes:
        """``size`` bytes from ``offset`` on: short at the end of the file, b"" past it.

        Raises what ``BlockCache.get`` raises, ``ValueError`` for a negative offset or size. Cancellation
        leaves the fetches running: the next read finds what they bring.
        """
        block_size = self._cache.block_size
        wanted = blocks_of(offset, size, block_size=block_size, file_size=self.source.size)
        if not wanted:
            return b""
        end = min(offset + size, self.source.size)
        in_sequence = self._note(offset, end)
        for index in wanted[1:]:
            self._cache.prefetch(self.source, index)
        if in_sequence:
            self._cache.prefetch(self.source, wanted[-1] + 1)
        blocks = [await self._cache.get(self.source, index) for index in wanted]
        return cut(blocks, offset, end - offset, block_size=block_size)

    def _note(self, offset: int, end: int) -> bool:
        """Whether this read goes on where the last one ended; the first does if it ends with its block.

        So a file manager that sniffs 16 KiB at the start (programs.md §2b), and a random reader, get what
        they ask for.
        """
        before, self._last_end = self._last_end, end
        if before is None:
            return end % self._cache.block_size == 0
        return 0 <= offset - before <= SLACK
