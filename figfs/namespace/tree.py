"""The tree of nodes: which there are, what they are called, how fresh each listing is, what the kernel still
holds.

A listing is fetched once however many ask, in the services nursery, so that a reader who gives up does not
stop it for the others. Its answer is *merged*: a node that is still there keeps its inode number, what this
machine has changed since the request began is kept (``Node.changed_at``), and a listing that fails changes
nothing. All methods that are not async run without a checkpoint, so no task ever sees a half-merged
directory.
"""

from __future__ import annotations

import contextlib
import copy
import errno
import logging
import math
import os
from collections.abc import Callable, Iterable

import trio

from figfs.errors import FigfsError, RemoteError
from figfs.figshare.client import Client
from figfs.figshare.records import Article, ArticleDetails, Collection, File, Id, Project
from figfs.namespace import naming, sources
from figfs.namespace.attributes import Attributes, Saved
from figfs.namespace.nodes import (
    ROOT_INODE,
    Container,
    FileNode,
    Key,
    Kind,
    LinkNode,
    Node,
    inode_of,
    make_node,
)
from figfs.namespace.sources import Contents, Entry

log = logging.getLogger(__name__)

#: After a listing failed, the same is not asked for again for this long (seconds): a program that looks at a
#: hundred names while Figshare is away must not cause a hundred requests.
RETRY_AFTER_FAILURE = 5.0

#: So many projects are listed to find out whether own articles of projects are also listed outside
#: (``_outside_projects``).
PROJECTS_TO_CHECK = 5

#: For that, their listings may be older (seconds) than what a program is shown: membership changes on the web
#: page only.
PROJECTS_MAX_AGE = 600.0


class Tree:
    """All nodes of one mount.

    Args:
        client: to ask for listings.
        nursery: the services nursery; a listing must outlive the program that asked first.
        attributes: what is kept locally for each key.
        dir_timeout: seconds for which a listing is fresh.
        now_ns: wall clock in nanoseconds, for the dates of what Figshare has no date for.
    """

    def __init__(
        self,
        *,
        client: Client,
        nursery: trio.Nursery,
        attributes: Attributes,
        dir_timeout: float,
        now_ns: Callable[[], int],
    ) -> None:
        self._client = client
        self._nursery = nursery
        self._attributes = attributes
        self._dir_timeout = dir_timeout
        self._started_ns = now_ns()
        self._nodes: dict[int, Node] = {}
        self._by_key: dict[Key, Node] = {}
        self._hidden: dict[Key, float] = {}
        self._loading: dict[Container, trio.Event] = {}
        self.root = self._new_container(Key(Kind.ROOT, 0))
        self.articles = self._new_container(Key(Kind.ARTICLES, 0))
        self.projects = self._new_container(Key(Kind.PROJECTS, 0))
        self.collections = self._new_container(Key(Kind.COLLECTIONS, 0))
        for name, node in (
            ("articles", self.articles),
            ("projects", self.projects),
            ("collections", self.collections),
        ):
            self._attach(node, self.root, name)
        self.root.status.listed_at = math.inf

    # -- nodes ------------------------------------------------------------

    def node(self, inode: int) -> Node:
        """The node with that inode number. ``OSError(ESTALE)`` if there is none any more."""
        try:
            return self._nodes[inode]
        except KeyError:
            raise _oserror(errno.ESTALE) from None

    def container(self, inode: int) -> Container:
        """The same, ``OSError(ENOTDIR)`` unless it is a directory."""
        node = self.node(inode)
        if not isinstance(node, Container):
            raise _oserror(errno.ENOTDIR)
        return node

    def by_key(self, key: Key) -> Node | None:
        return self._by_key.get(key)

    def make(self, key: Key) -> Node:
        """A new node for ``key``, with what was kept for it, not attached anywhere yet."""
        inode = inode_of(key)
        while inode in self._nodes:  # a collision of hashes, or a node whose key changed after an upload
            inode += 1
        node = make_node(key, inode)
        node.remote_time_ns = self._started_ns
        self._attributes.apply(node)
        self._nodes[inode] = node
        self._by_key[key] = node
        return node

    def _new_container(self, key: Key) -> Container:
        node = self.make(key)
        assert isinstance(node, Container)
        return node

    def rekey(self, node: Node, key: Key) -> None:
        """``node`` is now ``key`` (a pending file has been stored). Its inode number stays, what was set on
        it is kept.
        """
        if self._by_key.get(node.key) is node:
            del self._by_key[node.key]
        other = self._by_key.get(key)
        if other is not None and other is not node:
            self.detach(other)
        node.key = key
        self._by_key[key] = node
        self._attributes.save(node)

    def attach(self, node: Node, parent: Container, name: str) -> None:
        """Put ``node`` under ``parent`` as ``name``, decided here and now; another node of that name is
        detached.
        """
        previous = parent.children.get(name)
        if previous is not None and previous is not node:
            self.detach(previous)
        self._attach(node, parent, name)
        node.changed_at = trio.current_time()

    def _attach(self, node: Node, parent: Container, name: str) -> None:
        old = node.parent
        if old is not None and old.children.get(node.name) is node:
            del old.children[node.name]
        node.parent, node.name = parent, name
        parent.children[name] = node

    def detach(self, node: Node) -> None:
        """Take ``node`` out of its directory. It stays known while the kernel or a handle holds it."""
        parent = node.parent
        if parent is not None and parent.children.get(node.name) is node:
            del parent.children[node.name]
        node.parent = None
        if isinstance(node, Container):
            for child in list(node.children.values()):
                self.detach(child)
        if self._by_key.get(node.key) is node:
            del self._by_key[node.key]
        self._drop_if_unused(node)

    def hide(self, key: Key) -> None:
        """Never show what ``key`` stands for, whatever listings say, until ``forget_hidden``."""
        self._hidden[key] = math.inf

    def unhide(self, key: Key) -> None:
        self._hidden.pop(key, None)

    def gone(self, key: Key) -> None:
        """``key`` was deleted on Figshare just now: listings that began earlier are not believed about it."""
        self._hidden[key] = trio.current_time()
        self._attributes.drop(key)

    def keep_times(self, key: Key, mode: int | None, mtime_ns: int | None) -> None:
        """Keep mode and time for what was stored without a node."""
        self._attributes.keep(key, Saved(mode, mtime_ns))

    def forget_saved(self, key: Key) -> None:
        """Nothing is known under ``key`` any more: what it stood for has another one."""
        self._attributes.drop(key)

    def save(self, node: Node) -> None:
        """Keep what a program has set on ``node``."""
        self._attributes.save(node)

    def find(self, container: Container, name: str) -> Node | None:
        """The child called ``name``, or the one whose id it is (``<id>`` alone always resolves)."""
        child = container.children.get(name)
        if child is not None:
            return child
        number = naming.id_from_name(name)
        if number is None:
            return None
        for kind in (Kind.ARTICLE, Kind.PROJECT, Kind.COLLECTION, Kind.FILE, Kind.LINK):
            node = self._by_key.get(Key(kind, number))
            if node is not None and node.parent is container:
                return node
        return None

    # -- the kernel's references ------------------------------------------------------------

    def remember(self, node: Node) -> None:
        node.lookups += 1

    def forget(self, inode: int, count: int) -> None:
        """The kernel gives back ``count`` references."""
        node = self._nodes.get(inode)
        if node is not None:
            node.lookups = max(0, node.lookups - count)
            self._drop_if_unused(node)

    def _drop_if_unused(self, node: Node) -> None:
        if node.parent is None and node.lookups == 0 and node.inode != ROOT_INODE:
            self._nodes.pop(node.inode, None)

    def statistics(self) -> dict[str, int]:
        return {"nodes": len(self._nodes), "loading": len(self._loading), "hidden": len(self._hidden)}

    # -- listings ------------------------------------------------------------

    async def ensure_listed(
        self, container: Container, *, stale_is_fine: bool = False, max_age: float | None = None
    ) -> None:
        """Return once the container's listing may be used.

        A fresh one (of at most ``max_age`` seconds, else ``dir_timeout``) returns at once; a stale one is
        asked for again, and waited for unless ``stale_is_fine``. If that fails the last known listing stays;
        with none, the error is raised (``RemoteError``). Cancellation leaves the request running for the
        others.
        """
        lister = container.lister
        status = lister.status
        now = trio.current_time()
        age = self._dir_timeout if max_age is None else max_age
        if status.listed_at is not None and now < status.listed_at + age:
            return
        if status.failed_at is None or now >= status.failed_at + RETRY_AFTER_FAILURE:
            event = self._start_loading(lister)
            if status.listed_at is not None and stale_is_fine:
                return
            await event.wait()
        if status.listed_at is None and status.failure is not None:
            raise copy.copy(
                status.failure
            )  # each waiter its own: a shared exception would collect their tracebacks

    async def warm_up(self) -> None:
        """List the projects, which the listing of ``articles/`` needs, while nobody waits. Failures are
        logged only.
        """
        with contextlib.suppress(FigfsError):
            await self._list_projects()

    def expire(self, container: Container) -> None:
        """The next ``ensure_listed`` asks Figshare again."""
        status = container.lister.status
        if status.listed_at is not None:
            status.listed_at = -math.inf
        status.failed_at = None

    def mark_listed(self, container: Container) -> None:
        """The container was made here just now: what it holds is known without asking."""
        container.status.listed_at = trio.current_time()

    def _start_loading(self, lister: Container) -> trio.Event:
        event = self._loading.get(lister)
        if event is None:
            event = self._loading[lister] = trio.Event()
            self._nursery.start_soon(self._load, lister, event, name=f"list {lister.path()}")
        return event

    async def _load(self, lister: Container, event: trio.Event) -> None:
        started = trio.current_time()
        status = lister.status
        try:
            contents = await self._fetch(lister)
            self._merge(lister, contents, started)
            status.listed_at, status.failed_at, status.failure = started, None, None
        except FigfsError as exc:
            self._listing_failed(lister, exc)
        except Exception as exc:
            log.exception("listing of %s failed", lister.path())
            self._listing_failed(lister, RemoteError(f"internal error: {exc!r}"))
        finally:
            del self._loading[lister]
            event.set()

    def _listing_failed(self, lister: Container, exc: FigfsError) -> None:
        status = lister.status
        status.failed_at, status.failure = trio.current_time(), exc
        shown = "nothing is known of it" if status.listed_at is None else "the last known listing is shown"
        log.warning("cannot list %s: %s (%s)", lister.path(), exc, shown)

    async def _fetch(self, lister: Container) -> Contents:
        client = self._client
        match lister.kind:
            case Kind.ARTICLES:
                return Contents(await self._outside_projects(await sources.own_articles(client)))
            case Kind.PROJECTS:
                return Contents(await sources.own_projects(client))
            case Kind.COLLECTIONS:
                return Contents(await sources.own_collections(client))
            case Kind.PROJECT:
                return Contents(await sources.project_articles(client, lister.key.id))
            case Kind.COLLECTION:
                entries = await sources.collection_articles(client, lister.key.id)
                await self._ensure_places(entry.record.id for entry in entries)
                return Contents(entries)
            case Kind.ARTICLE:
                return await sources.article_files(client, lister)
            case _:
                return Contents([])

    async def _outside_projects(self, entries: list[Entry]) -> list[Entry]:
        """Without the articles that are in a project: they have their place there, and a directory must have
        one only.

        Whether ``GET /account/articles`` lists those too is not documented (api.md §3). The first few
        projects tell how this server does it: if none of their articles is among the own ones, the other
        projects need not be listed.
        """
        own = {entry.key for entry in entries}
        first, others = await self._list_projects()
        if any(child.key in own for project in first for child in project.children.values()):
            await self._list_all(others)
        elsewhere = {child.key for project in (*first, *others) for child in project.children.values()}
        return [entry for entry in entries if entry.key not in elsewhere]

    async def _list_projects(self) -> tuple[list[Container], list[Container]]:
        """List the projects and the articles of the first few; returns those, and the others."""
        await self.ensure_listed(self.projects, max_age=PROJECTS_MAX_AGE)
        projects = [node for node in self.projects.children.values() if isinstance(node, Container)]
        first, others = projects[:PROJECTS_TO_CHECK], projects[PROJECTS_TO_CHECK:]
        await self._list_all(first)
        return first, others

    async def _list_all(self, containers: Iterable[Container]) -> None:
        async with trio.open_nursery() as nursery:
            for container in containers:
                nursery.start_soon(self._list_one, container)

    async def _list_one(self, container: Container) -> None:
        with contextlib.suppress(FigfsError):  # logged where it happened
            await self.ensure_listed(container, max_age=PROJECTS_MAX_AGE)

    async def _ensure_places(self, article_ids: Iterable[Id]) -> None:
        """List what is needed to tell where in this mount the articles are; those not found are other
        people's.
        """
        wanted = {Key(Kind.ARTICLE, article_id) for article_id in article_ids}
        if wanted - self._by_key.keys():
            await self.ensure_listed(self.articles)
        if wanted - self._by_key.keys():
            await self.ensure_listed(self.projects)
            projects = [node for node in self.projects.children.values() if isinstance(node, Container)]
            await self._list_all(projects)

    # -- merging ------------------------------------------------------------

    def _merge(self, lister: Container, contents: Contents, started: float) -> None:
        """Make ``lister`` show ``contents``, the answer to a request that began at ``started``."""
        if contents.details is not None:
            lister.record = contents.details
        entries = [entry for entry in contents.entries if self._hidden.get(entry.key, -math.inf) <= started]
        by_folder: dict[tuple[str, ...], list[Entry]] = {(): []}
        for entry in entries:
            by_folder.setdefault(entry.folder, []).append(entry)
        if lister.kind is Kind.ARTICLE:
            for path in self._attributes.folders_made(lister.key.id):
                by_folder.setdefault(naming.split_folder_path(path), [])
        present = {entry.key for entry in entries}
        places = {
            folder: self._folder(lister, folder)
            for folder in sorted(by_folder, key=lambda path: (len(path), path))
        }
        self._remove_missing(lister, present, set(places), started)
        for folder, group in by_folder.items():
            self._merge_directory(places[folder], group, started)

    def _folder(self, article: Container, folder: tuple[str, ...]) -> Container:
        """The folder's node, made with all above it where missing. A file in the way gets out of it in the
        merge.
        """
        place = article
        for depth, name in enumerate(folder, 1):
            child = place.children.get(name)
            if not isinstance(child, Container):
                key = Key(Kind.FOLDER, "/".join((str(article.key.id), *folder[:depth])))
                if child is not None:
                    self._attach(child, place, self._free_name(place, name))
                existing = self._by_key.get(key)
                child = existing if isinstance(existing, Container) else self._new_container(key)
                child.remote_time_ns = article.remote_time_ns
                self._attach(child, place, name)
            place = child
        return place

    def _free_name(self, place: Container, name: str) -> str:
        number = 1
        while f"{name} [{number}]" in place.children:
            number += 1
        return f"{name} [{number}]"

    def _remove_missing(
        self, lister: Container, present: set[Key], folders: set[tuple[str, ...]], started: float
    ) -> None:
        """Detach what Figshare no longer has, except what this machine has changed, holds alone or has just
        made.
        """
        needed = {folder[:depth] for folder in folders for depth in range(len(folder) + 1)}
        for node in reversed(
            list(lister.descendants()) if lister.kind is Kind.ARTICLE else list(lister.children.values())
        ):
            if isinstance(node, Container) and node.kind is Kind.FOLDER:
                if not (node.made or node.children or node.folder in needed):
                    self.detach(node)
            elif node.key not in present and not self._is_local(node, started):
                self.detach(node)

    @staticmethod
    def _is_local(node: Node, started: float) -> bool:
        return node.changed_at > started or (isinstance(node, FileNode) and node.local_size is not None)

    def _merge_directory(self, place: Container, entries: list[Entry], started: float) -> None:
        remote: list[Entry] = []
        for entry in entries:
            node = self._by_key.get(entry.key)
            if node is not None and self._is_local(node, started):
                self._update(node, entry, named_here=True)
            else:
                remote.append(entry)
        arriving = {entry.key for entry in remote}
        names = naming.assign_names(
            [(entry.record.id, entry.base) for entry in remote],
            extension=place.kind in (Kind.ARTICLE, Kind.FOLDER),
            taken={name for name, child in place.children.items() if child.key not in arriving},
        )
        for entry in remote:
            known = self._by_key.get(entry.key)
            if known is not None and known.parent is not None and known.name != names[entry.record.id]:
                # Out of the way first: two nodes may swap names.
                known.parent.children.pop(known.name, None)
                known.parent = None
        for entry in remote:
            node = self._by_key.get(entry.key) or self.make(entry.key)
            name = names[entry.record.id]
            if node.parent is not place or node.name != name:
                self._attach(node, place, name)
            self._update(node, entry)

    def _update(self, node: Node, entry: Entry, *, named_here: bool = False) -> None:
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
        elif isinstance(record, File) and isinstance(node, FileNode | LinkNode):
            if not named_here:
                article = self._article_of(node)
                node.stored, node.stored_in = record, (article.key.id, "/".join(entry.folder))
            if isinstance(node, LinkNode):
                node.target = record.download_url
        elif isinstance(node, LinkNode):
            node.target = self._member_target(record.id)

    @staticmethod
    def _article_of(node: Node) -> Container:
        assert node.parent is not None
        return node.parent.lister

    def _member_target(self, article_id: Id) -> str:
        """Where a collection's article is, seen from the collection: relative, so that it works in every
        mount.
        """
        node = self._by_key.get(Key(Kind.ARTICLE, article_id))
        if node is None or node.parent is None:
            return f"../../public/articles/{article_id}"
        return "../.." + node.path()


def _oserror(number: int) -> OSError:
    return OSError(number, os.strerror(number))
