"""All that can be configured, read once. ``mount.py`` unpacks a ``Settings``; no other part sees one whole.

``options.py`` makes a ``Settings`` from flags, ``-o``, environment and file; where the token comes from is in
``credentials.py``.
"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import platformdirs

from figfs.errors import ConfigurationError

DEFAULT_API = "https://api.figshare.com/v2"
MOST_PARTS = 16  #: of uploads at once; from about 32 on Figshare says "too many" (quirks U4)


class Token:
    """A secret that no repr, log line or pickle shows. ``reveal()`` is called where it is sent."""

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
    token: Token | None  #: None where ``public``
    token_file: Path | None = None  #: where it was found, to be read again; None: not in a file
    login: str = ""  #: the login that the token came from, where it is renewed (``Credential.login``)
    api: str = DEFAULT_API  #: base URL of the API, without a trailing slash
    state_dir: Path | None = None  #: None: the platform's state directory, one folder for each account
    cache_dir: Path | None = None  #: None: the platform's cache directory, ``$XDG_CACHE_HOME/figfs``
    cache_size: int | None = (
        None  #: None: 10 GiB or a tenth of the free disk, the less of them; 0: no disk cache
    )
    cache_min_free: int = 1 << 30  #: free space of the disk that the cache leaves alone
    memory: int = 128 << 20  #: blocks in memory, of all open files together
    verify: str = "end"  #: when the MD5 of a file is checked: one of ``options.VERIFY``
    show_dotfigshare: bool = False  #: list ``.figshare``, which is found by its name only else
    lookahead: bool = True  #: fetch what a walk through a directory will ask for next
    #: Parts of uploads on their way at once, over all files; at most ``MOST_PARTS``. Four are three times as
    #: fast as one connection only if copying in and sealing took no time (ARCHITECTURE.md).
    parts: int = 6
    api_rate: float = 1.0  #: API requests a second, sustained; 0: no pacing
    api_burst: int = 30  #: API requests that may go at once after a pause
    close_timeout: float = 20.0  #: how long close() waits for the upload; 0: not at all
    dir_timeout: float = 60.0  #: how long a listing is taken as fresh
    op_timeout: float = 30.0  #: deadline of every other file system operation
    unmount_timeout: float = 60.0  #: how long an unmount waits for uploads
    grace: float = 30.0  #: how long a delete or rename of a stored file can be undone before it is sent
    search_limit: int = 200  #: articles that a query in search/ shows, at most
    noxattr: bool = False  #: no extended attributes: the kernel never asks for them
    impersonate: str | None = None  #: the account to mount, of the institution that the token's administers
    public: bool = False  #: only what anyone may read, without a token, read-only
    read_only: bool = False
    allow_other: bool = False
    uid: int = dataclasses.field(default_factory=os.getuid)
    gid: int = dataclasses.field(default_factory=os.getgid)
    umask: int = 0o022
    fsname: str = "figshare"
    fuse_options: tuple[str, ...] = ()  #: further options for libfuse, as they are


# ---- places and words ---------------------------------------------------------------------------------


def config_dir() -> Path:
    """``$XDG_CONFIG_HOME/figfs``: where config.toml and the accounts of ``figfs login`` are."""
    return platformdirs.user_config_path("figfs")


def check_token(text: str, origin: str) -> Token:
    """A token from text as it was read: white space around it is taken off, anything odd within is refused.

    A control character or a line break would end up in an HTTP header. Raises ConfigurationError naming
    ``origin``, never the text.
    """
    text = text.strip()
    if not text:
        raise ConfigurationError(f"the token in {origin} is empty: run 'figfs login'")
    if re.fullmatch(r"[\x21-\x7e]+", text) is None:
        raise ConfigurationError(
            f"the token in {origin} has a space, a line break or other odd characters in it: copy it again"
        )
    return Token(text)
