"""Searches through a real mount: mkdir, ls -l, rmdir, a remount; tools that walk through it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from processes import MakeMount, Sandbox, errno_of, names, run

QUERY = ":title: frog OR :title: radar"
FROGS, RADAR = "Frog calls of the Atlantic forest", "Airborne radar of the same glacier"


def test_a_search(make_mount: MakeMount, make_sandbox: Callable[..., Sandbox], tmp_path: Path) -> None:
    """Own first, then public; the links work; it is there after a remount; tar and rm change nothing."""
    mount = make_mount(sandbox=make_sandbox("example"))
    query = mount / "search" / QUERY
    query.mkdir()
    assert list(os.listdir(query)) == [FROGS, RADAR]
    assert os.readlink(query / FROGS) == f"../../articles/{FROGS}"
    assert os.readlink(query / RADAR).startswith("../../public/articles/")
    assert "README.txt" in names(query / FROGS)
    mount.sandbox.clear_requests()
    run("ls", "-l", query)
    run("tar", "-cf", tmp_path / "search.tar", "-C", mount.path, "search")
    assert mount.sandbox.requests("api", "POST") == []
    for act in (
        lambda: os.unlink(query / FROGS),
        lambda: (query / "x").write_text("x"),
        lambda: os.mkdir(query / "x"),
    ):
        assert errno_of(act) == errno.EROFS
    mount.claim("422")
    assert errno_of(lambda: os.mkdir(mount / "search" / "(frog")) == errno.EINVAL
    mount.remount()
    assert names(mount / "search") == {QUERY}
    assert names(query) == {FROGS, RADAR}
    assert "Read-only file system" in run("rm", "-r", query, code=1).stderr
    run("rmdir", query)
    assert names(mount / "search") == set()
    assert FROGS in names(mount.articles)


def test_on_a_read_only_mount(make_mount: MakeMount) -> None:
    """No query can be made."""
    mount = make_mount("--ro")
    assert errno_of((mount / "search" / "frog").mkdir) == errno.EROFS


def test_the_limit(make_mount: MakeMount) -> None:
    """``-o search-limit``: so many, and no more requests than needed."""
    mount = make_mount("-o", "search-limit=7")
    mount.sandbox.seed(count=30, title="frog")
    mount.sandbox.clear_requests()
    (mount / "search" / "frog").mkdir()
    assert len(names(mount / "search" / "frog")) == 7
    assert len(mount.sandbox.requests("api", "POST", "search")) == 1
