"""Text for a person at a terminal. Names, reasons and titles come from servers and other people: what a
terminal would obey instead of showing it is made visible.
"""

from __future__ import annotations

import json


def visible(text: str, limit: int = 0) -> str:
    """``text`` in one line, with nothing in it that a terminal obeys.

    Control characters become the pictures that Unicode has for them, what else cannot be printed (marks that
    turn the direction of writing, lone surrogates) its number. ``limit``: characters, at most; 0: any number.
    """
    shown = text if text.isprintable() else "".join(map(_picture, text))
    return shown if not limit or len(shown) <= limit else shown[: limit - 1] + "…"


def as_json(value: object, *, indent: int | None = None) -> str:
    """JSON of nothing but printable ASCII: all else is escaped, DEL as well, which ``json`` lets through."""
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")


def _picture(character: str) -> str:
    code = ord(character)
    if character.isprintable():
        return character
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def amount(size: float) -> str:
    """Bytes for a person."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def duration(seconds: float) -> str:
    """A time for a person: ``12 s``, ``3 min 20 s``, ``5 h 2 min``, ``3 d 4 h``."""
    left = max(0, round(seconds))
    if left < 60:
        return f"{left} s"
    for small, large, per, names in ((1, 60, 60, ("min", "s")), (60, 3600, 24, ("h", "min"))):
        if left < large * per:
            whole, rest = divmod(left, large)
            return (
                f"{whole} {names[0]} {rest // small} {names[1]}" if rest // small else f"{whole} {names[0]}"
            )
    days, rest = divmod(left, 86400)
    return f"{days} d {rest // 3600} h" if rest // 3600 else f"{days} d"


def count(number: int, what: str) -> str:
    """``1 file``, ``2 files``."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
