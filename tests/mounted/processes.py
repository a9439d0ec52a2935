"""A sandbox and a mount, each a process of its own, as a person would start them.

Nothing here imports figfs: the tests see what a user sees.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest

T = TypeVar("T")

#: -P: what lies in the current directory is not to be imported.
FIGFS = [sys.executable, "-P", "-m", "figfs.cli"]

START_TIMEOUT = 30.0  #: seconds for a process to become ready, on a machine that does other things as well
END_TIMEOUT = 90.0  #: seconds for a daemon to end; it waits up to 60 s for uploads (--unmount-timeout)

#: What a log may not hold unless a test said so.
TROUBLE = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b|^Traceback ")

#: An unmount that overtakes the answer to a close: the kernel waits for none by then.
HARMLESS = r"ERROR pyfuse3: fuse_release(dir)?\(\): fuse_reply_\* failed with No such file or directory"

#: (path inside the article, size, MD5, status)
RemoteFile = tuple[str, int, str, str]


def wait_until(look: Callable[[], T], timeout: float = 10.0, what: str = "") -> T:
    """What ``look`` returns once that is true. For effects that are allowed to come later.

    After ``timeout`` seconds AssertionError, with the last answer.
    """
    end = time.monotonic() + timeout
    while True:
        answer = look()
        if answer:
            return answer
        assert time.monotonic() < end, f"not within {timeout:g} s: {what or look}; last answer {answer!r}"
        time.sleep(0.02)


def run(
    *command: str | Path,
    cwd: Path | None = None,
    stdin: bytes | None = None,
    code: int | None = 0,
    timeout: float = 60.0,
    env: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program and check its exit code (``code`` None: any)."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        timeout=timeout,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8", **(env or {})},
    )
    out, err = done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
    if code is not None:
        assert done.returncode == code, f"{command}: exit code {done.returncode}\n{out}\n{err}"
    return subprocess.CompletedProcess(done.args, done.returncode, out, err)


def shell(script: str, *arguments: str | Path, cwd: Path | None = None, code: int | None = 0) -> str:
    """Run a script of bash with ``$1`` …; returns what it printed."""
    return run("bash", "-c", script, "bash", *arguments, cwd=cwd, code=code).stdout


def content(seed: str, size: int) -> bytes:
    """Bytes that no two places of a file and no two files share."""
    return b"".join(hashlib.sha256(f"{seed}{n}".encode()).digest() for n in range((size + 31) // 32))[:size]


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def stored(files: Mapping[str, bytes]) -> list[RemoteFile]:
    """What Figshare is to hold of ``files``: each once, available."""
    return sorted((path, len(data), md5(data), "available") for path, data in files.items())


def children(directory: Path) -> dict[str, bytes]:
    """Relative path and content of every file below a directory."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


class Sandbox:
    """``figfs sandbox`` on any free port, and its ``/_sandbox/``."""

    def __init__(self, directory: Path, *, seed: str = "example", kept: Path | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._errors = directory / "sandbox.err"
        place = ["--memory"] if kept is None else ["--dir", str(kept)]
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*FIGFS, "sandbox", "--port", "0", "--seed", seed, *place],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment(directory),
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()  # ends with the process, too
        assert line, self._errors.read_text()
        ready = json.loads(line)
        self.api: str = ready["api"]
        self.token: str = ready["token"]
        self.origin = self.api.removesuffix("/v2")

    def stop(self) -> None:
        """SIGTERM; it must end cleanly and have complained of nothing."""
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process.terminate()
        try:
            code = self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        assert code == 0, self._errors.read_text()
        assert self._errors.read_text() == ""

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """A request to the sandbox, control or API; the API gets the token."""
        headers = {"Content-Type": "application/json", "Authorization": f"token {self.token}"}
        request = urllib.request.Request(
            self.origin + path,
            method=method,
            headers=headers,
            data=None if body is None else json.dumps(body).encode(),
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    # -- what it has ------------------------------------------------------------

    def account(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask("GET", "/_sandbox/account")
        return answer

    def articles(self, title: str) -> list[dict[str, Any]]:
        return [article for article in self.account()["articles"] if article["title"] == title]

    def article(self, title: str) -> dict[str, Any]:
        """The one article of this title."""
        found = self.articles(title)
        assert len(found) == 1, f"{len(found)} articles are called {title!r}"
        return found[0]

    def remote_files(self, title: str) -> list[RemoteFile]:
        """All files of an article, sorted; a name that is there twice is there twice."""
        return sorted(
            (f"{file['folder']}/{file['name']}".strip("/"), file["size"], file["md5"], file["status"])
            for file in self.article(title)["files"]
        )

    def seed(self, **body: object) -> list[int]:
        """Articles in bulk; their ids."""
        ids: list[int] = self.ask("POST", "/_sandbox/articles", body)["ids"]
        return ids

    # -- what was asked of it ------------------------------------------------------------

    def requests(
        self, role: str | None = None, method: str | None = None, path: str = ""
    ) -> list[dict[str, Any]]:
        """Requests since the last ``clear_requests``; ``path`` is a regular expression."""
        return [
            entry
            for entry in self.ask("GET", "/_sandbox/requests")
            if role in (None, entry["role"])
            and method in (None, entry["method"])
            and re.search(path, entry["path"])
        ]

    def clear_requests(self) -> None:
        self.ask("DELETE", "/_sandbox/requests")

    def announced(self, title: str) -> int:
        """How many uploads to an article were begun since ``clear_requests``."""
        return len(self.requests("api", "POST", rf"/articles/{self.article(title)['id']}/files$"))

    # -- trouble ------------------------------------------------------------

    def set_faults(self, rules: Sequence[Mapping[str, object]]) -> None:
        self.ask("PUT", "/_sandbox/faults", list(rules))

    def fault_hits(self) -> list[int]:
        return [rule["hits"] for rule in self.ask("GET", "/_sandbox/faults")]

    def change_settings(self, **changes: object) -> None:
        self.ask("PUT", "/_sandbox/settings", changes)

    def settings(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask("GET", "/_sandbox/settings")
        return answer


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of a process that must not touch the configuration of who runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("FIGFS_", "XDG_"))}
    kept.pop("CREDENTIALS_DIRECTORY", None)
    kept.pop("NOTIFY_SOCKET", None)
    home.mkdir(parents=True, exist_ok=True)
    return kept | {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / "config"),
        "XDG_STATE_HOME": str(home / "state"),
        "XDG_CACHE_HOME": str(home / "cache"),
        "XDG_DATA_HOME": str(home / "data"),
        **more,
    }


@dataclasses.dataclass(eq=False)
class Mount:
    """``figfs mount`` in the foreground. ``options``: further arguments."""

    sandbox: Sandbox
    base: Path  #: mount point, state and log are in here
    options: Sequence[str] = ()
    api: str = ""  #: instead of the sandbox's own
    claimed: list[str] = dataclasses.field(default_factory=list)
    seen: int = 0  #: characters of the log that were checked already

    def __post_init__(self) -> None:
        self.path = self.base / "mnt"
        self.state = self.base / "state"
        self.log_file = self.base / "log"
        self._errors = self.base / "mount.err"
        self.process: subprocess.Popen[bytes] | None = None

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def articles(self) -> Path:
        return self.path / "articles"

    def command(self) -> list[str]:
        return [
            *FIGFS, "mount", "--api-rate", "0", "--state-dir", str(self.state), "--cache-dir",
            str(self.base / "cache"), "--log-file", str(self.log_file), "--debug", *self.options,
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        api = self.api or self.sandbox.api
        return environment(self.base / "home", FIGFS_API=api, FIGFS_TOKEN=self.sandbox.token)

    def start(self) -> Mount:
        """Mount; returns when it answers. With the same ``base`` it finds the state of the last time."""
        assert self.process is None
        with contextlib.suppress(FileExistsError):  # also where a dead mount hides it
            self.path.mkdir(parents=True)
        with self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*self.command(), str(self.path)],
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                env=self.environment(),
            )
        process = self.process
        wait_until(
            lambda: b"figfs: mounted " in self._errors.read_bytes() or process.poll() is not None,
            START_TIMEOUT,
            "mounted",
        )
        assert process.poll() is None, self._errors.read_text() + self.log()
        return self

    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8") if self.log_file.exists() else ""

    def claim(self, *patterns: str) -> None:
        """Warnings and errors that match (regular expressions) are expected from here on."""
        self.claimed += patterns

    def check_log(self) -> None:
        """Nothing is in the log since the last check that ought not to be there."""
        text = self.log()
        new, self.seen = text[self.seen :], len(text)
        trouble = [
            line
            for line in new.splitlines()
            if TROUBLE.search(line)
            and not any(re.search(pattern, line) for pattern in (HARMLESS, *self.claimed))
        ]
        assert not trouble, "in the log of the mount:\n" + "\n".join(trouble) + "\n…\n" + new[-6000:]

    def alive(self) -> None:
        """It answers, and its process runs."""
        assert self.process is not None
        assert self.process.poll() is None, self.log()[-6000:]
        assert {"articles", "projects", "collections"} <= set(os.listdir(self.path))

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, timeout: float = END_TIMEOUT) -> int:
        """The exit code of the daemon, which is to end now."""
        assert self.process is not None
        code = self.process.wait(timeout)
        self.process = None
        return code

    def unmount(self, timeout: float = END_TIMEOUT) -> None:
        """``fusermount3 -u``; the daemon must end with 0."""
        run("fusermount3", "-u", self.path)
        code = self.wait(timeout)
        assert code == 0, self._errors.read_text() + self.log()[-6000:]

    def remount(self) -> Mount:
        self.unmount()
        return self.start()

    def kill(self) -> None:
        """``kill -9``; the mount point stays behind, dead."""
        self.signal(signal.SIGKILL)
        self.wait()

    def end(self) -> None:
        """Take down what is there: cleanly if it can be, for sure in any case; then look into the log."""
        try:
            if self.process is not None:
                self.unmount()
        finally:
            if self.process is not None:
                self.process.kill()
                self.process.wait()
                self.process = None
            if is_mounted(self.path):
                subprocess.run(["fusermount3", "-uz", str(self.path)], check=False)
        self.check_log()


def is_mounted(path: Path) -> bool:
    """By the kernel's table: asking the file system itself may wait for ever."""
    name = str(path).replace(" ", r"\040")
    return any(line.split()[4] == name for line in Path("/proc/self/mountinfo").read_text().splitlines())


@dataclasses.dataclass(frozen=True)
class Article:
    """A fresh article of one test, in a mount."""

    mount: Mount
    title: str
    path: Path

    @property
    def sandbox(self) -> Sandbox:
        return self.mount.sandbox

    @property
    def id(self) -> int:
        number: int = self.sandbox.article(self.title)["id"]
        return number

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def remote(self) -> list[RemoteFile]:
        return self.sandbox.remote_files(self.title)

    def holds(self, files: Mapping[str, bytes]) -> None:
        """Figshare holds exactly this, now: what a program that waits for its close is promised."""
        assert self.remote() == stored(files)

    def will_hold(self, files: Mapping[str, bytes], timeout: float = 15.0) -> None:
        """Figshare comes to hold exactly this: for what is done behind a rename or an unlink."""
        end = time.monotonic() + timeout
        while self.remote() != stored(files) and time.monotonic() < end:
            time.sleep(0.05)
        self.holds(files)

    def uploads(self) -> int:
        return self.sandbox.announced(self.title)

    def shows(self, files: Mapping[str, bytes]) -> None:
        """Names and bytes through the mount."""
        assert children(self.path) == dict(files)

    def put(self, files: Mapping[str, bytes]) -> None:
        """Write files through the mount; on return Figshare has them, and the request log is empty."""
        for name, data in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_bytes(data)
        self.holds(files)
        self.sandbox.clear_requests()


def write_tree(directory: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return directory


class _WithoutToken(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *given: Any) -> urllib.request.Request | None:
        request = super().redirect_request(*given)
        if request is not None:
            request.remove_header("Authorization")  # storage refuses it
        return request


def download(sandbox: Sandbox, file_id: int) -> bytes:
    """The bytes that the sandbox has of a file, not by way of a mount."""
    request = urllib.request.Request(
        f"{sandbox.api}/file/download/{file_id}", headers={"Authorization": f"token {sandbox.token}"}
    )
    with urllib.request.build_opener(_WithoutToken).open(request, timeout=60) as answer:
        data: bytes = answer.read()
    return data


def errno_of(act: Callable[[], object]) -> int:
    """The errno that ``act`` fails with; AssertionError if it does not fail."""
    with pytest.raises(OSError) as caught:  # noqa: PT011 - its errno is what is asked for
        act()
    assert caught.value.errno is not None
    return caught.value.errno


def names(directory: Path) -> set[str]:
    return set(os.listdir(directory))


#: The fixture ``make_mount``.
MakeMount = Callable[..., Mount]


def title_of(request: pytest.FixtureRequest) -> str:
    return re.sub(r"[^\w-]+", " ", request.node.name).strip()


def new_article(mount: Mount, title: str) -> Article:
    path = mount.articles / title
    path.mkdir()
    mount.sandbox.clear_requests()
    return Article(mount, title, path)
