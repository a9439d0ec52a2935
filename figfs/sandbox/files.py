"""What happens to files: announced, assembled, deleted. The bytes in between are ``uploader.py``'s."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Mapping
from typing import Any

import trio

from figfs.sandbox import validation
from figfs.sandbox.errors import ApiError, bad_request, invalid, not_found
from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Row

_FIELDS: dict[str, validation.Check] = {
    "name": validation.text(1, 1000),
    "size": validation.number,
    "md5": validation.text(),
    "folder_path": validation.text(0, 4000),
}


def draft_files(sandbox: Sandbox, article_id: int, limit: str = "") -> list[Row]:
    """Files of an article as its owner sees it, oldest first. ``limit``: a LIMIT clause."""
    return sandbox.store.rows(
        f"SELECT * FROM files WHERE article_id = ? AND draft ORDER BY id{limit}", article_id
    )


def version_files(sandbox: Sandbox, article_id: int, version: int, limit: str = "") -> list[Row]:
    return sandbox.store.rows(
        "SELECT f.* FROM files f JOIN version_files v ON v.file_id = f.id"
        f" WHERE v.article_id = ? AND v.version = ? ORDER BY f.id{limit}",
        article_id,
        version,
    )


def draft_file(sandbox: Sandbox, article_id: int, file_id: int) -> Row:
    row = sandbox.store.row(
        "SELECT * FROM files WHERE id = ? AND article_id = ? AND draft", file_id, article_id
    )
    if row is None or not _is_readable_yet(sandbox, row):
        raise not_found("file", file_id)
    return row


def by_token(sandbox: Sandbox, token: str) -> Row | None:
    """The file of an upload session."""
    row = sandbox.store.row("SELECT * FROM files WHERE token = ? AND token != ''", token)
    return row if row is not None and _is_readable_yet(sandbox, row) else None


def _is_readable_yet(sandbox: Sandbox, file: Row) -> bool:
    """A file just announced may answer 404 for a moment (quirk U9)."""
    return bool(sandbox.clock.time() >= file["created"] + sandbox.settings.upload_record_delay)


def part_count(file: Row) -> int:
    count: int = -(-file["size"] // file["part_size"])
    return count


def announce(sandbox: Sandbox, article: Row, body: Mapping[str, Any]) -> int:
    """Make the record of a file from the body of an initiate request; its id.

    422 for wrong fields, for an empty file (quirk U17), and for what the article, the account or the group
    has no room for (quirk U15).
    """
    if "link" in body:
        return _add_link(sandbox, article, body)
    fields = validation.clean(body, _FIELDS, required=("name", "size"))
    if fields["size"] == 0:
        raise invalid("size", "empty files cannot be uploaded")
    md5 = fields.get("md5", "").lower()  # can be left out (quirk U10)
    if "md5" in fields and not re.fullmatch(r"[0-9a-f]{32}", md5):
        raise invalid("md5", "must have 32 hexadecimal digits")
    folder = normal_folder(fields.get("folder_path", ""))
    present = draft_files(sandbox, article["id"])
    if any(file["link"] is not None for file in present):  # quirk U19
        raise ApiError(422, "LinkedFileExists", "An item with a linked file takes no uploads")
    _check_room(sandbox, article, len(present), fields["size"])
    return _insert(
        sandbox,
        article,
        name=fields["name"],
        folder=folder,
        size=fields["size"],
        supplied_md5=md5,
        token=str(uuid.UUID(bytes=os.urandom(16), version=4)),
        part_size=sandbox.settings.part_size,
    )


def normal_folder(path: str) -> str:
    """A folder path without slashes around it; '' is the article itself. 422 for ``.`` and ``..`` in it."""
    names = [name for name in path.split("/") if name]
    if "." in names or ".." in names:
        raise invalid("folder_path", "must not contain . or ..")
    return "/".join(names)


def _add_link(sandbox: Sandbox, article: Row, body: Mapping[str, Any]) -> int:
    link = validation.link("link", body["link"])
    name = validation.text()("name", body.get("name", link.split("?")[0].rpartition("/")[2]))
    folder = normal_folder(_FIELDS["folder_path"]("folder_path", body.get("folder_path", "")))
    if draft_files(sandbox, article["id"], " LIMIT 1"):  # quirk U19
        raise ApiError(422, "FilesExist", "A linked file must be the only file of its item")
    return _insert(sandbox, article, name=name, folder=folder, link=link, status="available", completed=1)


def _insert(sandbox: Sandbox, article: Row, **values: object) -> int:
    row: Row = {
        "article_id": article["id"],
        "folder": "",
        "size": 0,
        "link": None,
        "supplied_md5": "",
        "computed_md5": "",
        "status": "created",
        "token": "",
        "part_size": 1,
        "completed": 0,
        "created": sandbox.clock.time(),
        "modified": sandbox.clock.stamp(),
        "draft": 1,
        "public": 0,
        "pattern": 0,
    }
    with sandbox.store.transaction():
        file_id = sandbox.store.insert("files", row | values)
        mark_article_edited(sandbox, article["id"])
    return file_id


def mark_article_edited(sandbox: Sandbox, article_id: int) -> None:
    """Its files differ from the public version's. The modification date stays (quirk L14)."""
    sandbox.store.run("UPDATE articles SET edited = 1 WHERE id = ? AND version > 0", article_id)


def _check_room(sandbox: Sandbox, article: Row, count: int, size: int) -> None:
    settings = sandbox.settings
    if count >= settings.max_files:
        raise ApiError(
            422, "MaxFilesExceeded", f"The maximum number of files of an item is {settings.max_files}"
        )
    if size > settings.maximum_file_size:
        raise ApiError(
            422, "MaxFileSizeExceeded", f"The maximum file size is {settings.maximum_file_size} bytes"
        )
    group_project = group_project_of(sandbox, article)
    quota = settings.quota if group_project is None else settings.group_quota
    used = sum(used_quota(sandbox, group_project))
    if used + size > quota:
        raise ApiError(422, "QuotaExceeded", f"The quota of {quota} bytes would be exceeded: {used} are used")


def group_project_of(sandbox: Sandbox, article: Row) -> int | None:
    """The id of the group project the article is in, whose files use the group's storage (quirk U21)."""
    found: int | None = sandbox.store.value(
        "SELECT id FROM projects WHERE id = ? AND group_id IS NOT NULL", article["project_id"]
    )
    return found


def used_quota(sandbox: Sandbox, project_id: int | None = None) -> tuple[int, int]:
    """Bytes of private and of public files: of a project, or of the account without its group projects."""
    of = "a.project_id = ?" if project_id is not None else "a.owner = ? AND p.group_id IS NULL"
    rows = sandbox.store.rows(
        "SELECT f.public AS public, sum(f.size) AS size FROM files f JOIN articles a ON a.id = f.article_id"
        f" LEFT JOIN projects p ON p.id = a.project_id WHERE {of} GROUP BY f.public",
        project_id if project_id is not None else sandbox.account.id,
    )
    used = {row["public"]: row["size"] for row in rows}
    return used.get(0, 0), used.get(1, 0)


def remove(sandbox: Sandbox, file: Row) -> None:
    """Take a file out of the draft.

    In a public version it stays (quirk P3); else it is gone, its upload session too.
    """
    with sandbox.store.transaction():
        mark_article_edited(sandbox, file["article_id"])
        if file["public"]:
            sandbox.store.update("files", file["id"], {"draft": 0})
            return
        sandbox.store.run("DELETE FROM files WHERE id = ?", file["id"])
        sandbox.store.run("DELETE FROM parts WHERE token = ?", file["token"])
    sandbox.blobs.delete(file["id"])


def complete(sandbox: Sandbox, file: Row) -> None:
    """Begin the assembly of an upload.

    400 if parts are missing or it has begun (what Figshare answers: unknown).
    """
    if file["completed"]:
        raise bad_request("The upload is already completed", "UploadAlreadyCompleted")
    done = sandbox.store.value("SELECT count(*) FROM parts WHERE token = ?", file["token"])
    if done < part_count(file):
        raise bad_request(f"{part_count(file) - done} parts are missing", "UploadNotCompleted")
    sandbox.store.update("files", file["id"], {"completed": 1})
    sandbox.background.start_soon(assemble, sandbox, file["id"])


async def assemble(sandbox: Sandbox, file_id: int) -> None:
    """``created -> ic_checking -> moving_to_final -> available`` (quirk U11).

    A wrong MD5 changes nothing (quirk U12).
    """
    step = sandbox.settings.assembly_delay / 3
    await trio.sleep(step)
    sandbox.store.update("files", file_id, {"status": "ic_checking"})
    try:
        md5 = await trio.to_thread.run_sync(sandbox.blobs.md5, file_id)
    except FileNotFoundError:  # deleted meanwhile
        return
    await trio.sleep(step)
    computed = {"computed_md5": md5} if sandbox.settings.compute_md5 else {}
    sandbox.store.update("files", file_id, {"status": "moving_to_final"} | computed)
    await trio.sleep(step)
    sandbox.store.update("files", file_id, {"status": sandbox.settings.assembly_ends_at})


def resume_assembly(sandbox: Sandbox) -> None:
    """After a restart: go on with uploads that were completed but not available yet."""
    for file in sandbox.store.rows("SELECT id FROM files WHERE completed AND status != 'available'"):
        sandbox.background.start_soon(assemble, sandbox, file["id"])
