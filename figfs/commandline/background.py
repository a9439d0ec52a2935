"""``--background``: the mount runs in a process of its own, and the command returns when it is ready or has
failed.

The process is started anew, not forked: a fork of a program that runs Trio is not one. Between the two is a
pipe, through which one line comes: an exit code and a text.
"""

from __future__ import annotations

import logging
import os
import select
import subprocess
import sys
from collections.abc import Callable, Sequence

logger = logging.getLogger(__name__)


def start(command: Callable[[int], Sequence[str]], *, patience: float = 120.0) -> tuple[int, str]:
    """Run ``command(fd)`` in a session of its own, and wait for the line that it writes to ``fd``.

    ``patience``: seconds after which it is told to end. Returns its exit code and text; 0: it is ready. Its
    stderr is ours until then. On KeyboardInterrupt it is told to end, too.
    """
    reader, writer = os.pipe()
    with os.fdopen(reader, encoding="utf-8", errors="replace") as pipe:
        try:
            process = subprocess.Popen(
                command(writer), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[writer],
                start_new_session=True,
            )  # fmt: skip
        finally:
            os.close(writer)
        try:
            in_time = bool(select.select([pipe], [], [], patience)[0])
        except KeyboardInterrupt:
            process.terminate()
            raise
        line = pipe.readline() if in_time else ""
    code, _, text = line.strip().partition(" ")
    if in_time and not code.isdecimal():
        ended = process.wait()
        return 1, f"the background process ended before it had mounted anything (exit code {ended})"
    if not in_time:
        process.terminate()  # it has things to take down, and time for it
        code, text = "1", f"it was not mounted within {patience:g} seconds"
    process.returncode = 0  # it lives on, or ends by itself: Popen is not to warn that nobody waited
    return int(code), text


class Reporter:
    """Tells the person who waits, or the process that ``start`` waits in, how a mount went.

    ``fd``: the pipe of ``start``; None in the foreground, where stderr is it.
    """

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._detached = False
        if fd is not None:
            os.set_inheritable(fd, False)  # fusermount3 must not hold it open

    def ready(self, status: str) -> None:
        """The mount is there. In the background, from here on nothing is held of the terminal or the
        directory.
        """
        if self._fd is None:
            print(f"figfs: {status}", file=sys.stderr, flush=True)
            return
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.close(null)
        self._send(0, status)
        self._detached = True

    def failed(self, code: int, message: str) -> None:
        """It did not work, or ended by an error later."""
        if self._fd is None:
            print(f"figfs: {message}", file=sys.stderr, flush=True)
        elif self._detached:
            logger.critical("%s", message)
        else:
            self._send(code, message)

    def _send(self, code: int, text: str) -> None:
        assert self._fd is not None
        line = f"{code} {' '.join(text.split())}\n"
        try:
            os.write(self._fd, line.encode())
            os.close(self._fd)
        except OSError as exc:  # nobody waits any more
            logger.info("nobody heard %r: %s", line, exc.strerror)
