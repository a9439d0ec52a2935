"""What was asked of the sandbox, for ``/_sandbox/requests``."""

from __future__ import annotations

import collections
import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Requests remembered; older ones go. About 100 MB at worst.
KEPT = 200_000

CONTROL = "/_sandbox"


class RequestLog:
    def __init__(self) -> None:
        self._entries: collections.deque[dict[str, Any]] = collections.deque(maxlen=KEPT)

    def add(self, entry: dict[str, Any]) -> None:
        self._entries.append(entry)

    def entries(self) -> list[dict[str, Any]]:
        return list(self._entries)

    def clear(self) -> None:
        self._entries.clear()


def role_of(path: str) -> str:
    """``api``, ``upload``, ``download`` (redirects), ``storage`` (the bytes), ``stats``, ``oai`` or
    ``resourcesync``.
    """
    if path.startswith(("/v2/file/download/", "/ndownloader/")):
        return "download"
    if path == "/v2/oai":
        return "oai"
    if path.startswith(("/.well-known/resourcesync", "/figshareresourcesync/")):
        return "resourcesync"
    first = path.split("/", 2)[1] if path.count("/") else ""
    return first if first in ("upload", "storage", "stats") else "api"


class Recorder:
    """ASGI middleware: adds each request to the log when it ends, except those to ``/_sandbox`` itself.

    ``time`` is in seconds since 1970, when the request came in. ``status`` is 0 when the connection was
    dropped before an answer. ``bytes`` are those of the body received for PUT and POST, of the body sent for
    others, as far as they went. Queries are left out, as they may hold tokens.
    """

    def __init__(self, app: ASGIApp, log: RequestLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(CONTROL):
            await self._app(scope, receive, send)
            return
        method = scope["method"]
        entry = {
            "time": time.time(),
            "role": role_of(scope["path"]),
            "method": method,
            "path": scope["path"],
            "status": 0,
            "bytes": 0,
        }
        count_received = method in ("PUT", "POST", "PATCH")

        async def counting_receive() -> Message:
            message = await receive()
            if count_received and message["type"] == "http.request":
                entry["bytes"] += len(message.get("body", b""))
            return message

        async def counting_send(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.start":
                entry["status"] = message["status"]
            elif not count_received and message["type"] == "http.response.body":
                entry["bytes"] += len(message.get("body", b""))

        try:
            await self._app(scope, counting_receive, counting_send)
        finally:
            self._log.add(entry)
