"""The transport over real sockets, plain and TLS, with servers that do everything wrong."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from figfs.figshare import connections, transport
from figfs.figshare.bodies import FileBody
from figfs.figshare.transport import Transport

DATA = bytes(range(256)) * 4096 * 3  # 3 MiB
SMALL = DATA[:1000]
TIMEOUTS = {"connect": 5.0, "read": 5.0, "write": 5.0, "pool": 5.0}

Respond = Callable[[trio.abc.Stream], Awaitable[None]]


class Server:
    """Runs ``respond`` for every request head that it receives."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.url = ""
        self.heads: list[bytes] = []
        self.answered = 0
        self.connections = 0
        self.open = 0

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        self.open += 1
        try:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                data = b""
                while True:
                    while b"\r\n\r\n" not in data:
                        more = await stream.receive_some(65536)
                        if not more:
                            return
                        data += more
                    head, _, data = data.partition(b"\r\n\r\n")
                    self.heads.append(head)
                    await self.respond(stream)
                    self.answered += 1
        finally:
            self.open -= 1
            await trio.aclose_forcefully(stream)

    async def wait_until_closed(self) -> None:
        with trio.fail_after(5):
            while self.open:
                await wait_all_tasks_blocked(0.01)


@contextlib.asynccontextmanager
async def running(
    respond: Respond, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Server]:
    server = Server(respond)
    async with trio.open_nursery() as nursery:
        if tls is None:
            listening: Any = partial(trio.serve_tcp, server.serve, 0, host=host)
        else:
            listening = partial(
                trio.serve_ssl_over_tcp, server.serve, 0, tls, host=host, https_compatible=True
            )
        listeners = await nursery.start(listening)
        listener = listeners[0].transport_listener if tls is not None else listeners[0]
        port = listener.socket.getsockname()[1]
        name = f"[{host}]" if ":" in host else host
        server.url = f"{'https' if tls else 'http'}://{name}:{port}/file"
        yield server
        nursery.cancel_scope.cancel()


def sends(*answers: bytes) -> Respond:
    """One answer after the other, the last for ever; the connection is closed after one with ``<close>``."""
    left = list(answers)

    async def respond(stream: trio.abc.Stream) -> None:
        raw = left.pop(0) if len(left) > 1 else left[0]
        await stream.send_all(raw.removesuffix(b"<close>"))
        if raw.endswith(b"<close>"):
            await stream.aclose()

    return respond


def answer(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    return (
        "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]).encode() + body
    )


@contextlib.asynccontextmanager
async def opened(context: ssl.SSLContext | None = None) -> AsyncIterator[Transport]:
    async with Transport(context) as opened:
        yield opened


@contextlib.asynccontextmanager
async def asked(
    over: Transport, url: str, *, timeouts: dict[str, float] | None = None, **extensions: Any
) -> AsyncIterator[httpx.Response]:
    request = httpx.Request("GET", url, extensions={"timeout": timeouts or TIMEOUTS, **extensions})
    response = await over.handle_async_request(request)
    try:
        yield response
    finally:
        await response.aclose()


async def get(over: Transport, url: str, **options: Any) -> bytes:
    """The whole body by way of ``receive_into``, with a buffer that is larger than it."""
    async with asked(over, url, **options) as response:
        buffer = bytearray(len(DATA) + 10)
        size = await response.extensions["receive_into"](memoryview(buffer), silence=5)
        return bytes(buffer[:size])


class Certificates:
    """A certificate for 127.0.0.1, signed by itself."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "certificate.pem"
        key = directory / "key.pem"
        subprocess.run(
            [
                *(
                    "openssl",
                    "req",
                    "-x509",
                    "-newkey",
                    "rsa:2048",
                    "-nodes",
                    "-days",
                    "2",
                    "-subj",
                    "/CN=test",
                ),
                *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
                *("-keyout", str(key), "-out", str(self.file)),
            ],
            check=True,
            capture_output=True,
        )
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.server.load_cert_chain(self.file, key)

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.file)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@contextlib.asynccontextmanager
async def pair(
    kind: str, respond: Respond, certificates: Certificates
) -> AsyncIterator[tuple[Transport, Server]]:
    """A transport and a server, over ``kind``: plain or TLS."""
    tls = kind == "tls"
    async with (
        running(respond, certificates.server if tls else None) as server,
        opened(certificates.client() if tls else None) as over,
    ):
        yield over, server


kinds = pytest.mark.parametrize("kind", ["plain", "tls"])
#: Received in the loop, and, plain, in a thread.
sizes = pytest.mark.parametrize("size", [1000, len(DATA)])


# -- bodies ------------------------------------------------------------


@kinds
@pytest.mark.parametrize("size", [0, 1, 1000, connections.FROM_IN_A_THREAD + 1, len(DATA)])
async def test_a_body_goes_into_the_buffer(kind: str, size: int, certificates: Certificates) -> None:
    """Exactly its bytes, with growing progress up to the last of them; bytes behind it are not touched."""
    async with pair(kind, sends(answer(DATA[:size])), certificates) as (over, server):
        for _ in range(2):
            buffer = bytearray(b"." * (size + 5))
            told: list[int] = []
            async with asked(over, server.url) as response:
                assert response.status_code == 200
                receive = response.extensions["receive_into"]
                assert await receive(memoryview(buffer), told.append, silence=5) == size
                assert await receive(memoryview(bytearray(5)), silence=5) == 0
            assert buffer == DATA[:size] + b"....."
            assert told == sorted(told)
            assert (told or [0])[-1] == size
        assert server.connections == 1


@kinds
async def test_a_body_in_pieces(kind: str, certificates: Certificates) -> None:
    """One buffer after the other, small and large."""
    async with (
        pair(kind, sends(answer(DATA)), certificates) as (over, server),
        asked(over, server.url) as response,
    ):
        got = bytearray()
        for size in (10, 1 << 20, 0, 1, 100_000, 1 << 20, 1 << 20):
            piece = bytearray(size)
            came = await response.extensions["receive_into"](memoryview(piece), silence=5)
            got += piece[:came]
    assert got == DATA


async def test_a_socket_that_a_thread_has_used_does_not_block_the_loop() -> None:
    """What comes next on the connection is received in the loop."""
    async with running(sends(answer(DATA))) as server, opened() as over, asked(over, server.url) as response:
        await response.extensions["receive_into"](memoryview(bytearray(len(DATA) - 1)), silence=5)
        assert not response.stream._connection._socket.getblocking()


@kinds
async def test_the_first_bytes_are_told_before_the_last_are_there(
    kind: str, certificates: Certificates
) -> None:
    """A reader waits for its own bytes only, however large the range is."""
    seen = trio.Event()

    async def respond(stream: trio.abc.Stream) -> None:
        await stream.send_all(answer(DATA)[:300_000])
        await seen.wait()
        await stream.send_all(answer(DATA)[300_000:])

    def progress(filled: int) -> None:
        if filled >= 128 << 10:
            seen.set()

    async with pair(kind, respond, certificates) as (over, server), asked(over, server.url) as response:
        buffer = bytearray(len(DATA))
        with trio.fail_after(10):
            await response.extensions["receive_into"](memoryview(buffer), progress, silence=5)
    assert buffer == DATA


async def test_iterated_over() -> None:
    """As httpx does it, for everything that is not a download."""
    async with running(sends(answer(DATA))) as server, httpx.AsyncClient(transport=Transport()) as http:
        assert (await http.get(server.url)).content == DATA


@sizes
async def test_chunked(size: int) -> None:
    """No length, through h11: the same bytes; the connection is kept."""
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    for at in range(0, size, 70_001):
        chunk = DATA[at : min(at + 70_001, size)]
        raw += b"%x\r\n%s\r\n" % (len(chunk), chunk)
    async with running(sends(raw + b"0\r\n\r\n")) as server, opened() as over:
        assert await get(over, server.url) == DATA[:size]
        assert await get(over, server.url) == DATA[:size]
        assert server.connections == 1


@sizes
async def test_until_the_connection_ends(size: int) -> None:
    """Neither length nor chunks."""
    raw = b"HTTP/1.1 200 OK\r\n\r\n" + DATA[:size] + b"<close>"
    async with running(sends(raw)) as server, opened() as over:
        assert await get(over, server.url) == DATA[:size]


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
async def test_answers_without_a_body(status: str) -> None:
    """Whatever their headers say."""
    raw = f"HTTP/1.1 {status}\r\nContent-Length: 50\r\n\r\n".encode()
    async with running(sends(raw)) as server, opened() as over:
        assert await get(over, server.url) == b""
        assert await get(over, server.url) == b""
        assert server.connections == 1


async def test_interim_answers_are_skipped() -> None:
    """100, 102, 103 before the answer."""
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answer(SMALL)
    async with running(sends(raw)) as server, opened() as over:
        assert await get(over, server.url) == SMALL


# -- servers that break off ------------------------------------------------------------


@kinds
@sizes
async def test_closed_in_the_middle_of_a_body(kind: str, size: int, certificates: Certificates) -> None:
    """An error, not a short body; what came was told."""
    cut = answer(DATA[:size])[: -size // 3] + b"<close>"
    async with pair(kind, sends(cut), certificates) as (over, server), asked(over, server.url) as response:
        buffer, told = bytearray(size), [0]
        with pytest.raises(httpx.RemoteProtocolError):
            await response.extensions["receive_into"](memoryview(buffer), told.append, silence=5)
        assert 0 < told[-1] < size
        assert buffer[: told[-1]] == DATA[: told[-1]]


@pytest.mark.parametrize("cut", [b"5\r\nabc", b"5\r\nabcde\r\n", b"", b"zz\r\nabc"])
async def test_broken_chunks(cut: bytes) -> None:
    """An error, not a short body."""
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + cut + b"<close>"
    async with running(sends(raw)) as server, opened() as over:
        with pytest.raises(httpx.RemoteProtocolError):
            await get(over, server.url)


@kinds
@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nContent-"])
async def test_closed_before_the_end_of_the_head(kind: str, part: bytes, certificates: Certificates) -> None:
    """On a new connection it is not tried again here."""
    async with pair(kind, sends(part + b"<close>"), certificates) as (over, server):
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await get(over, server.url)
        assert server.connections == 1
        await server.wait_until_closed()


BAD_HEADS = {
    "another protocol": b"SSH-2.0-OpenSSH\r\n\r\n",
    "no status": b"HTTP/1.1 OK\r\n\r\n",
    "no header": b"HTTP/1.1 200 OK\r\nLocation https://x/?sig=s3cret\r\n\r\n",
    "bad character": b"HTTP/1.1 302 Found\r\nLocation: https://x/?sig=s3cret\x00\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
    "two lengths in one": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nabcdef",
    "negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nabcde",
    "length with a sign": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nabcde",
    "other coding": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabcde",
    "huge": b"HTTP/1.1 200 OK\r\nX-S3cret: " + b"s3cret" * 30_000 + b"\r\n\r\n",
    "endless": b"HTTP/1.1 200 OK\r\n" + b"X-Header: x\r\n" * 20_000,
    "interim answers only": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    "another protocol from here": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
}


@pytest.mark.parametrize("head", BAD_HEADS.values(), ids=BAD_HEADS)
async def test_what_is_no_answer(head: bytes) -> None:
    """An error that quotes nothing of it: it may hold a presigned URL."""
    async with running(sends(head)) as server, opened() as over:
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            await get(over, server.url)
        assert "s3cret" not in str(caught.value)
        assert "SSH" not in str(caught.value)
        assert str(caught.value)
        await server.wait_until_closed()


async def test_silence_before_the_head() -> None:
    """``read`` seconds."""

    async def silent(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    async with running(silent) as server, opened() as over:
        with pytest.raises(httpx.ReadTimeout):
            await get(over, server.url, timeouts={**TIMEOUTS, "read": 0.05})


@kinds
@sizes
async def test_silence_in_the_middle_of_a_body(kind: str, size: int, certificates: Certificates) -> None:
    """``silence`` seconds; what came is told."""

    async def stalls(stream: trio.abc.Stream) -> None:
        await stream.send_all(answer(DATA[:size])[: -size // 3])
        await trio.sleep_forever()

    async with pair(kind, stalls, certificates) as (over, server), asked(over, server.url) as response:
        told = [0]
        with pytest.raises(httpx.ReadTimeout):
            await response.extensions["receive_into"](memoryview(bytearray(size)), told.append, silence=0.2)
        assert size // 2 < told[-1] < size


async def test_nobody_listens() -> None:
    """``ConnectError``."""
    async with running(sends(b"")) as server:
        pass
    async with opened() as over:
        with pytest.raises(httpx.ConnectError):
            await get(over, server.url)


async def test_no_such_host() -> None:
    """``ConnectError`` too."""
    async with opened() as over:
        with pytest.raises(httpx.ConnectError):
            await get(over, "http://no-such-host.invalid/")


@kinds
async def test_a_connection_that_does_not_come_about(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody answers the handshake: ``ConnectTimeout``, and no socket is left."""

    async def deaf(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    async def no_route(host: str, port: int) -> None:
        await trio.sleep_forever()

    if kind == "plain":
        monkeypatch.setattr(trio, "open_tcp_stream", no_route)
    async with running(deaf) as server, opened() as over:
        url = server.url.replace("http:", "https:") if kind == "tls" else server.url
        with pytest.raises(httpx.ConnectTimeout):
            await get(over, url, timeouts={**TIMEOUTS, "connect": 0.05})


# -- connections that are kept ------------------------------------------------------------

LEAVES_MORE = {
    "bytes after the body": answer(SMALL) + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    "bytes after a large body": answer(DATA) + b"evil",
    "bytes after chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nevil",
    "bytes after nothing": b"HTTP/1.1 204 No Content\r\n\r\nevil",
    "close": answer(SMALL, "Connection: close"),
    "close among others": answer(SMALL, "Connection: X, Close"),
    "HTTP/1.0": answer(SMALL).replace(b"HTTP/1.1", b"HTTP/1.0"),
    "length and chunks": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nabc\r\n0\r\n\r\n",
}


@kinds
@pytest.mark.parametrize("raw", LEAVES_MORE.values(), ids=LEAVES_MORE)
async def test_connections_that_are_not_kept(kind: str, raw: bytes, certificates: Certificates) -> None:
    """Where it is not certain that the next byte is the next answer's."""
    async with pair(kind, sends(raw, answer(b"right")), certificates) as (over, server):
        assert await get(over, server.url) != b"right"
        while not server.answered:  # what comes after the body has been sent, too
            await wait_all_tasks_blocked(0.01)
        assert await get(over, server.url) == b"right"
        assert server.connections == 2


@kinds
@sizes
async def test_a_body_left_unread_closes_the_connection(
    kind: str, size: int, certificates: Certificates
) -> None:
    """What is left of it must not be the next answer."""
    async with pair(kind, sends(answer(DATA[:size])), certificates) as (over, server):
        async with asked(over, server.url) as response:
            await response.extensions["receive_into"](memoryview(bytearray(size - 1)), silence=5)
        await server.wait_until_closed()
        assert await get(over, server.url) == DATA[:size]


@kinds
async def test_a_kept_connection_that_was_closed_meanwhile(kind: str, certificates: Certificates) -> None:
    """Is not used: nothing fails."""
    async with pair(kind, sends(answer(SMALL) + b"<close>"), certificates) as (over, server):
        for _ in range(3):
            assert await get(over, server.url) == SMALL
            await server.wait_until_closed()
        assert server.connections == 3


@kinds
async def test_a_kept_connection_that_ends_when_it_is_used(kind: str, certificates: Certificates) -> None:
    """The server gave it up at the same moment: once more, on a new connection."""
    async with pair(kind, sends(answer(SMALL), b"<close>", answer(b"right")), certificates) as (over, server):
        assert await get(over, server.url) == SMALL
        assert await get(over, server.url) == b"right"
        assert (server.connections, len(server.heads)) == (2, 3)


async def test_a_new_connection_that_ends_is_an_error() -> None:
    """Once more, not for ever."""
    async with running(sends(answer(SMALL), b"<close>")) as server, opened() as over:
        await get(over, server.url)
        with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
            await get(over, server.url)
        assert (server.connections, len(server.heads)) == (2, 3)


async def test_an_answer_that_has_begun_is_not_asked_for_again() -> None:
    """Also on a kept connection."""
    async with running(sends(answer(SMALL), b"HTTP/1.1 20<close>")) as server, opened() as over:
        await get(over, server.url)
        with pytest.raises(httpx.RemoteProtocolError):
            await get(over, server.url)
        assert len(server.heads) == 2


async def test_a_new_connection_on_demand() -> None:
    """For who does not trust the kept ones."""
    async with running(sends(answer(SMALL))) as server, opened() as over:
        await get(over, server.url)
        await get(over, server.url, new_connection=True)
        assert server.connections == 2


async def test_kept_connections_expire(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are closed when the next request is made."""
    monkeypatch.setattr(transport, "KEPT_FOR", -1.0)
    async with running(sends(answer(SMALL))) as server, opened() as over:
        await get(over, server.url)
        await get(over, server.url)
        assert server.connections == 2


async def test_not_too_many_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """One request more than connections waits for its turn, or for the ``pool`` timeout."""
    monkeypatch.setattr(transport, "MOST_CONNECTIONS", 1)
    async with running(sends(answer(SMALL))) as server, opened() as over:
        async with asked(over, server.url):
            with pytest.raises(httpx.PoolTimeout):
                await get(over, server.url, timeouts={**TIMEOUTS, "pool": 0.01})
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(get, over, server.url)
        assert await get(over, server.url) == SMALL


# -- cancellation ------------------------------------------------------------


@kinds
@sizes
async def test_cancelled_in_the_middle_of_a_body(kind: str, size: int, certificates: Certificates) -> None:
    """At once, the connection is closed, and nothing writes to the buffer afterwards."""

    more = trio.Event()

    async def stalls(stream: trio.abc.Stream) -> None:
        await stream.send_all(answer(DATA[:size])[: -size // 3])
        await more.wait()
        await stream.send_all(DATA[-size // 3 :])
        await stream.receive_some(1)  # returns, or fails, since the client is gone

    async with pair(kind, stalls, certificates) as (over, server):
        buffer = bytearray(size)
        enough = trio.Event()

        async def receive() -> None:
            def progress(filled: int) -> None:
                if filled > size // 2:
                    enough.set()

            async with asked(over, server.url) as response:
                await response.extensions["receive_into"](memoryview(buffer), progress, silence=60)

        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await enough.wait()
                nursery.cancel_scope.cancel()
        before = bytes(buffer)
        more.set()
        await server.wait_until_closed()
        assert buffer == before
        assert all_unused(over)


def all_unused(over: Transport) -> bool:
    return all(origin.unused for origin in over._origins.values())


async def test_cancelled_while_it_waits_for_the_head() -> None:
    """The connection is closed, its place is free."""

    async def silent(stream: trio.abc.Stream) -> None:
        await stream.receive_some(1)

    async with running(silent) as server, opened() as over:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(get, over, server.url)
            while not server.heads:
                await wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
        await server.wait_until_closed()
        assert all_unused(over)


# -- TLS and addresses ------------------------------------------------------------


@pytest.mark.parametrize("trusted", [False, True])
async def test_certificates_are_verified(trusted: bool, certificates: Certificates) -> None:
    """An unknown signer, or another name than that of the certificate: no connection, nothing is sent."""
    context = certificates.client() if trusted else ssl.create_default_context()
    async with running(sends(answer(b"")), certificates.server, host="127.0.0.2") as server:
        url = server.url if trusted else server.url.replace("127.0.0.2", "127.0.0.1")
        async with running(sends(answer(b"")), certificates.server) as right, opened(context) as over:
            with pytest.raises(httpx.ConnectError, match=r"(?i)certificate|verify"):
                await get(over, url if trusted else right.url)
            assert server.heads == right.heads == []


async def test_the_certificates_of_the_environment(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE, as with httpx."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificates.file))
    async with running(sends(answer(SMALL)), certificates.server) as server, opened() as over:
        assert await get(over, server.url) == SMALL


async def test_ipv6() -> None:
    """An address in brackets."""
    with contextlib.suppress(OSError):
        async with running(sends(answer(SMALL)), host="::1") as server, opened() as over:
            assert await get(over, server.url) == SMALL


# -- requests with a body ------------------------------------------------------------


class Taker:
    """A server that takes requests with their bodies and answers "OK".

    ``plan``: for each request None, or the number of bytes of the body after which ``last`` is said and the
    connection closed.
    """

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.plan: list[int | None] = []
        self.last = b""

    async def serve(self, stream: trio.abc.Stream) -> None:
        self.connections += 1
        data = bytearray()
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while True:
                while b"\r\n\r\n" not in data:
                    more = await stream.receive_some(65536)
                    if not more:
                        return
                    data += more
                head, _, data = data.partition(b"\r\n\r\n")
                self.heads.append(bytes(head))
                lengths = [
                    int(line[15:])
                    for line in bytes(head).lower().split(b"\r\n")
                    if line.startswith(b"content-length:")
                ]
                length = lengths[0] if lengths else 0
                cut = self.plan.pop(0) if self.plan else None
                while len(data) < (length if cut is None else cut):
                    data += await stream.receive_some(1 << 20)
                if cut is not None:
                    await stream.send_all(self.last)
                    return
                self.bodies.append(bytes(data[:length]))
                del data[:length]
                await stream.send_all(answer(b"OK"))


@contextlib.asynccontextmanager
async def taking(
    kind: str, certificates: Certificates
) -> AsyncIterator[tuple[httpx.AsyncClient, str, Taker]]:
    taker = Taker()
    async with trio.open_nursery() as nursery:
        if kind == "tls":
            listening: Any = partial(
                trio.serve_ssl_over_tcp,
                taker.serve,
                0,
                certificates.server,
                host="127.0.0.1",
                https_compatible=True,
            )
            port = (await nursery.start(listening))[0].transport_listener.socket.getsockname()[1]
            over = Transport(certificates.client())
        else:
            listening = partial(trio.serve_tcp, taker.serve, 0, host="127.0.0.1")
            port = (await nursery.start(listening))[0].socket.getsockname()[1]
            over = Transport()
        async with httpx.AsyncClient(transport=over, timeout=5) as http:
            yield http, f"{'https' if kind == 'tls' else 'http'}://127.0.0.1:{port}/upload", taker
        nursery.cancel_scope.cancel()


@contextlib.contextmanager
def file_body(tmp_path: Path, start: int, size: int) -> Iterator[tuple[FileBody, list[int]]]:
    """A body from a file with ``DATA``, and what its progress was told."""
    path = tmp_path / "file"
    path.write_bytes(DATA)
    told: list[int] = []
    with path.open("rb") as file:
        yield FileBody(file.fileno(), start, size, told.append), told


async def put(http: httpx.AsyncClient, url: str, body: httpx.AsyncByteStream, size: int) -> httpx.Response:
    plain = http.build_request("PUT", url, headers={"Content-Length": str(size)})
    return await http.send(
        httpx.Request("PUT", plain.url, headers=plain.headers, stream=body, extensions=plain.extensions)
    )


@kinds
@pytest.mark.parametrize("size", [1, 1000, transport.SMALL, transport.SMALL + 1, len(DATA) - 100])
async def test_a_file_is_sent(kind: str, size: int, certificates: Certificates, tmp_path: Path) -> None:
    """Exactly those bytes, one exact length, progress up to the last of them, and the connection is kept."""
    async with taking(kind, certificates) as (http, url, taker):
        for _ in range(2):
            with file_body(tmp_path, 100, size) as (body, told):
                assert (await put(http, url, body, size)).text == "OK"
            assert told == sorted(told)
            assert told[-1] == size
        assert taker.bodies == [DATA[100 : 100 + size]] * 2
        assert taker.heads[0].lower().count(b"content-length: %d" % size) == 1
        assert b"transfer-encoding" not in taker.heads[0].lower()
        assert taker.connections == 1


class Pieces(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(DATA), 700_001):
            await trio.lowlevel.checkpoint()
            yield DATA[at : at + 700_001]


@kinds
async def test_other_bodies(kind: str, certificates: Certificates) -> None:
    """JSON, nothing at all, and pieces; each method on the same connection."""
    async with taking(kind, certificates) as (http, url, taker):
        assert (await http.post(url, json={"a": 1})).text == "OK"
        assert (await http.post(url)).text == "OK"
        assert (await http.delete(url)).text == "OK"
        assert (await put(http, url, Pieces(), len(DATA))).text == "OK"
        assert (await http.patch(url, content=DATA)).text == "OK"
        assert [head.split()[0] for head in taker.heads] == [b"POST", b"POST", b"DELETE", b"PUT", b"PATCH"]
        assert [body.replace(b" ", b"") for body in taker.bodies[:3]] == [b'{"a":1}', b"", b""]
        assert taker.bodies[3:] == [DATA, DATA]
        assert taker.connections == 1


@kinds
@pytest.mark.parametrize("size", [1000, len(DATA)])
async def test_an_answer_before_the_end_of_the_body(
    kind: str, size: int, certificates: Certificates, tmp_path: Path
) -> None:
    """A server that refuses at once is heard if its answer comes through; then another connection is used."""
    async with taking(kind, certificates) as (http, url, taker):
        taker.plan, taker.last = [0], answer(b"no", status="413 Too Large")
        with file_body(tmp_path, 0, size) as (body, _):
            try:
                assert (await put(http, url, body, size)).status_code == 413
            except (httpx.NetworkError, httpx.RemoteProtocolError):  # a reset has overtaken the answer
                assert size > 1000
        with file_body(tmp_path, 0, size) as (body, _):
            assert (await put(http, url, body, size)).text == "OK"
        assert taker.connections == 2


@kinds
@pytest.mark.parametrize("again", [False, True])
async def test_closed_in_the_middle_of_a_request(
    kind: str, again: bool, certificates: Certificates, tmp_path: Path
) -> None:
    """An error of httpx: on a new connection at once, on a kept one after another try on a new one."""
    async with taking(kind, certificates) as (http, url, taker):
        if again:
            await http.post(url)
        taker.plan = [1 << 20, 1 << 20]
        with (
            file_body(tmp_path, 0, len(DATA)) as (body, _),
            pytest.raises((httpx.NetworkError, httpx.RemoteProtocolError)),
        ):
            await put(http, url, body, len(DATA))
        assert taker.connections == 1 + again


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
async def test_only_a_post_is_not_sent_twice(method: str, certificates: Certificates) -> None:
    """A kept connection that breaks: a POST may have been carried out, a PUT or DELETE may go again."""
    async with taking("plain", certificates) as (http, url, taker):
        await http.post(url, content=b"first")
        taker.plan = [5]
        if method == "POST":
            with pytest.raises((httpx.NetworkError, httpx.RemoteProtocolError)):
                await http.request(method, url, content=b"again")
        else:
            assert (await http.request(method, url, content=b"again")).text == "OK"
        assert len(taker.heads) == (2 if method == "POST" else 3)


@contextlib.asynccontextmanager
async def stuck(
    kind: str, certificates: Certificates, tmp_path: Path, write_timeout: float
) -> AsyncIterator[Callable[[], Awaitable[object]]]:
    """Sending a file to a server that takes the head only."""

    async def respond(stream: trio.abc.Stream) -> None:
        await trio.sleep_forever()

    size = 256 << 20  # more than any buffer of a socket holds
    async with pair(kind, respond, certificates) as (over, server):
        with (tmp_path / "large").open("w+b") as file:
            file.truncate(size)
            request = httpx.Request(
                "PUT",
                server.url,
                headers={"Host": "127.0.0.1", "Content-Length": str(size)},
                stream=FileBody(file.fileno(), 0, size, lambda done: None),
                extensions={"timeout": TIMEOUTS | {"write": write_timeout}},
            )
            yield partial(over.handle_async_request, request)


@kinds
async def test_a_server_that_takes_no_more(kind: str, certificates: Certificates, tmp_path: Path) -> None:
    """WriteTimeout, from the thread as from the loop."""
    async with stuck(kind, certificates, tmp_path, 0.3) as send:
        with trio.fail_after(10), pytest.raises(httpx.WriteTimeout):
            await send()


@kinds
async def test_cancelled_while_a_file_is_sent(kind: str, certificates: Certificates, tmp_path: Path) -> None:
    """At once: the thread does not wait for its timeout."""
    async with stuck(kind, certificates, tmp_path, 60) as send:
        with trio.fail_after(5), trio.move_on_after(0.3) as scope:
            await send()
        assert scope.cancelled_caught


@kinds
@pytest.mark.parametrize("size", [1000, len(DATA)])
async def test_a_file_that_ends_early(
    kind: str, size: int, certificates: Certificates, tmp_path: Path
) -> None:
    """OSError of the file, which is no trouble with the connection."""
    async with taking(kind, certificates) as (http, url, _):
        with (
            file_body(tmp_path, len(DATA) - size + 1, size) as (body, _told),
            pytest.raises(OSError, match="the file to send ends at"),
        ):
            await put(http, url, body, size)


async def test_a_slow_line_is_no_silence() -> None:
    """What the kernel still holds when the last byte was given to it is waited for, while it goes down."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ours = socket.create_connection(listening.getsockname())
        theirs, _ = listening.accept()
    with contextlib.closing(theirs):
        ours.setblocking(False)
        connection = connections.Connection(ours)
        await connection.send(b"x" * 200_000, timeout=5)
        with pytest.raises(httpx.WriteTimeout):
            await connection.sent(timeout=0.3)
        theirs.setblocking(False)
        left = 200_000

        async def take() -> None:
            nonlocal left
            while left:
                await trio.sleep(0.1)
                left -= len(theirs.recv(20_000))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await connection.sent(timeout=0.5)
        connection.close()


# -- what goes httpx's own way ------------------------------------------------------------


async def test_head_and_bodies_of_unknown_length() -> None:
    """They are answered as ever."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"ab"

    async with running(sends(answer(SMALL))) as server, httpx.AsyncClient(transport=Transport()) as http:
        response = await http.post(server.url, content=chunks())
        assert response.content == SMALL
        assert b"chunked" in server.heads[0].lower()
        assert "receive_into" not in response.extensions
    head = answer(SMALL).partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    async with running(sends(head)) as server, httpx.AsyncClient(transport=Transport()) as http:
        assert (await http.head(server.url)).headers["content-length"] == "1000"
