"""What can be said to ``figfs mount``, in four ways, and how it becomes a ``Settings``.

The table ``OPTIONS`` says once what there is: the command line makes its flags from it, and ``load`` reads
the same names from ``-o``, from ``FIGFS_*`` and from config.toml. The strongest voice counts: flag, ``-o``,
environment, file, default. Nothing here knows click.
"""

from __future__ import annotations

import dataclasses
import difflib
import grp
import os
import pwd
import re
import tomllib
import types
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from figfs.errors import ConfigurationError
from figfs.settings import DEFAULT_API, MOST_PARTS, Settings, config_dir
from figfs.tokens.credentials import account_name, find_token, how_to_log_in

LOG_LEVELS = ("error", "warning", "info", "debug")
VERIFY = ("end", "open", "background")
SMALLEST_SIZE = 16 << 20  # bytes; less is a unit forgotten, usually, and too little to work with
MOST_FOUND = 10_000  # articles of one query: past that Figshare pages no further (quirks L7)
LONGEST_TIME = 24 * 3600.0  # a time beyond a day is a slip of the pen (milliseconds, usually)

_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}
_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def _switch(text: str) -> bool:
    if text.lower() in _TRUE:
        return True
    if text.lower() in _FALSE:
        return False
    raise ValueError(f"{text!r} is neither true nor false")


def read_time(text: str) -> float:
    """Seconds, from a text such as ``20``, ``20s`` or ``2m``. ``ValueError`` with what is wrong with it."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([smh]?)", text)
    if match is None:
        raise ValueError(f"{text!r} is not a time such as 20, 20s or 2m")
    seconds = float(match[1]) * _UNITS[match[2]]
    if seconds > LONGEST_TIME:
        raise ValueError(f"{text!r} is more than a day")
    return seconds


def _deadline(text: str) -> float:
    seconds = read_time(text)
    if seconds < 1:
        raise ValueError(f"{text!r} is less than a second: no request would ever finish")
    return seconds


def read_size(text: str) -> int:
    """Bytes of ``500M``, ``10G``, ``1.5 TiB`` or a plain number: powers of 1024, as du, rclone and dd count.

    ``ValueError`` for anything else.
    """
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?) ?([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    if match is None:
        raise ValueError(f"{text!r} is not a size such as 500M, 10G or 0")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


def _memory(text: str) -> int:
    size = read_size(text)
    if size < SMALLEST_SIZE:
        raise ValueError(f"{text!r} is less than 16M")
    return size


def _cache_size(text: str) -> int:
    size = read_size(text)
    if 0 < size < SMALLEST_SIZE:
        raise ValueError(f"{text!r} is less than 16M; 0 is no disk cache at all")
    return size


def _rate(text: str) -> float:
    if re.fullmatch(r"\d+(\.\d+)?", text) is None:
        raise ValueError(f"{text!r} is not a number of requests a second (0: no pacing)")
    return float(text)


def _parts(text: str) -> int:
    if re.fullmatch(r"\d{1,2}", text) is None or not 1 <= int(text) <= MOST_PARTS:
        raise ValueError(f"{text!r} is not a number from 1 to {MOST_PARTS}")
    return int(text)


def _limit(text: str) -> int:
    if re.fullmatch(r"\d{1,5}", text) is None or not 1 <= int(text) <= MOST_FOUND:
        raise ValueError(f"{text!r} is not a number from 1 to {MOST_FOUND}")
    return int(text)


def _path(text: str) -> Path:
    if not text or any(ord(c) < 32 for c in text):
        raise ValueError(f"{text!r} is not a path")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as exc:  # ~someone who is not known here
        raise ValueError(f"{text!r}: {exc}") from exc


def _url(text: str) -> str:
    try:
        parts = urllib.parse.urlsplit(text)
        usable = (
            parts.scheme in {"http", "https"}
            and bool(parts.hostname)
            and (parts.port is None or parts.port > 0)
        )
    except ValueError:
        usable = False
    if not usable or re.search(r"[\s\x00-\x20\x7f]", text):
        raise ValueError(f"{text!r} is not a URL such as {DEFAULT_API}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("a base URL has no user name, '?' or '#' in it")
    return text.rstrip("/")


def _owner(text: str) -> int:
    """Number of a user, given as number or name."""
    try:
        return _number(text)
    except ValueError:
        pass
    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError as exc:
        raise ValueError(f"there is no user {text!r}") from exc


def _group(text: str) -> int:
    """Number of a group, given as number or name."""
    try:
        return _number(text)
    except ValueError:
        pass
    try:
        return grp.getgrnam(text).gr_gid
    except KeyError as exc:
        raise ValueError(f"there is no group {text!r}") from exc


def _number(text: str) -> int:
    # 2**32 - 1 means "no change" to chown, so it is nobody's number.
    if re.fullmatch(r"[0-9]{1,10}", text) is None or int(text) >= 2**32 - 1:
        raise ValueError(f"{text!r} is not a number of a user or group")
    return int(text)


def _umask(text: str) -> int:
    if re.fullmatch(r"(0o)?[0-7]{1,4}", text) is None or int(text, 8) > 0o777:
        raise ValueError(f"{text!r} is not an octal mask such as 022")
    return int(text, 8)


def _fsname(text: str) -> str:
    # libfuse takes a comma for the start of the next option.
    if not text or "," in text or "\\" in text or any(ord(c) < 32 for c in text):
        raise ValueError(f"{text!r}: a name without comma, backslash and control characters is needed")
    return text


def _account(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise ValueError(f"{text!r} is no id, e-mail address or institution user id")
    return text.strip()


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text.lower() not in words:
            raise ValueError(f"{text!r} is none of {', '.join(words)}")
        return text.lower()

    return read


@dataclasses.dataclass(frozen=True, slots=True)
class Option:
    """One thing to configure: ``--name``, ``-o name``, ``name = `` in the file, ``FIGFS_NAME``."""

    name: str
    read: Callable[[str], Any]  #: text to value; ValueError says what is wrong with it
    help: str
    metavar: str = ""  #: "": a switch, true when it is named without a value
    field: str = ""  #: which field of Settings it sets; "": none


OPTIONS: tuple[Option, ...] = (
    Option("api", _url, "Base URL of the API.", "URL", "api"),
    Option("account", account_name, "Account of 'figfs login --account'.", "NAME"),
    Option("public", _switch, "Only public items: read-only, no account, no token.", field="public"),
    Option("token-file", _path, "File that holds the token.", "FILE"),
    Option("state-dir", _path, "Where uploads that are owed are kept.", "DIR", "state_dir"),
    Option("cache-dir", _path, "Where downloaded data is kept.", "DIR", "cache_dir"),
    Option(
        "cache-size",
        _cache_size,
        "Space for downloaded data on disk; 0: none.  [default: 10G or a tenth of the free disk, the less]",
        "SIZE",
        "cache_size",
    ),
    Option("cache-min-free", read_size, "Free disk space left alone.", "SIZE", "cache_min_free"),
    Option("memory", _memory, "Downloaded data in memory, at most.", "SIZE", "memory"),
    Option(
        "verify",
        _one_of(*VERIFY),
        "Which read waits for the check of the MD5: end (the one that completes the file), open (the first), "
        "background (none).",
        "WHEN",
        "verify",
    ),
    Option("lookahead", _switch, "Fetch what a walk through a directory will read next.", field="lookahead"),
    Option("parts", _parts, f"Parts of uploads sent at once, 1 to {MOST_PARTS}.", "N", "parts"),
    Option("api-rate", _rate, "API requests a second, sustained; 0: no pacing.", "N", "api_rate"),
    Option(
        "close-timeout",
        read_time,
        "How long close() waits for the upload; 0: not at all.",
        "TIME",
        "close_timeout",
    ),
    Option("dir-timeout", read_time, "How long a listing is taken as fresh.", "TIME", "dir_timeout"),
    Option("op-timeout", _deadline, "Deadline of every other operation.", "TIME", "op_timeout"),
    Option("unmount-timeout", read_time, "How long an unmount waits for uploads.", "TIME", "unmount_timeout"),
    Option("grace", read_time, "How long a delete or rename can still be undone.", "TIME", "grace"),
    Option(
        "show-dotfigshare",
        _switch,
        "List .figshare in the directories that have one: programs that walk the tree will meet it.",
        field="show_dotfigshare",
    ),
    Option("search-limit", _limit, "Articles that a query in search/ shows, at most.", "N", "search_limit"),
    Option(
        "noxattr",
        _switch,
        "No extended attributes: the kernel does not ask for them before every write.",
        field="noxattr",
    ),
    Option(
        "impersonate",
        _account,
        "Mount a colleague's account: its id, e-mail address or institution user id. For administrators of "
        "an institution.",
        "ACCOUNT",
        "impersonate",
    ),
    Option("ro", _switch, "Read-only: nothing on Figshare is changed.", field="read_only"),
    Option("allow-other", _switch, "Let other users of this machine in.", field="allow_other"),
    Option("uid", _owner, "Owner of all files: number or name.", "USER", "uid"),
    Option("gid", _group, "Group of all files: number or name.", "GROUP", "gid"),
    Option("umask", _umask, "Permissions to take away, octal.", "MASK", "umask"),
    Option("fsname", _fsname, "What the mount table shows as the source.", "NAME", "fsname"),
    Option("log-file", _path, "Write the log to this file.", "FILE"),
    Option("log-level", _one_of(*LOG_LEVELS), f"How much is logged: {', '.join(LOG_LEVELS)}.", "LEVEL"),
)
_BY_NAME = {option.name: option for option in OPTIONS}
_SHORT = {"verbose": ("log-level", "info"), "debug": ("log-level", "debug")}

#: Options of mount(8) that mean nothing to figfs: for fstab and systemd, or of no use on such a file system.
#: ``dev`` and ``suid`` are among them on purpose: nothing on Figshare is a device or runs as somebody else;
#: ``sync`` too: it would make an fsync of every write.
_GENERIC = frozenset(
    """
    defaults auto noauto user nouser users owner group nofail fail _netdev async sync dirsync dev suid exec
    atime relatime norelatime strictatime nostrictatime lazytime nolazytime diratime nodiratime
    iversion noiversion mand nomand silent loud symfollow nosymfollow rw subtype comment
    """.split()  # noqa: SIM905
)
#: Those that libfuse 3 knows and that have a meaning here; it refuses relatime and its like (seen with 3.14).
_PASSED_ON = frozenset({"nodev", "nosuid", "noexec", "noatime", "default_permissions"})


@dataclasses.dataclass(frozen=True, slots=True)
class Said:
    """What somebody wrote about an option, and where, in the words of an error message."""

    text: str
    origin: str


@dataclasses.dataclass(frozen=True, slots=True)
class Choice:
    """The value an option got, and whether nobody but config.toml said so."""

    value: Any
    from_file: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """All that ``figfs mount`` needs: the settings of the mount, and what concerns the program around it."""

    settings: Settings
    token_origin: str  #: where the token was found, for the message when Figshare refuses it
    log_file: Path | None
    log_level: str
    log_in_with: str = "figfs login"  #: the command that puts a new token there


def split_mount_options(text: str) -> list[tuple[str, str | None]]:
    r"""``a,b=c`` as ``[("a", None), ("b", "c")]``. A comma in a value is written ``\,``, as for libfuse."""
    pairs: list[tuple[str, str | None]] = []
    for item in re.split(r"(?<!\\),", text):
        name, equals, value = item.replace("\\,", ",").partition("=")
        if name.strip():
            pairs.append((name.strip(), value if equals else None))
    return pairs


def _own_name(name: str) -> str | None:
    """What figfs calls this option; ``-`` and ``_`` are the same. None: not one of figfs."""
    plain = name.replace("_", "-")
    return plain if plain in _BY_NAME or plain in _SHORT or plain == "config" else None


def is_known_mount_option(name: str) -> bool:
    """Whether ``-o name`` means something to figfs or is one that every file system is given by mount(8)."""
    generic = name in _GENERIC or name in _PASSED_ON or name.startswith(("x-", "X-"))
    return generic or _own_name(name) is not None


def without_unknown(text: str) -> str:
    """The argument of an ``-o`` without what nobody knows (``mount -s``)."""
    return ",".join(
        item for item in re.split(r"(?<!\\),", text) if is_known_mount_option(item.partition("=")[0].strip())
    )


def _unknown(name: str, where: str) -> ConfigurationError:
    near = difflib.get_close_matches(name.replace("_", "-"), [*_BY_NAME, *_SHORT, "config"], n=3, cutoff=0.6)
    hint = f": did you mean {' or '.join(near)}?" if near else ""
    return ConfigurationError(f"{where}: there is no option {name!r}{hint}", exit_code=2)


def _say(own: dict[str, Said], name: str, text: str | None, origin: str) -> None:
    """Note what ``origin`` says about the option ``name``; a switch may come without a value."""
    if name in _SHORT:
        if text is None or _read(_switch, Said(text, origin)):
            option, text = _SHORT[name]
            own[option] = Said(text, origin)
        return
    if text is None and name in _BY_NAME and not _BY_NAME[name].metavar:
        text = "true"
    if text is None:
        raise ConfigurationError(f"{origin} needs a value", exit_code=2)
    own[name] = Said(text, origin)


def _read(read: Callable[[str], Any], said: Said) -> Any:
    try:
        return read(said.text)
    except ValueError as exc:
        raise ConfigurationError(f"{said.origin}: {exc}", exit_code=2) from exc


def _from_flags(flags: Mapping[str, str]) -> dict[str, Said]:
    own: dict[str, Said] = {}
    for name in sorted(
        flags, key=[*_SHORT, *_BY_NAME, "config"].index
    ):  # --log-level counts more than --debug
        _say(own, name, flags[name], f"--{name}")
    return own


def _from_mount_options(texts: Iterable[str]) -> tuple[dict[str, Said], tuple[str, ...]]:
    own: dict[str, Said] = {}
    passed_on: dict[str, None] = {}
    for name, text in (pair for each in texts for pair in split_mount_options(each)):
        plain = _own_name(name)
        if plain is not None:
            _say(own, plain, text, f"-o {name}")
        elif name in _PASSED_ON:
            passed_on[name] = None
        elif not is_known_mount_option(name):
            raise _unknown(name, "-o")
        elif name == "rw":
            # mount(8) says rw by itself, so it takes back an earlier -o ro, and never the file's `ro = true`.
            own.pop("ro", None)
        else:
            passed_on.pop("no" + name, None)
    return own, tuple(passed_on)


def _from_environment(environ: Mapping[str, str]) -> dict[str, Said]:
    own: dict[str, Said] = {}
    for name in [*_SHORT, *_BY_NAME, "config"]:  # FIGFS_LOG_LEVEL counts more than FIGFS_DEBUG
        variable = "FIGFS_" + name.replace("-", "_").upper()
        if text := environ.get(variable):
            _say(own, name, text, variable)
    return own


def _from_file(path: Path, *, required: bool) -> dict[str, Said]:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError) as exc:
        if not required:
            return {}
        raise ConfigurationError(f"there is no configuration file {path}", exit_code=2) from exc
    except OSError as exc:
        raise ConfigurationError(f"cannot read {path}: {exc.strerror}", exit_code=2) from exc
    except ValueError as exc:  # not TOML, or not UTF-8
        raise ConfigurationError(f"{path}: {exc}", exit_code=2) from exc
    own: dict[str, Said] = {}
    for name, value in data.items():
        plain = _own_name(name)
        if plain is None or plain == "config":
            raise _unknown(name, str(path))
        origin = f"{name} in {path}"
        _say(own, plain, _toml_text(plain, value, origin), origin)
    return own


def _toml_text(name: str, value: object, origin: str) -> str:
    if isinstance(value, str):
        return value
    if name == "umask":  # TOML made a number of it: 22 would have to be guessed to be octal
        raise ConfigurationError(f'{origin}: write it as text: umask = "022"', exit_code=2)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise ConfigurationError(f"{origin}: a text, a number, true or false is needed", exit_code=2)


def gather(
    *,
    flags: Mapping[str, str] = types.MappingProxyType({}),
    mount_options: Iterable[str] = (),
    source: str | None = None,
    environ: Mapping[str, str] = os.environ,
    directory: Path | None = None,
) -> tuple[dict[str, Choice], tuple[str, ...]]:
    """What was said about each option, the strongest voice only: flag, ``-o``, environment, file.

    ``flags``: name to text, only those given; ``mount_options``: the arguments of ``-o``; ``source``: the
    first field of an fstab line, which names the mount (``fsname``) unless ``-o`` or a flag does;
    ``directory``: where config.toml is looked for, ``config_dir()`` unless given.
    Returns the choices by option name, and the options to be handed to libfuse. Raises ConfigurationError
    (exit code 2) for an unknown name, a bad value, an unreadable file, always saying where it was said.
    """
    said, passed_on = _from_mount_options(mount_options)
    said |= _from_flags(flags)
    if source is not None:
        said.setdefault("fsname", Said(source, "the source"))
    said = _from_environment(environ) | said
    config = said.pop("config", None)
    path = _read(_path, config) if config else (directory or config_dir()) / "config.toml"
    in_file = _from_file(path, required=config is not None)
    choices = {
        name: Choice(_read(_BY_NAME[name].read, each), from_file=name not in said)
        for name, each in (in_file | said).items()
    }
    return choices, passed_on


def load(
    mountpoint: Path,
    *,
    flags: Mapping[str, str] = types.MappingProxyType({}),
    mount_options: Iterable[str] = (),
    source: str | None = None,
    environ: Mapping[str, str] = os.environ,
    directory: Path | None = None,
) -> Configuration:
    """The configuration of one mount; arguments and errors as for ``gather``, and those of ``find_token``."""
    choices, passed_on = gather(
        flags=flags, mount_options=mount_options, source=source, environ=environ, directory=directory
    )
    public = choices.get("public")
    if public is not None and public.value:
        return _without_account(mountpoint, choices, passed_on)
    file, account = choices.get("token-file"), choices.get("account")
    found = find_token(
        named=file.value if file and not file.from_file else None,
        configured=file.value if file and file.from_file else None,
        account=account.value if account and not account.from_file else None,
        configured_account=account.value if account and account.from_file else None,
        environ=environ,
        directory=directory,
    )
    fields = _fields(choices)
    api = found.credential.api
    if api and fields.setdefault("api", api) != api:
        raise ConfigurationError(
            f"the token in {found.origin} is one of {api}, not of {fields['api']}: log in there with "
            "'figfs login --api', or name another one (--account, --token-file, FIGFS_TOKEN)"
        )
    log_file, log_level = choices.get("log-file"), choices.get("log-level")
    return Configuration(
        settings=Settings(
            mountpoint=mountpoint.absolute(),
            token=found.token,
            token_file=found.file,
            login=found.credential.login,
            fuse_options=passed_on,
            **fields,
        ),
        token_origin=found.origin,
        log_in_with=how_to_log_in(found.file, oauth=found.credential.oauth is not None, directory=directory)
        if found.file is not None
        else "figfs login",
        log_file=log_file.value if log_file else None,
        log_level=log_level.value if log_level else "warning",
    )


def _without_account(
    mountpoint: Path, choices: Mapping[str, Choice], passed_on: tuple[str, ...]
) -> Configuration:
    """Of a mount of public items: no token is looked for, so none can be sent."""
    if "impersonate" in choices:
        raise ConfigurationError("public items have no account: --impersonate is not for them", exit_code=2)
    log_file, log_level = choices.get("log-file"), choices.get("log-level")
    fields = _fields(choices) | {"read_only": True}
    return Configuration(
        settings=Settings(mountpoint=mountpoint.absolute(), token=None, fuse_options=passed_on, **fields),
        token_origin="",
        log_file=log_file.value if log_file else None,
        log_level=log_level.value if log_level else "warning",
    )


def _fields(choices: Mapping[str, Choice]) -> dict[str, Any]:
    """Fields of ``Settings``, and their values."""
    return {_BY_NAME[name].field: choice.value for name, choice in choices.items() if _BY_NAME[name].field}
