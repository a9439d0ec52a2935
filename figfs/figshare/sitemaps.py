"""Documents of ResourceSync (ANSI/NISO Z39.99-2017), as records: sitemaps that say what has changed. Pure.

They come from a portal's web server, which is not the API, so nothing in them is believed more than it must
be: no DTD and so no entity, bounded in size, depth and number. What they say of times is read to the side on
which nothing is missed.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import re
from xml.parsers import expat

from figfs.errors import BadAnswer

#: The standard's limits are 50 MB and 50,000 entries. A list of changes that is larger costs more than it
#: saves.
LARGEST = 8 << 20
MOST_ENTRIES = 50_000
DEEPEST = 16
LONGEST = 2048  #: characters of an address (sitemaps.org)
MOST_LINKS = 16  #: of an entry; further ones are left out

_SITEMAP = "http://www.sitemaps.org/schemas/sitemap/0.9"
_RS = "http://www.openarchives.org/rs/terms/"
_ROOTS = {f"{_SITEMAP} urlset": f"{_SITEMAP} url", f"{_SITEMAP} sitemapindex": f"{_SITEMAP} sitemap"}
_TEXTS = frozenset({f"{_SITEMAP} loc", f"{_SITEMAP} lastmod"})

_DATE = re.compile(
    r"(?P<year>\d{4})(?:-(?P<month>\d\d)(?:-(?P<day>\d\d)"
    r"(?:T(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.\d{1,9})?)?"
    r"(?P<zone>Z|[+-]\d\d:\d\d)?)?)?)?",
    re.ASCII,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A resource or another document. Times are POSIX seconds."""

    location: str
    capability: str = ""  #: of the document there
    changed: float | None = None  #: at the latest; None: not told
    since: float = math.inf  #: from when on all changes are there, at the latest; infinite: not told
    until: float | None = None  #: until when, at the earliest; None: it goes on
    links: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    capability: str  #: "" for a sitemap that is no more than that
    is_index: bool
    since: float  #: these two as in an entry
    until: float | None
    entries: tuple[Entry, ...]


def parse(body: bytes) -> Document:
    """Raises ``BadAnswer`` for what is no such document, or out of bounds."""
    if len(body) > LARGEST:
        raise BadAnswer(f"a document of more than {LARGEST} bytes")
    reader = _Reader()
    # UTF-8 is what the standard wants; a name of another encoding is not to choose among Python's codecs.
    parser = expat.ParserCreate("UTF-8", " ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_dtd
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    try:
        parser.Parse(body, True)
    except expat.ExpatError as exc:
        raise BadAnswer(f"not XML: {exc}") from None
    metadata = reader.metadata
    since, until = _period(metadata)
    return Document(metadata.get("capability", ""), reader.is_index, since, until, tuple(reader.entries))


def _refuse_dtd(name: str, system: str | None, public: str | None, internal: bool) -> None:
    raise BadAnswer("a document with a DTD")


class _Reader:
    """What the parser calls: of the root, its entries and what is in those; all else is passed over."""

    def __init__(self) -> None:
        self.metadata: dict[str, str] = {}
        self.entries: list[Entry] = []
        self.is_index = False
        self._depth = 0
        self._entry_name = ""
        self._in_entry = False
        self._texts: dict[str, str] = {}  #: of the entry that is being read
        self._metadata: dict[str, str] = {}
        self._links: list[str] = []
        self._text: list[str] | None = None
        self._length = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._text = None
        if self._depth > DEEPEST:
            raise BadAnswer("a document that is too deep")
        if self._depth == 1:
            if name not in _ROOTS:
                raise BadAnswer("not a sitemap")
            self._entry_name = _ROOTS[name]
            self.is_index = name.endswith("index")
        elif self._depth == 2:
            self._in_entry = name == self._entry_name
            if self._in_entry:
                if len(self.entries) >= MOST_ENTRIES:
                    raise BadAnswer(f"a document of more than {MOST_ENTRIES} entries")
                self._texts, self._metadata, self._links = {}, {}, []
            elif name == f"{_RS} md":
                self.metadata = attributes | self.metadata
        elif self._depth == 3 and self._in_entry:
            if name in _TEXTS:
                self._text, self._length = [], 0
            elif name == f"{_RS} md":
                self._metadata = attributes | self._metadata
            elif name == f"{_RS} ln" and len(self._links) < MOST_LINKS:
                self._links.append(attributes.get("href", ""))

    def text(self, data: str) -> None:
        if self._text is None:
            return
        self._length += len(data)
        if self._length > LONGEST:
            raise BadAnswer(f"an address of more than {LONGEST} characters")
        self._text.append(data)

    def end(self, name: str) -> None:
        if self._depth == 3 and self._text is not None:
            self._texts.setdefault(name, "".join(self._text).strip())
        elif self._depth == 2 and self._in_entry:
            self.entries.append(self._entry())
        self._text = None
        self._depth -= 1

    def _entry(self) -> Entry:
        metadata = self._metadata
        # ``datetime`` is that of the change; before version 1.1 of the standard ``lastmod`` was.
        told = moments(metadata.get("datetime", "")) or moments(self._texts.get(f"{_SITEMAP} lastmod", ""))
        since, until = _period(metadata)
        return Entry(
            location=self._texts.get(f"{_SITEMAP} loc", ""),
            capability=metadata.get("capability", ""),
            changed=told[1] if told else None,
            since=since,
            until=until,
            links=tuple(self._links),
        )


def _period(metadata: dict[str, str]) -> tuple[float, float | None]:
    """What ``from`` and ``until`` say. An end that cannot be read is no end that can be relied on."""
    begin = moments(metadata.get("from", ""))
    if "until" not in metadata:
        return (begin[1] if begin else math.inf), None
    end = moments(metadata["until"])
    return (begin[1] if begin else math.inf), (end[0] if end else -math.inf)


def moments(text: str) -> tuple[float, float] | None:
    """The first and the last second that a date (W3C Datetime: ``2024``, ``2024-05``, ``2024-05-20``,
    ``2024-05-20T14:45:00Z`` …) may mean. Without a zone it is UTC, as elsewhere at Figshare.
    """
    match = _DATE.fullmatch(text.strip())
    if match is None:
        return None
    year, month, day = int(match["year"]), int(match["month"] or 1), int(match["day"] or 1)
    try:
        zone = datetime.UTC
        if match["zone"] not in (None, "Z"):
            zone = datetime.datetime.strptime(match["zone"], "%z").tzinfo  # type: ignore[assignment]
        first = datetime.datetime(
            year,
            month,
            day,
            int(match["hour"] or 0),
            int(match["minute"] or 0),
            int(match["second"] or 0),
            tzinfo=zone,
        ).timestamp()
    except (ValueError, OverflowError):
        return None
    if match["second"]:
        return first, first
    if match["minute"]:
        return first, first + 60
    return first, first + 86400 * (1 if match["day"] else 31 if match["month"] else 366)
