"""Handles, and the bytes behind them: reading and writing open files.

Opening costs nothing, for reading or writing: content is fetched, or a spool file made, when the first byte
is touched. What happens to written bytes after that is ``settling.py``'s business.
"""

from __future__ import annotations

import copy
import dataclasses
import errno
import itertools
import logging
import math
import os
from collections.abc import Callable

import trio

from figfs import openers
from figfs.content.deletions import Deletions
from figfs.content.localfiles import LocalFile
from figfs.content.lookahead import Lookahead
from figfs.content.quota import Quota
from figfs.content.settling import Settler
from figfs.content.storedfiles import StoredFiles
from figfs.errors import BadAnswer, Changed
from figfs.figshare.records import File
from figfs.namespace.nodes import Container, FileNode, is_empty_file, is_read_only, new_pending_key
from figfs.namespace.tree import Tree
from figfs.reading.reader import Reader
from figfs.writing.spool import Spool, SpoolFile

log = logging.getLogger(__name__)

#: FLUSH requests that wait for uploads at the same time. Each holds one of the workers of ``pyfuse3.main``
#: (fuse.py), which are for the rest of the mount as well: more than these wait for the journal only.
WAITING_FLUSHES = 192
SIGNAL_INTERVAL = 0.25  #: seconds between looks at the signals of a program that waits in ``close()``


@dataclasses.dataclass(slots=True)
class Waiting:
    """What waits in the handlers of a mount, for whichever account."""

    flushes: int = 0


@dataclasses.dataclass(eq=False, slots=True)
class Handle:
    """One open file description. Without local bytes, it reads the version of when it was opened."""

    file: LocalFile
    pid: int  #: of the thread that opened it; of its process once it has written
    stored: File | None = None
    reader: Reader | None = None
    wrote: bool = False
    local: bool = False  #: it has read or written bytes that Figshare does not have
    made: bool = False  #: the file was created by it
    killed: bool = False  #: at the last close of one of its descriptors, its opener was being killed


class OpenFiles:
    """All handles of one mount.

    Args:
        close_timeout: seconds that ``flush`` waits for an upload once its bytes are safe here.
        maximum_file_size: bytes, or None if the account does not tell.
        still_open: whether a process holds another descriptor of an inode for writing.
        is_killed: whether a process is being ended by a signal.
        pending_signal: whether a signal that is to end a process waits for the system call that it is in.
        now_ns: wall clock, for the times of what is written.
    """

    def __init__(
        self,
        *,
        tree: Tree,
        stored_files: StoredFiles,
        lookahead: Lookahead,
        spool: Spool,
        deletions: Deletions,
        quota: Quota,
        waiting: Waiting,
        close_timeout: float,
        maximum_file_size: int | None,
        still_open: Callable[[int, int], bool] = openers.still_open_for_writing,
        is_killed: Callable[[int], bool] = openers.is_killed,
        pending_signal: Callable[[int], bool] = openers.pending_signal,
        now_ns: Callable[[], int],
    ) -> None:
        self._tree = tree
        self._stored_files = stored_files
        self._lookahead = lookahead
        self._spool = spool
        self._deletions = deletions
        self._quota = quota
        self._close_timeout = close_timeout
        self._maximum_file_size = maximum_file_size
        self._still_open = still_open
        self._is_killed = is_killed
        self._pending_signal = pending_signal
        self._now_ns = now_ns
        self._handles: dict[int, Handle] = {}
        self._numbers = itertools.count(1)
        self._waiting = waiting
        self._settler: Settler | None = None

    @property
    def settler(self) -> Settler:
        assert self._settler is not None
        return self._settler

    @settler.setter
    def settler(self, settler: Settler) -> None:
        # The settler makes overlays with our help, we settle with its: assembly.py joins the two.
        self._settler = settler

    # -- handles ------------------------------------------------------------

    def create(self, parent: Container, name: str, pid: int) -> tuple[FileNode, int]:
        """A new, empty, pending file, and a handle of it. Nothing is asked of Figshare."""
        spool = self._spool.create(f"{parent.path().rstrip('/')}/{name}")
        node = self._tree.make(new_pending_key())
        assert isinstance(node, FileNode)
        node.local_size = 0
        node.mtime_ns = node.ctime_ns = self._now_ns()
        self._tree.attach(node, parent, name)
        node.changed_at = math.inf  # Figshare does not know it yet
        file = self.settler.local(node)
        file.spool = spool
        number = self._new_handle(file, pid)
        self._handles[number].made = True
        return node, number

    def open(self, node: FileNode, flags: int, pid: int) -> int:
        """A handle of an existing file."""
        if flags & (os.O_ACCMODE | os.O_TRUNC):
            _check_writable(node)
        file = self.settler.local(node)
        if not file.handles:
            file.error = None
        number = self._new_handle(file, pid)
        if flags & os.O_TRUNC and node.size:
            try:
                self._start_over(file)
            except OSError:
                self.release(number)
                raise
            self._note_written(self._handles[number])
        return number

    def inode_of(self, number: int) -> int:
        """The inode number of an open handle's file."""
        return self._handles[number].file.node.inode

    @staticmethod
    def _note_written(handle: Handle) -> None:
        if not handle.wrote:
            handle.wrote = True
            handle.file.writers += 1
            handle.pid = openers.process_of(handle.pid)

    def _new_handle(self, file: LocalFile, pid: int) -> int:
        number = next(self._numbers)
        stored = file.node.stored
        handle = Handle(file, pid)
        if stored is not None and file.node.local_size != 0:
            handle.stored = stored.file
            handle.reader = self._stored_files.reader(stored.file)
            self._deletions.reading(stored.file.id)
        self._handles[number] = handle
        file.handles += 1
        return number

    def release(self, number: int) -> None:
        """The last reference to a handle is gone. What is dirty still (mmap, children that wrote on) is
        settled now; what a killed program leaves is dropped, unless somebody else writes it, too.
        """
        handle = self._handles.pop(number)
        file = handle.file
        file.handles -= 1
        file.writers -= handle.wrote
        if handle.stored is not None:
            self._deletions.reading_ended(handle.stored.id)
        if file.error is not None:
            if file.dirty and not file.handles:
                self.settler.discard(file)
        elif handle.killed and not file.writers and self._is_unfinished(handle):
            log.info("%s: its writer was killed, so it is not uploaded", file.node.path())
            self.settler.discard(file)
        elif file.dirty and (not file.handles or (handle.wrote and not file.writers)):
            self.settler.settle(file, closed=True)
            file.accepted = True  # nobody can be told of a refusal any more
        elif file.node.local_size == 0 and not file.handles:
            self.settler.settle(file, closed=True)  # an empty file is kept, by its name
        self.settler.tidy(file)

    def end(self, *, all_closed: bool) -> None:
        """The mount has ended, and the kernel sends no more: RELEASE of files that were closed just before
        may be missing, and without it they would count as open.

        ``all_closed``: no file was open at the end, as after every umount. If not, what is being written is
        half of something, and is left alone.
        """
        for number, handle in list(self._handles.items()):
            if all_closed or not handle.file.being_written:
                self.release(number)

    @staticmethod
    def _is_unfinished(handle: Handle) -> bool:
        """Whether ``handle`` leaves a part of something, and no close was answered for what that replaces."""
        file = handle.file
        if handle.made and file.node.local_size == 0:
            return not (file.accepted or is_empty_file(file.node.key))
        return file.dirty and _can_be_given_up(file)

    # -- reading ------------------------------------------------------------

    async def read(self, number: int, offset: int, size: int) -> bytes | memoryview:
        """Bytes at ``offset``, at most ``size``, fewer only at the end of the file."""
        handle = self._handles[number]
        if handle.file.spool is not None:
            handle.local = True
            return await handle.file.spool.read(offset, size)
        if handle.file.error is not None and (handle.local or handle.reader is None):
            raise copy.copy(handle.file.error)  # never the end, or another version, in the middle of a file
        if handle.reader is None:
            return b""
        if offset == 0:
            self._lookahead.reads(handle.file.node, size)
        try:
            return await handle.reader.read(offset, size)
        except Changed:
            if handle.file.node.parent is not None:  # its listing is older than that
                self._tree.expire(handle.file.node.parent)
            raise
        except BadAnswer:
            handle.file.node.kernel_is_stale = True  # it may have pages of what turned out to be wrong
            raise

    # -- writing ------------------------------------------------------------

    async def write(self, number: int, offset: int, data: bytes) -> int:
        """Write into the spool. ``OSError``: EFBIG past what the account takes, or what the disk says; it is
        remembered.
        """
        handle = self._handles[number]
        file = handle.file
        _check_writable(file.node)
        self._raise_sticky(file)
        try:
            await self._check_size(file, offset + len(data))
            spool = await self._writable(file)
            written = spool.write(offset, data)
        except OSError as exc:
            file.error = exc
            self._note_written(handle)
            file.changes += 1  # what is there now is half of something: it must not be taken for the file
            raise
        self._note_written(handle)
        self._changed(file, spool)
        return written

    async def truncate(self, node: FileNode, size: int, number: int | None) -> None:
        """Set the size. Without a handle there is no close to wait for, so the change is settled at once."""
        _check_writable(node)
        file = self.settler.local(node)
        self._raise_sticky(file)
        if size:
            await self._check_size(file, size)
        if size != node.size:
            if size == 0:
                self._start_over(file)
            else:
                spool = await self._writable(file)
                spool.truncate(size)
                self._changed(file, spool)
        if number is not None and file.dirty:
            self._note_written(self._handles[number])
        elif file.dirty and not file.handles:
            self.settler.settle(file, closed=True)
        self.settler.tidy(file)

    async def _check_size(self, file: LocalFile, size: int) -> None:
        """``OSError``: EFBIG, EDQUOT, if ``file`` may not have ``size`` bytes."""
        if self._maximum_file_size is not None and size > self._maximum_file_size:
            raise OSError(
                errno.EFBIG, f"larger than this account's files may be ({self._maximum_file_size} bytes)"
            )
        self._begin_change(file)
        await self._quota.charge(file, size)

    @staticmethod
    def _begin_change(file: LocalFile) -> None:
        if file.node.local_size is None:  # so far all is Figshare's
            file.charged, file.accepted = 0, False

    @staticmethod
    def _raise_sticky(file: LocalFile) -> None:
        if file.error is not None:
            raise copy.copy(file.error)
        if file.node.vanished:
            raise OSError(errno.ESTALE, "deleted or replaced elsewhere since it was opened")

    def _changed(self, file: LocalFile, spool: SpoolFile) -> None:
        file.changes += 1
        file.changed_at = trio.current_time()
        node = file.node
        node.local_size = spool.size
        node.mtime_ns = node.ctime_ns = self._now_ns()

    def _start_over(self, file: LocalFile) -> None:
        """Empty the file. The stored version stays on Figshare until the new content is there."""
        self._begin_change(file)
        if file.spool is not None and not file.sealed:
            file.spool.truncate(0)
        else:
            file.retire(delete=False)  # it is its upload's from now on
            file.spool = self._spool.create(file.node.path())
        assert file.spool is not None
        self._changed(file, file.spool)

    async def _writable(self, file: LocalFile) -> SpoolFile:
        """The spool file to write to: the present one, an overlay of the stored file, or a copy."""
        while file.spool is None or file.sealed:
            if file.spool is None:
                file.spool = self.overlay(file.node)
                break
            async with file.thawing:  # a copy on this disk, no request
                source = file.spool
                if source is None or not file.sealed:
                    continue
                fresh = self._spool.create(file.node.path())
                try:
                    await fresh.copy_from(source)
                except BaseException:
                    fresh.close(delete=True)
                    raise
                if file.spool is not source or not file.sealed:  # truncated, or stored, meanwhile
                    fresh.close(delete=True)
                    continue
                file.retire(delete=False)  # it is its upload's
                file.spool = fresh
        return file.spool

    def overlay(self, node: FileNode) -> SpoolFile:
        """A spool file over what Figshare has of ``node``: what is not written here is fetched when it is
        needed.
        """
        stored = node.stored
        if stored is None or node.local_size == 0:  # an empty file from an earlier mount
            return self._spool.create(node.path())
        reader = self._stored_files.reader(stored.file)

        async def read_base(start: int, end: int) -> bytes | memoryview:
            return await reader.read(start, end - start)

        return self._spool.create(node.path(), base_size=stored.file.size, read_base=read_base)

    # -- close, fsync ------------------------------------------------------------

    async def flush(self, number: int) -> None:
        """A ``close()``. The last one of a handle that has written waits for the upload.

        Returns once Figshare has the file, or, past ``close_timeout``, once it is in the journal and on its
        way. Raises what Figshare refused it with, again and again until the file is opened anew. Of a program
        that is killed it returns at once, and ``release`` drops what was written. A signal that comes while
        it waits, and is to end the program, ends the wait with EIO, and the upload.
        """
        handle = self._handles[number]
        file = handle.file
        if not (handle.wrote or handle.made or file.error is not None):
            return
        handle.killed = self._is_killed(handle.pid)
        if handle.killed:
            return
        if not (handle.wrote or file.error is not None):
            if not self._still_open(handle.pid, file.node.inode):
                self.settler.keep_if_empty(file)
            return
        self._raise_sticky_and_drop(file)
        if not file.dirty and file.settling is None:
            return
        if self._still_open(handle.pid, file.node.inode):
            return
        self._waiting.flushes += 1
        try:
            settled = self.settler.settle(file, closed=True)
            await self._wait(handle, file.journaled)
            if self._waiting.flushes <= WAITING_FLUSHES:
                with trio.move_on_after(self._close_timeout):
                    await self._wait(handle, settled)
        finally:
            self._waiting.flushes -= 1
        self._raise_sticky(file)
        if file.node.local_size is not None:
            file.accepted = True

    async def _wait(self, handle: Handle, event: trio.Event) -> None:
        """Wait for ``event``, in the name of a program that no signal reaches meanwhile (programs.md §7.4).

        ``OSError(EIO)`` if a signal is to end it: never EINTR, which GIO takes for success.
        """
        while not event.is_set():
            with trio.move_on_after(SIGNAL_INTERVAL):
                await event.wait()
            if event.is_set() or not self._pending_signal(handle.pid):
                continue
            file = handle.file
            log.info("%s: its writer was interrupted while it was uploaded", file.node.path())
            if file.writers <= handle.wrote and _can_be_given_up(file):
                self.settler.abort(file)
            raise OSError(errno.EIO, "interrupted by a signal")

    def _raise_sticky_and_drop(self, file: LocalFile) -> None:
        """After a failed write, what was written is given up at the first close."""
        if file.error is not None and file.dirty:
            self.settler.discard(file)
        self._raise_sticky(file)

    async def fsync(self, number: int) -> None:
        """What was written is on this disk; nothing is uploaded (programs sync temporary files, databases all
        the time).
        """
        handle = self._handles[number]
        self._raise_sticky(handle.file)
        if handle.wrote and handle.file.spool is not None and not handle.file.sealed:
            await handle.file.spool.sync()

    def keeps_cache(self, node: FileNode) -> bool:
        """Whether the kernel's pages of ``node`` are its content. Asked at each open; False once if not."""
        stale, node.kernel_is_stale = node.kernel_is_stale, False
        return not stale

    def renamed(self, node: FileNode) -> None:
        """``node`` has a new name: who finds its bytes after a crash is to know it."""
        file = self.settler.known(node)
        if file is not None and file.spool is not None:
            file.spool.name(node.path())

    def check(self, node: FileNode) -> None:
        """Raise the file's remembered error, so that no program renames half a file over a good one."""
        file = self.settler.known(node)
        if file is not None:
            self._raise_sticky(file)


def _check_writable(node: FileNode) -> None:
    """No byte of a public file ever comes from here, so that none is uploaded."""
    if is_read_only(node):
        raise OSError(errno.EROFS, "public items are read-only")


def _can_be_given_up(file: LocalFile) -> bool:
    """Whether that costs nothing for which a ``close()`` has been answered: what has is in a row of its own,
    or there is nothing of the kind.
    """
    return not file.accepted or (file.dirty and file.upload is not None)
