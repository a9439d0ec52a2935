"""Segments and contents: what is where, and what is left of a range that breaks off."""

from __future__ import annotations

import hashlib

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from remotes import blocks
from trio.testing import wait_all_tasks_blocked

from figfs.errors import Unreachable
from figfs.reading.blocks import BLOCK_SIZE
from figfs.reading.segments import Content, Segment, Source, Verdict

SIZE = blocks(20) + 5


async def no_fetch(*args: object, **options: object) -> None:
    raise AssertionError


@pytest.fixture
def content() -> Content:
    return make_content()


def make_content(md5: str = "0" * 32, size: int = SIZE) -> Content:
    return Content(Source("key", size, md5, no_fetch))


def segment(content: Content, start: int, end: int) -> Segment:
    made = Segment(content, start, end, is_prefetch=False)
    made.room = end - start
    made.view = memoryview(bytearray(end - start))
    content.insert(made)
    return made


class TestSegment:
    async def test_waiting_for_bytes(self, content: Content) -> None:
        """Who waits is woken as soon as its bytes are in, not before and not later."""
        it = segment(content, BLOCK_SIZE, blocks(4))
        done: list[int] = []

        async def wait(offset: int) -> None:
            assert await it.wait_for(offset)
            done.append(offset)

        async with trio.open_nursery() as waiters:
            waiters.start_soon(wait, BLOCK_SIZE + 100)
            waiters.start_soon(wait, BLOCK_SIZE + 101)
            await wait_all_tasks_blocked()
            it.advance(100)
            await wait_all_tasks_blocked()
            assert done == [BLOCK_SIZE + 100]
            it.advance(50)  # never back
            assert it.filled == 100
            it.end_here(Unreachable("x"))
        assert done == [BLOCK_SIZE + 100, BLOCK_SIZE + 101]
        assert not await it.wait_for(blocks(4))

    @pytest.mark.parametrize(
        ("filled", "left"),
        [(0, 0), (BLOCK_SIZE - 1, 0), (BLOCK_SIZE, BLOCK_SIZE), (blocks(3) + 7, blocks(3))],
    )
    def test_whole_blocks_stay(self, content: Content, filled: int, left: int) -> None:
        """What broke off is a shorter segment, with the error for who wants more."""
        it, error = segment(content, blocks(2), blocks(6)), Unreachable("x")
        it.advance(filled)
        it.end_here(error)
        assert (it.start, it.end, it.filled) == (blocks(2), blocks(2) + left, left)
        assert it.ended
        assert it.error is error
        assert content.gaps(blocks(2), blocks(6)) == [(blocks(2) + left, blocks(6))]

    def test_the_end_of_the_file_is_whole(self, content: Content) -> None:
        """The last block is shorter, and complete all the same."""
        it = segment(content, blocks(19), SIZE)
        it.advance(BLOCK_SIZE + 5)
        it.end_here(Unreachable("x"))
        assert it.complete
        assert it.end == SIZE
        assert it.error is None


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(1, 4), st.booleans()), max_size=30))
def test_find_and_gaps(steps: list[tuple[int, int, bool]]) -> None:
    """Segments put in where there are gaps, and taken out: both agree with a list of blocks."""
    content = make_content()
    model: dict[int, Segment] = {}
    for first, count, is_removal in steps:
        last = min(first + count, 21)
        if is_removal:
            for it in {model[block] for block in range(first, last) if block in model}:
                content.remove(it)
                assert not it.kept
                model = {block: other for block, other in model.items() if other is not it}
        else:
            for start, end in content.gaps(blocks(first), min(blocks(last), SIZE)):
                it = segment(content, start, end)
                for block in range(start // BLOCK_SIZE, -(-end // BLOCK_SIZE)):
                    assert block not in model
                    model[block] = it
        for block in range(21):
            assert content.find(blocks(block)) is model.get(block)
        gaps = content.gaps(0, SIZE)
        covered = [block for block in range(21) if not any(low <= blocks(block) < high for low, high in gaps)]
        assert covered == sorted(model)
        assert content.gaps(5, 5) == []


def test_an_emptied_segment_beside_its_successor(content: Content) -> None:
    """A segment of which nothing came has the start of the one that takes its place."""
    emptied = segment(content, blocks(2), blocks(4))
    emptied.end_here(Unreachable("x"))
    second = segment(content, blocks(2), blocks(4))
    assert content.find(blocks(2)) is second
    content.remove(emptied)
    assert content.segments == [second]


def test_without_md5() -> None:
    """There is nothing to compare with, and that is said."""
    assert make_content(md5="").verdict is Verdict.NO_MD5
    assert make_content(md5=hashlib.md5().hexdigest()).verdict is Verdict.UNKNOWN
