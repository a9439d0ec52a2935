"""The parts of one upload: which are sent when, and what one that fails means for the others."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import trio

from figfs.errors import Changed, NotFound, RemoteError
from figfs.figshare import uploads
from figfs.figshare.client import Client
from figfs.figshare.records import Part
from figfs.settings import MOST_PARTS

FILES_AT_ONCE = 8
PARTS_AT_ONCE = 6  #: Figshare's own client sends all at once, and 32 are refused (quirks U4)
CHUNK = 1 << 20  #: bytes asked of a stored file at once
ENOUGH_FAILURES = 3  #: parts that failed one after the other, none having come through: the rest waits

#: Bytes [start, end) of a stored file.
ReadStored = Callable[[int, int], Awaitable[bytes | memoryview]]


@dataclasses.dataclass(slots=True)
class Progress:
    """How far an upload is. ``sent`` and ``size`` are bytes, ``began`` is Trio's clock.

    ``phase``: ``waiting`` (for its turn), ``announcing``, ``sending``, ``verifying`` or ``pausing`` (before
    it is tried again).
    """

    sent: int
    size: int
    began: float
    phase: str = "waiting"


class TokenGone(Exception):
    """The uploader does not know the upload any more."""


class Places:
    """How much of all uploads of a mount, in whosever name, may be in flight: ``files`` until they are
    completed, and ``parts``.
    """

    def __init__(self, *, files: int = FILES_AT_ONCE, parts: int = PARTS_AT_ONCE) -> None:
        self.files = trio.CapacityLimiter(files)
        self.parts = trio.CapacityLimiter(min(parts, MOST_PARTS))


class Sender:
    """Sends parts, so many at once as there are ``places``."""

    def __init__(self, client: Client, places: trio.CapacityLimiter) -> None:
        self._client = client
        self._places = places
        # Each upload asks for no more places than there are, so that a small file comes between the parts of
        # a large one.
        self._at_once = int(places.total_tokens)

    async def send(
        self, upload_url: str, parts: list[Part], source: Path | ReadStored, progress: Progress
    ) -> None:
        """Send ``parts``, whose bytes are at their offsets in ``source``. Adds to ``progress.sent``.

        A part that fails is tried again by itself (``uploads.put_part``), and does not keep the others from
        going on; in the end the first failure is raised. Raises ``TokenGone``, ``OSError`` and ``Changed`` of
        the source at once, and remote errors.
        """
        left = iter(parts)
        failures: list[RemoteError] = []
        in_a_row = 0
        fatal: list[Exception] = []

        async def work(nursery: trio.Nursery) -> None:
            nonlocal in_a_row
            for part in left:
                try:
                    async with self._places:
                        await self._put(upload_url, part, source, progress)
                    in_a_row = 0
                except (TokenGone, Changed, OSError) as exc:
                    fatal.append(exc)
                    nursery.cancel_scope.cancel()
                    return
                except RemoteError as exc:
                    failures.append(exc)
                    in_a_row += 1
                if in_a_row >= ENOUGH_FAILURES:
                    return

        async with trio.open_nursery() as nursery:
            for _ in range(min(self._at_once, len(parts))):
                nursery.start_soon(work, nursery)
        if fatal or failures:
            raise (fatal or failures)[0]

    async def _put(self, upload_url: str, part: Part, source: Path | ReadStored, progress: Progress) -> None:
        told = 0

        def tell(done: int) -> None:
            nonlocal told
            progress.sent += done - told
            told = done

        complete = False
        try:
            await uploads.put_part(
                self._client,
                upload_url,
                part,
                source if isinstance(source, Path) else functools.partial(_stream, source, part),
                tell,
            )
            complete = True
        except NotFound as exc:
            raise TokenGone(str(exc)) from exc
        finally:
            if not complete:
                tell(0)


async def _stream(read: ReadStored, part: Part) -> AsyncIterator[bytes | memoryview]:
    """The bytes of a part out of a stored file. Raises ``Changed`` if that is gone."""
    position, end = part.start_offset, part.end_offset + 1
    while position < end:
        try:
            chunk = await read(position, min(position + CHUNK, end))
        except NotFound as exc:
            raise Changed(f"the stored file that is to be moved is gone: {exc}") from exc
        if not chunk:
            raise Changed(f"the stored file that is to be moved ends at {position}, {end} expected")
        yield chunk
        position += len(chunk)
