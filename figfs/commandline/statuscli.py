"""The commands about what is owed: ``status`` and ``wait``; what others of their kind share.

Part of the command line (``cli.py`` has the rest, and turns every failure into a line and an exit code).
A mount is asked over its control socket; without one, what lies in the state directory is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from figfs.commandline import options
from figfs.errors import ConfigurationError
from figfs.statedirectory import accounts_in
from figfs.terminal import amount, as_json, count, visible

if TYPE_CHECKING:
    from figfs.commandline.mounts import Found
    from figfs.control.ledger import Rows

WATCH_PAUSE = 0.5  #: seconds between looks
WATCH_SHARE = 5  #: times what a look takes, at least, until the next
WATCH_BARS = 20  #: uploads that have a bar
LINE_PAUSE = 10.0  #: seconds between lines where there is no terminal for bars
ORPHANS_PATIENCE = 600.0  #: seconds: Figshare may make the mount wait for its turn


def state_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The flags that tell which state directory is meant."""
    command = click.option("--config", metavar="FILE", help="Configuration file instead of config.toml.")(
        command
    )
    text = "The state directory of the mount, if it is not the usual one."
    return click.option("--state-dir", metavar="DIR", help=text)(command)


def find(path: str | None, state_dir: str | None, config: str | None) -> Found:
    """What ``path`` and the flags mean, see ``mounts.find``."""
    from figfs.commandline import mounts

    given = {"state-dir": state_dir, "config": config}
    choices, _ = options.gather(flags={name: text for name, text in given.items() if text is not None})
    named = choices.get("state-dir")
    return mounts.find(path, named.value if named is not None else None)


# ---- asking, with or without a mount ---------------------------------------------------------------------


def report_of(found: Found, *, limit: int | None = None, brief: bool = False) -> dict[str, Any]:
    """The status of what ``found`` names, from its mount or from what lies on disk."""
    if found.socket is not None:
        return found.ask_one("status", under=found.inside, limit=limit, brief=brief)
    if found.hangs():
        tell(f"the mount on {visible(found.mountpoint)} does not answer; this is what lies on disk")
    from figfs.control.inside import merged, offline_report_of
    from figfs.control.ledger import is_below

    with readable(found.state_directory):
        found.state_directory.stat()
        report = offline_report_of(found.state_directory, found.inside)
        for place, directory in accounts_in(found.state_directory, found.mountpoint):
            if is_below(place, found.inside):
                report = merged(report, place, offline_report_of(directory))
    about = {
        "mountpoint": found.mountpoint,
        "state_directory": str(found.state_directory),
        "pid": None,
        "account": None,
        "read_only": False,
        "away": None,
        "token_trouble": None,
        "mounted": False,
    }
    return {**about, **report, "cache": None}


@contextlib.contextmanager
def readable(directory: Path) -> Iterator[None]:
    """What goes wrong in reading a state directory is one line for a person."""
    try:
        yield
    except OSError as exc:
        raise ConfigurationError(f"cannot read {visible(str(directory))}: {exc.strerror}") from exc
    except (ValueError, sqlite3.Error) as exc:
        raise ConfigurationError(f"cannot read the journal in {visible(str(directory))}: {exc}") from exc


def left_behind(directory: Path) -> Iterator[str]:
    """What there is to say about a state directory whose mount has just ended: nothing, or a line or two."""
    from figfs.commandline.mounts import Found

    found = report_of(Found(directory))
    if found["owed"]:
        yield f"{count(found['owed'], 'change')} not on Figshare yet; the next mount goes on with that"
    if found["parked"]:
        yield f"{found['parked']} parked: 'figfs status' tells why"


def rows_of(directory: Path) -> Rows:
    """The journal in a state directory."""
    from figfs.writing.journal import read_journal

    directory.stat()
    return read_journal(directory / "journal.db")


def unclosed_of(directory: Path) -> list[Path]:
    """Never-closed bytes in the state directory of a mount that has ended."""
    from figfs.writing.spool import Spool

    spool = directory / "spool"
    return Spool(spool).abandoned(rows_of(directory)[0]) if spool.is_dir() else []


# ---- status ----------------------------------------------------------------------------------------------


@click.command("status", short_help="What Figshare is owed, and what is parked.")
@click.argument("path", required=False)
@click.option("--json", "in_json", is_flag=True, help="One JSON object; with --watch one for each look.")
@click.option("--watch", is_flag=True, help="Go on, with a bar for each upload, until Ctrl-C.")
@click.option("--orphans", is_flag=True, help="List unfinished files on Figshare that are not this mount's.")
@state_options
def status_command(
    *, path: str | None, in_json: bool, watch: bool, orphans: bool, state_dir: str | None, config: str | None
) -> int:
    """Show what is on its way to Figshare, what is parked and why, and what was never closed.

    PATH: only what is below it; with several mounts it also tells which. Without a mount the journal is read.
    With --orphans each article is asked for: they are listed only, whose they are cannot be told from here.
    """
    if watch and orphans:
        raise click.UsageError("--watch and --orphans exclude each other")
    found = find(path, state_dir, config)
    if orphans:
        return _orphans(found, in_json=in_json)
    if watch:
        return _watch(found, in_json=in_json)
    report = report_of(found)
    if in_json:
        print(as_json(report, indent=2))
        return 0
    from figfs.commandline import statusview

    statusview.console().print(statusview.draw(report))
    return 0


def _watch(found: Found, *, in_json: bool) -> int:
    if found.socket is None:
        raise ConfigurationError("no mount answers: there is nothing to watch")
    from figfs.commandline import statusview

    console = statusview.console()
    if in_json:
        for report in _looks(found, None, WATCH_PAUSE):
            print(as_json(report), flush=True)
    elif console.is_terminal:
        statusview.watch(_looks(found, WATCH_BARS, WATCH_PAUSE), console, WATCH_BARS)
    else:
        for report in _looks(found, 0, LINE_PAUSE):
            print(f"{statusview.headline(report)}: {statusview.summary(report)}", flush=True)
    return 0


def _looks(found: Found, limit: int | None, pause: float) -> Iterator[dict[str, Any]]:
    """A report now and then, for ever; of a long list less often."""
    while True:
        began = time.monotonic()
        yield report_of(found, limit=limit, brief=True)
        time.sleep(max(pause, WATCH_SHARE * (time.monotonic() - began)))


def _orphans(found: Found, *, in_json: bool) -> int:
    total = 0
    for line in found.ask("orphans", under=found.inside, patience=ORPHANS_PATIENCE):
        for orphan in line["orphans"]:
            total += 1
            if in_json:
                print(as_json(orphan), flush=True)
                continue
            title = f" ({visible(orphan['title'], 60)})" if orphan["title"] else ""
            print(
                f"article {visible(str(orphan['article']))}{title}: file {visible(str(orphan['file']))}, "
                f"{visible(orphan['name'])}, {amount(orphan['size'])}, unfinished",
                flush=True,
            )
        if sys.stderr.isatty() and line["total"] > 1:
            end = "\n" if line["done"] == line["total"] else ""
            print(f"\r{line['done']} of {line['total']} articles", end=end, file=sys.stderr, flush=True)
    if not total and not in_json:
        print("no unfinished files but those of this mount")
    return 0


# ---- wait ------------------------------------------------------------------------------------------------


@click.command("wait", short_help="Wait until Figshare has everything.")
@click.argument("path", required=False)
@click.option("--timeout", metavar="TIME", help="At most so long.  [default: for ever]")
@state_options
def wait_command(*, path: str | None, timeout: str | None, state_dir: str | None, config: str | None) -> int:
    """Return when Figshare is owed nothing below PATH, or in the whole mount.

    Exit code 1, with the reasons, if something is parked there, or if the time is over before. Files that are
    still open, and temporary names that wait for their rename, are not waited for.
    """
    try:
        limit = None if timeout is None else options.read_time(timeout)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--timeout") from exc
    found = find(path, state_dir, config)
    if found.inside:
        found = _resolved(found)
    parked = _wait(found, limit) if found.socket is not None else _left(found)
    if parked is None:
        return 1
    if path and found.inside and not parked and not os.path.lexists(path):
        raise ConfigurationError(f"there is no {visible(path)}")
    for entry in parked:
        tell(f"{visible(entry['path'])}: parked: {visible(entry['reason'] or 'no reason is known', 500)}")
    return 1 if parked else 0


def _resolved(found: Found) -> Found:
    """The same with symbolic links inside the mount followed: an article in a collection is one."""
    base = os.path.realpath(found.mountpoint)
    real = os.path.realpath(os.path.join(found.mountpoint, found.inside))
    inside = real[len(base) + 1 :] if real.startswith(base + "/") else found.inside
    return dataclasses.replace(found, inside=inside)


def _wait(found: Found, limit: float | None) -> list[dict[str, Any]] | None:
    """What is parked once nothing is owed; None, having said so, if that takes too long."""
    from rich.progress import BarColumn, Progress, TextColumn

    from figfs.commandline import statusview

    columns = (BarColumn(), TextColumn("{task.fields[text]}", markup=False))
    console = statusview.console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=None, text="")
        for line in found.ask("wait", under=found.inside, timeout=limit):
            if "parked" in line:
                parked: list[dict[str, Any]] = line["parked"]
                return parked
            text = f"{count(line['owed'], 'change')} owed, {amount(line['bytes'] - line['sent'])} to send"
            progress.update(task, total=max(line["bytes"], 1), completed=line["sent"], text=text)
            if line["late"]:
                tell(f"{text}, after {limit:g} s")
                return None
    raise ConfigurationError("the mount has ended; run 'figfs status' to see what is left")


def _left(found: Found) -> list[dict[str, Any]]:
    report = report_of(found)
    if report["owed"]:
        changes = count(report["owed"], "change")
        nobody = "its mount does not answer" if found.hangs() else "nothing is mounted that would send them"
        raise ConfigurationError(f"{changes} owed to Figshare, and {nobody}")
    from figfs.control.ledger import parked_in

    return parked_in(report)


def tell(text: str) -> None:
    """A line on stderr."""
    print(f"figfs: {text}", file=sys.stderr)
