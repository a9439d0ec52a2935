"""The shell scripts, the helper of mount(8), and the systemd unit."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [ROOT / "scripts" / name for name in ("setup", "test", "check", "demo")] + [ROOT / ".ci" / "run"]
HELPER = ROOT / "scripts" / "mount.fuse.figfs"
UNIT = ROOT / "systemd" / "figfs@.service"


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_bash(script: Path) -> None:
    """They parse, and can be called."""
    subprocess.run(["bash", "-n", script], check=True)
    assert os.access(script, os.X_OK) or script.name == "setup"


def test_the_helper_is_posix_shell() -> None:
    """/bin/sh is dash on the systems it is for."""
    subprocess.run([shutil.which("dash") or "sh", "-n", HELPER], check=True)
    assert os.access(HELPER, os.X_OK)


def fake_figfs(path: Path) -> None:
    """A program that says where it is, what its home is, and its arguments, one a line."""
    path.parent.mkdir(parents=True)
    path.write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$HOME" "$@"\nexit 5\n')
    path.chmod(0o755)


def call_helper(helper: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    arguments = ["fig share", "/a b", "-n", "-o", "rw,uid=1"]
    return subprocess.run(
        [helper, *arguments], env=environ, capture_output=True, text=True, check=False, timeout=30
    )


def test_the_helper_hands_on_what_mount_says(tmp_path: Path) -> None:
    """Arguments and exit code pass unchanged."""
    fake_figfs(tmp_path / "bin" / "figfs")
    done = call_helper(HELPER, PATH=f"{tmp_path}/bin:/usr/bin:/bin", HOME="/home/me")
    assert done.returncode == 5
    assert done.stdout.splitlines()[1:] == [
        "/home/me", "mount-helper", "fig share", "/a b", "-n", "-o", "rw,uid=1",
    ]  # fmt: skip


def test_the_helper_finds_figfs_beside_the_project_with_no_environment(tmp_path: Path) -> None:
    """As at boot: no PATH, no HOME, and called through a link in /sbin."""
    if shutil.which("figfs", path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"):
        pytest.skip("a figfs is installed on this machine, and would be found first")
    (tmp_path / "project" / "scripts").mkdir(parents=True)
    shutil.copy(HELPER, tmp_path / "project" / "scripts" / HELPER.name)
    fake_figfs(tmp_path / "project" / ".venv" / "bin" / "figfs")
    link = tmp_path / "mount.fuse.figfs"
    link.symlink_to(tmp_path / "project" / "scripts" / HELPER.name)
    done = call_helper(link)
    assert done.returncode == 5
    assert done.stdout.splitlines()[1:3] == [pwd.getpwuid(os.getuid()).pw_dir, "mount-helper"]
    shutil.rmtree(tmp_path / "project" / ".venv")
    done = call_helper(link)
    assert done.returncode == 1
    assert "there is no figfs" in done.stderr


def verify(unit: Path, home: Path) -> str:
    runtime = home / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)
    environ = {"HOME": str(home), "XDG_RUNTIME_DIR": str(runtime), "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"}
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", unit],
        env=environ, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    return done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_nothing_in_the_unit(tmp_path: Path) -> None:
    """With figfs in its place not a word; and it would have found a mistake."""
    assert "not executable" in verify(UNIT, tmp_path)
    fake_figfs(tmp_path / ".local" / "bin" / "figfs")
    assert verify(UNIT, tmp_path) == ""
    wrong = tmp_path / UNIT.name
    wrong.write_text(UNIT.read_text() + "Wanted=by\n")
    assert "Unknown key" in verify(wrong, tmp_path)
