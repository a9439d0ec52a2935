"""The MD5 of what was fetched: GOOD exactly when all of it was and is equal, whatever the order; what is
wrong is dropped, fetched once more, and never mixed with what is right.
"""

from __future__ import annotations

import hashlib
import logging
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from remotes import (
    MIB,
    Remote,
    blocks,
    content_of,
    open_cache,
    open_store,
    read_all,
    reader_of,
    settled,
    take,
)
from trio.testing import MockClock, wait_all_tasks_blocked

from figfs.errors import BadAnswer, Unreachable
from figfs.reading.blockcache import BROKEN_FOR, BlockCache
from figfs.reading.blocks import BLOCK_SIZE
from figfs.reading.blockstore import BlockStore
from figfs.reading.segments import Verdict

SIZE = 3 * MIB + 4 * BLOCK_SIZE + 77
CONTENT = content_of(SIZE)
WRONG = CONTENT[: 2 * MIB] + b"?" + CONTENT[2 * MIB + 1 :]
assert CONTENT != WRONG


@pytest.fixture
def remote() -> Remote:
    return Remote(CONTENT)


@pytest.fixture
def cache(nursery: trio.Nursery) -> BlockCache:
    return BlockCache(nursery=nursery)


class Hold:
    """Holds the hashing back, in its threads. What is small is hashed in the loop: not to be held."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.opened.set()

    def digest(self, data: bytes = b"", *, usedforsecurity: bool = True) -> _Digest:
        return _Digest(self)


class _Digest:
    def __init__(self, hold: Hold) -> None:
        self._hold = hold
        self._digest = hashlib.new("md5")

    def update(self, data: bytes | memoryview) -> None:
        self._hold.opened.wait(20)
        self._digest.update(data)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hold]:
    hold = Hold()
    monkeypatch.setattr("figfs.reading.segments.hashlib.md5", hold.digest)
    yield hold
    hold.opened.set()


def pieces(order: str) -> list[tuple[int, int]]:
    found = [(start, min(start + blocks(5), SIZE)) for start in range(0, SIZE, blocks(5))]
    if order == "backward":
        found.reverse()
    elif order == "shuffled":
        random.Random(3).shuffle(found)
    return found


def damage(directory: Path, number: int) -> None:
    (chunk,) = directory.glob(f"blocks/*/*.{number}")
    data = bytearray(chunk.read_bytes())
    data[5000] ^= 1
    chunk.write_bytes(data)


def remove_chunk(directory: Path, number: int) -> None:
    for chunk in directory.glob(f"blocks/*/*.{number}"):
        chunk.unlink()


class TestGood:
    @pytest.mark.parametrize("order", ["forward", "backward", "shuffled"])
    @pytest.mark.parametrize("on_disk", [False, True])
    async def test_in_any_order(self, tmp_path: Path, remote: Remote, order: str, on_disk: bool) -> None:
        """Not before the last piece is in, and then it is."""
        ranges = pieces(order)
        async with open_cache(open_store(tmp_path) if on_disk else None) as cache:
            for start, end in ranges[:-1]:
                await take(cache, remote, start, end)
            assert await settled(cache, remote) is Verdict.UNKNOWN
            await take(cache, remote, *ranges[-1])
            assert await settled(cache, remote) is Verdict.GOOD
            assert cache.verdict(remote.source) is Verdict.GOOD

    async def test_without_room_for_all_of_it(self, nursery: trio.Nursery, remote: Remote) -> None:
        """In order, each piece is hashed while it is in memory."""
        cache = BlockCache(nursery=nursery, max_bytes=blocks(20))
        for start, end in pieces("forward"):
            await take(cache, remote, start, end)
        assert await settled(cache, remote) is Verdict.GOOD

    async def test_out_of_order_without_room_for_all_of_it(self, tmp_path: Path, remote: Remote) -> None:
        """What was not hashed before it had to give way is read from disk; without one, not all is known."""
        for store, verdict in ((open_store(tmp_path), Verdict.GOOD), (None, Verdict.UNKNOWN)):
            async with open_cache(store, max_bytes=blocks(20)) as cache:
                for start, end in pieces("backward"):
                    await take(cache, remote, start, end)
                    await settled(cache, remote)
                assert await settled(cache, remote) is verdict

    async def test_part_of_it_from_an_earlier_mount(self, tmp_path: Path, remote: Remote) -> None:
        """What is on disk already counts, and is fetched by nobody."""
        ranges = pieces("shuffled")
        async with open_cache(open_store(tmp_path)) as cache:
            for start, end in ranges[:8]:
                await take(cache, remote, start, end)
            await settled(cache, remote)
        async with open_cache(open_store(tmp_path)) as cache:
            await cache.load(cache.content(remote.source))
            for start, end in ranges[8:]:
                assert await settled(cache, remote) is Verdict.UNKNOWN
                await take(cache, remote, start, end)
            assert await settled(cache, remote) is Verdict.GOOD
        assert sum(end - start for start, end in remote.asked) == SIZE

    async def test_all_of_it_from_an_earlier_mount_that_was_killed(
        self, tmp_path: Path, remote: Remote
    ) -> None:
        """On disk, but not marked as verified: hashed from there."""
        store = open_store(tmp_path)
        store.write(remote.source.key, SIZE, 0, CONTENT)
        async with open_cache(open_store(tmp_path)) as cache:
            await reader_of(cache, remote).read(5, 10)
            assert await settled(cache, remote) is Verdict.GOOD
            assert remote.asked == []

    async def test_one_part_is_in_memory_only(self, tmp_path: Path, remote: Remote) -> None:
        """Between what is on disk from an earlier mount: the disk refuses to take it."""
        open_store(tmp_path).write(remote.source.key, SIZE, 0, CONTENT[:MIB])
        open_store(tmp_path).write(remote.source.key, SIZE, 2 * MIB, CONTENT[2 * MIB :])
        store = open_store(tmp_path)
        store._space.limit = 0
        async with open_cache(store) as cache:
            reader = reader_of(cache, remote)
            await reader.read(MIB, MIB)
            assert await settled(cache, remote) is Verdict.GOOD
            assert remote.asked == [(MIB, 2 * MIB)]

    async def test_a_small_file_of_which_a_part_was_hashed(self, cache: BlockCache) -> None:
        """Hashed in the loop if it comes whole; not twice if its beginning was hashed before."""
        remote = Remote(content_of(blocks(3)))
        await take(cache, remote, 0, blocks(1))
        await settled(cache, remote)
        content = cache.content(remote.source)
        for segment in list(content.segments):  # gives way
            content.evict(segment)
            cache._memory.give_back(segment)
        cache.prefetch(remote.source)
        assert await settled(cache, remote) is Verdict.GOOD
        assert content.mismatches == 0

    async def test_starting_over_while_it_is_hashed(
        self, cache: BlockCache, remote: Remote, hashing: Hold
    ) -> None:
        """What the threads are at is not counted for the new beginning, and nothing is hashed twice."""
        content = cache.content(remote.source)
        for start, end in pieces("forward"):
            await take(cache, remote, start, end)
            hashing.opened.clear()
        await wait_all_tasks_blocked()
        assert content.hashing
        content.start_verification()
        cache._verifier.advance(content)
        await wait_all_tasks_blocked()
        hashing.opened.set()
        assert await settled(cache, remote) is Verdict.GOOD
        assert content.generation == 0

    async def test_a_look_at_the_disk_that_is_cancelled(self, tmp_path: Path, remote: Remote) -> None:
        """The next reader looks."""
        open_store(tmp_path).write(remote.source.key, SIZE, 0, CONTENT[:MIB])
        async with open_cache(open_store(tmp_path)) as cache:
            with trio.CancelScope() as impatient:
                impatient.cancel()
                await cache.load(cache.content(remote.source))
            await cache.load(cache.content(remote.source))
            await take(cache, remote, MIB, SIZE)
            assert await settled(cache, remote) is Verdict.GOOD

    async def test_a_look_at_the_disk_that_is_out_of_date(self, tmp_path: Path, remote: Remote) -> None:
        """All is dropped while the disk is looked at: what was found there is not there any more."""
        looking, finish = trio.Event(), threading.Event()
        loop = trio.lowlevel.current_trio_token()

        class Slow(BlockStore):
            def missing(self, key: str, size: int) -> list[tuple[int, int]]:
                found = super().missing(key, size)
                loop.run_sync_soon(looking.set)
                finish.wait(20)
                return found

        open_store(tmp_path).write(remote.source.key, SIZE, 0, CONTENT)
        store = Slow(tmp_path, limit=1 << 30, min_free=0)
        store.scan()
        async with open_cache(store) as cache:
            content = cache.content(remote.source)
            async with trio.open_nursery() as readers:
                readers.start_soon(cache._look_on_disk, content)
                await looking.wait()
                cache._mismatch(content, "none")
                assert content.dropped is not None
                await content.dropped.wait()
                finish.set()
            assert list(content.have) == []

    async def test_no_md5(self, cache: BlockCache) -> None:
        """There is nothing to compare with, and that is said."""
        remote = Remote(CONTENT, md5="")
        assert await read_all(reader_of(cache, remote)) == CONTENT
        assert await settled(cache, remote) is Verdict.NO_MD5
        assert cache.verdict(remote.source) is Verdict.NO_MD5

    async def test_an_md5_that_is_told_later(self, cache: BlockCache) -> None:
        """Figshare computes it some time after the upload: what is here by then counts."""
        remote = Remote(CONTENT, md5="", key="id-7")
        await take(cache, remote, 0, 2 * MIB)
        told = Remote(CONTENT, key="id-7")
        assert cache.content(told.source).verdict is Verdict.UNKNOWN
        await take(cache, told, 2 * MIB, SIZE)
        assert await settled(cache, told) is Verdict.GOOD


class TestWaiting:
    @pytest.mark.parametrize("verify", ["end", "open", "background"])
    async def test_who_waits_for_the_verdict(
        self, cache: BlockCache, remote: Remote, hashing: Hold, verify: str
    ) -> None:
        """``end``: the read that completes the file; ``open``: every one, whatever it reads; ``background``:
        none.
        """
        hashing.opened.clear()
        done: list[str] = []
        reader = reader_of(cache, remote, verify)

        async def read(name: str, start: int, end: int) -> None:
            assert bytes(await reader.read(start, end - start)) == CONTENT[start:end]
            done.append(name)

        async with trio.open_nursery() as readers:
            readers.start_soon(read, "first", 0, MIB)
            await until_fetched(cache, remote, MIB)
            await wait_all_tasks_blocked()
            assert done == ([] if verify == "open" else ["first"])
            readers.start_soon(read, "last", MIB, SIZE)
            await until_fetched(cache, remote, SIZE)
            await wait_all_tasks_blocked()
            assert done == {"open": [], "end": ["first"], "background": ["first", "last"]}[verify]
            hashing.opened.set()
        assert sorted(done) == ["first", "last"]
        assert await settled(cache, remote) is Verdict.GOOD

    async def test_open_from_disk(self, tmp_path: Path, remote: Remote) -> None:
        """``open``: all of it is there, but nobody has compared it yet; then it is known for good."""
        open_store(tmp_path).write(remote.source.key, SIZE, 0, CONTENT)
        async with open_cache(open_store(tmp_path)) as cache:
            assert await reader_of(cache, remote, "open").read(0, 10) == CONTENT[:10]
            assert cache.verdict(remote.source) is Verdict.GOOD
            await settled(cache, remote)
        assert remote.asked == []

    @pytest.mark.parametrize("on_disk", [False, True])
    async def test_open_what_the_cache_cannot_hold(
        self, tmp_path: Path, remote: Remote, on_disk: bool
    ) -> None:
        """It cannot be verified first, so it cannot be read; it ends in an error, not in endless fetching."""
        store = open_store(tmp_path, limit=MIB) if on_disk else None
        async with open_cache(store, max_bytes=blocks(20)) as cache:
            reader = reader_of(cache, remote, "open")
            with trio.fail_after(20):
                for _ in range(3):
                    with pytest.raises(BadAnswer, match="cannot hold all of it"):
                        await reader.read(0, 10)
        assert sum(end - start for start, end in remote.asked) <= 12 * SIZE

    @pytest.mark.parametrize("lost", [0, 1, 3])
    async def test_open_what_has_lost_a_block(self, tmp_path: Path, remote: Remote, lost: int) -> None:
        """It was verified, but what is fetched anew may be wrong: not one byte of it before the verdict."""
        async with open_cache(open_store(tmp_path)) as cache:
            await read_all(reader_of(cache, remote))
            await settled(cache, remote)
        assert open_store(tmp_path).is_verified(remote.source.key)
        async with open_cache(open_store(tmp_path)) as cache:
            await reader_of(cache, remote, "open").read(MIB * 2, 10)
            damage(tmp_path, lost)
            remote.wrong = [content_of(SIZE, "other")]
            reader = reader_of(cache, remote, "open")
            assert bytes(await reader.read(lost * MIB, 10)) == CONTENT[lost * MIB :][:10]


async def until_fetched(cache: BlockCache, remote: Remote, size: int) -> None:
    content = cache.content(remote.source)
    while cache.statistics().fetched < size or cache.statistics().fetches:
        with trio.move_on_after(0.01):
            await content.wait()


class TestMismatch:
    @pytest.mark.parametrize("on_disk", [False, True])
    async def test_dropped_and_fetched_once_more(
        self, tmp_path: Path, remote: Remote, on_disk: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """From memory and disk; one line in the log; then the right bytes, and they are verified."""
        remote.wrong = [WRONG]
        store = open_store(tmp_path) if on_disk else None
        async with open_cache(store) as cache:
            with caplog.at_level(logging.WARNING):
                await take(cache, remote, 0, SIZE)
                await settled(cache, remote)
            assert len(caplog.records) == 1
            assert remote.source.key in caplog.text
            assert cache.content(remote.source).generation == 1
            assert cache.statistics().bytes == 0
            assert bytes(await reader_of(cache, remote).read(0, SIZE)) == CONTENT
            assert await settled(cache, remote) is Verdict.GOOD
            assert cache.content(remote.source).mismatches == 0
        assert len(remote.asked) == 2
        if on_disk:
            async with open_cache(open_store(tmp_path)) as cache:
                assert bytes(await take(cache, remote, 0, SIZE)) == CONTENT
            assert len(remote.asked) == 2

    async def test_wrong_on_disk(self, tmp_path: Path, remote: Remote) -> None:
        """Half of it is from an earlier mount, which nobody could compare: dropped with the rest."""
        open_store(tmp_path).write(remote.source.key, SIZE, 0, content_of(MIB, "other"))
        async with open_cache(open_store(tmp_path)) as cache:
            reader = reader_of(cache, remote)
            assert bytes(await reader.read(0, SIZE)) == CONTENT
            assert await settled(cache, remote) is Verdict.GOOD
        assert open_store(tmp_path).is_verified(remote.source.key)
        assert sum(end - start for start, end in remote.asked) == 2 * SIZE - MIB

    async def test_what_is_fetched_while_the_old_is_dropped_from_disk(
        self, tmp_path: Path, remote: Remote
    ) -> None:
        """It is not dropped with the old, and no old byte is found on disk."""
        started, finish = trio.Event(), threading.Event()
        loop = trio.lowlevel.current_trio_token()

        class Slow(BlockStore):
            def drop(self, key: str) -> None:
                loop.run_sync_soon(started.set)
                finish.wait(20)
                super().drop(key)

        store = Slow(tmp_path, limit=1 << 30, min_free=0)
        store.scan()
        remote.wrong = [WRONG]
        got: list[bytes] = []
        async with open_cache(store) as cache:
            await take(cache, remote, 0, SIZE)
            await started.wait()

            async def read() -> None:
                got.append(bytes(await reader_of(cache, remote).read(2 * MIB, 10)))

            async with trio.open_nursery() as readers:
                readers.start_soon(read)
                await wait_all_tasks_blocked()
                assert len(remote.asked) == 1
                finish.set()
            assert got == [CONTENT[2 * MIB : 2 * MIB + 10]]
            await take(cache, remote, 0, SIZE)
            assert await settled(cache, remote) is Verdict.GOOD
        assert store.missing(remote.source.key, SIZE) == []

    @pytest.mark.parametrize("verify", ["end", "open", "background"])
    async def test_twice(self, nursery: trio.Nursery, mock_clock: MockClock, verify: str) -> None:
        """It is given as broken, without asking, until the time has passed; then it is tried again."""
        cache = BlockCache(nursery=nursery)
        remote = Remote(CONTENT)
        remote.wrong = [WRONG] * 2
        for _ in range(2):
            await take(cache, remote, 0, SIZE)
            await settled(cache, remote)
        for _ in range(2):
            with pytest.raises(BadAnswer, match="again and again"):
                await reader_of(cache, remote, verify).read(0, 10)
        assert cache.verdict(remote.source) is Verdict.BAD
        assert len(remote.asked) == 2
        mock_clock.jump(BROKEN_FOR - 1)
        with pytest.raises(BadAnswer, match="again and again"):
            await reader_of(cache, remote, verify).read(0, 10)
        mock_clock.jump(2)
        assert bytes(await reader_of(cache, remote, verify).read(0, SIZE)) == CONTENT
        assert await settled(cache, remote) is Verdict.GOOD

    async def test_twice_while_reading(self, cache: BlockCache, remote: Remote) -> None:
        """A reader of all of it, by one request: EIO, after two fetches."""
        remote.wrong = [WRONG] * 5
        with pytest.raises(BadAnswer, match="again and again"):
            await reader_of(cache, remote).read(0, SIZE)
        assert len(remote.asked) == 2

    async def test_an_old_answer_does_not_get_into_the_new(self, cache: BlockCache, remote: Remote) -> None:
        """A request under way when all is dropped: what it brings is for those who wait for it only."""
        content = cache.content(remote.source)
        remote.wrong = [WRONG]
        gate = remote.hold(2 * MIB)
        async with trio.open_nursery() as readers:
            readers.start_soon(take, cache, remote, 2 * MIB, SIZE)
            await wait_all_tasks_blocked()
            cache._mismatch(content, "none")
            gate.set()
        assert cache.statistics().bytes == 0
        assert bytes(await reader_of(cache, remote).read(0, SIZE)) == CONTENT
        assert await settled(cache, remote) is Verdict.GOOD
        assert content.mismatches == 0


class TestMark:
    async def test_it_outlives_the_mount(self, tmp_path: Path, remote: Remote, hashing: Hold) -> None:
        """What was verified is not hashed again."""
        async with open_cache(open_store(tmp_path)) as cache:
            await read_all(reader_of(cache, remote))
            await settled(cache, remote)
        hashing.opened.clear()
        async with open_cache(open_store(tmp_path)) as cache:
            assert cache.verdict(remote.source) is Verdict.GOOD
            with trio.fail_after(10):
                assert await read_all(reader_of(cache, remote, "open")) == CONTENT
        assert len(remote.asked) < 9

    @pytest.mark.parametrize("harm", [damage, remove_chunk])
    async def test_it_goes_with_a_block_that_is_fetched_anew(
        self, tmp_path: Path, remote: Remote, harm: Callable[[Path, int], None]
    ) -> None:
        """Then the whole is to be compared again, and it is: what is still there is not fetched."""
        async with open_cache(open_store(tmp_path)) as cache:
            await read_all(reader_of(cache, remote))
            await settled(cache, remote)
        harm(tmp_path, 1)
        remote.failure = Unreachable("no network")
        async with open_cache(open_store(tmp_path)) as cache:
            with pytest.raises(Unreachable):
                await reader_of(cache, remote).read(MIB, 10)
            assert cache.verdict(remote.source) is Verdict.UNKNOWN
            remote.failure = None
            remote.asked.clear()
            await read_all(reader_of(cache, remote))
            assert await settled(cache, remote) is Verdict.GOOD
            assert sum(end - start for start, end in remote.asked) <= MIB
        assert open_store(tmp_path).is_verified(remote.source.key)

    async def test_what_is_fetched_twice_may_differ(self, tmp_path: Path, remote: Remote) -> None:
        """Hashed and lost before the rest was in, then fetched again, and wrong: it is not taken for good."""
        async with open_cache(open_store(tmp_path)) as cache:
            await take(cache, remote, 0, MIB)
            await settled(cache, remote)
            content = cache.content(remote.source)
            assert content.hashed == MIB
            for segment in list(content.segments):
                content.evict(segment)
                cache._memory.give_back(segment)
            remove_chunk(tmp_path, 0)
            remote.wrong = [content_of(SIZE, "other")]
            await take(cache, remote, 0, MIB)
            await take(cache, remote, MIB, SIZE)
            await settled(cache, remote)
            assert content.generation == 1
            assert not open_store(tmp_path).is_verified(remote.source.key)
