"""Full-text searches, own and public, in the order in which Figshare ranks what it finds."""

from __future__ import annotations

from figfs.errors import NotFound, NotSupported
from figfs.figshare.client import Client
from figfs.figshare.paging import PAGE_SIZE, read_pages, search_page
from figfs.figshare.records import Article

OWN = "/account/articles/search"
PUBLIC = "/articles/search"


async def own(client: Client, query: str, most: int) -> list[Article]:
    """The account's articles that ``query`` finds (api.md §6, search language); at most ``most``.

    ``Invalid`` where Figshare refuses the query.
    """
    return await _found(client, OWN, query, most)


async def public(client: Client, query: str, most: int) -> list[Article]:
    """The same, of anybody's published articles."""
    return await _found(client, PUBLIC, query, most)


async def _found(client: Client, path: str, query: str, most: int) -> list[Article]:
    pages = search_page(client, path, {"search_for": query})
    try:
        # Where Figshare refuses to page on, so many are enough.
        listed = await read_pages(
            pages, Article, size=min(most, PAGE_SIZE), enough=lambda found: len(found) >= most
        )
    except NotFound as exc:
        raise NotSupported("this server has no search") from exc
    return listed.found[:most]
