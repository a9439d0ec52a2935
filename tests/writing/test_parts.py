"""Parts: believed only if they make up the file exactly; what is not complete is still to be sent."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from figfs.figshare import records
from figfs.writing.parts import check_tiling, remaining


@st.composite
def tilings(draw: st.DrawFn) -> tuple[list[tuple[int, int, int]], int]:
    """Parts of a file as a server may cut it, in any order, and the file's size."""
    sizes = draw(st.lists(st.integers(1, 100), max_size=8))
    ends = list(itertools.accumulate(sizes))
    parts = [
        (number, end - size, end - 1) for number, (size, end) in enumerate(zip(sizes, ends, strict=True), 1)
    ]
    return draw(st.permutations(parts)), sum(sizes)


def covers_each_byte_once(parts: list[tuple[int, int, int]], size: int) -> bool:
    """The rule, the slow way."""
    held = sorted(byte for _, start, end in parts for byte in range(start, end + 1))
    return held == list(range(size)) and all(start <= end for _, start, end in parts)


@given(tilings())
def test_a_tiling_is_accepted(tiling: tuple[list[tuple[int, int, int]], int]) -> None:
    """However many parts, whatever their sizes and order; no part for an empty file."""
    check_tiling(*tiling)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(-1, 9)), max_size=4).map(
        lambda spans: [(number, start, end) for number, (start, end) in enumerate(spans, 1)]
    ),
    st.integers(0, 10),
)
def test_nothing_else_is(parts: list[tuple[int, int, int]], size: int) -> None:
    """Accepted if and only if every byte of the file is in exactly one part, and no part is empty."""
    if covers_each_byte_once(parts, size):
        check_tiling(parts, size)
    else:
        with pytest.raises(ValueError, match="part"):
            check_tiling(parts, size)


@pytest.mark.parametrize(
    ("parts", "size", "message"),
    [
        ([], 5, "the parts hold 0 bytes, the file 5"),
        ([(1, 0, 4)], 6, "the parts hold 5 bytes, the file 6"),
        ([(1, 0, 4)], 4, "the parts hold 5 bytes, the file 4"),
        ([(1, 0, 4), (2, 6, 9)], 10, "part 2 starts at 6, not at 5"),
        ([(1, 0, 4), (2, 4, 9)], 10, "part 2 starts at 4, not at 5"),
        ([(1, 1, 9)], 10, "part 1 starts at 1, not at 0"),
        ([(1, -2, 9)], 10, "part 1 starts at -2, not at 0"),
        ([(1, 0, 4), (2, 5, 4)], 5, "part 2 is empty"),
        ([(1, 0, 4), (1, 5, 9)], 10, "two parts with number 1"),
        ([(1, 0, 0)], 0, "the parts hold 1 bytes, the file 0"),
    ],
)
def test_what_is_wrong_is_said(parts: list[tuple[int, int, int]], size: int, message: str) -> None:
    """The text goes into the log: it names the part and the offset."""
    with pytest.raises(ValueError, match=message):
        check_tiling(parts, size)


@dataclasses.dataclass(frozen=True)
class Part:
    part_no: int
    start_offset: int
    end_offset: int
    status: str


@given(
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["COMPLETE", "PENDING", "", "odd"])), unique=True)
)
def test_remaining(statuses: list[tuple[int, str]]) -> None:
    """All but the complete ones, in their order: after a crash nothing that Figshare has is sent again."""
    parts = [Part(number, 0, 0, status) for number, status in statuses]
    assert [(part.part_no, part.status) for part in remaining(parts)] == [
        (number, status) for number, status in statuses if status != "COMPLETE"
    ]


def test_the_records_of_an_upload() -> None:
    """What ``GET upload_url`` answers can be handed in as it is."""
    upload = records.Upload.from_json(
        {
            "size": 25,
            "parts": [
                {"partNo": 1, "startOffset": 0, "endOffset": 9, "status": "COMPLETE", "locked": False},
                {"partNo": 2, "startOffset": 10, "endOffset": 19, "status": "PENDING", "locked": False},
                {"partNo": 3, "startOffset": 20, "endOffset": 24, "status": "PENDING", "locked": False},
            ],
        }
    )
    check_tiling([(part.part_no, part.start_offset, part.end_offset) for part in upload.parts], 25)
    assert [part.part_no for part in remaining(upload.parts)] == [2, 3]
