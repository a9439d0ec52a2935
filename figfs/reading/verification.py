"""The MD5 of every content that has been fetched completely, compared with Figshare's (semantics.md, "a whole
file read").

Segments are hashed in the order of the file as they come in, from memory; what is not there any more when its
turn comes is read from disk. MD5 takes 1.5 s a GiB of one
core here, so it runs in threads, beside the fetching.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from figfs.reading.blockstore import BlockStore
from figfs.reading.segments import Content, Verdict

log = logging.getLogger(__name__)

#: So much is hashed in the event loop: a thread costs more than its 0.2 ms.
INLINE = 128 << 10

PIECE = 4 << 20  #: bytes read from disk and hashed at once

#: Contents hashed at once: each takes a core.
HASHERS = 2


class Verifier:
    """Hashes the contents of one mount.

    Args:
        nursery: the services nursery.
        on_progress: called when segments of a content have been hashed.
        on_good: called when a content is what Figshare says.
        on_mismatch: called when it is not; it drops all of the content.
    """

    def __init__(
        self,
        *,
        nursery: trio.Nursery,
        store: BlockStore | None,
        on_progress: Callable[[], None],
        on_good: Callable[[Content], None],
        on_mismatch: Callable[[Content, str], Awaitable[None]],
    ) -> None:
        self._nursery = nursery
        self._store = store
        self._on_progress = on_progress
        self._on_good = on_good
        self._on_mismatch = on_mismatch
        self._limiter = trio.CapacityLimiter(HASHERS)

    def advance(self, content: Content) -> None:
        """Hash what can be hashed now, or start to. To be called whenever a segment is complete."""
        if content.hashing or content.verdict is not Verdict.UNKNOWN or not self._has_next(content):
            return
        content.hashing = True
        segment = content.find(0)
        if (
            content.size <= INLINE
            and segment is not None
            and segment.end == content.size
            and segment.complete
        ):
            content.digest.update(segment.view)
            content.hashed = content.size
            if content.digest.hexdigest() == content.md5:
                self._good(content)
                content.hashing = False
                return
        self._nursery.start_soon(self._run, content, name=f"verify {content.key}")

    def _has_next(self, content: Content) -> bool:
        return self._is_in_memory(content) or self._is_worth_reading(content, content.hashed + PIECE)

    @staticmethod
    def _is_worth_reading(content: Content, end: int) -> bool:
        """Whether what is next is to be read from disk: not, if it is a part from an earlier mount only."""
        return content.all_fetched or not content.fresh.missing(content.hashed, min(end, content.size))

    @staticmethod
    def _is_in_memory(content: Content) -> bool:
        segment = content.find(content.hashed)
        return segment is not None and segment.complete

    def _good(self, content: Content) -> None:
        content.verdict = Verdict.GOOD
        log.debug("%s: MD5 equal", content.key)
        self._on_good(content)

    async def _run(self, content: Content) -> None:
        try:
            while content.hashed < content.size:
                if await self._from_memory(content) or await self._from_disk(content):
                    self._on_progress()
                elif not self._is_in_memory(content):  # it may have come while the disk was asked
                    break
            if content.hashed < content.size:
                return
            found = content.digest.hexdigest()
            if found == content.md5:
                self._good(content)
            else:
                await self._on_mismatch(content, found)
        except Exception:  # a bug in here must not end the mount
            log.exception("verification of %s", content.key)
        finally:
            content.hashing = False
            content.changed()
            self._on_progress()

    async def _from_memory(self, content: Content) -> bool:
        """Hash the segment that is next. False if it is not here."""
        segment = content.find(content.hashed)
        if segment is None or not segment.complete:
            return False
        view = segment.view[content.hashed - segment.start : segment.filled]
        segment.pins += 1
        try:
            await trio.to_thread.run_sync(content.digest.update, view, limiter=self._limiter)
        finally:
            segment.pins -= 1
        content.hashed += len(view)
        return True

    async def _from_disk(self, content: Content) -> bool:
        """Hash the next bytes from disk, if all of the file has been fetched. False if they are not there."""
        store, start = self._store, content.hashed
        end = min(start + PIECE, content.size)
        if store is None or not self._is_worth_reading(content, end):
            return False

        def read_and_hash() -> list[tuple[int, int]]:
            piece = memoryview(bytearray(end - start))
            missing = store.read_into(content.key, content.size, start, end, piece)
            found = missing[0][0] if missing else end
            content.digest.update(piece[: found - start])
            return missing

        missing = await trio.to_thread.run_sync(read_and_hash, limiter=self._limiter)
        for gap in missing:
            content.have.remove(*gap)
            content.fresh.remove(*gap)
        content.hashed = missing[0][0] if missing else end
        return content.hashed > start
