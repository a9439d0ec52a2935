"""What Figshare refuses for good: the program hears of it, the name shows what Figshare has, the bytes are
parked. Later they are retried, discarded, or left.
"""

from __future__ import annotations

import dataclasses
import errno
from typing import Any

import trio
from inprocess import TRUNCATE
from onemount import Difference, Mount
from reference import HELD, final_path, is_local

from figfs.errors import FigfsError
from figfs.writing.journal import State, Upload

#: Settings of the sandbox, or what it answers to an announcement, and what the program hears.
REFUSALS: dict[str, tuple[dict[str, Any], int]] = {
    "quota": ({"quota": 0}, errno.EDQUOT),
    "too large": ({"maximum_file_size": 0}, errno.EFBIG),
    "too many": ({"max_files": 0}, errno.ENOSPC),
    "forbidden": ({"status": 403, "body": {"message": "no permission"}}, errno.EPERM),
    "invalid": ({"status": 422, "body": {"message": "the name is not valid"}}, errno.EINVAL),
}
LONGEST_DEATH = 1.0  #: seconds from the signal to the end of ``close``


def refuse(mount: Mount, kind: str) -> None:
    change, _ = REFUSALS[kind]
    if "status" in change:
        rule = {"role": "api", "method": "POST", "path": "/files$", "action": "status"}
        mount.sandbox.faults.replace([rule | change])
    else:
        mount.sandbox.settings.change(change)


def accept(mount: Mount) -> None:
    mount.sandbox.faults.replace([])
    mount.sandbox.settings.change({"quota": 1 << 40, "maximum_file_size": 1 << 40, "max_files": 500})


async def open_for(mount: Mount, path: str, program: int, *, truncate: bool) -> int:
    """A handle for writing, of a file that is there, or is made."""
    if path in mount.reference.files:
        node = await mount.world.file(mount.path(path))
        return mount.world.fs.open(node.inode, TRUNCATE if truncate else 1, program)[0]
    parent, _, name = path.rpartition("/")
    directory = await mount.world.node(mount.path(parent))
    return mount.world.fs.create(directory.inode, name.encode(), 0o644, program)[1]


@dataclasses.dataclass(frozen=True)
class RefusedSave:
    """``cp``, or a write in place, that Figshare refuses; ``then``: what becomes of the bytes."""

    path: str
    size: int
    kind: str
    truncate: bool
    then: str

    async def run(self, mount: Mount) -> None:
        path, world = self.path, mount.world
        await mount.check()
        if not mount.reference.folder(path.rpartition("/")[0]) or is_local(path) or path.endswith(HELD):
            return
        if mount.in_trouble:
            return
        file = mount.reference.files.get(path)
        if file is not None and not file.data and file.past - {(path, b"")}:
            return  # which version Figshare has of it, is not told
        final = mount.reference.files.get(final_path(path))
        if final is not None and final is not file and not final.data:
            return  # one that waits for its content is no newer version of it
        data = mount.reference.fresh(self.size)
        whole = data
        if file is not None and not self.truncate:
            whole = data + file.data[len(data) :]
        number = await open_for(mount, path, 8, truncate=self.truncate)
        refuse(mount, self.kind)
        try:
            await world.files.write(number, 0, data)
            expected = REFUSALS[self.kind][1]
            await mount.expect(expected, lambda: world.files.flush(number))
            await mount.expect(expected, lambda: world.files.fsync(number))
            await mount.expect(expected, lambda: world.files.flush(number))
        finally:
            world.files.release(number)
            accept(mount)
        lines, mount.log.lines[:] = mount.log.lines.copy(), []
        if len(lines) != 1 or "is not stored" not in lines[0]:
            raise Difference(f"the log says {lines}")
        await self._compare(mount)
        await self._decide(mount, whole)
        await mount.check()

    async def _compare(self, mount: Mount) -> None:
        """The name is as it was before."""
        file = mount.reference.files.get(self.path)
        if file is None:
            await mount.expect(errno.ENOENT, lambda: mount.read_path(self.path))
        else:
            mount.compare(self.path, await mount.read_path(self.path), file.data)
            await mount.compare_attributes(self.path)

    async def _decide(self, mount: Mount, whole: bytes) -> None:
        parked = [row for row in mount.world.journal.uploads() if row.state is State.PARKED]
        parked = [row for row in parked if row.row not in mount.left]
        if len(parked) != 1:
            raise Difference(f"{len(parked)} rows are parked")
        row = parked[0]
        self._compare_bytes(mount, row, whole)
        if self.then == "leave":
            mount.left.add(row.row)
        elif self.then == "discard":
            await mount.world.parts.parking.discard(row.row)
        else:
            place = self.path if self.path in mount.reference.files else final_path(self.path)
            newer = place in mount.reference.files and place != self.path
            await mount.expect(
                errno.EEXIST if newer and self.then == "retry" else None,
                lambda: mount.world.parts.parking.retry(row.row, replace=self.then == "replace"),
            )
            if newer and self.then == "retry":
                mount.left.add(row.row)
            else:
                mount.reference.saved(place, whole)

    @staticmethod
    def _compare_bytes(mount: Mount, row: Upload, whole: bytes) -> None:
        kept = (mount.world.spool_directory / row.spool_name).read_bytes()
        mount.compare("the parked bytes", kept, whole)


@dataclasses.dataclass(frozen=True)
class InterruptedSave:
    """Ctrl-C while ``close`` waits: nothing of it is left, unless it is there already."""

    path: str
    size: int
    after: float

    async def run(self, mount: Mount) -> None:
        path, world = self.path, mount.world
        await mount.check()
        if not mount.reference.folder(path.rpartition("/")[0]) or is_local(path) or path.endswith(HELD):
            return
        if mount.in_trouble:
            return
        file = mount.reference.files.get(path)
        if file is not None and not file.data and file.past - {(path, b"")}:
            return
        data = mount.reference.fresh(self.size)
        number = await open_for(mount, path, 7, truncate=True)
        await world.files.write(number, 0, data)
        mount.sandbox.faults.replace([{"action": "latency", "seconds": 0.3}])
        outcome: list[Exception | None] = []

        async def close() -> None:
            try:
                await world.files.flush(number)
                outcome.append(None)
            except (OSError, FigfsError) as exc:
                outcome.append(exc)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(close)
            await trio.sleep(self.after)
            mount.interrupted.add(7)
            with trio.move_on_after(LONGEST_DEATH):
                while not outcome:  # noqa: ASYNC110 (there is no event for that)
                    await trio.sleep(0.01)
            if not outcome:
                raise Difference(f"close of {path} goes on after a signal")
        world.files.release(number)
        mount.interrupted.clear()
        mount.sandbox.faults.replace([])
        if outcome[0] is None:
            mount.reference.saved(path, data)
        elif getattr(outcome[0], "errno", None) != errno.EIO:
            raise Difference(f"close was interrupted with {outcome[0]!r}")
        await mount.check()
