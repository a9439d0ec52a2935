"""Bugs that the model has found and that are not mended yet (numbers of the list of bugs, each with a strict
xfail in ``test_regressions.py``): the random run leaves out the operations that lead to them.
"""

from __future__ import annotations

from collections.abc import Callable

from onemount import Mount, Operation
from operations import Crash, Unmount
from reference import final_path


def _crashes_before_rename(mount: Mount, operation: Operation) -> bool:
    """3: what was closed under a temporary name is a second file of its final name after a crash."""
    return isinstance(operation, Crash | Unmount) and any(
        final_path(path) != path and final_path(path) in mount.reference.files and file.maybe
        for path, file in mount.reference.files.items()
    )


#: Number of the bug, and whether the operation, now, would lead to it.
KNOWN: list[tuple[int, Callable[[Mount, Operation], bool]]] = [
    (3, _crashes_before_rename),
]


def is_known(mount: Mount, operation: Operation) -> bool:
    return any(leads(mount, operation) for _, leads in KNOWN)
