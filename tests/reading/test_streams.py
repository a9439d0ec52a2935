"""A server that ignores ranges and sends the whole file: what comes along is used, so that it is not
downloaded again and again, and it is not taken in faster than it is read.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from remotes import (
    KIB,
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
    until,
)
from trio.testing import MockClock, wait_all_tasks_blocked

from figfs.errors import Unreachable
from figfs.reading.blockcache import BlockCache
from figfs.reading.segments import Verdict
from figfs.reading.streams import STREAM_LEAD, STREAM_PATIENCE


def remote_of(size: int, *, md5: str | None = None, step: int = MIB) -> Remote:
    remote = Remote(content_of(size), md5=md5, step=step)
    remote.ignores_ranges = True
    return remote


@pytest.fixture
def cache(nursery: trio.Nursery) -> BlockCache:
    return BlockCache(nursery=nursery)


@pytest.mark.parametrize("step", [16 * KIB, 100_000, MIB])
async def test_the_file_is_downloaded_once(cache: BlockCache, step: int) -> None:
    """A reader from start to end, whatever the size of the pieces in which it comes; and it is verified. What
    was asked for before the first answer told that ranges are ignored comes beside that.
    """
    remote = remote_of(20 * MIB + 77, step=step)
    assert await read_all(reader_of(cache, remote)) == remote.content
    assert await settled(cache, remote) is Verdict.GOOD
    assert len(remote.content) <= remote.sent <= len(remote.content) + 6 * MIB


async def test_each_in_a_large_file(cache: BlockCache) -> None:
    """Larger than the lead: the answer is held up for the reader, not dropped."""
    remote = remote_of(80 * MIB, md5="")
    assert await read_all(reader_of(cache, remote), step=MIB) == remote.content
    assert remote.sent <= len(remote.content) + STREAM_LEAD


async def test_readers_of_many_files(nursery: trio.Nursery) -> None:
    """Together they want more room than there is: they get it one after the other, and download each once."""
    cache = BlockCache(nursery=nursery, max_bytes=16 * MIB)
    remotes = [Remote(content_of(8 * MIB, seed), step=256 * KIB) for seed in range(6)]
    for remote in remotes:
        remote.ignores_ranges = True

    async def read(remote: Remote) -> None:
        assert await read_all(reader_of(cache, remote)) == remote.content

    with trio.fail_after(60):
        async with trio.open_nursery() as readers:
            for remote in remotes:
                readers.start_soon(read, remote)
    assert sum(remote.sent for remote in remotes) <= 2.5 * sum(len(remote.content) for remote in remotes)


async def test_others_that_wait_get_theirs_from_it(cache: BlockCache) -> None:
    """Ranges asked for at the same time: one answer is used for all, the others are dropped."""
    remote = remote_of(8 * MIB)
    gate = remote.hold(0)
    async with trio.open_nursery() as readers:
        for start in range(0, 8 * MIB, MIB):
            readers.start_soon(take, cache, remote, start, start + MIB)
        await wait_all_tasks_blocked()
        assert len(remote.asked) == 8
        gate.set()
    assert remote.sent <= 8 * MIB + 8 * remote.step + MIB
    assert await settled(cache, remote) is Verdict.GOOD


async def test_one_answer_fills_a_segment(cache: BlockCache) -> None:
    """A range with a request of its own under way is not touched by an answer that passes: what was handed
    out never changes, though one of the two is wrong.
    """
    remote = remote_of(8 * MIB, md5="", step=64 * KIB)
    remote.ignores_ranges = False
    middle = 3 * MIB + 256 * KIB
    gate = remote.hold(middle)
    async with trio.open_nursery() as readers:
        cache.want(remote.source, cache.content(remote.source), [(3 * MIB, 4 * MIB)], 8 * MIB)
        await check(cache, remote, 3 * MIB, middle)
        del remote._gates[middle]  # for other requests
        remote.ignores_ranges = True
        remote.wrong = [bytes(8 * MIB)]
        readers.start_soon(take, cache, remote, 0, MIB)
        await wait_all_tasks_blocked()
        with trio.move_on_after(0) as too_early:
            await take(cache, remote, middle, middle + 100)
        assert too_early.cancelled_caught
        gate.set()
        await check(cache, remote, 3 * MIB, 4 * MIB)


async def test_what_was_on_disk_is_passed_over(tmp_path: Path) -> None:
    """Ranges of which the disk has parts are filled by what comes along."""
    remote = remote_of(6 * MIB)
    store = open_store(tmp_path)
    for start in range(0, 6 * MIB, MIB):
        store.write(
            remote.source.key, 6 * MIB, start + blocks(7), remote.content[start + blocks(7) :][: blocks(9)]
        )
    async with open_cache(store) as cache:
        assert await read_all(reader_of(cache, remote)) == remote.content
        assert await settled(cache, remote) is Verdict.GOOD
    assert remote.sent <= 7 * MIB


async def test_a_reader_far_ahead(cache: BlockCache) -> None:
    """The end of a file: all before it passes by, once; what fits is kept."""
    remote = remote_of(48 * MIB, md5="")
    assert await take(cache, remote, 47 * MIB, 48 * MIB) == remote.content[47 * MIB :]
    await take(cache, remote, 0, 40 * MIB)
    assert remote.sent == 48 * MIB


async def test_a_reader_of_what_has_passed(cache: BlockCache) -> None:
    """What is not kept of it is asked for again, and not waited for until the end of the answer."""
    remote = remote_of(80 * MIB, md5="")
    content = cache.content(remote.source)
    await take(cache, remote, 0, MIB)
    await wait_all_tasks_blocked()
    assert content.stream is not None
    segment = content.find(2 * MIB)
    assert segment is not None
    content.evict(segment)
    cache._memory.give_back(segment)
    assert await take(cache, remote, 2 * MIB, 3 * MIB) == remote.content[2 * MIB : 3 * MIB]
    assert content.stream is not None
    assert len(remote.asked) == 2


async def test_it_is_held_up_and_then_dropped(cache: BlockCache, autojump_clock: MockClock) -> None:
    """Nobody reads on: it waits at the lead for a while; afterwards the next read asks anew."""
    remote = remote_of(80 * MIB, md5="")
    await take(cache, remote, 0, MIB)
    await wait_all_tasks_blocked()
    assert MIB + STREAM_LEAD <= remote.sent <= MIB + STREAM_LEAD + 2 * remote.step
    await trio.sleep(STREAM_PATIENCE - 1)
    assert remote.at_once == 1
    await take(cache, remote, 2 * MIB, 4 * MIB)
    await trio.sleep(STREAM_PATIENCE - 1)
    assert remote.at_once == 1
    await trio.sleep(2)
    assert remote.at_once == 0
    assert len(remote.asked) == 1
    assert await take(cache, remote, 50 * MIB, 51 * MIB) == remote.content[50 * MIB : 51 * MIB]


async def test_a_long_stream_outlives_the_deadline_of_its_first_range(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """As long as bytes come."""
    cache = BlockCache(nursery=nursery, fetch_timeout=30)
    remote = remote_of(64 * MIB, md5="")
    for offset in range(0, 64 * MIB, MIB):
        assert await take(cache, remote, offset, offset + MIB) == remote.content[offset : offset + MIB]
        await trio.sleep(5)
    assert remote.sent == 64 * MIB


async def test_it_breaks_off(cache: BlockCache) -> None:
    """Who waits for what it was to bring asks for it himself."""
    remote = remote_of(20 * MIB)
    gate = remote.hold(5 * MIB + 512 * KIB)
    async with trio.open_nursery() as readers:
        await take(cache, remote, 0, 4 * MIB)
        await wait_all_tasks_blocked()
        readers.start_soon(check, cache, remote, 5 * MIB + 400 * KIB, 5 * MIB + 600 * KIB)
        readers.start_soon(check, cache, remote, 6 * MIB, 7 * MIB)
        await wait_all_tasks_blocked()
        assert len(remote.asked) == 1
        content = cache.content(remote.source)
        assert content.stream is not None
        cache._streams.end(content, content.stream)
        gate.set()
    assert len(remote.asked) in (2, 3)


async def test_the_file_is_wrong(cache: BlockCache) -> None:
    """Dropped, and downloaded once more: what comes along of the old answer does not get into the new one."""
    remote = remote_of(6 * MIB)
    remote.wrong = [content_of(6 * MIB, "other")]
    assert bytes(await reader_of(cache, remote).read(0, 6 * MIB)) == remote.content
    assert await settled(cache, remote) is Verdict.GOOD
    assert remote.sent <= 2 * 2 * 6 * MIB


async def test_an_answer_from_before_the_mismatch(cache: BlockCache) -> None:
    """It is held up, or has not begun to come, when all is dropped: nothing of it is used after that."""
    held_up, not_begun = remote_of(80 * MIB, md5=""), remote_of(8 * MIB, md5="")
    for remote in (held_up, not_begun):
        remote.wrong = [bytes(len(remote.content))]
    await take(cache, held_up, 0, MIB)
    gate = not_begun.hold(0)
    async with trio.open_nursery() as readers:
        readers.start_soon(take, cache, not_begun, MIB, 2 * MIB)
        await wait_all_tasks_blocked()
        for remote in (held_up, not_begun):
            cache._mismatch(cache.content(remote.source), "none")
        readers.start_soon(check, cache, held_up, 34 * MIB, 35 * MIB)
        gate.set()
        await wait_all_tasks_blocked()
        await check(cache, not_begun, 3 * MIB, 4 * MIB)


async def test_what_was_verified_and_is_brought_anew(cache: BlockCache) -> None:
    """All of it was here, compared and right; what has given way since comes along once more, and is wrong:
    ``verify=open`` does not hand it out before it has been compared again.
    """
    remote = remote_of(8 * MIB)
    remote.ignores_ranges = False
    await take(cache, remote, 6 * MIB, 8 * MIB)
    await take(cache, remote, 4 * MIB, 6 * MIB)
    remote.ignores_ranges = True
    remote.wrong = [remote.content[: 6 * MIB] + bytes(2 * MIB)]
    first, second = remote.hold(5 * MIB), remote.hold(6 * MIB + 512 * KIB)
    await take(cache, remote, 0, 4 * MIB)
    content = cache.content(remote.source)
    await until(content, lambda: content.verdict is Verdict.GOOD)
    segment = content.segments[-1]
    assert segment.start == 6 * MIB
    content.evict(segment)
    cache._memory.give_back(segment)
    got: list[bytes] = []

    async def read() -> None:
        got.append(bytes(await reader_of(cache, remote, "open").read(6 * MIB, 10)))

    async with trio.open_nursery() as readers:
        readers.start_soon(take, cache, remote, 6 * MIB, 8 * MIB)
        await wait_all_tasks_blocked()
        readers.start_soon(read)
        await wait_all_tasks_blocked()
        first.set()
        await wait_all_tasks_blocked()
        assert got == []
        second.set()
    assert got == [remote.content[6 * MIB : 6 * MIB + 10]]


async def check(cache: BlockCache, remote: Remote, start: int, end: int) -> None:
    assert await take(cache, remote, start, end) == remote.content[start:end]


async def test_no_bytes_at_all(cache: BlockCache) -> None:
    """An error before the range is an error; the next read asks again."""
    remote = remote_of(6 * MIB)
    remote.failure, remote.fails_at = Unreachable("reset"), 2 * MIB
    with pytest.raises(Unreachable):
        await take(cache, remote, 3 * MIB, 4 * MIB)
    assert cache.statistics().fetches == 0
    remote.failure = None
    assert await take(cache, remote, 3 * MIB, 4 * MIB) == remote.content[3 * MIB : 4 * MIB]
