"""The MD5 of a file that is being written, computed behind the writes as long as they come in order.

``cp``, ``rsync`` and nearly all others write from the start to the end: then most of the file is hashed when
it is closed. What has been hashed already and is written again (archives that put their header in at the end)
costs a second pass at the close. MD5 takes 2.5 ms a MiB here, so it is never computed in the event loop: a
thread reads back what was written, from the page cache. It is started only for a backlog of a whole chunk, so
a small file costs nothing before it is closed, and no thread of its own then.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading

import trio

CHUNK = 1 << 20  #: bytes hashed at a time


class RunningHash:
    """MD5 of the open file ``descriptor``, from its first byte on.

    ``written``, ``truncated`` and ``stop`` are the event loop's, ``finish`` is a worker thread's.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._digest = hashlib.md5(usedforsecurity=False)
        self._guard = threading.Lock()  # for the fields below; held for moments
        self._hashing = threading.Lock()  # held by the one thread that reads and hashes
        self._taken = 0  # what is before this is in the digest, or about to be
        self._in_order = 0  # what is before this has been written without a gap
        self._spoilt = False  # something in the digest has changed since
        self._running = False
        self._stopped = False

    def written(self, start: int, end: int) -> None:
        """[``start``, ``end``) has just been written."""
        with self._guard:
            if start < self._taken:
                self._spoilt = True
            elif start <= self._in_order:
                self._in_order = max(self._in_order, end)
            if self._running or not self._has_backlog():
                return
            self._running = True
        trio.lowlevel.start_thread_soon(self._hash_behind, lambda outcome: outcome.unwrap())

    def truncated(self, size: int) -> None:
        """The file has just been cut, or lengthened with zeros, to ``size``."""
        with self._guard:
            self._spoilt = self._spoilt or size < self._taken
            self._in_order = min(self._in_order, size)

    def stop(self) -> None:
        """Return once no thread uses the descriptor any more: after one chunk at most."""
        self._stopped = True
        with self._hashing:
            pass

    def finish(self) -> str:
        """The MD5 (hex) of the whole file; ``OSError`` if it cannot be read.

        Hashes what is left, all of it where the digest is spoilt. It is wrong if the file changes meanwhile.
        """
        with self._hashing:
            with self._guard:
                if self._spoilt:
                    self._digest = hashlib.md5(usedforsecurity=False)
                    self._taken, self._spoilt = 0, False
                digest, position = self._digest, self._taken
            while chunk := self._take(position):
                digest.update(chunk)
                position += len(chunk)
            with self._guard:
                self._in_order = max(self._in_order, position)
            return digest.hexdigest()

    def _has_backlog(self) -> bool:
        return not (self._spoilt or self._stopped) and self._in_order - self._taken >= CHUNK

    def _hash_behind(self) -> None:
        with self._hashing:
            while True:
                with self._guard:
                    if not self._has_backlog():
                        self._running = False
                        return
                    position, digest = self._taken, self._digest
                with contextlib.suppress(OSError):  # it is spoilt then; whoever finishes it meets the error
                    digest.update(self._take(position))

    def _take(self, position: int) -> bytes:
        """The next chunk; none at the end. What is written into it from here on spoils the digest."""
        with self._guard:
            self._taken = position + CHUNK
        try:
            chunk = os.pread(self._descriptor, CHUNK, position)
        except OSError:
            with self._guard:
                self._spoilt = True
            raise
        with self._guard:
            self._taken = position + len(chunk)
        return chunk
