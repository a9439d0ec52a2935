"""Downloads: the routes that redirect, and the storage behind presigned URLs they redirect to (quirks §1)."""

from __future__ import annotations

import datetime
import email.utils
import hashlib
import hmac
import re
from collections.abc import Callable
from urllib.parse import urlencode
from xml.sax.saxutils import escape

import trio
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from figfs.sandbox import render, sharing, tokens
from figfs.sandbox.blobs import CHUNK
from figfs.sandbox.errors import not_found, unauthorized
from figfs.sandbox.http import as_account, given_token, public
from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Row


async def redirect_from_api(sandbox: Sandbox, request: Request) -> Response:
    """``/v2/file/download/{id}``: 302 to storage (quirk D4). Files that are not public need the token."""
    return _redirect(sandbox, _find(sandbox, request, "access_token"))


async def redirect_from_ndownloader(sandbox: Sandbox, request: Request) -> Response:
    """``/ndownloader/files/{id}`` stands for ndownloader.figshare.com; takes ``?token=`` too (quirk D6)."""
    file = _find(sandbox, request, "token")
    if sandbox.settings.stream_private and not file["public"]:
        read = sandbox.blobs.opener(file["id"], pattern=bool(file["pattern"]), size=file["size"])
        return _Bytes(read, 0, file["size"], 200, {})  # quirk D9: no length, whatever range is asked for
    return _redirect(sandbox, file)


def _redirect(sandbox: Sandbox, file: Row) -> Response:
    return Response(status_code=302, headers={"Location": presign(sandbox, file)})


def _find(sandbox: Sandbox, request: Request, parameter: str) -> Row:
    """The file that is asked for, if all its bytes are there and it may be read; else 404."""
    token = given_token(request, parameter)
    if token is not None and not tokens.is_valid(sandbox, token):
        raise unauthorized("OAuth token is invalid")
    if token is not None and (wanted := request.query_params.get("impersonate")) is not None:
        sandbox = as_account(sandbox, wanted)
    file_id = request.path_params["file_id"]
    file = sandbox.store.row("SELECT * FROM files WHERE id = ?", file_id)
    if (
        file is None
        or file["link"] is not None
        or not (_is_served(file) and (file["public"] or _is_own(sandbox, file, token)))
    ):
        raise not_found("file", file_id)
    return file


def _is_served(file: Row) -> bool:
    """Whether all bytes are there; a file stuck at moving_to_final can be had too (quirk U11)."""
    return file["status"] in ("moving_to_final", "available")


def _is_own(sandbox: Sandbox, file: Row, token: str | None) -> bool:
    article = sandbox.store.row("SELECT * FROM articles WHERE id = ?", file["article_id"])
    # The token was looked at.
    return token is not None and article is not None and sharing.may_read(sandbox, article)


def presign(sandbox: Sandbox, file: Row) -> str:
    """An address of the file's bytes that is good for ``presign_seconds``, for GET only (quirks D10, D11)."""
    now = datetime.datetime.fromtimestamp(int(sandbox.clock.time()), datetime.UTC)
    key = f"{file['id']}/{render.storage_name(file)}"
    date, expires = now.strftime("%Y%m%dT%H%M%SZ"), str(sandbox.settings.presign_seconds)
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"SANDBOX/{date[:8]}/eu-west-1/s3/aws4_request",
        "X-Amz-Date": date,
        "X-Amz-Expires": expires,
        "X-Amz-SignedHeaders": "host",
        "X-Amz-Signature": _signature(sandbox, key, date, expires),
    }
    return f"{sandbox.base_url}/storage/{key}?{urlencode(query)}"


def _signature(sandbox: Sandbox, key: str, date: str, expires: str) -> str:
    text = "\n".join(("GET", key, date, expires))
    return hmac.new(sandbox.storage_secret, text.encode(), hashlib.sha256).hexdigest()


async def get_object(sandbox: Sandbox, request: Request) -> Response:
    """The bytes, whole or in one range, as S3 answers."""
    if "Authorization" in request.headers:  # quirk D7
        return _refusal(400, "InvalidArgument", "Unsupported Authorization Type")
    refused = _check_signature(sandbox, request)
    if refused is not None:
        return refused
    file = sandbox.store.row("SELECT * FROM files WHERE id = ?", request.path_params["file_id"])
    if file is None:
        return _refusal(404, "NoSuchKey", "The specified key does not exist.")
    size = file["size"]
    bounds = parse_range(request.headers.get("Range"), size)
    headers = {
        "Accept-Ranges": "bytes",
        "Content-Length": str(size),
        "ETag": f'"{file["computed_md5"] or file["supplied_md5"]}"',
        "Last-Modified": email.utils.format_datetime(
            datetime.datetime.fromisoformat(file["modified"]), usegmt=True
        ),
    }
    if bounds is None:
        start, end, status = 0, size, 200
    else:
        (start, end), status = bounds, 206
        if start >= end:
            return _refusal(
                416,
                "InvalidRange",
                "The requested range is not satisfiable",
                {"Content-Range": f"bytes */{size}"},
            )
        headers |= {"Content-Range": f"bytes {start}-{end - 1}/{size}", "Content-Length": str(end - start)}
    try:
        read = sandbox.blobs.opener(file["id"], pattern=bool(file["pattern"]), size=size)
    except FileNotFoundError:
        return _refusal(404, "NoSuchKey", "The specified key does not exist.")
    return _Bytes(read, start, end, status, headers)


async def head_object(sandbox: Sandbox, request: Request) -> Response:
    """Refused: the URL is signed for GET (quirk D11)."""
    return Response(status_code=403)


def _check_signature(sandbox: Sandbox, request: Request) -> Response | None:
    """None, or the refusal of a URL that was not made here or has expired.

    A transfer that has begun goes on (D10).
    """
    query = request.query_params
    key = "{file_id}/{name}".format(**request.path_params)
    date, expires = query.get("X-Amz-Date", ""), query.get("X-Amz-Expires", "")
    expected = _signature(sandbox, key, date, expires)
    if not hmac.compare_digest(query.get("X-Amz-Signature", "").encode(), expected.encode()):
        return _refusal(403, "SignatureDoesNotMatch", "The request signature does not match.")
    signed = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC).timestamp()
    if sandbox.clock.time() >= signed + int(expires):
        return _refusal(403, "AccessDenied", "Request has expired")
    return None


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Bytes ``[start, end)`` of a Range header; None for the whole: no, a malformed, or several ranges.

    ``start >= end`` means that the range cannot be satisfied.
    """
    match = re.fullmatch(r"bytes=(\d{0,18})-(\d{0,18})", (header or "").strip(), re.ASCII)
    if match is None or match.group(0) == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    if not last:
        return int(first), size
    if int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size)


def _refusal(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    body = f"<Error><Code>{escape(code)}</Code><Message>{escape(message)}</Message></Error>"
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'
    return Response(text, status, headers=headers, media_type="application/xml")


class _Bytes(Response):
    """Streams ``[start, end)`` from threads, chunk by chunk; stops when the client leaves."""

    def __init__(
        self, read: Callable[[int, int], bytes], start: int, end: int, status: int, headers: dict[str, str]
    ) -> None:
        # Not Response.__init__, which would add a length where there is none to be.
        self.status_code, self.background = status, None
        self.init_headers(headers | {"Content-Type": "application/octet-stream"})
        self._read, self._start, self._end = read, start, end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
            await send(
                {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
            )
            position = self._start
            while position < self._end:
                length = min(CHUNK, self._end - position)
                chunk = await trio.to_thread.run_sync(self._read, position, length)
                if not chunk:
                    raise OSError("a stored file is shorter than its record")
                position += len(chunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            nursery.cancel_scope.cancel()


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


routes = [
    public("/v2/file/download/{file_id:int}", "GET", redirect_from_api),
    public("/ndownloader/files/{file_id:int}", "GET", redirect_from_ndownloader),
    public("/storage/{file_id:int}/{name}", "HEAD", head_object),
    public("/storage/{file_id:int}/{name}", "GET", get_object),
]
