"""What takes public items from the public: withdrawing them, and an embargo of their files (api.md §6).

Only an institution's staff can do the one, only an owner the other; the sandbox is asked by its control.
"""

from __future__ import annotations

import json

from figfs.sandbox import articles, history
from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Row


def withdraw(sandbox: Sandbox, article_id: int) -> None:
    """The article and its versions are there for nobody but its owner any more. 404 if not public."""
    articles.public_version(sandbox, article_id)
    with sandbox.store.transaction():
        sandbox.store.run("DELETE FROM versions WHERE article_id = ?", article_id)
        sandbox.store.run("DELETE FROM version_files WHERE article_id = ?", article_id)
        sandbox.store.run("UPDATE files SET public = 0 WHERE article_id = ?", article_id)
        for table in ("articles", "articles_index"):  # no list shows what cannot be had
            sandbox.store.update(table, article_id, {"version": 0, "published": None})
        history.record(sandbox.store, "articles", article_id, "deleted", sandbox.clock.stamp())


def embargo_files(sandbox: Sandbox, article_id: int, until: str) -> None:
    """Everybody sees the article, nobody but its owner its files. ``until``: a date; "": for ever."""
    articles.public_version(sandbox, article_id)
    versions = sandbox.store.rows("SELECT version, document FROM versions WHERE article_id = ?", article_id)
    with sandbox.store.transaction():
        for version in versions:
            row: Row = json.loads(version["document"])
            row["metadata"] = json.dumps(json.loads(row["metadata"]) | {"file_embargo": until})
            sandbox.store.run(
                "UPDATE versions SET document = ? WHERE article_id = ? AND version = ?",
                json.dumps(row),
                article_id,
                version["version"],
            )
        metadata = json.loads(sandbox.store.value("SELECT metadata FROM articles WHERE id = ?", article_id))
        embargoed = json.dumps(metadata | {"file_embargo": until})
        sandbox.store.update("articles", article_id, {"metadata": embargoed})
        sandbox.store.run("UPDATE files SET public = 0 WHERE article_id = ?", article_id)
        history.record(sandbox.store, "articles", article_id, "updated", sandbox.clock.stamp())


def hides_files(version: Row) -> bool:
    """Whether the files of a public version, a row as ``articles.public_version`` gives it, are hidden."""
    return "file_embargo" in json.loads(version["metadata"])
