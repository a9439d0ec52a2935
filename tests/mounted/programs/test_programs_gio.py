"""GIO, which the file managers of GNOME, Xfce and others copy with (programs.md §2)."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from processes import (
    Article,
    names,
    run,
    shell,
    write_tree,
)
from samples import NEW, OLD, Needs


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


def test_gio_copy_with_attributes(article: Article, file: Path, needs: Needs) -> None:
    """``gio copy -p`` (all attributes, the owner among them): mode and time of the source."""
    needs("gio")
    file.chmod(0o640)
    os.utime(file, (1_400_000_000, 1_400_000_000))
    run("gio", "copy", "-p", file, article / "f")
    article.holds({"f": NEW})
    assert stat.S_IMODE((article / "f").stat().st_mode) == 0o640
    assert (article / "f").stat().st_mtime == 1_400_000_000
    assert article.uploads() == 1


def test_gio_copy_of_several(article: Article, tmp_path: Path, needs: Needs) -> None:
    """``gio copy`` of files into a folder that ``gio mkdir`` has made."""
    needs("gio")
    source = write_tree(tmp_path / "source", {"a": OLD, "b": NEW})
    run("gio", "mkdir", article / "sub")
    run("gio", "copy", source / "a", source / "b", article / "sub")
    article.holds({"sub/a": OLD, "sub/b": NEW})
    assert article.uploads() == 2


def test_gio_copy_inside(article: Article, needs: Needs) -> None:
    """``gio copy`` of a stored file, to a new name and over another stored one."""
    needs("gio")
    article.put({"a": OLD, "b": NEW})
    run("gio", "copy", article / "a", article / "c")
    run("gio", "copy", article / "a", article / "b")
    article.shows({"a": OLD, "b": OLD, "c": OLD})
    article.will_hold({"a": OLD, "b": OLD, "c": OLD})
    assert article.uploads() == 2


def test_gio_copy_out(article: Article, tmp_path: Path, needs: Needs) -> None:
    """``gio copy`` and ``gio cat`` out of the mount."""
    needs("gio")
    article.put({"f": OLD})
    run("gio", "copy", article / "f", tmp_path / "f")
    shell('gio cat f > "$1"', tmp_path / "g", cwd=article.path)
    assert (tmp_path / "f").read_bytes() == (tmp_path / "g").read_bytes() == OLD
    assert article.uploads() == 0


def test_gio_move_over(article: Article, file: Path, needs: Needs) -> None:
    """``gio move`` over a stored file: one replacement, the source gone."""
    needs("gio")
    article.put({"f": OLD})
    run("gio", "move", file, article / "f")
    article.shows({"f": NEW})
    article.will_hold({"f": NEW})
    assert article.uploads() == 1
    assert not file.exists()


def test_gio_move_inside(article: Article, needs: Needs) -> None:
    """``gio move`` of stored files into a folder, and over another one."""
    needs("gio")
    article.put({"a": OLD, "b": NEW, "sub/c": b"c"})
    run("gio", "move", article / "a", article / "sub")
    run("gio", "move", article / "b", article / "sub/c")
    article.shows({"sub/a": OLD, "sub/c": NEW})
    article.will_hold({"sub/a": OLD, "sub/c": NEW})


def test_gio_move_out(article: Article, tmp_path: Path, needs: Needs) -> None:
    """``gio move`` out of the mount."""
    needs("gio")
    article.put({"f": OLD})
    run("gio", "move", article / "f", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == OLD
    article.will_hold({})


def test_gio_rename_onto_another(article: Article, needs: Needs) -> None:
    """``gio rename`` to a name that is taken is refused, and both stay."""
    needs("gio")
    article.put({"f": OLD, "g": NEW})
    run("gio", "rename", article / "f", "g", code=1)
    article.shows({"f": OLD, "g": NEW})
    article.holds({"f": OLD, "g": NEW})


def test_gio_sees_what_is_there(article: Article, needs: Needs) -> None:
    """``gio list -l``, ``gio info``, ``gio tree``: sizes and types, for which no byte of a file is read."""
    needs("gio")
    article.put({"f.csv": OLD, "sub/g.txt": NEW})
    listed = run("gio", "list", "-l", article.path).stdout
    assert "f.csv\t30000\t(regular)" in listed
    assert "sub\t0\t(directory)" in listed
    assert "standard::size: 30000" in run("gio", "info", article / "f.csv").stdout
    assert "g.txt" in run("gio", "tree", article.path).stdout
    assert not article.sandbox.requests("storage")


@pytest.mark.parametrize("place", ["", "sub"])
def test_gio_trash_says_so(article: Article, place: str, needs: Needs) -> None:
    """``gio trash`` fails with a message, and asks Figshare for nothing."""
    needs("gio")
    name = f"{place}/f".strip("/")
    article.put({name: OLD})
    failed = run("gio", "trash", article / name, code=1)
    assert "trash" in failed.stderr
    article.shows({name: OLD})
    assert not article.sandbox.requests("api", path="/files")
