"""What becomes of what is owed when a name changes: unlink, rename, one file in the place of another.

All of it is local and instant, since the kernel holds the directory's lock meanwhile, and editors rename and
unlink files away and back. Figshare, which cannot rename a file, hears of what remains after the grace,
through settling and deletions.
"""

from __future__ import annotations

import math
from errno import EBUSY

import trio

from figfs import places
from figfs.deletions import Deletions
from figfs.localfiles import LocalFile
from figfs.namespace import naming
from figfs.namespace.nodes import Container, FileNode, Key, Kind, LinkNode, Stored
from figfs.namespace.tree import Tree
from figfs.places import Place
from figfs.settling import Settler
from figfs.writing.journal import Journal


class Renaming:
    """The changes of names of one mount.

    Args:
        nursery: the services nursery; a grace outlives the program that renamed.
        grace: seconds for which a rename of a stored file can be taken back at no cost.
    """

    def __init__(
        self,
        *,
        tree: Tree,
        journal: Journal,
        settler: Settler,
        deletions: Deletions,
        nursery: trio.Nursery,
        grace: float,
    ) -> None:
        self._tree = tree
        self._journal = journal
        self._settler = settler
        self._deletions = deletions
        self._nursery = nursery
        self._grace = grace

    def adopt(self, node: FileNode, parent: Container, name: str) -> None:
        """What was unlinked there goes only once ``node``, which takes its name, is stored."""
        for stored in self._deletions.adopt(parent.key, name):
            self._replaces(node, stored)

    def replace(self, victim: FileNode, node: FileNode) -> None:
        """``node`` is renamed over ``victim``: what Figshare has of that goes once ``node`` is stored."""
        for stored in [*victim.replaces, *([victim.stored] if victim.stored is not None else [])]:
            self._tree.hide(stored.key)
            self._replaces(node, stored)
        victim.replaces.clear()
        if victim.key.kind is Kind.PENDING:
            self._tree.forget_saved(victim.key)
        self._tree.detach(victim)
        self._stop_upload(victim)

    def _replaces(self, node: FileNode, stored: Stored) -> None:
        """Once ``node`` is stored, ``stored`` is to be deleted; in the journal too, if it is on its way
        already.
        """
        node.replaces.append(stored)
        file = self._settler.known(node)
        if file is not None and file.upload is not None:
            file.upload.replaces[stored.file.id] = stored.article_id
            self._journal.update(file.upload)

    def unlink(self, node: FileNode | LinkNode) -> None:
        """The name is gone at once; Figshare hears of it after the grace. Open handles read and write on."""
        parent = node.parent
        assert parent is not None
        doomed = node.replaces.copy() if isinstance(node, FileNode) else []
        if node.stored is not None:
            doomed.append(node.stored)
        self._tree.detach(node)
        if node.key.kind is Kind.PENDING:
            self._tree.forget_saved(node.key)
        for stored in doomed:
            self._tree.hide(stored.key)
            successor = self.node_at(places.of_stored(stored))
            if successor is not None and successor.local_size:
                self._replaces(
                    successor, stored
                )  # vim: the old text, renamed away, until the new one is stored
            else:
                self._deletions.unlinked(stored, parent.key, node.name)
        if isinstance(node, FileNode):
            node.replaces.clear()
            self._stop_upload(node)

    def _stop_upload(self, node: FileNode) -> None:
        """The name of ``node`` is gone, and so is the reason to upload it."""
        file = self._settler.known(node)
        if file is None:
            return
        if file.scope is not None:
            file.scope.cancel()
        elif file.upload is not None:
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
        if node is None or node.local_size is None:
            return False
        if node.local_size == 0 and self._settler.known(node) is None:
            self._tree.forget_saved(node.key)  # an empty file, from before it got this content
            self._tree.detach(node)
            return False
        self._replaces(node, stored)
        return True

    def renamed(self, node: FileNode) -> None:
        """``node`` has a new name or place: settle it now, or after the grace if that moves a stored file."""
        node.changed_at = math.inf  # until Figshare has it there, listings know nothing of it
        file = self._settler.local(node)
        file.changed_at, file.hold_is_over = trio.current_time(), False
        if (
            file.scope is not None
            and file.upload is not None
            and self._settler.wanted(file) != places.of_upload(file.upload)
        ):
            file.scope.cancel()
        if node.local_size is None and places.is_misplaced(node):
            self._nursery.start_soon(self._settle_later, node)
        elif not (file.dirty and file.handles):
            self._settler.settle(file)
        # Else it is still being written: its last close settles it, under the name it has then.

    async def _settle_later(self, node: FileNode) -> None:
        await trio.sleep(self._grace)
        file = self._settler.known(node)  # not the one of before: it may have been settled, and opened anew
        if file is not None and node.local_size is None and places.is_misplaced(node):
            self._settler.settle(file)

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

    @staticmethod
    def _depends_on(file: LocalFile, article: Container) -> bool:
        node = file.node
        if node.parent is None or node.stored is None or node.parent.lister is article:
            return False
        return node.stored.article_id == article.key.id
