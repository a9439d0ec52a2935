"""The journal: what Figshare is owed, in SQLite, durable before ``close()`` and its like return 0.

A row is an upload (new content, or the move of a stored file) or a deletion. It is written before the program
is told that all is well, and removed when Figshare has, or has no more, what it is about. After a crash the
rows are what the next mount owes. How far a row has come is its ``State``; ``Journal.advance`` is the only
place where that changes.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import sqlite3
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from errno import EIO, ENOSPC
from pathlib import Path
from types import MappingProxyType
from typing import Any

from figfs.figshare.records import Id

SCHEMA_VERSION = 4  #: ``PRAGMA user_version``: the number of the last migration


class State(enum.StrEnum):
    """How far a row has come. The values are on disk: never rename."""

    WAITING = "waiting"  #: within its grace, or held under a temporary name: Figshare has not been asked
    OWED = "owed"  #: to be carried out; perhaps announced, if an answer was lost
    ANNOUNCED = "announced"  #: ``file_id`` is known; parts are on their way
    SENT = "sent"  #: Figshare has all parts; completion and verification are under way
    STORED = "stored"  #: verified; what it replaces is still to be deleted
    PARKED = "parked"  #: refused for good, for ``reason``; waits for a person


#: Which state may follow which. A row is also removed from any of them.
TRANSITIONS: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.WAITING: frozenset({State.OWED, State.PARKED}),
        State.OWED: frozenset({State.ANNOUNCED, State.PARKED}),
        # To STORED: a crash came between the completion and the row; to OWED: taken back, or begun anew.
        State.ANNOUNCED: frozenset({State.OWED, State.SENT, State.STORED, State.PARKED}),
        State.SENT: frozenset({State.OWED, State.STORED, State.PARKED}),
        State.STORED: frozenset({State.OWED}),  # taken back: it was dropped in the last moment
        State.PARKED: frozenset({State.OWED}),
    }
)


#: Lost in a power cut, these are found out by asking Figshare.
FOUND_OUT_AGAIN = frozenset({State.SENT, State.STORED})


@dataclasses.dataclass(slots=True)
class Upload:
    """A file that Figshare is to have at a place. ``row`` is its number; changes are written by ``Journal``.

    With ``source`` it is a *move*: the content is that stored file's, there is no spool file, and parts are
    streamed from it. ``source`` is in ``replaces`` too, so it goes once the new file is verified.
    """

    row: int
    article_id: Id
    folder: str  #: folder path inside the article, without slashes at the ends
    name: str  #: the name Figshare gets
    size: int
    md5: str  #: "" for a move of a file whose MD5 Figshare does not tell: it must be fetched first
    spool_name: str  #: file in the spool directory; "" for a move
    mode: int | None = None
    mtime_ns: int | None = None
    xattrs: str = ""  #: extended attributes, as text that only who reads them understands
    file_id: Id | None = None  #: what Figshare calls it, once it is announced
    #: Stored file -> its article, deleted once this one is verified.
    replaces: dict[Id, Id] = dataclasses.field(default_factory=dict)
    #: It may have been announced without our knowing the id. Not kept: of every row from before it is true.
    look_first: bool = dataclasses.field(default=False, compare=False)
    state: State = State.OWED
    reason: str = ""  #: why it is parked
    made_at: float = 0.0  #: wall clock, seconds; set by ``Journal.add``
    due: float = 0.0  #: wall clock: when WAITING is over
    source: Id | None = None
    source_article: Id | None = None
    source_folder: str = ""
    source_name: str = ""
    shown_as: str = ""  #: its temporary name here, where that is not ``name``
    #: Nobody wants it any more: what Figshare has of it is taken back, then the row goes.
    dropped: bool = False

    @property
    def sent(self) -> bool:
        """Figshare has all parts."""
        return self.state in (State.SENT, State.STORED)

    @property
    def parked(self) -> str:
        """Why it was refused for good; "" while it is owed."""
        return self.reason if self.state is State.PARKED else ""


@dataclasses.dataclass(slots=True)
class Deletion:
    """A stored file that Figshare is to delete: WAITING until ``due``, then OWED; PARKED if refused.

    With ``url`` it is a linked file, which led there, and made room for another one (``linkedfiles.py``):
    unless that has come, it is to be put back.
    """

    row: int
    article_id: Id
    file_id: Id
    due: float = 0.0  #: wall clock, seconds
    name: str = ""
    folder: str = ""
    state: State = State.OWED
    reason: str = ""
    made_at: float = 0.0  #: wall clock, seconds; set by ``Journal.add_deletion``
    url: str = ""


class Journal:
    """The table. Every method commits before it returns (synchronous=FULL: it is on the disk), unless it is
    called in a ``transaction``. Raises ``OSError`` if the disk does not take it; nothing changed then.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._depth = 0

    @contextmanager
    def transaction(self, *, durable: bool = True) -> Iterator[None]:
        """What is written within is on the disk together, or not at all. No await inside; may be nested.

        Not ``durable``: it survives the end of this process, but comes to the disk with the next one that is,
        or later: each fsync is one to twenty milliseconds in which the loop stands still.
        """
        if self._depth == 0:
            self._execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._execute("BEGIN IMMEDIATE")
        self._depth += 1
        try:
            yield
            if self._depth == 1:
                self._execute("COMMIT")
        except BaseException:
            if self._depth == 1 and self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise
        finally:
            self._depth -= 1

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        try:
            return self._database.execute(statement, values)
        except sqlite3.Error as exc:
            number = ENOSPC if exc.sqlite_errorcode == sqlite3.SQLITE_FULL else EIO
            raise OSError(number, f"the journal cannot be written: {exc}") from exc

    def add(self, upload: Upload) -> Upload:
        """Write a new row, in the state it has; returns ``upload`` with its number and time."""
        self._insert(upload)
        return upload

    def add_deletion(self, deletion: Deletion) -> Deletion:
        """Write a new row, in the state it has; returns ``deletion`` with its number and time."""
        self._insert(deletion)
        return deletion

    def advance(self, row: Upload | Deletion, state: State, **changes: Any) -> None:
        """``row`` is in ``state`` now, and its fields ``changes`` are changed with that. The only way to
        another state. ``ValueError`` for one that does not follow (``TRANSITIONS``).
        """
        if state not in TRANSITIONS[row.state]:
            raise ValueError(f"row {row.row} ({row.state}) cannot become {state}")
        if state is not State.PARKED:
            changes["reason"] = ""
        with self.transaction(durable=state not in FOUND_OUT_AGAIN):
            self._write(dataclasses.replace(row, state=state, **changes))
        row.state = state
        for name, value in changes.items():
            setattr(row, name, value)

    def update(self, row: Upload | Deletion) -> None:
        """Write what the caller has changed of ``row``, in the state it has."""
        self._write(row)

    def remove(self, row: Upload | Deletion) -> None:
        """Nothing is owed any more. No error if the row has gone already."""
        with self.transaction(durable=False):
            self._execute("DELETE FROM owed WHERE row = ?", (row.row,))

    def uploads(self) -> list[Upload]:
        """All uploads, oldest first."""
        return [row for row in _read(self._database) if isinstance(row, Upload)]

    def parked(self) -> list[Upload]:
        """The uploads that were refused for good, oldest first."""
        found = _read(self._database, "WHERE kind = 'upload' AND state = 'parked'")
        return [row for row in found if isinstance(row, Upload)]

    def deletions(self) -> list[Deletion]:
        """All deletions, oldest first."""
        return [row for row in _read(self._database) if isinstance(row, Deletion)]

    def _insert(self, row: Upload | Deletion) -> None:
        made_at = row.made_at or time.time()
        with self.transaction():
            cursor = self._execute(
                "INSERT INTO owed (made_at, kind, state, body) VALUES (?, ?, ?, ?)",
                (made_at, _kind(row), row.state, _encode(row)),
            )
        assert cursor.lastrowid is not None
        row.row, row.made_at = cursor.lastrowid, made_at

    def _write(self, row: Upload | Deletion) -> None:
        with self.transaction():
            self._execute(
                "UPDATE owed SET state = ?, body = ? WHERE row = ?", (row.state, _encode(row), row.row)
            )


def _kind(row: Upload | Deletion) -> str:
    return "upload" if isinstance(row, Upload) else "deletion"


def _encode(row: Upload | Deletion) -> str:
    body = dataclasses.asdict(row)
    for column in ("row", "state", "made_at", "look_first"):
        body.pop(column, None)
    if isinstance(row, Upload):
        body["replaces"] = list(row.replaces.items())  # JSON would make every key a string
    return json.dumps(body)


def _read(database: sqlite3.Connection, where: str = "") -> list[Upload | Deletion]:
    found = database.execute(f"SELECT row, made_at, kind, state, body FROM owed {where} ORDER BY row")
    return [_decode(*columns) for columns in found.fetchall()]


def _decode(row: int, made_at: float, kind: str, state: str, text: str) -> Upload | Deletion:
    body = json.loads(text)
    if kind == "deletion":
        return Deletion(row=row, made_at=made_at, state=State(state), **body)
    body["replaces"] = dict(body["replaces"])
    before = State(state)
    return Upload(row=row, made_at=made_at, state=before, look_first=before is not State.WAITING, **body)


# -- opening, and older versions ------------------------------------------------------------


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Open (and make, the first time) the journal at ``path``; one of an older figfs is brought up to date.
    ``ValueError`` if a newer figfs has written it.
    """
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        journal = Journal(database)
        with journal.transaction():
            _migrate(database, _version(database, path))
        yield journal


def read_journal(path: Path) -> tuple[list[Upload], list[Deletion]]:
    """What the journal at ``path`` holds, while a mount has it open or without one; nothing if there is none.

    Changes nothing on the disk. ``ValueError`` if a newer figfs has written it; ``sqlite3.Error``
    if it cannot be read.
    """
    if not path.exists():
        return [], []
    with (
        closing(sqlite3.connect(f"file:{urllib.parse.quote(str(path))}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(":memory:", isolation_level=None)) as copy,
    ):
        version = _version(source, path)
        source.backup(copy)
        _migrate(copy, version)
        journal = Journal(copy)
        return journal.uploads(), journal.deletions()


def _version(database: sqlite3.Connection, path: Path) -> int:
    (version,) = database.execute("PRAGMA user_version").fetchone()
    if version > SCHEMA_VERSION:
        raise ValueError(f"{path} was written by a newer figfs")
    return int(version)


def _migrate(database: sqlite3.Connection, version: int) -> None:
    """From any older version to ``SCHEMA_VERSION``; the caller has begun a transaction."""
    if version < 1:
        database.execute(
            "CREATE TABLE IF NOT EXISTS uploads"
            " (row INTEGER PRIMARY KEY AUTOINCREMENT, made_at REAL NOT NULL, body TEXT NOT NULL)"
        )
    if version < 2:
        _to_version_2(database)
    # Since version 3 a row has extended attributes, since version 4 a deletion may have a URL; older rows
    # have none.
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _to_version_2(database: sqlite3.Connection) -> None:
    """States; and deletions in the same table, so that a row's number means one thing for ``figfs retry``."""
    database.execute("ALTER TABLE uploads RENAME TO owed")
    database.execute("ALTER TABLE owed ADD COLUMN kind TEXT NOT NULL DEFAULT 'upload'")
    database.execute("ALTER TABLE owed ADD COLUMN state TEXT NOT NULL DEFAULT 'owed'")
    for row, text in database.execute("SELECT row, body FROM owed").fetchall():
        body = json.loads(text)
        sent, body["reason"] = body.pop("sent"), body.pop("parked")
        if body["reason"]:
            state = State.PARKED
        elif sent:
            state = State.SENT
        else:
            state = State.OWED if body["file_id"] is None else State.ANNOUNCED
        database.execute("UPDATE owed SET state = ?, body = ? WHERE row = ?", (state, json.dumps(body), row))
