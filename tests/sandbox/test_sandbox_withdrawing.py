"""What takes public items from the public, asked of the control."""

from __future__ import annotations

import httpx

FROGS, README = 20000005, "README.txt"
UNTIL = "2027-01-01T00:00:00"


async def test_withdrawn(example_api: httpx.AsyncClient) -> None:
    """No version, no file, no bytes, in no list; its owner has it still."""
    file = (await example_api.get(f"/v2/articles/{FROGS}")).json()["files"][0]["id"]
    body = {"article": FROGS}
    assert (await example_api.post("/_sandbox/withdraw", json=body)).status_code == 204
    for path in ("", "/versions", "/versions/1", "/files", f"/files/{file}"):
        assert (await example_api.get(f"/v2/articles/{FROGS}{path}")).status_code == 404
    assert FROGS not in [item["id"] for item in (await example_api.get("/v2/articles")).json()]
    assert (await example_api.get(f"/v2/account/articles/{FROGS}")).status_code == 200
    assert (await example_api.post("/_sandbox/withdraw", json=body)).status_code == 404


async def test_embargo_of_files(example_api: httpx.AsyncClient) -> None:
    """The article is as before, and says until when; its files are nobody's but its owner's."""
    file = (await example_api.get(f"/v2/articles/{FROGS}")).json()["files"][0]["id"]
    body = {"article": FROGS, "until": UNTIL}
    assert (await example_api.post("/_sandbox/embargo", json=body)).status_code == 204
    for path in ("", "/versions/1"):
        details = (await example_api.get(f"/v2/articles/{FROGS}{path}")).json()
        shown = [details[key] for key in ("is_embargoed", "embargo_type", "embargo_date", "files")]
        assert shown == [True, "file", UNTIL, []]
    assert (await example_api.get(f"/v2/articles/{FROGS}/files")).json() == []
    assert (await example_api.get(f"/v2/articles/{FROGS}/files/{file}")).status_code == 404
    assert (await example_api.get(f"/v2/file/download/{file}")).status_code == 302  # with the token
    del example_api.headers["Authorization"]
    assert (await example_api.get(f"/v2/file/download/{file}")).status_code == 404
