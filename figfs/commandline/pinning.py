"""``figfs pin`` and ``unpin``: which content a file on a mount is, and which cache its mount has.

The mount tells both by extended attributes, so that the right directory gets the pin whatever ``--cache-dir``
the mount was given.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from figfs.commandline.warming import Failures, Found, files_below
from figfs.errors import ConfigurationError
from figfs.reading.cachedirectory import CacheDirectory, check_key
from figfs.reading.pins import Pins

KEY = "user.figshare.key"  #: of a file: the key of its content; not there before Figshare has it
CACHE = "user.figshare.cache"  #: of every file and directory: the mount's cache directory


def pin(paths: Iterable[str], failed: Failures) -> list[Found]:
    """Pin the content of every file that is, or is below, one of ``paths``; returns those that are pinned.

    ``ConfigurationError`` if a path is not on a mount with a disk cache, before anything is pinned. Other
    failures go to ``failed``.
    """
    done = []
    for file, key, pins in list(_contents(paths, failed)):
        try:
            pins.add(key, file.path)
        except OSError as exc:
            failed(file.path, f"cannot pin it in {pins.directory}: {exc.strerror}")
        else:
            done.append(file)
    return done


def unpin(paths: Iterable[str], failed: Failures) -> list[Found]:
    """Take the pins away; arguments and errors as for ``pin``."""
    done = []
    for file, key, pins in list(_contents(paths, failed)):
        try:
            pins.remove(key)
        except OSError as exc:
            failed(file.path, f"cannot unpin it in {pins.directory}: {exc.strerror}")
        else:
            done.append(file)
    return done


def _contents(paths: Iterable[str], failed: Failures) -> Iterator[tuple[Found, str, Pins]]:
    """Each file with a content, its key, and the pins of its mount's cache."""
    caches = [(path, Pins(_cache_of(path), time.monotonic)) for path in paths]
    for path, pins in caches:
        for file in files_below([path], failed):
            if not file.size:
                continue  # no content: nothing to keep
            try:
                key = os.fsdecode(os.getxattr(file.path, KEY, follow_symlinks=False))
                check_key(key)
            except OSError as exc:
                absent = exc.errno in {errno.ENODATA, errno.ENOTSUP}
                failed(file.path, "Figshare does not have it yet" if absent else exc.strerror or str(exc))
            except ValueError:
                failed(file.path, f"{KEY} is no key: it is not on a figfs mount")
            else:
                yield file, key, pins


def _cache_of(path: str) -> Path:
    try:
        value = os.getxattr(path, CACHE)
    except OSError as exc:
        if exc.errno in {errno.ENODATA, errno.ENOTSUP}:
            text = f"{path} is not on a figfs mount, or on one without a disk cache"
            raise ConfigurationError(text) from exc
        raise ConfigurationError(f"{path}: {exc.strerror}") from exc
    return CacheDirectory(Path(os.fsdecode(value))).pins
