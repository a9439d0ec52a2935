"""Seen by 4: every trouble that Figshare or the way to it can make, once, through a mount.

Of every one: the errno or the retry of design §5, no hang past the deadline, never wrong data, and the mount
answers after it. ``--op-timeout`` is small here, so that persistent trouble may end as ETIMEDOUT as well as EIO.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeMount
from processes import Mount, content, errno_of, names, run, stored, wait_until

OP_TIMEOUT = 3
CLOSE_TIMEOUT = 4
#: Seconds that an operation may take at most: its deadline, and some for a busy machine.
AT_MOST = OP_TIMEOUT + 2.0
AT_MOST_CLOSE = CLOSE_TIMEOUT + 3.0

#: What a rule of the fault plan is made of, by name.
TROUBLE: dict[str, dict[str, Any]] = {
    "401": {"action": "status", "status": 401, "body": {"message": "Unauthorized", "code": "Unauthorized"}},
    "403": {"action": "status", "status": 403, "body": {"message": "Forbidden", "code": "Forbidden"}},
    "404": {"action": "status", "status": 404, "body": {"message": "Not found", "code": "NotFound"}},
    "409": {"action": "status", "status": 409, "body": ""},
    "422": {"action": "status", "status": 422, "body": {"message": "No", "code": "UnprocessableEntity"}},
    "429": {"action": "status", "status": 429, "headers": {"Retry-After": "1"}},
    "429 bare": {"action": "status", "status": 429},
    "500": {"action": "status", "status": 500, "body": "<html>Internal Server Error</html>"},
    "503": {"action": "status", "status": 503, "headers": {"Retry-After": "1"}},
    "202": {"action": "empty_202"},
    "empty": {"action": "status", "status": 200, "body": ""},
    "html": {"action": "html"},
    "cut": {"action": "cut", "bytes": 20},
    "hang": {"action": "hang"},
    "lost": {"action": "lose_answer"},
}
#: Errnos of persistent trouble. 409 and worse are repeated until the deadline, so they may also run into it.
SLOW = {errno.ETIMEDOUT}
LASTING = {
    "401": {errno.EACCES},
    "403": {errno.EPERM},
    "404": {errno.ENOENT, errno.EIO},
    "409": {errno.EBUSY} | SLOW,
    "422": {errno.EINVAL},
    "429": {errno.EIO} | SLOW,
    "429 bare": {errno.EIO} | SLOW,
    "500": {errno.EIO} | SLOW,
    "503": {errno.EIO} | SLOW,
    "202": {errno.EIO} | SLOW,
    "empty": {errno.EIO} | SLOW,
    "html": {errno.EIO} | SLOW,
    "cut": {errno.EIO, errno.EHOSTUNREACH} | SLOW,
    "hang": SLOW,
    "lost": {errno.EIO, errno.EHOSTUNREACH} | SLOW,
}
LISTING = r"^/v2/account/articles$"
FILES = r"/account/articles/\d+/files$"
ONE_FILE = r"/account/articles/\d+/files/\d+$"


@pytest.fixture
def mount(make_mount: MakeMount) -> Mount:
    """A mount of an empty account, with small deadlines. What the log says of trouble is expected."""
    mount = make_mount(
        "--op-timeout", str(OP_TIMEOUT), "--close-timeout", str(CLOSE_TIMEOUT), "--grace", "0.2"
    )
    mount.claim(r"WARNING figfs\.", r"ERROR figfs\.\w+: .* is not stored: ")
    return mount


@contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took < seconds, f"it took {took:.1f} s"


def rule(name: str, **where: object) -> dict[str, Any]:
    return {**TROUBLE[name], **where}


def lasting(act: Callable[[], object], name: str, *, mount: Mount, at_most: float = AT_MOST) -> None:
    """``act`` fails in time, with an errno of that trouble; the mount answers."""
    with within(at_most):
        number = errno_of(act)
    assert number in LASTING[name], f"{name}: {errno.errorcode[number]}"
    mount.alive()


# -- listings ------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["401", "403", "429", "500", "503", "202", "empty", "html", "cut", "hang", "lost"]
)
def test_listing(mount: Mount, name: str) -> None:
    """A listing that fails: an error, never an empty directory; fine once the trouble is over."""
    titles = {f"Bulk article {n:05d}" for n in range(1, 6)}
    mount.sandbox.seed(count=5)
    mount.sandbox.set_faults([rule(name, method="GET", path=LISTING)])
    lasting(lambda: os.listdir(mount.articles), name, mount=mount)
    assert sum(mount.sandbox.fault_hits()) >= 1
    mount.sandbox.set_faults([])
    wait_until(lambda: errno_free(lambda: names(mount.articles)), 10)
    assert names(mount.articles) == titles


def errno_free(act: Callable[[], object]) -> bool:
    try:
        act()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("name", ["429", "500", "503", "cut", "lost", "html"])
def test_listing_once(mount: Mount, name: str) -> None:
    """Trouble that passes is repeated away: the program sees the listing."""
    mount.sandbox.seed(count=3)
    mount.sandbox.set_faults([rule(name, method="GET", path=LISTING, times=1)])
    with within(AT_MOST):
        assert len(names(mount.articles)) == 3
    assert mount.sandbox.fault_hits() == [1]


def test_retry_after(mount: Mount) -> None:
    """429 with Retry-After: not asked again before that time."""
    mount.sandbox.seed(count=3)
    mount.sandbox.clear_requests()
    mount.sandbox.set_faults([rule("429", method="GET", path=LISTING, times=1)])
    assert len(names(mount.articles)) == 3
    first, second, *_ = mount.sandbox.requests("api", "GET", LISTING)
    assert (first["status"], second["status"]) == (429, 200)
    assert second["time"] - first["time"] >= 1.0


@pytest.mark.parametrize("name", ["500", "429", "html", "hang"])
def test_known_listing(make_mount: MakeMount, name: str) -> None:
    """A listing that fails when there was one: the last known one, and no name is missing."""
    mount = make_mount("--op-timeout", str(OP_TIMEOUT), "--dir-timeout", "0.2")
    mount.claim("WARNING")
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


@pytest.mark.parametrize("name", ["401", "403", "404", "500", "cut", "hang"])
def test_files_of_an_article(mount: Mount, name: str) -> None:
    """Details or files of an article that cannot be had: an error, never an article without files."""
    mount.sandbox.seed(count=1, title="Some", file_count=12, file_size=100)
    (title,) = names(mount.articles)
    mount.sandbox.set_faults([rule(name, method="GET", path=r"/account/articles/\d+")])
    lasting(lambda: os.listdir(mount.articles / title), name, mount=mount)
    mount.sandbox.set_faults([])
    wait_until(lambda: errno_free(lambda: names(mount.articles / title)), 10)
    assert len(names(mount.articles / title)) == 12


def test_server_is_gone(mount: Mount) -> None:
    """No connection at all: EHOSTUNREACH for what is not known, what is known is shown."""
    mount.sandbox.seed(count=2, file_count=1)
    first, _ = sorted(names(mount.articles))
    mount.sandbox.set_faults([{"action": "lose_answer"}])
    lasting(lambda: os.listdir(mount.articles / first), "lost", mount=mount)
    assert len(names(mount.articles)) == 2


# -- making articles ------------------------------------------------------------


@pytest.mark.parametrize("name", ["401", "403", "404", "409", "422", "429", "500", "503", "hang"])
def test_mkdir(mount: Mount, name: str) -> None:
    """mkdir that is refused or not carried out: an errno, no article; the next one works."""
    mount.sandbox.set_faults([rule(name, method="POST", path=LISTING)])
    lasting(lambda: (mount.articles / "New article").mkdir(), name, mount=mount)
    mount.sandbox.set_faults([])
    assert mount.sandbox.articles("New article") == []
    assert names(mount.articles) == set()
    (mount.articles / "New article").mkdir()
    assert mount.sandbox.article("New article")


@pytest.mark.parametrize("where", ["articles", "projects", "collections"])
def test_mkdir_answer_lost(mount: Mount, where: str) -> None:
    """The answer to a creation is lost: it is looked for, so there is exactly one."""
    mount.sandbox.set_faults([rule("lost", method="POST", path=f"/account/{where}$", times=1)])
    with within(AT_MOST):
        (mount / where / "New one").mkdir()
    assert mount.sandbox.fault_hits() == [1]
    assert [each["title"] for each in mount.sandbox.account()[where]] == ["New one"]
    assert names(mount / where) == {"New one"}


@pytest.mark.parametrize("name", ["401", "403", "404", "500"])
def test_rename_and_rmdir(mount: Mount, name: str) -> None:
    """A refused change of a title or deletion of an article: an errno, and the name stays."""
    path = mount.articles / "A title"
    path.mkdir()
    mount.sandbox.set_faults(
        [rule(name, method="PUT"), rule(name, method="PATCH"), rule(name, method="DELETE")]
    )
    lasting(lambda: path.rename(mount.articles / "Another title"), name, mount=mount)
    lasting(path.rmdir, name, mount=mount)
    mount.sandbox.set_faults([])
    assert names(mount.articles) == {"A title"}
    assert mount.sandbox.article("A title")


# -- uploads ------------------------------------------------------------

DATA = content("upload", 100_000)
#: method and path of each step of an upload
STEPS: dict[str, dict[str, object]] = {
    "announce": {"role": "api", "method": "POST", "path": FILES},
    "record": {"role": "api", "method": "GET", "path": ONE_FILE},
    "parts": {"role": "upload", "method": "GET"},
    "part": {"role": "upload", "method": "PUT"},
    "complete": {"role": "api", "method": "POST", "path": ONE_FILE},
}


@pytest.fixture
def target(mount: Mount, tmp_path: Path) -> Path:
    """An empty article, and ``tmp_path/f`` to copy into it."""
    (tmp_path / "f").write_bytes(DATA)
    path = mount.articles / "Target"
    path.mkdir()
    mount.sandbox.clear_requests()
    return path


def finally_stored(mount: Mount, files: dict[str, bytes], timeout: float = 30.0) -> None:
    wait_until(lambda: mount.sandbox.remote_files("Target") == stored(files), timeout, "stored")


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("name", ["409", "429", "500", "503", "lost", "cut"])
def test_upload_once(mount: Mount, target: Path, tmp_path: Path, step: str, name: str) -> None:
    """Trouble that passes, at any step: cp exits 0, exactly one file arrives, its content right."""
    mount.sandbox.set_faults([rule(name, times=1, **STEPS[step])])
    with within(AT_MOST_CLOSE):
        run("cp", tmp_path / "f", target)
    finally_stored(mount, {"f": DATA})
    assert mount.sandbox.fault_hits() == [1]
    assert (target / "f").read_bytes() == DATA
    mount.alive()


@pytest.mark.parametrize("step", ["announce", "complete"])
def test_hanging_upload(mount: Mount, target: Path, tmp_path: Path, step: str) -> None:
    """A step that hangs for a while: cp does not hang with it; the file arrives, once."""
    mount.sandbox.set_faults([rule("hang", times=1, seconds=8, **STEPS[step])])
    with within(AT_MOST_CLOSE):
        run("cp", tmp_path / "f", target)
    finally_stored(mount, {"f": DATA}, 60)
    assert mount.sandbox.announced("Target") <= 2


@pytest.mark.parametrize(
    ("name", "number"),
    [("401", errno.EACCES), ("403", errno.EPERM), ("404", errno.ENOENT), ("422", errno.EINVAL)],
)
def test_upload_refused(mount: Mount, target: Path, tmp_path: Path, name: str, number: int) -> None:
    """A refusal: cp says so and fails; the name of the new file goes; the next try works."""
    mount.sandbox.set_faults([rule(name, **STEPS["announce"])])
    with within(AT_MOST_CLOSE):
        failed = run("cp", tmp_path / "f", target, code=1)
    assert os.strerror(number) in failed.stderr
    mount.alive()
    mount.sandbox.set_faults([])
    assert names(target) == set()
    run("cp", tmp_path / "f", target)
    finally_stored(mount, {"f": DATA})


@pytest.mark.parametrize("name", ["401", "403", "422"])
def test_overwrite_refused(mount: Mount, target: Path, tmp_path: Path, name: str) -> None:
    """A refused overwrite: cp fails, and the file shows its Figshare version again."""
    (target / "f").write_bytes(b"the old version")
    mount.sandbox.set_faults([rule(name, **STEPS["announce"])])
    run("cp", tmp_path / "f", target, code=1)
    mount.sandbox.set_faults([])
    assert (target / "f").read_bytes() == b"the old version"
    finally_stored(mount, {"f": b"the old version"})
    run("cp", tmp_path / "f", target)
    finally_stored(mount, {"f": DATA})
    assert (target / "f").read_bytes() == DATA


@pytest.mark.parametrize("name", ["500", "503", "429", "hang"])
def test_upload_later(mount: Mount, target: Path, tmp_path: Path, name: str) -> None:
    """Trouble that stays past ``close_timeout``: 0, the file is shown, and arrives when the trouble is over."""
    mount.sandbox.set_faults([rule(name, **STEPS["announce"])])
    with within(AT_MOST_CLOSE):
        run("cp", tmp_path / "f", target)
    assert (target / "f").read_bytes() == DATA
    mount.alive()
    mount.sandbox.set_faults([])
    finally_stored(mount, {"f": DATA}, 60)


def test_quota(mount: Mount, target: Path, tmp_path: Path) -> None:
    """Quota exceeded: EDQUOT to cp, the name goes; with more quota the next cp works."""
    mount.sandbox.change_settings(quota=50_000)
    failed = run("cp", tmp_path / "f", target, code=1)
    assert os.strerror(errno.EDQUOT) in failed.stderr
    assert names(target) == set()
    assert mount.sandbox.remote_files("Target") == []
    mount.alive()
    mount.sandbox.change_settings(quota=10**9)
    run("cp", tmp_path / "f", target)
    finally_stored(mount, {"f": DATA})


def test_quota_and_rsync(mount: Mount, target: Path, tmp_path: Path) -> None:
    """Quota exceeded: rsync hears of it at close, too; a second run does the whole job."""
    mount.sandbox.change_settings(quota=50_000)
    failed = run("rsync", "-a", tmp_path / "f", target, code=11)
    assert os.strerror(errno.EDQUOT) in failed.stderr
    assert names(target) == set()
    mount.sandbox.change_settings(quota=10**9)
    run("rsync", "-a", tmp_path / "f", target)
    finally_stored(mount, {"f": DATA})


def test_too_many_files(mount: Mount, target: Path, tmp_path: Path) -> None:
    """One file more than an article may have: ENOSPC."""
    mount.sandbox.change_settings(max_files=1)
    run("cp", tmp_path / "f", target / "g")
    failed = run("cp", tmp_path / "f", target, code=1)
    assert os.strerror(errno.ENOSPC) in failed.stderr
    assert names(target) == {"g"}


def test_file_too_large(make_mount: MakeMount, make_sandbox: Callable[..., Any], tmp_path: Path) -> None:
    """Larger than ``maximum_file_size``: EFBIG, at the write that passes it."""
    sandbox = make_sandbox()
    sandbox.change_settings(maximum_file_size=50_000)
    mount = make_mount(sandbox=sandbox)
    mount.claim("larger than this account")
    (tmp_path / "f").write_bytes(DATA)
    (mount.articles / "Target").mkdir()
    failed = run("cp", tmp_path / "f", mount.articles / "Target", code=1)
    assert os.strerror(errno.EFBIG) in failed.stderr
    assert sandbox.remote_files("Target") == []
    assert names(mount.articles / "Target") == set()


def test_damaged_on_the_way(mount: Mount, target: Path, tmp_path: Path) -> None:
    """Figshare computes another MD5 than was sent: the damaged file goes, the upload is made again."""
    wrong = {"id": 1, "name": "f", "size": len(DATA), "status": "available", "computed_md5": "0" * 32}
    mount.sandbox.set_faults(
        [
            {"action": "status", "status": 200, "body": wrong, "skip": 1, "times": 1, **STEPS["record"]},
        ]
    )
    with within(AT_MOST_CLOSE + 2):
        run("cp", tmp_path / "f", target)
    finally_stored(mount, {"f": DATA})
    assert mount.sandbox.announced("Target") == 2
    assert (target / "f").read_bytes() == DATA


def test_slow_assembly(mount: Mount, target: Path, tmp_path: Path) -> None:
    """Assembly that takes a while: cp waits for it; what it leaves is available."""
    mount.sandbox.change_settings(assembly_delay=1.5, upload_record_delay=0.5)
    run("cp", tmp_path / "f", target)
    assert mount.sandbox.remote_files("Target") == stored({"f": DATA})


def test_delete_refused(mount: Mount, target: Path) -> None:
    """A delete that Figshare refuses later: the name comes back, with the reason in the log."""
    (target / "f").write_bytes(DATA)
    mount.sandbox.set_faults([rule("403", method="DELETE")])
    (target / "f").unlink()
    assert names(target) == set()
    wait_until(lambda: "was not deleted" in mount.log(), 10, "log")
    mount.sandbox.set_faults([])
    wait_until(lambda: names(target) == {"f"}, 10, "the name is back")
    assert (target / "f").read_bytes() == DATA


# -- downloads ------------------------------------------------------------


@pytest.fixture
def source(mount: Mount) -> tuple[Path, bytes]:
    """A stored file that is nowhere in a cache of this machine, and its bytes."""
    (mount.articles / "Source").mkdir()
    data = content("download", 3_000_000)
    (mount.articles / "Source" / "f").write_bytes(data)
    wait_until(lambda: mount.sandbox.remote_files("Source") == stored({"f": data}))
    mount.remount()
    names(mount.articles / "Source")
    mount.sandbox.clear_requests()
    return mount.articles / "Source" / "f", data


DOWNLOAD_TROUBLE = ["202", "403", "empty", "html", "cut", "hang", "500", "503", "429"]


@pytest.mark.parametrize("role", ["download", "storage"])
@pytest.mark.parametrize("name", [name for name in DOWNLOAD_TROUBLE if name != "hang"])
def test_download_once(mount: Mount, source: tuple[Path, bytes], role: str, name: str) -> None:
    """Trouble that passes: the other route, or the next try, brings the right bytes."""
    path, data = source
    mount.sandbox.set_faults([rule(name, role=role, times=1)])
    assert path.read_bytes() == data
    assert mount.sandbox.fault_hits() == [1]
    mount.alive()


@pytest.mark.parametrize("role", ["download", "storage"])
@pytest.mark.parametrize("name", DOWNLOAD_TROUBLE)
def test_download_lasting(mount: Mount, source: tuple[Path, bytes], role: str, name: str) -> None:
    """Trouble that stays: EIO or ETIMEDOUT within the deadline, never other bytes; right when it is over."""
    path, data = source
    mount.sandbox.set_faults([rule(name, role=role)])
    with within(2 * AT_MOST):
        number = errno_of(path.read_bytes)
    assert number in {errno.EIO, errno.ETIMEDOUT}, errno.errorcode[number]
    mount.alive()
    mount.sandbox.set_faults([])
    wait_until(lambda: errno_free(path.read_bytes), 15)
    assert path.read_bytes() == data


def test_download_not_found(mount: Mount, source: tuple[Path, bytes]) -> None:
    """A file that is gone: an error, no bytes."""
    path, _ = source
    mount.sandbox.set_faults([rule("404", role="download")])
    with within(2 * AT_MOST):
        number = errno_of(path.read_bytes)
    assert number in {errno.ESTALE, errno.ENOENT, errno.EIO}, errno.errorcode[number]
    mount.alive()


def test_cut_again_and_again(mount: Mount, source: tuple[Path, bytes]) -> None:
    """Bodies that are always cut somewhere: what did arrive is not asked for again; the bytes are right."""
    path, data = source
    mount.sandbox.set_faults([{"action": "cut", "bytes": 700_001, "role": "storage"}])
    with within(30):
        assert path.read_bytes() == data


def test_persistent_errors_end(make_mount: MakeMount) -> None:
    """5xx to the end of the patience, before the deadline: EIO; not one request more than a few."""
    mount = make_mount()
    mount.claim("WARNING")
    mount.sandbox.set_faults([rule("500", role="api", method="GET", path=LISTING)])
    began = time.monotonic()
    assert errno_of(lambda: os.listdir(mount.articles)) == errno.EIO
    assert time.monotonic() - began < 30
    assert len(mount.sandbox.requests("api", "GET", LISTING)) <= 6
    mount.alive()
    mount.sandbox.set_faults([])
