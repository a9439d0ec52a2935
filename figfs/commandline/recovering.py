"""Copying out bytes that Figshare does not have, from the spool: ``figfs recover``. No mount is needed.

Nothing is ever overwritten, in the spool or where the copies go. Names come from a disk that may be
damaged, and from servers: each part of them is made a legal name first, so none leads out of the
directory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from figfs.control.ledger import Rows, look_at_unclosed, path_without_tree, state_of
from figfs.namespace import naming
from figfs.writing.journal import State

CHUNK = 1 << 20
ZEROS = bytes(CHUNK)
INCOMPLETE = ".incomplete"  #: never closed: perhaps half of it
DAMAGED = ".damaged"  #: not the bytes that were written
LONGEST_NAME = 255  #: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """Bytes that are to be copied out. ``path``: what they are called, below the mount point; ``md5``:
    what they must be, "" for what was never closed.
    """

    path: str
    spool: Path
    state: str
    md5: str = ""
    mode: int | None = None
    mtime_ns: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Copy:
    """What came of an item. ``problem``: why there is no copy, or why it is not to be trusted."""

    item: Item
    target: Path | None
    size: int = 0
    problem: str = ""


def items(rows: Rows, spool_directory: Path, unclosed: Iterable[Path]) -> Iterator[Item]:
    """All that only this machine has: what is parked or owed, and what was never closed."""
    uploads, _ = rows
    for row in uploads:
        if not row.spool_name or row.state is State.STORED or row.dropped:
            continue  # Figshare has it, or nobody wants it
        path, spool = path_without_tree(spool_directory, row), spool_directory / row.spool_name
        yield Item(path, spool, state_of(row), row.md5, row.mode, row.mtime_ns)
    for found in look_at_unclosed(unclosed):
        yield Item(found.path or f"unknown/{found.spool.name}", found.spool, "never closed")


def recover(found: Iterable[Item], directory: Path) -> Iterator[Copy]:
    """Copy each into ``directory``, which is made, under its path. Goes on after what fails."""
    for item in found:
        try:
            yield _copy(item, directory)
        except FileNotFoundError:
            if item.spool.exists():
                raise
            yield Copy(item, None, problem="its bytes are gone: stored meanwhile, or removed")
        except OSError as exc:
            where = f"{exc.filename}: " if exc.filename else ""
            yield Copy(item, None, problem=f"{where}{exc.strerror or exc}")


def _copy(item: Item, directory: Path) -> Copy:
    with item.spool.open("rb", buffering=0) as source:
        *folders, name = legal_parts(item.path)
        place = _folder(directory, folders)
        target, descriptor = _new_file(place, name, "" if item.md5 else INCOMPLETE)
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as copy:
                digest = hashlib.md5(usedforsecurity=False)
                while chunk := source.read(CHUNK):
                    digest.update(chunk)
                    if chunk == ZEROS[: len(chunk)]:
                        copy.seek(len(chunk), os.SEEK_CUR)  # holes stay holes
                    else:
                        _write_all(copy.fileno(), chunk)
                size = source.tell()
                copy.truncate(size)
                if item.mode is not None:
                    os.fchmod(copy.fileno(), item.mode & 0o777 | 0o600)
                if item.mtime_ns is not None:
                    os.utime(copy.fileno(), ns=(item.mtime_ns, item.mtime_ns))
                os.fsync(copy.fileno())
        except BaseException:
            target.unlink(missing_ok=True)
            raise
    if item.md5 and digest.hexdigest() != item.md5:
        damaged, descriptor = _new_file(place, target.name, DAMAGED)
        os.close(descriptor)
        os.replace(target, damaged)  # both names are ours, made just now
        return Copy(item, damaged, size, "not the bytes that were written: the disk has damaged them")
    return Copy(item, target, size)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def legal_parts(path: str) -> list[str]:
    """The names of a path, each one that may stand in a directory; at least one."""
    parts = [naming.name_from_filename(part) for part in path.split("/") if part not in ("", ".")]
    return parts or [naming.UNTITLED]


def _folder(directory: Path, names: list[str]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name in names:
        directory /= name
        with contextlib.suppress(FileExistsError):
            directory.mkdir()
        if directory.is_symlink() or not directory.is_dir():
            raise OSError(f"{directory} is in the way: copy to another directory")
    return directory


def _new_file(place: Path, name: str, suffix: str) -> tuple[Path, int]:
    """A file that was not there before: ``name``, or ``name [2]`` and so on where that is taken."""
    stem, extension = os.path.splitext(name)
    for number in itertools.count(1):
        end = extension + suffix if number == 1 else f" [{number}]{extension}{suffix}"
        path = place / (_cut(stem, LONGEST_NAME - len(os.fsencode(end))) + end)
        try:
            return path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue
    raise AssertionError


def _cut(text: str, size: int) -> str:
    while len(os.fsencode(text)) > size:
        text = text[:-1]
    return text
