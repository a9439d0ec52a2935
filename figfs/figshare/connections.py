"""One connection to a server, plain or TLS: send bytes or files, receive bytes straight into a buffer.

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

Large files are sent in a thread too, by ``sendfile``: the bytes never come to Python. Over TLS they are read
in a thread and sent from the loop, record by record.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import os
import select
import socket
import ssl
import struct
import termios
import threading
import time

import httpx
import trio

from figfs.figshare.bodies import CHUNK, FileBody, Progress, too_short

BURST = 256 << 10  #: bytes after which the loop sees to others, and ``progress`` is told
FIRST_PIECE, LARGEST_PIECE = 64 << 10, 1 << 20  #: bytes that a thread receives before it tells; grows
FROM_IN_A_THREAD = 512 << 10  #: bytes: a thread costs about as much as receiving 100 KiB
POLL = 0.1  #: seconds after which a thread tells what has come, though its piece is not full
SEND_IN_A_THREAD = 256 << 10  #: bytes
LARGEST_SENT = 1 << 20  #: bytes that a thread sends before it tells
LOOK_AT_UNSENT = 0.2  #: seconds

#: What a file being read may not raise, so it is the connection.
_CONNECTION_ERRORS = frozenset(
    (
        errno.EPIPE,
        errno.ECONNRESET,
        errno.ECONNABORTED,
        errno.ENOTCONN,
        errno.ESHUTDOWN,
        errno.ETIMEDOUT,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ENETDOWN,
    )
)

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
        burst_end = len(left) - BURST
        while left:
            try:
                left = left[self._socket.send(left) :]
            except OSError as exc:
                await self._wait_for(exc, httpx.WriteError, timeout)
            if len(left) < burst_end:
                await trio.lowlevel.checkpoint()
                burst_end = len(left) - BURST

    async def send_file(self, body: FileBody, *, timeout: float | None) -> None:
        """All of ``body``, which is told how far it is. Raises as ``send``, and ``OSError`` of the file."""
        if not self.tls and body.size >= SEND_IN_A_THREAD:
            await self._in_a_thread(_Sender(self._socket, body, _seconds(timeout)), body.progress)
            return
        done = 0
        while done < body.size:
            chunk = await trio.to_thread.run_sync(body.read, done, CHUNK)
            await self.send(chunk, timeout=timeout)
            done += len(chunk)
            body.progress(done)

    async def sent(self, *, timeout: float | None) -> None:
        """Wait until all that was sent has arrived there, or an answer comes.

        Over a slow line the kernel holds more than it sends in any read timeout. ``WriteTimeout`` after
        ``timeout`` seconds in which nothing moved.
        """
        left, moved = self._unsent(), trio.current_time()
        while left:
            with trio.move_on_after(LOOK_AT_UNSENT):
                await trio.lowlevel.wait_readable(self._socket)
                return
            now_left, now = self._unsent(), trio.current_time()
            if now_left < left:
                left, moved = now_left, now
            elif now - moved > _seconds(timeout):
                raise httpx.WriteTimeout(f"nothing moved for {timeout:.1f} s")

    def _unsent(self) -> int:
        """Bytes that the other end has not acknowledged."""
        (count,) = struct.unpack("i", fcntl.ioctl(self._socket, termios.TIOCOUTQ, b"\0" * 4))
        return int(count)

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
        return await self._in_a_thread(_Receiver(self._socket, buffer, _seconds(silence)), progress)

    async def _in_a_thread(self, transfer: _Transfer, progress: Progress | None) -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(transfer.watch, progress)
            await trio.to_thread.run_sync(transfer.run, limiter=_threads)
            transfer.ended = True
            nursery.cancel_scope.cancel()
        self._socket.setblocking(False)
        if progress is not None and transfer.done:
            progress(transfer.done)
        if transfer.error is not None:
            raise transfer.error
        return transfer.done


class _Transfer:
    """A thread that moves bytes over a socket, and the task beside it that tells how far it is."""

    def __init__(self, sock: socket.socket, silence: float) -> None:
        self._socket = sock
        self._silence = silence
        self._token = trio.lowlevel.current_trio_token()
        self._told = trio.Event()
        self._stop = threading.Event()
        self.done = 0  #: bytes
        self.error: Exception | None = None
        self.ended = False

    async def watch(self, progress: Progress | None) -> None:
        """Pass on what the thread tells; when cancelled before the thread has ended, end it."""
        try:
            while True:
                await self._told.wait()
                self._told = trio.Event()
                if progress is not None:
                    progress(self.done)
        finally:
            if not self.ended:
                self._stop.set()
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)  # ends the call that the thread is in

    def run(self) -> None:
        """In the thread."""
        raise NotImplementedError

    def _prepare(self, option: int) -> None:
        """Let calls block, but not for longer than ``POLL``. ``option``: SO_RCVTIMEO or SO_SNDTIMEO."""
        self._socket.setblocking(True)
        self._socket.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", 0, int(POLL * 1e6)))

    def _tell(self) -> None:
        self._token.run_sync_soon(self._told_now)

    def _told_now(self) -> None:
        self._told.set()


class _Receiver(_Transfer):
    """Fills a buffer."""

    def __init__(self, sock: socket.socket, buffer: memoryview, silence: float) -> None:
        super().__init__(sock, silence)
        self._buffer = buffer

    def run(self) -> None:
        # Of a call with MSG_WAITALL the timeout ends the waiting, not the receiving of what is there.
        self._prepare(socket.SO_RCVTIMEO)
        piece, heard = FIRST_PIECE, time.monotonic()
        while self.done < len(self._buffer) and not self._stop.is_set():
            window = self._buffer[self.done : self.done + piece]
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
            self.done += came
            heard = time.monotonic()
            piece = min(4 * piece, LARGEST_PIECE)
            self._tell()


class _Sender(_Transfer):
    """Sends a file."""

    def __init__(self, sock: socket.socket, body: FileBody, silence: float) -> None:
        super().__init__(sock, silence)
        self._body = body

    def run(self) -> None:
        # A call that times out having sent something tells how much.
        self._prepare(socket.SO_SNDTIMEO)
        body, out, moved = self._body, self._socket.fileno(), time.monotonic()
        while self.done < body.size and not self._stop.is_set():
            most = min(LARGEST_SENT, body.size - self.done)
            try:
                sent = os.sendfile(out, body.descriptor, body.start + self.done, most)
            except BlockingIOError:
                if time.monotonic() - moved > self._silence:
                    self.error = httpx.WriteTimeout(f"nothing moved for {self._silence:.1f} s")
                    return
                continue
            except OSError as exc:
                self.error = httpx.WriteError(_text(exc)) if exc.errno in _CONNECTION_ERRORS else exc
                return
            if not sent:
                self.error = too_short(body.start + self.done, body.start + body.size)
                return
            self.done += sent
            moved = time.monotonic()
            self._tell()


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
