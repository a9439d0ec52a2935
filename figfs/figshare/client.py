"""Requests to the API: token, pacing, retry, error translation. The modules beside it say which requests.

Two layers. ``Client.exchange`` is one request and one answer to any host (API, uploader, storage), with
nothing but the translation of httpx's errors. ``Client.call`` is a request to the API: paced, with the token,
repeated as ``retry.py`` says, its answer read. ``persist`` is the loop of repeating, which uploads and
downloads use as well.

The token goes to the API's own origin (scheme, host and port), nowhere else, and only in a header.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import random
import re
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from typing import Any, TypeVar

import httpx
import msgspec
import trio

import figfs
from figfs.errors import (
    BadAnswer,
    ConfigurationError,
    RemoteError,
    TooSlow,
    Unauthorized,
    UnknownOutcome,
    Unreachable,
)
from figfs.figshare import records
from figfs.figshare.pacing import Pacer, Priority
from figfs.figshare.records import Id
from figfs.figshare.refusals import refusal
from figfs.figshare.retry import (
    Failure,
    Outcome,
    Verdict,
    classify,
    may_be_done,
    retry_after_seconds,
    wait_time,
)
from figfs.settings import Token

log = logging.getLogger(__name__)

USER_AGENT = f"figfs/{figfs.__version__} (Linux; pyfuse3)"

#: Seconds. A page of 1000 articles takes Figshare several; more than this is a connection that has died.
CONNECT_TIMEOUT = 10.0
SILENCE_TIMEOUT = 20.0  #: without a byte
TRY_TIMEOUT = 60.0  #: for one try of an API request, from its first byte to its last

PATIENCE = 25.0  #: seconds from the first failure, after which no further try begins
LONGEST_PAUSE = 60.0  #: seconds for which one 429 holds up all API requests
LARGEST_ANSWER = 64 << 20  #: bytes; a page of 1000 articles has about two million
CLOSE_TIMEOUT = 5.0  #: seconds for closing a connection, when nothing may interrupt it

T = TypeVar("T")


class Failed(Exception):
    """One try failed: why, the error to raise when no further one helps, what the server asks to wait."""

    def __init__(self, outcome: Outcome, error: RemoteError, *, retry_after: float | None = None) -> None:
        super().__init__(str(error))
        self.outcome = outcome
        self.error = error
        self.retry_after = retry_after


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer of the API, its body read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Parsed body; raises ``BadAnswer`` if it is empty or not JSON."""
        return records.decode(self.body)


@dataclasses.dataclass(frozen=True, slots=True)
class ClientStatistics:
    """Since the client was opened. Bytes are those of bodies."""

    api_requests: int
    other_requests: int  #: downloads and the uploader service
    retries: int
    bytes_down: int
    bytes_up: int
    in_flight: int
    waiting: int  #: API requests that wait for the pacing


@dataclasses.dataclass(slots=True)
class _Shared:
    """What a client and its background view have in common."""

    api: str
    http: httpx.AsyncClient
    pacer: Pacer
    token: Token | None
    api_requests: int = 0
    requests: int = 0
    retries: int = 0
    bytes_down: int = 0
    bytes_up: int = 0
    in_flight: int = 0


class Client:
    """A client for one API and one account; made by ``open_client``."""

    def __init__(self, shared: _Shared, priority: Priority = Priority.INTERACTIVE) -> None:
        self._shared = shared
        self._priority = priority

    def __repr__(self) -> str:
        return f"<Client {self.api} {self._priority.name.lower()} in_flight={self._shared.in_flight}>"

    @property
    def api(self) -> str:
        """The API's base URL, without a slash at the end."""
        return self._shared.api

    @property
    def token(self) -> Token | None:
        """The token of every request from now on; set it after a new login."""
        return self._shared.token

    @token.setter
    def token(self, token: Token | None) -> None:
        self._shared.token = _checked(token)

    def background(self) -> Client:
        """The same client for work that nobody waits for: its API requests go after the interactive ones."""
        return Client(self._shared, Priority.BACKGROUND)

    def statistics(self) -> ClientStatistics:
        shared = self._shared
        return ClientStatistics(
            api_requests=shared.api_requests,
            other_requests=shared.requests - shared.api_requests,
            retries=shared.retries,
            bytes_down=shared.bytes_down,
            bytes_up=shared.bytes_up,
            in_flight=shared.in_flight,
            waiting=shared.pacer.waiting,
        )

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: object = None,
        read: Callable[[Answer], T],
        read_only: bool = False,
    ) -> T:
        """Send a request to the API until it is answered, and return ``read(answer)``.

        ``path`` begins with a slash, its ids quoted by ``segment``. ``body``: sent as JSON unless None.
        ``read`` may raise ``BadAnswer``. ``read_only``: a POST that changes nothing and may be repeated.

        Raises the ``RemoteError`` that the last try ended in: after ``retry.TRIES`` tries or ``PATIENCE``
        seconds, or as soon as the next try would come after the deadline of the caller. A POST whose answer
        was lost raises ``UnknownOutcome``. A DELETE that finds nothing after a try that may have worked has
        worked. When cancelled, nothing is left in flight; whether a change was carried out is then unknown.
        """
        what = f"{method} {path}"
        content = None if body is None else msgspec.json.encode(body)
        maybe_done = False

        async def once() -> T:
            nonlocal maybe_done
            await self._shared.pacer.acquire(self._priority)
            try:
                return read(
                    await self._ask(method, self.api + path, what=what, params=params, content=content)
                )
            except BadAnswer as bad:
                failed = Failed(Failure.GARBLED, BadAnswer(f"{what}: {bad}"))
            except Failed as exc:
                failed = exc
            if failed.outcome == 404 and method == "DELETE" and maybe_done:
                return read(Answer(204, {}, b""))
            if failed.outcome == 429:
                self._shared.pacer.pause(min(failed.retry_after or 1.0, LONGEST_PAUSE))
            maybe_done = maybe_done or may_be_done(failed.outcome)
            raise failed

        return await self.persist(method, once, read_only=read_only)

    async def persist(self, method: str, once: Callable[[], Awaitable[T]], *, read_only: bool = False) -> T:
        """``await once()`` until it returns or raises other than ``Failed``, as ``retry.classify`` says.

        Raises the error of the last try, or ``UnknownOutcome``; see ``call``.
        """
        give_up_at = trio.current_effective_deadline()
        for tries in itertools.count(1):
            try:
                return await once()
            except Failed as exc:
                failed = exc
            asked = failed.retry_after
            verdict = classify(
                method, failed.outcome, retry_after=asked is not None, read_only=read_only, tries=tries
            )
            now = trio.current_time()
            if tries == 1:
                give_up_at = min(give_up_at, now + PATIENCE)
            wait = wait_time(tries, retry_after=asked, jitter=random.random())
            if verdict is Verdict.UNKNOWN_OUTCOME:
                raise UnknownOutcome(f"answer lost: {failed.error}", status=failed.error.status) from failed
            if verdict is Verdict.GIVE_UP or now + wait >= give_up_at:
                raise failed.error from failed.__cause__
            self.count_retry()
            log.debug("%s; again in %.1f s", failed.error, wait)
            await trio.sleep(wait)
        raise AssertionError("unreachable")

    @contextlib.asynccontextmanager
    async def exchange(
        self,
        method: str,
        url: str,
        *,
        what: str,
        authorized: bool = False,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str | int] | None = None,
        content: bytes | None = None,
        stream: httpx.AsyncByteStream | None = None,
        head_timeout: float = TRY_TIMEOUT,
    ) -> AsyncIterator[httpx.Response]:
        """Send one request, yield the answer with its body unread, whatever its status; close it at the end.

        ``what``: the request in a few words for log and errors; the URL appears in neither, since the URLs of
        uploads and of storage hold secrets. ``authorized``: send the token, *if* ``url`` is of the API's
        origin. ``head_timeout``: seconds until the head of the answer is there. Redirects are not followed.

        Raises ``Failed`` where there is no answer, also from the reading of the body inside the ``async
        with``.
        """
        shared = self._shared
        shared.requests += 1
        shared.in_flight += 1
        started = trio.current_time()
        try:
            with _translated(what):
                request = shared.http.build_request(
                    method, url, params=params, headers=dict(headers or {}), content=content
                )
                if stream is not None:
                    request = httpx.Request(
                        method,
                        request.url,
                        headers=request.headers,
                        stream=stream,
                        extensions=request.extensions,
                    )
                if authorized and shared.token is not None and origin(url) == origin(shared.api):
                    request.headers["Authorization"] = f"token {shared.token.reveal()}"
                with trio.move_on_after(head_timeout) as scope:
                    response = await shared.http.send(request, stream=True, follow_redirects=False)
                if scope.cancelled_caught:
                    raise Failed(Failure.LOST, TooSlow(f"{what}: no answer within {head_timeout:.0f} s"))
                shared.bytes_up += len(content or b"")
            log.debug("%s: %d, %.0f ms", what, response.status_code, (trio.current_time() - started) * 1000)
            try:
                with _translated(what):
                    yield response
            finally:
                # Closing may have to await even when this task is cancelled, else the connection is lost to
                # the pool.
                with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_TIMEOUT):
                    await response.aclose()
        finally:
            shared.in_flight -= 1

    async def read_body(self, response: httpx.Response, *, what: str) -> bytes:
        """All of a small answer, decoded. Raises ``Failed`` if it is too large or ends early."""
        body = bytearray()

        def take(chunk: bytes) -> bool:
            body.extend(chunk)
            return len(body) <= LARGEST_ANSWER

        await self.feed(response.aiter_bytes(), take)
        if len(body) > LARGEST_ANSWER:
            raise Failed(Failure.GARBLED, BadAnswer(f"{what}: an answer of more than {LARGEST_ANSWER} bytes"))
        return bytes(body)

    async def feed(self, chunks: AsyncIterator[bytes], take: Callable[[bytes], bool]) -> None:
        """Call ``take`` with one chunk of a body after the other, until the body ends or it returns False."""
        # Leaving the loop early would leave httpx's generators, five deep, to the garbage collector, which
        # closes them at some other time and with a warning. Cancelled at their next read they unwind here and
        # now.
        with trio.CancelScope() as scope:
            async for chunk in chunks:
                self._shared.bytes_down += len(chunk)
                if not scope.cancel_called and not take(chunk):
                    scope.cancel()

    async def refused(self, response: httpx.Response, *, what: str, hide: str = "") -> Failed:
        """The failure that an answer with an error status means; reads its body.

        ``hide``: a path whose parts are secret; they and the token are blotted out of what the server says.
        """
        try:
            body = await self.read_body(response, what=what)
        except (Failed, httpx.HTTPError):  # the status alone will do
            body = b""
        secrets = [part for part in hide.split("/") if len(part) >= 8]
        if self._shared.token is not None:
            secrets.append(self._shared.token.reveal())
        error = refusal(response.status_code, body, what=what, secrets=secrets)
        wait = retry_after_seconds(response.headers.get("retry-after"), date=response.headers.get("date"))
        return Failed(response.status_code, error, retry_after=wait)

    def count_retry(self) -> None:
        """For ``statistics()``."""
        self._shared.retries += 1

    def count_up(self, size: int) -> None:
        """For ``statistics()``: ``size`` bytes of a streamed body have been sent."""
        self._shared.bytes_up += size

    async def _ask(
        self,
        method: str,
        url: str,
        *,
        what: str,
        params: Mapping[str, str | int] | None,
        content: bytes | None,
    ) -> Answer:
        """One try of an API request. Raises ``Failed``."""
        headers = {"Accept": "application/json"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        self._shared.api_requests += 1
        with trio.move_on_after(TRY_TIMEOUT):
            async with self.exchange(
                method, url, what=what, authorized=True, headers=headers, params=params, content=content
            ) as response:
                if (
                    "x-amzn-waf-action" in response.headers
                ):  # quirks D1: a 202 that means "prove you are human"
                    raise Failed(
                        Failure.GARBLED, BadAnswer(f"{what}: answered by a bot challenge, not by Figshare")
                    )
                if not 200 <= response.status_code < 300:
                    raise await self.refused(response, what=what)
                body = await self.read_body(response, what=what)
                return Answer(response.status_code, response.headers, body)
        raise Failed(Failure.LOST, TooSlow(f"{what}: no whole answer within {TRY_TIMEOUT:.0f} s"))


@contextlib.asynccontextmanager
async def open_client(
    *,
    api: str,
    token: Token | None,
    rate: float = 1.0,
    burst: int = 30,
    user_agent: str | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> AsyncIterator[Client]:
    """A ``Client`` of the API at ``api`` (base URL, for example ``https://api.figshare.com/v2``).

    ``rate``, ``burst``: API requests a second and at once; rate 0: no pacing. ``transport``: for tests,
    instead of the network. Raises ``ConfigurationError`` if ``api`` is no such URL, ``Unauthorized`` if the
    token cannot be one. No request is sent. On leaving, all connections are closed.
    """
    api = api.rstrip("/")
    scheme, host, _port = origin(api)
    if scheme not in ("http", "https") or not host or set("?#") & set(api):
        raise ConfigurationError(
            f"not the URL of an API: {api!r} (expected for example https://api.figshare.com/v2)"
        )
    if "@" in urllib.parse.urlsplit(api).netloc:
        raise ConfigurationError("the URL of the API must not hold a user name or password")
    if scheme == "http" and not is_loopback(api):
        log.warning("the API at %s is not https: the token goes over the network in clear text", api)
    # httpx logs whole URLs at INFO (presigned ones too), httpcore headers at DEBUG (the token too).
    for name in ("httpx", "httpcore"):
        library = logging.getLogger(name)
        library.setLevel(max(library.level, logging.WARNING))
    async with httpx.AsyncClient(
        headers={"User-Agent": user_agent or USER_AGENT},
        timeout=httpx.Timeout(SILENCE_TIMEOUT, connect=CONNECT_TIMEOUT, pool=None),
        limits=httpx.Limits(max_connections=100, max_keepalive_connections=32, keepalive_expiry=30),
        follow_redirects=False,
        # A proxy from the environment is for the world outside; and would see the token in clear text.
        mounts={f"all://{host}": None for host in ("127.0.0.1", "localhost", "[::1]")}
        if not transport
        else None,
        transport=transport,
    ) as http:
        yield Client(_Shared(api=api, http=http, pacer=Pacer(rate, burst), token=_checked(token)))


def segment(id_: Id) -> str:
    """An id as a segment of a path."""
    return urllib.parse.quote(str(id_), safe="")


def origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port of a URL: who gets what is sent there. A URL that has no origin equals none."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return ("", url, None)
    return (parts.scheme, (parts.hostname or "").lower(), port)


def is_loopback(url: str) -> bool:
    host = origin(url)[1]
    return host in ("localhost", "::1") or re.fullmatch(r"127\.\d+\.\d+\.\d+", host) is not None


def nothing(answer: Answer) -> None:
    """The reader for requests whose answer says no more than "done" (204, 205, 202 with any body)."""


def _checked(token: Token | None) -> Token | None:
    """Refuse what cannot go into a header, before a library quotes it in an exception."""
    if token is not None and not re.fullmatch(r"[!-~]+", token.reveal()):
        raise Unauthorized("the token is empty or holds characters that no token has (spaces, for example)")
    return token


@contextlib.contextmanager
def _translated(what: str) -> Iterator[None]:
    """httpx's errors as ``Failed``. "What failed" is httpx's own text, which holds no URL and no header."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError) as exc:
        raise Failed(Failure.NOT_SENT, Unreachable(f"{what}: no connection ({_reason(exc)})")) from exc
    except httpx.TimeoutException as exc:
        raise Failed(Failure.LOST, TooSlow(f"{what}: no answer in time ({_reason(exc)})")) from exc
    except (httpx.NetworkError, httpx.RemoteProtocolError) as exc:
        raise Failed(Failure.LOST, Unreachable(f"{what}: connection lost ({_reason(exc)})")) from exc
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise Failed(Failure.GARBLED, BadAnswer(f"{what}: {_reason(exc)}")) from exc


def _reason(exc: Exception) -> str:
    return str(exc) if str(exc) and not isinstance(exc, httpx.InvalidURL) else type(exc).__name__
