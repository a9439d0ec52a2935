"""Making, renaming and removing what shows as a directory: articles, projects, collections, and folders in
articles.

The first three ask Figshare while the program waits, for it must hear of a refusal (a title of two
characters, a published article). A folder exists only here until a file comes into it: Figshare knows it as a
path on each of its files.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Set

from figfs.content.deletions import Deletions
from figfs.content.openfiles import OpenFiles
from figfs.content.renaming import Renaming
from figfs.errors import Invalid, NotFound, NotSupported, UnknownOutcome
from figfs.figshare import articles, collections, items, projects
from figfs.figshare.client import Client
from figfs.figshare.records import Article, Collection, Id, Project
from figfs.namespace import naming
from figfs.namespace.listings import Listings
from figfs.namespace.nodes import Container, FileNode, Key, Kind, Node
from figfs.namespace.tree import Tree
from figfs.writing import tempnames

log = logging.getLogger(__name__)

SHORTEST_TITLE = 3  #: characters (quirks P9)
MOST_NAMED = 5  #: files, in one line of the log


class Containers:
    """The verbs on directories of one mount. ``now_ns``: wall clock, for the dates of what is made."""

    def __init__(
        self,
        *,
        client: Client,
        tree: Tree,
        listings: Listings,
        files: OpenFiles,
        renaming: Renaming,
        deletions: Deletions,
        now_ns: Callable[[], int],
    ) -> None:
        self._client = client
        self._tree = tree
        self._listings = listings
        self._files = files
        self._renaming = renaming
        self._deletions = deletions
        self._now_ns = now_ns

    async def make(self, parent: Container, name: str) -> Container:
        """A new article, project or collection on Figshare, or a folder here."""
        temporary = tempnames.classify_directory(name)
        if temporary.kind is tempnames.Kind.REFUSED:
            raise OSError(errno.EPERM, "no wastebasket here: file managers then ask to delete for good")
        if name in parent.children:
            raise OSError(errno.EEXIST, f"{name!r} exists")
        if parent.kind in (Kind.ARTICLE, Kind.FOLDER):
            return self._make_folder(parent, name, local=temporary.kind is tempnames.Kind.LOCAL)
        return await self._make_container(parent, name)

    def keep_folder(self, folder: Container | None) -> None:
        """A folder that becomes empty stays, as in any file system, though Figshare has no trace of it."""
        if folder is not None and folder.kind is Kind.FOLDER and not folder.made:
            folder.made = True
            self._tree.save(folder)

    def _make_folder(self, parent: Container, name: str, *, local: bool) -> Container:
        if len(parent.folder) >= naming.DEEPEST_FOLDER:
            raise OSError(errno.ENAMETOOLONG, "too many folders in each other")
        path = naming.join_folder_path((*parent.folder, name))
        node = self._tree.make(Key(Kind.FOLDER, f"{parent.lister.key.id}/{path}"))
        assert isinstance(node, Container)
        node.made, node.local = not local, local
        node.mtime_ns = self._now_ns()
        self._tree.attach(node, parent, name)
        self._tree.save(node)
        return node

    async def _make_container(self, parent: Container, name: str) -> Container:
        match parent.kind:
            case Kind.ARTICLES | Kind.PROJECT:
                kind = Kind.ARTICLE
            case Kind.PROJECTS:
                kind = Kind.PROJECT
            case Kind.COLLECTIONS:
                kind = Kind.COLLECTION
            case _:
                raise OSError(errno.EPERM, "no directory can be made here")
        title = self._title(name)
        before = {child.key for child in parent.children.values()}  # listed when the name was looked up
        node: Node | None
        try:
            new_id = await self._create(parent, title)
        except UnknownOutcome as exc:
            node = await self._find_created(parent, name, before, exc)
        else:
            key = Key(kind, new_id)
            node = self._tree.by_key(key) or self._tree.make(key)
        assert isinstance(node, Container)
        now = self._now_ns()
        if kind is Kind.ARTICLE:
            node.record = Article(id=node.key.id, title=title)
        elif kind is Kind.PROJECT:
            node.record = Project(id=node.key.id, title=title)
        else:
            node.record = Collection(id=node.key.id, title=title)
        node.remote_time_ns = now
        self._tree.attach(node, parent, name)
        self._tree.mark_listed(node)
        return node

    async def _create(self, parent: Container, title: str) -> Id:
        try:
            if parent.kind is Kind.ARTICLES:
                return await articles.create(self._client, title)
            if parent.kind is Kind.PROJECTS:
                return await projects.create(self._client, title)
            if parent.kind is Kind.COLLECTIONS:
                return await collections.create(self._client, title)
            return await projects.create_article(self._client, parent.key.id, title)
        except NotFound as exc:
            if parent.kind not in (Kind.PROJECTS, Kind.COLLECTIONS):
                raise
            raise NotSupported(f"this server has no {parent.name}") from exc

    async def _find_created(
        self, parent: Container, name: str, before: Set[Key], lost: UnknownOutcome
    ) -> Container:
        """The answer to a creation was lost: look whether it was carried out, before anybody tries again.

        It bears that title, and is none of those ``before``, whoever has listed it since.
        """

        async def look() -> Container | None:
            self._tree.expire(parent)
            await self._listings.ensure_listed(parent, must_succeed=True)
            for child in parent.children.values():
                if isinstance(child, Container) and child.key not in before and child.record is not None:
                    title = getattr(child.record, "title", "")
                    if naming.name_from_title(title) == name:
                        return child
            return None

        return await items.found_after(lost, look)

    @staticmethod
    def _title(name: str) -> str:
        """``Invalid`` for one that is too short as a person sees it: white space at its ends is none of it,
        though it is sent, as entities.
        """
        if len(name.strip()) < SHORTEST_TITLE:
            raise Invalid(f"Figshare takes no title of fewer than {SHORTEST_TITLE} characters: {name!r}")
        return naming.title_from_name(name)

    async def remove(self, node: Container) -> None:
        """Remove an empty folder, a draft article, an empty project or collection; ``OSError(ENOTEMPTY)``
        else.
        """
        if node.kind not in (Kind.FOLDER, Kind.ARTICLE, Kind.PROJECT, Kind.COLLECTION):
            raise OSError(errno.EPERM, "a part of every mount")
        if node.kind is not Kind.FOLDER:
            self._tree.expire(node)  # what came there from elsewhere must not be deleted with it
            await self._listings.ensure_listed(node, must_succeed=True)
        if node.children:
            raise OSError(errno.ENOTEMPTY, "not empty")
        self._check_unshown(node)
        container = node.parent
        match node.kind:
            case Kind.FOLDER:
                self.keep_folder(container)
                node.made = False
            case Kind.ARTICLE if node.is_published:
                raise OSError(errno.EPERM, "a published article cannot be deleted")
            case Kind.ARTICLE:
                await self._renaming.settle_out_of(node)
                await self._delete_article(node)
            case Kind.PROJECT:
                await projects.delete(self._client, node.key.id)
            case _:
                await collections.delete(self._client, node.key.id)
        self._tree.gone(node.key)
        self._tree.detach(node)

    def _check_unshown(self, article: Container) -> None:
        """What Figshare has and no listing shows must not be deleted with ``article``."""
        left = [file for file in article.unshown if not self._renaming.is_leaving(file.id)]
        if left:
            what = ", ".join(
                f"{file.name!r} ({'a link' if file.is_link_only else file.status})"
                for file in left[:MOST_NAMED]
            )
            log.warning(
                "%s is not empty: Figshare has files in it that are not shown: %s", article.path(), what
            )
            raise OSError(errno.ENOTEMPTY, f"not empty: {what}")

    async def _delete_article(self, node: Container) -> None:
        project = node.parent
        if project is not None and project.kind is Kind.PROJECT:
            await projects.delete_article(self._client, project.key.id, node.key.id)
        else:
            await articles.delete(self._client, node.key.id)
        self._deletions.article_removed(node.key.id)

    async def rename(self, node: Container, container: Container, name: str, target: Node | None) -> None:
        if target is not None:
            if not isinstance(target, Container):
                raise OSError(errno.ENOTDIR, f"{name!r} is not a directory")
            if target.children or not node.kind is target.kind is Kind.FOLDER:
                raise OSError(errno.ENOTEMPTY, f"{name!r} is in the way")
        if node.kind is Kind.FOLDER:
            self._rename_folder(node, container, name)
            return
        if node.parent is not container or node.kind not in (Kind.ARTICLE, Kind.PROJECT, Kind.COLLECTION):
            log.warning(
                "%s cannot become a part of %s: Figshare cannot move it", node.path(), container.path()
            )
            raise OSError(errno.EPERM, "Figshare cannot move it")
        title = self._title(name)
        if node.kind is Kind.ARTICLE:
            await articles.update(self._client, node.key.id, title=title)
            self._tree.edited(node.key.id)
        elif node.kind is Kind.PROJECT:
            await projects.update(self._client, node.key.id, title=title)
        else:
            await collections.update(self._client, node.key.id, title=title)
            self._tree.collection_edited(node)
        self._tree.attach(node, container, name)

    def _rename_folder(self, node: Container, container: Container, name: str) -> None:
        """A folder is a path on each of its files: the folder is made anew, and every file goes to its new
        place.
        """
        if container.kind not in (Kind.ARTICLE, Kind.FOLDER):
            raise OSError(errno.EPERM, "folders belong into an article")
        above: Container | None = container
        while above is not None:
            if above is node:
                raise OSError(errno.EINVAL, "a folder cannot go into itself")
            above = above.parent
        files = [child for child in node.descendants() if isinstance(child, FileNode)]
        for child in files:
            self._files.check(child)
        self._rekey_folder(node, container, name)
        self._renaming.renamed(files)

    def _rekey_folder(self, node: Container, container: Container, name: str) -> None:
        self.keep_folder(node.parent)
        self._tree.attach(node, container, name)
        article_id = container.lister.key.id
        for folder in (node, *(child for child in node.descendants() if isinstance(child, Container))):
            old = folder.key
            folder.made = not folder.local
            self._tree.rekey(
                folder, Key(Kind.FOLDER, f"{article_id}/{naming.join_folder_path(folder.folder)}")
            )
            self._tree.forget_saved(old)
