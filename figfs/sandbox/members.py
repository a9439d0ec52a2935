"""The people of the sandbox's institution. The first of them is whose token it is."""

from __future__ import annotations

import dataclasses

from figfs.sandbox.state import Account

INSTITUTION_ID = 101


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """An account, as its institution knows it."""

    account: Account
    institution_user_id: str
    active: bool = True


def _account(number: int, first_name: str, last_name: str, email: str) -> Account:
    return Account(
        id=1000000 + number,
        user_id=2000000 + number,
        first_name=first_name,
        last_name=last_name,
        email=email,
        institution_id=INSTITUTION_ID,
        group_id=2001,
        created="2023-02-01T08:00:00Z",
    )


ACCOUNT = _account(1, "Ada", "Sandbox", "ada@example.org")
COLLEAGUE = _account(2, "Sven", "Lindqvist", "sven@example.org")

MEMBERS: tuple[Member, ...] = (
    Member(ACCOUNT, "u001"),
    Member(COLLEAGUE, "u002"),
    # More than one page of the default size, one of them has left.
    *(
        Member(_account(n, "Member", f"Number {n}", f"member{n}@example.org"), f"u{n:03}", active=n != 7)
        for n in range(3, 31)
    ),
)
