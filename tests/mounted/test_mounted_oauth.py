"""Tokens that expire or are revoked while mounted: seen through real mounts, mended by ``figfs login``."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from processes import FIGFS, MakeMount, Mount, Sandbox, content, environment, errno_of, run

DATA = content("oauth", 60_000)
CLIENT = {"client_id": "sandbox-client", "client_secret": "sandbox-client-secret"}


class Home:
    """The configuration of a person who logs in to a sandbox."""

    def __init__(self, directory: Path, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.environment = environment(directory / "person", FIGFS_API=sandbox.api)
        self.client = directory / "client.json"
        self.client.write_text(json.dumps(CLIENT))
        self.accounts = directory / "person" / "config" / "figfs" / "accounts"

    def log_in_by_browser(self) -> None:
        """``figfs login --oauth``, and the browser that follows its redirects."""
        with subprocess.Popen(
            [*FIGFS, "login", "--oauth", "--no-browser", "--client", str(self.client), "--account", "work"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment,
        ) as process:
            assert process.stderr is not None
            url = next(line for line in process.stderr if line.startswith("http"))
            with urllib.request.urlopen(url.strip(), timeout=30) as page:
                assert b"close this page" in page.read()
            out, err = process.communicate(timeout=30)
        assert process.returncode == 0, out + err

    def log_in(self, token: str, *arguments: str) -> None:
        run(*FIGFS, "login", *arguments, stdin=token.encode(), env=self.environment)

    def mount(self, make_mount: MakeMount, *options: str) -> Mount:
        """A mount that finds its token as a person's does, not in FIGFS_TOKEN."""
        mount = make_mount("--dir-timeout", "0", *options, sandbox=self.sandbox, start=False)
        mount.environment = lambda: self.environment  # type: ignore[method-assign]
        return mount.start()

    def revoke(self, *kinds: str) -> None:
        for kind in kinds:
            self.sandbox.ask("DELETE", f"/_sandbox/oauth/{kind}")

    def renewals(self) -> list[int]:
        return [entry["status"] for entry in self.sandbox.requests("api", "POST", "^/v2/token$")]


@pytest.fixture
def sandbox(make_mount: MakeMount, tmp_path: Path) -> Sandbox:
    return make_mount(start=False).sandbox


@pytest.fixture
def home(sandbox: Sandbox, tmp_path: Path) -> Home:
    return Home(tmp_path, sandbox)


def errors_of(mount: Mount) -> list[str]:
    return [line for line in mount.log().splitlines() if " ERROR figfs.tokens.renewing" in line]


def test_a_token_that_expires(make_mount: MakeMount, home: Home) -> None:
    """Again and again while files are written and read: no program meets an error, nothing is in the log."""
    home.sandbox.change_settings(oauth_seconds=2)
    home.log_in_by_browser()
    mount = home.mount(make_mount, "--account", "work", "--cache-size", "0")
    (mount.articles / "Data set").mkdir()
    home.sandbox.clear_requests()
    number, until = 0, time.monotonic() + 7
    while time.monotonic() < until:
        number += 1
        path = mount.articles / "Data set" / f"{number}.bin"
        path.write_bytes(DATA)
        assert path.read_bytes() == DATA
        time.sleep(0.3)
    assert 3 <= len(home.renewals()) <= 5
    assert set(home.renewals()) == {200}
    assert len(home.sandbox.remote_files("Data set")) == number
    mount.remount()
    assert (mount.articles / "Data set" / "1.bin").read_bytes() == DATA


def test_without_a_network_after_a_renewal(make_mount: MakeMount, home: Home) -> None:
    """README: the account is known by the login, whatever has renewed its token since; a token that somebody
    puts into the file is of nobody who is known, and shows nothing.
    """
    home.log_in_by_browser()
    mount = home.mount(make_mount, "--account", "work")
    (mount.articles / "Data set").mkdir()
    (mount.articles / "Data set" / "f").write_bytes(DATA)
    mount.remount()
    assert (mount.articles / "Data set" / "f").read_bytes() == DATA
    mount.unmount()
    home.revoke("access")
    home.sandbox.clear_requests()
    run(*FIGFS, "accounts", "--check", env=home.environment)
    assert home.renewals() == [200]
    home.sandbox.stop()
    mount.claim("mounted from what is known of the account", "last known listing is shown")
    mount.start()
    assert (mount.articles / "Data set" / "f").read_bytes() == DATA
    mount.unmount()
    path = home.accounts / "work.json"
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept | {"access_token": "of-somebody-else"}))
    told = run(*mount.command(), mount.path, env=home.environment, code=1)
    assert "cannot reach the account" in told.stderr


def test_revoked_and_mended(make_mount: MakeMount, home: Home) -> None:
    """EACCES for what needs the token, one line in the log; ``figfs login`` mends it without a remount."""
    home.log_in_by_browser()
    mount = home.mount(make_mount, "--account", "work", "--cache-size", "0")
    (mount.articles / "Data set").mkdir()
    (mount.articles / "Data set" / "f").write_bytes(DATA)
    mount.remount()
    assert (mount.articles / "Data set").is_dir()
    mount.claim("does not renew the token", "is another now")
    home.revoke("access", "refresh")
    home.sandbox.clear_requests()
    for _ in range(3):
        assert errno_of((mount.articles / "Another").mkdir) == errno.EACCES
        assert errno_of((mount.articles / "Data set" / "f").read_bytes) == errno.EACCES
    assert home.renewals() == [400]
    (line,) = errors_of(mount)
    assert "run 'figfs login --account work --oauth'" in line
    for command, code in ((["status"], 0), (["info", str(mount.articles / "Data set")], 1)):
        done = run(*FIGFS, *command, "--state-dir", mount.state, env=home.environment, code=code)
        said = " ".join((done.stdout + done.stderr).split())
        assert "Figshare does not renew the token in " in said
        assert "run 'figfs login --account work --oauth', and the mount goes on" in said
    home.log_in_by_browser()
    (mount.articles / "Another").mkdir()
    assert (mount.articles / "Data set" / "f").read_bytes() == DATA
    assert len(errors_of(mount)) == 1


def test_a_personal_token_revoked_and_mended(make_mount: MakeMount, home: Home) -> None:
    """The same for the token of ``figfs login``, in the file where it always was."""
    home.log_in(home.sandbox.token)
    mount = home.mount(make_mount)
    (mount.articles / "Data set").mkdir()
    home.sandbox.ask("PUT", "/_sandbox/token", {"token": "the-next-one"})
    home.sandbox.token = "the-next-one"
    mount.claim("refuses the token", "is another now")
    for _ in range(3):
        assert errno_of((mount.articles / "Another").mkdir) == errno.EACCES
    (line,) = errors_of(mount)
    assert "run 'figfs login'" in line
    home.log_in("the-next-one")
    (mount.articles / "Another").mkdir()
    assert len(errors_of(mount)) == 1


def test_two_mounts_of_one_account(make_mount: MakeMount, home: Home) -> None:
    """One renewal for both, whoever comes first."""
    home.log_in_by_browser()
    mounts = [home.mount(make_mount, "--account", "work") for _ in range(2)]
    for round_ in range(3):
        home.revoke("access")
        home.sandbox.clear_requests()
        programs = [
            subprocess.Popen(["mkdir", str(mount.articles / f"Data set {round_}, {number}")])
            for number, mount in enumerate(mounts)
        ]
        assert [program.wait(30) for program in programs] == [0, 0]
        assert home.renewals() == [200]


def test_secrets_are_nowhere(make_mount: MakeMount, home: Home) -> None:
    """Not in the log at --debug, nor in arguments or the state; only in the account's file, and hidden there
    from others.
    """
    home.log_in_by_browser()
    mount = home.mount(make_mount, "--account", "work")
    (path,) = home.accounts.glob("*.json")
    secrets = {CLIENT["client_secret"]}
    for _ in range(2):
        kept = json.loads(path.read_text())
        secrets |= {kept["access_token"], kept["refresh_token"]}
        home.revoke("access")
        (mount.articles / f"Data set {len(secrets)}").mkdir()
    secrets.add(json.loads(path.read_text())["access_token"])
    assert len(secrets) == 6
    assert mount.process is not None
    arguments = Path(f"/proc/{mount.process.pid}/cmdline").read_bytes()
    mount.unmount()
    for file in [file for file in mount.base.rglob("*") if file.is_file()]:
        for secret in secrets:
            assert secret.encode() not in file.read_bytes() + arguments, file
    assert path.stat().st_mode & 0o077 == 0
    assert re.search(r"POST /token: 200", mount.log())


def test_a_mount_that_is_refused(make_mount: MakeMount, home: Home) -> None:
    """One line, with the command for that account."""
    home.log_in_by_browser()
    home.revoke("access", "refresh")
    (home.client.parent / "x").mkdir()
    done = run(*FIGFS, "mount", "--account", "work", home.client.parent / "x", env=home.environment, code=1)
    (line,) = done.stderr.splitlines()
    assert "run 'figfs login --account work --oauth' with a new one" in line
