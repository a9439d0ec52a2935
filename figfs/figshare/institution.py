"""What the administrator of an institution can do: find accounts, feed the list of its people and the values
of custom fields (api.md §7). For all others Figshare answers 403.
"""

from __future__ import annotations

from typing import Any

import msgspec

from figfs.errors import Forbidden, NotFound
from figfs.figshare import paging
from figfs.figshare.client import Client, FormFile, nothing, segment
from figfs.figshare.records import Account, Article, CustomField, Id, read_list

ACCOUNTS = "/account/institution/accounts"


async def is_administrator(client: Client) -> bool:
    """Whether the token's account administers an institution: its accounts may be listed."""
    try:
        await client.call("GET", ACCOUNTS, params={"page": 1, "page_size": 1}, read=nothing)
    except (Forbidden, NotFound):
        return False
    return True


async def list_accounts(client: Client) -> list[Account]:
    """All accounts of the institution."""
    return await paging.list_all(client, ACCOUNTS, Account)


async def find_account(client: Client, wanted: str) -> Account:
    """The account with that id, e-mail address or institution user id; one or two requests.

    A number is an account id before it is an institution's. Raises ``NotFound`` if there is none, and
    ``Forbidden`` for who administers no institution.
    """
    if "@" in wanted:
        queries: list[dict[str, str | int]] = [{"email": wanted}]
    elif wanted.isascii() and wanted.isdigit():
        queries = [{"id_gte": wanted, "id_lte": wanted}, {"institution_user_id": wanted}]
    else:
        queries = [{"institution_user_id": wanted}]
    for query in queries:
        found = await client.call(
            "GET", ACCOUNTS, params=query, read=lambda answer: read_list(Account, answer.json())
        )
        # A server that ignores the filter sends everybody.
        found = [account for account in found if wanted in _names(account)]
        if found:
            return found[0]
    raise NotFound(f"the institution has no account {wanted!r}")


def _names(account: Account) -> tuple[str, ...]:
    return str(account.id), account.email, account.institution_user_id


async def list_articles(client: Client) -> list[Any]:
    """All articles of the institution's accounts, as the server lists them."""
    pages = await paging.read_pages(paging.get_page(client, "/account/institution/articles"), Article)
    return [msgspec.to_builtins(article) for article in paging.whole(pages, "the institution's articles")]


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
