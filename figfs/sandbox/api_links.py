"""Private links of own articles and collections: who has one may read a draft (api.md §3, §5)."""

from __future__ import annotations

import secrets
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from figfs.sandbox import validation
from figfs.sandbox.clock import stamp, without_zone
from figfs.sandbox.errors import invalid, not_found
from figfs.sandbox.http import Handler, json_object, json_response, private
from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Row

_LIFE = 365 * 86400  #: seconds until a link expires for which no date was given

_BODY = {"expires_date": validation.date}


def _item(sandbox: Sandbox, request: Request) -> tuple[str, int]:
    """The kind and id of the own item in the path; 404 for all others."""
    kind = "articles" if "article_id" in request.path_params else "collections"
    number: int = request.path_params[f"{kind[:-1]}_id"]
    if not sandbox.store.value(
        f"SELECT 1 FROM {kind} WHERE id = ? AND owner = ?", number, sandbox.account.id
    ):
        raise not_found(kind[:-1], number)
    return kind, number


def _link(sandbox: Sandbox, request: Request) -> Row:
    kind, number = _item(sandbox, request)
    link_id = request.path_params["link_id"]
    row = sandbox.store.row(
        "SELECT * FROM private_links WHERE id = ? AND kind = ? AND item_id = ?", link_id, kind, number
    )
    if row is None:
        raise not_found("private link", link_id)
    return row


def _render(sandbox: Sandbox, row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "is_active": row["expires"] > sandbox.clock.stamp(),
        "expires_date": without_zone(row["expires"]),
        "html_location": f"{sandbox.base_url}/s/{row['token']}",
    }


async def list_links(sandbox: Sandbox, request: Request) -> Response:
    """All of them: no paging is described."""
    kind, number = _item(sandbox, request)
    rows = sandbox.store.rows(
        "SELECT * FROM private_links WHERE kind = ? AND item_id = ? ORDER BY rowid", kind, number
    )
    return json_response([_render(sandbox, row) for row in rows])


async def get_link(sandbox: Sandbox, request: Request) -> Response:
    return json_response(_render(sandbox, _link(sandbox, request)))


async def create_link(sandbox: Sandbox, request: Request) -> Response:
    kind, number = _item(sandbox, request)
    expires = await _expiry(sandbox, request) or stamp(sandbox.clock.time() + _LIFE)
    row = {
        "id": secrets.token_hex(20),
        "token": secrets.token_hex(10),
        "kind": kind,
        "item_id": number,
        "expires": expires,
    }
    sandbox.store.insert("private_links", row)
    location = f"{sandbox.base_url}/v2/account/{kind}/{number}/private_links/{row['id']}"
    answer = {
        "location": location,
        "html_location": _render(sandbox, row)["html_location"],
        "token": row["token"],
    }
    return json_response(answer, 201, location=location)


async def update_link(sandbox: Sandbox, request: Request) -> Response:
    row = _link(sandbox, request)
    if expires := await _expiry(sandbox, request):
        sandbox.store.run("UPDATE private_links SET expires = ? WHERE id = ?", expires, row["id"])
    location = f"{sandbox.base_url}/v2/account/{row['kind']}/{row['item_id']}/private_links/{row['id']}"
    return Response(status_code=205, headers={"Location": location})


async def delete_link(sandbox: Sandbox, request: Request) -> Response:
    row = _link(sandbox, request)
    sandbox.store.run("DELETE FROM private_links WHERE id = ?", row["id"])
    return Response(status_code=204)


async def _expiry(sandbox: Sandbox, request: Request) -> str:
    """The date asked for, as stamps are written; '' for none. 422 for one that is past."""
    given = validation.clean(await json_object(request, required=False), _BODY)
    date: str = given.get("expires_date", "")
    if not date:
        return ""
    date = date.replace(" ", "T").removesuffix("Z")
    date = f"{date}{'T00:00:00Z'[len(date) - 10 :]}"  # what is left out, from the end
    if date <= sandbox.clock.stamp():
        raise invalid("expires_date", "must be in the future")
    return date


def _routes(kind: str) -> list[Route]:
    every = f"/v2/account/{kind}s/{{{kind}_id:int}}/private_links"
    one = every + "/{link_id}"
    handlers: list[tuple[str, str, Handler]] = [
        (every, "GET", list_links),
        (every, "POST", create_link),
        (one, "PUT", update_link),
        (one, "DELETE", delete_link),
    ]
    if kind == "collection":  # an article's link cannot be read by itself (api.md §3)
        handlers.append((one, "GET", get_link))
    return [private(path, method, handler) for path, method, handler in handlers]


routes = [*_routes("article"), *_routes("collection")]
