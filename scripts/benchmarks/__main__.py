"""The command line of the bench: choose scenarios, run them in rounds, show what came out."""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import platform
import shlex
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType

from benchmarks import report, server
from benchmarks.datasets import MIB
from benchmarks.results import Results
from benchmarks.scenarios import Bench, Scenario, reading_scenarios
from benchmarks.server import LINES, BenchError, Server
from benchmarks.systems import FIGFS_OPTIONS, RCLONE_OPTIONS, Programs
from benchmarks.uploading import upload_scenarios

SIZE, QUICK_SIZE = 1024, 256  #: MiB of the big file
ROUNDS, QUICK_ROUNDS = 5, 3
MEMORY_FOR_SIZE = 3.5  #: what all files together take in memory, in sizes of the big one


def main() -> int:
    arguments = _parser().parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)
    size = (arguments.size or (QUICK_SIZE if arguments.quick else SIZE)) * MIB
    rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    programs = Programs(arguments.rclone, tuple(shlex.split(arguments.figfs_options)))
    begun = time.monotonic()
    try:
        scenarios = chosen(all_scenarios(), quick=arguments.quick, only=arguments.only)
        _check_memory(size)
        results = Results([row for scenario in scenarios for row in scenario.rows])
        with (
            tempfile.TemporaryDirectory(
                prefix="figfs-bench-", dir="/dev/shm", ignore_cleanup_errors=True
            ) as memory,
            tempfile.TemporaryDirectory(prefix="figfs-bench-", ignore_cleanup_errors=True) as work,
            Server(Path(memory, "server"), size=size) as served,
        ):
            bench = Bench(served, programs, Path(work), Path(memory), size)
            for scenario in scenarios:
                _run(bench, scenario, rounds, results)
    except BenchError as failed:
        print(f"bench: {failed}", file=sys.stderr)
        return 1
    about = _about(programs, size=size, rounds=rounds, seconds=time.monotonic() - begun)
    caption = ", ".join(f"{name}: {value}" for name, value in about.items() if value)
    print(caption, end="\n\n")
    print(report.table(results))
    if arguments.json:
        text = json.dumps(report.as_json(results, about), indent=1, ensure_ascii=False)
        arguments.json.write_text(text + "\n", encoding="utf-8")
    if arguments.plot:
        arguments.plot.write_text(report.plot(results, caption), encoding="utf-8")
    return 1 if results.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="figfs beside rclone mount and curl: one machine, one server (nginx on loopback).",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a part of the rows, a smaller file, three rounds"
    )
    parser.add_argument(
        "--only", metavar="PATTERN", action="append", help="scenarios by name, for example 'random-*'"
    )
    parser.add_argument("--list", action=_List, nargs=0, help="name the scenarios, and do nothing")
    parser.add_argument(
        "--size", metavar="MIB", type=int, help=f"of the big file (default {SIZE}, quick {QUICK_SIZE})"
    )
    parser.add_argument("--rounds", metavar="N", type=int, help=f"(default {ROUNDS}, quick {QUICK_ROUNDS})")
    parser.add_argument("--figfs-options", metavar="'…'", default="", help="further options for figfs mount")
    parser.add_argument(
        "--rclone", metavar="PROGRAM", default="rclone", help="another rclone than that of the system"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="all figures")
    parser.add_argument("--plot", metavar="FILE", type=Path, help="bars, as SVG")
    return parser


class _List(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        for scenario in all_scenarios():
            print(f"{scenario.name:24}{'quick  ' if scenario.quick else '       '}{scenario.rows[0].title}")
        parser.exit()


def all_scenarios() -> list[Scenario]:
    return reading_scenarios() + upload_scenarios()


def chosen(scenarios: list[Scenario], *, quick: bool, only: list[str] | None) -> list[Scenario]:
    """The scenarios to run: those that a pattern names, else all, or those of a quick run."""
    if only:
        found = [s for s in scenarios if any(fnmatch.fnmatch(s.name, pattern) for pattern in only)]
    else:
        found = [s for s in scenarios if s.quick or not quick]
    if not found:
        raise BenchError(f"no scenario is called {' or '.join(only or [])}; --list names them")
    return found


def _run(bench: Bench, scenario: Scenario, rounds: int, results: Results) -> None:
    """All rounds of a scenario. The systems take turns at being first, so that noise hits all alike."""
    for line in scenario.lines:
        bench.server.serve(scenario.dataset, LINES[line])
    known = FIGFS_OPTIONS.keys() | RCLONE_OPTIONS.keys()
    systems = [s for s in scenario.systems if s not in known or bench.programs.has(s)]
    begun = time.monotonic()
    for round in range(rounds):
        turn = round % max(1, len(systems))
        for system in systems[turn:] + systems[:turn]:
            _say(f"{scenario.name}: round {round + 1} of {rounds}, {system}")
            try:
                results.samples += scenario.run(bench, system, round)
            except BenchError as failed:
                # The others go on; a run takes too long to lose it all.
                results.failures[scenario.name, system] = str(failed)
                systems.remove(system)
                _say("")
                print(f"{scenario.name}: {system} fails: {failed}", file=sys.stderr)
    _say("")
    print(f"{scenario.name}: {time.monotonic() - begun:.0f} s", file=sys.stderr)


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def _check_memory(size: int) -> None:
    free = shutil.disk_usage("/dev/shm").free
    if free < size * MEMORY_FOR_SIZE:
        raise BenchError(f"/dev/shm has room for {free // MIB} MiB only; a smaller --size is needed")


def _about(programs: Programs, *, size: int, rounds: int, seconds: float) -> dict[str, object]:
    missing = [name for name in (*FIGFS_OPTIONS, *RCLONE_OPTIONS) if not programs.has(name)]
    return {
        "kernel": platform.release(),
        "processors": os.cpu_count(),
        "Python": platform.python_version(),
        "nginx": server.version(),
        "rclone": programs.rclone_version(),
        "file": f"{size // MIB} MiB",
        "rounds": rounds,
        "figfs options": " ".join(programs.figfs_options),
        "not in these versions": "; ".join(missing),
        "took": f"{seconds:.0f} s",
    }


def _end(number: int, _: FrameType | None) -> None:
    """Leave all ``with`` blocks; a second signal must not break into that."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
