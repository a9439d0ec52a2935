"""Starting and ending: unmount, SIGTERM, kill -9, a second mount, --background (semantics.md, Lifecycle)."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import (
    FIGFS,
    MakeMount,
    Mount,
    Sandbox,
    content,
    environment,
    errno_of,
    is_mounted,
    names,
    run,
    stored,
    wait_until,
)

DATA = content("lifecycle", 600_000)


def target(mount: Mount) -> Path:
    path = mount.articles / "Target"
    path.mkdir()
    mount.sandbox.clear_requests()
    return path


def slow(mount: Mount, seconds: float) -> None:
    """Parts of uploads take that long."""
    rate = len(DATA) / seconds
    mount.sandbox.set_faults(
        [{"role": "upload", "method": "PUT", "action": "bandwidth", "bytes_per_second": rate}]
    )


def test_sigterm_waits_for_uploads(make_mount: MakeMount) -> None:
    """SIGTERM while an upload is under way: unmounted at once, the upload completed, exit 0."""
    mount = make_mount("--close-timeout", "0")
    path = target(mount)
    slow(mount, 3)
    (path / "f").write_bytes(DATA)
    wait_until(lambda: mount.sandbox.requests("api", "POST", "/files$"), what="announced")
    mount.signal(signal.SIGTERM)
    wait_until(lambda: not is_mounted(mount.path), 5, "unmounted")
    assert mount.sandbox.remote_files("Target") != stored({"f": DATA})
    assert mount.wait() == 0
    assert mount.sandbox.remote_files("Target") == stored({"f": DATA})


def test_unmount_waits_for_uploads(make_mount: MakeMount) -> None:
    """``fusermount3 -u`` with an upload and a deletion owed: both are done when the daemon has ended."""
    mount = make_mount("--close-timeout", "0", "--grace", "30")
    path = target(mount)
    (path / "old").write_bytes(b"old")
    wait_until(lambda: mount.sandbox.remote_files("Target") == stored({"old": b"old"}))
    (path / "old").unlink()
    slow(mount, 2)
    (path / "f").write_bytes(DATA)
    mount.unmount()
    assert mount.sandbox.remote_files("Target") == stored({"f": DATA})


def test_rename_owed_at_unmount(make_mount: MakeMount) -> None:
    """A stored file renamed, and the mount ended within the grace: it has its new name on Figshare."""
    mount = make_mount("--grace", "30")
    path = target(mount)
    (path / "old").write_bytes(DATA)
    (path / "old").rename(path / "new")
    mount.unmount()
    assert mount.sandbox.remote_files("Target") == stored({"new": DATA})


def test_unmount_timeout(make_mount: MakeMount) -> None:
    """Uploads that take too long stay in the journal, and the log says how many; the next mount goes on."""
    mount = make_mount("--close-timeout", "0", "--unmount-timeout", "1")
    mount.claim("1 files? (is|are) not on Figshare yet", "uploads? from an earlier mount")
    path = target(mount)
    slow(mount, 30)
    (path / "f").write_bytes(DATA)
    began = time.monotonic()
    mount.unmount()
    assert time.monotonic() - began < 8
    assert "not on Figshare yet" in mount.log()
    mount.sandbox.set_faults([])
    mount.start()
    wait_until(lambda: mount.sandbox.remote_files("Target") == stored({"f": DATA}), 20)
    assert (path / "f").read_bytes() == DATA


def test_umount_command(make_mount: MakeMount) -> None:
    """``figfs umount``: unmounted, the daemon ends with 0; again: one line, exit 1."""
    mount = make_mount()
    run(*FIGFS, "umount", mount.path)
    assert mount.wait() == 0
    assert not is_mounted(mount.path)
    again = run(*FIGFS, "umount", mount.path, code=1)
    assert len(again.stderr.splitlines()) == 1


def test_unmount_while_in_use(make_mount: MakeMount) -> None:
    """Unmount while a file is open: EBUSY, and the mount lives."""
    mount = make_mount()
    path = target(mount)
    with (path / "f").open("wb") as stream:
        assert "busy" in run("fusermount3", "-u", mount.path, code=1).stderr
        stream.write(DATA)
    mount.alive()
    assert mount.sandbox.remote_files("Target") == stored({"f": DATA})


def test_kill_and_remount(make_mount: MakeMount) -> None:
    """kill -9 after close: the dead mount point is cleaned; the file arrives, once."""
    mount = make_mount("--close-timeout", "0")
    mount.claim("uploads? from an earlier mount")
    path = target(mount)
    (path / "before").write_bytes(b"before")
    wait_until(lambda: mount.sandbox.remote_files("Target") == stored({"before": b"before"}))
    slow(mount, 20)
    (path / "f").write_bytes(DATA)
    wait_until(lambda: mount.sandbox.requests("api", "POST", "/files$"), what="announced")
    mount.kill()
    assert errno_of(lambda: os.listdir(mount.path)) == errno.ENOTCONN
    mount.sandbox.set_faults([])
    mount.start()
    expected = {"before": b"before", "f": DATA}
    wait_until(lambda: mount.sandbox.remote_files("Target") == stored(expected), 20)
    wait_until(lambda: names(path) == set(expected))
    assert {name: (path / name).read_bytes() for name in names(path)} == expected
    assert mount.sandbox.announced("Target") == 2


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.4])
def test_kill_at_any_time(make_mount: MakeMount, delay: float) -> None:
    """kill -9 at some point of an upload that replaces a file: afterwards exactly the new one is there."""
    mount = make_mount("--close-timeout", "0")
    mount.claim("uploads? from an earlier mount")
    path = target(mount)
    (path / "f").write_bytes(b"old")
    wait_until(lambda: mount.sandbox.remote_files("Target") == stored({"f": b"old"}))
    (path / "f").write_bytes(DATA)
    time.sleep(delay)  # the point of the upload at which it dies
    mount.kill()
    mount.start()
    wait_until(lambda: mount.sandbox.remote_files("Target") == stored({"f": DATA}), 20)
    wait_until(lambda: names(path) == {"f"})
    assert (path / "f").read_bytes() == DATA


def test_kill_and_remount_shows_what_is_owed(make_mount: MakeMount) -> None:
    """After kill -9 what close() had accepted is there at once, new content over old; stored once later."""
    mount = make_mount("--close-timeout", "0")
    mount.claim("uploads? from an earlier mount")
    path = target(mount)
    (path / "over").write_bytes(b"old")
    wait_until(lambda: mount.sandbox.remote_files("Target") == stored({"over": b"old"}))
    mount.sandbox.set_faults([{"role": "upload", "action": "latency", "seconds": 8}])
    (path / "new").write_bytes(DATA)
    (path / "over").write_bytes(b"newer")
    mount.kill()
    mount.start()
    expected = {"new": DATA, "over": b"newer"}
    assert names(path) == set(expected)
    assert {name: (path / name).read_bytes() for name in expected} == expected
    mount.sandbox.set_faults([])
    (path / "new").rename(path / "renamed")
    expected["renamed"] = expected.pop("new")
    wait_until(lambda: mount.sandbox.remote_files("Target") == stored(expected), 40)
    assert names(path) == set(expected)


def test_read_only_mount_leaves_what_is_owed(make_mount: MakeMount) -> None:
    """``--ro`` changes nothing on Figshare, so it does not go on with uploads either; the next mount does."""
    mount = make_mount("--close-timeout", "0")
    mount.claim("uploads? from an earlier mount")
    path = target(mount)
    mount.sandbox.set_faults([{"role": "upload", "action": "latency", "seconds": 8}])
    (path / "f").write_bytes(DATA)
    mount.kill()
    mount.sandbox.set_faults([])
    mount.sandbox.clear_requests()
    mount.options = [*mount.options, "--ro"]
    mount.start()
    assert names(path) == set()
    assert errno_of(lambda: (path / "g").write_bytes(b"g")) == errno.EROFS
    mount.unmount()
    assert {request["method"] for request in mount.sandbox.requests()} == {"GET"}
    mount.options = [option for option in mount.options if option != "--ro"]
    mount.start()
    wait_until(lambda: mount.sandbox.remote_files("Target") == stored({"f": DATA}), 20)


def test_kill_after_the_announcement(make_mount: MakeMount) -> None:
    """kill -9 right after the announcement, before a byte is sent: the next mount goes on; no double."""
    mount = make_mount("--close-timeout", "0")
    mount.claim("uploads? from an earlier mount")
    path = target(mount)
    mount.sandbox.set_faults([{"role": "upload", "action": "latency", "seconds": 30}])
    (path / "f").write_bytes(DATA)
    wait_until(lambda: mount.sandbox.remote_files("Target"), what="announced")
    mount.kill()
    mount.sandbox.set_faults([])
    mount.start()
    wait_until(lambda: mount.sandbox.remote_files("Target") == stored({"f": DATA}), 20)


def test_kill_then_unlinked(make_mount: MakeMount) -> None:
    """kill -9 within the grace of an unlink: the name stays away, and goes on Figshare; the unmount does not
    wait for the grace.
    """
    mount = make_mount("--grace", "30")
    path = target(mount)
    (path / "f").write_bytes(DATA)
    (path / "g").write_bytes(b"g")
    (path / "f").unlink()
    mount.kill()
    mount.start()
    assert names(path) == {"g"}
    assert (path / "g").read_bytes() == b"g"
    assert mount.sandbox.remote_files("Target") == stored({"f": DATA, "g": b"g"})
    began = time.monotonic()
    mount.unmount()
    assert time.monotonic() - began < 10
    assert mount.sandbox.remote_files("Target") == stored({"g": b"g"})


def test_second_mount_is_refused(make_mount: MakeMount, make_sandbox: Callable[..., Sandbox]) -> None:
    """A second mount of one account: refused, one line names the first; not with a state of its own."""
    sandbox = make_sandbox(seed="example")
    first = make_mount(sandbox=sandbox)
    other = first.base / "other"
    other.mkdir()
    command = [*FIGFS, "mount", "--state-dir", str(first.state), str(other)]
    refused = subprocess.run(
        command, env=first.environment(), capture_output=True, text=True, timeout=30, check=False
    )
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    assert str(first.path) in refused.stderr
    assert not is_mounted(other)
    second = make_mount(sandbox=sandbox)  # with a state directory of its own
    assert names(second.articles) == names(first.articles)


def background(mount: Mount, *options: str, token: str) -> subprocess.CompletedProcess[str]:
    env = environment(mount.base / "home", FIGFS_API=mount.sandbox.api, FIGFS_TOKEN=token)
    mount.path.mkdir(parents=True, exist_ok=True)
    return subprocess.run(
        [*mount.command(), "--background", *options, str(mount.path)],
        env=env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_background(make_mount: MakeMount) -> None:
    """``--background`` returns 0 when it is mounted; the mount lives on, and ends with the unmount."""
    mount = make_mount(start=False)
    done = background(mount, token=mount.sandbox.token)
    assert done.returncode == 0, done.stderr
    assert is_mounted(mount.path)
    assert names(mount.path) == {"articles", "projects", "collections", "public", "search"}
    (number,) = daemons_of(mount)
    path = target(mount)
    (path / "f").write_bytes(DATA)
    run(*FIGFS, "umount", mount.path)
    wait_until(lambda: not Path(f"/proc/{number}").exists(), 20, "the daemon has ended")
    assert mount.sandbox.remote_files("Target") == stored({"f": DATA})


def daemons_of(mount: Mount) -> list[int]:
    """Processes that have this mount point among their arguments."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if os.fsencode(mount.path) in words:
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize("background_or_not", [True, False])
def test_wrong_token(make_mount: MakeMount, background_or_not: bool) -> None:
    """A wrong token: not mounted, exit 1, one line that says what to do and does not hold the token."""
    mount = make_mount(start=False)
    wrong = "wrong-token-4711"
    if background_or_not:
        done = background(mount, token=wrong)
    else:
        mount.path.mkdir(parents=True)
        done = subprocess.run(
            [*mount.command(), str(mount.path)],
            env={**mount.environment(), "FIGFS_TOKEN": wrong},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "login" in done.stderr
    assert wrong not in done.stderr + done.stdout + mount.log()
    assert not is_mounted(mount.path)
    assert daemons_of(mount) == []


def test_mount_point_that_is_not_empty(make_mount: MakeMount) -> None:
    """A mount point with something in it: exit 1, one line; nothing is hidden under a mount."""
    mount = make_mount(start=False)
    mount.path.mkdir(parents=True)
    (mount.path / "something").touch()
    done = background(mount, token=mount.sandbox.token)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert not is_mounted(mount.path)


def test_read_only(make_mount: MakeMount, make_sandbox: Callable[..., Sandbox]) -> None:
    """``-o ro``: EROFS for every change; reading works; nothing but GET is asked."""
    mount = make_mount("-o", "ro", sandbox=make_sandbox(seed="example"))
    path = mount.articles / "Results of run 12"
    assert len((path / "tiny.txt").read_bytes()) == 100
    for act in (
        lambda: (path / "tiny.txt").write_bytes(b""),
        lambda: (path / "new").touch(),
        lambda: (path / "tiny.txt").unlink(),
        lambda: (mount.articles / "New one").mkdir(),
        lambda: path.rename(mount.articles / "Other title"),
    ):
        assert errno_of(act) == errno.EROFS
    assert {entry["method"] for entry in mount.sandbox.requests()} == {"GET"}


def test_dead_writer(make_mount: MakeMount) -> None:
    """A writer killed before its close: no process hangs, the mount lives, and a new write of it works."""
    mount = make_mount()
    path = target(mount)
    writer = subprocess.Popen(
        ["bash", "-c", 'exec cat > "$1"', "bash", str(path / "f")], stdin=subprocess.PIPE
    )
    assert writer.stdin is not None
    writer.stdin.write(DATA)
    writer.stdin.flush()
    wait_until(lambda: (path / "f").stat().st_size > 0)
    writer.kill()
    writer.wait(20)
    writer.stdin.close()
    mount.alive()
    (path / "f").write_bytes(b"whole")
    wait_until(lambda: mount.sandbox.remote_files("Target") == stored({"f": b"whole"}))
