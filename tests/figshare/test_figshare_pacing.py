from __future__ import annotations

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from figfs.figshare.pacing import Pacer, Priority, Urgency


async def test_burst_then_rate(autojump_clock: MockClock) -> None:
    """A burst goes at once, what follows at the rate."""
    pacer = Pacer(2, 3)
    start = trio.current_time()
    times = []
    for _ in range(7):
        await pacer.acquire()
        times.append(round(trio.current_time() - start, 3))
    assert times == [0, 0, 0, 0.5, 1, 1.5, 2]


async def test_a_pause_fills_the_bucket_up_to_the_burst(autojump_clock: MockClock) -> None:
    """Time unused is not saved up beyond the burst."""
    pacer = Pacer(1, 2)
    await trio.sleep(100)
    start = trio.current_time()
    for _ in range(3):
        await pacer.acquire()
    assert trio.current_time() - start == pytest.approx(1)


async def test_rate_zero_is_no_pacing(autojump_clock: MockClock) -> None:
    """10,000 requests take no time."""
    pacer = Pacer(0, 1)
    start = trio.current_time()
    for _ in range(10_000):
        await pacer.acquire(Priority.BACKGROUND)
    assert trio.current_time() == start


async def test_interactive_before_background_and_in_order(autojump_clock: MockClock) -> None:
    """Whoever waits for a person goes first; equals go in the order of asking."""
    pacer = Pacer(1, 1)
    await pacer.acquire()
    order: list[str] = []

    async def ask(name: str, priority: Priority) -> None:
        await pacer.acquire(priority)
        order.append(name)

    async with trio.open_nursery() as nursery:
        for name in ("b1", "b2", "i1", "i2", "b3"):
            nursery.start_soon(ask, name, Priority.BACKGROUND if name[0] == "b" else Priority.INTERACTIVE)
            await wait_all_tasks_blocked()
        assert pacer.waiting == 5
    assert order == ["i1", "i2", "b1", "b2", "b3"]
    assert pacer.waiting == 0


async def test_cancellation_takes_no_token(autojump_clock: MockClock) -> None:
    """Whoever gives up leaves the token to the next, and wakes it in time."""
    pacer = Pacer(1, 1)
    await pacer.acquire()
    start = trio.current_time()
    got: list[float] = []

    async def ask() -> None:
        await pacer.acquire(Priority.BACKGROUND)
        got.append(trio.current_time() - start)

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.5) as scope:
            nursery.start_soon(ask)
            await pacer.acquire(Priority.INTERACTIVE)
        assert scope.cancelled_caught
    assert got == [pytest.approx(1)]


async def test_what_somebody_waits_for_now_goes_first(autojump_clock: MockClock) -> None:
    """Not what was asked before it, and nobody waits for."""
    pacer = Pacer(1, 1)
    await pacer.acquire()
    went: list[str] = []
    urgency = Urgency(Priority.BACKGROUND)

    async def ask(name: str, urgency: Urgency) -> None:
        await pacer.acquire(urgency)
        went.append(name)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(ask, str(number), Urgency(Priority.BACKGROUND))
            await wait_all_tasks_blocked()
        nursery.start_soon(ask, "wanted", urgency)
        await wait_all_tasks_blocked()
        pacer.hurry(urgency)
    assert went == ["wanted", *"01234"]
    assert trio.current_time() == pytest.approx(6)


async def test_a_cancelled_acquire_returns_nothing() -> None:
    """acquire() is a checkpoint even when a token is there, and then takes none."""
    pacer = Pacer(1, 1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await pacer.acquire()
    assert scope.cancelled_caught
    with trio.fail_after(1):
        await pacer.acquire()


async def test_pause_holds_everybody_up(autojump_clock: MockClock) -> None:
    """After "too many" nothing goes for the time asked, and then only at the rate; also without pacing."""
    for pacer in (Pacer(10, 5), Pacer(0, 1)):
        start = trio.current_time()
        pacer.pause(30)
        pacer.pause(3)  # a shorter one does not shorten it
        await pacer.acquire()
        assert trio.current_time() - start == pytest.approx(30)
    paced = Pacer(1, 5)
    paced.pause(10)
    start = trio.current_time()
    for _ in range(3):
        await paced.acquire()
    assert trio.current_time() - start == pytest.approx(12)


async def test_pause_reaches_who_waits_already(autojump_clock: MockClock) -> None:
    """A pause that begins while somebody waits for the next token holds for that one, too."""
    pacer = Pacer(1, 1)
    await pacer.acquire()
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pacer.acquire)
        await trio.sleep(0.5)
        pacer.pause(10)
    assert trio.current_time() - start == pytest.approx(10.5)


@settings(deadline=None, max_examples=40)
@given(
    rate=st.floats(0.1, 50),
    burst=st.integers(1, 10),
    starts=st.lists(
        st.tuples(st.floats(0, 5), st.sampled_from(Priority), st.none() | st.floats(0, 3)), max_size=25
    ),
)
def test_never_more_than_burst_plus_rate(
    rate: float, burst: int, starts: list[tuple[float, Priority, float | None]]
) -> None:
    """In any window at most burst + rate * time requests go, and all go, also with cancellations."""
    times: list[float] = []

    async def ask(pacer: Pacer, delay: float, priority: Priority, patience: float | None) -> None:
        await trio.sleep(delay)
        with trio.move_on_after(float("inf") if patience is None else patience):
            await pacer.acquire(priority)
            times.append(trio.current_time())

    async def main() -> None:
        pacer = Pacer(rate, burst)
        async with trio.open_nursery() as nursery:
            for start in starts:
                nursery.start_soon(ask, pacer, *start)
        assert pacer.waiting == 0

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert len(times) >= sum(1 for start in starts if start[2] is None)
    for i, first in enumerate(times):
        for j, last in enumerate(times[i:]):
            assert j + 1 <= burst + rate * (last - first) + 0.01
