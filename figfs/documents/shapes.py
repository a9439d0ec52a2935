"""Values of a ``metadata.json`` in the shapes in which Figshare takes them. Pure.

What is in an entry is sent, or is as Figshare has it, or is refused: nothing is left out without a word.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from figfs.figshare.records import Id, read_id
from figfs.terminal import visible

#: From a value of the document to the one to send. The second argument: what was there. Raises ``Wrong``.
Shape = Callable[[Any, Any], object]

#: Nothing to send: it says the same in another way.
UNCHANGED = object()

_TIMELINE = ("firstOnline", "publisherPublication", "publisherAcceptance")
_NAMES = ("name", "first_name", "last_name", "email", "orcid_id")  #: of a new author


class Wrong(Exception):
    """Why a value is none; for a person."""


def is_same(one: Any, other: Any) -> bool:
    """Numbers by value, since programs write them anew: 3.0 as 3, large ones rounded. True is no number."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        try:
            return one == other or float(one) == float(other) != math.inf
        except OverflowError:  # 1 and 400 zeros is a whole number in JSON
            return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return type(one) is type(other) and bool(one == other)


# -- plain values ------------------------------------------------------------


def text(low: int = 0, high: int | None = None) -> Shape:
    def shape(value: Any, old: Any) -> str:
        text = "" if value is None else value
        if not isinstance(text, str):
            raise Wrong("a text in quotes expected")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise Wrong("holds half a character (a lone surrogate)") from None
        length = len(text.strip()) if low else len(text)
        if length < low or (high is not None and len(text) > high):
            bounds = f"{low} to {high:,}" if low else f"at most {high:,}"
            raise Wrong(f"has {len(text):,} characters, Figshare takes {bounds}")
        return text

    return shape


def flag(value: Any, old: Any) -> bool:
    if not isinstance(value, bool):
        raise Wrong("true or false expected")
    return value


def number(value: Any, old: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise Wrong("a number expected")
    return value


def list_of(shape: Shape) -> Shape:
    """Each entry is shaped with all that was there before."""

    def shape_all(value: Any, old: Any) -> list[object]:
        entries = [] if value is None else value
        if not isinstance(entries, list):
            raise Wrong("a list in brackets [ ] expected")
        return [shape(entry, old) for entry in entries]

    return shape_all


def word(value: Any, old: Any) -> str:
    found = text()(value, None)
    assert isinstance(found, str)
    if not found.strip():
        raise Wrong("an entry is empty")
    return found


def url(value: Any, old: Any) -> str:
    found = word(value, None)
    if not re.match(r"(https?|ftp)://[^\s/]", found):
        raise Wrong(f"{visible(found, 60)!r} is no http, https or ftp address")
    return found


def item_type(value: Any, old: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Wrong('the type as a word expected: "dataset", "software", "figure"')
    return value


def _date(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(
        r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?", value
    ):
        raise Wrong("a date as 2024-05-20 or 2024-05-20T14:45:00Z expected")
    return value


# -- what has an id, or a number ------------------------------------------------------------


def id_of(value: Any) -> Id | None:
    """The id of something that may be given as an object with it; numbers may be texts (quirks L12)."""
    if isinstance(value, dict):
        value = value.get("id", value.get("value"))
    return read_id(value)


def _entries(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def entry_of(old: Any, number: Id) -> Any:
    """What was there of that id: in a list, or by itself. None: nothing."""
    entries = old if isinstance(old, list) else [old]
    return next((entry for entry in entries if id_of(entry) == number), None)


def refuse_rest(what: str, entry: Mapping[str, Any], known: Any, sent: Collection[str]) -> None:
    """``Wrong`` for what in ``entry`` is not sent, and is not as it is ``known``."""
    for key, value in entry.items():
        if key in sent:
            continue
        if not isinstance(known, Mapping) or key not in known:
            raise Wrong(f"{what}: {visible(str(key), 40)}: no such field; what can be set: {', '.join(sent)}")
        if not is_same(value, known[key]):
            raise Wrong(f"{what}: {visible(str(key), 40)} cannot be changed here")


def chosen(value: Any, old: Any) -> int:
    """One of those that Figshare has (``editing.Choices``), by its number; what else it is called is not
    ours to change.
    """
    found = id_of(value)
    if not isinstance(found, int):
        raise Wrong("a number, or an object with one, expected")
    known = entry_of(old, found)
    if isinstance(value, dict) and isinstance(known, dict):
        refuse_rest(f"{found}", value, known, ("id", "value"))
    return found


def _by_id(what: str, value: Mapping[str, Any], old: Any) -> dict[str, object] | None:
    """One who is known goes by id, and Figshare ignores what else is said; None: a new one.

    An entry that was there is never sent as a new one: it would lose what Figshare knows by the id.
    """
    if "id" not in value:
        if any(is_same(value, entry) for entry in _entries(old)):
            raise Wrong(
                f"{what} without an id cannot be sent again: read the document again, it may have one"
            )
        return None
    found = read_id(value["id"])
    if found is None:
        raise Wrong(f"{what}: the id is none: leave it out to name a new one")
    known = entry_of(old, found)
    if known is None and len(value) > 1:
        raise Wrong(f"{what} {found} is new here: give the id alone, or leave it out and give names")
    if any(key != "id" and not (key in known and is_same(known[key], value[key])) for key in value):
        raise Wrong(f"{what} {found} cannot be changed here: leave out the id to name a new one")
    return {"id": found}


def author(value: Any, old: Any) -> dict[str, object]:
    if not isinstance(value, dict):
        raise Wrong('an author is an object: {"id": …} or {"name": …}')
    known = _by_id("author", value, old)
    if known is not None:
        return known
    refuse_rest("a new author", value, None, (*_NAMES, "full_name"))
    named = {key: word(value[key], None) for key in _NAMES if value.get(key) not in (None, "")}
    if value.get("full_name") not in (None, ""):
        full_name = word(value["full_name"], None)
        if named.setdefault("name", full_name) != full_name:
            raise Wrong("an author with a name and another full_name")
    if "name" not in named and not ("first_name" in named and "last_name" in named):
        raise Wrong("an author needs an id, a name, or first_name and last_name")
    return dict(named)


def funding(value: Any, old: Any) -> dict[str, object]:
    """By id or by title, never both (the description of FundingCreate)."""
    if isinstance(value, str):
        value = {"title": value}
    if not isinstance(value, dict):
        raise Wrong('an entry is an object: {"id": …} or {"title": …}')
    known = _by_id("funding", value, old)
    if known is not None:
        return known
    refuse_rest("new funding", value, None, ("title",))
    if not value.get("title"):
        raise Wrong("an entry needs an id or a title")
    return {"title": word(value["title"], None)}


def related(value: Any, old: Any) -> dict[str, object]:
    """Sent whole: all but the link can be changed."""
    if not isinstance(value, dict) or not value.get("identifier"):
        raise Wrong('an entry is an object with an identifier: {"identifier": "10.…", "relation": …}')
    known: Any = {}
    entry: dict[str, object] = {}
    if "id" in value:
        found = read_id(value["id"])
        known = None if found is None else entry_of(old, found)
        if not isinstance(known, dict):
            raise Wrong("a related material of no id that is here: leave it out of a new one")
        entry["id"] = found
    texts = ("identifier", "title", "relation", "identifier_type")
    refuse_rest("a related material", value, known, (*texts, "is_linkout", "id"))
    for key in texts:
        if value.get(key):
            entry[key] = word(value[key], None)
        elif key == "title" and known.get(key):
            entry[key] = ""
        elif known.get(key):
            raise Wrong(f"{key} of a related material cannot be empty")
    if value.get("is_linkout") is not None:
        entry["is_linkout"] = flag(value["is_linkout"], None)
    elif known.get("is_linkout"):
        entry["is_linkout"] = False
    return entry


# -- objects ------------------------------------------------------------


def custom(value: Any, old: Any) -> object:
    """Names and values: of a list as Figshare shows it, where one that is gone is emptied, or of an object,
    which leaves what it does not name.
    """
    before = {str(entry.get("name")): entry for entry in _named(old)}
    if not isinstance(value, dict | list | None):
        raise Wrong('a list of objects {"name": …, "value": …} expected')
    sent: dict[str, object] = {}
    names: list[str] = []
    for entry in _named(value):
        if not isinstance(entry, dict) or "value" not in entry:
            raise Wrong("an entry needs a name and a value")
        name = word(entry.get("name"), None)
        if name in names:
            raise Wrong(f"{visible(name, 60)} is there twice")
        names.append(name)
        known = before.get(name, {})
        refuse_rest(visible(name, 60), entry, known, ("name", "value"))
        given = entry["value"]
        if not (given is None or isinstance(given, str | dict) or _is_texts(given)):
            raise Wrong(f"{visible(name, 60)}: a text, or a list of texts, expected")
        if name not in before or not is_same(given, known.get("value")):
            sent[name] = given
    if not isinstance(value, dict):
        for name in before.keys() - set(names):
            if before[name].get("value") not in (None, "", []):
                sent[name] = None
    return [{"name": name, "value": sent[name]} for name in sorted(sent)] if sent else UNCHANGED


def _named(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return [{"name": name, "value": entry} for name, entry in value.items()]
    return value if isinstance(value, list) else []


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def timeline(value: Any, old: Any) -> object:
    """All dates that can be set, since it is not described whether one that is missing stays. So it is not
    described either how one is taken back.
    """
    given = {} if value is None else value
    if not isinstance(given, dict):
        raise Wrong("an object expected")
    before = old if isinstance(old, dict) else {}
    for name in sorted(before.keys() | given.keys()):
        is_empty = given.get(name) in (None, "")
        if is_same(given.get(name), before.get(name)) or (is_empty and before.get(name) in (None, "")):
            continue
        if name not in _TIMELINE:
            raise Wrong(f"{visible(str(name), 40)} cannot be set; what can: {', '.join(_TIMELINE)}")
        if is_empty:
            raise Wrong(
                f"{name} cannot be taken back here: Figshare describes no way; change it, or leave it"
            )
    if all(is_same(given.get(name), before.get(name)) for name in _TIMELINE if given.get(name)):
        return UNCHANGED
    return {name: _date(given[name]) for name in _TIMELINE if given.get(name) not in (None, "")}
