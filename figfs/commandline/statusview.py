"""The status, drawn: a table, bars that move, lines. Takes the reports of ``ledger.py`` as they come; all
text in them is made visible before it reaches a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.table import Table
from rich.text import Text

from figfs.terminal import amount, count, duration, visible

WIDTH_WITHOUT_TERMINAL = 200  #: characters; so that a line of a pipe is a line
SHOWN = 200  #: entries of each kind; JSON has all

#: What the states of rows are called here, until the uploader says more.
STATES = {
    "waiting": "waits",
    "sealing": "is being hashed",
    "owed": "waits its turn",
    "announced": "uploading",
    "sent": "being verified",
    "stored": "stored",
    "held": "held: a temporary name",
    "local": "stays on this machine",
    "dropped": "given up, being taken back",
    "parked": "PARKED",
}

#: And where nothing is mounted.
WITHOUT_MOUNT = {
    "waiting": "not begun",
    "owed": "not begun",
    "announced": "begun",
    "sent": "sent, to be verified",
    "stored": "stored",
    "dropped": "given up, to be taken back",
}

Report = Mapping[str, Any]
Entry = Mapping[str, Any]


def console(*, stderr: bool = False) -> Console:
    """For what is printed here: without a terminal wide, and without colour."""
    made = Console(stderr=stderr, highlight=False, emoji=False, markup=False)
    if not made.is_terminal:
        made.width = WIDTH_WITHOUT_TERMINAL
    return made


def headline(report: Report) -> str:
    """Which mount it is."""
    who = f"{report['mountpoint']}: {report['account']}"
    if report["mounted"]:
        away = f", without Figshare until it answers: {report['away']}" if report.get("away") else ""
        trouble = f". {report['token_trouble']}" if report.get("token_trouble") else ""
        return visible(who + (", read-only" if report["read_only"] else "") + away + trouble)
    if report["pid"] is not None:
        return visible(f"{who}, unmounted, finishing its uploads")
    last = f", last mounted on {report['mountpoint']}" if report["mountpoint"] else ""
    return visible(f"Not mounted{last}: {report['state_directory']}")


def summary(report: Report) -> str:
    """All of it in a line."""
    counts, parts = report["counts"], []
    if report["owed"]:
        left = report["bytes"] - report["sent"]
        parts.append(f"{count(report['owed'], 'change')} owed to Figshare, {amount(left)} to send")
    else:
        parts.append("Figshare is owed nothing")
    if report["parked"]:
        parts.append(f"{report['parked']} parked: see 'figfs retry', 'figfs discard', 'figfs recover'")
    if counts["never_closed"]:
        parts.append(f"{count(counts['never_closed'], 'file')} never closed")
    if report["writing"]:
        parts.append(f"{count(report['writing'], 'file')} being written")
    if report["held"]:
        parts.append(f"{count(report['held'], 'temporary name')} held")
    if report["local_only"]:
        parts.append(f"{count(report['local_only'], 'file')} kept on this machine only")
    return "; ".join(parts)


def draw(report: Report) -> RenderableType:
    """The whole status."""
    lines: list[RenderableType] = [Text(headline(report), style="bold"), Text(summary(report))]
    cache = report.get("cache")
    if cache is not None:
        lines.append(Text(visible(f"Cache: {amount(cache['used'])} in {cache['directory']}")))
    entries = [*report["uploads"], *report["deletions"]]
    if entries or report["never_closed"]:
        on_its_way = report["pid"] is not None
        lines += [Text(""), _table(entries[:SHOWN], report["never_closed"][:SHOWN], on_its_way=on_its_way)]
    if len(entries) > SHOWN:
        lines.append(Text(f"and {len(entries) - SHOWN} more, see --json"))
    return Group(*lines)


def _table(entries: list[Entry], unclosed: list[Entry], *, on_its_way: bool) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("Row", justify="right", no_wrap=True)
    table.add_column("File", overflow="fold", ratio=3)
    table.add_column("Size", justify="right", no_wrap=True)
    table.add_column("Since", justify="right", no_wrap=True)
    table.add_column("State", overflow="fold", ratio=4)
    for entry in entries:
        table.add_row(
            Text("" if entry["row"] is None else str(entry["row"])),
            Text(visible(entry["path"])),
            Text("" if entry["size"] is None else amount(entry["size"])),
            Text("" if entry["seconds"] is None else duration(entry["seconds"])),
            Text(state(entry, on_its_way=on_its_way), style="red" if entry["state"] == "parked" else ""),
        )
    for entry in unclosed:
        table.add_row(
            Text(visible(entry["name"] or "")),
            Text(visible(entry["path"] or "(a name is not known)")),
            Text(amount(entry["size"])),
            Text(""),
            Text("never closed: not uploaded", style="yellow"),
        )
    return table


def state(entry: Entry, *, on_its_way: bool = True) -> str:
    """How far an entry is, in words. ``on_its_way``: a mount carries it out."""
    if entry["state"] == "parked":
        what = {"deletion": "not deleted: ", "move": "not moved: "}.get(entry["kind"], "")
        return f"PARKED: {what}{visible(entry['reason'] or 'no reason is known', 500)}"
    if entry["state"] in ("held", "local"):
        until = f" for {duration(entry['due_in'])}" if entry["due_in"] else ""
        return f"{STATES[entry['state']]}{until}"
    if not on_its_way:
        what = {"deletion": "to be deleted, ", "move": "move, "}.get(entry["kind"], "")
        return f"{what}{WITHOUT_MOUNT.get(entry['state'], entry['state'])}: waits for a mount"
    if entry["kind"] == "deletion":
        due = entry["due_in"]
        return f"to be deleted in {duration(due)}" if due else "to be deleted"
    words = [_doing(entry)]
    if entry["due_in"]:
        words.append(f"for {duration(entry['due_in'])}")
    if entry["sent"] and entry["size"] and entry["state"] != "stored":
        words.append(f"{percent(entry)} %")
    if entry["rate"] and entry["sent"] < entry["size"]:
        words.append(f"{amount(entry['rate'])}/s")
        words.append(f"{duration((entry['size'] - entry['sent']) / entry['rate'])} left")
    return ("move: " if entry["kind"] == "move" else "") + ", ".join(words)


def _doing(entry: Entry) -> str:
    return visible(str(entry["phase"] or STATES.get(entry["state"], entry["state"])))


def percent(entry: Entry) -> int:
    """Rounded down: 100 means all."""
    return int(100 * min(entry["sent"] or 0, entry["size"]) // max(entry["size"], 1))


def watch(reports: Iterable[Report], on: Console, limit: int) -> None:
    """Draw each report over the one before, with at most ``limit`` bars, until there are no more."""
    bars = Bars(on)
    with Live(console=on, auto_refresh=False) as live:
        for report in reports:
            bars.show(report, limit)
            live.update(Group(Text(f"{headline(report)}\n{summary(report)}"), bars.progress), refresh=True)


class Bars:
    """A bar for each upload that is on its way, with rate and time left, redrawn in place."""

    def __init__(self, on: Console) -> None:
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            console=on,
            transient=True,
            expand=False,
        )
        self._tasks: dict[object, TaskID] = {}

    def show(self, report: Report, limit: int) -> None:
        """Bring the bars up to ``report``; of many at most ``limit``."""
        ours = ("parked", "waiting", "held", "local", "dropped")
        going = [entry for entry in report["uploads"] if entry["state"] not in ours]
        shown = {(entry["row"], entry["path"]): entry for entry in going[:limit]}
        for key in [key for key in self._tasks if key not in shown]:
            self.progress.remove_task(self._tasks.pop(key))
        for key, entry in shown.items():
            if key not in self._tasks:
                self._tasks[key] = self.progress.add_task(visible(entry["path"], 60), total=None, text="")
            task = self._tasks[key]
            self.progress.update(task, total=max(entry["size"], 1), completed=entry["sent"] or 0)
            self.progress.update(task, text=self._text(entry, self._speed(task)))

    def _speed(self, number: TaskID) -> float | None:
        return next((task.speed for task in self.progress.tasks if task.id == number), None)

    @staticmethod
    def _text(entry: Entry, speed: float | None) -> str:
        words = [_doing(entry)]
        if entry["sent"]:
            words.append(f"{percent(entry)} %")
        speed = speed or entry["rate"]
        if speed and entry["sent"] and entry["sent"] < entry["size"]:
            words += [f"{amount(speed)}/s", f"{duration((entry['size'] - entry['sent']) / speed)} left"]
        return ", ".join(words)
