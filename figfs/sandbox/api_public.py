"""What anyone may read: published articles, their versions and files (api.md §6)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from figfs.sandbox import articles, files, render, withdrawing
from figfs.sandbox.api_articles import search_index
from figfs.sandbox.errors import not_found
from figfs.sandbox.http import json_object, json_response, public
from figfs.sandbox.paging import parse_page
from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Row


async def list_articles(sandbox: Sandbox, request: Request) -> Response:
    rows = search_index(sandbox, request.query_params, "version > 0")
    return json_response([render.article(sandbox, _published(sandbox, row), public=True) for row in rows])


async def search_articles(sandbox: Sandbox, request: Request) -> Response:
    body = await json_object(request, required=False)
    rows = search_index(sandbox, body, "version > 0")
    return json_response(
        [render.article_with_project(sandbox, _published(sandbox, row), public=True) for row in rows]
    )


def _published(sandbox: Sandbox, row: Row) -> Row:
    """As it was published: edits of a draft are not public."""
    return articles.public_version(sandbox, row["id"], row["version"])


async def get_article(sandbox: Sandbox, request: Request) -> Response:
    row = articles.public_version(sandbox, request.path_params["article_id"])
    return json_response(render.article_details(sandbox, row, public=True))


async def list_versions(sandbox: Sandbox, request: Request) -> Response:
    latest = articles.public_version(sandbox, request.path_params["article_id"])
    url = f"{sandbox.base_url}/v2/articles/{latest['id']}/versions"
    numbers = range(1, latest["version"] + 1)
    return json_response([{"version": number, "url": f"{url}/{number}"} for number in numbers])


async def get_version(sandbox: Sandbox, request: Request) -> Response:
    row = articles.public_version(
        sandbox, request.path_params["article_id"], request.path_params["version_id"]
    )
    return json_response(render.article_details(sandbox, row, public=True))


async def list_version_files(sandbox: Sandbox, request: Request) -> Response:
    row = articles.public_version(
        sandbox, request.path_params["article_id"], request.path_params["version_id"]
    )
    return _file_list(sandbox, request, row)


async def list_files(sandbox: Sandbox, request: Request) -> Response:
    """Those of the latest version (quirk L6)."""
    return _file_list(sandbox, request, articles.public_version(sandbox, request.path_params["article_id"]))


def _file_list(sandbox: Sandbox, request: Request, row: Row) -> Response:
    page = parse_page(request.query_params, sandbox.settings)
    if withdrawing.hides_files(row):
        return json_response([])
    rows = files.version_files(sandbox, row["id"], row["version"], page.sql)
    return json_response([render.public_file(sandbox, file) for file in rows])


async def get_file(sandbox: Sandbox, request: Request) -> Response:
    row = articles.public_version(sandbox, request.path_params["article_id"])
    number = request.path_params["file_id"]
    for file in files.version_files(sandbox, row["id"], row["version"]):
        if file["id"] == number and not withdrawing.hides_files(row):
            return json_response(render.public_file(sandbox, file))
    raise not_found("file", number)


_ONE = "/v2/articles/{article_id:int}"
routes = [
    public("/v2/articles", "GET", list_articles),
    public("/v2/articles/search", "POST", search_articles),
    public(_ONE, "GET", get_article),
    public(_ONE + "/versions", "GET", list_versions),
    public(_ONE + "/versions/{version_id:int}", "GET", get_version),
    public(_ONE + "/versions/{version_id:int}/files", "GET", list_version_files),
    public(_ONE + "/files", "GET", list_files),
    public(_ONE + "/files/{file_id:int}", "GET", get_file),
]
