"""What Figshare would be to the block cache: a content that is sent by range, with faults and gates."""

from __future__ import annotations

import contextlib
import hashlib
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import trio

from figfs.reading.blockcache import BlockCache
from figfs.reading.blocks import BLOCK_SIZE
from figfs.reading.blockstore import BlockStore
from figfs.reading.reader import Reader
from figfs.reading.segments import Content, Progress, Source, Spare, Verdict

KIB = 1 << 10
MIB = 1 << 20


def content_of(size: int, seed: object = "content") -> bytes:
    return random.Random(repr(seed)).randbytes(size)


class Remote:
    """Sends ``content``, in steps of ``step`` bytes; notes what was asked for."""

    def __init__(
        self, content: bytes, *, key: str | None = None, md5: str | None = None, step: int = 64 * KIB
    ) -> None:
        self.content = content
        self.wrong: list[bytes] = []  #: what the next requests get instead of ``content``, one each
        self.step = step
        self.asked: list[tuple[int, int]] = []
        self.sent = 0  #: bytes, what was sent and not wanted included
        self.at_once = 0  #: requests under way
        self.most_at_once = 0
        self.ignores_ranges = False  #: answers 200 with all of it
        self.failure: Exception | None = None
        self.fails_at = 0  #: ``failure`` comes before the byte at this offset, or at the end of the request
        self._gates: dict[int, trio.Event] = {}
        md5 = hashlib.md5(content).hexdigest() if md5 is None else md5
        self.source = Source(key or f"{md5 or 'id-7'}-{len(content)}", len(content), md5, self.fetch)

    def hold(self, offset: int) -> trio.Event:
        """Nothing from ``offset`` on is sent until the event is set."""
        self._gates[offset] = event = trio.Event()
        return event

    async def fetch(
        self,
        start: int,
        end: int,
        buffer: memoryview,
        *,
        progress: Progress | None = None,
        spare: Spare | None = None,
    ) -> None:
        assert len(buffer) == end - start > 0
        self.asked.append((start, end))
        content = self.wrong.pop(0) if self.wrong else self.content
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self._send(content, start, end, buffer, progress, spare)
        finally:
            self.at_once -= 1

    async def _send(
        self,
        content: bytes,
        start: int,
        end: int,
        buffer: memoryview,
        progress: Progress | None,
        spare: Spare | None,
    ) -> None:
        first, last = (0, len(content)) if self.ignores_ranges else (start, end)
        wanted = spare is not None
        position = first
        while position < last:
            for offset, gate in sorted(self._gates.items()):
                if offset <= position:
                    await gate.wait()
            await trio.lowlevel.checkpoint()
            if self.failure is not None and (position >= self.fails_at or position >= end - self.step):
                raise self.failure
            stops = [position - position % self.step + self.step, last, start, end, *self._gates]
            stop = min(each for each in stops if each > position)
            chunk = content[position:stop]
            self.sent += len(chunk)
            if start <= position < end:
                buffer[position - start : stop - start] = chunk
                if progress is not None:
                    progress(stop - start)
            elif spare is not None and wanted:
                wanted = await spare(position, chunk)
            if stop >= end and not wanted:
                return
            position = stop


@contextlib.asynccontextmanager
async def open_cache(store: BlockStore | None = None, **options: int) -> AsyncIterator[BlockCache]:
    """A cache like that of a mount, until the end of the mount."""
    async with trio.open_nursery() as services:
        yield BlockCache(nursery=services, store=store, **options)
        services.cancel_scope.cancel()


def open_store(directory: Path, *, limit: int = 1 << 30) -> BlockStore:
    store = BlockStore(directory, limit=limit, min_free=0)
    store.scan()
    return store


def reader_of(cache: BlockCache, remote: Remote, verify: str = "end") -> Reader:
    return Reader(remote.source, cache, verify=verify)


async def take(cache: BlockCache, remote: Remote, offset: int, end: int) -> bytes:
    """``BlockCache.take`` of what nobody has planned."""
    data, _waited = await cache.take(remote.source, cache.content(remote.source), offset, end)
    return bytes(data)


async def read_all(reader: Reader, *, step: int = 128 * KIB) -> bytes:
    """As the kernel reads a file for ``cat``, one request after the other."""
    pieces = []
    for offset in range(0, reader.source.size, step):
        pieces.append(bytes(await reader.read(offset, step)))
    return b"".join(pieces)


async def until(content: Content, condition: Callable[[], bool]) -> None:
    """Wait for something that changes with the content."""
    while not condition():
        await content.wait()


async def settled(cache: BlockCache, remote: Remote) -> Verdict:
    """Wait until all of the content that is here is hashed and on disk; the verdict."""
    content = cache.content(remote.source)
    await until(
        content,
        lambda: not content.unwritten and not content.hashing and not cache.statistics().fetches,
    )
    return content.verdict


def blocks(count: int) -> int:
    """The bytes of so many blocks."""
    return count * BLOCK_SIZE
