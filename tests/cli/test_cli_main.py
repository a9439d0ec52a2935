"""Commands: what reaches the mount, and how failures are told."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from figfs import __version__
from figfs.cli import explain, is_call_of_mount, main, serve
from figfs.commandline import background, options
from figfs.commandline.mountpoint import Machine
from figfs.errors import ConfigurationError, RemoteError, Unauthorized, Unreachable
from figfs.settings import Settings, Token
from figfs.terminal import as_json

TOKEN = "s3cr3t-t0ken"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine on which anybody can mount."""
    device = tmp_path / "fuse"
    device.touch()
    mountinfo = tmp_path / "mountinfo"
    mountinfo.touch()
    return Machine(device=device, mountinfo=mountinfo, which=lambda name: name)


@pytest.fixture
def configuration(tmp_path: Path) -> options.Configuration:
    place = tmp_path / "place"
    place.mkdir()
    return options.Configuration(
        settings=Settings(mountpoint=place, token=Token(TOKEN)),
        token_origin="FIGFS_TOKEN",
        log_file=None,
        log_level="warning",
    )


def figfs(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """The program itself, in an environment with nothing in it."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "figfs.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "XDG_CONFIG_HOME": "/nonexistent", **environ},
    )


def test_version_and_help_load_no_heavy_module() -> None:
    """They answer at once, and without libfuse."""
    code = (
        "import sys; from figfs.cli import main; main(['mount', '--help']); main(['--version'])\n"
        "sys.exit(bool({'trio', 'httpx', 'pyfuse3', 'starlette', 'msgspec'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert f"figfs {__version__}\n" in done.stdout
    for option in options.OPTIONS:
        assert f"--{option.name}" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing command"),
        (["moutn", "/mnt"], "No such command 'moutn'"),
        (["mount"], "name one MOUNTPOINT"),
        (["mount", "a", "b", "c"], "name one MOUNTPOINT"),
        (["mount", "/mnt", "--close-timout", "3"], "--close-timeout"),
        (["mount", "/mnt", "--token", "abc"], "--token"),
        (["mount", "/mnt", "-o", "close_timout=3"], "did you mean close-timeout"),
        (["mount", "/mnt", "--grace", "soon"], "--grace: 'soon' is not a time"),
        (["mount", "/mnt", "--config", "/nonexistent"], "there is no configuration file /nonexistent"),
        (["sandbox", "--dir", "/tmp", "--memory"], "exclude each other"),
        (["sandbox", "--port", "99999"], "--port"),
        (["login", "--api", "figshare"], "--api: 'figshare' is not a URL"),
    ],
)
def test_usage_is_one_line_and_exit_code_2(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was typed wrong, and where to look it up."""
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("figfs: ")
    assert says in captured.err


def test_settings_reach_the_mount(
    tmp_path: Path,
    machine: Machine,
    configuration: options.Configuration,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The mount gets what was loaded, on the real path; what it says when it is ready goes to stderr."""
    link = tmp_path / "link"
    link.symlink_to(configuration.settings.mountpoint)
    got: list[Settings] = []

    async def run(settings: Settings, *, on_ready: Callable[[str], None]) -> None:
        got.append(settings)
        on_ready("mounted")

    def load() -> options.Configuration:
        return options.load(link, flags={"grace": "1"}, environ={"FIGFS_TOKEN": TOKEN}, directory=tmp_path)

    assert serve(load, reporter=background.Reporter(None), in_background=False, run=run, machine=machine) == 0
    expected = Settings(mountpoint=configuration.settings.mountpoint.resolve(), token=Token(TOKEN), grace=1)
    assert got == [expected]
    assert capsys.readouterr().err == "figfs: mounted\n"


INTERNAL = "internal error: ValueError: odd *** (see the log, or run with --debug)"
REFUSED = "https://api.figshare.com/v2 refuses the token in FIGFS_TOKEN: run 'figfs login' with a new one"


@pytest.mark.parametrize(
    ("failure", "code", "says"),
    [
        (ConfigurationError("another mount has this account"), 1, "another mount has this account"),
        (ConfigurationError("no", exit_code=2), 2, "no"),
        (Unreachable("no connection to Figshare"), 1, "no connection to Figshare"),
        (RemoteError(f"odd answer {TOKEN}"), 1, "odd answer ***"),
        (Unauthorized("401"), 1, REFUSED),
        (
            ExceptionGroup("tasks", [ExceptionGroup("tasks", [ValueError("x"), Unauthorized("401")])]),
            1,
            REFUSED,
        ),
        (ValueError(f"odd\n{TOKEN}"), 1, INTERNAL),
        (ExceptionGroup("tasks", [ValueError(f"odd {TOKEN}")]), 1, INTERNAL),
        (KeyboardInterrupt(), 130, "interrupted"),
        (BaseExceptionGroup("tasks", [KeyboardInterrupt(), ValueError("x")]), 130, "interrupted"),
    ],
)
def test_every_failure_of_the_mount_is_one_line(
    failure: BaseException,
    code: int,
    says: str,
    machine: Machine,
    configuration: options.Configuration,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With its exit code, without traceback, and without the token."""

    async def run(settings: Settings, *, on_ready: Callable[[str], None]) -> None:
        raise failure

    reporter = background.Reporter(None)
    assert (
        serve(lambda: configuration, reporter=reporter, in_background=False, run=run, machine=machine) == code
    )
    assert capsys.readouterr().err == f"figfs: {says}\n"


def test_the_log_has_the_traceback_of_an_internal_error(
    tmp_path: Path, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a log file always; the person before the terminal sees one line. The token is in neither."""

    async def run(settings: Settings, *, on_ready: Callable[[str], None]) -> None:
        raise ValueError(f"odd {settings.token.reveal()}")

    def load() -> options.Configuration:
        flags = {"log-file": str(tmp_path / "log")}
        return options.load(
            tmp_path / "place", flags=flags, environ={"FIGFS_TOKEN": TOKEN}, directory=tmp_path
        )

    (tmp_path / "place").mkdir()
    reporter = background.Reporter(None)
    assert serve(load, reporter=reporter, in_background=False, run=run, machine=machine) == 1
    assert capsys.readouterr().err == f"figfs: {INTERNAL}\n"
    log = (tmp_path / "log").read_text()
    assert "Traceback" in log
    assert "ValueError: odd ***" in log
    assert TOKEN not in log


@pytest.mark.parametrize(
    ("api", "warned"), [("http://127.0.0.1:8000/v2", False), ("http://example.org/v2", True)]
)
def test_plain_http_to_another_machine_is_warned_of(
    api: str, warned: bool, tmp_path: Path, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """The token would be readable on the way; on this machine it goes nowhere."""

    async def run(settings: Settings, *, on_ready: Callable[[str], None]) -> None:
        pass

    def load() -> options.Configuration:
        environ = {"FIGFS_TOKEN": TOKEN, "FIGFS_API": api}
        return options.load(tmp_path / "place", environ=environ, directory=tmp_path)

    (tmp_path / "place").mkdir()
    reporter = background.Reporter(None)
    assert serve(load, reporter=reporter, in_background=False, run=run, machine=machine) == 0
    assert ("unencrypted" in capsys.readouterr().err) == warned


@pytest.mark.parametrize("way", [[], ["--background"]])
def test_the_program_fails_with_one_line(way: list[str], tmp_path: Path) -> None:
    """In the foreground and in the background alike: same line, same exit code, nothing on stdout."""
    (tmp_path / "file").touch()
    place, token = str(tmp_path / "place"), {"FIGFS_TOKEN": TOKEN}
    (tmp_path / "place").mkdir()
    done = [
        figfs("mount", *way, place),
        figfs("mount", *way, place, "--uid", "nobody-at-all", **token),
        figfs("mount", *way, place, "-o", "ro", FIGFS_TOKEN="a b"),
    ]
    assert [each.returncode for each in done] == [1, 2, 1]
    assert [each.stdout for each in done] == ["", "", ""]
    lines = [each.stderr for each in done]
    assert lines[0] == "figfs: no token: run 'figfs login', or give --token-file FILE or FIGFS_TOKEN\n"
    assert lines[1] == "figfs: --uid: there is no user 'nobody-at-all'\n"
    assert lines[2].startswith("figfs: the token in FIGFS_TOKEN has a space")
    assert lines[2].count("\n") == 1


def test_the_background_process_is_told_all_that_was_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is lost or changed on the way, and what follows `--` stays a path."""
    commands: list[Sequence[str]] = []

    def start(command: Callable[[int], Sequence[str]]) -> tuple[int, str]:
        commands.append(command(7))
        return 0, "mounted"

    monkeypatch.setattr("figfs.commandline.background.start", start)
    said = [
        "-b",
        "-o",
        "ro,uid=1",
        "--grace",
        "2m",
        "-o",
        "x",
        "--rw",
        "--allow-other",
        "--debug",
        "--config",
        "c",
    ]
    assert main(["mount", *said, "--", "figshare", "-odd-"]) == 0
    assert capsys.readouterr().err == "figfs: mounted\n"
    (command,) = commands
    assert command[:6] == [sys.executable, "-P", "-m", "figfs.cli", "mount", "--ready-fd=7"]
    assert command[-3:] == ["--", "figshare", "-odd-"]
    flags = {"--grace=2m", "--rw", "--allow-other", "--debug", "--config=c", "-oro,uid=1", "-ox"}
    assert set(command[6:-3]) == flags


def test_the_ways_in_which_mount_calls() -> None:
    """As a link named mount.fuse.figfs, and as mount.fuse3 calls a program; a mistyped command is neither."""
    commands = ["mount", "umount", "login"]
    assert is_call_of_mount("/sbin/mount.fuse.figfs", ["figshare", "/mnt"], commands=commands)
    assert is_call_of_mount("figfs", ["figshare", "/mnt", "-o", "rw,dev,suid"], commands=commands)
    assert not is_call_of_mount("/usr/bin/figfs", ["umuont", "/mnt"], commands=commands)
    assert not is_call_of_mount("figfs", ["mount", "/mnt", "-o", "ro"], commands=commands)
    assert not is_call_of_mount("figfs", [], commands=commands)


def test_a_call_of_mount_becomes_a_mount_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its options as they are; -n, -t and -N mean nothing here, -f does nothing, -s drops the
    unknown.
    """
    commands: list[Sequence[str]] = []

    def start(command: Callable[[int], Sequence[str]]) -> tuple[int, str]:
        commands.append(command(7)[6:])
        return 0, "mounted"

    monkeypatch.setattr("figfs.commandline.background.start", start)
    call = ["mount-helper", "figshare", "/mnt"]
    assert main([*call, "-o", "rw,_netdev,uid=1"]) == 0
    assert main([*call, "-n", "-v", "-t", "fuse.figfs", "-N", "/proc/1/ns/mnt"]) == 0
    assert main([*call, "-sn", "-o", "wat,ro"]) == 0
    assert main([*call, "-fnv", "-o", "rw"]) == 0
    assert commands == [
        ["-orw,_netdev,uid=1", "--", "figshare", "/mnt"],
        ["--verbose", "--", "figshare", "/mnt"],
        ["-oro", "--", "figshare", "/mnt"],
    ]


def test_umount_of_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command tells what unmount refuses, with exit code 1."""
    assert main(["umount", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"figfs: nothing is mounted on {tmp_path}\n"
    assert main(["umount", "--dead", str(tmp_path)]) == 0


EVIL = "\x1b]0;owned\x07\u202eevil\x9b2J\r\n\x7f"


@pytest.mark.parametrize(
    "exc", [RemoteError(EVIL), ConfigurationError(EVIL), RuntimeError(EVIL), OSError(5, EVIL)]
)
def test_a_terminal_obeys_nothing_in_a_failure(exc: Exception) -> None:
    """What a server has said is in the text of many errors."""
    _code, message = explain(exc)
    assert message.isprintable()
    assert "evil" in message


def test_what_was_typed_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", f"/nowhere/{EVIL}"]) == 1
    assert main([f"info{EVIL}"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 2
    assert captured.err.replace("\n", "").isprintable()


def test_json_is_printable_ascii() -> None:
    text = as_json({EVIL: [EVIL, "é\ud800"]})
    assert text.isascii()
    assert text.isprintable()
    assert json.loads(text) == {EVIL: [EVIL, "é\ud800"]}


def test_an_encoding_without_the_letters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A title is told as far as the terminal's encoding goes."""
    kept = tmp_path / "figfs" / "accounts" / "lab.json"
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps({"kind": "personal", "api": "", "who": "Zoë 中", "access_token": TOKEN}))
    kept.chmod(0o600)
    out = io.BytesIO()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="latin-1", write_through=True))
    assert main(["accounts"]) == 0
    assert "Zoë \\u4e2d" in out.getvalue().decode("latin-1")
