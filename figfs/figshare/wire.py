"""One request and one answer, to any host: the API, the uploader, storage. Nothing is repeated here.

The token goes to the API's own origin (scheme, host and port), nowhere else, and only in a header. URLs
appear in neither log nor error: those of uploads and of storage are secrets themselves.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import re
import urllib.parse
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import cachetools
import httpx
import trio

from figfs.errors import BadAnswer, RemoteError, TooSlow, Unauthorized, Unreachable
from figfs.figshare.reach import Reach
from figfs.figshare.refusals import refusal
from figfs.figshare.retry import Failure, Outcome, retry_after_seconds
from figfs.settings import Token

log = logging.getLogger(__name__)

#: Seconds. A page of 1000 articles takes Figshare several; more than this is a connection that has died.
CONNECT_TIMEOUT = 10.0
PROBE_TIMEOUT = 4.0  #: for connecting to a server that was out of reach: somebody waits for it
SILENCE_TIMEOUT = 20.0  #: without a byte
TRY_TIMEOUT = 60.0  #: for one try of an API request, from its first byte to its last
CLOSE_TIMEOUT = 5.0  #: for closing a connection, when nothing may interrupt it

TOKENS_HIDDEN = 8  #: the last ones: an answer may be to a request with one from before

LARGEST_ANSWER = 64 << 20  #: bytes; a page of 1000 articles has about two million


#: Called in the loop with a growing number: so many bytes at the start of a buffer are there.
Progress = Callable[[int], None]


class Receive(Protocol):
    """Receives the next bytes of a body into a buffer; see ``Wire.receiving``."""

    async def __call__(
        self, buffer: memoryview, progress: Progress | None = None, *, silence: float = SILENCE_TIMEOUT
    ) -> int: ...


class Failed(Exception):
    """One try failed: why, the error to raise when no further one helps, what the server asks to wait."""

    def __init__(self, outcome: Outcome, error: RemoteError, *, retry_after: float | None = None) -> None:
        super().__init__(str(error))
        self.outcome = outcome
        self.error = error
        self.retry_after = retry_after


class TokenSource(Protocol):
    """Where the next token comes from when one has had its time (``renewing.py``)."""

    @property
    def hopeless(self) -> bool:
        """The token was refused, there was no other, and nothing has changed since."""

    @property
    def trouble(self) -> str:
        """Why that is, and what a person can do; "" unless ``hopeless``."""

    async def ready(self) -> None:
        """A request that needs the token is about to be sent. Returns at once unless it has expired."""

    async def refused(self, token: Token) -> bool:
        """``token`` was answered by 401. Whether there is another now, to try once more with.

        Raises RemoteError where that cannot be known at present.
        """


class Wire:
    """The connections of a client, and what went over them."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        *,
        api: str,
        token: Token | None,
        direct: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """``direct``: the transport that ``http`` would use for every URL (no proxies), to be asked without
        httpx's client in between: its cookies, redirects and merging cost 0.2 of 0.55 ms a request.
        """
        self.api = api  #: the API's base URL, without a slash at the end
        self.requests = 0
        self.api_requests = 0  #: of these, the paced ones
        self.retries = 0
        self.bytes_down = 0  #: of bodies
        self.bytes_up = 0
        self.in_flight = 0
        self._http = http
        self._direct = direct
        self._reach: cachetools.LRUCache[object, Reach] = cachetools.LRUCache(64)
        self._had: collections.deque[str] = collections.deque(maxlen=TOKENS_HIDDEN)
        self.token = token
        self.source: TokenSource | None = None
        self.token_refused = False  #: the last request with a token was answered by 401

    @property
    def token(self) -> Token | None:
        return self._token

    @token.setter
    def token(self, token: Token | None) -> None:
        # Refuse what cannot go into a header, before a library quotes it in an exception.
        if token is not None and not re.fullmatch(r"[!-~]+", token.reveal()):
            raise Unauthorized(
                "the token is empty or holds characters that no token has (spaces, for example)"
            )
        self._token = token
        if token is not None:
            self._had.append(token.reveal())

    def with_token(self, token: Token) -> Wire:
        """The same connections with another token."""
        return Wire(self._http, api=self.api, token=token, direct=self._direct)

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
        new_connection: bool = False,
    ) -> AsyncIterator[httpx.Response]:
        """Send one request, yield the answer with its body unread, whatever its status; close it at the end.

        ``what``: the request in a few words for log and errors; the URL appears in neither, since the URLs of
        uploads and of storage hold secrets. ``authorized``: send the token, *if* ``url`` is of the API's
        origin; where it is refused and there is another by then, the request is sent once more, with that (a
        401 means that it was not carried out; not with a ``stream``). ``head_timeout``: seconds until the
        head of the answer is there. ``new_connection``: use none that was kept. Redirects are not followed.

        Raises ``Failed`` where there is no answer, also from the reading of the body inside the ``async
        with``; at once, with ``Failure.AWAY``, where the server is known to be out of reach. When cancelled
        before the answer, nothing is known about that.
        """
        again: dict[str, Any] = {
            "headers": headers, "params": params, "content": content, "stream": stream,
            "head_timeout": head_timeout, "new_connection": new_connection,
        }  # fmt: skip
        authorized = authorized and origin(url) == origin(self.api)
        source = self.source if authorized and stream is None else None
        if source is not None:
            await source.ready()
        while True:
            problem: RemoteError | None = None
            token = self._token if authorized else None
            async with self._once(method, url, what=what, token=token, **again) as response:
                if token is not None:
                    self.token_refused = response.status_code == 401
                if response.status_code != 401 or source is None or token is None:
                    yield response
                    return
                try:
                    if not await source.refused(token):
                        yield response
                        return
                except RemoteError as exc:
                    problem = exc
            if problem is not None:
                raise Failed(Failure.NOT_SENT, problem) from problem
            source = None  # once

    @contextlib.asynccontextmanager
    async def _once(
        self,
        method: str,
        url: str,
        *,
        what: str,
        token: Token | None,
        headers: Mapping[str, str] | None,
        params: Mapping[str, str | int] | None,
        content: bytes | None,
        stream: httpx.AsyncByteStream | None,
        head_timeout: float,
        new_connection: bool,
    ) -> AsyncIterator[httpx.Response]:
        """``exchange``, one time, with ``token``."""
        self.ensure_reach(url, what=what)
        reach = self._reach_of(url)
        direct = None if params else self._direct
        # No await since ``ensure_reach``: only one request at a time is the probe.
        probe = reach.start(trio.current_time())
        self.requests += 1
        self.in_flight += 1
        started = trio.current_time()
        try:
            with _translated(what), _host_checked(what):
                if direct is None:
                    request = self._http.build_request(
                        method, url, params=params, headers=dict(headers or {}), content=content
                    )
                else:
                    timeout = {"timeout": self._http.timeout.as_dict()}
                    request = httpx.Request(
                        method, url, headers=self._http.headers, content=content, extensions=timeout
                    )
                    request.headers.update(headers or {})
                request.extensions["new_connection"] = new_connection
                if probe:
                    request.extensions["timeout"]["connect"] = PROBE_TIMEOUT
                if stream is not None:
                    request = httpx.Request(
                        method,
                        request.url,
                        headers=request.headers,
                        stream=stream,
                        extensions=request.extensions,
                    )
                if token is not None:
                    request.headers["Authorization"] = f"token {token.reveal()}"
                with trio.move_on_after(head_timeout) as scope:
                    if direct is None:
                        response = await self._http.send(request, stream=True, follow_redirects=False)
                    else:
                        response = await direct.handle_async_request(request)
                        response.request = request
                if scope.cancelled_caught:
                    raise Failed(Failure.LOST, TooSlow(f"{what}: no answer within {head_timeout:.0f} s"))
                reach.answered()
                self.bytes_up += len(content or b"")
            log.debug("%s: %d, %.0f ms", what, response.status_code, (trio.current_time() - started) * 1000)
            try:
                with _translated(what):
                    yield response
            finally:
                # Also when this task is cancelled: else the connection is lost to the pool.
                with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_TIMEOUT):
                    await response.aclose()
        except Failed as failed:
            if failed.outcome is Failure.NOT_SENT:
                reach.failed(trio.current_time())
                if probe:
                    raise Failed(Failure.AWAY, failed.error) from failed.__cause__
            raise
        finally:
            self.in_flight -= 1
            if probe:
                reach.probe_ended()

    def ensure_reach(self, url: str, *, what: str) -> None:
        """Raises ``Failed`` if the server of ``url`` was not within reach a moment ago. Sends nothing."""
        if self._reach_of(url).refuses(trio.current_time()):
            raise Failed(Failure.AWAY, Unreachable(f"{what}: no connection, as a moment ago"))

    def _reach_of(self, url: str) -> Reach:
        return self._reach.setdefault(origin(url), Reach())

    async def read_body(self, response: httpx.Response, *, what: str, most: int | None = None) -> bytes:
        """All of a small answer, decoded. Raises ``Failed`` if it is too large (``most`` bytes) or ends
        early.
        """
        body = bytearray()
        most = LARGEST_ANSWER if most is None else most

        def take(chunk: bytes) -> bool:
            body.extend(chunk)
            return len(body) <= most

        await self.feed(response.aiter_bytes(), take)
        if len(body) > most:
            raise Failed(Failure.GARBLED, BadAnswer(f"{what}: an answer of more than {most} bytes"))
        return bytes(body)

    async def feed(self, chunks: AsyncIterator[bytes], take: Callable[[bytes], bool]) -> None:
        """Call ``take`` with one chunk of a body after the other, until the body ends or it returns False."""
        # Leaving the loop early would leave httpx's generators, five deep, to the garbage collector, which
        # closes them at some other time and with a warning. Cancelled at their next read they unwind here and
        # now.
        with trio.CancelScope() as scope:
            async for chunk in chunks:
                self.bytes_down += len(chunk)
                if not scope.cancel_called and not take(chunk):
                    scope.cancel()

    @contextlib.asynccontextmanager
    async def receiving(self, response: httpx.Response, *, what: str) -> AsyncIterator[Receive]:
        """Yield the function that receives the body of ``response`` as it is on the wire, nothing decoded.

        ``await receive(buffer, progress, silence=…)`` fills ``buffer`` with the next bytes of the body and
        returns how many: fewer than its length only where the body ends. It may be called again, for the
        bytes after these. ``progress`` is told how many are there already. Raises ``Failed`` when the
        connection breaks or brings no byte for ``silence`` seconds; what ``progress`` was told of is there.
        """
        direct = response.extensions.get("receive_into")
        chunks = None if direct is not None else response.aiter_raw()
        rest = memoryview(b"")

        async def receive(
            buffer: memoryview, progress: Progress | None = None, *, silence: float = SILENCE_TIMEOUT
        ) -> int:
            nonlocal rest
            told = 0

            def tell(filled: int) -> None:
                nonlocal told
                self.bytes_down += filled - told
                told = filled
                if progress is not None:
                    progress(filled)

            with _translated(what):
                if direct is not None:
                    return int(await direct(buffer, tell, silence=silence))
                while told < len(buffer):
                    if not rest:
                        assert chunks is not None
                        with trio.move_on_after(silence) as scope:
                            rest = memoryview(await anext(chunks, b""))
                        if scope.cancelled_caught:
                            raise httpx.ReadTimeout(f"no byte for {silence:.1f} s")
                        if not rest:
                            break
                    piece, rest = rest[: len(buffer) - told], rest[len(buffer) - told :]
                    buffer[told : told + len(piece)] = piece
                    tell(told + len(piece))
                return told

        try:
            yield receive
        finally:
            if chunks is not None:
                await _unwind(chunks)

    async def refused(
        self, response: httpx.Response, *, what: str, hide: str = "", secrets: Iterable[str] = ()
    ) -> Failed:
        """The failure that an answer with an error status means; reads its body.

        ``hide``: a path whose parts are secret; they, ``secrets`` and the token are blotted out of what the
        server says.
        """
        try:
            body = await self.read_body(response, what=what)
        except (Failed, httpx.HTTPError):  # the status alone will do
            body = b""
        hidden = [part for part in hide.split("/") if len(part) >= 8]
        error = refusal(response.status_code, body, what=what, secrets=[*hidden, *secrets, *self._had])
        wait = retry_after_seconds(response.headers.get("retry-after"), date=response.headers.get("date"))
        return Failed(response.status_code, error, retry_after=wait)


async def _unwind(chunks: AsyncIterator[bytes]) -> None:
    """End the reading of a body that is not wanted to its end."""
    # httpx's generators, five deep, would be left to the garbage collector, which closes them at some other
    # time and with a warning. Cancelled at their next read they unwind here and now.
    with trio.CancelScope() as scope:
        scope.cancel()
        with contextlib.suppress(httpx.HTTPError):
            async for _ in chunks:
                pass


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
        if "location header" in str(exc):  # httpx reads it, though it does not follow it
            raise Failed(Failure.GARBLED, BadAnswer(f"{what}: {_reason(exc)}")) from exc
        raise Failed(Failure.LOST, Unreachable(f"{what}: connection lost ({_reason(exc)})")) from exc
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        raise Failed(Failure.GARBLED, BadAnswer(f"{what}: {_reason(exc)}")) from exc


@contextlib.contextmanager
def _host_checked(what: str) -> Iterator[None]:
    """A host that is no name ("https://xn--/", "https://../", a label of 70 letters) is found out where it is
    encoded: by httpx, which reads a Location as well, or by the resolver.
    """
    try:
        yield
    except UnicodeError as exc:
        raise Failed(Failure.GARBLED, BadAnswer(f"{what}: a URL without a possible host")) from exc


def _reason(exc: Exception) -> str:
    return str(exc) if str(exc) and not isinstance(exc, httpx.InvalidURL) else type(exc).__name__
