"""What a mount may believe of listings that an earlier one has kept (``listingstore.py``).

Figshare has no way to ask "what has changed since", and its lists tell when an article was modified, but not
that a file was added to it, perhaps (quirks L14). So:

* A kept listing is *believed* for ``TRUSTED`` seconds after it was fetched, while Figshare's list shows the
  container with the date of modification that it had then. Believed means: like a fresh one from the first
  look on, for ``dir_timeout``. The lists of all articles, projects and collections are never believed: they
  are three, and they tell the dates of all else; but that of collections does not (api.md §2), so no
  collection is believed.
* A version of a public article is believed for good, once all of it was seen (``publicsources.is_fixed``),
  and never asked for again: it cannot change.
* Other public items are never believed. Nothing lists them, so nothing tells that they were modified: one
  request each, behind the first look, unless an article's portal tells that it has not changed
  (``freshness.py``); then it is as if believed. What they hold is found by id, so it is what was asked for
  that is refreshed, never a tree.
* Any other is shown at its first look as well, and refreshed behind. So are the first few of those believed,
  and one a minute after that: who opens a directory sees its truth a moment later, and a walk through all of
  them costs no request each.
* Nothing that a request of this machine has changed since is shown, unless Figshare is away
  (``Kept.outdated``): before such a request is sent, it is on disk that the listing is out of date.
* Nothing is changed on the ground of a listing that was not confirmed in this mount while Figshare can be
  asked: ``Listings.confirm``.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from urllib.parse import unquote

import trio

from figfs.figshare.records import Article, ArticleDetails, Collection, Id, Project
from figfs.namespace import naming, publicsources
from figfs.namespace.identifiers import Reference
from figfs.namespace.listingstore import Kept, ListingStore
from figfs.namespace.nodes import PUBLIC_ITEMS, Container, FileNode, Key, Kind, LinkNode
from figfs.namespace.sources import Contents, Entry
from figfs.namespace.tree import Tree

TRUSTED = 3600.0  #: seconds since it was fetched
CLOCK_STEP = 60.0  #: seconds that the wall clock may have been set back
CONFIRMED_AT_ONCE = 2  #: believed listings refreshed behind their first look
CONFIRM_INTERVAL = 60.0  #: seconds until one more may be

_LISTS = frozenset({Kind.ARTICLES, Kind.PROJECTS, Kind.COLLECTIONS})
_KINDS = {"articles": Kind.ARTICLE, "projects": Kind.PROJECT, "collections": Kind.COLLECTION}
_PARENTS = {"articles": Kind.ARTICLES, "projects": Kind.PROJECTS, "collections": Kind.COLLECTIONS}
_PUBLIC = {
    "articles": Kind.PUBLIC_ARTICLE,
    "projects": Kind.PUBLIC_PROJECT,
    "collections": Kind.PUBLIC_COLLECTION,
}
_PATH = re.compile(r"/account/(articles|projects|collections)(?:/([^/]+)(?:/([^/]+)(?:/([^/]+))?)?)?")


def affected(path: str) -> set[Key]:
    """The containers whose listings a request to ``path`` changes, GETs aside. Pure.

    An article's title is in lists that the path does not tell: see ``Keeping.changing``.
    """
    match = _PATH.match(path)
    if match is None:
        return set()
    family, item, below, part = match.groups()
    if item is None:
        return {Key(_PARENTS[family], 0)}
    key = Key(_KINDS[family], _id(item))
    keys = {key}
    if below == "publish":
        keys.add(_public_key(family, item))
    if below == "articles":
        return keys | {Key(Kind.ARTICLE, _id(part))} if part and family == "projects" else keys
    if family == "articles":
        return keys
    return keys | {Key(_PARENTS[family], 0), Key(Kind.ARTICLES, 0)}  # a project that goes leaves its articles


def _public_key(family: str, item: str) -> Key:
    """Of the same item, as anyone sees it: the key of an article is its name."""
    return Key(_PUBLIC[family], unquote(item) if family == "articles" else _id(item))


def _id(text: str) -> int | str:
    number = naming.id_from_name(unquote(text))
    return unquote(text) if number is None else number


class Keeping:
    """The policy of one mount. ``now``: wall clock, POSIX seconds."""

    def __init__(self, *, store: ListingStore, tree: Tree, now: Callable[[], float]) -> None:
        self._store = store
        self._tree = tree
        self._now = now
        self._restored: set[Key] = set()
        self._under_way: Counter[Key] = Counter()
        self._changed_at: dict[Key, float] = {}
        self._confirmations = float(CONFIRMED_AT_ONCE)
        self._counted_at = trio.current_time()

    def find(self, lister: Container) -> Kept | None:
        """What is kept of a container that was not listed in this mount; once. Of a public item as often as
        it has been forgotten meanwhile (``publicitems.MOST_KEPT``).
        """
        if lister.key in self._restored:
            return None
        if lister.kind not in PUBLIC_ITEMS:
            self._restored.add(lister.key)
        kept = self._store.get(lister.key)
        if kept is not None and (lister.key in self._changed_at or lister.key in self._under_way):
            return kept._replace(outdated=True)
        return kept

    def is_believed(self, lister: Container, kept: Kept) -> bool:
        if kept.lasting:
            return True
        age = self._now() - kept.fetched
        return (
            lister.kind not in _LISTS
            and lister.kind not in PUBLIC_ITEMS
            and not kept.outdated
            and -CLOCK_STEP < age < TRUSTED
            and kept.stamp is not None
            and stamp(lister) == kept.stamp
            and lister.status.expired_at == -math.inf
        )

    def keep(self, lister: Container, contents: Contents, started: float) -> None:
        """A listing that began at ``started`` was merged: it is kept, unless a change here may have crossed
        it.
        """
        key = lister.key
        if lister.kind not in PUBLIC_ITEMS:
            self._restored.add(key)
        if lister.kind is Kind.ACCOUNTS:
            return  # whose names they are is no business of this disk
        crossed = self._under_way[key] > 0 or self._changed_at.get(key, started - 1) >= started
        if not crossed and contents.settled:
            fetched = self._now() - (trio.current_time() - started)
            lasting = publicsources.is_fixed(key, contents)
            self._store.put(key, Kept(contents, fetched, stamp(lister), lasting=lasting))

    def forget(self, lister: Container) -> None:
        """Figshare says that there is no such item."""
        self._store.drop(lister.key)

    def with_doi(self, doi: str) -> set[Key]:
        """The public items that are kept and had this DOI then."""
        return self._store.with_doi(doi)

    def versions(self, article_id: Id) -> list[int]:
        """The versions of a public article that are kept."""
        return self._store.versions(article_id)

    def answer(self, article_id: Id, version: int | None) -> bytes:
        """See ``documents.entries.Versions``."""
        kept = self._store.get(Key(Kind.PUBLIC_ARTICLE, str(Reference(article_id, version))))
        return kept.contents.answer if kept is not None and (kept.lasting or version is None) else b""

    def remember(self) -> None:
        """At the end of the mount: what was changed here is kept as this machine knows it, for a mount that
        starts without Figshare. Any other asks first.
        """
        for key in self._changed_at:
            node = self._tree.by_key(key)
            if not isinstance(node, Container) or node.parent is None or node.status.listed_at is None:
                continue
            if key.kind in PUBLIC_ITEMS:
                continue  # what the public sees is Figshare's business
            contents = known_here(node, self._store.get(key))
            self._store.put(key, Kept(contents, self._now(), stamp(node), outdated=True))

    def may_confirm(self) -> bool:
        """Whether one more believed listing is to be refreshed behind; it counts."""
        now = trio.current_time()
        grown = self._confirmations + (now - self._counted_at) / CONFIRM_INTERVAL
        self._confirmations, self._counted_at = min(grown, float(CONFIRMED_AT_ONCE)), now
        if self._confirmations < 1:
            return False
        self._confirmations -= 1
        return True

    @contextlib.asynccontextmanager
    async def changing(self, path: str) -> AsyncIterator[None]:
        """Around each request that changes something."""
        keys = affected(path)
        for key in list(keys):
            if key.kind is Kind.ARTICLE and "/files" not in path:
                keys |= self._lists_with(key)
        self._under_way.update(keys)
        try:
            await self._store.outdate(keys)
            yield
        finally:
            self._under_way -= Counter(keys)
            now = trio.current_time()
            self._changed_at.update(dict.fromkeys(keys, now))

    def _lists_with(self, article: Key) -> set[Key]:
        """The lists that show an article's title."""
        found = {Key(Kind.ARTICLES, 0)}
        node = self._tree.by_key(article)
        if node is not None and node.parent is not None:
            found = {node.parent.lister.key}
        return found | self._store.collections()


def known_here(container: Container, before: Kept | None = None) -> Contents:
    """What Figshare has in there, as far as this machine knows. ``before``: what was kept of it, for the
    records of a collection's members, which their nodes do not have.
    """
    entries: list[Entry] = []
    if container.kind is Kind.COLLECTION and before is not None:
        there = {node.key for node in container.children.values()}
        entries = [entry for entry in before.contents.entries if entry.key in there]
    for node in container.descendants() if container.kind is Kind.ARTICLE else container.children.values():
        time = node.remote_time_ns / 1e9
        if isinstance(node, FileNode | LinkNode):
            if node.stored is None:
                continue
            if node.stored.article_id != container.key.id:
                continue  # not moved yet
            file = node.stored.file
            base = naming.name_from_filename(file.name) if file.name else node.name
            entries.append(
                Entry(node.stored.key, base, file, time, naming.split_folder_path(node.stored.folder))
            )
        elif isinstance(node, Container) and isinstance(node.record, Article | Project | Collection):
            entries.append(Entry(node.key, naming.name_from_title(node.record.title), node.record, time))
    details = container.record if isinstance(container.record, ArticleDetails) else None
    return Contents(entries, details)


def stamp(container: Container) -> float | None:
    """When Figshare says that a container was modified last; None where it does not."""
    return getattr(container.record, "modified_date", None)
