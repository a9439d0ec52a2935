"""Measures the block store; not a test. ``python tests/reading/bench_blockstore.py DIRECTORY``

Rates by the clock and by the CPU time of the one thread, which other programs on the machine disturb less.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from figfs.reading.blockstore import BlockStore

MIB = 1 << 20


def measure(name: str, count: int, unit: str, work: Callable[[], None]) -> None:
    began, began_cpu = time.perf_counter(), time.thread_time()
    work()
    took, took_cpu = time.perf_counter() - began, time.thread_time() - began_cpu
    print(f"{name:28} {count / took:10.1f} {unit}/s   {count / took_cpu:10.1f} {unit}/s of CPU")


def main(parent: Path) -> None:
    """Print the rates for a cache in a new directory in ``parent``."""
    with tempfile.TemporaryDirectory(dir=parent) as directory:
        store = BlockStore(Path(directory), limit=8 << 30, min_free=0)
        store.scan()
        piece = os.urandom(4 * MIB)
        pieces, files = 128, 20_000
        size = pieces * len(piece)
        buffer = memoryview(bytearray(len(piece)))
        small = piece[:30_000]

        def write() -> None:
            for number in range(pieces):
                store.write("large", size, number * len(piece), piece)

        def read() -> None:
            for start in range(0, size, len(piece)):
                assert not store.read_into("large", size, start, start + len(piece), buffer)

        def read_parts() -> None:
            for start in range(0, size, 128 << 10):
                store.read_into("large", size, start, start + (128 << 10), buffer[: 128 << 10])

        def write_small() -> None:
            for number in range(files):
                store.write(f"small{number}", len(small), 0, small)

        def read_small() -> None:
            for number in range(files):
                assert not store.read_into(f"small{number}", len(small), 0, len(small), buffer[: len(small)])

        measure("write 4 MiB", size // MIB, "MiB", write)
        measure("read 4 MiB", size // MIB, "MiB", read)
        measure("read 128 KiB", size // MIB, "MiB", read_parts)
        measure("write files of 30 KB", files, "files", write_small)
        measure("read files of 30 KB", files, "files", read_small)
        measure("scan", files, "files", BlockStore(Path(directory), limit=8 << 30, min_free=0).scan)
        measure("scan again", files, "files", store.scan)
        measure("missing, of 512 MiB", pieces * 4, "chunks", lambda: print(store.missing("large", size)))
        measure("evict", files, "files", lambda: print(store.prune()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
