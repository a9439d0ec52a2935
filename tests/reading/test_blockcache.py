"""The block cache: one fetch however many ask, failures not kept, memory bounded, nobody waits for ever."""

from __future__ import annotations

import errno
import logging

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from figfs.errors import BadAnswer, NotFound, RemoteError, TooSlow, Unreachable
from figfs.reading.blockcache import BlockCache, Source

BLOCK = 10


class Remote:
    """A content that is fetched by range; notes what was asked for, and can hold answers back or fail."""

    def __init__(self, content: bytes, key: str = "md5") -> None:
        self.content = content
        self.asked: list[tuple[int, int]] = []
        self.gate = trio.Event()
        self.gate.set()
        self.failure: Exception | None = None
        self.at_once = 0  # answers under way
        self.most_at_once = 0
        self.source = Source(key, len(content), self.fetch)

    def close(self) -> None:
        self.gate = trio.Event()

    async def fetch(self, start: int, end: int) -> bytes:
        self.asked.append((start, end))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.gate.wait()
            if self.failure is not None:
                raise self.failure
            return self.content[start:end]
        finally:
            self.at_once -= 1


@pytest.fixture
def remote() -> Remote:
    return Remote(bytes(range(35)))


@pytest.fixture
def cache(nursery: trio.Nursery) -> BlockCache:
    return BlockCache(nursery=nursery, block_size=BLOCK, max_bytes=100)


async def test_a_block_is_fetched_once(cache: BlockCache, remote: Remote) -> None:
    """The second get is a hit and asks nobody; the last block is short."""
    assert await cache.get(remote.source, 3) == remote.content[30:35]
    assert await cache.get(remote.source, 3) == remote.content[30:35]
    assert remote.asked == [(30, 35)]
    statistics = cache.statistics()
    assert (statistics.hits, statistics.misses, statistics.blocks, statistics.bytes) == (1, 1, 1, 5)
    assert (statistics.fetches, statistics.prefetches) == (0, 0)


async def test_no_such_block(cache: BlockCache, remote: Remote) -> None:
    """A block past the end is the caller's mistake; nothing is asked or left behind."""
    with pytest.raises(ValueError, match="no block 4"):
        await cache.get(remote.source, 4)
    assert remote.asked == []
    assert cache.statistics().fetches == 0


async def test_one_fetch_for_all_who_ask(cache: BlockCache, remote: Remote) -> None:
    """Single flight: readers that ask while a block is on its way wait for the same fetch."""
    remote.close()
    got: list[bytes] = []

    async def read() -> None:
        got.append(await cache.get(remote.source, 1))

    async with trio.open_nursery() as readers:
        for _ in range(5):
            readers.start_soon(read)
        await wait_all_tasks_blocked()
        assert cache.statistics().fetches == 1
        remote.gate.set()
    assert got == [remote.content[10:20]] * 5
    assert remote.asked == [(10, 20)]


async def test_the_same_content_under_two_names_is_one(cache: BlockCache, remote: Remote) -> None:
    """Blocks are kept by the content's key, not by who asks; another content is another block."""
    twin, other = Remote(remote.content), Remote(b"x" * 35, key="other")
    await cache.get(remote.source, 0)
    assert await cache.get(twin.source, 0) == remote.content[:10]
    assert await cache.get(other.source, 0) == b"x" * 10
    assert twin.asked == []


async def test_a_reader_that_gives_up_does_not_end_the_fetch(cache: BlockCache, remote: Remote) -> None:
    """Cancelled (the handler's deadline): others still get the block, and so does the next read."""
    remote.close()
    with trio.CancelScope() as impatient:
        async with trio.open_nursery() as readers:
            readers.start_soon(cache.get, remote.source, 0)
            await wait_all_tasks_blocked()
            impatient.cancel()
    assert cache.statistics().fetches == 1
    remote.gate.set()
    assert await cache.get(remote.source, 0) == remote.content[:10]
    assert remote.asked == [(0, 10)]


async def test_each_waiter_gets_an_exception_of_its_own(cache: BlockCache, remote: Remote) -> None:
    """Same class, text, status and errno, but not the same object: tracebacks would pile up on it."""
    remote.close()
    remote.failure = NotFound("file 7 is gone", status=404)
    caught: list[RemoteError] = []

    async def read() -> None:
        try:
            await cache.get(remote.source, 0)
        except RemoteError as exc:
            caught.append(exc)

    async with trio.open_nursery() as readers:
        for _ in range(3):
            readers.start_soon(read)
        await wait_all_tasks_blocked()
        remote.gate.set()
    assert len({id(exc) for exc in [*caught, remote.failure]}) == 4
    for exc in caught:
        assert type(exc) is NotFound
        assert (str(exc), exc.status, exc.errno) == ("file 7 is gone", 404, errno.ENOENT)
        assert exc.__cause__ is remote.failure


async def test_a_failure_is_not_kept(cache: BlockCache, remote: Remote) -> None:
    """After an error the next read asks again."""
    remote.failure = Unreachable("no network")
    for _ in range(2):
        with pytest.raises(Unreachable):
            await cache.get(remote.source, 0)
    remote.failure = None
    assert await cache.get(remote.source, 0) == remote.content[:10]
    assert len(remote.asked) == 3


@pytest.mark.parametrize("wrong", [b"", b"short", b"much longer than a block"])
async def test_an_answer_of_the_wrong_length(cache: BlockCache, remote: Remote, wrong: bytes) -> None:
    """Never data, never kept: an error, and the next read asks again."""

    async def fetch(start: int, end: int) -> bytes:
        return wrong

    with pytest.raises(BadAnswer, match=f"{len(wrong)} bytes"):
        await cache.get(Source("md5", 35, fetch), 0)
    assert cache.statistics().blocks == 0
    assert await cache.get(remote.source, 0) == remote.content[:10]


async def test_a_bug_in_a_fetch_does_not_end_the_mount(
    cache: BlockCache, remote: Remote, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected exception is EIO for who waits and a traceback in the log; the nursery lives on."""
    remote.failure = ZeroDivisionError("a bug")
    with caplog.at_level(logging.ERROR), pytest.raises(BadAnswer, match="a bug") as caught:
        await cache.get(remote.source, 0)
    assert caught.value.errno == errno.EIO
    assert "ZeroDivisionError" in caplog.text
    assert "Traceback" in caplog.text
    remote.failure = None
    assert await cache.get(remote.source, 0) == remote.content[:10]


async def test_a_fetch_has_a_deadline(cache: BlockCache, remote: Remote, autojump_clock: object) -> None:
    """A fetch that hangs ends after 60 s even if nobody waits for it; the next read starts a new one."""
    remote.close()
    started = trio.current_time()
    with pytest.raises(TooSlow) as caught:
        await cache.get(remote.source, 0)
    assert trio.current_time() - started == pytest.approx(60)
    assert caught.value.errno == errno.ETIMEDOUT
    assert cache.statistics().fetches == 0
    cache.prefetch(remote.source, 1)
    await trio.sleep(61)
    assert cache.statistics().fetches == 0
    remote.gate.set()
    assert await cache.get(remote.source, 1) == remote.content[10:20]


async def test_waiting_for_room_counts_for_the_deadline(
    remote: Remote, nursery: trio.Nursery, autojump_clock: object
) -> None:
    """A fetch that never gets its turn ends too."""
    cache = BlockCache(nursery=nursery, block_size=BLOCK, max_bytes=20, fetch_timeout=5)
    remote.close()
    started = trio.current_time()
    cache.prefetch(remote.source, 0)
    with pytest.raises(TooSlow):
        await cache.get(remote.source, 1)
    assert trio.current_time() - started == pytest.approx(5)
    assert len(remote.asked) == 1


async def test_nobody_waits_for_ever_when_the_mount_goes_down(remote: Remote) -> None:
    """The services nursery is cancelled while a reader waits: it gets an error."""
    remote.close()
    caught: list[Exception] = []

    async def read(cache: BlockCache) -> None:
        try:
            await cache.get(remote.source, 0)
        except RemoteError as exc:
            caught.append(exc)

    async with trio.open_nursery() as readers, trio.open_nursery() as services:
        cache = BlockCache(nursery=services, block_size=BLOCK, max_bytes=100)
        readers.start_soon(read, cache)
        await wait_all_tasks_blocked()
        services.cancel_scope.cancel()
    assert [type(exc) for exc in caught] == [Unreachable]
    assert cache.statistics().fetches == 0


async def test_the_block_used_longest_ago_goes_first(remote: Remote, nursery: trio.Nursery) -> None:
    """A block that was read again stays."""
    cache = BlockCache(nursery=nursery, block_size=BLOCK, max_bytes=30)
    for index in (0, 1, 0, 2, 3):  # the fetch of 3 needs 10 bytes of room and brings 5
        await cache.get(remote.source, index)
    assert cache.statistics().bytes <= 30
    asked = len(remote.asked)
    await cache.get(remote.source, 0)
    assert len(remote.asked) == asked
    await cache.get(remote.source, 1)
    assert len(remote.asked) == asked + 1


async def test_blocks_on_their_way_count_as_memory(nursery: trio.Nursery) -> None:
    """Complete blocks and room for those being fetched stay within the bound."""
    remote = Remote(bytes(400))
    cache = BlockCache(nursery=nursery, block_size=BLOCK, max_bytes=60)
    for index in range(6):
        await cache.get(remote.source, index)
    assert cache.statistics().bytes == 60
    remote.close()
    async with trio.open_nursery() as readers:
        for index in range(10, 20):
            readers.start_soon(cache.get, remote.source, index)
        await wait_all_tasks_blocked()
        assert cache.statistics().fetches == 10
        assert remote.at_once * BLOCK + cache.statistics().bytes == 60
        remote.gate.set()
    assert remote.most_at_once == 3
    assert cache.statistics().bytes <= 60
    assert cache.statistics().fetches == 0


def test_a_cache_too_small_for_a_block() -> None:
    """Settings that cannot work are refused at once."""
    with pytest.raises(ValueError, match="no block of 10 bytes"):
        BlockCache(nursery=None, block_size=10, max_bytes=9)  # type: ignore[arg-type]


class TestPrefetch:
    async def test_it_does_not_wait_and_the_reader_finds_it(self, cache: BlockCache, remote: Remote) -> None:
        """Started at once, done when it is done; a get meanwhile joins it."""
        remote.close()
        cache.prefetch(remote.source, 2)
        await wait_all_tasks_blocked()
        assert remote.asked == [(20, 30)]
        remote.gate.set()
        assert await cache.get(remote.source, 2) == remote.content[20:30]
        assert remote.asked == [(20, 30)]

    async def test_only_what_is_missing(self, cache: BlockCache, remote: Remote) -> None:
        """Nothing for a block that is here, on its way, or not in the file."""
        await cache.get(remote.source, 0)
        remote.close()
        for index in (0, 1, 1, 4, -1):
            cache.prefetch(remote.source, index)
        await wait_all_tasks_blocked()
        assert remote.asked == [(0, 10), (10, 20)]
        remote.gate.set()

    async def test_few_at_once(self, nursery: trio.Nursery) -> None:
        """Beyond four it is skipped silently; one that a reader waits for is a prefetch no more."""
        remote = Remote(bytes(200))
        cache = BlockCache(nursery=nursery, block_size=BLOCK, max_bytes=200)
        remote.close()
        for index in range(6):
            cache.prefetch(remote.source, index)
        assert cache.statistics().prefetches == 4
        async with trio.open_nursery() as readers:
            readers.start_soon(cache.get, remote.source, 0)
            await wait_all_tasks_blocked()
            cache.prefetch(remote.source, 7)
            await wait_all_tasks_blocked()
            remote.gate.set()
        await wait_all_tasks_blocked()
        assert sorted(remote.asked) == [(0, 10), (10, 20), (20, 30), (30, 40), (70, 80)]

    async def test_its_failure_is_nobodys(self, cache: BlockCache, remote: Remote) -> None:
        """A prefetch that fails leaves nothing behind but a line at debug level; the reader asks again."""
        remote.failure = Unreachable("no network")
        cache.prefetch(remote.source, 0)
        await wait_all_tasks_blocked()
        remote.failure = None
        assert await cache.get(remote.source, 0) == remote.content[:10]


class TestDrop:
    async def test_all_of_one_content(self, cache: BlockCache, remote: Remote) -> None:
        """Blocks of the content go, those of others stay."""
        other = Remote(b"x" * 20, key="other")
        for index in range(3):
            await cache.get(remote.source, index)
        await cache.get(other.source, 0)
        cache.drop("md5")
        assert cache.statistics().bytes == 10
        await cache.get(other.source, 0)
        await cache.get(remote.source, 0)
        assert (len(other.asked), len(remote.asked)) == (1, 4)

    async def test_what_is_on_its_way_is_not_kept(self, cache: BlockCache, remote: Remote) -> None:
        """Who waits gets its bytes; who comes after the drop gets a fetch that began after it."""
        remote.close()
        got: list[bytes] = []

        async def read() -> None:
            got.append(await cache.get(remote.source, 0))

        async with trio.open_nursery() as readers:
            readers.start_soon(read)
            await wait_all_tasks_blocked()
            cache.drop("md5")
            readers.start_soon(read)
            await wait_all_tasks_blocked()
            assert cache.statistics().fetches == 2
            remote.gate.set()
        assert got == [remote.content[:10]] * 2
        assert remote.asked == [(0, 10), (0, 10)]
        statistics = cache.statistics()
        assert (statistics.blocks, statistics.fetches) == (1, 0)
        remote.close()
        cache.prefetch(remote.source, 1)
        await wait_all_tasks_blocked()
        cache.drop("md5")
        remote.gate.set()
        await wait_all_tasks_blocked()
        assert cache.statistics().blocks == 0
