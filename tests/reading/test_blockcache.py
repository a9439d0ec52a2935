"""The block cache: one fetch however many ask, failures not kept, bytes as soon as they are in, nobody waits
for ever.
"""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest
import trio
from remotes import KIB, MIB, Remote, blocks, content_of, open_cache, open_store, settled, take
from trio.testing import MockClock, wait_all_tasks_blocked

from figfs.errors import BadAnswer, NotFound, RemoteError, TooSlow, Unreachable
from figfs.reading.blockcache import BlockCache
from figfs.reading.blocks import BLOCK_SIZE
from figfs.reading.segments import Verdict


@pytest.fixture
def remote() -> Remote:
    """Small enough to be hashed without a thread."""
    return Remote(content_of(blocks(3) + 5))


@pytest.fixture
def large() -> Remote:
    return Remote(content_of(5 * MIB + 77))


@pytest.fixture
def cache(nursery: trio.Nursery) -> BlockCache:
    return BlockCache(nursery=nursery)


def want(cache: BlockCache, remote: Remote, start: int, end: int, read_end: int = 0) -> bool:
    return cache.want(remote.source, cache.content(remote.source), [(start, end)], read_end)


def flip(directory: Path, number: int) -> None:
    """Damage chunk ``number`` of the only content there."""
    (chunk,) = directory.glob(f"blocks/*/*.{number}")
    data = bytearray(chunk.read_bytes())
    data[-1] ^= 1
    chunk.write_bytes(data)


class TestFetching:
    async def test_a_range_is_fetched_once(self, cache: BlockCache, remote: Remote) -> None:
        """The second read is a hit and asks nobody; what is fetched is the blocks of the read."""
        for _ in range(2):
            assert await take(cache, remote, 10, 40 * KIB) == remote.content[10 : 40 * KIB]
        assert remote.asked == [(0, blocks(2))]
        assert await take(cache, remote, blocks(3), blocks(3) + 5) == remote.content[-5:]
        assert remote.asked == [(0, blocks(2)), (blocks(3), blocks(3) + 5)]
        statistics = cache.statistics()
        assert (statistics.bytes, statistics.segments) == (blocks(2) + 5, 2)
        assert (statistics.fetches, statistics.prefetches, statistics.fetched) == (0, 0, blocks(2) + 5)

    async def test_only_what_is_missing(self, cache: BlockCache, large: Remote) -> None:
        """A read over what is here and what is on its way fetches the gaps only, each once."""
        await take(cache, large, blocks(2), blocks(3))
        gate = large.hold(blocks(5))
        assert want(cache, large, blocks(5), blocks(6))
        async with trio.open_nursery() as readers:
            readers.start_soon(take, cache, large, 0, blocks(8))
            await wait_all_tasks_blocked()
            gate.set()
        assert sorted(large.asked) == [
            (0, blocks(2)),
            (blocks(2), blocks(3)),
            (blocks(3), blocks(5)),
            (blocks(5), blocks(6)),
            (blocks(6), blocks(8)),
        ]
        assert await take(cache, large, 0, blocks(8)) == large.content[: blocks(8)]
        assert len(large.asked) == 5

    async def test_one_fetch_for_all_who_ask(self, cache: BlockCache, remote: Remote) -> None:
        """Single flight: readers that ask while a range is on its way wait for the same fetch."""
        gate = remote.hold(0)
        got: list[bytes] = []

        async def read() -> None:
            got.append(await take(cache, remote, 1, 100))

        async with trio.open_nursery() as readers:
            for _ in range(5):
                readers.start_soon(read)
            await wait_all_tasks_blocked()
            assert cache.statistics().fetches == 1
            gate.set()
        assert got == [remote.content[1:100]] * 5
        assert remote.asked == [(0, BLOCK_SIZE)]

    async def test_the_same_content_under_two_names_is_one(self, cache: BlockCache, remote: Remote) -> None:
        """Kept by the content's key, not by who asks; another content is another."""
        twin, other = Remote(remote.content), Remote(content_of(blocks(1), "other"))
        await take(cache, remote, 0, 100)
        assert await take(cache, twin, 0, 100) == remote.content[:100]
        assert await take(cache, other, 0, 100) == other.content[:100]
        assert twin.asked == []

    async def test_bytes_are_handed_out_as_they_come(self, cache: BlockCache, large: Remote) -> None:
        """A reader waits for its own bytes, not for the range that they are fetched with."""
        gate = large.hold(100 * KIB)
        want(cache, large, 0, blocks(32), 1)
        assert await take(cache, large, 0, 100 * KIB) == large.content[: 100 * KIB]
        assert cache.statistics().fetches == 1
        with trio.move_on_after(0) as impatient:
            await take(cache, large, 0, 100 * KIB + 1)
        assert impatient.cancelled_caught
        gate.set()
        assert await take(cache, large, 90 * KIB, MIB) == large.content[90 * KIB : MIB]
        assert large.asked == [(0, blocks(32))]

    async def test_whether_it_waited(self, cache: BlockCache, remote: Remote) -> None:
        """``take`` tells the read-ahead policy whether the bytes were there."""
        content = cache.content(remote.source)
        assert (await cache.take(remote.source, content, 0, 10))[1]
        assert not (await cache.take(remote.source, content, 0, 10))[1]

    async def test_so_many_requests_at_once(self, nursery: trio.Nursery, large: Remote) -> None:
        """Never more requests for bytes under way than the limit."""
        cache = BlockCache(nursery=nursery, max_fetches=3)
        gate = large.hold(0)
        async with trio.open_nursery() as readers:
            for index in range(8):
                readers.start_soon(take, cache, large, blocks(2 * index), blocks(2 * index + 1))
            await wait_all_tasks_blocked()
            assert cache.statistics().fetches == 8
            assert large.at_once == 3
            gate.set()
        assert large.most_at_once == 3
        assert len(large.asked) == 8


class TestFailures:
    async def test_a_reader_that_gives_up_leaves_the_fetch(self, cache: BlockCache, remote: Remote) -> None:
        """Cancelled (the handler's deadline): others still get the bytes, and so does the next read."""
        gate = remote.hold(0)
        with trio.CancelScope() as impatient:
            async with trio.open_nursery() as readers:
                readers.start_soon(take, cache, remote, 0, 10)
                await wait_all_tasks_blocked()
                impatient.cancel()
        assert cache.statistics().fetches == 1
        gate.set()
        assert await take(cache, remote, 0, 10) == remote.content[:10]
        assert remote.asked == [(0, BLOCK_SIZE)]

    async def test_each_waiter_gets_an_exception_of_its_own(self, cache: BlockCache, remote: Remote) -> None:
        """Same class, text, status and errno, but not the same object: tracebacks would pile up on it."""
        gate = remote.hold(0)
        remote.failure = NotFound("file 7 is gone", status=404)
        caught: list[RemoteError] = []

        async def read() -> None:
            try:
                await take(cache, remote, 0, 10)
            except RemoteError as exc:
                caught.append(exc)

        async with trio.open_nursery() as readers:
            for _ in range(3):
                readers.start_soon(read)
            await wait_all_tasks_blocked()
            gate.set()
        assert len({id(exc) for exc in [*caught, remote.failure]}) == 4
        for exc in caught:
            assert type(exc) is NotFound
            assert (str(exc), exc.status, exc.errno) == ("file 7 is gone", 404, errno.ENOENT)
            assert exc.__cause__ is remote.failure

    async def test_a_failure_is_not_kept(self, cache: BlockCache, remote: Remote) -> None:
        """After an error the next read asks again; nothing of the failed one is left."""
        remote.failure = Unreachable("no network")
        for _ in range(2):
            with pytest.raises(Unreachable):
                await take(cache, remote, 0, 10)
        assert cache.statistics().bytes == cache.statistics().segments == 0
        remote.failure = None
        assert await take(cache, remote, 0, 10) == remote.content[:10]
        assert len(remote.asked) == 3

    async def test_what_came_before_an_error_is_kept_as_whole_blocks(
        self, cache: BlockCache, large: Remote
    ) -> None:
        """A range that breaks off: its whole blocks are good, the rest is fetched again."""
        large.failure, large.fails_at, large.step = Unreachable("reset"), 200 * KIB, 10 * KIB
        with pytest.raises(Unreachable):
            await take(cache, large, 0, MIB)
        large.failure = None
        assert await take(cache, large, 0, blocks(6)) == large.content[: blocks(6)]
        assert len(large.asked) == 1
        assert cache.statistics().bytes <= MIB
        assert await take(cache, large, 0, MIB) == large.content[:MIB]
        assert large.asked == [(0, MIB), (blocks(6), MIB)]

    async def test_a_reader_of_the_good_part_of_a_range_that_breaks(
        self, cache: BlockCache, large: Remote
    ) -> None:
        """Who needs only what came before the error gets it."""
        gate = large.hold(blocks(4))
        want(cache, large, 0, MIB, 1)
        large.failure, large.fails_at = Unreachable("reset"), blocks(4)
        got: list[bytes] = []

        async def read() -> None:
            got.append(await take(cache, large, 5, blocks(4)))

        async with trio.open_nursery() as readers:
            readers.start_soon(read)
            gate.set()
        assert got == [large.content[5 : blocks(4)]]

    async def test_a_bug_in_a_fetch_does_not_end_the_mount(
        self, cache: BlockCache, remote: Remote, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An unexpected exception is EIO for who waits and a traceback in the log; the nursery lives on."""
        remote.failure = ZeroDivisionError("a bug")
        with caplog.at_level(logging.ERROR), pytest.raises(BadAnswer, match="a bug") as caught:
            await take(cache, remote, 0, 10)
        assert caught.value.errno == errno.EIO
        assert "ZeroDivisionError" in caplog.text
        assert "Traceback" in caplog.text
        remote.failure = None
        assert await take(cache, remote, 0, 10) == remote.content[:10]

    async def test_a_fetch_has_a_deadline(
        self, nursery: trio.Nursery, remote: Remote, autojump_clock: MockClock
    ) -> None:
        """A fetch that hangs ends even if nobody waits for it; the next read starts a new one."""
        cache = BlockCache(nursery=nursery, fetch_timeout=60)
        gate = remote.hold(0)
        started = trio.current_time()
        with pytest.raises(TooSlow) as caught:
            await take(cache, remote, 0, 10)
        assert trio.current_time() - started == pytest.approx(60)
        assert caught.value.errno == errno.ETIMEDOUT
        assert want(cache, remote, BLOCK_SIZE, blocks(2))
        await trio.sleep(61)
        assert cache.statistics().fetches == cache.statistics().bytes == 0
        gate.set()
        assert await take(cache, remote, 0, 10) == remote.content[:10]

    async def test_nobody_waits_for_ever_when_the_mount_goes_down(self, remote: Remote) -> None:
        """The services nursery is cancelled while readers wait: they get an error, and so do later ones."""
        remote.hold(0)
        caught: list[Exception] = []

        async def read(cache: BlockCache) -> None:
            try:
                await take(cache, remote, 0, 10)
            except RemoteError as exc:
                caught.append(exc)

        async with trio.open_nursery() as readers:
            async with trio.open_nursery() as services:
                cache = BlockCache(nursery=services)
                readers.start_soon(read, cache)
                await wait_all_tasks_blocked()
                services.cancel_scope.cancel()
            await wait_all_tasks_blocked()
            assert [type(exc) for exc in caught] == [Unreachable]
            readers.start_soon(read, cache)
        assert [type(exc) for exc in caught] == [Unreachable] * 2
        assert cache.statistics().fetches == 0


class TestPrefetch:
    async def test_it_does_not_wait_and_the_reader_finds_it(self, cache: BlockCache, large: Remote) -> None:
        """Started at once, done when it is done; a reader meanwhile joins it, and it is no prefetch then."""
        gate = large.hold(0)
        assert want(cache, large, 0, blocks(4))
        await wait_all_tasks_blocked()
        assert large.asked == [(0, blocks(4))]
        assert cache.statistics().prefetches == 1
        async with trio.open_nursery() as readers:
            readers.start_soon(take, cache, large, blocks(1), blocks(2))
            await wait_all_tasks_blocked()
            assert cache.statistics().prefetches == 0
            gate.set()
        assert large.asked == [(0, blocks(4))]

    async def test_few_at_once(self, nursery: trio.Nursery, large: Remote) -> None:
        """Beyond the limit it is refused, and ``want`` says so; what is read is never refused."""
        cache = BlockCache(nursery=nursery, max_prefetches=4)
        gate = large.hold(0)
        ranges = [(start, start + BLOCK_SIZE) for start in range(0, blocks(6), BLOCK_SIZE)]
        assert not cache.want(large.source, cache.content(large.source), ranges, 0)
        assert cache.statistics().prefetches == 4
        assert want(cache, large, blocks(10), blocks(11), blocks(11))
        gate.set()
        await wait_all_tasks_blocked()
        assert cache.want(large.source, cache.content(large.source), ranges, 0)

    async def test_its_failure_is_nobodys(
        self, cache: BlockCache, remote: Remote, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A prefetch that fails leaves nothing behind and no warning; the reader asks again."""
        remote.failure = Unreachable("no network")
        with caplog.at_level(logging.INFO):
            cache.prefetch(remote.source)
            await wait_all_tasks_blocked()
        assert caplog.text == ""
        assert cache.statistics().fetches == cache.statistics().bytes == 0
        remote.failure = None
        assert await take(cache, remote, 0, 10) == remote.content[:10]

    async def test_a_small_file_whole(self, cache: BlockCache, remote: Remote) -> None:
        """What a sibling read-ahead fetches is all of it, by one request, and verified."""
        cache.prefetch(remote.source)
        await wait_all_tasks_blocked()
        assert remote.asked == [(0, len(remote.content))]
        assert cache.verdict(remote.source) is Verdict.GOOD


class TestDisk:
    async def test_what_is_on_disk_is_not_fetched(self, tmp_path: Path, large: Remote) -> None:
        """Another mount over the same directory reads without a request for bytes."""
        async with open_cache(open_store(tmp_path)) as cache:
            await take(cache, large, 0, len(large.content))
            await settled(cache, large)
        large.asked.clear()
        async with open_cache(open_store(tmp_path)) as cache:
            assert await take(cache, large, 0, len(large.content)) == large.content
            assert cache.statistics().from_disk == len(large.content)
        assert large.asked == []

    async def test_what_is_damaged_is_fetched(self, tmp_path: Path, large: Remote) -> None:
        """A block that is not what was written is a miss, and only what is missing is asked for."""
        async with open_cache(open_store(tmp_path)) as cache:
            await take(cache, large, 0, len(large.content))
            await settled(cache, large)
        large.asked.clear()
        flip(tmp_path, 2)
        async with open_cache(open_store(tmp_path)) as cache:
            assert await take(cache, large, 0, len(large.content)) == large.content
            await settled(cache, large)
        assert large.asked == [(2 * MIB, 3 * MIB)]
        async with open_cache(open_store(tmp_path)) as cache:
            assert await take(cache, large, 0, len(large.content)) == large.content
        assert len(large.asked) == 1

    async def test_a_range_of_which_the_disk_has_parts(self, tmp_path: Path, large: Remote) -> None:
        """The gaps are fetched, each once; the bytes before the first gap do not wait for it."""
        async with open_cache(open_store(tmp_path)) as cache:
            await take(cache, large, 0, blocks(2))
            await take(cache, large, blocks(4), blocks(6))
            await settled(cache, large)
        large.asked.clear()
        gate = large.hold(blocks(2))
        async with open_cache(open_store(tmp_path)) as cache:
            want(cache, large, 0, blocks(8), 1)
            assert await take(cache, large, 0, blocks(2)) == large.content[: blocks(2)]
            gate.set()
            assert await take(cache, large, 0, blocks(8)) == large.content[: blocks(8)]
        assert large.asked == [(blocks(2), blocks(4)), (blocks(6), blocks(8))]

    async def test_what_was_uploaded_is_read_without_a_download(self, tmp_path: Path, large: Remote) -> None:
        """``adopt``: a copy of the local file, which is known to be what Figshare holds."""
        local = tmp_path / "local"
        local.write_bytes(large.content)
        async with trio.open_nursery() as services:
            cache = BlockCache(nursery=services, store=open_store(tmp_path / "cache"))
            cache.adopt(large.source.key, large.source.size, local)
            local.unlink()
        assert cache.verdict(large.source) is Verdict.GOOD
        async with open_cache(open_store(tmp_path / "cache")) as cache:
            assert await take(cache, large, 0, len(large.content)) == large.content
        assert large.asked == []

    async def test_what_was_uploaded_replaces_what_nobody_has_compared(
        self, tmp_path: Path, large: Remote
    ) -> None:
        """Wrong blocks on disk do not become right by having the rest beside them."""
        local = tmp_path / "local"
        local.write_bytes(large.content)
        wrong = content_of(MIB, "other")
        open_store(tmp_path / "cache").write(large.source.key, large.source.size, 0, wrong)
        async with trio.open_nursery() as services:
            cache = BlockCache(nursery=services, store=open_store(tmp_path / "cache"))
            cache.adopt(large.source.key, large.source.size, local)
        assert cache.verdict(large.source) is Verdict.GOOD
        async with open_cache(open_store(tmp_path / "cache")) as cache:
            assert await take(cache, large, 0, MIB) == large.content[:MIB]
        assert large.asked == []

    async def test_a_local_file_that_is_shorter_by_now(self, tmp_path: Path, large: Remote) -> None:
        """It is no copy of the content: not verified, and the rest is fetched."""
        local = tmp_path / "local"
        local.write_bytes(large.content[:MIB])
        async with trio.open_nursery() as services:
            cache = BlockCache(nursery=services, store=open_store(tmp_path / "cache"))
            cache.adopt(large.source.key, large.source.size, local)
            cache.adopt(large.source.key, large.source.size, tmp_path / "no such file")
        assert cache.verdict(large.source) is Verdict.UNKNOWN
        async with open_cache(open_store(tmp_path / "cache")) as cache:
            assert await take(cache, large, 0, len(large.content)) == large.content
