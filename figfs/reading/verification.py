"""The MD5 of every content that has been fetched completely, compared with Figshare's (semantics.md, "a whole
file read").

Segments are hashed in the order of the file as they come in, from memory; what is not there any more when its
turn comes is read from disk. MD5 takes 1.5 s a GiB of one
core here, so it runs in threads, beside the fetching.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from figfs.reading.blockstore import BlockStore
from figfs.reading.segments import Content, Segment, Verdict

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
        on_mismatch: called when it is not, with its MD5; it drops all of the content, and starts over.
    """

    def __init__(
        self,
        *,
        nursery: trio.Nursery,
        store: BlockStore | None,
        on_progress: Callable[[], None],
        on_good: Callable[[Content], None],
        on_mismatch: Callable[[Content, str], None],
    ) -> None:
        self._nursery = nursery
        self._store = store
        self._on_progress = on_progress
        self._on_good = on_good
        self._on_mismatch = on_mismatch
        self._limiter = trio.CapacityLimiter(HASHERS)

    def advance(self, content: Content) -> None:
        """Hash what can be hashed now, or start to. To be called whenever there is more of it."""
        if content.hashing or content.verdict is not Verdict.UNKNOWN or not self._has_next(content):
            return
        segment = content.find(0)
        if content.size <= INLINE and not content.hashed and segment is not None and segment.ended:
            content.digest.update(segment.view[: segment.filled])
            content.hashed = segment.end
            if content.hashed == content.size:
                self._compare(content)
                return
        content.hashing = True
        self._nursery.start_soon(self._run, content, name=f"verify {content.key}")

    def _has_next(self, content: Content) -> bool:
        segment = content.find(content.hashed)
        return (segment is not None and segment.ended) or self._end_on_disk(content) > content.hashed

    def _end_on_disk(self, content: Content) -> int:
        """Up to where the next bytes are to be read from disk. Not a part from an earlier mount, as long as
        that is all there is.
        """
        if self._store is None:
            return content.hashed
        known = content.have if content.all_fetched else content.fresh
        end = min(content.hashed + PIECE, content.size)
        gaps = known.missing(content.hashed, end)
        segment = content.next_complete(content.hashed)
        return min([end, *(low for low, _ in gaps), *([segment.start] if segment else [])])

    def _compare(self, content: Content) -> None:
        """All of it is hashed."""
        found = content.digest.hexdigest()
        if found == content.md5:
            log.debug("%s: MD5 equal", content.key)
            content.verdict = Verdict.GOOD
            content.mismatches = 0
            self._on_good(content)
        else:
            self._on_mismatch(content, found)

    async def _run(self, content: Content) -> None:
        digest = content.digest
        try:
            while content.digest is digest and content.hashed < content.size:
                segment = content.find(content.hashed)
                if segment is not None and segment.ended:
                    await self._from_memory(content, segment)
                elif self._store is not None and (end := self._end_on_disk(content)) > content.hashed:
                    await self._from_disk(self._store, content, end)
                else:
                    break
                self._on_progress()
            # No await from here on: who asks finds it being hashed, or compared.
            if content.digest is digest and content.hashed == content.size:
                self._compare(content)
        except Exception:  # a bug in here must not end the mount
            log.exception("verification of %s", content.key)
        finally:
            if content.digest is digest:
                content.hashing = False
            content.changed()
            self._on_progress()

    async def _from_memory(self, content: Content, segment: Segment) -> None:
        """Hash what is next, which is in ``segment``."""
        digest = content.digest
        view = segment.view[content.hashed - segment.start : segment.filled]
        segment.pins += 1
        try:
            await trio.to_thread.run_sync(digest.update, view, limiter=self._limiter)
        finally:
            segment.pins -= 1
        if content.digest is digest:
            content.hashed += len(view)

    async def _from_disk(self, store: BlockStore, content: Content, end: int) -> None:
        """Hash the bytes up to ``end`` from disk, as far as they are there."""
        digest, start = content.digest, content.hashed

        def read_and_hash() -> list[tuple[int, int]]:
            piece = memoryview(bytearray(end - start))
            missing = store.read_into(content.key, content.size, start, end, piece)
            digest.update(piece[: missing[0][0] - start] if missing else piece)
            return missing

        missing = await trio.to_thread.run_sync(read_and_hash, limiter=self._limiter)
        if content.digest is digest:
            content.hashed = missing[0][0] if missing else end
            for gap in missing:
                content.lost(*gap)
