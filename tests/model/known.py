"""Bugs that the model has found and that are not mended yet (numbers of the list of bugs, each with an
xfail in ``test_regressions.py``): the random run leaves out the operations that lead to them.
"""

from __future__ import annotations

from collections.abc import Callable

import trio
from onemount import Mount, Operation
from operations import Crash

SHORT = 1.0  #: seconds; it takes milliseconds


def _empty_file_was_just_closed(mount: Mount, operation: Operation) -> bool:
    """7: an empty file is kept a moment after its close, not before it returns."""
    return isinstance(operation, Crash) and any(
        not file.data and trio.current_time() < file.closed_at + SHORT
        for file in mount.reference.files.values()
    )


#: Number of the bug, and whether the operation, now, would lead to it.
KNOWN: list[tuple[int, Callable[[Mount, Operation], bool]]] = [
    (7, _empty_file_was_just_closed),
]


def is_known(mount: Mount, operation: Operation) -> bool:
    return any(leads(mount, operation) for _, leads in KNOWN)
