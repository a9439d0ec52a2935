"""The blocks of stored files: in memory and on disk, each fetched once however many ask.

What is missing is fetched by range into a *segment* of memory, in the services nursery and not in the task
that asked first: a fetch outlives a reader that gives up, and the next read finds what it brought
(semantics.md, ``read``). A reader waits only until its own bytes are in. Complete segments go to disk
(``blockstore.py``) and to the hasher (``verification.py``). ``reader.py`` says what is to be fetched;
``assembly.py`` builds the one cache; where bytes come from is the ``Source``'s business.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from weakref import WeakValueDictionary

import trio
from cachetools import LRUCache

from figfs.errors import BadAnswer, RemoteError, TooSlow, Unreachable
from figfs.reading.blocks import aligned
from figfs.reading.blockstore import BlockStore
from figfs.reading.keeping import Keeper
from figfs.reading.memory import Memory
from figfs.reading.segments import Content, Phase, Segment, Source, Stream, Verdict
from figfs.reading.streams import Streams, comes_by
from figfs.reading.verification import Verifier

log = logging.getLogger(__name__)

MEMORY = 128 << 20

#: Requests for bytes at once. Enough for 15 times the speed of one connection; a server that limits each
#: connection, the usual case, is otherwise the limit.
MAX_FETCHES = 32
MAX_PREFETCHES = 24  #: of these, for bytes nobody waits for yet

#: A segment's last resort: ``downloads.py`` gives up much sooner where nothing comes.
FETCH_TIMEOUT = 600.0

#: Fetching ahead is bounded to what the line brings in this time (seconds): more would delay what is needed
#: first. Where nothing is known yet, to ``UNKNOWN_RATE_AHEAD`` bytes.
AHEAD_TIME = 2.0
UNKNOWN_RATE_AHEAD = 8 << 20
LEAST_AHEAD = 1 << 20
AHEAD_SHARE = 0.75  #: of the memory, for all that is fetched ahead

#: A read of what has just been fetched completely waits so long (seconds) for the comparison of its MD5.
VERDICT_TIMEOUT = 20.0

#: After two mismatches the file is given as broken for so long (seconds), then fetched again.
BROKEN_FOR = 600.0

WHOLE_PIECE = 4 << 20  #: bytes of a request where all of a file is fetched

REMEMBERED = 4096  #: contents whose verdict is remembered though nothing of them is in memory


@dataclasses.dataclass(frozen=True, slots=True)
class Statistics:
    """``fetches`` and ``prefetches`` are segments under way; ``fetched``: bytes from Figshare."""

    bytes: int
    max_bytes: int
    segments: int
    fetches: int
    prefetches: int
    fetched: int
    from_disk: int


class BlockCache:
    """The cache of one mount.

    Invariants: no two segments of a content overlap; the buffers of all segments are at most ``max_bytes``;
    what is in a segment, and what is written to ``store``, is what ``Source.fetch`` gave.
    """

    def __init__(
        self,
        *,
        nursery: trio.Nursery,
        store: BlockStore | None = None,
        max_bytes: int = MEMORY,
        max_fetches: int = MAX_FETCHES,
        max_prefetches: int = MAX_PREFETCHES,
        fetch_timeout: float = FETCH_TIMEOUT,
    ) -> None:
        """``nursery`` is where fetches run; ``store``: the blocks on disk, scanned already."""
        self.store = store
        self._nursery = nursery
        self._memory = Memory(max_bytes, on_disk=0 if store is None else store.limit)
        self._slots = trio.CapacityLimiter(max_fetches)
        self._max_prefetches = max_prefetches
        self._fetch_timeout = fetch_timeout
        # Readers and segments hold their content; the last ones used stay beyond that.
        self._contents: WeakValueDictionary[str, Content] = WeakValueDictionary()
        self._remembered: LRUCache[str, Content] = LRUCache(REMEMBERED)
        self._in_flight: set[Segment] = set()
        self._rate = _Rate()
        self._fetched = 0
        self._from_disk = 0
        self._active: dict[object, float] = {}
        self._keeper: Keeper | None = None
        if store is not None:
            self._keeper = Keeper(nursery=nursery, store=store, memory=self._memory, find=self._contents.get)
        self._streams = Streams(
            memory=self._memory,
            in_flight=self._in_flight,
            complete=self._complete,
            end=self._end,
            share=self._share,
        )
        self._verifier = Verifier(
            nursery=nursery,
            store=store,
            on_progress=self._memory.changed,
            on_good=self._good,
            on_mismatch=self._mismatch,
        )

    # -- contents ------------------------------------------------------------

    def content(self, source: Source) -> Content:
        """What is known of the content of ``source``: one object for all who read it."""
        content = self._contents.get(source.key)
        if content is None:
            content = self._contents[source.key] = Content(source)
        self._remembered[source.key] = content
        if not content.md5 and source.md5:  # told only since
            content.md5 = source.md5
            content.start_verification()
        return content

    def verdict(self, source: Source) -> Verdict:
        """What is known of the whole content, as of now and without asking anybody."""
        content = self._contents.get(source.key)
        if content is not None and (
            content.verdict is not Verdict.UNKNOWN or content.loaded is not None or content.segments
        ):
            return content.verdict
        if not source.md5:
            return Verdict.NO_MD5
        if self.store is not None and self.store.is_verified(source.key):
            return Verdict.GOOD
        return Verdict.UNKNOWN

    def is_broken(self, content: Content) -> bool:
        """Whether it was fetched twice and is not what Figshare says. After a while it may be tried again."""
        if content.verdict is Verdict.BAD and trio.current_time() >= content.bad_until:
            content.start_verification()
        return content.verdict is Verdict.BAD

    async def load(self, content: Content) -> None:
        """Find out, once, what the disk has of it."""
        while content.loaded is None or not content.loaded.is_set():
            if content.loaded is None:
                await self._look_on_disk(content)
            else:
                await content.loaded.wait()

    async def _look_on_disk(self, content: Content) -> None:
        store = self.store
        looked = content.loaded = trio.Event()
        if store is None or not store.may_have(content.key, 0, content.size):
            looked.set()
            return

        def look() -> tuple[bool, list[tuple[int, int]]]:
            return store.is_verified(content.key), store.missing(content.key, content.size)

        found = None
        try:
            if content.dropped is not None:
                await content.dropped.wait()
            found = await trio.to_thread.run_sync(look)
        finally:
            if found is None and content.loaded is looked:
                content.loaded = None  # cancelled: the next one looks
            looked.set()
        verified, missing = found
        if content.loaded is not looked:
            return  # verification has started over meanwhile
        for gap in _outside(missing, content.size):
            content.have.add(*gap)
        is_good = verified and not missing and all(segment.on_disk for segment in content.segments)
        if is_good and content.verdict is Verdict.UNKNOWN and not content.hashing:
            content.verdict = Verdict.GOOD
        self._verifier.advance(content)

    # -- reading ------------------------------------------------------------

    def want(
        self, source: Source, content: Content, ranges: Iterable[tuple[int, int]], read_end: int
    ) -> bool:
        """Start to fetch what is missing of ``ranges``, which are whole blocks, in the order of need.

        What begins before ``read_end`` is waited for; the rest is fetched ahead, as far as there is room.
        Returns whether all of it is here or on its way. No await.
        """
        for start, end in ranges:
            for low, high in _pieces(content.gaps(start, end), self._memory.longest):
                if low < read_end:
                    self._start(source, Segment(content, low, high, is_prefetch=False))
                    continue
                segment = Segment(content, low, high, is_prefetch=True)
                if self._prefetches() >= self._max_prefetches or not self._memory.reserve(segment):
                    return False
                self._start(source, segment)
        return True

    async def take(
        self, source: Source, content: Content, offset: int, end: int
    ) -> tuple[bytes | memoryview, bool]:
        """The bytes [offset, end) of the content, and whether they had to be waited for.

        Raises what the fetch raised (``RemoteError``; each caller an exception of its own), ``TooSlow`` after
        ``fetch_timeout`` seconds. A failure is not kept: the next ``take`` fetches again. Cancellation leaves
        the fetch running.
        """
        parts: list[memoryview] = []
        waited = False
        position = offset
        while position < end:
            segment = content.find(position)
            if segment is None:  # it had to give way, or failed for another reader
                self.want(source, content, [aligned(position, end, file_size=content.size)], end)
                segment = content.find(position)
                assert segment is not None
            segment.is_prefetch = False
            if content.stream is not None and end > content.stream.demanded:
                content.stream.demanded = end
                content.changed()
            stop = min(end, segment.end)
            segment.pins += 1
            try:
                waited |= await segment.wait_for(stop)
            finally:
                segment.pins -= 1
                self._memory.changed()
            # No await until the view is taken: the segment may give way again.
            here = min(stop, segment.start + segment.filled)
            if here > position:
                parts.append(segment.view[position - segment.start : here - segment.start])
                position = here
            if here < stop and segment.error is not None and segment.stream is None:
                # A copy: a shared exception would collect the tracebacks of all who wait.
                raise copy.copy(segment.error) from segment.error
            self._memory.touch(segment, position)
        return (parts[0] if len(parts) == 1 else b"".join(parts)), waited

    def spend(self, content: Content, before: int) -> None:
        """A reader will not come back to what is before ``before``: that gives way first."""
        if before > content.spent:
            content.spent = before
            for segment in content.segments:
                if segment.end > before:
                    break
                self._memory.spend(segment)

    def ahead(self, reader: object) -> int:
        """How far (bytes) ``reader`` may fetch ahead: its share of the memory, and what the line brings
        soon.
        """
        now = trio.current_time()
        self._active[reader] = now
        if len(self._active) > 1:
            self._active = {each: last for each, last in self._active.items() if last > now - AHEAD_TIME}
        rate = self._rate.bytes_a_second
        soon = UNKNOWN_RATE_AHEAD if rate is None else max(LEAST_AHEAD, int(rate * AHEAD_TIME))
        return min(self._share(), soon)

    def _share(self) -> int:
        """Bytes of memory for what is fetched ahead of one reader."""
        return int(self._memory.max_bytes * AHEAD_SHARE) // max(1, len(self._active))

    def prefetch(self, source: Source) -> None:
        """Fetch a small content whole, without waiting for it, if there is room."""
        self.want(source, self.content(source), [(0, source.size)], 0)

    async def fetch_whole(self, source: Source, content: Content) -> bool:
        """Fetch all that is missing and wait for the comparison of the MD5 (``verify=open``).

        Returns when the content is good, or has nothing to compare with, or was dropped; False if the cache
        cannot hold all of it until it is compared. Raises what the fetch raises.
        """
        if self.store is None and content.size > self._memory.max_bytes:
            return False
        generation = content.generation
        for _ in range(2):  # what is on disk may turn out to be damaged
            await self.load(content)
            position = 0
            while content.verdict is Verdict.UNKNOWN and content.generation == generation:
                ahead = min(position + max(WHOLE_PIECE, self.ahead(content)), content.size)
                gaps = content.have.missing(position, ahead)
                if not gaps and ahead == content.size:
                    break
                start, end = gaps[0] if gaps else (ahead, ahead)
                end = min(end, start + WHOLE_PIECE)
                self.want(source, content, _pieces(gaps, WHOLE_PIECE), end)
                await self.take(source, content, start, end)
                self.spend(content, start)
                position = end
            self._verifier.advance(content)
            while content.awaits_verdict:
                await content.wait()
            if content.verdict is not Verdict.UNKNOWN or content.generation != generation:
                return True
        return False

    async def verdict_of_whole(self, content: Content) -> None:
        """Wait for the comparison of the MD5 if all of the content is here, at most ``VERDICT_TIMEOUT``."""
        if content.verdict is Verdict.UNKNOWN:
            await self.load(content)
        if content.awaits_verdict:
            with trio.move_on_after(VERDICT_TIMEOUT):
                while content.awaits_verdict:
                    await content.wait()

    # -- fetching ------------------------------------------------------------

    def _prefetches(self) -> int:
        return sum(segment.is_prefetch for segment in self._in_flight)

    def _start(self, source: Source, segment: Segment) -> None:
        name = f"fetch {source.key} [{segment.start}, {segment.end})"
        try:
            self._nursery.start_soon(self._run, source, segment, name=name)
        except RuntimeError:  # the nursery is closed
            self._memory.give_back(segment)
            raise Unreachable("the mount is going down") from None
        segment.content.insert(segment)
        self._in_flight.add(segment)

    async def _run(self, source: Source, segment: Segment) -> None:
        where = f"[{segment.start}, {segment.end}) of {source.key}"
        error: RemoteError = Unreachable("the mount is going down")
        try:
            with trio.fail_after(self._fetch_timeout) as deadline:
                if not segment.room:
                    await self._memory.wait_for_room(segment)
                await self._fill(source, segment, deadline)
        except RemoteError as exc:
            log.debug("fetch of %s failed: %s", where, exc)
            error = exc
        except trio.TooSlowError:
            error = TooSlow(f"no {where} within {self._fetch_timeout:g} s")
        except Exception as exc:  # a bug in one fetch must not end the mount
            log.exception("fetch of %s", where)
            error = BadAnswer(f"internal error: {exc!r}")
        finally:
            # When the mount goes down the task is cancelled: nobody may wait for ever then.
            self._end(segment, error)

    async def _fill(self, source: Source, segment: Segment, deadline: trio.CancelScope) -> None:
        missing = [(segment.start, segment.end)]
        content = segment.content
        if content.dropped is not None:
            await content.dropped.wait()
        if self.store is not None and self.store.may_have(content.key, segment.start, segment.end):
            missing = await trio.to_thread.run_sync(
                self.store.read_into, content.key, content.size, segment.start, segment.end, segment.view
            )
            found = segment.end - segment.start - sum(high - low for low, high in missing)
            self._from_disk += found
        if not missing:
            segment.on_disk = True
            segment.advance(segment.end - segment.start)
            return
        after = [low for low, _ in missing[1:]] + [segment.end]
        segment.advance(missing[0][0] - segment.start)
        for (low, high), next_low in zip(missing, after, strict=True):
            await self._fetch(source, segment, low, high, deadline)
            segment.advance(next_low - segment.start)

    async def _fetch(
        self, source: Source, segment: Segment, low: int, high: int, deadline: trio.CancelScope
    ) -> None:
        """Bytes [low, high) from Figshare, or from a stream that brings them anyway."""
        content = segment.content
        reach = self._streams.lead()
        while (low := max(low, segment.start + segment.filled)) < high:
            segment.phase = Phase.WAITING
            content.changed()
            if comes_by(content.stream, low, reach):
                await content.wait()
                continue
            async with self._slots:
                low = max(low, segment.start + segment.filled)
                if low < high and not comes_by(content.stream, low, reach):
                    # No await since ``low`` was set: nobody else fills the segment from here on.
                    segment.phase = Phase.ASKING
                    if not await self._ask(source, segment, low, high, deadline):
                        reach = content.size

    async def _ask(
        self, source: Source, segment: Segment, low: int, high: int, deadline: trio.CancelScope
    ) -> bool:
        """Ask for [low, high). False if a stream will bring it, since the server ignores ranges."""
        content = segment.content
        generation = content.generation
        stream: Stream | None = None
        seen = 0
        if segment.kept and content.is_anew(low):  # the disk has lost some of it: it is a new whole
            content.start_verification()

        def progress(count: int) -> None:
            nonlocal seen
            self._count(count - seen)
            seen = count
            segment.advance(low + count - segment.start)
            if segment.complete:
                self._complete(segment)

        async def spare(offset: int, chunk: bytes | memoryview) -> bool:
            nonlocal stream
            if content.generation != generation:
                return False
            if stream is None and content.stream is None:
                asked = [each.end for each in content.segments if not each.ended and not each.is_prefetch]
                stream = content.stream = Stream(max(asked, default=high))
            if content.stream is not stream:  # one is enough
                if stream is None and comes_by(content.stream, low + seen, content.size):
                    segment.phase = Phase.WAITING
                    no_use.cancel()
                    await trio.lowlevel.checkpoint()
                return False
            assert stream is not None
            if offset >= high:
                segment.phase = Phase.WAITING  # for the next of its gaps
            self._count(len(chunk))
            deadline.deadline = trio.current_time() + self._fetch_timeout
            return await self._streams.take(content, stream, offset, memoryview(chunk), ours=high)

        buffer = segment.view[low - segment.start : high - segment.start]
        with trio.CancelScope() as no_use:
            try:
                await source.fetch(low, high, buffer, progress=progress, spare=spare)
            finally:
                if stream is not None:
                    self._streams.end(content, stream)
        if no_use.cancelled_caught:
            return False
        if seen < high - low:
            progress(high - low)
        return True

    def _count(self, size: int) -> None:
        self._fetched += size
        self._rate.add(size, trio.current_time())

    def _complete(self, segment: Segment) -> None:
        """All bytes of a segment are here."""
        if segment not in self._in_flight:
            return
        self._in_flight.remove(segment)
        segment.end_here(None)
        content = segment.content
        if not segment.kept:
            self._memory.give_back(segment)
            return
        if not segment.on_disk and content.is_anew(segment.start):  # the hasher had it from elsewhere
            content.start_verification()
        content.have.add(segment.start, segment.end)
        content.fresh.add(segment.start, segment.end)
        self._memory.keep(segment)
        if segment.end <= content.spent:
            self._memory.spend(segment)
        if self._keeper is not None and not segment.on_disk:
            self._keeper.write(segment)
        self._verifier.advance(content)
        self._memory.changed()

    def _end(self, segment: Segment, error: RemoteError) -> None:
        """The task of a segment ends, well or not."""
        if segment.complete:
            self._complete(segment)
        if segment not in self._in_flight:
            return
        segment.end_here(error)
        if segment.filled:
            self._complete(segment)
        else:
            self._in_flight.remove(segment)
            if segment.kept:
                segment.content.remove(segment)
            self._memory.give_back(segment)

    def _good(self, content: Content) -> None:
        """All of it is what Figshare says."""
        content.changed()
        if self._keeper is not None:
            self._keeper.mark(content)

    def _mismatch(self, content: Content, found: str) -> None:
        """All of it was fetched, and is not what Figshare says: drop it all."""
        content.mismatches += 1
        again = content.mismatches == 1
        log.warning(
            "%s: the MD5 of what Figshare sent is %s: %s",
            content.key,
            found,
            "it is fetched again" if again else "it cannot be read faithfully",
        )
        # No await: readers see all of the old or nothing of it.
        for segment in content.segments:
            segment.kept = False
            if segment not in self._in_flight:
                self._memory.give_back(segment)
        content.segments.clear()
        content.stream = None
        content.generation += 1
        content.start_verification()
        if not again:
            content.verdict = Verdict.BAD
            content.bad_until = trio.current_time() + BROKEN_FOR
        if self._keeper is not None:
            self._keeper.drop(content)
        content.changed()

    def adopt(self, key: str, size: int, path: Path) -> None:
        """Keep what was just uploaded, whose MD5 has been compared: a copy of the file ``path`` goes to disk,
        beside what else is done. The file may be deleted meanwhile. Errors are logged only.
        """
        if self._keeper is not None and size:
            self._keeper.adopt(key, size, path)

    def statistics(self) -> Statistics:
        return Statistics(
            bytes=self._memory.used,
            max_bytes=self._memory.max_bytes,
            segments=sum(len(content.segments) for content in self._contents.values()),
            fetches=len(self._in_flight),
            prefetches=self._prefetches(),
            fetched=self._fetched,
            from_disk=self._from_disk,
        )


def _pieces(ranges: Iterable[tuple[int, int]], longest: int) -> Iterator[tuple[int, int]]:
    for start, end in ranges:
        for position in range(start, end, longest):
            yield position, min(position + longest, end)


def _outside(gaps: Iterable[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    """What ``gaps`` leave of [0, size)."""
    position = 0
    for low, high in gaps:
        yield position, low
        position = high
    yield position, size


class _Rate:
    """Bytes a second that the line brings: the best of the last quarters of a second, slowly forgotten."""

    INTERVAL = 0.25
    FORGET = 0.95  #: an interval

    def __init__(self) -> None:
        self.bytes_a_second: float | None = None
        self._since = 0.0
        self._count = 0

    def add(self, size: int, now: float) -> None:
        passed = now - self._since
        if passed > 4 * self.INTERVAL:  # a pause: nothing was asked for
            self._since, self._count = now, size
            return
        self._count += size
        if passed >= self.INTERVAL:
            rate = self._count / passed
            self.bytes_a_second = max(rate, (self.bytes_a_second or 0.0) * self.FORGET)
            self._since, self._count = now, 0
