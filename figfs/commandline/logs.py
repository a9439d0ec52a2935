"""Where the log goes, that the token is not in it, and nothing that a terminal obeys. Set up once, by the
command line.
"""

from __future__ import annotations

import logging
import logging.handlers
from pathlib import Path

import platformdirs

from figfs.errors import ConfigurationError
from figfs.settings import Token
from figfs.terminal import visible

#: Their lines speak of connections, with URLs that are signed; nobody who mounts a file system needs them.
_LIBRARIES = ("httpx", "httpcore", "hpack", "hypercorn", "trio")


def redact(text: str, token: Token | None) -> str:
    """``text`` with ``***`` in the place of the token."""
    return text if token is None else text.replace(token.reveal(), "***")


def _not_a_late_release(record: logging.LogRecord) -> bool:
    """False for pyfuse3's error line about a reply to RELEASE that nobody waited for.

    The kernel sends RELEASE without waiting for it and drops it at the unmount; the reply then meets ENOENT.
    Nothing is lost by it: a handle's bytes are settled by FLUSH, and the mount is ending.
    """
    return "fuse_release(): fuse_reply_* failed with No such file" not in record.getMessage()


class _Formatter(logging.Formatter):
    """Takes the token out of the finished line, so that no message, argument or traceback can bring it in.

    Belt and braces: no part of figfs logs it. A formatter and not a filter, since a filter sees the pieces
    only. What servers and other people have said, titles and names, is made visible here, for all who log:
    a record is one line, a traceback one line for each of its own.
    """

    def __init__(self, pattern: str, token: Token | None) -> None:
        super().__init__(pattern)
        self._token = token

    def formatMessage(self, record: logging.LogRecord) -> str:
        return visible(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).split("\n")
        return redact("\n".join(map(visible, lines)), self._token)


def configure(
    level: str,
    *,
    token: Token | None = None,
    file: Path | None = None,
    background: bool = False,
    syslog: Path = Path("/dev/log"),
    state_dir: Path | None = None,
) -> logging.Handler:
    """Send the log to ``file`` if given, else to stderr, or for a background process to syslog or, where
    there is none, to ``figfs.log`` in the state directory. ``level``: one of ``options.LOG_LEVELS``.

    Returns the handler, which is on the root logger. Raises ConfigurationError if the file cannot be written.
    """
    handler: logging.Handler
    pattern = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    if file is None and not background:
        handler = logging.StreamHandler()
        pattern = "%(levelname)s %(name)s: %(message)s"
    elif file is None and syslog.is_socket():
        handler = logging.handlers.SysLogHandler(
            address=str(syslog), facility=logging.handlers.SysLogHandler.LOG_DAEMON
        )
        pattern = "figfs[%(process)d]: %(levelname)s %(name)s: %(message)s"
    else:
        handler = _file_handler(file or (state_dir or platformdirs.user_state_path("figfs")) / "figfs.log")
    handler.setFormatter(_Formatter(pattern, token))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("pyfuse3").addFilter(_not_a_late_release)
    return handler


def _file_handler(path: Path) -> logging.Handler:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Opens the file anew when logrotate has moved it.
        return logging.handlers.WatchedFileHandler(path, encoding="utf-8")
    except OSError as exc:
        raise ConfigurationError(f"cannot write the log to {path}: {exc.strerror}") from exc
