"""``public/``: any public item, found by its id or its DOI when somebody looks for it, and listed by nobody.

An item is asked for once; what is not there, or cannot be, is remembered for a while, so that the probes of
file managers cost nothing. What the kernel has forgotten is kept only as far as ``MOST_KEPT``.
"""

from __future__ import annotations

import errno
import itertools
import logging
import math
from collections import OrderedDict

import cachetools
import trio

from figfs.errors import NotFound
from figfs.figshare import public
from figfs.figshare.client import Client
from figfs.figshare.records import Article, ArticleDetails, Collection
from figfs.namespace import identifiers, standing
from figfs.namespace.identifiers import Doi
from figfs.namespace.keeping import Keeping
from figfs.namespace.listings import Listings
from figfs.namespace.nodes import Container, Key, Kind, LinkNode, Node
from figfs.namespace.tree import Tree
from figfs.terminal import visible

log = logging.getLogger(__name__)

MOST_KEPT = 512  #: items, DOIs and prefixes that are kept though the kernel does not hold them
MOST_ABSENT = 4096  #: names that are remembered not to be there
ABSENT_SECONDS = 60.0  #: for at most so long

#: Directories whose children are found by name.
FOUND_BY_NAME = frozenset(
    {Kind.PUBLIC_ARTICLES, Kind.PUBLIC_PROJECTS, Kind.PUBLIC_COLLECTIONS, Kind.DOIS, Kind.DOI_PREFIX}
)

_ITEMS = {
    Kind.PUBLIC_ARTICLES: Kind.PUBLIC_ARTICLE,
    Kind.PUBLIC_PROJECTS: Kind.PUBLIC_PROJECT,
    Kind.PUBLIC_COLLECTIONS: Kind.PUBLIC_COLLECTION,
}


class PublicItems:
    """Those of one mount. ``dir_timeout``: seconds for which what was found, or not, is taken as fresh.
    ``keeping``: what is on disk of them, or None.
    """

    def __init__(
        self,
        *,
        client: Client,
        tree: Tree,
        listings: Listings,
        dir_timeout: float,
        keeping: Keeping | None = None,
    ) -> None:
        self._client = client.without_token()
        self._keeping = keeping
        self._tree = tree
        self._listings = listings
        self._absent: cachetools.TTLCache[tuple[int, str], str] = cachetools.TTLCache(
            MOST_ABSENT, min(ABSENT_SECONDS, dir_timeout), timer=trio.current_time
        )
        self._kept: OrderedDict[Node, None] = OrderedDict()  # least recently used first

    async def look_up(self, parent: Container, name: str) -> Node:
        """What is called ``name`` in a directory of ``FOUND_BY_NAME``.

        ``OSError(ENOENT)`` if there is no such public item; else what the request for it raises.
        """
        if parent.kind is Kind.DOIS:
            return self._prefix(parent, name)
        if parent.kind is Kind.DOI_PREFIX:
            return await self._reference(parent, name)
        return await self._item(parent, name)

    # -- items ------------------------------------------------------------

    async def _item(self, parent: Container, name: str) -> Container:
        node = parent.unlisted.get(name)
        if node is None:
            reference = identifiers.parse_reference(name)
            versioned = reference is not None and reference.version is not None
            if reference is None or (versioned and parent is not self._tree.public_articles):
                raise OSError(errno.ENOENT, f"{name!r} is no id")
            self._raise_if_absent(parent, name)
            kind = _ITEMS[parent.kind]
            key = Key(kind, name if kind is Kind.PUBLIC_ARTICLE else reference.id)
            node = self._tree.make(key)
            self._tree.place_unlisted(node, parent, name)
        assert isinstance(node, Container)
        self._use(node)
        first = node.status.listed_at is None
        try:
            await self._listings.ensure_listed(node, stale_is_fine=True)
        except NotFound:
            what = f"{node.kind.name.lower().replace('_', ' ')} {name}"
            reason = f"no {what}: it is not there, withdrawn, under an embargo, or was never published"
            raise self._not_there(parent, name, reason, level=logging.INFO) from None
        if first and isinstance(node.record, ArticleDetails) and standing.hides_files(node.record):
            log.info("%s: its files are not public: %s", node.path(), standing.status_of(node.record))
        return node

    # -- DOIs ------------------------------------------------------------

    def _prefix(self, parent: Container, name: str) -> Container:
        node = parent.unlisted.get(name)
        if node is None:
            if not identifiers.is_doi_prefix(name):
                raise OSError(errno.ENOENT, f"{name!r} is no prefix of DOIs")
            node = self._tree.make(Key(Kind.DOI_PREFIX, name))
            self._tree.place_unlisted(node, parent, name)
        assert isinstance(node, Container)
        node.status.listed_at = math.inf
        self._use(node)
        return node

    async def _reference(self, parent: Container, name: str) -> Node:
        """The link that stands for a DOI."""
        node = parent.unlisted.get(name)
        if node is None:
            doi = identifiers.parse_doi(parent.name, name)
            if doi is None:
                raise OSError(errno.ENOENT, f"{name!r} is no DOI")
            self._raise_if_absent(parent, name)
            target = await self._find(doi)
            if target is None:
                reason = f"no public item of {self._client.api} has the DOI {doi.text}"
                raise self._not_there(parent, name, reason, level=logging.WARNING)
            # No await from here on.
            node = parent.unlisted.get(name)  # two may have asked at once
            if node is None:
                node = self._tree.make(Key(Kind.REFERENCE, f"doi/{parent.name}/{name}"))
                assert isinstance(node, LinkNode)
                node.target = f"../../{target}"
                self._tree.place_unlisted(node, parent, name)
        self._use(node)
        return node

    async def _find(self, doi: Doi) -> str | None:
        """Where in ``public/`` the item with this DOI is: one that is kept, one whose id is guessed, or what
        Figshare finds. The record decides.
        """
        for key in self._keeping.with_doi(doi.base) if self._keeping is not None else ():
            collection = key.kind is Kind.PUBLIC_COLLECTION
            reference = identifiers.parse_reference(str(key.id))
            if reference is not None and await self._has(doi, reference.id, collection=collection):
                return _place(doi, reference.id, collection=collection)
        if doi.id is not None and await self._has(doi, doi.id, collection=doi.is_collection):
            return _place(doi, doi.id, collection=doi.is_collection)
        for asked in dict.fromkeys((doi.text, doi.base)):
            found: list[Article] | list[Collection]
            for collection in (False, True):
                if collection:
                    found = await public.collections_with_doi(self._client, asked)
                else:
                    found = await public.articles_with_doi(self._client, asked)
                for record in found:
                    if identifiers.base_of(record.doi) == doi.base and await self._has(
                        doi, record.id, collection=collection
                    ):
                        return _place(doi, record.id, collection=collection)
        return None

    async def _has(self, doi: Doi, item_id: object, *, collection: bool) -> bool:
        """Whether the item with that id is public and says that this is its DOI."""
        parent = self._tree.public_collections if collection else self._tree.public_articles
        try:
            item = await self._item(parent, _name(doi, item_id, collection=collection))
        except OSError as exc:
            if exc.errno != errno.ENOENT:
                raise
            return False
        return identifiers.base_of(getattr(item.record, "doi", "")) == doi.base

    # -- what is remembered ------------------------------------------------------------

    def _not_there(self, parent: Container, name: str, reason: str, *, level: int) -> OSError:
        self._absent[parent.inode, name] = reason
        log.log(level, "%s", visible(reason))
        return OSError(errno.ENOENT, reason)

    def _raise_if_absent(self, parent: Container, name: str) -> None:
        reason = self._absent.get((parent.inode, name))
        if reason is not None:
            raise OSError(errno.ENOENT, reason)

    def _use(self, node: Node) -> None:
        """``node`` is in use now; of what nobody uses any more, the oldest goes. No await."""
        self._kept[node] = None
        self._kept.move_to_end(node)
        excess = len(self._kept) - MOST_KEPT
        if excess <= 0:
            return
        for old in list(itertools.islice(self._kept, 2 * excess)):
            if old.parent is None:
                del self._kept[old]
            elif _is_held(old) or _is_loading(old):
                self._kept.move_to_end(old)
            elif old is not node:
                del self._kept[old]
                self._tree.detach(old)


def _name(doi: Doi, item_id: object, *, collection: bool) -> str:
    """Figshare tells no articles of a collection's version: its DOI, too, leads to the latest."""
    if collection or doi.version is None:
        return str(item_id)
    return f"{item_id}.v{doi.version}"


def _place(doi: Doi, item_id: object, *, collection: bool) -> str:
    return f"{'collections' if collection else 'articles'}/{_name(doi, item_id, collection=collection)}"


def _is_held(node: Node) -> bool:
    """Whether the kernel holds it, or anything in it."""
    if node.lookups:
        return True
    if not isinstance(node, Container):
        return False
    return any(_is_held(child) for child in (*node.children.values(), *node.unlisted.values()))


def _is_loading(node: Node) -> bool:
    if not isinstance(node, Container):
        return False
    return node.status.listed_at is None and node.status.failed_at is None
