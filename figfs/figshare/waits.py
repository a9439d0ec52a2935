"""How long to wait for a byte, learnt from how long others took. Pure."""

from __future__ import annotations

import collections

MOST = 64  #: of the last waits that count
ENOUGH = 8  #: of them, to go by
QUANTILE = 0.95
TIMES = 4.0  #: so many times longer than nearly all others is too long
SHORTEST, LONGEST = 2.0, 20.0  #: seconds


class Waits:
    """The last waits for the first byte of an answer, and between bytes, at one server."""

    def __init__(self) -> None:
        self._last: collections.deque[float] = collections.deque(maxlen=MOST)

    def note(self, seconds: float) -> None:
        """Somebody waited so long: until a byte came, or, in vain, until it was given up."""
        self._last.append(seconds)

    def limit(self, stalls: int = 0) -> float:
        """Seconds without a byte after which a connection is taken to hang.

        ``stalls``: how often in a row it was so with what is asked for now; each time it is given twice the
        time.
        """
        if len(self._last) < ENOUGH:
            return LONGEST
        ordered = sorted(self._last)
        usual = ordered[min(int(len(ordered) * QUANTILE), len(ordered) - 1)]
        return min(max(TIMES * usual, SHORTEST) * 2.0 ** min(stalls, 10), LONGEST)
