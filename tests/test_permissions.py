"""What is known to be refused is refused at once: projects that are shared with the account, in a role."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from inprocess import World, example, open_world
from trio.testing import MockClock

from figfs.errors import Forbidden
from figfs.namespace import permissions
from figfs.posix import Change
from figfs.sandbox import sharing, withdrawing
from figfs.sandbox.state import Sandbox

ICE, SEA, BALANCE, FROGS = 150001, 150002, 20000001, 20000005


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with example() as sandbox:
        yield sandbox


@pytest.fixture
async def w(sandbox: Sandbox, tmp_path: Path, clock: MockClock) -> AsyncIterator[World]:
    async with open_world(tmp_path / "mount", sandbox=sandbox) as world:
        yield world


ARTICLE = f"projects/{ICE}/{BALANCE}"


async def mode_of(w: World, path: str) -> int:
    return stat.S_IMODE(w.fs.attributes(await w.node(path)).mode)


async def chmod(w: World, path: str) -> None:
    await w.fs.setattr((await w.node(path)).inode, Change(mode=0o600), None)


CHANGES: dict[str, Callable[[World], Awaitable[object]]] = {
    "create": lambda w: w.create(f"{ARTICLE}/new"),
    "create in a folder": lambda w: w.create(f"{ARTICLE}/data/new"),
    "write": lambda w: w.open(f"{ARTICLE}/README.md", os.O_WRONLY),
    "truncate": lambda w: w.open(f"{ARTICLE}/README.md", os.O_TRUNC),
    "unlink": lambda w: w.unlink(f"{ARTICLE}/README.md"),
    "symlink": lambda w: w.symlink("https://example.org/x", f"{ARTICLE}/link"),
    "mkdir of a folder": lambda w: w.mkdir(f"{ARTICLE}/new"),
    "mkdir of an article": lambda w: w.mkdir(f"projects/{ICE}/New article"),
    "rmdir": lambda w: w.rmdir(ARTICLE),
    "rmdir of the project": lambda w: w.rmdir(f"projects/{ICE}"),
    "rename": lambda w: w.rename(f"{ARTICLE}/README.md", f"{ARTICLE}/other"),
    "rename out": lambda w: w.rename(f"{ARTICLE}/README.md", f"articles/{FROGS}/README.md"),
    "rename in": lambda w: w.rename(f"articles/{FROGS}/README.txt", f"{ARTICLE}/README.txt"),
    "rename of an article": lambda w: w.rename(ARTICLE, f"projects/{ICE}/Another"),
    "rename of the project": lambda w: w.rename(f"projects/{ICE}", "projects/Another"),
    "chmod": lambda w: chmod(w, f"{ARTICLE}/README.md"),
}


@pytest.mark.parametrize("what", CHANGES)
async def test_a_viewer_changes_nothing(sandbox: Sandbox, w: World, what: str) -> None:
    """EACCES at once: Figshare is not asked, nothing waits in the journal, and all is as before."""
    sharing.share(sandbox, ICE, sharing.VIEWER)
    before = await w.ls(ARTICLE)
    asked = len([line for line in w.wire.asked if not line.startswith("GET")])
    with pytest.raises(OSError, match="shared with this account as a viewer only") as refused:
        await CHANGES[what](w)
    assert refused.value.errno == errno.EACCES
    assert await w.ls(ARTICLE) == before
    assert len([line for line in w.wire.asked if not line.startswith("GET")]) == asked
    assert w.local_state() == (0, 0)
    assert w.owed() == 0


async def test_a_viewer_sees_that_nothing_can_be_written_and_reads(sandbox: Sandbox, w: World) -> None:
    """Directories 0555, files 0444, whatever a program has set before; what is elsewhere is as ever."""
    path = f"{ARTICLE}/README.md"
    assert (await mode_of(w, path), await mode_of(w, ARTICLE)) == (0o644, 0o755)
    await chmod(w, path)
    sharing.share(sandbox, ICE, sharing.VIEWER)
    await w.refreshed("projects")
    for directory in (f"projects/{ICE}", ARTICLE, f"{ARTICLE}/data", f"{ARTICLE}/data/2019"):
        assert await mode_of(w, directory) == 0o555, directory
    assert await mode_of(w, path) == 0o444
    assert bytes(await w.read(path)).startswith(b"# Mass balance")
    assert await mode_of(w, f"projects/{SEA}") == 0o755
    assert await mode_of(w, f"articles/{FROGS}/README.txt") == 0o644


async def test_a_role_that_changes_is_heard_with_the_list_of_projects(sandbox: Sandbox, w: World) -> None:
    sharing.share(sandbox, ICE, sharing.VIEWER)
    assert await mode_of(w, ARTICLE) == 0o555
    sharing.share(sandbox, ICE, sharing.COLLABORATOR)
    await w.refreshed("projects")
    assert await mode_of(w, ARTICLE) == 0o755
    made = await w.mkdir(f"projects/{ICE}/Of the collaborator")
    await w.save(f"projects/{ICE}/Of the collaborator/f", b"x" * 100)
    await w.settled()
    assert w.remote(made.key.id) == {"f": "available"}


async def test_a_role_that_is_not_told_refuses_nothing(w: World) -> None:
    """Another server may tell none: Figshare is asked, as before."""
    await w.ls("projects")
    w.sandbox.store.run("UPDATE projects SET metadata = json_set(metadata, '$.shared_as', '')")
    await w.refreshed("projects")
    assert await mode_of(w, ARTICLE) == 0o755


async def test_a_collaborator_deletes_no_article_of_another(sandbox: Sandbox, w: World) -> None:
    """Figshare refuses it, and it stays."""
    sharing.share(sandbox, ICE, sharing.COLLABORATOR)
    empty = await w.mkdir(f"projects/{ICE}/Empty")
    sandbox.store.update("articles", int(empty.key.id), {"owner": 1000002})
    with pytest.raises(Forbidden):  # EPERM
        await w.rmdir(f"projects/{ICE}/Empty")
    assert "Empty" in await w.ls(f"projects/{ICE}")


async def test_the_state_of_an_embargoed_directory_is_its_reason(sandbox: Sandbox, w: World) -> None:
    """semantics: the reason is in ``user.figshare.state``. Its owner has the files, and it is clean."""
    withdrawing.embargo_files(sandbox, FROGS, "2027-01-01T00:00:00")
    public, own = await w.node(f"public/articles/{FROGS}"), await w.node(f"articles/{FROGS}")
    assert await w.ls(f"public/articles/{FROGS}") == []
    assert w.fs.getxattr(public.inode, "user.figshare.state") == b"embargoed until 2027-01-01"
    assert bytes(await w.read(f"articles/{FROGS}/README.txt")).startswith(b"Recordings of 2019")
    assert w.fs.getxattr(own.inode, "user.figshare.state") == b"clean"


EMBARGOED = f"projects/{ICE}/{FROGS}"


def _embargo_in_project(sandbox: Sandbox, role: str) -> None:
    sandbox.store.run("UPDATE articles SET project_id = ? WHERE id = ?", ICE, FROGS)
    withdrawing.embargo_files(sandbox, FROGS, "2027-01-01T00:00:00")
    sharing.share(sandbox, ICE, role)


@pytest.mark.parametrize("role", [sharing.VIEWER, sharing.COLLABORATOR])
async def test_anothers_files_under_an_embargo(sandbox: Sandbox, w: World, role: str) -> None:
    """semantics: EACCES at ``open``, the reason in ``user.figshare.state``; no byte is asked for."""
    _embargo_in_project(sandbox, role)
    node = await w.node(f"{EMBARGOED}/README.txt")
    with pytest.raises(OSError, match="are another's, and embargoed until 2027-01-01") as refused:
        await w.open(f"{EMBARGOED}/README.txt")
    assert refused.value.errno == errno.EACCES
    article = await w.node(EMBARGOED)
    for inode in (node.inode, article.inode):
        assert w.fs.getxattr(inode, "user.figshare.state") == b"embargoed until 2027-01-01"
    assert w.wire.count("GET", "/file/download/") == 0
    handle = await w.open(f"{ARTICLE}/README.md")  # no embargo there
    w.files.release(handle)


async def test_own_files_under_an_embargo_are_read(sandbox: Sandbox, w: World) -> None:
    _embargo_in_project(sandbox, sharing.OWNER)
    assert bytes(await w.read(f"{EMBARGOED}/README.txt")).startswith(b"Recordings of 2019")
    node = await w.node(f"{EMBARGOED}/README.txt")
    assert w.fs.getxattr(node.inode, "user.figshare.state") == b"clean"
    article = await w.node(EMBARGOED)
    assert w.fs.getxattr(article.inode, "user.figshare.status") == b"embargoed until 2027-01-01"


async def test_an_owner_whose_id_is_of_another_kind_is_not_refused(sandbox: Sandbox, w: World) -> None:
    """Ids that cannot be compared, as other servers have them, say nothing."""
    _embargo_in_project(sandbox, sharing.VIEWER)
    node = await w.file(f"{EMBARGOED}/README.txt")
    assert permissions.withheld(node, "a-uuid") == permissions.withheld(node, None) == ""
