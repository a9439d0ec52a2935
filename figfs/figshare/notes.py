"""Notes of own projects."""

from __future__ import annotations

from figfs.errors import UnknownOutcome
from figfs.figshare import items
from figfs.figshare.client import Client, nothing, segment
from figfs.figshare.items import own_path
from figfs.figshare.paging import list_all
from figfs.figshare.records import Id, Item

_ABSTRACT = 20  #: characters of it that are compared: how long it is, and how it ends, is not documented


class Note(Item, frozen=True, kw_only=True):
    """``text`` comes with a single note only; lists have its beginning, the ``abstract``."""

    abstract: str = ""
    text: str = ""


async def list_notes(client: Client, project_id: Id) -> list[Note]:
    return await list_all(client, _path(project_id), Note)


async def get(client: Client, project_id: Id, note_id: Id) -> Note:
    path = _path(project_id, note_id)
    return await client.call("GET", path, read=lambda answer: Note.from_json(answer.json()))


async def create(client: Client, project_id: Id, text: str) -> Id:
    """A new note, of three characters or more. If the answer is lost, one of the same text is it."""

    async def look() -> Id | None:
        for note in await list_notes(client, project_id):
            beginning = note.abstract[:_ABSTRACT].rstrip("…. ")
            if text.startswith(beginning) and (await get(client, project_id, note.id)).text == text:
                return note.id
        return None

    try:
        return await items.create(client, _path(project_id), {"text": text})
    except UnknownOutcome as lost:
        return await items.found_after(lost, look)


async def update(client: Client, project_id: Id, note_id: Id, text: str) -> None:
    await client.call("PUT", _path(project_id, note_id), body={"text": text}, read=nothing)


async def delete(client: Client, project_id: Id, note_id: Id) -> None:
    await items.delete(client, _path(project_id, note_id))


def _path(project_id: Id, note_id: Id | None = None) -> str:
    path = f"{own_path('project', project_id)}/notes"
    return path if note_id is None else f"{path}/{segment(note_id)}"
