"""The search index, which lags behind, and the search language."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable

from figfs.sandbox.errors import ApiError, invalid
from figfs.sandbox.state import Sandbox
from figfs.sandbox.store import Store

#: A document, as field -> lower-case text.
_Document = dict[str, str]
_Test = Callable[[_Document], bool]


def changed(sandbox: Sandbox, kind: str, identifier: int) -> None:
    """Note that an item of this kind is new, changed or gone: the index shows it ``search_lag`` later."""
    due = sandbox.clock.time() + sandbox.settings.search_lag
    sandbox.store.run(
        "INSERT OR IGNORE INTO index_queue (kind, id, due) VALUES (?, ?, ?)", kind, identifier, due
    )


def catch_up(sandbox: Sandbox) -> None:
    """Bring the index to where it may be by now. Before each search."""
    store = sandbox.store
    now = sandbox.clock.time()
    due = store.rows("SELECT kind, id FROM index_queue WHERE due <= ?", now)
    with store.transaction():
        for entry in due:
            kind, identifier = entry["kind"], entry["id"]
            store.run(f"DELETE FROM {kind}_index WHERE id = ?", identifier)
            store.run(f"INSERT INTO {kind}_index SELECT * FROM {kind} WHERE id = ?", identifier)
        store.run("DELETE FROM index_queue WHERE due <= ?", now)


def index_at_once(store: Store) -> None:
    """Make the whole index current, for seeding."""
    with store.transaction():
        for kind in ("articles", "projects", "collections"):
            store.run(f"DELETE FROM {kind}_index")
            store.run(f"INSERT INTO {kind}_index SELECT * FROM {kind}")
        store.run("DELETE FROM index_queue")


def check_query(query: object) -> str:
    """A ``search_for`` that can be understood; else 422."""
    if not isinstance(query, str):
        raise invalid("search_for", "must be a string")
    if query.count('"') % 2:
        raise invalid("search_for", 'a " is missing')
    _parse(query)
    return query


def matches(query: str, title: str, description: str, tags: str) -> bool:
    """Whether an item is found by a query that ``check_query`` has passed.

    ``tags`` is a JSON list. For use in SQL.
    """
    joined = "\n".join(json.loads(tags))
    document = {"title": title.lower(), "description": description.lower(), "tag": joined.lower()}
    return _parse(query)(document)


@functools.lru_cache(maxsize=64)
def _parse(query: str) -> _Test:
    """``AND`` binds tighter than ``OR``; bare words side by side are joined by OR (api.md §6)."""
    tokens = re.findall(r':[a-z_]+:|"[^"]*"|[()]|[^\s()"]+', query)
    test, rest = _either(tokens)
    if rest:
        raise invalid("search_for", f"unexpected {rest[0]!r}")
    return test


def _either(tokens: list[str]) -> tuple[_Test, list[str]]:
    tests: list[_Test] = []
    while tokens and tokens[0] != ")":
        if tokens[0] == "OR":
            tokens = tokens[1:]
            continue
        test, tokens = _both(tokens)
        tests.append(test)
    if not tests:
        return lambda document: True, tokens
    return lambda document: any(test(document) for test in tests), tokens


def _both(tokens: list[str]) -> tuple[_Test, list[str]]:
    test, tokens = _one(tokens)
    tests = [test]
    while tokens and tokens[0] == "AND":
        test, tokens = _one(tokens[1:])
        tests.append(test)
    return lambda document: all(test(document) for test in tests), tokens


def _one(tokens: list[str], field: str | None = None) -> tuple[_Test, list[str]]:
    if not tokens or tokens[0] in ("AND", ")"):
        raise invalid("search_for", "a word is missing")
    first, rest = tokens[0], tokens[1:]
    if first == "NOT":
        test, rest = _one(rest)
        return lambda document: not test(document), rest
    if first == "(":
        test, rest = _either(rest)
        if not rest:
            raise invalid("search_for", "a ) is missing")
        return test, rest[1:]
    if re.fullmatch(r":[a-z_]+:", first):
        name = first.strip(":")
        if name not in ("title", "description", "tag", "search_term"):
            raise ApiError(422, "ValidationError", f"The sandbox cannot search by {first}")
        return _one(rest, None if name == "search_term" else name)
    word = first.strip('"').lower()
    if field is not None:
        return lambda document: word in document[field], rest
    return lambda document: any(word in content for content in document.values()), rest
