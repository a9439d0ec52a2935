"""Reads of one file, as a program of its own: it must not share a process with what is measured.

    readers.py random FILE BLOCK SIZE SEED PLACES START SECONDS
    readers.py first FILE…

``random``: reads blocks of BLOCK bytes at PLACES random multiples of it below SIZE, from the moment START of
the monotonic clock; the same again and again until SECONDS have passed (0: each once). Prints how many reads,
and the seconds they took. ``first``: milliseconds from open() to the first byte, of each file.
"""

from __future__ import annotations

import os
import random
import sys
import time


def read_at_random(
    path: str, block: int, size: int, seed: int, places: int, start: float, seconds: float
) -> tuple[int, float]:
    """The number of reads, and the seconds they took. Raises ``OSError`` also for a short read."""
    generator = random.Random(seed)
    chosen = [generator.randrange(size // block) * block for _ in range(places)]
    buffer = bytearray(block)
    done = 0
    descriptor = os.open(path, os.O_RDONLY)
    try:
        time.sleep(max(0.0, start - time.monotonic()))
        begun = time.monotonic()
        while done == 0 or time.monotonic() < begun + seconds:
            for place in chosen:
                if os.preadv(descriptor, [buffer], place) != block:
                    raise OSError(f"a short read at {place}")
            done += places
        return done, time.monotonic() - begun
    finally:
        os.close(descriptor)


def first_byte(path: str) -> float:
    """Milliseconds from open() to the first byte of a file."""
    begun = time.monotonic()
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if len(os.read(descriptor, 1)) != 1:
            raise OSError("no first byte")
        return (time.monotonic() - begun) * 1000
    finally:
        os.close(descriptor)


def main(arguments: list[str]) -> None:
    what, path, *rest = arguments
    if what == "random":
        block, size, seed, places = map(int, rest[:4])
        print(*read_at_random(path, block, size, seed, places, float(rest[4]), float(rest[5])))
    elif what == "first":
        print(*map(first_byte, [path, *rest]))
    else:
        raise SystemExit(f"there is no {what!r}")


if __name__ == "__main__":
    main(sys.argv[1:])
