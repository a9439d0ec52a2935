"""The way from a portal's well-known address to what has changed, on a scripted server: which documents are
asked for, and what a server may send without any harm.
"""

from __future__ import annotations

import datetime
import itertools
import math
import random
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from figfs.errors import BadAnswer, NotFound, RemoteError, TooSlow
from figfs.figshare import resourcesync, sitemaps
from figfs.figshare.client import open_client
from figfs.figshare.resourcesync import find_lists, portal_of, read_lists

Connect = Callable[..., Any]

API = "https://api.figshare.com/v2"
PORTAL = "https://portal.test"
WELL_KNOWN = f"{PORTAL}/.well-known/resourcesync"
HEAD = 'xmlns="http://www.sitemaps.org/schemas/sitemap/0.9" xmlns:rs="http://www.openarchives.org/rs/terms/"'
NOON = 1716206400.0  # 2024-05-20T12:00:00Z
DATE = "Mon, 20 May 2024 12:00:00 GMT"


def document(
    capability: str, entries: list[tuple[str, str]], *, index: bool = False, **period: str
) -> httpx.Response:
    """``entries``: address, and the attributes of its ``rs:md``."""
    root, each = ("sitemapindex", "sitemap") if index else ("urlset", "url")
    attributes = "".join(f' {name.strip("_")}="{value}"' for name, value in period.items())
    inside = "".join(f"<{each}><loc>{place}</loc><rs:md {more}/></{each}>" for place, more in entries)
    body = f'<{root} {HEAD}><rs:md capability="{capability}"{attributes}/>{inside}</{root}>'
    return httpx.Response(200, content=body.encode(), headers={"Date": DATE})


def description(*lists: str) -> httpx.Response:
    return document("description", [(place, 'capability="capabilitylist"') for place in lists])


def capabilities(**lists: str) -> httpx.Response:
    return document("capabilitylist", [(place, f'capability="{name}"') for name, place in lists.items()])


def site(pages: dict[str, Any]) -> Callable[[httpx.Request], Any]:
    """404 for all else."""

    def answer(request: httpx.Request) -> Any:
        return pages.get(str(request.url), 404)

    return answer


def changed(number: object, date: str) -> tuple[str, str]:
    return f"{PORTAL}/articles/_/{number}", f'change="updated" datetime="{date}"'


# ---- which portal ------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "portal"),
    [
        ("https://figshare.com/articles/dataset/x/1", "https://figshare.com"),
        ("https://Data.Uni-Example.EDU:443/articles/1", "https://data.uni-example.edu"),
        ("https://api.figshare.com/x", "https://api.figshare.com"),
        ("http://figshare.com/articles/1", None),
        ("https://figshare.com:8443/articles/1", None),
        ("https://127.0.0.1/articles/1", None),
        ("https://[::1]/articles/1", None),
        ("https://169.254.169.254/latest", None),
        ("https://2130706433/", None),
        ("https://localhost/articles/1", None),
        ("https://router/articles/1", None),
        ("https://user:secret@figshare.com/1", "https://figshare.com"),
        ("ftp://figshare.com/1", None),
        ("file:///etc/passwd", None),
        ("https://a..b/1", None),
        ("https://" + "a." * 200 + "com/1", None),
        ("https://figshare.com:99999999/", None),
        ("https://[", None),
        ("", None),
    ],
)
def test_which_portals_are_asked(page: str, portal: str | None) -> None:
    """Hosts of the internet, by https: no address, no port, no name of a local network."""
    assert portal_of(page, API) == portal


def test_a_sandbox_leads_to_no_other_server() -> None:
    api = "http://127.0.0.1:8100/v2"
    assert portal_of("http://127.0.0.1:8100/articles/_/1", api) == "http://127.0.0.1:8100"
    for page in ("https://figshare.com/articles/1", "http://127.0.0.1:8101/articles/_/1"):
        assert portal_of(page, api) is None


# ---- finding the lists ------------------------------------------------------------


async def test_from_the_well_known_address(connect: Connect, secret: str) -> None:
    """Description, capabilities, change list: two requests find it, without a token."""
    pages = {
        WELL_KNOWN: description(f"{PORTAL}/cap.xml"),
        f"{PORTAL}/cap.xml": capabilities(resourcelist=f"{PORTAL}/r.xml", changelist=f"{PORTAL}/c.xml"),
    }
    async with connect(site(pages)) as (client, server):
        assert await find_lists(client, PORTAL) == (f"{PORTAL}/c.xml",)
        assert [str(request.url) for request in server.requests] == list(pages)
        for request in server.requests:
            assert "authorization" not in request.headers
            assert secret not in str(request.headers)


async def test_several_sets_of_items(connect: Connect) -> None:
    """An item may be in any, so all lists are needed; a set without a list spoils it."""
    pages = {
        WELL_KNOWN: description(f"{PORTAL}/1.xml", f"{PORTAL}/2.xml"),
        f"{PORTAL}/1.xml": capabilities(changelist=f"{PORTAL}/c1.xml"),
        f"{PORTAL}/2.xml": capabilities(changelist=f"{PORTAL}/c2.xml"),
    }
    async with connect(site(pages)) as (client, _):
        assert await find_lists(client, PORTAL) == (f"{PORTAL}/c1.xml", f"{PORTAL}/c2.xml")
    pages[f"{PORTAL}/2.xml"] = capabilities(resourcelist=f"{PORTAL}/r2.xml")
    async with connect(site(pages)) as (client, _):
        assert await find_lists(client, PORTAL) == ()


async def test_an_index_of_descriptions(connect: Connect) -> None:
    pages = {
        WELL_KNOWN: document("description", [(f"{PORTAL}/d.xml", "")], index=True),
        f"{PORTAL}/d.xml": description(f"{PORTAL}/cap.xml"),
        f"{PORTAL}/cap.xml": capabilities(changelist=f"{PORTAL}/c.xml"),
    }
    async with connect(site(pages)) as (client, _):
        assert await find_lists(client, PORTAL) == (f"{PORTAL}/c.xml",)


@pytest.mark.parametrize(
    "place",
    [
        "https://elsewhere.test/cap.xml",
        "http://portal.test/cap.xml",
        "https://portal.test:8443/cap.xml",
        "https://user:secret@portal.test/cap.xml",
        "file:///etc/passwd",
        "/cap.xml",
        "https://portal.test/cap.xml#x",
        "https://portal.test/c\N{LATIN SMALL LETTER A WITH DIAERESIS}p.xml",
        "https://portal.test/a b",
        "",
    ],
)
async def test_nothing_leads_elsewhere(connect: Connect, place: str) -> None:
    """Other origins, other schemes, secrets in an address: not asked for at all."""
    async with connect(site({WELL_KNOWN: description(place)})) as (client, server):
        with pytest.raises(BadAnswer, match="leads elsewhere"):
            await find_lists(client, PORTAL)
        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (404, NotFound),
        (403, RemoteError),
        (500, RemoteError),
        (httpx.Response(302, headers={"Location": f"{PORTAL}/elsewhere"}), BadAnswer),
        (httpx.Response(202, headers={"x-amzn-waf-action": "challenge"}), RemoteError),
        (httpx.Response(200, content=b"<!DOCTYPE html><html/>", headers={"Date": DATE}), BadAnswer),
        (httpx.Response(200, content=b"", headers={"Date": DATE}), BadAnswer),
        (httpx.Response(200, content=document("description", []).read()), BadAnswer),  # no date
        (document("resourcelist", []), BadAnswer),
        (document("", []), BadAnswer),
        (httpx.Response(200, content=b" " * (sitemaps.LARGEST + 1), headers={"Date": DATE}), BadAnswer),
    ],
)
async def test_no_resourcesync(connect: Connect, answer: Any, error: type[Exception]) -> None:
    """One request, not repeated."""
    async with connect(answer) as (client, server):
        with pytest.raises(error):
            await find_lists(client, PORTAL)
        assert len(server.requests) == 1


async def test_documents_in_a_circle(connect: Connect) -> None:
    """Each is read once."""
    pages = {
        WELL_KNOWN: document("description", [(f"{PORTAL}/d.xml", "")], index=True),
        f"{PORTAL}/d.xml": document("description", [(WELL_KNOWN, "")], index=True),
    }
    async with connect(site(pages)) as (client, server):
        assert await find_lists(client, PORTAL) == ()
        assert len(server.requests) == 2


async def test_documents_without_end(connect: Connect) -> None:
    """So many, and no more."""

    def answer(request: httpx.Request) -> httpx.Response:
        return document("description", [(f"{request.url}x", "")], index=True)

    async with connect(answer) as (client, server):
        with pytest.raises(BadAnswer, match="more than"):
            await find_lists(client, PORTAL)
        assert len(server.requests) == resourcesync.MOST_DOCUMENTS


async def test_a_server_that_does_not_answer(connect: Connect, autojump_clock: object) -> None:
    """All documents together have so many seconds."""

    async def answer(request: httpx.Request) -> httpx.Response:
        await trio.sleep(4)
        return document("description", [(f"{request.url}x", "")], index=True)

    async with connect(answer) as (client, _):
        began = trio.current_time()
        with pytest.raises(TooSlow):
            await find_lists(client, PORTAL)
        assert trio.current_time() - began == pytest.approx(resourcesync.TIMEOUT)


# ---- reading the lists ------------------------------------------------------------

LIST = f"{PORTAL}/c.xml"
LATEST = "2024-05-20T11:30:00Z"


async def test_a_list_that_goes_on(connect: Connect) -> None:
    """Times as the server has them; the latest change of each; it covers all until now."""
    page = document(
        "changelist",
        [changed(*each) for each in ((1, "2024-05-20T10:00:00Z"), (2, "2024-05-20T11:00:00Z"), (1, LATEST))],
        from_="2024-05-01T00:00:00Z",
    )
    async with connect(site({LIST: page})) as (client, server):
        found = await read_lists(client, PORTAL, [LIST], 0)
        assert (found.since, found.until, found.date) == (1714521600.0, NOON, NOON)
        assert found.articles == {1: NOON - 1800, 2: NOON - 3600}
        assert found.unclear == -math.inf
        assert found.horizon == found.taken_at
        assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("headers", "period", "behind"),
    [
        ({}, {}, 0),
        ({}, {"until": "2024-05-20T11:59:00Z"}, 60),
        ({}, {"until": "2024-05-21T00:00:00Z"}, 0),  # in the future: it was written now
        ({"Last-Modified": "Mon, 20 May 2024 11:50:00 GMT"}, {}, 600),
        ({"Last-Modified": "Mon, 20 May 2024 13:00:00 GMT"}, {}, 0),
        ({"Last-Modified": "yesterday"}, {}, 0),
        ({"Age": "30"}, {}, 30),
        ({"Age": "-30"}, {}, 0),
        ({"Age": "9" * 50}, {}, 0),
        ({}, {"until": "never"}, math.inf),
    ],
)
async def test_until_when_a_list_tells(
    connect: Connect, headers: dict[str, str], period: dict[str, str], behind: float
) -> None:
    """At the earliest that its own words or the headers allow."""
    page = document("changelist", [], from_="2024-05-01T00:00:00Z", **period)
    page.headers.update(headers)
    async with connect(site({LIST: page})) as (client, _):
        found = await read_lists(client, PORTAL, [LIST], 0)
        assert found.taken_at - found.horizon == behind


async def test_what_nobody_can_tell(connect: Connect) -> None:
    """A change of something that is no item may be of any; one without a date may be of now."""
    page = document(
        "changelist",
        [(f"{PORTAL}/files/7", 'datetime="2024-05-20T10:00:00Z"'), changed(1, "lately")],
        from_="2024-05-01T00:00:00Z",
    )
    async with connect(site({LIST: page})) as (client, _):
        found = await read_lists(client, PORTAL, [LIST], 0)
        assert (found.unclear, found.articles) == (NOON - 7200, {1: math.inf})


def parts(*periods: tuple[str, str | None]) -> dict[str, httpx.Response]:
    """An index, and its parts, each with one change."""
    pages, entries = {}, []
    for number, (begin, end) in enumerate(periods, 1):
        period = {"from_": f"2024-05-{begin}T00:00:00Z"}
        more = f'from="{period["from_"]}"'
        if end is not None:
            period["until"] = f"2024-05-{end}T00:00:00Z"
            more += f' until="{period["until"]}"'
        place = f"{PORTAL}/c-{number}.xml"
        entries.append((place, more))
        pages[place] = document("changelist", [changed(number, f"2024-05-{begin}T01:00:00Z")], **period)
    pages[LIST] = document("changelist", entries, index=True, from_="2024-05-01T00:00:00Z")
    return pages


def day(number: int) -> float:
    return NOON + (number - 20) * 86400 - 43200


@pytest.mark.parametrize(
    ("periods", "since", "asked", "covered"),
    [
        ([("01", "10"), ("10", "15"), ("15", None)], 16, 2, 15),
        ([("01", "10"), ("10", "15"), ("15", None)], 12, 3, 10),
        ([("15", None), ("01", "10"), ("10", "15")], 1, 4, 1),  # in any order
        ([("01", "10"), ("12", "15"), ("15", None)], 1, 4, 12),  # a gap
        ([("01", None), ("05", None)], 1, 3, 5),  # beside each other: of other items, perhaps
        ([("01", "02")] * 9 + [("02", None)], 1, 8, 2),  # too many; what is unread is no ground
    ],
)
async def test_an_index(
    connect: Connect, periods: list[tuple[str, str | None]], since: int, asked: int, covered: int
) -> None:
    """As many parts as are needed and may be, and from when on they leave no gap."""
    async with connect(site(parts(*periods))) as (client, server):
        found = await read_lists(client, PORTAL, [LIST], day(since))
        assert (len(server.requests), found.since) == (asked, day(covered))


async def test_open_parts_that_are_not_read(connect: Connect) -> None:
    """Any of them may tell of what is asked about, so nothing is covered."""
    async with connect(site(parts(*[("01", None)] * 9))) as (client, _):
        assert (await read_lists(client, PORTAL, [LIST], 0)).since == math.inf


async def test_several_lists(connect: Connect) -> None:
    """What all of them cover."""
    first = document("changelist", [changed(1, "2024-05-20T10:00:00Z")], from_="2024-05-01T00:00:00Z")
    second = document(
        "changelist", [changed(1, "2024-05-20T11:00:00Z")], from_="2024-05-03", until="2024-05-20T11:59:30Z"
    )
    async with connect(site({f"{PORTAL}/1": first, f"{PORTAL}/2": second})) as (client, _):
        found = await read_lists(client, PORTAL, [f"{PORTAL}/1", f"{PORTAL}/2"], 0)
        assert (found.since, found.until) == (day(4), NOON - 30)
        assert found.articles == {1: NOON - 3600}


@pytest.mark.parametrize(
    "pages",
    [
        {LIST: document("resourcelist", [])},
        {LIST: document("resourcelist", [], index=True)},
        {LIST: document("changelist", [(LIST, "")], index=True)},  # an index of itself
        {LIST: document("changelist", [(f"{PORTAL}/missing", "")], index=True)},
        {LIST: document("changelist", [("https://elsewhere.test/", "")], index=True)},
        {
            LIST: document("changelist", [(f"{PORTAL}/1", "")], index=True),
            f"{PORTAL}/1": document("resourcelist", []),
        },
        {},
    ],
)
async def test_lists_that_are_none(connect: Connect, pages: dict[str, httpx.Response]) -> None:
    async with connect(site(pages)) as (client, server):
        with pytest.raises(RemoteError):
            await read_lists(client, PORTAL, [LIST], 0)
        assert len(server.requests) <= 2


async def test_an_index_of_nothing_covers_nothing(connect: Connect) -> None:
    page = document("changelist", [], index=True, from_="2024-05-01")
    async with connect(site({LIST: page})) as (client, _):
        found = await read_lists(client, PORTAL, [LIST], 0)
        assert (found.since, found.until) == (math.inf, -math.inf)


# ---- whatever the parts ------------------------------------------------------------


def at(minute: int) -> str:
    moment = datetime.datetime.fromtimestamp(NOON - 100_000 + 60 * minute, datetime.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@settings(max_examples=300, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(1, 6), st.integers(0, 1000)), max_size=30),
    cuts=st.lists(st.integers(1, 999), max_size=6, unique=True),
    shards=st.integers(1, 3),
    missing=st.sets(st.integers(0, 6)),
    wanted=st.just(0) | st.integers(0, 1000),
    order=st.randoms(use_true_random=False),
    told=st.booleans(),
)
def test_what_is_covered_is_told(
    changes: list[tuple[int, int]],
    cuts: list[int],
    shards: int,
    missing: set[int],
    wanted: int,
    order: random.Random,
    told: bool,
) -> None:
    """A history in parts, by time and by item, some periods missing, more than are read, in any order: of
    every change in the time that is said to be covered the answer knows.
    """
    bounds = [0, *sorted(cuts), None]
    pages: dict[str, httpx.Response] = {}
    entries = []
    for number, (begin, end) in enumerate(itertools.pairwise(bounds)):
        assert begin is not None
        if number in missing:
            continue
        period = {"from_": at(begin)} | ({} if end is None else {"until": at(end)})
        for shard in range(shards):
            place = f"{PORTAL}/{number}-{shard}.xml"
            inside = [
                changed(article, at(minute))
                for article, minute in changes
                if article % shards == shard and begin <= minute and (end is None or minute <= end)
            ]
            pages[place] = document("changelist", inside, **period)
            more = "".join(f' {name.strip("_")}="{value}"' for name, value in period.items())
            entries.append((place, more if told else ""))
    order.shuffle(entries)
    pages[LIST] = document("changelist", entries, index=True, from_=at(0))

    async def main() -> Any:
        transport = httpx.MockTransport(site(pages))
        async with open_client(api="https://api.test/v2", token=None, rate=0, transport=transport) as client:
            return await read_lists(client, PORTAL, [LIST], posix(wanted))

    found = trio.run(main)
    for article, minute in changes:
        if found.since <= posix(minute) <= found.until:
            assert found.articles.get(article, -math.inf) >= posix(minute)
    if not missing and len(pages) <= resourcesync.MOST_DOCUMENTS:
        assert found.since <= max(posix(0), posix(wanted))
        assert found.until == NOON


def posix(minute: int) -> float:
    return NOON - 100_000 + 60 * minute
