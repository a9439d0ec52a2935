"""Bytes [start, end) of a stored file: exactly these, or an error.

Two routes (quirks D1 to D4): ``{api}/file/download/{id}`` with the token, and the file's ``download_url``.
Both redirect to storage by a URL that lives ten seconds (D10): ranges that start within that time share it.
Redirects are followed by hand: the token goes to the first address only (and there only to the API), the
range to every one.

A connection that brings nothing for much longer than others do is given up, and the rest of the range is
asked for on a new one at once.

Not paced: Figshare's "one request a second" is about the API (issue 2, "The client").
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import logging
import random
import re
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import trio

from figfs.errors import BadAnswer, Changed, Invalid, RemoteError, TooSlow
from figfs.figshare.client import PATIENCE, Client, segment
from figfs.figshare.records import File
from figfs.figshare.redirects import life_of
from figfs.figshare.retry import Failure, Verdict, classify, wait_time
from figfs.figshare.waits import LONGEST
from figfs.figshare.wire import Failed, Progress, Receive, origin

log = logging.getLogger(__name__)

MOST_REDIRECTS = 5
REDIRECTS = frozenset({301, 302, 303, 307, 308})
PIECE = 1 << 20  #: bytes of what is offered to ``Spare`` at once
SMALL = 1 << 16  #: bytes of a redirect's body worth reading to keep the connection


#: ``await spare(offset, chunk)``: bytes of the file that came along; valid during the call only. Returns
#: whether more are wanted.
Spare = Callable[[int, bytes | memoryview], Awaitable[bool]]


async def fetch_into(
    client: Client,
    file: File,
    start: int,
    end: int,
    buffer: memoryview,
    *,
    progress: Progress | None = None,
    spare: Spare | None = None,
) -> None:
    """Fill ``buffer`` with the bytes from ``start`` up to, not including, ``end`` of a file on Figshare.

    ``buffer`` is writable and ``end - start`` bytes long. ``progress(n)`` is called in the loop, ``n``
    growing: the first ``n`` bytes are there and final, whatever happens afterwards. The rest of the buffer
    may hold anything until they are.

    ``spare``: where a server answers with the whole file, the bytes outside of the range are offered to it,
    in order (from the start again after trouble), in pieces that end at multiples of ``PIECE``, instead of
    being thrown away. It may wait. After it has returned False nothing more is offered, and the answer is
    dropped when the range is full. As long as it returns True the answer is read to the end of the file; this
    function returns only then, though ``progress`` has told that the range is full; trouble with the rest is
    no error. What is offered is as right as that answer is: where its head tells no length, that it was an
    answer of another length may be found out later.

    Repeated on both routes until the caller's deadline, or for about 25 s without any progress. Raises
    ``Changed`` when the file is gone or has another size, ``Unauthorized`` when the token is not valid any
    more, ``Unreachable``, ``TooSlow``, ``RateLimited``, ``ServerError``, and ``BadAnswer`` for everything
    else, a 403 included: Figshare's edge answers it in bad phases, for public files as well (quirks D3). A
    linked file is ``Invalid``: nothing is sent to its URL. When cancelled, nothing is left in flight and
    nothing writes to ``buffer`` any more.
    """
    if file.is_link_only:
        raise Invalid(f"file {file.id} is a link: Figshare does not hold its bytes")
    if not file.size_known:
        raise BadAnswer(f"file {file.id} has no known size")
    if not 0 <= start <= end <= file.size:
        raise ValueError(f"no range of a file of {file.size} bytes: {start} to {end}")
    if len(buffer) != end - start:
        raise ValueError(f"a buffer of {len(buffer)} bytes for {end - start}")
    if start < end:
        await _Download(client, file, start, end, buffer, progress, spare).run()


async def fetch_range(client: Client, file: File, start: int, end: int) -> bytes:
    """Exactly these bytes of a file, in one piece; raises what ``fetch_into`` does."""
    data = bytearray(max(0, end - start))
    await fetch_into(client, file, start, end, memoryview(data))
    return bytes(data)


def routes(client: Client, file: File) -> list[str]:
    """Where to ask for the file, best first."""
    first = f"{client.api}/file/download/{segment(file.id)}"
    if client.impersonate is not None:
        first += f"?impersonate={segment(client.impersonate)}"
    second = file.download_url
    return (
        [first, second] if second and second != first and _refused_target(client, second) is None else [first]
    )


class _Download:
    """One range on its way. The first ``_got`` bytes of the buffer are known to be at their place."""

    def __init__(
        self,
        client: Client,
        file: File,
        start: int,
        end: int,
        buffer: memoryview,
        progress: Progress | None,
        spare: Spare | None,
    ) -> None:
        self._client = client
        self._file = file
        self._start = start
        self._end = end
        self._buffer = buffer
        self._progress = progress
        self._spare = spare
        self._got = 0
        self._stalls = 0  #: in a row
        self._limit = LONGEST  #: seconds without a byte, for the request under way
        self._longest = 0.0  #: seconds without a byte, in the request under way
        self._what = f"download of file {file.id}"

    async def run(self) -> None:
        urls = routes(self._client, self._file)
        give_up_at = trio.current_effective_deadline()
        rounds = 0
        for attempt in itertools.count(1):
            before = self._got
            failures: list[Failed] = []
            for url in urls:
                try:
                    await self._follow(url)
                    return
                except Failed as failed:
                    if self._is_full():
                        return  # the connection broke after the last byte
                    log.debug("%s", failed.error)
                    failures.append(failed)
            progress = self._got > before
            rounds = 1 if progress else rounds + 1
            now = trio.current_time()
            if attempt == 1 or progress:
                give_up_at = min(trio.current_effective_deadline(), now + PATIENCE)
            asked = [failed.retry_after for failed in failures if failed.retry_after is not None]
            wait = wait_time(rounds, retry_after=max(asked, default=None), jitter=random.random())
            if now + wait >= give_up_at or not any(_again(failed, rounds) for failed in failures):
                raise _verdict(failures, self._what)
            self._client.wire.retries += 1
            await trio.sleep(wait)
        raise AssertionError("unreachable")

    def _is_full(self) -> bool:
        return self._start + self._got == self._end

    async def _follow(self, route: str) -> None:
        """Get what is missing by one route. Raises ``Failed``, or ``Changed`` if no route can help."""
        stalled = expired = False
        while True:
            before = self._got
            try:
                await self._follow_once(route, new_connection=stalled)
                return
            except _Expired as exc:
                # The presigned URL came too late to storage: a new one, once (D10).
                if expired:
                    raise exc.failed from None
                expired = True
            except Failed as failed:
                if not isinstance(failed.error, TooSlow) or self._is_full():
                    raise
                self._stalls = 1 if self._got > before else self._stalls + 1
                if (stalled and self._got == before) or self._limit >= LONGEST:
                    raise
                stalled = True
                self._client.wire.retries += 1
                log.debug("%s; again at once", failed.error)

    async def _follow_once(self, route: str, *, new_connection: bool) -> None:
        key = (self._file.id, route)
        redirects = self._client.redirects
        found = await redirects.look_up(key)
        shared = isinstance(found, str)
        if isinstance(found, str):
            target = found
        else:
            # No await until the resolution is entered.
            with found as resolution:
                async with self._ask(route, authorized=True, new_connection=new_connection) as response:
                    if response.status_code not in REDIRECTS:
                        if response.status_code in (200, 206):
                            resolution.direct()
                        await self._receive(response)
                        return
                    target = await self._redirected(route, response)
                    resolution.redirected(target, life_of(target, response.headers))
                    await self._drain(response)
        try:
            await self._get(target, shared=shared, new_connection=new_connection)
        except (_Expired, Failed):
            redirects.forget(key, target)
            raise

    async def _get(self, target: str, *, shared: bool, new_connection: bool) -> None:
        """What is missing from where a route redirects to, and perhaps on from there."""
        for _hop in range(MOST_REDIRECTS):
            # The token goes to the first address only: a storage on the API's own origin refuses it (D7).
            async with self._ask(target, authorized=False, new_connection=new_connection) as response:
                status = response.status_code
                if status not in REDIRECTS:
                    if status == 403 or (shared and status in (400, 401, 404, 410)):
                        raise _Expired(await self._client.wire.refused(response, what=self._what))
                    await self._receive(response)
                    return
                target = await self._redirected(target, response)
                await self._drain(response)
        raise self._bad(f"more than {MOST_REDIRECTS} redirects")

    @contextlib.asynccontextmanager
    async def _ask(
        self, url: str, *, authorized: bool, new_connection: bool
    ) -> AsyncIterator[httpx.Response]:
        problem = _refused_target(self._client, url)
        if problem is not None:
            raise self._bad(problem)
        waits = self._client.waits(url)
        self._limit = waits.limit(self._stalls)
        self._longest = self._limit
        asked = trio.current_time()
        try:
            async with self._client.wire.exchange(
                "GET",
                url,
                what=self._what,
                authorized=authorized and not self._client.anonymous,
                headers={
                    "Range": f"bytes={self._start + self._got}-{self._end - 1}",
                    "Accept-Encoding": "identity",
                },
                head_timeout=self._limit,
                new_connection=new_connection,
            ) as response:
                self._longest = trio.current_time() - asked
                yield response
            waits.note(self._longest)
        except Failed as failed:
            if isinstance(failed.error, TooSlow):
                waits.note(self._longest)
            raise

    async def _redirected(self, url: str, response: httpx.Response) -> str:
        try:
            target: str = urllib.parse.urljoin(url, response.headers.get("location", ""))
        except ValueError as exc:
            raise self._bad(f"a redirect to no URL ({exc})") from None
        problem = _refused_target(self._client, target)
        if problem is not None:
            raise self._bad(problem)
        return target

    async def _drain(self, response: httpx.Response) -> None:
        """Read the body of a redirect if that is less than what a new connection costs."""
        if (_number(response.headers.get("content-length")) or 0) <= SMALL:
            await self._client.wire.read_body(response, what=self._what)

    async def _receive(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == 206:
            await self._receive_part(response)
        elif status == 200:
            await self._receive_whole(response)
        elif status == 416:
            size = _content_range(response)
            if size is not None and size.total != self._file.size:
                raise Changed(f"{self._what}: has {size.total} bytes now, not {self._file.size}", status=416)
            raise self._bad("the range is refused", status=416)
        elif 200 <= status < 400:
            # 202 is a bot challenge (D1). Whatever it is: no data.
            raise self._bad(f"answered {status}", status=status)
        else:
            raise await self._client.wire.refused(response, what=self._what)

    async def _receive_part(self, response: httpx.Response) -> None:
        """A 206: bytes from where we asked, perhaps fewer."""
        sent = _content_range(response)
        if sent is None or sent.start is None or sent.end is None:
            raise self._bad("a part without a usable Content-Range", status=206)
        if sent.total is not None and sent.total != self._file.size:
            raise Changed(f"{self._what}: has {sent.total} bytes now, not {self._file.size}", status=206)
        if sent.start != self._start + self._got or not sent.start < sent.end <= self._end:
            raise self._bad("another part than was asked for", status=206)
        if sent.total is None:
            self._check_type(response)
        length, most = _length(response), sent.end - sent.start
        if length is not None and length > most:
            raise self._bad("more bytes than announced", status=206)
        async with self._client.wire.receiving(response, what=self._what) as receive:
            await self._take(receive, most, sure=length is not None, excess=True)

    async def _receive_whole(self, response: httpx.Response) -> None:
        """A 200, although a range was asked for (D9): take the range, offer what is around it."""
        length = _length(response)
        if length is not None and length != self._file.size:
            raise self._bad(f"{length} bytes, expected {self._file.size}", status=200)
        self._check_type(response)
        at = self._start + self._got
        async with self._client.wire.receiving(response, what=self._what) as receive:
            wanted = await self._pass(receive, 0, self._start, offer=self._spare is not None)
            await self._pass(receive, self._start, at, offer=False)
            excess = self._end == self._file.size
            await self._take(receive, self._end - at, sure=length is not None, excess=excess)
            if wanted:
                await self._pass(receive, self._end, self._file.size, offer=True, needed=False)

    async def _take(self, receive: Receive, most: int, *, sure: bool, excess: bool) -> None:
        """The next ``most`` bytes of a body are the next ones of the range. Raises ``Failed`` if it is not
        full.

        ``sure``: the head has told that the body has no more. If not, and there must not be any more
        (``excess``), a body that is longer is worth nothing, so that none of it is told before its end.
        """
        before, came = self._got, 0

        def count(received: int) -> None:
            nonlocal came
            came = received
            if sure:
                self._tell(before + came)

        too_long = False
        try:
            await self._hear(receive, self._buffer[before : before + most], count)
            if excess and not sure and came == most:
                too_long = await self._hear(receive, memoryview(bytearray(1))) > 0
        except Failed:
            self._tell(before + came)  # a connection that broke says nothing against what came
            raise
        if too_long:
            raise self._bad("more bytes than announced")
        self._tell(before + came)
        if not self._is_full():
            # With some progress it is worth going on; a body that is empty will be so again.
            outcome = Failure.LOST if self._got > before else Failure.GARBLED
            raise Failed(outcome, BadAnswer(f"{self._what}: the answer ended early"))

    async def _pass(
        self, receive: Receive, start: int, end: int, *, offer: bool, needed: bool = True
    ) -> bool:
        """The next bytes of a body are those of the file from ``start`` to ``end``, which is not our range.

        ``offer`` them to ``spare``; returns whether it wants more. ``needed``: our own come after them.
        """
        piece = memoryview(bytearray(min(PIECE, end - start)))
        at = start
        while at < end and (offer or needed):
            size = min(PIECE - at % PIECE, end - at)
            came = await self._hear(receive, piece[:size])
            if came < size:
                raise Failed(Failure.GARBLED, BadAnswer(f"{self._what}: the answer ended early"))
            if offer and self._spare is not None:
                offer = await self._spare(at, piece[:size])
            at += size
        return offer

    async def _hear(self, receive: Receive, buffer: memoryview, progress: Progress | None = None) -> int:
        last = trio.current_time()

        def note() -> None:
            nonlocal last
            now = trio.current_time()
            self._longest = max(self._longest, now - last)
            last = now

        def heard(received: int) -> None:
            note()
            if progress is not None:
                progress(received)

        try:
            return await receive(buffer, heard, silence=self._limit)
        finally:
            note()

    def _tell(self, got: int) -> None:
        if got > self._got:
            self._got = got
            if self._progress is not None:
                self._progress(got)

    def _check_type(self, response: httpx.Response) -> None:
        """An HTML page in place of a file that is none is an error page, whatever its status."""
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in ("text/html", "application/xhtml+xml"):
            return
        if "html" not in self._file.mimetype.lower() and not re.search(
            r"\.x?html?$", self._file.name.lower()
        ):
            raise self._bad("an HTML page instead of the file", status=response.status_code)

    def _bad(self, text: str, *, status: int | None = None) -> Failed:
        return Failed(Failure.GARBLED, BadAnswer(f"{self._what}: {text}", status=status))


class _Expired(Exception):
    """Storage answered 403 to a presigned URL."""

    def __init__(self, failed: Failed) -> None:
        super().__init__()
        self.failed = failed


def _again(failed: Failed, rounds: int) -> bool:
    outcome = failed.outcome
    # A 403 may be a phase, a 404 the fault of one route, a 400 that of a cache: once more, like a garbled
    # answer.
    if isinstance(outcome, int) and 400 <= outcome < 500 and outcome not in (401, 408, 425, 429):
        outcome = Failure.GARBLED
    return classify("GET", outcome, tries=rounds) is Verdict.RETRY


def _verdict(failures: list[Failed], what: str) -> RemoteError:
    """The error that says most: one that may pass, else what the first route says."""
    if all(failed.outcome in (404, 410) for failed in failures):
        return Changed(f"{what}: is gone", status=404)
    for failed in failures:
        outcome = failed.outcome
        if isinstance(outcome, Failure) or outcome in (401, 429) or outcome >= 500:
            return failed.error
    return BadAnswer("; ".join(str(failed.error) for failed in failures), status=failures[0].error.status)


def _refused_target(client: Client, url: str) -> str | None:
    """Why nothing may be fetched from this URL, or None."""
    scheme, host, _port = origin(url)
    if not host:
        return "a redirect to nowhere"
    if scheme != "https" and not (scheme == "http" and client.api.startswith("http:")):
        return f"a redirect to {scheme or 'no scheme'}, not https"
    if host.endswith("figshare.com") and urllib.parse.urlsplit(url).path.startswith("/ndownloader"):
        return "a redirect to figshare.com/ndownloader, which answers programs with a challenge"  # D1
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class _ContentRange:
    start: int | None
    end: int | None  #: not included
    total: int | None


def _content_range(response: httpx.Response) -> _ContentRange | None:
    value = response.headers.get("content-range", "")
    match = re.fullmatch(r"\s*bytes\s+(?:(\d{1,18})-(\d{1,18})|\*)/(?:(\d{1,18})|\*)\s*", value, re.ASCII)
    if match is None:
        return None
    first, last, total = (None if text is None else int(text) for text in match.groups())
    return _ContentRange(first, None if last is None else last + 1, total)


def _length(response: httpx.Response) -> int | None:
    """How long the body is, where the head says so and the connection keeps to it."""
    if "transfer-encoding" in response.headers:
        return None
    return _number(response.headers.get("content-length"))


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"\d{1,18}", text, re.ASCII) else None
