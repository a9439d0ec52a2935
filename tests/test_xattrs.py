"""Extended attributes: what is told, what is listed, what can be set. Never a request."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import pytest
from inprocess import A, World, errno_of, open_article, open_world, restart
from trio.testing import MockClock

from figfs.sandbox import articles

DATA = b"n,value\n1,2\n"
MD5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()


async def told(w: World, path: str, name: str) -> str:
    node = await w.node(path)
    asked = len(w.wire.asked)
    value = w.fs.getxattr(node.inode, f"user.figshare.{name}").decode()
    assert len(w.wire.asked) == asked
    return value


async def listed(w: World, path: str) -> dict[str, str]:
    """As ``getfattr -d`` shows them, without the prefix."""
    node = await w.node(path)
    asked = len(w.wire.asked)
    found = {
        name.removeprefix("user.figshare."): w.fs.getxattr(node.inode, name).decode()
        for name in w.fs.listxattr(node.inode)
    }
    assert len(w.wire.asked) == asked
    return found


def publish(w: World, article: int) -> None:
    """As on the web page, with all that is mandatory."""
    fields = {"description": "Calls.", "tags": ["frog"], "categories": [24002]}
    articles.update(w.sandbox, articles.own(w.sandbox, article), fields)
    articles.publish(w.sandbox, articles.own(w.sandbox, article))


async def test_a_file_before_and_after_its_upload(tmp_path: Path, clock: MockClock) -> None:
    """Nothing is told of what Figshare does not have; then its id, MD5, address and standing."""
    async with open_article(tmp_path) as (w, article):
        node, handle = await w.create(f"{A}/f.csv")
        await w.files.write(handle, 0, DATA)
        assert await listed(w, f"{A}/f.csv") == {}
        assert await told(w, f"{A}/f.csv", "state") == "pending"
        assert await told(w, A, "state") == "pending"
        await w.close(handle)
        assert await listed(w, f"{A}/f.csv") == {
            "id": str(w.rows(article)[0]["id"]),
            "url": f"http://127.0.0.1:1/ndownloader/files/{w.rows(article)[0]['id']}",
            "md5": MD5,
            "status": "draft",
        }
        assert await told(w, f"{A}/f.csv", "state") == "clean"
        assert await told(w, A, "state") == "clean"
        assert (await w.node(f"{A}/f.csv")) is node


async def test_items(tmp_path: Path, clock: MockClock) -> None:
    """Articles, projects and collections; a draft has no DOI, no version and no public page."""
    async with open_article(tmp_path) as (w, article):
        await w.refreshed(A)
        found = await listed(w, A)
        assert found["id"] == str(article)
        assert found["status"] == "draft"
        assert "doi" not in found
        assert "version" not in found
        assert found["url"].endswith(f"/account/articles/{article}")
        project = await w.mkdir("projects/a project")
        assert await listed(w, "projects/a project") == {"id": str(project.key.id), "status": "private"}
        collection = await w.mkdir("collections/a collection")
        assert (await listed(w, "collections/a collection"))["id"] == str(collection.key.id)
        assert await listed(w, "articles") == {}


async def test_a_published_article_and_its_edit(tmp_path: Path, clock: MockClock) -> None:
    """``public``, with DOI and version; a new file makes it ``public, edited`` at once, and is a draft."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/f.csv", DATA)
        publish(w, article)
        await w.refreshed(A)
        found = await listed(w, A)
        assert found["status"] == "public"
        assert found["version"] == "1"
        assert found["doi"] == f"10.6084/m9.figshare.{article}.v1"
        assert found["url"].endswith(f"/articles/_/{article}")
        assert (await listed(w, f"{A}/f.csv"))["status"] == "public"
        assert (await listed(w, f"{A}/f.csv"))["doi"] == found["doi"]
        w.wire.asked.clear()
        await w.save(f"{A}/g.csv", DATA * 2)
        assert await told(w, A, "status") == "public, edited"
        assert await told(w, f"{A}/g.csv", "status") == "draft"
        await w.refreshed(A)
        assert await told(w, A, "status") == "public, edited"
        assert await told(w, f"{A}/g.csv", "status") == "draft"
        assert "doi" not in await listed(w, f"{A}/g.csv")


async def test_a_deletion_is_an_edit(tmp_path: Path, clock: MockClock) -> None:
    """Of a published article, once it is carried out."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/f.csv", DATA)
        publish(w, article)
        await w.refreshed(A)
        await w.unlink(f"{A}/f.csv")
        await w.settled()
        assert await told(w, A, "status") == "public, edited"


async def test_what_can_be_set_and_removed(tmp_path: Path, clock: MockClock) -> None:
    """What a copy brings back is accepted, and changes nothing; all else is refused."""
    async with open_article(tmp_path) as (w, _):
        node = await w.save(f"{A}/f.csv", DATA)
        before = await listed(w, f"{A}/f.csv")
        for name, value in (("id", "17"), ("md5", "0" * 32), ("status", "public, edited"), ("version", "3")):
            w.fs.setxattr(node.inode, f"user.figshare.{name}", value.encode())
            w.fs.removexattr(node.inode, f"user.figshare.{name}")
        for name in before:
            w.fs.setxattr(node.inode, f"user.figshare.{name}", before[name].encode())
        assert await listed(w, f"{A}/f.csv") == before
        refused = [
            ("md5", b"x"),
            ("id", b""),
            ("status", b"mine"),
            ("state", b"clean"),
            ("key", b"x"),
            ("new", b""),
        ]
        for name, raw in refused:
            with errno_of(errno.EPERM):
                w.fs.setxattr(node.inode, f"user.figshare.{name}", raw)
        for name in ("state", "key", "verified", "new"):
            with errno_of(errno.EPERM):
                w.fs.removexattr(node.inode, f"user.figshare.{name}")
        with errno_of(errno.ENODATA):
            w.fs.getxattr(node.inode, "user.figshare.nothing")


async def test_refused_for_good(tmp_path: Path, clock: MockClock) -> None:
    """``failed:`` with the reason, as long as the bytes are parked; over a remount too."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/f.csv", DATA)
        w.refuse_uploads()
        with errno_of(errno.EDQUOT):
            await w.save(f"{A}/f.csv", DATA * 2)
        assert (await told(w, f"{A}/f.csv", "state")).startswith("failed: ")
        assert "quota exceeded" in await told(w, f"{A}/f.csv", "state")
        w.faults()
        async with restart(w) as again:
            assert (await told(again, f"{A}/f.csv", "state")).startswith("failed: ")
            await again.save(f"{A}/f.csv", DATA * 3)
            assert again.rows(article)[-1]["status"] == "available"


async def test_while_it_is_sent(tmp_path: Path, clock: MockClock) -> None:
    """``uploading``, with how much of it."""
    async with open_article(tmp_path, close_timeout=0) as (w, _):
        gate = w.wire.hold("PUT", "/upload/.*/3$")
        await w.save(f"{A}/f", bytes(4000))
        await gate.reached.wait()
        state = await told(w, f"{A}/f", "state")
        assert state.startswith("uploading ")
        assert state.endswith("%")
        gate.open()
        await w.settled()
        assert await told(w, f"{A}/f", "state") == "clean"


@pytest.mark.parametrize("text", ["\x1b[2J", "\u202e", "x" * 100_000])
async def test_hostile_values(tmp_path: Path, clock: MockClock, text: str) -> None:
    """What servers send never reaches a terminal raw, and has an end."""
    async with open_world(tmp_path / "state") as w:
        await w.mkdir(A)
        w.sandbox.store.run("UPDATE articles SET doi = ?", f"10.1/{text}")
        await w.refreshed("articles")
        doi = (await listed(w, A))["doi"]
        assert doi.isprintable()
        assert len(doi) <= 1000
