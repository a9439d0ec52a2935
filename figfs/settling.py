"""Bringing Figshare to what was written here, file by file.

A ``LocalFile`` stands for the bytes of one file node while it is open, or while this machine has bytes that
Figshare does not have. *Settling* it means: look at what the node wants (its name, its place, its content),
look at what Figshare has, and take the next step, until there is none left. There is one settling task for a
file at a time, in the services nursery.

Invariants
* A sealed spool file is never written again: a row of the journal names its MD5. A later write goes to a copy
  of it.
* What a file replaces (``node.replaces``, ``Upload.replaces``) is deleted only after the new file has been
  verified.
* A stored file that a handle is reading is not deleted before that handle is closed.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import trio

from figfs.deletions import Deletions
from figfs.errors import REFUSALS, FigfsError, RemoteError
from figfs.figshare.records import File, Id
from figfs.localfiles import LocalFile, Wanted
from figfs.namespace import naming
from figfs.namespace.nodes import Container, FileNode, Key, Kind, LinkNode, Stored
from figfs.namespace.tree import Tree
from figfs.writing import tempnames
from figfs.writing.journal import Journal, Upload
from figfs.writing.spool import SpoolFile
from figfs.writing.uploader import Uploader

log = logging.getLogger(__name__)

#: A file under a temporary name that nothing has touched for this long (seconds) is uploaded under that name
#: after all.
HOLD_TIME = 300.0
SEAL_PAUSE = 5.0  #: seconds before what is missing of a partly rewritten file is fetched again


class Settler:
    """Owns the local files, and the uploads owed to Figshare for them; deletions are handed to ``Deletions``.

    ``grace`` is how long (seconds) an unlink or a rename of a stored file can be taken back at no cost;
    ``overlay`` makes a spool file over what Figshare has of a node.
    """

    def __init__(
        self,
        *,
        tree: Tree,
        journal: Journal,
        uploader: Uploader,
        deletions: Deletions,
        nursery: trio.Nursery,
        grace: float,
        overlay: Callable[[FileNode], SpoolFile],
    ) -> None:
        self._tree = tree
        self._overlay = overlay
        self._journal = journal
        self._uploader = uploader
        self._deletions = deletions
        self._nursery = nursery
        self._grace = grace
        self._files: dict[FileNode, LocalFile] = {}
        self._resuming = 0
        self._progress = trio.Event()

    # -- local files ------------------------------------------------------------

    def local(self, node: FileNode) -> LocalFile:
        """The local side of ``node``, made where there is none."""
        file = self._files.get(node)
        if file is None:
            file = self._files[node] = LocalFile(node)
        return file

    def known(self, node: FileNode) -> LocalFile | None:
        return self._files.get(node)

    def tidy(self, file: LocalFile) -> None:
        """Drop the local side once nobody has it open, nothing is owed for it, and its bytes are not needed
        here.
        """
        if file.handles or file.settling is not None or file.wanted:
            return
        for spool in file.retired:
            spool.close(delete=False)
        file.retired.clear()
        node = file.node
        if (
            node.parent is not None
            and file.error is None
            and (node.local_size is not None or node.changed_at == math.inf)
        ):
            return
        if file.spool is not None:
            file.spool.close(delete=not file.sealed)
            file.spool = None
        self._files.pop(node, None)

    def owed(self) -> int:
        """How many files still owe Figshare something. A file that is being written does not count yet."""
        return sum(map(self._owes, self._files.values())) + len(self._deletions) + self._resuming

    def _owes(self, file: LocalFile) -> bool:
        if file.settling is not None or file.upload is not None:
            return True
        unsettled = file.dirty or self._is_misplaced(file.node)
        return unsettled and not file.handles and self._wanted(file) is not None

    # -- unlink, rename, replace ------------------------------------------------------------

    def adopt(self, node: FileNode, parent: Container, name: str) -> None:
        """``node`` takes the place of what was unlinked there within the grace: that goes only once ``node``
        is stored.
        """
        node.replaces += self._deletions.adopt(parent.key, name)

    def replace(self, victim: FileNode, node: FileNode) -> None:
        """``node`` is renamed over ``victim``: what Figshare has of that goes once ``node`` is stored."""
        if victim.stored is not None:
            self._tree.hide(victim.stored.key)
            node.replaces.append(victim.stored)
        node.replaces += victim.replaces
        victim.replaces.clear()
        self._tree.detach(victim)
        self._cancel_upload(victim)

    def unlink(self, node: FileNode | LinkNode) -> None:
        """The name is gone at once; Figshare hears of it after the grace. Open handles read and write on."""
        parent = node.parent
        assert parent is not None
        doomed = node.replaces.copy() if isinstance(node, FileNode) else []
        if node.stored is not None:
            self._tree.hide(node.stored.key)
            doomed.append(node.stored)
        for stored in doomed:
            self._deletions.unlinked(stored, parent.key, node.name, self._grace)
        if isinstance(node, FileNode):
            node.replaces.clear()
        self._tree.detach(node)
        if isinstance(node, FileNode):
            self._cancel_upload(node)

    def _cancel_upload(self, node: FileNode) -> None:
        file = self._files.get(node)
        if file is not None:
            if file.scope is not None:
                file.scope.cancel()
            self.tidy(file)

    def renamed(self, node: FileNode) -> None:
        """``node`` has a new name or place: settle it now, or after the grace if that means moving a stored
        file.
        """
        node.changed_at = math.inf  # until Figshare has it there, listings know nothing of it
        file = self.local(node)
        file.changed_at, file.hold_is_over = trio.current_time(), False
        if (
            file.scope is not None
            and file.upload is not None
            and self._wanted(file) != _destination(file.upload)
        ):
            file.scope.cancel()
        if file.dirty and file.handles:
            return  # still being written: its last FLUSH settles it, under the name it has then
        if node.local_size is not None or not self._is_misplaced(node):
            self.settle(file)
        else:
            self._nursery.start_soon(self._settle_later, file)

    async def _settle_later(self, file: LocalFile) -> None:
        await trio.sleep(self._grace)
        self.settle(file)

    # -- settling ------------------------------------------------------------

    def settle(self, file: LocalFile) -> trio.Event:
        """Start settling, unless it runs. The event is set when there is nothing left to do, or it was
        refused.
        """
        file.wanted = True
        if file.dirty and file.journaled.is_set():
            file.journaled = trio.Event()
        if file.settling is None:
            file.settling = trio.Event()
            self._nursery.start_soon(self._settle, file, file.settling, name=f"settle {file.node.path()}")
        return file.settling

    async def _settle(self, file: LocalFile, done: trio.Event) -> None:
        try:
            while file.wanted:
                file.wanted = False
                await self._settle_once(file)
        except (FigfsError, OSError) as exc:
            await self._refused(file, exc)
        except Exception as exc:
            log.exception("settling %s failed", file.node.path())
            await self._refused(file, RemoteError(f"internal error: {exc!r}"))
        finally:
            file.settling = None
            file.journaled.set()
            done.set()
            self.tidy(file)
            self.made_progress()

    async def _settle_once(self, file: LocalFile) -> None:
        node = file.node
        wanted = self._wanted(file)
        if wanted is None:
            if node.parent is None:
                await self._abandon(file)
            return
        if node.local_size is not None or file.upload is not None:
            if file.spool is not None and file.spool.size == 0 and file.upload is None:
                file.settled_changes = (
                    file.changes
                )  # Figshare stores no empty file (quirks U17): it stays here
                return
            await self._store(file, wanted)
        elif self._is_misplaced(node):
            # Figshare cannot rename a file (api.md §0): its content is fetched and stored anew, then the old
            # one goes.
            if file.spool is None:
                file.spool = self._overlay(node)
            node.local_size = file.spool.size
            file.changes += 1
            await self._store(file, wanted)
        elif node.replaces:
            replaced, node.replaces = node.replaces, []
            for stored in replaced:
                self._deletions.add(stored.file.id, stored.article_id)
        self._note_settled_name(file)

    def _note_settled_name(self, file: LocalFile) -> None:
        """Once Figshare has the file under the name shown here, listings are believed about it again."""
        node = file.node
        if (
            node.stored is None
            or node.local_size is not None
            or node.changed_at != math.inf
            or self._is_misplaced(node)
        ):
            return
        if naming.name_from_filename(node.stored.file.name) == node.name:
            node.changed_at = trio.current_time()

    def _wanted(self, file: LocalFile) -> Wanted | None:
        """Where Figshare should have the file; None if it should have no such file (now)."""
        node = file.node
        parent = node.parent
        if parent is None:
            return None
        article = parent.lister
        if article.kind is not Kind.ARTICLE:
            return None
        stored, name = node.stored, node.name
        if stored is not None and naming.name_from_filename(stored.file.name) == name:
            name = stored.file.name  # it may hold a character that no name here can have
        elif not file.hold_is_over:
            temporary = tempnames.classify(name)
            if temporary.kind is tempnames.Kind.PREDICTED and temporary.final:
                name = temporary.final
            elif temporary.kind is tempnames.Kind.HOLD:
                return None
        if parent.local or tempnames.classify(name).kind is tempnames.Kind.LOCAL:
            return None
        return Wanted(article.key.id, naming.join_folder_path(parent.folder), name)

    def _is_misplaced(self, node: FileNode) -> bool:
        """Whether a stored file was renamed here, to where Figshare does not have it."""
        if node.stored is None or node.changed_at != math.inf:
            return False
        wanted = self._wanted(self.local(node))
        return wanted is not None and wanted != _place(node.stored)

    async def _store(self, file: LocalFile, wanted: Wanted) -> None:
        node = file.node
        if file.upload is None:
            if not await self._seal(file, wanted):
                return
        elif _destination(file.upload) != wanted:
            await self._uploader.take_back(file.upload)
            file.upload.article_id, file.upload.folder, file.upload.name = wanted
            self._journal.update(file.upload)
        upload = file.upload
        if upload is None:
            return  # Figshare had this very content there already
        file.journaled.set()
        with trio.CancelScope() as file.scope:
            stored = await self._uploader.store(
                upload, lambda file_id: self._tree.hide(Key(Kind.FILE, file_id))
            )
        cancelled, file.scope = file.scope.cancelled_caught, None
        if cancelled:
            if node.parent is None:
                await self._abandon(file)
            else:
                file.wanted = True  # it was renamed: again, under its new name
            return
        self._is_stored(file, upload, stored)
        later = await self._uploader.finish(upload, self._deletions.is_read)
        if file.spool is None or file.spool.path.name != upload.spool_name:
            self._uploader.drop_spool(upload)  # else it goes when the last handle is closed
        self._note_replaced(upload, later)
        if self._is_misplaced(node):
            file.wanted = True  # renamed while its last bytes were on the way

    def _note_replaced(self, upload: Upload, later: set[Id]) -> None:
        for file_id, article_id in upload.replaces.items():
            if file_id in later:
                self._tree.hide(Key(Kind.FILE, file_id))
                self._deletions.add(file_id, article_id)
            else:
                self._tree.gone(Key(Kind.FILE, file_id))

    async def _seal(self, file: LocalFile, wanted: Wanted) -> bool:
        """Make the content durable: complete it, hash it, put it into the journal. False if it changed
        meanwhile.
        """
        node, spool, changes = file.node, file.spool, file.changes
        assert spool is not None
        while True:
            try:
                md5 = await spool.seal()
                break
            except REFUSALS:
                raise
            except RemoteError as exc:
                log.warning("%s: what is missing of it cannot be fetched now: %s", node.path(), exc)
                await trio.sleep(SEAL_PAUSE)
        # No await until the row is written: name, content and journal agree.
        if file.changes != changes or file.spool is not spool or self._wanted(file) is None:
            return False
        file.settled_changes = changes
        same = self._same_content(node, wanted, spool.size, md5)
        if same is not None:
            self._take_over(file, same)
            return True
        if self._has_twin(node, wanted, spool.size, md5):
            return False
        if node.stored is not None:
            node.replaces.append(node.stored)
        file.upload = self._journal.add(
            Upload(
                row=0,
                article_id=wanted.article_id,
                folder=wanted.folder,
                name=wanted.name,
                size=spool.size,
                md5=md5,
                spool_name=spool.path.name,
                mode=node.mode,
                mtime_ns=node.mtime_ns,
                replaces={stored.file.id: stored.article_id for stored in node.replaces},
            )
        )
        file.sealed = True
        return True

    def _same_content(self, node: FileNode, wanted: Wanted, size: int, md5: str) -> Stored | None:
        """What Figshare has already where the file is wanted, if it is the same: then nothing is uploaded."""
        candidates = node.replaces if node.stored is None else [node.stored, *node.replaces]
        for stored in candidates:
            if _place(stored) == wanted and (stored.file.size, stored.file.md5) == (size, md5):
                return stored
        return None

    @staticmethod
    def _has_twin(node: FileNode, wanted: Wanted, size: int, md5: str) -> bool:
        """Whether ``node`` bears a temporary name, and Figshare has these bytes under the final one already.

        So ``rsync -a`` from another machine, which knows no times, uploads nothing: the file waits for its
        rename, and is taken over then.
        """
        assert node.parent is not None
        temporary = tempnames.classify(node.name)
        if temporary.kind is not tempnames.Kind.PREDICTED or temporary.final is None:
            return False
        twin = node.parent.children.get(temporary.final)
        if not isinstance(twin, FileNode) or twin.stored is None or twin.local_size is not None:
            return False
        stored = twin.stored
        return _place(stored) == wanted and (stored.file.size, stored.file.md5) == (size, md5)

    def _take_over(self, file: LocalFile, same: Stored) -> None:
        """The file is what Figshare has as ``same``; another version that it was is replaced by that."""
        node = file.node
        if node.stored is not None and node.stored != same:
            node.replaces.append(node.stored)
        node.replaces = [stored for stored in node.replaces if stored != same]
        node.stored, node.local_size = same, None
        self._tree.rekey(node, same.key)
        self._tree.unhide(same.key)
        file.wanted = file.wanted or bool(node.replaces)

    def _is_stored(self, file: LocalFile, upload: Upload, stored: File) -> None:
        """Figshare holds the upload, verified. No await: the node changes from one truth to the next."""
        node = file.node
        for file_id in upload.replaces:
            self._tree.hide(Key(Kind.FILE, file_id))
        node.replaces = [old for old in node.replaces if old.file.id not in upload.replaces]
        node.stored = Stored(stored, upload.article_id, upload.folder)
        self._tree.rekey(node, Key(Kind.FILE, stored.id))
        self._tree.unhide(node.key)
        file.upload = None
        if not file.dirty:
            file.sealed = False  # its row is about to go; whoever has it open may write to it again
            node.local_size = None

    async def _abandon(self, file: LocalFile) -> None:
        upload, file.upload = file.upload, None
        if upload is not None:
            await self._uploader.abandon(upload)
            file.sealed = False

    async def _refused(self, file: LocalFile, exc: Exception) -> None:
        """Figshare will not have it: the bytes stay here, parked; the name shows what Figshare has; the file
        remembers.
        """
        node = file.node
        log.error("%s is not stored: %s", node.path(), exc)
        file.error = exc
        file.wanted = False
        upload, file.upload, file.scope = file.upload, None, None
        if upload is not None:
            self._uploader.park(upload, str(exc))
        file.settled_changes = file.changes
        article = node.parent.lister if node.parent is not None else None
        for stored in node.replaces:
            self._tree.unhide(stored.key)
        node.replaces.clear()
        if file.spool is not None:
            file.retired.append(file.spool)
            file.spool, file.sealed = None, False
        node.local_size = None
        if node.stored is None:
            self._tree.detach(node)
        else:
            self._tree.unhide(node.key)
            node.changed_at = -math.inf
        if article is not None:
            self._tree.expire(article)
        if upload is not None:
            await self._uploader.take_back(upload)

    # -- the service ------------------------------------------------------------

    async def run(self) -> None:
        """End the hold of temporary files that were forgotten. Runs until cancelled."""
        while True:
            await trio.sleep(HOLD_TIME / 5)
            for file in list(self._files.values()):
                held = not file.hold_is_over and not file.handles and file.node.changed_at == math.inf
                if held and trio.current_time() >= file.changed_at + HOLD_TIME:
                    file.hold_is_over = True
                    self.settle(file)

    def made_progress(self) -> None:
        """Wake ``drain``; ``mount.py`` has the deletions call it too."""
        self._progress.set()
        self._progress = trio.Event()

    def resume(self) -> int:
        """Take up what the journal says is owed from before, parked ones too. Returns how many."""
        rows = self._journal.rows()
        for upload in rows:
            self._resuming += 1
            self._nursery.start_soon(self._resume, upload, name=f"resume {upload.name}")
        return len(rows)

    async def _resume(self, upload: Upload) -> None:
        try:
            upload.parked = ""
            stored = await self._uploader.store(
                upload, lambda file_id: self._tree.hide(Key(Kind.FILE, file_id))
            )
            later = await self._uploader.finish(upload, self._deletions.is_read)
            self._uploader.drop_spool(upload)
            self._tree.keep_times(Key(Kind.FILE, stored.id), upload.mode, upload.mtime_ns)
            self._tree.unhide(Key(Kind.FILE, stored.id))
            self._note_replaced(upload, later)
            log.info("%s, left over from an earlier mount, is stored", upload.name)
        except (FigfsError, OSError) as exc:
            log.error("%s, left over from an earlier mount, is not stored: %s", upload.name, exc)
            self._uploader.park(upload, str(exc))
        finally:
            self._resuming -= 1
            self.made_progress()
        article = self._tree.by_key(Key(Kind.ARTICLE, upload.article_id))
        if isinstance(article, Container):
            self._tree.expire(article)

    async def drain(self) -> None:
        """For the unmount: carry out all that is owed, without grace, and return when nothing is."""
        self._deletions.hurry()
        for file in list(self._files.values()):
            file.hold_is_over = True
            if self._owes(file):
                self.settle(file)
        while self.owed():
            await self._progress.wait()


def _place(stored: Stored) -> Wanted:
    return Wanted(stored.article_id, stored.folder, stored.file.name)


def _destination(upload: Upload) -> Wanted:
    return Wanted(upload.article_id, upload.folder, upload.name)
