"""Which file system a request of the kernel is for: the mount's own, or that of a colleague's account, which
shows in its ``institution/accounts/``.

An account is a file system of its own, so that nothing else has to know of identities (``colleagues.py``).
Here its inode numbers and handles are told from the others: the numbers by what the kernel was given, the
handles by numbers that are counted here. The directory that stands for an account is the mount's own, and the
root of the account's tree has the same inode number: what it is, the mount tells; what is in it, the account
does.
"""

from __future__ import annotations

import errno
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable

from figfs.filesystem import FileSystem
from figfs.namespace.nodes import FIRST_OF_COLLEAGUES, Container, Kind, Node

FIRST_HANDLE = 1 << 60  #: of colleagues' accounts; all others are smaller


class Router:
    """That of one mount. ``own``: its own file system."""

    def __init__(self, own: FileSystem) -> None:
        self.own = own
        #: The file system of the account that a directory stands for, which is opened if need be.
        self.enter: Callable[[Container], Awaitable[FileSystem]] = _nobody
        #: Called when the kernel has given back references, or closed something.
        self.on_forgotten: Callable[[], None] = lambda: None
        self._homes: dict[int, FileSystem] = {}  #: of all that the kernel holds of accounts
        self._references: Counter[int] = Counter()  #: by inode number
        self._held: Counter[FileSystem] = Counter()  #: inode numbers that the kernel holds
        self._open: Counter[FileSystem] = Counter()  #: handles
        self._handles: dict[int, tuple[FileSystem, int]] = {}
        self._next_handle = itertools.count(FIRST_HANDLE)

    def of(self, inode: int) -> FileSystem:
        """Whose the node is. ``OSError(ESTALE)`` if the kernel should not know it."""
        if inode < FIRST_OF_COLLEAGUES:
            return self.own
        home = self._homes.get(inode)
        if home is None:
            raise OSError(errno.ESTALE, "not there any more")
        return home

    async def inside(self, inode: int) -> FileSystem:
        """Whose the names in the directory are."""
        if inode < FIRST_OF_COLLEAGUES:
            node = self.own.node(inode)
            if isinstance(node, Container) and node.kind is Kind.ACCOUNT:
                return await self.enter(node)
        return self.of(inode)

    async def inside_both(self, inode: int, other: int) -> FileSystem:
        """The same for a change of names; ``OSError(EXDEV)`` where it is from one account to another:
        programs copy then, which is what it comes to.
        """
        found, there = await self.inside(inode), await self.inside(other)
        if found is not there:
            raise OSError(errno.EXDEV, "from one account to another: copy")
        return found

    # -- the kernel's references ------------------------------------------------------------

    def remember(self, filesystem: FileSystem, node: Node) -> None:
        """The kernel holds one more reference. No await."""
        if node.inode < FIRST_OF_COLLEAGUES:  # the root of an account is the mount's own directory
            self.own.remember(self.own.node(node.inode))
            return
        filesystem.remember(node)
        if self._homes.get(node.inode) is not filesystem:  # new; or an account was opened anew
            self._drop(node.inode)
            self._homes[node.inode] = filesystem
            self._held[filesystem] += 1
        self._references[node.inode] += 1

    def forget(self, inode: int, count: int) -> None:
        if inode < FIRST_OF_COLLEAGUES:
            self.own.forget(inode, count)
        elif (home := self._homes.get(inode)) is not None:
            home.forget(inode, count)
            self._references[inode] -= count
            if self._references[inode] <= 0:
                self._drop(inode)
        self.on_forgotten()

    def _drop(self, inode: int) -> None:
        home = self._homes.pop(inode, None)
        if home is not None:
            del self._references[inode]
            _less(self._held, home)

    def is_used(self, filesystem: FileSystem) -> bool:
        """Whether the kernel holds anything in an account; its root apart."""
        return self._held[filesystem] > 0 or self.has_open(filesystem)

    def has_open(self, filesystem: FileSystem) -> bool:
        """Whether a file or a directory of an account is open."""
        return self._open[filesystem] > 0

    # -- handles ------------------------------------------------------------

    def opened(self, filesystem: FileSystem, number: int) -> int:
        """The kernel's number for a handle of ``filesystem``."""
        if filesystem is self.own:
            return number
        handle = next(self._next_handle)
        self._handles[handle] = filesystem, number
        self._open[filesystem] += 1
        return handle

    def handle(self, handle: int) -> tuple[FileSystem, int]:
        """Whose handle that is, and its number there."""
        return self._handles[handle] if handle >= FIRST_HANDLE else (self.own, handle)

    def closed(self, handle: int) -> None:
        found = self._handles.pop(handle, None)
        if found is not None:
            _less(self._open, found[0])
            self.on_forgotten()


def _less(counter: Counter[FileSystem], filesystem: FileSystem) -> None:
    counter[filesystem] -= 1
    if counter[filesystem] <= 0:
        del counter[filesystem]  # else what has ended would be held here


async def _nobody(place: Container) -> FileSystem:
    raise OSError(errno.ENOENT, "there are no accounts here")
