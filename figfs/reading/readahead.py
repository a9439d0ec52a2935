"""How far ahead one open file is fetched, and in what ranges. Pure: no clock, no I/O.

The kernel's requests say little about what a program does. Measured through a mount (kernel 6.18), with
``read_ahead_kb`` 128 as it comes, and with 1024:

- a sniff of 4 or 16 KiB is one request of 16 or 32 KiB; with 1024, of 16 or 64 KiB; nothing follows it
- ``cat``, ``cp``: 128 or 256 KiB from the start on, two at a time; with 1024, 1 MiB, eight at a time
- a random read of 128 KiB that is not page-aligned: 128 + 124 + 128 KiB in a row; with 1024, 132 KiB
- a random read of 1 MiB: nine of 128 KiB in a row, which nobody can tell from a stream; with 1024, one

So a stretch of reads is a stream, a ``_Run``, only when more than ``Limits.exact`` has been read in a row;
until then it is a ``_Piece``, and gets exactly its blocks. What a run fetches ahead is never more than what
has been read of it, less what it fetched and the program skipped: so no pattern of reads that looks
sequential and is not makes it fetch much more than twice what is read.
"""

from __future__ import annotations

from dataclasses import dataclass, field

KIB = 1 << 10
MIB = 1 << 20

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Limits:
    """In bytes, but for the last two. ``block`` and ``segment`` are powers of two."""

    block: int = 32 * KIB  #: what ranges are aligned to
    sniff: int = 64 * KIB  #: a read up to this size may be all that is read; a file up to it comes whole
    small_file: int = 4 * MIB  #: a file up to this size comes in one range
    eager: int = 128 * KIB  #: whoever begins a file with a read of this size, or comes so far, reads on
    first: int = 1 * MIB  #: the window of a new run
    steady: int = 32 * MIB  #: that of a long run, even if nothing waits: long ranges cost less CPU
    overshoot: int = 128 * KIB  #: how far the kernel reads ahead of the program (field/semantics.md §2)
    exact: int = 384 * KIB  #: a run is longer than this (380 KiB: a random read of 128 KiB, above)
    segment: int = 8 * MIB  #: the longest range
    narrow: int = 4 * MIB  #: the longest where many connections are worth more than long ranges
    most: int = 96 * MIB  #: the largest window: 24 ranges in flight
    behind: int = 1 * MIB  #: kept behind a run's position
    reorder: int = 2 * MIB  #: requests may overtake each other by so much, or by eight of their size
    skip: int = 16 * MIB  #: how far forward a jump still belongs to the run
    forget: int = 32 * MIB  #: a run has ended when so much of the file was read elsewhere
    runs: int = 4  #: how many runs at once
    pieces: int = 16  #: how many stretches are remembered that may become a run


@dataclass(frozen=True, slots=True)
class Plan:
    """What should be in memory or on its way, and what need not be."""

    ranges: tuple[Range, ...]
    spent_before: int


@dataclass(slots=True, eq=False)
class _Piece:
    """A stretch that has been read, not long enough for a run."""

    start: int
    end: int
    bytes: int  #: of it, those that were read forward
    reads: int = 1  #: likewise


@dataclass(slots=True, eq=False)
class _Run:
    """A stream within the file."""

    high: int  #: the position: the end of the furthest read
    credit: int  #: bytes read, less those fetched and skipped: how much it may be trusted with
    window: int
    asked: int  #: all ranges end here; block-aligned, or the file's size
    owed: int = 0  #: of what was skipped, the bytes that may come late
    mark: int = 0  #: a stall from here on doubles the window
    used: int = 0  #: what the handle had read, in all, when this run was last read
    fresh: bool = True  #: begun or jumped since the last plan
    cap: int = 0  #: of the window, at the last plan
    keep: int = 0  #: nothing before it will be read
    ranges: list[Range] = field(default_factory=list)  #: tile a stretch that ends at ``asked``
    plan: Plan | None = None  #: holds until a range comes or goes


class ReadAhead:
    """The policy of one handle; not to be shared among handles."""

    def __init__(self, size: int, *, limits: Limits = Limits()) -> None:
        """``size``: of the file, in bytes."""
        self._size = size
        self._limits = limits
        self._runs: list[_Run] = []  #: the latest last
        self._pieces: list[_Piece] = []  #: the latest last
        self._read = 0  #: bytes, in all
        self._whole: Plan | None = None  #: a small file that comes in one range

    def __repr__(self) -> str:
        return f"<ReadAhead size={self._size} runs={self._runs!r} pieces={len(self._pieces)}>"

    def plan(self, offset: int, length: int, *, most: int) -> Plan:
        """What should be there now that ``length`` bytes from ``offset`` on are read.

        ``most``: how many bytes beyond its reads this handle may fetch at present. With 0 the answer is the
        blocks of the read (and a file up to ``Limits.sniff`` comes whole in any case).

        ``ranges`` are in the order of need, do not overlap, are at most ``Limits.segment`` long, and together
        cover the read as far as the file goes. Ranges planned earlier are repeated as long as they lie ahead,
        so what the cache had no room for comes again. The very same ``Plan`` object is returned as long as
        there is nothing new in it: whoever sees it twice in a row, and has refused or dropped nothing of it,
        need not look into it. Ranges need not be those of an earlier plan: the first is cut where it is
        already read, and a late read gets its own blocks, whatever range they came in.

        No byte before ``spent_before`` is of use to this handle any more; it is never beyond the first range.
        0 unless the file is read as a stream. Past the end of the file, or for no bytes: no ranges.
        """
        limits = self._limits
        end = min(offset + length, self._size)
        if end <= offset:
            return Plan((), self._spent(self._size))
        self._read += end - offset
        if self._size <= limits.sniff or (self._size <= limits.small_file and self._size <= most):
            return self._plan_small(offset, end)
        run = self._match(offset, end)
        if run is None:
            run = self._begin(offset, end, most)
        else:
            self._advance(run, offset, end)
        if run is None:
            start = offset - offset % limits.block
            return Plan(self._blocks(offset, end), self._spent(start))
        return self._plan_run(run, offset, end, most)

    def stalled(self, offset: int) -> None:
        """The read at ``offset``, planned before, had to wait for its bytes: a window too small, perhaps.

        Doubles the window, but once only for all that had been asked for by then: not per request. The first
        wait of a run says nothing, nor does one after a jump.
        """
        for run in self._runs:
            if run.mark <= offset < run.asked:
                run.window = max(run.window, min(2 * run.window, run.cap))
                run.mark = run.asked

    # Small files

    def _plan_small(self, offset: int, end: int) -> Plan:
        """The blocks of a sniff; for a longer read, or one that goes on where another ended, all the rest."""
        limits, size = self._limits, self._size
        if self._whole is None:
            piece = self._piece(offset, end)
            if size <= limits.sniff or end - offset > limits.sniff:
                self._whole = Plan(((0, size),), 0)
            elif piece.reads > 1:
                self._whole = Plan(((offset - offset % limits.block, size),), 0)
            else:
                return Plan(self._blocks(offset, end), 0)
        start = self._whole.ranges[0][0]
        if offset >= start:
            return self._whole
        return Plan(self._blocks(offset, min(end, start)) + self._whole.ranges, 0)

    # Runs

    def _match(self, offset: int, end: int) -> _Run | None:
        """The nearest run that the read of [offset, end) may belong to."""
        limits = self._limits
        late = self._late(offset, end)
        nearest = None
        distance = 0
        for run in self._runs:
            away = offset - run.high
            if -late <= away <= max(run.asked - run.high, limits.skip) and (
                nearest is None or abs(away) < distance
            ):
                nearest, distance = run, abs(away)
        return nearest

    def _advance(self, run: _Run, offset: int, end: int) -> None:
        """Move ``run`` to a read of it."""
        limits = self._limits
        gap = offset - run.high
        if gap <= 0:
            new = max(0, end - run.high)
            late = min(end - offset - new, run.owed)
            run.owed -= late
            run.credit += 2 * late + new  # read, and not skipped after all
        elif offset <= run.asked or gap <= min(self._late(offset, end), run.credit):
            run.owed = min(run.owed + gap, self._late(offset, end))
            run.credit = max(0, run.credit - gap) + end - offset
        else:
            # What lies between is not asked for; the wait that follows is no sign of a small window.
            run.credit = max(0, run.credit - (run.asked - run.high)) + end - offset
            run.owed = 0
            run.asked = offset - offset % limits.block
            run.fresh = True
            run.ranges.clear()
            run.plan = None
        run.credit = min(run.credit, limits.most)
        run.high = max(run.high, end)

    def _late(self, offset: int, end: int) -> int:
        """How far from a run's position the read of [offset, end) may be by having been overtaken."""
        return max(self._limits.reorder, 8 * (end - offset))

    def _begin(self, offset: int, end: int, most: int) -> _Run | None:
        """The run that this read is enough to begin, if it is."""
        limits = self._limits
        start = offset - offset % limits.block
        if (
            offset <= limits.eager
            and end - offset >= limits.eager
            and not self._runs
            and all(piece.start <= limits.reorder for piece in self._pieces)
        ):
            run = _Run(end, limits.first + end - offset, limits.first, start)
            stop = min(limits.first + limits.overshoot, start + limits.segment, self._size)
            if limits.first <= most and end < stop:
                run.ranges.append((start, stop))
                run.asked = stop
        else:
            piece = self._piece(offset, end)
            if piece.reads < 2 or piece.bytes <= limits.exact:
                return None
            self._pieces.remove(piece)
            # Where this read came late, what follows it has been asked for.
            asked = start if end == piece.end else piece.end - piece.end % limits.block
            run = _Run(piece.end, piece.bytes, limits.first, asked)
        self._runs.append(run)
        del self._runs[: -limits.runs]
        for other in self._runs:
            other.plan = None  # this run may need what was of no use to them
        return run

    def _plan_run(self, run: _Run, offset: int, end: int, most: int) -> Plan:
        limits = self._limits
        run.used = self._read
        if len(self._runs) > 1:
            self._runs = [other for other in self._runs if self._read - other.used <= limits.forget]
            self._runs.remove(run)
            self._runs.append(run)
        run.cap = min(limits.most, most // len(self._runs))
        # Requests overtake each other: two of this size may still come late.
        run.keep = max(run.keep, run.high - limits.behind - 2 * (end - offset))
        ranges = run.ranges
        while ranges and ranges[-1][0] >= run.high + run.cap:  # ``most`` has shrunk
            run.asked = ranges.pop()[0]
            run.plan = None
        while ranges and ranges[0][1] <= offset:
            del ranges[0]
            run.plan = None
        if self._extend(run):
            run.plan = None
        if run.fresh:
            run.mark, run.fresh = run.asked, False
        start = offset - offset % limits.block
        plan = run.plan
        if plan is not None and start >= plan.ranges[0][0]:
            return plan
        if ranges and start >= ranges[0][0]:
            if start < ranges[0][1]:
                plan = Plan(((start, ranges[0][1]), *ranges[1:]), self._spent(start))
            else:  # requests overtook each other: what lies between is needed as much
                plan = Plan(tuple(ranges), self._spent(ranges[0][0]))
            run.plan = plan
            return plan
        # A late read: what came before the ranges ahead has been asked for, and is there or on its way.
        stop = plan.ranges[0][0] if plan is not None else ranges[0][0] if ranges else end
        ahead = plan.ranges if plan is not None else tuple(ranges)
        return Plan(self._blocks(offset, min(end, stop)) + ahead, self._spent(start))

    def _extend(self, run: _Run) -> bool:
        """Ask for whole ranges as far as the window goes, for the blocks of the read in any case."""
        limits, size = self._limits, self._size
        window = max(run.window, min(limits.steady, run.credit // 2))
        ahead = min(window, run.cap, run.credit if run.credit > limits.exact else 0)
        limit = run.high + ahead
        before = run.asked
        step = self._step(ahead)
        while run.asked < size:
            stop = self._stop(run.asked, step) if step else min(run.asked + limits.segment, size)
            if stop > limit:
                if run.asked >= run.high:
                    break
                stop = min(run.high + -run.high % limits.block, run.asked + limits.segment, size)
            run.ranges.append((run.asked, stop))
            run.asked = stop
        return run.asked != before

    def _step(self, ahead: int) -> int:
        """The grid of the ranges, a power of two: a quarter of ``ahead``, or half if small; 0: none."""
        limits = self._limits
        if ahead < 2 * limits.overshoot:
            return 0
        longest = limits.segment if ahead <= limits.steady else limits.narrow
        step = min(max(ahead // 4, min(limits.first, ahead // 2)), longest)
        return max(limits.block, 1 << (step.bit_length() - 1))

    def _stop(self, start: int, step: int) -> int:
        """Where a range ends that begins at ``start``: on the grid, leaving no slivers."""
        limits = self._limits
        stop = start + step // 2 + -(start + step // 2) % step
        if self._size - stop < step // 2:
            stop = self._size
        if stop - start > limits.segment:
            half = (stop - start) // 2
            stop = start + half - half % limits.block
        return stop

    def _spent(self, start: int) -> int:
        """Before where nothing is of use, for a read whose first block begins at ``start``."""
        if not self._runs:
            return 0
        return max(0, min(start, *(run.keep for run in self._runs)))

    # Pieces

    def _piece(self, offset: int, end: int) -> _Piece:
        """The piece that this read makes or goes on with. It may fill a gap between two: requests overtake.

        What is read towards the start, as of the directory at the end of a zip, counts for nothing.
        """
        near = self._limits.block
        before = after = None
        for piece in self._pieces:
            if piece.start <= offset <= piece.end + near:
                before = piece
            elif offset < piece.start <= end + near:
                after = piece
        piece = _Piece(offset, end, end - offset)
        if before is not None:
            self._pieces.remove(before)
            piece = _Piece(before.start, max(before.end, end), before.bytes, before.reads)
            if end > before.end:
                piece.bytes += end - max(offset, before.end)
                piece.reads += 1
        if after is not None:
            self._pieces.remove(after)
            piece.end = max(piece.end, after.end)
            if before is not None:
                piece.bytes += after.bytes
                piece.reads += after.reads
            else:
                piece.bytes, piece.reads = after.bytes, after.reads
        self._pieces.append(piece)
        del self._pieces[: -self._limits.pieces]
        return piece

    def _blocks(self, offset: int, end: int) -> tuple[Range, ...]:
        """The blocks of [offset, end), in ranges that are not too long."""
        block, segment = self._limits.block, self._limits.segment
        start = offset - offset % block
        stop = min(end + -end % block, self._size)
        if stop - start <= segment:
            return ((start, stop),)
        return tuple((at, min(at + segment, stop)) for at in range(start, stop, segment))
