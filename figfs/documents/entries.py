"""What the tree and the documents agree on: which item a ``.figshare`` belongs to, what is in it, and what
can be done with it. The tree (nodes, handles) knows no content, the documents know no inode.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Protocol

from figfs.figshare.records import Id


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """What a ``.figshare`` belongs to."""

    kind: str  #: "root", "article", "project", "collection", "institution"
    id: Id  #: 0 for the root and the institution
    public: bool  #: under public/: read through the public endpoints
    version: int | None = None  #: of a public article, if one is asked for
    project_id: Id | None = None  #: of an own article in a project


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One name in a ``.figshare``."""

    name: str
    kind: str  #: "file", "directory", "link", or "accounts": what is in there is no document
    writable: bool = False
    removable: bool = False
    #: Of a link: a path from the mount's root, without a leading slash ("public/articles/7.v2").
    target: str = ""
    size: int | None = None  #: where it is known without a request
    alias: str = ""  #: another name by which it is found, and not listed


@dataclasses.dataclass(frozen=True, slots=True)
class Seen:
    """What the writer of a document may have made it from."""

    own: bytes | None = None  #: what its process has read or written last
    #: What was shown: to those next to it (its shell's programs) last, then to anybody, the newest first.
    others: tuple[bytes, ...] = ()

    @property
    def likeliest(self) -> bytes | None:
        """Where the content itself does not tell."""
        return self.own if self.own is not None else next(iter(self.others), None)


def lasting(path: str) -> str:
    """What stays of a document's path while its content changes: a note's name ends with its first words."""
    directory, _, name = path.rpartition("/")
    return f"notes/{re.split('[ .]', name)[0]}" if directory == "notes" else path


class Documents(Protocol):
    """The content of every ``.figshare``. Paths are relative to it ("metadata.json", "notes/12 title.txt").

    All raise ``FigfsError`` or ``OSError``, with a reason that a person can act on; ENOENT (``NotFound`` or
    ``OSError``) for what is not there, EPERM for what cannot be changed.
    """

    async def entries(self, item: Item, directory: str) -> list[Entry]:
        """What is in ``directory``: "" is ``.figshare`` itself, then "versions", "notes", "links"."""
        ...

    def known(self, item: Item, directory: str) -> list[Entry]:
        """What is in ``directory`` for certain, without asking: found by its name, also while Figshare is
        away.
        """
        ...

    async def read(self, item: Item, path: str) -> bytes:
        """The whole document, as it is now."""
        ...

    async def write(self, item: Item, path: str, content: bytes, seen: Seen) -> None:
        """Change a document, at ``close()``.

        Raises ``Invalid`` where the content is refused, ``Changed`` where Figshare has another than what it
        was made from.
        """
        ...

    async def create(self, item: Item, path: str, content: bytes) -> None:
        """A new note, a new private link. Its name may be another one afterwards."""
        ...

    async def remove(self, item: Item, path: str) -> None: ...

    def forget(self, item: Item) -> None:
        """What is known of ``item`` may have changed: it is asked for anew."""
        ...


class Versions(Protocol):
    """What is kept of public articles, and of their versions, which never change."""

    def versions(self, article_id: Id) -> list[int]:
        """The numbers of the versions of an article that are kept."""
        ...

    def answer(self, article_id: Id, version: int | None) -> bytes:
        """All that Figshare says of a version, as it said it; of the latest one, as it was when it was asked.
        b"" where that is not kept.
        """
        ...
