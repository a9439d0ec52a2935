"""What comes back from the journal, and what is given up: aborted writers, parked uploads tried again."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import trio
from inprocess import TRUNCATE, A, errno_of, figshare, open_article, restart
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


# -- after a crash ------------------------------------------------------------


async def test_a_moved_file_is_under_its_new_name_at_once(tmp_path: Path, clock: MockClock) -> None:
    """Its old name is gone, its content is read from where Figshare has it, and it is moved once."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, article):
            await w.save(f"{A}/f", OLD)
            await w.rename(f"{A}/f", f"{A}/g")
        async with restart(w) as w:
            assert await w.ls(A) == ["g"]
            assert await w.read(f"{A}/g") == OLD
            await w.settled()
            assert w.remote(article) == {"g": "available"}
            assert w.content(article, "g") == OLD
            assert w.local_state() == (0, 0)
            assert await w.refreshed(A) == ["g"]


async def test_a_moved_file_can_be_renamed_back_by_the_next_mount(tmp_path: Path, clock: MockClock) -> None:
    """Within its grace: then Figshare hears of nothing."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox, grace=1000) as (w, article):
            await w.save(f"{A}/f", OLD)
            await w.rename(f"{A}/f", f"{A}/g")
        async with restart(w, grace=1000) as w:
            assert await w.ls(A) == ["g"]
            w.wire.asked.clear()
            await w.rename(f"{A}/g", f"{A}/f")
            await trio.sleep(20)
            assert w.remote(article) == {"f": "available"}
            assert w.local_state() == (0, 0)
            assert w.wire.count("POST", "") == w.wire.count("DELETE", "") == 0
            assert await w.refreshed(A) == ["f"]


async def test_a_move_into_another_article_before_either_is_listed(tmp_path: Path, clock: MockClock) -> None:
    """It is carried out though nobody looks; then each article shows what it has."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, article):
            other = await w.mkdir("articles/other")
            await w.save(f"{A}/f", OLD)
            await w.rename(f"{A}/f", "articles/other/f")
        async with restart(w) as w:
            await w.settled()
            assert w.remote(article) == {}
            assert w.remote(other.key.id) == {"f": "available"}
            assert await w.ls(A) == []
            assert await w.read("articles/other/f") == OLD


async def test_a_moved_folder_is_moved_whole(tmp_path: Path, clock: MockClock) -> None:
    """One transaction for all its files."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, article):
            await w.mkdir(f"{A}/a")
            for name in ("1", "2", "3"):
                await w.save(f"{A}/a/{name}", OLD + name.encode())
            began = w.journal._database.total_changes
            await w.rename(f"{A}/a", f"{A}/b")
            assert w.journal._database.total_changes - began >= 3
            assert len(w.journal.uploads()) == 3
        async with restart(w) as w:
            assert await w.ls(f"{A}/b") == ["1", "2", "3"]
            await w.settled()
            assert w.remote(article) == dict.fromkeys(["b/1", "b/2", "b/3"], "available")


async def test_an_unlinked_file_stays_away(tmp_path: Path, clock: MockClock) -> None:
    """Hidden at once, deleted when its grace is over, or replaced by a new file of its name."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, article):
            await w.save(f"{A}/f", OLD)
            await w.save(f"{A}/g", OLD)
            await w.unlink(f"{A}/f")
            await w.unlink(f"{A}/g")
        async with restart(w) as w:
            assert await w.ls(A) == []
            await w.save(f"{A}/g", NEW)
            await w.settled()
            assert w.remote(article) == {"g": "available"}
            assert w.content(article, "g") == NEW
            assert w.journal.deletions() == []


async def test_unlink_then_create_then_crash(tmp_path: Path, clock: MockClock) -> None:
    """Once the new file's close has returned, the deletion is part of its row: never without either."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox, close_timeout=0) as (w, article):
            await w.save(f"{A}/f", OLD)
            await w.settled()
            w.wire.hold("POST", "/files$")
            await w.unlink(f"{A}/f")
            assert len(w.journal.deletions()) == 1
            await w.save(f"{A}/f", NEW)
            assert w.journal.deletions() == []
        async with restart(w) as w:
            assert await w.read(f"{A}/f") == NEW
            await w.settled()
            assert w.remote(article) == {"f": "available"}


async def test_a_held_file_comes_back_under_its_temporary_name(tmp_path: Path, clock: MockClock) -> None:
    """What close() accepted survives, though nobody can tell yet what it will be called."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, article):
            await w.save(f"{A}/f.crdownload", NEW)
            assert w.owed() == 0
        async with restart(w) as w:
            assert await w.ls(A) == ["f.crdownload"]
            assert await w.read(f"{A}/f.crdownload") == NEW
            assert w.remote(article) == {}
            await w.rename(f"{A}/f.crdownload", f"{A}/f")
            await w.settled()
            assert w.remote(article) == {"f": "available"}
            assert w.local_state() == (0, 0)


@pytest.mark.parametrize("stored", [True, False])
async def test_a_predicted_name_that_did_not_come(tmp_path: Path, clock: MockClock, *, stored: bool) -> None:
    """rsync's temporary file was closed, and not renamed: it is not a second file of the final name."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox, close_timeout=0) as (w, article):
            await w.save(f"{A}/f", OLD)
            await w.settled()
            if not stored:
                w.wire.hold("PUT", "/upload/")
            await w.save(f"{A}/.f.Xy12Zq", NEW)
            if stored:
                await w.settled()
        async with restart(w) as w:
            if stored:
                await w.settled()
            assert await w.ls(A) == [".f.Xy12Zq", "f"]
            assert await w.read(f"{A}/f") == OLD
            assert await w.read(f"{A}/.f.Xy12Zq") == NEW
            await w.settled()
            await w.rename(f"{A}/.f.Xy12Zq", f"{A}/f")
            await w.settled()
            assert w.remote(article) == {"f": "available"}
            assert w.content(article, "f") == NEW
            assert w.local_state() == (0, 0)


async def test_renamed_over_by_a_file_that_is_never_closed(tmp_path: Path, clock: MockClock) -> None:
    """What was closed before is not lost by it."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox, close_timeout=0) as (w, article):
            w.wire.hold("POST", "/files$")
            await w.save(f"{A}/f", OLD)
            _, handle = await w.create(f"{A}/.goutputstream-XY12ZQ")
            await w.files.write(handle, 0, NEW)
            await w.rename(f"{A}/.goutputstream-XY12ZQ", f"{A}/f")
        async with restart(w) as w:
            assert await w.read(f"{A}/f") == OLD
            await w.settled()
            assert w.remote(article) == {"f": "available"}
            assert w.content(article, "f") == OLD


async def test_renamed_over_by_a_file_that_is_refused(tmp_path: Path, clock: MockClock) -> None:
    """The one before, not stored yet itself, has its name again."""
    async with open_article(tmp_path, close_timeout=0) as (w, article):
        gate = w.wire.hold("PUT", "/upload/")
        await w.save(f"{A}/f", OLD)
        _, handle = await w.create(f"{A}/.goutputstream-XY12ZQ")
        await w.files.write(handle, 0, NEW)
        await w.rename(f"{A}/.goutputstream-XY12ZQ", f"{A}/f")
        file = w.settler.known(await w.file(f"{A}/f"))
        assert file is not None
        w.settler.discard(file)
        assert await w.read(f"{A}/f") == OLD
        gate.open()
        w.files.release(handle)
        await w.settled()
        assert w.content(article, "f") == OLD


async def test_the_unmount_does_not_wait_for_the_grace(tmp_path: Path, clock: MockClock) -> None:
    """Moves, deletions and held files are carried out by the drain at once."""
    async with open_article(tmp_path, grace=100_000) as (w, article):
        await w.save(f"{A}/f", OLD)
        await w.save(f"{A}/g", OLD)
        await w.rename(f"{A}/f", f"{A}/h")
        await w.unlink(f"{A}/g")
        await w.save(f"{A}/x.crdownload", NEW)
        await w.save(f"{A}/.y.Xy12Zq", NEW)
        await w.open(f"{A}/.y.Xy12Zq")  # its RELEASE is dropped by the kernel
        assert await w.fs.drain(100) == 0
        assert w.remote(article) == dict.fromkeys(["h", "x.crdownload", ".y.Xy12Zq"], "available")
        assert w.journal.uploads() == []
        assert w.journal.deletions() == []


async def test_a_resumed_upload_that_is_refused_leaves_nothing_half_done(
    tmp_path: Path, clock: MockClock
) -> None:
    """It is parked; its unfinished file on Figshare goes."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox, close_timeout=0) as (w, article):
            gate = w.wire.hold("PUT", "/upload/")
            await w.save(f"{A}/f", NEW)
            await gate.reached.wait()
        sandbox.faults.replace(
            [
                {
                    "role": "api",
                    "method": "POST",
                    "path": r"/files/\d+$",
                    "action": "status",
                    "status": 403,
                    "body": {"message": "no"},
                }
            ]
        )
        async with restart(w) as w:
            await w.settled()
            (row,) = w.journal.uploads()
            assert row.state is State.PARKED
            assert w.remote(article) == {}
            assert (w.spool_directory / row.spool_name).read_bytes() == NEW


async def test_a_resumed_move_that_is_refused_is_undone(tmp_path: Path, clock: MockClock) -> None:
    """The file is under its old name again, the reason in the journal."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, article):
            await w.save(f"{A}/f", OLD)
            await w.rename(f"{A}/f", f"{A}/g")
        async with restart(w) as w:
            w.refuse_uploads()
            await w.settled()
            assert await w.ls(A) == ["f"]
            assert await w.read(f"{A}/f") == OLD
            (row,) = w.journal.uploads()
            assert row.state is State.PARKED
            assert w.remote(article) == {"f": "available"}
            w.faults()
            w.parts.resumer.take_up(row)
            await w.settled()
            assert await w.ls(A) == ["g"]
            assert w.remote(article) == {"g": "available"}


async def test_an_empty_file_keeps_its_new_name_in_a_crash(tmp_path: Path, clock: MockClock) -> None:
    """It is kept by its name, and renamed with it."""
    async with figshare() as sandbox:
        async with open_article(tmp_path, sandbox=sandbox) as (w, _article):
            _, handle = await w.create(f"{A}/a")
            await w.close(handle)
            await w.settled()
            await w.rename(f"{A}/a", f"{A}/b.csv")
            w.services.cancel_scope.cancel()
        async with restart(w) as w:
            assert await w.ls(A) == ["b.csv"]
