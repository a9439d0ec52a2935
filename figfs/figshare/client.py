"""Requests to the API: token, pacing, retry, error translation. The modules beside it say which requests.

``Client.call`` is a request to the API: paced, with the token, repeated as ``retry.py`` says, its answer
read. ``Client.persist`` is the loop of repeating, which uploads and downloads use as well. One try of
anything, to any host, is in ``wire.py``.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import itertools
import logging
import random
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

import cachetools
import httpx
import msgspec
import trio

import figfs
from figfs.errors import BadAnswer, ConfigurationError, TooSlow, UnknownOutcome
from figfs.figshare import proxies, records
from figfs.figshare.pacing import Pacer, Priority, Urgency
from figfs.figshare.records import Id
from figfs.figshare.redirects import Redirects
from figfs.figshare.retry import Failure, Verdict, classify, may_be_done, wait_time
from figfs.figshare.transport import Transport
from figfs.figshare.validators import Validated, Validators
from figfs.figshare.waits import Waits
from figfs.figshare.wire import (
    CONNECT_TIMEOUT,
    SILENCE_TIMEOUT,
    TRY_TIMEOUT,
    Failed,
    TokenSource,
    Wire,
    is_loopback,
    origin,
)
from figfs.settings import Token

log = logging.getLogger(__name__)

USER_AGENT = f"figfs/{figfs.__version__} (Linux; pyfuse3)"

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

PATIENCE = 25.0  #: seconds from the first failure, after which no further try begins
LONGEST_PAUSE = 60.0  #: seconds for which one 429 holds up all API requests

T = TypeVar("T")

#: Made from the path of a request that changes something; entered before it is sent, left when it has ended.
Watcher = Callable[[str], contextlib.AbstractAsyncContextManager[None]]


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
class FormFile:
    """A file as the one field of a form: what the few endpoints take that are not JSON (api.md §1)."""

    field: str
    name: str
    content: bytes

    def encoded(self) -> tuple[bytes, str]:
        """The body, and its Content-Type."""
        request = httpx.Request("POST", "https://form/", files={self.field: (self.name, self.content)})
        return request.read(), request.headers["Content-Type"]


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


class Client:
    """A client for one API and one account; made by ``open_client``."""

    def __init__(self, wire: Wire, pacer: Pacer) -> None:
        self.wire = wire
        self._pacer = pacer
        self._urgency = Urgency(Priority.INTERACTIVE)
        #: The account for which an institution's administrator acts: requests about "the account" are about
        #: that one. None: the token's own.
        self.impersonate: Id | None = None
        self.anonymous = False  #: no token is sent, though there may be one
        self.redirects = Redirects()
        #: One list for all copies (``background``): see ``watch_changes``.
        self._watchers: list[Watcher] = []
        self._validators = Validators()
        self._waits: cachetools.LRUCache[object, Waits] = cachetools.LRUCache(64)

    def __repr__(self) -> str:
        return f"<Client {self.api} {self._urgency.priority.name.lower()} in_flight={self.wire.in_flight}>"

    @property
    def api(self) -> str:
        """The API's base URL, without a slash at the end."""
        return self.wire.api

    @property
    def token(self) -> Token | None:
        """The token of all requests from now on. Setting what cannot be one raises ``Unauthorized``."""
        return self.wire.token

    @token.setter
    def token(self, token: Token | None) -> None:
        self.wire.token = token

    @property
    def token_source(self) -> TokenSource | None:
        """Asked for another token when one is refused or about to expire; None: nobody is."""
        return self.wire.source

    @token_source.setter
    def token_source(self, source: TokenSource | None) -> None:
        self.wire.source = source

    @property
    def may_be_mended(self) -> bool:
        """After ``Unauthorized``: whether there may be another token by now, so that one may ask again.
        Looks at a file, at most.
        """
        return self.wire.source is not None and not self.wire.source.hopeless

    @property
    def token_trouble(self) -> str:
        """Why Figshare refuses the token, and what a person can do; "" as long as it does not."""
        source = self.wire.source
        return source.trouble if source is not None and self.wire.token_refused else ""

    @property
    def paced(self) -> bool:
        """Whether API requests have to wait for their turn."""
        return self._pacer.paced

    def background(self) -> Client:
        """The same client for work that nobody waits for: its API requests go after the interactive ones."""
        other = copy.copy(self)
        other._urgency = Urgency(Priority.BACKGROUND)
        return other

    def hurry(self) -> None:
        """Somebody waits now for what this client, and copies made of it, ask for."""
        self._pacer.hurry(self._urgency)

    async def take_turn(self) -> None:
        """Wait as a request to the API does; for those that go to Figshare another way."""
        await self._pacer.acquire(self._urgency)

    def watch_changes(self, watcher: Watcher) -> None:
        """``watcher`` is around all of each API request that changes something, its repetitions included."""
        self._watchers.append(watcher)

    def without_token(self) -> Client:
        """The same client for what anyone may read: it sends no token and acts for nobody."""
        other = copy.copy(self)
        other.anonymous, other.impersonate = True, None
        return other

    def acting_for(self, account_id: Id) -> Client:
        """The same client for a colleague's account: what it changes is watched apart."""
        other = copy.copy(self)
        other.impersonate, other.anonymous, other._watchers = account_id, False, []
        return other

    def with_token(self, token: Token) -> Client:
        """The same client with another token, which is not renewed; to find out whether it is good."""
        other = copy.copy(self)
        other.wire = self.wire.with_token(token)
        other._validators = Validators()
        return other

    def waits(self, url: str) -> Waits:
        """What is known about how fast the server of ``url`` answers."""
        return self._waits.setdefault(origin(url), Waits())

    def statistics(self) -> ClientStatistics:
        wire = self.wire
        return ClientStatistics(
            api_requests=wire.api_requests,
            other_requests=wire.requests - wire.api_requests,
            retries=wire.retries,
            bytes_down=wire.bytes_down,
            bytes_up=wire.bytes_up,
            in_flight=wire.in_flight,
            waiting=self._pacer.waiting,
        )

    async def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: object = None,
        file: FormFile | None = None,
        read: Callable[[Answer], T],
        read_only: bool = False,
        anonymous: bool = False,
        secrets: Iterable[str] = (),
    ) -> T:
        """Send a request to the API until it is answered, and return ``read(answer)``.

        ``path`` begins with a slash, its ids quoted by ``segment``. ``body``: sent as JSON unless None;
        ``file``: sent as a form (multipart/form-data) instead.
        ``read`` may raise ``BadAnswer``. ``read_only``: a POST that changes nothing and may be repeated.
        ``anonymous``: without the token, and out of turn: it is how one comes by a token, for which all
        others wait. ``secrets``: of the body, not to appear in an error.

        Raises the ``RemoteError`` that the last try ended in: after ``retry.TRIES`` tries or ``PATIENCE``
        seconds, or as soon as the next try would come after the deadline of the caller. A POST whose answer
        was lost raises ``UnknownOutcome``. A DELETE that finds nothing after a try that may have worked has
        worked. When cancelled, nothing is left in flight; whether a change was carried out is then unknown.
        """
        what = f"{method} {path}"
        params, body = self._as_impersonated(method, path, params, body)
        content = None if body is None else msgspec.json.encode(body)
        kind = "application/json"
        if file is not None:
            content, kind = file.encoded()
        maybe_done = False
        # Answers of the API proper, to this token: see ``validators.py``.
        whose = hash(self.token.reveal()) if self.token is not None else None
        key = (path, tuple((params or {}).items()), whose) if method == "GET" and not anonymous else None

        async def once() -> T:
            nonlocal maybe_done
            known = self._validators.find(key) if key is not None else None
            self.wire.ensure_reach(self.api, what=what)  # before it waits for its turn
            if not anonymous:
                await self._pacer.acquire(self._urgency)
            try:
                answer = await self._ask(
                    method,
                    self.api + path,
                    what=what,
                    params=params,
                    content=content,
                    kind=kind,
                    authorized=not anonymous,
                    secrets=secrets,
                    known=known,
                )
                result = read(answer)
                if key is not None and answer.status == 200:
                    self._validators.keep(key, path, answer.headers, answer.body)
                return result
            except BadAnswer as bad:
                failed = Failed(Failure.GARBLED, BadAnswer(f"{what}: {bad}"))
            except Failed as exc:
                failed = exc
            if failed.outcome == 404 and method == "DELETE" and maybe_done:
                return read(Answer(204, {}, b""))
            if failed.outcome == 429:
                self._pacer.pause(min(failed.retry_after or 1.0, LONGEST_PAUSE))
            maybe_done = maybe_done or may_be_done(failed.outcome)
            raise failed

        if method == "GET" or read_only or not self._watchers:
            return await self.persist(method, once, read_only=read_only)
        async with contextlib.AsyncExitStack() as watched:
            for watcher in self._watchers:
                await watched.enter_async_context(watcher(path))
            return await self.persist(method, once, read_only=read_only)
        raise AssertionError("unreachable")  # no watcher takes an exception

    def _as_impersonated(
        self, method: str, path: str, params: Mapping[str, str | int] | None, body: object
    ) -> tuple[Mapping[str, str | int] | None, object]:
        """Query and body with the impersonated account: in the query of GET and DELETE, in the body of all
        else (api.md §1). Only where the path is about the account; its institution is the token's own.
        """
        who = self.impersonate
        if who is None or not path.startswith("/account") or path.startswith("/account/institution"):
            return params, body
        if method in ("GET", "DELETE"):
            return {**(params or {}), "impersonate": who}, body
        assert body is None or isinstance(body, Mapping)
        return params, {**(body or {}), "impersonate": who}

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
            self.wire.retries += 1
            log.debug("%s; again in %.1f s", failed.error, wait)
            await trio.sleep(wait)
        raise AssertionError("unreachable")

    async def _ask(
        self,
        method: str,
        url: str,
        *,
        what: str,
        params: Mapping[str, str | int] | None,
        content: bytes | None,
        kind: str,
        authorized: bool,
        secrets: Iterable[str],
        known: Validated | None,
    ) -> Answer:
        """One try of an API request. Raises ``Failed``. ``known``: what it was answered before, which a 304
        stands for.
        """
        headers = {"Accept": "application/json", **(known.conditions if known is not None else {})}
        if content is not None:
            headers["Content-Type"] = kind
        self.wire.api_requests += 1
        with trio.move_on_after(TRY_TIMEOUT):
            async with self.wire.exchange(
                method,
                url,
                what=what,
                authorized=authorized and not self.anonymous,
                headers=headers,
                params=params,
                content=content,
            ) as response:
                if (
                    "x-amzn-waf-action" in response.headers
                ):  # quirks D1: a 202 that means "prove you are human"
                    raise Failed(
                        Failure.GARBLED, BadAnswer(f"{what}: answered by a bot challenge, not by Figshare")
                    )
                if response.status_code == 304 and known is not None:
                    dated = httpx.Headers(known.headers)
                    if "date" in response.headers:  # it is true as of now (RFC 9111 §4.3.4)
                        dated["date"] = response.headers["date"]
                    return Answer(200, dated, known.body)
                if not 200 <= response.status_code < 300:
                    raise await self.wire.refused(response, what=what, secrets=secrets)
                body = await self.wire.read_body(response, what=what)
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
    if scheme == "http" and token is not None and not is_loopback(api):
        log.warning("the API at %s is not https: the token goes over the network in clear text", api)
    # httpx logs whole URLs at INFO (presigned ones too), httpcore headers at DEBUG (the token too).
    for name in ("httpx", "httpcore"):
        library = logging.getLogger(name)
        library.setLevel(max(library.level, logging.WARNING))
    own = Transport() if transport is None else None
    proxied = proxies.mounts() if own is not None else {}
    async with httpx.AsyncClient(
        headers={"User-Agent": user_agent or USER_AGENT},
        timeout=httpx.Timeout(SILENCE_TIMEOUT, connect=CONNECT_TIMEOUT, pool=None),
        follow_redirects=False,
        transport=transport or own,
        # A proxy from the environment is for the world outside; and would see the token in clear text.
        mounts=None if transport else proxied | {f"all://{host}": None for host in LOOPBACK},
    ) as http:
        direct = None if proxied else own
        yield Client(Wire(http, api=api, token=token, direct=direct), Pacer(rate, burst))


def segment(id_: Id) -> str:
    """An id as a segment of a path."""
    return urllib.parse.quote(str(id_), safe="")


def nothing(answer: Answer) -> None:
    """The reader for requests whose answer says no more than "done" (204, 205, 202 with any body)."""
