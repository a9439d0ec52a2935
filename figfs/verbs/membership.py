"""The articles of a collection: which article a symlink names, and that it joins or leaves.

A collection refers to articles and owns none: nothing of an article is ever changed or deleted through it.
"""

from __future__ import annotations

import errno
import posixpath
import re
from collections.abc import Awaitable, Callable, Sequence

from figfs.errors import NotFound
from figfs.figshare import collections
from figfs.figshare.client import Client
from figfs.figshare.records import Article, Id
from figfs.namespace import identifiers, naming
from figfs.namespace.listings import Listings
from figfs.namespace.nodes import Container, Key, Kind, LinkNode, Node, member_id
from figfs.namespace.tree import Tree
from figfs.verbs.publicitems import FOUND_BY_NAME

LONGEST_CHAIN = 8  #: links to links that are followed

#: What is listed for a name on the way; all else is found in memory, or not.
_LISTED = frozenset(
    {Kind.ARTICLES, Kind.PROJECTS, Kind.PROJECT, Kind.COLLECTIONS, Kind.COLLECTION, Kind.QUERY}
)
_VERSION = re.compile(r"\.v[1-9][0-9]*\Z")

#: What is called so in a directory of ``publicitems.FOUND_BY_NAME``.
LookUp = Callable[[Container, str], Awaitable[Node]]


class Membership:
    """The collections of one mount. ``mountpoints``: what the mount point is called, told by the root."""

    def __init__(self, *, client: Client, tree: Tree, listings: Listings, look_up: LookUp) -> None:
        self._client = client
        self._tree = tree
        self._listings = listings
        self._look_up = look_up
        self.mountpoints: tuple[str, ...] = ("/",)

    async def article(self, collection: Container, target: str) -> Id:
        """The id of the article that ``target``, the text of a symlink in ``collection``, names.

        An id, or a path to an article in this mount: from the collection, or absolute. ``OSError(EINVAL)``
        for anything else. Links are not followed by the system here but by us: what they lead to is known.
        """
        number = naming.id_from_name(target)
        if isinstance(number, int):
            return number
        node: Node | None = None
        place = collection.path()
        for _ in range(LONGEST_CHAIN):
            parts = self._below(place, target)
            found = _id_in_path(parts) or self._own_with_doi(parts)
            if found is None:
                node = await self._node_at(parts, target)
                found = _id_of(node)
            if found is not None:
                return found
            if not isinstance(node, LinkNode) or node.key.kind is not Kind.REFERENCE or node.parent is None:
                break
            place, target = node.parent.path(), node.target
        raise OSError(errno.EINVAL, f"{target!r} is no article: only articles can be in a collection")

    def _below(self, place: str, target: str) -> tuple[str, ...]:
        """The names from the mount's root to what ``target`` says, seen from ``place`` (a path in here)."""
        for mountpoint in self.mountpoints:
            root = posixpath.normpath(mountpoint)
            path = posixpath.normpath(posixpath.join(root + place, target))
            if root == "/" or path.startswith(root + "/"):
                return tuple(name for name in path.removeprefix(root).split("/") if name)
        raise OSError(
            errno.EINVAL, f"{target!r} is not in this mount: a collection holds articles of Figshare"
        )

    async def _node_at(self, parts: Sequence[str], target: str) -> Node:
        node: Node = self._tree.root
        for name in parts:
            if not isinstance(node, Container) or node.kind in (Kind.ARTICLE, Kind.FOLDER):
                raise OSError(
                    errno.EINVAL, f"{target!r} is in an article: only whole articles can be members"
                )
            if node.kind in FOUND_BY_NAME:
                node = await self._public(node, name)
                continue
            if node.kind in _LISTED:
                await self._listings.ensure_listed(node, must_succeed=True)
            child = self._tree.find(node, name)
            if child is None:
                hint = (
                    ""
                    if target.startswith(("/", ".."))
                    else " (it is read from the collection: 'ln -sr' does that)"
                )
                raise OSError(errno.EINVAL, f"there is no {target!r} in this mount{hint}")
            node = child
        return node

    async def _public(self, directory: Container, name: str) -> Node:
        """Which item has a DOI, only its record tells: the number at the end may be of another repository."""
        try:
            return await self._look_up(directory, name)
        except FileNotFoundError as exc:
            raise OSError(errno.EINVAL, str(exc.strerror)) from exc

    def _own_with_doi(self, parts: Sequence[str]) -> Id | None:
        """An own article with the DOI that a path tells: a draft's leads nowhere yet."""
        if len(parts) != 4 or parts[:2] != ("public", "doi"):
            return None
        doi = identifiers.parse_doi(*parts[2:])
        if doi is None or doi.id is None:
            return None
        node = self._tree.by_key(Key(Kind.ARTICLE, doi.id))
        record = node.record if isinstance(node, Container) else None
        if not isinstance(record, Article) or identifiers.base_of(record.doi) != doi.base:
            return None
        return record.id

    def member(self, collection: Container, article_id: Id) -> LinkNode | None:
        """The link of that article in ``collection``, as far as is known."""
        node = self._tree.by_key(member_key(collection, article_id))
        return node if isinstance(node, LinkNode) and node.parent is collection else None

    async def add(self, collection: Container, article_id: Id) -> None:
        """The article joins on Figshare. A lost answer is settled by a look into the collection."""
        try:
            await collections.add_articles(self._client, collection.key.id, [article_id])
        except NotFound as exc:
            raise OSError(
                errno.EINVAL, f"Figshare shows no article {article_id}, or not to you: {exc}"
            ) from exc
        except BaseException:
            self._tree.expire(collection)  # it may have joined
            raise
        self._tree.collection_edited(collection)

    async def remove(self, collection: Container, article_id: Id) -> None:
        """It leaves; nothing of the article is touched. One that has left already is no error."""
        try:
            await collections.remove_article(self._client, collection.key.id, article_id)
        except NotFound:
            self._tree.expire(collection)
        self._tree.collection_edited(collection)
        self._tree.gone(member_key(collection, article_id))


def member_key(collection: Container, article_id: Id) -> Key:
    return Key(Kind.MEMBER, f"{collection.key.id}/{article_id}")


def _id_of(node: Node) -> Id | None:
    match node.key.kind:
        case Kind.ARTICLE:
            return node.key.id
        case Kind.PUBLIC_ARTICLE:
            return naming.id_from_name(_VERSION.sub("", str(node.key.id)))
        case Kind.MEMBER | Kind.RESULT:
            return member_id(node.key)
    return None


def _id_in_path(parts: Sequence[str]) -> Id | None:
    """The id that a path below public/ tells by itself. A collection refers to articles, not to versions."""
    match parts:
        case ("public", "articles", name):
            return naming.id_from_name(_VERSION.sub("", name))
    return None
