"""Conditional requests: with the validators that the server sent, and only where those can be relied on."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from figfs.errors import BadAnswer, RemoteError
from figfs.figshare import articles, projects, public
from figfs.figshare.validators import LARGEST, ROOM, Validators, conditions_of
from figfs.settings import Token

MODIFIED = "Mon, 06 Jul 2026 10:00:00 GMT"
LATER = "Mon, 06 Jul 2026 10:05:00 GMT"
LIST, ARTICLE = "/account/projects", "/account/articles/5"


@pytest.mark.parametrize(
    ("path", "headers", "expected"),
    [
        (ARTICLE, {"etag": '"a"'}, {"If-None-Match": '"a"'}),
        (ARTICLE, {"etag": 'W/"a"'}, {"If-None-Match": 'W/"a"'}),
        (LIST, {"etag": '"a"', "last-modified": MODIFIED},
         {"If-None-Match": '"a"', "If-Modified-Since": MODIFIED}),
        (LIST, {"last-modified": MODIFIED, "date": LATER}, {"If-Modified-Since": MODIFIED}),
        (LIST, {"last-modified": MODIFIED, "date": MODIFIED}, {}),  # changed again in that second, perhaps
        (LIST, {"last-modified": MODIFIED}, {}),
        (LIST, {"last-modified": "yesterday", "date": LATER}, {}),
        (LIST, {"last-modified": MODIFIED, "date": "Mon, 06 Jul 2026 10:05:00"}, {}),
        (ARTICLE, {"last-modified": MODIFIED, "date": LATER}, {}),  # quirks L14
        ("/account/projects/3/articles/5/files", {"last-modified": MODIFIED, "date": LATER}, {}),
        (LIST, {"etag": '"a"', "cache-control": "private, no-store"}, {}),
        (LIST, {}, {}),
    ],
)  # fmt: skip
def test_what_can_be_relied_on(path: str, headers: dict[str, str], expected: dict[str, str]) -> None:
    assert conditions_of(path, headers) == expected


def test_room_is_bounded() -> None:
    known = Validators()
    for number in range(8):
        known.keep(number, LIST, {"etag": '"a"'}, bytes(ROOM // 5))
    assert [number for number in range(8) if known.find(number) is not None] == [4, 5, 6, 7]
    known.keep(7, LIST, {"etag": '"a"'}, bytes(LARGEST + 1))
    assert known.find(7) is None


def conditional(request: httpx.Request) -> httpx.Response:
    """A server that holds one article, of the title that its ETag is."""
    if request.headers.get("if-none-match") == '"Ice"':
        return httpx.Response(304, headers={"ETag": '"Ice"'})
    return httpx.Response(200, json={"id": 5, "title": "Ice", "files": []}, headers={"ETag": '"Ice"'})


async def test_304_stands_for_what_was_answered_before(connect: Any) -> None:
    async with connect(conditional) as (client, server):
        first = await articles.get(client, 5)
        assert await articles.get(client, 5) == first
        assert await articles.get(client.background(), 5) == first
        asked = [request.headers.get("if-none-match") for request in server.requests]
        assert asked == [None, '"Ice"', '"Ice"']


async def test_304_is_an_answer_of_its_own_date(connect: Any) -> None:
    """Known to be true as of then."""
    first = httpx.Response(
        200, json={"id": 5}, headers={"ETag": '"a"', "Date": "Mon, 20 May 2024 12:00:00 GMT"}
    )
    second = httpx.Response(304, headers={"Date": "Mon, 20 May 2024 13:00:00 GMT"})
    async with connect([first, second, httpx.Response(304)]) as (client, _server):
        dates = [(await public.get_article(client, 5))[1].headers["date"] for _ in range(3)]
        assert [date[17:19] for date in dates] == ["12", "13", "13"]


async def test_what_is_another_request_is_not_conditional(connect: Any) -> None:
    """Another article, another page, another token."""
    async with connect(conditional) as (client, server):
        await articles.get(client, 5)
        await articles.get(client, 6)
        client.token = Token("another")
        await articles.get(client, 5)
        assert not [r for r in server.requests if "if-none-match" in r.headers]


async def test_what_was_changed_is_read_anew(connect: Any) -> None:
    def answer(title: str) -> httpx.Response:
        return httpx.Response(200, json={"id": 5, "title": title}, headers={"ETag": f'"{title}"'})

    async with connect([answer("Ice"), answer("Snow"), httpx.Response(304)]) as (client, server):
        titles = [(await articles.get(client, 5)).title for _ in range(3)]
        assert titles == ["Ice", "Snow", "Snow"]
        assert server.requests[2].headers["if-none-match"] == '"Snow"'


async def test_without_validators_nothing_is_conditional(connect: Any) -> None:
    async with connect([[{"id": 3, "title": "P"}]]) as (client, server):
        for _ in range(2):
            await projects.list_own(client)
        assert not [r for r in server.requests if {"if-none-match", "if-modified-since"} & set(r.headers)]


async def test_what_was_not_understood_is_not_kept(connect: Any) -> None:
    async with connect([httpx.Response(200, json=[1], headers={"ETag": '"a"'})]) as (client, server):
        for _ in range(2):
            with pytest.raises(BadAnswer):
                await articles.get(client, 5)
        assert not [r for r in server.requests if "if-none-match" in r.headers]


async def test_a_304_that_was_not_asked_for_is_an_error(connect: Any) -> None:
    async with connect([httpx.Response(304)]) as (client, _server):
        with pytest.raises(RemoteError, match="304"):
            await articles.get(client, 5)


@pytest.mark.parametrize("etag", ['"é"', "\xff", "x" * 2000, "\x7f", ""])
async def test_a_validator_that_cannot_be_sent_back_is_none(connect: Any, etag: str) -> None:
    """A header takes no more than ASCII: the next request must not fail for what the last answer had."""
    answer = httpx.Response(200, json=[{"id": 3}], headers=[(b"ETag", etag.encode())])
    async with connect([answer]) as (client, server):
        for _ in range(2):
            assert [project.id for project in await projects.list_own(client)] == [3]
        assert not [r for r in server.requests if "if-none-match" in r.headers]
