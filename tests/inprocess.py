"""One mount without FUSE, put together as ``figfs/mount.py`` does it, on a sandbox in the same process.

``open_world`` gives a ``World``: the file system's parts, the sandbox behind them, and the ``Wire`` between,
which counts requests and can hold any of them before or after it is carried out: tests order events and do
not sleep. ``restart`` is a second mount over the same state directory and sandbox.

Time: ``fast_clock`` (Trio's mock clock, many times faster than the wall's). No autojump: hashing and disk
calls run in threads, which an autojump clock takes for idleness.
"""

from __future__ import annotations

import contextlib
import dataclasses
import email.utils
import itertools
import re
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock

from figfs.assembly import Parts, assemble
from figfs.content.openfiles import OpenFiles
from figfs.content.settling import Settler
from figfs.documents.entries import Documents
from figfs.errors import FigfsError
from figfs.figshare.accounts import get_account
from figfs.figshare.client import Client, open_client
from figfs.filesystem import FileSystem
from figfs.namespace.attributes import open_attributes
from figfs.namespace.listings import Listings
from figfs.namespace.listingstore import open_listing_store
from figfs.namespace.nodes import Container, FileNode, Key, Kind, Node
from figfs.namespace.tree import Tree
from figfs.openers import Process
from figfs.sandbox.app import make_app, open_sandbox
from figfs.sandbox.state import Sandbox
from figfs.settings import Token
from figfs.writing.journal import Journal, open_journal
from figfs.writing.uploader import Uploader

BASE = "http://127.0.0.1:1"  # never connected to
RATE = 25.0  #: seconds of the mock clock in one of the wall's
GRACE = 5.0
TIMEOUT = 250.0  #: of the mock clock (10 of the wall's): a test that takes longer hangs


def fast_clock() -> MockClock:
    return MockClock(rate=RATE)


@dataclasses.dataclass(eq=False)
class Gate:
    """Holds requests. ``reached`` is set when one waits; ``open`` lets it and all later ones pass."""

    method: str
    path: re.Pattern[str]
    carried_out: bool  #: whether the server acts before the answer is held
    reached: trio.Event = dataclasses.field(default_factory=trio.Event)
    opened: trio.Event = dataclasses.field(default_factory=trio.Event)

    def open(self) -> None:
        self.opened.set()


class Wire(httpx.AsyncBaseTransport):
    """The network between the client and the sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._transport = httpx.ASGITransport(app=make_app(sandbox))
        self._clock = sandbox.clock
        self._gates: list[Gate] = []
        self.down = False  #: no connections
        self.asked: list[str] = []  #: ``METHOD path`` of every request, in order

    def hold(self, method: str, path: str, *, carried_out: bool = False) -> Gate:
        gate = Gate(method, re.compile(path), carried_out)
        self._gates.append(gate)
        return gate

    def count(self, method: str, path: str) -> int:
        pattern = re.compile(path)
        return sum(
            line.partition(" ")[0] == method and pattern.search(line.partition(" ")[2]) is not None
            for line in self.asked
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.asked.append(f"{request.method} {path}")
        if self.down:
            raise httpx.ConnectError("the network is down", request=request)
        gates = [gate for gate in self._gates if gate.method == request.method and gate.path.search(path)]
        await self._wait(gates, carried_out=False)
        try:
            response = await self._transport.handle_async_request(request)
        except ConnectionAbortedError as exc:  # a fault of the sandbox: the connection is dropped
            raise httpx.ReadError(str(exc), request=request) from exc
        # As an HTTP server does it, which is not there.
        response.headers.setdefault("Date", email.utils.formatdate(self._clock.time(), usegmt=True))
        await self._wait(gates, carried_out=True)
        return response

    @staticmethod
    async def _wait(gates: list[Gate], *, carried_out: bool) -> None:
        for gate in gates:
            if gate.carried_out is carried_out:
                gate.reached.set()
                await gate.opened.wait()


@dataclasses.dataclass(kw_only=True)
class World:
    """A mount's parts, as ``mount.py`` names them, and what is behind them."""

    sandbox: Sandbox
    wire: Wire
    client: Client
    journal: Journal
    parts: Parts
    directory: Path
    services: trio.Nursery
    still_open: set[int]  #: inodes that somebody has open for writing beside the one who closes

    @property
    def fs(self) -> FileSystem:
        return self.parts.filesystem

    @property
    def tree(self) -> Tree:
        return self.parts.tree

    @property
    def listings(self) -> Listings:
        return self.parts.listings

    @property
    def files(self) -> OpenFiles:
        return self.parts.files

    @property
    def settler(self) -> Settler:
        return self.parts.settler

    @property
    def uploader(self) -> Uploader:
        return self.parts.uploader

    @property
    def spool_directory(self) -> Path:
        return self.directory / "spool"

    def owed(self) -> int:
        return self.fs.owed()

    # -- as a program ------------------------------------------------------------

    async def node(self, path: str) -> Node:
        """What is at ``path``, looked up name by name as the kernel does. ``OSError``."""
        node: Node = self.tree.root
        for name in path.split("/"):
            node = await self.fs.lookup(node.inode, name.encode())
        return node

    async def file(self, path: str) -> FileNode:
        node = await self.node(path)
        assert isinstance(node, FileNode)
        return node

    async def directory_of(self, path: str) -> tuple[int, bytes]:
        parent, _, name = path.rpartition("/")
        return (await self.node(parent)).inode, name.encode()

    async def ls(self, path: str) -> list[str]:
        number = await self.fs.opendir((await self.node(path)).inode)
        try:
            return sorted(entry.name for entry in self.fs.readdir(number, 0))
        finally:
            self.fs.releasedir(number)

    async def refreshed(self, path: str) -> list[str]:
        """``ls`` of what Figshare has now."""
        node = await self.node(path)
        assert isinstance(node, Container)
        self.tree.expire(node)
        return await self.ls(path)

    async def mkdir(self, path: str) -> Container:
        parent, name = await self.directory_of(path)
        return await self.fs.mkdir(parent, name, 0o755)

    async def rmdir(self, path: str) -> None:
        await self.fs.rmdir(*await self.directory_of(path))

    async def unlink(self, path: str) -> None:
        await self.fs.unlink(*await self.directory_of(path))

    async def symlink(self, target: str, path: str) -> Node:
        """``ln -s target path``."""
        parent, name = await self.directory_of(path)
        return await self.fs.symlink(parent, name, target.encode())

    async def readlink(self, path: str) -> str:
        return self.fs.readlink((await self.node(path)).inode).decode()

    async def rename(self, old: str, new: str, flags: int = 0) -> None:
        await self.fs.rename(*await self.directory_of(old), *await self.directory_of(new), flags)

    async def create(self, path: str) -> tuple[FileNode, int]:
        """A new file, open for writing."""
        parent, name = await self.directory_of(path)
        await self.fs.confirm(parent)
        return self.fs.create(parent, name, 0o644, 1)

    async def open(self, path: str, flags: int = 0) -> int:
        inode = (await self.node(path)).inode
        if flags:
            await self.fs.confirm(inode)
        handle, _keep_cache = self.fs.open(inode, flags, 1)
        return handle

    async def close(self, handle: int) -> None:
        """``close(2)`` of the last descriptor. Raises what FLUSH raises."""
        try:
            await self.files.flush(handle)
        finally:
            self.files.release(handle)

    async def save(self, path: str, data: bytes) -> FileNode:
        """``cp``: create (or truncate) and write, then close."""
        parent, name = await self.directory_of(path)
        container = self.tree.container(parent)
        await self.listings.ensure_listed(container)
        await self.listings.confirm(container)
        present = self.tree.find(container, name.decode())
        if present is None:
            node, handle = self.fs.create(parent, name, 0o644, 1)
        else:
            assert isinstance(present, FileNode)
            node, (handle, _) = present, self.fs.open(present.inode, TRUNCATE, 1)
        await self.files.write(handle, 0, data)
        await self.close(handle)
        return node

    async def read(self, path: str) -> bytes:
        node = await self.file(path)
        handle, _ = self.fs.open(node.inode, 0, 1)
        try:
            return await self.files.read(handle, 0, node.size + 1)
        finally:
            self.files.release(handle)

    async def settled(self) -> None:
        """Wait until nothing is owed, graces included."""
        while self.owed():  # noqa: ASYNC110 (there is no event for "nothing is owed")
            await trio.sleep(0.1)

    # -- behind Figshare's back ------------------------------------------------------------

    def remote(self, article_id: object) -> dict[str, str]:
        """``folder/name`` -> status of all files of an article on Figshare; a second of a name: `` (2)``."""
        found: dict[str, str] = {}
        for row in self.rows(article_id):
            path = f"{row['folder']}/{row['name']}".lstrip("/")
            while path in found:
                path += " (2)"
            found[path] = row["status"]
        return found

    def rows(self, article_id: object) -> list[dict[str, Any]]:
        return self.sandbox.store.rows(
            "SELECT * FROM files WHERE article_id = ? AND draft ORDER BY id", article_id
        )

    def content(self, article_id: object, name: str) -> bytes:
        """Bytes of the newest file of that name on Figshare."""
        row = [row for row in self.rows(article_id) if row["name"] == name][-1]
        read = self.sandbox.blobs.opener(row["id"], pattern=bool(row["pattern"]), size=row["size"])
        return read(0, row["size"])

    def faults(self, *rules: dict[str, Any]) -> None:
        self.sandbox.faults.replace(list(rules))

    def refuse_uploads(self, status: int = 422, message: str = "quota exceeded", **more: Any) -> None:
        self.faults(
            {
                "role": "api",
                "method": "POST",
                "path": "/files$",
                "action": "status",
                "status": status,
                "body": {"message": message},
                **more,
            }
        )

    def local_state(self) -> tuple[int, int]:
        """Rows in the journal, files in the spool directory."""
        return len(self.journal.uploads()), len(list(self.spool_directory.iterdir()))


TRUNCATE = 0o1001  # O_WRONLY | O_TRUNC


@contextlib.asynccontextmanager
async def figshare(*, maximum_file_size: int | None = None) -> AsyncIterator[Sandbox]:
    """An empty sandbox that outlives mounts on it. Parts of 1000 bytes; patient, as its clock runs fast."""
    async with open_sandbox(seed="empty", base_url=BASE) as sandbox:
        sandbox.settings.change({"upload_timeout": 100.0, "presign_seconds": 1000, "part_size": 1000})
        if maximum_file_size is not None:
            sandbox.settings.change({"maximum_file_size": maximum_file_size})
        yield sandbox


@contextlib.asynccontextmanager
async def example() -> AsyncIterator[Sandbox]:
    """A sandbox with the example account."""
    async with open_sandbox(base_url=BASE) as sandbox:
        sandbox.settings.change({"presign_seconds": 1000})  # its clock runs fast
        yield sandbox


@contextlib.asynccontextmanager
async def open_world(
    directory: Path,
    *,
    sandbox: Sandbox | None = None,
    grace: float = GRACE,
    close_timeout: float = 60.0,
    dir_timeout: float = 60.0,
    maximum_file_size: int | None = None,
    search_limit: int = 200,
    rate: float = 0,
    timeout: float = TIMEOUT,
    is_killed: Callable[[int], bool] = lambda pid: False,
    pending_signal: Callable[[int], bool] = lambda pid: False,
    family_of: Callable[[int], tuple[Process, ...]] = lambda pid: ((pid, 0),),
    documents: Documents | None = None,
) -> AsyncIterator[World]:
    """A mount over ``directory``, on ``sandbox`` or a new empty one. It ends without waiting for anything.

    ``is_killed``, ``pending_signal``, ``family_of``: what ``openers.py`` tells of processes. ``documents``:
    what is in every ``.figshare``, instead of what the sandbox has.
    """
    async with contextlib.AsyncExitStack() as stack:
        if sandbox is None:
            sandbox = await stack.enter_async_context(figshare(maximum_file_size=maximum_file_size))
        wire = Wire(sandbox)
        client = await stack.enter_async_context(
            open_client(api=f"{BASE}/v2", token=Token(sandbox.token), rate=rate, transport=wire)
        )
        directory.mkdir(exist_ok=True)  # noqa: ASYNC240 (nobody waits)
        attributes = stack.enter_context(open_attributes(directory / "attributes.db"))
        journal = stack.enter_context(open_journal(directory / "journal.db"))
        store = stack.enter_context(open_listing_store(directory / "listings.db", owner="test"))
        account = await get_account(client)
        ticks = itertools.count(1_700_000_000_000_000_000, 1_000_000)
        async with trio.open_nursery() as services:
            still_open: set[int] = set()
            parts = assemble(
                client=client,
                account=account,
                attributes=attributes,
                journal=journal,
                spool_directory=directory / "spool",
                listing_store=store,
                nursery=services,
                uid=1000,
                gid=1000,
                umask=0o022,
                close_timeout=close_timeout,
                dir_timeout=dir_timeout,
                search_limit=search_limit,
                grace=grace,
                op_timeout=30.0,
                still_open=lambda pid, inode: inode in still_open,
                is_killed=is_killed,
                pending_signal=pending_signal,
                family_of=family_of,
                now_ns=lambda: next(ticks),
                documents=documents,
            )
            parts.resumer.start()
            for service in parts.services:
                services.start_soon(service)
            wire.asked.clear()
            with trio.fail_after(timeout):
                yield World(
                    sandbox=sandbox,
                    wire=wire,
                    client=client,
                    journal=journal,
                    parts=parts,
                    directory=directory,
                    services=services,
                    still_open=still_open,
                )
            services.cancel_scope.cancel()


def restart(world: World, **options: Any) -> contextlib.AbstractAsyncContextManager[World]:
    """Another mount over the same state and the same Figshare; the first has been closed by then."""
    return open_world(world.directory, sandbox=world.sandbox, **options)


def article_key(article_id: Any) -> Key:
    return Key(Kind.ARTICLE, article_id)


@contextlib.contextmanager
def errno_of(number: int) -> Iterator[None]:
    """The block fails with that errno, be it an ``OSError`` or a ``FigfsError``."""
    with pytest.raises((OSError, FigfsError)) as caught:
        yield
    assert caught.value.errno == number, repr(caught.value)


A = "articles/data set"  #: the article of ``open_article``


@contextlib.asynccontextmanager
async def open_article(directory: Path, **options: Any) -> AsyncIterator[tuple[World, int]]:
    """A world with one empty article, ``A``, and the article's id."""
    async with open_world(directory / "state", **options) as world:
        node = await world.mkdir(A)
        await world.refreshed("articles")  # as an earlier mount would have it on disk
        world.wire.asked.clear()
        assert isinstance(node.key.id, int)
        yield world, node.key.id
