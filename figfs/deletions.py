"""Stored files that are to be deleted on Figshare: after a grace, and not while somebody reads them.

An unlink here is local and instant (the kernel holds the directory's lock, and editors take unlinks back);
Figshare hears of it ``grace`` seconds later. Within them a new file of that name *adopts* the old one: that
is one replacement, and the old one goes only when the new one has been verified.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Awaitable, Callable

import trio

from figfs.errors import REFUSALS, RemoteError
from figfs.figshare.records import Id
from figfs.namespace.nodes import Container, Key, Kind, Stored
from figfs.namespace.tree import Tree

log = logging.getLogger(__name__)

RETRY_PAUSE = 5.0  #: seconds until a deletion that met trouble on the way is tried again


@dataclasses.dataclass(slots=True)
class Doomed:
    """One deletion. ``due`` is Trio's clock; ``place`` and ``name`` are where it can be taken over."""

    article_id: Id
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
        delete: Callable[[Id, Id], Awaitable[None]],
        grace: float,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._tree = tree
        self._delete = delete
        self._grace = grace
        self.on_progress = on_progress
        self._doomed: dict[Id, Doomed] = {}
        self._readers: dict[Id, int] = {}
        self._wake = trio.Event()

    def __len__(self) -> int:
        return len(self._doomed)

    def add(self, file_id: Id, article_id: Id) -> None:
        """Delete what has been replaced, as soon as nobody reads it. The caller has hidden its name."""
        self._doomed[file_id] = Doomed(article_id, trio.current_time())
        self._wake.set()

    def unlinked(self, stored: Stored, place: Key, name: str) -> None:
        """Delete, after the grace, what was called ``name`` in the article or folder ``place``."""
        grace = self._grace
        if stored.file.is_link_only:
            grace = 0.0  # as long as the link is there, Figshare takes no file into the article (quirks U19)
        due = trio.current_time() + grace
        self._doomed[stored.file.id] = Doomed(stored.article_id, due, stored, place, name)
        self._wake.set()

    def adopt(self, place: Key, name: str) -> list[Stored]:
        """Take over what was unlinked there within its grace. It is not deleted from here any more."""
        taken = [
            doomed.stored
            for doomed in self._doomed.values()
            if doomed.stored is not None
            and not doomed.stored.file.is_link_only
            and doomed.place == place
            and doomed.name == name
        ]
        for stored in taken:
            del self._doomed[stored.file.id]
        return taken

    def article_removed(self, article_id: Id) -> None:
        """The article is gone, and its files with it."""
        for file_id, doomed in list(self._doomed.items()):
            if doomed.article_id == article_id:
                del self._doomed[file_id]
        self.on_progress()

    def hurry(self) -> None:
        """The mount ends: the grace of all is over, and nobody reads any more, heard of or not."""
        self._readers.clear()
        for doomed in self._doomed.values():
            doomed.due = -math.inf
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
                file_id
                for file_id, doomed in self._doomed.items()
                if doomed.due <= now and not self.is_read(file_id)
            ]
            for file_id in ready:
                await self._carry_out(file_id)
            if not ready:
                next_due = min(
                    (doomed.due for doomed in self._doomed.values() if doomed.due > now), default=math.inf
                )
                with trio.move_on_at(next_due):
                    await self._wake.wait()

    async def _carry_out(self, file_id: Id) -> None:
        doomed = self._doomed.get(file_id)
        if doomed is None:
            return  # adopted, or its article removed, while another one was deleted
        doomed.place = None  # from here on nobody can take it over
        try:
            await self._delete(doomed.article_id, file_id)
        except REFUSALS as exc:
            log.error(
                "file %s of article %s was not deleted, so its name comes back: %s",
                file_id,
                doomed.article_id,
                exc,
            )
            self._unhide(doomed.article_id, file_id)
        except RemoteError as exc:
            log.warning("file %s is not deleted yet: %s", file_id, exc)
            doomed.due = trio.current_time() + RETRY_PAUSE
            return
        else:
            self._tree.gone(Key(Kind.FILE, file_id))
            self._tree.gone(Key(Kind.LINK, file_id))
        self._doomed.pop(file_id, None)
        self.on_progress()

    def _unhide(self, article_id: Id, file_id: Id) -> None:
        self._tree.unhide(Key(Kind.FILE, file_id))
        self._tree.unhide(Key(Kind.LINK, file_id))
        article = self._tree.by_key(Key(Kind.ARTICLE, article_id))
        if isinstance(article, Container):
            self._tree.expire(article)
