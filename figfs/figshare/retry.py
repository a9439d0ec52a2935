"""Temporary, final or unknown outcome; and how long to wait. Pure: the loop that acts on it is in client.py.

A request that changes nothing when it is repeated (GET, DELETE, PUT, PATCH of given values) is repeated while
the trouble looks temporary. A POST is repeated only where it was surely not carried out: there was no
connection, or the server itself said that it turned the request away (409, 429, 503 with Retry-After). Any
other loss of the answer to a POST is an *unknown outcome*: the caller looks before it acts again.
"""

from __future__ import annotations

import enum

from figfs.figshare.dates import http_date, seconds_between


class Verdict(enum.Enum):
    RETRY = enum.auto()
    GIVE_UP = enum.auto()
    UNKNOWN_OUTCOME = enum.auto()


class Failure(enum.Enum):
    """Why there is no answer to look at."""

    NOT_SENT = enum.auto()  #: no connection: the server has not seen the request
    AWAY = enum.auto()  #: the same, and others have tried long enough: not worth another try now
    LOST = enum.auto()  #: connection or time ran out later: the server may have carried it out
    GARBLED = enum.auto()  #: an answer that cannot be what was asked for


#: An HTTP status, or why there is none.
Outcome = int | Failure

TRIES = 5  #: with the waits below: about 15 s of back-off
NOT_SENT_TRIES = 3  #: nobody is there: within 3 s, so that programs hear of it soon
GARBLED_TRIES = 2  #: once more, in case the answer was cut; a server that talks nonsense goes on doing so

# 501 and 505 say "never"; a 409 here is a lock that somebody holds for a while (api.md §8).
_FINAL_5XX = frozenset({501, 505})
_TEMPORARY_4XX = frozenset({408, 409, 425, 429})


def classify(
    method: str, outcome: Outcome, *, retry_after: bool = False, read_only: bool = False, tries: int = 1
) -> Verdict:
    """What to do after ``tries`` tries, the last of which ended in ``outcome``.

    ``retry_after``: the answer had a Retry-After header. ``read_only``: a POST that changes nothing (a
    search).
    """
    temporary = _is_temporary(outcome)
    if outcome is Failure.AWAY:
        return Verdict.GIVE_UP
    if outcome is Failure.NOT_SENT:
        return _while(tries < NOT_SENT_TRIES)
    if method == "POST" and not read_only:
        if outcome in (409, 429) or (outcome == 503 and retry_after):
            return _while(tries < TRIES)
        return Verdict.UNKNOWN_OUTCOME if may_be_done(outcome) else Verdict.GIVE_UP
    if outcome is Failure.GARBLED:
        return _while(tries < GARBLED_TRIES)
    return _while(temporary and tries < TRIES)


def may_be_done(outcome: Outcome) -> bool:
    """Whether the server may have carried the request out, although it failed for us."""
    if isinstance(outcome, Failure):
        return outcome not in (Failure.NOT_SENT, Failure.AWAY)
    return outcome == 408 or outcome >= 500


def wait_time(tries: int, *, retry_after: float | None, jitter: float) -> float:
    """Seconds to wait after ``tries`` (from 1) failed tries. ``jitter``: random, 0 to 1.

    What the server asks for, or 1, 2, 4, 8 … 30 s less up to half, so that many clients do not come back at
    once.
    """
    if retry_after is not None:
        return retry_after + jitter * 0.5
    return float(min(2.0 ** (min(tries, 10) - 1), 30.0) * (1 - jitter / 2))


def retry_after_seconds(value: str | None, *, date: str | None) -> float | None:
    """A Retry-After header as seconds from now, or None if there is none that can be understood.

    An HTTP date is taken relative to the answer's own ``Date`` header: it is the server's clock that counts.
    """
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(min(int(value[:9]), 10**6))
    wait = seconds_between(http_date(date), http_date(value))
    return None if wait is None else max(0.0, wait)


def _is_temporary(outcome: Outcome) -> bool:
    if isinstance(outcome, Failure):
        return True
    return outcome in _TEMPORARY_4XX or (outcome >= 500 and outcome not in _FINAL_5XX)


def _while(again: bool) -> Verdict:
    return Verdict.RETRY if again else Verdict.GIVE_UP
