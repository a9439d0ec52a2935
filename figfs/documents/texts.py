"""Text and JSON that is safe to show, from records of any shape. Pure.

Documents reach terminals (``cat``) and other programs: no control character and no mark that turns the
direction of writing is in them. In JSON they are escaped, nothing is lost; elsewhere they go. Notes, which
are written back, have rules of their own (``names.py``).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from figfs.errors import BadAnswer
from figfs.namespace import naming

#: Characters of one value that are looked at. Figshare's own limits are 1,000 for titles, 20,000 for
#: descriptions.
LONGEST = 50_000

_TURNING = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # directional marks
_NOT_SHOWN = re.compile(
    f"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f{_TURNING}\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff]"
)
_TO_ESCAPE = re.compile(f"[\x7f-\x9f\u2028\u2029{_TURNING}\ufeff\ufff9-\ufffb\ufffe\uffff\ud800-\udfff]")
_SPACES = re.compile(r"\s+")
_DEEPEST = 100


def shown(text: str) -> str:
    """``text`` without what must not be shown; its lines end with "\\n"."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return _NOT_SHOWN.sub("", lines)


def line(value: object) -> str:
    """A value (a text, a number; else "") as plain text in one line: HTML is reduced to its text."""
    if isinstance(value, bool):
        return ""
    if isinstance(value, int):
        return str(value) if abs(value) < 1 << 63 else ""
    if not isinstance(value, str):
        return ""
    return _SPACES.sub(" ", shown(naming.plain_text(value[:LONGEST]))).strip()


def lines(value: object) -> list[str]:
    """The texts in a list, as ``line``; without empty ones and doubles."""
    if not isinstance(value, list):
        return []
    return list(dict.fromkeys(text for entry in value[:1000] if (text := line(entry))))


def mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def quoted(text: str) -> str:
    """``text`` in double quotes, as JSON and YAML both read it; what must not be shown is escaped."""
    return _escape(json.dumps(text, ensure_ascii=False))


def to_json(value: object) -> bytes:
    """Parsed JSON as a document: two spaces, keys in order, so that two of them can be compared by line.

    Raises ``BadAnswer`` for what is nested too deep to be anybody's metadata.
    """
    try:
        text = json.dumps(_finite(value), ensure_ascii=False, indent=2, sort_keys=True)
    except (RecursionError, ValueError, TypeError):
        raise BadAnswer("not a document: nested too deep, or no JSON") from None
    return f"{_escape(text)}\n".encode()


def _escape(text: str) -> str:
    return _TO_ESCAPE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def _finite(value: object, depth: int = 0) -> object:
    """JSON has no NaN and no infinity, although Python reads them: null."""
    if depth > _DEEPEST:
        raise ValueError
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(entry, depth + 1) for key, entry in value.items()}
    if isinstance(value, list):
        return [_finite(entry, depth + 1) for entry in value]
    return value
