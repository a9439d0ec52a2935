"""The commands about what is owed, without a mount: what lies on disk, who answers, and what a person
reads.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import socket
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from figfs.cli import main
from figfs.commandline import mounts, statusview
from figfs.commandline.recovering import legal_parts
from figfs.control import server as control
from figfs.control.ledger import below, entry_of, figures
from figfs.control.server import Control, Request, Send
from figfs.errors import ConfigurationError
from figfs.statedirectory import borrowed, locked, short_address, socket_path
from figfs.terminal import amount, count, duration, visible
from figfs.writing.journal import Deletion, State, Upload, open_journal

MD5 = "900150983cd24fb0d6963f7d28e17f72"  # of b"abc"


def upload(row: int = 0, **changes: Any) -> Upload:
    known: dict[str, Any] = {
        "row": row, "article_id": 7, "folder": "", "name": "f", "size": 3, "md5": MD5, "spool_name": "1",
    }  # fmt: skip
    return Upload(**{**known, **changes})


class Left:
    """A state directory, as a mount has left it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.spool = directory / "spool"
        self.spool.mkdir(parents=True)

    def add(self, *rows: Upload | Deletion) -> None:
        with open_journal(self.directory / "journal.db") as journal:
            for row in rows:
                journal.add(row) if isinstance(row, Upload) else journal.add_deletion(row)

    def put(self, name: str, data: bytes, path: str = "") -> Path:
        file = self.spool / name
        file.write_bytes(data)
        if path:
            os.setxattr(file, "user.figfs.path", path.encode("utf-8", "surrogateescape"))
        return file

    def run(self, *words: str | Path) -> int:
        return main([*map(str, words), "--state-dir", str(self.directory)])


@pytest.fixture
def left(tmp_path: Path) -> Left:
    return Left(tmp_path / "state")


@pytest.fixture(autouse=True)
def no_runtime_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)


# ---- text ------------------------------------------------------------------------------------------------


@given(st.text(), st.integers(0, 30))
def test_nothing_raw_reaches_the_terminal(text: str, limit: int) -> None:
    """One line, printable throughout, no longer than asked; what is printable already stays as it is."""
    shown = visible(text, limit)
    assert shown.isprintable()
    assert not limit or len(shown) <= limit
    if text.isprintable() and not limit:
        assert shown == text


def test_what_is_made_visible() -> None:
    """Different characters stay different, for most of them."""
    assert visible("a\x1b[2J\x7f\x9b\u202e\ud800b") == "a␛[2J␡\\x9b\\u202e\\ud800b"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (amount(0), "0 B"), (amount(1536), "1.5 KiB"), (amount(5 << 40), "5.0 TiB"),
        (duration(0.2), "0 s"), (duration(59.4), "59 s"), (duration(60), "1 min"), (duration(3599.9), "1 h"),
        (duration(200), "3 min 20 s"), (duration(3 * 3600 + 61), "3 h 1 min"), (duration(86400 * 3), "3 d"),
        (duration(86400 + 7200), "1 d 2 h"), (count(1, "file"), "1 file"), (count(0, "file"), "0 files"),
    ],
)  # fmt: skip
def test_figures_for_a_person(text: str, expected: str) -> None:
    """Sizes, times and numbers, each with one unit or two."""
    assert text == expected


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (entry_of(kind="upload", row=1, path="f", state="parked", reason="no \x1b room", size=3),
         "PARKED: no ␛ room"),
        (entry_of(kind="deletion", row=1, path="f", state="parked", reason="published"),
         "PARKED: not deleted: published"),
        (entry_of(kind="deletion", row=1, path="f", state="waiting", due_in=3.0), "to be deleted in 3 s"),
        (entry_of(kind="upload", row=1, path="f", state="owed", size=3), "waits its turn"),
        (entry_of(kind="upload", row=1, path="f", state="announced", phase="sending", size=4 << 20,
                  sent=1 << 20, rate=float(1 << 20)), "sending, 25 %, 1.0 MiB/s, 3 s left"),
        (entry_of(kind="move", row=1, path="f", state="waiting", size=3, due_in=4.0), "move: waits, for 4 s"),
        (entry_of(kind="upload", row=1, path="f", state="announced", size=0, sent=0), "uploading"),
    ],
)  # fmt: skip
def test_states_in_words(entry: dict[str, Any], says: str) -> None:
    """How far each kind of row is, with what is known of it."""
    assert statusview.state(entry) == says


def test_figures_count_what_is_not_shown() -> None:
    """With a limit, what is on its way comes first, and the sums are of all."""
    entries = [
        entry_of(
            kind="upload", row=n, path=f"f{n}", state="owed", size=10, phase="sending" if n == 5 else None
        )
        for n in range(9)
    ] + [entry_of(kind="upload", row=9, path="p", state="parked", size=99, reason="no")]
    report = figures(entries, [], [], 2)
    assert [entry["row"] for entry in report["uploads"]] == [5, 9]
    assert (report["owed"], report["parked"], report["bytes"]) == (9, 1, 90)
    assert report["counts"]["uploads"] == 10


# ---- offline ---------------------------------------------------------------------------------------------


def test_status_from_the_journal(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a mount the journal is read: paths by the notes on the spool files, else by the article's
    id.
    """
    left.put("1", b"abc", "/projects/A project/An article/old/.f.Xy12Zq")
    left.put("3", b"half", "/articles/Other/open")
    left.add(
        upload(folder="new", state=State.PARKED, reason="quota"),
        upload(spool_name="2", name="g"),
        Deletion(row=0, article_id=9, file_id=5, name="h", folder="x"),
    )
    assert left.run("status", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [entry["path"] for entry in report["uploads"]] == [
        "projects/A project/An article/new/f",
        "articles/7/g",
    ]
    assert [entry["path"] for entry in report["deletions"]] == ["articles/9/x/h"]
    assert report["never_closed"] == [{"name": "n3", "path": "articles/Other/open", "size": 4}]
    assert (report["mounted"], report["owed"], report["parked"]) == (False, 2, 1)
    assert left.run("status") == 0
    shown = capsys.readouterr().out
    assert "PARKED: quota" in shown
    assert "not begun: waits for a mount" in shown
    assert left.run("wait") == 1
    assert "nothing is mounted" in capsys.readouterr().err


def test_a_mount_that_hangs_is_told_from_none(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    """Somebody holds the state directory and does not answer: that is said, and the journal is shown."""
    left.add(upload())
    with locked(left.directory, Path("/mnt/fig")):
        assert left.run("status") == 0
        said = capsys.readouterr()
        assert "the mount on /mnt/fig does not answer" in said.err
        assert "articles/7/f" in said.out
        assert left.run("wait") == 1
        assert "does not answer" in capsys.readouterr().err
    assert left.run("status") == 0
    assert capsys.readouterr().err == ""


def test_nothing_changes_on_disk_by_looking(left: Left, capsys: pytest.CaptureFixture[str]) -> None:
    """``status`` and ``recover`` of what a crash has left read only."""
    left.put("1", b"abc")
    left.put("2", b"")
    left.add(upload())
    before = {path: path.stat().st_mtime_ns for path in left.directory.rglob("*") if path.is_file()}
    assert left.run("status") == 0
    assert left.run("recover", left.directory.parent / "out") == 0
    after = {path: path.stat().st_mtime_ns for path in left.directory.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before


@pytest.mark.parametrize("damage", ["newer", "not a database", "missing"])
def test_a_journal_that_cannot_be_read(left: Left, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit 1; no state directory likewise."""
    if damage == "newer":
        left.add(upload())
        with contextlib.closing(sqlite3.connect(left.directory / "journal.db")) as database:
            database.execute("PRAGMA user_version = 99")
    elif damage == "not a database":
        (left.directory / "journal.db").write_bytes(b"x" * 5000)
    else:
        left = Left(left.directory.parent / "other")
        left.spool.rmdir()
        left.directory.rmdir()
    for words in (["status"], ["wait"], ["recover", left.directory.parent / "out"]):
        assert left.run(*words) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1


def test_discard_without_a_mount_needs_the_state_directory(
    left: Left, capsys: pytest.CaptureFixture[str]
) -> None:
    """While somebody holds it nothing is changed; then only what was named goes."""
    file = left.put("1", b"abc")
    other = left.put("2", b"half")
    left.add(upload(state=State.PARKED, reason="quota"), upload(spool_name="9"))
    with locked(left.directory, Path("/mnt")):
        assert left.run("discard", "1", "--yes") == 1
    assert file.exists()
    with (
        borrowed(left.directory),
        pytest.raises(ConfigurationError, match="does not answer"),
        borrowed(left.directory),
    ):
        pass
    assert left.run("discard", "2", "--yes") == 1  # owed
    assert left.run("discard", "1", "--yes") == 0
    assert not file.exists()
    assert other.exists()
    assert left.run("discard", "n2", "--yes") == 0
    assert not other.exists()
    capsys.readouterr()


# ---- recover ---------------------------------------------------------------------------------------------


@given(st.text())
def test_no_name_leads_out(path: str) -> None:
    """Whatever a path is, its parts are names that stand in a directory."""
    parts = legal_parts(path)
    assert parts
    for part in parts:
        assert part not in ("", ".", "..")
        assert "/" not in part
        assert "\0" not in part
        assert len(os.fsencode(part)) <= 255


def tree(directory: Path) -> dict[str, bytes]:
    return {str(p.relative_to(directory)): p.read_bytes() for p in directory.rglob("*") if p.is_file()}


def test_recover_hostile_names(left: Left, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Notes and rows that point elsewhere, names that are too long: all copies are below DIR."""
    out = tmp_path / "deep" / "out"
    left.put("1", b"abc", "/articles/../../../x")
    left.put("2", b"abc", "/../../etc/passwd")
    left.put("3", b"abc", "a\udcff/" + "é" * 200)
    left.put("4", b"abc")
    left.add(
        upload(name="../../escaped", folder=".."),
        upload(name="n" * 255, spool_name="4"),
        upload(spool_name="4", name="n" * 255),
    )
    assert left.run("recover", out) == 0
    copies = tree(out)
    assert len(copies) == 5
    assert set(copies.values()) == {b"abc"}
    everywhere = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert everywhere - {*left.directory.rglob("*")} == {out / name for name in copies}
    assert all(character.isprintable() or character == "\n" for character in capsys.readouterr().out)


def test_recover_says_what_is_damaged(left: Left, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Bytes that are not those that were written get another name, and exit code 1; so does what is gone, and
    what a link in DIR would lead elsewhere. The others are copied.
    """
    out = tmp_path / "out"
    (tmp_path / "elsewhere").mkdir()
    (out / "articles" / "7").mkdir(parents=True)
    (out / "articles" / "7" / "link").symlink_to(tmp_path / "elsewhere")
    left.put("1", b"abX")
    left.put("2", b"abc")
    left.put("3", b"abc")
    left.add(
        upload(name="damaged"), upload(name="fine", spool_name="2"), upload(name="gone", spool_name="8"),
        upload(name="f", folder="link", spool_name="3"),
        upload(name="stored", spool_name="2", state=State.STORED),
        upload(name="moved", spool_name="", source=4),
    )  # fmt: skip
    assert left.run("recover", out) == 1
    assert tree(out) == {"articles/7/damaged.damaged": b"abX", "articles/7/fine": b"abc"}
    assert os.listdir(tmp_path / "elsewhere") == []
    said = capsys.readouterr().err
    assert [word for word in ("damaged", "gone", "link") if word not in said] == []


def test_recover_keeps_holes_times_and_modes(left: Left, tmp_path: Path) -> None:
    """A sparse file of 1 GiB takes no room in the copy; mode and time are those of the file."""
    with left.put("1", b"").open("wb") as stream:
        stream.truncate(1 << 30)
    left.put("2", b"abc")
    os.setxattr(left.spool / "1", "user.figfs.path", b"articles/A/sparse")
    left.add(upload(spool_name="2", mode=0o640, mtime_ns=10**18 + 5))
    assert left.run("recover", tmp_path / "out") == 0
    sparse = (tmp_path / "out" / "articles" / "A" / "sparse.incomplete").stat()
    assert sparse.st_size == 1 << 30
    assert sparse.st_blocks * 512 < 1 << 20
    found = (tmp_path / "out" / "articles" / "7" / "f").stat()
    assert (found.st_mode & 0o777, found.st_mtime_ns) == (0o640, 10**18 + 5)


# ---- which mount, and does it answer ---------------------------------------------------------------------


def test_nothing_to_be_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No mount, no state; and of several states one has to be named."""
    assert main(["status"]) == 1
    assert "nothing is mounted" in capsys.readouterr().err
    assert main(["status", str(tmp_path)]) == 1
    assert "is in no mount of figfs" in capsys.readouterr().err
    usual = Path(os.environ["XDG_STATE_HOME"]) / "figfs"
    for name in ("a", "b"):
        Left(usual / name)
        with locked(usual / name, Path(f"/mnt/{name}")):
            pass
    assert main(["status"]) == 1
    assert "--state-dir" in capsys.readouterr().err
    assert main(["status", "/mnt/a/articles"]) == 0
    assert "last mounted on /mnt/a" in capsys.readouterr().out


@pytest.fixture
def short(tmp_path: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="figfs") as directory:
        yield Path(directory)


@contextlib.contextmanager
def listening(path: Path, answer: bytes | None) -> Iterator[None]:
    """A server that says ``answer`` to whoever connects, or nothing at all."""
    server, held = socket.socket(socket.AF_UNIX), []
    with short_address(path) as address:
        server.bind(address)
    server.listen()

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            held.append(client)
            if answer is not None:
                with contextlib.suppress(OSError):  # it may not wait for an answer
                    client.recv(65536)
                    client.sendall(answer)
                    client.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        for each in [server, *held]:
            each.close()


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"",
        b"\n",
        b"nonsense\n",
        b"[]\n",
        b'{"mountpoint": 3}\n',
        b'{"error": "\\u001b[2J"}\n',
        b"\xff" * 70000,
    ],
)
def test_a_mount_that_does_not_answer(
    left: Left, answer: bytes | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A daemon that hangs, or talks nonsense: the journal is read instead, within a bounded time."""
    monkeypatch.setattr(mounts, "HELLO_PATIENCE", 0.3)
    left.add(upload())
    with listening(left.directory / "control.sock", answer):
        began = time.monotonic()
        assert left.run("status") == 0
        assert time.monotonic() - began < 5
        assert "Not mounted" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["ours", "writable by others", "relative", "unset", "missing"])
def test_where_the_socket_is(tmp_path: Path, kind: str) -> None:
    """In the runtime directory if that is ours alone, else in the state directory."""
    runtime, state = tmp_path / "run", tmp_path / "state"
    runtime.mkdir(mode=0o700)
    environ = {"XDG_RUNTIME_DIR": str(runtime)}
    if kind == "writable by others":
        runtime.chmod(0o777)
    elif kind == "relative":
        environ = {"XDG_RUNTIME_DIR": os.path.relpath(runtime)}
    elif kind == "unset":
        environ = {}
    elif kind == "missing":
        runtime.rmdir()
    path = socket_path(state, environ)
    assert path.parent == (runtime / "figfs" if kind == "ours" else state)
    assert path == socket_path(state, environ)
    assert path != socket_path(tmp_path / "other", environ)


# ---- the server ------------------------------------------------------------------------------------------


async def hello(request: Request, send: Send) -> None:
    await send({"hello": request.get("name")})


async def refuse(request: Request, send: Send) -> None:
    raise FileNotFoundError(2, "No such thing", "/x")


async def fail(request: Request, send: Send) -> None:
    raise RuntimeError("a bug")


async def flood(request: Request, send: Send) -> None:
    while True:
        await send({"data": "x" * 100_000})


COMMANDS = {"hello": hello, "refuse": refuse, "fail": fail, "flood": flood}


def ask(path: Path, **request: object) -> list[dict[str, Any]]:
    return [*mounts.ask(path, request, 10.0)]


async def serve(
    nursery: trio.Nursery, path: Path, commands: Mapping[str, control.Answer] = COMMANDS
) -> Control:
    server = Control(path, commands)
    nursery.start_soon(server.run)
    with trio.fail_after(5):
        while not path.is_socket():  # noqa: ASYNC110, ASYNC240 (there is no event for it)
            await trio.sleep(0.01)
    return server


asking = functools.partial(trio.to_thread.run_sync, abandon_on_cancel=True)


async def test_request_and_answer(
    nursery: trio.Nursery, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Lines and their end; what a command raises is a line; a bug is in the log, and the next is
    answered. Also where the path is longer than a socket address may be.
    """
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)
    path = directory / "control.sock"
    await serve(nursery, path)
    assert await asking(lambda: ask(path, command="hello", name="n\n")) == [{"hello": "n\n"}]
    with pytest.raises(ConfigurationError, match="/x: No such thing"):
        await asking(lambda: ask(path, command="refuse"))
    with pytest.raises(ConfigurationError, match="does not know"):
        await asking(lambda: ask(path, command="launch"))
    with pytest.raises(ConfigurationError, match="the mount has ended"):
        await asking(lambda: ask(path, command="fail"))
    assert "a bug" in caplog.text
    assert await asking(lambda: ask(path, command="hello")) == [{"hello": None}]
    nursery.cancel_scope.cancel()


async def test_who_does_not_read_is_dropped(
    nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that takes no lines loses its place after a while; others are answered all the time."""
    monkeypatch.setattr(control, "SEND_TIMEOUT", 0.3)
    path = tmp_path / "control.sock"
    await serve(nursery, path)
    slow = [await connect(path, b'{"command": "flood"}\n') for _ in range(control.CLIENTS)]
    with trio.fail_after(10):
        while True:
            try:
                assert await asking(lambda: ask(path, command="hello")) == [{"hello": None}]
                break
            except ConfigurationError:  # too many at once
                await trio.sleep(0.05)
    for stream in slow:
        await stream.aclose()
    nursery.cancel_scope.cancel()


async def connect(path: Path, data: bytes) -> trio.SocketStream:
    with short_address(path) as address:
        stream = await trio.open_unix_socket(address)
    await stream.send_all(data)
    return stream


async def test_a_command_ends_with_its_client(nursery: trio.Nursery, tmp_path: Path) -> None:
    """Nobody waits for an answer any more: what was asked for is stopped."""
    began, ended = trio.Event(), trio.Event()

    async def long(request: Request, send: Send) -> None:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    await serve(nursery, tmp_path / "control.sock", {"long": long})
    stream = await connect(tmp_path / "control.sock", b'{"command": "long"}\n')
    with trio.fail_after(5):
        await began.wait()
        await stream.aclose()
        await ended.wait()
    nursery.cancel_scope.cancel()


async def test_too_long_a_request(
    nursery: trio.Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line without end is not kept in memory."""
    monkeypatch.setattr(control, "LONGEST_REQUEST", 1000)
    await serve(nursery, tmp_path / "control.sock")
    stream = await connect(tmp_path / "control.sock", b"x" * 5000)
    with trio.fail_after(5):
        with pytest.raises((trio.BrokenResourceError, AssertionError)):
            assert await stream.receive_some(1) != b""
    await stream.aclose()
    nursery.cancel_scope.cancel()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
async def test_other_users_are_not_answered(
    nursery: trio.Nursery, short: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Even if they could reach the socket: nothing is read, nothing is said."""
    path = short / "control.sock"
    await serve(nursery, path)
    os.chmod(short, 0o755)
    os.chmod(path, 0o666)
    code = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX)\n"
        "s.connect(sys.argv[1])\n"
        "try:\n"
        "    s.sendall(b'{}\\n')\n"
        "    print(s.recv(100))\n"
        "except OSError:\n"
        "    print(b'')\n"
    )
    done = await trio.run_process(
        ["/usr/bin/python3", "-c", code, str(path)],
        capture_stdout=True,
        user=65534,
        group=65534,
        extra_groups=[],
    )
    assert done.stdout == b"b''\n"
    assert "another user" in caplog.text
    nursery.cancel_scope.cancel()


async def test_dead_sockets_are_removed(nursery: trio.Nursery, tmp_path: Path) -> None:
    """Those of daemons that were killed; one that listens stays, and the own one is replaced."""
    for name in ("dead.sock", "own.sock"):
        with socket.socket(socket.AF_UNIX) as dead, short_address(tmp_path / name) as address:
            dead.bind(address)
    before = (tmp_path / "own.sock").stat().st_ino
    with listening(tmp_path / "living.sock", b""):
        nursery.start_soon(Control(tmp_path / "own.sock", COMMANDS).run)
        with trio.fail_after(5):
            while (tmp_path / "own.sock").stat().st_ino == before:  # noqa: ASYNC110
                await trio.sleep(0.01)
    assert {name for name in os.listdir(tmp_path) if name.endswith(".sock")} == {"own.sock", "living.sock"}
    assert (tmp_path / "own.sock").stat().st_mode & 0o777 == 0o600
    assert await asking(lambda: ask(tmp_path / "own.sock", command="hello")) == [{"hello": None}]
    nursery.cancel_scope.cancel()


def test_the_path_of_a_row() -> None:
    """Names of Figshare become names that can be shown; slashes at the ends of folders do not count."""
    row = Deletion(row=1, article_id=7, file_id=1, name="a/b", folder="/x/y/")
    assert below("articles/A", row) == "articles/A/x/y/a∕b"
