"""Options: four ways to say them, one table, and errors that name what was said and where."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from figfs.cli import size_text
from figfs.commandline.options import (
    OPTIONS,
    gather,
    is_known_mount_option,
    load,
    read_size,
    split_mount_options,
    without_unknown,
)
from figfs.errors import ConfigurationError
from figfs.settings import Settings, Token

# For every option: a text, and the value it stands for.
SAMPLES = {
    "api": ("https://figshare.example.org/v2/", "https://figshare.example.org/v2"),
    "account": ("work", "work"),
    "token-file": ("/run/secret", Path("/run/secret")),
    "state-dir": ("/var/lib/figfs", Path("/var/lib/figfs")),
    "cache-dir": ("~/cache", Path.home() / "cache"),
    "cache-size": ("1.5G", 3 << 29),
    "cache-min-free": ("500 MiB", 500 << 20),
    "memory": ("64m", 64 << 20),
    "verify": ("Open", "open"),
    "parts": ("16", 16),
    "api-rate": ("2.5", 2.5),
    "close-timeout": ("2m", 120.0),
    "dir-timeout": ("90", 90.0),
    "op-timeout": ("15s", 15.0),
    "unmount-timeout": ("1h", 3600.0),
    "grace": ("0", 0.0),
    "noxattr": ("true", True),
    "search-limit": ("50", 50),
    "impersonate": ("sven@example.org", "sven@example.org"),
    "ro": ("true", True),
    "public": ("yes", True),
    "lookahead": ("no", False),
    "show-dotfigshare": ("yes", True),
    "allow-other": ("yes", True),
    "uid": ("1000", 1000),
    "gid": ("root", 0),
    "umask": ("077", 0o077),
    "fsname": ("my figshare", "my figshare"),
    "log-file": ("/var/log/figfs.log", Path("/var/log/figfs.log")),
    "log-level": ("INFO", "info"),
}


def write_config(directory: Path, text: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.toml").write_text(text, encoding="utf-8")
    return directory


def variable(name: str) -> str:
    return "FIGFS_" + name.replace("-", "_").upper()


def refusal(**said: object) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        gather(**{"environ": {}, **said})  # type: ignore[arg-type]
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return caught.value


def test_every_option_has_a_sample() -> None:
    """A new option is tested in all four ways, or this fails."""
    assert set(SAMPLES) == {option.name for option in OPTIONS}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_option_in_all_four_ways(name: str, tmp_path: Path) -> None:
    """A flag, -o (with - or _), the environment and the file say the same thing in the same words."""
    text, value = SAMPLES[name]
    directory = write_config(tmp_path, f'{name} = "{text}"')
    nowhere = tmp_path / "nowhere"
    ways = [
        gather(flags={name: text}, environ={}, directory=nowhere),
        gather(mount_options=[f"{name}={text}"], environ={}, directory=nowhere),
        gather(mount_options=[f"rw,{name.replace('-', '_')}={text}"], environ={}, directory=nowhere),
        gather(environ={variable(name): text}, directory=nowhere),
        gather(environ={}, directory=directory),
    ]
    assert [choices[name].value for choices, _ in ways] == [value] * 5


@given(said=st.dictionaries(st.sampled_from(["flag", "option", "environment", "file"]), st.integers(1, 999)))
def test_the_strongest_voice_counts(said: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> None:
    """Flag before -o before environment before file before default, whichever of them speak."""
    directory = tmp_path_factory.mktemp("config")
    if "file" in said:
        write_config(directory, f"grace = {said['file']}")
    choices, _ = gather(
        flags={"grace": str(said["flag"])} if "flag" in said else {},
        mount_options=[f"grace={said['option']}"] if "option" in said else [],
        environ={"FIGFS_GRACE": str(said["environment"])} if "environment" in said else {},
        directory=directory,
    )
    strongest = next((w for w in ("flag", "option", "environment", "file") if w in said), None)
    if strongest is None:
        assert "grace" not in choices
    else:
        assert choices["grace"].value == said[strongest]
        assert choices["grace"].from_file == (strongest == "file")


def test_a_switch_may_be_said_without_a_value(tmp_path: Path) -> None:
    """-o ro and -o allow_other; and a stronger voice can take it back."""
    directory = write_config(tmp_path, "ro = true\nallow-other = true")
    choices, _ = gather(mount_options=["allow_other,ro"], environ={}, directory=tmp_path / "no")
    assert choices["ro"].value is True
    assert choices["allow-other"].value is True
    choices, _ = gather(flags={"ro": "false"}, environ={"FIGFS_ALLOW_OTHER": "0"}, directory=directory)
    assert choices["ro"].value is False
    assert choices["allow-other"].value is False


def test_public_items_need_no_token_and_get_none(tmp_path: Path) -> None:
    """``--public``, ``-o public``: no token is taken from where there is one; read-only in any case."""
    ways: list[dict[str, Any]] = [{"flags": {"public": "true"}}, {"mount_options": ["public,rw"]}]
    for said in ways:
        for environ in ({}, {"FIGFS_TOKEN": "secret"}):
            settings = load(tmp_path, environ=environ, directory=tmp_path, **said).settings
            assert settings.token is None
            assert settings.read_only
    with pytest.raises(ConfigurationError, match="no account"):
        load(tmp_path, flags={"public": "true", "impersonate": "5"}, environ={}, directory=tmp_path)


def test_rw_takes_back_ro_of_the_same_list_only(tmp_path: Path) -> None:
    """mount(8) says rw for every fstab line: it must not make writable what config.toml wants read-only."""
    directory = write_config(tmp_path, "ro = true")
    assert "ro" not in gather(mount_options=["ro,rw"], environ={}, directory=tmp_path / "no")[0]
    assert gather(mount_options=["rw,ro"], environ={}, directory=tmp_path / "no")[0]["ro"].value is True
    assert gather(mount_options=["rw"], environ={}, directory=directory)[0]["ro"].value is True


@pytest.mark.parametrize(
    ("said", "level"),
    [
        ({"flags": {"verbose": "true"}}, "info"),
        ({"flags": {"debug": "true", "verbose": "true"}}, "debug"),
        ({"flags": {"debug": "true", "log-level": "error"}}, "error"),
        ({"mount_options": ["debug"]}, "debug"),
        ({"environ": {"FIGFS_DEBUG": "1"}}, "debug"),
        ({"environ": {"FIGFS_DEBUG": "0"}}, None),
        ({"environ": {"FIGFS_LOG_LEVEL": "error"}, "flags": {"verbose": "true"}}, "info"),
    ],
)
def test_verbose_and_debug_are_log_levels(said: dict[str, object], level: str | None, tmp_path: Path) -> None:
    """They are short forms, in every way; the exact form counts more within one source."""
    choices, _ = gather(**{"environ": {}, "directory": tmp_path, **said})  # type: ignore[arg-type]
    assert (choices["log-level"].value if "log-level" in choices else None) == level


def test_generic_options_are_tolerated_and_few_are_passed_on(tmp_path: Path) -> None:
    """What an fstab line may hold is no error; libfuse gets only what it knows and what means something."""
    line = (
        "rw,nosuid,nodev,noexec,noatime,relatime,_netdev,nofail,noauto,auto,user,user=me,users,nouser,defaults,"
        "x-systemd.automount,x-systemd.mount-timeout=30,comment=hello,dirsync,sync,async,suid,dev,lazytime"
    )
    choices, passed_on = gather(mount_options=[line], environ={}, directory=tmp_path)
    assert choices == {}
    assert set(passed_on) == {"noexec", "noatime"}
    assert gather(mount_options=["noexec,exec"], environ={}, directory=tmp_path)[1] == ()
    kept = gather(mount_options=["default_permissions,nodev"], environ={}, directory=tmp_path)[1]
    assert kept == ("default_permissions", "nodev")


def test_an_unknown_option_names_its_like() -> None:
    """Usage, exit code 2, with what was probably meant; and never with the value, which may be a secret."""
    assert "did you mean close-timeout" in str(refusal(mount_options=["close_timeot=3"]))
    error = str(refusal(mount_options=["token=s3cr3t"]))
    assert "'token'" in error
    assert "token-file" in error
    assert "s3cr3t" not in error
    assert str(refusal(mount_options=["remount"])) == "-o: there is no option 'remount'"


def test_sloppy_drops_what_nobody_knows() -> None:
    """mount -s: unknown options are dropped, known ones stay as they are."""
    assert without_unknown("wat,ro,fsname=a\\,b,x-y,huh=1") == "ro,fsname=a\\,b,x-y"


_words = st.text(
    st.characters(codec="utf-8", exclude_characters=",\\=", exclude_categories=["Cc", "Z"]), min_size=1
)
_values = st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\\"))


@given(pairs=st.lists(st.tuples(_words, _values)))
def test_mount_options_round_trip(pairs: list[tuple[str, str | None]]) -> None:
    """Any names and values survive the list, commas written with a backslash."""
    text = ",".join(n if v is None else f"{n}={v}".replace(",", "\\,") for n, v in pairs)
    assert split_mount_options(text) == pairs


@given(text=st.text())
def test_splitting_never_fails(text: str) -> None:
    """Whatever is typed after -o is a list of options, or a refusal; never an internal error."""
    for name, _ in split_mount_options(text):
        assert name
        is_known_mount_option(name)


@given(number=st.integers(0, 24), unit=st.sampled_from(["", "s", "m", "h"]))
def test_times_have_units(number: int, unit: str) -> None:
    """Plain seconds, or s, m, h."""
    choices, _ = gather(flags={"grace": f"{number}{unit}"}, environ={}, directory=Path("/nonexistent"))
    assert choices["grace"].value == number * {"": 1, "s": 1, "m": 60, "h": 3600}[unit]


@given(
    number=st.integers(0, 10**6),
    unit=st.sampled_from("KMGT"),
    tail=st.sampled_from(["", "B", "iB"]),
    gap=st.sampled_from(["", " "]),
    lower=st.booleans(),
)
def test_sizes_have_units(number: int, unit: str, tail: str, gap: str, lower: bool) -> None:
    """Powers of 1024 whether K, KB or KiB is written, in any case; what the help shows is read back."""
    text = f"{number}{gap}{unit}{tail}"
    size = read_size(text.lower() if lower else text)
    assert size == number * 1024 ** ("KMGT".index(unit) + 1)
    assert read_size(size_text(size)) == size


@given(text=st.text("0123456789.-KMGTBi \n٣e", max_size=30))
def test_a_size_is_a_number_or_refused(text: str) -> None:
    """Whatever is typed is a number of bytes, or a refusal; never another error."""
    with contextlib.suppress(ValueError):
        assert read_size(text) >= 0


def test_no_disk_cache() -> None:
    """0 turns the disk cache off; it is not taken for nothing said."""
    assert gather(flags={"cache-size": "0"}, environ={})[0]["cache-size"].value == 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("cache-size", "10"),
        ("cache-size", "-1"),
        ("cache-size", "10 gigabytes"),
        ("cache-size", "1e10"),
        ("cache-size", "9" * 400),
        ("cache-min-free", "all"),
        ("memory", "0"),
        ("memory", "15M"),
        ("verify", "always"),
        ("close-timeout", "-1"),
        ("close-timeout", "nan"),
        ("close-timeout", "inf"),
        ("close-timeout", "20 minutes"),
        ("close-timeout", "25h"),
        ("op-timeout", "0"),
        ("parts", "0"),
        ("parts", "17"),
        ("parts", "1.5"),
        ("api-rate", "-1"),
        ("api-rate", "1e3"),
        ("api", "api.figshare.com/v2"),
        ("api", "ftp://figshare.example.org/v2"),
        ("api", "https://"),
        ("api", "https://me:secret@figshare.example.org/v2"),
        ("api", "https://figshare.example.org/v2?x=1"),
        ("api", "https://figshare.example.org:port/v2"),
        ("api", "https://figshare.example.org/v 2"),
        ("uid", "4294967295"),
        ("uid", "-1"),
        ("uid", "no-such-user-here"),
        ("gid", "no-such-group-here"),
        ("umask", "888"),
        ("umask", "7777"),
        ("umask", "-1"),
        ("ro", "perhaps"),
        ("fsname", "a,allow_other"),
        ("fsname", ""),
        ("log-level", "loud"),
        ("state-dir", ""),
    ],
)
def test_bad_values_are_refused_wherever_they_are_said(name: str, text: str, tmp_path: Path) -> None:
    """The message names the flag, the -o, the variable, or the entry and its file."""
    assert str(refusal(flags={name: text})).startswith(f"--{name}: ")
    assert str(refusal(mount_options=[f"{name}=" + text.replace(",", "\\,")])).startswith(f"-o {name}: ")
    if text:  # an empty variable is one that was not set
        assert str(refusal(environ={variable(name): text})).startswith(f"{variable(name)}: ")
    directory = write_config(tmp_path, f'{name} = "{text}"')
    assert str(refusal(directory=directory)).startswith(f"{name} in {directory / 'config.toml'}: ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("umask = 22", 'write it as text: umask = "022"'),
        ("close-timeout = [20]", "a text, a number, true or false is needed"),
        ("clos-timeout = 20", "did you mean close-timeout"),
        ("close-timeout = ", "config.toml"),
        ("[mount]\nro = true", "there is no option 'mount'"),
        ('token = "s3cr3t"', "token-file"),
        ('config = "/elsewhere"', "there is no option 'config'"),
    ],
)
def test_what_is_wrong_in_the_file(text: str, says: str, tmp_path: Path) -> None:
    """Every mistake in config.toml is told with the file's name."""
    error = str(refusal(directory=write_config(tmp_path, text)))
    assert says in error
    assert "config.toml" in error
    assert "s3cr3t" not in error


def test_toml_numbers_and_booleans(tmp_path: Path) -> None:
    """Values may be written as TOML has them."""
    directory = write_config(tmp_path, "close_timeout = 2.5\nuid = 7\nro = true\napi-rate = 0\ndebug = true")
    choices, _ = gather(environ={}, directory=directory)
    values = {name: choice.value for name, choice in choices.items()}
    assert values == {"close-timeout": 2.5, "uid": 7, "ro": True, "api-rate": 0.0, "log-level": "debug"}


def test_another_configuration_file(tmp_path: Path) -> None:
    """--config, -o config and FIGFS_CONFIG name it; then it must be there."""
    usual = write_config(tmp_path / "usual", "grace = 1")
    other = tmp_path / "other.toml"
    assert "there is no configuration file" in str(refusal(flags={"config": str(other)}, directory=usual))
    other.write_text("grace = 2", encoding="utf-8")
    said: list[dict[str, object]] = [
        {"flags": {"config": str(other)}},
        {"mount_options": [f"config={other}"]},
        {"environ": {"FIGFS_CONFIG": str(other)}},
    ]
    for each in said:
        choices, _ = gather(**{"environ": {}, "directory": usual, **each})  # type: ignore[arg-type]
        assert choices["grace"].value == 2


def test_the_source_names_the_mount_unless_something_else_does(tmp_path: Path) -> None:
    """mount -a compares the mount table with fstab's first field, so that is what must be shown."""
    directory = write_config(tmp_path, 'fsname = "file"')
    environ = {"FIGFS_FSNAME": "environment"}
    assert gather(source="a", environ=environ, directory=directory)[0]["fsname"].value == "a"
    said = gather(source="a", mount_options=["fsname=b"], environ=environ, directory=directory)[0]
    assert said["fsname"].value == "b"
    said = gather(source="a", flags={"fsname": "c"}, environ=environ, directory=directory)[0]
    assert said["fsname"].value == "c"
    assert str(refusal(source="a,b", directory=directory)).startswith("the source: ")


def test_nothing_said_gives_the_defaults(tmp_path: Path) -> None:
    """With a token only, a mount has the defaults of Settings, and an absolute mount point."""
    loaded = load(Path("somewhere"), environ={"FIGFS_TOKEN": "abc"}, directory=tmp_path)
    assert loaded.settings == Settings(mountpoint=Path.cwd() / "somewhere", token=Token("abc"))
    assert (loaded.log_level, loaded.log_file, loaded.token_origin) == ("warning", None, "FIGFS_TOKEN")


def test_all_that_is_said_reaches_the_settings(tmp_path: Path) -> None:
    """Each option sets its field, and only that."""
    secret = tmp_path / "secret"
    secret.write_text("abc\n")
    texts = {name: text for name, (text, _) in SAMPLES.items()} | {"token-file": str(secret)}
    del texts["account"], texts["public"]  # one of them is it
    loaded = load(Path("/mnt"), flags=texts, mount_options=["noexec"], environ={}, directory=tmp_path)
    assert loaded.settings == Settings(
        mountpoint=Path("/mnt"),
        token=Token("abc"),
        token_file=secret,
        lookahead=False,
        show_dotfigshare=True,
        api="https://figshare.example.org/v2",
        state_dir=Path("/var/lib/figfs"),
        cache_dir=Path.home() / "cache",
        cache_size=3 << 29,
        cache_min_free=500 << 20,
        memory=64 << 20,
        verify="open",
        parts=16,
        api_rate=2.5,
        close_timeout=120,
        dir_timeout=90,
        op_timeout=15,
        unmount_timeout=3600,
        grace=0,
        noxattr=True,
        search_limit=50,
        impersonate="sven@example.org",
        read_only=True,
        allow_other=True,
        uid=1000,
        gid=0,
        umask=0o077,
        fsname="my figshare",
        fuse_options=("noexec",),
    )
    assert loaded.log_file == Path("/var/log/figfs.log")
    assert loaded.log_level == "info"
    assert "abc" not in repr(loaded)


def test_owner_defaults_to_who_mounts() -> None:
    """Files belong to the person who mounts unless uid and gid say otherwise."""
    settings = Settings(mountpoint=Path("/mnt"), token=Token("abc"))
    assert (settings.uid, settings.gid) == (os.getuid(), os.getgid())
