"""Looks at files of an article, shared: what many uploads ask at the same time is one request.

API requests are few (one a second, sustained), and each upload needs two looks: for the upload URL of what it
has announced, and whether Figshare has put the file together. Who asks while a look is under way has the next
one in common with all others who do: one file is asked for by itself, several by listing the article.
"""

from __future__ import annotations

import dataclasses

import trio

from figfs.errors import RemoteError
from figfs.figshare import files
from figfs.figshare.client import Client
from figfs.figshare.records import File, Id

AT_ONCE = 4  #: looks at one article under way, where requests are not paced: nobody waits for another's then


@dataclasses.dataclass(eq=False, slots=True)
class _Question:
    """``changed`` is set when it is answered, and when it is to be asked (again)."""

    file_id: Id
    changed: trio.Event = dataclasses.field(default_factory=trio.Event)
    answer: File | RemoteError | None = None


@dataclasses.dataclass(eq=False, slots=True)
class _Article:
    waiting: list[_Question] = dataclasses.field(default_factory=list)  #: in no look that is under way
    looks: int = 0  #: under way


class Looks:
    """For one account."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._at_once = 1 if client.paced else AT_ONCE
        self._articles: dict[Id, _Article] = {}

    async def file(self, article_id: Id, file_id: Id) -> File:
        """The record of a file as it is after this call. Raises ``NotFound`` and the other remote errors."""
        article = self._articles.setdefault(article_id, _Article())
        question = _Question(file_id)
        article.waiting.append(question)
        try:
            while question.answer is None:
                if question in article.waiting and article.looks < self._at_once:
                    await self._look(article_id, article)
                else:
                    await question.changed.wait()
                    question.changed = trio.Event()
        finally:
            if question in article.waiting:
                article.waiting.remove(question)
            self._wake_next(article_id, article)
        if isinstance(question.answer, RemoteError):
            raise question.answer
        return question.answer

    def _wake_next(self, article_id: Id, article: _Article) -> None:
        if article.waiting:
            article.waiting[0].changed.set()
        elif not article.looks and self._articles.get(article_id) is article:
            del self._articles[article_id]

    async def _look(self, article_id: Id, article: _Article) -> None:
        """Answer all who wait now. When cancelled, one of the others looks instead."""
        questions, article.waiting = article.waiting, []
        article.looks += 1
        try:
            if len(questions) == 1:
                questions[0].answer = await self._ask(article_id, questions[0].file_id)
            else:
                await self._list(article_id, questions)
        finally:
            article.looks -= 1
            article.waiting += [question for question in questions if question.answer is None]
            for question in questions:
                question.changed.set()

    async def _list(self, article_id: Id, questions: list[_Question]) -> None:
        try:
            listed = {file.id: file for file in await files.list_files(self._client, article_id)}
        except RemoteError as exc:
            for question in questions:
                question.answer = exc
            return
        for question in questions:
            question.answer = listed.get(question.file_id)
        for question in questions:
            # What is missing in a listing need not be gone: a listing of several pages shifts.
            if question.answer is None:
                question.answer = await self._ask(article_id, question.file_id)

    async def _ask(self, article_id: Id, file_id: Id) -> File | RemoteError:
        try:
            return await files.get_file(self._client, article_id, file_id)
        except RemoteError as exc:
            return exc
