"""Contents of files: uploaded ones on disk, seeded ones computed, so that gigabytes take no time and space.

All functions block; callers run them in threads.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

CHUNK = 1024**2

#: Length of the text that a computed content repeats. Prime, so that no two blocks or parts of a file are
#: equal.
_PERIOD = 1_000_003
_pattern = b""


class Blobs:
    """Contents in the folder ``directory``, one file each, named by file id."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def path(self, file_id: int) -> Path:
        return self._directory / str(file_id)

    def save(self, file_id: int, content: bytes) -> None:
        self.path(file_id).write_bytes(content)

    def delete(self, file_id: int) -> None:
        self.path(file_id).unlink(missing_ok=True)

    def opener(self, file_id: int, *, pattern: bool, size: int) -> Callable[[int, int], bytes]:
        """A function ``read(start, length)``. FileNotFoundError if there is no such content."""
        if pattern:
            return lambda start, length: pattern_content(file_id, start, min(length, size - start))
        path = self.path(file_id)
        path.stat()

        def read(start: int, length: int) -> bytes:
            with path.open("rb") as file:
                file.seek(start)
                return file.read(length)

        return read

    def md5(self, file_id: int) -> str:
        with self.path(file_id).open("rb") as file:
            return hashlib.file_digest(file, "md5").hexdigest()


def pattern_content(file_id: int, start: int, length: int) -> bytes:
    """Bytes ``[start, start + length)`` of a computed content: different for each id, and always the same."""
    global _pattern
    if not _pattern:
        _pattern = 3 * random.Random("figfs sandbox").randbytes(
            _PERIOD
        )  # > _PERIOD + CHUNK: a piece is one slice
    header = b"sandbox file %d\n" % file_id
    begin = header[start : start + length]
    rest = length - len(begin)
    pieces = [begin]
    position = start + len(begin) - len(header) + file_id * 7919
    while rest > 0:
        offset = position % _PERIOD
        piece = _pattern[offset : offset + min(rest, CHUNK)]
        pieces.append(piece)
        rest -= len(piece)
        position += len(piece)
    return b"".join(pieces)


def pattern_chunks(file_id: int, size: int) -> Iterator[bytes]:
    for start in range(0, size, CHUNK):
        yield pattern_content(file_id, start, min(CHUNK, size - start))


def pattern_md5(file_id: int, size: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for chunk in pattern_chunks(file_id, size):
        digest.update(chunk)
    return digest.hexdigest()
