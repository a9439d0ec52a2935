"""``/_sandbox/``: what a person, a test or a benchmark asks of the sandbox itself. Loopback only, no token.

| request | what it does |
|---|---|
| `GET requests` | `[{"time", "role", "method", "path", "status", "bytes"}, …]` since the last `DELETE` |
| `DELETE requests` | forgets them |
| `GET account` | `{"articles": […], "projects": […], "collections": […]}`: all that the account has |
| `POST articles` | makes articles with computed contents, see `bulk` |
| `GET`, `PUT faults` | the fault plan (`faults.py`) |
| `GET`, `PUT settings` | the settings (`settings.py`); `PUT` changes the keys given |
| `GET oauth` | the application that is registered, and how many codes and tokens of it live |
| `DELETE oauth/{kind}` | revokes all its tokens of that kind: `access`, `refresh` |
| `POST withdraw` | `{"article": id}`: it is not public any more |
| `POST embargo` | `{"article": id, "until": date or ""}`: its files are not |
| `POST doi` | `{"article" or "collection": id, "doi": "10.…/…", "versioned": true}`: its DOI is another |
| `POST share` | `{"project": id, "role": …}`: a colleague's, and this the role in it; `Owner`: its own |
| `POST members` | `{"count": n}`: so many more accounts in the institution; `{"ids": […]}` |
| `PUT token` | `{"token": "…"}`: the personal token is another from now on |
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from figfs.sandbox import dois, members, seed, sharing, tokens, validation, withdrawing
from figfs.sandbox.errors import bad_request, forbidden
from figfs.sandbox.http import json_object, json_response, sandbox_of
from figfs.sandbox.requestlog import CONTROL
from figfs.sandbox.state import Sandbox

_BULK_FIELDS: dict[str, validation.Check] = {
    "count": validation.number,
    "title": validation.text(),
    "project_id": validation.number,
    "files": validation.list_of(validation.number),
    "file_count": validation.number,
    "file_size": validation.number,
    "published": validation.flag,
}


async def get_requests(sandbox: Sandbox, request: Request) -> Response:
    return json_response(sandbox.requests.entries())


async def delete_requests(sandbox: Sandbox, request: Request) -> Response:
    sandbox.requests.clear()
    return Response(status_code=204)


async def get_account(sandbox: Sandbox, request: Request) -> Response:
    """``folder`` is '' outside folders, ``md5`` the computed or else the supplied one, ``size`` in bytes."""
    store, owner = sandbox.store, sandbox.account.id
    files: dict[int, list[dict[str, Any]]] = {}
    for file in store.rows("SELECT * FROM files WHERE draft ORDER BY id"):
        shown = {key: file[key] for key in ("id", "name", "folder", "size", "status")}
        shown["md5"] = file["computed_md5"] or file["supplied_md5"]
        files.setdefault(file["article_id"], []).append(shown)
    articles = [
        {
            "id": row["id"],
            "title": row["title"],
            "project_id": row["project_id"],
            "status": "draft" if row["edited"] or not row["version"] else "public",
            "files": files.get(row["id"], []),
        }
        for row in store.rows("SELECT * FROM articles WHERE owner = ? ORDER BY id", owner)
    ]
    projects = [
        {
            "id": row["id"],
            "title": row["title"],
            "storage": "individual" if row["group_id"] is None else "group",
        }
        for row in store.rows("SELECT * FROM projects WHERE owner = ? ORDER BY id", owner)
    ]
    members: dict[int, list[int]] = {}
    for entry in store.rows("SELECT * FROM collection_articles ORDER BY position"):
        members.setdefault(entry["collection_id"], []).append(entry["article_id"])
    collections = [
        {"id": row["id"], "title": row["title"], "articles": members.get(row["id"], [])}
        for row in store.rows("SELECT * FROM collections WHERE owner = ? ORDER BY id", owner)
    ]
    return json_response({"articles": articles, "projects": projects, "collections": collections})


async def post_articles(sandbox: Sandbox, request: Request) -> Response:
    """201 with ``{"ids": […]}``. The body's keys are those of ``seed.bulk``; null is as if left out."""
    body = {key: value for key, value in (await json_object(request)).items() if value is not None}
    if unknown := body.keys() - _BULK_FIELDS.keys():
        raise bad_request("unknown: " + ", ".join(unknown))
    order = validation.clean(body, _BULK_FIELDS, required=("count",))
    try:
        ids = await seed.bulk(sandbox, **order)
    except ValueError as problem:
        raise bad_request(str(problem)) from None
    return json_response({"ids": ids}, 201)


async def get_faults(sandbox: Sandbox, request: Request) -> Response:
    return json_response(sandbox.faults.as_list())


async def put_faults(sandbox: Sandbox, request: Request) -> Response:
    try:
        sandbox.faults.replace(json.loads(await request.body()))
    except ValueError as problem:
        raise bad_request(str(problem)) from None
    return json_response(sandbox.faults.as_list())


async def get_settings(sandbox: Sandbox, request: Request) -> Response:
    return json_response(sandbox.settings.as_dict())


async def put_settings(sandbox: Sandbox, request: Request) -> Response:
    try:
        sandbox.settings.change(await json_object(request))
    except ValueError as problem:
        raise bad_request(str(problem)) from None
    sandbox.save_settings()
    return json_response(sandbox.settings.as_dict())


async def get_oauth(sandbox: Sandbox, request: Request) -> Response:
    client = {"client_id": tokens.CLIENT_ID, "client_secret": tokens.CLIENT_SECRET}
    return json_response(client | {"alive": tokens.counts(sandbox)})


async def delete_oauth(sandbox: Sandbox, request: Request) -> Response:
    kind = request.path_params["kind"]
    if kind not in ("access", "refresh"):
        raise bad_request("access or refresh")
    return json_response({"revoked": tokens.revoke(sandbox, kind)})


async def put_token(sandbox: Sandbox, request: Request) -> Response:
    """So that the one from before is refused, as after its removal on the web page."""
    token = (await json_object(request)).get("token")
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
        raise bad_request("token: a string of visible ASCII characters")
    sandbox.token = token
    sandbox.store.set_meta("token", token)
    return json_response({"token": token})


async def post_withdraw(sandbox: Sandbox, request: Request) -> Response:
    body = validation.clean(await json_object(request), {"article": validation.number}, required=("article",))
    withdrawing.withdraw(sandbox, body["article"])
    return Response(status_code=204)


async def post_embargo(sandbox: Sandbox, request: Request) -> Response:
    fields = {"article": validation.number, "until": validation.text()}
    body = validation.clean(await json_object(request), fields, required=("article", "until"))
    withdrawing.embargo_files(sandbox, body["article"], body["until"])
    return Response(status_code=204)


async def post_members(sandbox: Sandbox, request: Request) -> Response:
    body = validation.clean(await json_object(request), {"count": validation.number}, required=("count",))
    return json_response({"ids": members.add_many(sandbox, body["count"])}, 201)


async def post_doi(sandbox: Sandbox, request: Request) -> Response:
    checks = {
        "article": validation.number,
        "collection": validation.number,
        "doi": validation.text(1),
        "versioned": validation.flag,
    }
    body = validation.clean(await json_object(request), checks, required=("doi",))
    kinds = [kind for kind in ("article", "collection") if kind in body]
    if len(kinds) != 1:
        raise bad_request("article or collection")
    versioned = body.get("versioned", True)
    dois.give(sandbox, f"{kinds[0]}s", body[kinds[0]], body["doi"], versioned=versioned)
    return Response(status_code=204)


async def post_share(sandbox: Sandbox, request: Request) -> Response:
    roles = (sharing.OWNER, sharing.COLLABORATOR, sharing.VIEWER)
    fields = {"project": validation.number, "role": validation.text(1)}
    body = validation.clean(await json_object(request), fields, required=("project", "role"))
    if body["role"] not in roles:
        raise bad_request("role: " + ", ".join(roles))
    sharing.share(sandbox, body["project"], body["role"])
    return Response(status_code=204)


def _local(name: str, method: str, handler: Callable[[Sandbox, Request], Awaitable[Response]]) -> Route:
    async def checked(request: Request) -> Response:
        # A web page that makes a name of its own point to this machine sends that name (DNS rebinding).
        if request.url.hostname not in ("127.0.0.1", "localhost"):
            raise forbidden("Only as 127.0.0.1 or localhost")
        return await handler(sandbox_of(request), request)

    return Route(f"{CONTROL}/{name}", checked, methods=[method])


routes = [
    _local("requests", "GET", get_requests),
    _local("requests", "DELETE", delete_requests),
    _local("account", "GET", get_account),
    _local("articles", "POST", post_articles),
    _local("faults", "GET", get_faults),
    _local("faults", "PUT", put_faults),
    _local("settings", "GET", get_settings),
    _local("settings", "PUT", put_settings),
    _local("oauth", "GET", get_oauth),
    _local("oauth/{kind}", "DELETE", delete_oauth),
    _local("token", "PUT", put_token),
    _local("withdraw", "POST", post_withdraw),
    _local("embargo", "POST", post_embargo),
    _local("doi", "POST", post_doi),
    _local("share", "POST", post_share),
    _local("members", "POST", post_members),
]
