"""The wrapper around every FUSE handler: a deadline, and an errno for whatever happens."""

from __future__ import annotations

import errno
import inspect
import logging
from typing import Any

import pyfuse3
import pytest
import trio
from trio.testing import MockClock

from figfs.errors import Forbidden, QuotaExceeded, Unreachable
from figfs.fuse import Operations, handler

DEADLINE = 30.0
CLOSE_TIMEOUT = 20.0


class Probe(Operations):
    """Handlers that do as they are told: raise what is given, or run it."""

    def __init__(self, *, op_timeout: float = DEADLINE) -> None:
        super().__init__(None, op_timeout=op_timeout, close_timeout=CLOSE_TIMEOUT)  # type: ignore[arg-type]

    @handler
    async def lookup(self, deed: Any) -> Any:
        return await do(deed)

    @handler
    async def flush(self, deed: Any) -> Any:
        return await do(deed)

    @handler
    async def fsync(self, deed: Any) -> Any:
        return await do(deed)

    @handler
    async def create(self, deed: Any) -> Any:
        return await do(deed)


async def do(deed: Any) -> Any:
    await trio.lowlevel.checkpoint()
    if isinstance(deed, BaseException):
        raise deed
    return await deed() if callable(deed) else deed


@pytest.mark.parametrize(
    ("exc", "number"),
    [
        (OSError(errno.ENOTEMPTY, "not empty"), errno.ENOTEMPTY),
        (FileNotFoundError(errno.ENOENT, "no"), errno.ENOENT),
        (OSError("without a number"), errno.EIO),
        (QuotaExceeded("full"), errno.EDQUOT),
        (Forbidden("not yours"), errno.EPERM),
        (Unreachable("away"), errno.EHOSTUNREACH),
        (KeyError("a bug"), errno.EIO),
        (AssertionError("a bug"), errno.EIO),
        (ExceptionGroup("two bugs", [ValueError(), KeyError()]), errno.EIO),
        (RecursionError("a bug"), errno.EIO),
    ],
)
async def test_every_exception_becomes_an_errno(exc: Exception, number: int) -> None:
    """Any exception but FUSEError that leaves a handler would end the mount for everyone."""
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await Probe().lookup(exc)
    assert caught.value.errno == number


async def test_a_bug_is_logged_with_traceback_and_inode(caplog: pytest.LogCaptureFixture) -> None:
    """Once, at ERROR; a name that is not there is no news."""
    with caplog.at_level(logging.INFO), pytest.raises(pyfuse3.FUSEError):
        await Probe().lookup(KeyError("a bug"))
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    caplog.clear()
    with caplog.at_level(logging.INFO), pytest.raises(pyfuse3.FUSEError):
        await Probe().lookup(FileNotFoundError(errno.ENOENT, "no"))
    assert not caplog.records


async def test_a_fuse_error_passes_as_it_is() -> None:
    """What a handler decided for itself is not touched."""
    exc = pyfuse3.FUSEError(errno.ENODATA)
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await Probe().lookup(exc)
    assert caught.value is exc


async def test_results_pass() -> None:
    """The answer is the handler's."""
    assert await Probe().lookup(42) == 42


@pytest.mark.parametrize(
    ("operation", "seconds"), [("lookup", DEADLINE), ("flush", CLOSE_TIMEOUT + 10 * DEADLINE)]
)
async def test_the_deadline(autojump_clock: MockClock, operation: str, seconds: float) -> None:
    """A handler that hangs answers ETIMEDOUT: a program that waits in one cannot be killed."""
    started = trio.current_time()
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await getattr(Probe(), operation)(trio.sleep_forever)
    assert caught.value.errno == errno.ETIMEDOUT
    assert trio.current_time() - started == pytest.approx(seconds)


async def test_no_deadline(autojump_clock: MockClock) -> None:
    """An op_timeout of 0 means none."""

    async def slow() -> str:
        await trio.sleep(10**6)
        return "done"

    assert await Probe(op_timeout=0).lookup(slow) == "done"


async def test_an_inner_timeout_is_no_bug(caplog: pytest.LogCaptureFixture) -> None:
    """TooSlowError from within means the same to the program."""
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await Probe().lookup(trio.TooSlowError())
    assert caught.value.errno == errno.ETIMEDOUT


async def test_cancellation_passes() -> None:
    """The end of the mount is not an answer: the handler ends as cancelled, without an errno."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await Probe().lookup(trio.sleep_forever)
    assert scope.cancelled_caught


@pytest.mark.parametrize("operation", ["flush", "fsync", "create"])
@pytest.mark.parametrize("number", [errno.EINTR, errno.ENOSYS])
async def test_never_eintr_or_enosys_where_they_harm(operation: str, number: int) -> None:
    """GIO takes EINTR of close for success; after ENOSYS the kernel never asks again (programs.md §1, §5)."""
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await getattr(Probe(), operation)(OSError(number, "?"))
    assert caught.value.errno == errno.EIO


async def test_without_extended_attributes() -> None:
    """ENOSYS to the first of each kind: the kernel asks no more, not before every write either."""
    operations = Operations(None, op_timeout=DEADLINE, close_timeout=CLOSE_TIMEOUT, xattrs=False)  # type: ignore[arg-type]
    context: Any = None
    for ask in (
        lambda: operations.getxattr(1, b"security.capability", context),
        lambda: operations.listxattr(1, context),
        lambda: operations.setxattr(1, b"user.x", b"", context),
        lambda: operations.removexattr(1, b"user.x", context),
    ):
        with pytest.raises(pyfuse3.FUSEError) as caught:
            await ask()
        assert caught.value.errno == errno.ENOSYS


def test_every_handler_is_wrapped() -> None:
    """All that pyfuse3 calls and this adapter defines, but for ``forget``, which has no answer."""
    bare = [
        name
        for name, method in vars(Operations).items()
        if inspect.iscoroutinefunction(inspect.unwrap(method))
        and not hasattr(method, "__wrapped__")
        and hasattr(pyfuse3.Operations, name)
    ]
    assert bare == ["forget"]
