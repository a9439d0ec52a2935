"""``md5sums`` has the names that the mount shows."""

from __future__ import annotations

import functools
from pathlib import Path

from inprocess import A, open_article
from trio.testing import MockClock

from figfs.documents.entries import Item
from figfs.documents.service import FigshareDocuments
from figfs.dotfigshare.shownfiles import shown_files


async def _status() -> object:
    return {}


async def test_names_of_now(tmp_path: Path, clock: MockClock) -> None:
    """A file that was renamed here has its new name at once, one that is being changed is left out."""
    async with open_article(tmp_path) as (world, article):
        documents = FigshareDocuments(
            client=world.client,
            status=_status,
            shown=functools.partial(shown_files, world.tree, world.listings),
        )
        await world.mkdir(f"{A}/raw")
        await world.save(f"{A}/raw/a.csv", b"a")
        await world.save(f"{A}/b.csv", b"b")
        await world.save(f"{A}/c.csv", b"c")
        await world.rename(f"{A}/b.csv", f"{A}/renamed.csv")
        handle = await world.open(f"{A}/c.csv", 0o1)
        await world.files.write(handle, 0, b"other")
        item = Item("article", article, public=False)
        assert (await documents.read(item, "md5sums")).decode().splitlines() == [
            "0cc175b9c0f1b6a831c399e269772661  raw/a.csv",
            "92eb5ffee6ae2fec3ad71c777531578f  renamed.csv",
        ]
        await world.close(handle)
        assert await shown_files(world.tree, world.listings, Item("article", 1, public=False)) is None
