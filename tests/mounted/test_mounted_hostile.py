"""Hostile answers about what is found by name, and about items: ISSUE 5, "Seen by" 5.

Public items, DOIs, collections, searches, ``.figshare``, attributes and the commands. Whatever a server says:
the mount lives, each step ends, every name is legal, no link leads out of the mount or to an odd scheme, and
what ``figfs`` prints holds nothing that a terminal obeys. The server is that of ``other_server.py``.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import posixpath
import pty
import re
import subprocess
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import FIGFS, MakeMount, Mount, errno_of, names, run
from test_mounted_other_server import DATES, FOLDERS, IDS, LINKS, SIZES, TITLES, OtherServer, within

pytestmark = pytest.mark.fuse

EVIL = "\x1b]0;owned\x07\x1b[31m\u202eevil\u2066 \x9b2J\r../../etc/passwd\n\0"
EVIL_ID = "x1/../../../../../../etc/passwd"
UUIDS = [f"00000000-0000-4000-8000-{n:012d}" for n in range(10_000)]

#: Instead of any field.
VALUES: list[object] = [
    EVIL, "x" * 100_000, None, True, -1, 0, 1e300, 10**300, 10**400, [], {}, [None], [[]], [EVIL], [{}],
    {"a": 1},
    [{"full_name": EVIL, "name": EVIL, "title": EVIL, "id": EVIL_ID, "url_name": "../..", "orcid_id": EVIL}],
    {"title": 5, "name": EVIL, "url": "javascript:alert(1)", "id": -1, "value": []},
]  # fmt: skip

ODD_URLS = ["javascript:alert(1)", "file:///etc/passwd", "data:text/html,x", "https://x/" + EVIL]
ODD_DOIS = ["../../etc", "10.5072/../../../etc/passwd", EVIL, "10.1/x}\n@evil{y"]

FIELDS = (
    "doi", "status", "is_public", "public", "version", "description", "tags", "keywords", "categories",
    "authors", "license", "defined_type_name", "defined_type", "size", "articles_count", "is_embargoed",
    "embargo_date", "embargo_type", "embargo_reason", "role", "storage", "collaborators", "figshare_url",
    "url_public_html", "url_private_html", "url", "references", "related_materials", "funding_list",
    "funding", "custom_fields", "timeline", "created_date", "modified_date", "published_date", "fields",
    "folder_structure", "files", "account_id", "project_id", "group_id", "curation_status", "citation",
    "resource_doi",
)  # fmt: skip

#: Whole records: every field the same odd value, and two of plausible shape.
RECORDS: list[dict[str, object]] = [
    *({"title": value, **dict.fromkeys(FIELDS, value)} for value in VALUES),
    *(
        {
            "title": EVIL, "doi": doi, "figshare_url": url, "url_public_html": url, "url_private_html": url,
            "url": url, "is_public": True, "public": True, "version": 10**30,
            "authors": [{"full_name": EVIL}],
            "license": {"name": EVIL, "url": url, "value": "x"}, "tags": [EVIL] * 50, "keywords": [EVIL],
            "description": EVIL, "categories": [{"id": 1, "title": EVIL}], "size": 10**400, "status": EVIL,
            "defined_type_name": EVIL, "articles_count": 10**400, "embargo_date": "9999-99-99", "role": EVIL,
            "published_date": date, "created_date": date, "modified_date": date, "references": [url],
            "is_embargoed": True, "curation_status": EVIL, "collaborators": [{"name": EVIL}],
        }
        for url, doi, date in zip(ODD_URLS, ODD_DOIS, DATES[:4], strict=True)
    ),
]  # fmt: skip


#: What a terminal obeys, or turns the direction of writing.
TURNS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture
def hostile(make_mount: MakeMount, tmp_path: Path) -> Iterator[tuple[OtherServer, Mount]]:
    """A server that is to be told what to answer; not mounted yet. Warnings are no surprise here."""
    server = OtherServer(tmp_path / "server.err", "--dialect", "uuid", "--plain-ids")
    mount = make_mount("--op-timeout", "5", "--grace", "0.5", sandbox=server, start=False)
    mount.claim("WARNING")
    yield server, mount
    mount.end()
    server.stop()


def _walk(place: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As ``os.walk``, which looks behind each link: a lookup of a public item for each of 10,000."""
    with contextlib.suppress(OSError):
        folders: list[str] = []
        others: list[str] = []
        with os.scandir(place) as found:
            for entry in found:
                (folders if entry.is_dir(follow_symlinks=False) else others).append(entry.name)
        yield place, folders, others
        for name in folders:
            yield from _walk(place / name)


def walk(mount: Mount, *places: Path) -> int:
    """Look at all there is, as programs do; errors are fine. How many names were seen."""
    seen = 0
    with within(60):
        for place in places:
            with contextlib.suppress(OSError):
                seen += _look(mount, place)
            for directory, folders, files in _walk(place):
                assert len(set(folders + files)) == len(folders) + len(files)
                for name in folders + files:
                    assert len(os.fsencode(name)) <= 255
                    assert name.encode("utf-8")
                    assert not any(unicodedata.category(char) == "Cc" for char in name), name
                    seen += _look(mount, Path(directory, name))
    mount.alive()
    mount.check_log()
    return seen


def _look(mount: Mount, path: Path) -> int:
    os.lstat(path)
    if path.is_symlink():
        check_target(mount, path)
        return 1
    for attribute in os.listxattr(path):
        value = os.getxattr(path, attribute).decode()
        assert value.isprintable()
        if attribute == "user.figshare.url":
            assert value.startswith(("http://", "https://", "ftp://"))
    if path.is_file() and path.stat().st_size < 1 << 20:
        with contextlib.suppress(OSError):
            path.read_bytes()
    return 1


def check_target(mount: Mount, link: Path) -> None:
    """It stays in the mount, or is a URL that may be opened."""
    try:
        target = os.readlink(link)
    except OSError:  # too long, for example
        return
    if target.startswith(("http://", "https://", "ftp://")):
        assert target.isascii() or not any(unicodedata.category(char) == "Cc" for char in target)
        return
    assert not target.startswith("/"), target
    assert not any(unicodedata.category(char) == "Cc" for char in target), target
    place = posixpath.normpath(posixpath.join(str(link.parent), target))
    assert place.startswith(f"{mount.path}/"), (link, target)
    # Seen from where it is, no step on the way is above the mount.
    depth = len(link.parent.relative_to(mount.path).parts)
    for part in target.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        assert depth >= 0, target


def walk_documents(mount: Mount, *items: Path) -> int:
    """Read all of ``.figshare``, which no walk meets. How many documents could be read."""
    read = 0
    for item in items:
        inside = item / ".figshare"
        for directory, folders, files in _walk(inside):
            for name in folders + files:
                with within(15), contextlib.suppress(OSError):  # what the server has answered is no document
                    if Path(directory, name).is_symlink():
                        check_target(mount, Path(directory, name))
                    elif name in files:
                        check_document(name, Path(directory, name).read_bytes())
                        read += 1
    mount.alive()
    mount.check_log()
    return read


def check_document(name: str, content: bytes) -> None:
    """It can be shown and parsed: JSON is JSON, and nothing a terminal obeys is in it."""
    text = content.decode("utf-8")
    if not name.endswith(".xml"):  # as the server sent it
        assert TURNS.search(text) is None, text[:2000]
    if name.endswith(".json"):
        json.loads(text)


def check_output(text: str) -> None:
    odd = {char for char in text if unicodedata.category(char) in ("Cc", "Cf", "Cs") and char not in "\n\t"}
    assert not odd, (odd, text[:2000])


def figfs(mount: Mount, *words: str | Path) -> str:
    """What a person at a terminal sees of a command, which must end, and without a traceback."""
    controller, terminal = pty.openpty()
    with within(40):
        process = subprocess.Popen(
            [*FIGFS, *map(str, words)],
            stdin=subprocess.DEVNULL,
            stdout=terminal,
            stderr=terminal,
            env=mount.environment() | {"TERM": "xterm", "LC_ALL": "C.UTF-8"},
        )
        os.close(terminal)
        out = bytearray()
        with contextlib.suppress(OSError), os.fdopen(controller, "rb", 0) as reader:
            while data := reader.read(65536):
                out += data
        assert process.wait(30) in (0, 1, 2)
    text = out.decode().replace("\r\n", "\n")
    assert "Traceback" not in text, text[-3000:]
    check_output(text)
    return text


def any_item(kind: str, body: object, status: int = 200) -> dict[str, object]:
    return {"path": rf"/v2/{kind}/[^/]+(/versions/[^/]+)?", "body": body, "status": status}


@pytest.mark.parametrize("kind", ["projects", "collections"])
def test_hostile_public_items(hostile: tuple[OtherServer, Mount], kind: str) -> None:
    """Records of any shape, one item after the other: listed, read, told, asked by the commands."""
    server, mount = hostile
    inside = [{"id": id_, "title": title} for id_, title in zip([*IDS, EVIL_ID], TITLES, strict=False)]
    files = [
        {"id": n, "name": title, "size": SIZES[n % len(SIZES)], "is_link_only": n % 3 == 0}
        | {"download_url": LINKS[n % len(LINKS)], "computed_md5": EVIL, "mimetype": EVIL}
        for n, title in enumerate(TITLES, 1)
    ]
    folders = {str(n): folder for n, folder in enumerate(FOLDERS, 1)}
    mount.start()
    for number, record in enumerate(RECORDS, 1000):
        server.answer(
            {"path": rf"/v2/{kind}/\d+(/versions/\d+)?/articles", "body": inside},
            {"path": rf"/v2/{kind}/\d+(/versions/\d+)?/files", "body": files},
            {"path": r"/v2/.*/versions", "body": [{"version": v, "url": "file:///x"} for v in (*SIZES, 3)]},
            any_item(kind, {"files": files, "folder_structure": folders, **record, "id": number}),
        )
        item = mount / "public" / kind / str(number)
        walk(mount, item)
        if number >= 1000 + len(VALUES):
            walk_documents(mount, item)
            for words in (["info"], ["info", "--json"], ["cite"], ["cite", "--format", "bibtex"]):
                figfs(mount, *words, item)
        figfs(mount, "info", item)


@pytest.mark.parametrize("body", [5, [[]], {"id": EVIL_ID}])
def test_no_record(hostile: tuple[OtherServer, Mount], body: object) -> None:
    """An answer that is no item: an errno."""
    server, mount = hostile
    server.answer({"path": r"/v2/(articles|projects|collections)(/.*)?", "body": body})
    mount.start()
    for kind in ("articles", "projects", "collections"):
        walk(mount, mount / "public" / kind / "1000")
        figfs(mount, "info", mount / "public" / kind / "1000")
    for doi in ("10.5072/x.1000", "10.5072/..", "10.5072/x1\x1b[31m", "../..", "10.5072/c.5"):
        walk(mount, mount / "public/doi" / doi)


def test_hostile_doi_lookups(hostile: tuple[OtherServer, Mount]) -> None:
    """What a server finds for a DOI leads nowhere unless it is an id, and its item has that DOI."""
    server, mount = hostile
    doi = "10.5072/x1"
    found = [{"id": id_, "title": "x", "doi": doi} for id_ in (*IDS, EVIL_ID, "..", "7/..")]
    server.answer(
        {"path": "/v2/(articles|collections)", "body": found},
        any_item("(articles|collections)", {"id": EVIL_ID, "doi": doi, "title": EVIL}),
    )
    mount.start()
    with within(60), contextlib.suppress(OSError):
        check_target(mount, mount / "public/doi" / doi)
    for name in ("..%2f..", "x..1", "1" * 250, "\u202e1", "x\x1b[31m1"):
        with within(10), contextlib.suppress(OSError):
            check_target(mount, mount / "public/doi/10.5072" / name)
    assert errno_of(lambda: os.lstat(mount / "public/doi/10.5072/no-number")) == errno.ENOENT
    mount.alive()
    mount.check_log()


def test_hostile_members(hostile: tuple[OtherServer, Mount]) -> None:
    """Own collections: ids that are paths, themselves as members, 10,000 members of one title."""
    server, mount = hostile
    own = [{"id": n, "title": f"C{n}"} for n in (1, 2, 3)] + [{"id": EVIL_ID, "title": "C4"}]
    odd = [{"id": id_, "title": title} for id_, title in zip([*IDS, EVIL_ID], TITLES, strict=False)]
    same = [{"id": id_, "title": "Same " + EVIL} for id_ in UUIDS]
    server.answer(
        {"path": "/v2/account/(projects|articles)", "body": []},
        {"path": "/v2/account/collections", "body": own},
        {"path": "/v2/account/collections/1/articles", "body": odd},
        {"path": "/v2/account/collections/2/articles", "body": [{"id": 2, "title": "C2"}, own[3]]},
        {"path": "/v2/account/collections/3/articles", "body": same},
        {"path": "/v2/account/collections/[^/]+/articles", "body": own},
        {"path": "/v2/(account/)?collections/.*", "body": RECORDS[-1] | {"id": 1}},
    )
    mount.start()
    assert walk(mount, mount / "collections") > 10_000
    assert len(names(mount / "collections/C3")) == 10_000
    with within(60):
        run("ls", "-lR", mount / "collections", code=None)
        run("find", "-L", mount / "collections/C2", code=None)


def test_hostile_search(hostile: tuple[OtherServer, Mount]) -> None:
    """What a search finds: links to places in the mount, under legal names."""
    server, mount = hostile
    odd = [
        {"id": id_, "title": title, "url": "file:///etc/passwd", "project_id": EVIL_ID, "doi": ODD_DOIS[0]}
        for id_, title in zip([*IDS, EVIL_ID], TITLES, strict=False)
    ]
    server.answer({"method": "POST", "path": "/v2/(account/)?articles/search", "body": odd})
    mount.start()
    (mount / "search/all").mkdir()
    assert walk(mount, mount / "search") > 10
    server.answer({"method": "POST", "path": "/v2/(account/)?articles/search", "status": 422, "text": EVIL})
    assert errno_of((mount / "search/evil").mkdir) in (errno.EINVAL, errno.EIO)
    for body in (None, 5, {}, [5], [[]], [{"id": None}], EVIL):
        server.answer({"method": "POST", "path": "/v2/(account/)?articles/search", "body": body})
        with within(10), contextlib.suppress(OSError):
            (mount / "search" / str(IDS.index(None))).mkdir()
        walk(mount, mount / "search")


def test_hostile_root_documents(hostile: tuple[OtherServer, Mount]) -> None:
    server, mount = hostile
    mount.start()
    for value in (EVIL, 10**400, {}, VALUES[-2]):
        server.answer({"path": "/v2/(licenses|categories|account|status)", "body": value})
        walk_documents(mount, mount.path)
    mount.alive()
