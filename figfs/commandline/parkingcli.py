"""The commands about what Figshare has refused, or never had: ``retry``, ``discard``, ``recover``.

Part of the command line, beside ``statuscli.py``.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from figfs.commandline.statuscli import find, readable, report_of, rows_of, state_options, tell, unclosed_of
from figfs.errors import ConfigurationError
from figfs.statedirectory import accounts_in
from figfs.terminal import amount, count, visible

if TYPE_CHECKING:
    from figfs.commandline.mounts import Found

# ---- retry, discard --------------------------------------------------------------------------------------


@dataclasses.dataclass
class _Chosen:
    """What is to be retried or discarded: entries of a report."""

    found: Found
    parked: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    unclosed: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    elsewhere: list[str] = dataclasses.field(default_factory=list)  #: in accounts of the mount

    def add(self, report: dict[str, Any], *, with_unclosed: bool) -> bool:
        """Take all that is parked in ``report``; whether there is anything."""
        entries = [*report["uploads"], *report["deletions"]]
        parked = [entry for entry in entries if entry["state"] == "parked"]
        unclosed = report["never_closed"] if with_unclosed else []
        self.parked |= {entry["row"]: entry for entry in parked if entry["row"] is not None}
        self.unclosed |= {entry["name"]: entry for entry in unclosed if entry["name"] is not None}
        # A colleague's account has rows of its own.
        self.elsewhere += [
            str(entry["path"])
            for entry, number in [*((e, e["row"]) for e in parked), *((e, e["name"]) for e in unclosed)]
            if number is None
        ]
        return bool(parked or unclosed)

    def say_what_is_elsewhere(self) -> None:
        for path in self.elsewhere:
            tell(f"{visible(path)}: in a colleague's account: name its path")


def _choose(
    words: Sequence[str], *, every: bool, with_unclosed: bool, state_dir: str | None, config: str | None
) -> _Chosen:
    if every == bool(words):
        raise click.UsageError("name paths or rows as 'figfs status' shows them, or --all")
    numbers = [word for word in words if re.fullmatch(r"\d+|n\d+", word)]
    places = [find(word, state_dir, config) for word in words if word not in numbers]
    found = places[0] if places else find(None, state_dir, config)
    if any(place.state_directory != found.state_directory for place in places):
        raise click.UsageError("these paths are in several mounts: name those of one")
    chosen = _Chosen(found)
    for place in places:
        if not chosen.add(report_of(place, brief=True), with_unclosed=with_unclosed):
            raise ConfigurationError(f"nothing is parked in {visible(place.inside or place.mountpoint)}")
    if not numbers and not every:
        return chosen
    everything = _Chosen(found)
    everything.add(report_of(dataclasses.replace(found, inside=""), brief=True), with_unclosed=with_unclosed)
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
@state_options
def retry_command(
    *, what: tuple[str, ...], every: bool, replace: bool, state_dir: str | None, config: str | None
) -> int:
    """Carry out what is parked at or below PATH, or in a ROW of 'figfs status', as if it had never failed.

    It goes on in the mount: 'figfs wait' tells how it ends. Exit code 1 if something could not be taken up.
    """
    chosen = _choose(what, every=every, with_unclosed=False, state_dir=state_dir, config=config)
    chosen.say_what_is_elsewhere()
    if not chosen.parked:
        if not chosen.elsewhere:
            print("nothing is parked")
        return int(bool(chosen.elsewhere))
    names = {row: entry["path"] for row, entry in chosen.parked.items()}
    return _act(chosen.found.ask("retry", rows=[*names], replace=replace), names, "is tried again")


@click.command("discard", short_help="Give up what is parked or was never closed.")
@click.argument("what", nargs=-1, metavar="[PATH|ROW]…")
@click.option("--all", "every", is_flag=True, help="Everything that is parked or was never closed.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@state_options
def discard_command(
    *, what: tuple[str, ...], every: bool, yes: bool, state_dir: str | None, config: str | None
) -> int:
    """Remove what is parked or was never closed at or below PATH, or in a ROW of 'figfs status', for good.

    Its bytes are nowhere else, as a rule: 'figfs recover' copies them out before. Figshare is not changed.
    """
    chosen = _choose(what, every=every, with_unclosed=True, state_dir=state_dir, config=config)
    names: dict[object, str] = {row: entry["path"] for row, entry in chosen.parked.items()}
    names |= {name: entry["path"] or name for name, entry in chosen.unclosed.items()}
    chosen.say_what_is_elsewhere()
    if not names:
        if not chosen.elsewhere:
            print("nothing is parked, and nothing was left unclosed")
        return int(bool(chosen.elsewhere))
    if not yes:
        for entry in [*chosen.parked.values(), *chosen.unclosed.values()]:
            size = "" if entry["size"] is None else f" ({amount(entry['size'])})"
            print(f"{visible(entry['path'] or entry['name'])}{size}", file=sys.stderr)
        if not sys.stdin.isatty():
            raise click.UsageError("this cannot be undone: say --yes")
        files = count(len(names), "file")
        click.confirm(f"Remove what is here of {files} for good?", abort=True, err=True)
    answer: Iterator[dict[str, Any]]
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
            tell(f"{name}: {visible(str(line['failed']), 500)}")
        else:
            print(f"{name} {done}")
    return 1 if failed else 0


def _discard_offline(chosen: _Chosen) -> Iterator[dict[str, Any]]:
    from figfs.control import parking
    from figfs.statedirectory import borrowed
    from figfs.writing.journal import open_journal

    directory = chosen.found.state_directory
    with (
        readable(directory),
        borrowed(directory),
        open_journal(directory / "journal.db") as journal,
    ):
        abandoned = unclosed_of(directory)
        for row in chosen.parked:
            parking.discard_offline(journal, directory / "spool", row)
            yield {"what": row}
        for name in chosen.unclosed:
            parking.discard_unclosed_offline(abandoned, name)
            yield {"what": name}


# ---- recover ---------------------------------------------------------------------------------------------


def _unclosed_in(found: Found) -> list[Path]:
    """Never-closed bytes in a state directory; where it is mounted, only the mount can tell them from what is
    being written.
    """
    if found.socket is None:
        return unclosed_of(found.state_directory)
    names = [entry["name"] for entry in report_of(found, brief=True)["never_closed"]]
    return [found.state_directory / "spool" / name.removeprefix("n") for name in names if name is not None]


@click.command("recover", short_help="Copy out what Figshare does not have.")
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@state_options
def recover_command(*, directory: Path, state_dir: str | None, config: str | None) -> int:
    """Copy all that only this machine has into DIR, by its names: what is parked, owed, or was never closed.

    No mount is needed, and none is changed; nothing is overwritten. What was never closed may be half a file,
    and is called NAME.incomplete. Exit code 1 if something could not be copied, or is damaged.
    """
    from figfs.commandline import mounts, recovering

    found = find(None, state_dir, config)
    state = found.state_directory
    with readable(state):
        items = [*recovering.items(rows_of(state), state / "spool", _unclosed_in(found))]
        for place, inner in accounts_in(state, found.mountpoint):
            inside = recovering.items(rows_of(inner), inner / "spool", _unclosed_in(mounts.look(inner)))
            items += [dataclasses.replace(item, path=f"{place}/{item.path}") for item in inside]
    copied = size = failed = 0
    for copy in recovering.recover(items, directory):
        name = visible(copy.item.path)
        if copy.problem:
            failed += 1
            tell(f"{name}: {visible(copy.problem)}")
        if copy.target is not None:
            copied, size = copied + 1, size + copy.size
            print(f"{visible(str(copy.target))}  ({amount(copy.size)}, {copy.item.state})")
    print(f"{count(copied, 'file')}, {amount(size)}")
    return 1 if failed else 0
