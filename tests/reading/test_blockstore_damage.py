"""Damage on disk: whatever happens to the files, readers get true bytes or are told what is missing."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from figfs.reading.blocks import BLOCK_SIZE
from figfs.reading.blockstore import BlockStore, Range
from figfs.reading.chunkfile import CHUNK_SIZE, DATA_OFFSET

SIZES = {"a-small": 30_000, "b-one": CHUNK_SIZE, "c-three": 2 * CHUNK_SIZE + 3 * BLOCK_SIZE + 17}
CONTENTS = {key: random.Random(key).randbytes(size) for key, size in SIZES.items()}
KEY = "b-one"


def store_in(directory: Path, *, limit: int = 1 << 30) -> BlockStore:
    store = BlockStore(directory, limit=limit, min_free=0)
    store.scan()
    return store


def keep(store: BlockStore, key: str = KEY, start: int = 0, end: int | None = None) -> None:
    store.write(key, SIZES[key], start, memoryview(CONTENTS[key])[start:end])


def read(store: BlockStore, key: str = KEY, start: int = 0, end: int | None = None) -> list[Range]:
    """What is missing; fails if anything else is not what was written."""
    end = SIZES[key] if end is None else end
    buffer = memoryview(bytearray(end - start))
    missing = store.read_into(key, SIZES[key], start, end, buffer)
    at = start
    for gap_start, gap_end in [*missing, (end, end)]:
        assert at <= gap_start <= gap_end <= end
        assert buffer[at - start : gap_start - start] == CONTENTS[key][at:gap_start]
        at = gap_end
    return missing


def chunk_files(directory: Path, key: str = "*") -> list[Path]:
    return sorted(directory.glob(f"blocks/*/{key}.[0-9]*"))


def flip(path: Path, bit: int) -> None:
    """Turn one bit of the file over."""
    with path.open("r+b") as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_any_bit(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """One bit turned over in a block makes it missing, and the chunk is fetched again; in the header all of
    it; in the unused rest of the header's page nothing.
    """
    directory = tmp_path_factory.mktemp("cache")
    store = store_in(directory)
    start = data.draw(st.integers(0, 31)) * BLOCK_SIZE
    keep(store, start=start)
    (file,) = chunk_files(directory)
    place = data.draw(st.sampled_from(["header", "padding", "block"]))
    header = 180  # bytes
    first, last = {
        "header": (0, header),
        "padding": (header, DATA_OFFSET),
        "block": (DATA_OFFSET + start, DATA_OFFSET + CHUNK_SIZE),
    }[place]
    flip(file, data.draw(st.integers(first * 8, last * 8 - 1)))
    before = [(0, start)] if start else []
    missing = read(store)
    if place == "padding":
        assert missing == before
    else:
        assert missing == [(0, CHUNK_SIZE)]
        keep(store, start=start)
        assert read(store) == before


def truncate(file: Path, other: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def cut_in_the_header(file: Path, other: Path) -> None:
    os.truncate(file, 100)


def empty(file: Path, other: Path) -> None:
    os.truncate(file, 0)


def cut_and_filled_with_zeros(file: Path, other: Path) -> None:
    """What a journaling file system may leave after a power cut."""
    size = file.stat().st_size
    os.truncate(file, size // 2)
    os.truncate(file, size)


def delete(file: Path, other: Path) -> None:
    file.unlink()


def become_another(file: Path, other: Path) -> None:
    shutil.copyfile(other, file)


def swap(file: Path, other: Path) -> None:
    spare = file.with_name("spare")
    file.rename(spare)
    other.rename(file)
    spare.rename(other)


def swap_two_blocks(file: Path, other: Path) -> None:
    raw = bytearray(file.read_bytes())
    one, two = DATA_OFFSET + 3 * BLOCK_SIZE, DATA_OFFSET + 7 * BLOCK_SIZE
    raw[one : one + BLOCK_SIZE], raw[two : two + BLOCK_SIZE] = (
        raw[two : two + BLOCK_SIZE],
        raw[one : one + BLOCK_SIZE],
    )
    file.write_bytes(raw)


def directory_instead(file: Path, other: Path) -> None:
    file.unlink()
    file.mkdir()


def link_instead(file: Path, other: Path) -> None:
    file.unlink()
    file.symlink_to(other)


def link_to_itself(file: Path, other: Path) -> None:
    file.unlink()
    file.symlink_to(file)


def pipe_instead(file: Path, other: Path) -> None:
    file.unlink()
    os.mkfifo(file)


DAMAGES: list[Callable[[Path, Path], None]] = [
    truncate,
    cut_in_the_header,
    empty,
    cut_and_filled_with_zeros,
    delete,
    become_another,
    swap,
    swap_two_blocks,
    directory_instead,
    link_instead,
    link_to_itself,
    pipe_instead,
]


@pytest.mark.parametrize("same_content", [True, False])
@pytest.mark.parametrize("again", ["this mount", "the next mount", "writing first"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage(damage: Callable[[Path, Path], None], again: str, same_content: bool, tmp_path: Path) -> None:
    """A damaged chunk is missing and nothing else is; fetched again, it is there again."""
    store = store_in(tmp_path)
    keep(store, "b-one")
    keep(store, "c-three")
    file, other = chunk_files(tmp_path, "c-three")[:2]
    if not same_content:
        (other,) = chunk_files(tmp_path, "b-one")
    damage(file, other)
    if again != "this mount":
        store = store_in(tmp_path)
    if again == "writing first":
        keep(store, "b-one")
        keep(store, "c-three")
    else:
        lost = [(0, CHUNK_SIZE)]
        if damage is swap and same_content:
            lost = [(0, 2 * CHUNK_SIZE)]
        assert read(store, "c-three") == lost
        assert read(store, "b-one") == ([(0, CHUNK_SIZE)] if damage is swap and not same_content else [])
        keep(store, "b-one")
        keep(store, "c-three")
    for _ in range(2):  # what was taken for whole until it was read is missing now, and kept at last
        for key in ("b-one", "c-three"):
            if read(store, key):
                keep(store, key)
    assert [read(store, key) for key in ("b-one", "c-three")] == [[], []]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_chunk_that_may_not_be_read(tmp_path: Path) -> None:
    """A miss."""
    store = store_in(tmp_path)
    keep(store)
    chunk_files(tmp_path)[0].chmod(0)
    assert read(store) == [(0, CHUNK_SIZE)]


def test_a_disk_that_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO is a miss, and the chunk goes, so that it comes to lie elsewhere when it is fetched again."""
    store = store_in(tmp_path)
    keep(store)

    def fail(*arguments: object) -> int:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "preadv", fail)
        assert read(store) == [(0, CHUNK_SIZE)]
    assert chunk_files(tmp_path) == []


def test_a_header_that_is_just_being_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process writes it while it is read: read again at once, it is whole, and nothing is removed."""
    store = store_in(tmp_path)
    keep(store)
    preadv = os.preadv
    torn = 0

    def tear(descriptor: int, buffers: list[bytearray], offset: int) -> int:
        nonlocal torn
        got = preadv(descriptor, buffers, offset)
        if offset == 0:
            torn += 1
            buffers[0][50] ^= 1
        return got

    monkeypatch.setattr(os, "preadv", tear)
    assert read(store) == []
    assert torn == 1


def test_two_mounts_at_once(tmp_path: Path) -> None:
    """Many threads of two mounts that write, read, drop and list one small cache at the same time, on other
    and on the same chunks: nobody reads a wrong byte, nothing is left behind, and at the end it works.
    """
    stores = [store_in(tmp_path, limit=3 << 20) for _ in range(2)]

    def work(number: int) -> None:
        chance = random.Random(number)
        store = stores[number % 2]
        for _ in range(60):
            key = chance.choice(sorted(SIZES))
            first, last = sorted(chance.randrange(-(-SIZES[key] // BLOCK_SIZE)) for _ in range(2))
            start, end = first * BLOCK_SIZE, min((last + 1) * BLOCK_SIZE, SIZES[key])
            action = chance.random()
            if action < 0.5:
                for gap_start, gap_end in read(store, key, start, end):
                    keep(store, key, gap_start, gap_end)
            elif action < 0.8:
                keep(store, key, start, end)
            elif action < 0.9:
                store.drop(key)
            else:
                store.prune(1 << 20)

    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(work, number) for number in range(6)]:
            future.result()
    assert list(tmp_path.glob("blocks/*/.*")) == []
    assert store_in(tmp_path).verify().defective == 0
    for store in stores:
        assert store.statistics().used == sum(path.stat().st_blocks * 512 for path in chunk_files(tmp_path))
        keep(store)
        assert read(store) == []


class Disk(RuleBasedStateMachine):
    """Two mounts on one small cache, and somebody who damages files: nobody ever reads a wrong byte."""

    @initialize()
    def mount(self) -> None:
        self.directory = Path(tempfile.mkdtemp())
        self.stores = [store_in(self.directory, limit=3 << 20) for _ in range(2)]

    def teardown(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)

    keys = st.sampled_from(sorted(SIZES))
    which = st.integers(0, 1)
    parts = st.tuples(st.floats(0, 1), st.floats(0, 1))

    def part(self, key: str, part: tuple[float, float]) -> Range:
        count = -(-SIZES[key] // BLOCK_SIZE)
        first, last = sorted(min(int(each * count), count - 1) for each in part)
        return first * BLOCK_SIZE, min((last + 1) * BLOCK_SIZE, SIZES[key])

    @rule(which=which, key=keys, part=parts)
    def write(self, which: int, key: str, part: tuple[float, float]) -> None:
        start, end = self.part(key, part)
        keep(self.stores[which], key, start, end)

    @rule(which=which, key=keys, part=parts)
    def read(self, which: int, key: str, part: tuple[float, float]) -> None:
        start, end = self.part(key, part)
        missing = read(self.stores[which], key, start, end)
        for gap_start, gap_end in missing:
            assert gap_start % BLOCK_SIZE == 0
            assert gap_end % BLOCK_SIZE == 0 or gap_end == SIZES[key]

    @rule(which=which, key=keys)
    def fetch(self, which: int, key: str) -> None:
        """What a mount does: read, fetch what is missing, keep it; then it can be read."""
        store = self.stores[which]
        for start, end in read(store, key):
            keep(store, key, start, end)
        assert read(store, key) == []

    @rule(which=which)
    def remount(self, which: int) -> None:
        self.stores[which] = store_in(self.directory, limit=3 << 20)

    @rule(which=which, to=st.integers(0, 3 << 20))
    def prune(self, which: int, to: int) -> None:
        self.stores[which].prune(to)

    @rule(which=which, key=keys)
    def drop(self, which: int, key: str) -> None:
        self.stores[which].drop(key)

    @rule(which=which)
    def verify(self, which: int) -> None:
        self.stores[which].verify()

    @rule(damage=st.sampled_from(DAMAGES), one=st.integers(0), two=st.integers(0))
    def damage(self, damage: Callable[[Path, Path], None], one: int, two: int) -> None:
        files = [path for path in chunk_files(self.directory) if path.is_file() and path.stat().st_size]
        if len(files) > 1:
            file, other = files[one % len(files)], files[two % len(files)]
            long_enough = damage is not swap_two_blocks or file.stat().st_size > DATA_OFFSET + 8 * BLOCK_SIZE
            if file != other and not file.is_symlink() and not other.is_symlink() and long_enough:
                damage(file, other)

    @rule(one=st.integers(0), bit=st.floats(0, 1, exclude_max=True))
    def flip(self, one: int, bit: float) -> None:
        files = [path for path in chunk_files(self.directory) if path.is_file() and path.stat().st_size]
        if files:
            file = files[one % len(files)]
            flip(file, int(bit * file.stat().st_size * 8))

    @rule()
    def remove_all(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)


TestDisk = Disk.TestCase
TestDisk.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
