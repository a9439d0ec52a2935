"""Reserved DOIs and published collections."""

from __future__ import annotations

import httpx

COMPLETE = {"description": "All of it", "tags": ["ice"], "categories": [24002]}


async def test_a_reserved_doi_stays(api: httpx.AsyncClient) -> None:
    """The item shows it, a second reservation is the same one; publishing adds the version."""
    body = {"title": "Ready to publish", "is_metadata_record": True, **COMPLETE}
    path = (await api.post("/v2/account/articles", json=body)).headers["Location"]
    doi = (await api.post(f"{path}/reserve_doi")).json()["doi"]
    assert doi.startswith("10.6084/m9.figshare.")
    assert (await api.get(path)).json()["doi"] == doi
    assert (await api.post(f"{path}/reserve_doi")).json()["doi"] == doi
    assert (await api.post(f"{path}/publish")).status_code == 201
    assert (await api.get(path)).json()["doi"] == f"{doi}.v1"


async def test_a_collection_is_published(example_api: httpx.AsyncClient) -> None:
    """400 names what is missing; then it is public, with a DOI of its kind, and cannot be deleted."""
    made = await example_api.post("/v2/account/collections", json={"title": "A collection"})
    path = made.headers["Location"]
    refused = await example_api.post(f"{path}/publish")
    assert refused.status_code == 400
    assert refused.json()["message"].endswith("description, tags, categories, articles")
    await example_api.patch(path, json={**COMPLETE, "articles": [20000005]})
    assert (await example_api.post(f"{path}/publish")).status_code == 201
    now = (await example_api.get(path)).json()
    assert (now["public"], now["version"]) == (True, 1)
    assert now["doi"] == f"10.6084/m9.figshare.c.{now['id']}.v1"
    assert (await example_api.delete(path)).status_code == 403


async def test_only_own_items(example_api: httpx.AsyncClient) -> None:
    """Other people's, and what is not there: 404."""
    for path in ("articles/20000013/reserve_doi", "collections/1/reserve_doi", "collections/1/publish"):
        assert (await example_api.post(f"/v2/account/{path}")).status_code == 404
