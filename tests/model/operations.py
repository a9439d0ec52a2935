"""What programs do on the mount, one frozen record an operation: a failing list can be printed and run again.

Where an operation does not apply (no handle is open), it does nothing.
"""

from __future__ import annotations

import dataclasses
import errno

import trio
from elsewhere import AddThere, DeleteThere, RemoveArticle, ReplaceThere, Retitle, TakeAway
from hypothesis import strategies as st
from inprocess import TRUNCATE
from onemount import ARTICLES, Mount, Operation
from reference import FINAL, HELD, LOCAL
from refusals import REFUSALS, InterruptedSave, RefusedSave

from figfs.posix import Change

NAMES = ("a", "b.csv", "c", *FINAL, *HELD, *LOCAL)
FOLDERS = ("aaa/dir", "aaa/dir/sub", "aaa/sub", "bbb/dir")
DIRECTORIES = (*ARTICLES, *FOLDERS)
LENGTH = 40  #: of a list, before it is shrunk


@dataclasses.dataclass(frozen=True)
class Create:
    """``open(O_CREAT | O_EXCL)``."""

    path: str
    program: int

    async def run(self, mount: Mount) -> None:
        path = self.path
        parent, _, name = path.rpartition("/")

        async def create() -> int:
            directory = await mount.world.node(mount.path(parent))
            return mount.world.fs.create(directory.inode, name.encode(), 0o644, self.program)[1]

        expected = None
        if not mount.reference.folder(parent):
            expected = errno.ENOENT
        elif path in mount.reference.files:
            expected = errno.EEXIST
        number = await mount.expect(expected, create)
        if number is not None:
            mount.opened(number, mount.reference.create(path), self.program, writable=True)


@dataclasses.dataclass(frozen=True)
class OpenFile:
    path: str
    program: int
    write: bool
    truncate: bool

    async def run(self, mount: Mount) -> None:
        file = mount.reference.files.get(self.path)
        node = await mount.expect(
            errno.ENOENT if file is None else None, lambda: mount.world.node(mount.path(self.path))
        )
        if file is None or node is None:
            return
        truncate = self.write and self.truncate
        number, _ = mount.world.fs.open(node.inode, TRUNCATE if truncate else int(self.write), self.program)
        wrote = truncate and bool(file.data)
        if truncate:
            file.truncate(0)
        mount.opened(number, file, self.program, writable=self.write).wrote = wrote


@dataclasses.dataclass(frozen=True)
class Write:
    handle: int
    offset: int
    size: int

    async def run(self, mount: Mount) -> None:
        handle = mount.handle(self.handle, writable=True)
        if handle is not None and not await mount.is_stale(handle):
            data = mount.reference.fresh(self.size)
            handle.wrote = True
            await mount.world.files.write(handle.number, self.offset, data)
            handle.file.write(self.offset, data)


@dataclasses.dataclass(frozen=True)
class Append:
    handle: int
    size: int

    async def run(self, mount: Mount) -> None:
        handle = mount.handle(self.handle, writable=True)
        if handle is not None and not await mount.is_stale(handle):
            handle.wrote = True
            data, offset = mount.reference.fresh(self.size), len(handle.file.data)
            await mount.world.files.write(handle.number, offset, data)
            handle.file.write(offset, data)


@dataclasses.dataclass(frozen=True)
class Truncate:
    """``ftruncate``."""

    handle: int
    size: int

    async def run(self, mount: Mount) -> None:
        handle = mount.handle(self.handle, writable=True)
        if handle is not None and not await mount.is_stale(handle):
            node = mount.world.files._handles[handle.number].file.node
            await mount.world.files.truncate(node, self.size, handle.number)
            file = handle.file
            changed = self.size != len(file.data) or (file.touched and file.version > 0)
            handle.wrote = handle.wrote or changed
            file.truncate(self.size)


@dataclasses.dataclass(frozen=True)
class TruncatePath:
    """``truncate``: no handle, no close."""

    path: str
    size: int

    async def run(self, mount: Mount) -> None:
        file = mount.reference.files.get(self.path)
        if file is not None:
            node = await mount.world.file(mount.path(self.path))
            await mount.world.files.truncate(node, self.size, None)
            file.truncate(self.size)
            if not file.opened:
                file.may_be_kept()
                file.closed = file.data
            file.anonymous = True


@dataclasses.dataclass(frozen=True)
class Read:
    handle: int

    async def run(self, mount: Mount) -> None:
        handle = mount.handle(self.handle)
        if handle is not None:
            await mount.read(handle)


@dataclasses.dataclass(frozen=True)
class ReadPath:
    path: str

    async def run(self, mount: Mount) -> None:
        file = mount.reference.files.get(self.path)
        data = await mount.expect(errno.ENOENT if file is None else None, lambda: mount.read_path(self.path))
        if file is not None and data is not None:
            mount.compare(self.path, data, file.data)


@dataclasses.dataclass(frozen=True)
class Flush:
    """``close`` of a duplicate."""

    handle: int

    async def run(self, mount: Mount) -> None:
        handle = mount.handle(self.handle)
        if handle is not None:
            await mount.flush(handle, last=False)


@dataclasses.dataclass(frozen=True)
class Close:
    handle: int
    patience: float

    async def run(self, mount: Mount) -> None:
        handle = mount.handle(self.handle)
        if handle is not None:
            await mount.close(handle, self.patience)


@dataclasses.dataclass(frozen=True)
class Fsync:
    handle: int

    async def run(self, mount: Mount) -> None:
        handle = mount.handle(self.handle)
        if handle is not None:
            await mount.world.files.fsync(handle.number)


@dataclasses.dataclass(frozen=True)
class Save:
    """``cp``: create or truncate, write, close."""

    path: str
    size: int
    patience: float

    async def run(self, mount: Mount) -> None:
        if not mount.reference.folder(self.path.rpartition("/")[0]):
            return
        if self.path in mount.reference.files:
            await OpenFile(self.path, 9, True, True).run(mount)
        else:
            await Create(self.path, 9).run(mount)
        await Write(len([h for h in mount.handles if h.writable]) - 1, 0, self.size).run(mount)
        await mount.close(mount.handles[-1], self.patience)


@dataclasses.dataclass(frozen=True)
class Unlink:
    path: str

    async def run(self, mount: Mount) -> None:
        there = self.path in mount.reference.files
        await mount.expect(None if there else errno.ENOENT, lambda: mount.world.unlink(mount.path(self.path)))
        if there:
            mount.reference.unlink(self.path)


@dataclasses.dataclass(frozen=True)
class Rename:
    old: str
    new: str
    flags: int = 0

    async def run(self, mount: Mount) -> None:
        files = mount.reference.files
        expected = None
        if self.old not in files or not mount.reference.folder(self.new.rpartition("/")[0]):
            expected = errno.ENOENT
        elif self.old != self.new and self.new in files and self.flags:
            expected = errno.EEXIST
        await mount.expect(
            expected,
            lambda: mount.world.rename(mount.path(self.old), mount.path(self.new), self.flags),
        )
        if expected is None and self.old != self.new:
            mount.reference.rename(self.old, self.new)


@dataclasses.dataclass(frozen=True)
class List:
    directory: str

    async def run(self, mount: Mount) -> None:
        if mount.reference.folder(self.directory):
            await mount.compare_listing(self.directory)


@dataclasses.dataclass(frozen=True)
class Mkdir:
    path: str

    async def run(self, mount: Mount) -> None:
        reference, expected = mount.reference, None
        if not reference.folder(self.path.rpartition("/")[0]):
            expected = errno.ENOENT
        elif self.path in reference.folders:
            expected = errno.EEXIST
        await mount.expect(expected, lambda: mount.world.mkdir(mount.path(self.path)))
        if expected is None:
            reference.folders.add(self.path)


@dataclasses.dataclass(frozen=True)
class Rmdir:
    path: str

    async def run(self, mount: Mount) -> None:
        reference, expected = mount.reference, None
        if self.path not in reference.folders:
            expected = errno.ENOENT
        elif reference.inside(self.path):
            expected = errno.ENOTEMPTY
        await mount.expect(expected, lambda: mount.world.rmdir(mount.path(self.path)))
        if expected is None:
            reference.folders.remove(self.path)


@dataclasses.dataclass(frozen=True)
class RenameFolder:
    old: str
    new: str

    async def run(self, mount: Mount) -> None:
        reference, expected = mount.reference, None
        if self.old not in reference.folders or not reference.folder(self.new.rpartition("/")[0]):
            expected = errno.ENOENT
        elif self.new != self.old and self.new in reference.folders and reference.inside(self.new):
            expected = errno.ENOTEMPTY
        elif self.new.startswith(self.old + "/"):
            expected = errno.EINVAL
        await mount.expect(expected, lambda: mount.world.rename(mount.path(self.old), mount.path(self.new)))
        if expected is None and self.old != self.new:
            reference.rename_folder(self.old, self.new)


@dataclasses.dataclass(frozen=True)
class SetAttributes:
    """``chmod`` and ``utimensat`` of the n-th file."""

    number: int
    mode: int | None
    seconds: int | None

    async def run(self, mount: Mount) -> None:
        file = mount.reference.nth(self.number)
        if file is None or file.path is None:
            return
        node = await mount.world.file(mount.path(file.path))
        mtime_ns = None if self.seconds is None else self.seconds * 1_000_000_000
        await mount.world.fs.setattr(node.inode, Change(mode=self.mode, mtime_ns=mtime_ns), None)
        file.mode = file.mode if self.mode is None else self.mode
        file.mtime_ns = file.mtime_ns if mtime_ns is None else mtime_ns
        await mount.compare_attributes(file.path)


@dataclasses.dataclass(frozen=True)
class Kill:
    """A program is killed: what it has not closed is half of something."""

    program: int

    async def run(self, mount: Mount) -> None:
        mine = [handle for handle in mount.handles if handle.program == self.program]
        files = {handle.file for handle in mine}
        for handle in mount.handles:
            file = handle.file
            if file in files and (file.moved or file.anonymous or (handle not in mine and not handle.wrote)):
                return  # whose bytes are whose, nobody knows
        mount.killed.add(self.program)
        for handle in mine:
            mount.handles.remove(handle)
            await mount.world.files.flush(handle.number)
        for handle in mine:
            mount.world.files.release(handle.number)
            handle.file.opened -= 1
            handle.file.closed_at = trio.current_time()
        for file in files:
            wrote = any(handle.wrote for handle in mine if handle.file is file)
            alive = any(handle.file is file for handle in mount.handles)
            if not alive and (file.closed is None or (wrote and file.touched)):
                mount.reference.give_up(file)
        mount.killed.remove(self.program)


@dataclasses.dataclass(frozen=True)
class Sleep:
    seconds: float

    async def run(self, mount: Mount) -> None:
        await trio.sleep(self.seconds)


@dataclasses.dataclass(frozen=True)
class Check:
    """All handles are closed, all is settled: Figshare and the mount are as they must be."""

    async def run(self, mount: Mount) -> None:
        await mount.check()


@dataclasses.dataclass(frozen=True)
class Crash:
    """``kill -9`` or a power cut, and another mount."""

    server_goes_on: bool  #: with the requests that it has

    async def run(self, mount: Mount) -> None:
        await mount.crash(server_goes_on=self.server_goes_on)


@dataclasses.dataclass(frozen=True)
class Unmount:
    """A clean end, and another mount."""

    patience: float

    async def run(self, mount: Mount) -> None:
        await mount.unmount(self.patience)


#: Kinds of trouble that passes: (role, method, path of the requests).
REQUESTS = {
    "announce": ("api", "POST", "/files$"),
    "part": ("upload", "PUT", ""),
    "session": ("upload", "GET", ""),
    "complete": ("api", "POST", r"/files/\d+$"),
    "delete": ("api", "DELETE", ""),
    "record": ("api", "GET", r"/files/\d+$"),
    "listing": ("api", "GET", r"/articles(/\d+(/files)?)?$"),
    "download": ("download", "GET", ""),
    "storage": ("storage", "GET", ""),
    "any": (None, None, ""),
}
ACTIONS: tuple[dict[str, object], ...] = (
    {"action": "status", "status": 500},
    {"action": "status", "status": 503, "headers": {"Retry-After": "3"}},
    {"action": "status", "status": 429},
    {"action": "lose_answer"},
    {"action": "hang", "seconds": 30},
    {"action": "latency", "seconds": 0.3},
    {"action": "latency", "seconds": 4},
    {"action": "cut", "bytes": 300},
    {"action": "html"},
)


@dataclasses.dataclass(frozen=True)
class Trouble:
    """From now on requests of a kind meet trouble, ``times`` of them."""

    requests: str
    action: int
    times: int
    skip: int

    async def run(self, mount: Mount) -> None:
        role, method, path = REQUESTS[self.requests]
        matches = {"role": role, "method": method, "path": path or None}
        rule = {key: value for key, value in matches.items() if value is not None}
        mount.trouble(rule | ACTIONS[self.action] | {"times": self.times, "skip": self.skip})


@dataclasses.dataclass(frozen=True)
class NetworkDown:
    async def run(self, mount: Mount) -> None:
        mount.network_down()


@dataclasses.dataclass(frozen=True)
class TroubleEnds:
    async def run(self, mount: Mount) -> None:
        mount.trouble_ends()


directories = st.sampled_from((*ARTICLES * 4, *FOLDERS))
folders = st.sampled_from(FOLDERS)
paths = st.builds(lambda d, n: f"{d}/{n}", directories, st.sampled_from(NAMES))
programs = st.integers(1, 2)
handles = st.integers(0, 3)
sizes = st.sampled_from([1, 10, 999, 1000, 1001, 2500])
offsets = st.sampled_from([0, 1, 500, 1000, 3000])
patience = st.sampled_from([1e3, 0.0, 0.01, 0.2, 2.0])
seconds = st.sampled_from([0.0, 0.01, 0.05, 0.2, 1.0, 4.9, 5.1, 30.0, 61.0, 400.0])

operation: st.SearchStrategy[Operation] = st.one_of(
    st.builds(Save, paths, sizes, patience),
    st.builds(Create, paths, programs),
    st.builds(OpenFile, paths, programs, st.booleans(), st.booleans()),
    st.builds(Write, handles, offsets, sizes),
    st.builds(Append, handles, sizes),
    st.builds(Truncate, handles, st.sampled_from([0, 1, 700, 2000])),
    st.builds(TruncatePath, paths, st.sampled_from([0, 1, 700, 2000])),
    st.builds(Read, handles),
    st.builds(ReadPath, paths),
    st.builds(Flush, handles),
    st.builds(Close, handles, patience),
    st.builds(Fsync, handles),
    st.builds(Unlink, paths),
    st.builds(Rename, paths, paths, st.sampled_from([0, 0, 1])),
    st.builds(List, st.sampled_from(DIRECTORIES)),
    st.builds(Mkdir, folders),
    st.builds(Mkdir, folders),
    st.builds(Rmdir, folders),
    st.builds(RenameFolder, folders, folders),
    st.builds(
        SetAttributes, handles, st.sampled_from([None, 0o600, 0o755]), st.sampled_from([None, 1, 10**9])
    ),
    st.builds(Kill, programs),
    st.builds(AddThere, paths, sizes),
    st.builds(ReplaceThere, handles, sizes),
    st.builds(DeleteThere, handles),
    st.builds(TakeAway, handles),
    st.builds(Retitle, st.sampled_from(ARTICLES), st.booleans()),
    st.builds(
        RefusedSave,
        paths,
        sizes,
        st.sampled_from(sorted(REFUSALS)),
        st.booleans(),
        st.sampled_from(["retry", "replace", "discard", "leave"]),
    ),
    st.builds(InterruptedSave, paths, sizes, st.sampled_from([0.0, 0.1, 0.5, 1.0, 1.5, 2.0, 3.0])),
    st.builds(RemoveArticle, st.sampled_from(ARTICLES)),
    st.builds(Sleep, seconds),
    st.builds(Check),
    st.builds(
        Trouble,
        st.sampled_from(sorted(REQUESTS)),
        st.integers(0, len(ACTIONS) - 1),
        st.sampled_from([1, 2, 1000]),
        st.integers(0, 2),
    ),
    st.builds(NetworkDown),
    st.builds(TroubleEnds),
    st.builds(Crash, st.booleans()),
    st.builds(Unmount, st.sampled_from([60.0, 1.0])),
)

#: Lists that are long, and shrink to short ones: None is no operation.
operation_lists: st.SearchStrategy[list[Operation]] = st.lists(
    st.none() | operation, min_size=LENGTH, max_size=LENGTH
).map(lambda steps: [step for step in steps if step is not None])
