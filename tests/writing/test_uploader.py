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

from figfs.errors import Forbidden, QuotaExceeded, VerificationFailed
from figfs.figshare.records import Id
from figfs.writing.journal import Upload
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
