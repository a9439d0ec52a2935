"""Dates in headers (``Mon, 20 May 2024 14:45:00 GMT``). Pure."""

from __future__ import annotations

import datetime
import email.utils

_EPOCH = datetime.datetime.fromtimestamp(0, datetime.UTC)


def http_date(text: str | None) -> datetime.datetime | None:
    """The time that a header tells; None for one that tells none, or one without a zone."""
    try:
        date = email.utils.parsedate_to_datetime(text or "")
    except (ValueError, TypeError, OverflowError):  # OverflowError: a year or a zone of twenty digits
        return None
    return date if date.tzinfo is not None else None


def seconds_between(earlier: datetime.datetime | None, later: datetime.datetime | None) -> float | None:
    """None where one of them is not known."""
    if earlier is None or later is None:
        return None
    try:
        return (later - earlier).total_seconds()
    except OverflowError:  # year 1 or 9999, in a zone in which it is another year
        return None


def posix_time(text: str | None) -> float | None:
    """The same time in POSIX seconds."""
    return seconds_between(_EPOCH, http_date(text))
