"""The commands that make something public, or prepare it: ``publish``, ``reserve-doi``.

Part of the command line, beside ``statuscli.py``. The mount asks Figshare; here a person is shown what there
is, and asked.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from figfs.commandline.statuscli import find, state_options, tell
from figfs.errors import ConfigurationError
from figfs.terminal import count, visible

if TYPE_CHECKING:
    from figfs.commandline.mounts import Found

PATIENCE = 600.0  #: seconds: a long list of files takes its time, and Figshare may make the mount wait
LONGEST = 400  #: characters of one point
PERHAPS = "it may have been published, 'figfs info' tells"
MARKS = {"ok": "ok", "note": "note", "no": "NO"}


@click.command("publish", short_help="Publish an article, a collection or a project, for good.")
@click.argument("path")
@click.option(
    "--dry-run", is_flag=True, help="Only show the check list; exit code 0 if nothing is in the way."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@state_options
def publish_command(*, path: str, dry_run: bool, yes: bool, state_dir: str | None, config: str | None) -> int:
    """Make what PATH, an article or a collection, is now the next public version, after a check list.

    A published version cannot be taken back. It is published only if Figshare is owed nothing of it and
    nothing else is in the way, and only what the list was about: if that changes meanwhile, nothing is.
    A project has no versions and no DOI: it becomes public, once, when every article in it is.
    """
    found = find(path, state_dir, config)
    listed = found.ask_one("check", patience=PATIENCE, path=found.inside)
    _draw(listed)
    if not listed["may_be_published"] or dry_run:
        return 0 if listed["may_be_published"] else 1
    if not yes:
        if not sys.stdin.isatty():
            raise click.UsageError("what is published cannot be taken back: say --yes")
        click.confirm("Publish it, for good?", abort=True, err=True)
    return _publish(found, listed["stamp"])


def _draw(listed: dict[str, Any]) -> None:
    title = _cut(visible(listed["title"]))
    print(f"{title}\n{listed['kind']} {visible(str(listed['id']))}, {visible(listed['status'])}\n")
    points = [
        (MARKS.get(verdict, "?"), visible(what), _cut(visible(text)))
        for verdict, what, text in listed["points"]
    ]
    width = max((len(what) for _, what, _ in points), default=0)
    for mark, what, text in points:
        print(f"  {mark:4}  {what:{width}}  {text}")
    wrong = sum(mark == "NO" for mark, _, _ in points)
    print(f"\n{count(wrong, 'point')} in the way" if wrong else "\nNothing is in the way.")


def _cut(text: str) -> str:
    """What is not shown of it is said: it is published all the same."""
    more = len(text) - LONGEST
    return text if more <= 0 else f"{text[:LONGEST]}… (and {count(more, 'character')} more)"


def _publish(found: Found, stamp: str) -> int:
    from figfs.commandline.mounts import NoAnswer

    try:
        for line in found.ask("publish", patience=PATIENCE, path=found.inside, stamp=stamp):
            if line.get("step"):
                tell(visible(str(line["step"]), LONGEST))
            if "published" in line:
                _draw_outcome(line)
                return 0
    except NoAnswer as exc:
        if not exc.asked:
            raise
        raise ConfigurationError(f"{exc}: {PERHAPS}") from exc
    except KeyboardInterrupt:
        tell(f"interrupted: {PERHAPS}")
        raise
    raise ConfigurationError(f"the mount does not tell what came of it: {PERHAPS}")


def _draw_outcome(line: dict[str, Any]) -> None:
    if line["published"] is None:
        print("Accepted, but Figshare does not answer now: 'figfs info' tells whether it is public")
        return
    if not line["published"]:
        review = f" ({visible(line['review'], LONGEST)})" if line["review"] else ""
        what = "it is not public yet" if line["kind"] == "project" else "no new version is there yet"
        print(f"Accepted, and {what}: a review or an embargo comes first{review}")
        return
    shown = [("DOI", "doi"), ("URL", "page")]
    if line["kind"] == "project":
        print("Published")
        del shown[0]
    else:
        print(f"Published: version {visible(str(line['version'] or 'not told'))}")
    for what, key in shown:
        print(f"{what}: {visible(str(line[key] or 'Figshare does not tell it'))}")
    if not line["seen"]:
        tell("it is published, but the public does not see it yet (or it is under an embargo)")


@click.command("reserve-doi", short_help="Print the DOI that an item has or will have.")
@click.argument("path")
@state_options
def reserve_doi_command(*, path: str, state_dir: str | None, config: str | None) -> int:
    """Print the DOI of PATH, an article or a collection; one that has none gets one reserved.

    It can be cited at once, and leads somewhere once the item is published.
    """
    found = find(path, state_dir, config)
    line = found.ask_one("reserve-doi", patience=PATIENCE, path=found.inside)
    print(visible(str(line["doi"])))
    return 0
