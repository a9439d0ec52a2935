"""Hostile answers about the account's own items, through a mount: their documents, the commands, errors of
every verb, uploads, redirects, the institution, logging in. ISSUE 5, "Seen by" 5.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hostileanswers import (
    EVIL,
    EVIL_ID,
    FILES,
    FOLDERS_OF,
    INSIDE,
    NAMES,
    RECORDS,
    TURNS,
    VALUES,
    VERSIONS,
    XML,
    at_terminal,
    check_document,
    check_output,
    figfs,
    figfs_all,
    hostile_server,
    walk,
    walk_documents,
)
from processes import FIGFS, MakeMount, Mount, content, errno_of, names, wait_until
from test_mounted_other_server import IDS, OtherServer, within

pytestmark = pytest.mark.fuse

Hostile = tuple[OtherServer, Mount]


@pytest.fixture
def hostile(make_mount: MakeMount, tmp_path: Path) -> Iterator[Hostile]:
    soon = ("--unmount-timeout", "1", "--close-timeout", "1")
    with hostile_server(make_mount, tmp_path / "server.err", *soon) as both:
        yield both


# -- items, their documents, the commands ------------------------------------------------------------

#: What a list of links, notes, collaborators, licences may be.
ODD: list[object] = [
    *VALUES,
    {"id": EVIL_ID, "text": EVIL, "abstract": EVIL, "html_location": "javascript:x", "expires_date": EVIL},
    *({"id": n, "abstract": title, "text": title, "expires_date": title} for n, title in enumerate(NAMES, 1)),
]
PLAUSIBLE = len(VALUES)  #: of RECORDS


def own_answers() -> list[dict[str, object]]:
    """An article, a project and a collection for each record; in each project an article of that record."""
    numbers = range(1, len(RECORDS) + 1)
    answers: list[dict[str, object]] = [
        {"path": f"/v2/account/{kind}", "body": [{"id": n, "title": f"T{n}", "role": EVIL} for n in numbers]}
        for kind in ("articles", "projects", "collections")
    ]
    for n, record in enumerate(RECORDS, 1):
        details = {"files": FILES, "folder_structure": FOLDERS_OF, **record, "id": n, "is_embargoed": False}
        answers += [
            {"path": f"/v2/account/(projects/{n}/)?articles/{n}00", "body": details | {"id": n * 100}},
            {"path": f"/v2/account/projects/{n}/articles", "body": [{"id": n * 100, "title": f"In {n}"}]},
            {"path": f"/v2/account/(articles|projects|collections)/{n}", "body": details},
        ]
    return [
        *answers,
        {"path": "/v2/account/collections/[^/]+/articles", "body": INSIDE},
        {"path": "/v2/account/.*/files", "body": FILES},
        {"path": "/v2/account/.*/notes/[^/]+", "body": RECORDS[-1] | {"id": 1, "text": EVIL}},
        {"path": "/v2/account/.*/(private_links|notes|collaborators)", "body": ODD},
        {"path": "/v2/articles/[^/]+/versions", "body": VERSIONS},
        {"path": "/v2/(articles|projects|collections)/[^/]+", "body": RECORDS[-1] | {"id": 1}},
        {"path": "/v2/(articles|collections)/[^/]+/(files|articles)", "body": FILES},
        {"path": "/v2/(account/)?(licenses|categories)", "body": ODD},
        {"path": "/v2/oai", "text": XML},
        {"path": "/stats/.*", "body": {"totals": EVIL}},
        {"method": "POST", "path": "/v2/account/.*/reserve_doi", "body": {"doi": EVIL}},
        {"method": "POST|PUT|PATCH|DELETE", "path": "/v2/.*", "status": 422, "text": EVIL * 100},
    ]


def test_hostile_own_items(hostile: Hostile) -> None:
    """Everything of ``.figshare/``; what the commands say of it."""
    server, mount = hostile
    server.answer(*own_answers())
    mount.start()
    kinds = ("articles", "projects", "collections")
    assert all(len(names(mount / kind)) == len(RECORDS) for kind in kinds)
    shown = [1, 13, PLAUSIBLE + 1, len(RECORDS)]
    for kind in kinds:
        walk(mount, *(mount / kind / f"T{n}" for n in shown), read=False)
    read = {(kind, n): walk_documents(mount, mount / kind / f"T{n}") for kind in kinds for n in shown}
    read |= {("in", n): walk_documents(mount, mount / "projects" / f"T{n}" / f"In {n}") for n in shown[2:]}
    assert all(read[kind, n] > 15 for kind in (*kinds, "in") for n in shown[2:]), read
    items = [mount / kind / f"T{n}" for kind in kinds for n in (13, PLAUSIBLE + 1)]
    commands = [["info"], ["publish", "--dry-run"], ["cite", "--format", "cff"]]
    figfs_all(mount, *([*words, item] for item in items for words in commands))
    item = mount / "articles" / f"T{len(RECORDS)}"
    more = [["cite", "--format", form] for form in ("text", "bibtex", "ris", "ro-crate")]
    more += [["open", "--print"], ["reserve-doi"], ["publish", "--yes"], ["refresh"], ["status"]]
    more += [["status", "--json"]]
    more += [["info", "--json"], ["publish", "--dry-run"]]
    figfs_all(mount, *([*words, item] for words in more))
    assert "evil" in figfs(mount, "info", item)
    assert "evil" in figfs(mount, "publish", "--yes", item)


def test_hostile_refusals_of_documents(hostile: Hostile) -> None:
    """What Figshare says against a change is in ``last-error``, harmless."""
    server, mount = hostile
    server.answer(*own_answers())
    mount.start()
    n = len(RECORDS)
    for kind in ("articles", "projects", "collections"):
        inside = mount / kind / f"T{n}" / ".figshare"
        raw = json.loads((inside / "metadata.json").read_text())
        with within(15):
            new = json.dumps(raw | {"title": "another title"}).encode()
            assert errno_of(functools.partial(write, inside / "metadata.json", new)) == errno.EINVAL
            said = (inside / "last-error").read_text()
        assert "422" in said
        assert "evil" in said
        assert not re.search(TURNS, said), ascii(said)
        check_document("last-error", said.encode())
    for path in (f"projects/T{n}/.figshare/notes", f"articles/T{n}/.figshare/links"):
        place = mount / path
        with within(15):
            for name in sorted(names(place))[:8]:
                with contextlib.suppress(OSError):
                    (place / name).read_bytes()
                with contextlib.suppress(OSError):
                    write(place / name, b'{"expires_date": "2030-01-01"}')
                with contextlib.suppress(OSError):
                    (place / name).unlink()
            with pytest.raises(OSError):  # noqa: PT011 - any will do
                write(place / "new", b"")
    walk_documents(mount, *(mount / kind / f"T{n}" for kind in ("articles", "projects", "collections")))


def write(path: Path, data: bytes) -> None:
    """As ``>`` does; a refusal comes from ``close()``."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


# -- errors, of every verb ------------------------------------------------------------

PAGE = f"<!DOCTYPE html><html><title>{EVIL}</title>{'<!--' * 30_000}<p>{EVIL}</html>"
NESTED = json.dumps({"message": [EVIL, {"code": EVIL * 1000}], EVIL: [[[[[[EVIL]]]]]], "code": 10**400})
BODIES = {"text": EVIL * 20_000, "page": PAGE, "json": NESTED, "deep": "[" * 200_000, "none": ""}


FOR_LONG = pytest.mark.long


@pytest.mark.parametrize(
    ("status", "body", "retry_after"),
    [
        pytest.param(400, "page", "", marks=FOR_LONG),
        pytest.param(403, "json", "-1", marks=FOR_LONG),
        (404, "text", "\xff"),
        (422, "json", "9" * 400),
        pytest.param(413, "deep", "nan", marks=FOR_LONG),
        pytest.param(302, "none", "Mon, 01 Jan 2024 00:00:00 +99999999999999999999", marks=FOR_LONG),
        (500, "page", "9" * 400),
        pytest.param(429, "text", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", marks=FOR_LONG),
        (200, "page", "0"),
        pytest.param(999, "json", "0", marks=FOR_LONG),
    ],
)
def test_hostile_errors(hostile: Hostile, status: int, body: str, retry_after: str) -> None:
    """An errno, soon; nothing of what the server says reaches the terminal raw."""
    server, mount = hostile
    mount.claim("ERROR .* (is not stored|was not deleted)")
    server.seed("A", {"f": b"data", "d/g": b"more"})
    mount.start()
    article = mount.articles / "A"
    assert names(article) == {"f", "d"}
    odd = {"ETag": '"\xff"', "Location": "file:///etc/passwd", "Retry-After": retry_after}
    answer = {"status": status, "text": BODIES[body], "headers": odd}
    server.answer({"method": ".*", "path": "/(v2|u|files)/.*", **answer})
    verbs: list[Callable[[], object]] = [
        lambda: (mount.articles / "B").mkdir(),
        lambda: (mount / "projects/P").mkdir(),
        lambda: (mount / "collections/C").mkdir(),
        lambda: (mount / "search/q").mkdir(),
        lambda: (article / "link").symlink_to("https://example.org/x"),
        lambda: article.rename(mount.articles / "Z"),
        lambda: write(article / "new", b"new"),
        lambda: os.listdir(mount / "public/articles/5"),
        lambda: os.listdir(article / ".figshare"),
        lambda: (article / "f").read_bytes(),
        lambda: (article / "f").unlink(),
    ]
    if status in (200, 429, 500, 999):  # asked again, or waited for: one of a kind will do
        verbs = [verbs[0], verbs[7], verbs[6]]
    for verb in verbs:
        with within(12), contextlib.suppress(OSError):
            verb()
    mount.alive()
    commands = [["info"], ["reserve-doi"], ["publish", "--yes"], ["refresh"], ["cite"], ["status"]]
    figfs_all(mount, *([*words, article] for words in (commands if len(verbs) > 3 else commands[-1:])))
    mount.check_log()


# -- uploads ------------------------------------------------------------

PARTS: list[object] = [
    None, [{"partNo": 1, "startOffset": 0, "endOffset": 10**30}],
    [{"partNo": -1, "startOffset": -5, "endOffset": 999}],
    [{"partNo": 1, "startOffset": 0, "endOffset": 999}] * 3,
    [{"partNo": "../../v2/account", "startOffset": 0, "endOffset": 999, "status": EVIL, "locked": EVIL}],
]  # fmt: skip


def test_hostile_uploads(hostile: Hostile) -> None:
    """Odd upload URLs, parts and locations: refused or owed, and nothing is said to be stored that is not."""
    server, mount = hostile
    mount.claim("ERROR .* is not stored")
    server.seed("A", {"f": b"data"})
    mount.start()
    article = mount.articles / "A"
    urls = ["file:///etc/passwd", "http://127.0.0.1:1/\r\nX: y", "https://xn--/", EVIL]
    urls += [f"{server.uploader}/evil"] * len(PARTS)
    for n, url in enumerate(urls):
        where = {"location": f"{server.api}/account/articles/1/files/{n + 1}"}
        if n % 5 == 0:
            where = {"location": "/../" + EVIL, "entity_id": [n]}
        file = {"id": n + 1, "name": f"n{n}", "size": 1000, "status": "created", "upload_url": url}
        server.answer(
            {"method": "POST", "path": "/v2/account/articles/[^/]+/files", "body": where, "status": 201},
            {"path": "/v2/account/articles/[^/]+/files/[^/]+", "body": file},
            {"path": "/evil", "body": {"parts": PARTS[n % len(PARTS)], "token": EVIL, "status": EVIL}},
            {"method": "PUT|DELETE", "path": "/evil/.*", "status": 400, "text": EVIL},
            {"method": "DELETE", "path": "/v2/account/articles/[^/]+/files/.*", "status": 404, "text": EVIL},
        )
        with within(10), contextlib.suppress(OSError):
            write(article / f"n{n}", content(f"{n}", 1000))
    mount.alive()
    figfs_all(mount, ["status", mount.path], ["status", "--json", mount.path])
    asked = server.control("GET")["requests"]
    port = int(server.uploader.rpartition(":")[2])
    assert not [entry for entry in asked if entry["authorized"] and entry["port"] == port]
    assert not [entry for entry in asked if entry["path"] == "/v2/account" and entry["method"] == "PUT"]


# -- downloads ------------------------------------------------------------


def test_hostile_redirects(hostile: Hostile) -> None:
    """A download goes where it may; the token to the API only; what comes is the file, or an error."""
    server, mount = hostile
    server.seed("A", {f"f{n}": content(str(n), 1000) for n in range(5)})
    mount.start()
    article = mount.articles / "A"
    assert len(names(article)) == 5
    evil, port = f"{server.uploader}/evil", int(server.uploader.rpartition(":")[2])
    hidden = evil.replace("//", "//user:pw@")
    targets = ["file:///etc/passwd", evil, hidden, evil.removeprefix("http:"), "\x1b]0;x\x07"]
    for n, target in enumerate(targets):
        redirect = {"status": 302, "text": EVIL, "headers": {"Location": target}}
        server.answer(
            {"path": "/(v2/file/download|files)/.*", **redirect},
            {"path": "/evil", "text": EVIL, "headers": {"Content-Type": "text/html"}},
        )
        with within(12):
            assert errno_of((article / f"f{n}").read_bytes) in (
                errno.EIO,
                errno.ETIMEDOUT,
                errno.EHOSTUNREACH,
            )
    asked = server.control("GET")["requests"]
    elsewhere = [entry for entry in asked if entry["port"] == port]
    assert elsewhere
    assert not [entry for entry in elsewhere if entry["authorized"]]
    server.answer()
    mount.alive()


# -- the institution, logging in ------------------------------------------------------------


def test_hostile_institution(hostile: Hostile) -> None:
    """Names of custom fields and of people, and the answers of an import."""
    server, mount = hostile
    account = {"id": 7, "institution_id": 1, "email": EVIL, "first_name": EVIL, "last_name": EVIL}
    fields = [{"id": id_, "name": title} for id_, title in zip([*IDS, EVIL_ID], NAMES, strict=False)]
    fields += [{"id": 1000 + n, "name": title, "field_type": title} for n, title in enumerate(NAMES)]
    people = [RECORDS[-1] | {"id": id_, "email": EVIL, "first_name": EVIL} for id_ in (*IDS, 8, 9, EVIL_ID)]
    server.answer(
        {"path": "/v2/account", "body": account},
        {"path": "/v2/account/institution/custom_fields", "body": fields},
        {"path": "/v2/account/institution/accounts", "body": people},
        {"path": "/v2/account/institution/articles", "body": INSIDE},
        {"path": "/v2/account/(articles|projects|collections)", "body": INSIDE},
        {"method": "POST", "path": "/v2/.*/upload", "status": 409, "text": NESTED},
    )
    mount.start()
    place = mount / "institution"
    wait_until(place.exists, 10)
    assert walk(mount, place, read=True) > len(NAMES)
    field = next(iter(sorted((place / "custom-fields").iterdir())))
    for directory, name in ((place / "hrfeed", "feed.xml"), (field, "values.csv")):
        with within(30):
            assert errno_of(lambda path=directory / name: write(path, b"a,b\n")) != errno.ETIMEDOUT
            for document in directory.iterdir():
                check_document(document.name, document.read_bytes())
    figfs_all(mount, ["status", place], ["info", place], ["refresh", place])


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, json.dumps({"id": 7, "email": EVIL, "first_name": EVIL, "last_name": "x" * 9_999})),
        (200, json.dumps({"id": EVIL, "email": {}, "used_quota": 10**400})),
        (200, "[" * 100_000),
        (401, NESTED),
        (403, PAGE),
        (302, EVIL),
    ],
    ids=["names", "types", "deep", "401", "403", "302"],
)  # fmt: skip
def test_hostile_login(hostile: Hostile, status: int, body: str) -> None:
    """Who it is, or why not, in a line that a terminal can be shown."""
    server, mount = hostile
    server.answer({"path": "/v2/account", "status": status, "text": body})
    home = mount.environment() | {"LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        [*FIGFS, "login", "--account", "evil", "--api", server.api],
        input=f"{server.token}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={name: value for name, value in home.items() if name != "FIGFS_TOKEN"},
    )
    assert done.returncode in (0, 1)
    assert (done.returncode == 0) == (status == 200 and body[0] == "{")
    check_output(done.stdout + done.stderr)
    if done.returncode == 0:
        assert re.search(r"evil|account ", done.stdout)
        figfs_all(mount, ["accounts"], ["accounts", "--check"], ["logout", "--account", "evil"])


AT_A_TERMINAL = """
place=$1; shift
"$@" "$place" &
until mountpoint -q "$place"; do sleep 0.1; done
for n in 1 18 20; do
    ls -R "$place/articles/T$n"; cat "$place/articles/T$n/.figshare/"*; ls "$place/public/articles/$n"
    mkdir "$place/search/$n" "$place/articles/T$n/x"
done >/dev/null 2>&1
fusermount3 -u "$place"
wait
"""


def test_the_log_at_a_terminal(hostile: Hostile, tmp_path: Path) -> None:
    """``figfs mount`` in the foreground logs to stderr: all that titles, names and refusals bring along."""
    server, mount = hostile
    server.answer(*own_answers())
    place = tmp_path / "foreground"
    place.mkdir()
    options = ["--api-rate", "0", "--debug", "--op-timeout", "5", "--unmount-timeout", "1"]
    options += ["--state-dir", str(tmp_path / "state"), "--cache-dir", str(tmp_path / "cache")]
    command = ["bash", "-c", AT_A_TERMINAL, "bash", str(place), *FIGFS, "mount", *options]
    said = at_terminal(mount, command, codes={0})
    assert "mounted" in said
    assert said.count("\n") > 50
