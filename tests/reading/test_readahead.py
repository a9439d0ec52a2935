"""What is fetched for what the kernel asks: traces as they were seen through a mount, and any others."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from figfs.reading.readahead import KIB, MIB, Limits, Plan, ReadAhead

GIB = 1 << 30
LIMITS = Limits()
BLOCK = LIMITS.block
MOST = LIMITS.most

Read = tuple[int, int]


#: Only stalls make a window grow.
NO_STEADY = Limits(steady=0)


class Drive:
    """A handle with a cache that keeps all; checks what holds for every plan."""

    def __init__(self, size: int, *, limits: Limits | None = None, most: int = MOST) -> None:
        self.size = size
        self.limits = limits or LIMITS
        self.policy = ReadAhead(size, limits=self.limits)
        self.most = most
        self.blocks: set[int] = set()
        self.requests: list[
            tuple[int, int]
        ] = []  #: (start, end) of what was not there, as the cache would ask
        self.read_bytes = 0

    @property
    def fetched(self) -> int:
        return sum(end - start for start, end in self.requests)

    def read(self, offset: int, length: int, *, stall: bool | None = None) -> Plan:
        """``stall``: whether the read waits; None: if the first block was not there."""
        plan = self.policy.plan(offset, length, most=self.most)
        check(plan, offset, length, self)
        waits = (
            offset < self.size and offset // self.limits.block not in self.blocks if stall is None else stall
        )
        for start, end in plan.ranges:
            self._fetch(start, end)
        self.read_bytes += max(0, min(offset + length, self.size) - offset)
        if waits:
            self.policy.stalled(offset)
        return plan

    def reads(self, trace: Iterable[Read], *, stall: bool | None = None) -> None:
        for offset, length in trace:
            self.read(offset, length, stall=stall)

    def _fetch(self, start: int, end: int) -> None:
        block = self.limits.block
        missing: int | None = None
        for at in range(start, end, block):
            if at // block in self.blocks:
                if missing is not None:
                    self.requests.append((missing, at))
                    missing = None
            else:
                self.blocks.add(at // block)
                missing = at if missing is None else missing
        if missing is not None:
            self.requests.append((missing, end))


def check(plan: Plan, offset: int, length: int, drive: Drive) -> None:
    """The contract of every plan: aligned, in order, disjoint, bounded, and it covers the read."""
    block, segment, size = drive.limits.block, drive.limits.segment, drive.size
    end = min(offset + length, size)
    if end <= offset:
        assert plan.ranges == ()
        return
    before = 0
    for start, stop in plan.ranges:
        assert before <= start < stop <= size
        assert start % block == 0
        assert stop % block == 0 or stop == size
        assert stop - start <= max(segment, size if size <= drive.limits.small_file else 0)
        before = stop
    at = offset
    for start, stop in plan.ranges:
        if start <= at < stop:
            at = stop
    assert at >= end, "the read is not covered"
    assert 0 <= plan.spent_before <= offset
    assert plan.spent_before <= plan.ranges[0][0]


def stream(start: int, end: int, step: int) -> Iterator[Read]:
    """The kernel's requests for a sequential read, in order."""
    yield from ((at, min(step, end - at)) for at in range(start, end, step))


def overtaking(reads: Iterable[Read], in_flight: int, seed: int = 7) -> list[Read]:
    """The same with so many in flight: each may be overtaken by the others that are."""
    rng = random.Random(seed)
    order = sorted((n + rng.uniform(0, in_flight), read) for n, read in enumerate(reads))
    return [read for _, read in order]


# Small files


@pytest.mark.parametrize("size", [1, 32 * KIB, 64 * KIB])
def test_a_tiny_file_comes_whole(size: int) -> None:
    """Up to the size of a sniff, in one range, whatever is read of it, whatever there is room for."""
    drive = Drive(size, most=0)
    assert drive.read(size - 1, 1).ranges == ((0, size),)


def test_a_small_file_comes_whole_at_its_first_read() -> None:
    """One range for all of it, at the request that cat sends."""
    drive = Drive(3 * MIB + 5)
    assert drive.read(0, 128 * KIB).ranges == ((0, 3 * MIB + 5),)
    drive.reads(stream(128 * KIB, 3 * MIB + 5, 128 * KIB))
    assert drive.requests == [(0, 3 * MIB + 5)]


@pytest.mark.parametrize("sniff", [4 * KIB, 16 * KIB, 32 * KIB, 64 * KIB])
def test_a_sniff_of_a_small_file_fetches_what_it_reads(sniff: int) -> None:
    """What file managers do to each file of a folder (programs.md §2b), also with read_ahead_kb 1024."""
    drive = Drive(3 * MIB)
    drive.read(0, sniff)
    assert drive.fetched == max(sniff, BLOCK)


def test_reading_on_after_a_sniff_brings_the_rest_in_one_range() -> None:
    """The second read that goes on is enough."""
    drive = Drive(3 * MIB)
    drive.reads([(0, 32 * KIB), (32 * KIB, 64 * KIB), (96 * KIB, 128 * KIB)])
    assert drive.requests == [(0, 32 * KIB), (32 * KIB, 3 * MIB)]


def test_the_tail_of_a_small_file_brings_no_more() -> None:
    """A PDF is read at its head, backwards from its tail, and then on from its head."""
    drive = Drive(3 * MIB)
    drive.read(0, 16 * KIB)
    drive.reads((3 * MIB - at * 4 * KIB, 4 * KIB) for at in range(1, 17))
    assert drive.fetched == 3 * BLOCK
    drive.read(16 * KIB, 64 * KIB)
    assert drive.fetched == 3 * MIB
    assert len(drive.requests) == 4


def test_a_small_file_that_there_is_no_room_for_is_read_in_blocks() -> None:
    """``most`` bounds it like any other."""
    drive = Drive(3 * MIB, most=0)
    drive.reads(stream(0, MIB, 128 * KIB))
    assert drive.fetched == MIB


# The beginning of a large file


@pytest.mark.parametrize("trace", [[(0, 16 * KIB)], [(0, 32 * KIB)], [(0, 64 * KIB)]])
def test_a_sniff_of_a_large_file_fetches_what_it_reads(trace: list[Read]) -> None:
    """Nothing of a window."""
    drive = Drive(GIB)
    drive.reads(trace)
    assert drive.fetched <= 64 * KIB


@pytest.mark.parametrize(
    "trace",
    [
        [(0, 16 * KIB), (16 * KIB, 32 * KIB), (48 * KIB, 64 * KIB)],
        [(0, 32 * KIB), (32 * KIB, 64 * KIB)],
        [(0, 32 * KIB), (32 * KIB, 128 * KIB)],  # read_ahead_kb 1024
    ],
)
def test_head_of_a_large_file(trace: list[Read]) -> None:
    """`head -c 16k` with the kernel's read-ahead: under 2 MiB (issue 3, 5)."""
    drive = Drive(GIB)
    drive.reads(trace)
    assert drive.fetched < 2 * MIB


def test_whoever_begins_with_a_long_read_gets_the_first_window_in_one_range() -> None:
    """1 MiB and what the kernel's read-ahead overshoots by."""
    drive = Drive(GIB)
    assert drive.read(0, 128 * KIB).ranges == ((0, MIB + 128 * KIB),)


@pytest.mark.parametrize(
    "trace",
    [
        [(32 * KIB, 128 * KIB)],  # after a file manager's sniff, which the page cache answers
        [(0, 64 * KIB), (64 * KIB, 128 * KIB)],  # md5sum, 32 KiB at a time
        [(0, 32 * KIB), (32 * KIB, 64 * KIB), (96 * KIB, 128 * KIB)],  # Python, 8 KiB at a time
    ],
)
def test_reading_on_after_a_small_read_begins_like_that_too(trace: list[Read]) -> None:
    """As soon as the kernel sends 128 KiB."""
    drive = Drive(GIB)
    drive.reads(trace)
    assert drive.fetched == MIB + 128 * KIB - trace[0][0]


def test_requests_that_overtake_at_the_start_change_nothing() -> None:
    """1 MiB requests, eight at once, the second first."""
    drive = Drive(GIB)
    drive.reads([(MIB, MIB), (0, MIB)])
    assert drive.blocks == set(range(2 * MIB // BLOCK))


# Streams


@pytest.mark.parametrize(
    ("step", "in_flight"),
    [(128 * KIB, 1), (128 * KIB, 2), (32 * KIB, 12), (256 * KIB, 8), (MIB, 1), (MIB, 3)],
)
def test_a_stream_is_fetched_once_in_long_ranges(step: int, in_flight: int) -> None:
    """Each byte once; requests that overtake each other change nothing of note."""
    size = 200 * MIB + 12345
    drive = Drive(size)
    drive.reads(overtaking(stream(0, size, step), in_flight), stall=True)
    assert drive.fetched == size
    assert len(drive.requests) < 120


def test_a_stream_with_eight_requests_of_1_mib_overtaking_far() -> None:
    """Each byte once also where they arrive up to 8 MiB apart, in not many more ranges."""
    size = 200 * MIB
    drive = Drive(size)
    drive.reads(overtaking(stream(0, size, MIB), 8), stall=True)
    assert drive.fetched == size
    assert len(drive.requests) < 100


def test_without_stalls_the_window_grows_slowly() -> None:
    """Never more than half of what was read, and 32 MiB; the ranges are the longest then."""
    drive = Drive(GIB)
    for offset, length in stream(0, 100 * MIB, 128 * KIB):
        drive.read(offset, length, stall=False)
        window = max(MIB, min(drive.read_bytes // 2 + MIB, 32 * MIB))
        assert drive.requests[-1][1] <= offset + length + window
    assert drive.requests[-1][1] - drive.requests[-1][0] == 8 * MIB


def test_a_stall_doubles_once_per_window() -> None:
    """Also where every request stalls: not before reads come to what was asked for at the last doubling."""
    drive = Drive(GIB)
    window, mark = MIB, MIB + 128 * KIB
    for offset, length in stream(0, 100 * MIB, 128 * KIB):
        asked = drive.read(offset, length, stall=True).ranges[-1][1]
        assert window // 4 < asked - offset - length <= window
        if offset >= mark:
            window, mark = min(2 * window, MOST), asked
    assert window == MOST


def test_the_window_is_bounded_and_full() -> None:
    """At most ``Limits.most``; then 24 ranges of 4 MiB are in flight, all on the grid."""
    drive = Drive(2 * GIB)
    for offset, length in stream(0, GIB, 128 * KIB):
        plan = drive.read(offset, length, stall=True)
        assert plan.ranges[-1][1] - offset - length <= MOST
    assert plan.ranges[-1][1] - offset - length > MOST - LIMITS.narrow
    assert {stop - start for start, stop in plan.ranges[1:]} == {LIMITS.narrow}
    assert all(stop % LIMITS.narrow == 0 for _, stop in plan.ranges)


def test_no_slivers() -> None:
    """However the stream begins, no range ahead is much shorter than the smallest grid, but for the end."""
    for start in (0, 5 * BLOCK, 777 * MIB + 3 * BLOCK):
        drive = Drive(GIB + 17)
        drive.reads(stream(start, GIB + 17, 128 * KIB), stall=True)
        late = [(a, b) for a, b in drive.requests if a > start + 512 * KIB]
        assert min(b - a for a, b in late) >= 256 * KIB
        assert len(late) < 2 * GIB // LIMITS.narrow


def test_most_bounds_the_window_and_may_shrink() -> None:
    """Ranges that lie beyond it are no longer asked for; they come again with room."""
    drive = Drive(GIB)
    trace = stream(0, GIB, 128 * KIB)
    for offset, length in trace:
        if drive.read(offset, length, stall=True).ranges[-1][1] - offset > 40 * MIB:
            break
    drive.most = 8 * MIB
    offset, length = next(trace)
    plan = drive.read(offset, length)
    assert plan.ranges[-1][1] <= offset + length + 8 * MIB + LIMITS.segment
    drive.most = MOST
    offset, length = next(trace)
    assert drive.read(offset, length).ranges[-1][1] - offset > 30 * MIB


@pytest.mark.parametrize("step", [4 * KIB, 128 * KIB, MIB])
def test_without_room_a_stream_gets_its_blocks(step: int) -> None:
    """``most`` 0."""
    drive = Drive(GIB, most=0)
    drive.reads(stream(0, 20 * MIB, step))
    assert drive.fetched == 20 * MIB


def test_ranges_refused_come_again() -> None:
    """What lies ahead is repeated in each plan, so a cache without room for it may forget it."""
    policy = ReadAhead(GIB)
    first = policy.plan(0, 128 * KIB, most=MOST)
    assert policy.plan(128 * KIB, 128 * KIB, most=MOST) is first
    later = policy.plan(256 * KIB, 640 * KIB, most=MOST)
    assert later is not first
    assert later.ranges[0] == (256 * KIB, MIB + 128 * KIB)


def test_a_stream_from_the_middle_ramps_up() -> None:
    """Nothing ahead of the first 384 KiB; never more ahead than was read; the whole window after 1 MiB."""
    drive = Drive(GIB)
    start = 300 * MIB
    for offset, length in stream(start, start + 2 * MIB, 128 * KIB):
        drive.read(offset, length, stall=False)
        read = offset + length - start
        assert drive.fetched <= (2 * read if read > 384 * KIB else read)
        if read >= MIB:
            assert drive.fetched >= read + MIB // 2


def test_nothing_behind_but_a_little_is_kept() -> None:
    """``spent_before`` follows the stream: 1 MiB behind it, and two requests that may be late."""
    drive = Drive(GIB)
    for offset, length in stream(0, 100 * MIB, 128 * KIB):
        plan = drive.read(offset, length)
        assert plan.spent_before <= max(0, offset - MIB)
        assert plan.spent_before >= offset - MIB - 512 * KIB - LIMITS.segment


def test_the_end_of_the_file_is_no_reason_for_more() -> None:
    """Past it nothing is planned; what is left before it comes in whole ranges."""
    drive = Drive(10 * MIB + 1)
    drive.reads(stream(0, 10 * MIB + 1, 128 * KIB), stall=True)
    assert drive.fetched == 10 * MIB + 1
    assert drive.read(10 * MIB + 1, 4 * KIB).ranges == ()
    assert drive.read(GIB, 4 * KIB).ranges == ()
    assert drive.read(0, 0).ranges == ()


# Jumps


def test_a_skip_is_waited_out() -> None:
    """Up to 16 MiB forward it is the same run: its window stays, and what lies between is not fetched."""
    drive = Drive(GIB, limits=NO_STEADY)
    drive.reads(stream(0, 4 * MIB, 128 * KIB), stall=True)
    drive.reads(stream(4 * MIB, 40 * MIB, 128 * KIB), stall=False)
    asked = drive.requests[-1][1]
    assert 42 * MIB < asked <= 48 * MIB
    drive.read(asked + 8 * MIB, 128 * KIB)
    assert not any(asked <= start < asked + 8 * MIB for start, _ in drive.requests)
    assert drive.requests[-1][1] > asked + 10 * MIB
    drive.read(asked + 10 * MIB, 128 * KIB)  # within the window
    assert drive.fetched < 52 * MIB


def test_a_large_jump_begins_anew() -> None:
    """Exact first, then a ramp with the first window; the same backwards."""
    drive = Drive(4 * GIB, limits=NO_STEADY)
    drive.reads(stream(0, 100 * MIB, 128 * KIB), stall=True)
    for start in (3 * GIB, 2 * GIB):
        before = drive.fetched
        drive.read(start, 128 * KIB)
        assert drive.fetched == before + 128 * KIB
        drive.reads(stream(start + 128 * KIB, start + 4 * MIB, 128 * KIB), stall=False)
        assert before + 4 * MIB < drive.fetched <= before + 5 * MIB + 128 * KIB


def test_skipping_through_a_file_is_not_a_stream() -> None:
    """1 MiB of every 9 or 18: at most twice what is read."""
    for stride in (9 * MIB, 18 * MIB):
        drive = Drive(4 * GIB)
        for start in range(0, 4 * GIB, stride):
            drive.reads(stream(start, start + MIB, 128 * KIB))
        assert drive.fetched <= 2 * drive.read_bytes + 2 * MIB


def test_a_stream_that_becomes_random_costs_one_window() -> None:
    """What was fetched and skipped uses up the trust that the run had: then it gets its blocks."""
    drive = Drive(GIB)
    drive.reads(stream(0, 20 * MIB, 128 * KIB), stall=True)
    before = drive.fetched
    drive.reads(((at, 4 * KIB) for at in range(20 * MIB, 900 * MIB, 3 * MIB)), stall=True)
    assert drive.fetched - before < 40 * MIB


def test_a_stream_rearms_after_random_reads() -> None:
    """Half a MiB in a row is enough, whatever went before."""
    rng = random.Random(3)
    drive = Drive(GIB)
    drive.reads((rng.randrange(10000) * BLOCK, 4 * KIB) for _ in range(500))
    before = len(drive.requests)
    drive.reads(stream(500 * MIB, 540 * MIB, 128 * KIB), stall=True)
    assert len(drive.requests) - before < 60


@pytest.mark.parametrize("apart", [9 * MIB, 200 * MIB])
@pytest.mark.parametrize("count", [2, 4])
def test_interleaved_streams_are_all_streams(count: int, apart: int) -> None:
    """Columns of a table, threads with pread: few ranges, each byte once, and the window is shared."""
    drive = Drive(GIB)
    length = min(apart, 50 * MIB)
    streams = [stream(n * apart, n * apart + length, 128 * KIB) for n in range(count)]
    for reads in zip(*streams, strict=True):
        drive.reads(reads, stall=True)
    assert drive.fetched <= count * length + MOST
    assert len(drive.requests) < count * length // MIB + 30 * count


def test_a_stream_that_ended_is_forgotten() -> None:
    """It takes no part of the window and keeps no bytes, once 32 MiB are read elsewhere."""
    drive = Drive(2 * GIB)
    drive.reads(stream(0, 10 * MIB, 128 * KIB), stall=True)
    plan = None
    for offset, length in stream(GIB, GIB + 200 * MIB, 128 * KIB):
        plan = drive.read(offset, length, stall=True)
    assert plan is not None
    assert plan.spent_before > GIB + 190 * MIB
    assert plan.ranges[-1][1] > offset + 64 * MIB


# Random reads


@pytest.mark.parametrize("step", [4 * KIB, 32 * KIB])
def test_backwards_is_exact(step: int) -> None:
    """The tail of a zip, a PDF: the blocks of the reads."""
    drive = Drive(GIB)
    drive.reads((GIB - n * step, step) for n in range(1, 200))
    assert drive.fetched == -(-199 * step // BLOCK) * BLOCK


def test_tail_then_head_then_jumps() -> None:
    """zip, HDF5, parquet."""
    drive = Drive(GIB)
    drive.reads([(GIB - 4 * KIB, 4 * KIB), (GIB - 64 * KIB, 60 * KIB), (0, 4 * KIB)])
    drive.reads((at * 50 * MIB, 16 * KIB) for at in range(1, 20))
    assert drive.fetched <= (2 + 1 + 19) * BLOCK


def split(offset: int, length: int, size: int) -> list[Read]:
    """What the kernel makes of a random read, read_ahead_kb 128 (seen): unaligned, one request more."""
    start = offset - offset % (4 * KIB)
    end = min(offset + length, size)
    reads = list(stream(start, end, 128 * KIB))
    if offset % (4 * KIB) and length >= 128 * KIB:
        reads.append((reads[-1][0] + reads[-1][1], 124 * KIB))
    return [(at, min(step, size - at)) for at, step in reads if at < size]


@pytest.mark.parametrize(
    ("length", "aligned", "factor"),
    [
        (4 * KIB, True, 1),
        (128 * KIB, True, 1.3),
        (128 * KIB, False, 1.3),
        (256 * KIB, False, 2),
        (MIB, True, 2),
    ],
)
@pytest.mark.parametrize("stall", [True, None])
def test_random_reads_fetch_what_they_read(
    length: int, aligned: bool, factor: float, stall: bool | None
) -> None:
    """4 KiB exactly its blocks; 128 KiB nothing ahead; 1 MiB, a stream by its looks, at most as much again.

    ``factor``: of the bytes that the kernel asks for; the blocks at both ends come on top of it.
    """
    rng = random.Random(11)
    drive = Drive(GIB)
    count = 400
    touched: set[int] = set()
    for _ in range(count):
        offset = rng.randrange(GIB - 2 * MIB)
        if aligned:
            offset -= offset % length
        for at, step in split(offset, length, GIB):
            drive.read(at, step, stall=stall)
            touched.update(range(at // BLOCK, (at + step - 1) // BLOCK + 1))
    if factor == 1:
        assert drive.blocks == touched
    assert drive.fetched <= factor * drive.read_bytes + 2 * count * BLOCK


def test_random_reads_of_1_mib_in_one_request_are_exact() -> None:
    """With read_ahead_kb 1024 the kernel does not split them."""
    rng = random.Random(5)
    drive = Drive(4 * GIB)
    drive.reads(((4 + rng.randrange(1000)) * 4 * MIB, MIB) for _ in range(200))
    assert drive.fetched <= drive.read_bytes


# Any reads


reads_of = st.tuples(st.integers(0, 40 * MIB), st.sampled_from([1, 4 * KIB, 100 * KIB, 128 * KIB, MIB]))


@st.composite
def traces(draw: st.DrawFn) -> list[Read]:
    """Stretches of reads from anywhere, forwards and backwards, in one piece or interleaved."""
    parts = []
    for _ in range(draw(st.integers(1, 5))):
        start, length = draw(reads_of)
        count = draw(st.integers(1, 40))
        step = draw(st.sampled_from([length, -length, 2 * length, length + 3 * MIB, 0]))
        parts.append([(max(0, start + n * step), length) for n in range(count)])
    if draw(st.booleans()):
        longest = max(map(len, parts))
        return [part[n] for n in range(longest) for part in parts if n < len(part)]
    return [read for part in parts for read in part]


@given(
    st.one_of(st.integers(1, 6 * MIB), st.integers(1, 45 * MIB)),
    traces(),
    st.sampled_from([0, 100 * KIB, MIB, 5 * MIB, MOST]),
    st.sampled_from([True, False, None]),
    st.integers(1, 8),
)
def test_every_plan_keeps_the_contract(
    size: int, trace: list[Read], most: int, stall: bool | None, in_flight: int
) -> None:
    """See ``check``; nothing lies further ahead than ``most``; and at most twice what is read is fetched.

    Beyond that: the blocks at both ends of a read, and once the first window; a small file at most once.
    """
    drive = Drive(size, most=most)
    small = size <= LIMITS.small_file
    high = 0
    for offset, length in overtaking(trace, in_flight):
        plan = drive.read(offset, length, stall=stall)
        high = max(high, min(offset + length, size))
        if plan.ranges and not small:
            assert plan.ranges[-1][1] <= high + most + BLOCK
    if not small:
        ends = 2 * BLOCK * len(trace)
        assert drive.fetched <= min(size, 2 * drive.read_bytes + ends + LIMITS.first + LIMITS.overshoot)


@given(traces(), st.lists(st.sampled_from([0, MIB, 8 * MIB, MOST]), min_size=1, max_size=20))
def test_room_may_change_at_any_time(trace: list[Read], room: list[int]) -> None:
    """The contract holds whatever ``most`` is at each read."""
    drive = Drive(64 * MIB)
    for n, (offset, length) in enumerate(trace):
        drive.most = room[n % len(room)]
        drive.read(offset, length, stall=n % 3 == 0)


@given(
    traces(),
    st.builds(
        lambda block, segment: Limits(block=block, segment=block * segment),
        st.sampled_from([4 * KIB, 64 * KIB]),
        st.sampled_from([1, 4, 64]),
    ),
)
def test_other_limits(trace: list[Read], limits: Limits) -> None:
    """Nothing relies on the sizes that are usual; ranges are short if ``segment`` is."""
    drive = Drive(50 * MIB, limits=limits)
    drive.reads(trace, stall=True)
