"""Copying and moving: cp, mv, install, rm (programs.md §2)."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest
from processes import (
    Article,
    Mount,
    children,
    content,
    run,
    shell,
    stored,
    wait_until,
    write_tree,
)
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


# -- other ways of cp, mv and install ------------------------------------------------------------


def test_cp_p(article: Article, file: Path) -> None:
    """``cp -p`` over a stored file: mode and time of the source."""
    article.put({"file.bin": OLD})
    file.chmod(0o751)
    os.utime(file, ns=(1_400_000_000_000_000_000, 1_400_000_000_123_456_789))
    run("cp", "-p", file, article.path)
    article.will_hold({"file.bin": NEW})
    assert attributes(article.path) == {"file.bin": (0o751, 1_400_000_000_123_456_789)}
    assert article.uploads() == 1


def test_cp_a_over(article: Article, tree: Path) -> None:
    """``cp -a`` over an article that has it: nothing to upload; then one file changed: one upload."""
    article.put(TREE)
    run("cp", "-a", f"{tree}/.", article.path)
    article.holds(TREE)
    assert article.uploads() == 0
    assert attributes(article.path) == attributes(tree)
    (tree / "data/2019/a.csv").write_bytes(NEW)
    run("cp", "-a", f"{tree}/.", article.path)
    article.will_hold(TREE | {"data/2019/a.csv": NEW})
    assert article.uploads() == 1
    assert attributes(article.path) == attributes(tree)


@pytest.mark.parametrize("option", ["-n", "-u"])
def test_cp_that_skips(article: Article, file: Path, option: str) -> None:
    """``cp -n`` (never over), ``cp -u`` (only over older ones): what is there stays, no upload."""
    article.put({"file.bin": OLD})
    os.utime(file, (1_000_000_000, 1_000_000_000))
    run("cp", option, file, article.path, code=None)  # later versions of -n end with 1
    article.holds({"file.bin": OLD})
    assert article.uploads() == 0


def test_cp_force_and_remove(article: Article, file: Path) -> None:
    """``cp --remove-destination`` (UNLINK, CREATE): one replacement."""
    article.put({"file.bin": OLD})
    run("cp", "--remove-destination", file, article.path)
    article.will_hold({"file.bin": NEW})
    assert article.uploads() == 1


def test_cp_inside(article: Article) -> None:
    """``cp`` of a stored file to another name: a file of its own."""
    article.put({"a": OLD})
    run("cp", "a", "b", cwd=article.path)
    article.holds({"a": OLD, "b": OLD})
    assert article.uploads() == 1


def test_cp_sparse(article: Article, tmp_path: Path) -> None:
    """``cp --sparse=always``: holes become zeros, the size is exact though the end is a hole."""
    data = b"start" + bytes(200_000) + b"middle" + bytes(200_000)
    (tmp_path / "f").write_bytes(data)
    run("cp", "--sparse=always", tmp_path / "f", article.path)
    article.will_hold({"f": data})
    assert article.uploads() == 1


def test_cp_with_links(article: Article, tmp_path: Path) -> None:
    """``cp -rL`` follows links; ``cp -l`` cannot make hard links, and says so."""
    source = write_tree(tmp_path / "source", {"a": OLD})
    (source / "b").symlink_to("a")
    run("cp", "-rL", f"{source}/.", article.path)
    article.holds({"a": OLD, "b": OLD})
    failed = run("cp", "-l", "a", "c", cwd=article.path, code=1)
    assert "Operation not permitted" in failed.stderr
    article.shows({"a": OLD, "b": OLD})


def test_cp_out_keeps_times(article: Article, tree: Path, tmp_path: Path) -> None:
    """``cp -a`` in, and out again: content, times and modes."""
    run("cp", "-a", f"{tree}/.", article.path)
    run("cp", "-a", article.path, tmp_path / "out")
    assert children(tmp_path / "out") == TREE
    assert attributes(tmp_path / "out") == attributes(tree)


def test_mv_out(article: Article, tmp_path: Path) -> None:
    """``mv`` of stored files out of the mount: here the bytes, on Figshare nothing."""
    article.put(TREE)
    (tmp_path / "out").mkdir()
    run("mv", *article.path.iterdir(), tmp_path / "out")
    assert children(tmp_path / "out") == TREE
    article.shows({})
    article.will_hold({})
    assert article.uploads() == 0


def test_mv_of_a_fresh_file(article: Article, file: Path) -> None:
    """``cp`` and at once ``mv``, twice: one file, under the last name."""
    run("cp", file, article / "a")
    run("mv", article / "a", article / "b")
    run("mv", article / "b", article / "c")
    article.shows({"c": NEW})
    article.will_hold({"c": NEW})


def test_mv_swap(article: Article) -> None:
    """Two files change names by way of a third one."""
    article.put({"a": OLD, "b": NEW})
    shell("mv a c && mv b a && mv c b", cwd=article.path)
    article.shows({"a": NEW, "b": OLD})
    article.will_hold({"a": NEW, "b": OLD})


def test_mv_n(article: Article) -> None:
    """``mv -n`` (RENAME_NOREPLACE): what is there stays."""
    article.put({"a": OLD, "b": NEW})
    run("mv", "-n", article / "a", article / "b", code=None)
    article.shows({"a": OLD, "b": NEW})
    assert not article.sandbox.requests("api", path=f"/articles/{article.id}/files")


def test_mv_then_a_new_file(article: Article, file: Path) -> None:
    """``mv a b; cp f a``: both, under the names they have here."""
    article.put({"file.bin": OLD})
    shell('mv file.bin older.bin && cp "$1" .', file, cwd=article.path)
    article.shows({"older.bin": OLD, "file.bin": NEW})
    article.will_hold({"older.bin": OLD, "file.bin": NEW})


def test_install_over(article: Article, file: Path) -> None:
    """``install`` over a stored file (UNLINK, CREATE, chmod after the close); ``-C`` of the same: nothing."""
    article.put({"f": OLD})
    run("install", "-m", "755", file, article / "f")
    article.will_hold({"f": NEW})
    assert article.uploads() == 1
    run("install", "-C", "-m", "755", file, article / "f")
    run("install", "-m", "755", file, article / "f")
    article.will_hold({"f": NEW})
    assert article.uploads() == 1


def test_install_directories(article: Article, file: Path) -> None:
    """``install -D``: with the folders on the way; ``-p``: with its time."""
    os.utime(file, (1_400_000_000, 1_400_000_000))
    run("install", "-D", "-p", file, article / "a/b/f")
    article.holds({"a/b/f": NEW})
    assert (article / "a/b/f").stat().st_mtime == 1_400_000_000
    assert article.uploads() == 1


def test_rm_and_find(article: Article) -> None:
    """``rm`` of one, ``find -delete`` of some: these go, the others stay."""
    article.put(TREE)
    run("rm", article / "read me.txt")
    run("find", article.path, "-name", "*.csv", "-delete")
    left = {name: TREE[name] for name in ("data/naïve café.bin", "plots/deep/er/x.png")}
    article.shows(left)
    article.will_hold(left)
    assert article.uploads() == 0


def test_shred(article: Article) -> None:
    """``shred -u``: written over, fsynced, renamed again and again, unlinked: nothing is left or uploaded."""
    article.put({"f": OLD})
    run("shred", "-u", "-n", "1", article / "f")
    article.shows({})
    article.will_hold({})


def test_programs_at_once(article: Article, tmp_path: Path) -> None:
    """Eight copies at the same time: all there, one upload each."""
    files = {f"f{n}": content(str(n), 100_000) for n in range(8)}
    source = write_tree(tmp_path / "source", files)
    shell('for f in "$1"/*; do cp "$f" . & done; wait', source, cwd=article.path)
    article.holds(files)
    assert article.uploads() == 8


# -- size ------------------------------------------------------------


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
