"""Room for segments: the bound holds always, what gives way is what readers miss least, and who needs room
gets it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from remotes import KIB, MIB, Remote, blocks, content_of, open_cache, open_store, read_all, reader_of, take
from trio.testing import MockClock, wait_all_tasks_blocked

from figfs.reading.blockcache import BlockCache
from figfs.reading.memory import UNREAD_FOR, Memory
from figfs.reading.segments import Content, Segment


def full_memory(count: int) -> tuple[Memory, Content, list[Segment]]:
    """Room for ``count`` blocks, all of it taken by complete segments of one block each."""
    memory = Memory(blocks(count))
    content = Content(Remote(bytes(blocks(100)), md5="").source)
    return memory, content, [complete(memory, content, index) for index in range(count)]


def new(content: Content, index: int, count: int = 1) -> Segment:
    return Segment(content, blocks(index), blocks(index + count), is_prefetch=False)


def complete(memory: Memory, content: Content, index: int) -> Segment:
    segment = new(content, index)
    assert memory.reserve(segment)
    content.insert(segment)
    segment.advance(blocks(1))
    segment.end_here(None)
    memory.keep(segment)
    return segment


def read(memory: Memory, segment: Segment) -> None:
    memory.touch(segment, segment.end)


def kept(segments: list[Segment]) -> list[int]:
    return [index for index, segment in enumerate(segments) if segment.kept]


class TestOrder:
    async def test_the_one_used_longest_ago_goes_first(self) -> None:
        """What was read again stays."""
        memory, content, segments = full_memory(4)
        for segment in [*segments, segments[0]]:
            read(memory, segment)
        for index in (10, 11):
            complete(memory, content, index)
        assert kept(segments) == [0, 3]
        assert memory.used == blocks(4)

    async def test_what_was_read_goes_before_what_was_not(self, autojump_clock: MockClock) -> None:
        """Somebody waits for it perhaps; but if nobody has come for a while, it goes first. What was read in
        part only was not.
        """
        memory, content, segments = full_memory(4)
        read(memory, segments[3])
        memory.touch(segments[2], segments[2].end - 1)
        complete(memory, content, 10)
        assert kept(segments) == [0, 1, 2]
        read(memory, segments[2])
        await trio.sleep(UNREAD_FOR + 1)
        complete(memory, content, 11)
        assert kept(segments) == [1, 2]

    async def test_what_a_reader_has_passed_goes_before_all_else(self) -> None:
        """Even if it was read last."""
        memory, content, segments = full_memory(4)
        memory.spend(segments[3])
        memory.spend(segments[2])
        for index in (10, 11, 12):
            complete(memory, content, index)
        assert kept(segments) == [1]

    async def test_what_is_in_use_stays(self) -> None:
        """Pinned by the hasher, the writer or a waiting reader: no room then, and nothing is lost for it."""
        memory, content, segments = full_memory(2)
        segments[0].pins = 1
        assert not memory.reserve(new(content, 10, 2))
        assert kept(segments) == [0, 1]
        assert memory.reserve(new(content, 10))
        assert kept(segments) == [0]

    async def test_what_is_to_be_written_stays_unless_that_is_half_of_all(self) -> None:
        """A disk that is slower than the line does not hold up the readers."""
        memory, content, segments = full_memory(4)
        for segment in segments:
            segment.to_be_written = True
        memory.unwritten = blocks(2)
        assert not memory.reserve(new(content, 10))
        memory.unwritten = blocks(3)
        assert memory.reserve(new(content, 10))

    async def test_what_will_be_hashed_stays(self) -> None:
        """As long as what is before it is here or on its way; not behind a gap, or what has no room yet."""
        memory = Memory(blocks(4))
        content = Content(Remote(bytes(blocks(100))).source)
        first = new(content, 0)
        assert memory.reserve(first)
        content.insert(first)
        second = complete(memory, content, 1)
        third = complete(memory, content, 3)
        assert not memory.reserve(new(content, 10, 3))
        assert memory.reserve(new(content, 10, 2))
        assert (second.kept, third.kept) == (True, False)
        first.room = 0  # it has none yet
        assert not content.hashes_soon(second)

    async def test_more_than_there_is(self) -> None:
        """Refused, and nothing gives way for it."""
        memory, content, segments = full_memory(3)
        assert not memory.reserve(new(content, 10, 4))
        assert kept(segments) == [0, 1, 2]


async def test_who_waits_gets_room(nursery: trio.Nursery) -> None:
    """As soon as something may give way."""
    memory, content, segments = full_memory(2)
    segments[0].pins = segments[1].pins = 1
    wanted = new(content, 10, 2)
    nursery.start_soon(memory.wait_for_room, wanted)
    await wait_all_tasks_blocked()
    segments[0].pins = 0
    memory.changed()
    await wait_all_tasks_blocked()
    assert not wanted.room
    memory.give_back(segments[0])
    segments[1].pins = 0
    memory.changed()
    await wait_all_tasks_blocked()
    assert wanted.room == blocks(2)
    assert memory.used == blocks(2)


class TestBuffers:
    """Large buffers are used again; never one that somebody can still see."""

    def test_a_buffer_that_is_seen_is_left_alone(self) -> None:
        """What a reader was given does not change when its segment gives way."""
        memory = Memory(MIB)
        content = Content(Remote(bytes(8 * MIB), md5="").source)
        first = Segment(content, 0, MIB, is_prefetch=False)
        memory.reserve(first)
        first.view[:5] = b"first"
        seen = first.view[:5]
        memory.give_back(first)
        second = Segment(content, MIB, 2 * MIB, is_prefetch=False)
        memory.reserve(second)
        second.view[:6] = b"second"
        assert bytes(seen) == b"first"
        memory.give_back(second)
        third = Segment(content, MIB, 2 * MIB, is_prefetch=False)
        memory.reserve(third)
        assert bytes(third.view[:6]) == b"second"  # this one was nobody's

    def test_a_reader_of_what_is_dropped(self) -> None:
        """It waits with a pin; what it waits for is dropped, being wrong: it still finds its bytes."""
        memory = Memory(MIB)
        content = Content(Remote(bytes(8 * MIB), md5="").source)
        segment = Segment(content, 0, MIB, is_prefetch=False)
        memory.reserve(segment)
        segment.pins += 1
        memory.give_back(segment)
        assert memory.used == 0
        assert len(segment.view[:10]) == 10


@settings(max_examples=40, deadline=None)
@given(
    memory=st.integers(1, 40),
    steps=st.lists(st.tuples(st.integers(0, 95), st.integers(1, 12)), min_size=1, max_size=30),
)
async def test_the_bound_holds(memory: int, steps: list[tuple[int, int]]) -> None:
    """Whatever is read at the same time, buffers on their way included; and everybody gets his bytes."""
    remote = Remote(content_of(blocks(100)), step=blocks(1))
    most = 0

    async def check(first: int, count: int) -> None:
        nonlocal most
        end = min(blocks(first + count), len(remote.content))
        assert await take(cache, remote, blocks(first), end) == remote.content[blocks(first) : end]
        most = max(most, cache.statistics().bytes)

    with trio.fail_after(30):
        async with open_cache(max_bytes=blocks(memory)) as cache, trio.open_nursery() as readers:
            for first, count in steps:
                readers.start_soon(check, first, count)
    assert most <= blocks(memory)


@pytest.mark.parametrize("on_disk", [False, True])
async def test_sixteen_readers_of_large_files(tmp_path: Path, on_disk: bool) -> None:
    """Reading ahead as they do, together they never have more than the bound."""
    remotes = [Remote(content_of(6 * MIB, seed)) for seed in range(16)]
    bound = 16 * MIB
    most = 0

    async def read(remote: Remote) -> None:
        nonlocal most
        reader = reader_of(cache, remote)
        for offset in range(0, 6 * MIB, 256 * KIB):
            assert await reader.read(offset, 256 * KIB) == remote.content[offset : offset + 256 * KIB]
            most = max(most, cache.statistics().bytes)

    store = open_store(tmp_path) if on_disk else None
    with trio.fail_after(60):
        async with open_cache(store, max_bytes=bound) as cache, trio.open_nursery() as readers:
            for remote in remotes:
                readers.start_soon(read, remote)
    assert most <= bound


async def test_what_comes_ahead_does_not_lock_out_what_is_needed(nursery: trio.Nursery) -> None:
    """The beginning failed, and all of the memory is full of what comes after it and waits to be hashed."""
    cache = BlockCache(nursery=nursery, max_bytes=blocks(4))
    remote = Remote(content_of(blocks(40)))
    for index in (1, 2, 3, 4):
        await take(cache, remote, blocks(index), blocks(index + 1))
    with trio.fail_after(5):
        assert await take(cache, remote, 0, blocks(1)) == remote.content[: blocks(1)]


async def test_no_room_for_what_is_ahead(nursery: trio.Nursery) -> None:
    """Fetching ahead is refused when all memory is on its way; what is read waits, and gets its turn."""
    cache = BlockCache(nursery=nursery, max_bytes=blocks(4))
    remote = Remote(content_of(blocks(40)))
    content = cache.content(remote.source)
    gate = remote.hold(0)
    assert cache.want(remote.source, content, [(0, blocks(1)), (blocks(1), blocks(4))], 0)
    assert not cache.want(remote.source, content, [(blocks(4), blocks(5))], 0)
    assert cache.want(remote.source, content, [(blocks(4), blocks(5))], blocks(5))
    await wait_all_tasks_blocked()
    assert cache.statistics().bytes == blocks(4)
    gate.set()
    with trio.fail_after(5):
        assert await take(cache, remote, blocks(4), blocks(5)) == remote.content[blocks(4) : blocks(5)]


async def test_a_file_larger_than_the_memory(nursery: trio.Nursery) -> None:
    """Read from start to end, each byte is fetched once."""
    cache = BlockCache(nursery=nursery, max_bytes=16 * MIB)
    remote = Remote(content_of(24 * MIB))
    assert await read_all(reader_of(cache, remote)) == remote.content
    assert sum(end - start for start, end in remote.asked) == len(remote.content)
