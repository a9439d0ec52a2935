"""Administrators of an institution: accounts, impersonation, the HR feed, values of custom fields."""

from __future__ import annotations

import httpx
import pytest
import trio

from figfs.sandbox.members import ACCOUNT, COLLEAGUE, MEMBERS
from figfs.sandbox.state import Sandbox

ACCOUNTS = "/v2/account/institution/accounts"
FEED = "/v2/institution/hrfeed/upload"
FIELD = "/v2/account/institution/custom_fields/{}/items/upload"
GOOD_FEED = b"UniqueID,FirstName,LastName,Email\nu1,A,B,a@example.org\n"


@pytest.fixture
def admin(example: Sandbox, example_api: httpx.AsyncClient) -> httpx.AsyncClient:
    example.settings.institution_admin = True
    return example_api


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", ACCOUNTS),
        ("GET", "/v2/account/institution/articles"),
        ("GET", "/v2/account?impersonate=1000002"),
    ],
)
async def test_ordinary_accounts_are_refused(method: str, path: str, example_api: httpx.AsyncClient) -> None:
    """403, and nobody is impersonated."""
    assert (await example_api.request(method, path)).status_code == 403


async def test_accounts_are_found(admin: httpx.AsyncClient) -> None:
    """By page, range of ids, e-mail, institution user id, and whether they are active."""

    async def ids(query: str) -> list[int]:
        return [account["id"] for account in (await admin.get(f"{ACCOUNTS}?{query}")).json()]

    everybody = [member.account.id for member in MEMBERS]
    assert await ids("page=2&page_size=20") == everybody[20:]
    assert await ids("") == everybody[:10]
    assert await ids("id_gte=1000029&page_size=100") == [1000029, 1000030]
    assert await ids("id_gte=1000005&id_lte=1000005") == [1000005]
    assert await ids(f"email={COLLEAGUE.email}") == [COLLEAGUE.id]
    assert await ids("institution_user_id=u002") == [COLLEAGUE.id]
    assert await ids("is_active=0") == [1000007]
    assert await ids("institution_user_id=nobody") == []
    assert (await admin.get(f"{ACCOUNTS}?id_gte=x")).status_code == 422


async def test_accounts_are_made(example: Sandbox, admin: httpx.AsyncClient) -> None:
    """With what they need and the next id; listed, shown and impersonated from then on."""
    new = {"email": "new@example.org", "last_name": "New", "institution_user_id": "u900"}
    made = await admin.post(ACCOUNTS, json=new)
    number = MEMBERS[-1].account.id + 1
    assert (made.status_code, made.json()) == (201, {"account_id": number})
    (found,) = (await admin.get(f"{ACCOUNTS}?institution_user_id=u900")).json()
    assert (found["id"], found["email"], found["active"]) == (number, "new@example.org", 1)
    assert (await admin.get(f"{ACCOUNTS}/{number}")).json()["email"] == "new@example.org"
    assert (await admin.get("/v2/account", params={"impersonate": number})).json()["id"] == number
    assert (await admin.get(f"{ACCOUNTS}/5")).status_code == 404

    assert (await admin.post(ACCOUNTS, json=new)).json()["code"] == "AccountExists"
    assert (await admin.post(ACCOUNTS, json={"email": "no last name"})).status_code == 422
    assert (await admin.post(ACCOUNTS, json={"email": "no address", "last_name": "A"})).status_code == 422
    assert (await admin.post(ACCOUNTS, json=new | {"first_name": "A" * 255})).status_code == 422
    example.settings.institution_admin = False
    assert (await admin.post(ACCOUNTS, json={"email": "b@example.org", "last_name": "B"})).status_code == 403


async def test_many_accounts(admin: httpx.AsyncClient) -> None:
    """More than a page; past the depth where pages end, ranges of ids go on (quirks L7)."""
    ids = (await admin.post("/_sandbox/members", json={"count": 1200})).json()["ids"]
    assert ids == [*range(1000031, 1001231)]
    await admin.put("/_sandbox/settings", json={"max_depth": 1000})
    assert (await admin.get(f"{ACCOUNTS}?page=2&page_size=1000")).status_code == 422
    found = (await admin.get(f"{ACCOUNTS}?id_gte=1001001&page=1&page_size=1000")).json()
    assert [account["id"] for account in found] == [*range(1001001, 1001231)]


async def test_impersonation(admin: httpx.AsyncClient) -> None:
    """In the query of GET and DELETE, in the body of all else; what is made belongs to the other account."""
    who = {"impersonate": COLLEAGUE.id}
    assert (await admin.get("/v2/account", params=who)).json()["email"] == COLLEAGUE.email
    made = await admin.post("/v2/account/articles", json={"title": "For a colleague"} | who)
    path = httpx.URL(made.json()["location"]).path
    assert (await admin.get(path)).status_code == 404
    assert (await admin.get(path, params=who)).json()["title"] == "For a colleague"
    assert (await admin.put(path, json={"title": "Another"} | who)).status_code == 205
    assert (await admin.delete(path)).status_code == 404
    assert (await admin.delete(path, params=who)).status_code == 204
    assert (await admin.get("/v2/account", params={"impersonate": 5})).status_code == 403
    assert (await admin.get("/v2/account")).json()["email"] == ACCOUNT.email


async def test_downloads_of_the_impersonated(admin: httpx.AsyncClient) -> None:
    """A private file of the other account needs the parameter, too."""
    who = {"impersonate": COLLEAGUE.id}
    made = await admin.post("/v2/account/articles", json={"title": "For a colleague"} | who)
    path = httpx.URL(made.json()["location"]).path
    body = {"name": "a.txt", "size": 3, "md5": "900150983cd24fb0d6963f7d28e17f72"}
    location = httpx.URL((await admin.post(f"{path}/files", json=body | who)).json()["location"]).path
    record = (await admin.get(location, params=who)).json()
    await admin.put(f"{record['upload_url']}/1", content=b"abc")
    assert (await admin.post(location, json=who)).status_code == 202
    download = f"/v2/file/download/{record['id']}"
    assert (await admin.get(download)).status_code == 404

    with trio.fail_after(5):
        while (await admin.get(location, params=who)).json()["status"] != "available":  # noqa: ASYNC110 - another process would poll as well
            await trio.sleep(0.01)
    assert (await admin.get(download, params=who)).status_code == 302


async def test_the_feed(example: Sandbox, admin: httpx.AsyncClient) -> None:
    """Refused if it is broken, of another type, lacks columns, or comes again within the day."""

    async def send(name: str, content: bytes) -> httpx.Response:
        return await admin.post(FEED, files={"hrfeed": (name, content)})

    assert (await send("people.txt", GOOD_FEED)).json()["code"] == "UnsupportedFileType"
    assert (await send("people.csv", b"UniqueID,Email\n")).json()[
        "message"
    ] == "The feed lacks FirstName, LastName"
    assert (await send("people.xml", b"<a>")).status_code == 400
    assert (await send("people.csv", b"\xff\xfe")).status_code == 400
    assert (await send("people.csv", GOOD_FEED)).json() == {"message": "OK"}
    assert example.store.get_meta("feed") == GOOD_FEED.decode()
    assert (await send("people.csv", GOOD_FEED)).json()["code"] == "HRFeedUploadLimit"
    example.settings.feed_pause = 0
    assert (await send("people.csv", GOOD_FEED)).status_code == 200
    assert (await admin.post(FEED, json={})).status_code == 415


async def test_values_of_a_field(example: Sandbox, admin: httpx.AsyncClient) -> None:
    """The header is ignored, columns are joined, short values dropped; 409 while one is in progress."""

    async def send(number: int, name: str, content: bytes) -> httpx.Response:
        return await admin.post(FIELD.format(number), files={"external_file": (name, content)})

    assert (await send(9, "a.csv", b"")).status_code == 404
    assert (await send(502, "a.csv", b"")).status_code == 400
    assert (await send(501, "a.txt", b"")).status_code == 400
    assert (await send(501, "a.csv", b"Name\nDepartment of,Physics\nab\n")).status_code == 200
    assert example.store.get_meta("field_values_501") == "Department of Physics"
    refused = await send(501, "a.csv", b"Name\nChemistry\n")
    assert (refused.status_code, refused.json()["code"]) == (409, "PreviousCustomFieldUploadNotComplete")
