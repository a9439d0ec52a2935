"""``/account/projects`` and the articles in them (api.md §4)."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from figfs.sandbox import articles, files, items, render, search, sharing, validation
from figfs.sandbox.api_articles import filters, location_of
from figfs.sandbox.errors import forbidden, invalid
from figfs.sandbox.http import json_object, json_response, private
from figfs.sandbox.paging import parse_order, parse_page
from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Row

_ORDERS = {"published_date": "published", "modified_date": "modified", "views": "id"}
_ROLES = {"owner", "collaborator", "viewer"}


def _own(sandbox: Sandbox, request: Request) -> Row:
    """For what only its owner may do: 403 where it is shared."""
    row = _visible(sandbox, request)
    sharing.require(sandbox, row, sharing.OWNER)
    return row


def _visible(sandbox: Sandbox, request: Request) -> Row:
    return sharing.visible(sandbox, request.path_params["project_id"])


def _article_of(sandbox: Sandbox, request: Request) -> Row:
    return sharing.article_in(sandbox, _visible(sandbox, request), request.path_params["article_id"])


async def list_projects(sandbox: Sandbox, request: Request) -> Response:
    given = request.query_params
    page = parse_page(given, sandbox.settings)
    order = parse_order(given, _ORDERS, "published_date")
    where = sharing.VISIBLE
    if "storage" in given:
        if given["storage"] not in ("individual", "group"):
            raise invalid("storage", "individual or group")
        where += f" AND group_id IS {'' if given['storage'] == 'individual' else 'NOT '}NULL"
    if "roles" in given:
        roles = set(given["roles"].split(","))
        if not roles <= _ROLES:
            raise invalid("roles", "owner, collaborator, viewer")
        role = "coalesce(json_extract(metadata, '$.shared_as'), 'Owner')"
        where += f" AND lower({role}) IN ({', '.join(repr(name) for name in sorted(roles))})"
    rows = sandbox.store.rows(f"SELECT * FROM projects WHERE {where}" + order + page.sql, sandbox.account.id)
    return json_response([render.project(sandbox, row) for row in rows])


async def search_projects(sandbox: Sandbox, request: Request) -> Response:
    body = await json_object(request, required=False)
    page = parse_page(body, sandbox.settings)
    order = parse_order(body, _ORDERS, "published_date")
    conditions, values = filters(body)
    search.catch_up(sandbox)
    tests = " AND ".join([sharing.VISIBLE, *conditions])
    rows = sandbox.store.rows(
        f"SELECT * FROM projects_index WHERE {tests}" + order + page.sql, sandbox.account.id, *values
    )
    return json_response([render.project(sandbox, row) for row in rows])


async def create_project(sandbox: Sandbox, request: Request) -> Response:
    body = await json_object(request)
    fields = validation.clean(body, validation.PROJECT_CREATE_FIELDS, required=("title",))
    project_id = insert_project(sandbox, fields)
    location = f"{sandbox.base_url}/v2/account/projects/{project_id}"
    return json_response({"entity_id": project_id, "location": location}, 201, location=location)


def insert_project(sandbox: Sandbox, fields: dict[str, Any]) -> int:
    """Make a project from checked fields; with a ``group_id`` it uses the group's storage. Its id."""
    now = sandbox.clock.stamp()
    group_id = fields.get("group_id") or None
    others = {name: value for name, value in fields.items() if name != "group_id"}
    if group_id is not None:
        items.check_group(sandbox, group_id)
    row: Row = {
        "owner": sandbox.account.id,
        "description": "",
        "tags": "[]",
        "group_id": group_id,
        "created": now,
        "modified": now,
        "published": None,
    }
    with sandbox.store.transaction():
        project_id = sandbox.store.insert("projects", row | items.columns(sandbox, others))
        search.changed(sandbox, "projects", project_id)
    return project_id


async def get_project(sandbox: Sandbox, request: Request) -> Response:
    return json_response(render.project_details(sandbox, _visible(sandbox, request)))


async def update_project(sandbox: Sandbox, request: Request) -> Response:
    row = _own(sandbox, request)
    body = await json_object(request, required=request.method == "PUT")
    fields = validation.clean(body, validation.PROJECT_FIELDS)
    with sandbox.store.transaction():
        changes = items.columns(sandbox, fields, row) | {"modified": sandbox.clock.stamp()}
        sandbox.store.update("projects", row["id"], changes)
        search.changed(sandbox, "projects", row["id"])
    return Response(
        status_code=205, headers={"Location": f"{sandbox.base_url}/v2/account/projects/{row['id']}"}
    )


async def delete_project(sandbox: Sandbox, request: Request) -> Response:
    """403 with public articles in it.

    Articles of an individual project are released, a group project's deleted.
    """
    row = _own(sandbox, request)
    inside = sandbox.store.rows("SELECT * FROM articles WHERE project_id = ?", row["id"])
    if row["published"] or any(article["version"] for article in inside):
        raise forbidden("A project that is public or has public articles cannot be deleted")
    with sandbox.store.transaction():
        if row["group_id"] is not None:
            for article in inside:
                articles.delete(sandbox, article)
        else:
            sandbox.store.run("UPDATE articles SET project_id = NULL WHERE project_id = ?", row["id"])
            for article in inside:
                search.changed(sandbox, "articles", article["id"])
        sandbox.store.run("DELETE FROM projects WHERE id = ?", row["id"])
        search.changed(sandbox, "projects", row["id"])
    return Response(status_code=204)


async def list_articles(sandbox: Sandbox, request: Request) -> Response:
    """Paged like other listings, though the API description does not say so (api.md §1)."""
    row = _visible(sandbox, request)
    page = parse_page(request.query_params, sandbox.settings)
    rows = sandbox.store.rows(
        "SELECT * FROM articles WHERE project_id = ? ORDER BY created DESC, id DESC" + page.sql, row["id"]
    )
    return json_response([render.article(sandbox, article, public=False) for article in rows])


async def create_article(sandbox: Sandbox, request: Request) -> Response:
    row = _visible(sandbox, request)
    sharing.require(sandbox, row, sharing.OWNER, sharing.COLLABORATOR)
    body = await json_object(request)
    fields = validation.clean(body, validation.PROJECT_ARTICLE_FIELDS, required=("title",))
    location = location_of(sandbox, articles.create(sandbox, fields, project_id=row["id"]))
    return json_response({"location": location}, 201, location=location)


async def get_article(sandbox: Sandbox, request: Request) -> Response:
    row = _article_of(sandbox, request)
    return json_response(render.article_details(sandbox, row, public=False))


async def delete_article(sandbox: Sandbox, request: Request) -> Response:
    """Deletes the article itself (api.md §4)."""
    sharing.delete_article(sandbox, _article_of(sandbox, request))
    return Response(status_code=204)


async def list_files(sandbox: Sandbox, request: Request) -> Response:
    row = _article_of(sandbox, request)
    page = parse_page(request.query_params, sandbox.settings)
    rows = files.draft_files(sandbox, row["id"], page.sql)
    return json_response([render.private_file(sandbox, file) for file in rows])


async def get_file(sandbox: Sandbox, request: Request) -> Response:
    row = _article_of(sandbox, request)
    file = files.draft_file(sandbox, row["id"], request.path_params["file_id"])
    return json_response(render.private_file(sandbox, file))


_ONE = "/v2/account/projects/{project_id:int}"
_ARTICLE = _ONE + "/articles/{article_id:int}"
routes = [
    private("/v2/account/projects", "GET", list_projects),
    private("/v2/account/projects", "POST", create_project),
    private("/v2/account/projects/search", "POST", search_projects),
    private(_ONE, "GET", get_project),
    private(_ONE, "PUT", update_project),
    private(_ONE, "PATCH", update_project),
    private(_ONE, "DELETE", delete_project),
    private(_ONE + "/articles", "GET", list_articles),
    private(_ONE + "/articles", "POST", create_article),
    private(_ARTICLE, "GET", get_article),
    private(_ARTICLE, "DELETE", delete_article),
    private(_ARTICLE + "/files", "GET", list_files),
    private(_ARTICLE + "/files/{file_id:int}", "GET", get_file),
]
