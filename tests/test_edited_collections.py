"""A published collection that was changed since says so, in process: no field of Figshare's tells it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from inprocess import BASE, World, open_world, restart
from trio.testing import MockClock

from figfs.namespace.attributes import open_attributes
from figfs.namespace.nodes import Container, Key, Kind
from figfs.sandbox.app import open_sandbox
from figfs.sandbox.state import Sandbox

C, NUMBER = "collections/selected", 6000001
RADAR = 20000013


@pytest.fixture
async def sandbox(clock: MockClock) -> AsyncIterator[Sandbox]:
    async with open_sandbox(base_url=BASE) as sandbox:
        fields = {"title": "selected", "description": "Ice, and climate"}
        sandbox.store.update("collections", NUMBER, fields)
        yield sandbox


@pytest.fixture
async def w(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[World]:
    """A mount in which the collection has been published: a while ago, for dates are whole seconds."""
    async with open_world(tmp_path / "mount", sandbox=sandbox) as world:
        await publish(world)
        date = "2024-06-01T00:00:00Z"
        sandbox.store.update("collections", NUMBER, {"modified": date})
        sandbox.store.run(
            "UPDATE collection_versions SET document = json_set(document, '$.modified', ?)", date
        )
        yield world


async def ask(world: World, command: str, **request: object) -> dict[str, Any]:
    lines: list[Mapping[str, object]] = []

    async def send(line: Mapping[str, object]) -> None:
        lines.append(line)

    await world.parts.items.table()[command]({"command": command, "path": C, **request}, send)
    return dict(lines[-1])


async def publish(world: World) -> None:
    listed = await ask(world, "check")
    assert listed["may_be_published"], listed
    assert (await ask(world, "publish", stamp=listed["stamp"]))["seen"]


async def status(world: World, path: str = C) -> str:
    return world.fs.getxattr((await world.node(path)).inode, "user.figshare.status").decode()


async def write_metadata(world: World) -> None:
    node = await world.node(f"{C}/.figshare/metadata.json")
    handle = await world.fs.open_document(node.inode, 0o1001, 1)
    await world.fs.write(handle, 0, b'{"description": "Only ice"}')
    await world.fs.flush(handle)
    await world.fs.release(handle)


@pytest.mark.parametrize("change", ["join", "leave", "rename", "metadata"])
async def test_what_is_changed_here(w: World, change: str) -> None:
    """Says so at once, and also once the list is read anew; a publication ends it. No request for it."""
    assert await status(w) == "public"
    path = C
    if change == "join":
        await w.symlink("../../articles/Results of run 12", f"{C}/run")
    elif change == "leave":
        await w.unlink(f"{C}/{(await w.ls(C))[0]}")
    elif change == "rename":
        path = "collections/chosen"
        await w.rename(C, path)
    else:
        await write_metadata(w)
    w.wire.asked.clear()
    assert await status(w, path) == "public, edited"
    assert w.wire.asked == []
    await w.refreshed("collections")
    assert await status(w, path) == "public, edited"
    if path == C:
        await publish(w)
        assert await status(w) == "public"


async def test_the_next_mount_knows(sandbox: Sandbox, tmp_path: Path) -> None:
    """It is kept; a publication elsewhere ends it: the list shows another DOI then."""
    async with open_world(tmp_path / "mount", sandbox=sandbox) as w:
        await publish(w)
        await w.symlink("../../articles/Results of run 12", f"{C}/run")
    async with restart(w) as w:
        assert await status(w) == "public, edited"
        await elsewhere(w, "POST", "/publish")
        await w.refreshed("collections")
        assert await status(w) == "public"


async def elsewhere(w: World, method: str, path: str = "", body: Mapping[str, object] | None = None) -> None:
    """A request that no verb of this mount makes."""
    where = f"/account/collections/{NUMBER}{path}"
    await w.client.call(method, where, body=body, read=lambda answer: None)


@pytest.mark.parametrize(
    ("change", "requests"),
    [
        (None, 1),
        (("PATCH", "", {"description": "Only ice"}), 1),
        (("DELETE", f"/articles/{RADAR}"), 3),
    ],
)
async def test_what_is_changed_elsewhere(w: World, change: Any, requests: int) -> None:
    """``figfs info`` compares what its owner sees with what the public sees; the attribute has it then."""
    if change is not None:
        await elsewhere(w, *change)
    expected = "public" if change is None else "public, edited"
    await w.ls(C)
    w.wire.asked.clear()
    assert (await ask(w, "info"))["status"] == expected
    assert len(w.wire.asked) == 1 + requests, w.wire.asked
    assert await status(w) == expected


async def test_what_was_taken_back(w: World, sandbox: Sandbox) -> None:
    """Changed and changed back: the next version is begun; no comparison ends it, a publication does."""
    await w.symlink("../../articles/Results of run 12", f"{C}/run")
    await w.unlink(f"{C}/run")
    for date in ("2024-06-01T00:00:00Z", "2024-06-02T00:00:00Z"):
        sandbox.store.update("collections", NUMBER, {"modified": date})
        assert (await ask(w, "info"))["status"] == "public, edited"
    await publish(w)
    assert (await ask(w, "info"))["status"] == "public"


async def test_a_draft_is_a_draft(w: World) -> None:
    """However much of it is changed."""
    await w.mkdir("collections/new one")
    await w.rename("collections/new one", "collections/newer one")
    await w.symlink("../../articles/Results of run 12", "collections/newer one/run")
    assert await status(w, "collections/newer one") == "draft"


def test_a_table_of_an_earlier_figfs(tmp_path: Path) -> None:
    """It gets the column; what it has stays."""
    path = tmp_path / "attributes.db"
    with sqlite3.connect(path) as database:
        database.execute(
            "CREATE TABLE attributes (key TEXT PRIMARY KEY, mode INTEGER, mtime_ns INTEGER,"
            " atime_ns INTEGER, made INTEGER NOT NULL DEFAULT 0, inode INTEGER) WITHOUT ROWID"
        )
        database.execute("INSERT INTO attributes (key, mode) VALUES ('collection:7', 448)")
    database.close()
    for edited in ("", "1 x"):
        with open_attributes(path) as attributes:
            node = Container(Key(Kind.COLLECTION, 7), 1)
            attributes.apply(node)
            assert (node.mode, node.edited) == (0o700, edited)
            node.edited = "1 x"
            attributes.save(node)
