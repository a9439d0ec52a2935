"""The command line. Words in, calls out: what a command does is in the module that it calls.

Heavy modules are imported by the command that needs them, so that ``figfs --help`` answers at once. Every
failure becomes one line on stderr and an exit code: 2 for what was typed or written in a configuration, 130
for Ctrl-C, else 1.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import io
import logging
import os
import sys
import urllib.parse
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import platformdirs

from figfs import __version__
from figfs.commandline import (
    background,
    cachecli,
    itemcli,
    logincli,
    logs,
    mountpoint,
    options,
    parkingcli,
    publishcli,
    statuscli,
)
from figfs.errors import ConfigurationError, FigfsError, Unauthorized
from figfs.settings import Settings
from figfs.terminal import visible

logger = logging.getLogger("figfs.cli")  # as a program it is __main__

#: ``mount.run``: ``run(settings, on_ready=…)`` returns after the unmount.
Run = Callable[..., Awaitable[None]]


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=False)
@click.version_option(__version__, prog_name="figfs", message="%(prog)s %(version)s")
def cli() -> None:
    """Mount a Figshare account as a file system."""


def main(argv: Sequence[str] | None = None, *, run: Run | None = None) -> int:
    """Carry out one command; returns its exit code. ``run``: another ``mount.run``, for the tests."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A title that the terminal's encoding does not have is no reason to say nothing.
        sys.stdout.reconfigure(errors="backslashreplace")
    if argv is None and is_call_of_mount(sys.argv[0], arguments, commands=cli.commands):
        arguments.insert(0, "mount-helper")
    try:
        result = cli.main(arguments, prog_name="figfs", standalone_mode=False, obj=run)
        return result if isinstance(result, int) else 0
    except click.Abort:
        return 130
    except click.ClickException as exc:
        command = getattr(getattr(exc, "ctx", None), "command_path", "figfs")
        said = visible(exc.format_message().rstrip("."))
        print(f"figfs: {said} (see '{command} --help')", file=sys.stderr)
        return exc.exit_code
    except BrokenPipeError:  # who read what is printed has had enough: head(1), a pager
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as exc:  # noqa: BLE001 - no traceback reaches a user
        code, message = explain(exc)
        print(f"figfs: {message}", file=sys.stderr)
        return code


def explain(exc: BaseException, configuration: options.Configuration | None = None) -> tuple[int, str]:
    """Exit code and line for a failure, fit for a terminal. What Trio has grouped is told by its first
    cause.
    """
    code, message = _explained(exc, configuration)
    return code, visible(message)


def _explained(exc: BaseException, configuration: options.Configuration | None) -> tuple[int, str]:
    token = configuration.settings.token if configuration else None
    leaves = [*_leaves(exc)]
    known = next((leaf for leaf in leaves if isinstance(leaf, FigfsError)), None)
    if any(isinstance(leaf, KeyboardInterrupt) for leaf in leaves):
        return 130, "interrupted"
    if isinstance(known, Unauthorized) and configuration is not None:
        api, origin = configuration.settings.api, configuration.token_origin
        return 1, f"{api} refuses the token in {origin}: run '{configuration.log_in_with}' with a new one"
    if isinstance(known, ConfigurationError):
        return known.exit_code, logs.redact(str(known), token)
    if known is not None:
        return 1, logs.redact(str(known), token)
    text = " ".join(f"{type(leaves[0]).__name__}: {leaves[0]}".split())
    return 1, logs.redact(f"internal error: {text} (see the log, or run with --debug)", token)


def _leaves(exc: BaseException) -> list[BaseException]:
    if isinstance(exc, BaseExceptionGroup):
        return [leaf for each in exc.exceptions for leaf in _leaves(each)]
    return [exc]


# ---- mount -----------------------------------------------------------------------------------------------


def _setting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """A flag for every entry of ``options.OPTIONS``; each comes as text, or None if it was not given."""
    for option in reversed(options.OPTIONS):
        if option.metavar:
            flag = click.option(
                f"--{option.name}", metavar=option.metavar, help=option.help + _default(option)
            )
        else:
            flag = click.option(f"--{option.name}/{_off(option.name)}", default=None, help=option.help)
        command = flag(command)
    return command


def _off(name: str) -> str:
    return {"ro": "--rw", "noxattr": "--xattr"}.get(name, f"--no-{name}")


def _default(option: options.Option) -> str:
    default = {field.name: field.default for field in dataclasses.fields(Settings)}.get(option.field)
    if option.name == "umask":
        return f"  [default: {default:03o}]"
    if option.metavar == "SIZE" and isinstance(default, int):
        return f"  [default: {size_text(default)}]"
    if isinstance(default, float):
        return f"  [default: {default:g}]"
    return f"  [default: {default}]" if isinstance(default, str) else ""


def size_text(size: int) -> str:
    """A size as ``options.read_size`` takes it: the largest unit that leaves it whole."""
    for unit in "TGMK":
        one = 1024 ** (" KMGT".index(unit))
        if size and size % one == 0:
            return f"{size // one}{unit}"
    return str(size)


@cli.command("mount", short_help="Mount the account on a directory.")
@click.argument("places", nargs=-1, metavar="[SOURCE] MOUNTPOINT")
@click.option(
    "-b", "--background", "in_background", is_flag=True, help="Return when it is mounted or has failed."
)
@click.option("-o", "mount_options", multiple=True, metavar="NAME[=VALUE],…", help="Options as for mount(8).")
@click.option("--config", metavar="FILE", help="Configuration file instead of config.toml.")
@_setting_options
@click.option("-v", "--verbose", is_flag=True, default=None, help="Same as --log-level info.")
@click.option("--debug", is_flag=True, default=None, help="Same as --log-level debug.")
@click.option("--ready-fd", type=int, hidden=True)
@click.pass_obj
def mount_command(
    run: Run | None,
    /,
    *,
    places: tuple[str, ...],
    in_background: bool,
    mount_options: tuple[str, ...],
    ready_fd: int | None,
    **given: str | bool | None,
) -> int:
    """Mount the account on MOUNTPOINT, an empty directory, until it is unmounted.

    SOURCE is what the mount table is to show, as in fstab. A TIME is in seconds, or such as 2m; a SIZE is
    in bytes, or such as 500M or 10G (powers of 1024). Every option can also be given by -o, as FIGFS_NAME in
    the environment, and in config.toml; the first of these counts.
    """
    if not 1 <= len(places) <= 2:
        raise click.UsageError("name one MOUNTPOINT, with a SOURCE before it if you like")
    flags = {
        name.replace("_", "-"): str(value).lower() if isinstance(value, bool) else value
        for name, value in given.items()
        if value is not None
    }
    if in_background:
        return _mount_in_background(places, flags, mount_options)
    load = functools.partial(
        options.load,
        Path(places[-1]),
        flags=flags,
        mount_options=mount_options,
        source=places[0] if len(places) == 2 else None,
    )
    return serve(load, reporter=background.Reporter(ready_fd), in_background=ready_fd is not None, run=run)


def _mount_in_background(
    places: Sequence[str], flags: Mapping[str, str], mount_options: Sequence[str]
) -> int:
    said = [_as_flag(name, text) for name, text in flags.items()]
    said += [f"-o{text}" for text in mount_options]
    # -P: what lies in the current directory is not to be imported.
    program = [sys.executable, "-P", "-m", "figfs.cli", "mount"]
    code, text = background.start(lambda fd: [*program, f"--ready-fd={fd}", *said, "--", *places])
    print(f"figfs: {text}", file=sys.stderr)
    return code


def _as_flag(name: str, text: str) -> str:
    option = next((option for option in options.OPTIONS if option.name == name), None)
    if name == "config" or (option is not None and option.metavar):
        return f"--{name}={text}"
    return f"--{name}" if text == "true" else _off(name)


def serve(
    load: Callable[[], options.Configuration],
    *,
    reporter: background.Reporter,
    in_background: bool,
    run: Run | None = None,
    machine: mountpoint.Machine | None = None,
) -> int:
    """Mount, and stay until the end of it; returns the exit code, having told the reporter what went
    wrong.
    """
    import trio

    configuration: options.Configuration | None = None
    try:
        configuration = load()
        settings = configuration.settings
        logs.configure(
            configuration.log_level,
            token=settings.token,
            file=configuration.log_file,
            background=in_background,
            state_dir=settings.state_dir,
        )
        place = mountpoint.prepare(settings.mountpoint, allow_other=settings.allow_other, machine=machine)
        settings = dataclasses.replace(settings, mountpoint=place)
        if not settings.public:
            _warn_of_plain_http(settings.api)
        mount = functools.partial(run or _mount_run(), settings, on_ready=reporter.ready)
        trio.run(mount)
    except (Exception, BaseExceptionGroup, KeyboardInterrupt) as exc:
        code, message = explain(exc, configuration)
        if configuration is not None and not isinstance(exc, FigfsError | KeyboardInterrupt):
            # A log that nobody has before his eyes gets the traceback; a terminal only with --debug.
            in_view = not in_background and configuration.log_file is None
            logger.log(logging.DEBUG if in_view else logging.ERROR, "the mount failed", exc_info=exc)
        reporter.failed(code, message)
        return code
    return 0


def _mount_run() -> Run:
    try:
        from figfs import mount
    except ImportError as exc:
        if "fuse" not in str(exc):
            raise
        raise ConfigurationError(
            f"pyfuse3 cannot be loaded ({exc}): install libfuse3-dev, pkg-config, gcc and python3-dev, "
            "then run 'pip install --force-reinstall pyfuse3'"
        ) from exc
    return mount.run


def _warn_of_plain_http(api: str) -> None:
    parts = urllib.parse.urlsplit(api)
    if parts.scheme == "http" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        logger.warning("the token goes over the network unencrypted: %s is not https", api)


# ---- mount(8) and fstab ----------------------------------------------------------------------------------


def is_call_of_mount(program: str, arguments: Sequence[str], *, commands: Iterable[str]) -> bool:
    """Whether mount(8) called: as ``mount.fuse.figfs``, a link to figfs, or through mount.fuse3, which runs
    ``figfs SOURCE DIR -o …``. The ``-o`` is asked for, so that a mistyped command is not taken for a source.
    """
    if Path(program).name.startswith("mount."):
        return True
    return len(arguments) > 2 and arguments[0] not in commands and arguments[2] == "-o"


@cli.command("mount-helper", hidden=True)
@click.argument("source")
@click.argument("place", metavar="MOUNTPOINT")
@click.option("-o", "mount_options", multiple=True)
@click.option("-f", "fake", is_flag=True)
@click.option("-s", "sloppy", is_flag=True)
@click.option("-v", "verbose", is_flag=True)
@click.option("-n", "ignored", is_flag=True, expose_value=False)
@click.option("-t", "kind", expose_value=False)
@click.option("-N", "namespace", expose_value=False)
def mount_helper(
    *, source: str, place: str, mount_options: tuple[str, ...], fake: bool, sloppy: bool, verbose: bool
) -> int:
    """What mount(8) asks of a helper: ``mount.fuse.figfs SOURCE DIR [-sfnv] [-o OPTIONS] [-t TYPE]``."""
    if fake:
        return 0
    if sloppy:
        mount_options = tuple(options.without_unknown(text) for text in mount_options)
    return _mount_in_background([source, place], {"verbose": "true"} if verbose else {}, mount_options)


# ---- the other commands ----------------------------------------------------------------------------------


@cli.command("umount", short_help="Unmount it.")
@click.argument("place", metavar="MOUNTPOINT", type=click.Path(path_type=Path))
@click.option(
    "-z", "--lazy", is_flag=True, help="Even if it is in use: gone at once, ended when nobody uses it."
)
@click.option("--dead", is_flag=True, help="Only if its daemon has gone; a mount that works stays.")
@click.option(
    "--state-dir", metavar="DIR", help="The state directory of the mount, if it is not the usual one."
)
def umount_command(*, place: Path, lazy: bool, dead: bool, state_dir: str | None) -> int:
    """Unmount MOUNTPOINT, and wait until the uploads are done, at most for the --unmount-timeout of the
    mount.

    What is not done by then goes on with the next mount. With --lazy nothing is waited for.
    """
    choices, _ = options.gather(flags={} if state_dir is None else {"state-dir": state_dir})
    mountpoint.unmount(place, lazy=lazy, only_dead=dead)
    if not lazy and not dead:
        usual = platformdirs.user_state_path("figfs").glob("*/")
        directory = mountpoint.wait_for_daemon(
            place,
            state_dirs=[choices["state-dir"].value] if "state-dir" in choices else usual,
            on_wait=lambda: print("figfs: uploads go on; Ctrl-C does not stop them", file=sys.stderr),
        )
        for line in statuscli.left_behind(directory) if directory is not None else []:
            print(f"figfs: {line}", file=sys.stderr)
    return 0


@cli.command("sandbox", short_help="Run a local Figshare.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; 0: any free one.")
@click.option(
    "--dir", "directory", type=click.Path(path_type=Path), help="Keep everything in this directory."
)
@click.option("--memory", is_flag=True, help="Keep nothing (the default).")
@click.option("--seed", type=click.Choice(["example", "empty"]), default="example", show_default=True)
def sandbox_command(*, port: int, directory: Path | None, memory: bool, seed: str) -> int:
    """Run a local Figshare, with an example account, until SIGTERM or Ctrl-C.

    When it is ready it prints one line of JSON: the base URL of its API, and a token.
    """
    if directory is not None and memory:
        raise click.UsageError("--dir and --memory exclude each other")
    from figfs.sandbox import server

    logs.configure("warning")
    try:
        server.main(port, directory, seed)
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            raise ConfigurationError(f"cannot run the sandbox: {exc}") from exc
        raise ConfigurationError(f"port {port} is in use: choose another, or 0 for any free one") from exc
    return 0


for command in (
    logincli.login_command,
    logincli.logout_command,
    logincli.accounts_command,
    cachecli.cache_group,
    cachecli.warm_command,
    cachecli.pin_command,
    cachecli.unpin_command,
    statuscli.status_command,
    statuscli.wait_command,
    parkingcli.retry_command,
    parkingcli.discard_command,
    parkingcli.recover_command,
    publishcli.publish_command,
    publishcli.reserve_doi_command,
    itemcli.info_command,
    itemcli.cite_command,
    itemcli.open_command,
    itemcli.refresh_command,
):
    cli.add_command(command)


if __name__ == "__main__":
    sys.exit(main())
