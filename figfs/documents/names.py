"""Names in ``notes/`` and ``links/``, and what is written there. Pure."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Mapping

from figfs.documents.shapes import is_same
from figfs.documents.texts import line
from figfs.errors import Invalid
from figfs.figshare.records import Id
from figfs.namespace import naming
from figfs.terminal import visible

LARGEST_NOTE = 1 << 20  #: bytes; Figshare names no limit
_SHORTEST_NOTE = 3  #: characters (api.md §4)
#: What is not shown of a note: what a terminal obeys, and what is no character. Marks that turn the direction
#: of writing stay, and so do the line ends of other systems: they are a part of what somebody has written.
_HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_LONGEST_ABSTRACT = 60  #: characters of a note in its name
_MOST_BYTES = 180  #: of these: with id and ".txt" less than the 255 of a name, whatever the script


def note_name(note_id: Id, abstract: str) -> str:
    """``12 The stakes of 2021.txt``: the id, which tells notes apart, and how the note begins."""
    words = line(abstract)
    if len(words) > _LONGEST_ABSTRACT:
        words = words[: _LONGEST_ABSTRACT - 1].rstrip() + "…"
    words = words.encode()[:_MOST_BYTES].decode(errors="ignore")
    return naming.name_from_filename(f"{str(note_id)[:40]} {words}".rstrip(" .")) + ".txt"


def id_of_note(name: str) -> str:
    """The id that a note's name begins with: its other words change with its text. ENOENT without one."""
    found = re.match(r"[0-9A-Za-z_-]+(?=[ .]|$)", name)
    if found is None:
        raise OSError(errno.ENOENT, f"no note {visible(name, 100)}")
    return found[0]


def note_text(content: bytes) -> str:
    """The text to send. ``Invalid`` where Figshare would take none, or it is no text."""
    if len(content) > LARGEST_NOTE:
        raise Invalid(f"a note of more than {LARGEST_NOTE >> 10} KiB")
    try:
        text = content.decode()
    except UnicodeDecodeError as exc:
        raise Invalid(f"a note is text in UTF-8; line {content[: exc.start].count(10) + 1} is not") from None
    if (found := _HIDDEN.search(text)) is not None:
        line_number = text.count("\n", 0, found.start()) + 1
        raise Invalid(f"line {line_number} of the note holds a control character")
    if len(text.strip()) < _SHORTEST_NOTE:
        raise Invalid(f"a note has {_SHORTEST_NOTE} characters or more")
    return text.removesuffix("\n")


def with_hidden(text: str, current: str) -> str:
    """``text``, written instead of ``current`` as that was shown, with what is hidden in the lines before and
    after the change. ``Invalid`` where something hidden would be lost; a line may be removed with it.
    """
    new, old = text.split("\n"), current.split("\n")
    shown = [_HIDDEN.sub("", each) for each in old]
    shorter = min(len(new), len(old))
    before = next((n for n in range(shorter) if new[n] != shown[n]), shorter)
    left = shorter - before
    after = next((n for n in range(left) if new[-1 - n] != shown[-1 - n]), left)
    changed = new[before : len(new) - after]
    for number, each in enumerate(old[before : len(old) - after], before + 1):
        if changed and _HIDDEN.search(each):
            raise Invalid(
                f"line {number} of the note holds control characters, which are not shown: it can be removed,"
                " or stay as it is before or after what is changed"
            )
    return "\n".join([*old[:before], *changed, *old[len(old) - after :]])


def note_document(text: str) -> bytes:
    """The note as it is read: as somebody has written it, but for what a terminal obeys; with a line end at
    its end, which is none of its own (``note_text``).
    """
    return f"{_HIDDEN.sub('', text)}\n".encode() if text else b""


def note_as_read(content: bytes) -> bytes:
    """How a note reads that was written as ``content``."""
    return note_document(content.decode(errors="replace").removesuffix("\n"))


def link_name(link_id: Id) -> str:
    return f"{naming.name_from_filename(str(link_id))[:200]}.json"


def expiry(content: bytes, link: Mapping[str, object] | None = None) -> str:
    """The date in ``{"expires_date": …}``; "" for an empty file or object: Figshare's default, or as it is.

    ``link``: what is there. ``Invalid`` for anything else that would be changed.
    """
    try:
        raw = json.loads(content.decode()) if content.strip() else {}
    except (ValueError, RecursionError):
        raise Invalid('a private link is made by an empty file, or {"expires_date": "2030-01-31"}') from None
    known = link or {}
    if isinstance(raw, dict):
        for name, value in raw.items():
            if name != "expires_date" and not (name in known and is_same(value, known[name])):
                why = "cannot be changed" if name in known else "no such field"
                raise Invalid(f"{visible(str(name), 40)}: {why}: of a private link expires_date can be set")
    date = raw.get("expires_date") if isinstance(raw, dict) else raw
    if isinstance(raw, dict) and (date is None or date == ""):
        if known.get("expires_date") and "expires_date" in raw:
            raise Invalid("expires_date: a private link does not stay for ever")
        return ""
    if date and date == known.get("expires_date"):
        return str(date)
    if not isinstance(date, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?Z?)?", date):
        raise Invalid(f"expires_date: a date as 2030-01-31 expected, not {visible(str(date), 40)}")
    return date


def is_expiry(content: bytes, date: str) -> bool:
    """Whether a link that was read or written as ``content`` may have that date: Figshare adds a time."""
    try:
        raw = json.loads(content)
    except ValueError:
        return True
    said = raw.get("expires_date") if isinstance(raw, dict) else raw
    return not isinstance(said, str) or said[:10] == date[:10]
