"""Edge lists and lists of pairs in text files: separator, header, names or ids, weights."""

from __future__ import annotations

import csv
import difflib
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .convert import from_edges
from .graph import Graph
from .validation import GraphError, few, plural, short

__all__ = ["EdgeList", "graph_of_edge_list", "parse_edge_list", "read_pairs"]

_log = logging.getLogger(__name__)

SUFFIXES = (".csv", ".tsv", ".txt", ".edges")
_DIGITS = 18
_SNIFFED = 1_000  # lines that the separator is found out from
_SEPARATORS = {"\t": "tabs", ";": "semicolons", ",": "commas", None: "white space"}
# Words of a header; needed only where nodes have names, as ids tell themselves apart.
_HEADER_WORD = re.compile(
    r"source|target|src|dst|from|to|tail|head|origin|destination|sender|receiver|follower|followed|"
    r"[abuvij]|(from|to)[_ ]?(node|id|name)([_ ]?id)?|"
    r"(node|id|name|person|people|friend|user|member|author|actor|player|who|whom)[_ ]?[12ab]?",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class EdgeList:
    """An edge list as it was understood.

    Attributes:
        ends: the two ends of every edge, as they stand in the file.
        lines: line numbers of the edges, counted from 1 as an editor does.
        separator: between columns; None is white space.
        titles: words of the header, or None.
        integers: whether every end is an integer id, and not a name.
        weights: (E,) float64, or None where they were not asked for.
        further: words (or numbers, from 1) of the columns that were not read.
        numeric: whether the third column holds a number in every line.
    """

    ends: list[tuple[str, str]]
    lines: list[int]
    separator: str | None
    titles: list[str] | None
    integers: bool
    weights: np.ndarray | None
    further: list[str]
    numeric: bool

    def describe(self) -> str:
        """What was understood, in one line of words."""
        header = "no header" if self.titles is None else f"a header ({', '.join(self.titles)})"
        kind = "integer ids" if self.integers else "names"
        words = [
            f"columns separated by {_SEPARATORS.get(self.separator, repr(self.separator))}, {header}",
            f"{plural(len(self.ends), 'line')} of two {kind}",
        ]
        if self.weights is not None:
            words.append("weights read")
        if self.further:
            words.append(f"not read: {', '.join(self.further)}")
        return "; ".join(words)

    def repeats(self, directed: bool = False) -> tuple[int, int]:
        """(self-loops, lines that repeat an edge); of undirected edges also in the other direction."""
        apart = [e if directed else tuple(sorted(e)) for e in self.ends if e[0] != e[1]]
        return len(self.ends) - len(apart), len(apart) - len(set(apart))


def parse_edge_list(
    path: Path,
    *,
    weights: bool | str = False,
    sep: str | None = None,
    header: bool | None = None,
) -> EdgeList:
    """Find out how a text file lists edges.

    Args:
        path: The file, UTF-8 with or without a byte order mark; blank lines and lines that start with ``#`` or ``%``
            are skipped.
        weights: True reads the third column, a word the column of that title.
        sep: The separator of columns; found out if None.
        header: Whether the first line is a header; found out if None.

    Raises:
        GraphError: If there is no edge, or a line is malformed.
    """
    numbers, lines = _lines(path)
    if not lines:
        raise GraphError("the file has no edges (only comments or blank lines).")
    sep = sep or _sniff(lines)
    rows = _rows(lines, sep)
    for number, row, line in zip(numbers, rows, lines, strict=True):
        if len(row) < 2 or not row[0] or not row[1]:
            raise GraphError(
                f"line {number} is malformed: {line[:60]!r} does not have two columns "
                f"(separated by {'white space' if sep is None else repr(sep)})."
            )
    ends = [(row[0], row[1]) for row in rows]
    whole = [_is_integer(a) and _is_integer(b) for a, b in ends]
    column = _weight_column(rows[0], weights, header)
    if header is None:
        header = isinstance(weights, str) or _has_header(rows, whole)
    titles = rows[0] if header else None
    if header:
        rows, ends, whole, numbers, lines = rows[1:], ends[1:], whole[1:], numbers[1:], lines[1:]
    if not ends:
        raise GraphError("the file has a header and no edges.")
    share = sum(whole)
    # A few words among thousands of ids are a damaged file, not names.
    if whole[0] and 0.5 * len(whole) < share < len(whole):
        odd = whole.index(False)
        raise GraphError(
            f"line {numbers[odd]} is malformed: {lines[odd][:60]!r} does not begin with two "
            f"integer ids, as {plural(share, 'other line')} do."
        )
    unread = [c for c in range(2, max(map(len, rows))) if c != column]
    named = [titles[c] if titles and c < len(titles) else f"column {c + 1}" for c in unread]
    values = None if column is None else _numbers(rows, column, sep, numbers, lines)
    numeric = all(len(row) > 2 and _number(row[2], sep) is not None for row in rows)
    return EdgeList(ends, numbers, sep, titles, share == len(whole), values, named, numeric)


def graph_of_edge_list(
    path: Path,
    *,
    weights: bool | str,
    sep: str | None = None,
    header: bool | None = None,
    **options: Any,
) -> Graph:
    """The graph of an edge list; see :func:`~graphlore.data.read_graph`."""
    found = parse_edge_list(path, weights=weights, sep=sep, header=header)
    if found.further:
        _log.warning(
            "%s: columns after the second (%s) are ignored%s",
            path.name,
            few(found.further),
            "; weights=True reads the third as weights"
            if found.weights is None
            else ", except for the weights",
        )
    if found.weights is not None:
        options["weights"] = found.weights
    if not found.integers and not options.get("clean"):
        _refuse_repeats(found, bool(options.get("directed")))
    if found.integers:
        return from_edges(np.array(found.ends, dtype=np.int64), **options)
    if header is None and found.titles is None and _stands_alone(found.ends):
        _log.warning(
            "%s: the first line, %s and %s, is read as an edge although both names stand nowhere else; if it is a "
            "header, say header=True",
            path.name,
            *found.ends[0],
        )
    return from_edges(found.ends, **options)


def _refuse_repeats(found: EdgeList, directed: bool) -> None:
    """Refuse self-loops and repeated edges by the names and lines of the file."""
    seen: set[tuple[str, str]] = set()
    loops, repeats = [], []
    for line, (a, b) in zip(found.lines, found.ends, strict=True):
        pair = (a, b) if directed or a < b else (b, a)
        if a == b:
            loops.append(f"{short(repr(a))} in line {line}")
        elif pair in seen:
            repeats.append(f"{short(repr(a))} and {short(repr(b))} in line {line}")
        seen.add(pair)
    if loops or repeats:
        words = [
            f"{plural(len(where), noun)} ({few(where, 2)})"
            for where, noun in ((loops, "self-loop"), (repeats, "repeated edge"))
            if where
        ]
        raise GraphError(
            f"there are {' and '.join(words)}; a simple graph has none. clean=True drops them."
        )


def read_pairs(path: str | Path, graph: Graph) -> Tensor:
    """Pairs of nodes of a graph from a text file in the form of an edge list.

    Args:
        path: The file: two columns of names of the graph's nodes, or of ids where they have none. A first line in
            which neither is a node is a header.
        graph: Whose nodes they are.

    Returns:
        (2, P) int64, in the order of the file.

    Raises:
        GraphError: If the file cannot be read, or a pair names no two nodes of the graph (with the line's number).
    """
    path = Path(path)
    known = {name: i for i, name in enumerate(graph.names or map(str, range(graph.num_nodes)))}
    try:
        _, lines = _lines(path)
        if not lines:
            raise GraphError("the file has no pairs (only comments or blank lines).")
        first = _rows(lines[:1], _sniff(lines))[0][:2]
        header = len(lines) > 1 and not any(name in known for name in first)
        found = parse_edge_list(path, header=header)
        ids = torch.empty((2, len(found.ends)), dtype=torch.int64)
        for place, (number, pair) in enumerate(zip(found.lines, found.ends, strict=True)):
            for side, name in enumerate(pair):
                if name not in known:
                    raise GraphError(f"line {number}: {_no_node(name, known, graph)}")
                ids[side, place] = known[name]
            if pair[0] == pair[1]:
                raise GraphError(
                    f"line {number}: {short(repr(name))} with itself is no pair of nodes."
                )
    except FileNotFoundError:
        raise GraphError(f"No such file: {path}.") from None
    except PermissionError:
        raise GraphError(f"No permission to read {path}.") from None
    except GraphError as error:
        raise GraphError(f"{path.name}: {error}") from None
    return ids


def _no_node(name: str, known: dict[str, int], graph: Graph) -> str:
    near = difflib.get_close_matches(short(name), known, n=1)
    kind = f"ids run from 0 to {graph.num_nodes - 1}"
    if graph.names is not None:
        kind = f"names are such as {few([repr(name) for name in graph.names], 3)}"
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"{graph.title!r} has no node {short(repr(name))} ({kind}).{hint}"


def _lines(path: Path) -> tuple[list[int], list[str]]:
    """Lines with something on them, and their numbers."""
    numbers, lines = [], []
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                text = line.strip(" \r\n")
                if text.strip() and not text.lstrip().startswith(("#", "%")):
                    numbers.append(number)
                    lines.append(text)
    except UnicodeDecodeError as error:
        raise GraphError(
            f"not a UTF-8 text file ({error.reason} at byte {error.start}): save it again with the encoding UTF-8."
        ) from error
    return numbers, lines


def _sniff(lines: list[str]) -> str | None:
    """The separator; None is white space.

    One that stands in every line equally often, outside of quotes: ``Ann;Bob;1,5`` has two semicolons and a comma.
    """
    bare = [re.sub(r'"[^"]*"', "", line) for line in lines[:_SNIFFED]]
    counts = {sep: {line.count(sep) for line in bare} for sep in ("\t", ";", ",")}
    steady = [sep for sep, found in counts.items() if len(found) == 1 and found != {0}]
    if steady:
        return max(steady, key=lambda sep: bare[0].count(sep))
    everywhere = [sep for sep, found in counts.items() if 0 not in found]
    if everywhere:
        return everywhere[0]
    return next((sep for sep in (",", ";", "\t") if sep in bare[0]), None)


def _rows(lines: list[str], sep: str | None) -> list[list[str]]:
    if sep is None or sep == " ":
        if not any('"' in line for line in lines):
            return [line.split() for line in lines]
        sep = " "
    try:
        rows = list(csv.reader(lines, delimiter=sep, skipinitialspace=True))
    except csv.Error as error:
        raise GraphError(f"the columns cannot be told apart: {error}.") from None
    if len(rows) != len(lines):
        raise GraphError("a quoted name runs over several lines; that is not supported.")
    return [[word.strip() for word in row] for row in rows]


def _is_integer(text: str) -> bool:
    # what has more digits than a 64-bit number is a name, such as a hash
    return len(text) <= _DIGITS and text.removeprefix("-").isdecimal()


def _number(text: str, sep: str | None) -> float | None:
    """A number, with a decimal comma too where commas do not separate columns."""
    try:
        return float(text if sep == "," else text.replace(",", "."))
    except ValueError:
        return None


def _has_header(rows: list[list[str]], whole: list[bool]) -> bool:
    first = rows[0]
    if len(rows) > 1 and not whole[0] and whole[1]:
        return True
    if all(_HEADER_WORD.fullmatch(word) for word in first[:2]):
        return True
    # a word above a column of numbers is its title
    further = [c for c in range(2, len(first)) if first[c] and _number(first[c], None) is None]
    return any(
        len(rows) > 1 and all(len(r) > c and _number(r[c], None) is not None for r in rows[1:])
        for c in further
    )


def _stands_alone(ends: list[tuple[str, str]]) -> bool:
    """Whether the first edge is a component of its own, as a header that was not known would be."""
    first = set(ends[0])
    return len(ends) > 1 and len(first) == 2 and not any(first & set(pair) for pair in ends[1:])


def _weight_column(first: list[str], weights: bool | str, header: bool | None) -> int | None:
    """Which column of an edge list holds the weights."""
    if not isinstance(weights, str):
        return 2 if weights else None
    if header is False or weights not in first[2:]:
        raise GraphError(
            f"no column {weights!r} for the weights: the first line is {few(first)!r}. A "
            "file without a header has its weights in the third column, weights=True."
        )
    return first.index(weights, 2)


def _numbers(
    rows: list[list[str]], column: int, sep: str | None, numbers: list[int], lines: list[str]
) -> np.ndarray:
    found = [_number(row[column], sep) if len(row) > column else None for row in rows]
    if None in found:
        place = found.index(None)
        raise GraphError(
            f"line {numbers[place]} is malformed: {lines[place][:60]!r} has no number in "
            f"column {column + 1}, where the weights are."
        )
    return np.array(found, dtype=float)
