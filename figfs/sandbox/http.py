"""What all endpoints share: authentication, JSON bodies in and out, absolute addresses."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from figfs.sandbox import members, tokens
from figfs.sandbox.errors import ApiError, bad_request, forbidden, invalid, unauthorized
from figfs.sandbox.state import Sandbox

Handler = Callable[[Sandbox, Request], Awaitable[Response]]


def json_response(data: object, status: int = 200, *, location: str | None = None) -> Response:
    headers = {} if location is None else {"Location": location}
    return Response(
        msgspec.json.encode(data), status, headers=headers, media_type="application/json; charset=UTF-8"
    )


def error_response(error: ApiError) -> Response:
    return json_response(error.body(), error.status)


def private(path: str, method: str, handler: Handler) -> Route:
    """A route that needs a token of the account."""

    async def authenticated(request: Request) -> Response:
        sandbox = sandbox_of(request)
        require_token(sandbox, request)
        return await handler(await impersonated(sandbox, request), request)

    return Route(path, authenticated, methods=[method])


async def impersonated(sandbox: Sandbox, request: Request) -> Sandbox:
    """The sandbox as the account sees it that the request impersonates: in the query of GET and DELETE, in
    the body of all else (api.md §1). 403 for who administers no institution, or not that account.
    """
    wanted: object = request.query_params.get("impersonate")
    if request.method not in ("GET", "DELETE"):
        wanted = None
        kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if kind != "multipart/form-data" and await request.body():
            wanted = (await json_object(request)).get("impersonate")
    return sandbox if wanted is None else as_account(sandbox, wanted)


def as_account(sandbox: Sandbox, wanted: object) -> Sandbox:
    """``sandbox`` as the account with the id ``wanted``, a number or a text of one, sees it; 403, 422."""
    if not sandbox.settings.institution_admin:
        raise forbidden("Impersonation is for administrators of an institution")
    try:
        number = int(str(wanted))
    except ValueError:
        raise invalid("impersonate", "the id of an account") from None
    member = members.find(sandbox, number)
    if member is None:
        raise forbidden(f"Account {number} cannot be impersonated")
    return dataclasses.replace(sandbox, account=member.account)


def public(path: str, method: str, handler: Handler) -> Route:
    """A route that anyone may use."""

    async def anyone(request: Request) -> Response:
        return await handler(sandbox_of(request), request)

    return Route(path, anyone, methods=[method])


def sandbox_of(request: Request) -> Sandbox:
    sandbox: Sandbox = request.app.state.sandbox
    return sandbox


def given_token(request: Request, parameter: str) -> str | None:
    """The token of the Authorization header (``token T``), else of the query parameter."""
    header = request.headers.get("Authorization")
    if header is None:
        return request.query_params.get(parameter)
    scheme, _, token = header.partition(" ")
    return token.strip() if scheme.lower() == "token" else ""


def require_token(sandbox: Sandbox, request: Request) -> None:
    """401 without a token of the account (api.md §1)."""
    token = given_token(request, "access_token")
    if token is None:
        raise unauthorized("OAuth token is missing")
    if not tokens.is_valid(sandbox, token):
        raise unauthorized("OAuth token is invalid")


async def json_object(request: Request, *, required: bool = True) -> dict[str, Any]:
    """The body, a JSON object, which may be missing if not ``required``. 415 for a form, 400 for all else.

    A missing or wrong Content-Type is let pass, as the official Python sample sends none.
    """
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
        raise ApiError(415, "UnsupportedMediaType", "Only JSON bodies are accepted")
    try:
        raw = await request.body()
    except ClientDisconnect:
        raise bad_request("The body did not arrive") from None
    if not raw and not required:
        return {}
    try:
        body = json.loads(raw)
    except ValueError:
        raise bad_request("The body is not valid JSON") from None
    if not isinstance(body, dict):
        raise bad_request("The body is not a JSON object")
    return body
