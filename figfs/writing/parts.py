"""Parts, the unit of uploading: Figshare chooses them, we check and count them. Pure.

Offsets are as Figshare sends them: ``end_offset`` is the last byte of the part (api.md, uploader service).
The rule for sizes is not known (quirks U3), so parts are believed only if they make up the file exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

COMPLETE = "COMPLETE"


class Part(Protocol):
    """What of a part's record is used here (``figshare.records.Part`` has it)."""

    @property
    def part_no(self) -> int: ...
    @property
    def start_offset(self) -> int: ...
    @property
    def end_offset(self) -> int: ...
    @property
    def status(self) -> str: ...


_Part = TypeVar("_Part", bound=Part)


def check_tiling(parts: Iterable[tuple[int, int, int]], size: int) -> None:
    """Raise ``ValueError``, saying what is wrong, unless ``parts`` make up a file of ``size`` bytes exactly.

    ``parts`` are (number, first byte, last byte) in any order. They must have different numbers and hold
    every byte once; an empty file has none.
    """
    numbers: set[int] = set()
    expected = 0
    for number, start, end in sorted(parts, key=lambda part: part[1:]):
        if number in numbers:
            raise ValueError(f"two parts with number {number}")
        numbers.add(number)
        if end < start:
            raise ValueError(f"part {number} is empty: [{start}, {end}]")
        if start != expected:
            raise ValueError(f"part {number} starts at {start}, not at {expected}")
        expected = end + 1
    if expected != size:
        raise ValueError(f"the parts hold {expected} bytes, the file {size}")


def remaining(parts: Iterable[_Part]) -> list[_Part]:
    """The parts that Figshare does not have yet, in the order given.

    Whatever is not COMPLETE is to be sent: the API knows only PENDING besides, a lenient record also "".
    """
    return [part for part in parts if part.status.upper() != COMPLETE]
