"""Where downloads are redirected to: asked once for all ranges of a file that start while the URL lives.

Figshare answers a download with a URL that lives ten seconds, counted when a request arrives (quirks D10).
The URLs here are keys to the files, and so may their routes be (``?private_link=``): nothing is logged, and
there is no repr.
"""

from __future__ import annotations

import contextlib
import datetime
import urllib.parse
from collections.abc import Mapping
from types import TracebackType

import cachetools
import trio

from figfs.figshare.dates import http_date, seconds_between
from figfs.figshare.records import Id
from figfs.figshare.wire import Failed

MOST = 256  #: files whose target is remembered
MARGIN = (
    3.0  #: seconds before its end for which a URL is not used any more: clocks differ, requests take time
)
UNKNOWN_LIFE = 5.0  #: seconds for which a URL is used that does not say how long it lives
LONGEST_LIFE = 60.0
DIRECT_LIFE = 60.0  #: seconds for which a route that answered with the bytes themselves is not waited for

#: A file and the first URL of one route to it.
Key = tuple[Id, str]


class _Known:
    __slots__ = ("target", "until")

    def __init__(self, target: str | None, until: float) -> None:
        self.target = target  #: None: the route gives the bytes itself
        self.until = until


class Redirects:
    """The targets known at present. In one loop; no await but the one in ``look_up``."""

    def __init__(self) -> None:
        self._known: cachetools.TLRUCache[Key, _Known] = cachetools.TLRUCache(
            MOST, ttu=lambda _key, known, _now: known.until, timer=trio.current_time
        )
        self._resolving: dict[Key, Resolution] = {}

    async def look_up(self, key: Key) -> str | Resolution:
        """The target, or else what the caller enters (``with``, before it waits for anything) to find it.

        Waits while somebody else is finding it. Raises the ``Failed`` that ended that.
        """
        while True:
            known = self._known.get(key)
            if known is not None:
                return known.target or Resolution(self, key, shared=False)
            other = self._resolving.get(key)
            if other is None:
                return Resolution(self, key, shared=True)
            await other.ended.wait()
            if other.failed is not None:
                failed = other.failed
                raise Failed(failed.outcome, failed.error, retry_after=failed.retry_after)

    def forget(self, key: Key, target: str) -> None:
        """``target`` has not worked."""
        known = self._known.get(key)
        if known is not None and known.target == target:
            del self._known[key]


class Resolution:
    """``with``: somebody asks a route where the file is; others wait for that as long as nothing is said.

    Left by a ``Failed``, it is the failure of the others too; left by anything else, one of them asks next.
    """

    def __init__(self, redirects: Redirects, key: Key, *, shared: bool) -> None:
        self._redirects = redirects
        self._key = key
        self._shared = shared
        self.ended = trio.Event()
        self.failed: Failed | None = None

    def __enter__(self) -> Resolution:
        if self._shared:
            self._redirects._resolving[self._key] = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(exc, Failed) and not self.ended.is_set():
            self.failed = exc
        self._end()

    def redirected(self, target: str, life: float) -> None:
        """The route redirects to ``target``, which may be asked for ``life`` seconds from now."""
        if life > 0:
            self._redirects._known[self._key] = _Known(target, trio.current_time() + life)
        self._end()

    def direct(self) -> None:
        """The route gives the bytes itself."""
        self._redirects._known[self._key] = _Known(None, trio.current_time() + DIRECT_LIFE)
        self._end()

    def _end(self) -> None:
        if self._redirects._resolving.get(self._key) is self:
            del self._redirects._resolving[self._key]
        self.ended.set()


def life_of(target: str, headers: Mapping[str, str]) -> float:
    """Seconds for which a presigned URL may be asked; ``headers`` are those of the answer that gave it.

    By its X-Amz-Date and X-Amz-Expires, and the server's own clock; with a margin.
    """
    query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(target).query))
    lives = query.get("X-Amz-Expires", "")
    if not (lives.isascii() and lives.isdigit() and len(lives) <= 9):
        return UNKNOWN_LIFE
    made: datetime.datetime | None = None
    with contextlib.suppress(ValueError):
        made = datetime.datetime.strptime(query.get("X-Amz-Date", "") + "+0000", "%Y%m%dT%H%M%SZ%z")
    # Without such dates it was made just now.
    age = max(0.0, seconds_between(made, http_date(headers.get("date"))) or 0.0)
    return min(float(lives) - age - MARGIN, LONGEST_LIFE)
