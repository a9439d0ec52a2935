"""What must be right on this machine before a mount, and how a mount is taken away.

Nothing here runs inside the daemon: a program that looks into its own mount waits for itself for ever.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from figfs.errors import ConfigurationError

#: What the kernel calls the mounts of figfs (``subtype=figfs``).
FILESYSTEM_TYPE = "fuse.figfs"


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"LC_ALL": "C"}  # its messages are looked at
    return subprocess.run(command, capture_output=True, text=True, env=environ, check=False)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The parts of the machine that a mount depends on."""

    device: Path = Path("/dev/fuse")
    fuse_conf: Path = Path("/etc/fuse.conf")
    mountinfo: Path = Path("/proc/self/mountinfo")
    user: int = dataclasses.field(default_factory=os.geteuid)
    access: Callable[[Path, int], bool] = os.access
    which: Callable[[str], str | None] = shutil.which
    run: Callable[[Sequence[str]], subprocess.CompletedProcess[str]] = _run


def prepare(path: Path, *, allow_other: bool = False, machine: Machine | None = None) -> Path:
    """Check that figfs can be mounted on ``path``; returns it without symbolic links.

    A dead mount point, left by a daemon that was killed, is cleaned. Raises ConfigurationError with one line
    that says what to do.
    """
    machine = machine or Machine()
    _check_fuse(machine)
    if allow_other:
        _check_allow_other(machine)
    path = Path(os.path.realpath(path))
    _clean_if_dead(path, machine)
    try:
        mode = path.stat().st_mode
        if not stat.S_ISDIR(mode):
            raise ConfigurationError(f"{path} is not a directory: name an empty directory")
        if kind := mounted_type(path, machine=machine):
            cure = (
                f"run 'figfs umount {path}' first" if kind == FILESYSTEM_TYPE else "choose another directory"
            )
            raise ConfigurationError(f"{path} is a mount point already ({kind}): {cure}")
        with os.scandir(path) as entries:
            if next(entries, None) is not None:
                raise ConfigurationError(f"{path} is not empty: name an empty directory")
    except FileNotFoundError as exc:
        raise ConfigurationError(f"{path} does not exist: run 'mkdir -p {path}' first") from exc
    except OSError as exc:
        raise ConfigurationError(f"cannot use {path}: {exc.strerror}") from exc
    if machine.user != 0 and not machine.access(path, os.W_OK):
        raise ConfigurationError(f"you may not write to {path}: name a directory of your own")
    return path


def _check_fuse(machine: Machine) -> None:
    if not machine.device.exists():
        raise ConfigurationError(
            f"there is no {machine.device}: run 'sudo modprobe fuse', or give the container this device"
        )
    if not machine.access(machine.device, os.R_OK | os.W_OK):
        raise ConfigurationError(f"you may not open {machine.device}: run 'sudo chmod 666 {machine.device}'")
    # Root mounts by itself; libfuse calls fusermount3 for everybody else.
    if machine.user != 0 and machine.which("fusermount3") is None:
        raise ConfigurationError("there is no fusermount3: install it, for example 'sudo apt install fuse3'")


def _check_allow_other(machine: Machine) -> None:
    if machine.user == 0:
        return
    try:
        lines = machine.fuse_conf.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    if "user_allow_other" not in (line.strip() for line in lines):
        raise ConfigurationError(
            f"allow_other is for root only here: add a line 'user_allow_other' to {machine.fuse_conf}"
        )


def is_dead(path: Path) -> bool:
    """Whether ``path`` is a mount point whose daemon has gone ("transport endpoint is not connected")."""
    try:
        os.statvfs(path)  # not stat, which the kernel answers from its memory for a while
    except OSError as exc:
        return exc.errno == errno.ENOTCONN
    return False


def _clean_if_dead(path: Path, machine: Machine) -> None:
    # One dead mount may hide another; no more than a handful of restarts can have piled up unseen.
    for _ in range(8):
        if not is_dead(path):
            return
        _take_away(path, lazy=True, machine=machine)


def mounted_type(path: Path, *, machine: Machine | None = None) -> str | None:
    """The type of what is mounted on ``path`` (which has no symbolic links), ``None`` if nothing is."""
    found = None
    for place, kind in mounts(machine=machine):
        if place == str(path):
            found = kind  # the last one lies on top
    return found


def mounts(*, machine: Machine | None = None) -> Iterator[tuple[str, str]]:
    """Mount point and type of all that is mounted, those on top of others after them."""
    machine = machine or Machine()
    for line in machine.mountinfo.read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        yield _unescape(before.split(" ")[4]), after.split(" ")[0]


def _unescape(field: str) -> str:
    """``/a\\040b`` of the mount table as ``/a b``."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def unmount(
    path: Path, *, lazy: bool = False, only_dead: bool = False, machine: Machine | None = None
) -> None:
    """Take away the figfs mount on ``path``.

    ``lazy``: even if it is in use; it ends when the last user has gone. ``only_dead``: nothing happens unless
    its daemon has gone. The mount table has changed when this returns; the daemon may still be finishing its
    uploads. Raises ConfigurationError with one line that says what to do.
    """
    machine = machine or Machine()
    path = Path(os.path.realpath(path))
    if only_dead:
        _clean_if_dead(path, machine)
        return
    kind = mounted_type(path, machine=machine)
    if kind is None:
        raise ConfigurationError(f"nothing is mounted on {path}")
    if kind != FILESYSTEM_TYPE:
        raise ConfigurationError(f"{path} is not a mount of figfs ({kind}): use umount")
    _take_away(path, lazy=lazy or is_dead(path), machine=machine)


def wait_for_daemon(path: Path, *, state_dirs: Iterable[Path], on_wait: Callable[[], None]) -> Path | None:
    """Return when the daemon that served ``path`` has let go of its state directory, one of ``state_dirs``:
    its uploads are done or left in the journal, and another mount may begin. ``on_wait`` is called once if
    that takes more than a second. Returns that directory; None, at once, if none of them is that daemon's,
    or may be looked at.
    """
    path = Path(os.path.realpath(path))
    for directory in state_dirs:
        with (
            contextlib.suppress(OSError, ValueError, KeyError, TypeError),
            (directory / "lock").open() as lock,
        ):
            if json.load(lock)["mountpoint"] == str(path):
                _wait_for_lock(lock.fileno(), on_wait)
                return directory
    return None


def _wait_for_lock(descriptor: int, on_wait: Callable[[], None]) -> None:
    for _ in range(20):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return
    on_wait()
    fcntl.flock(descriptor, fcntl.LOCK_SH)


def _take_away(path: Path, *, lazy: bool, machine: Machine) -> None:
    if machine.which("fusermount3"):
        command = ["fusermount3", "-uz" if lazy else "-u", str(path)]
    else:
        command = ["umount", *(["-l"] if lazy else []), str(path)]
    try:
        done = machine.run(command)
    except OSError as exc:
        raise ConfigurationError(f"cannot run {command[0]}: {exc.strerror}") from exc
    if done.returncode == 0:
        return
    said = " ".join(done.stderr.split()) or f"{command[0]} ended with {done.returncode}"
    if "busy" in said:
        raise ConfigurationError(
            f"{path} is in use: close what 'fuser -vm {path}' lists, or run 'figfs umount --lazy {path}'"
        )
    raise ConfigurationError(f"cannot unmount {path}: {said}")
