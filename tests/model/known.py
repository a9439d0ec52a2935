"""Bugs that the model has found and that are not mended yet (numbers of the list of bugs, each with a strict
xfail in ``test_regressions.py``): the random run leaves out the operations that lead to them.
"""

from __future__ import annotations

from collections.abc import Callable

from onemount import Mount, Operation
from operations import OpenFile, Rename, Truncate, TruncatePath


def _empties_moved(mount: Mount, operation: Operation) -> bool:
    """1: what Figshare has under another name, or is renamed later, is emptied."""
    files = mount.reference.files
    if isinstance(operation, Rename):
        file = files.get(operation.old)
        return file is not None and not file.data and bool(file.past)
    if (isinstance(operation, OpenFile) and operation.write and operation.truncate) or (
        isinstance(operation, TruncatePath) and operation.size == 0
    ):
        file = files.get(operation.path)
    elif isinstance(operation, Truncate) and operation.size == 0:
        handle = mount.handle(operation.handle, writable=True)
        file = handle.file if handle is not None else None
    else:
        return False
    return file is not None and any(path != file.path for path, _ in file.past)


def _renames_empty(mount: Mount, operation: Operation) -> bool:
    """2: the old name of an empty file comes back when it is renamed to a temporary name."""
    if not isinstance(operation, Rename):
        return False
    file = mount.reference.files.get(operation.old)
    return file is not None and not file.data


#: Number of the bug, and whether the operation, now, would lead to it.
KNOWN: list[tuple[int, Callable[[Mount, Operation], bool]]] = [
    (1, _empties_moved),
    (2, _renames_empty),
]


def is_known(mount: Mount, operation: Operation) -> bool:
    return any(leads(mount, operation) for _, leads in KNOWN)
