"""The POSIX verbs on names, attributes and directories, in process, on a sandbox."""

from __future__ import annotations

import errno
import re
import stat
from pathlib import Path

import httpx
import pytest
import trio
from inprocess import A, World, errno_of, figshare, open_article, open_world, restart
from test_linking import FILE
from trio.testing import MockClock

from figfs.figshare import articles as api_articles
from figfs.filesystem import Change
from figfs.namespace.nodes import Container, FileNode
from figfs.sandbox import articles

FILES = r"/articles/\d+/files/\d+$"
OLD, NEW = b"old content", b"new content" * 300


# ---- removing directories ------------------------------------------------------------


async def rmdir_if_free(w: World) -> bool:
    """Remove ``A``, which looks empty; False if that is refused because something of it is still needed."""
    try:
        await w.rmdir(A)
    except OSError as exc:
        if exc.errno not in (errno.EBUSY, errno.ENOTEMPTY):
            raise
        return False
    return True


async def test_rmdir_of_an_article_whose_files_were_just_moved_out(tmp_path: Path, clock: MockClock) -> None:
    """R1: ``mv A/f B/ && rmdir A`` within the grace: the bytes are in B before A is deleted, or A stays."""
    async with open_article(tmp_path) as (w, article):
        other = (await w.mkdir("articles/other set")).key.id
        await w.save(f"{A}/f", NEW)
        await w.rename(f"{A}/f", "articles/other set/f")
        removed = await rmdir_if_free(w)
        await w.settled()
        assert w.content(other, "f") == NEW
        assert w.remote(other) == {"f": "available"}
        assert await w.ls("articles") == (["other set"] if removed else ["data set", "other set"])
        assert await w.read("articles/other set/f") == NEW
        assert w.remote(article) == {}


async def test_rmdir_of_an_article_whose_folder_was_just_moved_out(tmp_path: Path, clock: MockClock) -> None:
    """R1 again, with a folder of files."""
    async with open_article(tmp_path) as (w, _):
        other = (await w.mkdir("articles/other set")).key.id
        await w.mkdir(f"{A}/raw")
        await w.save(f"{A}/raw/f", NEW)
        await w.save(f"{A}/raw/g", OLD)
        await w.rename(f"{A}/raw", "articles/other set/raw")
        await rmdir_if_free(w)
        await w.settled()
        assert w.remote(other) == {"raw/f": "available", "raw/g": "available"}


async def test_rmdir_sees_what_came_from_elsewhere(tmp_path: Path, clock: MockClock) -> None:
    """R2: a file another mount has put there since the last listing keeps the article."""
    async with (
        figshare() as sandbox,
        open_article(tmp_path, sandbox=sandbox) as (w, article),
        open_world(tmp_path / "elsewhere", sandbox=sandbox) as other,
    ):
        assert await w.ls(A) == []
        await other.save(f"{A}/f", NEW)
        with errno_of(errno.ENOTEMPTY):
            await w.rmdir(A)
        assert w.remote(article) == {"f": "available"}


@pytest.mark.parametrize(
    ("unshown", "kept"),
    [
        ({"status": "ic_checking"}, True),
        ({"status": "moving_to_final"}, True),
        ({"link": "s3://bucket/key", "size": 0}, True),
        ({"status": "created"}, False),
        ({"status": "aborted"}, False),
    ],
)
async def test_rmdir_and_what_is_not_shown(
    tmp_path: Path, clock: MockClock, unshown: dict[str, object], kept: bool
) -> None:
    """A file that somebody has completed, a link that leads nowhere here: the article is not empty. What was
    only announced is nobody's file.
    """
    async with open_article(tmp_path) as (w, article):
        w.sandbox.store.insert("files", FILE | {"article_id": article, "computed_md5": ""} | unshown)
        assert await w.refreshed(A) == []
        if kept:
            with errno_of(errno.ENOTEMPTY):
                await w.rmdir(A)
        else:
            await w.rmdir(A)
        assert await w.refreshed("articles") == (["data set"] if kept else [])
        assert len(w.rows(article)) == kept


async def test_rmdir_and_a_file_without_an_id(tmp_path: Path, clock: MockClock) -> None:
    """What cannot even be named is there all the same."""
    async with open_article(tmp_path) as (w, article):
        for name in ("a", "b"):
            w.sandbox.store.insert("files", FILE | {"article_id": article, "name": name})
        number = str(w.rows(article)[1]["id"]).encode()
        passed_on = w.wire.handle_async_request

        async def without_id(request: httpx.Request) -> httpx.Response:
            response = await passed_on(request)
            if request.method != "GET":
                return response
            body = await response.aread()
            return httpx.Response(
                response.status_code, content=re.sub(b'"id": ?' + number, b'"id":null', body)
            )

        w.wire.handle_async_request = without_id  # type: ignore[method-assign]
        assert await w.refreshed(A) == ["a"]
        await w.unlink(f"{A}/a")
        with errno_of(errno.ENOTEMPTY):
            await w.rmdir(A)
        assert len(w.rows(article)) == 2


async def test_rmdir_within_the_grace(tmp_path: Path, clock: MockClock) -> None:
    """``rm -r``: what was unlinked just now is nobody's any more, whether Figshare has all of it or not."""
    async with open_article(tmp_path, close_timeout=0.0) as (w, article):
        w.sandbox.settings.change({"assembly_delay": 90.0})
        w.sandbox.store.insert("files", FILE | {"article_id": article, "name": "old"})
        await w.refreshed(A)
        gate = w.wire.hold("DELETE", FILES)
        await w.save(f"{A}/f", NEW)
        while w.remote(article).get("f") != "ic_checking":  # noqa: ASYNC110 (nobody tells)
            await trio.sleep(1)
        for name in ("f", "old"):
            await w.unlink(f"{A}/{name}")
        await gate.reached.wait()
        await w.rmdir(A)
        gate.open()
        await w.settled()
        assert await w.refreshed("articles") == []


async def test_rmdir_needs_figshares_word(tmp_path: Path, clock: MockClock) -> None:
    """R2: if the article cannot be listed now, the last known listing is not enough to delete it."""
    async with open_article(tmp_path) as (w, article):
        w.faults({"role": "api", "method": "GET", "path": f"/{article}$", "action": "status", "status": 500})
        with errno_of(errno.EIO):
            await w.rmdir(A)
        assert w.wire.count("DELETE", "/articles/") == 0
        assert await w.ls("articles") == ["data set"]


async def test_rmdir(tmp_path: Path, clock: MockClock) -> None:
    """Empty drafts go, on Figshare too; others ENOTEMPTY; the top directories EPERM; files ENOTDIR."""
    async with open_article(tmp_path) as (w, _):
        await w.mkdir(f"{A}/folder")
        await w.save(f"{A}/folder/f", OLD)
        for path, number in [
            (A, errno.ENOTEMPTY),
            (f"{A}/folder", errno.ENOTEMPTY),
            (f"{A}/folder/f", errno.ENOTDIR),
            ("articles", errno.EPERM),
            (f"{A}/nothing", errno.ENOENT),
        ]:
            with errno_of(number):
                parent, _, name = path.rpartition("/")
                inode = (await w.node(parent)).inode if parent else w.tree.root.inode
                await w.fs.rmdir(inode, name.encode())
        await w.unlink(f"{A}/folder/f")
        await w.rmdir(f"{A}/folder")
        await w.rmdir(A)
        assert await w.refreshed("articles") == []
        await w.settled()


async def test_rmdir_of_a_published_article_is_refused(tmp_path: Path, clock: MockClock) -> None:
    """EPERM, without asking Figshare to delete it."""
    async with open_article(tmp_path) as (w, article):
        w.sandbox.store.run("UPDATE articles SET version = 1, published = created WHERE id = ?", article)
        w.sandbox.store.run("INSERT INTO versions SELECT id, 1, '{}' FROM articles WHERE id = ?", article)
        with errno_of(errno.EPERM):
            await w.rmdir(A)
        assert await w.refreshed("articles") == ["data set"]


# ---- making directories ------------------------------------------------------------


async def test_mkdir_makes_articles_projects_collections_and_folders(
    tmp_path: Path, clock: MockClock
) -> None:
    """Where the directory is made decides what it is; a folder costs no request."""
    async with open_world(tmp_path / "state") as w:
        await w.mkdir("articles/an article")
        await w.mkdir("projects/a project")
        await w.mkdir("projects/a project/its article")
        await w.mkdir("collections/a collection")
        await w.ls("articles")
        w.wire.asked.clear()
        await w.mkdir("articles/an article/folder")
        await w.mkdir("articles/an article/folder/inner")
        assert w.wire.asked == []
        assert await w.refreshed("articles") == ["an article"]
        assert await w.refreshed("projects/a project") == ["its article"]
        assert await w.refreshed("collections") == ["a collection"]
        assert await w.refreshed("articles/an article") == ["folder"]
        with errno_of(errno.EPERM):
            await w.mkdir("collections/a collection/not here")


async def test_empty_folders_survive_a_remount(tmp_path: Path, clock: MockClock) -> None:
    """Figshare knows no empty folder: it is kept here, as long as it is not removed."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, _):
            await w.mkdir(f"{A}/a")
            await w.mkdir(f"{A}/b")
            await w.rmdir(f"{A}/b")
        async with restart(w) as w:
            assert await w.ls(A) == ["a"]


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("articles/ab", errno.EINVAL),
        ("articles/data set", errno.EEXIST),
        ("articles/.Trash-1000", errno.EPERM),
        (f"{A}/.Trash-1000", errno.EPERM),
        ("articles/" + "x" * 256, errno.ENAMETOOLONG),
    ],
)
async def test_mkdir_refuses(tmp_path: Path, clock: MockClock, name: str, number: int) -> None:
    """Titles Figshare would refuse, names that exist, wastebaskets: without a request."""
    async with open_article(tmp_path) as (w, _):
        await w.ls("articles")
        w.wire.asked.clear()
        with errno_of(number):
            await w.mkdir(name)
        assert w.wire.count("POST", "") == 0


async def test_mkdir_beside_the_mounts_own_directories(tmp_path: Path, clock: MockClock) -> None:
    """EPERM, whatever the name, and not that it is too short a title."""
    async with open_world(tmp_path / "state") as w:
        for name in (b"ab", b"abc"):
            with errno_of(errno.EPERM):
                await w.fs.mkdir(w.tree.root.inode, name, 0o755)


async def test_mkdir_whose_answer_is_lost(tmp_path: Path, clock: MockClock) -> None:
    """Figshare has made it, the answer was lost: it is found, and made once only."""
    async with open_world(tmp_path / "state") as w:
        await w.ls("articles")
        w.faults({"role": "api", "method": "POST", "path": "/articles$", "action": "lose_answer", "times": 1})
        await w.mkdir("articles/data set")
        assert w.wire.count("POST", "/articles$") == 1
        assert await w.refreshed("articles") == ["data set"]


async def test_mkdir_whose_answer_is_lost_after_it_was_listed(tmp_path: Path, clock: MockClock) -> None:
    """What a refresh has shown meanwhile is what was made."""
    async with open_world(tmp_path / "state") as w:
        await w.mkdir("projects/a project")
        answered = w.wire.handle_async_request

        async def lost(request: httpx.Request) -> httpx.Response:
            response = await answered(request)
            if request.method == "POST":
                assert await w.refreshed("projects/a project") == ["data set"]
                raise httpx.ReadError("lost", request=request)
            return response

        w.wire.handle_async_request = lost  # type: ignore[method-assign]
        made = await w.mkdir("projects/a project/data set")
        assert w.wire.count("POST", "/articles$") == 1
        assert made is await w.node("projects/a project/data set")


# ---- rename of containers ------------------------------------------------------------


async def test_rename_of_an_article_is_its_title(tmp_path: Path, clock: MockClock) -> None:
    """Same inode, new title on Figshare; into another directory EPERM."""
    async with open_article(tmp_path) as (w, article):
        await w.mkdir("projects/a project")
        inode = (await w.node(A)).inode
        await w.rename(A, "articles/new title")
        assert await w.refreshed("articles") == ["new title"]
        assert (await w.node("articles/new title")).inode == inode
        title = w.sandbox.store.value("SELECT title FROM articles WHERE id = ?", article)
        assert title == "new title"
        with errno_of(errno.EPERM):
            await w.rename("articles/new title", "projects/a project/new title")


async def test_rename_of_a_folder_moves_its_files(tmp_path: Path, clock: MockClock) -> None:
    """The folder is there under its new name at once; the files follow; nothing is left in the old one."""
    async with open_article(tmp_path) as (w, article):
        await w.mkdir(f"{A}/a")
        await w.mkdir(f"{A}/a/b")
        await w.save(f"{A}/a/b/f", NEW)
        await w.rename(f"{A}/a", f"{A}/c")
        assert await w.ls(A) == ["c"]
        assert await w.read(f"{A}/c/b/f") == NEW
        await w.settled()
        assert w.remote(article) == {"c/b/f": "available"}
        assert await w.refreshed(A) == ["c"]
        assert await w.ls(f"{A}/c/b") == ["f"]
        with errno_of(errno.EINVAL):
            await w.rename(f"{A}/c", f"{A}/c/b/d")


async def test_rename_flags(tmp_path: Path, clock: MockClock) -> None:
    """NOREPLACE is honoured, EXCHANGE is EINVAL."""
    async with open_article(tmp_path) as (w, _):
        await w.save(f"{A}/f", OLD)
        await w.save(f"{A}/g", NEW)
        with errno_of(errno.EEXIST):
            await w.rename(f"{A}/f", f"{A}/g", 1)
        with errno_of(errno.EINVAL):
            await w.rename(f"{A}/f", f"{A}/g", 2)
        assert await w.ls(A) == ["f", "g"]
        assert await w.read(f"{A}/g") == NEW


# ---- looking ------------------------------------------------------------


async def test_lookups_in_a_listed_directory_make_no_request(tmp_path: Path, clock: MockClock) -> None:
    """Names that are there and names that are not; attributes; the id instead of the name."""
    async with open_article(tmp_path) as (w, article):
        node = await w.save(f"{A}/f", OLD)
        await w.ls(A)
        w.wire.asked.clear()
        for _ in range(20):
            with errno_of(errno.ENOENT):
                await w.node(f"{A}/.hidden")
        assert (await w.node(f"articles/{article}/f")) is node
        assert w.fs.attributes(node).size == len(OLD)
        assert w.wire.asked == []


async def test_the_id_of_a_file_is_no_name(tmp_path: Path, clock: MockClock) -> None:
    """It has eight digits, as a date has: ``cp f A/20240131``, ``mv`` and ``rm`` mean a file of that name."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/data.csv", OLD)
        await w.settled()
        number = w.rows(article)[0]["id"]
        for act in (w.node, w.unlink):
            with errno_of(errno.ENOENT):
                await act(f"{A}/{number}")
        await w.save(f"{A}/{number}", NEW)
        await w.unlink(f"{A}/{number}")
        await w.save(f"{A}/tmp", NEW)
        await w.rename(f"{A}/tmp", f"{A}/{number}")
        await w.settled()
        assert await w.refreshed(A) == [str(number), "data.csv"]
        assert (w.content(article, "data.csv"), w.content(article, str(number))) == (OLD, NEW)


async def test_nothing_is_renamed_over_an_id(tmp_path: Path, clock: MockClock) -> None:
    """What is found by its id is looked at; EEXIST."""
    async with open_article(tmp_path) as (w, article):
        other = (await w.mkdir("articles/other set")).key.id
        for number in (article, other):
            with errno_of(errno.EEXIST):
                await w.rename(A, f"articles/{number}")
        assert await w.refreshed("articles") == ["data set", "other set"]


async def test_readdir_is_a_snapshot(tmp_path: Path, clock: MockClock) -> None:
    """What stays is shown once, whatever comes and goes while a program reads the directory."""
    async with open_article(tmp_path) as (w, _):
        for name in "abcd":
            await w.save(f"{A}/{name}", name.encode())
        number = await w.fs.opendir((await w.node(A)).inode)
        first = [entry.name for entry in w.fs.readdir(number, 0)[:2]]
        await w.unlink(f"{A}/a")
        await w.save(f"{A}/aa", OLD)
        rest = [entry.name for entry in w.fs.readdir(number, 2)]
        w.fs.releasedir(number)
        assert sorted(first + rest) == ["a", "b", "c", "d"]


async def test_names_the_kernel_may_bring(tmp_path: Path, clock: MockClock) -> None:
    """Too long, not UTF-8: refused, wherever a name comes in."""
    async with open_article(tmp_path) as (w, _):
        inode = (await w.node(A)).inode
        for raw, number in [(b"x" * 256, errno.ENAMETOOLONG), (b"\xff", errno.EINVAL)]:
            with errno_of(number):
                await w.fs.lookup(inode, raw)
            with errno_of(number):
                w.fs.create(inode, raw, 0o644, 1)


async def test_files_are_made_in_articles_only(tmp_path: Path, clock: MockClock) -> None:
    """EPERM elsewhere; EEXIST for a name that is there."""
    async with open_article(tmp_path) as (w, _):
        with errno_of(errno.EPERM):
            await w.create("articles/f")
        await w.save(f"{A}/f", OLD)
        with errno_of(errno.EEXIST):
            await w.create(f"{A}/f")


# ---- attributes ------------------------------------------------------------


async def test_mode_and_times_are_kept(tmp_path: Path, clock: MockClock) -> None:
    """Set before the upload, while it is a temporary name: still there after upload, rename and remount."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, _):
            node = await w.save(f"{A}/.f.Ab3XyZ", NEW)
            await w.fs.setattr(node.inode, Change(mode=0o640, mtime_ns=123_456_789), None)
            await w.rename(f"{A}/.f.Ab3XyZ", f"{A}/f")
            await w.settled()
            await w.fs.setattr((await w.node(A)).inode, Change(mode=0o700, mtime_ns=42), None)
        async with restart(w) as w:
            for path, mode, mtime in [(f"{A}/f", 0o640, 123_456_789), (A, 0o700, 42)]:
                shown = w.fs.attributes(await w.node(path))
                assert (stat.S_IMODE(shown.mode), shown.mtime_ns) == (mode, mtime)


async def test_owner(tmp_path: Path, clock: MockClock) -> None:
    """chown to the mount's own ids is accepted, to others EPERM."""
    async with open_article(tmp_path) as (w, _):
        node = await w.save(f"{A}/f", OLD)
        await w.fs.setattr(node.inode, Change(uid=1000, gid=1000), None)
        with errno_of(errno.EPERM):
            await w.fs.setattr(node.inode, Change(uid=0), None)


async def test_inode_numbers_are_the_same_after_a_remount(tmp_path: Path, clock: MockClock) -> None:
    """Of articles, folders, and files, also of those this mount has made."""
    async with figshare() as sandbox:
        paths = [A, f"{A}/folder", f"{A}/folder/f"]
        async with open_article(tmp_path, sandbox=sandbox) as (w, _):
            await w.mkdir(f"{A}/folder")
            await w.save(f"{A}/folder/f", OLD)
            before = [(await w.node(path)).inode for path in paths]
        async with restart(w) as w:
            assert [(await w.node(path)).inode for path in paths] == before


async def test_statfs(tmp_path: Path, clock: MockClock) -> None:
    """The account's quota in units of f_bsize, from memory."""
    async with open_world(tmp_path / "state") as w:
        w.wire.asked.clear()
        space = w.fs.statfs()
        assert space.blocks * space.block_size == w.sandbox.settings.quota
        assert space.free <= space.blocks
        assert w.wire.asked == []


async def test_collection_members_are_links_to_their_articles(tmp_path: Path, clock: MockClock) -> None:
    """Relative, into this tree; unlink takes the article out of the collection and leaves the article."""
    async with open_article(tmp_path) as (w, article):
        collection = (await w.mkdir("collections/a collection")).key.id
        w.sandbox.store.run(
            "INSERT INTO collection_articles (collection_id, article_id) VALUES (?, ?)", collection, article
        )
        assert await w.refreshed("collections/a collection") == ["data set"]
        link = await w.node("collections/a collection/data set")
        assert w.fs.readlink(link.inode) == b"../../articles/data set"
        await w.unlink("collections/a collection/data set")
        assert await w.refreshed("collections/a collection") == []
        assert await w.refreshed("articles") == ["data set"]


async def test_a_title_keeps_its_article(tmp_path: Path, clock: MockClock) -> None:
    """An older article that gets the title, and the end of one that had it, give ``articles/twin`` to no
    other article while the mount lasts; the next one names them as ever.
    """
    async with figshare() as sandbox:
        older, twin, third = (
            articles.create(sandbox, {"title": title}) for title in ("other", "twin", "twin")
        )
        async with open_world(tmp_path / "state", sandbox=sandbox) as w:
            assert await w.refreshed("articles") == ["other", "twin", f"twin [{third}]"]
            articles.update(sandbox, articles.own(sandbox, older), {"title": "twin"})
            assert await w.refreshed("articles") == ["twin", f"twin [{older}]", f"twin [{third}]"]
            assert (await w.node("articles/twin")).key.id == twin
            articles.delete(sandbox, articles.own(sandbox, twin))
            assert await w.refreshed("articles") == [f"twin [{older}]", f"twin [{third}]"]
        async with restart(w) as w:
            assert await w.refreshed("articles") == ["twin", f"twin [{third}]"]
            assert (await w.node("articles/twin")).key.id == older


async def test_a_file_that_was_replaced_elsewhere(tmp_path: Path, clock: MockClock) -> None:
    """Bears its own name as soon as the old one is gone; should that come back, it takes it from nobody."""
    async with open_article(tmp_path) as (w, article):
        for _ in range(2):
            w.sandbox.store.insert("files", FILE | {"article_id": article, "name": "a.csv"})
        old, new = (row["id"] for row in w.rows(article))
        assert await w.refreshed(A) == [f"a [{new}].csv", "a.csv"]
        w.sandbox.store.run("UPDATE files SET article_id = 0 WHERE id = ?", old)
        assert await w.refreshed(A) == ["a.csv"]
        w.sandbox.store.run("UPDATE files SET article_id = ? WHERE id = ?", article, old)
        assert await w.refreshed(A) == [f"a [{old}].csv", "a.csv"]
        assert (await w.node(f"{A}/a.csv")).key.id == new


async def test_title_changed_elsewhere(tmp_path: Path, clock: MockClock) -> None:
    """Seen after dir_timeout; the inode stays, and so does what is in it."""
    async with open_article(tmp_path, dir_timeout=20) as (w, article):
        await w.save(f"{A}/f", OLD)
        inode = (await w.node(A)).inode
        await api_articles.update(w.client, article, title="renamed elsewhere")
        await trio.sleep(21)
        assert await w.ls("articles") == ["renamed elsewhere"]
        node = await w.node("articles/renamed elsewhere")
        assert isinstance(node, Container)
        assert node.inode == inode
        assert isinstance(node.children["f"], FileNode)
