"""Linked files: Figshare keeps a URL, and no bytes. Made, replaced and moved while the program waits.

Figshare takes a linked file into an article without any other file only (quirks U19), and changes none. So to
replace one is to delete it and to make another, in this order. What can be refused here is refused before
that, and the old one has a row in the journal until the other one is there: whatever comes between, also a
crash, it is put back.
"""

from __future__ import annotations

import errno
import logging
import math
from collections.abc import Collection

import trio

from figfs.content.deletions import Deletions
from figfs.errors import REFUSALS, FigfsError, NotFound, TooSlow, UnknownOutcome
from figfs.figshare import files, items
from figfs.figshare.client import Client
from figfs.figshare.records import File, Id
from figfs.namespace import naming
from figfs.namespace.nodes import Container, FileNode, Key, Kind, LinkNode, Stored
from figfs.namespace.sources import LINK_SCHEMES
from figfs.namespace.tree import Tree
from figfs.writing.journal import Deletion, Journal, State

log = logging.getLogger(__name__)

LONGEST_URL = 2000  #: characters: browsers and proxies take no more
REPLACING = 20.0  #: seconds for a replacement, which is not stopped half way by a deadline
PUTTING_BACK = 10.0  #: seconds for which its program waits until the old one is there again
RETRY_PAUSE = 10.0  #: seconds until a link that could not be put back is tried again


class LinkedFiles:
    """Of one mount."""

    def __init__(self, *, client: Client, tree: Tree, deletions: Deletions, journal: Journal) -> None:
        self._client = client
        self._tree = tree
        self._deletions = deletions
        self._journal = journal
        self._removed: dict[int, Deletion] = {}  #: to be put back, by the numbers of their rows
        self._ended: dict[int, trio.Event] = {}
        self._wake = trio.Event()

    @staticmethod
    def check(url: str) -> None:
        """``OSError(EINVAL)`` for what is no URL that a linked file may have."""
        if not url.lower().startswith(LINK_SCHEMES) or not url.partition("://")[2].strip("/"):
            raise OSError(errno.EINVAL, f"{url!r}: a link in an article leads to an http, https or ftp URL")
        if not url.isprintable() or " " in url:
            raise OSError(errno.EINVAL, f"{url!r} has white space or control characters in it")
        if not {".", ".."}.isdisjoint(url.split("/")):
            raise OSError(errno.EINVAL, f"{url!r} has '.' or '..' in it, which the system would follow")
        if len(url) > LONGEST_URL:
            raise OSError(errno.EINVAL, f"a URL of more than {LONGEST_URL} characters")

    async def make(self, place: Container, name: str, url: str) -> Stored:
        """A linked file called ``name`` in the article or folder ``place``.

        Figshare's refusals, and ``OSError(EINVAL)`` while other files of the article are on their way there.
        """
        article = place.lister
        await self._make_room(article)
        known = {
            node.stored.file.id
            for node in article.descendants()
            if isinstance(node, LinkNode) and node.stored is not None
        }
        stored = await self._make(article.key.id, naming.join_folder_path(place.folder), name, url, known)
        self._tree.edited(article.key.id)
        return stored

    async def _make_room(self, article: Container) -> None:
        if any(isinstance(node, FileNode) and node.local_size for node in article.descendants()):
            raise OSError(
                errno.EINVAL, "a linked file must be alone in its article; other files are on their way"
            )
        await self._finish_deletions(article.key.id)

    async def _make(
        self, article_id: Id, folder: str, name: str, url: str, known: Collection[Id] = ()
    ) -> Stored:
        """If the answer is lost, a link to ``url`` that is none of the ``known`` ones is it."""

        async def look() -> Stored | None:
            for file in await files.list_files(self._client, article_id):
                if file.is_link_only and file.download_url == url and file.id not in known:
                    return Stored(file, article_id, folder)
            return None

        try:
            new = await files.initiate_link(self._client, article_id, url, name=name, folder_path=folder)
        except UnknownOutcome as lost:
            return await items.found_after(lost, look)
        return Stored(File(id=new, name=name, is_link_only=True, download_url=url), article_id, folder)

    async def replace(self, old: Stored, place: Container, name: str, url: str) -> Stored:
        """``url``, called ``name``, instead of ``old``, which is in the same article.

        Nothing is lost between: ``old`` is put back where that fails, now or once Figshare answers.
        """
        await self._make_room(place.lister)
        row = self._journal.add_deletion(
            Deletion(
                row=0,
                article_id=old.article_id,
                file_id=old.file.id,
                name=old.file.name,
                folder=old.folder,
                url=old.file.download_url,
            )
        )
        problem: Exception = TooSlow(f"no answer while the link {name} was replaced")
        with trio.CancelScope(shield=True, deadline=trio.current_time() + REPLACING):
            try:
                await self.delete(old)
                stored = await self.make(place, name, url)
            except (FigfsError, OSError) as exc:
                problem = exc
            else:
                self._journal.remove(row)
                return stored
        log.warning("%s: %s; the old link is put back", name, problem)
        self._put_back(row)
        with trio.CancelScope(shield=True, deadline=trio.current_time() + PUTTING_BACK):
            await self._ended[row.row].wait()
        raise problem

    async def delete(self, stored: Stored) -> None:
        """Delete a linked file, now."""
        await files.delete_file(self._client, stored.article_id, stored.file.id)
        self._tree.gone(stored.key)
        self._tree.edited(stored.article_id)

    async def _finish_deletions(self, article_id: Id) -> None:
        """What was unlinked just now is to be gone: as long as it is there, Figshare takes no other file."""
        for file_id in self._deletions.links_owed(article_id):
            await files.delete_file(self._client, article_id, file_id)
            self._tree.gone(Key(Kind.LINK, file_id))
            self._deletions.forget([file_id])
        self._deletions.on_progress()

    # -- what made room, and is to be put back ------------------------------------------------------------

    def owed(self) -> int:
        """How many links are to be put back."""
        return len(self._removed)

    def take_up(self, row: Deletion) -> None:
        """A parked one is to be tried again, at once."""
        self._journal.advance(row, State.OWED)
        self._put_back(row)

    def _put_back(self, row: Deletion) -> None:
        node = self._tree.by_key(Key(Kind.LINK, row.file_id))
        if node is not None:
            node.changed_at = -math.inf  # listings tell from now on
        self._removed[row.row] = row
        self._ended[row.row] = trio.Event()
        self._wake.set()

    async def run(self) -> None:
        """Put back what is to be, that of an earlier mount first, until cancelled."""
        for row in self._journal.deletions():
            if row.url and row.state is State.PARKED:
                log.warning("parked: the link %s of article %s (%s)", row.name, row.article_id, row.reason)
            elif row.url:
                self._put_back(row)
        while True:
            self._wake = trio.Event()
            for row in list(self._removed.values()):
                await self._try_to_put_back(row)
            with trio.move_on_after(RETRY_PAUSE if self._removed else math.inf):
                await self._wake.wait()

    async def _try_to_put_back(self, row: Deletion) -> None:
        try:
            await self._restore(row)
        except NotFound:
            log.info("article %s is gone, and so is the link %s", row.article_id, row.name)
            self._journal.remove(row)
        except (*REFUSALS, OSError) as exc:
            log.error("the link %s to %s is not put back: %s", row.name, row.url, exc)
            self._journal.advance(row, State.PARKED, reason=f"it led to {row.url}, and is gone: {exc}")
        except FigfsError as exc:
            log.warning("the link %s to %s is not put back yet: %s", row.name, row.url, exc)
            return
        else:
            self._journal.remove(row)
        del self._removed[row.row]
        self._ended.pop(row.row).set()
        article = self._tree.by_key(Key(Kind.ARTICLE, row.article_id))
        if isinstance(article, Container):
            self._tree.expire(article)  # it has another id now
        self._deletions.on_progress()

    async def _restore(self, row: Deletion) -> None:
        """Figshare has the link again, or the one that it made room for. ``OSError`` if there is no room."""
        there = await files.list_files(self._client, row.article_id)
        if any(file.is_link_only for file in there):
            return
        if there:
            raise OSError(errno.EEXIST, f"there is another file in its article, {there[0].name!r}")
        await self._make(row.article_id, row.folder, row.name, row.url)
        self._tree.edited(row.article_id)
