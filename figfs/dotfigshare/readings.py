"""What programs were shown of the documents that can be written: what a change may have been made from. From
memory.

The kernel does not tell which reading a change comes from, and reader and writer are seldom one process
(``jq``, then ``cp``). So it is kept which process was shown what. A process is of the family of its parents:
what a program has read counts for the shell that ran it, and so for the next one there, if that has read
nothing itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable

import cachetools

from figfs.documents.entries import Seen
from figfs.openers import Process

MOST_BYTES = 64 << 20  #: of all that was shown
MOST_CONTENTS = 8  #: of one document that are remembered, beside those of living processes
MOST_PROCESSES = 256  #: of one document; those that have ended go first
LARGEST = MOST_BYTES // MOST_CONTENTS  #: bytes of one content; a larger one is not remembered


@dataclasses.dataclass(eq=False, slots=True)
class _Shown:
    """What is known of one document. All dictionaries have the newest last."""

    contents: list[bytes] = dataclasses.field(default_factory=list)  #: without doubles, the newest last
    own: dict[Process, bytes] = dataclasses.field(default_factory=dict)  #: what each has read or written last
    families: dict[Process, bytes] = dataclasses.field(
        default_factory=dict
    )  #: … it or its children have read

    def size(self) -> int:
        every = {
            id(each): len(each) for each in (*self.contents, *self.own.values(), *self.families.values())
        }
        return sum(every.values())


class Readings:
    """Of all documents of one mount. ``is_alive``: whether a process has not ended."""

    def __init__(self, *, is_alive: Callable[[Process], bool]) -> None:
        self._is_alive = is_alive
        self._documents: cachetools.LRUCache[Hashable, _Shown] = cachetools.LRUCache(
            MOST_BYTES, getsizeof=_Shown.size
        )

    def show(self, key: Hashable, content: bytes, family: tuple[Process, ...]) -> None:
        """The first of ``family``, a child of the second, and so on, has read ``content``."""
        if len(content) > LARGEST:
            return
        shown = self._documents.get(key) or _Shown()
        content = next((each for each in shown.contents if each == content), content)
        shown.contents = [each for each in shown.contents if each is not content][1 - MOST_CONTENTS :]
        shown.contents.append(content)
        for process in family:
            _put(shown.families, process, content)
        if family:
            _put(shown.own, family[0], content)
        self._keep(key, shown)

    def wrote(self, key: Hashable, content: bytes, family: tuple[Process, ...]) -> None:
        """The first of ``family`` has changed the document to ``content``, and may do so again without
        reading it. To nobody else that is a reading: what they have is as old as it was.
        """
        if family and len(content) <= LARGEST:
            shown = self._documents.get(key) or _Shown()
            _put(shown.own, family[0], content)
            self._keep(key, shown)

    def seen(self, key: Hashable, family: tuple[Process, ...]) -> Seen:
        """What the first of ``family`` may have made a change from."""
        shown = self._documents.get(key) or _Shown()
        own = shown.own.get(family[0]) if family else None
        nearest = [shown.families[process] for process in family if process in shown.families][:1]
        others = [each for each in reversed(shown.contents) if each not in nearest]
        return Seen(own, (*nearest, *others))

    def forget(self, key: Hashable) -> None:
        self._documents.pop(key, None)

    def _keep(self, key: Hashable, shown: _Shown) -> None:
        for known in (shown.own, shown.families):
            if len(known) > MOST_PROCESSES:
                for process in [process for process in known if not self._is_alive(process)]:
                    del known[process]
                for process in list(known)[:-MOST_PROCESSES]:
                    del known[process]
        self._documents.pop(key, None)  # its size is another now
        if shown.size() <= MOST_BYTES:
            self._documents[key] = shown


def _put(known: dict[Process, bytes], process: Process, content: bytes) -> None:
    known.pop(process, None)
    known[process] = content
