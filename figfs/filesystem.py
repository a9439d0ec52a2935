"""The POSIX verbs, without FUSE: names, attributes and directories. Holds the tree and the open files
together.

Arguments are inode numbers and names as the kernel has them; results are nodes and plain records. Errors are
``OSError`` for the file system's own rules and ``RemoteError`` for Figshare's (``errors.py``). Creating,
renaming and removing a *container* asks Figshare while the program waits, for it must hear of a refusal;
every other change of a name is local and instant (``settling.py`` carries it out).
"""

from __future__ import annotations

import errno
import logging
import math
import os
import stat
from collections.abc import Awaitable, Callable

import trio

from figfs.content.lookahead import Lookahead
from figfs.content.openfiles import OpenFiles
from figfs.content.quota import Quota
from figfs.content.renaming import Renaming
from figfs.content.resuming import Resumer
from figfs.content.settling import Settler
from figfs.dotfigshare import directories as dotfigshare
from figfs.dotfigshare.directories import DIRECTORIES, DotFigshare
from figfs.dotfigshare.documentfiles import FIRST as FIRST_DOCUMENT
from figfs.errors import FigfsError
from figfs.figshare.records import Account, Id
from figfs.namespace import naming
from figfs.namespace.listings import Listings
from figfs.namespace.nodes import (
    PUBLIC_ITEMS,
    TO_ARTICLES,
    Container,
    DocumentNode,
    FileNode,
    Kind,
    LinkNode,
    Node,
)
from figfs.namespace.permissions import check, is_fixed, withheld
from figfs.namespace.tree import Tree
from figfs.posix import Attributes, Change, DirectoryEntry, Space
from figfs.terminal import visible
from figfs.verbs.accounts import InstitutionAccounts
from figfs.verbs.containers import Containers
from figfs.verbs.linking import Linking
from figfs.verbs.publicitems import FOUND_BY_NAME, PublicItems
from figfs.verbs.searches import Searches, check_outside
from figfs.verbs.xattrs import ExtendedAttributes
from figfs.writing import tempnames

log = logging.getLogger(__name__)

RENAME_NOREPLACE = 1  # linux/fs.h
SHORT = 1.0  #: seconds for which the kernel may answer for what may change without its doing
UNKNOWN_QUOTA = (
    1 << 50
)  #: 1 PiB, where the account does not tell: file managers refuse to copy to a full disk
LARGEST_QUOTA = 1 << 62  #: what fits the kernel's counters, whatever a server says
LONGEST_LINK = 4095  #: bytes (PATH_MAX)
BLOCK_SIZE = 4096  #: ``f_bsize`` and ``f_frsize``; the unit of ``f_blocks``
PREFERRED_SIZE = 1 << 20  #: ``st_blksize``: what copying programs use as their buffer


class FileSystem:
    """One mount.

    Args:
        dir_timeout: seconds for which a listing, and so what the kernel keeps of it, is fresh.
        uid, gid: owner of everything.
        account_id: whose files are never withheld; None: there is no account.
        umask: taken from 0666 and 0777 where no program has set a mode.
        now_ns: wall clock.
    """

    def __init__(
        self,
        *,
        tree: Tree,
        listings: Listings,
        files: OpenFiles,
        settler: Settler,
        renaming: Renaming,
        containers: Containers,
        linking: Linking,
        searches: Searches,
        resumer: Resumer,
        xattrs: ExtendedAttributes,
        lookahead: Lookahead,
        dot_figshare: DotFigshare,
        public: PublicItems,
        accounts: InstitutionAccounts,
        dir_timeout: float,
        account_id: Id | None,
        quota: Quota,
        uid: int,
        gid: int,
        umask: int,
        now_ns: Callable[[], int],
    ) -> None:
        self._tree = tree
        self._listings = listings
        self.files = files
        self._settler = settler
        self._renaming = renaming
        self._containers = containers
        self.linking = linking
        self._searches = searches
        self._resumer = resumer
        self.xattrs = xattrs
        self._lookahead = lookahead
        self._dot = dot_figshare
        self._documents = dot_figshare.files
        self._public = public
        self._accounts = accounts
        self._dir_timeout = dir_timeout
        self._account_id = account_id
        self._quota = quota
        self._uid = uid
        self._gid = gid
        self._umask = umask
        self._now_ns = now_ns
        self._told: set[str] = set()
        self._directories: dict[int, list[DirectoryEntry]] = {}
        self._next_directory = 1

    # -- attributes ------------------------------------------------------------

    def attributes(self, node: Node) -> Attributes:
        """From memory, always."""
        if isinstance(node, LinkNode):
            mode = stat.S_IFLNK | 0o777
        elif is_fixed(node):
            mode = node.file_type | (0o555 if isinstance(node, Container) else 0o444) & ~self._umask
        elif node.mode is not None:
            mode = node.file_type | node.mode
        else:
            mode = node.file_type | self._permissions(node) & ~self._umask
        mtime = node.mtime_ns if node.mtime_ns is not None else node.remote_time_ns
        if isinstance(node, LinkNode):
            size = len(self._target_of(node))
        else:
            size = 0 if isinstance(node, Container) else node.size
        valid_for = self._valid_for(node)
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
            # An article's new title is another size of the links to it.
            valid_for=SHORT if node.key.kind in TO_ARTICLES else valid_for,
            name_valid_for=0.0 if _may_be_dropped(node) else valid_for,
        )

    def _permissions(self, node: Node) -> int:
        if self._dot.owns(node):
            return self._dot.permissions(node)
        return 0o777 if isinstance(node, Container) else 0o666

    def _valid_for(self, node: Node) -> float:
        """Seconds for which the kernel may answer for ``node`` by itself.

        What Figshare has and nobody here is changing: as long as its listing is fresh, for it would be
        answered from that listing anyway. Else ``SHORT``.
        """
        if isinstance(node, DocumentNode):
            return 0.0  # made when it is looked up: until then nobody knows its size
        parent = node.parent
        if parent is None or node.changed_at == math.inf:
            return SHORT
        if isinstance(node, Container) and node.kind in PUBLIC_ITEMS:
            parent = node  # nothing lists it: how fresh it is itself counts
        if isinstance(node, FileNode) and (
            node.local_size is not None or self._settler.known(node) is not None
        ):
            return SHORT
        status = parent.lister.status
        seen_at = status.seen_at
        if seen_at is None or status.restored_at is not None:
            return SHORT
        return max(SHORT, seen_at + self._dir_timeout - trio.current_time())

    # -- extended attributes ------------------------------------------------------------

    def getxattr(self, inode: int, name: str) -> bytes:
        return self.xattrs.get(self._tree.node(inode), name)

    def listxattr(self, inode: int) -> list[str]:
        return self.xattrs.list(self._tree.node(inode))

    def setxattr(self, inode: int, name: str, value: bytes) -> None:
        node = self._tree.node(inode)
        if self._dot.owns(node):
            raise OSError(errno.EOPNOTSUPP, "no attributes can be set on documents")
        self._check_writable(node)
        self.xattrs.set(node, name, value)

    def removexattr(self, inode: int, name: str) -> None:
        node = self._tree.node(inode)
        self._check_writable(node)
        self.xattrs.remove(node, name)

    def node(self, inode: int) -> Node:
        return self._tree.node(inode)

    async def setattr(self, inode: int, change: Change, handle: int | None) -> Node:
        """Modes and times always succeed and are kept (rsync writes no file where chmod is refused)."""
        if change.size is not None:
            await self.confirm(inode)
        node = self._tree.node(inode)
        self._check_writable(node)
        if change.uid not in (None, self._uid) or change.gid not in (None, self._gid):
            raise OSError(errno.EPERM, "all files belong to the owner of the mount")
        if self._dot.owns(node):
            self._dot.setattr(node, change, handle)
            return node
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
        if isinstance(node, FileNode):
            self._settler.attributes_changed(node)
        return node

    def set_account(self, account: Account) -> None:
        """Newer figures of quota and use."""
        self._quota.heard(account)

    def statfs(self) -> Space:
        """Quota and use of the account, as last heard; what is owed and being written counts as used."""
        total, room = self._quota.total, self._quota.room()
        if total is None or room is None:
            total = UNKNOWN_QUOTA
            room = total - self._quota.used
        total = min(total, LARGEST_QUOTA)
        free = min(max(0, room), total)
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
        if container.kind in DIRECTORIES:
            return await self._dot.lookup(container, name)
        if self._is_dot_figshare(container, name) and (dot := self._dot.directory_of(container)) is not None:
            return dot
        if container.kind is Kind.ACCOUNTS:
            return await self._accounts.look_up(container, name)
        if container.kind in FOUND_BY_NAME:
            return await self._public.look_up(container, name)
        node = self._tree.find(container, name)
        await self._listings.ensure_listed(container, stale_is_fine=node is not None)
        node = self._tree.find(container, name)
        if node is None and await self._listings.confirm(container):
            node = self._tree.find(container, name)
        if node is None:
            raise OSError(errno.ENOENT, f"no {name!r} here")
        return node

    @staticmethod
    def _is_dot_figshare(container: Container, name: str) -> bool:
        """Whether ``name`` stands for the documents there: what Figshare has of that name goes first."""
        return (
            name == dotfigshare.NAME
            and name not in container.children
            and dotfigshare.item_of(container) is not None
        )

    async def confirm(self, inode: int) -> None:
        """Before something in there is changed: what an earlier mount knew of it is compared with Figshare,
        unless that is away.
        """
        node = self._tree.node(inode)
        container = node if isinstance(node, Container) else node.parent
        if container is not None:
            await self._listings.confirm(container)

    def remember(self, node: Node) -> None:
        """The kernel holds one more reference."""
        self._tree.remember(node)

    def forget(self, inode: int, count: int) -> None:
        self._tree.forget(inode, count)

    async def opendir(self, inode: int) -> int:
        """A handle with a snapshot of the directory: nothing comes twice, nothing that stays is left out."""
        container = self._tree.container(inode)
        if container.kind in DIRECTORIES:
            await self._dot.list(container)
        else:
            self._lookahead.opens(container)
            await self._listings.ensure_listed(container)
        number = self._next_directory
        self._next_directory += 1
        entries = [DirectoryEntry(name, node) for name, node in container.children.items()]
        if self._dot.listed and self._is_dot_figshare(container, dotfigshare.NAME):
            dot = self._dot.directory_of(container)
            entries += [DirectoryEntry(dotfigshare.NAME, dot)] if dot is not None else []
        self._directories[number] = entries
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
        target = self._target_of(node)
        if len(target) > LONGEST_LINK:
            raise OSError(errno.ENAMETOOLONG, "a link longer than the system takes")
        return target

    def _target_of(self, node: LinkNode) -> bytes:
        return self._tree.target_of(node).encode("utf-8", "surrogateescape")

    # -- files ------------------------------------------------------------

    def create(self, parent: int, raw_name: bytes, mode: int, pid: int) -> tuple[Node, int]:
        """A new file and a handle of it; local and instant."""
        container = self._tree.container(parent)
        self._check_writable(container)
        name = naming.check_name(raw_name)
        if container.kind in DIRECTORIES:
            return self._dot.create(container, name, mode, pid)
        if self._is_dot_figshare(container, name):
            raise OSError(errno.EEXIST, f"{name!r} exists")
        check_outside(container)
        if container.kind not in (Kind.ARTICLE, Kind.FOLDER):
            raise OSError(errno.EPERM, "files belong into an article: make one with mkdir")
        if tempnames.classify(name).kind is tempnames.Kind.REFUSED:
            raise OSError(errno.EPERM, "no wastebasket here")
        if name in container.children:
            raise OSError(errno.EEXIST, f"{name!r} exists")
        node, handle = self.files.create(container, name, pid)
        self._renaming.adopt(node, container, name)
        if mode & 0o777 != 0o666 & ~self._umask:
            node.mode = mode & 0o7777
        return node, handle

    def _check_writable(self, node: Node) -> None:
        """``OSError`` for what is known to be refused."""
        try:
            check(node)
        except PermissionError as exc:
            self._tell_once(str(exc.strerror))
            raise

    def _tell_once(self, refusal: str) -> None:
        """One line in the log for a project or an article, however many files a program tries."""
        if refusal not in self._told:
            self._told.add(refusal)
            log.warning("%s", refusal)

    def is_document(self, inode: int) -> bool:
        return isinstance(self._tree.node(inode), DocumentNode)

    async def open_document(self, inode: int, flags: int, pid: int) -> int:
        """A handle of a document, made now unless it is known. The kernel is to keep nothing of it."""
        return await self._dot.open(self._tree.node(inode), flags, pid)

    def read(self, number: int, offset: int, size: int) -> Awaitable[bytes | memoryview]:
        if number < FIRST_DOCUMENT:
            return self.files.read(number, offset, size)
        return self._documents.read(number, offset, size)

    def write(self, number: int, offset: int, data: bytes) -> Awaitable[int]:
        return (self.files if number < FIRST_DOCUMENT else self._documents).write(number, offset, data)

    def flush(self, number: int) -> Awaitable[None]:
        return (self.files if number < FIRST_DOCUMENT else self._documents).flush(number)

    async def fsync(self, number: int) -> None:
        """What is written to a document is in memory until its close."""
        if number < FIRST_DOCUMENT:
            await self.files.fsync(number)

    async def release(self, number: int) -> None:
        if number < FIRST_DOCUMENT:
            self.files.release(number)
        else:
            await self._documents.release(number)

    def inode_of(self, number: int) -> int:
        """The inode number of an open handle's file."""
        return (self.files if number < FIRST_DOCUMENT else self._documents).inode_of(number)

    def open(self, inode: int, flags: int, pid: int) -> tuple[int, bool]:
        """A handle, and whether the kernel may keep its pages: a node's bytes change only through this mount,
        but for a version that Figshare has refused.
        """
        node = self._tree.node(inode)
        if not isinstance(node, FileNode):
            raise OSError(errno.EISDIR, "not a file")
        if flags & (os.O_ACCMODE | os.O_TRUNC):
            self._check_writable(node)
        if node.vanished or (node.parent is None and self._settler.known(node) is None):
            raise OSError(errno.ESTALE, "not there any more")  # the kernel looks the name up again then
        if node.stored is not None and node.local_size is None and not node.stored.file.size_known:
            raise OSError(errno.EIO, "the server does not say how large it is")
        if not flags & os.O_TRUNC and (reason := withheld(node, self._account_id)):
            article = node.parent.lister.name if node.parent is not None else node.name
            refusal = f"the files in {visible(article, 200)!r} are another's, and {visible(reason, 200)}"
            self._tell_once(refusal)
            raise OSError(errno.EACCES, refusal)
        return self.files.open(node, flags, pid), self.files.keeps_cache(node)

    async def unlink(self, parent: int, raw_name: bytes) -> None:
        """Remove a name. For a file local and instant; an article's link in a collection leaves it within the
        deadline.
        """
        await self.confirm(parent)
        container = self._tree.container(parent)
        if container.kind in DIRECTORIES:
            await self._dot.unlink(container, naming.check_name(raw_name))
            return
        self._check_writable(self._tree.container(parent))
        node = self._child(parent, raw_name)
        if isinstance(node, Container):
            raise OSError(errno.EISDIR, "a directory: rmdir removes it")
        if node.key.kind in (Kind.FILE, Kind.PENDING, Kind.LINK):
            self._containers.keep_folder(node.parent)
        if isinstance(node, LinkNode):
            await self.linking.unlink(node)
            return
        assert isinstance(node, FileNode)
        self._renaming.unlink(node)

    async def symlink(self, parent: int, raw_name: bytes, raw_target: bytes) -> LinkNode:
        """A member of a collection, or a linked file in an article."""
        container = self._tree.container(parent)
        self._check_writable(container)
        await self.confirm(parent)
        name = naming.check_name(raw_name)
        check_outside(container)
        try:
            target = raw_target.decode()
        except UnicodeDecodeError:
            raise OSError(errno.EINVAL, "what the link says is not UTF-8") from None
        return await self.linking.symlink(container, name, target)

    def _child(self, parent: int, raw_name: bytes) -> Node:
        name = naming.check_name(raw_name)
        node = self._tree.find(self._tree.container(parent), name)
        if node is None:
            raise OSError(errno.ENOENT, f"no {name!r} here")
        return node

    async def mkdir(self, parent: int, raw_name: bytes, mode: int) -> Container:
        """A new article, project or collection on Figshare, or a folder here."""
        await self.confirm(parent)
        container = self._tree.container(parent)
        self._check_writable(container)
        name = naming.check_name(raw_name)
        if container.kind in DIRECTORIES:
            raise OSError(errno.EPERM, "no directories here")
        if self._is_dot_figshare(container, name):
            raise OSError(errno.EEXIST, f"{name!r} exists")
        if container.kind is Kind.SEARCHES:
            node = await self._searches.make(container, name)
        else:
            check_outside(container)
            node = await self._containers.make(container, name)
        if mode & 0o777 != 0o777 & ~self._umask:
            node.mode = mode & 0o7777
            self._tree.save(node)
        return node

    async def rmdir(self, parent: int, raw_name: bytes) -> None:
        """Remove an empty folder, a draft article, an empty project or collection."""
        self._check_writable(self._tree.container(parent))
        node = self._child(parent, raw_name)
        if not isinstance(node, Container):
            raise OSError(errno.ENOTDIR, "not a directory")
        self._check_writable(node)
        if node.kind in DIRECTORIES:
            raise OSError(errno.EPERM, "a part of every mount")
        if node.kind is Kind.QUERY:
            self._searches.forget(node)
            return
        await self._containers.remove(node)

    # -- rename ------------------------------------------------------------

    async def rename(
        self, parent_old: int, raw_old: bytes, parent_new: int, raw_new: bytes, flags: int
    ) -> None:
        """``rename(2)``. For files local and instant; for articles, projects and collections their title."""
        if flags & ~RENAME_NOREPLACE:
            raise OSError(errno.EINVAL, "only RENAME_NOREPLACE")
        await self.confirm(parent_old)
        await self.confirm(parent_new)
        source, container = self._tree.container(parent_old), self._tree.container(parent_new)
        self._check_writable(source)
        self._check_writable(container)
        name = naming.check_name(raw_new)
        if DIRECTORIES & {source.kind, container.kind}:
            old = naming.check_name(raw_old)
            await self._dot.rename(source, old, container, name, replace=not flags & RENAME_NOREPLACE)
            return
        if self._is_dot_figshare(container, name):
            raise OSError(errno.EPERM, "a name of figfs's own")
        node = self._child(parent_old, raw_old)
        self._check_writable(node)
        if isinstance(node, Container) and node.kind in DIRECTORIES:
            raise OSError(errno.EPERM, "a part of every mount")
        if node.key.kind is Kind.QUERY:
            raise OSError(errno.EPERM, "a query is its name: make another one")
        check_outside(source)
        check_outside(container)
        target = self._tree.find(container, name)
        if target is not None and target.name != name:
            raise OSError(errno.EEXIST, f"{name!r} is another name of {target.name!r}")
        if target is node:
            return
        if target is not None and flags & RENAME_NOREPLACE:
            raise OSError(errno.EEXIST, f"{name!r} exists")
        if isinstance(node, Container):
            await self._containers.rename(node, container, name, target)
        elif isinstance(node, FileNode):
            self._rename_file(node, container, name, target)
        elif isinstance(node, LinkNode):
            self._containers.keep_folder(node.parent)
            await self.linking.rename(node, container, name, target)
        else:
            raise OSError(errno.EPERM, "it cannot be renamed")

    def _rename_file(self, node: FileNode, container: Container, name: str, target: Node | None) -> None:
        if container.kind not in (Kind.ARTICLE, Kind.FOLDER):
            raise OSError(errno.EPERM, "files belong into an article")
        if isinstance(target, Container):
            raise OSError(errno.EISDIR, f"{name!r} is a directory")
        self.files.check(node)
        self._containers.keep_folder(node.parent)
        self._renaming.rename(node, container, name, target)
        self.files.renamed(node)

    # -- after the programs ------------------------------------------------------------

    async def drain(self, timeout: float) -> int:
        """Carry out what is owed, for at most ``timeout`` seconds. Returns how many files are owed still."""
        with trio.move_on_after(timeout):
            await self._settler.drain(self.owed)
        return self.owed()

    def owed(self) -> int:
        """How many uploads and deletions Figshare is owed."""
        return self._settler.owed() + self._resumer.owed() + self.linking.owed()


def _may_be_dropped(node: Node) -> bool:
    """Whether its upload may be refused, and the name be gone, or show another size and time, with that.

    If the kernel answered for it any longer, an ``rsync -a`` right after a ``cp -p`` that has failed would
    take the file for done (programs.md §5).
    """
    return isinstance(node, FileNode) and (node.local_size is not None or node.changed_at == math.inf)


def describe(exc: BaseException) -> str:
    """One line for the log."""
    if isinstance(exc, OSError):
        return f"{exc.strerror or exc} ({errno.errorcode.get(exc.errno or 0, '?')})"
    if isinstance(exc, FigfsError):
        return f"{exc} ({errno.errorcode.get(exc.errno, '?')})"
    return repr(exc)
