"""Public items across mounts: a version that was seen is never asked for again, the rest is shown at once and
refreshed behind; all of it without a network.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from inprocess import World, errno_of, example, open_world
from trio.testing import MockClock

from figfs.figshare import cards
from figfs.figshare.records import ArticleDetails
from figfs.namespace import listingstore
from figfs.namespace.nodes import Container, Key, Kind, LinkNode
from figfs.namespace.publicsources import is_fixed
from figfs.namespace.sources import Contents
from figfs.sandbox import articles, withdrawing
from figfs.sandbox.state import Sandbox
from figfs.verbs import publicitems

FROGS, RADAR = 20000005, 20000013
LATEST, FIRST, SECOND = (f"public/articles/{FROGS}{version}" for version in ("", ".v1", ".v2"))
OWN = "articles/Frog calls of the Atlantic forest"
DOI = f"public/doi/10.6084/m9.figshare.{FROGS}"
Mounting = Callable[[], contextlib.AbstractAsyncContextManager[World]]
DOCUMENTS = ("metadata.json", "md5sums", "ro-crate-metadata.json", "citation.txt", "citation.bib")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with example() as sandbox:
        yield sandbox


@pytest.fixture
def mount(sandbox: Sandbox, tmp_path: Path, clock: MockClock) -> Mounting:
    """A function that mounts anew; what was mounted before has been taken down by then."""
    return lambda: open_world(tmp_path / "mount", sandbox=sandbox)


async def document(w: World, path: str) -> bytes:
    handle = await w.fs.open_document((await w.node(path)).inode, os.O_RDONLY, 1)
    try:
        return bytes(await w.fs.read(handle, 0, 1 << 20))
    finally:
        await w.fs.flush(handle)
        await w.fs.release(handle)


async def documents(w: World, item: str) -> dict[str, bytes]:
    return {name: await document(w, f"{item}/.figshare/{name}") for name in DOCUMENTS}


async def target(w: World, path: str) -> str:
    node = await w.node(path)
    assert isinstance(node, LinkNode)
    return w.fs.readlink(node.inode).decode()


async def refreshed_behind(w: World, path: str) -> None:
    node = await w.node(path)
    assert isinstance(node, Container)
    while node.status.restored_at is not None:  # noqa: ASYNC110
        await trio.sleep(0.1)


# -- versions ------------------------------------------------------------


async def test_a_version_is_asked_for_once(mount: Mounting) -> None:
    """Neither in the next mount, nor for its documents, nor without a network."""
    async with mount() as w:
        seen = {path: await w.ls(path) for path in (FIRST, SECOND)}
        assert len(w.wire.asked) == 2
        shown = {path: await documents(w, path) for path in seen}
        assert len(w.wire.asked) == 2
        assert json.loads(shown[FIRST]["metadata.json"])["version"] == 1
        assert shown[FIRST]["md5sums"].count(b"\n") == 2
    for down in (False, True):
        async with mount() as again:
            again.wire.down = down
            assert {path: await again.ls(path) for path in seen} == seen
            assert {path: await documents(again, path) for path in seen} == shown
            assert (await again.file(f"{FIRST}/README.txt")).size == 20
            assert again.fs.getxattr((await again.node(FIRST)).inode, "user.figshare.version") == b"1"
            with errno_of(errno.ENOENT):
                await again.node(f"{FIRST}/annotations.csv")
            assert again.wire.asked == []


async def test_the_card_of_a_version(mount: Mounting) -> None:
    """``figfs info``: of a version without a request, of the latest one as it was while Figshare is away."""

    async def info(w: World, path: str) -> dict[str, Any]:
        said: list[dict[str, Any]] = []

        async def send(line: Mapping[str, object]) -> None:
            said.append(dict(line))

        await w.parts.items.table()["info"]({"path": path}, send)
        return said[0]

    async with mount() as w:
        seen = {path: await info(w, path) for path in (LATEST, f"{FIRST}/README.txt")}
        assert seen[LATEST]["license"] == "CC BY 4.0"
        assert await w.ls(FIRST)
        assert len(w.wire.asked) == 3  # the latest one is asked for its card, as ever
    async with mount() as again:
        again.wire.down = True
        assert {path: await info(again, path) for path in seen} == seen


async def test_by_way_of_the_article(mount: Mounting) -> None:
    """``.figshare/versions/<N>`` of the own one and of the public one."""
    async with mount() as w:
        for article in (OWN, LATEST):
            await w.ls(f"{article}/.figshare/versions")
        await w.ls(FIRST)
        await w.ls(LATEST)
    async with mount() as again:
        again.wire.down = True
        for article in (OWN, LATEST):
            link = await target(again, f"{article}/.figshare/versions/1")
            assert link.endswith(f"/{FIRST}")
            assert await again.ls(f"{article}/.figshare/versions") == ["1"]  # it was looked into
            with errno_of(errno.ENOENT):
                await again.node(f"{article}/.figshare/versions/2")
        assert again.wire.count("GET", "/versions/1") == 0


async def test_what_is_forgotten_is_not_asked_for_again(
    mount: Mounting, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with mount() as w:
        monkeypatch.setattr(publicitems, "MOST_KEPT", 1)
        for _ in range(3):
            for path in (FIRST, SECOND):
                assert await w.ls(path)
        assert len(w.wire.asked) == 2


async def test_what_an_embargo_hides_is_seen_when_it_ends(mount: Mounting) -> None:
    async with mount() as w:
        before = w.sandbox.store.rows("SELECT * FROM versions WHERE article_id = ?", FROGS)
        withdrawing.embargo_files(w.sandbox, FROGS, "2027-01-01T00:00:00")
        assert await w.ls(FIRST) == []
        for row in before:
            w.sandbox.store.run(
                "UPDATE versions SET document = ? WHERE article_id = ? AND version = ?",
                row["document"], FROGS, row["version"],
            )  # fmt: skip
    async with mount() as again:
        assert await again.ls(FIRST) == []
        await refreshed_behind(again, FIRST)
        assert await again.ls(FIRST) == ["README.txt", "calls_2019.zip"]


@pytest.mark.parametrize(
    ("name", "more", "fixed"),
    [
        ("7.v1", {}, True),
        ("7", {}, False),
        ("7.v1", {"settled": False}, False),  # a file may be missing: it is being assembled (quirks U11)
        ("7.v1", {"details": None}, False),
        ("7.v1", {"details": ArticleDetails(id=7, is_embargoed=True)}, False),
        ("7.v1", {"details": ArticleDetails(id=7, is_confidential=True)}, False),
    ],
)
def test_what_never_changes(name: str, more: dict[str, Any], fixed: bool) -> None:
    contents = Contents([], **({"details": ArticleDetails(id=7)} | more))
    assert is_fixed(Key(Kind.PUBLIC_ARTICLE, name), contents) is fixed


@pytest.mark.parametrize("how", ["read", "refresh"])
async def test_a_withdrawn_version_goes_when_it_is_missed(mount: Mounting, how: str) -> None:
    """README: what is kept of it is shown until a file of it turns out to be gone, or somebody asks anew."""
    async with mount() as w:
        await w.ls(FIRST)
        withdrawing.withdraw(w.sandbox, FROGS)
    async with mount() as again:
        assert await again.ls(FIRST) == ["README.txt", "calls_2019.zip"]
        if how == "read":
            with errno_of(errno.ESTALE):
                await again.read(f"{FIRST}/README.txt")
        else:
            again.tree.expire(await again.node(FIRST))  # type: ignore[arg-type]
        with errno_of(errno.ENOENT):
            await again.ls(FIRST)
    async with mount() as third:
        with errno_of(errno.ENOENT):
            await third.ls(FIRST)


async def test_what_is_damaged_on_disk_is_asked_for(mount: Mounting) -> None:
    async with mount() as w:
        await w.ls(FIRST)
    async with mount():
        pass
    with sqlite3.connect(w.directory / "listings.db") as database:
        database.execute("UPDATE listings SET contents = substr(contents, 1, length(contents) - 1)")
    database.close()
    async with mount() as again:
        assert await again.ls(FIRST) == ["README.txt", "calls_2019.zip"]
        assert len(again.wire.asked) == 1


async def test_those_looked_at_longest_ago_go(mount: Mounting, monkeypatch: pytest.MonkeyPatch) -> None:
    async with mount() as w:
        await w.ls(FIRST)
    async with mount() as again:
        await again.ls(SECOND)
    room = (w.directory / "listings.db").stat().st_size
    with sqlite3.connect(w.directory / "listings.db") as database:
        (room,) = database.execute("SELECT sum(size) FROM listings WHERE used NOT NULL").fetchone()
    database.close()
    monkeypatch.setattr(listingstore, "MOST_PUBLIC", room + 10)
    async with mount() as again:
        await again.ls(FIRST)
        await trio.sleep(1)
        await again.ls(f"public/articles/{RADAR}.v1")
    async with mount() as again:
        await again.ls(FIRST)
        assert again.wire.asked == []
        await again.ls(SECOND)
        assert again.wire.asked == [f"GET /v2/articles/{FROGS}/versions/2"]


# -- what can change ------------------------------------------------------------


async def test_a_public_item_is_shown_at_once_and_refreshed_behind(mount: Mounting) -> None:
    async with mount() as w:
        assert await w.ls(f"public/articles/{RADAR}") == ["radar.h5"]
    async with mount() as again:
        asked = again.wire.hold("GET", f"/articles/{RADAR}$")
        assert await again.ls(f"public/articles/{RADAR}") == ["radar.h5"]
        await asked.reached.wait()
        asked.open()
        await refreshed_behind(again, f"public/articles/{RADAR}")
        assert await again.ls(f"public/articles/{RADAR}") == ["radar.h5"]
        assert again.wire.count("GET", f"/articles/{RADAR}$") == 1


async def test_without_a_network_public_items_are_shown(mount: Mounting) -> None:
    """Articles, collections, projects, and DOIs of them, also of one that does not tell the id."""
    async with mount() as w:
        w.sandbox.store.update("collections", 6000001, {"published": "2024-06-01T00:00:00Z", "version": 1})
        w.sandbox.store.update("collections", 6000001, {"doi": "10.6084/m9.figshare.c.6000001.v1"})
        w.sandbox.store.update("projects", 150001, {"published": "2024-06-01T00:00:00Z"})
        paths = (LATEST, "public/collections/6000001", "public/projects/150001")
        seen = {path: await w.ls(path) for path in paths}
        shown = await documents(w, LATEST)
        links = (DOI, f"{DOI}.v1", "public/doi/10.6084/m9.figshare.c.6000001")
        targets = {path: await target(w, path) for path in links}
        dates = {path: (await w.node(path)).remote_time_ns for path in paths}
    async with mount() as again:
        again.wire.down = True
        assert {path: await target(again, path) for path in links} == targets
        assert {path: await again.ls(path) for path in paths} == seen
        assert await documents(again, LATEST) == shown
        assert {path: (await again.node(path)).remote_time_ns for path in paths} == dates
        member = f"public/collections/6000001/{seen['public/collections/6000001'][0]}"
        assert await target(again, member) == f"../../articles/{RADAR}"
        with pytest.raises(Exception, match="no connection"):
            await again.node(f"public/articles/{FROGS}.v2")


async def test_a_doi_that_does_not_tell_the_id_is_found_on_disk(mount: Mounting) -> None:
    async with mount() as w:
        doi, other = "10.5555/frogs-of-99", f"public/doi/10.5555/frogs-of-{RADAR}"
        for row in w.sandbox.store.rows("SELECT version, document FROM versions WHERE article_id = ?", FROGS):
            document = json.dumps(json.loads(row["document"]) | {"doi": f"{doi}.v{row['version']}"})
            w.sandbox.store.run(
                "UPDATE versions SET document = ? WHERE article_id = ? AND version = ?",
                document, FROGS, row["version"],
            )  # fmt: skip
        w.sandbox.store.update("articles", FROGS, {"doi": doi})
        w.sandbox.store.update("articles_index", FROGS, {"doi": doi})
        assert await target(w, f"public/doi/{doi}") == f"../../articles/{FROGS}"
    async with mount() as again:
        again.wire.down = True
        assert await target(again, f"public/doi/{doi}") == f"../../articles/{FROGS}"
        with pytest.raises(Exception, match="no connection"):
            await again.node(other)


async def test_a_withdrawn_article_is_shown_once_more_at_most(mount: Mounting) -> None:
    async with mount() as w:
        await w.ls(f"public/articles/{RADAR}")
        withdrawing.withdraw(w.sandbox, RADAR)
    async with mount() as again:
        await again.ls(f"public/articles/{RADAR}")
        node = await again.node(f"public/articles/{RADAR}")
        while node.parent is not None:  # noqa: ASYNC110
            await trio.sleep(0.1)
        with errno_of(errno.ENOENT):
            await again.node(f"public/articles/{RADAR}")
    async with mount() as third:
        with errno_of(errno.ENOENT):
            await third.node(f"public/articles/{RADAR}")


async def test_what_was_published_here_is_never_shown_as_it_was(mount: Mounting) -> None:
    """Kept before; killed right after it was published."""
    async with mount() as w:
        await w.ls(LATEST)
        await w.save(f"{OWN}/new.txt", b"new")
        await w.settled()
        await cards.publish(w.client, "article", FROGS)
    async with mount() as again:
        assert "new.txt" in await again.ls(LATEST)
        again.wire.down = True
        assert again.wire.count("GET", f"/articles/{FROGS}$") == 1
    assert articles.public_version(w.sandbox, FROGS)["version"] == 3
