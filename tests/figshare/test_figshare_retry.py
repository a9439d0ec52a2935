from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from figfs.figshare.retry import (
    TRIES,
    Failure,
    Verdict,
    classify,
    may_be_done,
    retry_after_seconds,
    wait_time,
)

RETRY, GIVE_UP, UNKNOWN = Verdict.RETRY, Verdict.GIVE_UP, Verdict.UNKNOWN_OUTCOME

# outcome: (GET and others that may be repeated, POST, POST with Retry-After)
TABLE = {
    Failure.NOT_SENT: (RETRY, RETRY, RETRY),
    Failure.LOST: (RETRY, UNKNOWN, UNKNOWN),
    Failure.GARBLED: (RETRY, UNKNOWN, UNKNOWN),
    302: (GIVE_UP, GIVE_UP, GIVE_UP),
    400: (GIVE_UP, GIVE_UP, GIVE_UP),
    401: (GIVE_UP, GIVE_UP, GIVE_UP),
    403: (GIVE_UP, GIVE_UP, GIVE_UP),
    404: (GIVE_UP, GIVE_UP, GIVE_UP),
    408: (RETRY, UNKNOWN, UNKNOWN),
    409: (RETRY, RETRY, RETRY),
    413: (GIVE_UP, GIVE_UP, GIVE_UP),
    422: (GIVE_UP, GIVE_UP, GIVE_UP),
    429: (RETRY, RETRY, RETRY),
    500: (RETRY, UNKNOWN, UNKNOWN),
    501: (GIVE_UP, UNKNOWN, UNKNOWN),
    502: (RETRY, UNKNOWN, UNKNOWN),
    503: (RETRY, UNKNOWN, RETRY),
    504: (RETRY, UNKNOWN, UNKNOWN),
    520: (RETRY, UNKNOWN, UNKNOWN),
}


@pytest.mark.parametrize("outcome", TABLE, ids=str)
def test_the_table(outcome: int | Failure) -> None:
    """What is repeated, what is final; a POST is repeated only where it was surely not carried out."""
    repeatable, post, post_asked = TABLE[outcome]
    for method in ("GET", "DELETE", "PUT", "PATCH"):
        assert classify(method, outcome) is repeatable
    assert classify("POST", outcome, read_only=True) is repeatable
    assert classify("POST", outcome) is post
    assert classify("POST", outcome, retry_after=True) is post_asked


@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH"]),
    st.integers(300, 599) | st.sampled_from(Failure),
    st.booleans(),
    st.booleans(),
)
def test_every_loop_ends(method: str, outcome: int | Failure, asked: bool, read_only: bool) -> None:
    """After TRIES tries there is no further one, whatever the outcome."""
    verdict = classify(method, outcome, retry_after=asked, read_only=read_only, tries=TRIES)
    assert verdict is not RETRY


@given(st.integers(300, 599) | st.sampled_from(Failure), st.booleans())
def test_a_post_that_may_be_done_is_not_repeated(outcome: int | Failure, asked: bool) -> None:
    """A 503 with Retry-After says that nothing was done; else "may be done" is never "repeat"."""
    if may_be_done(outcome) and not (outcome == 503 and asked):
        assert classify("POST", outcome, retry_after=asked) is UNKNOWN


def test_nonsense_is_asked_for_twice_only() -> None:
    """A cut answer deserves a second try; a server that talks nonsense goes on doing so."""
    assert classify("GET", Failure.GARBLED, tries=1) is RETRY
    assert classify("GET", Failure.GARBLED, tries=2) is GIVE_UP


@given(st.integers(1, 100), st.floats(0, 1))
def test_back_off_grows_and_is_bounded(tries: int, jitter: float) -> None:
    """Between half a second and 30 s, never shorter with more tries at the same jitter."""
    wait = wait_time(tries, retry_after=None, jitter=jitter)
    assert 0.5 <= wait <= 30
    assert wait_time(tries + 1, retry_after=None, jitter=jitter) >= wait


@given(st.integers(1, 10), st.floats(0, 1), st.floats(0, 1000))
def test_what_the_server_asks_for_is_waited(tries: int, jitter: float, asked: float) -> None:
    """Never less than Retry-After."""
    assert asked <= wait_time(tries, retry_after=asked, jitter=jitter) <= asked + 1


@pytest.mark.parametrize(
    ("value", "date", "expected"),
    [
        (None, None, None),
        ("7", None, 7),
        (" 0 ", None, 0),
        ("Wed, 21 Oct 2026 07:28:10 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", 10),
        ("Wed, 21 Oct 2026 07:27:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2026 07:28:10 GMT", None, None),
        ("Wed, 21 Oct 2026 07:28:10 -0000", "Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("soon", None, None),
        ("-3", None, None),
        ("1.5", None, None),
        ("9" * 400, None, 10**6),
    ],
)
def test_retry_after(value: str | None, date: str | None, expected: float | None) -> None:
    """Seconds, or a date by the server's own clock; nonsense is ignored."""
    assert retry_after_seconds(value, date=date) == expected


@given(
    st.text(max_size=40)
    | st.builds(
        "{}, {} {} {} 00:00:00 {}".format,
        st.sampled_from(["Mon", ""]),
        st.integers(0, 10**25),
        st.sampled_from(["Jan", "x", "1"]),
        st.sampled_from([1, 9999, 10**20]),
        st.sampled_from(["GMT", "-0000", "+9999", f"+{10**24}"]),
    )
)
@example("Mon, 01 Jan 2024 00:00:00 +9999999999999999999999")
@example("Mon, 01 Jan 99999999999999999999 00:00:00 GMT")
def test_any_retry_after(value: str) -> None:
    """Seconds that can be waited, or None, whatever a header says."""
    for asked, date in ((value, "Mon, 01 Jan 2024 00:00:00 GMT"), ("Mon, 01 Jan 2024 00:00:00 GMT", value)):
        wait = retry_after_seconds(asked, date=date)
        assert wait is None or 0 <= wait < 1e12
