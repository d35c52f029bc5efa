"""Bad input, made by Hypothesis: valid text, arrays, archives, JSON and options with a little damage."""

from __future__ import annotations

import copy
import io
import json
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

__all__ = [
    "JSON_VALUES",
    "VALUES",
    "XML_BOMBS",
    "damaged_archive",
    "damaged_array",
    "damaged_json",
    "damaged_json_text",
    "damaged_npy",
    "damaged_options",
    "damaged_text",
    "with_flips",
]

Draw = st.DrawFn

#: in place of a word of a text file
WORDS = [
    "", "nan", "NaN", "inf", "-inf", "-1", "-0", "0", "1", "+3", "--5", "0x1f", "1_000", "1e400", "-1e308", "1e-400",
    "2147483646", "2147483648", "9223372036854775808", "1000000000000", "9" * 40, "9" * 5000, "0.5", "1,5", "True",
    "None", "\x00", "a\x00", "\x1a", "\x85", "\u2028", "\ufeff", "\u202e", "é", "e\u0301", "٣", "²", "🐢", "\udc80",
    '"', '"a', "'", "\\", "#", "%", ";", ",", "\t", "\r", "\n", "<", ">", "&", "&x;", "]]>", "[", "]", "{", "}", "=",
    "x" * 200_000, "a b", "../../etc/passwd", "=cmd()", "%s%n", "{0.__class__}", "nan,nan",
]  # fmt: skip

#: numbers and what is none, in place of an entry of an array or an option
VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 2, 7, 0.5, -0.0, 1e-320, 1e39, 1e308, -1e308, float("nan"), float("inf"), -(2**63),
    2**31 - 1, 2**31, 2**62, 2**63 - 1, 2**64, 10**12, 10**30, 1j, "", "1", "a", "a\x00", "\udc80", b"a", (), [], {},
    [[]], [1], [[1, 2], [3]], ("a", 1), {"a": 1}, object(), np.nan, np.int8(-1), np.float16(1.0), np.array(3),
    np.array([1.5]), np.zeros((0, 2)), np.zeros((2, 0), int), np.datetime64("2020-01-01"), range(3), print,
]  # fmt: skip
JSON_VALUES: list[Any] = [
    None, True, False, -1, 0, 1, 0.5, 1e308, float("nan"), float("inf"), 2**31, 2**63, 10**30, "", "a", "cuda:99",
    "\udc80", "x" * 10_000, [], [[]], [1], [-1, "a"], [0, 0], {}, {"name": 1}, {"a": {"b": []}}, [None] * 50,
]  # fmt: skip

_LAUGHS = "".join(
    f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' if i else '<!ENTITY l0 "ha">' for i in range(9)
)
XML_BOMBS = {
    "billion laughs": f"<!DOCTYPE x [{_LAUGHS}]><graphml>&l8;</graphml>",
    "a small billion laughs": f"<!DOCTYPE x [{_LAUGHS}]><graphml>&l5;</graphml>",
    "quadratic": f'<!DOCTYPE x [<!ENTITY a "{"a" * 40_000}">]><graphml>{"&a;" * 2000}</graphml>',
    "a file": '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><graphml>&a;</graphml>',
    "a parameter": '<!DOCTYPE x [<!ENTITY % a SYSTEM "http://127.0.0.1:9/a"> %a;]><graphml/>',
    "a subset": '<!DOCTYPE x SYSTEM "http://127.0.0.1:9/x.dtd"><graphml/>',
    "depth": "<graphml>" * 200_000 + "</graphml>" * 200_000,
    "graphs in graphs": "<graphml>" + '<graph edgedefault="undirected"><node id="a">' * 50_000,
    "attributes": "<graphml " + " ".join(f'a{i}="1"' for i in range(50_000)) + "/>",
}


# -- text ---------------------------------------------------------------------------------------------


@st.composite
def damaged_text(draw: Draw, valid: Sequence[str], word: str = r'[^\s,;<>="]+') -> bytes:
    """A valid text with one to three faults, in some encoding, perhaps with bits flipped."""
    text = draw(st.sampled_from(valid))
    for _ in range(draw(st.sampled_from([1, 1, 1, 2, 3]))):
        lines = text.splitlines(keepends=True)
        some = st.integers(0, max(0, len(lines) - 1))
        match draw(
            st.sampled_from(
                ["word", "word", "word", "insert", "cut", "double", "drop", "swap", "repeat"]
            )
        ):
            case "word":
                words = list(re.finditer(word, text))
                if words:
                    found = words[draw(st.integers(0, len(words) - 1))]
                    text = (
                        text[: found.start()] + draw(st.sampled_from(WORDS)) + text[found.end() :]
                    )
            case "insert":
                place = draw(st.integers(0, len(text)))
                text = text[:place] + draw(st.sampled_from(WORDS)) + text[place:]
            case "cut":
                text = text[: draw(st.integers(0, len(text)))]
            case "double" if lines:
                place = draw(some)
                text = "".join(lines[: place + 1] + lines[place:])
            case "drop" if lines:
                place = draw(some)
                text = "".join(lines[:place] + lines[place + 1 :])
            case "swap" if lines:
                a, b = draw(some), draw(some)
                lines[a], lines[b] = lines[b], lines[a]
                text = "".join(lines)
            case "repeat" if text:
                a, b = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
                text = text[:b] + text[a:b] * draw(st.integers(1, 100)) + text[b:]
        text = text[:1_000_000]
    encoding = draw(st.sampled_from(["utf-8"] * 15 + ["utf-8-sig", "utf-16", "latin-1"]))
    return draw(
        with_flips(text.encode(encoding, "surrogatepass" if "8" in encoding else "replace"))
    )


@st.composite
def with_flips(draw: Draw, data: bytes, likely: int = 12) -> bytes:
    """Bytes that are whole, more often than not, or have bits flipped or an end cut off."""
    how = draw(st.integers(0, likely))
    if how == 0 and data:
        flipped = bytearray(data)
        for _ in range(draw(st.integers(1, 4))):
            flipped[draw(st.integers(0, len(data) - 1))] ^= 1 << draw(st.integers(0, 7))
        return bytes(flipped)
    if how == 1:
        return data[: draw(st.integers(0, len(data)))]
    return data


# -- arrays -------------------------------------------------------------------------------------------

_KINDS = ["f8", "f4", "f2", "?", "c8", "U3", "S2", "i1", "u1", "u8", "i4", "O", "M8[s]", "i4,f4"]


@st.composite
def damaged_array(draw: Draw, array: Any) -> Any:
    """An array with another shape, another kind of numbers, or other entries."""
    try:
        array = np.array(array)
    except ValueError:  # ragged, from the fault before
        return array
    match draw(
        st.sampled_from(["entry", "entry", "entry", "kind", "shape", "less", "more", "shuffle"])
    ):
        case "entry" if array.size:
            value = draw(st.sampled_from([-1, 0, 1, 2, 3, 99, 2**31, 2**62, 0.5, np.nan, np.inf]))
            if isinstance(value, float) and array.dtype.kind in "iu":
                array = array.astype(float)
            place = draw(st.integers(0, array.size - 1))
            if array.dtype.kind in "iufc":
                low = np.iinfo(array.dtype).max if array.dtype.kind in "iu" else np.inf
                array.flat[place] = min(value, low) if value == value else value
            else:
                array.flat[place] = array.flat[0]
        case "kind":
            kind = draw(st.sampled_from(_KINDS))
            try:
                with np.errstate(all="ignore"), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of imaginary parts
                    array = array.astype(kind)
            except (TypeError, ValueError):
                array = np.zeros(array.shape, kind)
        case "shape":
            shapes = [(-1,), (1, -1), (-1, 1), array.shape[::-1], (*array.shape, 1)]
            array = array.reshape(draw(st.sampled_from(shapes)))
        case "less":
            array = array.reshape(-1) if array.ndim == 0 else array
            array = array[..., : draw(st.integers(0, array.shape[-1]))]
        case "more":
            array = np.concatenate([np.atleast_1d(array)] * draw(st.integers(2, 3)), -1)
        case "shuffle" if array.ndim:
            array = array[..., ::-1].T if draw(st.booleans()) else array[::-1]
    return array


@st.composite
def damaged_options(
    draw: Draw, valid: Sequence[Mapping[str, Any]], values: Sequence[Any] = VALUES
) -> dict[str, Any]:
    """Named arrays or options, of which one to three are damaged, gone, exchanged or something else."""
    made = dict(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 3))):
        if not made:
            break
        name = draw(st.sampled_from(sorted(made)))
        match draw(st.sampled_from(["array", "array", "array", "value", "drop", "exchange"])):
            case "array" if isinstance(made[name], np.ndarray | int | float | list):
                try:
                    made[name] = draw(damaged_array(made[name]))
                except ValueError:  # was no rectangular array any more
                    made[name] = draw(st.sampled_from(values))
            case "value" | "array":
                made[name] = draw(st.sampled_from(values))
            case "drop":
                del made[name]
            case "exchange":
                other = draw(st.sampled_from(sorted(made)))
                made[name], made[other] = made[other], made[name]
    return made


def npy(array: Any, shape: str | None = None) -> bytes:
    """An .npy file; its header claims ``shape`` if that is given."""
    file = io.BytesIO()
    try:
        array = np.asarray(array)
    except ValueError:  # ragged
        array = np.array(repr(array))
    np.save(file, array, allow_pickle=True)
    data = file.getvalue()
    if shape is None:
        return data
    size = struct.unpack("<H", data[8:10])[0]
    header = re.sub(rb"'shape': \(.*?\)", b"'shape': " + shape.encode(), data[10 : 10 + size])
    header = header.rstrip() + b"\n"
    return data[:8] + struct.pack("<H", len(header)) + header + data[10 + size :]


_SHAPES = ["(1000000000000,)", "(2, 500000000000)", "(-1, 2)", "(2, True)", "(3000000000, 2)",
           "(1000000, 1000000)", "(9223372036854775807, 4)", "(0, 10000000000000)", "('a',)"]  # fmt: skip


@st.composite
def damaged_npy(draw: Draw, valid: Sequence[Any]) -> bytes:
    """A file of one array: damaged, or with a header that claims another shape, or with bits flipped."""
    array = draw(damaged_array(draw(st.sampled_from(valid))))
    shape = draw(st.one_of(st.none(), st.none(), st.sampled_from(_SHAPES)))
    return draw(with_flips(npy(array, shape), 3))


@st.composite
def damaged_archive(draw: Draw, valid: Sequence[Mapping[str, Any]]) -> bytes:
    """An .npz file of damaged arrays; members may lie, be twice there, no arrays, or nothing but zeros."""
    made = draw(damaged_options(valid))
    members = {f"{name}.npy": npy(array) for name, array in made.items()}
    twice: list[tuple[str, bytes]] = []
    if members:
        name = draw(st.sampled_from(sorted(members)))
        array = made[name.removesuffix(".npy")]
        match draw(
            st.sampled_from(
                ["no", "no", "no", "no", "shape", "bytes", "suffix", "path", "twice", "zeros"]
            )
        ):
            case "shape":
                members[name] = npy(array, draw(st.sampled_from(_SHAPES)))
            case "bytes":
                members[name] = draw(st.binary(max_size=60))
            case "suffix":
                members[name.removesuffix(".npy")] = members.pop(name)
            case "path":
                members["../../" + name] = members.pop(name)
            case "twice":
                twice.append((name, members[name]))
            case "zeros":
                members[name] = npy(np.zeros((2, 100_000), np.int64))
    file = io.BytesIO()
    method = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w", method) as archive:
        warnings.simplefilter("ignore")  # names that are there twice
        for name, data in [*members.items(), *twice]:
            archive.writestr(name, data)
    return draw(with_flips(file.getvalue(), 5))


# -- JSON ---------------------------------------------------------------------------------------------


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inside: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        inside = list(value.items())
    elif isinstance(value, list):
        inside = list(enumerate(value))[:20]
    return [path, *(p for key, v in inside for p in _places(v, (*path, key)))]


@st.composite
def damaged_json(draw: Draw, valid: Sequence[Any]) -> Any:
    """A JSON value with one to three of its parts replaced, dropped or renamed."""
    made = copy.deepcopy(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from(_places(made)))
        value = draw(st.sampled_from(JSON_VALUES))
        if not path:
            if draw(st.integers(0, 5)) == 0:
                made = copy.deepcopy(value)
            continue
        holder = made
        for key in path[:-1]:
            holder = holder[key]
        match draw(st.sampled_from(["value", "value", "value", "drop", "rename"])):
            case "value":
                holder[path[-1]] = copy.deepcopy(value)
            case "drop":
                del holder[path[-1]]
            case "rename" if isinstance(holder, dict):
                holder[draw(st.sampled_from(["", "x", "name", "steps", "\udc80"]))] = holder.pop(
                    path[-1]
                )
    return made


@st.composite
def damaged_json_text(draw: Draw, valid: Sequence[Any]) -> bytes:
    """The text of a damaged JSON value, or a damaged text of a valid one, or one nested too deep."""
    how = draw(st.integers(0, 5))
    if how == 0:
        return draw(st.sampled_from([b"[" * 200_000, b'{"a":' * 100_000, b"", b"null", b"\xff"]))
    if how < 3:
        return draw(damaged_text([json.dumps(v, indent=1) for v in valid], r"[^\s,:\[\]{}]+"))
    return json.dumps(draw(damaged_json(valid))).encode()
