"""Seen by 4: every trouble that Figshare or the way to it can make, once, through a mount.

Of every one: the errno or the retry of design §5, no hang past the deadline, never wrong data, and the mount
answers after it. The deadlines are small here, so that trouble that stays may end as ETIMEDOUT, too. Trouble
that stays is tried for all its kinds at once, each on an article of its own: most of it is waiting.
"""

from __future__ import annotations

import concurrent.futures
import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from processes import (
    MakeMount,
    Mount,
    Sandbox,
    content,
    download,
    errno_of,
    names,
    run,
    stored,
    title_of,
    wait_until,
)

OP_TIMEOUT = 2.5
CLOSE_TIMEOUT = 4
OPTIONS = (
    "--op-timeout",
    str(OP_TIMEOUT),
    "--close-timeout",
    str(CLOSE_TIMEOUT),
    "--grace",
    "0.2",
    "--no-lookahead",
)
#: Seconds that an operation may take at most: its deadline, and some for a busy machine.
AT_MOST = OP_TIMEOUT + 2.0
AT_MOST_CLOSE = CLOSE_TIMEOUT + 3.0
#: What the log says of trouble. A traceback, or any other error, is no part of it.
EXPECTED = (
    r"WARNING figfs\.",
    r"ERROR figfs\.[\w.]+: .* is not stored: ",
    "was not deleted, so its name comes",
    "Figshare refuses the token",
)


def status(number: int, **more: object) -> dict[str, Any]:
    return {"action": "status", "status": number, **more}


#: What a rule of the fault plan does, by name.
TROUBLE: dict[str, dict[str, Any]] = {
    "401": status(401, body={"message": "Unauthorized", "code": "Unauthorized"}),
    "403": status(403, body={"message": "Forbidden", "code": "Forbidden"}),
    "404": status(404, body={"message": "Not found", "code": "NotFound"}),
    "409": status(409, body=""),
    "422": status(422, body={"message": "No", "code": "UnprocessableEntity"}),
    "429": status(429, headers={"Retry-After": "1"}),
    "500": status(500, body="<html>Internal Server Error</html>"),
    "503": status(503, headers={"Retry-After": "1"}),
    "202": {"action": "empty_202"},
    "empty": status(200, body=""),
    "html": {"action": "html"},
    "cut": {"action": "cut", "bytes": 20},
    "hang": {"action": "hang", "seconds": OP_TIMEOUT + 2},
    "lost": {"action": "lose_answer"},
}
#: What a program may see when it stays: repeated until the deadline, so that may come first.
_REPEATED = {errno.EIO, errno.ETIMEDOUT}
LASTING = {
    "401": {errno.EACCES},
    "403": {errno.EPERM},
    "404": {errno.ENOENT, errno.EIO},
    "409": {errno.EBUSY, errno.ETIMEDOUT},
    "422": {errno.EINVAL},
    "429": _REPEATED,
    "500": _REPEATED,
    "503": _REPEATED,
    "202": _REPEATED,
    "empty": _REPEATED,
    "html": _REPEATED,
    "cut": _REPEATED | {errno.EHOSTUNREACH},
    "hang": {errno.ETIMEDOUT},
    "lost": _REPEATED | {errno.EHOSTUNREACH},
}
LISTING = r"^/v2/account/articles$"


def rule(name: str, **where: object) -> dict[str, Any]:
    return {**TROUBLE[name], **where}


class Seeded(NamedTuple):
    """An article that the sandbox has and the mount has not looked into."""

    id: int
    path: Path
    files: list[dict[str, Any]]


class Trouble(NamedTuple):
    """The mount of this module, and articles for its tests to use up."""

    mount: Mount
    listed: Iterator[Seeded]  #: twelve small files each
    downloads: Iterator[Seeded]  #: one of 3 MB each


@pytest.fixture(scope="module")
def trouble(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trouble]:
    sandbox = Sandbox(tmp_path_factory.mktemp("sandbox"), seed="empty")
    sandbox.seed(count=40, title="Listed", file_count=12, file_size=100)
    sandbox.seed(count=60, title="Source", files=[3_000_000])
    mount = Mount(sandbox, tmp_path_factory.mktemp("trouble"), OPTIONS)
    try:
        mount.start()
        names(mount.articles)
        mount.claim(*EXPECTED)
        articles = [
            Seeded(each["id"], mount.articles / each["title"], each["files"])
            for each in sandbox.account()["articles"]
        ]
        listed = [each for each in articles if each.path.name.startswith("Listed")]
        yield Trouble(mount, iter(listed), iter(articles[len(listed) :]))
        mount.end()
    finally:
        sandbox.stop()


@pytest.fixture
def mount(trouble: Trouble) -> Iterator[Mount]:
    """The mount of this module; after the test without trouble, alive, nothing unexpected in its log."""
    trouble.mount.sandbox.clear_requests()
    yield trouble.mount
    trouble.mount.sandbox.set_faults([])
    trouble.mount.alive()
    trouble.mount.check_log()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of 100 kB to copy into the mount."""
    (tmp_path / "f").write_bytes(DATA)
    return tmp_path / "f"


@pytest.fixture
def target(mount: Mount, request: pytest.FixtureRequest) -> Path:
    """An empty article; the request log is empty."""
    path = mount.articles / title_of(request)
    path.mkdir()
    mount.sandbox.clear_requests()
    return path


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"it took {took:.1f} s"


def works(act: Callable[[], object]) -> bool:
    try:
        act()
    except OSError:
        return False
    return True


def together(acts: Mapping[str, Callable[[], object]], at_most: float) -> dict[str, int]:
    """What errno each of these failed with, at the same time; 0: it did not. Each within ``at_most`` s."""

    def one(act: Callable[[], object]) -> tuple[int, float]:
        began = time.monotonic()
        try:
            act()
        except OSError as exc:
            return exc.errno or -1, time.monotonic() - began
        return 0, time.monotonic() - began

    with concurrent.futures.ThreadPoolExecutor(len(acts)) as pool:
        results = dict(zip(acts, pool.map(one, acts.values()), strict=True))
    late = {name: f"{took:.1f} s" for name, (_, took) in results.items() if took >= at_most}
    assert not late
    return {name: number for name, (number, _) in results.items()}


def unexpected(seen: Mapping[str, int], expected: Mapping[str, set[int]]) -> dict[str, str]:
    return {
        name: errno.errorcode.get(number, str(number))
        for name, number in seen.items()
        if number not in expected[name]
    }


def arrives(mount: Mount, path: Path, files: Mapping[str, bytes] | None = None, timeout: float = 30) -> None:
    """The article comes to hold exactly this: each file once, available."""
    files = {"f": DATA} if files is None else files
    wait_until(lambda: mount.sandbox.remote_files(path.name) == stored(files), timeout, f"stored: {path}")


# -- listings ------------------------------------------------------------


def test_listing_lasting(mount: Mount, trouble: Trouble) -> None:
    """A listing that fails: an error, never an article without files; right once the trouble is over."""
    kinds = [
        "401",
        "403",
        "404",
        "409",
        "422",
        "429",
        "500",
        "503",
        "202",
        "empty",
        "html",
        "cut",
        "hang",
        "lost",
    ]
    articles = {name: next(trouble.listed) for name in kinds}
    mount.sandbox.set_faults(
        [rule(name, method="GET", path=rf"/articles/{each.id}\b") for name, each in articles.items()]
    )
    seen = together(
        {name: lambda each=each: os.listdir(each.path) for name, each in articles.items()},  # type: ignore[misc]
        AT_MOST,
    )
    assert unexpected(seen, LASTING) == {}
    assert all(mount.sandbox.fault_hits())
    mount.alive()
    mount.sandbox.set_faults([])
    for each in articles.values():
        if each is not articles["404"]:  # that may count as gone until articles/ is listed anew
            wait_until(lambda each=each: works(lambda: os.listdir(each.path)), 15)  # type: ignore[misc]
            assert len(names(each.path)) == 12


@pytest.mark.parametrize("name", ["409", "429", "500", "503", "cut", "lost", "html", "202", "empty"])
def test_listing_once(mount: Mount, trouble: Trouble, name: str) -> None:
    """Trouble that passes is repeated away: the program sees the listing."""
    article = next(trouble.listed)
    mount.sandbox.set_faults([rule(name, method="GET", path=rf"/articles/{article.id}\b", times=1)])
    with within(AT_MOST):
        assert len(names(article.path)) == 12
    assert mount.sandbox.fault_hits() == [1]


def test_retry_after(mount: Mount, trouble: Trouble) -> None:
    """429 with Retry-After: not asked again before that time."""
    article = next(trouble.listed)
    mount.sandbox.set_faults([rule("429", method="GET", path=rf"/articles/{article.id}\b", times=1)])
    assert len(names(article.path)) == 12
    first, second, *_ = mount.sandbox.requests("api", "GET", rf"/articles/{article.id}\b")
    assert first["status"] == 429
    assert second["time"] - first["time"] >= 1.0


def test_listing_of_articles(make_mount: MakeMount) -> None:
    """articles/ itself that hangs: ETIMEDOUT, never an empty directory; all of it afterwards."""
    mount = make_mount(*OPTIONS)
    mount.claim(*EXPECTED)
    mount.sandbox.seed(count=5)
    mount.sandbox.set_faults([rule("hang", method="GET", path=LISTING)])
    with within(AT_MOST):
        assert errno_of(lambda: os.listdir(mount.articles)) == errno.ETIMEDOUT
    mount.alive()
    mount.sandbox.set_faults([])
    wait_until(lambda: works(lambda: os.listdir(mount.articles)), 15)
    assert len(names(mount.articles)) == 5


def test_errors_end(make_mount: MakeMount) -> None:
    """5xx to the end of the patience, which is before the deadline: EIO, after a few requests."""
    mount = make_mount()
    mount.claim(*EXPECTED)
    mount.sandbox.set_faults([rule("500", role="api", method="GET", path=LISTING)])
    with within(30):
        assert errno_of(lambda: os.listdir(mount.articles)) == errno.EIO
    assert 2 <= len(mount.sandbox.requests("api", "GET", LISTING)) <= 6
    mount.alive()
    mount.sandbox.set_faults([])


@pytest.mark.parametrize("name", ["500", "html", "hang"])
def test_known_listing(make_mount: MakeMount, name: str) -> None:
    """A listing that fails when there was one: the last known one, no name is missing."""
    mount = make_mount(*OPTIONS, "--dir-timeout", "0.2")
    mount.claim(*EXPECTED)
    mount.sandbox.seed(count=5)
    known = names(mount.articles)
    assert len(known) == 5
    mount.sandbox.set_faults([rule(name, role="api", method="GET")])
    time.sleep(0.3)  # until the listing is stale
    with within(AT_MOST):
        assert names(mount.articles) == known
    for title in known:
        with within(AT_MOST):
            assert (mount.articles / title).is_dir()
    mount.alive()
    mount.sandbox.set_faults([])


def test_server_is_gone(make_mount: MakeMount, make_sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    """No server at all: EHOSTUNREACH for what is not known; what is known is shown; a write is kept."""
    sandbox = make_sandbox(kept=tmp_path / "kept")
    sandbox.seed(count=2, file_count=1)
    mount = make_mount(*OPTIONS, "--unmount-timeout", "1", sandbox=sandbox)
    mount.claim(*EXPECTED, "ConnectError", "not on Figshare yet")
    first, second = sorted(names(mount.articles))
    assert len(names(mount.articles / second)) == 1
    sandbox.stop()
    with within(AT_MOST):
        number = errno_of(lambda: os.listdir(mount.articles / first))
    assert number in {errno.EHOSTUNREACH, errno.ETIMEDOUT}, errno.errorcode[number]
    assert names(mount.articles) == {first, second}
    assert len(names(mount.articles / second)) == 1
    with within(AT_MOST_CLOSE):
        (mount.articles / second / "kept here").write_bytes(DATA)
    assert (mount.articles / second / "kept here").read_bytes() == DATA


# -- containers ------------------------------------------------------------


@pytest.mark.parametrize("name", ["401", "403", "404", "409", "422", "429", "500", "503", "hang"])
def test_mkdir(mount: Mount, name: str) -> None:
    """mkdir that is refused or not carried out: an errno, no article; the next one works."""
    path = mount.articles / f"New article {name}"
    mount.sandbox.set_faults([rule(name, method="POST", path=LISTING)])
    with within(AT_MOST):
        assert errno_of(path.mkdir) in LASTING[name]
    mount.sandbox.set_faults([])
    assert mount.sandbox.articles(path.name) == []
    assert path.name not in names(mount.articles)
    path.mkdir()
    assert mount.sandbox.article(path.name)


@pytest.mark.parametrize("where", ["articles", "projects", "collections"])
def test_mkdir_answer_lost(mount: Mount, where: str) -> None:
    """The answer to a creation is lost: it is looked for, so there is exactly one."""
    mount.sandbox.set_faults([rule("lost", method="POST", path=f"/account/{where}$", times=1)])
    with within(AT_MOST):
        (mount / where / "Made without an answer").mkdir()
    assert mount.sandbox.fault_hits() == [1]
    titles = [each["title"] for each in mount.sandbox.account()[where]]
    assert titles.count("Made without an answer") == 1
    assert "Made without an answer" in names(mount / where)


@pytest.mark.parametrize("name", ["401", "403", "404", "500"])
def test_rename_and_rmdir(mount: Mount, target: Path, name: str) -> None:
    """A refused change of a title, or deletion of an article: an errno, and the name stays."""
    mount.sandbox.set_faults([rule(name, method=method) for method in ("PUT", "PATCH", "DELETE")])
    with within(AT_MOST):
        assert errno_of(lambda: target.rename(mount.articles / "Another title")) in LASTING[name]
    with within(AT_MOST):
        assert errno_of(target.rmdir) in LASTING[name]
    mount.sandbox.set_faults([])
    assert target.name in names(mount.articles)
    assert "Another title" not in names(mount.articles)
    assert mount.sandbox.article(target.name)


# -- uploads ------------------------------------------------------------

DATA = content("upload", 100_000)


def steps(article: int | str = r"\d+") -> dict[str, dict[str, object]]:
    """Role, method and path of each step of an upload."""
    files = rf"/account/articles/{article}/files"
    return {
        "announce": {"role": "api", "method": "POST", "path": f"{files}$"},
        "record": {"role": "api", "method": "GET", "path": rf"{files}/\d+$"},
        "parts": {"role": "upload", "method": "GET"},
        "part": {"role": "upload", "method": "PUT"},
        "complete": {"role": "api", "method": "POST", "path": rf"{files}/\d+$"},
    }


@pytest.mark.parametrize(
    ("step", "name"),
    [(step, name) for step in steps() for name in ("409", "500", "lost")]
    + [(step, name) for step in ("announce", "part") for name in ("429", "503")],
)
def test_upload_once(mount: Mount, target: Path, source: Path, step: str, name: str) -> None:
    """Trouble that passes, at any step: cp exits 0, exactly one file arrives, its content right."""
    data = DATA
    if step == "parts":  # asked for only where a file is larger than all that came in a single part
        data = DATA * (2 + ["409", "500", "lost"].index(name))
        source.write_bytes(data)
    mount.sandbox.set_faults([rule(name, times=1, **steps()[step])])
    with within(AT_MOST_CLOSE):
        run("cp", source, target)
    arrives(mount, target, {"f": data})
    assert mount.sandbox.fault_hits() == [1]
    assert (target / "f").read_bytes() == data


def test_part_cut(mount: Mount, target: Path, source: Path) -> None:
    """A part whose connection breaks halfway is sent again."""
    mount.sandbox.set_faults([{"action": "cut", "bytes": 50_000, "times": 1, **steps()["part"]}])
    run("cp", source, target)
    arrives(mount, target)
    assert mount.sandbox.fault_hits() == [1]


def targets(mount: Mount, title: str, kinds: Iterable[str]) -> dict[str, tuple[int, Path]]:
    """An empty article for each kind of trouble."""
    made = {name: mount.articles / f"{title} {name}" for name in kinds}
    for path in made.values():
        path.mkdir()
    return {name: (mount.sandbox.article(path.name)["id"], path) for name, path in made.items()}


def test_upload_refused(mount: Mount, source: Path) -> None:
    """A refusal: its errno to cp; the name of the new file goes; at once the next try works."""
    articles = targets(mount, "Refused", ["401", "403", "404", "422"])
    for name, (number, path) in articles.items():
        mount.sandbox.set_faults([rule(name, **steps(number)["announce"])])
        with within(AT_MOST_CLOSE):
            failed = run("cp", source, path, code=1)
        assert any(os.strerror(each) in failed.stderr for each in LASTING[name]), failed.stderr
        mount.sandbox.set_faults([])
        assert names(path) == set()
        run("cp", source, path)
        arrives(mount, path)


@pytest.mark.parametrize("name", ["401", "403", "422"])
def test_overwrite_refused(mount: Mount, target: Path, source: Path, name: str) -> None:
    """A refused overwrite: cp fails, and the file shows its Figshare version again."""
    (target / "f").write_bytes(b"the old version")
    mount.sandbox.set_faults([rule(name, **steps()["announce"])])
    run("cp", source, target, code=1)
    mount.sandbox.set_faults([])
    assert (target / "f").read_bytes() == b"the old version"
    arrives(mount, target, {"f": b"the old version"})
    run("cp", source, target)
    arrives(mount, target)
    assert (target / "f").read_bytes() == DATA


def test_upload_later(mount: Mount, source: Path) -> None:
    """Trouble that stays past ``close_timeout``: 0; the file is shown, and arrives later."""
    kinds = [
        (name, step)
        for step in ("announce", "complete")
        for name in ("409", "429", "500", "503", "hang", "lost")
    ]
    articles = targets(mount, "Later", [f"{name} {step}" for name, step in kinds])
    mount.sandbox.set_faults(
        [
            rule(name, **steps(number)[step])
            for (name, step), (number, _) in zip(kinds, articles.values(), strict=True)
            if (name, step) != ("lost", "complete")  # carried out, and seen to be
        ]
    )
    seen = together(
        {key: lambda path=path: run("cp", source, path) for key, (_, path) in articles.items()},  # type: ignore[misc]
        AT_MOST_CLOSE + 2,
    )
    # "lost" and "409" at the announcement: found, or refused as locked; neither may make a second file.
    assert unexpected(seen, {key: {0} for key in seen}) == {}
    for _, path in articles.values():
        assert (path / "f").read_bytes() == DATA
    mount.alive()
    mount.sandbox.set_faults([])
    for _, path in articles.values():
        arrives(mount, path, timeout=60)


def test_quota(mount: Mount, target: Path, source: Path) -> None:
    """Quota exceeded: EDQUOT to cp and rsync at close, the name goes; with more quota the next try works."""
    quota = mount.sandbox.settings()["quota"]
    try:
        mount.sandbox.change_settings(quota=50_000)
        assert os.strerror(errno.EDQUOT) in run("cp", source, target, code=1).stderr
        assert names(target) == set()
        for _ in range(3):  # 1 % of rsync's random names look typed: held, so it hears of nothing at close
            done = run("rsync", "-a", source, target, code=None)
            if done.returncode:
                break
            wait_until(lambda: names(target) == set(), what="the refused name is gone")
        assert done.returncode == 11
        assert os.strerror(errno.EDQUOT) in done.stderr
        assert names(target) == set()
        assert mount.sandbox.remote_files(target.name) == []
        mount.alive()
    finally:
        mount.sandbox.change_settings(quota=quota)
    run("rsync", "-a", source, target)
    run("cp", source, target / "g")
    arrives(mount, target, {"f": DATA, "g": DATA})


def test_too_many_files(mount: Mount, target: Path, source: Path) -> None:
    """One file more than an article may have: ENOSPC."""
    try:
        mount.sandbox.change_settings(max_files=1)
        run("cp", source, target / "g")
        assert os.strerror(errno.ENOSPC) in run("cp", source, target, code=1).stderr
        assert names(target) == {"g"}
    finally:
        mount.sandbox.change_settings(max_files=500)


def test_file_too_large(make_mount: MakeMount, make_sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    """Larger than ``maximum_file_size``: EFBIG, at the write that passes it; no half of it is uploaded."""
    sandbox = make_sandbox()
    sandbox.change_settings(maximum_file_size=400_000)
    mount = make_mount(sandbox=sandbox)
    mount.claim(*EXPECTED)
    (mount.articles / "Target").mkdir()
    for n in range(2):
        (tmp_path / "f").write_bytes(content("large", (500_000, 400_001)[n]))
        for command in (("cp",), ("rsync", "-a"), ("dd", "bs=1000")):
            words = (
                [*command, f"if={tmp_path / 'f'}", f"of={mount.articles / 'Target' / 'f'}"]
                if command[0] == "dd"
                else [*command, str(tmp_path / "f"), str(mount.articles / "Target")]
            )
            failed = run(*words, code=None)
            assert failed.returncode in (1, 11)
            assert os.strerror(errno.EFBIG) in failed.stderr
            assert names(mount.articles / "Target") == set()
            assert sandbox.remote_files("Target") == []
    (tmp_path / "f").write_bytes(content("large", 400_000))
    run("cp", tmp_path / "f", mount.articles / "Target")


def test_damaged_on_the_way(mount: Mount, target: Path, source: Path) -> None:
    """Figshare computes another MD5 than was sent: the damaged file goes, the upload is made again."""
    wrong = {"id": 1, "name": "f", "size": len(DATA), "status": "available", "computed_md5": "0" * 32}
    mount.sandbox.set_faults([status(200, body=wrong, skip=1, times=1, **steps()["record"])])
    with within(AT_MOST_CLOSE + 2):
        run("cp", source, target)
    arrives(mount, target)
    assert mount.sandbox.announced(target.name) == 2
    assert (target / "f").read_bytes() == DATA


def test_slow_assembly(mount: Mount, target: Path, source: Path) -> None:
    """Assembly that takes a while, a late upload record: cp waits; what it leaves is available."""
    try:
        mount.sandbox.change_settings(assembly_delay=1.0, upload_record_delay=0.5)
        run("cp", source, target)
        assert mount.sandbox.remote_files(target.name) == stored({"f": DATA})
    finally:
        mount.sandbox.change_settings(assembly_delay=0.05, upload_record_delay=0.0)


def test_delete_refused(mount: Mount, target: Path) -> None:
    """A delete that Figshare refuses later: the name comes back, with the reason in the log."""
    (target / "f").write_bytes(DATA)
    mount.sandbox.set_faults([rule("403", method="DELETE")])
    (target / "f").unlink()
    assert names(target) == set()
    wait_until(lambda: "was not deleted" in mount.log()[mount.seen :], 10, "the reason in the log")
    mount.sandbox.set_faults([])
    wait_until(lambda: names(target) == {"f"}, 10, "the name is back")
    assert (target / "f").read_bytes() == DATA


# -- downloads ------------------------------------------------------------

DOWNLOAD_TROUBLE = ["202", "403", "empty", "html", "hang", "500", "503", "429"]


def route(role: str, article: Seeded) -> dict[str, object]:
    """The requests for the bytes of the article's file: the routes that redirect, or the storage."""
    (file,) = article.files
    return {"role": role, "path": rf"/{file['id']}\b"}


def right_bytes(mount: Mount, article: Seeded) -> bytes:
    (file,) = article.files
    return download(mount.sandbox, file["id"])


@pytest.mark.parametrize("role", ["download", "storage"])
@pytest.mark.parametrize("name", ["202", "403", "empty", "html", "cut", "lost", "500", "503", "429"])
def test_download_once(mount: Mount, trouble: Trouble, role: str, name: str) -> None:
    """Trouble that passes: the other route, or the next try, brings the right bytes."""
    article = next(trouble.downloads)
    expected = right_bytes(mount, article)
    (name_of_file,) = names(article.path)
    mount.sandbox.set_faults([rule(name, times=1, **route(role, article))])
    with within(2 * AT_MOST):
        assert (article.path / name_of_file).read_bytes() == expected
    assert mount.sandbox.fault_hits() == [1]


def test_download_lasting(mount: Mount, trouble: Trouble) -> None:
    """Trouble that stays: EIO or ETIMEDOUT in time, never other bytes; right when it is over."""
    kinds = [(name, role) for role in ("download", "storage") for name in DOWNLOAD_TROUBLE] + [
        ("cut", "storage")
    ]
    articles = {f"{name} {role}": next(trouble.downloads) for name, role in kinds}
    expected = {key: right_bytes(mount, each) for key, each in articles.items()}
    paths = {key: each.path / next(iter(names(each.path))) for key, each in articles.items()}
    mount.sandbox.set_faults(
        [rule(name, **route(role, each)) for (name, role), each in zip(kinds, articles.values(), strict=True)]
    )
    seen = together({key: path.read_bytes for key, path in paths.items()}, 2 * AT_MOST)
    assert unexpected(seen, {key: {errno.EIO, errno.ETIMEDOUT} for key in seen}) == {}
    mount.alive()
    mount.sandbox.set_faults([])
    for key, path in paths.items():
        wait_until(lambda path=path: works(path.read_bytes), 20, key)  # type: ignore[misc]
        assert path.read_bytes() == expected[key]


def test_download_not_found(mount: Mount, trouble: Trouble) -> None:
    """A file that is gone: an error, no bytes."""
    article = next(trouble.downloads)
    (name,) = names(article.path)
    mount.sandbox.set_faults([rule("404", **route("download", article))])
    with within(2 * AT_MOST):
        number = errno_of((article.path / name).read_bytes)
    assert number in {errno.ESTALE, errno.ENOENT, errno.EIO}, errno.errorcode[number]


def test_cut_again_and_again(mount: Mount, trouble: Trouble) -> None:
    """Bodies that are always cut somewhere: what did arrive is not asked for again; the bytes are right."""
    article = next(trouble.downloads)
    expected = right_bytes(mount, article)
    (name,) = names(article.path)
    mount.sandbox.clear_requests()
    mount.sandbox.set_faults([{"action": "cut", "bytes": 700_001, **route("storage", article)}])
    with within(30):
        assert (article.path / name).read_bytes() == expected
    assert sum(entry["bytes"] for entry in mount.sandbox.requests("storage")) < 2 * len(expected)
