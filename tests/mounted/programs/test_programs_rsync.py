"""rsync in all its ways (programs.md §2, §3)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from processes import (
    Article,
    children,
    content,
    run,
    stored,
    wait_until,
    write_tree,
)
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


# -- more ways ------------------------------------------------------------


def test_rsync_checksum(article: Article, tmp_path: Path, needs: Needs) -> None:
    """``rsync -c``: other times but the same content, nothing; same size and time but other content: one."""
    needs("rsync")
    source = write_tree(tmp_path / "source", {"f": OLD, "g": NEW})
    run("rsync", "-a", f"{source}/", article.path)
    article.will_hold({"f": OLD, "g": NEW})
    article.sandbox.clear_requests()
    os.utime(source / "f", (1_000_000_000, 1_000_000_000))
    assert run("rsync", "-rc", "-i", f"{source}/", article.path).stdout == ""
    assert article.uploads() == 0
    before = (source / "g").stat()
    (source / "g").write_bytes(NEW[::-1])
    os.utime(source / "g", ns=(before.st_atime_ns, before.st_mtime_ns))
    os.utime(source / "f", (1_000_000_000, 1_000_000_000))
    run("rsync", "-ac", f"{source}/", article.path)
    article.will_hold({"f": OLD, "g": NEW[::-1]})
    assert article.uploads() == 1
    assert (article / "f").stat().st_mtime == 1_000_000_000


def test_rsync_inplace_twice(article: Article, tree: Path, needs: Needs) -> None:
    """``rsync -a --inplace`` of a tree, then again: the second transfers nothing."""
    needs("rsync")
    run("rsync", "-a", "--inplace", f"{tree}/", article.path)
    article.holds(TREE)
    assert article.uploads() == len(TREE)
    assert run("rsync", "-a", "--inplace", "-i", f"{tree}/", article.path).stdout == ""
    assert article.uploads() == len(TREE)
    assert attributes(article.path) == attributes(tree)


def test_rsync_inplace_of_a_change_in_the_middle(article: Article, tmp_path: Path, needs: Needs) -> None:
    """``--inplace --no-whole-file``: only the changed block is written; the file on Figshare is whole."""
    needs("rsync")
    source = write_tree(tmp_path / "source", {"f": OLD + NEW})
    run("rsync", "-a", f"{source}/", article.path)
    changed = OLD + b"changed" + NEW[7:]
    (source / "f").write_bytes(changed)
    os.utime(source / "f", (1_600_000_000, 1_600_000_000))  # rsync compares whole seconds
    run("rsync", "-a", "--inplace", "--no-whole-file", f"{source}/", article.path)
    article.will_hold({"f": changed})
    assert article.uploads() == 2


@pytest.mark.parametrize("option", ["--append", "--inplace"])
def test_rsync_shorter(article: Article, tmp_path: Path, option: str, needs: Needs) -> None:
    """A source that has become shorter: ``--inplace`` cuts the file, ``--append`` leaves it alone."""
    needs("rsync")
    source = write_tree(tmp_path / "source", {"f": OLD})
    run("rsync", "-a", f"{source}/", article.path)
    article.will_hold({"f": OLD})
    (source / "f").write_bytes(OLD[:1000])
    run("rsync", "-a", option, f"{source}/", article.path)
    article.will_hold({"f": OLD[:1000] if option == "--inplace" else OLD})
    assert article.uploads() == (2 if option == "--inplace" else 1)


def test_rsync_backup_directory(article: Article, tmp_path: Path, needs: Needs) -> None:
    """``--backup --backup-dir``: the old version moves there, the new one takes its place."""
    needs("rsync")
    source = write_tree(tmp_path / "source", {"f": OLD})
    run("rsync", "-a", f"{source}/", article.path)
    article.will_hold({"f": OLD})
    (source / "f").write_bytes(NEW)
    run("rsync", "-a", "-b", "--backup-dir=older", f"{source}/", article.path)
    article.shows({"f": NEW, "older/f": OLD})
    article.will_hold({"f": NEW, "older/f": OLD})


def test_rsync_backup_suffix(article: Article, tmp_path: Path, needs: Needs) -> None:
    """``--backup --suffix=.old`` (LINK is refused, so a rename): both are on Figshare."""
    needs("rsync")
    source = write_tree(tmp_path / "source", {"f": OLD})
    run("rsync", "-a", f"{source}/", article.path)
    article.will_hold({"f": OLD})
    (source / "f").write_bytes(NEW)
    run("rsync", "-a", "-b", "--suffix=.old", f"{source}/", article.path)
    article.shows({"f": NEW, "f.old": OLD})
    article.will_hold({"f": NEW, "f.old": OLD})


def test_rsync_delay_updates_over(article: Article, tree: Path, needs: Needs) -> None:
    """``--delay-updates --delete-after`` over what is there: the changed files only, and no ``.~tmp~``."""
    needs("rsync")
    run("rsync", "-a", f"{tree}/", article.path)
    article.will_hold(TREE)
    article.sandbox.clear_requests()
    changed = TREE | {"read me.txt": b"second, and longer\n", "data/2019/a.csv": NEW}
    del changed["data/2020/a.csv"]
    write_tree(tree, {name: changed[name] for name in ("read me.txt", "data/2019/a.csv")})
    (tree / "data/2020/a.csv").unlink()
    run("rsync", "-a", "--delay-updates", "--delete-after", f"{tree}/", article.path)
    article.shows(changed)
    article.will_hold(changed)
    assert article.uploads() == 2
    assert not list(article.path.rglob(".~tmp~"))


@pytest.mark.parametrize(
    ("option", "kept"),
    [("--partial", "f"), ("--partial-dir=.rsync-partial", ".rsync-partial/f"), ("--no-partial", "")],
)
def test_rsync_interrupted(article: Article, tmp_path: Path, option: str, kept: str, needs: Needs) -> None:
    """Ctrl-C in the middle: Figshare has what rsync was asked to keep, as what it is called here, no more.

    Then once more: the whole file, once, and nothing else is left of the first try.
    """
    needs("rsync")
    data = content("interrupted", 4_000_000)
    source = write_tree(tmp_path / "source", {"f": data})
    command = ["rsync", "-a", option, f"{source}/", str(article.path)]
    with subprocess.Popen(
        [*command, "--bwlimit=1000"], stderr=subprocess.DEVNULL, start_new_session=True
    ) as slow:
        wait_until(
            lambda: any(path.stat().st_size for path in article.path.iterdir()), what="some is written"
        )
        os.killpg(slow.pid, signal.SIGINT)  # as the terminal does: to all of its processes
    assert slow.returncode == 20
    wait_until(lambda: not any(path.name.startswith(".f.") for path in article.path.iterdir()))
    partial = children(article.path)
    assert set(partial) == ({kept} if kept else set())
    assert all(0 < len(each) < len(data) for each in partial.values())
    article.will_hold(partial)
    run(*command)
    article.will_hold({"f": data})
    article.shows({"f": data})
    assert [path.name for path in article.path.iterdir()] == ["f"]
    assert run(*command, "-i").stdout == ""


def test_rsync_temp_dir(article: Article, tmp_path: Path, needs: Needs) -> None:
    """``--temp-dir`` on another file system: rsync copies from there."""
    needs("rsync")
    source = write_tree(tmp_path / "source", {"f": OLD})
    run("rsync", "-a", f"--temp-dir={tmp_path}", f"{source}/", article.path)
    article.will_hold({"f": OLD})
    assert article.uploads() == 1
    assert run("rsync", "-a", "-i", f"{source}/", article.path).stdout == ""


def test_rsync_of_dotfiles(article: Article, tmp_path: Path, needs: Needs) -> None:
    """Dotfiles, whose temporary names are those of other files: each under its own name, once."""
    needs("rsync")
    files = {".f": OLD, "f": NEW, ".env.sample": b"a=1\n", ".hidden/.g": b"g"}
    source = write_tree(tmp_path / "source", files)
    run("rsync", "-a", f"{source}/", article.path)
    article.will_hold(files)
    article.shows(files)
    assert run("rsync", "-a", "-i", f"{source}/", article.path).stdout == ""


def test_rsync_of_odd_names(article: Article, tmp_path: Path, needs: Needs) -> None:
    """Long names, spaces, quotes, a newline, other scripts."""
    needs("rsync")
    long = "long-" + "x" * 246 + ".csv"
    files = {long: OLD, "a b 'c' \"d\"": b"1", "日本語 – ü.txt": b"2", "#1 [x] {y} $z & *": b"3"}
    source = write_tree(tmp_path / "source", files)
    run("rsync", "-a", f"{source}/", article.path)
    article.will_hold(files)
    article.shows(files)
    assert run("rsync", "-a", "-i", f"{source}/", article.path).stdout == ""


def test_rsync_with_attributes(article: Article, tree: Path, needs: Needs) -> None:
    """``rsync -aAX`` with an attribute of the user's: exit 0. The second run transfers nothing; it sees what
    figfs tells of the files (``getfattr -d`` shows it), which the source lacks, and ends with 0, too.
    """
    needs("rsync")
    try:
        os.setxattr(tree / "read me.txt", "user.origin", b"lab")
    except OSError:
        pytest.skip("the file system of the tests has no extended attributes")
    run("rsync", "-aAX", f"{tree}/", article.path)
    article.will_hold(TREE)
    assert os.getxattr(article / "read me.txt", "user.origin") == b"lab"
    before = article.uploads()
    lines = run("rsync", "-aAX", "-i", f"{tree}/", article.path).stdout.splitlines()
    assert {line.split()[0].strip(".") for line in lines} <= {"f........x", "d........x"}
    assert article.uploads() == before
    assert os.getxattr(article / "read me.txt", "user.origin") == b"lab"


def test_rsync_between_articles(article: Article, needs: Needs) -> None:
    """rsync from one article to another, both in the mount."""
    needs("rsync")
    article.put(TREE)
    other = article.mount.articles / "Another article for rsync"
    run("rsync", "-a", f"{article.path}/", f"{other}/")
    wait_until(lambda: article.sandbox.remote_files(other.name) == stored(TREE))
    assert run("rsync", "-a", "-i", f"{article.path}/", f"{other}/").stdout == ""


def test_rsync_with_many_small_files(article: Article, tmp_path: Path, needs: Needs) -> None:
    """Fifty small files: one upload each; the second run asks Figshare for nothing."""
    needs("rsync")
    files = {f"{n % 5}/{n}.txt": f"{n}\n".encode() * n for n in range(1, 51)}
    source = write_tree(tmp_path / "source", files)
    run("rsync", "-a", f"{source}/", article.path)
    article.will_hold(files)
    assert article.uploads() == 50
    article.sandbox.clear_requests()
    assert run("rsync", "-a", "-i", f"{source}/", article.path).stdout == ""
    assert not article.sandbox.requests("api", path=f"/articles/{article.id}/files")
