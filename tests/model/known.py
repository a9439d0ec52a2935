"""Bugs that the model has found and that are not mended yet, each with an xfail in ``test_regressions.py``:
the random run leaves out the operations that lead to them. None now.
"""

from __future__ import annotations

from collections.abc import Callable

from onemount import Mount, Operation

#: Name of the bug, and whether the operation, now, would lead to it.
KNOWN: list[tuple[str, Callable[[Mount, Operation], bool]]] = []


def is_known(mount: Mount, operation: Operation) -> bool:
    return any(leads(mount, operation) for _, leads in KNOWN)
