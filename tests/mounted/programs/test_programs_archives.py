"""Archives, into the mount, out of it, and in it (programs.md §2)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from processes import (
    Article,
    children,
    run,
    shell,
    wait_until,
    write_tree,
)
from samples import NEW, OLD, TREE, Needs, attributes


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


# -- tar ------------------------------------------------------------


def test_tar_append_and_update(article: Article, tree: Path) -> None:
    """``tar r`` and ``tar u`` of a stored archive (read, and written behind its end): one upload each."""
    run("tar", "cf", article / "t.tar", "-C", tree, "read me.txt")
    run("tar", "rf", article / "t.tar", "-C", tree, "plots")
    assert run("tar", "tf", article / "t.tar").stdout.splitlines()[0] == "read me.txt"
    wait_until(lambda: len(article.remote()) == 1)
    (tree / "read me.txt").write_bytes(b"newer")
    run("tar", "uf", article / "t.tar", "-C", tree, "read me.txt", "plots")
    assert run("tar", "xOf", article / "t.tar", "--occurrence=2", "read me.txt").stdout == "newer"
    assert article.uploads() == 3


def test_tar_keep_and_overwrite(article: Article, tree: Path, tmp_path: Path) -> None:
    """``tar x --keep-old-files``, ``--skip-old-files`` touch nothing; ``--overwrite`` writes in place."""
    article.put(TREE)
    (tree / "read me.txt").write_bytes(b"newer")
    run("tar", "cf", tmp_path / "t.tar", "-C", tree, ".")
    run("tar", "xf", tmp_path / "t.tar", "--skip-old-files", cwd=article.path)
    run("tar", "xf", tmp_path / "t.tar", "--keep-old-files", cwd=article.path, code=2)
    article.holds(TREE)
    assert article.uploads() == 0
    run("tar", "xf", tmp_path / "t.tar", "--overwrite", cwd=article.path)
    article.will_hold(TREE | {"read me.txt": b"newer"})
    assert article.uploads() == 1


def test_tar_through_a_pipe(article: Article, tree: Path) -> None:
    """``tar c | tar x`` between directories of the mount, as people copy trees."""
    article.put({f"from/{name}": data for name, data in TREE.items()})
    (article / "to").mkdir()
    shell("tar cf - -C from . | tar xf - -C to", cwd=article.path)
    both = {f"{where}/{name}": data for name, data in TREE.items() for where in ("from", "to")}
    article.holds(both)
    assert article.uploads() == len(TREE)


def test_tar_with_links(article: Article, tmp_path: Path) -> None:
    """An archive with links: tar says that it cannot make them, and brings the rest."""
    source = write_tree(tmp_path / "source", {"f": OLD})
    (source / "hard").hardlink_to(source / "f")
    run("tar", "cf", tmp_path / "t.tar", "-C", source, "f", "hard")
    failed = run("tar", "xf", tmp_path / "t.tar", cwd=article.path, code=2)
    assert "hard" in failed.stderr
    article.holds({"f": OLD})


# -- zip, 7z ------------------------------------------------------------


def test_zip(article: Article, tree: Path, needs: Needs) -> None:
    """``zip -r`` new; ``zip`` adds to it, ``zip -d`` takes away (ziXXXXXX, renamed over): one upload each."""
    needs("zip", "unzip")
    archive = article / "z.zip"
    run("zip", "-qr", archive, "read me.txt", "plots", cwd=tree)
    article.will_hold({"z.zip": archive.read_bytes()})
    run("zip", "-q", archive, "data/2019/a.csv", cwd=tree)
    run("unzip", "-tq", archive)
    run("zip", "-qd", archive, "read me.txt")
    listed = run("unzip", "-Z1", archive).stdout.split()
    assert [name for name in listed if not name.endswith("/")] == ["plots/deep/er/x.png", "data/2019/a.csv"]
    article.will_hold({"z.zip": archive.read_bytes()})
    assert 3 <= article.uploads() <= 5  # of zip's random names, three in a hundred could be typed ones


def test_unzip(article: Article, tree: Path, tmp_path: Path, needs: Needs) -> None:
    """``unzip``: one upload a file though times and modes come after the close; ``-o`` over: none."""
    needs("zip", "unzip")
    run("zip", "-qr", tmp_path / "z.zip", ".", cwd=tree)
    run("unzip", "-q", tmp_path / "z.zip", cwd=article.path)
    article.holds(TREE)
    assert article.uploads() == len(TREE)
    assert {name: mode for name, (mode, _) in attributes(article.path).items()} == {
        name: mode for name, (mode, _) in attributes(tree).items()
    }
    for name in TREE:
        assert int((article / name).stat().st_mtime) == int((tree / name).stat().st_mtime)
    run("unzip", "-qo", tmp_path / "z.zip", cwd=article.path)
    article.holds(TREE)
    assert article.uploads() == len(TREE)


def test_unzip_out(article: Article, tree: Path, tmp_path: Path, needs: Needs) -> None:
    """``unzip`` of an archive that is in the mount."""
    needs("zip", "unzip")
    run("zip", "-qr", tmp_path / "z.zip", ".", cwd=tree)
    article.put({"z.zip": (tmp_path / "z.zip").read_bytes()})
    run("unzip", "-q", article / "z.zip", "-d", tmp_path / "out")
    assert children(tmp_path / "out") == TREE


def test_7z(article: Article, tree: Path, tmp_path: Path, needs: Needs) -> None:
    """``7z a`` new (header written last, at the front), ``7z a`` to it, ``7z d``: one upload each."""
    needs("7z")
    archive = article / "z.7z"
    run("7z", "a", "-bd", archive, "read me.txt", "plots", cwd=tree)
    assert article.uploads() == 1
    run("7z", "a", "-bd", archive, "data", cwd=tree)
    article.will_hold({"z.7z": archive.read_bytes()})
    run("7z", "d", "-bd", archive, "plots")
    article.will_hold({"z.7z": archive.read_bytes()})
    run("7z", "t", "-bd", archive)
    run("7z", "x", "-bd", f"-o{tmp_path / 'out'}", archive)
    assert children(tmp_path / "out") == {name: data for name, data in TREE.items() if "plots" not in name}
    assert article.uploads() == 3


def test_7z_extract(article: Article, tree: Path, tmp_path: Path, needs: Needs) -> None:
    """``7z x`` into the mount, and over what is there: an upload a file, then none."""
    needs("7z")
    run("7z", "a", "-bd", tmp_path / "z.7z", ".", cwd=tree)
    run("7z", "x", "-bd", f"-o{article.path}", tmp_path / "z.7z")
    article.holds(TREE)
    assert article.uploads() == len(TREE)
    run("7z", "x", "-bd", "-y", f"-o{article.path}", tmp_path / "z.7z")
    article.holds(TREE)
    assert article.uploads() == len(TREE)
    assert int((article / "read me.txt").stat().st_mtime) == int((tree / "read me.txt").stat().st_mtime)


# -- compressors ------------------------------------------------------------


@pytest.mark.parametrize(("program", "suffix"), [("gzip", ".gz"), ("bzip2", ".bz2"), ("xz", ".xz")])
def test_compress_in_place(article: Article, program: str, suffix: str, needs: Needs) -> None:
    """``gzip f`` replaces a stored f by f.gz, ``gzip -d`` brings it back: one upload each, times kept."""
    needs(program)
    article.put({"f": OLD})
    os.utime(article / "f", (1_400_000_000, 1_400_000_000))
    run(program, "f", cwd=article.path)
    packed = (article / f"f{suffix}").read_bytes()
    article.shows({f"f{suffix}": packed})
    article.will_hold({f"f{suffix}": packed})
    assert article.uploads() == 1
    run(program, "-d", f"f{suffix}", cwd=article.path)
    article.shows({"f": OLD})
    article.will_hold({"f": OLD})
    assert article.uploads() == 2
    assert (article / "f").stat().st_mtime == 1_400_000_000


def test_gzip_keeps(article: Article) -> None:
    """``gzip -k``, ``gzip -c > g``, ``zcat``: the source stays, one upload each."""
    article.put({"f": OLD})
    shell("gzip -k f && gzip -c f > g.gz && zcat f.gz g.gz > h", cwd=article.path)
    assert (article / "h").read_bytes() == OLD + OLD
    assert [name for name, _, _, _ in article.remote()] == ["f", "f.gz", "g.gz", "h"]
    assert article.uploads() == 3
