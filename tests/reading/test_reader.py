"""One open stored file: reads are slices of the content, what is fetched fits what is read, and bytes that
turned out to be wrong are never mixed with others.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from remotes import KIB, MIB, Remote, content_of, open_cache, open_store, read_all, reader_of, settled
from trio.testing import wait_all_tasks_blocked

from figfs.errors import BadAnswer, Unreachable
from figfs.reading.blockcache import BlockCache
from figfs.reading.blocks import BLOCK_SIZE

CONTENT = content_of(8 * MIB) + b"the end"


@pytest.fixture
def remote() -> Remote:
    return Remote(CONTENT)


@pytest.fixture
def cache(nursery: trio.Nursery) -> BlockCache:
    return BlockCache(nursery=nursery)


def fetched(remote: Remote) -> int:
    return sum(end - start for start, end in remote.asked)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(0, 5 * BLOCK_SIZE),
    memory=st.sampled_from([BLOCK_SIZE, 3 * BLOCK_SIZE, MIB]),
    reads=st.lists(
        st.tuples(st.integers(0, 6 * BLOCK_SIZE), st.integers(0, 6 * BLOCK_SIZE)), min_size=1, max_size=8
    ),
)
async def test_reads_are_slices(size: int, memory: int, reads: list[tuple[int, int]]) -> None:
    """Any reads one after the other, then all at the same time, also with room for one block only: the bytes
    of the file, short at its end.
    """
    content = CONTENT[:size]
    remote = Remote(content, md5="")

    async def check(offset: int, length: int) -> None:
        assert await reader.read(offset, length) == content[offset : offset + length]

    with trio.fail_after(20):
        async with open_cache(max_bytes=memory) as cache:
            reader = reader_of(cache, remote)
            for offset, length in reads:
                await check(offset, length)
            async with trio.open_nursery() as readers:
                for offset, length in reads:
                    readers.start_soon(check, offset, length)


async def test_the_end(cache: BlockCache, remote: Remote) -> None:
    """Short at the end of the file, nothing past it."""
    reader = reader_of(cache, remote)
    assert await reader.read(len(CONTENT) - 3, 100) == b"end"
    assert await reader.read(len(CONTENT), 100) == b""
    assert await reader.read(10**12, 1) == b""
    assert await reader.read(5, 0) == b""


@pytest.mark.parametrize(("offset", "size"), [(-1, 5), (0, -1)])
async def test_negative(cache: BlockCache, remote: Remote, offset: int, size: int) -> None:
    """A caller's mistake is told, not guessed at."""
    with pytest.raises(ValueError, match="no range"):
        await reader_of(cache, remote).read(offset, size)


@pytest.mark.parametrize("verify", ["end", "open", "background"])
async def test_an_empty_file(cache: BlockCache, verify: str) -> None:
    """No bytes, no request."""
    remote = Remote(b"")
    assert await reader_of(cache, remote, verify).read(0, 4096) == b""
    assert remote.asked == []


async def test_an_error_reaches_the_reader(cache: BlockCache, remote: Remote) -> None:
    """What Figshare answered, not a short read; and the next read asks again."""
    remote.failure = Unreachable("no network")
    reader = reader_of(cache, remote)
    with pytest.raises(Unreachable):
        await reader.read(0, 10)
    remote.failure = None
    assert await reader.read(0, 10) == CONTENT[:10]


async def test_a_sniff_fetches_little(cache: BlockCache, remote: Remote) -> None:
    """A file manager reads 16 or 32 KiB at the start, a PDF viewer 4 KiB at the end (programs.md §2b)."""
    reader = reader_of(cache, remote)
    await reader.read(0, 16 * KIB)
    await reader.read(len(CONTENT) - 4 * KIB, 4 * KIB)
    await wait_all_tasks_blocked()
    assert remote.asked == [(0, BLOCK_SIZE), (8 * MIB - BLOCK_SIZE, len(CONTENT))]


async def test_a_random_reader_gets_what_it_asks_for(cache: BlockCache, remote: Remote) -> None:
    """No read-ahead for reads that are far apart."""
    reader = reader_of(cache, remote)
    for index in (5, 1, 6, 3):
        await reader.read(index * MIB + 100, 4 * KIB)
    await wait_all_tasks_blocked()
    assert remote.asked == [(index * MIB, index * MIB + BLOCK_SIZE) for index in (5, 1, 6, 3)]


@pytest.mark.parametrize("step", [4 * KIB, 128 * KIB, MIB])
async def test_reading_on_fetches_each_byte_once(cache: BlockCache, remote: Remote, step: int) -> None:
    """From start to end, whatever the size of the requests: all of it once, by few requests."""
    assert await read_all(reader_of(cache, remote), step=step) == CONTENT
    assert fetched(remote) == len(CONTENT)
    assert len(remote.asked) <= 32


async def test_two_readers_of_one_file(cache: BlockCache, remote: Remote) -> None:
    """What one has fetched the other finds, also while it is on its way."""
    async with trio.open_nursery() as readers:
        for _ in range(2):
            readers.start_soon(read_all, reader_of(cache, remote))
    assert fetched(remote) == len(CONTENT)


async def test_a_remount_reads_from_disk(tmp_path: Path, remote: Remote) -> None:
    """All of it, without a request for bytes."""
    async with open_cache(open_store(tmp_path)) as cache:
        await read_all(reader_of(cache, remote))
        await settled(cache, remote)
    remote.failure = Unreachable("no network")
    async with open_cache(open_store(tmp_path)) as cache:
        assert await read_all(reader_of(cache, remote)) == CONTENT
    assert fetched(remote) == len(CONTENT)


class TestMismatch:
    """The first answers are wrong, so that the MD5 is another."""

    WRONG = CONTENT[:-1] + b"?"

    async def test_who_has_seen_nothing_gets_the_second_fetch(self, cache: BlockCache) -> None:
        """A file that is read by one request: fetched again, and the reader never knows."""
        remote = Remote(CONTENT[:MIB])
        remote.wrong = [content_of(MIB, "other")]
        assert await reader_of(cache, remote).read(0, MIB) == remote.content
        assert len(remote.asked) == 2

    async def test_who_has_seen_wrong_bytes_gets_an_error(self, cache: BlockCache, remote: Remote) -> None:
        """Old and new are never mixed: the handle that has read wrong bytes fails to its end; another one
        reads the right ones.
        """
        remote.wrong = [self.WRONG] * 30
        reader = reader_of(cache, remote)
        with pytest.raises(BadAnswer, match="open it again"):
            await read_all(reader)
        remote.wrong = []
        assert await read_all(reader_of(cache, remote)) == CONTENT
        with pytest.raises(BadAnswer, match="open it again"):
            await reader.read(0, 10)

    async def test_not_one_byte_before_the_verdict(self, cache: BlockCache, remote: Remote) -> None:
        """``verify=open``: the first read waits for all of the file; what is wrong is never seen."""
        remote.wrong = [self.WRONG] * 3
        gate = remote.hold(8 * MIB)
        got: list[bytes] = []

        async def read() -> None:
            got.append(bytes(await reader_of(cache, remote, "open").read(0, 10)))

        async with trio.open_nursery() as readers:
            readers.start_soon(read)
            await wait_all_tasks_blocked()
            assert got == []
            gate.set()
        assert got == [CONTENT[:10]]
        assert len(CONTENT) < fetched(remote) <= 2 * len(CONTENT)
