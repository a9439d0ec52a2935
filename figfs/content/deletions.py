"""Stored files that are to be deleted on Figshare: after a grace, and not while somebody reads them.

An unlink here is local and instant (the kernel holds the directory's lock, and editors take unlinks back);
Figshare hears of it ``grace`` seconds later. Within them a new file of that name *adopts* the old one: that
is one replacement, and the old one goes only when the new one has been verified.

Each has its row in the journal from the unlink on, so that a crash neither loses it nor brings the name back.
The row of one that was adopted goes in the transaction that writes the new file's row.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterable

import trio

from figfs.errors import REFUSALS, RemoteError
from figfs.figshare.records import File, Id
from figfs.namespace import naming
from figfs.namespace.nodes import Container, Key, Kind, Stored
from figfs.namespace.tree import Tree
from figfs.writing.journal import Deletion, Journal, State

log = logging.getLogger(__name__)

RETRY_PAUSE = 5.0  #: seconds until a deletion that met trouble on the way is tried again


@dataclasses.dataclass(slots=True)
class Doomed:
    """One deletion. ``due`` is Trio's clock; ``place`` and ``name`` are where it can be taken over."""

    row: Deletion
    due: float
    stored: Stored | None = None
    place: Key | None = None
    name: str = ""


class Deletions:
    """All of one mount. ``delete`` asks Figshare: ``delete(article_id, file_id)``; ``on_progress`` hears of
    each end.
    """

    def __init__(
        self,
        *,
        tree: Tree,
        journal: Journal,
        delete: Callable[[Id, Id], Awaitable[None]],
        grace: float,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._tree = tree
        self._journal = journal
        self._delete = delete
        self._grace = grace
        self.on_progress = on_progress
        self._doomed: dict[Id, Doomed] = {}
        self._adopted: dict[Id, Deletion] = {}
        self._readers: dict[Id, int] = {}
        self._wake = trio.Event()

    def __len__(self) -> int:
        return len(self._doomed)

    def start(self, rows: Iterable[Deletion]) -> None:
        """Take up what an earlier mount owes: hidden at once, and deleted when its grace is over."""
        for row in rows:
            if row.url:
                continue  # to be put back, not to be deleted: ``linkedfiles.py``
            if row.state is State.PARKED:
                log.warning(
                    "parked: the deletion of %s of article %s (%s)", row.name, row.article_id, row.reason
                )
                continue
            left = min(max(0.0, row.due - time.time()), self._grace) if row.state is State.WAITING else 0.0
            stored = Stored(File(id=row.file_id, name=row.name), row.article_id, row.folder)
            path = naming.split_folder_path(row.folder)
            place = Key(Kind.ARTICLE, row.article_id)
            if path:
                place = Key(Kind.FOLDER, "/".join((str(row.article_id), *path)))
            name = naming.name_from_filename(row.name)
            self._hide(row.file_id)
            self._doomed[row.file_id] = Doomed(row, trio.current_time() + left, stored, place, name)
        self._wake.set()

    def take_up(self, row: Deletion) -> None:
        """A parked deletion is to be tried again, at once."""
        self._journal.advance(row, State.OWED)
        self._hide(row.file_id)
        for kind in (Kind.FILE, Kind.LINK):
            node = self._tree.by_key(Key(kind, row.file_id))
            if node is not None:
                self._tree.detach(node)
        self._doom(row, trio.current_time())

    def add(self, file_id: Id, article_id: Id) -> None:
        """Delete what has been replaced, as soon as nobody reads it. The caller has hidden its name."""
        row = self._known(file_id)
        if row is None:
            row = self._journal.add_deletion(Deletion(row=0, article_id=article_id, file_id=file_id))
        self._doom(row, trio.current_time())

    def unlinked(self, stored: Stored, place: Container, name: str) -> None:
        """Delete, after the grace, what was called ``name`` in the article or folder ``place``."""
        file_id, grace = stored.file.id, self._grace
        if stored.file.is_link_only:
            grace = 0.0  # as long as the link is there, Figshare takes no file into the article (quirks U19)
        row = self._known(file_id)
        due = time.time() + grace
        if row is None:
            row = Deletion(
                row=0,
                article_id=stored.article_id,
                file_id=file_id,
                due=due,
                name=name,
                folder=naming.join_folder_path(place.folder),
                state=State.WAITING,
            )
            self._journal.add_deletion(row)
        else:
            row.due = due
            self._journal.update(row)
        self._doom(row, trio.current_time() + grace, stored, place.key, name)

    def adopt(self, place: Key, name: str) -> list[Stored]:
        """Take over what was unlinked there within its grace. It is not deleted from here any more.

        Its row stays until ``forget``: after a crash before the new file is closed it is a deletion again.
        """
        taken = [
            doomed.stored
            for doomed in self._doomed.values()
            if doomed.stored is not None
            and not doomed.stored.file.is_link_only
            and doomed.place == place
            and doomed.name == name
        ]
        for stored in taken:
            self._adopted[stored.file.id] = self._doomed.pop(stored.file.id).row
        return taken

    def forget(self, file_ids: Iterable[Id]) -> None:
        """They are the business of an upload's row now, or are to stay: rows of their own go."""
        for file_id in file_ids:
            doomed = self._doomed.pop(file_id, None)
            row = self._adopted.pop(file_id, None) or (doomed.row if doomed is not None else None)
            if row is not None:
                self._journal.remove(row)

    def article_removed(self, article_id: Id) -> None:
        """The article is gone, and its files with it."""
        rows = [*self._adopted.values(), *(doomed.row for doomed in self._doomed.values())]
        with self._journal.transaction():
            self.forget([row.file_id for row in rows if row.article_id == article_id])
        self.on_progress()

    def hurry(self) -> None:
        """The mount ends: the grace of all is over, and nobody reads any more, heard of or not."""
        self._readers.clear()
        for doomed in self._doomed.values():
            doomed.due = -math.inf
        self._wake.set()

    def is_owed(self, file_id: Id) -> bool:
        return file_id in self._doomed

    def links_owed(self, article_id: Id) -> list[Id]:
        """The linked files of an article that are still to be deleted."""
        return [
            file_id
            for file_id, doomed in self._doomed.items()
            if doomed.row.article_id == article_id
            and doomed.stored is not None
            and doomed.stored.file.is_link_only
        ]

    def _known(self, file_id: Id) -> Deletion | None:
        doomed = self._doomed.get(file_id)
        return doomed.row if doomed is not None else self._adopted.pop(file_id, None)

    def _doom(
        self,
        row: Deletion,
        due: float,
        stored: Stored | None = None,
        place: Key | None = None,
        name: str = "",
    ) -> None:
        self._doomed[row.file_id] = Doomed(row, due, stored, place, name)
        self._wake.set()

    # -- readers -------------------------------------------------------------

    def reading(self, file_id: Id) -> None:
        """A handle reads that stored file from now on."""
        self._readers[file_id] = self._readers.get(file_id, 0) + 1

    def reading_ended(self, file_id: Id) -> None:
        left = self._readers.get(file_id, 0) - 1
        if left > 0:
            self._readers[file_id] = left
        elif self._readers.pop(file_id, None) is not None:
            self._wake.set()

    def is_read(self, file_id: Id) -> bool:
        return file_id in self._readers

    # -- the service -------------------------------------------------------------

    async def run(self) -> None:
        """Delete what is due, until cancelled. One at a time: deletions are requests, and those are paced."""
        while True:
            self._wake = trio.Event()
            now = trio.current_time()
            ready = [
                doomed
                for file_id, doomed in self._doomed.items()
                if doomed.due <= now and not self.is_read(file_id)
            ]
            waited = [doomed.row for doomed in ready if doomed.row.state is State.WAITING]
            if waited:
                with self._journal.transaction():
                    for row in waited:
                        self._journal.advance(row, State.OWED)
            for doomed in ready:
                await self._carry_out(doomed)
            if not ready:
                next_due = min(
                    (doomed.due for doomed in self._doomed.values() if doomed.due > now), default=math.inf
                )
                with trio.move_on_at(next_due):
                    await self._wake.wait()

    async def _carry_out(self, doomed: Doomed) -> None:
        row = doomed.row
        if self._doomed.get(row.file_id) is not doomed:
            return  # adopted, or its article removed, while another one was deleted
        doomed.place = None  # from here on nobody can take it over
        try:
            await self._delete(row.article_id, row.file_id)
        except REFUSALS as exc:
            log.error("%s (file %s of article %s) was not deleted, so its name comes back: %s",
                      row.name, row.file_id, row.article_id, exc)  # fmt: skip
            self._journal.advance(row, State.PARKED, reason=str(exc))
            self._unhide(row.article_id, row.file_id)
        except RemoteError as exc:
            log.warning("file %s is not deleted yet: %s", row.file_id, exc)
            doomed.due = trio.current_time() + RETRY_PAUSE
            return
        else:
            self._tree.edited(row.article_id)
            self._tree.gone(Key(Kind.FILE, row.file_id))
            self._tree.gone(Key(Kind.LINK, row.file_id))
            self._journal.remove(row)
        if self._doomed.get(row.file_id) is doomed:
            del self._doomed[row.file_id]
        self.on_progress()

    def _hide(self, file_id: Id) -> None:
        self._tree.hide(Key(Kind.FILE, file_id))
        self._tree.hide(Key(Kind.LINK, file_id))

    def _unhide(self, article_id: Id, file_id: Id) -> None:
        self._tree.unhide(Key(Kind.FILE, file_id))
        self._tree.unhide(Key(Kind.LINK, file_id))
        article = self._tree.by_key(Key(Kind.ARTICLE, article_id))
        if isinstance(article, Container):
            self._tree.expire(article)
