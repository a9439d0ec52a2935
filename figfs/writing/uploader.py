"""The uploader: makes Figshare hold what one row of the journal says, and deletes what that replaces.

Steps (api.md §8): announce, get the parts, PUT those not there yet, complete, verify; then delete the older
file. In this order there is never a moment without a good copy. Every step looks at what is there before it
acts, so that ``store`` may be stopped anywhere, also by a crash, and called again with the same row. What
Figshare refuses for good is raised; all else is tried again for as long as the caller has patience, with
longer and longer pauses.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import trio

from figfs.errors import (
    REFUSALS,
    BadAnswer,
    FigfsError,
    NotFound,
    NotSupported,
    RemoteError,
    UnknownOutcome,
    VerificationFailed,
)
from figfs.figshare import articles, files, uploads
from figfs.figshare.client import Client
from figfs.figshare.records import File, Id, Part
from figfs.writing import parts
from figfs.writing.journal import Journal, State, Upload
from figfs.writing.spool import read_chunks

log = logging.getLogger(__name__)

FIRST_PAUSE = 1.0  #: seconds before a failed upload is tried again, doubled each time
LONGEST_PAUSE = 60.0
ABANDON_TIMEOUT = 10.0  #: seconds for taking back a half-done upload
ANNOUNCE_TIMEOUT = 60.0  #: seconds, the pacing of requests included
NEW_RECORD_TIMEOUT = 5.0  #: an upload record is not readable at once after its 201 (quirks U9)
FIRST_POLL = 0.1  #: seconds after completion before the first look; assembly takes some time (quirks U11)
LONGEST_POLL = 5.0
ASSEMBLY_TIMEOUT = 300.0  #: how long others wait for the assembly (quirks U11), before it counts as a failure
SETTLE_TIMEOUT = (
    10.0  #: with the right MD5, how long to wait for ``available`` too: it may never come (quirks U11)
)
MISMATCHES = 3  #: uploads of one file that may arrive damaged before it counts as refused


class Uploader:
    """Uploads for one account. ``files_at_once`` and ``parts_at_once`` bound what is in flight over all of
    them.
    """

    def __init__(
        self,
        *,
        client: Client,
        journal: Journal,
        spool_directory: Path,
        files_at_once: int = 8,
        parts_at_once: int = 4,
    ) -> None:
        self._client = client
        self._journal = journal
        self._spool_directory = spool_directory
        #: Called with each file that Figshare has now, verified, and the spool file with its bytes.
        self.on_stored: Callable[[File, Path], None] = lambda stored, path: None
        self._claimed: set[Id] = set()  #: files that uploads have announced: theirs, not another's
        self._files = trio.CapacityLimiter(files_at_once)
        self._parts = trio.CapacityLimiter(
            parts_at_once
        )  # Figshare's own client sends all at once; 4 is safe (U4)

    async def store(self, upload: Upload, announced: Callable[[Id], None]) -> File:
        """Upload, and return the stored file, verified.

        ``announced`` is called with each file id that Figshare gives out for it, before any byte is sent.
        Raises one of ``errors.REFUSALS``. Cancelled, it leaves what is there for the next call, or for
        ``take_back``.
        """
        pause, damaged = FIRST_PAUSE, 0
        while True:
            try:
                async with self._files:
                    stored = await self._store_once(upload, announced)
                if upload.state is not State.STORED:
                    self._journal.advance(upload, State.STORED)
                self.on_stored(stored, self.spool_path(upload))
                return stored
            except VerificationFailed:
                damaged += 1
                if damaged >= MISMATCHES:
                    raise
                reason = "it arrived damaged"
            except REFUSALS:
                raise
            except RemoteError as exc:
                reason = str(exc)
                upload.look_first = True
            log.warning(
                "upload of %s to article %s: %s; again in %.0f s",
                upload.name,
                upload.article_id,
                reason,
                pause,
            )
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def finish(self, upload: Upload, is_read: Callable[[Id], bool]) -> set[Id]:
        """Delete what ``upload`` replaces, then its row. (``drop_spool`` comes after: bytes outlive their
        row.)

        Returns the files that are to be deleted later: those that ``is_read`` says somebody is reading, and
        those whose deletion met trouble. The new file is stored and verified, so nothing is lost either way.
        """
        later: set[Id] = set()
        for file_id, article_id in upload.replaces.items():
            if is_read(file_id):
                later.add(file_id)
                continue
            try:
                await self.delete(article_id, file_id)
            except RemoteError:
                later.add(file_id)
        if upload.file_id is not None:
            self._claimed.discard(upload.file_id)
        self._journal.remove(upload)
        return later

    def drop_spool(self, upload: Upload) -> None:
        """Remove the spool file of an upload that has no row any more."""
        if upload.spool_name:
            self.spool_path(upload).unlink(missing_ok=True)

    async def delete(self, article_id: Id, file_id: Id) -> None:
        """Delete a stored or unfinished file; one that is not there is no error. Raises ``RemoteError``."""
        await files.delete_file(self._client, article_id, file_id)

    async def _try_to_delete(self, upload: Upload, file_id: Id) -> None:
        """Delete what an upload has left; a refusal is logged only: an unfinished file is not shown to
        anybody.
        """
        try:
            await self.delete(upload.article_id, file_id)
        except RemoteError as exc:
            log.warning(
                "the unfinished file %s of article %s was not deleted: %s", file_id, upload.article_id, exc
            )

    async def take_back(self, upload: Upload) -> Id | None:
        """Delete what Figshare has of an unfinished upload; the row stays. Returns what could not be deleted.

        Runs to its end, or its deadline, though the caller is cancelled: a half-done file must not stay
        behind.
        """
        file_id = upload.file_id
        if file_id is None:
            return None
        done = False
        with trio.move_on_after(ABANDON_TIMEOUT, shield=True):
            try:
                await self.delete(upload.article_id, file_id)
                done = True
            except RemoteError as exc:
                log.warning("the unfinished file %s is not deleted yet: %s", file_id, exc)
        self._set_file_id(upload, None)
        return None if done else file_id

    def forget(self, upload: Upload) -> None:
        """Nobody wants this upload any more: row and bytes go."""
        if upload.file_id is not None:
            self._claimed.discard(upload.file_id)
        self._journal.remove(upload)
        self.drop_spool(upload)

    def spool_path(self, upload: Upload) -> Path:
        """Where its bytes are."""
        return self._spool_directory / upload.spool_name

    def park(self, upload: Upload, reason: str) -> None:
        """Keep the bytes of what Figshare refuses, with the reason, until a person decides."""
        self._journal.advance(upload, State.PARKED, reason=reason)

    async def _store_once(self, upload: Upload, announced: Callable[[Id], None]) -> File:
        if upload.look_first and upload.file_id is None:
            found = await self._find_announced(upload)
            if found is not None:
                self._set_file_id(upload, found)
                announced(found)
            upload.look_first = False
        file = await self._announced(upload)
        if file is None:
            file = await self._announce(upload, announced)
        if file.upload_url:
            await self._send(upload, file)
        elif not upload.sent and file.computed_md5.lower() != upload.md5:
            # Never taken for stored: not a byte was sent.
            raise NotSupported(f"the server gives no upload URL for file {file.id}")
        return await self._verify(upload, file.id)

    async def _announced(self, upload: Upload) -> File | None:
        """The file that an earlier try has announced, if Figshare still knows it."""
        if upload.file_id is None:
            return None
        try:
            return await files.get_file(self._client, upload.article_id, upload.file_id)
        except NotFound:
            self._set_file_id(upload, None)
            return None

    def _set_file_id(self, upload: Upload, file_id: Id | None) -> None:
        if upload.file_id is not None:
            self._claimed.discard(upload.file_id)
        if file_id is not None:
            self._claimed.add(file_id)
        if file_id is not None:
            self._journal.advance(upload, State.ANNOUNCED, file_id=file_id)
        elif upload.state in (State.ANNOUNCED, State.SENT, State.STORED):
            self._journal.advance(upload, State.OWED, file_id=None)
        elif upload.file_id is not None:  # parked
            upload.file_id = None
            self._journal.update(upload)

    async def _announce(self, upload: Upload, announced: Callable[[Id], None]) -> File:
        # Shielded, within bounds: an answer given up here would leave an unfinished file that nobody knows
        # of.
        upload.look_first = True  # until the answer is here
        with trio.CancelScope(shield=True, deadline=trio.current_time() + ANNOUNCE_TIMEOUT) as scope:
            try:
                file_id = await files.initiate(
                    self._client,
                    upload.article_id,
                    name=upload.name,
                    size=upload.size,
                    md5=upload.md5,
                    folder_path=upload.folder,
                )
            except UnknownOutcome:
                found = await self._find_announced(upload)
                if found is None:
                    raise
                file_id = found
            self._set_file_id(upload, file_id)
            upload.look_first = False
            announced(file_id)
        if scope.cancelled_caught:
            raise UnknownOutcome(f"no answer to the announcement of {upload.name}")
        pause = FIRST_POLL
        give_up = trio.current_time() + NEW_RECORD_TIMEOUT
        while True:
            late = trio.current_time() > give_up
            try:
                file = await files.get_file(self._client, upload.article_id, file_id)
                if file.upload_url or late:
                    return file
            except NotFound:
                if late:
                    self._set_file_id(upload, None)
                    raise BadAnswer(f"file {file_id} was announced, but Figshare does not know it") from None
            await trio.sleep(pause)
            pause *= 2

    async def _find_announced(self, upload: Upload) -> Id | None:
        """What an announcement has made whose answer was lost: unfinished, our name, size, MD5, folder (U14).

        Not what another upload has announced: two folders may hold the same file.
        """
        candidates = [
            file.id
            for file in await files.list_files(self._client, upload.article_id)
            if file.status == "created"
            and (file.name, file.size, file.supplied_md5.lower()) == (upload.name, upload.size, upload.md5)
            and file.id not in self._claimed
        ]
        if not candidates:
            return None
        folders = (await articles.get(self._client, upload.article_id)).folder_structure
        here = [
            file_id for file_id in candidates if folders.get(str(file_id), "").strip("/") == upload.folder
        ]
        # No await between the look and the claim (``_set_file_id``) in the callers.
        unclaimed = [file_id for file_id in here if file_id not in self._claimed]
        return unclaimed[-1] if unclaimed else None

    async def _send(self, upload: Upload, file: File) -> None:
        """PUT the parts that are not there yet, several at once, and complete."""
        try:
            session = await uploads.get_upload(self._client, file.upload_url)
        except NotFound:
            await self._start_anew(upload, "its upload token is gone")
        if session.status == "ABORTED":
            await self._start_anew(upload, "Figshare has aborted it")
        if session.status != "COMPLETED":
            try:
                parts.check_tiling(
                    [(part.part_no, part.start_offset, part.end_offset) for part in session.parts],
                    upload.size,
                )
            except ValueError as exc:
                await self._start_anew(upload, f"its parts do not make up the file: {exc}")
            await self._put_parts(upload, file.upload_url, parts.remaining(session.parts))
        if upload.state is State.ANNOUNCED:
            self._journal.advance(upload, State.SENT)
        await files.complete(self._client, upload.article_id, file.id)

    async def _start_anew(self, upload: Upload, reason: str) -> None:
        """Give up this announcement; the next try makes another. Always raises ``BadAnswer``."""
        if upload.file_id is not None:
            await self._try_to_delete(upload, upload.file_id)
        self._set_file_id(upload, None)
        raise BadAnswer(f"upload of {upload.name} must start anew: {reason}")

    async def _put_parts(self, upload: Upload, upload_url: str, todo: list[Part]) -> None:
        failure: list[Exception] = []
        path = self.spool_path(upload)

        async def put(part: Part, nursery: trio.Nursery) -> None:
            def body() -> AsyncIterator[bytes]:
                return read_chunks(path, part.start_offset, part.end_offset + 1)

            try:
                async with self._parts:
                    await uploads.put_part(self._client, upload_url, part, body)
            except (FigfsError, OSError) as exc:
                failure.append(exc)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for part in todo:
                nursery.start_soon(put, part, nursery)
        if failure:
            if isinstance(failure[0], NotFound):  # the upload token has gone meanwhile
                await self._start_anew(upload, str(failure[0]))
            raise failure[0]

    async def _verify(self, upload: Upload, file_id: Id) -> File:
        """Wait until Figshare holds the file and says so; compare the MD5. A damaged one is deleted."""
        pause, began = FIRST_POLL, trio.current_time()
        while True:
            await trio.sleep(pause)
            pause = min(4 * pause, LONGEST_POLL)  # each look is one of the few requests that Figshare grants
            try:
                file = await files.get_file(self._client, upload.article_id, file_id)
            except NotFound:
                self._set_file_id(upload, None)
                raise BadAnswer(f"file {file_id} vanished while it was assembled") from None
            computed = file.computed_md5.lower()
            waited = trio.current_time() - began
            if computed and computed != upload.md5:
                await self._try_to_delete(upload, file_id)
                self._set_file_id(upload, None)
                raise VerificationFailed(f"Figshare holds {computed} of {upload.name}, {upload.md5} was sent")
            if file.status == "available" or (not file.status and (computed or upload.sent)):
                if file.size != upload.size:
                    raise VerificationFailed(
                        f"Figshare holds {file.size} bytes of {upload.name}, {upload.size} were sent"
                    )
                return file
            if computed and waited > SETTLE_TIMEOUT:
                return file
            if waited > ASSEMBLY_TIMEOUT:
                raise BadAnswer(f"{upload.name} is {file.status!r} for {waited:.0f} s since its completion")
