"""``figfs login``, ``logout`` and ``accounts``: what is typed, and what is said about it."""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import time
import webbrowser
from collections.abc import Mapping
from pathlib import Path

import click

from figfs.commandline import logs, options
from figfs.errors import ConfigurationError, FigfsError
from figfs.settings import DEFAULT_API, check_token
from figfs.terminal import duration, visible
from figfs.tokens import credentials
from figfs.tokens.credentials import DEFAULT_ACCOUNT, Application, Credential

LOGIN_TIMEOUT = "5m"  #: for the person in the browser


def _account_options(command: click.decorators.FC) -> click.decorators.FC:
    for flag in (
        click.option("--config", metavar="FILE", help="Configuration file instead of config.toml."),
        click.option("--token-file", metavar="FILE", help="The file of the token, instead of an account's."),
        click.option("--account", metavar="NAME", help="Name of the account, if you have several."),
    ):
        command = flag(command)
    return command


def _gather(given: Mapping[str, str | None]) -> tuple[dict[str, options.Choice], Path, str]:
    """What was said, the file it means, and what that is called."""
    flags = {name.replace("_", "-"): value for name, value in given.items() if value is not None}
    choices, _ = options.gather(flags=flags)
    file, account = choices.get("token-file"), choices.get("account")
    if file and account:
        if file.from_file == account.from_file:
            raise ConfigurationError("an account and a token file are named: one of them is it", exit_code=2)
        file, account = (None, account) if file.from_file else (file, None)
    if file:
        return choices, file.value, f"the token in {file.value}"
    name = account.value if account else DEFAULT_ACCOUNT
    return choices, credentials.account_file(name), f"account {name}"


# ---- login -------------------------------------------------------------------------------------------------


@click.command("login", short_help="Log in: a personal token, or OAuth.")
@_account_options
@click.option("--api", metavar="URL", help="Base URL of the API.")
@click.option("--keyring", is_flag=True, help="Keep the secrets in the keyring.")
@click.option("--oauth", is_flag=True, help="Log in on the web page, instead of with a personal token.")
@click.option("--client", metavar="FILE", help="With --oauth: client_id and client_secret, as JSON or TOML.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="With --oauth: port of the redirect.")
@click.option(
    "--browser/--no-browser",
    default=None,
    help="With --oauth: open a browser.  [default: if there is a display]",
)
@click.option("--timeout", metavar="TIME", default=LOGIN_TIMEOUT, show_default=True, help="With --oauth.")
@click.option("--page", metavar="URL", help="With --oauth: the page to log in on, if it is not the API's.")
def login_command(
    *,
    keyring: bool,
    oauth: bool,
    client: str | None,
    port: int,
    browser: bool | None,
    timeout: str,
    page: str | None,
    **given: str | None,
) -> int:
    """Log in to Figshare, and keep what that brings for the mounts to come; those that run go on with it.

    A personal token is made on the web page of Figshare, under Applications. It is read without echo, or from
    stdin, and checked.

    With --oauth you log in on the web page, where an application that you have registered asks for you; its
    redirect URI is http://127.0.0.1:PORT/. --client can be left out when you log in again.
    """
    import trio

    from figfs.commandline import login

    if not oauth and (client or page or port or browser is not None):
        raise click.UsageError("--client, --port, --browser and --page are for --oauth")
    if keyring:
        credentials.require_keyring()
    choices, path, _ = _gather(given)
    kept = _kept(path)
    api = choices["api"].value if "api" in choices else (kept.api if kept and kept.api else DEFAULT_API)
    if oauth:
        application = _application(client, kept)
        try:
            seconds = options.read_time(timeout)
        except ValueError as exc:
            raise ConfigurationError(f"--timeout: {exc}", exit_code=2) from exc
        logs.configure("warning", token=application.client_secret)
        credential, account = trio.run(
            functools.partial(
                login.by_browser,
                application,
                api=api,
                page=page,
                port=port,
                timeout=seconds,
                show=functools.partial(_show, browser=browser),
            )
        )
    else:
        token = check_token(_ask_for_token(), "what was typed")
        logs.configure("warning", token=token)
        account = trio.run(functools.partial(login.check, token, api=api))
        credential = Credential(token=token)
        named = path != credentials.token_file() and "token-file" not in choices
        if keyring or named or api != DEFAULT_API:
            credential = Credential(token=token, api=api, who=login.name_of(account))
    credential = dataclasses.replace(credential, in_keyring=keyring)
    login.keep(credential, path)
    print(login.describe(account))
    what = "tokens are" if oauth else "token is"
    print(f"The {what} kept in {'the keyring, what is known of it in ' if keyring else ''}{path}.")
    _warn_of_the_environment()
    return 0


def _kept(path: Path) -> Credential | None:
    """What is there from before, if it can be read."""
    try:
        return credentials.read(path)
    except ConfigurationError:
        return None


def _application(client: str | None, kept: Credential | None) -> Application:
    if client is not None:
        return credentials.read_application(Path(client).expanduser())
    if kept is None or kept.oauth is None:
        raise ConfigurationError(
            "--oauth needs --client FILE: client_id and client_secret of an application that you have "
            "registered on Figshare",
            exit_code=2,
        )
    return Application(kept.oauth.client_id, kept.oauth.client_secret)


def _show(url: str, *, browser: bool | None) -> None:
    print(f"Log in on this page, on this machine:\n\n{url}\n", file=sys.stderr, flush=True)
    display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if browser or (browser is None and display):
        webbrowser.open(url)


def _ask_for_token() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("Personal token", hide_input=True, err=True))
    return sys.stdin.readline()


def _warn_of_the_environment() -> None:
    if os.environ.get("FIGFS_TOKEN"):
        print("FIGFS_TOKEN is set, and counts more than this file.", file=sys.stderr)


# ---- logout ------------------------------------------------------------------------------------------------


@click.command("logout", short_help="Forget the token of an account.")
@_account_options
def logout_command(**given: str | None) -> int:
    """Remove the token of an account from this machine.

    On Figshare it stays valid: remove it there, too, under Applications, if somebody else may have it.
    """
    _, path, what = _gather(given)
    if credentials.signature(path) is None:
        raise ConfigurationError(f"nobody is logged in: there is no {path}")
    kept = _kept(path)
    credentials.forget(path)
    who = f" of {visible(kept.who)}" if kept and kept.who else ""
    kind = "a token" if kept is None else "the OAuth tokens" if kept.oauth else "the personal token"
    print(f"Forgotten: {what}, {kind}{who}; {path} is removed.")
    left = kept.oauth.expires_at - time.time() if kept and kept.oauth and kept.oauth.expires_at else 0
    until = f"its token expires, in {duration(left)}" if left > 0 else "Figshare refuses its token"
    print(
        f"A mount that runs goes on until {until}. On Figshare the token is valid until it is removed there."
    )
    _warn_of_the_environment()
    return 0


# ---- accounts ----------------------------------------------------------------------------------------------


@click.command("accounts", short_help="List the accounts that are logged in.")
@click.option("--check", is_flag=True, help="Ask Figshare whether the tokens are good; exit 1 if one is not.")
@click.option("--api", metavar="URL", help="Base URL of the API, for --check.")
@click.option("--config", metavar="FILE", help="Configuration file instead of config.toml.")
def accounts_command(*, check: bool, **given: str | None) -> int:
    """List the accounts that are logged in: name, kind, who it is, when the token expires.

    Asks nobody, unless with --check.
    """
    choices, _ = options.gather(flags={name: value for name, value in given.items() if value is not None})
    api = choices["api"].value if "api" in choices else DEFAULT_API
    if check:
        logs.configure("error")
    rows = [("Name", "Kind", "Who", "Token expires") + (("Checked",) if check else ())]
    bad = 0
    for name, path in credentials.accounts().items():
        state: tuple[str, ...] = ()
        who = ""
        if check:
            fine, said = _checked(path, api)
            bad += not fine
            state = ("good" if fine else said,)
            who = said if fine else ""
        try:
            kept = credentials.read(path)
        except ConfigurationError as exc:
            rows.append((name, "?", "?", str(exc), *state))
            continue
        rows.append((name, _kind(kept), who or kept.who or "not known", _expiry(kept), *state))
    if len(rows) == 1:
        print("Nobody is logged in: run 'figfs login'.", file=sys.stderr)
        return 0
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [visible(cell).ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())
    return 1 if bad else 0


def _checked(path: Path, api: str) -> tuple[bool, str]:
    """Whether the token is good; who it is, or why not."""
    import trio

    from figfs.commandline import login

    try:
        return True, login.name_of(trio.run(functools.partial(login.check_kept, path, api=api)))
    except FigfsError as exc:
        return False, str(exc)


def _kind(kept: Credential) -> str:
    return f"{kept.kind}, keyring" if kept.in_keyring else kept.kind


def _expiry(kept: Credential) -> str:
    if kept.oauth is None:
        return "never"
    if kept.oauth.expires_at is None:
        return "not known"
    left = kept.oauth.expires_at - time.time()
    if kept.oauth.refresh_token is None:
        return f"in {duration(left)}" if left > 0 else f"{duration(-left)} ago: log in again"
    return f"in {duration(left)}, then renewed" if left > 0 else f"{duration(-left)} ago, renewed when used"
