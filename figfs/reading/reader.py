"""One open stored file: reads answered from the block cache, which fetches ahead as ``readahead.py`` says.

The handle pins its ``Source``: whatever becomes of the name, it reads one version to its end (semantics.md,
``open``). It never mixes what was found to be wrong with what is fetched after that.
"""

from __future__ import annotations

from figfs.errors import BadAnswer
from figfs.reading.blockcache import BlockCache
from figfs.reading.readahead import ReadAhead
from figfs.reading.segments import Source, Verdict

#: ``verify=open``: so often a file is completed for one read. More than once is needed where the disk has
#: lost some of it.
OPEN_ROUNDS = 2


class Reader:
    """What one handle reads. Reads may run at the same time."""

    def __init__(self, source: Source, cache: BlockCache, *, verify: str = "end") -> None:
        """``verify``: "end": a read that completes the file waits for the verdict; "open": the first read
        waits until all of the file has been fetched and compared; "background": no read waits.
        """
        self.source = source
        self._cache = cache
        self._content = cache.content(source)
        self._policy = ReadAhead(source.size)
        self._verify = verify
        self._planned: object = None  #: the last plan's ranges, if all of them are here or on their way
        self._generation: int | None = None  #: of the content, when the first bytes were handed out
        self._does_not_fit = False  #: into the cache, as "open" needs it

    def __repr__(self) -> str:
        return f"<Reader {self.source!r}>"

    async def read(self, offset: int, size: int) -> bytes | memoryview:
        """``size`` bytes from ``offset`` on: short at the end of the file, b"" past it.

        Where a read completes the file, it waits until its MD5 has been compared. Raises what
        ``BlockCache.take`` raises, ``BadAnswer`` if the file is not what Figshare says, ``ValueError`` for a
        negative offset or size. Cancellation leaves the fetches running: the next read finds what they bring.
        """
        if offset < 0 or size < 0:
            raise ValueError(f"no range of a file: offset {offset}, size {size}")
        end = min(offset + size, self.source.size)
        if end <= offset:
            return b""
        content = self._content
        if content.loaded is None or not content.loaded.is_set():
            await self._cache.load(content)
        rounds = 0
        while True:
            self._check()
            generation = content.generation
            if self._verify == "open" and content.verdict is Verdict.UNKNOWN:
                rounds += 1
                self._does_not_fit = rounds > OPEN_ROUNDS or not await self._cache.fetch_whole(
                    self.source, content
                )
                if self._does_not_fit or content.generation != generation:
                    continue
            digest = content.digest
            data = await self._take(offset, end)
            if self._verify != "background":
                await self._cache.verdict_of_whole(content)
            # Another digest: some of it had to be fetched anew, and may be what was read.
            if content.generation == generation and (self._verify != "open" or content.digest is digest):
                self._generation = generation
                return data

    def _check(self) -> None:
        content = self._content
        if self._generation is not None and content.generation != self._generation:
            raise BadAnswer(f"{content.key}: what was read before is not what Figshare holds; open it again")
        if self._cache.is_broken(content):
            raise BadAnswer(f"{content.key}: the MD5 of what Figshare sends is another, again and again")
        if self._does_not_fit:
            raise BadAnswer(f"{content.key}: the cache cannot hold all of it, so it cannot be verified first")

    async def _take(self, offset: int, end: int) -> bytes | memoryview:
        cache, content = self._cache, self._content
        plan = self._policy.plan(offset, end - offset, most=cache.ahead(self))
        if plan.ranges is not self._planned:
            complete = cache.want(self.source, content, plan.ranges, end)
            self._planned = plan.ranges if complete else None
        data, waited = await cache.take(self.source, content, offset, end)
        if waited:
            self._policy.stalled(offset)
        if plan.spent_before:
            cache.spend(content, plan.spent_before)
        return data
