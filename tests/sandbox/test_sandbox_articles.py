"""Own and public articles: what is accepted, what is refused, what is shown."""

from __future__ import annotations

import httpx
import pytest
from sandbox_openapi import client_of

from figfs.sandbox.seed import bulk
from figfs.sandbox.state import Sandbox

READY = {
    "title": "Ready to publish",
    "description": "All about it",
    "tags": ["frog"],
    "categories": [24002],
    "is_metadata_record": True,
}


async def create(api: httpx.AsyncClient, **fields: object) -> int:
    answer = await api.post("/v2/account/articles", json={"title": "Some title"} | fields)
    assert answer.status_code == 201, answer.text
    number: int = answer.json()["entity_id"]
    return number


@pytest.mark.parametrize(
    "headers", [{}, {"Authorization": "token wrong"}, {"Authorization": "sandbox-token-0001"}]
)
async def test_private_endpoints_need_the_token(sandbox: Sandbox, headers: dict[str, str]) -> None:
    """401 for a missing, an unknown and an ill-formed token."""
    async with client_of(sandbox, **headers) as client:
        answer = await client.get("/v2/account")
    assert answer.status_code == 401
    assert answer.json()["code"] == "OAuthInvalidToken"


async def test_the_token_may_be_in_the_query(anyone: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """``?access_token=`` does as well as the header; a wrong one does not."""
    assert (await anyone.get(f"/v2/account?access_token={sandbox.token}")).status_code == 200
    assert (await anyone.get("/v2/account?access_token=x")).status_code == 401


@pytest.mark.parametrize(
    ("title", "status"),
    [("ab", 422), ("abc", 201), ("x" * 1000, 201), ("x" * 1001, 422), (7, 422), (None, 422)],
)
async def test_titles_have_3_to_1000_characters(api: httpx.AsyncClient, title: object, status: int) -> None:
    """Titles out of bounds are refused, when an article is made and when it is renamed."""
    assert (await api.post("/v2/account/articles", json={"title": title})).status_code == status
    number = await create(api)
    renamed = await api.patch(f"/v2/account/articles/{number}", json={"title": title})
    assert renamed.status_code == (205 if status == 201 else 422)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"title": "abc", "tags": "frog"}, 422),
        ({"title": "abc", "description": "x" * 20_001}, 422),
        ({"title": "abc", "categories": [1]}, 404),
        ({"title": "abc", "categories": [26001]}, 404),  # in the public list only (quirk P5)
        ({"title": "abc", "authors": [{"id": 99}]}, 404),
        ({"title": "abc", "authors": [{}]}, 422),
        ({"title": "abc", "license": 99}, 422),
        ({"title": "abc", "defined_type": "nonsense"}, 422),
        ({"title": "abc", "references": ["no url"]}, 422),
        ({"title": "abc", "custom_fields": {"x": "y"}}, 422),
        ({"title": "abc", "unknown": 1}, 201),
    ],
)
async def test_fields_are_checked(api: httpx.AsyncClient, body: dict[str, object], status: int) -> None:
    """Each field has the type and the bounds of its schema; nothing is made of a refused body."""
    assert (await api.post("/v2/account/articles", json=body)).status_code == status
    assert len((await api.get("/v2/account/articles")).json()) == (status == 201)


async def test_bodies_are_json_objects(api: httpx.AsyncClient) -> None:
    """400 for what is no JSON object, 415 for a form; a missing Content-Type is let pass."""
    for body, status in ((b"{", 400), (b"[]", 400), (b"", 400), (b'{"title": "abc"}', 201)):
        assert (await api.post("/v2/account/articles", content=body)).status_code == status
    assert (await api.post("/v2/account/articles", data={"title": "abc"})).status_code == 415


async def test_a_new_article(api: httpx.AsyncClient) -> None:
    """It is a draft of the account; blank fields are null or "" as in captured answers (quirk L14)."""
    answer = await api.post("/v2/account/articles", json={"title": "Fröhliche <i>Titel</i>", "tags": ["a"]})
    location = answer.headers["Location"]
    assert answer.json() == {
        "entity_id": int(location.rpartition("/")[2]),
        "location": location,
        "warnings": [],
    }
    article = (await api.get(location)).json()
    assert article["title"] == "Fröhliche <i>Titel</i>"
    assert (article["status"], article["version"], article["is_public"]) == ("draft", 0, False)
    assert (article["published_date"], article["resource_doi"], article["doi"]) == (None, None, "")
    assert article["tags"] == article["keywords"] == ["a"]
    assert [author["full_name"] for author in article["authors"]] == ["Ada Sandbox"]  # quirk P6
    assert article["folder_structure"] == {}
    assert article["created_date"].endswith("Z")


async def test_patch_changes_only_what_is_given(api: httpx.AsyncClient) -> None:
    """Other fields stay; the answer is 205 with the location."""
    number = await create(api, description="D", tags=["t"], license=2)
    answer = await api.patch(f"/v2/account/articles/{number}", json={"title": "New title"})
    assert answer.status_code == 205
    article = (await api.get(answer.json()["location"])).json()
    assert (article["title"], article["description"], article["tags"]) == ("New title", "D", ["t"])
    assert article["license"]["name"] == "CC0"


async def test_details_show_ten_files(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """Ten of eleven, the size of all (quirk L5); the files endpoint shows all, ten by default."""
    [number] = await bulk(sandbox, count=1, file_count=11, file_size=7)
    article = (await api.get(f"/v2/account/articles/{number}")).json()
    assert len(article["files"]) == 10
    assert article["files"][0]["status"] == "available"
    assert article["size"] == 77
    assert len((await api.get(f"/v2/account/articles/{number}/files")).json()) == 10
    assert len((await api.get(f"/v2/account/articles/{number}/files?page_size=20")).json()) == 11


async def test_folders_are_in_the_details_only(example_api: httpx.AsyncClient) -> None:
    """``folder_structure`` maps file ids to paths without a leading slash; file objects have no folder."""
    article = (await example_api.get("/v2/account/articles/20000001")).json()
    assert article["folder_structure"]["40000002"] == "data/2019"
    assert "40000001" not in article["folder_structure"]
    assert not any("folder" in key for key in article["files"][1])


async def test_other_peoples_articles(example_api: httpx.AsyncClient) -> None:
    """A collection may show them, the public may see them; as own articles they are 404 (quirk L13)."""
    listed = (await example_api.get("/v2/account/collections/6000001/articles")).json()
    guest = listed[-1]
    assert guest["url"].endswith(f"/v2/articles/{guest['id']}")
    assert (await example_api.get(f"/v2/account/articles/{guest['id']}")).status_code == 404
    assert (await example_api.delete(f"/v2/account/articles/{guest['id']}")).status_code == 404
    assert (await example_api.get(guest["url"])).status_code == 200


async def test_publishing_needs_metadata(api: httpx.AsyncClient) -> None:
    """400 names all that is missing; nothing is public then."""
    number = await create(api)
    answer = await api.post(f"/v2/account/articles/{number}/publish")
    assert answer.status_code == 400
    assert answer.json()["message"].endswith("description, tags, categories, files")
    assert (await api.get(f"/v2/articles/{number}")).status_code == 404


async def test_a_published_article_stays(api: httpx.AsyncClient) -> None:
    """Neither DELETE nor unpublish is granted (quirk P1)."""
    number = await create(api, **READY)
    assert (await api.post(f"/v2/account/articles/{number}/publish")).status_code == 201
    assert (await api.delete(f"/v2/account/articles/{number}")).status_code == 403
    unpublish = await api.post(f"/v2/account/articles/{number}/unpublish", json={"reason": "A mistake"})
    assert unpublish.status_code == 403
    assert (await api.get(f"/v2/articles/{number}")).status_code == 200


async def test_a_version_never_changes(api: httpx.AsyncClient, anyone: httpx.AsyncClient) -> None:
    """Edits are a draft until the next publication, which makes a new version (quirk P2)."""
    number = await create(api, **READY)
    await api.post(f"/v2/account/articles/{number}/publish")
    first = (await anyone.get(f"/v2/articles/{number}/versions/1")).json()
    await api.patch(f"/v2/account/articles/{number}", json={"title": "Changed title"})
    mine = (await api.get(f"/v2/account/articles/{number}")).json()
    assert (mine["status"], mine["is_public"], mine["title"]) == ("draft", True, "Changed title")
    assert (await anyone.get(f"/v2/articles/{number}")).json() == first
    await api.post(f"/v2/account/articles/{number}/publish")
    assert (await api.get(f"/v2/account/articles/{number}")).json()["status"] == "public"
    versions = (await anyone.get(f"/v2/articles/{number}/versions")).json()
    assert [entry["version"] for entry in versions] == [1, 2]
    assert (await anyone.get(versions[0]["url"])).json() == first
    latest = (await anyone.get(f"/v2/articles/{number}")).json()
    assert (latest["title"], latest["doi"]) == ("Changed title", f"10.6084/m9.figshare.{number}.v2")
    assert (await anyone.get(f"/v2/articles/{number}/versions/0")).status_code == 404


async def test_files_of_a_version_stay(example_api: httpx.AsyncClient) -> None:
    """A file deleted from the draft is still in its version, listed, with its bytes (quirk P3)."""
    old = (await example_api.get("/v2/articles/20000005/versions/1/files")).json()
    new = (await example_api.get("/v2/account/articles/20000005/files")).json()
    assert {file["name"] for file in old} == {"README.txt", "calls_2019.zip"}
    assert all(file["is_attached_to_public_version"] for file in new)
    shared = next(file for file in new if file["name"] == "calls_2019.zip")
    assert (
        await example_api.delete(f"/v2/account/articles/20000005/files/{shared['id']}")
    ).status_code == 204
    assert (await example_api.get(f"/v2/account/articles/20000005/files/{shared['id']}")).status_code == 404
    assert (await example_api.get("/v2/account/articles/20000005")).json()["status"] == "draft"
    assert (await example_api.get("/v2/articles/20000005/versions/1/files")).json() == old
    assert (await example_api.get(f"/v2/articles/20000005/files/{shared['id']}")).status_code == 200
    assert (await example_api.get(f"/v2/file/download/{shared['id']}")).status_code == 302


async def test_deleting_a_draft_deletes_its_files(example: Sandbox, example_api: httpx.AsyncClient) -> None:
    """Article and files are 404, their bytes are off the disk, the collection forgets it."""
    before = (await example_api.get("/v2/account")).json()["used_quota"]
    assert (await example_api.delete("/v2/account/articles/20000001")).status_code == 204
    assert (await example_api.get("/v2/account/articles/20000001")).status_code == 404
    assert (await example_api.get("/v2/file/download/40000001")).status_code == 404
    assert not example.blobs.path(40000001).exists()
    assert (await example_api.get("/v2/account/collections/6000001")).json()["articles_count"] == 2
    assert (await example_api.get("/v2/account")).json()["used_quota"] < before


async def test_articles_of_projects_in_the_list(example: Sandbox, example_api: httpx.AsyncClient) -> None:
    """Whether they are listed among the own articles is a setting, as nobody knows (api.md §3)."""
    listed = (await example_api.get("/v2/account/articles?page_size=100")).json()
    assert len(listed) == 12
    example.settings.list_project_articles = False
    listed = (await example_api.get("/v2/account/articles?page_size=100")).json()
    assert len(listed) == 8


async def test_the_example_account_has_what_is_odd(example_api: httpx.AsyncClient) -> None:
    """Doubled titles and names, ``/``, HTML, non-ASCII, long titles, a linked file, more than ten files."""
    listed = (await example_api.get("/v2/account/articles?page_size=100")).json()
    titles = [article["title"] for article in listed]
    assert len(titles) - len(set(titles)) == 1
    assert any("/" in title for title in titles)
    assert any("<sub>" in title and "&amp;" in title for title in titles)
    assert any(len(title.encode()) > 255 for title in titles)
    assert not all(title.isascii() for title in titles)
    linked = (await example_api.get("/v2/account/articles/20000012/files")).json()[0]
    assert (linked["is_link_only"], linked["size"], linked["supplied_md5"]) == (True, 0, "")
    assert linked["download_url"] == "https://data.example.org/ice/extent.nc"
    names = [file["name"] for file in (await example_api.get("/v2/account/articles/20000011/files")).json()]
    assert names.count("results.csv") == 2
    assert len((await example_api.get("/v2/account/articles/20000002/files?limit=1000")).json()) == 12
