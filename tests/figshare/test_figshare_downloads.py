from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from figfs import errors
from figfs.figshare import downloads
from figfs.figshare.client import Client
from figfs.figshare.downloads import fetch_into, fetch_range
from figfs.figshare.records import File
from figfs.figshare.redirects import LONGEST_LIFE, MARGIN, UNKNOWN_LIFE, life_of
from figfs.figshare.waits import ENOUGH, LONGEST, MOST, SHORTEST, TIMES, Waits
from figfs.settings import Token

DATA = bytes(range(256)) * 40  # 10,240 bytes
FILE = File(
    id=42,
    name="data.bin",
    size=len(DATA),
    mimetype="application/octet-stream",
    download_url="https://ndownloader.test/files/42",
)
ROUTE_1 = "GET api.test/v2/file/download/42"
ROUTE_2 = "GET ndownloader.test/files/42"
STORAGE = "GET storage.test/bucket/42"
REDIRECT = httpx.Response(
    302, headers={"location": "https://storage.test/bucket/42?X-Amz-Signature=s1gnature"}
)


def serve(request: httpx.Request, data: bytes = DATA, **headers: str) -> httpx.Response:
    """What S3 does with a range."""
    first, last = request.headers["range"].removeprefix("bytes=").split("-")
    start, end = int(first), min(int(last) + 1, len(data))
    if start >= len(data):
        return httpx.Response(416, headers={"content-range": f"bytes */{len(data)}"})
    all_headers = {"content-range": f"bytes {start}-{end - 1}/{len(data)}", **headers}
    return httpx.Response(206, headers=all_headers, content=data[start:end])


def by_host(**answers: Any) -> Any:
    """A handler for each host, by its first label; the rest answers 500."""

    def handle(request: httpx.Request) -> Any:
        answer = answers.get(request.url.host.split(".")[0], httpx.Response(500))
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer

    return handle


async def test_redirect_and_range(connect: Any, secret: str) -> None:
    """Two requests: to the API with the token, to storage without; the range goes to both."""
    async with connect(by_host(api=REDIRECT, storage=serve)) as (client, server):
        assert await fetch_range(client, FILE, 100, 5000) == DATA[100:5000]
        numbers = client.statistics()
    assert server.asked == [ROUTE_1, STORAGE]
    assert [request.headers["range"] for request in server.requests] == ["bytes=100-4999"] * 2
    assert [request.headers["accept-encoding"] for request in server.requests] == ["identity"] * 2
    assert server.requests[0].headers["authorization"] == f"token {secret}"
    assert "authorization" not in server.requests[1].headers
    assert all(secret not in str(request.url) for request in server.requests)
    assert (numbers.api_requests, numbers.other_requests, numbers.bytes_down) == (0, 2, 4900)


@pytest.mark.parametrize(
    "location", ["/storage/42", "https://api.test/storage/42", "https://api.test:443/v2/s/42"]
)
async def test_storage_on_the_apis_own_host_gets_no_token(connect: Any, location: str) -> None:
    """A presigned URL refuses an Authorization header (D7), wherever it is."""

    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v2/file/download/42":
            return httpx.Response(302, headers={"location": location})
        assert "authorization" not in request.headers
        return serve(request)

    async with connect(handle) as (client, _):
        assert await fetch_range(client, FILE, 0, 10) == DATA[:10]


async def test_the_api_may_stream_the_file_itself(connect: Any) -> None:
    """Private files used to come without a redirect (D9)."""
    async with connect(by_host(api=serve)) as (client, server):
        assert await fetch_range(client, FILE, 5, 50) == DATA[5:50]
    assert server.asked == [ROUTE_1]


@pytest.mark.parametrize(("start", "end"), [(0, 10), (100, 5000), (10_000, 10_240), (0, 10_240)])
async def test_a_200_to_a_ranged_request(connect: Any, chunks: Any, start: int, end: int) -> None:
    """The right bytes, and no more of the body is read than up to the end of the range (D9)."""
    body = chunks([DATA[i : i + 512] for i in range(0, len(DATA), 512)])
    async with connect([httpx.Response(200, stream=body)]) as (client, server):
        assert await fetch_range(client, FILE, start, end) == DATA[start:end]
    assert len(server.requests) == 1


HTML = {"content-type": "text/html; charset=utf-8"}
BAD: dict[str, Any] = {
    "202 and nothing (D1)": httpx.Response(202, headers={"x-amzn-waf-action": "challenge"}),
    "202 with a body": httpx.Response(202, content=DATA[:100]),
    "204": httpx.Response(204),
    "403 in a bad phase (D3)": httpx.Response(403, text="<html>Forbidden</html>"),
    "404": httpx.Response(404, json={"code": "EntityNotFound"}),
    "400 of S3 (D7)": httpx.Response(400, text="<Error><Code>InvalidArgument</Code></Error>"),
    "500": httpx.Response(500),
    "503": httpx.Response(503),
    "HTML with 200": httpx.Response(200, headers=HTML, text="<html>" + "x" * 500),
    "HTML with 200, of the right length": httpx.Response(200, headers=HTML, content=b"<" * len(DATA)),
    "empty 200": httpx.Response(200),
    "200 of another length": httpx.Response(200, content=DATA[:-1]),
    "206 without Content-Range": httpx.Response(206, content=DATA[:100]),
    "206 of another range": httpx.Response(
        206, headers={"content-range": f"bytes 1-100/{len(DATA)}"}, content=DATA[1:101]
    ),
    "206 of a longer range": httpx.Response(
        206, headers={"content-range": f"bytes 0-{len(DATA) - 1}/{len(DATA)}"}, content=DATA
    ),
    "206 with too many bytes": httpx.Response(
        206, headers={"content-range": f"bytes 0-99/{len(DATA)}"}, content=DATA[:101]
    ),
    "206 in other units": httpx.Response(
        206, headers={"content-range": "lines 0-99/100"}, content=DATA[:100]
    ),
    "206 in several parts": httpx.Response(
        206, headers={"content-type": "multipart/byteranges; boundary=x"}, content=DATA[:100]
    ),
    "206 with nothing in it": httpx.Response(206, headers={"content-range": f"bytes 0-99/{len(DATA)}"}),
    "416 with the right size": httpx.Response(416, headers={"content-range": f"bytes */{len(DATA)}"}),
    "redirect without a target": httpx.Response(302),
    "redirect to plain http": httpx.Response(302, headers={"location": "http://storage.test/42"}),
    "redirect to a file": httpx.Response(302, headers={"location": "file:///etc/passwd"}),
    "redirect to this machine": httpx.Response(302, headers={"location": "http://127.0.0.1:631/"}),
    "redirect to the website (D1)": httpx.Response(
        302, headers={"location": "https://figshare.com/ndownloader/files/42"}
    ),
    "redirect to itself": httpx.Response(302, headers={"location": "https://api.test/v2/file/download/42"}),
    "no connection": httpx.ConnectError("refused"),
    "connection lost": httpx.ReadError("reset"),
    "timeout": httpx.ReadTimeout("slow"),
}


@pytest.mark.parametrize("answer", BAD.values(), ids=BAD)
async def test_trouble_on_the_first_route_is_mended_by_the_second(
    connect: Any, autojump_clock: MockClock, answer: Any
) -> None:
    """The right bytes, without waiting; the token stays at the API."""
    async with connect(by_host(api=answer, ndownloader=REDIRECT, storage=serve)) as (client, server):
        assert await fetch_range(client, FILE, 0, 100) == DATA[:100]
    assert server.asked[-2:] == [ROUTE_2, STORAGE]
    assert all("authorization" not in request.headers for request in server.requests[1:])


@pytest.mark.parametrize("name", sorted(set(BAD) - {"404"}))  # a 404 on all routes is final
async def test_trouble_that_passes(connect: Any, autojump_clock: MockClock, name: str) -> None:
    """Only one route, and bad once: the right bytes after a short wait."""
    private = File(id=42, name="data.bin", size=len(DATA))
    bad_answers = 6 if name == "redirect to itself" else 1
    async with connect([BAD[name]] * bad_answers + [serve]) as (client, server):
        assert await fetch_range(client, private, 0, 100) == DATA[:100]
    assert len(server.requests) == bad_answers + 1


@pytest.mark.parametrize("name", BAD)
async def test_trouble_on_both_routes_is_an_error(connect: Any, autojump_clock: MockClock, name: str) -> None:
    """EIO, ESTALE, EHOSTUNREACH or ETIMEDOUT after a bounded time; never EPERM, never data."""
    answer = BAD[name]
    expected: type[errors.RemoteError] = errors.BadAnswer
    if name == "404":
        expected = errors.Changed
    elif name in ("500", "503"):
        expected = errors.ServerError
    elif name in ("no connection", "connection lost"):
        expected = errors.Unreachable
    elif name == "timeout":
        expected = errors.TooSlow
    start = trio.current_time()
    async with connect([answer]) as (client, _):
        with pytest.raises(errors.RemoteError) as caught:
            await fetch_range(client, FILE, 0, 100)
    assert type(caught.value) is expected
    assert trio.current_time() - start <= 30


async def test_gone_on_one_route_only_is_not_gone(connect: Any, autojump_clock: MockClock) -> None:
    """404 and 403: Figshare's edge may be in a bad phase; EIO, not ESTALE."""
    async with connect(by_host(api=httpx.Response(404), ndownloader=httpx.Response(403))) as (client, _):
        with pytest.raises(errors.BadAnswer):
            await fetch_range(client, FILE, 0, 100)


async def test_a_revoked_token_is_told(connect: Any, autojump_clock: MockClock) -> None:
    """401 and no other way: EACCES."""
    async with connect(by_host(api=httpx.Response(401), ndownloader=httpx.Response(403))) as (client, _):
        with pytest.raises(errors.Unauthorized):
            await fetch_range(client, FILE, 0, 100)


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(416, headers={"content-range": "bytes */99"}),
        httpx.Response(206, headers={"content-range": "bytes 0-99/100"}, content=DATA[:100]),
    ],
)
async def test_another_size_is_another_content(connect: Any, answer: httpx.Response) -> None:
    """ESTALE at once: what was opened is not there any more."""
    async with connect([answer]) as (client, server):
        with pytest.raises(errors.Changed):
            await fetch_range(client, FILE, 0, 100)
    assert len(server.requests) == 1


async def test_an_expired_target_is_asked_for_again(connect: Any, autojump_clock: MockClock) -> None:
    """403 of storage: a new redirect, at once, on the same route (D10)."""
    start = trio.current_time()
    handler = by_host(api=REDIRECT, storage=[httpx.Response(403), serve])
    async with connect(handler) as (client, server):
        assert await fetch_range(client, FILE, 0, 100) == DATA[:100]
    assert server.asked == [ROUTE_1, STORAGE, ROUTE_1, STORAGE]
    assert trio.current_time() == start


@pytest.mark.parametrize("end_of_it", [[], [httpx.ReadError("reset")], [httpx.RemoteProtocolError("cut")]])
async def test_a_cut_body_is_continued(
    connect: Any, chunks: Any, autojump_clock: MockClock, end_of_it: list[Exception]
) -> None:
    """What came stays; only the rest is asked for again, as long as there is progress."""

    def cut(request: httpx.Request) -> httpx.Response:
        whole = serve(request)
        return httpx.Response(206, headers=whole.headers, stream=chunks([whole.content[:500], *end_of_it]))

    async with connect(by_host(api=cut)) as (client, server):
        private = File(id=42, name="data.bin", size=len(DATA))
        assert await fetch_range(client, private, 100, 4100) == DATA[100:4100]
    starts = [int(r.headers["range"].removeprefix("bytes=").split("-")[0]) for r in server.requests]
    assert starts == list(range(100, 4100, 500))


async def test_a_shorter_part_is_continued(connect: Any, autojump_clock: MockClock) -> None:
    """A server may answer with less than was asked for, and say so."""

    def less(request: httpx.Request) -> httpx.Response:
        first, last = (int(n) for n in request.headers["range"].removeprefix("bytes=").split("-"))
        last = min(last, first + 2047)
        headers = {"content-range": f"bytes {first}-{last}/{len(DATA)}"}
        return httpx.Response(206, headers=headers, content=DATA[first : last + 1])

    async with connect([less]) as (client, _):
        assert await fetch_range(client, FILE, 0, 5000) == DATA[:5000]


async def test_compressed_in_storage_is_the_file(connect: Any) -> None:
    """Content-Encoding is not undone: size and MD5 are those of the bytes as stored."""

    def encoded(request: httpx.Request) -> httpx.Response:
        whole = serve(request)
        headers = {**whole.headers, "content-encoding": "gzip"}
        return httpx.Response(206, headers=headers, stream=httpx.ByteStream(DATA[:100]))

    async with connect([encoded]) as (client, _):
        assert await fetch_range(client, FILE, 0, 100) == DATA[:100]


@pytest.mark.parametrize(
    "file",
    [
        File(id=42, name="page.html", size=len(DATA)),
        File(id=42, name="page", size=len(DATA), mimetype="text/html"),
        File(id=42, name="PAGE.XHTML", size=len(DATA)),
    ],
)
async def test_html_that_is_html(connect: Any, file: File) -> None:
    """A stored web page is a file like others."""
    answer = httpx.Response(200, headers={"content-type": "text/html"}, content=DATA)
    async with connect([answer]) as (client, _):
        assert await fetch_range(client, file, 0, 100) == DATA[:100]


async def test_a_linked_file_is_never_fetched(connect: Any) -> None:
    """Its URL is somebody else's: no request, no token."""
    linked = File(id=42, size=0, is_link_only=True, download_url="https://elsewhere.test/")
    async with connect([{}]) as (client, server):
        with pytest.raises(errors.Invalid):
            await fetch_range(client, linked, 0, 0)
    assert server.requests == []


async def test_nothing_is_asked_for_nothing(connect: Any) -> None:
    """An empty range, an unknown size, a range outside of the file."""
    async with connect([{}]) as (client, server):
        assert await fetch_range(client, FILE, 7, 7) == b""
        with pytest.raises(errors.BadAnswer):
            await fetch_range(client, File(id=42, size_known=False), 0, 0)
        for start, end in ((-1, 5), (5, 4), (0, len(DATA) + 1)):
            with pytest.raises(ValueError, match="range"):
                await fetch_range(client, FILE, start, end)
    assert server.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "",
        "http://ndownloader.test/files/42",
        "https://figshare.com/ndownloader/files/42",
        "https://uni.figshare.com/ndownloader/files/42",
        "ftp://x/42",
        "https://[broken",
    ],
)
async def test_a_second_route_that_must_not_be_used(
    connect: Any, url: str, autojump_clock: MockClock
) -> None:
    """No URL, not https, or the website behind its challenge (D1): the first route alone."""
    file = File(id=42, name="x", size=100, download_url=url)
    async with connect([httpx.Response(500)]) as (client, server):
        with pytest.raises(errors.ServerError):
            await fetch_range(client, file, 0, 100)
    assert set(server.asked) == {ROUTE_1}


async def test_a_sandbox_on_loopback_may_redirect_to_http(connect: Any) -> None:
    """The API itself is plain http there."""
    target = httpx.Response(302, headers={"location": "http://127.0.0.1:8000/storage/42?sig=x"})

    def handle(request: httpx.Request) -> httpx.Response:
        return target if request.url.path.startswith("/v2") else serve(request)

    async with connect(handle, api="http://127.0.0.1:8000/v2") as (client, server):
        assert await fetch_range(client, FILE, 0, 100) == DATA[:100]
    assert "authorization" not in server.requests[1].headers


async def test_retry_after_on_downloads(connect: Any, autojump_clock: MockClock) -> None:
    """429 on both routes: waits as asked, then goes on."""
    many = httpx.Response(429, headers={"retry-after": "9"})
    start = trio.current_time()
    async with connect([many, many, serve]) as (client, _):
        assert await fetch_range(client, FILE, 0, 100) == DATA[:100]
    assert 9 <= trio.current_time() - start <= 10


async def test_the_callers_deadline_bounds_it(connect: Any, autojump_clock: MockClock) -> None:
    """No try begins that would end after it: the caller hears what is wrong."""
    start = trio.current_time()
    async with connect([httpx.Response(503)]) as (client, _):
        with trio.fail_after(3), pytest.raises(errors.ServerError):
            await fetch_range(client, FILE, 0, 100)
    assert trio.current_time() - start <= 3


async def test_cancelled_in_the_middle_of_a_body(connect: Any) -> None:
    """Nothing in flight afterwards."""

    class Stuck(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield DATA[:10]
            await trio.sleep_forever()

    answer = httpx.Response(206, headers={"content-range": f"bytes 0-99/{len(DATA)}"}, stream=Stuck())
    async with connect([answer]) as (client, _), trio.open_nursery() as nursery:
        nursery.start_soon(fetch_range, client, FILE, 0, 100)
        await wait_all_tasks_blocked()
        assert client.statistics().in_flight == 1
        nursery.cancel_scope.cancel()


async def test_neither_token_nor_signature_is_logged(
    connect: Any, secret: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A presigned URL is a key, for ten seconds."""
    caplog.set_level(logging.DEBUG)
    handler = by_host(api=REDIRECT, storage=[httpx.Response(403), httpx.Response(500), serve])
    async with connect(handler) as (client, _):
        await fetch_range(client, FILE, 0, 100)
    assert "download of file 42" in caplog.text
    assert secret not in caplog.text
    assert "s1gnature" not in caplog.text
    assert "storage.test" not in caplog.text


# -- into a buffer, with progress ------------------------------------------------------------


class Told:
    """A buffer, and what was said about it; fails where something wrong is called final."""

    def __init__(self, start: int, end: int) -> None:
        self.right = DATA[start:end]
        self.buffer = bytearray(end - start)
        self.told = [0]

    def __call__(self, filled: int) -> None:
        assert filled > self.told[-1]
        assert self.buffer[:filled] == self.right[:filled]
        self.told.append(filled)

    async def fetch(self, client: Client, start: int, end: int, **options: Any) -> None:
        await fetch_into(client, FILE, start, end, memoryview(self.buffer), progress=self, **options)
        assert self.buffer == self.right
        assert self.told[-1] == end - start


async def test_progress_is_told_as_bytes_come(connect: Any, chunks: Any) -> None:
    """A reader need not wait for the end of the range."""
    headers = {"content-range": f"bytes 100-4099/{len(DATA)}", "content-length": "4000"}
    body = chunks([DATA[i : i + 1000] for i in range(100, 4100, 1000)])
    async with connect([httpx.Response(206, headers=headers, stream=body)]) as (client, _):
        told = Told(100, 4100)
        await told.fetch(client, 100, 4100)
    assert told.told == [0, 1000, 2000, 3000, 4000]


async def test_no_progress_while_the_answer_may_turn_out_wrong(
    connect: Any, chunks: Any, autojump_clock: MockClock
) -> None:
    """Without a length it may be too long, and is then worth nothing: told when it has ended."""
    headers = {"content-range": f"bytes 0-3999/{len(DATA)}"}
    wrong = httpx.Response(206, headers=headers, stream=chunks([b"x" * 1000] * 5))
    right = httpx.Response(
        206, headers=headers, stream=chunks([DATA[i : i + 1000] for i in range(0, 4000, 1000)])
    )
    async with connect([wrong, right]) as (client, _):
        told = Told(0, 4000)
        await told.fetch(client, 0, 4000)
    assert told.told == [0, 4000]


async def test_too_long_by_its_own_head_is_not_even_read(
    connect: Any, chunks: Any, autojump_clock: MockClock
) -> None:
    """Content-Length and Content-Range contradict one another."""
    headers = {"content-range": f"bytes 0-99/{len(DATA)}", "content-length": "101"}
    body = chunks([b"x" * 101])
    async with connect([httpx.Response(206, headers=headers, stream=body), serve]) as (client, _):
        await Told(0, 100).fetch(client, 0, 100)
    assert body.taken == 0


async def test_a_buffer_of_another_length(connect: Any) -> None:
    """Is a mistake of the caller."""
    async with connect([serve]) as (client, server):
        with pytest.raises(ValueError, match="buffer"):
            await fetch_into(client, FILE, 0, 100, memoryview(bytearray(99)))
    assert server.requests == []


# -- what comes along ------------------------------------------------------------


class Spare:
    """Takes what is offered until ``enough`` bytes; checks that it is right and in order."""

    def __init__(self, start: int, end: int, enough: int | None = None) -> None:
        self.range = (start, end)
        self.enough = enough
        self.pieces: list[tuple[int, int]] = []

    async def __call__(self, offset: int, chunk: bytes | memoryview) -> bool:
        await trio.lowlevel.checkpoint()
        assert chunk == DATA[offset : offset + len(chunk)]
        assert len(chunk)
        assert self.pieces == [] or offset >= self.pieces[-1][1]
        self.pieces.append((offset, offset + len(chunk)))
        return self.enough is None or sum(b - a for a, b in self.pieces) < self.enough

    @property
    def got(self) -> set[int]:
        return {i for a, b in self.pieces for i in range(a, b)}


def whole(chunks: Any, *, length: bool = True) -> Any:
    def answer(request: httpx.Request) -> httpx.Response:
        headers = {"content-length": str(len(DATA))} if length else {}
        body = chunks([DATA[i : i + 700] for i in range(0, len(DATA), 700)])
        return httpx.Response(200, headers=headers, stream=body)

    return answer


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize(("start", "end"), [(0, 10), (1000, 2000), (3000, len(DATA)), (0, len(DATA))])
async def test_the_rest_of_a_200_is_offered(
    connect: Any, chunks: Any, monkeypatch: pytest.MonkeyPatch, start: int, end: int, length: bool
) -> None:
    """Every byte outside of the range, once, in pieces that end at multiples of ``PIECE``."""
    monkeypatch.setattr(downloads, "PIECE", 1024)
    async with connect(whole(chunks, length=length)) as (client, server):
        spare = Spare(start, end)
        await Told(start, end).fetch(client, start, end, spare=spare)
    assert spare.got == set(range(len(DATA))) - set(range(start, end))
    assert all(b % 1024 == 0 or b in (start, len(DATA)) for _, b in spare.pieces)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("enough", "expected"), [(1, (0, 1024)), (1025, (0, 2000)), (2001, (0, 3072))])
async def test_no_more_is_read_than_wanted(
    connect: Any, chunks: Any, monkeypatch: pytest.MonkeyPatch, enough: int, expected: tuple[int, int]
) -> None:
    """After False nothing is offered, and the answer ends with the range."""
    monkeypatch.setattr(downloads, "PIECE", 1024)
    body = chunks([DATA[i : i + 512] for i in range(0, len(DATA), 512)])
    async with connect([httpx.Response(200, headers={"content-length": str(len(DATA))}, stream=body)]) as (
        client,
        _,
    ):
        spare = Spare(2000, 2048, enough)
        await Told(2000, 2048).fetch(client, 2000, 2048, spare=spare)
    assert spare.got == set(range(*expected)) - set(range(2000, 2048))


async def test_the_range_is_told_before_the_rest_comes(connect: Any, chunks: Any) -> None:
    """Whoever waits for it does not wait for the rest of the file."""
    told = Told(0, 100)

    async def spare(offset: int, chunk: bytes | memoryview) -> bool:
        assert told.told[-1] == 100
        return False

    async with connect(whole(chunks)) as (client, _):
        await told.fetch(client, 0, 100, spare=spare)


@pytest.mark.parametrize("error", [httpx.ReadError("reset"), httpx.ReadTimeout("slow")])
async def test_trouble_with_the_rest_is_no_error(connect: Any, chunks: Any, error: Exception) -> None:
    """The range is there; nothing is asked for again."""
    headers = {"content-length": str(len(DATA))}
    body = chunks([DATA[:1000], error])
    async with connect([httpx.Response(200, headers=headers, stream=body)]) as (client, server):
        await Told(0, 100).fetch(client, 0, 100, spare=Spare(0, 100))
    assert len(server.requests) == 1


async def test_a_rest_that_hangs_is_left(connect: Any, chunks: Any, autojump_clock: MockClock) -> None:
    """Also where a hanging connection is given up early: it is not for the range."""

    class Stuck(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield DATA[:1000]
            await trio.sleep_forever()

    headers = {"content-length": str(len(DATA))}
    answers: list[Any] = [*[serve] * ENOUGH, httpx.Response(200, headers=headers, stream=Stuck())]
    async with connect(answers) as (client, server):
        for _ in range(ENOUGH):
            await fetch_range(client, FILE, 0, 10)
        await Told(0, 100).fetch(client, 0, 100, spare=Spare(0, 100))
        assert len(server.requests) == ENOUGH + 1


# -- redirects that are shared ------------------------------------------------------------


def presigned(life: int | None = 10, signature: str = "1", **headers: str) -> httpx.Response:
    query = f"X-Amz-Date=20260101T120000Z&X-Amz-Expires={life}&" if life is not None else ""
    location = f"https://storage.test/bucket/42?{query}X-Amz-Signature={signature}"
    return httpx.Response(
        302, headers={"location": location, "date": "Thu, 01 Jan 2026 12:00:01 GMT", **headers}
    )


@pytest.mark.parametrize(("life", "good_for"), [(10, 6.0), (30, 26.0), (None, UNKNOWN_LIFE), (9999, 60.0)])
async def test_a_redirect_is_shared_while_it_lives(
    connect: Any, autojump_clock: MockClock, life: int | None, good_for: float
) -> None:
    """One request to the API for all ranges that start within its life, less a margin (D10)."""
    async with connect(by_host(api=presigned(life), storage=serve)) as (client, server):
        await fetch_range(client, FILE, 0, 10)
        await trio.sleep(good_for - 0.1)
        await fetch_range(client.background(), FILE, 10, 20)
        assert server.asked == [ROUTE_1, STORAGE, STORAGE]
        await trio.sleep(0.2)
        await fetch_range(client, FILE, 20, 30)
        assert server.asked == [ROUTE_1, STORAGE, STORAGE, ROUTE_1, STORAGE]
    assert all("authorization" not in r.headers for r in server.requests if r.url.host == "storage.test")


async def test_a_redirect_is_that_of_one_file(connect: Any) -> None:
    """Another id, another request."""
    async with connect(by_host(api=presigned(), storage=serve)) as (client, server):
        await fetch_range(client, FILE, 0, 10)
        await fetch_range(client, File(id=43, name="x", size=len(DATA)), 0, 10)
    assert server.asked == [ROUTE_1, STORAGE, "GET api.test/v2/file/download/43", STORAGE]


async def test_ranges_that_start_at_once_wait_for_one_redirect(connect: Any) -> None:
    """Sixteen ranges, one request to the API."""
    gate = trio.Event()

    async def slowly(request: httpx.Request) -> httpx.Response:
        await gate.wait()
        return presigned()

    async with (
        connect(by_host(api=slowly, storage=serve)) as (client, server),
        trio.open_nursery() as nursery,
    ):
        for i in range(16):
            nursery.start_soon(fetch_range, client, FILE, i, i + 100)
        await wait_all_tasks_blocked()
        assert server.asked == [ROUTE_1]
        gate.set()
    assert sorted(server.asked) == sorted([ROUTE_1, *[STORAGE] * 16])


async def test_who_waits_for_a_redirect_is_not_lost_when_the_first_is_cancelled(connect: Any) -> None:
    """One of them asks next."""
    gate = trio.Event()

    async def slowly(request: httpx.Request) -> httpx.Response:
        await gate.wait()
        return presigned()

    first = trio.CancelScope()

    async with (
        connect(by_host(api=slowly, storage=serve)) as (client, server),
        trio.open_nursery() as nursery,
    ):

        async def ask_first() -> None:
            with first:
                await fetch_range(client, FILE, 0, 10)

        nursery.start_soon(ask_first)
        await wait_all_tasks_blocked()
        for _ in range(3):
            nursery.start_soon(fetch_range, client, FILE, 0, 10)
        await wait_all_tasks_blocked()
        first.cancel()
        await wait_all_tasks_blocked()
        gate.set()
    assert server.asked.count(ROUTE_1) == 2
    assert server.asked.count(STORAGE) == 3


async def test_a_redirect_that_fails_fails_for_all_who_wait(connect: Any, autojump_clock: MockClock) -> None:
    """Not one after the other: the last of sixteen would wait for the timeouts of all before it."""

    async def hang(request: httpx.Request) -> httpx.Response:
        await trio.sleep(15)
        raise httpx.ReadError("reset")

    async def fetch(client: Client) -> None:
        with pytest.raises(errors.Unreachable):
            await fetch_range(client, File(id=42, name="data.bin", size=len(DATA)), 0, 10)

    start = trio.current_time()
    async with connect([hang]) as (client, _), trio.open_nursery() as nursery:
        for _ in range(16):
            nursery.start_soon(fetch, client)
    assert trio.current_time() - start < 60


async def test_a_route_that_gives_the_bytes_itself_is_not_waited_for(connect: Any, chunks: Any) -> None:
    """D9: others are not held up by the first, neither then nor later."""
    release = trio.Event()

    class Slow(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            await release.wait()
            yield DATA[:100]

    def handle(request: httpx.Request) -> httpx.Response:
        if len(server.requests) == 1:
            headers = {"content-range": f"bytes 0-99/{len(DATA)}", "content-length": "100"}
            return httpx.Response(206, headers=headers, stream=Slow())
        return serve(request)

    async with connect(handle) as (client, server), trio.open_nursery() as nursery:
        nursery.start_soon(fetch_range, client, FILE, 0, 100)
        await wait_all_tasks_blocked()
        with trio.fail_after(1):
            assert await fetch_range(client, FILE, 100, 200) == DATA[100:200]
        release.set()


@pytest.mark.parametrize("status", [400, 403, 404, 410])
async def test_a_shared_target_that_is_refused_is_asked_for_anew(
    connect: Any, autojump_clock: MockClock, status: int
) -> None:
    """At once, on the same route, and only once."""
    start = trio.current_time()
    api = [presigned(signature="old"), presigned(signature="new")]

    def storage(request: httpx.Request) -> httpx.Response:
        old = request.url.params["X-Amz-Signature"] == "old"
        return httpx.Response(status) if old and len(server.requests) > 2 else serve(request)

    async with connect(by_host(api=api, storage=storage)) as (client, server):
        await fetch_range(client, FILE, 0, 10)
        await fetch_range(client, FILE, 10, 20)
        await fetch_range(client, FILE, 20, 30)
    assert server.asked == [ROUTE_1, STORAGE, STORAGE, ROUTE_1, STORAGE, STORAGE]
    assert trio.current_time() == start


@pytest.mark.parametrize(
    "bad", [httpx.Response(500), httpx.ReadError("reset"), httpx.ConnectError("refused")]
)
async def test_a_target_that_fails_is_not_kept(connect: Any, autojump_clock: MockClock, bad: Any) -> None:
    """The next try asks where the file is now."""
    file = File(id=42, name="data.bin", size=len(DATA))
    async with connect(by_host(api=presigned(), storage=[serve, bad, serve])) as (client, server):
        await fetch_range(client, file, 0, 10)
        await fetch_range(client, file, 10, 20)
    assert server.asked == [ROUTE_1, STORAGE, STORAGE, ROUTE_1, STORAGE]


async def test_a_shared_redirect_is_in_no_repr(connect: Any, secret: str) -> None:
    """Neither the presigned URL nor the route, which may hold a private link."""
    async with connect(by_host(api=presigned(), storage=serve)) as (client, _):
        await fetch_range(client, FILE, 0, 10)
        for thing in (client, client.redirects, vars(client)):
            assert "Signature" not in repr(thing)


@pytest.mark.parametrize(
    ("query", "date", "life"),
    [
        ("X-Amz-Date=20260101T120000Z&X-Amz-Expires=10", "Thu, 01 Jan 2026 12:00:02 GMT", 8 - MARGIN),
        ("X-Amz-Date=20260101T120000Z&X-Amz-Expires=10", "Thu, 01 Jan 2026 11:00:00 GMT", 10 - MARGIN),
        ("X-Amz-Date=20260101T120000Z&X-Amz-Expires=10", "Thu, 01 Jan 2026 12:10:00 GMT", -590 - MARGIN),
        ("X-Amz-Date=20260101T120000Z&X-Amz-Expires=10", "yesterday", 10 - MARGIN),
        ("X-Amz-Date=20260101T120000Z&X-Amz-Expires=10", "Thu, 01 Jan 2026 12:00:02 -0000", 10 - MARGIN),
        ("X-Amz-Date=now&X-Amz-Expires=10", "Thu, 01 Jan 2026 12:00:02 GMT", 10 - MARGIN),
        ("X-Amz-Expires=1000000", "", LONGEST_LIFE),
        ("X-Amz-Expires=-10", "", UNKNOWN_LIFE),
        ("X-Amz-Expires=1e9", "", UNKNOWN_LIFE),
        ("X-Amz-Expires=99999999999999999999", "", UNKNOWN_LIFE),
        ("", "", UNKNOWN_LIFE),
    ],
)
def test_how_long_a_target_lives(query: str, date: str, life: float) -> None:
    """By the server's own clock; never longer than it says."""
    assert life_of(f"https://storage.test/x?{query}", {"date": date}) == life


# -- connections that hang ------------------------------------------------------------


def test_nothing_is_learnt_from_nothing() -> None:
    """The longest wait until enough has been seen."""
    waits = Waits()
    for _ in range(ENOUGH - 1):
        waits.note(0.1)
        assert waits.limit() == LONGEST
    waits.note(0.1)
    assert waits.limit() == SHORTEST


@given(st.lists(st.floats(0, 5), min_size=ENOUGH), st.integers(0, 20))
def test_what_is_learnt(seen: list[float], stalls: int) -> None:
    """Within its bounds; longer than what all took; each stall in a row doubles it."""
    waits = Waits()
    for seconds in seen:
        waits.note(seconds)
    limit = waits.limit(stalls)
    assert SHORTEST <= limit <= LONGEST
    assert limit == LONGEST or limit >= TIMES * sorted(seen[-MOST:])[int(len(seen[-MOST:]) * 0.9)]
    assert limit == LONGEST or limit == waits.limit() * 2**stalls


def test_each_stall_in_a_row_doubles_the_time() -> None:
    """Up to the longest."""
    waits = Waits()
    for _ in range(ENOUGH):
        waits.note(0.1)
    assert [waits.limit(stalls) for stalls in range(6)] == [2, 4, 8, 16, 20, 20]


def test_old_waits_are_forgotten() -> None:
    """A server that was slow is not thought slow for ever, nor one that was fast fast."""
    waits = Waits()
    for seconds in (3.0, 0.1, 3.0):
        for _ in range(MOST):
            waits.note(seconds)
        assert waits.limit() == max(SHORTEST, TIMES * seconds)


def test_a_few_slow_ones_are_no_measure() -> None:
    """One in twenty may hang."""
    waits = Waits()
    for i in range(MOST):
        waits.note(20.0 if i % 25 == 0 else 0.2)
    assert waits.limit() == SHORTEST


@pytest.mark.parametrize("where", ["head", "body"])
async def test_a_connection_that_hangs_is_left_for_another(
    connect: Any, autojump_clock: MockClock, where: str
) -> None:
    """Learnt from the others: after 2 s, the rest at once on a new connection."""

    class Stuck(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield DATA[:1000]
            await trio.sleep_forever()

    async def storage(request: httpx.Request) -> httpx.Response:
        if len(stuck) == 1:
            stuck.append(request)
            if where == "head":
                await trio.sleep_forever()
            whole = serve(request)
            return httpx.Response(206, headers=whole.headers, stream=Stuck())
        return serve(request)

    stuck: list[Any] = []
    async with connect(by_host(api=presigned(), storage=storage)) as (client, server):
        for _ in range(ENOUGH):
            await fetch_range(client, FILE, 0, 10)
        stuck.append(None)
        start = trio.current_time()
        told = Told(0, 4000)
        await told.fetch(client, 0, 4000)
        assert trio.current_time() - start == pytest.approx(2)
    assert server.requests[-1].headers["range"] == f"bytes={0 if where == 'head' else 1000}-3999"
    assert server.requests[-1].extensions["new_connection"]


async def test_a_server_that_hangs_for_all_is_given_more_time(
    connect: Any, autojump_clock: MockClock
) -> None:
    """It has become slow: 12 s for every answer, after having been fast. Each try waits longer."""
    slow = False

    async def storage(request: httpx.Request) -> httpx.Response:
        if slow:
            await trio.sleep(12)
        return serve(request)

    async with connect(by_host(api=presigned(30), storage=storage)) as (client, _):
        for _ in range(ENOUGH):
            await fetch_range(client, FILE, 0, 10)
        slow = True
        assert await fetch_range(client, FILE, 0, 4000) == DATA[:4000]


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_exactly_these_bytes_or_an_error(
    connect: Any, chunks: Any, autojump_clock: MockClock, data: Any
) -> None:
    """Servers that cut, lengthen, shift, ignore the range at random: the bytes asked for, or an error."""
    start = data.draw(st.integers(0, len(DATA)))
    end = data.draw(st.integers(start, len(DATA)))

    def handle(request: httpx.Request) -> httpx.Response:
        first, last = (int(n) for n in request.headers["range"].removeprefix("bytes=").split("-"))
        style = data.draw(st.sampled_from(["part", "part", "whole", "lie", "error", "garbage"]))
        stop = data.draw(st.integers(0, last + 5)) if data.draw(st.booleans()) else last + 1
        ending: list[Any] = [httpx.ReadError("reset")] if data.draw(st.booleans()) else []
        if style == "part":
            headers = {"content-range": f"bytes {first}-{last}/{len(DATA)}"}
            return httpx.Response(206, headers=headers, stream=chunks([DATA[first:stop], *ending]))
        if style == "lie":
            shift = data.draw(st.integers(-3, 3))
            headers = {"content-range": f"bytes {first + shift}-{last}/{len(DATA)}"}
            content = DATA[max(0, first + shift) : last + 1]
            return httpx.Response(206, headers=headers, stream=chunks([content]))
        if style == "whole":
            return httpx.Response(200, stream=chunks([DATA[:700], DATA[700:stop], *ending]))
        if style == "garbage":
            return httpx.Response(200, content=b"garbage" * data.draw(st.integers(0, 3)))
        return httpx.Response(data.draw(st.sampled_from([202, 401, 403, 404, 416, 429, 500, 503])))

    async with connect(handle, token=Token("t")) as (client, _):
        told = Told(start, end)
        try:
            with trio.move_on_after(100):
                await told.fetch(client, start, end)
        except errors.RemoteError:
            pass
