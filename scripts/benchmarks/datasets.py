"""The accounts that are read: files, and what the Figshare API says about them, as static documents.

A dataset is an account of its own. Its files are in memory (tmpfs), as ``files/<dataset>/<article>/<name>``
for curl and rclone, and by id for the storage that figfs is redirected to.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

MIB = 1 << 20
KIB = 1 << 10
PIECE = 16 * MIB  #: bytes made at once
PAGE = 1000  #: items on a page of a listing; other page sizes are not answered
IN_DETAILS = 10  #: files that an article's details show (quirks L5)
LAST_PAGE = 50  #: a page up to this one, past the last item, is answered by an empty list
DATE = "2026-01-05T10:00:00Z"

BIG = "big"
THOUSAND = "thousand"
TWO_HUNDRED = "twohundred"
TEN_THOUSAND = "tenthousand"
TREE = "tree"
UPLOADS = "uploads"  #: articles without files, to write into; dynamic, see receiver.py

TARGETS = 400  #: articles of ``UPLOADS``: each measurement writes into one of its own
READERS = 16  #: files for readers beside each other
SNIFFED = 3  #: files of which only the first byte is read


@dataclasses.dataclass(frozen=True, slots=True)
class Planned:
    """A file to be made: its article, name and size in bytes."""

    article: str
    name: str
    size: int


def plan(dataset: str, size: int) -> list[Planned]:
    """What is in a dataset; ``size``: bytes of the big file."""
    if dataset == BIG:
        return [
            Planned("Big", "big.bin", size),
            *(Planned("Readers", f"r{n:02}.bin", size // 8) for n in range(READERS)),
            *(Planned("Sniffed", f"s{n}.bin", min(16 * MIB, size)) for n in range(SNIFFED)),
        ]
    if dataset == THOUSAND:
        return [Planned("Files", f"f{n:04}.dat", 10 * KIB) for n in range(1000)]
    if dataset == TWO_HUNDRED:
        return [Planned("Files", f"f{n:04}.dat", 10 * KIB) for n in range(200)]
    if dataset == TEN_THOUSAND:
        return [Planned("Files", f"f{n:05}.dat", 100) for n in range(10_000)]
    if dataset == UPLOADS:
        return []
    if dataset == TREE:
        return [Planned(f"Article {n:03}", "data.csv", 100) for n in range(200)]
    raise ValueError(f"there is no dataset {dataset!r}")


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    id: int
    planned: Planned
    md5: str


class Dataset:
    """A dataset whose files are there."""

    def __init__(self, name: str, files: Sequence[Stored]) -> None:
        self.name = name
        self.files = files
        self.articles = list(dict.fromkeys(file.planned.article for file in files))
        if name == UPLOADS:
            self.articles = [f"Upload {number:03}" for number in range(1, TARGETS + 1)]

    def md5(self, article: str, name: str) -> str:
        return next(f.md5 for f in self.files if (f.planned.article, f.planned.name) == (article, name))


def make(name: str, root: Path, size: int) -> Dataset:
    """Write the files of a dataset below ``root``, with content that depends on dataset and position only."""
    generator = random.Random(name)
    by_id = root / "storage" / name
    by_id.mkdir(parents=True)
    stored = []
    for number, planned in enumerate(plan(name, size), start=1):
        path = root / "files" / name / planned.article / planned.name
        path.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.md5(usedforsecurity=False)
        with path.open("wb") as file:
            for at in range(0, planned.size, PIECE):
                piece = generator.randbytes(min(PIECE, planned.size - at))
                digest.update(piece)
                file.write(piece)
        os.link(path, by_id / str(number))
        stored.append(Stored(number, planned, digest.hexdigest()))
    return Dataset(name, stored)


# -- what the API says ------------------------------------------------------------


def documents(dataset: Dataset, base: str) -> Iterator[tuple[str, object]]:
    """Path below the API's directory of this server, and the JSON there. ``base``: the API's URL."""
    yield (
        "account.json",
        {
            "id": 1,
            "user_id": 1,
            "email": "bench@example.org",
            "first_name": "Bench",
            "last_name": dataset.name,
            "institution_id": 1,
            "group_id": 1,
            "quota": 1 << 40,
            "used_quota": 0,
            "used_quota_private": 0,
            "used_quota_public": 0,
            "maximum_file_size": 1 << 40,
        },
    )
    listed = [_article(base, number, title) for number, title in enumerate(dataset.articles, start=1)]
    yield from _pages("articles", listed)
    for article in listed:
        files = [_file(base, file) for file in dataset.files if file.planned.article == article["title"]]
        details = article | {
            "status": "draft",
            "is_public": False,
            "version": 0,
            "size": sum(
                file.planned.size for file in dataset.files if file.planned.article == article["title"]
            ),
            "files": files[:IN_DETAILS],
            "folder_structure": {},
            "account_id": 1,
        }
        yield f"articles/{article['id']}.json", details
        yield from _pages(f"files/{article['id']}", files)


def _pages(prefix: str, items: Sequence[object]) -> Iterator[tuple[str, object]]:
    for page, at in enumerate(range(0, len(items), PAGE), start=1):
        yield f"{prefix}-{PAGE}-{page}.json", items[at : at + PAGE]


def _article(base: str, number: int, title: str) -> dict[str, object]:
    url = f"{base}/account/articles/{number}"
    return {
        "id": number,
        "title": title,
        "doi": "",
        "handle": "",
        "url": url,
        "url_private_api": url,
        "published_date": None,
        "created_date": DATE,
        "modified_date": DATE,
        "defined_type": 3,
        "defined_type_name": "dataset",
        "group_id": None,
    }


def _file(base: str, file: Stored) -> dict[str, object]:
    return {
        "id": file.id,
        "name": file.planned.name,
        "size": file.planned.size,
        "is_link_only": False,
        "download_url": f"{base}/file/download/{file.id}",
        "supplied_md5": file.md5,
        "computed_md5": file.md5,
        "mimetype": "application/octet-stream",
        "viewer_type": "",
        "preview_state": "preview_not_available",
        "upload_url": "",
        "upload_token": "",
        "is_attached_to_public_version": False,
        "status": "available",
    }


def publish(dataset: Dataset, directory: Path, base: str) -> None:
    """Write the documents of a dataset into ``directory``."""
    for path, document in documents(dataset, base):
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(document), encoding="utf-8")
