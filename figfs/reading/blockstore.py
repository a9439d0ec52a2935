"""Blocks on disk: kept across restarts, shared by mounts, bounded, and never wrong.

There is no index on disk and no lock between processes. The content of a key never changes, so every race
between mounts ends in a miss at worst, and so does every damage: what is not what was written is removed and
fetched again. Recency is the files' mtime, so that it outlives the mount and is shared.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from figfs.reading import chunkfile, upkeep
from figfs.reading.blocks import BLOCK_SIZE
from figfs.reading.cachedirectory import check_key, free_space, key_of, opened, remove, replaced, shard_of
from figfs.reading.chunkfile import CHUNK_SIZE, DATA_OFFSET, Chunk, Defect, Header, OtherVersion
from figfs.reading.chunkindex import UNKNOWN, entry_of
from figfs.reading.space import LOOK_AGAIN, Space
from figfs.reading.upkeep import Statistics, Verification

Range = tuple[int, int]

MANY_CHUNKS = 10_000  #: of a range: then those that are here are asked, not all that could be
DEFAULT_SIZE = 10 << 30  #: bytes of the cache at most, unless somebody wants more
#: What says that there is no usable file: a directory, a symbolic link, a socket, a pipe, a bad sector.
_USELESS = frozenset({errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.ESPIPE, errno.EIO})
TOUCH_AFTER = 60 * 10**9  #: ns; the mtime of a file in use is set at most this often


def default_cache_size(directory: Path) -> int:
    """10 GiB, or a tenth of the free space of the disk that ``directory`` is or will be on, if that is less.

    What the cache has taken is not free: with nothing else changing it settles at an eleventh.
    """
    return min(DEFAULT_SIZE, free_space(directory) // 10)


class BlockStore:
    """The blocks in one directory. Synchronous; every method may be called from any thread.

    Nothing here raises ``OSError`` unless it says so: what cannot be read is missing, what cannot be written
    is not kept, and the log has a line for each cause, at most one a minute. ``ValueError`` for a key or a
    range that is none.
    """

    def __init__(
        self, directory: Path, *, limit: int, min_free: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``limit``: bytes on disk, at most; ``min_free``: free bytes of the disk that are left alone.

        Nothing on disk is touched.
        """
        self.directory = directory
        self._clock = clock
        self._space = Space(directory, limit=limit, min_free=min_free, clock=clock)
        self._files = self._space.files
        self._index = self._space.index
        self._looked_for: dict[str, float] = {}  # key: when it was looked for on disk

    @property
    def limit(self) -> int:
        """Bytes on disk, at most."""
        return self._space.limit

    def scan(self) -> None:
        """Make the directories, and learn what is there. ``OSError`` if the directory cannot be used."""
        self._files.make()
        self._space.look()

    # -- reading ------------------------------------------------------------

    def may_have(self, key: str, start: int, end: int) -> bool:
        """Whether ``read_into`` could find anything of [start, end). No I/O.

        True also for a key that nobody has looked for on disk for a minute: another mount may have it there.
        """
        numbers: Iterable[int] = range(start // CHUNK_SIZE, -(-end // CHUNK_SIZE))
        if (end - start) // CHUNK_SIZE > MANY_CHUNKS:  # a server may claim any size
            numbers = [number for number in self._index.chunks_of(key) if number in numbers]
        for number in numbers:
            entry = self._index.get(f"{key}.{number}")
            if entry is None:
                continue
            first = max(start - number * CHUNK_SIZE, 0) // BLOCK_SIZE
            last = -(-min(end - number * CHUNK_SIZE, CHUNK_SIZE) // BLOCK_SIZE)
            if entry.present == UNKNOWN or entry.present & chunkfile.bits(first, last):
                return True
        looked = max(self._looked_for.get(key, float("-inf")), self._space.listed_at)
        return start < end and self._clock() - looked > LOOK_AGAIN

    def read_into(self, key: str, size: int, start: int, end: int, buffer: memoryview) -> list[Range]:
        """Put the bytes [start, end) of a content of ``size`` bytes into ``buffer``, as far as they are here.

        ``start`` is a multiple of ``BLOCK_SIZE``; ``end`` too, or ``size``. Returns the ranges that are not
        here: whole blocks, in order, merged; their part of ``buffer`` is undefined. All other bytes have
        been compared with their checksums. From the page cache 1.7 GiB/s, where bare ``preadv`` and ``crc32``
        make 2.0, and 20,000 files of 30 KB a second (one thread of a busy machine with two cores, by
        tests/reading/bench_blockstore.py).
        """
        self._note_look(key)
        missing: list[Range] = []
        for chunk, first, last in _chunks(key, size, start, end):
            begin, stop = _within(chunk, first, last, start)
            present = self._read_chunk(chunk, first, last, buffer[begin:stop])
            _add_missing_blocks(missing, chunk, first, last, present)
        return missing

    def missing(self, key: str, size: int) -> list[Range]:
        """The ranges of a content that are not here, as from ``read_into``. Reads headers only, of the files
        that a listing shows: a large content of which nothing is here takes no time.
        """
        check_key(key)
        self._note_look(key)
        missing: list[Range] = []
        end = 0
        for number in self._files.chunks_of(key):
            chunk = Chunk(key, number, size)
            if chunk.length <= 0:
                break
            _add_missing(missing, end, number * CHUNK_SIZE)
            present = self._read_chunk(chunk, 0, chunk.blocks, None)
            _add_missing_blocks(missing, chunk, 0, chunk.blocks, present)
            end = number * CHUNK_SIZE + chunk.length
        _add_missing(missing, end, size)
        return missing

    def _note_look(self, key: str) -> None:
        if len(self._looked_for) > 10_000:
            self._looked_for.clear()
        self._looked_for[key] = self._clock()

    def _read_chunk(self, chunk: Chunk, first: int, last: int, target: memoryview | None) -> int:
        """Which blocks are there, as a mask; those of [first, last) are in ``target`` and checked."""
        name, path = chunk.name, self._files.path(chunk.name)
        try:
            with opened(path, os.O_RDONLY) as descriptor:
                if target is None:
                    header = chunkfile.read_header(descriptor, chunk)
                    self._note_present(name, header.present)
                else:
                    header = chunkfile.read(descriptor, chunk, first, last, target)
                    self._note_use(name, descriptor, header)
                return header.present
        except FileNotFoundError:
            self._space.forget_if_gone(name, path)
        except Defect as exc:
            self._space.complain("defect", "%s: %s; removed, to be fetched again", path, exc)
            self._space.remove(name, path)
        except OtherVersion:
            self._note_present(name, 0)  # a newer figfs may be using it; eviction removes it in its turn
        except OSError as exc:
            self._space.complain(exc.errno, "cannot read the cache: %s: %s", path, exc.strerror)
            self._note_present(name, 0)
            if exc.errno in _USELESS:
                self._space.remove(name, path)
        return 0

    def _note_present(self, name: str, present: int) -> None:
        entry = self._index.get(name)
        if entry is not None:
            entry.present = present

    def _note_use(self, name: str, descriptor: int, header: Header) -> None:
        entry = self._index.get(name)
        if entry is None:  # another process has written it
            with self._space.file_lock(name):
                figures = os.fstat(descriptor)
                if figures.st_nlink:
                    self._index.put(name, entry_of(shard_of(key_of(name)), figures, header.present))
            return
        entry.present = header.present
        self._index.use(name)
        now = time.time_ns()
        if not 0 <= now - entry.touched <= TOUCH_AFTER:
            entry.touched = now
            with contextlib.suppress(OSError):  # a cache that may only be read is still one
                os.utime(descriptor, ns=(now, now))

    # -- writing ------------------------------------------------------------

    def write(self, key: str, size: int, start: int, data: bytes | bytearray | memoryview) -> None:
        """Keep ``data``, the bytes of a content of ``size`` bytes from ``start`` on, if there is room.

        ``start`` is a multiple of ``BLOCK_SIZE``; so is the end of the data, or it is ``size``. What is here
        already is not written again. Evicts first what was not used for the longest time, so that the limit
        holds. 1.1 GiB/s, or 12,000 files of 30 KB a second on tmpfs (same machine).
        """
        view = memoryview(data).cast("B")
        pieces: list[tuple[Chunk, int, memoryview]] = []
        for chunk, first, last in _chunks(key, size, start, start + len(view)):
            entry = self._index.get(chunk.name)
            wanted = chunkfile.bits(first, last)
            if entry is None or entry.present == UNKNOWN or entry.present & wanted != wanted:
                begin, stop = _within(chunk, first, last, start)
                pieces.append((chunk, first, view[begin:stop]))
        need = sum(DATA_OFFSET + -(-len(piece) // 4096) * 4096 for _, _, piece in pieces)
        if not pieces or not self._space.reserve(need):
            return
        try:
            for chunk, first, piece in pieces:
                self._write_chunk(chunk, first, piece)
        except OSError as exc:
            self._space.complain(exc.errno, "not kept in the cache %s: %s", self.directory, exc.strerror)
            if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
                self._space.evict_some()
        finally:
            self._space.release(need)

    def _write_chunk(self, chunk: Chunk, first: int, piece: memoryview) -> None:
        name = chunk.name
        shard = shard_of(chunk.key)
        path = self._files.path(name, shard)
        with self._space.file_lock(name):
            self._files.unmark(chunk.key)
            header = None
            try:
                with opened(path, os.O_RDWR) as descriptor:
                    header = chunkfile.add(descriptor, chunk, first, piece)
                    figures = os.fstat(descriptor)
            except (FileNotFoundError, Defect, OtherVersion):
                pass  # made anew
            except OSError as exc:
                if exc.errno not in _USELESS:
                    raise
                remove(path)
            if header is None:
                with replaced(path) as descriptor:
                    header = chunkfile.create(descriptor, chunk, first, piece)
                    figures = os.fstat(descriptor)
            self._index.put(name, entry_of(shard, figures, header.present))

    # -- whole contents ------------------------------------------------------------

    def mark_verified(self, key: str) -> None:
        """Note that the MD5 of the whole content was found right. To be called after its last ``write``:
        a mark goes with any block of the key that is written, evicted or dropped.
        """
        check_key(key)
        with contextlib.suppress(OSError):
            self._files.mark(key)

    def unmark(self, key: str) -> None:
        """Take that mark away, if there is one."""
        check_key(key)
        with contextlib.suppress(OSError):
            self._files.unmark(key)

    def is_verified(self, key: str) -> bool:
        """Whether the content has that mark, from whichever mount. One look at the disk."""
        check_key(key)
        return self._files.is_marked(key)

    def drop(self, key: str) -> None:
        """Remove all of a content; a pin stays."""
        check_key(key)
        for number in self._files.chunks_of(key):
            name = f"{key}.{number}"
            self._space.remove(name, self._files.path(name))
        with contextlib.suppress(OSError):
            self._files.unmark(key)

    def pin(self, key: str, label: str = "") -> None:
        """Keep a content from eviction, whether or not any of it is here; ``label`` is what ``statistics``
        calls it. ``OSError`` if not to be noted.
        """
        check_key(key)
        self._space.pins.add(key, label)

    def unpin(self, key: str) -> None:
        """Take its pin away, if it has one. ``OSError`` if not to be noted."""
        check_key(key)
        self._space.pins.remove(key)

    def pinned(self) -> set[str]:
        """The keys of all that is pinned."""
        return set(self._space.pins.names())

    # -- for ``figfs cache`` ------------------------------------------------------------

    def prune(self, to: int = 0) -> int:
        """Remove what was not used for the longest time until ``to`` bytes are left; what is pinned stays.
        Returns the bytes freed.
        """
        return self._space.prune(to)

    def verify(self, progress: Callable[[int], None] = lambda size: None) -> Verification:
        """Read every chunk, and remove those that are damaged. ``progress``: called with the bytes on disk of
        each, when it is done.
        """
        return upkeep.verify(self._space, progress)

    def statistics(self) -> Statistics:
        """What is there now, according to a new listing."""
        return upkeep.statistics(self._space)


def _chunks(key: str, size: int, start: int, end: int) -> Iterator[tuple[Chunk, int, int]]:
    """The chunks that hold [start, end) of a content, each with the blocks of it: [first, last)."""
    check_key(key)
    if not 0 <= start <= end <= size or start % BLOCK_SIZE or (end % BLOCK_SIZE and end != size):
        raise ValueError(f"[{start}, {end}) of {size} bytes are no whole blocks")
    for number in range(start // CHUNK_SIZE, -(-end // CHUNK_SIZE)):
        base = number * CHUNK_SIZE
        first = max(start - base, 0) // BLOCK_SIZE
        yield Chunk(key, number, size), first, -(-min(end - base, CHUNK_SIZE) // BLOCK_SIZE)


def _within(chunk: Chunk, first: int, last: int, start: int) -> Range:
    """Where the blocks [first, last) of the chunk are in a buffer that begins at ``start`` of the content."""
    offset = chunk.number * CHUNK_SIZE - start
    return offset + first * BLOCK_SIZE, offset + min(last * BLOCK_SIZE, chunk.length)


def _add_missing_blocks(missing: list[Range], chunk: Chunk, first: int, last: int, present: int) -> None:
    for begin, stop in chunkfile.runs(~present, first, last):
        _add_missing(missing, *_within(chunk, begin, stop, 0))


def _add_missing(missing: list[Range], start: int, end: int) -> None:
    if start < end:
        if missing and missing[-1][1] == start:
            start = missing.pop()[0]
        missing.append((start, end))
