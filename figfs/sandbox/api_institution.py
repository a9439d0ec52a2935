"""What the administrators of an institution have: its accounts and articles, the HR feed, the values of
custom fields (api.md §7). For all others 403.
"""

from __future__ import annotations

import csv
import email
import email.policy
import io
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from xml.etree import ElementTree

from starlette.requests import Request
from starlette.responses import Response

from figfs.sandbox import files, render
from figfs.sandbox.api_articles import filters
from figfs.sandbox.errors import ApiError, bad_request, forbidden, invalid, not_found
from figfs.sandbox.http import as_account, json_object, json_response, private
from figfs.sandbox.members import INSTITUTION_ID, Member, members
from figfs.sandbox.paging import parse_order, parse_page
from figfs.sandbox.state import Sandbox

CUSTOM_FIELDS: tuple[dict[str, Any], ...] = (
    {"id": 501, "name": "Department", "field_type": "dropdown_large_list"},
    {"id": 502, "name": "Grant number", "field_type": "text"},
)
FEED_COLUMNS = ("UniqueID", "FirstName", "LastName", "Email")
SHORTEST_VALUE, LONGEST_VALUE = 3, 255

_Handler = Callable[[Sandbox, Request], Awaitable[Response]]


def for_administrators(handler: _Handler) -> _Handler:
    """``handler``, with 403 for all others."""

    async def checked(sandbox: Sandbox, request: Request) -> Response:
        if not sandbox.settings.institution_admin:
            raise forbidden()
        return await handler(sandbox, request)

    return checked


async def get_institution(sandbox: Sandbox, request: Request) -> Response:
    """For every member."""
    return json_response({"id": INSTITUTION_ID, "name": "Sandbox University", "domain": "example.org"})


@for_administrators
async def list_accounts(sandbox: Sandbox, request: Request) -> Response:
    given = request.query_params
    bounds = {key: _natural(key, given[key]) for key in ("id_gte", "id_lte", "is_active") if key in given}
    return _accounts(sandbox, given, bounds)


@for_administrators
async def search_accounts(sandbox: Sandbox, request: Request) -> Response:
    body = await json_object(request)
    words = body.get("search_for", "")
    if not isinstance(words, str):
        raise invalid("search_for", "must be a string")
    bounds = {key: _natural(key, body[key]) for key in ("is_active",) if key in body}
    return _accounts(sandbox, body, bounds, words.lower())


def _natural(key: str, value: object) -> int:
    try:
        number = int(str(value))
    except ValueError:
        raise invalid(key, "must be a non-negative integer") from None
    if number < 0 or (key == "is_active" and number > 1):
        raise invalid(key, "out of bounds")
    return number


def _accounts(
    sandbox: Sandbox, given: Mapping[str, object], bounds: Mapping[str, int], words: str = ""
) -> Response:
    page = parse_page(given, sandbox.settings)
    found = [
        member
        for member in members(sandbox)
        if ("id_gte" not in bounds or member.account.id >= bounds["id_gte"])
        and ("id_lte" not in bounds or member.account.id <= bounds["id_lte"])
        and ("is_active" not in bounds or member.active == bool(bounds["is_active"]))
        and given.get("email", member.account.email) == member.account.email
        and given.get("institution_user_id", member.institution_user_id) == member.institution_user_id
        and words in f"{member.account.full_name} {member.account.email}".lower()
    ]
    end = None if page.limit < 0 else page.offset + page.limit
    return json_response([_short(sandbox, member) for member in found[page.offset : end]])


def _short(sandbox: Sandbox, member: Member) -> dict[str, Any]:
    account = member.account
    return {
        "id": account.id,
        "user_id": account.user_id,
        "first_name": account.first_name,
        "last_name": account.last_name,
        "email": account.email,
        "active": int(member.active),
        "institution_id": account.institution_id,
        "institution_user_id": member.institution_user_id,
        "quota": sandbox.settings.quota,
        "used_quota": sum(files.used_quota(as_account(sandbox, account.id))),
        "orcid_id": "",
        "symplectic_user_id": "",
    }


@for_administrators
async def list_articles(sandbox: Sandbox, request: Request) -> Response:
    """All that its members have, drafts too (which ``status`` means what: unknown)."""
    given = {key: value for key, value in request.query_params.items() if key != "search_for"}
    page = parse_page(request.query_params, sandbox.settings)
    order = parse_order(given, {"published_date": "published", "modified_date": "modified"}, "published_date")
    conditions, values = filters(given)
    tests = " AND ".join(["TRUE", *conditions])
    rows = sandbox.store.rows(f"SELECT * FROM articles WHERE {tests}" + order + page.sql, *values)
    return json_response([render.article(sandbox, row, public=False) for row in rows])


@for_administrators
async def list_custom_fields(sandbox: Sandbox, request: Request) -> Response:
    return json_response(CUSTOM_FIELDS)


@for_administrators
async def upload_field_values(sandbox: Sandbox, request: Request) -> Response:
    """Values of a field: the first row is a header, columns are joined, what is too short or long is dropped.
    One at a time for the whole portal.
    """
    number = request.path_params["custom_field_id"]
    field = next((field for field in CUSTOM_FIELDS if field["id"] == number), None)
    if field is None:
        raise not_found("custom field", number)
    if field["field_type"] != "dropdown_large_list":
        raise bad_request("Only fields of the type dropdown_large_list take values", "InvalidCustomField")
    name, content = await _form_file(request, "external_file")
    if not name.lower().endswith(".csv"):
        raise bad_request("Only CSV files are accepted", "UnsupportedFileType")
    text = _text(content)
    _pause(
        sandbox,
        "fields_uploaded",
        sandbox.settings.fields_pause,
        ApiError(
            409,
            "PreviousCustomFieldUploadNotComplete",
            "Previous import still in progress. Please try again later",
        ),
    )
    joined = [" ".join(row) for row in list(csv.reader(io.StringIO(text)))[1:]]
    values = [value for value in joined if SHORTEST_VALUE <= len(value) <= LONGEST_VALUE]
    sandbox.store.set_meta(f"field_values_{number}", "\n".join(values))
    return json_response({"code": 200, "message": "OK"})


@for_administrators
async def upload_feed(sandbox: Sandbox, request: Request) -> Response:
    """The HR feed, XML or CSV; accepted is not processed. Once in 24 hours."""
    name, content = await _form_file(request, "hrfeed")
    text = _text(content)
    if name.lower().endswith(".xml"):
        try:
            columns = {element.tag for element in ElementTree.fromstring(text).iter()}
        except ElementTree.ParseError as exc:
            raise bad_request(f"The feed is not valid XML: {exc}", "InvalidHRFeed") from None
    elif name.lower().endswith(".csv"):
        columns = set(next(csv.reader(io.StringIO(text)), []))
    else:
        raise bad_request("Only XML and CSV files are accepted", "UnsupportedFileType")
    if missing := [column for column in FEED_COLUMNS if column not in columns]:
        raise bad_request("The feed lacks " + ", ".join(missing), "InvalidHRFeed")
    _pause(
        sandbox,
        "feed_uploaded",
        sandbox.settings.feed_pause,
        bad_request("The HR feed can be uploaded once every 24 hours", "HRFeedUploadLimit"),
    )
    sandbox.store.set_meta("feed", text)
    return json_response({"message": "OK"})


def _pause(sandbox: Sandbox, key: str, seconds: float, refusal: ApiError) -> None:
    """Raise ``refusal`` where the last one was less than ``seconds`` ago; else note the time."""
    now = sandbox.clock.time()
    before = sandbox.store.get_meta(key)
    if before is not None and now < float(before) + seconds:
        raise refusal
    sandbox.store.set_meta(key, repr(now))


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise bad_request("The file is not UTF-8", "UnsupportedFileType") from None


async def _form_file(request: Request, field: str) -> tuple[str, bytes]:
    """The file of a form (multipart/form-data): its name and bytes."""
    kind = request.headers.get("Content-Type", "")
    if kind.partition(";")[0].strip().lower() != "multipart/form-data":
        raise ApiError(415, "UnsupportedMediaType", "A form with a file is expected")
    form = email.message_from_bytes(
        b"Content-Type: " + kind.encode() + b"\r\n\r\n" + await request.body(), policy=email.policy.HTTP
    )
    for part in form.iter_parts():
        if part.get_param("name", header="content-disposition") == field and part.get_filename():
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            return str(part.get_filename()), content
    raise invalid(field, "required")


_ACCOUNTS = "/v2/account/institution/accounts"
_FIELDS = "/v2/account/institution/custom_fields"
routes = [
    private("/v2/account/institution", "GET", get_institution),
    private(_ACCOUNTS, "GET", list_accounts),
    private(_ACCOUNTS + "/search", "POST", search_accounts),
    private("/v2/account/institution/articles", "GET", list_articles),
    private(_FIELDS, "GET", list_custom_fields),
    private(_FIELDS + "/{custom_field_id:int}/items/upload", "POST", upload_field_values),
    private("/v2/institution/hrfeed/upload", "POST", upload_feed),
]
