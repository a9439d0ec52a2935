"""Unfinished files on Figshare that are not this mount's: uploads that another program, or a state
directory that was lost, has begun and never ended. They are listed only: whose they are cannot be told
from here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator

from figfs.control.ledger import Ledger
from figfs.errors import NotFound
from figfs.figshare import articles, files
from figfs.figshare.client import Client
from figfs.figshare.records import File, Id
from figfs.writing.journal import Upload


@dataclasses.dataclass(frozen=True, slots=True)
class Looked:
    """One article: its unfinished files that are nobody's here. ``done`` of ``total`` articles are looked
    at.
    """

    article_id: Id
    title: str
    orphans: list[File]
    done: int
    total: int


async def find_orphans(client: Client, ledger: Ledger, article_id: Id | None) -> AsyncGenerator[Looked, None]:
    """Look at ``article_id``, or at all own articles: a request each, at the pace that Figshare asks for."""
    if article_id is not None:
        found: list[tuple[Id, str]] = [(article_id, "")]
    else:
        found = [(article.id, article.title) for article in await articles.list_own(client)]
    for done, (number, title) in enumerate(found, 1):
        try:
            unfinished = [file for file in await files.list_files(client, number) if file.status == "created"]
        except NotFound:
            unfinished = []
        if unfinished:  # the journal as of now: what was announced meanwhile is in it
            uploads, deletions = await ledger.rows()
            ours = {upload.file_id for upload in uploads} | {deletion.file_id for deletion in deletions}
            ours |= {file_id for upload in uploads for file_id in upload.replaces}
            unfinished = [
                file
                for file in unfinished
                if file.id not in ours and not any(_may_be(file, number, upload) for upload in uploads)
            ]
        yield Looked(number, title, unfinished, done, len(found))


def _may_be(file: File, article_id: Id, upload: Upload) -> bool:
    """Whether this is what a row has announced, the answer to which is not here yet (quirks U14)."""
    return upload.file_id is None and (article_id, file.name, file.size, file.supplied_md5.lower()) == (
        upload.article_id,
        upload.name,
        upload.size,
        upload.md5,
    )
