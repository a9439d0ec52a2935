"""OAuth (api.md §7): the page where a person lets an application in, and the tokens it gets for that.

``/account/applications/authorize`` stands for the page on figshare.com: here the person says yes at once, or
no (setting ``oauth_consent``). Redirects go to this machine only, as for any installed application.
"""

from __future__ import annotations

import secrets
import urllib.parse
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from figfs.sandbox import tokens
from figfs.sandbox.errors import ApiError, bad_request
from figfs.sandbox.http import given_token, json_object, json_response, private, public
from figfs.sandbox.state import Sandbox

AUTHORIZE = "/account/applications/authorize"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


async def authorize(sandbox: Sandbox, request: Request) -> Response:
    """302 back to the application, with a code or an error; 400, and no redirect, to one nobody knows."""
    given = request.query_params
    back = given.get("redirect_uri", "")
    if given.get("client_id") != tokens.CLIENT_ID:
        return PlainTextResponse("There is no such application.", 400)
    if not _is_local(back):
        return PlainTextResponse("redirect_uri is not one of this application.", 400)
    answer: dict[str, str] = {}
    if given.get("response_type") != "code":
        answer["error"] = "unsupported_response_type"
    elif given.get("scope", "all") != "all":
        answer["error"] = "invalid_scope"
    elif not sandbox.settings.oauth_consent:
        answer |= {"error": "access_denied", "error_description": "The resource owner denied the request"}
    else:
        answer["code"] = tokens.new_code(sandbox)
    if "state" in given:
        answer["state"] = given["state"]
    joint = "&" if urllib.parse.urlsplit(back).query else "?"
    return RedirectResponse(back + joint + urllib.parse.urlencode(answer), 302)


def _is_local(uri: str) -> bool:
    try:
        parts = urllib.parse.urlsplit(uri)
        return parts.scheme == "http" and parts.hostname in _LOOPBACK and (parts.port or 0) > 0
    except ValueError:
        return False


async def create_token(sandbox: Sandbox, request: Request) -> Response:
    """200 or 400, whatever is wrong; JSON or a form."""
    try:
        body = await _fields(request)
    except ApiError as refused:
        raise bad_request(refused.message) from None
    for name in ("client_id", "client_secret", "grant_type"):
        _text(body, name)
    known = secrets.compare_digest(_text(body, "client_id").encode(), tokens.CLIENT_ID.encode())
    secret = secrets.compare_digest(_text(body, "client_secret").encode(), tokens.CLIENT_SECRET.encode())
    if not (known and secret):
        raise bad_request("Invalid client credentials", "InvalidClient")
    kind = body["grant_type"]
    with sandbox.store.transaction():
        if kind == "authorization_code":
            pair = tokens.redeem_code(sandbox, _text(body, "code"))
        elif kind == "refresh_token":
            pair = tokens.redeem_refresh(sandbox, _text(body, "refresh_token"))
        elif kind in ("password", "client_credentials"):
            raise bad_request("This application may not use this grant type", "UnauthorizedClient")
        else:
            raise bad_request("Unsupported grant type", "UnsupportedGrantType")
    return json_response(
        {
            "access_token": pair.access,
            "token": pair.access,
            "token_type": "bearer",
            "expires_in": pair.seconds,
            "refresh_token": pair.refresh,
            "scope": "all",
        }
    )


async def _fields(request: Request) -> dict[str, Any]:
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/x-www-form-urlencoded":
        return await json_object(request)
    try:
        raw = await request.body()
    except ClientDisconnect:
        raise bad_request("The body did not arrive") from None
    return dict(urllib.parse.parse_qsl(raw.decode("utf-8", "replace")))


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise bad_request(f"{name} is missing")
    return value


async def get_token(sandbox: Sandbox, request: Request) -> Response:
    """What token this is. A personal one never expires."""
    token = given_token(request, "access_token") or ""
    left = tokens.seconds_left(sandbox, token) or 0
    return json_response(
        {"access_token": token, "token": token, "token_type": "bearer", "expires_in": left, "scope": "all"}
    )


routes = [
    public(AUTHORIZE, "GET", authorize),
    public("/v2/token", "POST", create_token),
    private("/v2/token", "GET", get_token),
]
