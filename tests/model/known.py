"""Bugs that the model has found and that are not mended yet (numbers of the list of bugs, each with a strict
xfail in ``test_regressions.py``): the random run leaves out the operations that lead to them.
"""

from __future__ import annotations

from collections.abc import Callable

from onemount import Mount, Operation
from operations import Append, OpenFile, Save, Truncate, TruncatePath, Write


def _writes_again_in_trouble(mount: Mount, operation: Operation) -> bool:
    """6: with the network away, a close waits until an older upload has been taken back."""
    match operation:
        case OpenFile(path=path, write=True) | TruncatePath(path=path) | Save(path=path):
            file = mount.reference.files.get(path)
        case Write(handle=index) | Append(handle=index) | Truncate(handle=index):
            handle = mount.handle(index, writable=True)
            file = handle.file if handle is not None else None
        case _:
            return False
    return file is not None and file.closed_in_trouble


#: Number of the bug, and whether the operation, now, would lead to it.
KNOWN: list[tuple[int, Callable[[Mount, Operation], bool]]] = [
    (6, _writes_again_in_trouble),
]


def is_known(mount: Mount, operation: Operation) -> bool:
    return any(leads(mount, operation) for _, leads in KNOWN)
