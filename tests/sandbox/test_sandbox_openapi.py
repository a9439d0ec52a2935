"""Every endpoint of the sandbox answers as Figshare's description of its API says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import httpx
import jsonschema
import pytest
from sandbox_openapi import DESCRIPTION, OTHER_PROTOCOLS

from figfs.sandbox import articles, search
from figfs.sandbox.app import routes
from figfs.sandbox.state import Sandbox

# Of the example account.
IN_PROJECT, PUBLISHED, DRAFT, LINKED = 20000001, 20000005, 20000006, 20000012
GUEST, PROJECT, COLLECTION = 20000013, 150001, 6000001

MD5 = "d41d8cd98f00b204e9800998ecf8427e"
NEW = {
    "title": "A new one",
    "authors": [{"name": "Jo Doe"}],
    "categories": [24002],
    "tags": ["t"],
    "license": 2,
}


class Form(NamedTuple):
    """A form with one file, where a body is no JSON."""

    field: str
    name: str
    content: bytes


Prepare = Callable[[httpx.AsyncClient], Awaitable[str]]


async def _uploaded(api: httpx.AsyncClient) -> str:
    """A file with all its parts, not completed: the path to complete it."""
    body = {"name": "a.txt", "size": 3, "md5": MD5}
    location = (await api.post(f"/v2/account/articles/{DRAFT}/files", json=body)).json()["location"]
    upload_url = (await api.get(location)).json()["upload_url"]
    await api.put(f"{upload_url}/1", content=b"abc")
    return httpx.URL(location).path


async def _published_file(api: httpx.AsyncClient) -> str:
    files = (await api.get(f"/v2/articles/{PUBLISHED}/files")).json()
    return f"/v2/articles/{PUBLISHED}/files/{files[0]['id']}"


async def _draft_file(api: httpx.AsyncClient) -> str:
    files = (await api.get(f"/v2/account/articles/{DRAFT}/files")).json()
    return f"/v2/account/articles/{DRAFT}/files/{files[0]['id']}"


async def _download(api: httpx.AsyncClient) -> str:
    return "/v2/file/download/" + (await _draft_file(api)).rpartition("/")[2]


async def _described_collection(api: httpx.AsyncClient) -> str:
    """The collection with all that publishing needs: the path to publish it."""
    path = f"/v2/account/collections/{COLLECTION}"
    await api.patch(path, json={"description": "Ice, and climate"})
    return f"{path}/publish"


async def _project_file(api: httpx.AsyncClient) -> str:
    path = f"/v2/account/projects/{PROJECT}/articles/{IN_PROJECT}/files"
    return f"{path}/{(await api.get(path)).json()[0]['id']}"


async def _article_link(api: httpx.AsyncClient) -> str:
    path = f"/v2/account/articles/{DRAFT}/private_links"
    return httpx.URL((await api.post(path)).json()["location"]).path


async def _collection_link(api: httpx.AsyncClient) -> str:
    path = f"/v2/account/collections/{COLLECTION}/private_links"
    return httpx.URL((await api.post(path)).json()["location"]).path


async def _note(api: httpx.AsyncClient) -> str:
    path = f"/v2/account/projects/{PROJECT}/notes"
    return httpx.URL((await api.post(path, json={"text": "A note"})).json()["location"]).path


def _above(prepare: Prepare) -> Prepare:
    """The listing that has what ``prepare`` makes."""

    async def path(api: httpx.AsyncClient) -> str:
        return (await prepare(api)).rpartition("/")[0]

    return path


EXPIRES = {"expires_date": "2100-02-22 22:22:22"}


#: One good request for each route: status, body, and the path or what finds it.
EXAMPLES: dict[tuple[str, str], tuple[int, object, str | Prepare]] = {
    ("GET", "/account"): (200, None, "/v2/account"),
    ("GET", "/token"): (200, None, "/v2/token"),
    ("POST", "/token"): (400, {"grant_type": "password"}, "/v2/token"),  # 200: test_sandbox_oauth.py
    ("GET", "/licenses"): (200, None, "/v2/licenses"),
    ("GET", "/categories"): (200, None, "/v2/categories"),
    ("GET", "/account/licenses"): (200, None, "/v2/account/licenses"),
    ("GET", "/account/categories"): (200, None, "/v2/account/categories"),
    ("GET", "/account/articles"): (200, None, "/v2/account/articles?page_size=1000"),
    ("POST", "/account/articles"): (201, NEW, "/v2/account/articles"),
    ("POST", "/account/articles/search"): (200, {"page_size": 100}, "/v2/account/articles/search"),
    ("GET", "/account/articles/{article_id}"): (200, None, f"/v2/account/articles/{IN_PROJECT}"),
    ("PUT", "/account/articles/{article_id}"): (205, NEW, f"/v2/account/articles/{DRAFT}"),
    ("PATCH", "/account/articles/{article_id}"): (205, {"title": "Other"}, f"/v2/account/articles/{DRAFT}"),
    ("DELETE", "/account/articles/{article_id}"): (204, None, f"/v2/account/articles/{DRAFT}"),
    ("POST", "/account/articles/{article_id}/publish"): (201, None, f"/v2/account/articles/{DRAFT}/publish"),
    ("POST", "/account/articles/{article_id}/unpublish"): (
        403,  # never granted to ordinary users (quirk P1)
        {"reason": "It was wrong"},
        f"/v2/account/articles/{PUBLISHED}/unpublish",
    ),
    ("GET", "/account/articles/{article_id}/files"): (200, None, f"/v2/account/articles/{DRAFT}/files"),
    ("POST", "/account/articles/{article_id}/files"): (
        201,
        {"name": "a.txt", "size": 3, "md5": MD5, "folder_path": "/a/b"},
        f"/v2/account/articles/{DRAFT}/files",
    ),
    ("GET", "/account/articles/{article_id}/files/{file_id}"): (200, None, _draft_file),
    ("POST", "/account/articles/{article_id}/files/{file_id}"): (202, None, _uploaded),
    ("DELETE", "/account/articles/{article_id}/files/{file_id}"): (204, None, _draft_file),
    ("GET", "/account/projects"): (200, None, "/v2/account/projects?roles=owner"),
    ("POST", "/account/projects"): (201, {"title": "A project"}, "/v2/account/projects"),
    ("POST", "/account/projects/search"): (
        200,
        {"search_for": "ice OR glacier"},
        "/v2/account/projects/search",
    ),
    ("GET", "/account/projects/{project_id}"): (200, None, f"/v2/account/projects/{PROJECT}"),
    ("PUT", "/account/projects/{project_id}"): (205, {"title": "New"}, f"/v2/account/projects/{PROJECT}"),
    ("PATCH", "/account/projects/{project_id}"): (205, {"title": "New"}, f"/v2/account/projects/{PROJECT}"),
    ("DELETE", "/account/projects/{project_id}"): (204, None, f"/v2/account/projects/{PROJECT}"),
    ("GET", "/account/projects/{project_id}/articles"): (
        200,
        None,
        f"/v2/account/projects/{PROJECT}/articles",
    ),
    ("POST", "/account/projects/{project_id}/articles"): (
        201,
        NEW,
        f"/v2/account/projects/{PROJECT}/articles",
    ),
    ("GET", "/account/projects/{project_id}/articles/{article_id}"): (
        200,
        None,
        f"/v2/account/projects/{PROJECT}/articles/{IN_PROJECT}",
    ),
    ("DELETE", "/account/projects/{project_id}/articles/{article_id}"): (
        204,
        None,
        f"/v2/account/projects/{PROJECT}/articles/{IN_PROJECT}",
    ),
    ("GET", "/account/projects/{project_id}/articles/{article_id}/files"): (
        200,
        None,
        f"/v2/account/projects/{PROJECT}/articles/{IN_PROJECT}/files",
    ),
    ("GET", "/account/projects/{project_id}/articles/{article_id}/files/{file_id}"): (
        200,
        None,
        _project_file,
    ),
    ("GET", "/account/collections"): (200, None, "/v2/account/collections"),
    ("POST", "/account/collections"): (
        201,
        {"title": "A collection", "articles": [DRAFT]},
        "/v2/account/collections",
    ),
    ("POST", "/account/collections/search"): (
        200,
        {"search_for": '"climate"'},
        "/v2/account/collections/search",
    ),
    ("GET", "/account/collections/{collection_id}"): (200, None, f"/v2/account/collections/{COLLECTION}"),
    ("PUT", "/account/collections/{collection_id}"): (
        205,
        {"title": "Other", "articles": [DRAFT]},
        f"/v2/account/collections/{COLLECTION}",
    ),
    ("PATCH", "/account/collections/{collection_id}"): (
        205,
        {"tags": ["x"]},
        f"/v2/account/collections/{COLLECTION}",
    ),
    ("DELETE", "/account/collections/{collection_id}"): (204, None, f"/v2/account/collections/{COLLECTION}"),
    ("GET", "/account/collections/{collection_id}/articles"): (
        200,
        None,
        f"/v2/account/collections/{COLLECTION}/articles",
    ),
    ("POST", "/account/collections/{collection_id}/articles"): (
        201,
        {"articles": [DRAFT]},
        f"/v2/account/collections/{COLLECTION}/articles",
    ),
    ("PUT", "/account/collections/{collection_id}/articles"): (
        205,
        {"articles": [DRAFT]},
        f"/v2/account/collections/{COLLECTION}/articles",
    ),
    ("DELETE", "/account/collections/{collection_id}/articles/{article_id}"): (
        204,
        None,
        f"/v2/account/collections/{COLLECTION}/articles/{GUEST}",
    ),
    ("POST", "/account/articles/{article_id}/reserve_doi"): (
        200,
        None,
        f"/v2/account/articles/{DRAFT}/reserve_doi",
    ),
    ("POST", "/account/collections/{collection_id}/reserve_doi"): (
        200,
        None,
        f"/v2/account/collections/{COLLECTION}/reserve_doi",
    ),
    ("POST", "/account/collections/{collection_id}/publish"): (201, None, _described_collection),
    ("GET", "/articles"): (200, None, "/v2/articles?order=published_date"),
    ("POST", "/articles/search"): (200, {"search_for": ":title: frog"}, "/v2/articles/search"),
    ("GET", "/articles/{article_id}"): (200, None, f"/v2/articles/{PUBLISHED}"),
    ("GET", "/articles/{article_id}/versions"): (200, None, f"/v2/articles/{PUBLISHED}/versions"),
    ("GET", "/articles/{article_id}/versions/{version_id}"): (
        200,
        None,
        f"/v2/articles/{PUBLISHED}/versions/1",
    ),
    ("GET", "/articles/{article_id}/versions/{version_id}/files"): (
        200,
        None,
        f"/v2/articles/{PUBLISHED}/versions/1/files",
    ),
    ("GET", "/articles/{article_id}/files"): (200, None, f"/v2/articles/{PUBLISHED}/files"),
    ("GET", "/articles/{article_id}/files/{file_id}"): (200, None, _published_file),
    ("GET", "/file/download/{file_id}"): (302, None, _download),
    ("GET", "/account/articles/{article_id}/private_links"): (200, None, _above(_article_link)),
    ("POST", "/account/articles/{article_id}/private_links"): (
        201,
        EXPIRES,
        f"/v2/account/articles/{DRAFT}/private_links",
    ),
    ("PUT", "/account/articles/{article_id}/private_links/{link_id}"): (205, EXPIRES, _article_link),
    ("DELETE", "/account/articles/{article_id}/private_links/{link_id}"): (204, None, _article_link),
    ("GET", "/account/collections/{collection_id}/private_links"): (200, None, _above(_collection_link)),
    ("POST", "/account/collections/{collection_id}/private_links"): (
        201,
        EXPIRES,
        f"/v2/account/collections/{COLLECTION}/private_links",
    ),
    ("GET", "/account/collections/{collection_id}/private_links/{link_id}"): (200, None, _collection_link),
    ("PUT", "/account/collections/{collection_id}/private_links/{link_id}"): (
        205,
        EXPIRES,
        _collection_link,
    ),
    ("DELETE", "/account/collections/{collection_id}/private_links/{link_id}"): (
        204,
        None,
        _collection_link,
    ),
    ("GET", "/account/projects/{project_id}/collaborators"): (
        200,
        None,
        f"/v2/account/projects/{PROJECT}/collaborators",
    ),
    ("GET", "/account/projects/{project_id}/notes"): (200, None, _above(_note)),
    ("POST", "/account/projects/{project_id}/notes"): (
        201,
        {"text": "A note"},
        f"/v2/account/projects/{PROJECT}/notes",
    ),
    ("GET", "/account/projects/{project_id}/notes/{note_id}"): (200, None, _note),
    ("PUT", "/account/projects/{project_id}/notes/{note_id}"): (205, {"text": "Another"}, _note),
    ("DELETE", "/account/projects/{project_id}/notes/{note_id}"): (204, None, _note),
    ("GET", "/projects"): (200, None, "/v2/projects"),
    ("POST", "/projects/search"): (200, {"search_for": ":title: glacier"}, "/v2/projects/search"),
    ("GET", "/projects/{project_id}"): (200, None, f"/v2/projects/{PROJECT}"),
    ("GET", "/projects/{project_id}/articles"): (200, None, f"/v2/projects/{PROJECT}/articles"),
    ("GET", "/collections"): (200, None, "/v2/collections"),
    ("POST", "/collections/search"): (200, {"search_for": ":title: ice"}, "/v2/collections/search"),
    ("GET", "/collections/{collection_id}"): (200, None, f"/v2/collections/{COLLECTION}"),
    ("GET", "/collections/{collection_id}/versions"): (200, None, f"/v2/collections/{COLLECTION}/versions"),
    ("GET", "/collections/{collection_id}/versions/{version_id}"): (
        200,
        None,
        f"/v2/collections/{COLLECTION}/versions/1",
    ),
    ("GET", "/collections/{collection_id}/articles"): (
        200,
        None,
        f"/v2/collections/{COLLECTION}/articles",
    ),
    ("POST", "/account/projects/{project_id}/publish"): (
        200,
        None,
        f"/v2/account/projects/{PROJECT}/publish",
    ),
    ("GET", "/account/institution"): (200, None, "/v2/account/institution"),
    ("GET", "/account/institution/accounts"): (200, None, "/v2/account/institution/accounts"),
    ("POST", "/account/institution/accounts"): (
        201,
        {"email": "new@example.org", "last_name": "New"},
        "/v2/account/institution/accounts",
    ),
    ("GET", "/account/institution/accounts/{account_id}"): (
        200,
        None,
        "/v2/account/institution/accounts/1000002",
    ),
    ("POST", "/account/institution/accounts/search"): (
        200,
        {"search_for": "sven"},
        "/v2/account/institution/accounts/search",
    ),
    ("GET", "/account/institution/articles"): (200, None, "/v2/account/institution/articles"),
    ("GET", "/account/institution/custom_fields"): (200, None, "/v2/account/institution/custom_fields"),
    ("POST", "/account/institution/custom_fields/{custom_field_id}/items/upload"): (
        200,
        Form("external_file", "departments.csv", b"Name\nPhysics\n"),
        "/v2/account/institution/custom_fields/501/items/upload",
    ),
    ("POST", "/institution/hrfeed/upload"): (
        200,
        Form("hrfeed", "people.csv", b"UniqueID,FirstName,LastName,Email\n"),
        "/v2/institution/hrfeed/upload",
    ),
}

#: Of these the body must not be empty, or the example would show nothing.
LISTS = [key for key in EXAMPLES if key[0] == "GET" or key[1].endswith("/search")]


def _implemented() -> set[tuple[str, str]]:
    return {
        (method, route.path_format.removeprefix("/v2"))
        for route in routes
        if route.path_format.startswith("/v2/") and route.path_format not in OTHER_PROTOCOLS
        for method in (route.methods or set()) - {"HEAD"}
    }


def test_every_route_has_an_example() -> None:
    """A route without a validated example, or an example without a route, is a defect."""
    assert _implemented() == set(EXAMPLES)


def test_every_route_is_described() -> None:
    """The sandbox has no endpoint below /v2 that Figshare does not have."""
    assert [key for key in _implemented() if not DESCRIPTION.has(*key)] == []


def _publish_all(sandbox: Sandbox) -> None:
    """The project with what is in it, and the collection."""
    for row in sandbox.store.rows("SELECT * FROM articles WHERE project_id = ?", PROJECT):
        if not row["version"]:
            articles.publish(sandbox, row)
    for kind, number in (("projects", PROJECT), ("collections", COLLECTION)):
        sandbox.store.update(kind, number, {"published": sandbox.clock.stamp()})
        search.changed(sandbox, kind, number)
    search.index_at_once(sandbox.store)


@pytest.mark.parametrize("key", EXAMPLES, ids=" ".join)
async def test_example(key: tuple[str, str], example: Sandbox, example_api: httpx.AsyncClient) -> None:
    """A good request gets the described status and shape (checked by the client's hook)."""
    example.settings.institution_admin = True
    if "/account" not in key[1] or key[1].endswith("{project_id}/publish"):
        _publish_all(example)
    status, body, path = EXAMPLES[key]
    where = path if isinstance(path, str) else await path(example_api)
    operation = DESCRIPTION.operation(key[0], httpx.URL(where).path.removeprefix("/v2"))
    assert operation is not None
    assert (operation.method, operation.path) == key
    if isinstance(body, Form):
        response = await example_api.request(key[0], where, files={body.field: (body.name, body.content)})
    else:
        response = await example_api.request(key[0], where, json=body)
    assert response.status_code == status, response.text
    if key in LISTS and status == 200:
        assert response.json(), "an empty answer validates against anything"


@pytest.mark.parametrize("article_id", [IN_PROJECT, PUBLISHED, LINKED])
async def test_details_of_all_kinds(article_id: int, example_api: httpx.AsyncClient) -> None:
    """Drafts, published and linked articles alike (checked by the client's hook)."""
    assert (await example_api.get(f"/v2/account/articles/{article_id}")).status_code == 200


def _answer() -> dict[str, Any]:
    return {
        "id": 1,
        "name": "a",
        "size": 1,
        "is_link_only": False,
        "download_url": "",
        "supplied_md5": "",
        "computed_md5": "",
    }


@pytest.mark.parametrize("broken", [{"id": "1"}, {"size": None}, {"name": 3}])
def test_a_wrong_answer_is_rejected(broken: dict[str, Any]) -> None:
    """The validator can fail: wrong types and missing fields are found, behind references too."""
    schema = {"type": "array", "items": {"$ref": "#/components/schemas/PublicFile"}}
    DESCRIPTION.validate(schema, [_answer()])
    with pytest.raises(jsonschema.ValidationError):
        DESCRIPTION.validate(schema, [_answer() | broken])
    with pytest.raises(jsonschema.ValidationError):
        DESCRIPTION.validate({"$ref": "#/components/schemas/PrivateFile"}, _answer())


def _response(method: str, path: str, status: int, body: object) -> httpx.Response:
    request = httpx.Request(method, f"http://127.0.0.1/v2{path}")
    kind = {"Content-Type": "application/json; charset=UTF-8"}
    return httpx.Response(status, json=body, headers=kind, request=request)


def test_a_wrong_status_or_error_is_rejected() -> None:
    """The check can fail: an undescribed status, an error without a message, an undescribed path."""
    with pytest.raises(AssertionError):
        DESCRIPTION.check_response(_response("GET", "/account/articles", 206, []))
    with pytest.raises(jsonschema.ValidationError):
        DESCRIPTION.check_response(_response("GET", "/account/articles", 403, {"message": "m", "code": 7}))
    with pytest.raises(AssertionError):
        DESCRIPTION.check_response(_response("GET", "/account/nonsense", 200, {}))
