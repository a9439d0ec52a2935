"""Editors, under a pseudo-terminal; and the sequences of those that need a display (programs.md §2).

A save is one upload, under the final name; swap files, probes and backups leave no trace.
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from processes import (
    Article,
    children,
    run,
    stored,
)
from samples import NEW, OLD, MakeMount, Needs, attributes
from terminal import Terminal

TEXT = b"first line\nsecond line\n"


def vim(*settings: str) -> list[str]:
    """Without anybody's configuration; and without ``backupskip``, which would spare /tmp the whole dance."""
    program = "vim" if shutil.which("vim") else "vim.tiny"  # which Debian installs without being asked
    options = ["backupskip=", "nocompatible", "swapfile", "writebackup", "shortmess=", *settings]
    return [
        program,
        "-u",
        "NONE",
        "-i",
        "NONE",
        *(word for each in options for word in ("--cmd", f"set {each}")),
    ]


needs_vim = pytest.mark.usefixtures("has_vim")


@pytest.fixture
def has_vim(needs: Needs) -> None:
    if shutil.which("vim.tiny") is None:
        needs("vim")


@needs_vim
@pytest.mark.parametrize("copy", ["auto", "yes", "no"])
def test_vim(article: Article, tmp_path: Path, copy: str) -> None:
    """``:wq`` of a stored file, with each of vim's ways to make its backup: one upload."""
    article.put({"f": TEXT})
    with Terminal(*vim(f"backupcopy={copy}"), "f", cwd=article.path, home=tmp_path) as terminal:
        terminal.see("second line")
        terminal.keys("Gothird line\x1b:wq\r")
    article.shows({"f": TEXT + b"third line\n"})
    article.will_hold({"f": TEXT + b"third line\n"})
    assert article.uploads() == 1


@needs_vim
def test_vim_new_file(article: Article, tmp_path: Path) -> None:
    """A new file, saved three times: the last is there; one upload a save."""
    with Terminal(*vim(), "f.txt", cwd=article.path, home=tmp_path) as terminal:
        terminal.see("f.txt")
        terminal.keys("ione\x1b:w\r")
        terminal.see("written")
        terminal.keys("otwo\x1b:w\r")
        terminal.see("written")
        assert (article / "f.txt").read_bytes() == b"one\ntwo\n"
        terminal.keys("othree\x1b:wq\r")
    article.shows({"f.txt": b"one\ntwo\nthree\n"})
    article.will_hold({"f.txt": b"one\ntwo\nthree\n"})
    assert article.uploads() == 3


@needs_vim
def test_vim_reads_only(article: Article, tmp_path: Path) -> None:
    """``:q`` and ``:q!``: no upload, no trace of the swap file."""
    article.put({"f": TEXT})
    with Terminal(*vim(), "f", cwd=article.path, home=tmp_path) as terminal:
        terminal.see("second line")
        terminal.keys(":q\r")
    with Terminal(*vim(), "f", cwd=article.path, home=tmp_path) as terminal:
        terminal.see("second line")
        terminal.keys("oto be dropped\x1b:q!\r")
    article.shows({"f": TEXT})
    article.holds({"f": TEXT})
    assert article.uploads() == 0


@needs_vim
def test_vim_keeps_mode_and_finds_its_swap_file(article: Article, tmp_path: Path) -> None:
    """The mode stays; a second vim on the same file is warned of the first."""
    article.put({"f": TEXT})
    (article / "f").chmod(0o755)
    with Terminal(*vim(), "f", cwd=article.path, home=tmp_path) as first:
        first.see("second line")
        first.keys("ix\x1b")
        with Terminal(*vim(), "f", cwd=article.path, home=tmp_path, code=1) as second:
            second.see("swap file")
            second.keys("q")
        first.keys(":wq\r")
    article.will_hold({"f": b"x" + TEXT})
    assert (article / "f").stat().st_mode & 0o777 == 0o755
    assert article.uploads() == 1


@needs_vim
def test_ex_script(article: Article) -> None:
    """``vim -es``, as scripts use it: one upload."""
    article.put({"f": TEXT})
    run(*vim(), "-es", "-c", "%s/line/LINE/", "-c", "wq", "f", cwd=article.path)
    article.will_hold({"f": TEXT.replace(b"line", b"LINE")})
    assert article.uploads() == 1


@needs_vim
def test_vim_with_a_kept_backup(make_mount: MakeMount) -> None:
    """``set backup``: the old version stays as ``f~``; both are on Figshare when the mount has ended."""
    mount = make_mount("--grace", "1")
    directory = mount.articles / "Kept backups"
    directory.mkdir()
    (directory / "f").write_bytes(TEXT)
    run(*vim("backup"), "-es", "-c", "%s/line/LINE/", "-c", "wq", "f", cwd=directory)
    changed = TEXT.replace(b"line", b"LINE")
    assert children(directory) == {"f": changed, "f~": TEXT}
    mount.unmount()
    assert mount.sandbox.remote_files("Kept backups") == stored({"f": changed, "f~": TEXT})


def test_nano(article: Article, tmp_path: Path, needs: Needs) -> None:
    """nano with a lock file: a new file, then a stored one: one upload a save."""
    needs("nano")
    with Terminal("nano", "-I", "-G", "f.txt", cwd=article.path, home=tmp_path) as terminal:
        terminal.see("New File")
        terminal.keys("one\x0f")
        terminal.see("File Name to Write")
        terminal.keys("\r")
        terminal.see("Wrote")
        terminal.keys("\x18")
    article.holds({"f.txt": b"one\n"})
    assert article.uploads() == 1
    with Terminal("nano", "-I", "-G", "f.txt", cwd=article.path, home=tmp_path) as terminal:
        terminal.see("one")
        terminal.keys("zero \x18")
        terminal.see("Save modified buffer")
        terminal.keys("y")
        terminal.see("File Name to Write")
        terminal.keys("\r")
    article.shows({"f.txt": b"zero one\n"})
    article.will_hold({"f.txt": b"zero one\n"})
    assert article.uploads() == 2


def test_ed(article: Article, needs: Needs) -> None:
    """ed, the oldest: truncates and writes."""
    needs("ed")
    article.put({"f": TEXT})
    run("ed", "-s", "f", cwd=article.path, stdin=b"2d\nw\nq\n")
    article.will_hold({"f": b"first line\n"})
    assert article.uploads() == 1


# -- the sequences of programs that need a display, or half a gigabyte ---------------------------
# As measured (programs.md §2), call by call.


def write(path: Path, data: bytes, flags: int = os.O_CREAT | os.O_EXCL, *, sync: bool = False) -> None:
    descriptor = os.open(path, os.O_WRONLY | flags, 0o644)
    try:
        assert os.write(descriptor, data) == len(data)
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("lock", ["symlink", "file"])
def test_emacs(lock: str, article: Article) -> None:
    """A lock (symlink or file) that stays here; NAME -> NAME~, NAME anew, fsync, a clean open; NAME~ goes."""
    article.put({"f": TEXT})
    if lock == "symlink":
        (article / ".#f").symlink_to("somebody@host.17:1")
        assert os.readlink(article / ".#f") == "somebody@host.17:1"
    else:
        write(article / ".#-emacsa1B2c3", b"somebody@host.17:1")
        (article / ".#-emacsa1B2c3").replace(article / ".#f")
    (article / "f").rename(article / "f~")
    write(article / "f", NEW, sync=True)
    write(article / "f", b"", 0)
    (article / ".#f").unlink()
    (article / "f~").unlink()
    article.shows({"f": NEW})
    article.will_hold({"f": NEW})
    assert article.uploads() == 1


def test_emacs_save_that_fails(article: Article) -> None:
    """Renamed to the backup and back, nothing written: no request at all."""
    article.put({"f": TEXT})
    (article / "f").rename(article / "f~")
    (article / "f~").rename(article / "f")
    time.sleep(1.5)  # the grace of the shared mount is over
    article.holds({"f": TEXT})
    assert article.uploads() == 0


@pytest.mark.parametrize("exists", [True, False], ids=["over", "new"])
def test_libreoffice(article: Article, exists: bool) -> None:
    """Lock file, luXXXX.tmp, renamed over, or copied if NAME is new; then RDWR, fsync without a change."""
    if exists:
        article.put({"d.odt": OLD})
    write(article / ".~lock.d.odt#", b",me,host,;")
    temporary = article / "lu1234567abcd.tmp"
    write(temporary, b"")
    write(temporary, NEW, 0, sync=True)
    if exists:
        temporary.rename(article / "d.odt")
    else:
        shutil.copyfile(temporary, article / "d.odt")
        temporary.unlink()
    descriptor = os.open(article / "d.odt", os.O_RDWR)
    os.fsync(descriptor)
    os.close(descriptor)
    (article / ".~lock.d.odt#").unlink()
    article.shows({"d.odt": NEW})
    article.will_hold({"d.odt": NEW})
    assert article.uploads() == 1


def test_kio_over(article: Article) -> None:
    """Dolphin, kioclient: NAME.part, chown, times, UNLINK NAME, RENAME: one upload."""
    article.put({"f.csv": OLD})
    write(article / "f.csv.part", NEW, os.O_CREAT | os.O_TRUNC)
    os.chown(article / "f.csv.part", os.getuid(), os.getgid())
    (article / "f.csv.part").chmod(0o644)
    os.utime(article / "f.csv.part", (1_400_000_000, 1_400_000_000))
    (article / "f.csv").unlink()
    (article / "f.csv.part").rename(article / "f.csv")
    article.shows({"f.csv": NEW})
    article.will_hold({"f.csv": NEW})
    assert article.uploads() == 1
    assert (article / "f.csv").stat().st_mtime == 1_400_000_000


def test_kio_new(article: Article) -> None:
    """Dolphin, kioclient copying in: mode before the content, times before the close, chown after it."""
    descriptor = os.open(article / "f.csv", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    (article / "f.csv").chmod(0o640)
    os.write(descriptor, NEW)
    os.utime(article / "f.csv", (1_400_000_000, 1_400_000_000))
    os.close(descriptor)
    os.chown(article / "f.csv", os.getuid(), os.getgid())
    article.holds({"f.csv": NEW})
    assert article.uploads() == 1
    assert attributes(article.path) == {"f.csv": (0o640, 1_400_000_000 * 10**9)}


def test_qt_copy(article: Article) -> None:
    """QFile::copy: qt_temp.XXXXXX, fsync, RENAME with NOREPLACE: one upload; a second one is refused."""
    for name, data in (("qt_temp.AbCdEf", NEW), ("qt_temp.GhIjKl", OLD)):
        write(article / name, data, sync=True)
        run("mv", "-n", name, "f", cwd=article.path, code=None)
    article.shows({"f": NEW, "qt_temp.GhIjKl": OLD})
    (article / "qt_temp.GhIjKl").unlink()
    article.will_hold({"f": NEW})
    assert article.uploads() == 1


def test_qt_save_file(article: Article) -> None:
    """QSaveFile: NAME.XXXXXX, fsync, RENAME over. Its name may be an extension: at most one upload more."""
    article.put({"f.conf": OLD})
    write(article / "f.conf.xQzRtB", NEW, sync=True)
    (article / "f.conf.xQzRtB").replace(article / "f.conf")
    article.shows({"f.conf": NEW})
    article.will_hold({"f.conf": NEW})
    assert article.uploads() <= 2


@pytest.mark.parametrize("temporary", ["a.zip.part", "a.zip.crdownload", "Unconfirmed 1234.crdownload"])
def test_browser_download(article: Article, temporary: str) -> None:
    """Firefox (an empty placeholder beside it), Chrome: renamed over when complete: one upload."""
    if temporary == "a.zip.part":
        (article / "a.zip").touch()
    with (article / temporary).open("wb", buffering=0) as stream:
        for start in range(0, len(NEW), 8192):
            stream.write(NEW[start : start + 8192])
    (article / temporary).replace(article / "a.zip")
    article.shows({"a.zip": NEW})
    article.will_hold({"a.zip": NEW})
    assert article.uploads() == 1


def test_editors_that_truncate(article: Article) -> None:
    """VS Code, node: open with O_TRUNC, ftruncate(0), write, fsync: one upload a save."""
    article.put({"f": OLD})
    descriptor = os.open(article / "f", os.O_WRONLY | os.O_TRUNC)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, NEW)
    os.fsync(descriptor)
    os.close(descriptor)
    article.will_hold({"f": NEW})
    assert article.uploads() == 1


def test_tag_editor(article: Article) -> None:
    """taglib: RDWR, reads, closes; then a few bytes in place: only the second is an upload."""
    article.put({"f.mp3": OLD})
    with (article / "f.mp3").open("r+b") as stream:
        assert stream.read(100) == OLD[:100]
    assert article.uploads() == 0
    with (article / "f.mp3").open("r+b") as stream:
        stream.seek(-128, os.SEEK_END)
        stream.write(b"TAG")
    article.will_hold({"f.mp3": OLD[:-128] + b"TAG" + OLD[-125:]})
    assert article.uploads() == 1


def test_file_managers_of_the_mac_and_windows(article: Article) -> None:
    """Their litter stays here."""
    for name in (".DS_Store", "._f", "Thumbs.db", "desktop.ini"):
        write(article / name, b"litter")
    write(article / "f", NEW)
    article.holds({"f": NEW})
    assert article.uploads() == 1
    for name in (".DS_Store", "._f", "Thumbs.db", "desktop.ini"):
        (article / name).unlink()
