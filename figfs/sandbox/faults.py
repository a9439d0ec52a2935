"""Trouble on demand.

A fault plan is a JSON list of rules, set by ``PUT /_sandbox/faults`` and shown, with how often each one hit,
by ``GET``. An empty list ends all trouble.

Which requests a rule hits (what is left out matches everything):

| key | means |
|---|---|
| `role` | `api`, `upload`, `download` (redirects), `storage` (bytes), `stats`, `oai`, `resourcesync` |
| `method` | `GET`, `POST`, … |
| `path` | a regular expression, searched in the path (without the query) |
| `skip` | that many matching requests pass first (default 0) |
| `times` | the rule hits that many requests, then no more (default: all) |

What happens to them, by `action`:

| action | further keys | what happens |
|---|---|---|
| `status` | `status`, `body` (text or JSON), `headers` | answered so; not carried out |
| `latency` | `seconds` | carried out that much later |
| `bandwidth` | `bytes_per_second` | bodies go no faster, both ways, for each request by itself |
| `cut` | `bytes` | closed after that many bytes of the body: of the request for PUT, else of the answer |
| `hang` | `seconds` (default: until the client leaves) | no answer, then closed; not carried out |
| `lose_answer` | | carried out, then the connection is closed without an answer |
| `corrupt` | | the first byte of the answer's body is another |
| `empty_202` | | 202 without a body, as from the guard of a web site (quirk D1); not carried out |
| `html` | `body` (default: a small page) | 200 with an HTML page; not carried out |

`latency` and `bandwidth` are added to whatever follows them in the list; the first of the other actions ends
the search.

    [{"role": "storage", "action": "latency", "seconds": 0.05},
     {"role": "storage", "action": "cut", "bytes": 100000, "times": 1},
     {"role": "api", "method": "POST", "path": "/files$", "action": "lose_answer", "skip": 2, "times": 1},
     {"role": "api", "action": "status", "status": 429, "headers": {"Retry-After": "1"}, "times": 3}]
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import trio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from figfs.sandbox.requestlog import CONTROL, role_of

_PAGE = (
    "<!DOCTYPE html><html><head><title>Please wait</title></head><body>Checking your browser</body></html>"
)
_LONGEST_PIECE = 64 * 1024

#: The further keys of each action, with the types they may have. ``None``: may be left out.
_ACTIONS: dict[str, dict[str, tuple[type | None, ...]]] = {
    "status": {"status": (int,), "body": (str, dict, list, None), "headers": (dict, None)},
    "latency": {"seconds": (int, float)},
    "bandwidth": {"bytes_per_second": (int, float)},
    "cut": {"bytes": (int,)},
    "hang": {"seconds": (int, float, None)},
    "lose_answer": {},
    "corrupt": {},
    "empty_202": {},
    "html": {"body": (str, None)},
}
_MATCHERS: dict[str, tuple[type | None, ...]] = {
    "role": (str, None),
    "method": (str, None),
    "path": (str, None),
    "skip": (int, None),
    "times": (int, None),
}


@dataclasses.dataclass(slots=True)
class Rule:
    given: dict[str, Any]
    seen: int = 0
    hits: int = 0

    @property
    def action(self) -> str:
        return str(self.given["action"])

    def takes(self, role: str, method: str, path: str) -> bool:
        """Whether this request is hit; counts it."""
        if self.given.get("role", role) != role or self.given.get("method", method).upper() != method:
            return False
        if not re.search(self.given.get("path", ""), path):
            return False
        self.seen += 1
        if self.seen <= self.given.get("skip", 0) or self.hits >= self.given.get("times", self.hits + 1):
            return False
        self.hits += 1
        return True


class FaultPlan:
    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def replace(self, plan: object) -> None:
        """Put a new plan in place. ValueError says what is wrong with it; then the old one stays."""
        if not isinstance(plan, list):
            raise ValueError("a fault plan is a list of rules")
        self._rules = [Rule(_checked(rule, f"rule {number}")) for number, rule in enumerate(plan)]

    def as_list(self) -> list[dict[str, Any]]:
        return [rule.given | {"hits": rule.hits} for rule in self._rules]

    def pick(self, role: str, method: str, path: str) -> list[Rule]:
        """The rules that hit this request: any modifiers, and at most one that ends it."""
        picked = []
        for rule in self._rules:
            if rule.takes(role, method, path):
                picked.append(rule)
                if rule.action not in ("latency", "bandwidth"):
                    break
        return picked


def _checked(rule: object, place: str) -> dict[str, Any]:
    if not isinstance(rule, dict) or rule.get("action") not in _ACTIONS:
        raise ValueError(f"{place}: no action out of " + ", ".join(_ACTIONS))
    known = _MATCHERS | _ACTIONS[rule["action"]]
    for key in rule.keys() - known.keys() - {"action", "hits"}:
        raise ValueError(f"{place}: unknown key {key!r}")
    for key, kinds in known.items():
        value = rule.get(key)
        if isinstance(value, bool) or not isinstance(value, tuple(k or type(None) for k in kinds)):
            raise ValueError(f"{place}: {key}: {value!r}")
        if isinstance(value, int | float) and value < 0:
            raise ValueError(f"{place}: {key} is negative")
    try:
        re.compile(rule.get("path") or "")
    except re.error as problem:
        raise ValueError(f"{place}: path: {problem}") from None
    if rule["action"] == "bandwidth" and not rule["bytes_per_second"]:
        raise ValueError(f"{place}: bytes_per_second: 0")
    if rule["action"] == "status" and not 200 <= rule["status"] <= 599:
        raise ValueError(f"{place}: status: {rule['status']}")
    return {key: value for key, value in rule.items() if value is not None and key != "hits"}


class FaultInjector:
    """ASGI middleware that carries out the fault plan, except on ``/_sandbox``."""

    def __init__(self, app: ASGIApp, plan: FaultPlan) -> None:
        self._app = app
        self._plan = plan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"].startswith(CONTROL):
            await self._app(scope, receive, send)
            return
        app = self._app
        for rule in reversed(self._plan.pick(role_of(scope["path"]), scope["method"], scope["path"])):
            app = _apply(rule, app)
        await app(scope, receive, send)


def _apply(rule: Rule, app: ASGIApp) -> ASGIApp:
    given = rule.given
    match rule.action:
        case "latency":
            return _delayed(app, given["seconds"])
        case "bandwidth":
            return _slowed(app, given["bytes_per_second"])
        case "cut":
            return _cut(app, given["bytes"])
        case "hang":
            return _hanging(given.get("seconds", float("inf")))
        case "lose_answer":
            return _answerless(app)
        case "corrupt":
            return _corrupting(app)
        case "empty_202":
            return _answering(202, b"", {"x-amzn-waf-action": "challenge"})
        case "html":
            page = given.get("body", _PAGE).encode()
            return _answering(200, page, {"Content-Type": "text/html; charset=utf-8"})
        case _:
            body = given.get("body", {"message": "A fault was asked for", "code": "InjectedFault"})
            text = body if isinstance(body, str) else json.dumps(body)
            kind = "text/plain; charset=utf-8" if isinstance(body, str) else "application/json; charset=UTF-8"
            return _answering(
                given["status"], text.encode(), {"Content-Type": kind} | given.get("headers", {})
            )


def _answering(status: int, body: bytes, headers: Mapping[str, object]) -> ASGIApp:
    if status in (204, 304):  # these have none
        body = b""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        # The request's body is read, so that a client still sending it gets the answer instead of a reset.
        while (message := await receive())["type"] == "http.request" and message.get("more_body"):
            pass
        given = {name.lower(): str(value) for name, value in headers.items()}
        pairs: Iterable[tuple[str, str]] = ({"content-length": str(len(body))} | given).items()
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in pairs]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": body})

    return app


def _delayed(app: ASGIApp, seconds: float) -> ASGIApp:
    async def delayed(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(seconds)
        await app(scope, receive, send)

    return delayed


def _corrupting(app: ASGIApp) -> ASGIApp:
    async def corrupting(scope: Scope, receive: Receive, send: Send) -> None:
        is_first = True

        async def corrupting_send(message: Message) -> None:
            nonlocal is_first
            body = message.get("body", b"")
            if message["type"] == "http.response.body" and body and is_first:
                is_first = False
                message = {**message, "body": bytes([body[0] ^ 1]) + body[1:]}
            await send(message)

        await app(scope, receive, corrupting_send)

    return corrupting


def _slowed(app: ASGIApp, rate: float) -> ASGIApp:
    async def slowed(scope: Scope, receive: Receive, send: Send) -> None:
        begin = trio.current_time()
        gone = 0
        piece = max(1, min(_LONGEST_PIECE, int(rate / 20)))  # smooth: about 50 ms of waiting at a time

        async def pace(count: int) -> None:
            nonlocal gone
            gone += count
            await trio.sleep_until(begin + gone / rate)

        async def slow_receive() -> Message:
            message = await receive()
            await pace(len(message.get("body", b"")))
            return message

        async def slow_send(message: Message) -> None:
            body = message.get("body", b"")
            if message["type"] != "http.response.body" or not body:
                await send(message)
                return
            for start in range(0, len(body), piece):
                part = body[start : start + piece]
                await pace(len(part))
                more = message.get("more_body", False) or start + piece < len(body)
                await send({"type": "http.response.body", "body": part, "more_body": more})

        await app(scope, slow_receive, slow_send)

    return slowed


def _cut(app: ASGIApp, limit: int) -> ASGIApp:
    async def cut(scope: Scope, receive: Receive, send: Send) -> None:
        left = limit
        upward = scope["method"] == "PUT"
        is_cut = False

        async def cutting_receive() -> Message:
            nonlocal left, is_cut
            message = await receive()
            if upward and message["type"] == "http.request":
                left -= len(message.get("body", b""))
                if left < 0:
                    is_cut = True
                    raise _Cut
            return message

        async def cutting_send(message: Message) -> None:
            nonlocal left
            if is_cut:  # the framework's answer to _Cut
                return
            body = message.get("body", b"")
            if upward or message["type"] != "http.response.body" or len(body) <= left:
                left -= 0 if upward else len(body)
                await send(message)
                return
            await send({"type": "http.response.body", "body": body[:left], "more_body": True})
            raise _Cut

        reached = False
        try:
            await app(scope, cutting_receive, cutting_send)
        except* _Cut:
            reached = True
        if reached:  # not above: what is raised there comes in a group
            await _drop(scope, receive)

    return cut


class _Cut(Exception):
    """The body has reached the length at which its connection is to be closed."""


def _hanging(seconds: float) -> ASGIApp:
    async def hanging(scope: Scope, receive: Receive, send: Send) -> None:
        with trio.move_on_after(seconds):
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await _drop(scope, receive)

    return hanging


def _answerless(app: ASGIApp) -> ASGIApp:
    async def answerless(scope: Scope, receive: Receive, send: Send) -> None:
        async def nowhere(message: Message) -> None:
            pass

        await app(scope, receive, nowhere)
        await _drop(scope, receive)

    return answerless


async def _drop(scope: Scope, receive: Receive) -> None:
    """Close the connection of this request, as a dying server does, and wait until the HTTP server notices.

    ASGI has no such thing, so the connection is found among this process's sockets, by the address of its
    other end. Without a connection (an ASGI client in the same process): ConnectionAbortedError.
    """
    connection = _find_connection(scope.get("client"))
    if connection is None:
        raise ConnectionAbortedError("the sandbox drops this connection")
    with connection:
        connection.shutdown(socket.SHUT_RDWR)
    while (await receive())["type"] != "http.disconnect":
        pass


def _find_connection(peer: tuple[str, int] | None) -> socket.socket | None:
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if not str(entry.readlink()).startswith("socket:"):
                continue
            connection = socket.socket(fileno=os.dup(int(entry.name)))
        except OSError:  # closed since it was listed
            continue
        try:
            if connection.getpeername()[:2] == peer:
                return connection
        except OSError:  # not connected
            pass
        connection.close()
    return None
