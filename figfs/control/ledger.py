"""What Figshare is owed, for a person: the contents of ``figfs status``, and what ``figfs wait`` waits for.

Rows come from the journal on disk, read in a thread (or without a mount): a long list never stalls the mount.
What is on its way, and what is not in the journal yet, comes from the running parts. Everything is plain
data, as it goes over the control socket and out as JSON.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import trio

from figfs.content.settling import Settler
from figfs.namespace import naming
from figfs.namespace.nodes import FileNode, Key, Kind, Node
from figfs.namespace.tree import Tree
from figfs.writing import tempnames
from figfs.writing.journal import Deletion, State, Upload
from figfs.writing.spool import PATH

Rows = tuple[list[Upload], list[Deletion]]

#: States of entries for which nothing is to be done now.
NOT_OWED = frozenset({"parked", "held", "local"})
BREATH = 200  #: entries after which others get their turn


class OnTheWay(Protocol):
    """How far the uploader is with a row. ``began``: Trio's clock; ``phase``: a word for a person."""

    @property
    def sent(self) -> int: ...
    @property
    def began(self) -> float: ...
    @property
    def phase(self) -> str: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Unclosed:
    """Bytes of a file that was never closed: a crash came first. ``path``: what it was called, if known."""

    spool: Path
    path: str
    size: int


class Ledger:
    """Of one running mount.

    Args:
        read_rows: reads the journal.
        progress: row number to what is on its way.
        unclosed: bytes of files that were never closed, left from an earlier mount.
    """

    def __init__(
        self,
        *,
        tree: Tree,
        settler: Settler,
        read_rows: Callable[[], Awaitable[Rows]],
        progress: Callable[[], Mapping[int, OnTheWay]],
        spool_directory: Path,
        unclosed: Iterable[Path],
    ) -> None:
        self._tree = tree
        self._settler = settler
        self._read_rows = read_rows
        self._progress = progress
        self._spool_directory = spool_directory
        self.unclosed = {path.name: path for path in unclosed}

    async def rows(self) -> Rows:
        """The journal, as it is on disk."""
        return await self._read_rows()

    async def report(self, under: str = "", limit: int | None = None) -> dict[str, Any]:
        """What is owed below ``under`` (a path as in ``canonical``); of each kind at most ``limit`` entries,
        what is on its way first. The figures count all of them.
        """
        uploads, deletions = await self.rows()
        progress, now, clock = dict(self._progress()), time.time(), trio.current_time()
        entries = []
        for number, upload in enumerate(uploads):
            if number % BREATH == 0:
                await trio.lowlevel.checkpoint()
            path = self.path(upload)
            if is_below(path, under):
                going = progress.get(upload.row)
                entries.append(upload_entry(upload, path, now=now, going=going, clock=clock))
        entries += [entry for entry in self._without_row() if is_below(str(entry["path"]), under)]
        gone = [
            deletion_entry(deletion, path, now=now)
            for deletion in deletions
            if is_below(path := self.path(deletion), under)
        ]
        unclosed = [
            unclosed_entry(found) for found in self.never_closed() if is_below(found.path or "?", under)
        ]
        found = figures(entries, gone, unclosed, limit)
        for name, number in self._counts().items():
            found[name] += number
        return found

    def never_closed(self) -> list[Unclosed]:
        """What is still there of them."""
        return list(look_at_unclosed(self.unclosed.values()))

    def path(self, row: Upload | Deletion) -> str:
        """Where the row's file is, or was, below the mount point."""
        article = self._tree.by_key(Key(Kind.ARTICLE, row.article_id))
        if article is not None and is_attached(self._tree, article):
            return below(article.path().lstrip("/"), row)
        return path_without_tree(self._spool_directory, row)

    def _without_row(self) -> Iterator[dict[str, Any]]:
        """Files that were closed and are not in the journal yet: their bytes are being hashed or
        completed.
        """
        for file in self._settler.files():
            if file.upload is not None or self._settler.wanted(file) is None or not file.node.local_size:
                continue
            if file.settling is not None or (file.dirty and not file.handles):
                node = file.node
                yield entry_of(
                    kind="upload",
                    row=None,
                    path=node.path().lstrip("/"),
                    state="sealing",
                    size=node.size,
                    bytes_in=str(file.spool.path) if file.spool is not None else None,
                )

    def _counts(self) -> dict[str, int]:
        """Files that have no row: being written, held until they get their real name, or here for good."""
        writing = held = local_only = 0
        for file in self._settler.files():
            node = file.node
            if node.parent is None or node.local_size is None or file.upload is not None:
                continue
            if file.being_written and file.handles:
                writing += 1
            elif node.parent.local or tempnames.classify(node.name).kind is tempnames.Kind.LOCAL:
                local_only += 1
            elif self._settler.wanted(file) is None:
                held += 1
        return {"writing": writing, "held": held, "local_only": local_only}

    def canonical(self, path: str) -> str:
        """A path below the mount point, by the names that are shown (``<id>`` alone is another name of
        it).
        """
        node: Node = self._tree.root
        names = [name for name in path.split("/") if name not in ("", ".")]
        for done, name in enumerate(names):
            child = None if isinstance(node, FileNode) else self._find(node, name)
            if child is None:
                return "/".join([*node.path().strip("/").split("/"), *names[done:]]).strip("/")
            node = child
        return node.path().strip("/")

    def _find(self, node: Node, name: str) -> Node | None:
        try:
            return self._tree.find(self._tree.container(node.inode), name)
        except OSError:
            return None


def is_attached(tree: Tree, node: Node) -> bool:
    """Whether ``node`` is in the tree, and not only remembered."""
    while node.parent is not None:
        node = node.parent
    return node is tree.root


def is_below(path: str, under: str) -> bool:
    return not under or path == under or path.startswith(under + "/")


def below(article: str, row: Upload | Deletion) -> str:
    """The path of a row's file in the article that is at ``article``."""
    parts = [*naming.split_folder_path(row.folder), row.name or "?"]
    return "/".join([article, *map(naming.name_from_filename, parts)])


# ---- entries ---------------------------------------------------------------------------------------------


def entry_of(*, kind: str, row: int | None, path: str, state: str, **more: object) -> dict[str, Any]:
    """One line of the status; every entry has all of these keys."""
    entry: dict[str, Any] = {
        "row": row,
        "kind": kind,
        "path": path,
        "state": state,
        "phase": None,
        "reason": None,
        "size": None,
        "sent": None,
        "rate": None,
        "seconds": None,
        "due_in": None,
        "article": None,
        "bytes_in": None,
    }
    return entry | more


def state_of(row: Upload | Deletion) -> str:
    """The row's state, or what a person calls it: ``dropped`` (nobody wants it; what Figshare has of it
    is taken back), ``held`` (under a temporary name, for a while), ``local`` (litter, which stays here).
    """
    if isinstance(row, Upload) and row.dropped:
        return "dropped"
    if isinstance(row, Upload) and row.state is State.WAITING and row.source is None:
        return "local" if row.due == math.inf else "held"
    return row.state.value


def due_in(row: Upload | Deletion, now: float) -> float | None:
    """Seconds until it is carried out; None if that is not a matter of time."""
    return max(0.0, row.due - now) if row.state is State.WAITING and row.due < math.inf else None


def upload_entry(
    upload: Upload,
    path: str,
    *,
    now: float,
    going: OnTheWay | None = None,
    clock: float = 0.0,
) -> dict[str, Any]:
    """``rate``: bytes a second since the uploader took it up, None while nothing is sent."""
    sent = rate = None
    if going is not None:
        sent = going.sent
        rate = sent / max(clock - going.began, 0.001) if sent else None
    elif upload.sent:
        sent = upload.size
    return entry_of(
        kind="upload" if upload.source is None else "move",
        row=upload.row,
        path=path,
        state=state_of(upload),
        phase=going.phase if going is not None else None,
        reason=upload.reason or None,
        size=upload.size,
        sent=sent,
        rate=rate,
        seconds=max(0.0, now - upload.made_at),
        due_in=due_in(upload, now),
        article=upload.article_id,
        bytes_in=upload.spool_name or None,
    )


def deletion_entry(deletion: Deletion, path: str, *, now: float) -> dict[str, Any]:
    return entry_of(
        kind="deletion",
        row=deletion.row,
        path=path,
        state=deletion.state.value,
        reason=deletion.reason or None,
        seconds=max(0.0, now - deletion.made_at),
        due_in=due_in(deletion, now),
        article=deletion.article_id,
    )


def unclosed_entry(found: Unclosed) -> dict[str, Any]:
    return {"name": unclosed_name(found.spool), "path": found.path or None, "size": found.size}


def unclosed_name(spool: Path) -> str:
    """What ``figfs discard`` calls bytes that were never closed: ``n12`` for the spool file 12."""
    return f"n{spool.name}"


def figures(
    uploads: Sequence[dict[str, Any]],
    deletions: Sequence[dict[str, Any]],
    unclosed: Sequence[dict[str, Any]],
    limit: int | None = None,
) -> dict[str, Any]:
    """The report: entries, and their sums."""
    everything = [*uploads, *deletions]
    owed = [entry for entry in everything if entry["state"] not in NOT_OWED]
    states = collections.Counter(entry["state"] for entry in everything)
    order = sorted(uploads, key=lambda entry: (entry["phase"] is None, entry["state"] != State.PARKED))
    return {
        "owed": len(owed),
        "parked": states["parked"],
        "bytes": sum(entry["size"] or 0 for entry in owed if entry["state"] != "dropped"),
        "sent": sum(entry["sent"] or 0 for entry in owed if entry["state"] != "dropped"),
        "writing": 0,
        "held": states["held"],
        "local_only": states["local"],
        "uploads": (order if limit is not None else list(uploads))[:limit],
        "deletions": list(deletions)[:limit],
        "never_closed": list(unclosed)[:limit],
        "counts": {"uploads": len(uploads), "deletions": len(deletions), "never_closed": len(unclosed)},
    }


def parked_in(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Its entries that are parked."""
    return [e for e in (*report["uploads"], *report["deletions"]) if e["state"] == State.PARKED]


# ---- without a mount -------------------------------------------------------------------------------------


def offline_report(
    rows: Rows, spool_directory: Path, unclosed: Iterable[Path], *, under: str = ""
) -> dict[str, Any]:
    """The same, from what lies on disk."""
    now = time.time()
    uploads, deletions = rows
    entries = [upload_entry(row, path_without_tree(spool_directory, row), now=now) for row in uploads]
    gone = [deletion_entry(row, path_without_tree(spool_directory, row), now=now) for row in deletions]
    return figures(
        [entry for entry in entries if is_below(entry["path"], under)],
        [entry for entry in gone if is_below(entry["path"], under)],
        [unclosed_entry(found) for found in look_at_unclosed(unclosed) if is_below(found.path or "?", under)],
    )


def look_at_unclosed(paths: Iterable[Path]) -> Iterator[Unclosed]:
    for path in sorted(paths):
        try:
            yield Unclosed(path, noted_path(path), path.stat().st_size)
        except FileNotFoundError:
            continue


def path_without_tree(spool_directory: Path, row: Upload | Deletion) -> str:
    """By the note on its spool file, which knows the article's title; else by the article's number, which is
    another name of the article where it is in no project.
    """
    noted = noted_path(spool_directory / row.spool_name) if isinstance(row, Upload) and row.spool_name else ""
    parts = noted.strip("/").split("/")
    depth = 3 if parts[0] == "projects" else 2
    if len(parts) > depth:
        return below("/".join(parts[:depth]), row)
    return below(f"articles/{row.article_id}", row)


def noted_path(spool: Path) -> str:
    """The path that the spool file bears, "" if it bears none. Anybody may have written it: it is only
    shown.
    """
    try:
        return os.fsdecode(os.getxattr(spool, PATH)).lstrip("/")
    except OSError:
        return ""
