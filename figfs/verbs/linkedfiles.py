"""Linked files: Figshare keeps a URL, and no bytes. Made, replaced and moved while the program waits.

Figshare takes a linked file into an article without any other file only (quirks U19), and changes none. So to
replace one is to delete it and to make another, in this order; where the second step fails, the old one is
put back.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Collection

import trio

from figfs.content.deletions import Deletions
from figfs.errors import FigfsError, TooSlow, UnknownOutcome
from figfs.figshare import files, items
from figfs.figshare.client import Client
from figfs.figshare.records import File, Id
from figfs.namespace import naming
from figfs.namespace.nodes import Container, FileNode, Key, Kind, LinkNode, Stored
from figfs.namespace.sources import LINK_SCHEMES
from figfs.namespace.tree import Tree

log = logging.getLogger(__name__)

LONGEST_URL = 2000  #: characters: browsers and proxies take no more
REPLACING = 25.0  #: seconds for a replacement, which is not stopped half way by a deadline


class LinkedFiles:
    """Of one mount."""

    def __init__(self, *, client: Client, tree: Tree, deletions: Deletions) -> None:
        self._client = client
        self._tree = tree
        self._deletions = deletions

    @staticmethod
    def check(url: str) -> None:
        """``OSError(EINVAL)`` for what is no URL that a linked file may have."""
        if not url.lower().startswith(LINK_SCHEMES) or not url.partition("://")[2].strip("/"):
            raise OSError(errno.EINVAL, f"{url!r}: a link in an article leads to an http, https or ftp URL")
        if not url.isprintable() or " " in url:
            raise OSError(errno.EINVAL, f"{url!r} has white space or control characters in it")
        if len(url) > LONGEST_URL:
            raise OSError(errno.EINVAL, f"a URL of more than {LONGEST_URL} characters")

    async def make(self, place: Container, name: str, url: str) -> Stored:
        """A linked file called ``name`` in the article or folder ``place``.

        Figshare's refusals, and ``OSError(EINVAL)`` while other files of the article are on their way there.
        """
        article = place.lister
        if any(isinstance(node, FileNode) and node.local_size for node in article.descendants()):
            raise OSError(
                errno.EINVAL, "a linked file must be alone in its article; other files are on their way"
            )
        await self._finish_deletions(article.key.id)
        known = {
            node.stored.file.id
            for node in article.descendants()
            if isinstance(node, LinkNode) and node.stored is not None
        }
        stored = await self._make(article.key.id, naming.join_folder_path(place.folder), name, url, known)
        self._tree.edited(article.key.id)
        return stored

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
        """``url``, called ``name``, instead of ``old``, which is in the same article."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + REPLACING):
            await self.delete(old)
            try:
                return await self.make(place, name, url)
            except (FigfsError, OSError) as exc:
                log.warning("%s: %s; the old link is put back", name, exc)
                await self._put_back(old)
                raise
        log.error("%s, a link to %s, may be gone: no answer in time", old.file.name, old.file.download_url)
        raise TooSlow(f"no answer while the link {name} was replaced")

    async def _put_back(self, old: Stored) -> None:
        try:
            await self._make(old.article_id, old.folder, old.file.name, old.file.download_url)
        except FigfsError as exc:
            log.error("the link %s to %s is gone: %s", old.file.name, old.file.download_url, exc)
        article = self._tree.by_key(Key(Kind.ARTICLE, old.article_id))
        if isinstance(article, Container):
            self._tree.expire(article)  # it has another id now

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
