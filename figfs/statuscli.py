"""The commands about what is owed: ``status``, ``wait``, ``retry``, ``discard``, ``recover``.

Part of the command line (``cli.py`` has the rest, and turns every failure into a line and an exit code).
A mount is asked over its control socket; without one, what lies in the state directory is read.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from figfs import options
from figfs.errors import ConfigurationError
from figfs.terminal import amount, count, visible

if TYPE_CHECKING:
    from figfs.ledger import Rows
    from figfs.mounts import Found

WATCH_PAUSE = 0.5  #: seconds between looks
WATCH_BARS = 20  #: uploads that have a bar
LINE_PAUSE = 10.0  #: seconds between lines where there is no terminal for bars
ORPHANS_PATIENCE = 600.0  #: seconds: Figshare may make the mount wait for its turn


def _state_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--config", metavar="FILE", help="Configuration file instead of config.toml.")(
        command
    )
    text = "The state directory of the mount, if it is not the usual one."
    return click.option("--state-dir", metavar="DIR", help=text)(command)


def _find(path: str | None, state_dir: str | None, config: str | None) -> Found:
    from figfs import mounts

    given = {"state-dir": state_dir, "config": config}
    choices, _ = options.gather(flags={name: text for name, text in given.items() if text is not None})
    named = choices.get("state-dir")
    return mounts.find(path, named.value if named is not None else None)


# ---- asking, with or without a mount ---------------------------------------------------------------------


def _report(found: Found, *, limit: int | None = None, brief: bool = False) -> dict[str, Any]:
    """The status of what ``found`` names, from its mount or from what lies on disk."""
    if found.socket is not None:
        return found.ask_one("status", under=found.inside, limit=limit, brief=brief)
    from figfs import ledger

    with _readable(found.state_directory):
        report = ledger.offline_report(
            _rows(found.state_directory),
            found.state_directory / "spool",
            _unclosed(found.state_directory),
            under=found.inside,
        )
    about = {
        "mountpoint": found.mountpoint,
        "state_directory": str(found.state_directory),
        "pid": None,
        "account": None,
        "read_only": False,
        "mounted": False,
    }
    return {**about, **report, "cache": None}


@contextlib.contextmanager
def _readable(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ConfigurationError(f"cannot read {visible(str(directory))}: {exc.strerror}") from exc
    except (ValueError, sqlite3.Error) as exc:
        raise ConfigurationError(f"cannot read the journal in {visible(str(directory))}: {exc}") from exc


def _rows(directory: Path) -> Rows:
    from figfs.writing.journal import read_journal

    directory.stat()
    return read_journal(directory / "journal.db")


def _unclosed(directory: Path) -> list[Path]:
    from figfs.writing.spool import Spool

    spool = directory / "spool"
    return Spool(spool).abandoned(_rows(directory)[0]) if spool.is_dir() else []


# ---- status ----------------------------------------------------------------------------------------------


@click.command("status", short_help="What Figshare is owed, and what is parked.")
@click.argument("path", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON object; with --watch one for each look.")
@click.option("--watch", is_flag=True, help="Go on, with a bar for each upload, until Ctrl-C.")
@click.option("--orphans", is_flag=True, help="List unfinished files on Figshare that are not this mount's.")
@_state_options
def status_command(
    *, path: str | None, as_json: bool, watch: bool, orphans: bool, state_dir: str | None, config: str | None
) -> int:
    """Show what is on its way to Figshare, what is parked and why, and what was never closed.

    PATH: only what is below it; with several mounts it also tells which. Without a mount the journal is read.
    With --orphans each article is asked for: they are listed only, whose they are cannot be told from here.
    """
    if watch and orphans:
        raise click.UsageError("--watch and --orphans exclude each other")
    found = _find(path, state_dir, config)
    if orphans:
        return _orphans(found, as_json=as_json)
    if watch:
        return _watch(found, as_json=as_json)
    report = _report(found)
    if as_json:
        print(json.dumps(report, indent=2))
        return 0
    from figfs import statusview

    statusview.console().print(statusview.draw(report))
    return 0


def _watch(found: Found, *, as_json: bool) -> int:
    if found.socket is None:
        raise ConfigurationError("nothing is mounted: there is nothing to watch")
    if as_json:
        while True:
            print(json.dumps(_report(found, brief=True)), flush=True)
            time.sleep(WATCH_PAUSE)
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from figfs import statusview

    console = statusview.console()
    if not console.is_terminal:
        while True:
            report = _report(found, limit=0, brief=True)
            print(f"{statusview.headline(report)}: {statusview.summary(report)}", flush=True)
            time.sleep(LINE_PAUSE)
    bars = statusview.Bars(console)
    with Live(console=console, auto_refresh=False) as live:
        while True:
            report = _report(found, limit=WATCH_BARS, brief=True)
            bars.show(report, WATCH_BARS)
            head = Text(f"{statusview.headline(report)}\n{statusview.summary(report)}")
            live.update(Group(head, bars.progress), refresh=True)
            time.sleep(WATCH_PAUSE)


def _orphans(found: Found, *, as_json: bool) -> int:
    total = 0
    for line in found.ask("orphans", under=found.inside, patience=ORPHANS_PATIENCE):
        for orphan in line["orphans"]:
            total += 1
            if as_json:
                print(json.dumps(orphan), flush=True)
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
    if not total and not as_json:
        print("no unfinished files but those of this mount")
    return 0


# ---- wait ------------------------------------------------------------------------------------------------


@click.command("wait", short_help="Wait until Figshare has everything.")
@click.argument("path", required=False)
@click.option("--timeout", metavar="TIME", help="At most so long.  [default: for ever]")
@_state_options
def wait_command(*, path: str | None, timeout: str | None, state_dir: str | None, config: str | None) -> int:
    """Return when Figshare is owed nothing below PATH, or in the whole mount.

    Exit code 1, with the reasons, if something is parked there, or if the time is over before. Files that are
    still open, and temporary names that wait for their rename, are not waited for.
    """
    try:
        limit = None if timeout is None else options.read_time(timeout)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="--timeout") from exc
    found = _find(path, state_dir, config)
    if found.inside:
        found = _resolved(found)
    parked = _wait(found, limit) if found.socket is not None else _left(found)
    if parked is None:
        return 1
    if path and found.inside and not parked and not os.path.lexists(path):
        raise ConfigurationError(f"there is no {visible(path)}")
    for entry in parked:
        _tell(f"{visible(entry['path'])}: parked: {visible(entry['reason'] or 'no reason is known', 500)}")
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

    from figfs import statusview

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
                _tell(f"{text}, after {limit:g} s")
                return None
    raise ConfigurationError("the mount has ended; run 'figfs status' to see what is left")


def _left(found: Found) -> list[dict[str, Any]]:
    report = _report(found)
    if report["owed"]:
        changes = count(report["owed"], "change")
        raise ConfigurationError(f"{changes} owed to Figshare, and nothing is mounted that would send them")
    return [*report["uploads"], *report["deletions"]]


def _tell(text: str) -> None:
    print(f"figfs: {text}", file=sys.stderr)


# ---- retry, discard --------------------------------------------------------------------------------------


@dataclasses.dataclass
class _Chosen:
    """What is to be retried or discarded: entries of a report."""

    found: Found
    parked: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    unclosed: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    def add(self, report: dict[str, Any], *, with_unclosed: bool) -> bool:
        """Take all that is parked in ``report``; whether there is anything."""
        entries = [*report["uploads"], *report["deletions"]]
        parked = {entry["row"]: entry for entry in entries if entry["state"] == "parked"}
        unclosed = {entry["name"]: entry for entry in report["never_closed"]} if with_unclosed else {}
        self.parked |= parked
        self.unclosed |= unclosed
        return bool(parked or unclosed)


def _choose(
    words: Sequence[str], *, every: bool, with_unclosed: bool, state_dir: str | None, config: str | None
) -> _Chosen:
    if every == bool(words):
        raise click.UsageError("name paths or rows as 'figfs status' shows them, or --all")
    numbers = [word for word in words if re.fullmatch(r"\d+|n\d+", word)]
    places = [_find(word, state_dir, config) for word in words if word not in numbers]
    found = places[0] if places else _find(None, state_dir, config)
    if any(place.state_directory != found.state_directory for place in places):
        raise click.UsageError("these paths are in several mounts: name those of one")
    chosen = _Chosen(found)
    for place in places:
        if not chosen.add(_report(place, brief=True), with_unclosed=with_unclosed):
            raise ConfigurationError(f"nothing is parked in {visible(place.inside or place.mountpoint)}")
    if not numbers and not every:
        return chosen
    everything = _Chosen(found)
    everything.add(_report(dataclasses.replace(found, inside=""), brief=True), with_unclosed=with_unclosed)
    if every:
        return everything
    for word in numbers:
        if word.isdecimal() and int(word) in everything.parked:
            chosen.parked[int(word)] = everything.parked[int(word)]
        elif word in everything.unclosed:
            chosen.unclosed[word] = everything.unclosed[word]
        else:
            raise ConfigurationError(f"nothing that is parked has the number {word}")
    return chosen


@click.command("retry", short_help="Try again what is parked.")
@click.argument("what", nargs=-1, metavar="[PATH|ROW]…")
@click.option("--all", "every", is_flag=True, help="Everything that is parked.")
@click.option("--replace", is_flag=True, help="Also where a newer file bears the name, which goes then.")
@_state_options
def retry_command(
    *, what: tuple[str, ...], every: bool, replace: bool, state_dir: str | None, config: str | None
) -> int:
    """Carry out what is parked at or below PATH, or in a ROW of 'figfs status', as if it had never failed.

    It goes on in the mount: 'figfs wait' tells how it ends. Exit code 1 if something could not be taken up.
    """
    chosen = _choose(what, every=every, with_unclosed=False, state_dir=state_dir, config=config)
    if not chosen.parked:
        print("nothing is parked")
        return 0
    names = {row: entry["path"] for row, entry in chosen.parked.items()}
    return _act(chosen.found.ask("retry", rows=[*names], replace=replace), names, "is tried again")


@click.command("discard", short_help="Give up what is parked or was never closed.")
@click.argument("what", nargs=-1, metavar="[PATH|ROW]…")
@click.option("--all", "every", is_flag=True, help="Everything that is parked or was never closed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_state_options
def discard_command(
    *, what: tuple[str, ...], every: bool, yes: bool, state_dir: str | None, config: str | None
) -> int:
    """Remove what is parked or was never closed at or below PATH, or in a ROW of 'figfs status', for good.

    Its bytes are nowhere else, as a rule: 'figfs recover' copies them out before. Figshare is not changed.
    """
    chosen = _choose(what, every=every, with_unclosed=True, state_dir=state_dir, config=config)
    names: dict[object, str] = {row: entry["path"] for row, entry in chosen.parked.items()}
    names |= {name: entry["path"] or name for name, entry in chosen.unclosed.items()}
    if not names:
        print("nothing is parked, and nothing was left unclosed")
        return 0
    if not yes:
        for entry in [*chosen.parked.values(), *chosen.unclosed.values()]:
            size = "" if entry["size"] is None else f" ({amount(entry['size'])})"
            print(f"{visible(entry['path'] or entry['name'])}{size}", file=sys.stderr)
        if not sys.stdin.isatty():
            raise click.UsageError("this cannot be undone: say --yes")
        files = count(len(names), "file")
        click.confirm(f"Remove what is here of {files} for good?", abort=True, err=True)
    if chosen.found.socket is not None:
        answer = chosen.found.ask("discard", rows=[*chosen.parked], unclosed=[*chosen.unclosed])
    else:
        answer = _discard_offline(chosen)
    return _act(answer, names, "is discarded")


def _act(answer: Iterator[dict[str, Any]], names: dict[Any, str], done: str) -> int:
    failed = False
    for line in answer:
        name = visible(names.get(line["what"], str(line["what"])))
        if "failed" in line:
            failed = True
            _tell(f"{name}: {visible(str(line['failed']), 500)}")
        else:
            print(f"{name} {done}")
    return 1 if failed else 0


def _discard_offline(chosen: _Chosen) -> Iterator[dict[str, Any]]:
    from figfs import parking
    from figfs.statedirectory import borrowed
    from figfs.writing.journal import open_journal

    directory = chosen.found.state_directory
    with (
        _readable(directory),
        borrowed(directory),
        open_journal(directory / "journal.db") as journal,
    ):
        abandoned = _unclosed(directory)
        for row in chosen.parked:
            parking.discard_offline(journal, directory / "spool", row)
            yield {"what": row}
        for name in chosen.unclosed:
            parking.discard_unclosed_offline(abandoned, name)
            yield {"what": name}


# ---- recover ---------------------------------------------------------------------------------------------


@click.command("recover", short_help="Copy out what Figshare does not have.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@_state_options
def recover_command(*, directory: Path, state_dir: str | None, config: str | None) -> int:
    """Copy all that only this machine has into DIR, by its names: what is parked, owed, or was never closed.

    No mount is needed, and none is changed; nothing is overwritten. What was never closed may be half a file,
    and is called NAME.incomplete. Exit code 1 if something could not be copied, or is damaged.
    """
    from figfs import recovering

    found = _find(None, state_dir, config)
    state = found.state_directory
    with _readable(state):
        if found.socket is not None:  # only the mount can tell them from what is being written
            names = [entry["name"] for entry in _report(found, brief=True)["never_closed"]]
            unclosed = [state / "spool" / name.removeprefix("n") for name in names]
        else:
            unclosed = _unclosed(state)
        items = [*recovering.items(_rows(state), state / "spool", unclosed)]
    copied = size = failed = 0
    for copy in recovering.recover(items, directory):
        name = visible(copy.item.path)
        if copy.problem:
            failed += 1
            _tell(f"{name}: {visible(copy.problem)}")
        if copy.target is not None:
            copied, size = copied + 1, size + copy.size
            print(f"{visible(str(copy.target))}  ({amount(copy.size)}, {copy.item.state})")
    print(f"{count(copied, 'file')}, {amount(size)}")
    return 1 if failed else 0
