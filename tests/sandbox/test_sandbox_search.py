"""Searches: the lag of the index, filters, the language."""

from __future__ import annotations

import httpx
import pytest
import trio.testing

from figfs.sandbox.search import matches
from figfs.sandbox.state import Sandbox


async def found(api: httpx.AsyncClient, **body: object) -> list[str]:
    answer = await api.post("/v2/account/articles/search", json={"page_size": 1000} | body)
    assert answer.status_code == 200, answer.text
    return [article["title"] for article in answer.json()]


async def test_the_index_is_behind(api: httpx.AsyncClient, mock_clock: trio.testing.MockClock) -> None:
    """New, renamed and deleted articles are found as they are only ``search_lag`` later (quirk L11)."""
    location = (await api.post("/v2/account/articles", json={"title": "First name"})).json()["location"]
    assert await found(api) == []
    mock_clock.jump(2)
    assert await found(api) == ["First name"]
    await api.patch(location, json={"title": "Second name"})
    assert await found(api) == ["First name"]
    mock_clock.jump(2)
    assert await found(api) == ["Second name"]
    await api.delete(location)
    assert await found(api) == ["Second name"]
    mock_clock.jump(2)
    assert await found(api) == []


async def test_no_lag(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """``search_lag`` 0: found at once, in projects and collections too."""
    sandbox.settings.change({"search_lag": 0})
    for kind in ("articles", "projects", "collections"):
        await api.post(f"/v2/account/{kind}", json={"title": "Found at once"})
        answer = await api.post(f"/v2/account/{kind}/search", json={"search_for": "once"})
        assert [entry["title"] for entry in answer.json()] == ["Found at once"]


async def test_project_articles_say_so(example_api: httpx.AsyncClient) -> None:
    """``project_id`` is null without a project (api.md §2), and can be searched by."""
    answer = await example_api.post("/v2/account/articles/search", json={"page_size": 100})
    projects = [article["project_id"] for article in answer.json()]
    assert projects.count(None) == 8
    assert len(await found(example_api, project_id=150001)) == 2


async def test_since(example_api: httpx.AsyncClient) -> None:
    """``modified_since`` and ``published_since`` include their date; ill-formed ones are refused."""
    assert len(await found(example_api, modified_since="2024-04-14T10:00:00Z")) == 2
    assert len(await found(example_api, modified_since="2024-04-14T10:00:01Z")) == 1
    assert len(await found(example_api, published_since="2024-01-01")) == 1
    for wrong in ("yesterday", 7, "2024"):
        answer = await example_api.post("/v2/account/articles/search", json={"modified_since": wrong})
        assert answer.status_code == 422


async def test_public_search(example_api: httpx.AsyncClient) -> None:
    """Finds what is published, whoever owns it, as it was published."""
    await example_api.patch("/v2/account/articles/20000005", json={"title": "Hidden draft title"})
    answer = await example_api.post("/v2/articles/search", json={"item_type": 3})
    titles = {article["title"] for article in answer.json()}
    assert titles == {"Frog calls of the Atlantic forest", "Airborne radar of the same glacier"}
    listed = await example_api.get("/v2/articles", params={"item_type": "3", "published_since": "2024-03-10"})
    assert [article["title"] for article in listed.json()] == ["Airborne radar of the same glacier"]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("frog", True),
        ("FROG", True),
        ("toad", False),
        ("toad frog", True),
        ("toad OR frog", True),
        ("toad AND frog", False),
        ("skin AND frog", True),
        ('"frog calls"', True),
        ('"calls frog"', False),
        ("NOT toad", True),
        ("frog AND NOT skin", False),
        (":title: skin", False),
        (":tag: skin", True),
        (":title: frog AND :tag: skin", True),
        ("(toad OR frog) AND skin", True),
        ("toad OR frog AND toad", False),
        ("", True),
    ],
)
def test_the_language(query: str, expected: bool) -> None:
    """Bare words mean OR, AND binds tighter, fields restrict (api.md §6)."""
    assert matches(query, "Frog calls", "From the forest", '["Skin", "voice"]') is expected


@pytest.mark.parametrize("query", ["(frog", "frog)", "AND frog", "frog AND", ":title:", ":orcid: 0000", 7])
async def test_bad_queries(api: httpx.AsyncClient, query: object) -> None:
    """422 for what cannot be parsed, and for fields the sandbox does not know."""
    answer = await api.post("/v2/account/articles/search", json={"search_for": query})
    assert answer.status_code == 422
