"""Drawn graphs as molecules: SMILES of those that chemistry allows. Needs RDKit (``pip install graphlore[chem]``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..data import GraphSet

__all__ = ["smiles"]

Atom = str | tuple[str, int]


def smiles(
    graphs: GraphSet,
    atoms: Sequence[Atom],
    bonds: Sequence[str] = ("single", "double", "triple"),
) -> list[str | None]:
    """The canonical SMILES of each graph, None where it is no valid molecule.

    Valid is a graph in one piece that RDKit sanitises: no atom has more bonds than its valence and charge allow, and
    what is aromatic can be kekulised. Hydrogens are implicit. Equal strings are isomorphic molecules, so that the
    share of distinct strings is uniqueness, and of those not among known ones novelty.

    Arguments:
        graphs: node types are atoms, edge types bonds; one type of either if the graphs have none.
        atoms: of node types 0, 1, ...: a symbol, or (symbol, formal charge).
        bonds: of edge types 1, 2, ...: "single", "double", "triple" or "aromatic".

    Raises:
        ValueError: RDKit is not there; graphs with more types than were named; an unknown atom or bond.
    """
    try:
        from rdkit import Chem, rdBase
    except ImportError:
        raise ValueError(
            "molecules need RDKit, which is not installed: pip install graphlore[chem]"
        ) from None
    for what, named, found in (
        ("atoms", len(atoms), graphs.num_node_types),
        ("bonds", len(bonds), graphs.num_edge_types),
    ):
        if named < found:
            raise ValueError(f"the graphs have {found} types of {what}; {named} are named")
    kinds = Chem.BondType.names
    if unknown := [bond for bond in bonds if bond.upper() not in kinds]:
        raise ValueError(f"a bond is single, double, triple or aromatic, not {unknown[0]!r}")
    pairs = [(atom, 0) if isinstance(atom, str) else atom for atom in atoms]
    table = Chem.GetPeriodicTable()
    try:
        with rdBase.BlockLogs():
            numbers = [(table.GetAtomicNumber(symbol), charge) for symbol, charge in pairs]
    except RuntimeError:
        raise ValueError(f"not all of these are symbols of elements: {list(atoms)}") from None
    orders = [kinds[bond.upper()] for bond in bonds]
    with rdBase.BlockLogs():
        return [_smiles(Chem, graph, numbers, orders) for graph in graphs.to_networkx()]


def _smiles(
    chem: Any, graph: Any, atoms: Sequence[tuple[int, int]], bonds: Sequence[Any]
) -> str | None:
    molecule = chem.RWMol()
    for _, kind in graph.nodes(data="type", default=0):
        number, charge = atoms[kind]
        atom = chem.Atom(number)
        atom.SetFormalCharge(charge)
        molecule.AddAtom(atom)
    for i, j, kind in graph.edges(data="type", default=1):
        order = bonds[kind - 1]
        molecule.AddBond(i, j, order)
        if order == chem.BondType.AROMATIC:
            for end in (i, j):
                molecule.GetAtomWithIdx(end).SetIsAromatic(True)
    if chem.SanitizeMol(molecule, catchErrors=True) != chem.SanitizeFlags.SANITIZE_NONE:
        return None
    text = chem.MolToSmiles(molecule)
    return None if "." in text else text
