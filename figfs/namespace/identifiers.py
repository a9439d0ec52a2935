"""Ids and DOIs as people write them in paths: ``123``, ``123.v2``, ``10.6084/m9.figshare.123.v2``. Pure.

A name that cannot be one is told here, so that what file managers and shells probe for costs no request.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from figfs.figshare.records import Id
from figfs.namespace import naming

_ID = r"(?P<id>[1-9][0-9]{0,17}|[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})"  # a number; a UUID
_REFERENCE = re.compile(_ID + r"(?:\.v(?P<version>[1-9][0-9]{0,4}))?")
_PREFIX = re.compile(r"10\.[0-9]{4,9}(?:\.[0-9]+)*")
_SUFFIX = re.compile(r"(?=.*[0-9])[0-9A-Za-z(][!-~]*")
_ANY_SUFFIX = re.compile(r"[!-~]{1,500}")
_VERSION = re.compile(r"(?P<base>.+)\.v(?P<version>[1-9][0-9]{0,4})", re.IGNORECASE)
#: What ends a Figshare DOI, whatever portal made it: the item's id, after ``c.`` if it is a collection.
_ITEM = re.compile(r"(?:.*[^0-9])?(?P<id>[1-9][0-9]{0,17})")
_COLLECTION = re.compile(r"(?:.*[./])?c\.[0-9]+")


class Reference(NamedTuple):
    """An item, or one of its versions."""

    id: Id
    version: int | None = None

    def __str__(self) -> str:
        return str(self.id) if self.version is None else f"{self.id}.v{self.version}"


def parse_reference(name: str) -> Reference | None:
    """``<id>`` or ``<id>.v<N>``; None for anything else."""
    match = _REFERENCE.fullmatch(name)
    if match is None:
        return None
    number = match["id"]
    version = match["version"]
    return Reference(int(number) if number.isdigit() else number, int(version) if version else None)


class Doi(NamedTuple):
    """A DOI without its version, in lower case (DOIs have none), and which item it may be of."""

    base: str
    version: int | None
    is_collection: bool
    id: Id | None  #: only a guess: what that item says its DOI is decides
    text: str  #: as it was typed, with its version


def is_doi_prefix(name: str) -> bool:
    """Whether ``name`` is what a DOI has before its slash."""
    return _PREFIX.fullmatch(name) is not None


def is_doi(text: str) -> bool:
    """Whether ``text`` is a DOI, anybody's, and not what a record may have in its place."""
    prefix, _, suffix = text.partition("/")
    return is_doi_prefix(prefix) and _ANY_SUFFIX.fullmatch(suffix) is not None


def parse_doi(prefix: str, name: str) -> Doi | None:
    """The DOI ``<prefix>/<suffix>``; None if no item of a repository like Figshare can have it.

    ``name``: the suffix as a name in a directory. What no name holds, or a person took from a URL, is
    percent-encoded in it; a slash may also be ``naming.SLASH``.
    """
    suffix = unquote(name, errors="replace").replace(naming.SLASH, "/")
    if not is_doi_prefix(prefix) or _SUFFIX.fullmatch(suffix) is None:
        return None
    base, version = _split_version(suffix.lower())
    item = _ITEM.fullmatch(base)
    return Doi(
        base=f"{prefix}/{base}",
        version=version,
        is_collection=_COLLECTION.fullmatch(base) is not None,
        id=int(item["id"]) if item else None,
        text=f"{prefix}/{suffix}",
    )


def base_of(doi: str) -> str:
    """A DOI as records have it, to compare: without version, in lower case, no resolver before it."""
    text = doi.strip().lower()
    text = re.sub(r"^(?:doi:|https?://(?:dx\.)?doi\.org/)", "", text)
    return _split_version(text)[0]


def _split_version(text: str) -> tuple[str, int | None]:
    match = _VERSION.fullmatch(text)
    return (match["base"], int(match["version"])) if match else (text, None)
