"""The local side of a file, as a record. Decisions are in ``settling.py``."""

from __future__ import annotations

import dataclasses

import trio

from figfs.namespace.nodes import FileNode
from figfs.writing.journal import Upload
from figfs.writing.spool import SpoolFile


@dataclasses.dataclass(eq=False, slots=True)
class LocalFile:
    """The bytes of one file node while it is open, or while this machine has bytes that Figshare does not
    have.
    """

    node: FileNode
    handles: int = 0
    #: Handles that have written.
    writers: int = 0
    #: None: all bytes are Figshare's.
    spool: SpoolFile | None = None
    #: ``spool`` belongs to a row of the journal: copy it before writing.
    sealed: bool = False
    #: Spool files to close with the last handle (a read may be under way), and whether to delete them then.
    retired: list[tuple[SpoolFile, bool]] = dataclasses.field(default_factory=list)
    #: Counts changes of content.
    changes: int = 0
    #: ``changes`` as of the last close: what came after is half of something.
    closed_changes: int = 0
    #: ``changes`` as of the content that is journaled, stored, or given up.
    settled_changes: int = 0
    #: Trio's clock at the last change of content or name.
    changed_at: float = 0.0
    #: The row that is carried out, and the scope around that.
    upload: Upload | None = None
    scope: trio.CancelScope | None = None
    #: Somebody else carries the row out until this is set (``resuming.py``).
    free: trio.Event | None = None
    #: Settling was asked for.
    wanted: bool = False
    #: Set when the settling that runs has ended; None: none runs.
    settling: trio.Event | None = None
    #: Set when what was written can no more be lost here. Never replaced while unset: somebody waits for it.
    journaled: trio.Event = dataclasses.field(default_factory=trio.Event)
    #: Sticky until the file is opened anew.
    error: Exception | None = None
    #: A close was answered for bytes in ``spool`` or ``upload`` that Figshare does not have.
    accepted: bool = False
    #: Bytes of the account's room that are counted for what is in ``spool`` (``quota.py``).
    charged: int = 0
    #: Trio's clock: when the grace of the move that ``upload`` stands for is over.
    due: float = 0.0
    #: Rows that nobody wants any more; settling takes back what Figshare has of them.
    dropped: list[Upload] = dataclasses.field(default_factory=list)
    #: What this file was renamed over while it was being written: their rows are void once it has one.
    superseded: list[LocalFile] = dataclasses.field(default_factory=list)
    #: Upload it though its name is a temporary one.
    hold_is_over: bool = False
    #: One copy of a sealed spool file, not two.
    thawing: trio.Lock = dataclasses.field(default_factory=trio.Lock)

    @property
    def dirty(self) -> bool:
        return self.changes != self.settled_changes

    @property
    def being_written(self) -> bool:
        return self.changes != self.closed_changes

    def retire(self, *, delete: bool) -> None:
        """Have no spool file any more; it is closed with the last handle."""
        if self.spool is not None:
            self.retired.append((self.spool, delete))
        self.spool, self.sealed = None, False
