"""The statistics service, ``https://stats.figshare.com`` in the world: totals only (api.md §10).

Nothing is counted here: the numbers are made from the id, the same every time.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from figfs.sandbox.errors import not_found
from figfs.sandbox.http import json_response, public
from figfs.sandbox.state import Sandbox

_COUNTERS = {"views": 911, "downloads": 127, "shares": 7}

#: Kind of item -> table, and what makes a row of it public.
_ITEMS = {
    "article": ("articles", "version > 0"),
    "collection": ("collections", "version > 0"),
    "project": ("projects", "published IS NOT NULL"),
}


async def total(sandbox: Sandbox, request: Request) -> Response:
    """An empty result, not 404, for an item that is unknown or not public."""
    counter, kind = request.path_params["counter"], request.path_params["item"]
    if counter not in _COUNTERS or kind not in _ITEMS:
        raise not_found("statistics", f"{counter}/{kind}")
    table, published = _ITEMS[kind]
    number = request.path_params["item_id"]
    if not sandbox.store.value(f"SELECT 1 FROM {table} WHERE id = ? AND {published}", number):
        return json_response({})
    return json_response({"totals": number * 2654435761 % _COUNTERS[counter]})


routes = [public("/stats/total/{counter}/{item}/{item_id:int}", "GET", total)]
