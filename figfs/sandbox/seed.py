"""What is in a new sandbox, and articles in bulk. All of it the same every time: ids, dates, contents."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import trio

from figfs.sandbox import history, items, search
from figfs.sandbox.blobs import pattern_md5
from figfs.sandbox.clock import stamp
from figfs.sandbox.members import ACCOUNT, COLLEAGUE
from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Store

TOKEN = "sandbox-token-0001"  # noqa: S105 - opens nothing but a sandbox on this machine


#: First ids; each kind has its own space.
FIRST = {
    "articles": 20000001,
    "projects": 150001,
    "collections": 6000001,
    "files": 40000001,
    "authors": 3000001,
}

#: 2020-01-01: articles in bulk are dated from here, one second apart.
_BULK_EPOCH = 1577836800

_METADATA = {"categories": [24002], "funding": "", "references": []}
_LONG_TITLE = (
    "A very long title, as institutional repositories produce them by joining all that is known of the data: "
    + "; ".join(
        f"station {n}, depth {n * 50} m, salinity, temperature and dissolved oxygen" for n in range(1, 9)
    )
    + " – quality-controlled, second delivery"
)


def empty(sandbox: Sandbox) -> None:
    for kind, first in FIRST.items():
        sandbox.store.first_id(kind, first)


def example(sandbox: Sandbox) -> None:
    """Two projects, a collection, a dozen articles of the account and one of somebody else's."""
    empty(sandbox)
    with sandbox.store.transaction():
        _example(_Writer(sandbox))
    search.index_at_once(sandbox.store)


def _example(write: _Writer) -> None:
    ice = write.project("Glacier mass balance 2019–2023", "2024-01-08T09:00:00Z")
    sea = write.project("Soundscapes of the Wadden Sea", "2024-02-12T10:30:00Z", group_id=ACCOUNT.group_id)

    balance = write.article("Mass balance of Storglaciären, 2019–2023", "2024-01-09T10:15:00Z", ice)
    write.text(
        balance, "README.md", "# Mass balance of Storglaciären\n\nStake readings, one folder a year.\n"
    )
    for year in range(2019, 2024):
        write.text(balance, "stakes.csv", _table(year, 400), f"data/{year}")
    write.made(balance, "density profiles.xlsx", 48_700, "data/pits")
    write.made(balance, "dem_2023.tif", 10_485_761, "rasters")  # one byte more than a part

    photos = write.article("氷河の写真 / Photographs of the ablation area", "2024-01-10T11:00:00Z", ice)
    for n in range(1, 13):  # more than the ten that details show
        write.made(photos, f"IMG_{4710 + n}.JPG", 90_000 + 1_733 * n)

    sound = write.article("Hydrophone recordings, station 3/4", "2024-02-13T08:00:00Z", sea)
    write.made(sound, "2023-07-01T00:00.wav", 30_000_000, "raw/july")
    write.made(sound, "2023-07-02T00:00.wav", 12_000_000, "raw/july")
    write.text(sound, "calibration.txt", "hydrophone 3: -173.2 dB re 1 V/µPa\nhydrophone 4: -172.9 dB\n")
    seals = write.article("Seal vocalisations, annotated", "2024-02-14T08:30:00Z", sea)
    write.text(seals, "labels.csv", _table(7, 60))

    frogs = write.article("Frog calls of the Atlantic forest", "2024-03-01T12:00:00Z")
    first_readme = write.text(frogs, "README.txt", "Recordings of 2019.\n")
    write.made(frogs, "calls_2019.zip", 3_200_000)
    write.publish(frogs, "2024-03-02T09:00:00Z")
    write.withdraw(first_readme)
    write.text(frogs, "README.txt", "Recordings of 2019 and their annotations.\n")
    write.text(frogs, "annotations.csv", _table(3, 250))
    write.publish(frogs, "2024-05-20T14:45:00Z")

    for n, size in ((1, 250_000), (2, 1_500_000)):  # two of one title
        twin = write.article("Supplementary material", f"2024-04-0{n}T10:00:00Z")
        write.made(twin, "supplement.pdf", size)
    fluxes = write.article(
        "H<sub>2</sub>O &amp; CO<sub>2</sub> fluxes <i>in situ</i>", "2024-04-10T10:00:00Z"
    )
    write.text(fluxes, "fluxes.csv", _table(11, 900))
    french = write.article("Données brutes — température à 2 m (été)", "2024-04-11T10:00:00Z")
    write.text(french, "température.csv", _table(12, 300), "été 2023/août")
    write.made(french, "brut.bin", 2_000_000)
    long = write.article(_LONG_TITLE, "2024-04-12T10:00:00Z")
    write.made(long, "ctd.nc", 5_300_000)
    doubles = write.article("Results of run 12", "2024-04-13T10:00:00Z")
    write.text(doubles, "results.csv", _table(1, 40))
    write.text(doubles, "results.csv", _table(2, 41))
    write.text(doubles, "tiny.txt", "x" * 99 + "\n")
    linked = write.article("Sea ice extent (held elsewhere)", "2024-04-14T10:00:00Z")
    write.link(linked, "extent.nc", "https://data.example.org/ice/extent.nc")

    guest = write.article("Airborne radar of the same glacier", "2024-03-15T10:00:00Z", owner=COLLEAGUE.id)
    write.made(guest, "radar.h5", 700_000)
    write.publish(guest, "2024-03-16T10:00:00Z")
    write.collection("Ice and climate: selected data", "2024-05-01T09:00:00Z", [balance, frogs, guest])


def _table(start: int, rows: int) -> str:
    lines = [f"{n},{(n * start * 7919) % 1000 / 10},{(n * 31 + start) % 17}" for n in range(rows)]
    return "n,value,class\n" + "\n".join(lines) + "\n"


class _Writer:
    """Rows with dates of the past."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._store = sandbox.store
        self._stranger = items.new_author(sandbox.store, {"name": "Grace Guest"})

    def project(self, title: str, date: str, *, group_id: int | None = None) -> int:
        return self._store.insert(
            "projects",
            {
                "owner": ACCOUNT.id,
                "title": title,
                "description": "<p>An example.</p>",
                "tags": "[]",
                "group_id": group_id,
                "created": date,
                "modified": date,
                "published": None,
                "metadata": "{}",
            },
        )

    def article(self, title: str, date: str, project_id: int | None = None, owner: int = ACCOUNT.id) -> int:
        author = items.own_author(self._sandbox) if owner == ACCOUNT.id else self._stranger
        metadata = _METADATA | {"authors": [author]}
        return self._store.insert(
            "articles", _article_row(title, date, project_id, metadata) | {"owner": owner}
        )

    def text(self, article_id: int, name: str, content: str, folder: str = "") -> int:
        data = content.encode()
        md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
        file_id = self._file(article_id, name, folder, len(data), md5)
        self._sandbox.blobs.save(file_id, data)
        return file_id

    def made(self, article_id: int, name: str, size: int, folder: str = "") -> int:
        file_id = self._file(article_id, name, folder, size, "")
        md5 = pattern_md5(file_id, size)
        self._store.update("files", file_id, {"supplied_md5": md5, "computed_md5": md5, "pattern": 1})
        return file_id

    def link(self, article_id: int, name: str, url: str) -> int:
        file_id = self._file(article_id, name, "", 0, "")
        self._store.update("files", file_id, {"link": url})
        return file_id

    def _file(self, article_id: int, name: str, folder: str, size: int, md5: str) -> int:
        date = self._store.value("SELECT created FROM articles WHERE id = ?", article_id)
        row = _file_row(article_id, name, size, md5, date) | {"folder": folder}
        return self._store.insert("files", row)

    def withdraw(self, file_id: int) -> None:
        """Out of the draft, not out of the versions that have it."""
        self._store.update("files", file_id, {"draft": 0})

    def publish(self, article_id: int, date: str) -> None:
        _publish(self._store, article_id, date)

    def collection(self, title: str, date: str, article_ids: Sequence[int]) -> None:
        collection_id = self._store.insert(
            "collections",
            {
                "owner": ACCOUNT.id,
                "title": title,
                "description": "",
                "tags": '["ice"]',
                "doi": "",
                "created": date,
                "modified": date,
                "published": None,
                "version": 0,
                "metadata": json.dumps(_METADATA | {"authors": [items.own_author(self._sandbox)]}),
            },
        )
        self._store.run_many(
            "INSERT INTO collection_articles (collection_id, article_id) VALUES (?, ?)",
            [(collection_id, article_id) for article_id in article_ids],
        )


def _publish(store: Store, article_id: int, date: str) -> None:
    """As it was at that date."""
    old = store.row("SELECT * FROM articles WHERE id = ?", article_id)
    assert old is not None
    version = old["version"] + 1
    row = old | {
        "version": version,
        "published": old["published"] or date,
        "modified": date,
        "doi": f"10.6084/m9.figshare.{article_id}.v{version}",
    }
    store.update("articles", article_id, row)
    store.run("INSERT INTO versions VALUES (?, ?, ?)", article_id, version, json.dumps(row))
    store.run(
        "INSERT INTO version_files SELECT article_id, ?, id FROM files WHERE article_id = ? AND draft",
        version,
        article_id,
    )
    store.run("UPDATE files SET public = 1 WHERE article_id = ?", article_id)
    history.record(store, "articles", article_id, "created" if version == 1 else "updated", date)


def _article_row(title: str, date: str, project_id: int | None, metadata: dict[str, Any]) -> dict[str, Any]:
    return {
        "owner": ACCOUNT.id,
        "project_id": project_id,
        "title": title,
        "description": "<p>An example.</p>",
        "tags": '["example"]',
        "defined_type": 3,
        "doi": "",
        "created": date,
        "modified": date,
        "published": None,
        "version": 0,
        "edited": 0,
        "metadata": json.dumps(metadata),
    }


def _file_row(article_id: int, name: str, size: int, md5: str, date: str) -> dict[str, Any]:
    return {
        "article_id": article_id,
        "name": name,
        "folder": "",
        "size": size,
        "link": None,
        "supplied_md5": md5,
        "computed_md5": md5,
        "status": "available",
        "token": "",
        "part_size": 1,
        "completed": 1,
        "created": 0.0,
        "modified": date,
        "draft": 1,
        "public": 0,
        "pattern": 0,
    }


async def bulk(
    sandbox: Sandbox,
    *,
    count: int,
    title: str = "Bulk article",
    project_id: int | None = None,
    files: Sequence[int] = (),
    file_count: int = 0,
    file_size: int = 1000,
    published: bool = False,
) -> list[int]:
    """Make ``count`` drafts (``published``: public articles) and return their ids. Searches find them at
    once; no limit or quota applies.

    Each has files of the sizes in ``files``, then ``file_count`` of ``file_size`` bytes. ``title`` is
    followed by a number. Created one second apart, from 2020-01-01. Contents are computed when read, differ
    between files, and take no space. ValueError for numbers out of bounds and an unknown project.
    """
    sizes = [*files, *[file_size] * file_count]
    if not (0 < count <= 1_000_000 and len(sizes) * count <= 1_000_000 and all(size > 0 for size in sizes)):
        raise ValueError("count, files, file_count or file_size is out of bounds")
    store = sandbox.store
    if project_id is not None and not store.value("SELECT 1 FROM projects WHERE id = ?", project_id):
        raise ValueError(f"there is no project {project_id}")
    # No await until both ranges of ids are taken.
    ids = store.take_ids("articles", count)
    file_ids = store.take_ids("files", count * len(sizes))
    placed = [
        (file_id, ids[n // len(sizes)], n % len(sizes), sizes[n % len(sizes)])
        for n, file_id in enumerate(file_ids)
    ]
    sums = await trio.to_thread.run_sync(
        lambda: [pattern_md5(file_id, size) for file_id, _, _, size in placed]
    )
    metadata = _METADATA | {"authors": [items.own_author(sandbox)]}
    dates = {number: stamp(_BULK_EPOCH + number - FIRST["articles"]) for number in ids}
    article_rows = [
        {"id": number} | _article_row(f"{title} {n:05d}", dates[number], project_id, metadata)
        for n, number in enumerate(ids, 1)
    ]
    file_rows = [
        {"id": file_id}
        | _file_row(article_id, f"file-{n + 1:04d}.bin", size, md5, dates[article_id])
        | {"pattern": 1}
        for (file_id, article_id, n, size), md5 in zip(placed, sums, strict=True)
    ]
    with store.transaction():
        store.insert_all("articles", article_rows)
        store.insert_all("files", file_rows)
        if published:
            for number in ids:
                _publish(store, number, dates[number])
        store.run(
            "INSERT INTO articles_index SELECT * FROM articles WHERE id BETWEEN ? AND ?", ids[0], ids[-1]
        )
    return list(ids)
