"""The directory ``.figshare`` of every article, project and collection, and of the mount: found by its name,
listed by nobody, so that what walks the tree (``rsync -a``, ``rm -r``, ``find``) never meets it.

What is in there, and what it says, is the business of ``documents/``; what is read and written, that of
``documentfiles.py``. Here are the nodes and the verbs on names. Documents have places of their own: they
cannot be renamed or made. Any other new name is a *scratch file*, in memory, for programs that write a file
beside the one they mean and rename it over that.
"""

from __future__ import annotations

import copy
import dataclasses
import errno
import itertools
import re
import weakref

import cachetools
import trio

from figfs.documents import institution
from figfs.documents.entries import Documents, Entry, Item, lasting
from figfs.dotfigshare.documentfiles import LAST_ERROR, DocumentFiles
from figfs.kept import Kept
from figfs.namespace import naming, permissions
from figfs.namespace.identifiers import parse_reference
from figfs.namespace.nodes import OWN_ITEMS, PUBLIC_ITEMS, Container, DocumentNode, Key, Kind, LinkNode, Node
from figfs.namespace.tree import Tree
from figfs.posix import Change
from figfs.writing import tempnames

NAME = ".figshare"
METADATA = "metadata.json"
MOST_FORMER = 1 << 10  #: names of notes that bear another by now
MOST_LISTED = 1 << 16  #: names of all directories whose listings are kept

_KINDS = {
    Kind.ROOT: ("root", False),
    Kind.INSTITUTION: ("institution", False),
    **{kind: (name, False) for kind, name in OWN_ITEMS.items()},
    **{kind: (name, True) for kind, name in PUBLIC_ITEMS.items()},
}

#: Directories that hold documents, and nothing else.
DIRECTORIES = frozenset({Kind.DOT_FIGSHARE, Kind.INSTITUTION})

#: What ``tempnames`` leaves in doubt and no note is called: vim's probe, any temporary file of ``sed -i``.
_EDITORS = re.compile("4913|sed[0-9A-Za-z]{6}")

_scratch_ids = itertools.count(1)


@dataclasses.dataclass(frozen=True, slots=True)
class _Place:
    """A directory in a ``.figshare``. ``directory``: its path in there, "" for ``.figshare`` itself."""

    owner: Container
    item: Item
    directory: str

    @property
    def has_last_error(self) -> bool:
        """Whether it shows why a change was refused: where that would be looked for."""
        of_institution = self.owner.kind is Kind.INSTITUTION and self.directory != institution.PUBLISHED
        return not self.directory or of_institution

    def path(self, name: str) -> str:
        return f"{self.directory}/{name}" if self.directory else name

    def key(self, kind: Kind, name: str) -> Key:
        return Key(kind, f"{self.owner.key}/{self.path(name)}")


def item_of(owner: Container) -> Item | None:
    """What a ``.figshare`` in ``owner`` would be about; None if it has none."""
    if owner.kind not in _KINDS:
        return None
    kind, public = _KINDS[owner.kind]
    number, version = owner.key.id, None
    reference = parse_reference(str(number)) if public else None
    if reference is not None:
        number, version = reference
    parent = owner.parent
    in_project = owner.kind is Kind.ARTICLE and parent is not None and parent.kind is Kind.PROJECT
    return Item(kind, number, public, version, parent.key.id if in_project and parent is not None else None)


class DotFigshare:
    """All ``.figshare`` of one mount.

    Args:
        seconds: for which what is in a directory is fresh.
        listed: whether directories show their ``.figshare``.
    """

    def __init__(
        self,
        *,
        tree: Tree,
        files: DocumentFiles,
        documents: Documents,
        nursery: trio.Nursery,
        seconds: float,
        listed: bool,
    ) -> None:
        self._tree = tree
        self._documents = documents
        self.files = files
        self.listed = listed
        self._entries: Kept[tuple[Item, str], list[Entry]] = Kept(
            nursery=nursery,
            fetch=lambda key: documents.entries(*key),
            seconds=seconds,
            most=MOST_LISTED,
            size_of=lambda entries: len(entries) + 1,
        )
        #: Which answer a directory shows.
        self._shown: weakref.WeakKeyDictionary[Container, list[Entry]] = weakref.WeakKeyDictionary()
        self._owners: weakref.WeakValueDictionary[Item, Container] = weakref.WeakValueDictionary()
        #: Names that were shown of what bears another by now: an editor saves a note under the one it opened.
        self._former: cachetools.LRUCache[tuple[Key, str], None] = cachetools.LRUCache(MOST_FORMER)
        self._open_to_new: dict[Key, bool] = {}  #: directories in which something can be made on Figshare
        files.on_changed = self.changed

    def changed(self, item: Item) -> None:
        """What belongs to ``item`` may be another now."""
        self._entries.drop(lambda key: (key[0].kind, key[0].id) == (item.kind, item.id))
        self._shown.clear()

    def forget(self, owner: Container) -> None:
        """What ``owner`` is was changed otherwise than by its documents, which are made anew."""
        item = item_of(owner)
        if item is not None:
            self.files.forget(item)

    def item_changed(self, item: Item) -> None:
        """The metadata of ``item`` were changed here: its name and all else is asked for anew."""
        owner = self._owners.get(item)
        if owner is not None and owner.parent is not None:
            self._tree.collection_edited(owner)
            self._tree.expire(owner)
            self._tree.expire(owner.parent)

    # -- finding ------------------------------------------------------------

    def directory_of(self, owner: Container) -> Container | None:
        """The ``.figshare`` of ``owner``; None if it has none. From memory."""
        item = item_of(owner)
        if item is None or (owner.parent is None and owner is not self._tree.root):
            return None
        self._owners[item] = owner
        key = Key(Kind.DOT_FIGSHARE, str(owner.key))
        node = self._tree.by_key(key) or self._tree.make(key)
        assert isinstance(node, Container)
        node.remote_time_ns = owner.remote_time_ns
        if node.parent is not owner:
            self._tree.place_unlisted(node, owner, NAME)
        return node

    async def lookup(self, container: Container, name: str) -> Node:
        """What is called so in ``container``. A document is made, so that its size is true."""
        place = self._place(container)
        node = container.children.get(name)
        if not _is_scratch(node):
            certain = {entry.name: entry for entry in self._documents.known(place.item, place.directory)}
            if name in certain:
                self._show_entry(container, place, certain[name])
            else:
                await self._show(container, place)
            node = self._child(container, place, name)
        if node is None:
            raise OSError(errno.ENOENT, f"no {name!r} here")
        if isinstance(node, DocumentNode) and node.content is None:
            await self.files.render(node, place.item)
        return node

    def _child(self, container: Container, place: _Place, name: str) -> Node | None:
        """Of what is shown: by its name, or by one that it is found by as well."""
        node = container.children.get(name) or self._by_alias(container, name)
        if node is None and (container.key, name) in self._former:
            path = lasting(place.path(name))
            entries = self._shown.get(container, [])
            now = next((entry.name for entry in entries if lasting(place.path(entry.name)) == path), "")
            node = container.children.get(now)
        return node

    def _by_alias(self, container: Container, name: str) -> Node | None:
        if naming.id_from_name(name) is None:  # file managers look for dozens of names
            return None
        entries = self._shown.get(container, [])
        found = next((entry.name for entry in entries if entry.alias == name), "")
        return container.children.get(found)

    async def list(self, container: Container) -> None:
        """Bring the children of ``container`` up to date; no document is made for it."""
        await self._show(container, self._place(container))

    def _place(self, container: Container) -> _Place:
        names: list[str] = []
        node: Container | None = container
        while node is not None and node.kind is Kind.DOT_FIGSHARE:
            names.append(node.name)
            node = node.parent
        item = item_of(node) if node is not None else None
        if node is None or item is None:
            raise OSError(errno.ESTALE, "this directory is not there any more")
        if names and names[-1] == NAME:
            names.pop()
        return _Place(node, item, "/".join(reversed(names)))

    async def _show(self, container: Container, place: _Place) -> None:
        entries = await self._entries.get((place.item, place.directory))
        if self._shown.get(container) is entries or container.parent is None:
            return
        self._shown[container] = entries
        wanted = {entry.name: entry for entry in entries}
        if place.has_last_error and self.files.last_error(place.item) is not None:
            wanted[LAST_ERROR] = Entry(LAST_ERROR, "file", removable=True)
        for name, child in list(container.children.items()):
            if name not in wanted and not _is_scratch(child):
                self._tree.detach(child, vanished=True)
                if lasting(place.path(name)) != place.path(name):
                    self._former[container.key, name] = None
        for entry in wanted.values():
            if not _is_scratch(container.children.get(entry.name)):
                self._show_entry(container, place, entry)

    def _show_entry(self, container: Container, place: _Place, entry: Entry) -> None:
        if entry.kind == "accounts":
            return  # placed by the tree, for good
        kind = {"directory": Kind.DOT_FIGSHARE, "link": Kind.REFERENCE}.get(entry.kind, Kind.DOCUMENT)
        key = place.key(kind, entry.name)
        node = self._tree.by_key(key) or self._tree.make(key)
        if node.parent is not container or node.name != entry.name:
            previous = container.children.get(entry.name)
            if previous is not None:
                self._tree.detach(previous)
            self._tree.place(node, container, entry.name)
        node.remote_time_ns = place.owner.remote_time_ns
        writable = entry.writable and not place.item.public
        if entry.name == METADATA and permissions.viewed_project(place.owner) is not None:
            writable = False  # unlike notes, which viewers write
        if isinstance(node, DocumentNode):
            node.document = place.path(entry.name)
            node.writable = writable
            node.removable = entry.removable and not place.item.public
        elif isinstance(node, LinkNode):
            node.target = "../" * container.path().count("/") + entry.target
        else:
            self._open_to_new[key] = writable

    # -- attributes ------------------------------------------------------------

    @staticmethod
    def owns(node: Node) -> bool:
        """Whether ``node`` is a ``.figshare``, or in one."""
        return node.key.kind in (Kind.DOT_FIGSHARE, Kind.DOCUMENT) or (
            node.parent is not None and node.parent.kind is Kind.DOT_FIGSHARE
        )

    def permissions(self, node: Node) -> int:
        """Permission bits, before the mount's umask."""
        if isinstance(node, DocumentNode):
            return 0o666 if node.writable or node.content is not None else 0o444
        if isinstance(node, Container) and node.parent is not None:
            inner = node.parent.kind is Kind.DOT_FIGSHARE
            item = self._place(node).item
            writable = self._open_to_new.get(node.key, False) if inner else _takes_scratch(item)
            return 0o777 if writable else 0o555
        return 0o555

    def setattr(self, node: Node, change: Change, handle: int | None) -> None:
        """Of scratch files in memory, of documents the size only: programs that set modes and times go on."""
        if not isinstance(node, DocumentNode):
            raise OSError(errno.EPERM, "a part of every mount")
        if change.size is not None:
            self.files.truncate(node, change.size, handle)
        if node.content is None:
            return
        if change.mode is not None:
            node.mode = change.mode & 0o7777
        node.atime_ns = node.atime_ns if change.atime_ns is None else change.atime_ns
        node.mtime_ns = node.mtime_ns if change.mtime_ns is None else change.mtime_ns

    async def open(self, node: Node, flags: int, pid: int) -> int:
        """A handle of a document or a scratch file."""
        assert isinstance(node, DocumentNode)
        if node.parent is None:
            raise OSError(errno.ESTALE, "not there any more")
        return await self.files.open(node, self._place(node.parent).item, flags, pid)

    # -- changing names ------------------------------------------------------------

    def create(self, container: Container, name: str, mode: int, pid: int) -> tuple[DocumentNode, int]:
        """A new scratch file and a handle of it."""
        place = self._place(container)
        self._check_new(place, container)
        if name in container.children:
            raise OSError(errno.EEXIST, f"{name!r} exists")
        node = self._new_scratch(container, place, name)
        node.mode = mode & 0o7777
        return node, self.files.create(node, place.item, pid)

    def _new_scratch(self, container: Container, place: _Place, name: str) -> DocumentNode:
        node = self._tree.make(Key(Kind.DOCUMENT, f"scratch/{next(_scratch_ids)}"))
        assert isinstance(node, DocumentNode)
        node.content = bytearray()
        self._put(node, container, place, name)
        return node

    def _put(self, node: DocumentNode, container: Container, place: _Place, name: str) -> None:
        node.document = place.path(name)
        node.creates = self._creates(place, name)
        self._tree.attach(node, container, name)

    def _check_new(self, place: _Place, container: Container) -> None:
        if place.item.public:
            raise OSError(errno.EROFS, "what is public cannot be written")
        if not (self._open_to_new.get(container.key) if place.directory else _takes_scratch(place.item)):
            raise OSError(errno.EPERM, "nothing can be made here")

    @staticmethod
    def _creates(place: _Place, name: str) -> bool:
        """Whether a file of that name becomes something on Figshare when it is closed."""
        return (
            place.directory != ""
            and tempnames.classify(name).kind is tempnames.Kind.ORDINARY
            and _EDITORS.fullmatch(name) is None
        )

    async def unlink(self, container: Container, name: str) -> None:
        place = self._place(container)
        node = await self._existing(container, place, name)
        if isinstance(node, Container):
            raise OSError(errno.EISDIR, "a directory")
        if isinstance(node, DocumentNode) and node.content is not None:
            self._tree.detach(node)
        elif node.name == LAST_ERROR and place.has_last_error:
            self.files.forget_error(place.item)
            self._tree.detach(node)
        elif place.item.public:
            raise OSError(errno.EROFS, "what is public cannot be removed")
        elif isinstance(node, DocumentNode) and node.removable:
            await self.files.remove(place.item, node.document)
            self._tree.detach(node)
        else:
            raise OSError(errno.EPERM, f"{name!r} cannot be removed")

    async def _existing(self, container: Container, place: _Place, name: str) -> Node:
        node = container.children.get(name)
        if node is None:
            await self._show(container, place)
            node = self._child(container, place, name)
        if node is None:
            raise OSError(errno.ENOENT, f"no {name!r} here")
        return node

    async def rename(
        self, source: Container, old: str, destination: Container, new: str, *, replace: bool
    ) -> None:
        """A scratch file gets another name, or becomes a document. A document that is renamed, as editors do
        for their backup, is copied: it cannot go.
        """
        if destination.kind is not Kind.DOT_FIGSHARE:
            raise OSError(errno.EXDEV, "documents and files are not the same: copy")
        if source.kind is not Kind.DOT_FIGSHARE:  # not EXDEV: mv would copy it, and remove it where it was
            raise OSError(errno.EPERM, "what is in .figshare is in memory only: copy")
        place, to = self._place(source), self._place(destination)
        if place.owner is not to.owner:
            raise OSError(errno.EXDEV, "of another item: copy")
        node = await self._existing(source, place, old)
        if place.item.public:
            raise OSError(errno.EROFS, "what is public cannot be renamed")
        await self._show(destination, to)
        target = self._child(destination, to, new)
        if target is not None and not replace:
            raise OSError(errno.EEXIST, f"{new!r} exists")
        if not isinstance(node, DocumentNode):
            raise OSError(errno.EPERM, "a part of every mount")
        if target is node:
            return
        if node.failed is not None:
            raise copy.copy(node.failed)
        if target is not None and not isinstance(target, DocumentNode):
            raise OSError(
                errno.EISDIR if isinstance(target, Container) else errno.EPERM, "cannot be replaced"
            )
        if target is None or target.content is not None:
            await self._rename_to_new(node, place, destination, to, new)
        elif not target.writable:
            raise OSError(errno.EPERM, f"{new!r} cannot be written")
        elif node.content is None:
            raise OSError(errno.EPERM, "a document stays where it is: copy it")
        else:
            await self.files.replace(target, to.item, bytes(node.content), family=node.written_by)
            if node.parent is not None:
                self._tree.detach(node)

    async def _rename_to_new(
        self, node: DocumentNode, place: _Place, destination: Container, to: _Place, new: str
    ) -> None:
        self._check_new(to, destination)
        if node.content is None:
            if not node.writable or self._creates(to, new):
                raise OSError(errno.EPERM, "a document stays where it is: copy it")
            content = await self.files.render(node, place.item)
            self._new_scratch(destination, to, new).content = bytearray(content)
        elif self._creates(to, new):
            await self.files.make(to.item, to.path(new), bytes(node.content))
            if node.parent is not None:
                self._tree.detach(node)
        else:
            self._put(node, destination, to, new)


def _is_scratch(node: Node | None) -> bool:
    return isinstance(node, DocumentNode) and node.content is not None


def _takes_scratch(item: Item) -> bool:
    """Of the root nothing can be written; of what is public neither."""
    return not item.public and item.kind not in ("root", "institution")
