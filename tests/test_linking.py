"""Symlinks made here: members of collections, linked files in articles; lost answers, ``ln -sf``."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from inprocess import A, World, errno_of, open_article, open_world
from trio.testing import MockClock

from figfs.errors import FigfsError
from figfs.figshare.records import File
from figfs.namespace import merging
from figfs.sandbox import articles, dois, search

C = "collections/a collection"
URL = "https://data.example.org/ice/extent.nc"
OTHER = "https://data.example.org/ice/thickness.nc"


@contextlib.asynccontextmanager
async def open_collection(directory: Path, **options: Any) -> AsyncIterator[tuple[World, int, int]]:
    """A world with the article ``A`` and an empty collection ``C``; their ids."""
    async with open_article(directory, **options) as (w, article):
        collection = (await w.mkdir(C)).key.id
        w.wire.asked.clear()
        assert isinstance(collection, int)
        yield w, article, collection


def members(w: World, collection: int) -> list[int]:
    rows = w.sandbox.store.rows("SELECT * FROM collection_articles WHERE collection_id = ?", collection)
    return [row["article_id"] for row in rows]


def publish(w: World, article: int) -> None:
    fields = {"description": "Calls.", "tags": ["frog"], "categories": [24002]}
    articles.update(w.sandbox, articles.own(w.sandbox, article), fields)
    w.sandbox.store.insert("files", FILE | {"article_id": article})
    articles.publish(w.sandbox, articles.own(w.sandbox, article))


FILE: dict[str, Any] = {
    "name": "f", "folder": "", "size": 3, "link": None, "supplied_md5": "", "computed_md5": "0" * 32,
    "status": "available", "token": "", "part_size": 1, "completed": 1, "created": 0.0,
    "modified": "2024-01-01T00:00:00Z", "draft": 1, "public": 0, "pattern": 1,
}  # fmt: skip


def somebody_elses(w: World) -> int:
    """A public article of another account."""
    number = articles.create(w.sandbox, {"title": "guest article"})
    publish(w, number)
    w.sandbox.store.update("articles", number, {"owner": 99})
    return number


# ---- collections ------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "../../articles/data set",
        "../.././articles//data set/",
        "../../articles/{id}",
        "{id}",
        "/articles/data set",
        "../../public/articles/{id}",
        "../../public/articles/{id}.v2",
    ],
)
async def test_a_link_adds_the_article(tmp_path: Path, clock: MockClock, target: str) -> None:
    """By path, by id; the link leads to its place in this mount."""
    async with open_collection(tmp_path) as (w, article, collection):
        await w.symlink(target.format(id=article), f"{C}/data set")
        assert members(w, collection) == [article]
        assert await w.readlink(f"{C}/data set") == "../../articles/data set"
        assert await w.refreshed(C) == ["data set"]


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize(
    ("doi", "typed"),
    [
        ("10.6084/m9.figshare.{id}", "10.6084/m9.figshare.{id}"),
        ("10.25375/uct.{id}", "10.25375/UCT.{id}.v1"),
        ("10.1234/uni/thesis.{id}", "10.1234/uni%2Fthesis.{id}"),
        ("10.1234/uni.thesis.a-17", "10.1234/uni.thesis.a-17"),
    ],
)
async def test_a_doi_adds_the_article(
    tmp_path: Path, clock: MockClock, doi: str, typed: str, published: bool
) -> None:
    """A published article's whatever it looks like, a draft's that it has reserved, if it ends in the id."""
    async with open_collection(tmp_path) as (w, article, collection):
        w.sandbox.store.update("articles", article, {"doi": doi.format(id=article)})
        if published:
            publish(w, article)
        dois.give(w.sandbox, "articles", article, doi.format(id=article), versioned=False)
        search.index_at_once(w.sandbox.store)
        await w.refreshed("articles")
        if not published and "{id}" not in typed:
            with errno_of(errno.EINVAL):
                await w.symlink(f"../../public/doi/{typed}", f"{C}/data set")
            return
        await w.symlink(f"../../public/doi/{typed.format(id=article)}", f"{C}/data set")
        assert members(w, collection) == [article]
        assert await w.readlink(f"{C}/data set") == "../../articles/data set"


async def test_a_doi_of_something_else(tmp_path: Path, clock: MockClock) -> None:
    """Of another repository, and it ends in the id of an article here: that does not join."""
    async with open_collection(tmp_path) as (w, article, collection):
        publish(w, article)
        for doi in (f"10.5281/zenodo.{article}", f"10.6084/m9.figshare.c.{article}", "10.5281/x"):
            with pytest.raises(OSError, match="DOI") as caught:
                await w.symlink(f"../../public/doi/{doi}", f"{C}/x")
            assert caught.value.errno == errno.EINVAL
        assert members(w, collection) == []


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("articles/data set", "ln -sr"),
        ("../../articles/nothing", "no"),
        ("../../articles", "no article"),
        ("../../articles/data set/f", "whole articles"),
        ("../../projects", "no article"),
        ("../../collections/a collection", "no article"),
        ("../../public/doi/10.6084/m9.figshare.c.6000001", "no"),
        ("https://figshare.com/articles/x/1", "no"),
        ("../../..", "no article"),
        ("99999999", "no article 99999999"),
    ],
)
async def test_what_names_no_article(tmp_path: Path, clock: MockClock, target: str, reason: str) -> None:
    """EINVAL, with a reason, and nothing is added."""
    async with open_collection(tmp_path) as (w, _, collection):
        with pytest.raises(OSError, match=reason) as caught:
            await w.symlink(target, f"{C}/x")
        assert caught.value.errno == errno.EINVAL
        assert members(w, collection) == []


async def test_absolute_paths_below_the_mount_point(tmp_path: Path, clock: MockClock) -> None:
    """As the mount point is called; what is outside is no article."""
    async with open_collection(tmp_path) as (w, article, collection):
        w.fs.linking.membership.mountpoints = ("/home/ada/Figshare", "/data/ada/Figshare")
        for outside in ("/articles/data set", "/home/ada/Figshare2/articles/data set", "../../../x"):
            with errno_of(errno.EINVAL):
                await w.symlink(outside, f"{C}/x")
        await w.symlink("/data/ada/Figshare/articles/data set", f"{C}/x")
        assert members(w, collection) == [article]
        await w.unlink(f"{C}/x")
        await w.symlink("../../../Figshare/articles/data set", f"{C}/x")
        assert members(w, collection) == [article]


async def test_articles_of_projects_and_of_others(tmp_path: Path, clock: MockClock) -> None:
    """A project's article by its path; somebody else's by its id, shown where it is public."""
    async with open_collection(tmp_path) as (w, _, collection):
        await w.mkdir("projects/a project")
        node = await w.mkdir("projects/a project/in the project")
        guest = somebody_elses(w)
        await w.symlink("../../projects/a project/in the project", f"{C}/one")
        await w.symlink(f"../../public/articles/{guest}", f"{C}/two")
        assert members(w, collection) == [node.key.id, guest]
        assert await w.readlink(f"{C}/one") == "../../projects/a project/in the project"
        assert await w.readlink(f"{C}/two") == f"../../public/articles/{guest}"


async def test_a_server_without_projects_lists_collections(tmp_path: Path, clock: MockClock) -> None:
    """Somebody else's article is looked for in the projects: where there are none, it is in none."""
    async with open_collection(tmp_path) as (w, article, collection):
        guest = somebody_elses(w)
        for member in (article, guest):
            values = {"collection_id": collection, "article_id": member}
            w.sandbox.store.insert_all("collection_articles", [values])
        w.faults({"role": "api", "path": "/account/projects", "action": "status", "status": 404})
        targets = {await w.readlink(f"{C}/{name}") for name in await w.refreshed(C)}
        assert targets == {f"../../{A}", f"../../public/articles/{guest}"}


async def test_a_link_to_a_member(tmp_path: Path, clock: MockClock) -> None:
    """What is in one collection can be named from another."""
    async with open_collection(tmp_path) as (w, article, _):
        await w.symlink("../../articles/data set", f"{C}/data set")
        other = (await w.mkdir("collections/another")).key.id
        await w.symlink("../a collection/data set", "collections/another/x")
        assert members(w, int(other)) == [article]


async def test_what_is_known_from_disk_names_no_article(tmp_path: Path, clock: MockClock) -> None:
    """In the next mount the title is another article's, and there is a new one: Figshare is asked first, for
    the name and for its absence.
    """
    async with open_collection(tmp_path) as (w, article, collection):
        sandbox = w.sandbox
        await w.refreshed("articles")
        await w.refreshed(C)
        await trio.sleep(10)  # the listings are written
        async with open_world(tmp_path / "state", sandbox=sandbox) as again:
            articles.update(sandbox, articles.own(sandbox, article), {"title": "old data"})
            number = articles.create(sandbox, {"title": "data set"})
            await again.symlink("../../articles/data set", f"{C}/x")
            assert members(w, collection) == [number]
        async with open_world(tmp_path / "state", sandbox=sandbox) as again:
            third = articles.create(sandbox, {"title": "a third"})
            await again.symlink("../../articles/a third", f"{C}/y")
            assert members(w, collection) == [number, third]
            with errno_of(errno.EINVAL):
                await again.symlink("../../articles/nothing", f"{C}/z")
        async with open_world(tmp_path / "state", sandbox=sandbox) as again:
            again.faults(
                {"role": "api", "method": "GET", "path": "/account/articles$", "action": "cut", "bytes": 0}
            )
            with errno_of(errno.EHOSTUNREACH):
                await again.symlink("../../articles/old data", f"{C}/z")
            assert members(w, collection) == [number, third]


async def test_a_member_twice(tmp_path: Path, clock: MockClock) -> None:
    """EEXIST, under the same name or another one; no request."""
    async with open_collection(tmp_path) as (w, article, collection):
        await w.symlink("../../articles/data set", f"{C}/data set")
        w.wire.asked.clear()
        for name in ("data set", "another name"):
            with errno_of(errno.EEXIST):
                await w.symlink(str(article), f"{C}/{name}")
        assert w.wire.count("POST", "") == 0
        assert members(w, collection) == [article]


async def test_the_name_it_was_given(tmp_path: Path, clock: MockClock) -> None:
    """Works for dir_timeout, over listings too; then the link bears its article's title."""
    async with open_collection(tmp_path, dir_timeout=20) as (w, article, _):
        await w.symlink("../../articles/data set", f"{C}/short")
        assert await w.refreshed(C) == ["short"]
        assert await w.readlink(f"{C}/short") == "../../articles/data set"
        await trio.sleep(21)
        assert await w.ls(C) == ["data set"]
        assert await w.readlink(f"{C}/{article}") == "../../articles/data set"


async def test_a_member_leads_to_its_article_whatever_that_is_called(
    tmp_path: Path, clock: MockClock
) -> None:
    """``mv`` of the article or of its project, another article under the old title, a title that was changed
    elsewhere: never to another one, and with the size that ``lstat`` tells.
    """
    async with open_collection(tmp_path) as (w, article, _):
        await w.mkdir("projects/old")
        inside = (await w.mkdir("projects/old/inner")).key.id
        await w.symlink("../../articles/data set", f"{C}/data set")
        await w.symlink("../../projects/old/inner", f"{C}/inner")
        await w.rename(A, "articles/as of 2023")
        await w.mkdir(A)
        await w.rename("projects/old", "projects/new")
        link = await w.node(f"{C}/data set")
        assert await w.readlink(f"{C}/data set") == "../../articles/as of 2023"
        assert w.fs.attributes(link).size == len("../../articles/as of 2023")
        assert w.fs.attributes(link).valid_for == 1.0
        assert await w.readlink(f"{C}/inner") == "../../projects/new/inner"
        articles.update(w.sandbox, articles.own(w.sandbox, article), {"title": "as of 2024"})
        assert await w.refreshed("articles") == ["as of 2024", "data set"]
        assert (await w.node((await w.readlink(f"{C}/data set")).removeprefix("../../"))).key.id == article
        await w.rmdir("projects/new/inner")
        assert await w.readlink(f"{C}/inner") == f"../../public/articles/{inside}"


async def test_removing_touches_no_article(tmp_path: Path, clock: MockClock) -> None:
    """``rm -r collections/c``: the members leave, the collection goes, the articles and their files stay."""
    async with open_collection(tmp_path) as (w, article, collection):
        await w.save(f"{A}/f", b"content")
        await w.symlink("../../articles/data set", f"{C}/data set")
        guest = somebody_elses(w)
        await w.symlink(str(guest), f"{C}/guest")
        for name in await w.ls(C):
            await w.unlink(f"{C}/{name}")
        assert members(w, collection) == []
        await w.rmdir(C)
        assert await w.refreshed("collections") == []
        assert await w.refreshed("articles") == ["data set"]
        assert w.remote(article) == {"f": "available"}
        assert w.wire.count("DELETE", "^/v2/account/articles") == 0


async def test_lost_answers_of_a_collection(tmp_path: Path, clock: MockClock) -> None:
    """Carried out, though nobody heard: a look finds it. Not carried out: an error, and one can try again."""
    async with open_collection(tmp_path) as (w, article, collection):
        rule = {"role": "api", "method": "POST", "path": "/articles$", "times": 1}
        w.faults(rule | {"action": "lose_answer"})
        await w.symlink(str(article), f"{C}/x")
        assert members(w, collection) == [article]
        w.faults(
            {"role": "api", "method": "DELETE", "path": "/articles/", "times": 1, "action": "lose_answer"}
        )
        await w.unlink(f"{C}/x")
        assert members(w, collection) == []
        w.faults(rule | {"action": "cut", "bytes": 0})
        w.wire.asked.clear()
        with contextlib.suppress(OSError, FigfsError):
            await w.symlink(str(article), f"{C}/x")
        assert w.wire.count("POST", "/articles$") == 1
        w.faults()
        if not members(w, collection):
            await w.symlink(str(article), f"{C}/x")
        assert members(w, collection) == [article]


async def test_links_are_not_renamed_or_moved(tmp_path: Path, clock: MockClock) -> None:
    """A member bears its title; in the mount's own directories there are none."""
    async with open_collection(tmp_path) as (w, article, _):
        await w.symlink(str(article), f"{C}/data set")
        await w.mkdir("collections/another")
        for new in (f"{C}/new", "collections/another/data set", f"{A}/x"):
            with errno_of(errno.EPERM):
                await w.rename(f"{C}/data set", new)
        for path in ("articles/x", "projects/x", "collections/x", "x"):
            with errno_of(errno.EPERM):
                if "/" in path:
                    await w.symlink(str(article), path)
                else:
                    await w.fs.symlink(w.tree.root.inode, b"x", b"17")


async def test_ln_sf_in_a_collection(tmp_path: Path, clock: MockClock) -> None:
    """A link made under a temporary name, and renamed over one that is there."""
    async with open_collection(tmp_path) as (w, article, collection):
        second = (await w.mkdir("articles/second")).key.id
        await w.symlink("../../articles/data set", f"{C}/x")
        await w.symlink("../../articles/data set", f"{C}/CuAb1xYz")
        await w.rename(f"{C}/CuAb1xYz", f"{C}/x")
        assert members(w, collection) == [article]
        assert await w.ls(C) == ["x"]
        await w.symlink("../../articles/second", f"{C}/CuAb1xYz")
        assert members(w, collection) == [article]
        await w.rename(f"{C}/CuAb1xYz", f"{C}/x")
        assert members(w, collection) == [second]
        assert await w.readlink(f"{C}/x") == "../../articles/second"
        assert await w.refreshed(C) == ["x"]


# ---- linked files ------------------------------------------------------------


def links(w: World, article: int) -> dict[str, str]:
    return {row["name"]: row["link"] for row in w.rows(article) if row["link"] is not None}


@pytest.mark.parametrize("url", [URL, "http://example.org/a?b=c#d", "ftp://ftp.example.org/pub/x"])
async def test_a_linked_file(tmp_path: Path, clock: MockClock, url: str) -> None:
    """Made on Figshare, under the name it was given; ``rm`` deletes it."""
    async with open_article(tmp_path) as (w, article):
        await w.symlink(url, f"{A}/my name")
        assert links(w, article) == {"my name": url}
        assert await w.readlink(f"{A}/my name") == url
        assert await w.refreshed(A) == ["my name"]
        await w.unlink(f"{A}/my name")
        await w.settled()
        assert links(w, article) == {}


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "javascript:alert(1)", "../x", "/etc/passwd", "http://", "https:///x y", "http://a\tb",
     "http://a\x1b[2J", "https://a/" + "x" * 2000, "http://../../x", "http://a/./b", "\\\\server\\share"],
)  # fmt: skip
async def test_what_no_link_leads_to(tmp_path: Path, clock: MockClock, url: str) -> None:
    """Only http, https and ftp: EINVAL with a reason; Figshare is not asked."""
    async with open_article(tmp_path) as (w, article):
        w.wire.asked.clear()
        with errno_of(errno.EINVAL):
            await w.symlink(url, f"{A}/x")
        assert w.wire.count("POST", "") == 0
        assert links(w, article) == {}


async def test_a_link_is_alone_in_its_article(tmp_path: Path, clock: MockClock) -> None:
    """Figshare refuses it beside files (quirks U19), and so do we while files are on their way."""
    async with open_article(tmp_path) as (w, article):
        _, handle = await w.create(f"{A}/f")
        await w.files.write(handle, 0, b"x")
        with pytest.raises(OSError, match="on their way"):
            await w.symlink(URL, f"{A}/x")
        await w.close(handle)
        with pytest.raises(FigfsError, match="only file") as caught:
            await w.symlink(URL, f"{A}/x")
        assert caught.value.errno == errno.EINVAL
        assert await w.ls(A) == ["f"]
        assert links(w, article) == {}


async def test_lost_answer_of_a_linked_file(tmp_path: Path, clock: MockClock) -> None:
    """Found by a look; one link, not two."""
    async with open_article(tmp_path) as (w, article):
        w.faults({"role": "api", "method": "POST", "path": "/files$", "times": 1, "action": "lose_answer"})
        await w.symlink(URL, f"{A}/x")
        assert links(w, article) == {"x": URL}
        assert w.wire.count("POST", "/files$") == 1


@pytest.mark.parametrize("temporary", ["CuAb1xYz", ".x.Ab1xYz", ".x.20138"])
async def test_replacing_a_link(tmp_path: Path, clock: MockClock, temporary: str) -> None:
    """``ln -sf`` and rsync: under a temporary name it is held here; the rename replaces."""
    async with open_article(tmp_path) as (w, article):
        await w.symlink(URL, f"{A}/x")
        held = await w.symlink(OTHER, f"{A}/{temporary}")
        assert links(w, article) == {"x": URL}
        assert await w.refreshed(A) == sorted(["x", temporary])
        await w.rename(f"{A}/{temporary}", f"{A}/x")
        assert links(w, article) == {"x": OTHER}
        assert await w.readlink(f"{A}/x") == OTHER
        assert (await w.node(f"{A}/x")).inode == held.inode
        assert await w.refreshed(A) == ["x"]
        w.wire.asked.clear()
        await w.symlink(OTHER, f"{A}/{temporary}")
        await w.rename(f"{A}/{temporary}", f"{A}/x")
        assert w.wire.asked == []
        await w.symlink(URL, f"{A}/{temporary}")
        await w.unlink(f"{A}/{temporary}")
        assert await w.refreshed(A) == ["x"]


async def test_a_replacement_that_fails(tmp_path: Path, clock: MockClock) -> None:
    """The old link is put back."""
    async with open_article(tmp_path) as (w, article):
        await w.symlink(URL, f"{A}/x")
        await w.symlink(OTHER, f"{A}/CuAb1xYz")
        w.refuse_uploads(message="not this one", times=1)
        with errno_of(errno.EINVAL):
            await w.rename(f"{A}/CuAb1xYz", f"{A}/x")
        assert links(w, article) == {"x": URL}
        assert await w.readlink(f"{A}/x") == URL


async def test_a_replacement_is_checked_before_the_old_link_goes(tmp_path: Path, clock: MockClock) -> None:
    """What figfs itself refuses costs nothing: EINVAL, and no DELETE was sent."""
    async with open_article(tmp_path) as (w, article):
        await w.symlink(URL, f"{A}/x")
        _, handle = await w.create(f"{A}/f")
        await w.files.write(handle, 0, b"being written")
        with pytest.raises(OSError, match="on their way"):
            await w.rename(f"{A}/x", f"{A}/y")
        assert w.wire.count("DELETE", "") == 0
        assert links(w, article) == {"x": URL}
        assert w.journal.deletions() == []


async def test_a_replacement_without_an_answer(tmp_path: Path, clock: MockClock) -> None:
    """ETIMEDOUT; the old link is there again as soon as Figshare answers, and never gone for good."""
    async with open_article(tmp_path) as (w, article):
        await w.symlink(URL, f"{A}/x")
        gate = w.wire.hold("POST", "/files$")
        with errno_of(errno.ETIMEDOUT):
            await w.rename(f"{A}/x", f"{A}/y")
        assert w.owed() == 1
        gate.open()
        await w.settled()
        assert links(w, article) == {"x": URL}
        assert await w.refreshed(A) == ["x"]
        assert w.journal.deletions() == []


async def test_a_crash_between_the_old_link_and_the_new_one(tmp_path: Path, clock: MockClock) -> None:
    """The next mount puts the old one back."""
    async with open_article(tmp_path) as (w, article):
        sandbox = w.sandbox
        await w.symlink(URL, f"{A}/x")
        w.wire.hold("POST", "/files$")
        with errno_of(errno.ETIMEDOUT):
            await w.rename(f"{A}/x", f"{A}/y")
        assert links(w, article) == {}
        async with open_world(tmp_path / "state", sandbox=sandbox) as again:
            await again.settled()
            assert await again.ls(A) == ["x"]
            assert await again.readlink(f"{A}/x") == URL
            assert again.journal.deletions() == []


async def test_a_link_that_cannot_be_put_back(tmp_path: Path, clock: MockClock) -> None:
    """Its URL stays where a person finds it, and ``figfs retry`` puts it back."""
    async with open_article(tmp_path) as (w, article):
        await w.symlink(URL, f"{A}/x")
        w.refuse_uploads(403, "not now")
        with errno_of(errno.EPERM):
            await w.rename(f"{A}/x", f"{A}/y")
        [row] = w.journal.deletions()
        assert URL in row.reason
        report = await w.parts.ledger.report()
        assert [(entry["state"], entry["reason"]) for entry in report["deletions"]] == [
            ("parked", row.reason)
        ]
        assert await w.refreshed(A) == []
        w.faults()
        await w.parts.parking.retry(row.row)
        await w.settled()
        assert links(w, article) == {"x": URL}
        assert w.journal.deletions() == []


async def test_unlinked_and_made_anew(tmp_path: Path, clock: MockClock) -> None:
    """``rm x; ln -s … x``: the deletion is carried out before Figshare is asked for the new one."""
    async with open_article(tmp_path) as (w, article):
        await w.symlink(URL, f"{A}/x")
        gate = w.wire.hold("DELETE", "/files/")
        await w.unlink(f"{A}/x")
        await gate.reached.wait()
        gate.open()
        await w.symlink(OTHER, f"{A}/x")
        assert links(w, article) == {"x": OTHER}


async def test_a_link_is_renamed_and_moved(tmp_path: Path, clock: MockClock) -> None:
    """Made anew under its new name, in the same article or in another one."""
    async with open_article(tmp_path) as (w, article):
        await w.symlink(URL, f"{A}/x")
        await w.rename(f"{A}/x", f"{A}/y")
        assert links(w, article) == {"y": URL}
        other = (await w.mkdir("articles/other")).key.id
        await w.rename(f"{A}/y", "articles/other/z")
        assert links(w, article) == {}
        assert links(w, int(other)) == {"z": URL}
        assert await w.refreshed(A) == []
        assert await w.refreshed("articles/other") == ["z"]


async def test_locks_of_editors_stay_here(tmp_path: Path, clock: MockClock) -> None:
    """emacs: a symlink to nowhere, beside the file."""
    async with open_article(tmp_path) as (w, _):
        await w.save(f"{A}/f", b"x")
        w.wire.asked.clear()
        await w.symlink("ada@host.17:1", f"{A}/.#f")
        assert await w.readlink(f"{A}/.#f") == "ada@host.17:1"
        await w.unlink(f"{A}/.#f")
        assert w.wire.count("POST", "") == 0
        assert await w.ls(A) == ["f"]


async def test_a_link_in_a_published_article(tmp_path: Path, clock: MockClock) -> None:
    """A draft of the next version, and the status says so."""
    async with open_world(tmp_path / "state") as w:
        article = int((await w.mkdir(A)).key.id)
        publish(w, article)
        await w.refreshed(A)
        await w.unlink(f"{A}/f")
        await w.settled()
        await w.symlink(URL, f"{A}/x")
        node = await w.node(A)
        assert w.fs.getxattr(node.inode, "user.figshare.status") == b"public, edited"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://x/a b", "https://x/a%20b"),
        ("https://x/é?q=%20#f", "https://x/é?q=%20#f"),
        ("https://x/\x1b]0;o\x07\n", "https://x/%1B]0;o%07%0A"),
        ("https://x/\u202egpj\u2066", "https://x/%E2%80%AEgpj%E2%81%A6"),
        ("https://x/\x9b\ud800", "https://x/%C2%9B%3F"),
        ("http://../../etc/passwd", "http://%2E%2E/%2E%2E/etc/passwd"),
        ("ftp://./a/..b/.c/...", "ftp://%2E/a/..b/.c/..."),
        ("http://a/b/..", "http://a/b/%2E%2E"),
    ],
)
def test_nothing_is_hidden_in_a_target(url: str, target: str) -> None:
    """``ls -l`` prints it to a terminal as it is, and the system follows it as a path."""
    assert merging.link_target(File(id=1, is_link_only=True, download_url=url)) == target
