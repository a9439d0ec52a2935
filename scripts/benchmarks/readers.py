"""Reads of one file, as a program of its own: it must not share a process with what is measured.

    readers.py random FILE BLOCK SIZE SEED START SECONDS MOST
    readers.py first FILE…

``random``: reads blocks of BLOCK bytes at random multiples of it below SIZE, from the moment START of
the monotonic clock for SECONDS; after MOST different places (0: no such limit) the same ones again. Prints
how many, and the seconds they took. ``first``: milliseconds from open() to the first byte, of each file.
"""

from __future__ import annotations

import os
import random
import sys
import time


def read_at_random(
    path: str, block: int, size: int, seed: int, start: float, seconds: float, most: int
) -> str:
    """Read for a time; returns the number of reads and the seconds they took, with a space between."""
    generator = random.Random(seed)
    buffer = bytearray(block)
    places: list[int] = []
    descriptor = os.open(path, os.O_RDONLY)
    try:
        time.sleep(max(0.0, start - time.monotonic()))
        begun = now = time.monotonic()
        done = 0
        while now < begun + seconds:
            if most and done >= most:
                place = places[done % most]
            else:
                place = generator.randrange(size // block) * block
                places.append(place)
            if os.preadv(descriptor, [buffer], place) != block:
                raise OSError(f"a short read at {place}")
            done += 1
            now = time.monotonic()
    finally:
        os.close(descriptor)
    return f"{done} {now - begun}"


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
        block, size, seed = map(int, rest[:3])
        print(read_at_random(path, block, size, seed, float(rest[3]), float(rest[4]), int(rest[5])))
    elif what == "first":
        print(*map(first_byte, [path, *rest]))
    else:
        raise SystemExit(f"there is no {what!r}")


if __name__ == "__main__":
    main(sys.argv[1:])
