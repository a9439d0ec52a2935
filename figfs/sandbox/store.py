"""The state of a sandbox: an SQLite database, and how its rows are read and written.

Everything runs in Trio's thread: each statement takes microseconds to milliseconds, and no statement waits
for another. The database is WAL with synchronous=NORMAL: what was answered survives the end of the process,
even by SIGKILL.
"""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]

#: Columns of articles, projects and collections. The search index has the same ones, so that a row can be
#: copied.
_COLUMNS = {
    "articles": """owner INTEGER NOT NULL, project_id INTEGER, title TEXT NOT NULL, description TEXT NOT NULL,
        tags TEXT NOT NULL, defined_type INTEGER NOT NULL, doi TEXT NOT NULL, created TEXT NOT NULL,
        modified TEXT NOT NULL, published TEXT, version INTEGER NOT NULL, edited INTEGER NOT NULL,
        metadata TEXT NOT NULL""",
    "projects": """owner INTEGER NOT NULL, title TEXT NOT NULL, description TEXT NOT NULL,
        tags TEXT NOT NULL, group_id INTEGER, created TEXT NOT NULL, modified TEXT NOT NULL, published TEXT,
        metadata TEXT NOT NULL""",
    "collections": """owner INTEGER NOT NULL, title TEXT NOT NULL, description TEXT NOT NULL,
        tags TEXT NOT NULL, doi TEXT NOT NULL, created TEXT NOT NULL, modified TEXT NOT NULL, published TEXT,
        version INTEGER NOT NULL, metadata TEXT NOT NULL""",
}

_SCHEMA = (
    """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE authors (id INTEGER PRIMARY KEY AUTOINCREMENT, document TEXT NOT NULL);
CREATE TABLE files (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    article_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    folder TEXT NOT NULL,
    size INTEGER NOT NULL,
    link TEXT,                        -- URL of a linked file, else NULL
    supplied_md5 TEXT NOT NULL,
    computed_md5 TEXT NOT NULL,
    status TEXT NOT NULL,             -- created, ic_checking, moving_to_final, available
    token TEXT NOT NULL,              -- of the upload session; '' for linked and seeded files
    part_size INTEGER NOT NULL,
    completed INTEGER NOT NULL,       -- the upload has been completed by the client
    created REAL NOT NULL,
    modified TEXT NOT NULL,
    draft INTEGER NOT NULL,           -- in the article as its owner sees it
    public INTEGER NOT NULL,          -- in a public version
    pattern INTEGER NOT NULL          -- content is made, not stored (blobs.py)
);
CREATE INDEX files_article ON files (article_id);
CREATE INDEX files_token ON files (token);
CREATE TABLE parts (token TEXT, number INTEGER, PRIMARY KEY (token, number)) WITHOUT ROWID;  -- complete ones
CREATE TABLE versions (
    article_id INTEGER, version INTEGER, document TEXT NOT NULL, PRIMARY KEY (article_id, version)
) WITHOUT ROWID;
CREATE TABLE version_files (
    article_id INTEGER, version INTEGER, file_id INTEGER, PRIMARY KEY (article_id, version, file_id)
) WITHOUT ROWID;
CREATE TABLE collection_articles (
    position INTEGER PRIMARY KEY AUTOINCREMENT, collection_id INTEGER NOT NULL, article_id INTEGER NOT NULL,
    UNIQUE (collection_id, article_id)
);
CREATE TABLE grants (  -- codes and tokens of OAuth; only hashes of them
    hash TEXT PRIMARY KEY, kind TEXT NOT NULL, expires REAL
) WITHOUT ROWID;
CREATE TABLE index_queue (kind TEXT, id INTEGER, due REAL NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
"""
    + "".join(
        f"CREATE TABLE {kind} (id INTEGER PRIMARY KEY AUTOINCREMENT, {columns});\n"
        f"CREATE TABLE {kind}_index (id INTEGER PRIMARY KEY, {columns});\n"
        for kind, columns in _COLUMNS.items()
    )
    + """
CREATE INDEX articles_listed ON articles (owner, created, id);
CREATE INDEX articles_project ON articles (project_id);
PRAGMA user_version = 1;
"""
)


#: Tables that sandboxes made by earlier versions lack: made at every opening, where missing.
_ADDED = """
CREATE TABLE IF NOT EXISTS private_links (
    id TEXT PRIMARY KEY,
    token TEXT NOT NULL,              -- the last part of its address
    kind TEXT NOT NULL,               -- articles, collections
    item_id INTEGER NOT NULL,
    expires TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS public_changes (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,               -- articles, projects, collections
    item_id INTEGER NOT NULL,
    change TEXT NOT NULL,             -- created, updated, deleted
    date TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS collection_versions (
    collection_id INTEGER NOT NULL,
    version INTEGER NOT NULL,
    document TEXT NOT NULL,           -- the row as it was published, and the ids of its articles
    PRIMARY KEY (collection_id, version)
);
CREATE TABLE IF NOT EXISTS members (  -- of the institution, beside those that every sandbox has
    number INTEGER PRIMARY KEY,
    first_name TEXT NOT NULL,
    last_name TEXT NOT NULL,
    email TEXT NOT NULL,
    institution_user_id TEXT NOT NULL,
    active INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS project_notes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project_id INTEGER NOT NULL,
    text TEXT NOT NULL,
    created TEXT NOT NULL,
    modified TEXT NOT NULL
);
"""


class Store:
    """The database at ``path``, which is made if missing, or one in memory. ``is_new``: it was made.

    One process at a time: OSError (EBUSY) if another has it open.
    """

    def __init__(self, path: Path | None) -> None:
        self._connection = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=0.1)
        self._connection.row_factory = _as_dict
        self._depth = 0
        try:
            self._connection.executescript(
                "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;"
                "BEGIN EXCLUSIVE; COMMIT;"
            )
        except sqlite3.OperationalError as problem:
            self._connection.close()
            raise OSError(errno.EBUSY, f"{problem}; is another sandbox using it?", str(path)) from None
        self.is_new = self.value("PRAGMA user_version") == 0
        if self.is_new:
            self._connection.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
        self._connection.executescript(f"BEGIN; {_ADDED} COMMIT;")

    def close(self) -> None:
        self._connection.close()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements in the block, or none if it raises. Blocks nest; no await inside."""
        if self._depth:
            yield
            return
        self._depth += 1
        self._connection.execute("BEGIN")
        try:
            yield
        except BaseException:  # whatever it is, half of an act must not stay
            self._connection.execute("ROLLBACK")
            raise
        else:
            self._connection.execute("COMMIT")
        finally:
            self._depth -= 1

    def rows(self, sql: str, *values: object) -> list[Row]:
        return self._connection.execute(sql, values).fetchall()

    def row(self, sql: str, *values: object) -> Row | None:
        found: Row | None = self._connection.execute(sql, values).fetchone()
        return found

    def value(self, sql: str, *values: object) -> Any:
        """The first column of the first row; None without a row."""
        found = self.row(sql, *values)
        return None if found is None else next(iter(found.values()))

    def run(self, sql: str, *values: object) -> int:
        """Carry out one statement. The number of rows it changed."""
        return self._connection.execute(sql, values).rowcount

    def insert_all(self, table: str, rows: Sequence[Row]) -> None:
        """Insert rows that have the same columns."""
        if rows:
            marks = ", ".join(f":{name}" for name in rows[0])
            self._connection.executemany(f"INSERT INTO {table} ({', '.join(rows[0])}) VALUES ({marks})", rows)

    def run_many(self, sql: str, values: Iterable[tuple[object, ...]]) -> None:
        self._connection.executemany(sql, values)

    def insert(self, table: str, values: Row) -> int:
        """Insert a row; its id."""
        names = ", ".join(values)
        marks = ", ".join("?" * len(values))
        cursor = self._connection.execute(
            f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(values.values())
        )
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def update(self, table: str, identifier: int, values: Row) -> None:
        if values:
            names = ", ".join(f"{name} = ?" for name in values)
            self.run(f"UPDATE {table} SET {names} WHERE id = ?", *values.values(), identifier)

    def first_id(self, table: str, identifier: int) -> None:
        """Let the ids of an empty table start here. Ids are never used twice."""
        self.run("DELETE FROM sqlite_sequence WHERE name = ?", table)
        self.run("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", table, identifier - 1)

    def take_ids(self, table: str, count: int) -> range:
        """Ids that nothing else will get."""
        last: int = self.value("SELECT seq FROM sqlite_sequence WHERE name = ?", table)
        self.run("UPDATE sqlite_sequence SET seq = seq + ? WHERE name = ?", count, table)
        return range(last + 1, last + 1 + count)

    def function(self, name: str, arguments: int, function: Any) -> None:
        """Make a Python function usable in SQL."""
        self._connection.create_function(name, arguments, function, deterministic=True)

    def get_meta(self, key: str) -> str | None:
        value: str | None = self.value("SELECT value FROM meta WHERE key = ?", key)
        return value

    def set_meta(self, key: str, value: str) -> None:
        self.run("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", key, value)


def _as_dict(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> Row:
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}
