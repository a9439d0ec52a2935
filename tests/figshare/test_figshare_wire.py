"""The client over real sockets: what a transport in memory cannot show."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import httpx
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from figfs import errors
from figfs.figshare import accounts, articles
from figfs.figshare.client import Client, open_client
from figfs.figshare.downloads import fetch_range
from figfs.figshare.proxies import mounts
from figfs.figshare.records import File, Part
from figfs.figshare.uploads import put_part
from figfs.settings import Token

SECRET = "s3cret-t0ken-of-the-account"
DATA = bytes(range(256)) * 4096  # 1 MiB

Respond = Callable[[bytes, bytes, trio.SocketStream], Awaitable[None]]


class Server:
    """A bare HTTP/1.1 server: keeps the heads and bodies it gets; ``respond`` writes raw bytes."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.port = 0
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.open = 0

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        self.open += 1
        try:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._serve(stream)
        finally:
            self.open -= 1

    async def _serve(self, stream: trio.SocketStream) -> None:
        data = b""
        while True:
            while b"\r\n\r\n" not in data:
                more = await stream.receive_some()
                if not more:
                    return
                data += more
            head, _, data = data.partition(b"\r\n\r\n")
            length = 0
            for line in head.lower().split(b"\r\n"):
                if line.startswith(b"content-length:"):
                    length = int(line.partition(b":")[2])
            while len(data) < length:
                more = await stream.receive_some()
                if not more:
                    return
                data += more
            body, data = data[:length], data[length:]
            self.heads.append(head)
            self.bodies.append(body)
            await self.respond(head, body, stream)


@contextlib.asynccontextmanager
async def running(respond: Respond | Server) -> AsyncIterator[Server]:
    server = respond if isinstance(respond, Server) else Server(respond)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1"))
        server.port = listeners[0].socket.getsockname()[1]
        yield server
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Client]:
    async with open_client(api=f"http://127.0.0.1:{server.port}/v2", token=Token(SECRET), rate=0) as client:
        yield client
        assert client.statistics().in_flight == 0


def answer(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def sends(*answers: bytes) -> Respond:
    """Writes one answer for each request, the last for ever; ``<cut>`` at the end closes the connection."""
    left = list(answers)

    async def respond(head: bytes, body: bytes, stream: trio.SocketStream) -> None:
        raw = left.pop(0) if len(left) > 1 else left[0]
        await stream.send_all(raw)
        if raw.endswith(b"<cut>"):
            await stream.aclose()

    return respond


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real sockets have no mock clock: repeat without waiting."""
    monkeypatch.setattr("figfs.figshare.client.wait_time", lambda *args, **options: 0.0)
    monkeypatch.setattr("figfs.figshare.downloads.wait_time", lambda *args, **options: 0.0)


async def test_connections_are_kept() -> None:
    """Twenty requests, one connection."""
    async with running(sends(answer(b'{"id": 7}'))) as server, connected(server) as client:
        for _ in range(20):
            assert (await accounts.get_account(client)).id == 7
        assert server.connections == 1
    assert b"authorization: token " + SECRET.encode() in server.heads[0].lower()


async def test_a_cut_answer_is_asked_for_again() -> None:
    """Fewer bytes than announced: never half a listing."""
    cut = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n[{}]<cut>"
    async with running(sends(cut, answer(b'[{"id": 1}]'))) as server, connected(server) as client:
        assert [article.id for article in await articles.list_own(client)] == [1]
    assert len(server.heads) == 2


async def test_a_cut_answer_to_a_post_is_an_unknown_outcome() -> None:
    """One request only."""
    async with running(sends(b"HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n{<cut>")) as server:
        async with connected(server) as client:
            with pytest.raises(errors.UnknownOutcome):
                await articles.create(client, "abc")
        assert len(server.heads) == 1


async def test_nobody_listens() -> None:
    """Unreachable, also for a POST: it was surely not carried out."""
    async with running(sends(answer(b""))) as server:
        pass
    async with connected(server) as client:
        with pytest.raises(errors.Unreachable):
            await accounts.get_account(client)
        with pytest.raises(errors.Unreachable):
            await articles.create(client, "abc")


async def test_what_is_no_http() -> None:
    """A server of something else on that port."""
    async with running(sends(b"SSH-2.0-OpenSSH\r\n<cut>")) as server, connected(server) as client:
        with pytest.raises(errors.RemoteError):
            await accounts.get_account(client)


async def test_cancelled_requests_close_their_connections() -> None:
    """Cancelled while the server hangs: nothing in flight, and the server sees the connection go."""

    async def hang(head: bytes, body: bytes, stream: trio.SocketStream) -> None:
        await stream.receive_some()  # returns when the client goes away

    async with running(hang) as server, connected(server) as client:
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(accounts.get_account, client)
            while len(server.heads) < 5:
                await wait_all_tasks_blocked(0.01)
            assert client.statistics().in_flight == 5
            nursery.cancel_scope.cancel()
        assert client.statistics().in_flight == 0
        with trio.fail_after(5):
            while server.open:
                await wait_all_tasks_blocked(0.01)


async def test_the_token_goes_to_no_other_server() -> None:
    """Redirects of downloads, uploads: a second server records its headers."""

    async def storage(head: bytes, body: bytes, stream: trio.SocketStream) -> None:
        if head.startswith(b"PUT"):
            await stream.send_all(answer(b"OK"))
        else:
            await stream.send_all(
                answer(DATA[10:20], "206 Partial Content", f"Content-Range: bytes 10-19/{len(DATA)}")
            )

    async with running(storage) as second:
        location = f"Location: http://127.0.0.1:{second.port}/storage/42?sig=1"
        async with running(sends(answer(b"", "302 Found", location))) as first, connected(first) as client:
            file = File(
                id=42, name="x", size=len(DATA), download_url=f"http://127.0.0.1:{second.port}/direct/42"
            )
            assert await fetch_range(client, file, 10, 20) == DATA[10:20]

            async def body() -> AsyncIterator[bytes]:
                yield b"1234567890"

            part = Part(part_no=1, start_offset=0, end_offset=9)
            await put_part(client, f"http://127.0.0.1:{second.port}/upload/x", part, body)
    assert len(second.heads) == 2
    assert b"token " + SECRET.encode() in first.heads[0]
    for head in second.heads:
        assert SECRET.encode() not in head
        assert b"authorization" not in head.lower()


async def test_the_second_route_gets_no_token_either() -> None:
    """``download_url`` is on another host."""

    async def direct(head: bytes, body: bytes, stream: trio.SocketStream) -> None:
        await stream.send_all(answer(DATA))

    refusing = sends(answer(b"", "403 Forbidden"))
    async with running(direct) as second, running(refusing) as first, connected(first) as client:
        url = f"http://127.0.0.1:{second.port}/direct/42"
        file = File(id=42, name="x", size=len(DATA), download_url=url)
        assert await fetch_range(client, file, 10, 20) == DATA[10:20]
    assert SECRET.encode() not in b"".join(second.heads)


async def test_leaving_a_body_early_closes_the_connection_and_warns_of_nothing() -> None:
    """A 200 to a ranged request is left after the range; no generator is left over (warnings are errors)."""
    sent = 0

    async def whole(head: bytes, body: bytes, stream: trio.SocketStream) -> None:
        nonlocal sent
        await stream.send_all(f"HTTP/1.1 200 OK\r\nContent-Length: {len(DATA) * 64}\r\n\r\n".encode())
        for _ in range(64):
            await stream.send_all(DATA)
            sent += 1

    async with running(whole) as server, connected(server) as client:
        file = File(id=42, name="x", size=len(DATA) * 64)
        assert await fetch_range(client, file, 100, 1000) == DATA[100:1000]
        gc.collect()
        await wait_all_tasks_blocked(0.01)
        with trio.fail_after(5):
            while server.open:
                await wait_all_tasks_blocked(0.01)
    assert sent < 64


async def test_a_range_that_is_cut_is_continued() -> None:
    """The rest only, on a new connection."""

    async def cutting(head: bytes, body: bytes, stream: trio.SocketStream) -> None:
        line = next(line for line in head.decode().lower().split("\r\n") if line.startswith("range:"))
        first, last = (int(n) for n in line.partition("=")[2].split("-"))
        content = DATA[first : last + 1]
        raw = answer(content, "206 Partial Content", f"Content-Range: bytes {first}-{last}/{len(DATA)}")
        if len(content) > 300_000:
            await stream.send_all(raw[:300_000])
            await stream.aclose()
        else:
            await stream.send_all(raw)

    async with running(cutting) as server, connected(server) as client:
        file = File(id=42, name="x", size=len(DATA))
        assert await fetch_range(client, file, 0, len(DATA)) == DATA
    assert 4 <= len(server.heads) <= 8


async def test_a_part_on_the_wire() -> None:
    """Content-Length and the bytes, no chunks, no token."""

    async def body() -> AsyncIterator[bytes]:
        for i in range(0, len(DATA), 100_000):
            yield DATA[i : i + 100_000]

    async with running(sends(answer(b"OK"))) as server, connected(server) as client:
        part = Part(part_no=2, start_offset=5, end_offset=4 + len(DATA))
        await put_part(client, f"http://127.0.0.1:{server.port}/upload/x", part, body)
        assert client.statistics().bytes_up == len(DATA)
    (head,) = server.heads
    assert head.startswith(b"PUT /upload/x/2 HTTP/1.1\r\n")
    assert f"content-length: {len(DATA)}".encode() in head.lower()
    assert b"transfer-encoding" not in head.lower()
    assert SECRET.encode() not in head
    assert server.bodies == [DATA]


async def test_a_part_refused_before_it_was_read() -> None:
    """The server says no while the body is still coming: its answer is told."""

    class Early(Server):
        async def _serve(self, stream: trio.SocketStream) -> None:
            await stream.receive_some()
            await stream.send_all(answer(b"no room", "413 Payload Too Large"))
            while await stream.receive_some():
                pass

    async def body() -> AsyncIterator[bytes]:
        for i in range(0, len(DATA), 100_000):
            yield DATA[i : i + 100_000]

    async with running(Early(sends(b""))) as server, connected(server) as client:
        part = Part(part_no=2, start_offset=0, end_offset=len(DATA) - 1)
        with pytest.raises(errors.QuotaExceeded):
            await put_part(client, f"http://127.0.0.1:{server.port}/upload/x", part, body)


async def test_a_proxy_of_the_environment_does_not_see_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox is not asked through a proxy, which would see the token in clear text."""
    async with running(sends(answer(b"proxied"))) as proxy, running(sends(answer(b'{"id": 7}'))) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with connected(server) as client:
            assert (await accounts.get_account(client)).id == 7
        assert proxy.heads == []


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """For hosts elsewhere, with the whole URL in the request; names in NO_PROXY are asked directly."""
    async with running(sends(answer(b'{"id": 7}'))) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "direct.invalid, 10.0.0.1")
        async with open_client(api="http://api.invalid/v2", token=None, rate=0) as client:
            assert await client.call(method, "/x", read=lambda answer: answer.json()) == {"id": 7}
        async with open_client(api="http://direct.invalid/v2", token=None, rate=0) as client:
            with pytest.raises(errors.Unreachable):
                await client.call(method, "/x", read=lambda answer: answer.json())
    assert [head.split(b"\r\n")[0] for head in proxy.heads] == [
        f"{method} http://api.invalid/v2/x HTTP/1.1".encode()
    ]


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("", "http://example.org/", False),
        ("*", "http://example.org/", True),
        ("a.org, *", "http://example.org/", True),
        ("example.org", "http://example.org/", True),
        ("example.org", "https://api.example.org/", True),
        ("example.org", "http://myexample.org/", False),
        (".example.org", "http://api.example.org/", True),
        ("localhost", "http://localhost:80/", True),
        ("10.0.0.1", "http://10.0.0.1:8000/", True),
        ("10.0.0.1", "http://10.0.0.2:8000/", False),
        ("fd00::1", "http://[fd00::1]/", True),
        ("http://example.org", "http://example.org/", True),
        ("http://example.org", "https://example.org/", False),
        ("a.org,b.org", "http://c.org/", False),
    ],
)
async def test_proxies_are_those_of_httpx(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str, direct: bool
) -> None:
    """Each URL goes through the proxy through which httpx alone would send it."""
    monkeypatch.setenv("HTTP_PROXY", "127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:2")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    ours = httpx.AsyncClient(
        transport=httpx.MockTransport(lambda request: httpx.Response(200)), mounts=mounts()
    )
    theirs = httpx.AsyncClient()
    async with ours, theirs:
        for client in (ours, theirs):
            assert (client._transport_for_url(httpx.URL(url)) is client._transport) == direct


@pytest.mark.parametrize(
    "url",
    ["https://xn--/1", "https://xn--a/1", f"https://{'a' * 70}/", "https://../", "https://\uff11\uff12\uff17.0.0.1/",
     "https://a\0b/", "https://\ud800/"],
    ids=ascii,
)  # fmt: skip
async def test_a_host_that_is_no_name(url: str) -> None:
    """An upload URL, a download URL or a redirect to one: an error like any other, and no request."""

    async def body() -> AsyncIterator[bytes]:
        yield b"1"

    redirects = sends(answer(b"", "302 Found", f"Location: {url.encode('utf-8', 'replace').decode()}"))
    file = File(id=5, size=9, download_url=url)
    async with running(redirects) as server, connected(server) as client:
        with pytest.raises(errors.RemoteError):
            await put_part(client, url, Part(part_no=1, start_offset=0, end_offset=0), body)
        with pytest.raises(errors.RemoteError):
            await fetch_range(client, file, 0, 9)
        with pytest.raises(errors.RemoteError):
            await accounts.get_account(client)
