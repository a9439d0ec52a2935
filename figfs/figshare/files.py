"""The files of an own article: list, announce, complete, delete. Figshare cannot rename or change a file."""

from __future__ import annotations

import logging

import trio

from figfs.errors import Conflict, Invalid, NotFound, UnknownOutcome
from figfs.figshare import items
from figfs.figshare.client import Client, nothing, segment
from figfs.figshare.paging import list_all
from figfs.figshare.records import File, Id

log = logging.getLogger(__name__)

#: Seconds between a completion whose answer was lost and the look at what came of it.
COMPLETE_LOOK_AFTER = 1.0
COMPLETE_TRIES = 3


async def list_files(client: Client, article_id: Id) -> list[File]:
    """All files, also those whose upload is not finished (status ``created``, quirks U14)."""
    return await list_all(client, _path(article_id), File)


async def initiate(
    client: Client, article_id: Id, *, name: str, size: int, md5: str, folder_path: str = ""
) -> Id:
    """Announce a file of ``size`` bytes; returns its id. Its ``upload_url`` comes with ``get_file``.

    ``md5``: lower-case hex, or "" (left out then: the server cannot check the content, quirks U10).
    Raises ``UnknownOutcome`` if the answer was lost: the file may be in the list (name, size and md5 tell).
    ``QuotaExceeded``, ``TooManyFiles`` and ``FileTooLarge`` come from here (quirks U15).
    """
    body: dict[str, object] = {"name": name, "size": size}
    if md5:
        body["md5"] = md5
    if folder_path:
        body["folder_path"] = folder_path
    return await items.create(client, _path(article_id), body)


async def initiate_link(
    client: Client, article_id: Id, url: str, *, name: str = "", folder_path: str = ""
) -> Id:
    """Make a linked file: Figshare stores the URL only. See ``initiate`` for a lost answer."""
    body = {"link": url, "name": name, "folder_path": folder_path}
    return await items.create(client, _path(article_id), {key: text for key, text in body.items() if text})


async def get_file(client: Client, article_id: Id, file_id: Id) -> File:
    return await client.call(
        "GET", _path(article_id, file_id), read=lambda answer: File.from_json(answer.json())
    )


async def complete(client: Client, article_id: Id, file_id: Id) -> None:
    """Tell Figshare that all parts are there; it assembles and checks the file later (quirks U11).

    When the answer is lost, or a repetition is refused, the file's status decides whether it was carried out.
    Raises ``UnknownOutcome`` if that cannot be told.
    """
    for tries in range(1, COMPLETE_TRIES + 1):
        try:
            await client.call("POST", _path(article_id, file_id), read=nothing)
            return
        except UnknownOutcome as lost:
            problem: UnknownOutcome | Conflict | Invalid = lost
        except (Conflict, Invalid) as refused:
            problem = refused
        await trio.sleep(COMPLETE_LOOK_AFTER)
        if is_completed(await get_file(client, article_id, file_id)):
            return
        if tries == COMPLETE_TRIES or not isinstance(problem, UnknownOutcome):
            raise problem
        log.debug("completion of file %s has not arrived: once more", file_id)


def is_completed(file: File) -> bool:
    """Whether Figshare has accepted the completion of this file's upload (not whether the file is usable)."""
    if file.status:
        return file.status.lower() not in ("created", "pending")
    return bool(file.computed_md5) or not file.upload_url  # quirks U13: the URL is "" once completed


async def delete_file(client: Client, article_id: Id, file_id: Id) -> None:
    """Delete a file, or an upload that was not finished. One that is not there counts as deleted."""
    try:
        await items.delete(client, _path(article_id, file_id))
    except NotFound:
        log.debug("file %s was gone already", file_id)


def _path(article_id: Id, file_id: Id | None = None) -> str:
    path = f"/account/articles/{segment(article_id)}/files"
    return path if file_id is None else f"{path}/{segment(file_id)}"
