"""An item as what a citation says of it: from its metadata, whatever shape that has. Pure."""

from __future__ import annotations

import dataclasses
import datetime
import re
from collections.abc import Mapping
from typing import Any

from figfs.documents.texts import line, lines, mapping

_ORCID = re.compile(r"\d{4}-\d{4}-\d{4}-\d{3}[\dX]")
_DOI = re.compile(r"10\.\d{4,9}(\.\d+)*/[\x21-\x7e]+")
_MOST_PEOPLE = 5000  #: the largest collaborations have fewer


@dataclasses.dataclass(frozen=True, slots=True)
class Person:
    """An author. ``first`` and ``last`` are "" where only the whole name is known."""

    name: str
    first: str = ""
    last: str = ""
    orcid: str = ""
    is_account: bool = False  #: so it is somebody, and no organisation

    @property
    def is_organisation(self) -> bool:
        """As far as can be told: authors that are people have two names."""
        return not (self.is_account or (self.first and self.last))

    @property
    def sorted_name(self) -> str:
        """``Last, First``, or the whole name."""
        return f"{self.last}, {self.first}" if self.first and self.last else self.name


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """All texts are plain, in one line, without control characters; "" is "not known"."""

    kind: str  #: article, project, collection
    id: str
    title: str
    people: tuple[Person, ...]
    date: str  #: YYYY-MM-DD: of the publication, of a draft the last change
    is_public: bool
    doi: str
    url: str  #: of the DOI where there is one, else of the item's page
    version: str
    type: str  #: "dataset", "software", …
    license: str
    license_url: str
    description: str
    keywords: tuple[str, ...]
    citation: str  #: as Figshare words it

    @property
    def year(self) -> str:
        return self.date[:4]


def work_of(kind: str, raw: Mapping[str, Any]) -> Work:
    """Never raises: what cannot be understood is left out."""
    fields = mapping(raw.get("fields"))  # institutions with item-type metadata: the title is in there
    licence = mapping(raw.get("license"))
    # Of one kind or the other: articles and collections have authors, projects collaborators.
    given = raw.get("authors") or raw.get("collaborators")
    found = [person for entry in _list(given) if (person := _person(entry)) is not None]
    # The version, its DOI and date, and Figshare's words for it are of what was published, not of this.
    is_edited = line(raw.get("status")) == "draft" and bool(_date(raw.get("published_date")))
    if is_edited:
        raw = {name: value for name, value in raw.items() if name not in _OF_THE_PUBLISHED}
    doi = line(raw.get("doi"))
    doi = doi if _DOI.fullmatch(doi) else ""
    return Work(
        kind=kind,
        id=line(raw.get("id")),
        title=line(raw.get("title")) or line(fields.get("title")) or "Untitled",
        people=tuple(dict.fromkeys(found)),
        date=next((date for name in _DATES if (date := _date(raw.get(name)))), ""),
        is_public=bool(_date(raw.get("published_date"))),
        doi=doi,
        url=f"https://doi.org/{doi}" if doi else _url(raw),
        version=line(raw.get("version")).lstrip("0"),
        type=line(raw.get("defined_type_name")) or ("dataset" if kind == "article" else kind),
        license=line(licence.get("name")),
        license_url=_http(licence.get("url")),
        description=line(raw.get("description")),
        keywords=tuple(lines(raw.get("keywords")) or lines(raw.get("tags"))),
        citation=line(raw.get("citation")),
    )


_OF_THE_PUBLISHED = frozenset({"doi", "version", "published_date", "citation"})
_DATES = ("published_date", "modified_date", "created_date")


def _list(value: object) -> list[object]:
    return value[:_MOST_PEOPLE] if isinstance(value, list) else []


def _person(value: object) -> Person | None:
    entry = mapping(value)
    role = line(entry.get("role_name")).casefold()
    if role == "viewer":  # of a project; has no part in it
        return None
    first, last = line(entry.get("first_name")), line(entry.get("last_name"))
    name = line(entry.get("full_name")) or line(entry.get("name")) or f"{first} {last}".strip()
    if not name:
        return None
    orcid = _ORCID.search(line(entry.get("orcid_id")))
    return Person(name, first, last, orcid[0] if orcid else "", is_account=bool(role))


def _date(value: object) -> str:
    text = line(value)[:10]
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError:
        return ""


def _url(raw: Mapping[str, Any]) -> str:
    names = ("figshare_url", "url_public_html", "url_private_html", "url")
    return next((url for name in names if (url := _http(raw.get(name)))), "")


def _http(value: object) -> str:
    url = line(value)
    return url if re.fullmatch(r"https?://[\x21-\x7e]+", url) else ""
