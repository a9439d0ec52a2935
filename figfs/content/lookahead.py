"""Reading ahead among siblings: small files read, or directories opened, one after the other.

``reading/siblings.py`` decides; this module tells it what programs do in a directory, and carries out what it
says: contents into the cache, listings into the tree. Of everything found in the prototypes it is the largest
factor where every request takes its time: 10 to 17 at 50 ms (performance.md §3).
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

from figfs.content.storedfiles import StoredFiles
from figfs.namespace.listings import Listings
from figfs.namespace.nodes import Container, FileNode, Node
from figfs.reading.readahead import Limits
from figfs.reading.siblings import Walk

LARGE = 1 << 62  #: the cost of what is never fetched ahead


class Lookahead:
    """The walks of one mount, one for each directory in which files are read or directories opened."""

    def __init__(self, *, stored_files: StoredFiles, listings: Listings, enabled: bool) -> None:
        self._stored_files = stored_files
        self._listings = listings
        self._enabled = enabled
        self._limits = Limits()
        self._files: WeakKeyDictionary[Container, tuple[object, Walk[Node]]] = WeakKeyDictionary()
        self._directories: WeakKeyDictionary[Container, tuple[object, Walk[Node]]] = WeakKeyDictionary()

    def reads(self, node: FileNode, size: int) -> None:
        """``size`` bytes from the start of a stored file are read. No await."""
        # A sniffer (file managers: 4 to 32 KiB) wants no more of the next file either.
        if not self._enabled or node.parent is None or not (size > self._limits.sniff or size >= node.size):
            return
        if node.size > self._limits.small_file:
            return
        for other in self._walk(self._files, node.parent, _cost_of_file).used(node):
            if isinstance(other, FileNode) and other.stored is not None:
                self._stored_files.prefetch(other.stored.file)

    def opens(self, container: Container) -> None:
        """A directory is opened. No await."""
        if self._enabled and container.parent is not None:
            for other in self._walk(self._directories, container.parent, _cost_of_directory).used(container):
                if isinstance(other, Container):
                    self._listings.prefetch(other)

    @staticmethod
    def _walk(
        walks: WeakKeyDictionary[Container, tuple[object, Walk[Node]]],
        container: Container,
        cost: Callable[[Node], int],
    ) -> Walk[Node]:
        """The walk through ``container``, as it is listed now."""
        listed = (container.lister.status.listed_at, len(container.children))
        known = walks.get(container)
        if known is None or known[0] != listed:
            children = [child for child in container.children.values() if cost(child) < LARGE]
            by_name = sorted(children, key=lambda child: child.name)
            known = walks[container] = (listed, Walk([children, by_name], cost=cost))
        return known[1]


def _cost_of_file(node: Node) -> int:
    if isinstance(node, FileNode) and node.stored is not None and node.local_size is None:
        return node.size
    return LARGE


def _cost_of_directory(node: Node) -> int:
    return 1 if isinstance(node, Container) else LARGE
