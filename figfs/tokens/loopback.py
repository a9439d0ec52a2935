"""The end of a login in the browser: the one request that it sends to this machine, with a code or an error.

A listener on 127.0.0.1, for as long as the login takes. Whoever can reach it could send a code of their own,
so that the files of somebody else's account would be mounted: only the answer with our ``state`` counts, and
any other is as if it had not come.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hmac
import html
import socket
import urllib.parse

import trio

from figfs.errors import ConfigurationError
from figfs.terminal import visible

HOST = "127.0.0.1"
LARGEST_HEAD = 16384  #: bytes
HEAD_TIMEOUT = 10.0  #: seconds for the head of a request; browsers open connections in advance

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>figfs</title></head>
<body style="font-family: sans-serif; margin: 4em auto; max-width: 30em"><h1>figfs</h1><p>{}</p></body></html>
"""


@dataclasses.dataclass(eq=False, slots=True)
class _Outcome:
    known: trio.Event = dataclasses.field(default_factory=trio.Event)
    code: str = ""
    refusal: str = ""
    astray: bool = False  #: an answer came with another state


def listen(port: int = 0) -> socket.socket:
    """A socket that listens on 127.0.0.1; ``port`` 0: any free one. Raises ConfigurationError."""
    try:
        return socket.create_server((HOST, port), backlog=16)
    except OSError as exc:
        raise ConfigurationError(f"cannot listen on port {port} of {HOST}: {exc.strerror}") from exc


async def wait_for_code(listening: socket.socket, *, state: str, timeout: float) -> str:
    """The code that the browser brings. Takes over and closes the socket.

    Raises ConfigurationError where there is none: an error instead, or nothing with our ``state`` within
    ``timeout`` seconds.
    """
    outcome = _Outcome()
    listening.setblocking(False)
    with trio.move_on_after(timeout):
        async with trio.open_nursery() as nursery:
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(listening))
            await nursery.start(
                functools.partial(
                    trio.serve_listeners, functools.partial(_serve, state=state, outcome=outcome), [listener]
                )
            )
            await outcome.known.wait()
            nursery.cancel_scope.cancel()
    if not outcome.known.is_set():
        text = f"nobody has logged in within {timeout:g} seconds: nothing is kept"
        if outcome.astray:
            text += "; an answer that came does not belong to this login (its state is wrong)"
        raise ConfigurationError(text)
    if outcome.refusal:
        raise ConfigurationError(f"{outcome.refusal}: nothing is kept")
    return outcome.code


async def _serve(stream: trio.SocketStream, *, state: str, outcome: _Outcome) -> None:
    """One connection, one request."""
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        async with stream:
            target = await _target(stream)
            if target is None:
                return
            status, text = _judge(target, state, outcome)
            body = _PAGE.format(html.escape(text)).encode()
            head = (
                f"HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\n"
                f"Content-Length: {len(body)}\r\nConnection: close\r\nCache-Control: no-store\r\n"
                "Referrer-Policy: no-referrer\r\nContent-Security-Policy: default-src 'none'; "
                "style-src 'unsafe-inline'\r\n\r\n"
            )
            try:
                await stream.send_all(head.encode() + body)
                await stream.send_eof()
            finally:
                if outcome.code or outcome.refusal:
                    outcome.known.set()  # the browser has its page, or has gone: a code is a code


async def _target(stream: trio.SocketStream) -> str | None:
    """Path and query of a GET; None for anything else."""
    head = bytearray()
    with trio.move_on_after(HEAD_TIMEOUT):
        while b"\r\n\r\n" not in head and len(head) < LARGEST_HEAD:
            chunk = await stream.receive_some(4096)
            if not chunk:
                return None
            head += chunk
        words = bytes(head).partition(b"\r\n")[0].decode("ascii", "replace").split(" ")
        if len(words) == 3 and words[0] == "GET" and words[2].startswith("HTTP/"):
            return words[1]
    return None


def _judge(target: str, state: str, outcome: _Outcome) -> tuple[str, str]:
    """Status and text of the answer; notes a code or a refusal, the first of them only."""
    path, _, query = target.partition("?")
    given = dict(urllib.parse.parse_qsl(query))
    if path != "/" or not {"code", "error"} & given.keys():
        return "404 Not Found", "There is nothing here."
    if outcome.code or outcome.refusal:
        return "410 Gone", "This login has ended."
    if not hmac.compare_digest(given.get("state", "").encode(), state.encode()):
        outcome.astray = True
        return "400 Bad Request", "This answer does not belong to the login that waits here."
    if "error" in given:
        said = " ".join(given[name] for name in ("error", "error_description") if given.get(name))
        outcome.refusal = f"the login was refused: {visible(said, 200)}"
        return "200 OK", "Figshare has refused the login. You can close this page."
    outcome.code = given["code"]
    return "200 OK", "figfs has what it needs. You can close this page."
