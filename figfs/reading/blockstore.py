"""Blocks on disk: kept across restarts, shared by mounts, bounded, and never wrong.

    <directory>/blocks/<2 hex digits>/<key>.<chunk number>   a chunk file (``chunkfile.py``)
    <directory>/blocks/<2 hex digits>/<key>.ok               the MD5 of this content was found right
    <directory>/pins/<key>                                   this content is kept from eviction

There is nothing else: no index on disk, no locks between processes. The content of a key never changes, so
every race between mounts ends in a miss at worst, and so does every damage: what is not what was written is
removed and fetched again. Recency is the files' mtime, so that it outlives the mount and is shared.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import os
import re
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from figfs.reading import chunkfile
from figfs.reading.blocks import BLOCK_SIZE
from figfs.reading.chunkfile import CHUNK_SIZE, DATA_OFFSET, Chunk, Defect, Header, OtherVersion
from figfs.reading.chunkindex import UNKNOWN, ChunkIndex, Entry
from figfs.reading.pins import Pins

log = logging.getLogger(__name__)

Range = tuple[int, int]

DEFAULT_SIZE = 10 << 30  #: bytes of the cache at most, unless somebody wants more
LOOK_AGAIN = 60.0  #: seconds after which the directory is listed anew, since other mounts write there too
LISTING_SHARE = 20  #: a listing may take one part in so many of the time
TOUCH_AFTER = 60 * 10**9  #: ns; the mtime of a file in use is set at most this often
FREE_FOR = 1.0  #: seconds that the disk's free space is taken as known,
FREE_BYTES = 64 << 20  #: and bytes that may be written meanwhile
SLACK = 64 << 20  #: bytes, at most, that eviction frees beyond the need, so that not every write evicts
STALE_TEMPORARY = 600.0  #: seconds after which a temporary file is what a crash has left

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # whatever lies there, opening it never waits
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,119}")
_MARK = ".ok"


@dataclasses.dataclass(frozen=True, slots=True)
class Statistics:
    """What is in a cache directory. Sizes are bytes on disk."""

    used: int
    chunks: int
    contents: int
    pinned_contents: int  #: with those of which nothing is here
    pinned: int
    verified_contents: int


@dataclasses.dataclass(frozen=True, slots=True)
class Verification:
    """What ``verify`` has found. ``skipped``: of another version of the format, or not readable."""

    chunks: int
    defective: int
    skipped: int


def default_cache_size(directory: Path) -> int:
    """10 GiB, or a tenth of the free space of the disk that ``directory`` is or will be on, if that is less.

    What the cache has taken is not free: with nothing else changing it settles at an eleventh.
    """
    return min(DEFAULT_SIZE, _free_space(directory) // 10)


def _free_space(directory: Path) -> int:
    """0 if it cannot be told."""
    for place in [directory, *directory.parents]:
        with contextlib.suppress(OSError):
            figures = os.statvfs(place)
            return figures.f_bavail * figures.f_frsize
    return 0


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
        self.limit = limit
        self.min_free = min_free
        self._blocks = directory / "blocks"
        self._clock = clock
        self._pins = Pins(directory / "pins", clock)
        self._index = ChunkIndex()
        # What is done to a file is done under one of the first, so that the index stays true; room is made
        # and given under the second, whose holder may take one of the first.
        self._file_locks = [threading.Lock() for _ in range(64)]
        self._room = threading.Lock()
        self._reserved = 0  # bytes that are being written
        self._overhead = 0  # bytes of the directories themselves
        self._marked: set[str] = set()  # keys with a mark, as of the last listing
        self._listed_at: float | None = None
        self._listing_took = 0.0
        self._written = 0  # bytes since the last listing
        self._free_at = float("-inf")  # when the disk's free space was asked for,
        self._free_asked = 0  # what it was then,
        self._free = 0  # and what is left of it, as far as this process knows
        self._disk_full = False  # not even without the cache is there room
        self._looked_for: dict[str, float] = {}  # key: when it was looked for on disk
        self._said: dict[object, float] = {}

    def scan(self) -> None:
        """Make the directories, and learn what is there. ``OSError`` if the directory cannot be used."""
        for directory in (self.directory, self._blocks, self._pins.directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.listdir(self._blocks)
        with self._room:
            self._list()

    # -- reading ------------------------------------------------------------

    def may_have(self, key: str, start: int, end: int) -> bool:
        """Whether ``read_into`` could find anything of [start, end). No I/O.

        True also for a key that nobody has looked for on disk for a minute: another mount may have it there.
        """
        for number in range(start // CHUNK_SIZE, -(-end // CHUNK_SIZE)):
            entry = self._index.get(f"{key}.{number}")
            if entry is None:
                continue
            first = max(start - number * CHUNK_SIZE, 0) // BLOCK_SIZE
            last = -(-min(end - number * CHUNK_SIZE, CHUNK_SIZE) // BLOCK_SIZE)
            if entry.present == UNKNOWN or entry.present & chunkfile.bits(first, last):
                return True
        looked = self._looked_for.get(key, self._listed_at)
        return start < end and (looked is None or self._clock() - looked > LOOK_AGAIN)

    def read_into(self, key: str, size: int, start: int, end: int, buffer: memoryview) -> list[Range]:
        """Put the bytes [start, end) of a content of ``size`` bytes into ``buffer``, as far as they are here.

        ``start`` is a multiple of ``BLOCK_SIZE``; ``end`` too, or ``size``. Returns the ranges that are not
        here: whole blocks, in order, merged; their part of ``buffer`` is undefined. All other bytes have
        been compared with their checksums. From the page cache 2.3 GiB/s, and 25,000 files of 30 KB a second
        (tmpfs, one core at 2.1 GHz, tests/reading/bench_blockstore.py).
        """
        self._note_look(key)
        missing: list[Range] = []
        for chunk, first, last in _chunks(key, size, start, end):
            begin, stop = _within(chunk, first, last, start)
            present = self._read_chunk(chunk, first, last, buffer[begin:stop])
            _add_missing(missing, chunk, first, last, present)
        return missing

    def missing(self, key: str, size: int) -> list[Range]:
        """The ranges of a content that are not here, as from ``read_into``. Reads headers only."""
        self._note_look(key)
        missing: list[Range] = []
        for chunk, first, last in _chunks(key, size, 0, size):
            _add_missing(missing, chunk, first, last, self._read_chunk(chunk, first, last, None))
        return missing

    def _note_look(self, key: str) -> None:
        if len(self._looked_for) > 10_000:
            self._looked_for.clear()
        self._looked_for[key] = self._clock()

    def _read_chunk(self, chunk: Chunk, first: int, last: int, target: memoryview | None) -> int:
        """Which blocks are there, as a mask; those of [first, last) are in ``target`` and checked."""
        name, path = chunk.name, self._path(chunk.key, chunk.name)
        try:
            with _opened(path, os.O_RDONLY) as descriptor:
                if target is None:
                    return chunkfile.read_header(descriptor, chunk).present
                header = chunkfile.read(descriptor, chunk, first, last, target)
                self._note_use(name, path, descriptor, header)
                return header.present
        except FileNotFoundError:
            self._forget_if_gone(name, path)
        except Defect as exc:
            self._complain("defect", "%s: %s; removed, to be fetched again", path, exc)
            self._remove(name, path)
        except OtherVersion:
            pass  # a newer figfs may be using it; eviction removes it in its turn
        except OSError as exc:
            self._complain(exc.errno, "cannot read the cache: %s: %s", path, exc.strerror)
        return 0

    def _note_use(self, name: str, path: Path, descriptor: int, header: Header) -> None:
        entry = self._index.get(name)
        if entry is None:  # another process has written it
            with self._file_lock(name):
                figures = os.fstat(descriptor)
                if figures.st_nlink:
                    self._index.put(name, _entry(path.parent.name, figures, header.present))
            return
        entry.present = header.present
        self._index.use(name)
        now = time.time_ns()
        if not 0 <= now - entry.used <= TOUCH_AFTER:
            entry.used = now
            with contextlib.suppress(OSError):  # a cache that may only be read is still one
                os.utime(descriptor, ns=(now, now))

    # -- writing ------------------------------------------------------------

    def write(self, key: str, size: int, start: int, data: bytes | bytearray | memoryview) -> None:
        """Keep ``data``, the bytes of a content of ``size`` bytes from ``start`` on, if there is room.

        ``start`` is a multiple of ``BLOCK_SIZE``; so is the end of the data, or it is ``size``. What is here
        already is not written again. Evicts first what was not used for the longest time, so that the limit
        holds. 1.4 GiB/s, or 14,000 files of 30 KB a second (tmpfs, one core at 2.1 GHz).
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
        if not pieces or not self._reserve(need):
            return
        try:
            for chunk, first, piece in pieces:
                self._write_chunk(chunk, first, piece)
        except OSError as exc:
            self._complain(exc.errno, "not kept in the cache %s: %s", self.directory, exc.strerror)
            if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
                with self._room:
                    self._evict(self._slack())
        finally:
            with self._room:
                self._reserved -= need

    def _write_chunk(self, chunk: Chunk, first: int, piece: memoryview) -> None:
        name, path = chunk.name, self._path(chunk.key, chunk.name)
        with self._file_lock(name):
            _unlink(self._path(chunk.key, chunk.key + _MARK))
            try:
                with _opened(path, os.O_RDWR) as descriptor:
                    header = chunkfile.add(descriptor, chunk, first, piece)
                    self._index.put(name, _entry(path.parent.name, os.fstat(descriptor), header.present))
                return
            except (FileNotFoundError, Defect, OtherVersion):
                pass  # made anew
            temporary = path.with_name(f".{os.urandom(8).hex()}")
            with _created(temporary) as descriptor:
                header = chunkfile.create(descriptor, chunk, first, piece)
                os.rename(temporary, path)
                self._index.put(name, _entry(path.parent.name, os.fstat(descriptor), header.present))

    # -- room ------------------------------------------------------------

    def _reserve(self, need: int) -> bool:
        """Make room for ``need`` bytes; False if there is none."""
        with self._room:
            now = self._clock()
            age = float("inf") if self._listed_at is None else now - self._listed_at
            # Between two listings another mount can write as much as this one without being noticed.
            due = age > LOOK_AGAIN or self._written > self.limit // 16
            if due and age > self._listing_took * LISTING_SHARE:
                self._list()
            if need > self.limit:
                return False
            if self._over(need) > 0:
                self._evict(self._over(need) + self._slack())
                if self._over(need) > 0:
                    self._complain("full", "not kept: the cache %s is full of what is pinned", self.directory)
                    return False
            if not self._disk_has(need, now):
                return False
            self._reserved += need
            self._written += need
            self._free -= need
            return True

    def _over(self, need: int) -> int:
        return self._index.total + self._overhead + self._reserved + need - self.limit

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
                self._complain("min_free", text, self.directory, self.min_free >> 20)
        return self._free - need >= self.min_free

    def _ask_free(self, now: float) -> None:
        self._free_at = now
        self._free = self._free_asked = _free_space(self.directory) - self._reserved

    def _evict(self, excess: int, *, spare: frozenset[str] | None = None) -> int:
        """Remove chunks, the longest unused first, until ``excess`` bytes are free or none is left.

        ``spare``: keys that stay, the pinned ones unless given. Returns what was freed. Needs ``_room``.
        """
        spare = self._pins.recent() if spare is None else spare
        freed = 0
        for name in self._index.oldest_first():
            if freed >= excess:
                break
            key = name.rpartition(".")[0]
            entry = self._index.get(name)
            if entry is not None and key not in spare:
                freed += self._remove(name, self._blocks / entry.shard / name)
        return freed

    def _remove(self, name: str, path: Path) -> int:
        """Remove a chunk file and the mark of its content; returns what it took on disk."""
        with self._file_lock(name):
            entry = self._index.get(name)
            try:
                _unlink(path.with_name(name.rpartition(".")[0] + _MARK))
                _unlink(path)
            except OSError as exc:
                self._complain(exc.errno, "cannot remove %s: %s", path, exc.strerror)
                return 0
            self._index.forget(name)
            return entry.allocated if entry else 0

    def _forget_if_gone(self, name: str, path: Path) -> None:
        with self._file_lock(name):
            if self._index.get(name) is not None and not os.path.lexists(path):
                self._index.forget(name)

    # -- listing ------------------------------------------------------------

    def _list(self) -> None:
        """Learn what is on disk, whoever wrote it. Needs ``_room``."""
        began = self._clock()
        first = self._listed_at is None
        seen: set[str] = set()
        marked: set[str] = set()
        overhead = 0
        for shard in _names(self._blocks):
            self._index.begin_listing()
            listed: list[tuple[str, Entry]] = []
            try:
                overhead += _allocated(os.stat(self._blocks / shard))
                self._list_shard(shard, listed, marked)
            except OSError as exc:
                if exc.errno not in {errno.ENOENT, errno.ENOTDIR}:
                    self._complain(exc.errno, "cannot list the cache: %s: %s", exc.filename, exc.strerror)
            finally:
                self._index.merge(listed)
            seen.update(name for name, _ in listed)
        if first:
            self._index.sort()
        for name in self._index.oldest_first():
            entry = self._index.get(name)
            if name not in seen and entry is not None:
                self._forget_if_gone(name, self._blocks / entry.shard / name)
        self._marked, self._overhead, self._written = marked, overhead, 0
        self._looked_for.clear()
        self._listed_at = self._clock()
        self._listing_took = self._listed_at - began

    def _list_shard(self, shard: str, listed: list[tuple[str, Entry]], marked: set[str]) -> None:
        """Append the chunk files of one directory; sweep what crashes and evictions have left there."""
        marks: set[str] = set()
        keys: set[str] = set()
        with os.scandir(self._blocks / shard) as entries:
            for entry in entries:
                name = entry.name
                if name.endswith(_MARK):
                    marks.add(name.removesuffix(_MARK))
                    continue
                with contextlib.suppress(FileNotFoundError):
                    figures = entry.stat(follow_symlinks=False)
                    if name.startswith("."):
                        if time.time() - figures.st_mtime > STALE_TEMPORARY:
                            _unlink(Path(entry.path))
                    elif stat.S_ISREG(figures.st_mode):
                        listed.append((name, _entry(shard, figures, UNKNOWN)))
                        keys.add(name.rpartition(".")[0])
        for key in marks - keys:
            _unlink(self._blocks / shard / (key + _MARK))
        marked |= marks & keys

    # -- whole contents ------------------------------------------------------------

    def mark_verified(self, key: str) -> None:
        """Note that the MD5 of the whole content was found right. To be called after its last ``write``:
        a mark goes with any block of the key that is written, evicted or dropped.
        """
        with contextlib.suppress(OSError):
            flags = _FLAGS | os.O_WRONLY | os.O_CREAT
            os.close(os.open(self._path(key, key + _MARK), flags, 0o600))

    def is_verified(self, key: str) -> bool:
        """Whether the content has that mark, from whichever mount. One look at the disk."""
        return os.path.exists(self._path(key, key + _MARK))

    def drop(self, key: str) -> None:
        """Remove all of a content; a pin stays."""
        for name in _names(self._path(key, "").parent):
            if name.rpartition(".")[0] == key:
                self._remove(name, self._path(key, name))

    def pin(self, key: str) -> None:
        """Keep a content from eviction, whether or not any of it is here. ``OSError`` if not to be noted."""
        _check_key(key)
        self._pins.add(key)

    def unpin(self, key: str) -> None:
        """Take its pin away, if it has one. ``OSError`` if not to be noted."""
        _check_key(key)
        self._pins.remove(key)

    def pinned(self) -> set[str]:
        """The keys of all that is pinned."""
        return set(self._pins.names())

    # -- for ``figfs cache`` ------------------------------------------------------------

    def prune(self, to: int = 0, *, pinned: bool = False) -> int:
        """Remove what was not used for the longest time until ``to`` bytes are left; what is pinned stays
        unless ``pinned``. Returns the bytes freed.
        """
        with self._room:
            self._list()
            return self._evict(self._index.total - to, spare=frozenset() if pinned else None)

    def verify(self, progress: Callable[[int], None] = lambda size: None) -> Verification:
        """Read every chunk, and remove those that are damaged. ``progress``: called with the bytes on disk of
        each, when it is done.
        """
        with self._room:
            self._list()
        checked = defective = skipped = 0
        for name in self._index.oldest_first():
            entry = self._index.get(name)
            if entry is None:
                continue
            path = self._blocks / entry.shard / name
            try:
                _check(name, path)
                checked += 1
            except Defect as exc:
                log.warning("%s: %s; removed", path, exc)
                self._remove(name, path)
                checked += 1
                defective += 1
            except FileNotFoundError:
                pass  # evicted meanwhile
            except (OtherVersion, OSError):
                skipped += 1
            progress(entry.allocated)
        return Verification(checked, defective, skipped)

    def statistics(self) -> Statistics:
        """What is there now, according to a new listing."""
        with self._room:
            self._list()
        pins = self._pins.names()
        names = self._index.oldest_first()
        keys = {name.rpartition(".")[0] for name in names}
        pinned = [self._index.get(name) for name in names if name.rpartition(".")[0] in pins]
        return Statistics(
            used=self._index.total,
            chunks=len(names),
            contents=len(keys),
            pinned_contents=len(pins),
            pinned=sum(entry.allocated for entry in pinned if entry),
            verified_contents=len(self._marked & keys),
        )

    # ------------------------------------------------------------

    def _path(self, key: str, name: str) -> Path:
        return self._blocks / _shard(_check_key(key)) / name

    def _file_lock(self, name: str) -> threading.Lock:
        return self._file_locks[hash(name) % len(self._file_locks)]

    def _complain(self, cause: object, text: str, *arguments: object) -> None:
        now = self._clock()
        if now - self._said.get(cause, float("-inf")) > 60:
            self._said[cause] = now
            log.warning(text, *arguments)


def _check_key(key: str) -> str:
    if _KEY.fullmatch(key) is None:
        raise ValueError(f"not a key: {key!r}")
    return key


def _shard(key: str) -> str:
    return f"{zlib.crc32(key.encode()) & 0xFF:02x}"


def _chunks(key: str, size: int, start: int, end: int) -> Iterator[tuple[Chunk, int, int]]:
    """The chunks that hold [start, end) of a content, each with the blocks of it: [first, last)."""
    _check_key(key)
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


def _add_missing(missing: list[Range], chunk: Chunk, first: int, last: int, present: int) -> None:
    for begin, stop in chunkfile.runs(~present, first, last):
        start, end = _within(chunk, begin, stop, 0)
        if missing and missing[-1][1] == start:
            start = missing.pop()[0]
        missing.append((start, end))


def _check(name: str, path: Path) -> None:
    """Read a whole chunk file. ``Defect``, ``OtherVersion`` or ``OSError`` if it cannot be used."""
    key, _, number = name.rpartition(".")
    if _KEY.fullmatch(key) is None or not number.isdecimal() or path.parent.name != _shard(key):
        raise OtherVersion
    with _opened(path, os.O_RDONLY) as descriptor:
        size = chunkfile.size_in(os.pread(descriptor, DATA_OFFSET, 0))
        chunk = Chunk(key, int(number), size)
        chunkfile.read_header(descriptor, chunk)  # before the length of a damaged one is believed
        chunkfile.read(descriptor, chunk, 0, chunk.blocks, memoryview(bytearray(chunk.length)))


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | _FLAGS)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _created(path: Path) -> Iterator[int]:
    """A new file, which goes again if the block fails."""
    flags = _FLAGS | os.O_RDWR | os.O_CREAT | os.O_EXCL
    try:
        descriptor = os.open(path, flags, 0o600)
    except FileNotFoundError:  # the first file of its shard, or somebody has removed the whole cache
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, flags, 0o600)
    try:
        yield descriptor
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    finally:
        os.close(descriptor)


def _unlink(path: Path) -> None:
    """Remove what lies there, be it an empty directory; no error if nothing does."""
    try:
        os.unlink(path)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except IsADirectoryError:
        os.rmdir(path)


def _names(directory: Path) -> list[str]:
    """What is in a directory, if it can be listed."""
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _allocated(figures: os.stat_result) -> int:
    return figures.st_blocks * 512


def _entry(shard: str, figures: os.stat_result, present: int) -> Entry:
    return Entry(shard, _allocated(figures), figures.st_mtime_ns, present)
