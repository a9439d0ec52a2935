"""The people of the sandbox's institution. The first of them is whose token it is."""

from __future__ import annotations

import dataclasses

from figfs.sandbox.state import Account, Sandbox
from figfs.sandbox.store import Row

INSTITUTION_ID = 101
_FIRST_ID, _FIRST_USER_ID = 1000000, 2000000


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """An account, as its institution knows it."""

    account: Account
    institution_user_id: str
    active: bool = True


def _account(number: int, first_name: str, last_name: str, email: str) -> Account:
    return Account(
        id=_FIRST_ID + number,
        user_id=_FIRST_USER_ID + number,
        first_name=first_name,
        last_name=last_name,
        email=email,
        institution_id=INSTITUTION_ID,
        group_id=2001,
        created="2023-02-01T08:00:00Z",
    )


ACCOUNT = _account(1, "Ada", "Sandbox", "ada@example.org")
COLLEAGUE = _account(2, "Sven", "Lindqvist", "sven@example.org")

#: Those that every sandbox has.
MEMBERS: tuple[Member, ...] = (
    Member(ACCOUNT, "u001"),
    Member(COLLEAGUE, "u002"),
    # More than one page of the default size, one of them has left.
    *(
        Member(_account(n, "Member", f"Number {n}", f"member{n}@example.org"), f"u{n:03}", active=n != 7)
        for n in range(3, 31)
    ),
)


def members(sandbox: Sandbox) -> list[Member]:
    """All of them, by id."""
    return [*MEMBERS, *map(_made, sandbox.store.rows("SELECT * FROM members ORDER BY number"))]


def find(sandbox: Sandbox, account_id: int) -> Member | None:
    for member in MEMBERS:
        if member.account.id == account_id:
            return member
    row = sandbox.store.row("SELECT * FROM members WHERE number = ?", account_id - _FIRST_ID)
    return None if row is None else _made(row)


def add(
    sandbox: Sandbox, *, first_name: str, last_name: str, email: str, institution_user_id: str, active: bool
) -> Member:
    """A new one, with the next id."""
    row = {
        "number": max(len(MEMBERS), sandbox.store.value("SELECT max(number) FROM members") or 0) + 1,
        "first_name": first_name,
        "last_name": last_name,
        "email": email,
        "institution_user_id": institution_user_id,
        "active": int(active),
    }
    sandbox.store.insert("members", row)
    return _made(row)


def add_many(sandbox: Sandbox, count: int) -> list[int]:
    """``count`` more like the ones that every sandbox has; their ids."""
    with sandbox.store.transaction():
        first = len(members(sandbox)) + 1
        return [
            add(
                sandbox,
                first_name="Member",
                last_name=f"Number {n}",
                email=f"member{n}@example.org",
                institution_user_id=f"u{n:03}",
                active=True,
            ).account.id
            for n in range(first, first + count)
        ]


def _made(row: Row) -> Member:
    account = _account(row["number"], row["first_name"], row["last_name"], row["email"])
    return Member(account, row["institution_user_id"], bool(row["active"]))
