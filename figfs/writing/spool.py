"""Spool files: the local bytes of a file that is being written, or that Figshare does not have yet.

A spool file is sparse and of the file's own offsets, so any order of writes is cheap (a 1 KB write is one
``pwrite``). Over a stored file it is an *overlay*: what has not been written here still comes from Figshare,
and is filled in when the file is sealed for upload. Disk calls run in the event loop where they only touch
the page cache (``pwrite``, ``pread`` of at most 1 MiB), and in a thread where they may wait for the disk
(``fsync``) or take long (hashing, which goes on behind the writes). Sealing a small file is one hop into a
thread.

A spool file bears the path of its file as an extended attribute, for the one case in which nothing else tells
it: a crash before the first ``close()`` (*never-closed bytes*, kept for ``figfs recover``).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path

import trio

from figfs.errors import BadAnswer
from figfs.intervals import Intervals
from figfs.writing import tempnames
from figfs.writing.hashing import RunningHash
from figfs.writing.journal import Upload

#: Bytes of [start, end) of the stored file under an overlay.
ReadBase = Callable[[int, int], Awaitable[bytes | memoryview]]

CHUNK = (
    1 << 20
)  # large enough that a call costs little beside the copying, small enough not to stall the loop

#: Path below the mount point when the file was made or renamed.
PATH = "user.figfs.path"
#: There was a row for it. Without one now, Figshare has the bytes, or nobody wants them any more.
JOURNALED = "user.figfs.journaled"
#: What was not written here is Figshare's, and is zeros in the spool file.
OVERLAY = "user.figfs.overlay"


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
        self._entry_is_durable = exists
        self._path_known: str | None = None
        flags = os.O_RDWR | os.O_CLOEXEC | (0 if exists else os.O_CREAT | os.O_EXCL)
        self._fd = os.open(path, flags, 0o600)
        self._hash = RunningHash(self._fd)
        if base_size:
            try:
                os.ftruncate(self._fd, base_size)
            except OSError:
                self.close(delete=True)
                raise
            self._hash.truncated(base_size)
            _mark(self._fd, OVERLAY)
        self.size = os.fstat(self._fd).st_size

    def name(self, path: str) -> None:
        """Note the path below the mount point; nothing happens where the disk has no extended attributes."""
        if path != self._path_known:
            self._path_known = path
            _mark(self._fd, PATH, path)

    def journaled(self) -> None:
        """A row of the journal names it from now on."""
        _mark(self._fd, JOURNALED)

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
            self._hash.written(offset, position)
            os.ftruncate(self._fd, self.size)
            self._hash.truncated(self.size)
            raise
        self._hash.written(offset, position)
        self._present.add(offset, position)
        self.size = max(self.size, position)
        return len(data)

    def truncate(self, size: int) -> None:
        """Cut, or lengthen with zeros."""
        os.ftruncate(self._fd, size)
        self._hash.truncated(size)
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
                    self._hash.written(fresh_low, fresh_high)
                    self._present.add(fresh_low, fresh_high)

    async def copy_from(self, other: SpoolFile) -> None:
        """Become a copy of a sealed spool file, on this disk (a reflink where the file system can)."""
        await trio.to_thread.run_sync(shutil.copyfile, other.path, self.path)
        self.size = other.size

    async def seal(self) -> str:
        """Complete the file from the stored one, put it on disk for good, its name included, and return its
        MD5 (hex).

        The caller sees to it that nobody seals it at the same time, and does not use the result if somebody
        has written meanwhile.
        """
        await self._fill(0, self.size)
        return await trio.to_thread.run_sync(self._hash_and_sync)

    def _hash_and_sync(self) -> str:
        md5 = self._hash.finish()
        self._sync()
        return md5

    async def sync(self) -> None:
        """What has been written is on this disk when this returns, and so is the name of the spool file."""
        await trio.to_thread.run_sync(self._sync)

    def _sync(self) -> None:
        os.fsync(self._fd)
        if not self._entry_is_durable:
            directory = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
            self._entry_is_durable = True

    def close(self, *, delete: bool) -> None:
        """Close; with ``delete`` also remove it: only when Figshare has its bytes, or nobody wants them."""
        self._hash.stop()
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

    def create(self, path: str = "", *, base_size: int = 0, read_base: ReadBase | None = None) -> SpoolFile:
        """A new spool file: empty, or an overlay over ``base_size`` bytes. ``OSError`` from the disk.

        ``path``: of the file below the mount point, for who finds the bytes after a crash.
        """
        file = SpoolFile(self.directory / str(self._next), base_size=base_size, read_base=read_base)
        self._next += 1
        if path:
            file.name(path)
        return file

    def reopen(self, name: str) -> SpoolFile:
        """A sealed spool file, again."""
        return SpoolFile(self.directory / name, exists=True)

    def abandoned(self, rows: Iterable[Upload]) -> list[Path]:
        """Never-closed bytes, oldest first: what a crash has left that none of ``rows``, all of the journal,
        names. To be asked before the mount makes spool files of its own.
        """
        return [path for path in self._unnamed(rows) if _is_worth_keeping(path)]

    def sweep(self, rows: Iterable[Upload]) -> None:
        """At the start: remove what an earlier mount has left and nobody can want.

        Empty files, litter of programs (locks, swap files), and bytes whose row is gone, which the crash came
        too soon to remove.
        """
        for path in self._unnamed(rows):
            if not _is_worth_keeping(path):
                path.unlink(missing_ok=True)

    def _unnamed(self, rows: Iterable[Upload]) -> list[Path]:
        named = {upload.spool_name for upload in rows}
        numbers = sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdigit())
        return [self.directory / str(number) for number in numbers if str(number) not in named]


def path_of(spool_file: Path) -> str:
    """The path below the mount point that a spool file bears; "" if it bears none."""
    return _marked(spool_file, PATH) or ""


def is_overlay(spool_file: Path) -> bool:
    """Whether what was not written to it is missing in it: a stored file was being changed."""
    return _marked(spool_file, OVERLAY) is not None


def _is_worth_keeping(path: Path) -> bool:
    if not path.stat().st_size or _marked(path, JOURNALED) is not None:
        return False
    return tempnames.classify(os.path.basename(path_of(path))).kind is not tempnames.Kind.LOCAL


def _mark(descriptor: int, attribute: str, value: str = "") -> None:
    with contextlib.suppress(OSError):  # some file systems keep none; then a person is told less
        os.setxattr(descriptor, attribute, value.encode("utf-8", "surrogateescape"))


def _marked(path: Path, attribute: str) -> str | None:
    try:
        return os.getxattr(path, attribute).decode("utf-8", "surrogateescape")
    except OSError:
        return None
