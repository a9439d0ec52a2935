"""Downloads: redirects, presigned URLs, ranges."""

from __future__ import annotations

import hashlib
import re

import httpx
import pytest
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from sandbox_openapi import client_of

from figfs.sandbox.blobs import pattern_content, pattern_md5
from figfs.sandbox.state import Sandbox
from figfs.sandbox.storage import parse_range

PUBLIC, PRIVATE = 40000028, 40000001  # of the example account
ROUTES = ["/v2/file/download/{}", "/ndownloader/files/{}"]


@pytest.fixture
async def target(example_api: httpx.AsyncClient) -> str:
    """A fresh presigned URL of the private file."""
    location: str = (await example_api.get(f"/v2/file/download/{PRIVATE}")).headers["Location"]
    return location


async def content_of(example_api: httpx.AsyncClient) -> bytes:
    example_api.headers.pop("Authorization")
    return b"# Mass balance of Storglaci\xc3\xa4ren\n\nStake readings, one folder a year.\n"


@pytest.mark.parametrize("route", ROUTES)
async def test_private_files_need_the_token(example: Sandbox, route: str) -> None:
    """404 without, 401 with a wrong one, 302 with it; public files are anyone's."""
    async with client_of(example) as anyone:
        assert (await anyone.get(route.format(PRIVATE))).status_code == 404
        assert (await anyone.get(route.format(PUBLIC))).status_code == 302
        assert (await anyone.get(route.format(1))).status_code == 404
        wrong, right = ({"Authorization": f"token {token}"} for token in ("wrong", example.token))
        assert (await anyone.get(route.format(PRIVATE), headers=wrong)).status_code == 401
        assert (await anyone.get(route.format(PRIVATE), headers=right)).status_code == 302


async def test_the_token_in_the_query(example: Sandbox) -> None:
    """ndownloader takes ``?token=`` (quirk D6); the token is not in the redirect."""
    async with client_of(example) as anyone:
        answer = await anyone.get(f"/ndownloader/files/{PRIVATE}?token={example.token}")
    assert answer.status_code == 302
    assert example.token not in answer.headers["Location"]


async def test_the_whole_file(example_api: httpx.AsyncClient, target: str) -> None:
    """200 with length, ETag, Last-Modified and Accept-Ranges, as S3."""
    content = await content_of(example_api)
    answer = await example_api.get(target)
    assert (answer.status_code, answer.content) == (200, content)
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers["ETag"] == f'"{hashlib.md5(content).hexdigest()}"'
    assert answer.headers["Last-Modified"] == "Tue, 09 Jan 2024 10:15:00 GMT"
    assert answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=60-", 60, 69),
        ("bytes=-7", 62, 69),
        ("bytes=60-999", 60, 69),
    ],
)
async def test_a_range(
    example_api: httpx.AsyncClient, target: str, header: str, start: int, end: int
) -> None:
    """206 with the bytes and a Content-Range that tells the whole size."""
    content = await content_of(example_api)
    answer = await example_api.get(target, headers={"Range": header})
    assert (answer.status_code, answer.content) == (206, content[start:end])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/69"
    assert answer.headers["Content-Length"] == str(end - start)


@pytest.mark.parametrize("header", ["bytes=69-", "bytes=1000-1001", "bytes=-0"])
async def test_a_range_outside(example_api: httpx.AsyncClient, target: str, header: str) -> None:
    """416 with the size."""
    await content_of(example_api)
    answer = await example_api.get(target, headers={"Range": header})
    assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */69")


@pytest.mark.parametrize(
    "header", ["bytes=9-5", "bytes=a-b", "items=0-1", "bytes=-", "bytes=0-1,4-5", "0-5", ""]
)
async def test_a_malformed_range(example_api: httpx.AsyncClient, target: str, header: str) -> None:
    """Is ignored: 200 with the whole file. Several ranges too, as S3 has no such thing."""
    content = await content_of(example_api)
    answer = await example_api.get(target, headers={"Range": header})
    assert (answer.status_code, answer.content) == (200, content)


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 100))
def test_ranges_are_within_the_file(first: int, last: int, size: int) -> None:
    """Whatever is asked for, what is given lies in the file, begins as asked and is as long as possible."""
    bounds = parse_range(f"bytes={first}-{last}", size)
    if last < first:
        assert bounds is None
        return
    assert bounds == (first, min(last + 1, size))
    assert parse_range(f"bytes=-{last}", size) == (max(0, size - last), size)


async def test_a_presigned_url_lives_ten_seconds(
    example_api: httpx.AsyncClient, target: str, mock_clock: trio.testing.MockClock
) -> None:
    """Then it is 403 with an XML body, whoever asks (quirk D10)."""
    await content_of(example_api)
    assert "X-Amz-Expires=10" in target
    mock_clock.jump(8.9)  # the signature's date is in whole seconds
    assert (await example_api.get(target)).status_code == 200
    mock_clock.jump(1.2)
    answer = await example_api.get(target)
    assert (answer.status_code, answer.headers["Content-Type"]) == (403, "application/xml")
    assert "<Message>Request has expired</Message>" in answer.text


async def test_an_authorization_header_is_refused(example_api: httpx.AsyncClient, target: str) -> None:
    """400 InvalidArgument, as S3 (quirk D7)."""
    answer = await example_api.get(target)
    assert answer.status_code == 400
    assert "<Code>InvalidArgument</Code>" in answer.text


async def test_a_forged_url_is_refused(example_api: httpx.AsyncClient, target: str) -> None:
    """Another file, a longer life, no signature: 403."""
    await content_of(example_api)
    for forged in (
        target.replace(f"/{PRIVATE}/", f"/{PRIVATE + 1}/"),
        target.replace("X-Amz-Expires=10", "X-Amz-Expires=99"),
        target.partition("?")[0],
        re.sub(r"Signature=.*", "Signature=ä", target),
    ):
        assert (await example_api.get(forged)).status_code == 403


async def test_head_is_refused(example_api: httpx.AsyncClient, target: str) -> None:
    """The URL is signed for GET (quirk D11)."""
    await content_of(example_api)
    assert (await example_api.head(target)).status_code == 403


async def test_private_files_may_be_streamed(example: Sandbox, example_api: httpx.AsyncClient) -> None:
    """``stream_private``: ndownloader sends them itself, whole and without a length (quirk D9)."""
    example.settings.change({"stream_private": True})
    answer = await example_api.get(f"/ndownloader/files/{PRIVATE}", headers={"Range": "bytes=0-1"})
    assert (answer.status_code, len(answer.content)) == (200, 69)
    assert "Content-Length" not in answer.headers
    assert (await example_api.get(f"/ndownloader/files/{PUBLIC}")).status_code == 302


async def test_computed_contents_have_their_md5(example_api: httpx.AsyncClient) -> None:
    """The bytes of a seeded file are those its MD5 was made of, read whole and in ranges."""
    listed = (await example_api.get("/v2/account/articles/20000001/files")).json()
    file = next(file for file in listed if file["name"] == "dem_2023.tif")
    target = (await example_api.get(f"/v2/file/download/{file['id']}")).headers["Location"]
    await content_of(example_api)
    whole = (await example_api.get(target)).content
    assert hashlib.md5(whole).hexdigest() == file["computed_md5"]
    piece = (await example_api.get(target, headers={"Range": "bytes=999999-2000100"})).content
    assert piece == whole[999_999:2_000_101]


@given(st.integers(1, 10**9), st.integers(0, 3_000_000), st.integers(0, 2_100_000))
def test_computed_contents_are_pieces_of_one_whole(file_id: int, start: int, length: int) -> None:
    """Any two neighbouring pieces make one; different files differ."""
    middle = start + length // 2
    joined = pattern_content(file_id, start, middle - start) + pattern_content(
        file_id, middle, start + length - middle
    )
    assert joined == pattern_content(file_id, start, length)
    assert len(joined) == length
    assert pattern_md5(file_id, 40) != pattern_md5(file_id + 1, 40)
