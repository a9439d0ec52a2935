"""Listings and what a directory makes of them: what is kept, what goes, what is asked, and how often.

The whole mount without FUSE on a sandbox; "elsewhere" is a second mount, or the sandbox's own tables.
"""

from __future__ import annotations

import errno
import logging
from pathlib import Path

import pytest
import trio
from inprocess import A, World, errno_of, open_article, open_world
from trio.testing import MockClock

from figfs.figshare import articles
from figfs.namespace.nodes import Container

OLD, NEW = b"old content", b"new content" * 300
DETAILS = r"/articles/\d+$"


def elsewhere(w: World, article: int, name: str, folder: str = "") -> int:
    """A file that comes to Figshare by another way; its id."""
    row = w.rows(article)
    taken = w.sandbox.store.take_ids("files", 1)[0]
    values = {
        "id": taken,
        "article_id": article,
        "name": name,
        "folder": folder,
        "size": 3,
        "link": None,
        "supplied_md5": "",
        "computed_md5": "c4ca4238a0b923820dcc509a6f75849b",
        "status": "available",
        "token": "",
        "part_size": 1,
        "completed": 1,
        "created": 0.0,
        "modified": "2024-01-01T00:00:00Z",
        "draft": 1,
        "public": 0,
        "pattern": 1,
    }
    w.sandbox.store.insert_all("files", [values])
    assert len(w.rows(article)) == len(row) + 1
    return taken


def removed_elsewhere(w: World, article: int, name: str) -> None:
    w.sandbox.store.run("DELETE FROM files WHERE article_id = ? AND name = ?", article, name)


# ---- how often is asked ------------------------------------------------------------


async def test_a_listing_is_asked_for_once_however_many_ask(tmp_path: Path, clock: MockClock) -> None:
    """Ten lookups at once in a container that nobody has listed: one request; later ones: none."""
    async with open_article(tmp_path) as (w, article):
        elsewhere(w, article, "f")
        node = await w.node(A)
        assert isinstance(node, Container)
        w.tree.expire(node)
        gate = w.wire.hold("GET", DETAILS)
        found: list[bool] = []

        async def look() -> None:
            found.append((await w.fs.lookup(node.inode, b"f")).name == "f")

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(look)
            await gate.reached.wait()
            gate.open()
        assert found == [True] * 10
        assert w.wire.count("GET", DETAILS) == 1
        await w.ls(A)
        assert w.wire.count("GET", DETAILS) == 1


async def test_a_reader_who_gives_up_leaves_the_listing_to_the_others(
    tmp_path: Path, clock: MockClock
) -> None:
    """The request that the first one caused goes on when that one is cancelled, and serves the second."""
    async with open_article(tmp_path) as (w, article):
        elsewhere(w, article, "f")
        node = await w.node(A)
        assert isinstance(node, Container)
        w.tree.expire(node)
        gate = w.wire.hold("GET", DETAILS)
        async with trio.open_nursery() as first:
            first.start_soon(w.fs.opendir, node.inode)
            await gate.reached.wait()
            first.cancel_scope.cancel()
        gate.open()
        assert await w.ls(A) == ["f"]
        assert w.wire.count("GET", DETAILS) == 1


async def test_a_listing_is_fresh_for_dir_timeout(tmp_path: Path, clock: MockClock) -> None:
    """What comes from elsewhere is seen after dir_timeout; before that no request is made."""
    async with open_article(tmp_path, dir_timeout=20) as (w, article):
        await w.refreshed(A)
        elsewhere(w, article, "f")
        w.wire.asked.clear()
        assert await w.ls(A) == []
        assert w.wire.count("GET", DETAILS) == 0
        await trio.sleep(21)
        assert await w.ls(A) == ["f"]


async def test_an_expiry_during_a_listing_counts(tmp_path: Path, clock: MockClock) -> None:
    """R23: the answer of a request that began before the expiry is not taken for fresh."""
    async with open_article(tmp_path) as (w, article):
        node = await w.node(A)
        assert isinstance(node, Container)
        w.tree.expire(node)
        gate = w.wire.hold("GET", DETAILS, carried_out=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.ls, A)
            await gate.reached.wait()
            elsewhere(w, article, "f")
            await trio.sleep(0.1)
            w.tree.expire(node)
            gate.open()
        assert await w.ls(A) == ["f"]


# ---- failures ------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 403, 404, 429])
async def test_a_listing_that_fails_keeps_the_last_one(
    tmp_path: Path, clock: MockClock, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Never empty, never ENOENT: what was known is shown, and the log says so."""
    async with open_article(tmp_path) as (w, _):
        node = await w.save(f"{A}/f", OLD)
        w.faults({"role": "api", "method": "GET", "path": DETAILS, "action": "status", "status": status})
        with caplog.at_level(logging.WARNING):
            assert await w.refreshed(A) == ["f"]
            assert await w.node(f"{A}/f") is node
            await trio.sleep(60)
        assert "cannot list /articles/data set" in caplog.text
        w.faults()
        assert await w.refreshed(A) == ["f"]


@pytest.mark.parametrize(("status", "number"), [(500, errno.EIO), (403, errno.EPERM), (401, errno.EACCES)])
async def test_with_no_known_listing_the_failure_is_the_answer(
    tmp_path: Path, clock: MockClock, status: int, number: int
) -> None:
    """The errno of the failure, not an empty directory; asked again only after a while; then it works."""
    async with open_world(tmp_path / "state") as w:
        w.faults({"role": "api", "method": "GET", "path": "/articles$", "action": "status", "status": status})
        with errno_of(number):
            await w.ls("articles")
        asked = w.wire.count("GET", "/account/articles$")
        for _ in range(20):
            with errno_of(number):
                await w.node("articles/x")
        assert w.wire.count("GET", "/account/articles$") == asked
        w.faults()
        await trio.sleep(10)
        assert await w.ls("articles") == []


async def test_articles_are_shown_where_projects_cannot_be_listed(tmp_path: Path, clock: MockClock) -> None:
    """R24: a server without projects."""
    async with open_article(tmp_path) as (w, _):
        w.faults({"role": "api", "path": "/account/projects", "action": "status", "status": 404})
        assert await w.refreshed("articles") == ["data set"]


# ---- merging ------------------------------------------------------------


async def test_nodes_keep_their_inode_numbers(tmp_path: Path, clock: MockClock) -> None:
    """Over listings that add and take away others; a name never changes because another item arrives."""
    async with open_article(tmp_path) as (w, article):
        for name in ("a", "b", "c"):
            elsewhere(w, article, name)
        await w.refreshed(A)
        before = {name: (await w.node(f"{A}/{name}")).inode for name in ("a", "c")}
        removed_elsewhere(w, article, "b")
        second = elsewhere(w, article, "a")
        assert await w.refreshed(A) == ["a", f"a [{second}]", "c"]
        assert {name: (await w.node(f"{A}/{name}")).inode for name in ("a", "c")} == before


async def test_folders_follow_their_files(tmp_path: Path, clock: MockClock) -> None:
    """A folder is there while a file is in it; one made here stays without."""
    async with open_article(tmp_path) as (w, article):
        elsewhere(w, article, "f", "a/b")
        await w.mkdir(f"{A}/made")
        assert await w.refreshed(A) == ["a", "made"]
        assert await w.ls(f"{A}/a/b") == ["f"]
        removed_elsewhere(w, article, "f")
        assert await w.refreshed(A) == ["made"]


async def test_a_folder_and_a_file_of_one_name(tmp_path: Path, clock: MockClock) -> None:
    """Figshare allows it: both are shown, under different names, each reachable."""
    async with open_article(tmp_path) as (w, article):
        elsewhere(w, article, "x")
        elsewhere(w, article, "inner", "x")
        names = await w.refreshed(A)
        assert len(names) == 2
        assert "x" in names
        assert await w.ls(f"{A}/x") == ["inner"]
        assert await w.refreshed(A) == names


async def test_pending_files_are_kept(tmp_path: Path, clock: MockClock) -> None:
    """A file only this machine has stays; a remote one of its name gets another name."""
    async with open_article(tmp_path) as (w, article):
        _, handle = await w.create(f"{A}/f")
        await w.files.write(handle, 0, NEW)
        other = elsewhere(w, article, "f")
        assert await w.refreshed(A) == ["f", f"f [{other}]"]
        assert await w.read(f"{A}/f") == NEW
        await w.close(handle)
        assert len(await w.refreshed(A)) == 2


async def test_a_listing_that_began_before_an_unlink_does_not_bring_the_name_back(
    tmp_path: Path, clock: MockClock
) -> None:
    """Neither during the grace nor after the deletion, when the answer is older than that."""
    async with open_article(tmp_path) as (w, _):
        await w.save(f"{A}/f", OLD)
        gate = w.wire.hold("GET", DETAILS, carried_out=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.refreshed, A)
            await gate.reached.wait()
            await w.unlink(f"{A}/f")
            await w.settled()
            gate.open()
        assert await w.ls(A) == []
        assert await w.refreshed(A) == []


async def test_a_listing_that_began_before_a_creation_does_not_take_it_away(
    tmp_path: Path, clock: MockClock
) -> None:
    """A file stored, and an article made, after the request began."""
    async with open_article(tmp_path) as (w, _):
        gate = w.wire.hold("GET", r"/articles(/\d+)?$", carried_out=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.refreshed, A)
            await gate.reached.wait()
            articles_node = await w.node("articles")
            assert isinstance(articles_node, Container)
            w.tree.expire(articles_node)
            nursery.start_soon(w.fs.opendir, articles_node.inode)
            await trio.sleep(1)
            await w.fs.mkdir(articles_node.inode, b"another", 0o755)
            article = articles_node.children["data set"]
            file, handle = w.fs.create(article.inode, b"f", 0o644, 1)
            await w.files.write(handle, 0, OLD)
            parent = file.parent
            await w.settler.settle(w.settler.local(file)).wait()
            gate.open()
        assert file.parent is parent
        w.files.release(handle)
        assert await w.ls(A) == ["f"]
        assert await w.ls("articles") == ["another", "data set"]


async def test_a_listing_that_began_before_a_rename_does_not_undo_it(
    tmp_path: Path, clock: MockClock
) -> None:
    """Of an article, whose title was changed after the request began."""
    async with open_article(tmp_path) as (w, _):
        await w.ls("articles")
        gate = w.wire.hold("GET", "/account/articles$", carried_out=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.refreshed, "articles")
            await gate.reached.wait()
            await w.rename(A, "articles/new title")
            gate.open()
        assert await w.ls("articles") == ["new title"]
        assert await w.refreshed("articles") == ["new title"]


async def test_two_articles_swap_their_titles_elsewhere(tmp_path: Path, clock: MockClock) -> None:
    """Both names are there, and each means the other article."""
    async with open_article(tmp_path) as (w, first):
        second = (await w.mkdir("articles/other set")).key.id
        before = {name: (await w.node(f"articles/{name}")).inode for name in ("data set", "other set")}
        await articles.update(w.client, first, title="other set")
        await articles.update(w.client, second, title="data set")
        await trio.sleep(1)
        assert await w.refreshed("articles") == ["data set", "other set"]
        after = {name: (await w.node(f"articles/{name}")).inode for name in ("data set", "other set")}
        assert after == {"data set": before["other set"], "other set": before["data set"]}


async def test_an_article_in_a_project_has_one_place(tmp_path: Path, clock: MockClock) -> None:
    """Whether ``GET /account/articles`` lists it too or not: it is in its project only."""
    async with open_article(tmp_path) as (w, _):
        await w.mkdir("projects/a project")
        await w.mkdir("projects/a project/inside")
        for both in (True, False):
            w.sandbox.settings.change({"list_project_articles": both})
            assert await w.refreshed("projects/a project") == ["inside"]
            assert await w.refreshed("articles") == ["data set"]


async def test_an_article_that_returns_is_the_same_directory(tmp_path: Path, clock: MockClock) -> None:
    """R25, R34: gone from one listing and back, while a shell is in it: same inode, and its files."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/f", OLD)
        node = await w.node(A)
        w.fs.remember(node)
        await trio.sleep(1)
        w.sandbox.store.run("UPDATE articles SET owner = owner + 1 WHERE id = ?", article)
        assert await w.refreshed("articles") == []
        with errno_of(errno.ESTALE):
            await w.fs.opendir(node.inode)
        w.sandbox.store.run("UPDATE articles SET owner = owner - 1 WHERE id = ?", article)
        assert await w.refreshed("articles") == ["data set"]
        assert (await w.node(A)).inode == node.inode
        assert await w.ls(A) == ["f"]
        assert await w.read(f"{A}/f") == OLD


async def test_unfinished_uploads_are_not_shown(tmp_path: Path, clock: MockClock) -> None:
    """Another mount is uploading: its file is seen when it is complete, not before."""
    async with (
        open_article(tmp_path) as (w, article),
        open_world(tmp_path / "elsewhere", sandbox=w.sandbox) as other,
    ):
        gate = other.wire.hold("PUT", "/upload/")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other.save, f"{A}/f", NEW)
            await gate.reached.wait()
            assert w.remote(article) == {"f": "created"}
            assert await w.refreshed(A) == []
            gate.open()
        assert await w.refreshed(A) == ["f"]
        assert await w.read(f"{A}/f") == NEW


async def test_nodes_go_when_the_kernel_lets_go(tmp_path: Path, clock: MockClock) -> None:
    """A removed file is known as long as the kernel holds it, then not any more."""
    async with open_article(tmp_path) as (w, article):
        elsewhere(w, article, "f")
        await w.refreshed(A)
        node = await w.node(f"{A}/f")
        w.fs.remember(node)
        w.fs.remember(node)
        removed_elsewhere(w, article, "f")
        await w.refreshed(A)
        assert w.fs.node(node.inode) is node
        w.fs.forget(node.inode, 1)
        assert w.fs.node(node.inode) is node
        w.fs.forget(node.inode, 1)
        with errno_of(errno.ESTALE):
            w.fs.node(node.inode)
