"""How an item stands: draft or public, embargoed, confidential. In words, from its record; pure.

The list of articles tells less than their details: whether there is a date of publication. What is edited,
embargoed or confidential is known once the article has been looked into.
"""

from __future__ import annotations

import datetime

import msgspec

from figfs.figshare.records import Article, ArticleDetails, Collection, File, Project

DRAFT, PUBLIC, PRIVATE, EDITED = "draft", "public", "private", "edited"
CONFIDENTIAL, METADATA_ONLY, EMBARGOED = "confidential", "metadata only", "embargoed"

Item = Article | Project | Collection


def status_of(record: Item, edited: str = "") -> str:
    """``draft``, ``public``, ``public, edited`` (there is a draft of the next version), ``embargoed until
    2030-01-31``, ``confidential``, ``metadata only``; a project is ``public`` or ``private``.

    A draft says so first: ``draft, metadata only``. ``edited``: the ``publication`` of a collection that was
    changed since, for no record of one tells.
    """
    if isinstance(record, Project):
        return PUBLIC if record.published_date is not None else PRIVATE
    if isinstance(record, Collection) and edited and edited == publication(record):
        return f"{PUBLIC}, {EDITED}"
    if not isinstance(record, ArticleDetails):
        return PUBLIC if _is_published(record) else DRAFT
    kind = _restriction(record)
    if not record.is_public:
        return f"{DRAFT}, {kind}" if kind else DRAFT
    shown = kind or PUBLIC
    return f"{shown}, {EDITED}" if is_edited(record) else shown


def withheld(record: Item | None) -> str:
    """Why only its owner has an article's files: ``embargoed until 2030-01-31: <reason>``; else ""."""
    if not isinstance(record, ArticleDetails) or not hides_files(record):
        return ""
    reason = record.embargo_reason if record.is_embargoed else record.confidential_reason
    return f"{_restriction(record)}: {reason}" if reason else _restriction(record)


def hides_files(record: ArticleDetails) -> bool:
    """Whether the public sees the article, once it is published, and not its files (api.md §6)."""
    return record.is_embargoed or record.is_confidential


def is_edited(record: ArticleDetails) -> bool:
    """Whether what its owner sees is not what the public sees: the draft of the next version."""
    return record.is_public and record.status == DRAFT


def as_edited(record: ArticleDetails) -> ArticleDetails:
    """The record of a published article that was changed since."""
    return msgspec.structs.replace(record, status=DRAFT)


def publication(collection: Collection) -> str:
    """Which one it is, as far as lists tell it: another date, or another DOI (".v2"). "": it is a draft."""
    if collection.published_date is None:
        return ""
    return f"{collection.published_date:.0f} {collection.doi}"


def file_status(record: Item | None, file: File) -> str:
    """A file stands as its article does; one that no public version has is a draft, whatever its article."""
    if record is None:
        return ""
    if file.is_attached_to_public_version is False:
        return DRAFT
    return status_of(record).removesuffix(f", {EDITED}")


def is_public(record: Item | None) -> bool:
    """Whether anybody may see it, as far as is known."""
    if isinstance(record, ArticleDetails):
        return record.is_public
    return record is not None and _is_published(record)


def _is_published(record: Item) -> bool:
    return record.published_date is not None


def _restriction(record: ArticleDetails) -> str:
    if record.is_embargoed:
        until = record.embargo_date
        return f"{EMBARGOED} until {day(until)}" if until else f"{EMBARGOED} for good"
    if record.is_confidential:
        return CONFIDENTIAL
    return METADATA_ONLY if record.is_metadata_record else ""


def day(seconds: float) -> str:
    """The day of a time, for a person."""
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d")
    except (OverflowError, ValueError, OSError):  # no year that a calendar has
        return "an unknown day"
