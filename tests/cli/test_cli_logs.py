"""The log: where it goes, and that the token is not in it."""

from __future__ import annotations

import logging
import socket
from pathlib import Path

import pytest

from figfs.commandline.logs import configure
from figfs.errors import ConfigurationError
from figfs.settings import Token

TOKEN = Token("s3cr3t-t0ken")


def test_the_token_is_in_no_line(tmp_path: Path) -> None:
    """Neither as a message, nor as an argument, nor within an exception and its traceback."""
    handler = configure("debug", token=TOKEN, file=tmp_path / "log")
    logger = logging.getLogger("figfs.test")
    logger.debug("sent s3cr3t-t0ken")
    logger.info("sent %s and %r", TOKEN.reveal(), {"Authorization": f"token {TOKEN.reveal()}"})
    try:
        raise RuntimeError("no answer to s3cr3t-t0ken")
    except RuntimeError:
        logger.exception("failed", stack_info=True)
    handler.flush()
    text = (tmp_path / "log").read_text()
    assert "s3cr3t" not in text
    assert text.count("***") >= 4
    assert "RuntimeError: no answer to ***" in text


def test_the_level_counts_and_libraries_are_quiet(tmp_path: Path) -> None:
    """Even at debug: the lines of the HTTP client hold signed URLs."""
    configure("info", file=tmp_path / "log")
    logging.getLogger("figfs.test").debug("too much")
    logging.getLogger("figfs.test").info("enough")
    for name in ("httpx", "httpcore.http11", "hypercorn.error", "trio.abc"):
        logging.getLogger(name).info("chatter")
        logging.getLogger(name).warning("trouble in %s", name)
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split(": ", 1)[1] for line in lines] == [
        "enough",
        "trouble in httpx",
        "trouble in httpcore.http11",
        "trouble in hypercorn.error",
        "trouble in trio.abc",
    ]


def test_a_late_reply_to_release_is_no_error(tmp_path: Path) -> None:
    """The kernel does not wait for RELEASE and drops it at the unmount; other failures are told."""
    configure("debug", file=tmp_path / "log")
    log = logging.getLogger("pyfuse3")
    log.error("fuse_release(): fuse_reply_* failed with %s", "No such file or directory")
    log.error("fuse_read(): fuse_reply_* failed with %s", "No such file or directory")
    assert [line.split(": ", 1)[1] for line in (tmp_path / "log").read_text().splitlines()] == [
        "fuse_read(): fuse_reply_* failed with No such file or directory"
    ]


def test_the_foreground_logs_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """systemd's journal and a terminal both have their own clock."""
    configure("warning")
    logging.getLogger("figfs.test").warning("look")
    assert capsys.readouterr().err == "WARNING figfs.test: look\n"


def test_the_background_logs_to_syslog(tmp_path: Path) -> None:
    """Where there is one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(tmp_path / "log"))
        configure("warning", token=TOKEN, background=True, syslog=tmp_path / "log")
        logging.getLogger("figfs.test").warning("look at s3cr3t-t0ken")
        line = syslog.recv(1000).decode()
    assert "figfs[" in line
    assert "WARNING figfs.test: look at ***" in line


def test_the_background_logs_to_the_state_directory_without_syslog(tmp_path: Path) -> None:
    """As in a container: to the state directory that was asked for, else to the usual one."""
    configure("warning", background=True, syslog=tmp_path / "none", state_dir=tmp_path / "state")
    logging.getLogger("figfs.test").warning("look")
    assert "look" in (tmp_path / "state" / "figfs.log").read_text()


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    """One line, before anything is mounted."""
    with pytest.raises(ConfigurationError, match="cannot write the log to"):
        configure("warning", file=tmp_path)


def test_a_terminal_obeys_nothing_in_it(tmp_path: Path) -> None:
    """Titles and reasons come from servers. One record is one line, whatever is in it."""
    handler = configure("debug", file=tmp_path / "log")
    logger = logging.getLogger("figfs.test")
    logger.warning(
        "cannot list %s", "/articles/\x1b]0;owned\x07\u202eevil\x9b2J\nERROR figfs: forged\r\u2028x"
    )
    try:
        raise RuntimeError("\x1b[31mred\x7f")
    except RuntimeError:
        logger.exception("failed")
    handler.flush()
    text = (tmp_path / "log").read_text()
    assert text.replace("\n", "").isprintable()
    first, second, third, *_rest = text.split("\n")
    assert (
        "WARNING figfs.test: cannot list /articles/␛]0;owned␇\\u202eevil\\x9b2J␊ERROR figfs: forged␍" in first
    )
    assert second.endswith("ERROR figfs.test: failed")
    assert third.startswith("Traceback")
    assert "RuntimeError: ␛[31mred␡" in text
