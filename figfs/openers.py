"""Who has a file open: what FUSE does not say, read from ``/proc``.

The kernel sends FLUSH for each ``close()`` of a descriptor, and a shell that redirects closes several; only
the last of them means "finished". ``/proc/<pid>/fdinfo`` names the inode behind each descriptor of the
opener, and the number of the file that is just being closed is not among them any more (programs.md §7.2,
tested for cp, redirections, tee, rsync, gio).
"""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")


def still_open_for_writing(pid: int, inode: int, *, proc: Path = PROC) -> bool:
    """Whether process (or thread) ``pid`` has a descriptor that can write to ``inode``.

    Inode numbers of figfs carry their kind in the high bits (``nodes.inode_of``), so no other file system's
    are mistaken for them. False where ``/proc`` does not tell (the process has ended, belongs to another
    user, or lives in another pid namespace): then a close counts as the last one, which costs an upload more
    at worst.
    """
    directory = proc / str(pid) / "fdinfo"
    try:
        descriptors = os.listdir(directory)
    except OSError:
        return False
    for descriptor in descriptors:
        try:
            text = (directory / descriptor).read_text()
        except (OSError, UnicodeDecodeError):
            continue
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        if fields.get("ino", "").strip() != str(inode):
            continue
        if int(fields.get("flags", "0").strip(), 8) & os.O_ACCMODE != os.O_RDONLY:
            return True
    return False
