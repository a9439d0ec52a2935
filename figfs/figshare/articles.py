"""Own articles: list, search, details, create, update, delete."""

from __future__ import annotations

import datetime
import itertools
import logging
import math
from collections.abc import Sequence

from figfs.errors import BadAnswer, Invalid
from figfs.figshare import items
from figfs.figshare.client import Client, segment
from figfs.figshare.paging import get_page, read_pages, search_page, whole
from figfs.figshare.records import Article, ArticleDetails, Id, id_order

log = logging.getLogger(__name__)

SEARCH = "/account/articles/search"


async def list_own(client: Client) -> list[Article]:
    """All articles of the account, drafts and published, each once, by id.

    One request for each thousand, while the server pages that far. Where it refuses (quirks L7; the listing
    has no other order and no filter), the rest comes from the search: the oldest, until they meet what was
    listed; and where the two cannot be shown to meet, everything by date of modification. Raises
    ``BadAnswer`` rather than return less than all.
    """
    listed = await read_pages(get_page(client, "/account/articles"), Article)
    found = listed.found
    if listed.stopped is not None:
        log.debug("the listing of articles stops at %d: %s", len(found), listed.stopped)
        try:
            rest = await _oldest_until(client, found)
            if rest is None:
                rest = await _by_modification(client)
        except Invalid as refused:
            raise BadAnswer(
                f"Figshare lists only {len(found)} articles, and refuses to search: {refused}"
            ) from refused
        found = [*found, *rest]
    return sorted(
        {article.id: article for article in found}.values(), key=lambda article: id_order(article.id)
    )


async def search_own(
    client: Client,
    *,
    search_for: str = "",
    order: str = "",
    ascending: bool = False,
    modified_since: float | None = None,
    published_since: float | None = None,
    project_id: Id | None = None,
) -> list[Article]:
    """The account's articles that the search finds; a new one shows there only after a while (quirks L11).

    ``order``: created_date, published_date, modified_date, views … (api.md §3). Times: POSIX seconds.
    Raises ``BadAnswer`` where there are more than the server lists.
    """
    query = _query(
        search_for=search_for,
        order=order,
        order_direction="asc" if ascending else "desc" if order else "",
        modified_since=_date(modified_since),
        published_since=_date(published_since),
        project_id=project_id,
    )
    return whole(await read_pages(search_page(client, SEARCH, query), Article), "the search of articles")


async def get(client: Client, article_id: Id) -> ArticleDetails:
    return await client.call(
        "GET", _path(article_id), read=lambda answer: ArticleDetails.from_json(answer.json())
    )


async def create(client: Client, title: str) -> Id:
    """A new draft that is in no project. Raises ``UnknownOutcome`` on a lost answer, see ``items.create``."""
    return await items.create(client, "/account/articles", {"title": title})


async def update(client: Client, article_id: Id, **fields: object) -> None:
    """Change the given fields and no other, for example ``title=…``."""
    await items.update(client, _path(article_id), fields)


async def delete(client: Client, article_id: Id) -> None:
    """Delete a draft. A published article is refused: ``Forbidden`` (quirks P1)."""
    await items.delete(client, _path(article_id))


# Past the depth at which the listing is refused


async def _oldest_until(client: Client, listed: Sequence[Article]) -> list[Article] | None:
    """The articles older than those listed; None where it cannot be proven that these are all.

    The proof: ``listed`` is the newest articles, newest first; the search gives the oldest, oldest first; so
    nothing is between them once the search has come past the date at which the listing ended.
    """
    if not _falls(listed):
        return None
    query = _query(order="created_date", order_direction="asc")
    pages = await read_pages(
        search_page(client, SEARCH, query), Article, enough=lambda found: _meet(listed, found)
    )
    return pages.found if _meet(listed, pages.found) else None


def _meet(newest: Sequence[Article], oldest: Sequence[Article]) -> bool:
    """Whether ``newest`` (falling dates of creation) and ``oldest`` (as found) together have no gap."""
    if not newest or not oldest or not _falls(oldest[::-1]):
        return False
    first, last = newest[0], newest[-1]
    # Articles of one date do not tell the newest from the oldest; falling ids do.
    if first.created_date == last.created_date and id_order(first.id) <= id_order(last.id):
        return False
    end, reached = last.created_date, oldest[-1].created_date
    assert end is not None  # _falls
    assert reached is not None
    if reached != end:
        return reached > end
    # They meet within articles of the same date (made by a script, say). That shows no gap only if both sides
    # order these by id too, which takes at least two of them on each side to see.
    upper = [article.id for article in newest if article.created_date == end]
    lower = [article.id for article in oldest if article.created_date == end]
    return (
        len(upper) > 1
        and len(lower) > 1
        and upper == sorted(upper, key=id_order, reverse=True)
        and lower == sorted(lower, key=id_order)
        and id_order(lower[-1]) >= id_order(upper[-1])
    )


def _falls(articles: Sequence[Article]) -> bool:
    """Whether every article has a date of creation, none later than the one before it."""
    dates = [math.inf, *(math.nan if a.created_date is None else a.created_date for a in articles)]
    return all(later >= earlier for later, earlier in itertools.pairwise(dates))


async def _by_modification(client: Client) -> list[Article]:
    """All articles, in windows that begin where the one before ended. ``BadAnswer`` if a gap is possible."""
    found: dict[Id, Article] = {}
    since: float | None = None
    while True:
        query = _query(order="modified_date", order_direction="asc", modified_since=_date(since))
        pages = await read_pages(search_page(client, SEARCH, query), Article)
        window = pages.found
        dates = [article.modified_date for article in window]
        known = [date for date in dates if date is not None]
        if len(known) < len(dates) or known != sorted(known):
            raise BadAnswer(
                "the search of articles does not follow the date of modification: cannot list them all"
            )
        # A window that begins with something known leaves no gap to the one before.
        if since is not None and not any(article.id in found for article in window):
            raise BadAnswer("the search of articles leaves a gap between two dates: cannot list them all")
        found.update((article.id, article) for article in window)
        if pages.stopped is None:
            return list(found.values())
        # "Since" may or may not include the date itself, which has a resolution of a second.
        last = math.floor(known[-1]) - 1 if known else None
        if last is None or (since is not None and last <= since):
            raise BadAnswer(
                "too many articles modified in the same second: cannot list them all"
            ) from pages.stopped
        since = last


def _query(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value not in (None, "")}


def _date(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.datetime.fromtimestamp(math.floor(seconds), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _path(article_id: Id) -> str:
    return f"/account/articles/{segment(article_id)}"
