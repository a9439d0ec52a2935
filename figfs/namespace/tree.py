"""The tree of nodes: which there are, what they are called, what is hidden, and what the kernel still holds.

No requests and no checkpoints in here: between two awaits of anybody else the tree is whole. ``listings.py``
asks Figshare, ``merging.py`` brings the tree up to the answer.
"""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable

import trio

from figfs.figshare.records import ArticleDetails, Collection, Id
from figfs.namespace import naming, standing
from figfs.namespace.attributes import Attributes, Saved
from figfs.namespace.nodes import (
    PUBLIC_ITEMS,
    TO_ARTICLES,
    Container,
    FileNode,
    Key,
    Kind,
    LinkNode,
    Node,
    inode_of,
    is_empty_file,
    make_node,
    member_id,
)

#: Where ``public/`` is, seen from a colleague's account.
PUBLIC_FROM_INSIDE = "../../../public"


class Tree:
    """All nodes of one mount.

    Args:
        attributes: what is kept locally for each key.
        now_ns: wall clock in nanoseconds, for the dates of what Figshare has no date for.
        own: there is an account, whose items are shown; else only what is public.
        numbering: the inode number that a key has wherever it is free.
        inside: this is a colleague's account, in ``institution/accounts/`` of another tree; what is public is
            there.
    """

    def __init__(
        self,
        *,
        attributes: Attributes,
        now_ns: Callable[[], int],
        own: bool = True,
        numbering: Callable[[Key], int] = inode_of,
        inside: bool = False,
    ) -> None:
        self.attributes = attributes
        self.inside = inside
        self._numbering = numbering
        self._started_ns = now_ns()
        self._nodes: dict[int, Node] = {}
        self._by_key: dict[Key, Node] = {}
        self._hidden: dict[Key, float] = {}
        self.root = self.container_for(Key(Kind.ROOT, 0))
        self.accounts = self.container_for(Key(Kind.ACCOUNTS, 0))  #: in ``institution/``
        self.articles = self.container_for(Key(Kind.ARTICLES, 0))
        self.projects = self.container_for(Key(Kind.PROJECTS, 0))
        self.collections = self.container_for(Key(Kind.COLLECTIONS, 0))
        self.public = self._always(Kind.PUBLIC)
        self.public_articles = self._always(Kind.PUBLIC_ARTICLES)
        self.public_projects = self._always(Kind.PUBLIC_PROJECTS)
        self.public_collections = self._always(Kind.PUBLIC_COLLECTIONS)
        if own:
            self.place(self.articles, self.root, "articles")
            self.place(self.projects, self.root, "projects")
            self.place(self.collections, self.root, "collections")
        if inside:
            link = self.make(Key(Kind.REFERENCE, "public"))
            assert isinstance(link, LinkNode)
            link.target = PUBLIC_FROM_INSIDE
            self.place_unlisted(link, self.root, "public")
        else:
            self.place(self.public, self.root, "public")
        self.place(self.public_articles, self.public, "articles")
        self.place(self.public_projects, self.public, "projects")
        self.place(self.public_collections, self.public, "collections")
        self.place(self._always(Kind.DOIS), self.public, "doi")
        self.root.status.listed_at = math.inf

    def _always(self, kind: Kind) -> Container:
        """A directory of every mount, which holds what is known without asking."""
        node = self.container_for(Key(kind, 0))
        node.status.listed_at = math.inf
        return node

    def show_institution(self) -> None:
        """The account administers one: ``institution/`` is there from now on, with what ``dotfigshare``
        shows in it.
        """
        institution = self._always(Kind.INSTITUTION)
        self.place(institution, self.root, "institution")
        self.place(self.accounts, institution, "accounts")

    def node(self, inode: int) -> Node:
        """The node with that inode number. ``OSError(ESTALE)`` if there is none any more."""
        try:
            return self._nodes[inode]
        except KeyError:
            raise _oserror(errno.ESTALE) from None

    def container(self, inode: int) -> Container:
        """The same, ``OSError(ENOTDIR)`` unless it is a directory."""
        node = self.node(inode)
        if not isinstance(node, Container):
            raise _oserror(errno.ENOTDIR)
        return node

    def by_key(self, key: Key) -> Node | None:
        return self._by_key.get(key)

    def make(self, key: Key) -> Node:
        """A new node for ``key``, with what was kept for it, not attached anywhere yet."""
        inode = self.attributes.inode(key) or self._numbering(key)
        revived = self._nodes.get(inode)
        if revived is not None and revived.key == key and revived.parent is None and key not in self._by_key:
            self._by_key[key] = revived  # the kernel held on to it (a shell's directory) while it was away
            return revived
        while inode in self._nodes:  # a collision of hashes, or a node whose key changed after an upload
            inode += 1
        node = make_node(key, inode)
        node.remote_time_ns = self._started_ns
        self.attributes.apply(node)
        self._nodes[inode] = node
        self._by_key[key] = node
        return node

    def container_for(self, key: Key) -> Container:
        """A new node for the key of a container."""
        node = self.make(key)
        assert isinstance(node, Container)
        return node

    def rekey(self, node: Node, key: Key) -> None:
        """``node`` is now ``key`` (a pending file has been stored). Its inode number stays, what was set on
        it is kept.
        """
        if self._by_key.get(node.key) is node:
            del self._by_key[node.key]
        old, node.key = node.key, key
        other = self._by_key.get(key)
        if other is not None and other is not node:
            self.detach(other)
        self._by_key[key] = node
        with self.attributes.transaction(durable=is_empty_file(key) and key != old):
            if old.kind is Kind.PENDING and old != key:
                self.attributes.drop(old)  # an empty file has got content, or another name
            self.attributes.save(node)

    def attach(self, node: Node, parent: Container, name: str) -> None:
        """Put ``node`` under ``parent`` as ``name``, decided here and now; another node of that name is
        detached.
        """
        previous = parent.children.get(name)
        if previous is not None and previous is not node:
            self.detach(previous)
        self.place(node, parent, name)
        node.changed_at = trio.current_time()

    def reattach(self, node: Node, parent: Container, name: str) -> None:
        """Like ``attach``, for a node that was detached: it counts again, though nobody held it meanwhile."""
        self._nodes[node.inode] = node
        self._by_key[node.key] = node
        self.attach(node, parent, name)

    def place(self, node: Node, parent: Container, name: str) -> None:
        """Put ``node`` there because a listing says so; ``attach`` is for what is decided here."""
        _unplace(node)
        node.parent, node.name, node.vanished = parent, name, False
        parent.children[name] = node

    def place_unlisted(self, node: Node, parent: Container, name: str) -> None:
        """Put ``node`` where it is found by its name and listed by nobody."""
        _unplace(node)
        node.parent, node.name, node.vanished = parent, name, False
        parent.unlisted[name] = node

    def detach(self, node: Node, *, vanished: bool = False) -> None:
        """Take ``node`` out of its directory. It stays known while the kernel or a handle holds it.

        ``vanished``: a listing says so, nobody here.
        """
        node.vanished = vanished
        _unplace(node)
        node.parent = None
        if isinstance(node, Container):
            for child in [*node.children.values(), *node.unlisted.values()]:
                self.detach(child, vanished=vanished)
            node.status.listed_at = None  # should it come back, nothing is known of what it holds
        if self._by_key.get(node.key) is node:
            del self._by_key[node.key]
        self._drop_if_unused(node)

    def hide(self, key: Key) -> None:
        """Never show what ``key`` stands for, whatever listings say, until ``unhide``."""
        self._hidden[key] = math.inf

    def unhide(self, key: Key) -> None:
        self._hidden.pop(key, None)

    def gone(self, key: Key) -> None:
        """``key`` was deleted on Figshare just now: listings that began earlier are not believed about it."""
        self._hidden[key] = trio.current_time()
        self.attributes.drop(key)

    def edited(self, article_id: Id) -> None:
        """Something of the article was changed here: if it is published, it has a draft of the next version
        now.
        """
        node = self._by_key.get(Key(Kind.ARTICLE, article_id))
        record = node.record if isinstance(node, Container) else None
        if isinstance(node, Container) and isinstance(record, ArticleDetails) and record.is_public:
            node.record = standing.as_edited(record)

    def collection_edited(self, collection: Container, *, edited: bool = True) -> None:
        """What the owner of a published collection sees is not what the public sees; or it is, again. That is
        kept: no list of Figshare's tells it. A draft has no such thing.
        """
        record = collection.record
        new = standing.publication(record) if edited and isinstance(record, Collection) else ""
        if collection.kind is Kind.COLLECTION and collection.edited != new:
            collection.edited = new
            self.save(collection)

    def is_hidden(self, key: Key, started: float) -> bool:
        """Whether a listing that began at ``started`` must not show ``key``."""
        return self._hidden.get(key, -math.inf) > started

    def keep_attributes(self, key: Key, saved: Saved) -> None:
        """Keep what programs had set on what was stored without a node."""
        self.attributes.keep(key, saved)

    def forget_saved(self, key: Key) -> None:
        """Nothing is known under ``key`` any more: what it stood for has another one."""
        self.attributes.drop(key)

    def keep_emptied(self, node: FileNode, key: Key | None) -> None:
        """``node`` is empty here, as ``key``, and not on Figshare; None: that is over."""
        with self.attributes.transaction(durable=key is not None):
            if node.emptied_as is not None and node.emptied_as != key:
                self.attributes.drop(node.emptied_as)
            node.emptied_as = key
            if key is not None and node.stored is not None:
                self.attributes.keep(key, Saved(covers=node.stored.file.id))

    def save(self, node: Node) -> None:
        """Keep what a program has set on ``node``."""
        self.attributes.save(node)

    def find(self, container: Container, name: str) -> Node | None:
        """The child called ``name``; else the article, project or collection, or the link to an article,
        whose id it is. Never a file: a number may be what the next file is to be called.
        """
        child = container.children.get(name) or container.unlisted.get(name)
        if child is not None:
            return child
        number = naming.id_from_name(name)
        if number is None:
            return None
        keys = [Key(kind, number) for kind in (Kind.ARTICLE, Kind.PROJECT, Kind.COLLECTION)]
        keys += [Key(kind, f"{container.key.id}/{number}") for kind in TO_ARTICLES]
        found = (self._by_key.get(key) for key in keys)
        return next((node for node in found if node is not None and node.parent is container), None)

    def target_of(self, link: LinkNode) -> str:
        """What a symlink says. One to an article leads to where that is now, whatever it was called when the
        link was listed: relative, so that it works in every mount.
        """
        if link.key.kind in TO_ARTICLES:
            article = self._by_key.get(Key(Kind.ARTICLE, member_id(link.key)))
            if article is not None and article.parent is not None:
                return "../.." + article.path()
        return link.target

    def reset(self, node: Node) -> None:
        """Nothing done here to a stored file counts any more: name, times and mode are as they were."""
        node.changed_at = -math.inf
        node.mode = node.mtime_ns = node.atime_ns = None
        node.xattrs = {}
        node.kernel_is_stale = True
        self.attributes.apply(node)

    # -- freshness ------------------------------------------------------------

    def expire(self, container: Container) -> None:
        """The listing of ``container`` is not fresh any more."""
        status = container.lister.status
        status.expired_at = trio.current_time()
        status.failed_at = None
        if status.listed_at == math.inf and container.lister.kind in PUBLIC_ITEMS:
            status.listed_at = -math.inf  # a version that is not what it was said to be: it was withdrawn

    def mark_listed(self, container: Container) -> None:
        """The container was made here just now: what it holds is known without asking."""
        container.status.listed_at = trio.current_time()

    # -- the kernel's references ------------------------------------------------------------

    def remember(self, node: Node) -> None:
        node.lookups += 1

    def forget(self, inode: int, count: int) -> None:
        """The kernel gives back ``count`` references."""
        node = self._nodes.get(inode)
        if node is not None:
            node.lookups = max(0, node.lookups - count)
            self._drop_if_unused(node)

    def _drop_if_unused(self, node: Node) -> None:
        if node.parent is None and node.lookups == 0 and node is not self.root:
            self._nodes.pop(node.inode, None)

    def statistics(self) -> dict[str, int]:
        return {"nodes": len(self._nodes), "hidden": len(self._hidden)}


def _unplace(node: Node) -> None:
    if node.parent is not None:
        for names in (node.parent.children, node.parent.unlisted):
            if names.get(node.name) is node:
                del names[node.name]


def _oserror(number: int) -> OSError:
    return OSError(number, os.strerror(number))
