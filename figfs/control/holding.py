"""What is being published stands still: no request of this mount changes it meanwhile.

``changing`` is around every request of the client that changes something (``Client.watch_changes``), its wait
for its turn included. So between the last look at an item and the answer to its publication nothing of this
mount can come into what is published: uploads, deletions, moves and edits wait, those of other items do not.
What they wait for always ends: ``still`` is left by whatever ends its block, and all in there has deadlines.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator
from errno import EBUSY

import trio

from figfs.namespace.keeping import affected
from figfs.namespace.nodes import Key

QUIET_TIMEOUT = 30.0  #: seconds for what is under way when an item is to stand still


@dataclasses.dataclass(eq=False, slots=True)
class _Hold:
    """``task``: whose own requests pass."""

    task: trio.lowlevel.Task
    ended: trio.Event = dataclasses.field(default_factory=trio.Event)


class Holding:
    """Of one mount. Items are told by their keys."""

    def __init__(self) -> None:
        self._holds: dict[Key, _Hold] = {}
        self._under_way: Counter[Key] = Counter()
        self._ended = trio.Event()  #: set, and made anew, when a request ends

    @contextlib.asynccontextmanager
    async def changing(self, path: str) -> AsyncIterator[None]:
        """Around each request that changes something. A wait that is cancelled has sent nothing."""
        keys = affected(path)
        while (hold := self._in_the_way(keys)) is not None:
            await hold.ended.wait()
        # No await from the look to the count.
        self._under_way.update(keys)
        try:
            yield
        finally:
            self._under_way -= Counter(keys)
            self._ended.set()
            self._ended = trio.Event()

    def _in_the_way(self, keys: set[Key]) -> _Hold | None:
        task = trio.lowlevel.current_task()
        found = (self._holds.get(key) for key in keys)
        return next((hold for hold in found if hold is not None and hold.task is not task), None)

    @contextlib.asynccontextmanager
    async def still(self, key: Key) -> AsyncIterator[None]:
        """Only this task changes the item ``key``, from when what was under way has ended. ``OSError`` where
        that does not end soon, or where it stands still already.
        """
        if key in self._holds:
            raise OSError(EBUSY, "it is being published already")
        hold = self._holds[key] = _Hold(trio.lowlevel.current_task())
        try:
            with trio.move_on_after(QUIET_TIMEOUT):
                while self._under_way[key]:
                    await self._ended.wait()
            if self._under_way[key]:
                raise OSError(EBUSY, "something in it is being changed, and that takes long: try again")
            yield
        finally:
            del self._holds[key]
            hold.ended.set()
