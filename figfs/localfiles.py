"""The local side of a file: a record, and where Figshare should have it. Decisions are in ``settling.py``."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import trio

from figfs.figshare.records import Id
from figfs.namespace.nodes import FileNode
from figfs.writing.journal import Upload
from figfs.writing.spool import SpoolFile


@dataclasses.dataclass(eq=False, slots=True)
class LocalFile:
    """The local side of one file node."""

    node: FileNode
    handles: int = 0
    spool: SpoolFile | None = None  #: None: all bytes are Figshare's
    sealed: bool = False  #: ``spool`` belongs to a row of the journal: copy it before writing
    retired: list[SpoolFile] = dataclasses.field(
        default_factory=list
    )  #: to be closed, not deleted, with the last handle
    changes: int = 0  #: counts changes of content
    settled_changes: int = 0  #: ``changes`` as of the content that is journaled, or stored
    changed_at: float = 0.0  #: Trio's clock at the last change
    upload: Upload | None = None  #: the row that is being carried out
    scope: trio.CancelScope | None = None  #: around it
    wanted: bool = False  #: settling was asked for
    settling: trio.Event | None = None  #: set when the settling that runs has ended
    journaled: trio.Event = dataclasses.field(
        default_factory=trio.Event
    )  #: set when nothing more can be lost here
    error: Exception | None = None  #: sticky until the file is opened anew
    hold_is_over: bool = False  #: upload it though its name is a temporary one
    thawing: trio.Lock = dataclasses.field(
        default_factory=trio.Lock
    )  #: one copy of a sealed spool file, not two

    @property
    def dirty(self) -> bool:
        return self.changes != self.settled_changes


class Wanted(NamedTuple):
    """Where Figshare should have a file: article, folder path, name."""

    article_id: Id
    folder: str
    name: str
