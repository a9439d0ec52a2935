"""Plain records of what the POSIX verbs take and give, without FUSE. No logic."""

from __future__ import annotations

import dataclasses

from figfs.namespace.nodes import Node


@dataclasses.dataclass(frozen=True, slots=True)
class Attributes:
    """What ``stat`` shows. Times in nanoseconds."""

    inode: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    blocks: int
    block_size: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    valid_for: float  #: seconds for which the kernel need not ask again
    name_valid_for: float  #: the same for what the name stands for


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """What ``setattr`` sets; None: as it is."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Space:
    """What ``statfs`` shows, in units of ``block_size`` bytes."""

    block_size: int
    blocks: int
    free: int
    files: int


@dataclasses.dataclass(frozen=True, slots=True)
class DirectoryEntry:
    name: str
    node: Node
