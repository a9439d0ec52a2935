"""GIO, which the file managers of GNOME, Xfce and others copy with (programs.md §2)."""

from __future__ import annotations

from pathlib import Path

from processes import Article, names, run
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
