"""--background: a process of its own, and one line through a pipe."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import pytest

from figfs.commandline import background


def program(text: str) -> list[str]:
    return [
        sys.executable,
        "-c",
        "import os, sys\nfrom figfs.commandline.background import Reporter\n" + text,
    ]


def test_ready_returns_while_the_process_lives_on(tmp_path: Path) -> None:
    """What the daemon holds of the terminal and the directory is let go before the command returns."""
    out, go_on = tmp_path / "out", tmp_path / "go_on"
    os.mkfifo(go_on)
    text = f"""
import json
reporter = Reporter(int(sys.argv[1]))
inheritable = os.get_inheritable(int(sys.argv[1]))
reporter.ready("mounted\\non two lines")
facts = [os.getcwd(), *(os.readlink(f"/proc/self/fd/{{n}}") for n in range(3))]
facts += [inheritable, os.getsid(0) == os.getpid()]
open({str(go_on)!r}).read()
with open({str(out)!r}, "w") as file:
    json.dump(facts, file)
"""
    code, said = background.start(lambda fd: [*program(text), str(fd)])
    assert (code, said) == (0, "mounted on two lines")
    assert not out.exists()
    go_on.write_text("")  # returns when the process has opened it
    deadline = time.monotonic() + 20
    while not out.exists() or not out.read_text().endswith("]"):
        assert time.monotonic() < deadline
        os.sched_yield()
    assert json.loads(out.read_text()) == ["/", "/dev/null", "/dev/null", "/dev/null", False, True]


@pytest.mark.parametrize("code", [1, 2, 130])
def test_failure_has_its_code_and_its_line(code: int) -> None:
    """The command that waits ends as the mount would have in the foreground."""
    text = f"Reporter(int(sys.argv[1])).failed({code}, 'no token: run figfs login')"
    said = background.start(lambda fd: [*program(text), str(fd)])
    assert said == (code, "no token: run figfs login")


def test_a_process_that_says_nothing_has_failed() -> None:
    """It was killed, or a library ended it."""
    code, said = background.start(lambda fd: [sys.executable, "-c", "import sys; sys.exit(3)"])
    assert code == 1
    assert "ended before it had mounted anything (exit code 3)" in said


def test_a_process_that_does_not_get_ready_is_ended(tmp_path: Path) -> None:
    """mount(8) at boot must not wait for ever, and what it gave up must not mount later."""
    held = tmp_path / "held"
    os.mkfifo(held)
    with os.fdopen(os.open(held, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as file:
        command = ["sh", "-c", f"exec 9>'{held}'; echo held >&9; exec sleep 1000"]
        code, said = background.start(lambda fd: command, patience=0.5)
        assert code == 1
        assert "not mounted within 0.5 seconds" in said
        os.set_blocking(file.fileno(), True)
        assert file.read(100) == b"held\n"
        assert file.read(100) == b""  # the end, for which the process had to end


def test_the_foreground_speaks_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """stdout stays free."""
    reporter = background.Reporter(None)
    reporter.ready("mounted on /mnt")
    reporter.failed(1, "the network has gone")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "figfs: mounted on /mnt\nfigfs: the network has gone\n"


def test_nobody_waits_any_more(caplog: pytest.LogCaptureFixture) -> None:
    """The command was killed meanwhile: the mount does not fail for that."""
    caplog.set_level("INFO")
    reader, writer = os.pipe()
    os.close(reader)
    background.Reporter(writer).failed(1, "too late")
    assert "nobody heard" in caplog.text
