"""Pages of listings, as strict as Figshare's (api.md §1, Pagination)."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from starlette.datastructures import QueryParams

from figfs.sandbox.errors import ApiError, invalid
from figfs.sandbox.settings import Settings

DEFAULT_SIZE = 10
_LIMITS = {"page": (1, 5000), "page_size": (1, 1000), "limit": (1, 1000), "offset": (0, 5000)}


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """Rows ``[offset, offset + limit)``. ``limit`` -1: all."""

    limit: int
    offset: int

    @property
    def sql(self) -> str:
        return f" LIMIT {self.limit} OFFSET {self.offset}"


def parse_page(given: Mapping[str, object], settings: Settings) -> Page:
    """The page that a query (strings) or a search body (integers) asks for.

    422 for a value out of bounds, for both paging styles at once, and for a page that begins at or beyond the
    setting ``max_depth``.
    """
    from_query = isinstance(given, QueryParams)
    values = {key: _number(key, given[key], from_query) for key in _LIMITS if key in given}
    if settings.ignore_paging:
        return Page(-1, 0)
    if values.keys() & {"page", "page_size"} and values.keys() & {"limit", "offset"}:
        raise ApiError(422, "InvalidPagingOptions", "Use either page and page_size, or limit and offset")
    if values.keys() & {"limit", "offset"}:
        page = Page(values.get("limit", DEFAULT_SIZE), values.get("offset", 0))
    else:
        size = values.get("page_size", DEFAULT_SIZE)
        page = Page(size, (values.get("page", 1) - 1) * size)
    if settings.max_depth is not None and page.offset >= settings.max_depth:
        raise ApiError(422, "InvalidPagingOptions", "Max page reached. Please narrow down your search")
    return page


def parse_order(given: Mapping[str, object], allowed: Mapping[str, str], default: str) -> str:
    """The ORDER BY clause for ``order`` and ``order_direction`` (default desc).

    ``allowed`` maps orders to columns.
    """
    order = given.get("order", default)
    if not isinstance(order, str) or order not in allowed:
        raise invalid("order", "one of " + ", ".join(allowed))
    direction = given.get("order_direction", "desc")
    if direction not in ("asc", "desc"):
        raise invalid("order_direction", "asc or desc")
    return f" ORDER BY {allowed[order]} {direction}, id {direction}"


def _number(key: str, value: object, from_query: bool) -> int:
    low, high = _LIMITS[key]
    if from_query and isinstance(value, str) and re.fullmatch(r"\d{1,9}", value, re.ASCII):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ApiError(422, "InvalidPagingOptions", f"{key} must be an integer from {low} to {high}")
    return value
