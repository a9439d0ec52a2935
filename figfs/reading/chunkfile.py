"""One file of the disk cache: a chunk of up to 32 blocks, and how to tell that they are what was written.

A header of one page (so that blocks are page-aligned and a block is added without reading its surroundings),
then the blocks at their places, with holes where one is missing. The header says whose chunk it is, which
blocks are there, and the CRC-32 of each; it ends in a checksum of its own. Nothing is ever synced: after a
power cut the checksums tell. Blocks are written before the header that counts them in, so a reader in another
process sees a block only when it is whole.

The checksum of a block begins where that of the block before it ended, if both came in one write ("chained"):
a run of blocks is then checked by one call of ``zlib.crc32``, which hands the GIL over once instead of 32
times. Other blocks begin at a seed made of key, chunk and block number.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import hashlib
import os
import struct
import zlib
from collections.abc import Sequence

from figfs.reading.blocks import BLOCK_SIZE

BLOCKS = 32  #: blocks in a chunk
CHUNK_SIZE = BLOCKS * BLOCK_SIZE  #: the unit of a file on disk and of eviction
DATA_OFFSET = 4096  #: where block 0 begins
VERSION = 1

_MAGIC = b"figfsblk"
_IDENTITY = struct.Struct("<8sIIQ16s")  # magic, version, chunk number, size of the content, hash of the key
_CONTENTS = struct.Struct("<II32I")  # bit per block that is there, bit per chained one, checksums
_CHECK = struct.Struct("<I")
_LENGTH = _IDENTITY.size + _CONTENTS.size + _CHECK.size


class Defect(Exception):
    """The file is not what it should be: damaged, cut short, or another chunk's."""


class OtherVersion(Exception):
    """A chunk of another version of the format."""


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Chunk ``number`` of the content ``key``, which has ``size`` bytes in all."""

    key: str
    number: int
    size: int

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.key}.{self.number}"

    @property
    def length(self) -> int:
        """Bytes of the content that belong to this chunk."""
        return min(CHUNK_SIZE, self.size - self.number * CHUNK_SIZE)

    @property
    def blocks(self) -> int:
        """How many blocks it has, the last one perhaps shorter."""
        return -(-self.length // BLOCK_SIZE)

    @functools.cached_property
    def identity(self) -> bytes:
        """What its header begins with."""
        digest = hashlib.blake2b(self.key.encode(), digest_size=16).digest()
        return _IDENTITY.pack(_MAGIC, VERSION, self.number, self.size, digest)

    def seed(self, block: int) -> int:
        """What the checksum of ``block`` begins with unless it is chained."""
        return zlib.crc32(block.to_bytes(4, "little"), zlib.crc32(self.identity))


@dataclasses.dataclass(slots=True)
class Header:
    """What a chunk file says about its blocks."""

    present: int = 0  #: bit b: block b is there
    chained: int = 0  #: bit b: the checksum of block b begins with that of block b - 1
    checksums: list[int] = dataclasses.field(default_factory=lambda: [0] * BLOCKS)

    def pack(self, chunk: Chunk) -> bytes:
        """The bytes at the beginning of the file."""
        head = chunk.identity + _CONTENTS.pack(self.present, self.chained, *self.checksums)
        return head + _CHECK.pack(zlib.crc32(head))

    @classmethod
    def unpack(cls, raw: bytes | memoryview, chunk: Chunk) -> Header:
        """Raises ``Defect`` unless ``raw`` is a header of this chunk, ``OtherVersion`` for another format."""
        raw = bytes(raw[:_LENGTH])
        if len(raw) < _LENGTH or raw[:8] != _MAGIC:
            raise Defect("no header")
        if int.from_bytes(raw[8:12], "little") != VERSION:
            raise OtherVersion
        head = raw[: -_CHECK.size]
        if not raw.startswith(chunk.identity) or raw[-_CHECK.size :] != _CHECK.pack(zlib.crc32(head)):
            raise Defect("a damaged header, or that of another chunk")
        present, chained, *checksums = _CONTENTS.unpack(head[_IDENTITY.size :])
        return cls(present, chained, checksums)

    def holds(self, first: int, last: int) -> bool:
        """Whether all blocks [first, last) are there."""
        wanted = bits(first, last)
        return self.present & wanted == wanted


def bits(first: int, last: int) -> int:
    """A mask of the blocks [first, last)."""
    return (1 << last) - (1 << first)


def runs(mask: int, first: int, last: int) -> list[tuple[int, int]]:
    """The stretches of set bits among [first, last), in order."""
    found: list[tuple[int, int]] = []
    start = first
    while start < last:
        if not mask >> start & 1:
            start += 1
            continue
        end = start + 1
        while end < last and mask >> end & 1:
            end += 1
        found.append((start, end))
        start = end + 1
    return found


def size_in(raw: bytes) -> int:
    """The size of the content according to a header, for who does not know it. ``Defect`` if it is none."""
    if len(raw) < _LENGTH or raw[:8] != _MAGIC:
        raise Defect("no header")
    size: int = _IDENTITY.unpack_from(raw)[3]
    return size


def read_header(descriptor: int, chunk: Chunk) -> Header:
    """The header of an open chunk file; ``Defect``, ``OtherVersion``, or ``OSError``."""
    try:
        return Header.unpack(os.pread(descriptor, _LENGTH, 0), chunk)
    except Defect:
        # Another process may just be writing it: such a header is whole a moment later.
        return Header.unpack(os.pread(descriptor, _LENGTH, 0), chunk)


def read(descriptor: int, chunk: Chunk, first: int, last: int, target: memoryview) -> Header:
    """Read the blocks [first, last) into ``target``, which has room for just them, and check those that the
    returned header has. The rest of ``target`` is undefined.

    Raises ``Defect`` if a block is not what was written, ``OtherVersion``, or ``OSError``.
    """
    if first == 0:  # nearly always: header and blocks by one call
        page = bytearray(DATA_OFFSET)
        got = os.preadv(descriptor, [page, target], 0) - DATA_OFFSET
        try:
            header = Header.unpack(memoryview(page)[: DATA_OFFSET + min(got, 0)], chunk)
        except Defect:
            header = read_header(descriptor, chunk)
            got = os.preadv(descriptor, [target], DATA_OFFSET)
    else:
        header = read_header(descriptor, chunk)
        got = os.preadv(descriptor, [target], DATA_OFFSET + first * BLOCK_SIZE)
    for start, end in runs(header.present, first, last):
        upto = min((end - first) * BLOCK_SIZE, len(target))
        if upto > got:
            raise Defect("cut short")
        _check(chunk, header, start, end, target[(start - first) * BLOCK_SIZE : upto])
    return header


def _check(chunk: Chunk, header: Header, first: int, last: int, data: memoryview) -> None:
    """Compare the checksums of the blocks [first, last), which are ``data``: one call for each chain."""
    start = first
    while start < last:
        end = start + 1
        while end < last and header.chained >> end & 1:
            end += 1
        begin = header.checksums[start - 1] if header.chained >> start & 1 else chunk.seed(start)
        piece = data[(start - first) * BLOCK_SIZE : (end - first) * BLOCK_SIZE]
        if zlib.crc32(piece, begin) != header.checksums[end - 1]:
            raise Defect(f"wrong bytes in blocks {start} to {end - 1}")
        start = end


def create(descriptor: int, chunk: Chunk, first: int, data: memoryview) -> Header:
    """Fill a new file with ``data``, the blocks from ``first`` on. ``OSError`` if they are not taken."""
    header = Header()
    _count_in(chunk, header, first, data)
    if first == 0:
        _write(descriptor, [header.pack(chunk).ljust(DATA_OFFSET, b"\0"), data], 0)
    else:
        _write(descriptor, [data], DATA_OFFSET + first * BLOCK_SIZE)
        _write(descriptor, [header.pack(chunk)], 0)
    return header


def add(descriptor: int, chunk: Chunk, first: int, data: memoryview) -> Header:
    """Add the blocks from ``first`` on to an open chunk file; those that it has already stay as they are.

    Raises ``Defect`` or ``OtherVersion`` if it is no file to be added to, ``OSError`` if the disk does not
    take the data. Two that add to one file at once may lose one another's blocks (not within one process:
    the store has a lock): the last header counts, and is true.
    """
    header = read_header(descriptor, chunk)
    last = first + -(-len(data) // BLOCK_SIZE)
    missing = runs(~header.present, first, last)
    for start, end in missing:
        piece = data[(start - first) * BLOCK_SIZE : (end - first) * BLOCK_SIZE]
        _write(descriptor, [piece], DATA_OFFSET + start * BLOCK_SIZE)
        _count_in(chunk, header, start, piece)
    if missing:
        _write(descriptor, [header.pack(chunk)], 0)
    return header


def _count_in(chunk: Chunk, header: Header, first: int, data: memoryview) -> None:
    """Note that ``data``, the blocks from ``first`` on, are there."""
    checksum = chunk.seed(first)
    for block, offset in enumerate(range(0, len(data), BLOCK_SIZE), first):
        checksum = zlib.crc32(data[offset : offset + BLOCK_SIZE], checksum)
        header.checksums[block] = checksum
        header.present |= 1 << block
        if block > first:
            header.chained |= 1 << block


def _write(descriptor: int, pieces: Sequence[bytes | memoryview], offset: int) -> None:
    if os.pwritev(descriptor, pieces, offset) != sum(map(len, pieces)):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # the next call would say so
