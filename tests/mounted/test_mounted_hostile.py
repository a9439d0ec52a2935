"""Hostile answers about what is found by name, and about items: ISSUE 5, "Seen by" 5.

Public items, DOIs, collections, searches, ``.figshare``, attributes and the commands. What must hold is in
``hostileanswers.py``.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostileanswers import (
    EVIL,
    EVIL_ID,
    ODD_DOIS,
    RECORDS,
    UUIDS,
    VALUES,
    any_item,
    check_target,
    figfs,
    figfs_all,
    hostile_server,
    public_answers,
    walk,
    walk_documents,
)
from processes import MakeMount, Mount, errno_of, names, run
from test_mounted_other_server import IDS, TITLES, OtherServer, within

pytestmark = pytest.mark.fuse


@pytest.fixture
def hostile(make_mount: MakeMount, tmp_path: Path) -> Iterator[tuple[OtherServer, Mount]]:
    with hostile_server(make_mount, tmp_path / "server.err") as both:
        yield both


@pytest.mark.parametrize("kind", ["articles", "projects", "collections"])
def test_hostile_public_items(hostile: tuple[OtherServer, Mount], kind: str) -> None:
    """Records of any shape, one item after the other: listed, read, told, asked by the commands."""
    server, mount = hostile
    mount.start()
    plausible = 1000 + len(VALUES)
    for number, record in enumerate(RECORDS, 1000):
        server.answer(*public_answers(kind, number, record))
        item = mount / "public" / kind / str(number)
        version = mount / "public" / kind / f"{number}.v2"
        assert walk(mount, item, version, read=number == plausible) > 0 or number < plausible
        # Of each a citation, a document and what there is of xattrs; all documents of a few.
        if number in (1000, 1001, 1012) or number >= plausible:
            read = walk_documents(mount, item)
            assert number < plausible or read >= (15 if kind == "articles" else 7)
    about = [mount / "public" / kind / str(number) for number in (1000, 1012, plausible, plausible + 3)]
    commands = [["info"], ["info", "--json"], ["open", "--print"], ["refresh"], ["publish", "--dry-run"]]
    commands += [["reserve-doi"], *(["cite", "--format", form] for form in ("text", "bibtex", "cff", "ris"))]
    figfs_all(mount, *([*words, item] for item in about for words in commands))
    figfs(mount, "info", about[-1])
    figfs(mount, "cite", about[-1])


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
