"""Shared looks: many who ask at once cost one request, and nobody gets an answer older than the question."""

from __future__ import annotations

import types
from typing import Any, cast

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from figfs.errors import NotFound, ServerError
from figfs.figshare import files
from figfs.figshare.client import Client
from figfs.figshare.records import File, Id
from figfs.writing.looks import Looks

ARTICLE = 7


class Service:
    """Answers after a second with how many requests it had by then; ``asked``: ids, or "list"."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[Id] = []
        self.missing: set[Id] = set()
        self.broken = False
        monkeypatch.setattr(files, "get_file", self._get)
        monkeypatch.setattr(files, "list_files", self._list)

    def looks(self, *, paced: bool = True) -> Looks:
        return Looks(cast(Client, types.SimpleNamespace(paced=paced)))

    async def _get(self, client: Any, article_id: Id, file_id: Id) -> File:
        return (await self._answer(file_id, [file_id]))[0]

    async def _list(self, client: Any, article_id: Id) -> list[File]:
        return await self._answer("list", range(10))

    async def _answer(self, what: Id, ids: Any) -> list[File]:
        self.asked.append(what)
        number = len(self.asked)
        await trio.sleep(1)
        if self.broken:
            raise ServerError("down")
        if what in self.missing:
            raise NotFound("gone")
        return [File(id=id_, name=str(number)) for id_ in ids if id_ not in self.missing]


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    return Service(monkeypatch)


async def ask_all(shared: Looks, ids: Any, answers: dict[Id, str]) -> None:
    async def ask(file_id: Id) -> None:
        try:
            answers[file_id] = (await shared.file(ARTICLE, file_id)).name
        except (NotFound, ServerError) as exc:
            answers[file_id] = type(exc).__name__

    async with trio.open_nursery() as nursery:
        for file_id in ids:
            nursery.start_soon(ask, file_id)
            await wait_all_tasks_blocked()


async def test_one_alone_is_asked_for_by_itself(service: Service, autojump_clock: MockClock) -> None:
    """And nothing is remembered."""
    shared = service.looks()
    for number in ("1", "2"):
        assert (await shared.file(ARTICLE, 3)).name == number
    assert service.asked == [3, 3]


async def test_those_who_come_meanwhile_share_the_next(service: Service, autojump_clock: MockClock) -> None:
    """One for the first, one listing for the nine others, which began after they had asked."""
    answers: dict[Id, str] = {}
    await ask_all(service.looks(), range(10), answers)
    assert service.asked == [0, "list"]
    assert answers == {0: "1"} | dict.fromkeys(range(1, 10), "2")


async def test_without_pacing_nobody_waits_for_a_few_others(
    service: Service, autojump_clock: MockClock
) -> None:
    """Four looks at once; only more than that share one."""
    answers: dict[Id, str] = {}
    began = trio.current_time()
    await ask_all(service.looks(paced=False), range(4), answers)
    assert trio.current_time() - began == pytest.approx(1)
    assert service.asked == [0, 1, 2, 3]
    service.asked.clear()
    await ask_all(service.looks(paced=False), range(10), answers)
    assert service.asked == [0, 1, 2, 3, "list"]


async def test_what_is_not_in_the_list_is_asked_for(service: Service, autojump_clock: MockClock) -> None:
    """A listing may miss what was announced a moment ago; ``NotFound`` is from the file itself."""
    service.missing = {2}
    answers: dict[Id, str] = {}
    await ask_all(service.looks(), range(3), answers)
    assert service.asked == [0, "list", 2]
    assert answers == {0: "1", 1: "2", 2: "NotFound"}


async def test_a_failure_is_told_to_all_who_asked(service: Service, autojump_clock: MockClock) -> None:
    """Each tries again when it likes."""
    service.broken = True
    answers: dict[Id, str] = {}
    await ask_all(service.looks(), range(3), answers)
    assert set(answers.values()) == {"ServerError"}
    service.broken = False
    assert (await service.looks().file(ARTICLE, 3)).name == "3"


@pytest.mark.parametrize("when", [0.5, 1.5])
async def test_others_go_on_when_who_looks_is_cancelled(
    service: Service, autojump_clock: MockClock, when: float
) -> None:
    """In the first look, and in the shared one: somebody else looks instead."""
    shared, answers = service.looks(), {}
    async with trio.open_nursery() as nursery:
        scopes = [trio.CancelScope() for _ in range(4)]

        async def ask(number: int) -> None:
            with scopes[number]:
                answers[number] = (await shared.file(ARTICLE, number)).name

        for number in range(4):
            nursery.start_soon(ask, number)
            await wait_all_tasks_blocked()
        await trio.sleep(when)
        scopes[0 if when < 1 else 1].cancel()
    assert sorted(answers) == ([1, 2, 3] if when < 1 else [0, 2, 3])
    assert service.asked == [0, "list"] if when < 1 else [0, "list", "list"]
    assert shared._articles == {}


async def test_articles_do_not_wait_for_one_another(service: Service, autojump_clock: MockClock) -> None:
    """A look is of one article."""
    shared = service.looks()
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for article in range(5):
            nursery.start_soon(shared.file, article, 1)
    assert trio.current_time() - began == pytest.approx(1)
