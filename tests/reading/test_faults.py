"""Whatever is read, by whoever and in whatever order, with blocks given up or damaged on disk and answers
that fail, are slow, or are wrong: a read gives the bytes of the file or an error, never other bytes.

"Wrong" means that Figshare itself sends other bytes than those it has told the MD5 of. Nobody can know that
before all of the file is there. So ``verify=open`` must never hand out any of them; other readers may get
them, but nothing that was not sent, and where all of a file is kept, not to the end of it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import logging
import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from remotes import KIB, MIB, content_of, open_cache, open_store

from figfs.errors import BadAnswer, RemoteError, Unreachable
from figfs.reading import blockcache, streams
from figfs.reading.blockcache import BlockCache
from figfs.reading.blocks import BLOCK_SIZE
from figfs.reading.blockstore import BlockStore
from figfs.reading.reader import Reader
from figfs.reading.segments import Progress, Source, Spare, Verdict

#: One that is hashed in the loop, one of one chunk on disk, one of three.
SIZES = (2 * BLOCK_SIZE + 5, 500 * KIB, 2 * MIB + 200 * KIB + 1)
RIGHT = [content_of(size) for size in SIZES]
WRONG = [bytes(byte ^ 0xFF for byte in content) for content in RIGHT]
HARMLESS = ("ok", "slow", "before", "middle", "whole", "whole slowly", "whole breaks", "bug")
HARMFUL = ("wrong", "whole wrong", "half wrong")


@dataclasses.dataclass(frozen=True)
class Plan:
    """One example."""

    memory: int
    limit: int | None  #: bytes on disk; None: no disk
    with_md5: bool
    answers: tuple[str, ...]  #: to the requests, over and over
    sections: tuple[tuple[tuple[object, ...], ...], ...]  #: between two, the mount ends and begins again
    seed: int

    @property
    def may_be_wrong(self) -> bool:
        return any(answer in HARMFUL for answer in self.answers)

    @property
    def holds_all(self) -> bool:
        return self.memory >= 16 * MIB and (self.limit is None or self.limit >= 16 * MIB)


def plans() -> st.SearchStrategy[Plan]:
    files = st.integers(0, len(SIZES) - 1)
    offsets = st.integers(0, max(SIZES))
    verify = st.sampled_from(["end", "open", "background"])
    step = st.one_of(
        st.tuples(st.just("read"), files, verify, offsets, st.sampled_from([1, 4 * KIB, 100_000, MIB])),
        st.tuples(st.just("go through"), files, verify, offsets, st.sampled_from([16 * KIB, 128 * KIB])),
        st.tuples(st.just("prefetch"), files),
        st.tuples(st.just("cancel")),
        st.tuples(st.just("wait")),
        st.tuples(st.just("pause")),
        st.tuples(st.just("damage"), st.sampled_from(["flip", "cut", "delete", "swap", "header"])),
        st.tuples(st.just("adopt"), files),
    )
    return st.builds(
        Plan,
        memory=st.sampled_from([3 * BLOCK_SIZE, MIB, 16 * MIB]),
        limit=st.sampled_from([None, MIB + 200 * KIB, 3 * MIB, 16 * MIB]),
        with_md5=st.sampled_from([True, True, True, False]),
        answers=st.lists(st.sampled_from(HARMLESS + HARMFUL), min_size=1, max_size=8).map(tuple)
        | st.lists(st.sampled_from(HARMLESS), min_size=1, max_size=8).map(tuple),
        sections=st.lists(st.lists(step, min_size=1, max_size=12).map(tuple), min_size=1, max_size=3).map(
            tuple
        ),
        seed=st.integers(0, 1000),
    )


class Servers:
    """Sends the files, as the plan says."""

    def __init__(self, plan: Plan) -> None:
        self.answers: Iterator[str] = itertools.cycle(plan.answers)
        self.cache: BlockCache | None = None
        self.most = plan.memory
        self.sources = [
            Source(
                f"key-{number}-{size}", size, _md5(RIGHT[number]) if plan.with_md5 else "", self._of(number)
            )
            for number, size in enumerate(SIZES)
        ]

    def _of(self, number: int):  # type: ignore[no-untyped-def]
        async def fetch(
            start: int,
            end: int,
            buffer: memoryview,
            *,
            progress: Progress | None = None,
            spare: Spare | None = None,
        ) -> None:
            assert self.cache is not None
            assert self.cache.statistics().bytes <= self.most
            answer = next(self.answers)
            await self._send(answer, number, start, end, buffer, progress, spare)

        return fetch

    @staticmethod
    async def _send(
        answer: str,
        number: int,
        start: int,
        end: int,
        buffer: memoryview,
        progress: Progress | None,
        spare: Spare | None,
    ) -> None:
        await trio.lowlevel.checkpoint()
        if answer == "before":
            raise Unreachable("no connection")
        if answer == "bug":
            raise ZeroDivisionError("a bug")
        size = SIZES[number]
        first, last = (0, size) if "whole" in answer else (start, end)
        cuts = {first, start, end, last, *range(0, last, 50 * KIB)}
        wants_more = spare is not None
        for low, high in itertools.pairwise(sorted(cut for cut in cuts if first <= cut <= last)):
            half = "half" in answer and low >= (start + end) // 2
            content = WRONG if half or answer in ("wrong", "whole wrong") else RIGHT
            chunk = content[number][low:high]
            if start <= low < end:
                buffer[low - start : high - start] = chunk
                if progress is not None:
                    progress(high - start)
            elif spare is not None and wants_more:
                wants_more = await spare(low, chunk)
            if high >= end and not wants_more:
                return
            if answer == "middle" and high - start >= (end - start) // 2:
                raise Unreachable("reset")
            if answer == "whole breaks" and high > size // 2:
                if high < end:
                    raise Unreachable("reset")
                return
            await trio.sleep(0.001 if "slow" in answer else 0)


def _md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def overwrite(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:
        file.write(data)
        file.truncate()


def damage(directory: Path, kind: str, dice: random.Random) -> None:
    """Do something to a chunk on disk, or to two."""
    chunks = sorted(directory.glob("blocks/*/*.[0-9]*"))
    if not chunks:
        return
    chunk, other = dice.choice(chunks), dice.choice(chunks)
    try:
        if kind == "delete":
            chunk.unlink()
        elif kind == "swap":
            # Not by renaming, and not with itself: what the store has removed must not come back later.
            before, after = chunk.read_bytes(), other.read_bytes()
            if chunk != other:
                overwrite(chunk, after)
                overwrite(other, before)
        elif kind == "cut":
            os.truncate(chunk, dice.randrange(chunk.stat().st_size + 1))
        else:
            with chunk.open("r+b") as file:
                length = file.seek(0, os.SEEK_END)
                if length:
                    offset = dice.randrange(min(200, length) if kind == "header" else length)
                    file.seek(offset)
                    (byte,) = file.read(1) or b"?"
                    file.seek(offset)
                    file.write(bytes([byte ^ 0x40]))
    except FileNotFoundError:
        pass  # evicted just now


class Run:
    """One life of the mount."""

    def __init__(self, plan: Plan, servers: Servers, directory: Path, store: BlockStore | None) -> None:
        self.plan = plan
        self.servers = servers
        self.directory = directory
        self.store = store
        self.dice = random.Random(plan.seed)
        self.under_way: list[trio.CancelScope] = []
        self.handles: dict[tuple[int, str], Reader] = {}

    def handle(self, number: int, verify: str) -> Reader:
        assert self.servers.cache is not None
        return Reader(self.servers.sources[number], self.servers.cache, verify=verify)

    async def read(self, reader: Reader, number: int, verify: str, offset: int, size: int) -> bool:
        """Read, and check what comes; False for an error."""
        try:
            data = bytes(await reader.read(offset, size))
        except RemoteError:
            return False
        right = RIGHT[number][offset : offset + size]
        if data != right:
            assert self.plan.may_be_wrong
            assert verify != "open" or not self.plan.with_md5
            wrong = WRONG[number][offset : offset + size]
            assert len(data) == len(right)
            assert all(byte in pair for byte, *pair in zip(data, right, wrong, strict=True))
        return True

    async def carry_out(self, readers: trio.Nursery, cache: BlockCache, step: tuple[object, ...]) -> None:
        name, *arguments = step
        if name in ("read", "go through"):
            scope = trio.CancelScope()
            self.under_way.append(scope)
            number, verify, offset, size = arguments
            assert isinstance(number, int)
            assert isinstance(offset, int)
            assert isinstance(size, int)
            readers.start_soon(self.read_in, scope, name == "read", number, str(verify), offset, size)
        elif name == "prefetch":
            (number,) = arguments
            assert isinstance(number, int)
            cache.prefetch(self.servers.sources[number])
        elif name == "cancel" and self.under_way:
            self.under_way.pop(0).cancel()
        elif name == "wait":
            while self.under_way:  # noqa: ASYNC110 (each has its own scope, not an event)
                await trio.sleep(0.001)
        elif name == "pause":
            await trio.sleep(0.002)
        elif name == "damage":
            (kind,) = arguments
            damage(self.directory, str(kind), self.dice)
        elif name == "adopt":
            (number,) = arguments
            assert isinstance(number, int)
            local = self.directory / "local"
            local.write_bytes(RIGHT[number])
            if self.plan.with_md5:
                source = self.servers.sources[number]
                cache.adopt(source.key, source.size, local)
            local.unlink()  # the next one is another file

    async def read_in(
        self, scope: trio.CancelScope, once: bool, number: int, verify: str, offset: int, size: int
    ) -> None:
        try:
            with scope:
                reader = self.handles.setdefault((number, verify), self.handle(number, verify))
                if once:
                    await self.read(reader, number, verify, offset, size)
                else:
                    for position in range(offset, SIZES[number], size):
                        if not await self.read(reader, number, verify, position, size):
                            break
        finally:
            if scope in self.under_way:
                self.under_way.remove(scope)


async def check_a_whole_reading(run: Run) -> None:
    """The server is well again: every file is read, at the latest when what was wrong has been dropped."""
    run.servers.answers = itertools.repeat("ok")
    for number, size in enumerate(SIZES):
        for verify in ("end", "open"):
            for _attempt in range(6):
                await trio.sleep(blockcache.BROKEN_FOR)
                reader = run.handle(number, verify)
                pieces = []
                try:
                    for position in range(0, size, 128 * KIB):
                        pieces.append(await reader.read(position, 128 * KIB))
                except BadAnswer as exc:
                    does_not_fit = "cannot hold" in str(exc)
                    if does_not_fit and not run.plan.holds_all:
                        break
                    if does_not_fit or not run.plan.may_be_wrong:
                        raise
                    continue
                if b"".join(pieces) == RIGHT[number]:
                    break
                assert run.plan.may_be_wrong
                assert not run.plan.holds_all or not run.plan.with_md5
                if not run.plan.with_md5:
                    break
            else:
                assert not run.plan.holds_all, "never right"


async def check_what_is_left(run: Run, cache: BlockCache) -> None:
    """Nothing is on its way, the books are right, and what is given as verified is what it should be."""
    contents = [cache.content(source) for source in run.servers.sources]
    for content in contents:
        while (  # noqa: ASYNC110 (there is no event for "nothing is going on")
            content.unwritten
            or content.hashing
            or content.stream
            or content.is_being_dropped
            or cache.statistics().fetches
        ):
            await trio.sleep(0.001)
    segments = [segment for content in contents for segment in content.segments]
    statistics = cache.statistics()
    assert statistics.prefetches == 0
    assert statistics.bytes == sum(segment.room for segment in segments) <= run.plan.memory
    assert cache._memory.unwritten == 0
    for number, content in enumerate(contents):
        for segment in content.segments:
            assert segment.pins == 0
            assert segment.complete
            if content.verdict is Verdict.GOOD:
                assert segment.view[: segment.filled] == RIGHT[number][segment.start : segment.end]
        if not run.plan.may_be_wrong:
            assert content.generation == 0
            assert content.verdict is not Verdict.BAD
        if run.store is not None and run.store.is_verified(content.key):
            buffer = bytearray(content.size)
            missing = run.store.read_into(content.key, content.size, 0, content.size, memoryview(buffer))
            if not missing:
                assert buffer == RIGHT[number]


async def carry_out(plan: Plan) -> None:
    servers = Servers(plan)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:  # noqa: ASYNC240
        directory = Path(name)
        for section in plan.sections:
            store = None if plan.limit is None else open_store(directory, limit=plan.limit)
            run = Run(plan, servers, directory, store)
            async with open_cache(store, max_bytes=plan.memory) as cache:
                servers.cache = cache
                async with trio.open_nursery() as readers:
                    for step in section:
                        await run.carry_out(readers, cache, step)
                        await trio.lowlevel.checkpoint()
                if section is plan.sections[-1]:
                    await check_what_is_left(run, cache)
                    await check_a_whole_reading(run)
                    await check_what_is_left(run, cache)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Everything in small, no long waits, and no log of what goes wrong on purpose."""
    logging.disable(logging.CRITICAL)
    for name, value in {
        "STREAM_PATIENCE": 0.05,
        "STREAM_ROOM_PATIENCE": 0.01,
        "STREAM_LEAD": 300 * KIB,
        "STREAM_CELL": 128 * KIB,
        "BROKEN_FOR": 0.01,
        "WHOLE_PIECE": 512 * KIB,
    }.items():
        monkeypatch.setattr(streams if name.startswith("STREAM") else blockcache, name, value)
    yield
    logging.disable(logging.NOTSET)


QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=120, **QUIET)  # type: ignore[arg-type]
@given(plan=plans())
async def test_the_bytes_or_an_error(plan: Plan) -> None:
    """Any plan."""
    with trio.fail_after(60):
        await carry_out(plan)


@pytest.mark.long
@settings(max_examples=5000, **QUIET)  # type: ignore[arg-type]
@given(plan=plans())
async def test_the_bytes_or_an_error_at_length(plan: Plan) -> None:
    """Many more of them."""
    with trio.fail_after(60):
        await carry_out(plan)
