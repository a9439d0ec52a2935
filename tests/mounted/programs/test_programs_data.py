"""Programs that compute: Python, numpy, pandas, SQLite (programs.md §2)."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import (
    Article,
    children,
    run,
)
from samples import NEW, OLD, TREE, Needs, attributes


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


@pytest.mark.parametrize("temporary", ["sedA1b2C3", ".goutputstream-AB12CD", ".f.csv.aB3dE6", "f.csv.part"])
def test_write_and_rename_the_same(article: Article, temporary: str) -> None:
    """The same, saved without a change (``sed -i`` that found nothing): no upload."""
    article.put({"f.csv": OLD})
    (article / temporary).write_bytes(OLD)
    (article / temporary).replace(article / "f.csv")
    article.shows({"f.csv": OLD})
    time.sleep(1.5)  # the grace of the shared mount is over
    article.holds({"f.csv": OLD})
    assert article.uploads() == 0


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


# -- numpy, pandas ------------------------------------------------------------


@pytest.fixture
def python(needs: Needs) -> Callable[..., str]:
    """Runs a script of Python with numpy and pandas; ``sys.argv[1]`` … are its arguments."""
    missing = [name for name in ("numpy", "pandas") if importlib.util.find_spec(name) is None]
    if missing and os.environ.get("FIGFS_REQUIRE_FUSE"):
        pytest.fail(f"not installed: {missing}, and FIGFS_REQUIRE_FUSE is set")
    if missing:
        pytest.skip(f"not installed: {missing}")

    def execute(script: str, *arguments: str | Path) -> str:
        imports = "import sys, numpy as np\n" + ("import pandas as pd\n" if "pd." in script else "")
        return run(sys.executable, "-P", "-c", imports + textwrap.dedent(script), *arguments).stdout

    return execute


def test_numpy(article: Article, python: Callable[..., str]) -> None:
    """np.save (a dup, and two closes with data), savez, savetxt, tofile: one upload each; all read back."""
    python(
        """
        d = sys.argv[1]
        a = np.arange(12_000.0).reshape(100, 120)
        np.save(f"{d}/a.npy", a)
        np.savez(f"{d}/b.npz", a=a, b=a + 1)
        np.savez_compressed(f"{d}/c.npz", a=a)
        np.savetxt(f"{d}/d.txt", a[:5])
        a.tofile(f"{d}/e.bin")
        assert (np.load(f"{d}/a.npy") == a).all()
        assert (np.load(f"{d}/b.npz")["b"] == a + 1).all()
        assert (np.load(f"{d}/c.npz")["a"] == a).all()
        assert (np.loadtxt(f"{d}/d.txt") == a[:5]).all()
        assert (np.fromfile(f"{d}/e.bin").reshape(a.shape) == a).all()
        """,
        article.path,
    )
    assert [name for name, _, _, _ in article.remote()] == ["a.npy", "b.npz", "c.npz", "d.txt", "e.bin"]
    assert article.uploads() == 5


def test_numpy_over(article: Article, python: Callable[..., str]) -> None:
    """np.save over a stored array: one upload for another one, none for the same."""
    save = "np.save(sys.argv[1], np.arange(int(sys.argv[2])))"
    for size, uploads in ((1000, 1), (2000, 2), (2000, 2)):
        python(save, article / "a.npy", str(size))
        article.will_hold({"a.npy": (article / "a.npy").read_bytes()})
        assert article.uploads() == uploads


def test_numpy_memmap(article: Article, python: Callable[..., str]) -> None:
    """memmap ``w+``, ``r+`` (shared mappings, written back after the close), ``r`` and ``c`` (private)."""
    python(
        """
        m = np.memmap(sys.argv[1], dtype="<u4", mode="w+", shape=(50_000,))
        m[:] = np.arange(50_000)
        m.flush()
        """,
        article / "m",
    )
    expected = b"".join(n.to_bytes(4, "little") for n in range(50_000))
    article.will_hold({"m": expected})
    python(
        """
        m = np.memmap(sys.argv[1], dtype="<u4", mode="r+")
        m[40_000:40_003] = 7
        del m
        """,
        article / "m",
    )
    changed = expected[:160_000] + (7).to_bytes(4, "little") * 3 + expected[160_012:]
    article.will_hold({"m": changed})
    before = article.uploads()
    python(
        """
        m = np.memmap(sys.argv[1], dtype="<u4", mode="r")
        assert m[40_001] == 7 and m[-1] == 49_999
        c = np.memmap(sys.argv[1], dtype="<u4", mode="c")
        c[:] = 0
        """,
        article / "m",
    )
    article.shows({"m": changed})
    assert article.uploads() == before <= 4  # the mapping's pages may come after the close, then once more


def test_numpy_load_with_a_mapping(article: Article, python: Callable[..., str]) -> None:
    """``np.lib.format.open_memmap`` to make an array, ``np.load(mmap_mode=)`` to read and change it."""
    python(
        """
        m = np.lib.format.open_memmap(sys.argv[1], mode="w+", dtype="f8", shape=(300, 100))
        m[:] = np.arange(30_000).reshape(300, 100)
        del m
        m = np.load(sys.argv[1], mmap_mode="r+")
        m[299, 99] = -1
        del m
        """,
        article / "a.npy",
    )
    assert python("print(np.load(sys.argv[1])[299, 98:].tolist())", article / "a.npy") == "[29998.0, -1.0]\n"


def test_pandas(article: Article, python: Callable[..., str]) -> None:
    """to_csv (plain, compressed, appended), to_json, to_pickle; read again: the same frame."""
    python(
        """
        d = sys.argv[1]
        f = pd.DataFrame({"n": range(2000), "é": [f"x{n}" for n in range(2000)]})
        f.to_csv(f"{d}/a.csv", index=False)
        f.to_csv(f"{d}/b.csv.gz", index=False)
        f.to_csv(f"{d}/c.zip", index=False)
        f.to_json(f"{d}/d.json")
        f.to_pickle(f"{d}/e.pkl")
        pd.testing.assert_frame_equal(pd.read_csv(f"{d}/a.csv"), f)
        pd.testing.assert_frame_equal(pd.read_csv(f"{d}/b.csv.gz"), f)
        pd.testing.assert_frame_equal(pd.read_csv(f"{d}/c.zip"), f)
        pd.testing.assert_frame_equal(pd.read_pickle(f"{d}/e.pkl"), f)
        assert len(pd.read_json(f"{d}/d.json")) == 2000
        """,
        article.path,
    )
    assert [name for name, _, _, _ in article.remote()] == ["a.csv", "b.csv.gz", "c.zip", "d.json", "e.pkl"]
    assert article.uploads() == 5


def test_pandas_over_and_append(article: Article, python: Callable[..., str]) -> None:
    """read_csv, change, to_csv over the same file; ``mode="a"``: one upload each."""
    article.put({"a.csv": b"n\n1\n2\n"})
    python("f = pd.read_csv(sys.argv[1]); (f * 2).to_csv(sys.argv[1], index=False)", article / "a.csv")
    article.will_hold({"a.csv": b"n\n2\n4\n"})
    python(
        'pd.DataFrame({"n": [6]}).to_csv(sys.argv[1], mode="a", index=False, header=False)', article / "a.csv"
    )
    article.will_hold({"a.csv": b"n\n2\n4\n6\n"})
    assert article.uploads() == 2


# -- Python's own ways ------------------------------------------------------------


def test_python_without_a_close(article: Article) -> None:
    """A file that nobody closes, and ``os._exit``: the kernel closes it when the process ends."""
    script = "import os, sys\nf = open(sys.argv[1], 'wb', buffering=0); f.write(b'kept'); {}"
    run("python3", "-c", script.format("sys.exit(0)"), article / "f")
    run("python3", "-c", script.format("os._exit(0)"), article / "g")
    article.will_hold({"f": b"kept", "g": b"kept"})
    assert article.uploads() == 2


def test_python_child_that_writes(article: Article) -> None:
    """``Popen(stdout=file)``, the file closed here before the child has written: the whole arrives."""
    with (article / "f").open("wb") as stream:
        child = subprocess.Popen(["sh", "-c", "sleep .2; echo from the child"], stdout=stream)
    assert child.wait() == 0
    article.will_hold({"f": b"from the child\n"})
    assert article.uploads() <= 1


def test_atomic_write(article: Article) -> None:
    """``NamedTemporaryFile(dir=…, delete=False)``, fsync, ``os.replace``: as libraries save."""
    article.put({"f.json": OLD})
    with tempfile.NamedTemporaryFile(dir=article.path, delete=False) as stream:
        stream.write(NEW)
        stream.flush()
        os.fsync(stream.fileno())
    Path(stream.name).replace(article / "f.json")
    article.shows({"f.json": NEW})
    article.will_hold({"f.json": NEW})
    assert 1 <= article.uploads() <= 2  # an eighth of Python's random names could be typed ones


def test_directory_of_temporary_files(article: Article) -> None:
    """``TemporaryDirectory(dir=…)``: nothing is left of it, here and there."""
    with tempfile.TemporaryDirectory(dir=article.path) as name:
        (Path(name) / "f").write_bytes(OLD)
        (Path(name) / "sub").mkdir()
        (Path(name) / "sub" / "g").write_bytes(NEW)
    article.shows({})
    assert list(article.path.iterdir()) == []
    article.will_hold({})


def test_locks(article: Article) -> None:
    """flock and fcntl locks of two processes exclude each other."""
    script = "import fcntl, sys\nf = open(sys.argv[1], 'r+b')\nfcntl.{}(f, fcntl.LOCK_EX | fcntl.LOCK_NB)"
    article.put({"f": OLD})
    with (article / "f").open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert "BlockingIOError" in run("python3", "-c", script.format("flock"), article / "f", code=1).stderr
        fcntl.lockf(stream, fcntl.LOCK_EX)
        assert "BlockingIOError" in run("python3", "-c", script.format("lockf"), article / "f", code=1).stderr
    run("python3", "-c", script.format("flock"), article / "f")
    assert article.uploads() == 0


def test_log_that_rotates(article: Article) -> None:
    """Appended line by line; log -> log.1 by rename, log anew."""
    script = """
import logging, logging.handlers, sys
h = logging.handlers.RotatingFileHandler(f"{sys.argv[1]}/log", maxBytes=100, backupCount=2)
logging.getLogger().addHandler(h)
for n in range(4): logging.error("%d %s", n, "x" * 60)
"""
    run("python3", "-c", script, article.path)
    line = b"%d " + b"x" * 60 + b"\n"
    article.shows({"log": line % 3, "log.1": line % 2, "log.2": line % 1})
    article.will_hold({"log": line % 3, "log.1": line % 2, "log.2": line % 1})


# -- SQLite ------------------------------------------------------------


@pytest.mark.parametrize("mode", ["delete", "truncate", "wal", "memory"])
def test_sqlite_shell(article: Article, mode: str, needs: Needs) -> None:
    """sqlite3 makes a database, another run changes it, in each way of journaling: no journal is uploaded."""
    needs("sqlite3")
    path = article / "lab.db"
    create = "CREATE TABLE t (x INTEGER, y TEXT); BEGIN; INSERT INTO t VALUES (1, 'one'); COMMIT;"
    run("sqlite3", path, f"PRAGMA journal_mode = {mode}; {create}")
    article.will_hold({"lab.db": path.read_bytes()})
    run("sqlite3", path, "INSERT INTO t SELECT x + 1, hex(randomblob(2000)) FROM t; VACUUM;")
    run("sqlite3", path, "UPDATE t SET y = 'two' WHERE x = 2;")
    said = run("sqlite3", path, "PRAGMA integrity_check; SELECT x, y FROM t ORDER BY x;").stdout
    assert said == "ok\n1|one\n2|two\n"
    for name in ("-journal", "-wal", "-shm"):  # some ways of journaling leave an empty one
        (article / f"lab.db{name}").unlink(missing_ok=True)
    article.will_hold({"lab.db": path.read_bytes()})


def test_sqlite_reads_a_stored_database(article: Article, tmp_path: Path, needs: Needs) -> None:
    """Queries of a stored database: nothing is uploaded. ``.backup`` and ``.output`` into the mount."""
    needs("sqlite3")
    run("sqlite3", tmp_path / "d.db", "CREATE TABLE t (x); INSERT INTO t VALUES (7), (8);")
    article.put({"d.db": (tmp_path / "d.db").read_bytes()})
    assert run("sqlite3", article / "d.db", "SELECT sum(x) FROM t").stdout == "15\n"
    assert article.uploads() == 0
    run("sqlite3", tmp_path / "d.db", f".backup '{article / 'copy.db'}'")
    run("sqlite3", article / "d.db", f".output '{article / 'd.csv'}'", ".mode csv", "SELECT x FROM t;")
    article.shows(
        {
            "d.db": (tmp_path / "d.db").read_bytes(),
            "d.csv": b"7\r\n8\r\n",
            "copy.db": (article / "copy.db").read_bytes(),
        }
    )
    assert run("sqlite3", article / "copy.db", "PRAGMA integrity_check").stdout == "ok\n"
    article.will_hold(children(article.path))
    assert article.uploads() == 2
