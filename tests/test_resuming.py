"""What comes back from the journal, and what is given up: aborted writers, parked uploads tried again."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import trio
from inprocess import TRUNCATE, A, errno_of, open_article, restart
from trio.testing import MockClock

from figfs.writing.journal import State

OLD, NEW = b"old content", b"the new content, which is longer"


# -- writers that are killed ------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "carried_out"),
    [
        ("POST", "/files$", False),
        ("POST", "/files$", True),
        ("PUT", "/upload/", False),
        ("POST", r"/files/\d+$", True),
        ("GET", r"/files/\d+$", False),
    ],
)
async def test_an_aborted_new_file_leaves_nothing(
    tmp_path: Path, clock: MockClock, method: str, path: str, *, carried_out: bool
) -> None:
    """Its name goes at once; then its row, its bytes, and what Figshare has of it; close says EIO."""
    async with open_article(tmp_path) as (w, article):
        gate = w.wire.hold(method, path, carried_out=carried_out)
        node, handle = await w.create(f"{A}/f")
        await w.files.write(handle, 0, NEW)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def close() -> None:
                with errno_of(errno.EIO):
                    await w.close(handle)

            await gate.reached.wait()
            file = w.settler.known(node)
            assert file is not None
            w.settler.abort(file)
            assert await w.ls(A) == []
            gate.open()
        await w.settled()
        assert w.remote(article) == {}
        assert w.local_state() == (0, 0)
        await w.save(f"{A}/f", OLD)
        assert w.content(article, "f") == OLD


async def test_an_aborted_overwrite_shows_figshares_version(tmp_path: Path, clock: MockClock) -> None:
    """Content, size and time are those of before; also on Figshare, where nothing half-done stays."""
    async with open_article(tmp_path) as (w, article):
        node = await w.save(f"{A}/f", OLD)
        before = w.fs.attributes(node)
        gate = w.wire.hold("PUT", "/upload/")
        handle = await w.open(f"{A}/f", TRUNCATE)
        await w.files.write(handle, 0, NEW)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def close() -> None:
                with errno_of(errno.EIO):
                    await w.close(handle)

            await gate.reached.wait()
            file = w.settler.known(node)
            assert file is not None
            w.settler.abort(file)
            assert await w.read(f"{A}/f") == OLD
            gate.open()
        await w.settled()
        assert await w.refreshed(A) == ["f"]
        assert await w.read(f"{A}/f") == OLD
        after = w.fs.attributes(await w.file(f"{A}/f"))
        assert (after.size, after.mtime_ns) == (before.size, before.mtime_ns)
        assert w.remote(article) == {"f": "available"}
        assert w.local_state() == (0, 0)


async def test_to_abort_what_is_stored_does_nothing(tmp_path: Path, clock: MockClock) -> None:
    """The signal came too late."""
    async with open_article(tmp_path) as (w, article):
        node, handle = await w.create(f"{A}/f")
        await w.files.write(handle, 0, NEW)
        await w.files.flush(handle)
        file = w.settler.known(node)
        assert file is not None
        w.settler.abort(file)
        await w.close(handle)
        assert await w.read(f"{A}/f") == NEW
        assert w.content(article, "f") == NEW


# -- parked uploads ------------------------------------------------------------


async def test_a_parked_upload_is_tried_again(tmp_path: Path, clock: MockClock) -> None:
    """In the mount that has parked it, and shown there at once; nothing is left in the journal after that."""
    async with open_article(tmp_path) as (w, article):
        w.refuse_uploads()
        with errno_of(errno.EDQUOT):
            await w.save(f"{A}/f", NEW)
        w.faults()
        (row,) = w.journal.uploads()
        w.parts.resumer.take_up(row)
        assert row.state is State.OWED
        assert await w.read(f"{A}/f") == NEW
        await w.settled()
        assert w.content(article, "f") == NEW
        assert w.local_state() == (0, 0)


async def test_a_parked_upload_is_tried_again_in_the_next_mount(tmp_path: Path, clock: MockClock) -> None:
    """Also before its article has been listed."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/f", OLD)
        w.refuse_uploads()
        with errno_of(errno.EDQUOT):
            await w.save(f"{A}/f", NEW)
        w.faults()
        async with restart(w) as w:
            (row,) = w.journal.uploads()
            w.parts.resumer.take_up(row)
            await w.settled()
            assert await w.ls(A) == ["f"]
            assert await w.read(f"{A}/f") == NEW
            assert w.remote(article) == {"f": "available"}
            assert w.local_state() == (0, 0)


async def test_a_parked_upload_replaces_what_is_newer_only_if_asked(tmp_path: Path, clock: MockClock) -> None:
    """By the time a person retries it, the name may bear what was saved since."""
    async with open_article(tmp_path) as (w, article):
        w.refuse_uploads()
        with errno_of(errno.EDQUOT):
            await w.save(f"{A}/f", OLD)
        w.faults()
        await w.save(f"{A}/f", NEW)
        (row,) = w.journal.uploads()
        with errno_of(errno.EEXIST):
            w.parts.resumer.take_up(row)
        assert row.state is State.PARKED
        assert await w.read(f"{A}/f") == NEW
        w.parts.resumer.take_up(row, replace=True)
        await w.settled()
        assert await w.read(f"{A}/f") == OLD
        assert w.remote(article) == {"f": "available"}
