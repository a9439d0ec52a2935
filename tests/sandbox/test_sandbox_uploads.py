"""Uploads: announced, sent in parts, completed, assembled."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import httpx
import pytest
import trio
import trio.testing

from figfs.sandbox.settings import Settings
from figfs.sandbox.state import Sandbox

CONTENT = b"0123456789abcdefghijklmno"  # 25 bytes: three parts of 10
MD5 = hashlib.md5(CONTENT).hexdigest()


@pytest.fixture
async def article(sandbox: Sandbox, api: httpx.AsyncClient) -> str:
    """The path of a new article; parts are of ten bytes."""
    sandbox.settings.change({"part_size": 10})
    location: str = (await api.post("/v2/account/articles", json={"title": "Uploads"})).json()["location"]
    return location


async def announce(api: httpx.AsyncClient, article: str, **fields: object) -> httpx.Response:
    body = {"name": "a.bin", "size": len(CONTENT), "md5": MD5} | fields
    return await api.post(f"{article}/files", json={k: v for k, v in body.items() if v is not None})


async def announced(api: httpx.AsyncClient, article: str, **fields: object) -> tuple[str, str]:
    """Location and upload URL of a new file."""
    location: str = (await announce(api, article, **fields)).json()["location"]
    return location, (await api.get(location)).json()["upload_url"]


async def send(api: httpx.AsyncClient, upload_url: str, content: bytes = CONTENT) -> None:
    for part in (await api.get(upload_url)).json()["parts"]:
        piece = content[part["startOffset"] : part["endOffset"] + 1]
        answer = await api.put(f"{upload_url}/{part['partNo']}", content=piece)
        assert (answer.status_code, answer.text) == (200, "OK")


async def available(api: httpx.AsyncClient, location: str) -> dict[str, object]:
    with trio.fail_after(10):
        while True:
            file: dict[str, object] = (await api.get(location)).json()
            if file["status"] == "available":
                return file
            await trio.sleep(0.01)


async def test_an_upload(api: httpx.AsyncClient, article: str) -> None:
    """Announce, parts, complete; then it is available with its MD5, and its bytes can be had."""
    location, upload_url = await announced(api, article, folder_path="/level1/level2/")
    before = (await api.get(location)).json()
    assert (before["status"], before["size"], before["computed_md5"]) == ("created", 25, "")
    session = (await api.get(upload_url)).json()
    assert session["name"] == f"{before['id']}/a.bin"
    assert (session["size"], session["md5"], session["status"]) == (25, MD5, "PENDING")
    assert [(p["partNo"], p["startOffset"], p["endOffset"]) for p in session["parts"]] == [
        (1, 0, 9),
        (2, 10, 19),
        (3, 20, 24),
    ]
    assert {(p["status"], p["locked"]) for p in session["parts"]} == {("PENDING", False)}
    await send(api, upload_url)
    completed = await api.post(location)
    assert completed.status_code == 202
    with pytest.raises(ValueError, match="Expecting value"):
        completed.json()  # not JSON (quirk U5)
    file = await available(api, location)
    assert (file["computed_md5"], file["supplied_md5"], file["upload_url"]) == (MD5, MD5, "")
    assert file["upload_token"] == upload_url.rpartition("/")[2]
    assert (await api.get(upload_url)).json()["status"] == "COMPLETED"
    assert (await api.get(article)).json()["folder_structure"] == {str(file["id"]): "level1/level2"}
    redirect = await api.get(f"/v2/file/download/{file['id']}")
    content = await httpx.AsyncClient.get(api, redirect.headers["Location"], headers={"Authorization": ""})
    assert content.status_code == 400  # any Authorization header, even an empty one
    del api.headers["Authorization"]
    assert (await api.get(redirect.headers["Location"])).content == CONTENT


@pytest.mark.parametrize(
    "fields",
    [
        {"size": 0},
        {"size": -1},
        {"size": "25"},
        {"size": True},
        {"size": None},
        {"name": None},
        {"name": ""},
        {"md5": "xyz"},
        {"md5": ""},
        {"folder_path": "a/../b"},
        {"link": "https://example.org/a"},
        {"link": "file:///etc/passwd", "size": None, "md5": None},
    ],
)
async def test_bad_announcements(api: httpx.AsyncClient, article: str, fields: dict[str, object]) -> None:
    """422, and no file is made: also for empty files (quirk U17) and for a link with a size."""
    assert (await announce(api, article, **fields)).status_code == 422
    assert (await api.get(f"{article}/files")).json() == []


async def test_md5_may_be_left_out(api: httpx.AsyncClient, article: str) -> None:
    """Then ``supplied_md5`` is "" (quirk U10)."""
    location, upload_url = await announced(api, article, md5=None)
    await send(api, upload_url)
    await api.post(location)
    file = await available(api, location)
    assert (file["supplied_md5"], file["computed_md5"]) == ("", MD5)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"quota": 24}, "quota"),
        ({"maximum_file_size": 24}, "maximum file size"),
        ({"max_files": 0}, "number of files"),
    ],
)
async def test_limits_at_announcement(
    sandbox: Sandbox, api: httpx.AsyncClient, article: str, settings: dict[str, int], word: str
) -> None:
    """Quota, file size and number of files are checked at once, and the message names which (quirk U15)."""
    sandbox.settings.change(settings)
    answer = await announce(api, article)
    assert answer.status_code == 422
    assert word in answer.json()["message"]
    sandbox.settings.change(dict.fromkeys(settings, 25))
    assert (await announce(api, article)).status_code == 201


async def test_announced_files_use_quota(api: httpx.AsyncClient, article: str) -> None:
    """The account's use counts a file from its announcement to its deletion, finished or not."""
    location, _ = await announced(api, article)
    account = (await api.get("/v2/account")).json()
    assert (account["used_quota"], account["used_quota_private"], account["used_quota_public"]) == (25, 25, 0)
    assert (await api.delete(location)).status_code == 204
    assert (await api.get("/v2/account")).json()["used_quota"] == 0


async def test_the_record_may_come_late(
    sandbox: Sandbox, api: httpx.AsyncClient, article: str, mock_clock: trio.testing.MockClock
) -> None:
    """``upload_record_delay``: a file just announced is 404 for a moment, though listed (quirk U9)."""
    sandbox.settings.change({"upload_record_delay": 1.5})
    location = (await announce(api, article)).json()["location"]
    assert (await api.get(location)).status_code == 404
    assert len((await api.get(f"{article}/files")).json()) == 1
    mock_clock.jump(1.5)
    assert (await api.get(location)).status_code == 200


async def test_parts_complete_once(api: httpx.AsyncClient, article: str) -> None:
    """A complete part refuses another PUT with 409 until DELETE resets it."""
    _, upload_url = await announced(api, article)
    assert (await api.put(f"{upload_url}/2", content=b"x" * 10)).status_code == 200
    assert (await api.get(f"{upload_url}/2")).json()["status"] == "COMPLETE"
    assert (await api.put(f"{upload_url}/2", content=b"y" * 10)).status_code == 409
    reset = await api.delete(f"{upload_url}/2")
    assert (reset.status_code, reset.text) == (200, "OK")
    assert (await api.get(f"{upload_url}/2")).json()["status"] == "PENDING"
    assert (await api.put(f"{upload_url}/2", content=b"y" * 10)).status_code == 200


async def slow_body(go_on: trio.Event, begun: trio.Event) -> AsyncIterator[bytes]:
    yield b"01234"
    begun.set()
    await go_on.wait()
    yield b"56789"


async def test_a_part_being_sent_is_locked(
    api: httpx.AsyncClient, article: str, nursery: trio.Nursery
) -> None:
    """Meanwhile it shows ``locked``, and PUT and DELETE of it get 409 (quirk U6); other parts do not mind."""
    _, upload_url = await announced(api, article)
    begun, go_on, answered = trio.Event(), trio.Event(), trio.Event()
    answers = []

    async def put() -> None:
        headers = {"Content-Length": "10"}
        answers.append(await api.put(f"{upload_url}/1", content=slow_body(go_on, begun), headers=headers))
        answered.set()

    nursery.start_soon(put)
    await begun.wait()
    assert (await api.get(f"{upload_url}/1")).json()["locked"]
    assert (await api.put(f"{upload_url}/1", content=b"x" * 10)).status_code == 409
    assert (await api.delete(f"{upload_url}/1")).status_code == 409
    assert (await api.put(f"{upload_url}/2", content=b"x" * 10)).status_code == 200
    go_on.set()
    await answered.wait()
    assert answers[0].status_code == 200
    part = (await api.get(f"{upload_url}/1")).json()
    assert (part["status"], part["locked"]) == ("COMPLETE", False)


async def test_too_many_parts_at_once(
    sandbox: Sandbox, api: httpx.AsyncClient, article: str, nursery: trio.Nursery
) -> None:
    """More than ``max_parts_at_once`` get 429 with Retry-After (quirk U4)."""
    sandbox.settings.change({"max_parts_at_once": 1})
    _, upload_url = await announced(api, article)
    begun, go_on = trio.Event(), trio.Event()

    async def put() -> None:
        headers = {"Content-Length": "10"}
        await api.put(f"{upload_url}/1", content=slow_body(go_on, begun), headers=headers)

    nursery.start_soon(put)
    await begun.wait()
    answer = await api.put(f"{upload_url}/2", content=b"x" * 10)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    go_on.set()


async def test_wrong_lengths(api: httpx.AsyncClient, article: str, autojump_clock: object) -> None:
    """Short: waits ``upload_timeout``, then 500 (quirk U7). Long: 500 at once. Without a length: 411."""
    _, upload_url = await announced(api, article)
    begin = trio.current_time()
    assert (await api.put(f"{upload_url}/1", content=b"short")).status_code == 500
    assert trio.current_time() - begin == pytest.approx(Settings().upload_timeout)
    begin = trio.current_time()
    assert (await api.put(f"{upload_url}/1", content=CONTENT)).status_code == 500
    assert trio.current_time() == begin

    async def chunked() -> AsyncIterator[bytes]:
        yield b"0123456789"

    assert (await api.put(f"{upload_url}/1", content=chunked())).status_code == 411
    part = (await api.get(f"{upload_url}/1")).json()
    assert (part["status"], part["locked"]) == ("PENDING", False)


async def test_unknown_sessions_and_parts(api: httpx.AsyncClient, article: str) -> None:
    """404 for all that is not there."""
    _, upload_url = await announced(api, article)
    assert (await api.get("/upload/nonsense")).status_code == 404
    for number in ("0", "4", "one"):
        assert (await api.get(f"{upload_url}/{number}")).status_code == 404
        assert (await api.put(f"{upload_url}/{number}", content=b"x")).status_code == 404


async def test_completing_needs_all_parts(api: httpx.AsyncClient, article: str) -> None:
    """400 while parts are missing, and the upload can be continued; completing twice is 400, too."""
    location, upload_url = await announced(api, article)
    await api.put(f"{upload_url}/1", content=CONTENT[:10])
    assert (await api.post(location)).status_code == 400
    assert (await api.get(location)).json()["status"] == "created"
    for number in (2, 3):
        await api.put(f"{upload_url}/{number}", content=CONTENT[10 * (number - 1) : 10 * number])
    assert (await api.post(location)).status_code == 202
    assert (await api.post(location)).status_code == 400
    assert (await api.put(f"{upload_url}/1", content=CONTENT[:10])).status_code == 409
    assert (await api.delete(f"{upload_url}/1")).status_code == 409


async def test_assembly_takes_time(
    sandbox: Sandbox, api: httpx.AsyncClient, article: str, autojump_clock: trio.testing.MockClock
) -> None:
    """``created``, ``ic_checking``, ``moving_to_final``, ``available``, in ``assembly_delay`` (quirk U11)."""
    sandbox.settings.change({"assembly_delay": 30})
    location, upload_url = await announced(api, article)
    await send(api, upload_url)
    await api.post(location)
    begin = trio.current_time()
    seen: list[tuple[str, bool]] = []
    while ("available", True) not in seen:
        file = (await api.get(location)).json()
        state = (file["status"], bool(file["computed_md5"]))
        if state not in seen:
            seen.append(state)
        await trio.sleep(1)
    assert trio.current_time() - begin >= 30
    assert seen == [
        ("created", False),
        ("ic_checking", False),
        ("moving_to_final", True),
        ("available", True),
    ]


async def test_assembly_can_get_stuck(
    sandbox: Sandbox, api: httpx.AsyncClient, article: str, autojump_clock: object
) -> None:
    """``assembly_ends_at`` and ``compute_md5``: for ever moving_to_final, without an MD5 (quirk U11)."""
    sandbox.settings.change({"assembly_ends_at": "moving_to_final", "compute_md5": False})
    location, upload_url = await announced(api, article)
    await send(api, upload_url)
    await api.post(location)
    for _ in range(1000):
        file = (await api.get(location)).json()
        if file["status"] == "moving_to_final":
            break
        await trio.sleep(1)
    await trio.sleep(3600)
    file = (await api.get(location)).json()
    assert (file["status"], file["computed_md5"]) == ("moving_to_final", "")
    assert (await api.get(f"/v2/file/download/{file['id']}")).status_code == 302


async def test_a_wrong_md5_is_shown_not_refused(api: httpx.AsyncClient, article: str) -> None:
    """The file becomes available with the MD5 of its real bytes (quirk U12)."""
    location, upload_url = await announced(api, article)
    wrong = b"x" * len(CONTENT)
    await send(api, upload_url, wrong)
    await api.post(location)
    file = await available(api, location)
    assert (file["supplied_md5"], file["computed_md5"]) == (MD5, hashlib.md5(wrong).hexdigest())


async def test_deleting_an_unfinished_upload(sandbox: Sandbox, api: httpx.AsyncClient, article: str) -> None:
    """File, session and bytes are gone (quirk U14)."""
    location, upload_url = await announced(api, article)
    await api.put(f"{upload_url}/1", content=CONTENT[:10])
    number = int(location.rpartition("/")[2])
    assert sandbox.blobs.path(number).exists()
    assert (await api.delete(location)).status_code == 204
    assert (await api.get(location)).status_code == 404
    assert (await api.delete(location)).status_code == 404
    assert (await api.get(upload_url)).status_code == 404
    assert not sandbox.blobs.path(number).exists()


async def test_unfinished_uploads_are_listed(api: httpx.AsyncClient, article: str) -> None:
    """With full size, and their bytes cannot be had (quirk U14). Names may be doubled (quirk L1)."""
    await announced(api, article)
    await announced(api, article)
    listed = (await api.get(f"{article}/files")).json()
    assert [(file["name"], file["size"], file["status"]) for file in listed] == [("a.bin", 25, "created")] * 2
    assert (await api.get(f"/v2/file/download/{listed[0]['id']}")).status_code == 404


async def test_linked_files(api: httpx.AsyncClient, article: str) -> None:
    """Available at once, without size, MD5 and bytes; the only file of its item (quirks D14, U19)."""
    url = "https://example.org/data/big.nc?x=1"
    location = (await api.post(f"{article}/files", json={"link": url})).json()["location"]
    file = (await api.get(location)).json()
    assert (file["name"], file["size"], file["status"], file["download_url"]) == (
        "big.nc",
        0,
        "available",
        url,
    )
    assert (file["is_link_only"], file["upload_url"], file["computed_md5"]) == (True, "", "")
    assert (await announce(api, article)).status_code == 422
    assert (await api.post(f"{article}/files", json={"link": url})).status_code == 422
    assert (await api.get(article)).json()["has_linked_file"]
    assert (await api.get(f"/v2/file/download/{file['id']}")).status_code == 404


async def test_large_parts_are_stored_as_sent(sandbox: Sandbox, api: httpx.AsyncClient, article: str) -> None:
    """Bodies of several chunks, parts in any order: the MD5 is that of the whole."""
    content = bytes(range(251)) * 20_000
    sandbox.settings.change({"part_size": 3_000_001})
    md5 = hashlib.md5(content).hexdigest()
    location, upload_url = await announced(api, article, size=len(content), md5=md5)

    async def chunks(piece: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(piece), 65_536):
            yield piece[start : start + 65_536]

    for part in reversed((await api.get(upload_url)).json()["parts"]):
        piece = content[part["startOffset"] : part["endOffset"] + 1]
        headers = {"Content-Length": str(len(piece))}
        answer = await api.put(f"{upload_url}/{part['partNo']}", content=chunks(piece), headers=headers)
        assert answer.status_code == 200
    await api.post(location)
    assert (await available(api, location))["computed_md5"] == md5
