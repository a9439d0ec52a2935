"""What is in memory of one content: segments, each a range in one buffer that is filled from its start on.

Records and their rules; who fills, keeps and drops them is ``blockcache.py``. Nothing here awaits but
``Segment.wait_for`` and ``Content.wait``.
"""

from __future__ import annotations

import bisect
import dataclasses
import enum
import hashlib
from collections.abc import Awaitable, Callable
from mmap import mmap
from typing import Protocol

import trio

from figfs.errors import RemoteError
from figfs.intervals import Intervals
from figfs.reading.blocks import BLOCK_SIZE

Progress = Callable[[int], None]
Spare = Callable[[int, bytes | memoryview], Awaitable[bool]]


class Fetch(Protocol):
    """``downloads.fetch_into`` of one file: exactly the bytes [start, end) into ``buffer``, or an error."""

    async def __call__(
        self,
        start: int,
        end: int,
        buffer: memoryview,
        *,
        progress: Progress | None = None,
        spare: Spare | None = None,
    ) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """One content at Figshare: files are immutable by id, so its bytes never change.

    ``key`` names the content: the same for every file, article and account that holds it. It may become the
    name of a file, so it is of letters, digits, ``.``, ``_`` and ``-`` only.
    """

    key: str
    size: int
    md5: str  #: what the whole is compared with: lower-case hex, or "" where Figshare tells none
    fetch: Fetch = dataclasses.field(compare=False, repr=False)


class Verdict(enum.Enum):
    """What is known of a content as a whole. The values are those of ``user.figshare.verified``."""

    UNKNOWN = "not yet"  #: not all of it has been fetched, or it is being hashed
    NO_MD5 = "no md5"  #: Figshare gives nothing to compare with
    GOOD = "yes"
    BAD = "mismatch"


class Phase(enum.Enum):
    """What the task of a segment does."""

    PREPARING = 1  #: waits for room, and looks on disk
    WAITING = 2  #: for a turn or for a stream: one that comes by may fill it
    ASKING = 3  #: a request of its own is under way


class Segment:
    """The range [start, end) of a content, on its way or here.

    Its first ``filled`` bytes are valid and never change again. Once ``ended``, no more will come: it is
    complete, or ``error`` says why not.
    """

    __slots__ = (
        "_progress",
        "buffer",
        "content",
        "end",
        "ended",
        "error",
        "filled",
        "is_prefetch",
        "kept",
        "on_disk",
        "phase",
        "pins",
        "room",
        "start",
        "stream",
        "to_be_written",
        "view",
    )

    def __init__(self, content: Content, start: int, end: int, *, is_prefetch: bool) -> None:
        self.content = content
        self.start = start
        self.end = end
        self.is_prefetch = is_prefetch  #: nobody has asked for it yet
        self.stream: Stream | None = None  #: what fills it, if not a task of its own
        self.phase = Phase.PREPARING
        self.buffer: bytearray | mmap = bytearray()
        self.view = memoryview(b"")  #: the range's bytes in the buffer, once there is room for it
        self.room = 0  #: bytes it takes of the cache's memory; 0: it has no buffer
        self.filled = 0
        self.ended = False
        self.error: RemoteError | None = None
        self.on_disk = False
        self.to_be_written = False
        self.pins = 0  #: who needs the buffer in memory: the hasher, the writer, readers that wait
        self.kept = True  #: False once it was dropped: those who wait still get it, others do not
        self._progress = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        return f"<Segment {self.content.key} [{self.start}, {self.end}) filled={self.filled}>"

    @property
    def complete(self) -> bool:
        return self.filled == self.end - self.start

    def advance(self, filled: int) -> None:
        """``filled`` bytes are valid now; wakes who waits."""
        if filled > self.filled:
            self.filled = filled
            self._progress.unpark_all()

    def end_here(self, error: RemoteError | None) -> None:
        """No more bytes will come. What is whole blocks stays, as a shorter segment."""
        if not self.complete:
            self.error = error
            self.end = self.start + self.filled // BLOCK_SIZE * BLOCK_SIZE
            self.filled = self.end - self.start
        self.ended = True
        self._progress.unpark_all()

    async def wait_for(self, offset: int) -> bool:
        """Wait until the bytes up to ``offset`` of the file are here, or will not come; whether it waited."""
        waited = False
        while self.start + self.filled < offset and not self.ended:
            waited = True
            await self._progress.park()
        return waited


class Content:
    """All that is known of one content in this mount."""

    def __init__(self, source: Source) -> None:
        self.key = source.key
        self.size = source.size
        self.md5 = source.md5
        self.segments: list[Segment] = []  #: sorted, disjoint; all of them are ``kept``
        #: Counts the times that all of it was dropped, since it was not what it should be.
        self.generation = 0
        self.dropped: trio.Event | None = None  #: set when that has been done on disk, too
        self.spent = 0  #: what is before it has been marked as spent
        self.stream: Stream | None = None  #: an answer with the whole file that is coming in
        self.unwritten = 0  #: tasks that write of it to disk
        self.mismatches = 0  #: in a row
        self.bad_until = 0.0
        self._changed = trio.lowlevel.ParkingLot()
        self.start_verification()

    def __repr__(self) -> str:
        return f"<Content {self.key} {len(self.segments)} segments, {self.verdict.name}>"

    # -- segments ------------------------------------------------------------

    def find(self, offset: int) -> Segment | None:
        """The segment that holds ``offset``."""
        index = bisect.bisect_right(self.segments, offset, key=_start) - 1
        if index >= 0 and offset < self.segments[index].end:
            return self.segments[index]
        return None

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of [start, end) that no segment covers, in order."""
        gaps: list[tuple[int, int]] = []
        index = max(0, bisect.bisect_right(self.segments, start, key=_start) - 1)
        while start < end and index < len(self.segments) and self.segments[index].start < end:
            segment = self.segments[index]
            if segment.start > start:
                gaps.append((start, segment.start))
            start = max(start, segment.end)
            index += 1
        if start < end:
            gaps.append((start, end))
        return gaps

    def insert(self, segment: Segment) -> None:
        bisect.insort(self.segments, segment, key=_start)

    def remove(self, segment: Segment) -> None:
        segment.kept = False
        index = bisect.bisect_left(self.segments, segment.start, key=_start)
        while self.segments[index] is not segment:  # an emptied one may share its start with the next
            index += 1
        del self.segments[index]

    def evict(self, segment: Segment) -> None:
        """A complete segment goes from memory."""
        self.remove(segment)
        if not segment.on_disk:
            start = max(segment.start, self.hashed)
            self.have.remove(start, segment.end)
            self.fresh.remove(start, segment.end)

    # -- verification ------------------------------------------------------------

    def start_verification(self) -> None:
        """Nothing is known of the whole any more. May be called at any time: whoever is hashing finds
        another ``digest`` here, and stops.
        """
        self.verdict = Verdict.UNKNOWN if self.md5 else Verdict.NO_MD5
        self.digest = hashlib.md5(usedforsecurity=False)
        self.hashed = 0  #: bytes from the start on that ``digest`` has seen
        self.hashing = False
        self.loaded: trio.Event | None = None  #: set when it is known what the disk has; None: not asked
        here = [segment for segment in self.segments if segment.ended]
        #: What has been hashed, or is in memory, or was on disk when that was looked at.
        self.have = Intervals((segment.start, segment.end) for segment in here)
        #: Of that, what has been in memory since.
        self.fresh = Intervals(self.have)

    def is_anew(self, start: int) -> bool:
        """Whether what comes from Figshare for ``start`` was there before: it may be other bytes than those
        that were hashed.
        """
        return self.verdict is Verdict.GOOD or (self.verdict is Verdict.UNKNOWN and start < self.hashed)

    def lost(self, start: int, end: int) -> None:
        """[start, end), not hashed yet, is not on disk."""
        while start < end:
            segment = self.next_complete(start)
            stop = end if segment is None else min(end, segment.start)
            self.have.remove(start, stop)
            self.fresh.remove(start, stop)
            start = end if segment is None else max(stop, segment.end)

    def next_complete(self, offset: int) -> Segment | None:
        """The first segment from ``offset`` on of which all is here; it may have begun before."""
        index = max(0, bisect.bisect_right(self.segments, offset, key=_start) - 1)
        for segment in self.segments[index:]:
            if segment.ended and segment.end > offset:
                return segment
        return None

    def hashes_soon(self, segment: Segment) -> bool:
        """Whether ``segment`` will be hashed once what is before it has come. What a random reader has left
        will not; nor what is behind a segment that has no room yet: that may be waiting for this one's.
        """
        if self.verdict is not Verdict.UNKNOWN or segment.end <= self.hashed:
            return False
        known = self.have if self.all_fetched else self.fresh
        for position, end in known.missing(self.hashed, segment.start):
            while position < end:
                before = self.find(position)
                if before is None or not before.room:
                    return False
                position = before.end
        return True

    @property
    def is_being_dropped(self) -> bool:
        """Whether what was wrong may still be on disk."""
        return self.dropped is not None and not self.dropped.is_set()

    @property
    def all_fetched(self) -> bool:
        return not self.have.missing(0, self.size)

    @property
    def awaits_verdict(self) -> bool:
        """Whether all of it is here and being hashed: the verdict is near."""
        return self.hashing and self.verdict is Verdict.UNKNOWN and self.all_fetched

    # -- waiting ------------------------------------------------------------

    def changed(self) -> None:
        self._changed.unpark_all()

    async def wait(self) -> None:
        """Until something changes: the verdict, a stream's position, what is demanded."""
        await self._changed.park()


class Stream:
    """An answer that brings a whole file although a range was asked for."""

    __slots__ = ("demanded", "position")

    def __init__(self, demanded: int) -> None:
        self.position = 0  #: the bytes before it have passed
        self.demanded = demanded  #: the furthest offset that readers have asked for since it began


def _start(segment: Segment) -> int:
    return segment.start
