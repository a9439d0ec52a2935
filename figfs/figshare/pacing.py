"""How many API requests, of which priority, when: a token bucket with a queue.

Figshare asks for no more than one request a second and may block who ignores it (api.md §1). Downloads and
parts of uploads do not count and do not come here.
"""

from __future__ import annotations

import bisect
import enum
import itertools

import trio


class Priority(enum.IntEnum):
    """Who goes first: somebody who waits for it, or work that nobody waits for."""

    INTERACTIVE = 0
    BACKGROUND = 1


class Urgency:
    """Of one piece of work; it can grow while its requests wait for their turn (``Pacer.hurry``)."""

    __slots__ = ("priority",)

    def __init__(self, priority: Priority) -> None:
        self.priority = priority


class _Waiter:
    __slots__ = ("number", "urgency", "wake")

    def __init__(self, urgency: Urgency, number: int) -> None:
        self.urgency = urgency
        self.number = number
        self.wake = trio.Event()

    @property
    def order(self) -> tuple[Priority, int]:
        return self.urgency.priority, self.number


class Pacer:
    """``rate`` requests a second sustained, ``burst`` at once after a pause; rate 0: no pacing.

    Made inside ``trio.run``. Time is Trio's clock.
    """

    def __init__(self, rate: float, burst: float) -> None:
        if rate < 0 or burst < 1:
            raise ValueError("the rate is at least 0, the burst at least 1")
        self._rate = rate
        self._burst = burst
        self._tokens = float(burst)
        self._counted_at = (
            trio.current_time()
        )  # the time for which _tokens is right; in the future after pause()
        self._queue: list[
            _Waiter
        ] = []  # sorted; the first one waits for the clock, the others for their turn
        self._numbers = itertools.count()

    def __repr__(self) -> str:
        return f"<Pacer rate={self._rate:g} burst={self._burst:g} waiting={self.waiting}>"

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def paced(self) -> bool:
        return self._rate > 0

    async def acquire(self, urgency: Urgency | Priority = Priority.INTERACTIVE) -> None:
        """Wait until a request may go. More urgent ones first, in order of asking among equals.

        Cancellation takes nothing: the token is taken in the same step in which this returns.
        """
        await trio.lowlevel.checkpoint()
        if not isinstance(urgency, Urgency):
            urgency = Urgency(urgency)
        waiter = _Waiter(urgency, next(self._numbers))
        bisect.insort(self._queue, waiter, key=lambda w: w.order)
        try:
            while True:
                waiter.wake = trio.Event()
                if self._queue[0] is not waiter:
                    await waiter.wake.wait()
                    continue
                # No await between reading the bucket and taking from it.
                wait = self._time_to_token()
                if wait <= 0:
                    self._tokens -= 1 if self._rate else 0
                    return
                with trio.move_on_after(wait):  # woken early: a pause, or somebody more urgent
                    await waiter.wake.wait()
        finally:
            self._queue.remove(waiter)
            self._wake_first()

    def hurry(self, urgency: Urgency) -> None:
        """Somebody waits for that work now: its requests go before those that nobody waits for."""
        urgency.priority = Priority.INTERACTIVE
        self._queue.sort(key=lambda waiter: waiter.order)
        self._wake_first()

    def pause(self, seconds: float) -> None:
        """Let nothing go for ``seconds``, and then only at the sustained rate: the server said "too many"."""
        until = trio.current_time() + seconds
        if until > self._counted_at:
            self._counted_at = until
            self._tokens = 1.0
            self._wake_first()

    def _time_to_token(self) -> float:
        now = trio.current_time()
        if self._counted_at > now:
            return self._counted_at - now
        if not self._rate:
            return 0.0
        self._tokens = min(self._burst, self._tokens + (now - self._counted_at) * self._rate)
        self._counted_at = now
        # Rounding must not leave a wait too short for the clock to show: that would be a busy loop.
        return 0.0 if self._tokens >= 1 - 1e-6 else (1 - self._tokens) / self._rate

    def _wake_first(self) -> None:
        if self._queue:
            self._queue[0].wake.set()
