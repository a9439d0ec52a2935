"""Real programs, and the files and uploads that Figshare gets of them ("Seen by" 2, programs.md §2).

Of every program: exit code 0; on Figshare exactly one file for each name, all available, MD5 equal; one
upload for each file that changed. ``holds`` is asked right after the program: what its ``close`` waited for
is there.
"""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import (
    Article,
    Mount,
    children,
    content,
    names,
    run,
    shell,
    stored,
    wait_until,
    write_tree,
)

Needs = Callable[..., None]

OLD = content("old", 30_000)
NEW = content("new", 50_000)
TREE = {
    "read me.txt": b"first\n",
    "data/2019/a.csv": content("a", 4_000),
    "data/2020/a.csv": content("b", 4_000),
    "data/naïve café.bin": content("c", 300_000),
    "plots/deep/er/x.png": content("x", 1),
}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree of files, with times of the past and modes that are not the default."""
    source = write_tree(tmp_path / "tree", TREE)
    for n, path in enumerate(sorted(source.rglob("*"), reverse=True)):
        if path.is_file():
            path.chmod(0o640 if n % 2 else 0o755)
        os.utime(path, ns=(1_500_000_000_000_000_000 + n, 1_500_000_000_123_456_789 + n * 10**9))
    return source


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(NEW)
    return path


# -- coreutils ------------------------------------------------------------


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


def attributes(directory: Path) -> dict[str, tuple[int, int]]:
    """Mode and mtime of all that is below a directory."""
    return {
        str(path.relative_to(directory)): (stat.S_IMODE(path.stat().st_mode), path.stat().st_mtime_ns)
        for path in directory.rglob("*")
    }


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


def test_dd_fsync(article: Article, file: Path) -> None:
    """``dd conv=fsync``: FSYNC does not upload; one upload at close."""
    run("dd", f"if={file}", f"of={article / 'f'}", "bs=4k", "conv=fsync")
    article.holds({"f": NEW})
    assert article.uploads() == 1


def test_dd_seek_notrunc(article: Article) -> None:
    """``dd seek= conv=notrunc`` into a stored file: what was not written stays."""
    article.put({"f": OLD})
    run("dd", f"of={article / 'f'}", "bs=1", "seek=1000", "conv=notrunc", stdin=b"in the middle")
    changed = OLD[:1000] + b"in the middle" + OLD[1013:]
    article.will_hold({"f": changed})
    assert article.uploads() == 1
    article.shows({"f": changed})


def test_dd_seek_past_the_end(article: Article) -> None:
    """``dd seek=`` past the end of a new file: zeros in between."""
    run("dd", f"of={article / 'f'}", "bs=1", "seek=5000", stdin=b"tail")
    article.holds({"f": bytes(5000) + b"tail"})
    assert article.uploads() == 1


def test_redirection(article: Article) -> None:
    """``> f``, twice: the first FLUSH of the shell, before a byte is written, uploads nothing."""
    shell("echo one > f", cwd=article.path)
    article.holds({"f": b"one\n"})
    assert article.uploads() == 1
    shell("/bin/echo two > f", cwd=article.path)
    article.will_hold({"f": b"two\n"})
    assert article.uploads() == 2


def test_append(article: Article) -> None:
    """``>> f`` of a stored file."""
    article.put({"f": OLD})
    shell("echo more >> f", cwd=article.path)
    article.will_hold({"f": OLD + b"more\n"})
    assert article.uploads() == 1
    article.shows({"f": OLD + b"more\n"})


def test_group_redirection(article: Article) -> None:
    """``{ a; b; } > f``: many FLUSHes, one upload of the whole."""
    shell("{ echo a; /bin/echo b; sleep .1; /bin/echo c; } > f", cwd=article.path)
    article.holds({"f": b"a\nb\nc\n"})
    assert article.uploads() == 1


def test_descriptor_of_the_shell(article: Article) -> None:
    """``exec 3> f``: complete when the shell closes it."""
    shell("exec 3> f; echo a >&3; /bin/echo b >&3; exec 3>&-", cwd=article.path)
    article.holds({"f": b"a\nb\n"})
    assert article.uploads() == 1


def test_pipe_into_cat(article: Article, file: Path) -> None:
    """``cat f | cat > g``."""
    shell('cat "$1" | cat > g', file, cwd=article.path)
    article.holds({"g": NEW})
    assert article.uploads() == 1


def test_tee(article: Article) -> None:
    """``tee f g``: two files, two uploads."""
    run("tee", "f", "g", cwd=article.path, stdin=NEW)
    article.holds({"f": NEW, "g": NEW})
    assert article.uploads() == 2


def test_split(article: Article, file: Path) -> None:
    """``split``: ftruncate to 0, write, close, for each piece."""
    run("split", "-b", "20000", file, "piece-", cwd=article.path)
    pieces = {f"piece-a{c}": NEW[n * 20_000 : (n + 1) * 20_000] for n, c in enumerate("abc")}
    article.holds(pieces)
    assert article.uploads() == 3


def test_sort_in_place(article: Article) -> None:
    """``sort -o f f``: open for writing, read, truncate, write."""
    article.put({"f": b"c\nb\na\n"})
    run("sort", "-o", "f", "f", cwd=article.path)
    article.will_hold({"f": b"a\nb\nc\n"})
    assert article.uploads() == 1


def test_sed_in_place(article: Article) -> None:
    """``sed -i`` (sedXXXXXX, renamed over): one upload, under the final name."""
    article.put({"f": b"one two\n"})
    run("sed", "-i", "s/two/three/", "f", cwd=article.path)
    article.shows({"f": b"one three\n"})
    article.will_hold({"f": b"one three\n"})
    # Of sed's random names, three in a hundred could be typed ones; test_write_and_rename has a certain one.
    assert 1 <= article.uploads() <= 2


def test_touch(article: Article) -> None:
    """An empty file stays here; uploaded when it gets content; its time is kept."""
    run("touch", "-d", "2001-02-03 04:05:06 UTC", "f", cwd=article.path)
    assert (article / "f").stat().st_mtime == 981173106
    article.holds({})
    shell("echo now >> f", cwd=article.path)
    article.holds({"f": b"now\n"})
    assert article.uploads() == 1


def test_touch_of_a_stored_file(article: Article) -> None:
    """``utimensat`` on a stored file: kept, no request."""
    article.put({"f": OLD})
    run("touch", "-d", "2001-02-03 04:05:06 UTC", "f", cwd=article.path)
    assert (article / "f").stat().st_mtime == 981173106
    assert article.sandbox.requests() == []


def test_truncate(article: Article) -> None:
    """``truncate`` down, then up."""
    article.put({"f": OLD})
    run("truncate", "-s", "1000", "f", cwd=article.path)
    article.will_hold({"f": OLD[:1000]})
    run("truncate", "-s", "3000", "f", cwd=article.path)
    article.will_hold({"f": OLD[:1000] + bytes(2000)})
    assert article.uploads() == 2
    article.shows({"f": OLD[:1000] + bytes(2000)})


def test_install(article: Article, file: Path) -> None:
    """``install -m``: mode and content."""
    run("install", "-m", "751", file, article / "f")
    article.holds({"f": NEW})
    assert stat.S_IMODE((article / "f").stat().st_mode) == 0o751
    assert article.uploads() == 1


# -- rsync ------------------------------------------------------------
# ``will_hold``: of rsync's random temporary names, one in a hundred could be a typed name, and is uploaded
# after its RENAME instead of in its FLUSH.


def test_rsync_twice(article: Article, tree: Path, needs: Needs) -> None:
    """``rsync -a`` twice: exit 0 both times, the second transfers nothing."""
    needs("rsync")
    run("rsync", "-a", f"{tree}/", article.path)
    article.will_hold(TREE)
    assert article.uploads() == len(TREE)
    article.sandbox.clear_requests()
    assert run("rsync", "-a", "--itemize-changes", f"{tree}/", article.path).stdout == ""
    assert article.uploads() == 0
    assert attributes(article.path) == attributes(tree)
    article.will_hold(TREE)


def test_rsync_changes(article: Article, tree: Path, needs: Needs) -> None:
    """``rsync -a`` over changed files: an upload for each of these, none for the rest."""
    needs("rsync")
    run("rsync", "-a", f"{tree}/", article.path)
    article.sandbox.clear_requests()
    changed = TREE | {"read me.txt": b"second, and longer\n", "data/2019/a.csv": NEW}
    write_tree(tree, {name: changed[name] for name in ("read me.txt", "data/2019/a.csv")})
    run("rsync", "-a", f"{tree}/", article.path)
    article.will_hold(changed)
    assert article.uploads() == 2
    assert run("rsync", "-a", "--itemize-changes", f"{tree}/", article.path).stdout == ""
    article.shows(changed)


def test_rsync_delete(article: Article, tree: Path, needs: Needs) -> None:
    """``rsync -a --delete``: what the source has no more goes, files and folders."""
    needs("rsync")
    run("rsync", "-a", f"{tree}/", article.path)
    shutil.rmtree(tree / "plots")
    (tree / "read me.txt").unlink()
    run("rsync", "-a", "--delete", f"{tree}/", article.path)
    left = {name: data for name, data in TREE.items() if name.startswith("data/")}
    article.shows(left)
    article.will_hold(left)
    assert not (article / "plots").exists()


@pytest.mark.parametrize(
    "option", ["--inplace", "--append-verify", "--no-whole-file", "--partial", "--fsync"]
)
def test_rsync_ways_of_writing(article: Article, tmp_path: Path, option: str, needs: Needs) -> None:
    """rsync's other ways to write a file that has grown: the same result, one upload."""
    needs("rsync")
    source = write_tree(tmp_path / "source", {"f": OLD})
    run("rsync", "-a", f"{source}/", article.path)
    article.will_hold({"f": OLD})
    article.sandbox.clear_requests()
    (source / "f").write_bytes(OLD + NEW)
    run("rsync", "-a", option, f"{source}/", article.path)
    article.will_hold({"f": OLD + NEW})
    assert article.uploads() == 1
    assert run("rsync", "-a", "-i", f"{source}/", article.path).stdout == ""


def test_rsync_delay_updates(article: Article, tree: Path, needs: Needs) -> None:
    """``--delay-updates``: by way of ``.~tmp~``, which leaves no trace."""
    needs("rsync")
    run("rsync", "-a", "--delay-updates", f"{tree}/", article.path)
    article.will_hold(TREE)
    article.shows(TREE)
    assert article.uploads() == len(TREE)
    assert run("rsync", "-a", "--delay-updates", "-i", f"{tree}/", article.path).stdout == ""


def test_rsync_from_another_machine(article: Article, tree: Path, needs: Needs) -> None:
    """What Figshare has already, with other times: no upload, the times are kept."""
    needs("rsync")
    article.put(TREE)
    run("rsync", "-a", f"{tree}/", article.path)
    article.will_hold(TREE)
    assert article.uploads() == 0
    assert run("rsync", "-a", "-i", f"{tree}/", article.path).stdout == ""


def test_rsync_remove_source_files(article: Article, tree: Path, needs: Needs) -> None:
    """``--remove-source-files``: the source goes only when Figshare has it."""
    needs("rsync")
    run("rsync", "-a", "--remove-source-files", f"{tree}/", article.path)
    article.will_hold(TREE)
    assert children(tree) == {}


def test_rsync_out(article: Article, tmp_path: Path, needs: Needs) -> None:
    """``rsync -a`` out of the mount, twice."""
    needs("rsync")
    article.put(TREE)
    run("rsync", "-a", f"{article.path}/", tmp_path / "out")
    assert children(tmp_path / "out") == TREE
    assert run("rsync", "-ai", f"{article.path}/", tmp_path / "out").stdout == ""


# -- archives ------------------------------------------------------------


def test_tar(article: Article, tree: Path, tmp_path: Path) -> None:
    """``tar x``, new and over: an upload for each file that differs; times and modes of all."""
    run("tar", "cf", tmp_path / "tree.tar", "--format=posix", "-C", tree, ".")
    run("tar", "xf", tmp_path / "tree.tar", cwd=article.path)
    article.holds(TREE)
    assert article.uploads() == len(TREE)
    assert attributes(article.path) == attributes(tree)
    article.sandbox.clear_requests()
    changed = TREE | {"data/2019/a.csv": NEW}
    (tree / "data/2019/a.csv").write_bytes(NEW)
    run("tar", "cf", tmp_path / "tree.tar", "--format=posix", "-C", tree, ".")
    run("tar", "xf", tmp_path / "tree.tar", cwd=article.path)
    article.will_hold(changed)
    article.shows(changed)
    assert article.uploads() == 1


def test_tar_out_and_compressed_in(article: Article, tree: Path, tmp_path: Path) -> None:
    """``tar czf article/t.tar.gz`` (a child writes), and reading it back."""
    run("tar", "czf", article / "t.tar.gz", "-C", tree, ".")
    assert article.uploads() == 1
    assert [name for name, _, _, status in article.remote() if status == "available"] == ["t.tar.gz"]
    (tmp_path / "out").mkdir()
    run("tar", "xzf", article / "t.tar.gz", "-C", tmp_path / "out")
    assert children(tmp_path / "out") == TREE


def test_zip_by_python(article: Article) -> None:
    """An archive whose writer seeks back to its headers: one upload, readable."""
    script = "import sys, zipfile\nwith zipfile.ZipFile(sys.argv[1], 'w') as z: z.writestr('a', 'x' * 9999)"
    run("python3", "-c", script, article / "z.zip")
    assert article.uploads() == 1
    run("python3", "-m", "zipfile", "-t", article / "z.zip")


# -- GIO ------------------------------------------------------------


def test_gio_copy(article: Article, file: Path, needs: Needs) -> None:
    """``gio copy``, new and over: one upload each."""
    needs("gio")
    run("gio", "copy", file, article / "f")
    article.holds({"f": NEW})
    assert article.uploads() == 1
    file.write_bytes(OLD)
    run("gio", "copy", file, article / "f")
    article.will_hold({"f": OLD})
    assert article.uploads() == 2
    article.shows({"f": OLD})


def test_gio_save(article: Article, needs: Needs) -> None:
    """``gio save``, new and over an existing file (FSYNC, RENAME before close): one upload each."""
    needs("gio")
    run("gio", "save", article / "f", stdin=OLD)
    article.holds({"f": OLD})
    run("gio", "save", article / "f", stdin=NEW)
    article.will_hold({"f": NEW})
    assert article.uploads() == 2
    article.shows({"f": NEW})


def test_gio_rename(article: Article, needs: Needs) -> None:
    """``gio rename`` of a stored file."""
    needs("gio")
    article.put({"f": OLD})
    run("gio", "rename", article / "f", "g")
    article.shows({"g": OLD})
    article.will_hold({"g": OLD})


def test_gio_move_in(article: Article, file: Path, needs: Needs) -> None:
    """``gio move`` from another file system: the source goes only when Figshare has it."""
    needs("gio")
    run("gio", "move", file, article / "f")
    article.holds({"f": NEW})
    assert article.uploads() == 1
    assert not file.exists()


def test_gio_remove(article: Article, needs: Needs) -> None:
    """``gio remove`` of a stored file."""
    needs("gio")
    article.put({"f": OLD})
    run("gio", "remove", article / "f")
    article.shows({})
    article.will_hold({})


def test_gio_trash(article: Article, needs: Needs) -> None:
    """``gio trash`` is refused, and the file stays: file managers then offer to delete it for good."""
    needs("gio")
    article.put({"f": OLD})
    run("gio", "trash", article / "f", code=None)
    article.shows({"f": OLD})
    assert not any(name.startswith(".Trash") for name in names(article.mount.path))


# -- Python ------------------------------------------------------------


def test_python_open(article: Article) -> None:
    """``w``, ``a``, ``r+``, ``x`` and truncate of Python's files: one upload for each change."""
    path = article / "f"
    path.write_bytes(OLD)
    with path.open("ab") as stream:
        stream.write(b"appended")
    article.will_hold({"f": OLD + b"appended"})
    with path.open("r+b") as stream:
        stream.seek(10)
        stream.write(b"within")
    expected = OLD[:10] + b"within" + OLD[16:] + b"appended"
    article.will_hold({"f": expected})
    with path.open("r+b") as stream:
        stream.truncate(12)
    article.will_hold({"f": expected[:12]})
    assert article.uploads() == 4
    with pytest.raises(FileExistsError):
        path.open("xb")
    with path.open("r+b") as stream:
        stream.read(3)
    assert article.uploads() == 4
    article.shows({"f": expected[:12]})


def test_shutil_copy2(article: Article, tree: Path) -> None:
    """``shutil.copytree`` (copy2): content, times, modes."""
    shutil.copytree(tree, article.path, dirs_exist_ok=True)
    article.holds(TREE)
    assert article.uploads() == len(TREE)
    assert attributes(article.path) == attributes(tree)


def test_temporary_file(article: Article) -> None:
    """A temporary file unlinked while it is open is never uploaded."""
    script = (
        "import sys, tempfile\n"
        "with tempfile.TemporaryFile(dir=sys.argv[1]) as f: f.write(b'x' * 9); f.flush()\n"
    )
    run("python3", "-c", script, article.path)
    article.holds({})
    assert article.uploads() == 0


@pytest.mark.parametrize(
    "temporary", ["tmpa1b2c3d4", "sedA1b2C3", ".goutputstream-AB12CD", ".f.csv.aB3dE6", "f.csv.part"]
)
def test_write_and_rename(article: Article, temporary: str) -> None:
    """A temporary file renamed over the old one, as programs save: one upload, under the final name."""
    article.put({"f.csv": OLD})
    (article / temporary).write_bytes(NEW)
    (article / temporary).replace(article / "f.csv")
    article.shows({"f.csv": NEW})
    article.will_hold({"f.csv": NEW})
    assert article.uploads() == 1


def test_mmap_writer(article: Article) -> None:
    """Pages written through a shared mapping arrive, though the file was closed before them."""
    script = (
        "import mmap, os, sys\n"
        "fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\n"
        "os.ftruncate(fd, 8192)\n"
        "m = mmap.mmap(fd, 8192); os.close(fd)\n"
        "m[4096:4101] = b'hello'; m.close()\n"
    )
    run("python3", "-c", script, article / "f")
    article.will_hold({"f": bytes(4096) + b"hello" + bytes(8192 - 4101)})


def test_sqlite(article: Article) -> None:
    """A database written in place, with its journal: the database is there, the journal is not."""
    script = (
        "import sqlite3, sys\n"
        "db = sqlite3.connect(sys.argv[1])\n"
        "db.execute('CREATE TABLE t (x)')\n"
        "for n in range(20): db.execute('INSERT INTO t VALUES (?)', (n,)); db.commit()\n"
        "db.close()\n"
    )
    run("python3", "-c", script, article / "d.db")
    data = (article / "d.db").read_bytes()
    article.will_hold({"d.db": data})
    assert data.startswith(b"SQLite format 3")


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
