"""An answer with an error status, as the error it means. Pure.

Error bodies are ``{message, code, data}`` by the documentation; in the world they are also lists, texts, HTML
pages of a proxy, or nothing, and ``code`` is a number or a name (api.md §1, quirks §5, L12).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Mapping

from figfs import errors
from figfs.figshare.records import decode

LONGEST = 200  #: characters of the server's own words that go into an error's text
READ = 100_000  #: bytes of a body that are looked at

_BY_STATUS: dict[int, type[errors.RemoteError]] = {
    401: errors.Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    408: errors.TooSlow,
    409: errors.Conflict,
    410: errors.NotFound,
    413: errors.QuotaExceeded,
    423: errors.Conflict,
    425: errors.TooSlow,
    429: errors.RateLimited,
    451: errors.Forbidden,
    507: errors.QuotaExceeded,
}

# What a refusal speaks of, in its code or its words. The order matters: "maximum file size" names files too.
_BY_WORDS: tuple[tuple[re.Pattern[str], type[errors.RemoteError]], ...] = (
    (re.compile(r"\bquota"), errors.QuotaExceeded),
    (
        re.compile(
            r"\bmax\w* (allowed )?(upload |file )+size|\bfile (is )?too (large|big)|\bfile size (limit|exce)"
        ),
        errors.FileTooLarge,
    ),
    (
        re.compile(
            r"\btoo many files|\bmax\w* ([\w-]+ ){0,4}files\b|\bmore than \d+ files"
            r"|\bfiles? (count |number )?limit|\blimit of ([\w-]+ ){0,3}files"
        ),
        errors.TooManyFiles,
    ),
)


def refusal(status: int, body: bytes, *, what: str, secrets: Iterable[str] = ()) -> errors.RemoteError:
    """The error to raise for an answer of ``status`` (not 2xx) to ``what`` (a few words for a person).

    ``secrets`` are blotted out should the server repeat them.
    """
    words = said(body)
    for secret in secrets:
        words = words.replace(secret, "***")
    short = words if len(words) <= LONGEST else words[: LONGEST - 1] + "…"
    text = f"{what}: {status}{' ' if short else ''}{short}"
    return _kind(status, words)(text, status=status)


def said(body: bytes) -> str:
    """What an error body says, in one line without control characters."""
    body = body[:READ]
    text = body.decode("utf-8", "replace").strip()
    try:
        parts = list(_texts(decode(body)))
    except errors.BadAnswer:
        parts = [_without_tags(text) if text.startswith("<") else text]
    line = " ".join(" ".join(parts).split())
    return "".join(char for char in line if char.isprintable())


def _kind(status: int, words: str) -> type[errors.RemoteError]:
    if 400 <= status < 500 and status not in (401, 429):
        # "MaxFileSizeExceeded" and "max_file_size" read like words, too.
        plain = re.sub(r"(?<=[a-z])(?=[A-Z])|_", " ", words).lower()
        for pattern, kind in _BY_WORDS:
            if pattern.search(plain):
                return kind
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if 300 <= status < 400:
        return errors.BadAnswer
    return errors.ServerError if status >= 500 else errors.Invalid


def _texts(raw: object, depth: int = 0) -> list[str]:
    """The texts in parsed JSON; of an object the code and the message first."""
    if depth > 4 or raw is None or isinstance(raw, bool):
        return []
    if isinstance(raw, Mapping):
        first = [key for key in ("code", "message") if key in raw]
        keys = first + [key for key in raw if key not in first]
        return [
            text if key in first else f"{key}: {text}"
            for key in keys
            for text in [" ".join(_texts(raw[key], depth + 1))]
            if text
        ]
    if isinstance(raw, list):
        return [text for item in raw[:20] for text in _texts(item, depth + 1)]
    return [_without_tags(str(raw))]


def _without_tags(text: str) -> str:
    # What is not closed goes on to the end: else each "<!--" of a thousand would look for its end there.
    text = re.sub(r"(?is)<(script|style|head)\b.*?(</\1>|$)|<!--.*?(-->|$)", " ", text)
    return html.unescape(re.sub(r"<[^<>]{0,2000}>", " ", text))
