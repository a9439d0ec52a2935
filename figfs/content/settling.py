"""Bringing Figshare to what was written here, file by file.

*Settling* a file means: look at what its node wants (name, place, content), look at what Figshare has, and
take the next step, until there is none left. There is one settling task for a file at a time, in the services
nursery. Whatever changes a file asks for settling; nothing else uploads.

Invariants
* A sealed spool file is never written again: a row of the journal names its MD5. A later write goes to a
copy.
* What a file replaces is deleted only after the new file has been verified.
* A row leaves the journal only when Figshare has the file, verified; when a newer row has taken its place; or
when the file was deleted here (``journaling.py``).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from errno import EIO

import trio

from figfs.content import places
from figfs.content.deletions import Deletions
from figfs.content.journaling import HOLD_TIME, Journaling
from figfs.content.localfiles import LocalFile
from figfs.content.places import Place
from figfs.errors import REFUSALS, FigfsError, RemoteError
from figfs.figshare.records import File, Id
from figfs.namespace import naming
from figfs.namespace.nodes import Container, FileNode, Key, Kind, Stored, is_empty_file
from figfs.namespace.tree import Tree
from figfs.writing import tempnames
from figfs.writing.journal import State, Upload
from figfs.writing.spool import SpoolFile
from figfs.writing.uploader import Uploader

log = logging.getLogger(__name__)

FORGET_PAUSE = 5.0  #: seconds until Figshare is asked again what it has of a row that nobody wants
SEAL_PAUSE = 5.0  #: seconds before what is missing of a partly rewritten file is fetched again


class Settler:
    """Owns the local files, and the uploads owed to Figshare for them; deletions are handed to ``Deletions``.

    Args:
        nursery: the services nursery; uploads outlive the programs that wrote.
        overlay: makes a spool file over what Figshare has of a node.
        reopen: opens a sealed spool file again, by its name.
    """

    def __init__(
        self,
        *,
        tree: Tree,
        rows: Journaling,
        uploader: Uploader,
        deletions: Deletions,
        nursery: trio.Nursery,
        overlay: Callable[[FileNode], SpoolFile],
        reopen: Callable[[str], SpoolFile],
    ) -> None:
        self._tree = tree
        self._overlay = overlay
        self.reopen = reopen
        self._rows = rows
        rows.on_dropped = self._settle_dropped
        self._uploader = uploader
        self._deletions = deletions
        self._nursery = nursery
        self._files: dict[FileNode, LocalFile] = {}
        self._progress = trio.Event()
        #: Set when the mount ends: no grace is waited for any more.
        self.hurried = trio.Event()

    # -- local files ------------------------------------------------------------

    def local(self, node: FileNode) -> LocalFile:
        """The local side of ``node``, made where there is none."""
        file = self._files.get(node)
        if file is None:
            file = self._files[node] = LocalFile(node)
        return file

    def known(self, node: FileNode) -> LocalFile | None:
        return self._files.get(node)

    def files(self) -> list[LocalFile]:
        return list(self._files.values())

    def take_up(self, node: FileNode, upload: Upload, spool: SpoolFile | None, free: trio.Event) -> LocalFile:
        """``node``, just made, is what a row from an earlier mount has to become. ``spool``: None for a move.

        Settle it then; nothing is done before ``free`` is set.
        """
        node.changed_at = math.inf  # Figshare does not have it there yet
        file = self.local(node)
        file.spool, file.sealed, file.upload, file.free = spool, spool is not None, upload, free
        file.accepted = True
        file.changed_at = trio.current_time()
        file.due = trio.current_time() + max(0.0, upload.due - time.time())
        return file

    def tidy(self, file: LocalFile) -> None:
        """Drop the local side once nobody has the file open, nothing is owed, and no byte is only here."""
        if file.handles or file.settling is not None or file.upload is not None or file.dropped:
            return
        for spool, delete in file.retired:
            spool.close(delete=delete)
        file.retired.clear()
        node = file.node
        kept_empty = node.local_size == 0 and node.stored is None and not file.dirty
        unsettled = node.local_size is not None or node.changed_at == math.inf
        if node.parent is not None and unsettled and not kept_empty:
            return
        if file.spool is not None:
            file.spool.close(delete=not file.sealed)
            file.spool = None
        self._files.pop(node, None)

    def owed(self) -> int:
        """How many uploads and deletions are owed to Figshare. A file that is being written does not count
        yet.
        """
        return sum(map(self._owes, self._files.values())) + len(self._deletions)

    def _owes(self, file: LocalFile) -> bool:
        if file.settling is not None or file.dropped:
            return True
        if file.upload is not None and file.upload.state is not State.WAITING:
            return True
        node = file.node
        if file.upload is not None and not file.dirty:  # under a temporary name it is held, and not owed
            # At the unmount the kernel has dropped its last RELEASEs: those handles are closed all the same.
            idle = self.hurried.is_set() or not file.handles
            return idle and self.wanted(file) == places.of_upload(file.upload)
        # An emptied file stays here, whatever its name: Figshare takes no empty ones.
        misplaced = node.local_size is None and places.is_misplaced(node, hold_is_over=file.hold_is_over)
        return (file.dirty or misplaced) and not file.handles and self.wanted(file) is not None

    def made_progress(self) -> None:
        """Something is owed no more: wakes ``drain``."""
        self._progress.set()
        self._progress = trio.Event()

    # -- settling ------------------------------------------------------------

    def settle(self, file: LocalFile, *, closed: bool = False) -> trio.Event:
        """Start settling, unless it runs. The event is set when nothing is left to do, or it was refused.

        ``closed``: what was written up to now is whole. An upload of older content that is under way is
        stopped
        then: the newer one is journaled first, and takes its place.
        """
        file.wanted = True
        if closed:
            file.closed_changes = file.changes
            if file.dirty and file.journaled.is_set():
                file.journaled = trio.Event()
            if file.dirty and file.scope is not None:
                file.scope.cancel()
        if file.settling is None:
            file.settling = trio.Event()
            self._nursery.start_soon(self._settle, file, file.settling, name=f"settle {file.node.path()}")
        return file.settling

    def _settle_dropped(self, file: LocalFile) -> None:
        self.settle(file)

    async def _settle(self, file: LocalFile, done: trio.Event) -> None:
        ended = False
        try:
            await self._settle_until_done(file)
            ended = True
        finally:
            file.settling, file.scope = None, None
            file.journaled.set()
            done.set()
            # Not where it was cancelled: the mount ends, and another task here would be cancelled, too, and
            # start another, without end.
            if file.wanted and ended:
                self.settle(file)
            self.tidy(file)
            self.made_progress()

    async def _settle_until_done(self, file: LocalFile) -> None:
        """Raises nothing, whatever becomes of it."""
        try:
            if file.free is not None:
                await file.free.wait()
            while file.wanted:
                file.wanted = False
                await self._settle_once(file)
        except (FigfsError, OSError) as exc:
            await self._refused(file, exc)
        except Exception as exc:
            log.exception("settling %s failed", file.node.path())
            await self._refused(file, RemoteError(f"internal error: {exc!r}"))

    def wanted(self, file: LocalFile) -> Place | None:
        """Where Figshare should have it, or None."""
        return places.wanted(file.node, hold_is_over=file.hold_is_over)

    def follow(self, file: LocalFile) -> None:
        """``file`` has another name, or is stored under one that is not its own: its row says so."""
        self._rows.follow(file)
        upload = file.upload
        if upload is not None and upload.source is not None and upload.state is State.WAITING:
            self.settle_later(file)

    def attributes_changed(self, node: FileNode) -> None:
        """A program has set mode, times or extended attributes of ``node``."""
        file = self._files.get(node)
        if file is not None:
            self._rows.attributes_changed(file)

    def settle_later(self, file: LocalFile) -> None:
        """Settle it when the grace of its move is over."""
        self._nursery.start_soon(self._settle_when_due, file.node, file.due)

    async def _settle_when_due(self, node: FileNode, due: float) -> None:
        await trio.sleep_until(due)
        file = self._files.get(node)  # not the one of before: it may have been settled, and opened anew
        waits = file is not None and file.upload is not None and file.upload.state is State.WAITING
        if file is not None and waits and node.local_size is None:  # else its close settles it
            self.settle(file)

    async def _settle_once(self, file: LocalFile) -> None:
        node = file.node
        if file.dropped:
            await self._journal_first(file)
            with trio.CancelScope() as file.scope:  # a close need not wait for it
                while file.dropped:
                    await self.forget(file.dropped[0])
                    del file.dropped[0]
            cancelled, file.scope = file.scope.cancelled_caught, None
            if cancelled:
                file.wanted = True
                return
        wanted = self.wanted(file)
        if wanted is None:
            await self._hold(file)
        elif node.local_size == 0:
            self._keep_empty(file)
        elif file.upload is not None or node.local_size is not None:
            await self._store(file, wanted)
        elif places.is_misplaced(node, hold_is_over=file.hold_is_over):
            self.follow(file)
            file.wanted = file.upload is not None
        elif node.replaces:
            replaced, node.replaces = node.replaces, []
            with self._rows.journal.transaction():
                for stored in replaced:
                    self._deletions.add(stored.file.id, stored.article_id)
        self._note_settled_name(file)

    async def _journal_first(self, file: LocalFile) -> None:
        """What a close waits for. Taking back an older upload comes after it: that may take as long as the
        network is away.
        """
        node = file.node
        if file.dirty and not file.being_written:
            wanted = self.wanted(file)
            if wanted is None:
                await self._hold(file)
            elif node.local_size == 0:
                self._keep_empty(file)
            elif node.local_size is not None:
                await self._seal(file, wanted)
        if not file.dirty or not node.local_size:
            file.journaled.set()

    async def _hold(self, file: LocalFile) -> None:
        """Under a temporary name it is not uploaded yet; but what a close has accepted is in the journal."""
        own = places.wanted(file.node, hold_is_over=True)
        unsaved = file.dirty and not file.being_written and file.node.local_size
        if own is not None and unsaved:
            await self._seal(file, None)

    def keep_if_empty(self, file: LocalFile) -> None:
        """A close of who has made ``file``, and has written nothing: an empty file outlives a crash."""
        if file.node.local_size == 0 and not file.dirty and self.wanted(file) is not None:
            self._keep_empty(file)

    def _keep_empty(self, file: LocalFile) -> None:
        """Figshare stores no empty file (quirks U17): it stays here, by its name.

        What was unlinked to make room for it is deleted after a grace of its own; a stored file that was
        emptied stays on Figshare until there is content to replace it with.
        """
        node = file.node
        file.settled_changes = file.changes
        if node.stored is not None and node.parent is not None:
            self._tree.keep_emptied(node, places.empty_key(node))
        with self._rows.journal.transaction():
            if node.stored is None and node.parent is not None:
                key = places.empty_key(node)
                if key is not None:
                    self._tree.rekey(node, key)
                for stored in node.replaces:
                    self._deletions.unlinked(stored, node.parent, node.name)
                node.replaces.clear()
            self._rows.drop(file)
        file.wanted = file.wanted or bool(file.dropped)

    def _note_settled_name(self, file: LocalFile) -> None:
        """Once Figshare has the file under the name shown here, listings are believed about it again."""
        node = file.node
        if node.stored is None or node.local_size is not None or node.changed_at != math.inf:
            return
        place = self.wanted(file)
        if place == places.of_stored(node.stored) and naming.name_from_filename(place.name) == node.name:
            node.changed_at = trio.current_time()

    async def _store(self, file: LocalFile, wanted: Place) -> None:
        """Make Figshare have the content at ``wanted``: journal it, unless that is done, and carry the row
        out.
        """
        upload = file.upload
        if file.being_written and (upload is None or upload.source is not None):
            return  # it is settled when it is closed
        if not file.being_written and (upload is None or file.dirty):
            if not await self._seal(file, wanted):
                return
            file.journaled.set()
            if (file.dirty and not file.being_written) or file.dropped:
                file.wanted = True  # closed again meanwhile: that is to be journaled first
                return
        upload = file.upload
        if upload is None:
            return  # Figshare has this very content there already
        if self.wanted(file) != wanted:  # unlinked or renamed during an await
            file.wanted = True
            return
        if places.of_upload(upload) != wanted:
            self.follow(file)  # changes nothing of what is held under a temporary name
            file.wanted = file.upload is not upload
            return
        file.journaled.set()
        if upload.source is None and upload.file_id is None and not upload.look_first:
            same = places.same_content(file.node, wanted, upload.size, upload.md5)
            if same is not None:  # it was held, and has taken the place of its like
                self._take_over(file, same)
                return
        if upload.state is State.WAITING:
            if upload.source is not None and trio.current_time() < file.due and not file.hold_is_over:
                return
            self._rows.journal.advance(upload, State.OWED)
        with trio.CancelScope() as file.scope:
            await self.fetch_source(upload, file.node)
            stored = await self._uploader.store(upload, self._hide)
        cancelled, file.scope = file.scope.cancelled_caught, None
        if cancelled or file.upload is not upload:
            file.wanted = True  # unlinked, renamed or rewritten: look again
            return
        self._is_stored(file, upload, stored)
        await self.finish(upload, lambda: self.follow(file))
        if file.spool is None or file.spool.path.name != upload.spool_name:
            self._uploader.drop_spool(upload)  # else it goes when the last handle is closed
        if places.is_misplaced(file.node, hold_is_over=file.hold_is_over):
            file.wanted = True  # renamed while its last bytes were on the way

    async def fetch_source(self, upload: Upload, node: FileNode) -> None:
        """A move that cannot be streamed, for Figshare tells no MD5 to announce: its bytes come here first.
        ``node``: what Figshare has of the source.
        """
        if upload.source is None or upload.md5:
            return
        spool = self._overlay(node)
        try:
            md5 = await self._complete(spool, node)
        except BaseException:
            spool.close(delete=True)
            raise
        upload.md5, upload.size, upload.spool_name, upload.source = md5, spool.size, spool.path.name, None
        self._rows.journal.update(upload)
        spool.journaled()
        spool.close(delete=False)

    async def finish(self, upload: Upload, then: Callable[[], None]) -> None:
        """It is stored: what it replaces goes, then its row, in one transaction with what is to go later, and
        with what ``then`` writes: a file under a temporary name is to get that, unless it is renamed.
        """
        later = await self._uploader.delete_replaced(upload, self._deletions.is_read)
        with self._rows.journal.transaction(durable=bool(later)):
            for file_id, article_id in upload.replaces.items():
                if file_id in later:
                    self._hide(file_id)
                    self._deletions.add(file_id, article_id)
                else:
                    self._tree.gone(Key(Kind.FILE, file_id))
            self._uploader.done(upload)
            then()
        self._forget_parked_like(upload)

    def _forget_parked_like(self, upload: Upload) -> None:
        """What was refused before, and has been copied again since: Figshare has those bytes at that place,
        so nobody has to decide about them.
        """
        content = (places.of_upload(upload), upload.size, upload.md5)
        for row in self._rows.journal.parked():
            same = (places.of_upload(row), row.size, row.md5) == content
            if same and row.source is None and row.file_id is None and not row.dropped:
                log.info("%s, parked before, is stored", row.name)
                self._uploader.forget(row)

    def _hide(self, file_id: Id) -> None:
        self._tree.hide(Key(Kind.FILE, file_id))

    async def _complete(self, spool: SpoolFile, node: FileNode) -> str:
        """Fetch what is missing, put it on disk for good; its MD5. Raises refusals and ``OSError``."""
        while True:
            try:
                return await spool.seal()
            except REFUSALS:
                raise
            except RemoteError as exc:
                log.warning("%s: what is missing of it cannot be fetched now: %s", node.path(), exc)
                await trio.sleep(SEAL_PAUSE)

    async def _seal(self, file: LocalFile, wanted: Place | None) -> bool:
        """Make the content durable: complete it, hash it, and put it into the journal as ``file.upload``, to
        be stored at ``wanted``, or held.

        True without an upload if Figshare has that content there already. False if there is nothing to carry
        out: the content or the name changed meanwhile, or the file is to wait for its rename.
        """
        node, spool, changes = file.node, file.spool, file.changes
        assert spool is not None
        md5 = await self._complete(spool, node)
        # No await from here until the row is written: name, content and journal agree.
        if file.changes != changes or file.spool is not spool:
            return False  # whoever changed it closes it, and asks again
        if self.wanted(file) != wanted or node.parent is None:
            file.wanted = True
            return False
        # What was unlinked before this file was made, and empty for a while:
        node.replaces += self._deletions.adopt(node.parent.key, node.name)
        same = places.same_content(node, wanted, spool.size, md5) if wanted is not None else None
        if same is not None:
            file.settled_changes = changes
            self._take_over(file, same)
            return True
        if wanted is not None and places.has_twin(node, wanted, spool.size, md5):
            file.settled_changes = changes
            self._rows.drop(file)
            file.wanted = file.wanted or bool(file.dropped)
            return False
        if node.stored is not None and node.stored not in node.replaces:
            node.replaces.append(node.stored)
        self._rows.add(file, wanted, spool.size, md5, spool.path.name)
        file.settled_changes, file.sealed = changes, True
        spool.journaled()
        return True

    def _take_over(self, file: LocalFile, same: Stored) -> None:
        """The file is what Figshare has as ``same``; another version that it was is replaced by that."""
        node = file.node
        if node.stored is not None and node.stored != same:
            node.replaces.append(node.stored)
        node.replaces = [stored for stored in node.replaces if stored != same]
        with self._rows.journal.transaction():
            self._deletions.forget([same.file.id])
            self._rows.drop(file)
        node.stored, node.local_size = same, None
        self._tree.keep_emptied(node, None)
        self._tree.rekey(node, same.key)
        self._tree.unhide(same.key)
        file.wanted = file.wanted or bool(node.replaces) or bool(file.dropped)

    def _is_stored(self, file: LocalFile, upload: Upload, stored: File) -> None:
        """Figshare holds the upload, verified. No await: the node changes from one truth to the next."""
        node = file.node
        for file_id in upload.replaces:
            self._hide(file_id)
        node.replaces = [old for old in node.replaces if old.file.id not in upload.replaces]
        node.stored = Stored(stored, upload.article_id, upload.folder)
        if not file.dirty:
            self._tree.keep_emptied(node, None)
        self._tree.rekey(node, node.stored.key)
        self._tree.unhide(node.key)
        self._tree.edited(upload.article_id)
        # A listing that began before this moment does not know the new file.
        node.changed_at = max(node.changed_at, trio.current_time())
        file.upload, file.accepted = None, False
        if not file.dirty:
            file.sealed = False  # its row is about to go; whoever has it open may write to it again
            node.local_size = None

    # -- giving up ------------------------------------------------------------

    async def forget(self, upload: Upload) -> None:
        """Take back what Figshare has of a row that is not wanted, however long that takes; then it goes, and
        its bytes.
        """
        left = await self._uploader.take_back(upload)
        while upload.look_first:
            await trio.sleep(FORGET_PAUSE)
            left = await self._uploader.take_back(upload)
        with self._rows.journal.transaction():
            if left is not None:
                self._deletions.add(left, upload.article_id)
            self._uploader.done(upload)
        self._uploader.drop_spool(upload)

    async def _refused(self, file: LocalFile, exc: Exception) -> None:
        """Figshare will not have it: the bytes stay here, parked; the name shows what Figshare has; the file
        remembers.

        Raises nothing: an exception here would end the mount.
        """
        node, upload = file.node, file.upload
        kept = f"; its bytes are kept in {file.spool.path}" if file.spool is not None else ""
        log.error("%s is not stored: %s%s", node.path(), exc, kept)
        file.error, file.upload = exc, None
        # What is to be taken back still is; but not without end where it is this disk that fails.
        file.wanted = bool(file.dropped) and not isinstance(exc, OSError)
        try:
            if upload is not None:
                self._uploader.park(upload, str(exc))
                for file_id in upload.replaces:
                    self._tree.unhide(Key(Kind.FILE, file_id))
            self._revert(file, delete=False)
            if upload is not None:
                left = await self._uploader.take_back(upload)
                if left is not None:
                    self._deletions.add(left, upload.article_id)
        except Exception:
            log.exception("parking %s failed", node.path())

    def abort(self, file: LocalFile) -> None:
        """The writer is gone, or going, and its close has not returned: nothing of what it wrote remains.

        At once, without a wait: the name goes, or shows what Figshare has, or what an earlier close has
        accepted; the file remembers EIO. The upload is stopped and taken back in the background. Nothing
        happens if Figshare has the content already.
        """
        if file.dirty:  # not in the journal yet
            self.discard(file)
            if file.upload is not None:  # of an earlier close: it may have been stopped
                self.settle(file)
        elif file.upload is not None:
            for file_id in file.upload.replaces:
                self._tree.unhide(Key(Kind.FILE, file_id))
            self._rows.drop(file)
            self._revert(file, delete=False)
            self.settle(file)
        else:
            return
        file.error = OSError(EIO, "interrupted by a signal")

    def discard(self, file: LocalFile) -> None:
        """Give up what was written since the last close: a write failed, and half a file is worth nothing.

        What an earlier close has accepted, and is still on its way, is the file again.
        """
        node, upload = file.node, file.upload
        if upload is None:
            self._revert(file, delete=not file.sealed)
            return
        file.settled_changes = file.changes
        if upload.source is not None:  # a stored file that was renamed
            file.retire(delete=True)
            node.local_size, node.mtime_ns, node.kernel_is_stale = None, upload.mtime_ns, True
            return
        if not file.sealed:
            file.retire(delete=True)
            file.spool, file.sealed = self.reopen(upload.spool_name), True
        node.local_size, node.mtime_ns = upload.size, upload.mtime_ns
        node.kernel_is_stale = True

    def _revert(self, file: LocalFile, *, delete: bool) -> None:
        """The name shows what Figshare has: an overwritten file its version there; the name of a new file
        goes.

        So a second rsync or cp starts clean, instead of taking half a file for done.
        """
        node = file.node
        file.settled_changes = file.changes
        parent, name = node.parent, node.name
        for stored in node.replaces:
            self._tree.unhide(stored.key)
        self._deletions.forget([stored.file.id for stored in node.replaces])
        node.replaces.clear()
        file.retire(delete=delete)
        node.local_size = None
        if node.stored is None:
            if is_empty_file(node.key):  # a close was answered for that
                node.local_size, node.kernel_is_stale = 0, True
            elif node.parent is not None:
                self._tree.detach(node, vanished=True)
        elif node.emptied_as is not None:
            node.local_size, node.kernel_is_stale = 0, True
        else:
            self._tree.unhide(node.stored.key)
            self._tree.reset(node)
            source = self._tree.by_key(Key(Kind.ARTICLE, node.stored.article_id))
            if isinstance(source, Container):
                self._tree.expire(source)
        if parent is not None:
            self._tree.expire(parent)
            self._restore(file, parent, name)

    def _restore(self, file: LocalFile, parent: Container, name: str) -> None:
        """What ``file`` was renamed over, and what a close had accepted before, is there again."""
        for victim in reversed(file.superseded):
            if name not in parent.children:
                self._tree.reattach(victim.node, parent, name)
                victim.node.changed_at = math.inf
            else:
                self._rows.drop(victim)
            self.settle(victim)
        file.superseded.clear()

    # -- the service ------------------------------------------------------------

    async def run(self) -> None:
        """End the hold of temporary files that were forgotten. Runs until cancelled."""
        while True:
            await trio.sleep(HOLD_TIME / 5)
            for file in list(self._files.values()):
                idle = not file.handles and trio.current_time() >= file.changed_at + HOLD_TIME
                if idle and not file.hold_is_over and _is_held(file.node):
                    file.hold_is_over = True
                    self.settle(file, closed=True)

    async def drain(self, owed: Callable[[], int]) -> None:
        """For the unmount: carry out all that is owed, without grace, and return when ``owed`` says nothing
        is.
        """
        self.hurried.set()
        self._deletions.hurry()
        for file in list(self._files.values()):
            file.hold_is_over = True
            if self._owes(file):
                self.settle(file, closed=not file.handles)
        while owed():
            await self._progress.wait()


def _is_held(node: FileNode) -> bool:
    kind = tempnames.classify(node.name).kind
    return node.changed_at == math.inf and kind in (tempnames.Kind.HOLD, tempnames.Kind.PREDICTED)
