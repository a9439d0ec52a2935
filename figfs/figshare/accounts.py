"""Whose token this is, and how much room there is."""

from __future__ import annotations

from figfs.figshare.client import Client
from figfs.figshare.records import Account


async def get_account(client: Client) -> Account:
    """The account of the client's token. Raises ``Unauthorized`` if the token is not (or no longer) valid."""
    return await client.call("GET", "/account", read=lambda answer: Account.from_json(answer.json()))
