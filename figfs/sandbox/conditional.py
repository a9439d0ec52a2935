"""Conditional requests, if the setting ``validators`` asks for them: ETag and Last-Modified on what the API
answers to a GET, and 304 where the client has it already. Figshare documents both and was seen to send
neither (quirk L14).
"""

from __future__ import annotations

import email.utils
import hashlib
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from figfs.sandbox.requestlog import role_of
from figfs.sandbox.settings import Settings


class Conditional:
    """ASGI middleware. Last-Modified is the second in which an answer was first given."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        self._dates: dict[tuple[str, bytes], tuple[str, int]] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = self._settings.validators
        if kind == "none" or scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        if role_of(scope["path"]) != "api" or not scope["path"].startswith("/v2/"):
            await self._app(scope, receive, send)
            return
        start: Message = {}
        body = bytearray()

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            elif message["type"] == "http.response.body":
                body.extend(message.get("body", b""))

        await self._app(scope, receive, collect)
        headers = MutableHeaders(raw=list(start["headers"]))
        start["headers"] = headers.raw
        if start["status"] == 200:
            etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
            key = (scope["path"], scope["query_string"])
            known = self._dates.get(key)
            date = known[1] if known is not None and known[0] == etag else int(time.time())
            self._dates[key] = (etag, date)
            if kind in ("etag", "both"):
                headers["ETag"] = etag
            if kind in ("last_modified", "both"):
                headers["Last-Modified"] = email.utils.formatdate(date, usegmt=True)
            if self._has_it(Headers(scope=scope), kind, etag, date):
                start["status"] = 304
                del headers["Content-Length"]
                del headers["Content-Type"]
                body.clear()
        headers["Date"] = email.utils.formatdate(usegmt=True)
        await send(start)
        await send({"type": "http.response.body", "body": bytes(body)})

    @staticmethod
    def _has_it(headers: Headers, kind: str, etag: str, date: int) -> bool:
        """RFC 9110 §13.2.2: If-None-Match goes before If-Modified-Since."""
        given = headers.get("if-none-match")
        if given is not None and kind != "last_modified":
            return etag in [each.strip().removeprefix("W/") for each in given.split(",")]
        since = headers.get("if-modified-since")
        if since is None or kind == "etag":
            return False
        try:
            return date <= email.utils.parsedate_to_datetime(since).timestamp()
        except ValueError:
            return False
