"""A whole mount without FUSE, whatever a server answers: the handlers raise what has an errno, nothing else.

Each request is answered by one of a few JSON values for its path; then everything is looked at, as programs
and the commands do. What must hold is in ``look``.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from inprocess import BASE, A, World, fast_clock, open_article, open_world

from figfs.content.storedfiles import StoredFiles
from figfs.dotfigshare.directories import NAME
from figfs.errors import FigfsError
from figfs.figshare.client import open_client
from figfs.figshare.records import File
from figfs.namespace.nodes import Container, DocumentNode, FileNode, LinkNode, Node
from figfs.reading.cachedirectory import check_key
from figfs.terminal import as_json

EVIL = "\x1b]0;owned\x07\u202eevil\x9b2J\r\n\0../.."

scalars = st.sampled_from(
    [
        None, True, False, 0, -1, 1, 2, 7, 2**63 - 1, 2**63, 10**30, 1.5, 1e300, math.nan, math.inf, "", " ",
        ".", "..", "7", "a/b", "../../..", EVIL, "\ud800", "x" * 300, ".figshare", "articles", "9" * 25,
        "uuid-7",
        "2024-05-20T14:45:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "public", "draft",
        "https://x.test/" + EVIL, "file:///etc/passwd", "http://[", "10.6084/m9.figshare.7",
        "a&#32;b<i>c</i>", "d/" * 300, "900150983cd24fb0d6963f7d28e17f72",
    ]
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "name", "7", "title"]), inner, max_size=3)
    ),
    max_leaves=4,
)
ids = st.sampled_from([1, 2, 7, "7", "uuid-7", EVIL, 2**63 - 1, "x/../../etc"])
FILE_FIELDS = ["name", "size", "is_link_only", "download_url", "computed_md5", "supplied_md5", "status"]
files = st.builds(
    lambda id_, more: more | {"id": id_},
    ids,
    st.dictionaries(st.sampled_from(FILE_FIELDS), scalars, min_size=1),
)
FIELDS = [
    "title", "doi", "status", "is_public", "public", "version", "description", "tags", "categories",
    "authors", "license", "defined_type_name", "size", "is_embargoed", "embargo_date", "is_confidential",
    "role", "storage", "figshare_url", "url_public_html", "published_date", "modified_date", "created_date",
    "fields", "account_id", "project_id", "timeline", "custom_fields", "abstract", "text", "expires_date",
    "html_location", "location",
]  # fmt: skip
items = st.builds(
    lambda id_, more, inside, folders: more | {"id": id_, "files": inside, "folder_structure": folders},
    ids,
    st.dictionaries(st.sampled_from(FIELDS), scalars | values, max_size=12),
    st.lists(files, max_size=4) | values,
    st.dictionaries(st.sampled_from(["1", "2", "7", "uuid-7"]), scalars, max_size=3) | values,
)
answers = items | st.lists(items | values, max_size=4) | st.lists(files, max_size=4) | values


@contextlib.asynccontextmanager
async def hostile_world(directory: Path, told: list[Any]) -> AsyncIterator[World]:
    """Each path gets one of ``told``, always the same. Lists have one page."""
    async with open_world(directory, dir_timeout=1e6, timeout=1e6) as w:
        places: dict[str, int] = {}

        async def answer(request: httpx.Request) -> httpx.Response:
            if "page=2" in str(request.url):
                return httpx.Response(200, json=[])
            number = places.setdefault(request.url.path, len(places))
            body = json.dumps(told[number % len(told)]).encode()
            return httpx.Response(200 if request.method in ("GET", "POST") else 204, content=body)

        w.wire.handle_async_request = answer  # type: ignore[method-assign]
        yield w


async def look(w: World, node: Node, depth: int = 0) -> int:
    """Everything at and below ``node``; how many nodes. What has an errno may be raised, and nothing else."""
    seen = 1
    figures = w.fs.attributes(node)
    for number in (figures.inode, figures.size, figures.blocks):
        assert 0 <= number < 1 << 64
    assert figures.size < 1 << 63
    for time in (figures.atime_ns, figures.mtime_ns, figures.ctime_ns):
        assert -(1 << 63) <= time // 10**9 < 1 << 63
    assert figures.valid_for >= 0
    for name in w.fs.listxattr(node.inode):
        with contextlib.suppress(OSError):
            assert w.fs.getxattr(node.inode, name).decode().isprintable()
    with contextlib.suppress(OSError, FigfsError):
        if isinstance(node, LinkNode):
            check_target(node, w.fs.readlink(node.inode).decode())
        elif isinstance(node, DocumentNode):
            handle = await w.fs.open_document(node.inode, os.O_RDONLY, 1)
            await w.fs.read(handle, 0, 1 << 24)
            await w.fs.flush(handle)
            await w.fs.release(handle)
        elif isinstance(node, FileNode):
            handle, _ = w.fs.open(node.inode, os.O_RDONLY, 1)
            await w.fs.flush(handle)
            await w.fs.release(handle)
    if isinstance(node, Container) and depth < 12:
        names = []
        with contextlib.suppress(OSError, FigfsError):
            handle = await w.fs.opendir(node.inode)
            names = [entry.name for entry in w.fs.readdir(handle, 0)]
            w.fs.releasedir(handle)
        assert len(set(names)) == len(names)
        for name in [*names, NAME]:
            assert 0 < len(name.encode()) <= 255
            assert "/" not in name
            with contextlib.suppress(OSError, FigfsError):
                seen += await look(w, await w.fs.lookup(node.inode, name.encode()), depth + 1)
    return seen


def check_target(node: LinkNode, target: str) -> None:
    """It stays in the mount, or is a URL with nothing hidden in it."""
    assert target.isprintable() or "evil" in target.replace("%", ""), ascii(target)
    if "://" in target.split("/")[0] + "//" and target.lower().startswith(("http://", "https://", "ftp://")):
        assert target.isprintable()
        return
    assert not target.startswith("/")
    above = node.path().count("/") - 1
    for part in target.split("/"):
        above += -1 if part == ".." else part not in ("", ".")
        assert above >= 0, (node.path(), target)


async def command(w: World, name: str, path: str) -> None:
    """What the command line asks a mount; what it is told fits on a terminal once it is JSON."""

    async def send(said: Any) -> None:
        assert as_json(said).isprintable()

    with contextlib.suppress(OSError, FigfsError, ValueError):
        await w.parts.items.table()[name]({"path": path}, send)


async def everything(told: list[Any]) -> int:
    with tempfile.TemporaryDirectory() as directory:
        async with hostile_world(Path(directory), told) as w:
            for query in ("frog", "a: b"):
                with contextlib.suppress(OSError, FigfsError):
                    await w.mkdir(f"search/{query}")
            seen = await look(w, w.tree.root)
            for path in (
                "articles/7",
                "articles/7.v2",
                "projects/7",
                "collections/7",
                "doi/10.6084/m9.figshare.7",
            ):
                with contextlib.suppress(OSError, FigfsError):
                    seen += await look(w, await w.node(f"public/{path}"))
            for place in ("articles", "projects", "collections", "public/articles"):
                names = ["7"]
                with contextlib.suppress(OSError, FigfsError):
                    names += await w.ls(place)
                for name in names[:3]:
                    for asked in ("item", "info", "check", "reserve-doi", "refresh"):
                        await command(w, asked, f"{place}/{name}")
            return seen


def check(told: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        assert trio.run(everything, told, clock=fast_clock()) > 10
    assert not [record.getMessage() for record in caplog.records], caplog.text


unhurried: dict[str, Any] = {"suppress_health_check": list(HealthCheck), "deadline": None}


@settings(max_examples=12, **unhurried)
@given(told=st.lists(answers, min_size=1, max_size=6))
def test_any_records(told: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    check(told, caplog)


@pytest.mark.long
@settings(max_examples=500, **unhurried)
@given(told=st.lists(answers, min_size=1, max_size=6))
def test_any_records_for_long(told: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    check(told, caplog)


# -- writing ------------------------------------------------------------

PART = ["partNo", "startOffset", "endOffset", "status", "locked"]
DATA = b"bytes that close() has accepted"
STORED = ("available", "COMPLETED")
md5 = hashlib.md5(DATA, usedforsecurity=False).hexdigest()
whole = {"partNo": 1, "startOffset": 0, "endOffset": len(DATA) - 1, "status": "PENDING", "locked": False}
parts = st.lists(
    st.just(whole) | st.dictionaries(st.sampled_from(PART), scalars, min_size=3),
    max_size=3,
)
uploading = st.fixed_dictionaries(
    {},
    optional={
        "id": ids,
        "location": st.sampled_from(["https://api.test/v2/x/7", "/7", "", EVIL, "https://x/../../.."]),
        "upload_url": st.sampled_from(
            [f"{BASE}/upload/7", "http://[", "file:///x", "", EVIL, "https://xn--/"]
        ),
        "parts": parts | values,
        "status": st.sampled_from(["created", "available", "ic_checking", "PENDING", "COMPLETED", EVIL, ""]),
        "name": st.sampled_from(["new", EVIL]),
        "size": st.sampled_from([len(DATA), 0, -1, 10**30, None, EVIL]),
        "computed_md5": st.sampled_from([md5, "", EVIL, "0" * 32]),
        "supplied_md5": st.sampled_from([md5, "", EVIL]),
    },
)


async def write(told: list[Any], statuses: list[int]) -> None:
    """A file is written, and what comes of it is waited for a while: its bytes are never lost."""
    with tempfile.TemporaryDirectory() as directory:
        async with open_article(Path(directory), close_timeout=5.0) as (w, _):
            honest = w.wire.handle_async_request
            places: dict[str, int] = {}

            async def answer(request: httpx.Request) -> httpx.Response:
                path = request.url.path
                if not (path.endswith("/files") or "/files/" in path or path.startswith("/upload")):
                    return await honest(request)
                await request.aread()
                number = places.setdefault(f"{request.method} {path}", len(places))
                body: object = told[number % len(told)]
                if request.method == "GET" and path.endswith("/files"):
                    body = [body] if "page=2" not in str(request.url) else []
                status = statuses[number % len(statuses)]
                return httpx.Response(status, content=json.dumps(body).encode())

            w.wire.handle_async_request = answer  # type: ignore[method-assign]
            with contextlib.suppress(OSError, FigfsError):
                await w.save(f"{A}/new", DATA)
            await trio.sleep(10)
            has_it = any(raw.get("computed_md5") == md5 or raw.get("status") in STORED for raw in told)
            spooled = [path.read_bytes() for path in w.spool_directory.iterdir()]
            assert has_it or DATA in spooled


def check_upload(told: list[Any], statuses: list[int], caplog: pytest.LogCaptureFixture) -> None:
    caplog.clear()
    trio.run(write, told, statuses, clock=fast_clock())
    assert "Traceback" not in caplog.text
    assert "a bug in" not in caplog.text


upload: dict[str, Any] = {
    "told": st.lists(uploading, min_size=1, max_size=5),
    "statuses": st.lists(
        st.sampled_from([200, 200, 201, 202, 302, 400, 404, 409, 500]), min_size=1, max_size=5
    ),
}
#: Everything goes well, and then the file is not there, for ever.
NEVER = {"id": 7, "location": "/7", "upload_url": f"{BASE}/upload/7", "parts": [whole], "status": "created"}


@settings(max_examples=12, **unhurried)
@given(**upload)
@example(told=[NEVER | {"name": "new", "size": len(DATA)}], statuses=[200])
@example(told=[NEVER | {"name": "new", "size": len(DATA), "computed_md5": "0" * 32}], statuses=[200])
def test_any_upload(told: list[Any], statuses: list[int], caplog: pytest.LogCaptureFixture) -> None:
    check_upload(told, statuses, caplog)


@pytest.mark.long
@settings(max_examples=300, **unhurried)
@given(**upload)
def test_any_upload_for_long(told: list[Any], statuses: list[int], caplog: pytest.LogCaptureFixture) -> None:
    check_upload(told, statuses, caplog)


# -- reading ------------------------------------------------------------

KEYS = st.lists(st.integers(1, 50) | st.text("ab/._:-é\x1b" + "x" * 20, min_size=1, max_size=90), unique=True)


@pytest.mark.parametrize(
    "api", ["https://api.test/v2", "https://[::1]:8080/v2", f"https://{'a' * 60}.test/v2"]
)
@settings(max_examples=30, **unhurried)
@given(ids=KEYS)
def test_no_two_files_are_one_content(ids: list[int | str], api: str) -> None:
    """Without an MD5 the id tells them apart: whatever a server takes for one."""

    async def keys() -> list[str]:
        async with open_client(api=api, token=None) as client:
            files = StoredFiles(client=client, cache=None, verify="end")  # type: ignore[arg-type]
            return [files.source(File(id=id_, size=5)).key for id_ in ids]

    found = trio.run(keys)
    assert len(set(found)) == len(ids)
    for key in found:
        check_key(key)
