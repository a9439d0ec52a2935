"""The commands about the cache: ``cache status|prune|verify``, ``warm``, ``pin``, ``unpin``.

Part of the command line (``cli.py`` has the rest, and turns every failure into a line and an exit code).
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import platformdirs

from figfs.commandline import logs, options
from figfs.commandline.statuscli import find, state_options
from figfs.errors import ConfigurationError
from figfs.terminal import amount, as_json, count

if TYPE_CHECKING:
    from rich.console import Console

    from figfs.commandline.warming import Failures, Figures, Found
    from figfs.reading.blockstore import BlockStore
    from figfs.reading.upkeep import Statistics

REPORT_INTERVAL = 10.0  #: seconds between lines where there is no terminal for a bar
PINS_SHOWN = 20  #: of what is pinned; JSON has all


def _cache_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--config", metavar="FILE", help="Configuration file instead of config.toml.")(
        command
    )
    text = "The cache directory of the mount, if it is not the usual one."
    return click.option("--cache-dir", metavar="DIR", help=text)(command)


@contextlib.contextmanager
def _cache(cache_dir: str | None, config: str | None) -> Iterator[tuple[BlockStore, int]]:
    """The cache that a mount with this configuration has, and its limit in bytes."""
    from figfs.reading.blockstore import BlockStore, default_cache_size

    given = {"cache-dir": cache_dir, "config": config}
    choices, _ = options.gather(flags={name: text for name, text in given.items() if text is not None})
    named = choices.get("cache-dir")
    directory: Path = named.value if named else platformdirs.user_cache_path("figfs")
    try:
        with contextlib.suppress(FileNotFoundError):  # nothing in it, then
            os.listdir(directory)
    except OSError as exc:
        raise ConfigurationError(f"cannot use the cache directory {directory}: {exc.strerror}") from exc
    size = choices.get("cache-size")
    limit: int = size.value if size else default_cache_size(directory)
    yield BlockStore(directory, limit=limit, min_free=0), limit


# ---- figfs cache -----------------------------------------------------------------------------------------


@click.group("cache", short_help="What is kept on disk: status, prune, verify.")
def cache_group() -> None:
    """Look at, empty or check what was downloaded and is kept on disk, with or without a mount."""


@cache_group.command("status", short_help="How full it is, and what is pinned.")
@_cache_options
@click.option("--json", "in_json", is_flag=True, help="One JSON object.")
def status_command(*, cache_dir: str | None, config: str | None, in_json: bool) -> int:
    """Show how much is kept, of how many files, what is pinned, and what was found right by its MD5."""
    with _cache(cache_dir, config) as (store, limit):
        found = store.statistics()
        if in_json:
            print(as_json(_figures(store.directory, limit, found), indent=2))
        else:
            _print_status(store.directory, limit, found)
    return 0


def _figures(directory: Path, limit: int, found: Statistics) -> dict[str, object]:
    return {
        "directory": str(directory),
        "used": found.used,
        "limit": limit,
        "contents": found.contents,
        "chunks": found.chunks,
        "verified_contents": found.verified_contents,
        "pinned_contents": len(found.pins),
        "pinned_bytes": sum(pin.used for pin in found.pins),
        "pins": [{"key": pin.key, "path": pin.label, "used": pin.used} for pin in found.pins],
    }


def _print_status(directory: Path, limit: int, found: Statistics) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from figfs.commandline.warming import printable

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    pinned = sum(pin.used for pin in found.pins)
    for name, text in {
        "Directory": printable(str(directory)),
        "Used": f"{amount(found.used)} of {amount(limit)}",
        "Contents": f"{found.contents}, in {found.chunks} chunks",
        "Verified": f"{found.verified_contents} by their MD5",
        "Pinned": f"{len(found.pins)}, with {amount(pinned)}",
    }.items():
        table.add_row(name, Text(text))
    Console().print(table)
    for pin in sorted(found.pins, key=lambda pin: pin.label)[:PINS_SHOWN]:
        print(f"{amount(pin.used):>12}  {printable(pin.label or pin.key)}")
    if len(found.pins) > PINS_SHOWN:
        print(f"{'':14}and {len(found.pins) - PINS_SHOWN} more, see --json")


@cache_group.command("prune", short_help="Remove what was not used for the longest time.")
@_cache_options
@click.option("--to", "size", metavar="SIZE", default="0", help="Leave so much.  [default: nothing]")
@click.option("--all", "pins_too", is_flag=True, help="Take all pins away first.")
def prune_command(*, cache_dir: str | None, config: str | None, size: str, pins_too: bool) -> int:
    """Remove what was not used for the longest time, or everything. What is pinned stays unless --all.

    A mount that uses it goes on, and downloads anew what it needs.
    """
    try:
        to = options.read_size(size)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--to") from exc
    with _cache(cache_dir, config) as (store, _):
        if pins_too:
            for key in store.pinned():
                _unpin(store, key)
        freed = store.prune(to)
        print(f"{amount(freed)} freed, {amount(store.statistics().used)} left")
    return 0


def _unpin(store: BlockStore, key: str) -> None:
    try:
        store.unpin(key)
    except (OSError, ValueError) as exc:
        raise ConfigurationError(f"cannot unpin {key!r} in {store.directory}: {exc}") from exc


@cache_group.command("verify", short_help="Read all of it; remove what is damaged.")
@_cache_options
def verify_command(*, cache_dir: str | None, config: str | None) -> int:
    """Read everything that is kept, compare it with its checksums, and remove what is damaged.

    Exit code 1 if anything was. A mount does the same with each block that it reads.
    """
    logs.configure("warning")
    with (
        _cache(cache_dir, config) as (store, _),
        _failures() as (_, console),
        _bar("Checking", console) as show,
    ):
        total, done = store.statistics().used, 0

        def progress(size: int) -> None:
            nonlocal done
            done += size
            show(done, total, "")

        found = store.verify(progress)
    skipped = f", {found.skipped} not read" if found.skipped else ""
    print(f"{found.chunks} chunks checked, {found.defective} damaged and removed{skipped}")
    return 1 if found.defective else 0


# ---- warm, pin, unpin ------------------------------------------------------------------------------------


@click.command("warm", short_help="Read files, so that they are kept on disk.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
def warm_command(*, paths: tuple[str, ...]) -> int:
    """Read every file that is, or is below, PATH on a mount, so that the cache has it.

    Symbolic links below PATH are not followed. Exit code 1 if a file could not be read.
    """
    from figfs.commandline.warming import files_below

    with _failures() as (failed, console):
        _read_through(files_below(paths, failed), failed, console)
        return 1 if failed.count else 0


@click.command("pin", short_help="Keep files on disk for good.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@click.option("--no-fetch", is_flag=True, help="Do not read them now; what is read later stays.")
@state_options
def pin_command(*, paths: tuple[str, ...], no_fetch: bool, state_dir: str | None, config: str | None) -> int:
    """Read every file that is, or is below, PATH on a mount, and keep it in the cache until it is unpinned.

    The content is pinned that the file has now: pin it again when it has changed. What is pinned counts
    towards --cache-size.
    """
    from figfs.commandline import pinning

    with _failures() as (failed, console):
        files = pinning.pin(paths, failed, lambda path: find(path, state_dir, config))
        print(f"{count(len(files), 'file')} pinned, {amount(sum(file.size for file in files))}")
        if files and not no_fetch:
            _read_through(files, failed, console)
        return 1 if failed.count else 0


@click.command("unpin", short_help="Let pinned files be evicted again.")
@click.argument("paths", nargs=-1, required=True, metavar="PATH…")
@state_options
def unpin_command(*, paths: tuple[str, ...], state_dir: str | None, config: str | None) -> int:
    """Take away the pin of every file that is, or is below, PATH on a mount. It stays until room is needed.

    A pin of what is not on the mount any more goes with 'figfs cache prune --all'.
    """
    from figfs.commandline import pinning

    with _failures() as (failed, _):
        files = pinning.unpin(paths, failed, lambda path: find(path, state_dir, config))
        print(f"{count(len(files), 'file')} unpinned")
        return 1 if failed.count else 0


@contextlib.contextmanager
def _failures() -> Iterator[tuple[Failures, Console]]:
    """Where failures are told: on the terminal above the bar, if there is one."""
    from rich.console import Console

    from figfs.commandline.warming import Failures

    console = Console(stderr=True)

    def tell(text: str) -> None:
        console.print(f"figfs: {text}", markup=False, highlight=False, soft_wrap=True)

    yield Failures(tell), console


def _read_through(files: Iterable[Found], failed: Failures, console: Console) -> None:
    """Read the files, with a bar or a line now and then; a line at the end."""
    from figfs.commandline.warming import Warming

    began = time.monotonic()
    with Warming(files, failed) as warming, _bar("Reading", console) as show:
        while not warming.wait(0.1):
            figures = warming.figures()
            show(figures.bytes, figures.total_bytes, _files_text(figures))
    figures = warming.figures()
    took = max(time.monotonic() - began, 0.001)
    rate = amount(figures.bytes / took)
    print(f"{count(figures.files, 'file')}, {amount(figures.bytes)} in {took:.1f} s, {rate}/s")


@contextlib.contextmanager
def _bar(title: str, console: Console) -> Iterator[Callable[[int, int, str], None]]:
    """What shows how far it is: takes bytes done, bytes in all, and more text. A bar on a terminal, with rate
    and time left; else a line every ten seconds.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    began = said = time.monotonic()

    def text(done: int, total: int, more: str) -> str:
        rate = done / max(time.monotonic() - began, 0.001)
        return ", ".join(filter(None, [f"{amount(done)} of {amount(total)}", f"{amount(rate)}/s", more]))

    if not console.is_terminal:

        def line(done: int, total: int, more: str) -> None:
            nonlocal said
            if time.monotonic() - said >= REPORT_INTERVAL:
                said = time.monotonic()
                print(f"{title}: {text(done, total, more)}", file=sys.stderr, flush=True)

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
        task = progress.add_task(title, total=None, text="")
        yield lambda done, total, more: progress.update(
            task, completed=done, total=total or None, text=text(done, total, more)
        )


def _files_text(figures: Figures) -> str:
    return f"{figures.files} of {figures.total_files}{'' if figures.walked else '+'} files"
