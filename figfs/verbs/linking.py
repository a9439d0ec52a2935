"""Symlinks: what ``ln -s`` means in a collection (a member) and in an article (a linked file), and what
becomes of a link that is renamed.

Programs that replace a link (``ln -sf``, rsync) make the new one under a temporary name, and rename it. A
link under such a name, beside other links, is *held*: it is here only, and Figshare hears of it once it has
its own name. It is gone with the mount.
"""

from __future__ import annotations

import errno
import itertools
import logging
import math

import trio

from figfs.content.renaming import Renaming
from figfs.namespace import merging
from figfs.namespace.listings import Listings
from figfs.namespace.nodes import Container, FileNode, Key, Kind, LinkNode, Node, Stored, member_id
from figfs.namespace.tree import Tree
from figfs.verbs.linkedfiles import LinkedFiles
from figfs.verbs.membership import Membership, member_key
from figfs.writing import tempnames

log = logging.getLogger(__name__)


class Linking:
    """The verbs on symlinks of one mount.

    Args:
        dir_timeout: seconds for which a link keeps the name it was given, whatever Figshare calls it.
    """

    def __init__(
        self,
        *,
        tree: Tree,
        listings: Listings,
        renaming: Renaming,
        membership: Membership,
        linked: LinkedFiles,
        dir_timeout: float,
    ) -> None:
        self._tree = tree
        self._listings = listings
        self._renaming = renaming
        self.membership = membership
        self._linked = linked
        self._dir_timeout = dir_timeout
        self._held = itertools.count(1)

    def owed(self) -> int:
        """How many links Figshare is to have again."""
        return self._linked.owed()

    async def symlink(self, parent: Container, name: str, target: str) -> LinkNode:
        """A new link called ``name``. Asks Figshare while the program waits, which must hear of a refusal; of
        what a link cannot be, the log has the reason: "invalid argument" is all that a program can say.
        """
        try:
            return await self._symlink(parent, name, target)
        except OSError as exc:
            if exc.errno == errno.EINVAL:
                log.warning("the link %s/%s is refused: %s", parent.path(), name, exc.strerror)
            raise

    async def _symlink(self, parent: Container, name: str, target: str) -> LinkNode:
        if parent.kind not in (Kind.COLLECTION, Kind.ARTICLE, Kind.FOLDER):
            raise OSError(errno.EPERM, "links belong into a collection or an article")
        kind = tempnames.classify_link(name).kind
        if kind is tempnames.Kind.REFUSED:
            raise OSError(errno.EPERM, "no wastebasket here")
        await self._listings.ensure_listed(parent, stale_is_fine=True)
        await self._listings.confirm(parent)
        if self._tree.find(parent, name) is not None:
            raise OSError(errno.EEXIST, f"{name!r} exists")
        if parent.kind is Kind.COLLECTION:
            article_id = await self.membership.article(parent, target)
            is_member = self.membership.member(parent, article_id) is not None
            if kind is not tempnames.Kind.ORDINARY and (is_member or _has_links(parent)):
                return self._hold(parent, name, target)
            if is_member:
                raise OSError(errno.EEXIST, f"article {article_id} is in this collection already")
            await self.membership.add(parent, article_id)
            return self._show_member(None, parent, name, member_key(parent, article_id))
        if kind is tempnames.Kind.LOCAL:
            return self._hold(parent, name, target)  # emacs' locks
        self._linked.check(target)
        if kind is not tempnames.Kind.ORDINARY and _has_links(parent):
            return self._hold(parent, name, target)
        return self._show_linked(None, parent, name, await self._linked.make(parent, name, target))

    async def unlink(self, node: LinkNode) -> None:
        """A member leaves its collection; a linked file is deleted, without a grace."""
        assert node.parent is not None
        match node.key.kind:
            case Kind.MEMBER:
                await self.membership.remove(node.parent, member_id(node.key))
                self._tree.detach(node)
            case Kind.HELD_LINK:
                self._tree.detach(node)
            case Kind.LINK:
                self._renaming.unlink(node)
            case _:
                raise OSError(errno.EROFS, "what is found here cannot be removed from here")

    async def rename(self, node: LinkNode, container: Container, name: str, target: Node | None) -> None:
        """``node`` is ``name`` in ``container`` from now on, where ``target`` was.

        A member bears its article's title, and cannot be moved (EPERM); a linked file is made anew.
        """
        kind = node.key.kind
        if kind is Kind.HELD_LINK:
            await self._rename_held(node, container, name, target)
        elif kind is Kind.LINK and container.kind in (Kind.ARTICLE, Kind.FOLDER):
            await self._rename_linked(node, container, name, target)
        elif kind is Kind.MEMBER:
            raise OSError(
                errno.EPERM, "a link in a collection bears its article's title: make one where it is to be"
            )
        else:
            raise OSError(errno.EPERM, "this link cannot be renamed")

    async def _rename_held(
        self, node: LinkNode, container: Container, name: str, target: Node | None
    ) -> None:
        if container is not node.parent:
            raise OSError(errno.EPERM, "a link under a temporary name stays where it is")
        if tempnames.classify_link(name).kind is not tempnames.Kind.ORDINARY and target is None:
            self._tree.attach(node, container, name)
            node.changed_at = math.inf
        elif container.kind is Kind.COLLECTION:
            await self._replace_member(node, container, name, target)
        else:
            await self._place_linked(node, container, name, target)

    async def _replace_member(
        self, node: LinkNode, collection: Container, name: str, target: Node | None
    ) -> None:
        article_id = await self.membership.article(collection, node.target)
        present = self.membership.member(collection, article_id)
        if present is not None and present is not target:
            raise OSError(
                errno.EEXIST, f"article {article_id} is in this collection already, as {present.name!r}"
            )
        if present is None:
            await self.membership.add(collection, article_id)
            if isinstance(target, LinkNode) and target.key.kind is Kind.MEMBER:
                await self.membership.remove(collection, member_id(target.key))
        self._show_member(node, collection, name, member_key(collection, article_id))

    async def _place_linked(self, node: LinkNode, place: Container, name: str, target: Node | None) -> None:
        """A link that was held gets its own name."""
        if isinstance(target, FileNode | Container):
            raise OSError(errno.EPERM, "a linked file must be alone in its article: it cannot replace a file")
        old = target.stored if isinstance(target, LinkNode) else None
        if old is None:
            stored = await self._linked.make(place, name, node.target)
        elif old.file.download_url == node.target:
            stored = old
        else:
            stored = await self._linked.replace(old, place, name, node.target)
        self._show_linked(node, place, name, stored)

    async def _rename_linked(self, node: LinkNode, place: Container, name: str, target: Node | None) -> None:
        stored = node.stored
        if stored is None or target is not None:
            raise OSError(errno.EPERM, "a linked file must be alone in its article: there is another one")
        if place.lister.key.id == stored.article_id:
            new = await self._linked.replace(stored, place, name, stored.file.download_url)
        else:
            new = await self._linked.make(place, name, stored.file.download_url)
            await self._linked.delete(stored)
        self._show_linked(node, place, name, new)

    # -- what is shown ------------------------------------------------------------

    def _hold(self, parent: Container, name: str, target: str) -> LinkNode:
        node = self._tree.make(Key(Kind.HELD_LINK, next(self._held)))
        assert isinstance(node, LinkNode)
        node.target = target
        self._tree.attach(node, parent, name)
        node.changed_at = math.inf  # no listing knows of it
        return node

    def _show_member(self, node: LinkNode | None, collection: Container, name: str, key: Key) -> LinkNode:
        node = self._show(node, collection, name, key)
        node.target = merging.public_place(member_id(key))
        return node

    def _show_linked(self, node: LinkNode | None, place: Container, name: str, stored: Stored) -> LinkNode:
        node = self._show(node, place, name, stored.key)
        node.stored, node.target = stored, merging.link_target(stored.file)
        return node

    def _show(self, node: LinkNode | None, parent: Container, name: str, key: Key) -> LinkNode:
        """``node``, or a new one, is ``key`` now. It keeps that name for a while, though Figshare may have
        another one for it: a program looks for what it has made under the name it gave.
        """
        if node is None:
            made = self._tree.by_key(key) or self._tree.make(key)
            assert isinstance(made, LinkNode)
            node = made
        else:
            self._tree.rekey(node, key)
        self._tree.unhide(key)
        self._tree.attach(node, parent, name)
        node.changed_at = trio.current_time() + self._dir_timeout
        return node


def _has_links(parent: Container) -> bool:
    return any(isinstance(child, LinkNode) for child in parent.children.values())
