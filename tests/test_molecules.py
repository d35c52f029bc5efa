"""SMILES of graphs with atom and bond types, against molecules written by hand."""

from __future__ import annotations

import sys

import networkx as nx
import pytest

from graphlore.data import GraphSet
from graphlore.inference import smiles

ATOMS = ("C", "N", "O", ("N", 1), ("O", -1))


def graph(types: list[int], edges: list[tuple[int, int, int]]) -> nx.Graph:
    found = nx.Graph()
    found.add_nodes_from((v, {"type": kind}) for v, kind in enumerate(types))
    found.add_edges_from((i, j, {"type": kind}) for i, j, kind in edges)
    return found


RING = [(v, (v + 1) % 6, 4) for v in range(6)]


@pytest.fixture
def chemistry():
    pytest.importorskip("rdkit", reason="RDKit is not installed: pip install graphlore[chem]")


@pytest.mark.usefixtures("chemistry")
@pytest.mark.parametrize(
    ("types", "edges", "expected"),
    [
        ([0, 0, 2], [(0, 1, 1), (1, 2, 1)], "CCO"),
        ([2, 0, 0], [(0, 1, 1), (1, 2, 1)], "CCO"),  # other numbers of the same nodes
        ([0, 1], [(0, 1, 3)], "C#N"),
        ([0, 3, 4, 2], [(0, 1, 1), (1, 2, 1), (1, 3, 2)], "C[N+](=O)[O-]"),
        ([0] * 6, RING, "c1ccccc1"),
        ([2, 2, 2, 2], [(0, 1, 1), (0, 2, 1), (0, 3, 1)], None),  # oxygen with three bonds
        ([0, 0], [], None),  # two pieces
        ([0] * 5, [(v, (v + 1) % 5, 4) for v in range(5)], None),  # no Kekule structure
    ],
)
def test_by_hand(types: list[int], edges: list[tuple[int, int, int]], expected: str | None) -> None:
    graphs = GraphSet.from_networkx([graph(types, edges)])
    assert smiles(graphs, ATOMS, ("single", "double", "triple", "aromatic")) == [expected]


@pytest.mark.usefixtures("chemistry")
def test_refusals() -> None:
    graphs = GraphSet.from_networkx([graph([0, 1], [(0, 1, 2)])])
    with pytest.raises(ValueError, match="2 types of atoms; 1 are named"):
        smiles(graphs, ["C"])
    with pytest.raises(ValueError, match="2 types of bonds; 1 are named"):
        smiles(graphs, ["C", "N"], ["single"])
    with pytest.raises(ValueError, match="not 'strong'"):
        smiles(graphs, ["C", "N"], ["single", "strong"])
    with pytest.raises(ValueError, match="symbols of elements"):
        smiles(graphs, ["C", "Q"])


def test_without_rdkit_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rdkit", None)
    graphs = GraphSet.from_networkx([graph([0, 0], [(0, 1, 1)])])
    with pytest.raises(ValueError, match=r"pip install graphlore\[chem\]"):
        smiles(graphs, ["C"])
