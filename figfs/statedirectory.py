"""The state directory of a mount: who holds it, and where its control socket is.

One daemon at a time, told by a lock that dies with it. The lock file says who: process, mount point,
socket. After a crash it still says so, which tells ``figfs status`` whose journal it finds there. And one
account for good: what is owed to one must not be sent in the name of another, nor its listings be shown.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from figfs.durable import replace_file
from figfs.errors import ConfigurationError

ACCOUNTS = "accounts"  #: in the state directory of a mount: one for each account of its institution
ACCOUNTS_PLACE = "institution/accounts"  #: where those are, below the mount point


@dataclasses.dataclass(frozen=True, slots=True)
class Holder:
    """What the lock file says. Its process may have ended long ago."""

    pid: int
    mountpoint: str
    socket: Path | None


@contextlib.contextmanager
def locked(directory: Path, mountpoint: Path, socket: Path | None = None) -> Iterator[None]:
    """Hold the state directory. ``ConfigurationError``, naming the other mount, if it is held already."""
    with _lock(directory, lambda: _held_by(directory)) as descriptor:
        said = {"pid": os.getpid(), "mountpoint": str(mountpoint), "socket": str(socket) if socket else None}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(said).encode(), 0)
        yield


@contextlib.contextmanager
def borrowed(directory: Path) -> Iterator[None]:
    """Hold it for a command that changes the journal while nothing is mounted; what the lock file says stays.

    ``ConfigurationError`` if a mount has it.
    """
    with _lock(directory, lambda: f"the mount that has {directory} does not answer"):
        yield


@contextlib.contextmanager
def _lock(directory: Path, refusal: Callable[[], str]) -> Iterator[int]:
    """Hold the lock file, open as the descriptor that is yielded; ``refusal`` says why that cannot be."""
    try:
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise ConfigurationError(f"cannot use the state directory {directory}: {exc.strerror}") from exc
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(refusal()) from None
        yield descriptor
    finally:
        os.close(descriptor)


def claim(directory: Path, api: str, account: str) -> None:
    """The state in ``directory``, which the caller holds, is of ``account`` at ``api`` from now on.
    ``ConfigurationError`` if it is of another.
    """
    path = directory / "account.json"
    ours = {"api": api, "account": account}
    try:
        known = json.loads(path.read_bytes()[:65536])
    except FileNotFoundError:
        known = None
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"cannot tell whose state is in {directory}: {path.name}: {exc}") from exc
    if known is None:
        try:
            replace_file(path, json.dumps(ours).encode())
        except OSError as exc:
            raise ConfigurationError(f"cannot use the state directory {directory}: {exc.strerror}") from exc
    elif known != ours:
        named = isinstance(known, dict) and {*known} == {*ours}
        whose = f"account {known['account']} at {known['api']}" if named else "another account"
        raise ConfigurationError(
            f"the state directory {directory} is of {whose}, not of account {account} at {api}:"
            " use another --state-dir"
        )


def holder(directory: Path) -> Holder | None:
    """Who holds it, or has held it last; None if nobody has, or if that cannot be read."""
    try:
        said = json.loads((directory / "lock").read_bytes()[:65536])
        socket = said.get("socket")
        return Holder(int(said["pid"]), str(said["mountpoint"]), Path(socket) if socket else None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def is_held(directory: Path, locks: Path = Path("/proc/locks")) -> bool:
    """Whether a process has it now. Without touching the lock: that could keep a mount from beginning.
    False where the system does not tell (some file systems number their files differently here).
    """
    try:
        lock = os.stat(directory / "lock")
        lines = locks.read_text().splitlines()
    except OSError:
        return False
    name = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"
    return any("FLOCK" in line.split() and name in line.split() for line in lines)


def _held_by(directory: Path) -> str:
    found = holder(directory)
    where = "another mount" if found is None else f"{found.mountpoint} (process {found.pid})"
    return f"this account is mounted already at {where}; a second mount needs a --state-dir of its own"


# ---- accounts of an institution --------------------------------------------------------------------------


def accounts_in(directory: Path, mountpoint: str) -> Iterator[tuple[str, Path]]:
    """The state directories of colleagues' accounts in that of a mount, and where they are below
    ``mountpoint``, as far as is known; else by their ids.
    """
    before = f"{mountpoint.rstrip('/')}/"
    for inner in sorted((directory / ACCOUNTS).glob("*/")):
        last = holder(inner)
        if last is not None:
            known = mountpoint and last.mountpoint.startswith(before)
            yield last.mountpoint[len(before) :] if known else f"{ACCOUNTS_PLACE}/{inner.name}", inner


# ---- the control socket ----------------------------------------------------------------------------------


def runtime_directory(environ: Mapping[str, str] = os.environ) -> Path | None:
    """``$XDG_RUNTIME_DIR/figfs``; None where that is not set, or not a directory of ours alone."""
    text = environ.get("XDG_RUNTIME_DIR", "")
    if not text.startswith("/"):
        return None
    try:
        found = os.stat(text)
    except OSError:
        return None
    ours = found.st_uid == os.getuid() and not found.st_mode & 0o022
    return Path(text) / "figfs" if stat.S_ISDIR(found.st_mode) and ours else None


def socket_path(directory: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Where the control socket of the mount with that state directory belongs."""
    runtime = runtime_directory(environ)
    if runtime is None:
        return directory / "control.sock"
    name = hashlib.sha256(os.fsencode(os.path.realpath(directory))).hexdigest()[:16]
    return runtime / f"{name}.sock"


@contextlib.contextmanager
def short_address(path: Path) -> Iterator[str]:
    """``path`` for ``bind`` and ``connect``, which take 107 bytes at most. Its directory must be there."""
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
