"""Listings: pages, their limits, orders."""

from __future__ import annotations

import httpx
import pytest

from figfs.sandbox.seed import bulk
from figfs.sandbox.state import Sandbox

LISTINGS = ["/v2/account/articles", "/v2/account/projects", "/v2/account/collections", "/v2/articles"]


@pytest.mark.parametrize("path", LISTINGS)
@pytest.mark.parametrize(
    "query",
    [
        "page=0",
        "page=5001",
        "page_size=0",
        "page_size=1001",
        "limit=0",
        "limit=1001",
        "offset=5001",
        "offset=-1",
        "page=one",
        "page=",
        "page=1&limit=10",
        "page_size=10&offset=0",
    ],
)
async def test_bad_pages_are_refused(api: httpx.AsyncClient, path: str, query: str) -> None:
    """422 for values out of bounds and for mixed styles, with a code that says so."""
    answer = await api.get(f"{path}?{query}")
    assert answer.status_code == 422
    assert answer.json()["code"] == "InvalidPagingOptions"


@pytest.mark.parametrize(
    "query", ["page=5000", "page_size=1000", "limit=1000", "offset=5000", "limit=1&offset=0"]
)
async def test_the_limits_themselves_are_accepted(api: httpx.AsyncClient, query: str) -> None:
    """The bounds are inclusive."""
    assert (await api.get(f"/v2/account/articles?{query}")).status_code == 200


@pytest.mark.parametrize(
    "body", [{"page": "1"}, {"page": 1, "offset": 0}, {"limit": 1001}, {"page_size": True}]
)
async def test_bad_pages_in_searches(api: httpx.AsyncClient, body: dict[str, object]) -> None:
    """The same in the body of a search, where numbers are numbers."""
    for kind in ("articles", "projects", "collections"):
        assert (await api.post(f"/v2/account/{kind}/search", json=body)).status_code == 422


async def test_pages_tile_the_list(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """Pages of either style give every article once, newest first, ten by default; the last is short."""
    ids = await bulk(sandbox, count=25)
    whole = [article["id"] for article in (await api.get("/v2/account/articles?limit=1000")).json()]
    assert whole == ids[::-1]
    pages = [(await api.get(f"/v2/account/articles?page={page}")).json() for page in (1, 2, 3, 4)]
    assert [len(page) for page in pages] == [10, 10, 5, 0]
    assert [article["id"] for page in pages for article in page] == whole
    slices = [(await api.get(f"/v2/account/articles?limit=7&offset={n}")).json() for n in (0, 7, 14, 21, 28)]
    assert [article["id"] for part in slices for article in part] == whole


async def test_files_and_project_articles_are_paged(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """Their endpoints page too, though those of projects are described without it (api.md §1)."""
    created = await api.post("/v2/account/projects", json={"title": "A project"})
    project = created.json()["entity_id"]
    number = (await bulk(sandbox, count=12, file_count=11, project_id=project))[0]
    base = f"/v2/account/projects/{project}/articles"
    assert len((await api.get(base)).json()) == 10
    assert len((await api.get(f"{base}?page=2")).json()) == 2
    for path in (f"/v2/account/articles/{number}/files", f"{base}/{number}/files"):
        assert len((await api.get(path)).json()) == 10
        assert len((await api.get(f"{path}?page=2&page_size=10")).json()) == 1
        assert (await api.get(f"{path}?page=2&limit=10")).status_code == 422


async def test_the_depth_can_be_limited(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """``max_depth``: a page that begins there or beyond is refused, as for Figshare's largest listings."""
    await bulk(sandbox, count=25)
    sandbox.settings.max_depth = 20
    assert len((await api.get("/v2/account/articles?page=2")).json()) == 10
    answer = await api.get("/v2/account/articles?page=3")
    assert answer.status_code == 422
    assert answer.json()["message"].startswith("Max page reached")
    assert (await api.get("/v2/account/articles?offset=20")).status_code == 422


async def test_paging_can_be_ignored(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """``ignore_paging``: every page is the whole listing, as of servers that do not page."""
    await bulk(sandbox, count=25)
    sandbox.settings.ignore_paging = True
    for query in ("", "?page=2&page_size=10", "?limit=5"):
        assert len((await api.get(f"/v2/account/articles{query}")).json()) == 25


async def test_orders(example_api: httpx.AsyncClient) -> None:
    """``order`` and ``order_direction`` are obeyed, descending by default; unknown ones refused."""
    body = {"page_size": 100, "order": "created_date", "order_direction": "asc"}
    found = (await example_api.post("/v2/account/articles/search", json=body)).json()
    dates = [article["created_date"] for article in found]
    assert dates == sorted(dates)
    assert len(dates) == 12
    for wrong in ({"order": "size"}, {"order_direction": "up"}):
        assert (await example_api.post("/v2/articles/search", json=wrong)).status_code == 422
    assert (await example_api.get("/v2/account/projects?order=title")).status_code == 422
