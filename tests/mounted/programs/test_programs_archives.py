"""Archives, into the mount, out of it, and in it (programs.md §2)."""

from __future__ import annotations

from pathlib import Path

from processes import Article, children, run
from samples import NEW, TREE, attributes


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
