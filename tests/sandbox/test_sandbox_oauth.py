"""OAuth: the page that lets an application in, and ``POST /token``, which answers 200 or 400."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import trio
from sandbox_openapi import client_of

from figfs.sandbox.state import Sandbox

BACK = "http://127.0.0.1:4711/back"
APPLICATION = {"client_id": "sandbox-client", "client_secret": "sandbox-client-secret"}
ASKED = {
    "response_type": "code",
    "client_id": "sandbox-client",
    "redirect_uri": BACK,
    "state": "s t&1",
    "scope": "all",
}


async def authorized(anyone: httpx.AsyncClient, **changes: str) -> dict[str, str]:
    """What the application is told in the redirect."""
    answer = await anyone.get("/account/applications/authorize", params=ASKED | changes)
    assert answer.status_code == 302
    target = httpx.URL(answer.headers["Location"])
    assert str(target).startswith(BACK + "?")
    return dict(target.params)


async def granted(anyone: httpx.AsyncClient) -> dict[str, Any]:
    code = (await authorized(anyone))["code"]
    answer = await token(anyone, grant_type="authorization_code", code=code)
    assert answer.status_code == 200
    pair: dict[str, Any] = answer.json()
    return pair


async def token(anyone: httpx.AsyncClient, **body: object) -> httpx.Response:
    return await anyone.post("/v2/token", json=APPLICATION | body)


async def whoami(anyone: httpx.AsyncClient, access: str) -> int:
    return (await anyone.get("/v2/account", headers={"Authorization": f"token {access}"})).status_code


async def test_a_code_becomes_tokens_once(sandbox: Sandbox, anyone: httpx.AsyncClient) -> None:
    """State comes back as it went; the tokens are the account's; the code is used up by it."""
    told = await authorized(anyone)
    assert set(told) == {"code", "state"}
    assert told["state"] == ASKED["state"]
    answer = await token(anyone, grant_type="authorization_code", code=told["code"])
    pair = answer.json()
    assert {key: pair[key] for key in ("token_type", "expires_in", "scope")} == {
        "token_type": "bearer",
        "expires_in": 3600,
        "scope": "all",
    }
    assert await whoami(anyone, pair["access_token"]) == 200
    assert await whoami(anyone, pair["refresh_token"]) == 401
    info = await anyone.get("/v2/token", headers={"Authorization": f"token {pair['access_token']}"})
    assert 3590 <= info.json()["expires_in"] <= 3600
    again = await token(anyone, grant_type="authorization_code", code=told["code"])
    assert again.status_code == 400


async def test_a_refresh_token_is_good_once(sandbox: Sandbox, anyone: httpx.AsyncClient) -> None:
    """Its use rotates it, also as a form; the access token from before lives on."""
    first = await granted(anyone)
    form = APPLICATION | {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = (await anyone.post("/v2/token", data=form)).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert (await anyone.post("/v2/token", data=form)).status_code == 400
    assert await whoami(anyone, first["access_token"]) == 200
    assert await whoami(anyone, second["access_token"]) == 200
    third = await token(anyone, grant_type="refresh_token", refresh_token=second["refresh_token"])
    assert third.status_code == 200


async def test_codes_and_access_tokens_expire(
    sandbox: Sandbox, anyone: httpx.AsyncClient, autojump_clock: trio.testing.MockClock
) -> None:
    """A code after a minute, an access token after what is set, a refresh token never."""
    sandbox.settings.change({"oauth_seconds": 100})
    code = (await authorized(anyone))["code"]
    pair = await granted(anyone)
    await trio.sleep(61)
    assert (await token(anyone, grant_type="authorization_code", code=code)).status_code == 400
    assert await whoami(anyone, pair["access_token"]) == 200
    await trio.sleep(40)
    assert await whoami(anyone, pair["access_token"]) == 401
    renewed = await token(anyone, grant_type="refresh_token", refresh_token=pair["refresh_token"])
    assert renewed.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"grant_type": "authorization_code"},
        {"grant_type": "authorization_code", "code": "wrong"},
        {"grant_type": "authorization_code", "code": 7},
        {"grant_type": "refresh_token", "refresh_token": "wrong"},
        {"grant_type": "refresh_token", "refresh_token": "\ud800"},
        {"grant_type": "refresh_token", "refresh_token": "x", "client_secret": "wrong"},
        {"grant_type": "password", "username": "a", "password": "b"},
        {"grant_type": "client_credentials"},
        {"grant_type": "something"},
    ],
)
async def test_all_that_is_wrong_is_400(body: dict[str, object], anyone: httpx.AsyncClient) -> None:
    """Also a failed authentication (api.md §7)."""
    content = json.dumps(APPLICATION | body).encode()
    answer = await anyone.post("/v2/token", content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


async def test_bodies_that_are_none(anyone: httpx.AsyncClient) -> None:
    """No JSON, or no object."""
    for content in (b"", b"[]", b"{", b"\xff"):
        assert (await anyone.post("/v2/token", content=content)).status_code == 400
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await anyone.post("/v2/token", content=b"\xff=%ff", headers=form)).status_code == 400


async def test_the_person_says_no(sandbox: Sandbox, anyone: httpx.AsyncClient) -> None:
    """And other things that an application is told by a redirect, with its state."""
    assert (await authorized(anyone, response_type="token"))["error"] == "unsupported_response_type"
    assert (await authorized(anyone, scope="some"))["error"] == "invalid_scope"
    sandbox.settings.change({"oauth_consent": False})
    told = await authorized(anyone)
    assert told["error"] == "access_denied"
    assert told["state"] == ASKED["state"]
    assert "code" not in told


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "other"},
        {"redirect_uri": "https://example.org/"},
        {"redirect_uri": "http://example.org:80/"},
        {"redirect_uri": "http://127.0.0.1/"},
        {"redirect_uri": "http://[::1"},
        {"redirect_uri": ""},
    ],
)
async def test_nobody_is_sent_elsewhere(changes: dict[str, str], anyone: httpx.AsyncClient) -> None:
    """An unknown application, or an address that is not of this machine: no redirect at all."""
    answer = await anyone.get("/account/applications/authorize", params=ASKED | changes)
    assert answer.status_code == 400
    assert "Location" not in answer.headers


async def test_revoking(sandbox: Sandbox, anyone: httpx.AsyncClient) -> None:
    """What a person can do on the web page: end tokens of an application, remove the personal one."""
    pair = await granted(anyone)
    assert (await anyone.get("/_sandbox/oauth")).json() == APPLICATION | {
        "alive": {"code": 0, "access": 1, "refresh": 1}
    }
    assert (await anyone.delete("/_sandbox/oauth/access")).json() == {"revoked": 1}
    assert await whoami(anyone, pair["access_token"]) == 401
    assert (await anyone.delete("/_sandbox/oauth/refresh")).json() == {"revoked": 1}
    refused = await token(anyone, grant_type="refresh_token", refresh_token=pair["refresh_token"])
    assert refused.status_code == 400
    assert (await anyone.delete("/_sandbox/oauth/code")).status_code == 400
    before = sandbox.token
    assert (await anyone.put("/_sandbox/token", json={"token": "two words"})).status_code == 400
    assert (await anyone.put("/_sandbox/token", json={"token": "new"})).status_code == 200
    assert await whoami(anyone, before) == 401
    assert await whoami(anyone, "new") == 200


async def test_tokens_are_not_kept(sandbox: Sandbox, anyone: httpx.AsyncClient) -> None:
    """Only hashes are; and another application cannot be let in by the query of somebody else."""
    pair = await granted(anyone)
    kept = str(sandbox.store.rows("SELECT * FROM grants"))
    assert pair["access_token"] not in kept
    assert pair["refresh_token"] not in kept
    async with client_of(sandbox) as client:
        assert (await client.get(f"/v2/account?access_token={pair['access_token']}")).status_code == 200
