"""A ``metadata.json`` written back: what is sent of it, and why not."""

from __future__ import annotations

import copy
import errno
import json
import unicodedata
from collections.abc import Callable
from typing import Any

import pytest
from hostile import records, texts, values
from hypothesis import given
from hypothesis import strategies as st

from figfs.documents import editing, names
from figfs.documents.texts import to_json
from figfs.errors import Changed, FigfsError, Invalid

ADA = {"id": "9", "full_name": "Ada Sandbox", "first_name": "Ada", "last_name": "Sandbox"}  # quirks L12
GRANT = {"id": 3, "title": "Grant A", "grant_code": "X-1", "is_user_defined": 0}
RELATED = {
    "id": 3,
    "identifier": "10.1/x",
    "title": "A paper",
    "relation": "Cites",
    "identifier_type": "DOI",
    "is_linkout": True,
    "link": "https://doi.org/10.1/x",
}
DEPTH = {"name": "Depth", "value": "12", "field_type": "text"}
TWO_FIELDS = {"custom_fields_list": [{"name": "Depth", "value": ["1", "2"]}, {"name": "x", "value": "y"}]}
ITEM: dict[str, Any] = {
    "id": 7,
    "title": "Frogs",
    "description": "<p>x</p>",
    "tags": ["a"],
    "keywords": ["a"],
    "categories": [{"id": 5, "title": "Zoology", "source_id": "31"}],
    "license": {"value": 1, "name": "CC BY 4.0", "url": "https://example.org/by"},
    "authors": [ADA],
    "defined_type": 3,
    "defined_type_name": "dataset",
    "funding_list": [GRANT],
    "references": [],
    "related_materials": [RELATED],
    "custom_fields": [DEPTH],
    "timeline": {"posted": "2024-05-20T14:45:00", "firstOnline": "2024-01-01"},
    "doi": "",
    "resource_doi": None,
    "size": 12,
    "modified_date": "2024-05-20T14:45:00Z",
}


CHOICES = editing.Choices(
    {1: {"value": 1, "name": "CC BY 4.0"}, 2: {"value": 2, "name": "CC0"}},
    {6: {"id": 6, "title": "Botany", "parent_id": 2}},
)


def _sent(kind: str = "article", choices: editing.Choices | None = None, **fields: Any) -> dict[str, object]:
    return editing.changes(kind, ITEM | fields, ITEM, choices)


def test_nothing_changed_is_nothing_to_send() -> None:
    assert editing.changes("article", copy.deepcopy(ITEM), ITEM) == {}
    assert editing.changes("article", {}, ITEM) == {}


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        ({"title": "More frogs"}, {"title": "More frogs"}),
        ({"keywords": ["a", "b"]}, {"tags": ["a", "b"]}),
        ({"keywords": ["b"], "tags": ["b"]}, {"tags": ["b"]}),
        ({"tags": None}, {"tags": []}),
        ({"description": None}, {"description": ""}),
        ({"license": 2}, {"license": 2}),
        ({"categories": [{"id": 6}, 5]}, {"categories": [6, 5]}),
        ({"authors": [{"name": "Jo Doe"}, {"id": 9}]}, {"authors": [{"name": "Jo Doe"}, {"id": 9}]}),
        ({"authors": [ITEM["authors"][0], {"full_name": "X"}]}, {"authors": [{"id": 9}, {"name": "X"}]}),
        ({"defined_type": "software"}, {"defined_type": "software"}),
        ({"defined_type_name": "software"}, {"defined_type": "software"}),
        ({"funding_list": ["A grant"]}, {"funding_list": [{"title": "A grant"}]}),
        ({"references": ["https://example.org/a"]}, {"references": ["https://example.org/a"]}),
        (
            {"related_materials": [{"identifier": "10.1/y", "relation": "Cites"}]},
            {"related_materials": [{"identifier": "10.1/y", "relation": "Cites"}]},
        ),
        # What was there is sent along, by its id, and by that alone where Figshare ignores the rest.
        (
            {"related_materials": [RELATED | {"title": ""}, {"identifier": "10.1/y"}]},
            {
                "related_materials": [
                    {
                        "id": 3,
                        "identifier": "10.1/x",
                        "title": "",
                        "relation": "Cites",
                        "identifier_type": "DOI",
                        "is_linkout": True,
                    },
                    {"identifier": "10.1/y"},
                ]
            },
        ),
        ({"funding_list": [GRANT, {"title": "B"}]}, {"funding_list": [{"id": 3}, {"title": "B"}]}),
        ({"authors": [ADA, {"name": "B C"}]}, {"authors": [{"id": 9}, {"name": "B C"}]}),
        ({"license": {"value": 2, "name": "CC0"}}, {"license": 2}),
        ({"custom_fields": []}, {"custom_fields_list": [{"name": "Depth", "value": None}]}),
        ({"custom_fields": None}, {"custom_fields_list": [{"name": "Depth", "value": None}]}),
        ({"custom_fields": {}}, {}),
        ({"custom_fields": [DEPTH | {"value": ["1", "2"]}, {"name": "x", "value": "y"}]}, TWO_FIELDS),
        ({"timeline": {"posted": "2024-05-20T14:45:00", "firstOnline": "2024-01-01"}}, {}),
        ({"custom_fields": {"Depth": "13"}}, {"custom_fields_list": [{"name": "Depth", "value": "13"}]}),
        (
            {"timeline": {"posted": "2024-05-20T14:45:00", "firstOnline": "2024-02-02"}},
            {"timeline": {"firstOnline": "2024-02-02"}},
        ),
        ({"resource_doi": "10.1/y", "doi": "10.2/z"}, {"resource_doi": "10.1/y", "doi": "10.2/z"}),
        ({"is_metadata_record": True}, {"is_metadata_record": True}),
    ],
)
def test_what_is_sent(fields: dict[str, Any], sent: dict[str, object]) -> None:
    """Only what changed, in the shape in which Figshare takes it."""
    assert _sent(**fields) == sent


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"title": "ab"}, ["title", "2 characters", "3 to 1,000"]),
        ({"title": "  a  "}, ["title", "3 to 1,000"]),
        ({"title": "x" * 1001}, ["title", "1,001"]),
        ({"title": 7}, ["title", "text"]),
        ({"title": "\ud800 half"}, ["title", "half a character"]),
        ({"description": "x" * 20_001}, ["description", "20,000"]),
        ({"tags": "a, b"}, ["tags", "list"]),
        ({"tags": ["b"], "keywords": ["c"]}, ["keywords", "same meaning"]),
        ({"tags": [""]}, ["tags", "empty"]),
        ({"size": 13}, ["size", "cannot be changed", "title", "keywords"]),
        ({"colour": "red"}, ["colour", "no such field", "description"]),
        ({"a\x1b[31m": 1}, ["a␛[31m"]),
        ({"license": "CC0"}, ["license", "number"]),
        ({"license": {"value": 99}}, ["license", "99 is no licence", "licenses.json"]),
        ({"categories": [5, 77]}, ["categories", "77 is no category", "categories.json"]),
        ({"categories": ["Zoology"]}, ["categories", "number"]),
        ({"license": {"value": 1, "name": "MIT"}}, ["license", "1: name cannot be changed"]),
        ({"license": {"value": 2, "name": "MIT"}}, ["license", "licence 2: name cannot be changed"]),
        ({"categories": [{"id": 5, "title": "Chemistry"}]}, ["categories", "5: title cannot be changed"]),
        ({"categories": [{"id": 6, "title": "Zoology"}]}, ["categories", "category 6: title cannot"]),
        ({"authors": [{"id": 9, "first_name": "Eve"}]}, ["authors", "author 9 cannot be changed"]),
        ({"authors": [{"id": 8, "first_name": "Eve"}]}, ["authors", "author 8 is new here", "id alone"]),
        ({"authors": [{"id": None, "name": "Ada"}]}, ["authors", "the id is none"]),
        ({"authors": [{"name": "B C", "orcid": "0000"}]}, ["authors", "orcid: no such field", "orcid_id"]),
        ({"authors": [{"name": "B C", "full_name": "D"}]}, ["authors", "another full_name"]),
        ({"funding_list": [GRANT | {"title": "B"}]}, ["funding_list", "funding 3 cannot be changed"]),
        ({"funding_list": [GRANT | {"grant_code": "B"}]}, ["funding_list", "funding 3 cannot be changed"]),
        ({"funding_list": [{"title": "B", "grant_code": "X"}]}, ["funding_list", "grant_code: no such"]),
        ({"related_materials": [RELATED | {"link": "https://evil/"}]}, ["link cannot be changed"]),
        ({"related_materials": [RELATED | {"relation": ""}]}, ["relation", "cannot be empty"]),
        ({"related_materials": [RELATED | {"id": 4}]}, ["related_materials", "no id that is here"]),
        ({"related_materials": [{"identifier": "x", "rel": "Cites"}]}, ["rel: no such field"]),
        ({"custom_fields": [DEPTH | {"field_type": "date"}]}, ["custom_fields", "field_type cannot"]),
        ({"custom_fields": [{"name": "Depth", "value": 1.5}]}, ["custom_fields", "Depth", "a text"]),
        ({"custom_fields": [DEPTH, DEPTH]}, ["custom_fields", "Depth is there twice"]),
        ({"timeline": {"posted": "2024-05-20T14:45:00"}}, ["firstOnline cannot be taken back"]),
        ({"timeline": {"posted": "2024-05-20T14:45:00", "firstOnline": None}}, ["cannot be taken back"]),
        ({"timeline": None}, ["timeline", "cannot be"]),
        ({"timeline": {"firstOnline": "2024-01-01"}}, ["timeline", "posted cannot be set"]),
        ({"authors": [{"first_name": "Eve"}]}, ["authors", "needs"]),
        ({"authors": ["Eve"]}, ["authors", "object"]),
        ({"defined_type": 9}, ["defined_type", "word"]),
        ({"references": ["see the paper"]}, ["references", "no http"]),
        ({"related_materials": [{"title": "x"}]}, ["related_materials", "identifier"]),
        ({"timeline": ITEM["timeline"] | {"posted": "2025-01-01"}}, ["posted cannot be set", "firstOnline"]),
        ({"timeline": ITEM["timeline"] | {"firstOnline": "soon"}}, ["timeline", "date"]),
        ({"is_metadata_record": "yes"}, ["is_metadata_record", "true or false"]),
        ({"group_id": True}, ["group_id", "number"]),
    ],
)
def test_what_is_refused(fields: dict[str, Any], words: list[str]) -> None:
    """EINVAL; the reason names the field and what would do."""
    with pytest.raises(Invalid) as caught:
        _sent(choices=CHOICES, **fields)
    assert caught.value.errno == errno.EINVAL
    for word in words:
        assert word in str(caught.value)


def test_what_was_there_may_stay() -> None:
    """A category that the account's list does not have is no obstacle to adding another."""
    assert _sent(choices=editing.Choices({}, {6: {"id": 6}}), categories=[5, 6]) == {"categories": [5, 6]}


def test_kinds_have_their_own_fields() -> None:
    assert editing.changes("project", {"title": "New"}, {}) == {"title": "New"}
    with pytest.raises(Invalid):
        editing.changes("project", {"license": 2}, {})
    with pytest.raises(Invalid):
        editing.changes("collection", {"license": 2}, {})
    funded = {"funding": [GRANT, "Another"]}
    assert editing.changes("collection", funded, {"funding": [GRANT]}) == {
        "funding_list": [{"id": 3}, {"title": "Another"}]
    }


def test_what_has_no_id_is_not_made_anew() -> None:
    """An author whom Figshare gives no id would lose what Figshare knows of them."""
    for name in ("authors", "funding_list"):
        for base in ({"full_name": "Ada", "title": "Ada"}, {"id": None, "full_name": "Ada", "title": "Ada"}):
            with pytest.raises(Invalid, match="id"):
                editing.changes("article", {name: [base, {"name": "B"}]}, {name: [base]})


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b'{"title": "x",\n "tags": [}', "line 2, column 11"),
        (b"", "line 1, column 1"),
        (b'{"a": 1}\n\xff', "line 2"),
        (b"[]", "object"),
        (b'{"a": NaN}', "NaN"),
        (b"[" * 100_000, "nested too deep"),
        (b'{"a": ' + b"9" * 5000 + b"}", "too long"),
    ],
)
def test_broken_json(content: bytes, where: str) -> None:
    with pytest.raises(Invalid) as caught:
        editing.parse(content)
    assert where in str(caught.value)


def _stale(new: dict[str, Any], base: dict[str, Any] | None, current: dict[str, Any]) -> None:
    editing.refuse_stale("article", new, None if base is None else editing.State.read(base), current)


def test_stale() -> None:
    """What another has changed since is named; what changes by itself does not count, nor what is left out,
    nor what both have changed to the same.
    """
    _stale(ITEM, ITEM, ITEM | {"size": 99, "modified_date": "2025-01-01T00:00:00Z"})
    with pytest.raises(Changed, match="title") as caught:
        _stale(ITEM, ITEM, ITEM | {"title": "Toads"})
    assert caught.value.errno == errno.ESTALE
    _stale({"tags": ["x"]}, ITEM, ITEM | {"title": "Toads"})
    _stale(ITEM | {"title": "Toads"}, ITEM, ITEM | {"title": "Toads"})
    # A copy that was written over it tells by its date; a few fields by themselves are meant for what is now.
    with pytest.raises(Changed):
        _stale(ITEM, None, ITEM | {"modified_date": "2025-01-01T00:00:00Z"})
    _stale({"title": "Toads"}, None, ITEM)
    _stale(ITEM, None, ITEM)


LATER = ITEM | {"description": "Theirs", "modified_date": "2024-05-20T14:45:09Z"}
AT_ONCE = ITEM | {"description": "Theirs"}  # within the second
WRITTEN = editing.State.written(ITEM | {"title": "Ours"}, LATER | {"title": "Ours"})


@pytest.mark.parametrize(
    ("new", "own", "others", "found"),
    [
        # Its date tells, whoever has read what since.
        (ITEM | {"tags": ["x"]}, None, [LATER, ITEM], ITEM),
        (LATER | {"tags": ["x"]}, None, [ITEM, LATER], LATER),
        (ITEM | {"tags": ["x"]}, LATER, [LATER, ITEM], ITEM),
        (ITEM | {"modified_date": "2001-01-01T00:00:00Z"}, None, [LATER, ITEM], None),
        # Two changes in one second: the rest of it tells.
        (ITEM | {"tags": ["x"]}, None, [AT_ONCE, ITEM], ITEM),
        (AT_ONCE | {"tags": ["x"]}, None, [ITEM, AT_ONCE], AT_ONCE),
        (ITEM | {"tags": ["x"]}, AT_ONCE, [AT_ONCE, ITEM], ITEM),
        # Without the date, what else is in it.
        ({"id": 7, "title": "Ours", "description": "<p>x</p>"}, None, [LATER, ITEM], ITEM),
        ({"id": 7, "title": "Ours", "description": "Theirs"}, None, [ITEM, LATER], LATER),
        # A few fields by hand: what those next to the writer were shown last; its own process knows better.
        ({"title": "Ours", "description": "<p>x</p>"}, None, [LATER, ITEM], LATER),
        ({"title": "Ours"}, ITEM, [LATER], ITEM),
        ({"title": "Ours"}, None, [], None),
        # An editor saves again: the date is that of its reading, and of what it has written.
        (ITEM | {"title": "Ours again"}, WRITTEN, [ITEM], WRITTEN),
    ],
)
def test_what_it_was_made_from(
    new: dict[str, Any], own: Any, others: list[dict[str, Any]], found: Any
) -> None:
    own = editing.State.read(own) if isinstance(own, dict) else own
    found = editing.State.read(found) if isinstance(found, dict) else found
    assert editing.made_from("article", new, own, [editing.State.read(each) for each in others]) == found


def test_numbers_as_programs_write_them() -> None:
    """``jq`` writes 3.0 as 3, and large ones rounded; true is no number."""
    item = {"size": 3.0, "id": 2**60 + 1, "files": [{"size": 5}], "title": "Frogs", "is_public": True}
    rounded = {"size": 3, "id": float(2**60), "files": [{"size": 5.0}], "title": "Frogs"}
    assert editing.changes("article", rounded, item) == {}
    for wrong in ({"size": 3.5}, {"is_public": 1}, {"files": [{"size": True}]}, {"size": "3"}):
        with pytest.raises(Invalid, match="cannot be changed"):
            editing.changes("article", wrong, item)


def _refusal(act: Callable[[], object]) -> str:
    """The reason for which it is refused, or ""; no other exception."""
    try:
        act()
    except FigfsError as refused:
        return str(refused)
    return ""


@given(
    st.fixed_dictionaries({}, optional=dict.fromkeys(editing.fields_of("article"), values)),
    records,
    st.sampled_from(("article", "project", "collection")),
)
def test_anything_written_over_anything(new: dict[str, Any], base: dict[str, Any], kind: str) -> None:
    """Sent, or refused with an errno; what is sent is JSON."""
    reason = _refusal(
        lambda: json.dumps(
            editing.changes(kind, new, base, editing.Choices({1: {"value": 1}}, {1: {"id": 1}}))
        ).encode()
    )
    assert reason.isprintable()


@given(st.binary(max_size=40) | texts.map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes(content: bytes) -> None:
    for read in (editing.parse, names.note_text, names.expiry):
        assert _refusal(lambda read=read: read(content)).isprintable()


@given(records)
def test_written_back_as_read(record: dict[str, Any]) -> None:
    """What was read and is written back unchanged changes nothing, whatever it is."""
    shown = editing.parse(to_json(record))
    assert editing.changes("article", editing.parse(to_json(record)), shown) == {}


# -- notes and links -----------------------------------------------------------------


@given(st.integers(1, 10**18), texts | st.just("\U0001f438" * 100))
def test_names_of_notes(number: int, abstract: str) -> None:
    """Legal, and the id is found again."""
    name = names.note_name(number, abstract)
    assert names.id_of_note(name) == str(number)
    assert name.endswith(".txt")
    assert "/" not in name
    assert not any(unicodedata.category(c) == "Cc" for c in name)
    assert len(name.encode()) <= 255


def test_a_name_of_a_note() -> None:
    assert names.note_name(12, "The stakes\nof 2021. ") == "12 The stakes of 2021.txt"
    assert names.note_name(12, "") == "12.txt"
    for name in ("..", "", "a/b", ".txt"):
        with pytest.raises(OSError, match="no note"):
            names.id_of_note(name)


def test_notes() -> None:
    """The line end of the last line is the file's, not the note's."""
    assert names.note_document("abc") == b"abc\n"
    assert names.note_text(b"abc\n") == "abc"
    assert names.note_document("a\x1b[0m\r\nb\n") == b"a[0m\r\nb\n\n"
    for wrong in (b"", b"ab\n", b"\xff\xfe abc", b"abc\x1b[0m", b"x" * (names.LARGEST_NOTE + 1)):
        with pytest.raises(Invalid):
            names.note_text(wrong)


@given(st.text(min_size=3).filter(lambda text: len(text.strip()) > 2), st.data())
def test_a_note_loses_nothing(text: str, data: st.DataObject) -> None:
    """What was not touched is as it was: marks, line ends of other systems, also what is not shown."""
    shown = names.note_document(text).decode()
    lines = shown.removesuffix("\n").split("\n")
    place = data.draw(st.integers(0, len(lines)))
    new = "\n".join([*lines[:place], "a new line", *lines[place:]])
    sent = names.with_hidden(names.note_text(f"{new}\n".encode()), text).split("\n")
    assert sent.count("a new line") == text.split("\n").count("a new line") + 1
    sent.remove("a new line")
    assert sorted(sent) == sorted(text.split("\n"))


def test_what_is_hidden_in_a_note() -> None:
    old = "one\x1b[0m\n\u200fשלום (a)\u200e\r\nthree\x07\nfour"
    assert names.note_document(old).decode() == "one[0m\n\u200fשלום (a)\u200e\r\nthree\nfour\n"
    for new, sent in (
        (
            "one[0m\n\u200fשלום (b)\u200e\r\nthree\nfour",
            "one\x1b[0m\n\u200fשלום (b)\u200e\r\nthree\x07\nfour",
        ),
        ("\u200fשלום (a)\u200e\r\nthree\nfour", "\u200fשלום (a)\u200e\r\nthree\x07\nfour"),
        ("one[0m\nfive", None),
        ("one, two\n\u200fשלום (a)\u200e\r\nthree\nfour", None),
    ):
        if sent is None:
            with pytest.raises(Invalid, match="control characters"):
                names.with_hidden(new, old)
        else:
            assert names.with_hidden(new, old) == sent


def test_dates_of_links() -> None:
    assert names.expiry(b"") == names.expiry(b"{}\n") == ""
    assert names.expiry(b'{"expires_date": "2030-01-31"}') == "2030-01-31"
    for wrong in (b"soon", b'{"expires_date": "soon"}', b"[]", b'{"expires_date": 7}'):
        with pytest.raises(Invalid):
            names.expiry(wrong)
    for wrong in (b'{"expires": "2030-01-31"}', b'{"expires_date": "2030-01-31", "is_active": true}'):
        with pytest.raises(Invalid, match="no such field"):
            names.expiry(wrong)


def test_what_can_be_changed_of_a_link() -> None:
    """Its date. Anything else is refused, not passed over."""
    link = {"id": "x", "is_active": True, "expires_date": "2030-01-31T00:00:00", "html_location": "https://x"}
    for content, date in (
        (json.dumps(link), link["expires_date"]),
        (json.dumps(link | {"expires_date": "2031-01-31"}), "2031-01-31"),
        ('{"expires_date": "2031-01-31"}', "2031-01-31"),
        ("{}", ""),
    ):
        assert names.expiry(content.encode(), link) == date
    for change in ({"is_active": False}, {"html_location": "https://y"}, {"expires": "2031-01-31"}):
        with pytest.raises(Invalid, match="expires_date can be set"):
            names.expiry(json.dumps(link | change).encode(), link)
    with pytest.raises(Invalid, match="for ever"):
        names.expiry(json.dumps(link | {"expires_date": None}).encode(), link)
