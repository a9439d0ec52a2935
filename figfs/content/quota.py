"""Room in the account, as far as it can be known before Figshare is asked to take a file.

Figshare checks its quota when an upload is announced (quirks U15), which is at the close; a program that
hears of it at its first write does not copy ten gigabytes for nothing. So what is owed and what is being
written is counted against what Figshare said last, and before anything is refused Figshare is asked anew:
files may have been deleted since, or the quota raised. In doubt there is room, and the close decides.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable, Iterable

import trio

from figfs.content.localfiles import LocalFile
from figfs.errors import FigfsError
from figfs.figshare.records import Account, Project
from figfs.namespace.nodes import Container, FileNode, Kind
from figfs.writing import tempnames
from figfs.writing.journal import Upload

log = logging.getLogger(__name__)

ASK_TIMEOUT = 5.0  #: seconds that a write waits to hear whether there is room


class Quota:
    """The account's storage.

    Args:
        account: as Figshare told at the start; replaced by ``heard``.
        ask: asks Figshare for the account.
        files: the local files of the mount.
        resumed: uploads that are owed and belong to none of them.
    """

    def __init__(
        self,
        *,
        account: Account,
        ask: Callable[[], Awaitable[Account]],
        files: Callable[[], Iterable[LocalFile]],
        resumed: Callable[[], Iterable[Upload]],
    ) -> None:
        self._ask = ask
        self._files = files
        self._resumed = resumed
        self._asking: trio.Event | None = None
        self.heard(account)

    def heard(self, account: Account, announced: Iterable[int] = ()) -> None:
        """Newer figures. ``announced``: rows of uploads that are counted in their use already."""
        self._account = account
        self._announced = frozenset(announced)
        self._is_known = account.quota is not None and account.quota > 0
        self._room: int | None = None  # counted when it is needed

    @property
    def total(self) -> int | None:
        """Bytes; None: not known, which does not mean that there is no limit."""
        return self._account.quota if self._is_known else None

    @property
    def used(self) -> int:
        """Bytes, as last heard."""
        account = self._account
        if account.used_quota is not None:
            return account.used_quota
        return (account.used_quota_private or 0) + (account.used_quota_public or 0)

    def room(self) -> int | None:
        """Bytes that are left when all that is owed and being written is stored; less than none, if that is
        too much; None: not known.
        """
        if self._room is None and self._is_known:
            assert self._account.quota is not None
            self._room = self._account.quota - self.used - self._count()
        return self._room

    def _count(self) -> int:
        """Bytes that Figshare does not have yet, as far as it was heard."""
        owed = sum(upload.size for upload in self._resumed() if upload.row not in self._announced)
        for file in self._files():
            size, upload = file.node.local_size, file.upload
            file.charged = size or 0
            if not _counts(file.node) or (upload is not None and upload.row in self._announced):
                continue
            if size is None:
                size = upload.size if upload is not None else 0
            owed += size
        return owed

    async def charge(self, file: LocalFile, size: int) -> None:
        """``file`` is to have ``size`` bytes. ``OSError(EDQUOT)`` if it is known that they do not fit.

        Waits for Figshare only before it refuses.
        """
        room = self.room()
        if room is None or size <= file.charged:
            return
        if size - file.charged > room:
            if not _counts(file.node):
                return
            await self._ask_again()
            room = self.room()
            if room is None:
                return
            if size - file.charged > room:
                raise OSError(errno.EDQUOT, f"{max(0, room)} bytes are left of the account's quota")
        self._room = room - (size - file.charged)
        file.charged = size

    async def _ask_again(self) -> None:
        if self._asking is not None:
            await self._asking.wait()
            return
        self._asking = trio.Event()
        announced = {
            upload.row
            for upload in (*self._resumed(), *(file.upload for file in self._files()))
            if upload is not None and upload.file_id is not None
        }
        try:
            with trio.fail_after(ASK_TIMEOUT):
                self.heard(await self._ask(), announced)
        except (FigfsError, trio.TooSlowError) as exc:
            log.warning("whether there is room left in the account is not known: %s", str(exc) or "no answer")
            self._is_known, self._room = False, None
        finally:
            self._asking.set()
            self._asking = None


def _counts(node: FileNode) -> bool:
    """Whether ``node`` takes room of the account's own when it is uploaded.

    What is in a group's project takes the group's, and in somebody else's perhaps theirs (quirks U21).
    """
    parent = node.parent
    if parent is None or parent.local or tempnames.classify(node.name).kind is tempnames.Kind.LOCAL:
        return False
    around = parent.lister.parent
    if not isinstance(around, Container) or around.kind is not Kind.PROJECT:
        return True
    project = around.record
    return isinstance(project, Project) and project.storage == "individual" and project.role == "Owner"
