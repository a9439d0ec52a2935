"""A program under a pseudo-terminal, and keys for it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from pathlib import Path

_ESCAPE = re.compile(rb"\x1b(?:\[[0-9;?>=]*[A-Za-z]|[()][A-Z0-9]|[=>78M])")


class Terminal:
    """``with Terminal("nano", "f", cwd=…) as terminal``: at the end it must have ended by itself, with
    ``code``.
    """

    def __init__(self, *command: str | Path, cwd: Path, home: Path, code: int = 0) -> None:
        self._code = code
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        environment = os.environ | {"TERM": "xterm", "HOME": str(home), "LC_ALL": "C.UTF-8"}
        self._process = subprocess.Popen(
            [str(word) for word in command],
            cwd=cwd,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        self.shown = b""

    def see(self, text: str, timeout: float = 20.0) -> None:
        """Wait until ``text`` has been shown since the last key."""
        end = time.monotonic() + timeout
        while text.encode() not in _ESCAPE.sub(b"", self.shown):
            assert time.monotonic() < end, f"{text!r} does not come; shown: {self.shown!r}"
            self._read(0.05)

    def keys(self, keys: str) -> None:
        self.shown = b""
        os.write(self._master, keys.encode())

    def _read(self, wait: float) -> None:
        if select.select([self._master], [], [], wait)[0]:
            try:
                self.shown += os.read(self._master, 65536)
            except OSError:  # EIO: the program has ended
                time.sleep(wait)

    def wait(self, timeout: float = 20.0) -> None:
        """Until the program has ended."""
        end = time.monotonic() + timeout
        while self._process.poll() is None:
            assert time.monotonic() < end, f"it does not end; shown: {self.shown!r}"
            self._read(0.05)
        assert self._process.returncode == self._code, self.shown

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            if self._process.poll() is None:
                self._process.kill()
                self._process.wait()
            os.close(self._master)
