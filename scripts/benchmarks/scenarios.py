"""What is done with the mounts. A scenario is run for each round with one system after the other.

Programs that read are processes of their own. Metadata is warm (the file has been looked up) where a row is
about content. After each measurement the server gets a moment to log what was still on its way.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import itertools
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import datasets, readers
from benchmarks.datasets import KIB, MIB
from benchmarks.results import (
    CURL,
    CURL_8,
    FIGFS,
    FIGFS_BACKGROUND,
    FIGFS_NO_CACHE,
    RCLONE,
    RCLONE_FULL,
    RCLONE_TUNED,
    Row,
    Sample,
)
from benchmarks.server import LINES, BenchError, Line, Server, Traffic
from benchmarks.systems import Mount, Programs, environment, mounted

CURLS = (CURL, CURL_8)
RANGES = 8  #: of CURL_8
#: Of those that have so many connections for a file, whatever the line. On a capped line they read the
#: beginning only: their speed is known soon enough.
CONNECTIONS = {CURL: 1, CURL_8: RANGES, RCLONE: 1, RCLONE_FULL: 1}
BYTES_OF_CONNECTION = 64 * MIB
SETTLE = 0.05  #: seconds, and a round trip, for the server's log
WARM_SECONDS = 0.4
START = 0.4  #: seconds for the start of readers that begin at the same moment
PATIENCE = 300.0  #: seconds for any program
IDLE = 1.0  #: seconds after which a daemon has nothing to do


@dataclasses.dataclass(frozen=True, slots=True)
class Bench:
    """What a scenario needs."""

    server: Server
    programs: Programs
    work: Path  #: for caches and mounts
    memory: Path  #: for copies; on tmpfs
    size: int  #: bytes of the big file

    def mounted(
        self, system: str, dataset: str, line: Line, *, keep: Path | None = None
    ) -> contextlib.AbstractContextManager[Mount]:
        return mounted(
            system, dataset, line, server=self.server, programs=self.programs, work=self.work, keep=keep
        )

    def popen(self, command: Sequence[str | Path]) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [os.fspath(part) for part in command],
            env=environment(self.server, self.work),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )


Run = Callable[[Bench, str, int], Iterator[Sample]]


@dataclasses.dataclass(frozen=True, slots=True)
class Scenario:
    """``run(bench, system, round)`` gives samples of ``rows``. ``quick``: part of a quick run."""

    name: str
    dataset: str
    lines: tuple[str, ...]
    rows: tuple[Row, ...]
    systems: tuple[str, ...]
    run: Run
    quick: bool = False


# -- measuring ------------------------------------------------------------


def together(bench: Bench, commands: Sequence[Sequence[str | Path]]) -> list[str]:
    """Run programs at the same time; returns what they said. ``BenchError`` if one fails."""
    running: list[subprocess.Popen[str]] = []
    try:
        running += map(bench.popen, commands)
        said = [process.communicate(timeout=PATIENCE)[0] for process in running]
    except subprocess.TimeoutExpired as slow:
        raise BenchError(f"{slow.cmd} did not end in {PATIENCE:.0f} s") from None
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                # One that waits for a mount that hangs goes when the mount is taken down.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
    for process in running:
        if process.returncode:
            raise BenchError(f"{process.args!r} failed with {process.returncode}")
    return said


@dataclasses.dataclass(slots=True)
class Cost:
    """Seconds, and what was spent meanwhile; complete after the ``with`` of ``costs``."""

    seconds: float = 0.0
    cpu: float = 0.0
    peak: int | None = None
    traffic: Traffic = dataclasses.field(default_factory=Traffic)
    mark: int = 0

    def recount(self, bench: Bench) -> None:
        """Once the mount is gone: now the server has logged also what was given up, or fetched for nobody."""
        time.sleep(SETTLE)
        self.traffic = bench.server.since(self.mark)

    def sample(
        self, row: str, system: str, round: int, value: float, read: int = 0, files: int | None = None
    ) -> Sample:
        return Sample(
            row=row,
            system=system,
            round=round,
            value=value,
            read=read,
            fetched=self.traffic.fetched,
            metadata=self.traffic.metadata,
            redirects=self.traffic.redirects,
            ranges=self.traffic.ranges,
            parts=self.traffic.parts,
            files=files,
            cpu=self.cpu,
            peak=self.peak,
        )


@contextlib.contextmanager
def costs(bench: Bench, line: Line, mount: Mount | None) -> Iterator[Cost]:
    """What the body costs: the mount's daemon, or the programs that the body runs if there is none."""

    def cpu() -> float:
        if mount is not None:
            return mount.cpu()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    cost = Cost(mark=bench.server.mark())
    before, begun = cpu(), time.monotonic()
    yield cost
    cost.seconds = time.monotonic() - begun
    time.sleep(SETTLE + line.latency)
    cost.cpu = cpu() - before
    cost.traffic = bench.server.since(cost.mark)
    cost.peak = None if mount is None else mount.peak()


# -- sequential ------------------------------------------------------------


def _read_whole(path: Path, most: int) -> list[str | Path]:
    """A program that reads a file from its beginning: as fast as it comes, nothing is done with it."""
    return ["dd", f"if={path}", "of=/dev/null", "bs=1M", f"count={-(-most // MIB)}", "status=none"]


def _curls(bench: Bench, url: str, size: int, *, ranges: int) -> list[list[str | Path]]:
    curl: list[str | Path] = ["curl", "--silent", "--fail", "--output", os.devnull]
    curl += ["--cacert", bench.server.certificate]
    cuts = [size * n // ranges for n in range(ranges + 1)]
    return [[*curl, "--range", f"{a}-{b - 1}", url] for a, b in itertools.pairwise(cuts)]


def _sequential(line_name: str, count: int, *, again: bool = False) -> Run:
    """Read files from beginning to end, each once; ``again``: then once more, and after a remount."""
    line = LINES[line_name]
    row = f"sequential-{line_name}" + (f"-{count}" if count > 1 else "")

    def run(bench: Bench, system: str, round: int) -> Iterator[Sample]:
        if count == 1:
            names, size = [("Big", "big.bin")], bench.size
        else:
            names, size = [("Readers", f"r{n:02}.bin") for n in range(count)], bench.size // 8
        if line.capped and system in CONNECTIONS:
            size = min(size, CONNECTIONS[system] * BYTES_OF_CONNECTION)
        total = size * len(names)

        def speed(cost: Cost, row: str) -> Sample:
            return cost.sample(row, system, round, total / cost.seconds / MIB, total)

        if system in CURLS:
            url = bench.server.listing(datasets.BIG, line)
            ranges = RANGES if system == CURL_8 else 1
            commands = [
                command
                for names_ in names
                for command in _curls(bench, url + "/".join(names_), size, ranges=ranges)
            ]
            with costs(bench, line, None) as cost:
                together(bench, commands)
            yield speed(cost, row)
            if again and system == CURL:  # to compare with
                yield speed(cost, "reread-page-cache")
                yield speed(cost, "reread-remounted")
            return

        keep = bench.work / "kept"
        try:
            with bench.mounted(system, datasets.BIG, line, keep=keep) as mount:
                paths = [mount.articles.joinpath(*name) for name in names]
                commands = [_read_whole(path, size) for path in paths]
                for path in paths:
                    path.stat()
                with costs(bench, line, mount) as cost:
                    together(bench, commands)
                if again:
                    yield speed(cost, row)
                    with costs(bench, line, mount) as cost:
                        together(bench, commands)
                    yield speed(cost, "reread-page-cache")
                    if round == 0:
                        _check(bench, system, mount, names)
            if not again:
                cost.recount(bench)
                yield speed(cost, row)
            elif system in (FIGFS, RCLONE_FULL):
                with bench.mounted(system, datasets.BIG, line, keep=keep) as mount:
                    for path in paths:
                        path.stat()
                    with costs(bench, line, mount) as cost:
                        together(bench, commands)
                    yield speed(cost, "reread-remounted")
        finally:
            shutil.rmtree(keep, ignore_errors=True)

    return run


def _check(bench: Bench, system: str, mount: Mount, names: Sequence[tuple[str, str]]) -> None:
    """The speed of wrong bytes is of no interest."""
    dataset = bench.server.serve(datasets.BIG, LINES["plain"])
    for name in names:
        with mount.articles.joinpath(*name).open("rb", buffering=0) as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != dataset.md5(*name):
            raise BenchError(f"{system} reads other bytes than the server has: {'/'.join(name)}")


# -- at random ------------------------------------------------------------

#: Row, bytes of a read, readers.
_RANDOM = (
    ("random-4k", 4 * KIB, 1),
    ("random-128k", 128 * KIB, 1),
    ("random-4k-8", 4 * KIB, 8),
    ("random-128k-8", 128 * KIB, 8),
)


def _random(line_name: str, name: str, *, places: int, warm: bool) -> Run:
    """Read at ``places`` random places of the big file, the same ones for each system in a round; several
    readers at a quarter as many each. ``warm``: one reader then does it again. A number of reads, not a time:
    a mount that fetches the whole file in the meantime is not cold for long.
    """
    line = LINES[line_name]

    def run(bench: Bench, system: str, round: int) -> Iterator[Sample]:
        for row, block, count in _RANDOM:
            with bench.mounted(system, datasets.BIG, line) as mount:
                read = functools.partial(
                    _read_at_random,
                    bench,
                    line,
                    mount,
                    block,
                    count,
                    seed=round,
                    places=places if count == 1 else places // 4,
                )
                rate, done, cost = read(0.0)
                sample = cost.sample(f"{row}-{name}", system, round, rate, done * block)
                if count == 1 and warm:
                    yield sample
                    rate, done, cost = read(WARM_SECONDS)
                    sample = cost.sample(f"{row}-warm", system, round, rate, done * block)
            yield sample

    return run


def _read_at_random(
    bench: Bench,
    line: Line,
    mount: Mount,
    block: int,
    count: int,
    seconds: float,
    *,
    seed: int,
    places: int,
) -> tuple[float, int, Cost]:
    """Reads a second, reads, cost. ``places``: for each reader; ``seconds``: as in readers.py."""
    path = mount.articles / "Big" / "big.bin"
    path.stat()
    with costs(bench, line, mount) as cost:
        start = time.monotonic() + START
        commands: list[list[str | Path]] = []
        for reader in range(count):
            numbers = (block, bench.size, seed * 100 + reader, places, start, seconds)
            commands.append([sys.executable, readers.__file__, "random", path, *map(str, numbers)])
        answers = [said.split() for said in together(bench, commands)]
    done = sum(int(reads) for reads, _ in answers)
    return done / max(float(took) for _, took in answers), done, cost


# -- first byte ------------------------------------------------------------


def _first_byte(line_name: str, row: str) -> Run:
    line = LINES[line_name]

    def run(bench: Bench, system: str, round: int) -> Iterator[Sample]:
        names = [f"s{n}.bin" for n in range(datasets.SNIFFED)]
        if system == CURL:
            url = bench.server.listing(datasets.BIG, line) + "Sniffed/"
            # From the request on: a connection is there, as in a mount.
            form = "%{time_starttransfer} %{time_connect}"
            times = []
            for name in names:
                (said,) = together(
                    bench, [["curl", "-sf", "-o", os.devnull, "-r", "0-0", "-w", form, url + name]]
                )
                first, before = map(float, said.split())
                times.append((first - before) * 1000)
            yield Sample(row=row, system=system, round=round, value=sorted(times)[len(times) // 2])
            return
        with bench.mounted(system, datasets.BIG, line) as mount:
            paths = [mount.articles / "Sniffed" / name for name in names]
            for path in paths:
                path.stat()
            with costs(bench, line, mount) as cost:
                (said,) = together(bench, [[sys.executable, readers.__file__, "first", *paths]])
        cost.recount(bench)
        yield cost.sample(row, system, round, sorted(map(float, said.split()))[len(paths) // 2])

    return run


# -- many files ------------------------------------------------------------


def _small_files(line_name: str, dataset: str, row: str) -> Run:
    """``cp -r`` of an article of small files, of which nothing is known yet."""
    line = LINES[line_name]

    def run(bench: Bench, system: str, round: int) -> Iterator[Sample]:
        source = bench.server.source(dataset, "Files")
        copy = bench.memory / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        try:
            with bench.mounted(system, dataset, line) as mount, costs(bench, line, mount) as cost:
                together(bench, [["cp", "-r", mount.articles / "Files", copy]])
            cost.recount(bench)
            read = sum(path.stat().st_size for path in copy.iterdir())
            yield cost.sample(row, system, round, cost.seconds, read)
            if round == 0:
                together(bench, [["diff", "-r", source, copy]])
        finally:
            shutil.rmtree(copy, ignore_errors=True)

    return run


def _list(bench: Bench, system: str, round: int) -> Iterator[Sample]:
    """``ls -l`` of 10,000 files of which nothing is known yet, and once more."""
    line = LINES["plain"]
    with bench.mounted(system, datasets.TEN_THOUSAND, line) as mount:
        for row in ("ls-cold", "ls-warm"):
            with costs(bench, line, mount) as cost:
                (said,) = together(bench, [["ls", "-l", mount.articles / "Files"]])
            if said.count("\n") != 10_001:
                raise BenchError(f"{system} lists {said.count(chr(10)) - 1} of 10000 files")
            yield cost.sample(row, system, round, cost.seconds)


def _find(bench: Bench, system: str, round: int) -> Iterator[Sample]:
    """``find`` over 200 articles of which nothing is known yet."""
    line = LINES["50ms"]
    with bench.mounted(system, datasets.TREE, line) as mount:
        with costs(bench, line, mount) as cost:
            (said,) = together(bench, [["find", mount.articles, "-type", "f"]])
        if said.count("\n") != 200:
            raise BenchError(f"{system} finds {said.count(chr(10))} of 200 files")
        yield cost.sample("find-50ms", system, round, cost.seconds)


# -- memory ------------------------------------------------------------


def _memory(bench: Bench, system: str, round: int) -> Iterator[Sample]:
    line = LINES["plain"]
    with bench.mounted(system, datasets.BIG, line) as mount:
        paths = [mount.articles / "Readers" / f"r{n:02}.bin" for n in range(datasets.READERS)]
        for path in paths:
            path.stat()
        time.sleep(IDLE)
        yield Sample(row="memory-idle", system=system, round=round, value=mount.resident() / 1e6)
        size = bench.size // 8
        with costs(bench, line, mount) as cost:
            together(bench, [_read_whole(path, size) for path in paths])
        yield cost.sample("memory-16-readers", system, round, mount.peak() / 1e6, size * len(paths))


# -- all of them ------------------------------------------------------------


_MOUNTS = (FIGFS, RCLONE, RCLONE_TUNED)


def _sequential_scenario(
    line: str,
    title: str,
    systems: tuple[str, ...],
    *,
    count: int = 1,
    again: bool = False,
    quick: bool = False,
) -> Scenario:
    name = f"sequential-{line}" + (f"-{count}" if count > 1 else "")
    who = "1 reader" if count == 1 else f"{count} readers"
    rows = [Row(name, f"sequential, cold, {title}, {who}", "MiB/s")]
    if again:
        rows.append(Row("reread-page-cache", "read again, from the page cache", "MiB/s"))
        rows.append(Row("reread-remounted", "read again after a remount, from the disk cache", "MiB/s"))
    run = _sequential(line, count, again=again)
    return Scenario(name, datasets.BIG, (line,), tuple(rows), systems, run, quick)


def _random_scenario(name: str, line: str, *, places: int, warm: bool, quick: bool) -> Scenario:
    rows = []
    away = name.replace("ms", " ms")
    for key, block, count in _RANDOM:
        who = "1 reader" if count == 1 else f"{count} readers"
        rows.append(Row(f"{key}-{name}", f"random {block // KIB} KiB, cold, {away}, {who}", "reads/s"))
        if warm and count == 1:
            rows.append(Row(f"{key}-warm", f"random {block // KIB} KiB, again, {away}, {who}", "reads/s"))
    systems = (FIGFS, RCLONE, RCLONE_FULL)
    return Scenario(
        f"random-{name}",
        datasets.BIG,
        (line,),
        tuple(rows),
        systems,
        _random(line, name, places=places, warm=warm),
        quick,
    )


def reading_scenarios() -> list[Scenario]:
    """In the order in which they are run and shown."""
    everybody = (CURL, CURL_8, FIGFS, *(FIGFS_NO_CACHE, FIGFS_BACKGROUND), RCLONE, RCLONE_TUNED, RCLONE_FULL)
    some = (CURL, CURL_8, *_MOUNTS)
    of_four = (CURL, *_MOUNTS)
    with_full = (*some, RCLONE_FULL)
    first = (CURL, FIGFS, RCLONE, RCLONE_FULL)
    files = (FIGFS, RCLONE, RCLONE_FULL)
    return [
        _sequential_scenario("plain", "0 ms", everybody, again=True, quick=True),
        _sequential_scenario("plain", "0 ms", of_four, count=4),
        _sequential_scenario("tls", "TLS", with_full),
        _sequential_scenario("20ms", "20 ms", some),
        _sequential_scenario("20ms", "20 ms", of_four, count=4),
        _sequential_scenario("50ms", "50 ms", with_full, quick=True),
        _sequential_scenario("100ms", "100 ms", some),
        _sequential_scenario("100ms", "100 ms", of_four, count=4),
        _sequential_scenario("20MB", "20 MB/s per connection", some, quick=True),
        _sequential_scenario("50ms-20MB", "50 ms, 20 MB/s per connection", some),
        _random_scenario("0ms", "plain", places=400, warm=True, quick=True),
        _random_scenario("50ms", "50ms", places=48, warm=False, quick=False),
        Scenario(
            "first-byte-0ms", datasets.BIG, ("plain",),
            (Row("first-byte-0ms", "first byte, 0 ms, metadata warm", "ms", more=False),),
            first, _first_byte("plain", "first-byte-0ms"),
        ),
        Scenario(
            "first-byte-50ms", datasets.BIG, ("50ms",),
            (Row("first-byte-50ms", "first byte, 50 ms, metadata warm", "ms", more=False),),
            first, _first_byte("50ms", "first-byte-50ms"), quick=True,
        ),
        Scenario(
            "small-0ms", datasets.THOUSAND, ("plain",),
            (Row("small-0ms", "cp -r of 1,000 files of 10 KiB, cold, 0 ms", "s", more=False),),
            files, _small_files("plain", datasets.THOUSAND, "small-0ms"), quick=True,
        ),
        Scenario(
            "small-50ms", datasets.TWO_HUNDRED, ("50ms",),
            (Row("small-50ms", "cp -r of 200 files of 10 KiB, cold, 50 ms", "s", more=False),),
            (FIGFS, RCLONE), _small_files("50ms", datasets.TWO_HUNDRED, "small-50ms"),
        ),
        Scenario(
            "ls", datasets.TEN_THOUSAND, ("plain",),
            (
                Row("ls-cold", "ls -l of 10,000 files, cold, 0 ms", "s", more=False),
                Row("ls-warm", "ls -l of 10,000 files, again", "s", more=False),
            ),
            (FIGFS, RCLONE), _list, quick=True,
        ),
        Scenario(
            "find-50ms", datasets.TREE, ("50ms",),
            (Row("find-50ms", "find over 200 directories, cold, 50 ms", "s", more=False),),
            (FIGFS, RCLONE), _find,
        ),
        Scenario(
            "memory", datasets.BIG, ("plain",),
            (
                Row("memory-idle", "memory, idle", "MB", more=False),
                Row("memory-16-readers", "memory, most, 16 cold readers", "MB", more=False),
            ),
            (FIGFS, RCLONE), _memory,
        ),
    ]  # fmt: skip
