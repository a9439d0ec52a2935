"""Listings on disk: what is kept comes back as it was, and nothing that is damaged or foreign does."""

from __future__ import annotations

import logging
import random
import sqlite3
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from figfs.figshare.public import PublicFile
from figfs.figshare.records import Account, Article, ArticleDetails, Collection, File, Project
from figfs.namespace import listingstore
from figfs.namespace.listingfile import kept_account, owner_of
from figfs.namespace.listingformat import decode, encode
from figfs.namespace.listingstore import Kept, ListingStore, open_listing_store
from figfs.namespace.nodes import Key, Kind
from figfs.namespace.sources import Contents, Entry

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
ids = st.integers(1, (1 << 63) - 1) | texts.filter(bool)
times = st.none() | st.floats(0, 1e11)
files = st.builds(
    File,
    id=ids,
    name=texts,
    size=st.integers(0, (1 << 63) - 1),
    computed_md5=texts,
    is_link_only=st.booleans(),
)
public_files = st.builds(PublicFile, id=ids, name=texts, computed_md5=texts)
records = {
    Kind.ARTICLE: st.builds(Article, id=ids, title=texts, modified_date=times, project_id=st.none() | ids),
    Kind.MEMBER: st.builds(Article, id=ids, title=texts),
    Kind.PROJECT: st.builds(Project, id=ids, title=texts, quota=st.none() | st.integers(0, 1 << 60)),
    Kind.COLLECTION: st.builds(Collection, id=ids, title=texts, public=st.none() | st.booleans()),
    Kind.FILE: files,
    Kind.LINK: files,
    Kind.REFERENCE: st.builds(Article, id=ids, title=texts),
    Kind.PUBLIC_FILE: public_files,
    Kind.PUBLIC_LINK: public_files,
}
entries = st.sampled_from(sorted(records)).flatmap(
    lambda kind: st.builds(
        Entry,
        key=st.builds(Key, st.just(kind), ids),
        base=texts,
        record=records[kind],
        time=st.floats(0, 1e11),
        folder=st.lists(texts, max_size=3).map(tuple),
    )
)
details = st.builds(
    ArticleDetails,
    id=ids,
    title=texts,
    files=st.lists(files, max_size=3).map(tuple),
    folder_structure=st.dictionaries(texts, texts, max_size=3),
    modified_date=times,
)
listings = st.builds(
    Contents,
    st.lists(entries, max_size=5),
    st.none() | details,
    record=st.none() | records[Kind.PROJECT] | records[Kind.COLLECTION],
    time=st.floats(0, 1e11),
    answer=st.binary(max_size=40),
)


@given(listings)
def test_what_is_encoded_comes_back(contents: Contents) -> None:
    assert decode(encode(contents, "of"), "of") == contents


@given(listings, st.data())
def test_what_is_damaged_does_not(contents: Contents, data: st.DataObject) -> None:
    """One byte, anywhere, or an end that is missing."""
    good = encode(contents, "of")
    where = data.draw(st.integers(0, len(good) - 1))
    bad = bytearray(good)
    bad[where] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match="checksum"):
        decode(bytes(bad), "of")
    with pytest.raises(ValueError, match="checksum"):
        decode(good[:where], "of")


def test_what_cannot_be_encoded_is_refused() -> None:
    for article in (Article(id=1, title="\ud800"), Article(id=1 << 80)):
        with pytest.raises((ValueError, OverflowError)):
            encode(Contents([Entry(Key(Kind.ARTICLE, 1), "a", article, 0.0)]), "of")


# -- the store ------------------------------------------------------------

ARTICLES = Key(Kind.ARTICLES, 0)
OWNER = owner_of("https://api.example.org/v2", "secret")


def article(number: int) -> Entry:
    return Entry(Key(Kind.ARTICLE, number), f"a{number}", Article(id=number, title=f"a{number}"), 1.0)


def file(number: int) -> Entry:
    return Entry(Key(Kind.FILE, number), f"f{number}", File(id=number, name=f"f{number}"), 1.0)


def kept(*entries: Entry) -> Kept:
    return Kept(Contents(list(entries)), 1000.0, 7.0)


def opened(path: Path) -> ListingStore:
    """A store that the test closes, or does not."""
    store = listingstore._open(path, OWNER)
    assert store is not None
    return store


async def test_it_is_there_at_once_and_in_the_next_mount(tmp_path: Path) -> None:
    path = tmp_path / "listings.db"
    with open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        store.put(ARTICLES, kept(article(5)))
        assert store.get(ARTICLES) == kept(article(5))
        assert store.get(Key(Kind.ARTICLE, 5)) is None
    with open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        assert store.get(ARTICLES) == kept(article(5))


async def test_what_is_gone_from_its_list_is_forgotten(tmp_path: Path) -> None:
    """A project that is gone with the articles in it."""
    path = tmp_path / "listings.db"
    project = Key(Kind.PROJECT, 3)
    listed = Entry(project, "p", Project(id=3, title="p"), 1.0)
    with open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        store.put(Key(Kind.PROJECTS, 0), kept(listed))
        store.put(project, kept(article(5)))
        store.put(Key(Kind.ARTICLE, 5), kept(file(9)))
    with open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        assert store.get(Key(Kind.ARTICLE, 5)) == kept(file(9))
        store.put(Key(Kind.PROJECTS, 0), kept())
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT key FROM listings").fetchall() == [("projects:0",)]
    database.close()


async def test_outdate_is_on_disk_when_it_returns(tmp_path: Path) -> None:
    """Whatever becomes of the process after that: of a row on disk, and of one that was queued."""
    path = tmp_path / "listings.db"
    with open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        store.put(Key(Kind.ARTICLE, 5), kept(file(9)))
    store = opened(path)
    store.put(Key(Kind.ARTICLE, 6), kept(file(10)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        await store.outdate([Key(Kind.ARTICLE, 5), Key(Kind.ARTICLE, 6), Key(Kind.ARTICLE, 7)])
        nursery.cancel_scope.cancel()
    other = opened(path)  # the first was never closed
    for number, of in ((5, file(9)), (6, file(10))):
        assert other.get(Key(Kind.ARTICLE, number)) == kept(of)._replace(outdated=True)
    other.put(Key(Kind.ARTICLE, 5), kept(file(11)))
    assert other.get(Key(Kind.ARTICLE, 5)) == kept(file(11))
    other.close()
    store.close()


# -- public items ------------------------------------------------------------


def public(name: str, *, doi: str = "", kind: Kind = Kind.PUBLIC_ARTICLE, size: int = 0) -> tuple[Key, Kept]:
    """A version lasts."""
    details = ArticleDetails(id=7, doi=doi)
    contents = Contents([], details, answer=b"x" * size)
    return Key(kind, name), Kept(contents, 1000.0, None, lasting=".v" in name)


async def test_public_items_by_doi_and_by_version(tmp_path: Path) -> None:
    """At once, and in the next mount."""
    path = tmp_path / "listings.db"
    with open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        for key, kept_ in (public("7", doi="10.1/A.7"), public("7.v2", doi="10.1/a.7.v2"), public("7.v10"),
                           public("77.v3", doi="10.1/a.77.v3")):  # fmt: skip
            store.put(key, kept_)
        for _ in range(2):
            assert store.with_doi("10.1/a.7") == {public("7")[0], public("7.v2")[0]}
            assert store.with_doi("10.1/a.8") == set()
            assert store.versions(7) == [2, 10]
            assert store.versions(78) == []
            await written(store)
    with open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        assert store.get(Key(Kind.PUBLIC_ARTICLE, "7.v2")) == public("7.v2", doi="10.1/a.7.v2")[1]
        assert store.with_doi("10.1/a.77") == {Key(Kind.PUBLIC_ARTICLE, "77.v3")}
        store.drop(Key(Kind.PUBLIC_ARTICLE, "7.v2"))
        for _ in range(2):
            assert store.get(Key(Kind.PUBLIC_ARTICLE, "7.v2")) is None
            assert store.versions(7) == [10]
            assert store.with_doi("10.1/a.7") == {public("7")[0]}
            await written(store)


async def written(store: ListingStore) -> None:
    """What is queued is on the disk on return."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        store.put_account(Account(id=1))
        store._urgent.set()
        await store._next.done.wait()
        nursery.cancel_scope.cancel()


async def test_of_public_items_the_least_recently_used_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Own listings stay, whatever they take."""
    size = len(encode(public("7.v1", size=1000)[1].contents, "of"))
    monkeypatch.setattr(listingstore, "MOST_PUBLIC", 3 * size + size // 2)
    path = tmp_path / "listings.db"
    keys = [Key(Kind.PUBLIC_ARTICLE, f"{number}.v1") for number in range(1, 4)]
    with open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        store.put(ARTICLES, kept(*map(article, range(200))))
        for key in keys:
            store.put(key, public("7.v1", size=1000)[1])
        await written(store)
        assert store.get(keys[0]) is not None
        await written(store)
    with open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        store.put(Key(Kind.PUBLIC_ARTICLE, "4.v1"), public("7.v1", size=1000)[1])
        await written(store)
        assert [store.get(key) is None for key in keys] == [False, True, False]
        assert store.get(ARTICLES) is not None
        store.put(Key(Kind.PUBLIC_ARTICLE, "5.v1"), public("7.v1", size=9000)[1])
        await written(store)
        assert store.get(Key(Kind.PUBLIC_ARTICLE, "5.v1")) is None
        assert store.get(ARTICLES) is not None


async def test_versions_outlive_a_power_cut(tmp_path: Path) -> None:
    """They cannot have got out of date."""
    path = tmp_path / "listings.db"
    with open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        for name in ("7", "7.v1"):
            store.put(*public(name))
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO meta VALUES ('open', 'another start of the machine')")
    database.close()
    with open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        assert store.get(Key(Kind.PUBLIC_ARTICLE, "7")) is None
        assert store.get(Key(Kind.PUBLIC_ARTICLE, "7.v1")) == public("7.v1")[1]


# -- what is of no use ------------------------------------------------------------


async def test_a_damaged_row_is_not_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "listings.db"
    with open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        store.put(ARTICLES, kept(article(5)))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE listings SET contents = substr(contents, 1, length(contents) - 1)")
    database.close()
    with caplog.at_level(logging.WARNING), open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        assert store.get(ARTICLES) is None
        assert store.get(ARTICLES) is None
    assert len(caplog.records) == 1
    with sqlite3.connect(path) as database:
        assert database.execute("SELECT * FROM listings").fetchall() == []
    database.close()


async def test_a_row_that_is_found_by_another_key_is_not_used(tmp_path: Path) -> None:
    """What a row says beside its contents counts as well: it would be believed for good."""
    path = tmp_path / "listings.db"
    with open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        for number in range(1, 5):
            store.put(*public(f"{number}.v1"))
    with sqlite3.connect(path) as database:
        database.execute("UPDATE listings SET key = 'public_article:9.v1' WHERE key = 'public_article:1.v1'")
        database.execute("UPDATE listings SET lasting = 0 WHERE key = 'public_article:2.v1'")
        database.execute("UPDATE listings SET fetched = 7 WHERE key = 'public_article:3.v1'")
    database.close()
    with open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        found = [store.get(Key(Kind.PUBLIC_ARTICLE, f"{number}.v1")) is not None for number in (9, 2, 3, 4)]
    assert found == [False, False, False, True]


@pytest.mark.parametrize("seed", range(4))
async def test_a_damaged_file_is_a_miss(tmp_path: Path, seed: int) -> None:
    """Bytes of any kind anywhere: what is given out is what was kept, and nothing is raised."""
    path = tmp_path / "listings.db"
    rows = {Key(Kind.ARTICLE, number): kept(file(number)) for number in range(1, 30)}
    rows |= dict(public(f"{number}.v1", doi=f"10.1/a.{number}", size=9 * number) for number in range(1, 30))
    with open_listing_store(path, owner=OWNER, account=7) as store:
        assert store is not None
        for key, listing in rows.items():
            store.put(key, listing)
        store.put_account(Account(id=7))
    good, chance = path.read_bytes(), random.Random(seed)
    for _ in range(50):
        bad = bytearray(good)
        for _ in range(chance.choice([1, 1, 3, 50, 4096])):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        path.write_bytes(bad[: chance.choice([len(bad), len(bad), chance.randrange(len(bad))])])
        assert kept_account(path, owner=OWNER) in (None, Account(id=7))
        with open_listing_store(path, owner=OWNER, account=7) as store:
            assert store is not None
            for key, listing in rows.items():
                found = store.get(key)
                assert found is None or found._replace(outdated=False) == listing
            store.collections(), store.versions(5), store.with_doi("10.1/a.5")
            store.put(*public("99.v1"))
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


@pytest.mark.parametrize("how", ["garbage", "version", "power cut", "tables"])
async def test_what_is_of_no_use_is_made_anew(
    tmp_path: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "listings.db"
    with open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        store.put(ARTICLES, kept(article(5)))
    if how == "garbage":
        path.write_bytes(b"x" * 100_000)
    else:
        with sqlite3.connect(path) as database:
            if how == "version":
                database.execute("UPDATE meta SET value = 'another' WHERE name = 'version'")
            elif how == "power cut":
                database.execute("INSERT INTO meta VALUES ('open', 'another start of the machine')")
            else:
                database.execute("DROP TABLE listings")
                database.execute("CREATE TABLE listings (x)")
        database.close()
    with caplog.at_level(logging.INFO), open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        assert store.get(ARTICLES) is None
        store.put(ARTICLES, kept(article(6)))
    assert len(caplog.records) == 1
    with open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        assert store.get(ARTICLES) == kept(article(6))


async def test_listings_of_another_account_are_thrown_away(tmp_path: Path) -> None:
    """In a state directory that was named for two of them."""
    path = tmp_path / "listings.db"
    with open_listing_store(path, owner=OWNER, account=1) as store:
        assert store is not None
        store.put(ARTICLES, kept(article(5)))
        store.put_account(Account(id=1))
    with open_listing_store(path, owner=OWNER, account=1) as store:
        assert store is not None
        assert store.get(ARTICLES) is not None
    with open_listing_store(path, owner=OWNER, account=2) as store:
        assert store is not None
        assert store.get(ARTICLES) is None
    assert kept_account(path, owner=OWNER) is None


async def test_after_a_crash_of_the_process_it_is_used(tmp_path: Path) -> None:
    path = tmp_path / "listings.db"
    with open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        store.put(ARTICLES, kept(article(5)))
    crashed = opened(path)
    with open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        assert store.get(ARTICLES) == kept(article(5))
    crashed.close()


async def test_without_a_disk_nothing_is_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No place for the file: none. A file that fails later: its remains go: they would get out of date."""
    with open_listing_store(tmp_path / "no" / "such" / "directory", owner=OWNER) as store:
        assert store is None
    path = tmp_path / "listings.db"
    store = opened(path)
    store.put(ARTICLES, kept(article(5)))
    with sqlite3.connect(path) as database:
        database.execute("DROP TABLE listings")
    database.close()
    caplog.clear()
    store.close()
    assert not path.exists()
    assert ["not kept on disk any more" in record.getMessage() for record in caplog.records] == [True]


async def test_the_account_is_told_by_the_token_only(tmp_path: Path) -> None:
    path = tmp_path / "listings.db"
    account = Account(id=7, email="ada@example.org", quota=100)
    assert kept_account(path, owner=OWNER) is None
    with open_listing_store(path, owner=OWNER) as store:
        assert store is not None
        store.put_account(account)
    assert kept_account(path, owner=OWNER) == account
    assert kept_account(path, owner=owner_of("https://api.example.org/v2", "other")) is None
    assert kept_account(path, owner=owner_of("https://other.example.org/v2", "secret")) is None
    assert b"secret" not in path.read_bytes()
    path.write_bytes(b"x" * 5000)
    assert kept_account(path, owner=OWNER) is None
