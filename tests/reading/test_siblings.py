"""Which siblings are fetched for which order of uses."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from figfs.reading.siblings import IDLE, REACH, STRIDE, Walk

KIB = 1 << 10
MIB = 1 << 20


class Drive:
    """A directory of ``n`` items, listed in the order of their numbers, sorted by name in another."""

    def __init__(self, n: int, *, sizes: Sequence[int] = (10 * KIB,), most: int = 16) -> None:
        self.sizes = sizes
        self.most = most
        self.names = list(range(n))
        random.Random(17).shuffle(self.names)
        self.walk = Walk([list(range(n)), self.names], cost=self.cost, most=most)
        self.clock = 0
        self.fetched: dict[int, int] = {}  #: item -> when, in uses
        self.used: set[int] = set()
        self.served = 0  #: uses of items that had been fetched, within the last 64 uses

    def cost(self, item: int) -> int:
        return self.sizes[item % len(self.sizes)]

    def use(self, item: int) -> list[int]:
        self.clock += 1
        self.served += self.clock - self.fetched.get(item, -100) <= 64 and item not in self.used
        self.used.add(item)
        fetch = self.walk.used(item)
        assert len(fetch) <= self.most
        for other in fetch:
            assert other not in self.fetched, "fetched twice"
            assert other not in self.used, "fetched after its use"
            self.fetched[other] = self.clock
        return fetch

    def uses(self, items: Sequence[int]) -> None:
        for item in items:
            self.use(item)

    @property
    def wasted(self) -> int:
        """Fetched, and not used within the next 64 uses, when a cache may have dropped it."""
        return len(self.fetched) - self.served


def overtaking(items: Sequence[int], workers: int, seed: int = 3) -> list[int]:
    """``items`` as so many workers take them: each may be overtaken by the others that are in work."""
    rng = random.Random(seed)
    order = sorted((n + rng.uniform(0, workers), item) for n, item in enumerate(items))
    return [item for _, item in order]


# Walks


@pytest.mark.parametrize("n", [3, 4, 100, 2000])
@pytest.mark.parametrize("order", ["listing", "names", "backwards"])
def test_a_walk_is_fetched_before_it_is_used(n: int, order: str) -> None:
    """All but the first two items, in the order of the listing, by name, and either backwards."""
    drive = Drive(n)
    items = {"listing": list(range(n)), "names": drive.names, "backwards": list(range(n))[::-1]}[order]
    drive.uses(items)
    assert drive.fetched.keys() >= set(items[2:])
    assert drive.wasted <= 5  # long before their use, where names are by chance neighbours in the listing


def test_it_goes_ahead_by_1_2_4_8_16() -> None:
    """Two in a row arm it; each use in order doubles."""
    walk = Walk([range(100)], cost=lambda _: 1)
    assert [walk.used(item) for item in range(4)] == [[], [2], [3, 4], [5, 6, 7]]
    assert walk.used(4) == list(range(8, 13))
    assert walk.used(5) == list(range(13, 22))
    assert walk.used(6) == [22]


def test_it_stops_at_the_end() -> None:
    """And has nothing to say of items that it does not know, or that are used again."""
    walk = Walk([range(4)], cost=lambda _: 1)
    assert [walk.used(item) for item in (0, 1, 2, 3, 3, 0, 77)] == [[], [2], [3], [], [], [], []]


def test_a_walk_may_begin_anywhere() -> None:
    """tar of the second half."""
    drive = Drive(1000)
    drive.uses(range(500, 1000))
    assert drive.served == 498


def test_two_programs_at_once() -> None:
    """Both walks are followed; they share what may be outstanding."""
    drive = Drive(1000)
    drive.uses([item for n in range(400) for item in (n, n + 500)])
    assert drive.served >= 790
    assert drive.wasted <= 16


@pytest.mark.parametrize("workers", [2, 4, 7])
def test_workers_that_overtake_each_other(workers: int) -> None:
    """`xargs -P4`, a loader with four workers: nearly all are fetched in time, and nothing in vain."""
    drive = Drive(1000)
    drive.uses(overtaking(range(1000), workers))
    assert drive.served >= 980
    assert drive.wasted <= 20


def test_workers_that_take_batches() -> None:
    """Four workers of a loader, each reads 32 items in a row."""
    drive = Drive(1024)
    drive.uses([b * 128 + w * 32 + n for b in range(8) for n in range(32) for w in range(4)])
    assert drive.served > 0.9 * 1024
    assert drive.wasted < 0.05 * 1024


@pytest.mark.parametrize("stride", range(2, STRIDE + 1))
def test_a_constant_step_is_followed(stride: int) -> None:
    """Images beside their labels: those between are not fetched."""
    drive = Drive(1200)
    items = range(0, 1200, stride)
    drive.uses(items)
    assert drive.served >= len(items) - 3
    assert drive.wasted <= 1


def test_some_are_skipped() -> None:
    """rsync leaves out what is there already: one in five. Those are fetched in vain, none other is late."""
    rng = random.Random(2)
    drive = Drive(1000)
    items = [item for item in range(1000) if rng.random() < 0.8]
    drive.uses(items)
    assert drive.served >= len(items) - 10
    assert drive.wasted <= 1000 - len(items) + 16


@pytest.mark.parametrize("part", [0.5, 0.2])
def test_where_most_are_skipped_it_gives_up(part: float) -> None:
    """Fetched in vain are at most those outstanding, as many again, and half of the useful ones."""
    rng = random.Random(2)
    drive = Drive(3000)
    drive.uses([item for item in range(3000) if rng.random() < part])
    assert drive.wasted <= 2 * 16 + 1 + drive.served // 2


def test_the_walk_goes_on_after_a_jump() -> None:
    """What was outstanding is given up soon, and does not stand in the way of what is read now."""
    drive = Drive(1000)
    drive.uses(range(60))
    drive.uses(range(500, 600))
    assert drive.served >= 58 + 100 - IDLE - REACH
    assert drive.wasted <= 2 * 16


# No order


@pytest.mark.parametrize("seed", range(10))
def test_a_shuffle_fetches_next_to_nothing(seed: int) -> None:
    """1,000 files in random order: less than 5 % of them are fetched in vain."""
    drive = Drive(1000)
    items = list(range(1000))
    random.Random(seed).shuffle(items)
    drive.uses(items)
    assert drive.wasted < 50


@pytest.mark.parametrize("n", [10, 30, 100, 300])
def test_a_random_half_of_a_small_directory(n: int) -> None:
    """There everything is near everything: still bounded."""
    drive = Drive(n)
    drive.uses(random.Random(n).sample(range(n), n // 2))
    assert drive.wasted <= min(n // 2, 2 * 16 + 1 + drive.served // 2)


def test_one_file_here_and_there_fetches_nothing() -> None:
    """A jump needs a new streak."""
    drive = Drive(1000)
    drive.uses([(n * 377) % 1000 for n in range(60)])
    assert not drive.fetched


# Costs


def test_large_items_are_as_if_they_were_not_there() -> None:
    """Never fetched; the order does not break at them, whether they are used or not."""
    for used in (True, False):
        drive = Drive(300, sizes=[10 * KIB, 100 * MIB, 10 * KIB])
        drive.uses([item for item in range(300) if used or item % 3 != 1])
        assert drive.served == 198
        assert all(item % 3 != 1 for item in drive.fetched)


def test_bytes_are_bounded() -> None:
    """Files of 4 MiB: eight are outstanding, no more."""
    drive = Drive(100, sizes=[4 * MIB])
    for item in range(50):
        drive.use(item)
        assert len(drive.fetched.keys() - drive.used) <= 8
    assert drive.served == 48


def test_equal_orders_count_once() -> None:
    """Most listings are sorted by name."""
    walk = Walk([list(range(9)), list(range(9))], cost=lambda _: 1)
    assert len(walk._orders) == 2  # forwards, backwards


def test_ten_thousand_items() -> None:
    """Built in milliseconds, a use costs microseconds; the bounds are ten times what was measured."""
    began = time.perf_counter()
    drive = Drive(10_000)
    built = time.perf_counter()
    drive.uses(range(10_000))
    assert built - began < 0.1
    assert time.perf_counter() - built < 1.5
    assert drive.served == 9998


@st.composite
def orders_of_use(draw: st.DrawFn) -> tuple[int, list[int]]:
    """A directory, and stretches of uses: forwards, backwards, with steps, shuffled, repeated."""
    n = draw(st.integers(1, 300))
    uses: list[int] = []
    for _ in range(draw(st.integers(1, 8))):
        start = draw(st.integers(0, n - 1))
        step = draw(st.sampled_from([1, 1, 1, -1, 2, 3, 7, -2]))
        stretch = [start + k * step for k in range(draw(st.integers(1, 80)))]
        stretch = [item for item in stretch if 0 <= item < n]
        uses += overtaking(stretch, draw(st.integers(1, 12))) if draw(st.booleans()) else stretch
    if draw(st.booleans()):
        draw(st.randoms()).shuffle(uses)
    return n, uses


@given(orders_of_use(), st.integers(1, 20), st.lists(st.integers(0, 5 * MIB), min_size=1, max_size=5))
def test_any_order_of_use(case: tuple[int, list[int]], most: int, sizes: list[int]) -> None:
    """Nothing is fetched twice, or once used, or too large; outstanding and wasted are bounded."""
    n, uses = case
    drive = Drive(n, sizes=sizes, most=most)
    for item in uses:
        drive.use(item)
        assert len(drive.walk._outstanding) <= most
        assert drive.walk._outstanding_cost <= 32 * MIB
        assert drive.walk._outstanding_cost == sum(map(drive.cost, drive.walk._outstanding))
        unused = drive.fetched.keys() - drive.used
        assert len(unused) <= 2 * most + 1 + len(drive.fetched.keys() & drive.used) // 2 + most
    assert all(drive.cost(item) <= 4 * MIB for item in drive.fetched)
