"""Room in the account: what counts, what is asked, and that doubt lets a program write."""

from __future__ import annotations

import errno

import pytest
import trio
from trio.testing import MockClock

from figfs.content.localfiles import LocalFile
from figfs.content.quota import Quota
from figfs.errors import Unreachable
from figfs.figshare.records import Account, Project
from figfs.namespace.nodes import Container, FileNode, Key, Kind
from figfs.writing.journal import Upload


def in_article(name: str = "f", *, project: Project | None = None) -> LocalFile:
    """An empty file in an article of its own, in no project unless given."""
    around = Container(Key(Kind.PROJECT, 1) if project else Key(Kind.ARTICLES, ""), 2)
    around.record = project
    article, node = Container(Key(Kind.ARTICLE, 1), 3), FileNode(Key(Kind.FILE, 1), 4)
    article.parent, node.parent, node.name = around, article, name
    return LocalFile(node)


def owed(row: int, size: int, *, file_id: int | None = None) -> Upload:
    return Upload(
        row=row, article_id=1, folder="", name="x", size=size, md5="", spool_name="1", file_id=file_id
    )


class Figshare:
    """Answers with ``account``, or fails."""

    def __init__(self, **account: int | None) -> None:
        self.account = Account(id=1, **account)
        self.files: list[LocalFile] = []
        self.resumed: list[Upload] = []
        self.asked = 0
        self.failure: Exception | None = None
        self.quota = Quota(
            account=self.account, ask=self.ask, files=lambda: self.files, resumed=lambda: self.resumed
        )

    async def ask(self) -> Account:
        self.asked += 1
        await trio.sleep(0.1)
        if self.failure is not None:
            raise self.failure
        return self.account

    async def refused(self, file: LocalFile, size: int) -> None:
        with pytest.raises(OSError, match="left") as caught:
            await self.quota.charge(file, size)
        assert caught.value.errno == errno.EDQUOT


async def test_what_fits_costs_no_request() -> None:
    """Counted here, from what Figshare said last."""
    figshare = Figshare(quota=100, used_quota=20)
    file, other = in_article(), in_article()
    for size in (10, 10, 50):
        await figshare.quota.charge(file, size)
    await figshare.quota.charge(other, 30)
    assert (figshare.quota.room(), figshare.asked) == (0, 0)


async def test_before_it_is_refused_figshare_is_asked(autojump_clock: MockClock) -> None:
    """Room that was made elsewhere is found; what is owed and being written counts once."""
    figshare = Figshare(quota=100, used_quota_private=60, used_quota_public=20)
    writing, sending = in_article("a"), in_article("b")
    writing.node.local_size, sending.node.local_size = 5, 5
    sending.upload = owed(1, 5, file_id=7)  # Figshare counts it, once it has been asked
    figshare.files = [writing, sending]
    figshare.resumed = [owed(2, 4)]
    assert figshare.quota.room() == 100 - 80 - 14
    await figshare.refused(writing, 17)
    assert (figshare.quota.room(), figshare.asked) == (100 - 80 - 9, 1)
    figshare.account = Account(id=1, quota=200, used_quota=80)
    await figshare.quota.charge(writing, 100)
    assert (figshare.quota.room(), figshare.asked) == (200 - 80 - 4 - 100, 2)


async def test_those_who_wait_share_one_request(autojump_clock: MockClock) -> None:
    """Of all who would be refused at once."""
    figshare = Figshare(quota=10, used_quota=0)
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(figshare.refused, in_article(), 11)
    assert figshare.asked == 1


@pytest.mark.parametrize("failure", [Unreachable("away"), None])
async def test_in_doubt_there_is_room(autojump_clock: MockClock, failure: Exception | None) -> None:
    """Figshare does not answer, or not in time: the close decides, and nobody waits a second time."""
    figshare = Figshare(quota=10, used_quota=0)
    figshare.failure = failure
    if failure is None:
        figshare.ask = trio.sleep_forever  # type: ignore[method-assign,assignment]
        figshare.quota = Quota(
            account=figshare.account, ask=figshare.ask, files=lambda: [], resumed=lambda: []
        )
    for _ in range(2):
        before = trio.current_time()
        await figshare.quota.charge(in_article(), 1000)
    assert trio.current_time() == before
    assert figshare.quota.room() is None
    figshare.quota.heard(figshare.account)
    assert figshare.quota.room() == 10


@pytest.mark.parametrize("account", [{}, {"quota": 0}, {"used_quota": 5}])
async def test_an_unknown_quota_refuses_nothing(account: dict[str, int]) -> None:
    """None is not "no limit", and neither is 0."""
    figshare = Figshare(**account)
    await figshare.quota.charge(in_article(), 1 << 60)
    assert (figshare.quota.total, figshare.quota.room(), figshare.asked) == (None, None, 0)


@pytest.mark.parametrize(
    ("file", "counts"),
    [
        (in_article(project=Project(id=1, storage="individual", role="Owner")), True),
        (in_article(project=Project(id=1, storage="group", role="Owner")), False),
        (in_article(project=Project(id=1, storage="individual", role="Collaborator")), False),
        (in_article(".~lock.x#"), False),
    ],
)
async def test_whose_room(autojump_clock: MockClock, file: LocalFile, counts: bool) -> None:
    """Only what takes room of the account itself is refused (quirks U21), and no litter."""
    figshare = Figshare(quota=10, used_quota=0)
    if counts:
        await figshare.refused(file, 11)
    else:
        await figshare.quota.charge(file, 11)
        assert figshare.asked == 0


async def test_what_has_lost_its_name_needs_no_room() -> None:
    """Unlinked while it is open."""
    figshare = Figshare(quota=10, used_quota=0)
    file = in_article()
    file.node.parent = None
    await figshare.quota.charge(file, 11)
