from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from figfs import errors
from figfs.figshare import articles, collections, files, projects


def date(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.datetime.fromtimestamp(1_700_000_000 + seconds, datetime.UTC).strftime(
        "%Y-%m-%dT%H:%M:%SZ"
    )


class Account:
    """An account of n articles behind a listing and a search, with the habits of various servers."""

    def __init__(
        self,
        count: int,
        *,
        created: Callable[[int], float] = float,
        modified: Callable[[int], float | None] = float,
        deepest: int = 10**9,  # largest offset of the listing
        search_deepest: int | None = None,
        cap: int = 1000,
        ignores_paging: bool = False,
        listing: str = "newest",  # newest, oldest, by id
        inclusive: bool = True,  # modified_since includes the date itself
        ties_by_id: bool = True,
        lag: int = 0,  # the search does not know the newest ones
    ) -> None:
        self.created, self.modified = created, modified
        self.ids = list(range(1, count + 1))
        self.deepest, self.cap, self.ignores_paging = deepest, cap, ignores_paging
        self.search_deepest = deepest if search_deepest is None else search_deepest
        self.listing, self.inclusive, self.ties_by_id, self.lag = listing, inclusive, ties_by_id, lag
        self.requests: list[str] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(f"{request.method} {request.url.path}")
        if request.method == "GET":
            query = {key: int(value) for key, value in request.url.params.items()}
            ids = list(self.ids)
            if self.listing == "newest":
                ids.sort(key=lambda i: (self.created(i), i if self.ties_by_id else -i), reverse=True)
            return self.page(ids, query["page"], query["page_size"], self.deepest)
        body = json.loads(request.content)
        assert body["order_direction"] == "asc"
        assert not {"limit", "offset"} & set(body)
        field = {"created_date": self.created, "modified_date": self.modified}[body["order"]]
        ids = [i for i in self.ids if i <= len(self.ids) - self.lag]
        if since := body.get("modified_since"):
            ids = [
                i
                for i in ids
                if (when := date(self.modified(i))) is not None
                and (when >= since if self.inclusive else when > since)
            ]
        ids.sort(key=lambda i: (field(i) or 0, i))
        return self.page(ids, body["page"], body["page_size"], self.search_deepest)

    def page(self, ids: list[int], page: int, size: int, deepest: int) -> httpx.Response:
        if self.ignores_paging:
            return httpx.Response(200, json=[self.item(i) for i in ids])
        if (page - 1) * size > deepest:
            return httpx.Response(422, json={"message": "Max page reached", "code": "InvalidPagingOptions"})
        size = min(size, self.cap)
        return httpx.Response(200, json=[self.item(i) for i in ids[(page - 1) * size : page * size]])

    def item(self, i: int) -> dict[str, object]:
        return {
            "id": i,
            "title": f"article {i}",
            "created_date": date(self.created(i)),
            "modified_date": date(self.modified(i)),
        }


async def listed(connect: Any, account: Account) -> list[int]:
    async with connect(account) as (client, _):
        return [int(article.id) for article in await articles.list_own(client)]


@pytest.mark.parametrize(
    ("count", "requests"),
    [(0, 1), (1, 1), (999, 1), (1000, 2), (1001, 2), (10_000, 11), (10, 2), (500, 2), (11, 1)],
)
async def test_a_listing_of_n_articles(connect: Any, count: int, requests: int) -> None:
    """ceil(n/1000) requests, one more where the last page is full; all of them, once, by id."""
    account = Account(count)
    assert await listed(connect, account) == account.ids
    assert len(account.requests) == requests


@pytest.mark.parametrize("cap", [10, 15, 20, 25, 30, 50, 100, 200, 250, 500])
async def test_a_server_that_allows_less_on_a_page(connect: Any, cap: int) -> None:
    """A first page of just ten (a hundred, …) is not taken for the end."""
    for count in (cap - 1, cap, cap + 1, 3 * cap, 3 * cap + 1):
        account = Account(count, cap=cap)
        assert await listed(connect, account) == account.ids


@pytest.mark.parametrize("count", [0, 3, 10, 100, 1000, 1500])
async def test_a_server_that_ignores_paging(connect: Any, count: int) -> None:
    """Everything comes again on page two: no duplicates, no endless loop."""
    account = Account(count, ignores_paging=True)
    assert await listed(connect, account) == account.ids
    assert len(account.requests) <= 2


async def test_duplicates_across_pages_show_once(connect: Any) -> None:
    """Somebody adds an article while we page: the last one of page one comes again on page two."""
    account = Account(2500)
    inner = account.__call__

    def growing(request: httpx.Request) -> httpx.Response:
        if request.url.params["page"] == "2":
            account.ids.append(len(account.ids) + 1)
        return inner(request)

    async with connect(growing) as (client, _):
        found = [article.id for article in await articles.list_own(client)]
    assert len(found) == len(set(found))
    assert set(range(1, 2501)) <= set(found)


@pytest.mark.parametrize("deepest", [5000, 9000, 8999])
async def test_past_the_offset_limit_in_twelve_requests(connect: Any, deepest: int) -> None:
    """10,000 articles, a listing that ends early: the oldest from the search, until both meet."""
    account = Account(10_000, deepest=deepest)
    assert await listed(connect, account) == account.ids
    assert len(account.requests) <= 12


@pytest.mark.parametrize("deepest", [5000, 9000])
async def test_past_the_limit_when_all_were_created_at_once(connect: Any, deepest: int) -> None:
    """Equal dates: complete where both sides order them by id too, in as few requests."""
    account = Account(10_000, deepest=deepest, created=lambda i: 0)
    assert await listed(connect, account) == account.ids
    assert len(account.requests) <= 12


async def test_equal_dates_in_another_order_prove_nothing(connect: Any) -> None:
    """Then the search is read to its end, or by date of modification: still all of them."""
    account = Account(10_000, deepest=5000, created=lambda i: 0, ties_by_id=False)
    assert await listed(connect, account) == account.ids


@pytest.mark.parametrize("inclusive", [True, False])
@pytest.mark.parametrize("deepest", [1000, 2000])
async def test_beyond_both_ends_it_walks_by_date_of_modification(
    connect: Any, deepest: int, inclusive: bool
) -> None:
    """Newest and oldest do not meet: windows by modified_since, whether that includes the date or not."""
    account = Account(
        10_000, deepest=deepest, modified=lambda i: float(i * 7919 % 10_007), inclusive=inclusive
    )
    assert await listed(connect, account) == account.ids
    assert len(account.requests) < 40


async def test_a_listing_in_another_order_is_not_trusted(connect: Any) -> None:
    """Oldest first: then the search's oldest do not fill the gap, and must not be taken to."""
    account = Account(10_000, deepest=5000, listing="by id")
    assert await listed(connect, account) == account.ids


async def test_the_newest_are_there_though_the_search_lags(connect: Any) -> None:
    """Drafts that the index does not know yet come from the listing."""
    account = Account(10_000, deepest=5000, lag=20)
    assert await listed(connect, account) == account.ids
    account = Account(10_000, deepest=1000, lag=20)
    assert await listed(connect, account) == account.ids


@pytest.mark.parametrize(
    "account",
    [
        Account(10_000, deepest=1000, modified=lambda i: 0),  # no window moves on
        Account(10_000, deepest=1000, modified=lambda i: None if i % 2 else float(i)),  # no order to go by
        Account(10_000, deepest=1000, modified=lambda i: None),
    ],
)
async def test_rather_an_error_than_a_part(connect: Any, account: Account) -> None:
    """Where completeness cannot be shown, the listing fails."""
    with pytest.raises(errors.BadAnswer):
        await listed(connect, account)


async def test_a_search_that_ignores_its_order_is_not_trusted(connect: Any) -> None:
    """Windows would leave gaps."""
    account = Account(10_000, deepest=1000)

    def shuffled(request: httpx.Request) -> httpx.Response:
        answer = account(request)
        if request.method == "POST" and answer.status_code == 200:
            return httpx.Response(200, json=answer.json()[::-1])
        return answer

    with pytest.raises(errors.BadAnswer):
        async with connect(shuffled) as (client, _):
            await articles.list_own(client)


async def test_a_refused_search_is_an_error_of_the_listing(connect: Any) -> None:
    """A server without the search: EIO, not "invalid argument", and not the half that was listed."""
    account = Account(3000, deepest=1000)

    def no_search(request: httpx.Request) -> httpx.Response:
        return account(request) if request.method == "GET" else httpx.Response(422)

    with pytest.raises(errors.BadAnswer):
        async with connect(no_search) as (client, _):
            await articles.list_own(client)


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    count=st.integers(0, 60),
    page=st.integers(2, 9),
    depth=st.integers(0, 8),
    search_depth=st.integers(0, 8),
    seed=st.integers(0, 10_000),
    spread=st.integers(1, 50),
    options=st.fixed_dictionaries(
        {
            "inclusive": st.booleans(),
            "ties_by_id": st.booleans(),
            "listing": st.sampled_from(["newest", "by id"]),
        }
    ),
)
async def test_all_or_an_error(
    connect: Any,
    count: int,
    page: int,
    depth: int,
    search_depth: int,
    seed: int,
    spread: int,
    options: dict[str, Any],
) -> None:
    """With any limits, dates and orders: every article once, or BadAnswer. Never a part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("figfs.figshare.paging.PAGE_SIZE", page)
        account = Account(
            count,
            created=lambda i: float(i * spread // 50),
            modified=lambda i: float((i * 7919 + seed) % (count * spread // 10 + 1)),
            deepest=depth * page,
            search_deepest=search_depth * page,
            **options,
        )
        try:
            found = await listed(connect, account)
        except errors.BadAnswer:
            return
    assert found == account.ids


async def test_other_listings_refuse_to_be_partial(connect: Any) -> None:
    """Where there is no other way to the rest, the refusal of a page is an error."""
    account = Account(3000, deepest=1000)
    async with connect(account) as (client, _):
        for listing in (
            projects.list_own(client),
            projects.list_articles(client, 1),
            collections.list_own(client),
            collections.list_articles(client, 1),
            files.list_files(client, 1),
        ):
            with pytest.raises(errors.BadAnswer):
                await listing


async def test_a_refused_first_page_is_told_as_it_is(connect: Any) -> None:
    """No listing at all: the server's refusal."""
    async with connect([httpx.Response(422)]) as (client, _):
        with pytest.raises(errors.Invalid):
            await articles.list_own(client)


async def test_an_article_of_many_files(connect: Any) -> None:
    """1,143 files, the most that was seen in the wild (quirks §6)."""
    account = Account(1143)
    async with connect(account) as (client, _):
        found = await files.list_files(client, 7)
    assert sorted(int(file.id) for file in found) == account.ids
    assert account.requests == ["GET /v2/account/articles/7/files"] * 2


@pytest.mark.parametrize("page", [1, 2])
async def test_an_error_on_any_page_is_the_listings_error(
    connect: Any, page: int, autojump_clock: Any
) -> None:
    """A failed listing is never a shorter one."""
    account = Account(1500)

    def failing(request: httpx.Request) -> httpx.Response:
        return httpx.Response(500) if request.url.params["page"] == str(page) else account(request)

    with pytest.raises(errors.ServerError):
        async with connect(failing) as (client, _):
            await articles.list_own(client)


async def test_search_sends_only_what_was_asked(connect: Any) -> None:
    """No empty fields, one paging style, dates as Figshare writes them."""
    async with connect([[{"id": 3}]]) as (client, server):
        found = await articles.search_own(
            client, search_for="x y", order="modified_date", modified_since=0.5, project_id=9
        )
    assert [article.id for article in found] == [3]
    assert json.loads(server.requests[0].content) == {
        "search_for": "x y",
        "order": "modified_date",
        "order_direction": "desc",
        "modified_since": "1970-01-01T00:00:00Z",
        "project_id": 9,
        "page": 1,
        "page_size": 1000,
    }
