"""Nodes: anything with an inode number, and where its number comes from. No input or output here.

A node is told apart by its ``Key``: what it is and Figshare's id of it. The inode number derives from the
key, so it is the same after a remount (backup tools and ``rsync -H`` compare them). ``tree.py`` owns the
nodes; ``openfiles.py`` and ``filesystem.py`` read and change the fields marked so.
"""

from __future__ import annotations

import enum
import hashlib
import itertools
import math
import random
import stat
from collections.abc import Callable, Iterator
from typing import NamedTuple

from figfs.figshare.records import Account, Article, ArticleDetails, Collection, File, Id, Project
from figfs.namespace import naming

ROOT_INODE = 1


class Kind(enum.IntEnum):
    """What a node is. The value is part of every inode number: never renumber."""

    ROOT = 1
    ARTICLES = 2
    PROJECTS = 3
    COLLECTIONS = 4
    PROJECT = 5
    ARTICLE = 6
    FOLDER = 7
    COLLECTION = 8
    FILE = 9  #: a stored file
    PENDING = 10  #: a file only this machine has yet
    LINK = 11  #: a file Figshare only links to
    MEMBER = 12  #: an article's place in a collection, a symlink
    PUBLIC = 13
    PUBLIC_ARTICLES = 14
    PUBLIC_PROJECTS = 15
    PUBLIC_COLLECTIONS = 16
    DOIS = 17
    DOI_PREFIX = 18
    PUBLIC_ARTICLE = 19  #: anyone's published article, the latest version or one: ``<id>``, ``<id>.v<N>``
    PUBLIC_PROJECT = 20
    PUBLIC_COLLECTION = 21
    PUBLIC_FILE = 22  #: a stored file of a public article: ``<article>/<file>``
    PUBLIC_LINK = 23
    REFERENCE = 24  #: a symlink to an item's place in this mount: a DOI, a version, a public item's member
    DOT_FIGSHARE = 25  #: the unlisted ``.figshare`` of an item, and the directories in it
    DOCUMENT = 26  #: a file that figfs makes, in there
    SEARCHES = 27
    QUERY = 28
    RESULT = 29  #: a symlink to what a query has found
    INSTITUTION = 30
    ACCOUNTS = 31
    ACCOUNT = 32
    HRFEED = 33
    CUSTOM_FIELDS = 34
    CUSTOM_FIELD = 35
    HELD_LINK = 36  #: a symlink under a temporary name, which only this machine has


class Key(NamedTuple):
    """Identity of a node: for a folder the id is ``<article>/<path>``, for a member
    ``<collection>/<article>``.
    """

    kind: Kind
    id: Id

    def __str__(self) -> str:
        return f"{self.kind.name.lower()}:{self.id}"


_ID_BITS = 55  # 8 bits of kind above them; the top bit stays clear, for programs that read ino_t as signed


def inode_of(key: Key) -> int:
    """The inode number that ``key`` has wherever it is free: kind, then the id, or 54 bits of its hash."""
    if key.kind is Kind.ROOT:
        return ROOT_INODE
    if isinstance(key.id, int) and 0 <= key.id < 1 << (_ID_BITS - 1):
        low = key.id
    else:
        digest = hashlib.blake2b(str(key.id).encode("utf-8", "surrogatepass"), digest_size=8).digest()
        low = (int.from_bytes(digest, "big") >> 10) | 1 << (_ID_BITS - 1)
    return (key.kind << _ID_BITS) | low


#: The inode numbers of colleagues' trees are from here on: above all kinds.
FIRST_OF_COLLEAGUES = 1 << 62


def numbering_of(account_id: Id, root: int) -> Callable[[Key], int]:
    """``inode_of`` for the tree of a colleague's account, whose root has the number ``root``: that of its
    place in the tree around it. All else has 62 bits of a hash of account and key, so no two trees share a
    number, and each node has its own again after a remount.
    """

    def number(key: Key) -> int:
        if key.kind is Kind.ROOT:
            return root
        what = f"{account_id}\0{key.kind}\0{key.id}"
        digest = hashlib.blake2b(what.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        return FIRST_OF_COLLEAGUES | int.from_bytes(digest, "big") >> 2

    return number


class Node:
    """One thing with an inode number.

    Invariant: ``parent.children[name] is self`` (or ``parent.unlisted[name]``) while attached; ``parent is
    None`` once detached (removed or replaced), when open handles and the kernel may still hold it.
    """

    __slots__ = (
        "atime_ns",
        "changed_at",
        "ctime_ns",
        "inode",
        "kernel_is_stale",
        "key",
        "lookups",
        "mode",
        "mtime_ns",
        "name",
        "parent",
        "remote_time_ns",
        "vanished",
        "xattrs",
    )

    file_type = stat.S_IFREG

    def __init__(self, key: Key, inode: int) -> None:
        self.key = key
        self.inode = inode
        self.parent: Container | None = None
        self.name = ""
        self.lookups = 0  #: references the kernel holds
        self.mode: int | None = None  #: permission bits a program has set, else None
        self.mtime_ns: int | None = None  #: times a program has set
        self.atime_ns: int | None = None
        self.xattrs: dict[str, bytes] = {}  #: extended attributes a program has set
        self.ctime_ns: int | None = None
        self.remote_time_ns = 0  #: the best date Figshare has for it
        #: Trio's clock when its name or place was last decided here: a listing that began earlier is not
        #: believed about it. Infinite while Figshare does not know of it yet.
        self.changed_at = -math.inf
        self.vanished = False  #: a listing does not show it any more: it was deleted or replaced elsewhere
        self.kernel_is_stale = False  #: the kernel may hold pages of it that are not its content any more

    @property
    def size(self) -> int:
        return 0

    def path(self) -> str:
        """Path below the mount point, for logs."""
        parts: list[str] = []
        node: Node | None = self
        while node is not None and node.key.kind is not Kind.ROOT:
            parts.append(node.name or "?")
            node = node.parent
        return "/" + "/".join(reversed(parts))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key} {self.name!r} inode={self.inode}>"


class Container(Node):
    """What shows as a directory. Its listing belongs to ``lister``: itself, or for a folder its article."""

    __slots__ = (
        "__weakref__", "account", "children", "edited", "local", "made", "record", "status", "unlisted",
        "unshown",
    )  # fmt: skip

    file_type = stat.S_IFDIR

    def __init__(self, key: Key, inode: int) -> None:
        super().__init__(key, inode)
        self.children: dict[str, Node] = {}
        #: Found by name, never listed: ``.figshare``, public items. Nobody who walks the tree meets them.
        self.unlisted: dict[str, Node] = {}
        self.record: Article | ArticleDetails | Project | Collection | None = None
        self.unshown: tuple[File, ...] = ()  #: of an article, beside its children (``sources.Contents``)
        self.account: Account | None = None  #: of the directory that stands for it
        self.status = ListingStatus()
        self.made = False  #: here, and kept: a folder without a file of Figshare's in it, a query
        self.local = False  #: a folder whose files are never uploaded from there (``.~tmp~``)
        #: Of a collection: which publication was changed since (``standing.publication``); "": none, for all
        #: that is known.
        self.edited = ""

    @property
    def kind(self) -> Kind:
        return self.key.kind

    @property
    def lister(self) -> Container:
        node: Container = self
        while node.kind is Kind.FOLDER and node.parent is not None:
            node = node.parent
        return node

    @property
    def folder(self) -> tuple[str, ...]:
        """The folder's path inside its article; empty for the article itself."""
        parts: list[str] = []
        node: Container = self
        while node.kind is Kind.FOLDER and node.parent is not None:
            parts.append(node.name)
            node = node.parent
        return tuple(reversed(parts))

    @property
    def is_published(self) -> bool:
        record = self.record
        return isinstance(record, ArticleDetails) and record.is_public

    def descendants(self) -> Iterator[Node]:
        for child in self.children.values():
            yield child
            if isinstance(child, Container):
                yield from child.descendants()


class ListingStatus:
    """How fresh a container's listing is. Times are Trio's clock, seconds."""

    __slots__ = (
        "date",
        "expired_at",
        "failed_at",
        "failure",
        "listed_at",
        "restored_at",
        "stamp",
        "unchanged_at",
    )

    def __init__(self) -> None:
        self.listed_at: float | None = None  #: start of the request whose answer is shown; None: never listed
        self.date: float | None = None  #: what Figshare's clock was then (POSIX seconds), where it is of use
        self.unchanged_at = -math.inf  #: when it was last known not to have changed since (``freshness.py``)
        self.expired_at = -math.inf  #: a listing that began before this is not fresh, whenever it ends
        self.failed_at: float | None = None
        self.failure: Exception | None = None  #: why the last attempt failed, if it did
        #: When the listing was taken from disk (never, if it was known to be out of date); None: this mount
        #: has it from Figshare, or not at all.
        self.restored_at: float | None = None
        self.stamp: float | None = None  #: then: when it had last been modified

    @property
    def seen_at(self) -> float | None:
        """When what is shown was last known to be what Figshare has; None: never listed."""
        return None if self.listed_at is None else max(self.listed_at, self.unchanged_at)


class Stored(NamedTuple):
    """A stored file, and where Figshare has it: its article's id and its folder path."""

    file: File
    article_id: Id
    folder: str

    @property
    def key(self) -> Key:
        return Key(Kind.LINK if self.file.is_link_only else Kind.FILE, self.file.id)


class FileNode(Node):
    """A regular file: ``stored`` is what Figshare has of it; ``local_size``: other bytes are here."""

    __slots__ = ("emptied_as", "local_size", "replaces", "stored")

    def __init__(self, key: Key, inode: int) -> None:
        super().__init__(key, inode)
        self.stored: Stored | None = None
        self.emptied_as: Key | None = None  #: by which it is kept that it is empty here, and not there
        self.local_size: int | None = None
        self.replaces: list[Stored] = []  #: to be deleted once this file is stored

    @property
    def size(self) -> int:
        if self.local_size is not None:
            return self.local_size
        return self.stored.file.size if self.stored is not None else 0


class LinkNode(Node):
    """A symlink. ``target``: what it says, or, of one to an article, what it says while the tree does not
    know that article (``Tree.target_of``).
    """

    __slots__ = ("stored", "target")

    file_type = stat.S_IFLNK

    def __init__(self, key: Key, inode: int) -> None:
        super().__init__(key, inode)
        self.target = ""
        self.stored: Stored | None = None


class DocumentNode(Node):
    """A file in ``.figshare``: a document, made by figfs when it is asked for, or a scratch file beside it,
    which is in memory only.
    """

    __slots__ = (
        "content",
        "creates",
        "document",
        "failed",
        "handles",
        "made_size",
        "removable",
        "shown_as",
        "writable",
        "written",
        "written_by",
    )

    def __init__(self, key: Key, inode: int) -> None:
        super().__init__(key, inode)
        self.document = ""  #: its path inside ``.figshare``
        self.writable = False
        self.removable = False
        self.shown_as: bytes | None = None  #: digest of the document as it was last made
        self.made_size = 0  #: its bytes then
        self.written: int | None = None  #: bytes, while a program writes it
        self.content: bytearray | None = None  #: of a scratch file; None: a document
        #: Of a scratch file: the process that wrote it last, its parent, and so on (``openers.family_of``).
        self.written_by: tuple[tuple[int, int], ...] = ()
        self.failed: OSError | None = (
            None  #: of a scratch file: why a write failed, so that it is half a file
        )
        self.creates = False  #: of a scratch file: its close makes something on Figshare (a note)
        self.handles = 0

    @property
    def size(self) -> int:
        if self.content is not None:
            return len(self.content)
        return self.written if self.written is not None else self.made_size


def member_id(key: Key) -> Id:
    """The article that a member of a collection, or a result of a search, stands for."""
    text = str(key.id).rpartition("/")[2]
    number = naming.id_from_name(text)
    return text if number is None else number


#: From a random start: a file keeps the inode number it was made with (``Attributes``), so no other mount may
#: use it.
_pending_ids = itertools.count(random.getrandbits(_ID_BITS - 3))


def new_pending_key() -> Key:
    """A key for a file only this machine has, until Figshare has it."""
    return Key(Kind.PENDING, next(_pending_ids))


def empty_file_key(article_id: Id, path: str) -> Key:
    """The key of an empty file, which Figshare cannot store (quirks U17): ``path`` is that inside the
    article.
    """
    return Key(Kind.PENDING, f"{article_id}/{path}")


def is_empty_file(key: Key) -> bool:
    """Whether ``key`` is of an empty file that is kept: other pending files have numbers."""
    return key.kind is Kind.PENDING and isinstance(key.id, str)


CONTAINERS = frozenset(
    {
        Kind.ROOT,
        Kind.ARTICLES,
        Kind.PROJECTS,
        Kind.COLLECTIONS,
        Kind.PROJECT,
        Kind.ARTICLE,
        Kind.FOLDER,
        Kind.COLLECTION,
        Kind.PUBLIC,
        Kind.PUBLIC_ARTICLES,
        Kind.PUBLIC_PROJECTS,
        Kind.PUBLIC_COLLECTIONS,
        Kind.DOIS,
        Kind.DOI_PREFIX,
        Kind.PUBLIC_ARTICLE,
        Kind.PUBLIC_PROJECT,
        Kind.PUBLIC_COLLECTION,
        Kind.DOT_FIGSHARE,
        Kind.SEARCHES,
        Kind.QUERY,
        Kind.INSTITUTION,
        Kind.ACCOUNTS,
        Kind.ACCOUNT,
        Kind.HRFEED,
        Kind.CUSTOM_FIELDS,
        Kind.CUSTOM_FIELD,
    }
)

#: Links to articles wherever those are.
TO_ARTICLES = frozenset({Kind.MEMBER, Kind.RESULT})

LINKS = frozenset({Kind.LINK, Kind.MEMBER, Kind.PUBLIC_LINK, Kind.REFERENCE, Kind.RESULT, Kind.HELD_LINK})


def make_node(key: Key, inode: int) -> Node:
    """The node class that belongs to ``key``."""
    if key.kind in CONTAINERS:
        return Container(key, inode)
    if key.kind in LINKS:
        return LinkNode(key, inode)
    if key.kind is Kind.DOCUMENT:
        return DocumentNode(key, inode)
    return FileNode(key, inode)


#: What shows files and folders: an own article, and anybody's public one.
ARTICLE_KINDS = frozenset({Kind.ARTICLE, Kind.PUBLIC_ARTICLE})

#: What the kinds of items are called, own ones and public ones.
OWN_ITEMS = {Kind.ARTICLE: "article", Kind.PROJECT: "project", Kind.COLLECTION: "collection"}
PUBLIC_ITEMS = {
    Kind.PUBLIC_ARTICLE: "article",
    Kind.PUBLIC_PROJECT: "project",
    Kind.PUBLIC_COLLECTION: "collection",
}

#: What is public, and where it is found: nothing of it is changed here (EROFS).
READ_ONLY = {
    *PUBLIC_ITEMS,
    Kind.PUBLIC,
    Kind.PUBLIC_ARTICLES,
    Kind.PUBLIC_PROJECTS,
    Kind.PUBLIC_COLLECTIONS,
    Kind.DOIS,
    Kind.DOI_PREFIX,
    Kind.PUBLIC_FILE,
    Kind.PUBLIC_LINK,
    Kind.REFERENCE,
}

_PUBLIC_FOLDER = "public/"


def folder_key(article: Key, path: str) -> Key:
    """The key of the folder ``path`` of an article; a public article's are others than those of the same
    article as its owner sees it.
    """
    before = _PUBLIC_FOLDER if article.kind is Kind.PUBLIC_ARTICLE else ""
    return Key(Kind.FOLDER, f"{before}{article.id}/{path}")


def is_read_only(node: Node) -> bool:
    """Whether ``node`` is public, and so cannot be changed here, whatever is done to its name."""
    if node.key.kind is Kind.FOLDER:
        return str(node.key.id).startswith(_PUBLIC_FOLDER)
    return node.key.kind in READ_ONLY
