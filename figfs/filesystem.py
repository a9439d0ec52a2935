"""The POSIX verbs, without FUSE: names, attributes and directories. Holds the tree and the open files
together.

Arguments are inode numbers and names as the kernel has them; results are nodes and plain records. Errors are
``OSError`` for the file system's own rules and ``RemoteError`` for Figshare's (``errors.py``). Creating,
renaming and removing a *container* asks Figshare while the program waits, for it must hear of a refusal;
every other change of a name is local and instant (``settling.py`` carries it out).
"""

from __future__ import annotations

import dataclasses
import errno
import logging
import stat
from collections.abc import Callable

import trio

from figfs.errors import FigfsError, Invalid, UnknownOutcome
from figfs.figshare import articles, collections, projects
from figfs.figshare.client import Client
from figfs.figshare.records import Account, Article, Collection, Id, Project
from figfs.namespace import naming
from figfs.namespace.nodes import Container, FileNode, Key, Kind, LinkNode, Node
from figfs.namespace.tree import Tree
from figfs.openfiles import OpenFiles
from figfs.settling import Settler
from figfs.writing import tempnames

log = logging.getLogger(__name__)

RENAME_NOREPLACE = 1  # linux/fs.h
SHORTEST_TITLE = 3  #: characters (quirks P9)
UNKNOWN_QUOTA = (
    1 << 50
)  #: 1 PiB, where the account does not tell: file managers refuse to copy to a full disk
BLOCK_SIZE = 4096  #: ``f_bsize`` and ``f_frsize``; the unit of ``f_blocks``
PREFERRED_SIZE = 1 << 20  #: ``st_blksize``: what copying programs use as their buffer


@dataclasses.dataclass(frozen=True, slots=True)
class Attributes:
    """What ``stat`` shows. Times in nanoseconds."""

    inode: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    blocks: int
    block_size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """What ``setattr`` sets; None: as it is."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Space:
    """What ``statfs`` shows, in units of ``block_size`` bytes."""

    block_size: int
    blocks: int
    free: int
    files: int


@dataclasses.dataclass(frozen=True, slots=True)
class DirectoryEntry:
    name: str
    node: Node


class FileSystem:
    """One mount.

    Args:
        account: as Figshare told at the start; replaced by ``set_account``.
        uid, gid: owner of everything.
        umask: taken from 0666 and 0777 where no program has set a mode.
        now_ns: wall clock.
    """

    def __init__(
        self,
        *,
        client: Client,
        tree: Tree,
        files: OpenFiles,
        settler: Settler,
        account: Account,
        uid: int,
        gid: int,
        umask: int,
        now_ns: Callable[[], int],
    ) -> None:
        self._client = client
        self._tree = tree
        self.files = files
        self._settler = settler
        self._account = account
        self._uid = uid
        self._gid = gid
        self._umask = umask
        self._now_ns = now_ns
        self._directories: dict[int, list[DirectoryEntry]] = {}
        self._next_directory = 1

    # -- attributes ------------------------------------------------------------

    def attributes(self, node: Node) -> Attributes:
        """From memory, always."""
        if isinstance(node, LinkNode):
            mode = stat.S_IFLNK | 0o777
        elif node.mode is not None:
            mode = node.file_type | node.mode
        else:
            mode = node.file_type | (0o777 if isinstance(node, Container) else 0o666) & ~self._umask
        mtime = node.mtime_ns if node.mtime_ns is not None else node.remote_time_ns
        size = 0 if isinstance(node, Container) else node.size
        return Attributes(
            inode=node.inode,
            mode=mode,
            nlink=1,  # also of directories: "not known", so that find does not take a count for a promise
            uid=self._uid,
            gid=self._gid,
            size=size,
            blocks=(size + 511) // 512,
            block_size=PREFERRED_SIZE,
            atime_ns=node.atime_ns if node.atime_ns is not None else mtime,
            mtime_ns=mtime,
            ctime_ns=max(node.ctime_ns or 0, mtime),
        )

    def node(self, inode: int) -> Node:
        return self._tree.node(inode)

    async def setattr(self, inode: int, change: Change, handle: int | None) -> Node:
        """Modes and times always succeed and are kept (rsync writes no file where chmod is refused)."""
        node = self._tree.node(inode)
        if change.uid not in (None, self._uid) or change.gid not in (None, self._gid):
            raise OSError(errno.EPERM, "all files belong to the owner of the mount")
        if change.size is not None:
            if not isinstance(node, FileNode):
                raise OSError(errno.EISDIR, "not a file")
            await self.files.truncate(node, change.size, handle)
        if change.mode is not None:
            node.mode = stat.S_IMODE(change.mode)
        if change.atime_ns is not None:
            node.atime_ns = change.atime_ns
        if change.mtime_ns is not None:
            node.mtime_ns = change.mtime_ns
        node.ctime_ns = self._now_ns()
        self._tree.save(node)
        return node

    def set_account(self, account: Account) -> None:
        """Newer figures of quota and use."""
        self._account = account

    def statfs(self) -> Space:
        """Quota and use of the account, as last heard."""
        quota, used = self._account.quota, self._account.used_quota
        if used is None:
            used = (self._account.used_quota_private or 0) + (self._account.used_quota_public or 0)
        total = quota if quota is not None and quota > 0 else UNKNOWN_QUOTA
        free = max(0, total - used)
        return Space(BLOCK_SIZE, total // BLOCK_SIZE, free // BLOCK_SIZE, self._tree.statistics()["nodes"])

    # -- looking ------------------------------------------------------------

    async def lookup(self, parent: int, raw_name: bytes) -> Node:
        """The child of that name. From memory, except for the first look into a container."""
        container = self._tree.container(parent)
        if raw_name == b".":
            return container
        if raw_name == b"..":
            return container.parent or container
        name = naming.check_name(raw_name)
        node = self._tree.find(container, name)
        await self._tree.ensure_listed(container, stale_is_fine=node is not None)
        node = self._tree.find(container, name)
        if node is None:
            raise OSError(errno.ENOENT, f"no {name!r} here")
        return node

    def remember(self, node: Node) -> None:
        """The kernel holds one more reference."""
        self._tree.remember(node)

    def forget(self, inode: int, count: int) -> None:
        self._tree.forget(inode, count)

    async def opendir(self, inode: int) -> int:
        """A handle with a snapshot of the directory: nothing comes twice, nothing that stays is left out."""
        container = self._tree.container(inode)
        await self._tree.ensure_listed(container)
        number = self._next_directory
        self._next_directory += 1
        self._directories[number] = [DirectoryEntry(name, node) for name, node in container.children.items()]
        return number

    def readdir(self, number: int, start: int) -> list[DirectoryEntry]:
        """The snapshot from entry ``start`` on."""
        return self._directories[number][start:]

    def releasedir(self, number: int) -> None:
        self._directories.pop(number, None)

    def readlink(self, inode: int) -> bytes:
        node = self._tree.node(inode)
        if not isinstance(node, LinkNode):
            raise OSError(errno.EINVAL, "not a link")
        return node.target.encode("utf-8", "surrogateescape")

    # -- files ------------------------------------------------------------

    def create(self, parent: int, raw_name: bytes, mode: int, pid: int) -> tuple[FileNode, int]:
        """A new file and a handle of it; local and instant."""
        container = self._tree.container(parent)
        name = naming.check_name(raw_name)
        if container.kind not in (Kind.ARTICLE, Kind.FOLDER):
            raise OSError(errno.EPERM, "files belong into an article: make one with mkdir")
        if tempnames.classify(name).kind is tempnames.Kind.REFUSED:
            raise OSError(errno.EPERM, "no wastebasket here")
        if name in container.children:
            raise OSError(errno.EEXIST, f"{name!r} exists")
        node, handle = self.files.create(container, name, pid)
        if mode & 0o777 != 0o666 & ~self._umask:
            node.mode = mode & 0o7777
        return node, handle

    def open(self, inode: int, flags: int, pid: int) -> int:
        node = self._tree.node(inode)
        if not isinstance(node, FileNode):
            raise OSError(errno.EISDIR, "not a file")
        return self.files.open(node, flags, pid)

    async def unlink(self, parent: int, raw_name: bytes) -> None:
        """Remove a name. For a file local and instant; an article's link in a collection leaves it within the
        deadline.
        """
        node = self._child(parent, raw_name)
        if isinstance(node, Container):
            raise OSError(errno.EISDIR, "a directory: rmdir removes it")
        if node.key.kind is Kind.MEMBER:
            await self._remove_member(self._tree.container(parent), node)
            return
        assert isinstance(node, FileNode | LinkNode)
        self._keep_folder(node.parent)
        self._settler.unlink(node)

    async def _remove_member(self, collection: Container, node: Node) -> None:
        """The article leaves the collection; nothing of the article is touched."""
        text = str(node.key.id).split("/", 1)[1]
        number = naming.id_from_name(text)
        await collections.remove_article(self._client, collection.key.id, text if number is None else number)
        self._tree.gone(node.key)
        self._tree.detach(node)

    def _child(self, parent: int, raw_name: bytes) -> Node:
        name = naming.check_name(raw_name)
        node = self._tree.find(self._tree.container(parent), name)
        if node is None:
            raise OSError(errno.ENOENT, f"no {name!r} here")
        return node

    def _keep_folder(self, folder: Container | None) -> None:
        """A folder that becomes empty stays, as in any file system, though Figshare has no trace of it."""
        if folder is not None and folder.kind is Kind.FOLDER and not folder.made:
            folder.made = True
            self._tree.save(folder)

    # -- containers ------------------------------------------------------------

    async def mkdir(self, parent: int, raw_name: bytes, mode: int) -> Container:
        """A new article, project or collection on Figshare, or a folder here."""
        container = self._tree.container(parent)
        name = naming.check_name(raw_name)
        temporary = tempnames.classify_directory(name)
        if temporary.kind is tempnames.Kind.REFUSED:
            raise OSError(errno.EPERM, "no wastebasket here: file managers then ask to delete for good")
        if name in container.children:
            raise OSError(errno.EEXIST, f"{name!r} exists")
        if container.kind in (Kind.ARTICLE, Kind.FOLDER):
            node = self._make_folder(container, name, local=temporary.kind is tempnames.Kind.LOCAL)
        else:
            node = await self._make_container(container, name)
        if mode & 0o777 != 0o777 & ~self._umask:
            node.mode = mode & 0o7777
            self._tree.save(node)
        return node

    def _make_folder(self, parent: Container, name: str, *, local: bool) -> Container:
        path = naming.join_folder_path((*parent.folder, name))
        node = self._tree.make(Key(Kind.FOLDER, f"{parent.lister.key.id}/{path}"))
        assert isinstance(node, Container)
        node.made, node.local = not local, local
        node.mtime_ns = self._now_ns()
        self._tree.attach(node, parent, name)
        self._tree.save(node)
        return node

    async def _make_container(self, parent: Container, name: str) -> Container:
        title = self._title(name)
        match parent.kind:
            case Kind.ARTICLES:
                kind = Kind.ARTICLE
            case Kind.PROJECTS:
                kind = Kind.PROJECT
            case Kind.COLLECTIONS:
                kind = Kind.COLLECTION
            case Kind.PROJECT:
                kind = Kind.ARTICLE
            case _:
                raise OSError(errno.EPERM, "no directory can be made here")
        node: Node | None
        try:
            new_id = await self._create(parent, title)
        except UnknownOutcome as exc:
            node = await self._find_created(parent, name, exc)
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
        if parent.kind is Kind.ARTICLES:
            return await articles.create(self._client, title)
        if parent.kind is Kind.PROJECTS:
            return await projects.create(self._client, title)
        if parent.kind is Kind.COLLECTIONS:
            return await collections.create(self._client, title)
        return await projects.create_article(self._client, parent.key.id, title)

    async def _find_created(self, parent: Container, name: str, exc: UnknownOutcome) -> Container:
        """The answer to a creation was lost: look whether it was carried out, before anybody tries again."""
        before = {child.key for child in parent.children.values()}
        self._tree.expire(parent)
        await self._tree.ensure_listed(parent)
        for child in parent.children.values():
            if isinstance(child, Container) and child.key not in before and child.record is not None:
                title = getattr(child.record, "title", "")
                if naming.name_from_title(title) == name:
                    return child
        raise exc

    @staticmethod
    def _title(name: str) -> str:
        title = naming.title_from_name(name)
        if len(title) < SHORTEST_TITLE:
            raise Invalid(f"Figshare takes no title of fewer than {SHORTEST_TITLE} characters: {title!r}")
        return title

    async def rmdir(self, parent: int, raw_name: bytes) -> None:
        """Remove an empty folder, a draft article, an empty project or collection."""
        node = self._child(parent, raw_name)
        if not isinstance(node, Container):
            raise OSError(errno.ENOTDIR, "not a directory")
        if node.kind in (Kind.ARTICLES, Kind.PROJECTS, Kind.COLLECTIONS):
            raise OSError(errno.EPERM, "a part of every mount")
        await self._tree.ensure_listed(node)
        if node.children:
            raise OSError(errno.ENOTEMPTY, "not empty")
        container = node.parent
        match node.kind:
            case Kind.FOLDER:
                self._keep_folder(container)
                node.made = False
            case Kind.ARTICLE if node.is_published:
                raise OSError(errno.EPERM, "a published article cannot be deleted")
            case Kind.ARTICLE:
                await self._delete_article(node)
            case Kind.PROJECT:
                await projects.delete(self._client, node.key.id)
            case _:
                await collections.delete(self._client, node.key.id)
        self._tree.gone(node.key)
        self._tree.detach(node)

    async def _delete_article(self, node: Container) -> None:
        project = node.parent
        if project is not None and project.kind is Kind.PROJECT:
            await projects.delete_article(self._client, project.key.id, node.key.id)
        else:
            await articles.delete(self._client, node.key.id)
        self._settler.article_removed(node.key.id)

    # -- rename ------------------------------------------------------------

    async def rename(
        self, parent_old: int, raw_old: bytes, parent_new: int, raw_new: bytes, flags: int
    ) -> None:
        """``rename(2)``. For files local and instant; for articles, projects and collections their title."""
        if flags & ~RENAME_NOREPLACE:
            raise OSError(errno.EINVAL, "only RENAME_NOREPLACE")
        node = self._child(parent_old, raw_old)
        container = self._tree.container(parent_new)
        name = naming.check_name(raw_new)
        target = self._tree.find(container, name)
        if target is node:
            if node.name != name:
                raise OSError(errno.EEXIST, f"{name!r} is another name of it")
            return
        if target is not None and flags & RENAME_NOREPLACE:
            raise OSError(errno.EEXIST, f"{name!r} exists")
        if isinstance(node, Container):
            await self._rename_container(node, container, name, target)
        elif isinstance(node, FileNode):
            self._rename_file(node, container, name, target)
        else:
            raise OSError(errno.EPERM, "links cannot be renamed")

    def _rename_file(self, node: FileNode, container: Container, name: str, target: Node | None) -> None:
        if container.kind not in (Kind.ARTICLE, Kind.FOLDER):
            raise OSError(errno.EPERM, "files belong into an article")
        if isinstance(target, Container):
            raise OSError(errno.EISDIR, f"{name!r} is a directory")
        self.files.check(node)
        self._keep_folder(node.parent)
        if isinstance(target, FileNode):
            self._settler.replace(target, node)
        elif isinstance(target, LinkNode):
            self._settler.unlink(target)
        self._settler.adopt(node, container, name)
        self._tree.attach(node, container, name)
        self._settler.renamed(node)

    async def _rename_container(
        self, node: Container, container: Container, name: str, target: Node | None
    ) -> None:
        if target is not None:
            if not isinstance(target, Container):
                raise OSError(errno.ENOTDIR, f"{name!r} is not a directory")
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
        elif node.kind is Kind.PROJECT:
            await projects.update(self._client, node.key.id, title=title)
        else:
            await collections.update(self._client, node.key.id, title=title)
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
            self.files.check(child)
        self._rekey_folder(node, container, name)
        for child in files:
            self._settler.renamed(child)

    def _rekey_folder(self, node: Container, container: Container, name: str) -> None:
        self._keep_folder(node.parent)
        self._tree.attach(node, container, name)
        article_id = container.lister.key.id
        for folder in (node, *(child for child in node.descendants() if isinstance(child, Container))):
            old = folder.key
            folder.made = not folder.local
            self._tree.rekey(
                folder, Key(Kind.FOLDER, f"{article_id}/{naming.join_folder_path(folder.folder)}")
            )
            self._tree.forget_saved(old)

    # -- after the programs ------------------------------------------------------------

    async def drain(self, timeout: float) -> int:
        """Carry out what is owed, for at most ``timeout`` seconds. Returns how many files are owed still."""
        with trio.move_on_after(timeout):
            await self._settler.drain()
        return self._settler.owed()


def describe(exc: BaseException) -> str:
    """One line for the log."""
    if isinstance(exc, OSError):
        return f"{exc.strerror or exc} ({errno.errorcode.get(exc.errno or 0, '?')})"
    if isinstance(exc, FigfsError):
        return f"{exc} ({errno.errorcode.get(exc.errno, '?')})"
    return repr(exc)
