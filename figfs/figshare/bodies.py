"""Bodies of requests that come from a file: sent by the kernel where it can, else read in a thread."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable

import httpx
import trio

CHUNK = 1 << 20  #: bytes read at once

#: Called in the loop with a growing number: so many bytes of a body are on their way.
Progress = Callable[[int], None]


class FileBody(httpx.AsyncByteStream):
    """``size`` bytes of the open file ``descriptor``, from ``start`` on, which must not change meanwhile.

    ``figshare.transport`` sends it by ``Connection.send_file``; any other transport iterates over it. Raises
    ``OSError`` where the file cannot be read, or ends early.
    """

    def __init__(self, descriptor: int, start: int, size: int, progress: Progress) -> None:
        self.descriptor = descriptor
        self.start = start
        self.size = size
        self.progress = progress

    def read(self, done: int, most: int) -> bytes:
        """At least one of the bytes after the first ``done``; reads the disk."""
        chunk = os.pread(self.descriptor, min(most, self.size - done), self.start + done)
        if not chunk:
            raise too_short(self.start + done, self.start + self.size)
        return chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        done = 0
        while done < self.size:
            chunk = await trio.to_thread.run_sync(self.read, done, CHUNK)
            yield chunk
            done += len(chunk)
            self.progress(done)


def too_short(position: int, expected: int) -> OSError:
    return OSError(f"the file to send ends at {position}, {expected} expected")
