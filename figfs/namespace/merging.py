"""From a listing to what a directory shows.

A node that is still there keeps its inode number. What this machine has decided about a name since the
request began is kept (``Node.changed_at``), and so are files that only this machine has. No checkpoint: no
task sees a half-merged directory.
"""

from __future__ import annotations

import math
import re
from urllib.parse import quote

from figfs.figshare.records import Account, Article, ArticleDetails, Collection, File, Id, Project
from figfs.namespace import naming
from figfs.namespace.nodes import (
    ARTICLE_KINDS,
    Container,
    FileNode,
    Key,
    Kind,
    LinkNode,
    Node,
    Stored,
    empty_file_key,
    folder_key,
)
from figfs.namespace.sources import Contents, Entry
from figfs.namespace.tree import Tree

_STEPS = re.compile(r"(?<![^/])\.\.?(?![^/])")  # "." and ".." as parts of a path


def merge(tree: Tree, lister: Container, contents: Contents, started: float) -> None:
    """Make ``lister`` show ``contents``, the answer to a request that began at ``started``."""
    if contents.details is not None:
        lister.record = contents.details
    elif contents.record is not None:
        lister.record = contents.record
    lister.unshown = contents.unshown
    if contents.time:
        lister.remote_time_ns = int(contents.time * 1_000_000_000)
    entries = [entry for entry in contents.entries if not tree.is_hidden(entry.key, started)]
    emptied = tree.attributes.emptied_files(lister.key.id) if lister.kind is Kind.ARTICLE else {}
    by_folder: dict[tuple[str, ...], list[Entry]] = {(): []}
    for entry in entries:
        node = tree.by_key(entry.key)
        if node is not None and _is_placed_here(node, started):
            _update(tree, node, entry, named_here=True)  # it has its place by what was done here
        elif entry.key in emptied and _empty(tree, lister, entry, emptied[entry.key]):
            continue
        else:
            by_folder.setdefault(entry.folder, []).append(entry)
    if lister.kind is Kind.ARTICLE:
        for path in tree.attributes.folders_made(lister.key.id):
            by_folder.setdefault(naming.split_folder_path(path), [])
    present = {entry.key for entry in entries}
    places = {
        folder: folder_of(tree, lister, folder)
        for folder in sorted(by_folder, key=lambda path: (len(path), path))
    }
    _remove_missing(tree, lister, present, set(places), started)
    for folder, group in by_folder.items():
        _merge_directory(tree, places[folder], group)
    if lister.kind is Kind.ARTICLE:
        _add_empty_files(tree, lister)
    elif lister.kind is Kind.QUERY:
        _rank(lister, entries)


def _rank(query: Container, entries: list[Entry]) -> None:
    """In the order in which Figshare ranks what it has found."""
    rank = {entry.key: number for number, entry in enumerate(entries)}
    ranked = sorted(query.children.items(), key=lambda child: rank.get(child[1].key, len(rank)))
    query.children.clear()
    query.children.update(ranked)


def _add_empty_files(tree: Tree, article: Container) -> None:
    """Files that have no content yet are here only. A file of that name that Figshare has by now takes their
    place.
    """
    for path in tree.attributes.empty_files(article.key.id):
        *folder, name = path.split("/")
        key = empty_file_key(article.key.id, path)
        place = folder_of(tree, article, tuple(folder))
        covered = tree.attributes.covered(key)
        emptied = tree.by_key(Key(Kind.FILE, covered)) if covered is not None else None
        if isinstance(emptied, FileNode) and emptied.emptied_as == key:
            continue
        if name in place.children:
            if tree.by_key(key) is None:
                tree.forget_saved(key)
            continue
        node = tree.make(key)
        assert isinstance(node, FileNode)
        node.local_size = 0
        node.changed_at = math.inf
        tree.place(node, place, name)


def _empty(tree: Tree, article: Container, entry: Entry, key: Key) -> bool:
    """Show a file that Figshare has with content, and that was emptied here before this mount, as ``key``:
    empty, by its name here. False if that name is something else's by now.
    """
    *folder, name = str(key.id).partition("/")[2].split("/")
    place = folder_of(tree, article, tuple(folder))
    node = tree.by_key(entry.key) or tree.make(entry.key)
    if not isinstance(node, FileNode) or place.children.get(name) not in (None, node):
        return False
    assert isinstance(entry.record, File)
    node.stored = Stored(entry.record, article.key.id, naming.join_folder_path(entry.folder))
    node.local_size, node.emptied_as, node.changed_at = 0, key, math.inf
    tree.place(node, place, name)
    return True


def folder_of(tree: Tree, article: Container, folder: tuple[str, ...]) -> Container:
    """The folder's node, made with all above it where missing. A file in the way gets out of it in the
    merge.
    """
    place = article
    for depth, name in enumerate(folder, 1):
        child = place.children.get(name)
        if not isinstance(child, Container):
            key = folder_key(article.key, "/".join(folder[:depth]))
            if child is not None:
                spare = naming.assign_names([(child.key.id, name)], extension=True, taken=set(place.children))
                tree.place(child, place, spare[child.key.id])
            existing = tree.by_key(key)
            child = existing if isinstance(existing, Container) else tree.container_for(key)
            child.remote_time_ns = article.remote_time_ns
            tree.place(child, place, name)
        place = child
    return place


def _remove_missing(
    tree: Tree, lister: Container, present: set[Key], folders: set[tuple[str, ...]], started: float
) -> None:
    """Detach what Figshare no longer has, except what this machine has changed, holds alone or has just
    made.
    """
    needed = {folder[:depth] for folder in folders for depth in range(len(folder) + 1)}
    for node in reversed(
        list(lister.descendants()) if lister.kind in ARTICLE_KINDS else list(lister.children.values())
    ):
        if isinstance(node, Container) and node.kind is Kind.FOLDER:
            if not (node.made or node.children or node.folder in needed):
                tree.detach(node, vanished=True)
        elif node.key not in present and not _is_local(node, started):
            if lister.kind in (Kind.PROJECTS, Kind.PROJECT):
                tree.expire(tree.articles)  # there is the place of an article that is in no project any more
            tree.detach(node, vanished=True)


def _is_placed_here(node: Node, started: float) -> bool:
    """Whether this machine knows better what ``node`` is called.

    What is written in an article changes nothing of the article's name.
    """
    return _is_local(node, started) if isinstance(node, FileNode) else node.changed_at > started


def _is_local(node: Node, started: float) -> bool:
    """Whether this machine knows better than a listing that began at ``started``."""
    if node.changed_at > started:
        return True
    if isinstance(node, Container):  # an article whose files are being written must not go while they are
        return any(_is_local(child, started) for child in node.descendants() if isinstance(child, FileNode))
    return isinstance(node, FileNode) and node.local_size is not None


def _merge_directory(tree: Tree, place: Container, remote: list[Entry]) -> None:
    arriving = {entry.key for entry in remote}
    names = naming.assign_names(
        [(entry.record.id, entry.base) for entry in remote],
        extension=_shows_files(place),
        taken={name for name, child in place.children.items() if child.key not in arriving},
        kept=_kept_names(tree, place, remote),
    )
    for entry in remote:
        known = tree.by_key(entry.key)
        if known is not None and known.parent is not None and known.name != names[entry.record.id]:
            # Out of the way first: two nodes may swap names.
            known.parent.children.pop(known.name, None)
            known.parent = None
    for entry in remote:
        node = tree.by_key(entry.key) or tree.make(entry.key)
        name = names[entry.record.id]
        if place.children.get(name) is not node:  # elsewhere, or here and not listed yet
            tree.place(node, place, name)
        _update(tree, node, entry)


def _shows_files(place: Container) -> bool:
    return place.kind is Kind.FOLDER or place.kind in ARTICLE_KINDS


def _kept_names(tree: Tree, place: Container, remote: list[Entry]) -> dict[Id, str]:
    """What is called by its title keeps its name as long as the mount lasts and the title is the same,
    whoever comes or goes: who writes to ``articles/twin`` writes to one article. A file has its own name
    again once another one of that name is gone, which it has replaced.
    """
    kept: dict[Id, str] = {}
    for entry in remote:
        node = tree.by_key(entry.key)
        if node is None or node.parent is not place:
            continue
        item = (entry.record.id, entry.base)
        if node.name == entry.base or (
            not _shows_files(place) and naming.may_be_called(node.name, item, extension=False)
        ):
            kept[entry.record.id] = node.name
    return kept


def _update(tree: Tree, node: Node, entry: Entry, *, named_here: bool = False) -> None:
    """Bring a node up to what Figshare says of it."""
    record = entry.record
    if entry.time:
        node.remote_time_ns = int(entry.time * 1_000_000_000)
    if isinstance(node, Container):
        # The details of an article know more than the list: keep them while the list shows no later
        # change.
        if (
            isinstance(node.record, ArticleDetails)
            and isinstance(record, Article)
            and not isinstance(record, ArticleDetails)
            and node.record.title == record.title
            and node.record.modified_date == record.modified_date
        ):
            return
        if isinstance(record, (Article, Project, Collection)):
            node.record = record
        elif isinstance(record, Account):
            node.account = record
    elif isinstance(record, File) and isinstance(node, FileNode | LinkNode):
        if not named_here:
            article = _article_of(node)
            node.stored = Stored(record, article.key.id, naming.join_folder_path(entry.folder))
        if isinstance(node, LinkNode):
            node.target = link_target(record)
    elif node.key.kind is Kind.REFERENCE and isinstance(node, LinkNode):
        # What is public is read there, one's own as well.
        node.target = entry.place or f"../../articles/{naming.name_from_id(record.id)}"
    elif isinstance(node, LinkNode):
        node.target = entry.place or public_place(record.id)


def _article_of(node: Node) -> Container:
    assert node.parent is not None
    return node.parent.lister


def link_target(file: File) -> str:
    """What the symlink of a linked file says: the URL, quoted where it holds what no URL does, and what a
    terminal would obey (``ls -l`` prints it as it is).

    To the system it is a relative path, which leads on where there is a folder called "http:". So its steps
    up are quoted, too: no link leads out of the mount.
    """
    url = file.download_url
    if not url.isprintable() or " " in url:
        url = "".join(
            char if char.isprintable() and char != " " else quote(char, errors="replace") for char in url
        )
    return _STEPS.sub(lambda step: step[0].replace(".", "%2E"), url)


def public_place(article_id: Id) -> str:
    """Where somebody else's article is, seen from a collection or a query."""
    return f"../../public/articles/{naming.name_from_id(article_id)}"
