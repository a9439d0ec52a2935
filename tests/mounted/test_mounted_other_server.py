"""Another server than Figshare behind ``--api``: what can work with it works, what cannot gives an errno.

Issue 2, "Interfaces fixed here". The servers are those of ``other_server.py``; the hostile answers are here.
"""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import errno
import functools
import gzip
import json
import os
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from processes import MakeMount, Mount, children, content, errno_of, names, run, wait_until, write_tree

pytestmark = pytest.mark.fuse

SMALL = content("small", 1_000)
LARGE = content("large", 700_000)  # several parts
OPTIONS = ("--op-timeout", "10", "--grace", "0.5", "--close-timeout", "10")

#: Article, path and bytes.
Held = dict[str, dict[str, bytes]]


class OtherServer:
    """``other_server.py`` as a process; stands where ``Mount`` expects a sandbox."""

    def __init__(self, errors: Path, *switches: str) -> None:
        self._errors = errors
        script = Path(__file__).with_name("other_server.py")
        with errors.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(script), *switches], stdout=subprocess.PIPE, stderr=out, text=True
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, errors.read_text()
        ready = json.loads(line)
        self.api: str = ready["api"]
        self.token: str = ready["token"]
        self.uploader: str = ready["uploader"]  #: the other server, where the token has no business

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """A request to the API, as another client of the same account."""
        request = urllib.request.Request(
            self.api + path,
            method=method,
            headers={"Authorization": f"token {self.token}"},
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def control(self, method: str, body: object = None) -> Any:
        return self.ask(method, "/_control", body)

    def seed(self, title: str, files: Mapping[str, bytes], project: str = "") -> None:
        encoded = {path: base64.b64encode(data).decode() for path, data in files.items()}
        self.control("POST", {"title": title, "files": encoded, "project": project})

    def rename_file(self, old: str, new: str) -> None:
        """What no API can; the name is taken as it is."""
        self.control("PATCH", {"old": old, "new": new})

    def answer(self, *rules: Mapping[str, object]) -> None:
        """Give these answers, as they are, instead of its own."""
        self.control("PUT", list(rules))

    def held(self) -> list[tuple[str, str, bytes | None]]:
        """Article, path and bytes of every file; one that is there twice is there twice."""
        files = [
            (article["title"], file["path"], None if file["data"] is None else base64.b64decode(file["data"]))
            for article in self.control("GET")["articles"]
            for file in article["files"]
        ]
        return sorted(files, key=by_place)

    def titles(self) -> list[str]:
        return sorted(article["title"] for article in self.control("GET")["articles"])

    def bytes_sent(self, path: str) -> int:
        return sum(entry["bytes"] for entry in self.control("GET")["requests"] if path in entry["path"])

    def stop(self) -> None:
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.terminate()
        self.process.wait(20)
        assert self._errors.read_text() == ""


MakeServer = Callable[..., OtherServer]


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[MakeServer]:
    running: list[OtherServer] = []

    def make(*switches: str) -> OtherServer:
        running.append(OtherServer(tmp_path / f"server{len(running)}.err", *switches))
        return running[-1]

    yield make
    for server in running:
        server.stop()


@pytest.fixture
def make_mount_of(make_server: MakeServer, make_mount: MakeMount) -> Callable[..., tuple[OtherServer, Mount]]:
    """A function that mounts a server made with these switches.

    Warnings are no surprise here; errors and tracebacks are, and are looked for in the end.
    """

    def make(*switches: str, options: tuple[str, ...] = OPTIONS) -> tuple[OtherServer, Mount]:
        server = make_server(*switches)
        mount = make_mount(*options, sandbox=server, start=False)
        mount.claim("WARNING")
        return server, mount

    return make


MakeMountOf = Callable[..., tuple[OtherServer, Mount]]


def by_place(file: tuple[str, str, bytes | None]) -> tuple[str, str, bytes]:
    title, path, data = file
    return title, path, data or b""


def expected(held: Mapping[str, Mapping[str, bytes]]) -> list[tuple[str, str, bytes | None]]:
    files = [(title, path, data) for title, files in held.items() for path, data in files.items()]
    return sorted(files, key=by_place)


def comes_to_hold(server: OtherServer, held: Mapping[str, Mapping[str, bytes]]) -> None:
    """Deletes and renames are carried out after the grace."""
    with contextlib.suppress(AssertionError):
        wait_until(lambda: server.held() == expected(held), 15)
    assert [(title, path, data and len(data)) for title, path, data in server.held()] == [
        (title, path, data and len(data)) for title, path, data in expected(held)
    ]
    assert server.held() == expected(held)


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds


def use_it(server: OtherServer, mount: Mount, place: Path, title: str, *, folders: bool) -> None:
    """What a person does with an article, from mkdir to rmdir; the server holds what it should after each."""
    before = _by_title(server)
    article = place / title
    article.mkdir()
    assert title in server.titles()
    tree = {"a.csv": SMALL, "b.bin": LARGE} | (
        {"deep/er/c.txt": b"see", "deep/a.csv": LARGE} if folders else {}
    )
    source = write_tree(mount.base / f"source of {title}", tree)
    run("cp", "-r", f"{source}/.", article)
    comes_to_hold(server, before | {title: tree})
    assert children(article) == tree
    # Again from Figshare, not from what this machine remembers.
    mount.remount()
    run("ls", "-lR", place)
    assert children(article) == tree
    # rsync knows the times that it has set, though the server keeps none.
    run("rsync", "-a", f"{source}/", article)
    again = run("rsync", "-a", "--itemize-changes", f"{source}/", article).stdout
    assert again == ""
    comes_to_hold(server, before | {title: tree})
    # Overwrite, append, rename, unlink.
    run("cp", source / "b.bin", article / "a.csv")
    with (article / "b.bin").open("ab") as file:
        file.write(b"more")
    tree["a.csv"], tree["b.bin"] = LARGE, LARGE + b"more"
    comes_to_hold(server, before | {title: tree})
    (article / "b.bin").rename(article / "z.bin")
    tree["z.bin"] = tree.pop("b.bin")
    comes_to_hold(server, before | {title: tree})
    assert children(article) == tree
    article.rename(place / f"{title}, renamed")
    article = place / f"{title}, renamed"
    comes_to_hold(server, before | {article.name: tree})
    run("rm", "-r", article)
    wait_until(lambda: article.name not in server.titles(), 15)
    comes_to_hold(server, before)
    mount.alive()


def _by_title(server: OtherServer) -> Held:
    held: Held = {}
    for title, path, data in server.held():
        assert data is not None
        held.setdefault(title, {})[path] = data
    return held


# -- (a) UUIDs, null, no paging ------------------------------------------------------------

SEEDED: Held = {
    "Öl & Wasser": {"data.csv": SMALL, "raw/run 1/b.bin": LARGE, "raw/c": b"c"},
    "Two": {"data.csv": b"other"},
    **{f"Article {n}": {} for n in range(10)},
}


@pytest.fixture(params=[pytest.param(["--plain-ids"], id="id"), pytest.param([], id="uuid")])
def uuids(request: pytest.FixtureRequest, make_mount_of: MakeMountOf) -> tuple[OtherServer, Mount]:
    """A server with UUIDs, in ``id`` or, as djehuty has it, in ``uuid`` with ``id`` null; mounted."""
    server, mount = make_mount_of("--dialect", "uuid", *request.param)
    for title, files in SEEDED.items():
        server.seed(title, files)
    return server, mount.start()


def test_uuids_are_read(uuids: tuple[OtherServer, Mount]) -> None:
    """A server of UUIDs and null lists in full, once, and is read; dates without a zone are UTC."""
    _server, mount = uuids
    assert names(mount.articles) == set(SEEDED)
    run("ls", "-lR", mount.articles, mount / "collections")
    article = mount.articles / "Öl & Wasser"
    assert children(article) == SEEDED["Öl & Wasser"]
    assert (article / "data.csv").stat().st_mtime == 1683356889  # 2023-05-06T07:08:09Z
    assert os.listdir(mount / "collections") == []
    inodes = {path: path.stat().st_ino for path in sorted(mount.articles.rglob("*"))}
    mount.remount()
    assert {path: path.stat().st_ino for path in sorted(mount.articles.rglob("*"))} == inodes


def test_uuids_are_written(uuids: tuple[OtherServer, Mount]) -> None:
    """Uploads through a create that answers 200 and a location only, without MD5 and status ever after."""
    server, mount = uuids
    use_it(server, mount, mount.articles, "By figfs", folders=True)


def test_no_projects(uuids: tuple[OtherServer, Mount]) -> None:
    """Without /account/projects: an errno for what is asked there, soon; the rest does not suffer."""
    _server, mount = uuids
    with within(5):
        number = errno_of(lambda: names(mount / "projects"))
        assert number not in (errno.ENOENT, errno.ETIMEDOUT)  # ``ls`` of the root shows it
        assert errno_of(lambda: (mount / "projects" / "A project").mkdir()) != errno.ETIMEDOUT
    assert names(mount.articles) == set(SEEDED)
    mount.alive()


def test_no_quota(uuids: tuple[OtherServer, Mount]) -> None:
    """An unknown quota is 1 PiB."""
    _server, mount = uuids
    space = os.statvfs(mount.path)
    assert space.f_blocks * space.f_frsize == 1 << 50
    assert space.f_bsize == space.f_frsize


def test_announced_elsewhere(uuids: tuple[OtherServer, Mount]) -> None:
    """A file that another client has announced and not sent is not shown, though no status says so (U14)."""
    server, mount = uuids
    server.seed("Shared", {"whole": SMALL})
    (article,) = (
        record["id"] or record["uuid"]
        for record in server.ask("GET", "/account/articles")
        if record["title"] == "Shared"
    )
    server.ask("POST", f"/account/articles/{article}/files", {"name": "half", "size": 5})
    assert names(mount.articles / "Shared") == {"whole"}
    mount.alive()


def test_slash_in_a_file_name(uuids: tuple[OtherServer, Mount]) -> None:
    """quirks L3: "/" in a file's name (an old client's folder) is shown as "∕" and stays what it is."""
    server, mount = uuids
    title = "Two"
    (mount.articles / title / "f").write_bytes(SMALL)
    server.rename_file("f", "old/style.csv")
    mount.remount()
    path = mount.articles / title / "old∕style.csv"
    assert path.read_bytes() == SMALL
    path.write_bytes(LARGE)
    comes_to_hold(server, SEEDED | {title: SEEDED[title] | {"old/style.csv": LARGE}})
    mount.alive()


def test_nothing_can_be_uploaded(make_mount_of: MakeMountOf) -> None:
    """A server that takes announcements but has no way to upload: never "stored" without a byte sent."""
    server, mount = make_mount_of(
        "--dialect", "uuid", "--plain-ids", "--no-upload", options=(*OPTIONS, "--unmount-timeout", "1")
    )
    mount.claim("ERROR .* is not stored")
    server.seed("Two", {"f": SMALL})
    mount.start()
    source = write_tree(mount.base / "source", {"g": LARGE})
    with within(20):
        copied = run("cp", source / "g", mount.articles / "Two" / "g", code=None)
    assert (mount.articles / "Two" / "f").read_bytes() == SMALL
    mount.alive()
    mount.unmount()
    if copied.returncode == 0:  # then it is owed, and its bytes are here
        spooled = [path.read_bytes() for path in mount.state.rglob("*") if path.is_file()]
        assert LARGE in spooled


# -- (b) numbers as strings, short pages, HTML errors, the API streams ---------------------------------


@pytest.mark.parametrize("cap", [10, 100])
def test_texts(make_mount_of: MakeMountOf, cap: int) -> None:
    """Numbers as strings and pages shorter than asked for: everything is listed, read and written."""
    server, mount = make_mount_of("--dialect", "text", "--page-cap", str(cap))
    many = {f"f{n:03}": b"%d" % n for n in range(2 * cap + 5)}
    whole = {str(n): b"" for n in range(cap)}  # a first page that may be all, and is
    held: Held = {f"Article {n}": {} for n in range(2 * cap + 1)} | {"Many": many, "Whole": whole}
    for title, files in held.items():
        server.seed(title, files)
    server.seed("In a project", {"f": LARGE}, project="21")
    mount.start()
    run("ls", "-lR", mount.articles, mount / "projects")
    assert names(mount.articles) == set(held)
    assert names(mount.articles / "Whole") == set(whole)
    assert children(mount.articles / "Many") == many
    assert (mount / "projects/A project of numbers/In a project/f").read_bytes() == LARGE
    space = os.statvfs(mount.path)
    assert space.f_blocks == 1_000_000_000 // space.f_frsize
    number = errno_of(lambda: names(mount / "collections"))
    assert number not in (errno.ENOENT, errno.ETIMEDOUT)
    use_it(server, mount, mount.articles, "By figfs", folders=False)
    use_it(server, mount, mount / "projects/A project of numbers", "In it", folders=False)


def test_folders_are_not_kept(make_mount_of: MakeMountOf) -> None:
    """A server that does not keep folders: a file that was put into one stays readable, and is there once."""
    server, mount = make_mount_of("--dialect", "text", options=(*OPTIONS, "--dir-timeout", "0.5"))
    server.seed("Flat", {"top": SMALL})
    mount.start()
    folder = mount.articles / "Flat" / "folder"
    folder.mkdir()
    (folder / "inner").write_bytes(LARGE)
    comes_to_hold(server, {"Flat": {"top": SMALL, "inner": LARGE}})
    mount.remount()
    assert sorted(children(mount.articles / "Flat").values()) == sorted([SMALL, LARGE])
    mount.alive()


def test_stream_without_length(make_mount_of: MakeMountOf) -> None:
    """Downloads that are a 200 without a length, whatever the range: the bytes at any place are right."""
    server, mount = make_mount_of("--dialect", "text")
    data = content("streamed", 6_500_000)
    server.seed("Streamed", {"big": data, "small": b"s"})
    mount.start()
    path = mount.articles / "Streamed" / "big"
    with path.open("rb", buffering=0) as file:
        for offset, size in [(6_000_000, 100), (0, 10), (3_333_333, 70_000), (6_499_999, 10), (6_500_000, 1)]:
            assert os.pread(file.fileno(), size, offset) == data[offset : offset + size]
    assert path.read_bytes() == data
    assert (path.parent / "small").read_bytes() == b"s"
    mount.alive()


def test_stream_is_not_downloaded_again_and_again(make_mount_of: MakeMountOf) -> None:
    """semantics: "200 to a ranged request: correct bytes all the same, without downloading the file again and
    again". Twice is allowed: read-ahead may have begun at two places.
    """
    server, mount = make_mount_of("--dialect", "text")
    data = content("streamed", 12_000_000)
    server.seed("Streamed", {"big": data})
    mount.start()
    assert (mount.articles / "Streamed" / "big").read_bytes() == data
    assert server.bytes_sent("/file/download/") <= 2 * len(data)


def test_page_of_another_length(make_mount_of: MakeMountOf) -> None:
    """Never a part of a listing that looks like the whole, whatever the server's longest page is."""
    server, mount = make_mount_of("--dialect", "text", "--page-cap", "30")
    for n in range(45):
        server.seed(f"Article {n}", {})
    mount.start()
    assert len(names(mount.articles)) == 45


# -- (c) hostile ------------------------------------------------------------

ARTICLES = "/v2/account/articles"
ARTICLE = rf"{ARTICLES}/"

TITLES: list[object] = [
    "../../etc/passwd", "..", ".", "", "/", "//", "\0", "a\0b", "\x1b[31mred\x1b[0m", "line\nbreak\r\n",
    "\u202egpj.exe", "\u200b", "\u2066\u2069", "\ud800 lone", "a" * 200_000, "\u0301" * 5_000, "𝕏" * 300,
    "<script>alert(1)</script>", "&lt;b&gt;", "&#0;&#47;&#46;&#46;", "-rf", "~", "*", "$(reboot)", ".Trash-0",
    ".figshare", "articles", "CON", " ", "\u3000", None, 5, 1.5, True, [], {}, ["x"], {"a": "b"}, -1, 10**400,
]  # fmt: skip

IDS: list[object] = [
    None, True, False, 0, -1, 1.5, [], {}, "", " ", ".", "..", 10**19, 10**30, "9" * 19, "007", "a/b?c#d",
    "../../account", "%2e%2e", "\0", "\n", "é", "x" * 10_000, 2**63 - 1, 2**64,
]  # fmt: skip

DATES: list[object] = [
    "never", "", 1e300, -1e300, -1, "9999-12-31T23:59:59Z", "0001-01-01T00:00:00+14:00", 10**30, [],
    "2023-02-30", "12:00", 9e10, -9e10,
]  # fmt: skip

SIZES: list[object] = [
    -1, 10**30, 2**63 - 1, 2**63, 2**64, "12", "x", 1.5, 1e300, None, [], True, "1e400", "9" * 5_000,
]  # fmt: skip

FOLDERS = [
    "../../..", "/", "//", "/a/../../b", "a\0b", "\n", "x" * 5_000, "/".join("d" * 300), "name 0",
    "name 0/name 1", ".", "\\", "é" * 200,
]  # fmt: skip

LINKS: list[object] = [
    "file:///etc/passwd", "javascript:alert(1)", "http://[", "http://a\0b/", "http://a/\n\x1b[31m",
    "https://x/" + "y" * 100_000, "ftp://", "HTTP://OK/", "", None, 5, [], "http://a/../../../etc/passwd",
    "https://x/" + "y" * 4_090,
]  # fmt: skip


@pytest.fixture
def hostile(make_mount_of: MakeMountOf) -> tuple[OtherServer, Mount]:
    """A server that is to be told what to answer, with one good article; not mounted yet."""
    options = ("--op-timeout", "5", "--grace", "0.5", "--close-timeout", "10")
    server, mount = make_mount_of("--dialect", "uuid", "--plain-ids", options=options)
    server.seed("Good", {"good": LARGE})
    return server, mount


def good_id(server: OtherServer) -> str:
    """The id of the good article, which the server tells only with its listing."""
    found: str = server.ask("GET", "/account/articles")[0]["id"]
    return found


def listing(*records: object) -> dict[str, object]:
    return {"path": ARTICLES, "body": list(records)}


def details(article_id: object, **fields: object) -> dict[str, object]:
    return {"path": rf"{ARTICLES}/{article_id}", "body": {"id": article_id, "title": "T", **fields}}


def survey(mount: Mount, *places: Path) -> str:
    """``ls -lR`` of it all; it may complain, but not hang. Every name must be one that can be used."""
    with within(30):
        out = run("ls", "-lR", *places, code=None).stdout
    for directory, folders, files in os.walk(os.fsencode(mount.articles)):
        for name in folders + files:
            assert len(name) <= 255
            text = name.decode("utf-8")
            assert not any(char < " " or char == "\x7f" for char in text), text
            os.lstat(os.path.join(directory, name))
    mount.alive()
    mount.check_log()
    return out


def still_good(server: OtherServer, mount: Mount) -> None:
    """After all that: the good article is read and written as ever."""
    good = mount.articles / "Good"
    assert (good / "good").read_bytes() == LARGE
    (good / "new").write_bytes(SMALL)
    comes_to_hold(server, {"Good": {"good": LARGE, "new": SMALL}})
    (good / "new").unlink()
    comes_to_hold(server, {"Good": {"good": LARGE}})
    mount.alive()


def test_hostile_titles(hostile: tuple[OtherServer, Mount]) -> None:
    """Titles of any kind: each article has a legal, unique name, and none leads out of the directory."""
    server, mount = hostile
    good = {"id": good_id(server), "title": "Good"}
    server.answer(listing(good, *({"id": n, "title": title} for n, title in enumerate(TITLES, 1))))
    mount.start()
    assert len(names(mount.articles)) == len(TITLES) + 1
    survey(mount, mount.articles)
    still_good(server, mount)


def test_five_thousand_of_one_name(hostile: tuple[OtherServer, Mount]) -> None:
    """5,000 articles of one title, with 5,000 files of one name in one of them: all there, in good time."""
    server, mount = hostile
    files = [{"id": n, "name": "same.csv", "size": 3, "computed_md5": None} for n in range(1, 5_001)]
    server.answer(
        listing(
            {"id": good_id(server), "title": "Good"}, *({"id": n, "title": "Same"} for n in range(1, 5_001))
        ),
        details(1, files=files),
        {"path": rf"{ARTICLES}/1/files", "body": files},
    )
    mount.start()
    with within(20):
        assert len(names(mount.articles)) == 5_001
        assert {"Same", "Same [2]", "Same [5000]"} <= names(mount.articles)
        assert len(names(mount.articles / "Same")) == 5_000
    assert {"same.csv", "same [2].csv", "same [5000].csv"} <= names(mount.articles / "Same")
    still_good(server, mount)


def test_hostile_records(hostile: tuple[OtherServer, Mount]) -> None:
    """Wrong types and odd ids and dates in records: what is usable is there, whatever is beside it."""
    server, mount = hostile
    records: list[object] = [
        None,
        5,
        "text",
        [],
        {},
        {"title": "no id"},
        {"id": good_id(server), "title": "Good"},
    ]
    records += [{"id": value, "title": f"id {n}"} for n, value in enumerate(IDS)]
    records += [
        {
            "id": 1000 + n,
            "title": f"date {n}",
            "modified_date": value,
            "created_date": value,
            "published_date": value,
        }
        for n, value in enumerate(DATES)
    ]
    records += [{"id": 2000, "title": "twice"}] * 3
    records += [
        {name: [{}] for name in ("title", "doi", "url", "modified_date", "project_id")} | {"id": 3000}
    ]
    server.answer(listing(*records))
    mount.start()
    assert {"Good", "twice", *(f"date {n}" for n in range(len(DATES)))} <= names(mount.articles)
    survey(mount, mount.articles)
    for n in range(len(DATES)):
        os.stat(mount.articles / f"date {n}")
    still_good(server, mount)


def test_hostile_files(hostile: tuple[OtherServer, Mount]) -> None:
    """Names, sizes, folders and links of any kind: an article that lists, or an errno; nothing leads out."""
    server, mount = hostile
    article = good_id(server)
    files: list[dict[str, object]] = [{"id": n, "name": name, "size": 3} for n, name in enumerate(TITLES, 1)]
    files += [{"id": 100 + n, "name": f"size {n}", "size": size} for n, size in enumerate(SIZES)]
    files += [{"id": 200 + n, "name": f"name {n}", "size": 3} for n in range(len(FOLDERS))]
    files += [
        {"id": 300 + n, "name": f"link {n}", "is_link_only": True, "size": 0, "download_url": url}
        for n, url in enumerate(LINKS)
    ]
    odd = {
        "id": 400,
        "name": "odd",
        "size": 3,
        "status": {},
        "computed_md5": 5,
        "supplied_md5": [],
        "download_url": {},
    }
    files += [
        odd,
        {"id": 401, "name": "md5", "size": 3, "computed_md5": "../../x" * 1000, "upload_url": "file:///"},
    ]
    folders = {str(200 + n): folder for n, folder in enumerate(FOLDERS)}
    server.answer(
        listing({"id": article, "title": "Good"}, {"id": 9, "title": "Bad"}, {"id": 10, "title": "Worse"}),
        details(9, files=files, folder_structure=folders),
        {"path": rf"{ARTICLES}/9/files", "body": files},
        details(
            10, files={"0": files[0]}, folder_structure=[1, 2], status=5, is_public="perhaps", version={}
        ),
    )
    mount.start()
    bad = mount.articles / "Bad"
    survey(mount, mount.articles)
    shown = names(bad)
    assert {f"size {n}" for n in range(len(SIZES))} <= shown
    assert shown >= {"odd", "md5", "link 7"}
    links = {name for name in shown if stat.S_ISLNK(os.lstat(bad / name).st_mode)}
    too_long = {f"link {n}" for n, url in enumerate(LINKS) if isinstance(url, str) and len(url) > 4095}
    assert links > too_long
    assert {errno_of(functools.partial(os.readlink, bad / name)) for name in too_long} == {errno.ENAMETOOLONG}
    targets = [os.readlink(bad / name) for name in links - too_long]
    assert all(target.lower().startswith(("http://", "https://", "ftp://")) for target in targets)
    assert "".join(targets).isprintable()
    for n, size in enumerate(SIZES):
        with within(15):
            number = errno_of((bad / f"size {n}").read_bytes)
        assert number in (errno.EIO, errno.ESTALE), size
    survey(mount, mount.articles)
    still_good(server, mount)


NO_LISTINGS: dict[str, dict[str, object]] = {
    "object": {"body": {"error": "no"}},
    "null": {"body": None},
    "number": {"body": 5},
    "nothing usable": {"body": [None] * 20},
    "html": {"text": "<html><h1>Welcome</h1></html>", "headers": {"Content-Type": "text/html"}},
    "empty": {"text": ""},
    "deep": {"text": "[" * 200_000},
    "cut": {"text": '[{"id": 1, "title": "cut'},
    "bytes": {"base64": base64.b64encode(b"\xff\xfe[]").decode()},
    "no content": {"status": 204, "text": ""},
    "redirect loop": {"status": 302, "text": "", "headers": {"Location": ARTICLES}},
    "redirect to a file": {"status": 302, "text": "", "headers": {"Location": "file:///etc/passwd"}},
    "gzip bomb": {
        "base64": base64.b64encode(gzip.compress(b"[" + b" " * 200_000_000 + b"]")).decode(),
        "headers": {"Content-Encoding": "gzip"},
    },
}


def test_unusable_file_among_ten(hostile: tuple[OtherServer, Mount]) -> None:
    """Ten files in the details are never all of them, also when one of the ten cannot be used."""
    server, mount = hostile
    files: list[dict[str, object]] = [{"id": None, "name": "f0", "size": 3}]
    files += [{"id": n, "name": f"f{n}", "size": 3} for n in range(1, 25)]
    server.answer(
        listing({"id": good_id(server), "title": "Good"}, {"id": 9, "title": "Bad"}),
        details(9, files=files[:10]),
        {"path": f"{ARTICLES}/9/files", "body": files},
    )
    mount.start()
    assert names(mount.articles / "Bad") == {f"f{n}" for n in range(1, 25)}
    still_good(server, mount)


@pytest.mark.parametrize("kind", ["object", "nothing usable", "html"])
def test_listing_is_no_listing(hostile: tuple[OtherServer, Mount], kind: str) -> None:
    """No listing in the answer: an errno, soon, never an empty directory; then good again."""
    server, mount = hostile
    server.answer({"path": ARTICLES, **NO_LISTINGS[kind]})
    mount.start()
    with within(5):
        assert errno_of(lambda: names(mount.articles)) == errno.EIO
    mount.alive()
    server.answer()
    wait_until(lambda: run("ls", mount.articles, code=None).stdout == "Good\n", 12)  # RETRY_AFTER_FAILURE
    still_good(server, mount)


def test_article_is_no_article(hostile: tuple[OtherServer, Mount]) -> None:
    """The same for the details of articles and for their files: an errno each, in bounded memory."""
    server, mount = hostile
    records: list[object] = [{"id": good_id(server), "title": "Good"}]
    rules: list[Mapping[str, object]] = []
    for n, (kind, answer) in enumerate(NO_LISTINGS.items(), 1):
        records += [{"id": n, "title": kind}, {"id": 100 + n, "title": f"files: {kind}"}]
        files = [{"id": file, "name": "f", "size": 3} for file in range(1, 11)]
        rules += [{"path": f"{ARTICLES}/{n}", **answer}, details(100 + n, files=files)]
        rules += [{"path": f"{ARTICLES}/{100 + n}/files", **answer}]
    asked = [name for kind in NO_LISTINGS for name in (kind, f"files: {kind}")]
    server.answer(listing(*records), *rules)
    mount.start()
    with within(60):
        found = {name: errno_of(functools.partial(names, mount.articles / name)) for name in asked}
    assert found == dict.fromkeys(asked, errno.EIO)
    assert mount.process is not None
    status = Path(f"/proc/{mount.process.pid}/status").read_text()
    assert int(status.split("VmHWM:")[1].split()[0]) < 500_000, "kB of memory at most"
    still_good(server, mount)


def test_known_listing_stays(hostile: tuple[OtherServer, Mount], make_mount: MakeMount) -> None:
    """A listing in which nothing can be used, after a good one: the good one stays ("never a deletion")."""
    server, _mount = hostile
    mount = make_mount(*OPTIONS, "--dir-timeout", "0.2", sandbox=server)
    mount.claim("WARNING")
    assert names(mount.articles) == {"Good"}
    article = good_id(server)
    assert names(mount.articles / "Good") == {"good"}
    nothing = [{"identifier": n, "title": "x"} for n in range(5)]
    server.answer({"path": ARTICLES, "body": nothing}, details(article, files=nothing))
    time.sleep(0.3)  # the listings are stale then
    assert names(mount.articles) == {"Good"}
    assert names(mount.articles / "Good") == {"good"}
    assert (mount.articles / "Good" / "good").read_bytes() == LARGE
    server.answer()
    still_good(server, mount)


REDIRECTS: list[tuple[str | None, int]] = [
    ("/v2/file/download/FILE", 302),  # to itself
    ("/v2/file/download/FILE?again", 307),
    ("file:///etc/passwd", 302),
    ("ftp://127.0.0.1:1/x", 302),
    ("gopher://127.0.0.1:1/x", 301),
    ("data:,0123456789", 302),
    ("//", 302),
    ("http://[::1", 302),
    ("http://" + "x" * 70_000, 302),
    ("", 302),
    (None, 302),
    ("/v2/file/download/FILE", 300),
    ("http://127.0.0.1:1/refused", 302),
]


def test_hostile_redirects(hostile: tuple[OtherServer, Mount]) -> None:
    """Downloads that lead nowhere, in a circle or to another scheme: an errno within the deadline."""
    server, mount = hostile
    files = [{"id": n, "name": f"f{n}", "size": 5} for n in range(1, len(REDIRECTS) + 1)]
    rules: list[Mapping[str, object]] = [
        {
            "path": f"/v2/file/download/{n}",
            "status": status,
            "text": "",
            "headers": {} if location is None else {"Location": location.replace("FILE", str(n))},
        }
        for n, (location, status) in enumerate(REDIRECTS, 1)
    ]
    good = {"id": good_id(server), "title": "Good"}
    server.answer(
        listing(good, {"id": 9, "title": "Bad"}),
        details(9, files=files),
        {"path": f"{ARTICLES}/9/files", "body": files},
        *rules,
    )
    mount.start()
    assert len(names(mount.articles / "Bad")) == len(REDIRECTS)

    def read(n: int) -> int:
        return errno_of(lambda: (mount.articles / "Bad" / f"f{n}").read_bytes())

    with within(20), concurrent.futures.ThreadPoolExecutor(len(REDIRECTS)) as pool:
        numbers = list(pool.map(read, range(1, len(REDIRECTS) + 1)))
    assert numbers.pop() in (errno.EHOSTUNREACH, errno.ETIMEDOUT)  # nobody listens there, for the moment
    assert dict(zip(REDIRECTS, numbers, strict=False)) == dict.fromkeys(REDIRECTS[:-1], errno.EIO)
    still_good(server, mount)


PARTS_OK = [{"partNo": 1, "startOffset": 0, "endOffset": len(SMALL) - 1, "status": "PENDING"}]


@pytest.mark.parametrize(
    "upload",
    [
        pytest.param({}, id="nothing"),
        pytest.param({"parts": []}, id="no-parts"),
        pytest.param({"parts": "all"}, id="text"),
        pytest.param({"parts": [{"partNo": "../1", "startOffset": 0, "endOffset": 999}]}, id="path"),
        pytest.param({"parts": [{"partNo": 1, "startOffset": 0, "endOffset": 10**18}]}, id="huge"),
        pytest.param({"parts": [{"partNo": 1, "startOffset": -5, "endOffset": 999}]}, id="negative"),
        pytest.param({"parts": PARTS_OK * 3}, id="overlap"),
        pytest.param({"parts": PARTS_OK, "status": "ABORTED"}, id="aborted"),
        pytest.param({"parts": [], "status": "COMPLETED"}, id="completed"),
        pytest.param([], id="list"),
    ],
)
def test_hostile_uploader(make_mount_of: MakeMountOf, upload: object) -> None:
    """An uploader that talks nonsense: an errno, or 0 and the file is owed; its bytes are never given up."""
    server, mount = make_mount_of(
        "--dialect",
        "uuid",
        "--plain-ids",
        options=("--close-timeout", "2", "--unmount-timeout", "1", "--grace", "0.5"),
    )
    mount.claim("ERROR .* is not stored")
    server.seed("Good", {"good": LARGE})
    mount.start()
    server.answer({"path": r"/u/[^/]+", "body": upload})
    source = write_tree(mount.base / "source", {"new": SMALL})
    with within(15):
        copied = run("cp", source / "new", mount.articles / "Good" / "new", code=None)
    assert ("Good", "new", SMALL) not in server.held()
    mount.alive()
    mount.unmount()
    if copied.returncode == 0:
        assert SMALL in [path.read_bytes() for path in mount.state.rglob("*") if path.is_file()]
        server.answer()
        mount.start()
        comes_to_hold(server, {"Good": {"good": LARGE, "new": SMALL}})


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"text": ""}, id="empty"),
        pytest.param({"body": {"location": "../../.."}}, id="dots"),
        pytest.param({"body": {"location": None, "entity_id": None}}, id="null"),
        pytest.param({"body": {"entity_id": {"id": 5}}}, id="object"),
        pytest.param({"text": "<html>Created</html>", "headers": {"Content-Type": "text/html"}}, id="html"),
    ],
)
def test_hostile_create(hostile: tuple[OtherServer, Mount], answer: dict[str, object]) -> None:
    """A create that makes nothing and says nothing: mkdir and cp give an errno or owe; never a second try."""
    server, mount = hostile
    mount.start()
    server.answer({"method": "POST", "path": ARTICLES, **answer})
    with within(12):
        assert errno_of(lambda: (mount.articles / "A new one").mkdir()) == errno.EIO
    asked = [r for r in server.control("GET")["requests"] if r["method"] == "POST"]
    assert len(asked) == 1
    assert names(mount.articles) == {"Good"}
    server.answer()
    still_good(server, mount)


@pytest.mark.parametrize(
    "account",
    [
        pytest.param({"quota": 10**30, "used_quota": -5}, id="huge"),
        pytest.param({"quota": -1, "used_quota": 10**40}, id="negative"),
        pytest.param({"quota": "a lot", "used_quota": [], "maximum_file_size": 0}, id="text"),
        pytest.param({"quota": 0, "used_quota": None, "maximum_file_size": -1}, id="zero"),
        pytest.param({"email": "\x1b[31m\n" * 1000, "first_name": {}, "quota": 1e300}, id="odd"),
    ],
)
def test_hostile_account(hostile: tuple[OtherServer, Mount], account: dict[str, object]) -> None:
    """Whatever the account's figures: it mounts, ``df`` answers with figures that hang together, cp works."""
    server, mount = hostile
    server.answer({"path": "/v2/account", "body": {"id": 1, **account}})
    mount.start()
    run("df", mount.path)
    space = os.statvfs(mount.path)
    assert 0 <= space.f_bavail <= space.f_bfree <= space.f_blocks
    assert "\x1b" not in (mount.base / "mount.err").read_text()
    still_good(server, mount)
