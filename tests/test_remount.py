"""Listings that an earlier mount has kept: shown at once, refreshed behind, never the ground of a mistake."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import trio
from inprocess import TRUNCATE, A, World, errno_of, figshare, open_article, open_world, restart
from trio.testing import MockClock

from figfs.namespace import keeping
from figfs.namespace.keeping import affected
from figfs.namespace.nodes import Key, Kind

OLD, NEW = b"old content", b"the new content, which is longer"
ARTICLE = r"/account/articles/\d+$"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/account/articles", [(Kind.ARTICLES, 0)]),
        ("/account/articles/5", [(Kind.ARTICLE, 5)]),
        ("/account/articles/5/files/7", [(Kind.ARTICLE, 5)]),
        ("/account/articles/a%2Fb/publish", [(Kind.ARTICLE, "a/b"), (Kind.PUBLIC_ARTICLE, "a/b")]),
        ("/account/projects", [(Kind.PROJECTS, 0)]),
        ("/account/projects/3", [(Kind.PROJECT, 3), (Kind.PROJECTS, 0), (Kind.ARTICLES, 0)]),
        ("/account/projects/3/articles", [(Kind.PROJECT, 3)]),
        ("/account/projects/3/articles/5", [(Kind.PROJECT, 3), (Kind.ARTICLE, 5)]),
        ("/account/collections/4/articles/5", [(Kind.COLLECTION, 4)]),
        (
            "/account/collections/4/publish",
            [(Kind.COLLECTION, 4), (Kind.PUBLIC_COLLECTION, 4), (Kind.COLLECTIONS, 0), (Kind.ARTICLES, 0)],
        ),
        ("/account/institution/articles", []),
        ("/articles/5", []),
    ],
)
def test_what_a_request_changes(path: str, expected: list[tuple[Kind, object]]) -> None:
    assert affected(path) == {Key(kind, id_) for kind, id_ in expected}  # type: ignore[arg-type]


async def use_up(w: World) -> None:
    """The listings that are confirmed behind their first look are others."""
    assert w.listings._keeping is not None
    while w.listings._keeping.may_confirm():
        pass


async def refreshed_behind(w: World, path: str) -> None:
    node = await w.node(path)
    assert node is w.tree.by_key(node.key)
    while node.status.restored_at is not None:  # type: ignore[attr-defined]  # noqa: ASYNC110
        await trio.sleep(0.1)


async def test_a_remount_shows_the_tree_and_refreshes_it_behind(tmp_path: Path, clock: MockClock) -> None:
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, _article):
            await w.save(f"{A}/f", OLD)
            await w.refreshed("articles")
            await w.refreshed(A)
        async with restart(w) as w:
            lists = w.wire.hold("GET", "/account/(articles|projects|collections)")
            assert await w.ls("articles") == ["data set"]
            assert await w.ls(A) == ["f"]
            assert (await w.file(f"{A}/f")).size == len(OLD)
            assert w.fs.attributes(await w.node(f"{A}/f")).valid_for <= 1.0
            lists.open()
            await refreshed_behind(w, "articles")
            await refreshed_behind(w, A)
            assert w.wire.count("GET", ARTICLE) == 1
            assert w.fs.attributes(await w.node(f"{A}/f")).valid_for > 1.0


async def test_a_walk_through_what_is_known_asks_for_few(tmp_path: Path, clock: MockClock) -> None:
    async with figshare() as sandbox:
        async with open_world(tmp_path, sandbox=sandbox) as w:
            for number in range(20):
                await w.mkdir(f"articles/number {number}")
                await w.refreshed(f"articles/number {number}")
            await w.refreshed("articles")
        async with restart(w) as w:
            for name in await w.ls("articles"):
                await w.ls(f"articles/{name}")
            await refreshed_behind(w, "articles")
            assert w.wire.count("GET", ARTICLE) <= keeping.CONFIRMED_AT_ONCE


async def test_what_was_changed_elsewhere_between_is_seen_after_the_refresh(
    tmp_path: Path, clock: MockClock
) -> None:
    """A title, by the date in the list; a file, which leaves no date (quirks L14), by the look behind."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, _article):
            await w.refreshed(A)
            await w.mkdir("articles/other")
            await w.refreshed("articles/other")
            await w.refreshed("articles")
        async with open_world(tmp_path / "elsewhere", sandbox=sandbox) as elsewhere:
            await elsewhere.save(f"{A}/from elsewhere", NEW)
            await elsewhere.rename("articles/other", "articles/renamed")
        async with restart(w) as w:
            assert await w.ls("articles") == ["data set", "other"]
            assert await w.ls(A) == []
            await refreshed_behind(w, "articles")
            await refreshed_behind(w, A)
            assert await w.ls("articles") == ["data set", "renamed"]
            assert await w.ls(A) == ["from elsewhere"]
            assert await w.read(f"{A}/from elsewhere") == NEW


async def test_a_believed_listing_is_asked_again_after_the_timeout(tmp_path: Path, clock: MockClock) -> None:
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, _article):
            await w.refreshed(A)
        async with open_world(tmp_path / "elsewhere", sandbox=sandbox) as elsewhere:
            await elsewhere.save(f"{A}/from elsewhere", NEW)
        async with restart(w, dir_timeout=30.0) as w:
            await use_up(w)
            assert await w.ls(A) == []
            await trio.sleep(31)
            assert await w.ls(A) == ["from elsewhere"]


async def test_a_name_that_is_not_known_is_looked_for_before_it_is_denied(
    tmp_path: Path, clock: MockClock
) -> None:
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, _article):
            await w.refreshed(A)
        async with open_world(tmp_path / "elsewhere", sandbox=sandbox) as elsewhere:
            await elsewhere.save(f"{A}/from elsewhere", NEW)
        async with restart(w) as w:
            await use_up(w)
            assert await w.read(f"{A}/from elsewhere") == NEW
            with errno_of(errno.ENOENT):
                await w.node(f"{A}/nowhere")
            assert w.wire.count("GET", ARTICLE) == 1


async def test_an_old_listing_is_shown_and_refreshed_behind(
    tmp_path: Path, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, _article):
            await w.refreshed(A)
        monkeypatch.setattr(keeping, "TRUSTED", -1.0)
        async with restart(w) as w:
            await use_up(w)
            asked = w.wire.hold("GET", ARTICLE)
            assert await w.ls(A) == []
            assert await w.ls(A) == []
            await asked.reached.wait()
            asked.open()
            await refreshed_behind(w, A)


# -- what was changed here ------------------------------------------------------------


async def test_what_was_changed_here_is_asked_for_and_never_shown_as_it_was(
    tmp_path: Path, clock: MockClock
) -> None:
    """Kept before the upload, the deletion, the rename of the article; killed right after."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, _article):
            await w.save(f"{A}/old", OLD)
            await w.refreshed(A)
            await w.refreshed("articles")
            await w.save(f"{A}/new", NEW)
            await w.unlink(f"{A}/old")
            await w.settled()
            await w.rename(A, "articles/renamed")
        async with restart(w) as w:
            assert await w.ls("articles") == ["renamed"]
            assert await w.ls("articles/renamed") == ["new"]
            assert w.wire.count("GET", ARTICLE) == 1


async def test_a_listing_that_a_change_has_crossed_is_not_kept(tmp_path: Path, clock: MockClock) -> None:
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, _article):
            held = w.wire.hold("GET", ARTICLE, carried_out=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(w.refreshed, A)
                await held.reached.wait()
                await w.mkdir("articles/another")
                async with trio.open_nursery() as other:
                    other.start_soon(w.save, f"{A}/f", NEW)
                    await trio.sleep(1)
                    held.open()
        async with restart(w) as w:
            assert await w.ls(A) == ["f"]


async def test_without_figshare_what_was_stored_here_is_shown(tmp_path: Path, clock: MockClock) -> None:
    """After an orderly end: a new article, what was written into it, what was renamed, replaced, removed."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, _article):
            for name in ("stays", "goes", "moves", "changes"):
                await w.save(f"{A}/{name}", OLD)
            await w.refreshed(A)
            await w.mkdir("articles/new one")
            await w.save("articles/new one/first", NEW)
            await w.mkdir(f"{A}/folder")
            await w.rename(f"{A}/moves", f"{A}/folder/moved")
            await w.unlink(f"{A}/goes")
            await w.save(f"{A}/changes", NEW)
            await w.settled()
            w.listings.remember()
        async with restart(w) as w:
            w.wire.down = True
            assert await w.ls("articles") == ["data set", "new one"]
            assert await w.ls(A) == ["changes", "folder", "stays"]
            assert await w.ls(f"{A}/folder") == ["moved"]
            assert await w.ls("articles/new one") == ["first"]
            assert (await w.file(f"{A}/changes")).size == len(NEW)
            w.wire.down = False
            await trio.sleep(6)
            assert await w.ls(A) == ["changes", "folder", "stays"]
            for path, data in (("changes", NEW), ("folder/moved", OLD), ("stays", OLD)):
                assert await w.read(f"{A}/{path}") == data


async def test_without_figshare_what_was_changed_here_is_shown_as_it_was_known(
    tmp_path: Path, clock: MockClock
) -> None:
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, _article):
            await w.save(f"{A}/old", OLD)
            await w.refreshed(A)
            await w.save(f"{A}/new", NEW)
        async with restart(w) as w:
            await w.ls("articles")
            w.wire.down = True
            assert await w.ls(A) == ["old"]
            w.wire.down = False
            await trio.sleep(6)
            assert await w.ls(A) == ["new", "old"]


# -- what is changed on the ground of it ------------------------------------------------------------


async def elsewhere_newer(tmp_path: Path, w: World, sandbox: object) -> None:
    """``f`` is replaced by another mount."""
    async with open_world(tmp_path / "elsewhere", sandbox=sandbox) as elsewhere:  # type: ignore[arg-type]
        await elsewhere.save(f"{A}/f", b"by somebody else")
        await elsewhere.settled()


async def test_an_overwrite_replaces_what_figshare_has_by_now(tmp_path: Path, clock: MockClock) -> None:
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, article):
            await w.save(f"{A}/f", OLD)
            await w.refreshed(A)
        await elsewhere_newer(tmp_path, w, sandbox)
        async with restart(w) as w:
            await use_up(w)
            assert (await w.file(f"{A}/f")).size == len(OLD)
            await w.save(f"{A}/f", NEW)
            await w.settled()
            assert list(w.remote(article)) == ["f"]
            assert w.content(article, "f") == NEW


async def test_an_unlink_removes_what_figshare_has_by_now(tmp_path: Path, clock: MockClock) -> None:
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, article):
            await w.save(f"{A}/f", OLD)
            await w.refreshed(A)
        await elsewhere_newer(tmp_path, w, sandbox)
        async with restart(w) as w:
            await use_up(w)
            await w.file(f"{A}/f")
            await w.unlink(f"{A}/f")
            await w.settled()
            assert w.remote(article) == {}


async def test_a_file_that_is_gone_is_stale_and_then_not_there(tmp_path: Path, clock: MockClock) -> None:
    """Opened by what was known: ESTALE at the read, and the listing is asked again."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, _article):
            await w.save(f"{A}/f", OLD)
            await w.refreshed(A)
        async with open_world(tmp_path / "elsewhere", sandbox=sandbox) as elsewhere:
            await elsewhere.ls(A)
            await elsewhere.unlink(f"{A}/f")
            await elsewhere.settled()
        async with restart(w) as w:
            await use_up(w)
            handle = await w.open(f"{A}/f")
            with errno_of(errno.ESTALE):
                await w.files.read(handle, 0, 100)
            w.files.release(handle)
            assert await w.ls(A) == []


async def test_offline_writes_keep_what_somebody_else_has_written(tmp_path: Path, clock: MockClock) -> None:
    """Nobody here has seen the newer file: both stay."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, article):
            await w.save(f"{A}/f", OLD)
            await w.refreshed("articles")
            await w.refreshed(A)
        await elsewhere_newer(tmp_path, w, sandbox)
        async with restart(w, close_timeout=1.0) as w:
            w.wire.down = True
            inode = (await w.file(f"{A}/f")).inode
            await w.fs.confirm(inode)
            handle, _ = w.fs.open(inode, TRUNCATE, 1)
            await w.files.write(handle, 0, NEW)
            await w.close(handle)
            assert w.owed() == 1
            w.wire.down = False
            await w.settled()
            contents = {row["name"]: w.content(article, row["name"]) for row in w.rows(article)}
            assert len(w.rows(article)) == 2
            assert contents["f"] == NEW


async def test_what_an_earlier_mount_owes_is_shown_on_what_it_knew(tmp_path: Path, clock: MockClock) -> None:
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox, close_timeout=1.0) as (w, article):
            await w.save(f"{A}/old", OLD)
            await w.refreshed("articles")
            await w.refreshed(A)
            w.wire.down = True
            await w.save(f"{A}/new", NEW)
        async with restart(w) as w:
            w.wire.down = True
            assert await w.ls(A) == ["new", "old"]
            assert await w.read(f"{A}/new") == NEW
            w.wire.down = False
            await w.settled()
            assert sorted(w.remote(article)) == ["new", "old"]


# -- conditional requests ------------------------------------------------------------


async def test_what_figshare_says_is_unchanged_is_fresh(tmp_path: Path, clock: MockClock) -> None:
    """Where it sends validators; a change is seen all the same."""
    async with figshare() as sandbox, open_article(tmp_path, sandbox=sandbox) as (w, article):
        sandbox.settings.change({"validators": "both"})
        await w.save(f"{A}/f", OLD)
        assert await w.refreshed(A) == ["f"]
        sandbox.requests.clear()
        assert await w.refreshed(A) == ["f"]
        assert await w.refreshed("articles") == ["data set"]
        assert await w.refreshed("articles") == ["data set"]
        statuses = {entry["path"]: entry["status"] for entry in sandbox.requests.entries()}
        assert statuses[f"/v2/account/articles/{article}"] == 304
        assert statuses["/v2/account/articles"] == 304
        assert (await w.node(A)).status.restored_at is None  # type: ignore[attr-defined]
        async with open_world(tmp_path / "elsewhere", sandbox=sandbox) as elsewhere:
            await elsewhere.save(f"{A}/g", NEW)
        assert await w.refreshed(A) == ["f", "g"]
