"""The sandbox as a program: an HTTP server on 127.0.0.1."""

from __future__ import annotations

import functools
import json
import logging
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import cast

import hypercorn.config
import hypercorn.trio
import hypercorn.trio.run
import hypercorn.typing
import trio
from hypercorn.trio.tcp_server import TCPServer

from figfs.sandbox.app import make_app, open_sandbox

HOST = "127.0.0.1"


class _Connection(TCPServer):
    """Hypercorn 0.18 keeps the socket of a client that has gone until its keep-alive timeout. This does not.

    Else a thousand short connections, as a script with curl makes them, use up the open files of a process.
    """

    _gone = False

    async def _read_data(self) -> None:
        await super()._read_data()
        self._gone = True
        await self.idle_task.stop()

    async def _idle_timeout(self) -> None:
        if not self._gone:
            await super()._idle_timeout()


hypercorn.trio.run.TCPServer = _Connection  # type: ignore[attr-defined]  # no other way to hand it over


async def serve(
    *,
    port: int = 0,
    directory: Path | None = None,
    seed: str = "example",
    on_ready: Callable[[str, str], None],
) -> None:
    """Serve a sandbox on 127.0.0.1 until cancelled.

    ``port`` 0: any free one. ``directory`` None: in memory. ``seed``: what a new sandbox contains,
    ``example`` or ``empty``. ``on_ready(api_url, token)`` is called once connections are accepted. OSError if
    the port is taken or the folder cannot be used. On cancellation connections are closed at once; what was
    answered is kept.
    """
    listener = socket.create_server((HOST, port), backlog=256)
    with listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        base_url = f"http://{HOST}:{listener.getsockname()[1]}"
        async with open_sandbox(directory=directory, seed=seed, base_url=base_url) as sandbox:
            app = cast(hypercorn.typing.ASGIFramework, make_app(sandbox))
            run = functools.partial(hypercorn.trio.serve, app, _config(listener), mode="asgi")
            async with trio.open_nursery() as nursery:
                await nursery.start(run)
                on_ready(f"{base_url}/v2", sandbox.token)


def _config(listener: socket.socket) -> hypercorn.config.Config:
    log = logging.getLogger("figfs.sandbox")
    log.setLevel(logging.WARNING)
    config = hypercorn.config.Config()
    config.bind = [f"fd://{listener.dup().detach()}"]  # hypercorn takes and closes this one
    config.errorlog = log
    config.include_server_header = False
    config.keep_alive_timeout = 75  # seconds, as nginx
    config.keep_alive_max_requests = 10**9
    config.graceful_timeout = 0
    return config


def main(port: int = 0, directory: Path | None = None, seed: str = "example") -> None:
    """Run ``serve`` until SIGTERM or SIGINT, then return. OSError as ``serve``.

    Prints ``{"api": …, "token": …}`` when it is ready.
    """
    trio.run(functools.partial(_until_signalled, port, directory, seed))


async def _until_signalled(port: int, directory: Path | None, seed: str) -> None:
    failure: OSError | None = None
    async with trio.open_nursery() as nursery:
        await nursery.start(_cancel_on_signal, nursery.cancel_scope)
        try:
            await serve(port=port, directory=directory, seed=seed, on_ready=_announce)
        except OSError as problem:  # raised below, not as a group
            failure = problem
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _cancel_on_signal(scope: trio.CancelScope, *, task_status: trio.TaskStatus[None]) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


def _announce(api: str, token: str) -> None:
    print(json.dumps({"api": api, "token": token}), flush=True)
