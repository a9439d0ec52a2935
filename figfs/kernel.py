"""What the kernel can be told about one mount beside FUSE: how far it reads ahead, how much it asks at once.

Both are files of /sys that root may write; a user's mount gets them from the udev rule in ``systemd/``.
Without them all works, more slowly: the kernel then asks for 128 KiB, two at a time (field/perf.md §4).
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

#: KiB. Below 512, since from there on the kernel makes 64 KiB of a sniff of 16 KiB (mm/readahead.c,
#: get_init_ra_size), and a file manager sniffs every file of a folder.
READ_AHEAD_KB = 496

#: Requests that the kernel has in flight on its own account; 12 unless told (field/perf.md §4).
MAX_BACKGROUND = 64


def tune(
    mountpoint: Path, *, sys: Path = Path("/sys"), mountinfo: Path = Path("/proc/self/mountinfo")
) -> bool:
    """Raise both for the mount at ``mountpoint``; returns whether the read-ahead could be raised.

    Never touches the mount itself: its answer would have to come from this very process.
    """
    device = _device(mountpoint, mountinfo)
    if device is None:
        log.debug("no line for %s in %s", mountpoint, mountinfo)
        return False
    connection = sys / "fs/fuse/connections" / device.partition(":")[2]
    _write(connection / "max_background", MAX_BACKGROUND)
    _write(connection / "congestion_threshold", MAX_BACKGROUND * 3 // 4)
    return _write(sys / "class/bdi" / device / "read_ahead_kb", READ_AHEAD_KB)


def _device(mountpoint: Path, mountinfo: Path) -> str | None:
    """``major:minor`` of the last mount on ``mountpoint`` (proc(5))."""
    wanted = os.fsencode(mountpoint)
    found: bytes | None = None
    try:
        lines = mountinfo.read_bytes().splitlines()
    except OSError:
        return None
    for line in lines:
        fields = line.split(b" ")
        if len(fields) > 4 and _unescaped(fields[4]) == wanted:
            found = fields[2]
    return None if found is None else found.decode("ascii")


def _unescaped(field: bytes) -> bytes:
    for character in b" \t\n\\":
        field = field.replace(b"\\%03o" % character, bytes([character]))
    return field


def _write(path: Path, value: int) -> bool:
    try:
        path.write_text(f"{value}\n")
    except OSError as exc:
        log.debug("%s stays as it is: %s", path, exc.strerror)
        return False
    return True
