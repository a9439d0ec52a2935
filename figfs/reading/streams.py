"""Answers that bring a whole file although a range was asked for: what comes along is put to use."""

from __future__ import annotations

from collections.abc import Callable

import trio

from figfs.errors import RemoteError, Unreachable
from figfs.reading.blocks import BLOCK_SIZE
from figfs.reading.memory import Memory
from figfs.reading.segments import Content, Phase, Segment, Stream

#: A server that ignores ranges sends the whole file: so far (bytes) it may be ahead of the readers, and so
#: long (seconds) it is kept waiting for them.
STREAM_LEAD = 32 << 20
STREAM_PATIENCE = 10.0
STREAM_ROOM_PATIENCE = 1.0  #: seconds that it waits for room; then some of it passes unused
STREAM_CELL = 1 << 20


class Streams:
    """The whole-file answers of one block cache, whose segments they fill.

    Args:
        in_flight: the cache's segments that are not complete.
        complete: to be called with a segment all of whose bytes are here.
        end: to be called with one that will get no more, and why.
        share: bytes of memory for what is fetched ahead of one reader.
    """

    def __init__(
        self,
        *,
        memory: Memory,
        in_flight: set[Segment],
        complete: Callable[[Segment], None],
        end: Callable[[Segment, RemoteError], None],
        share: Callable[[], int],
    ) -> None:
        self._memory = memory
        self._in_flight = in_flight
        self._complete = complete
        self._end_segment = end
        self._share = share

    async def take(
        self, content: Content, stream: Stream, offset: int, chunk: memoryview, *, ours: int
    ) -> bool:
        """Put what comes along into the segments that want it, or into new ones; False to end the stream.

        ``ours``: up to there the one who opened the stream waits for it, so it must not be held up before.
        """
        while chunk:
            if offset >= ours and not await self._is_wanted_soon(content, stream, offset):
                return False
            segment = content.find(offset)
            if segment is not None and offset >= ours:
                with trio.move_on_after(STREAM_ROOM_PATIENCE):
                    while not segment.ended and segment.phase is Phase.PREPARING and not segment.stream:
                        await content.wait()
            if segment is None and offset % BLOCK_SIZE == 0:
                segment = self._new_cell(content, stream, offset)
                if not self._memory.reserve(segment):
                    if offset >= ours:
                        with trio.move_on_after(STREAM_ROOM_PATIENCE):
                            await self._memory.wait_for_room(segment)
                    if not segment.room:
                        self._end_segment(segment, Unreachable("no room for what came along"))
                        segment = None
            if content.stream is not stream:
                return False
            # No await until the bytes are in their place.
            stop = offset - offset % BLOCK_SIZE + BLOCK_SIZE if segment is None else segment.end
            size = min(len(chunk), stop - offset)
            if (
                segment is not None
                and segment.start + segment.filled == offset
                and segment.room
                and (segment.phase is Phase.WAITING or segment.stream is stream)
            ):
                if content.is_anew(offset):
                    content.start_verification()
                segment.view[offset - segment.start :][:size] = chunk[:size]
                segment.advance(offset + size - segment.start)
                if segment.complete:
                    self._complete(segment)
            offset, chunk = offset + size, chunk[size:]
            stream.position = offset
            content.changed()
        return True

    def _new_cell(self, content: Content, stream: Stream, offset: int) -> Segment:
        """A segment from ``offset`` on, where there is none, for the stream to fill. It has no room yet."""
        end = min((offset // STREAM_CELL + 1) * STREAM_CELL, offset + self._memory.longest, content.size)
        start, end = content.gaps(offset, end)[0]
        segment = Segment(content, start, end, is_prefetch=True)
        segment.stream = stream
        content.insert(segment)
        self._in_flight.add(segment)
        return segment

    def lead(self) -> int:
        return min(STREAM_LEAD, self._share() // 2)  # beside what the readers have asked for themselves

    async def _is_wanted_soon(self, content: Content, stream: Stream, offset: int) -> bool:
        with trio.move_on_after(STREAM_PATIENCE):
            while content.stream is stream and offset > stream.demanded + self.lead():
                await content.wait()
            return content.stream is stream
        return False

    def end(self, content: Content, stream: Stream) -> None:
        if content.stream is stream:
            content.stream = None
        for segment in [each for each in self._in_flight if each.stream is stream]:
            self._end_segment(segment, Unreachable("the answer ended"))
        content.changed()


def comes_by(stream: Stream | None, position: int, reach: int) -> bool:
    """Whether there is a stream that will bring what is at ``position``, from ``reach`` before it at most."""
    return stream is not None and stream.position <= position <= stream.position + reach
