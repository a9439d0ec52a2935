"""The uploader: makes Figshare hold what one row of the journal says, and deletes what that replaces.

Steps (api.md §8): announce, get the parts, PUT those not there yet, complete, verify; then delete the older
file. In this order there is never a moment without a good copy. Every step looks at what is there before it
acts, so that ``store`` may be stopped anywhere, also by a crash, and called again with the same row. What
Figshare refuses for good is raised; all else is tried again for as long as the caller has patience, with
longer and longer pauses.

API requests of a file, as a rule: the announcement, a look for its upload URL, the completion, a look whether
it is available. The looks are shared with other uploads to the same article (``looks.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

import trio

from figfs.errors import (
    REFUSALS,
    BadAnswer,
    Conflict,
    Invalid,
    NotFound,
    NotSupported,
    RemoteError,
    UnknownOutcome,
    VerificationFailed,
)
from figfs.figshare import articles, files, uploads
from figfs.figshare.client import Client
from figfs.figshare.records import File, Id, Part
from figfs.figshare.records import Upload as Session
from figfs.writing import parts
from figfs.writing.journal import Journal, State, Upload
from figfs.writing.looks import Looks
from figfs.writing.sending import Places, Progress, ReadStored, Sender, TokenGone

log = logging.getLogger(__name__)

FIRST_PAUSE = 1.0  #: seconds before a failed upload is tried again, doubled each time
LONGEST_PAUSE = 60.0
ABANDON_TIMEOUT = 10.0  #: seconds for taking back a half-done upload
ANNOUNCE_TIMEOUT = 60.0  #: seconds, the pacing of requests included
NEW_RECORD_TIMEOUT = 5.0  #: an upload record is not readable at once after its 201 (quirks U9)
FIRST_POLL = 0.1  #: seconds before the first look for what was announced
LONGEST_POLL = 5.0
#: Seconds from the completion to ``available`` (quirks U11): what counts as usual at first, and its bounds.
ASSEMBLY, SHORTEST_ASSEMBLY, LONGEST_ASSEMBLY = 0.1, 0.002, 5.0
SMALL = 16 << 20  #: bytes of a file whose assembly says what is usual
ASSEMBLY_TIMEOUT = 300.0  #: how long others wait for the assembly (quirks U11), before it counts as a failure
#: With the right MD5, how long to wait for ``available`` too: it may never come (quirks U11).
SETTLE_TIMEOUT = 10.0
MISMATCHES = 3  #: uploads of one file that may arrive damaged before it counts as refused


#: Bytes [start, end) of the stored file that is the source of a move.
ReadSource = Callable[[Upload, int, int], Awaitable[bytes | memoryview]]


async def _no_source(upload: Upload, start: int, end: int) -> bytes:
    raise NotSupported(f"{upload.name}: stored files cannot be moved here")


class Uploader:
    """Uploads for one account. ``places`` bound what is in flight over all of them. ``read_source`` gives the
    bytes of moves, which have no local copy.
    """

    def __init__(
        self,
        *,
        client: Client,
        journal: Journal,
        spool_directory: Path,
        places: Places | None = None,
        read_source: ReadSource = _no_source,
    ) -> None:
        self._client = client
        self._journal = journal
        self._spool_directory = spool_directory
        #: Called with each file that Figshare has now, verified, and the spool file with its bytes.
        self.on_stored: Callable[[File, Path], None] = lambda stored, path: None
        self._claimed: set[Id] = set()  #: files that uploads have announced: theirs, not another's
        places = places or Places()
        self._files = places.files
        self._sender = Sender(client, places.parts)
        self._looks = Looks(client)
        self._read_source = read_source
        self._usual_assembly = ASSEMBLY
        self._single_part = 0  #: bytes of the largest file that Figshare wanted in one part
        self._progress: dict[int, Progress] = {}
        #: By row, of what is carried out now.
        self.progress: Mapping[int, Progress] = MappingProxyType(self._progress)

    async def store(self, upload: Upload, announced: Callable[[Id], None]) -> File:
        """Upload, and return the stored file, verified.

        ``announced`` is called with each file id that Figshare gives out for it, before any byte is sent.
        Raises one of ``errors.REFUSALS``. Cancelled, it leaves what is there for the next call, or for
        ``take_back``.
        """
        progress = self._progress[upload.row] = Progress(0, upload.size, trio.current_time())
        try:
            return await self._store_until_done(upload, announced, progress)
        finally:
            del self._progress[upload.row]

    async def _store_until_done(
        self, upload: Upload, announced: Callable[[Id], None], progress: Progress
    ) -> File:
        pause, damaged = FIRST_PAUSE, 0
        while True:
            came_so_far = progress.sent
            try:
                async with self._files:
                    file_id, accepted = await self._send_once(upload, announced, progress)
                progress.phase = "verifying"
                stored = await self._verify(upload, file_id, accepted=accepted)
                if upload.state is not State.STORED:
                    self._journal.advance(upload, State.STORED)
                if upload.spool_name:
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
            if progress.sent > came_so_far:
                pause = FIRST_PAUSE
            log.warning(
                "upload of %s to article %s: %s; again in %.0f s",
                upload.name,
                upload.article_id,
                reason,
                pause,
            )
            progress.phase = "pausing"
            await trio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def delete_replaced(self, upload: Upload, is_read: Callable[[Id], bool]) -> set[Id]:
        """Delete what ``upload``, which is stored, replaces. The row stays: ``done`` comes next, in one
        transaction with the rows of what this returns.

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
        return later

    def done(self, upload: Upload) -> None:
        """Nothing is owed of it any more: its row goes (then ``drop_spool``: bytes outlive their row)."""
        if upload.file_id is not None:
            self._claimed.discard(upload.file_id)
        self._journal.remove(upload)

    async def finish(self, upload: Upload, is_read: Callable[[Id], bool]) -> set[Id]:
        """``delete_replaced``, then ``done``."""
        later = await self.delete_replaced(upload, is_read)
        self.done(upload)
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
        behind. ``upload.look_first`` is still set after that where it could not be found out whether
        Figshare has something.
        """
        file_id, done = upload.file_id, False
        with trio.move_on_after(ABANDON_TIMEOUT, shield=True):
            try:
                if file_id is None and upload.look_first:
                    file_id = await self._find_announced(upload)
                    upload.look_first = False
                if file_id is None:
                    return None
                await self.delete(upload.article_id, file_id)
                done = True
            except RemoteError as exc:
                log.warning("the unfinished file of %s is not deleted yet: %s", upload.name, exc)
        self._set_file_id(upload, None)
        return None if done else file_id

    def forget(self, upload: Upload) -> None:
        """Nobody wants this upload any more: row and bytes go."""
        self.done(upload)
        self.drop_spool(upload)

    def spool_path(self, upload: Upload) -> Path:
        """Where its bytes are."""
        return self._spool_directory / upload.spool_name

    def park(self, upload: Upload, reason: str) -> None:
        """Keep the bytes of what Figshare refuses, with the reason, until a person decides."""
        self._journal.advance(upload, State.PARKED, reason=reason)

    async def _send_once(
        self, upload: Upload, announced: Callable[[Id], None], progress: Progress
    ) -> tuple[Id, bool]:
        """Make Figshare have all parts, and complete; returns the file's id, and whether the completion was
        accepted, now or earlier.
        """
        progress.phase = "announcing"
        if upload.look_first and upload.file_id is None:
            found = await self._find_announced(upload)
            if found is not None:
                self._set_file_id(upload, found)
                announced(found)
            upload.look_first = False
        file = await self._announced(upload)
        is_new = file is None
        if file is None:
            file = await self._announce(upload, announced)
        progress.phase = "sending"
        accepted = True
        if file.upload_url:
            accepted = await self._send(upload, file, progress, is_new=is_new)
        elif not upload.sent and file.computed_md5.lower() != upload.md5:
            # Never taken for stored: not a byte was sent.
            raise NotSupported(f"the server gives no upload URL for file {file.id}")
        progress.sent = upload.size
        return file.id, accepted

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
                file = await self._looks.file(upload.article_id, file_id)
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

    async def _send(self, upload: Upload, file: File, progress: Progress, *, is_new: bool) -> bool:
        """PUT the parts that are not there yet, several at once, and complete. False if the completion was
        refused though the uploader says that all is there.
        """
        session = None
        if not is_new or upload.size > self._single_part:
            session = await self._session(upload, file)
            todo = parts.remaining(session.parts)
        else:
            todo = [Part(part_no=1, start_offset=0, end_offset=upload.size - 1)]
        if session is None or session.status != "COMPLETED":
            await self._put_parts(upload, file, todo, progress)
        if upload.state is State.ANNOUNCED:
            self._journal.advance(upload, State.SENT)
        try:
            await files.complete(self._client, upload.article_id, file.id)
        except (Conflict, Invalid) as refused:
            return await self._complete_again(upload, file, progress, refused)
        return True

    async def _session(self, upload: Upload, file: File) -> Session:
        """What the uploader says about the parts of ``file``, if they make up the file."""
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
            if len(session.parts) == 1 and session.parts[0].part_no == 1:
                self._single_part = max(self._single_part, upload.size)
        return session

    async def _complete_again(
        self, upload: Upload, file: File, progress: Progress, refused: Conflict | Invalid
    ) -> bool:
        """The completion was refused: send what is missing. Where nothing is, or where that does not help,
        the upload counts as damaged. Returns what ``_send`` does.
        """
        session = await self._session(upload, file)
        if session.status == "COMPLETED":
            return False
        missing = parts.remaining(session.parts)
        if missing:
            await self._put_parts(upload, file, missing, progress)
            try:
                await files.complete(self._client, upload.article_id, file.id)
                return True
            except (Conflict, Invalid) as again:
                refused = again
        await self._try_to_delete(upload, file.id)
        self._set_file_id(upload, None)
        raise VerificationFailed(f"Figshare does not complete {upload.name}: {refused}") from refused

    async def _start_anew(self, upload: Upload, reason: str) -> NoReturn:
        """Give up this announcement; the next try makes another. Always raises ``BadAnswer``."""
        if upload.file_id is not None:
            await self._try_to_delete(upload, upload.file_id)
        self._set_file_id(upload, None)
        raise BadAnswer(f"upload of {upload.name} must start anew: {reason}")

    async def _put_parts(self, upload: Upload, file: File, todo: list[Part], progress: Progress) -> None:
        source: Path | ReadStored = partial(self._read_source, upload)
        if upload.spool_name:
            source = self.spool_path(upload)
        progress.sent = upload.size - sum(part.size for part in todo)
        try:
            await self._sender.send(file.upload_url, todo, source, progress)
        except TokenGone as exc:
            await self._start_anew(upload, str(exc))

    async def _verify(self, upload: Upload, file_id: Id, *, accepted: bool) -> File:
        """Wait until Figshare holds the file and says so; compare the MD5. A damaged one is deleted.

        A server that tells no status is believed by the MD5 it has computed; where it tells none either, by
        having ``accepted`` the completion.
        """
        began, pause, looks = trio.current_time(), self._usual_assembly, 0
        while True:
            await trio.sleep(pause)
            looks += 1
            # Each look is one of the few requests that Figshare grants.
            pause = min(FIRST_POLL * 4 ** (looks - 1), LONGEST_POLL)
            try:
                file = await self._looks.file(upload.article_id, file_id)
            except NotFound:
                self._set_file_id(upload, None)
                raise BadAnswer(f"file {file_id} vanished while it was assembled") from None
            computed = file.computed_md5.lower()
            waited = trio.current_time() - began
            if computed and computed != upload.md5:
                await self._refuse_damaged(upload, file_id, f"holds {computed}, {upload.md5} was sent")
            if file.status == "available" or (not file.status and (computed or accepted)):
                if file.size != upload.size:
                    await self._refuse_damaged(
                        upload, file_id, f"holds {file.size} bytes, {upload.size} were sent"
                    )
                self._note_assembly(upload.size, waited, looks)
                return file
            if computed and waited > SETTLE_TIMEOUT:
                return file
            if waited > ASSEMBLY_TIMEOUT:
                raise BadAnswer(f"{upload.name} is {file.status!r} for {waited:.0f} s since its completion")

    async def _refuse_damaged(self, upload: Upload, file_id: Id, why: str) -> NoReturn:
        await self._try_to_delete(upload, file_id)
        self._set_file_id(upload, None)
        raise VerificationFailed(f"of {upload.name} Figshare {why}")

    def _note_assembly(self, size: int, waited: float, looks: int) -> None:
        """Learn when to look for the next file: a look too early is a request for nothing, one too late is
        waited for by a program in ``close()``.
        """
        if size <= SMALL:
            # Where it takes no time at all, 200 small files would wait seconds for that to be learnt.
            sooner = 0.5 if self._usual_assembly <= ASSEMBLY else 0.95
            usual = self._usual_assembly * sooner if looks == 1 else waited
            self._usual_assembly = min(max(usual, SHORTEST_ASSEMBLY), LONGEST_ASSEMBLY)
