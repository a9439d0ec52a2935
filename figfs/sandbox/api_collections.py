"""``/account/collections`` and the articles they refer to (api.md §5)."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from figfs.sandbox import articles, items, render, search, validation
from figfs.sandbox.api_articles import ORDERS, filters
from figfs.sandbox.errors import forbidden, invalid, not_found
from figfs.sandbox.http import json_object, json_response, private
from figfs.sandbox.paging import parse_order, parse_page
from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Row

_LIST_ORDERS = {
    name: ORDERS[name] for name in ("published_date", "modified_date", "views", "shares", "cites")
}
_SEARCH_ORDERS = _LIST_ORDERS | {"created_date": "created"}

#: "No more than 10 article IDs per request" (api.md §5).
_MOST_ARTICLES = 10
_FIELDS = validation.COLLECTION_FIELDS | {"articles": validation.list_of(validation.number, _MOST_ARTICLES)}
_ARTICLES = {"articles": _FIELDS["articles"]}


def own(sandbox: Sandbox, request: Request) -> Row:
    """The collection that the request names, of the account; 404 for all others."""
    number = request.path_params["collection_id"]
    row = sandbox.store.row(
        "SELECT * FROM collections WHERE id = ? AND owner = ?", number, sandbox.account.id
    )
    if row is None:
        raise not_found("collection", number)
    return row


def _location(sandbox: Sandbox, collection_id: int) -> str:
    return f"{sandbox.base_url}/v2/account/collections/{collection_id}"


async def list_collections(sandbox: Sandbox, request: Request) -> Response:
    page = parse_page(request.query_params, sandbox.settings)
    order = parse_order(request.query_params, _LIST_ORDERS, "published_date")
    rows = sandbox.store.rows(
        "SELECT * FROM collections WHERE owner = ?" + order + page.sql, sandbox.account.id
    )
    return json_response([render.collection(sandbox, row) for row in rows])


async def search_collections(sandbox: Sandbox, request: Request) -> Response:
    body = await json_object(request)
    page = parse_page(body, sandbox.settings)
    order = parse_order(body, _SEARCH_ORDERS, "created_date")
    conditions, values = filters(body)
    for name in ("doi", "handle", "resource_doi", "resource_id"):
        if name in body:
            conditions.append("doi = ?" if name == "doi" else f"json_extract(metadata, '$.{name}') = ?")
            values.append(validation.text()(name, body[name]))
    search.catch_up(sandbox)
    tests = " AND ".join(["owner = ?", *conditions])
    rows = sandbox.store.rows(
        f"SELECT * FROM collections_index WHERE {tests}" + order + page.sql, sandbox.account.id, *values
    )
    return json_response([render.collection(sandbox, row) for row in rows])


async def create_collection(sandbox: Sandbox, request: Request) -> Response:
    body = await json_object(request)
    collection_id = insert_collection(sandbox, validation.clean(body, _FIELDS, required=("title",)))
    location = _location(sandbox, collection_id)
    answer = {"entity_id": collection_id, "location": location, "warnings": []}
    return json_response(answer, 201, location=location)


def insert_collection(sandbox: Sandbox, fields: dict[str, Any]) -> int:
    """Make a collection from checked fields; its id."""
    now = sandbox.clock.stamp()
    row: Row = {
        "owner": sandbox.account.id,
        "description": "",
        "tags": "[]",
        "doi": "",
        "created": now,
        "modified": now,
        "published": None,
        "version": 0,
    }
    with sandbox.store.transaction():
        row |= items.columns(sandbox, {"authors": [{"id": sandbox.account.user_id}]} | fields)
        collection_id = sandbox.store.insert("collections", row)
        _add(sandbox, collection_id, fields.get("articles", []))
        search.changed(sandbox, "collections", collection_id)
    return collection_id


async def get_collection(sandbox: Sandbox, request: Request) -> Response:
    return json_response(render.collection_details(sandbox, own(sandbox, request)))


async def update_collection(sandbox: Sandbox, request: Request) -> Response:
    row = own(sandbox, request)
    fields = validation.clean(await json_object(request), _FIELDS)
    with sandbox.store.transaction():
        sandbox.store.update("collections", row["id"], items.columns(sandbox, fields, row))
        if "articles" in fields:
            sandbox.store.run("DELETE FROM collection_articles WHERE collection_id = ?", row["id"])
            _add(sandbox, row["id"], fields["articles"])
        _touch(sandbox, row["id"])
    location = _location(sandbox, row["id"])
    return json_response({"location": location, "warnings": []}, 205, location=location)


async def delete_collection(sandbox: Sandbox, request: Request) -> Response:
    """Its articles stay. 403 for what is published, as for articles."""
    row = own(sandbox, request)
    if row["version"]:
        raise forbidden()
    with sandbox.store.transaction():
        sandbox.store.run("DELETE FROM collection_articles WHERE collection_id = ?", row["id"])
        sandbox.store.run("DELETE FROM collections WHERE id = ?", row["id"])
        search.changed(sandbox, "collections", row["id"])
    return Response(status_code=204)


async def list_articles(sandbox: Sandbox, request: Request) -> Response:
    """In the order they were added; other people's public ones as the public sees them (quirk L13)."""
    row = own(sandbox, request)
    page = parse_page(request.query_params, sandbox.settings)
    rows = sandbox.store.rows(
        "SELECT a.* FROM collection_articles c JOIN articles a ON a.id = c.article_id"
        " WHERE c.collection_id = ? ORDER BY c.position" + page.sql,
        row["id"],
    )
    mine = sandbox.account.id
    return json_response([render.article(sandbox, a, public=a["owner"] != mine) for a in rows])


async def add_articles(sandbox: Sandbox, request: Request) -> Response:
    row = own(sandbox, request)
    fields = validation.clean(await json_object(request), _ARTICLES, required=("articles",))
    with sandbox.store.transaction():
        _add(sandbox, row["id"], fields["articles"])
        _touch(sandbox, row["id"])
    location = _location(sandbox, row["id"]) + "/articles"
    return json_response({"location": location}, 201, location=location)


async def replace_articles(sandbox: Sandbox, request: Request) -> Response:
    row = own(sandbox, request)
    fields = validation.clean(await json_object(request), _ARTICLES, required=("articles",))
    with sandbox.store.transaction():
        sandbox.store.run("DELETE FROM collection_articles WHERE collection_id = ?", row["id"])
        _add(sandbox, row["id"], fields["articles"])
        _touch(sandbox, row["id"])
    return Response(status_code=205, headers={"Location": _location(sandbox, row["id"]) + "/articles"})


async def remove_article(sandbox: Sandbox, request: Request) -> Response:
    """Takes the reference away; nothing happens to the article."""
    row = own(sandbox, request)
    article_id = request.path_params["article_id"]
    gone = sandbox.store.run(
        "DELETE FROM collection_articles WHERE collection_id = ? AND article_id = ?", row["id"], article_id
    )
    if not gone:
        raise not_found("article", article_id)
    _touch(sandbox, row["id"])
    return Response(status_code=204)


def _add(sandbox: Sandbox, collection_id: int, article_ids: list[int]) -> None:
    for article_id in article_ids:
        if not article_id:
            raise invalid("articles", "ids begin at 1")
        articles.readable(sandbox, article_id)
    sandbox.store.run_many(
        "INSERT OR IGNORE INTO collection_articles (collection_id, article_id) VALUES (?, ?)",
        [(collection_id, article_id) for article_id in article_ids],
    )


def _touch(sandbox: Sandbox, collection_id: int) -> None:
    sandbox.store.update("collections", collection_id, {"modified": sandbox.clock.stamp()})
    search.changed(sandbox, "collections", collection_id)


_ONE = "/v2/account/collections/{collection_id:int}"
routes = [
    private("/v2/account/collections", "GET", list_collections),
    private("/v2/account/collections", "POST", create_collection),
    private("/v2/account/collections/search", "POST", search_collections),
    private(_ONE, "GET", get_collection),
    private(_ONE, "PUT", update_collection),
    private(_ONE, "PATCH", update_collection),
    private(_ONE, "DELETE", delete_collection),
    private(_ONE + "/articles", "GET", list_articles),
    private(_ONE + "/articles", "POST", add_articles),
    private(_ONE + "/articles", "PUT", replace_articles),
    private(_ONE + "/articles/{article_id:int}", "DELETE", remove_article),
]
