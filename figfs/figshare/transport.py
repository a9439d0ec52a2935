"""HTTP/1.1 for httpx with bodies that go straight from files and into buffers; see ``connections`` for why.

Whatever a proxy is there for goes httpx's own way, and so do requests with a body whose length is not known.

The head is read by h11. A body with a Content-Length goes past h11, from the socket into the buffer; others
(chunked, or ended by the connection's end) go through it. A connection is kept only when the answer has ended
where its head said it would and nothing came after it.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from typing import Any

import h11
import httpx
import trio

from figfs.figshare.bodies import FileBody, Progress
from figfs.figshare.connections import Connection, connect

MOST_CONNECTIONS = 48  #: in use at once to one origin
MOST_KEPT = 32  #: of those nobody uses, to one origin
KEPT_FOR = 20.0  #: seconds
LARGEST_HEAD = 100 << 10  #: bytes
HEAD_PIECE = 16 << 10  #: bytes received at once while the head is not complete
CHUNK = 64 << 10  #: bytes, where a body is iterated over
MOST_INTERIM_ANSWERS = 20  #: of status 1xx before the answer
SMALL = 256 << 10  #: bytes of a body that is sent together with its head
EARLY_ANSWER_TIMEOUT = 1.0  #: seconds for the answer of a server that has stopped to take the body

_Key = tuple[str, str, int]


class Transport(httpx.AsyncBaseTransport):
    """Answers have ``response.extensions["receive_into"]``, see ``_Body.receive_into``.

    Timeouts are those of httpx (``connect``, ``read``, ``write``, ``pool``), errors httpx's as well.
    ``request.extensions["new_connection"]``, if true: no kept connection is used.

    A kept connection that ends before the first byte of an answer was closed by the server in the meantime:
    the request is sent once more, on a new one, unless it is a POST: that is for the caller to decide. A body
    is sent to its end, or until the connection fails; an answer that came before that counts.
    """

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        """``context``: for TLS; by default httpx's, from the environment and certifi."""
        self._context = httpx.create_ssl_context() if context is None else context
        self._context.set_alpn_protocols(["http/1.1"])
        self._other = httpx.AsyncHTTPTransport(
            verify=self._context,
            limits=httpx.Limits(
                max_connections=100, max_keepalive_connections=MOST_KEPT, keepalive_expiry=KEPT_FOR
            ),
        )
        self._origins: dict[_Key, _Origin] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        ours = request.method != "HEAD" and "transfer-encoding" not in request.headers
        if not ours or request.url.scheme not in ("http", "https"):
            return await self._other.handle_async_request(request)
        origin = self._origin(request.url)
        timeouts = request.extensions.get("timeout", {})
        await origin.enter(timeouts.get("pool"))
        with contextlib.ExitStack() as undo:
            undo.callback(origin.leave)
            body = await self._exchange(origin, request, timeouts)
            undo.pop_all()
        return httpx.Response(
            body.head.status_code,
            headers=body.head.headers.raw_items(),
            stream=body,
            extensions={
                "http_version": b"HTTP/" + body.head.http_version,
                "reason_phrase": body.head.reason,
                "receive_into": body.receive_into,
            },
        )

    async def aclose(self) -> None:
        """Close the connections that nobody uses."""
        for origin in self._origins.values():
            origin.close_kept()
        await self._other.aclose()

    def _origin(self, url: httpx.URL) -> _Origin:
        now = trio.current_time()
        for key, other in list(self._origins.items()):
            other.close_expired(now)
            if other.unused:
                del self._origins[key]
        key = (url.scheme, url.raw_host.decode("ascii"), url.port or {"http": 80, "https": 443}[url.scheme])
        return self._origins.setdefault(key, _Origin(key))

    async def _exchange(self, origin: _Origin, request: httpx.Request, timeouts: dict[str, Any]) -> _Body:
        kept = None if request.extensions.get("new_connection") else origin.take_kept()
        if kept is not None:
            try:
                return await _ask(origin, kept, request, timeouts)
            except _NoAnswer as no_answer:
                origin.close_kept()  # as old as this one
                if request.method == "POST" or not _may_be_sent_again(request):
                    raise no_answer.error from no_answer.error.__cause__
        scheme, host, port = origin.key
        context = self._context if scheme == "https" else None
        connection = await connect(host, port, context, timeout=timeouts.get("connect"))
        try:
            return await _ask(origin, connection, request, timeouts)
        except _NoAnswer as no_answer:
            raise no_answer.error from no_answer.error.__cause__


class _NoAnswer(Exception):
    """The connection ended before the first byte of an answer."""

    def __init__(self, error: httpx.TransportError) -> None:
        super().__init__()
        self.error = error


class _Origin:
    """The connections to one scheme, host and port."""

    def __init__(self, key: _Key) -> None:
        self.key = key
        self._kept: list[Connection] = []  #: in the order of their last use
        self._places = trio.Semaphore(MOST_CONNECTIONS)
        self._entered = 0

    @property
    def unused(self) -> bool:
        return not self._kept and not self._entered

    async def enter(self, timeout: float | None) -> None:
        """Wait until there may be one more connection."""
        self._entered += 1
        with contextlib.ExitStack() as undo:
            undo.callback(self._count_out)
            with trio.move_on_after(float("inf") if timeout is None else timeout) as scope:
                await self._places.acquire()
            if scope.cancelled_caught:
                raise httpx.PoolTimeout(f"no free connection within {timeout} s")
            undo.pop_all()

    def leave(self) -> None:
        self._places.release()
        self._count_out()

    def _count_out(self) -> None:
        self._entered -= 1

    def take_kept(self) -> Connection | None:
        while self._kept:
            connection = self._kept.pop()
            if connection.is_silent():
                return connection
            connection.close()
        return None

    def keep(self, connection: Connection) -> None:
        connection.kept_until = trio.current_time() + KEPT_FOR
        self._kept.append(connection)
        if len(self._kept) > MOST_KEPT:
            self._kept.pop(0).close()

    def close_expired(self, now: float) -> None:
        while self._kept and self._kept[0].kept_until <= now:
            self._kept.pop(0).close()

    def close_kept(self) -> None:
        while self._kept:
            self._kept.pop().close()


async def _ask(
    origin: _Origin, connection: Connection, request: httpx.Request, timeouts: dict[str, Any]
) -> _Body:
    """Send the request, receive the head of its answer. Closes the connection unless it returns."""
    protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=LARGEST_HEAD)
    with contextlib.ExitStack() as undo:
        undo.callback(connection.close)
        heard = False
        whole = True
        try:
            try:
                await _send(connection, request, protocol, timeout=timeouts.get("write"))
            except (httpx.WriteError, httpx.WriteTimeout) as broken:
                # Refused before its end, perhaps; then it may say why.
                whole = False
                protocol.receive_data(await _early_answer(connection, broken))
            interim = 0
            while not isinstance(event := _next_event(protocol), h11.Response):
                if event is h11.NEED_DATA:
                    data = await connection.receive_some(HEAD_PIECE, timeout=timeouts.get("read"))
                    if not data:
                        raise httpx.RemoteProtocolError("the server closed the connection without an answer")
                    heard = True
                    protocol.receive_data(data)
                else:
                    interim += 1
                    if interim > MOST_INTERIM_ANSWERS:
                        raise httpx.RemoteProtocolError("interim answers without end")
        except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
            if heard:
                raise
            raise _NoAnswer(error) from None
        undo.pop_all()
    return _Body(origin, connection, protocol, event, timeouts.get("read"), may_keep=whole)


async def _send(
    connection: Connection, request: httpx.Request, protocol: h11.Connection, *, timeout: float | None
) -> None:
    """The whole request. The bytes of its body pass by ``protocol``, which is told how many they are."""
    size = int(request.headers.get("content-length", "0"))
    head = _head_of(request, size, protocol)
    body = request.stream
    assert isinstance(body, httpx.AsyncByteStream)
    if size > SMALL:
        await connection.send(head, timeout=timeout)
        if isinstance(body, FileBody):
            await connection.send_file(body, timeout=timeout)
        else:
            async for chunk in body:
                await connection.send(chunk, timeout=timeout)
        await connection.sent(timeout=timeout)
        return
    if isinstance(body, FileBody):
        done = 0
        while done < size:  # it has just been written: it is in memory
            chunk = body.read(done, size)
            head += chunk
            done += len(chunk)
        await connection.send(head, timeout=timeout)
        body.progress(size)
        return
    async for chunk in body:
        head += chunk
    await connection.send(head, timeout=timeout)


def _may_be_sent_again(request: httpx.Request) -> bool:
    """Whether its body can be had once more."""
    return isinstance(request.stream, httpx.ByteStream | FileBody)


async def _early_answer(connection: Connection, broken: httpx.TransportError) -> bytes:
    """What came from a server that did not take the whole request; ``broken`` if there is nothing."""
    try:
        data = await connection.receive_some(HEAD_PIECE, timeout=EARLY_ANSWER_TIMEOUT)
    except httpx.TransportError:
        raise broken from None
    if not data:
        raise broken
    return data


class _Passing:
    """Stands for so many bytes that h11 does not see."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size


def _head_of(request: httpx.Request, size: int, protocol: h11.Connection) -> bytes:
    try:
        head = protocol.send(
            h11.Request(method=request.method, target=request.url.raw_path, headers=request.headers.raw)
        )
        if size:
            protocol.send_with_data_passthrough(h11.Data(data=_Passing(size)))  # type: ignore[arg-type]
        protocol.send(h11.EndOfMessage())
        return head or b""
    except h11.LocalProtocolError as exc:
        raise httpx.LocalProtocolError("the request is no HTTP") from exc


def _next_event(protocol: h11.Connection) -> Any:
    try:
        return protocol.next_event()
    except h11.RemoteProtocolError as exc:
        # h11 quotes what it got, which may be a presigned URL.
        raise httpx.RemoteProtocolError(
            re.split(r"[:'\"]|\b(?:b|bytearray)\b", str(exc))[0].strip()
        ) from None


class _Body(httpx.AsyncByteStream):
    """The body of an answer, and the connection that it comes from."""

    def __init__(
        self,
        origin: _Origin,
        connection: Connection,
        protocol: h11.Connection,
        head: h11.Response,
        read_timeout: float | None,
        *,
        may_keep: bool,
    ) -> None:
        self.head = head
        self._origin = origin
        self._connection = connection
        self._protocol = protocol
        self._read_timeout = read_timeout
        self._closed = False
        self._ended = False
        self._left: int | None = None  #: bytes to come, where the head says so
        self._ready = memoryview(b"")  #: bytes of the body that are here already
        headers = dict(head.headers)
        chunked = b"transfer-encoding" in headers
        if head.status_code in (204, 304):
            self._left = 0
        elif not chunked and b"content-length" in headers:
            self._left = int(headers[b"content-length"])
        if self._left is not None:
            self._ready = memoryview(protocol.trailing_data[0])
        connection_options = {
            option.strip().lower()
            for name, value in head.headers
            if name == b"connection"
            for option in value.split(b",")
        }
        self._may_keep = (
            may_keep
            and head.http_version == b"1.1"
            and b"close" not in connection_options
            and (self._left is not None or chunked)
            # Not where somebody in between may see another end of the body than we do.
            and not (chunked and b"content-length" in headers)
        )

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        buffer = bytearray(CHUNK if self._left is None else min(CHUNK, self._left))
        filled = await self.receive_into(memoryview(buffer), silence=self._read_timeout)
        if not filled:
            raise StopAsyncIteration
        return bytes(memoryview(buffer)[:filled])

    async def receive_into(
        self, buffer: memoryview, progress: Progress | None = None, *, silence: float | None
    ) -> int:
        """Fill ``buffer`` with the next bytes of the body, not decoded; fewer only where the body ends.

        ``progress(n)``: the first ``n`` bytes are there; called in the loop. Raises httpx's errors:
        ``ReadTimeout`` after ``silence`` seconds without a byte, ``RemoteProtocolError`` if the connection
        ends before the body, ``ReadError``. What ``progress`` was told of is there nevertheless. When
        cancelled, nothing writes to ``buffer`` any more.
        """
        if self._left is None:
            return await self._decode_into(buffer, progress, silence)
        window = buffer[: self._left]
        ready = self._take_ready(window)
        if ready and progress is not None:
            progress(ready)
        filled = ready
        if filled < len(window):
            filled += await self._connection.receive_into(
                window[ready:],
                None if progress is None else (lambda came: progress(ready + came)),
                silence=silence,
            )
            if filled < len(window):
                raise httpx.RemoteProtocolError("the server closed the connection before the body's end")
        self._left -= filled
        return filled

    async def aclose(self) -> None:
        """Give the connection back, or close it where the body has not come to its end."""
        if self._closed:
            return
        self._closed = True
        complete = self._ended if self._left is None else self._left == 0 and not self._ready
        if complete and self._may_keep:
            self._origin.keep(self._connection)
        else:
            self._connection.close()
        self._origin.leave()

    def _take_ready(self, buffer: memoryview) -> int:
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    async def _decode_into(self, buffer: memoryview, progress: Progress | None, silence: float | None) -> int:
        """The same for a body whose length the head does not tell."""
        filled = 0
        while filled < len(buffer) and not self._ended:
            if not self._ready:
                self._ready = await self._next_data(silence)
            filled += self._take_ready(buffer[filled:])
            if progress is not None and filled:
                progress(filled)
        return filled

    async def _next_data(self, silence: float | None) -> memoryview:
        while True:
            event = _next_event(self._protocol)
            if isinstance(event, h11.Data):
                return memoryview(event.data)
            if event is h11.NEED_DATA:
                self._protocol.receive_data(await self._connection.receive_some(CHUNK, timeout=silence))
            else:
                self._ended = True
                self._may_keep = self._may_keep and not self._protocol.trailing_data[0]
                return memoryview(b"")
