"""The adapter to pyfuse3: types in, types out, exception to errno. No decision is taken here.

One wrapper stands around every handler. It gives it a deadline, since pyfuse3 knows no interrupts and a
program that waits in a handler cannot be killed; and it turns every exception into an errno, since any
exception but ``FUSEError`` that leaves a handler ends the mount for everyone.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import math
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import pyfuse3
import trio

from figfs.errors import FigfsError, Unauthorized
from figfs.filesystem import FileSystem, describe
from figfs.namespace.nodes import Node
from figfs.posix import Attributes, Change
from figfs.routing import Router

log = logging.getLogger(__name__)

#: Worker tasks of pyfuse3: above the number of FLUSH requests that may wait (openfiles.WAITING_FLUSHES), so
#: that the mount answers while uploads are waited for.
MAX_TASKS = 256

#: Answers that are no news for the log: programs probe for names all the time.
EXPECTED = frozenset(
    {
        errno.ENOENT,
        errno.ENODATA,
        errno.EOPNOTSUPP,
        errno.EEXIST,
        errno.ENOTEMPTY,
        errno.ENOTDIR,
        errno.EISDIR,
    }
)

#: Handlers whose first argument is an open file, and those whose second is a name in a directory.
OF_HANDLES = frozenset({"read", "write", "flush", "fsync", "release"})
OF_NAMES = frozenset({"lookup", "create", "mkdir", "rmdir", "unlink", "rename", "symlink", "mknod"})

Handler = TypeVar("Handler", bound=Callable[..., Awaitable[Any]])


def handler(method: Handler) -> Handler:
    """Deadline and errno for one handler (see the module's text)."""
    operation = method.__name__

    @functools.wraps(method)
    async def wrapper(self: Operations, *args: Any) -> Any:
        try:
            with trio.fail_after(self.deadline(operation)):
                return await method(self, *args)
        except pyfuse3.FUSEError:
            raise
        except trio.TooSlowError:
            log.warning(
                "%s of inode %s: no answer within %.0f s",
                operation, self.subject(operation, args), self.deadline(operation),
            )  # fmt: skip
            number = errno.ETIMEDOUT
        except OSError as exc:
            number = exc.errno or errno.EIO
            level = logging.DEBUG if number in EXPECTED else logging.INFO
            if log.isEnabledFor(level):  # file managers look for dozens of names
                log.log(level, "%s of inode %s: %s", operation, self.subject(operation, args), describe(exc))
        except FigfsError as exc:
            number = exc.errno
            # A token that is refused is told once, by who has it (``renewing.py``).
            level = logging.DEBUG if isinstance(exc, Unauthorized) else logging.WARNING
            log.log(level, "%s of inode %s: %s", operation, self.subject(operation, args), describe(exc))
        except Exception:
            log.exception("%s of inode %s: a bug in figfs", operation, self.subject(operation, args))
            number = errno.EIO
        if operation in ("flush", "fsync", "create") and number in (errno.EINTR, errno.ENOSYS):
            number = (
                errno.EIO
            )  # EINTR: GIO takes it for success; ENOSYS: the kernel never asks again (programs.md §1, §5)
        raise pyfuse3.FUSEError(number)

    return wrapper  # type: ignore[return-value]


def let_go(parent: int, name: str) -> None:
    """Have the kernel ask again for ``name`` in the directory ``parent``, before its time. Returns at once; a
    thread of pyfuse3's tells the kernel, which may wait for a handler of that directory.
    """
    pyfuse3.invalidate_entry_async(parent, os.fsencode(name), ignore_enoent=True)


class Operations(pyfuse3.Operations):
    """Handlers of one mount. ``op_timeout`` is the deadline of each (seconds), ``close_timeout`` that of an
    upload in FLUSH. Without ``xattrs`` the kernel is told, once, never to ask for extended attributes.
    """

    supports_dot_lookup = True
    enable_writeback_cache = False
    enable_acl = False

    def __init__(
        self, router: Router, *, op_timeout: float, close_timeout: float, xattrs: bool = True
    ) -> None:
        super().__init__()
        self.initialised = trio.Event()  #: the kernel has its answer to INIT
        self._router = router
        self._op_timeout = op_timeout
        self._xattrs = xattrs
        # A FLUSH also waits until the file is hashed and journaled, which for a large overlay means a
        # download.
        self._flush_timeout = close_timeout + 10 * op_timeout

    def init(self) -> None:
        # Called by libfuse just before it answers; who waits for this runs after that, for all of it is one
        # step of the event loop.
        self.initialised.set()

    def deadline(self, operation: str) -> float:
        """Seconds that a handler has; an op_timeout of 0 means no deadline."""
        seconds = self._flush_timeout if operation == "flush" else self._op_timeout
        return seconds if self._op_timeout > 0 else math.inf

    def subject(self, operation: str, arguments: Sequence[Any]) -> str:
        """What a request was about, for a person who reads the log: the inode number, and the path if it is
        known.
        """
        first: Any = arguments[0] if arguments else ""
        with contextlib.suppress(Exception):  # whatever is wrong with it is told by the log line itself
            if operation in OF_HANDLES:
                fs, number = self._router.handle(first)
                first = fs.inode_of(number)
            path = self._router.of(first).node(first).path()
            if operation in OF_NAMES:
                path = f"{path.rstrip('/')}/{os.fsdecode(arguments[1])}"
            return f"{first} ({path})"
        return str(first)

    # -- attributes ------------------------------------------------------------

    @staticmethod
    def _entry(fs: FileSystem, node: Node) -> pyfuse3.EntryAttributes:
        return entry_attributes(fs.attributes(node))

    @handler
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext | None = None) -> pyfuse3.EntryAttributes:
        fs = self._router.of(inode)
        return self._entry(fs, fs.node(inode))

    @handler
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        change = Change(
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
        )
        fs = self._router.of(inode)
        number = None if fh is None else self._router.handle(fh)[1]
        return self._entry(fs, await fs.setattr(inode, change, number))

    @handler
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        space = self._router.own.statfs()
        data = pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = space.block_size
        data.f_blocks = space.blocks
        data.f_bfree = data.f_bavail = space.free
        data.f_files = space.files
        data.f_ffree = data.f_favail = 1 << 20  # Figshare counts bytes, and files of an article
        data.f_namemax = 255
        return data

    # -- extended attributes ------------------------------------------------------------

    @handler
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        self._check_xattrs()
        return self._router.of(inode).getxattr(inode, os.fsdecode(name))

    @handler
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> list[bytes]:
        self._check_xattrs()
        return [os.fsencode(name) for name in self._router.of(inode).listxattr(inode)]

    @handler
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._check_xattrs()
        self._router.of(inode).setxattr(inode, os.fsdecode(name), value)

    @handler
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._check_xattrs()
        self._router.of(inode).removexattr(inode, os.fsdecode(name))

    def _check_xattrs(self) -> None:
        """ENOSYS is an answer for good: the kernel asks no more, not before every write either."""
        if not self._xattrs:
            raise pyfuse3.FUSEError(errno.ENOSYS)

    # -- directories ------------------------------------------------------------

    @handler
    async def lookup(
        self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        fs = await self._router.inside(parent_inode)
        return self._remembered(fs, await fs.lookup(parent_inode, name))

    def _remembered(self, fs: FileSystem, node: Node) -> pyfuse3.EntryAttributes:
        # No await between the count and the answer: the kernel gets exactly the references that are counted.
        self._router.remember(fs, node)
        return self._entry(fs, node)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Has no answer, so no deadline and no errno either."""
        for inode, count in inode_list:
            self._router.forget(inode, count)

    @handler
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        fs = await self._router.inside(inode)
        return self._router.opened(fs, await fs.opendir(inode))

    @handler
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        fs, number = self._router.handle(fh)
        for position, entry in enumerate(fs.readdir(number, start_id), start_id + 1):
            name = entry.name.encode("utf-8", "surrogateescape")
            if not pyfuse3.readdir_reply(token, name, self._entry(fs, entry.node), position):
                break
            self._router.remember(fs, entry.node)

    @handler
    async def releasedir(self, fh: int) -> None:
        fs, number = self._router.handle(fh)
        fs.releasedir(number)
        self._router.closed(fh)

    @handler
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        fs = await self._router.inside(parent_inode)
        return self._remembered(fs, await fs.mkdir(parent_inode, name, mode & ~ctx.umask))

    @handler
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        fs = await self._router.inside(parent_inode)
        await fs.rmdir(parent_inode, name)

    @handler
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        fs = await self._router.inside(parent_inode)
        await fs.unlink(parent_inode, name)

    @handler
    async def rename(
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        fs = await self._router.inside_both(parent_inode_old, parent_inode_new)
        await fs.rename(parent_inode_old, name_old, parent_inode_new, name_new, flags)

    @handler
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        return self._router.of(inode).readlink(inode)

    @handler
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        fs = await self._router.inside(parent_inode)
        return self._remembered(fs, await fs.symlink(parent_inode, name, target))

    @handler
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        raise OSError(errno.EPERM, "no hard links")

    @handler
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        raise OSError(errno.EPERM, "no devices")

    # -- files ------------------------------------------------------------

    @handler
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        fs = await self._router.inside(parent_inode)
        await fs.confirm(parent_inode)
        node, number = fs.create(parent_inode, name, mode & ~ctx.umask, ctx.pid)
        info = pyfuse3.FileInfo(fh=self._router.opened(fs, number), direct_io=fs.is_document(node.inode))
        return info, self._remembered(fs, node)

    @handler
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        fs = self._router.of(inode)
        if fs.is_document(inode):
            number = await fs.open_document(inode, flags, ctx.pid)
            return pyfuse3.FileInfo(fh=self._router.opened(fs, number), direct_io=True)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            await fs.confirm(inode)
        number, keep_cache = fs.open(inode, flags, ctx.pid)
        return pyfuse3.FileInfo(fh=self._router.opened(fs, number), keep_cache=keep_cache)

    @handler
    async def read(self, fh: int, off: int, size: int) -> bytes:
        fs, number = self._router.handle(fh)
        return await fs.read(number, off, size)  # type: ignore[return-value]  # any buffer will do

    @handler
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        fs, number = self._router.handle(fh)
        return await fs.write(number, off, buf)

    @handler
    async def flush(self, fh: int) -> None:
        fs, number = self._router.handle(fh)
        try:
            await fs.flush(number)
        except (OSError, FigfsError):
            # The file may be as Figshare has it again. Size and time of what was refused must not be believed
            # for another moment: "cp -p" has failed, and an "rsync -a" after it is to see that. This notice
            # takes no lock in the kernel, so it may be given in a handler (fs/fuse/inode.c,
            # fuse_reverse_inval_inode).
            with contextlib.suppress(OSError):  # the kernel does not know the inode any more
                pyfuse3.invalidate_inode(fs.inode_of(number), attr_only=True)
            raise

    @handler
    async def fsync(self, fh: int, datasync: bool) -> None:
        fs, number = self._router.handle(fh)
        await fs.fsync(number)

    @handler
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        return None

    @handler
    async def release(self, fh: int) -> None:
        fs, number = self._router.handle(fh)
        try:
            await fs.release(number)
        finally:
            self._router.closed(fh)


def entry_attributes(attributes: Attributes) -> pyfuse3.EntryAttributes:
    entry = pyfuse3.EntryAttributes()
    entry.st_ino = attributes.inode
    entry.generation = 0
    entry.entry_timeout = attributes.name_valid_for
    entry.attr_timeout = attributes.valid_for
    entry.st_mode = attributes.mode
    entry.st_nlink = attributes.nlink
    entry.st_uid = attributes.uid
    entry.st_gid = attributes.gid
    entry.st_rdev = 0
    entry.st_size = attributes.size
    entry.st_blksize = attributes.block_size
    entry.st_blocks = attributes.blocks
    entry.st_atime_ns = attributes.atime_ns
    entry.st_mtime_ns = attributes.mtime_ns
    entry.st_ctime_ns = attributes.ctime_ns
    return entry
