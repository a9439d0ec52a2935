"""What ``figfs cache`` tells about a cache directory: how full it is, and whether it is sound."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Callable

from figfs.reading import chunkfile
from figfs.reading.cachedirectory import key_of, number_of, opened, shard_of
from figfs.reading.chunkfile import DATA_OFFSET, Chunk, Defect, OtherVersion
from figfs.reading.space import Space

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Pin:
    """A content that is kept from eviction."""

    key: str
    label: str  #: what a person calls it, or ""
    used: int  #: bytes on disk


@dataclasses.dataclass(frozen=True, slots=True)
class Statistics:
    """What is in a cache directory. Sizes are bytes on disk."""

    used: int
    chunks: int
    contents: int
    verified_contents: int
    pins: tuple[Pin, ...]  #: also those of which nothing is here


@dataclasses.dataclass(frozen=True, slots=True)
class Verification:
    """What ``verify`` has found. ``skipped``: of another version of the format, or not readable."""

    chunks: int
    defective: int
    skipped: int


def statistics(space: Space) -> Statistics:
    """What is there now, according to a new listing."""
    space.look()
    names = space.index.oldest_first()
    used: Counter[str] = Counter()
    for name in names:
        entry = space.index.get(name)
        used[key_of(name)] += entry.allocated if entry else 0
    return Statistics(
        used=space.index.total,
        chunks=len(names),
        contents=len(used),
        verified_contents=len(space.marked & used.keys()),
        pins=tuple(Pin(key, space.pins.label(key), used[key]) for key in sorted(space.pins.names())),
    )


def verify(space: Space, progress: Callable[[int], None]) -> Verification:
    """Read every chunk and remove those that are damaged; ``progress`` gets the bytes on disk of each."""
    space.look()
    checked = defective = skipped = 0
    for name in space.index.oldest_first():
        entry = space.index.get(name)
        if entry is None:
            continue
        path = space.files.path(name, entry.shard)
        try:
            _check(name, entry.shard, path)
            checked += 1
        except Defect as exc:
            log.warning("%s: %s; removed", path, exc)
            space.remove(name, path)
            checked += 1
            defective += 1
        except FileNotFoundError:
            pass  # evicted meanwhile
        except (OtherVersion, OSError):
            skipped += 1
        progress(entry.allocated)
    return Verification(checked, defective, skipped)


def _check(name: str, shard: str, path: str) -> None:
    """Read a whole chunk file. ``Defect``, ``OtherVersion`` or ``OSError`` if it cannot be used."""
    key, number = key_of(name), number_of(name)
    if shard_of(key) != shard or number is None:
        raise OtherVersion
    with opened(path, os.O_RDONLY) as descriptor:
        size = chunkfile.size_in(os.pread(descriptor, DATA_OFFSET, 0))
        chunk = Chunk(key, number, size)
        chunkfile.read_header(descriptor, chunk)  # before the length of a damaged one is believed
        if chunk.length <= 0:
            raise Defect("a chunk behind the end of its content")
        chunkfile.read(descriptor, chunk, 0, chunk.blocks, memoryview(bytearray(chunk.length)))
