"""``figfs status``, ``wait``, ``retry``, ``discard`` and ``recover``, through a real mount."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pty
import re
import select
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from processes import FIGFS, MakeMount, Mount, content, errno_of, run, stored, wait_until

DATA = content("status", 200_000)

ENTRY = {
    "type": "object",
    "additionalProperties": False,
    "required": ["row", "kind", "path", "state", "phase", "reason", "size", "sent", "rate", "seconds",
                 "due_in", "article", "bytes_in"],
    "properties": {
        "row": {"type": ["integer", "null"]},
        "kind": {"enum": ["upload", "move", "deletion"]},
        "path": {"type": "string"},
        "state": {"enum": ["waiting", "sealing", "owed", "announced", "sent", "stored", "parked", "held",
                           "local", "dropped"]},
        "phase": {"type": ["string", "null"]},
        "reason": {"type": ["string", "null"]},
        "size": {"type": ["integer", "null"]},
        "sent": {"type": ["integer", "null"]},
        "rate": {"type": ["number", "null"]},
        "seconds": {"type": ["number", "null"], "minimum": 0},
        "due_in": {"type": ["number", "null"], "minimum": 0},
        "article": {"type": ["integer", "string", "null"]},
        "bytes_in": {"type": ["string", "null"]},
    },
}  # fmt: skip
COUNT = {"type": "integer", "minimum": 0}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["mounted", "mountpoint", "state_directory", "pid", "account", "read_only", "away",
                 "token_trouble", "owed", "parked", "bytes", "sent", "uploads", "deletions", "never_closed",
                 "counts", "writing", "held", "local_only", "cache"],
    "properties": {
        "mounted": {"type": "boolean"},
        "mountpoint": {"type": "string"},
        "state_directory": {"type": "string"},
        "pid": {"type": ["integer", "null"]},
        "account": {"type": ["string", "null"]},
        "read_only": {"type": "boolean"},
        "away": {"type": ["string", "null"]},
        "token_trouble": {"type": ["string", "null"]},
        **dict.fromkeys(("owed", "parked", "bytes", "sent", "writing", "held", "local_only"), COUNT),
        "uploads": {"type": "array", "items": ENTRY},
        "deletions": {"type": "array", "items": ENTRY},
        "never_closed": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "path", "size"],
                "properties": {
                    "name": {"type": "string"}, "path": {"type": ["string", "null"]}, "size": COUNT},
            },
        },
        "counts": {"type": "object", "additionalProperties": COUNT},
        "cache": {
            "type": ["object", "null"],
            "properties": {"directory": {"type": "string"}, "used": COUNT},
        },
    },
}  # fmt: skip


def figfs(mount: Mount, *words: str | Path, code: int | None = 0, **more: Any) -> str:
    """A command about this mount; what it printed, stderr after stdout."""
    done = run(*FIGFS, *words, "--state-dir", mount.state, code=code, env=mount.environment(), **more)
    return done.stdout + done.stderr


def status(mount: Mount, *words: str | Path) -> dict[str, Any]:
    """``figfs status --json``, as it must look."""
    done = run(*FIGFS, "status", "--json", "--state-dir", mount.state, *words, env=mount.environment())
    report: dict[str, Any] = json.loads(done.stdout)
    jsonschema.validate(report, SCHEMA)
    return report


def article(mount: Mount, title: str = "Target") -> Path:
    path = mount.articles / title
    path.mkdir()
    return path


def slow(mount: Mount, rate: int) -> None:
    mount.sandbox.set_faults(
        [{"role": "upload", "method": "PUT", "action": "bandwidth", "bytes_per_second": rate}]
    )


def started_with(mount: Mount, **more: str) -> None:
    known = mount.environment()
    mount.environment = lambda: {**known, **more}  # type: ignore[method-assign]
    mount.start()


def crash(mount: Mount) -> None:
    """kill -9, and the dead mount point taken away."""
    mount.kill()
    run("fusermount3", "-uz", mount.path)


def only(entries: list[dict[str, Any]]) -> dict[str, Any]:
    assert len(entries) == 1, entries
    return entries[0]


@pytest.fixture
def full(make_mount: MakeMount) -> Mount:
    """A mount whose account is full since it was mounted, and an article with a parked file ``f``."""
    mount = make_mount("--close-timeout", "20")
    mount.claim("is not stored: ", "EDQUOT", "parked: ")
    path = article(mount)
    quota = mount.sandbox.settings()["quota"]
    mount.sandbox.change_settings(quota=1000)
    assert errno_of(lambda: (path / "f").write_bytes(DATA)) == errno.EDQUOT
    wait_until(lambda: not (path / "f").exists(), what="the kernel has heard that the name is gone")
    mount.sandbox.change_settings(quota=quota)
    return mount


def test_nothing_owed(make_mount: MakeMount) -> None:
    """A mount at rest says so, to a person and as JSON, and ``wait`` returns at once."""
    mount = make_mount()
    (article(mount) / "f").write_bytes(DATA)
    assert "owed nothing" in figfs(mount, "status")
    report = status(mount)
    assert (report["mounted"], report["owed"], report["parked"], report["uploads"]) == (True, 0, 0, [])
    assert report["mountpoint"] == str(mount.path)
    assert report["cache"]["used"] >= 0
    assert figfs(mount, "wait") == ""


def test_parked_by_a_quota_then_retried(full: Mount) -> None:
    """Refused: parked with the reason, ``wait`` fails with it; with more quota ``retry`` stores the bytes."""
    mount = full
    entry = only(status(mount)["uploads"])
    assert (entry["state"], entry["path"], entry["size"]) == ("parked", "articles/Target/f", len(DATA))
    assert "quota" in entry["reason"].lower()
    shown = figfs(mount, "status")
    assert "PARKED" in shown
    assert "articles/Target/f" in shown
    assert entry["reason"][:40] in shown
    waited = figfs(mount, "wait", code=1)
    assert "articles/Target/f" in waited
    assert entry["reason"][:40] in waited
    assert figfs(mount, "retry", mount.articles / "Target" / "f") == "articles/Target/f is tried again\n"
    assert figfs(mount, "wait", mount.articles) == ""
    assert mount.sandbox.remote_files("Target") == stored({"f": DATA})
    assert (mount.articles / "Target" / "f").read_bytes() == DATA
    assert status(mount)["parked"] == 0


def test_parked_again(full: Mount) -> None:
    """A retry that is refused again is parked again, by its row; its bytes stay."""
    mount = full
    quota = mount.sandbox.settings()["quota"]
    mount.sandbox.change_settings(quota=1000)
    row = str(only(status(mount)["uploads"])["row"])
    figfs(mount, "retry", row)
    assert "parked" in figfs(mount, "wait", code=1)
    mount.sandbox.change_settings(quota=quota)
    figfs(mount, "retry", "--all")
    figfs(mount, "wait")
    assert mount.sandbox.remote_files("Target") == stored({"f": DATA})


def test_retry_beside_a_newer_file(full: Mount) -> None:
    """A name that has been written again since is not overwritten by an old version, unless that is asked."""
    mount = full
    path = mount.articles / "Target" / "f"
    path.write_bytes(b"newer")
    assert "newer" in figfs(mount, "retry", "--all", code=1)
    assert mount.sandbox.remote_files("Target") == stored({"f": b"newer"})
    assert status(mount)["parked"] == 1
    figfs(mount, "retry", "--all", "--replace")
    figfs(mount, "wait")
    assert mount.sandbox.remote_files("Target") == stored({"f": DATA})
    wait_until(lambda: path.read_bytes() == DATA)


def test_discard(full: Mount) -> None:
    """``discard`` asks; without a terminal it wants --yes. Then row and bytes are gone, Figshare as
    before.
    """
    mount = full
    spool = mount.state / "spool" / only(status(mount)["uploads"])["bytes_in"]
    assert spool.read_bytes() == DATA
    assert "--yes" in figfs(mount, "discard", "--all", code=2, stdin=b"y\n")
    assert spool.exists()
    assert figfs(mount, "discard", "--all", "--yes") == "articles/Target/f is discarded\n"
    assert not spool.exists()
    assert status(mount)["uploads"] == []
    assert mount.sandbox.remote_files("Target") == []
    assert "nothing is parked" in figfs(mount, "discard", "--all", "--yes")


def test_what_is_not_parked_is_neither_retried_nor_discarded(make_mount: MakeMount) -> None:
    """A row that is on its way, and one that there is not: a line, exit 1, and the upload goes on."""
    mount = make_mount("--close-timeout", "0")
    path = article(mount)
    slow(mount, 100_000)
    (path / "f").write_bytes(DATA)
    row = str(wait_until(lambda: status(mount)["uploads"])[0]["row"])
    for word in (row, "99999", "n1", path / "f"):
        for command in (["retry"], ["discard", "--yes"]):
            assert "nothing" in figfs(mount, *command, word, code=1)
    assert "name paths or rows" in figfs(mount, "retry", code=2)
    figfs(mount, "wait")
    assert mount.sandbox.remote_files("Target") == stored({"f": DATA})


def test_wait_for_a_slow_upload(make_mount: MakeMount) -> None:
    """``wait PATH`` returns when what is below PATH is stored, not before, and no later for what is
    elsewhere; its time is kept.
    """
    mount = make_mount("--close-timeout", "0")
    path, other = article(mount), article(mount, "Other")
    slow(mount, 100_000)
    (path / "f").write_bytes(DATA)
    (other / "large").write_bytes(DATA * 10)
    assert "owed" in figfs(mount, "wait", path, "--timeout", "0.5", code=1)
    assert figfs(mount, "wait", path / "f") == ""
    assert mount.sandbox.remote_files("Target") == stored({"f": DATA})
    assert status(mount)["owed"] == 1
    assert status(mount, path)["owed"] == 0
    mount.sandbox.set_faults([])
    assert "there is no" in figfs(mount, "wait", path / "nowhere", code=1)
    identifier = mount.sandbox.article("Other")["id"]
    figfs(mount, "wait", mount.articles / str(identifier))
    assert mount.sandbox.remote_files("Other") == stored({"large": DATA * 10})


def test_progress(make_mount: MakeMount) -> None:
    """While parts are on their way the status says how many bytes are there, and how fast that goes."""
    mount = make_mount("--close-timeout", "0")
    path = article(mount)
    slow(mount, 200_000)
    (path / "f").write_bytes(DATA * 5)
    entry = wait_until(lambda: [e for e in status(mount)["uploads"] if e["sent"]], 20)[0]
    assert 0 < entry["sent"] <= entry["size"] == 5 * len(DATA)
    assert entry["rate"] > 0
    assert entry["seconds"] < 60
    mount.sandbox.set_faults([])
    figfs(mount, "wait")


def test_watch_on_a_terminal(make_mount: MakeMount) -> None:
    """``--watch`` draws a bar for each upload until Ctrl-C, and leaves with 130; names cannot steer it."""
    mount = make_mount("--close-timeout", "0")
    path = article(mount)
    slow(mount, 50_000)
    (path / "a [bold] name").write_bytes(DATA)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*FIGFS, "status", "--watch", "--state-dir", str(mount.state)],
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        env={**mount.environment(), "TERM": "xterm", "COLUMNS": "120", "LINES": "40"},
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    end = time.monotonic() + 20
    try:
        while time.monotonic() < end and not re.search(rb"a \[bold\] name.*\d+ %", shown):
            if select.select([ours], [], [], 0.5)[0]:
                shown += os.read(ours, 65536)
        assert re.search(rb"a \[bold\] name.*\d+ %", shown), shown
        assert "━".encode() in shown
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    mount.sandbox.set_faults([])
    figfs(mount, "wait")


def test_recover_after_a_crash(make_mount: MakeMount, tmp_path: Path) -> None:
    """kill -9 with a file owed, one parked and one still open: without a mount the exact bytes are copied
    out, under their names; nothing is overwritten, and a second time makes second copies.
    """
    mount = make_mount("--close-timeout", "0")
    mount.claim("is not stored: ", "parked: ", "uploads? from an earlier mount", "never closed")
    path = article(mount)
    (path / "folder").mkdir()
    quota = mount.sandbox.settings()["quota"]
    mount.sandbox.change_settings(quota=1000)
    (path / "parked").write_bytes(b"parked" + DATA)
    wait_until(lambda: status(mount)["parked"])
    mount.sandbox.change_settings(quota=quota)
    slow(mount, 10)
    (path / "folder" / "owed.csv").write_bytes(b"owed" + DATA)
    stream = (path / "open").open("wb", buffering=0)
    stream.write(b"open" + DATA)
    wait_until(lambda: {e["state"] for e in status(mount)["uploads"]} >= {"parked", "announced"})
    assert status(mount)["writing"] == 1
    crash(mount)
    with contextlib.suppress(OSError):
        stream.close()
    report = status(mount)
    assert report["mounted"] is False
    assert {entry["path"] for entry in report["uploads"]} == {
        "articles/Target/parked", "articles/Target/folder/owed.csv"}  # fmt: skip
    assert only(report["never_closed"])["path"] == "articles/Target/open"
    assert "Not mounted" in figfs(mount, "status")
    assert "nothing is mounted" in figfs(mount, "wait", code=1)
    out = tmp_path / "out"
    (out / "articles" / "Target").mkdir(parents=True)
    (out / "articles" / "Target" / "parked").write_bytes(b"mine")
    figfs(mount, "recover", out)
    expected = {
        "articles/Target/parked": b"mine",
        "articles/Target/parked [2]": b"parked" + DATA,
        "articles/Target/folder/owed.csv": b"owed" + DATA,
        "articles/Target/open.incomplete": b"open" + DATA,
    }
    assert found(out) == expected
    figfs(mount, "recover", out)
    assert found(out) == expected | {
        "articles/Target/parked [3]": b"parked" + DATA,
        "articles/Target/folder/owed [2].csv": b"owed" + DATA,
        "articles/Target/open [2].incomplete": b"open" + DATA,
    }
    # The next mount goes on with what is owed, and still has the rest.
    mount.sandbox.set_faults([])
    mount.start()
    assert "parked" in figfs(mount, "wait", code=1)
    assert mount.sandbox.remote_files("Target") == stored({"folder/owed.csv": b"owed" + DATA})
    report = status(mount)
    unclosed = only(report["never_closed"])
    assert (unclosed["path"], unclosed["size"]) == ("articles/Target/open", len(DATA) + 4)
    again = tmp_path / "again"
    figfs(mount, "recover", again)
    assert found(again) == {
        "articles/Target/parked": b"parked" + DATA,
        "articles/Target/open.incomplete": b"open" + DATA,
    }
    figfs(mount, "discard", unclosed["name"], "--yes")
    assert status(mount)["never_closed"] == []
    assert status(mount)["parked"] == 1


def found(directory: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_discard_without_a_mount(full: Mount) -> None:
    """After the unmount the same command works on the journal; the next mount has nothing left of it."""
    mount = full
    mount.unmount()
    assert only(status(mount)["uploads"])["path"] == "articles/Target/f"
    assert "mount it first" in figfs(mount, "retry", "--all", code=1)
    figfs(mount, "discard", "--all", "--yes")
    assert os.listdir(mount.state / "spool") == []
    mount.start()
    assert status(mount)["uploads"] == []


def test_a_path_tells_which_mount(make_mount: MakeMount, tmp_path: Path) -> None:
    """Two mounts: without a path that is said, with one its mount answers; by the runtime directory, and
    by the mount itself where nothing else tells its state directory.
    """
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    first, second = make_mount(start=False), make_mount(start=False)
    plain = first.environment()
    for mount in (first, second):
        started_with(mount, XDG_RUNTIME_DIR=str(runtime))

    def ask(*words: str | Path, code: int = 0, env: dict[str, str]) -> str:
        done = run(*FIGFS, "status", *words, code=code, env=env)
        return done.stdout + done.stderr

    with_runtime = {**plain, "XDG_RUNTIME_DIR": str(runtime)}
    several = ask(code=1, env=with_runtime)
    assert "several mounts" in several
    assert str(first.path) in several
    assert str(second.path) in several
    for env in (with_runtime, plain):
        for mount in (first, second):
            assert json.loads(ask("--json", mount.articles, env=env))["mountpoint"] == str(mount.path)
    assert "is in no mount" in ask(tmp_path, code=1, env=with_runtime)
    first.unmount()
    assert str(second.path) in ask(env=with_runtime)
    crash(second)
    assert len(list((runtime / "figfs").glob("*.sock"))) == 1  # nobody was left to remove it
    first.start()
    assert str(first.path) in ask(env=with_runtime)
    assert len(list((runtime / "figfs").glob("*.sock"))) == 1


def test_the_socket_is_the_owners(make_mount: MakeMount) -> None:
    """0600 in a directory of the owner's; gone after the unmount; made anew after a kill -9."""
    mount = make_mount()
    assert stat.S_IMODE(mount.state.stat().st_mode) == 0o700
    path = mount.state / "control.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    crash(mount)
    assert path.exists()
    mount.start()
    assert status(mount)["mounted"]
    mount.unmount()
    assert not path.exists()


def test_hostile_clients(make_mount: MakeMount) -> None:
    """Clients that are silent, slow, many, or talk nonsense do not stall the mount, nor the next command."""
    mount = make_mount()
    mount.claim("a command failed")
    path = article(mount)

    state = os.open(mount.state, os.O_PATH)  # socket addresses are short

    def connect(data: bytes) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(20)
        client.connect(f"/proc/self/fd/{state}/control.sock")
        client.sendall(data)
        return client

    nonsense = [
        b"\n", b"{}\n", b"[]\n", b"null\n", b'{"command": 1}\n', b'{"command": "launch"}\n', b"\xff\xfe\n",
        b'{"command": "retry", "rows": ["x"]}\n', b'{"command": "discard", "rows": {"a": 1}}\n',
        b"[" * 100_000 + b"\n", b'{"command": "discard", "unclosed": ["../../x"]}\n',
        b'{"command": "status", "limit": "many", "under": ["a"]}\n',
    ]  # fmt: skip
    for line in nonsense:
        with connect(line) as client:
            answer = client.makefile("rb").readline()
            assert json.loads(answer), line
    silent = [connect(b"") for _ in range(40)]
    os.close(state)
    try:
        began = time.monotonic()
        (path / "f").write_bytes(DATA)
        assert (path / "f").read_bytes() == DATA
        assert time.monotonic() - began < 10
        wait_until(lambda: run(*FIGFS, "status", "--state-dir", mount.state, code=None).returncode == 0, 20)
    finally:
        for client in silent:
            client.close()
    assert status(mount)["owed"] == 0


def test_names_do_not_reach_the_terminal_raw(full: Mount) -> None:
    """What a terminal would obey is made visible."""
    mount = full
    name = "a\x1b[31m\u202e\x07b"
    mount.sandbox.change_settings(quota=1000)
    assert errno_of(lambda: (mount.articles / "Target" / name).write_bytes(DATA)) == errno.EDQUOT
    text = figfs(mount, "status") + figfs(mount, "wait", code=1) + figfs(mount, "discard", "--all", "--yes")
    assert "a[31m\\u202eb" in text  # control characters are gone from the name already
    assert all(character.isprintable() or character == "\n" for character in text)


def test_orphans(make_mount: MakeMount) -> None:
    """Unfinished files that are not ours are listed with article, id and name, and left alone."""
    mount = make_mount("--close-timeout", "0")
    path = article(mount)
    slow(mount, 10)
    (path / "ours").write_bytes(DATA)
    wait_until(lambda: any(entry["state"] == "announced" for entry in status(mount)["uploads"]))
    number = mount.sandbox.article("Target")["id"]
    mount.sandbox.ask(
        "POST", f"/v2/account/articles/{number}/files", {"name": "theirs\x1b", "size": 7, "md5": "0" * 32}
    )
    shown = figfs(mount, "status", "--orphans")
    assert "theirs␛, 7 B, unfinished" in shown
    assert "ours" not in shown.replace("theirs", "")
    orphan = json.loads(figfs(mount, "status", "--orphans", "--json", path))
    assert (orphan["article"], orphan["name"], orphan["size"]) == (number, "theirs\x1b", 7)
    mount.sandbox.set_faults([])
    figfs(mount, "wait")
    assert {file[0] for file in mount.sandbox.remote_files("Target")} == {"ours", "theirs\x1b"}


def test_unmount_says_what_is_left(make_mount: MakeMount) -> None:
    """SIGTERM waits for unmount_timeout, then systemd and the log hear how many stay in the journal."""
    mount = make_mount("--close-timeout", "0", "--unmount-timeout", "1", start=False)
    mount.claim("1 file is not on Figshare yet; the next mount goes on with them", "earlier mount")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0figfs-test-{os.getpid()}-{id(mount)}")
        started_with(mount, NOTIFY_SOCKET="@" + systemd.getsockname()[1:].decode())
        path = article(mount)
        slow(mount, 10)
        (path / "f").write_bytes(DATA)
        systemd.settimeout(30)
        lines: list[str] = []
        while not any("1 file owed to Figshare" in line for line in lines):
            lines += systemd.recv(65536).decode().splitlines()
        mount.signal(signal.SIGTERM)
        assert mount.wait() == 0
        systemd.settimeout(0.5)
        while not any("1 file is not on Figshare yet" in line for line in lines):
            lines += systemd.recv(65536).decode().splitlines()
    assert any(line.startswith("STATUS=") and "waiting at most 1 s" in line for line in lines)
    mount.sandbox.set_faults([])
    mount.start()
    figfs(mount, "wait")
    assert mount.sandbox.remote_files("Target") == stored({"f": DATA})


def test_what_is_held_is_not_owed(make_mount: MakeMount, tmp_path: Path) -> None:
    """Temporary names and litter are counted, ``wait`` does not wait for them, and they are not lost."""
    mount = make_mount("--close-timeout", "0")
    mount.claim("from an earlier mount")
    path = article(mount)
    (path / ".goutputstream-ABC123").write_bytes(b"held")
    (path / ".~lock.paper.odt#").write_bytes(b"local")
    with (path / "half").open("wb") as stream:
        stream.write(b"half")
        stream.flush()
        wait_until(lambda: status(mount)["held"] == 1)
        report = status(mount)
        assert (report["owed"], report["held"], report["local_only"], report["writing"]) == (0, 1, 1, 1)
        assert figfs(mount, "wait", path) == ""
        assert "1 temporary name held" in figfs(mount, "status")
    figfs(mount, "wait")
    crash(mount)
    figfs(mount, "recover", tmp_path / "out")
    assert found(tmp_path / "out")["articles/Target/.goutputstream-ABC123"] == b"held"
    mount.start()
    assert mount.sandbox.remote_files("Target") == stored({"half": b"half"})


def test_moves_and_deletions(make_mount: MakeMount) -> None:
    """Within its grace a rename or removal of a stored file is shown with the time that is left; ``wait`` is
    over when Figshare has followed.
    """
    mount = make_mount("--grace", "3")
    path = article(mount)
    (path / "gone").write_bytes(b"gone")
    (path / "old").write_bytes(DATA)
    (path / "gone").unlink()
    (path / "old").rename(path / "new")
    report = status(mount)
    move, deletion = only(report["uploads"]), only(report["deletions"])
    assert (move["kind"], move["path"], move["state"]) == ("move", "articles/Target/new", "waiting")
    assert (deletion["kind"], deletion["path"]) == ("deletion", "articles/Target/gone")
    assert 0 < move["due_in"] <= 3
    assert 0 < deletion["due_in"] <= 3
    assert report["owed"] == 2
    shown = figfs(mount, "status")
    assert "to be deleted in" in shown
    assert "move: waits" in shown
    figfs(mount, "wait")
    assert mount.sandbox.remote_files("Target") == stored({"new": DATA})


def test_a_refused_deletion(make_mount: MakeMount) -> None:
    """The name comes back, status has the reason; ``retry`` deletes it once Figshare allows that."""
    mount = make_mount("--grace", "0")
    mount.claim("was not deleted")
    path = article(mount)
    (path / "f").write_bytes(DATA)
    mount.sandbox.set_faults([{"method": "DELETE", "path": "/files/", "action": "status", "status": 403}])
    (path / "f").unlink()
    assert "parked" in figfs(mount, "wait", code=1)
    entry = only(status(mount)["deletions"])
    assert (entry["state"], entry["path"]) == ("parked", "articles/Target/f")
    assert "403" in entry["reason"]
    assert "PARKED: not deleted" in figfs(mount, "status")
    mount.sandbox.set_faults([])
    wait_until(lambda: os.listdir(path) == ["f"])
    figfs(mount, "retry", path / "f")
    figfs(mount, "wait")
    assert mount.sandbox.remote_files("Target") == []
    assert os.listdir(path) == []


def test_umount_says_what_is_left(make_mount: MakeMount) -> None:
    """``figfs umount`` waits for the daemon, then says what the next mount will go on with."""
    mount = make_mount("--close-timeout", "0", "--unmount-timeout", "1")
    mount.claim("not on Figshare yet", "earlier mount")
    slow(mount, 10)
    (article(mount) / "f").write_bytes(DATA)
    done = run(*FIGFS, "umount", mount.path, "--state-dir", mount.state, env=mount.environment())
    assert "1 change not on Figshare yet; the next mount goes on with that" in done.stderr
    assert mount.wait() == 0


def test_a_reader_that_goes_away(make_mount: MakeMount) -> None:
    """``figfs status | head``: no traceback, no complaint."""
    mount = make_mount()
    for words in ("status", "status --json", "status --json --watch"):
        command = f"{' '.join(FIGFS)} {words} --state-dir {mount.state} | head -n 1"
        assert run("bash", "-c", command, env=mount.environment()).stderr == ""
