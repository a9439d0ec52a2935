from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from figfs import errors
from figfs.figshare import accounts, articles
from figfs.figshare.client import Client, nothing, open_client
from figfs.figshare.downloads import fetch_range
from figfs.figshare.pacing import Priority
from figfs.figshare.reach import FORGET_AFTER, PROBE_EVERY, Reach
from figfs.figshare.records import File
from figfs.figshare.retry import Failure, Verdict, classify, may_be_done
from figfs.settings import Token


def ok(answer: Any) -> Any:
    return answer.json()


async def hang(request: httpx.Request) -> httpx.Response:
    await trio.sleep_forever()
    raise AssertionError


async def test_the_token_goes_into_a_header(connect: Any, api: str, secret: str) -> None:
    """Authorization: token …; an honest User-Agent; nothing secret in the URL."""
    async with connect({"id": 7, "email": "a@b"}) as (client, server):
        account = await accounts.get_account(client)
    assert account.id == 7
    (request,) = server.requests
    assert request.headers["authorization"] == f"token {secret}"
    assert request.headers["user-agent"].startswith("figfs/")
    assert str(request.url) == f"{api}/account"


async def test_no_token_no_header(connect: Any) -> None:
    """Public endpoints work without an account."""
    async with connect([{}], token=None) as (client, server):
        await client.call("GET", "/articles/1", read=ok)
    assert "authorization" not in server.requests[0].headers


async def test_a_new_token_is_used_from_then_on(connect: Any) -> None:
    """A new login mends a mount without a restart; the background view has it too."""
    async with connect([{}]) as (client, server):
        background = client.background()
        client.token = Token("another")
        await background.call("GET", "/x", read=ok)
    assert server.requests[0].headers["authorization"] == "token another"


@pytest.mark.parametrize("token", ["", "with space", "new\nline", "t\u00f6ken", "nul\x00"])
async def test_what_cannot_be_a_token_is_refused_without_quoting_it(connect: Any, token: str) -> None:
    """Before a library puts it into an exception."""
    with pytest.raises(errors.Unauthorized) as caught:
        async with connect([{}], token=Token(token)):
            pass
    assert not token or token not in str(caught.value)
    async with connect([{}]) as (client, _):
        with pytest.raises(errors.Unauthorized):
            client.token = Token(token)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.figshare.com",
        "ftp://x/v2",
        "https://",
        "https://u:p@x/v2",
        "https://x/v2?a=b",
        "https://[x/v2",
    ],
)
async def test_what_is_no_api_is_a_configuration_error(url: str) -> None:
    """One line that says what to do, before any request."""
    with pytest.raises(errors.ConfigurationError):
        async with open_client(api=url, token=None):
            pass


@pytest.mark.parametrize(
    ("status", "kind", "requests"),
    [
        (400, errors.Invalid, 1),
        (401, errors.Unauthorized, 1),
        (403, errors.Forbidden, 1),
        (404, errors.NotFound, 1),
        (409, errors.Conflict, 5),
        (413, errors.QuotaExceeded, 1),
        (422, errors.Invalid, 1),
        (429, errors.RateLimited, 5),
        (500, errors.ServerError, 5),
        (501, errors.ServerError, 1),
        (503, errors.ServerError, 5),
        (302, errors.BadAnswer, 1),
        (304, errors.BadAnswer, 1),
    ],
)
async def test_errors_of_a_get(
    connect: Any, autojump_clock: MockClock, status: int, kind: type[errors.RemoteError], requests: int
) -> None:
    """Final ones at once, temporary ones after five tries within half a minute."""
    start = trio.current_time()
    async with connect([httpx.Response(status, json={"message": "no"})]) as (client, server):
        with pytest.raises(kind) as caught:
            await client.call("GET", "/x", read=ok)
    assert len(server.requests) == requests
    assert caught.value.status == status
    assert trio.current_time() - start <= 30


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.ConnectError("refused"), errors.Unreachable),
        (httpx.ConnectTimeout("no route"), errors.Unreachable),
        (httpx.ReadError("reset"), errors.Unreachable),
        (httpx.RemoteProtocolError("cut"), errors.Unreachable),
        (httpx.ReadTimeout("slow"), errors.TooSlow),
        (httpx.WriteTimeout("slow"), errors.TooSlow),
        (httpx.DecodingError("gzip"), errors.BadAnswer),
        (httpx.Response(200, text="<html>login</html>"), errors.BadAnswer),
        (httpx.Response(200), errors.BadAnswer),
        (httpx.Response(202, headers={"x-amzn-waf-action": "challenge"}), errors.BadAnswer),
    ],
)
async def test_trouble_is_repeated_and_then_told(
    connect: Any, autojump_clock: MockClock, answer: Any, kind: type[errors.RemoteError]
) -> None:
    """Connections, timeouts, answers that make no sense: again, and then the error that fits, or it works."""
    async with connect([answer]) as (client, server):
        with pytest.raises(kind):
            await client.call("GET", "/x", read=ok)
        assert len(server.requests) > 1
        assert client.statistics().retries == len(server.requests) - 1
    async with connect([answer, {"fine": True}]) as (client, server):
        assert await client.call("GET", "/x", read=ok) == {"fine": True}
        assert len(server.requests) == 2


async def test_a_hanging_server_is_given_up(connect: Any, autojump_clock: MockClock) -> None:
    """A server that accepts and says nothing is TooSlow after a bounded time, whoever calls."""
    async with connect([hang]) as (client, _):
        with trio.fail_after(200), pytest.raises(errors.TooSlow):
            await client.call("GET", "/x", read=ok)


async def test_the_callers_deadline_passes_through(connect: Any, autojump_clock: MockClock) -> None:
    """trio.TooSlowError of the caller is not translated, and leaves nothing in flight."""
    async with connect([hang]) as (client, _):
        with pytest.raises(trio.TooSlowError), trio.fail_after(3):
            await client.call("GET", "/x", read=ok)
        assert client.statistics().in_flight == 0


async def test_no_wait_past_the_callers_deadline(connect: Any, autojump_clock: MockClock) -> None:
    """When the next try would come too late, the caller hears what is wrong now, not "too slow" later."""
    start = trio.current_time()
    async with connect([httpx.Response(503, headers={"retry-after": "20"})]) as (client, _):
        with trio.fail_after(10), pytest.raises(errors.ServerError):
            await client.call("GET", "/x", read=ok)
    assert trio.current_time() == start


async def test_cancellation_leaves_nothing_in_flight(connect: Any) -> None:
    """Cancelled in the middle of a request, of any method."""
    async with connect([hang]) as (client, _):
        for method in ("GET", "POST", "DELETE"):
            async with trio.open_nursery() as nursery:

                async def call(method: str = method) -> None:
                    await client.call(method, "/x", read=ok)

                nursery.start_soon(call)
                await wait_all_tasks_blocked()
                assert client.statistics().in_flight == 1
                nursery.cancel_scope.cancel()
            assert client.statistics().in_flight == 0


async def test_retry_after_is_honoured_and_holds_up_the_others(
    connect: Any, autojump_clock: MockClock
) -> None:
    """A 429 with Retry-After: this request waits that long, and so does every other to the API."""
    answers = [httpx.Response(429, headers={"retry-after": "7"}), {"fine": 1}, {"fine": 2}]
    start = trio.current_time()
    times: list[float] = []
    async with connect(answers) as (client, server):

        async def ask() -> None:
            await client.call("GET", "/x", read=ok)
            times.append(trio.current_time() - start)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await wait_all_tasks_blocked()
            nursery.start_soon(ask)
    assert len(server.requests) == 3
    assert all(7 <= time <= 8 for time in times)


async def test_a_retry_after_beyond_patience_is_an_error_now(connect: Any, autojump_clock: MockClock) -> None:
    """ "Come back in an hour" is RateLimited at once, and other requests are held up for a minute at most."""
    start = trio.current_time()
    async with connect([httpx.Response(429, headers={"retry-after": "3600"}), {}]) as (client, _):
        with pytest.raises(errors.RateLimited):
            await client.call("GET", "/x", read=ok)
        assert trio.current_time() == start
        await client.call("GET", "/y", read=ok)
        assert trio.current_time() - start <= 61


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("cut"),
        httpx.ReadTimeout("slow"),
        httpx.Response(500),
        httpx.Response(502),
        httpx.Response(503),
        httpx.Response(504, text="<html>Gateway Time-out</html>"),
        httpx.Response(201, text="not json"),
        httpx.Response(202, headers={"x-amzn-waf-action": "challenge"}),
    ],
)
async def test_a_post_whose_answer_is_lost_is_not_repeated(
    connect: Any, autojump_clock: MockClock, answer: Any
) -> None:
    """It may have been carried out: UnknownOutcome after one request, never a second one."""
    async with connect([answer]) as (client, server):
        with pytest.raises(errors.UnknownOutcome):
            await client.call("POST", "/x", body={"title": "t"}, read=ok)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        httpx.ConnectError("refused"),
        httpx.Response(429, headers={"retry-after": "1"}),
        httpx.Response(503, headers={"retry-after": "1"}),
        httpx.Response(409),
    ],
)
async def test_a_post_that_was_surely_not_carried_out_is_repeated(
    connect: Any, autojump_clock: MockClock, answer: Any
) -> None:
    """No connection, or the server's own word."""
    async with connect([answer, httpx.Response(201, json={"id": 1})]) as (client, server):
        assert await client.call("POST", "/x", body={"title": "t"}, read=ok) == {"id": 1}
        assert [request.content for request in server.requests] == [b'{"title":"t"}'] * 2


async def test_a_hanging_post_is_an_unknown_outcome(connect: Any, autojump_clock: MockClock) -> None:
    """The deadline of one try ends it; nobody knows what the server did."""
    async with connect([hang]) as (client, server):
        with pytest.raises(errors.UnknownOutcome):
            await client.call("POST", "/x", read=nothing)
        assert len(server.requests) == 1


@pytest.mark.parametrize("first", [httpx.ReadError("reset"), httpx.Response(504)])
async def test_a_repeated_delete_that_finds_nothing_has_worked(
    connect: Any, autojump_clock: MockClock, first: Any
) -> None:
    """The answer to the first was lost: the 404 of the second is its success."""
    async with connect([first, httpx.Response(404)]) as (client, _):
        await articles.delete(client, 5)


@pytest.mark.parametrize("first", [[], [httpx.ConnectError("refused")], [httpx.Response(429)]])
async def test_a_delete_that_never_arrived_and_finds_nothing_has_not(
    connect: Any, autojump_clock: MockClock, first: list[Any]
) -> None:
    """Where no earlier try can have worked, 404 is 404."""
    async with connect([*first, httpx.Response(404)]) as (client, _):
        with pytest.raises(errors.NotFound):
            await articles.delete(client, 5)


async def test_redirects_of_the_api_are_not_followed(connect: Any) -> None:
    """A redirect would take the token elsewhere, or a POST along as a GET."""
    answer = httpx.Response(302, headers={"location": "https://elsewhere.test/"})
    async with connect([answer]) as (client, server):
        with pytest.raises(errors.BadAnswer):
            await client.call("GET", "/x", read=ok)
    assert server.asked == ["GET api.test/v2/x"]


async def test_an_endless_answer_is_cut_off(
    connect: Any, chunks: Any, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory is bounded, whatever is sent."""
    monkeypatch.setattr("figfs.figshare.wire.LARGEST_ANSWER", 1000)
    answer = lambda request: httpx.Response(200, stream=chunks([b"x" * 100] * 50))  # noqa: E731
    async with connect([answer]) as (client, _):
        with pytest.raises(errors.BadAnswer, match="more than 1000 bytes"):
            await client.call("GET", "/x", read=ok)


async def test_pacing_counts_tries_and_lets_interactive_go_first(
    connect: Any, autojump_clock: MockClock
) -> None:
    """One request a second after the burst; background requests wait for interactive ones."""
    order: list[str] = []
    async with connect([{}], rate=1, burst=1) as (client, server):
        background = client.background()
        assert background._urgency.priority is Priority.BACKGROUND

        async def ask(client: Client, path: str) -> None:
            await client.call("GET", path, read=ok)
            order.append(path)

        await ask(client, "/first")
        start = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, background, "/background")
            await wait_all_tasks_blocked()
            nursery.start_soon(ask, client, "/interactive")
            await wait_all_tasks_blocked()
            assert client.statistics().waiting == 2
        assert order == ["/first", "/interactive", "/background"]
        assert trio.current_time() - start == pytest.approx(2)
        assert client.statistics().api_requests == len(server.requests) == 3


async def test_statistics_count_bytes_and_requests(connect: Any, autojump_clock: MockClock) -> None:
    """What `figfs status` shows."""
    async with connect([503, [1, 2]]) as (client, _):
        await client.call("PUT", "/x", body={"a": 1}, read=nothing)
        numbers = client.statistics()
    assert (numbers.api_requests, numbers.other_requests, numbers.retries) == (2, 0, 1)
    assert (numbers.bytes_up, numbers.bytes_down) == (2 * len('{"a":1}'), len("[1,2]"))
    assert (numbers.in_flight, numbers.waiting) == (0, 0)


async def test_the_token_is_in_no_log_no_repr_and_no_error(
    connect: Any, secret: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG for every logger, and even when the server repeats the token."""
    caplog.set_level(logging.DEBUG)
    repeated = httpx.Response(401, json={"message": f"bad token {secret}"})
    texts: list[str] = []
    async with connect([httpx.ReadError("reset"), httpx.Response(503), repeated]) as (client, _):
        with pytest.raises(errors.Unauthorized) as caught:
            await client.call("GET", "/account", params={"page": 1}, read=ok)
        error: BaseException | None = caught.value
        while error is not None:
            texts.append(f"{error} {error!r}")
            error = error.__cause__ or error.__context__
        texts += [repr(client), repr(client.statistics()), repr(client.token), str(client.token)]
    assert "GET /account" in caplog.text
    for text in [*texts, caplog.text]:
        assert secret not in text


async def test_one_debug_line_for_each_request(connect: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Method, path, status, time; no query; nothing from httpx."""
    caplog.set_level(logging.DEBUG)
    async with connect([{}]) as (client, _):
        await client.call("GET", "/account/articles", params={"page": 1}, read=ok)
    (line,) = [record.getMessage() for record in caplog.records if record.name != "asyncio"]
    assert line.startswith("GET /account/articles: 200, ")
    assert "page" not in line


@pytest.mark.parametrize("name", ["httpx", "httpcore"])
async def test_the_libraries_do_not_log_urls_and_headers(connect: Any, name: str) -> None:
    """httpx logs presigned URLs at INFO, httpcore headers at DEBUG."""
    async with connect([{}]):
        assert logging.getLogger(name).getEffectiveLevel() >= logging.WARNING


# -- out of reach ------------------------------------------------------------

REFUSED = httpx.ConnectError("refused")
NO_ROUTE = httpx.ConnectError("no route")


async def ask(client: Client, method: str = "GET") -> Any:
    return await client.call(method, "/x", read=ok)


async def seconds(client: Client, method: str = "GET") -> float:
    """How long it takes to hear that nobody is there."""
    start = trio.current_time()
    with pytest.raises(errors.Unreachable):
        await ask(client, method)
    return trio.current_time() - start


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
async def test_the_first_to_find_nobody_hears_it_soon(
    connect: Any, autojump_clock: MockClock, method: str
) -> None:
    """Refused, or no route: a few tries within about three seconds."""
    async with connect([REFUSED]) as (client, server):
        assert 1 < await seconds(client, method) <= 3.1
    assert len(server.requests) == 3


async def test_the_others_hear_it_at_once(connect: Any, autojump_clock: MockClock) -> None:
    """Until the network is back: nothing is sent, whoever asks for whatever; one probe each two seconds."""
    async with connect([REFUSED], rate=1, burst=3) as (client, server):
        await seconds(client)
        sent = len(server.requests)
        start = trio.current_time()
        for method in ("GET", "POST", "PUT", "DELETE"):
            assert await seconds(client.background(), method) == 0  # nor does it wait for its turn
        with pytest.raises(errors.Unreachable):
            await fetch_range(client, File(id=1, name="x", size=10), 0, 10)
        assert trio.current_time() == start
        assert len(server.requests) == sent
        await trio.sleep(60)  # the pacing is not what is tested here
        sent, start = len(server.requests), trio.current_time()
        for _ in range(100):
            assert await seconds(client) == 0
            await trio.sleep(0.1)
        assert 4 <= len(server.requests) - sent <= 6


async def test_any_answer_ends_it(connect: Any, autojump_clock: MockClock) -> None:
    """The first probe that is answered, be it with an error; then everybody is served."""
    away = True

    def handle(request: httpx.Request) -> Any:
        return REFUSED if away else httpx.Response(404, json={})

    async with connect(handle) as (client, _):
        await seconds(client)
        away = False
        assert await seconds(client) == 0
        await trio.sleep(PROBE_EVERY)
        for _ in range(5):
            with pytest.raises(errors.NotFound):
                await ask(client)


async def test_who_is_trying_gives_up_with_the_first(connect: Any, autojump_clock: MockClock) -> None:
    """Ten at once: all know within the time of one."""
    start = trio.current_time()
    async with connect([REFUSED]) as (client, _), trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(seconds, client)
    assert trio.current_time() - start <= 3.1


async def test_one_probe_at_a_time(connect: Any, autojump_clock: MockClock) -> None:
    """It has less time for connecting, and the others do not wait for it."""
    async with connect([REFUSED, REFUSED, REFUSED, hang]) as (client, server):
        await seconds(client)
        await trio.sleep(PROBE_EVERY)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, client)
            await wait_all_tasks_blocked()
            for _ in range(5):
                await trio.sleep(1)
                assert await seconds(client) == 0
            nursery.cancel_scope.cancel()
        assert [r.extensions["timeout"]["connect"] for r in server.requests] == [10, 10, 10, 4]


async def test_a_cancelled_try_says_nothing(connect: Any, autojump_clock: MockClock) -> None:
    """Neither that a server is away nor that it is back, and the next probe goes out."""
    async with connect([hang] * 5 + [REFUSED] * 3 + [hang, {"fine": 1}]) as (client, server):
        for _ in range(5):
            with trio.move_on_after(1):
                await ask(client)
        assert 1 < await seconds(client) <= 3.1
        await trio.sleep(PROBE_EVERY)
        with trio.move_on_after(1):
            await ask(client)
        assert await seconds(client) == 0
        await trio.sleep(PROBE_EVERY)
        assert await ask(client) == {"fine": 1}
    assert len(server.requests) == 10


async def test_a_blip_is_mended_unnoticed(connect: Any, autojump_clock: MockClock) -> None:
    """Once or twice no connection: the call works, and so do all others meanwhile."""
    async with connect([REFUSED, NO_ROUTE, {"fine": 1}]) as (client, _):
        assert await ask(client) == {"fine": 1}
        assert await ask(client) == {"fine": 1}


async def test_another_server_is_another_matter(connect: Any, autojump_clock: MockClock) -> None:
    """The API is away: downloads by the second route work, without waiting for the first."""

    def handle(request: httpx.Request) -> Any:
        if request.url.host == "api.test":
            return REFUSED
        return httpx.Response(206, headers={"content-range": "bytes 0-9/10"}, content=b"0123456789")

    file = File(id=1, name="x", size=10, download_url="https://ndownloader.test/files/1")
    async with connect(handle) as (client, server):
        await seconds(client)
        start, sent = trio.current_time(), len(server.requests)
        for _ in range(5):
            assert await fetch_range(client, file, 0, 10) == b"0123456789"
        assert (trio.current_time(), len(server.requests)) == (start, sent + 5)


@pytest.mark.parametrize("bad", [httpx.ReadError("reset"), httpx.ReadTimeout("slow"), httpx.Response(503)])
async def test_other_trouble_is_not_out_of_reach(connect: Any, autojump_clock: MockClock, bad: Any) -> None:
    """A connection that breaks, an answer that does not come: every call tries for itself."""
    async with connect([bad]) as (client, server):
        for calls in (1, 2):
            with pytest.raises(errors.RemoteError):
                await ask(client)
            assert len(server.requests) == 5 * calls


@given(st.lists(st.tuples(st.floats(0, 100), st.booleans())))
def test_reach(events: list[tuple[float, bool]]) -> None:
    """Never away without three failures in a row, or two far apart; never after an answer."""
    reach, now, failures = Reach(), 0.0, 0
    for pause, answered in events:
        now += pause
        if answered:
            reach.answered()
            failures = 0
        else:
            failures = 1 if pause > FORGET_AFTER else failures + 1
            reach.failed(now)
        assert not reach.refuses(now) or failures >= 2
        assert not reach.refuses(now + PROBE_EVERY)


def test_a_request_that_was_not_even_tried_has_done_nothing() -> None:
    """So a 404 to a later DELETE is a 404."""
    assert not may_be_done(Failure.AWAY)
    assert classify("POST", Failure.AWAY) is Verdict.GIVE_UP


def test_reach_many_at_once() -> None:
    """However many fail at the same moment: that is one moment."""
    reach = Reach()
    for _ in range(50):
        reach.failed(5.0)
    assert not reach.refuses(5.0)
    reach.failed(6.5)
    assert reach.refuses(6.5)
