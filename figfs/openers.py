"""Who has a file open, and how they are: what FUSE does not say, read from ``/proc``.

Best effort, always: a process that has ended, belongs to another user or lives in another pid namespace tells
nothing. Then a close counts as the last one, by a program that is well, and its file is uploaded, which costs
an upload more at worst.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

PROC = Path("/proc")

#: A process, for all time: its id, and when it began, in ticks. Ids are used again.
Process = tuple[int, int]

MOST_PARENTS = 64  #: that are looked at

PF_SIGNALED = 0x400  #: linux/sched.h: killed by a signal

#: With these pending, a program that waits in ``close()`` wants to end. What its default action kills with
#: (a hangup, an alarm …) shows as KILL (kernel/signal.c, ``complete_signal``). A hangup that is *caught* is
#: no reason: services reload their configuration on it, and must not lose a file by that.
ENDING = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGKILL})


def process_of(pid: int, *, proc: Path = PROC) -> int:
    """The process that thread ``pid`` belongs to; ``pid`` itself if that cannot be told.

    FUSE gives the id of the thread that opened the file, and that may end long before its process.
    """
    return int(_status(pid, proc).get("Tgid", pid))


def family_of(pid: int, *, proc: Path = PROC) -> tuple[Process, ...]:
    """The process of thread ``pid``, its parent, and so on, without process 1, everybody's parent. As far as
    can be told.
    """
    found: list[Process] = []
    number = process_of(pid, proc=proc)
    while number > 0 and len(found) < MOST_PARENTS and (number > 1 or not found):
        try:
            fields = _stat(number, proc)
            found.append((number, int(fields[19])))
            number = int(fields[1])
        except (OSError, IndexError, ValueError):
            break
    return tuple(found)


def still_open_for_writing(pid: int, inode: int, *, proc: Path = PROC) -> bool:
    """Whether process (or thread) ``pid`` has a descriptor that can write to ``inode``.

    The kernel sends FLUSH for each ``close()`` of a descriptor, and a shell that redirects closes several;
    only the last of them means "finished". ``/proc/<pid>/fdinfo`` names the inode behind each descriptor of
    the opener, and the number of the file that is just being closed is not among them any more (programs.md
    §7.2, tested for cp, redirections, tee, rsync, gio).

    Inode numbers of figfs carry their kind in the high bits (``nodes.inode_of``), so no other file system's
    are mistaken for them.

    Other processes that hold it are not looked for. A child of the opener may have inherited the descriptor
    without knowing (whatever a script starts in the background has its redirections): the file would not be
    journaled when its writer closes it, but when that child ends. Uploaded too early, it is uploaded again
    at RELEASE, if it has changed.
    """
    directory = proc / str(pid) / "fdinfo"
    line = b"ino:\t%d\n" % inode
    try:
        descriptors = os.listdir(directory)
    except OSError:
        return False
    for descriptor in descriptors:
        try:
            text = _read(f"{directory}/{descriptor}")
        except OSError:  # closed meanwhile
            continue
        if line in text and int(_fields(text).get("flags", "0"), 8) & os.O_ACCMODE != os.O_RDONLY:
            return True
    return False


def is_killed(pid: int, *, proc: Path = PROC) -> bool:
    """Whether process (or thread) ``pid`` is being ended by a signal: it has not finished what it wrote.

    Asked while the kernel closes its files (programs.md §7.3). A signal that it catches does not count: it
    closes its files itself then.
    """
    try:
        fields = _stat(pid, proc)
    except OSError:
        return False
    if len(fields) < 50 or not int(fields[6]) & PF_SIGNALED:
        return False
    # Threads that are alive when another one ends the process by exit() are "killed" as well. The exit code
    # tells the two apart; it reads as 0 for whoever may not trace the process.
    exit_code = int(fields[49])
    return exit_code & 0x7F != 0 or (exit_code == 0 and not _is_ours(pid, proc))


def pending_signal(pid: int, *, proc: Path = PROC) -> bool:
    """Whether a signal that is to end process ``pid`` waits for it to come back from the kernel (programs.md
    §7.4), and it neither blocks nor ignores it.
    """
    status = _status(pid, proc)
    waiting, passed_over = (
        int(status.get(one, "0"), 16) | int(status.get(other, "0"), 16)
        for one, other in (("SigPnd", "ShdPnd"), ("SigBlk", "SigIgn"))
    )
    return any(waiting & ~passed_over & 1 << (number - 1) for number in ENDING)


def _status(pid: int, proc: Path) -> dict[str, str]:
    try:
        return _fields(_read(f"{proc}/{pid}/status"))
    except OSError:
        return {}


def _stat(pid: int, proc: Path) -> list[bytes]:
    """Of proc_pid_stat(5), from the third field on, "state"."""
    text = _read(f"{proc}/{pid}/stat")
    return text[text.rfind(b")") + 1 :].split()


def _is_ours(pid: int, proc: Path) -> bool:
    """Whether the kernel tells us the exit code of ``pid``."""
    try:
        return os.geteuid() in (0, os.stat(proc / str(pid)).st_uid)
    except OSError:
        return False


def _fields(text: bytes) -> dict[str, str]:
    lines = (line.partition(":") for line in text.decode("ascii", "replace").splitlines())
    return {name: value.strip() for name, _, value in lines}


def _read(path: str) -> bytes:
    """A file of /proc, which is never of interest beyond 4 KiB."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)
