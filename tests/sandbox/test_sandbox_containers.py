"""Projects and collections."""

from __future__ import annotations

import httpx
import pytest

from figfs.sandbox.seed import ACCOUNT, bulk
from figfs.sandbox.state import Sandbox


async def project(api: httpx.AsyncClient, **fields: object) -> str:
    answer = await api.post("/v2/account/projects", json={"title": "A project"} | fields)
    assert answer.status_code == 201, answer.text
    location: str = answer.json()["location"]
    return location


async def test_storage_of_projects(api: httpx.AsyncClient) -> None:
    """``group_id`` makes it a group project; an unknown group is 404; lists can be filtered by it."""
    await project(api)
    group = await project(api, group_id=ACCOUNT.group_id)
    details = (await api.get(group)).json()
    assert (details["storage"], details["group_id"], details["role"]) == ("group", ACCOUNT.group_id, "Owner")
    assert (await api.post("/v2/account/projects", json={"title": "abc", "group_id": 1})).status_code == 404
    for storage, count in (("group", 1), ("individual", 1)):
        assert len((await api.get(f"/v2/account/projects?storage={storage}")).json()) == count
    assert (await api.get("/v2/account/projects?storage=other")).status_code == 422
    assert (await api.get("/v2/account/projects?roles=viewer")).json() == []
    assert (await api.get("/v2/account/projects?roles=king")).status_code == 422


async def test_renaming_a_project(api: httpx.AsyncClient) -> None:
    """205; a title out of bounds is 422 and changes nothing."""
    location = await project(api, description="D")
    assert (await api.patch(location, json={"title": "Another"})).status_code == 205
    assert (await api.put(location, json={"title": "x"})).status_code == 422
    details = (await api.get(location)).json()
    assert (details["title"], details["description"]) == ("Another", "D")


async def test_an_article_made_in_a_project(api: httpx.AsyncClient) -> None:
    """The answer has the location only; the article is in the project and among the account's own."""
    location = await project(api)
    answer = await api.post(f"{location}/articles", json={"title": "Inside"})
    assert list(answer.json()) == ["location"]
    number = int(answer.headers["Location"].rpartition("/")[2])
    assert [a["id"] for a in (await api.get(f"{location}/articles")).json()] == [number]
    assert (await api.get(f"{location}/articles/{number}")).json()["title"] == "Inside"
    assert (await api.get(f"/v2/account/articles/{number}")).status_code == 200
    assert (await api.delete(f"{location}/articles/{number}")).status_code == 204
    assert (await api.get(f"/v2/account/articles/{number}")).status_code == 404


async def test_an_article_of_another_project(example_api: httpx.AsyncClient) -> None:
    """Through a project that it is not in, it is 404."""
    assert (await example_api.get("/v2/account/projects/150002/articles/20000001")).status_code == 404
    assert (await example_api.delete("/v2/account/projects/150002/articles/20000001")).status_code == 404


async def test_deleting_an_individual_project_releases_its_articles(
    example_api: httpx.AsyncClient,
) -> None:
    """They stay with the account, in no project (api.md §4)."""
    assert (await example_api.delete("/v2/account/projects/150001")).status_code == 204
    assert (await example_api.get("/v2/account/projects/150001")).status_code == 404
    assert (await example_api.get("/v2/account/articles/20000001")).status_code == 200
    state = (await example_api.get("/_sandbox/account")).json()
    assert next(a for a in state["articles"] if a["id"] == 20000001)["project_id"] is None


async def test_deleting_a_group_project_deletes_its_articles(example_api: httpx.AsyncClient) -> None:
    """With their files (quirk P8)."""
    assert (await example_api.delete("/v2/account/projects/150002")).status_code == 204
    assert (await example_api.get("/v2/account/articles/20000003")).status_code == 404


async def test_a_project_with_public_articles_stays(api: httpx.AsyncClient) -> None:
    """403, and nothing is deleted (api.md §4)."""
    location = await project(api)
    fields = {"title": "Public", "description": "d", "tags": ["t"], "categories": [24002]}
    article = (await api.post(f"{location}/articles", json=fields)).json()["location"]
    await api.post(f"{article}/files", json={"link": "https://example.org/x"})
    assert (await api.post(f"{article}/publish")).status_code == 201
    assert (await api.delete(location)).status_code == 403
    assert (await api.delete(f"{location}/articles/{article.rpartition('/')[2]}")).status_code == 403
    assert (await api.get(location)).status_code == 200


async def test_group_projects_use_the_groups_quota(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """Files in them count for the group, not for the account (quirk U21)."""
    sandbox.settings.change({"quota": 10, "group_quota": 1000})
    location = await project(api, group_id=ACCOUNT.group_id)
    article = (await api.post(f"{location}/articles", json={"title": "Inside"})).json()["location"]
    file = {"name": "a", "size": 600}
    assert (await api.post(f"{article}/files", json=file)).status_code == 201
    assert (await api.post(f"{article}/files", json=file)).status_code == 422
    details = (await api.get(location)).json()
    assert (details["quota"], details["used_quota"], details["used_quota_private"]) == (1000, 600, 600)
    assert (await api.get("/v2/account")).json()["used_quota"] == 0


async def test_articles_of_a_collection(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """Added once, replaced as a whole, removed one by one; articles themselves stay."""
    first, second, third = await bulk(sandbox, count=3)
    body = {"title": "A collection", "articles": [first]}
    location = (await api.post("/v2/account/collections", json=body)).json()["location"]

    async def members() -> list[int]:
        return [article["id"] for article in (await api.get(f"{location}/articles")).json()]

    assert (await api.post(f"{location}/articles", json={"articles": [second, first]})).status_code == 201
    assert await members() == [first, second]
    assert (await api.put(f"{location}/articles", json={"articles": [third, first]})).status_code == 205
    assert await members() == [third, first]
    assert (await api.delete(f"{location}/articles/{third}")).status_code == 204
    assert (await api.delete(f"{location}/articles/{third}")).status_code == 404
    assert (await api.get(location)).json()["articles_count"] == 1
    assert (await api.delete(location)).status_code == 204
    assert (await api.get(location)).status_code == 404
    assert len((await api.get("/v2/account/articles")).json()) == 3


async def test_what_is_changed_in_a_public_collection(api: httpx.AsyncClient) -> None:
    """Its owner sees it, the public the last version, until the next is published (api.md §5)."""
    fields = {"title": "Article", "description": "d", "tags": ["t"], "categories": [24002]}
    ids = []
    for _ in range(2):
        article = (await api.post("/v2/account/articles", json=fields)).json()["location"]
        await api.post(f"{article}/files", json={"link": "https://example.org/x"})
        await api.post(f"{article}/publish")
        ids.append(int(article.rpartition("/")[2]))
    body = fields | {"title": "Before", "articles": ids[:1]}
    own = (await api.post("/v2/account/collections", json=body)).json()["location"]
    public = own.replace("/account", "")
    assert (await api.post(f"{own}/publish")).status_code == 201

    async def seen(path: str) -> tuple[str, int, list[int]]:
        found = (await api.get(path)).json()
        articles = (await api.get(f"{path}/articles")).json() if "versions" not in path else []
        return found["title"], found["articles_count"], [article["id"] for article in articles]

    await api.patch(own, json={"title": "After"})
    await api.post(f"{own}/articles", json={"articles": ids[1:]})
    assert await seen(own) == ("After", 2, ids)
    assert await seen(public) == ("Before", 1, ids[:1])
    assert (await api.post(f"{own}/publish")).status_code == 201
    assert await seen(public) == ("After", 2, ids)
    assert await seen(f"{public}/versions/1") == ("Before", 1, [])


@pytest.mark.parametrize(
    ("articles", "status"),
    [([999], 404), ([0], 422), (["1"], 422), (1, 422), (list(range(1, 12)), 422), (None, 422)],
)
async def test_bad_members(sandbox: Sandbox, api: httpx.AsyncClient, articles: object, status: int) -> None:
    """Unknown articles are 404; more than ten at once and what is no list of ids 422; nothing is added."""
    [known] = await bulk(sandbox, count=1)
    location = (await api.post("/v2/account/collections", json={"title": "Coll"})).json()["location"]
    given = [known, *articles] if isinstance(articles, list) else articles
    assert (await api.post(f"{location}/articles", json={"articles": given})).status_code == status
    assert (await api.get(f"{location}/articles")).json() == []
