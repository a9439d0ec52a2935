"""The control socket: a mount answers the commands of its owner.

One request a connection, one line of JSON: ``{"command": "status", …}``; answers are lines of JSON, the
last of them ``{"end": true}`` or ``{"error": "…"}``. Nobody but the owner of the mount (and root) is
answered. A client that is slow, silent or gone costs one of a few places for a few seconds, and stalls
nobody: nothing here holds a lock, and each line has a deadline.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import trio

from figfs.errors import FigfsError
from figfs.statedirectory import short_address

log = logging.getLogger(__name__)

LONGEST_REQUEST = 1 << 20  #: bytes; a request names paths at most
CLIENTS = 16  #: answered at the same time; more are told to come back
BACKLOG = 128  #: connections that the kernel takes before it is asked
REQUEST_TIMEOUT = 5.0  #: seconds in which a client has to say what it wants
SEND_TIMEOUT = 10.0  #: seconds in which it has to take a line
ACCEPT_PAUSE = 1.0  #: seconds after ``accept`` failed: descriptors may have run out

#: What is raised where a client has gone, or does not listen.
GONE = (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)

Request = Mapping[str, Any]
Send = Callable[[Mapping[str, object]], Awaitable[None]]
Answer = Callable[[Request, Send], Awaitable[None]]


class Control:
    """Answers on ``path``. ``commands``: what each command does; it sends as many lines as it likes, and
    may be cancelled at any of them. ``FigfsError``, ``OSError`` and ``ValueError`` go to the client as a
    line.
    """

    def __init__(self, path: Path, commands: Mapping[str, Answer]) -> None:
        self._path = path
        self._commands = commands
        self.clients = 0  #: that are being answered

    async def run(self) -> None:
        """Until cancelled; the socket goes with it. ``OSError`` if it cannot be made."""
        with listening(self._path) as listener:
            async with trio.open_nursery() as nursery:
                while True:
                    try:
                        client, _ = await listener.accept()
                    except OSError as exc:
                        log.warning("the control socket: %s", exc)
                        await trio.sleep(ACCEPT_PAUSE)
                        continue
                    nursery.start_soon(self._serve, trio.SocketStream(client))

    async def _serve(self, stream: trio.SocketStream) -> None:
        self.clients += 1
        try:
            async with stream:
                if not is_allowed(stream.socket):
                    log.warning("another user spoke to the control socket")
                    return
                await self._answer(stream)
        except (*GONE, OSError) as exc:
            log.debug("a client of the control socket is gone: %r", exc)
        except Exception:
            log.exception("a command failed")
        finally:
            self.clients -= 1

    async def _answer(self, stream: trio.SocketStream) -> None:
        async def send(line: Mapping[str, object]) -> None:
            with trio.fail_after(SEND_TIMEOUT):
                await stream.send_all(json.dumps(line).encode() + b"\n")

        if self.clients > CLIENTS:
            await send({"error": "too many commands at once"})
            return
        with trio.fail_after(REQUEST_TIMEOUT):
            line = await _read_line(stream)
        try:
            request = json.loads(line)
            command = self._commands[request["command"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            await send({"error": "this mount does not know that command"})
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_gone, stream, nursery.cancel_scope)
            await _carry_out(command, request, send)
            nursery.cancel_scope.cancel()


async def _carry_out(command: Answer, request: Request, send: Send) -> None:
    """Raises nothing: what goes wrong is told to the client, if it is still there."""
    try:
        last: Mapping[str, object] = {"end": True}
        try:
            await command(request, send)
        except (FigfsError, OSError, ValueError) as exc:
            last = {"error": describe(exc)}
        await send(last)
    except GONE as exc:
        log.debug("a client of the control socket is gone: %r", exc)
    except Exception:
        log.exception("a command failed")


def describe(exc: Exception) -> str:
    """One line for the person at the other end."""
    if isinstance(exc, OSError) and exc.strerror:
        return f"{exc.filename}: {exc.strerror}" if exc.filename else exc.strerror
    return str(exc)


async def _until_gone(stream: trio.SocketStream, scope: trio.CancelScope) -> None:
    """A client says nothing after its request: what comes is its end, and nobody waits for the answer
    then.
    """
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        await stream.receive_some(1)
    scope.cancel()


async def _read_line(stream: trio.SocketStream) -> bytes:
    data = bytearray()
    while not data.endswith(b"\n"):
        more = await stream.receive_some(65536)
        if not more:
            raise trio.BrokenResourceError("no request")
        data += more
        if len(data) > LONGEST_REQUEST:
            raise trio.BrokenResourceError("a request without end")
    return bytes(data)


def is_allowed(client: trio.socket.SocketType) -> bool:
    """Whether the process at the other end is the owner's, or root's."""
    size = struct.calcsize("3i")
    _, uid, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return uid in (os.getuid(), 0)


# ---- the socket itself -----------------------------------------------------------------------------------


@contextlib.contextmanager
def listening(path: Path) -> Iterator[trio.socket.SocketType]:
    """A socket at ``path`` that only its owner may use. What a dead daemon left there is replaced; other dead
    ones beside it are removed. The caller holds the state directory, so nobody else wants ``path``.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for other in path.parent.glob("*.sock"):
        if other != path:
            _remove_if_dead(other)
    # Under another name until it listens: what refuses a connection is dead for certain then.
    making = path.with_name(f".{path.stem}.{os.getpid()}")
    making.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with short_address(making) as address:
            listener.bind(address)
        making.chmod(0o600)
        listener.listen(BACKLOG)
        os.replace(making, path)
        listener.setblocking(False)
        with trio.socket.from_stdlib_socket(listener) as asynchronous:
            yield asynchronous
    finally:
        listener.close()
        making.unlink(missing_ok=True)
        path.unlink(missing_ok=True)


def _remove_if_dead(path: Path) -> None:
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as probe,
        short_address(path) as address,
    ):
        probe.setblocking(False)
        if probe.connect_ex(address) == errno.ECONNREFUSED:
            path.unlink()
