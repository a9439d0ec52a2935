"""Who has a file open for writing, and how they are: read from a ``/proc`` made for the test, and from the
kernel's own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from figfs.openers import family_of, is_killed, pending_signal, process_of, still_open_for_writing

PID, INODE = 4711, 0x4800_0000_0000_0007


@pytest.fixture
def descriptors(tmp_path: Path) -> Path:
    """The fdinfo directory of process PID."""
    directory = tmp_path / str(PID) / "fdinfo"
    directory.mkdir(parents=True)
    return directory


def fdinfo(flags: int, inode: int) -> str:
    return f"pos:\t0\nflags:\t0{flags | os.O_CLOEXEC:o}\nmnt_id:\t71\nino:\t{inode}\n"


@pytest.mark.parametrize(
    ("flags", "inode", "expected"),
    [
        (os.O_WRONLY, INODE, True),
        (os.O_RDWR | os.O_APPEND, INODE, True),
        (os.O_RDONLY, INODE, False),
        (os.O_WRONLY, INODE + 1, False),
    ],
)
def test_only_descriptors_that_can_write_to_the_inode_count(
    tmp_path: Path, descriptors: Path, flags: int, inode: int, expected: bool
) -> None:
    """A reader, or a writer of another file, does not keep a close from being the last one."""
    (descriptors / "0").write_text(fdinfo(os.O_RDONLY, 99))
    (descriptors / "7").write_text(fdinfo(flags, inode))
    assert still_open_for_writing(PID, INODE, proc=tmp_path) is expected


def test_no_such_process(tmp_path: Path) -> None:
    """Ended, or in another pid namespace: the close counts as the last one."""
    assert still_open_for_writing(PID, INODE, proc=tmp_path) is False


def test_descriptors_that_cannot_be_read_are_passed_over(tmp_path: Path, descriptors: Path) -> None:
    """One closed since it was listed, one that is no text, one without the fields; the next one counts."""
    (descriptors / "1").symlink_to(tmp_path / "gone")
    (descriptors / "2").write_bytes(b"\xff\xfe")
    (descriptors / "3").write_text("pos:\t0\nflags:\t02\n")  # kernels before 5.14 have no ino
    assert still_open_for_writing(PID, INODE, proc=tmp_path) is False
    (descriptors / "4").write_text(fdinfo(os.O_WRONLY, INODE))
    assert still_open_for_writing(PID, INODE, proc=tmp_path) is True


def test_this_process(tmp_path: Path) -> None:
    """The kernel's own format: a file open for writing is seen, and not any more once it is closed."""
    path = tmp_path / "f"
    with path.open("w"):
        inode = path.stat().st_ino
        assert still_open_for_writing(os.getpid(), inode) is True
    assert still_open_for_writing(os.getpid(), inode) is False


# ---- killed ------------------------------------------------------------

Start = Callable[[str], int]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a program of Python that says when it is ready; its id. It is reaped at the end of the test."""
    running: list[subprocess.Popen[str]] = []

    def popen(script: str) -> int:
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process.pid

    yield popen
    for process in running:
        process.kill()
        process.communicate()


def ended(pid: int) -> None:
    """Return when ``pid`` has ended; it stays a zombie."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def stopped(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


SLEEP = "print('ready', flush=True)\nimport time\ntime.sleep(60)"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_killed_by_a_signal(start: Start, number: signal.Signals) -> None:
    """Every signal that ends a program does; before it comes, the program is well."""
    pid = start("import signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n" + SLEEP)
    assert is_killed(pid) is False
    os.kill(pid, number)
    ended(pid)
    assert is_killed(pid) is True


@pytest.mark.parametrize("code", [0, 1, 9, 130])
def test_a_program_that_ends_by_itself_is_not_killed(start: Start, code: int) -> None:
    """Whatever it ends with."""
    pid = start(f"print('ready', flush=True)\nimport os\nos._exit({code})")
    ended(pid)
    assert is_killed(pid) is False


@pytest.mark.parametrize("code", [0, 3])
def test_a_thread_that_is_alive_when_the_program_ends_is_not_killed(start: Start, code: int) -> None:
    """exit() in one thread ends the others by a signal of the kernel's own; their files are finished."""
    pid = start(
        "import os, threading, time\n"
        f"threading.Thread(target=lambda: (time.sleep(0.1), os._exit({code}))).start()\n" + SLEEP
    )
    ended(pid)
    assert int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[6]) & 0x400
    assert is_killed(pid) is False


def test_a_killed_program_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exit code reads as 0: being killed is more likely than a thread outliving its program."""
    directory = tmp_path / str(PID)
    directory.mkdir()
    fields = ["Z"] + ["0"] * 49
    fields[6] = str(0x400)
    (directory / "stat").write_text(f"{PID} (a ) name) {' '.join(fields)}\n")
    assert is_killed(PID, proc=tmp_path) is False
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert is_killed(PID, proc=tmp_path) is True


def test_a_process_that_is_gone_was_not_killed(tmp_path: Path) -> None:
    """Nobody can tell: then its file counts as finished."""
    assert is_killed(PID, proc=tmp_path) is False
    (tmp_path / str(PID)).mkdir()
    (tmp_path / str(PID) / "stat").write_text("")
    assert is_killed(PID, proc=tmp_path) is False


# ---- pending signals ------------------------------------------------------------

HANDLED = "import signal\nsignal.signal(signal.SIGHUP, lambda *_: None)\n"
BLOCKED = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])\n"


@pytest.mark.parametrize(
    ("prelude", "number", "expected"),
    [
        ("", signal.SIGINT, True),  # Python handles it: it wants to end, too
        ("", signal.SIGTERM, True),
        ("", signal.SIGUSR2, False),
        (HANDLED, signal.SIGHUP, False),  # services reload on it
        (BLOCKED, signal.SIGTERM, False),
    ],
)
def test_pending_signals(start: Start, prelude: str, number: signal.Signals, expected: bool) -> None:
    """What is to end a program, and waits until it comes back from the kernel (here: until it goes on)."""
    pid = start(prelude + SLEEP)
    stopped(pid)
    assert pending_signal(pid) is False
    os.kill(pid, number)
    assert pending_signal(pid) is expected


def test_pending_for_nobody(tmp_path: Path) -> None:
    """A process that is gone waits for nothing."""
    assert pending_signal(PID, proc=tmp_path) is False


# ---- threads ------------------------------------------------------------


def test_the_process_of_a_thread(tmp_path: Path) -> None:
    """FUSE tells the thread that opened a file; it may have ended by the time that the file is closed."""
    ids: list[int] = []

    def look() -> None:
        ids.extend((threading.get_native_id(), process_of(threading.get_native_id())))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert ids[0] != os.getpid() == ids[1]
    assert process_of(PID, proc=tmp_path) == PID


def test_a_process_and_its_parents() -> None:
    """Nearest first, by number and start, without process 1."""
    family = family_of(threading.get_native_id())
    assert [pid for pid, _ in family[:2]] == [os.getpid(), os.getppid()]
    assert all(pid > 1 for pid, _ in family)
    assert family_of(os.getpid()) == family
    with subprocess.Popen(["sleep", "60"]) as child:
        assert family_of(child.pid)[1:] == family
        child.kill()
    assert family_of(child.pid) == ()
    assert family_of(0) == ()
