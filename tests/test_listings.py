"""Listings on their way: who goes first, what went meanwhile, where articles have their place."""

from __future__ import annotations

import contextlib
import logging
from pathlib import Path

import pytest
import trio
from inprocess import A, World, article_key, errno_of, figshare, open_article, open_world, restart
from test_linking import somebody_elses
from trio.testing import MockClock

from figfs.control.offline import Presence, watch_account
from figfs.errors import Changed
from figfs.figshare.records import Account
from figfs.namespace import keeping
from figfs.sandbox import articles
from figfs.sandbox.app import Sandbox

C = "collections/a collection"


async def test_who_waits_goes_before_a_walk_through_what_is_known(
    tmp_path: Path, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a walk through many articles of an hour ago, all are to be compared, at one request a second. A
    name in the last of them is looked for at once.
    """
    monkeypatch.setattr(keeping, "TRUSTED", 0.0)
    async with figshare() as sandbox:
        ids = [articles.create(sandbox, {"title": f"number {number:03}"}) for number in range(100)]
        last = "articles/number 099"
        async with open_world(tmp_path / "state", sandbox=sandbox) as w:
            for name in await w.ls("articles"):
                await w.ls(f"articles/{name}")
        async with open_world(tmp_path / "elsewhere", sandbox=sandbox) as elsewhere:
            await elsewhere.save(f"{last}/results", b"by somebody else")
            await elsewhere.settled()
        async with open_world(tmp_path / "state", sandbox=sandbox, rate=1) as w:
            for name in await w.ls("articles"):
                await w.ls(f"articles/{name}")
            assert w.tree.by_key(article_key(ids[-1])).status.restored_at is not None  # type: ignore[union-attr]
            began = trio.current_time()
            await w.node(f"{last}/results")
            assert trio.current_time() - began < 5
            with errno_of(39):  # ENOTEMPTY
                await w.rmdir(last)


async def test_collections_are_not_believed(tmp_path: Path, clock: MockClock) -> None:
    """Figshare's list of them has no dates: each is shown as it was, and compared behind its first look."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, article):
            made = [(await w.mkdir(f"{C} {number}")).key.id for number in range(4)]
            for number in range(4):
                await w.refreshed(f"{C} {number}")
            await w.refreshed("collections")
        for collection in made:
            sandbox.store.run(
                "INSERT INTO collection_articles (collection_id, article_id) VALUES (?, ?)",
                collection, article,
            )  # fmt: skip
        async with restart(w) as w:
            for number in range(4):
                assert await w.ls(f"{C} {number}") == []
            await trio.sleep(5)
            for number in range(4):
                assert await w.ls(f"{C} {number}") == ["data set"]


async def seed_project(w: World) -> int:
    """``X data`` in a project, and another article in none."""
    await w.mkdir("projects/a project")
    inside = await w.mkdir("projects/a project/X data")
    await w.mkdir("articles/other")
    for path in ("projects", "projects/a project", "articles"):
        await w.refreshed(path)
    return inside.key.id  # type: ignore[return-value]


def remove_projects(sandbox: Sandbox) -> None:
    """As their owner does on the web page: the articles stay."""
    sandbox.store.run("UPDATE articles SET project_id = NULL")
    sandbox.store.run("DELETE FROM projects")


async def test_an_article_whose_project_went_is_never_nowhere(tmp_path: Path, clock: MockClock) -> None:
    async with figshare() as sandbox:
        async with open_world(tmp_path / "state", sandbox=sandbox) as w:
            await seed_project(w)
            await trio.sleep(1)
        remove_projects(sandbox)
        async with restart(w) as w:
            for _ in range(10):
                found = []
                for name in await w.ls("projects"):
                    with contextlib.suppress(Changed):  # it goes just now
                        found += await w.ls(f"projects/{name}")
                found += await w.ls("articles")
                assert "X data" in found
                await trio.sleep(7)
            assert await w.ls("articles") == ["X data", "other"]


async def test_a_listing_of_what_is_gone_moves_nothing(tmp_path: Path, clock: MockClock) -> None:
    """It was asked before the project went, and is answered after that."""
    async with open_world(tmp_path / "state") as w:
        inside = await seed_project(w)
        gate = w.wire.hold("GET", "/projects/.*/articles$", carried_out=True)
        async with trio.open_nursery() as nursery:

            async def look() -> None:
                with pytest.raises(Changed):
                    await w.refreshed("projects/a project")

            nursery.start_soon(look)
            await gate.reached.wait()
            remove_projects(w.sandbox)
            assert await w.refreshed("projects") == []
            assert await w.refreshed("articles") == ["X data", "other"]
            gate.open()
        assert (await w.node("articles/X data")).key.id == inside


@pytest.mark.parametrize("number", [0, 6])
async def test_projects_that_tell_nothing(number: int, tmp_path: Path, clock: MockClock) -> None:
    """Only one of seven projects has an article, which the list of own articles has as well."""
    async with figshare() as sandbox:
        async with open_world(tmp_path / "first", sandbox=sandbox) as w:
            made = [(await w.mkdir(f"projects/number {each}")).key.id for each in range(7)]
        articles.create(sandbox, {"title": "X data"}, project_id=made[number])
        async with open_world(tmp_path / "second", sandbox=sandbox) as w:
            assert await w.ls("articles") == []
            assert await w.ls(f"projects/number {number}") == ["X data"]


async def test_a_project_that_goes_while_the_articles_are_listed(
    tmp_path: Path, clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with figshare() as sandbox:
        async with open_world(tmp_path / "first", sandbox=sandbox) as w:
            made = [(await w.mkdir(f"projects/number {each}")).key.id for each in range(7)]
        async with open_world(tmp_path / "second", sandbox=sandbox) as w:
            await w.ls("projects")
            first, *_, last = w.tree.projects.children.values()
            assert {first.key.id, last.key.id} <= set(made)
            articles.create(sandbox, {"title": "X data"}, project_id=first.key.id)  # so that all are listed
            gate = w.wire.hold("GET", f"/projects/{first.key.id}/articles$")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(w.ls, "articles")
                await gate.reached.wait()
                await w.rmdir(f"projects/{last.name}")
                gate.open()
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_another_ones_article_in_a_collection_costs_one_request(
    tmp_path: Path, clock: MockClock
) -> None:
    """Not one for each project, to find that none has it."""
    async with figshare() as sandbox:
        async with open_world(tmp_path / "first", sandbox=sandbox) as w:
            await w.mkdir(C)
            foreign = somebody_elses(w)
            await w.symlink(str(foreign), f"{C}/theirs")
            for each in range(30):
                await w.mkdir(f"projects/number {each}")
            inside = await w.mkdir("projects/number 29/ours")
            await w.symlink(str(inside.key.id), f"{C}/ours")
        sandbox.settings.change({"list_project_articles": False})  # else all projects are listed anyway
        async with open_world(tmp_path / "second", sandbox=sandbox) as w:
            await w.ls("articles")
            w.wire.asked.clear()
            assert len(await w.ls(C)) == 2
            found = [await w.readlink(f"{C}/{name}") for name in await w.ls(C)]
            assert "../../projects/number 29/ours" in found
            w.wire.asked.clear()
            assert len(await w.refreshed(C)) == 2
            assert w.wire.count("GET", "/account/projects/") == 0
        async with open_world(tmp_path / "third", sandbox=sandbox) as w:
            await w.ls("projects/number 29")
            w.wire.asked.clear()
            assert len(await w.ls(C)) == 2
            assert w.wire.count("GET", "/account/projects/.*/articles") <= 5
            assert w.wire.count("GET", f"/account/articles/{foreign}") == 1


async def test_without_figshare_a_collection_is_shown_without_what_was_taken_out(
    tmp_path: Path, clock: MockClock
) -> None:
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, article):
            await w.mkdir(C)
            other = await w.mkdir("articles/other")
            await w.symlink(str(article), f"{C}/data set")
            await w.symlink(str(other.key.id), f"{C}/other")
            await w.refreshed(C)
            await trio.sleep(1)
            await w.unlink(f"{C}/other")
            w.listings.remember()
            await trio.sleep(1)
        async with restart(w) as w:
            await w.ls("articles")
            w.wire.down = True
            assert await w.ls(C) == ["data set"]


async def test_without_figshare_a_lock_file_hides_no_change(tmp_path: Path, clock: MockClock) -> None:
    """Emacs' lock is a link that only this machine has."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, _article):
            await w.save(f"{A}/old", b"old")
            await w.refreshed(A)
            await trio.sleep(1)
            await w.symlink("me@host.123:1", f"{A}/.#new")
            await w.save(f"{A}/new", b"new")
            await w.settled()
            w.listings.remember()
            await trio.sleep(1)
        async with restart(w) as w:
            await w.ls("articles")
            w.wire.down = True
            assert await w.ls(A) == ["new", "old"]


async def test_a_token_of_another_account_is_told_once(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def ask() -> Account:
        return Account(id=2)

    presence = Presence("no connection")
    with trio.move_on_after(120):
        await watch_account(
            ask, account=Account(id=1), presence=presence, store=None, heard=lambda account: None
        )
    [said] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert said.getMessage() == presence.away
    assert "of account 2 now, not of 1: mount anew" in presence.away
