"""Copying and moving: cp, mv, install, rm (programs.md §2)."""

from __future__ import annotations

import stat
import time
from pathlib import Path

from processes import Article, Mount, children, content, run, stored, wait_until
from samples import NEW, OLD, TREE, attributes


def test_cp(article: Article, file: Path) -> None:
    """``cp f article/``: after exit 0 it is on Figshare, available, MD5 equal."""
    run("cp", file, article.path)
    article.holds({"file.bin": NEW})
    assert article.uploads() == 1
    article.shows({"file.bin": NEW})


def test_cp_over(article: Article, file: Path) -> None:
    """Overwrite: one upload; the old file is gone when cp has ended, and not before."""
    article.put({"file.bin": OLD})
    run("cp", file, article.path)
    article.will_hold({"file.bin": NEW})
    assert article.uploads() == 1
    article.shows({"file.bin": NEW})


def test_cp_the_same_again(article: Article, file: Path) -> None:
    """Same content as is there (size and MD5): no upload."""
    article.put({"file.bin": NEW})
    run("cp", file, article.path)
    article.holds({"file.bin": NEW})
    assert article.uploads() == 0


def test_cp_a(article: Article, tree: Path) -> None:
    """``cp -a`` of a tree: files, folders, times and modes."""
    run("cp", "-a", f"{tree}/.", article.path)
    article.holds(TREE)
    assert article.uploads() == len(TREE)
    article.shows(TREE)
    assert attributes(article.path) == attributes(tree)


def test_cp_r(mount: Mount, tree: Path) -> None:
    """``cp -r`` of a folder into articles/ makes an article of it, its folders included."""
    target = mount.articles / "A folder by cp -r"
    run("cp", "-r", tree, target)
    assert mount.sandbox.remote_files(target.name) == stored(TREE)
    assert children(target) == TREE


def test_cp_out(article: Article, tmp_path: Path) -> None:
    """``cp -r`` out of the mount: the bytes that went in."""
    article.put(TREE)
    run("cp", "-r", article.path, tmp_path / "out")
    assert children(tmp_path / "out") == TREE


def test_mv_in(article: Article, file: Path) -> None:
    """``mv`` from another file system: the source goes only when Figshare has it."""
    run("mv", file, article.path)
    article.holds({"file.bin": NEW})
    assert article.uploads() == 1
    assert not file.exists()


def test_mv_in_over(article: Article, file: Path) -> None:
    """``mv`` over an existing file (UNLINK, then CREATE): one replacement."""
    article.put({"file.bin": OLD})
    run("mv", file, article.path)
    article.will_hold({"file.bin": NEW})
    assert article.uploads() == 1
    assert not file.exists()


def test_mv_in_a_tree(article: Article, tree: Path) -> None:
    """``mv`` of a folder from another file system."""
    run("mv", tree, article.path)
    article.holds({f"tree/{name}": data for name, data in TREE.items()})
    assert article.uploads() == len(TREE)
    assert not tree.exists()


def test_mv_inside(article: Article) -> None:
    """``mv`` of a stored file: the new name at once; moved after the grace; the old one gone."""
    article.put({"a.bin": OLD})
    run("mv", article / "a.bin", article / "b.bin")
    article.shows({"b.bin": OLD})
    article.will_hold({"b.bin": OLD})
    article.shows({"b.bin": OLD})


def test_mv_inside_over(article: Article) -> None:
    """``mv`` of a stored file over another one."""
    article.put({"a.bin": OLD, "b.bin": NEW})
    run("mv", article / "a.bin", article / "b.bin")
    article.shows({"b.bin": OLD})
    article.will_hold({"b.bin": OLD})
    article.shows({"b.bin": OLD})


def test_mv_there_and_back(article: Article) -> None:
    """A rename back within the grace costs nothing."""
    article.put({"a.bin": OLD})
    run("mv", article / "a.bin", article / "b.bin")
    run("mv", article / "b.bin", article / "a.bin")
    time.sleep(1.5)  # the grace of the shared mount is over
    article.holds({"a.bin": OLD})
    assert article.uploads() == 0
    assert not article.sandbox.requests("api", "DELETE", f"/articles/{article.id}/")


def test_mv_into_a_folder(article: Article) -> None:
    """``mv`` of a stored file into another folder."""
    article.put({"a.bin": OLD})
    (article / "sub").mkdir()
    run("mv", article / "a.bin", article / "sub")
    article.will_hold({"sub/a.bin": OLD})
    article.shows({"sub/a.bin": OLD})


def test_mv_of_a_folder(article: Article) -> None:
    """``mv`` of a folder: every file in it moves."""
    article.put({"old/a.bin": OLD, "old/deep/b.bin": NEW})
    run("mv", article / "old", article / "new")
    article.shows({"new/a.bin": OLD, "new/deep/b.bin": NEW})
    article.will_hold({"new/a.bin": OLD, "new/deep/b.bin": NEW})
    article.shows({"new/a.bin": OLD, "new/deep/b.bin": NEW})


def test_mv_into_another_article(article: Article) -> None:
    """``mv`` of a stored file into another article: streamed there, then gone here."""
    article.put({"a.bin": OLD})
    other = article.mount.articles / "Another article for mv"
    other.mkdir()
    run("mv", article / "a.bin", other)
    assert children(other) == {"a.bin": OLD}
    article.will_hold({})
    wait_until(lambda: article.sandbox.remote_files(other.name) == stored({"a.bin": OLD}))


def test_rm_r(article: Article) -> None:
    """``rm -r`` of a draft article with folders: nothing of it is left on Figshare."""
    article.put(TREE)
    run("rm", "-r", article.path)
    assert not article.path.exists()
    wait_until(lambda: not article.sandbox.articles(article.title))


def test_install(article: Article, file: Path) -> None:
    """``install -m``: mode and content."""
    run("install", "-m", "751", file, article / "f")
    article.holds({"f": NEW})
    assert stat.S_IMODE((article / "f").stat().st_mode) == 0o751
    assert article.uploads() == 1


def test_large_file(mount: Mount, tmp_path: Path) -> None:
    """A 300 MB file in and out with equal MD5."""
    path = mount.articles / "Large file"
    path.mkdir()
    block = content("large", 1 << 20)
    with (tmp_path / "large").open("wb") as stream:
        for n in range(300):
            stream.write(n.to_bytes(4, "big") + block[4:])
    began = time.monotonic()
    run("cp", tmp_path / "large", path, timeout=140)
    written = time.monotonic()
    ((name, size, remote_md5, status),) = mount.sandbox.remote_files("Large file")
    expected = run("md5sum", tmp_path / "large").stdout.split()[0]
    assert (name, size, remote_md5, status) == ("large", 300 << 20, expected, "available")
    reading = time.monotonic()
    run("cp", path / "large", tmp_path / "out", timeout=140)
    read = time.monotonic()
    assert run("md5sum", tmp_path / "out").stdout.split()[0] == expected
    print(f"\n300 MiB in: {written - began:.1f} s, out: {read - reading:.1f} s")
    (tmp_path / "large").unlink()
    (tmp_path / "out").unlink()
