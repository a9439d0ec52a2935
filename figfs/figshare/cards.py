"""Everything about one item that a person asks for, as one record for all kinds; its DOI; publishing it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from figfs.errors import BadAnswer
from figfs.figshare.client import Answer, Client, nothing
from figfs.figshare.items import own_path, public_path
from figfs.figshare.records import Id, License, Titled


class Card(Titled, frozen=True, kw_only=True):
    """The details of an article, a project or a collection. What its kind does not have is blank."""

    doi: str = ""
    status: str = ""  #: of an article: draft or public; draft also for edits of a published one
    is_public: bool | None = None  #: of an article
    public: bool | None = None  #: of a collection
    version: int | None = None  #: the last published one; 0 or None: none
    description: str = ""
    tags: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    authors: tuple[str, ...] = ()
    license: License | None = None
    defined_type_name: str = ""
    size: int | None = None
    articles_count: int | None = None
    is_embargoed: bool = False
    embargo_date: float | None = None
    embargo_type: str = ""
    is_confidential: bool = False
    is_metadata_record: bool = False
    curation_status: str = ""
    role: str = ""
    storage: str = ""
    collaborators: tuple[str, ...] = ()
    figshare_url: str = ""
    url_public_html: str = ""
    url_private_html: str = ""

    @property
    def is_published(self) -> bool:
        """Whether the public sees some version of it."""
        return bool(self.is_public or self.public or self.version or self.published_date is not None)

    @property
    def all_keywords(self) -> tuple[str, ...]:
        return self.keywords or self.tags


async def get_own(client: Client, kind: str, item_id: Id, *, project_id: Id | None = None) -> Card:
    """An own item. ``project_id``: of an article, which may be a collaborator's (api.md §4)."""
    return await _get(client, own_path(kind, item_id, project_id=project_id))


async def get_own_whole(
    client: Client, kind: str, item_id: Id, *, project_id: Id | None = None
) -> tuple[Card, Mapping[str, Any]]:
    """An own item, and all that Figshare says of it, unread."""
    return await client.call("GET", own_path(kind, item_id, project_id=project_id), read=_whole)


async def get_public(client: Client, kind: str, item_id: Id, *, version: int | None = None) -> Card:
    """An item as the public sees it. ``NotFound`` for a moment after it was published (quirks L11)."""
    return await _get(client, public_path(kind, item_id, version))


async def publish(client: Client, kind: str, item_id: Id) -> None:
    """Make the next public version of an article or a collection, or a project public, in which all is.

    Never sent twice: a lost answer raises ``UnknownOutcome``, and the item's version or status tells.
    """
    await client.call("POST", f"{own_path(kind, item_id)}/publish", read=nothing)


async def reserve_doi(client: Client, kind: str, item_id: Id) -> str:
    """The DOI that an article or a collection will have. ``UnknownOutcome``: look whether it has one."""
    return await client.call("POST", f"{own_path(kind, item_id)}/reserve_doi", read=_doi)


async def _get(client: Client, path: str) -> Card:
    return await client.call("GET", path, read=lambda answer: Card.from_json(answer.json()))


def _whole(answer: Answer) -> tuple[Card, Mapping[str, Any]]:
    raw = answer.json()
    return Card.from_json(raw), raw


def _doi(answer: Answer) -> str:
    raw = answer.json()
    doi = raw.get("doi") if isinstance(raw, dict) else None
    if not isinstance(doi, str) or not doi:
        raise BadAnswer("the answer does not tell the DOI")
    return doi
