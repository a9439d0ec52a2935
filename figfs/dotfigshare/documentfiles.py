"""Open documents of ``.figshare/``: what is read, and what becomes of what is written.

A document is made whole when it is asked for, and each handle keeps what it was opened with. What is written
is in memory until the close, which changes Figshare while the program waits, for it must hear of a refusal;
nothing of it is ever in the spool or the journal. A change that is refused leaves the document as it was, and
the reason in ``.figshare/last-error``.
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import errno
import hashlib
import itertools
import logging
import math
import os
from collections.abc import Awaitable, Callable

import trio

from figfs import openers
from figfs.documents.entries import Documents, Item, Seen, lasting
from figfs.dotfigshare.readings import Readings
from figfs.errors import FigfsError, UnknownOutcome
from figfs.kept import Kept
from figfs.namespace.nodes import DocumentNode
from figfs.namespace.tree import Tree
from figfs.openers import Process
from figfs.terminal import visible

log = logging.getLogger(__name__)

FIRST = 1 << 48  #: handles from here on are documents': below are those of ``OpenFiles``
LAST_ERROR = "last-error"
#: Not kept: they tell of this mount, or of files as they are here this moment, and cost no request, or few.
LIVE = frozenset({"status.json", "md5sums", "ro-crate-metadata.json"})
LONGEST_REASON = 4000  #: characters
MOST_KEPT = 32 << 20  #: bytes of documents that are kept as they were made
MOST_WRITTEN = 16 << 20  #: bytes being written, and in scratch files


@dataclasses.dataclass(eq=False, slots=True)
class _Handle:
    """One open file description of a document or a scratch file."""

    node: DocumentNode
    item: Item
    pid: int  #: of the thread that opened it; of its process once it has written
    family: tuple[Process, ...]  #: who opened it, its parent, and so on, where that matters
    original: bytes | None  #: the document as it was when it was opened, unless it was truncated then
    content: bytes | bytearray  #: as this handle sees it; a bytearray of its own once it was changed
    truncated: bool = False
    wrote: bool = False
    shown: bool = False  #: its opener was shown ``original``
    dirty: bool = False  #: changed since the last close that ended a change
    failed: OSError | None = None  #: why a write failed: what there is is half of something


class DocumentFiles:
    """All handles of documents of one mount.

    Args:
        seconds: for which a document is kept as it was made.
        op_timeout: deadline (seconds) of a change on Figshare; 0: none.
        still_open, is_killed: as for ``OpenFiles``.
        family_of: a process and its parents, nearest first (``openers.py``).
        now_ns: wall clock.
    """

    def __init__(
        self,
        *,
        tree: Tree,
        documents: Documents,
        nursery: trio.Nursery,
        seconds: float,
        op_timeout: float,
        still_open: Callable[[int, int], bool],
        is_killed: Callable[[int], bool],
        family_of: Callable[[int], tuple[Process, ...]],
        now_ns: Callable[[], int],
    ) -> None:
        self._tree = tree
        self._documents = documents
        self._op_timeout = op_timeout if op_timeout > 0 else math.inf
        self._still_open = still_open
        self._is_killed = is_killed
        self._family_of = family_of
        self._now_ns = now_ns
        self._kept: Kept[tuple[Item, str], bytes] = Kept(
            nursery=nursery, fetch=self._fetch, seconds=seconds, most=MOST_KEPT, size_of=len
        )
        self._readings = Readings(is_alive=lambda process: process in family_of(process[0])[:1])
        self._handles: dict[int, _Handle] = {}
        self._numbers = itertools.count(FIRST)
        self._scratch: set[DocumentNode] = set()
        self._errors: dict[Item, bytes] = {}
        #: Called when what belongs to an item may be another now, without a checkpoint between.
        self.on_changed: Callable[[Item], None] = lambda item: None

    # -- what documents hold ------------------------------------------------------------

    async def _fetch(self, key: tuple[Item, str]) -> bytes:
        return await self._documents.read(*key)

    async def content(self, item: Item, path: str) -> bytes:
        """The whole document."""
        if path.rpartition("/")[2] == LAST_ERROR:
            return self.last_error(item) or b""
        if path in LIVE:
            return await self._documents.read(item, path)
        return await self._kept.get((item, path))

    def forget(self, item: Item) -> None:
        """The item was changed otherwise than by a document: all of them are made anew."""
        self._documents.forget(item)
        self._kept.drop(lambda key: (key[0].kind, key[0].id) == (item.kind, item.id))
        self.on_changed(item)

    async def render(self, node: DocumentNode, item: Item) -> bytes:
        """Make the document, so that ``node`` has its size; a scratch file is what it is."""
        if node.content is not None:
            return bytes(node.content)
        content = await self.content(item, node.document)
        digest = hashlib.md5(content, usedforsecurity=False).digest()
        if node.shown_as != digest:
            if node.shown_as is not None:  # before that, the date of its item is the best that is known
                node.mtime_ns = self._now_ns()
            node.shown_as, node.made_size = digest, len(content)
        return content

    # -- what was refused ------------------------------------------------------------

    def last_error(self, item: Item) -> bytes | None:
        """What became of the last change of the item's documents, if it was refused."""
        return self._errors.get(item)

    def forget_error(self, item: Item) -> None:
        if self._errors.pop(item, None) is not None:
            self.on_changed(item)

    def _refused(self, item: Item, path: str, reason: str, *, is_known: bool = True) -> None:
        """``is_known``: that nothing was changed."""
        when = datetime.datetime.fromtimestamp(self._now_ns() / 1e9, datetime.UTC)
        outcome = "was not changed" if is_known else "may have been changed"
        why = f"{visible(path)} {outcome}: {visible(reason, LONGEST_REASON)}"
        text = f"{when:%Y-%m-%d %H:%M:%S} UTC\n{why}\n"
        self._errors[item] = text.encode("utf-8", "backslashreplace")

    # -- handles ------------------------------------------------------------

    async def open(self, node: DocumentNode, item: Item, flags: int, pid: int) -> int:
        """A handle of a document or scratch file. ``OSError``: EROFS, EACCES for what cannot be written."""
        writing = flags & os.O_ACCMODE != os.O_RDONLY
        truncated = writing and bool(flags & os.O_TRUNC)
        if node.content is not None:
            handle = _Handle(node, item, pid, self._family_of(pid), None, b"")
            if truncated:
                node.content.clear()
                node.failed = None
                self._note_written(handle)
            return self._add(handle)
        if writing and item.public:
            raise OSError(errno.EROFS, "what is public cannot be written")
        if writing and not node.writable:
            raise OSError(errno.EACCES, f"{node.document} cannot be written")
        family = self._family_of(pid) if node.writable else ()
        if not truncated:
            content = await self.render(node, item)
            return self._add(_Handle(node, item, pid, family, content, content))
        handle = _Handle(node, item, pid, family, None, bytearray(), truncated=True)
        number = self._add(handle)
        if node.size:
            self._note_written(handle)
        node.written = 0
        return number

    def create(self, node: DocumentNode, item: Item, pid: int) -> int:
        """A handle of a new scratch file: ``node`` has its place already."""
        handle = _Handle(node, item, pid, self._family_of(pid), None, b"")
        node.written_by = handle.family
        handle.dirty = node.creates  # an empty file may be all that is wanted
        return self._add(handle)

    def _add(self, handle: _Handle) -> int:
        number = next(self._numbers)
        self._handles[number] = handle
        handle.node.handles += 1
        if handle.node.content is not None:
            self._scratch.add(handle.node)
        return number

    def inode_of(self, number: int) -> int:
        """The inode number of an open handle's file."""
        return self._handles[number].node.inode

    def _note_written(self, handle: _Handle) -> None:
        if not handle.wrote:
            handle.wrote = True
            handle.pid = openers.process_of(handle.pid)
        handle.dirty = True
        if handle.node.content is None:
            handle.node.written = len(handle.content)
        else:
            handle.node.written_by = handle.family
            handle.node.mtime_ns = self._now_ns()

    # -- reading and writing ------------------------------------------------------------

    async def read(self, number: int, offset: int, size: int) -> bytes:
        """Bytes at ``offset``, at most ``size``: of what the handle was opened with, and has written."""
        handle = self._handles[number]
        node = handle.node
        if node.content is not None:
            return bytes(node.content[offset : offset + size])
        if node.writable and not handle.shown and not handle.wrote and handle.original is not None:
            handle.shown = True
            self._readings.show(_reading(handle.item, node.document), handle.original, handle.family)
        return bytes(handle.content[offset : offset + size])

    async def write(self, number: int, offset: int, data: bytes) -> int:
        """Write into memory. ``OSError``: ENOSPC past ``MOST_WRITTEN``, of all that is written here; then
        the close and a rename fail, too: half of something is never taken for all of it.
        """
        handle = self._handles[number]
        self._raise_failure(handle)
        try:
            self._resize(handle, max(len(self._buffer(handle)), offset + len(data)))
        except OSError as exc:
            handle.failed, handle.dirty = exc, False
            if handle.node.content is not None:
                handle.node.failed = exc
            raise
        self._buffer(handle)[offset : offset + len(data)] = data
        self._note_written(handle)
        return len(data)

    def truncate(self, node: DocumentNode, size: int, number: int | None) -> None:
        """Set the size. ``OSError(EINVAL)`` for a document without a handle: no close ends the change."""
        if number is not None:
            handle = self._handles[number]
            self._resize(handle, size)
            handle.truncated |= size == 0
            self._note_written(handle)
        elif node.content is None:
            raise OSError(errno.EINVAL, "a document is written as a whole")
        else:
            self._check_room(size - len(node.content))
            _set_size(node.content, size)

    def _resize(self, handle: _Handle, size: int) -> None:
        buffer = self._buffer(handle)
        self._check_room(size - len(buffer))
        _set_size(buffer, size)

    @staticmethod
    def _buffer(handle: _Handle) -> bytearray:
        """The bytes that ``handle`` writes to."""
        if handle.node.content is not None:
            return handle.node.content
        if not isinstance(handle.content, bytearray):
            handle.content = bytearray(handle.content)
        return handle.content

    def _check_room(self, more: int) -> None:
        if more <= 0:
            return
        self._scratch = {node for node in self._scratch if node.parent is not None or node.handles}
        held = sum(node.size for node in self._scratch)
        held += sum(
            len(handle.content) for handle in self._handles.values() if isinstance(handle.content, bytearray)
        )
        if held + more > MOST_WRITTEN:
            raise OSError(errno.ENOSPC, f"more than {MOST_WRITTEN >> 20} MiB being written in .figshare")

    # -- close ------------------------------------------------------------

    async def flush(self, number: int) -> None:
        """A ``close()``. The last one of a handle that has written changes Figshare, and waits for it."""
        handle = self._handles[number]
        self._raise_failure(handle)
        if not handle.dirty:
            return
        if self._is_killed(handle.pid):
            self._give_up(handle)
        elif not self._still_open(handle.pid, handle.node.inode):
            await self._finish(handle)

    async def release(self, number: int) -> None:
        """The last reference to a handle is gone. Nobody can be told any more of what is refused now."""
        handle = self._handles[number]
        try:
            if handle.dirty:
                await self._finish(handle)
        except (OSError, FigfsError) as exc:
            log.warning("%s: the change is refused: %s", handle.node.path(), visible(str(exc)))
        finally:
            del self._handles[number]
            handle.node.handles -= 1
            self._written_by_others(handle)
            if handle.failed is not None and handle.node.creates and handle.node.parent is not None:
                self._tree.detach(handle.node)

    @staticmethod
    def _raise_failure(handle: _Handle) -> None:
        if handle.failed is not None:
            raise copy.copy(handle.failed)

    def _give_up(self, handle: _Handle) -> None:
        """Its writer was killed: what it has written is half of something."""
        handle.dirty = False
        log.info("%s: its writer was killed, so nothing is changed", handle.node.path())
        self._written_by_others(handle)
        if handle.node.creates and handle.node.parent is not None:
            self._tree.detach(handle.node)

    def _written_by_others(self, handle: _Handle) -> None:
        """The size is that of what others write, or of the document."""
        node = handle.node
        node.written = next(
            (len(other.content) for other in self._handles.values() if other.node is node and other.dirty),
            None,
        )

    async def _finish(self, handle: _Handle) -> None:
        """Carry out what was written."""
        handle.dirty = False  # no checkpoint before this: a second close is no second change
        node = handle.node
        if node.content is None:
            try:
                await self.replace(node, handle.item, bytes(handle.content), handle)
            finally:
                self._written_by_others(handle)
        elif node.creates and node.parent is not None:
            content, node.creates = bytes(node.content), False
            try:
                await self.make(handle.item, node.document, content)
            finally:
                if node.parent is not None:
                    self._tree.detach(node)  # Figshare has it, under a name of its own, or will not have it

    async def replace(
        self,
        node: DocumentNode,
        item: Item,
        content: bytes,
        handle: _Handle | None = None,
        family: tuple[Process, ...] = (),
    ) -> None:
        """The document is to be ``content``: ``handle``'s, or renamed over it, and written by ``family``.

        What was changed in part, to what it was: no request. Else the document is asked for, since Figshare
        may have another by now than the one that ``content`` is the same as.
        """
        key = _reading(item, node.document)
        if handle is not None:
            family = handle.family
        if handle is not None and not handle.truncated:
            if content == handle.original:
                return
            seen = Seen(handle.original)
        else:
            seen = self._readings.seen(key, family)
        await self._change(
            item, node.document, lambda: self._documents.write(item, node.document, content, seen)
        )
        self._readings.wrote(key, content, family)
        if handle is not None:
            handle.original = content

    async def make(self, item: Item, path: str, content: bytes) -> None:
        """A new note, a new private link."""
        await self._change(item, path, lambda: self._documents.create(item, path, content))

    async def remove(self, item: Item, path: str) -> None:
        await self._change(item, path, lambda: self._documents.remove(item, path))
        self._readings.forget(_reading(item, path))

    async def _change(self, item: Item, path: str, change: Callable[[], Awaitable[None]]) -> None:
        """Change something on Figshare, and keep what came of it. Cancelled, it counts as refused: nobody
        knows whether it was carried out, and the next look at the document tells.
        """
        try:
            try:
                with trio.fail_after(self._op_timeout):
                    await change()
            except trio.TooSlowError:
                raise OSError(errno.ETIMEDOUT, "no answer in time: look whether it was changed") from None
        except (OSError, FigfsError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else None
            is_known = not isinstance(exc, UnknownOutcome) and exc.errno != errno.ETIMEDOUT
            self._refused(item, path, reason or str(exc), is_known=is_known)
            raise
        except trio.Cancelled:
            self._refused(item, path, "given up before there was an answer: look at it", is_known=False)
            raise
        else:
            self._errors.pop(item, None)
        finally:
            self._kept.drop(lambda key: (key[0].kind, key[0].id) == (item.kind, item.id))
            self.on_changed(item)


def _reading(item: Item, path: str) -> tuple[Item, str]:
    return item, lasting(path)


def _set_size(buffer: bytearray, size: int) -> None:
    if size < len(buffer):
        del buffer[size:]
    else:
        buffer.extend(bytes(size - len(buffer)))
