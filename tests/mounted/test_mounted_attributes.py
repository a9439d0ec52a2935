"""Extended attributes through a real mount, as getfattr, rsync and cp see them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import FIGFS, Article, MakeMount, errno_of, new_article, run, title_of

DATA = b"n,value\n1,2\n" * 100
FILES = {"a.csv": DATA, "folder/b.csv": DATA * 2}


@pytest.fixture
def article(make_mount: MakeMount, request: pytest.FixtureRequest) -> Article:
    found = new_article(make_mount("--grace", "0.2"), title_of(request))
    found.put(FILES)
    return found


def test_getfattr(article: Article, needs: Callable[..., None]) -> None:
    """``-d`` shows what Figshare has; the rest is read by name. No request."""
    needs("getfattr")
    [remote] = [file for file in article.sandbox.article(article.title)["files"] if file["name"] == "a.csv"]
    article.sandbox.clear_requests()
    shown = run("getfattr", "-d", "--absolute-names", article / "a.csv").stdout.splitlines()[1:]
    found = dict(line.split("=", 1) for line in shown if line)
    assert found.pop("user.figshare.url").startswith('"http')
    assert found == {
        "user.figshare.id": f'"{remote["id"]}"',
        "user.figshare.md5": f'"{remote["md5"]}"',
        "user.figshare.status": '"draft"',
    }
    shown_id = run("getfattr", "-n", "user.figshare.id", "--only-values", article.path).stdout
    assert shown_id == str(article.id)
    assert run("getfattr", "-n", "user.figshare.state", "--only-values", article.path).stdout == "clean"
    assert article.sandbox.requests("api") == []


def synchronise(source: Path, target: Path) -> str:
    """``rsync -aX``; exit code 0, and what it says it has done."""
    return run("rsync", "-aX", "-i", f"{source}/", f"{target}/").stdout


def test_rsync_takes_attributes_from_the_mount(article: Article, tmp_path: Path) -> None:
    """Twice; what was copied bears them; the second time nothing is to do."""
    copy = tmp_path / "copy"
    synchronise(article.path, copy)
    assert {name: (copy / name).read_bytes() for name in FILES} == FILES
    kept = {name: os.getxattr(copy / "a.csv", name) for name in os.listxattr(copy / "a.csv")}
    assert kept["user.figshare.status"] == b"draft"
    assert synchronise(article.path, copy) == ""


def test_rsync_brings_attributes_to_the_mount(article: Article, tmp_path: Path) -> None:
    """Neither what a source lacks nor what it has of another file makes it fail; twice."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a.csv").write_bytes(DATA)
    (source / "c.csv").write_bytes(DATA * 3)
    os.setxattr(source / "c.csv", "user.origin", b"lab")
    os.setxattr(source / "c.csv", "user.figshare.id", b"17")
    for _ in range(2):
        synchronise(source, article.path)
    article.holds({**FILES, "c.csv": DATA * 3})
    assert os.getxattr(article / "c.csv", "user.origin") == b"lab"
    assert os.getxattr(article / "c.csv", "user.figshare.id") != b"17"


def test_there_and_back_again(article: Article, tmp_path: Path) -> None:
    """Out, changed there, and back: what the copies bear is old by then."""
    copy = tmp_path / "copy"
    synchronise(article.path, copy)
    (copy / "a.csv").write_bytes(DATA * 5)
    for _ in range(2):
        synchronise(copy, article.path)
    article.holds({**FILES, "a.csv": DATA * 5})
    run("cp", "-a", copy / "a.csv", article / "d.csv")
    run("cp", "-a", article / "a.csv", article / "e.csv")
    run("mv", copy / "folder" / "b.csv", article / "f.csv")
    article.holds({**FILES, "a.csv": DATA * 5, "d.csv": DATA * 5, "e.csv": DATA * 5, "f.csv": DATA * 2})


def test_noxattr(make_mount: MakeMount, request: pytest.FixtureRequest) -> None:
    """EOPNOTSUPP for what would be ENODATA: the kernel answers so by itself, once it has heard ENOSYS."""
    article = new_article(make_mount("-o", "noxattr"), title_of(request))
    assert errno_of(lambda: os.listxattr(article.path)) == errno.EOPNOTSUPP
    assert errno_of(lambda: os.getxattr(article.path, "user.figshare.id")) == errno.EOPNOTSUPP
    assert errno_of(lambda: os.setxattr(article.path, "user.x", b"y")) == errno.EOPNOTSUPP
    article.put({"f": DATA})
    article.shows({"f": DATA})


def test_pins_of_a_mount_without_extended_attributes(
    make_mount: MakeMount, request: pytest.FixtureRequest
) -> None:
    """README: the mount itself is asked; what Figshare does not have yet is told."""
    mount = make_mount("-o", "noxattr", "--close-timeout", "0")
    article = new_article(mount, title_of(request))
    (article.path / "folder").mkdir()
    for name in ("f", "folder/g"):
        (article / name).write_bytes(DATA)
    article.will_hold({"f": DATA, "folder/g": DATA})
    wait = [*FIGFS, "wait", "--state-dir", mount.state, mount.path]
    run(*wait, env=mount.environment())
    mount.sandbox.set_faults([{"role": "upload", "method": "PUT", "action": "status", "status": 503}])
    mount.claim("again in", "503")
    (article / "pending").write_bytes(DATA)

    def pins(word: str, *more: str, code: int = 0) -> str:
        where = ("--state-dir", str(mount.state))
        done = run(*FIGFS, word, *where, *more, article.path, env=mount.environment(), code=code)
        return done.stdout + done.stderr

    told = pins("pin", "--no-fetch", code=1)
    assert "2 files pinned" in told
    assert f"{article.path}/pending: Figshare does not have it yet" in told
    assert len(list((mount.base / "cache" / "pins").iterdir())) == 1  # one content
    assert "2 files unpinned" in pins("unpin", code=1)
    assert not list((mount.base / "cache" / "pins").iterdir())
    told = run(*FIGFS, "pin", article.path, env=mount.environment(), code=1).stderr
    assert "does not tell its state directory: name it with --state-dir" in told
    mount.sandbox.set_faults([])
    run(*wait, env=mount.environment())
