"""Requests that articles, projects and collections have in common."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import trio

from figfs.errors import BadAnswer, RemoteError, UnknownOutcome
from figfs.figshare.client import Answer, Client, nothing, segment
from figfs.figshare.records import Id, Location

T = TypeVar("T")

#: Seconds before each look for what a POST has made whose answer was lost: it may be under way still.
LOOKS = (0.0, 1.0, 2.0)

#: Paths of the kinds of items.
KINDS = {"article": "articles", "project": "projects", "collection": "collections"}


def own_path(kind: str, item_id: Id, *, project_id: Id | None = None) -> str:
    """An own item. ``project_id``: of an article, which may be a collaborator's (api.md §4)."""
    inside = "" if project_id is None else f"/projects/{segment(project_id)}"
    return f"/account{inside}{public_path(kind, item_id)}"


def public_path(kind: str, item_id: Id, version: int | None = None) -> str:
    """An item as anyone sees it: the latest version, or one."""
    path = f"/{KINDS[kind]}/{segment(item_id)}"
    return path if version is None else f"{path}/versions/{version}"


async def create(client: Client, path: str, body: Mapping[str, object]) -> Id:
    """POST that makes something (201, other servers 200); returns its id.

    Never sent twice when it may have been carried out: a lost answer raises ``UnknownOutcome``, and so does
    an answer that does not tell the id. The caller then lists again; what was made shows up there. (Looking
    here for something of the same title could mistake another one for it: titles need not be unique, and the
    search index lags.)
    """
    return await client.call("POST", path, body=body, read=_new_id)


async def found_after(lost: UnknownOutcome, look: Callable[[], Awaitable[T | None]]) -> T:
    """What ``look`` finds of a POST whose answer was lost, which is not sent again. ``UnknownOutcome``:
    nothing.
    """
    for pause in LOOKS:
        await trio.sleep(pause)
        with contextlib.suppress(RemoteError):
            found = await look()
            if found is not None:
                return found
    raise UnknownOutcome(
        f"{lost}; Figshare does not show what it would have made, and nothing is sent again",
        status=lost.status,
    ) from lost


async def update(client: Client, path: str, fields: Mapping[str, object]) -> None:
    """Change only the given fields.

    PATCH, because PUT is described as taking the *full* body: sending a title alone could clear the
    description. A server that does not know PATCH (405, 501) gets the PUT that older descriptions allow with
    some of the fields.
    """
    try:
        await client.call("PATCH", path, body=fields, read=nothing)
    except RemoteError as refused:
        if refused.status not in (405, 501):
            raise
        await client.call("PUT", path, body=fields, read=nothing)


async def delete(client: Client, path: str) -> None:
    """DELETE. Raises ``NotFound`` if it was not there before this call."""
    await client.call("DELETE", path, read=nothing)


def _new_id(answer: Answer) -> Id:
    # Old Figshare tells the location in the header, the present one in the body too (api.md §3).
    try:
        return Location.from_json(answer.json()).id
    except BadAnswer:
        return Location(location=answer.headers.get("location", "")).id
