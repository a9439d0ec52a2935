from __future__ import annotations

import errno
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from figfs import errors
from figfs.figshare.refusals import LONGEST, refusal, said


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"message": "Not found", "code": "EntityNotFound", "data": {}}', "EntityNotFound Not found"),
        (b'{"code": 404, "message": "Gone"}', "404 Gone"),
        (b'{"message": null, "code": null, "data": null}', ""),
        (
            b'{"errors": [{"field": "title", "reason": "too short"}]}',
            "errors: field: title reason: too short",
        ),
        (b'["first", {"message": "second"}]', "first second"),
        (b'"just a text"', "just a text"),
        (b"plain text\r\nin two lines", "plain text in two lines"),
        (b"", ""),
        (
            b"<html><head><title>x</title></head><body><h1>403 Forbidden</h1><p>nginx&amp;co</body>",
            "403 Forbidden nginx&co",
        ),
        (b'{"message": "<p>no <b>HTML</b></p>"}', "no HTML"),
        ('{"message": "caf\u00e9 \u001b[31mred"}'.encode().replace(b"\x1b", b"\\u001b"), "caf\u00e9 [31mred"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"null", ""),
    ],
)
def test_what_an_error_body_says(body: bytes, expected: str) -> None:
    """Object, list, text, HTML, nothing: one line of plain text."""
    assert said(body) == expected


@given(st.binary() | st.text().map(str.encode), st.integers(300, 599))
def test_any_body_gives_one_short_printable_line(body: bytes, status: int) -> None:
    """Whatever comes, the error's text is a line for a person, of bounded length, and the status is kept."""
    error = refusal(status, body, what="GET /x")
    text = str(error)
    assert text.isprintable()
    assert len(text) <= len("GET /x: 400 ") + LONGEST
    assert error.status == status


def test_the_words_are_cut() -> None:
    """The first 200 characters of what the server says."""
    text = str(refusal(500, b"x" * 1000, what="GET /x"))
    assert text.endswith("…")
    assert text.count("x") == LONGEST - 1 + 1  # the path has one, too


@pytest.mark.parametrize(
    ("status", "kind", "number"),
    [
        (400, errors.Invalid, errno.EINVAL),
        (401, errors.Unauthorized, errno.EACCES),
        (403, errors.Forbidden, errno.EPERM),
        (404, errors.NotFound, errno.ENOENT),
        (405, errors.Invalid, errno.EINVAL),
        (409, errors.Conflict, errno.EBUSY),
        (410, errors.NotFound, errno.ENOENT),
        (413, errors.QuotaExceeded, errno.EDQUOT),
        (422, errors.Invalid, errno.EINVAL),
        (429, errors.RateLimited, errno.EIO),
        (302, errors.BadAnswer, errno.EIO),
        (500, errors.ServerError, errno.EIO),
        (503, errors.ServerError, errno.EIO),
    ],
)
def test_each_status_has_its_error(status: int, kind: type[errors.RemoteError], number: int) -> None:
    """Design §5, with the errno that a program sees."""
    error = refusal(status, b"{}", what="GET /x")
    assert type(error) is kind
    assert error.errno == number


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"code": "QuotaExceeded", "message": "no"}', errors.QuotaExceeded),
        (b'{"message": "Possible quota limitation"}', errors.QuotaExceeded),
        (b"Not enough private quota left", errors.QuotaExceeded),
        (b'{"code": "MaxFilesReached"}', errors.TooManyFiles),
        (b'{"message": "Maximum number of files per item exceeded"}', errors.TooManyFiles),
        (b'{"message": "Too many files"}', errors.TooManyFiles),
        (b'{"message": "An item cannot have more than 500 files"}', errors.TooManyFiles),
        (b'{"message": "File limit reached"}', errors.TooManyFiles),
        (b'{"code": "MaxFileSizeExceeded"}', errors.FileTooLarge),
        (b'{"message": "larger than maximum_file_size"}', errors.FileTooLarge),
        (b'{"message": "Maximum allowed file size exceeded"}', errors.FileTooLarge),
        (b'{"message": "File too large"}', errors.FileTooLarge),
        (b'{"message": "title is too short, files is not a field"}', errors.Invalid),
        (b'{"message": "size is not a number"}', errors.Invalid),
    ],
)
@pytest.mark.parametrize("status", [400, 422])
def test_a_refusal_says_what_it_is_about(body: bytes, kind: type[errors.RemoteError], status: int) -> None:
    """Quota, number of files and size of a file are told apart by code or words; the rest is Invalid."""
    assert type(refusal(status, body, what="POST /x")) is kind


def test_words_do_not_overrule_401_429_and_5xx() -> None:
    """ "Request quota exceeded" of a rate limit is not a full disk."""
    assert type(refusal(429, b"quota of requests exceeded", what="GET /x")) is errors.RateLimited
    assert type(refusal(401, b"quota", what="GET /x")) is errors.Unauthorized
    assert type(refusal(500, b"quota service is down", what="GET /x")) is errors.ServerError


def test_quota_counts_in_a_403_and_a_413_about_size() -> None:
    """The words say more than the status."""
    assert type(refusal(403, b"quota exceeded", what="POST /x")) is errors.QuotaExceeded
    assert type(refusal(413, b"file too large", what="POST /x")) is errors.FileTooLarge


def test_secrets_are_blotted_out() -> None:
    """Some servers repeat the token they refuse."""
    text = str(refusal(401, b'{"message": "invalid token abc123"}', what="GET /x", secrets=["abc123"]))
    assert "abc123" not in text
    assert "***" in text


@pytest.mark.parametrize(
    "body",
    [b"<!--" * 200_000, b"<script>" * 100_000, b"<" * 1_000_000, b"max-file " * 100_000,
     b"{" + b",".join(b'"k%d": "x"' % n for n in range(200_000)) + b"}", b"[" * 1_000_000],
    ids=["comments", "scripts", "brackets", "words", "keys", "depth"],
)  # fmt: skip
def test_a_body_of_any_length_is_read_at_once(body: bytes) -> None:
    """Nobody waits for what a server has to say about an error: the loop has one thread."""
    began = time.process_time()
    text = str(refusal(400, body, what="GET /x"))
    assert time.process_time() - began < 1
    assert len(text) < 300
