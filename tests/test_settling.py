"""Bringing Figshare to what was written here: what is uploaded, as what, what is deleted, and when."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest
import trio
from inprocess import GRACE, TRUNCATE, A, errno_of, figshare, open_article, restart
from trio.testing import MockClock

from figfs.errors import FigfsError
from figfs.writing.journal import Upload

INITIATE = r"/articles/\d+/files$"
FILE = r"/articles/\d+/files/\d+$"
OLD, NEW = b"old content", b"new content, longer than a part" * 100


# ---- closing ------------------------------------------------------------


async def test_close_returns_when_figshare_has_it(tmp_path: Path, clock: MockClock) -> None:
    """After close: on Figshare, available, the same bytes; no row and no spool file stay."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/f", NEW)
        assert w.remote(article) == {"f": "available"}
        assert w.content(article, "f") == NEW
        assert w.local_state() == (0, 0)
        assert await w.read(f"{A}/f") == NEW


async def test_close_past_its_timeout_leaves_the_upload_in_the_journal(
    tmp_path: Path, clock: MockClock
) -> None:
    """A slow upload: close returns 0 after close_timeout with a row in the journal; the upload goes on."""
    async with open_article(tmp_path, close_timeout=3) as (w, article):
        gate = w.wire.hold("PUT", "/upload/")
        started = trio.current_time()
        await w.save(f"{A}/f", NEW)
        assert 3 <= trio.current_time() - started < 10
        assert w.local_state() == (1, 1)
        gate.open()
        await w.settled()
        assert w.remote(article) == {"f": "available"}
        assert w.local_state() == (0, 0)


async def test_the_end_of_the_mount_ends_settling(tmp_path: Path, clock: MockClock) -> None:
    """A file that is to be looked at again when the mount ends: it is not, and the mount ends."""

    class Alarm(trio.abc.Instrument):
        spawned = 0

        def task_spawned(self, task: trio.lowlevel.Task) -> None:
            self.spawned += 1
            assert self.spawned < 1000, "a task that is cancelled starts another, without end"

    async with open_article(tmp_path, close_timeout=1) as (w, _article):
        w.wire.hold("PUT", "/upload/")
        node = await w.save(f"{A}/f", NEW)
        file = w.settler.known(node)
        assert file is not None
        file.free = trio.Event()  # as of a file that an earlier mount has left
        file.free.set()
        w.settler.settle(file)
        assert file.wanted
        alarm = Alarm()
        trio.lowlevel.add_instrument(alarm)
    trio.lowlevel.remove_instrument(alarm)  # KeyError if it has struck


async def test_same_content_is_not_uploaded(tmp_path: Path, clock: MockClock) -> None:
    """A file rewritten with what Figshare has under that name already: no upload."""
    async with open_article(tmp_path) as (w, _article):
        await w.save(f"{A}/f", NEW)
        w.wire.asked.clear()
        await w.save(f"{A}/f", NEW)
        assert w.wire.count("POST", INITIATE) == 0
        assert await w.read(f"{A}/f") == NEW
        assert w.local_state() == (0, 0)


async def test_same_content_renamed_over_is_not_uploaded(tmp_path: Path, clock: MockClock) -> None:
    """rsync without times: its temporary file has the bytes of the file it replaces: nothing is sent."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/f", NEW)
        before = w.rows(article)[0]["id"]
        w.wire.asked.clear()
        await w.save(f"{A}/.f.Ab3XyZ", NEW)
        await w.rename(f"{A}/.f.Ab3XyZ", f"{A}/f")
        await w.settled()
        assert w.wire.count("POST", INITIATE) == 0
        assert [row["id"] for row in w.rows(article)] == [before]
        assert await w.read(f"{A}/f") == NEW
        assert await w.refreshed(A) == ["f"]


async def test_same_content_held_and_renamed_over_is_not_uploaded(tmp_path: Path, clock: MockClock) -> None:
    """``sed -i`` that changes nothing: its temporary file was journaled, then dropped."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/f", NEW)
        w.wire.asked.clear()
        await w.save(f"{A}/sedA1b2C3", NEW)
        await w.rename(f"{A}/sedA1b2C3", f"{A}/f")
        await w.settled()
        assert w.remote(article) == {"f": "available"}
        assert w.wire.count("POST", INITIATE) == w.wire.count("DELETE", "") == 0
        assert w.local_state() == (0, 0)
        assert await w.read(f"{A}/f") == NEW


async def test_overwrite_deletes_the_old_file_only_after_the_new_is_verified(
    tmp_path: Path, clock: MockClock
) -> None:
    """Never a moment without a good copy: the DELETE of the old one comes after the completion of the new."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/f", OLD)
        gate = w.wire.hold("POST", FILE)  # the completion
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.save, f"{A}/f", NEW)
            await gate.reached.wait()
            assert list(w.remote(article).values()) == ["available", "created"]
            assert await w.refreshed(A) == ["f"]
            gate.open()
        await w.settled()
        assert w.remote(article) == {"f": "available"}
        assert w.content(article, "f") == NEW
        deleted = [n for n, line in enumerate(w.wire.asked) if line.startswith("DELETE")]
        completed = [n for n, line in enumerate(w.wire.asked) if line.startswith("POST")]
        assert len(deleted) == 1
        assert deleted[0] > completed[-1]


async def test_append_fetches_the_rest_from_figshare(tmp_path: Path, clock: MockClock) -> None:
    """Open for append, write a few bytes: the stored bytes before them are in the upload."""
    async with open_article(tmp_path) as (w, article):
        node = await w.save(f"{A}/f", OLD)
        handle = await w.open(f"{A}/f", 1)
        await w.files.write(handle, node.size, b", and more")
        await w.close(handle)
        await w.settled()
        assert w.content(article, "f") == OLD + b", and more"
        assert w.remote(article) == {"f": "available"}


async def test_empty_files_stay_here(tmp_path: Path, clock: MockClock) -> None:
    """Figshare stores no empty file: touch makes no request, and content written later is uploaded."""
    async with open_article(tmp_path) as (w, article):
        _, handle = await w.create(f"{A}/f")
        await w.close(handle)
        await w.settled()
        assert w.wire.count("POST", INITIATE) == 0
        assert await w.refreshed(A) == ["f"]
        await w.save(f"{A}/f", NEW)
        assert w.remote(article) == {"f": "available"}


async def test_a_clean_handle_costs_nothing(tmp_path: Path, clock: MockClock) -> None:
    """Opened for writing, fsynced and closed without a change: no request."""
    async with open_article(tmp_path) as (w, _):
        await w.save(f"{A}/f", OLD)
        w.wire.asked.clear()
        handle = await w.open(f"{A}/f", 2)
        await w.files.fsync(handle)
        await w.close(handle)
        assert w.wire.asked == []


async def test_only_the_last_close_uploads(tmp_path: Path, clock: MockClock) -> None:
    """A FLUSH while the process has another descriptor of the file does nothing; the last one uploads."""
    async with open_article(tmp_path) as (w, article):
        node, handle = await w.create(f"{A}/f")
        await w.files.write(handle, 0, OLD)
        w.still_open.add(node.inode)
        await w.files.flush(handle)
        assert w.remote(article) == {}
        w.still_open.clear()
        await w.close(handle)
        assert w.remote(article) == {"f": "available"}


async def test_release_uploads_what_no_flush_has_seen(tmp_path: Path, clock: MockClock) -> None:
    """Pages of a mapping arrive after the last close(): RELEASE returns at once and the upload follows."""
    async with open_article(tmp_path) as (w, article):
        _, handle = await w.create(f"{A}/f")
        await w.files.write(handle, 0, OLD)
        w.files.release(handle)
        await w.settled()
        assert w.content(article, "f") == OLD


@pytest.mark.parametrize("second", ["flush", "release"])
async def test_two_closes_of_one_dirty_file_both_return(
    tmp_path: Path, clock: MockClock, second: str
) -> None:
    """R4: closes that overlap (a child process, two writers) all return once the content is safe."""
    async with open_article(tmp_path, close_timeout=1) as (w, article):
        _node, first = await w.create(f"{A}/f")
        other = await w.open(f"{A}/f", 1)
        await w.files.write(first, 0, OLD)
        await w.files.write(other, 0, OLD)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(w.files.flush, first)
                await trio.lowlevel.checkpoint()
                if second == "flush":
                    nursery.start_soon(w.files.flush, other)
                else:
                    w.files.release(other)
        await w.settled()
        assert w.remote(article) == {"f": "available"}


# ---- writing while an upload runs ------------------------------------------------------------


async def test_a_write_during_an_upload_goes_to_a_copy(tmp_path: Path, clock: MockClock) -> None:
    """The upload sends what was closed; the later content follows, and is what stays."""
    async with open_article(tmp_path, close_timeout=1) as (w, article):
        gate = w.wire.hold("PUT", "/upload/")
        await w.save(f"{A}/f", NEW)
        handle = await w.open(f"{A}/f", 1)
        await w.files.write(handle, 0, b"X")
        gate.open()
        await w.close(handle)
        await w.settled()
        assert w.remote(article) == {"f": "available"}
        assert w.content(article, "f") == b"X" + NEW[1:]
        assert await w.read(f"{A}/f") == b"X" + NEW[1:]
        assert w.local_state() == (0, 0)


async def test_a_close_during_an_upload_waits_no_longer_than_close_timeout(
    tmp_path: Path, clock: MockClock
) -> None:
    """R5: the second save of a file whose first upload is slow is journaled at once; close returns."""
    async with open_article(tmp_path, close_timeout=2) as (w, article):
        gate = w.wire.hold("PUT", "/upload/")
        await w.save(f"{A}/f", NEW)
        with trio.fail_after(60):
            await w.save(f"{A}/f", b"second")
        assert any(row.size == len(b"second") for row in w.journal.uploads())
        gate.open()
        await w.settled()
        assert w.content(article, "f") == b"second"
        assert w.remote(article) == {"f": "available"}
        assert w.local_state() == (0, 0)


async def test_readers_see_new_bytes_of_a_file_that_is_written(tmp_path: Path, clock: MockClock) -> None:
    """A handle opened before and one opened after see what was written; the name is there throughout."""
    async with open_article(tmp_path) as (w, _):
        await w.save(f"{A}/f", OLD)
        handle = await w.open(f"{A}/f", 2)
        await w.files.write(handle, 0, b"NEW")
        assert await w.read(f"{A}/f") == b"NEW" + OLD[3:]
        await w.close(handle)
        assert await w.read(f"{A}/f") == b"NEW" + OLD[3:]


# ---- rename ------------------------------------------------------------


async def test_rename_of_a_pending_file_is_one_upload(tmp_path: Path, clock: MockClock) -> None:
    """Held temporary name, then the final one: one upload, under the final name."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/tmpab3x9_z1", NEW)
        assert w.wire.count("POST", INITIATE) == 0
        await w.rename(f"{A}/tmpab3x9_z1", f"{A}/f")
        await w.settled()
        assert w.remote(article) == {"f": "available"}
        assert w.wire.count("POST", INITIATE) == 1


async def test_a_held_file_that_somebody_reads_is_uploaded_after_its_rename(
    tmp_path: Path, clock: MockClock
) -> None:
    """R8: a reader (an indexer) that has it open at the rename does not keep it from Figshare."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/tmpab3x9_z1", NEW)
        reader = await w.open(f"{A}/tmpab3x9_z1")
        await w.rename(f"{A}/tmpab3x9_z1", f"{A}/f")
        w.files.release(reader)
        await w.settled()
        await trio.sleep(10)
        assert w.remote(article) == {"f": "available"}


async def test_truncation_by_path_while_somebody_reads_is_uploaded(tmp_path: Path, clock: MockClock) -> None:
    """R8: ``truncate(path)`` has no close to wait for: with a reader it is settled at the reader's end."""
    async with open_article(tmp_path) as (w, article):
        node = await w.save(f"{A}/f", OLD)
        reader = await w.open(f"{A}/f")
        await w.files.truncate(node, 3, None)
        w.files.release(reader)
        await w.settled()
        await trio.sleep(10)
        assert w.content(article, "f") == OLD[:3]


async def test_predicted_name_is_uploaded_at_close_under_the_final_one(
    tmp_path: Path, clock: MockClock
) -> None:
    """rsync: uploaded at close as ``f``; the rename costs nothing more; the old version goes."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/f", OLD)
        w.wire.asked.clear()
        await w.save(f"{A}/.f.Ab3XyZ", NEW)
        assert w.wire.count("POST", INITIATE) == 1
        assert await w.ls(A) == [".f.Ab3XyZ", "f"]
        await w.rename(f"{A}/.f.Ab3XyZ", f"{A}/f")
        await w.settled()
        assert w.wire.count("POST", INITIATE) == 1
        assert w.remote(article) == {"f": "available"}
        assert w.content(article, "f") == NEW
        assert await w.refreshed(A) == ["f"]


async def test_rename_while_uploading(tmp_path: Path, clock: MockClock) -> None:
    """The upload is taken back and made under the new name; nothing stays under the old one."""
    async with open_article(tmp_path, close_timeout=1) as (w, article):
        gate = w.wire.hold("PUT", "/upload/")
        await w.save(f"{A}/f", NEW)
        await w.rename(f"{A}/f", f"{A}/g")
        gate.open()
        await w.settled()
        assert w.remote(article) == {"g": "available"}
        assert w.content(article, "g") == NEW
        assert await w.refreshed(A) == ["g"]
        assert w.local_state() == (0, 0)


async def test_rename_while_sealing_is_one_upload(tmp_path: Path, clock: MockClock) -> None:
    """R16: renamed while what is missing of it is fetched: it is uploaded under the new name only."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox, close_timeout=1) as (w, article):
            await w.save(f"{A}/f", NEW)
            await w.settled()
        async with restart(w, close_timeout=1) as w:
            gate = w.wire.hold("GET", "/file/download/|/ndownloader/")
            handle = await w.open(f"{A}/f", 2)
            await w.files.write(handle, 0, b"X")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(w.close, handle)
                await gate.reached.wait()
                await w.rename(f"{A}/f", f"{A}/g")
                gate.open()
            await w.settled()
            assert w.remote(article) == {"g": "available"}
            assert w.content(article, "g") == b"X" + NEW[1:]
            assert w.wire.count("POST", INITIATE) == 1


async def test_rename_over_a_stored_file(tmp_path: Path, clock: MockClock) -> None:
    """The target is one name throughout; its old content goes once the new is stored."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/f", OLD)
        await w.save(f"{A}/tmpab3x9_z1", NEW)
        await w.rename(f"{A}/tmpab3x9_z1", f"{A}/f")
        assert await w.ls(A) == ["f"]
        assert await w.read(f"{A}/f") == NEW
        await w.settled()
        assert w.remote(article) == {"f": "available"}
        assert w.content(article, "f") == NEW


async def test_rename_of_a_stored_file_moves_it_after_the_grace(tmp_path: Path, clock: MockClock) -> None:
    """The new name at once; within the grace no request; then moved, and the old one deleted last."""
    async with open_article(tmp_path) as (w, article):
        node = await w.save(f"{A}/f", NEW)
        w.wire.asked.clear()
        await w.rename(f"{A}/f", f"{A}/g")
        assert await w.ls(A) == ["g"]
        assert (await w.file(f"{A}/g")).inode == node.inode
        assert w.wire.asked == []
        await w.settled()
        assert w.remote(article) == {"g": "available"}
        assert w.content(article, "g") == NEW
        assert await w.refreshed(A) == ["g"]
        assert w.local_state() == (0, 0)


async def test_rename_there_and_back_within_the_grace_costs_nothing(tmp_path: Path, clock: MockClock) -> None:
    """R15: also in a mount that is older than the hold time, and with readers that come and go."""
    async with open_article(tmp_path, timeout=9999) as (w, article):
        await w.save(f"{A}/f", NEW)
        clock.jump(1000)
        before = w.rows(article)
        await w.ls(A)
        w.wire.asked.clear()
        await w.rename(f"{A}/f", f"{A}/f~")
        handle = await w.open(f"{A}/f~")
        w.files.release(handle)
        await trio.sleep(0.5)
        await w.rename(f"{A}/f~", f"{A}/f")
        await trio.sleep(2 * GRACE)
        await w.settled()
        assert w.rows(article) == before
        assert not [line for line in w.wire.asked if not line.startswith("GET")]


async def test_rename_into_another_article(tmp_path: Path, clock: MockClock) -> None:
    """Moved by streaming into the other article; deleted in the first only then."""
    async with open_article(tmp_path) as (w, article):
        other = (await w.mkdir("articles/other set")).key.id
        await w.save(f"{A}/f", NEW)
        await w.rename(f"{A}/f", "articles/other set/f")
        await w.settled()
        assert w.remote(article) == {}
        assert w.remote(other) == {"f": "available"}
        assert w.content(other, "f") == NEW


async def test_rename_back_after_a_failed_write_fails(tmp_path: Path, clock: MockClock) -> None:
    """An error at write is sticky: close and fsync fail the same way, and the new name goes."""
    async with open_article(tmp_path, maximum_file_size=100) as (w, article):
        _, handle = await w.create(f"{A}/f")
        await w.files.write(handle, 0, b"x" * 100)
        with errno_of(errno.EFBIG):
            await w.files.write(handle, 100, b"y")
        with errno_of(errno.EFBIG):
            await w.files.fsync(handle)
        with errno_of(errno.EFBIG):
            await w.close(handle)
        assert await w.ls(A) == []
        await w.settled()
        assert w.remote(article) == {}


async def test_a_too_large_write_over_a_good_file_leaves_it(tmp_path: Path, clock: MockClock) -> None:
    """R20: EFBIG at a write is remembered: the close uploads no half of a file over a good one."""
    async with open_article(tmp_path, maximum_file_size=100) as (w, article):
        await w.save(f"{A}/f", OLD)
        handle = await w.open(f"{A}/f", TRUNCATE)
        await w.files.write(handle, 0, b"x" * 100)
        with errno_of(errno.EFBIG):
            await w.files.write(handle, 100, b"y")
        with errno_of(errno.EFBIG):
            await w.close(handle)
        await w.settled()
        assert w.content(article, "f") == OLD
        assert await w.read(f"{A}/f") == OLD


# ---- editors ------------------------------------------------------------


async def test_unlink_and_create_is_one_replacement(tmp_path: Path, clock: MockClock) -> None:
    """Within the grace the old file is not deleted before the new one of that name is stored."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/f", OLD)
        await w.unlink(f"{A}/f")
        gate = w.wire.hold("PUT", "/upload/")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.save, f"{A}/f", NEW)
            await gate.reached.wait()
            await trio.sleep(3 * GRACE)
            assert len(w.remote(article)) == 2
            gate.open()
        await w.settled()
        assert w.remote(article) == {"f": "available"}
        assert w.content(article, "f") == NEW


async def test_vim_keeps_the_old_version_until_the_new_is_verified(tmp_path: Path, clock: MockClock) -> None:
    """R17: f → f~, a new f, rm f~: one upload, and the old one stays as long as the new one is on its way."""
    async with open_article(tmp_path, close_timeout=1) as (w, article):
        await w.save(f"{A}/f", OLD)
        await w.settled()
        gate = w.wire.hold("PUT", "/upload/")
        await w.rename(f"{A}/f", f"{A}/f~")
        await w.save(f"{A}/f", NEW)
        await w.unlink(f"{A}/f~")
        await trio.sleep(4 * GRACE)
        assert sorted(w.remote(article).values()) == ["available", "created"]
        gate.open()
        await w.settled()
        assert w.remote(article) == {"f": "available"}
        assert w.content(article, "f") == NEW
        assert await w.refreshed(A) == ["f"]


async def test_second_save_of_an_editor_while_the_first_is_uploading(
    tmp_path: Path, clock: MockClock
) -> None:
    """R7: rename to a backup and its unlink end the first upload: no row, no unfinished file there."""
    async with open_article(tmp_path, close_timeout=1) as (w, article):
        gate = w.wire.hold("PUT", "/upload/")
        await w.save(f"{A}/f", OLD)
        await w.rename(f"{A}/f", f"{A}/f~")
        await w.save(f"{A}/f", NEW)
        await w.unlink(f"{A}/f~")
        gate.open()
        await w.settled()
        assert w.remote(article) == {"f": "available"}
        assert w.content(article, "f") == NEW
        assert w.local_state() == (0, 0)


async def test_forgotten_temporary_file_is_uploaded_after_the_hold(tmp_path: Path, clock: MockClock) -> None:
    """A held name that nothing renames for 300 s is uploaded as it is."""
    async with open_article(tmp_path, timeout=9999) as (w, article):
        await w.save(f"{A}/tmpab3x9_z1", NEW)
        clock.jump(200)
        await trio.sleep(10)
        assert w.remote(article) == {}
        clock.jump(300)
        await trio.sleep(10)
        await w.settled()
        assert w.remote(article) == {"tmpab3x9_z1": "available"}


async def test_litter_stays_here(tmp_path: Path, clock: MockClock) -> None:
    """Lock files and the like are never uploaded, also not by the unmount."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/.~lock.f.odt#", b"me")
        assert await w.fs.drain(60) == 0
        assert w.remote(article) == {}
        assert await w.refreshed(A) == [".~lock.f.odt#"]


# ---- unlink ------------------------------------------------------------


async def test_unlink_is_sent_after_the_grace(tmp_path: Path, clock: MockClock) -> None:
    """Gone here at once, on Figshare after the grace; a listing meanwhile does not bring it back."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/f", OLD)
        await w.unlink(f"{A}/f")
        assert await w.refreshed(A) == []
        assert w.wire.count("DELETE", FILE) == 0
        await w.settled()
        assert w.remote(article) == {}
        assert await w.refreshed(A) == []


async def test_unlink_while_uploading_leaves_nothing(tmp_path: Path, clock: MockClock) -> None:
    """The upload is cancelled: no row, no bytes, no half-done file on Figshare."""
    async with open_article(tmp_path, close_timeout=1) as (w, article):
        gate = w.wire.hold("PUT", "/upload/")
        await w.save(f"{A}/f", NEW)
        await w.unlink(f"{A}/f")
        await w.settled()
        gate.open()
        assert w.remote(article) == {}
        assert w.local_state() == (0, 0)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", INITIATE), ("GET", FILE), ("GET", "/upload/"), ("PUT", "/upload/"), ("POST", FILE)],
)
@pytest.mark.parametrize("carried_out", [False, True])
async def test_unlink_at_any_request_of_an_upload_leaves_nothing(
    tmp_path: Path, clock: MockClock, method: str, path: str, carried_out: bool
) -> None:
    """Wherever the upload is, before or after Figshare has acted: nothing stays here or there."""
    async with open_article(tmp_path, close_timeout=1) as (w, article):
        gate = w.wire.hold(method, path, carried_out=carried_out)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.save, f"{A}/f", NEW)
            await gate.reached.wait()
            await w.unlink(f"{A}/f")
            gate.open()
        await w.settled()
        await trio.sleep(2 * GRACE)
        await w.settled()
        assert w.remote(article) == {}
        assert w.local_state() == (0, 0)
        assert await w.refreshed(A) == []


async def test_unlink_while_a_renamed_upload_is_taken_back(tmp_path: Path, clock: MockClock) -> None:
    """R13: an unlink during the DELETE that takes back a renamed upload: nothing is uploaded after it."""
    async with open_article(tmp_path, close_timeout=1) as (w, article):
        puts = w.wire.hold("PUT", "/upload/")
        await w.save(f"{A}/f", NEW)
        deletes = w.wire.hold("DELETE", FILE)
        await w.rename(f"{A}/f", f"{A}/g")
        await deletes.reached.wait()
        await w.unlink(f"{A}/g")
        deletes.open()
        puts.open()
        await w.settled()
        await trio.sleep(2 * GRACE)
        await w.settled()
        assert w.remote(article) == {}
        assert w.local_state() == (0, 0)


async def test_an_open_file_reads_on_after_its_unlink(tmp_path: Path, clock: MockClock) -> None:
    """The stored file stays on Figshare until the last reader has closed it."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, article):
            await w.save(f"{A}/f", NEW)
        async with restart(w) as w:
            handle = await w.open(f"{A}/f")
            await w.unlink(f"{A}/f")
            await trio.sleep(3 * GRACE)
            assert await w.files.read(handle, 0, 10) == NEW[:10]
            w.files.release(handle)
            await w.settled()
            assert w.remote(article) == {}


async def test_unlink_while_figshare_is_away_is_carried_out_later(tmp_path: Path, clock: MockClock) -> None:
    """R6: trouble on the network is no refusal: the file goes when the network is back."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/f", OLD)
        w.wire.down = True
        await w.unlink(f"{A}/f")
        await trio.sleep(100)
        assert await w.ls(A) == []
        w.wire.down = False
        await w.settled()
        assert w.remote(article) == {}
        assert await w.refreshed(A) == []


async def test_a_refused_unlink_brings_the_name_back(tmp_path: Path, clock: MockClock) -> None:
    """Figshare says no, after the grace: the name is there again."""
    async with open_article(tmp_path) as (w, _article):
        await w.save(f"{A}/f", OLD)
        w.faults({"role": "api", "method": "DELETE", "action": "status", "status": 403})
        await w.unlink(f"{A}/f")
        assert await w.ls(A) == []
        await w.settled()
        assert await w.ls(A) == ["f"]
        assert await w.read(f"{A}/f") == OLD


async def test_overwrite_whose_deletion_fails_shows_the_new_content(tmp_path: Path, clock: MockClock) -> None:
    """R6: the old file cannot be deleted for a while (5xx): listings meanwhile show the new one as ``f``."""
    async with open_article(tmp_path) as (w, article):
        await w.save(f"{A}/f", OLD)
        w.faults({"role": "api", "method": "DELETE", "action": "status", "status": 500})
        await w.save(f"{A}/f", NEW)
        await trio.sleep(60)
        assert await w.refreshed(A) == ["f"]
        assert await w.read(f"{A}/f") == NEW
        w.faults()
        await w.settled()
        assert w.remote(article) == {"f": "available"}
        assert w.content(article, "f") == NEW


# ---- refusals ------------------------------------------------------------


async def test_a_refused_new_file_loses_its_name_and_is_parked(tmp_path: Path, clock: MockClock) -> None:
    """EDQUOT at close; fsync and a second close say the same; the name goes; the bytes are kept."""
    async with open_article(tmp_path) as (w, article):
        w.refuse_uploads()
        _, handle = await w.create(f"{A}/f")
        await w.files.write(handle, 0, NEW)
        with errno_of(errno.EDQUOT):
            await w.files.flush(handle)
        with errno_of(errno.EDQUOT):
            await w.files.fsync(handle)
        with errno_of(errno.EDQUOT):
            await w.close(handle)
        assert await w.ls(A) == []
        (row,) = w.journal.uploads()
        assert "quota" in row.parked
        assert (w.spool_directory / row.spool_name).read_bytes() == NEW
        assert w.owed() == 0
        assert w.remote(article) == {}


async def test_a_refused_overwrite_shows_figshares_version_again(tmp_path: Path, clock: MockClock) -> None:
    """The old content, size and time (R21) are back; the refused bytes are parked."""
    async with open_article(tmp_path) as (w, article):
        node = await w.save(f"{A}/f", OLD)
        before = w.fs.attributes(node)
        w.refuse_uploads()
        with errno_of(errno.EDQUOT):
            await w.save(f"{A}/f", NEW)
        assert await w.refreshed(A) == ["f"]
        assert await w.read(f"{A}/f") == OLD
        after = w.fs.attributes(await w.file(f"{A}/f"))
        assert (after.size, after.mtime_ns) == (before.size, before.mtime_ns)
        assert len(w.journal.uploads()) == 1
        assert w.content(article, "f") == OLD


async def test_a_state_disk_that_fails_does_not_end_the_mount(
    tmp_path: Path, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R12: the journal cannot be written while a refused file is parked: EDQUOT, and life goes on."""
    async with open_article(tmp_path) as (w, article):

        def full(upload: Upload) -> None:
            raise sqlite3.OperationalError("database or disk is full")

        w.refuse_uploads(times=1)
        with monkeypatch.context() as patch:
            patch.setattr(w.journal, "update", full)
            with errno_of(errno.EDQUOT):
                await w.save(f"{A}/f", NEW)
        await w.save(f"{A}/g", NEW)
        assert w.remote(article) == {"g": "available"}


async def test_after_a_refusal_the_file_can_be_saved_again(tmp_path: Path, clock: MockClock) -> None:
    """The error goes with the last handle: a new try is a new file."""
    async with open_article(tmp_path) as (w, article):
        w.refuse_uploads(times=1)
        with errno_of(errno.EDQUOT):
            await w.save(f"{A}/f", NEW)
        await w.save(f"{A}/f", NEW)
        assert w.remote(article) == {"f": "available"}
        assert w.local_state() == (0, 0)  # nobody has to decide about bytes that Figshare has by now


async def test_a_refused_write_leaves_an_empty_file_empty(tmp_path: Path, clock: MockClock) -> None:
    """``touch f``, then what is written into it is refused: ``f`` is empty again, after a remount, too."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, _):
            _, handle = await w.create(f"{A}/f")
            await w.close(handle)
            w.refuse_uploads()
            with errno_of(errno.EDQUOT):
                await w.save(f"{A}/f", NEW)
            assert await w.refreshed(A) == ["f"]
            assert await w.read(f"{A}/f") == b""
            w.faults()
        async with restart(w) as w:
            assert await w.read(f"{A}/f") == b""


async def test_parked_uploads_wait_for_a_person(tmp_path: Path, clock: MockClock) -> None:
    """R11: the next mount does not send what was refused: by now it may be older than what is there."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, article):
            w.refuse_uploads(times=1)
            with errno_of(errno.EDQUOT):
                await w.save(f"{A}/f", OLD)
            await w.save(f"{A}/f", NEW)
        async with restart(w) as w:
            await w.settled()
            assert w.remote(article) == {"f": "available"}
            assert w.content(article, "f") == NEW
            (row,) = w.journal.uploads()
            assert row.parked


async def test_a_write_the_disk_refuses_leaves_figshares_version(
    tmp_path: Path, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R9: ENOSPC in the middle of an overwrite: then the file is what Figshare has, in size and content."""
    async with open_article(tmp_path) as (w, article):
        node = await w.save(f"{A}/f", OLD)
        handle = await w.open(f"{A}/f", TRUNCATE)
        await w.files.write(handle, 0, b"ha")
        spool = w.settler.local(node).spool
        assert spool is not None

        def full(offset: int, data: bytes) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(spool, "write", full)
        with errno_of(errno.ENOSPC):
            await w.files.write(handle, 2, b"lf")
        with errno_of(errno.ENOSPC):
            await w.close(handle)
        assert (await w.file(f"{A}/f")).size == len(OLD)
        assert await w.read(f"{A}/f") == OLD
        await w.rename(f"{A}/f", f"{A}/g")
        await w.settled()
        assert w.content(article, "g") == OLD


async def test_a_failed_append_keeps_what_an_earlier_close_accepted(tmp_path: Path, clock: MockClock) -> None:
    """R35: the first content is still uploading when an append to it fails: it is stored all the same."""
    async with open_article(tmp_path, close_timeout=1, maximum_file_size=100) as (w, article):
        gate = w.wire.hold("PUT", "/upload/")
        await w.save(f"{A}/f", OLD)
        handle = await w.open(f"{A}/f", 1)
        with errno_of(errno.EFBIG):
            await w.files.write(handle, len(OLD), b"x" * 100)
        with errno_of(errno.EFBIG):
            await w.close(handle)
        gate.open()
        await w.settled()
        assert w.remote(article) == {"f": "available"}
        assert w.content(article, "f") == OLD
        assert await w.refreshed(A) == ["f"]


# ---- what happens elsewhere ------------------------------------------------------------


async def test_a_file_whose_article_vanishes_while_it_is_written_is_not_dropped(
    tmp_path: Path, clock: MockClock
) -> None:
    """R10: the article is deleted on the web while a file in it is open: close fails, or bytes are kept."""
    async with open_article(tmp_path, dir_timeout=1) as (w, article):
        await trio.sleep(5)
        _, handle = await w.create(f"{A}/f")
        await w.files.write(handle, 0, NEW)
        await w.client.call("DELETE", f"/account/articles/{article}", read=lambda answer: None)
        await w.refreshed("articles")
        failed = False
        try:
            await w.close(handle)
        except (OSError, FigfsError):
            failed = True
        await trio.sleep(5)
        kept = [path.read_bytes() for path in w.spool_directory.iterdir()]
        assert failed or kept == [NEW]


async def test_a_listing_that_began_before_an_overwrite_ended_keeps_the_name(
    tmp_path: Path, clock: MockClock
) -> None:
    """R14: it shows neither the old file (hidden) nor the new one (not finished then): f stays."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, article):
            await w.save(f"{A}/f", OLD)
        async with restart(w) as w:
            await w.ls(A)
            parts = w.wire.hold("PUT", "/upload/")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(w.save, f"{A}/f", NEW)
                await parts.reached.wait()
                listing = w.wire.hold("GET", rf"/articles/{article}$", carried_out=True)
                nursery.start_soon(w.refreshed, A)
                await listing.reached.wait()
                parts.open()
                await w.settled()
                listing.open()
            assert await w.ls(A) == ["f"]

    # ---- the end, and the next start ------------------------------------------------------------


async def test_drain_carries_everything_out_at_once(tmp_path: Path, clock: MockClock) -> None:
    """Unmount: held names, renames and unlinks within their grace are not waited for."""
    async with open_article(tmp_path, grace=1000.0) as (w, article):
        await w.save(f"{A}/a", OLD)
        await w.save(f"{A}/b", NEW)
        await w.rename(f"{A}/a", f"{A}/c")
        await w.unlink(f"{A}/b")
        await w.save(f"{A}/tmpab3x9_z1", b"held")
        started = trio.current_time()
        assert await w.fs.drain(300) == 0
        assert trio.current_time() - started < 200
        assert w.remote(article) == {"c": "available", "tmpab3x9_z1": "available"}
        assert w.local_state() == (0, 0)


@pytest.mark.parametrize("all_closed", [True, False])
async def test_drain_after_releases_that_never_came(
    tmp_path: Path, clock: MockClock, all_closed: bool
) -> None:
    """The kernel drops RELEASE requests at an unmount: what was closed is carried out all the same. What was
    written after the last close (a mapping) as well, if nobody has it open; else it is left alone.
    """
    async with open_article(tmp_path) as (w, article):
        for name in ("f", ".f.csv.aB3dE6", "mapped"):
            _, handle = await w.create(f"{A}/{name}")
            await w.files.write(handle, 0, OLD)
            await w.files.flush(handle)
        await w.files.write(handle, 0, NEW)
        w.files.end(all_closed=all_closed)
        assert await w.fs.drain(300) == 0
        assert w.remote(article) == dict.fromkeys(("f", ".f.csv.aB3dE6", "mapped"), "available")
        assert w.content(article, "mapped") == (NEW if all_closed else OLD)


async def test_drain_gives_up_after_its_timeout_and_the_next_mount_goes_on(
    tmp_path: Path, clock: MockClock
) -> None:
    """What is not done stays in the journal; the next mount sends it."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox, close_timeout=1) as (w, article):
            await w.ls(A)
            w.wire.down = True
            await w.save(f"{A}/f", NEW)
            assert await w.fs.drain(5) == 1
            assert w.local_state() == (1, 1)
        async with restart(w) as w:
            await w.settled()
            assert w.remote(article) == {"f": "available"}
            assert w.content(article, "f") == NEW
            assert w.local_state() == (0, 0)
            assert await w.ls(A) == ["f"]


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", INITIATE), ("GET", "/upload/"), ("PUT", "/upload/"), ("POST", FILE), ("DELETE", FILE)],
)
@pytest.mark.parametrize("carried_out", [False, True])
async def test_a_crash_at_any_request_of_an_overwrite(
    tmp_path: Path, clock: MockClock, method: str, path: str, carried_out: bool
) -> None:
    """The next mount finishes: one file of the name, with the content that was closed, nothing half-done."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox, close_timeout=1) as (w, article):
            await w.save(f"{A}/f", OLD)
            gate = w.wire.hold(method, path, carried_out=carried_out)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(w.save, f"{A}/f", NEW)
                await gate.reached.wait()
            # The journal as a crash leaves it: on the way out the services would still tidy up.
            crashed = tmp_path / "crashed"
            copy_state(w.directory, crashed)
            gate.open()
            w.services.cancel_scope.cancel()
            w.directory = crashed
        async with restart(w) as w:
            await w.settled()
            await trio.sleep(2 * GRACE)
            await w.settled()
            assert w.content(article, "f") == NEW
            assert w.remote(article) == {"f": "available"}
            assert w.local_state() == (0, 0)


async def test_a_crash_between_two_saves(tmp_path: Path, clock: MockClock) -> None:
    """R36: killed when the second content is in the journal and the first not yet taken back."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox, close_timeout=1) as (w, article):
            puts = w.wire.hold("PUT", "/upload/")
            await w.save(f"{A}/f", NEW)
            deletes = w.wire.hold("DELETE", FILE)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(w.save, f"{A}/f", b"second")
                await deletes.reached.wait()
                crashed = tmp_path / "crashed"
                copy_state(w.directory, crashed)
                nursery.cancel_scope.cancel()
            puts.open()
            w.directory = crashed
        async with restart(w) as w:
            await w.settled()
            assert w.content(article, "f") == b"second"
            assert w.remote(article) == {"f": "available"}
            assert w.local_state() == (0, 0)


def copy_state(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
