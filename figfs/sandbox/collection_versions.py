"""Collections as they were published: what is changed after that, nobody else sees until the next version
(api.md §5).
"""

from __future__ import annotations

import json

from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Row


def members(sandbox: Sandbox, collection_id: int) -> list[int]:
    """The ids of its articles as its owner sees them, in the order they were added."""
    rows = sandbox.store.rows(
        "SELECT article_id FROM collection_articles WHERE collection_id = ? ORDER BY position", collection_id
    )
    return [row["article_id"] for row in rows]


def keep(sandbox: Sandbox, row: Row) -> None:
    """``row`` is published as its ``version``."""
    document = json.dumps(row | {"articles": members(sandbox, row["id"])})
    sandbox.store.run(
        "INSERT OR REPLACE INTO collection_versions VALUES (?, ?, ?)", row["id"], row["version"], document
    )


def as_published(sandbox: Sandbox, row: Row) -> Row:
    """``row`` in its ``version``, with the ids of its ``articles``: as it is now, where that was not kept (a
    folder of an earlier figfs).
    """
    document = sandbox.store.value(
        "SELECT document FROM collection_versions WHERE collection_id = ? AND version = ?",
        row["id"],
        row["version"],
    )
    if document is None:
        return row | {"articles": members(sandbox, row["id"])}
    found: Row = json.loads(document)
    return found
