"""Conditional requests: answers that came with an ETag or a Last-Modified, to be asked for again with those.

Figshare's documentation promises both headers, the answers that were looked at have neither (quirks L14). So
they are used where they come, and nothing depends on them. In memory only, for the life of a client.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import cachetools

from figfs.figshare.dates import http_date, seconds_between

ROOM = 16 << 20  #: bytes of answers kept
LARGEST = 4 << 20  #: and of one

#: An article's date of modification may not tell of a new file (quirks L14), so it alone proves nothing here.
_UNDATED = re.compile(r"/articles/[^/?]+")

#: Seconds between Last-Modified and Date, from which on a later change has another date for sure.
_RESOLUTION = 2.0

#: What is sent back as it came: a header takes no more, and no server needs as much.
_SENDABLE = re.compile(r"[\x21-\x7e][\x20-\x7e]{0,999}")


@dataclasses.dataclass(frozen=True, slots=True)
class Validated:
    """An answer, and what to ask for it with."""

    conditions: Mapping[str, str]  #: headers of the request
    headers: Mapping[str, str]
    body: bytes


class Validators:
    """Answers of one client, by URL, query and token; the longest unused go first."""

    def __init__(self) -> None:
        self._known: cachetools.LRUCache[object, Validated] = cachetools.LRUCache(
            ROOM, getsizeof=lambda known: len(known.body) + 1000
        )

    def find(self, key: object) -> Validated | None:
        return self._known.get(key)

    def keep(self, key: object, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Keep an answer that was understood; one without a validator replaces one that had it."""
        conditions = conditions_of(path, headers)
        if conditions and len(body) <= LARGEST:
            self._known[key] = Validated(conditions, headers, body)
        else:
            self.drop(key)

    def drop(self, key: object) -> None:
        self._known.pop(key, None)


def conditions_of(path: str, headers: Mapping[str, str]) -> dict[str, str]:
    """The headers with which to ask for an answer again; none where it has no validator to rely on. Pure."""
    if "no-store" in headers.get("cache-control", "").lower():
        return {}
    modified, etag = (_sendable(headers.get(name, "")) for name in ("last-modified", "etag"))
    if etag:
        found = {"If-None-Match": etag}
        return {**found, "If-Modified-Since": modified} if modified else found
    if _UNDATED.search(path) or not modified:
        return {}
    age = seconds_between(http_date(modified), http_date(headers.get("date")))
    return {"If-Modified-Since": modified} if age is not None and age >= _RESOLUTION else {}


def _sendable(value: str) -> str:
    """A validator, or "" for what is none that could be sent."""
    value = value.strip()
    return value if _SENDABLE.fullmatch(value) else ""
