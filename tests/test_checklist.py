"""The check list before a publication: what is in the way, what is only said. Pure."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from figfs.control.checklist import (
    Local,
    Point,
    Published,
    Verdict,
    may_be_published,
    of_article,
    of_collection,
    of_project,
    stamp,
)
from figfs.errors import BadAnswer
from figfs.figshare.cards import Card
from figfs.figshare.records import Article, File

MD5, OTHER = "a" * 32, "b" * 32
READY: dict[str, Any] = {
    "id": 7,
    "title": "Ice cores",
    "description": "<p>What they are.</p>",
    "keywords": ["ice"],
    "categories": [{"id": 1, "title": "Glaciology"}],
    "authors": [{"id": 1, "full_name": "Ada Sandbox"}],
    "license": {"value": 1, "name": "CC BY 4.0", "url": "https://creativecommons.org/licenses/by/4.0/"},
    "status": "draft",
}


def card(**changes: object) -> Card:
    return Card.from_json(READY | changes)


def file(number: int = 1, name: str = "a.csv", **changes: object) -> File:
    raw = {"id": number, "name": name, "size": 10, "status": "available", "supplied_md5": MD5}
    return File.from_json(raw | {"computed_md5": MD5} | changes)


def in_the_way(points: list[Point]) -> list[str]:
    return [point.what for point in points if point.verdict is Verdict.IN_THE_WAY]


def test_what_is_complete_may_be_published() -> None:
    """Nothing is in the way; number and size of the files, the licence and the version are shown."""
    points = of_article(card(), [file(), file(2, "b.csv")], None, Local())
    assert may_be_published(points)
    shown = {point.what: point.text for point in points}
    assert shown["files"] == "2 files, 20 B"
    assert shown["licence"].startswith("CC BY 4.0")
    assert shown["version"] == "the first"


@pytest.mark.parametrize(
    ("field", "blank", "what"),
    [
        ("title", "ab", "title"),
        ("description", "<p> &nbsp;</p>", "description"),
        ("keywords", [], "keywords"),
        ("categories", [], "categories"),
        ("authors", [], "authors"),
        ("license", None, "licence"),
    ],
)
def test_required_metadata(field: str, blank: object, what: str) -> None:
    """Each field that Figshare requires is named if it is blank, and nothing else."""
    assert in_the_way(of_article(card(**{field: blank}), [file()], None, Local())) == [what]


@pytest.mark.parametrize(
    ("changes", "known", "what"),
    [
        ({"status": "created"}, {}, "unfinished"),
        ({"status": "moving_to_final"}, {}, "unfinished"),
        ({"computed_md5": OTHER}, {}, "MD5"),
        ({}, {1: (10, OTHER)}, "changed"),
        ({}, {1: (11, MD5)}, "changed"),
    ],
)
def test_files_that_are_not_what_was_sent(
    changes: dict[str, object], known: dict[int | str, tuple[int, str]], what: str
) -> None:
    """An upload that is not finished, another MD5 than was sent, another content than was verified here."""
    points = of_article(card(), [file(name="x.tif", **changes)], None, Local(known=known))
    assert in_the_way(points) == [what]
    assert any("x.tif" in point.text for point in points if point.what == what)


def test_a_file_that_was_read_and_is_wrong() -> None:
    """What was read here does not agree with the MD5."""
    assert in_the_way(of_article(card(), [file()], None, Local(mismatched=frozenset({1})))) == ["MD5"]


def test_an_md5_that_was_never_computed_is_said() -> None:
    """Figshare sometimes computes none (quirk L15): that is no reason to publish never."""
    points = of_article(card(), [file(computed_md5="")], None, Local())
    assert may_be_published(points)
    assert [point.text for point in points if point.verdict is Verdict.NOTE] == [
        "Figshare has computed none of: a.csv"
    ]


def test_an_article_without_files() -> None:
    """Only a metadata record may have none. A linked file is one."""
    assert in_the_way(of_article(card(), [], None, Local())) == ["files"]
    assert may_be_published(of_article(card(is_metadata_record=True), [], None, Local()))
    linked = file(size=0, is_link_only=True, computed_md5="", supplied_md5="", status="")
    assert may_be_published(of_article(card(), [linked], None, Local()))


@pytest.mark.parametrize(
    ("local", "what"),
    [
        (Local(owed=2), "owed"),
        (Local(parked=["a"]), "parked"),
        (Local(writing=["a"]), "being written"),
        (Local(held=["a~"]), "temporary names"),
        (Local(emptied=["a"]), "emptied"),
    ],
)
def test_what_this_machine_owes(local: Local, what: str) -> None:
    """Nothing may be owed, or come later and outdate the version at once."""
    assert in_the_way(of_article(card(), [file()], None, local)) == [what]


def test_what_stays_here_is_said() -> None:
    """Empty files and never-closed bytes are named: they are seen in the mount, and not published."""
    local = Local(only_here=["log.txt", "plots/"], unclosed=["half.csv"])
    points = of_article(card(), [file()], None, local)
    assert may_be_published(points)
    notes = {point.what: point.text for point in points if point.verdict is Verdict.NOTE}
    assert notes["only here"].endswith("log.txt, plots/")
    assert notes["never closed"].endswith("half.csv")


def test_against_the_published_version() -> None:
    """What changed is told by name; a file of the same name with another id was replaced."""
    old = Published(card(version=2, title="Ice"), [file(1), file(2, "b.csv"), file(3, "c.csv")])
    new = [file(1), file(4, "c.csv"), file(5, "d.csv")]
    points = of_article(card(version=2), new, old, Local())
    shown = {point.what: point.text for point in points}
    assert shown["version"] == "the next after 2"
    assert shown["changes"] == "title; added d.csv; replaced c.csv; removed b.csv"


def test_a_published_version_that_cannot_be_seen() -> None:
    """Under an embargo its files are hidden: they are not said to be new."""
    points = of_article(card(version=2), [file()], Published(card(version=2)), Local())
    assert may_be_published(points)
    assert [point.text for point in points if point.what == "changes"] == ["its public files cannot be seen"]


def test_the_same_again_is_not_published() -> None:
    """Of an article that has no draft of a next version there is nothing to publish."""
    old = Published(card(version=2, status="public"), [file()])
    assert in_the_way(of_article(card(version=2, status="public"), [file()], old, Local())) == ["version"]


def test_a_collection() -> None:
    """It needs the same metadata, but the licence, and an article; drafts in it are named."""
    members = [Article(id=1, title="Public one", published_date=1.0), Article(id=2, title="A draft")]
    points = of_collection(card(license=None), members, None, Local())
    assert may_be_published(points)
    assert [point.text for point in points if point.verdict is Verdict.NOTE] == [
        "not public themselves: A draft"
    ]
    assert in_the_way(of_collection(card(), [], None, Local())) == ["articles"]


def test_against_a_published_collection() -> None:
    """Articles that came and went; one that the public does not see is no change."""
    one, two, three = (Article(id=n, title=f"Nr {n}", published_date=1.0) for n in (1, 2, 3))
    draft = Article(id=4, title="A draft")
    old = Published(card(version=1, title="Ice"), articles=[one, two])
    points = of_collection(card(), [one, three, draft], old, Local())
    shown = {point.what: point.text for point in points}
    assert shown["version"] == "the next after 1"
    assert shown["changes"] == "title; added Nr 3; removed Nr 2"


TEXTS = st.text(max_size=20)
CARDS = st.builds(
    Card,
    id=st.integers(1, 9),
    title=TEXTS,
    description=TEXTS,
    keywords=st.lists(TEXTS, max_size=2).map(tuple),
    categories=st.lists(TEXTS, max_size=2).map(tuple),
    authors=st.lists(TEXTS, max_size=2).map(tuple),
    status=st.sampled_from(["draft", "public", ""]),
    version=st.none() | st.integers(0, 9),
    is_embargoed=st.booleans(),
    is_metadata_record=st.booleans(),
)
FILES = st.lists(
    st.builds(
        File,
        id=st.integers(1, 9),
        name=TEXTS,
        size=st.integers(0, 1 << 50),
        status=st.sampled_from(["available", "created", ""]),
        supplied_md5=st.sampled_from(["", MD5, OTHER]),
        computed_md5=st.sampled_from(["", MD5, OTHER]),
        is_link_only=st.booleans(),
    ),
    max_size=4,
)
LOCALS = st.builds(
    Local,
    owed=st.integers(0, 2),
    parked=st.lists(TEXTS, max_size=7),
    writing=st.lists(TEXTS, max_size=2),
    only_here=st.lists(TEXTS, max_size=7),
)


@given(CARDS, FILES, st.none() | st.builds(Published, CARDS, FILES), LOCALS)
def test_whatever_figshare_says(
    item: Card, files: list[File], published: Published | None, local: Local
) -> None:
    """The list is made of anything, the same of the same, and lets nothing through that is owed or wrong."""
    points = of_article(item, files, published, local)
    again = of_article(item, files, published, local)
    assert stamp(points, "article", READY, files=files) == stamp(again, "article", dict(READY), files=files)
    if may_be_published(points):
        assert not local.owed
        assert not local.parked
        assert not local.writing
        assert item.description.strip()
        for each in files:
            if not each.is_link_only:
                assert each.status != "created"
                assert not (each.supplied_md5 and each.computed_md5) or each.supplied_md5 == each.computed_md5


@given(FILES.filter(bool))
def test_the_stamp_is_of_the_files(files: list[File]) -> None:
    """Another content, another stamp: what a person said yes to is what is published."""
    points = of_article(card(), files, None, Local())
    other = [msgspec.structs.replace(files[0], size=files[0].size + 1), *files[1:]]
    assert stamp(points, "article", READY, files=files) != stamp(points, "article", READY, files=other)


def test_the_stamp_is_of_all_that_becomes_public() -> None:
    """What is not in the list, or unknown here, as well; not what changes by itself."""
    points, files = of_article(card(), [file()], None, Local()), [file()]
    told = READY | {"modified_date": "2026-01-01T00:00:00Z", "folder_structure": {}, "files": [], "size": 1}

    def of(kind: str = "article", **changes: object) -> str:
        return stamp(points, kind, told | changes, files=files)

    seen = {of()}
    for changes in (
        {"id": 8}, {"references": ["https://x.test/"]}, {"funding": "A funder"}, {"resource_doi": "10.1/x"},
        {"related_materials": [{"identifier": "x"}]}, {"defined_type": 9}, {"folder_structure": {"1": "raw"}},
        {"embargo_date": "2040-01-01"}, {"timeline": {"firstOnline": "2024-01-01"}}, {"unheard of": [None]},
        {"description": '<p><a href="https://x.test/">What they are.</a></p>'},
    ):  # fmt: skip
        assert of(**changes) not in seen
        seen.add(of(**changes))
    assert of("project") not in seen
    assert of(modified_date="2027-01-01T00:00:00Z", files=[{}], size=2, thumb="https://x.test/t") == of()
    links = [
        file(status="", is_link_only=True, download_url=url) for url in ("https://a.test", "https://b.test")
    ]
    assert len({stamp([], "article", READY, files=[link]) for link in links}) == 2
    [shown] = [point for point in of_article(card(), links[:1], None, Local()) if point.what == "linked"]
    assert shown.text == "https://a.test"
    nested: object = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(BadAnswer, match="too deeply"):
        of(funding=nested)


@pytest.mark.parametrize(
    ("date", "text"),
    [("2040-01-01", "until 2040-01-01"), (None, "for good"), (-9e10, "until an unknown day")],
)
def test_an_embargo_is_shown_with_its_end(date: object, text: str) -> None:
    points = of_article(
        card(is_embargoed=True, embargo_type="file", embargo_date=date), [file()], None, Local()
    )
    assert f"hides its files {text}" in [point.text for point in points if point.what == "embargo"]


def drafts(*numbers: int) -> list[tuple[str, Article]]:
    """Articles, of which the odd ones are drafts."""
    dates = (None, "2024-01-01T00:00:00Z")
    raw = [{"id": n, "title": f"Part {n}", "published_date": dates[n % 2 == 0]} for n in numbers]
    return [(f"projects/Ice/Part {each['id']}", Article.from_json(each)) for each in raw]


def test_a_project_needs_public_articles() -> None:
    """Each that is not public is in the way, by its path; what Figshare does not require is only said."""
    project = Card.from_json({"id": 1, "title": "Ice", "role": "Owner"})
    points = of_project(project, drafts(1, 2, 3), Local())
    assert in_the_way(points) == ["not public", "not public"]
    assert [point.text for point in points if point.what == "not public"] == [
        "projects/Ice/Part 1",
        "projects/Ice/Part 3",
    ]
    points = of_project(project, drafts(2, 4), Local(), edited=["projects/Ice/Part 2"])
    assert may_be_published(points)
    notes = {point.what for point in points if point.verdict is Verdict.NOTE}
    assert notes == {"description", "edited"}
    assert may_be_published(of_project(project, [], Local()))
    many = of_project(project, drafts(*range(1, 141, 2)), Local())
    assert [point.text for point in many if point.what == "not public"][-1] == "and 20 more"


@pytest.mark.parametrize(
    ("fields", "local", "what"),
    [
        ({"role": "Viewer"}, Local(), ["role"]),
        ({"role": "Collaborator"}, Local(), []),
        ({"published_date": "2024-01-01T00:00:00Z"}, Local(), ["status"]),
        ({"title": "ab"}, Local(), ["title"]),
        ({}, Local(owed=2), ["owed"]),
        ({}, Local(parked=["Part 2/a"], writing=["Part 2/b"]), ["parked", "being written"]),
    ],
)
def test_what_is_in_a_projects_way(fields: dict[str, object], local: Local, what: list[str]) -> None:
    project = Card.from_json({"id": 1, "title": "Ice", "role": "Owner"} | fields)
    assert in_the_way(of_project(project, drafts(2), local)) == what


def test_the_stamp_knows_the_articles() -> None:
    """One goes and another comes: the list looks the same, and is of something else."""
    articles = [article for _, article in drafts(2, 4, 6)]
    assert stamp([], "project", {}, articles=articles[:2]) == stamp(
        [], "project", {}, articles=articles[1::-1]
    )
    assert stamp([], "project", {}, articles=articles[:2]) != stamp([], "project", {}, articles=articles[1:])
