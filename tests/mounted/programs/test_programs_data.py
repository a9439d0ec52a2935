"""Programs that compute: Python, numpy, pandas, SQLite (programs.md §2)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from processes import Article, run
from samples import NEW, OLD, TREE, attributes


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
