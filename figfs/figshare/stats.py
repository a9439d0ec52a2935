"""The statistics service: how often a public item was viewed, downloaded, shared. It needs no token."""

from __future__ import annotations

import urllib.parse
from collections.abc import Mapping

from figfs.errors import BadAnswer
from figfs.figshare.client import Client, segment
from figfs.figshare.records import Id, decode
from figfs.figshare.retry import Failure
from figfs.figshare.wire import Failed, is_loopback

SERVICE = "https://stats.figshare.com"
COUNTERS = ("views", "downloads", "shares")


async def get_totals(client: Client, kind: str, item_id: Id) -> dict[str, int | None]:
    """Totals by counter; None where the service tells none (unknown ids are an empty result, api.md §10).

    ``kind``: article, collection, project. Three requests, one after the other; not paced: another service.
    """
    return {counter: await _total(client, counter, kind, item_id) for counter in COUNTERS}


async def _total(client: Client, counter: str, kind: str, item_id: Id) -> int | None:
    what = f"statistics of {kind} {item_id}"
    url = f"{_service(client)}/total/{counter}/{kind}/{segment(item_id)}"

    async def once() -> int | None:
        async with client.wire.exchange("GET", url, what=what) as response:
            if response.status_code != 200:
                raise await client.wire.refused(response, what=what)
            body = await client.wire.read_body(response, what=what)
        try:
            return _read(decode(body))
        except BadAnswer as bad:
            raise Failed(Failure.GARBLED, BadAnswer(f"{what}: {bad}")) from None

    return await client.persist("GET", once)


def _service(client: Client) -> str:
    """Of an API on this machine (a sandbox) its own server, as there is no other."""
    if not is_loopback(client.api):
        return SERVICE
    parts = urllib.parse.urlsplit(client.api)
    return f"{parts.scheme}://{parts.netloc}/stats"


def _read(raw: object) -> int | None:
    value = raw.get("totals") if isinstance(raw, Mapping) else raw
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value < 1 << 63 else None
