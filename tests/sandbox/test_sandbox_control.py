"""``/_sandbox/``: the record of requests, the state, bulk articles, settings, faults."""

from __future__ import annotations

import httpx
import pytest
import trio
from sandbox_openapi import HOST, client_of

from figfs.sandbox.state import Sandbox


async def recorded(api: httpx.AsyncClient) -> list[tuple[str, str, str, int, int]]:
    entries = (await api.get("/_sandbox/requests")).json()
    assert all(list(entry) == ["time", "role", "method", "path", "status", "bytes"] for entry in entries)
    return [(e["role"], e["method"], e["path"], e["status"], e["bytes"]) for e in entries]


async def test_requests_are_recorded(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """Role, method, path, status and bytes of each but those to /_sandbox; no queries, which hold tokens."""
    sandbox.settings.change({"assembly_delay": 0})
    article = (await api.post("/v2/account/articles", json={"title": "abc"})).json()["location"]
    location = (await api.post(f"{article}/files", json={"name": "a", "size": 4})).json()["location"]
    upload_url = (await api.get(location)).json()["upload_url"]
    assert (await api.delete("/_sandbox/requests")).status_code == 204
    assert await recorded(api) == []
    await api.put(f"{upload_url}/1", content=b"abcd")
    await api.post(location)
    number = location.rpartition("/")[2]
    for _ in range(1000):
        answer = await api.get(f"/ndownloader/files/{number}")
        if answer.status_code == 302:
            break
        await trio.sleep(0.01)
    await api.delete("/_sandbox/requests")
    answer = await api.get(f"/ndownloader/files/{number}?token={sandbox.token}")
    async with client_of(sandbox) as plain:
        await plain.get(answer.headers["Location"], headers={"Range": "bytes=1-2"})
    await api.put(f"{upload_url}/1", content=b"abcd")
    error = (await api.get("/v2/account/articles/1")).content
    nothing = (await api.get("/v2/oai")).content
    assert await recorded(api) == [
        ("download", "GET", f"/ndownloader/files/{number}", 302, 0),
        ("storage", "GET", f"/storage/{number}/a", 206, 2),
        ("upload", "PUT", httpx.URL(upload_url).path + "/1", 409, 4),
        ("api", "GET", "/v2/account/articles/1", 404, len(error)),
        ("oai", "GET", "/v2/oai", 200, len(nothing)),
    ]


async def test_the_account_as_it_is(example_api: httpx.AsyncClient) -> None:
    """Exactly the shape that was promised to other tools; other people's articles are not in it."""
    state = (await example_api.get("/_sandbox/account")).json()
    assert list(state) == ["articles", "projects", "collections"]
    assert len(state["articles"]) == 12
    frogs = next(article for article in state["articles"] if article["id"] == 20000005)
    assert {key: frogs[key] for key in ("title", "project_id", "status")} == {
        "title": "Frog calls of the Atlantic forest",
        "project_id": None,
        "status": "public",
    }
    assert set(frogs) == {"id", "title", "project_id", "status", "files"}
    assert [file["name"] for file in frogs["files"]] == ["calls_2019.zip", "README.txt", "annotations.csv"]
    assert set(frogs["files"][0]) == {"id", "name", "folder", "size", "md5", "status"}
    inside = next(article for article in state["articles"] if article["id"] == 20000001)
    assert (inside["project_id"], inside["files"][1]["folder"]) == (150001, "data/2019")
    assert [project["storage"] for project in state["projects"]] == ["individual", "group"]
    assert state["collections"][0]["articles"] == [20000001, 20000005, 20000013]


async def test_bulk_articles(api: httpx.AsyncClient) -> None:
    """n articles, a second apart, with files of the given sizes, beyond the limit of files; found at once."""
    answer = await api.post("/_sandbox/articles", json={"count": 3, "files": [10, 20], "title": "Many"})
    ids = answer.json()["ids"]
    found = (await api.post("/v2/account/articles/search", json={"search_for": "many"})).json()
    assert [article["id"] for article in found] == ids[::-1]
    assert len({article["created_date"] for article in found}) == 3
    files = (await api.get(f"/v2/account/articles/{ids[2]}/files")).json()
    assert [file["size"] for file in files] == [10, 20]
    assert len({file["computed_md5"] for file in files}) == 2
    body = {"count": 1, "file_count": 1143, "file_size": 5}
    [large] = (await api.post("/_sandbox/articles", json=body)).json()["ids"]
    path = f"/v2/account/articles/{large}/files"
    assert len((await api.get(f"{path}?page_size=1000&page=2")).json()) == 143


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"count": 0},
        {"count": "3"},
        {"count": 1, "files": [0]},
        {"count": 1, "project_id": 9},
        {"count": 1, "x": 1},
    ],
)
async def test_bad_bulk_orders(api: httpx.AsyncClient, body: dict[str, object]) -> None:
    """400 or 422 with a message, and nothing is made."""
    answer = await api.post("/_sandbox/articles", json=body)
    assert answer.status_code in (400, 422)
    assert answer.json()["message"]
    assert (await api.get("/v2/account/articles")).json() == []


async def test_settings(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """PUT changes the keys given, all or none, and they take effect."""
    changed = (await api.put("/_sandbox/settings", json={"quota": 7, "max_depth": 20})).json()
    assert (changed["quota"], changed["max_depth"], changed["part_size"]) == (7, 20, 10_485_760)
    assert (await api.get("/v2/account")).json()["quota"] == 7
    for wrong in (
        {"quota": 8, "nonsense": 1},
        {"quota": -1},
        {"quota": None},
        {"compute_md5": 1},
        {"part_size": 0},
    ):
        assert (await api.put("/_sandbox/settings", json=wrong)).status_code == 400
    assert (await api.get("/_sandbox/settings")).json() == changed


@pytest.mark.parametrize("host", ["evil.example.org", "192.168.1.5", "127.0.0.1.example.org"])
async def test_other_hosts_are_refused(api: httpx.AsyncClient, host: str) -> None:
    """A web page whose name was pointed to 127.0.0.1 gets nothing (DNS rebinding)."""
    for path in ("requests", "account", "faults", "settings"):
        assert (await api.get(f"/_sandbox/{path}", headers={"Host": host})).status_code == 403
    assert (await api.get("/_sandbox/account", headers={"Host": "localhost:4711"})).status_code == 200


@pytest.mark.parametrize(
    "plan",
    [
        {},
        [1],
        [{}],
        [{"action": "explode"}],
        [{"action": "status"}],
        [{"action": "status", "status": 99}],
        [{"action": "latency", "seconds": -1}],
        [{"action": "latency", "seconds": "1"}],
        [{"action": "bandwidth", "bytes_per_second": 0}],
        [{"action": "cut", "bytes": 1, "path": "("}],
        [{"action": "hang", "until": 1}],
        [{"action": "hang", "times": True}],
    ],
)
async def test_bad_fault_plans(api: httpx.AsyncClient, plan: object) -> None:
    """400 says which rule is wrong; the plan before stays."""
    good = [{"action": "html", "path": "^/nothing"}]
    await api.put("/_sandbox/faults", json=good)
    assert (await api.put("/_sandbox/faults", json=plan)).status_code == 400
    assert (await api.get("/_sandbox/faults")).json() == [good[0] | {"hits": 0}]


async def plan(api: httpx.AsyncClient, *rules: dict[str, object]) -> None:
    assert (await api.put("/_sandbox/faults", json=list(rules))).status_code == 200


async def test_rules_choose_requests(sandbox: Sandbox) -> None:
    """By role, method and path; ``skip`` lets some pass, ``times`` ends it; hits are counted."""
    async with httpx.AsyncClient(
        transport=client_of(sandbox)._transport,
        base_url=HOST,
        headers={"Authorization": f"token {sandbox.token}"},
    ) as api:
        rule = {
            "role": "api",
            "method": "get",
            "path": "projects$",
            "skip": 1,
            "times": 2,
            "action": "status",
        }
        await plan(api, rule | {"status": 503, "headers": {"Retry-After": "7"}})
        statuses = [(await api.get("/v2/account/projects")).status_code for _ in range(4)]
        assert statuses == [200, 503, 503, 200]
        assert (await api.get("/v2/account")).status_code == 200
        assert (await api.post("/v2/account/projects", json={"title": "abc"})).status_code == 201
        assert (await api.get("/_sandbox/faults")).json()[0]["hits"] == 2


@pytest.mark.parametrize(
    ("rule", "status", "content"),
    [
        (
            {"action": "status", "status": 429, "headers": {"X-A": "b"}, "body": "slow down"},
            429,
            b"slow down",
        ),
        ({"action": "status", "status": 500, "body": {"a": 1}}, 500, b'{"a": 1}'),
        ({"action": "status", "status": 204}, 204, b""),
        ({"action": "empty_202"}, 202, b""),
        ({"action": "html", "body": "<p>"}, 200, b"<p>"),
    ],
)
async def test_answers_of_faults(
    sandbox: Sandbox, rule: dict[str, object], status: int, content: bytes
) -> None:
    """The answer is as asked for, and the request is not carried out."""
    transport = client_of(sandbox)._transport
    headers = {"Authorization": f"token {sandbox.token}"}
    async with httpx.AsyncClient(transport=transport, base_url=HOST, headers=headers) as api:
        await plan(api, rule | {"times": 1})
        answer = await api.post("/v2/account/articles", json={"title": "abc"})
        assert (answer.status_code, answer.content) == (status, content)
        assert (await api.get("/v2/account/articles")).json() == []


async def test_latency_and_bandwidth_add_up(
    sandbox: Sandbox, api: httpx.AsyncClient, autojump_clock: object
) -> None:
    """Both are applied to one request, and those that follow in the list too."""
    [number] = (await api.post("/_sandbox/articles", json={"count": 1, "files": [1_000_000]})).json()["ids"]
    file = (await api.get(f"/v2/account/articles/{number}/files")).json()[0]
    rules = [{"action": "latency", "seconds": 3}, {"action": "bandwidth", "bytes_per_second": 100_000}]
    await plan(api, *({"role": "storage"} | rule for rule in rules))
    async with client_of(sandbox, Authorization="") as plain:
        del plain.headers["Authorization"]
        target = (await api.get(f"/v2/file/download/{file['id']}")).headers["Location"]
        begin = trio.current_time()
        answer = await plain.get(target)
        assert (answer.status_code, len(answer.content)) == (200, 1_000_000)
        assert 13 <= trio.current_time() - begin < 14


async def test_dois_of_any_shape(example: Sandbox, example_api: httpx.AsyncClient) -> None:
    """An item's DOI is another, in all its versions and from now on; the setting shapes all later ones."""
    api, frogs = example_api, 20000005
    doi = "10.17028/rd.lboro.20000005"
    assert (await api.post("/_sandbox/doi", json={"article": frogs, "doi": doi})).status_code == 204
    for path, version in (("", 2), ("/versions/1", 1), ("/versions/2", 2)):
        assert (await api.get(f"/v2/articles/{frogs}{path}")).json()["doi"] == f"{doi}.v{version}"
    found = (await api.get("/v2/articles", params={"doi": f"{doi}.v2"})).json()
    assert [article["id"] for article in found] == [frogs]
    await api.patch(f"/v2/account/articles/{frogs}", json={"title": "Frogs"})
    await api.post(f"/v2/account/articles/{frogs}/publish")
    assert (await api.get(f"/v2/articles/{frogs}")).json()["doi"] == f"{doi}.v3"
    plain = {"article": frogs, "doi": "10.1234/Uni/a-17", "versioned": False}
    assert (await api.post("/_sandbox/doi", json=plain)).status_code == 204
    assert (await api.get(f"/v2/articles/{frogs}/versions/1")).json()["doi"] == "10.1234/Uni/a-17"
    await api.put("/_sandbox/settings", json={"doi_stem": "10.25384/sage"})
    for path, shape in (("articles/20000006", "10.25384/sage."), ("collections/6000001", "10.25384/sage.c.")):
        answer = await api.post(f"/v2/account/{path}/reserve_doi")
        assert answer.json()["doi"] == shape + path.rpartition("/")[2]
    for wrong in ({"doi": doi}, {"article": frogs, "doi": "x"}, {"article": 1, "collection": 1, "doi": doi}):
        assert (await api.post("/_sandbox/doi", json=wrong)).status_code == 400
    assert (await api.post("/_sandbox/doi", json={"article": 1, "doi": doi})).status_code == 404
    assert (await api.put("/_sandbox/settings", json={"doi_stem": "x"})).status_code == 400
