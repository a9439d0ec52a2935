"""``.figshare`` through a mount: found by its name, met by nobody who walks the tree; documents read, edited
and refused as a person would.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Article, MakeMount, Mount, Sandbox, errno_of, names, run, shell, wait_until

DOT = ".figshare"
FROGS = "Frog calls of the Atlantic forest"
GLACIER = "Glacier mass balance 2019–2023"
#: Without ``backupskip``, which would spare /tmp the dance of the backup.
VIM = (
    'vim -es -u NONE -i NONE --cmd "set nocompatible backupskip= swapfile writebackup %s" '
    '-c "%%s/\\"description\\": \\"\\"/\\"description\\": \\"Some words.\\"/" -c wq "$1" < /dev/null'
)
UPDATES = r"/account/(articles|projects|collections)/\d+$"


def metadata(item: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((item / DOT / "metadata.json").read_bytes())
    return found


def write(path: Path, data: bytes) -> None:
    """Over what is there, with one close, whose error is raised."""
    descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def updates(sandbox: Sandbox) -> int:
    return len(sandbox.requests("api", "PUT", UPDATES) + sandbox.requests("api", "PATCH", UPDATES))


# -- who meets it ------------------------------------------------------------


def test_it_is_found_and_not_listed(article: Article) -> None:
    """In articles, projects, collections and the mount itself; not in folders, nor where no item is."""
    (article / "folder").mkdir()
    mount = article.mount
    items = [article.path, mount / "projects" / GLACIER, next((mount / "collections").iterdir()), mount.path]
    for item in items:
        assert DOT not in names(item)
        assert (item / DOT).is_dir()
        assert shell('cd "$1" && ls', item / DOT).split()
        assert DOT not in names(item)
    for other in (article / "folder", mount.articles, mount / "projects", article / DOT):
        assert not (other / DOT).exists()


def test_programs_that_walk_never_meet_it(article: Article, tmp_path: Path) -> None:
    """``ls -a``, ``find``, ``cp -r``, ``tar``, ``rsync -a --delete`` both ways; none changes anything."""
    article.put({"a.txt": b"one", "folder/b.txt": b"two"})
    assert (article / DOT / "metadata.json").read_bytes()  # the kernel knows it, too
    before = metadata(article.path)
    assert DOT not in shell('ls -aR "$1"', article.path)
    assert DOT not in shell('find "$1"', article.path)
    shell('cp -r "$1" "$2"', article.path, tmp_path / "copy")
    assert DOT not in shell('tar c -C "$1" . | tar t', article.path)
    away = tmp_path / "away"
    shell('rsync -a --delete "$1"/ "$2"/', article.path, away)
    (away / "c.txt").write_bytes(b"three")
    shell('rsync -a --delete "$1"/ "$2"/', away, article.path)
    assert {path.name for path in tmp_path.rglob("*")} >= {"a.txt", "b.txt", "c.txt"}
    assert not list(tmp_path.rglob(DOT))
    article.holds({"a.txt": b"one", "folder/b.txt": b"two", "c.txt": b"three"})
    assert metadata(article.path)["title"] == before["title"]
    assert updates(article.sandbox) == 0


def test_tar_of_the_whole_mount(mount: Mount) -> None:
    listed = shell('tar c -C "$1" . | tar t', mount.path)
    assert FROGS in listed
    assert DOT not in listed


def test_rm_of_a_draft(article: Article) -> None:
    """``rm -r`` removes a draft, though its ``.figshare`` was looked into and has a scratch file."""
    article.put({"a.txt": b"one", "folder/b.txt": b"two"})
    (article / DOT / "scratch").write_bytes(b"something")
    assert metadata(article.path)["title"] == article.title
    run("rm", "-r", article.path)
    assert not article.sandbox.articles(article.title)
    assert not article.path.exists()


def test_its_name_belongs_to_it(article: Article) -> None:
    """It can be neither made, replaced, renamed nor removed; nor can its directories."""
    article.put({"a.txt": b"one"})
    dot = article / DOT
    assert errno_of(dot.mkdir) == errno.EEXIST
    assert errno_of(lambda: os.close(os.open(dot, os.O_CREAT | os.O_EXCL | os.O_WRONLY))) == errno.EEXIST
    assert errno_of(lambda: (article / "a.txt").rename(dot)) in (errno.EPERM, errno.EISDIR)
    assert errno_of(lambda: (article / "a.txt").rename(dot / "a.txt")) == errno.EPERM
    assert errno_of(lambda: dot.rename(article / "other")) == errno.EPERM
    assert errno_of(dot.rmdir) == errno.EPERM
    assert errno_of((dot / "links").rmdir) == errno.EPERM
    assert errno_of((dot / "new").mkdir) == errno.EPERM
    assert errno_of((dot / "citation.txt").unlink) == errno.EPERM
    assert errno_of(lambda: dot.chmod(0o700)) == errno.EPERM
    assert errno_of(lambda: (dot / "metadata.json").rename(article / "metadata.json")) == errno.EXDEV


def test_it_is_listed_if_asked_for(make_mount: MakeMount, make_sandbox: Callable[..., Sandbox]) -> None:
    """``-o show-dotfigshare``."""
    mount = make_mount("-o", "show-dotfigshare", sandbox=make_sandbox("example"))
    assert DOT in names(mount.path)
    assert DOT in names(mount.articles / FROGS)
    assert DOT not in names(mount.articles)


# -- reading ------------------------------------------------------------


def test_listing_makes_no_document(mount: Mount) -> None:
    """``ls`` asks for no more than the names need; ``ls -l`` shows the sizes that reading finds."""
    dot = mount.articles / FROGS / DOT
    shown = names(dot)
    mount.sandbox.clear_requests()
    assert names(dot) == shown
    assert mount.sandbox.requests() == []
    for path in dot.iterdir():
        found = path.lstat()
        if stat.S_ISREG(found.st_mode):
            assert found.st_size == len(path.read_bytes()), path
            assert stat.S_IMODE(found.st_mode) == (0o644 if path.name == "metadata.json" else 0o444)


def test_a_document_is_kept(mount: Mount) -> None:
    """Read again, it is not made again."""
    document = mount.articles / FROGS / DOT / "oai_dc.xml"
    first = document.read_bytes()
    mount.sandbox.clear_requests()
    assert document.read_bytes() == first
    assert shell('cat "$1" "$1" | wc -c', document).strip() == str(2 * len(first))
    shutil.copy(document, os.devnull)
    assert mount.sandbox.requests() == []


def test_md5sums(mount: Mount) -> None:
    """``md5sum -c`` accepts it, from inside the article."""
    out = shell('cd "$1" && md5sum -c .figshare/md5sums', mount.articles / FROGS)
    assert out.count(": OK") == 3


def test_md5sums_of_this_moment(article: Article) -> None:
    """What was just written, overwritten or removed is told as it is."""
    for files in ({"a": b"one"}, {"a": b"two", "b": b"three"}):
        article.put(files)
        assert shell('cd "$1" && md5sum -c .figshare/md5sums', article.path).split() == [
            word for name in sorted(files) for word in (f"{name}:", "OK")
        ]
    (article / "a").unlink()
    assert shell('cd "$1" && md5sum -c .figshare/md5sums', article.path) == "b: OK\n"


def test_versions_are_links(mount: Mount) -> None:
    """Relative, to where the version is in any mount; its own documents tell of it, and are read-only."""
    version = mount.articles / FROGS / DOT / "versions" / "1"
    number = mount.sandbox.article(FROGS)["id"]
    assert os.readlink(version) == f"../../../../public/articles/{number}.v1"
    assert os.path.normpath(version.parent / os.readlink(version)) == str(
        mount / f"public/articles/{number}.v1"
    )
    assert {"README.txt", "calls_2019.zip"} <= names(version)
    assert "annotations.csv" not in names(version)  # that came with the second
    assert (version / DOT / "citation.txt").read_text().rstrip().endswith(".v1")
    assert shell('cd "$1" && md5sum -c .figshare/md5sums', version).count(": OK") == len(names(version))
    assert errno_of(lambda: write(version / DOT / "metadata.json", b"{}")) == errno.EROFS
    assert errno_of(lambda: (version / DOT / "new").write_bytes(b"x")) == errno.EROFS
    assert errno_of((version / DOT / "stats.json").unlink) == errno.EROFS


def test_the_state_of_the_mount(mount: Mount) -> None:
    """The root has documents of its own; nothing can be written there."""
    assert {"account.json", "quota.json", "status.json"} <= names(mount / DOT)
    assert "@" in json.loads((mount / DOT / "account.json").read_bytes())["email"]
    json.loads((mount / DOT / "status.json").read_bytes())
    assert errno_of(lambda: (mount / DOT / "new").write_bytes(b"x")) == errno.EPERM


# -- writing ------------------------------------------------------------


def test_jq_and_a_redirect(article: Article) -> None:
    """The README's way: into a scratch file, from there over the document. Only what changed is sent."""
    new = f"{article.title} edited"
    shell(
        'cd "$1/.figshare" && jq ".title = \\"$2\\"" metadata.json > x && cat x > metadata.json && rm x',
        article.path,
        new,
    )
    assert updates(article.sandbox) == 1
    assert article.sandbox.article(new)["id"]
    item = article.mount.articles / new
    assert metadata(item)["title"] == new
    assert "x" not in names(item / DOT)
    assert new in (item / DOT / "citation.txt").read_text()


@pytest.mark.parametrize(
    "way",
    ["sed", "vim", "vim copy", "vim auto", "mv", "cp", "rsync", "tee", "python", "append"],
)
def test_ways_to_save(article: Article, tmp_path: Path, way: str) -> None:
    """Editors and programs that write in place, beside, or rename: one change each."""
    document = article / DOT / "metadata.json"
    edited = tmp_path / "edited"
    edited.write_bytes(document.read_bytes().replace(b'"description": ""', b'"description": "Some words."'))
    assert b"Some words." in edited.read_bytes()
    script = {
        "sed": 'sed -i "s/\\"description\\": \\"\\"/\\"description\\": \\"Some words.\\"/" "$1"',
        "vim": VIM % "backupcopy=no",
        "vim copy": VIM % "backupcopy=yes",
        "vim auto": VIM % "backupcopy=auto",
        "rsync": 'rsync -a "$2" "$1"',
        "mv": 'cp "$2" "$1.new" && mv "$1.new" "$1"',
        "cp": 'cp "$2" "$1"',
        "tee": 'tee "$1" < "$2" > /dev/null',
        "python": 'python3 -c "import pathlib, sys; pathlib.Path(sys.argv[1]).write_bytes('
        'pathlib.Path(sys.argv[2]).read_bytes())" "$1" "$2"',
        "append": '( head -c 100 "$2"; tail -c +101 "$2" ) > "$1"',
    }[way]
    shell(script, document, edited)
    assert metadata(article.path)["description"] == "Some words."
    assert updates(article.sandbox) == 1
    assert not names(article / DOT) & {"last-error", "metadata.json~", "metadata.json.new", "4913"}
    assert not [name for name in names(article / DOT) if name.startswith(("sed", "."))]


def test_what_is_as_it_was_is_not_sent(article: Article) -> None:
    """The same bytes, a clean handle, a document opened for writing and closed: no change. What is written
    as a whole is compared with what Figshare has by now.
    """
    document = article / DOT / "metadata.json"
    same = document.read_bytes()
    article.sandbox.clear_requests()
    os.close(os.open(document, os.O_RDWR))
    with document.open("r+b") as stream:
        os.close(os.dup(stream.fileno()))
        stream.write(same[:10])
    assert article.sandbox.requests() == []
    write(document, same)
    shell('cp "$1" "$1.new" && mv "$1.new" "$1"', document)
    assert document.read_bytes() == same
    assert updates(article.sandbox) == 0
    article.mount.claim("flush of inode")
    article.sandbox.ask("PUT", f"/v2/account/articles/{article.id}", {"description": "From elsewhere."})
    assert errno_of(lambda: write(document, same)) == errno.ESTALE
    assert metadata(article.path)["description"] == "From elsewhere."


def test_what_is_refused(article: Article) -> None:
    """EINVAL at the close, or at the rename; the document stays, and ``last-error`` says why until something
    else is accepted.
    """
    article.mount.claim("(flush|rename) of inode")
    document = article / DOT / "metadata.json"
    before = document.read_bytes()
    error = article / DOT / "last-error"
    assert not error.exists()
    assert errno_of(lambda: write(document, b'{"title": ')) == errno.EINVAL
    assert document.read_bytes() == before
    assert "line 1" in error.read_text()
    assert "UTC" in error.read_text()
    assert "last-error" in names(article / DOT)
    (article / DOT / "new").write_bytes(b'{"title": "x"}')
    assert errno_of(lambda: (article / DOT / "new").rename(document)) == errno.EINVAL
    assert "title" in error.read_text()
    assert (article / DOT / "new").read_bytes() == b'{"title": "x"}'
    assert document.read_bytes() == before
    assert updates(article.sandbox) == 0
    write(document, before.replace(b'"description": ""', b'"description": "Some words."'))
    assert not error.exists()
    assert errno_of(lambda: write(document, b"[")) == errno.EINVAL
    error.unlink()
    assert not error.exists()


def test_what_was_changed_elsewhere(article: Article) -> None:
    """ESTALE, and nothing is overwritten; who reads again can write."""
    article.mount.claim("(flush|rename) of inode")
    document = article / DOT / "metadata.json"
    read = document.read_bytes()
    article.sandbox.ask("PUT", f"/v2/account/articles/{article.id}", {"description": "From elsewhere."})
    edited = read.replace(b'"tags": []', b'"tags": ["ice"]').replace(
        b'"keywords": []', b'"keywords": ["ice"]'
    )
    assert edited != read
    assert errno_of(lambda: write(document, edited)) == errno.ESTALE
    assert b"From elsewhere." in document.read_bytes()
    assert metadata(article.path)["tags"] == []
    again = document.read_bytes()
    write(document, again.replace(b"From elsewhere.", b"From here."))
    assert metadata(article.path)["description"] == "From here."


@pytest.mark.parametrize(
    "save",
    ['cp "$2" "$1"', 'cat "$2" > "$1"', 'cp "$2" "$1.new" && mv "$1.new" "$1"', 'cat "$1"; cp "$2" "$1"'],
)
def test_two_edits_of_one_reading(article: Article, tmp_path: Path, save: str) -> None:
    """The second is ESTALE and the first stays, also if the document was looked at in between. Made from a
    reading of its own, it counts.
    """
    article.mount.claim("(flush|rename) of inode")
    document = article / DOT / "metadata.json"
    first, second = tmp_path / "first", tmp_path / "second"
    edit = '.tags = ["second"] | .keywords = .tags'
    shell("""jq '.description = "First"' "$1" > "$2" """, document, first)
    shell("""jq "$3" "$1" > "$2" """, document, second, edit)
    shell(save, document, first)
    done = run("bash", "-c", save, "bash", document, second, code=None)
    assert done.returncode != 0 or save.startswith('cat "$2"')  # which does not look what its close says
    assert "since it was read" in (article / DOT / "last-error").read_text()
    shown = metadata(article.path)
    assert (shown["description"], shown["tags"]) == ("First", [])
    shell('jq "$3" "$1" > "$2"', document, second, edit)
    shell('cp "$2" "$1"', document, second)
    shown = metadata(article.path)
    assert (shown["description"], shown["tags"]) == ("First", ["second"])


def test_an_editor_saves_again(article: Article, tmp_path: Path) -> None:
    """vim, three times, without reading in between, while others read what it has saved."""
    document = article / DOT / "metadata.json"
    script = tmp_path / "script.vim"
    script.write_text(
        "".join(
            f'%s/"description": ".*"/"description": "Words {n}."/\nw\nsilent !cat % > /dev/null\n'
            for n in range(3)
        )
        + "q\n"
    )
    vim = "vim -es -u NONE -i NONE --cmd 'set nocompatible swapfile backupskip= writebackup'"
    shell(f'{vim} -S "$1" "$2" < /dev/null', script, document)
    assert metadata(article.path)["description"] == "Words 2."
    assert updates(article.sandbox) == 3


def test_an_editor_saves_a_note_again(
    make_mount: MakeMount, make_sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    """Into the same note, though its name changes with its first words."""
    mount = make_mount("--dir-timeout", "1", sandbox=make_sandbox("example"))
    notes = mount / "projects" / GLACIER / DOT / "notes"
    (notes / "new.txt").write_text("The stakes of 2021.\n")
    (note,) = notes.iterdir()
    for n, backup in enumerate(("no", "yes", "auto")):
        script = tmp_path / "script.vim"
        script.write_text(
            "".join(f"%s/2.*/2{n}{times}/\nw\nsilent !ls {str(notes)!r} > /dev/null\n" for times in range(3))
            + "q\n"
        )
        vim = f"vim -es -u NONE -i NONE --cmd 'set nocp swapfile backupskip= writebackup backupcopy={backup}'"
        shell(f'{vim} -S "$1" "$2" < /dev/null', script, note)
        (note,) = notes.iterdir()
        assert note.read_text() == f"The stakes of 2{n}2\n"


def test_who_looks_does_not_write(
    make_mount: MakeMount, make_sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    """A note that was changed elsewhere since it was read is not overwritten, though somebody has read the
    newer one meanwhile.
    """
    mount = make_mount("--dir-timeout", "1", sandbox=make_sandbox("example"))
    mount.claim("flush of inode")
    notes = mount / "projects" / GLACIER / DOT / "notes"
    (notes / "new.txt").write_text(
        "The stakes of 2021, and all that was written since they were set in 2019.\n"
    )
    (note,) = notes.iterdir()
    script = 'sed "s/2021/2022/" "$1" > "$2"; echo; read; cp "$2" "$1"'
    with subprocess.Popen(
        ["bash", "-c", script, "bash", note, tmp_path / "edited"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as editor:
        assert editor.stdout is not None
        assert editor.stdout.readline() == b"\n"
        path = mount.sandbox.requests("api", "GET", r"/notes/\d+$")[-1]["path"]
        mount.sandbox.ask("PUT", path, {"text": note.read_text() + "theirs"})
        wait_until(lambda: note.read_text().endswith("theirs\n"))
        _, said = editor.communicate(b"\n", timeout=60)
        assert editor.returncode != 0
        assert b"Stale file handle" in said
    assert note.read_text().endswith("theirs\n")


def test_what_cannot_be_written(article: Article) -> None:
    document = article / DOT / "citation.txt"
    assert errno_of(lambda: write(document, b"x")) == errno.EACCES
    (article / DOT / "new").write_bytes(b"x")
    assert errno_of(lambda: (article / DOT / "new").rename(document)) == errno.EPERM
    assert errno_of(lambda: os.truncate(article / DOT / "metadata.json", 0)) == errno.EINVAL


def test_scratch_files_are_bounded(article: Article) -> None:
    """In memory, so 16 MiB of all; what is removed makes room."""
    scratch = article / DOT / "scratch"
    scratch.write_bytes(bytes(10 << 20))
    assert errno_of(lambda: (article / DOT / "more").write_bytes(bytes(10 << 20))) == errno.ENOSPC
    (article / DOT / "more").unlink()
    scratch.unlink()
    scratch.write_bytes(bytes(15 << 20))
    assert scratch.read_bytes() == bytes(15 << 20)
    scratch.unlink()
    assert not scratch.exists()
    assert article.remote() == []


def test_a_killed_writer_changes_nothing(article: Article, tmp_path: Path) -> None:
    document = article / DOT / "metadata.json"
    before = document.read_bytes()
    edited = tmp_path / "edited"
    edited.write_bytes(before.replace(b'"description": ""', b'"description": "Some words."'))
    article.sandbox.clear_requests()
    script = 'exec > "$1"; cat "$2"; echo written >&2; exec sleep 60'
    with subprocess.Popen(["bash", "-c", script, "bash", document, edited], stderr=subprocess.PIPE) as writer:
        assert writer.stderr is not None
        assert writer.stderr.readline() == b"written\n"
        writer.send_signal(signal.SIGKILL)
    assert document.read_bytes() == before
    assert updates(article.sandbox) == 0


def test_no_answer(make_mount: MakeMount) -> None:
    """A close that Figshare does not answer ends within ``op-timeout``, and says so."""
    mount = make_mount("--op-timeout", "3")
    mount.claim("no answer")
    (mount.articles / "slow").mkdir()
    document = mount.articles / "slow" / DOT / "metadata.json"
    before = document.read_bytes()
    mount.sandbox.ask(
        "PUT",
        "/_sandbox/faults",
        [{"role": "api", "method": method, "action": "hang"} for method in ("PUT", "PATCH")],
    )
    edited = before.replace(b'"description": ""', b'"description": "Some words."')
    began = time.monotonic()
    assert errno_of(lambda: write(document, edited)) == errno.ETIMEDOUT
    assert time.monotonic() - began < 10
    mount.sandbox.ask("PUT", "/_sandbox/faults", [])
    assert document.read_bytes() == before
    assert "no answer" in (mount.articles / "slow" / DOT / "last-error").read_text()
    write(document, edited)
    assert metadata(mount.articles / "slow")["description"] == "Some words."


def test_read_only(make_mount: MakeMount, make_sandbox: Callable[..., Sandbox]) -> None:
    """``-o ro``: EROFS, and everything can be read."""
    mount = make_mount("--ro", sandbox=make_sandbox("example"))
    document = mount.articles / FROGS / DOT / "metadata.json"
    assert document.read_bytes()
    assert errno_of(lambda: write(document, b"x")) == errno.EROFS
    assert errno_of(lambda: (document.parent / "new").write_bytes(b"x")) == errno.EROFS


# -- notes and private links ------------------------------------------------------------


def test_notes(mount: Mount) -> None:
    """Made by writing, changed, removed; one that is refused is not there."""
    mount.claim("flush of inode")
    project = mount / "projects" / GLACIER
    notes = project / DOT / "notes"
    assert names(notes) == set()
    (notes / "new.txt").write_text("The stakes of 2021.\n")
    (note,) = notes.iterdir()
    assert note.read_text() == "The stakes of 2021.\n"
    shell('sed -i "s/2021/2022/" "$1"', note)
    (note,) = notes.iterdir()
    assert note.read_text() == "The stakes of 2022.\n"
    with note.open("a") as stream:
        stream.write("And more.\n")
    (note,) = notes.iterdir()
    assert note.read_text() == "The stakes of 2022.\nAnd more.\n"
    assert errno_of(lambda: (notes / "empty").touch()) == errno.EINVAL
    assert "3 characters" in (project / DOT / "last-error").read_text()
    note.unlink()
    assert names(notes) == set()
    assert mount.sandbox.requests("api", "DELETE", "/notes/")


def test_private_links(article: Article) -> None:
    """``touch`` makes one, ``rm`` ends it."""
    links = article / DOT / "links"
    run("touch", links / "new")
    (link,) = links.iterdir()
    assert json.loads(link.read_bytes())["is_active"] is True
    assert len(json.loads((article / DOT / "links.json").read_bytes())) == 1
    link.unlink()
    assert names(links) == set()
    assert json.loads((article / DOT / "links.json").read_bytes()) == []
