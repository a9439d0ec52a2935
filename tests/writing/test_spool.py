"""Spool files: any order of writes over a stored file is what a local file would hold; nothing is made up."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from figfs.errors import BadAnswer, Unreachable
from figfs.writing import hashing
from figfs.writing.journal import Upload
from figfs.writing.spool import CHUNK, Spool, SpoolFile, is_overlay, path_of, read_chunks

BASE = bytes(range(1, 61))
any_number_of_times = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def base_of(content: bytes) -> Callable[[int, int], Awaitable[bytes]]:
    async def read_base(start: int, end: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return content[start:end]

    return read_base


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def upload_of(file: SpoolFile) -> Upload:
    return Upload(row=0, article_id=1, folder="", name="f", size=0, md5="", spool_name=file.path.name)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


@pytest.fixture
def opened() -> Iterator[list[SpoolFile]]:
    files: list[SpoolFile] = []
    yield files
    for file in files:
        file.close(delete=True)


# ---- overlay ------------------------------------------------------------

operations = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.integers(0, 80), st.binary(min_size=1, max_size=30)),
        st.tuples(st.just("truncate"), st.integers(0, 90), st.just(b"")),
        st.tuples(st.just("read"), st.integers(0, 90), st.binary(max_size=40)),
    ),
    max_size=12,
)


@any_number_of_times
@given(operations=operations, size=st.integers(0, len(BASE)))
async def test_an_overlay_behaves_as_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operations: list[tuple[str, int, bytes]], size: int
) -> None:
    """Random writes, cuts and reads over a stored file give what they give on bytes; so does the seal, though
    threads have hashed behind some of the writes.
    """
    monkeypatch.setattr(hashing, "CHUNK", 8)
    spool = Spool(tmp_path / "spool")
    file = spool.create(base_size=size, read_base=base_of(BASE[:size]))
    model = bytearray(BASE[:size])
    try:
        for kind, offset, data in operations:
            if kind == "write":
                assert file.write(offset, data) == len(data)
                model.extend(bytes(max(0, offset - len(model))))
                model[offset : offset + len(data)] = data
            elif kind == "truncate":
                file.truncate(offset)
                del model[offset:]
                model.extend(bytes(offset - len(model)))
            else:
                assert await file.read(offset, len(data)) == model[offset : offset + len(data)]
                if offset > 80:  # as when a close was followed by more writes
                    assert await file.seal() == md5(bytes(model))
            assert file.size == len(model)
        assert await file.seal() == md5(bytes(model))
        assert file.path.read_bytes() == model
    finally:
        file.close(delete=True)


async def test_what_is_written_while_the_base_is_fetched_wins(spool: Spool, opened: list[SpoolFile]) -> None:
    """A fetch under way puts no older bytes over a write, and none past a cut, that came meanwhile."""
    asked, answer = trio.Event(), trio.Event()

    async def read_base(start: int, end: int) -> bytes:
        asked.set()
        await answer.wait()
        return BASE[start:end]

    file = spool.create(base_size=len(BASE), read_base=read_base)
    opened.append(file)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(file.read, 0, len(BASE))
        await asked.wait()
        file.write(10, b"new")
        file.truncate(30)
        file.truncate(40)
        answer.set()
    expected = BASE[:10] + b"new" + BASE[13:30] + bytes(10)
    assert await file.read(0, 100) == expected


@pytest.mark.parametrize("answer", [b"", BASE[:-1], BASE + b"x"])
async def test_a_short_base_is_an_error_not_a_hole(
    spool: Spool, opened: list[SpoolFile], answer: bytes
) -> None:
    """Anything but the bytes asked for fails read and seal: zeros in their place would be uploaded."""

    async def read_base(start: int, end: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return answer

    file = spool.create(base_size=len(BASE), read_base=read_base)
    opened.append(file)
    with pytest.raises(BadAnswer):
        await file.read(0, 10_000)
    with pytest.raises(BadAnswer):
        await file.seal()


async def test_a_base_that_cannot_be_fetched_is_asked_again(spool: Spool, opened: list[SpoolFile]) -> None:
    """The reader gets the error, the next read tries anew; what was written needs no base."""
    failing = True

    async def read_base(start: int, end: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if failing:
            raise Unreachable("away")
        return BASE[start:end]

    file = spool.create(base_size=len(BASE), read_base=read_base)
    opened.append(file)
    file.write(0, b"abc")
    assert await file.read(0, 3) == b"abc"
    with pytest.raises(Unreachable):
        await file.read(0, 4)
    failing = False
    assert await file.read(0, 4) == b"abc" + BASE[3:4]


async def test_copy_is_independent(spool: Spool, opened: list[SpoolFile]) -> None:
    """A copy has the bytes of the sealed file, and writes to it change that no more."""
    first, second = spool.create(), spool.create()
    opened += [first, second]
    first.write(0, BASE)
    await first.seal()
    await second.copy_from(first)
    second.write(len(BASE), b"more")
    assert first.path.read_bytes() == BASE
    assert await second.read(0, 100) == BASE + b"more"


async def test_read_chunks_gives_exactly_the_range(spool: Spool, opened: list[SpoolFile]) -> None:
    """Chunks of at most 1 MiB make up the range; a file that is shorter is an error."""
    file = spool.create()
    opened.append(file)
    content = bytes(range(256)) * (2 * CHUNK // 256 + 3)
    file.write(0, content)
    chunks = [chunk async for chunk in read_chunks(file.path, 5, len(content) - 7)]
    assert b"".join(chunks) == content[5:-7]
    assert max(map(len, chunks)) <= CHUNK
    with pytest.raises(OSError, match="expected"):
        async for _ in read_chunks(file.path, 0, len(content) + 1):
            pass


def test_numbers_are_not_used_again(tmp_path: Path) -> None:
    """After a restart new spool files do not take the names of those the journal may speak of."""
    file = Spool(tmp_path).create()
    file.write(0, b"kept")
    file.close(delete=False)
    other = Spool(tmp_path).create()
    other.close(delete=True)
    assert other.path != file.path
    assert file.path.read_bytes() == b"kept"


# ---- hashing behind the writes ------------------------------------------------------------


class Reads:
    """Counts what is read of spool files, by thread."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        self.threads: set[int] = set()
        self._pread = os.pread
        monkeypatch.setattr(os, "pread", self)

    def __call__(self, descriptor: int, size: int, position: int) -> bytes:
        data = self._pread(descriptor, size, position)
        self.bytes += len(data)
        self.threads.add(threading.get_ident())
        return data


async def test_written_in_order_it_is_hashed_before_the_close(
    spool: Spool, opened: list[SpoolFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte is read once for the hash, never in the event loop; a second seal reads what came since."""
    reads = Reads(monkeypatch)
    file = spool.create()
    opened.append(file)
    data = os.urandom(CHUNK)
    for n in range(8):
        file.write(n * CHUNK, data)
    while reads.bytes < 8 * CHUNK:  # noqa: ASYNC110 (a thread, which sets no event)
        await trio.sleep(0.001)
    assert threading.get_ident() not in reads.threads
    assert await file.seal() == md5(8 * data)
    assert reads.bytes == 8 * CHUNK
    file.write(8 * CHUNK, b"more")
    assert await file.seal() == md5(8 * data + b"more")
    assert reads.bytes == 8 * CHUNK + 4


@pytest.mark.parametrize("change", ["rewrite", "cut", "cut and lengthened"])
async def test_what_changes_after_it_was_hashed_is_hashed_anew(
    spool: Spool, opened: list[SpoolFile], change: str
) -> None:
    """Archives put their header in at the end; programs cut what they have written."""
    file = spool.create()
    opened.append(file)
    model = bytearray(os.urandom(3 * CHUNK))
    file.write(0, bytes(model))
    await file.seal()
    if change == "rewrite":
        file.write(5, b"header")
        model[5:11] = b"header"
    else:
        file.truncate(CHUNK)
        del model[CHUNK:]
        if change == "cut and lengthened":
            file.truncate(2 * CHUNK)
            model.extend(bytes(CHUNK))
    assert await file.seal() == md5(bytes(model))


async def test_a_small_file_is_sealed_in_one_hop(
    spool: Spool, opened: list[SpoolFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hash, fsync of the file and of its directory in one thread; none is used before the close."""
    hops = 0
    run_sync = trio.to_thread.run_sync

    async def counted(*args: object, **kwargs: object) -> object:
        nonlocal hops
        hops += 1
        return await run_sync(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(trio.to_thread, "run_sync", counted)
    monkeypatch.setattr(trio.lowlevel, "start_thread_soon", None)
    file = spool.create()
    opened.append(file)
    for n in range(30):
        file.write(n * 1000, bytes(1000))
    assert await file.seal() == md5(bytes(30_000))
    assert hops == 1


async def test_name_and_bytes_are_on_the_disk(
    spool: Spool, opened: list[SpoolFile], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a seal or a sync a power cut costs neither the bytes nor the entry in the directory, which is
    synced once.
    """
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    file = spool.create()
    opened.append(file)
    bytes_of, entry_of = file.path.stat().st_ino, file.path.parent.stat().st_ino
    await file.sync()
    assert synced == [bytes_of, entry_of]
    await file.seal()
    assert synced == [bytes_of, entry_of, bytes_of]


# ---- a full disk ------------------------------------------------------------


async def test_disk_full(spool: Spool, opened: list[SpoolFile], monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC in the middle of a write: the size stays, the hash is of what is there, and the room is free."""
    file = spool.create()
    opened.append(file)
    file.write(0, b"accepted")
    await file.seal()
    pwrite = os.pwrite
    calls = 0

    def full(descriptor: int, data: bytes, position: int) -> int:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise OSError(errno.ENOSPC, "full")
        return pwrite(descriptor, data[:3], position)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OSError, match="full"):
        file.write(6, b"too much")
    assert file.size == file.path.stat().st_size == 8
    assert await file.seal() == md5(file.path.read_bytes())


def test_disk_full_at_the_start(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A spool file that cannot be made leaves nothing."""

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "ftruncate", full)
    with pytest.raises(OSError, match="full"):
        spool.create(base_size=10, read_base=base_of(BASE))
    assert list(spool.directory.iterdir()) == []


# ---- what a crash leaves ------------------------------------------------------------


def test_never_closed_bytes(spool: Spool) -> None:
    """Spool files that no row names, oldest first, with the path that they had last."""
    kept = [spool.create(f"/articles/a/{n}") for n in range(12)]
    for file in kept:
        file.write(0, b"some")
    kept[3].name("/articles/a/renamed")
    overlay = spool.create("/articles/a/old", base_size=10, read_base=base_of(BASE))
    for file in (*kept, overlay):
        file.close(delete=False)
    after = Spool(spool.directory)
    found = after.abandoned([upload_of(kept[0])])
    assert found == [file.path for file in (*kept[1:], overlay)]
    assert path_of(found[0]) == "/articles/a/1"
    assert path_of(found[2]) == "/articles/a/renamed"
    assert [is_overlay(path) for path in found] == [False] * 11 + [True]
    after.sweep([upload_of(kept[0])])
    assert after.abandoned([upload_of(kept[0])]) == found


def test_what_nobody_can_want_is_swept(spool: Spool) -> None:
    """Empty files, litter of programs, and what was journaled and has no row any more; nothing with a row."""
    empty, litter, done, owed = (
        spool.create(f"/articles/a/{name}") for name in ("e", ".~lock.x#", "done", "owed")
    )
    for file in (litter, done, owed):
        file.write(0, b"some")
    done.journaled()
    owed.journaled()
    for file in (empty, litter, done, owed):
        file.close(delete=False)
    rows = [upload_of(owed)]
    assert spool.abandoned(rows) == []
    spool.sweep(rows)
    assert list(spool.directory.iterdir()) == [owed.path]


def test_a_disk_without_extended_attributes(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes are kept and found all the same, without a name."""

    def refused(*args: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "none here")

    monkeypatch.setattr(os, "setxattr", refused)
    monkeypatch.setattr(os, "getxattr", refused)
    file = spool.create("/articles/a/f")
    file.write(0, b"some")
    file.close(delete=False)
    assert spool.abandoned([]) == [file.path]
    assert path_of(file.path) == ""
