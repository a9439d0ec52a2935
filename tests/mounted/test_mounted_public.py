"""``public/`` through a real mount, and ``figfs mount --public``, which knows no token."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from processes import MakeMount, Mount, Sandbox, errno_of, names, run, shell

FROGS = 20000005
DOI = f"doi/10.6084/m9.figshare.{FROGS}"


class Public(Mount):
    """A mount with no token anywhere."""

    def environment(self) -> dict[str, str]:
        found = super().environment()
        del found["FIGFS_TOKEN"]
        return found


def test_a_public_article_by_its_doi_without_a_token(
    make_sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    """README: ``figfs mount --public`` shows what anyone may read; nothing asked for needs a token."""
    sandbox = make_sandbox("example")
    mount = Public(sandbox, tmp_path / "mount", ["--public"])
    try:
        mount.start()
        assert names(mount.path) == {"public", "search"}
        path = mount / "public"
        assert names(path) == {"articles", "projects", "collections", "doi"}
        assert names(path / "articles") == set()
        assert os.readlink(path / DOI) == f"../../articles/{FROGS}"
        assert names(path / DOI) == {"README.txt", "annotations.csv", "calls_2019.zip"}
        assert (path / f"{DOI}.v1" / "README.txt").read_text() == "Recordings of 2019.\n"
        assert len((path / DOI / "calls_2019.zip").read_bytes()) == 3_200_000
        for act in (
            lambda: (path / DOI / "new").write_bytes(b"x"),
            lambda: (path / DOI / "README.txt").write_bytes(b"x"),
            lambda: (path / DOI / "README.txt").unlink(),
            lambda: os.chmod(path / DOI / "README.txt", 0o600),
            lambda: (mount.path / "search/new").write_bytes(b"x"),
        ):
            assert errno_of(act) == errno.EROFS
        assert errno_of((mount.path / "new").mkdir) == errno.EPERM
        query = mount.path / "search/:title: frog"
        query.mkdir()
        [link] = query.iterdir()
        assert os.readlink(link) == f"../../public/articles/{FROGS}"
        assert names(link) == {"README.txt", "annotations.csv", "calls_2019.zip"}
        query.rmdir()
        assert errno_of(lambda: os.listdir(mount.path / "articles")) == errno.ENOENT
        assert errno_of(lambda: os.listdir(path / "doi/10.5281/zenodo.1")) == errno.ENOENT
        assert "has the DOI 10.5281/zenodo.1" in mount.log()
        assert not [entry for entry in sandbox.requests() if "/account" in entry["path"]]
        assert all(entry["status"] != 401 for entry in sandbox.requests())
        mount.claim("no public item of", "no public article 1:")
    finally:
        mount.end()


def test_programs_read_public_items(
    make_sandbox: Callable[..., Sandbox], make_mount: MakeMount, needs: Callable[..., None]
) -> None:
    """README: ``diff -r`` of two versions; ``find``, ``du``, ``rsync -a`` work; nothing can be written."""
    needs("rsync", "diff")
    sandbox = make_sandbox("example")
    mount = make_mount(sandbox=sandbox)
    public = mount / "public"
    sandbox.clear_requests()
    assert names(public / f"articles/{FROGS}") == {"README.txt", "annotations.csv", "calls_2019.zip"}
    assert len(sandbox.requests("api")) <= 3
    told = shell('diff -r "$1.v1" "$1.v2"', f"articles/{FROGS}", cwd=public, code=1)
    assert "< Recordings of 2019.\n" in told
    assert f"Only in articles/{FROGS}.v2: annotations.csv" in told
    copy = mount.base / "copy"
    run("rsync", "-a", f"{public}/articles/{FROGS}/", f"{copy}/")
    assert run("rsync", "-ai", f"{public}/articles/{FROGS}/", f"{copy}/").stdout == ""
    assert names(copy) == names(public / f"articles/{FROGS}")
    assert "3.1M" in shell("du -h --apparent-size articles/$1/calls_2019.zip", str(FROGS), cwd=public)
    assert shell("find . -type f", cwd=public) == ""
    assert os.stat(copy / "README.txt").st_mode & 0o777 == 0o444
    for script in ("touch $1/README.txt", "mkdir $1/new", "rm -f $1/README.txt", "ln -s x $1/link"):
        done = run("bash", "-c", script, "bash", f"{public}/articles/{FROGS}", code=1)
        assert "Read-only file system" in done.stderr
    sandbox.clear_requests()
    shell('cat "$1.v1/README.txt"; ls "$1.v1"', f"articles/{FROGS}", cwd=public)
    assert sandbox.requests("api") == []
