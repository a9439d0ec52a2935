"""What others do to the account meanwhile: on the web page, or on another machine. Seen after a refresh.

Files are changed only where this machine owes nothing for them, but for ``TakeAway``: what is pending here
must not be lost by what happens there.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib

from onemount import Mount
from reference import final_path, is_local

from figfs.namespace.nodes import FileNode, Key, Kind
from figfs.sandbox import files


def put_there(mount: Mount, path: str, data: bytes) -> None:
    """Somebody else uploads a file."""
    sandbox = mount.sandbox
    article, _, inside = path.partition("/")
    folder, _, name = inside.rpartition("/")
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    row = {
        "article_id": mount.articles[article],
        "name": name,
        "folder": folder,
        "size": len(data),
        "link": None,
        "supplied_md5": md5,
        "computed_md5": md5,
        "status": "available",
        "token": "",
        "part_size": 1000,
        "completed": 1,
        "created": sandbox.clock.time(),
        "modified": sandbox.clock.stamp(),
        "draft": 1,
        "public": 0,
        "pattern": 0,
    }
    sandbox.blobs.save(sandbox.store.insert("files", row), data)


def take_from_there(mount: Mount, node: FileNode) -> None:
    """Somebody else deletes what Figshare has of ``node``."""
    assert node.stored is not None
    row = mount.sandbox.store.row("SELECT * FROM files WHERE id = ?", node.stored.file.id)
    if row is not None:
        files.remove(mount.sandbox, row)


async def refresh(mount: Mount, path: str) -> None:
    """``figfs refresh``."""
    await mount.refreshed(mount.path(path.partition("/")[0]))


async def stored_node(mount: Mount, path: str) -> FileNode | None:
    """The node of a file that Figshare has as it is here, where nothing is owed for it."""
    node = await mount.world.file(mount.path(path))
    local = mount.world.settler.known(node)
    if node.stored is None or node.local_size is not None or mount.world.owed():
        return None
    return node if local is None or (local.upload is None and not local.dirty) else None


@dataclasses.dataclass(frozen=True)
class AddThere:
    path: str
    size: int

    async def run(self, mount: Mount) -> None:
        reference, path = mount.reference, self.path
        places = {final_path(each) for each in reference.files}
        if mount.in_trouble or path in places or not reference.folder(path.rpartition("/")[0]):
            return
        if final_path(path) != path or is_local(path) or any(path == where for where, _ in reference.past()):
            return
        data = reference.fresh(self.size)
        put_there(mount, path, data)
        reference.stored_there(path, data)
        await refresh(mount, path)
        mount.compare(path, await mount.read_path(path), data)


@dataclasses.dataclass(frozen=True)
class ReplaceThere:
    """A file gets another version: whoever has it open reads the old one, or hears that it is gone."""

    number: int
    size: int

    async def run(self, mount: Mount) -> None:
        reference, file = mount.reference, mount.reference.nth(self.number)
        if mount.in_trouble or file is None or file.path is None or is_local(file.path):
            return
        path = file.path
        node = await stored_node(mount, path)
        if node is None or final_path(path) != path:
            return
        data = reference.fresh(self.size)
        take_from_there(mount, node)
        put_there(mount, path, data)
        reference.vanish(path)
        reference.stored_there(path, data)
        await refresh(mount, path)
        mount.compare(path, await mount.read_path(path), data)


@dataclasses.dataclass(frozen=True)
class DeleteThere:
    number: int

    async def run(self, mount: Mount) -> None:
        file = mount.reference.nth(self.number)
        if mount.in_trouble or file is None or file.path is None:
            return
        path = file.path
        node = await stored_node(mount, path)
        if node is None:
            return
        take_from_there(mount, node)
        mount.reference.vanish(path)
        await refresh(mount, path)
        await mount.expect(errno.ENOENT, lambda: mount.read_path(path))


@dataclasses.dataclass(frozen=True)
class TakeAway:
    """Figshare's version of a file goes, of which this machine has a whole, newer one."""

    number: int

    async def run(self, mount: Mount) -> None:
        file = mount.reference.nth(self.number)
        if mount.in_trouble or file is None or file.path is None or not file.data or is_local(file.path):
            return
        node = await mount.world.file(mount.path(file.path))
        local = mount.world.settler.known(node)
        if node.stored is None or node.local_size is None or local is None or local.spool is None:
            return
        if local.spool._read_base is not None or (
            local.upload is not None and local.upload.source is not None
        ):
            return  # it needs what is there
        take_from_there(mount, node)
        if local.upload is None:
            file.closed, file.sure = None, False
        await refresh(mount, file.path)


@dataclasses.dataclass(frozen=True)
class Retitle:
    """An article gets another title."""

    article: str
    other: bool

    async def run(self, mount: Mount) -> None:
        if mount.in_trouble:
            return
        title = f"other {self.article}" if self.other else self.article
        mount.sandbox.store.update("articles", mount.articles[self.article], {"title": title})
        mount.titles[self.article] = title
        await mount.refreshed("articles")
        await mount.compare_listing(self.article)


@dataclasses.dataclass(frozen=True)
class RemoveArticle:
    """An article goes, when nothing is owed in it; another one is made, of the same title."""

    article: str

    async def run(self, mount: Mount) -> None:
        await mount.check()
        inside = [file for path, file in mount.reference.files.items() if path.startswith(self.article + "/")]
        if mount.in_trouble or any(not file.data or is_local(file.path or "") for file in inside):
            return  # it stays, as long as there is something in it that only this machine has
        number, title = mount.articles[self.article], mount.titles[self.article]
        store = mount.sandbox.store
        for row in store.rows("SELECT * FROM files WHERE article_id = ?", number):
            files.remove(mount.sandbox, row)
        store.run("DELETE FROM articles WHERE id = ?", number)
        await mount.refreshed("articles")
        if mount.world.tree.by_key(Key(Kind.ARTICLE, number)) is not None:
            raise AssertionError(f"{title} is still there")
        mount.reference.remove_article(self.article)
        node = await mount.world.mkdir(f"articles/{title}")
        assert isinstance(node.key.id, int)
        mount.articles[self.article] = node.key.id
        await mount.compare_listing(self.article)
