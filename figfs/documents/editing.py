"""A ``metadata.json`` that was written back: what of it to send, or why not. Pure.

Figshare shows an item in another shape than it takes one: a licence as an object, but by number; the type by
number, but as a word. A person may write either. A field that is left out stays as it is.
"""

from __future__ import annotations

import codecs
import dataclasses
import json
import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from figfs.documents.texts import to_json
from figfs.errors import BadAnswer, Changed, Invalid
from figfs.terminal import visible

#: Bytes of a document. Descriptions have 20,000 characters at most, so what is larger is something else.
LARGEST = 32 << 20

_DATE = "modified_date"
_TITLE = (3, 1000)
_DESCRIPTION = 20_000
_FUNDING = 2000
_TIMELINE = ("firstOnline", "publisherPublication", "publisherAcceptance")

#: From a value of the document to the one to send. ``old``: what was there. Raises ``_Wrong``.
_Shape = Callable[[Any, Any], object]


class _Wrong(Exception):
    """Why a value is none; for a person."""


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """A field of the document that can be written: the name to send it under, and how."""

    send: str
    shape: _Shape


@dataclasses.dataclass(frozen=True, slots=True)
class Choices:
    """What the account may choose from; None where that is not known: Figshare will tell."""

    licenses: Collection[int] | None = None
    categories: Collection[int] | None = None


def parse(content: bytes) -> dict[str, Any]:
    """The document. ``Invalid`` says where it is broken, by line and column."""
    if len(content) > LARGEST:
        raise Invalid(f"metadata.json: larger than {LARGEST >> 20} MiB")
    try:
        text = content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        raise Invalid(f"metadata.json, line {line}: not UTF-8") from None
    try:
        raw = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as exc:
        raise Invalid(f"metadata.json, line {exc.lineno}, column {exc.colno}: {exc.msg}") from None
    except _Wrong as exc:
        raise Invalid(f"metadata.json: {exc}") from None
    except (ValueError, RecursionError):
        raise Invalid("metadata.json: a number too long, or nested too deep") from None
    if not isinstance(raw, dict):
        raise Invalid("metadata.json: an object in braces { } expected")
    try:
        to_json(raw)
    except BadAnswer:
        raise Invalid("metadata.json: nested too deep") from None
    return raw


def _no_constant(name: str) -> object:
    raise _Wrong(f"{name} is not JSON")


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """A document that was shown or written here."""

    shown: Mapping[str, Any]  #: as its writer knows it
    document: Mapping[str, Any]  #: as Figshare had it then

    @property
    def is_written(self) -> bool:
        return self.shown is not self.document

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> State:
        return cls(document, document)

    @classmethod
    def written(cls, written: Mapping[str, Any], document: Mapping[str, Any]) -> State:
        """``document`` is what Figshare has made of ``written``, which need not have all fields."""
        return cls({**document, **written}, document)


def made_from(kind: str, new: Mapping[str, Any], own: State | None, others: Sequence[State]) -> State | None:
    """Which state ``new`` was made from: as its date of modification tells, and what else in it is nobody's
    to change. None: from none of them.

    ``own``: what the process of its writer knows. ``others``: what was shown, the likeliest first.
    """
    date = new.get(_DATE)
    if own is not None and (date is None or (own.is_written and date == own.shown.get(_DATE))):
        return own
    if date is None and new.keys() <= fields_of(kind).keys():
        return next(iter(others), None)  # a few fields, written by hand: nothing in them tells
    every = others if own is None else [own, *others]
    of_then = [state for state in every if date is None or state.document.get(_DATE) == date]
    # Dates are of seconds: two changes may bear the same.
    return min(of_then, key=lambda state: _differences(new, state.document), default=None)


def _differences(new: Mapping[str, Any], document: Mapping[str, Any]) -> int:
    return sum(name not in document or not _is_same(value, document[name]) for name, value in new.items())


def refuse_stale(kind: str, new: Mapping[str, Any], base: State | None, current: Mapping[str, Any]) -> None:
    """``Changed`` if something could be lost: a field of ``new`` is another now than in ``base``, which
    ``new`` was made from, and it is not what ``new`` says either.

    Only fields that can be written count: dates, sizes and the list of files change by themselves. Without a
    base the date of modification in ``new`` tells.
    """
    if base is None:
        if _DATE in new and new[_DATE] != current.get(_DATE):
            raise Changed(
                "metadata.json: changed on Figshare since this copy of it was made"
                f" (modified {visible(str(current.get(_DATE)), 40)}): read it again"
            )
        return
    changed = [
        name
        for name in fields_of(kind)
        if name in new
        and not _is_same(base.document.get(name), current.get(name))
        and not _is_same(new[name], current.get(name))
    ]
    if changed:
        raise Changed(
            f"metadata.json: changed on Figshare since it was read ({', '.join(changed)}): read it again"
        )


def _is_same(one: Any, other: Any) -> bool:
    """Numbers by value, since programs write them anew: 3.0 as 3, large ones rounded. True is no number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        try:
            return one == other or float(one) == float(other) != math.inf
        except OverflowError:  # 1 and 400 zeros is a whole number in JSON
            return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    return type(one) is type(other) and bool(one == other)


def changes(
    kind: str, new: Mapping[str, Any], base: Mapping[str, Any], choices: Choices | None = None
) -> dict[str, object]:
    """What to send: the fields in which ``new`` differs from ``base``. ``Invalid`` names one that is wrong.

    ``choices``: checked against, where given.
    """
    known = fields_of(kind)
    sent: dict[str, object] = {}
    for name, value in new.items():
        if name in base and _is_same(value, base[name]):
            continue
        field = known.get(name)
        if field is None:
            raise Invalid(_refusal(name, known, is_there=name in base))
        try:
            shaped = field.shape(value, base.get(name))
            if choices is not None:
                _check(field.send, shaped, base.get(name), choices)
        except _Wrong as exc:
            raise Invalid(f"metadata.json: {name}: {exc}") from None
        if field.send in sent and sent[field.send] != shaped:
            raise Invalid(f"metadata.json: {name}: says something else than the field of the same meaning")
        sent[field.send] = shaped
    return sent


def asks_for(sent: Mapping[str, object]) -> tuple[bool, bool]:
    """Whether the account's licences, and its categories, are needed to check what is sent."""
    return "license" in sent, "categories" in sent


def _refusal(name: str, known: Mapping[str, Field], *, is_there: bool) -> str:
    shown = visible(name, 60)
    why = "cannot be changed here (or has changed since this copy was made)" if is_there else "no such field"
    return f"metadata.json: {shown}: {why}. What can be: {', '.join(sorted(known))}"


def _check(send: str, value: object, old: object, choices: Choices) -> None:
    if send == "license" and choices.licenses is not None and value not in choices.licenses:
        raise _Wrong(f"{value} is no licence of this account: .figshare/licenses.json at the root has them")
    if send == "categories" and choices.categories is not None and isinstance(value, list):
        before = {_id_of(entry) for entry in old} if isinstance(old, list) else set()
        for number in value:
            if number not in choices.categories and number not in before:
                raise _Wrong(
                    f"{number} is no category of this account: .figshare/categories.json at the root has them"
                )


# -- values ------------------------------------------------------------------------


def _text(low: int = 0, high: int | None = None, what: str = "characters") -> _Shape:
    def shape(value: Any, old: Any) -> str:
        text = "" if value is None else value
        if not isinstance(text, str):
            raise _Wrong("a text in quotes expected")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _Wrong("holds half a character (a lone surrogate)") from None
        length = len(text.strip()) if low else len(text)
        if length < low or (high is not None and len(text) > high):
            bounds = f"{low} to {high:,}" if low else f"at most {high:,}"
            raise _Wrong(f"has {len(text):,} {what}, Figshare takes {bounds}")
        return text

    return shape


def _flag(value: Any, old: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong("true or false expected")
    return value


def _number(value: Any, old: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise _Wrong("a number expected")
    return value


def _list_of(shape: _Shape) -> _Shape:
    def shape_all(value: Any, old: Any) -> list[object]:
        entries = [] if value is None else value
        if not isinstance(entries, list):
            raise _Wrong("a list in brackets [ ] expected")
        return [shape(entry, old) for entry in entries]

    return shape_all


def _word(value: Any, old: Any) -> str:
    text = _text()(value, None)
    assert isinstance(text, str)
    if not text.strip():
        raise _Wrong("an entry is empty")
    return text


def _url(value: Any, old: Any) -> str:
    text = _word(value, None)
    if not re.match(r"(https?|ftp)://[^\s/]", text):
        raise _Wrong(f"{visible(text, 60)!r} is no http, https or ftp address")
    return text


def _id_of(value: Any) -> int | None:
    """The number of something that may be given as an object with it."""
    if isinstance(value, dict):
        value = value.get("id", value.get("value"))
    return value if type(value) is int and 0 < value < 1 << 63 else None


def _chosen(value: Any, old: Any) -> int:
    number = _id_of(value)
    if number is None:
        raise _Wrong("a number, or an object with one, expected")
    return number


def _author(value: Any, old: Any) -> dict[str, object]:
    """One who is known goes by id; a new one by name."""
    if not isinstance(value, dict):
        raise _Wrong('an author is an object: {"id": …} or {"name": …}')
    number = _id_of(value)
    if number is not None:
        before = [entry for entry in _entries(old) if entry.get("id") == number]
        if before and any(entry != before[0].get(key) for key, entry in value.items()):
            raise _Wrong(f"author {number} cannot be changed here: leave out the id to name a new one")
        return {"id": number}
    named = {
        key: _word(value[key], None)
        for key in ("name", "first_name", "last_name", "email", "orcid_id")
        if value.get(key) not in (None, "")
    }
    if "name" not in named and value.get("full_name"):
        named["name"] = _word(value["full_name"], None)
    if "name" not in named and not ("first_name" in named and "last_name" in named):
        raise _Wrong("an author needs an id, a name, or first_name and last_name")
    return dict(named)


def _entries(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _funding(value: Any, old: Any) -> dict[str, object]:
    if isinstance(value, str):
        value = {"title": value}
    if not isinstance(value, dict):
        raise _Wrong('an entry is an object: {"id": …} or {"title": …}')
    fund: dict[str, object] = {}
    if (number := _id_of(value)) is not None:
        fund["id"] = number
    if value.get("title"):
        fund["title"] = _word(value["title"], None)
    if not fund:
        raise _Wrong("an entry needs an id or a title")
    return fund


def _related(value: Any, old: Any) -> dict[str, object]:
    if not isinstance(value, dict) or not value.get("identifier"):
        raise _Wrong('an entry is an object with an identifier: {"identifier": "10.…", "relation": …}')
    entry: dict[str, object] = {}
    for key in ("identifier", "title", "relation", "identifier_type"):
        if value.get(key):
            entry[key] = _word(value[key], None)
    if "is_linkout" in value and value["is_linkout"] is not None:
        entry["is_linkout"] = _flag(value["is_linkout"], None)
    if (number := _id_of(value)) is not None:
        entry["id"] = number
    return entry


def _custom(value: Any, old: Any) -> list[dict[str, object]]:
    """Names and values, of a list as Figshare shows it, or of an object."""
    if isinstance(value, dict):
        value = [{"name": name, "value": entry} for name, entry in value.items()]
    if not isinstance(value, list):
        raise _Wrong('a list of objects {"name": …, "value": …} expected')
    before = {str(entry.get("name")): entry.get("value") for entry in _entries(old)}
    sent: list[dict[str, object]] = []
    for entry in value:
        if not isinstance(entry, dict) or "value" not in entry:
            raise _Wrong("an entry needs a name and a value")
        name = _word(entry.get("name"), None)
        if name not in before or entry["value"] != before[name]:
            sent.append({"name": name, "value": entry["value"]})
    return sent


def _timeline(value: Any, old: Any) -> dict[str, object]:
    if not isinstance(value, dict):
        raise _Wrong("an object expected")
    before = old if isinstance(old, dict) else {}
    for name, date in value.items():
        if name not in _TIMELINE and date != before.get(name):
            raise _Wrong(f"{visible(str(name), 40)} cannot be set; what can: {', '.join(_TIMELINE)}")
    return {name: _date(value[name]) for name in _TIMELINE if value.get(name) not in (None, "")}


def _date(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(
        r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?", value
    ):
        raise _Wrong("a date as 2024-05-20 or 2024-05-20T14:45:00Z expected")
    return value


def _type(value: Any, old: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise _Wrong('the type as a word expected: "dataset", "software", "figure"')
    return value


def _funding_of_collection(value: Any, old: Any) -> object:
    """Shown as a list, which is ``funding_list`` when it is written (api.md §2)."""
    return _list_of(_funding)(value, old)


_PROJECT: dict[str, Field] = {
    "title": Field("title", _text(*_TITLE)),
    "description": Field("description", _text(0, _DESCRIPTION)),
    "funding": Field("funding", _text(0, _FUNDING)),
    "funding_list": Field("funding_list", _list_of(_funding)),
    "custom_fields": Field("custom_fields_list", _custom),
}
_COMMON: dict[str, Field] = _PROJECT | {
    "tags": Field("tags", _list_of(_word)),
    "keywords": Field("tags", _list_of(_word)),  # the same list by another name
    "references": Field("references", _list_of(_url)),
    "related_materials": Field("related_materials", _list_of(_related)),
    "categories": Field("categories", _list_of(_chosen)),
    "categories_by_source_id": Field("categories_by_source_id", _list_of(_word)),
    "authors": Field("authors", _list_of(_author)),
    "doi": Field("doi", _text()),
    "handle": Field("handle", _text()),
    "resource_doi": Field("resource_doi", _text()),
    "resource_title": Field("resource_title", _text(0, 1000)),
    "timeline": Field("timeline", _timeline),
    "group_id": Field("group_id", _number),
}
_FIELDS: dict[str, dict[str, Field]] = {
    "project": _PROJECT,
    "article": _COMMON
    | {
        "license": Field("license", _chosen),
        "defined_type": Field("defined_type", _type),
        "defined_type_name": Field("defined_type", _type),
        "is_metadata_record": Field("is_metadata_record", _flag),
        "metadata_reason": Field("metadata_reason", _text()),
        "download_disabled": Field("download_disabled", _flag),
    },
    "collection": _COMMON
    | {
        "funding": Field("funding_list", _funding_of_collection),
        "resource_id": Field("resource_id", _text()),
        "resource_link": Field("resource_link", _text()),
        "resource_version": Field("resource_version", _number),
    },
}


def fields_of(kind: str) -> Mapping[str, Field]:
    """What can be written of an article, a project, a collection: by the name in the document."""
    return _FIELDS[kind]
