"""``.figshare`` in process: nodes, handles and what becomes of writes, with documents that the test makes."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from inprocess import A, World, errno_of, open_article, open_world
from trio.testing import MockClock, wait_all_tasks_blocked

from figfs.documents.entries import Entry, Item, Seen
from figfs.dotfigshare.directories import NAME, item_of
from figfs.dotfigshare.documentfiles import FIRST, MOST_WRITTEN
from figfs.errors import Changed, Invalid, UnknownOutcome, Unreachable
from figfs.kept import Kept
from figfs.namespace.nodes import Container, DocumentNode, Key, Kind, LinkNode
from figfs.posix import Change

DOT = f"{A}/{NAME}"
META = f"{DOT}/metadata.json"
OLD, NEW = b'{"title": "old"}\n', b'{"title": "new"}\n'


class Fake:
    """Documents in memory. ``asked``: what was asked of it, in order; ``gate``: holds all that asks."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {
            "metadata.json": OLD,
            "citation.txt": b"Old.\n",
            "notes/1 a.txt": b"a\n",
        }
        self.asked: list[str] = []
        self.seen: list[Seen] = []
        self.items: set[Item] = set()
        self.failure: Exception | None = None
        self.reached = trio.Event()
        self.gate: trio.Event | None = None

    async def _ask(self, what: str) -> None:
        self.asked.append(what)
        self.reached.set()
        if self.gate is not None:
            await self.gate.wait()
        if self.failure is not None:
            raise self.failure

    def hold(self) -> trio.Event:
        self.reached, self.gate = trio.Event(), trio.Event()
        return self.gate

    def known(self, item: Item, directory: str) -> list[Entry]:
        return []

    async def entries(self, item: Item, directory: str) -> list[Entry]:
        await self._ask(f"list {directory}")
        self.items.add(item)
        if directory == "versions":
            return [Entry("1", "link", target="public/articles/7.v1")]
        if directory == "":
            return [
                Entry("metadata.json", "file", writable=True),
                Entry("citation.txt", "file"),
                Entry("notes", "directory", writable=True),
                Entry("versions", "directory"),
            ]
        return [
            Entry(path.removeprefix("notes/"), "file", writable=True, removable=True)
            for path in self.files
            if path.startswith("notes/")
        ]

    async def read(self, item: Item, path: str) -> bytes:
        content = self.files[path]
        await self._ask(f"read {path}")
        return content

    async def write(self, item: Item, path: str, content: bytes, seen: Seen) -> None:
        await self._ask(f"write {path}")
        self.seen.append(seen)
        self.files[path] = content

    async def create(self, item: Item, path: str, content: bytes) -> None:
        await self._ask(f"create {path}")
        self.files[f"notes/{len(self.files)} {content.decode().strip()}.txt"] = content

    async def remove(self, item: Item, path: str) -> None:
        await self._ask(f"remove {path}")
        del self.files[path]

    def count(self, verb: str) -> int:
        return sum(each.startswith(verb) for each in self.asked)


@contextlib.asynccontextmanager
async def mounted(directory: Path, **more: Any) -> AsyncIterator[tuple[World, Fake]]:
    fake = Fake()
    async with open_article(directory, documents=fake, **more) as (w, _):
        yield w, fake
        assert w.local_state() == (0, 0)  # nothing of this is anybody else's


async def opened(w: World, path: str, flags: int = os.O_RDONLY) -> int:
    return await w.fs.open_document((await w.node(path)).inode, flags, 1)


async def close(w: World, handle: int) -> None:
    try:
        await w.fs.flush(handle)
    finally:
        await w.fs.release(handle)


async def read(w: World, path: str) -> bytes:
    handle = await opened(w, path)
    content = await w.fs.read(handle, 0, 1 << 20)
    await close(w, handle)
    return bytes(content)


async def write(w: World, path: str, content: bytes) -> None:
    handle = await opened(w, path, os.O_WRONLY | os.O_TRUNC)
    await w.fs.write(handle, 0, content)
    await close(w, handle)


async def make(w: World, path: str, content: bytes) -> None:
    parent, name = await w.directory_of(path)
    _, handle = w.fs.create(parent, name, 0o644, 1)
    try:
        await w.fs.write(handle, 0, content)
    finally:
        await close(w, handle)


# -- nodes ------------------------------------------------------------


async def test_the_items(tmp_path: Path, clock: MockClock) -> None:
    """Whose documents are asked for: kind, id, the project of an article in one."""
    fake = Fake()
    async with open_world(tmp_path / "state", documents=fake) as w:
        article = await w.mkdir("articles/one")
        project = await w.mkdir("projects/two")
        inside = await w.mkdir("projects/two/three")
        collection = await w.mkdir("collections/four")
        for path in ("articles/one", "projects/two", "projects/two/three", "collections/four"):
            await w.ls(f"{path}/{NAME}")
        await w.ls(NAME)
    assert fake.items == {
        Item("article", article.key.id, False),
        Item("project", project.key.id, False),
        Item("article", inside.key.id, False, project_id=project.key.id),
        Item("collection", collection.key.id, False),
        Item("root", 0, False),
    }


@pytest.mark.parametrize(
    ("kind", "number", "item"),
    [
        (Kind.PUBLIC_ARTICLE, 7, Item("article", 7, True)),
        (Kind.PUBLIC_ARTICLE, "7", Item("article", 7, True)),
        (Kind.PUBLIC_ARTICLE, "7.v3", Item("article", 7, True, version=3)),
        (Kind.PUBLIC_PROJECT, 8, Item("project", 8, True)),
        (Kind.PUBLIC_COLLECTION, 9, Item("collection", 9, True)),
        (Kind.FOLDER, "7/raw", None),
        (Kind.ARTICLES, 0, None),
    ],
)
def test_items_of_others(kind: Kind, number: Any, item: Item | None) -> None:
    assert item_of(Container(Key(kind, number), 2)) == item


async def test_what_is_public_cannot_be_written(tmp_path: Path, clock: MockClock) -> None:
    async with mounted(tmp_path) as (w, fake):
        await w.ls("articles")
        article = w.tree.container_for(Key(Kind.PUBLIC_ARTICLE, "7.v2"))
        w.tree.place(article, w.tree.articles, "public")
        dot = f"articles/public/{NAME}"
        node = await w.node(f"{dot}/metadata.json")
        assert stat.S_IMODE(w.fs.attributes(node).mode) == 0o444
        assert stat.S_IMODE(w.fs.attributes(await w.node(dot)).mode) == 0o555
        assert stat.S_IMODE(w.fs.attributes(await w.node(f"{dot}/notes")).mode) == 0o555
        for act in (
            lambda: opened(w, f"{dot}/metadata.json", os.O_WRONLY),
            lambda: make(w, f"{dot}/new", b"x"),
            lambda: make(w, f"{dot}/notes/new", b"x"),
            lambda: w.unlink(f"{dot}/notes/1 a.txt"),
            lambda: w.rename(f"{dot}/metadata.json", f"{dot}/other"),
        ):
            with errno_of(errno.EROFS):
                await act()
        link = await w.node(f"{dot}/versions/1")
        assert isinstance(link, LinkNode)
        assert link.target == "../../../../public/articles/7.v1"
        assert fake.count("write") == 0


async def test_a_folder_of_that_name_on_figshare(tmp_path: Path, clock: MockClock) -> None:
    """Somebody's data go first: they are neither hidden nor mixed up with documents."""
    async with mounted(tmp_path) as (w, _):
        article = await w.node(A)
        assert isinstance(article, Container)
        folder = w.tree.container_for(Key(Kind.FOLDER, f"{article.key.id}/{NAME}"))
        w.tree.place(folder, article, NAME)
        assert await w.node(DOT) is folder
        w.tree.detach(folder)
        assert (await w.node(DOT)).key.kind is Kind.DOT_FIGSHARE


async def test_an_article_that_is_gone(tmp_path: Path, clock: MockClock) -> None:
    """What is open of its documents reads on; what is looked up is not there any more."""
    async with mounted(tmp_path) as (w, _):
        dot = await w.node(DOT)
        document = await w.node(META)
        for node in (dot, document):
            w.fs.remember(node)
        handle = await opened(w, META)
        await w.rmdir(A)
        assert await w.fs.read(handle, 0, 100) == OLD
        await close(w, handle)
        with errno_of(errno.ESTALE):
            await w.fs.lookup(dot.inode, b"metadata.json")
        with errno_of(errno.ESTALE):
            await w.fs.opendir(dot.inode)
        with errno_of(errno.ESTALE):
            await w.fs.open_document(document.inode, os.O_RDONLY, 1)
        w.fs.attributes(dot)
        w.fs.attributes(document)


# -- reading ------------------------------------------------------------


async def test_ls_makes_nothing(tmp_path: Path, clock: MockClock) -> None:
    async with mounted(tmp_path) as (w, fake):
        assert await w.ls(DOT) == ["citation.txt", "metadata.json", "notes", "versions"]
        assert await w.ls(DOT)
        assert fake.asked == ["list "]
        node = await w.node(META)
        attributes = w.fs.attributes(node)
        assert (attributes.size, attributes.valid_for, attributes.name_valid_for) == (len(OLD), 0.0, 0.0)
        assert fake.asked == ["list ", "read metadata.json"]


async def test_made_once_for_all_who_ask(tmp_path: Path, clock: MockClock) -> None:
    """One request; who gives up leaves it to the others."""
    async with mounted(tmp_path) as (w, fake):
        await w.ls(DOT)
        gate = fake.hold()
        found: list[bytes] = []

        async def one() -> None:
            found.append(await read(w, META))

        async with trio.open_nursery() as nursery:
            impatient = trio.CancelScope()

            async def first() -> None:
                with impatient:
                    await one()

            nursery.start_soon(first)
            await fake.reached.wait()
            for _ in range(5):
                nursery.start_soon(one)
            await wait_all_tasks_blocked()
            impatient.cancel()
            await wait_all_tasks_blocked()
            gate.set()
        assert found == [OLD] * 5
        assert fake.count("read") == 1


async def test_kept_for_a_while(tmp_path: Path, clock: MockClock) -> None:
    """For dir_timeout; a handle keeps what it was opened with."""
    async with mounted(tmp_path, dir_timeout=60.0) as (w, fake):
        handle = await opened(w, META)
        before = w.fs.attributes(await w.node(META)).mtime_ns
        fake.files["metadata.json"] = NEW * 2
        assert await read(w, META) == OLD
        clock.jump(61.0)
        assert await read(w, META) == NEW * 2
        assert await w.fs.read(handle, 0, 100) == OLD
        await close(w, handle)
        attributes = w.fs.attributes(await w.node(META))
        assert attributes.size == len(NEW * 2)
        assert attributes.mtime_ns != before


async def test_what_fails_is_asked_again(tmp_path: Path, clock: MockClock) -> None:
    async with mounted(tmp_path) as (w, fake):
        await w.ls(DOT)
        fake.failure = Unreachable("no network")
        for _ in range(2):
            with errno_of(errno.EHOSTUNREACH):
                await w.node(META)
        fake.failure = None
        assert await read(w, META) == OLD


async def test_a_bug_in_a_document_is_an_error(
    tmp_path: Path, clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """EIO for who asked; nobody else notices."""
    async with mounted(tmp_path) as (w, fake):
        await w.ls(DOT)
        fake.failure = ZeroDivisionError("oops")
        with errno_of(errno.EIO):
            await w.node(META)
        assert "a bug in figfs" in caplog.text
        fake.failure = None
        assert await read(w, META) == OLD


async def test_what_began_before_a_change_is_not_kept(clock: MockClock) -> None:
    """A document whose making began before a change is not what is shown after it."""
    answers = iter([b"before", b"after"])
    gates = [trio.Event(), trio.Event()]
    waiting = iter(gates)

    async def fetch(key: str) -> bytes:
        answer = next(answers)
        await next(waiting).wait()
        return answer

    async with trio.open_nursery() as nursery:
        kept: Kept[str, bytes] = Kept(nursery=nursery, fetch=fetch, seconds=60.0, most=100, size_of=len)
        found: list[bytes] = []

        async def get() -> None:
            found.append(await kept.get("a"))

        nursery.start_soon(get)
        await wait_all_tasks_blocked()
        kept.drop(lambda key: key == "a")
        nursery.start_soon(get)
        await wait_all_tasks_blocked()
        gates[1].set()
        await wait_all_tasks_blocked()
        gates[0].set()
        await wait_all_tasks_blocked()
        assert found == [b"after", b"before"]
        assert kept.known("a") == b"after"


# -- writing ------------------------------------------------------------


async def test_one_write_a_change(tmp_path: Path, clock: MockClock) -> None:
    """A close that is not the last does nothing, a second one neither; what was written is read at once."""
    async with mounted(tmp_path) as (w, fake):
        node = await w.node(META)
        handle = await opened(w, META, os.O_RDWR | os.O_TRUNC)
        assert handle >= FIRST
        assert w.fs.inode_of(handle) == node.inode
        w.still_open.add(node.inode)
        await w.fs.flush(handle)  # as a shell that redirects
        assert w.fs.attributes(node).size == 0
        await w.fs.write(handle, 0, NEW[:5])
        await w.fs.flush(handle)
        await w.fs.write(handle, 5, NEW[5:])
        assert w.fs.attributes(await w.node(META)).size == len(NEW)
        assert await w.fs.read(handle, 0, 100) == NEW
        assert await read(w, META) == OLD
        assert fake.count("write") == 0
        w.still_open.clear()
        await w.fs.flush(handle)
        await w.fs.flush(handle)
        await w.fs.release(handle)
        assert fake.count("write") == 1
        assert await read(w, META) == NEW


async def test_what_a_child_holds_on_to(tmp_path: Path, clock: MockClock) -> None:
    """Without a last close of its opener, the release ends the change."""
    async with mounted(tmp_path) as (w, fake):
        node = await w.node(META)
        handle = await opened(w, META, os.O_WRONLY | os.O_TRUNC)
        await w.fs.write(handle, 0, NEW)
        w.still_open.add(node.inode)
        await w.fs.flush(handle)
        await w.fs.release(handle)
        assert fake.files["metadata.json"] == NEW


async def test_what_the_writer_had_been_shown(tmp_path: Path, clock: MockClock) -> None:
    """Nothing, what it has read last, what it has written last, or what it changes in part."""
    async with mounted(tmp_path) as (w, fake):
        await write(w, META, NEW)
        await read(w, META)
        await write(w, META, OLD)
        await write(w, META, NEW * 2)
        handle = await opened(w, META, os.O_WRONLY)
        await w.fs.write(handle, len(NEW * 2), b"more")
        await close(w, handle)
        assert fake.seen == [Seen(), Seen(NEW, (NEW,)), Seen(OLD, (NEW,)), Seen(NEW * 2)]
        assert fake.files["metadata.json"] == NEW * 2 + b"more"


async def test_the_same_again(tmp_path: Path, clock: MockClock) -> None:
    """No request for what is changed in part to what it was. What is written as a whole is always compared
    with what Figshare has by now.
    """
    async with mounted(tmp_path) as (w, fake):
        handle = await opened(w, META, os.O_RDWR)
        await w.fs.write(handle, 0, OLD[:3])
        await close(w, handle)
        await close(w, await opened(w, META, os.O_RDWR))
        assert fake.count("write") == 0
        await write(w, META, OLD)
        await make(w, f"{DOT}/new", OLD)
        await w.rename(f"{DOT}/new", META)
        assert fake.count("write") == 2
        assert "new" not in await w.ls(DOT)


@pytest.mark.parametrize(
    ("failure", "number"),
    [
        (Invalid("line 2: a title\x1b[2J of 2 characters"), errno.EINVAL),
        (Changed("changed elsewhere"), errno.ESTALE),
        (OSError(errno.EPERM, "not yours"), errno.EPERM),
        (Unreachable("no network"), errno.EHOSTUNREACH),
        (UnknownOutcome("answer lost"), errno.EIO),
    ],
)
async def test_what_is_refused(tmp_path: Path, clock: MockClock, failure: Exception, number: int) -> None:
    """The errno at the close; ``last-error`` has the reason, fit for a terminal, until one is accepted."""
    async with mounted(tmp_path) as (w, fake):
        assert await read(w, META) == OLD
        fake.failure = failure
        with errno_of(number):
            await write(w, META, NEW)
        fake.failure = None
        assert await read(w, META) == OLD
        assert "last-error" in await w.ls(DOT)
        text = (await read(w, f"{DOT}/last-error")).decode()
        is_known = not isinstance(failure, UnknownOutcome)
        assert f"metadata.json {'was not' if is_known else 'may have been'} changed" in text
        assert str(failure).rsplit("] ", 1)[-1].replace("\x1b", "␛") in text
        with errno_of(errno.EACCES):
            await opened(w, f"{DOT}/last-error", os.O_WRONLY)
        await write(w, META, NEW)
        assert "last-error" not in await w.ls(DOT)
        with errno_of(errno.ENOENT):
            await w.node(f"{DOT}/last-error")


@pytest.mark.parametrize("way", ["deadline", "cancelled"])
async def test_a_close_without_an_answer(tmp_path: Path, clock: MockClock, way: str) -> None:
    """Half of nothing stays: the document is asked for anew, ``last-error`` tells, the next write goes."""
    async with mounted(tmp_path) as (w, fake):
        handle = await opened(w, META, os.O_WRONLY | os.O_TRUNC)
        await w.fs.write(handle, 0, NEW)
        gate = fake.hold()
        if way == "deadline":
            with errno_of(errno.ETIMEDOUT):
                await w.fs.flush(handle)
        else:
            with trio.move_on_after(5.0) as scope:
                await w.fs.flush(handle)
            assert scope.cancelled_caught
        gate.set()
        await w.fs.release(handle)
        assert fake.count("write") == 1
        fake.files["metadata.json"] = b"{}"  # whatever came of it
        assert await read(w, META) == b"{}"
        assert b"metadata.json may have been changed" in await read(w, f"{DOT}/last-error")
        await write(w, META, NEW)
        assert fake.files["metadata.json"] == NEW


async def test_modes_and_times(tmp_path: Path, clock: MockClock) -> None:
    """Set on documents they are accepted and forgotten, on scratch files kept as long as those."""
    async with mounted(tmp_path) as (w, _):
        await make(w, f"{DOT}/x", b"x")
        for path, mode in ((META, 0o644), (f"{DOT}/x", 0o600)):
            node = await w.fs.setattr((await w.node(path)).inode, Change(mode=0o600, mtime_ns=5), None)
            assert stat.S_IMODE(w.fs.attributes(node).mode) == mode
        assert w.fs.attributes(await w.node(f"{DOT}/x")).mtime_ns == 5
        with errno_of(errno.EPERM):
            await w.fs.setattr((await w.node(DOT)).inode, Change(mode=0o700), None)
        with errno_of(errno.EOPNOTSUPP):
            w.fs.setxattr((await w.node(META)).inode, "user.a", b"b")


# -- scratch files ------------------------------------------------------------


async def test_scratch_files(tmp_path: Path, clock: MockClock) -> None:
    """Written, read, truncated, renamed, removed, in memory; renamed over a document they become it."""
    async with mounted(tmp_path) as (w, fake):
        await make(w, f"{DOT}/x", b"abcdef")
        node = await w.node(f"{DOT}/x")
        await w.fs.setattr(node.inode, Change(size=3), None)
        assert await read(w, f"{DOT}/x") == b"abc"
        await w.rename(f"{DOT}/x", f"{DOT}/y")
        assert (await w.node(f"{DOT}/y")) is node
        await make(w, f"{DOT}/x", b"other")
        await w.rename(f"{DOT}/x", f"{DOT}/y")
        assert await read(w, f"{DOT}/y") == b"other"
        await w.unlink(f"{DOT}/y")
        with errno_of(errno.ENOENT):
            await w.node(f"{DOT}/y")
        assert fake.count("write") + fake.count("create") == 0
        await make(w, f"{DOT}/x", NEW)
        await w.rename(f"{DOT}/x", META)
        assert fake.files["metadata.json"] == NEW
        assert await read(w, META) == NEW


async def test_a_document_stays(tmp_path: Path, clock: MockClock) -> None:
    """Renamed it is copied, as an editor's backup; it replaces no other, nor does a scratch file replace one
    that cannot be written.
    """
    async with mounted(tmp_path) as (w, _):
        await w.rename(META, f"{META}~")
        assert await read(w, f"{META}~") == await read(w, META) == OLD
        await write(w, META, NEW)
        await w.rename(f"{META}~", META)
        assert await read(w, META) == OLD
        for old, new in (
            (f"{DOT}/citation.txt", f"{DOT}/x"),
            (META, f"{DOT}/citation.txt"),
            (f"{DOT}/notes/1 a.txt", f"{DOT}/notes/b.txt"),
            (f"{DOT}/notes", f"{DOT}/x"),
        ):
            with errno_of(errno.EPERM):
                await w.rename(old, new)
        for path in (META, f"{DOT}/citation.txt", f"{DOT}/versions/1"):
            with errno_of(errno.EPERM):
                await w.unlink(path)
        await make(w, f"{DOT}/x", b"x")
        with errno_of(errno.EEXIST):
            await w.rename(f"{DOT}/x", META, 1)
        with errno_of(errno.EPERM):
            await make(w, f"{DOT}/versions/9", b"x")


async def test_the_most_that_is_written(tmp_path: Path, clock: MockClock) -> None:
    """ENOSPC, of scratch files and of documents together. Half of something becomes nothing: the close and
    the rename fail, too, until it is written anew.
    """
    async with mounted(tmp_path) as (w, fake):
        await make(w, f"{DOT}/x", bytes(MOST_WRITTEN - 10))
        handle = await opened(w, META, os.O_WRONLY | os.O_TRUNC)
        await w.fs.write(handle, 0, b"12345")
        with errno_of(errno.ENOSPC):
            await w.fs.write(handle, 5, b"1234567890")
        with errno_of(errno.ENOSPC):
            await close(w, handle)
        with errno_of(errno.ENOSPC):
            await make(w, f"{DOT}/notes/new", b"1234567890" * 2)
        with errno_of(errno.ENOSPC):
            await make(w, f"{DOT}/y", b"1234567890" * 2)
        with errno_of(errno.ENOSPC):
            await w.rename(f"{DOT}/y", META)
        assert fake.count("write") + fake.count("create") == 0
        assert await w.ls(f"{DOT}/notes") == ["1 a.txt"]
        await w.unlink(f"{DOT}/x")
        handle = await opened(w, f"{DOT}/y", os.O_WRONLY | os.O_TRUNC)
        await w.fs.write(handle, 0, bytes(MOST_WRITTEN))
        await close(w, handle)
        await w.rename(f"{DOT}/y", META)
        assert len(fake.files["metadata.json"]) == MOST_WRITTEN


async def test_new_notes(tmp_path: Path, clock: MockClock) -> None:
    """A new name becomes a note at the close, or renamed to what is nobody's temporary name."""
    async with mounted(tmp_path) as (w, fake):
        notes = f"{DOT}/notes"
        await make(w, f"{notes}/new", b"one")
        assert await w.ls(notes) == ["1 a.txt", "3 one.txt"]
        for name in ("4913", "sedabcdef", ".new.swp", "1 a.txt~"):
            await make(w, f"{notes}/{name}", b"two")
        assert fake.count("create") == 1
        await w.rename(f"{notes}/sedabcdef", f"{notes}/1 a.txt")
        assert fake.files["notes/1 a.txt"] == b"two"
        await w.rename(f"{notes}/1 a.txt~", f"{notes}/other")
        assert fake.count("create") == 2
        await w.unlink(f"{notes}/3 one.txt")
        assert "notes/3 one.txt" not in fake.files
        fake.failure = Invalid("too short")
        with errno_of(errno.EINVAL):
            await make(w, f"{notes}/short", b"x")
        fake.failure = None
        assert "short" not in await w.ls(notes)
        parent, name = await w.directory_of(f"{notes}/empty")
        node, handle = w.fs.create(parent, name, 0o644, 1)
        assert isinstance(node, DocumentNode)
        await close(w, handle)
        assert fake.asked[-1] == "create notes/empty"
