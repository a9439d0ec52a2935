"""Whether a server is within reach, from what became of the last attempts to connect. Pure.

Once it is known to be away, requests to it fail at once instead of trying for themselves; one every now and
then goes out as a probe. Any answer ends that.
"""

from __future__ import annotations

ENOUGH, SPAN = 3, 1.0  #: attempts in a row without a connection, over at least so many seconds
LONG_SPAN = 8.0  #: seconds over which two are enough: a network that swallows everything takes its time
FORGET_AFTER = 60.0  #: seconds between two failures that have nothing to do with one another
PROBE_EVERY = 2.0  #: seconds


class Reach:
    """Of one server. Times are seconds of any clock."""

    def __init__(self) -> None:
        self._failures = 0  #: in a row
        self._first = self._last = 0.0
        self._probe_at: float | None = None  #: while it is away
        self._probing = False

    def refuses(self, now: float) -> bool:
        """Whether a request at ``now`` is not worth the try."""
        return self._probe_at is not None and (self._probing or now < self._probe_at)

    def start(self, now: float) -> bool:
        """A request begins that is not refused; whether it is a probe, to be followed by ``probe_ended``."""
        if self._probe_at is None:
            return False
        self._probing = True
        self._probe_at = now + PROBE_EVERY
        return True

    def probe_ended(self) -> None:
        """Also when it was cancelled, which says nothing."""
        self._probing = False

    def answered(self) -> None:
        """The server has answered something."""
        self._failures = 0
        self._probe_at = None

    def failed(self, now: float) -> None:
        """There was no connection."""
        if now - self._last > FORGET_AFTER:
            self._failures = 0
        if self._failures == 0:
            self._first = now
        self._failures += 1
        self._last = now
        span = now - self._first
        if (self._failures >= ENOUGH and span >= SPAN) or (self._failures >= 2 and span >= LONG_SPAN):
            self._probe_at = now + PROBE_EVERY
