"""What the journal says of the files here: changed with what was done to them, before the program goes on.

No requests, and no await: a change of names or content and its rows are one step, and what belongs together
is one transaction. What Figshare has of a row that is not wanted any more is taken back later, by settling;
until then the row stays, marked *dropped*.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable

import trio

from figfs.content import places
from figfs.content.deletions import Deletions
from figfs.content.localfiles import LocalFile
from figfs.content.places import Place
from figfs.namespace import naming
from figfs.namespace.attributes import encode_xattrs
from figfs.namespace.nodes import FileNode, Stored
from figfs.writing.journal import Journal, State, Upload

#: A file under a temporary name that nothing has touched for this long (seconds) is uploaded under that name
#: after all.
HOLD_TIME = 300.0


class Journaling:
    """The rows of one mount's local files. ``grace``: seconds for which a move can be taken back for free."""

    def __init__(self, *, journal: Journal, deletions: Deletions, grace: float) -> None:
        self.journal = journal
        self._deletions = deletions
        self._grace = grace
        #: Called with each row just before it is written, in its transaction: an older row for its place that
        #: no local file has is void (``resuming.py``).
        self.on_row: Callable[[Upload], None] = lambda upload: None
        #: Called with each file that was renamed over, once its row is void: settling takes back the rest.
        self.on_dropped: Callable[[LocalFile], None] = lambda file: None

    def add(self, file: LocalFile, place: Place | None, size: int, md5: str, spool_name: str) -> None:
        """The content of ``file``, sealed, is owed at ``place``, or, None, held under its temporary name.

        What this makes void goes with it: an older row of the file, rows of what it was renamed over, and the
        deletion of what it replaces.
        """
        node = file.node
        upload = Upload(
            row=0,
            article_id=0,
            folder="",
            name="",
            size=size,
            md5=md5,
            spool_name=spool_name,
            mode=node.mode,
            mtime_ns=node.mtime_ns,
            xattrs=encode_xattrs(node.xattrs),
            replaces={stored.file.id: stored.article_id for stored in node.replaces},
        )
        _put(upload, place, node)
        with self.journal.transaction():
            if file.upload is not None:
                self._drop(file, file.upload)
            self._write(file, upload)

    def follow(self, file: LocalFile) -> None:
        """``file`` has another name: its row says so. A stored file gets one, or is back where it was.

        Nothing happens to a file that is being written and has no row: it gets one when it is closed.
        """
        node, older = file.node, file.upload
        if older is not None and older.source is None:
            upload: Upload | None = self._content_of(file, older)
        elif node.stored is not None and (older is not None or node.local_size is None):
            upload = self._move_of(file, node.stored)
        else:
            return
        if older is None and upload is None:
            return
        with self.journal.transaction():
            if older is not None and upload is not None and _same_step(older, upload):
                older.due, older.shown_as = upload.due, upload.shown_as
                self.journal.update(older)
                return
            if older is not None:
                self._drop(file, older, keep_bytes=upload is not None)
            if upload is not None:
                self._write(file, upload)

    def _content_of(self, file: LocalFile, older: Upload) -> Upload:
        upload = dataclasses.replace(
            older,
            row=0,
            file_id=None,
            look_first=False,
            state=State.OWED,
            due=0.0,
            replaces={**older.replaces},
        )
        _put(upload, places.wanted(file.node, hold_is_over=file.hold_is_over), file.node)
        return upload

    def _move_of(self, file: LocalFile, stored: Stored) -> Upload | None:
        """The row of a stored file that was renamed; None if it is where Figshare has it, or litter now."""
        node, there = file.node, places.of_stored(stored)
        place = places.wanted(node, hold_is_over=file.hold_is_over)
        wait = 0.0 if file.hold_is_over else self._grace
        if place is None or place == there:
            place, wait = places.wanted(node, hold_is_over=True), HOLD_TIME
        if place is None or place == there:
            return None
        file.due = trio.current_time() + wait
        upload = Upload(
            row=0,
            article_id=0,
            folder="",
            name="",
            size=stored.file.size,
            md5=stored.file.computed_md5.strip().lower(),
            spool_name="",
            mode=node.mode,
            mtime_ns=node.mtime_ns,
            xattrs=encode_xattrs(node.xattrs),
            replaces={old.file.id: old.article_id for old in (*node.replaces, stored)},
            state=State.WAITING,
            due=time.time() + wait,
            source=stored.file.id,
            source_article=stored.article_id,
            source_folder=stored.folder,
            source_name=stored.file.name,
        )
        _put(upload, place, node)
        return upload

    def replaces(self, file: LocalFile, stored: Stored) -> None:
        """Once ``file`` is stored, ``stored`` is to be deleted."""
        file.node.replaces.append(stored)
        if file.upload is not None:
            file.upload.replaces[stored.file.id] = stored.article_id
            with self.journal.transaction():
                self.journal.update(file.upload)
                self._deletions.forget([stored.file.id])

    def attributes_changed(self, file: LocalFile) -> None:
        """Its mode, times or extended attributes were set while it is owed: it is to have them after a crash,
        too.
        """
        node, upload = file.node, file.upload
        if upload is None:
            return
        now = (node.mode, node.mtime_ns, encode_xattrs(node.xattrs))
        if (upload.mode, upload.mtime_ns, upload.xattrs) != now:
            upload.mode, upload.mtime_ns, upload.xattrs = now
            with self.journal.transaction(durable=False):
                self.journal.update(upload)

    def supersede(self, victim: LocalFile, file: LocalFile) -> None:
        """``file`` was renamed over ``victim``, whose row is void as soon as ``file`` has one: until then
        what was closed is not lost.
        """
        if file.upload is not None or not file.dirty:
            self.drop(victim)
            return
        file.superseded += [*victim.superseded, *([victim] if victim.upload is not None else [])]
        victim.superseded.clear()
        if victim.scope is not None:
            victim.scope.cancel()

    def drop(self, file: LocalFile) -> None:
        """Nobody wants what ``file`` was to become: its row goes, now or when settling has taken it back."""
        with self.journal.transaction():
            if file.upload is not None:
                self._drop(file, file.upload)
            self._drop_superseded(file)

    def _write(self, file: LocalFile, upload: Upload) -> None:
        self.on_row(upload)
        self.journal.add(upload)
        self._deletions.forget(upload.replaces)
        self._drop_superseded(file)
        file.upload = upload

    def _drop_superseded(self, file: LocalFile) -> None:
        for victim in file.superseded:
            self.drop(victim)
            self.on_dropped(victim)
        file.superseded.clear()

    def _drop(self, file: LocalFile, upload: Upload, *, keep_bytes: bool = False) -> None:
        """``keep_bytes``: another row has the spool file now."""
        file.upload = None
        if keep_bytes:
            upload.spool_name = ""
        if upload.state is State.WAITING:  # Figshare does not know of it
            self.journal.remove(upload)
        else:
            upload.dropped = True
            self.journal.update(upload)
        file.dropped.append(upload)
        if file.scope is not None:
            file.scope.cancel()


def _put(upload: Upload, place: Place | None, node: FileNode) -> None:
    """``upload`` is for ``place``; without one it waits under the name that ``node`` has."""
    if place is None:
        place = places.own(node)
        assert place is not None
        upload.state = State.WAITING
        upload.due = math.inf if places.is_litter(node) else time.time() + HOLD_TIME
    upload.article_id, upload.folder, upload.name = place
    upload.shown_as = "" if naming.name_from_filename(place.name) == node.name else node.name


def _same_step(older: Upload, upload: Upload) -> bool:
    """Whether a rename has changed nothing that Figshare is to hear of."""
    waiting = State.WAITING in (older.state, upload.state)
    return places.of_upload(older) == places.of_upload(upload) and (
        not waiting or older.state is upload.state
    )
