"""The files of an article as its directory shows them, for ``md5sums`` and the RO-Crate."""

from __future__ import annotations

from collections.abc import Iterator

from figfs.documents.checksums import ShownFile
from figfs.documents.entries import Item
from figfs.namespace.identifiers import Reference
from figfs.namespace.listings import Listings
from figfs.namespace.nodes import Container, FileNode, Key, Kind, LinkNode
from figfs.namespace.tree import Tree


async def shown_files(tree: Tree, listings: Listings, item: Item) -> list[ShownFile] | None:
    """What Figshare has of the article's files, by the names they have here; files with other content here
    than there are left out. None for what is no article of this tree.
    """
    key = Key(Kind.ARTICLE, item.id)
    if item.public:
        key = Key(Kind.PUBLIC_ARTICLE, str(Reference(item.id, item.version)))
    article = tree.by_key(key)
    if not isinstance(article, Container) or article.parent is None:
        return None
    await listings.ensure_listed(article)
    return sorted(_stored(article, ""), key=lambda shown: shown.path)


def _stored(directory: Container, prefix: str) -> Iterator[ShownFile]:
    for name, child in directory.children.items():
        if isinstance(child, Container):
            yield from _stored(child, f"{prefix}{name}/")
        elif isinstance(child, LinkNode | FileNode) and child.stored is not None and not _is_written(child):
            yield ShownFile(f"{prefix}{name}", child.stored.file)


def _is_written(node: LinkNode | FileNode) -> bool:
    return isinstance(node, FileNode) and node.local_size is not None
