"""Institutions: accounts are found, requests are made in a colleague's name, files are submitted as forms."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from trio.testing import MockClock

from figfs.errors import BadAnswer, Conflict, Forbidden, Invalid, NotFound
from figfs.figshare import articles, downloads, files, institution, projects
from figfs.figshare.accounts import get_account
from figfs.figshare.records import File
from figfs.figshare.retry import TRIES

EVERYBODY = [
    {"id": 7, "email": "ada@example.org", "institution_user_id": "u7"},
    {"id": 8, "email": "sven@example.org", "institution_user_id": "7"},
]


@pytest.mark.parametrize(
    ("wanted", "queries"),
    [
        ("7", [{"id_gte": "7", "id_lte": "7"}]),
        ("u7", [{"institution_user_id": "u7"}]),
        ("ada@example.org", [{"email": "ada@example.org"}]),
    ],
)
async def test_accounts_are_found(wanted: str, queries: list[dict[str, str]], connect: Any) -> None:
    """By id, e-mail address or institution user id; also by a server that ignores the filter."""
    async with connect([EVERYBODY]) as (client, server):
        assert (await institution.find_account(client, wanted)).id == 7
    assert [dict(request.url.params) for request in server.requests] == queries


async def test_a_number_may_be_the_institutions(connect: Any) -> None:
    """A number that is no account id is looked for among the institution's own; nobody: ``NotFound``."""
    async with connect([[], EVERYBODY[1:]]) as (client, _):
        assert (await institution.find_account(client, "7")).id == 8
    async with connect([[]]) as (client, server):
        with pytest.raises(NotFound, match="no account 'x@y'"):
            await institution.find_account(client, "x@y")
        assert len(server.requests) == 1


@pytest.mark.parametrize(("answer", "expected"), [([], True), (403, False), (404, False)])
async def test_who_is_an_administrator(answer: Any, expected: bool, connect: Any) -> None:
    """One request tells."""
    async with connect([answer]) as (client, server):
        assert await institution.is_administrator(client) is expected
        assert len(server.requests) == 1


async def test_requests_in_anothers_name(connect: Any) -> None:
    """In the query of GET and DELETE, in the body of all else; also of requests that have no other body."""
    answers = [
        httpx.Response(200, json={"id": 8}),
        httpx.Response(204),
        httpx.Response(201, json={"location": "https://api.test/v2/account/articles/5"}),
        httpx.Response(205),
        httpx.Response(202),
        httpx.Response(200, json=[]),
    ]
    async with connect(answers) as (client, server):
        client.impersonate = 8
        other = client.background()
        await get_account(other)
        await articles.delete(client, 5)
        await articles.create(client, "abc")
        await projects.update(client, 3, title="x")
        await files.complete(client, 5, 6)
        assert await institution.is_administrator(client)
    got = [(r.method, r.url.params.get("impersonate"), r.content) for r in server.requests]
    assert [(method, query) for method, query, _ in got] == [
        ("GET", "8"),
        ("DELETE", "8"),
        ("POST", None),
        ("PATCH", None),
        ("POST", None),
        ("GET", None),  # the institution is the token's own
    ]
    bodies = [json.loads(body) if body else None for _, _, body in got]
    assert bodies[2:5] == [
        {"title": "abc", "impersonate": 8},
        {"title": "x", "impersonate": 8},
        {"impersonate": 8},
    ]


async def test_downloads_in_anothers_name(connect: Any) -> None:
    """The API's route needs the parameter, the file's own URL is taken as it is."""
    file = File(id=9, size=1, download_url="https://ndownloader.figshare.com/files/9")
    async with connect([]) as (client, _):
        client.impersonate = 8
        assert downloads.routes(client, file) == [
            "https://api.test/v2/file/download/9?impersonate=8",
            "https://ndownloader.figshare.com/files/9",
        ]


async def test_files_are_submitted_as_forms(connect: Any) -> None:
    """One field with name and bytes, as they are; refusals are errors, and nothing is sent twice."""
    async with connect([httpx.Response(200, json={"message": "OK"})]) as (client, server):
        await institution.upload_feed(client, "people.xml", b"<a>\r\n\xff</a>")
        await institution.upload_values(client, 501, "a.csv", b"x\n")
    feed, values = server.requests
    assert feed.url.path == "/v2/institution/hrfeed/upload"
    assert values.url.path == "/v2/account/institution/custom_fields/501/items/upload"
    assert feed.headers["Content-Type"].startswith("multipart/form-data; boundary=")
    assert b'name="hrfeed"; filename="people.xml"' in feed.content
    assert b"\r\n\r\n<a>\r\n\xff</a>\r\n--" in feed.content
    assert b'name="external_file"; filename="a.csv"' in values.content


@pytest.mark.parametrize(("status", "error"), [(403, Forbidden), (409, Conflict), (400, Invalid)])
async def test_a_refused_submission(
    status: int, error: type[Exception], connect: Any, autojump_clock: MockClock
) -> None:
    """An import in progress is waited for a little, as every 409; all else is told at once."""
    async with connect([httpx.Response(status, json={"message": "No", "code": "X"})]) as (client, server):
        with pytest.raises(error, match="No"):
            await institution.upload_values(client, 501, "a.csv", b"x\n")
        assert len(server.requests) == (TRIES if status == 409 else 1)


async def test_articles_are_listed_unread(connect: Any) -> None:
    """All that the server says of each, as it says it, each once, page after page."""
    pages = [
        [{"id": n, "title": "Radar", "created_date": "2024-05-01T10:00:00Z", "handle": "1/2", "new": [n]}]
        * 1000
        for n in (1, 2)
    ]
    async with connect([*pages, []]) as (client, _):
        found = await institution.list_articles(client)
    assert found == [pages[0][0], pages[1][0]]


def published(number: int, date: str | None) -> dict[str, object]:
    return {"id": number, "title": f"Part {number}", "published_date": date}


async def test_what_is_published_is_listed(connect: Any) -> None:
    """With one request; a server that ignores the filter sends drafts as well, which are left out."""
    page = [published(1, None), published(3, "2024-05-02T10:00:00Z"), published(2, "2024-05-01T10:00:00Z")]
    async with connect([page]) as (client, server):
        found = await institution.list_public_articles(client)
    assert [article.id for article in found] == [3, 2]
    assert [dict(request.url.params) for request in server.requests] == [
        {"order": "published_date", "order_direction": "asc", "published_since": "1900-01-01",
         "page": "1", "page_size": "1000"}
    ]  # fmt: skip


async def test_a_server_without_that_filter(connect: Any) -> None:
    """Everything is listed, then, and the drafts are left out."""
    page = [published(1, None), published(2, "2024-05-01T10:00:00Z")]
    async with connect([httpx.Response(422, json={"message": "No", "code": "X"}), page]) as (client, server):
        assert [article.id for article in await institution.list_public_articles(client)] == [2]
    assert dict(server.requests[1].url.params) == {"page": "1", "page_size": "1000"}


REFUSED = httpx.Response(422, json={"message": "Max page reached", "code": "InvalidPagingOptions"})


async def test_what_is_published_past_the_last_page(connect: Any) -> None:
    """Where the server pages no further, from the day of the last one on; each once."""
    pages = [[published(n, f"2024-05-0{n}T10:00:00Z") for n in numbers] for numbers in ((1, 2), (2, 3))]
    full = [pages[0] * 500, REFUSED, pages[1] * 500, REFUSED, [published(3, "2024-05-03T10:00:00Z")]]
    async with connect(full) as (client, server):
        found = await institution.list_public_articles(client)
    assert [article.id for article in found] == [1, 2, 3]
    assert [request.url.params["published_since"] for request in server.requests] == [
        *["1900-01-01"] * 2,
        *["2024-05-02"] * 2,
        "2024-05-03",
    ]


@pytest.mark.parametrize(
    "dates", [["2024-05-02", "2024-05-01"], ["2024-05-01", "2024-05-01"], [None, None], ["9e99", 9e30]]
)
async def test_never_a_part_of_what_is_published(dates: list[Any], connect: Any) -> None:
    """In no order, or more on one day than is listed: an error, and an end."""
    page = [published(n, date) for n, date in enumerate(dates * 500, 1)]
    again = [page, REFUSED] * 3
    async with connect(again) as (client, server):
        with pytest.raises(BadAnswer, match="does not list more than"):
            await institution.list_public_articles(client)
    assert len(server.requests) <= 4


@pytest.mark.parametrize("descending", [False, True])
async def test_all_accounts_past_the_last_page(descending: bool, connect: Any) -> None:
    """Where pages end, ranges of ids go on, in whichever order the server lists them (quirks L7)."""
    everybody = [{"id": number} for number in range(1, 2501)]

    def answer(request: httpx.Request) -> httpx.Response:
        query = request.url.params
        low, high = int(query.get("id_gte", 0)), int(query.get("id_lte", 10**9))
        start = (int(query["page"]) - 1) * int(query["page_size"])
        if start >= 1000:
            return httpx.Response(422, json={"message": "Max page reached"})
        found = [account for account in everybody if low <= account["id"] <= high]
        found.sort(key=lambda account: account["id"], reverse=descending)
        return httpx.Response(200, json=found[start : start + int(query["page_size"])])

    async with connect(answer) as (client, server):
        found = await institution.list_accounts(client)
    assert sorted(account.id for account in found) == [*range(1, 2501)]  # type: ignore[type-var]
    assert (
        len(server.requests) == 6
    )  # two pages and a refusal; a page and a refusal; the short rest, asked on


@pytest.mark.parametrize("ids", [[*range(2, 1001), 1], [*range(1, 1001)]])
async def test_accounts_that_cannot_all_be_listed(ids: list[int], connect: Any) -> None:
    """In no order, or by a server that ignores ranges: an error, never a part of them."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.params["page"] != "1":
            return httpx.Response(422)
        return httpx.Response(200, json=[{"id": number} for number in ids])

    async with connect(answer) as (client, server):
        with pytest.raises(BadAnswer, match="does not list more than 1000"):
            await institution.list_accounts(client)
    assert len(server.requests) <= 4
