"""Who may have made a change from what: programs, their shells and their editors, against a sandbox. No
change is taken back by a copy of something older.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from inprocess import A, World, errno_of, open_article
from trio.testing import MockClock

from figfs.documents.entries import Seen, lasting
from figfs.dotfigshare.readings import LARGEST, MOST_BYTES, MOST_CONTENTS, MOST_PROCESSES, Readings
from figfs.errors import FigfsError
from figfs.namespace.nodes import Container
from figfs.openers import Process
from figfs.sandbox import sharing

META = f"{A}/.figshare/metadata.json"

#: Two terminals of one desktop, with what runs in them, and a service beside them.
DESKTOP, SHELL, JQ, CP, CP_2, VIM, OTHER_SHELL, OTHER_CP, INDEXER = range(100, 109)
PARENTS = {SHELL: DESKTOP, JQ: SHELL, CP: SHELL, CP_2: SHELL, VIM: SHELL, OTHER_SHELL: DESKTOP}
PARENTS |= {OTHER_CP: OTHER_SHELL}


def family_of(pid: int) -> tuple[Process, ...]:
    return ((pid, 7), *(family_of(PARENTS[pid]) if pid in PARENTS else ()))


class Editor:
    """Programs on one mount, by their ids."""

    def __init__(self, w: World, article: int) -> None:
        self.w = w
        self.article = article

    async def read(self, pid: int, path: str = META) -> bytes:
        handle = await self.w.fs.open_document((await self.w.node(path)).inode, os.O_RDONLY, pid)
        content = bytes(await self.w.fs.read(handle, 0, 1 << 20))
        await self.w.fs.release(handle)
        return content

    async def write(self, pid: int, content: bytes, path: str = META) -> None:
        inode = (await self.w.node(path)).inode
        handle = await self.w.fs.open_document(inode, os.O_WRONLY | os.O_TRUNC, pid)
        await self._end(handle, content)

    async def rename_over(self, pid: int, content: bytes, path: str = META) -> None:
        """As ``sed -i`` does."""
        beside = f"{path.rpartition('/')[0]}/sedAbCdEf"
        parent, name = await self.w.directory_of(beside)
        _, handle = self.w.fs.create(parent, name, 0o644, pid)
        await self._end(handle, content)
        try:
            await self.w.rename(beside, path)
        except (OSError, FigfsError):
            await self.w.unlink(beside)
            raise

    async def _end(self, handle: int, content: bytes) -> None:
        try:
            await self.w.fs.write(handle, 0, content)
            await self.w.fs.flush(handle)
        finally:
            await self.w.fs.release(handle)

    async def elsewhere(self, **fields: Any) -> None:
        """A change on the web page, which the next look shows."""
        self.w.sandbox.store.update("articles", self.article, fields)
        await self.look_again(A)

    async def look_again(self, path: str) -> None:
        """Nothing that is kept is fresh any more."""
        owner = await self.w.node(path)
        assert isinstance(owner, Container)
        self.w.fs._dot.forget(owner)

    def has(self, name: str) -> Any:
        return self.w.sandbox.store.value(f"SELECT {name} FROM articles WHERE id = ?", self.article)


@contextlib.asynccontextmanager
async def edited(directory: Path) -> AsyncIterator[Editor]:
    async with open_article(directory, family_of=family_of) as (w, article):
        yield Editor(w, article)


def changed(content: bytes, **fields: object) -> bytes:
    return json.dumps(json.loads(content) | fields).encode()


TAGS = {"tags": ["second"], "keywords": ["second"]}


@pytest.mark.parametrize("how", ["write", "rename_over"])
@pytest.mark.parametrize("between", [None, JQ, OTHER_CP, INDEXER])
async def test_two_edits_of_one_reading(
    tmp_path: Path, clock: MockClock, how: str, between: int | None
) -> None:
    """``jq … m > a; jq … m > b; cp a m; cp b m``: the second is ESTALE, whoever reads in between."""
    async with edited(tmp_path) as e:
        read = await e.read(JQ)
        write = getattr(e, how)
        await write(CP, changed(read, description="First"))
        if between is not None:
            await e.read(between)
        for writer in (CP_2, OTHER_CP):
            with errno_of(errno.ESTALE):
                await write(writer, changed(read, **TAGS))
        assert (e.has("description"), e.has("tags")) == ("First", "[]")
        await write(CP_2, changed(await e.read(JQ), **TAGS))
        assert (e.has("description"), e.has("tags")) == ("First", '["second"]')


async def test_an_editor_saves_again(tmp_path: Path, clock: MockClock) -> None:
    """Without reading in between, undoing what it did as well; until somebody else has changed it."""
    async with edited(tmp_path) as e:
        read = await e.read(VIM)
        for description in ("First", "Second", "", "Third"):
            await e.write(VIM, changed(read, description=description))
            await e.read(INDEXER)
            assert e.has("description") == description
        await e.write(CP, changed(await e.read(JQ), **TAGS))
        with errno_of(errno.ESTALE):
            await e.write(VIM, changed(read, description="Fourth"))
        assert (e.has("description"), e.has("tags")) == ("Third", '["second"]')


async def test_two_terminals(tmp_path: Path, clock: MockClock) -> None:
    """Both read, both save: the second is ESTALE, with the first still there; read again, it goes."""
    async with edited(tmp_path) as e:
        one, two = await e.read(VIM), await e.read(OTHER_CP)
        await e.write(VIM, changed(one, description="First"))
        with errno_of(errno.ESTALE):
            await e.write(OTHER_CP, changed(two, **TAGS))
        await e.write(OTHER_CP, changed(await e.read(OTHER_CP), **TAGS))
        assert (e.has("description"), e.has("tags")) == ("First", '["second"]')


@pytest.mark.parametrize("without", [(), ("modified_date", "created_date", "published_date")])
async def test_others_read_what_was_changed_meanwhile(
    tmp_path: Path, clock: MockClock, without: tuple[str, ...]
) -> None:
    """Neither an indexer nor somebody in another terminal makes an older reading a newer one."""
    async with edited(tmp_path) as e:
        read = json.loads(await e.read(JQ))
        mine = json.dumps({n: v for n, v in (read | TAGS).items() if n not in without}).encode()
        await e.elsewhere(description="Theirs", modified="2031-01-01T00:00:00Z")
        for reader in (INDEXER, OTHER_CP):
            await e.read(reader)
        with errno_of(errno.ESTALE):
            await e.write(CP, mine)
        assert (e.has("description"), e.has("tags")) == ("Theirs", "[]")


async def test_a_few_fields(tmp_path: Path, clock: MockClock) -> None:
    """Made by ``jq`` or by hand: compared with what the writer's shell was shown last."""
    async with edited(tmp_path) as e:
        await e.read(JQ)
        await e.elsewhere(tags='["theirs"]')
        await e.read(OTHER_CP)
        with errno_of(errno.ESTALE):
            await e.write(CP, json.dumps(TAGS).encode())
        await e.write(CP, b'{"description": "Ours"}')  # of which nothing has changed
        await e.read(JQ)
        await e.write(CP, json.dumps(TAGS).encode())
        assert (e.has("description"), e.has("tags")) == ("Ours", '["second"]')


async def test_what_is_kept_here_is_not_what_figshare_has(tmp_path: Path, clock: MockClock) -> None:
    """Written back as it was read, after somebody has changed it: not a success that changes nothing."""
    async with edited(tmp_path) as e:
        read = await e.read(JQ)
        e.w.sandbox.store.update("articles", e.article, {"description": "Theirs"})
        for write in (e.write, e.rename_over):
            with errno_of(errno.ESTALE):
                await write(CP, read)
        assert e.has("description") == "Theirs"


async def test_notes(tmp_path: Path, clock: MockClock) -> None:
    """Nothing in a note tells what it was made from: the process does, or else its shell's."""
    async with edited(tmp_path) as e:
        await e.w.mkdir("projects/prj")
        notes = "projects/prj/.figshare/notes"
        parent, name = await e.w.directory_of(f"{notes}/new")
        _, handle = e.w.fs.create(parent, name, 0o644, CP)
        await e._end(handle, b"line one\n")
        [name] = await e.w.ls(notes)
        path = f"{notes}/{name}"

        async def text() -> str:
            return str(e.w.sandbox.store.value("SELECT text FROM project_notes"))

        mine, piped = await e.read(VIM, path), await e.read(OTHER_SHELL, path)
        e.w.sandbox.store.run("UPDATE project_notes SET text = ?", "line one\nTHEIR LINE")
        await e.look_again("projects/prj")
        [name] = await e.w.ls(notes)
        path = f"{notes}/{name}"
        for reader in (INDEXER, JQ):
            assert b"THEIR" in await e.read(reader, path)
        for writer, content in ((VIM, mine), (OTHER_CP, piped)):
            with errno_of(errno.ESTALE):
                await e.write(writer, content + b"my line\n", path)
        assert await text() == "line one\nTHEIR LINE"
        # Read again, it goes; and again without, also when its name has changed with its words.
        again = await e.read(VIM, path)
        for line in (b"my line\n", b"another\n"):
            await e.write(VIM, b"new words " + again + line, path)
            [name] = await e.w.ls(notes)
            path = f"{notes}/{name}"
        assert await text() == "new words line one\nTHEIR LINE\nanother"
        with errno_of(errno.ESTALE):
            await e.write(CP, piped, path)


@pytest.mark.parametrize("how", ["write", "rename_over"])
async def test_a_note_is_saved_under_the_name_it_was_opened_by(
    tmp_path: Path, clock: MockClock, how: str
) -> None:
    """Its first words are in its name: an editor that changes them saves again, into the same note. One that
    is gone is gone.
    """
    async with edited(tmp_path) as e:
        await e.w.mkdir("projects/prj")
        notes = "projects/prj/.figshare/notes"
        for words in (b"line one\n", b"line two\n"):
            parent, name = await e.w.directory_of(f"{notes}/new")
            _, handle = e.w.fs.create(parent, name, 0o644, CP)
            await e._end(handle, words)
        path = f"{notes}/1 line one.txt"
        await e.read(VIM, path)
        for words in (b"first\n", b"second\n", b"third\n"):
            await getattr(e, how)(VIM, words, path)
            assert await e.w.ls(notes) == sorted([f"1 {words.decode().strip()}.txt", "2 line two.txt"])
            assert await e.read(INDEXER, path) == words
        await e.w.unlink(path)
        assert await e.w.ls(notes) == ["2 line two.txt"]
        for gone in (path, f"{notes}/1 second.txt"):
            with errno_of(errno.ENOENT):
                await e.w.node(gone)


@pytest.mark.parametrize("role", [sharing.COLLABORATOR, sharing.VIEWER])
async def test_what_is_anothers(tmp_path: Path, clock: MockClock, role: str) -> None:
    """A colleague's article in a shared project: it is there, and its metadata cannot be changed."""
    async with edited(tmp_path) as e:
        project = await e.w.mkdir("projects/prj")
        await e.w.mkdir("projects/prj/their set")
        assert isinstance(project.key.id, int)
        sharing.share(e.w.sandbox, project.key.id, role)
        await e.w.refreshed("projects")
        await e.w.refreshed("projects/prj")
        path = "projects/prj/their set/.figshare/metadata.json"
        new = changed(await e.read(JQ, path), title="Ours")
        mode = e.w.fs.attributes(await e.w.node(path)).mode
        if role == sharing.VIEWER:
            assert mode & 0o777 == 0o444
            with errno_of(errno.EACCES):
                await e.write(CP, new, path)
            return
        assert mode & 0o777 == 0o644
        with errno_of(errno.EPERM):
            await e.write(CP, new, path)
        assert b"another's" in await e.read(CP, path.replace("metadata.json", "last-error"))


async def test_a_change_without_an_answer(tmp_path: Path, clock: MockClock) -> None:
    """It may have been carried out, and that is what is said; made again, it is no conflict."""
    async with edited(tmp_path) as e:
        new = changed(await e.read(VIM), description="Ours")
        rule = {"role": "api", "method": "PATCH", "action": "status", "status": 503}
        e.w.faults(rule)
        with errno_of(errno.EIO):
            await e.write(VIM, new)
        e.w.faults()
        said = await e.read(VIM, META.replace("metadata.json", "last-error"))
        assert b"metadata.json may have been changed" in said
        await e.elsewhere(description="Ours")  # as if it had been
        await e.write(VIM, new)
        assert e.has("description") == "Ours"


# -- what is remembered ------------------------------------------------------------


def test_families() -> None:
    """Its own reading before its children's; those of the nearest relative before anybody's."""
    readings = Readings(is_alive=lambda process: True)
    readings.show("a", b"1", family_of(JQ))
    readings.show("a", b"2", family_of(OTHER_CP))
    readings.show("a", b"3", family_of(INDEXER))
    readings.show("b", b"4", family_of(JQ))
    assert readings.seen("a", family_of(JQ)) == Seen(b"1", (b"1", b"3", b"2"))
    assert readings.seen("a", family_of(CP)) == Seen(None, (b"1", b"3", b"2"))
    assert readings.seen("a", family_of(DESKTOP)) == Seen(None, (b"2", b"3", b"1"))
    assert readings.seen("a", ()) == Seen(None, (b"3", b"2", b"1"))
    readings.show("a", b"5", family_of(SHELL))
    readings.show("a", b"6", family_of(JQ))
    assert readings.seen("a", family_of(SHELL)).own == b"5"
    readings.wrote("a", b"7", family_of(CP))
    assert readings.seen("a", family_of(CP)) == Seen(b"7", (b"6", b"5", b"3", b"2", b"1"))
    assert readings.seen("a", family_of(JQ)).likeliest == b"6"
    readings.forget("a")
    assert readings.seen("a", family_of(JQ)) == Seen()
    assert readings.seen("a", family_of(JQ)).likeliest is None


def test_it_is_bounded() -> None:
    """Many who look do not make an editor forget what it has open; what is too large is not remembered."""
    readings = Readings(is_alive=lambda process: process == (VIM, 7))
    readings.show("a", b"open in an editor", ((VIM, 7),))
    for n in range(MOST_PROCESSES * 2):
        readings.show("a", b"%d" % n, ((1000 + n, 7),))
    seen = readings.seen("a", ((VIM, 7),))
    assert seen.own == b"open in an editor"
    assert len(seen.others) == MOST_CONTENTS + 1
    assert len(readings._documents["a"].own) <= MOST_PROCESSES + 1
    readings.show("b", bytes(LARGEST + 1), ((VIM, 7),))
    assert readings.seen("b", ((VIM, 7),)) == Seen()
    for n in range(MOST_CONTENTS * 2):
        readings.show(n, bytes([n]) * LARGEST, ((VIM, 7),))
    assert readings._documents.currsize <= MOST_BYTES


@pytest.mark.parametrize(
    ("path", "stays"),
    [
        ("metadata.json", "metadata.json"),
        ("notes/12 The stakes.txt", "notes/12"),
        ("notes/12.txt", "notes/12"),
        ("links/a b.json", "links/a b.json"),
    ],
)
def test_what_stays_of_a_path(path: str, stays: str) -> None:
    assert lasting(path) == stays
