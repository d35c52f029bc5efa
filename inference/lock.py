"""One writer a run folder: a lock that the kernel gives back with the process, however that ends.

A file ``.lock`` in the folder is held by ``flock`` while something writes there, and says who does. The lock is on the
open file, not on there being one, so that what a killed process leaves bars nobody.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..data.atomic import sweep
from ..models.processes import Processes
from .elbo import InferenceError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK", "locked"]

LOCK = ".lock"

_log = logging.getLogger(__name__)
#: what a file system without locks answers
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)


@dataclass
class _Held:
    file: int
    process: int
    thread: int
    times: int = 1


_held: dict[Path, _Held] = {}
_guard = threading.Lock()


@contextmanager
def locked(folder: str | Path | None) -> Iterator[None]:
    """Nobody else writes to the folder while the block runs; within it the same thread may lock again.

    The folder is made if it is not there. What killed writers left half-written in it is removed. Of a job of several
    processes the first alone writes, and alone takes the lock. None: nothing will be written.

    Raises:
        InferenceError: another process (or thread) writes there; or the folder cannot be written to.
    """
    if folder is None or Processes.of_the_job().rank:
        yield
        return
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        place = folder.resolve()
        _take(folder, place)
    except OSError as error:
        raise InferenceError(f"cannot write to {folder}: {error}") from None
    try:
        yield
    finally:
        _give_back(place)


def _take(folder: Path, place: Path) -> None:
    me, thread = os.getpid(), threading.get_ident()
    with _guard:
        mine = _held.get(place)
        if mine is not None and mine.process == me:  # not what a fork brought along
            if mine.thread != thread:
                raise InferenceError(f"{folder} is being written to by another thread")
            mine.times += 1
            return
        file = _lock_file(folder)
        _held[place] = _Held(file, me, thread)
    sweep(folder)


def _give_back(place: Path) -> None:
    with _guard:
        mine = _held[place]
        mine.times -= 1
        if mine.times:
            return
        del _held[place]
        if mine.file >= 0:
            with suppress(OSError):
                (place / LOCK).unlink()  # while it is still locked: see below
            os.close(mine.file)


def _lock_file(folder: Path) -> int:
    """The open, locked file; -1 where there are no locks."""
    path = folder / LOCK
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            if fcntl is None:
                raise OSError(errno.ENOSYS, "no locks on this system")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still(path, file):
                _say_who(file)
                return file
            os.close(
                file
            )  # its holder removed it between our two lines: there is a new one, or none
        except BlockingIOError:
            told = _told(file)
            os.close(file)
            raise InferenceError(
                f"{folder} is being written to by {told}: wait until it is done, end it, or give another folder"
            ) from None
        except OSError as error:
            with suppress(OSError):
                path.unlink()
            os.close(file)
            if error.errno not in _NO_LOCKS:
                raise
            if fcntl is not None:
                _log.warning(
                    "%s: its file system has no locks; let one process write there", folder
                )
            return -1


def _is_still(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False


def _say_who(file: int) -> None:
    who = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
    }
    os.ftruncate(file, 0)
    os.pwrite(file, json.dumps(who).encode(), 0)


def _told(file: int) -> str:
    try:
        who = json.loads(os.pread(file, 1000, 0))
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has not said so yet
        return "another process"
