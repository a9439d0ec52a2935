"""What Figshare has in a public item, as anyone sees it: the counterpart of ``sources.py``.

A version of an article never changes, so its listing is good for ever; unless an embargo hides its files,
which ends.
"""

from __future__ import annotations

import dataclasses

import msgspec

from figfs.figshare import public
from figfs.figshare.client import Client
from figfs.figshare.dates import posix_time
from figfs.figshare.metadata import LARGEST
from figfs.figshare.public import PublicFile
from figfs.figshare.records import Article, File
from figfs.namespace import identifiers, standing
from figfs.namespace.nodes import Container, Key, Kind
from figfs.namespace.sources import (
    FILES_IN_DETAILS,
    Contents,
    Entry,
    article_entry,
    file_entry,
    is_finished,
    time_of,
)


def is_fixed(key: Key, contents: Contents) -> bool:
    """Whether what ``contents`` say of ``key`` can never change: all of a version, none of it hidden or
    unfinished.
    """
    if key.kind is not Kind.PUBLIC_ARTICLE or contents.details is None or not contents.settled:
        return False
    reference = identifiers.parse_reference(str(key.id))
    versioned = reference is not None and reference.version is not None
    return versioned and not standing.hides_files(contents.details)


async def contents(client: Client, item: Container) -> Contents:
    """The item's record and what is in it. ``NotFound`` if it is not public."""
    if item.kind is Kind.PUBLIC_ARTICLE:
        return await _article(client, str(item.key.id))
    if item.kind is Kind.PUBLIC_PROJECT:
        project = await public.get_project(client, item.key.id)
        inside = await public.list_project_articles(client, item.key.id)
        time = time_of(project.modified_date, project.published_date, project.created_date)
        return Contents(_references(f"projects/{item.key.id}", inside), record=project, time=time)
    collection = await public.get_collection(client, item.key.id)
    inside = await public.list_collection_articles(client, item.key.id)
    time = time_of(collection.modified_date, collection.published_date, collection.created_date)
    return Contents(_references(f"collections/{item.key.id}", inside), record=collection, time=time)


def _references(place: str, inside: list[Article]) -> list[Entry]:
    return [
        dataclasses.replace(article_entry(article), key=Key(Kind.REFERENCE, f"{place}/{article.id}"))
        for article in inside
    ]


async def _article(client: Client, name: str) -> Contents:
    """One request; from ten files on, one more for each thousand."""
    reference = identifiers.parse_reference(name)
    assert reference is not None
    details, answer = await public.get_article(client, *reference)
    files = [as_public(file) for file in details.files]
    if not standing.hides_files(details) and (
        details.files_sent != len(files) or len(files) >= FILES_IN_DETAILS
    ):
        files = await public.list_files(client, *reference)
    date = time_of(details.modified_date, details.published_date, details.created_date)
    entries: list[Entry] = []
    for file in files:
        entry = file_entry(file, details.folder_structure.get(str(file.id), ""), date)
        if entry is not None:
            kind = Kind.PUBLIC_LINK if file.is_link_only else Kind.PUBLIC_FILE
            entries.append(dataclasses.replace(entry, key=Key(kind, f"{name}/{file.id}")))
    return Contents(
        entries,
        details,
        settled=all(file.is_link_only or is_finished(file) for file in files),
        time=date,
        answer=answer.body if len(answer.body) <= LARGEST else b"",
        date=posix_time(answer.headers.get("date")),
    )


def as_public(file: File) -> PublicFile:
    """The same record, of a file that is anybody's."""
    return PublicFile(**msgspec.structs.asdict(file))
