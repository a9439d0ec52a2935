"""``figfs publish`` at the client's end: mounts that end, and a person who does not wait."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from figfs.commandline import mounts, publishcli
from figfs.errors import ConfigurationError

STEP = b'{"step": "accepted; waiting until the public sees it"}\n'


@contextlib.contextmanager
def mount(directory: Path, *lines: bytes, interrupt: bool = False) -> Iterator[mounts.Found]:
    """Something that reads a request, answers ``lines`` and ends. ``interrupt``: Ctrl-C before that."""
    path = directory / "s"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def serve() -> None:
            client, _ = listening.accept()
            with client:
                client.recv(1000)
                client.sendall(b"".join(lines))
                if interrupt:
                    os.kill(os.getpid(), signal.SIGINT)
                    with contextlib.suppress(OSError):
                        client.recv(1)

        thread = threading.Thread(target=serve)
        thread.start()
        yield mounts.Found(directory, "/mnt", path)
        thread.join()


@pytest.mark.parametrize("lines", [(), (STEP,), (STEP, b"no JSON\n"), (b'{"end": true}\n',)])
def test_a_mount_that_ends(tmp_path: Path, lines: tuple[bytes, ...]) -> None:
    """It was asked: nobody knows whether it is published, and where to look is said."""
    with (
        mount(tmp_path, *lines) as found,
        pytest.raises(ConfigurationError, match="may have been published, 'figfs info' tells"),
    ):
        publishcli._publish(found, "stamp")


def test_a_mount_that_was_not_asked(tmp_path: Path) -> None:
    """Nothing was published, and nothing else is said."""
    with pytest.raises(ConfigurationError) as caught:
        publishcli._publish(mounts.Found(tmp_path, "/mnt", tmp_path / "none"), "stamp")
    assert "published" not in str(caught.value)


def test_interrupted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C while it waits: the same is said."""
    with mount(tmp_path, STEP, interrupt=True) as found, pytest.raises(KeyboardInterrupt):
        publishcli._publish(found, "stamp")
    assert "interrupted: it may have been published, 'figfs info' tells" in capsys.readouterr().err


def test_accepted_and_no_more(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Figshare has accepted it, and does not say what came of that."""
    with mount(tmp_path, b'{"published": null, "kind": "article"}\n') as found:
        assert publishcli._publish(found, "stamp") == 0
    assert "'figfs info' tells whether it is public" in capsys.readouterr().out


def test_what_is_cut_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """It is published all the same."""
    points = [["ok", "description", "x" * 500]]
    about = {"kind": "article", "id": 1, "status": "draft", "points": points}
    publishcli._draw(about | {"title": "t" * 401})
    said = capsys.readouterr().out
    assert f"{'x' * 400}… (and 100 characters more)" in said
    assert f"{'t' * 400}… (and 1 character more)" in said
