"""ResourceSync: a portal tells in one answer what has changed of all its public items.

Where it does is found from ``/.well-known/resourcesync``: a Source Description leads to Capability Lists,
those to Change Lists or indexes of them (``sitemaps.py`` reads them). Figshare documents none of it
(api.md §10), so a portal without it, or with another shape of it, is nothing unusual.

The portal's web server is not the API: it gets no token, and only documents of its own origin are read, no
redirect is followed, nothing is repeated.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
import urllib.parse
from collections.abc import Mapping, Sequence

import trio

from figfs.errors import BadAnswer, TooSlow
from figfs.figshare import sitemaps
from figfs.figshare.client import Client
from figfs.figshare.dates import posix_time
from figfs.figshare.sitemaps import Document, Entry
from figfs.figshare.wire import Failed, is_loopback, origin

WELL_KNOWN = "/.well-known/resourcesync"

MOST_DOCUMENTS = 8  #: read to find the lists, and again to read them
MOST_LISTS = 3  #: of one portal: one for each set of its items
TIMEOUT = 6.0  #: seconds for all of these

#: What takes milliseconds is read at once, a larger document in a thread: bytes, and entries.
BYTES_AT_ONCE, ENTRIES_AT_ONCE = 128 << 10, 1000

#: Seconds by which the parts of a list may overlap.
OVERLAP = 60.0

#: From the well-known address to the change lists.
_LEADS_TO = {"description": "capabilitylist", "capabilitylist": "changelist"}

#: A name in the DNS, so no address and nothing that only this machine knows.
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])")

#: An address that is sent as it is: visible ASCII, nobody's name and password in it, no fragment.
_PLAIN = re.compile(r"https?://[!\"$-?A-~]+")

#: What tells which item an address is about: pages, the API, OAI-PMH, DOIs.
_ARTICLE = re.compile(r"(?:^|[/:=])articles?[/:]", re.IGNORECASE)
_OTHER = re.compile(
    r"(?:^|[/:=])(?:collections?|projects?)[/:]|\b10\.[0-9]{4,9}/[^/]{0,40}\.c\.[0-9]", re.IGNORECASE
)
_NUMBER = re.compile(r"(?<![^/.&])[1-9][0-9]{0,17}(?![^/.&])")
_DOI = re.compile(r"\b10\.[0-9]{4,9}/")
_DOI_END = re.compile(
    r"(?P<other>\b[a-z]\.)?(?<![0-9])(?P<id>[1-9][0-9]{0,17})(?:\.v[0-9]{1,5})?$", re.IGNORECASE
)


@dataclasses.dataclass(frozen=True, slots=True)
class Changes:
    """What the change lists of a portal say. Times are POSIX seconds, of the servers' clocks."""

    since: float  #: from then on every change is told
    until: float  #: until then
    articles: Mapping[int, float]  #: when an article has changed last
    unclear: float  #: when something has changed last that may be any of them
    taken_at: float  #: Trio's clock, when it was asked for
    date: float  #: what the server's clock was then
    requests: int = 0  #: what it cost to read them
    bytes: int = 0

    @property
    def horizon(self) -> float:
        """``until``, by Trio's clock."""
        return self.taken_at - max(0.0, self.date - self.until)


@functools.lru_cache(4096)
def portal_of(page: str, api: str) -> str | None:
    """Scheme and host of the portal that has an item's page, if it may be asked; ``api`` is the API's URL.

    That of the API itself, else a host of the internet by https; a sandbox leads to no other.
    """
    place = origin(page)
    if place == origin(api) and place[0] in ("http", "https"):
        parts = urllib.parse.urlsplit(api)
        return f"{parts.scheme}://{parts.netloc}"
    scheme, host, port = place
    if is_loopback(api) or scheme != "https" or port != 443 or len(host) > 253:
        return None
    return f"https://{host}" if _HOST.fullmatch(host) else None


async def find_lists(client: Client, portal: str) -> tuple[str, ...]:
    """The addresses of the change lists that together tell of all items of the portal. Empty: there are none.

    Raises ``RemoteError``; ``NotFound`` where there is no ResourceSync.
    """
    visit = _Visit(client, portal)
    pending, seen, lists = [portal + WELL_KNOWN], set[str](), list[str]()
    while pending:
        url = pending.pop(0)
        if url in seen:
            continue
        seen.add(url)
        document = (await visit.get(url)).document
        if document.capability not in _LEADS_TO:
            raise BadAnswer("not where ResourceSync begins")
        leads_to = _LEADS_TO[document.capability]
        # An index has parts of the document itself, which do not say what they are.
        found = [entry for entry in document.entries if document.is_index or entry.capability == leads_to]
        if not found or len(found) > MOST_DOCUMENTS:
            return ()  # what no change list tells of is not told by those of others
        (lists if leads_to == "changelist" and not document.is_index else pending).extend(
            entry.location for entry in found
        )
    lists = list(dict.fromkeys(lists))
    return tuple(lists) if len(lists) <= MOST_LISTS else ()


async def read_lists(client: Client, portal: str, lists: Sequence[str], since: float) -> Changes:
    """What has changed since ``since``, as far as the lists go back. Raises ``RemoteError``."""
    visit = _Visit(client, portal)
    told: list[Changes] = []
    for url in lists:
        got = await visit.get(url)
        parts, unread = [got], -math.inf
        if got.document.is_index:
            _check_kind(got.document)
            parts = []
            for end, entry in _latest_first(got.document.entries):
                if end >= since and visit.room:
                    parts.append(await visit.get(entry.location))
                else:
                    unread = max(unread, end)
        if sum(len(part.document.entries) for part in parts) <= ENTRIES_AT_ONCE:
            told.append(_joined(got, parts, unread))
        else:
            told.append(await trio.to_thread.run_sync(_joined, got, parts, unread))
    requests = MOST_DOCUMENTS - visit.room
    return dataclasses.replace(_together(told), requests=requests, bytes=visit.bytes)


def _latest_first(entries: Sequence[Entry]) -> list[tuple[float, Entry]]:
    ends = [(math.inf if entry.until is None else entry.until, entry) for entry in entries]
    return sorted(ends, key=lambda each: each[0], reverse=True)


# -- one document ------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _Got:
    document: Document
    taken_at: float  #: Trio's clock, when it was asked for
    date: float  #: what the server's clock was then
    written: float  #: when it was written, at the earliest

    @property
    def until(self) -> float:
        """Until when it tells of every change."""
        until = self.document.until
        return self.written if until is None else min(until, self.written)


class _Visit:
    """Documents of one portal, read one after the other: so many of them, for so many seconds."""

    def __init__(self, client: Client, portal: str) -> None:
        self._client = client
        self._portal = portal
        self._what = f"ResourceSync of {portal.partition('://')[2]}"
        self._seconds = TIMEOUT
        self.room = MOST_DOCUMENTS
        self.bytes = 0

    async def get(self, url: str) -> _Got:
        """Raises ``RemoteError``; ``BadAnswer`` also for what is not to be asked for."""
        if not self.room:
            raise BadAnswer(f"{self._what}: more than {MOST_DOCUMENTS} documents")
        if origin(url) != origin(self._portal) or not _PLAIN.fullmatch(url):
            raise BadAnswer(f"{self._what}: it leads elsewhere")
        self.room -= 1
        await self._client.take_turn()
        taken_at = trio.current_time()
        with trio.move_on_after(self._seconds):
            headers, body = await self._ask(url)
            self._seconds -= trio.current_time() - taken_at
            self.bytes += len(body)
            small = len(body) <= BYTES_AT_ONCE or not body.lstrip().startswith(b"<")
            document = sitemaps.parse(body) if small else await trio.to_thread.run_sync(sitemaps.parse, body)
            date = posix_time(headers.get("date"))
            if date is None:
                raise BadAnswer(f"{self._what}: an answer without a date")
            return _Got(document, taken_at, date, _written(date, headers))
        raise TooSlow(f"{self._what}: not within {TIMEOUT:.0f} s")

    async def _ask(self, url: str) -> tuple[Mapping[str, str], bytes]:
        wire, what = self._client.wire, self._what
        headers = {"Accept": "application/xml, text/xml"}
        try:
            async with wire.exchange("GET", url, what=what, headers=headers) as response:
                if response.status_code != 200:
                    raise await wire.refused(response, what=what)
                return response.headers, await wire.read_body(response, what=what, most=sitemaps.LARGEST)
        except Failed as failed:
            raise failed.error from failed.__cause__


def _written(date: float, headers: Mapping[str, str]) -> float:
    """When an answer of ``date`` was written, at the earliest. A file may wait for the night to be written
    again, though nothing in it tells.
    """
    age = headers.get("age", "").strip()
    written = date - (int(age) if age.isascii() and age.isdigit() and len(age) < 10 else 0)
    modified = posix_time(headers.get("last-modified"))
    return written if modified is None else min(written, modified)


# -- what lists say (pure) ------------------------------------------------------------


def _check_kind(document: Document) -> None:
    if document.capability != "changelist":
        raise BadAnswer("not a change list")


def _joined(head: _Got, parts: Sequence[_Got], unread: float) -> Changes:
    """A change list of ``parts``, one or those of the index ``head``; ``unread``: the end of the latest part
    that is not among them. What it covers is what has no gap, nor anything unread beside it.
    """
    since, until = math.inf, -math.inf
    articles: dict[int, float] = {}
    unclear = -math.inf
    latest_first = sorted(parts, key=lambda part: (part.until, part.document.since), reverse=True)
    for number, part in enumerate(latest_first):
        _check_kind(part.document)
        begin = part.document.since
        if part.document.is_index:
            raise BadAnswer("an index of indexes")
        if number == 0:
            since, until = begin, part.until
        elif part.until > since + OVERLAP:  # beside the others: of other items, perhaps
            since = max(since, begin)
        elif part.until >= since:
            since = begin
        for entry in part.document.entries:
            when = math.inf if entry.changed is None else entry.changed
            subjects = articles_of(entry)
            if subjects is None:
                unclear = max(unclear, when)
            for article in subjects or ():
                articles[article] = max(articles.get(article, -math.inf), when)
    return Changes(max(since, unread), until, articles, unclear, head.taken_at, head.date)


def _together(told: Sequence[Changes]) -> Changes:
    """Of several sets of items: which of them an item is in is not known."""
    articles: dict[int, float] = {}
    for changes in told:
        for article, when in changes.articles.items():
            articles[article] = max(articles.get(article, -math.inf), when)
    first = told[0]
    lag = max(changes.date - changes.until for changes in told)
    return Changes(
        since=max(changes.since for changes in told),
        until=first.date - lag,
        articles=articles,
        unclear=max(changes.unclear for changes in told),
        taken_at=first.taken_at,
        date=first.date,
    )


def articles_of(entry: Entry) -> frozenset[int] | None:
    """The articles that an entry may be about; none for a collection or a project, None if nobody can tell.

    Of an article's page all numbers count: which of them is the id, and which a title or a version, is not
    worth being wrong about.
    """
    found: set[int] = set()
    for url in (entry.location, *entry.links):
        text = urllib.parse.unquote(url)
        if (article := _ARTICLE.search(text)) is not None:
            rest = re.split("[?#]", text[article.end() :], maxsplit=1)[0]
            found.update(int(number) for number in _NUMBER.findall(rest))
        elif _DOI.search(text) is not None:
            item = _DOI_END.search(text)
            if item is not None and not item["other"]:
                found.add(int(item["id"]))
    if found:
        return frozenset(found)
    # A file may belong to a collection, too: only what is one itself is about no article.
    other = _OTHER.search(urllib.parse.unquote(entry.location))
    return frozenset() if other is not None else None
