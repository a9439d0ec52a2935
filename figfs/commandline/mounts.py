"""Finding a mount from outside, and talking to it: the other end of ``control.server``.

Without Trio, and without a look into the mount where that can be avoided: a program that asks about a
mount that does not answer must not hang in it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import socket
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import platformdirs

from figfs.commandline.mountpoint import FILESYSTEM_TYPE, mounts
from figfs.errors import ConfigurationError
from figfs.statedirectory import (
    ACCOUNTS,
    ACCOUNTS_PLACE,
    accounts_in,
    holder,
    is_held,
    runtime_directory,
    short_address,
    socket_path,
)
from figfs.terminal import visible

PATIENCE = 30.0  #: seconds without a line from a mount
HELLO_PATIENCE = 5.0  #: seconds until a mount that says nothing counts as hanging
LONGEST_LINE = 256 << 20  #: bytes
STATE_XATTR = "user.figshare.state-dir"


class NoAnswer(ConfigurationError):
    """Nobody listens there, or says nothing in time. ``asked``: it may be carrying out the request."""

    def __init__(self, text: str, *, asked: bool = False) -> None:
        super().__init__(text)
        self.asked = asked


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """A mount, or what one has left. ``socket``: None if nobody answers. ``inside``: what was named,
    below the mount point; "" for all of it.
    """

    state_directory: Path
    mountpoint: str = ""
    socket: Path | None = None
    inside: str = ""

    def ask(
        self, command: str, *, patience: float = PATIENCE, **arguments: object
    ) -> Generator[dict[str, Any], None, None]:
        """The lines of the mount's answer, as they come. ``ConfigurationError`` with what it complains of.
        ``patience``: seconds without a line.
        """
        if self.socket is None and self.hangs():
            raise NoAnswer(f"the mount on {visible(self.mountpoint)} does not answer")
        if self.socket is None:
            raise NoAnswer(f"no mount has {visible(str(self.state_directory))}: mount it first")
        return ask(self.socket, {"command": command, **arguments}, patience)

    def hangs(self) -> bool:
        """Whether a mount has it that does not answer."""
        return self.socket is None and is_held(self.state_directory)

    def ask_one(self, command: str, *, patience: float = PATIENCE, **arguments: Any) -> dict[str, Any]:
        with contextlib.closing(self.ask(command, patience=patience, **arguments)) as lines:
            return next(lines)


def ask(path: Path, request: Mapping[str, object], patience: float) -> Generator[dict[str, Any], None, None]:
    """One request to the socket ``path``. ``patience``: seconds without a line."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as connection:
        connection.settimeout(patience)
        asked = False
        try:
            _connect(connection, path, patience)
            asked = True
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as lines:
                while line := lines.readline(LONGEST_LINE):
                    said = json.loads(line)
                    if "error" in said:
                        raise ConfigurationError(visible(str(said["error"])))
                    if said.get("end") is True:
                        return
                    yield said
        except TimeoutError:
            raise NoAnswer("the mount does not answer", asked=asked) from None
        except (OSError, ValueError, AttributeError) as exc:
            raise NoAnswer(f"the mount does not answer: {exc}", asked=asked) from exc
        raise NoAnswer("the mount has ended", asked=asked)


def _connect(connection: socket.socket, path: Path, patience: float) -> None:
    """A Unix socket with a timeout does not wait for its turn by itself: EAGAIN, when too many do."""
    deadline = time.monotonic() + patience
    with short_address(path) as address:
        while True:
            try:
                connection.connect(address)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError from None
                time.sleep(0.05)
            else:
                return


# ---- which -----------------------------------------------------------------------------------------------


def find(path: str | None, state_dir: Path | None) -> Found:
    """The mount that ``path`` is in, or the only one; or the state directory that one has left behind.

    ``state_dir``: what was said about it, None if nothing was. ``ConfigurationError`` if none or several are
    meant.
    """
    known = [look(state_dir)] if state_dir is not None else [*_known()]
    if path is None:
        return _only(known)
    for name in (os.path.abspath(path), os.path.realpath(path)):
        within = [found for found in known if _inside(name, found.mountpoint) is not None]
        # Living ones first; of one mount point inside another the inner one.
        within.sort(key=lambda found: (found.socket is not None, len(found.mountpoint)), reverse=True)
        mounted = mountpoint_of(name)
        if within and (mounted is None or within[0].mountpoint == mounted):
            return _into_account(within[0], name)
        if mounted is not None:
            return _into_account(_asked(mounted), name)
    if state_dir is not None and known[0].mountpoint:
        raise ConfigurationError(
            f"{visible(path)} is not in {visible(known[0].mountpoint)}, the mount of that state directory"
        )
    raise ConfigurationError(f"{visible(path)} is in no mount of figfs{_list(known)}")


def _into_account(outer: Found, name: str) -> Found:
    """``outer``, or the account in it that ``name`` is in: a mount inside the mount."""
    inside = _inside(name, outer.mountpoint) or ""
    if not inside.startswith(ACCOUNTS_PLACE + "/"):
        return dataclasses.replace(outer, inside=inside)
    names = inside.split("/")
    depth = ACCOUNTS_PLACE.count("/") + 2
    place = "/".join(names[:depth])
    problem = None
    if outer.socket is not None:
        try:
            place = _opened(outer, place)
        except OSError as exc:
            problem = exc
        inside = "/".join([*filter(None, [place]), *names[depth:]])
    for where, directory in accounts_in(outer.state_directory, outer.mountpoint):
        if place in (where, f"{ACCOUNTS_PLACE}/{directory.name}"):
            return dataclasses.replace(look(directory), inside="/".join(names[depth:]))
    if problem is not None:
        raise ConfigurationError(f"{visible(os.path.join(outer.mountpoint, place))}: {problem.strerror}")
    return dataclasses.replace(outer, inside=inside)


def _opened(outer: Found, place: str) -> str:
    """Where the account at ``place`` is by the name that is listed: "" is the mount itself, one's own. It is
    open once somebody has looked into it.
    """
    path = os.path.join(outer.mountpoint, place)
    os.listdir(path)
    return _inside(os.path.realpath(path), os.path.realpath(outer.mountpoint)) or ""


def _only(known: list[Found]) -> Found:
    living = [found for found in known if found.socket is not None]
    candidates = living or known
    if len(candidates) == 1:
        return candidates[0]
    if living:
        raise ConfigurationError(f"there are several mounts: name a path in one of them{_list(living)}")
    if known:
        names = ", ".join(visible(str(found.state_directory)) for found in known)
        raise ConfigurationError(f"nothing is mounted: name a --state-dir, one of {names}")
    raise ConfigurationError("nothing is mounted, and no mount has left anything in the usual place")


def _list(known: Iterable[Found]) -> str:
    names = sorted({visible(found.mountpoint) for found in known if found.socket is not None})
    return f" (mounted: {', '.join(names)})" if names else ""


def _known() -> Iterator[Found]:
    """All that can be found without being told where: by their sockets, and in the usual place."""
    seen = set()
    runtime = runtime_directory()
    for path in sorted(runtime.glob("*.sock")) if runtime is not None else []:
        found = _greet(path)
        if found is not None:
            seen.add(os.path.realpath(found.state_directory))
            if found.state_directory.parent.name != ACCOUNTS:  # a part of another mount
                yield found
    for directory in sorted(platformdirs.user_state_path("figfs").glob("*/")):
        if os.path.realpath(directory) not in seen and (directory / "lock").exists():
            yield look(directory)


def look(directory: Path) -> Found:
    """The mount that has the state directory, or had it last."""
    last = holder(directory)
    for path in dict.fromkeys([last.socket if last is not None else None, socket_path(directory)]):
        found = _greet(path) if path is not None else None
        if found is not None and os.path.realpath(found.state_directory) == os.path.realpath(directory):
            return found
    return Found(directory, last.mountpoint if last is not None else "")


def _greet(path: Path) -> Found | None:
    try:
        with contextlib.closing(ask(path, {"command": "hello"}, HELLO_PATIENCE)) as lines:
            said = next(lines)
        return Found(Path(said["state_directory"]), str(said["mountpoint"]), path)
    except (ConfigurationError, KeyError, TypeError, StopIteration):
        return None


def mountpoint_of(name: str) -> str | None:
    """The mount point of the figfs mount that ``name`` is in, by the mount table."""
    within = [(place, kind) for place, kind in mounts() if _inside(name, place) is not None]
    place, kind = max(within, key=lambda found: len(found[0]), default=("", ""))
    return place if kind == FILESYSTEM_TYPE else None


def _asked(mounted: str) -> Found:
    """A mount with a state directory that nobody has told us: it knows."""
    try:
        directory = Path(os.fsdecode(os.getxattr(mounted, STATE_XATTR)))
    except OSError as exc:
        if exc.errno == errno.ENOTCONN:
            text = f"the daemon of {visible(mounted)} is gone: name its --state-dir, or mount it again"
        else:
            text = f"{visible(mounted)} does not tell its state directory: name it with --state-dir"
        raise ConfigurationError(text) from exc
    found = look(directory)
    if found.socket is None:
        raise NoAnswer(f"the mount on {visible(mounted)} does not answer")
    return found


def _inside(name: str, mountpoint: str) -> str | None:
    """``name`` below ``mountpoint``: "" for that itself, None if it is not in it."""
    if not mountpoint:
        return None
    if name == mountpoint:
        return ""
    base = mountpoint.rstrip("/") + "/"
    return name[len(base) :] if name.startswith(base) else None
