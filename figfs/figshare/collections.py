"""Collections of the account, and which articles (anybody's) they refer to."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from figfs.errors import UnknownOutcome
from figfs.figshare import items
from figfs.figshare.client import Client, nothing, segment
from figfs.figshare.paging import list_all
from figfs.figshare.records import Article, Collection, Id

MOST_AT_ONCE = 10  #: articles in one request to add (api.md §5)


async def list_own(client: Client) -> list[Collection]:
    return await list_all(client, "/account/collections", Collection)


async def create(client: Client, title: str) -> Id:
    """A new draft collection; see ``items.create`` for a lost answer."""
    return await items.create(client, "/account/collections", {"title": title})


async def update(client: Client, collection_id: Id, *, title: str) -> None:
    await items.update(client, _path(collection_id), {"title": title})


async def delete(client: Client, collection_id: Id) -> None:
    await items.delete(client, _path(collection_id))


async def list_articles(client: Client, collection_id: Id) -> list[Article]:
    """The articles it refers to, which may be other people's (quirks L13)."""
    return await list_all(client, f"{_path(collection_id)}/articles", Article)


async def add_articles(client: Client, collection_id: Id, article_ids: Iterable[Id]) -> None:
    """Put the articles in, ten at a time. A lost answer is settled by looking into the collection."""
    rest = iter(article_ids)
    while ids := list(itertools.islice(rest, MOST_AT_ONCE)):
        try:
            path = f"{_path(collection_id)}/articles"
            await client.call("POST", path, body={"articles": ids}, read=nothing)
        except UnknownOutcome:
            inside = {article.id for article in await list_articles(client, collection_id)}
            if not inside.issuperset(ids):
                raise


async def remove_article(client: Client, collection_id: Id, article_id: Id) -> None:
    """Take the article out of the collection; the article itself stays."""
    await items.delete(client, f"{_path(collection_id)}/articles/{segment(article_id)}")


def _path(collection_id: Id) -> str:
    return f"/account/collections/{segment(collection_id)}"
