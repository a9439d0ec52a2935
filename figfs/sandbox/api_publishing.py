"""Reserving DOIs, and publishing collections (api.md §3, §5). Articles are published in ``articles.py``."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response

from figfs.sandbox import articles, collection_versions, dois, history, search
from figfs.sandbox.api_collections import own as own_collection
from figfs.sandbox.errors import bad_request
from figfs.sandbox.http import json_response, private
from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Row


async def reserve_article_doi(sandbox: Sandbox, request: Request) -> Response:
    row = articles.own(sandbox, request.path_params["article_id"])
    return _reserve(sandbox, "articles", row)


async def reserve_collection_doi(sandbox: Sandbox, request: Request) -> Response:
    row = own_collection(sandbox, request)
    return _reserve(sandbox, "collections", row)


def _reserve(sandbox: Sandbox, kind: str, row: Row) -> Response:
    """An item that has a DOI keeps it (what Figshare answers then: unknown)."""
    doi = dois.reserved(sandbox, kind, row)
    if not row["doi"]:
        with sandbox.store.transaction():
            sandbox.store.update(kind, row["id"], {"doi": doi})
            search.changed(sandbox, kind, row["id"])
    return json_response({"doi": row["doi"] or doi})


async def publish_collection(sandbox: Sandbox, request: Request) -> Response:
    """Make the next public version. 400 names what is missing, as for articles."""
    row = own_collection(sandbox, request)
    metadata = json.loads(row["metadata"])
    missing = [
        name
        for name, value in (
            ("description", row["description"]),
            ("tags", json.loads(row["tags"])),
            ("categories", metadata.get("categories")),
            ("authors", metadata.get("authors")),
            ("articles", collection_versions.members(sandbox, row["id"])),
        )
        if not value
    ]
    if missing:
        raise bad_request("Mandatory fields are missing: " + ", ".join(missing), "MandatoryFieldsMissing")
    version, now = row["version"] + 1, sandbox.clock.stamp()
    changes = {
        "version": version,
        "doi": dois.published(sandbox, "collections", row, version),
        "published": row["published"] or now,
        "modified": now,
    }
    with sandbox.store.transaction():
        sandbox.store.update("collections", row["id"], changes)
        collection_versions.keep(sandbox, row | changes)
        search.changed(sandbox, "collections", row["id"])
        change = "created" if version == 1 else "updated"
        history.record(sandbox.store, "collections", row["id"], change, now)
    location = f"{sandbox.base_url}/v2/collections/{row['id']}"
    return json_response({"location": location}, 201, location=location)


routes = [
    private("/v2/account/articles/{article_id:int}/reserve_doi", "POST", reserve_article_doi),
    private("/v2/account/collections/{collection_id:int}/reserve_doi", "POST", reserve_collection_doi),
    private("/v2/account/collections/{collection_id:int}/publish", "POST", publish_collection),
]
