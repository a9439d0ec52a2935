"""Where own articles have their place: in a project, or in ``articles/``. A directory must have one only, and
Figshare's lists do not tell; so this says what else has to be listed before a listing can be shown.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import trio

from figfs.errors import FigfsError, Forbidden, NotFound, NotSupported
from figfs.figshare import articles
from figfs.figshare.client import Client
from figfs.figshare.records import Id, Project
from figfs.namespace.nodes import Container, Key, Kind
from figfs.namespace.sources import Entry
from figfs.namespace.tree import Tree

#: So many projects at a time, and so many in all, are listed to find out whether own articles of projects are
#: also listed outside (``Places.outside_projects``).
PROJECTS_TO_CHECK = 5
MOST_TO_CHECK = 20

#: For that, their listings may be older (seconds) than what a program is shown: membership changes on the web
#: page only.
PROJECTS_MAX_AGE = 600.0


class EnsureListed(Protocol):
    """``Listings.ensure_listed``."""

    def __call__(self, container: Container, *, max_age: float | None = None) -> Awaitable[None]: ...


class Places:
    """What one mount knows of it. ``is_loading``: whether a container is being listed right now."""

    def __init__(
        self,
        client: Client,
        tree: Tree,
        ensure_listed: EnsureListed,
        is_loading: Callable[[Container], bool],
    ) -> None:
        self._client = client
        self._tree = tree
        self._ensure_listed = ensure_listed
        self._is_loading = is_loading
        self._own: set[Key] = set()  #: the articles of the last list of all own ones
        self._own_are_in_projects = False  #: those of projects are in that list, too
        self._foreign: set[Id] = set()  #: articles that the account may not see but in public

    async def outside_projects(self, entries: list[Entry]) -> list[Entry]:
        """Of all own articles those that are in no project.

        Whether ``GET /account/articles`` lists those of projects too is not documented (api.md §3). The first
        few projects tell how this server does it: if none of their articles is among the own ones, the other
        projects need not be listed. Where one turns out to have such an article later, all are.
        """
        self._own = {entry.key for entry in entries}
        listed, others = await self.list_projects()
        if self._own_are_in_projects:
            await self._list_all(others)
            listed += others
        elsewhere = {key for project in listed for key in _keys(project)}
        return [entry for entry in entries if entry.key not in elsewhere]

    async def list_projects(self) -> tuple[list[Container], list[Container]]:
        """List the projects, and the articles of so many that they tell whether own articles are in them;
        returns those, and the others. Failures are logged where they happen.
        """
        await self._list_one(self._tree.projects)
        projects = self._projects()
        projects.sort(key=lambda project: not _is_own(project))  # in the others all may be somebody else's
        listed: list[Container] = []
        while projects and len(listed) < MOST_TO_CHECK and not self._own_are_in_projects:
            some, projects = projects[:PROJECTS_TO_CHECK], projects[PROJECTS_TO_CHECK:]
            await self._list_all(some)
            listed += some
            for project in some:
                self.note_articles_of(project)
            if any(_is_own(project) and project.children for project in some):
                break
        return listed, projects

    def note_articles_of(self, project: Container) -> None:
        """``project`` was listed: does the list of own articles have those of projects, too?"""
        if not self._own_are_in_projects and self._own & _keys(project):
            self._own_are_in_projects = True
            if not self._is_loading(self._tree.articles):  # which is about to leave them out
                self._tree.expire(self._tree.articles)

    async def find(self, article_ids: Iterable[Id]) -> None:
        """List what is needed to tell where in this mount the articles are; those not found are other
        people's. What ``ensure_listed`` raises for the lists of all articles and projects.
        """
        wanted = set(article_ids) - self._foreign
        if self._unknown(wanted):
            await self._ensure_listed(self._tree.articles)
        if self._unknown(wanted):
            with contextlib.suppress(NotSupported):  # no projects on this server: nothing is in one
                await self._ensure_listed(self._tree.projects)
            projects = [project for project in self._projects() if project.status.listed_at is None]
            if len(self._unknown(wanted)) < len(projects):
                await self._ask_whose(self._unknown(wanted))
            if self._unknown(wanted - self._foreign):
                await self._list_all(self._projects())

    async def name(self, article_ids: Iterable[Id]) -> None:
        """List ``articles/``, if one of these is not known: so that links bear the names shown there."""
        if self._unknown(set(article_ids)):
            await self._list_one(self._tree.articles)

    async def _ask_whose(self, article_ids: Iterable[Id]) -> None:
        """One request each: cheaper than to list all projects, to find that none has them."""

        async def ask(article_id: Id) -> None:
            try:
                await articles.get(self._client, article_id)
            except (NotFound, Forbidden):
                self._foreign.add(article_id)
            except FigfsError:
                pass  # then the projects tell

        async with trio.open_nursery() as nursery:
            for article_id in article_ids:
                nursery.start_soon(ask, article_id)

    async def _list_all(self, containers: Iterable[Container]) -> None:
        async with trio.open_nursery() as nursery:
            for container in containers:
                nursery.start_soon(self._list_one, container)

    async def _list_one(self, container: Container) -> None:
        # Logged where it happened; or it went meanwhile.
        with contextlib.suppress(FigfsError, OSError):
            await self._ensure_listed(container, max_age=PROJECTS_MAX_AGE)

    def _projects(self) -> list[Container]:
        return [node for node in self._tree.projects.children.values() if isinstance(node, Container)]

    def _unknown(self, article_ids: set[Id]) -> set[Id]:
        return {each for each in article_ids if self._tree.by_key(Key(Kind.ARTICLE, each)) is None}


def _is_own(project: Container) -> bool:
    """Whether the account owns it; also where that is not told."""
    record = project.record
    return not isinstance(record, Project) or record.role.casefold() in ("", "owner")


def _keys(container: Container) -> set[Key]:
    return {child.key for child in container.children.values()}
