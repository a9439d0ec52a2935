"""Blocks on disk: what was written comes back or is missing; the limit holds; pins and marks."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import random
import shutil
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from figfs.reading import blockstore, space
from figfs.reading.blocks import BLOCK_SIZE
from figfs.reading.blockstore import BlockStore, Range, default_cache_size
from figfs.reading.chunkfile import CHUNK_SIZE
from figfs.reading.upkeep import Pin

MIB = 1 << 20
KEY = "0123456789abcdef0123456789abcdef-3000000"


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def content(key: str, size: int) -> bytes:
    """The one content of a key."""
    return random.Random(key).randbytes(size)


def store_in(directory: Path, *, limit: int = 1 << 30, min_free: int = 0, scan: bool = True) -> BlockStore:
    store = BlockStore(directory, limit=limit, min_free=min_free)
    if scan:
        store.scan()
    return store


def keep(store: BlockStore, key: str, size: int, start: int = 0, end: int | None = None) -> None:
    store.write(key, size, start, content(key, size)[start : size if end is None else end])


def read(store: BlockStore, key: str, size: int, start: int = 0, end: int | None = None) -> list[Range]:
    """What is missing; fails if anything else is not the key's content."""
    end = size if end is None else end
    buffer = memoryview(bytearray(b"\xa5" * (end - start)))
    missing = store.read_into(key, size, start, end, buffer)
    expected = memoryview(content(key, size))
    at = start
    for gap_start, gap_end in [*missing, (end, end)]:
        assert at <= gap_start <= gap_end <= end
        assert buffer[at - start : gap_start - start] == expected[at:gap_start]
        at = gap_end
    return missing


def chunk_files(directory: Path, key: str = "*") -> list[Path]:
    return sorted(directory.glob(f"blocks/*/{key}.[0-9]*"))


def allocated(directory: Path) -> int:
    """Bytes on disk, with the directories below ``blocks``."""
    total = 0
    for parent, directories, files in os.walk(directory):
        for name in directories + files:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
    return total


def in_threads(work: Callable[[int], None], count: int) -> None:
    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(work, number) for number in range(count)]:
            future.result()


def blocks_to_ranges(blocks: Sequence[int], size: int) -> list[Range]:
    """Block numbers as ranges, merged."""
    ranges: list[Range] = []
    for block in blocks:
        start, end = block * BLOCK_SIZE, min((block + 1) * BLOCK_SIZE, size)
        if ranges and ranges[-1][1] == start:
            start = ranges.pop()[0]
        ranges.append((start, end))
    return ranges


# -- what was written comes back ------------------------------------------------------------


def test_making_a_store_touches_nothing(tmp_path: Path) -> None:
    """Neither the constructor nor questions about what is there make anything."""
    store = store_in(tmp_path / "cache", scan=False)
    assert store.may_have(KEY, 0, 10)
    assert read(store, KEY, 10) == [(0, 10)]
    assert store.missing(KEY, 10) == [(0, 10)]
    assert store.pinned() == set()
    assert not store.is_verified(KEY)
    assert not (tmp_path / "cache").exists()


@settings(max_examples=40, deadline=None)
@given(
    size=st.one_of(st.integers(1, 3 * BLOCK_SIZE), st.integers(CHUNK_SIZE - 5, 3 * CHUNK_SIZE)),
    data=st.data(),
)
def test_what_was_written_is_there_and_nothing_else(
    size: int, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any writes of whole blocks, in any order, overlapping or not; then any read, also after a restart,
    tells exactly the blocks that were not written as missing.
    """
    directory = tmp_path_factory.mktemp("cache")
    store = store_in(directory)
    count = -(-size // BLOCK_SIZE)
    pair = st.tuples(st.integers(0, count - 1), st.integers(1, count)).map(
        lambda p: (p[0], min(p[0] + p[1], count))
    )
    there: set[int] = set()
    for first, last in data.draw(st.lists(pair, max_size=6)):
        keep(store, KEY, size, first * BLOCK_SIZE, min(last * BLOCK_SIZE, size))
        there |= set(range(first, last))
    for each in (store, store_in(directory)):
        first, last = data.draw(pair)
        start, end = first * BLOCK_SIZE, min(last * BLOCK_SIZE, size)
        absent = [block for block in range(first, last) if block not in there]
        assert read(each, KEY, size, start, end) == blocks_to_ranges(absent, size)
        all_absent = [block for block in range(count) if block not in there]
        assert each.missing(KEY, size) == blocks_to_ranges(all_absent, size)
        if set(range(first, last)) & there:
            assert each.may_have(KEY, start, end)


@pytest.mark.parametrize("key", ["", ".", "..", "a/b", "a b", ".hidden", "x" * 121, "é", "a\n"])
def test_a_key_is_a_file_name(key: str, tmp_path: Path) -> None:
    """Anything else is refused before it becomes a path."""
    store = store_in(tmp_path)
    for use in (
        lambda: store.write(key, 1, 0, b"x"),
        lambda: store.missing(key, 1),
        lambda: store.pin(key),
        lambda: store.unpin(key),
        lambda: store.drop(key),
        lambda: store.mark_verified(key),
    ):
        with pytest.raises(ValueError, match="not a key"):
            use()


@pytest.mark.parametrize("part", [(1, BLOCK_SIZE), (0, 100), (0, 3 * BLOCK_SIZE), (-BLOCK_SIZE, 0)])
def test_ranges_are_whole_blocks(part: Range, tmp_path: Path) -> None:
    """A range that is not, or beyond the end, is a mistake of the caller."""
    store = store_in(tmp_path)
    with pytest.raises(ValueError, match="no whole blocks"):
        store.read_into(KEY, 2 * BLOCK_SIZE, *part, memoryview(bytearray(4 * BLOCK_SIZE)))


def test_an_empty_content_has_no_blocks(tmp_path: Path) -> None:
    """Nothing to keep, nothing missing."""
    store = store_in(tmp_path)
    store.write(KEY, 0, 0, b"")
    assert read(store, KEY, 0) == []
    assert store.missing(KEY, 0) == []
    assert chunk_files(tmp_path) == []


def test_nobody_else_can_read_the_cache(tmp_path: Path) -> None:
    """Directories are 0700 and files 0600, whatever the umask."""
    old = os.umask(0)
    try:
        store = store_in(tmp_path / "cache")
        keep(store, KEY, 100)
        store.mark_verified(KEY)
        store.pin(KEY)
    finally:
        os.umask(old)
    for path in [tmp_path / "cache", *(tmp_path / "cache").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_what_is_there_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment whose blocks came from the disk costs no write; of one that came in part, only the rest is
    written.
    """
    store = store_in(tmp_path)
    keep(store, KEY, CHUNK_SIZE, 0, 4 * BLOCK_SIZE)
    written: list[int] = []
    pwritev = os.pwritev

    def noted(descriptor: int, pieces: list[bytes], offset: int) -> int:
        written.append(sum(map(len, pieces)))
        return pwritev(descriptor, pieces, offset)

    monkeypatch.setattr(os, "pwritev", noted)
    keep(store, KEY, CHUNK_SIZE, BLOCK_SIZE, 3 * BLOCK_SIZE)
    assert written == []
    keep(store, KEY, CHUNK_SIZE, 0, 6 * BLOCK_SIZE)
    assert max(written) == 2 * BLOCK_SIZE
    assert read(store, KEY, CHUNK_SIZE) == [(6 * BLOCK_SIZE, CHUNK_SIZE)]


def test_many_threads_on_one_chunk(tmp_path: Path) -> None:
    """Each adds a block of its own to one file, while others read it: none is lost, none is wrong."""
    store = store_in(tmp_path)
    stop = threading.Event()

    def reader(number: int) -> None:
        while not stop.is_set():
            read(store, KEY, CHUNK_SIZE)

    def writer(number: int) -> None:
        keep(store, KEY, CHUNK_SIZE, number * BLOCK_SIZE, (number + 1) * BLOCK_SIZE)

    with ThreadPoolExecutor(2) as readers:
        futures = [readers.submit(reader, number) for number in range(2)]
        try:
            in_threads(writer, 32)
        finally:
            stop.set()
        for future in futures:
            future.result()
    assert read(store, KEY, CHUNK_SIZE) == []
    assert read(store_in(tmp_path), KEY, CHUNK_SIZE) == []


def test_a_large_content_that_is_not_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing of a terabyte is told without looking for each of its million chunks."""
    store = store_in(tmp_path)
    size = 1 << 40
    store.write(KEY, size, 5 * CHUNK_SIZE, bytes(BLOCK_SIZE))
    opened: list[str] = []
    open_file = os.open

    def noted(path: str, *arguments: int) -> int:
        opened.append(path)
        return open_file(path, *arguments)

    monkeypatch.setattr(os, "open", noted)
    assert store.missing(KEY, size) == [(0, 5 * CHUNK_SIZE), (5 * CHUNK_SIZE + BLOCK_SIZE, size)]
    assert len(opened) == 1


# -- several mounts ------------------------------------------------------------


def test_two_mounts_share_what_each_has(tmp_path: Path) -> None:
    """What one has written the other one reads, and adds to."""
    ours, theirs = store_in(tmp_path), store_in(tmp_path)
    keep(ours, KEY, 3 * CHUNK_SIZE, 0, CHUNK_SIZE + BLOCK_SIZE)
    keep(theirs, KEY, 3 * CHUNK_SIZE, CHUNK_SIZE + BLOCK_SIZE, 2 * CHUNK_SIZE)
    for store in (ours, theirs, store_in(tmp_path)):
        assert read(store, KEY, 3 * CHUNK_SIZE) == [(2 * CHUNK_SIZE, 3 * CHUNK_SIZE)]


def test_what_another_mount_brings_is_looked_for_after_a_minute(tmp_path: Path) -> None:
    """``may_have`` needs no look at the disk for what was looked for just now, and is not sure for long."""
    clock = Clock()
    store = BlockStore(tmp_path, limit=MIB * 64, min_free=0, clock=clock)
    store.scan()
    assert not store.may_have(KEY, 0, 100)
    keep(store_in(tmp_path), KEY, 100)
    clock.now += 61
    assert store.may_have(KEY, 0, 100)
    assert read(store, KEY, 100) == []
    other = "f" * 32
    assert store.may_have(other, 0, 100)
    assert read(store, other, 100) == [(0, 100)]
    assert not store.may_have(other, 0, 100)
    assert store.may_have(KEY, 0, 100)


def test_the_limit_counts_what_other_mounts_write(tmp_path: Path) -> None:
    """Two that write at the same pace stay together near the limit, though neither tells the other."""
    limit = 64 * MIB
    ours, theirs = store_in(tmp_path, limit=limit), store_in(tmp_path, limit=limit)
    for number in range(60):
        keep(ours, f"a{number}", MIB)
        keep(theirs, f"b{number}", MIB)
        assert allocated(tmp_path) <= limit + limit // 8 + 4 * MIB
    assert read(ours, "a59", MIB) == []
    assert read(theirs, "b59", MIB) == []


def test_a_chunk_of_another_version_is_left_alone(tmp_path: Path) -> None:
    """It may serve a newer figfs: it is a miss, goes by eviction, and gives way to a block of ours."""
    store = store_in(tmp_path)
    keep(store, KEY, 100)
    (file,) = chunk_files(tmp_path)
    raw = bytearray(file.read_bytes())
    raw[8] = 99
    file.write_bytes(raw)
    store = store_in(tmp_path)
    assert read(store, KEY, 100) == [(0, 100)]
    assert file.exists()
    assert store.verify().skipped == 1
    keep(store, KEY, 100)
    assert read(store, KEY, 100) == []
    file.write_bytes(raw)
    assert store.prune() > 0
    assert not file.exists()


# -- room ------------------------------------------------------------


def test_the_disk_is_never_fuller_than_the_limit(tmp_path: Path) -> None:
    """With many threads that write small and large contents, what ``stat`` counts stays below the limit at
    every moment.
    """
    limit = 24 * MIB
    store = store_in(tmp_path, limit=limit)
    stop = threading.Event()
    most = 0

    def watch() -> None:
        nonlocal most
        while not stop.is_set():
            most = max(most, allocated(tmp_path))

    def work(number: int) -> None:
        for turn in range(8):
            key = f"{number}-{turn}"
            size = 4 * MIB if (number + turn) % 3 else 30_000
            keep(store, key, size)
            read(store, key, size)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        in_threads(work, 4)
    finally:
        stop.set()
        watcher.join()
    assert limit // 2 < most <= limit + 4 * MIB
    assert store.statistics().used <= limit


def test_one_content_larger_than_the_limit(tmp_path: Path) -> None:
    """A file that is read once from end to end through a small cache leaves its last part there."""
    limit, size = 16 * MIB, 64 * MIB
    store = store_in(tmp_path, limit=limit)
    for start in range(0, size, 4 * MIB):
        store.write(KEY, size, start, bytes(4 * MIB))
        assert allocated(tmp_path) <= limit + 4 * MIB
    missing = store.missing(KEY, size)
    assert sum(end - start for start, end in missing) <= size - limit // 2
    assert missing[-1][1] < size


def test_a_write_that_can_never_fit_evicts_nothing(tmp_path: Path) -> None:
    """More than the whole limit at once is not kept, and costs nobody his blocks; 0 keeps nothing at all."""
    store = store_in(tmp_path, limit=2 * MIB)
    keep(store, "a", MIB)
    keep(store, "b", 4 * MIB)
    assert read(store, "a", MIB) == []
    assert read(store, "b", 4 * MIB) == [(0, 4 * MIB)]
    nothing = store_in(tmp_path / "none", limit=0)
    keep(nothing, "a", 10)
    assert chunk_files(tmp_path / "none") == []


def age(directory: Path, key: str, minutes: float) -> None:
    """Let the files of a key have been used so many minutes ago."""
    for path in chunk_files(directory, key):
        then = path.stat().st_mtime - minutes * 60
        os.utime(path, (then, then))


def test_what_was_used_last_stays(tmp_path: Path) -> None:
    """Eviction goes by the last use, not by the last write, in one run of the program and across restarts."""
    store = store_in(tmp_path, limit=10 * MIB)
    for key in "abcdefg":
        keep(store, key, MIB)
    read(store, "a", MIB)
    for key in "hijkl":
        keep(store, key, MIB)
    assert read(store, "a", MIB) == []
    assert read(store, "b", MIB) != []
    for minutes, key in enumerate("lkjia", 2):
        age(tmp_path, key, minutes)
    store = store_in(tmp_path, limit=10 * MIB)
    read(store, "a", MIB)  # the oldest on disk; this use is noted there
    store = store_in(tmp_path, limit=10 * MIB)
    for key in "mnopqr":
        keep(store, key, MIB)
    assert read(store, "a", MIB) == []
    assert read(store, "i", MIB) != []


def test_a_use_is_written_down_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading costs a write to the disk's metadata now and then only."""
    store = store_in(tmp_path)
    keep(store, KEY, 100)
    touched: list[int] = []
    utime = os.utime

    def noted(descriptor: int, *, ns: tuple[int, int]) -> None:
        touched.append(descriptor)
        utime(descriptor, ns=ns)

    monkeypatch.setattr(os, "utime", noted)
    for _ in range(10):
        read(store, KEY, 100)
    assert touched == []
    monkeypatch.undo()
    age(tmp_path, KEY, 2)
    monkeypatch.setattr(os, "utime", noted)
    store = store_in(tmp_path)
    for _ in range(10):
        read(store, KEY, 100)
    assert len(touched) == 1


def test_pinned_contents_are_never_evicted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not for room, not even if nothing else is there: then nothing more is kept, and the log says why."""
    store = store_in(tmp_path, limit=8 * MIB)
    for key in "abc":
        keep(store, key, 2 * MIB)
        store.pin(key)
    for number in range(10):
        keep(store, f"x{number}", MIB)
    assert [read(store, key, 2 * MIB) for key in "abc"] == [[], [], []]
    caplog.clear()
    keep(store, "large", 4 * MIB)
    assert read(store, "large", 4 * MIB) != []
    assert [record.message for record in caplog.records] == [
        f"not kept: the cache {tmp_path} is full of what is pinned"
    ]
    assert store.prune() >= 0
    assert read(store, "a", 2 * MIB) == []
    store.unpin("a")
    store.prune()
    assert read(store, "a", 2 * MIB) == [(0, 2 * MIB)]
    assert read(store, "b", 2 * MIB) == []
    assert store.pinned() == {"b", "c"}


def test_a_pin_of_another_process_counts_within_seconds(tmp_path: Path) -> None:
    """``figfs pin`` is another process than the mount."""
    clock = Clock()
    mount = BlockStore(tmp_path, limit=8 * MIB, min_free=0, clock=clock)
    mount.scan()
    for number in range(10):
        keep(mount, f"x{number}", MIB)  # has looked at the pins by now
    keep(mount, KEY, MIB)
    store_in(tmp_path).pin(KEY)
    clock.now += 3
    for number in range(20):
        keep(mount, f"y{number}", MIB)
    assert read(mount, KEY, MIB) == []


def test_free_space_of_the_disk_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below ``min_free`` the cache gives way; when that does not help it keeps nothing, once a second."""
    clock = Clock()
    foreign = 0
    asked = 0

    def free_space(directory: Path) -> int:
        nonlocal asked
        asked += 1
        return 100 * MIB - foreign - allocated(directory / "blocks")

    monkeypatch.setattr(space, "free_space", free_space)
    store = BlockStore(tmp_path, limit=1 << 30, min_free=90 * MIB, clock=clock)
    store.scan()
    for number in range(30):
        keep(store, f"x{number}", MIB)
        assert 100 * MIB - allocated(tmp_path / "blocks") >= 90 * MIB
    assert read(store, "x29", MIB) == []
    assert read(store, "x0", MIB) != []
    foreign = 50 * MIB
    clock.now += 2
    keep(store, "y", MIB)
    assert read(store, "y", MIB) != []
    assert chunk_files(tmp_path) == []
    before = asked
    for number in range(20):
        keep(store, f"z{number}", MIB)
    assert asked == before
    foreign = 0
    clock.now += 2
    keep(store, "y", MIB)
    assert read(store, "y", MIB) == []


def test_default_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10 GiB or a tenth of the free disk; of a directory that is not there yet, too; 0 if it is not told."""
    monkeypatch.setattr(blockstore, "free_space", lambda directory: 50 << 30)
    assert default_cache_size(tmp_path) == 5 << 30
    monkeypatch.setattr(blockstore, "free_space", lambda directory: 5000 << 30)
    assert default_cache_size(tmp_path) == 10 << 30
    monkeypatch.undo()
    assert 0 < default_cache_size(tmp_path / "not" / "yet" / "there") <= 10 << 30

    def fail(path: object) -> None:
        raise OSError(errno.ENOSYS, "no")

    monkeypatch.setattr(os, "statvfs", fail)
    assert default_cache_size(tmp_path) == 0


# -- marks, dropping, upkeep ------------------------------------------------------------


def test_a_mark_stays_and_goes_with_any_block(tmp_path: Path) -> None:
    """It outlives the mount; a write, an eviction, a defect and a drop take it away."""

    def marked() -> BlockStore:
        store = store_in(tmp_path, limit=4 * MIB)
        keep(store, KEY, 2 * MIB)
        store.mark_verified(KEY)
        assert store.is_verified(KEY)
        assert store_in(tmp_path).is_verified(KEY)
        return store

    store = marked()
    keep(store, KEY, 2 * MIB)  # all there: nothing is written
    assert store.is_verified(KEY)
    chunk_files(tmp_path)[0].unlink()
    assert read(store, KEY, 2 * MIB) == [(0, MIB)]
    keep(store, KEY, 2 * MIB)
    assert not store.is_verified(KEY)
    store = marked()
    keep(store, "other", 2 * MIB)
    assert store.missing(KEY, 2 * MIB)
    assert not store.is_verified(KEY)
    store = marked()
    chunk_files(tmp_path, KEY)[0].write_bytes(b"")
    read(store, KEY, 2 * MIB)
    assert not store.is_verified(KEY)
    store = marked()
    store.drop(KEY)
    assert not store.is_verified(KEY)


def test_drop_takes_all_of_a_content(tmp_path: Path) -> None:
    """Also what another mount wrote; nothing of a content whose key begins alike; pins stay."""
    store, theirs = store_in(tmp_path), store_in(tmp_path)
    keep(store, "ab", 2 * MIB, 0, MIB)
    keep(theirs, "ab", 2 * MIB, MIB, 2 * MIB)
    keep(store, "ab.1", MIB)
    store.pin("ab")
    store.drop("ab")
    assert read(store, "ab", 2 * MIB) == [(0, 2 * MIB)]
    assert read(store, "ab.1", MIB) == []
    assert store.pinned() == {"ab"}


def test_statistics(tmp_path: Path) -> None:
    """What ``figfs cache status`` shows, whoever wrote it."""
    keep(store_in(tmp_path), "a", 3 * MIB)
    writer = store_in(tmp_path)
    keep(writer, "b", 100)
    writer.mark_verified("b")
    writer.pin("a", "/mnt/Größe \udcff.bin")
    writer.pin("not-here")
    found = store_in(tmp_path, scan=False).statistics()
    assert (found.contents, found.chunks, found.verified_contents) == (2, 4, 1)
    pinned = sum(path.stat().st_blocks * 512 for path in chunk_files(tmp_path, "a"))
    assert found.pins == (Pin("a", "/mnt/Größe \udcff.bin", pinned), Pin("not-here", "", 0))
    assert found.used == sum(path.stat().st_blocks * 512 for path in chunk_files(tmp_path))


def test_prune_by_recency(tmp_path: Path) -> None:
    """What was used longest ago goes, down to the size that was named; the bytes freed are told."""
    store = store_in(tmp_path)
    for key in "abcd":
        keep(store, key, MIB)
    before = store.statistics().used
    freed = store_in(tmp_path).prune(before // 2)
    assert store.statistics().used == before - freed
    assert [read(store, key, MIB) == [] for key in "abcd"] == [False, False, True, True]


def test_verify_removes_what_is_defective(tmp_path: Path) -> None:
    """Every chunk is read; the damaged ones are gone afterwards, the others still there."""
    store = store_in(tmp_path)
    for key in "abcd":
        keep(store, key, 2 * MIB)
    files = chunk_files(tmp_path)
    with files[0].open("r+b") as file:
        file.seek(500_000)
        file.write(b"damage")
    files[3].write_bytes(b"short")
    seen: list[int] = []
    found = store_in(tmp_path).verify(seen.append)
    assert (found.chunks, found.defective, found.skipped) == (8, 2, 0)
    assert len(seen) == 8
    assert chunk_files(tmp_path) == [file for number, file in enumerate(files) if number not in {0, 3}]
    assert store_in(tmp_path).verify().defective == 0


# -- what can go wrong on a disk ------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_disk_that_takes_nothing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is kept, nothing is left behind, the log has one line a minute; later it works again."""
    clock = Clock()
    store = BlockStore(tmp_path, limit=64 * MIB, min_free=0, clock=clock)
    store.scan()
    keep(store, "before", MIB)

    def fail(*arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", fail)
        for turn in range(5):
            keep(store, f"x{turn}", MIB)
        assert len(caplog.records) == 1
        clock.now += 61
        keep(store, "y", MIB)
        assert len(caplog.records) == 2
    assert [path.name for path in tmp_path.glob("blocks/*/.*")] == []
    assert read(store, "x0", MIB) == [(0, MIB)]
    keep(store, "x0", MIB)
    assert read(store, "x0", MIB) == []


def test_a_short_write_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a block is no block, be it in a new file or in one that was there."""
    store = store_in(tmp_path)
    keep(store, "old", CHUNK_SIZE, 0, BLOCK_SIZE)
    store.pin("old")  # a full disk makes the store evict
    pwritev = os.pwritev
    with monkeypatch.context() as patch:
        patch.setattr(
            os, "pwritev", lambda fd, pieces, offset: pwritev(fd, [b"".join(pieces)[:20_000]], offset)
        )
        keep(store, "new", MIB)
        keep(store, "old", CHUNK_SIZE, BLOCK_SIZE, 3 * BLOCK_SIZE)
    assert read(store, "new", MIB) == [(0, MIB)]
    assert store.missing("old", CHUNK_SIZE)[-1] == (BLOCK_SIZE, CHUNK_SIZE)
    read(store, "old", CHUNK_SIZE)


def test_the_cache_is_removed_while_it_is_in_use(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """rm -rf of it costs what was there; directories are made again, and the limit holds."""
    directory = tmp_path / "cache"
    store = store_in(directory, limit=8 * MIB)
    for number in range(6):
        keep(store, f"x{number}", MIB)
    shutil.rmtree(directory)
    assert read(store, "x0", MIB) == [(0, MIB)]
    assert not store.is_verified("x0")
    store.mark_verified("x0")
    store.drop("x0")
    for number in range(12):
        keep(store, f"y{number}", MIB)
        assert allocated(directory) <= 8 * MIB + 4 * MIB
    assert read(store, "y11", MIB) == []
    assert store.statistics().chunks >= 5
    assert caplog.records == []


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    """Only ``scan`` says so; the rest keeps nothing and has nothing."""
    (tmp_path / "file").touch()
    store = store_in(tmp_path / "file", scan=False)
    with pytest.raises(OSError, match="file"):
        store.scan()
    keep(store, KEY, 100)
    assert read(store, KEY, 100) == [(0, 100)]
    store.drop(KEY)
    assert store.statistics().chunks == 0


def test_what_a_crash_leaves_is_swept(tmp_path: Path) -> None:
    """Old temporary files, and marks of contents of which nothing is here; a young one may be in use."""
    store = store_in(tmp_path)
    keep(store, KEY, 100)
    shard = chunk_files(tmp_path)[0].parent
    (shard / ".old").write_bytes(b"x" * 1000)
    os.utime(shard / ".old", (1, 1))
    (shard / ".young").write_bytes(b"x" * 1000)
    (shard / "gone.ok").touch()
    store_in(tmp_path)
    assert {path.name for path in shard.iterdir()} == {f"{KEY}.0", ".young"}


def test_names_that_are_not_ours(tmp_path: Path) -> None:
    """Files of unknown names count, and are evicted in their turn; directories are left alone."""
    store = store_in(tmp_path)
    keep(store, KEY, 100)
    shard = chunk_files(tmp_path)[0].parent
    (shard / "strange").write_bytes(b"x" * 100_000)
    (Path(os.fsdecode(os.fsencode(shard) + b"/\xff.0"))).write_bytes(b"x" * 100_000)
    (shard / "directory.0").mkdir()
    store = store_in(tmp_path)
    assert store.statistics().used >= 200_000
    assert store.verify().skipped == 2
    store.prune()
    assert [path.name for path in shard.iterdir()] == ["directory.0"]


def test_a_damaged_chunk_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One warning, with its path."""
    store = store_in(tmp_path)
    keep(store, KEY, 100)
    (file,) = chunk_files(tmp_path)
    file.write_bytes(file.read_bytes()[:-1])
    with caplog.at_level(logging.DEBUG):
        assert read(store, KEY, 100) == [(0, 100)]
        assert read(store, KEY, 100) == [(0, 100)]
    assert [record.getMessage() for record in caplog.records] == [
        f"{file}: cut short; removed, to be fetched again"
    ]
