"""The scenarios that write: until all is stored, that is, until the server has the last byte and figfs knows.

Sources are in memory. rclone writes to its own WebDAV server, a tenth of a second after each close (with no
delay at all, rclone 1.60 keeps rsync's temporary names); ``curl`` PUTs one file over one connection. Each
measurement has an article, or a directory, of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import datasets, receiver
from benchmarks.datasets import MIB
from benchmarks.results import CURL, FIGFS, FIGFS_QUEUED, RCLONE_WRITES, Row, Sample
from benchmarks.scenarios import Bench, Cost, Run, Scenario, costs, together
from benchmarks.server import LINES, BenchError, Line
from benchmarks.systems import Mount

SMALL = 30_000  #: bytes of a small file
MANY, FEW = 1000, 200
CURL_BYTES = 64 * MIB  #: that curl puts on a capped line: its speed is known soon enough
PATIENCE = 120.0
LOOK = 0.02  #: seconds between two looks whether all is stored

_targets = itertools.count(1)
_webdav = itertools.count(1)


def _copy(source: Path, target: Path) -> list[str | Path]:
    return ["cp", "-r", f"{source}/.", f"{target}/"]


def _rsync(source: Path, target: Path) -> list[str | Path]:
    return ["rsync", "-a", f"{source}/", f"{target}/"]


Program = Callable[[Path, Path], list[str | Path]]


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """Where to write. ``stored``: name and size of all files there by now; ``content``: its bytes."""

    mount: Mount
    path: Path
    stored: Callable[[], list[tuple[str, int]]]
    content: Callable[[str], bytes]


@contextlib.contextmanager
def _target(bench: Bench, system: str, line: Line) -> Iterator[Target]:
    """A mount, and a new directory there."""
    if system == RCLONE_WRITES:
        directory = bench.memory / f"dav-{next(_webdav)}"
        with (
            receiver.webdav(bench.programs.rclone, bench.server.webdav_port, directory),
            bench.mounted(system, datasets.UPLOADS, line) as mount,
        ):
            yield Target(
                mount,
                mount.articles,
                lambda: [(path.name, path.stat().st_size) for path in directory.iterdir()],
                lambda name: (directory / name).read_bytes(),
            )
        return
    number = next(_targets)
    if number > datasets.TARGETS:
        raise BenchError("there are no more articles to write into")

    def stored() -> list[tuple[str, int]]:
        return [
            (name, sum(part.stat().st_size for part in parts)) for name, parts in bench.server.stored(number)
        ]

    def content(name: str) -> bytes:
        return b"".join(part.read_bytes() for part in dict(bench.server.stored(number))[name])

    with bench.mounted(system, datasets.UPLOADS, line) as mount:
        path = mount.articles / f"Upload {number:03}"
        path.stat()
        yield Target(mount, path, stored, content)
    for _, parts in bench.server.stored(number):
        for part in parts:
            part.unlink()


def _write(bench: Bench, system: str, line: Line, round: int, source: Path, program: Program) -> Cost:
    """Write all of ``source``, and wait until it is stored."""
    wanted = {path.name: path.stat().st_size for path in source.iterdir()}
    with _target(bench, system, line) as target:
        with costs(bench, line, target.mount) as cost:
            together(bench, [program(source, target.path)])
            give_up_at = time.monotonic() + PATIENCE
            while dict(target.stored()) != wanted:
                if time.monotonic() > give_up_at:
                    raise BenchError(f"{system} has not stored all in {PATIENCE:.0f} s")
                time.sleep(LOOK)
        if len(target.stored()) != len(wanted):
            raise BenchError(f"{system} has stored {len(target.stored())} files instead of {len(wanted)}")
        if round == 0:
            for name in wanted:
                if target.content(name) != (source / name).read_bytes():
                    raise BenchError(f"{system} has stored other bytes than were written: {name}")
    return cost


@contextlib.contextmanager
def _sources(bench: Bench, sizes: Sequence[int]) -> Iterator[Path]:
    """A directory with files of these sizes, in memory."""
    source = bench.memory / "to-upload"
    source.mkdir()
    generator = random.Random(len(sizes))
    try:
        for number, size in enumerate(sizes):
            with (source / f"f{number:04}.dat").open("wb") as file:
                for at in range(0, size, datasets.PIECE):
                    file.write(generator.randbytes(min(datasets.PIECE, size - at)))
        yield source
    finally:
        shutil.rmtree(source, ignore_errors=True)


def _big(line_name: str, row: str) -> Run:
    line = LINES[line_name]

    def run(bench: Bench, system: str, round: int) -> Iterator[Sample]:
        size = min(bench.size, CURL_BYTES) if system == CURL else bench.size
        with _sources(bench, [size]) as source:
            if system == CURL:
                (path,) = source.iterdir()
                url = bench.server.part(line, "curl")
                with costs(bench, line, None) as cost:
                    together(bench, [["curl", "-sf", "-T", path, "-o", os.devnull, url]])
            else:
                cost = _write(bench, system, line, round, source, _copy)
            yield cost.sample(row, system, round, size / cost.seconds / MIB, size)

    return run


def _small(line_name: str, row: str, program: Program, count: int) -> Run:
    line = LINES[line_name]

    def run(bench: Bench, system: str, round: int) -> Iterator[Sample]:
        with _sources(bench, [SMALL] * count) as source:
            cost = _write(bench, system, line, round, source, program)
            yield cost.sample(row, system, round, cost.seconds, SMALL * count, count)

    return run


def _big_scenario(line: str, title: str, systems: tuple[str, ...], *, quick: bool = False) -> Scenario:
    name = f"upload-{line.replace('plain', '0ms')}"
    row = Row(name, f"upload of one file, until stored, {title}", "MiB/s")
    return Scenario(name, datasets.UPLOADS, (line, "plain"), (row,), systems, _big(line, name), quick)


def _small_scenario(
    line: str, how: str, program: Program, count: int, systems: tuple[str, ...], *, quick: bool = False
) -> Scenario:
    away = line.replace("plain", "0ms")
    name = f"upload-small-{how.split()[0]}-{away}"
    row = Row(
        name, f"{how} of {count:,} files of 30 KB, until stored, {away.replace('ms', ' ms')}", "s", more=False
    )
    run = _small(line, name, program, count)
    return Scenario(name, datasets.UPLOADS, (line, "plain"), (row,), systems, run, quick)


def upload_scenarios() -> list[Scenario]:
    mounts = (FIGFS, FIGFS_QUEUED, RCLONE_WRITES)
    return [
        _big_scenario("plain", "0 ms", (CURL, FIGFS, RCLONE_WRITES), quick=True),
        _big_scenario("20MB", "20 MB/s per connection", (CURL, FIGFS)),
        _big_scenario("50ms-20MB", "50 ms, 20 MB/s per connection", (CURL, FIGFS)),
        _small_scenario("plain", "rsync -a", _rsync, FEW, mounts, quick=True),
        _small_scenario("20ms", "cp -r", _copy, MANY, mounts),
        _small_scenario("20ms", "rsync -a", _rsync, MANY, mounts),
    ]
