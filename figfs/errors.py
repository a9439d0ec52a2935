"""Every way figfs can fail, each with the errno that a program sees.

Three families:

* ``RemoteError``: Figshare, or the way to it, failed. ``figshare/client.py`` is the one place that makes
them.
* ``OSError`` with an errno: a rule of the file system itself (not a directory, exists, name too long). Raised
as
  Python's own class, since that is what the operating system would raise; nothing to define here.
* ``ConfigurationError``: the person who typed a command has to do something; never seen by a program on the
mount.

``fuse.py`` turns all three into an errno, in one wrapper.
"""

from __future__ import annotations

import errno as _errno
from typing import ClassVar


class FigfsError(Exception):
    """Base of all errors of figfs. ``str()`` is one line for a person; it never holds the token."""

    errno: ClassVar[int] = _errno.EIO


class ConfigurationError(FigfsError):
    """It cannot be started; the text says what to do. ``exit_code`` is 2 for usage, else 1."""

    errno: ClassVar[int] = _errno.EINVAL

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class RemoteError(FigfsError):
    """Figshare answered with an error, or did not answer. ``status`` is the HTTP status, if there was one."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Unauthorized(RemoteError):
    """401: the token is missing, wrong, expired or revoked."""

    errno: ClassVar[int] = _errno.EACCES


class Forbidden(RemoteError):
    """403 on an API call: the account may not do this (delete a published article, for example)."""

    errno: ClassVar[int] = _errno.EPERM


class NotFound(RemoteError):
    """404: not there, or not readable with this token (Figshare does not tell the two apart)."""

    errno: ClassVar[int] = _errno.ENOENT


class Conflict(RemoteError):
    """409 that repeating did not cure: an upload part is locked, or its upload is completed."""

    errno: ClassVar[int] = _errno.EBUSY


class Invalid(RemoteError):
    """400 or 422: Figshare refuses the values (a title of two characters, for example)."""

    errno: ClassVar[int] = _errno.EINVAL


class QuotaExceeded(RemoteError):
    """413, or a refusal that speaks of the quota: no room left in the account."""

    errno: ClassVar[int] = _errno.EDQUOT


class TooManyFiles(RemoteError):
    """The article holds as many files as Figshare allows (500)."""

    errno: ClassVar[int] = _errno.ENOSPC


class FileTooLarge(RemoteError):
    """The file is larger than the account's ``maximum_file_size``."""

    errno: ClassVar[int] = _errno.EFBIG


class RateLimited(RemoteError):
    """429 to the end of the caller's patience."""


class ServerError(RemoteError):
    """5xx to the end of the caller's patience."""


class BadAnswer(RemoteError):
    """An answer that cannot be what was asked for: not JSON, cut, HTML from a proxy, a 202 on a download."""


class NotSupported(RemoteError):
    """The server speaks the API, but not this part of it: no upload URL, for example."""

    errno: ClassVar[int] = _errno.EOPNOTSUPP


class VerificationFailed(RemoteError):
    """What Figshare holds of an upload is not what was sent, again and again."""


class UnknownOutcome(RemoteError):
    """The answer to a request that must not be repeated blindly (POST) was lost: it may have been carried
    out.

    The caller looks before it acts again.
    """


class Unreachable(RemoteError):
    """No connection to Figshare."""

    errno: ClassVar[int] = _errno.EHOSTUNREACH


class Changed(RemoteError):
    """What was opened is gone or was replaced on Figshare since."""

    errno: ClassVar[int] = _errno.ESTALE


class TooSlow(RemoteError):
    """No answer within the deadline."""

    errno: ClassVar[int] = _errno.ETIMEDOUT


#: Figshare cannot be asked now: what is known without it is all there is.
AWAY = (Unreachable, TooSlow, ServerError, RateLimited, BadAnswer)

#: Figshare has understood and will not do it: repeating the same is no use until a person has changed
#: something.
REFUSALS = (
    Unauthorized,
    Forbidden,
    NotFound,
    Invalid,
    QuotaExceeded,
    TooManyFiles,
    FileTooLarge,
    Changed,
    NotSupported,
    VerificationFailed,
)
