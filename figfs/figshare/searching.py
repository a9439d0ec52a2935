"""Full-text searches, own and public, in the order in which Figshare ranks what it finds."""

from __future__ import annotations

from figfs.errors import BadAnswer, Invalid, NotFound, NotSupported
from figfs.figshare.client import Answer, Client
from figfs.figshare.paging import PAGE_SIZE
from figfs.figshare.records import Article, Id, read_list

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
    found: dict[Id, Article] = {}
    size = min(most, PAGE_SIZE)
    page = 1
    while len(found) < most:
        body = {"search_for": query, "page": page, "page_size": size}
        try:
            raw = await client.call("POST", path, body=body, read=_list, read_only=True)
        except NotFound as exc:
            raise NotSupported("this server has no search") from exc
        except Invalid:
            if page == 1:
                raise
            break  # so many are enough
        known = len(found)
        for article in read_list(Article, raw):
            found.setdefault(article.id, article)
        if len(raw) < size or len(found) == known:
            break
        page += 1
    return list(found.values())[:most]


def _list(answer: Answer) -> list[object]:
    raw = answer.json()
    if not isinstance(raw, list):
        raise BadAnswer("not a list")
    return raw
