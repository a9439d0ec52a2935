"""ResourceSync: from the well-known address to what has happened to public items, as the standard says."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import httpx
import pytest
from sandbox_openapi import HOST, client_of

from figfs.sandbox.app import open_sandbox
from figfs.sandbox.state import Sandbox

SITEMAP = "{http://www.sitemaps.org/schemas/sitemap/0.9}"
RS = "{http://www.openarchives.org/rs/terms/}"
WELL_KNOWN = "/.well-known/resourcesync"
FROGS, RADAR, COLLECTION, DRAFT = 20000005, 20000013, 6000001, 20000006


async def document(api: httpx.AsyncClient, address: str, capability: str) -> ET.Element:
    """A document, and that it says what it is, with the links up that the standard wants."""
    response = await api.get(address)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/xml"
    root = ET.fromstring(response.content)
    assert root.find(f"{RS}md").get("capability") == capability  # type: ignore[union-attr]
    up = [link.get("href") for link in root.findall(f"{RS}ln") if link.get("rel") == "up"]
    assert len(up) == (capability != "description")
    return root


def entries(root: ET.Element) -> dict[str, dict[str, str]]:
    """Address -> attributes of its ``rs:md``."""
    found = {}
    for entry in root:
        if entry.tag in (f"{SITEMAP}url", f"{SITEMAP}sitemap"):
            metadata = entry.find(f"{RS}md")
            found[entry.findtext(f"{SITEMAP}loc", "")] = {} if metadata is None else dict(metadata.attrib)
    return found


async def lists(api: httpx.AsyncClient) -> dict[str, str]:
    """Capability -> address, found as a stranger would."""
    described = entries(await document(api, WELL_KNOWN, "description"))
    [(address, metadata)] = described.items()
    assert metadata == {"capability": "capabilitylist"}
    offered = entries(await document(api, address, "capabilitylist"))
    return {metadata["capability"]: address for address, metadata in offered.items()}


async def changes(api: httpx.AsyncClient) -> list[tuple[str, str, str]]:
    """What happened to what, and when, from the list or all parts of its index."""
    address = (await lists(api))["changelist"]
    root = await document(api, address, "changelist")
    parts = [root]
    if root.tag == f"{SITEMAP}sitemapindex":
        parts = [await document(api, part, "changelist") for part in entries(root)]
    return [
        (
            entry.findtext(f"{SITEMAP}loc", "").removeprefix(HOST),
            entry.find(f"{RS}md").get("change", ""),  # type: ignore[union-attr]
            entry.find(f"{RS}md").get("datetime", ""),  # type: ignore[union-attr]
        )
        for part in parts
        for entry in part.findall(f"{SITEMAP}url")
    ]


SEEDED = [
    (f"/articles/_/{FROGS}", "created", "2024-03-02T09:00:00Z"),
    (f"/articles/_/{RADAR}", "created", "2024-03-16T10:00:00Z"),
    (f"/articles/_/{FROGS}", "updated", "2024-05-20T14:45:00Z"),
]


async def test_from_the_well_known_address(example: Sandbox) -> None:
    """Without a token: capabilities, what is public, and what has happened to it, the oldest first."""
    async with client_of(example) as anyone:
        found = await lists(anyone)
        assert set(found) == {"resourcelist", "changelist"}
        items = entries(await document(anyone, found["resourcelist"], "resourcelist"))
        assert set(items) == {f"{HOST}/articles/_/{number}" for number in (FROGS, RADAR)}
        public = (await anyone.get(f"/v2/articles/{FROGS}")).json()
        assert public["url_public_html"] in items
        assert await changes(anyone) == SEEDED


async def test_what_happens_is_told(example_api: httpx.AsyncClient) -> None:
    """Published, a new version, withdrawn, under an embargo, a collection: each is one entry at the end."""
    for item in (f"articles/{DRAFT}", f"articles/{FROGS}", f"articles/{DRAFT}"):
        assert (await example_api.post(f"/v2/account/{item}/publish")).status_code == 201
    collection = f"/v2/account/collections/{COLLECTION}"
    await example_api.patch(collection, json={"description": "Ice, and climate"})
    for _ in range(2):
        assert (await example_api.post(f"{collection}/publish")).status_code == 201
    await example_api.post("/_sandbox/withdraw", json={"article": RADAR})
    await example_api.post("/_sandbox/embargo", json={"article": FROGS, "until": ""})
    await example_api.patch(f"/v2/account/articles/{DRAFT}", json={"title": "Not public yet"})
    told = await changes(example_api)
    assert told[:3] == SEEDED
    assert [entry[:2] for entry in told[3:]] == [
        (f"/articles/_/{DRAFT}", "created"),
        (f"/articles/_/{FROGS}", "updated"),
        (f"/articles/_/{DRAFT}", "updated"),
        (f"/collections/_/{COLLECTION}", "created"),
        (f"/collections/_/{COLLECTION}", "updated"),
        (f"/articles/_/{RADAR}", "deleted"),
        (f"/articles/_/{FROGS}", "updated"),
    ]
    address = (await lists(example_api))["resourcelist"]
    items = entries(await document(example_api, address, "resourcelist"))
    assert f"{HOST}/articles/_/{RADAR}" not in items
    assert f"{HOST}/collections/_/{COLLECTION}" in items


async def test_long_lists_are_an_index(example: Sandbox, example_api: httpx.AsyncClient) -> None:
    """Each part says from when until when it goes, without a gap; the last one is open."""
    example.settings.change({"resourcesync_entries": 1})
    found = await lists(example_api)
    index = await document(example_api, found["changelist"], "changelist")
    assert index.tag == f"{SITEMAP}sitemapindex"
    periods = list(entries(index).values())
    assert [period.get("until") for period in periods] == [
        *(period["from"] for period in periods[1:]),
        None,
    ]
    assert await changes(example_api) == SEEDED
    for name in ("changelist", "resourcelist"):
        parts = entries(await document(example_api, found[name], name))
        for address in parts:
            part = await document(example_api, address, name)
            assert len(entries(part)) == 1
        assert (await example_api.get(found[name].replace(".xml", f"-{len(parts)}.xml"))).status_code == 404


async def test_old_changes_are_forgotten_on_request(example: Sandbox, example_api: httpx.AsyncClient) -> None:
    """``changes_kept``: the list begins so long ago, and says so."""
    example.settings.change({"changes_kept": 3600})
    assert await changes(example_api) == []
    root = await document(example_api, (await lists(example_api))["changelist"], "changelist")
    begin = root.find(f"{RS}md").get("from", "")  # type: ignore[union-attr]
    assert "2024-05-20" < begin < example.clock.stamp()


async def test_a_portal_without_it(example: Sandbox, example_api: httpx.AsyncClient) -> None:
    """``resourcesync``: false, and none of it is there."""
    found = await lists(example_api)
    example.settings.change({"resourcesync": False})
    for address in (WELL_KNOWN, *found.values()):
        assert (await example_api.get(address)).status_code == 404


async def test_its_requests_have_a_role_of_their_own(example_api: httpx.AsyncClient) -> None:
    await changes(example_api)
    told = (await example_api.get("/_sandbox/requests")).json()
    assert [entry["role"] for entry in told] == ["resourcesync"] * 3


@pytest.mark.parametrize("forgetful", [False, True])
async def test_a_restart(tmp_path: Path, forgetful: bool) -> None:
    """A folder remembers; one that an earlier figfs made says that it knows nothing of before."""
    async with open_sandbox(directory=tmp_path, base_url=HOST) as sandbox:
        if forgetful:
            sandbox.store.run("DELETE FROM public_changes")
            sandbox.store.run("DELETE FROM meta WHERE key = 'changes_since'")
    async with open_sandbox(directory=tmp_path, base_url=HOST) as sandbox, client_of(sandbox) as anyone:
        told = await changes(anyone)
        root = await document(anyone, (await lists(anyone))["changelist"], "changelist")
        begin = root.find(f"{RS}md").get("from", "")  # type: ignore[union-attr]
        assert told == ([] if forgetful else SEEDED)
        assert (begin != "2010-01-08T00:00:00Z") is forgetful


async def test_public_articles_in_bulk(sandbox: Sandbox, api: httpx.AsyncClient) -> None:
    """Published when they were made, long ago; known to lists and searches at once."""
    body = {"count": 3, "files": [10], "published": True}
    ids = (await api.post("/_sandbox/articles", json=body)).json()["ids"]
    assert await changes(api) == [
        (f"/articles/_/{number}", "created", f"2020-01-01T00:00:0{n}Z") for n, number in enumerate(ids)
    ]
    details = (await api.get(f"/v2/articles/{ids[2]}")).json()
    assert (details["version"], details["published_date"]) == (1, "2020-01-01T00:00:02Z")
    assert len(details["files"]) == 1
    assert {item["id"] for item in (await api.get("/v2/articles")).json()} == set(ids)
