"""Sets of offsets: what is missing of a range is exactly what is not in the set."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from figfs.intervals import Intervals

offsets = st.integers(0, 40)
changes = st.lists(st.tuples(st.booleans(), offsets, offsets), max_size=15)


@given(changes, offsets, offsets)
def test_intervals_are_a_set_of_offsets(changed: list[tuple[bool, int, int]], start: int, end: int) -> None:
    """Whatever was added and taken out: pairs in order that do not touch, and what is missing likewise."""
    intervals, model = Intervals(), set[int]()
    for added, low, high in changed:
        if added:
            intervals.add(low, high)
            model |= set(range(low, high))
        else:
            intervals.remove(low, high)
            model -= set(range(low, high))
    assert [offset for low, high in intervals for offset in range(low, high)] == sorted(model)
    missing = intervals.missing(start, end)
    assert [offset for low, high in missing for offset in range(low, high)] == [
        offset for offset in range(start, end) if offset not in model
    ]
    for pairs in (list(intervals), missing):
        assert all(low < high for low, high in pairs)
        assert all(before[1] < after[0] for before, after in itertools.pairwise(pairs))
