"""Spool files: any order of writes over a stored file is what a local file would hold; nothing is made up."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from figfs.errors import BadAnswer, Unreachable
from figfs.writing.spool import CHUNK, Spool, SpoolFile, read_chunks

BASE = bytes(range(1, 61))
any_number_of_times = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def base_of(content: bytes) -> Callable[[int, int], Awaitable[bytes]]:
    async def read_base(start: int, end: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return content[start:end]

    return read_base


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
    tmp_path: Path, operations: list[tuple[str, int, bytes]], size: int
) -> None:
    """Random writes, cuts and reads over a stored file give what they give on bytes; so does the seal."""
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
            assert file.size == len(model)
        assert await file.seal() == hashlib.md5(model, usedforsecurity=False).hexdigest()
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
