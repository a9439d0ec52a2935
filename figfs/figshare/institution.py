"""What the administrator of an institution can do: find accounts, feed the list of its people and the values
of custom fields (api.md §7). For all others Figshare answers 403.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from figfs.errors import Forbidden, Invalid, NotFound
from figfs.figshare import paging
from figfs.figshare.client import Client, FormFile, nothing, segment
from figfs.figshare.records import Account, Article, CustomField, Id, Unread, read_list

ACCOUNTS = "/account/institution/accounts"
ARTICLES = "/account/institution/articles"
BEFORE_ALL = "1900-01-01"  #: nothing was published before


async def is_administrator(client: Client) -> bool:
    """Whether the token's account administers an institution: its accounts may be listed."""
    try:
        await client.call("GET", ACCOUNTS, params={"page": 1, "page_size": 1}, read=nothing)
    except (Forbidden, NotFound):
        return False
    return True


async def list_accounts(client: Client) -> list[Account]:
    """All accounts of the institution, each once. Where pages end, ranges of ids go on (quirks L7)."""
    found: dict[Id, Account] = {}
    bounds: dict[str, str | int] = {}
    while True:
        pages = await paging.read_pages(paging.get_page(client, ACCOUNTS, bounds), Account)
        known = len(found)
        found.update((account.id, account) for account in pages.found)
        if pages.stopped is None:
            return list(found.values())
        ids = [account.id for account in pages.found]
        bounds = _beyond(ids)
        if not bounds or len(found) == known:  # in no order, or a server that ignores ranges
            return paging.whole(paging.Pages(list(found.values()), pages.stopped), ACCOUNTS)


def _beyond(ids: list[Id]) -> dict[str, str | int]:
    """The range of all that comes after ``ids`` in a list that is in their order; {} if they are in none."""
    numbers = [number for number in ids if isinstance(number, int)]
    if len(numbers) < 2 or len(numbers) < len(ids):
        return {}
    if numbers == sorted(numbers):
        return {"id_gte": numbers[-1] + 1}
    if numbers == sorted(numbers, reverse=True):
        return {"id_lte": numbers[-1] - 1}
    return {}


async def find_account(client: Client, wanted: str) -> Account:
    """The account with that id, e-mail address or institution user id; one or two requests.

    A number is an account id before it is an institution's. Raises ``NotFound`` if there is none, and
    ``Forbidden`` for who administers no institution.
    """
    found = await find_accounts(client, wanted)
    if not found:
        raise NotFound(f"the institution has no account {wanted!r}")
    return found[0]


async def find_accounts(client: Client, wanted: str) -> list[Account]:
    """The same: all of them, should one address have several; none if there is none."""
    if "@" in wanted:
        spellings = dict.fromkeys((wanted, wanted.lower()))  # whether a server minds the case is not known
        queries: list[dict[str, str | int]] = [{"email": address} for address in spellings]
    elif wanted.isascii() and wanted.isdigit():
        queries = [{"id_gte": wanted, "id_lte": wanted}, {"institution_user_id": wanted}]
    else:
        queries = [{"institution_user_id": wanted}]
    for query in queries:
        found = await client.call(
            "GET", ACCOUNTS, params=query, read=lambda answer: read_list(Account, answer.json())
        )
        # A server that ignores the filter sends everybody.
        found = [account for account in found if wanted.casefold() in map(str.casefold, names_of(account))]
        if found:
            return found
    return []


def names_of(account: Account) -> tuple[str, ...]:
    """What it is found by."""
    return str(account.id), account.email, account.institution_user_id


async def list_articles(client: Client) -> list[Mapping[str, Any]]:
    """All articles of the institution's accounts, drafts too, unread, in the server's order."""
    return [article.said for article in await paging.list_all(client, ARTICLES, Unread)]


async def list_public_articles(client: Client) -> list[Article]:
    """The published ones among them. Where the server pages no further, it is asked for what was published
    from the day of the last one on (quirks L7). ``BadAnswer`` where that cannot be shown to be all.
    """
    try:
        return await _published_in_order(client)
    except Invalid:  # it knows no such filter, or no such date
        listed = await paging.list_all(client, ARTICLES, Article)
        return [article for article in listed if article.published_date is not None]


async def _published_in_order(client: Client) -> list[Article]:
    found: dict[Id, Article] = {}
    since = BEFORE_ALL
    while True:
        query = {"order": "published_date", "order_direction": "asc", "published_since": since}
        pages = await paging.read_pages(paging.get_page(client, ARTICLES, query), Article)
        window = [article for article in pages.found if article.published_date is not None]
        found.update((article.id, article) for article in window)
        if pages.stopped is None:
            return list(found.values())
        dates = [article.published_date or 0.0 for article in window]
        last = _day(dates[-1]) if dates else ""
        if dates != sorted(dates) or last <= since:  # in no order, or too many on one day
            return paging.whole(paging.Pages(list(found.values()), pages.stopped), ARTICLES)
        since = last


def _day(seconds: float) -> str:
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError):  # no year that a calendar has
        return ""


async def custom_fields(client: Client) -> list[CustomField]:
    """The custom fields of the institution's items. (Deprecated by Figshare, gone after 2027-01-01.)"""
    return await client.call(
        "GET", "/account/institution/custom_fields", read=lambda answer: read_list(CustomField, answer.json())
    )


async def upload_values(client: Client, field_id: Id, name: str, content: bytes) -> None:
    """Replace the values that a custom field can have, by a CSV file. Accepted is not yet imported.

    Raises ``Conflict`` while a previous import is in progress, ``Invalid`` for a field of another type.
    """
    path = f"/account/institution/custom_fields/{segment(field_id)}/items/upload"
    await client.call("POST", path, file=FormFile("external_file", name, content), read=nothing)


async def upload_feed(client: Client, name: str, content: bytes) -> None:
    """Submit the HR feed, an XML or CSV file; once in 24 hours. Accepted is not yet imported."""
    await client.call(
        "POST", "/institution/hrfeed/upload", file=FormFile("hrfeed", name, content), read=nothing
    )
