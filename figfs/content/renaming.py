"""What becomes of what is owed when a name changes: unlink, rename, one file in the place of another.

All of it is local and instant, since the kernel holds the directory's lock meanwhile, and editors rename and
unlink files away and back. Figshare, which cannot rename a file, hears of what remains after the grace,
through settling and deletions. The journal hears of it at once (``journaling.py``): one transaction for each
verb, so that after a crash it was done, or not.
"""

from __future__ import annotations

import math
from errno import EBUSY

import trio

from figfs.content import places
from figfs.content.deletions import Deletions
from figfs.content.journaling import Journaling
from figfs.content.localfiles import LocalFile
from figfs.content.places import Place
from figfs.content.settling import Settler
from figfs.figshare.records import Id
from figfs.namespace import naming
from figfs.namespace.nodes import (
    Container,
    FileNode,
    Key,
    Kind,
    LinkNode,
    Node,
    Stored,
    is_empty_file,
    new_pending_key,
)
from figfs.namespace.tree import Tree
from figfs.writing.journal import State


class Renaming:
    """The changes of names of one mount."""

    def __init__(
        self,
        *,
        tree: Tree,
        rows: Journaling,
        settler: Settler,
        deletions: Deletions,
    ) -> None:
        self._tree = tree
        self._rows = rows
        self._settler = settler
        self._deletions = deletions

    def adopt(self, node: FileNode, parent: Container, name: str) -> None:
        """What was unlinked there goes only once ``node``, which takes its name, is stored."""
        for stored in self._deletions.adopt(parent.key, name):
            self._replaces(node, stored)

    def rename(self, node: FileNode, parent: Container, name: str, target: Node | None) -> None:
        """``node`` is ``name`` in ``parent`` from now on, where ``target`` was."""
        with self._rows.journal.transaction():
            if isinstance(target, FileNode):
                self._replace(target, node)
            elif isinstance(target, LinkNode):
                self.unlink(target)
            self.adopt(node, parent, name)
            self._tree.attach(node, parent, name)
            self._renamed(node)

    def renamed(self, nodes: list[FileNode]) -> None:
        """They have other places now: a folder above them was renamed."""
        with self._rows.journal.transaction():
            for node in nodes:
                self._renamed(node)

    def _replace(self, victim: FileNode, node: FileNode) -> None:
        """What Figshare has of ``victim`` goes once ``node`` is stored."""
        for stored in [*victim.replaces, *([victim.stored] if victim.stored is not None else [])]:
            self._tree.hide(stored.key)
            self._replaces(node, stored)
        victim.replaces.clear()
        if victim.key.kind is Kind.PENDING:
            self._tree.forget_saved(victim.key)
        self._tree.keep_emptied(victim, None)
        self._tree.detach(victim)
        file = self._settler.known(victim)
        if file is not None:
            self._rows.supersede(file, self._settler.local(node))
            self._stop(file)

    def _replaces(self, node: FileNode, stored: Stored) -> None:
        """Once ``node`` is stored, ``stored`` is to be deleted."""
        self._rows.replaces(self._settler.local(node), stored)

    def unlink(self, node: FileNode | LinkNode) -> None:
        """The name is gone at once; Figshare hears of it after the grace. Open handles read and write on."""
        parent, name = node.parent, node.name
        assert parent is not None
        doomed = node.replaces.copy() if isinstance(node, FileNode) else []
        if node.stored is not None:
            doomed.append(node.stored)
        file = self._settler.known(node) if isinstance(node, FileNode) else None
        with self._rows.journal.transaction():
            for stored in doomed:
                self._tree.hide(stored.key)
                successor = self.node_at(places.of_stored(stored))
                if successor is not None and successor is not node and successor.local_size:
                    # vim: the old text, renamed away, until the new one is stored
                    self._replaces(successor, stored)
                else:
                    self._deletions.unlinked(stored, parent, name)
            if file is not None:
                self._rows.drop(file)
        self._tree.detach(node)
        if node.key.kind is Kind.PENDING:
            self._tree.forget_saved(node.key)
        if isinstance(node, FileNode):
            self._tree.keep_emptied(node, None)
            node.replaces.clear()
        if file is not None:
            self._stop(file)

    def _stop(self, file: LocalFile) -> None:
        """The name of ``file`` is gone, and so is the reason to upload it."""
        if file.dropped:
            self._settler.settle(file)
        self._settler.tidy(file)

    def node_at(self, place: Place) -> FileNode | None:
        """The file that bears, here and now, the name and place that Figshare calls so."""
        container = self._tree.by_key(Key(Kind.ARTICLE, place.article_id))
        for name in naming.split_folder_path(place.folder):
            container = container.children.get(name) if isinstance(container, Container) else None
        if not isinstance(container, Container):
            return None
        node = container.children.get(naming.name_from_filename(place.name))
        return node if isinstance(node, FileNode) else None

    def stored_elsewhere(self, stored: Stored) -> bool:
        """A file was stored without a node. If one here bears its name with newer bytes, that is to replace
        it.
        """
        node = self.node_at(places.of_stored(stored))
        if node is None or node.local_size is None or (node.stored and node.stored.key == stored.key):
            return False
        if node.local_size == 0 and self._settler.known(node) is None:
            self._tree.forget_saved(node.key)  # an empty file, from before it got this content
            self._tree.detach(node)
            return False
        self._replaces(node, stored)
        return True

    def _renamed(self, node: FileNode) -> None:
        """``node`` has a new name or place: settle it, after the grace if that moves a stored file."""
        node.changed_at = math.inf  # until Figshare has it there, listings know nothing of it
        if is_empty_file(node.key):
            self._tree.rekey(node, places.empty_key(node) or new_pending_key())
        if node.emptied_as is not None:
            self._tree.keep_emptied(node, places.empty_key(node))
        file = self._settler.local(node)
        file.changed_at, file.hold_is_over = trio.current_time(), False
        self._settler.follow(file)
        if not (file.dirty and file.handles):
            self._settler.settle(file)
        # Else it is still being written: its last close settles it, under the name it has then.

    async def settle_out_of(self, article: Container) -> None:
        """Before ``article`` is deleted: what was moved out of it must be stored elsewhere.

        Raises ``OSError(EBUSY)`` if that cannot be done, or what Figshare refused it with.
        """
        for file in self._settler.files():
            if self._depends_on(file, article):
                file.hold_is_over = True
                await self._settler.settle(file).wait()
                if file.error is not None:
                    raise file.error
                if self._depends_on(file, article):
                    raise OSError(EBUSY, f"{file.node.path()} still has its content in {article.path()}")
        for row in self._rows.journal.uploads():
            if (
                row.source_article == article.key.id
                and row.source is not None
                and row.state is not State.PARKED
            ):
                raise OSError(EBUSY, f"{row.name} still has its content in {article.path()}")

    def is_leaving(self, file_id: Id) -> bool:
        """Whether that file of Figshare's is deleted, or its upload taken back, from here: its name is
        gone.
        """
        return self._deletions.is_owed(file_id) or any(
            row.file_id == file_id for row in self._rows.journal.uploads()
        )

    @staticmethod
    def _depends_on(file: LocalFile, article: Container) -> bool:
        node = file.node
        if node.parent is None or node.stored is None or node.parent.lister is article:
            return False
        return node.stored.article_id == article.key.id
