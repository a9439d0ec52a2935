"""Contents that are kept from eviction: a file for each, named by its key, in one directory.

So a pin outlives the mount, and every process that shares the cache sees it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

FRESH_FOR = 2.0  #: seconds that ``recent`` may be behind


class Pins:
    """The pins in one directory. Thread-safe."""

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        self.directory = directory
        self._clock = clock
        self._read_at = float("-inf")
        self._names: frozenset[str] = frozenset()

    def add(self, key: str, label: str = "") -> None:
        """Pin a content, whether or not any of it is here. ``label``: what a person calls it; it is kept in
        the file. ``OSError`` if that cannot be written.
        """
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self.directory / key, flags, 0o600)
        try:
            os.write(descriptor, os.fsencode(label))
        finally:
            os.close(descriptor)
        self._read_at = float("-inf")

    def label(self, key: str) -> str:
        """What a person calls a pinned content; "" if nobody said, or it cannot be read."""
        try:
            return os.fsdecode((self.directory / key).read_bytes())
        except OSError:
            return ""

    def remove(self, key: str) -> None:
        """Take a pin away, if there is one. ``OSError`` if that cannot be written."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.directory / key)
        self._read_at = float("-inf")

    def names(self) -> frozenset[str]:
        """All that are pinned now; what was known before if the directory cannot be read."""
        try:
            self._names = frozenset(os.listdir(self.directory))
        except FileNotFoundError:
            self._names = frozenset()
        except OSError:
            pass  # rather too many than too few
        self._read_at = self._clock()
        return self._names

    def recent(self) -> frozenset[str]:
        """All that were pinned a moment ago."""
        return self._names if self._clock() - self._read_at < FRESH_FOR else self.names()
