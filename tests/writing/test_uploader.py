"""The uploader: whatever happens on the way, Figshare ends with one file of the row's content, or none."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from inprocess import World, open_article
from trio.testing import MockClock

from figfs.errors import Changed, Forbidden, QuotaExceeded, VerificationFailed
from figfs.figshare.records import Id
from figfs.writing.journal import Upload
from figfs.writing.sending import PARTS_AT_ONCE
from figfs.writing.uploader import Uploader

CONTENT = bytes(range(256)) * 14  # four parts of 1000 bytes
INITIATE = r"/articles/\d+/files$"
FILE = r"/articles/\d+/files/\d+$"


@asynccontextmanager
async def row(
    tmp_path: Path, content: bytes = CONTENT, folder: str = ""
) -> AsyncIterator[tuple[World, Upload]]:
    """A world and a row of its journal, with the spool file it speaks of."""
    async with open_article(tmp_path) as (w, article):
        yield w, add_row(w, article, content, folder)


def add_row(w: World, article: Id, content: bytes = CONTENT, folder: str = "", name: str = "f") -> Upload:
    spool_name = str(1000 + len(w.journal.uploads()))
    (w.spool_directory / spool_name).write_bytes(content)
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    return w.journal.add(
        Upload(
            row=0,
            article_id=article,
            folder=folder,
            name=name,
            size=len(content),
            md5=md5,
            spool_name=spool_name,
        )
    )


def ignore(file_id: Id) -> None:
    pass


async def test_store_then_finish(tmp_path: Path, clock: MockClock) -> None:
    """Stored, verified, in its folder; then no row; ``announced`` hears the id before any byte is sent."""
    async with row(tmp_path, folder="a/b") as (w, upload):
        heard: list[tuple[Id, int]] = []
        stored = await w.uploader.store(
            upload, lambda file_id: heard.append((file_id, w.wire.count("PUT", "/upload/")))
        )
        assert heard == [(stored.id, 0)]
        assert w.remote(upload.article_id) == {"a/b/f": "available"}
        assert w.content(upload.article_id, "f") == CONTENT
        assert w.journal.uploads() == [upload]
        assert await w.uploader.finish(upload, lambda file_id: False) == set()
        assert w.journal.uploads() == []


@pytest.mark.parametrize("held", [("PUT", "/upload/.*/3"), ("POST", FILE)])
async def test_parts_already_there_are_not_sent_again(
    tmp_path: Path, clock: MockClock, held: tuple[str, str]
) -> None:
    """Stopped and called again (a restart): the same record, and only the parts that are missing."""
    async with row(tmp_path) as (w, upload):
        gate = w.wire.hold(*held)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.uploader.store, upload, ignore)
            await gate.reached.wait()
            await trio.sleep(5)  # the other parts are there by then
            nursery.cancel_scope.cancel()
        gate.open()
        (again,) = w.journal.uploads()
        assert again.file_id is not None
        w.wire.asked.clear()
        await w.uploader.store(again, ignore)
        assert w.wire.count("POST", INITIATE) == 0
        assert w.wire.count("PUT", "/upload/") == (1 if held[0] == "PUT" else 0)
        assert w.content(upload.article_id, "f") == CONTENT
        assert w.remote(upload.article_id) == {"f": "available"}


async def test_a_lost_answer_to_the_announcement_is_looked_up(tmp_path: Path, clock: MockClock) -> None:
    """Figshare acted, the answer was lost: the record is found, not made twice."""
    async with row(tmp_path) as (w, upload):
        w.faults({"role": "api", "method": "POST", "path": "/files$", "action": "lose_answer", "times": 1})
        await w.uploader.store(upload, ignore)
        assert w.wire.count("POST", INITIATE) == 1
        assert w.remote(upload.article_id) == {"f": "available"}


async def test_an_announcement_that_did_not_arrive_is_made_again(tmp_path: Path, clock: MockClock) -> None:
    """A 500 that carried nothing out: looked for, not found, announced again."""
    async with row(tmp_path) as (w, upload):
        w.faults(
            {
                "role": "api",
                "method": "POST",
                "path": "/files$",
                "action": "status",
                "status": 500,
                "times": 1,
            }
        )
        await w.uploader.store(upload, ignore)
        assert w.remote(upload.article_id) == {"f": "available"}


async def test_the_record_of_another_upload_is_not_taken(tmp_path: Path, clock: MockClock) -> None:
    """R3: one file in two folders, the first being sent, the second's announcement failed: two files."""
    async with row(tmp_path, folder="a") as (w, first):
        second = add_row(w, first.article_id, folder="b")
        gate = w.wire.hold("PUT", "/upload/")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.uploader.store, first, ignore)
            await gate.reached.wait()
            w.faults(
                {
                    "role": "api",
                    "method": "POST",
                    "path": "/files$",
                    "action": "status",
                    "status": 500,
                    "times": 1,
                }
            )
            nursery.start_soon(w.uploader.store, second, ignore)
            await trio.sleep(5)
            gate.open()
        assert w.remote(first.article_id) == {"a/f": "available", "b/f": "available"}
        assert first.file_id != second.file_id


async def test_a_crash_between_the_announcement_and_its_note_makes_no_second_record(
    tmp_path: Path, clock: MockClock
) -> None:
    """R19: the row does not know its id yet: the next process looks before it announces."""
    async with row(tmp_path) as (w, upload):
        gate = w.wire.hold("POST", INITIATE, carried_out=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.uploader.store, upload, ignore)
            await gate.reached.wait()
            (as_on_disk,) = w.journal.uploads()
            assert as_on_disk.file_id is None
            nursery.cancel_scope.cancel()
            gate.open()
        w.journal.update(as_on_disk)  # a crashed process would not have noted the id
        restarted = Uploader(client=w.client, journal=w.journal, spool_directory=w.spool_directory)
        await restarted.store(as_on_disk, ignore)
        assert w.remote(upload.article_id) == {"f": "available"}


@pytest.mark.parametrize("what", ["cut", "lose_answer"])
async def test_trouble_with_a_part_is_repaired(tmp_path: Path, clock: MockClock, what: str) -> None:
    """A part that broke off, or whose answer was lost: all bytes are right in the end."""
    async with row(tmp_path) as (w, upload):
        rule = {"role": "upload", "method": "PUT", "action": what, "times": 2}
        w.faults(rule | ({"bytes": 500} if what == "cut" else {}))
        await w.uploader.store(upload, ignore)
        assert w.content(upload.article_id, "f") == CONTENT


async def test_a_lost_answer_to_the_completion(tmp_path: Path, clock: MockClock) -> None:
    """Completed, answer lost: the file is there, once."""
    async with row(tmp_path) as (w, upload):
        w.faults(
            {"role": "api", "method": "POST", "path": r"/files/\d+$", "action": "lose_answer", "times": 1}
        )
        await w.uploader.store(upload, ignore)
        assert w.remote(upload.article_id) == {"f": "available"}


async def test_an_upload_that_figshare_forgot_starts_anew(tmp_path: Path, clock: MockClock) -> None:
    """The record was deleted on the web page while it was being sent: announced again, not given up."""
    async with row(tmp_path) as (w, upload):
        gate = w.wire.hold("PUT", "/upload/")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.uploader.store, upload, ignore)
            await gate.reached.wait()
            assert upload.file_id is not None
            await w.uploader.delete(upload.article_id, upload.file_id)
            gate.open()
        assert w.remote(upload.article_id) == {"f": "available"}
        assert w.content(upload.article_id, "f") == CONTENT


async def test_damaged_content_is_deleted_and_sent_again(tmp_path: Path, clock: MockClock) -> None:
    """Figshare computes another MD5: the damaged file goes, the second stays."""
    async with row(tmp_path) as (w, upload):
        gate = w.wire.hold("POST", FILE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.uploader.store, upload, ignore)
            await gate.reached.wait()
            w.sandbox.blobs.save(w.rows(upload.article_id)[0]["id"], b"!" + CONTENT[1:])
            gate.open()
        assert w.remote(upload.article_id) == {"f": "available"}
        assert w.content(upload.article_id, "f") == CONTENT


async def test_content_that_always_arrives_damaged_is_refused(tmp_path: Path, clock: MockClock) -> None:
    """After three times it is VerificationFailed, and nothing of it stays."""
    async with row(tmp_path) as (w, upload):
        upload.md5 = "0" * 32
        with pytest.raises(VerificationFailed):
            await w.uploader.store(upload, ignore)
        assert w.remote(upload.article_id) == {}


@pytest.mark.parametrize(
    ("status", "message", "error"),
    [(422, "quota exceeded", QuotaExceeded), (403, "not yours", Forbidden)],
)
async def test_refusals_are_raised_at_once(
    tmp_path: Path, clock: MockClock, status: int, message: str, error: type[Exception]
) -> None:
    """What repeating cannot cure is not repeated; the row stays, to be parked."""
    async with row(tmp_path) as (w, upload):
        w.refuse_uploads(status, message)
        with pytest.raises(error):
            await w.uploader.store(upload, ignore)
        assert w.wire.count("POST", INITIATE) == 1
        w.uploader.park(upload, "no room")
        (kept,) = w.journal.uploads()
        assert kept.parked == "no room"
        assert w.uploader.spool_path(kept).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", INITIATE),
        ("GET", FILE),
        ("GET", "/upload/"),
        ("PUT", "/upload/.*/2"),
        ("POST", FILE),
    ],
)
@pytest.mark.parametrize("carried_out", [False, True])
async def test_cancelled_anywhere_then_taken_back(
    tmp_path: Path, clock: MockClock, method: str, path: str, carried_out: bool
) -> None:
    """After ``take_back`` and ``forget`` nothing is left: no record, no row, no bytes."""
    async with row(tmp_path) as (w, upload):
        gate = w.wire.hold(method, path, carried_out=carried_out)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.uploader.store, upload, ignore)
            await gate.reached.wait()
            nursery.cancel_scope.cancel()
            gate.open()
        await w.uploader.take_back(upload)
        w.uploader.forget(upload)
        assert w.remote(upload.article_id) == {}
        assert w.local_state() == (0, 0)


async def test_finish_leaves_what_is_being_read(tmp_path: Path, clock: MockClock) -> None:
    """The replaced file that a handle reads is returned, to be deleted later; the row is gone."""
    async with row(tmp_path) as (w, upload):
        old = await w.uploader.store(add_row(w, upload.article_id, b"old"), ignore)
        upload.replaces = {old.id: upload.article_id}
        await w.uploader.store(upload, ignore)
        assert await w.uploader.finish(upload, lambda file_id: True) == {old.id}
        assert len(w.remote(upload.article_id)) == 2
        assert upload.row not in [left.row for left in w.journal.uploads()]


# -- how many requests ------------------------------------------------------------


def asked_of_the_api(w: World) -> list[str]:
    return [line for line in w.wire.asked if "/v2/" in line]


async def test_a_small_file_takes_four_api_requests(tmp_path: Path, clock: MockClock) -> None:
    """Announcement, upload URL, completion, status. From the second on the parts need not be asked for."""
    async with row(tmp_path, b"small") as (w, first):
        w.sandbox.settings.change({"assembly_delay": 0.0})
        second = add_row(w, first.article_id, b"other", name="g")
        for upload, others in ((first, 2), (second, 1)):
            w.wire.asked.clear()
            await w.uploader.store(upload, ignore)
            assert len(asked_of_the_api(w)) <= 5  # at least four; assembly may take a second look
            assert len(w.wire.asked) - len(asked_of_the_api(w)) == others
        assert w.content(first.article_id, "g") == b"other"


async def test_a_part_that_was_taken_for_the_only_one(tmp_path: Path, clock: MockClock) -> None:
    """Figshare cuts smaller than it did before: what it refuses so is asked for, and sent as it wants it."""
    async with row(tmp_path, b"x" * 900) as (w, first):
        await w.uploader.store(first, ignore)
        w.sandbox.settings.change({"part_size": 100})
        upload = add_row(w, first.article_id, b"y" * 890, name="g")
        await w.uploader.store(upload, ignore)
        assert w.content(first.article_id, "g") == b"y" * 890
        assert w.remote(first.article_id) == {"f": "available", "g": "available"}
        assert w.wire.count("POST", INITIATE) == 2


async def test_uploads_learn_how_long_assembly_takes(tmp_path: Path, clock: MockClock) -> None:
    """Where it takes two seconds, the second file is not asked for again and again before them."""
    async with row(tmp_path) as (w, first):
        w.sandbox.settings.change({"assembly_delay": 2.0})
        looks = []
        for upload in (first, *(add_row(w, first.article_id, name=name) for name in "ghi")):
            w.wire.asked.clear()
            await w.uploader.store(upload, ignore)
            looks.append(w.wire.count("GET", FILE) - 1)
        assert looks[0] > 2
        assert max(looks[1:]) <= 2


# -- parts ------------------------------------------------------------


async def test_a_part_that_fails_does_not_stop_the_others(tmp_path: Path, clock: MockClock) -> None:
    """One part is refused for a long time: the others are there when it is, and are sent once."""
    async with row(tmp_path) as (w, upload):
        w.faults(
            {
                "role": "upload",
                "method": "PUT",
                "path": "/2$",
                "action": "status",
                "status": 500,
                "times": 8,
            }
        )
        await w.uploader.store(upload, ignore)
        assert w.content(upload.article_id, "f") == CONTENT
        assert [w.wire.count("PUT", f"/upload/.*/{part}$") for part in (1, 2, 3, 4)] == [1, 9, 1, 1]


async def test_no_part_is_begun_when_all_fail(tmp_path: Path, clock: MockClock) -> None:
    """An uploader that is down is not asked for each of a hundred parts."""
    async with row(tmp_path, CONTENT * 30) as (w, upload):
        rule = {"role": "upload", "method": "PUT", "action": "status", "status": 501}
        w.faults(rule)
        with trio.move_on_after(3):
            await w.uploader.store(upload, ignore)
        # As many as go at once, and three failures in a row; twice.
        assert 3 <= w.wire.count("PUT", "/upload/") <= 2 * (PARTS_AT_ONCE + 3)
        w.faults()
        await w.uploader.store(upload, ignore)
        assert w.content(upload.article_id, "f") == CONTENT * 30


async def test_parts_of_a_large_file_leave_room_for_a_small_one(tmp_path: Path, clock: MockClock) -> None:
    """While the parts of one file wait, another file gets its turn after those that are being sent."""
    async with row(tmp_path, CONTENT * 30) as (w, large):
        small = add_row(w, large.article_id, b"small", name="small")
        gate = w.wire.hold("PUT", "/upload/")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.uploader.store, large, ignore)
            await gate.reached.wait()
            nursery.start_soon(w.uploader.store, small, ignore)
            while w.wire.count("GET", "/upload/") < 2:  # noqa: ASYNC110 (there is no event for that)
                await trio.sleep(0.1)
            await trio.sleep(1)
            assert w.wire.count("PUT", "/upload/") == PARTS_AT_ONCE
            gate.open()
        puts = [line.rpartition("/")[0] for line in w.wire.asked if line.startswith("PUT")]
        (turn,) = [n for n, token in enumerate(puts) if puts.count(token) == 1]
        assert turn <= 3 * PARTS_AT_ONCE


async def test_an_aborted_upload_starts_anew(tmp_path: Path, clock: MockClock) -> None:
    """ABORTED (api.md §8): the record goes, another one is made."""
    async with row(tmp_path) as (w, upload):
        body = {"token": "t", "status": "ABORTED", "parts": []}
        w.faults(
            {
                "role": "upload",
                "method": "GET",
                "action": "status",
                "status": 200,
                "body": body,
                "times": 1,
            }
        )
        await w.uploader.store(upload, ignore)
        assert w.remote(upload.article_id) == {"f": "available"}
        assert w.wire.count("POST", INITIATE) == 2


async def test_a_refused_completion_sends_what_is_missing(tmp_path: Path, clock: MockClock) -> None:
    """Figshare has lost a part: it alone is sent again, under the same record."""
    async with row(tmp_path) as (w, upload):
        gate = w.wire.hold("POST", FILE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.uploader.store, upload, ignore)
            await gate.reached.wait()
            w.sandbox.store.run("DELETE FROM parts WHERE number = 2")
            gate.open()
        assert w.remote(upload.article_id) == {"f": "available"}
        assert w.content(upload.article_id, "f") == CONTENT
        assert w.wire.count("POST", INITIATE) == 1
        assert w.wire.count("PUT", "/upload/") == 5


async def test_a_completion_that_is_always_refused_is_given_up(tmp_path: Path, clock: MockClock) -> None:
    """With what Figshare says; and nothing stays there."""
    async with row(tmp_path) as (w, upload):
        w.faults(
            {
                "role": "api",
                "method": "POST",
                "path": FILE,
                "action": "status",
                "status": 400,
                "body": {"message": "no such luck"},
            }
        )
        with pytest.raises(VerificationFailed, match="no such luck"):
            await w.uploader.store(upload, ignore)
        assert w.remote(upload.article_id) == {}


# -- verification ------------------------------------------------------------


async def test_stuck_with_the_right_md5_is_stored(tmp_path: Path, clock: MockClock) -> None:
    """``moving_to_final`` for ever (quirks U11): the MD5 is enough, after a while."""
    async with row(tmp_path) as (w, upload):
        w.sandbox.settings.change({"assembly_ends_at": "moving_to_final"})
        began = trio.current_time()
        await w.uploader.store(upload, ignore)
        assert 10 < trio.current_time() - began < 60


async def test_available_without_an_md5_is_stored(tmp_path: Path, clock: MockClock) -> None:
    """Sometimes the checksum never gets computed (quirks U11)."""
    async with row(tmp_path) as (w, upload):
        w.sandbox.settings.change({"compute_md5": False})
        await w.uploader.store(upload, ignore)
        assert w.remote(upload.article_id) == {"f": "available"}


# -- progress ------------------------------------------------------------


async def test_progress(tmp_path: Path, clock: MockClock) -> None:
    """By row, only while it is carried out; what is there already counts as sent."""
    async with row(tmp_path) as (w, upload):
        gate = w.wire.hold("PUT", "/upload/.*/3")
        assert upload.row not in w.uploader.progress
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.uploader.store, upload, ignore)
            await gate.reached.wait()
            while w.wire.count("PUT", "/upload/") < 4:  # noqa: ASYNC110 (there is no event for that)
                await trio.sleep(0.1)
            await trio.sleep(2)
            seen = w.uploader.progress[upload.row]
            assert (seen.size, seen.phase) == (len(CONTENT), "sending")
            assert len(CONTENT) - 1000 <= seen.sent <= len(CONTENT)
            assert seen.began <= trio.current_time()
            gate.open()
        assert upload.row not in w.uploader.progress


# -- moves ------------------------------------------------------------


@asynccontextmanager
async def move(tmp_path: Path) -> AsyncIterator[tuple[World, Upload]]:
    """A stored file, and the row of its move to another name."""
    async with row(tmp_path) as (w, first):
        stored = await w.uploader.store(first, ignore)
        await w.uploader.finish(first, lambda file_id: False)
        w.uploader.drop_spool(first)
        w.wire.asked.clear()
        yield (
            w,
            w.journal.add(
                Upload(
                    row=0,
                    article_id=first.article_id,
                    folder="elsewhere",
                    name="g",
                    size=first.size,
                    md5=first.md5,
                    spool_name="",
                    replaces={stored.id: first.article_id},
                    source=stored.id,
                    source_article=first.article_id,
                )
            ),
        )


async def test_a_move_is_streamed(tmp_path: Path, clock: MockClock) -> None:
    """Without a local copy; the old file goes once the new one is verified."""
    async with move(tmp_path) as (w, upload):
        await w.uploader.store(upload, ignore)
        assert w.remote(upload.article_id) == {"f": "available", "elsewhere/g": "available"}
        assert w.content(upload.article_id, "g") == CONTENT
        await w.uploader.finish(upload, lambda file_id: False)
        w.uploader.drop_spool(upload)
        assert w.remote(upload.article_id) == {"elsewhere/g": "available"}
        assert w.local_state() == (0, 0)


async def test_a_move_whose_source_is_gone_is_refused(tmp_path: Path, clock: MockClock) -> None:
    """Told at once, not tried for ever."""
    async with move(tmp_path) as (w, upload):
        assert upload.source is not None
        await w.uploader.delete(upload.article_id, upload.source)
        with pytest.raises(Changed):
            await w.uploader.store(upload, ignore)
        await w.uploader.take_back(upload)
        assert w.remote(upload.article_id) == {}


async def test_a_move_whose_source_has_other_content_is_refused(tmp_path: Path, clock: MockClock) -> None:
    """Nothing of it arrives: it is not what was to be moved."""
    async with move(tmp_path) as (w, upload):
        w.sandbox.store.run("UPDATE files SET computed_md5 = ? WHERE name = 'f'", "0" * 32)
        with pytest.raises(Changed):
            await w.uploader.store(upload, ignore)
        assert w.remote(upload.article_id) == {"f": "available", "elsewhere/g": "created"}


async def test_trouble_with_the_source_of_a_move_is_waited_out(tmp_path: Path, clock: MockClock) -> None:
    """Storage is out of order for a while: tried again, and right in the end."""
    async with move(tmp_path) as (w, upload):
        w.faults({"role": "storage", "action": "status", "status": 503, "times": 12})
        await w.uploader.store(upload, ignore)
        assert w.content(upload.article_id, "g") == CONTENT
