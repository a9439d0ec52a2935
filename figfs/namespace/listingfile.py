"""The file in which listings are kept (``listingstore.py``): opened, made, and found to be of use or not."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import sqlite3
from pathlib import Path

import msgspec

from figfs.figshare.records import Account, Id
from figfs.namespace.listingformat import unsealed, version

log = logging.getLogger(__name__)

BUSY_TIMEOUT = 2.0  #: seconds to wait for another process that reads or writes the file

#: What a file that is damaged, or a disk that is full, ends in.
TROUBLE = (sqlite3.Error, ValueError, TypeError, OverflowError)


def prepare(path: Path, account: Id | None) -> str:
    """Make the tables where there are none. Returns why the file is of no use, or ""."""
    database = connect(path)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        with database:
            database.execute("CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value BLOB)")
            meta = dict(database.execute("SELECT name, value FROM meta"))
            if meta.get("version", version()) != version():
                return "it is of another figfs"
            other = _account_in(meta)
            if account is not None and other is not None and other.id != account:
                return "it is of another account"
            database.execute(
                "CREATE TABLE IF NOT EXISTS listings (key TEXT PRIMARY KEY, fetched REAL NOT NULL,"
                " stamp REAL, outdated INTEGER NOT NULL, lasting INTEGER NOT NULL, doi TEXT,"
                " size INTEGER NOT NULL, used INTEGER, contents BLOB NOT NULL)"
            )
            database.execute("CREATE INDEX IF NOT EXISTS by_use ON listings (used, size) WHERE used NOT NULL")
            database.execute("CREATE INDEX IF NOT EXISTS by_doi ON listings (doi) WHERE doi NOT NULL")
            if meta.get("open", _boot()) != _boot():
                log.info("%s: the machine went down while it was in use; only versions are left of it", path)
                database.execute("DELETE FROM listings WHERE NOT lasting")
            for name, value in (("version", version()), ("open", _boot())):
                database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
        return ""
    finally:
        database.close()


def kept_account(path: Path, *, owner: str) -> Account | None:
    """Whose listings are at ``path``, if they were kept with the token of ``owner``."""
    if not path.exists():
        return None
    with contextlib.suppress(*TROUBLE, OSError):
        with contextlib.closing(connect(path)) as database:
            meta = dict(database.execute("SELECT name, value FROM meta"))
        if meta.get("version") == version() and meta.get("owner") == owner.encode():
            return _account_in(meta)
    return None


def _account_in(meta: dict[str, bytes]) -> Account | None:
    with contextlib.suppress(ValueError, TypeError, AttributeError, msgspec.MsgspecError):
        owner = meta.get("owner", b"").decode()
        return msgspec.json.decode(unsealed(meta.get("account", b""), owner), type=Account)
    return None


def owner_of(api: str, token: str) -> str:
    """What is kept of a token, or of a login, to know it again: a hash, which tells nothing of it."""
    return hashlib.blake2b(f"{api}\0{token}".encode(), digest_size=16, person=b"figfs listings").hexdigest()


def connect(path: Path) -> sqlite3.Connection:
    """Of any thread."""
    database = sqlite3.connect(path, timeout=BUSY_TIMEOUT, check_same_thread=False)
    database.execute("PRAGMA synchronous=NORMAL")
    return database


def _boot() -> str:
    """Of this start of the machine. After a power cut the last rows may be missing, also those that say
    "outdated".
    """
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def unlink(path: Path) -> None:
    """Without a trace. No error."""
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(OSError):
            path.with_name(path.name + suffix).unlink()
