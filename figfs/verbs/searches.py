"""``search/``: a directory made there is a query, what is in it are links to what the query finds.

Figshare is asked at once, for the person who types a query must hear of its refusal, and again when the
directory is opened after ``dir_timeout``. Queries survive a remount; what they have found does not.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Callable

from figfs.namespace.listings import Listings
from figfs.namespace.nodes import Container, Key, Kind
from figfs.namespace.tree import Tree
from figfs.writing import tempnames

NAME = "search"


class Searches:
    """The queries of one mount. ``now_ns``: wall clock, for their dates."""

    def __init__(self, *, tree: Tree, listings: Listings, now_ns: Callable[[], int]) -> None:
        self._tree = tree
        self._listings = listings
        self._now_ns = now_ns
        directory = tree.container_for(Key(Kind.SEARCHES, 0))
        directory.status.listed_at = math.inf  # what is in it, is known here only
        if tree.inside:  # one searches from the mount itself
            return
        tree.place(directory, tree.root, NAME)
        for text in tree.attributes.made(Kind.QUERY):
            tree.place(tree.container_for(Key(Kind.QUERY, text)), directory, text)

    async def make(self, directory: Container, name: str) -> Container:
        """A new query, with what it finds now. Raises Figshare's refusal; nothing is there then."""
        if tempnames.classify_directory(name).kind is not tempnames.Kind.ORDINARY:
            raise OSError(errno.EPERM, f"{name!r} is no query")
        if name in directory.children:
            raise OSError(errno.EEXIST, f"{name!r} exists")
        node = self._tree.container_for(Key(Kind.QUERY, name))
        try:
            await self._listings.show_new(node, directory, name)
        except BaseException:
            self._tree.detach(node)
            raise
        node.made, node.mtime_ns = True, self._now_ns()
        self._tree.save(node)
        return node

    def forget(self, query: Container) -> None:
        """The query goes, with its links, and nothing else."""
        self._tree.gone(query.key)
        self._tree.detach(query)


def check_outside(container: Container) -> None:
    """``OSError(EROFS)`` in search/: nothing but queries is made there, and nothing in them is changed."""
    if container.kind in (Kind.SEARCHES, Kind.QUERY):
        raise OSError(
            errno.EROFS, "search/ holds queries, and what they find: mkdir and rmdir are all one can do"
        )
