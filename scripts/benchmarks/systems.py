"""The mounts that are compared: how they are started and ended, and what they cost."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.results import (
    FIGFS,
    FIGFS_BACKGROUND,
    FIGFS_NO_CACHE,
    FIGFS_QUEUED,
    RCLONE,
    RCLONE_FULL,
    RCLONE_TUNED,
    RCLONE_WRITES,
)
from benchmarks.server import BenchError, Line, Server

START_TIMEOUT = 30.0  #: seconds until a mount is there
END_TIMEOUT = 30.0  #: seconds until a daemon has ended after its unmount
TICK = os.sysconf("SC_CLK_TCK")

#: What each needs beyond the usual to be the system of that name.
FIGFS_OPTIONS = {
    FIGFS: (),
    FIGFS_NO_CACHE: ("--cache-size", "0"),
    FIGFS_BACKGROUND: ("--verify", "background"),
    FIGFS_QUEUED: ("--close-timeout", "0"),
}
RCLONE_OPTIONS = {
    RCLONE: (),
    RCLONE_TUNED: ("--vfs-read-chunk-streams", "16", "--vfs-read-chunk-size", "4M"),
    RCLONE_FULL: ("--vfs-cache-mode", "full"),
    RCLONE_WRITES: ("--vfs-cache-mode", "writes", "--vfs-write-back", "100ms", "--transfers", "4"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Programs:
    """What is compared. ``figfs_options``: for every mount of figfs, after its own."""

    rclone: str
    figfs_options: tuple[str, ...] = ()

    def has(self, system: str) -> bool:
        """Whether this machine's version has the options that make it the system of that name."""
        if system in FIGFS_OPTIONS:
            options, text = FIGFS_OPTIONS[system], _help(*_FIGFS, "mount", "--help")
        else:
            options, text = RCLONE_OPTIONS[system], _help(self.rclone, "mount", "--help")
        return all(option in text for option in options if option.startswith("--"))

    def rclone_version(self) -> str:
        return _help(self.rclone, "version").split("\n", 1)[0]


_FIGFS = (sys.executable, "-P", "-m", "figfs.cli")


@functools.cache
def _help(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.CalledProcessError) as failed:
        raise BenchError(f"{command[0]} does not run: {failed}") from failed


def environment(server: Server, work: Path) -> dict[str, str]:
    """For every program that is measured: no proxy, none of the user's configuration, trust in the server."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(("FIGFS_", "RCLONE_")) and not name.lower().endswith("_proxy")
    }
    return kept | {
        "LC_ALL": "C.UTF-8",
        "SSL_CERT_FILE": str(server.certificate),
        "XDG_CONFIG_HOME": str(work / "config"),
        "XDG_CACHE_HOME": str(work / "cache-home"),
        "XDG_STATE_HOME": str(work / "state-home"),
        "FIGFS_TOKEN": "bench",
    }


class Mount:
    """One daemon and its mount. ``articles``: the directory in which the dataset's articles are."""

    def __init__(self, place: Path, articles: Path, process: subprocess.Popen[bytes]) -> None:
        self.articles = articles
        self._place = place
        self._process = process

    def cpu(self) -> float:
        """Seconds of processor time so far, of the daemon and its children."""
        ticks = 0
        for pid in self._family():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                ticks += sum(map(int, fields[11:15]))  # utime, stime, and those of children that have ended
        return ticks / TICK

    def peak(self) -> int:
        """Most bytes of memory so far, of the daemon and its children."""
        return sum(self._memory(pid, "VmHWM") for pid in self._family())

    def resident(self) -> int:
        """Bytes of memory now, of the daemon and its children."""
        return sum(self._memory(pid, "VmRSS") for pid in self._family())

    def _memory(self, pid: int, field: str) -> int:
        with contextlib.suppress(OSError):
            found = re.search(
                rf"^{field}:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE
            )
            return int(found[1]) * 1024 if found else 0
        return 0

    def _family(self) -> list[int]:
        """The daemon and all below it."""
        family = [self._process.pid]
        for pid in family:
            with contextlib.suppress(OSError):
                for task in Path(f"/proc/{pid}/task").iterdir():
                    family += map(int, (task / "children").read_text().split())
        return family

    def wait_until_there(self) -> None:
        """Raises ``BenchError`` if the daemon ends or takes too long."""
        give_up_at = time.monotonic() + START_TIMEOUT
        while not os.path.ismount(self._place):
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                raise BenchError("it was not mounted")
            time.sleep(0.01)
        os.stat(self.articles)

    def end(self) -> None:
        """Unmount, and wait for the daemon; what does not go by itself is made to."""
        with unbroken():
            self._end()

    def _end(self) -> None:
        give_up_at = time.monotonic() + END_TIMEOUT
        while os.path.ismount(self._place) and time.monotonic() < give_up_at:
            if subprocess.run(_unmount(self._place), capture_output=True, check=False).returncode:
                time.sleep(0.1)  # a program may be closing its last file
        if os.path.ismount(self._place):
            subprocess.run(_unmount(self._place, "-z"), capture_output=True, check=False)
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(max(1.0, give_up_at - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextlib.contextmanager
def unbroken() -> Iterator[None]:
    """Ctrl-C and SIGTERM have to wait: nothing is left half taken down."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _unmount(place: Path, *options: str) -> list[str]:
    return [shutil.which("fusermount3") or "fusermount", *options, "-u", str(place)]


@contextlib.contextmanager
def mounted(
    system: str,
    dataset: str,
    line: Line,
    *,
    server: Server,
    programs: Programs,
    work: Path,
    keep: Path | None = None,
) -> Iterator[Mount]:
    """A system's mount of a dataset over a line; unmounted in the end, whatever happens.

    ``keep``: the directory of its disk cache and state, for a remount with the same; it is new, and removed
    afterwards, unless told. The kernel has nothing of a new mount in its caches.
    """
    own = work / "kept"
    place = work / "mount"
    place.mkdir(exist_ok=True)
    directory = keep or own
    directory.mkdir(parents=True, exist_ok=True)
    log = work / "daemon.log"
    if system in FIGFS_OPTIONS:
        command = [*_FIGFS, "mount", "--api", server.api(dataset, line), "--api-rate", "0"]
        command += ["--state-dir", str(directory / "state"), "--cache-dir", str(directory / "cache")]
        command += [*FIGFS_OPTIONS[system], *programs.figfs_options, str(place)]
        articles = place / "articles"
    else:
        command = [programs.rclone, "mount", "--config", os.devnull, "--cache-dir", str(directory)]
        command += RCLONE_OPTIONS[system]
        command += ["--ca-cert", str(server.certificate)] if line.tls else []
        if system == RCLONE_WRITES:
            command += [
                "--webdav-url",
                server.webdav(line),
                "--webdav-vendor",
                "other",
                ":webdav:",
                str(place),
            ]
        else:
            command += ["--http-url", server.listing(dataset, line), ":http:", str(place)]
        articles = place
    try:
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                env=environment(server, work),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C is for the bench alone, which unmounts first
            )
        mount = Mount(place, articles, process)
        try:
            mount.wait_until_there()
            yield mount
        except BenchError as failed:
            raise BenchError(f"{failed}\nThe log of {system}:\n{log.read_text()[-2000:]}") from failed
        finally:
            mount.end()
    finally:
        if keep is None:
            shutil.rmtree(own, ignore_errors=True)
