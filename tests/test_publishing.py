"""Publishing, DOIs, cards and refreshing, in process: what the commands ask of a mount."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from errno import EBUSY, EINVAL, ELOOP, ENOENT, EROFS, ESTALE
from pathlib import Path
from typing import Any

import pytest
import trio
from inprocess import World, errno_of, fast_clock, open_article
from trio.testing import MockClock

from figfs.errors import FigfsError, Forbidden, UnknownOutcome
from figfs.namespace.nodes import Container

A = "articles/data set"


@pytest.fixture
def autojump_clock() -> MockClock:
    return fast_clock()


async def ask(world: World, command: str, **request: object) -> dict[str, Any]:
    """The last line of the mount's answer."""
    lines: list[Mapping[str, object]] = []

    async def send(line: Mapping[str, object]) -> None:
        lines.append(line)

    await world.parts.items.table()[command]({"command": command, **request}, send)
    return dict(lines[-1])


def complete(world: World, article_id: int) -> None:
    """All the metadata that a publication needs."""
    columns = {"description": "<p>All of it.</p>", "tags": '["ice"]', "edited": 1}
    row = world.sandbox.store.row("SELECT * FROM articles WHERE id = ?", article_id)
    assert row is not None
    metadata = row["metadata"].replace("{", '{"categories": [24002], ', 1)
    world.sandbox.store.update("articles", article_id, columns | {"metadata": metadata})


def publications(world: World) -> int:
    return world.wire.count("POST", r"/publish$")


async def test_publish(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The list first; then one request, the public version awaited, its DOI told. Not twice for nothing."""
    async with open_article(tmp_path) as (world, number):
        await world.save(f"{A}/a.csv", b"one")
        listed = await ask(world, "check", path=A)
        assert not listed["may_be_published"]
        complete(world, number)
        listed = await ask(world, "check", path=A)
        assert listed["may_be_published"], listed
        told = await ask(world, "publish", path=A, stamp=listed["stamp"])
        assert (told["version"], told["seen"]) == (1, True)
        assert told["doi"] == f"10.6084/m9.figshare.{number}.v1"
        assert publications(world) == 1
        with errno_of(EINVAL):
            await ask(world, "publish", path=A, stamp=listed["stamp"])
        assert publications(world) == 1


async def test_only_what_was_listed_is_published(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A file that comes between the list and the yes: ESTALE, and nothing is published."""
    async with open_article(tmp_path) as (world, number):
        await world.save(f"{A}/a.csv", b"one")
        complete(world, number)
        listed = await ask(world, "check", path=A)
        await world.save(f"{A}/b.csv", b"two")
        with errno_of(ESTALE):
            await ask(world, "publish", path=A, stamp=listed["stamp"])
        assert publications(world) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"metadata": {"references": ["https://x.test/"]}},
        {"metadata": {"related_materials": [{"identifier": "x"}]}},
        {"description": '<p><a href="https://x.test/">All of it.</a></p>'},
        {"defined_type": 9},
    ],
)
async def test_what_is_not_in_the_list_counts(
    tmp_path: Path, autojump_clock: MockClock, changes: dict[str, Any]
) -> None:
    """All that would become public and has changed since: ESTALE."""
    async with open_article(tmp_path) as (world, number):
        await world.save(f"{A}/a.csv", b"one")
        complete(world, number)
        listed = await ask(world, "check", path=A)
        row = world.sandbox.store.row("SELECT * FROM articles WHERE id = ?", number)
        assert row is not None
        if "metadata" in changes:
            changes = {"metadata": json.dumps(json.loads(row["metadata"]) | changes["metadata"])}
        world.sandbox.store.update("articles", number, changes)
        with errno_of(ESTALE):
            await ask(world, "publish", path=A, stamp=listed["stamp"])
        world.sandbox.store.update("articles", number, {name: row[name] for name in changes})
        world.sandbox.store.run("UPDATE files SET folder = 'elsewhere' WHERE article_id = ?", number)
        with errno_of(ESTALE):
            await ask(world, "publish", path=A, stamp=listed["stamp"])
        assert publications(world) == 0


async def test_what_is_owed_is_in_the_way(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A deletion within its grace, an upload that is refused, an emptied file, a file being written."""
    async with open_article(tmp_path) as (world, number):
        for name in ("a", "b", "c"):
            await world.save(f"{A}/{name}", b"x" + name.encode())
        complete(world, number)

        async def in_the_way() -> list[str]:
            listed = await ask(world, "check", path=A)
            return [what for verdict, what, _ in listed["points"] if verdict == "no"]

        assert await in_the_way() == []
        await world.unlink(f"{A}/a")
        assert await in_the_way() == ["owed"]
        await world.settled()
        assert await in_the_way() == []
        await world.save(f"{A}/b", b"")
        assert await in_the_way() == ["emptied"]
        await world.save(f"{A}/b", b"full again")
        await world.settled()
        _, handle = await world.create(f"{A}/d")
        await world.files.write(handle, 0, b"half")
        assert await in_the_way() == ["being written"]
        await world.close(handle)
        world.refuse_uploads()
        with pytest.raises(FigfsError):
            await world.save(f"{A}/e", b"too much")
        assert await in_the_way() == ["parked"]


async def test_what_stays_here_is_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Empty files and folders are named, and in nobody's way."""
    async with open_article(tmp_path) as (world, number):
        await world.save(f"{A}/a", b"x")
        await world.save(f"{A}/empty", b"")
        await world.mkdir(f"{A}/plots")
        await world.fs.symlink((await world.node(A)).inode, b".#a", b"ada@host.1")  # emacs' lock
        complete(world, number)
        listed = await ask(world, "check", path=A)
        assert listed["may_be_published"]
        [text] = [text for _, what, text in listed["points"] if what == "only here"]
        assert text.endswith(".#a, empty, plots/")


@pytest.mark.parametrize("times", [1, 99])
async def test_a_lost_answer(tmp_path: Path, autojump_clock: MockClock, times: int) -> None:
    """The version tells that it was published; the request is not sent again."""
    async with open_article(tmp_path) as (world, number):
        await world.save(f"{A}/a", b"x")
        complete(world, number)
        listed = await ask(world, "check", path=A)
        world.faults(
            {"role": "api", "method": "POST", "path": "/publish$", "action": "lose_answer", "times": times}
        )
        told = await ask(world, "publish", path=A, stamp=listed["stamp"])
        assert (told["version"], told["seen"]) == (1, True)
        assert publications(world) == 1


async def test_a_lost_request(tmp_path: Path, autojump_clock: MockClock) -> None:
    """It never arrived, which cannot be told from a lost answer: it is not sent again by itself."""
    async with open_article(tmp_path) as (world, number):
        await world.save(f"{A}/a", b"x")
        complete(world, number)
        listed = await ask(world, "check", path=A)
        world.faults(
            {"role": "api", "method": "POST", "path": "/publish$", "action": "status", "status": 502}
        )
        with pytest.raises(UnknownOutcome, match="Nothing is sent again"):
            await ask(world, "publish", path=A, stamp=listed["stamp"])
        assert publications(world) == 1


async def test_a_refusal_is_told(tmp_path: Path, autojump_clock: MockClock) -> None:
    """With Figshare's own words; nothing is tried again."""
    async with open_article(tmp_path) as (world, number):
        await world.save(f"{A}/a", b"x")
        complete(world, number)
        listed = await ask(world, "check", path=A)
        body = {"message": "A reviewer has to look at it first", "code": "Forbidden"}
        world.faults(
            {
                "role": "api",
                "method": "POST",
                "path": "/publish$",
                "action": "status",
                "status": 403,
                "body": body,
            }
        )
        with pytest.raises(Forbidden, match="A reviewer has to look at it first"):
            await ask(world, "publish", path=A, stamp=listed["stamp"])
        assert publications(world) == 1


async def test_one_publication_at_a_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    """A second command for the same item is told so."""
    async with open_article(tmp_path) as (world, number):
        await world.save(f"{A}/a", b"x")
        complete(world, number)
        stamp = (await ask(world, "check", path=A))["stamp"]
        gate = world.wire.hold("POST", "/publish$")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: ask(world, "publish", path=A, stamp=stamp))
            await gate.reached.wait()
            with errno_of(EBUSY):
                await ask(world, "publish", path=A, stamp=stamp)
            gate.open()
        assert publications(world) == 1


@pytest.mark.parametrize("held", ["files$", "publish$"])
async def test_nothing_comes_in_between(tmp_path: Path, autojump_clock: MockClock, held: str) -> None:
    """A file that is saved, one that is removed and a title that is changed during the second look, or before
    the answer: they wait, and are not in what is published. Other articles do not wait.
    """
    async with open_article(tmp_path, grace=0.0) as (world, number):
        await world.save(f"{A}/a.csv", b"one")
        await world.save(f"{A}/b.csv", b"two")
        complete(world, number)
        stamp = (await ask(world, "check", path=A))["stamp"]
        method = "GET" if held == "files$" else "POST"
        gate = world.wire.hold(method, rf"/account/articles/{number}/{held}")
        failed: list[OSError] = []
        async with trio.open_nursery() as nursery:

            async def publish() -> None:
                try:
                    await ask(world, "publish", path=A, stamp=stamp)
                except OSError as exc:
                    failed.append(exc)

            nursery.start_soon(publish)
            await gate.reached.wait()
            world.wire.asked.clear()
            nursery.start_soon(world.save, f"{A}/never-shown.csv", b"rows")
            await world.unlink(f"{A}/b.csv")
            nursery.start_soon(world.rename, A, "articles/another title")
            await world.mkdir("articles/other")
            await world.save("articles/other/c.csv", b"three")
            await trio.sleep(3.0)  # of the fast clock
            assert [
                line for line in world.wire.asked if not line.startswith("GET") and str(number) in line
            ] == []
            gate.open()
        await world.settled()
        row = world.sandbox.store.row("SELECT title FROM articles WHERE id = ?", number)
        assert row is not None
        assert row["title"] == "another title"
        public = [file["name"] for file in world.sandbox.store.rows(
            "SELECT name FROM files WHERE article_id = ? AND public ORDER BY name", number)]  # fmt: skip
        if held == "files$":  # they were owed when the list was made
            assert [exc.errno for exc in failed] == [EINVAL]
            assert public == []
        else:
            assert failed == []
            assert public == ["a.csv", "b.csv"]
        assert sorted(world.remote(number)) == ["a.csv", "never-shown.csv"]


async def test_what_is_under_way_comes_first(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The second look waits for a change that was sent before it, and sees what that has made."""
    async with open_article(tmp_path) as (world, number):
        await world.save(f"{A}/a.csv", b"one")
        complete(world, number)
        stamp = (await ask(world, "check", path=A))["stamp"]
        gate = world.wire.hold("POST", r"/files/\d+$")  # the completion of an upload
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.save, f"{A}/b.csv", b"two")
            await gate.reached.wait()
            world.wire.asked.clear()
            nursery.start_soon(_refused, world, stamp, "has changed|cannot be published")
            await trio.sleep(3.0)  # of the fast clock
            assert world.wire.asked == []
            gate.open()
        gate = world.wire.hold("POST", r"/files/\d+$")  # for ever
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.save, f"{A}/c.csv", b"three")
            await gate.reached.wait()
            await _refused(world, stamp, "is being changed")
            nursery.cancel_scope.cancel()
        assert publications(world) == 0


async def _refused(world: World, stamp: str, why: str) -> None:
    with pytest.raises(OSError, match=why):
        await ask(world, "publish", path=A, stamp=stamp)


async def test_the_hold_ends(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Whatever becomes of a publication, what waits for its end goes on: here no answer at all. An unmount
    meanwhile waits for that, and then stores what is owed.
    """
    async with open_article(tmp_path, close_timeout=1.0) as (world, number):
        await world.save(f"{A}/a.csv", b"one")
        await world.settled()
        complete(world, number)
        stamp = (await ask(world, "check", path=A))["stamp"]
        gate = world.wire.hold("POST", "/publish$")
        async with trio.open_nursery() as nursery:

            async def publish() -> None:
                with pytest.raises(UnknownOutcome, match="Nothing is sent again"):
                    await ask(world, "publish", path=A, stamp=stamp)

            nursery.start_soon(publish)
            await gate.reached.wait()
            await world.save(f"{A}/b.csv", b"two")  # past its close_timeout it is owed
            assert world.owed() == 1
            assert await world.fs.drain(200.0) == 0
        assert sorted(world.remote(number)) == ["a.csv", "b.csv"]
        assert publications(world) == 1


async def test_who_leaves_meanwhile(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Ctrl-C before the answer: the request is carried out, and what was known of the item is asked anew."""
    async with open_article(tmp_path) as (world, number):
        await world.save(f"{A}/a", b"x")
        complete(world, number)
        stamp = (await ask(world, "check", path=A))["stamp"]
        gate = world.wire.hold("POST", "/publish$")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: ask(world, "publish", path=A, stamp=stamp))
            await gate.reached.wait()
            nursery.cancel_scope.cancel()
            gate.open()
        assert world.sandbox.store.value("SELECT version FROM articles WHERE id = ?", number) == 1
        await world.ls(A)
        node = await world.node(f"{A}/a")
        assert world.fs.getxattr(node.inode, "user.figshare.status") == b"public"
        await world.save(f"{A}/b", b"y")  # nothing is held any more
        assert sorted(world.remote(number)) == ["a", "b"]


async def test_no_look_after_the_answer(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Accepted, and then Figshare answers nothing: that is what is told, and no error."""
    async with open_article(tmp_path) as (world, number):
        await world.save(f"{A}/a", b"x")
        complete(world, number)
        stamp = (await ask(world, "check", path=A))["stamp"]
        gate = world.wire.hold("POST", "/publish$", carried_out=True)
        told: dict[str, Any] = {}
        async with trio.open_nursery() as nursery:

            async def publish() -> None:
                told.update(await ask(world, "publish", path=A, stamp=stamp))

            nursery.start_soon(publish)
            await gate.reached.wait()
            world.faults({"role": "api", "method": "GET", "action": "status", "status": 503})
            gate.open()
        assert told["published"] is None
        assert not told["seen"]


async def test_the_public_version_may_come_late(tmp_path: Path, autojump_clock: MockClock) -> None:
    """404 for a while after the publication (quirk L11): it is waited for; not for ever."""
    async with open_article(tmp_path) as (world, number):
        await world.save(f"{A}/a", b"x")
        complete(world, number)
        late = {"role": "api", "method": "GET", "path": rf"/v2/articles/{number}$", "action": "status",
                "status": 404}  # fmt: skip
        world.faults(late | {"times": 3})
        stamp = (await ask(world, "check", path=A))["stamp"]
        assert (await ask(world, "publish", path=A, stamp=stamp))["seen"]
        await world.save(f"{A}/b", b"y")
        stamp = (await ask(world, "check", path=A))["stamp"]
        world.faults(late | {"skip": 1})  # the list is looked at once more
        told = await ask(world, "publish", path=A, stamp=stamp)
        assert (told["seen"], told["version"]) == (False, 2)


async def test_a_review_comes_first(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Accepted is not published: where Figshare shows no new version, none is claimed."""
    async with open_article(tmp_path) as (world, number):
        await world.save(f"{A}/a", b"x")
        complete(world, number)
        stamp = (await ask(world, "check", path=A))["stamp"]
        world.faults(
            {
                "role": "api",
                "method": "POST",
                "path": "/publish$",
                "action": "status",
                "status": 201,
                "body": {},
            }
        )
        told = await ask(world, "publish", path=A, stamp=stamp)
        assert (told["published"], told["seen"], told["version"]) == (False, False, 0)
        assert publications(world) == 1


async def test_a_read_only_mount_publishes_nothing(tmp_path: Path, autojump_clock: MockClock) -> None:
    """And reserves no DOI; the list is shown."""
    async with open_article(tmp_path) as (world, number):
        await world.save(f"{A}/a", b"x")
        complete(world, number)
        world.parts.publishing.read_only = True
        stamp = (await ask(world, "check", path=A))["stamp"]
        for command in ("publish", "reserve-doi"):
            with errno_of(EROFS):
                await ask(world, command, path=A, stamp=stamp)
        assert world.wire.count("POST", "/(publish|reserve_doi)$") == 0


async def test_reserve_doi(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Reserved once, also where the answer is lost; then it is the one that is told."""
    async with open_article(tmp_path) as (world, number):
        world.faults({"role": "api", "method": "POST", "path": "/reserve_doi$", "action": "lose_answer"})
        first = await ask(world, "reserve-doi", path=A)
        assert first == {"doi": f"10.6084/m9.figshare.{number}", "new": True}
        assert await ask(world, "reserve-doi", path=A) == first | {"new": False}
        assert world.wire.count("POST", "/reserve_doi$") == 1


@pytest.mark.parametrize("fault", [None, "lose_answer"])
async def test_a_project(tmp_path: Path, autojump_clock: MockClock, fault: str | None) -> None:
    """Drafts are in the way by their paths; then one request, also where its answer is lost; only once."""
    async with open_article(tmp_path) as (world, _):
        await world.mkdir("projects/ice")
        article = await world.mkdir("projects/ice/cores")
        await world.save("projects/ice/cores/a", b"x")
        listed = await ask(world, "check", path="projects/ice")
        assert ["no", "not public", "projects/ice/cores"] in listed["points"]
        assert not listed["may_be_published"]
        assert isinstance(article.key.id, int)
        complete(world, article.key.id)
        stamp = (await ask(world, "check", path="projects/ice/cores"))["stamp"]
        await ask(world, "publish", path="projects/ice/cores", stamp=stamp)
        listed = await ask(world, "check", path="projects/ice")
        assert listed["may_be_published"], listed
        world.wire.asked.clear()
        if fault is not None:
            world.faults({"role": "api", "method": "POST", "path": "/publish$", "action": fault})
        told = await ask(world, "publish", path="projects/ice", stamp=listed["stamp"])
        assert (told["published"], told["seen"], told["kind"], told["doi"]) == (True, True, "project", "")
        assert "/projects/" in told["page"]
        assert publications(world) == 1
        node = await world.node("projects/ice")
        assert world.fs.getxattr(node.inode, "user.figshare.status") == b"public"
        listed = await ask(world, "check", path="projects/ice")
        assert [what for verdict, what, _ in listed["points"] if verdict == "no"] == ["status"]
        with errno_of(EINVAL):
            await ask(world, "publish", path="projects/ice", stamp=listed["stamp"])
        with errno_of(EINVAL):
            await ask(world, "reserve-doi", path="projects/ice")


async def test_a_project_that_changes(tmp_path: Path, autojump_clock: MockClock) -> None:
    """An article that comes between the list and the yes: ESTALE. What is owed in it is in the way."""
    async with open_article(tmp_path) as (world, _):
        await world.mkdir("projects/ice")
        stamp = (await ask(world, "check", path="projects/ice"))["stamp"]
        article = await world.mkdir("projects/ice/cores")
        assert isinstance(article.key.id, int)
        await world.save("projects/ice/cores/a", b"x")
        world.sandbox.store.update(
            "articles", article.key.id, {"version": 1, "published": "2024-01-01T00:00:00Z"}
        )
        with errno_of(ESTALE):
            await ask(world, "publish", path="projects/ice", stamp=stamp)
        await world.unlink("projects/ice/cores/a")
        listed = await ask(world, "check", path="projects/ice")
        assert [what for verdict, what, _ in listed["points"] if verdict == "no"] == ["owed"]
        assert publications(world) == 0


async def test_paths(tmp_path: Path, autojump_clock: MockClock) -> None:
    """What is named is an item or in one; links in collections lead to it; nothing else is published."""
    async with open_article(tmp_path) as (world, number):
        await world.save(f"{A}/plots/a".replace("plots/", ""), b"x")
        await world.mkdir("collections/selected")
        row = world.sandbox.store.row("SELECT id FROM collections WHERE title = 'selected'")
        assert row is not None
        world.sandbox.store.run_many(
            "INSERT INTO collection_articles (collection_id, article_id) VALUES (?, ?)", [(row["id"], number)]
        )
        await world.refreshed("collections/selected")
        for path in (A, f"articles/{number}", "collections/selected/data set", f"{A}/a"):
            assert (await ask(world, "item", path=path))["path"] == A
        assert (await ask(world, "info", path="collections/selected/data set/a"))["kind"] == "file"
        assert (await ask(world, "info", path="collections/selected"))["articles"] == 1
        for path, number_of in (
            ("", EINVAL),
            ("articles", EINVAL),
            (f"{A}/a", EINVAL),
            ("articles/none", ENOENT),
        ):
            with errno_of(number_of):
                await ask(world, "check", path=path)
        await world.symlink(".#a", f"{A}/.#a")
        with errno_of(ELOOP):
            await ask(world, "item", path=f"{A}/.#a")


async def test_documents_follow(tmp_path: Path, autojump_clock: MockClock) -> None:
    """What .figshare has of an item is made anew once it has a DOI, is published, or is refreshed."""
    async with open_article(tmp_path) as (world, number):
        await world.save(f"{A}/a", b"x")
        complete(world, number)

        async def citation() -> str:
            node = await world.node(f"{A}/.figshare/citation.txt")
            handle = await world.fs.open_document(node.inode, 0, 1)
            data = await world.fs.read(handle, 0, 10_000)
            await world.fs.release(handle)
            return bytes(data).decode()

        assert "doi.org" not in await citation()
        await ask(world, "reserve-doi", path=A)
        assert f"{number}\n" in await citation()
        await ask(world, "publish", path=A, stamp=(await ask(world, "check", path=A))["stamp"])
        assert f"{number}.v1" in await citation()
        world.sandbox.store.update("articles", number, {"title": "another title"})
        assert "another title" not in await citation()
        await ask(world, "refresh", path=f"{A}/.figshare/citation.txt")
        assert "another title" in await citation()


async def test_info(tmp_path: Path, autojump_clock: MockClock) -> None:
    """The card of an article and of a file, with what is owed of it."""
    async with open_article(tmp_path) as (world, number):
        await world.save(f"{A}/a", b"x" * 5)
        await world.unlink(f"{A}/a")
        await world.save(f"{A}/b", b"y")
        card = await ask(world, "info", path=A)
        assert (card["kind"], card["id"], card["status"], card["path"]) == ("article", number, "draft", A)
        assert (card["authors"], card["license"], card["owed"]) == (["Ada Sandbox"], "CC BY 4.0", 1)
        assert card["page"].endswith(f"/account/articles/{number}")
        one = await ask(world, "info", path=f"{A}/b")
        assert (one["kind"], one["size"], one["status"]) == ("file", 1, "available")
        assert re.fullmatch("[0-9a-f]{32}", one["md5"])
        _, handle = await world.create(f"{A}/new")
        assert "not on Figshare" in (await ask(world, "info", path=f"{A}/new"))["status"]
        world.files.release(handle)


async def test_refresh(tmp_path: Path, autojump_clock: MockClock) -> None:
    """What was changed elsewhere is there at once, and the kernel is told which names are not as before."""
    async with open_article(tmp_path) as (world, number):
        await world.save(f"{A}/old", b"x")
        await world.save(f"{A}/stays", b"y")
        node = await world.node(A)
        told: list[tuple[int, str]] = []
        world.parts.items.let_go = lambda parent, name: told.append((parent, name))
        world.sandbox.store.run("UPDATE files SET name = 'new' WHERE name = 'old'")
        assert await world.ls(A) == ["old", "stays"]
        assert (await ask(world, "refresh", path=f"{A}/stays"))["path"] == A
        assert isinstance(node, Container)
        assert sorted(node.children) == ["new", "stays"]
        assert told == [(node.inode, "old")]
        asked = world.wire.count("GET", rf"/articles/{number}$")
        await ask(world, "refresh", path="")  # everything below: at the next look
        assert world.wire.count("GET", rf"/articles/{number}$") == asked
        await world.ls(A)
        assert world.wire.count("GET", rf"/articles/{number}$") == asked + 1
        world.wire.down = True
        with pytest.raises(FigfsError):
            await ask(world, "refresh", path=A)
        assert sorted(node.children) == ["new", "stays"]
