"""Extended attributes: what figfs tells of an item (``user.figshare.*``), and what programs have set.

All of it from memory. What Figshare has of an item is listed, so that ``getfattr -d`` shows it; what only
this mount knows (``state``, ``key``, ``verified``, ``cache``) is read by name. Programs that copy attributes
(``rsync -X``, ``cp -a``) take the listed ones along, and bring them back: to set what figfs may have told of
another file, or at another time, and to remove one, is accepted and changes nothing. Anything else is EPERM.
"""

from __future__ import annotations

import errno
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

from figfs.content.settling import Settler
from figfs.content.storedfiles import StoredFiles
from figfs.figshare.records import Id
from figfs.namespace import standing
from figfs.namespace.nodes import Container, FileNode, LinkNode, Node
from figfs.namespace.permissions import withheld
from figfs.namespace.tree import Tree
from figfs.terminal import visible
from figfs.writing.journal import Upload

PREFIX = "user.figshare."
LARGEST = 1 << 16  #: bytes of all extended attributes of one file: what the kernel lets one have
LONGEST = 1000  #: characters of one value: what comes from servers has no bounds of its own

_WORDS = "|".join(
    (
        *(standing.DRAFT, standing.PUBLIC, standing.PRIVATE, standing.EDITED),
        *(standing.CONFIDENTIAL, standing.METADATA_ONLY, f"{standing.EMBARGOED} [ -~]+"),
    )
)

#: What is listed, in this order, and what each may look like.
LISTED: Mapping[str, re.Pattern[str]] = {
    "id": re.compile(r"[0-9A-Za-z_-]{1,64}"),
    "doi": re.compile(r"10\.\S+/\S+"),
    "url": re.compile(r"(?:https?|ftp)://\S+"),
    "md5": re.compile(r"[0-9a-f]{32}"),
    "version": re.compile(r"[1-9][0-9]*"),
    "status": re.compile(rf"(?:{_WORDS})(?:, (?:{_WORDS}))*"),
}


class Progress(Protocol):
    """How far the uploader is with a row."""

    @property
    def sent(self) -> int: ...
    @property
    def size(self) -> int: ...


class ExtendedAttributes:
    """Of one mount.

    Args:
        account_id: whose files are never withheld; None: there is no account.
        progress: row number to what is on its way.
        parked: the uploads that wait for a person.
    """

    def __init__(
        self,
        *,
        tree: Tree,
        account_id: Id | None,
        settler: Settler,
        stored_files: StoredFiles,
        progress: Callable[[], Mapping[int, Progress]],
        parked: Callable[[], Iterable[Upload]],
    ) -> None:
        self._tree = tree
        self._account_id = account_id
        self._settler = settler
        self._stored_files = stored_files
        self._progress = progress
        self._parked = parked
        self.state_directory: Path | None = None  #: told by the root, for commands that are given a path

    def get(self, node: Node, name: str) -> bytes:
        """``OSError``: ENODATA, or EOPNOTSUPP outside of ``user.``."""
        _check(name)
        if name.startswith(PREFIX):
            told = self._told(node, name.removeprefix(PREFIX))
            found = told.encode("utf-8", "surrogateescape") if told else None
        else:
            found = node.xattrs.get(name)
        if found is None:
            raise OSError(errno.ENODATA, "no such attribute")
        return found

    def list(self, node: Node) -> list[str]:
        """Names of what Figshare has of it and of what programs have set. A symlink has none: the kernel lets
        nobody read them.
        """
        if isinstance(node, LinkNode):
            return []
        return [*(PREFIX + name for name in self._figshare(node)), *node.xattrs]

    def set(self, node: Node, name: str, value: bytes) -> None:
        """Kept here, as times are. ``OSError``: EPERM for what figfs tells, ENOSPC if it is too much."""
        _check(name)
        if name.startswith(PREFIX):
            self._check_told(node, name.removeprefix(PREFIX), value)
            return
        new = {**node.xattrs, name: value}
        if sum(len(key) + len(each) for key, each in new.items()) > LARGEST:
            raise OSError(errno.ENOSPC, f"more than {LARGEST} bytes of extended attributes")
        self._set(node, new)

    def remove(self, node: Node, name: str) -> None:
        """``OSError``: EPERM for what is not listed and figfs's own, ENODATA."""
        _check(name)
        if name.startswith(PREFIX):
            if name.removeprefix(PREFIX) not in LISTED:
                raise OSError(errno.EPERM, "told by figfs: nobody else can remove it")
            return  # rsync -X removes what its source lacks, and would end with 23
        if name not in node.xattrs:
            raise OSError(errno.ENODATA, "no such attribute")
        self._set(node, {key: value for key, value in node.xattrs.items() if key != name})

    def _set(self, node: Node, xattrs: dict[str, bytes]) -> None:
        node.xattrs = xattrs
        self._tree.save(node)
        if isinstance(node, FileNode):
            self._settler.attributes_changed(node)

    def _check_told(self, node: Node, name: str, value: bytes) -> None:
        """``OSError(EPERM)`` unless figfs may have told that value: copies bring it back."""
        text = value.decode("utf-8", "replace")
        if text == self._figshare(node).get(name):
            return
        pattern = LISTED.get(name)
        if pattern is None or pattern.fullmatch(text) is None:
            raise OSError(errno.EPERM, f"told by figfs: nobody else can set {PREFIX}{name}")

    # -- what is told ------------------------------------------------------------

    def _told(self, node: Node, name: str) -> str | None:
        if name in LISTED:
            return self._figshare(node).get(name)
        match name:
            case "state":
                return self._state(node)
            case "key" | "verified":
                return self._content(node).get(name)
            case "cache":
                store = self._stored_files.cache.store
                return str(store.directory) if store is not None else None
            case "state-dir" if node is self._tree.root and self.state_directory is not None:
                return str(self.state_directory)
        return None

    def _figshare(self, node: Node) -> dict[str, str]:
        """What Figshare has of ``node``: nothing of a file whose bytes are other ones here.

        What does not look as ``LISTED`` says (a "javascript:" URL) is not told.
        """
        if isinstance(node, FileNode):
            found = self._of_file(node)
        elif isinstance(node, Container) and node.record is not None:
            found = _of_item(node)
        else:
            return {}
        texts = {name: visible(text, LONGEST) for name, text in found.items() if text}
        return {
            name: texts[name]
            for name, pattern in LISTED.items()
            if name in texts and pattern.fullmatch(texts[name]) is not None
        }

    def _of_file(self, node: FileNode) -> dict[str, str]:
        if node.stored is None or node.local_size is not None:
            return {}
        file = node.stored.file
        found = {"id": str(file.id), "url": file.download_url, "md5": self._content(node).get("md5", "")}
        article = node.parent.lister if node.parent is not None else None
        if article is not None and article.record is not None:
            item = _of_item(article)
            found["status"] = standing.file_status(article.record, file)
            if found["status"] != standing.DRAFT:
                found |= {name: item.get(name, "") for name in ("doi", "version")}
        return found

    def _content(self, node: Node) -> dict[str, str]:
        if isinstance(node, FileNode) and node.stored is not None and node.local_size is None:
            return self._stored_files.attributes(node.stored.file)
        return {}

    # -- where it is on its way ------------------------------------------------------------

    def _state(self, node: Node) -> str | None:
        """``clean``, ``pending``, ``uploading 43%``, ``failed: <reason>``; of a directory: all below it, or
        why Figshare does not hand it out.
        """
        if isinstance(node, FileNode):
            state = self._state_of_file(node)
            return (self._withheld(node) or state) if state == "clean" else state
        if isinstance(node, Container):
            pending = any(
                _is_below(file.node, node) and self._state_of_file(file.node) != "clean"
                for file in self._settler.files()
            )
            return "pending" if pending else self._withheld(node) or "clean"
        return None

    def _withheld(self, node: FileNode | Container) -> str:
        return visible(withheld(node, self._account_id), LONGEST)

    def _state_of_file(self, node: FileNode) -> str:
        file = self._settler.known(node)
        if file is not None and file.error is not None:
            return f"failed: {visible(str(file.error), LONGEST)}"
        if file is not None and file.upload is not None:
            going = self._progress().get(file.upload.row)
            if going is not None and going.size:
                return f"uploading {min(100, 100 * going.sent // going.size)}%"
        if node.local_size is not None or node.changed_at == math.inf:
            return "pending"
        return self._parked_state(node) or "clean"

    def _parked_state(self, node: FileNode) -> str:
        """Figshare refused what was written over it; the bytes are parked."""
        if node.stored is None:
            return ""
        place = (node.stored.article_id, node.stored.folder, node.stored.file.name)
        reasons = [
            row.parked
            for row in self._parked()
            if (row.article_id, row.folder, row.name) == place and row.parked
        ]
        return f"failed: {visible(reasons[-1], LONGEST)}" if reasons else ""


def _of_item(container: Container) -> dict[str, str]:
    record = container.record
    if record is None:
        return {}
    version = getattr(record, "version", None)
    return {
        "id": str(record.id),
        "doi": getattr(record, "doi", ""),
        "url": _page(container),
        "version": str(version) if version else "",
        "status": standing.status_of(record, container.edited),
    }


def _page(container: Container) -> str:
    """The web page: the public one of what is public, else the owner's."""
    record = container.record
    names = ["url_private_html", "url"]
    if standing.is_public(record):
        names = ["figshare_url", "url_public_html", *names]
    return next((page for name in names if (page := getattr(record, name, ""))), "")


def _is_below(node: Node, container: Container) -> bool:
    above = node.parent
    while above is not None:
        if above is container:
            return True
        above = above.parent
    return False


def _check(name: str) -> None:
    if not name.startswith("user."):
        # Not ENODATA: "ls -l" asks for two of them of every file, until it hears that there are none.
        raise OSError(errno.EOPNOTSUPP, "no such attributes here")
