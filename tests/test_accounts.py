"""Accounts of an institution as mounts inside the mount: their names, whose a request is, when one is opened
and let go. In process; what programs do there is in ``mounted/test_mounted_accounts.py``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from inprocess import GRACE, World, errno_of, figshare, open_world
from trio.testing import MockClock

from figfs import colleagues as module
from figfs.assembly import Parts, assemble
from figfs.colleagues import Colleagues
from figfs.control.inside import left_in, report_of_all
from figfs.filesystem import FileSystem
from figfs.namespace.nodes import (
    FIRST_OF_COLLEAGUES,
    Container,
    Key,
    Kind,
    LinkNode,
    Node,
    inode_of,
    numbering_of,
)
from figfs.routing import FIRST_HANDLE, Router
from figfs.sandbox import members
from figfs.sandbox.state import Sandbox
from figfs.writing.sending import PARTS_AT_ONCE

PLACE = "institution/accounts"
SVEN, OTHER, THIRD = 1000002, 1000003, 1000004


@dataclasses.dataclass
class Institution:
    world: World
    router: Router
    colleagues: Colleagues
    let_go: list[tuple[int, str]]

    async def place(self, name: str) -> Container:
        """The directory of an account, which the kernel has looked up."""
        node = await self.world.node(f"{PLACE}/{name}")
        assert isinstance(node, Container)
        self.router.remember(self.world.fs, node)
        return node

    async def enter(self, name: str) -> FileSystem:
        return await self.router.inside((await self.place(name)).inode)

    async def look(self, fs: FileSystem, parent: int, name: str) -> Node:
        node = await fs.lookup(parent, name.encode())
        self.router.remember(fs, node)
        return node

    def open(self) -> set[Any]:
        return set(self.colleagues._open)

    async def settled(self) -> None:
        while self.colleagues.owed():  # noqa: ASYNC110 (there is no event for "nothing is owed")
            await trio.sleep(0.1)


@contextlib.asynccontextmanager
async def open_institution(
    directory: Path, sandbox: Sandbox | None = None, *, resume: bool = True
) -> AsyncIterator[Institution]:
    async with contextlib.AsyncExitStack() as stack:
        if sandbox is None:
            sandbox = await stack.enter_async_context(figshare())
        sandbox.settings.institution_admin = True
        world = await stack.enter_async_context(open_world(directory, sandbox=sandbox))
        world.tree.show_institution()
        router, let_go = Router(world.fs), list[tuple[int, str]]()

        def make(**given: Any) -> Parts:
            state = given.pop("directory")
            return assemble(
                **given,
                spool_directory=state / "spool",
                shared=world.parts.shared,
                inside=True,
                uid=1000,
                gid=1000,
                umask=0o022,
                close_timeout=1000.0,
                dir_timeout=60.0,
                grace=GRACE,
                still_open=lambda pid, inode: False,
                is_killed=lambda pid: False,
                pending_signal=lambda pid: False,
            )

        async def service(run: Callable[[], Awaitable[None]]) -> None:
            await run()

        colleagues = Colleagues(
            client=world.client,
            directory=directory / "accounts",
            mountpoint=Path("/mnt"),
            owner="test",
            nursery=world.services,
            router=router,
            place_of=world.parts.accounts.directory_of,
            make=make,
            service=service,
            store=None,
            read_only=False,
            let_go=lambda parent, name: let_go.append((parent, name)),
        )
        await colleagues.look_for_what_is_left()
        if resume:
            colleagues.resume()
        yield Institution(world, router, colleagues, let_go)


# ---- names -----------------------------------------------------------------------------------------------


async def test_names_of_accounts(tmp_path: Path, clock: MockClock) -> None:
    """Unique and legal: an address, an id where there is none; of two with one address the older has it
    plain.
    """
    async with open_institution(tmp_path / "state") as i:
        for email in ("twice@example.org", "twice@example.org", "", "a/b@example.org"):
            members.add(
                i.world.sandbox,
                first_name="",
                last_name="X",
                email=email,
                institution_user_id="",
                active=True,
            )
        names = await i.world.ls(PLACE)
        assert len(names) == 34
        assert {"twice@example.org", "twice@example.org [1000032]", "1000033", "a∕b@example.org"} <= set(
            names
        )


@pytest.mark.parametrize("listed", [False, True])
async def test_ids_go_before_institution_user_ids(listed: bool, tmp_path: Path, clock: MockClock) -> None:
    """A number is an account's id before it is an institution's; one's own account is the mount itself."""
    async with open_institution(tmp_path / "state") as i:
        members.add(
            i.world.sandbox,
            first_name="",
            last_name="X",
            email="x@example.org",
            institution_user_id=str(SVEN),
            active=True,
        )
        members.add(
            i.world.sandbox,
            first_name="",
            last_name="Y",
            email="y@b.org",
            institution_user_id="77",
            active=True,
        )
        if listed:
            await i.world.ls(PLACE)
        for name, target in ((SVEN, "sven@example.org"), (77, "y@b.org"), (1000001, "ada@example.org")):
            link = await i.world.node(f"{PLACE}/{name}")
            assert isinstance(link, LinkNode)
            assert link.target == target
        own = await i.world.node(f"{PLACE}/ada@example.org")
        assert isinstance(own, LinkNode)
        assert own.target == "../.."
        assert i.open() == set()


async def test_what_was_found_is_what_is_listed(tmp_path: Path, clock: MockClock) -> None:
    """A directory that was looked up before the list came is the same one after it, and comes once."""
    async with open_institution(tmp_path / "state") as i:
        before = await i.world.node(f"{PLACE}/sven@example.org")
        names = await i.world.ls(PLACE)
        assert names.count("sven@example.org") == 1
        assert await i.world.node(f"{PLACE}/sven@example.org") is before


async def test_an_account_that_has_gone(tmp_path: Path, clock: MockClock) -> None:
    """It leaves the list, and links lead to it no more."""
    async with open_institution(tmp_path / "state") as i:
        new = members.add(
            i.world.sandbox,
            first_name="",
            last_name="X",
            email="x@b.org",
            institution_user_id="ux",
            active=True,
        )
        await i.world.ls(PLACE)
        await i.world.node(f"{PLACE}/ux")
        i.world.sandbox.store.run("DELETE FROM members")
        assert "x@b.org" not in await i.world.refreshed(PLACE)
        for name in ("ux", "x@b.org", new.account.id):
            with errno_of(errno.ENOENT):
                await i.world.node(f"{PLACE}/{name}")


def test_numbers() -> None:
    """Of two accounts and the mount itself no two are the same; a kernel takes them as signed, too."""
    keys = [Key(kind, id_) for kind in Kind for id_ in (0, 1, 2, 20000001, "a", "1/b")]
    root = inode_of(Key(Kind.ACCOUNT, SVEN))
    one, other = numbering_of(SVEN, root), numbering_of(str(SVEN) + "x", root + 1)
    numbers = [number(key) for key in keys for number in (one, other, inode_of) if key.kind is not Kind.ROOT]
    assert len(set(numbers)) == len(numbers)
    assert all(0 < number < 1 << 63 for number in numbers)
    assert all(one(key) >= FIRST_OF_COLLEAGUES > inode_of(key) for key in keys if key.kind is not Kind.ROOT)
    assert one(Key(Kind.ROOT, 0)) == root


# ---- whose a request is ----------------------------------------------------------------------------------


async def test_an_account_is_opened_once(tmp_path: Path, clock: MockClock) -> None:
    """However many look at once; the list of them, and their attributes, open none."""
    async with open_institution(tmp_path / "state") as i:
        await i.world.ls(PLACE)
        place = await i.place("sven@example.org")
        i.world.fs.attributes(place)
        assert i.open() == set()
        i.world.wire.asked.clear()
        found = []

        async def look() -> None:
            found.append(await i.router.inside(place.inode))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(look)
        assert len(set(map(id, found))) == 1
        assert i.world.wire.asked == ["GET /v2/account"]
        articles = await i.look(found[0], place.inode, "articles")
        assert i.router.of(articles.inode) is found[0]
        assert i.router.of(place.inode) is i.world.fs
        assert articles.inode >= FIRST_OF_COLLEAGUES
        assert (await found[0].lookup(articles.inode, b"..")).inode == place.inode


async def test_handles_are_told_apart(tmp_path: Path, clock: MockClock) -> None:
    """Those of an account are other numbers than the mount's own."""
    async with open_institution(tmp_path / "state") as i:
        fs = await i.enter("sven@example.org")
        root = (await i.place("sven@example.org")).inode
        number = await fs.opendir(root)
        handle = i.router.opened(fs, number)
        assert handle >= FIRST_HANDLE
        assert i.router.handle(handle) == (fs, number)
        own = await i.world.fs.opendir(i.world.tree.root.inode)
        assert i.router.opened(i.world.fs, own) == own
        assert i.router.handle(own) == (i.world.fs, own)
        assert i.router.has_open(fs)
        i.router.closed(handle)
        assert not i.router.has_open(fs)


async def test_from_one_account_to_another(tmp_path: Path, clock: MockClock) -> None:
    """A change of names across accounts is EXDEV; inside one it is that one's."""
    async with open_institution(tmp_path / "state") as i:
        here, there = await i.place("sven@example.org"), await i.place("member3@example.org")
        fs = await i.router.inside_both(here.inode, here.inode)
        assert fs is await i.router.inside(here.inode)
        for other in (there.inode, i.world.tree.root.inode, i.world.tree.articles.inode):
            with errno_of(errno.EXDEV):
                await i.router.inside_both(here.inode, other)


async def test_what_the_kernel_should_not_know(tmp_path: Path, clock: MockClock) -> None:
    async with open_institution(tmp_path / "state") as i:
        with errno_of(errno.ESTALE):
            i.router.of(FIRST_OF_COLLEAGUES + 5)
        i.router.forget(FIRST_OF_COLLEAGUES + 5, 1)


# ---- opened and let go -----------------------------------------------------------------------------------


async def test_a_refusal_is_kept_for_a_moment(tmp_path: Path, clock: MockClock) -> None:
    """EPERM for five seconds without another request; then it is asked again."""
    async with open_institution(tmp_path / "state") as i:
        place = await i.place("sven@example.org")
        i.world.faults({"role": "api", "path": "/v2/account$", "action": "status", "status": 403})
        for _ in range(3):
            with errno_of(errno.EPERM):
                await i.router.inside(place.inode)
        assert i.world.wire.count("GET", "/v2/account$") == 1
        i.world.faults()
        await trio.sleep(module.RETRY_AFTER_FAILURE + 1)
        assert await i.router.inside(place.inode) is not i.world.fs


async def test_a_server_that_does_not_impersonate(tmp_path: Path, clock: MockClock) -> None:
    """What it answers for the administrator is no colleague's account: nothing is written there."""
    async with open_institution(tmp_path / "state") as i:
        place = await i.place("sven@example.org")
        own = {"id": 1000001, "email": "ada@example.org"}
        i.world.faults(
            {"role": "api", "path": "/v2/account$", "action": "status", "status": 200, "body": own}
        )
        with errno_of(errno.EIO):
            await i.router.inside(place.inode)
        assert i.open() == set()


async def test_an_account_is_known_without_a_network(tmp_path: Path, clock: MockClock) -> None:
    """What an earlier mount has seen of it is shown; what nobody has seen is not."""
    async with figshare() as sandbox:
        async with open_institution(tmp_path / "state", sandbox) as i:
            fs = await i.enter("sven@example.org")
            root = await i.place("sven@example.org")
            articles = await i.look(fs, root.inode, "articles")
            await fs.mkdir(articles.inode, b"Seen before", 0o755)
            await i.world.ls(PLACE)
        async with open_institution(tmp_path / "state", sandbox) as i:
            seen, new = await i.place("sven@example.org"), await i.place("member3@example.org")
            i.world.wire.down = True
            fs = await i.router.inside(seen.inode)
            await i.look(fs, seen.inode, "articles")
            with errno_of(errno.EHOSTUNREACH):
                await i.router.inside(new.inode)


async def test_accounts_that_are_not_used_are_let_go(
    tmp_path: Path, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel is asked to give back what it holds of the one that was not used for longest; then it goes.
    Never one with something open, or something owed.
    """
    monkeypatch.setattr(module, "MOST_OPEN", 2)
    async with open_institution(tmp_path / "state") as i:
        fs = await i.enter("sven@example.org")
        sven = await i.world.node(f"{PLACE}/sven@example.org")
        articles = await i.look(fs, sven.inode, "articles")
        handle = i.router.opened(fs, await fs.opendir(sven.inode))
        await i.enter("member3@example.org")
        await i.enter("member4@example.org")
        assert i.let_go == [(i.world.tree.accounts.inode, "member3@example.org")]
        assert i.open() == {SVEN, OTHER, THIRD}
        other = await i.world.node(f"{PLACE}/member3@example.org")
        i.router.forget(other.inode, 1)
        await i.router.enter(sven)  # type: ignore[arg-type]  # a moment later
        while OTHER in i.open():  # noqa: ASYNC110 (it ends by itself)
            await trio.sleep(0.01)

        fs.releasedir(i.router.handle(handle)[1])
        i.router.closed(handle)
        node = await fs.mkdir(articles.inode, b"For a colleague", 0o755)
        i.router.remember(fs, node)
        _, number = fs.create(node.inode, b"data", 0o644, 1)
        await fs.files.write(number, 0, b"data")
        gate = i.world.wire.hold("POST", "/files$")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fs.flush, number)
            await gate.reached.wait()
            i.let_go.clear()
            await i.enter("member3@example.org")
            assert (i.world.tree.accounts.inode, "sven@example.org") not in i.let_go
            gate.open()
        fs.files.release(number)
        await i.settled()
        assert i.router.of(node.inode) is fs


async def test_what_was_read_is_let_go(
    tmp_path: Path, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account in which files were written, read and closed is at rest, as one that was only listed."""
    monkeypatch.setattr(module, "MOST_OPEN", 1)
    async with open_institution(tmp_path / "state") as i:
        sven = await i.world.node(f"{PLACE}/sven@example.org")
        assert isinstance(sven, Container)
        fs = await i.router.enter(sven)
        articles = await fs.lookup(sven.inode, b"articles")
        node = await fs.mkdir(articles.inode, b"Read", 0o755)
        file, number = fs.create(node.inode, b"data", 0o644, 1)
        await fs.files.write(number, 0, b"data")
        await fs.flush(number)
        await fs.release(number)
        number, _ = fs.open(file.inode, 0, 1)
        assert await fs.read(number, 0, 10) == b"data"
        await fs.release(number)
        await i.settled()
        await i.enter("member3@example.org")
        with trio.fail_after(100):
            while SVEN in i.open():  # noqa: ASYNC110 (it ends by itself)
                await trio.sleep(0.1)


async def test_an_account_that_comes_back(
    tmp_path: Path, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that left the list while it was open, and is there again, is not let go while the kernel holds its
    directory.
    """
    monkeypatch.setattr(module, "MOST_OPEN", 1)
    async with open_institution(tmp_path / "state") as i:
        account = {"first_name": "", "last_name": "X", "email": "x@b.org", "institution_user_id": "ux"}
        add = functools.partial(members.add, i.world.sandbox, **account, active=True)
        add()
        await i.world.ls(PLACE)
        before = await i.world.node(f"{PLACE}/x@b.org")
        fs = await i.router.enter(before)  # type: ignore[arg-type]
        i.world.sandbox.store.run("DELETE FROM members")
        await i.world.refreshed(PLACE)
        add()
        await i.world.refreshed(PLACE)
        place = await i.place("x@b.org")
        assert place is not before
        assert place.inode == before.inode
        assert await i.router.inside(place.inode) is fs
        await i.enter("member3@example.org")
        assert place.key.id in i.open()
        assert i.let_go == [(i.world.tree.accounts.inode, "x@b.org")]


async def test_an_account_is_opened_anew(
    tmp_path: Path, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that was let go shows the same, by the same inode numbers."""
    monkeypatch.setattr(module, "MOST_OPEN", 1)
    async with open_institution(tmp_path / "state") as i:
        sven = await i.world.node(f"{PLACE}/sven@example.org")
        assert isinstance(sven, Container)
        fs = await i.router.enter(sven)
        articles = await i.look(fs, sven.inode, "articles")
        made = await fs.mkdir(articles.inode, b"Stays", 0o755)
        i.router.forget(articles.inode, 1)
        await i.enter("member3@example.org")
        while SVEN in i.open():  # noqa: ASYNC110 (it ends by itself)
            await trio.sleep(0.01)
        again = await i.router.enter(sven)
        assert again is not fs
        same = await i.look(again, sven.inode, "articles")
        assert same.inode == articles.inode
        assert (await again.lookup(same.inode, b"Stays")).inode == made.inode
        assert i.router.of(same.inode) is again


# ---- what is owed ----------------------------------------------------------------------------------------


async def test_limits_are_the_mounts(tmp_path: Path, clock: MockClock) -> None:
    """Parts in flight are counted over all accounts, and so are closes that wait."""
    async with open_institution(tmp_path / "state") as i:
        gate = i.world.wire.hold("PUT", "/upload/")
        for name in ("sven@example.org", "member3@example.org"):
            fs = await i.enter(name)
            root = await i.place(name)
            articles = await i.look(fs, root.inode, "articles")
            node = await fs.mkdir(articles.inode, b"Large", 0o755)
            _, number = fs.create(node.inode, b"data", 0o644, 1)
            await fs.files.write(number, 0, name.encode() * 1000)
            i.world.services.start_soon(fs.flush, number)
        with trio.fail_after(100):
            while i.world.wire.count("POST", "/files$") < 2 or i.world.wire.count("PUT", "/upload/") < 6:  # noqa: ASYNC110
                await trio.sleep(0.1)
        assert i.world.wire.count("PUT", "/upload/") == PARTS_AT_ONCE
        assert i.world.parts.shared.waiting.flushes == 2
        gate.open()
        with trio.fail_after(100):
            while i.world.parts.shared.waiting.flushes:  # noqa: ASYNC110 (they end by themselves)
                await trio.sleep(0.1)


async def test_what_is_owed_is_sent_by_the_next_mount(tmp_path: Path, clock: MockClock) -> None:
    """In the colleague's name, without a look; one that is no account of the institution any more keeps its
    own, and the log says so.
    """
    async with figshare() as sandbox:
        async with open_institution(tmp_path / "state", sandbox) as i:
            i.world.wire.hold("POST", "/files$")
            for name in ("sven@example.org", "member3@example.org"):
                fs = await i.enter(name)
                root = await i.place(name)
                articles = await i.look(fs, root.inode, "articles")
                node = await fs.mkdir(articles.inode, b"Owed", 0o755)
                _, number = fs.create(node.inode, b"data", 0o644, 1)
                await fs.files.write(number, 0, name.encode())
                i.world.services.start_soon(fs.flush, number)
            with trio.fail_after(100):
                while sum(left.rows for left in left_in(tmp_path / "state" / "accounts")) < 2:  # noqa: ASYNC110
                    await trio.sleep(0.1)
            assert i.colleagues.owed() == 2
            assert [place for place, _ in i.colleagues.owing()] == [
                f"{PLACE}/sven@example.org",
                f"{PLACE}/member3@example.org",
            ]
        left = left_in(tmp_path / "state" / "accounts")
        assert [(each.directory.name, each.rows) for each in left] == [(str(SVEN), 1), (str(OTHER), 1)]

        members_before = members.MEMBERS
        try:
            members.MEMBERS = tuple(m for m in members_before if m.account.id != OTHER)
            async with open_institution(tmp_path / "state", sandbox) as i:
                with trio.fail_after(200):
                    while SVEN not in i.open():  # noqa: ASYNC110 (there is no event for it)
                        await trio.sleep(0.1)
                    while not sandbox.store.rows("SELECT * FROM files WHERE status = 'available'"):  # noqa: ASYNC110
                        await trio.sleep(0.1)
                    await i.settled()
                assert OTHER not in i.open()
                report = await report_of_all(i.world.parts.ledger, i.colleagues.owing())
                (entry,) = report["uploads"]
                assert (report["owed"], report["parked"]) == (0, 1)
                assert entry["reason"] == "the institution has no such account"
        finally:
            members.MEMBERS = members_before
        (file,) = sandbox.store.rows("SELECT * FROM files WHERE draft")
        (article,) = sandbox.store.rows("SELECT * FROM articles WHERE id = ?", file["article_id"])
        assert article["owner"] == SVEN
        assert [left.directory.name for left in left_in(tmp_path / "state" / "accounts")] == [str(OTHER)]
