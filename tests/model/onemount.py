"""A mount under test beside its reference: assembled in process, on a clock that jumps, reproducibly.

Disk calls that figfs puts into threads are made in place, a millisecond of the clock later: then nothing
depends on the machine's speed, and the clock may jump whenever all tasks wait.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import math
import os
import random
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol
from unittest import mock

import httpx
import inprocess
import trio
from reference import LOCAL, File, Reference
from trio.testing import MockClock

from figfs.errors import FigfsError
from figfs.namespace.nodes import Container, FileNode, Key, Kind
from figfs.sandbox.state import Sandbox

ARTICLES = ("aaa", "bbb")
GRACE = 5.0
HOLD_TIME = 300.0  #: settling.py: forgotten temporary files are uploaded after it
DISK_TIME = 0.001
#: What programs may see of trouble on the network.
TROUBLE = (errno.EIO, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.EBUSY)
AFTERMATH = 70.0  #: seconds after trouble in which a read may still fail
#: Seconds of the clock in which a close must return that needs no bytes of Figshare: its timeout, and some.
LONGEST_CLOSE = 60.0 + 90.0
LONGEST_WAIT = 3000.0  #: seconds of the clock in which all that is owed must be done once there is no trouble


MOST_STEPS = 30_000  #: of tasks at one point of time


class Difference(AssertionError):
    """The mount is not as the reference says."""


class Operation(Protocol):
    async def run(self, mount: Mount) -> None: ...


@dataclasses.dataclass(eq=False)
class Open:
    """A handle of a program."""

    number: int
    file: File
    program: int
    writable: bool
    wrote: bool = False


class ModelWire(inprocess.Wire):
    """The server goes on with a request whose client has gone, as real ones do."""

    def __init__(self, sandbox: Sandbox) -> None:
        super().__init__(sandbox)
        self.server = sandbox.background
        self.dead = False  #: the machine of the mount has crashed
        self.serving: set[trio.CancelScope] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        if self.dead:
            raise httpx.ConnectError("crashed", request=request)
        answer: list[httpx.Response | Exception] = []
        done = trio.Event()

        async def serve() -> None:
            with trio.CancelScope() as scope:
                self.serving.add(scope)
                try:
                    answer.append(await super(ModelWire, self).handle_async_request(request))
                except Exception as exc:  # noqa: BLE001 (it is the client's)
                    answer.append(exc)
                finally:
                    self.serving.discard(scope)
                    done.set()

        self.server.start_soon(serve)
        await done.wait()
        if not answer:
            raise httpx.ReadError("the server has crashed", request=request)
        if isinstance(answer[0], Exception):
            raise answer[0]
        return answer[0]


class Mount:
    """What operations work on."""

    def __init__(self, sandbox: Sandbox, directory: Path) -> None:
        self.sandbox = sandbox
        self.reference = Reference()
        self.handles: list[Open] = []
        self.directory = directory
        self.articles: dict[str, int] = {}
        self.log = Log()
        self.world: inprocess.World
        self.programs: trio.Nursery
        self.restarting = False  #: the session is over, another one follows
        self.sessions = 0
        self.abandoned: set[str] = set()  #: spool files of what was open when the machine crashed
        self.killed: set[int] = set()  #: programs
        self.interrupted: set[int] = set()  #: programs that a signal is to end
        self.left: set[int] = set()  #: rows that are parked for good
        self.titles = {article: article for article in ARTICLES}  #: that the articles have now
        self._busy = 0
        self._rules: list[dict[str, Any]] = []
        self._trouble_until = -math.inf

    # -- as the programs see it ------------------------------------------------------------

    def path(self, path: str) -> str:
        """Where the mount shows ``path``: while files in it are pending, an article keeps its old title."""
        article, slash, inside = path.partition("/")
        node = self.world.tree.by_key(Key(Kind.ARTICLE, self.articles.get(article, 0)))
        title = self.titles[article] if node is None or node.parent is None else node.name
        return f"articles/{title}{slash}{inside}"

    async def expect(self, number: int | None, what: Callable[[], Any]) -> Any:
        """Carry out ``what``: it must fail with ``number``, or succeed if that is None; its result.

        None also if trouble on the network has made it fail.
        """
        try:
            result = await what()
        except (OSError, FigfsError) as exc:
            if exc.errno != number and not (self.in_trouble and exc.errno in TROUBLE):
                raise Difference(f"{_errno(exc.errno)} ({exc}) instead of {_errno(number)}") from exc
            return None
        if number is not None:
            raise Difference(f"success instead of {_errno(number)}")
        return result

    def opened(self, number: int, file: File, program: int, *, writable: bool) -> Open:
        handle = Open(number, file, program, writable)
        self.handles.append(handle)
        file.opened += 1
        return handle

    def handle(self, index: int, *, writable: bool = False) -> Open | None:
        """One of the open handles, or None."""
        handles = [handle for handle in self.handles if handle.writable or not writable]
        return handles[index % len(handles)] if handles else None

    async def flush(self, handle: Open, *, last: bool) -> None:
        """``close()`` of one descriptor of ``handle``; ``last``: of the last one."""
        file, version, world = handle.file, handle.file.version, self.world
        other = any(
            o is not handle and o.file is file and o.writable and o.program == handle.program
            for o in self.handles
        )
        inode = _node_of(world, handle).inode
        (world.still_open.add if other else world.still_open.discard)(inode)
        file.may_be_kept()
        file.closed_in_trouble = file.closed_in_trouble or self.in_trouble
        local = world.files._handles[handle.number].file
        wrote = world.files._handles[handle.number].wrote
        try:
            with trio.move_on_after(LONGEST_CLOSE) as scope:
                await world.files.flush(handle.number)
            if scope.cancelled_caught and (local.spool is None or local.spool._read_base is None):
                raise Difference(f"close of {file.path} has not returned after {LONGEST_CLOSE} s")
        except (OSError, FigfsError) as exc:
            raise Difference(f"close of {file.path}: {_errno(exc.errno)} ({exc})") from exc
        finally:
            if last:
                world.files.release(handle.number)
                file.opened -= 1
                file.closed_at = trio.current_time()
        # The close of who has written nothing promises nothing of what others have.
        crashed = isinstance(world.wire, ModelWire) and world.wire.dead
        if not crashed and not other and not scope.cancelled_caught and (wrote or not file.data):
            file.is_kept(version, last=last)

    async def close(self, handle: Open, patience: float = 1e3) -> None:
        """``close()``, in the background if it takes longer than ``patience`` seconds."""
        self.handles.remove(handle)
        done = trio.Event()

        async def run() -> None:
            self._busy += 1
            try:
                await self.flush(handle, last=True)
            finally:
                self._busy -= 1
                done.set()

        self.programs.start_soon(run)
        with trio.move_on_after(patience):
            await done.wait()

    async def read(self, handle: Open) -> None:
        size = len(handle.file.data) + 1
        try:
            data = await self.expect(None, lambda: self.world.files.read(handle.number, 0, size))
        except Difference as exc:
            if handle.file.vanished and getattr(exc.__cause__, "errno", None) == errno.ESTALE:
                return
            raise
        if data is not None:
            self.compare(handle.file.path or "an unlinked file", bytes(data), handle.file.data)

    async def refreshed(self, path: str) -> None:
        """``figfs refresh``, a moment after the last listing."""
        await trio.sleep(DISK_TIME)
        await self.world.refreshed(path)

    async def is_stale(self, handle: Open) -> bool:
        """Whether somebody else has removed the file: then it takes no write."""
        if handle.file.vanished:
            await self.expect(errno.ESTALE, lambda: self.world.files.write(handle.number, 0, b"x"))
        return handle.file.vanished

    async def read_path(self, path: str) -> bytes:
        return bytes(await self.world.read(self.path(path)))

    def compare(self, path: str, found: bytes, expected: bytes) -> None:
        if found != expected:
            at = next((n for n, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), "the end")
            raise Difference(f"{path}: {len(found)} bytes, {len(expected)} expected; they differ at {at}")

    async def listing(self, directory: str, kind: type = FileNode) -> list[str]:
        """Names of the files, or of the folders."""
        node = await self.world.node(self.path(directory))
        number = await self.world.fs.opendir(node.inode)
        try:
            found = self.world.fs.readdir(number, 0)
            return sorted(entry.name for entry in found if isinstance(entry.node, kind))
        finally:
            self.world.fs.releasedir(number)

    async def folders(self) -> list[str]:
        """All of them."""
        found, todo = [], list(ARTICLES)
        while todo:
            directory = todo.pop()
            inside = [f"{directory}/{name}" for name in await self.listing(directory, Container)]
            found += inside
            todo += inside
        return found

    async def compare_attributes(self, path: str) -> None:
        file, node = self.reference.files[path], await self.world.node(self.path(path))
        shown = self.world.fs.attributes(node)
        if file.mode is not None and shown.mode & 0o777 != file.mode:
            raise Difference(f"{path} has the mode {shown.mode:o}, {file.mode:o} was set")
        if file.mtime_ns is not None and shown.mtime_ns != file.mtime_ns:
            raise Difference(f"{path} has the time {shown.mtime_ns}, {file.mtime_ns} was set")

    # -- trouble ------------------------------------------------------------

    @property
    def in_trouble(self) -> bool:
        return trio.current_time() < self._trouble_until

    def trouble(self, rule: dict[str, Any]) -> None:
        self._rules.append(rule)
        self._trouble_until = math.inf
        self.sandbox.faults.replace(self._rules)

    def network_down(self) -> None:
        self._trouble_until = math.inf
        self.world.wire.down = True

    def trouble_ends(self) -> None:
        if self._trouble_until == math.inf:
            self._rules.clear()
            self.sandbox.faults.replace([])
            self.world.wire.down = False
            self._trouble_until = trio.current_time() + AFTERMATH

    # -- all in all ------------------------------------------------------------

    async def quiet(self) -> None:
        """No trouble, no handle is open, no program at work, no temporary name held, nothing owed."""
        self.trouble_ends()
        while self.handles:
            await self.close(self.handles[0])
        await self.until(lambda: not self._busy, "a program waits in close")
        await trio.sleep(2 * HOLD_TIME)
        await self.until(lambda: not self.world.owed(), "something is owed")

    async def until(self, condition: Callable[[], bool], otherwise: str) -> None:
        """Wait for what must come to be; there is no event for it."""
        give_up = trio.current_time() + LONGEST_WAIT
        while not condition():
            if trio.current_time() > give_up:
                raise Difference(f"after {LONGEST_WAIT} s {otherwise}")
            await trio.sleep(1)

    async def check(self) -> None:
        """Figshare holds the files of the reference, once each, and nothing else; so does the mount."""
        await self.quiet()
        expected = sorted(
            (path, file.data)
            for path, file in self.reference.files.items()
            if file.data and not is_local(path)
        )
        found = sorted(self.stored())
        # What a file was before it was emptied stays on Figshare until there is content to replace it with,
        # and so does what it was renamed over; before it got the name of litter, for good: else its only
        # copy would end with the mount.
        local = [
            set(file.past) for path, file in self.reference.files.items() if not file.data or is_local(path)
        ]
        for stored in (Counter(found) - Counter(expected)).elements():
            past = next((past for past in local if stored in past), None)
            if past is not None:
                past.remove(stored)
                found.remove(stored)
        if found != expected:
            raise Difference(f"Figshare holds {_names(found)}, expected {_names(expected)}")
        for row in self.rows():
            if row["status"] != "available":
                raise Difference(f"{row['name']} is {row['status']}")
        for article in ARTICLES:
            await self.refreshed("articles")
            if self.path(article) != f"articles/{self.titles[article]}":
                raise Difference(f"{self.path(article)} should be {self.titles[article]}")
            await self.refreshed(self.path(article))
        if set(await self.folders()) != self.reference.folders:
            raise Difference(f"folders {await self.folders()}, expected {self.reference.folders}")
        for directory in (*ARTICLES, *self.reference.folders):
            await self.compare_listing(directory)
        for path, file in self.reference.files.items():
            self.compare(path, await self.read_path(path), file.data)
            await self.compare_attributes(path)
        kept = sum(is_local(path) or not file.data for path, file in self.reference.files.items())
        parked = {row.spool_name for row in self.world.journal.uploads() if row.row in self.left}
        if len(parked) != len(self.left):
            raise Difference(f"{len(self.left) - len(parked)} parked rows are lost")
        left = len(self.spooled() - self.abandoned - parked)
        if left > kept:
            raise Difference(f"{left - kept} spool files are left")
        self.reference.settled()

    async def compare_listing(self, directory: str) -> None:
        found, expected = await self.listing(directory), self.reference.names(directory)
        if found != expected:
            raise Difference(f"{directory} lists {found}, expected {expected}")

    def spooled(self) -> set[str]:
        return {path.name for path in self.world.spool_directory.iterdir()}

    def rows(self) -> list[dict[str, Any]]:
        return [row for article in self.articles.values() for row in self.world.rows(article)]

    def stored(self) -> Iterator[tuple[str, bytes]]:
        for title, article in self.articles.items():
            for row in self.world.rows(article):
                path = "/".join(part for part in (title, row["folder"], row["name"]) if part)
                yield path, self._bytes(row)

    def _bytes(self, row: dict[str, Any]) -> bytes:
        if row["status"] == "created":
            return b"not complete"
        return self.sandbox.blobs.opener(row["id"], pattern=False, size=row["size"])(0, row["size"])

    # -- sessions ------------------------------------------------------------

    async def begin(self) -> None:
        """After the start of the mount."""
        self.sessions += 1
        if self.restarting:
            self.restarting, self._busy = False, 0
            self.abandoned = self.spooled() - {row.spool_name for row in self.world.journal.uploads()}
            await self.recover()
            return
        for title in ARTICLES:
            node = await self.world.mkdir(self.path(title))
            assert isinstance(node.key.id, int)
            self.articles[title] = node.key.id
        for title in ARTICLES:
            await self.listing(title)  # from here on there is a last known listing

    async def crash(self, *, server_goes_on: bool) -> None:
        """The machine stops: what is on disk now is what the next mount finds."""
        wire = self.world.wire
        assert isinstance(wire, ModelWire)
        wire.dead = True
        state = self.directory.with_name(f"state{self.sessions}")
        shutil.copytree(self.directory, state)
        if not server_goes_on:
            for scope in wire.serving:
                scope.cancel()
        await self.until(lambda: not wire.serving, "the server is busy")
        self.directory = state
        self._end()

    async def unmount(self, patience: float) -> None:
        """All programs end, then the mount, which waits for uploads for ``patience`` seconds."""
        while self.handles:
            await self.close(self.handles[0])
        await self.until(lambda: not self._busy, "a program waits in close")
        await self.world.fs.drain(patience)
        for file in self.reference.files.values():
            file.sure = file.counts()
        self._end()

    def _end(self) -> None:
        self.handles.clear()
        if self.world.wire.down or any("role" not in rule for rule in self._rules):
            self.trouble_ends()  # a mount does not begin without Figshare
        self.restarting = True

    async def recover(self) -> None:
        """The first look after a restart: what is there must be as promised, and is the truth from now on."""
        if self._trouble_until == math.inf:
            await trio.sleep(20)
            self.trouble_ends()
        if self.in_trouble:
            await trio.sleep(AFTERMATH)
        # What is kept of listings may be older than what others have done.
        await self.world.ls("articles")
        await trio.sleep(1)
        await self.refreshed("articles")
        for article in ARTICLES:
            await self.world.ls(self.path(article))
            await trio.sleep(1)
            await self.refreshed(self.path(article))
        found = {}
        folders = set(await self.folders())
        for directory in (*ARTICLES, *sorted(folders)):
            for name in await self.listing(directory):
                path = f"{directory}/{name}"
                found[path] = await self.read_path(path)
        trouble = self.reference.explain(found) or self.reference.explain_folders(folders)
        if trouble is not None:
            raise Difference(f"after a restart: {trouble}")
        self.reference.become(found, folders)
        for path in self.reference.files:
            await self.compare_attributes(path)

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[None]:
        """One mount, from its start to its end."""
        opening = inprocess.open_world(
            self.directory,
            sandbox=self.sandbox,
            grace=GRACE,
            timeout=1e9,
            is_killed=lambda pid: pid in self.killed,
            pending_signal=lambda pid: pid in self.interrupted,
        )
        self.killed.clear()
        with mock.patch.object(inprocess, "Wire", ModelWire):
            async with opening as self.world, trio.open_nursery() as self.programs:
                yield
                self.programs.cancel_scope.cancel()


class Log(logging.Handler):
    """What figfs says of errors that must not be."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))

    def check(self) -> None:
        if self.lines:
            raise Difference("in the log: " + "\n".join(self.lines))


class Watch(trio.abc.Instrument):
    """Ends the run if tasks go on and on, at one point of time or over all."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self._now = 0.0
        self._steps = self._all = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        now = trio.current_time()
        self._steps = self._steps + 1 if now == self._now else 0
        self._now = now
        self._all += 1
        if self._steps > MOST_STEPS or self._all > 10 * MOST_STEPS:
            self.scope.cancel()


def run(
    operations: Sequence[Operation], skip: Callable[[Mount, Operation], bool] = lambda mount, operation: False
) -> None:
    """Carry out ``operations`` one after the other, but for those to ``skip``, and check at the end.

    Raises ``Difference``. The same list does the same every time.
    """
    random.seed(0)
    trio._core._run._r.seed(0)  # the order of tasks: as Trio's own plugin for Hypothesis does it
    try:
        with (
            _scratch() as directory,
            mock.patch("trio.to_thread.run_sync", _in_place),
            mock.patch("trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING", True),
        ):
            watch = Watch()
            clock = MockClock(autojump_threshold=0)
            trio.run(_run, list(operations), skip, directory, watch, clock=clock, instruments=[watch])
    except BaseExceptionGroup as group:
        raise _first(group) from None


async def _run(
    operations: list[Operation], skip: Callable[[Mount, Operation], bool], directory: Path, watch: Watch
) -> None:
    with watch.scope:
        await _sessions(operations, skip, directory)
    if watch.scope.cancelled_caught:
        raise Difference("a task turns round and round, or it takes too long")


async def _sessions(
    operations: list[Operation], skip: Callable[[Mount, Operation], bool], directory: Path
) -> None:
    async with inprocess.figshare() as sandbox:
        mount = Mount(sandbox, directory / "state")
        logging.getLogger("figfs").addHandler(mount.log)
        try:
            steps = iter(enumerate([*operations, Finally()]))
            while mount.sessions == 0 or mount.restarting:
                async with mount.session():
                    await mount.begin()
                    for number, operation in steps:
                        if not skip(mount, operation):
                            await _step(mount, number, operation)
                        if mount.restarting:
                            break
        finally:
            logging.getLogger("figfs").removeHandler(mount.log)


async def _step(mount: Mount, number: int, operation: Operation) -> None:
    try:
        await operation.run(mount)
        mount.log.check()
    except (Difference, OSError, FigfsError) as exc:
        exc.add_note(f"at step {number}: {operation!r}")
        raise


@dataclasses.dataclass(frozen=True)
class Finally:
    """The check at the end."""

    async def run(self, mount: Mount) -> None:
        await mount.check()


async def _in_place(function: Callable[..., Any], *args: Any, **_options: Any) -> Any:
    with trio.CancelScope(shield=True):  # as a thread that cannot be stopped
        await trio.sleep(DISK_TIME)
    return function(*args)


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    memory = "/dev/shm"  # fsync costs nothing there
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    for exc in group.exceptions:
        return _first(exc) if isinstance(exc, BaseExceptionGroup) else exc
    return group


def _node_of(world: inprocess.World, handle: Open) -> FileNode:
    return world.files._handles[handle.number].file.node


def is_local(path: str) -> bool:
    return path.endswith(LOCAL)


def _names(files: Sequence[tuple[str, bytes]]) -> str:
    return "; ".join(f"{path} ({len(data)} bytes)" for path, data in files) or "nothing"


def _errno(number: int | None) -> str:
    return "success" if number is None else errno.errorcode.get(number, str(number))
