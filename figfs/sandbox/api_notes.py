"""Notes of own projects, and who works on them (api.md §4)."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from figfs.sandbox import sharing, validation
from figfs.sandbox.errors import not_found
from figfs.sandbox.http import json_object, json_response, private
from figfs.sandbox.paging import parse_page
from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Row

_ABSTRACT = 80  #: characters of a note that lists show

_BODY = {"text": validation.text(3)}


def _project(sandbox: Sandbox, request: Request) -> int:
    number: int = sharing.visible(sandbox, request.path_params["project_id"])["id"]
    return number


def _note(sandbox: Sandbox, request: Request) -> Row:
    note_id = request.path_params["note_id"]
    row = sandbox.store.row(
        "SELECT * FROM project_notes WHERE id = ? AND project_id = ?", note_id, _project(sandbox, request)
    )
    if row is None:
        raise not_found("note", note_id)
    return row


def _render(sandbox: Sandbox, row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "user_id": sandbox.account.user_id,
        "user_name": sandbox.account.full_name,
        "abstract": row["text"][:_ABSTRACT],
        "created_date": row["created"],
        "modified_date": row["modified"],
    }


async def list_notes(sandbox: Sandbox, request: Request) -> Response:
    """Newest first (order: unknown), without their texts."""
    number = _project(sandbox, request)
    page = parse_page(request.query_params, sandbox.settings)
    rows = sandbox.store.rows(
        "SELECT * FROM project_notes WHERE project_id = ? ORDER BY id DESC" + page.sql, number
    )
    return json_response([_render(sandbox, row) for row in rows])


async def get_note(sandbox: Sandbox, request: Request) -> Response:
    row = _note(sandbox, request)
    return json_response(_render(sandbox, row) | {"text": row["text"]})


async def create_note(sandbox: Sandbox, request: Request) -> Response:
    number = _project(sandbox, request)
    fields = validation.clean(await json_object(request), _BODY, required=("text",))
    now = sandbox.clock.stamp()
    note_id = sandbox.store.insert(
        "project_notes", {"project_id": number, "created": now, "modified": now} | fields
    )
    location = _location(sandbox, number, note_id)
    return json_response({"location": location}, 201, location=location)


def _location(sandbox: Sandbox, project_id: int, note_id: int) -> str:
    return f"{sandbox.base_url}/v2/account/projects/{project_id}/notes/{note_id}"


async def update_note(sandbox: Sandbox, request: Request) -> Response:
    row = _note(sandbox, request)
    fields = validation.clean(await json_object(request), _BODY, required=("text",))
    sandbox.store.update("project_notes", row["id"], fields | {"modified": sandbox.clock.stamp()})
    location = _location(sandbox, row["project_id"], row["id"])
    return Response(status_code=205, headers={"Location": location})


async def delete_note(sandbox: Sandbox, request: Request) -> Response:
    row = _note(sandbox, request)
    sandbox.store.run("DELETE FROM project_notes WHERE id = ?", row["id"])
    return Response(status_code=204)


async def list_collaborators(sandbox: Sandbox, request: Request) -> Response:
    row = sharing.visible(sandbox, request.path_params["project_id"])
    return json_response(
        [
            {
                "status": "accepted",
                "role_name": role,
                "user_id": account.user_id,
                "name": account.full_name,
            }
            for role, account in sharing.people(sandbox, row)
        ]
    )


_PROJECT = "/v2/account/projects/{project_id:int}"
_ONE = _PROJECT + "/notes/{note_id:int}"
routes = [
    private(_PROJECT + "/collaborators", "GET", list_collaborators),
    private(_PROJECT + "/notes", "GET", list_notes),
    private(_PROJECT + "/notes", "POST", create_note),
    private(_ONE, "GET", get_note),
    private(_ONE, "PUT", update_note),
    private(_ONE, "DELETE", delete_note),
]
