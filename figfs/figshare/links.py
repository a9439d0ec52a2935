"""Private links of own articles and collections: who has one may read a draft."""

from __future__ import annotations

from figfs.errors import UnknownOutcome
from figfs.figshare import items
from figfs.figshare.client import Answer, Client, nothing, segment
from figfs.figshare.items import own_path
from figfs.figshare.records import Id, Item, read_list


class PrivateLink(Item, frozen=True, kw_only=True):
    """``html_location`` opens the item for whoever has it."""

    html_location: str = ""
    is_active: bool = False
    expires_date: str = ""


async def list_links(client: Client, kind: str, item_id: Id) -> list[PrivateLink]:
    """All of an item's links: no paging is described. ``kind``: article, collection."""
    return await client.call("GET", _path(kind, item_id), read=_read)


async def create(client: Client, kind: str, item_id: Id, *, expires_date: str = "") -> None:
    """A new link. ``expires_date`` "": Figshare's default, a year.

    Never sent twice. If the answer is lost, the one link that has come since, of that expiry, is it: hence
    the look before. None, or several: ``UnknownOutcome``.
    """
    before = {link.id for link in await list_links(client, kind, item_id)}

    async def look() -> PrivateLink | None:
        new = [
            link
            for link in await list_links(client, kind, item_id)
            if link.id not in before and _day(link.expires_date).startswith(_day(expires_date))
        ]
        return new[0] if len(new) == 1 else None

    try:
        await client.call("POST", _path(kind, item_id), body=_body(expires_date), read=nothing)
    except UnknownOutcome as lost:
        await items.found_after(lost, look)


async def update(client: Client, kind: str, item_id: Id, link_id: Id, *, expires_date: str) -> None:
    path = f"{_path(kind, item_id)}/{segment(link_id)}"
    await client.call("PUT", path, body=_body(expires_date), read=nothing)


async def delete(client: Client, kind: str, item_id: Id, link_id: Id) -> None:
    await items.delete(client, f"{_path(kind, item_id)}/{segment(link_id)}")


def _day(date: str) -> str:
    """Servers add a time to a date, perhaps of their own zone."""
    return date[:10]


def _body(expires_date: str) -> dict[str, str]:
    return {"expires_date": expires_date} if expires_date else {}


def _read(answer: Answer) -> list[PrivateLink]:
    return read_list(PrivateLink, answer.json())


def _path(kind: str, item_id: Id) -> str:
    return f"{own_path(kind, item_id)}/private_links"
