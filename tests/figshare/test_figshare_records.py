from __future__ import annotations

import datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from figfs.errors import BadAnswer
from figfs.figshare.records import (
    Account,
    Article,
    ArticleDetails,
    Collection,
    File,
    Item,
    Location,
    Part,
    Project,
    Record,
    Upload,
    decode,
    id_order,
    read_list,
)

RECORDS: list[type[Record]] = [
    Account,
    Article,
    ArticleDetails,
    Collection,
    File,
    Item,
    Location,
    Part,
    Project,
    Upload,
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
keys = sorted(
    {field.encode_name for cls in RECORDS for field in msgspec.structs.fields(cls)} | {"fields", "title"}
)
objects = st.dictionaries(
    st.sampled_from(keys),
    json_values | st.sampled_from(["", "12", 3, "2017-05-18", None]),
    max_size=len(keys),
)


@given(raw=objects | json_values, cls=st.sampled_from(RECORDS))
def test_any_json_is_a_record_or_a_bad_answer(raw: object, cls: type[Record]) -> None:
    """Whatever a server sends: a record of the declared types, or BadAnswer; nothing else."""
    try:
        record = cls.from_json(raw)
    except BadAnswer:
        return
    # msgspec checks every field against its annotation.
    assert msgspec.convert(msgspec.to_builtins(record), type(record)) == record
    if isinstance(record, File):
        assert record.size >= 0
        assert record.md5 == record.md5.lower()


@given(st.lists(objects | json_values, max_size=5))
def test_a_list_keeps_every_item_that_has_an_id(raw: list[object]) -> None:
    """One odd entry does not cost the listing, and costs no entry beside itself."""
    with_id = 0
    for entry in raw:
        try:
            Article.from_json(entry)
            with_id += 1
        except BadAnswer:
            pass
    if raw and not with_id:
        with pytest.raises(BadAnswer):
            read_list(Article, raw)
    else:
        assert len(read_list(Article, raw)) == with_id


def test_an_id_of_null_gives_way_to_a_uuid() -> None:
    """djehuty, another server of this API, has ``"id": null`` and a ``uuid``."""
    assert Article.from_json({"id": None, "uuid": "2a79-1", "title": "a"}).id == "2a79-1"
    assert Article.from_json({"id": 7, "uuid": "2a79-1"}).id == 7


def test_an_entry_without_id_is_left_out_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Skipping is told once for a listing, not once for each entry."""
    found = read_list(Article, [{"id": 1, "title": "a"}, {"title": "no id"}, None, {"id": None}, {"id": ""}])
    assert [article.id for article in found] == [1]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "4 of 5" in caplog.text


@pytest.mark.parametrize("raw", [{}, None, "articles", 7, {"items": []}])
def test_a_listing_that_is_no_list_is_a_bad_answer(raw: object) -> None:
    """An object in place of a list must not look like an empty listing."""
    with pytest.raises(BadAnswer):
        read_list(Article, raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (5, 5),
        ("5", 5),
        (" 5 ", 5),
        (5.0, 5),
        ("a1b2-c3", "a1b2-c3"),
        ("0005", 5),
        ("²", "²"),
        ("1" * 30, "1" * 30),
        (2**63 - 1, 2**63 - 1),
        (str(2**63), str(2**63)),
    ],
)
def test_usable_ids(raw: object, expected: object) -> None:
    """Ids are integers or strings; a numeric string is the integer."""
    assert Item.from_json({"id": raw}).id == expected


@pytest.mark.parametrize(
    "raw", [None, "", " ", 0, -3, True, 1.5, [], {}, ".", "..", "0", 2**63, 1e300, "x" * 256]
)
def test_unusable_ids(raw: object) -> None:
    """What cannot name an item in a URL is no id."""
    with pytest.raises(BadAnswer):
        Item.from_json({"id": raw})


def test_project_id_zero_and_null_mean_no_project() -> None:
    """The description says 0, real answers say null (api.md, Article details)."""
    for none in (0, None, "", "0"):
        assert Article.from_json({"id": 1, "project_id": none}).project_id is None
    assert Article.from_json({"id": 1, "project_id": "77"}).project_id == 77


@pytest.mark.parametrize(
    "text",
    ["2017-05-18T11:49:03Z", "2017-05-18T11:49:03", "2017-05-18T13:49:03+02:00", " 2017-05-18 11:49:03 "],
)
def test_dates_with_and_without_zone(text: str) -> None:
    """A date without a zone is UTC."""
    expected = datetime.datetime(2017, 5, 18, 11, 49, 3, tzinfo=datetime.UTC).timestamp()
    assert Article.from_json({"id": 1, "modified_date": text}).modified_date == expected


@pytest.mark.parametrize("text", ["", None, "yesterday", "0", [], True, "2017-13-40", 1e300])
def test_dates_that_are_none(text: object) -> None:
    """What is no date is no date, not the beginning of 1970."""
    assert Article.from_json({"id": 1, "modified_date": text}).modified_date is None


def test_null_and_blank_become_defaults() -> None:
    """Blank fields arrive as null or "" (api.md §1)."""
    article = Article.from_json({"id": 1, "title": None, "doi": "", "defined_type_name": None})
    assert (article.title, article.doi, article.defined_type_name) == ("", "", "")
    account = Account.from_json({"id": 1, "quota": None, "used_quota": "12", "maximum_file_size": ""})
    assert (account.quota, account.used_quota, account.maximum_file_size) == (None, 12, None)


def test_a_file_without_a_size_is_not_an_empty_file() -> None:
    """Size null would else show as a file of no bytes, which is wrong data; of a link it is normal."""
    for size in (None, "", "many", -1, "missing"):
        raw = {"id": 1, "name": "a", "size": size}
        if size == "missing":
            del raw["size"]
        assert (File.from_json(raw).size, File.from_json(raw).size_known) == (0, False)
    assert File.from_json({"id": 1, "size": "12"}).size_known
    assert File.from_json({"id": 1, "size": 0}).size_known
    assert File.from_json({"id": 1, "size": None, "is_link_only": True}).size_known


def test_md5_is_the_computed_one_first() -> None:
    """The server's own sum counts more than the client's; either may be missing (quirks L15)."""
    assert File.from_json({"id": 1, "supplied_md5": "AA", "computed_md5": "BB"}).md5 == "bb"
    assert File.from_json({"id": 1, "supplied_md5": "AA ", "computed_md5": None}).md5 == "aa"
    assert File.from_json({"id": 1}).md5 == ""


def test_file_names_are_kept_exactly() -> None:
    """Spaces at the ends and odd characters belong to a name."""
    assert File.from_json({"id": 1, "name": " a\tb \u0301"}).name == " a\tb \u0301"


def test_details_hold_files_and_folders() -> None:
    """folder_structure maps file ids to folders; PHP's [] for an empty mapping is an empty mapping."""
    details = ArticleDetails.from_json(
        {
            "id": 1,
            "files": [{"id": 2, "size": 3}, {}],
            "folder_structure": {"2": "/a/b", "3": None},
            "is_public": 1,
        }
    )
    assert [file.id for file in details.files] == [2]
    assert details.folder_structure == {"2": "/a/b"}
    assert details.is_public
    assert ArticleDetails.from_json({"id": 1, "folder_structure": []}).folder_structure == {}


@pytest.mark.parametrize("cls", [Project, Collection])
def test_title_under_fields(cls: type[Project] | type[Collection]) -> None:
    """Institutions with item-type metadata leave the top-level title out (SOURCES.md)."""
    assert cls.from_json({"id": 1, "fields": {"title": "T"}}).title == "T"
    assert cls.from_json({"id": 1, "title": "own", "fields": {"title": "T"}}).title == "own"
    assert cls.from_json({"id": 1, "fields": None}).title == ""


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"entity_id": 5, "location": "https://x/v2/account/articles/6"}, 5),
        ({"location": "https://x/v2/account/articles/6"}, 6),
        ({"location": "https://x/v2/account/articles/6/?x=7#8"}, 6),
        ({"location": "/v2/account/articles/0e8400-e2"}, "0e8400-e2"),
    ],
)
def test_location_tells_the_new_id(raw: object, expected: object) -> None:
    """entity_id, else the end of the URL (api.md §2)."""
    assert Location.from_json(raw).id == expected


@pytest.mark.parametrize("raw", [{}, {"location": ""}, {"location": "https://x/v2/account/articles"}])
def test_a_location_without_id_is_a_bad_answer(raw: object) -> None:
    """The name of the endpoint is not the id of what was made."""
    with pytest.raises(BadAnswer):
        _ = Location.from_json(raw).id


def test_upload_parts() -> None:
    """Offsets are inclusive as sent; numbers may be strings; a part without offsets spoils the upload."""
    upload = Upload.from_json(
        {"status": "PENDING", "parts": [{"partNo": "1", "startOffset": 0, "endOffset": 9, "locked": False}]}
    )
    assert upload.parts[0] == Part(part_no=1, start_offset=0, end_offset=9)
    assert upload.parts[0].size == 10
    with pytest.raises(BadAnswer):
        Upload.from_json({"parts": [{"partNo": 1, "startOffset": 0}]})


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1,", b"\xff\xfe", b"[" * 100_000])
def test_what_is_not_json_is_a_bad_answer(body: bytes) -> None:
    """Answers come from proxies, too."""
    with pytest.raises(BadAnswer):
        decode(body)


def test_a_lone_surrogate_does_not_cost_the_listing() -> None:
    """Strict JSON parsers refuse it; the title becomes text that can be encoded."""
    raw = decode(b'[{"id": 1, "title": "a\\ud800b"}, {"id": 2, "title": "c"}]')
    titles = [article.title for article in read_list(Article, raw)]
    assert titles == ["a?b", "c"]


@given(st.lists(st.integers(min_value=1) | st.text(min_size=1)))
def test_ids_have_a_total_order(ids: list[int | str]) -> None:
    """Integers by value, before strings: no comparison of the two fails."""
    ordered = sorted(ids, key=id_order)
    numbers = [id_ for id_ in ordered if isinstance(id_, int)]
    assert ordered[: len(numbers)] == sorted(numbers)
