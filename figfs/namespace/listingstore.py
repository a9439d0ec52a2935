"""Listings on disk, in SQLite in the state directory: a remount shows the tree at once, also offline.

A cache: what is corrupt, of another figfs or from before a power cut is thrown away with a line in the log,
and trouble with the disk ends the keeping, never the mount. Versions that never change outlive a power cut.
Own listings are as many as the account has; of public items those looked at longest ago go, from
``MOST_PUBLIC`` bytes on. Reading is one row by its key (0.1 ms, from the
page cache), in the event loop; writing is done behind, in a thread, many rows a transaction. ``outdate``
alone is waited for: it is committed before Figshare hears of the change that makes a listing wrong.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import trio

from figfs.figshare.records import Account, Id
from figfs.namespace import identifiers, naming
from figfs.namespace.listingfile import TROUBLE, connect, prepare, unlink
from figfs.namespace.listingformat import KEPT, decode, doi_of, encode, sealed
from figfs.namespace.nodes import PUBLIC_ITEMS, Key, Kind
from figfs.namespace.sources import Contents

log = logging.getLogger(__name__)

PAUSE = 0.3  #: seconds between batches of rows
MOST_PUBLIC = 64 << 20  #: bytes of listings of public items; one of a few files has four thousand


class Kept(NamedTuple):
    """A listing as it was fetched."""

    contents: Contents
    fetched: float  #: wall clock, POSIX seconds
    stamp: float | None  #: when the container had last been modified then, by Figshare
    outdated: bool = False  #: this machine has changed something in there since
    lasting: bool = False  #: it can never change: all of a version


@dataclasses.dataclass(slots=True)
class _Batch:
    """What is to be written."""

    puts: dict[str, Kept] = dataclasses.field(default_factory=dict)
    outdated: set[str] = dataclasses.field(default_factory=set)
    gone: set[str] = dataclasses.field(default_factory=set)
    used: dict[str, None] = dataclasses.field(default_factory=dict)  #: public items, the last one last
    account: Account | None = None
    done: trio.Event = dataclasses.field(default_factory=trio.Event)


class ListingStore:
    """The kept listings of one account. Made by ``open_listing_store``; ``run`` has to run."""

    def __init__(self, path: Path, *, owner: str) -> None:
        self._path = path
        self._owner = owner
        self._reader = connect(path)
        self._writer = connect(path)
        self._known = _names(self._reader)
        self._next = _Batch()
        self._writing = _Batch()
        self._wake = trio.Event()
        self._urgent = trio.Event()
        self._broken = False

    def get(self, key: Key) -> Kept | None:
        """What is kept of a container, or None. To ask for a public item is to use it."""
        name = str(key)
        if key.kind in PUBLIC_ITEMS and name in self._known:
            self._next.used.pop(name, None)
            self._next.used[name] = None
            self._wake.set()
        outdated = False
        for batch in (self._next, self._writing):
            outdated = outdated or name in batch.outdated
            if name in batch.puts:
                kept = batch.puts[name]
                return kept._replace(outdated=kept.outdated or outdated)
            if name in batch.gone:
                return None
        if self._broken or name not in self._known:
            return None
        try:
            row = self._reader.execute(
                "SELECT contents, fetched, stamp, outdated, lasting FROM listings WHERE key = ?", (name,)
            ).fetchone()
            if row is None:
                return None
            _, fetched, stamp, outdated_there, lasting = row
            contents = decode(row[0], _row(name, fetched, stamp, bool(lasting)))
            return Kept(contents, fetched, stamp, bool(outdated_there) or outdated, bool(lasting))
        except (ValueError, TypeError, KeyError, msgspec.MsgspecError) as exc:
            log.warning("the kept listing of %s is damaged, and is not used: %s", name, exc)
            self._next.gone.add(name)
            self._wake.set()
        except sqlite3.Error as exc:
            self._give_up(exc)
        return None

    def collections(self) -> set[Key]:
        """The collections whose listings are kept."""
        return {Key(Kind.COLLECTION, _id(text)) for text in self._ids("collection:")}

    def versions(self, article_id: Id) -> list[int]:
        """The versions of a public article that are kept, ascending."""
        found = map(identifiers.parse_reference, self._ids(f"public_article:{article_id}.v"))
        return sorted(version for reference in found if reference and (version := reference.version))

    def _ids(self, prefix: str) -> list[str]:
        """The ids in keys that begin so."""
        names = (self._known | self._writing.puts.keys() | self._next.puts.keys()) - self._gone()
        return [name.partition(":")[2] for name in names if name.startswith(prefix)]

    def with_doi(self, doi: str) -> set[Key]:
        """Public items that had this DOI (``identifiers.base_of``, not "") when they were kept."""
        found = {
            name
            for batch in (self._writing, self._next)
            for name, kept in batch.puts.items()
            if doi_of(kept.contents) == doi
        }
        if not self._broken:
            try:
                rows = self._reader.execute("SELECT key FROM listings WHERE doi = ?", (doi,))
                found.update(name for (name,) in rows if isinstance(name, str))
            except TROUBLE as exc:
                self._give_up(exc)
        return {key for name in found - self._gone() if (key := _public_key(name)) is not None}

    def _gone(self) -> set[str]:
        """What is forgotten, though it may be on the disk still."""
        return (self._writing.gone | self._next.gone) - self._next.puts.keys()

    def put(self, key: Key, kept: Kept) -> None:
        """Keep a listing, soon; what it does not hold any more is forgotten with it."""
        if self._broken or key.kind not in KEPT:
            return
        name = str(key)
        self._next.puts[name] = kept
        self._next.outdated.discard(name)
        self._next.gone.discard(name)
        self._wake.set()

    def drop(self, key: Key) -> None:
        """Forget a listing, soon: what it was of is not there any more."""
        name = str(key)
        if self._next.puts.pop(name, None) is not None or name in self._known | self._writing.puts.keys():
            self._next.gone.add(name)
            self._wake.set()

    def put_account(self, account: Account) -> None:
        """Keep whose listings these are."""
        self._next.account = account
        self._wake.set()

    async def outdate(self, keys: Iterable[Key]) -> None:
        """On return it is on disk that something in these containers is being changed here."""
        batch, later = self._next, False
        for name in map(str, keys):
            if name in batch.puts:
                batch.puts[name] = batch.puts[name]._replace(outdated=True)
                later = True
            elif name in self._known or name in self._writing.puts:
                batch.outdated.add(name)
                later = True
        if later and not self._broken:
            self._wake.set()
            self._urgent.set()
            await batch.done.wait()

    async def run(self) -> None:
        """Write what is queued, many rows at a time, for ever."""
        while True:
            await self._wake.wait()
            with trio.move_on_after(PAUSE):
                await self._urgent.wait()
            batch = self._take()
            try:
                self._known = await trio.to_thread.run_sync(self._write, batch)
            except TROUBLE as exc:
                self._give_up(exc)
            finally:
                self._writing = _Batch()
                batch.done.set()

    def _take(self) -> _Batch:
        self._wake, self._urgent = trio.Event(), trio.Event()
        self._writing, self._next = self._next, _Batch()
        return self._writing

    def close(self) -> None:
        """Write what is left. No error."""
        try:
            if not self._broken:
                self._write(self._take())
                with self._writer:
                    self._writer.execute("DELETE FROM meta WHERE name = 'open'")
        except TROUBLE as exc:
            self._give_up(exc)
        finally:
            self._reader.close()
            self._writer.close()

    def _write(self, batch: _Batch) -> set[str]:
        """One transaction, in a thread; returns the keys there are."""
        if self._broken:
            return set()
        with self._writer as database:
            for name in batch.gone:
                database.execute("DELETE FROM listings WHERE key = ?", (name,))
            for name in batch.outdated:
                database.execute("UPDATE listings SET outdated = 1 WHERE key = ?", (name,))
            for name in batch.used:
                database.execute(f"UPDATE listings SET used = ({_NEXT_USE}) WHERE key = ?", (name,))
            for name, kept in batch.puts.items():
                self._write_listing(name, kept)
            if any(name.startswith(_PUBLIC) for name in batch.puts):
                self._make_room()
            if batch.account is not None:
                account = sealed(msgspec.json.encode(batch.account), self._owner)
                for what, value in (("owner", self._owner.encode()), ("account", account)):
                    database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (what, value))
        return _names(self._writer)

    def _write_listing(self, name: str, kept: Kept) -> None:
        before = self._children(name)
        try:
            data = encode(kept.contents, _row(name, kept.fetched, kept.stamp, kept.lasting))
        except (ValueError, OverflowError, TypeError) as exc:
            log.debug("the listing of %s is not kept: %s", name, exc)
            self._writer.execute("DELETE FROM listings WHERE key = ?", (name,))
            return
        public = name.startswith(_PUBLIC)
        self._writer.execute(
            "INSERT OR REPLACE INTO listings"
            " (key, fetched, stamp, outdated, lasting, doi, size, used, contents)"
            f" VALUES (?, ?, ?, ?, ?, ?, ?, {f'({_NEXT_USE})' if public else 'NULL'}, ?)",
            (
                name,
                kept.fetched,
                kept.stamp,
                kept.outdated,
                kept.lasting,
                doi_of(kept.contents) or None if public else None,
                len(data),
                data,
            ),
        )
        for child in before - {str(entry.key) for entry in kept.contents.entries}:
            self._remove(child)

    def _make_room(self) -> None:
        """Of public items no more than ``MOST_PUBLIC`` bytes: the least recently used go."""
        (used,) = self._writer.execute("SELECT sum(size) FROM listings WHERE used NOT NULL").fetchone()
        excess = (used or 0) - MOST_PUBLIC
        if excess <= 0:
            return
        for name, size in self._writer.execute(
            "SELECT key, size FROM listings WHERE used NOT NULL ORDER BY used"
        ).fetchall():
            if excess <= 0:
                break
            self._writer.execute("DELETE FROM listings WHERE key = ?", (name,))
            excess -= size

    def _remove(self, name: str) -> None:
        for child in self._children(name):
            self._remove(child)
        self._writer.execute("DELETE FROM listings WHERE key = ?", (name,))

    def _children(self, name: str) -> set[str]:
        """The containers in a kept listing, which have listings of their own."""
        if name.startswith(("article:", *_PUBLIC)):
            return set()
        row = self._writer.execute(
            "SELECT contents, fetched, stamp, lasting FROM listings WHERE key = ?", (name,)
        ).fetchone()
        if row is None:
            return set()
        with contextlib.suppress(ValueError, TypeError, KeyError, msgspec.MsgspecError):
            contents = decode(row[0], _row(name, row[1], row[2], bool(row[3])))
            return {str(entry.key) for entry in contents.entries if entry.key.kind in KEPT}
        return set()

    def _give_up(self, exc: Exception) -> None:
        """Without a trace: what is not up to date must not be found by the next mount."""
        if not self._broken:
            log.warning("listings are not kept on disk any more: %s: %s", self._path, exc)
            self._broken = True
            unlink(self._path)


@contextlib.contextmanager
def open_listing_store(path: Path, *, owner: str, account: Id | None = None) -> Iterator[ListingStore | None]:
    """Open (or make) the store at ``path``; None, with a line in the log, where there can be none.

    ``owner``: tells tokens, or logins, apart (``owner_of``). ``account``: whose listings these are to be;
    those of another account are thrown away.
    """
    store = _open(path, owner, account)
    try:
        yield store
    finally:
        if store is not None:
            store.close()


def _open(path: Path, owner: str, account: Id | None = None) -> ListingStore | None:
    for again in (True, False):
        try:
            reason = prepare(path, account)
            if not reason:
                return ListingStore(path, owner=owner)
        except TROUBLE as exc:
            reason = str(exc)
        log.log(logging.INFO if again else logging.WARNING, "%s is made anew: %s", path, reason)
        unlink(path)
    return None


_PUBLIC = tuple(f"{kind.name.lower()}:" for kind in sorted(PUBLIC_ITEMS))

#: The number of the next use of a public item: a count, for clocks are set back.
_NEXT_USE = "SELECT coalesce(max(used), 0) + 1 FROM listings WHERE used NOT NULL"


def _public_key(name: str) -> Key | None:
    kind, _, text = name.partition(":")
    for each in PUBLIC_ITEMS:
        if each.name.lower() == kind:
            return Key(each, text if each is Kind.PUBLIC_ARTICLE else _id(text))
    return None


def _id(text: str) -> Id:
    number = naming.id_from_name(text)
    return text if number is None else number


def _names(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute("SELECT key FROM listings") if isinstance(name, str)}


def _row(name: str, fetched: float, stamp: float | None, lasting: bool) -> str:
    """What a row says of its contents, which the checksum covers."""
    return repr((name, fetched, stamp, lasting))
