"""``figfs pin`` and ``unpin``: which content a file on a mount is, and which cache its mount has.

The mount tells both by extended attributes, so that the right directory gets the pin whatever ``--cache-dir``
the mount was given. One that has none (``noxattr``) is asked over its control socket.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from figfs.commandline import mounts
from figfs.commandline.warming import Failures, Found, files_below
from figfs.errors import ConfigurationError
from figfs.reading.cachedirectory import CacheDirectory, check_key
from figfs.reading.pins import Pins

KEY = "user.figshare.key"  #: of a file: the key of its content; not there before Figshare has it
CACHE = "user.figshare.cache"  #: of every file and directory: the mount's cache directory
ASKED_AT_ONCE = 200  #: paths in one request to a mount, of 4096 bytes at most

#: The mount that a path is in; ``ConfigurationError`` if it cannot be told.
Find = Callable[[str], mounts.Found]

#: The keys of some files, None for what Figshare does not have yet, or why they cannot be told.
Tell = Callable[[list[Found]], Iterable[str | Exception | None]]


def pin(paths: Iterable[str], failed: Failures, find: Find) -> list[Found]:
    """Pin the content of every file that is, or is below, one of ``paths``; returns those that are pinned.

    ``ConfigurationError`` if a path is not on a mount with a disk cache, before anything is pinned. Other
    failures go to ``failed``.
    """
    done = []
    for file, key, pins in list(_contents(paths, failed, find)):
        try:
            pins.add(key, file.path)
        except OSError as exc:
            failed(file.path, f"cannot pin it in {pins.directory}: {exc.strerror}")
        else:
            done.append(file)
    return done


def unpin(paths: Iterable[str], failed: Failures, find: Find) -> list[Found]:
    """Take the pins away; arguments and errors as for ``pin``."""
    done = []
    for file, key, pins in list(_contents(paths, failed, find)):
        try:
            pins.remove(key)
        except OSError as exc:
            failed(file.path, f"cannot unpin it in {pins.directory}: {exc.strerror}")
        else:
            done.append(file)
    return done


def _contents(paths: Iterable[str], failed: Failures, find: Find) -> Iterator[tuple[Found, str, Pins]]:
    """Each file with a content, its key, and the pins of its mount's cache."""
    caches = [(path, *_mount_of(path, find)) for path in paths]
    for path, pins, tell in caches:
        files = (file for file in files_below([path], failed) if file.size)  # no content: nothing to keep
        while batch := list(itertools.islice(files, ASKED_AT_ONCE)):
            for file, key in zip(batch, tell(batch), strict=True):
                try:
                    if isinstance(key, Exception):
                        raise key
                    if key is not None:
                        check_key(key)
                        yield file, key, pins
                    else:
                        failed(file.path, "Figshare does not have it yet")
                except ValueError:
                    failed(file.path, f"{KEY} is no key: it is not on a figfs mount")
                except OSError as exc:
                    failed(file.path, exc.strerror or str(exc))


def _mount_of(path: str, find: Find) -> tuple[Pins, Tell]:
    tell: Tell = _by_attribute
    try:
        cache = os.fsdecode(os.getxattr(path, CACHE))
    except OSError as exc:
        if exc.errno not in {errno.ENODATA, errno.ENOTSUP}:
            raise ConfigurationError(f"{path}: {exc.strerror}") from exc
        asked = None
        if exc.errno == errno.ENOTSUP and mounts.mountpoint_of(os.path.realpath(path)):
            found = find(path)  # it has no extended attributes
            asked = found.ask_one("content")["cache"]
            tell = lambda files: _by_socket(found, files)  # noqa: E731
        if not isinstance(asked, str):
            text = f"{path} is not on a figfs mount, or on one without a disk cache"
            raise ConfigurationError(text) from exc
        cache = asked
    return Pins(CacheDirectory(Path(cache)).pins, time.monotonic), tell


def _by_attribute(files: list[Found]) -> Iterator[str | Exception | None]:
    for file in files:
        try:
            yield os.fsdecode(os.getxattr(file.path, KEY, follow_symlinks=False))
        except OSError as exc:
            yield None if exc.errno in {errno.ENODATA, errno.ENOTSUP} else exc


def _by_socket(mount: mounts.Found, files: list[Found]) -> Iterator[str | Exception | None]:
    root = os.path.realpath(mount.mountpoint)
    paths = [os.path.relpath(file.path, root) for file in files]
    with contextlib.closing(mount.ask("content", paths=paths)) as lines:
        next(lines)  # which cache
        for line in lines:
            reason = line.get("reason")
            yield OSError(0, str(reason)) if reason else line.get("key")
