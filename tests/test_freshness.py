"""Public articles whose portal tells what has changed (ResourceSync): what that saves, and when it is not
believed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import math
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from inprocess import BASE, World, errno_of, fast_clock, open_world
from trio.testing import MockClock

from figfs.errors import NotFound
from figfs.figshare.records import ArticleDetails
from figfs.namespace import freshness
from figfs.namespace.nodes import Container
from figfs.sandbox import articles, history, seed, withdrawing
from figfs.sandbox.app import open_sandbox
from figfs.sandbox.state import Sandbox

FROGS = 20000005
TIMEOUT = 100.0  #: seconds for which a listing is fresh here
DISCOVERY = [
    "GET /.well-known/resourcesync",
    "GET /figshareresourcesync/capabilitylist.xml",
]
LOOK = ["GET /figshareresourcesync/changelist.xml"]


@contextlib.asynccontextmanager
async def figshare(clock: MockClock, count: int) -> AsyncIterator[tuple[Sandbox, list[int]]]:
    """A sandbox with so many public articles; they were published a while ago."""
    async with open_sandbox(base_url=BASE, seed="empty") as sandbox:
        yield sandbox, await seed.bulk(sandbox, count=count, files=[100], published=True)


def mounted(directory: Path, sandbox: Sandbox) -> contextlib.AbstractAsyncContextManager[World]:
    return open_world(directory, sandbox=sandbox, dir_timeout=TIMEOUT, timeout=1_000_000)


@contextlib.asynccontextmanager
async def portal(tmp_path: Path, clock: MockClock, count: int) -> AsyncIterator[tuple[World, list[int]]]:
    """A mount of it."""
    async with figshare(clock, count) as (sandbox, ids), mounted(tmp_path / "mount", sandbox) as world:
        yield world, ids


def publish(sandbox: Sandbox, number: int) -> None:
    """A new version, with another file."""
    row = articles.own(sandbox, number)
    articles.publish(sandbox, row)


async def rename(w: World, number: int, title: str) -> None:
    """And publish it so."""
    articles.update(w.sandbox, articles.own(w.sandbox, number), {"title": title})
    publish(w.sandbox, number)


async def show(w: World, ids: list[int]) -> list[str]:
    """``ls`` of each, once all that is asked for has been answered; what that has cost."""
    w.wire.asked.clear()
    for number in ids:
        await w.ls(f"public/articles/{number}")
    return list(w.wire.asked)


async def behind(w: World) -> None:
    """Wait for what is asked for behind what is shown."""
    while w.listings._loading:  # noqa: ASYNC110 (there is no event for "nothing is loaded any more")
        await trio.sleep(0.1)


def pass_time(clock: MockClock, seconds: float = TIMEOUT + 1) -> None:
    """No request is under way."""
    clock.jump(seconds)


def items(ids: list[int]) -> list[str]:
    return [f"GET /v2/articles/{number}" for number in ids]


async def version(w: World, number: int) -> int | None:
    node = await w.node(f"public/articles/{number}")
    assert isinstance(node, Container)
    assert isinstance(node.record, ArticleDetails)
    return node.record.version


async def test_many_articles_cost_one_request(tmp_path: Path, clock: MockClock) -> None:
    """Fifty, of which nothing has changed: the list of changes, and none of them. What that takes to find
    is asked once.
    """
    async with portal(tmp_path, clock, 50) as (w, ids):
        assert await show(w, ids) == items(ids)
        pass_time(clock)
        assert await show(w, ids) == DISCOVERY + LOOK
        for _ in range(3):
            pass_time(clock)
            assert await show(w, ids) == LOOK
        assert await show(w, ids) == []


async def test_what_has_changed_is_asked_for(tmp_path: Path, clock: MockClock) -> None:
    """A new version: the list, and that article, a second time a little later: the first answer may have
    come from before the change. What is shown is what it is now.
    """
    async with portal(tmp_path, clock, 20) as (w, ids):
        await show(w, ids)
        pass_time(clock)
        await rename(w, ids[7], "Another title")
        assert await show(w, ids) == DISCOVERY + LOOK + items(ids[7:8])
        assert await version(w, ids[7]) == 2
        pass_time(clock)
        assert await show(w, ids) == LOOK + items(ids[7:8])
        pass_time(clock)
        assert await show(w, ids) == LOOK


async def test_what_was_withdrawn_is_gone(tmp_path: Path, clock: MockClock) -> None:
    """The list says so, the article itself proves it; as anywhere else a second 404 is remembered."""
    async with portal(tmp_path, clock, 5) as (w, ids):
        await show(w, ids)
        pass_time(clock)
        withdrawing.withdraw(w.sandbox, ids[2])
        w.wire.asked.clear()
        with contextlib.suppress(NotFound):
            await w.ls(f"public/articles/{ids[2]}")  # shown a last time, perhaps, while it is asked for
        assert w.wire.asked[:4] == DISCOVERY + LOOK + items(ids[2:3])
        for _ in range(3):
            with errno_of(errno.ENOENT):
                await w.node(f"public/articles/{ids[2]}")
        assert w.wire.asked[4:] == items(ids[2:3])


async def test_a_remount(tmp_path: Path, clock: MockClock) -> None:
    """What an earlier mount has kept is compared with the list, but for a few that are asked for anyway."""
    async with figshare(clock, 30) as (sandbox, ids):
        async with mounted(tmp_path / "mount", sandbox) as w:
            await show(w, ids)
            await rename(w, ids[20], "Another title")
            await trio.sleep(1)  # until they are on the disk
        clock.jump(20 * freshness.HOUR)
        async with mounted(tmp_path / "mount", sandbox) as w:
            await show(w, ids)
            await behind(w)
            assert [line for line in w.wire.asked if "/v2/" not in line] == DISCOVERY + LOOK
            assert w.wire.count("GET", f"/articles/{ids[20]}$") == 1
            assert len(w.wire.asked) < 12
            assert await version(w, ids[20]) == 2
            pass_time(clock)
            assert len(await show(w, ids)) < 8


async def test_what_was_kept_for_long_is_asked_for(tmp_path: Path, clock: MockClock) -> None:
    """After a day the list is no ground to stand on."""
    async with figshare(clock, 5) as (sandbox, ids):
        async with mounted(tmp_path / "mount", sandbox) as w:
            await show(w, ids)
            await trio.sleep(1)
        clock.jump(25 * freshness.HOUR)
        async with mounted(tmp_path / "mount", sandbox) as w:
            await show(w, ids)
            await behind(w)
            assert set(items(ids)) <= set(w.wire.asked)


# ---- when it is not asked ------------------------------------------------------------


async def test_a_portal_without_it_costs_one_request(tmp_path: Path, clock: MockClock) -> None:
    """The real world's default: each article by itself, as ever, and one question a mount."""
    async with portal(tmp_path, clock, 6) as (w, ids):
        w.sandbox.settings.change({"resourcesync": False})
        assert await show(w, ids) == items(ids)
        pass_time(clock)
        assert await show(w, ids) == DISCOVERY[:1] + items(ids)
        for _ in range(3):
            pass_time(clock)
            assert await show(w, ids) == items(ids)


async def test_few_articles_are_asked_for_themselves(tmp_path: Path, clock: MockClock) -> None:
    """Two of them cost less than finding the list; a version costs nothing in any case."""
    async with portal(tmp_path, clock, 2) as (w, ids):
        for _ in range(3):
            assert await show(w, ids) == items(ids)
            await w.ls(f"public/articles/{ids[0]}.v1")
            pass_time(clock)
        assert w.wire.count("GET", "resourcesync") == 0


async def test_a_list_that_is_dearer_than_the_articles(
    tmp_path: Path, clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is read once, and then when so many articles are in use that it pays."""
    monkeypatch.setattr(freshness, "ARTICLE_BYTES", 100)
    async with portal(tmp_path, clock, 40) as (w, ids):
        await show(w, ids[:5])
        pass_time(clock)
        assert await show(w, ids[:5]) == DISCOVERY + LOOK
        pass_time(clock)
        assert await show(w, ids[:5]) == items(ids[:5])


async def test_who_does_not_use_public_asks_nothing(tmp_path: Path, clock: MockClock) -> None:
    async with portal(tmp_path, clock, 5) as (w, _ids):
        for _ in range(2):
            await w.ls("articles")
            await w.ls("public/articles")
            pass_time(clock)
        assert w.wire.count("GET", "resourcesync") == 0


async def test_an_article_is_asked_for_once_an_hour(tmp_path: Path, clock: MockClock) -> None:
    """Whatever lists say, they are believed so long."""
    async with portal(tmp_path, clock, 4) as (w, ids):
        await show(w, ids)
        asked = await _in_an_hour(w, clock, ids)
        assert [line for line in asked if "/v2/" in line] == items(ids)
        assert asked.count(LOOK[0]) > 30


async def _in_an_hour(w: World, clock: MockClock, ids: list[int]) -> list[str]:
    asked: list[str] = []
    begin = trio.current_time()
    while trio.current_time() < begin + freshness.TRUSTED + TIMEOUT:
        pass_time(clock)
        asked += await show(w, ids)
    return asked


async def test_refresh_asks_the_article_itself(tmp_path: Path, clock: MockClock) -> None:
    """``figfs refresh`` is an order, not a question of age."""
    async with portal(tmp_path, clock, 4) as (w, ids):
        await show(w, ids)
        w.wire.asked.clear()
        await w.refreshed(f"public/articles/{ids[0]}")
        assert w.wire.asked == items(ids[:1])


async def test_an_embargo_is_asked_for(tmp_path: Path, clock: MockClock) -> None:
    """It ends without a change."""
    async with portal(tmp_path, clock, 4) as (w, ids):
        withdrawing.embargo_files(w.sandbox, ids[0], "2100-01-01T00:00:00")
        pass_time(clock)
        await show(w, ids)
        pass_time(clock)
        assert await show(w, ids) == items(ids[:1]) + DISCOVERY + LOOK
        pass_time(clock)
        assert await show(w, ids) == items(ids[:1]) + LOOK


async def test_collections_are_asked_for(tmp_path: Path, clock: MockClock) -> None:
    """What they show depends on their articles; a change of one says nothing of any article."""
    async with portal(tmp_path, clock, 4) as (w, ids):
        history.record(w.sandbox.store, "collections", ids[0], "updated", w.sandbox.clock.stamp())
        await show(w, ids)
        pass_time(clock)
        assert await show(w, ids) == DISCOVERY + LOOK


# ---- when it is not believed ------------------------------------------------------------


async def test_a_list_that_does_not_go_back_far_enough(tmp_path: Path, clock: MockClock) -> None:
    """What was asked for before its beginning is asked for again; after that the list is of use."""
    async with portal(tmp_path, clock, 5) as (w, ids):
        await show(w, ids)
        w.sandbox.settings.change({"changes_kept": 150})
        pass_time(clock, 200)
        await rename(w, ids[0], "Another title")
        assert await show(w, ids) == DISCOVERY + LOOK + items(ids)
        assert await version(w, ids[0]) == 2


async def test_an_index_is_read_as_far_as_it_matters(tmp_path: Path, clock: MockClock) -> None:
    """Two requests where the latest part goes back to when the articles were asked for, more where not."""
    async with portal(tmp_path, clock, 5) as (w, ids):
        w.sandbox.settings.change({"resourcesync_entries": 2})
        await show(w, ids)
        pass_time(clock)
        await rename(w, ids[0], "Another title")
        part = "GET /figshareresourcesync/changelist-{}.xml"
        asked = DISCOVERY + LOOK + [part.format(2)] + items(ids[:1])
        assert await show(w, ids) == asked
        for number in ids[1:4]:
            await rename(w, number, "Another title")
        pass_time(clock)
        asked = LOOK + [part.format(n) for n in (2, 3, 4)]
        assert sorted(await show(w, ids)) == sorted(asked + items(ids[:4]))


async def test_an_index_with_a_part_that_is_missing(tmp_path: Path, clock: MockClock) -> None:
    """A gap is no reason to believe; the portal is left alone for an hour."""
    async with portal(tmp_path, clock, 5) as (w, ids):
        w.sandbox.settings.change({"resourcesync_entries": 2})
        await show(w, ids)
        pass_time(clock)
        w.faults({"role": "resourcesync", "path": "changelist-", "action": "status", "status": 503})
        await rename(w, ids[4], "Another title")
        asked = await show(w, ids)
        assert asked[:3] == DISCOVERY + LOOK
        assert asked[4:] == items(ids)
        pass_time(clock)
        assert await show(w, ids) == items(ids)
        assert await version(w, ids[4]) == 2


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "status", "status": 503},
        {"action": "status", "status": 301, "headers": {"Location": "https://example.org/"}},
        {"action": "html"},
        {"action": "empty_202"},
        {"action": "corrupt"},
        {"action": "cut", "bytes": 100},
        {"action": "hang"},
    ],
    ids=lambda fault: fault.get("status", fault["action"]),
)
@pytest.mark.parametrize("path", ["/.well-known/", "capabilitylist", "changelist"])
async def test_trouble_with_the_portal(
    tmp_path: Path, clock: MockClock, path: str, fault: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """Each article is asked for as ever, nobody hears of it, and the portal is not asked again soon."""
    caplog.set_level(logging.INFO)
    async with portal(tmp_path, clock, 4) as (w, ids):
        await show(w, ids)
        pass_time(clock)
        w.faults({"role": "resourcesync", "path": path, **fault})
        await rename(w, ids[0], "Another title")
        asked = await show(w, ids)
        assert asked[-4:] == items(ids)
        assert len(asked) <= 7
        assert await version(w, ids[0]) == 2
        pass_time(clock)
        assert await show(w, ids) == items(ids)
    said = [record for record in caplog.records if "one by one" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.INFO]
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_a_list_that_keeps_silent_is_not_believed_for_long(
    tmp_path: Path, clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A change that the list does not tell of is seen within the hour, and then the list is left alone."""
    caplog.set_level(logging.INFO)
    async with portal(tmp_path, clock, 4) as (w, ids):
        await show(w, ids)
        pass_time(clock)
        await rename(w, ids[0], "Another title")
        w.sandbox.store.run("DELETE FROM public_changes WHERE change = 'updated'")
        assert await show(w, ids) == DISCOVERY + LOOK
        await _in_an_hour(w, clock, ids)
        assert await version(w, ids[0]) == 2
        assert f"does not tell of a change of article {ids[0]}" in caplog.text
        pass_time(clock)
        assert await show(w, ids) == items(ids)


async def test_a_list_of_no_use_is_left_alone(
    tmp_path: Path, clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Where all is always changing, or nobody can tell what, a list saves nothing."""
    caplog.set_level(logging.INFO)
    async with portal(tmp_path, clock, 4) as (w, ids):
        looks = 0
        for _ in range(7):
            history.record(w.sandbox.store, "things", 1, "updated", w.sandbox.clock.stamp())
            asked = await show(w, ids)
            assert [line for line in asked if "/v2/" in line] == items(ids)
            looks += asked.count(LOOK[0])
            pass_time(clock)
        assert looks == freshness.MOST_VAIN
        assert "of no use" in caplog.text


async def test_what_the_list_says_is_never_shown(tmp_path: Path, clock: MockClock) -> None:
    """An article that it calls deleted and that is there stays there."""
    async with portal(tmp_path, clock, 4) as (w, ids):
        await show(w, ids)
        pass_time(clock)
        history.record(w.sandbox.store, "articles", ids[1], "deleted", w.sandbox.clock.stamp())
        assert await show(w, ids) == DISCOVERY + LOOK + items(ids[1:2])
        assert await w.ls(f"public/articles/{ids[1]}") == ["file-0001.bin"]


async def test_all_who_wait_share_one_look(tmp_path: Path, clock: MockClock) -> None:
    async with portal(tmp_path, clock, 6) as (w, ids):
        await show(w, ids)
        pass_time(clock)
        w.wire.asked.clear()
        gate = w.wire.hold("GET", "changelist")
        async with trio.open_nursery() as nursery:
            for number in ids:
                nursery.start_soon(w.ls, f"public/articles/{number}")
            await gate.reached.wait()
            gate.open()
        assert w.wire.asked == DISCOVERY + LOOK


async def test_no_token_goes_to_a_portal(tmp_path: Path, clock: MockClock) -> None:
    """Not even to that of the API's own origin."""
    async with portal(tmp_path, clock, 4) as (w, ids):
        seen: list[httpx.Request] = []
        handle = w.wire.handle_async_request

        async def note(request: httpx.Request) -> httpx.Response:
            seen.append(request)
            return await handle(request)

        w.wire.handle_async_request = note  # type: ignore[method-assign]
        await show(w, ids)
        pass_time(clock)
        await show(w, ids)
        asked = [request for request in seen if "resourcesync" in request.url.path]
        assert len(asked) == 3
        for request in asked:
            assert "authorization" not in request.headers
            assert w.sandbox.token not in str(request.url)


# ---- whatever happens ------------------------------------------------------------

NUMBERS = st.integers(0, 4)
STEPS = st.one_of(
    st.tuples(st.just("publish"), NUMBERS),
    st.tuples(st.just("withdraw"), NUMBERS),
    st.tuples(st.just("pass"), st.sampled_from([1, 30, 61, 101, 150, 1000, 4000])),
    st.tuples(st.just("show"), st.just(0)),
    st.tuples(st.just("remount"), st.just(0)),
    st.tuples(st.just("set"), st.sampled_from([
        {"resourcesync_entries": 1}, {"resourcesync_entries": 50_000}, {"changes_kept": 200},
        {"changes_kept": None}, {"resourcesync": False}, {"resourcesync": True},
    ])),
)  # fmt: skip


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS, max_size=25))
@example([("show", 0), ("set", {"changes_kept": 200}), ("publish", 0), ("pass", 1000), ("show", 0)])
@example([("show", 0), ("withdraw", 1), ("publish", 2), ("remount", 0), ("pass", 4000), ("show", 0)])
def test_what_is_shown_is_never_older_than_it_may_be(steps: list[tuple[str, Any]]) -> None:
    """Versions come and items go; lists are long, short, forgetful, there or not: who looks sees what was
    true a ``dir_timeout`` ago, or later.
    """
    clock = fast_clock()

    async def main() -> None:
        with tempfile.TemporaryDirectory() as directory:
            async with figshare(clock, 5) as (sandbox, ids):
                past: list[tuple[float, dict[int, int]]] = [(-math.inf, dict.fromkeys(ids, 1))]
                left = list(steps)
                while left:
                    async with mounted(Path(directory) / "mount", sandbox) as w:
                        await _run(w, clock, ids, left, past)
                        await trio.sleep(1)  # until it is on the disk

    trio.run(main, clock=clock)


async def _run(
    w: World,
    clock: MockClock,
    ids: list[int],
    left: list[tuple[str, Any]],
    past: list[tuple[float, dict[int, int]]],
) -> None:
    """Steps until the next remount. ``past``: versions from a time on, 0 for what is not public."""
    while left:
        act, what = left.pop(0)
        versions = dict(past[-1][1])
        if act == "publish":
            publish(w.sandbox, ids[what])
            versions[ids[what]] += 1
        elif act == "withdraw" and versions[ids[what]]:
            withdrawing.withdraw(w.sandbox, ids[what])
            versions[ids[what]] = 0
        elif act == "pass":
            clock.jump(what)
        elif act == "set":
            w.sandbox.settings.change(what)
        elif act == "remount":
            return
        elif act == "show":
            for number in ids:
                await _check(w, number, past)
        if versions != past[-1][1]:
            past.append((trio.current_time(), versions))


async def _check(w: World, number: int, past: list[tuple[float, dict[int, int]]]) -> None:
    path = f"public/articles/{number}"
    with contextlib.suppress(OSError, NotFound):
        await w.ls(path)  # what is from disk may be shown before it is refreshed
        await behind(w)
    now = trio.current_time()
    try:
        seen = await version(w, number) or 0
    except OSError:
        seen = 0
    ends = [began for began, _ in past[1:]] + [math.inf]
    true = {
        versions[number] for (_, versions), end in zip(past, ends, strict=True) if end >= now - TIMEOUT - 5
    }
    assert seen in true, f"{number}: version {seen} is shown, {true} are true"
