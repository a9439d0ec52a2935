"""From memory to disk: what is complete is written, what was found right marked, what was wrong dropped.

In threads, beside what else is done; no error here reaches a reader: what is not kept is fetched again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import trio

from figfs.reading.blockstore import BlockStore
from figfs.reading.memory import Memory
from figfs.reading.segments import Content, Segment, Verdict

log = logging.getLogger(__name__)

WRITERS = 2  #: threads that write to disk
PIECE = 1 << 20  #: bytes of an uploaded file that are copied at once


class Keeper:
    """What puts the segments of one block cache on disk. ``find``: the content of a key, if it is known."""

    def __init__(
        self,
        *,
        nursery: trio.Nursery,
        store: BlockStore,
        memory: Memory,
        find: Callable[[str], Content | None],
    ) -> None:
        self._nursery = nursery
        self._store = store
        self._memory = memory
        self._find = find
        self._writers = trio.CapacityLimiter(WRITERS)

    def write(self, segment: Segment) -> None:
        """Put a complete segment on disk, when its turn comes."""
        segment.content.unwritten += 1
        segment.to_be_written = True
        self._memory.unwritten += segment.filled
        self._nursery.start_soon(self._write, segment)

    async def _write(self, segment: Segment) -> None:
        """Put a complete segment on disk, unless it has given way before its turn."""
        content = segment.content
        marked = False

        def write() -> bool:
            self._store.write(content.key, content.size, segment.start, segment.view[: segment.filled])
            # The last of them, most often all of a small file: two more hops between threads cost more.
            return content.unwritten == 1 and _mark_if_good(self._store, content)

        try:
            async with self._writers:
                if segment.kept:
                    segment.pins += 1
                    try:
                        marked = await trio.to_thread.run_sync(write)
                        segment.on_disk = True
                        await self._unmark_if_late(content, marked)
                    finally:
                        segment.pins -= 1
        except Exception:  # a bug in here must not end the mount
            log.exception("writing of %r to the cache", segment)
        finally:
            content.unwritten -= 1
            segment.to_be_written = False
            self._memory.unwritten -= segment.filled
            content.changed()
            self._memory.changed()
            if content.verdict is Verdict.GOOD and not marked:
                self.mark(content)

    def mark(self, content: Content) -> None:
        """Remember on disk that the content is verified, once all of it is there."""
        if not content.unwritten:
            content.unwritten += 1
            self._nursery.start_soon(self._mark_on_disk, content)

    async def _mark_on_disk(self, content: Content) -> None:
        try:
            marked = await trio.to_thread.run_sync(_mark_if_good, self._store, content)
            await self._unmark_if_late(content, marked)
        except Exception:  # a bug in here must not end the mount
            log.exception("marking of %s", content.key)
        finally:
            content.unwritten -= 1
            content.changed()

    async def _unmark_if_late(self, content: Content, marked: bool) -> None:
        """Some of it was fetched anew while a thread marked it: what is on disk now was not compared."""
        if marked and content.verdict is not Verdict.GOOD:
            await trio.to_thread.run_sync(self._store.unmark, content.key)

    def drop(self, content: Content) -> None:
        """What is on disk of it is wrong. What is fetched from now on waits until it is gone."""
        content.dropped = trio.Event()
        self._nursery.start_soon(self._drop, content, content.dropped)

    async def _drop(self, content: Content, dropped: trio.Event) -> None:
        """Drop it on disk. What is fetched meanwhile waits, so it is not dropped with the old."""
        try:
            while content.unwritten:
                await content.wait()
            await trio.to_thread.run_sync(self._store.drop, content.key)
        except Exception:  # a bug in here must not end the mount
            log.exception("dropping of %s", content.key)
        finally:
            dropped.set()

    def adopt(self, key: str, size: int, path: Path) -> None:
        """Keep what was just uploaded, whose MD5 has been compared: a copy of the file ``path`` goes to disk,
        beside what else is done. The file may be deleted meanwhile. Errors are logged only.
        """
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as exc:
            log.debug("cannot keep %s in the cache: %s", key, exc)
            return
        self._nursery.start_soon(self._adopt, key, size, descriptor, name=f"adopt {key}")

    async def _adopt(self, key: str, size: int, descriptor: int) -> None:
        try:
            await trio.to_thread.run_sync(
                _copy_into, self._store, key, size, descriptor, limiter=self._writers
            )
            content = self._find(key)
            if content is None or not (content.segments or content.unwritten or content.is_being_dropped):
                # Nobody else, in this mount, can have written of it meanwhile what was not compared.
                await trio.to_thread.run_sync(_mark_if_whole, self._store, key, size)
            if content is not None:
                content.loaded = None  # there is more on disk than when it was looked at
        except Exception:  # a bug in here must not end the mount
            log.exception("keeping %s in the cache", key)
        finally:
            os.close(descriptor)


def _copy_into(store: BlockStore, key: str, size: int, descriptor: int) -> None:
    """Write all of a local file, in place of what is there unless that was compared."""
    if store.is_verified(key) and not store.missing(key, size):
        return
    store.drop(key)
    for start in range(0, size, PIECE):
        piece = os.pread(descriptor, min(PIECE, size - start), start)
        if len(piece) != min(PIECE, size - start):
            return
        store.write(key, size, start, piece)


def _mark_if_good(store: BlockStore, content: Content) -> bool:
    """In a thread. The caller counts in ``unwritten``, so nothing of it is dropped meanwhile."""
    if content.verdict is not Verdict.GOOD:
        return False
    if not store.missing(content.key, content.size) and content.verdict is Verdict.GOOD:
        store.mark_verified(content.key)
    return True


def _mark_if_whole(store: BlockStore, key: str, size: int) -> None:
    if not store.missing(key, size):
        store.mark_verified(key)
