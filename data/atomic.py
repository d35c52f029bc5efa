"""Files that are there whole or not at all: written beside their name, then moved there, by every writer."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

__all__ = ["PARTIAL", "replacing", "replacing_all", "sweep", "write_text"]

_NO_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)  # a file system that cannot force

#: what a writer that was killed may leave in a folder, as a pattern
PARTIAL = ".*.partial*"


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A file to write to, which takes the place of ``path`` when the block ends without an error.

    Readers meet the old file or the new one, never a part; so does the next start after a power cut, for what was
    written is forced to the disk before it is moved, and the move after it. After an error nothing is left, and what
    stood there before is untouched. A link is replaced, not followed; a device or a pipe is written to as it is.

    Raises:
        OSError: the folder is not there, cannot be written to, or is full.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # of a folder the writer will complain
        yield path
        return
    # the suffix stays: several writers go by it
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    partial.unlink(missing_ok=True)  # whatever stands there, a link to elsewhere too
    try:
        yield partial
        _force(partial)
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    _force(path.parent)


def write_text(path: str | Path, text: str) -> None:
    """A UTF-8 text file, by :func:`replacing`."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


@contextmanager
def replacing_all(*paths: Path) -> Iterator[list[Path]]:
    """Files that belong together: none is replaced before all of them are written."""
    with ExitStack() as stack:
        yield [stack.enter_context(replacing(path)) for path in paths]


def sweep(folder: Path) -> None:
    """Remove what killed writers left in a folder. Only for one who knows that nobody else writes there."""
    with suppress(OSError):
        for partial in folder.glob(PARTIAL):
            with suppress(OSError):
                partial.unlink()


def _force(path: Path) -> None:
    """Have the disk hold what was written to a file, or to the list of a folder."""
    if os.name == "nt":  # folders cannot be opened there, and files only to be written
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    except OSError as error:
        if error.errno not in _NO_FSYNC:  # a full disk may show only here
            raise
    finally:
        os.close(opened)
