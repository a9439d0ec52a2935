"""Accounts of the institution, one at a time, for its administrators: made, and shown (api.md §7)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from figfs.sandbox import members, validation
from figfs.sandbox.api_account import account_details
from figfs.sandbox.api_institution import for_administrators
from figfs.sandbox.errors import bad_request, invalid, not_found
from figfs.sandbox.http import as_account, json_object, json_response, private
from figfs.sandbox.state import Sandbox

_FIELDS: dict[str, validation.Check] = {
    "email": validation.text(3, 150),
    "first_name": validation.text(0, 255),
    "last_name": validation.text(0, 255),
    "group_id": validation.number,
    "institution_user_id": validation.text(0, 50),
    "symplectic_user_id": validation.text(0, 50),
    "quota": validation.number,
    "is_active": validation.flag,
}
LONGEST_NAME = 255  #: of first and last name together


@for_administrators
async def create_account(sandbox: Sandbox, request: Request) -> Response:
    """201. 400 for an e-mail address or institution user id that is another's already."""
    given = validation.clean(await json_object(request), _FIELDS, required=("last_name", "email"))
    first_name, user_id = given.get("first_name", ""), given.get("institution_user_id", "")
    if "@" not in given["email"]:
        raise invalid("email", "must be an e-mail address")
    if len(first_name) + len(given["last_name"]) > LONGEST_NAME:
        raise invalid("last_name", f"first and last name have at most {LONGEST_NAME} characters together")
    for member in members.members(sandbox):
        if given["email"] == member.account.email or (user_id and user_id == member.institution_user_id):
            raise bad_request("There is an account with that email or institution_user_id", "AccountExists")
    made = members.add(
        sandbox,
        first_name=first_name,
        last_name=given["last_name"],
        email=given["email"],
        institution_user_id=user_id,
        active=given.get("is_active", True),
    )
    return json_response({"account_id": made.account.id}, 201)


@for_administrators
async def get_account(sandbox: Sandbox, request: Request) -> Response:
    number = request.path_params["account_id"]
    if members.find(sandbox, number) is None:
        raise not_found("account", number)
    return json_response(account_details(as_account(sandbox, number)))


_ACCOUNTS = "/v2/account/institution/accounts"
routes = [
    private(_ACCOUNTS, "POST", create_account),
    private(_ACCOUNTS + "/{account_id:int}", "GET", get_account),
]
