"""A listing to its end, or an error: never a part of it that looks like the whole.

Figshare tells no totals. A listing ends at a page that is short or empty (quirks L8). Only ``page`` and
``page_size`` are ever sent: mixing them with ``limit`` and ``offset`` is a 422 (api.md §1).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

from figfs.errors import BadAnswer, Invalid, RemoteError
from figfs.figshare.client import Answer, Client
from figfs.figshare.records import Id, Item, read_list

PAGE_SIZE = 1000  #: the most that Figshare allows
LAST_PAGE = 5000  #: the highest page number that Figshare allows

# A first page shorter than asked for may be the whole listing, or a server that allows no more on one page
# (quirks L9: ten, whatever was asked; project and file listings have no documented paging, and ten is the
# default). Only asking on tells. Servers cap at round numbers, so this costs one more request for one account
# in five; any other short page ends a listing.
SHORTEST_CAP = 10
CAPS_DIVIDE_BY = 5

I = TypeVar("I", bound=Item)  # noqa: E741

#: Asks for one page: (page from 1, page size) -> parsed JSON.
Fetch = Callable[[int, int], Awaitable[object]]


@dataclasses.dataclass(frozen=True, slots=True)
class Pages(Generic[I]):
    """What was listed, each id once, in the server's order; and why it may not be all, if so."""

    found: list[I]
    stopped: RemoteError | None  #: the server refuses to page on


async def list_all(client: Client, path: str, cls: type[I]) -> list[I]:
    """All items of a GET listing, each id once, in the server's order.

    Raises ``BadAnswer`` where the server refuses to page to the end, and what ``Client.call`` raises.
    """
    return whole(await read_pages(get_page(client, path), cls), path)


def get_page(client: Client, path: str, query: Mapping[str, str | int] | None = None) -> Fetch:
    """The pages of ``GET path`` with what ``query`` asks for."""

    async def fetch(page: int, page_size: int) -> object:
        params = {**(query or {}), "page": page, "page_size": page_size}
        return await client.call("GET", path, params=params, read=_list)

    return fetch


def search_page(client: Client, path: str, query: Mapping[str, object]) -> Fetch:
    """The pages of the search ``POST path`` with the body ``query``."""

    async def fetch(page: int, page_size: int) -> object:
        body = {**query, "page": page, "page_size": page_size}
        return await client.call("POST", path, body=body, read=_list, read_only=True)

    return fetch


async def read_pages(
    fetch: Fetch,
    cls: type[I],
    *,
    size: int = PAGE_SIZE,
    enough: Callable[[list[I]], bool] | None = None,
) -> Pages[I]:
    """Page after page until the listing ends, the server refuses to go on, or ``enough(found so far)``.

    ``size``: items that are asked for at a time.

    Raises what ``fetch`` raises, except a refusal (400, 422) of a page after the first.
    """
    found: dict[Id, I] = {}
    for page in range(1, LAST_PAGE + 1):
        try:
            raw = await fetch(page, size)
        except Invalid as refused:
            if page == 1:
                raise
            return Pages(list(found.values()), refused)
        known = len(found)
        for item in read_list(cls, raw):
            found.setdefault(item.id, item)
        length = len(raw) if isinstance(raw, list) else 0
        if page == 1 and length >= SHORTEST_CAP and length % CAPS_DIVIDE_BY == 0:
            size = length  # so that page 2 begins where page 1 ended, by whichever size the server counts
        # Nothing new: a server that ignores paging and has sent everything again.
        if length < size or len(found) == known or (enough is not None and enough(list(found.values()))):
            return Pages(list(found.values()), None)
    return Pages(list(found.values()), BadAnswer(f"more than {LAST_PAGE} pages"))


def whole(pages: Pages[I], what: str) -> list[I]:
    """What was found, if that is all. Raises ``BadAnswer`` otherwise."""
    if pages.stopped is not None:
        raise BadAnswer(
            f"{what}: Figshare does not list more than {len(pages.found)} items ({pages.stopped})"
        ) from pages.stopped
    return pages.found


def _list(answer: Answer) -> object:
    raw = answer.json()
    if not isinstance(raw, list):
        raise BadAnswer("not a list")
    return raw
