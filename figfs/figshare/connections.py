"""One connection to a server, plain or TLS: send bytes, receive bytes straight into a buffer.

Who receives, was measured on two shared cores: nginx on loopback, 1 GiB in ranges of 4 MiB, 4 at once, alone
and while the same loop serves the bytes to a process in requests of so many KiB, as a mount's does. Medians
of five runs, MiB/s and CPU seconds a GiB (curl, one stream: plain 1333, TLS 1075):

    =============================  ===========  ===========  ===========
    requests of                    none         128 KiB      1024 KiB
    =============================  ===========  ===========  ===========
    plain, httpx's own transport    464  2.18    333  2.73    368  2.70
    plain, in the loop             1082  0.70    521  1.44    728  1.20
    plain, in a thread             1153  0.83    693  1.22    827  1.06
    TLS, httpx's own transport      237  4.27    188  5.24    204  4.86
    TLS, in the loop                563  1.21    426  1.44    449  1.53
    =============================  ===========  ===========  ===========

So a thread receives large plain bodies, where one call without the interpreter's lock brings a megabyte. TLS
comes in records of 16 KiB, each of which wants the lock back: in a thread it was as fast, with up to 1.4
times the CPU; with ``MemoryBIO`` instead of ``SSLSocket`` it was as fast too. SO_RCVLOWAT made no difference
in the loop, and halved the speed in a thread (and stays with a socket that is kept).
"""

from __future__ import annotations

import contextlib
import math
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable

import httpx
import trio

Progress = Callable[[int], None]

BURST = 256 << 10  #: bytes after which the loop sees to others, and ``progress`` is told
FIRST_PIECE, LARGEST_PIECE = 64 << 10, 1 << 20  #: bytes that a thread receives before it tells; grows
FROM_IN_A_THREAD = 512 << 10  #: bytes: a thread costs about as much as receiving 100 KiB
POLL = 0.1  #: seconds after which a thread tells what has come, though its piece is not full

# As many as connections, in effect: each waits most of the time, and none for another.
_threads = trio.CapacityLimiter(256)


class Connection:
    """An open connection; made by ``connect``. One task at a time uses it.

    Errors are httpx's. After one, or a cancellation, ``close`` is all that may be done.
    """

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self.kept_until = 0.0  #: while nobody uses it: when to close it, by Trio's clock

    @property
    def tls(self) -> bool:
        return isinstance(self._socket, ssl.SSLSocket)

    async def send(self, data: bytes, *, timeout: float | None) -> None:
        """All of ``data``; ``timeout`` seconds without progress raise ``WriteTimeout``."""
        left = memoryview(data)
        while left:
            try:
                left = left[self._socket.send(left) :]
            except OSError as exc:
                await self._wait_for(exc, httpx.WriteError, timeout)

    async def receive_some(self, most: int, *, timeout: float | None) -> bytes:
        """What is there, at least one byte; none if the server has closed."""
        while True:
            try:
                return self._socket.recv(most)
            except OSError as exc:
                await self._wait_for(exc, httpx.ReadError, timeout)

    async def start_tls(self, host: str, context: ssl.SSLContext) -> None:
        """Raises ``ConnectError``, also when the certificate is not valid for ``host``."""
        try:
            self._socket = sock = context.wrap_socket(
                self._socket, server_hostname=host, do_handshake_on_connect=False
            )
        except (OSError, ValueError) as exc:  # ValueError: no name that a certificate could have
            raise httpx.ConnectError(_text(exc)) from exc
        while True:
            try:
                sock.do_handshake()
                return
            except OSError as exc:
                await self._wait_for(exc, httpx.ConnectError, None)

    async def receive_into(
        self, buffer: memoryview, progress: Progress | None = None, *, silence: float | None
    ) -> int:
        """Fill ``buffer``; returns how many bytes came before the server closed.

        ``progress`` is called in the loop with the number of bytes that are there. Raises ``ReadTimeout``
        after ``silence`` seconds without a byte. When cancelled, nothing writes to ``buffer`` any more.
        """
        if len(buffer) >= FROM_IN_A_THREAD and not self.tls:
            return await self._receive_in_a_thread(buffer, progress, silence)
        filled = told = 0
        while filled < len(buffer):
            burst_end = min(filled + BURST, len(buffer))
            blocked: OSError | None = None
            came = 1
            try:
                while filled < burst_end and came:
                    came = self._socket.recv_into(buffer[filled:burst_end])
                    filled += came
            except OSError as exc:
                blocked = exc
            if progress is not None and filled > told:
                progress(filled)
                told = filled
            if not came:
                return filled
            if blocked is not None:
                await self._wait_for(blocked, httpx.ReadError, silence)
            else:
                await trio.lowlevel.checkpoint()
        return filled

    def is_silent(self) -> bool:
        """Whether a connection that nobody uses is as it should be: nothing to read, so not closed either."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | select.POLLRDHUP)
        return not poll.poll(0) and not self._pending()

    def close(self) -> None:
        """Close it at once; may be called again."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def _pending(self) -> int:
        return self._socket.pending() if isinstance(self._socket, ssl.SSLSocket) else 0

    async def _wait_for(
        self, blocked: OSError, error: type[httpx.NetworkError], timeout: float | None
    ) -> None:
        """Wait until what raised ``blocked`` may be tried again; if it is no matter of waiting, raise
        ``error``.
        """
        sends = error is httpx.WriteError
        if isinstance(blocked, ssl.SSLWantReadError) or (isinstance(blocked, BlockingIOError) and not sends):
            wait = trio.lowlevel.wait_readable
        elif isinstance(blocked, (ssl.SSLWantWriteError, BlockingIOError)):
            wait = trio.lowlevel.wait_writable
        else:
            raise error(_text(blocked)) from blocked
        with trio.move_on_after(_seconds(timeout)) as scope:
            await wait(self._socket)
        if scope.cancelled_caught:
            kind = httpx.WriteTimeout if sends else httpx.ReadTimeout
            raise kind(f"nothing moved for {timeout:.1f} s")

    async def _receive_in_a_thread(
        self, buffer: memoryview, progress: Progress | None, silence: float | None
    ) -> int:
        receiver = _Receiver(self._socket, buffer, _seconds(silence))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receiver.watch, progress)
            await trio.to_thread.run_sync(receiver.run, limiter=_threads)
            receiver.done = True
            nursery.cancel_scope.cancel()
        self._socket.setblocking(False)
        if progress is not None and receiver.filled:
            progress(receiver.filled)
        if receiver.error is not None:
            raise receiver.error
        return receiver.filled


class _Receiver:
    """The thread that fills a buffer, and the task beside it that tells how far it is."""

    def __init__(self, sock: socket.socket, buffer: memoryview, silence: float) -> None:
        self._socket = sock
        self._buffer = buffer
        self._silence = silence
        self._token = trio.lowlevel.current_trio_token()
        self._told = trio.Event()
        self._stop = threading.Event()
        self.filled = 0
        self.error: httpx.TransportError | None = None
        self.done = False

    async def watch(self, progress: Progress | None) -> None:
        """Pass on what the thread tells; when cancelled before the thread is done, end it."""
        try:
            while True:
                await self._told.wait()
                self._told = trio.Event()
                if progress is not None:
                    progress(self.filled)
        finally:
            if not self.done:
                self._stop.set()
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)  # ends the call that the thread is in

    def run(self) -> None:
        """In the thread."""
        self._socket.setblocking(True)
        # Of a call with MSG_WAITALL this ends the waiting, not the receiving of what is there.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", 0, int(POLL * 1e6)))
        piece, heard = FIRST_PIECE, time.monotonic()
        while self.filled < len(self._buffer) and not self._stop.is_set():
            window = self._buffer[self.filled : self.filled + piece]
            try:
                came = self._socket.recv_into(window, 0, socket.MSG_WAITALL)
            except BlockingIOError:
                if time.monotonic() - heard > self._silence:
                    self.error = httpx.ReadTimeout(f"no byte for {self._silence:.1f} s")
                    return
                continue
            except OSError as exc:
                self.error = httpx.ReadError(_text(exc))
                return
            if not came:
                return
            self.filled += came
            heard = time.monotonic()
            piece = min(4 * piece, LARGEST_PIECE)
            self._token.run_sync_soon(self._tell)

    def _tell(self) -> None:
        self._told.set()


async def connect(
    host: str, port: int, context: ssl.SSLContext | None, *, timeout: float | None
) -> Connection:
    """Connect, with TLS if there is a ``context``, to the first address of ``host`` that answers.

    Raises ``ConnectError``, also when the certificate is not valid for ``host``, or ``ConnectTimeout``.
    """
    with trio.move_on_after(_seconds(timeout)), contextlib.ExitStack() as undo:
        try:
            stream = await trio.open_tcp_stream(host, port)
        except OSError as exc:
            raise httpx.ConnectError(_text(exc)) from exc
        # Trio's own sockets cannot be used in a thread. No await until this one has an owner again.
        sock = socket.socket(fileno=stream.socket.detach())
        sock.setblocking(False)
        connection = Connection(sock)
        undo.callback(connection.close)
        if context is not None:
            await connection.start_tls(host, context)
        undo.pop_all()
        return connection
    raise httpx.ConnectTimeout(f"no connection within {timeout} s")


def _seconds(timeout: float | None) -> float:
    return math.inf if timeout is None else timeout


def _text(exc: Exception) -> str:
    return str(exc) or type(exc).__name__
