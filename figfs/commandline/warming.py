"""Reading whole files through a mount, so that its cache has them: ``figfs warm`` and ``figfs pin``.

Threads, because reading from a mount blocks; daemons, because a thread that waits for a mount that does not
answer could not be ended otherwise when the user has had enough.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import stat
import threading
import time
from collections.abc import Callable, Iterable, Iterator

READERS = 8  #: files that are read at once
LARGE = 8 << 20  #: bytes; of files as large as this
LARGE_READERS = 2  #: only so many are read at once: each fills the line by itself
PIECE = 1 << 20  #: bytes asked for by one read: the most that the kernel passes on at once


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A file below what the user has named."""

    path: str
    size: int


class Failures:
    """What could not be read: passes each on, with the reason, and counts. Thread-safe."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.count = 0
        self._tell = tell
        self._lock = threading.Lock()

    def __call__(self, path: str, reason: str) -> None:
        with self._lock:
            self.count += 1
        self._tell(f"{printable(path)}: {reason}")


def printable(path: str) -> str:
    """A path fit for a terminal."""
    return "".join(character if character.isprintable() else "?" for character in path)


def files_below(paths: Iterable[str], failed: Failures) -> Iterator[Found]:
    """Every regular file that is, or is below, one of ``paths``, in the order of the directories.

    A path that is a symbolic link itself is followed, links below it are not. What cannot be listed goes to
    ``failed``.
    """
    for path in paths:
        real = os.path.realpath(path)
        try:
            figures = os.lstat(real)
        except OSError as exc:
            failed(path, exc.strerror or str(exc))
            continue
        if not stat.S_ISDIR(figures.st_mode):
            if stat.S_ISREG(figures.st_mode):
                yield Found(real, figures.st_size)
            continue
        for parent, directories, names in os.walk(real, onerror=lambda exc: _tell_walk(exc, failed)):
            directories.sort()
            for name in sorted(names):
                below = os.path.join(parent, name)
                try:
                    figures = os.lstat(below)
                except OSError as exc:
                    failed(below, exc.strerror or str(exc))
                    continue
                if stat.S_ISREG(figures.st_mode):
                    yield Found(below, figures.st_size)


def _tell_walk(exc: OSError, failed: Failures) -> None:
    failed(os.fsdecode(exc.filename or b"?"), exc.strerror or str(exc))


@dataclasses.dataclass(slots=True)
class Figures:
    """How far it is."""

    files: int = 0  #: read to their end
    bytes: int = 0
    total_files: int = 0
    total_bytes: int = 0
    walked: bool = False  #: the totals are final


class Warming:
    """Files read to their end, a few at once, from the beginning of the block to its end, or ``wait``'s."""

    def __init__(self, files: Iterable[Found], failed: Failures) -> None:
        self._files = files
        self._failed = failed
        self._figures = Figures()
        self._lock = threading.Lock()
        self._queue: queue.Queue[Found | None] = queue.Queue(maxsize=10_000)
        self._large = threading.Semaphore(LARGE_READERS)
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._walk, daemon=True)]
        self._threads += [threading.Thread(target=self._read_files, daemon=True) for _ in range(READERS)]

    def __enter__(self) -> Warming:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()

    def figures(self) -> Figures:
        """How far it is now."""
        with self._lock:
            return dataclasses.replace(self._figures)

    def wait(self, seconds: float) -> bool:
        """Wait for the end, at most so long; whether it has come."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _walk(self) -> None:
        try:
            for file in self._files:
                with self._lock:
                    self._figures.total_files += 1
                    self._figures.total_bytes += file.size
                self._put(file)
                if self._ended.is_set():
                    break
        finally:
            with self._lock:
                self._figures.walked = True
            for _ in range(READERS):
                self._put(None)

    def _put(self, file: Found | None) -> None:
        while not self._ended.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(file, timeout=0.5)
                break

    def _read_files(self) -> None:
        buffer = memoryview(bytearray(PIECE))
        while not self._ended.is_set():
            try:
                file = self._queue.get(timeout=0.5)
            except queue.Empty:
                continue
            if file is None:
                break
            with self._large if file.size >= LARGE else contextlib.nullcontext():
                try:
                    self._read(file, buffer)
                except OSError as exc:
                    self._failed(file.path, exc.strerror or str(exc))
                else:
                    with self._lock:
                        self._figures.files += 1

    def _read(self, file: Found, buffer: memoryview) -> None:
        descriptor = os.open(file.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            while not self._ended.is_set():
                got = os.readv(descriptor, [buffer])
                if not got:
                    break
                with self._lock:
                    self._figures.bytes += got
            # The mount's cache has it now; twice in memory it is of no use.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)
