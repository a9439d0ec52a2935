"""ResourceSync (ANSI/NISO Z39.99-2017): what the portal has in public, and what has become of it since.

Sitemaps with a few elements more: `/.well-known/resourcesync` leads to a Capability List, that to a Resource
List and a Change List. A list of more than ``resourcesync_entries`` is an index of lists. Figshare's portals
are known to have the first (api.md §10) and lists below ``/figshareresourcesync/`` (a Resource List of 2020
that is archived); what is in those nobody has described, so all else is as the standard says.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TypeVar
from xml.sax.saxutils import escape, quoteattr

from starlette.requests import Request
from starlette.responses import Response

from figfs.sandbox import history
from figfs.sandbox.clock import stamp
from figfs.sandbox.errors import not_found
from figfs.sandbox.http import Handler, public
from figfs.sandbox.state import Sandbox

_WELL_KNOWN = "/.well-known/resourcesync"
_LISTS = "/figshareresourcesync"
_NAMESPACES = (
    'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:rs="http://www.openarchives.org/rs/terms/"'
)

T = TypeVar("T")

#: What lists consist of: an address, and elements beside it.
Entry = tuple[str, str]


async def describe(sandbox: Sandbox, request: Request) -> Response:
    """The Source Description."""
    entry = (f"{_LISTS}/capabilitylist.xml", _md(capability="capabilitylist"))
    return _document(sandbox, [_md(capability="description")], [entry])


async def capabilities(sandbox: Sandbox, request: Request) -> Response:
    entries = [(f"{_LISTS}/{name}.xml", _md(capability=name)) for name in ("resourcelist", "changelist")]
    return _document(sandbox, [_ln(sandbox, "up", _WELL_KNOWN), _md(capability="capabilitylist")], entries)


async def resource_list(sandbox: Sandbox, request: Request) -> Response:
    """All public items, with the date of their last change."""
    now = sandbox.clock.stamp()
    entries = [
        (_page(kind, row["id"]), f"<lastmod>{escape(row['modified'])}</lastmod>")
        for kind in ("articles", "collections", "projects")
        for row in sandbox.store.rows(
            f"SELECT id, modified FROM {kind} WHERE published IS NOT NULL ORDER BY id"
        )
    ]
    parts = [({"at": now}, part) for part in _parts(sandbox, entries)]
    return _listed(sandbox, request, "resourcelist", {"at": now}, parts)


async def change_list(sandbox: Sandbox, request: Request) -> Response:
    """What has happened since the beginning, or in the last ``changes_kept`` seconds.

    The last part is open, so it has no ``until``; those before it end where the next one begins.
    """
    kept = sandbox.settings.changes_kept
    start = history.since(sandbox)
    if kept is not None:
        start = max(start, stamp(sandbox.clock.time() - kept))
    rows = history.after(sandbox, start)
    parts = _parts(sandbox, rows)
    begins = [start, *(part[0]["date"] for part in parts[1:])]
    periods = [
        *({"from": begin, "until": end} for begin, end in itertools.pairwise(begins)),
        {"from": begins[-1]},
    ]
    shown = [
        (
            period,
            [
                (_page(row["kind"], row["item_id"]), _md(change=row["change"], datetime=row["date"]))
                for row in part
            ],
        )
        for period, part in zip(periods, parts, strict=True)
    ]
    return _listed(sandbox, request, "changelist", {"from": start}, shown)


def _listed(
    sandbox: Sandbox,
    request: Request,
    name: str,
    period: dict[str, str],
    parts: Sequence[tuple[dict[str, str], Sequence[Entry]]],
) -> Response:
    """The list itself, its index where it has several parts, or the part that the request names."""
    up = _ln(sandbox, "up", f"{_LISTS}/capabilitylist.xml")
    number = request.path_params.get("part")
    if number is None and len(parts) == 1:
        return _document(sandbox, [up, _md(capability=name, **period)], parts[0][1])
    if number is None:
        entries = [(f"{_LISTS}/{name}-{n}.xml", _md(**times)) for n, (times, _) in enumerate(parts)]
        return _document(sandbox, [up, _md(capability=name, **period)], entries, index=True)
    if len(parts) == 1 or number >= len(parts):
        raise not_found(name, number)
    times, part = parts[number]
    index = _ln(sandbox, "index", f"{_LISTS}/{name}.xml")
    return _document(sandbox, [up, index, _md(capability=name, **times)], part)


def _parts(sandbox: Sandbox, entries: Sequence[T]) -> list[Sequence[T]]:
    size = max(1, sandbox.settings.resourcesync_entries)
    return [entries[n : n + size] for n in range(0, len(entries), size)] or [[]]


def _page(kind: str, item_id: int) -> str:
    """An item's page, as ``url_public_html`` has it."""
    return f"/{kind}/_/{item_id}"


def _md(**attributes: str) -> str:
    return "<rs:md" + "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items()) + "/>"


def _ln(sandbox: Sandbox, rel: str, path: str) -> str:
    return f'<rs:ln rel="{rel}" href={quoteattr(sandbox.base_url + path)}/>'


def _document(
    sandbox: Sandbox, head: Iterable[str], entries: Iterable[Entry], *, index: bool = False
) -> Response:
    root, each = ("sitemapindex", "sitemap") if index else ("urlset", "url")
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f"<{root} {_NAMESPACES}>",
        *head,
        *(f"<{each}><loc>{escape(sandbox.base_url + path)}</loc>{more}</{each}>" for path, more in entries),
        f"</{root}>",
    ]
    return Response("\n".join(lines) + "\n", media_type="application/xml")


def _offered(handler: Handler) -> Handler:
    """Not there where the portal has no ResourceSync."""

    async def answer(sandbox: Sandbox, request: Request) -> Response:
        if not sandbox.settings.resourcesync:
            raise not_found("page", request.url.path)
        return await handler(sandbox, request)

    return answer


routes = [
    public(path, "GET", _offered(handler))
    for path, handler in (
        (_WELL_KNOWN, describe),
        (f"{_LISTS}/capabilitylist.xml", capabilities),
        (f"{_LISTS}/resourcelist.xml", resource_list),
        (f"{_LISTS}/resourcelist-{{part:int}}.xml", resource_list),
        (f"{_LISTS}/changelist.xml", change_list),
        (f"{_LISTS}/changelist-{{part:int}}.xml", change_list),
    )
]
