"""The plain model of one mount: files in memory, and what a crash may make of each.

It knows nothing of figfs. ``File.data`` is what every handle must read now. What a crash may leave of a file
is in ``maybe``: (path, content) pairs, one of which must be there afterwards if ``sure``; of ``ghosts`` any
or none.
"""

from __future__ import annotations

import dataclasses
import math
import random

#: Temporary names whose final one can be told, and held ones.
FINAL = {".a.Xy12Zq": "a", "b.csv.part": "b.csv"}
HELD = ("a~", "tmpab3d_x9z")
LOCAL = (".a.swp",)  #: never uploaded


@dataclasses.dataclass(eq=False)
class File:
    """An inode: it outlives its name while it is open."""

    path: str | None
    data: bytes = b""
    touched: bool = True  #: changed since the last close that ended it; a new file is
    sure: bool = False  #: a close of it was accepted: it must survive
    maybe: set[tuple[str, bytes]] = dataclasses.field(default_factory=set)
    past: set[tuple[str, bytes]] = dataclasses.field(default_factory=set)  #: all that it was closed as
    closed: bytes | None = None  #: the content that a close was answered for
    over: File | None = None  #: renamed over it while it was being written
    vanished: bool = False  #: somebody else has removed it
    moved: bool = False  #: renamed since the last close that was accepted
    anonymous: bool = False  #: cut while it was open, by nobody who has it open
    mode: int | None = None  #: as set; None: not known
    mtime_ns: int | None = None
    closed_in_trouble: bool = False
    closed_at: float = -math.inf  #: when the last handle was closed
    version: int = 0  #: counts changes
    opened: int = 0

    def change(self, data: bytes) -> None:
        self.data, self.touched, self.mtime_ns = data, True, None
        self.version += 1

    def write(self, offset: int, data: bytes) -> None:
        old = self.data.ljust(offset, b"\0")
        self.change(old[:offset] + data + old[offset + len(data) :])

    def truncate(self, size: int) -> None:
        if size != len(self.data):
            self.change(self.data[:size].ljust(size, b"\0"))

    def may_be_kept(self) -> None:
        """A close of it has begun."""
        if self.path is not None:
            # Between its close and its rename, what rsync and KIO make is what they will call it.
            self.maybe |= {(self.path, self.data), (final_path(self.path), self.data)}
            self.past |= {(self.path, self.data), (final_path(self.path), self.data)}

    def counts(self, *, last: bool = True) -> bool:
        """Whether its loss would be one: litter, and an empty file that will be renamed, are none."""
        if self.path is None or self.path.endswith(LOCAL):
            return False
        return bool(self.data) or (last and not self.path.endswith((*FINAL, *HELD)))

    def is_kept(self, version: int, *, last: bool) -> None:
        """A close that began at ``version`` was accepted; ``last``: of the last descriptor."""
        self.may_be_kept()
        self.sure = self.sure or self.counts(last=last)
        if version == self.version:
            self.touched = self.moved = self.anonymous = False
            self.over = None
            if self.data or self.counts():
                self.closed = self.data
        if version == self.version and self.path is not None:
            self.maybe = {(self.path, self.data), (final_path(self.path), self.data)}
            if not self.data and not self.counts():  # it is not kept, and Figshare has what it was before
                self.maybe |= self.past


class Reference:
    """All files of the mount, by path (``article/folder/name``)."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.folders: set[str] = set()
        self.ghosts: set[tuple[str, bytes]] = set()
        self._contents = 0

    def fresh(self, size: int) -> bytes:
        """Bytes like none before."""
        self._contents += 1
        return random.Random(self._contents).randbytes(size)

    def create(self, path: str) -> File:
        file = self.files[path] = File(path)
        return file

    def unlink(self, path: str) -> None:
        file = self.files.pop(path)
        if not file.counts():  # what Figshare has, is there again
            self.ghosts |= file.maybe
        file.path = None

    def rename(self, old: str, new: str) -> None:
        file, victim = self.files.pop(old), self.files.pop(new, None)
        counted = file.counts()
        if victim is not None:
            victim.path = None
            if not file.sure:  # the old one stays until there is a new one
                file.maybe |= victim.maybe
                file.sure = victim.sure
                file.over = victim if victim.closed is not None else victim.over
            file.past |= victim.past
        file.path, file.moved = new, True
        file.sure = file.sure and file.counts()
        self.files[new] = file
        renamed = {(path, data) for _, data in file.maybe for path in (new, final_path(new))}
        file.maybe = renamed if counted and file.counts() else file.maybe | renamed

    def names(self, directory: str) -> list[str]:
        return sorted(path.rpartition("/")[2] for path in self.files if path.rpartition("/")[0] == directory)

    def nth(self, number: int) -> File | None:
        """One of the files, if there are any."""
        paths = sorted(self.files)
        return self.files[paths[number % len(paths)]] if paths else None

    def folder(self, path: str) -> bool:
        """Whether there is such a directory."""
        return "/" not in path or path in self.folders

    def inside(self, path: str) -> list[str]:
        """All files and folders below ``path``."""
        return [each for each in (*self.files, *self.folders) if each.startswith(path + "/")]

    def rename_folder(self, old: str, new: str) -> None:
        """``new``, if there is one, is empty."""
        self.folders = {moved(path, old, new) for path in self.folders} | {new}
        for path in [path for path in self.files if path.startswith(old + "/")]:
            self.rename(path, moved(path, old, new))

    def give_up(self, file: File) -> None:
        """What was written since the last close is worth nothing."""
        file.mode = file.mtime_ns = None
        if file.closed is not None:
            file.data, file.touched = file.closed, False
            file.version += 1
            return
        if file.path is not None:
            del self.files[file.path]
            if file.over is not None:
                file.over.path = file.path
                self.files[file.path] = file.over
            file.path = None

    def past(self) -> set[tuple[str, bytes]]:
        """What Figshare may have of files that are empty here, or litter."""
        return set[tuple[str, bytes]]().union(*(file.past for file in self.files.values()))

    def saved(self, path: str, data: bytes) -> None:
        """``path`` is on Figshare with this content, over what was there."""
        file = self.files.get(path)
        if file is None:
            file = self.create(path)
        file.change(data)
        file.past.clear()
        file.mode = file.mtime_ns = None
        file.is_kept(file.version, last=True)
        file.past = {(path, data)}

    def stored_there(self, path: str, data: bytes) -> None:
        """Somebody else has put it there."""
        self.saved(path, data)
        self.files[path].sure = True

    def vanish(self, path: str) -> None:
        """Somebody else has removed it: who has it open reads what was there, or hears of it."""
        file = self.files.pop(path)
        file.path, file.vanished = None, True

    def remove_article(self, article: str) -> None:
        for path in [path for path in self.files if path.startswith(article + "/")]:
            self.vanish(path)
        self.folders = {path for path in self.folders if not path.startswith(article + "/")}

    def settled(self) -> None:
        """Figshare has all of it, and nothing else."""
        self.ghosts.clear()
        for path, file in self.files.items():
            file.maybe, file.sure = {(path, file.data)}, file.counts()
            file.closed, file.over, file.moved = file.data, None, False
            file.closed_in_trouble = False
            if file.data and not path.endswith(LOCAL):
                file.past = {(path, file.data)}
            if not file.counts():
                file.maybe |= file.past

    # -- after a crash ------------------------------------------------------------

    def explain(self, found: dict[str, bytes]) -> str | None:
        """What is wrong with ``found``, the files that a crash has left; None if it is as promised."""
        possible = set(self.ghosts).union(*(file.maybe for file in self.files.values()))
        for path, data in found.items():
            if (path, data) not in possible:
                return f"{path} ({len(data)} bytes) was never so closed there"
        for path, file in self.files.items():
            if file.sure and not any(found.get(where) == data for where, data in file.maybe):
                return f"{path} is lost: it was closed as one of {describe(file.maybe)}"
        return None

    def explain_folders(self, found: set[str]) -> str | None:
        """The same of the folders: all that were made are there."""
        lost, ghosts = self.folders - found, found - self.folders
        if lost:
            return f"folders are lost: {sorted(lost)}"
        possible = {path for file in self.files.values() for path, _ in file.maybe | file.past}
        for folder in ghosts:
            if not any(path.startswith(folder + "/") for path in possible):
                return f"the folder {folder} was not there"
        return None

    def become(self, found: dict[str, bytes], folders: set[str]) -> None:
        """Only what is in ``found`` is left."""
        before, self.files, self.folders = self.files, {}, set(folders)
        for path, data in found.items():
            file = self.files[path] = File(path, data)
            same = before.get(path)
            if same is not None and same.sure and not same.touched and same.data == data:
                file.mode, file.mtime_ns = same.mode, same.mtime_ns
            if same is not None and not data:
                file.past |= same.past  # Figshare has it, until there is content
            file.is_kept(0, last=True)


def final_path(path: str) -> str:
    """Where a file under a temporary name will be, if that can be told."""
    directory, _, name = path.rpartition("/")
    return f"{directory}/{FINAL.get(name, name)}"


def moved(path: str, old: str, new: str) -> str:
    """``path`` after its folder ``old`` has become ``new``."""
    return new + path[len(old) :] if path == old or path.startswith(old + "/") else path


def is_local(path: str) -> bool:
    return path.endswith(LOCAL)


def describe(places: set[tuple[str, bytes]]) -> str:
    return ", ".join(sorted(f"{path} ({len(data)} bytes)" for path, data in places))
