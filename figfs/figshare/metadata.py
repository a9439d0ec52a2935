"""An item's metadata as Figshare gives it, unread: for documents that show all of it. And changing it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from figfs.errors import BadAnswer, NotFound
from figfs.figshare import items
from figfs.figshare.client import Answer, Client
from figfs.figshare.items import own_path, public_path
from figfs.figshare.paging import list_all
from figfs.figshare.records import Article, Id

#: Bytes of an answer that becomes a document. The largest real ones have a few thousand authors.
LARGEST = 4 << 20


async def get_own(client: Client, kind: str, item_id: Id, *, project_id: Id | None = None) -> dict[str, Any]:
    """The details of an own item. ``project_id``: of an article, maybe a collaborator's (api.md §4)."""
    return await _get(client, own_path(kind, item_id, project_id=project_id))


async def get_public(client: Client, kind: str, item_id: Id, *, version: int | None = None) -> dict[str, Any]:
    """The details of a public item: the latest version, or one. Works without a token."""
    return await _get(client, public_path(kind, item_id, version))


async def update(client: Client, kind: str, item_id: Id, fields: Mapping[str, object]) -> None:
    """Change the given fields of an own item and no other. Raises ``Invalid`` where Figshare refuses one."""
    await items.update(client, own_path(kind, item_id), fields)


async def get_account(client: Client) -> dict[str, Any]:
    """Everything that ``GET /account`` says; it holds no token."""
    return await _get(client, "/account")


async def list_licenses(client: Client) -> list[Any]:
    """What may be chosen: the account's list (an institution has its own), without a token the public."""
    return await _list(client, "/licenses" if client.token is None else "/account/licenses")


async def list_categories(client: Client) -> list[Any]:
    """As ``list_licenses``. Ids of the public list may be refused when they are written (quirks P5)."""
    return await _list(client, "/categories" if client.token is None else "/account/categories")


async def list_articles(client: Client, kind: str, item_id: Id, *, public: bool) -> list[Article]:
    """The articles of a project or collection."""
    path = public_path(kind, item_id) if public else own_path(kind, item_id)
    return await list_all(client, f"{path}/articles", Article)


async def list_collaborators(client: Client, project_id: Id) -> list[Any]:
    return await _list(client, f"{own_path('project', project_id)}/collaborators")


async def list_versions(client: Client, article_id: Id) -> list[int]:
    """The numbers of an article's published versions, ascending; none for what is not public."""
    try:
        raw = await _list(client, f"{public_path('article', article_id)}/versions")
    except NotFound:
        return []
    numbers = (entry.get("version") for entry in raw if isinstance(entry, Mapping))
    return sorted({number for number in numbers if type(number) is int and 0 < number < 1 << 31})


async def _get(client: Client, path: str) -> dict[str, Any]:
    return await client.call("GET", path, read=_object)


async def _list(client: Client, path: str) -> list[Any]:
    return await client.call("GET", path, read=_array)


def _object(answer: Answer) -> dict[str, Any]:
    raw = _decoded(answer)
    if not isinstance(raw, dict):
        raise BadAnswer("not an object")
    return raw


def _array(answer: Answer) -> list[Any]:
    raw = _decoded(answer)
    if not isinstance(raw, list):
        raise BadAnswer("not a list")
    return raw


def _decoded(answer: Answer) -> object:
    if len(answer.body) > LARGEST:
        raise BadAnswer(f"an answer of {len(answer.body)} bytes is too large for a document")
    return answer.json()
