"""Where things are in a cache directory, and how files in it are opened, made and removed.

    <directory>/blocks/<2 hex digits>/<key>.<chunk number>   a chunk file (``chunkfile.py``)
    <directory>/blocks/<2 hex digits>/<key>.ok               the MD5 of this content was found right
    <directory>/pins/<key>                                   this content is kept from eviction (``pins.py``)

Paths are text here: making a ``Path`` takes longer than opening the file.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

STALE_TEMPORARY = 600.0  #: seconds after which a temporary file is what a crash has left

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # whatever lies there, opening it never waits
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,119}")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_MARK = ".ok"


def check_key(key: str) -> None:
    """``ValueError`` unless ``key`` may be part of a file name as it is."""
    if _KEY.fullmatch(key) is None:
        raise ValueError(f"not a key: {key!r}")


def number_of(name: str) -> int | None:
    """The chunk's number in the name of a chunk file; None if it is none of ours."""
    number = name.rpartition(".")[2]
    return int(number) if _NUMBER.fullmatch(number) else None


def key_of(name: str) -> str:
    """The key in the name of a chunk file."""
    return name.rpartition(".")[0]


def shard_of(key: str) -> str:
    """The directory below ``blocks`` in which all of a content is."""
    return f"{zlib.crc32(os.fsencode(key)) & 0xFF:02x}"


class CacheDirectory:
    """The paths of one cache. Nothing is touched by making one; ``OSError`` comes through unless it says."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.blocks = os.path.join(directory, "blocks")
        self.pins = directory / "pins"

    def make(self) -> None:
        """Make the directories as far as they are not there, for nobody but their owner."""
        for directory in (self.directory, Path(self.blocks), self.pins):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.listdir(self.blocks)

    def path(self, name: str, shard: str | None = None) -> str:
        """Of a chunk file; ``shard``: the directory it was found in, if not the one its key belongs to."""
        return f"{self.blocks}/{shard or shard_of(key_of(name))}/{name}"

    # -- marks ------------------------------------------------------------

    def mark(self, key: str) -> None:
        """Note that the content was verified."""
        os.close(os.open(self._mark_path(key), _FLAGS | os.O_WRONLY | os.O_CREAT, 0o600))

    def unmark(self, key: str) -> None:
        """Take that back."""
        remove(self._mark_path(key))

    def is_marked(self, key: str) -> bool:
        """Whether it was noted."""
        return os.path.exists(self._mark_path(key))

    def _mark_path(self, key: str) -> str:
        return f"{self.blocks}/{shard_of(key)}/{key}{_MARK}"

    # -- listing ------------------------------------------------------------

    def shards(self) -> list[str]:
        """The directories with chunk files; none if that cannot be told."""
        return _names(self.blocks)

    def chunks_of(self, key: str) -> list[int]:
        """The numbers of all chunk files of a content, in order."""
        suffixes = [
            name[len(key) + 1 :] for name in _names(f"{self.blocks}/{shard_of(key)}") if key_of(name) == key
        ]
        return sorted(int(suffix) for suffix in suffixes if _NUMBER.fullmatch(suffix))

    def list_shard(self, shard: str) -> tuple[list[tuple[str, os.stat_result]], set[str]]:
        """The chunk files in one of ``shards``, and the keys with a mark.

        Removes what crashes and evictions have left there: old temporary files, marks without a chunk.
        """
        files: list[tuple[str, os.stat_result]] = []
        marks: set[str] = set()
        with os.scandir(f"{self.blocks}/{shard}") as entries:
            for entry in entries:
                name = entry.name
                if name.endswith(_MARK):
                    marks.add(name.removesuffix(_MARK))
                    continue
                with contextlib.suppress(FileNotFoundError):
                    figures = entry.stat(follow_symlinks=False)
                    if name.startswith("."):
                        if time.time() - figures.st_mtime > STALE_TEMPORARY:
                            remove(entry.path)
                    elif stat.S_ISREG(figures.st_mode):
                        files.append((name, figures))
        keys = {key_of(name) for name, _ in files}
        for key in marks - keys:
            remove(f"{self.blocks}/{shard}/{key}{_MARK}")
        return files, marks & keys


def free_space(directory: Path) -> int:
    """Free bytes of the disk that ``directory`` is or will be on; 0 if that cannot be told."""
    for place in [directory, *directory.parents]:
        with contextlib.suppress(OSError):
            figures = os.statvfs(place)
            return figures.f_bavail * figures.f_frsize
    return 0


@contextlib.contextmanager
def opened(path: str, flags: int) -> Iterator[int]:
    """The descriptor of a file that is there."""
    descriptor = os.open(path, flags | _FLAGS)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def replaced(path: str) -> Iterator[int]:
    """The descriptor of a new file, which is at ``path`` once the block has ended; nothing if it fails."""
    directory = os.path.dirname(path)
    temporary = f"{directory}/.{os.urandom(8).hex()}"
    flags = _FLAGS | os.O_RDWR | os.O_CREAT | os.O_EXCL
    try:
        descriptor = os.open(temporary, flags, 0o600)
    except FileNotFoundError:  # the first file of its shard, or somebody has removed the whole cache
        Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, flags, 0o600)
    try:
        yield descriptor
        os.rename(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)


def remove(path: str) -> None:
    """Remove what lies there, be it an empty directory; no error if nothing does."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except IsADirectoryError:
        os.rmdir(path)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []
