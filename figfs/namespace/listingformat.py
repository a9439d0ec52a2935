"""Listings as bytes, to be kept on disk: with a checksum, and of one figfs only. Pure."""

from __future__ import annotations

import hashlib
import zlib

import msgspec

import figfs
from figfs.figshare.public import PublicFile
from figfs.figshare.records import Account, Article, ArticleDetails, Collection, File, Id, Project
from figfs.namespace import identifiers
from figfs.namespace.nodes import PUBLIC_ITEMS, Key, Kind
from figfs.namespace.sources import Contents, Entry

FORMAT = 2

#: What is kept. The rest is not Figshare's, or is asked anew for its own sake (search).
KEPT = {
    *PUBLIC_ITEMS,
    Kind.ARTICLES,
    Kind.PROJECTS,
    Kind.COLLECTIONS,
    Kind.PROJECT,
    Kind.COLLECTION,
    Kind.ARTICLE,
}

_RECORDS: dict[Kind, type[Article | Project | Collection | File]] = {
    Kind.ARTICLE: Article,
    Kind.MEMBER: Article,
    Kind.REFERENCE: Article,
    Kind.PROJECT: Project,
    Kind.COLLECTION: Collection,
    Kind.FILE: File,
    Kind.LINK: File,
    Kind.PUBLIC_FILE: PublicFile,
    Kind.PUBLIC_LINK: PublicFile,
}


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    kind: int
    id: Id
    base: str
    time: float
    folder: tuple[str, ...]
    record: msgspec.Raw


class _Contents(msgspec.Struct, frozen=True, array_like=True):
    entries: list[_Entry]
    details: ArticleDetails | None
    project: Project | None
    collection: Collection | None
    time: float
    answer: bytes
    date: float | None


def sealed(data: bytes, of: str) -> bytes:
    """``data`` with a checksum of it and of what it is ``of``, which is kept beside it."""
    return zlib.crc32(data, zlib.crc32(of.encode())).to_bytes(4, "big") + data


def unsealed(data: bytes, of: str) -> memoryview:
    """What ``sealed`` was given. ``ValueError`` for anything else: a damaged index leads to another row."""
    view = memoryview(data)
    if len(view) < 4 or zlib.crc32(view[4:], zlib.crc32(of.encode())) != int.from_bytes(view[:4], "big"):
        raise ValueError("the checksum is wrong")
    return view[4:]


def encode(contents: Contents, of: str) -> bytes:
    """``ValueError`` or ``OverflowError`` for what cannot be kept: lone surrogates, numbers past 64 bits."""
    entries = [
        _Entry(
            int(entry.key.kind),
            entry.key.id,
            entry.base,
            entry.time,
            entry.folder,
            msgspec.Raw(msgspec.msgpack.encode(entry.record)),
        )
        for entry in contents.entries
    ]
    record = contents.record
    project = record if isinstance(record, Project) else None
    collection = record if isinstance(record, Collection) else None
    kept = _Contents(
        entries,
        contents.details,
        project,
        collection,
        contents.time,
        contents.answer,
        contents.date,
    )
    return sealed(msgspec.msgpack.encode(kept), of)


def decode(data: bytes, of: str) -> Contents:
    """What ``encode`` was given. ``ValueError`` for anything else."""
    found = msgspec.msgpack.decode(unsealed(data, of), type=_Contents)
    return Contents(
        [
            Entry(
                Key(Kind(entry.kind), entry.id),
                entry.base,
                msgspec.msgpack.decode(entry.record, type=_RECORDS[Kind(entry.kind)]),
                entry.time,
                entry.folder,
            )
            for entry in found.entries
        ],
        found.details,
        record=found.project if found.project is not None else found.collection,
        time=found.time,
        answer=found.answer,
        date=found.date,
    )


def doi_of(contents: Contents) -> str:
    """The DOI of the item that ``contents`` are of, as ``identifiers.base_of`` has it; "" if it has none."""
    record = contents.details if contents.details is not None else contents.record
    return identifiers.base_of(getattr(record, "doi", ""))


def version() -> str:
    """What the bytes are written by: another figfs may name things otherwise, or know other fields."""
    records = (Account, Article, ArticleDetails, Collection, File, Project, PublicFile, _Entry, _Contents)
    fields = [
        (cls.__name__, [(field.name, str(field.type)) for field in msgspec.structs.fields(cls)])
        for cls in records
    ]
    text = repr((FORMAT, figfs.__version__, fields))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
