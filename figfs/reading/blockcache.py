"""Blocks of stored files in memory: bounded, each fetched once however many ask.

A fetch runs in the services nursery, not in the task that asked first: it outlives a reader that gives up,
and the next read finds what it brought (semantics.md, ``read``). It has a deadline of its own, since nobody
may be waiting for it. ``reader.py`` asks; ``mount.py`` builds the one cache; where bytes come from is the
``Source``'s business.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Awaitable, Callable

import trio
from cachetools import LRUCache

from figfs.errors import BadAnswer, RemoteError, TooSlow, Unreachable
from figfs.reading.blocks import block_range

log = logging.getLogger(__name__)

BLOCK_SIZE = 1 << 20
MAX_BYTES = 128 << 20
MAX_PREFETCHES = 4  # blocks nobody has asked for yet; more would delay those that somebody waits for
FETCH_TIMEOUT = 60.0

_BlockId = tuple[str, int]  # key of the content, index


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """One content at Figshare: files are immutable by id, so its bytes never change.

    ``fetch(start, end)`` returns exactly the bytes [start, end) or raises ``RemoteError``.
    """

    key: str  #: the content's MD5 (the same content is kept once), or "id:<id>" where Figshare gives none
    size: int
    fetch: Callable[[int, int], Awaitable[bytes]] = dataclasses.field(compare=False, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Statistics:
    """``hits`` and ``misses`` count calls of ``get``; a miss waits for a fetch, its own or another's."""

    hits: int
    misses: int
    bytes: int  #: in complete blocks
    blocks: int
    fetches: int  #: under way, prefetches included
    prefetches: int  #: of these, started by ``prefetch``


class _Fetch:
    """One block on its way. Once ``done`` is set, one of ``data`` and ``error`` is there."""

    __slots__ = ("block_id", "data", "done", "error", "is_prefetch", "kept")

    def __init__(self, block_id: _BlockId, *, is_prefetch: bool) -> None:
        self.block_id = block_id
        self.done = trio.Event()
        self.data: bytes | None = None
        self.error: RemoteError | None = None
        self.is_prefetch = is_prefetch  #: nobody has asked for it yet
        self.kept = (
            True  #: False once the content was dropped: those who wait still get it, the cache does not
        )


class BlockCache:
    """The cache of one mount.

    Invariants: complete blocks and room for those being fetched are together at most ``max_bytes``; a block
    is never both in ``_blocks`` and in ``_fetches``.
    """

    def __init__(
        self,
        *,
        nursery: trio.Nursery,
        block_size: int = BLOCK_SIZE,
        max_bytes: int = MAX_BYTES,
        max_prefetches: int = MAX_PREFETCHES,
        fetch_timeout: float = FETCH_TIMEOUT,
    ) -> None:
        """``nursery`` is where fetches run. ``ValueError`` if not one block fits into ``max_bytes``."""
        if not 0 < block_size <= max_bytes:
            raise ValueError(f"no block of {block_size} bytes fits into {max_bytes} bytes")
        self.block_size = block_size
        self._nursery = nursery
        self._max_bytes = max_bytes
        self._max_prefetches = max_prefetches
        self._fetch_timeout = fetch_timeout
        self._blocks: LRUCache[_BlockId, bytes] = LRUCache(max_bytes, getsizeof=len)
        self._fetches: dict[_BlockId, _Fetch] = {}
        self._running: set[_Fetch] = set()  # those in _fetches, and dropped ones that have not ended
        # One token for each block being fetched. Half of the room: else a burst would leave nothing to keep
        # blocks in, and eight reads of 128 KiB would fetch their common block eight times.
        self._room = trio.CapacityLimiter(max(1, max_bytes // block_size // 2))
        self._hits = 0
        self._misses = 0

    async def get(self, source: Source, index: int) -> bytes:
        """Block ``index`` of ``source``: at once if it is here, else fetched, once however many ask.

        Raises what the fetch raised (``RemoteError``; each caller an exception of its own), ``TooSlow``
        after ``fetch_timeout`` seconds, ``BadAnswer`` for an answer of the wrong length, ``ValueError`` if
        the file has no such block. A failure is not kept: the next ``get`` fetches again. Cancellation
        leaves the fetch running.
        """
        block_id = source.key, index
        block: bytes | None = self._blocks.get(block_id)
        if block is not None:
            self._hits += 1
            return block
        self._misses += 1
        fetch = self._fetches.get(block_id) or self._start(source, index, is_prefetch=False)
        fetch.is_prefetch = False
        await fetch.done.wait()
        if fetch.data is None:
            assert fetch.error is not None
            # A copy: a shared exception would collect the tracebacks of all who wait.
            raise copy.copy(fetch.error) from fetch.error
        return fetch.data

    def prefetch(self, source: Source, index: int) -> None:
        """Start to fetch a block without waiting for it.

        Does nothing if it is here or on its way, if the file has no such block, or if ``max_prefetches``
        are under way.
        """
        block_id = source.key, index
        if (
            not 0 <= index * self.block_size < source.size
            or block_id in self._blocks
            or block_id in self._fetches
        ):
            return
        if self.statistics().prefetches < self._max_prefetches:
            self._start(source, index, is_prefetch=True)

    def drop(self, key: str) -> None:
        """Forget all blocks of the content ``key``; what is being fetched of it is not kept either."""
        for block_id in [block_id for block_id in self._blocks if block_id[0] == key]:
            del self._blocks[block_id]
        for block_id in [block_id for block_id in self._fetches if block_id[0] == key]:
            self._fetches.pop(block_id).kept = False

    def statistics(self) -> Statistics:
        return Statistics(
            hits=self._hits,
            misses=self._misses,
            bytes=int(self._blocks.currsize),
            blocks=len(self._blocks),
            fetches=len(self._running),
            prefetches=sum(fetch.is_prefetch for fetch in self._running),
        )

    def _start(self, source: Source, index: int, *, is_prefetch: bool) -> _Fetch:
        start, end = block_range(index, block_size=self.block_size, file_size=source.size)
        fetch = _Fetch((source.key, index), is_prefetch=is_prefetch)
        self._nursery.start_soon(
            self._run, fetch, source, start, end, name=f"fetch {source.key} [{start}, {end})"
        )
        self._fetches[fetch.block_id] = fetch
        self._running.add(fetch)
        return fetch

    async def _run(self, fetch: _Fetch, source: Source, start: int, end: int) -> None:
        try:
            with trio.fail_after(self._fetch_timeout):
                async with self._room:
                    self._evict()
                    data = await source.fetch(start, end)
            if len(data) != end - start:
                raise BadAnswer(f"{len(data)} bytes for [{start}, {end}) of {source.key}")
            # No await since the room was given back: who has it next evicts only after this block is in.
            if fetch.kept:
                self._blocks[fetch.block_id] = data
            fetch.data = data
        except RemoteError as exc:
            log.debug("fetch of [%d, %d) of %s failed: %s", start, end, source.key, exc)
            fetch.error = exc
        except trio.TooSlowError:
            fetch.error = TooSlow(f"no [{start}, {end}) of {source.key} within {self._fetch_timeout:g} s")
        except Exception as exc:  # a bug in one fetch must not end the mount
            log.exception("fetch of [%d, %d) of %s", start, end, source.key)
            fetch.error = BadAnswer(f"internal error: {exc!r}")
        finally:
            # When the mount goes down the task is cancelled: nobody may wait for ever then.
            if fetch.data is None and fetch.error is None:
                fetch.error = Unreachable("the mount is going down")
            if fetch.kept:
                del self._fetches[fetch.block_id]
            self._running.remove(fetch)
            fetch.done.set()

    def _evict(self) -> None:
        """Drop the blocks unused for longest until those being fetched have room."""
        reserved = self._room.borrowed_tokens * self.block_size
        while self._blocks and self._blocks.currsize + reserved > self._max_bytes:
            self._blocks.popitem()
