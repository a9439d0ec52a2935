"""How much disk the cache takes, and what goes when that is too much.

Everything that changes the files of the cache goes through here or happens under ``file_lock``, so that the
index is true: then the limit holds. Other processes change them too; for those the directory is listed anew.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path

from figfs.reading.cachedirectory import CacheDirectory, free_space, key_of, remove
from figfs.reading.chunkindex import ChunkIndex, Entry, entry_of
from figfs.reading.pins import Pins

log = logging.getLogger(__name__)

LOOK_AGAIN = 60.0  #: seconds after which the directory is listed anew, since other mounts write there too
LISTING_SHARE = 20  #: a listing may take one part in so many of the time
FREE_FOR = 1.0  #: seconds that the disk's free space is taken as known,
FREE_BYTES = 64 << 20  #: and bytes that may be written meanwhile
SLACK = 64 << 20  #: bytes, at most, that eviction frees beyond the need, so that not every write evicts
COMPLAIN_AFTER = 60.0  #: seconds between log lines of the same cause


class Space:
    """The space of one cache directory. Thread-safe. Raises no ``OSError``."""

    def __init__(self, directory: Path, *, limit: int, min_free: int, clock: Callable[[], float]) -> None:
        self.files = CacheDirectory(directory)
        self.pins = Pins(self.files.pins, clock)
        self.index = ChunkIndex()
        self.limit = limit
        self.min_free = min_free
        self.marked: set[str] = set()  #: keys with a mark, as of the last listing
        self.listed_at = float("-inf")
        self._clock = clock
        self._file_locks = [threading.Lock() for _ in range(64)]
        self._room = threading.Lock()  # who makes room has it; he may take a file's lock, never the reverse
        self._reserved = 0  # bytes that are being written
        self._overhead = 0  # bytes of the directories themselves
        self._listing_took = 0.0
        self._written = 0  # bytes since the last listing
        self._free_at = float("-inf")  # when the disk's free space was asked for,
        self._free_asked = 0  # what it was then,
        self._free = 0  # and what is left of it, as far as this process knows
        self._disk_full = False  # not even without the cache is there room
        self._said: dict[object, float] = {}

    def file_lock(self, name: str) -> threading.Lock:
        """To be held while a chunk file is written or removed, until the index knows."""
        return self._file_locks[hash(name) % len(self._file_locks)]

    def complain(self, cause: object, text: str, *arguments: object) -> None:
        """Log a warning, for each cause at most one a minute."""
        now = self._clock()
        if now - self._said.get(cause, float("-inf")) > COMPLAIN_AFTER:
            self._said[cause] = now
            log.warning(text, *arguments)

    # -- room ------------------------------------------------------------

    def release(self, need: int) -> None:
        """End of a ``reserve``: the files are written and in the index, or not."""
        with self._room:
            self._reserved -= need

    def evict_some(self) -> None:
        """Make a little room, since the disk or a quota refused a write."""
        with self._room:
            self._evict(self._slack())

    def prune(self, to: int) -> int:
        """Evict until ``to`` bytes are left; returns the bytes freed."""
        with self._room:
            self._list()
            return self._evict(self.index.total - to)

    def look(self) -> None:
        """List the directory now."""
        with self._room:
            self._list()

    def reserve(self, need: int) -> bool:
        """Make room for ``need`` bytes; False if there is none."""
        if need > self.limit:
            return False
        with self._room:
            now = self._clock()
            age = now - self.listed_at
            # Between two listings another mount can write as much as this one without being noticed.
            due = age > LOOK_AGAIN or self._written > self.limit // 16
            if due and age > self._listing_took * LISTING_SHARE:
                self._list()
            if self._over(need) > 0:
                # Another thread's chunks come into the index while room is made; they are reserved already.
                while self._over(need) > 0 and self._evict(self._over(need) + self._slack()):
                    pass
                if self._over(need) > 0:
                    self.complain(
                        "full", "not kept: the cache %s is full of what is pinned", self.files.directory
                    )
                    return False
            if not self._disk_has(need, now):
                return False
            self._reserved += need
            self._written += need
            self._free -= need
            return True

    def _over(self, need: int) -> int:
        return self.index.total + self._overhead + self._reserved + need - self.limit

    def _slack(self) -> int:
        return min(SLACK, self.limit // 32)

    def _disk_has(self, need: int, now: float) -> bool:
        """Whether the disk has room for ``need`` bytes beside ``min_free``, if need be by evicting."""
        lacking = self._free - need < self.min_free
        old = now - self._free_at > FREE_FOR or self._free_asked - self._free > FREE_BYTES
        if old or (lacking and not self._disk_full):
            self._ask_free(now)
            if self._free - need < self.min_free:
                self._evict(self.min_free + need - self._free + self._slack())
                self._ask_free(now)
            # Others have filled it: emptying the cache once a second is enough.
            self._disk_full = self._free - need < self.min_free
            if self._disk_full:
                text = "not kept in the cache %s: less than %d MiB would be left on the disk"
                self.complain("min_free", text, self.files.directory, self.min_free >> 20)
        return self._free - need >= self.min_free

    def _ask_free(self, now: float) -> None:
        self._free_at = now
        self._free = self._free_asked = free_space(self.files.directory) - self._reserved

    def _evict(self, excess: int) -> int:
        """Remove chunks, the longest unused first and none that is pinned, until ``excess`` bytes are free
        or none is left; returns the bytes freed. Needs ``_room``.
        """
        pinned = self.pins.recent()
        freed = 0
        for name in self.index.oldest_first():
            if freed >= excess:
                break
            entry = self.index.get(name)
            if entry is not None and key_of(name) not in pinned:
                freed += self.remove(name, self.files.path(name, entry.shard))
        return freed

    def remove(self, name: str, path: str) -> int:
        """Remove a chunk file and the mark of its content; returns what it took on disk."""
        with self.file_lock(name):
            entry = self.index.get(name)
            try:
                self.files.unmark(key_of(name))
                remove(path)
            except OSError as exc:
                self.complain(exc.errno, "cannot remove %s: %s", path, exc.strerror)
                return 0
            self.index.forget(name)
            return entry.allocated if entry else 0

    def forget_if_gone(self, name: str, path: str) -> None:
        """Take a file out of the index that another process has removed."""
        with self.file_lock(name):
            if self.index.get(name) is not None and not os.path.lexists(path):
                self.index.forget(name)

    # -- listing ------------------------------------------------------------

    def _list(self) -> None:
        """Learn what is on disk, whoever wrote it. Needs ``_room``."""
        began = self._clock()
        seen: set[str] = set()
        marked: set[str] = set()
        overhead = 0
        for shard in self.files.shards():
            listed: list[tuple[str, Entry]] = []
            self.index.begin_listing()
            try:
                overhead += os.stat(f"{self.files.blocks}/{shard}").st_blocks * 512
                files, marks = self.files.list_shard(shard)
                listed = [(name, entry_of(shard, figures)) for name, figures in files]
                marked |= marks
            except OSError as exc:
                if exc.errno not in {errno.ENOENT, errno.ENOTDIR}:
                    self.complain(exc.errno, "cannot list the cache: %s: %s", exc.filename, exc.strerror)
            finally:
                self.index.merge(listed)
            seen.update(name for name, _ in listed)
        self.index.sort()
        for name in self.index.oldest_first():
            entry = self.index.get(name)
            if name not in seen and entry is not None:
                self.forget_if_gone(name, self.files.path(name, entry.shard))
        self.marked, self._overhead, self._written = marked, overhead, 0
        self.listed_at = self._clock()
        self._listing_took = self.listed_at - began
