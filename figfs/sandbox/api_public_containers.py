"""Published projects and collections, as anyone may read them (api.md §6)."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from figfs.sandbox import articles, collection_versions, history, render, search, sharing, validation
from figfs.sandbox.api_articles import filters
from figfs.sandbox.errors import bad_request, not_found
from figfs.sandbox.http import json_object, json_response, private, public
from figfs.sandbox.paging import parse_order, parse_page
from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Row

_ORDERS = {"published_date": "published", "modified_date": "modified", "views": "id"}
#: What only those see who belong to a project.
_OWN = ("role", "storage", "quota", "used_quota", "used_quota_private", "used_quota_public", "group_id")


def _one(sandbox: Sandbox, request: Request, kind: str) -> Row:
    """The published project or collection that the request names; 404 for all others."""
    number = request.path_params[f"{kind}_id"]
    row = sandbox.store.row(f"SELECT * FROM {kind}s WHERE id = ? AND published IS NOT NULL", number)
    if row is None:
        raise not_found(kind, number)
    return row


def _listed(sandbox: Sandbox, given: Any, kind: str) -> list[Row]:
    page = parse_page(given, sandbox.settings)
    order = parse_order(given, _ORDERS, "published_date")
    conditions, values = filters(given)
    if kind == "collection" and "doi" in given:
        conditions.append("doi = ?")
        values.append(validation.text()("doi", given["doi"]))
    search.catch_up(sandbox)
    tests = " AND ".join(["published IS NOT NULL", *conditions])
    return sandbox.store.rows(f"SELECT * FROM {kind}s_index WHERE {tests}" + order + page.sql, *values)


def _project(sandbox: Sandbox, row: Row, *, details: bool) -> dict[str, Any]:
    shown = render.project_details(sandbox, row) if details else render.project(sandbox, row)
    kept = {key: value for key, value in shown.items() if key not in _OWN and key != "account_id"}
    return kept | {"url": f"{sandbox.base_url}/v2/projects/{row['id']}"}


def _collection(sandbox: Sandbox, row: Row, *, details: bool) -> dict[str, Any]:
    """As it was published: what was changed since is its owner's."""
    row = collection_versions.as_published(sandbox, row)
    shown = render.collection_details(sandbox, row) if details else render.collection(sandbox, row)
    kept = {key: value for key, value in shown.items() if key != "account_id"}
    if details:
        kept["group_id"] = kept["group_id"] or 0
    return kept | {"url": f"{sandbox.base_url}/v2/collections/{row['id']}"}


async def list_projects(sandbox: Sandbox, request: Request) -> Response:
    rows = _listed(sandbox, request.query_params, "project")
    return json_response([_project(sandbox, row, details=False) for row in rows])


async def search_projects(sandbox: Sandbox, request: Request) -> Response:
    rows = _listed(sandbox, await json_object(request, required=False), "project")
    return json_response([_project(sandbox, row, details=False) for row in rows])


async def get_project(sandbox: Sandbox, request: Request) -> Response:
    return json_response(_project(sandbox, _one(sandbox, request, "project"), details=True))


async def list_project_articles(sandbox: Sandbox, request: Request) -> Response:
    row = _one(sandbox, request, "project")
    page = parse_page(request.query_params, sandbox.settings)
    rows = sandbox.store.rows(
        "SELECT id FROM articles WHERE project_id = ? AND version > 0 ORDER BY id" + page.sql, row["id"]
    )
    return _public_articles(sandbox, rows)


async def list_collections(sandbox: Sandbox, request: Request) -> Response:
    rows = _listed(sandbox, request.query_params, "collection")
    return json_response([_collection(sandbox, row, details=False) for row in rows])


async def search_collections(sandbox: Sandbox, request: Request) -> Response:
    rows = _listed(sandbox, await json_object(request, required=False), "collection")
    return json_response([_collection(sandbox, row, details=False) for row in rows])


async def get_collection(sandbox: Sandbox, request: Request) -> Response:
    return json_response(_collection(sandbox, _one(sandbox, request, "collection"), details=True))


async def list_collection_versions(sandbox: Sandbox, request: Request) -> Response:
    row = _one(sandbox, request, "collection")
    url = f"{sandbox.base_url}/v2/collections/{row['id']}/versions"
    numbers = range(1, max(1, row["version"]) + 1)
    return json_response([{"version": n, "url": f"{url}/{n}", "funding": []} for n in numbers])


async def get_collection_version(sandbox: Sandbox, request: Request) -> Response:
    row = _one(sandbox, request, "collection")
    number = request.path_params["version_id"]
    if not 1 <= number <= max(1, row["version"]):
        raise not_found("version", number)
    return json_response(_collection(sandbox, row | {"version": number}, details=True))


async def list_collection_articles(sandbox: Sandbox, request: Request) -> Response:
    row = _one(sandbox, request, "collection")
    page = parse_page(request.query_params, sandbox.settings)
    inside = collection_versions.as_published(sandbox, row)["articles"]
    rows = sandbox.store.rows(
        "SELECT a.id AS id FROM json_each(?) c JOIN articles a ON a.id = c.value"
        " WHERE a.version > 0 ORDER BY c.key" + page.sql,
        json.dumps(inside),
    )
    return _public_articles(sandbox, rows)


def _public_articles(sandbox: Sandbox, rows: list[Row]) -> Response:
    """As they were published: edits of a draft are not public."""
    return json_response(
        [render.article(sandbox, articles.public_version(sandbox, row["id"]), public=True) for row in rows]
    )


async def publish_project(sandbox: Sandbox, request: Request) -> Response:
    """Only its owner may, and only when everything in it is public. It has no versions."""
    number = request.path_params["project_id"]
    row = sharing.visible(sandbox, number)
    sharing.require(sandbox, row, sharing.OWNER)
    if sandbox.store.value("SELECT count(*) FROM articles WHERE project_id = ? AND version = 0", number):
        raise bad_request("All items of the project have to be public", "ProjectHasPrivateItems")
    now = sandbox.clock.stamp()
    with sandbox.store.transaction():
        sandbox.store.update("projects", number, {"published": row["published"] or now})
        search.changed(sandbox, "projects", number)
        change = "updated" if row["published"] else "created"
        history.record(sandbox.store, "projects", number, change, now)
    return json_response({"message": "OK"})


_PROJECT, _COLLECTION = "/v2/projects/{project_id:int}", "/v2/collections/{collection_id:int}"
routes = [
    public("/v2/projects", "GET", list_projects),
    public("/v2/projects/search", "POST", search_projects),
    public(_PROJECT, "GET", get_project),
    public(_PROJECT + "/articles", "GET", list_project_articles),
    public("/v2/collections", "GET", list_collections),
    public("/v2/collections/search", "POST", search_collections),
    public(_COLLECTION, "GET", get_collection),
    public(_COLLECTION + "/articles", "GET", list_collection_articles),
    public(_COLLECTION + "/versions", "GET", list_collection_versions),
    public(_COLLECTION + "/versions/{version_id:int}", "GET", get_collection_version),
    private("/v2/account/projects/{project_id:int}/publish", "POST", publish_project),
]
