"""Rules that a review found without a test: what is owed across renames, listings and crashes."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from inprocess import GRACE, TRUNCATE, A, World, errno_of, figshare, open_article, restart
from trio.testing import MockClock

from figfs.errors import FigfsError
from figfs.figshare import files

INITIATE = r"/articles/\d+/files$"
FILE = r"/articles/\d+/files/\d+$"
OLD, NEW = b"old content", b"new content, longer than a part" * 100


def crash(w: World, target: Path) -> None:
    """The state as kill -9 leaves it now; ``restart(w)`` goes on from there."""
    shutil.copytree(w.directory, target)
    w.directory = target
    w.services.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def owed_after_a_crash(directory: Path, *, before: str) -> AsyncIterator[tuple[World, int]]:
    """A mount that finds f = NEW in its journal, held at the first part that it sends.

    ``before``: f was ``stored`` (OLD), ``empty`` or ``missing`` when it was written.
    """
    async with figshare() as sandbox:
        async with open_article(directory, sandbox=sandbox, close_timeout=1) as (w, article):
            if before == "stored":
                await w.save(f"{A}/f", OLD)
            elif before == "empty":
                _, handle = await w.create(f"{A}/f")
                await w.close(handle)
                await w.settled()
            w.wire.hold("POST", INITIATE)
            await w.save(f"{A}/f", NEW)
            crash(w, directory / "crashed")
        async with restart(w, close_timeout=1) as w:
            yield w, article


async def all_done(w: World) -> None:
    """Nothing is owed, and no grace runs any more."""
    await w.settled()
    await trio.sleep(2 * GRACE)
    await w.settled()


# ---- names ------------------------------------------------------------


async def test_a_write_that_lasts_past_the_grace_of_an_older_rename(tmp_path: Path, clock: MockClock) -> None:
    """N1: f was renamed away and back; what is written to it then is uploaded at its close."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/f", OLD)
        await w.rename(f"{A}/f", f"{A}/g")
        await w.rename(f"{A}/g", f"{A}/f")
        await w.settled()
        handle = await w.open(f"{A}/f", TRUNCATE)
        await w.files.write(handle, 0, NEW)
        await trio.sleep(2 * GRACE)
        await w.close(handle)
        await w.settled()
        assert w.content(article, "f") == NEW
        assert w.remote(article) == {"f": "available"}


async def test_a_rename_is_newer_than_what_it_replaces_also_after_a_crash(
    tmp_path: Path, clock: MockClock
) -> None:
    """N6: ``mv f g`` while both are on their way, f saved first: g is what f was, at any crash."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox, close_timeout=1) as (w, article):
            w.wire.hold("PUT", "/upload/")
            await w.save(f"{A}/f", NEW)
            await w.save(f"{A}/g", OLD)
            (of_g,) = [row["id"] for row in w.rows(article) if row["name"] == "g"]
            taken_back = w.wire.hold("DELETE", rf"/files/{of_g}$")
            await w.rename(f"{A}/f", f"{A}/g")
            await taken_back.reached.wait()
            with trio.fail_after(60):
                while {row.name for row in w.journal.uploads()} != {"g"}:  # noqa: ASYNC110
                    await trio.sleep(0.1)
            crash(w, tmp_path / "crashed")
        async with restart(w) as w:
            await all_done(w)
            assert w.content(article, "g") == NEW
            assert w.remote(article) == {"g": "available"}


async def test_a_folder_that_was_renamed_does_not_come_back(tmp_path: Path, clock: MockClock) -> None:
    """N10: while its files are on their way, a listing still tells of the old folder."""
    async with open_article(tmp_path, grace=1000.0) as (w, _article):
        await w.mkdir(f"{A}/d")
        await w.save(f"{A}/d/f", OLD)
        await w.rename(f"{A}/d", f"{A}/e")
        assert await w.refreshed(A) == ["e"]


async def test_an_empty_file_that_was_replaced_does_not_come_back(tmp_path: Path, clock: MockClock) -> None:
    """N9: ``touch f; mv g f; rm f``: there is no f."""
    async with open_article(tmp_path) as (w, _article):
        _, handle = await w.create(f"{A}/f")
        await w.close(handle)
        await w.save(f"{A}/g", NEW)
        await w.settled()
        await w.rename(f"{A}/g", f"{A}/f")
        await all_done(w)
        await w.unlink(f"{A}/f")
        await all_done(w)
        assert await w.refreshed(A) == []


# ---- what is owed from an earlier mount ------------------------------------------------------------


@pytest.mark.parametrize("before", ["missing", "stored", "empty"])
async def test_what_is_owed_is_shown_and_stored(tmp_path: Path, clock: MockClock, before: str) -> None:
    """N4: after a crash the file reads as it was closed, stored or not; one file in the end."""
    async with owed_after_a_crash(tmp_path, before=before) as (w, article):
        gate = w.wire.hold("PUT", "/upload/")
        assert await w.ls(A) == ["f"]
        assert await w.read(f"{A}/f") == NEW
        gate.open()
        await all_done(w)
        assert await w.refreshed(A) == ["f"]
        assert await w.read(f"{A}/f") == NEW
        assert w.remote(article) == {"f": "available"}
        assert w.local_state() == (0, 0)


@pytest.mark.parametrize("before", ["missing", "stored"])
@pytest.mark.parametrize("deed", ["save", "unlink", "rename", "rename over"])
async def test_what_is_owed_is_changed_before_it_is_stored(
    tmp_path: Path, clock: MockClock, before: str, deed: str
) -> None:
    """N2: also what the owed upload was to replace goes; nothing stays that nobody sees here."""
    async with owed_after_a_crash(tmp_path, before=before) as (w, article):
        gate = w.wire.hold("PUT", "/upload/")
        assert await w.ls(A) == ["f"]
        expected = {"f": b"third"}
        if deed == "save":
            await w.save(f"{A}/f", b"third")
        elif deed == "unlink":
            await w.unlink(f"{A}/f")
            expected = {}
        elif deed == "rename":
            await w.rename(f"{A}/f", f"{A}/g")
            expected = {"g": NEW}
        else:
            await w.save(f"{A}/g", b"third")
            await w.rename(f"{A}/g", f"{A}/f")
        gate.open()
        await all_done(w)
        assert w.remote(article) == dict.fromkeys(expected, "available")
        for name, content in expected.items():
            assert w.content(article, name) == content
        assert await w.refreshed(A) == sorted(expected)
        assert w.local_state() == (0, 0)


async def test_unlink_while_what_is_owed_is_announced(tmp_path: Path, clock: MockClock) -> None:
    """N7: the announcement is carried out when the file is gone already: its record is taken back."""
    async with owed_after_a_crash(tmp_path, before="missing") as (w, article):
        gate = w.wire.hold("POST", INITIATE, carried_out=True)
        await gate.reached.wait()
        assert "f" in await w.ls(A)
        await w.unlink(f"{A}/f")
        await trio.sleep(1)
        gate.open()
        await all_done(w)
        assert w.remote(article) == {}


async def test_an_owed_file_whose_bytes_are_gone_does_not_hide_the_article(
    tmp_path: Path, clock: MockClock
) -> None:
    """N8: the article is listed all the same."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox, close_timeout=1) as (w, _article):
            await w.save(f"{A}/other", OLD)
            await w.settled()
            w.wire.hold("POST", INITIATE)
            await w.save(f"{A}/f", NEW)
            crash(w, tmp_path / "crashed")
        for path in (w.directory / "spool").iterdir():
            path.unlink()
        async with restart(w) as w:
            w.wire.hold("POST", INITIATE)
            assert "other" in await w.ls(A)


# ---- journaled means journaled ------------------------------------------------------------


async def test_a_third_save_while_the_first_is_taken_back(tmp_path: Path, clock: MockClock) -> None:
    """N5: when its close returns, the journal has it, not an older content."""
    async with open_article(tmp_path, close_timeout=1) as (w, _article):
        w.wire.hold("PUT", "/upload/")
        await w.save(f"{A}/f", OLD)
        gate = w.wire.hold("DELETE", FILE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.save, f"{A}/f", b"second")
            await gate.reached.wait()
            nursery.start_soon(w.save, f"{A}/f", NEW)
            await trio.sleep(3)
            gate.open()
        md5 = hashlib.md5(NEW, usedforsecurity=False).hexdigest()
        assert [row.md5 for row in w.journal.uploads()] == [md5]


async def test_a_rename_does_not_journal_what_is_still_being_written(
    tmp_path: Path, clock: MockClock
) -> None:
    """N13: f = NEW is on its way, and is being written anew when it is renamed: NEW is owed until close."""
    async with open_article(tmp_path, close_timeout=1) as (w, article):
        puts = w.wire.hold("PUT", "/upload/")
        await w.save(f"{A}/f", NEW)
        handle = await w.open(f"{A}/f", 1)
        await w.files.write(handle, 0, b"half")
        await w.rename(f"{A}/f", f"{A}/g")
        await trio.sleep(20)
        md5 = hashlib.md5(NEW, usedforsecurity=False).hexdigest()
        assert [(row.name, row.md5) for row in w.journal.uploads()] == [("g", md5)]
        puts.open()
        await w.files.write(handle, 4, b"whole")
        await w.close(handle)
        await w.settled()
        assert w.remote(article) == {"g": "available"}
        assert w.content(article, "g") == b"halfwhole" + NEW[9:]


async def test_an_older_upload_that_is_taken_back_does_not_journal_what_is_still_being_written(
    tmp_path: Path, clock: MockClock
) -> None:
    """N13: reopened after its second close: the second content is owed until the third is closed."""
    async with open_article(tmp_path, close_timeout=1) as (w, _article):
        w.wire.hold("PUT", "/upload/")
        await w.save(f"{A}/f", OLD)
        gate = w.wire.hold("DELETE", FILE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.save, f"{A}/f", NEW)
            await gate.reached.wait()
            handle = await w.open(f"{A}/f", 1)
            await w.files.write(handle, 0, b"half")
            gate.open()
        await trio.sleep(20)
        md5 = hashlib.md5(NEW, usedforsecurity=False).hexdigest()
        assert [row.md5 for row in w.journal.uploads()] == [md5]


# ---- handles of what is not there any more ------------------------------------------------------------


async def test_writing_to_a_file_that_a_listing_removed(tmp_path: Path, clock: MockClock) -> None:
    """N3: deleted on the web while it is open here: an error, or the bytes are kept; never a silent 0."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/f", OLD)
        handle = await w.open(f"{A}/f", 2)
        await trio.sleep(5)
        await files.delete_file(w.client, article, w.rows(article)[0]["id"])
        await w.refreshed(A)
        failed = False
        try:
            await w.files.write(handle, 0, NEW)
            await w.close(handle)
        except (OSError, FigfsError):
            failed = True
        await all_done(w)
        assert failed or w.remote(article) or w.local_state()[0]


async def test_a_reader_of_a_file_that_is_refused(tmp_path: Path, clock: MockClock) -> None:
    """N11: the rest of its bytes, or an error; never the end of the file."""
    async with open_article(tmp_path, close_timeout=1) as (w, _article):
        gate = w.wire.hold("POST", INITIATE)
        w.refuse_uploads()
        await w.save(f"{A}/f", NEW)
        handle = await w.open(f"{A}/f")
        assert await w.files.read(handle, 0, 10) == NEW[:10]
        gate.open()
        await w.settled()
        try:
            assert await w.files.read(handle, 10, 10) == NEW[10:20]
        except (OSError, FigfsError):
            pass
        finally:
            w.files.release(handle)


async def test_an_open_that_fails_leaves_no_handle(tmp_path: Path, clock: MockClock) -> None:
    """N12: no spool file can be made at O_TRUNC: the old version can still be replaced and deleted later."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/f", OLD)
        aside = w.spool_directory.rename(w.spool_directory.with_name("aside"))
        with errno_of(errno.ENOENT):
            await w.open(f"{A}/f", TRUNCATE)
        aside.rename(w.spool_directory)
        await w.unlink(f"{A}/f")
        await all_done(w)
        assert w.remote(article) == {}


async def test_an_unlinked_file_goes_though_an_empty_one_has_its_name(
    tmp_path: Path, clock: MockClock
) -> None:
    """R40: `rm f; touch f`: the old content does not come back; what is written later is stored once."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/f", OLD)
        await w.unlink(f"{A}/f")
        _, handle = await w.create(f"{A}/f")
        await w.close(handle)
        await all_done(w)
        assert w.remote(article) == {}
        assert "f" in await w.ls(A)
        await w.save(f"{A}/f", NEW)
        await all_done(w)
        assert w.remote(article) == {"f": "available"}
