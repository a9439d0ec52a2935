"""``/account/articles``: own articles and their files (api.md §3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from figfs.sandbox import articles, files, render, search, validation
from figfs.sandbox.errors import forbidden, invalid
from figfs.sandbox.http import json_object, json_response, private
from figfs.sandbox.paging import parse_order, parse_page
from figfs.sandbox.state import Sandbox

#: ``order`` of searches -> column. The sandbox counts neither views nor citations: these order by id.
ORDERS = {
    "created_date": "created",
    "published_date": "published",
    "modified_date": "modified",
    "views": "id",
    "shares": "id",
    "downloads": "id",
    "cites": "id",
}


async def list_articles(sandbox: Sandbox, request: Request) -> Response:
    """Newest first (order: unknown).

    Paging only; whether articles of projects are here is a setting (api.md §3).
    """
    page = parse_page(request.query_params, sandbox.settings)
    where = "" if sandbox.settings.list_project_articles else " AND project_id IS NULL"
    rows = sandbox.store.rows(
        f"SELECT * FROM articles WHERE owner = ?{where} ORDER BY created DESC, id DESC" + page.sql,
        sandbox.account.id,
    )
    return json_response([render.article(sandbox, row, public=False) for row in rows])


async def search_articles(sandbox: Sandbox, request: Request) -> Response:
    body = await json_object(request)
    rows = search_index(sandbox, body, "owner = ?", sandbox.account.id)
    return json_response([render.article_with_project(sandbox, row, public=False) for row in rows])


def search_index(
    sandbox: Sandbox, given: Mapping[str, Any], where: str, *values: object
) -> list[dict[str, Any]]:
    """Rows of the article index that meet ``where`` and the search or list parameters ``given``."""
    page = parse_page(given, sandbox.settings)
    order = parse_order(given, ORDERS, "created_date")
    conditions, found = filters(given)
    for name, test in (
        ("project_id", "project_id = ?"),
        ("item_type", "defined_type = ?"),
        ("group", "json_extract(metadata, '$.group_id') = ?"),
    ):
        if name in given:
            conditions.append(test)
            value = given[name]
            if isinstance(given, QueryParams) and value.isascii() and value.isdigit():
                value = int(value)
            found.append(validation.number(name, value))
    for name in ("doi", "handle", "resource_doi", "resource_id"):
        if name in given:
            conditions.append("doi = ?" if name == "doi" else f"json_extract(metadata, '$.{name}') = ?")
            found.append(validation.text()(name, given[name]))
    search.catch_up(sandbox)
    tests = " AND ".join([where, *conditions])
    return sandbox.store.rows(
        f"SELECT * FROM articles_index WHERE {tests}" + order + page.sql, *values, *found
    )


def filters(given: Mapping[str, Any]) -> tuple[list[str], list[object]]:
    """SQL conditions and their values for what all searches have."""
    conditions: list[str] = []
    values: list[object] = []
    for name, column in (("published_since", "published"), ("modified_since", "modified")):
        if name in given:
            conditions.append(f"{column} >= ?")
            values.append(validation.date(name, given[name]).replace(" ", "T"))
    if given.get("search_for"):
        conditions.append("search_matches(?, title, description, tags)")
        values.append(search.check_query(given["search_for"]))
    return conditions, values


async def create_article(sandbox: Sandbox, request: Request) -> Response:
    body = await json_object(request)
    fields = validation.clean(body, validation.ARTICLE_FIELDS, required=("title",))
    article_id = articles.create(sandbox, fields)
    location = location_of(sandbox, article_id)
    answer = {"entity_id": article_id, "location": location, "warnings": []}
    return json_response(answer, 201, location=location)


def location_of(sandbox: Sandbox, article_id: int) -> str:
    return f"{sandbox.base_url}/v2/account/articles/{article_id}"


async def get_article(sandbox: Sandbox, request: Request) -> Response:
    row = articles.own(sandbox, request.path_params["article_id"])
    return json_response(render.article_details(sandbox, row, public=False))


async def update_article(sandbox: Sandbox, request: Request) -> Response:
    """PUT and PATCH do the same: fields that are not given stay (what PUT does with them: unknown)."""
    row = articles.own(sandbox, request.path_params["article_id"])
    body = await json_object(request)
    articles.update(sandbox, row, validation.clean(body, validation.ARTICLE_UPDATE_FIELDS))
    location = location_of(sandbox, row["id"])
    return json_response({"location": location, "warnings": []}, 205, location=location)


async def delete_article(sandbox: Sandbox, request: Request) -> Response:
    articles.delete(sandbox, articles.own(sandbox, request.path_params["article_id"]))
    return Response(status_code=204)


async def publish_article(sandbox: Sandbox, request: Request) -> Response:
    row = articles.own(sandbox, request.path_params["article_id"])
    articles.publish(sandbox, row)
    location = f"{sandbox.base_url}/v2/articles/{row['id']}"
    return json_response({"location": location}, 201, location=location)


async def unpublish_article(sandbox: Sandbox, request: Request) -> Response:
    """Always 403: only an institution's staff may (quirk P1)."""
    articles.own(sandbox, request.path_params["article_id"])
    body = await json_object(request)
    validation.clean(body, {"reason": validation.text(5, 500)}, required=("reason",))
    raise forbidden()


async def list_files(sandbox: Sandbox, request: Request) -> Response:
    row = articles.own(sandbox, request.path_params["article_id"])
    page = parse_page(request.query_params, sandbox.settings)
    rows = files.draft_files(sandbox, row["id"], page.sql)
    return json_response([render.private_file(sandbox, file) for file in rows])


async def announce_file(sandbox: Sandbox, request: Request) -> Response:
    row = articles.own(sandbox, request.path_params["article_id"])
    body = await json_object(request)
    if "link" in body and ("size" in body or "md5" in body):
        raise invalid("link", "give either link, or name, size and md5")
    file_id = files.announce(sandbox, row, body)
    location = f"{location_of(sandbox, row['id'])}/files/{file_id}"
    return json_response({"location": location}, 201, location=location)


async def get_file(sandbox: Sandbox, request: Request) -> Response:
    row = articles.own(sandbox, request.path_params["article_id"])
    file = files.draft_file(sandbox, row["id"], request.path_params["file_id"])
    return json_response(render.private_file(sandbox, file))


async def complete_file(sandbox: Sandbox, request: Request) -> Response:
    """202 with a body that is not JSON (quirk U5); assembly follows."""
    row = articles.own(sandbox, request.path_params["article_id"])
    files.complete(sandbox, files.draft_file(sandbox, row["id"], request.path_params["file_id"]))
    return HTMLResponse("<html><title>202: Accepted</title><body>202: Accepted</body></html>", 202)


async def delete_file(sandbox: Sandbox, request: Request) -> Response:
    row = articles.own(sandbox, request.path_params["article_id"])
    files.remove(sandbox, files.draft_file(sandbox, row["id"], request.path_params["file_id"]))
    return Response(status_code=204)


_ONE = "/v2/account/articles/{article_id:int}"
routes = [
    private("/v2/account/articles", "GET", list_articles),
    private("/v2/account/articles", "POST", create_article),
    private("/v2/account/articles/search", "POST", search_articles),
    private(_ONE, "GET", get_article),
    private(_ONE, "PUT", update_article),
    private(_ONE, "PATCH", update_article),
    private(_ONE, "DELETE", delete_article),
    private(_ONE + "/publish", "POST", publish_article),
    private(_ONE + "/unpublish", "POST", unpublish_article),
    private(_ONE + "/files", "GET", list_files),
    private(_ONE + "/files", "POST", announce_file),
    private(_ONE + "/files/{file_id:int}", "GET", get_file),
    private(_ONE + "/files/{file_id:int}", "POST", complete_file),
    private(_ONE + "/files/{file_id:int}", "DELETE", delete_file),
]
