"""Which chunk files there are, in the order of their last use, and how much disk they take. No I/O.

What this process knows; other processes add and remove files too, so the store lists the directory anew now
and then. Thread-safe; every call is short.
"""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable

UNKNOWN = -1  #: the blocks of a file whose header was not read yet


@dataclasses.dataclass(slots=True)
class Entry:
    """One chunk file."""

    shard: str  #: the directory it is in
    allocated: int  #: bytes on disk
    touched: int  #: the file's mtime in ns: its last use that is written down
    last: int  #: its last use, as far as this process knows, in ns
    present: int = UNKNOWN  #: bit b: block b is there


def entry_of(shard: str, figures: os.stat_result, present: int = UNKNOWN) -> Entry:
    """The entry of a file, from what ``stat`` says of it."""
    return Entry(shard, figures.st_blocks * 512, figures.st_mtime_ns, figures.st_mtime_ns, present)


class ChunkIndex:
    """File names to entries, least recently used first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._total = 0
        self._changed: set[str] | None = None  # names put or forgotten since a listing began
        self._sorted = True

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def total(self) -> int:
        """Bytes that all of them have on disk."""
        return self._total

    def get(self, name: str) -> Entry | None:
        """The entry, if there is one; its use is not noted."""
        return self._entries.get(name)

    def chunks_of(self, key: str) -> list[int]:
        """The chunk numbers that a content has here, in no order."""
        with self._lock:
            names = [name.rpartition(".") for name in self._entries if name.startswith(key)]
        return [int(number) for before, _, number in names if before == key]

    def put(self, name: str, entry: Entry) -> None:
        """Note a file that was used just now."""
        entry.last = time.time_ns()
        with self._lock:
            self._note_change(name)
            old = self._entries.get(name)
            self._total += entry.allocated - (old.allocated if old else 0)
            self._entries[name] = entry
            self._entries.move_to_end(name)

    def use(self, name: str) -> None:
        """Note that the file was used just now."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is not None:
                entry.last = time.time_ns()
                self._entries.move_to_end(name)

    def forget(self, name: str) -> None:
        """Note that the file has gone."""
        with self._lock:
            self._note_change(name)
            entry = self._entries.pop(name, None)
            self._total -= entry.allocated if entry else 0

    def oldest_first(self) -> list[str]:
        """All names, least recently used first."""
        with self._lock:
            return list(self._entries)

    # -- a listing of the directory ------------------------------------------------------------

    def begin_listing(self) -> None:
        """From here on, what this process changes counts more than what ``merge`` is told. One at a time."""
        with self._lock:
            self._changed = set()

    def merge(self, listed: Iterable[tuple[str, Entry]]) -> None:
        """Take in what a part of the directory held, in any order, and end the listing.

        What others have written or used is out of order until ``sort``.
        """
        with self._lock:
            changed, self._changed = self._changed or set(), None
            for name, entry in listed:
                if name in changed:
                    continue
                known = self._entries.get(name)
                if known is None:
                    self._entries[name] = entry
                    self._total += entry.allocated
                    self._sorted = False
                    continue
                self._total += entry.allocated - known.allocated
                known.allocated = entry.allocated
                if entry.touched > known.touched:
                    known.touched, known.present = entry.touched, UNKNOWN
                    known.last = max(known.last, entry.touched)
                    self._sorted = False

    def sort(self) -> None:
        """Bring all into the order of their last use, after the last ``merge``."""
        with self._lock:
            if not self._sorted:
                self._entries = OrderedDict(sorted(self._entries.items(), key=lambda item: item[1].last))
                self._sorted = True

    def _note_change(self, name: str) -> None:
        if self._changed is not None:
            self._changed.add(name)
