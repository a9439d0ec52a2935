"""``close()`` through a real mount: what it waits for, what ends the wait, and what a program hears
("Seen by" 3 and 4; programs.md §5, §7).
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from processes import (
    Article,
    MakeMount,
    Mount,
    content,
    errno_of,
    new_article,
    run,
    shell,
    title_of,
    wait_until,
)

Needs = Callable[..., None]

OLD = content("old", 30_000)
NEW = content("new", 200_000)
AT_ONCE = 1.0  #: seconds within which a program that is to end has ended
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
REFUSED = r"ERROR figfs\.[\w.]+: .* is not stored: "


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file.bin"
    path.write_bytes(NEW)
    return path


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a program in a process group of its own, as a shell does; what runs at the end is killed."""
    running: list[subprocess.Popen[str]] = []

    def popen(*command: str | Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [str(word) for word in command], start_new_session=True, stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        return process

    yield popen
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def ended_at_once(process: subprocess.Popen[str], number: signal.Signals) -> int:
    """Send a signal to the program and its children, as Ctrl-C does; its exit code. It has a second."""
    began = time.monotonic()
    os.killpg(process.pid, number)
    code = process.wait(20)
    assert time.monotonic() - began < AT_ONCE
    return code


def size_of(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None


def spooled(mount: Mount) -> set[str]:
    """Names of the spool files that the mount holds."""
    return set(os.listdir(mount.state / "spool"))


# -- interrupted while close waits ------------------------------------------------------------

#: What an upload may be waiting for when the signal comes.
WAITS = {
    "assembly": None,
    "part": {"role": "upload", "method": "PUT", "action": "hang"},
    "announcement": {"role": "api", "method": "POST", "path": "/files$", "action": "latency", "seconds": 3},
}


@pytest.fixture
def waiting(make_mount: MakeMount, request: pytest.FixtureRequest) -> Callable[[str], Article]:
    """A function: an article of a mount whose uploads do not end, for one of the reasons in ``WAITS``."""

    def make(reason: str) -> Article:
        article = new_article(make_mount("--grace", "0.2"), title_of(request))
        article.put({"old.bin": OLD})
        rule = WAITS[reason]
        if rule is None:
            article.sandbox.change_settings(assembly_delay=60)
        else:
            article.sandbox.set_faults([rule])
        return article

    return make


def is_waited_for(article: Article, reason: str) -> bool:
    if WAITS[reason] is None:
        return bool(article.sandbox.requests("api", "POST", r"/files/\d+$"))
    return article.sandbox.fault_hits() == [1]


def nothing_remains(article: Article) -> None:
    """As if the interrupted program had never run: here, on Figshare, and in what is owed."""
    article.shows({"old.bin": OLD})
    article.sandbox.set_faults([])
    article.will_hold({"old.bin": OLD})
    wait_until(lambda: not spooled(article.mount), what="the spool is empty")
    article.mount.alive()


#: One signal for each reason to wait, one reason for each signal.
INTERRUPTIONS = [
    ("part", signal.SIGINT),
    ("announcement", signal.SIGINT),
    *(("assembly", number) for number in SIGNALS),
]


@pytest.mark.parametrize(("reason", "number"), INTERRUPTIONS)
@pytest.mark.parametrize("name", ["new.bin", "old.bin"])
def test_interrupted_in_close(
    waiting: Callable[[str], Article],
    start: Callable[..., subprocess.Popen[str]],
    file: Path,
    reason: str,
    number: signal.Signals,
    name: str,
) -> None:
    """Ctrl-C, SIGTERM and SIGKILL end a ``cp`` that waits in close, within a second; the upload is aborted,
    and a new file's name is gone, an overwritten one shows its version on Figshare.
    """
    article = waiting(reason)
    process = start("cp", file, article / name)
    wait_until(lambda: is_waited_for(article, reason), what="the upload is under way")
    assert ended_at_once(process, number) == -number
    nothing_remains(article)


def test_timeout_in_close(waiting: Callable[[str], Article], file: Path) -> None:
    """``timeout 2 cp big article/`` leaves no partial file: it is stopped in its close."""
    article = waiting("part")
    began = time.monotonic()
    run("timeout", "2", "cp", file, article.path, code=124)
    assert time.monotonic() - began < 2 + AT_ONCE
    nothing_remains(article)


def test_rsync_interrupted_in_close(
    waiting: Callable[[str], Article], start: Callable[..., subprocess.Popen[str]], file: Path, needs: Needs
) -> None:
    """rsync catches Ctrl-C: its close fails, so it cleans up and ends with 20; the next run starts clean."""
    needs("rsync")
    article = waiting("assembly")
    process = start("rsync", "-a", file, article / "new.bin")
    wait_until(lambda: is_waited_for(article, "assembly"), what="the upload is under way")
    assert ended_at_once(process, signal.SIGINT) == 20
    nothing_remains(article)
    article.sandbox.change_settings(assembly_delay=0)
    run("rsync", "-a", file, article / "new.bin")
    article.holds({"new.bin": NEW, "old.bin": OLD})


def test_what_a_close_has_accepted_is_not_aborted(
    make_mount: MakeMount,
    start: Callable[..., subprocess.Popen[str]],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """A close that was answered past ``close_timeout`` is a promise: Ctrl-C on a program that appends to the
    file ends that program, and no byte is lost.
    """
    article = new_article(make_mount("--close-timeout", "1"), title_of(request))
    article.sandbox.set_faults([{"role": "upload", "method": "PUT", "action": "latency", "seconds": 5}])
    (article / "f").write_bytes(OLD)
    (tmp_path / "more").write_bytes(NEW)
    process = start("bash", "-c", 'exec cat "$1" >> "$2"', "bash", tmp_path / "more", article / "f")
    wait_until(lambda: article.sandbox.fault_hits()[0] > 1, what="the second upload")
    assert ended_at_once(process, signal.SIGINT) == -signal.SIGINT
    article.will_hold({"f": OLD + NEW}, timeout=30)


# -- killed before the close ------------------------------------------------------------


@pytest.fixture
def half_written(
    article: Article, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> Callable[[str], subprocess.Popen[str]]:
    """A function: a ``cp`` that has copied some of a file and waits for more."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writers: list[int] = []

    def make(name: str) -> subprocess.Popen[str]:
        process = start("cp", pipe, article / name)
        writers.append(os.open(pipe, os.O_WRONLY))
        os.write(writers[-1], NEW[:50_000])
        wait_until(lambda: size_of(article / name) == 50_000, what="the half is copied")
        return process

    return make


@pytest.mark.parametrize("number", SIGNALS)
def test_killed_before_its_close(
    article: Article, half_written: Callable[[str], subprocess.Popen[str]], number: signal.Signals
) -> None:
    """A partial file is not uploaded: a new file's name goes, an overwritten one is as before."""
    article.put({"old.bin": OLD})
    for name in ("old.bin", "new.bin"):
        process = half_written(name)
        assert ended_at_once(process, number) == -number
        wait_until(lambda: (article / "old.bin").stat().st_size == len(OLD), 2, "the old version")
        article.shows({"old.bin": OLD})
    article.holds({"old.bin": OLD})
    assert article.uploads() == 0


def test_timeout_before_the_close(article: Article, tmp_path: Path) -> None:
    """``timeout`` on a copy that takes too long: no partial file, here or there."""
    os.mkfifo(tmp_path / "pipe")
    shell(
        'exec 3<>"$1"; head -c 50000 /dev/zero >&3 & timeout 1 cp "$1" "$2"; test $? = 124',
        tmp_path / "pipe",
        article / "f",
    )
    wait_until(lambda: not os.listdir(article.path), 2, "the name is gone")
    article.holds({})
    assert article.uploads() == 0


def test_killed_while_another_one_writes(
    article: Article, half_written: Callable[[str], subprocess.Popen[str]]
) -> None:
    """Its bytes stay as long as somebody writes to the file who is well: as on a local disk."""
    process = half_written("f")
    with (article / "f").open("r+b") as file:
        file.write(b"head")
        file.flush()
        assert ended_at_once(process, signal.SIGKILL) == -signal.SIGKILL
    article.will_hold({"f": b"head" + NEW[4:50_000]})


def test_killed_with_nothing_written(
    article: Article, start: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """A name that a killed program has only just made goes, too."""
    os.mkfifo(tmp_path / "pipe")
    process = start("bash", "-c", 'exec cat "$1" > "$2"', "bash", tmp_path / "pipe", article / "f")
    writer = os.open(tmp_path / "pipe", os.O_WRONLY)
    wait_until(lambda: (article / "f").exists(), what="the name is made")
    ended_at_once(process, signal.SIGTERM)
    os.close(writer)
    wait_until(lambda: not os.listdir(article.path), 2, "the name is gone")


def test_an_exit_without_a_close_is_an_end(article: Article) -> None:
    """Programs that never close, and end while threads of theirs run: the file is whole."""
    script = (
        "import os, sys, threading, time\n"
        "def write():\n"
        "    os.write(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY), b'all of it')\n"
        "    done.set()\n"
        "    time.sleep(60)\n"
        "done = threading.Event()\n"
        "threading.Thread(target=write, daemon=True).start()\n"
        "done.wait()\n"
        "os._exit(0)\n"
    )
    run(sys.executable, "-c", script, article / "f")
    article.will_hold({"f": b"all of it"})


# -- several closes ------------------------------------------------------------


def test_a_group_of_commands(article: Article) -> None:
    """Every child of the group closes the file; it is uploaded once, when the last one has."""
    shell('{ echo a; /bin/echo b; sleep .1; /bin/echo c; } > "$1"', article / "f")
    article.holds({"f": b"a\nb\nc\n"})
    assert article.uploads() == 1


def test_a_subshell(article: Article) -> None:
    """The same in a process of its own, in the background, and by descriptor."""
    shell(
        '( echo a; /bin/echo b ) > "$1"; exec 3> "$2"; echo c >&3; /bin/echo d >&3',
        article / "f",
        article / "g",
    )
    article.holds({"f": b"a\nb\n", "g": b"c\nd\n"})
    assert article.uploads() == 2


def test_dup(article: Article) -> None:
    """Only the close of the last descriptor waits for the upload."""
    first = os.open(article / "f", os.O_CREAT | os.O_WRONLY)
    second = os.dup(first)
    os.write(first, OLD)
    os.close(first)
    assert article.uploads() == 0
    os.write(second, NEW)
    os.close(second)
    article.holds({"f": OLD + NEW})
    assert article.uploads() == 1


def test_a_child_goes_on_writing(article: Article) -> None:
    """The opener closes, its child writes on: never two files, and the last bytes count."""
    script = 'exec > "$1"; echo a; (sleep .5; echo b) & exec > /dev/null; exit'
    shell(script, article / "f")
    article.will_hold({"f": b"a\nb\n"})
    article.shows({"f": b"a\nb\n"})


# -- what does not upload ------------------------------------------------------------


def test_fsync_does_not_upload(article: Article) -> None:
    """fsync: on this disk; Figshare hears of the file when it is closed."""
    with (article / "f").open("wb") as file:
        file.write(NEW)
        file.flush()
        os.fsync(file.fileno())
        assert article.sandbox.requests() == []
    article.holds({"f": NEW})


def test_a_clean_handle_costs_nothing(article: Article) -> None:
    """Opened for writing, synced, truncated to the size that it has, closed: no request."""
    article.put({"f": NEW})
    for mode in ("r+b", "ab"):
        with (article / "f").open(mode) as file:
            os.fsync(file.fileno())
            os.ftruncate(file.fileno(), len(NEW))
    assert article.sandbox.requests(None, "POST") == article.sandbox.requests(None, "PUT") == []
    article.holds({"f": NEW})


def test_unlinked_while_open(article: Article) -> None:
    """A temporary file without a name is never uploaded."""
    with (article / "f").open("w+b") as file:
        (article / "f").unlink()
        file.write(NEW)
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        assert file.read() == NEW
    assert article.sandbox.requests() == []
    article.shows({})


# -- errors ------------------------------------------------------------


def test_errors_are_sticky(make_mount: MakeMount, request: pytest.FixtureRequest) -> None:
    """After a failed write: fsync, rename and close fail the same way; the name of the new file goes, and a
    copy that starts anew works.
    """
    mount = make_mount(start=False)
    mount.sandbox.change_settings(maximum_file_size=100_000)
    article = new_article(mount.start(), title_of(request))
    article.put({"old": OLD})
    for path in (article / "new", article / "old"):
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.write(descriptor, OLD)
        assert errno_of(partial(os.pwrite, descriptor, b"x", 100_000)) == errno.EFBIG
        assert errno_of(partial(os.pwrite, descriptor, b"x", 0)) == errno.EFBIG
        assert errno_of(partial(os.fsync, descriptor)) == errno.EFBIG
        assert errno_of(partial(os.rename, path, article / "other")) == errno.EFBIG
        assert errno_of(partial(os.close, descriptor)) == errno.EFBIG
        article.shows({"old": OLD})
    (article / "new").write_bytes(NEW[:1000])
    article.holds({"new": NEW[:1000], "old": OLD})


#: Copies ``$1`` into the article ``$2``; exit code; whether it keeps what it could not copy.
COPIES = {
    "cp": (1, 'cp "$1" "$2"'),
    "cp -a": (1, 'cp -a "$1" "$2"'),
    "mv": (1, 'mv "$1" "$2"'),
    "rsync": (11, 'rsync -a "$1" "$2"'),
    "tar": (2, 'tar c -C "${1%/*}" "${1##*/}" | tar x -C "$2"'),
    "gio copy": (1, 'gio copy "$1" "$2"'),
    "gio move": (1, 'gio move "$1" "$2"'),
    "dd": (1, 'dd status=none if="$1" of="$2/file.bin"'),
}


@pytest.fixture
def small(make_mount: MakeMount, request: pytest.FixtureRequest) -> Callable[..., Article]:
    """A function: an article of an account with a quota of so many bytes, known to the mount or not."""

    def make(quota: int, *, known: bool) -> Article:
        mount = make_mount("--grace", "0.2", start=False)
        mount.claim(REFUSED, r"WARNING figfs\.fuse: .*\(EDQUOT\)")
        if known:
            mount.sandbox.change_settings(quota=quota)
        article = new_article(mount.start(), title_of(request))
        mount.sandbox.change_settings(quota=quota)
        return article

    return make


@pytest.mark.parametrize("known", [True, False], ids=["write", "close"])
def test_quota(small: Callable[..., Article], file: Path, needs: Needs, known: bool) -> None:
    """EDQUOT at the write where it can be known, else at the close: every program says so and fails, and
    none loses its source; nothing remains under the name.
    """
    needs("rsync", "gio")
    article = small(150_000, known=known)
    for name, (code, script) in COPIES.items():
        done = run("bash", "-c", script, "bash", file, article.path, code=code)
        assert "Disk quota exceeded" in done.stderr, name
        assert file.read_bytes() == NEW, name
        assert os.listdir(article.path) == [], name
    assert article.remote() == []
    assert article.uploads() == (0 if known else len(COPIES))


@pytest.mark.parametrize("known", [True, False], ids=["write", "close"])
def test_quota_of_an_overwritten_file(small: Callable[..., Article], file: Path, known: bool) -> None:
    """It shows its version on Figshare again."""
    article = small(150_000, known=known)
    article.put({"file.bin": OLD})
    done = run("cp", file, article.path, code=1)
    assert "Disk quota exceeded" in done.stderr
    article.shows({"file.bin": OLD})
    article.holds({"file.bin": OLD})


@pytest.mark.parametrize("name", ["file.bin", "new.bin"])
def test_rsync_after_a_copy_that_failed(
    small: Callable[..., Article], file: Path, needs: Needs, name: str
) -> None:
    """``cp -p`` has set size and time before its close failed: nobody takes the file for done, not even for
    the second in which the kernel might answer by itself.
    """
    needs("rsync")
    article = small(150_000, known=False)
    article.put({"file.bin": OLD})
    run("cp", "-p", file, article / name, code=1)
    run("rsync", "-a", file, article / name, code=11)
    article.shows({"file.bin": OLD})


@pytest.mark.parametrize("known", [True, False], ids=["write", "close"])
def test_a_second_rsync_after_the_quota_was_raised(
    small: Callable[..., Article], file: Path, needs: Needs, known: bool
) -> None:
    """It copies what the first one could not, and nothing twice."""
    needs("rsync")
    article = small(150_000, known=known)
    run("rsync", "-a", file, article.path, code=11)
    article.sandbox.change_settings(quota=1_000_000)
    run("rsync", "-a", file, article.path)
    article.holds({"file.bin": NEW})


def test_what_is_owed_takes_room(small: Callable[..., Article], file: Path) -> None:
    """Bytes that wait for their upload are counted, at a write and by df; room made elsewhere is seen."""
    article = small(500_000, known=True)
    free = os.statvfs(article.path)
    assert free.f_blocks * free.f_frsize <= 500_000
    article.sandbox.change_settings(assembly_delay=60)
    script = "import os, sys; os.write(os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY), bytes(200_000))"
    with (article / "a").open("wb") as first, (article / "b").open("wb", buffering=0) as second:
        first.write(NEW)
        first.flush()
        assert 295_000 < os.statvfs(article.path).f_bfree * free.f_frsize <= 300_000
        second.write(NEW)
        with (article / "c").open("wb", buffering=0) as third:
            assert errno_of(lambda: third.write(NEW)) == errno.EDQUOT
            article.sandbox.change_settings(quota=1_000_000, assembly_delay=0)
            assert errno_of(third.close) == errno.EDQUOT
    run(sys.executable, "-c", script, article / "c")
    article.will_hold({"a": NEW, "b": NEW, "c": bytes(200_000)})


# -- a full disk ------------------------------------------------------------


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a small disk")
    path = tmp_path / "disk"
    path.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", path)
    yield path
    run("umount", "-l", path)


def test_disk_full(
    make_mount: MakeMount, tiny_disk: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """ENOSPC at the write; the name goes with the close, the room is free again, and nothing that was
    accepted is lost.
    """
    mount = make_mount("--close-timeout", "0", start=False)
    mount.state = tiny_disk / "state"
    article = new_article(mount.start(), title_of(request))
    article.sandbox.set_faults([{"role": "upload", "method": "PUT", "action": "hang", "seconds": 4}])
    (article / "accepted").write_bytes(NEW)
    (tmp_path / "big").write_bytes(content("big", 8 << 20))
    for _ in range(2):
        done = run("cp", tmp_path / "big", article.path, code=1)
        assert "No space left on device" in done.stderr
        article.shows({"accepted": NEW})
    (tmp_path / "fits").write_bytes(content("fits", 1 << 20))
    run("cp", tmp_path / "fits", article.path)
    article.sandbox.set_faults([])
    mount.claim(r"WARNING figfs\.")
    article.will_hold({"accepted": NEW, "fits": content("fits", 1 << 20)}, timeout=30)
    assert shutil.disk_usage(tiny_disk).free > 2 << 20


# -- extended attributes ------------------------------------------------------------


def test_attributes_of_the_user(make_mount: MakeMount, request: pytest.FixtureRequest) -> None:
    """Set, read, listed, removed; kept over an upload, a rename and a remount; only ``user.`` ones."""
    article = new_article(make_mount("--grace", "0.2"), title_of(request))
    path = article / "f"
    with path.open("wb") as file:
        os.setxattr(file.fileno(), "user.origin", b"lab \x00\xff")
        os.setxattr(file.fileno(), "user.empty", b"")
        file.write(OLD)
    os.setxattr(article.path, "user.color", b"red")

    def own(path: Path) -> dict[str, bytes]:
        """Without what figfs tells."""
        found = [name for name in os.listxattr(path) if not name.startswith("user.figshare.")]
        return {name: os.getxattr(path, name) for name in found}

    assert own(path) == {
        "user.origin": b"lab \x00\xff",
        "user.empty": b"",
    }
    os.removexattr(path, "user.empty")
    assert errno_of(lambda: os.removexattr(path, "user.empty")) == errno.ENODATA
    assert errno_of(lambda: os.setxattr(path, "trusted.x", b"")) == errno.EOPNOTSUPP
    assert errno_of(lambda: [os.setxattr(path, f"user.{n}", bytes(30_000)) for n in range(3)]) == errno.ENOSPC
    for n in range(2):
        os.removexattr(path, f"user.{n}")
    path.rename(article / "g")
    article.will_hold({"g": OLD})
    article.mount.remount()
    assert own(article / "g") == {"user.origin": b"lab \x00\xff"}
    assert os.getxattr(article.path, "user.color") == b"red"
