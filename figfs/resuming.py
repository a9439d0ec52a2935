"""Uploads from an earlier mount: what the journal says is owed is carried out, beside the file system.

Such an upload has no node until it is stored and its article is listed again. If a program writes the same
name meanwhile, its row is the newer one: the old upload is given up once that is in the journal, and what the
old one has stored by then is replaced by it. Parked rows wait for a person; their bytes stay in the spool.
"""

from __future__ import annotations

import contextlib
import logging

import trio

from figfs import places
from figfs.deletions import Deletions
from figfs.errors import FigfsError
from figfs.namespace.nodes import Container, Key, Kind, Stored
from figfs.namespace.tree import Tree
from figfs.places import Place
from figfs.renaming import Renaming
from figfs.settling import Settler
from figfs.writing.journal import Journal, Upload
from figfs.writing.uploader import Uploader

log = logging.getLogger(__name__)


class Resumer:
    """Carries out the rows that were in the journal at the start."""

    def __init__(
        self,
        *,
        tree: Tree,
        journal: Journal,
        uploader: Uploader,
        deletions: Deletions,
        settler: Settler,
        renaming: Renaming,
        nursery: trio.Nursery,
    ) -> None:
        self._tree = tree
        self._journal = journal
        self._uploader = uploader
        self._deletions = deletions
        self._settler = settler
        self._renaming = renaming
        self._nursery = nursery
        self._running: dict[Place, trio.CancelScope] = {}
        settler.on_journaled = self._supersede

    def owed(self) -> int:
        """How many are not done yet."""
        return len(self._running)

    def start(self) -> None:
        """Take up all rows that are owed, in the services nursery; say in the log what is parked."""
        newest: dict[Place, Upload] = {}
        for upload in self._journal.rows():
            if upload.parked:
                path = self._uploader.spool_path(upload)
                log.warning("parked: %s of article %s (%s); its bytes are in %s",
                            upload.name, upload.article_id, upload.parked, path)  # fmt: skip
                continue
            older = newest.get(places.of_upload(upload))
            newest[places.of_upload(upload)] = upload
            if older is not None:  # a crash came between the newer row and the end of the older one
                self._take_the_place(upload, older)
        for place, upload in newest.items():
            scope = self._running[place] = trio.CancelScope()
            self._nursery.start_soon(self._resume, upload, scope, name=f"resume {upload.name}")

    def _take_the_place(self, upload: Upload, older: Upload) -> None:
        """What ``older`` has of its file, and what that was to replace, goes once ``upload`` is stored."""
        upload.replaces.update(older.replaces)
        if older.file_id is not None:
            upload.replaces[older.file_id] = older.article_id
            self._tree.hide(Key(Kind.FILE, older.file_id))
        self._journal.update(upload)
        self._uploader.forget(older)

    def _supersede(self, place: Place) -> None:
        """A newer row for ``place`` is in the journal."""
        scope = self._running.get(place)
        if scope is not None:
            scope.cancel()

    async def _resume(self, upload: Upload, scope: trio.CancelScope) -> None:
        try:
            with scope:
                await self._carry_out(upload)
            if scope.cancelled_caught:
                await self._uploader.take_back(upload)
                self._uploader.forget(upload)
        except Exception as exc:
            known = isinstance(exc, FigfsError | OSError)
            log.error("%s, left over from an earlier mount, is not stored: %s",
                      upload.name, exc, exc_info=None if known else exc)  # fmt: skip
            with contextlib.suppress(
                Exception
            ):  # the state's disk is full, say: the next mount tries it again
                self._uploader.park(upload, str(exc))
        finally:
            self._running.pop(places.of_upload(upload), None)
            self._settler.made_progress()

    async def _carry_out(self, upload: Upload) -> None:
        stored = await self._uploader.store(
            upload, lambda file_id: self._tree.hide(Key(Kind.FILE, file_id)), look_first=True
        )
        result = Stored(stored, upload.article_id, upload.folder)
        later = await self._uploader.finish(upload, self._deletions.is_read)
        self._uploader.drop_spool(upload)
        self._settler.note_replaced(upload, later)
        self._tree.keep_times(result.key, upload.mode, upload.mtime_ns)
        if not self._renaming.stored_elsewhere(result):
            self._tree.unhide(result.key)
        article = self._tree.by_key(Key(Kind.ARTICLE, upload.article_id))
        if isinstance(article, Container):
            self._tree.expire(article)
        log.info("%s, left over from an earlier mount, is stored", upload.name)
