"""One open stored file: reads are slices of the content; only who reads on gets the next block ahead."""

from __future__ import annotations

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from figfs.errors import Unreachable
from figfs.reading.blockcache import BLOCK_SIZE, BlockCache, Source
from figfs.reading.reader import Reader

KIB = 1 << 10
CONTENT = bytes(range(256)) * (4 * BLOCK_SIZE // 256) + b"the end"


class Remote:
    def __init__(self, content: bytes) -> None:
        self.content = content
        self.blocks: list[int] = []  # those fetched, in order

    async def fetch(self, start: int, end: int) -> bytes:
        self.blocks.append(start // BLOCK_SIZE)
        return self.content[start:end]


@pytest.fixture
def remote() -> Remote:
    return Remote(CONTENT)


@pytest.fixture
def reader(remote: Remote, nursery: trio.Nursery) -> Reader:
    return Reader(Source("md5", len(remote.content), remote.fetch), BlockCache(nursery=nursery))


async def read(reader: Reader, offset: int, size: int) -> None:
    assert await reader.read(offset, size) == CONTENT[offset : offset + size]
    await wait_all_tasks_blocked()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.binary(max_size=60),
    block_size=st.integers(1, 20),
    reads=st.lists(st.tuples(st.integers(0, 70), st.integers(0, 70)), max_size=12),
)
async def test_reads_are_slices(content: bytes, block_size: int, reads: list[tuple[int, int]]) -> None:
    """Any reads in any order, at the same time, with a cache that holds two blocks: the bytes of the file."""

    async def fetch(start: int, end: int) -> bytes:
        await trio.lowlevel.checkpoint()
        return content[start:end]

    async def check(reader: Reader, offset: int, size: int) -> None:
        assert await reader.read(offset, size) == content[offset : offset + size]

    async with trio.open_nursery() as services:
        cache = BlockCache(nursery=services, block_size=block_size, max_bytes=2 * block_size)
        reader = Reader(Source("md5", len(content), fetch), cache)
        for offset, size in reads:
            await check(reader, offset, size)
        for offset, size in reads:
            services.start_soon(check, reader, offset, size)


async def test_the_end(reader: Reader) -> None:
    """Short at the end of the file, nothing past it."""
    assert await reader.read(len(CONTENT) - 3, 100) == b"end"
    assert await reader.read(len(CONTENT), 100) == b""
    assert await reader.read(10**12, 1) == b""
    assert await reader.read(5, 0) == b""


async def test_an_empty_file(nursery: trio.Nursery) -> None:
    """No bytes, no request."""
    remote = Remote(b"")
    reader = Reader(Source("id:1", 0, remote.fetch), BlockCache(nursery=nursery))
    assert await reader.read(0, 4096) == b""
    assert remote.blocks == []


async def test_an_error_reaches_the_reader(nursery: trio.Nursery) -> None:
    """What Figshare answered, not a short read."""

    async def fetch(start: int, end: int) -> bytes:
        raise Unreachable("no network")

    reader = Reader(Source("id:1", 10, fetch), BlockCache(nursery=nursery))
    with pytest.raises(Unreachable):
        await reader.read(0, 10)


async def test_a_sniff_fetches_one_block(reader: Reader, remote: Remote) -> None:
    """A file manager reads 16 or 32 KiB at the start, a PDF viewer 4 KiB at the end (programs.md §2b)."""
    await read(reader, 0, 16 * KIB)
    assert remote.blocks == [0]
    await read(reader, len(CONTENT) - 4 * KIB, 4 * KIB)
    assert sorted(remote.blocks) == [0, 3, 4]  # the 4 KiB cross the last boundary


async def test_a_random_reader_gets_what_it_asks_for(reader: Reader, remote: Remote) -> None:
    """No read-ahead for reads that are far apart."""
    for index in (3, 1, 2, 0):
        await read(reader, index * BLOCK_SIZE + 300 * KIB, 4 * KIB)
    assert remote.blocks == [3, 1, 2, 0]


async def test_reading_on_brings_the_next_block(reader: Reader, remote: Remote) -> None:
    """One block ahead from the second read of a run on, and each block once."""
    await read(reader, 0, 128 * KIB)
    assert remote.blocks == [0]
    await read(reader, 128 * KIB, 128 * KIB)
    assert remote.blocks == [0, 1]
    for offset in range(256 * KIB, len(CONTENT), 128 * KIB):
        await read(reader, offset, 128 * KIB)
        assert max(remote.blocks) <= offset // BLOCK_SIZE + 1
    assert remote.blocks == [0, 1, 2, 3, 4]


async def test_a_first_read_to_the_end_of_its_block(reader: Reader, remote: Remote) -> None:
    """Requests of 1 MiB are no sniffing: the next block is fetched at once."""
    await read(reader, 0, BLOCK_SIZE)
    assert sorted(remote.blocks) == [0, 1]


async def test_slightly_out_of_order_is_still_sequential(reader: Reader, remote: Remote) -> None:
    """The kernel's requests overtake one another by one or two; the run goes on."""
    for position in (1, 0, 2, 4, 3, 5, 7, 6):
        await read(reader, position * 128 * KIB, 128 * KIB)
    assert remote.blocks == [0, 1]


async def test_a_run_after_a_jump(reader: Reader, remote: Remote) -> None:
    """A jump ends the run; reading on from there begins another."""
    await read(reader, 0, 64 * KIB)
    await read(reader, 2 * BLOCK_SIZE, 64 * KIB)
    assert remote.blocks == [0, 2]
    await read(reader, 2 * BLOCK_SIZE + 64 * KIB, 64 * KIB)
    assert remote.blocks == [0, 2, 3]
    await read(reader, 0, 64 * KIB)
    await read(reader, 64 * KIB, 64 * KIB)
    assert remote.blocks == [0, 2, 3, 1]


async def test_a_read_over_several_blocks_fetches_them_together(nursery: trio.Nursery) -> None:
    """The blocks of one read are on their way at the same time."""
    started: list[int] = []
    gate = trio.Event()

    async def fetch(start: int, end: int) -> bytes:
        started.append(start)
        await gate.wait()
        return CONTENT[start:end]

    reader = Reader(Source("md5", len(CONTENT), fetch), BlockCache(nursery=nursery))
    got: list[bytes] = []

    async def read_all() -> None:
        got.append(await reader.read(10, 3 * BLOCK_SIZE))

    async with trio.open_nursery() as readers:
        readers.start_soon(read_all)
        await wait_all_tasks_blocked()
        assert sorted(started) == [0, BLOCK_SIZE, 2 * BLOCK_SIZE, 3 * BLOCK_SIZE]
        gate.set()
    assert got == [CONTENT[10 : 10 + 3 * BLOCK_SIZE]]
