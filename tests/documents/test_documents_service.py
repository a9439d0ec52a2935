"""The documents of ``.figshare``, made from and written to a sandbox."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
from collections.abc import AsyncIterator
from typing import Any
from xml.etree import ElementTree as ET

import httpx
import pytest
import trio
from hostile import ODD
from hypothesis import given, settings
from hypothesis import strategies as st
from inprocess import BASE, Wire, errno_of
from test_documents_rendering import check_crate
from trio.testing import MockClock

from figfs.documents import institution
from figfs.documents.entries import Entry, Item, Seen
from figfs.documents.items import KEPT, RECORD_KEPT
from figfs.documents.service import FigshareDocuments
from figfs.errors import Changed, FigfsError, Forbidden, Invalid, UnknownOutcome
from figfs.figshare.client import Client, open_client
from figfs.sandbox.app import make_app, open_sandbox
from figfs.sandbox.state import Sandbox
from figfs.settings import Token

# Of the example account.
FROGS = Item("article", 20000005, public=False)
PUBLIC_FROGS = dataclasses.replace(FROGS, public=True)
FIRST_FROGS = dataclasses.replace(FROGS, public=True, version=1)
DRAFT = Item("article", 20000006, public=False)
IN_PROJECT = Item("article", 20000001, public=False, project_id=150001)
MANY = Item("article", 20000002, public=False, project_id=150001)
TWINS = Item("article", 20000011, public=False)
PROJECT = Item("project", 150001, public=False)
COLLECTION = Item("collection", 6000001, public=False)
ROOT = Item("root", 0, public=False)

OAI = ["oai_dc", "oai_datacite", "qdc", "rdf", "cerif", "mets", "uketd_dc"]
CITATIONS = ["citation.txt", "citation.bib", "citation.ris", "citation.cff"]


@dataclasses.dataclass
class Desk:
    """The documents, what they are made from, and what was asked."""

    documents: FigshareDocuments
    sandbox: Sandbox
    wire: Wire
    client: Client
    changed: list[Item]

    async def names(self, item: Item, directory: str = "") -> list[str]:
        return [entry.name for entry in await self.documents.entries(item, directory)]

    async def json(self, item: Item, path: str = "metadata.json") -> object:
        return json.loads(await self.documents.read(item, path))

    async def edit(self, item: Item, **fields: object) -> None:
        """As an editor does: read, change, write back."""
        base = await self.documents.read(item, "metadata.json")
        new = json.dumps(json.loads(base) | fields).encode()
        await self.documents.write(item, "metadata.json", new, Seen(base))


@contextlib.asynccontextmanager
async def _desk(token: bool = True) -> AsyncIterator[Desk]:
    async with open_sandbox(seed="example", base_url=BASE) as sandbox:
        wire = Wire(sandbox)
        given = Token(sandbox.token) if token else None
        async with open_client(api=f"{BASE}/v2", token=given, rate=0, transport=wire) as client:
            documents = FigshareDocuments(client=client, status=_status)
            changed: list[Item] = []
            documents.on_changed = changed.append
            yield Desk(documents, sandbox, wire, client, changed)


async def _status() -> object:
    return {"uploads": []}


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with _desk() as opened:
        yield opened


# -- what is there -----------------------------------------------------------------


async def test_what_is_in_each(desk: Desk) -> None:
    """Records of OAI-PMH and statistics of what is public only; links and notes of what is one's own."""
    every = ["metadata.json", *CITATIONS, "ro-crate-metadata.json"]
    article = [*every, "md5sums", "versions"]
    public = ["stats.json", *(f"{prefix}.xml" for prefix in OAI)]
    assert await desk.names(DRAFT) == [*article, "links.json", "links"]
    assert await desk.names(FROGS) == [*article, *public, "links.json", "links"]
    assert await desk.names(PUBLIC_FROGS) == [*article, *public]
    assert await desk.names(COLLECTION) == [*every, "links.json", "links"]
    assert await desk.names(PROJECT) == [*every, "collaborators.json", "notes"]
    root = ["account.json", "quota.json", "licenses.json", "categories.json", "status.json"]
    assert await desk.names(ROOT) == root


@pytest.mark.parametrize("item", [ROOT, FROGS, FIRST_FROGS, IN_PROJECT, PROJECT, COLLECTION])
async def test_all_that_is_listed_can_be_read(item: Item, desk: Desk) -> None:
    for entry in await desk.documents.entries(item, ""):
        if entry.kind == "file":
            assert await desk.documents.read(item, entry.name), entry.name
        else:
            await desk.documents.entries(item, entry.name)


async def test_what_is_not_there(desk: Desk) -> None:
    for item, path in (
        (DRAFT, "stats.json"),
        (DRAFT, "oai_dc.xml"),
        (DRAFT, "nothing.txt"),
        (PROJECT, "md5sums"),
        (PUBLIC_FROGS, "links.json"),
        (ROOT, "metadata.json"),
        (PROJECT, "notes/99 x.txt"),
        (PROJECT, "notes/.."),
        (FROGS, "links/x.json"),
        (FROGS, "notes/1.txt"),
        (Item("article", 1, public=False), "metadata.json"),
    ):
        with errno_of(errno.ENOENT):
            await desk.documents.read(item, path)
    for item, directory in ((DRAFT, "notes"), (PROJECT, "versions"), (PUBLIC_FROGS, "links")):
        with errno_of(errno.ENOENT):
            await desk.documents.entries(item, directory)


async def test_one_request_for_what_is_made_of_one(desk: Desk) -> None:
    """``cat citation.*`` and the crate after ``ls`` ask nothing more."""
    await desk.documents.entries(FROGS, "")
    for name in (*CITATIONS, "md5sums", "ro-crate-metadata.json"):
        await desk.documents.read(FROGS, name)
    assert desk.wire.asked == ["GET /v2/account/articles/20000005"]


async def test_a_version_is_asked_for_once(clock: MockClock) -> None:
    """It never changes, so nothing of it is ever old."""
    async with _desk() as desk:
        for _ in range(3):
            await desk.documents.read(FIRST_FROGS, "metadata.json")
            await desk.documents.read(FIRST_FROGS, "citation.txt")
            await trio.sleep(KEPT * 2)
        assert desk.wire.asked == ["GET /v2/articles/20000005/versions/1"]


async def test_what_other_services_say_is_kept(clock: MockClock) -> None:
    """``ls -l`` twice in an hour asks once for the records of OAI-PMH and the statistics; unless the item was
    changed, or is to be looked at anew.
    """
    async with _desk() as desk:
        for again in range(3):
            if again == 2:
                desk.documents.forget(FROGS)
            for name in (*(f"{prefix}.xml" for prefix in OAI), "stats.json"):
                await desk.documents.read(PUBLIC_FROGS, name)
            await trio.sleep(RECORD_KEPT / 4)
            assert desk.wire.count("GET", "/oai$") == len(OAI) * (2 if again == 2 else 1)
            assert desk.wire.count("GET", "/total/") == 3 * (2 if again == 2 else 1)


async def test_without_a_token() -> None:
    """Public items have all their documents; the root has what is not the account's."""
    async with _desk(token=False) as desk:
        for entry in await desk.documents.entries(PUBLIC_FROGS, ""):
            if entry.kind == "file":
                assert await desk.documents.read(PUBLIC_FROGS, entry.name)
        assert await desk.names(ROOT) == ["licenses.json", "categories.json", "status.json"]
        for name in await desk.names(ROOT):
            assert await desk.documents.read(ROOT, name)
        with errno_of(errno.ENOENT):
            await desk.documents.read(ROOT, "account.json")


@pytest.mark.parametrize("item", [PROJECT, COLLECTION])
async def test_public_projects_and_collections(item: Item, desk: Desk) -> None:
    """All that is listed can be read; nothing of the owner's is there."""
    desk.sandbox.store.run(
        f"UPDATE {item.kind}s SET published = '2024-06-01T00:00:00Z' WHERE id = ?", item.id
    )
    if item.kind == "collection":
        desk.sandbox.store.run("UPDATE collections SET version = 1 WHERE id = ?", item.id)
    public = dataclasses.replace(item, public=True)
    found = await desk.names(public)
    assert found == ["metadata.json", *CITATIONS, "ro-crate-metadata.json", "stats.json"]
    for name in found:
        assert await desk.documents.read(public, name), name


# -- reading -----------------------------------------------------------------------


async def test_metadata_as_the_api_gives_it(desk: Desk) -> None:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=make_app(desk.sandbox)), base_url=BASE
    ) as api:
        given = (await api.get("/v2/articles/20000005/versions/1")).json()
    text = (await desk.documents.read(FIRST_FROGS, "metadata.json")).decode()
    assert json.loads(text) == given
    assert text.startswith('{\n  "authors": [\n')


async def test_md5sums(desk: Desk) -> None:
    """Of all files, in their folders and by their names here, also past the ten that details show."""
    sums = (await desk.documents.read(MANY, "md5sums")).decode()
    assert sums.count("\n") == 12
    sums = (await desk.documents.read(IN_PROJECT, "md5sums")).decode()
    assert "  data/2019/stakes.csv\n" in sums
    sums = (await desk.documents.read(TWINS, "md5sums")).decode()
    assert [row[34:] for row in sums.splitlines()] == ["results [40000036].csv", "results.csv", "tiny.txt"]


async def test_citations(desk: Desk) -> None:
    bib = (await desk.documents.read(FROGS, "citation.bib")).decode()
    assert bib.startswith("@misc{sandbox_2024_20000005,\n")
    assert (
        "10.6084/m9.figshare.20000005.v1" in (await desk.documents.read(FIRST_FROGS, "citation.ris")).decode()
    )


async def test_ro_crate(desk: Desk) -> None:
    entities = check_crate(await desk.documents.read(IN_PROJECT, "ro-crate-metadata.json"))
    assert entities["rasters/dem_2023.tif"]["contentSize"] == "10485761"
    entities = check_crate(await desk.documents.read(COLLECTION, "ro-crate-metadata.json"))
    assert (
        entities["https://doi.org/10.6084/m9.figshare.20000005.v2"]["name"]
        == "Frog calls of the Atlantic forest"
    )
    check_crate(await desk.documents.read(PROJECT, "ro-crate-metadata.json"))


@pytest.mark.parametrize("prefix", OAI)
async def test_oai_records(prefix: str, desk: Desk) -> None:
    answer = ET.fromstring(await desk.documents.read(PUBLIC_FROGS, f"{prefix}.xml"))
    assert "Frog calls" in ET.tostring(answer, encoding="unicode")


async def test_what_oai_refuses(desk: Desk) -> None:
    """The protocol's errors come with 200; here they are errors. So is a page that is no XML."""
    with errno_of(errno.ENOENT):
        await desk.documents.read(dataclasses.replace(DRAFT, public=True), "oai_dc.xml")
    desk.sandbox.faults.replace([{"role": "oai", "action": "html"}])
    with errno_of(errno.EIO):
        await desk.documents.read(PUBLIC_FROGS, "oai_dc.xml")


async def test_statistics(desk: Desk) -> None:
    stats = await desk.json(PUBLIC_FROGS, "stats.json")
    assert isinstance(stats, dict)
    assert list(stats) == ["downloads", "shares", "views"]
    assert all(isinstance(total, int) for total in stats.values())
    # An unknown item is an empty result (api.md §10): not known, not nothing.
    unknown = dataclasses.replace(PUBLIC_FROGS, id=1)
    desk.documents._items._metadata[unknown] = {"is_public": True}
    assert await desk.json(unknown, "stats.json") == {"downloads": None, "shares": None, "views": None}
    desk.documents.forget(PUBLIC_FROGS)
    desk.sandbox.faults.replace([{"role": "stats", "action": "status", "status": 404}])
    with errno_of(errno.ENOENT):
        await desk.documents.read(PUBLIC_FROGS, "stats.json")


async def test_versions(desk: Desk) -> None:
    assert await desk.documents.entries(FROGS, "versions") == [
        Entry("1", "link", target="public/articles/20000005.v1"),
        Entry("2", "link", target="public/articles/20000005.v2"),
    ]
    assert await desk.documents.entries(DRAFT, "versions") == []


async def test_the_root(desk: Desk) -> None:
    account = await desk.json(ROOT, "account.json")
    assert isinstance(account, dict)
    assert account["email"] == "ada@example.org"
    assert desk.sandbox.token not in json.dumps(account)
    assert await desk.json(ROOT, "quota.json") == {
        name: account[name]
        for name in ("quota", "used_quota", "used_quota_private", "used_quota_public", "maximum_file_size")
    }
    assert await desk.json(ROOT, "status.json") == {"uploads": []}


# -- changing metadata -------------------------------------------------------------


@pytest.mark.parametrize("item", [DRAFT, IN_PROJECT, PROJECT, COLLECTION])
async def test_a_title(item: Item, desk: Desk) -> None:
    """Only what changed is sent, by PATCH; the tree is told that a name may have changed."""
    await desk.edit(item, title="Another title")
    shown = await desk.json(item)
    assert isinstance(shown, dict)
    assert shown["title"] == "Another title"
    assert desk.changed == [item]
    assert desk.wire.count("PATCH", f"/account/{item.kind}s/{item.id}$") == 1


async def test_many_fields(desk: Desk) -> None:
    """In the shapes in which they are shown, or in those in which Figshare takes them."""
    await desk.edit(
        DRAFT,
        keywords=["ice", "snow"],
        license=2,
        categories=[24002, {"id": 23001}],
        authors=[{"id": 2000001}, {"name": "Jo Doe"}],
        defined_type_name="software",
        references=["https://example.org/paper"],
        funding_list=[{"title": "A grant"}],
    )
    shown = await desk.json(DRAFT)
    assert isinstance(shown, dict)
    assert shown["keywords"] == shown["tags"] == ["ice", "snow"]
    assert shown["license"]["name"] == "CC0"
    assert [category["id"] for category in shown["categories"]] == [24002, 23001]
    assert [author["full_name"] for author in shown["authors"]] == ["Ada Sandbox", "Jo Doe"]
    assert shown["defined_type_name"] == "software"
    assert shown["funding_list"][0]["title"] == "A grant"


async def test_what_is_there_stays_beside_what_is_added(desk: Desk) -> None:
    """Grants go by id or by title, never both; authors by id, also where ids come as texts."""
    await desk.edit(DRAFT, funding_list=["One"])
    for name, new in (("funding_list", {"title": "Two"}), ("authors", {"name": "B C"})):
        before = await desk.json(DRAFT)
        assert isinstance(before, dict)
        await desk.edit(DRAFT, **{name: [*before[name], new]})
        shown = await desk.json(DRAFT)
        assert isinstance(shown, dict)
        assert shown[name][:-1] == before[name] != []
        with pytest.raises(Invalid, match="cannot be changed"):
            await desk.edit(DRAFT, **{name: [shown[name][0] | {"url": "x", "url_name": "x"}, shown[name][1]]})


async def test_custom_fields(desk: Desk) -> None:
    """Changed, or emptied by leaving one out; the others stay."""
    row = desk.sandbox.store.row("SELECT metadata FROM articles WHERE id = ?", DRAFT.id)
    assert row is not None
    fields = [{"name": name, "value": name, "field_type": "text"} for name in ("a", "b", "c")]
    desk.sandbox.store.update(
        "articles",
        DRAFT.id,
        {"metadata": json.dumps(json.loads(row["metadata"]) | {"custom_fields": fields})},
    )
    await desk.edit(DRAFT, custom_fields=[fields[0] | {"value": ["1", "2"]}, fields[2]])
    shown = await desk.json(DRAFT)
    assert isinstance(shown, dict)
    assert [field["value"] for field in shown["custom_fields"]] == [["1", "2"], "", "c"]
    await desk.edit(DRAFT, custom_fields={"c": "d"})
    shown = await desk.json(DRAFT)
    assert isinstance(shown, dict)
    assert [field["value"] for field in shown["custom_fields"]] == [["1", "2"], "", "d"]
    with pytest.raises(Invalid, match="no custom field x"):  # Figshare's own words
        await desk.edit(DRAFT, custom_fields={"x": "y"})


async def test_nothing_changed_sends_nothing(desk: Desk) -> None:
    await desk.edit(DRAFT)
    assert {line.partition(" ")[0] for line in desk.wire.asked} == {"GET"}
    assert desk.changed == []


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"title": "ab"}, "3 to 1,000"),
        ({"license": 99}, "no licence"),
        ({"categories": [26001]}, "no category"),
        ({"categories": [23000]}, "no category"),
        ({"size": 1}, "cannot be changed"),
        ({"defined_type": "opera"}, "defined_type"),  # Figshare's own words
    ],
)
async def test_refused_values(fields: dict[str, object], word: str, desk: Desk) -> None:
    """EINVAL with a reason; what is there stays. Neither a heading nor one of the public list will do."""
    before = await desk.json(DRAFT)
    with pytest.raises(Invalid, match=word):
        await desk.edit(DRAFT, **fields)
    assert await desk.json(DRAFT) == before


async def test_broken_json(desk: Desk) -> None:
    with pytest.raises(Invalid, match="line 1, column 11"):
        await desk.documents.write(DRAFT, "metadata.json", b'{"title": }', Seen())
    assert desk.wire.asked == []


async def test_changed_meanwhile(desk: Desk) -> None:
    """ESTALE and nothing overwritten; after reading again it works."""
    base = await desk.documents.read(DRAFT, "metadata.json")
    async with open_client(
        api=f"{BASE}/v2", token=Token(desk.sandbox.token), rate=0, transport=Wire(desk.sandbox)
    ) as other:
        await FigshareDocuments(client=other, status=_status).write(
            DRAFT, "metadata.json", b'{"description": "Theirs"}', Seen()
        )
    new = json.dumps(json.loads(base) | {"title": "Ours, later"}).encode()
    with pytest.raises(Changed, match="description"):
        await desk.documents.write(DRAFT, "metadata.json", new, Seen(base))
    assert desk.wire.count("PATCH", "") == 0
    await desk.edit(DRAFT, title="Ours, later")
    shown = await desk.json(DRAFT)
    assert isinstance(shown, dict)
    assert (shown["title"], shown["description"]) == ("Ours, later", "Theirs")


async def test_an_editor_writes_again(desk: Desk) -> None:
    """What was written last stands for what Figshare made of it: no reading in between is needed, until
    somebody else has changed it.
    """
    base = await desk.documents.read(DRAFT, "metadata.json")
    first = json.dumps(json.loads(base) | {"title": "First", "license": 2}).encode()
    await desk.documents.write(DRAFT, "metadata.json", first, Seen(base))
    second = first.replace(b"First", b"Second")
    await desk.documents.write(DRAFT, "metadata.json", second, Seen(first))
    third = second.replace(b"Second", b"Third")
    desk.sandbox.store.run("UPDATE articles SET description = 'Theirs' WHERE id = ?", DRAFT.id)
    with pytest.raises(Changed, match="description"):
        await desk.documents.write(DRAFT, "metadata.json", third, Seen(second))
    shown = await desk.json(DRAFT)
    assert isinstance(shown, dict)
    assert (shown["title"], shown["license"]["value"]) == ("Second", 2)


async def test_a_copy_of_something_older(desk: Desk) -> None:
    """Who has read nothing here writes what is of now, or it is told by its date of modification."""
    old = await desk.documents.read(DRAFT, "metadata.json")
    await desk.documents.write(DRAFT, "metadata.json", b'{"title": "By echo"}', Seen())
    await desk.documents.write(DRAFT, "metadata.json", b'{"title": "Again"}', Seen(b'{"title": "By echo"}'))
    with pytest.raises(Changed, match="since this copy"):
        await desk.documents.write(DRAFT, "metadata.json", old.replace(b"example", b"other"), Seen())


@pytest.mark.parametrize("without", [(), ("modified_date",), ("modified_date", "created_date", "url")])
async def test_two_changes_of_one_reading(without: tuple[str, ...], desk: Desk) -> None:
    """The first counts. The second says what was there before it, and is refused, whatever was read in
    between by whom: a copy of a document tells what it was made from, also without its dates.
    """
    read = await desk.documents.read(DRAFT, "metadata.json")
    first, second = (
        json.dumps(
            {name: value for name, value in (json.loads(read) | fields).items() if name not in without}
        ).encode()
        for fields in ({"description": "First"}, {"tags": ["second"], "keywords": ["second"]})
    )
    await desk.documents.write(DRAFT, "metadata.json", first, Seen(None, (read,)))
    again = await desk.documents.read(DRAFT, "metadata.json")
    for seen in (Seen(None, (read,)), Seen(None, (again, read)), Seen(None, (read, again))):
        with pytest.raises(Changed, match="description"):
            await desk.documents.write(DRAFT, "metadata.json", second, seen)
    shown = await desk.json(DRAFT)
    assert isinstance(shown, dict)
    assert (shown["description"], shown["tags"]) == ("First", ["example"])
    # Who has read it anew goes on.
    third = json.dumps(json.loads(again) | {"tags": ["third"], "keywords": ["third"]}).encode()
    await desk.documents.write(DRAFT, "metadata.json", third, Seen(None, (again, read)))
    assert desk.wire.count("PATCH", "") == 2


async def test_the_same_change_twice(desk: Desk) -> None:
    """A change that was carried out though its answer was lost is no obstacle to itself."""
    read = await desk.documents.read(DRAFT, "metadata.json")
    new = json.dumps(json.loads(read) | {"description": "Ours"}).encode()
    for _ in range(2):
        await desk.documents.write(DRAFT, "metadata.json", new, Seen(read))


async def test_what_was_left_out_cannot_be_lost(desk: Desk) -> None:
    """A few fields, after another one has changed; not after one of these has."""
    read = await desk.documents.read(DRAFT, "metadata.json")
    await desk.documents.write(DRAFT, "metadata.json", b'{"description": "Theirs"}', Seen())
    await desk.documents.write(DRAFT, "metadata.json", b'{"license": 2}', Seen(None, (read,)))
    with pytest.raises(Changed, match="description"):
        await desk.documents.write(DRAFT, "metadata.json", b'{"description": "Ours"}', Seen(None, (read,)))


async def test_a_few_fields(desk: Desk) -> None:
    """``echo '{"title": …}' > metadata.json``: what is left out stays."""
    await desk.documents.write(DRAFT, "metadata.json", b'{"title": "By echo"}', Seen())
    shown = await desk.json(DRAFT)
    assert isinstance(shown, dict)
    assert shown["title"] == "By echo"
    assert shown["tags"] == ["example"]


async def test_what_cannot_be_written(desk: Desk) -> None:
    for item, path, number in (
        (PUBLIC_FROGS, "metadata.json", errno.EROFS),
        (DRAFT, "md5sums", errno.EPERM),
        (ROOT, "account.json", errno.EPERM),
        (PROJECT, "collaborators.json", errno.EPERM),
    ):
        with errno_of(number):
            await desk.documents.write(item, path, b"x", Seen())
        with errno_of(number):
            await desk.documents.remove(item, path)
    with errno_of(errno.EPERM):
        await desk.documents.create(DRAFT, "mine.txt", b"x")


_WORDS = st.text(min_size=1, max_size=20) | st.sampled_from(ODD)
_EDITS = st.fixed_dictionaries(
    {},
    optional={
        "title": st.text(min_size=3, max_size=40) | _WORDS | st.none(),
        "description": _WORDS | st.none(),
        "keywords": st.lists(_WORDS, max_size=4),
        "license": st.integers(0, 7) | st.fixed_dictionaries({"value": st.integers(1, 6)}),
        "categories": st.lists(st.sampled_from((23000, 23001, 24002, 26001)), max_size=3),
        "authors": st.lists(st.fixed_dictionaries({"name": _WORDS}) | st.just({"id": 2000001}), max_size=3),
        "references": st.lists(st.sampled_from(("https://example.org/x", "no address", "")), max_size=2),
        "defined_type_name": st.sampled_from(("software", "dataset", "opera", "")),
        "resource_doi": _WORDS | st.none(),
    },
)


@given(_EDITS)
@settings(max_examples=25)
def test_any_edit(fields: dict[str, Any]) -> None:
    """Either Figshare has it all afterwards, or a reason was given and Figshare has what it had."""
    trio.run(_edit_and_look, fields)


async def _edit_and_look(fields: dict[str, Any]) -> None:
    async with _desk() as desk:
        before = await desk.json(DRAFT)
        assert isinstance(before, dict)
        try:
            await desk.edit(DRAFT, **fields)
        except FigfsError:
            assert await desk.json(DRAFT) == before
            return
        shown = await desk.json(DRAFT)
        assert isinstance(shown, dict)
        for name in ("title", "description", "keywords", "defined_type_name", "resource_doi"):
            given = fields.get(name, before[name])
            assert shown[name] == given or (given is None and not shown[name])
        if "authors" in fields and fields["authors"] != before["authors"]:
            assert len(shown["authors"]) == len(fields["authors"])
        for name in before.keys() - fields.keys() - {"modified_date", "tags", "citation", "defined_type"}:
            assert shown[name] == before[name], name


# -- notes and links -----------------------------------------------------------------


async def test_notes(desk: Desk) -> None:
    """Made, listed by what they say, read, changed, removed."""
    await desk.documents.create(PROJECT, "notes/idea.txt", b"Read the stakes twice.\nBoth of them.\n")
    [name] = await desk.names(PROJECT, "notes")
    assert name == "1 Read the stakes twice. Both of them.txt"
    base = await desk.documents.read(PROJECT, f"notes/{name}")
    assert base == b"Read the stakes twice.\nBoth of them.\n"
    await desk.documents.write(PROJECT, f"notes/{name}", base, Seen(base))
    assert desk.wire.count("PUT", "/notes/") == 0
    await desk.documents.write(PROJECT, f"notes/{name}", b"Once", Seen(base))
    await desk.documents.write(PROJECT, f"notes/{name}", b"Once.", Seen(b"Once"))
    assert await desk.names(PROJECT, "notes") == ["1 Once.txt"]
    with pytest.raises(Changed):
        await desk.documents.write(PROJECT, f"notes/{name}", b"Thrice.\n", Seen(base))
    with pytest.raises(Invalid):
        await desk.documents.create(PROJECT, "notes/short.txt", b"no")
    await desk.documents.remove(PROJECT, "notes/1 Once.txt")
    assert await desk.names(PROJECT, "notes") == []


async def test_a_note_keeps_what_nobody_touched(desk: Desk) -> None:
    """Marks of direction, line ends of other systems, what is not shown."""
    text = "\ufeff\u200fשלום (a)\u200e\r\nbell\x07\n"
    await desk.documents.create(PROJECT, "notes/new", b"to be replaced")
    desk.sandbox.store.run("UPDATE project_notes SET text = ?", text)
    [name] = await desk.names(PROJECT, "notes")
    read = await desk.documents.read(PROJECT, f"notes/{name}")
    await desk.documents.write(PROJECT, f"notes/{name}", read + b"more\n", Seen(read))
    assert desk.sandbox.store.value("SELECT text FROM project_notes") == text + "\nmore"


@pytest.mark.parametrize("item", [DRAFT, COLLECTION])
async def test_private_links(item: Item, desk: Desk) -> None:
    await desk.documents.create(item, "links/reviewer", b'{"expires_date": "2100-01-31"}\n')
    await desk.documents.create(item, "links/another", b"")
    every = await desk.json(item, "links.json")
    assert isinstance(every, list)
    assert every[0]["expires_date"] == "2100-01-31T00:00:00"
    names = await desk.names(item, "links")
    assert names == [f"{link['id']}.json" for link in every]
    base = await desk.documents.read(item, f"links/{names[0]}")
    assert json.loads(base) == every[0]
    await desk.documents.write(item, f"links/{names[0]}", base.replace(b"2100", b"2101"), Seen(base))
    changed = await desk.json(item, f"links/{names[0]}")
    assert isinstance(changed, dict)
    assert changed["expires_date"] == "2101-01-31T00:00:00"
    # Of a reading that is older than that.
    with pytest.raises(Changed):
        await desk.documents.write(item, f"links/{names[0]}", base, Seen(None, (base,)))
    again = await desk.documents.read(item, f"links/{names[0]}")
    await desk.documents.write(item, f"links/{names[0]}", b'{"expires_date": "2102-01-31"}', Seen(again))
    with pytest.raises(Invalid, match="is_active: cannot be changed"):
        await desk.documents.write(item, f"links/{names[0]}", base.replace(b"true", b"false"), Seen(base))
    with pytest.raises(Invalid, match="expires: no such field"):
        await desk.documents.create(item, "links/typo", b'{"expires": "2100-01-31"}')
    assert len(await desk.names(item, "links")) == 2
    with pytest.raises(Invalid, match="future"):
        await desk.documents.create(item, "links/late", b'{"expires_date": "2001-01-31"}')
    await desk.documents.remove(item, f"links/{names[1]}")
    assert await desk.names(item, "links") == names[:1]


# -- trouble -----------------------------------------------------------------------


@pytest.mark.parametrize(("status", "error"), [(403, Forbidden), (404, Forbidden), (422, Invalid)])
async def test_refusals_of_figshare(status: int, error: type[Exception], desk: Desk) -> None:
    """A viewer's edit, an article of another's, which can be read: the errno that Figshare's answer means."""
    desk.sandbox.faults.replace(
        [{"role": "api", "method": "PATCH", "action": "status", "status": status, "body": {"message": "no"}}]
    )
    with pytest.raises(error):
        await desk.edit(DRAFT, title="Another title")
    assert desk.changed == []


async def test_a_feed_whose_answer_is_lost(desk: Desk) -> None:
    """Nobody knows whether it was accepted, and so it is said."""
    desk.sandbox.faults.replace(
        [{"role": "api", "method": "POST", "path": "hrfeed", "action": "lose_answer"}]
    )
    with pytest.raises(UnknownOutcome):
        await desk.documents.create(institution.ITEM, "hrfeed/people.csv", b"a,b\n")
    said = await desk.json(institution.ITEM, "hrfeed/status.json")
    assert isinstance(said, dict)
    assert said["answer"].startswith("not known: ")


@pytest.mark.parametrize("odd", ODD)
async def test_hostile_metadata(odd: str, desk: Desk) -> None:
    """Every document is made of a record that holds nothing but this."""
    record = dict.fromkeys(("id", "title", "doi", "citation", "files", "authors", "version", "tags"), odd)
    body = {
        "role": "api",
        "action": "status",
        "status": 200,
        "body": record,
        "path": "/v2/articles/20000005$",
    }
    desk.sandbox.faults.replace([body])
    for entry in await desk.documents.entries(PUBLIC_FROGS, ""):
        if entry.kind == "file":
            content = await desk.documents.read(PUBLIC_FROGS, entry.name)
            assert b"\x1b" not in content
            assert b"\x00" not in content
