"""rsync in all its ways (programs.md §2, §3)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from processes import Article, children, run, write_tree
from samples import NEW, OLD, TREE, Needs, attributes

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
