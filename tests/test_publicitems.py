"""``public/`` in process, on a sandbox: found by name, never listed, read-only, as few requests as can be."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from inprocess import World, errno_of, example, open_world
from trio.testing import MockClock

from figfs.namespace.nodes import FileNode, LinkNode
from figfs.posix import Change
from figfs.sandbox import articles, withdrawing
from figfs.sandbox.state import Sandbox
from figfs.settings import Token
from figfs.verbs import publicitems

FROGS, RADAR, BALANCE, PHOTOS, LINKED = 20000005, 20000013, 20000001, 20000002, 20000012
FROGS_DOI = "doi/10.6084/m9.figshare.20000005"


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with example() as sandbox:
        yield sandbox


@pytest.fixture
async def w(sandbox: Sandbox, tmp_path: Path, clock: MockClock) -> AsyncIterator[World]:
    async with open_world(tmp_path / "mount", sandbox=sandbox) as world:
        yield world


async def target(w: World, path: str) -> str:
    node = await w.node(path)
    assert isinstance(node, LinkNode)
    return w.fs.readlink(node.inode).decode()


# ---- finding ------------------------------------------------------------


async def test_public_is_listed_and_what_is_in_it_is_not(w: World) -> None:
    """semantics: ``ls public`` shows four directories, which are empty whatever was found in them."""
    assert await w.ls("public") == ["articles", "collections", "doi", "projects"]
    await w.node(f"public/articles/{FROGS}")
    await w.node(f"public/{FROGS_DOI}")
    for name in ("articles", "projects", "collections", "doi", "doi/10.6084"):
        assert await w.ls(f"public/{name}") == []


async def test_an_article_and_its_versions(w: World) -> None:
    """The latest version by its id, an older one by ``.v<N>``; each with its own files."""
    assert await w.ls(f"public/articles/{FROGS}") == ["README.txt", "annotations.csv", "calls_2019.zip"]
    assert await w.ls(f"public/articles/{FROGS}.v1") == ["README.txt", "calls_2019.zip"]
    assert await w.read(f"public/articles/{FROGS}.v1/README.txt") == b"Recordings of 2019.\n"
    latest = bytes(await w.read(f"public/articles/{FROGS}/README.txt"))
    assert latest == b"Recordings of 2019 and their annotations.\n"


async def test_what_an_article_costs(sandbox: Sandbox, tmp_path: Path, clock: MockClock) -> None:
    """``ls public/articles/<id>``: one request, not again while it is fresh, a version never again."""
    async with open_world(tmp_path / "mount", sandbox=sandbox, dir_timeout=4.0) as w:
        await _costs(w)


async def _costs(w: World) -> None:
    await w.ls(f"public/articles/{FROGS}")
    await w.ls(f"public/articles/{FROGS}.v1")
    assert w.wire.asked == [f"GET /v2/articles/{FROGS}", f"GET /v2/articles/{FROGS}/versions/1"]
    await trio.sleep(5)
    await w.ls(f"public/articles/{FROGS}.v1")
    assert len(w.wire.asked) == 2
    await w.ls(f"public/articles/{FROGS}")
    assert w.wire.count("GET", rf"/articles/{FROGS}$") == 2


@pytest.mark.parametrize(
    "name",
    [".hidden", "autorun.inf", "0", "007", "12x", f"{FROGS}.v0", f"{FROGS}.v", f"{FROGS}.v1.v1", "folder 3"],
)
async def test_what_cannot_be_an_id_costs_no_request(w: World, name: str) -> None:
    for place in ("articles", "projects", "collections"):
        with errno_of(errno.ENOENT):
            await w.node(f"public/{place}/{name}")
    assert w.wire.asked == []


async def test_what_is_not_there_is_asked_for_once(w: World) -> None:
    """semantics: unknown and unpublished items are ENOENT; a file manager's probes cost one request."""
    for article in (99, BALANCE):
        for _ in range(5):
            with errno_of(errno.ENOENT):
                await w.node(f"public/articles/{article}")
        assert w.wire.count("GET", f"/articles/{article}$") == 1
    with errno_of(errno.ENOENT):
        await w.node(f"public/articles/{FROGS}.v3")


async def test_an_item_is_seen_soon_after_it_is_published(
    sandbox: Sandbox, tmp_path: Path, clock: MockClock
) -> None:
    """That it was not there is taken as fresh for ``dir_timeout``, like any listing."""
    async with open_world(tmp_path / "mount", sandbox=sandbox, dir_timeout=1.0) as w:
        for count in (1, 2):
            with errno_of(errno.ENOENT):
                await w.node("public/articles/99")
            assert w.wire.count("GET", "/articles/99$") == count
            await trio.sleep(2)


async def test_two_who_ask_at_once_cost_one_request(w: World) -> None:
    gate = w.wire.hold("GET", f"/articles/{FROGS}$")
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(w.node, f"public/articles/{FROGS}")
        await gate.reached.wait()
        gate.open()
    assert len(w.wire.asked) == 1


async def test_without_a_network_nothing_is_said_about_an_item(w: World, clock: MockClock) -> None:
    """Not there, and not to be had now, are two things."""
    w.wire.down = True
    with pytest.raises(Exception, match="no connection") as caught:
        await w.node(f"public/articles/{FROGS}")
    assert getattr(caught.value, "errno", None) == errno.EHOSTUNREACH
    w.wire.down = False
    await trio.sleep(10)
    assert await w.ls(f"public/articles/{FROGS}.v1")
    assert await w.ls(f"public/articles/{FROGS}")


async def test_what_nobody_uses_is_forgotten(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most so many items are kept; what the kernel holds stays, also by a file in it."""
    monkeypatch.setattr(publicitems, "MOST_KEPT", 2)
    held = await w.node(f"public/articles/{FROGS}.v1/README.txt")
    w.fs.remember(held)
    await w.node(f"public/articles/{RADAR}")
    await w.node(f"public/articles/{FROGS}.v2")
    await w.node(f"public/articles/{FROGS}")
    assert set(w.tree.public_articles.unlisted) <= {f"{FROGS}.v1", f"{FROGS}.v2", f"{FROGS}"}
    assert (await w.node(f"public/articles/{FROGS}.v1/README.txt")) is held
    assert await w.ls(f"public/articles/{RADAR}") == ["radar.h5"]


# ---- DOIs ------------------------------------------------------------


async def test_a_doi_is_a_link_to_its_article(w: World) -> None:
    """semantics: with and without ``.v<N>``, in any case; following it asks nothing more."""
    assert await target(w, f"public/{FROGS_DOI}") == f"../../articles/{FROGS}"
    assert await target(w, f"public/{FROGS_DOI}.v1") == f"../../articles/{FROGS}.v1"
    assert await target(w, f"public/doi/10.6084/M9.FigShare.{FROGS}.V2") == f"../../articles/{FROGS}.v2"
    asked = len(w.wire.asked)
    assert await w.ls(f"public/articles/{FROGS}.v1")
    assert len(w.wire.asked) == asked == 3


@pytest.mark.parametrize(
    "doi",
    [
        "10.5281/zenodo.20000005",  # an id that is an article's here, too
        "10.6084/m9.figshare.20000005.v9",
        "10.6084/m9.figshare.20000001",  # never published
        "10.1038/s41586-020-2649-2",
    ],
)
async def test_a_doi_that_is_not_here(w: World, doi: str, caplog: pytest.LogCaptureFixture) -> None:
    """semantics: a DOI of another repository is ENOENT, with a reason in the log, and asked for once."""
    with errno_of(errno.ENOENT):
        await w.node(f"public/doi/{doi}")
    assert f"has the DOI {doi}" in caplog.text
    asked = len(w.wire.asked)
    assert asked <= 5
    with errno_of(errno.ENOENT):
        await w.node(f"public/doi/{doi}")
    assert len(w.wire.asked) == asked


@pytest.mark.parametrize("doi", ["11.6084/x1", "10.6084/.hidden", "10.6084/nonsense", "autorun.inf/x1"])
async def test_what_cannot_be_a_doi_costs_no_request(w: World, doi: str) -> None:
    with errno_of(errno.ENOENT):
        await w.node(f"public/doi/{doi}")
    assert w.wire.asked == []


# ---- reading ------------------------------------------------------------


async def test_the_same_bytes_are_fetched_once(w: World) -> None:
    """The own article, its versions and public/ share the cache, by MD5."""
    await w.read("articles/Frog calls of the Atlantic forest/annotations.csv")
    before = w.wire.count("GET", "/file/download/")
    await w.read(f"public/articles/{FROGS}/annotations.csv")
    await w.read(f"public/articles/{FROGS}.v2/annotations.csv")
    assert w.wire.count("GET", "/file/download/") == before


async def test_own_and_public_nodes_are_others(w: World) -> None:
    """One article, three directories: every file has an inode number and a life of its own."""
    own = "articles/Frog calls of the Atlantic forest"
    paths = (own, f"public/articles/{FROGS}", f"public/articles/{FROGS}.v2")
    nodes = [await w.node(f"{path}/annotations.csv") for path in paths]
    assert len({node.inode for node in nodes}) == 3
    await w.unlink(f"{own}/annotations.csv")
    assert "annotations.csv" in await w.ls(f"public/articles/{FROGS}")
    assert await w.read(f"public/articles/{FROGS}/annotations.csv")


# ---- nothing is changed ------------------------------------------------------------


async def test_everything_is_read_only(w: World) -> None:
    """semantics: write in public/: EROFS, whatever the verb."""
    article, file = f"public/articles/{FROGS}.v1", f"public/articles/{FROGS}.v1/README.txt"
    directory, node = await w.node(article), await w.file(file)
    attributes = w.fs.attributes(node)
    assert stat.S_IMODE(attributes.mode) == 0o444
    assert stat.S_IMODE(w.fs.attributes(directory).mode) == 0o555
    for place in ("public", "public/articles", "public/doi", article):
        with errno_of(errno.EROFS):
            await w.create(f"{place}/new")
        with errno_of(errno.EROFS):
            await w.mkdir(f"{place}/new")
        with errno_of(errno.EROFS):
            await w.fs.symlink((await w.node(place)).inode, b"new", b"https://example.org/x")
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_TRUNC):
        with errno_of(errno.EROFS):
            await w.open(file, flags)
    for change in (Change(size=0), Change(size=100), Change(mode=0o600), Change(mtime_ns=1)):
        with errno_of(errno.EROFS):
            await w.fs.setattr(node.inode, change, None)
    with errno_of(errno.EROFS):
        await w.unlink(file)
    with errno_of(errno.EROFS):
        await w.rmdir(article)
    with errno_of(errno.EROFS):
        await w.rename(file, f"{article}/other")
    with errno_of(errno.EROFS):
        await w.rename(file, "articles/Supplementary material/other")
    with errno_of(errno.EROFS):
        await w.rename("articles/Results of run 12/tiny.txt", f"{article}/tiny.txt")
    with errno_of(errno.EROFS):
        w.fs.setxattr(node.inode, "user.note", b"x")
    with errno_of(errno.EROFS):
        w.fs.removexattr(node.inode, "user.note")
    assert w.fs.attributes(node) == attributes


async def test_a_handle_of_a_public_file_takes_no_bytes(w: World) -> None:
    """Not even from who gets past the kernel: nothing is written, spooled or owed."""
    handle = await w.open(f"public/articles/{FROGS}/README.txt")
    node = await w.file(f"public/articles/{FROGS}/README.txt")
    with errno_of(errno.EROFS):
        await w.files.write(handle, 0, b"x")
    with errno_of(errno.EROFS):
        await w.files.truncate(node, 0, handle)
    await w.close(handle)
    assert isinstance(node, FileNode)
    assert node.local_size is None
    assert w.owed() == 0
    assert not list(w.spool_directory.glob("*"))


# ---- what is taken from the public ------------------------------------------------------------


async def test_a_withdrawn_article_goes(sandbox: Sandbox, tmp_path: Path, clock: MockClock) -> None:
    """semantics: withdrawn: ENOENT, once what was known of it is not fresh any more."""
    async with open_world(tmp_path / "mount", sandbox=sandbox, dir_timeout=1.0) as w:
        assert await w.ls(f"public/articles/{RADAR}") == ["radar.h5"]
        withdrawing.withdraw(sandbox, RADAR)
        await trio.sleep(2)
        with errno_of(errno.ENOENT):
            await w.ls(f"public/articles/{RADAR}")
        with errno_of(errno.ENOENT):
            await w.node(f"public/articles/{RADAR}")


async def test_an_embargo_hides_the_files(w: World, caplog: pytest.LogCaptureFixture) -> None:
    """semantics: the article is there, its files are not; status and log say until when."""
    caplog.set_level("INFO")
    withdrawing.embargo_files(w.sandbox, FROGS, "2027-01-01T00:00:00")
    for path in (f"public/articles/{FROGS}", f"public/articles/{FROGS}.v1"):
        assert await w.ls(path) == []
        with errno_of(errno.ENOENT):
            await w.node(f"{path}/README.txt")
        inode = (await w.node(path)).inode
        assert w.fs.getxattr(inode, "user.figshare.status") == b"embargoed until 2027-01-01"
        assert f"/{path}: its files are not public: embargoed until 2027-01-01" in caplog.text


async def test_collections_and_projects(w: World) -> None:
    """Their articles are links to ``public/articles``, one's own too; a ``.c.`` DOI leads to a collection."""
    w.sandbox.store.update("collections", 6000001, {"published": "2024-06-01T00:00:00Z", "version": 1})
    w.sandbox.store.update("collections", 6000001, {"doi": "10.6084/m9.figshare.c.6000001.v1"})
    w.sandbox.store.update("projects", 150001, {"published": "2024-06-01T00:00:00Z"})
    names = ["Airborne radar of the same glacier", "Frog calls of the Atlantic forest"]
    assert await w.ls("public/collections/6000001") == names
    assert await target(w, f"public/collections/6000001/{names[0]}") == f"../../articles/{RADAR}"
    assert await target(w, "public/doi/10.6084/m9.figshare.c.6000001.v1") == "../../collections/6000001"
    assert await target(w, "public/doi/10.6084/m9.figshare.c.6000001") == "../../collections/6000001"
    assert await w.ls("public/projects/150001") == []
    with errno_of(errno.ENOENT):
        await w.node("public/projects/150002")
    with errno_of(errno.EROFS):
        await w.unlink(f"public/collections/6000001/{names[0]}")


async def test_no_token_is_sent_for_what_is_public(w: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither to the API nor for the bytes; so a token that is refused keeps nobody from reading."""
    monkeypatch.setattr(w.client.wire, "token", Token("wrong"))
    assert await w.read(f"public/articles/{FROGS}.v1/README.txt") == b"Recordings of 2019.\n"
    assert await target(w, f"public/{FROGS_DOI}") == f"../../articles/{FROGS}"


async def test_folders_many_files_and_links(w: World) -> None:
    """As in an own article: folders, more files than the details show, linked files as symlinks."""
    for article in (BALANCE, PHOTOS, LINKED):
        articles.publish(w.sandbox, articles.own(w.sandbox, article))
    place = f"public/articles/{BALANCE}"
    assert await w.ls(place) == ["README.md", "data", "rasters"]
    assert await w.ls(f"{place}/data/2019") == ["stakes.csv"]
    own = "projects/Glacier mass balance 2019–2023/Mass balance of Storglaciären, 2019–2023"
    for path in ("data", "data/2019", "data/2019/stakes.csv"):
        assert (await w.node(f"{place}/{path}")).inode != (await w.node(f"{own}/{path}")).inode
    assert await w.read(f"{place}/data/2019/stakes.csv") == await w.read(f"{own}/data/2019/stakes.csv")
    for verb in (w.mkdir, w.create):
        with errno_of(errno.EROFS):
            await verb(f"{place}/data/new")
    with errno_of(errno.EROFS):
        await w.rename(f"{place}/data", f"{place}/other")
    w.wire.asked.clear()
    assert len(await w.ls(f"public/articles/{PHOTOS}.v1")) == 12
    assert len(w.wire.asked) == 2
    assert await target(w, f"public/articles/{LINKED}/extent.nc") == "https://data.example.org/ice/extent.nc"
