"""ETag, Last-Modified and 304, where they are asked for; else as Figshare was seen: none (quirk L14)."""

from __future__ import annotations

import httpx
import pytest
from sandbox_openapi import HOST

from figfs.sandbox.app import make_app
from figfs.sandbox.state import Sandbox

LIST = "/v2/account/articles"


def plain(sandbox: Sandbox) -> httpx.AsyncClient:
    """The API's description knows no 304."""
    headers = {"Authorization": f"token {sandbox.token}"}
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app=make_app(sandbox)), base_url=HOST, headers=headers
    )


async def test_by_default_there_are_none(sandbox: Sandbox) -> None:
    async with plain(sandbox) as api:
        answer = await api.get(LIST, headers={"If-None-Match": "*"})
        assert answer.status_code == 200
        assert not {"etag", "last-modified"} & set(answer.headers)


@pytest.mark.parametrize(
    ("kind", "header", "condition"),
    [
        ("etag", "etag", "If-None-Match"),
        ("last_modified", "last-modified", "If-Modified-Since"),
        ("both", "etag", "If-None-Match"),
    ],
)
async def test_what_has_not_changed_is_not_sent_again(
    sandbox: Sandbox, kind: str, header: str, condition: str
) -> None:
    sandbox.settings.change({"validators": kind})
    async with plain(sandbox) as api:
        first = await api.get(LIST)
        assert first.status_code == 200
        assert ("last-modified" in first.headers) == (kind != "etag")
        given = {condition: first.headers[header]}
        again = await api.get(LIST, headers=given)
        assert (again.status_code, again.content, again.headers[header]) == (304, b"", first.headers[header])
        assert (await api.get(f"{LIST}?page_size=5", headers={condition: '"x"'})).status_code == 200
        assert (await api.get(f"{LIST}/1", headers=given)).status_code == 404
        log = (await api.get("/_sandbox/requests")).json()
        assert [entry["status"] for entry in log] == [200, 304, 200, 404]


async def test_what_has_changed_is_sent(sandbox: Sandbox) -> None:
    sandbox.settings.change({"validators": "both"})
    async with plain(sandbox) as api:
        first = await api.get(LIST)
        await api.post(LIST, json={"title": "abc"})
        given = {"If-None-Match": first.headers["etag"], "If-Modified-Since": first.headers["last-modified"]}
        answer = await api.get(LIST, headers=given)
        assert answer.status_code == 200
        assert len(answer.json()) == 1


async def test_the_setting_is_checked(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="validators"):
        sandbox.settings.change({"validators": "some"})
