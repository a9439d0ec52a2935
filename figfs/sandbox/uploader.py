"""The upload service: ``/upload/{token}`` and its parts (api.md §8).

The token in the address is all it takes (U2).
"""

from __future__ import annotations

import os
from typing import Any

import trio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from figfs.sandbox import files
from figfs.sandbox.http import json_response, public
from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Row

#: Bytes gathered before they are written: fewer hops between the loop and its threads.
_GATHER = 1024**2


async def get_session(sandbox: Sandbox, request: Request) -> Response:
    """``name`` is ``<file id>/<file>``. All parts are PENDING or COMPLETE."""
    file = files.by_token(sandbox, request.path_params["token"])
    if file is None:
        return Response(status_code=404)
    done = _complete_parts(sandbox, file)
    return json_response(
        {
            "token": file["token"],
            "name": f"{file['id']}/{file['name']}",
            "size": file["size"],
            "md5": file["supplied_md5"],
            "status": "COMPLETED" if file["completed"] else "PENDING",
            "parts": [_part(sandbox, file, n, n in done) for n in range(1, files.part_count(file) + 1)],
        }
    )


async def get_part(sandbox: Sandbox, request: Request) -> Response:
    file, number = _find(sandbox, request)
    if file is None:
        return Response(status_code=404)
    return json_response(_part(sandbox, file, number, number in _complete_parts(sandbox, file)))


async def put_part(sandbox: Sandbox, request: Request) -> Response:
    """Takes the bytes of a part. 409 when it is locked or complete, or the upload completed.

    411 without a length. A body that stalls, or is shorter than the part, is waited for ``upload_timeout``
    seconds, then 500 (quirk U7). A longer one is refused at once with 500 and the connection is closed.
    """
    file, number = _find(sandbox, request)
    if file is None:
        return await _refuse(sandbox, request, 404)
    key = (file["token"], number)
    if file["completed"] or key in sandbox.locked_parts or number in _complete_parts(sandbox, file):
        return await _refuse(sandbox, request, 409)
    if len(sandbox.locked_parts) >= sandbox.settings.max_parts_at_once:
        return await _refuse(sandbox, request, 429)
    length = request.headers.get("Content-Length")
    if length is None:
        return PlainTextResponse("A part needs a Content-Length", 411, headers={"Connection": "close"})
    start, end = _bounds(file, number)
    if int(length) > end - start + 1:
        return Response(status_code=500, headers={"Connection": "close"})
    sandbox.locked_parts.add(key)
    try:
        arrived = await _receive(sandbox, request, file, start, end)
    finally:
        sandbox.locked_parts.discard(key)
    if not arrived:
        return Response(status_code=500, headers={"Connection": "close"})
    # No await until the answer: the file may have been deleted while its bytes came.
    if files.by_token(sandbox, file["token"]) is None:
        sandbox.blobs.delete(file["id"])
        return Response(status_code=404)
    sandbox.store.run("INSERT OR IGNORE INTO parts (token, number) VALUES (?, ?)", *key)
    return PlainTextResponse("OK")  # quirk U5


async def _refuse(sandbox: Sandbox, request: Request, status: int) -> Response:
    """Answer once the body has come: a client that is still sending would miss the answer."""
    with trio.move_on_after(sandbox.settings.upload_timeout):
        message = await request.receive()
        while message["type"] == "http.request" and message.get("more_body"):
            message = await request.receive()
    return Response(status_code=status, headers={"Retry-After": "1"} if status == 429 else None)


async def reset_part(sandbox: Sandbox, request: Request) -> Response:
    file, number = _find(sandbox, request)
    if file is None:
        return Response(status_code=404)
    if file["completed"] or (file["token"], number) in sandbox.locked_parts:
        return Response(status_code=409)
    sandbox.store.run("DELETE FROM parts WHERE token = ? AND number = ?", file["token"], number)
    return PlainTextResponse("OK")


def _find(sandbox: Sandbox, request: Request) -> tuple[Row | None, int]:
    number: int = request.path_params["part_number"]
    file = files.by_token(sandbox, request.path_params["token"])
    if file is None or not 1 <= number <= files.part_count(file):
        return None, number
    return file, number


def _complete_parts(sandbox: Sandbox, file: Row) -> set[int]:
    rows = sandbox.store.rows("SELECT number FROM parts WHERE token = ?", file["token"])
    return {row["number"] for row in rows}


def _bounds(file: Row, number: int) -> tuple[int, int]:
    """First and last byte of a part, inclusive."""
    start = (number - 1) * file["part_size"]
    return start, min(start + file["part_size"], file["size"]) - 1


def _part(sandbox: Sandbox, file: Row, number: int, complete: bool) -> dict[str, Any]:
    start, end = _bounds(file, number)
    return {
        "partNo": number,
        "startOffset": start,
        "endOffset": end,
        "status": "COMPLETE" if complete else "PENDING",
        "locked": (file["token"], number) in sandbox.locked_parts,
    }


async def _receive(sandbox: Sandbox, request: Request, file: Row, start: int, end: int) -> bool:
    """Write the body to its place in the file.

    False if it stalled, or did not have exactly the part's length.
    """
    descriptor = os.open(sandbox.blobs.path(file["id"]), os.O_WRONLY | os.O_CREAT, 0o600)
    position = start
    pending = bytearray()
    more = True
    try:
        while more:
            with trio.move_on_after(sandbox.settings.upload_timeout) as patience:
                message = await request.receive()
            if patience.cancelled_caught or message["type"] == "http.disconnect":
                return False
            pending += message.get("body", b"")
            more = message.get("more_body", False)
            if position + len(pending) > end + 1:
                return False
            if len(pending) >= _GATHER or not more:
                await trio.to_thread.run_sync(_write_all, descriptor, bytes(pending), position)
                position += len(pending)
                pending.clear()
    finally:
        os.close(descriptor)
    if position <= end:
        with trio.move_on_after(sandbox.settings.upload_timeout):
            while (await request.receive())["type"] != "http.disconnect":
                pass
        return False
    return True


def _write_all(descriptor: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, position)
        view = view[written:]
        position += written


_PART = "/upload/{token}/{part_number:int}"
routes: list[Route] = [
    public("/upload/{token}", "GET", get_session),
    public(_PART, "GET", get_part),
    public(_PART, "PUT", put_part),
    public(_PART, "DELETE", reset_part),
]
