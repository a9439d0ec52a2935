"""``/account`` and the fixed lists (api.md §7)."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from figfs.sandbox import files, reference
from figfs.sandbox.clock import without_zone
from figfs.sandbox.http import json_response, private, public
from figfs.sandbox.state import Sandbox


def account_details(sandbox: Sandbox) -> dict[str, Any]:
    """Sizes in bytes, dates without a zone.

    The quota is the account's own, without group projects (quirk U21).
    """
    account = sandbox.account
    hidden, shown = files.used_quota(sandbox)
    date = without_zone(account.created)
    return {
        "id": account.id,
        "user_id": account.user_id,
        "first_name": account.first_name,
        "last_name": account.last_name,
        "email": account.email,
        "active": 1,
        "created_date": date,
        "modified_date": date,
        "institution_id": account.institution_id,
        "institution_user_id": "",
        "group_id": account.group_id,
        "quota": sandbox.settings.quota,
        "used_quota": hidden + shown,
        "used_quota_private": hidden,
        "used_quota_public": shown,
        "maximum_file_size": sandbox.settings.maximum_file_size,
        "pending_quota_request": False,
        "orcid_id": "",
        "symplectic_user_id": None,
    }


async def get_account(sandbox: Sandbox, request: Request) -> Response:
    return json_response(account_details(sandbox))


async def list_licenses(sandbox: Sandbox, request: Request) -> Response:
    return json_response(reference.LICENSES)


async def list_categories(sandbox: Sandbox, request: Request) -> Response:
    return json_response(reference.CATEGORIES)


async def list_account_categories(sandbox: Sandbox, request: Request) -> Response:
    return json_response(reference.ACCOUNT_CATEGORIES)


routes = [
    private("/v2/account", "GET", get_account),
    private("/v2/account/licenses", "GET", list_licenses),
    private("/v2/account/categories", "GET", list_account_categories),
    public("/v2/licenses", "GET", list_licenses),
    public("/v2/categories", "GET", list_categories),
]
