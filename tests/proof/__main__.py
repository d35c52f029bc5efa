"""python -m proof [NAME ...]: run the named proofs, or all; write their reports to docs/proof; fail if one fails."""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from pathlib import Path

import torch

#: in the order of docs/proof.md
PROOFS = ("calibration", "estimators", "mutants", "kills", "damage", "fuzz", "trouble")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m proof", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PROOFS)}")
    names = parser.parse_args().names or list(PROOFS)
    if unknown := sorted(set(names) - set(PROOFS)):
        parser.error(f"no proof {', '.join(unknown)}; there are {', '.join(PROOFS)}")
    torch.set_num_threads(1)
    docs = Path(__file__).resolve().parents[2] / "docs"
    failed = []
    for name in names:
        started = time.perf_counter()
        held = importlib.import_module(f"proof.{name}").prove(docs)
        print(f"{name}: {'held' if held else 'FAILED'}, {time.perf_counter() - started:.0f} s")
        failed += [] if held else [name]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
