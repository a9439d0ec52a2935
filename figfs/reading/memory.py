"""Room in memory for segments: bounded over all handles, given up in an order that readers do not feel."""

from __future__ import annotations

from collections import OrderedDict

import trio

from figfs.reading.segments import Segment


class Memory:
    """The room of one mount: the buffers of all segments, in flight and complete, are at most ``max_bytes``.

    Complete segments give way in this order: those that their reader has passed, then those unused for
    longest. Those stay that are being hashed or written, or will be soon, and are not on disk.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.used = 0
        self.unwritten = 0  #: bytes in segments that are to be written to disk
        self._spent: dict[Segment, None] = {}
        self._recent: OrderedDict[Segment, None] = OrderedDict()
        self._freed = trio.lowlevel.ParkingLot()

    def reserve(self, segment: Segment) -> bool:
        """Give ``segment`` its buffer; False if there is no room for it now."""
        size = segment.end - segment.start
        if self.used + size > self.max_bytes and not self._make_room(self.used + size - self.max_bytes):
            return False
        self.used += size
        segment.room = size
        segment.allocate()
        return True

    async def wait_for_room(self, segment: Segment) -> None:
        """``reserve``, as soon as there is room: all that takes it is on its way to be complete, hashed or
        written.
        """
        while not self.reserve(segment):
            await self._freed.park()

    def keep(self, segment: Segment) -> None:
        """It is complete: it may give way from now on."""
        self._recent[segment] = None

    def touch(self, segment: Segment) -> None:
        """It was read."""
        if segment in self._recent:
            self._recent.move_to_end(segment)

    def spend(self, segment: Segment) -> None:
        """Its reader has passed it: the kernel has its pages."""
        if segment in self._recent:
            del self._recent[segment]
            self._spent[segment] = None

    def give_back(self, segment: Segment) -> None:
        """It is of no use any more."""
        self._recent.pop(segment, None)
        self._spent.pop(segment, None)
        self.used -= segment.room
        segment.room = 0
        self.changed()

    def changed(self) -> None:
        """Something may give way now that could not before."""
        self._freed.unpark_all()

    def _make_room(self, size: int) -> bool:
        """Let complete segments go until ``size`` bytes are free; False if that cannot be had."""
        victims: list[Segment] = []
        for candidates in (self._spent, self._recent):
            for segment in candidates:
                if size <= 0:
                    break
                if not self._is_needed(segment):
                    victims.append(segment)
                    size -= segment.room
        if size > 0:
            return False
        for segment in victims:
            self._recent.pop(segment, None)
            self._spent.pop(segment, None)
            self.used -= segment.room
            segment.room = 0
            segment.content.evict(segment)
        return True

    def _is_needed(self, segment: Segment) -> bool:
        if segment.pins:
            return True
        if segment.on_disk:
            return False
        # A disk that is slower than the line must not hold up the readers: beyond this it goes without.
        if segment.to_be_written and self.unwritten <= self.max_bytes // 2:
            return True
        return segment.content.hashes_soon(segment)
