"""Names in ``notes/`` and ``links/``, and what is written there. Pure."""

from __future__ import annotations

import errno
import json
import re

from figfs.documents.texts import line, shown
from figfs.errors import Invalid
from figfs.figshare.records import Id
from figfs.namespace import naming
from figfs.terminal import visible

LARGEST_NOTE = 1 << 20  #: bytes; Figshare names no limit
_SHORTEST_NOTE = 3  #: characters (api.md §4)
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
    if len(text.strip()) < _SHORTEST_NOTE:
        raise Invalid(f"a note has {_SHORTEST_NOTE} characters or more")
    return text.removesuffix("\n")


def note_document(text: str) -> bytes:
    """The note as it is read: with a line end at its end, which is none of its own (``note_text``)."""
    return f"{shown(text)}\n".encode() if text else b""


def note_as_read(content: bytes) -> bytes:
    """How a note reads that was written as ``content``."""
    return note_document(content.decode(errors="replace").removesuffix("\n"))


def link_name(link_id: Id) -> str:
    return f"{naming.name_from_filename(str(link_id))[:200]}.json"


def expiry(content: bytes) -> str:
    """The date in ``{"expires_date": …}``; "" for an empty file or object: Figshare's default."""
    try:
        raw = json.loads(content.decode()) if content.strip() else {}
    except (ValueError, RecursionError):
        raise Invalid('a private link is made by an empty file, or {"expires_date": "2030-01-31"}') from None
    date = raw.get("expires_date") if isinstance(raw, dict) else raw
    if date is None and isinstance(raw, dict):
        return ""
    if not isinstance(date, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?Z?)?", date):
        raise Invalid(f"expires_date: a date as 2030-01-31 expected, not {visible(str(date), 40)}")
    return date
