"""The journal: uploads that are owed, in SQLite, durable before ``close()`` returns 0.

A row is written when a file is sealed, and deleted when Figshare has it and what it replaces is deleted.
After a crash the rows are what the next mount owes. A row is in one of two states: ``owed`` (it will be tried
until it is done) or ``parked`` (Figshare has refused it for good; its bytes stay in the spool until a person
decides).
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from figfs.figshare.records import Id

SCHEMA_VERSION = 1


@dataclasses.dataclass(slots=True)
class Upload:
    """One upload that is owed. ``row`` is its number in the journal; changes are written by the methods of
    ``Journal``.
    """

    row: int
    article_id: Id
    folder: str  #: folder path inside the article, without slashes at the ends
    name: str  #: the name Figshare gets
    size: int
    md5: str
    spool_name: str  #: file in the spool directory
    mode: int | None = None
    mtime_ns: int | None = None
    file_id: Id | None = None  #: what Figshare calls it, once it is announced
    replaces: dict[Id, Id] = dataclasses.field(
        default_factory=dict
    )  #: stored file -> article, deleted afterwards
    sent: bool = False  #: Figshare has all parts
    #: It may have been announced without our knowing the id. Not kept: of every row from before it is true.
    look_first: bool = dataclasses.field(default=False, compare=False)
    parked: str = ""  #: why it was refused for good; "" while it is owed


class Journal:
    """The table. Every method commits before it returns (synchronous=FULL: it is on the disk)."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def add(self, upload: Upload) -> Upload:
        """Write a new row; returns ``upload`` with its number."""
        with self._database:
            cursor = self._database.execute(
                "INSERT INTO uploads (made_at, body) VALUES (?, ?)", (time.time(), _encode(upload))
            )
        assert cursor.lastrowid is not None
        upload.row = cursor.lastrowid
        return upload

    def update(self, upload: Upload) -> None:
        with self._database:
            self._database.execute("UPDATE uploads SET body = ? WHERE row = ?", (_encode(upload), upload.row))

    def move(self, upload: Upload) -> None:
        """The upload has another name now: its row becomes the newest, in one transaction.

        For of two rows for one name the newer is what the user has there.
        """
        with self._database:
            self._database.execute("DELETE FROM uploads WHERE row = ?", (upload.row,))
            cursor = self._database.execute(
                "INSERT INTO uploads (made_at, body) VALUES (?, ?)", (time.time(), _encode(upload))
            )
        assert cursor.lastrowid is not None
        upload.row = cursor.lastrowid

    def remove(self, upload: Upload) -> None:
        """Nothing is owed any more: Figshare has it, or the file was deleted here."""
        with self._database:
            self._database.execute("DELETE FROM uploads WHERE row = ?", (upload.row,))

    def rows(self) -> list[Upload]:
        """All rows, oldest first."""
        found = self._database.execute("SELECT row, body FROM uploads ORDER BY row").fetchall()
        return [_decode(row, body) for row, body in found]


def _encode(upload: Upload) -> str:
    body = dataclasses.asdict(upload)
    del body["row"], body["look_first"]
    body["replaces"] = list(upload.replaces.items())  # JSON would make every key a string
    return json.dumps(body)


def _decode(row: int, text: str) -> Upload:
    body = json.loads(text)
    body["replaces"] = dict(body["replaces"])
    return Upload(row=row, look_first=True, **body)


@contextmanager
def open_journal(path: Path) -> Iterator[Journal]:
    """Open (and make, the first time) the journal at ``path``. ``ValueError`` if a newer figfs has written
    it.
    """
    database = sqlite3.connect(path)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise ValueError(f"{path} was written by a newer figfs")
        with database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS uploads"
                " (row INTEGER PRIMARY KEY AUTOINCREMENT, made_at REAL NOT NULL, body TEXT NOT NULL)"
            )
            database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        yield Journal(database)
    finally:
        database.close()
