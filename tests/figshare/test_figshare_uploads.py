from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from figfs import errors
from figfs.figshare.records import Part
from figfs.figshare.uploads import get_upload, put_part, reset_part

URL = "https://fup.test/upload/0123456789abcdef"
PART = Part(part_no=3, start_offset=100, end_offset=149, status="PENDING")
DATA = b"0123456789" * 5


def part_json(status: str, *, locked: bool = False) -> dict[str, object]:
    return {"partNo": 3, "startOffset": 100, "endOffset": 149, "status": status, "locked": locked}


def body(pieces: list[bytes]) -> tuple[Callable[[], AsyncIterator[bytes]], list[str]]:
    """A body in pieces, and a diary of how often it was begun and closed."""
    diary: list[str] = []

    async def read() -> AsyncIterator[bytes]:
        diary.append("begun")
        try:
            for piece in pieces:
                await trio.lowlevel.checkpoint()
                yield piece
        finally:
            diary.append("closed")

    return read, diary


async def test_the_parts_of_an_upload(connect: Any) -> None:
    """No token goes to the uploader; the offsets are inclusive."""
    answer = {"token": "x", "size": "150", "status": "PENDING", "parts": [part_json("PENDING")]}
    async with connect([answer]) as (client, server):
        upload = await get_upload(client, URL)
    assert upload.parts == (PART,)
    assert upload.size == 150
    assert server.asked == ["GET fup.test/upload/0123456789abcdef"]
    assert "authorization" not in server.requests[0].headers


async def test_a_404_just_after_the_announcement_is_waited_out(
    connect: Any, autojump_clock: MockClock
) -> None:
    """Quirks U9; but not for ever."""
    async with connect([404, 404, {"parts": []}]) as (client, _):
        assert (await get_upload(client, URL)).parts == ()
    start = trio.current_time()
    async with connect([404]) as (client, _):
        with pytest.raises(errors.NotFound):
            await get_upload(client, URL)
    assert 4 <= trio.current_time() - start <= 10


async def test_a_part_is_sent_with_its_exact_length(connect: Any) -> None:
    """Content-Length, not chunked; no token; the answer's body is not parsed (quirks U2, U5, U7)."""
    read, diary = body([DATA[:20], DATA[20:]])
    async with connect([httpx.Response(200, text="OK")]) as (client, server):
        await put_part(client, URL, PART, read)
        assert client.statistics().bytes_up == 50
        assert client.statistics().api_requests == 0
    (request,) = server.requests
    assert server.asked == ["PUT fup.test/upload/0123456789abcdef/3"]
    assert request.content == DATA
    assert request.headers["content-length"] == "50"
    assert "transfer-encoding" not in request.headers
    assert "authorization" not in request.headers
    assert diary == ["begun", "closed"]


@pytest.mark.parametrize("pieces", [[DATA[:49]], [DATA, b"x"], [], [DATA[:10], b"", DATA[10:49]]])
async def test_a_body_of_another_length_is_our_own_error(connect: Any, pieces: list[bytes]) -> None:
    """A short body would hang at the server until it times out (quirks U7)."""
    read, diary = body(pieces)
    async with connect([200]) as (client, _):
        with pytest.raises(ValueError, match="body of a part"):
            await put_part(client, URL, PART, read)
    assert diary == ["begun", "closed"]


async def test_an_error_of_the_spool_passes_through(connect: Any) -> None:
    """What reading the local file raises is not taken for trouble with Figshare."""

    async def broken() -> AsyncIterator[bytes]:
        yield DATA[:10]
        raise OSError(5, "spool")

    async with connect([200]) as (client, _):
        with pytest.raises(OSError, match="spool"):
            await put_part(client, URL, PART, broken)


@pytest.mark.parametrize(
    "trouble", [httpx.Response(500), httpx.Response(504), httpx.Response(429), httpx.ConnectError("x")]
)
async def test_a_part_is_sent_again_from_the_beginning(
    connect: Any, autojump_clock: MockClock, trouble: Any
) -> None:
    """Quirks U8; body() is called anew for every try."""
    read, diary = body([DATA])
    async with connect([trouble, 200]) as (client, server):
        await put_part(client, URL, PART, read)
    assert [request.method for request in server.requests] == ["PUT", "PUT"]
    assert server.requests[-1].content == DATA
    assert diary.count("begun") == 2


@pytest.mark.parametrize(
    "trouble", [httpx.Response(409), httpx.ReadError("reset"), httpx.ReadTimeout("slow")]
)
async def test_a_part_that_is_there_already_is_not_sent_again(connect: Any, trouble: Any) -> None:
    """409, or a lost answer: look at the part; COMPLETE is success (quirks U6)."""
    read, diary = body([DATA])
    async with connect([trouble, part_json("COMPLETE")]) as (client, server):
        await put_part(client, URL, PART, read)
    assert [request.method for request in server.requests] == ["PUT", "GET"]
    assert diary.count("begun") == 1


async def test_a_locked_part_is_waited_for(connect: Any, autojump_clock: MockClock) -> None:
    """Another request holds the lock: again, then Conflict."""
    read, _ = body([DATA])
    pending = part_json("PENDING", locked=True)
    async with connect([409, pending, 409, httpx.Response(500), 200]) as (client, server):
        await put_part(client, URL, PART, read)
    assert [request.method for request in server.requests] == ["PUT", "GET", "PUT", "GET", "PUT"]

    def locked(request: httpx.Request) -> Any:
        return httpx.Response(409) if request.method == "PUT" else httpx.Response(200, json=pending)

    async with connect(locked) as (client, _):
        with pytest.raises(errors.Conflict):
            await put_part(client, URL, PART, read)


async def test_a_part_that_is_refused_though_nobody_holds_it_is_reset(
    connect: Any, autojump_clock: MockClock
) -> None:
    """409, PENDING, not locked: DELETE the part, send it again (quirks U6), whatever the DELETE says."""
    for reset in (200, 409, httpx.ReadError("reset")):
        read, diary = body([DATA])
        async with connect([409, part_json("PENDING"), reset, 200]) as (client, server):
            await put_part(client, URL, PART, read)
        assert [request.method for request in server.requests] == ["PUT", "GET", "DELETE", "PUT"]
        assert diary.count("begun") == 2


async def test_a_part_from_a_file(connect: Any, autojump_clock: MockClock, tmp_path: Path) -> None:
    """Its own bytes of the whole file; progress starts anew with every try; sent bytes are counted."""
    whole = tmp_path / "whole"
    whole.write_bytes(b"x" * 100 + DATA + b"x" * 100)
    told: list[int] = []
    async with connect([503, 200]) as (client, server):
        await put_part(client, URL, PART, whole, told.append)
        assert client.statistics().bytes_up == 100
    assert [request.content for request in server.requests] == [DATA, DATA]
    assert server.requests[0].headers["content-length"] == "50"
    assert told == [0, 50, 0, 50, 50]


async def test_a_file_that_is_too_short_or_gone(connect: Any, tmp_path: Path) -> None:
    """OSError, not trouble with Figshare."""
    whole = tmp_path / "whole"
    async with connect([200]) as (client, _):
        with pytest.raises(FileNotFoundError):
            await put_part(client, URL, PART, whole)
        whole.write_bytes(b"x" * 149)
        with pytest.raises(OSError, match="ends at 149, 150 expected"):
            await put_part(client, URL, PART, whole)


@pytest.mark.parametrize(
    ("status", "kind"), [(404, errors.NotFound), (400, errors.Invalid), (413, errors.QuotaExceeded)]
)
async def test_final_refusals_of_a_part(connect: Any, status: int, kind: type[errors.RemoteError]) -> None:
    """Told at once."""
    read, _ = body([DATA])
    async with connect([status]) as (client, server):
        with pytest.raises(kind):
            await put_part(client, URL, PART, read)
    assert len(server.requests) == 1


async def test_reset_of_a_part(connect: Any, autojump_clock: MockClock) -> None:
    """DELETE of the part; a completed upload stays completed."""
    async with connect([503, 200]) as (client, server):
        await reset_part(client, URL, 3)
    assert server.asked == ["DELETE fup.test/upload/0123456789abcdef/3"] * 2
    async with connect([409]) as (client, _):
        with pytest.raises(errors.Conflict):
            await reset_part(client, URL, 3)


@pytest.mark.parametrize(
    ("api", "url", "kind"),
    [
        ("https://api.test/v2", "http://fup.test/upload/x", errors.BadAnswer),
        ("https://api.test/v2", "http://127.0.0.1/upload/x", errors.BadAnswer),
        ("https://api.test/v2", "ftp://fup.test/upload/x", errors.BadAnswer),
        ("https://api.test/v2", "upload/x", errors.BadAnswer),
        ("https://api.test/v2", "", errors.Conflict),
        ("http://127.0.0.1:1/v2", "", errors.Conflict),
    ],
)
async def test_where_nothing_is_sent(
    connect: Any, api: str, url: str, kind: type[errors.RemoteError]
) -> None:
    """Content goes over https only, unless the API itself is plain http; "" means completed (quirks U13)."""
    read, _ = body([DATA])
    async with connect([200], api=api) as (client, server):
        for call in (get_upload(client, url), put_part(client, url, PART, read), reset_part(client, url, 3)):
            with pytest.raises(kind):
                await call
    assert server.requests == []


async def test_the_sandbox_is_plain_http(connect: Any) -> None:
    """On loopback, uploader included; and the token is not sent there either, same origin or not."""
    read, _ = body([DATA])
    async with connect([200], api="http://127.0.0.1:1/v2") as (client, server):
        await put_part(client, "http://127.0.0.1:1/upload/x/", PART, read)
    assert server.requests[0].url.path == "/upload/x/3"
    assert "authorization" not in server.requests[0].headers


async def test_the_upload_url_is_in_no_log_and_no_error(
    connect: Any, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever has it can write the file."""
    caplog.set_level(logging.DEBUG)
    read, _ = body([DATA])
    answer = httpx.Response(404, text="unknown upload 0123456789abcdef")
    async with connect([answer]) as (client, _):
        for call in (get_upload(client, URL), put_part(client, URL, PART, read)):
            with pytest.raises(errors.NotFound) as caught:
                await call
            assert "0123456789abcdef" not in str(caught.value)
    assert "part 3: 404" in caplog.text
    assert "0123456789abcdef" not in caplog.text


async def test_cancelled_while_a_part_is_sent(connect: Any) -> None:
    """Nothing in flight, and the body is closed."""
    read, diary = body([DATA])

    async def hang(request: httpx.Request) -> httpx.Response:
        await trio.sleep_forever()
        raise AssertionError

    async with connect([hang]) as (client, _):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(put_part, client, URL, PART, read)
            await wait_all_tasks_blocked()
            assert client.statistics().in_flight == 1
            nursery.cancel_scope.cancel()
        assert client.statistics().in_flight == 0
    assert diary == ["begun", "closed"]


async def test_an_upload_that_makes_no_sense(connect: Any, autojump_clock: MockClock) -> None:
    """Parts without offsets: an error, not an upload of nothing."""
    async with connect([{"parts": [{"partNo": 1}]}]) as (client, _):
        with pytest.raises(errors.BadAnswer):
            await get_upload(client, URL)
