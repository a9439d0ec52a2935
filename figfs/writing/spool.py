"""Spool files: the local bytes of a file that is being written, or that Figshare does not have yet.

A spool file is sparse and of the file's own offsets, so any order of writes is cheap (a 1 KB write is one
``pwrite``). Over a stored file it is an *overlay*: what has not been written here still comes from Figshare,
and is filled in when the file is sealed for upload. Disk calls run in the event loop where they only touch
the page cache (``pwrite``, ``pread`` of at most 1 MiB), and in a thread where they may wait for the disk
(``fsync``, hashing).
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import trio

from figfs.errors import BadAnswer
from figfs.intervals import Intervals

#: Bytes of [start, end) of the stored file under an overlay.
ReadBase = Callable[[int, int], Awaitable[bytes | memoryview]]

CHUNK = (
    1 << 20
)  # large enough that a call costs little beside the copying, small enough not to stall the loop


class SpoolFile:
    """One spool file, open. ``base_size`` bytes of a stored file lie under it, read by ``read_base`` where
    not written.

    Not shared between threads; every method but the async ones runs without a checkpoint.
    """

    def __init__(
        self, path: Path, *, base_size: int = 0, read_base: ReadBase | None = None, exists: bool = False
    ) -> None:
        """``exists``: open a complete spool file that is there, instead of making one."""
        self.path = path
        self._base_size = base_size if read_base is not None else 0
        self._read_base = read_base
        self._present = Intervals()
        flags = os.O_RDWR | os.O_CLOEXEC | (0 if exists else os.O_CREAT | os.O_EXCL)
        self._fd = os.open(path, flags, 0o600)
        if base_size:
            os.ftruncate(self._fd, base_size)
        self.size = os.fstat(self._fd).st_size

    def write(self, offset: int, data: bytes) -> int:
        """Write all of ``data``. Raises what the disk raises (``ENOSPC``, ``EDQUOT``, ``EIO``); then nothing
        counts as written.
        """
        view, position = memoryview(data), offset
        try:
            while view:
                written = os.pwrite(self._fd, view, position)
                view, position = view[written:], position + written
        except OSError:
            os.ftruncate(self._fd, self.size)
            raise
        self._present.add(offset, position)
        self.size = max(self.size, position)
        return len(data)

    def truncate(self, size: int) -> None:
        """Cut, or lengthen with zeros."""
        os.ftruncate(self._fd, size)
        self._base_size = min(self._base_size, size)
        self.size = size

    async def read(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes, fewer only at the end. Raises ``RemoteError`` if bytes of the stored file
        cannot be had.
        """
        end = min(offset + size, self.size)
        if offset >= end:
            return b""
        await self._fill(offset, end)
        return os.pread(self._fd, end - offset, offset)

    async def _fill(self, start: int, end: int) -> None:
        """Fetch what is missing of [start, end) from the stored file."""
        if self._read_base is None:
            return
        for low, high in self._present.missing(start, min(end, self._base_size)):
            for position in range(low, high, CHUNK):
                end_of_chunk = min(position + CHUNK, high)
                data = await self._read_base(position, end_of_chunk)
                if len(data) != end_of_chunk - position:  # a hole here would be uploaded as zeros
                    raise BadAnswer(f"{len(data)} bytes at {position}, {end_of_chunk - position} expected")
                # Written here or cut off meanwhile? Then that is newer. No await until the bytes are in
                # place.
                for fresh_low, fresh_high in self._present.missing(
                    position, min(position + len(data), self._base_size)
                ):
                    os.pwrite(self._fd, data[fresh_low - position : fresh_high - position], fresh_low)
                    self._present.add(fresh_low, fresh_high)

    async def copy_from(self, other: SpoolFile) -> None:
        """Become a copy of a sealed spool file, on this disk (a reflink where the file system can)."""
        await trio.to_thread.run_sync(shutil.copyfile, other.path, self.path)
        self.size = other.size

    async def seal(self) -> str:
        """Complete the file from the stored one, put it on disk for good, and return its MD5 (hex).

        The caller sees to it that nobody writes meanwhile, or seals again.
        """
        await self._fill(0, self.size)
        return await trio.to_thread.run_sync(self._sync_and_hash)

    def _sync_and_hash(self) -> str:
        digest = hashlib.md5(usedforsecurity=False)
        position = 0
        while chunk := os.pread(self._fd, CHUNK, position):
            digest.update(chunk)
            position += len(chunk)
        os.fsync(self._fd)
        return digest.hexdigest()

    async def sync(self) -> None:
        """What has been written is on this disk when this returns."""
        await trio.to_thread.run_sync(os.fsync, self._fd)

    def close(self, *, delete: bool) -> None:
        """Close; with ``delete`` also remove it: only when Figshare has its bytes, or nobody wants them."""
        os.close(self._fd)
        if delete:
            self.path.unlink(missing_ok=True)


async def read_chunks(path: Path, start: int, end: int) -> AsyncIterator[bytes]:
    """Bytes [start, end) of a sealed spool file, in chunks, read in a thread. ``OSError`` if the file is
    shorter.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        position = start
        while position < end:
            chunk = await trio.to_thread.run_sync(os.pread, descriptor, min(CHUNK, end - position), position)
            if not chunk:
                raise OSError(f"{path.name} ends at {position}, {end} expected")
            position += len(chunk)
            yield chunk
    finally:
        os.close(descriptor)


class Spool:
    """The directory of spool files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        taken = [int(path.name) for path in directory.iterdir() if path.name.isdigit()]
        self._next = max(taken, default=0) + 1

    def create(self, *, base_size: int = 0, read_base: ReadBase | None = None) -> SpoolFile:
        """A new spool file: empty, or an overlay over ``base_size`` bytes. ``OSError`` from the disk."""
        path = self.directory / str(self._next)
        self._next += 1
        return SpoolFile(path, base_size=base_size, read_base=read_base)

    def reopen(self, name: str) -> SpoolFile:
        """A sealed spool file, again."""
        return SpoolFile(self.directory / name, exists=True)
