"""Which files of a directory will be read next: the read-ahead among siblings. Pure: no clock, no I/O.

``cp -r``, ``rsync``, ``tar``, ``find`` and loaders of images open what a directory holds one after the
other. With 50 ms per request, fetching the next 16 before they are asked for made that 10 to 17 times as
fast (performance.md §3). A ``Walk`` sees what is used, finds the order, and says what to fetch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)

REACH = (
    8  # workers that share a directory (xargs -P4, four of a DataLoader's) use its items so far out of order
)
STRIDE = (
    4  # the largest constant step: every fourth item, for example only the images among four kinds of files
)
STREAMS = 6  # walks at once in one order: workers that each take a batch of items in a row
IDLE = 16  # a walk has ended that was not gone on with for so many uses


@dataclass(slots=True, eq=False)
class _Stream:
    """A walk in progress in one order and direction; places count in that direction."""

    high: int  #: the furthest place used
    latest: int  #: when it was used, in uses of the directory
    step: int = 1  #: from one place to the next
    gap: int = 0  #: the last step forward
    streak: int = 1  #: how many uses belong to it
    ahead: int = 0  #: how many steps to fetch ahead
    fetched: deque[int] = field(
        default_factory=deque
    )  #: the places given out and not yet far behind ``high``


class _Order(Generic[T]):
    """The items in an order in which a program may walk, and the walks that are seen in it."""

    def __init__(self, items: Sequence[T], places: dict[T, int], *, backwards: bool) -> None:
        self.items = items
        self.places = places
        self.backwards = backwards
        self.streams: list[_Stream] = []  #: the one used last is last

    def place(self, item: T) -> int | None:
        place = self.places.get(item)
        return len(self.items) - 1 - place if self.backwards and place is not None else place

    def item(self, place: int) -> T:
        return self.items[-1 - place if self.backwards else place]


class Walk(Generic[T]):
    """The items of one directory, small files or sub-directories, as programs use them."""

    def __init__(
        self,
        orders: Sequence[Sequence[T]],
        *,
        cost: Callable[[T], int],
        most: int = 16,
        most_cost: int = 32 << 20,
        largest: int = 4 << 20,
    ) -> None:
        """``orders``: the directory's items in each order in which programs walk. Equal ones count once. Each
        is walked backwards, too.

        ``cost``: the bytes that fetching an item takes, 1 for the listing of a sub-directory; asked once per
        item, here. Items of more than ``largest`` are as if they were not there: never fetched, and no gap in
        the order. At most ``most`` items and ``most_cost`` bytes are outstanding: given out, and neither used
        nor given up, because the program has gone past them or elsewhere.
        """
        self._most = most
        self._most_cost = most_cost
        self._cost: dict[T, int] = {}
        self._orders: list[_Order[T]] = []
        known: list[list[T]] = []
        for order in orders:
            for item in order:
                if item not in self._cost:
                    self._cost[item] = cost(item)
            items = [item for item in order if self._cost[item] <= largest]
            if items not in known:
                known.append(items)
                places = {item: place for place, item in enumerate(items)}
                self._orders += [_Order(items, places, backwards=backwards) for backwards in (False, True)]
        self._used: set[T] = set()
        self._outstanding: set[T] = set()
        self._outstanding_cost = 0
        self._given_up: set[T] = set()
        self._hits = 0  #: items given out that were used

    def __repr__(self) -> str:
        return (
            f"<Walk items={len(self._cost)} used={len(self._used)} hits={self._hits} "
            f"outstanding={len(self._outstanding)} given_up={len(self._given_up)}>"
        )

    def used(self, item: T) -> list[T]:
        """What to fetch now that a program has used ``item``: in order, nothing twice, nothing that was used.

        Two neighbours used in a row, or three items near each other, begin a walk. It goes 1 item ahead, then
        2, 4, 8, up to ``most``, doubling with each use that goes forward. Uses up to ``REACH`` out of order
        belong to it; so do gaps, but an item that was fetched and passed by halves the way ahead. A constant
        step of up to ``STRIDE`` is followed. Up to ``STREAMS`` walks may be in progress in each order, and
        share ``most``; one is given up when it was not gone on with for ``IDLE`` uses.

        Once more items have been given up than ``most`` and half of those given out and used, nothing is
        fetched: the program reads this directory in an order of its own.
        """
        if item in self._used or item not in self._cost:
            return []
        self._used.add(item)
        if item in self._outstanding:
            self._close(item)
            self._hits += 1
        elif item in self._given_up:
            self._given_up.remove(item)
            self._hits += 1
        fetch: list[T] = []
        for order in self._orders:
            place = order.place(item)
            if place is not None:
                stream = self._follow(order, place)
                if stream is not None:
                    self._fetch(order, stream, fetch)
        return fetch

    def _follow(self, order: _Order[T], place: int) -> _Stream | None:
        """The walk that goes forward with ``place``, if one does."""
        streams = order.streams
        now = len(self._used)
        if streams and now - streams[0].latest > IDLE:
            self._end(order, streams.pop(0))
        stream = min(streams, key=lambda stream: abs(place - stream.high), default=None)
        if stream is None or abs(place - stream.high) > REACH * stream.step:
            streams.append(_Stream(place, now))
            if len(streams) > STREAMS:
                self._end(order, streams.pop(0))
            return None
        streams.remove(stream)
        streams.append(stream)
        stream.latest = now
        stream.streak += 1
        gap = place - stream.high
        if gap <= 0:  # from a slower worker
            stream.gap = 0
            return None
        stream.high = place
        if gap % stream.step:
            stream.step = 1
        if gap == stream.gap and gap <= STRIDE:
            stream.step = gap
        stream.gap = gap
        if gap == 1 or stream.streak > 2:
            stream.ahead = min(self._most, max(1, 2 * stream.ahead))
        while stream.fetched and stream.fetched[0] < place - REACH * stream.step:
            if self._give_up(order.item(stream.fetched.popleft())):
                stream.ahead //= 2
        return stream

    def _fetch(self, order: _Order[T], stream: _Stream, fetch: list[T]) -> None:
        """Append to ``fetch`` what lies ahead of ``stream`` and may be fetched."""
        if len(self._given_up) > self._most + self._hits // 2:
            return
        share = self._most // sum(other.ahead > 0 for other in order.streams) if stream.ahead else 0
        end = min(stream.high + min(stream.ahead, share) * stream.step + 1, len(order.items))
        for place in range(stream.high + stream.step, end, stream.step):
            item = order.item(place)
            if item in self._used or item in self._outstanding or item in self._given_up:
                continue
            cost = self._cost[item]
            if len(self._outstanding) >= self._most or self._outstanding_cost + cost > self._most_cost:
                return
            self._outstanding.add(item)
            self._outstanding_cost += cost
            stream.fetched.append(place)
            fetch.append(item)

    def _end(self, order: _Order[T], stream: _Stream) -> None:
        for place in stream.fetched:
            self._give_up(order.item(place))

    def _close(self, item: T) -> None:
        self._outstanding.remove(item)
        self._outstanding_cost -= self._cost[item]

    def _give_up(self, item: T) -> bool:
        """Count ``item`` as fetched in vain, unless it was used."""
        if item not in self._outstanding:
            return False
        self._close(item)
        self._given_up.add(item)
        return True
