"""Room in memory for segments: bounded over all handles, given up in an order that readers do not feel."""

from __future__ import annotations

import contextlib
import itertools
import mmap
from collections import OrderedDict
from collections.abc import Iterator

import trio

from figfs.reading.blocks import BLOCK_SIZE
from figfs.reading.segments import Segment

UNREAD_FOR = 30.0  #: seconds: who has not come for it by then will not come soon
SMALLEST_POOLED = 256 << 10  #: bytes; larger buffers are used again, so their sizes are powers of two


class Memory:
    """The room of one mount: the buffers of all segments, in flight and complete, are at most ``max_bytes``.

    Complete segments give way in this order: those that their reader has passed; those that nobody has read
    to their end for ``UNREAD_FOR``; those that were read, unused for longest; all others. Those stay that are
    being hashed or written, or will be soon, and are not on disk.
    """

    def __init__(self, max_bytes: int, *, on_disk: int = 0) -> None:
        """``on_disk``: bytes that the disk cache may hold."""
        self.max_bytes = max_bytes
        self._on_disk = on_disk
        #: The longest segment (bytes): room for some of them, so that none waits for all of the memory.
        self.longest = max(max_bytes // 4 // BLOCK_SIZE, 1) * BLOCK_SIZE
        self.used = 0
        self.unwritten = 0  #: bytes in segments that are to be written to disk
        self._spent: dict[Segment, None] = {}
        self._unread: dict[Segment, float] = {}  #: not to its end; since when it is here, in that order
        self._recent: OrderedDict[Segment, None] = OrderedDict()
        self._freed = trio.lowlevel.ParkingLot()
        # Buffers nobody uses, by size. A fresh one costs 2.6 ms for 4 MiB, page by page; this one nothing.
        self._pool: dict[int, list[mmap.mmap]] = {}
        self._pooled = 0

    def reserve(self, segment: Segment) -> bool:
        """Give ``segment`` its buffer; False if there is no room for it now."""
        size = segment.end - segment.start
        room = size if size < SMALLEST_POOLED else 1 << (size - 1).bit_length()
        if self.used + room > self.max_bytes and not self._make_room(self.used + room - self.max_bytes):
            return False
        self.used += room
        segment.room = room
        segment.buffer = self._buffer(room)
        segment.view = memoryview(segment.buffer)[:size]
        return True

    def _buffer(self, room: int) -> bytearray | mmap.mmap:
        """A buffer of ``room`` bytes, of which ``used`` knows already."""
        if room < SMALLEST_POOLED:
            return bytearray(room)
        if self._pool.get(room):
            self._pooled -= room
            return self._pool[room].pop()
        if self.used + self._pooled > self.max_bytes:
            self._pool.clear()
            self._pooled = 0
        # Its pages come when bytes are received into them, in a thread; a bytearray would be cleared here, in
        # the event loop.
        buffer = mmap.mmap(-1, room, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # a kernel without huge pages
            buffer.madvise(mmap.MADV_HUGEPAGE)
        return buffer

    def _take_back(self, segment: Segment) -> None:
        """Its buffer is free for another, unless somebody holds a view of it still."""
        self.used -= segment.room
        if not segment.pins:  # readers of what was dropped still take their bytes from it
            segment.view.release()
        if isinstance(segment.buffer, mmap.mmap):
            try:
                segment.buffer.resize(segment.room)  # as it is; BufferError while there are views
            except BufferError:
                pass  # freed with the last of them
            else:
                self._pool.setdefault(segment.room, []).append(segment.buffer)
                self._pooled += segment.room
        segment.buffer = bytearray()
        segment.room = 0

    async def wait_for_room(self, segment: Segment) -> None:
        """``reserve``, as soon as there is room: all that takes it is on its way to be complete, hashed or
        written.
        """
        while not self.reserve(segment):
            await self._freed.park()

    def keep(self, segment: Segment) -> None:
        """It is complete: it may give way from now on."""
        self._unread[segment] = trio.current_time()

    def touch(self, segment: Segment, offset: int) -> None:
        """It was read up to ``offset`` of the file."""
        if segment in self._recent:
            self._recent.move_to_end(segment)
        elif offset == segment.end and segment in self._unread:
            del self._unread[segment]
            self._recent[segment] = None

    def spend(self, segment: Segment) -> None:
        """Its reader has passed it: the kernel has its pages."""
        if segment in self._recent or segment in self._unread:
            self._forget(segment)
            self._spent[segment] = None

    def give_back(self, segment: Segment) -> None:
        """It is of no use any more."""
        self._forget(segment)
        if segment.room:
            self._take_back(segment)
        self.changed()

    def changed(self) -> None:
        """Something may give way now that could not before."""
        self._freed.unpark_all()

    def _make_room(self, size: int) -> bool:
        """Let complete segments go until ``size`` bytes are free; False if that cannot be had."""
        victims: list[Segment] = []
        for segment in self._in_order():
            if size <= 0:
                break
            if not self._is_needed(segment):
                victims.append(segment)
                size -= segment.room
        if size > 0:
            return False
        for segment in victims:
            self._forget(segment)
            segment.content.evict(segment)
            self._take_back(segment)
        return True

    def _in_order(self) -> Iterator[Segment]:
        """All complete segments; what gives way first comes first."""
        yield from self._spent
        old = trio.current_time() - UNREAD_FOR
        yield from itertools.takewhile(lambda segment: self._unread[segment] < old, self._unread)
        yield from self._recent
        yield from itertools.dropwhile(lambda segment: self._unread[segment] < old, self._unread)

    def _forget(self, segment: Segment) -> None:
        self._spent.pop(segment, None)
        self._unread.pop(segment, None)
        self._recent.pop(segment, None)

    def _is_needed(self, segment: Segment) -> bool:
        if segment.pins:
            return True
        # On disk it can be hashed later, unless the disk cannot hold all of it until then.
        if segment.on_disk and segment.content.size <= self._on_disk:
            return False
        # A disk that is slower than the line must not hold up the readers: beyond this it goes without.
        if segment.to_be_written and self.unwritten <= self.max_bytes // 2:
            return True
        return segment.content.hashes_soon(segment)
