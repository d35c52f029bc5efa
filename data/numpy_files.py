"""NumPy files that came from anywhere: read without pickles, and never larger than they are."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from .validation import GraphError, plural

__all__ = ["arrays_of", "read_array", "scalar"]

#: An archive that unpacks to more than this, and to more than so many times its size, is taken for a bomb. Deflate
#: shrinks no more than 1,032-fold, so that real data of this size would have to be almost nothing but zeros.
_LARGE, _SHRUNK = 2**30, 200
_MEMBERS = 1000
_TAIL = 22 + 0xFFFF  # bytes: the end of an archive and the longest comment on it
#: what a damaged archive or compressed stream raises
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


def arrays_of(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz`` archive by their names.

    An array takes up memory only once its header agrees with the size of the member that holds it.

    Raises:
        GraphError: If the file is no archive of arrays, is damaged, holds Python objects, or unpacks to far more than
            its size.
        OSError: If it cannot be opened.
    """
    with Path(path).open("rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.infolist()
                _check_size(members, Path(path).stat().st_size)
                _check_contents(file, len(members))
                return {m.filename.removesuffix(".npy"): _member(archive, m) for m in members}
        except GraphError:
            raise
        except _DAMAGED as error:
            raise GraphError(f"not a well-formed .npz archive ({_told(error)}).") from None


def _check_size(members: list[zipfile.ZipInfo], size: int) -> None:
    if len(members) > _MEMBERS:
        raise GraphError(f"the archive has {len(members)} members, more than {_MEMBERS}.")
    if len({m.filename for m in members}) < len(members):
        raise GraphError("the archive has two members of one name.")
    unpacked = sum(m.file_size for m in members)
    if unpacked > max(_LARGE, _SHRUNK * size):
        raise GraphError(
            f"the archive of {size:,} bytes unpacks to {unpacked:,}: it is taken for a zip bomb. If it is not, save it "
            "without compression (numpy.savez)."
        )


def _check_contents(file: IO[bytes], found: int) -> None:
    """Refuse a table of contents from which entries are lost.

    A changed length of one swallows the next ones in silence, and the check sums are of what is left.
    """
    size = file.seek(0, 2)
    file.seek(max(0, size - _TAIL))
    tail = file.read()
    end = tail.rfind(b"PK\x05\x06")
    said = int.from_bytes(tail[end + 10 : end + 12], "little") if end >= 0 else 0
    if said not in (found, 0xFFFF):  # more than it can say
        raise GraphError(f"the archive is said to hold {said} members, but {found} are found.")


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as file:
        try:
            return _array(file, member.file_size)
        except GraphError as error:
            raise GraphError(f"{member.filename}: {error}") from None


def read_array(path: str | Path) -> np.ndarray:
    """The array of an ``.npy`` file.

    Raises:
        GraphError: If it is no array, is damaged, or holds Python objects.
        OSError: If it cannot be opened.
    """
    with Path(path).open("rb") as file:
        return _array(file, Path(path).stat().st_size)


def _array(file: IO[bytes], size: int) -> np.ndarray:
    """The one array in a file of this many bytes."""
    try:
        version = np.lib.format.read_magic(file)
        # 3.0 differs by names of fields, and arrays with fields are of no use here
        header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in header:
            raise GraphError(f"arrays of format {version} are not read.")
        shape, fortran, dtype = header[version](file)
    except GraphError:
        raise
    except (zlib.error, zipfile.BadZipFile) as error:
        raise GraphError(f"a damaged array ({_told(error)}).") from None
    except Exception:  # of whatever stands where a dictionary should, many kinds
        raise GraphError("no NumPy array, or one with a damaged header.") from None
    if dtype.hasobject or dtype.names is not None:
        what = "Python objects" if dtype.hasobject else "named fields"
        raise GraphError(
            f"an array of {what} is not read: nothing is unpickled (allow_pickle=False)."
        )
    if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > 32:
        raise GraphError(f"the header says an impossible shape, {shape}.")
    if max(shape, default=0) > 2**62:
        raise GraphError(f"the header says an impossible shape, {shape}.")
    held = size - file.tell()
    if math.prod(shape) * dtype.itemsize != held:
        raise GraphError(
            f"the header says shape {shape} and dtype {dtype}, but there are {plural(held, 'byte')} of data."
        )
    data = file.read(held)
    if len(data) != held:
        raise GraphError("the array is cut off.")
    array = np.frombuffer(bytearray(data), dtype=dtype)  # writable, as np.load gives it
    return array.reshape(shape, order="F" if fortran else "C")


def _told(error: Exception) -> str:
    """What an error says, if it says it to people."""
    if isinstance(error, zlib.error):
        return "its compressed data do not decompress"
    if type(error) in (ValueError, zipfile.BadZipFile, NotImplementedError) and str(error):
        return " ".join(str(error).split())[:200]
    return "its header does not follow the format"


def scalar(array: np.ndarray, what: str) -> int:
    """The one whole number in an array.

    Raises:
        GraphError: If it holds anything else.
    """
    if array.size != 1 or array.dtype.kind not in "iub":
        raise GraphError(
            f"{what} must be one whole number, got shape {array.shape}, dtype {array.dtype}."
        )
    return int(array.item())
