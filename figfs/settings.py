"""All that can be configured, read once. ``mount.py`` unpacks a ``Settings``; no other part sees one whole."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

DEFAULT_API = "https://api.figshare.com/v2"


class Token:
    """A secret that no repr, log line, format string or pickle shows. ``reveal()`` is called where it is sent."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Token(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Token) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("a Token is not to be pickled")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one mount needs to know. Times are seconds, sizes bytes."""

    mountpoint: Path
    token: Token
    api: str = DEFAULT_API  #: base URL of the API, without a trailing slash
    state_dir: Path | None = None  #: None: the platform's state directory, one folder for each account
    cache_dir: Path | None = None
    api_rate: float = 1.0  #: API requests a second, sustained; 0: no pacing
    api_burst: int = 30  #: API requests that may go at once after a pause
    close_timeout: float = 20.0  #: how long close() waits for the upload; 0: not at all
    dir_timeout: float = 60.0  #: how long a listing is taken as fresh
    op_timeout: float = 30.0  #: deadline of every other file system operation
    unmount_timeout: float = 60.0  #: how long an unmount waits for uploads
    grace: float = 5.0  #: how long a delete or rename of a stored file can be undone locally before it is sent
    read_only: bool = False
    allow_other: bool = False
    uid: int = dataclasses.field(default_factory=os.getuid)
    gid: int = dataclasses.field(default_factory=os.getgid)
    umask: int = 0o022
    fsname: str = "figshare"
    fuse_options: tuple[str, ...] = ()  #: further options for libfuse, as they are
