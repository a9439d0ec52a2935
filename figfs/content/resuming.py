"""Uploads from an earlier mount: what the journal says is owed is carried out.

They begin at once, beside the file system. As soon as the article is listed, each becomes a pending file in
it, so that what ``close()`` has accepted is shown and can be read, and the settler goes on with it like with
any other. If a program writes the name before that, its row is the newer one: the old upload is given up once
that is in the journal, and what the old one has stored by then is replaced by it. Parked rows wait for a
person; their bytes stay in the spool. What was still within its grace, or held under a temporary name, waits
on; what was dropped is taken back.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from errno import EEXIST

import trio

from figfs.content import places
from figfs.content.deletions import Deletions
from figfs.content.journaling import HOLD_TIME, Journaling
from figfs.content.localfiles import LocalFile
from figfs.content.places import Place
from figfs.content.renaming import Renaming
from figfs.content.settling import Settler
from figfs.errors import FigfsError
from figfs.figshare.records import File
from figfs.namespace import naming
from figfs.namespace.attributes import Saved, decode_xattrs
from figfs.namespace.merging import folder_of
from figfs.namespace.nodes import Container, FileNode, Key, Kind, Node, Stored, new_pending_key
from figfs.namespace.tree import Tree
from figfs.writing import tempnames
from figfs.writing.journal import State, Upload
from figfs.writing.uploader import Uploader

log = logging.getLogger(__name__)


@dataclasses.dataclass(eq=False, slots=True)
class Job:
    """A row that is carried out here. ``file``: it is the settler's by now; ``stored``: too late for that."""

    upload: Upload
    scope: trio.CancelScope = dataclasses.field(default_factory=trio.CancelScope)
    file: LocalFile | None = None
    stored: bool = False
    ended: trio.Event = dataclasses.field(default_factory=trio.Event)


class Resumer:
    """Carries out the rows that were in the journal at the start."""

    def __init__(
        self,
        *,
        tree: Tree,
        rows: Journaling,
        uploader: Uploader,
        deletions: Deletions,
        settler: Settler,
        renaming: Renaming,
        nursery: trio.Nursery,
    ) -> None:
        self._tree = tree
        self._rows = rows
        self._uploader = uploader
        self._deletions = deletions
        self._settler = settler
        self._renaming = renaming
        self._nursery = nursery
        self._running: dict[Place, Job] = {}
        self._retracting = 0
        rows.on_row = self._supersede

    def owed(self) -> int:
        """How many are not done yet. What is held under a temporary name counts once the mount ends; litter,
        which stays here, never.
        """
        return self._retracting + sum(self._owes(job.upload) for job in self._running.values())

    def _owes(self, upload: Upload) -> bool:
        if upload.state is not State.WAITING:
            return True
        held = tempnames.classify(upload.name).kind is not tempnames.Kind.ORDINARY
        return upload.due < math.inf and (not held or self._settler.hurried.is_set())

    def uploads(self) -> list[Upload]:
        """Those that are not done yet, and are not files that can be seen."""
        return [job.upload for job in self._running.values() if job.file is None and not job.stored]

    def start(self) -> None:
        """Take up all rows that are owed, in the services nursery; say in the log what is parked."""
        journal = self._rows.journal
        self._deletions.start(journal.deletions())
        newest: dict[Place, Upload] = {}
        for upload in journal.uploads():
            if upload.dropped:
                self._start_retracting(upload)
                continue
            if upload.parked:
                path = self._uploader.spool_path(upload)
                log.warning("parked: %s of article %s (%s); its bytes are in %s",
                            upload.name, upload.article_id, upload.parked, path)  # fmt: skip
                continue
            older = newest.get(places.shown(upload))
            newest[places.shown(upload)] = upload
            if older is not None:  # a crash came between the newer row and the end of the older one
                with journal.transaction():
                    self._void(older, upload)
                    journal.update(upload)
                self._start_retracting(older)
        for upload in newest.values():
            for file_id in (upload.source, upload.file_id):
                if file_id is not None:  # it is not called so any more, or not complete yet
                    self._tree.hide(Key(Kind.FILE, file_id))
            self._start(upload)

    def take_up(self, upload: Upload, *, replace: bool = False) -> None:
        """A parked row is to be tried again: carried out like one of an earlier mount, and shown in its
        article if that is listed.

        ``FileExistsError`` if a newer file bears its name here, unless the upload is to ``replace`` that.
        """
        upload.shown_as = ""  # whoever wrote under a temporary name has gone
        place = places.shown(upload)
        newer = self._renaming.node_at(place)
        if place in self._running or (newer is not None and not self._is_replaced(newer, upload)):
            if not replace or newer is None or newer.stored is None or newer.local_size is not None:
                raise FileExistsError(EEXIST, f"{place.name!r} is there in a newer version")
            upload.replaces[newer.stored.file.id] = newer.stored.article_id
        upload.look_first = True
        self._rows.journal.advance(upload, State.OWED)
        self._start(upload)
        article = self._tree.by_key(Key(Kind.ARTICLE, place.article_id))
        if isinstance(article, Container) and article.status.listed_at is not None:
            self.show(article)

    def _start(self, upload: Upload) -> None:
        job = self._running[places.shown(upload)] = Job(upload, stored=upload.state is State.STORED)
        self._nursery.start_soon(self._resume, job, name=f"resume {upload.name}")

    def show(self, article: Container) -> None:
        """``article`` has just been listed: what is owed in it becomes files that can be seen, and the
        settler's.
        """
        if article.kind is not Kind.ARTICLE:
            return
        for place, job in self._running.items():
            if place.article_id != article.key.id or job.file is not None:
                continue
            upload = job.upload
            container = folder_of(self._tree, article, naming.split_folder_path(upload.folder))
            name = upload.shown_as or naming.name_from_filename(upload.name)
            older = container.children.get(name)
            if older is not None and not self._is_replaced(older, upload):
                continue  # something else bears the name: the upload goes on unseen
            if job.stored:
                self._show_stored(upload, container, name)
                continue
            spool = None
            if upload.source is None:
                try:
                    spool = self._settler.reopen(upload.spool_name)
                except OSError as exc:
                    log.error("the bytes of %s cannot be read: %s", upload.name, exc)
                    continue  # the upload meets the same, and is parked
            node = self._node_for(upload)
            _give_attributes(node, upload)
            for stored in node.replaces:
                self._tree.hide(stored.key)
            self._tree.attach(node, container, name)
            job.file = self._settler.take_up(node, upload, spool, job.ended)
            job.scope.cancel()

    def _show_stored(self, upload: Upload, container: Container, name: str) -> None:
        """Figshare has it; what it replaces is being deleted, and a listing may show either, or both."""
        assert upload.file_id is not None
        key = Key(Kind.FILE, upload.file_id)
        for file_id in upload.replaces:
            self._tree.hide(Key(Kind.FILE, file_id))
        if upload.shown_as or self._deletions.is_owed(upload.file_id):
            return
        node = self._tree.by_key(key) or self._tree.make(key)
        assert isinstance(node, FileNode)
        if node.stored is None:
            record = File(id=upload.file_id, name=upload.name, size=upload.size, computed_md5=upload.md5)
            node.stored = Stored(record, upload.article_id, upload.folder)
            _give_attributes(node, upload)
        self._tree.unhide(key)
        self._tree.attach(node, container, name)

    def _node_for(self, upload: Upload) -> FileNode:
        """The node that ``upload`` is shown as: for a move that of its source, under its new name."""
        if upload.source is None:
            node = self._tree.make(new_pending_key())
            assert isinstance(node, FileNode)
            node.local_size = upload.size
        else:
            key = Key(Kind.FILE, upload.source)
            known = self._tree.by_key(key) or self._tree.make(key)
            assert isinstance(known, FileNode)
            node = known
            node.stored = node.stored or _source_of(upload)
            self._tree.unhide(key)
        node.replaces = [
            Stored(File(id=file_id), article_id, upload.folder)
            for file_id, article_id in upload.replaces.items()
            if file_id != upload.source
        ]
        return node

    def _void(self, older: Upload, newer: Upload) -> None:
        """What ``older`` was to replace, and what it has stored itself, goes once ``newer`` is stored; what
        is half-done of it is taken back. The caller writes ``newer``, in the same transaction.
        """
        newer.replaces.update(older.replaces)
        if older.state is State.STORED and older.file_id is not None:
            newer.replaces[older.file_id] = older.article_id
            self._tree.hide(Key(Kind.FILE, older.file_id))
            older.file_id = None
        older.dropped = True
        self._rows.journal.update(older)

    def _is_replaced(self, node: Node, upload: Upload) -> bool:
        """Whether ``node`` has the name of ``upload`` only until that is stored."""
        if not isinstance(node, FileNode):
            return False
        if node.stored is None and node.local_size == 0 and self._settler.known(node) is None:
            self._tree.forget_saved(node.key)  # it was empty before it got this content
            return True
        return node.stored is not None and node.stored.file.id in upload.replaces

    def _supersede(self, newer: Upload) -> None:
        """A newer row is about to be written, in this transaction."""
        job = self._running.get(places.shown(newer))
        if job is not None and job.file is None and not job.stored:
            self._void(job.upload, newer)
            job.scope.cancel()

    def _start_retracting(self, upload: Upload) -> None:
        self._retracting += 1
        self._nursery.start_soon(self._retract, upload, name=f"retract {upload.name}")

    async def _retract(self, upload: Upload) -> None:
        try:
            await self._settler.forget(upload)
        except Exception:
            log.exception("what Figshare has of %s is not taken back yet", upload.name)
        finally:
            self._retracting -= 1
            self._settler.made_progress()

    async def _resume(self, job: Job) -> None:
        upload = job.upload
        try:
            with job.scope:
                await self._carry_out(job)
            if job.file is None and job.scope.cancelled_caught:
                self._start_retracting(upload)
        except Exception as exc:
            known = isinstance(exc, FigfsError | OSError)
            log.error("%s, left over from an earlier mount, is not stored: %s",
                      upload.name, exc, exc_info=None if known else exc)  # fmt: skip
            # Where parking fails (the disk is full, say), the row is still owed: the next mount tries again.
            with contextlib.suppress(Exception):
                await self._park(upload, str(exc))
        finally:
            if self._running.get(places.shown(upload)) is job:
                del self._running[places.shown(upload)]
            job.ended.set()
            if job.file is not None:
                self._settler.settle(job.file)
                if upload.source is not None and upload.state is State.WAITING:
                    self._settler.settle_later(job.file)
            self._settler.made_progress()

    async def _park(self, upload: Upload, reason: str) -> None:
        """Refused: what Figshare has of it is taken back, and what was to be moved is where it was."""
        self._uploader.park(upload, reason)
        if upload.source is not None and upload.source_article is not None:
            self._tree.unhide(Key(Kind.FILE, upload.source))
            article = self._tree.by_key(Key(Kind.ARTICLE, upload.source_article))
            if isinstance(article, Container):
                self._tree.expire(article)
        left = await self._uploader.take_back(upload)
        if left is not None:
            self._deletions.add(left, upload.article_id)

    async def _carry_out(self, job: Job) -> None:
        upload = job.upload
        if upload.state is State.WAITING:
            with trio.move_on_after(max(0.0, upload.due - time.time())):
                await self._settler.hurried.wait()
                if upload.due == math.inf:
                    await trio.sleep_forever()
            self._rows.journal.advance(upload, State.OWED)
        if not job.stored:
            source = FileNode(Key(Kind.FILE, upload.source or 0), 0)
            source.stored = _source_of(upload) if upload.source is not None else None
            await self._settler.fetch_source(upload, source)
            await self._uploader.store(upload, lambda file_id: self._tree.hide(Key(Kind.FILE, file_id)))
        if job.file is not None:
            return  # it became the settler's in the last moment
        job.stored = True
        assert upload.file_id is not None
        await self._settler.finish(upload, lambda: self._hold_again(upload))
        self._uploader.drop_spool(upload)
        if upload.shown_as:
            return
        result = Stored(File(id=upload.file_id, name=upload.name), upload.article_id, upload.folder)
        self._tree.keep_attributes(result.key, Saved(upload.mode, upload.mtime_ns, xattrs=upload.xattrs))
        if not self._renaming.stored_elsewhere(result) and not self._deletions.is_owed(upload.file_id):
            self._tree.unhide(result.key)
        for article_id in {upload.article_id, upload.source_article}:
            article = self._tree.by_key(Key(Kind.ARTICLE, article_id)) if article_id is not None else None
            if isinstance(article, Container):
                self._tree.expire(article)
        log.info("%s, left over from an earlier mount, is stored", upload.name)

    def _hold_again(self, upload: Upload) -> None:
        """It is stored under the name that was to come, and has not come: it is still called otherwise."""
        if not upload.shown_as:
            return
        assert upload.file_id is not None
        held = Upload(
            row=0,
            article_id=upload.article_id,
            folder=upload.folder,
            name=upload.shown_as,
            size=upload.size,
            md5=upload.md5,
            spool_name="",
            mode=upload.mode,
            mtime_ns=upload.mtime_ns,
            xattrs=upload.xattrs,
            replaces={upload.file_id: upload.article_id},
            state=State.WAITING,
            due=time.time() + HOLD_TIME,
            source=upload.file_id,
            source_article=upload.article_id,
            source_folder=upload.folder,
            source_name=upload.name,
        )
        self._rows.journal.add(held)
        self._tree.hide(Key(Kind.FILE, upload.file_id))
        self._start(held)


def _give_attributes(node: FileNode, upload: Upload) -> None:
    """What programs had set on the file of ``upload``."""
    node.mode, node.mtime_ns = upload.mode, upload.mtime_ns
    node.xattrs = decode_xattrs(upload.xattrs)


def _source_of(upload: Upload) -> Stored:
    """What a move is to become of, as far as its row tells."""
    assert upload.source is not None
    assert upload.source_article is not None
    record = File(id=upload.source, name=upload.source_name, size=upload.size, computed_md5=upload.md5)
    return Stored(record, upload.source_article, upload.source_folder)
