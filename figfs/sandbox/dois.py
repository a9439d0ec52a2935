"""The DOIs of items: Figshare's own, or of a portal's shape (``10.17028/rd.lboro.123.v2``), or of no shape.

Which one an item gets is its portal's affair: the setting ``doi_stem``, or for a single item the control.
"""

from __future__ import annotations

import json
from typing import Any

from figfs.sandbox.errors import bad_request, not_found
from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Row

#: Where published versions are, by what.
_VERSIONS = {
    "articles": ("versions", "article_id"),
    "collections": ("collection_versions", "collection_id"),
}


def reserved(sandbox: Sandbox, kind: str, row: Row) -> str:
    """The DOI of a draft. ``kind``: articles, collections."""
    given: str = json.loads(row["metadata"]).get("doi_base", "")
    mark = "c." if kind == "collections" else ""
    return given or f"{sandbox.settings.doi_stem}.{mark}{row['id']}"


def published(sandbox: Sandbox, kind: str, row: Row, version: int) -> str:
    """The DOI of a version; one that was given to the item may have none."""
    plain = json.loads(row["metadata"]).get("doi_unversioned", False)
    return reserved(sandbox, kind, row) + ("" if plain else f".v{version}")


def give(sandbox: Sandbox, kind: str, item_id: int, doi: str, *, versioned: bool) -> None:
    """``doi`` is the item's, and was that of its published versions. 404 for no such item."""
    if not doi.startswith("10.") or "/" not in doi:
        raise bad_request("doi: 10.<prefix>/<suffix>")
    row = sandbox.store.row(f"SELECT * FROM {kind} WHERE id = ?", item_id)
    if row is None:
        raise not_found(kind.removesuffix("s"), item_id)
    store, given = sandbox.store, {"doi_base": doi, "doi_unversioned": not versioned}
    versions, key = _VERSIONS[kind]

    def changed(old: Row, version: int) -> dict[str, Any]:
        new = old | {"metadata": json.dumps(json.loads(old["metadata"]) | given)}
        shown = published(sandbox, kind, new, version) if version else new["doi"] and doi
        return new | {"doi": shown}

    with store.transaction():
        for entry in store.rows(f"SELECT * FROM {versions} WHERE {key} = ?", item_id):
            document = json.dumps(changed(json.loads(entry["document"]), entry["version"]))
            store.run(
                f"UPDATE {versions} SET document = ? WHERE {key} = ? AND version = ?",
                document,
                item_id,
                entry["version"],
            )
        new = changed(row, row["version"])
        for table in (kind, f"{kind}_index"):
            store.update(table, item_id, {"doi": new["doi"], "metadata": new["metadata"]})
