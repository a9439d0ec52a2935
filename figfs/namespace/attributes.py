"""Attributes that Figshare does not keep: times, permission bits, extended attributes and empty folders, in
SQLite in the state directory.

Figshare files have no dates (api.md §0), and ``rsync -a`` sends every file again where times are not kept.
Rows are kept by the node's key, for a stored file its id, so they survive a remount. All of it is read into
memory once: ``getattr`` never waits for a disk.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from figfs.figshare.records import Id
from figfs.namespace.nodes import Container, Key, Kind, Node, empty_file_key, inode_of, is_empty_file


@dataclasses.dataclass(frozen=True, slots=True)
class Saved:
    """What is kept of a node; None where a program has set nothing."""

    mode: int | None = None
    mtime_ns: int | None = None
    atime_ns: int | None = None
    made: bool = False
    inode: int | None = None  #: the number a node was made with, where it is not the one of its key
    xattrs: str = ""  #: extended attributes, as ``encode_xattrs`` writes them
    covers: Id | None = None  #: of an empty file: the stored one that was emptied
    edited: str = ""  #: of a collection: which publication was changed since


class Attributes:
    """The table. Open it with ``open_attributes``; every change is one small transaction (about 50 µs in WAL
    mode).
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._in_transaction = False
        self._rows: dict[str, Saved] = {}
        for key, mode, mtime_ns, atime_ns, made, inode, xattrs, covers, edited in database.execute(
            "SELECT key, mode, mtime_ns, atime_ns, made, inode, xattrs, covers, edited FROM attributes"
        ):
            self._rows[key] = Saved(mode, mtime_ns, atime_ns, bool(made), inode, xattrs, covers, edited)

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[None]:
        """All changes in the block are one; no await inside. Blocks nest.

        ``durable``, of the outermost block: it is on the disk when that ends. Else a power cut may cost it,
        the death of the process never.
        """
        if self._in_transaction:
            yield
            return
        if durable:
            self._database.execute("PRAGMA synchronous=FULL")
        self._in_transaction = True
        try:
            with self._database:
                yield
        finally:
            self._in_transaction = False
            if durable:
                self._database.execute("PRAGMA synchronous=NORMAL")

    def apply(self, node: Node) -> None:
        """Give a node that has just been made what was kept for its key."""
        saved = self._rows.get(str(node.key))
        if saved is None:
            return
        node.mode, node.mtime_ns, node.atime_ns = saved.mode, saved.mtime_ns, saved.atime_ns
        node.xattrs = decode_xattrs(saved.xattrs)
        if isinstance(node, Container):
            node.made, node.edited = saved.made, saved.edited

    def save(self, node: Node) -> None:
        """Keep what a program has set on ``node``; nothing for a pending file, whose key means nothing
        tomorrow.
        """
        unkept = node.key.kind is Kind.PENDING and not is_empty_file(node.key)
        if unkept or node.key.kind is Kind.HELD_LINK:
            return
        made, edited = (node.made, node.edited) if isinstance(node, Container) else (False, "")
        inode = None if node.inode == inode_of(node.key) else node.inode
        xattrs = encode_xattrs(node.xattrs)
        saved = Saved(node.mode, node.mtime_ns, node.atime_ns, made, inode, xattrs, edited=edited)
        self.keep(node.key, saved)

    def keep(self, key: Key, saved: Saved) -> None:
        """Keep ``saved`` for ``key``; costs nothing where nothing changes."""
        if saved == self._rows.get(str(key), Saved()):
            return
        # Of an empty file this is all that there is.
        durable = is_empty_file(key) and str(key) not in self._rows
        self._rows[str(key)] = saved
        with self.transaction(durable=durable):
            self._database.execute(
                "INSERT OR REPLACE INTO attributes"
                " (key, mode, mtime_ns, atime_ns, made, inode, xattrs, covers, edited)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (str(key), *dataclasses.astuple(saved)),
            )

    def drop(self, key: Key) -> None:
        """Forget what was kept for ``key`` (it was deleted); no error if nothing was."""
        if self._rows.pop(str(key), None) is not None:
            with self.transaction():
                self._database.execute("DELETE FROM attributes WHERE key = ?", (str(key),))

    def inode(self, key: Key) -> int | None:
        """The inode number that ``key`` had before, if it is not its own."""
        saved = self._rows.get(str(key))
        return saved.inode if saved is not None else None

    def empty_files(self, article_id: Id) -> list[str]:
        """Paths of the empty files in an article: Figshare cannot store them."""
        prefix = str(empty_file_key(article_id, ""))
        return [key[len(prefix) :] for key in self._rows if key.startswith(prefix)]

    def covered(self, key: Key) -> Id | None:
        """The stored file that was emptied, and is kept as ``key``."""
        saved = self._rows.get(str(key))
        return saved.covers if saved is not None else None

    def emptied_files(self, article_id: Id) -> dict[Key, Key]:
        """Stored files that were emptied in an article: key there -> key of what is kept."""
        kept = [empty_file_key(article_id, path) for path in self.empty_files(article_id)]
        return {Key(Kind.FILE, covers): key for key in kept if (covers := self.covered(key)) is not None}

    def made(self, kind: Kind) -> list[str]:
        """The ids of what was made here of that kind."""
        prefix = str(Key(kind, ""))
        return [
            key[len(prefix) :] for key, saved in self._rows.items() if saved.made and key.startswith(prefix)
        ]

    def folders_made(self, article_id: Id) -> list[str]:
        """Paths of the folders made here in an article: they exist though Figshare has no file in them."""
        prefix = str(Key(Kind.FOLDER, f"{article_id}/"))
        return [
            key[len(prefix) :] for key, saved in self._rows.items() if saved.made and key.startswith(prefix)
        ]


def encode_xattrs(xattrs: Mapping[str, bytes]) -> str:
    """As text, to be kept; "" for none."""
    if not xattrs:
        return ""
    return json.dumps({name: base64.b64encode(value).decode() for name, value in sorted(xattrs.items())})


def decode_xattrs(text: str) -> dict[str, bytes]:
    """What ``encode_xattrs`` was given."""
    if not text:
        return {}
    return {name: base64.b64decode(value) for name, value in json.loads(text).items()}


@contextmanager
def open_attributes(path: Path) -> Iterator[Attributes]:
    """Open (and make, the first time) the table at ``path``."""
    database = sqlite3.connect(path)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        # NORMAL: a power cut may cost the last times set, never the table; the journal of uploads is
        # stricter, and so is ``transaction`` where it must be.
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute(
            "CREATE TABLE IF NOT EXISTS attributes (key TEXT PRIMARY KEY, mode INTEGER, mtime_ns INTEGER,"
            " atime_ns INTEGER, made INTEGER NOT NULL DEFAULT 0, inode INTEGER,"
            " xattrs TEXT NOT NULL DEFAULT '', covers, edited TEXT NOT NULL DEFAULT '') WITHOUT ROWID"
        )
        columns = [row[1] for row in database.execute("PRAGMA table_info(attributes)")]
        if "xattrs" not in columns:  # from an older figfs
            database.execute("ALTER TABLE attributes ADD COLUMN xattrs TEXT NOT NULL DEFAULT ''")
        if "covers" not in columns:
            database.execute("ALTER TABLE attributes ADD COLUMN covers")
        if "edited" not in columns:
            database.execute("ALTER TABLE attributes ADD COLUMN edited TEXT NOT NULL DEFAULT ''")
        yield Attributes(database)
    finally:
        database.close()
