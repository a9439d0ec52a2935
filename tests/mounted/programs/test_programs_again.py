"""Programs, then a remount: what they left is there, and doing it again changes nothing."""

from __future__ import annotations

from pathlib import Path

from processes import (
    children,
    run,
    shell,
    stored,
    write_tree,
)
from samples import NEW, OLD, TREE, MakeMount, Needs, attributes


def test_everything_again_after_a_remount(
    make_mount: MakeMount, tree: Path, tmp_path: Path, needs: Needs
) -> None:
    """A tree by cp -a, rsync, tar and unzip: after a remount names, bytes, modes and times are those of the
    source, and the same programs upload nothing.
    """
    needs("rsync", "zip", "unzip")
    mount = make_mount("--grace", "1")
    run("tar", "cf", tmp_path / "t.tar", "--format=posix", "-C", tree, ".")
    run("zip", "-qr", tmp_path / "t.zip", ".", cwd=tree)
    again = {
        "by cp": lambda where: run("cp", "-a", f"{tree}/.", where),
        "by rsync": lambda where: run("rsync", "-a", f"{tree}/", where),
        "by tar": lambda where: run("tar", "xf", tmp_path / "t.tar", cwd=where),
        "by unzip": lambda where: run("unzip", "-qo", tmp_path / "t.zip", cwd=where),
    }
    for title, act in again.items():
        (mount.articles / title).mkdir()
        act(mount.articles / title)
    mount.remount()
    for title, act in again.items():
        where = mount.articles / title
        assert mount.sandbox.remote_files(title) == stored(TREE)
        assert children(where) == TREE
        expected = attributes(tree)
        if title == "by unzip":  # its format has whole seconds
            expected = {name: (mode, ns // 10**9) for name, (mode, ns) in expected.items()}
            found = {name: (mode, ns // 10**9) for name, (mode, ns) in attributes(where).items()}
            assert {name: found[name] for name in TREE} == {name: expected[name] for name in TREE}
        else:
            assert attributes(where) == expected
        mount.sandbox.clear_requests()
        act(where)
        assert children(where) == TREE
        assert mount.sandbox.announced(title) == 0
    assert run("rsync", "-ai", f"{tree}/", mount.articles / "by rsync").stdout == ""


def test_backups_are_data(make_mount: MakeMount, tmp_path: Path, needs: Needs) -> None:
    """``cp -b``, ``mv -b``, ``install -b``, ``rsync -b``, numbered ones: the stored file is renamed to
    ``NAME~``; once the mount has ended, Figshare has both, under the names they have here.
    """
    needs("rsync")
    mount = make_mount("--grace", "1")
    source = write_tree(tmp_path / "source", {"f": NEW, "g": NEW})
    backups = {
        "cp -b": ("f~", ["cp", "-b"]),
        "cp numbered": ("f.~1~", ["cp", "--backup=numbered"]),
        "install -b": ("f~", ["install", "-b"]),
        "rsync -b": ("f~", ["rsync", "-b"]),
        "mv -b": ("f~", ["mv", "-b"]),  # the last one: it takes the source away
    }
    for title in backups:
        write_tree(mount.articles / title, {"f": OLD})
    for title, (backup, command) in backups.items():
        run(*command, source / "f", mount.articles / title / "f")
        assert children(mount.articles / title) == {"f": NEW, backup: OLD}
    mount.unmount()
    for title, (backup, _) in backups.items():
        assert mount.sandbox.remote_files(title) == stored({"f": NEW, backup: OLD}), title
    mount.start()
    for title, (backup, _) in backups.items():
        assert children(mount.articles / title) == {"f": NEW, backup: OLD}


def test_unfinished_temporary_files(make_mount: MakeMount) -> None:
    """A temporary file that was never renamed is data: at the latest the unmount brings it to Figshare."""
    mount = make_mount()
    (mount.articles / "Unfinished").mkdir()
    files = {"tmpa1b2c3d4": OLD, "sedA1b2C3": NEW, "f.crdownload": b"some", ".f.csv.aB3dE6": b"more"}
    write_tree(mount.articles / "Unfinished", files)
    mount.unmount()
    assert mount.sandbox.remote_files("Unfinished") == stored(files)
    mount.start()
    assert children(mount.articles / "Unfinished") == files


def test_empty_files_after_a_remount(make_mount: MakeMount) -> None:
    """``touch``, ``: > f``, ``mkdir``: kept here over a remount; uploaded with the first byte."""
    mount = make_mount("--grace", "1")
    article = mount.articles / "Empty things"
    article.mkdir()
    shell("touch a; : > b; mkdir -p c/d; touch -d '2001-02-03 UTC' c/e", cwd=article)
    mount.remount()
    assert children(article) == {"a": b"", "b": b"", "c/e": b""}
    assert (article / "c/e").stat().st_mtime == 981158400
    shell("echo now > a", cwd=article)
    assert mount.sandbox.remote_files("Empty things") == stored({"a": b"now\n"})
    mount.remount()
    assert children(article) == {"a": b"now\n", "b": b"", "c/e": b""}
