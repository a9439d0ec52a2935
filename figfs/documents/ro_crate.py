"""``ro-crate-metadata.json``: RO-Crate 1.1. Pure.

It describes the item's directory: copied beside the files, it makes a crate of them.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from figfs.documents.checksums import ShownFile
from figfs.documents.citations import PUBLISHER
from figfs.documents.texts import line, to_json
from figfs.documents.works import Person, Work
from figfs.figshare.records import Article

NAME = "ro-crate-metadata.json"
_SPECIFICATION = "https://w3id.org/ro/crate/1.1"
_LICENSE = "#license"
_PUBLISHER = "https://figshare.com"
_MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9][a-z0-9.+_-]*")
_UNKNOWN_DATE = "1970-01-01"  #: the specification demands one

_types = mimetypes.MimeTypes(filenames=())  # the same on every machine


def render(work: Work, files: Sequence[ShownFile] = (), articles: Sequence[Article] = ()) -> bytes:
    """A flat JSON-LD graph: the descriptor, the root data set, its parts, people, licence, publisher.

    ``files``: of an article; ``articles``: of a project or collection, data sets elsewhere on the web.
    """
    people = [_person(number, person) for number, person in enumerate(work.people, 1)]
    # A file of the descriptor's name is where this one would be written to, and so no part beside it.
    found = [part for shown in files if shown.path != NAME for part in _part(shown)]
    found += [part for article in articles for part in _member(article)]
    parts = list({part["@id"]: part for part in found}.values())
    root: dict[str, Any] = {
        "@id": "./",
        "@type": "Dataset",
        "name": work.title,
        "description": work.description or work.title,
        "datePublished": work.date or _UNKNOWN_DATE,
        "author": [_reference(entity) for entity in people],
        "publisher": {"@id": _PUBLISHER},
        "hasPart": [_reference(entity) for entity in parts],
    }
    for name, value in (
        ("identifier", f"https://doi.org/{work.doi}" if work.doi else ""),
        ("url", work.url),
        ("version", work.version),
        ("keywords", ", ".join(work.keywords)),
        # The date above is none of a publication then: the specification demands one.
        ("creativeWorkStatus", "" if work.is_public else "Draft"),
        ("dateModified", "" if work.is_public else work.date),
    ):
        if value:
            root[name] = value
    entities = [
        {
            "@id": NAME,
            "@type": "CreativeWork",
            "conformsTo": {"@id": _SPECIFICATION},
            "about": {"@id": "./"},
        },
        root,
        *parts,
        *people,
        {"@id": _PUBLISHER, "@type": "Organization", "name": PUBLISHER, "url": _PUBLISHER},
    ]
    if work.license or work.license_url:
        licence = {"@id": work.license_url or _LICENSE, "@type": "CreativeWork"}
        root["license"] = _reference(licence)
        entities.append(licence | {"name": work.license or work.license_url})
    unique = {entity["@id"]: entity for entity in reversed(entities)}  # of one id the first counts
    graph = list(reversed(unique.values()))
    return to_json({"@context": f"{_SPECIFICATION}/context", "@graph": graph})


def _part(shown: ShownFile) -> list[dict[str, Any]]:
    """A file; one that Figshare only links to is a data entity on the web."""
    file = shown.file
    name = line(shown.path.rpartition("/")[2]) or "file"
    if file.is_link_only:
        url = line(file.download_url)
        if not re.fullmatch(r"(https?|ftp)://[\x21-\x7e]+", url):
            return []
        return [{"@id": _as_reference(url), "@type": "File", "name": name}]
    entity: dict[str, Any] = {
        "@id": quote(shown.path, safe="/", errors="replace"),
        "@type": "File",
        "name": name,
        "encodingFormat": _media_type(file.mimetype, shown.path),
    }
    if file.size_known:
        entity["contentSize"] = str(file.size)
    return [entity]


def _member(article: Article) -> list[dict[str, Any]]:
    """An article of a project or collection, by its DOI, or its page; none without either."""
    doi = line(article.doi)
    pages = (f"https://doi.org/{doi}" if doi else "", article.url_public_html, article.url)
    page = next((url for url in map(line, pages) if re.fullmatch(r"https?://[\x21-\x7e]+", url)), "")
    if not page:
        return []
    return [{"@id": _as_reference(page), "@type": "Dataset", "name": line(article.title) or page}]


def _as_reference(url: str) -> str:
    return quote(url, safe=":/?#[]@!$&'()*+,;=%~")


def _media_type(given: str, path: str) -> str:
    """Figshare's, which may be nothing or "undefined" (quirks U18), else what the name says."""
    if _MEDIA_TYPE.fullmatch(given):
        return given
    return _types.guess_type(path)[0] or "application/octet-stream"


def _person(number: int, person: Person) -> dict[str, Any]:
    entity = {
        "@id": f"https://orcid.org/{person.orcid}" if person.orcid else f"#person-{number}",
        "@type": "Organization" if person.is_organisation else "Person",
        "name": person.name,
    }
    if person.first and person.last:
        entity |= {"givenName": person.first, "familyName": person.last}
    return entity


def _reference(entity: dict[str, Any]) -> dict[str, str]:
    return {"@id": entity["@id"]}
