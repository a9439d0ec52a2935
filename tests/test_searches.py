"""Queries: what they show, in what order, how often is asked, what is refused."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import httpx
import pytest
import trio
from inprocess import World, errno_of, open_world, restart
from trio.testing import MockClock

from figfs.sandbox import articles

SEARCH = r"/articles/search$"


def make(
    w: World, title: str, *, public: bool = False, owner: int | None = None, project: int | None = None
) -> int:
    """An article on Figshare, found at once."""
    w.sandbox.settings.change({"search_lag": 0})
    number = articles.create(w.sandbox, {"title": title}, project_id=project)
    if public:
        fields = {"description": "Calls.", "tags": ["x"], "categories": [24002], "is_metadata_record": True}
        articles.update(w.sandbox, articles.own(w.sandbox, number), fields)
        articles.publish(w.sandbox, articles.own(w.sandbox, number))
    if owner is not None:
        w.sandbox.store.update("articles", number, {"owner": owner})
    return number


async def order(w: World, path: str) -> list[str]:
    number = await w.fs.opendir((await w.node(path)).inode)
    try:
        return [entry.name for entry in w.fs.readdir(number, 0)]
    finally:
        w.fs.releasedir(number)


async def test_what_a_query_finds(tmp_path: Path, clock: MockClock) -> None:
    """Own ones first, then public ones, each once; links to their places in this mount."""
    async with open_world(tmp_path / "state") as w:
        project = (await w.mkdir("projects/a project")).key.id
        theirs = make(w, "frog of somebody", public=True, owner=99)
        make(w, "toad")
        make(w, "my frog")
        inside = make(w, "frog in a project", project=int(project))
        make(w, "public frog of mine", public=True)
        await w.refreshed("projects/a project")
        w.wire.asked.clear()
        await w.mkdir("search/:title: frog")
        assert w.wire.count("POST", SEARCH) == 2
        assert set(await w.ls("search/:title: frog")) == {
            "my frog", "frog in a project", "public frog of mine", "frog of somebody",
        }  # fmt: skip
        assert (await order(w, "search/:title: frog"))[-1] == "frog of somebody"
        assert await w.readlink("search/:title: frog/my frog") == "../../articles/my frog"
        found = await w.readlink("search/:title: frog/frog in a project")
        assert found == "../../projects/a project/frog in a project"
        assert await w.readlink("search/:title: frog/frog of somebody") == f"../../public/articles/{theirs}"
        assert await w.readlink(f"search/:title: frog/{theirs}") == f"../../public/articles/{theirs}"
        assert (await w.node(found.removeprefix("../../"))).key.id == inside


async def test_a_result_leads_to_its_article_whatever_that_is_called(
    tmp_path: Path, clock: MockClock
) -> None:
    async with open_world(tmp_path / "state") as w:
        make(w, "my frog")
        await w.mkdir("search/frog")
        await w.rename("articles/my frog", "articles/my toad")
        assert await w.readlink("search/frog/my frog") == "../../articles/my toad"


async def test_the_order_is_figshares(tmp_path: Path, clock: MockClock) -> None:
    """As the server ranks, also where a refresh finds more; no more than the limit."""
    async with open_world(tmp_path / "state", dir_timeout=20, search_limit=4) as w:
        for n in (3, 1, 2):
            make(w, f"frog {n}")
        await w.mkdir("search/frog")
        answer = await w.client.call(
            "POST",
            "/account/articles/search",
            body={"search_for": "frog"},
            read=lambda a: a.json(),
            read_only=True,
        )
        assert await order(w, "search/frog") == [article["title"] for article in answer]
        for n in (5, 4):
            make(w, f"frog {n}")
        assert len(await order(w, "search/frog")) == 3
        await trio.sleep(21)
        answer = await w.client.call(
            "POST",
            "/account/articles/search",
            body={"search_for": "frog"},
            read=lambda a: a.json(),
            read_only=True,
        )
        assert await order(w, "search/frog") == [article["title"] for article in answer][:4]


async def test_a_server_that_caps_its_pages(tmp_path: Path, clock: MockClock) -> None:
    """Ten on each, whatever was asked (quirks L9): all of them are shown."""
    async with open_world(tmp_path / "state") as w:
        for n in range(25):
            make(w, f"frog {n}")
        send = w.wire.handle_async_request

        async def ask(request: httpx.Request) -> httpx.Response:
            if request.url.path.endswith("/search"):
                body = json.loads(request.content)
                body["page_size"] = min(10, body["page_size"])
                headers = {"Authorization": request.headers.get("Authorization", "token none")}
                request = httpx.Request(request.method, request.url, headers=headers, json=body)
            return await send(request)

        w.wire.handle_async_request = ask  # type: ignore[method-assign]
        await w.mkdir("search/frog")
        assert len(await w.ls("search/frog")) == 25


async def test_titles_that_are_there_twice(tmp_path: Path, clock: MockClock) -> None:
    """The lowest id has it plain."""
    async with open_world(tmp_path / "state") as w:
        first, second = make(w, "twin frog"), make(w, "twin frog", public=True, owner=99)
        await w.mkdir("search/twin")
        assert await w.ls("search/twin") == ["twin frog", f"twin frog [{second}]"]
        assert first < second


async def test_how_often_is_asked(tmp_path: Path, clock: MockClock) -> None:
    """At once, and when it is opened after dir_timeout; ``rmdir`` asks nothing, and forgets it."""
    async with open_world(tmp_path / "state", dir_timeout=20) as w:
        make(w, "a frog")
        await w.mkdir("search/frog")
        w.wire.asked.clear()
        await w.ls("search/frog")
        await w.readlink("search/frog/a frog")
        assert w.wire.asked == []
        await trio.sleep(21)
        make(w, "another frog")
        assert await w.ls("search/frog") == ["a frog", "another frog"]
        w.wire.asked.clear()
        await w.rmdir("search/frog")
        assert w.wire.asked == []
        assert await w.ls("search") == []
        await w.mkdir("search/frog")
        assert await w.ls("search/frog") == ["a frog", "another frog"]


async def test_queries_survive_a_remount(tmp_path: Path, clock: MockClock) -> None:
    """Also one with ∕ in it, which stands for a slash; one that was forgotten does not."""
    async with open_world(tmp_path / "state") as w:
        make(w, "sound of station 3/4")
        await w.mkdir('search/"station 3∕4"')
        assert await w.ls('search/"station 3∕4"') == ["sound of station 3∕4"]
        await w.mkdir("search/gone")
        await w.rmdir("search/gone")
        async with restart(w) as again:
            assert await again.ls("search") == ['"station 3∕4"']
            assert await again.ls('search/"station 3∕4"') == ["sound of station 3∕4"]


@pytest.mark.parametrize("query", ["(frog", "frog)", '"frog', "frog AND", ":nonsense: x", "AND"])
async def test_what_figshare_refuses(tmp_path: Path, clock: MockClock, query: str) -> None:
    """EINVAL, and no directory is left."""
    async with open_world(tmp_path / "state") as w:
        with errno_of(errno.EINVAL):
            await w.mkdir(f"search/{query}")
        assert await w.ls("search") == []
        async with restart(w) as again:
            assert await again.ls("search") == []


async def test_a_refresh_that_fails(tmp_path: Path, clock: MockClock) -> None:
    """What was found last is shown."""
    async with open_world(tmp_path / "state", dir_timeout=20) as w:
        make(w, "a frog")
        await w.mkdir("search/frog")
        await trio.sleep(21)
        w.wire.down = True
        assert await w.ls("search/frog") == ["a frog"]
        w.wire.down = False


async def test_nothing_is_changed_in_there(tmp_path: Path, clock: MockClock) -> None:
    """EROFS in a query and beside it; a query cannot be renamed; search/ is a part of every mount."""
    async with open_world(tmp_path / "state") as w:
        make(w, "a frog")
        await w.mkdir("search/frog")
        await w.mkdir("articles/data set")
        await w.save("articles/data set/f", b"x")
        for path in ("search/frog/new", "search/new"):
            with errno_of(errno.EROFS):
                await w.create(path)
            with errno_of(errno.EROFS):
                await w.symlink("../../articles/data set", path)
            with errno_of(errno.EROFS):
                await w.rename("articles/data set/f", path)
        for attempt in (
            w.mkdir("search/frog/new"),
            w.unlink("search/frog/a frog"),
            w.rename("search/frog/a frog", "search/frog/b"),
            w.rename("search/frog/a frog", "articles/data set/b"),
        ):
            with errno_of(errno.EROFS):
                await attempt
        for attempt in (
            w.rename("search/frog", "search/toad"),
            w.fs.rmdir(w.tree.root.inode, b"search"),
            w.mkdir("search/.Trash-1000"),
        ):
            with errno_of(errno.EPERM):
                await attempt
        with errno_of(errno.EEXIST):
            await w.mkdir("search/frog")
        assert await w.ls("search/frog") == ["a frog"]
        assert "a frog" in await w.refreshed("articles")
