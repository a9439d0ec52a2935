"""Projects of a colleague's, shared with the account by the control."""

from __future__ import annotations

import httpx
import pytest

ICE, BALANCE = 150001, 20000001
PROJECT = f"/v2/account/projects/{ICE}"


async def share(api: httpx.AsyncClient, role: str) -> int:
    return (await api.post("/_sandbox/share", json={"project": ICE, "role": role})).status_code


@pytest.mark.parametrize("role", ["Viewer", "Collaborator"])
async def test_what_a_role_allows(example_api: httpx.AsyncClient, role: str) -> None:
    """All is read through the project; making articles is a collaborator's, all else the owner's."""
    api = example_api
    assert await share(api, role) == 204
    listed = {item["id"]: item["role"] for item in (await api.get("/v2/account/projects")).json()}
    assert listed[ICE] == (await api.get(PROJECT)).json()["role"] == role
    shared = (await api.get(f"/v2/account/projects?roles={role.lower()}")).json()
    assert [item["id"] for item in shared] == [ICE]
    assert BALANCE in [item["id"] for item in (await api.get(f"{PROJECT}/articles")).json()]
    details = (await api.get(f"{PROJECT}/articles/{BALANCE}")).json()
    assert details["account_id"] == 1000002
    assert (await api.get(f"/v2/account/articles/{BALANCE}")).status_code == 404
    file = details["files"][0]["id"]
    assert (await api.get(f"/v2/file/download/{file}")).status_code == 302
    made = await api.post(f"{PROJECT}/articles", json={"title": "Another"})
    assert made.status_code == (201 if role == "Collaborator" else 403)
    assert (await api.delete(f"{PROJECT}/articles/{BALANCE}")).status_code == 403
    assert (await api.patch(PROJECT, json={"title": "Another"})).status_code == 403
    assert (await api.delete(PROJECT)).status_code == 403


async def test_shared_and_back(example_api: httpx.AsyncClient) -> None:
    """As its owner the account has all of it again; other roles and other projects there are none."""
    assert await share(example_api, "Viewer") == await share(example_api, "Owner") == 204
    assert (await example_api.get(f"/v2/account/articles/{BALANCE}")).status_code == 200
    assert (await example_api.get("/v2/account/projects?roles=viewer,collaborator")).json() == []
    assert await share(example_api, "King") == 400
    body = {"project": 1, "role": "Viewer"}
    assert (await example_api.post("/_sandbox/share", json=body)).status_code == 404
