"""The uploader service: the parts of one file. Which of them to send, and when, is decided elsewhere.

The upload URL is a secret of its own (whoever has it can write the file): it appears in no log and no error,
and the account's token is not sent along (quirks U2). Not paced.
"""

from __future__ import annotations

import contextlib
import logging
import os
import urllib.parse
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import httpx
import trio

from figfs.errors import BadAnswer, Conflict, NotFound
from figfs.figshare.bodies import FileBody, Progress
from figfs.figshare.client import Client
from figfs.figshare.records import Part, Record, Upload, decode
from figfs.figshare.retry import Failure
from figfs.figshare.wire import CLOSE_TIMEOUT, Failed, origin

log = logging.getLogger(__name__)

#: Seconds for which an upload may be unknown after it was announced (quirks U9).
UNKNOWN_AT_FIRST = 5.0
LOOK_AGAIN_AFTER = 0.5

#: Bytes a second below which a part is taken to hang; and seconds for the server to store it.
SLOWEST = 16 << 10
STORE_TIMEOUT = 60.0

#: Where the bytes of a part come from, see ``put_part``.
Source = Path | Callable[[], AsyncIterator[bytes | memoryview]]

R = TypeVar("R", bound=Record)


async def get_upload(client: Client, upload_url: str) -> Upload:
    """How the server cut the file into parts, and which it has. A 404 at first is waited out.

    Raises ``NotFound`` if the upload is unknown, ``Conflict`` if there is no URL: the upload is completed
    (U13).
    """
    _check(client, upload_url)
    known_by = trio.current_time() + UNKNOWN_AT_FIRST
    while True:
        try:
            return await client.persist("GET", lambda: _look(client, upload_url, Upload, what="upload"))
        except NotFound:
            if trio.current_time() >= known_by:
                raise
            await trio.sleep(LOOK_AGAIN_AFTER)


async def put_part(
    client: Client,
    upload_url: str,
    part: Part,
    source: Source,
    progress: Progress = lambda done: None,
) -> None:
    """Send one part from ``source``: a file that has its bytes at the part's own offsets, or a function that
    gives exactly ``part.size`` bytes, anew for every try.

    ``progress`` is told in the loop how many bytes of it are on their way; fewer again when it is tried
    again. Returns when the server has the part: also when it turns out to have it after a lost answer or a
    409. A part that is refused though nobody holds it is reset (U6).

    Raises ``Conflict`` if the part stays locked, ``NotFound`` if the upload is unknown, ``ValueError`` if a
    body has another length, what reading it raises (``OSError``), and the usual ones. When cancelled, the
    part may or may not be there.
    """
    _check(client, upload_url)
    what = f"part {part.part_no}"
    url = f"{upload_url.rstrip('/')}/{part.part_no}"

    async def once() -> None:
        told = 0

        def tell(done: int) -> None:
            nonlocal told
            client.wire.bytes_up += done - told
            told = done
            progress(done)

        tell(0)
        # An exact length, never chunked: the server pipes the body on to storage (U7).
        headers = {"Content-Length": str(part.size), "Content-Type": "application/octet-stream"}
        timeout = STORE_TIMEOUT + part.size / SLOWEST
        async with _body(source, part, tell) as body:
            try:
                await _ask(client, "PUT", url, what=what, headers=headers, stream=body, head_timeout=timeout)
            except Failed as failed:
                if failed.outcome not in (409, Failure.LOST):
                    raise
                state = await _state(client, url)
                if state is None or not is_complete(state):
                    if failed.outcome == 409 and state is not None and not state.locked:
                        await _reset(client, url, what)
                    raise
                log.debug("%s: is there, in spite of: %s", what, failed.error)
        progress(part.size)

    await client.persist("PUT", once)


@contextlib.asynccontextmanager
async def _body(source: Source, part: Part, tell: Progress) -> AsyncIterator[httpx.AsyncByteStream]:
    if isinstance(source, Path):
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield FileBody(descriptor, part.start_offset, part.size, tell)
        finally:
            os.close(descriptor)
        return
    sending = _Body(source(), part.size, tell)
    try:
        yield sending
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_TIMEOUT):
            await sending.aclose()


async def _reset(client: Client, part_url: str, what: str) -> None:
    """Try to make the part PENDING again; another try tells whether that has helped."""
    try:
        await _ask(client, "DELETE", part_url, what=f"reset of {what}")
    except Failed as failed:
        log.debug("%s", failed.error)


async def reset_part(client: Client, upload_url: str, part_no: int) -> None:
    """Make a part PENDING again. Raises ``Conflict`` if it is locked or the upload is completed."""
    _check(client, upload_url)
    url = f"{upload_url.rstrip('/')}/{part_no}"
    await client.persist("DELETE", lambda: _ask(client, "DELETE", url, what=f"reset of part {part_no}"))


class _Body(httpx.AsyncByteStream):
    """The body of a part, counted, so that a wrong length is an error here and not a hang there."""

    def __init__(self, chunks: AsyncIterator[bytes | memoryview], size: int, tell: Progress) -> None:
        self._chunks = chunks
        self._size = size
        self._done = 0
        self._tell = tell

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await anext(self._chunks)
        except StopAsyncIteration:
            if self._done < self._size:
                raise ValueError(f"the body of a part ends {self._size - self._done} bytes early") from None
            raise
        self._done += len(chunk)
        if self._done > self._size:
            raise ValueError(f"the body of a part is {self._done - self._size} bytes too long")
        self._tell(self._done)
        return bytes(chunk)

    async def aclose(self) -> None:
        if isinstance(self._chunks, AsyncGenerator):
            await self._chunks.aclose()


async def _ask(
    client: Client,
    method: str,
    url: str,
    *,
    what: str,
    headers: Mapping[str, str] | None = None,
    stream: httpx.AsyncByteStream | None = None,
    head_timeout: float = STORE_TIMEOUT,
) -> bytes:
    """One try of a request to the uploader; the body of its answer. Raises ``Failed``."""
    async with client.wire.exchange(
        method, url, what=what, headers=headers, stream=stream, head_timeout=head_timeout
    ) as response:
        if not 200 <= response.status_code < 300:
            raise await client.wire.refused(response, what=what, hide=urllib.parse.urlsplit(url).path)
        return await client.wire.read_body(response, what=what)


async def _look(client: Client, url: str, cls: type[R], *, what: str) -> R:
    body = await _ask(client, "GET", url, what=what)
    try:
        return cls.from_json(decode(body))
    except BadAnswer as bad:
        raise Failed(Failure.GARBLED, BadAnswer(f"{what}: {bad}")) from None


async def _state(client: Client, part_url: str) -> Part | None:
    try:
        return await _look(client, part_url, Part, what="state of a part")
    except Failed:
        return None


def is_complete(part: Part) -> bool:
    return part.status.upper() in ("COMPLETE", "COMPLETED")


def _check(client: Client, upload_url: str) -> None:
    if not upload_url:
        raise Conflict("no upload URL: the upload is completed, or the file is a link")
    scheme = origin(upload_url)[0]
    if scheme != "https" and not (scheme == "http" and origin(client.api)[0] == "http"):
        raise BadAnswer("the upload URL is not https: nothing is sent there")
