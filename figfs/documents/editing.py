"""A ``metadata.json`` that was written back: what of it to send, or why not. Pure.

Figshare shows an item in another shape than it takes one: a licence as an object, but by number; the type by
number, but as a word. A person may write either. A field that is left out stays as it is.
"""

from __future__ import annotations

import codecs
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from figfs.documents import shapes
from figfs.documents.shapes import Wrong, is_same
from figfs.documents.texts import to_json
from figfs.errors import BadAnswer, Changed, Invalid
from figfs.terminal import visible

#: Bytes of a document. Descriptions have 20,000 characters at most, so what is larger is something else.
LARGEST = 32 << 20

_DATE = "modified_date"
_TITLE = (3, 1000)
_DESCRIPTION = 20_000
_FUNDING = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class Field:
    """A field of the document that can be written: the name to send it under, and how."""

    send: str
    shape: shapes.Shape


@dataclasses.dataclass(frozen=True, slots=True)
class Choices:
    """What the account may choose from; None where that is not known: Figshare will tell."""

    licenses: Mapping[int, Mapping[str, Any]] | None = None  #: by number, as Figshare lists them
    categories: Mapping[int, Mapping[str, Any]] | None = None


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
    except Wrong as exc:
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
    raise Wrong(f"{name} is not JSON")


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
    return sum(name not in document or not is_same(value, document[name]) for name, value in new.items())


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
        and not is_same(base.document.get(name), current.get(name))
        and not is_same(new[name], current.get(name))
    ]
    if changed:
        raise Changed(
            f"metadata.json: changed on Figshare since it was read ({', '.join(changed)}): read it again"
        )


def changes(
    kind: str, new: Mapping[str, Any], base: Mapping[str, Any], choices: Choices | None = None
) -> dict[str, object]:
    """What to send: the fields in which ``new`` differs from ``base``. ``Invalid`` names one that is wrong.

    ``choices``: checked against, where given.
    """
    known = fields_of(kind)
    sent: dict[str, object] = {}
    for name, value in new.items():
        if name in base and is_same(value, base[name]):
            continue
        field = known.get(name)
        if field is None:
            raise Invalid(_refusal(name, known, is_there=name in base))
        try:
            shaped = field.shape(value, base.get(name))
            if choices is not None:
                _check(field.send, shaped, value, base.get(name), choices)
        except Wrong as exc:
            raise Invalid(f"metadata.json: {name}: {exc}") from None
        if shaped is shapes.UNCHANGED:
            continue
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


def _check(send: str, shaped: Any, given: Any, old: Any, choices: Choices) -> None:
    """Raises ``Wrong`` for what the account cannot choose, and for what is called by another's name."""
    if send == "license" and choices.licenses is not None:
        _check_choice("licence", "licenses.json", shaped, given, old, choices.licenses)
    if send == "categories" and choices.categories is not None:
        for number, entry in zip(shaped, given or (), strict=True):
            _check_choice("category", "categories.json", number, entry, old, choices.categories)


def _check_choice(
    what: str, file: str, number: int, given: Any, old: Any, known: Mapping[int, Mapping[str, Any]]
) -> None:
    if shapes.entry_of(old, number) is not None:
        return  # it may stay, whatever the account's list has
    if number not in known:
        raise Wrong(f"{number} is no {what} of this account: .figshare/{file} at the root has them")
    if isinstance(given, dict):
        shapes.refuse_rest(f"{what} {number}", given, known[number], ("id", "value"))


# -- what can be written ------------------------------------------------------------


_PROJECT: dict[str, Field] = {
    "title": Field("title", shapes.text(*_TITLE)),
    "description": Field("description", shapes.text(0, _DESCRIPTION)),
    "funding": Field("funding", shapes.text(0, _FUNDING)),
    "funding_list": Field("funding_list", shapes.list_of(shapes.funding)),
    "custom_fields": Field("custom_fields_list", shapes.custom),
}
_COMMON: dict[str, Field] = _PROJECT | {
    "tags": Field("tags", shapes.list_of(shapes.word)),
    "keywords": Field("tags", shapes.list_of(shapes.word)),  # the same list by another name
    "references": Field("references", shapes.list_of(shapes.url)),
    "related_materials": Field("related_materials", shapes.list_of(shapes.related)),
    "categories": Field("categories", shapes.list_of(shapes.chosen)),
    "categories_by_source_id": Field("categories_by_source_id", shapes.list_of(shapes.word)),
    "authors": Field("authors", shapes.list_of(shapes.author)),
    "doi": Field("doi", shapes.text()),
    "handle": Field("handle", shapes.text()),
    "resource_doi": Field("resource_doi", shapes.text()),
    "resource_title": Field("resource_title", shapes.text(0, 1000)),
    "timeline": Field("timeline", shapes.timeline),
    "group_id": Field("group_id", shapes.number),
}
_FIELDS: dict[str, dict[str, Field]] = {
    "project": _PROJECT,
    "article": _COMMON
    | {
        "license": Field("license", shapes.chosen),
        "defined_type": Field("defined_type", shapes.item_type),
        "defined_type_name": Field("defined_type", shapes.item_type),
        "is_metadata_record": Field("is_metadata_record", shapes.flag),
        "metadata_reason": Field("metadata_reason", shapes.text()),
        "download_disabled": Field("download_disabled", shapes.flag),
    },
    "collection": _COMMON
    | {
        "funding": Field("funding_list", shapes.list_of(shapes.funding)),
        "resource_id": Field("resource_id", shapes.text()),
        "resource_link": Field("resource_link", shapes.text()),
        "resource_version": Field("resource_version", shapes.number),
    },
}


def fields_of(kind: str) -> Mapping[str, Field]:
    """What can be written of an article, a project, a collection: by the name in the document."""
    return _FIELDS[kind]
